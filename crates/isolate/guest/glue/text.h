/**
 * Strings: searching, joining, single characters, upper and lower case, the way that costs little.
 *
 * Included by the engine in front of its array methods (see xtask/src/quickjs/data.rs). Each function here is a short cut in
 * front of, or in the place of, one of the engine's, for strings that are there as text; ropes, objects and whatever
 * else has to be converted first go the engine's way.
 */

// The strings of one 8-bit character (skep_chars is defined beside js_new_string_char): made while the image is made, and
// immortal with it. Where one is missing it is made each time, as before.
static __maybe_unused void skep_make_chars(JSContext *ctx)
{
    for (int c = 0; c < 256; c++) {
        char text = c;
        JSValue v = js_new_string8_len(ctx, &text, 1);
        if (JS_IsException(v))
            return;
        if (!is_digit(c)) {
            // As an atom: a character is often a property's name.
            JSAtom atom = __JS_NewAtom(ctx->rt, JS_VALUE_GET_STRING(v), JS_ATOM_TYPE_STRING);
            if (atom == JS_ATOM_NULL)
                return;
            v = JS_AtomToString(ctx, atom);
            JS_FreeAtom(ctx, atom);
        }
        skep_chars[c] = v;
    }
}

static __maybe_unused void skep_free_chars(JSContext *ctx)
{
    for (int c = 0; c < 256; c++)
        JS_FreeValue(ctx, skep_chars[c]);
}

// A value that is a string's text already: a flat string, or a rope that was flattened. Borrowed; NULL otherwise.
static inline JSString *skep_flat(JSValueConst v)
{
    uint32_t tag = JS_VALUE_GET_TAG(v);
    if (tag == JS_TAG_STRING)
        return JS_VALUE_GET_STRING(v);
    if (tag == JS_TAG_STRING_ROPE) {
        JSStringRope *r = JS_VALUE_GET_STRING_ROPE(v);
        if (JS_VALUE_GET_TAG(r->right) == JS_TAG_STRING && !JS_VALUE_GET_STRING(r->right)->len && JS_VALUE_GET_TAG(r->left) == JS_TAG_STRING)
            return JS_VALUE_GET_STRING(r->left);
    }
    return NULL;
}

static inline bool skep_equal8(const uint8_t *a, const uint8_t *b, size_t n)
{
    for (; n >= 8; n -= 8, a += 8, b += 8)
        if (skep_load64(a) != skep_load64(b))
            return false;
    for (; n; n--)
        if (*a++ != *b++)
            return false;
    return true;
}

static inline bool skep_equal16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return skep_equal8((const uint8_t *)a, (const uint8_t *)b, n * 2);
}

// Where 8-bit `needle` (not empty) begins in 8-bit `text`, at `from` or behind; -1 when it does not. Looks for its first
// and its last character at once.
static int skep_indexof8(const uint8_t *text, int n, const uint8_t *needle, int m, int from)
{
    int last = n - m;
    if (m == 1) {
        const uint8_t *p = skep_find_byte(text + from, text + n, *needle);
        return p == text + n ? -1 : p - text;
    }
    int i = from;
#ifdef __wasm_simd128__
    v128_t head = wasm_i8x16_splat(needle[0]), tail = wasm_i8x16_splat(needle[m - 1]);
    for (; i + 15 <= last; i += 16) {
        v128_t a = wasm_i8x16_eq(wasm_v128_load(text + i), head), b = wasm_i8x16_eq(wasm_v128_load(text + i + m - 1), tail);
        for (uint32_t mask = wasm_i8x16_bitmask(wasm_v128_and(a, b)); mask; mask &= mask - 1) {
            int at = i + __builtin_ctz(mask);
            if (skep_equal8(text + at + 1, needle + 1, m - 2))
                return at;
        }
    }
#endif
    for (; i <= last; i++)
        if (text[i] == needle[0] && text[i + m - 1] == needle[m - 1] && skep_equal8(text + i + 1, needle + 1, m - 2))
            return i;
    return -1;
}

