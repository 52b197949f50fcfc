/**
 * The tables behind Map, Set, WeakMap and WeakSet: finding, adding and deleting records.
 *
 * Included by the engine in place of its own (see xtask/src/quickjs/data.rs); everything above the tables — methods,
 * iterators, Set algebra — is the engine's. Records are listed in order of insertion, and hang in chains off a table of
 * a power of two that doubles when there are as many records. Each record keeps its key's hash.
 *
 * Keys are hostile: chains are as long as the keys' author likes, and the CPU limit ends the search.
 */

// The key as it is kept: one representation for each number, no -0, no rope. Owned by nobody: numbers are not counted,
// and a rope's text is held by the rope (see map_key).
static JSValue map_normalize_key(JSContext *ctx, JSValue key)
{
    if (JS_TAG_IS_FLOAT64(JS_VALUE_GET_TAG(key))) {
        double d = JS_VALUE_GET_FLOAT64(key);
        if (d >= INT32_MIN && d <= INT32_MAX && d == (int32_t)d)
            return js_int32(d);
        if (isnan(d))
            return JS_NAN;
    }
    return key;
}

static JSValueConst map_normalize_key_const(JSContext *ctx, JSValueConst key)
{
    return safe_const(map_normalize_key(ctx, unsafe_unconst(key)));
}

static inline uint32_t map_mix(uint32_t a)
{
    return (uint32_t)(((uint64_t)a * SKEP_HASH_K) >> 32);
}

static uint32_t map_hash_rope(JSValueConst rope)
{
    // Reached only without memory for the flat text: one chain for all of them.
    return string_rope_get_len(rope);
}

static inline uint32_t map_hash_key(JSContext *ctx, JSValueConst key)
{
    uint32_t tag = JS_VALUE_GET_NORM_TAG(key);
    switch (tag) {
    case JS_TAG_INT:
        return map_mix(JS_VALUE_GET_INT(key));
    case JS_TAG_STRING:
        return map_mix(skep_string_hash(JS_VALUE_GET_STRING(key)));
    case JS_TAG_OBJECT:
    case JS_TAG_SYMBOL:
        return map_mix((uintptr_t)JS_VALUE_GET_PTR(key) >> 3);
    case JS_TAG_FLOAT64: {
        JSFloat64Union u = { .d = JS_VALUE_GET_FLOAT64(key) };
        return map_mix(u.u32[0] ^ (u.u32[1] * 0x85EBCA6Bu));
    }
    case JS_TAG_STRING_ROPE:
        return map_hash_rope(key);
    case JS_TAG_SHORT_BIG_INT:
        return map_mix((uint32_t)JS_VALUE_GET_SHORT_BIG_INT(key) ^ 0x5bd1e995);
    case JS_TAG_BIG_INT: {
        JSBigInt *r = JS_VALUE_GET_PTR(key);
        return map_mix(hash_string8((void *)r->tab, r->len * sizeof(*r->tab), 0));
    }
    default:
        return map_mix(tag ^ (tag == JS_TAG_BOOL ? JS_VALUE_GET_BOOL(key) << 8 : 0));
    }
}

static inline bool map_same_key(JSContext *ctx, JSValueConst a, JSValueConst b)
{
    uint32_t tag = JS_VALUE_GET_NORM_TAG(a);
    if (tag != JS_VALUE_GET_NORM_TAG(b))
        return (tag == JS_TAG_STRING_ROPE || JS_VALUE_GET_NORM_TAG(b) == JS_TAG_STRING_ROPE) && js_same_value_zero(ctx, a, b);
    switch (tag) {
    case JS_TAG_INT:
        return JS_VALUE_GET_INT(a) == JS_VALUE_GET_INT(b);
    case JS_TAG_OBJECT:
    case JS_TAG_SYMBOL:
        return JS_VALUE_GET_PTR(a) == JS_VALUE_GET_PTR(b);
    case JS_TAG_STRING: {
        JSString *p = JS_VALUE_GET_STRING(a), *q = JS_VALUE_GET_STRING(b);
        return p == q || js_string_eq(p, q);
    }
    default:
        return js_same_value_zero(ctx, a, b);
    }
}

