// What the interpreter's loop does for more than one operation at once.
//
// Every operation is reached through the one branch at the top of the loop, which has the check of the epoch before it and the stack's
// and the bytecode's position in memory around it: a quarter of the time of small programs. Frequent neighbours are therefore done
// together: an operation looks at the byte that follows and goes on with it. The bytecode stays as it is, and so do the points where
// interrupts are polled. Where one operation's code continues in another's it does so in one direction only: a circle of them would be
// a second loop to the compiler. Included by the patched quickjs.c (see xtask/src/quickjs/fusion.rs).

// Whether a string is the one of an atom.
static inline bool skep_is_atom(JSString *s, JSString *atom)
{
    if (s == atom)
        return true;
    if (s->len != atom->len)
        return false;
    if (!s->is_wide_char && !atom->is_wide_char && str8(s)[0] != str8(atom)[0]) // neither is empty: that is `push_empty_string`
        return false;
    return !js_string_memcmp(s, atom, s->len);
}

// The atom, if `push_atom_value; strict_eq; if_false8` stand at `pc` and `value` is a string: it is compared without being pushed.
static inline JSString *skep_compared_atom(JSRuntime *rt, const uint8_t *pc, JSValueConst value)
{
    if (pc[0] != OP_push_atom_value || pc[5] != OP_strict_eq || pc[6] != OP_if_false8 || JS_VALUE_GET_TAG(value) != JS_TAG_STRING)
        return NULL;
    JSAtom atom = get_u32(pc + 1);
    return __JS_AtomIsTaggedInt(atom) ? NULL : rt->atom_array[atom];
}

// A plain property of an object or of what it inherits from, or NULL if it takes more than a look.
static inline JSProperty *skep_plain_property(JSObject *p, JSAtom atom)
{
    JSProperty *pr;
    for (;;) {
        JSShapeProperty *prs = find_own_property(&pr, p, atom);
        if (prs)
            return prs->flags & JS_PROP_TMASK ? NULL : pr;
        if (p->is_exotic || !(p = p->shape->proto))
            return NULL;
    }
}

// A result is assigned to a variable.
#define SKEP_THEN_ASSIGN \
    if (*pc == OP_put_loc_check) { \
        pc++; \
        goto skep_put_loc_check; \
    }
