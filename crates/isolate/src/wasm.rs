//! WebAssembly of a worker's own modules: compiled elsewhere, instantiated beside the guest in its store.
//!
//! Compiling happens in a process that [`Compile`] reaches (the node's compile child, which calls [`precompile`]); what
//! comes back is loaded here and kept by the hash of its source. Instances, their memories and what passes between them
//! and the guest are in `live`, the pages that a memory shares with the guest in `shared`. No JavaScript is known here.

mod live;
mod sections;
mod shared;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use wasmtime::{Config, MemoryType, Module};

pub(crate) use live::{ELEMENT_BYTES, ELEMENTS_MAX, Guest, Live, link};

use crate::engine::{Engine, compile_config};
use crate::target::BoxFuture;
use crate::worker::{Code, ModuleKind};

/// Largest module that is compiled, in bytes.
pub const MODULE_BYTES_MAX: usize = 16 << 20;

/// Functions a module may have: what compiling takes grows with them even when they are empty.
const FUNCTIONS_MAX: u32 = 100_000;

/// Compiled modules kept after their last use, in bytes of their source.
const CACHE_BYTES_MAX: usize = 64 << 20;

/// Compiled code larger than this is refused.
const ARTIFACT_BYTES_MAX: usize = 256 << 20;

/// The import that takes the place of a module's own memory.
const MEMORY_IMPORT: (&str, &str) = ("skep", "memory");

/// Compiles Wasm somewhere that can be spared. Supplied by the node.
pub trait Compile: Send + Sync {
    /// What [`precompile`] makes of these bytes; the error is for the author of the module.
    fn compile(&self, module: Bytes) -> BoxFuture<Result<Vec<u8>, String>>;
}

/// Compiles a module into what an engine of the same build loads: the work of the compile child. One thread, no executable memory.
///
/// # Errors
/// With the compiler's words when the module is not valid, and when it is beyond the bounds.
pub fn precompile(module: &[u8]) -> Result<Vec<u8>, String> {
    check(module)?;
    let mut config: Config = compile_config();
    config.parallel_compilation(false);
    let engine = wasmtime::Engine::new(&config).map_err(|e| format!("{e:#}"))?;
    let imported = sections::import_memory(module, MEMORY_IMPORT);
    engine.precompile_module(imported.as_deref().unwrap_or(module)).map_err(|e| format!("{e:#}"))
}

/// What can be told before compiling.
fn check(module: &[u8]) -> Result<(), String> {
    if module.len() > MODULE_BYTES_MAX {
        return Err(format!("the module is {} bytes; at most {MODULE_BYTES_MAX} are compiled", module.len()));
    }
    match sections::functions(module) {
        Some(n) if n > FUNCTIONS_MAX => Err(format!("the module has {n} functions; at most {FUNCTIONS_MAX} are compiled")),
        _ => Ok(()),
    }
}

/// A module ready to be instantiated.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) module: Module,
    /// Its source, for what the compiler does not keep.
    pub(crate) source: Bytes,
    /// Type of its own memory, which is made outside and imported.
    pub(crate) memory: Option<MemoryType>,
}

/// A worker's Wasm modules by name; those that do not compile with the compiler's words.
pub(crate) type Modules = HashMap<String, Result<Arc<Compiled>, String>>;

/// What an engine has for Wasm of workers: the way to the compiler, what was compiled, and how much may live at once.
pub(crate) struct Wasm {
    compile: Mutex<Option<Arc<dyn Compile>>>,
    cache: Mutex<Cache>,
    pub(crate) places: Arc<Places>,
}

/// What all isolates of an engine share; each is a semaphore because running out must fail and not wait.
#[derive(Debug)]
pub(crate) struct Places {
    /// Native stacks of calls between guest and Wasm.
    pub(crate) stacks: Arc<Semaphore>,
    /// Instances and their tables.
    pub(crate) instances: Arc<Semaphore>,
    /// Memories; each takes 4 GiB of address space.
    pub(crate) memories: Arc<Semaphore>,
    /// Isolates that pass references.
    pub(crate) heaps: Arc<Semaphore>,
}

#[derive(Default)]
struct Cache {
    modules: HashMap<[u8; 32], (Arc<Compiled>, u64)>,
    bytes: usize,
    clock: u64,
}

