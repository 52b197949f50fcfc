// The whole native side of an isolate: QuickJS-ng, the host object, modules, and the entry points that the host calls.
//
// One translation unit on purpose: it includes the (patched, see xtask/src/quickjs.rs) engine source, so that the wire
// codec can read string internals and the image can be laid out. Driven by crates/isolate; `init` runs once while the
// image is made and never again.

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "words.h"

// Below this address lies the frozen image: objects there are immortal, their reference counts are never written, and
// their memory is never given back (each write would cost every isolate a private page).
static uintptr_t skep_image_end;
static int skep_scratch_ref_count;

// What the host reads and writes in this memory without a call. Laid out as `Mailbox` in crates/isolate/src/instance.rs.
enum { INBOX_SIZE = 2048 };
static struct {
    uint8_t inbox[INBOX_SIZE]; // where a message of up to that size may be written without asking for memory first
    uint64_t seed;             // not zero: new randomness, taken when the next turn begins (a start, a wake, a fork)
    // Operations executed so far: loop turns, calls and regular-expression steps, as the engine's own interrupt counter
    // sees them. The same code on the same input gives the same count on any machine. `operations` counts the polling
    // intervals that have ended; of the one in progress `interval - *countdown` are done.
    uint64_t operations;
    const int *countdown;
    uint32_t interval;
    uint32_t grown; // not zero: a WebAssembly memory has grown, and buffers of it are out of date
} mailbox;

// What buffers over a WebAssembly memory are known by; there is nothing to give back.
struct JSRuntime;
static void *skep_wasm_buffer(struct JSRuntime *rt, void *opaque, void *ptr, size_t n)
{
    return NULL;
}

#include "quickjs.c"

#define SKEP_EXPORT(name) __attribute__((export_name(name)))

// Texts of modules, which live as long as the isolate: functions point into them.
static struct {
    const char *at;
    size_t n;
} *module_texts;
static int n_module_texts;
static char no_source[1];

static bool is_module_text(const char *s)
{
    for (int i = 0; i < n_module_texts; i++)
        if (s >= module_texts[i].at && s < module_texts[i].at + module_texts[i].n)
            return true;
    return false;
}

static char *skep_source(JSContext *ctx, const char *s, size_t n)
{
    if (!skep_image_end)
        return no_source;
    return is_module_text(s) ? (char *)s : js_strndup(ctx, s, n);
}

static void skep_free_source(JSRuntime *rt, char *s)
{
    if (s != no_source && !is_module_text(s))
        js_free_rt(rt, s);
}

// Keeps a module's text from now on; without memory for the list the text's functions copy it instead.
static void keep_module_text(const char *s, size_t n)
{
    void *list = realloc(module_texts, (n_module_texts + 1) * sizeof(*module_texts));
    if (!list)
        return;
    module_texts = list;
    module_texts[n_module_texts].at = s;
    module_texts[n_module_texts++].n = n;
}

#include "wire.h"
#include "host.h"
#include "wasm.h"
#include "modules.h"

// Time is what the host said when the turn began: it stands still within a turn, costs no host call, and is the same
// for `Date`, `performance` and timers.
int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
    tv->tv_sec = turn_now / 1000;
    tv->tv_usec = fmod(turn_now, 1000) * 1000;
    return 0;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    ts->tv_sec = turn_now / 1000;
    ts->tv_nsec = fmod(turn_now, 1000) * 1e6;
    return 0;
}

// Of the 2 MiB that there are: the rest is for functions below the last check.
enum { STACK_JS_MAX = 1792 * 1024 };

static void rejection_tracker(JSContext *ctx, JSValueConst promise, JSValueConst reason, bool is_handled, void *opaque)
{
    if (!JS_IsFunction(ctx, hooks.on_reject))
        return;
    JSValueConst args[3] = { promise, reason, js_bool(is_handled) };
    JSValue v = JS_Call(ctx, hooks.on_reject, JS_UNDEFINED, 3, args);
    if (JS_IsException(v))
        v = JS_GetException(ctx);
    JS_FreeValue(ctx, v);
}

