//! The file system that SQLite sees: one database file per connection, made of pages, and temporary files in bounded memory.
//!
//! Driven by SQLite through the callbacks of `rsqlite-vfs`; `database` opens connections on it. SQLite keeps file systems in one list per
//! process, so each [`Vfs`] puts itself there under a name that nobody can guess, resolves only names that it gave out itself, and leaves
//! the list when its last connection is closed. Nothing is leaked and two nodes in one process do not see each other.
//!
//! It is not: a file system. No path leads to a disk; a journal, a write-ahead log or a second database cannot be opened here at all.

use std::{cell::RefCell, collections::HashMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rsqlite_vfs::{
    AccessMode, FileKind, LockLevel, OpenRequest, OpenedFile, OsCallback, RegisterVfsError, SQLiteIoMethods, SQLiteVfs, SyncOptions,
    VfsError, VfsErrorCode, VfsFile, VfsRegistration, VfsResult, VfsStore, register_vfs,
};

use super::PageFile;
use crate::pages::PAGE;

/// Bytes that a temporary file grows by.
const CHUNK: usize = 64 * 1024;

/// The file system of one node's actors. One is enough; every [`Database`](super::Database) keeps it alive.
pub struct Vfs {
    name: String,
    store: Arc<Store>,
    registration: Registration,
}

/// SQLite's list entry, and what has to be taken out of the list in the end.
struct Registration(Option<VfsRegistration<Arc<Store>>>);

// SAFETY: nothing reads the raw pointers in it but `unregister`, which takes it by value. Any thread may do that: SQLite guards its list by a mutex of
// its own, and the store behind the entry is `Send` and `Sync`.
#[expect(unsafe_code, reason = "raw pointers that are only given back")]
unsafe impl Send for Registration {}

// SAFETY: a shared reference to it gives access to nothing.
#[expect(unsafe_code, reason = "raw pointers that are only given back")]
unsafe impl Sync for Registration {}

impl Vfs {
    /// Makes the file system known to SQLite.
    ///
    /// # Errors
    /// When SQLite refuses it (no memory), or the system has no randomness to name it with.
    pub fn register() -> Result<Arc<Self>, VfsUnavailable> {
        let mut tag = [0_u8; 16];
        getrandom::fill(&mut tag).map_err(|e| VfsUnavailable(e.to_string()))?;
        let name = format!("skep-{:032x}", u128::from_le_bytes(tag));
        let store = Arc::new(Store::default());
        // SAFETY: `Io` and `System` use the default constructor, layout and callbacks of the crate, and agree on the store's types. The store
        // is `Sync` (its state is behind a mutex) and lives until `unregister`. SQLite is compiled for threads, which makes its list of file
        // systems safe to change, and nobody else registers a name with 128 random bits.
        #[expect(unsafe_code, reason = "SQLite's list of file systems holds raw pointers")]
        let registered = unsafe { register_vfs::<Io, System>(&name, Arc::clone(&store), false) };
        let registration = Some(registered.map_err(|e: RegisterVfsError| VfsUnavailable(e.to_string()))?);
        Ok(Arc::new(Self { name, store, registration: Registration(registration) }))
    }

    /// By which name SQLite finds it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A file name under which this file can be opened, once.
    pub(super) fn offer(&self, file: Arc<Backing<dyn PageFile>>) -> String {
        let mut state = self.store.0.lock();
        state.next += 1;
        let name = state.next.to_string();
        state.offered.insert(name.clone(), file);
        name
    }

    /// Takes an offer back that was not used.
    pub(super) fn withdraw(&self, name: &str) {
        self.store.0.lock().offered.remove(name);
    }
}

impl Drop for Vfs {
    fn drop(&mut self) {
        let Some(registration) = self.registration.0.take() else { return };
        // SAFETY: every connection on this file system is inside a `Database`, which holds an `Arc` of `self` and closes the connection before it
        // lets go of it; so none is open, no callback runs, and no pointer to the registration is left.
        #[expect(unsafe_code, reason = "SQLite's list of file systems holds raw pointers")]
        if let Err((_, e)) = unsafe { registration.unregister() } {
            tracing::error!(error = %e, "SQLite keeps a file system that is not used any more");
        }
    }
}

impl fmt::Debug for Vfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vfs").field("name", &self.name).finish_non_exhaustive()
    }
}

/// SQLite has no place for another file system.
#[derive(Debug, thiserror::Error)]
#[error("SQLite cannot be set up: {0}")]
pub struct VfsUnavailable(String);

/// What is behind one database file: its pages, and why they last failed.
pub(crate) struct Backing<P: ?Sized> {
    /// Set by the file, taken by who gets SQLite's error: a code says nothing about which file is damaged where.
    pub(super) failure: Mutex<Option<String>>,
    /// The pages.
    pub(crate) pages: Mutex<P>,
}

