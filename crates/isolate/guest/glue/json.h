/**
 * JSON.parse of texts and JSON.stringify.
 *
 * Included by the engine (see xtask/src/quickjs/data.rs). The parser reads the string's characters where they are, keeps
 * its place in lists on the heap (a deeply nested text costs memory, not stack; too deep a one is a RangeError), and
 * guesses that an object has the keys of the one before it at its depth: then a key is one comparison and an object takes
 * its shape as a whole. It knows only correct texts. For everything else, and with a reviver, the engine's own parser
 * runs and finds the words.
 *
 * The writer does what the standard says, step by step, and takes short cuts where no code of the program can run:
 * plain data properties are read from their slots as long as the object keeps its shape.
 */

enum { JSON_DEPTHS = 16, JSON_SLOTS = 4, JSON_GUESS_KEYS = 64, JSON_DEEP = 400, JSON_DEEPEST = 100000 };

typedef enum { JSON_OK, JSON_THROWN, JSON_OTHER } JsonEnd;

typedef struct {
    uint32_t values, keys; // where its own begin
    JSShape *guess;        // not NULL: its keys so far are the first `matched` of this shape, and not on the list
    uint32_t matched;
    bool is_array;
} JsonLevel;

typedef struct {
    JSContext *ctx;
    JSValue *values;
    JSAtom *keys;
    JsonLevel *levels;
    int n_values, n_keys, n_levels;
    int max_values, max_keys, max_levels;
    JSShape *shapes[JSON_DEPTHS][JSON_SLOTS];
    uint8_t next_slot[JSON_DEPTHS];
} JsonParser;

