// Transitions between shapes: what an object's shape becomes when a property is added.
//
// The engine finds the next shape only if some object still has it, and changes a shape in place when only one object has it:
// objects that are built property by property then end up with a shape each, made anew every time. Here a step that is taken
// a second time is remembered, with both of its shapes, in a small table. The collector forgets all of it, so that nothing is
// kept alive for longer. Included by the patched quickjs.c (see xtask/src/quickjs/shapes.rs).

typedef struct {
    JSShape *from, *to; // `to` is NULL while the step was seen once: then no reference is held, and `from` may be gone
    JSAtom atom;
    int flags;
} SkepTransition;

enum { SKEP_TRANSITIONS = 128, SKEP_TRANSITION_PROPERTIES = 24 };
static SkepTransition skep_transitions[SKEP_TRANSITIONS];

static inline SkepTransition *skep_transition(const JSShape *from, JSAtom atom)
{
    return &skep_transitions[((uint32_t)((uintptr_t)from >> 4) ^ atom * 5) % SKEP_TRANSITIONS];
}

static inline bool skep_is_step(const SkepTransition *t, const JSShape *from, JSAtom atom, int flags)
{
    return t->from == from && t->atom == atom && t->flags == flags;
}

static void skep_forget_transitions(JSRuntime *rt)
{
    for (int i = 0; i < SKEP_TRANSITIONS; i++) {
        SkepTransition old = skep_transitions[i];
        if (!old.from)
            continue;
        skep_transitions[i] = (SkepTransition){ 0 };
        if (old.to) {
            js_free_shape(rt, old.from);
            js_free_shape(rt, old.to);
        }
    }
}

// The shape that follows a hashed one, if there is one or this step is worth one. `*failed` without memory.
static JSShape *skep_next_shape(JSContext *ctx, JSShape *from, JSAtom atom, int flags, bool *failed)
{
    SkepTransition *t = skep_transition(from, atom);
    bool seen = skep_is_step(t, from, atom, flags);
    if (seen && t->to)
        return t->to;
    JSShape *to = find_hashed_shape_prop(ctx->rt, from, atom, flags);
    if (from->prop_count >= SKEP_TRANSITION_PROPERTIES)
        return to;
    if (!to && seen) {
        to = js_clone_shape(ctx, from);
        if (to) {
            to->is_hashed = true;
            js_shape_hash_link(ctx->rt, to);
            if (add_shape_property(ctx, &to, NULL, atom, flags)) {
                js_free_shape(ctx->rt, to);
                to = NULL;
            }
        }
        if (!to) {
            *failed = true;
            return NULL;
        }
    } else if (to) {
        js_dup_shape(to);
    }
    SkepTransition old = *t;
    *t = (SkepTransition){ to ? js_dup_shape(from) : from, to, atom, flags };
    if (old.to) {
        js_free_shape(ctx->rt, old.from);
        js_free_shape(ctx->rt, old.to);
    }
    return to;
}

// Adds a property that is known not to be there, if the step is remembered. Takes `value` if it returns 1; 0: not remembered, -1: no memory.
static inline int skep_add_field(JSContext *ctx, JSObject *p, JSAtom atom, JSValue value)
{
    JSShape *from = p->shape, *to;
    SkepTransition *t = skep_transition(from, atom);
    if (!skep_is_step(t, from, atom, JS_PROP_C_W_E) || !t->to || p->class_id != JS_CLASS_OBJECT || p->is_exotic || !p->extensible || p->is_prototype)
        return 0;
    to = t->to;
    if (to->prop_size != from->prop_size) {
        JSProperty *props = js_realloc(ctx, p->prop, sizeof(*props) * to->prop_size);
        if (!props)
            return -1;
        p->prop = props;
    }
    p->prop[to->prop_count - 1].u.value = value;
    p->shape = js_dup_shape(to);
    js_free_shape(ctx->rt, from);
    return 1;
}

// The same for an assignment, which a property of a prototype may have something to say about.
static inline int skep_assign_field(JSContext *ctx, JSObject *p, JSAtom atom, JSValue value)
{
    if (!skep_is_step(skep_transition(p->shape, atom), p->shape, atom, JS_PROP_C_W_E))
        return 0;
    for (JSObject *proto = p->shape->proto; proto; proto = proto->shape->proto)
        if (proto->is_exotic || find_own_property1(proto, atom))
            return 0;
    return skep_add_field(ctx, p, atom, value);
}
