// The raw host object (`__host`) that the preloaded bundle finds: host calls, and the few services of the engine that
// JavaScript cannot reach by itself. Driven by the bundle; the contract is docs/design/guest-abi.md.

#define SKEP_IMPORT(name) __attribute__((import_module("skep"), import_name(name)))

// Runs an operation. The answer (one wire value) is written to `out` when it fits and is otherwise kept by the host
// until `host_take` copies it; its length is returned in both cases.
SKEP_IMPORT("call") uint32_t host_call(const char *op, uint32_t op_len, const uint8_t *args, uint32_t args_len, uint8_t *out, uint32_t out_cap);
SKEP_IMPORT("take") void host_take(uint8_t *out);

static JSRuntime *rt;
static JSContext *ctx;

// Functions of the bundle that the engine calls.
static struct {
    JSValue listeners; // by kind of event
    JSValue on_reject, on_module;
} hooks;
static JSValue builtin_modules; // name -> exports object, filled while the image is made
static double turn_now;         // ms since the epoch at the start of this turn
static double timer_at = INFINITY;
static uint8_t answer_small[512];

static JSValue host_answer(JSContext *ctx, uint32_t n)
{
    uint8_t *answer = answer_small;
    if (n > sizeof(answer_small)) {
        answer = malloc(n);
        if (!answer)
            return JS_ThrowOutOfMemory(ctx);
        host_take(answer);
    }
    WireIn in = { answer, answer + n };
    bool is_error = n > 0 && answer[0] == WIRE_ERROR;
    JSValue v = wire_decode(ctx, &in);
    if (answer != answer_small)
        free(answer);
    return is_error && !JS_IsException(v) ? JS_Throw(ctx, v) : v;
}

typedef uint32_t HostCall(const char *op, uint32_t op_len, const uint8_t *args, uint32_t args_len, uint8_t *out, uint32_t out_cap);

static JSValue host_js_call_by(JSContext *ctx, int argc, JSValueConst *argv, HostCall *host_call)
{
    size_t base = wire_out.len;
    uint32_t n_args = argc > 0 ? argc - 1 : 0;
    size_t op_len;
    const char *op = JS_ToCStringLen(ctx, &op_len, argc > 0 ? argv[0] : JS_UNDEFINED);
    if (!op)
        return JS_EXCEPTION;
    int r = wire_put(ctx, WIRE_ARRAY, &n_args, 4);
    for (uint32_t i = 0; i < n_args && !r; i++)
        r = wire_encode(ctx, argv[i + 1], 0);
    JSValue v = JS_EXCEPTION;
    if (!r) {
        uint32_t n = host_call(op, op_len, wire_out.buf + base, wire_out.len - base, answer_small, sizeof(answer_small));
        wire_release(base);
        v = host_answer(ctx, n);
    } else {
        wire_release(base);
    }
    JS_FreeCString(ctx, op);
    return v;
}

static JSValue host_js_call(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    return host_js_call_by(ctx, argc, argv, host_call);
}

static JSValue host_set_hook(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv, int magic)
{
    JSValue *slot = magic == 0 ? &hooks.listeners : magic == 1 ? &hooks.on_reject : &hooks.on_module;
    JS_FreeValue(ctx, *slot);
    *slot = js_dup(argv[0]);
    return JS_UNDEFINED;
}

static JSValue host_set_timer(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    return JS_ToFloat64(ctx, &timer_at, argv[0]) ? JS_EXCEPTION : JS_UNDEFINED;
}

static JSValue host_now(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    return JS_NewFloat64(ctx, turn_now);
}

static JSValue host_import_module(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    const char *name = JS_ToCString(ctx, argv[0]);
    if (!name)
        return JS_EXCEPTION;
    JSValue v = JS_LoadModule(ctx, NULL, name);
    JS_FreeCString(ctx, name);
    return v;
}

// Where `name` stands in a flat list of names and values, at `from` or after; -1 when it does not. In C because every
// request looks for several headers, and a loop in JavaScript costs ten times as much.
static JSValue host_index_of_name(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    int32_t from;
    int64_t n;
    if (JS_ToInt32(ctx, &from, argv[2]) || js_get_length64(ctx, &n, argv[0]))
        return JS_EXCEPTION;
    for (int64_t i = from; i >= 0 && i < n; i += 2) {
        JSValue v = JS_GetPropertyInt64(ctx, argv[0], i);
        if (JS_IsException(v))
            return v;
        bool found = js_strict_eq(ctx, v, argv[1]);
        JS_FreeValue(ctx, v);
        if (found)
            return JS_NewInt64(ctx, i);
    }
    return JS_NewInt32(ctx, -1);
}

