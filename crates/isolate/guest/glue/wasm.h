// WebAssembly of the worker's own modules, as far as it cannot be JavaScript: calls with their values in place, the way back
// for imports, and buffers over a memory's pages. Driven by webassembly.ts; the host's side is crates/isolate/src/wasm.

// As host_call, for operations that may run Wasm.
SKEP_IMPORT("wasm") uint32_t host_wasm(const char *op, uint32_t op_len, const uint8_t *args, uint32_t args_len, uint8_t *out, uint32_t out_cap);
// Calls function `func` with `n` values of eight bytes, which the results replace. Returns 0; the length of an answer to take,
// which says what went wrong; or WASM_THROWN when an import threw `wasm_thrown`.
SKEP_IMPORT("wasm_call") uint32_t host_wasm_call(uint32_t func, uint64_t *values, uint32_t n);

enum { WASM_THROWN = UINT32_MAX, WASM_VALUES_MAX = 128, WASM_INBOX_VALUES = 512 };

// What the bundle is called for: `(kind, …)`.
enum { WASM_FAILED = 0, WASM_IMPORT = 1, WASM_GROWN = 2 };

static JSValue wasm_hook = JS_UNDEFINED;
static JSValue wasm_thrown = JS_UNDEFINED;

static JSValue wasm_set_hook(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JS_FreeValue(ctx, wasm_hook);
    wasm_hook = js_dup(argv[0]);
    return JS_UNDEFINED;
}

// Buffers that are out of date are detached before any JavaScript can look at them.
static int wasm_refresh(JSContext *ctx)
{
    if (!mailbox.grown)
        return 0;
    mailbox.grown = 0;
    JSValue kind = JS_NewInt32(ctx, WASM_GROWN);
    JSValue v = JS_Call(ctx, wasm_hook, JS_UNDEFINED, 1, vc(&kind));
    if (JS_IsException(v))
        return -1;
    JS_FreeValue(ctx, v);
    return 0;
}

// The types decide, as in ToWebAssemblyValue; references are numbers already.
static int wasm_value_in(JSContext *ctx, char type, JSValueConst v, uint64_t *out)
{
    *out = 0;
    switch (type) {
    case 'I': {
        int64_t n;
        if (JS_ToBigInt64(ctx, &n, v))
            return -1;
        *out = n;
        return 0;
    }
    case 'f':
    case 'd': {
        double d;
        if (JS_ToFloat64(ctx, &d, v))
            return -1;
        if (type == 'f') {
            float f = d;
            memcpy(out, &f, 4);
        } else {
            memcpy(out, &d, 8);
        }
        return 0;
    }
    case 'v':
        JS_ThrowTypeError(ctx, "type incompatibility when transforming from/to JS");
        return -1;
    default: {
        int32_t n;
        if (JS_ToInt32(ctx, &n, v))
            return -1;
        *out = (uint32_t)n;
        return 0;
    }
    }
}

static JSValue wasm_value_out(JSContext *ctx, char type, uint64_t raw)
{
    float f;
    double d;
    switch (type) {
    case 'I':
        return JS_NewBigInt64(ctx, raw);
    case 'f':
        memcpy(&f, &raw, 4);
        return JS_NewFloat64(ctx, f);
    case 'd':
        memcpy(&d, &raw, 8);
        return JS_NewFloat64(ctx, d);
    default:
        return JS_NewInt32(ctx, (int32_t)raw);
    }
}

static JSValue wasm_values_out(JSContext *ctx, const char *types, size_t n, const uint64_t *values)
{
    JSValue list = JS_NewArray(ctx);
    for (size_t i = 0; i < n && !JS_IsException(list); i++)
        if (JS_DefinePropertyValueUint32(ctx, list, i, wasm_value_out(ctx, types[i], values[i]), JS_PROP_C_W_E) < 0) {
            JS_FreeValue(ctx, list);
            list = JS_EXCEPTION;
        }
    return list;
}

// call(func, params, results, args): the one result, an array of several, or undefined.
static JSValue wasm_call(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    uint64_t values[WASM_VALUES_MAX];
    uint32_t func;
    size_t n_params, n_results;
    if (JS_ToUint32(ctx, &func, argv[0]))
        return JS_EXCEPTION;
    const char *params = JS_ToCStringLen(ctx, &n_params, argv[1]), *results = JS_ToCStringLen(ctx, &n_results, argv[2]);
    JSValue v = JS_EXCEPTION;
    if (!params || !results)
        goto done;
    if (n_params > WASM_VALUES_MAX || n_results > WASM_VALUES_MAX) {
        JS_ThrowTypeError(ctx, "type incompatibility when transforming from/to JS");
        goto done;
    }
    for (size_t i = 0; i < n_params; i++) {
        JSValue arg = JS_GetPropertyUint32(ctx, argv[3], i);
        int r = JS_IsException(arg) ? -1 : wasm_value_in(ctx, params[i], arg, &values[i]);
        JS_FreeValue(ctx, arg);
        if (r)
            goto done;
    }
    uint32_t status = host_wasm_call(func, values, WASM_VALUES_MAX);
    if (status == 0) {
        if (wasm_refresh(ctx))
            goto done;
        v = n_results == 0 ? JS_UNDEFINED : n_results == 1 ? wasm_value_out(ctx, results[0], values[0]) : wasm_values_out(ctx, results, n_results, values);
    } else if (status == WASM_THROWN) {
        JSValue thrown = wasm_thrown;
        wasm_thrown = JS_UNDEFINED;
        if (wasm_refresh(ctx))
            JS_FreeValue(ctx, thrown);
        else
            JS_Throw(ctx, thrown);
    } else {
        uint8_t *answer = malloc(status);
        if (!answer) {
            JS_ThrowOutOfMemory(ctx);
            goto done;
        }
        host_take(answer);
        WireIn in = { answer, answer + status };
        JSValue args[2] = { JS_NewInt32(ctx, WASM_FAILED), wire_decode(ctx, &in) };
        free(answer);
        if (!JS_IsException(args[1]) && !wasm_refresh(ctx))
            v = JS_Call(ctx, wasm_hook, JS_UNDEFINED, 2, vc(args));
        JS_FreeValue(ctx, args[1]);
    }
done:
    JS_FreeCString(ctx, params);
    JS_FreeCString(ctx, results);
    return v;
}