static inline JSMapRecord *map_find_hashed(JSContext *ctx, JSMapState *s, JSValueConst key, uint32_t hash)
{
    if (!s->record_count)
        return NULL;
    for (JSMapRecord *mr = s->hash_table[hash >> s->hash_shift]; mr; mr = mr->hash_next)
        if (mr->hash == hash && map_same_key(ctx, mr->key, key))
            return mr;
    return NULL;
}

// A rope is looked up by its flat text, which the rope then keeps, so that the next look-up does not make it again.
// *owned is what the caller frees.
static inline JSValueConst map_key(JSContext *ctx, JSValueConst key, JSValue *owned)
{
    *owned = JS_UNDEFINED;
    if (unlikely(JS_VALUE_GET_TAG(key) == JS_TAG_STRING_ROPE)) {
        JSValue flat = js_linearize_string_rope(ctx, key);
        if (JS_IsException(flat)) {
            JS_FreeValue(ctx, JS_GetException(ctx));
            return key;
        }
        *owned = flat;
        return safe_const(flat);
    }
    return key;
}

static JSMapRecord *map_find_record(JSContext *ctx, JSMapState *s, JSValueConst key)
{
    JSValue owned;
    key = map_key(ctx, key, &owned);
    JSMapRecord *mr = map_find_hashed(ctx, s, key, map_hash_key(ctx, key));
    JS_FreeValue(ctx, owned);
    return mr;
}

// Doubles the table. Without memory for it the chains grow longer instead; only the first table is needed.
static no_inline bool map_hash_resize(JSContext *ctx, JSMapState *s)
{
    uint32_t size = s->hash_size ? s->hash_size * 2 : 4;
    if (size > 1u << 28)
        return true;
    JSMapRecord **table = js_calloc_rt(ctx->rt, size, sizeof(*table));
    if (!table) {
        if (s->hash_table)
            return true;
        JS_ThrowOutOfMemory(ctx);
        return false;
    }
    int shift = s->hash_size ? s->hash_shift - 1 : 30;
    struct list_head *el;
    list_for_each(el, &s->records) {
        JSMapRecord *mr = list_entry(el, JSMapRecord, link);
        if (mr->empty)
            continue;
        JSMapRecord **head = &table[mr->hash >> shift];
        mr->hash_next = *head;
        *head = mr;
    }
    js_free_rt(ctx->rt, s->hash_table);
    s->hash_table = table;
    s->hash_size = size;
    s->hash_shift = shift;
    return true;
}

static JSWeakRefRecord **get_first_weak_ref(JSValueConst key)
{
    switch (JS_VALUE_GET_TAG(key)) {
    case JS_TAG_OBJECT:
        return &JS_VALUE_GET_OBJ(key)->first_weak_ref;
    case JS_TAG_SYMBOL:
        return &((JSAtomStruct *)JS_VALUE_GET_PTR(key))->first_weak_ref;
    default:
        abort();
    }
}

// Adds a record for a key that is not there; its value is the caller's to set.
static JSMapRecord *map_add_hashed(JSContext *ctx, JSMapState *s, JSValueConst key, uint32_t hash)
{
    if (s->record_count >= s->hash_size && !map_hash_resize(ctx, s))
        return NULL;
    JSMapRecord *mr = js_malloc(ctx, sizeof(*mr));
    if (!mr)
        return NULL;
    mr->ref_count = 1;
    mr->map = s;
    mr->empty = false;
    mr->hash = hash;
    mr->value = JS_UNDEFINED;
    if (s->is_weak) {
        JSWeakRefRecord *wr = js_malloc(ctx, sizeof(*wr));
        if (!wr) {
            js_free(ctx, mr);
            return NULL;
        }
        wr->kind = JS_WEAK_REF_KIND_MAP;
        wr->u.map_record = mr;
        insert_weakref_record(key, wr);
        mr->key = unsafe_unconst(key);
    } else {
        mr->key = js_dup(key);
    }
    JSMapRecord **head = &s->hash_table[hash >> s->hash_shift];
    mr->hash_next = *head;
    *head = mr;
    list_add_tail(&mr->link, &s->records);
    s->record_count++;
    return mr;
}

