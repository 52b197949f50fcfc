//! Regular expressions: the parser stays, the matcher is our own (`crates/isolate/guest/glue/regexp.h`).

use super::Patch;

/// Patches of libregexp.c.
pub(super) const MATCHER: &[Patch] = &[
    Patch {
        why: "the matcher is used by the parser's end, before its own place in the text",
        find: "/* 'buf' must be a zero terminated UTF-8 string of length buf_len.\n   Return NULL",
        replace: "static bool is_line_terminator(uint32_t c);\n#include \"regexp.h\"\n\n/* 'buf' must be a zero terminated UTF-8 string of length buf_len.\n   Return NULL",
        count: 1,
    },
    Patch {
        why: "what the parser emitted is translated",
        find: "    s->byte_code.buf[RE_HEADER_CAPTURE_COUNT] = s->capture_count;\n",
        replace: "    if (rx_translate(&s->byte_code, s->is_unicode, is_sticky, s->opaque)) {\n        re_parse_out_of_memory(s);\n        goto error;\n    }\n    s->byte_code.buf[RE_HEADER_CAPTURE_COUNT] = s->capture_count;\n",
        count: 1,
    },
    Patch {
        why: "the original matcher is left out",
        find: "#define GET_CHAR(c, cptr, cbuf_end, cbuf_type)                          \\\n",
        replace: "#if 0\n#define GET_CHAR(c, cptr, cbuf_end, cbuf_type)                          \\\n",
        count: 1,
    },
    Patch {
        why: "… up to here",
        find: "int lre_get_alloc_count(const uint8_t *bc_buf)\n{",
        replace: "#endif\nint lre_get_alloc_count(const uint8_t *bc_buf)\n{",
        count: 1,
    },
];