// Splits `a=b&c` into a flat list of names and values, still escaped.
static JSValue host_split_pairs(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JSValue text = JS_ToString(ctx, argv[0]), list = JS_NewArray(ctx);
    if (JS_IsException(text) || JS_IsException(list) || JS_VALUE_GET_TAG(text) != JS_TAG_STRING)
        goto fail;
    JSString *p = JS_VALUE_GET_STRING(text);
    int n = p->len, out = 0;
    for (int from = 0; from < n;) {
        int end = from, eq = -1;
        for (uint32_t c; end < n && (c = string_get(p, end)) != '&'; end++)
            if (c == '=' && eq < 0)
                eq = end;
        if (end > from) {
            JSValue pair[2] = { js_sub_string(ctx, p, from, eq < 0 ? end : eq), js_sub_string(ctx, p, eq < 0 ? end : eq + 1, end) };
            for (int i = 0; i < 2; i++)
                if (JS_DefinePropertyValueUint32(ctx, list, out++, pair[i], JS_PROP_C_W_E) < 0)
                    goto fail;
        }
        from = end + 1;
    }
    JS_FreeValue(ctx, text);
    return list;
fail:
    JS_FreeValue(ctx, text);
    JS_FreeValue(ctx, list);
    return JS_EXCEPTION;
}

// What a promise was fulfilled with, or `otherwise` where there is no such thing (yet).
static JSValue host_fulfilled(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    return JS_PromiseState(ctx, argv[0]) == JS_PROMISE_FULFILLED ? JS_PromiseResult(ctx, argv[0]) : js_dup(argv[1]);
}

// How many references there are to an object, those on the stack among them: who counts knows how many of them are its own. 0 for what is none.
static JSValue host_references(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    return JS_NewInt32(ctx, JS_IsObject(argv[0]) ? js_rc(JS_VALUE_GET_OBJ(argv[0]))->ref_count : 0);
}

// Whether a promise is pending and nobody has asked for what it will bring.
static JSValue host_unheard(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JSPromiseData *p = JS_GetOpaque(argv[0], JS_CLASS_PROMISE);
    return JS_NewBool(ctx, p != NULL && p->promise_state == JS_PROMISE_PENDING && !p->is_handled && list_empty(&p->promise_reactions[0]) && list_empty(&p->promise_reactions[1]));
}

static JSValue host_promise_state(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JSValue a = JS_NewArray(ctx);
    if (JS_IsException(a))
        return a;
    JSPromiseStateEnum state = JS_PromiseState(ctx, argv[0]);
    JS_DefinePropertyValueUint32(ctx, a, 0, JS_NewInt32(ctx, state == JS_PROMISE_NOT_A_PROMISE ? -1 : (int)state), JS_PROP_C_W_E);
    JS_DefinePropertyValueUint32(ctx, a, 1, JS_PromiseResult(ctx, argv[0]), JS_PROP_C_W_E);
    return a;
}

static JSValue host_async_context(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    return js_dup(skep_async_context);
}

static JSValue host_set_async_context(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JSValue old = skep_async_context;
    skep_async_context = js_dup(argv[0]);
    JS_FreeValue(ctx, old);
    return JS_UNDEFINED;
}

static JSValue host_utf8_encode(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    size_t n;
    const char *s = JS_ToCStringLen(ctx, &n, argv[0]);
    if (!s)
        return JS_EXCEPTION;
    JSValue v = JS_NewUint8ArrayCopy(ctx, (const uint8_t *)s, n);
    // A lone surrogate was written as three bytes (ED A0..BF xx); encoding it means U+FFFD, which has three as well.
    if (!JS_IsException(v) && !wire_is_ascii((const uint8_t *)s, n)) {
        uint8_t *b = JS_GetUint8Array(ctx, &n, v);
        for (size_t i = 0; i + 2 < n; i++)
            if (b[i] == 0xED && b[i + 1] >= 0xA0)
                b[i] = 0xEF, b[i + 1] = 0xBF, b[i + 2] = 0xBD;
    }
    JS_FreeCString(ctx, s);
    return v;
}