static JSMapRecord *map_add_record(JSContext *ctx, JSMapState *s, JSValueConst key)
{
    JSValue owned;
    key = map_key(ctx, key, &owned);
    JSMapRecord *mr = map_add_hashed(ctx, s, key, map_hash_key(ctx, key));
    JS_FreeValue(ctx, owned);
    return mr;
}

static void map_unlink_hash(JSMapState *s, JSMapRecord *mr)
{
    JSMapRecord **at = &s->hash_table[mr->hash >> s->hash_shift];
    while (*at != mr)
        at = &(*at)->hash_next;
    *at = mr->hash_next;
}

// Removes the weak reference from its target's list, which is singly linked: a target has few of them.
static void delete_map_weak_ref(JSRuntime *rt, JSMapRecord *mr)
{
    JSWeakRefRecord **pwr = get_first_weak_ref(mr->key), *wr;
    for (;;) {
        wr = *pwr;
        assert(wr != NULL);
        if (wr->kind == JS_WEAK_REF_KIND_MAP && wr->u.map_record == mr)
            break;
        pwr = &wr->next_weak_ref;
    }
    *pwr = wr->next_weak_ref;
    js_free_rt(rt, wr);
}

static void map_delete_record(JSRuntime *rt, JSMapState *s, JSMapRecord *mr)
{
    if (mr->empty)
        return;
    map_unlink_hash(s, mr);
    s->record_count--;
    JSValue key = mr->key, value = mr->value;
    if (s->is_weak) {
        delete_map_weak_ref(rt, mr);
        key = JS_UNDEFINED;
    }
    if (--mr->ref_count == 0) {
        list_del(&mr->link);
        js_free_rt(rt, mr);
    } else {
        // A record that an iterator stands on stays in the list, empty.
        mr->empty = true;
        mr->key = JS_UNDEFINED;
        mr->value = JS_UNDEFINED;
    }
    JS_FreeValueRT(rt, key);
    JS_FreeValueRT(rt, value);
}

static void map_decref_record(JSRuntime *rt, JSMapRecord *mr)
{
    if (--mr->ref_count == 0) {
        assert(mr->empty);
        list_del(&mr->link);
        js_free_rt(rt, mr);
    }
}

// The table behind `this`, or NULL with an exception pending.
static inline JSMapState *map_this(JSContext *ctx, JSValueConst this_val, int magic)
{
    if (likely(JS_VALUE_GET_TAG(this_val) == JS_TAG_OBJECT)) {
        JSObject *p = JS_VALUE_GET_OBJ(this_val);
        if (likely(p->class_id == JS_CLASS_MAP + magic && p->u.map_state))
            return p->u.map_state;
    }
    return JS_GetOpaque2(ctx, this_val, JS_CLASS_MAP + magic);
}

static JSValue js_map_set(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv, int magic)
{
    JSMapState *s = map_this(ctx, this_val, magic);
    if (!s)
        return JS_EXCEPTION;
    bool is_set = magic & MAGIC_SET;
    JSValue owned;
    JSValueConst key = map_key(ctx, map_normalize_key_const(ctx, argv[0]), &owned);
    if (s->is_weak && !is_valid_weakref_target(key)) {
        JS_FreeValue(ctx, owned);
        return JS_ThrowTypeError(ctx, "invalid value used as %s key", is_set ? "WeakSet" : "WeakMap");
    }
    uint32_t hash = map_hash_key(ctx, key);
    JSMapRecord *mr = map_find_hashed(ctx, s, key, hash);
    if (!mr) {
        mr = map_add_hashed(ctx, s, key, hash);
        if (!mr) {
            JS_FreeValue(ctx, owned);
            return JS_EXCEPTION;
        }
    }
    if (!is_set) {
        JSValue old = mr->value;
        mr->value = js_dup(argv[1]);
        JS_FreeValue(ctx, old);
    }
    JS_FreeValue(ctx, owned);
    return js_dup(this_val);
}

static JSValue js_map_get(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv, int magic)
{
    JSMapState *s = map_this(ctx, this_val, magic);
    if (!s)
        return JS_EXCEPTION;
    JSMapRecord *mr = map_find_record(ctx, s, map_normalize_key_const(ctx, argv[0]));
    return mr ? js_dup(mr->value) : JS_UNDEFINED;
}
