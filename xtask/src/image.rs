//! Makes the image: bundle the guest's TypeScript, compile the glue with QuickJS-ng, run `init` once, freeze.
//!
//! The result is a function of the sources and the pinned tools alone: every import is a constant while `init` runs, so
//! that two builds are byte-identical.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use wasmtime::{Caller, Config, Engine, Instance, Linker, Module, OptLevel, Store, Val};
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

/// Compiler flags of the guest. `-Oz` and LTO were slower; atomics and exceptions are not used.
const CFLAGS: &[&str] = &[
    "-target",
    "wasm32-wasi",
    "-mexec-model=reactor",
    "-O3",
    "-mcpu=generic+bulk_memory+simd128+sign_ext+nontrapping_fptoint",
    "-std=gnu23",
    "-DNDEBUG",
    "-D_GNU_SOURCE",
    "-DQUICKJS_NG_BUILD",
    "-D_WASI_EMULATED_SIGNAL",
    "-D_WASI_EMULATED_PROCESS_CLOCKS",
    "-fno-strict-aliasing",
    "-Wno-empty-body",
];

/// Zig puts the stack first in memory, so that running over it traps instead of reaching the heap. Its 2 MiB (of which scripts get
/// `STACK_JS_MAX`) hold more than five thousand plain calls; they are zero in the image and cost nothing before they are used.
const LDFLAGS: &[&str] = &["-lwasi-emulated-signal", "-lwasi-emulated-process-clocks", "-Wl,-z,stack-size=2097152", "-Wl,--strip-debug"];
const STACK_BYTES: usize = 2 << 20;

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

fn zig(root: &Path) -> PathBuf {
    root.join("target/zig/ziglang/zig")
}

fn compile(root: &Path, guest: &Path, work: &Path) -> Result<Vec<u8>> {
    let quickjs = work.join("quickjs");
    crate::quickjs::prepare(root, &quickjs)?;
    let zig = zig(root);
    if !zig.exists() {
        bail!("{} is missing: run `make setup` first", zig.display());
    }
    let wasm = work.join("guest.wasm");
    let mut cc = Command::new(zig);
    cc.arg("cc").args(CFLAGS).arg(format!("-I{}", quickjs.display())).arg("-iquote").arg(guest.join("glue"));
    cc.arg(format!("--embed-dir={}", work.display()));
    cc.arg(guest.join("glue/guest.c"));
    cc.args(["libregexp.c", "libunicode.c", "dtoa.c"].map(|f| quickjs.join(f)));
    cc.args(LDFLAGS).arg("-o").arg(&wasm);
    // The compiler's cache belongs to the build folder, not to the home directory.
    cc.env("ZIG_GLOBAL_CACHE_DIR", root.join("target/zig-cache")).env("ZIG_LOCAL_CACHE_DIR", root.join("target/zig-cache"));
    run(&mut cc)?;
    Ok(std::fs::read(wasm)?)
}

fn instantiate(store: &mut Store<()>, module: &Module) -> Result<Instance> {
    let mut linker = Linker::new(module.engine());
    linker.func_wrap(
        "skep",
        "call",
        |mut caller: Caller<'_, ()>, op: u32, op_len: u32, args: u32, args_len: u32, _out: u32, _cap: u32| -> wasmtime::Result<u32> {
            let memory = caller.get_export("memory").and_then(|e| e.into_memory());
            let text = |at: u32, len: u32| {
                let data = memory.map(|m| m.data(&caller)).unwrap_or_default();
                String::from_utf8_lossy(data.get(at as usize..(at + len) as usize).unwrap_or_default()).into_owned()
            };
            // Nothing of the outside may get into the image.
            Err(wasmtime::Error::msg(format!("host call while the image is made: {} {}", text(op, op_len), text(args, args_len))))
        },
    )?;
    linker.func_wrap("skep", "take", |_: u32| -> wasmtime::Result<()> { Err(wasmtime::Error::msg("nothing to take")) })?;
    // The C library refers to standard streams that an isolate does not have; the engine answers the same.
    linker.define_unknown_imports_as_traps(module)?;
    Ok(linker.instantiate(store, module)?)
}

/// What the freezing tool reads from an instance.
struct Frozen<'a> {
    store: &'a mut Store<()>,
    instance: Instance,
}

impl InstanceState for Frozen<'_> {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        match self.instance.get_global(&mut *self.store, name).map(|g| g.get(&mut *self.store)) {
            Some(Val::I32(v)) => SnapshotVal::I32(v),
            Some(Val::I64(v)) => SnapshotVal::I64(v),
            Some(Val::F32(v)) => SnapshotVal::F32(v),
            Some(Val::F64(v)) => SnapshotVal::F64(v),
            other => unreachable!("the guest has no global {name} of type {other:?}"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut *self.store, name);
        contents(memory.map(|m| m.data(&*self.store)).unwrap_or_default());
    }
}

fn freeze(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::None).async_stack_size(8 << 20).max_wasm_stack(4 << 20);
    let engine = Engine::new(&config)?;
    let mut wizer = Wizer::new();
    wizer.init_func("init");
    let (context, instrumented) = wizer.instrument(wasm)?;
    let mut store = Store::new(&engine, ());
    let instance = instantiate(&mut store, &Module::new(&engine, &instrumented)?)?;
    if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, "_initialize") {
        initialize.call(&mut store, ())?;
    }
    instance.get_typed_func::<(), ()>(&mut store, "init")?.call(&mut store, ())?;
    // What that left on the stack is not part of the image: whoever starts from it finds the stack empty.
    let memory = instance.get_memory(&mut store, "memory").context("the guest exports no memory")?;
    memory.data_mut(&mut store).get_mut(..STACK_BYTES).context("the guest's memory is smaller than its stack")?.fill(0);
    let mut frozen = Frozen { store: &mut store, instance };
    Ok(block_on(wizer.snapshot(&context, &mut frozen))?)
}

/// Runs a future that never waits (the instance has no asynchronous import).
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(v) = future.as_mut().poll(&mut cx) {
            return v;
        }
    }
}

/// Builds `target/image/isolate.wasm` and prints its hash.
pub fn build() -> Result<()> {
    let here = std::env::current_dir()?;
    let root = here.ancestors().find(|folder| folder.join("xtask/Cargo.toml").exists()).context("run this inside the repository")?;
    let guest = root.join("crates/isolate/guest");
    let work = root.join("target/guest");
    std::fs::create_dir_all(&work)?;
    run(Command::new("node").arg("build.mjs").current_dir(&guest))?;
    let image = freeze(&compile(root, &guest, &work)?)?;
    let out = root.join("target/image");
    std::fs::create_dir_all(&out)?;
    std::fs::write(out.join("isolate.wasm"), &image)?;
    println!("image {} ({} KiB)", hex(&Sha256::digest(&image)), image.len() / 1024);
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
