//! The QuickJS-ng source that goes into the image: located in the cargo registry, copied and patched.
//!
//! A patch names the exact text it replaces and how often that text occurs; any other count stops the build, so that
//! an update of the package cannot silently lose a change. The copies live in `target/` and are never committed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

mod arrays;
mod data;
mod dispatch;
mod fusion;
mod interpreter;
mod language;
mod regexp;
mod shapes;
mod stack;
mod wasm;
mod web;

struct Patch {
    why: &'static str,
    find: &'static str,
    replace: &'static str,
    count: usize,
}

const QUICKJS: &[Patch] = &[
    Patch {
        why: "the slot behind AsyncLocalStorage; declared before its first use",
        find: "static JSValue js_dup(JSValueConst v)\n{",
        replace: "static JSValue skep_async_context;\n\nstatic JSValue js_dup(JSValueConst v)\n{",
        count: 1,
    },
    Patch {
        why: "objects of the image are immortal: their counts are read and written in one scratch word",
        find: "#define JS_REF_COUNT(p) (js_rc(p)->ref_count)",
        replace: "#define JS_REF_COUNT(p) (*((uintptr_t)(p) < skep_image_end ? &skep_scratch_ref_count : &js_rc(p)->ref_count))",
        count: 1,
    },
    Patch {
        why: "an arena with the C library's header of 16 bytes is exactly one page, where 4,096 bytes would take two",
        find: "#define JS_ARENA_SIZE              4096",
        replace: "#define JS_ARENA_SIZE              4080",
        count: 1,
    },
    Patch {
        why: "memory of the image is never given back (the free list would dirty its pages)",
        find: "    if (!ptr)\n        return;\n    b = container_of(ptr, JSMallocBlockHeader, user_data);",
        replace: "    if ((uintptr_t)ptr < skep_image_end)\n        return;\n    b = container_of(ptr, JSMallocBlockHeader, user_data);",
        count: 1,
    },
    Patch {
        why: "… nor resized in place by the backing allocator, which would give the old block back",
        find: "            nb = rt->mf.js_realloc(rt->malloc_state.opaque, b,\n                                   sizeof(JSMallocBlockHeader) + size);\n            if (!nb)\n                return NULL;",
        replace: "            if ((uintptr_t)ptr < skep_image_end) {\n                size_t old = rt->mf.js_malloc_usable_size(b) - sizeof(JSMallocBlockHeader);\n                void *moved = js_arena_malloc(rt, size);\n                if (!moved)\n                    return NULL;\n                memcpy(moved, ptr, old < size ? old : size);\n                return moved;\n            }\n            nb = rt->mf.js_realloc(rt->malloc_state.opaque, b,\n                                   sizeof(JSMallocBlockHeader) + size);\n            if (!nb)\n                return NULL;",
        count: 1,
    },
    Patch {
        why: "freeing a block of the image must not make the size underflow (which aborts)",
        find: "    size_t free_size = js_arena_usable_size(rt, ptr) + MALLOC_OVERHEAD;\n    if (unlikely(free_size > s->malloc_size)) {",
        replace: "    if ((uintptr_t)ptr < skep_image_end)\n        return;\n    size_t free_size = js_arena_usable_size(rt, ptr) + MALLOC_OVERHEAD;\n    if (unlikely(free_size > s->malloc_size)) {",
        count: 1,
    },
    Patch {
        why: "the same for a block of the image that is resized",
        find: "    if (s->malloc_size + size - old_size > s->malloc_limit - 1)\n        return NULL;",
        replace: "    if ((uintptr_t)ptr < skep_image_end)\n        s->malloc_size += old_size;\n    if (s->malloc_size + size - old_size > s->malloc_limit - 1)\n        return NULL;",
        count: 1,
    },
    Patch {
        why: "upstream has no stack limit on WASI: a deep recursion would run over the heap",
        find: "#if defined(__wasi__)\n    rt->stack_limit = 0; /* no limit */\n#else",
        replace: "#if 0\n#else",
        count: 1,
    },
    Patch {
        why: "a function's source text stays in its module's text instead of being copied at every level of nesting",
        find: "static JSValue skep_async_context;\n",
        replace: "static JSValue skep_async_context;\nstatic char *skep_source(JSContext *ctx, const char *s, size_t n);\nstatic void skep_free_source(JSRuntime *rt, char *s);\n",
        count: 1,
    },
    Patch {
        why: "… of a class",
        find: "    js_free(ctx, ctor_fd->source);",
        replace: "    skep_free_source(ctx->rt, ctor_fd->source);",
        count: 1,
    },
    Patch {
        why: "… of a class",
        find: "    ctor_fd->source = js_strndup(ctx, (const char *)class_start_ptr, ctor_fd->source_len);",
        replace: "    ctor_fd->source = skep_source(ctx, (const char *)class_start_ptr, ctor_fd->source_len);",
        count: 1,
    },
    Patch {
        why: "… of a function and of an arrow function",
        find: "fd->source = js_strndup(ctx, (const char *)ptr, fd->source_len);",
        replace: "fd->source = skep_source(ctx, (const char *)ptr, fd->source_len);",
        count: 2,
    },
    Patch { why: "… freed", find: "    js_free(ctx, fd->source);\n", replace: "    skep_free_source(ctx->rt, fd->source);\n", count: 1 },
    Patch { why: "… freed", find: "    js_free_rt(rt, b->source);", replace: "    skep_free_source(rt, b->source);", count: 1 },
    Patch {
        why: "functions of the image have no source: they show as native code, as built-ins do",
        find: "        if (b->source)\n            return JS_NewStringLen(ctx, b->source, b->source_len);",
        replace: "        if (b->source && *b->source)\n            return JS_NewStringLen(ctx, b->source, b->source_len);",
        count: 1,
    },
    Patch {
        why: "the operation count of the meter",
        find: "    ctx->interrupt_counter = JS_INTERRUPT_COUNTER_INIT;\n    if (rt->interrupt_handler) {",
        replace: "    mailbox.operations += JS_INTERRUPT_COUNTER_INIT;\n    ctx->interrupt_counter = JS_INTERRUPT_COUNTER_INIT;\n    if (rt->interrupt_handler) {",
        count: 1,
    },
    Patch {
        why: "regular expressions count too (the matcher polls every 10,000 steps)",
        find: "int lre_check_timeout(void *opaque)\n{",
        replace: "int lre_check_timeout(void *opaque)\n{\n    mailbox.operations += 10000;",
        count: 1,
    },
    Patch {
        why: "a reaction remembers the async context in which `then` or `await` was reached",
        find: "    JSValue resolving_funcs[2];\n    JSValue handler;\n} JSPromiseReactionData;",
        replace: "    JSValue resolving_funcs[2];\n    JSValue handler;\n    JSValue async_context;\n} JSPromiseReactionData;",
        count: 1,
    },
    Patch {
        why: "… frees it",
        find: "    JS_FreeValueRT(rt, rd->handler);\n    js_free_rt(rt, rd);",
        replace: "    JS_FreeValueRT(rt, rd->handler);\n    JS_FreeValueRT(rt, rd->async_context);\n    js_free_rt(rt, rd);",
        count: 1,
    },
    Patch {
        why: "… shows it to the collector",
        find: "            JS_MarkValue(rt, rd->handler, mark_func);\n        }",
        replace: "            JS_MarkValue(rt, rd->handler, mark_func);\n            JS_MarkValue(rt, rd->async_context, mark_func);\n        }",
        count: 1,
    },
    Patch {
        why: "… takes it",
        find: "        rd->handler = js_dup(handler);\n        rd_array[i] = rd;",
        replace: "        rd->handler = js_dup(handler);\n        rd->async_context = js_dup(skep_async_context);\n        rd_array[i] = rd;",
        count: 1,
    },
    Patch {
        why: "… hands it to the job (settled later)",
        find: "        args[4] = value;\n        JS_EnqueueJob(ctx, promise_reaction_job, 5, args);",
        replace: "        args[4] = value;\n        args[5] = rd->async_context;\n        JS_EnqueueJob(ctx, promise_reaction_job, 6, args);",
        count: 1,
    },
    Patch {
        why: "… hands it to the job (settled already)",
        find: "        args[4] = s->promise_result;\n        JS_EnqueueJob(ctx, promise_reaction_job, 5, args);",
        replace: "        args[4] = s->promise_result;\n        args[5] = rd->async_context;\n        JS_EnqueueJob(ctx, promise_reaction_job, 6, args);",
        count: 1,
    },
    Patch {
        why: "room for the sixth argument",
        find: "    JSValueConst args[5];\n\n    if (!s || s->promise_state != JS_PROMISE_PENDING)",
        replace: "    JSValueConst args[6];\n\n    if (!s || s->promise_state != JS_PROMISE_PENDING)",
        count: 1,
    },
    Patch {
        why: "room for the sixth argument",
        find: "        JSValueConst args[5];\n        call_promise_rejection_tracker(ctx, promise, true);",
        replace: "        JSValueConst args[6];\n        call_promise_rejection_tracker(ctx, promise, true);",
        count: 1,
    },
    Patch {
        why: "the job runs in the reaction's context and leaves none behind",
        find: "    assert(argc == 5);\n    handler = argv[2];",
        replace: "    assert(argc == 6);\n    JS_FreeValue(ctx, skep_async_context);\n    skep_async_context = js_dup(argv[5]);\n    handler = argv[2];",
        count: 1,
    },
    Patch {
        why: "resolving with a thenable keeps the context of the resolver",
        find: "        JS_EnqueueJob(ctx, js_promise_resolve_thenable_job, 3, args);",
        replace: "        JSValueConst job_args[4] = { args[0], args[1], args[2], skep_async_context };\n        JS_EnqueueJob(ctx, js_promise_resolve_thenable_job, 4, job_args);",
        count: 1,
    },
    Patch {
        why: "… and its job runs in it",
        find: "    assert(argc == 3);\n    promise = argv[0];",
        replace: "    assert(argc == 4);\n    JS_FreeValue(ctx, skep_async_context);\n    skep_async_context = js_dup(argv[3]);\n    promise = argv[0];",
        count: 1,
    },
];

