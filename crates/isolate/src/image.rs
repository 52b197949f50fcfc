//! The image: the frozen guest that every isolate starts from. Compiled once per machine and cached.
//!
//! The image is part of this binary; its hash names it. A snapshot belongs to exactly one image.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wasmtime::{InstancePre, Linker, Module, Store};

use crate::engine::Engine;
use crate::instance::{self, Instance, State};
use crate::pagemap::Pagemap;
use crate::worker::Worker;

/// The Wasm module made by `cargo xtask image`.
static WASM: &[u8] = include_bytes!(env!("SKEP_IMAGE_PATH"));

/// Hash (SHA-256, hex) of the image of this build.
pub const IMAGE_HASH: &str = env!("SKEP_IMAGE_HASH");

/// Cleaned instances kept for the next tenants; each holds its pages (some 200 KiB) and its slot.
const CLEAN_MAX: usize = 16;

/// Size of a page as snapshots count them, in bytes.
pub(crate) const PAGE: usize = 4096;

/// Where the guest's stack ends, in bytes: the linker puts it first in memory (`LDFLAGS` of `xtask/src/image.rs`).
const STACK: usize = 2 << 20;

/// Why an image could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The cache folder cannot be used.
    #[error("cannot use the cache folder {path}")]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file of another image cannot be read.
    #[error("cannot read the image {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The module does not compile or link: a fault of this build.
    #[error("the isolate image does not load: {0:#}")]
    Module(wasmtime::Error),
}

struct Inner {
    engine: Engine,
    hash: String,
    pre: InstancePre<State>,
    /// Memory of a fresh instance.
    pristine: Vec<u8>,
    /// Pages at the beginning that are the guest's stack.
    stack: u32,
    pagemap: Pagemap,
    /// Cleaned instances, ready for their next tenant.
    #[expect(clippy::vec_box, reason = "an instance stays in its box from its first turn to its last; the list moves pointers only")]
    clean: Mutex<Vec<Box<Instance>>>,
}

/// A compiled image, ready to start isolates; a cheap clone.
#[derive(Clone)]
pub struct Image {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("hash", &self.inner.hash).finish_non_exhaustive()
    }
}

impl Image {
    /// Loads the image, from compiled code in `cache` when there is some. The folder must belong to the user that runs
    /// skep and to nobody else: what lies in it is run as native code.
    pub fn load(engine: &Engine, cache: Option<&Path>) -> Result<Self, ImageError> {
        Self::from_wasm(engine, WASM, IMAGE_HASH, cache)
    }

    /// Loads another image than the one of this build, so that work on the guest needs no new binary.
    pub fn load_file(engine: &Engine, file: &Path, cache: Option<&Path>) -> Result<Self, ImageError> {
        let wasm = std::fs::read(file).map_err(|source| ImageError::File { path: file.to_owned(), source })?;
        let hash: String = Sha256::digest(&wasm).iter().map(|b| format!("{b:02x}")).collect();
        Self::from_wasm(engine, &wasm, &hash, cache)
    }

