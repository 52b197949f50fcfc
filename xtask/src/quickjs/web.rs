//! What the engine's own Web functions (`atob`, `btoa`) leave out of the standard.

pub(super) const WEB: &[super::Patch] = &[
    super::Patch {
        why: "Web IDL: btoa without an argument is a TypeError",
        find: "    JSString *s, *ostr;\n    size_t len, out_len, written;\n\n    val = JS_ToString(ctx, argv[0]);",
        replace: "    JSString *s, *ostr;\n    size_t len, out_len, written;\n\n    if (argc < 1)\n        return JS_ThrowTypeError(ctx, \"Failed to execute 'btoa': 1 argument required, but only 0 present.\");\n    val = JS_ToString(ctx, argv[0]);",
        count: 1,
    },
    super::Patch {
        why: "… and so is atob",
        find: "    size_t slen, out_cap, out_len;\n    int err;\n\n    val = JS_ToString(ctx, argv[0]);",
        replace: "    size_t slen, out_cap, out_len;\n    int err;\n\n    if (argc < 1)\n        return JS_ThrowTypeError(ctx, \"Failed to execute 'atob': 1 argument required, but only 0 present.\");\n    val = JS_ToString(ctx, argv[0]);",
        count: 1,
    },
];
