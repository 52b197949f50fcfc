// Short ways through `exec`, `test`, `match`, `replace` and `split` for regular expressions that nobody has meddled with.
//
// The standard lets a program observe every step of these (each reads `flags`, calls `exec` through a property, makes result
// objects). Where nothing can observe it (the object is a plain regular expression, and `RegExp.prototype` is as it was when
// the image was made) they run the matcher directly. Included by the patched quickjs.c (see xtask/src/quickjs/regexp.rs).

int rx_exec(uint32_t *cap, const uint8_t *bc, const void *subject, uint32_t start, uint32_t length, bool wide, bool sticky, void *opaque);

#define RX_NONE UINT32_MAX
enum { RX_POSITIONS = 3 * 255 }; // two for each group, one for each register of the matcher

// The properties of an object as they were when the image was made.
typedef struct {
    int count;
    JSProperty *props;
} RxOriginal;
static RxOriginal rx_original_proto, rx_original_ctor;
static int rx_exec_slot; // where `exec` is among the properties of RegExp.prototype

static void rx_remember_one(JSContext *ctx, RxOriginal *original, JSValueConst object)
{
    JSObject *p = JS_VALUE_GET_OBJ(object);
    original->count = p->shape->prop_count;
    original->props = js_malloc(ctx, original->count * sizeof(JSProperty));
    if (original->props)
        memcpy(original->props, p->prop, original->count * sizeof(JSProperty));
}

// Called once, when the image is complete; until then nothing takes a short way.
static void rx_remember(JSContext *ctx)
{
    rx_remember_one(ctx, &rx_original_proto, ctx->class_proto[JS_CLASS_REGEXP]);
    rx_remember_one(ctx, &rx_original_ctor, ctx->regexp_ctor);
    JSProperty *pr;
    JSObject *proto = JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_REGEXP]);
    find_own_property(&pr, proto, JS_ATOM_exec);
    rx_exec_slot = pr - proto->prop;
}

// A property that was replaced or deleted has other bits in its slot. Added ones change nothing here.
static bool rx_unchanged(const RxOriginal *original, JSValueConst object)
{
    JSObject *p = JS_VALUE_GET_OBJ(object);
    return original->props && p->shape->prop_count >= original->count &&
           !memcmp(p->prop, original->props, original->count * sizeof(JSProperty));
}

// A regular expression whose only own property is a plain `lastIndex` of a usable value, or NULL.
static JSObject *rx_plain(JSContext *ctx, JSValueConst rx)
{
    if (JS_VALUE_GET_TAG(rx) != JS_TAG_OBJECT)
        return NULL;
    JSObject *p = JS_VALUE_GET_OBJ(rx);
    if (p->class_id != JS_CLASS_REGEXP || JS_VALUE_GET_TAG(p->prop[0].u.value) != JS_TAG_INT || JS_VALUE_GET_INT(p->prop[0].u.value) < 0)
        return NULL;
    if (p->shape != ctx->regexp_shape) {
        JSShapeProperty *own = get_shape_prop(p->shape);
        if (p->shape->prop_count != 1 || own->atom != JS_ATOM_lastIndex || own->flags != JS_PROP_WRITABLE ||
            p->shape->proto != JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_REGEXP]))
            return NULL;
    }
    return p;
}

// … which also inherits what it should.
static JSObject *rx_pristine(JSContext *ctx, JSValueConst rx)
{
    JSObject *p = rx_plain(ctx, rx);
    return p && rx_unchanged(&rx_original_proto, ctx->class_proto[JS_CLASS_REGEXP]) ? p : NULL;
}

// … as far as `exec` goes, which is all that `test` and the like ask for.
static JSObject *rx_has_exec(JSContext *ctx, JSValueConst rx)
{
    JSObject *p = rx_plain(ctx, rx), *proto = JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_REGEXP]);
    const RxOriginal *original = &rx_original_proto;
    return p && original->props && proto->shape->prop_count >= original->count &&
                   !memcmp(&proto->prop[rx_exec_slot], &original->props[rx_exec_slot], sizeof(JSProperty))
               ? p
               : NULL;
}

static int rx_flags(JSObject *p) { return lre_get_flags(str8(p->u.regexp.bytecode)); }

static void rx_set_last_index(JSObject *p, uint32_t at) { p->prop[0].u.value = js_int32(at); }