static int string_cmp(JSString *p1, JSString *p2, int x1, int x2, int len)
{
    if (len <= 0)
        return 0;
    return js_string_memcmp_pos(p1, x1, p2, x2, len);
}

static int string_indexof_char(JSString *p, int c, int from)
{
    int len = p->len;
    if (p->is_wide_char) {
        const uint16_t *s = str16(p);
        for (int i = from; i < len; i++)
            if (s[i] == c)
                return i;
        return -1;
    }
    if (c & ~0xff)
        return -1;
    const uint8_t *s = str8(p), *found = skep_find_byte(s + from, s + len, c);
    return found == s + len ? -1 : found - s;
}

// Assumes 0 <= from <= p1->len.
static int string_indexof(JSString *p1, JSString *p2, int from)
{
    int len1 = p1->len, len2 = p2->len;
    if (len2 == 0)
        return from;
    if (len2 > len1 - from)
        return -1;
    if (!p1->is_wide_char && !p2->is_wide_char)
        return skep_indexof8(str8(p1), len1, str8(p2), len2, from);
    for (int i = from, c = string_get(p2, 0); i + len2 <= len1; i++) {
        i = string_indexof_char(p1, c, i);
        if (i < 0 || i + len2 > len1)
            break;
        if (!string_cmp(p1, p2, i + 1, 1, len2 - 1))
            return i;
    }
    return -1;
}

// `text.indexOf(needle, from)` and `includes`; -2: not for this short cut.
static inline int skep_search(int argc, JSValueConst *argv, JSValueConst this_val)
{
    JSString *p = skep_flat(this_val), *needle = argc > 0 ? skep_flat(argv[0]) : NULL;
    if (!p || !needle)
        return -2;
    int from = 0;
    if (argc > 1 && !JS_IsUndefined(argv[1])) {
        if (JS_VALUE_GET_TAG(argv[1]) != JS_TAG_INT)
            return -2;
        from = max_int(0, min_int(JS_VALUE_GET_INT(argv[1]), p->len));
    }
    return string_indexof(p, needle, from);
}

// Upper or lower case of 7-bit text. Undefined: there is another character in it.
static JSValue skep_ascii_case(JSContext *ctx, JSValueConst v, bool to_lower)
{
    JSString *p = JS_VALUE_GET_STRING(v);
    if (p->is_wide_char)
        return JS_UNDEFINED;
    const uint8_t *s = str8(p);
    uint32_t n = p->len;
    uint8_t first = to_lower ? 'A' : 'a', all = 0, changes = 0;
    for (uint32_t i = 0; i < n; i++) {
        all |= s[i];
        changes |= (uint8_t)(s[i] - first) < 26;
    }
    if (all & 0x80)
        return JS_UNDEFINED;
    if (!changes)
        return js_dup(v);
    JSString *q = js_alloc_string(ctx, n, 0);
    if (!q)
        return JS_EXCEPTION;
    s = str8(p);
    uint8_t *out = str8(q);
    for (uint32_t i = 0; i < n; i++)
        out[i] = s[i] ^ ((uint8_t)(s[i] - first) < 26 ? 0x20 : 0);
    out[n] = 0;
    return JS_MKPTR(JS_TAG_STRING, q);
}

enum { SKEP_CONCAT_MAX = 12 };