/// The files that are compiled; headers are copied whatever their name.
const ENGINE_FILES: &[&str] = &["quickjs.c", "libregexp.c", "libunicode.c", "dtoa.c"];

/// The folder of the pinned package's engine source.
fn source_dir(root: &Path) -> Result<PathBuf> {
    let out = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    ensure!(out.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&out.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let package = packages.iter().find(|p| p["name"] == "rquickjs-sys").context("rquickjs-sys is not in the lock file")?;
    let manifest = package["manifest_path"].as_str().context("package without a manifest path")?;
    Ok(Path::new(manifest).parent().context("manifest without a folder")?.join("quickjs"))
}

/// The patches of a file, in the order in which they are applied: a later one sees what an earlier one left.
fn patches(file: &str) -> &'static [&'static [Patch]] {
    match file {
        "quickjs.c" => &[
            QUICKJS,
            dispatch::DISPATCH,
            regexp::BUILTINS,
            shapes::SHAPES,
            interpreter::INTERPRETER,
            data::DATA,
            web::WEB,
            wasm::WASM,
            language::LANGUAGE,
            arrays::ARRAYS,
            fusion::FUSION,
            stack::STACK,
        ],
        "libregexp.c" => &[regexp::MATCHER],
        _ => &[],
    }
}

fn apply(mut text: String, file: &str) -> Result<String> {
    for patch in patches(file).iter().copied().flatten() {
        let found = text.matches(patch.find).count();
        if found != patch.count {
            bail!("{file}: the text for \"{}\" occurs {found} times instead of {}", patch.why, patch.count);
        }
        text = text.replace(patch.find, patch.replace);
    }
    Ok(text)
}

/// Copies the engine's source into `into`, patched. Files whose text did not change are left alone.
pub fn prepare(root: &Path, into: &Path) -> Result<()> {
    std::fs::create_dir_all(into)?;
    let source = source_dir(root)?;
    for entry in std::fs::read_dir(&source).with_context(|| format!("reading {}", source.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let engine_file = ENGINE_FILES.contains(&name);
        if !engine_file && !name.ends_with(".h") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let text = apply(text, name)?;
        let target = into.join(name);
        if std::fs::read_to_string(&target).ok().as_deref() != Some(&text) {
            std::fs::write(target, text)?;
        }
    }
    Ok(())
}