static int rx_throw(JSContext *ctx, int result)
{
    if (result == LRE_RET_TIMEOUT)
        JS_ThrowInterrupted(ctx);
    else
        JS_ThrowInternalError(ctx, result == LRE_RET_MEMORY_ERROR ? "out of memory in regexp execution" : "corrupted bytecode in regexp execution");
    return -1;
}

static int rx_match(JSContext *ctx, JSObject *p, JSString *s, uint32_t from, bool sticky, uint32_t *cap)
{
    int result = rx_exec(cap, str8(p->u.regexp.bytecode), str8(s), from, s->len, s->is_wide_char, sticky, ctx);
    return result < 0 ? rx_throw(ctx, result) : result;
}

// One `exec` with its effect on `lastIndex`, without a result object.
static int rx_step(JSContext *ctx, JSObject *p, JSString *s, uint32_t *cap)
{
    int flags = rx_flags(p), result = 0;
    bool keeps = flags & (LRE_FLAG_GLOBAL | LRE_FLAG_STICKY);
    uint32_t from = keeps ? JS_VALUE_GET_INT(p->prop[0].u.value) : 0;
    if (from <= s->len)
        result = rx_match(ctx, p, s, from, flags & LRE_FLAG_STICKY, cap);
    if (result >= 0 && keeps)
        rx_set_last_index(p, result ? cap[1] : 0);
    return result;
}

static JSValue rx_capture(JSContext *ctx, JSString *s, const uint32_t *cap, int group)
{
    if (cap[2 * group] == RX_NONE || cap[2 * group + 1] == RX_NONE)
        return JS_UNDEFINED;
    return js_sub_string(ctx, s, cap[2 * group], cap[2 * group + 1]);
}

// `exec` without named groups and indices. Frees `str`.
static no_inline JSValue rx_exec_plain(JSContext *ctx, JSObject *p, JSValue str)
{
    uint32_t cap[RX_POSITIONS];
    JSString *s = JS_VALUE_GET_STRING(str);
    int result = rx_step(ctx, p, s, cap), n = lre_get_capture_count(str8(p->u.regexp.bytecode));
    if (result <= 0) {
        JS_FreeValue(ctx, str);
        return result < 0 ? JS_EXCEPTION : JS_NULL;
    }
    JSProperty props[4]; // length, index, input, groups, in that order
    props[0].u.value = js_int32(n);
    props[1].u.value = js_int32(cap[0]);
    props[2].u.value = str;
    props[3].u.value = JS_UNDEFINED;
    JSValue array = JS_NewObjectFromShape(ctx, js_dup_shape(ctx->regexp_result_shape), JS_CLASS_ARRAY, props);
    if (JS_IsException(array))
        return array;
    JSObject *a = JS_VALUE_GET_OBJ(array);
    if (expand_fast_array(ctx, a, n))
        goto fail;
    for (int i = 0; i < n; i++) {
        JSValue v = rx_capture(ctx, s, cap, i);
        if (JS_IsException(v))
            goto fail;
        a->u.array.u.values[i] = v;
        a->u.array.count = i + 1;
    }
    return array;
fail:
    JS_FreeValue(ctx, array);
    return JS_EXCEPTION;
}

static no_inline int rx_test(JSContext *ctx, JSObject *p, JSString *s)
{
    uint32_t cap[RX_POSITIONS];
    return rx_step(ctx, p, s, cap);
}

// Appends to an array that nobody else has seen yet. Frees `v`.
static int rx_push(JSContext *ctx, JSValueConst array, JSValue v)
{
    JSObject *a = JS_VALUE_GET_OBJ(array);
    uint32_t n = a->u.array.count;
    if (JS_IsException(v))
        return -1;
    if (n >= a->u.array.u1.size && expand_fast_array(ctx, a, n ? n + 1 : 8)) {
        JS_FreeValue(ctx, v);
        return -1;
    }
    a->u.array.u.values[n] = v;
    a->u.array.count = n + 1;
    a->prop[0].u.value = js_int32(n + 1);
    return 0;
}

// The next match of a global expression from `*at` on, which moves behind it; `lastIndex` is 0 again after the last one.
static int rx_next(JSContext *ctx, JSObject *p, JSString *s, uint32_t *at, uint32_t *cap)
{
    int flags = rx_flags(p), result = 0;
    if (*at <= s->len)
        result = rx_match(ctx, p, s, *at, flags & LRE_FLAG_STICKY, cap);
    if (result > 0)
        *at = cap[1] > cap[0] ? cap[1] : string_advance_index(s, cap[1], flags & (LRE_FLAG_UNICODE | LRE_FLAG_UNICODE_SETS));
    return result;
}

