//! What the local log asks of a disk, and the real one.
//!
//! Everything that [`LocalLog`](super::LocalLog) reads and writes goes through [`Disk`], so that its tests run on one that loses what was
//! not synced, fills up, fails and flips bits (`simulated`). It is not: a file system; names are plain, all in one directory.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

/// One directory.
pub(crate) trait Disk: Send + Sync + fmt::Debug + 'static {
    /// The names in it.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A file that is there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// A new file of `size` zeros whose space is reserved; replaces one of that name.
    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, and takes that from a file that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; who has it open reads on.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes created, renamed and removed names last.
    fn sync_names(&self) -> io::Result<()>;
    /// For messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// One open file.
pub(crate) trait DiskFile: Send + Sync + fmt::Debug + 'static {
    /// Its size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Fills `into` from `offset`; how much there was of it.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of it.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Comes back when everything written is durable.
    fn sync(&self) -> io::Result<()>;
}

/// Whether an error says that there is no room, which passes, and not that the device failed.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Everything from `offset` on, as far as the file goes, at most `length` bytes.
pub(crate) fn read_range(file: &dyn DiskFile, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let there = file.read_at(&mut bytes, offset)?;
    bytes.truncate(there);
    Ok(bytes)
}

/// A directory of this machine.
#[derive(Debug)]
pub(crate) struct RealDisk(PathBuf);

impl RealDisk {
    pub(crate) fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        std::fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.0.join(name))?))
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.0.join(name))?;
        match reserve(&file, size).and_then(|()| file.sync_all()) {
            Ok(()) => Ok(Arc::new(file)),
            Err(error) => {
                let _ = std::fs::remove_file(self.0.join(name));
                Err(error)
            }
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.0.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Where the file system cannot reserve, zeros are written: the space is then taken, if not by the same blocks.
fn reserve(file: &File, size: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, size.max(1)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(file, 0, size),
        other => Ok(other?),
    }
}

/// Writes zeros over a range. Blocks that were only reserved are turned into written ones, so that a later sync has nothing but data to write.
pub(crate) fn fill(file: &dyn DiskFile, mut from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_STEP as usize];
    while from < to {
        let step = (to - from).min(FILL_STEP);
        file.write_at(&zeros[..step as usize], from)?;
        from += step;
    }
    Ok(())
}

/// How much is filled in one step.
pub(crate) const FILL_STEP: u64 = 1 << 20;

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut there = 0;
        while there < into.len() {
            match FileExt::read_at(self, &mut into[there..], offset + there as u64) {
                Ok(0) => break,
                Ok(n) => there += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(there)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