static inline bool json_is_space(uint32_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline bool json_push(JsonParser *j, JSValue v)
{
    if (unlikely(j->n_values == j->max_values) && js_resize_array(j->ctx, (void **)&j->values, sizeof(JSValue), &j->max_values, j->n_values + 64)) {
        JS_FreeValue(j->ctx, v);
        return false;
    }
    j->values[j->n_values++] = v;
    return true;
}

static inline bool json_push_key(JsonParser *j, JSAtom key)
{
    if (unlikely(j->n_keys == j->max_keys) && js_resize_array(j->ctx, (void **)&j->keys, sizeof(JSAtom), &j->max_keys, j->n_keys + 64)) {
        JS_FreeAtom(j->ctx, key);
        return false;
    }
    j->keys[j->n_keys++] = key;
    return true;
}

// Gives up the guess: the keys that it stood for go to the list.
static bool json_unguess(JsonParser *j, JsonLevel *level)
{
    JSShape *shape = level->guess;
    level->guess = NULL;
    for (uint32_t i = 0; i < level->matched; i++)
        if (!json_push_key(j, JS_DupAtom(j->ctx, get_shape_prop(shape)[i].atom)))
            return false;
    return true;
}

// Whether objects of this shape can be recognized by the text of their keys.
static bool json_can_guess(JSContext *ctx, JSShape *shape)
{
    if (!shape->is_hashed || !shape->prop_count || shape->prop_count > JSON_GUESS_KEYS)
        return false;
    for (int i = 0; i < shape->prop_count; i++) {
        JSAtom atom = get_shape_prop(shape)[i].atom;
        if (atom == JS_ATOM_NULL || __JS_AtomIsTaggedInt(atom) || get_shape_prop(shape)[i].flags != JS_PROP_C_W_E)
            return false;
        JSString *p = ctx->rt->atom_array[atom];
        if (p->is_wide_char || skep_find_special(str8(p), str8(p) + p->len) != str8(p) + p->len)
            return false;
    }
    return true;
}

static void json_remember(JsonParser *j, int depth, JSShape *shape)
{
    JSShape **slots = j->shapes[depth % JSON_DEPTHS];
    for (int i = 0; i < JSON_SLOTS; i++)
        if (slots[i] == shape)
            return;
    if (!json_can_guess(j->ctx, shape))
        return;
    JSShape **slot = &slots[j->next_slot[depth % JSON_DEPTHS]++ % JSON_SLOTS];
    js_free_shape_null(j->ctx->rt, *slot);
    *slot = js_dup_shape(shape);
}

static JSValue json_make_object(JsonParser *j, JsonLevel *level)
{
    JSContext *ctx = j->ctx;
    JSValue *values = j->values + level->values;
    int n = j->n_values - level->values;
    if (level->guess) {
        if (level->matched == (uint32_t)level->guess->prop_count) {
            JSValue v = JS_NewObjectFromShape(ctx, js_dup_shape(level->guess), JS_CLASS_OBJECT, NULL);
            if (JS_IsException(v))
                return v;
            JSProperty *prop = JS_VALUE_GET_OBJ(v)->prop;
            for (int i = 0; i < n; i++)
                prop[i].u.value = values[i];
            j->n_values = level->values;
            return v;
        }
        if (!json_unguess(j, level))
            return JS_EXCEPTION;
    }
    JSValue v = JS_NewObject(ctx);
    if (JS_IsException(v))
        return v;
    JSObject *p = JS_VALUE_GET_OBJ(v);
    JSAtom *keys = j->keys + level->keys;
    for (int i = 0; i < n; i++) {
        JSProperty *pr;
        if (find_own_property(&pr, p, keys[i])) {
            set_value(ctx, &pr->u.value, values[i]);
        } else {
            pr = add_property(ctx, p, keys[i], JS_PROP_C_W_E);
            if (!pr) {
                JS_FreeValue(ctx, v);
                return JS_ThrowOutOfMemory(ctx);
            }
            pr->u.value = values[i];
        }
        values[i] = JS_UNDEFINED;
        JS_FreeAtom(ctx, keys[i]);
        keys[i] = JS_ATOM_NULL;
    }
    j->n_values = level->values;
    j->n_keys = level->keys;
    json_remember(j, j->n_levels, p->shape);
    return v;
}

static JSValue json_make_array(JsonParser *j, JsonLevel *level)
{
    JSContext *ctx = j->ctx;
    int n = j->n_values - level->values;
    JSValue v = JS_NewArray(ctx);
    if (JS_IsException(v) || !n)
        return v;
    JSObject *p = JS_VALUE_GET_OBJ(v);
    JSValue *values = js_malloc(ctx, n * sizeof(JSValue));
    if (!values) {
        JS_FreeValue(ctx, v);
        return JS_EXCEPTION;
    }
    memcpy(values, j->values + level->values, n * sizeof(JSValue));
    p->u.array.u.values = values;
    p->u.array.u1.size = n;
    p->u.array.count = n;
    p->prop[0].u.value = js_int32(n);
    j->n_values = level->values;
    return v;
}

static inline uint32_t json_at(const void *text, uint32_t i, bool wide)
{
    return wide ? ((const uint16_t *)text)[i] : ((const uint8_t *)text)[i];
}

// The end of the plain part of a string: a quote, a backslash, a control character or the end of the text.
static inline uint32_t json_plain_end(const void *text, uint32_t i, uint32_t n, bool wide)
{
    if (!wide)
        return skep_find_special((const uint8_t *)text + i, (const uint8_t *)text + n) - (const uint8_t *)text;
    const uint16_t *p = text;
    while (i < n && p[i] != '"' && p[i] != '\\' && p[i] >= 0x20)
        i++;
    return i;
}

static JSValue json_copy(JSContext *ctx, const void *text, uint32_t from, uint32_t to, bool wide)
{
    if (from == to)
        return js_empty_string(ctx->rt);
    if (!wide)
        return js_new_string8_len(ctx, (const char *)text + from, to - from);
    const uint16_t *p = (const uint16_t *)text + from;
    uint32_t n = to - from;
    uint16_t all = 0;
    for (uint32_t i = 0; i < n; i++)
        all |= p[i];
    if (all > 0xff)
        return js_new_string16_len(ctx, p, n);
    JSString *s = js_alloc_string(ctx, n, 0);
    if (!s)
        return JS_EXCEPTION;
    for (uint32_t i = 0; i < n; i++)
        str8(s)[i] = p[i];
    str8(s)[n] = 0;
    return JS_MKPTR(JS_TAG_STRING, s);
}

// A string with escapes; *at is behind its opening quote and moves behind its closing one. Undefined: not correct.
static no_inline JSValue json_escaped(JSContext *ctx, const void *text, uint32_t *at, uint32_t n, bool wide)
{
    StringBuffer b;
    if (string_buffer_init(ctx, &b, 32))
        return JS_EXCEPTION;
    uint32_t i = *at;
    for (;;) {
        uint32_t end = json_plain_end(text, i, n, wide);
        if (wide ? string_buffer_write16(&b, (const uint16_t *)text + i, end - i) : string_buffer_write8(&b, (const uint8_t *)text + i, end - i))
            return JS_EXCEPTION;
        i = end;
        if (i >= n)
            break;
        uint32_t c = json_at(text, i++, wide);
        if (c == '"') {
            *at = i;
            return string_buffer_end(&b);
        }
        if (c != '\\' || i >= n)
            break;
        c = json_at(text, i++, wide);
        switch (c) {
        case 'b': c = '\b'; break;
        case 'f': c = '\f'; break;
        case 'n': c = '\n'; break;
        case 'r': c = '\r'; break;
        case 't': c = '\t'; break;
        case '"': case '\\': case '/': break;
        case 'u':
            if (n - i < 4)
                goto bad;
            c = 0;
            for (int k = 0; k < 4; k++) {
                uint32_t digit = json_at(text, i++, wide);
                int h = digit < 128 ? from_hex(digit) : -1;
                if (h < 0)
                    goto bad;
                c = c << 4 | h;
            }
            break;
        default:
            goto bad;
        }
        if (string_buffer_putc16(&b, c))
            return JS_EXCEPTION;
    }
bad:
    string_buffer_free(&b);
    return JS_UNDEFINED;
}

// A number's value from its text when the short way is not exact.
static no_inline JSValue json_long_number(JSContext *ctx, const void *text, uint32_t from, uint32_t to, bool wide)
{
    char small[64], *s = small;
    uint32_t n = to - from;
    if (n >= sizeof(small) && !(s = js_malloc(ctx, n + 1)))
        return JS_EXCEPTION;
    for (uint32_t i = 0; i < n; i++)
        s[i] = json_at(text, from + i, wide);
    s[n] = 0;
    double d = strtod(s, NULL);
    if (s != small)
        js_free(ctx, s);
    return js_number(d);
}

// *at is at a minus or a digit. Undefined: not correct.
static inline JSValue json_number(JSContext *ctx, const void *text, uint32_t *at, uint32_t n, bool wide)
{
    uint32_t from = *at, i = from, c;
    bool negative = json_at(text, i, wide) == '-';
    i += negative;
    uint32_t first = i;
    uint64_t m = 0;
    while (i < n && (c = json_at(text, i, wide) - '0') <= 9) {
        m = m * 10 + c;
        i++;
    }
    uint32_t digits = i - first;
    if (!digits || (digits > 1 && json_at(text, first, wide) == '0'))
        return JS_UNDEFINED;
    c = i < n ? json_at(text, i, wide) : 0;
    if (c != '.' && c != 'e' && c != 'E' && digits <= 9) {
        *at = i;
        if (negative)
            return m ? js_int32(-(int32_t)m) : js_float64(-0.0);
        return js_int32(m);
    }
    int exponent = 0;
    if (c == '.') {
        uint32_t start = ++i;
        while (i < n && (c = json_at(text, i, wide) - '0') <= 9) {
            m = m * 10 + c;
            i++;
        }
        if (i == start)
            return JS_UNDEFINED;
        exponent = -(int)(i - start);
        digits += i - start;
        c = i < n ? json_at(text, i, wide) : 0;
    }
    if (c == 'e' || c == 'E') {
        i++;
        bool down = false;
        if (i < n && ((c = json_at(text, i, wide)) == '+' || c == '-')) {
            down = c == '-';
            i++;
        }
        uint32_t start = i;
        int e = 0;
        while (i < n && (c = json_at(text, i, wide) - '0') <= 9) {
            e = e < 100000 ? e * 10 + (int)c : e;
            i++;
        }
        if (i == start)
            return JS_UNDEFINED;
        exponent += down ? -e : e;
    }
    *at = i;
    // Exact: both operands are, and one operation rounds once.
    if (digits <= 19 && m <= 1ull << 53 && exponent >= -22 && exponent <= 22) {
        double d = m;
        d = exponent < 0 ? d / skep_powers[-exponent] : d * skep_powers[exponent];
        return js_number(negative ? -d : d);
    }
    return json_long_number(ctx, text, from, i, wide);
}

// Whether the key that begins at `i` is this atom's text and ends there. Guessed atoms are 8-bit and plain.
static inline bool json_key_is(JSContext *ctx, JSAtom atom, const void *text, uint32_t i, uint32_t n, bool wide)
{
    JSString *p = ctx->rt->atom_array[atom];
    uint32_t length = p->len;
    if (n - i <= length || json_at(text, i + length, wide) != '"')
        return false;
    const uint8_t *s = str8(p);
    if (!wide) {
        const uint8_t *t = (const uint8_t *)text + i;
        uint32_t k = 0;
        for (; length - k >= 8; k += 8)
            if (skep_load64(s + k) != skep_load64(t + k))
                return false;
        for (; k < length; k++)
            if (s[k] != t[k])
                return false;
        return true;
    }
    for (uint32_t k = 0; k < length; k++)
        if (s[k] != ((const uint16_t *)text)[i + k])
            return false;
    return true;
}

// Tries to keep guessing with the key at `i`. True: the key is guessed.
static inline bool json_guess(JsonParser *j, JsonLevel *level, const void *text, uint32_t i, uint32_t n, bool wide)
{
    JSContext *ctx = j->ctx;
    uint32_t matched = level->matched;
    JSShape *shape = level->guess;
    if (shape && matched < (uint32_t)shape->prop_count && json_key_is(ctx, get_shape_prop(shape)[matched].atom, text, i, n, wide))
        return true;
    // Another shape that begins like this one, or any when this is the first key.
    JSShape **slots = j->shapes[(j->n_levels - 1) % JSON_DEPTHS];
    for (int s = 0; s < JSON_SLOTS; s++) {
        JSShape *other = slots[s];
        if (!other || other == shape || matched >= (uint32_t)other->prop_count)
            continue;
        uint32_t k = 0;
        while (k < matched && get_shape_prop(other)[k].atom == get_shape_prop(shape)[k].atom)
            k++;
        if (k == matched && json_key_is(ctx, get_shape_prop(other)[matched].atom, text, i, n, wide)) {
            level->guess = other;
            return true;
        }
    }
    return false;
}

// The parser itself, once for 8-bit and once for 16-bit texts. On JSON_THROWN an exception is pending.
static __attribute__((always_inline)) inline JsonEnd json_run(JsonParser *j, const void *text, uint32_t n, bool wide, JSValue *result, uint32_t *where)
{
    JSContext *ctx = j->ctx;
    uint32_t i = 0, c;
    JSValue v;
    JsonLevel *level;

#define JSON_SKIP() \
    do { \
        while (i < n && json_is_space(c = json_at(text, i, wide))) \
            i++; \
        if (i >= n) \
            goto other; \
        c = json_at(text, i, wide); \
    } while (0)

value:
    JSON_SKIP();
    if (c == '"') {
        uint32_t from = ++i, end = json_plain_end(text, i, n, wide);
        if (likely(end < n && json_at(text, end, wide) == '"')) {
            v = json_copy(ctx, text, from, end, wide);
            i = end + 1;
        } else if (end < n && json_at(text, end, wide) == '\\') {
            v = json_escaped(ctx, text, &i, n, wide);
        } else {
            goto other;
        }
    } else if (c - '0' <= 9 || c == '-') {
        v = json_number(ctx, text, &i, n, wide);
    } else if (c == '{' || c == '[') {
        if (unlikely(j->n_levels == JSON_DEEPEST)) {
            JS_ThrowStackOverflow(ctx);
            goto thrown;
        }
        if (unlikely(j->n_levels == j->max_levels) && js_resize_array(ctx, (void **)&j->levels, sizeof(JsonLevel), &j->max_levels, j->n_levels + 16))
            goto thrown;
        i++;
        j->levels[j->n_levels++] = (JsonLevel){ .values = j->n_values, .keys = j->n_keys, .is_array = c == '[' };
        if (c == '[') {
            JSON_SKIP();
            if (c == ']')
                goto close;
            goto value;
        }
        JSON_SKIP();
        if (c == '}')
            goto close;
        goto key;
    } else if (c == 't' && n - i >= 4 && json_at(text, i + 1, wide) == 'r' && json_at(text, i + 2, wide) == 'u' && json_at(text, i + 3, wide) == 'e') {
        v = JS_TRUE;
        i += 4;
    } else if (c == 'n' && n - i >= 4 && json_at(text, i + 1, wide) == 'u' && json_at(text, i + 2, wide) == 'l' && json_at(text, i + 3, wide) == 'l') {
        v = JS_NULL;
        i += 4;
    } else if (c == 'f' && n - i >= 5 && json_at(text, i + 1, wide) == 'a' && json_at(text, i + 2, wide) == 'l' && json_at(text, i + 3, wide) == 's' && json_at(text, i + 4, wide) == 'e') {
        v = JS_FALSE;
        i += 5;
    } else {
        goto other;
    }
    if (unlikely(JS_IsException(v)))
        goto thrown;
    if (unlikely(JS_IsUndefined(v)))
        goto other;

have:
    if (!j->n_levels) {
        while (i < n && json_is_space(json_at(text, i, wide)))
            i++;
        if (i < n) {
            JS_FreeValue(ctx, v);
            goto other;
        }
        *result = v;
        return JSON_OK;
    }
    if (!json_push(j, v))
        goto thrown;
    level = &j->levels[j->n_levels - 1];
    JSON_SKIP();
    i++;
    if (level->is_array) {
        if (c == ',')
            goto value;
        if (c != ']')
            goto other;
        i--;
        goto close;
    }
    if (c == '}') {
        i--;
        goto close;
    }
    if (c != ',')
        goto other;
    JSON_SKIP();

key:
    if (c != '"')
        goto other;
    i++;
    level = &j->levels[j->n_levels - 1];
    // Keys are guessed as long as every one before was.
    if (level->keys == (uint32_t)j->n_keys && json_guess(j, level, text, i, n, wide)) {
        i += ctx->rt->atom_array[get_shape_prop(level->guess)[level->matched++].atom]->len + 1;
    } else {
        if (level->guess && !json_unguess(j, level))
            goto thrown;
        JSAtom atom = JS_ATOM_NULL;
        uint32_t end = json_plain_end(text, i, n, wide);
        if (end >= n)
            goto other;
        bool plain = json_at(text, end, wide) == '"';
        if (plain && !wide && end > i && !is_digit(json_at(text, i, wide)))
            atom = __JS_FindAtom(ctx->rt, (const char *)text + i, end - i, JS_ATOM_TYPE_STRING);
        if (atom == JS_ATOM_NULL) {
            v = plain ? json_copy(ctx, text, i, end, wide) : json_escaped(ctx, text, &i, n, wide);
            if (JS_IsException(v))
                goto thrown;
            if (JS_IsUndefined(v))
                goto other;
            atom = JS_NewAtomStr(ctx, JS_VALUE_GET_STRING(v));
            if (atom == JS_ATOM_NULL) {
                JS_ThrowOutOfMemory(ctx);
                goto thrown;
            }
        }
        if (plain)
            i = end + 1;
        if (!json_push_key(j, atom))
            goto thrown;
    }
    JSON_SKIP();
    if (c != ':')
        goto other;
    i++;
    goto value;

close:
    i++;
    level = &j->levels[--j->n_levels];
    v = level->is_array ? json_make_array(j, level) : json_make_object(j, level);
    if (JS_IsException(v)) {
        j->n_levels++;
        goto thrown;
    }
    goto have;

other:
    *where = i;
    return JSON_OTHER;
thrown:
    return JSON_THROWN;
#undef JSON_SKIP
}

static no_inline JsonEnd json_run8(JsonParser *j, JSString *p, JSValue *result, uint32_t *where)
{
    return json_run(j, str8(p), p->len, false, result, where);
}

static no_inline JsonEnd json_run16(JsonParser *j, JSString *p, JSValue *result, uint32_t *where)
{
    return json_run(j, str16(p), p->len, true, result, where);
}

// JSON_OTHER: the text is not correct, and the engine's parser says in which way.
static JsonEnd skep_json_parse(JSContext *ctx, JSString *p, JSValue *result)
{
    JsonParser parser = { .ctx = ctx }, *j = &parser;
    uint32_t where = 0;
    JsonEnd end = p->is_wide_char ? json_run16(j, p, result, &where) : json_run8(j, p, result, &where);
    // The engine's parser recurses, and could not get to where this one came.
    if (end == JSON_OTHER && j->n_levels > JSON_DEEP) {
        if (where >= p->len)
            JS_ThrowSyntaxError(ctx, "Unexpected end of JSON input");
        else
            JS_ThrowSyntaxError(ctx, "Unexpected token in JSON at position %u", where);
        end = JSON_THROWN;
    }
    for (int i = 0; i < j->n_values; i++)
        JS_FreeValue(ctx, j->values[i]);
    for (int i = 0; i < j->n_keys; i++)
        JS_FreeAtom(ctx, j->keys[i]);
    for (int d = 0; d < JSON_DEPTHS; d++)
        for (int s = 0; s < JSON_SLOTS; s++)
            js_free_shape_null(ctx->rt, j->shapes[d][s]);
    js_free(ctx, j->values);
    js_free(ctx, j->keys);
    js_free(ctx, j->levels);
    return end;
}

// Writing.

// Levels of nesting that are written; one more is a RangeError, before the native stack ends.
enum { JSON_WRITE_DEPTH = 2000 };

typedef struct JsonFrame {
    const struct JsonFrame *up;
    JSObject *object;
} JsonFrame;

typedef struct {
    JSContext *ctx;
    StringBuffer b;
    JSValueConst replacer; // a function or undefined
    JSValue list;          // an array of keys or undefined
    JSValue gap;
    int gap_length, depth;
    // Prototypes of which it is known that no toJSON is found on them or behind them; NULL after the program's code ran.
    JSObject *clean[2];
} JsonWriter;

static inline void json_ran(JsonWriter *w)
{
    w->clean[0] = w->clean[1] = NULL;
}

static inline char *json_room(JsonWriter *w, int n)
{
    if (unlikely(w->b.len + n > w->b.size) && string_buffer_realloc(&w->b, w->b.len + n, 0))
        return NULL;
    return (char *)str8(w->b.str) + w->b.len;
}

static inline int json_put(JsonWriter *w, char c)
{
    return string_buffer_putc8(&w->b, (uint8_t)c);
}

static no_inline int json_newline(JsonWriter *w)
{
    JSString *gap = JS_VALUE_GET_STRING(w->gap);
    if (json_put(w, '\n'))
        return -1;
    for (int i = 0; i < w->depth; i++)
        if (string_buffer_concat(&w->b, gap, 0, gap->len))
            return -1;
    return 0;
}

static int json_escape(char *out, uint32_t c)
{
    static const char hex[] = "0123456789abcdef";
    char letter = 0;
    switch (c) {
    case '\t': letter = 't'; break;
    case '\r': letter = 'r'; break;
    case '\n': letter = 'n'; break;
    case '\b': letter = 'b'; break;
    case '\f': letter = 'f'; break;
    case '"': case '\\': letter = c; break;
    }
    out[0] = '\\';
    if (letter) {
        out[1] = letter;
        return 2;
    }
    out[1] = 'u';
    for (int i = 0; i < 4; i++)
        out[2 + i] = hex[c >> (12 - 4 * i) & 15];
    return 6;
}

// In 16-bit characters, on either side: in runs that need no escape.
static no_inline int json_quote_wide(JsonWriter *w, JSString *p)
{
    char escape[6];
    if (json_put(w, '"'))
        return -1;
    uint32_t n = p->len, from = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t c = string_get(p, i);
        if (c == '"' || c == '\\' || c < 0x20 || is_surrogate(c)) {
            if (is_hi_surrogate(c) && i + 1 < n && is_lo_surrogate(string_get(p, i + 1))) {
                i++;
                continue;
            }
            if (string_buffer_concat(&w->b, p, from, i) || string_buffer_write8(&w->b, (uint8_t *)escape, json_escape(escape, c)))
                return -1;
            from = i + 1;
        }
    }
    if (string_buffer_concat(&w->b, p, from, n))
        return -1;
    return json_put(w, '"');
}