// `match` of a global expression.
static no_inline JSValue rx_match_all(JSContext *ctx, JSObject *p, JSString *s)
{
    uint32_t cap[RX_POSITIONS], at = 0;
    int result;
    JSValue array = JS_NewArray(ctx);
    if (JS_IsException(array))
        return array;
    rx_set_last_index(p, 0);
    while ((result = rx_next(ctx, p, s, &at, cap)) > 0)
        if (rx_push(ctx, array, js_sub_string(ctx, s, cap[0], cap[1]))) {
            result = -1;
            break;
        }
    if (result == 0 && JS_VALUE_GET_OBJ(array)->u.array.count)
        return array;
    JS_FreeValue(ctx, array);
    return result < 0 ? JS_EXCEPTION : JS_NULL;
}

// The replacement text for a match, with what its `$` stand for.
static void rx_substitute(StringBuffer *b, JSString *rep, JSString *s, const uint32_t *cap, uint32_t n)
{
    uint32_t i = 0, length = rep->len;
    for (;;) {
        int dollar = string_indexof_char(rep, '$', i);
        if (dollar < 0 || (uint32_t)dollar + 1 >= length)
            break;
        string_buffer_concat(b, rep, i, dollar);
        uint32_t j = dollar + 2, c = string_get(rep, dollar + 1), group;
        if (c == '$') {
            string_buffer_putc8(b, '$');
        } else if (c == '&') {
            string_buffer_concat(b, s, cap[0], cap[1]);
        } else if (c == '`') {
            string_buffer_concat(b, s, 0, cap[0]);
        } else if (c == '\'') {
            string_buffer_concat(b, s, cap[1], s->len);
        } else {
            group = c >= '0' && c <= '9' ? c - '0' : 0;
            if (c >= '0' && c <= '9' && j < length) {
                uint32_t d = string_get(rep, j);
                if (d >= '0' && d <= '9' && group * 10 + d - '0' >= 1 && group * 10 + d - '0' < n) {
                    group = group * 10 + d - '0';
                    j++;
                }
            }
            if (group >= 1 && group < n) {
                if (cap[2 * group] != RX_NONE && cap[2 * group + 1] != RX_NONE)
                    string_buffer_concat(b, s, cap[2 * group], cap[2 * group + 1]);
            } else {
                string_buffer_concat(b, rep, dollar, j);
            }
        }
        i = j;
    }
    string_buffer_concat(b, rep, i, length);
}

// `replace` by a text.
static no_inline JSValue rx_replace_text(JSContext *ctx, JSObject *p, JSString *s, JSString *rep)
{
    uint32_t cap[RX_POSITIONS], at = 0, done = 0, n = lre_get_capture_count(str8(p->u.regexp.bytecode));
    bool global = rx_flags(p) & LRE_FLAG_GLOBAL, plain = string_indexof_char(rep, '$', 0) < 0, any = false;
    int result;
    StringBuffer b_s, *b = &b_s;
    string_buffer_init2(ctx, b, 0, s->is_wide_char);
    if (global)
        rx_set_last_index(p, 0);
    while ((result = global ? rx_next(ctx, p, s, &at, cap) : rx_step(ctx, p, s, cap)) > 0) {
        any = true;
        string_buffer_concat(b, s, done, cap[0]);
        if (plain)
            string_buffer_concat(b, rep, 0, rep->len);
        else
            rx_substitute(b, rep, s, cap, n);
        done = cap[1];
        if (!global || b->error_status)
            break;
    }
    if (result < 0 || !any) {
        string_buffer_free(b);
        return result < 0 ? JS_EXCEPTION : js_dup(JS_MKPTR(JS_TAG_STRING, s));
    }
    string_buffer_concat(b, s, done, s->len);
    return string_buffer_end(b);
}