// Reports what escaped to the top (an exception out of a job): the bundle's reject hook gets it without a promise.
static void report_exception(void)
{
    JSValue e = JS_GetException(ctx);
    rejection_tracker(ctx, JS_UNDEFINED, e, false, NULL);
    JS_FreeValue(ctx, e);
}

static void drain_microtasks(void)
{
    JSContext *c;
    int r;
    while ((r = JS_ExecutePendingJob(rt, &c)) != 0)
        if (r < 0)
            report_exception();
}

static void evaluate_bundle(void)
{
    static char bundle[] = {
#embed "preload.js"
        , 0
    };
    JSValue v = JS_Eval(ctx, bundle, sizeof(bundle) - 1, "skep:guest", JS_EVAL_TYPE_GLOBAL | JS_EVAL_FLAG_STRICT);
    if (JS_IsException(v)) {
        JSValue e = JS_GetException(ctx);
        JSValue stack = JS_GetPropertyStr(ctx, e, "stack");
        const char *m = JS_ToCString(ctx, e), *s = JS_ToCString(ctx, stack);
        char text[4096];
        uint32_t n = snprintf(text, sizeof(text), "%s\n%s", m ? m : "?", s ? s : "");
        host_call("image.fail", 10, (const uint8_t *)text, n < sizeof(text) ? n : sizeof(text) - 1, NULL, 0);
        __builtin_trap();
    }
    JS_FreeValue(ctx, v);
    drain_microtasks();
    // The image keeps the bytecode only.
    memset(bundle, 0, sizeof(bundle));
}

// Makes every lazily created built-in now: its first use would otherwise write to a page of the image in each isolate.
static void instantiate_lazy_properties(void)
{
    bool again = true;
    while (again) {
        again = false;
        struct list_head *el;
        list_for_each(el, &rt->gc_obj_list) {
            JSGCObjectHeader *header = list_entry(el, JSGCObjectHeader, link);
            if (JS_GC_TYPE(header) != JS_GC_OBJ_TYPE_JS_OBJECT)
                continue;
            JSObject *p = (JSObject *)header;
            for (int i = 0; i < p->shape->prop_count; i++) {
                JSShapeProperty *prs = &get_shape_prop(p->shape)[i];
                if (prs->atom != JS_ATOM_NULL && (prs->flags & JS_PROP_TMASK) == JS_PROP_AUTOINIT) {
                    JS_AutoInitProperty(ctx, p, prs->atom, &p->prop[i], prs);
                    again = true;
                }
            }
        }
    }
}

// Makes everything that exists now part of the image: out of the collector's sight (a collection would touch every
// object), immortal, and with no free block left below `skep_image_end` that a later allocation could land in.
static void freeze(void)
{
    instantiate_lazy_properties();
    rx_remember(ctx);
    JS_RunGC(rt);
    static struct list_head image_objects;
    struct list_head *objects = &rt->gc_obj_list;
    if (!list_empty(objects)) {
        image_objects = *objects;
        image_objects.next->prev = &image_objects;
        image_objects.prev->next = &image_objects;
        init_list_head(objects);
    }
    for (int i = 0; i < JS_ARENA_BLOCK_SIZE_COUNT; i++) {
        init_list_head(&rt->arena_state.free_arena_list[i]);
        init_list_head(&rt->arena_state.arena_list[i]);
    }
    // Slabs at the very top of memory. The C library's allocator takes a slab for each power of two and never splits
    // larger blocks: with these on its list most isolates need not grow their memory.
    enum { SLABS = 24, SLAB = 65536 - 64 };
    void *slabs[SLABS];
    uintptr_t end = 0;
    for (int i = 0; i < SLABS; i++) {
        do
            slabs[i] = malloc(SLAB);
        while ((uintptr_t)slabs[i] + 2 * 65536 < __builtin_wasm_memory_size(0) * 65536);
        if (!end)
            end = (uintptr_t)slabs[i];
    }
    for (size_t size = 2 << 20; size > 16; size /= 2)
        for (;;) {
            size_t n = size >= 65536 ? size - 64 : size - 16;
            void *hole = malloc(n);
            if ((uintptr_t)hole >= end) {
                free(hole);
                break;
            }
            // What was freed there is not part of the image.
            memset(hole, 0, n);
        }
    for (int i = SLABS - 1; i >= 0; i--)
        free(slabs[i]);
    skep_scratch_ref_count = 1 << 30;
    skep_image_end = end;
    rt->malloc_state.malloc_size = 0;
    rt->malloc_gc_threshold = 256 * 1024;
}