// The bytes behind any view or buffer; NULL with *n = 0 for a detached or empty one, *ok = false for another value.
static const uint8_t *host_bytes(JSContext *ctx, JSValueConst v, size_t *n, bool *ok)
{
    *n = 0;
    *ok = true;
    if (JS_VALUE_GET_TAG(v) == JS_TAG_OBJECT) {
        JSClassID class_id = JS_VALUE_GET_OBJ(v)->class_id;
        if (class_id == JS_CLASS_UINT8_ARRAY)
            return JS_GetUint8Array(ctx, n, v);
        if (class_id == JS_CLASS_ARRAY_BUFFER)
            return JS_GetArrayBuffer(ctx, n, v);
    }
    *ok = false;
    return NULL;
}

// Length of the valid UTF-8 sequence at `s`, or 0 with *skip set to the bytes that one U+FFFD replaces (the
// "maximal subpart" practice of the Encoding Standard).
static size_t utf8_sequence(const uint8_t *s, size_t n, size_t *skip)
{
    uint8_t c = s[0];
    *skip = 1;
    if (c < 0x80)
        return 1;
    size_t need = c >= 0xC2 && c <= 0xDF ? 1 : c >= 0xE0 && c <= 0xEF ? 2 : c >= 0xF0 && c <= 0xF4 ? 3 : 0;
    uint8_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    uint8_t high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (!need)
        return 0;
    for (size_t i = 1; i <= need; i++) {
        if (i >= n || s[i] < low || s[i] > high) {
            *skip = i;
            return 0;
        }
        low = 0x80;
        high = 0xBF;
    }
    return need + 1;
}

static JSValue host_utf8_decode(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    size_t n;
    bool ok;
    const uint8_t *s = host_bytes(ctx, argv[0], &n, &ok);
    if (!ok)
        return JS_ThrowTypeError(ctx, "bytes expected");
    bool fatal = argc > 1 && JS_ToBool(ctx, argv[1]);
    bool keep_bom = argc > 2 && JS_ToBool(ctx, argv[2]);
    if (!keep_bom && n >= 3 && s[0] == 0xEF && s[1] == 0xBB && s[2] == 0xBF)
        s += 3, n -= 3;
    if (!n)
        return js_new_string8_len(ctx, "", 0);
    if (wire_is_ascii(s, n))
        return js_new_string8_len(ctx, (const char *)s, n);
    size_t bad = 0, skip;
    for (size_t i = 0; i < n;) {
        size_t len = utf8_sequence(s + i, n - i, &skip);
        bad += !len;
        i += len ? len : skip;
    }
    if (!bad)
        return JS_NewStringLen(ctx, (const char *)s, n);
    if (fatal)
        return JS_ThrowTypeError(ctx, "The encoded data was not valid for encoding utf-8");
    uint8_t *fixed = malloc(n + 3 * bad), *w = fixed;
    if (!fixed)
        return JS_ThrowOutOfMemory(ctx);
    for (size_t i = 0; i < n;) {
        size_t len = utf8_sequence(s + i, n - i, &skip);
        memcpy(w, len ? s + i : (const uint8_t *)"\xEF\xBF\xBD", len ? len : 3);
        w += len ? len : 3;
        i += len ? len : skip;
    }
    JSValue v = JS_NewStringLen(ctx, (const char *)fixed, w - fixed);
    free(fixed);
    return v;
}

static JSValue host_detach(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JSArrayBuffer *buffer = JS_GetOpaque(argv[0], JS_CLASS_ARRAY_BUFFER);
    if (buffer && buffer->realloc_func == skep_wasm_buffer)
        return JS_ThrowTypeError(ctx, "a WebAssembly.Memory's buffer cannot be detached");
    JS_DetachArrayBuffer(ctx, argv[0]);
    return JS_UNDEFINED;
}