// The positions of all matches (of one, if not global), `2 * n` each: NULL and -1 in `*count` if that fails.
static no_inline uint32_t *rx_collect(JSContext *ctx, JSObject *p, JSString *s, uint32_t n, int *count)
{
    uint32_t cap[RX_POSITIONS], at = 0, *list = NULL;
    size_t size = 0, used = 0;
    bool global = rx_flags(p) & LRE_FLAG_GLOBAL;
    int result;
    *count = 0;
    if (global)
        rx_set_last_index(p, 0);
    while ((result = global ? rx_next(ctx, p, s, &at, cap) : rx_step(ctx, p, s, cap)) > 0) {
        if (used + 2 * n > size) {
            size = size * 3 / 2 + 2 * n * (global ? 4 : 1);
            uint32_t *more = size < (1u << 28) ? js_realloc(ctx, list, size * sizeof(*list)) : NULL;
            if (!more) {
                if (size >= 1u << 28)
                    JS_ThrowOutOfMemory(ctx);
                result = -1;
                break;
            }
            list = more;
        }
        memcpy(list + used, cap, 2 * n * sizeof(*cap));
        used += 2 * n;
        ++*count;
        if (!global)
            break;
    }
    if (result < 0) {
        js_free(ctx, list);
        *count = -1;
        return NULL;
    }
    return list;
}

// `replace` by a function. All matches are found before its first call, as the standard has it.
static JSValue rx_replace_calls(JSContext *ctx, JSObject *p, JSValueConst str, JSValueConst replacer)
{
    JSString *s = JS_VALUE_GET_STRING(str);
    uint32_t n = lre_get_capture_count(str8(p->u.regexp.bytecode)), done = 0;
    int count;
    uint32_t *list = rx_collect(ctx, p, s, n, &count);
    if (count <= 0)
        return count < 0 ? JS_EXCEPTION : js_dup(str);
    StringBuffer b_s, *b = &b_s;
    string_buffer_init2(ctx, b, 0, s->is_wide_char);
    JSValue *args = js_malloc(ctx, (n + 2) * sizeof(*args));
    if (!args)
        goto fail;
    for (int i = 0; i < count; i++) {
        const uint32_t *cap = list + 2 * n * i;
        uint32_t made = 0;
        bool ok = true;
        for (; ok && made < n; made++) {
            args[made] = rx_capture(ctx, s, cap, made);
            ok = !JS_IsException(args[made]);
        }
        JSValue text = JS_EXCEPTION;
        if (ok) {
            args[n] = js_int32(cap[0]);
            args[n + 1] = unsafe_unconst(str);
            text = JS_ToStringFree(ctx, JS_Call(ctx, replacer, JS_UNDEFINED, n + 2, vc(args)));
        }
        while (made > 0)
            JS_FreeValue(ctx, args[--made]);
        if (JS_IsException(text))
            goto fail;
        string_buffer_concat(b, s, done, cap[0]);
        string_buffer_concat_value_free(b, text);
        done = cap[1];
    }
    string_buffer_concat(b, s, done, s->len);
    js_free(ctx, args);
    js_free(ctx, list);
    return string_buffer_end(b);
fail:
    js_free(ctx, args);
    js_free(ctx, list);
    string_buffer_free(b);
    return JS_EXCEPTION;
}

// `split`. A search finds at once what the standard finds by trying each place in turn.
static no_inline JSValue rx_split(JSContext *ctx, JSObject *p, JSString *s, uint32_t limit)
{
    uint32_t cap[RX_POSITIONS], from = 0, at = 0, n = lre_get_capture_count(str8(p->u.regexp.bytecode));
    bool unicode = rx_flags(p) & (LRE_FLAG_UNICODE | LRE_FLAG_UNICODE_SETS);
    int result = 0;
    JSValue array = JS_NewArray(ctx);
    if (JS_IsException(array) || limit == 0)
        return array;
    if (s->len == 0) {
        result = rx_match(ctx, p, s, 0, true, cap);
        if (result > 0)
            return array;
        if (result < 0)
            goto fail;
    }
    while (at < s->len) {
        result = rx_match(ctx, p, s, at, false, cap);
        if (result < 0)
            goto fail;
        if (result == 0 || cap[0] >= s->len)
            break;
        if (cap[1] == from) {
            at = string_advance_index(s, at, unicode);
            continue;
        }
        if (rx_push(ctx, array, js_sub_string(ctx, s, from, cap[0])))
            goto fail;
        if (--limit == 0)
            return array;
        for (uint32_t i = 1; i < n; i++) {
            if (rx_push(ctx, array, rx_capture(ctx, s, cap, i)))
                goto fail;
            if (--limit == 0)
                return array;
        }
        from = at = cap[1];
    }
    if (rx_push(ctx, array, js_sub_string(ctx, s, from, s->len)))
        goto fail;
    return array;
fail:
    JS_FreeValue(ctx, array);
    return JS_EXCEPTION;
}
