//! Objects that are built property by property share their shapes (`crates/isolate/guest/glue/shapes.h`), and comparing strings.

use super::Patch;

pub(super) const SHAPES: &[Patch] = &[
    Patch {
        why: "transitions between shapes",
        find: "static JSProperty *add_property(JSContext *ctx,\n                                JSObject *p, JSAtom prop, int prop_flags)\n{",
        replace: "#include \"shapes.h\"\n\nstatic JSProperty *add_property(JSContext *ctx,\n                                JSObject *p, JSAtom prop, int prop_flags)\n{",
        count: 1,
    },
    Patch {
        why: "… are used",
        find: "        new_sh = find_hashed_shape_prop(ctx->rt, sh, prop, prop_flags);\n        if (new_sh) {\n            /* matching shape found: use it */",
        replace: "        bool failed = false;\n        new_sh = skep_next_shape(ctx, sh, prop, prop_flags, &failed);\n        if (failed)\n            return NULL;\n        if (new_sh) {\n            /* matching shape found: use it */",
        count: 1,
    },
    Patch {
        why: "… are forgotten by the collector",
        find: "static void gc_decref(JSRuntime *rt);\n",
        replace: "static void gc_decref(JSRuntime *rt);\nstatic void skep_forget_transitions(JSRuntime *rt);\n",
        count: 1,
    },
    Patch {
        why: "…",
        find: "void JS_RunGC(JSRuntime *rt)\n{\n",
        replace: "void JS_RunGC(JSRuntime *rt)\n{\n    skep_forget_transitions(rt);\n",
        count: 1,
    },
    Patch {
        why: "a field of an object literal",
        find: "                ret = JS_DefinePropertyValue(ctx, sp[-2], atom, sp[-1],\n                                             JS_PROP_C_W_E | JS_PROP_THROW);\n                sp--;\n                if (unlikely(ret < 0))\n                    goto exception;\n            }\n            BREAK;\n\n        CASE(OP_set_name):",
        replace: "                if (likely(JS_VALUE_GET_TAG(sp[-2]) == JS_TAG_OBJECT)) {\n                    ret = skep_add_field(ctx, JS_VALUE_GET_OBJ(sp[-2]), atom, sp[-1]);\n                    if (ret) {\n                        if (unlikely(ret < 0))\n                            goto exception;\n                        sp--;\n                        BREAK;\n                    }\n                }\n                ret = JS_DefinePropertyValue(ctx, sp[-2], atom, sp[-1],\n                                             JS_PROP_C_W_E | JS_PROP_THROW);\n                sp--;\n                if (unlikely(ret < 0))\n                    goto exception;\n            }\n            BREAK;\n\n        CASE(OP_set_name):",
        count: 1,
    },
    Patch {
        why: "a field that a constructor sets",
        find: "                    prs = find_own_property(&pr, p, atom);\n                    if (!prs)\n                        goto put_field_slow_path;\n                    if (likely((prs->flags & (JS_PROP_TMASK",
        replace: "                    prs = find_own_property(&pr, p, atom);\n                    if (!prs) {\n                        ret = skep_assign_field(ctx, p, atom, sp[-1]);\n                        if (!ret)\n                            goto put_field_slow_path;\n                        if (unlikely(ret < 0))\n                            goto exception;\n                    } else if (likely((prs->flags & (JS_PROP_TMASK",
        count: 1,
    },
    Patch {
        why: "strings are compared at once",
        find: "    bool res;\n    res = js_strict_eq(ctx, sp[-2], sp[-1]);\n",
        replace: "    bool res;\n    if (JS_VALUE_GET_TAG(sp[-2]) == JS_TAG_STRING && JS_VALUE_GET_TAG(sp[-1]) == JS_TAG_STRING) {\n        JSString *s1 = JS_VALUE_GET_STRING(sp[-2]), *s2 = JS_VALUE_GET_STRING(sp[-1]);\n        res = s1 == s2 || (s1->len == s2->len && !js_string_memcmp(s1, s2, s1->len));\n    } else\n        res = js_strict_eq(ctx, sp[-2], sp[-1]);\n",
        count: 1,
    },
];
