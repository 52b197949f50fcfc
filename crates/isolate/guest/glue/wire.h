// The wire codec: JavaScript values <-> the tagged bytes of docs/design/guest-abi.md.
//
// Driven by host.h (arguments and results of host calls) and guest.c (events). It knows nothing of operations or of
// what values mean. It reads engine internals (string representation) because a copy through the public API would
// double the cost of every header and body.

enum {
    WIRE_UNDEFINED, WIRE_NULL, WIRE_FALSE, WIRE_TRUE, WIRE_INT, WIRE_NUMBER, WIRE_STRING, WIRE_BYTES, WIRE_ARRAY,
    WIRE_OBJECT, WIRE_ERROR
};
enum { WIRE_DEPTH_MAX = 64 };

// One growing buffer for everything that leaves. Encoding can run guest code (getters), which can make host calls of
// its own: each user takes `wire_out.len` as its base, appends, and truncates back to the base when it is done.
static struct {
    uint8_t *buf;
    size_t len, cap;
} wire_out;
static uint8_t wire_out_initial[1024];

static int wire_reserve(JSContext *ctx, size_t n)
{
    if (n <= wire_out.cap - wire_out.len)
        return 0;
    if (n > INT32_MAX / 2 || wire_out.len > INT32_MAX / 2) {
        JS_ThrowRangeError(ctx, "value too large to leave the isolate");
        return -1;
    }
    size_t cap = wire_out.cap * 2;
    if (cap < wire_out.len + n)
        cap = wire_out.len + n;
    uint8_t *buf = malloc(cap);
    if (!buf) {
        JS_ThrowOutOfMemory(ctx);
        return -1;
    }
    memcpy(buf, wire_out.buf, wire_out.len);
    if (wire_out.buf != wire_out_initial)
        free(wire_out.buf);
    wire_out.buf = buf;
    wire_out.cap = cap;
    return 0;
}

static void wire_release(size_t base)
{
    wire_out.len = base;
    // A large message must not be paid for by every later snapshot of this isolate.
    if (base == 0 && wire_out.cap > 256 * 1024) {
        free(wire_out.buf);
        wire_out.buf = wire_out_initial;
        wire_out.cap = sizeof(wire_out_initial);
    }
}

static int wire_put(JSContext *ctx, uint8_t tag, const void *payload, size_t n)
{
    if (wire_reserve(ctx, n + 1))
        return -1;
    wire_out.buf[wire_out.len++] = tag;
    memcpy(wire_out.buf + wire_out.len, payload, n);
    wire_out.len += n;
    return 0;
}

static int wire_put_bytes(JSContext *ctx, uint8_t tag, const void *bytes, size_t n)
{
    uint32_t n32 = n;
    if (wire_reserve(ctx, n + 5))
        return -1;
    if (wire_put(ctx, tag, &n32, 4))
        return -1;
    memcpy(wire_out.buf + wire_out.len, bytes, n);
    wire_out.len += n;
    return 0;
}

static bool wire_is_ascii(const uint8_t *s, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= s[i];
    return any < 0x80;
}

static int wire_put_string(JSContext *ctx, uint8_t tag, JSValueConst v)
{
    if (JS_VALUE_GET_TAG(v) == JS_TAG_STRING) {
        JSString *p = JS_VALUE_GET_STRING(v);
        if (!p->is_wide_char) {
            const uint8_t *s = strv(p);
            if (wire_is_ascii(s, p->len))
                return wire_put_bytes(ctx, tag, s, p->len);
        }
    }
    size_t n;
    const char *s = JS_ToCStringLen(ctx, &n, v);
    if (!s)
        return -1;
    int r = wire_put_bytes(ctx, tag, s, n);
    JS_FreeCString(ctx, s);
    return r;
}

static int wire_encode(JSContext *ctx, JSValueConst v, int depth);

static int wire_encode_array(JSContext *ctx, JSValueConst v, int depth)
{
    int64_t n;
    if (js_get_length64(ctx, &n, v))
        return -1;
    if (n > 1 << 24) {
        JS_ThrowRangeError(ctx, "array too long to leave the isolate");
        return -1;
    }
    uint32_t n32 = n;
    if (wire_put(ctx, WIRE_ARRAY, &n32, 4))
        return -1;
    for (uint32_t i = 0; i < n32; i++) {
        JSValue e = JS_GetPropertyUint32(ctx, v, i);
        if (JS_IsException(e))
            return -1;
        int r = wire_encode(ctx, e, depth + 1);
        JS_FreeValue(ctx, e);
        if (r)
            return -1;
    }
    return 0;
}