impl Cache {
    fn get(&mut self, hash: &[u8; 32]) -> Option<Arc<Compiled>> {
        self.clock += 1;
        let (compiled, used) = self.modules.get_mut(hash)?;
        *used = self.clock;
        Some(compiled.clone())
    }

    fn put(&mut self, hash: [u8; 32], compiled: Arc<Compiled>) {
        self.clock += 1;
        let size = compiled.source.len();
        while self.bytes + size > CACHE_BYTES_MAX {
            let Some(oldest) = self.modules.iter().min_by_key(|(_, (_, used))| *used).map(|(hash, _)| *hash) else { break };
            if let Some((gone, _)) = self.modules.remove(&oldest) {
                self.bytes -= gone.source.len();
            }
        }
        self.bytes += size;
        if let Some((before, _)) = self.modules.insert(hash, (compiled, self.clock)) {
            self.bytes -= before.source.len();
        }
    }
}

impl Wasm {
    pub(crate) fn new(places: Places) -> Self {
        Self { compile: Mutex::default(), cache: Mutex::default(), places: Arc::new(places) }
    }

    pub(crate) fn set_compiler(&self, compile: Arc<dyn Compile>) {
        *self.compile.lock() = Some(compile);
    }

    /// Compiles the Wasm modules of a worker, or finds them compiled.
    pub(crate) async fn modules(&self, engine: &Engine, code: &Code) -> Modules {
        let mut modules = HashMap::new();
        for (name, module) in code.modules.iter().filter(|(_, m)| m.kind == ModuleKind::Wasm) {
            modules.insert(name.clone(), self.module(engine, &module.content).await);
        }
        modules
    }

    async fn module(&self, engine: &Engine, source: &Bytes) -> Result<Arc<Compiled>, String> {
        let hash: [u8; 32] = Sha256::digest(source).into();
        if let Some(compiled) = self.cache.lock().get(&hash) {
            return Ok(compiled);
        }
        check(source)?;
        let compile = self.compile.lock().clone().ok_or("nothing here compiles WebAssembly")?;
        let artifact = compile.compile(source.clone()).await?;
        if artifact.len() > ARTIFACT_BYTES_MAX {
            return Err("the compiled module is too large".into());
        }
        let module = deserialize(engine, &artifact).map_err(|e| format!("{e:#}"))?;
        let ours = |i: &wasmtime::ImportType<'_>| (i.module(), i.name()) == MEMORY_IMPORT;
        let memory = module.imports().last().filter(ours).and_then(|i| i.ty().memory().cloned());
        let compiled = Arc::new(Compiled { module, source: source.clone(), memory });
        self.cache.lock().put(hash, compiled.clone());
        Ok(compiled)
    }
}

#[expect(unsafe_code, reason = "compiled code comes from the compile child")]
fn deserialize(engine: &Engine, artifact: &[u8]) -> wasmtime::Result<Module> {
    // SAFETY: the bytes were made by `precompile` of this same program, in a child process that this program started; Wasmtime
    // checks version and settings. The child is fenced in but it has parsed hostile input: were it taken over by a fault
    // of the compiler, its answer would be native code of the attacker's choice. That is the trust every embedder places in
    // Cranelift when it compiles in its own process; the child keeps crashes, memory and time out of this one (SECURITY.md).
    unsafe { Module::deserialize(engine.wasmtime(), artifact) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded() {
        let engine = wasmtime::Engine::default();
        let module = Module::new(&engine, [0, 97, 115, 109, 1, 0, 0, 0]).unwrap();
        let mut cache = Cache::default();
        for i in 0..20u8 {
            let source = Bytes::from(vec![i; 8 << 20]);
            cache.put([i; 32], Arc::new(Compiled { module: module.clone(), source, memory: None }));
        }
        assert!(cache.bytes <= CACHE_BYTES_MAX);
        assert!(cache.get(&[19; 32]).is_some() && cache.get(&[0; 32]).is_none());
    }

    #[test]
    fn a_module_of_a_million_functions_is_not_compiled() {
        let mut module = vec![0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0];
        // A function section that says it has 1,000,000 entries.
        module.extend([3, 3, 0xC0, 0x84, 0x3D]);
        assert!(precompile(&module).unwrap_err().contains("1000000 functions"));
        assert!(precompile(&vec![0; MODULE_BYTES_MAX + 1]).unwrap_err().contains("bytes"));
    }
}