static int json_quote(JsonWriter *w, JSString *p)
{
    if (unlikely(p->is_wide_char || w->b.is_wide_char))
        return json_quote_wide(w, p);
    int n = p->len;
    // 16 more than needed, so that a block may be written whole before it is known how much of it counts.
    char *out = json_room(w, n + 18);
    if (!out)
        return -1;
    const uint8_t *s = str8(p), *end = s + n;
    char *start = out;
    *out++ = '"';
    for (;;) {
        const uint8_t *stop = s;
#ifdef __wasm_simd128__
        uint32_t mask = 0;
        while (end - stop >= 16) {
            v128_t block = wasm_v128_load(stop);
            wasm_v128_store(out + (stop - s), block);
            mask = skep_json_specials(block);
            if (mask)
                break;
            stop += 16;
        }
        if (mask) {
            stop += __builtin_ctz(mask);
            out += stop - s;
        } else {
            out += stop - s;
            while (stop < end && *stop != '"' && *stop != '\\' && *stop >= 0x20)
                *out++ = *stop++;
        }
#else
        while (stop < end && *stop != '"' && *stop != '\\' && *stop >= 0x20)
            *out++ = *stop++;
#endif
        s = stop;
        if (s == end)
            break;
        w->b.len += out - start;
        out = start = json_room(w, (end - s) + 6 + 18);
        if (!out)
            return -1;
        out += json_escape(out, *s++);
    }
    *out++ = '"';
    w->b.len += out - start;
    return 0;
}