static int wire_encode_object(JSContext *ctx, JSValueConst v, int depth)
{
    JSPropertyEnum *keys;
    uint32_t n;
    if (JS_GetOwnPropertyNames(ctx, &keys, &n, v, JS_GPN_STRING_MASK | JS_GPN_ENUM_ONLY))
        return -1;
    int r = wire_put(ctx, WIRE_OBJECT, &n, 4);
    for (uint32_t i = 0; i < n && !r; i++) {
        JSValue key = JS_AtomToString(ctx, keys[i].atom);
        // The tag is part of a value, not of a key: write the string and move it over its tag.
        size_t at = wire_out.len;
        r = JS_IsException(key) ? -1 : wire_put_string(ctx, WIRE_STRING, key);
        JS_FreeValue(ctx, key);
        if (r)
            break;
        memmove(wire_out.buf + at, wire_out.buf + at + 1, wire_out.len - at - 1);
        wire_out.len--;
        JSValue e = JS_GetProperty(ctx, v, keys[i].atom);
        r = JS_IsException(e) ? -1 : wire_encode(ctx, e, depth + 1);
        JS_FreeValue(ctx, e);
    }
    JS_FreePropertyEnum(ctx, keys, n);
    return r;
}

static int wire_encode_heap_object(JSContext *ctx, JSValueConst v, int depth)
{
    if (depth >= WIRE_DEPTH_MAX) {
        JS_ThrowRangeError(ctx, "value nested too deeply to leave the isolate");
        return -1;
    }
    JSClassID class_id = JS_VALUE_GET_OBJ(v)->class_id;
    if (class_id == JS_CLASS_ARRAY)
        return wire_encode_array(ctx, v, depth);
    if (class_id == JS_CLASS_UINT8_ARRAY) {
        size_t n;
        uint8_t *bytes = JS_GetUint8Array(ctx, &n, v);
        return bytes ? wire_put_bytes(ctx, WIRE_BYTES, bytes, n) : wire_put_bytes(ctx, WIRE_BYTES, "", 0);
    }
    if (class_id == JS_CLASS_ARRAY_BUFFER) {
        size_t n;
        uint8_t *bytes = JS_GetArrayBuffer(ctx, &n, v);
        return bytes ? wire_put_bytes(ctx, WIRE_BYTES, bytes, n) : -1;
    }
    if (class_id == JS_CLASS_OBJECT)
        return wire_encode_object(ctx, v, depth);
    JS_ThrowTypeError(ctx, "object cannot leave the isolate");
    return -1;
}

static int wire_encode(JSContext *ctx, JSValueConst v, int depth)
{
    switch (JS_VALUE_GET_NORM_TAG(v)) {
    case JS_TAG_UNDEFINED:
        return wire_put(ctx, WIRE_UNDEFINED, NULL, 0);
    case JS_TAG_NULL:
        return wire_put(ctx, WIRE_NULL, NULL, 0);
    case JS_TAG_BOOL:
        return wire_put(ctx, JS_VALUE_GET_BOOL(v) ? WIRE_TRUE : WIRE_FALSE, NULL, 0);
    case JS_TAG_INT: {
        int32_t i = JS_VALUE_GET_INT(v);
        return wire_put(ctx, WIRE_INT, &i, 4);
    }
    case JS_TAG_FLOAT64: {
        double d = JS_VALUE_GET_FLOAT64(v);
        return wire_put(ctx, WIRE_NUMBER, &d, 8);
    }
    case JS_TAG_STRING:
    case JS_TAG_STRING_ROPE:
        return wire_put_string(ctx, WIRE_STRING, v);
    case JS_TAG_OBJECT:
        return wire_encode_heap_object(ctx, v, depth);
    default:
        JS_ThrowTypeError(ctx, "value cannot leave the isolate");
        return -1;
    }
}

// Decoding trusts its input: only the host writes it. A truncated message is a bug of the host and ends in a trap.
typedef struct {
    const uint8_t *at, *end;
} WireIn;

static const uint8_t *wire_take(WireIn *in, size_t n)
{
    if ((size_t)(in->end - in->at) < n)
        __builtin_trap();
    const uint8_t *p = in->at;
    in->at += n;
    return p;
}

static uint32_t wire_u32(WireIn *in)
{
    uint32_t n;
    memcpy(&n, wire_take(in, 4), 4);
    return n;
}