    /// Loads an image from its module; `hash` names it in snapshots and in the cache.
    pub fn from_wasm(engine: &Engine, wasm: &[u8], hash: &str, cache: Option<&Path>) -> Result<Self, ImageError> {
        let module = match cache {
            Some(folder) => cached(engine, wasm, hash, folder)?,
            None => Module::new(engine.wasmtime(), wasm).map_err(ImageError::Module)?,
        };
        let mut linker = Linker::new(engine.wasmtime());
        instance::link(&mut linker).map_err(ImageError::Module)?;
        let pre = linker.instantiate_pre(&module).map_err(ImageError::Module)?;
        let pristine = pristine(engine, &pre).map_err(ImageError::Module)?;
        let stack = stack(&pristine);
        let (hash, pagemap, clean) = (hash.to_owned(), Pagemap::open(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { engine: engine.clone(), hash, pre, pristine, stack, pagemap, clean }) })
    }

    /// What names it: the hash of its module.
    pub fn hash(&self) -> &str {
        &self.inner.hash
    }

    /// The engine it was compiled for.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn pre(&self) -> &InstancePre<State> {
        &self.inner.pre
    }

    /// The memory of a fresh instance.
    pub(crate) fn pristine(&self) -> &[u8] {
        &self.inner.pristine
    }

    /// How many pages at the beginning of the memory are the guest's stack. Between two turns nothing on it is in use.
    pub(crate) fn stack(&self) -> u32 {
        self.inner.stack
    }

    pub(crate) fn pagemap(&self) -> &Pagemap {
        &self.inner.pagemap
    }

    /// An instance for a new tenant: a cleaned one, or a new one.
    pub(crate) async fn instance(&self, worker: Arc<Worker>) -> wasmtime::Result<Box<Instance>> {
        let recycled = self.inner.clean.lock().pop();
        match recycled {
            Some(mut instance) => {
                instance.adopt(worker)?;
                Ok(instance)
            }
            None => Ok(Box::new(Instance::new(self, worker).await?)),
        }
    }

    /// Takes back an instance whose tenant has ended; keeps it if it can be cleaned.
    pub(crate) fn take_back(&self, mut instance: Box<Instance>) {
        if self.inner.clean.lock().len() < CLEAN_MAX && instance.clean(self) {
            self.inner.clean.lock().push(instance);
        }
    }
}

/// Pages of the stack; none where the image does not look as if it had one: it is zero up to its end, and then data begin.
fn stack(pristine: &[u8]) -> u32 {
    match pristine.split_at_checked(STACK) {
        Some((stack, data)) if stack.iter().all(|b| *b == 0) && data.iter().take(PAGE).any(|b| *b != 0) => (STACK / PAGE) as u32,
        _ => 0,
    }
}

fn pristine(engine: &Engine, pre: &InstancePre<State>) -> wasmtime::Result<Vec<u8>> {
    let mut store = Store::new(engine.wasmtime(), State::unused());
    store.set_epoch_deadline(1 << 30);
    // It has no start function that could wait.
    let instance = pre.instantiate_async(&mut store).now_or_never().ok_or_else(|| wasmtime::Error::msg("the image waits"))??;
    let memory = instance.get_memory(&mut store, "memory");
    memory.map(|m| m.data(&store).to_vec()).ok_or_else(|| wasmtime::Error::msg("the image exports no memory"))
}

fn cached(engine: &Engine, wasm: &[u8], hash: &str, folder: &Path) -> Result<Module, ImageError> {
    let failed = |source| ImageError::Cache { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let key = {
        use std::hash::{Hash, Hasher};
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        engine.wasmtime().precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    };
    let path = folder.join(format!("isolate-{}-{key:016x}.cwasm", hash.get(..16).unwrap_or(hash)));
    if path.exists() {
        // A file that does not fit (another version, a damaged header) is compiled again.
        if let Ok(module) = deserialize(engine, &path) {
            return Ok(module);
        }
    }
    let compiled = engine.wasmtime().precompile_module(wasm).map_err(ImageError::Module)?;
    // A name of its own: two loads at once must not write into the same file.
    let temporary = folder.join(format!(".isolate-{:016x}.tmp", crate::random::seed()));
    let write = || -> std::io::Result<()> {
        std::fs::write(&temporary, &compiled)?;
        std::fs::File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, &path)
    };
    write().map_err(failed)?;
    deserialize(engine, &path).map_err(ImageError::Module)
}

#[expect(unsafe_code, reason = "compiled code is read back from the cache folder")]
fn deserialize(engine: &Engine, path: &Path) -> wasmtime::Result<Module> {
    // SAFETY: the file was written by `precompile_module` of this same function into a folder that the contract of
    // `Image::load` reserves to the user running skep; it appears by rename, so it is never seen half-written, and
    // Wasmtime checks its version and settings.
    unsafe { Module::deserialize_file(engine.wasmtime(), path) }
}