static int json_write_double(JsonWriter *w, double d)
{
    char text[SKEP_DOUBLE_TEXT_MAX];
    if (!isfinite(d))
        return string_buffer_write8(&w->b, (const uint8_t *)"null", 4);
    return string_buffer_write8(&w->b, (const uint8_t *)text, skep_dtoa(text, d));
}

static inline int json_write_int(JsonWriter *w, int32_t n)
{
    char text[12];
    return string_buffer_write8(&w->b, (const uint8_t *)text, skep_i32toa(text, n));
}

// Whether `toJSON` is found neither on the object nor behind it, and looking runs no code.
static bool json_clean(JsonWriter *w, JSObject *p)
{
    bool is_array = p->class_id == JS_CLASS_ARRAY;
    for (JSObject *o = p; o; o = o->shape->proto) {
        if (o != p && o == w->clean[is_array])
            return true;
        if (o->is_exotic && o->class_id != JS_CLASS_ARRAY)
            return false;
        if (find_own_property1(o, JS_ATOM_toJSON))
            return false;
    }
    w->clean[is_array] = p->shape->proto;
    return true;
}

// A property's key as the string that toJSON and the replacer get: an atom, or an index where that is null.
static JSValue json_key(JSContext *ctx, JSAtom atom, int64_t index)
{
    return atom == JS_ATOM_NULL ? JS_ToStringFree(ctx, js_int64(index)) : JS_AtomToString(ctx, atom);
}