/// Patches of quickjs.c: the short ways of `crates/isolate/guest/glue/regexp_builtins.h`.
pub(super) const BUILTINS: &[Patch] = &[
    Patch {
        why: "`exec` of a plain expression",
        find: "static JSValue js_regexp_exec(JSContext *ctx, JSValueConst this_val,\n                              int argc, JSValueConst *argv)\n{",
        replace: "#include \"regexp_builtins.h\"\n\nstatic JSValue js_regexp_exec(JSContext *ctx, JSValueConst this_val,\n                              int argc, JSValueConst *argv)\n{",
        count: 1,
    },
    Patch {
        why: "…",
        find: "    if (JS_IsException(str_val))\n        return JS_EXCEPTION;\n\n    ret = JS_EXCEPTION;\n    obj = JS_NULL;\n",
        replace: "    if (JS_IsException(str_val))\n        return JS_EXCEPTION;\n    if (rx_plain(ctx, this_val) && !(lre_get_flags(str8(re->bytecode)) & (LRE_FLAG_NAMED_GROUPS | LRE_FLAG_INDICES)))\n        return rx_exec_plain(ctx, JS_VALUE_GET_OBJ(this_val), str_val);\n\n    ret = JS_EXCEPTION;\n    obj = JS_NULL;\n",
        count: 1,
    },
    Patch {
        why: "`exec` by the built-ins",
        find: "    JSValue method, ret;\n\n    method = JS_GetProperty(ctx, r, JS_ATOM_exec);\n",
        replace: "    JSValue method, ret;\n\n    if (rx_has_exec(ctx, r))\n        return js_regexp_exec(ctx, r, 1, &s);\n    method = JS_GetProperty(ctx, r, JS_ATOM_exec);\n",
        count: 1,
    },
    Patch {
        why: "`test` without a result object",
        find: "    val = JS_RegExpExec(ctx, this_val, argv[0]);\n    if (JS_IsException(val))\n        return JS_EXCEPTION;\n    ret = !JS_IsNull(val);\n",
        replace: "    if (JS_IsString(argv[0]) && rx_has_exec(ctx, this_val)) {\n        val = JS_ToString(ctx, argv[0]);\n        if (JS_IsException(val))\n            return JS_EXCEPTION;\n        int result = rx_test(ctx, JS_VALUE_GET_OBJ(this_val), JS_VALUE_GET_STRING(val));\n        JS_FreeValue(ctx, val);\n        return result < 0 ? JS_EXCEPTION : js_bool(result);\n    }\n    val = JS_RegExpExec(ctx, this_val, argv[0]);\n    if (JS_IsException(val))\n        return JS_EXCEPTION;\n    ret = !JS_IsNull(val);\n",
        count: 1,
    },
    Patch {
        why: "`match` of a global expression",
        find: "    S = JS_ToString(ctx, argv[0]);\n    if (JS_IsException(S))\n        goto exception;\n\n    flags = JS_GetProperty(ctx, rx, JS_ATOM_flags);\n",
        replace: "    S = JS_ToString(ctx, argv[0]);\n    if (JS_IsException(S))\n        goto exception;\n    if (rx_pristine(ctx, rx) && (rx_flags(JS_VALUE_GET_OBJ(rx)) & LRE_FLAG_GLOBAL)) {\n        A = rx_match_all(ctx, JS_VALUE_GET_OBJ(rx), JS_VALUE_GET_STRING(S));\n        JS_FreeValue(ctx, S);\n        return A;\n    }\n\n    flags = JS_GetProperty(ctx, rx, JS_ATOM_flags);\n",
        count: 1,
    },
    Patch {
        why: "`replace` without named groups",
        find: "        rp = JS_VALUE_GET_STRING(rep_val);\n    }\n\n    flags = JS_GetProperty(ctx, rx, JS_ATOM_flags);\n",
        replace: "        rp = JS_VALUE_GET_STRING(rep_val);\n    }\n    if (rx_pristine(ctx, rx) && !(rx_flags(JS_VALUE_GET_OBJ(rx)) & LRE_FLAG_NAMED_GROUPS)) {\n        if (rp)\n            res = rx_replace_text(ctx, JS_VALUE_GET_OBJ(rx), sp, rp);\n        else\n            res = rx_replace_calls(ctx, JS_VALUE_GET_OBJ(rx), str, rep);\n        goto done;\n    }\n\n    flags = JS_GetProperty(ctx, rx, JS_ATOM_flags);\n",
        count: 1,
    },
    Patch {
        why: "`split` without a second expression",
        find: "    ctor = JS_SpeciesConstructor(ctx, rx, ctx->regexp_ctor);\n    if (JS_IsException(ctor))\n        goto exception;\n    flags = JS_ToStringFree(ctx, JS_GetProperty(ctx, rx, JS_ATOM_flags));\n    if (JS_IsException(flags))\n        goto exception;\n    strp = JS_VALUE_GET_STRING(flags);\n    unicodeMatching",
        replace: "    if ((JS_IsUndefined(argv[1]) || JS_VALUE_GET_TAG(argv[1]) == JS_TAG_INT) && rx_pristine(ctx, rx) &&\n        rx_unchanged(&rx_original_ctor, ctx->regexp_ctor)) {\n        lim = JS_IsUndefined(argv[1]) ? 0xffffffff : (uint32_t)JS_VALUE_GET_INT(argv[1]);\n        A = rx_split(ctx, JS_VALUE_GET_OBJ(rx), JS_VALUE_GET_STRING(str), lim);\n        goto done;\n    }\n    ctor = JS_SpeciesConstructor(ctx, rx, ctx->regexp_ctor);\n    if (JS_IsException(ctor))\n        goto exception;\n    flags = JS_ToStringFree(ctx, JS_GetProperty(ctx, rx, JS_ATOM_flags));\n    if (JS_IsException(flags))\n        goto exception;\n    strp = JS_VALUE_GET_STRING(flags);\n    unicodeMatching",
        count: 1,
    },
    Patch {
        why: "`match` with an object that does not want to be asked takes its text, also if it is an expression",
        find: "    args_len = 1;\n    args[0] = regexp;\n    str = JS_UNDEFINED;\n",
        replace: "    args_len = 1;\n    str = JS_UNDEFINED;\n    JSValue pattern = JS_IsObject(regexp) ? JS_ToString(ctx, regexp) : js_dup(regexp);\n    if (JS_IsException(pattern))\n        goto fail;\n    args[0] = pattern;\n",
        count: 1,
    },
    Patch {
        why: "…",
        find: "    rx = JS_CallConstructor(ctx, ctx->regexp_ctor, args_len, args);\n    JS_FreeValue(ctx, str);\n    if (JS_IsException(rx)) {\n    fail:\n        JS_FreeValue(ctx, S);",
        replace: "    rx = JS_CallConstructor(ctx, ctx->regexp_ctor, args_len, args);\n    JS_FreeValue(ctx, str);\n    if (JS_IsException(rx)) {\n    fail:\n        JS_FreeValue(ctx, pattern);\n        JS_FreeValue(ctx, S);",
        count: 1,
    },
    Patch {
        why: "…",
        find: "    result = JS_InvokeFree(ctx, rx, atom, 1, vc(&S));\n    JS_FreeValue(ctx, S);\n    return result;\n",
        replace: "    JS_FreeValue(ctx, pattern);\n    result = JS_InvokeFree(ctx, rx, atom, 1, vc(&S));\n    JS_FreeValue(ctx, S);\n    return result;\n",
        count: 1,
    },
];
