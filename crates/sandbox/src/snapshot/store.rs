//! Where chunks are kept: a trait, and a folder.
//!
//! It is not: what a chunk holds. A store may lie, lose and mix up; whoever reads checks.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::chunks::ChunkName;

/// A place for chunks. Calls may take long and are made by threads that may wait.
pub trait ChunkStore: Send + Sync {
    /// Keeps what is stored of a chunk, durable when it returns; one that is there already may be kept or replaced.
    fn put(&self, name: &ChunkName, stored: &[u8]) -> io::Result<()>;
    /// What was stored. `NotFound`: there is no such chunk.
    fn get(&self, name: &ChunkName) -> io::Result<Vec<u8>>;
    /// Whether there is such a chunk.
    fn has(&self, name: &ChunkName) -> io::Result<bool>;
    /// All that there are.
    fn list(&self) -> io::Result<Vec<ChunkName>>;
    /// Removes it, if it is there.
    fn remove(&self, name: &ChunkName) -> io::Result<()>;
}

/// Chunks as files of a folder: `<2 hex>/<64 hex>`.
#[derive(Debug)]
pub struct Folder {
    folder: PathBuf,
    /// Tells apart what is written at the same time.
    next: AtomicU64,
}

impl Folder {
    /// Made where it is missing. What an interrupted write left is removed.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let store = Self { folder: folder.to_owned(), next: AtomicU64::new(0) };
        for shelf in store.shelves()? {
            for entry in fs::read_dir(shelf)? {
                let path = entry?.path();
                if path.extension().is_some() {
                    fs::remove_file(path)?;
                }
            }
        }
        Ok(store)
    }

    fn shelves(&self) -> io::Result<Vec<PathBuf>> {
        let shelves = fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.path()));
        Ok(shelves.collect::<io::Result<Vec<_>>>()?.into_iter().filter(|shelf| shelf.is_dir()).collect())
    }

    fn shelf(&self, name: &ChunkName) -> (PathBuf, String) {
        let text = name.to_string();
        (self.folder.join(&text[..2]), text)
    }
}

impl ChunkStore for Folder {
    fn put(&self, name: &ChunkName, stored: &[u8]) -> io::Result<()> {
        let (shelf, text) = self.shelf(name);
        match fs::DirBuilder::new().mode(0o700).create(&shelf) {
            Ok(()) => File::open(&self.folder)?.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let beside = shelf.join(format!("{text}.{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let written = File::create(&beside).and_then(|mut file| {
            file.write_all(stored)?;
            file.sync_all()?;
            fs::rename(&beside, shelf.join(&text))
        });
        written.inspect_err(|_| drop(fs::remove_file(&beside)))?;
        File::open(&shelf)?.sync_all()
    }

    fn get(&self, name: &ChunkName) -> io::Result<Vec<u8>> {
        let (shelf, text) = self.shelf(name);
        fs::read(shelf.join(text))
    }

    fn has(&self, name: &ChunkName) -> io::Result<bool> {
        let (shelf, text) = self.shelf(name);
        shelf.join(text).try_exists()
    }

    fn list(&self) -> io::Result<Vec<ChunkName>> {
        let mut names = Vec::new();
        for shelf in self.shelves()? {
            for entry in fs::read_dir(shelf)? {
                names.extend(entry?.file_name().to_str().and_then(|name| name.parse::<ChunkName>().ok()));
            }
        }
        Ok(names)
    }

    fn remove(&self, name: &ChunkName) -> io::Result<()> {
        let (shelf, text) = self.shelf(name);
        match fs::remove_file(shelf.join(text)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