// What is written for a property: after toJSON and the replacer; undefined when it has no text. Takes `v`.
static JSValue json_prepare(JsonWriter *w, JSValueConst holder, JSAtom atom, int64_t index, JSValue v)
{
    JSContext *ctx = w->ctx;
    if ((JS_IsObject(v) && !json_clean(w, JS_VALUE_GET_OBJ(v))) || JS_IsBigInt(v)) {
        json_ran(w);
        JSValue f = JS_GetProperty(ctx, v, JS_ATOM_toJSON);
        if (JS_IsException(f))
            goto thrown;
        if (JS_IsFunction(ctx, f)) {
            JSValue key = json_key(ctx, atom, index);
            if (JS_IsException(key)) {
                JS_FreeValue(ctx, f);
                goto thrown;
            }
            JSValue r = JS_CallFree(ctx, f, v, 1, vc(&key));
            JS_FreeValue(ctx, key);
            JS_FreeValue(ctx, v);
            v = r;
            if (JS_IsException(v))
                return v;
        } else {
            JS_FreeValue(ctx, f);
        }
    }
    if (!JS_IsUndefined(w->replacer)) {
        json_ran(w);
        JSValue key = json_key(ctx, atom, index);
        if (JS_IsException(key))
            goto thrown;
        JSValueConst args[2] = { safe_const(key), safe_const(v) };
        JSValue r = JS_Call(ctx, w->replacer, holder, 2, args);
        JS_FreeValue(ctx, key);
        JS_FreeValue(ctx, v);
        v = r;
        if (JS_IsException(v))
            return v;
    }
    switch (JS_VALUE_GET_NORM_TAG(v)) {
    case JS_TAG_OBJECT:
        if (JS_IsFunction(ctx, v))
            break;
        return v;
    case JS_TAG_STRING:
    case JS_TAG_STRING_ROPE:
    case JS_TAG_INT:
    case JS_TAG_FLOAT64:
    case JS_TAG_BOOL:
    case JS_TAG_NULL:
    case JS_TAG_SHORT_BIG_INT:
    case JS_TAG_BIG_INT:
        return v;
    default:
        break;
    }
    JS_FreeValue(ctx, v);
    return JS_UNDEFINED;
thrown:
    JS_FreeValue(ctx, v);
    return JS_EXCEPTION;
}

