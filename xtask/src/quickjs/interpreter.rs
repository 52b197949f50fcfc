//! Short ways in the interpreter's loop.

use super::Patch;

pub(super) const INTERPRETER: &[Patch] = &[
    Patch {
        why: "a character of a string by its index, without a key and a lookup",
        find: "                sf->cur_pc = pc;\n                val = JS_GetPropertyValue(ctx, sp[-2], sp[-1]);\n                JS_FreeValue(ctx, sp[-2]);\n                sp[-2] = val;\n                sp--;\n",
        replace: "                if (JS_VALUE_GET_TAG(sp[-2]) == JS_TAG_STRING && JS_VALUE_GET_TAG(sp[-1]) == JS_TAG_INT) {\n                    JSString *str = JS_VALUE_GET_STRING(sp[-2]);\n                    uint32_t at = JS_VALUE_GET_INT(sp[-1]);\n                    if (at < str->len) {\n                        val = js_new_string_char(ctx, string_get(str, at));\n                        if (unlikely(JS_IsException(val)))\n                            goto exception;\n                        JS_FreeValue(ctx, sp[-2]);\n                        sp[-2] = val;\n                        sp--;\n                        BREAK;\n                    }\n                }\n                sf->cur_pc = pc;\n                val = JS_GetPropertyValue(ctx, sp[-2], sp[-1]);\n                JS_FreeValue(ctx, sp[-2]);\n                sp[-2] = val;\n                sp--;\n",
        count: 1,
    },
    Patch {
        why: "a method of a string: the lookup begins at the prototype at once",
        find: "                get_field2_slow_path:\n",
        replace: "                    if (JS_VALUE_GET_TAG(obj) == JS_TAG_STRING && atom != JS_ATOM_length && !__JS_AtomIsTaggedInt(atom)) {\n                        prs = find_own_property(&pr, JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_STRING]), atom);\n                        if (prs && !(prs->flags & JS_PROP_TMASK)) {\n                            *sp++ = js_dup(pr->u.value);\n                            BREAK;\n                        }\n                    }\n                get_field2_slow_path:\n",
        count: 1,
    },
    Patch {
        why: "an object of the image is recognised by a branch: its scratch count would be one chain of loads and stores",
        find: "        void *p = JS_VALUE_GET_PTR(v);\n        JS_REF_COUNT(p)++;\n",
        replace: "        void *p = JS_VALUE_GET_PTR(v);\n        if ((uintptr_t)p >= skep_image_end)\n            js_rc(p)->ref_count++;\n",
        count: 1,
    },
    Patch {
        why: "… when it is let go, too",
        find: "        void *p = JS_VALUE_GET_PTR(v);\n        if (--JS_REF_COUNT(p) <= 0) {\n",
        replace: "        void *p = JS_VALUE_GET_PTR(v);\n        if ((uintptr_t)p >= skep_image_end && --js_rc(p)->ref_count <= 0) {\n",
        count: 1,
    },
    Patch {
        why: "a function of the engine is called at once, without entering the interpreter's large frame first",
        find: "/* argv[] is modified if (flags & JS_CALL_FLAG_COPY_ARGV) = 0. */\nstatic JSValue JS_CallInternal(JSContext *caller_ctx,",
        replace: "static inline JSValue skep_call(JSContext *ctx, JSValueConst func, JSValueConst this_val, int argc, JSValueConst *argv)\n{\n    if (JS_VALUE_GET_TAG(func) == JS_TAG_OBJECT && JS_VALUE_GET_OBJ(func)->class_id == JS_CLASS_C_FUNCTION) {\n        if (js_poll_interrupts(ctx))\n            return JS_EXCEPTION;\n        return js_call_c_function(ctx, func, this_val, argc, argv, 0);\n    }\n    return JS_CallInternal(ctx, func, this_val, JS_UNDEFINED, argc, argv, 0);\n}\n\n/* argv[] is modified if (flags & JS_CALL_FLAG_COPY_ARGV) = 0. */\nstatic JSValue JS_CallInternal(JSContext *caller_ctx,",
        count: 1,
    },
    Patch {
        why: "… in a call",
        find: "ret_val = JS_CallInternal(ctx, call_argv[-1], JS_UNDEFINED,\n                                          JS_UNDEFINED, call_argc,\n                                          vc(call_argv), 0);",
        replace: "ret_val = skep_call(ctx, call_argv[-1], JS_UNDEFINED, call_argc, vc(call_argv));",
        count: 1,
    },
    Patch {
        why: "… and in a method call",
        find: "ret_val = JS_CallInternal(ctx, call_argv[-1], call_argv[-2],\n                                          JS_UNDEFINED, call_argc,\n                                          vc(call_argv), 0);",
        replace: "ret_val = skep_call(ctx, call_argv[-1], call_argv[-2], call_argc, vc(call_argv));",
        count: 1,
    },
    Patch {
        why: "room for four properties at once: for two, an object of four moved its properties twice",
        find: "#define JS_PROP_INITIAL_SIZE 2",
        replace: "#define JS_PROP_INITIAL_SIZE 4",
        count: 1,
    },
];