/// Memory that temporary files of one database may take, in bytes.
#[derive(Debug)]
pub(super) struct TempRoom(Mutex<usize>);

impl TempRoom {
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(bytes)))
    }

    fn take(&self, bytes: usize) -> bool {
        let mut left = self.0.lock();
        let enough = *left >= bytes;
        if enough {
            *left -= bytes;
        }
        enough
    }

    fn give_back(&self, bytes: usize) {
        *self.0.lock() += bytes;
    }
}

thread_local! {
    /// Whose temporary files are opened on this thread right now. SQLite opens them without saying for which connection, always on the thread that
    /// called it, so [`Running`] hands the answer over around each call. It outlives none.
    static ROOM: RefCell<Option<Arc<TempRoom>>> = const { RefCell::new(None) };
}

/// A call into SQLite for one database: temporary files opened meanwhile are charged to it.
pub(super) struct Running(Option<Arc<TempRoom>>);

impl Running {
    pub(super) fn with(room: &Arc<TempRoom>) -> Self {
        Self(ROOM.replace(Some(Arc::clone(room))))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        ROOM.set(self.0.take());
    }
}

#[derive(Default)]
struct Offers {
    next: u64,
    offered: HashMap<String, Arc<Backing<dyn PageFile>>>,
}

#[derive(Default)]
struct Store(Mutex<Offers>);

struct Io;
struct System;
struct Os;

impl SQLiteIoMethods for Io {
    type Store = Files;
}

impl SQLiteVfs<Io> for System {
    type Os = Os;

    fn os(_: &Arc<Store>) -> &Os {
        &Os
    }
}

impl OsCallback for Os {
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn random(&self, into: &mut [u8]) -> usize {
        if getrandom::fill(into).is_ok() { into.len() } else { 0 }
    }

    fn epoch_timestamp_in_ms(&self) -> VfsResult<i64> {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since
            .ok()
            .and_then(|t| i64::try_from(t.as_millis()).ok())
            .ok_or_else(|| VfsError::new(VfsErrorCode::Error, "the clock is before 1970".into()))
    }
}

struct Files;

impl VfsStore for Files {
    type File = File;
    type AppData = Arc<Store>;

    fn open_file(store: &Arc<Store>, request: OpenRequest<'_>) -> VfsResult<OpenedFile<File>> {
        let refused = |why: &'static str| VfsError::new(VfsErrorCode::CantOpen, why.into());
        let file = match (request.options.kind(), request.filename) {
            (Some(FileKind::MainDb), Some(name)) => {
                File::Pages(store.0.lock().offered.remove(name.path()).ok_or_else(|| refused("no such database"))?)
            }
            (Some(FileKind::TempDb | FileKind::TransientDb | FileKind::TempJournal | FileKind::SubJournal), _) => {
                let room = ROOM.with_borrow(Clone::clone).ok_or_else(|| refused("a temporary file for nobody"))?;
                File::Temp(Temp { chunks: Vec::new(), size: 0, room })
            }
            _ => return Err(refused("only the database itself is a file here")),
        };
        Ok(OpenedFile { file, access: request.options.access() })
    }

    fn close_file(_: &Arc<Store>, _: Option<&str>, file: File, _: rsqlite_vfs::OpenOptions) -> VfsResult<()> {
        drop(file);
        Ok(())
    }

    fn access(_: &Arc<Store>, _: &str, _: AccessMode) -> VfsResult<bool> {
        Ok(false)
    }

    fn full_pathname(_: &Arc<Store>, name: &str) -> VfsResult<String> {
        Ok(name.to_owned())
    }

    fn delete_file(_: &Arc<Store>, _: &str, _: bool) -> VfsResult<()> {
        Ok(())
    }
}

enum File {
    Pages(Arc<Backing<dyn PageFile>>),
    Temp(Temp),
}

impl VfsFile for File {
    fn read(&mut self, into: &mut [u8], offset: u64) -> VfsResult<usize> {
        match self {
            Self::Pages(file) => read_pages(file, into, offset),
            Self::Temp(temp) => Ok(temp.read(into, offset)),
        }
    }

    fn write(&mut self, from: &[u8], offset: u64) -> VfsResult<()> {
        match self {
            Self::Pages(file) => write_page(file, from, offset),
            Self::Temp(temp) => temp.write(from, offset),
        }
    }

    fn truncate(&mut self, size: u64) -> VfsResult<()> {
        match self {
            Self::Pages(file) => {
                let count = u32::try_from(size / PAGE as u64).map_err(|_| VfsError::new(VfsErrorCode::IoTruncate, "too large".into()))?;
                let done = file.pages.lock().truncate(count);
                done.map_err(|e| failed(file, VfsErrorCode::IoTruncate, &*e))
            }
            Self::Temp(temp) => {
                temp.truncate(size);
                Ok(())
            }
        }
    }