// A value that is no object and has a text, borrowed. 1: not of that kind, nothing written.
static inline int json_primitive(JsonWriter *w, JSValueConst v)
{
    switch (JS_VALUE_GET_NORM_TAG(v)) {
    case JS_TAG_STRING:
        return json_quote(w, JS_VALUE_GET_STRING(v));
    case JS_TAG_INT:
        return json_write_int(w, JS_VALUE_GET_INT(v));
    case JS_TAG_BOOL:
        return JS_VALUE_GET_BOOL(v) ? string_buffer_write8(&w->b, (const uint8_t *)"true", 4) : string_buffer_write8(&w->b, (const uint8_t *)"false", 5);
    case JS_TAG_NULL:
        return string_buffer_write8(&w->b, (const uint8_t *)"null", 4);
    case JS_TAG_FLOAT64:
        return json_write_double(w, JS_VALUE_GET_FLOAT64(v));
    default:
        return 1;
    }
}

static int json_write_object(JsonWriter *w, JSValueConst v, const JsonFrame *up);

// What json_prepare returned, but not undefined. Takes `v`.
static int json_write(JsonWriter *w, JSValue v, const JsonFrame *up)
{
    JSContext *ctx = w->ctx;
    if (JS_IsObject(v)) {
        JSObject *p = JS_VALUE_GET_OBJ(v);
        switch (p->class_id) {
        case JS_CLASS_STRING:
            json_ran(w);
            v = JS_ToStringFree(ctx, v);
            break;
        case JS_CLASS_NUMBER:
            json_ran(w);
            v = JS_ToNumberFree(ctx, v);
            break;
        case JS_CLASS_BOOLEAN:
        case JS_CLASS_BIG_INT:
            set_value(ctx, &v, js_dup(p->u.object_data));
            break;
        case JS_CLASS_RAWJSON: {
            JSValue raw = JS_GetProperty(ctx, v, JS_ATOM_rawJSON);
            JS_FreeValue(ctx, v);
            if (JS_IsException(raw))
                return -1;
            return string_buffer_concat_value_free(&w->b, raw);
        }
        default: {
            int r = json_write_object(w, v, up);
            JS_FreeValue(ctx, v);
            return r;
        }
        }
        if (JS_IsException(v))
            return -1;
    }
    if (JS_VALUE_GET_TAG(v) == JS_TAG_STRING_ROPE) {
        v = JS_ToStringFree(ctx, v);
        if (JS_IsException(v))
            return -1;
    }
    int r = json_primitive(w, v);
    if (r == 1) {
        // Only a BigInt is left, or what a wrapper object's own valueOf made of it.
        r = 0;
        if (JS_IsBigInt(v)) {
            JS_ThrowTypeError(ctx, "BigInt are forbidden in JSON.stringify");
            r = -1;
        }
    }
    JS_FreeValue(ctx, v);
    return r;
}

static int json_array(JsonWriter *w, JSValueConst v, const JsonFrame *frame)
{
    JSContext *ctx = w->ctx;
    JSObject *p = JS_VALUE_GET_OBJ(v);
    int64_t n;
    if (p->class_id == JS_CLASS_ARRAY && p->fast_array) {
        n = JS_VALUE_GET_TAG(p->prop[0].u.value) == JS_TAG_INT ? JS_VALUE_GET_INT(p->prop[0].u.value) : -1;
        if (n < 0 && js_get_length64(ctx, &n, v))
            return -1;
    } else {
        json_ran(w);
        if (js_get_length64(ctx, &n, v))
            return -1;
    }
    if (json_put(w, '['))
        return -1;
    w->depth++;
    for (int64_t i = 0; i < n; i++) {
        if (i > 0 && json_put(w, ','))
            return -1;
        if (w->gap_length && json_newline(w))
            return -1;
        JSValue item;
        if (p->class_id == JS_CLASS_ARRAY && p->fast_array && i < p->u.array.count) {
            if (JS_IsUndefined(w->replacer)) {
                int r = json_primitive(w, safe_const(p->u.array.u.values[i]));
                if (r < 0)
                    return -1;
                if (!r)
                    continue;
            }
            item = js_dup(p->u.array.u.values[i]);
        } else {
            json_ran(w);
            item = JS_GetPropertyInt64(ctx, v, i);
            if (JS_IsException(item))
                return -1;
        }
        item = json_prepare(w, v, JS_ATOM_NULL, i, item);
        if (JS_IsException(item))
            return -1;
        if (JS_IsUndefined(item))
            item = JS_NULL;
        if (json_write(w, item, frame))
            return -1;
    }
    w->depth--;
    if (n > 0 && w->gap_length && json_newline(w))
        return -1;
    return json_put(w, ']');
}

