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
    Patch {
        why: "strings of one character come from a table",
        find: "static JSValue js_new_string_char(JSContext *ctx, uint16_t c)\n{\n",
        replace: "static JSValue skep_chars[256];\n\nstatic JSValue js_new_string_char(JSContext *ctx, uint16_t c)\n{\n    if (c < 256 && JS_VALUE_GET_TAG(skep_chars[c]) == JS_TAG_STRING)\n        return js_dup(skep_chars[c]);\n",
        count: 1,
    },
    Patch {
        why: "… as parts of others, too",
        find: "    if (p->is_wide_char) {\n        JSString *str;\n        int i;\n        uint16_t c = 0;\n        for (i = start; i < end; i++) {",
        replace: "    if (len == 1)\n        return js_new_string_char(ctx, string_get(p, start));\n    if (p->is_wide_char) {\n        JSString *str;\n        int i;\n        uint16_t c = 0;\n        for (i = start; i < end; i++) {",
        count: 1,
    },
    Patch {
        why: "a string that grows has some room to grow",
        find: "    new_size = min_int(max_int(new_len, s->size * 3 / 2), JS_STRING_LEN_MAX);",
        replace: "    new_size = min_int(max_int(new_len < JS_STRING_LEN_MAX - 64 ? new_len + 40 : new_len, s->size / 2 * 3), JS_STRING_LEN_MAX);",
        count: 1,
    },
    Patch {
        why: "one character many times",
        find: "    while (count-- > 0) {\n        if (string_buffer_putc16(s, c))\n            return -1;\n    }\n    return 0;",
        replace: "    if (!s->is_wide_char && c < 0x100 && count > 0 && !s->error_status) {\n        memset(str8(s->str) + s->len, c, count);\n        s->len += count;\n        return 0;\n    }\n    while (count-- > 0) {\n        if (string_buffer_putc16(s, c))\n            return -1;\n    }\n    return 0;",
        count: 1,
    },
    Patch {
        why: "numbers become text the short way",
        find: "        len = i32toa(buf, JS_VALUE_GET_INT(val));\n        return js_new_string8_len(ctx, buf, len);",
        replace: "        len = skep_i32toa(buf, JS_VALUE_GET_INT(val));\n        return len == 1 ? js_new_string_char(ctx, buf[0]) : js_new_string8_len(ctx, buf, len);",
        count: 1,
    },
    Patch {
        why: "… fractions, too",
        find: "    JSDTOATempMem dtoa_mem;\n    len_max = js_dtoa_max_len(d, radix, n_digits, flags);\n",
        replace: "    JSDTOATempMem dtoa_mem;\n    if (radix == 10 && flags == JS_DTOA_FORMAT_FREE && (len = skep_short_double(static_buf, d)))\n        return js_new_string8_len(ctx, static_buf, len);\n    len_max = js_dtoa_max_len(d, radix, n_digits, flags);\n",
        count: 1,
    },
    Patch {
        why: "strings: searching, joining, upper and lower case",
        find: "static JSValue js_array_join(JSContext *ctx, JSValueConst this_val,\n                             int argc, JSValueConst *argv, int toLocaleString)\n{\n",
        replace: "#include \"text.h\"\n\nstatic JSValue js_array_join(JSContext *ctx, JSValueConst this_val,\n                             int argc, JSValueConst *argv, int toLocaleString)\n{\n",
        count: 1,
    },
    Patch {
        why: "… join's elements",
        find: "        el = JS_GetPropertyUint32(ctx, obj, i);\n        if (JS_IsException(el))\n            goto fail;\n        if (!JS_IsNull(el) && !JS_IsUndefined(el)) {\n            if (toLocaleString) {",
        replace: "        if (!toLocaleString) {\n            int joined = skep_join_element(b, obj, i);\n            if (joined < 0)\n                goto fail;\n            if (!joined)\n                continue;\n        }\n        el = JS_GetPropertyUint32(ctx, obj, i);\n        if (JS_IsException(el))\n            goto fail;\n        if (!JS_IsNull(el) && !JS_IsUndefined(el)) {\n            if (toLocaleString) {",
        count: 1,
    },
    Patch {
        why: "… concat, and with it template literals",
        find: "    if (JS_TAG_STRING != JS_VALUE_GET_TAG(this_val))\n        goto slow_path;\n    p = JS_VALUE_GET_STRING(this_val);\n    len = p->len;",
        replace: "    if (JS_TAG_STRING != JS_VALUE_GET_TAG(this_val))\n        goto slow_path;\n    r = skep_concat(ctx, this_val, argc, argv);\n    if (!JS_IsUndefined(r))\n        return r;\n    p = JS_VALUE_GET_STRING(this_val);\n    len = p->len;",
        count: 1,
    },
    Patch {
        why: "… in place of these",
        find: "static int string_cmp(JSString *p1, JSString *p2, int x1, int x2, int len)\n{\n",
        replace: "#if 0\nstatic int string_cmp(JSString *p1, JSString *p2, int x1, int x2, int len)\n{\n",
        count: 1,
    },
    Patch {
        why: "… up to here",
        find: "static int64_t string_advance_index(",
        replace: "#endif\nstatic int64_t string_advance_index(",
        count: 1,
    },
    Patch {
        why: "… indexOf",
        find: "    JSString *p;\n    JSString *p1;\n\n    str = JS_ToStringCheckObject(ctx, this_val);\n    if (JS_IsException(str))\n        return str;\n    v = JS_ToString(ctx, argv[0]);",
        replace: "    JSString *p;\n    JSString *p1;\n\n    if (!lastIndexOf) {\n        ret = skep_search(argc, argv, this_val);\n        if (ret != -2)\n            return js_int32(ret);\n    }\n    str = JS_ToStringCheckObject(ctx, this_val);\n    if (JS_IsException(str))\n        return str;\n    v = JS_ToString(ctx, argv[0]);",
        count: 1,
    },
    Patch {
        why: "… includes",
        find: "    JSString *p;\n    JSString *p1;\n\n    str = JS_ToStringCheckObject(ctx, this_val);\n    if (JS_IsException(str))\n        return str;\n    ret = js_is_regexp(ctx, argv[0]);",
        replace: "    JSString *p;\n    JSString *p1;\n\n    if (magic == 0) {\n        ret = skep_search(argc, argv, this_val);\n        if (ret != -2)\n            return js_bool(ret >= 0);\n    }\n    str = JS_ToStringCheckObject(ctx, this_val);\n    if (JS_IsException(str))\n        return str;\n    ret = js_is_regexp(ctx, argv[0]);",
        count: 1,
    },
    Patch {
        why: "… split's parts",
        find: "        if (JS_CreateDataPropertyUint32(ctx, A, lengthA++, T, 0) < 0)\n            goto exception;\n        if (lengthA == lim)",
        replace: "        if (skep_append(ctx, A, lengthA++, T) < 0)\n            goto exception;\n        if (lengthA == lim)",
        count: 1,
    },
    Patch {
        why: "… its last",
        find: "    if (JS_CreateDataPropertyUint32(ctx, A, lengthA++, T,0 ) < 0)",
        replace: "    if (skep_append(ctx, A, lengthA++, T) < 0)",
        count: 1,
    },
    Patch {
        why: "… replacements without a dollar sign",
        find: "        } else {\n            args[0] = search_str;\n            args[1] = str;\n            args[2] = js_int32(pos);",
        replace: "        } else if (string_indexof_char(JS_VALUE_GET_STRING(replaceValue_str), '$', 0) < 0) {\n            repl_str = js_dup(replaceValue_str);\n        } else {\n            args[0] = search_str;\n            args[1] = str;\n            args[2] = js_int32(pos);",
        count: 1,
    },
    Patch {
        why: "… upper and lower case of 7-bit text",
        find: "    if (p->len == 0)\n        return val;\n    if (string_buffer_init(ctx, b, p->len))\n        goto fail;\n    for(i = 0; i < p->len;) {\n        c = string_getc(p, &i);\n        if (c == 0x3a3",
        replace: "    if (p->len == 0)\n        return val;\n    JSValue ascii = skep_ascii_case(ctx, safe_const(val), to_lower);\n    if (!JS_IsUndefined(ascii)) {\n        JS_FreeValue(ctx, val);\n        return ascii;\n    }\n    if (string_buffer_init(ctx, b, p->len))\n        goto fail;\n    for(i = 0; i < p->len;) {\n        c = string_getc(p, &i);\n        if (c == 0x3a3",
        count: 1,
    },
    Patch {
        why: "… charCodeAt",
        find: "static JSValue js_string_charCodeAt(JSContext *ctx, JSValueConst this_val,\n                                     int argc, JSValueConst *argv)\n{\n    JSValue val, ret;\n    JSString *p;\n    int idx, c;\n\n",
        replace: "static JSValue js_string_charCodeAt(JSContext *ctx, JSValueConst this_val,\n                                     int argc, JSValueConst *argv)\n{\n    JSValue val, ret;\n    JSString *p;\n    int idx, c;\n\n    p = skep_flat(this_val);\n    if (p && JS_VALUE_GET_TAG(argv[0]) == JS_TAG_INT) {\n        idx = JS_VALUE_GET_INT(argv[0]);\n        return idx < 0 || idx >= p->len ? JS_NAN : js_int32(string_get(p, idx));\n    }\n",
        count: 1,
    },
    Patch {
        why: "sorting",
        find: "static JSValue js_array_sort(JSContext *ctx, JSValueConst this_val,\n                             int argc, JSValueConst *argv)\n{",
        replace: "#endif\n#include \"sort.h\"\n\nstatic JSValue js_array_sort(JSContext *ctx, JSValueConst this_val,\n                             int argc, JSValueConst *argv)\n{",
        count: 1,
    },
    Patch {
        why: "… merges",
        find: "    rqsort(array, pos, sizeof(*array), js_array_cmp_generic, &asc);",
        replace: "    skep_sort(ctx, array, pos, &asc);",
        count: 1,
    },
    Patch {
        why: "… and puts the values back",
        find: "        if (array[n].pos == n) {\n            JS_FreeValue(ctx, array[n].val);\n        } else {\n            if (JS_SetPropertyInt64(ctx, obj, n, array[n].val) < 0) {",
        replace: "        if (!skep_sort_put(ctx, obj, n, array[n].val)) {\n            if (JS_SetPropertyInt64(ctx, obj, n, array[n].val) < 0) {",
        count: 1,
    },
    Patch {
        why: "… by its own comparisons",
        find: "static int js_array_cmp_generic(const void *a, const void *b, void *opaque) {",
        replace: "#if 0\nstatic int js_array_cmp_generic(const void *a, const void *b, void *opaque) {",
        count: 1,
    },
    Patch {
        why: "a slice that becomes an atom is copied: as an atom it would never give its parent back",
        find: "        if (str->atom_type == 0) {\n            p = str;",
        replace: "        if (str->atom_type == 0 && str->kind == JS_STRING_KIND_NORMAL) {\n            p = str;",
        count: 1,
    },
    Patch {
        why: "… with an end of its own",
        find: "            memcpy(str8(p), str8(str), (str->len << str->is_wide_char) +\n                   1 - str->is_wide_char);\n            js_free_string(rt, str);",
        replace: "            memcpy(str8(p), str8(str), str->len << str->is_wide_char);\n            if (!str->is_wide_char)\n                str8(p)[str->len] = 0;\n            js_free_string(rt, str);",
        count: 1,
    },
];
