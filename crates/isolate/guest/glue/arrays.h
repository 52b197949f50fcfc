/*
 * Arrays that are as a literal makes them: when spreading or mapping one has no step that a program could see.
 * Included into quickjs.c by a patch (xtask/src/quickjs/arrays.rs), which calls what is here before the engine's general ways.
 */

static JSValue js_get_this(JSContext *ctx, JSValueConst this_val);

/* The array, if it has no property but its length, no holes, and the prototype of all arrays. */
static JSObject *skep_plain_array(JSContext *ctx, JSValueConst v)
{
    if (JS_VALUE_GET_TAG(v) != JS_TAG_OBJECT)
        return NULL;
    JSObject *p = JS_VALUE_GET_OBJ(v);
    if (p->class_id != JS_CLASS_ARRAY || !p->fast_array || p->shape->prop_count != 1)
        return NULL;
    if (p->shape->proto != JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_ARRAY]))
        return NULL;
    JSValue length = p->prop[0].u.value;
    if (JS_VALUE_GET_TAG(length) != JS_TAG_INT || (uint32_t)JS_VALUE_GET_INT(length) != p->u.array.count)
        return NULL;
    return p;
}

/* Whether an own property is, still, one of the engine's functions. */
static bool skep_still(JSContext *ctx, JSValueConst holder, JSAtom name, JSCFunction *func, int magic)
{
    JSProperty *pr;
    JSShapeProperty *prs = find_own_property(&pr, JS_VALUE_GET_OBJ(holder), name);
    return prs && (prs->flags & JS_PROP_TMASK) == JS_PROP_NORMAL && JS_IsCFunction(ctx, pr->u.value, func, magic);
}

/* Whether iterating a plain array is reading its elements. */
static bool skep_iterates_plainly(JSContext *ctx)
{
    JSCFunctionType values = { .generic_magic = js_create_array_iterator };
    JSCFunctionType next = { .iterator_next = js_array_iterator_next };
    return skep_still(ctx, ctx->class_proto[JS_CLASS_ARRAY], JS_ATOM_Symbol_iterator, values.generic, JS_ITERATOR_KIND_VALUE) &&
           skep_still(ctx, ctx->class_proto[JS_CLASS_ARRAY_ITERATOR], JS_ATOM_next, next.generic, 0);
}

/* Appends the elements of `from` to `to`, an array that no code has seen yet. 1 if done, 0 if it is not that simple, -1 on failure. */
static int skep_spread(JSContext *ctx, JSValueConst to_val, uint32_t at, JSValueConst from_val)
{
    JSObject *from = skep_plain_array(ctx, from_val), *to;
    if (!from || !skep_iterates_plainly(ctx))
        return 0;
    to = JS_VALUE_GET_OBJ(to_val);
    if (to->class_id != JS_CLASS_ARRAY || !to->fast_array || to->u.array.count != at)
        return 0;
    for (uint32_t i = 0; i < from->u.array.count; i++) {
        if (add_fast_array_element(ctx, to, js_dup(from->u.array.u.values[i]), JS_PROP_THROW) < 0)
            return -1;
    }
    return 1;
}

/* Whether `ArraySpeciesCreate` of this array makes an ordinary one: its constructor and species are the engine's. */
static bool skep_species_plain(JSContext *ctx, JSValueConst v)
{
    JSProperty *pr;
    JSShapeProperty *prs;
    JSCFunctionType species = { .getter = js_get_this };
    if (!skep_plain_array(ctx, v) || JS_VALUE_GET_TAG(ctx->array_ctor) != JS_TAG_OBJECT)
        return false;
    JSObject *ctor = JS_VALUE_GET_OBJ(ctx->array_ctor);
    prs = find_own_property(&pr, JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_ARRAY]), JS_ATOM_constructor);
    if (!prs || (prs->flags & JS_PROP_TMASK) != JS_PROP_NORMAL || JS_VALUE_GET_TAG(pr->u.value) != JS_TAG_OBJECT || JS_VALUE_GET_OBJ(pr->u.value) != ctor)
        return false;
    prs = find_own_property(&pr, ctor, JS_ATOM_Symbol_species);
    return prs && (prs->flags & JS_PROP_TMASK) == JS_PROP_GETSET && pr->u.getset.getter &&
           JS_IsCFunction(ctx, JS_MKPTR(JS_TAG_OBJECT, pr->u.getset.getter), species.generic, 0);
}

/* The result of `map` or `filter` on such an array takes its next element at once. Takes `value`. */
static int skep_take_element(JSContext *ctx, JSValueConst array, int64_t at, JSValue value)
{
    JSObject *p = JS_VALUE_GET_OBJ(array);
    if (p->fast_array && p->u.array.count == at && at < INT32_MAX - 1)
        return add_fast_array_element(ctx, p, value, JS_PROP_THROW);
    return JS_DefinePropertyValueInt64(ctx, array, at, value, JS_PROP_C_W_E | JS_PROP_THROW);
}