// The comma, the line and the key before a property's value.
static inline int json_begin(JsonWriter *w, JSString *key, bool *has_content)
{
    if (*has_content && json_put(w, ','))
        return -1;
    *has_content = true;
    if (w->gap_length && json_newline(w))
        return -1;
    if (json_quote(w, key) || json_put(w, ':'))
        return -1;
    return w->gap_length ? json_put(w, ' ') : 0;
}

// Properties by a list of keys: the replacer's, or the object's own where its slots cannot simply be read.
static int json_listed(JsonWriter *w, JSValueConst v, const JsonFrame *frame, bool *has_content)
{
    JSContext *ctx = w->ctx;
    json_ran(w);
    JSValue keys = JS_IsUndefined(w->list) ? js_object_keys(ctx, JS_UNDEFINED, 1, &v, JS_ITERATOR_KIND_KEY) : js_dup(w->list);
    if (JS_IsException(keys))
        return -1;
    int64_t n;
    int r = -1;
    if (js_get_length64(ctx, &n, keys))
        goto done;
    for (int64_t i = 0; i < n; i++) {
        JSValue key = JS_GetPropertyInt64(ctx, keys, i);
        if (JS_IsException(key))
            goto done;
        JSAtom atom = JS_ValueToAtom(ctx, key);
        key = JS_ToStringFree(ctx, key);
        JSValue item = atom == JS_ATOM_NULL || JS_IsException(key) ? JS_EXCEPTION : JS_GetProperty(ctx, v, atom);
        json_ran(w);
        if (!JS_IsException(item))
            item = json_prepare(w, v, atom, 0, item);
        JS_FreeAtom(ctx, atom);
        bool failed = JS_IsException(item);
        if (!failed && !JS_IsUndefined(item)) {
            if (json_begin(w, JS_VALUE_GET_STRING(key), has_content)) {
                JS_FreeValue(ctx, item);
                failed = true;
            } else {
                failed = json_write(w, item, frame) != 0;
            }
        }
        JS_FreeValue(ctx, key);
        if (failed)
            goto done;
    }
    r = 0;
done:
    JS_FreeValue(ctx, keys);
    return r;
}

// Properties by the object's shape, which is held, so that it stays what it was when the writing began.
static int json_shaped(JsonWriter *w, JSValueConst v, JSShape *shape, const JsonFrame *frame, bool *has_content)
{
    JSContext *ctx = w->ctx;
    JSObject *p = JS_VALUE_GET_OBJ(v);
    for (int i = 0; i < shape->prop_count; i++) {
        JSShapeProperty *prs = &get_shape_prop(shape)[i];
        JSAtom atom = prs->atom;
        if (!(prs->flags & JS_PROP_ENUMERABLE) || atom == JS_ATOM_NULL)
            continue;
        JSString *key = ctx->rt->atom_array[atom];
        if (key->atom_type != JS_ATOM_TYPE_STRING)
            continue;
        JSValue item;
        if (likely(p->shape == shape && !(prs->flags & JS_PROP_TMASK))) {
            JSValueConst slot = safe_const(p->prop[i].u.value);
            uint32_t tag = JS_VALUE_GET_NORM_TAG(slot);
            if (JS_IsUndefined(w->replacer) && (tag == JS_TAG_STRING || tag == JS_TAG_INT || tag == JS_TAG_BOOL || tag == JS_TAG_NULL || tag == JS_TAG_FLOAT64)) {
                if (json_begin(w, key, has_content) || json_primitive(w, slot))
                    return -1;
                continue;
            }
            item = js_dup(slot);
        } else {
            json_ran(w);
            item = JS_GetProperty(ctx, v, atom);
            if (JS_IsException(item))
                return -1;
        }
        item = json_prepare(w, v, atom, 0, item);
        if (JS_IsException(item))
            return -1;
        if (JS_IsUndefined(item))
            continue;
        if (json_begin(w, key, has_content)) {
            JS_FreeValue(ctx, item);
            return -1;
        }
        if (json_write(w, item, frame))
            return -1;
    }
    return 0;
}

// Whether an object's keys can be taken from its shape: no index among them (those come first, in numeric order), and
// nobody changes the shape in place (which happens to those that are not shared by hash).
static bool json_is_shaped(JSObject *p)
{
    if (p->is_exotic || !p->shape->is_hashed)
        return false;
    for (int i = 0; i < p->shape->prop_count; i++)
        if (__JS_AtomIsTaggedInt(get_shape_prop(p->shape)[i].atom))
            return false;
    return true;
}