SKEP_EXPORT("init") void guest_init(void)
{
    wire_out.buf = wire_out_initial;
    wire_out.cap = sizeof(wire_out_initial);
    rt = JS_NewRuntime();
    JS_SetMaxStackSize(rt, STACK_JS_MAX);
    ctx = JS_NewContext(rt);
    skep_make_chars(ctx);
    mailbox.countdown = &ctx->interrupt_counter;
    mailbox.interval = JS_INTERRUPT_COUNTER_INIT;
    skep_async_context = JS_UNDEFINED;
    hooks.listeners = hooks.on_reject = hooks.on_module = JS_UNDEFINED;
    builtin_modules = JS_NewObjectProto(ctx, JS_NULL);
    JS_SetHostPromiseRejectionTracker(rt, rejection_tracker, NULL);
    JS_SetModuleLoaderFunc(rt, module_normalize, module_load, NULL);
    JSValue global = JS_GetGlobalObject(ctx), host = JS_NewObject(ctx);
    JS_SetPropertyFunctionList(ctx, host, host_functions, countof(host_functions));
    JS_SetPropertyFunctionList(ctx, host, wasm_functions, countof(wasm_functions));
    JS_DefinePropertyValueStr(ctx, global, "__host", host, JS_PROP_C_W_E);
    JS_FreeValue(ctx, global);
    evaluate_bundle();
    freeze();
}

SKEP_EXPORT("mailbox") void *guest_mailbox(void) { return &mailbox; }

SKEP_EXPORT("alloc") void *guest_alloc(uint32_t n) { return malloc(n); }

// One turn: delivers the event in `message` (an array: kind, arguments…) at time `now` and drains the microtasks.
// Returns when the isolate next wants to be woken (ms since the epoch), or infinity.
SKEP_EXPORT("deliver") double guest_deliver(uint8_t *message, uint32_t n, double now)
{
    JS_UpdateStackTop(rt);
    turn_now = now;
    if (mailbox.seed) {
        ctx->random_state = mailbox.seed;
        mailbox.seed = 0;
    }
    WireIn in = { message + 1, message + n };
    uint32_t argc = wire_u32(&in);
    JSValue argv[16];
    if (argc > countof(argv) || !argc)
        __builtin_trap();
    bool ok = true;
    for (uint32_t i = 0; i < argc; i++) {
        argv[i] = wire_decode(ctx, &in);
        ok = ok && !JS_IsException(argv[i]);
    }
    if (message != mailbox.inbox)
        free(message);
    JSValue listener = ok ? JS_GetPropertyValue(ctx, hooks.listeners, js_dup(argv[0])) : JS_EXCEPTION;
    JSValue v = JS_IsException(listener) ? JS_EXCEPTION : JS_Call(ctx, listener, JS_UNDEFINED, argc - 1, vc(argv) + 1);
    JS_FreeValue(ctx, listener);
    for (uint32_t i = 0; i < argc; i++)
        JS_FreeValue(ctx, argv[i]);
    if (JS_IsException(v))
        report_exception();
    JS_FreeValue(ctx, v);
    drain_microtasks();
    JS_FreeValue(ctx, skep_async_context);
    skep_async_context = JS_UNDEFINED;
    return timer_at;
}

SKEP_EXPORT("collect") void guest_collect(void) { JS_RunGC(rt); }
