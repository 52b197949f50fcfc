//! Where the engine's answers differ from what programs written for V8 expect: texts of dates, the last bit of `Math.exp(1)`,
//! and `Atomics`, which the engine leaves out where there are no threads.

use super::Patch;

pub(super) const LANGUAGE: &[Patch] = &[
    Patch {
        why: "the name of the time zone: an isolate's clock is in UTC",
        find: "            /* XXX: tack the time zone code? */\n",
        replace: "            if (tz == 0)\n                pos += snprintf(buf + pos, sizeof(buf) - pos, \" (Coordinated Universal Time)\");\n",
        count: 1,
    },
    Patch {
        why: "… for which the buffer is too small",
        find: "    // _string(obj, fmt, part)\n    char buf[64];",
        replace: "    // _string(obj, fmt, part)\n    char buf[96];",
        count: 1,
    },
    Patch {
        why: "the library's exp is one bit off where everybody looks; V8 has the same exception",
        find: "static double js_math_exp(double d) { return exp(d); }",
        replace: "static double js_math_exp(double d) { return d == 1 ? 0x1.5bf0a8b145769p+1 : exp(d); }",
        count: 1,
    },
    Patch {
        why: "Atomics without threads: the operations are plain ones then",
        find: "!defined(EMSCRIPTEN) && !defined(__wasi__) && !__STDC_NO_ATOMICS__",
        replace: "!defined(EMSCRIPTEN) && !__STDC_NO_ATOMICS__",
        count: 1,
    },
    Patch {
        why: "… nobody can wait: no list of waiters, no locks",
        find: "typedef struct JSAtomicsWaiter {\n    struct list_head link;\n    bool linked;\n    js_cond_t cond;\n    int32_t *ptr;\n} JSAtomicsWaiter;\n\nstatic js_once_t js_atomics_once = JS_ONCE_INIT;\nstatic js_mutex_t js_atomics_mutex;\nstatic struct list_head js_atomics_waiter_list =\n    LIST_HEAD_INIT(js_atomics_waiter_list);\n",
        replace: "",
        count: 1,
    },
    Patch {
        why: "… an isolate must not block (`can_block` is never set), so waiting ends with that error",
        find: "    JSObject *p;\n    JSAtomicsWaiter waiter_s, *waiter;\n    int ret, size_log2, res;\n    double d;\n",
        replace: "    JSObject *p;\n    int size_log2;\n    double d;\n",
        count: 1,
    },
    Patch {
        why: "… and what follows it is not reached",
        find: "    if (!ctx->rt->can_block)\n        return JS_ThrowTypeError(ctx, \"cannot block in this thread\");\n",
        replace: "    (void)ptr, (void)timeout, (void)v;\n    return JS_ThrowTypeError(ctx, \"Atomics.wait cannot be called in this context\");\n}\n#if 0\n",
        count: 1,
    },
    Patch {
        why: "… up to here",
        find: "static JSValue js_atomics_notify(JSContext *ctx,",
        replace: "#endif\n\nstatic JSValue js_atomics_notify(JSContext *ctx,",
        count: 1,
    },
    Patch {
        why: "… nobody is woken",
        find: "    struct list_head *el, *el1, waiter_list;\n    int size_log2;\n    int count;\n    int32_t n;\n    void *ptr;\n",
        replace: "    int count;\n    int32_t n;\n",
        count: 1,
    },
    Patch {
        why: "… nobody is woken",
        find: "    JSArrayBuffer *abuf;\n    JSAtomicsWaiter *waiter;\n",
        replace: "    JSArrayBuffer *abuf;\n",
        count: 1,
    },
    Patch {
        why: "… nobody is woken",
        find: "    p = js_atomics_get_buf(ctx, argv[0], argv[1], &abuf, &idx, 1);\n    if (!p)\n        return JS_EXCEPTION;\n    size_log2 = typed_array_size_log2(p->class_id);\n",
        replace: "    p = js_atomics_get_buf(ctx, argv[0], argv[1], &abuf, &idx, 1);\n    if (!p)\n        return JS_EXCEPTION;\n",
        count: 1,
    },
    Patch {
        why: "… nobody is woken",
        find: "    n = 0;\n    if (abuf->shared && count > 0) {\n        ptr = p->u.array.u.uint8_ptr + ((uintptr_t)idx << size_log2);\n\n        js_mutex_lock(&js_atomics_mutex);\n        init_list_head(&waiter_list);\n        list_for_each_safe(el, el1, &js_atomics_waiter_list) {\n            waiter = list_entry(el, JSAtomicsWaiter, link);\n            if (waiter->ptr == ptr) {\n                list_del(&waiter->link);\n                waiter->linked = false;\n                list_add_tail(&waiter->link, &waiter_list);\n                n++;\n                if (n >= count)\n                    break;\n            }\n        }\n        list_for_each(el, &waiter_list) {\n            waiter = list_entry(el, JSAtomicsWaiter, link);\n            js_cond_signal(&waiter->cond);\n        }\n        js_mutex_unlock(&js_atomics_mutex);\n    }\n",
        replace: "    n = 0;\n",
        count: 1,
    },
    Patch {
        why: "… and there is no lock to make",
        find: "static void js__atomics_init(void) {\n    js_mutex_init(&js_atomics_mutex);\n}\n",
        replace: "",
        count: 1,
    },
    Patch { why: "… and there is no lock to make", find: "    js_once(&js_atomics_once, js__atomics_init);\n\n", replace: "", count: 1 },
];
