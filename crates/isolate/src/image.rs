//! The image: the frozen guest that every isolate starts from. Compiled once per machine and cached.
//!
//! The image is part of this binary; its hash names it. A snapshot belongs to exactly one image.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use wasmtime::{InstancePre, Linker, Module, Store};

use crate::engine::Engine;
use crate::instance::{self, State};

/// The Wasm module made by `cargo xtask image`.
static WASM: &[u8] = include_bytes!(env!("SKEP_IMAGE_PATH"));

/// Hash (SHA-256, hex) of the image of this build.
pub const IMAGE_HASH: &str = env!("SKEP_IMAGE_HASH");

/// Size of a page as snapshots count them, in bytes.
pub(crate) const PAGE: usize = 4096;

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
    /// The module does not compile or link: a fault of this build.
    #[error("the isolate image does not load: {0:#}")]
    Module(wasmtime::Error),
}

struct Inner {
    engine: Engine,
    hash: String,
    pre: InstancePre<State>,
    /// Memory of a fresh instance, for comparing; made when the first snapshot is taken.
    pristine: OnceLock<Vec<u8>>,
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

    /// Loads another image than the one of this build; `hash` names it in snapshots and in the cache.
    pub fn from_wasm(engine: &Engine, wasm: &[u8], hash: &str, cache: Option<&Path>) -> Result<Self, ImageError> {
        let module = match cache {
            Some(folder) => cached(engine, wasm, hash, folder)?,
            None => Module::new(engine.wasmtime(), wasm).map_err(ImageError::Module)?,
        };
        let mut linker = Linker::new(engine.wasmtime());
        instance::link(&mut linker).map_err(ImageError::Module)?;
        let pre = linker.instantiate_pre(&module).map_err(ImageError::Module)?;
        Ok(Self { inner: Arc::new(Inner { engine: engine.clone(), hash: hash.to_owned(), pre, pristine: OnceLock::new() }) })
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
    pub(crate) fn pristine(&self, store: &Store<State>) -> &[u8] {
        self.inner.pristine.get_or_init(|| {
            let mut fresh = Store::new(store.engine(), State::unused());
            let memory = self.inner.pre.instantiate(&mut fresh).ok().and_then(|i| i.get_memory(&mut fresh, "memory"));
            memory.map(|m| m.data(&fresh).to_vec()).unwrap_or_default()
        })
    }
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
    let temporary = folder.join(format!(".isolate-{}.tmp", std::process::id()));
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