static no_inline int json_write_object(JsonWriter *w, JSValueConst v, const JsonFrame *up)
{
    JSContext *ctx = w->ctx;
    if (w->depth >= JSON_WRITE_DEPTH || js_check_stack_overflow(ctx->rt, 1000)) {
        JS_ThrowStackOverflow(ctx);
        return -1;
    }
    JsonFrame frame = { up, JS_VALUE_GET_OBJ(v) };
    for (const JsonFrame *f = up; f; f = f->up)
        if (f->object == frame.object) {
            JS_ThrowTypeError(ctx, "circular reference");
            return -1;
        }
    int is_array = frame.object->class_id == JS_CLASS_ARRAY ? 1 : js_is_array(ctx, v);
    if (is_array < 0)
        return -1;
    if (is_array)
        return json_array(w, v, &frame);
    bool has_content = false;
    if (json_put(w, '{'))
        return -1;
    w->depth++;
    int r;
    if (JS_IsUndefined(w->list) && json_is_shaped(frame.object)) {
        JSShape *shape = js_dup_shape(frame.object->shape);
        r = json_shaped(w, v, shape, &frame, &has_content);
        js_free_shape(ctx->rt, shape);
    } else {
        r = json_listed(w, v, &frame, &has_content);
    }
    w->depth--;
    if (r || (has_content && w->gap_length && json_newline(w)))
        return -1;
    return json_put(w, '}');
}

// The keys that a replacer array names, each once.
static JSValue json_replacer_list(JSContext *ctx, JSValueConst replacer)
{
    int64_t n, at = 0;
    JSValue list = JS_NewArray(ctx);
    if (JS_IsException(list) || js_get_length64(ctx, &n, replacer))
        goto thrown;
    for (int64_t i = 0; i < n; i++) {
        JSValue v = JS_GetPropertyInt64(ctx, replacer, i);
        if (JS_IsException(v))
            goto thrown;
        bool wrapped = JS_IsObject(v) && (JS_VALUE_GET_OBJ(v)->class_id == JS_CLASS_STRING || JS_VALUE_GET_OBJ(v)->class_id == JS_CLASS_NUMBER);
        if (!wrapped && !JS_IsNumber(v) && !JS_IsString(v)) {
            JS_FreeValue(ctx, v);
            continue;
        }
        v = JS_ToStringFree(ctx, v);
        if (JS_IsException(v))
            goto thrown;
        JSValue present = js_array_includes(ctx, list, 1, vc(&v));
        if (JS_IsException(present)) {
            JS_FreeValue(ctx, v);
            goto thrown;
        }
        if (JS_ToBoolFree(ctx, present))
            JS_FreeValue(ctx, v);
        else if (JS_SetPropertyInt64(ctx, list, at++, v) < 0)
            goto thrown;
    }
    return list;
thrown:
    JS_FreeValue(ctx, list);
    return JS_EXCEPTION;
}

// The text of one level of indentation.
static JSValue json_gap(JSContext *ctx, JSValueConst space)
{
    JSValue v = js_dup(space);
    if (JS_IsObject(v)) {
        JSClassID class_id = JS_VALUE_GET_OBJ(v)->class_id;
        if (class_id == JS_CLASS_NUMBER)
            v = JS_ToNumberFree(ctx, v);
        else if (class_id == JS_CLASS_STRING)
            v = JS_ToStringFree(ctx, v);
        if (JS_IsException(v))
            return v;
    }
    JSValue gap;
    if (JS_IsNumber(v)) {
        int n;
        if (JS_ToInt32Clamp(ctx, &n, v, 0, 10, 0))
            gap = JS_EXCEPTION;
        else
            gap = JS_NewStringLen(ctx, "          ", n);
    } else if (JS_IsString(v)) {
        v = JS_ToStringFree(ctx, v);
        if (JS_IsException(v))
            return v;
        JSString *p = JS_VALUE_GET_STRING(v);
        gap = js_sub_string(ctx, p, 0, min_int(p->len, 10));
    } else {
        gap = js_empty_string(ctx->rt);
    }
    JS_FreeValue(ctx, v);
    return gap;
}

JSValue JS_JSONStringify(JSContext *ctx, JSValueConst obj, JSValueConst replacer, JSValueConst space)
{
    JsonWriter writer = { .ctx = ctx, .replacer = JS_UNDEFINED, .list = JS_UNDEFINED, .gap = JS_UNDEFINED }, *w = &writer;
    JSValue result = JS_EXCEPTION, holder = JS_UNDEFINED;
    w->b.ctx = ctx;
    if (JS_IsFunction(ctx, replacer)) {
        w->replacer = replacer;
    } else if (JS_IsObject(replacer)) {
        int is_array = js_is_array(ctx, replacer);
        if (is_array < 0)
            goto done;
        if (is_array) {
            w->list = json_replacer_list(ctx, replacer);
            if (JS_IsException(w->list))
                goto done;
        }
    }
    if (!JS_IsUndefined(space)) {
        w->gap = json_gap(ctx, space);
        if (JS_IsException(w->gap))
            goto done;
        w->gap_length = JS_VALUE_GET_STRING(w->gap)->len;
    }
    if (!JS_IsUndefined(w->replacer)) {
        holder = JS_NewObject(ctx);
        if (JS_IsException(holder) || JS_DefinePropertyValue(ctx, holder, JS_ATOM_empty_string, js_dup(obj), JS_PROP_C_W_E) < 0)
            goto done;
    }
    JSValue v = json_prepare(w, holder, JS_ATOM_empty_string, 0, js_dup(obj));
    if (JS_IsException(v))
        goto done;
    if (JS_IsUndefined(v)) {
        result = v;
        goto done;
    }
    if (string_buffer_init(ctx, &w->b, 128)) {
        JS_FreeValue(ctx, v);
        goto done;
    }
    if (!json_write(w, v, NULL))
        result = string_buffer_end(&w->b);
    if (JS_IsException(result))
        string_buffer_free(&w->b);
done:
    JS_FreeValue(ctx, holder);
    JS_FreeValue(ctx, w->gap);
    JS_FreeValue(ctx, w->list);
    return result;
}