static int wasm_import(JSContext *ctx, uint32_t id, const char *types, const uint64_t *values, uint32_t n_params, uint32_t n_results)
{
    if (wasm_refresh(ctx))
        return -1;
    JSValue args[4] = { JS_NewInt32(ctx, WASM_IMPORT), JS_NewUint32(ctx, id), wasm_values_out(ctx, types, n_params, values), JS_NewStringLen(ctx, types, n_params + n_results) };
    JSValue v = JS_IsException(args[2]) || JS_IsException(args[3]) ? JS_EXCEPTION : JS_Call(ctx, wasm_hook, JS_UNDEFINED, 4, vc(args));
    JS_FreeValue(ctx, args[2]);
    JS_FreeValue(ctx, args[3]);
    if (JS_IsException(v))
        return -1;
    uint64_t results[WASM_VALUES_MAX];
    int r = 0;
    if (n_results == 1) {
        r = wasm_value_in(ctx, types[n_params], v, &results[0]);
    } else {
        for (uint32_t i = 0; i < n_results && !r; i++) {
            JSValue item = JS_GetPropertyUint32(ctx, v, i);
            r = JS_IsException(item) ? -1 : wasm_value_in(ctx, types[n_params + i], item, &results[i]);
            JS_FreeValue(ctx, item);
        }
    }
    JS_FreeValue(ctx, v);
    if (!r)
        memcpy(mailbox.inbox + WASM_INBOX_VALUES, results, n_results * sizeof(*results));
    return r;
}

// Wasm calls an import that is JavaScript: the letters of its types and its arguments are in the inbox, where the results go.
// Returns 0, or 1 when it threw `wasm_thrown`.
SKEP_EXPORT("imported") uint32_t guest_imported(uint32_t id, uint32_t n_params, uint32_t n_results)
{
    char types[2 * WASM_VALUES_MAX];
    uint64_t values[WASM_VALUES_MAX];
    if (n_params > WASM_VALUES_MAX || n_results > WASM_VALUES_MAX)
        __builtin_trap();
    memcpy(types, mailbox.inbox, n_params + n_results);
    memcpy(values, mailbox.inbox + WASM_INBOX_VALUES, n_params * sizeof(*values));
    if (!wasm_import(ctx, id, types, values, n_params, n_results))
        return 0;
    JS_FreeValue(ctx, wasm_thrown);
    wasm_thrown = JS_GetException(ctx);
    return 1;
}

// A buffer over `n` bytes at an address that the host gave.
static JSValue wasm_new_buffer(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    uint32_t at;
    double n;
    if (JS_ToUint32(ctx, &at, argv[0]) || JS_ToFloat64(ctx, &n, argv[1]))
        return JS_EXCEPTION;
    static uint8_t nothing;
    return JS_NewArrayBuffer(ctx, n > 0 ? (uint8_t *)(uintptr_t)at : &nothing, n, 0, skep_wasm_buffer, NULL, false);
}

static JSValue wasm_detach(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JS_DetachArrayBuffer(ctx, argv[0]);
    return JS_UNDEFINED;
}

// What the guest threw further inside of an operation.
static JSValue wasm_take_thrown(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JSValue thrown = wasm_thrown;
    wasm_thrown = JS_UNDEFINED;
    return thrown;
}

static JSValue wasm_operation(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    JSValue v = host_js_call_by(ctx, argc, argv, host_wasm);
    if (wasm_refresh(ctx)) {
        JS_FreeValue(ctx, v);
        return JS_EXCEPTION;
    }
    return v;
}

static const JSCFunctionListEntry wasm_functions[] = {
    JS_CFUNC_DEF("wasm", 1, wasm_operation),
    JS_CFUNC_DEF("wasmCall", 4, wasm_call),
    JS_CFUNC_DEF("onWasm", 1, wasm_set_hook),
    JS_CFUNC_DEF("wasmThrown", 0, wasm_take_thrown),
    JS_CFUNC_DEF("wasmBuffer", 2, wasm_new_buffer),
    JS_CFUNC_DEF("wasmDetach", 1, wasm_detach),
};