    // The log makes a commit durable, and there is one connection to a file: nothing to sync and nobody to lock out.
    fn sync(&mut self, _: SyncOptions) -> VfsResult<()> {
        Ok(())
    }

    fn lock(&mut self, _: LockLevel) -> VfsResult<()> {
        Ok(())
    }

    fn unlock(&mut self, _: LockLevel) -> VfsResult<()> {
        Ok(())
    }

    fn check_reserved_lock(&self) -> VfsResult<bool> {
        Ok(false)
    }

    fn size(&self) -> VfsResult<u64> {
        Ok(match self {
            Self::Pages(file) => u64::from(file.pages.lock().count()) * PAGE as u64,
            Self::Temp(temp) => temp.size,
        })
    }
}

fn failed(file: &Backing<dyn PageFile>, code: VfsErrorCode, e: &(dyn std::error::Error + Send + Sync)) -> VfsError {
    let why = e.to_string();
    *file.failure.lock() = Some(why.clone());
    VfsError::new(code, why.into())
}

fn read_pages(file: &Backing<dyn PageFile>, into: &mut [u8], offset: u64) -> VfsResult<usize> {
    let pages = file.pages.lock();
    let end = u64::from(pages.count()) * PAGE as u64;
    let mut done = 0;
    while done < into.len() {
        let at = offset + done as u64;
        if at >= end {
            break;
        }
        let within = (at % PAGE as u64) as usize;
        let page = (at / PAGE as u64) as u32 + 1;
        let rest = &mut into[done..];
        if let (0, Some(whole)) = (within, rest.first_chunk_mut::<PAGE>()) {
            pages.read(page, whole).map_err(|e| failed(file, VfsErrorCode::IoRead, &*e))?;
            done += PAGE;
        } else {
            // The header is read in parts when a file is opened.
            let mut whole = [0; PAGE];
            pages.read(page, &mut whole).map_err(|e| failed(file, VfsErrorCode::IoRead, &*e))?;
            let n = rest.len().min(PAGE - within);
            rest[..n].copy_from_slice(&whole[within..within + n]);
            done += n;
        }
    }
    Ok(done)
}

fn write_page(file: &Backing<dyn PageFile>, from: &[u8], offset: u64) -> VfsResult<()> {
    let whole: Option<&[u8; PAGE]> = from.try_into().ok();
    let page = u32::try_from(offset / PAGE as u64).ok().and_then(|n| n.checked_add(1));
    match (whole, page) {
        (Some(whole), Some(page)) if offset.is_multiple_of(PAGE as u64) => {
            let done = file.pages.lock().write(page, whole);
            done.map_err(|e| failed(file, VfsErrorCode::IoWrite, &*e))
        }
        _ => Err(VfsError::new(VfsErrorCode::IoWrite, "not a whole page".into())),
    }
}

/// A temporary file: what a sort or a large intermediate result does not keep in SQLite's own cache.
struct Temp {
    chunks: Vec<Box<[u8]>>,
    size: u64,
    room: Arc<TempRoom>,
}

impl Temp {
    fn read(&self, into: &mut [u8], offset: u64) -> usize {
        let most = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(into.len());
        let mut done = 0;
        while done < most {
            let at = offset as usize + done;
            let chunk = &self.chunks[at / CHUNK][at % CHUNK..];
            let n = chunk.len().min(most - done);
            into[done..done + n].copy_from_slice(&chunk[..n]);
            done += n;
        }
        most
    }

    fn write(&mut self, from: &[u8], offset: u64) -> VfsResult<()> {
        let full = || VfsError::new(VfsErrorCode::Full, "temporary files take too much memory".into());
        let end = usize::try_from(offset).ok().and_then(|at| at.checked_add(from.len())).ok_or_else(full)?;
        // Room is taken chunk by chunk, so a file that begins at the end of the address space fails at its first chunk that has no room.
        while self.chunks.len() * CHUNK < end {
            if !self.room.take(CHUNK) {
                return Err(full());
            }
            self.chunks.push(vec![0; CHUNK].into_boxed_slice());
        }
        let mut done = 0;
        while done < from.len() {
            let at = offset as usize + done;
            let chunk = &mut self.chunks[at / CHUNK][at % CHUNK..];
            let n = chunk.len().min(from.len() - done);
            chunk[..n].copy_from_slice(&from[done..done + n]);
            done += n;
        }
        self.size = self.size.max(end as u64);
        Ok(())
    }

    fn truncate(&mut self, size: u64) {
        self.size = self.size.min(size);
        let keep = (self.size as usize).div_ceil(CHUNK);
        self.room.give_back((self.chunks.len() - keep) * CHUNK);
        self.chunks.truncate(keep);
        if let (Some(last), tail @ 1..) = (self.chunks.last_mut(), self.size as usize % CHUNK) {
            last[tail..].fill(0);
        }
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        self.room.give_back(self.chunks.len() * CHUNK);
    }
}
