/**
 * Array.prototype.sort's sorting: stable, by merging, with few calls of the comparator.
 *
 * Included by the engine in front of its own `js_array_sort` (see xtask/src/quickjs/data.rs), which collects the values
 * and writes them back. Runs that are in order already are found and kept; short ones are made longer by insertion; then
 * runs of similar length are merged. A comparator may say what it likes, differently each time, and throw: the result is
 * then some order of the same values.
 */

enum { SORT_MIN_RUN = 12, SORT_RUNS = 64 };

typedef struct {
    struct array_sort_context *context;
    ValueSlot *slots, *spare;
    enum { SORT_CALL, SORT_STRINGS, SORT_UP, SORT_DOWN } by;
} Sorter;

static inline double sort_number(JSValueConst v)
{
    return JS_VALUE_GET_TAG(v) == JS_TAG_INT ? JS_VALUE_GET_INT(v) : JS_VALUE_GET_FLOAT64(v);
}

// Whether `a`, which stands before `b`, has to come after it.
static inline bool sort_after(Sorter *s, ValueSlot *a, ValueSlot *b)
{
    struct array_sort_context *c = s->context;
    switch (s->by) {
    case SORT_UP:
        return sort_number(safe_const(a->val)) - sort_number(safe_const(b->val)) > 0;
    case SORT_DOWN:
        return sort_number(safe_const(b->val)) - sort_number(safe_const(a->val)) > 0;
    case SORT_STRINGS:
        return js_string_compare(a->str, b->str) > 0;
    default: {
        if (c->exception)
            return false;
        JSValueConst argv[2] = { safe_const(a->val), safe_const(b->val) };
        JSValue r = JS_Call(c->ctx, c->method, JS_UNDEFINED, 2, argv);
        if (JS_VALUE_GET_TAG(r) == JS_TAG_INT)
            return JS_VALUE_GET_INT(r) > 0;
        double d = 0;
        if (JS_IsException(r) || JS_ToFloat64Free(c->ctx, &d, r) < 0) {
            c->exception = 1;
            return false;
        }
        return d > 0;
    }
    }
}

// Merges [at, middle) and [middle, end).
static void sort_merge(Sorter *s, size_t at, size_t middle, size_t end)
{
    ValueSlot *a = s->slots;
    if (!sort_after(s, &a[middle - 1], &a[middle]))
        return;
    size_t left = middle - at;
    memcpy(s->spare, a + at, left * sizeof(*a));
    size_t i = 0, k = middle, out = at;
    // What is left of the second part is in its place already.
    while (i < left && k < end) {
        if (sort_after(s, &s->spare[i], &a[k]))
            a[out++] = a[k++];
        else
            a[out++] = s->spare[i++];
    }
    memcpy(a + out, s->spare + i, (left - i) * sizeof(*a));
}

// The end of the run in order that begins at `at`. A falling one is turned around.
static size_t sort_run(Sorter *s, size_t at, size_t n)
{
    ValueSlot *a = s->slots;
    size_t end = at + 1;
    if (end == n)
        return n;
    if (sort_after(s, &a[at], &a[end])) {
        for (end++; end < n && sort_after(s, &a[end - 1], &a[end]); end++)
            ;
        for (size_t i = at, k = end - 1; i < k; i++, k--) {
            ValueSlot t = a[i];
            a[i] = a[k];
            a[k] = t;
        }
    } else {
        for (end++; end < n && !sort_after(s, &a[end - 1], &a[end]); end++)
            ;
    }
    size_t wanted = at + SORT_MIN_RUN < n ? at + SORT_MIN_RUN : n;
    for (; end < wanted; end++) {
        ValueSlot t = a[end];
        size_t low = at, high = end;
        while (low < high) {
            size_t middle = low + (high - low) / 2;
            if (sort_after(s, &a[middle], &t))
                high = middle;
            else
                low = middle + 1;
        }
        memmove(a + low + 1, a + low, (end - low) * sizeof(*a));
        a[low] = t;
    }
    return end;
}

// Whether a comparator is `(a, b) => a - b`, or `b - a`: then numbers need no call. What it is was compiled, so that
// nothing that the program does can change it.
static int sort_recognize(JSContext *ctx, JSValueConst f)
{
    JSObject *p = JS_VALUE_GET_OBJ(f);
    if (p->class_id != JS_CLASS_BYTECODE_FUNCTION)
        return SORT_CALL;
    JSFunctionBytecode *b = p->u.func.function_bytecode;
    const uint8_t *code = b->byte_code_buf;
    if (b->func_kind != JS_FUNC_NORMAL || b->arg_count != 2 || b->byte_code_len != 4 || code[2] != OP_sub || code[3] != OP_return)
        return SORT_CALL;
    if (code[0] == OP_get_arg0 && code[1] == OP_get_arg1)
        return SORT_UP;
    return code[0] == OP_get_arg1 && code[1] == OP_get_arg0 ? SORT_DOWN : SORT_CALL;
}

// Sorts `n` slots; `exception` in the context says whether one is pending.
static void skep_sort(JSContext *ctx, ValueSlot *slots, size_t n, struct array_sort_context *context)
{
    Sorter sorter = { context, slots, NULL, SORT_CALL }, *s = &sorter;
    if (n < 2)
        return;
    if (!context->has_method) {
        s->by = SORT_STRINGS;
        for (size_t i = 0; i < n; i++) {
            JSValue text = JS_ToString(ctx, slots[i].val);
            if (JS_IsException(text)) {
                context->exception = 1;
                return;
            }
            slots[i].str = JS_VALUE_GET_STRING(text);
        }
    } else {
        int by = sort_recognize(ctx, context->method);
        size_t i = 0;
        if (by != SORT_CALL)
            while (i < n && JS_IsNumber(slots[i].val))
                i++;
        if (i == n)
            s->by = by;
    }
    s->spare = js_malloc(ctx, n * sizeof(*slots));
    if (!s->spare) {
        context->exception = 1;
        return;
    }
    // Runs that wait to be merged, each at least as long as the next two together.
    size_t begins[SORT_RUNS + 1];
    int runs = 0;
    begins[0] = 0;
    for (size_t at = 0; at < n && !context->exception;) {
        at = sort_run(s, at, n);
        begins[++runs] = at;
        while (runs > 1) {
            size_t last = begins[runs] - begins[runs - 1], before = begins[runs - 1] - begins[runs - 2];
            bool third = runs > 2 && begins[runs - 2] - begins[runs - 3] <= before + last;
            if (at < n && before > last && !third && runs < SORT_RUNS)
                break;
            if (third && begins[runs - 2] - begins[runs - 3] < last && at < n) {
                sort_merge(s, begins[runs - 3], begins[runs - 2], begins[runs - 1]);
                begins[runs - 2] = begins[runs - 1];
                begins[runs - 1] = begins[runs];
            } else {
                sort_merge(s, begins[runs - 2], begins[runs - 1], begins[runs]);
                begins[runs - 1] = begins[runs];
            }
            runs--;
        }
    }
    js_free(ctx, s->spare);
}

// Writes a sorted value back to an array that is still as it was. Takes `v`. False: not for this short cut.
static inline bool skep_sort_put(JSContext *ctx, JSValueConst array, size_t i, JSValue v)
{
    JSObject *p = JS_VALUE_GET_OBJ(array);
    if (p->class_id != JS_CLASS_ARRAY || !p->fast_array || i >= p->u.array.count)
        return false;
    set_value(ctx, &p->u.array.u.values[i], v);
    return true;
}