// `text.concat(…)`, which is also what a template literal calls, for short results of strings and numbers in one step.
// Undefined: not for this short cut.
static JSValue skep_concat(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv)
{
    struct { const void *at; uint32_t n; bool wide; } parts[SKEP_CONCAT_MAX + 1];
    char numbers[SKEP_CONCAT_MAX][32];
    if (argc > SKEP_CONCAT_MAX)
        return JS_UNDEFINED;
    uint32_t total = 0;
    bool wide = false;
    for (int i = -1; i < argc; i++) {
        JSValueConst v = i < 0 ? this_val : argv[i];
        JSString *p;
        switch (JS_VALUE_GET_NORM_TAG(v)) {
        case JS_TAG_STRING:
            p = JS_VALUE_GET_STRING(v);
            break;
        case JS_TAG_BOOL:
            p = ctx->rt->atom_array[JS_VALUE_GET_BOOL(v) ? JS_ATOM_true : JS_ATOM_false];
            break;
        case JS_TAG_NULL:
            p = ctx->rt->atom_array[JS_ATOM_null];
            break;
        case JS_TAG_UNDEFINED:
            p = ctx->rt->atom_array[JS_ATOM_undefined];
            break;
        case JS_TAG_INT:
            if (i < 0)
                return JS_UNDEFINED;
            parts[i + 1].at = numbers[i];
            parts[i + 1].wide = false;
            total += parts[i + 1].n = skep_i32toa(numbers[i], JS_VALUE_GET_INT(v));
            continue;
        case JS_TAG_FLOAT64:
            if (i < 0 || !(parts[i + 1].n = skep_short_double(numbers[i], JS_VALUE_GET_FLOAT64(v))))
                return JS_UNDEFINED;
            parts[i + 1].at = numbers[i];
            parts[i + 1].wide = false;
            total += parts[i + 1].n;
            continue;
        default:
            return JS_UNDEFINED;
        }
        if (i < 0 && JS_VALUE_GET_TAG(v) != JS_TAG_STRING)
            return JS_UNDEFINED;
        parts[i + 1].at = strv(p);
        parts[i + 1].n = p->len;
        parts[i + 1].wide = p->is_wide_char;
        wide |= p->is_wide_char;
        // Longer ones become ropes.
        if ((total += p->len) > JS_STRING_ROPE_SHORT2_LEN)
            return JS_UNDEFINED;
    }
    if (total == parts[0].n)
        return js_dup(this_val);
    JSString *q = js_alloc_string(ctx, total, wide);
    if (!q)
        return JS_EXCEPTION;
    if (!wide) {
        uint8_t *out = str8(q);
        for (int i = 0; i <= argc; i++) {
            memcpy(out, parts[i].at, parts[i].n);
            out += parts[i].n;
        }
        *out = 0;
    } else {
        uint16_t *out = str16(q);
        for (int i = 0; i <= argc; i++) {
            if (parts[i].wide)
                memcpy(out, parts[i].at, parts[i].n * 2);
            else
                for (uint32_t k = 0; k < parts[i].n; k++)
                    out[k] = ((const uint8_t *)parts[i].at)[k];
            out += parts[i].n;
        }
    }
    return JS_MKPTR(JS_TAG_STRING, q);
}

// Puts `v` at the end, `n`, of an array that nobody else has seen yet. Takes `v`.
static int skep_append(JSContext *ctx, JSValue array, uint32_t n, JSValue v)
{
    JSObject *p = JS_VALUE_GET_OBJ(array);
    if (n >= p->u.array.u1.size && expand_fast_array(ctx, p, n + 1)) {
        JS_FreeValue(ctx, v);
        return -1;
    }
    p->u.array.u.values[n] = v;
    p->u.array.count = n + 1;
    p->prop[0].u.value = js_int32(n + 1);
    return 0;
}

// The element at `i` of a fast array, when it is a string or an integer: written at the buffer's end without taking it
// out. 1: not of that kind, nothing written.
static inline int skep_join_element(StringBuffer *b, JSValueConst array, int64_t i)
{
    if (JS_VALUE_GET_TAG(array) != JS_TAG_OBJECT)
        return 1;
    JSObject *p = JS_VALUE_GET_OBJ(array);
    if (p->class_id != JS_CLASS_ARRAY || !p->fast_array || i >= p->u.array.count)
        return 1;
    JSValueConst v = safe_const(p->u.array.u.values[i]);
    uint32_t tag = JS_VALUE_GET_TAG(v);
    if (tag == JS_TAG_STRING) {
        JSString *s = JS_VALUE_GET_STRING(v);
        return string_buffer_concat(b, s, 0, s->len);
    }
    if (tag == JS_TAG_INT) {
        char text[12];
        return string_buffer_write8(b, (const uint8_t *)text, skep_i32toa(text, JS_VALUE_GET_INT(v)));
    }
    return 1;
}
