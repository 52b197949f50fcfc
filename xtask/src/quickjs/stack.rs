//! Deep recursion ends with a RangeError that the guest can catch, not with the end of the isolate.
//!
//! The engine checks the one stack that it knows, the shadow stack in linear memory. Compiled code has its frames on the native stack
//! as well, which nothing inside can see; when that is used up the isolate traps. Both are sized such that the native one lasts
//! (crates/isolate/src/engine.rs) as long as no recursion uses more than five times as much of it as of the other: an interpreted call uses
//! two to three times as much. Functions that call themselves with next to nothing on the shadow stack are therefore padded there.

use super::Patch;

/// A patch that pads the frame of a function, given by the text up to its opening brace.
macro_rules! pad {
    ($why:literal, $bytes:literal, $head:literal) => {
        Patch { why: $why, find: $head, replace: concat!($head, "    SKEP_PAD(", $bytes, ");\n"), count: 1 }
    };
}

pub(super) const STACK: &[Patch] = &[
    Patch {
        why: "room on the shadow stack that the compiler cannot take away",
        find: "static JSValue skep_async_context;\n",
        replace: "static JSValue skep_async_context;\n#define SKEP_PAD(n) char skep_pad[n]; __asm__ volatile(\"\" : : \"r\"(skep_pad) : \"memory\")\n",
        count: 1,
    },
    Patch {
        why: "a chain of iterator helpers calls them directly, past the check of a call",
        find: "static JSValue js_iterator_helper_next(JSContext *ctx, JSValueConst this_val,\n                                      int argc, JSValueConst *argv,\n                                      int *pdone, int magic)\n{\n",
        replace: "static JSValue js_iterator_helper_next(JSContext *ctx, JSValueConst this_val,\n                                      int argc, JSValueConst *argv,\n                                      int *pdone, int magic)\n{\n    SKEP_PAD(512);\n    if (js_check_stack_overflow(ctx->rt, 0)) {\n        *pdone = false;\n        return JS_ThrowStackOverflow(ctx);\n    }\n",
        count: 1,
    },
    pad!("the parser, by expression", 768, "static __exception int js_parse_assign_expr2(JSParseState *s, int parse_flags)\n{\n"),
    pad!("… by prefix operator", 128, "static __exception int js_parse_unary(JSParseState *s, int parse_flags)\n{\n"),
    pad!("… by `new`, which calls itself", 384, "static __exception int js_parse_postfix_expr(JSParseState *s, int parse_flags)\n{\n"),
    pad!(
        "… by pattern",
        512,
        "                                          bool allow_initializer,\n                                          bool export_flag)\n{\n"
    ),
    pad!(
        "… by function",
        512,
        "                                               JSParseExportEnum export_flag,\n                                               JSFunctionDef **pfd)\n{\n"
    ),
    pad!(
        "a proxy of a proxy: js_proxy_getPrototypeOf",
        256,
        "static JSValue js_proxy_getPrototypeOf(JSContext *ctx, JSValueConst obj)\n{\n"
    ),
    pad!(
        "a proxy of a proxy: js_proxy_setPrototypeOf",
        256,
        "static int js_proxy_setPrototypeOf(JSContext *ctx, JSValueConst obj,\n                                   JSValueConst proto_val, bool throw_flag)\n{\n"
    ),
    pad!("a proxy of a proxy: js_proxy_isExtensible", 256, "static int js_proxy_isExtensible(JSContext *ctx, JSValueConst obj)\n{\n"),
    pad!(
        "a proxy of a proxy: js_proxy_preventExtensions",
        256,
        "static int js_proxy_preventExtensions(JSContext *ctx, JSValueConst obj)\n{\n"
    ),
    pad!("a proxy of a proxy: js_proxy_has", 256, "static int js_proxy_has(JSContext *ctx, JSValueConst obj, JSAtom atom)\n{\n"),
    pad!(
        "a proxy of a proxy: js_proxy_get",
        256,
        "static JSValue js_proxy_get(JSContext *ctx, JSValueConst obj, JSAtom atom,\n                            JSValueConst receiver)\n{\n"
    ),
    pad!(
        "a proxy of a proxy: js_proxy_set",
        256,
        "static int js_proxy_set(JSContext *ctx, JSValueConst obj, JSAtom atom,\n                        JSValueConst value, JSValueConst receiver, int flags)\n{\n"
    ),
    pad!(
        "a proxy of a proxy: js_proxy_get_own_property",
        256,
        "static int js_proxy_get_own_property(JSContext *ctx, JSPropertyDescriptor *pdesc,\n                                     JSValueConst obj, JSAtom prop)\n{\n"
    ),
    pad!(
        "a proxy of a proxy: js_proxy_define_own_property",
        256,
        "static int js_proxy_define_own_property(JSContext *ctx, JSValueConst obj,\n                                        JSAtom prop, JSValueConst val,\n                                        JSValueConst getter,\n                                        JSValueConst setter, int flags)\n{\n"
    ),
    pad!(
        "a proxy of a proxy: js_proxy_delete_property",
        256,
        "static int js_proxy_delete_property(JSContext *ctx, JSValueConst obj,\n                                    JSAtom atom)\n{\n"
    ),
    pad!(
        "a proxy of a proxy: js_proxy_get_own_property_names",
        256,
        "static int js_proxy_get_own_property_names(JSContext *ctx,\n                                           JSPropertyEnum **ptab,\n                                           uint32_t *plen,\n                                           JSValueConst obj)\n{\n"
    ),
    pad!(
        "a proxy of a proxy: js_proxy_call_constructor",
        256,
        "static JSValue js_proxy_call_constructor(JSContext *ctx, JSValueConst func_obj,\n                                         JSValueConst new_target,\n                                         int argc, JSValueConst *argv)\n{\n"
    ),
    pad!(
        "a proxy of a proxy: js_proxy_call",
        256,
        "static JSValue js_proxy_call(JSContext *ctx, JSValueConst func_obj,\n                             JSValueConst this_obj,\n                             int argc, JSValueConst *argv, int flags)\n{\n"
    ),
    pad!("a proxy of a proxy: js_proxy_isArray", 256, "static int js_proxy_isArray(JSContext *ctx, JSValueConst obj)\n{\n"),
    pad!(
        "flat of arrays in arrays",
        256,
        "static int64_t JS_FlattenIntoArray(JSContext *ctx, JSValueConst target,\n                                   JSValueConst source, int64_t sourceLen,\n                                   int64_t targetIndex, int depth,\n                                   JSValueConst mapperFunction,\n                                   JSValueConst thisArg)\n{\n"
    ),
];
