//! Spreading, mapping and filtering plain arrays without the steps that nobody can see (`glue/arrays.h`).

pub(super) const ARRAYS: &[super::Patch] = &[
    super::Patch {
        why: "what is known of plain arrays, before its first use",
        find: "static __exception int js_append_enumerate(JSContext *ctx, JSValue *sp)\n{",
        replace: "#include \"arrays.h\"\n\nstatic __exception int js_append_enumerate(JSContext *ctx, JSValue *sp)\n{",
        count: 1,
    },
    super::Patch {
        why: "a plain array is spread by copying its elements",
        find: "    iterator = JS_GetProperty(ctx, sp[-1], JS_ATOM_Symbol_iterator);\n    if (JS_IsException(iterator))\n        return -1;\n    /* Used to squelch",
        replace: "    switch (skep_spread(ctx, sp[-3], pos, sp[-1])) {\n    case -1:\n        return -1;\n    case 1:\n        sp[-2] = js_int32(JS_VALUE_GET_OBJ(sp[-3])->u.array.count);\n        return 0;\n    }\n    iterator = JS_GetProperty(ctx, sp[-1], JS_ATOM_Symbol_iterator);\n    if (JS_IsException(iterator))\n        return -1;\n    /* Used to squelch",
        count: 1,
    },
    super::Patch {
        why: "no lookups of constructor and species where they are the engine's",
        find: "    int res;\n    JSContext *realm;\n\n    res = js_is_array(ctx, obj);\n    if (res < 0)\n        return JS_EXCEPTION;",
        replace: "    int res;\n    JSContext *realm;\n\n    if (skep_species_plain(ctx, obj))\n        return js_array_constructor(ctx, JS_UNDEFINED, 1, &len_val);\n    res = js_is_array(ctx, obj);\n    if (res < 0)\n        return JS_EXCEPTION;",
        count: 1,
    },
    super::Patch {
        why: "the result of such a map or filter is known too",
        find: "    int64_t len, k, n;\n    int present;\n\n    ret = JS_UNDEFINED;\n    val = JS_UNDEFINED;\n    if (special & special_TA) {",
        replace: "    int64_t len, k, n;\n    int present;\n    bool plain = false;\n\n    ret = JS_UNDEFINED;\n    val = JS_UNDEFINED;\n    if (special & special_TA) {",
        count: 1,
    },
    super::Patch {
        why: "… of map",
        find: "        /* XXX: JS_ArraySpeciesCreate should take int64_t */\n        ret = JS_ArraySpeciesCreate(ctx, obj, js_int64(len));",
        replace: "        /* XXX: JS_ArraySpeciesCreate should take int64_t */\n        plain = skep_species_plain(ctx, obj);\n        ret = JS_ArraySpeciesCreate(ctx, obj, js_int64(len));",
        count: 1,
    },
    super::Patch {
        why: "… of filter",
        find: "    case special_filter:\n        ret = JS_ArraySpeciesCreate(ctx, obj, js_int32(0));",
        replace: "    case special_filter:\n        plain = skep_species_plain(ctx, obj);\n        ret = JS_ArraySpeciesCreate(ctx, obj, js_int32(0));",
        count: 1,
    },
    super::Patch {
        why: "… takes elements at its end",
        find: "            case special_map:\n                if (JS_DefinePropertyValueInt64(ctx, ret, k, res,\n                                                JS_PROP_C_W_E | JS_PROP_THROW) < 0)\n                    goto exception;\n                break;",
        replace: "            case special_map:\n                if (plain) {\n                    if (skep_take_element(ctx, ret, k, res) < 0)\n                        goto exception;\n                    break;\n                }\n                if (JS_DefinePropertyValueInt64(ctx, ret, k, res,\n                                                JS_PROP_C_W_E | JS_PROP_THROW) < 0)\n                    goto exception;\n                break;",
        count: 1,
    },
    super::Patch {
        why: "… and so does a filter's",
        find: "                if (JS_ToBoolFree(ctx, res)) {\n                    if (JS_DefinePropertyValueInt64Const(ctx, ret, n++, val,",
        replace: "                if (JS_ToBoolFree(ctx, res)) {\n                    if (plain) {\n                        if (skep_take_element(ctx, ret, n++, js_dup(val)) < 0)\n                            goto exception;\n                        break;\n                    }\n                    if (JS_DefinePropertyValueInt64Const(ctx, ret, n++, val,",
        count: 1,
    },
];