static JSValue wire_string(JSContext *ctx, WireIn *in)
{
    uint32_t n = wire_u32(in);
    const char *s = (const char *)wire_take(in, n);
    return wire_is_ascii((const uint8_t *)s, n) ? js_new_string8_len(ctx, s, n) : JS_NewStringLen(ctx, s, n);
}

static JSValue wire_decode(JSContext *ctx, WireIn *in);

static JSValue wire_decode_array(JSContext *ctx, WireIn *in)
{
    uint32_t n = wire_u32(in);
    JSValue a = JS_NewArray(ctx);
    for (uint32_t i = 0; i < n; i++) {
        JSValue e = wire_decode(ctx, in);
        if (JS_IsException(a) || JS_IsException(e) || JS_DefinePropertyValueUint32(ctx, a, i, e, JS_PROP_C_W_E) < 0) {
            JS_FreeValue(ctx, a);
            return JS_EXCEPTION;
        }
    }
    return a;
}

static JSValue wire_decode_object(JSContext *ctx, WireIn *in)
{
    uint32_t n = wire_u32(in);
    JSValue o = JS_NewObject(ctx);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t len = wire_u32(in);
        JSAtom key = JS_NewAtomLen(ctx, (const char *)wire_take(in, len), len);
        JSValue e = wire_decode(ctx, in);
        int r = JS_IsException(o) || JS_IsException(e) ? -1 : JS_DefinePropertyValue(ctx, o, key, e, JS_PROP_C_W_E);
        JS_FreeAtom(ctx, key);
        if (r < 0) {
            JS_FreeValue(ctx, o);
            return JS_EXCEPTION;
        }
    }
    return o;
}

// Makes the error that a wire error stands for: a native class by its name, otherwise a DOMException.
static JSValue wire_decode_error(JSContext *ctx, WireIn *in)
{
    uint32_t n = wire_u32(in);
    const char *s = (const char *)wire_take(in, n);
    char name[64];
    n = n < sizeof(name) ? n : sizeof(name) - 1;
    memcpy(name, s, n);
    name[n] = 0;
    JSValue message = wire_string(ctx, in);
    size_t length;
    const char *m = JS_ToCStringLen(ctx, &length, message);
    if (!m) {
        JS_FreeValue(ctx, message);
        return JS_EXCEPTION;
    }
    if (!strcmp(name, "TypeError"))
        JS_ThrowTypeError(ctx, "%s", m);
    else if (!strcmp(name, "RangeError"))
        JS_ThrowRangeError(ctx, "%s", m);
    else if (!strcmp(name, "SyntaxError"))
        JS_ThrowSyntaxError(ctx, "%s", m);
    else if (!strcmp(name, "ReferenceError"))
        JS_ThrowReferenceError(ctx, "%s", m);
    else if (!strcmp(name, "Error"))
        JS_ThrowPlainError(ctx, "%s", m);
    else
        JS_ThrowDOMException(ctx, name, "%s", m);
    // The engine formats messages into 256 bytes and ends them at a NUL.
    bool cut = length >= 256 || strlen(m) < length;
    JS_FreeCString(ctx, m);
    JSValue error = JS_GetException(ctx);
    if (!cut) {
        JS_FreeValue(ctx, message);
    } else if (JS_DefinePropertyValueStr(ctx, error, "message", message, JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE) < 0) {
        JS_FreeValue(ctx, error);
        return JS_EXCEPTION;
    }
    return error;
}

static JSValue wire_decode(JSContext *ctx, WireIn *in)
{
    switch (*wire_take(in, 1)) {
    case WIRE_UNDEFINED:
        return JS_UNDEFINED;
    case WIRE_NULL:
        return JS_NULL;
    case WIRE_FALSE:
        return JS_FALSE;
    case WIRE_TRUE:
        return JS_TRUE;
    case WIRE_INT: {
        int32_t i;
        memcpy(&i, wire_take(in, 4), 4);
        return JS_NewInt32(ctx, i);
    }
    case WIRE_NUMBER: {
        double d;
        memcpy(&d, wire_take(in, 8), 8);
        return JS_NewFloat64(ctx, d);
    }
    case WIRE_STRING:
        return wire_string(ctx, in);
    case WIRE_BYTES: {
        uint32_t n = wire_u32(in);
        return JS_NewUint8ArrayCopy(ctx, wire_take(in, n), n);
    }
    case WIRE_ARRAY:
        return wire_decode_array(ctx, in);
    case WIRE_OBJECT:
        return wire_decode_object(ctx, in);
    case WIRE_ERROR:
        return wire_decode_error(ctx, in);
    default:
        __builtin_trap();
    }
}