static JSValue host_proxy_details(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    if (!JS_IsProxy(argv[0]))
        return JS_UNDEFINED;
    JSValue a = JS_NewArray(ctx);
    if (JS_IsException(a))
        return a;
    JSValue parts[2] = { JS_GetProxyTarget(ctx, argv[0]), JS_GetProxyHandler(ctx, argv[0]) };
    for (int i = 0; i < 2; i++) {
        // Of a revoked proxy: both are null.
        if (JS_IsException(parts[i])) {
            JS_FreeValue(ctx, JS_GetException(ctx));
            parts[i] = JS_NULL;
        }
        JS_DefinePropertyValueUint32(ctx, a, i, parts[i], JS_PROP_C_W_E);
    }
    return a;
}

static JSValue host_preview_iterator(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JSMapIteratorData *it = NULL;
    int magic = 0;
    for (; magic < 2 && !it; magic++)
        it = JS_GetOpaque(argv[0], JS_CLASS_MAP_ITERATOR + magic);
    if (!it)
        return JS_UNDEFINED;
    magic--;
    double most;
    if (JS_ToFloat64(ctx, &most, argv[1]))
        return JS_EXCEPTION;
    JSValue items = JS_NewArray(ctx);
    uint32_t n = 0, taken = 0, left = 0;
    bool pairs = it->kind == JS_ITERATOR_KIND_KEY_AND_VALUE;
    JSMapState *s = JS_IsUndefined(it->obj) ? NULL : JS_GetOpaque(it->obj, JS_CLASS_MAP + magic);
    if (s) {
        struct list_head *el = it->cur_record ? it->cur_record->link.next : s->records.next;
        for (; el != &s->records; el = el->next) {
            JSMapRecord *mr = list_entry(el, JSMapRecord, link);
            if (mr->empty)
                continue;
            if (taken >= most) {
                left++;
                continue;
            }
            taken++;
            JSValueConst value = magic ? mr->key : mr->value;
            if (it->kind != JS_ITERATOR_KIND_VALUE)
                JS_DefinePropertyValueUint32(ctx, items, n++, js_dup(mr->key), JS_PROP_C_W_E);
            if (it->kind != JS_ITERATOR_KIND_KEY)
                JS_DefinePropertyValueUint32(ctx, items, n++, js_dup(value), JS_PROP_C_W_E);
        }
    }
    JSValueConst parts[3] = { items, js_int32(left), js_bool(pairs) };
    JSValue preview = js_create_array(ctx, 3, parts);
    JS_FreeValue(ctx, items);
    return preview;
}

static JSValue host_register_module(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JSAtom name = JS_ValueToAtom(ctx, argv[0]);
    if (name == JS_ATOM_NULL)
        return JS_EXCEPTION;
    int r = JS_SetProperty(ctx, builtin_modules, name, js_dup(argv[1]));
    JS_FreeAtom(ctx, name);
    return r < 0 ? JS_EXCEPTION : JS_UNDEFINED;
}

static const JSCFunctionListEntry host_functions[] = {
    JS_CFUNC_DEF("call", 1, host_js_call),
    JS_CFUNC_MAGIC_DEF("onEvents", 1, host_set_hook, 0),
    JS_CFUNC_MAGIC_DEF("onReject", 1, host_set_hook, 1),
    JS_CFUNC_MAGIC_DEF("onModule", 1, host_set_hook, 2),
    JS_CFUNC_DEF("setTimer", 1, host_set_timer),
    JS_CFUNC_DEF("now", 0, host_now),
    JS_CFUNC_DEF("importModule", 1, host_import_module),
    JS_CFUNC_DEF("indexOfName", 3, host_index_of_name),
    JS_CFUNC_DEF("splitPairs", 1, host_split_pairs),
    JS_CFUNC_DEF("fulfilled", 2, host_fulfilled),
    JS_CFUNC_DEF("references", 1, host_references),
    JS_CFUNC_DEF("unheard", 1, host_unheard),
    JS_CFUNC_DEF("promiseState", 1, host_promise_state),
    JS_CFUNC_DEF("asyncContext", 0, host_async_context),
    JS_CFUNC_DEF("setAsyncContext", 1, host_set_async_context),
    JS_CFUNC_DEF("utf8Encode", 1, host_utf8_encode),
    JS_CFUNC_DEF("utf8Decode", 3, host_utf8_decode),
    JS_CFUNC_DEF("detach", 1, host_detach),
    JS_CFUNC_DEF("getProxyDetails", 1, host_proxy_details),
    JS_CFUNC_DEF("previewIterator", 2, host_preview_iterator),
    JS_CFUNC_DEF("registerModule", 2, host_register_module),
};
