//! Patches of the engine's data structures: Map and Set, hashing, JSON, strings, sorting, numbers.
//!
//! The C that replaces larger parts of the engine is in `crates/isolate/guest/glue`, each file with its reasons; here
//! it is only put in the place of what it replaces, which stays in the text behind `#if 0`.

use super::Patch;

pub(super) const DATA: &[Patch] = &[
    Patch {
        why: "strings are hashed eight characters at a time and remember it",
        find: "/* XXX: could use faster version ? */\nstatic inline uint32_t hash_string8(",
        replace: "#include \"hashing.h\"\n#include \"numbers.h\"\n#include \"scan.h\"\n#if 0\nstatic inline uint32_t hash_string8(",
        count: 1,
    },
    Patch {
        why: "… up to here",
        find: "static __maybe_unused void JS_DumpString(JSRuntime *rt, JSString *p)\n{",
        replace: "#endif\nstatic __maybe_unused void JS_DumpString(JSRuntime *rt, JSString *p)\n{",
        count: 1,
    },
    Patch {
        why: "a string that grows in place forgets its hash; an atom, whose hash its table needs, does not grow",
        find: "    if (JS_REF_COUNT(p1) == 1 && p1->is_wide_char == p2->is_wide_char\n",
        replace: "    if (JS_REF_COUNT(p1) == 1 && !p1->atom_type && p1->is_wide_char == p2->is_wide_char\n",
        count: 1,
    },
    Patch {
        why: "… forgets it here",
        find: "        /* Concatenate in place in available space at the end of p1 */\n",
        replace: "        p1->hash = 0;\n",
        count: 1,
    },
    Patch {
        why: "Map and Set: a record keeps its hash and hangs in a single chain",
        find: "    struct list_head link;\n    struct list_head hash_link;\n",
        replace: "    struct list_head link;\n    struct JSMapRecord *hash_next;\n    uint32_t hash;\n",
        count: 1,
    },
    Patch {
        why: "… the table of chains",
        find: "    struct list_head *hash_table;\n    uint32_t hash_size; /* must be a power of two */\n    uint32_t record_count_threshold; /* count at which a hash table\n                                        resize is needed */\n",
        replace: "    struct JSMapRecord **hash_table; /* NULL without records */\n    uint32_t hash_size; /* 0 or a power of two */\n    uint32_t hash_shift; /* the table's index is hash >> hash_shift */\n",
        count: 1,
    },
    Patch {
        why: "… is made with the first record",
        find: "    s->hash_size = 1;\n    s->hash_table = js_malloc(ctx, sizeof(s->hash_table[0]) * s->hash_size);\n    if (!s->hash_table)\n        goto fail;\n    init_list_head(&s->hash_table[0]);\n    s->record_count_threshold = 4;\n",
        replace: "",
        count: 1,
    },
    Patch {
        why: "… and has its own functions",
        find: "/* XXX: could normalize strings to speed up comparison */\n",
        replace: "#include \"collections.h\"\n#if 0\n",
        count: 1,
    },
    Patch {
        why: "… up to here",
        find: "static JSValue js_map_getOrInsert(JSContext *ctx, JSValueConst this_val,",
        replace: "#endif\nstatic JSValue js_map_getOrInsert(JSContext *ctx, JSValueConst this_val,",
        count: 1,
    },
    Patch {
        why: "… used where a weak key dies",
        find: "            list_del(&mr->hash_link);\n            list_del(&mr->link);\n",
        replace: "            map_unlink_hash(s, mr);\n            list_del(&mr->link);\n",
        count: 1,
    },
    Patch {
        why: "… declared before that",
        find: "static bool is_valid_weakref_target(JSValueConst val);\n",
        replace: "static bool is_valid_weakref_target(JSValueConst val);\nstatic void map_unlink_hash(JSMapState *s, JSMapRecord *mr);\n",
        count: 1,
    },
    Patch {
        why: "a smaller check of `this` in Map and Set",
        find: "    JSMapState *s = JS_GetOpaque2(ctx, this_val, JS_CLASS_MAP + magic);\n",
        replace: "    JSMapState *s = map_this(ctx, this_val, magic);\n",
        count: 7,
    },
    Patch {
        why: "JSON.parse: correct texts have their own parser",
        find: "    str = JS_ToCStringLen(ctx, &len, argv[0]);\n    if (!str)\n        return JS_EXCEPTION;\n    if (argc > 1 && JS_IsFunction(ctx, argv[1])) {\n        JSONParseRecord pr_s,",
        replace: "    JSValue text = JS_ToString(ctx, argv[0]);\n    if (JS_IsException(text))\n        return JS_EXCEPTION;\n    if (argc < 2 || !JS_IsFunction(ctx, argv[1])) {\n        JsonEnd end = skep_json_parse(ctx, JS_VALUE_GET_STRING(text), &obj);\n        if (end != JSON_OTHER) {\n            JS_FreeValue(ctx, text);\n            return end == JSON_OK ? obj : JS_EXCEPTION;\n        }\n    }\n    str = JS_ToCStringLen(ctx, &len, text);\n    JS_FreeValue(ctx, text);\n    if (!str)\n        return JS_EXCEPTION;\n    if (argc > 1 && JS_IsFunction(ctx, argv[1])) {\n        JSONParseRecord pr_s,",
        count: 1,
    },
    Patch {
        why: "… and JSON.stringify its own writer",
        find: "static JSValue js_json_parse(JSContext *ctx, JSValueConst this_val,",
        replace: "#include \"json.h\"\n\nstatic JSValue js_json_parse(JSContext *ctx, JSValueConst this_val,",
        count: 1,
    },
    Patch {
        why: "… in place of this",
        find: "typedef struct JSONStringifyContext {\n",
        replace: "#if 0\ntypedef struct JSONStringifyContext {\n",
        count: 1,
    },
    Patch {
        why: "… up to here",
        find: "static JSValue js_json_stringify(JSContext *ctx, JSValueConst this_val,",
        replace: "#endif\nstatic JSValue js_json_stringify(JSContext *ctx, JSValueConst this_val,",
        count: 1,
    },
];
