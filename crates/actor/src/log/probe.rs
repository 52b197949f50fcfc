//! Whether a directory keeps the promise that the local log makes in its receipts; asked each time it is opened.
//!
//! A sync that does nothing loses acknowledged work at the first power cut, and a network file system or one in a program may take it for
//! done when it is not, or show one file to two nodes. So the log looks first, and refuses. It is not: a proof that the device is honest;
//! what a disk does with its own cache is not seen from here, only that a sync takes about as long as a device takes.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::{FallocateFlags, fallocate, statfs};

use super::LogError;

/// Which places are good enough for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A file system on a disk of this machine whose sync takes the time of one.
    LocalDisk,
    /// Any that a file can be written, synced and locked on: for tests in memory, and for who knows better.
    Anything,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The kind of file system, as `statfs` numbers them.
    pub file_system: u32,
    /// The median of a few syncs of 512 bytes in a file whose space is there: the least that an acknowledgement takes.
    pub sync: Duration,
}

/// As long as it lives, nobody else opens the log.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// File systems that are elsewhere, in a program, or in memory. The kernel's numbers.
const REFUSED: [(u32, &str); 22] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x00C3_6400, "Ceph"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x7375_7245, "Coda"),
    (0x564C, "NCP"),
    (0x7461_636F, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0xAAD7_AAEA, "PanFS"),
    (0x786F_4256, "VirtualBox shared folders"),
    (0x7C7C_6673, "Parallels shared folders"),
    (0xBACB_ACBC, "VMware shared folders"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58F6, "ramfs"),
    (0x9584_58F6, "hugetlbfs"),
];

/// No device answers a sync of data that is new to it in less.
const LEAST_SYNC: Duration = Duration::from_micros(4);
const SYNCS: usize = 9;

impl Probe {
    /// Makes the directory, locks it and looks.
    pub(crate) fn run(dir: &Path, trust: Trust) -> Result<(Lock, Self), LogError> {
        let failed = |error| LogError::File(dir.to_owned(), error);
        let refused = |why: String| LogError::Unsafe(dir.to_owned(), why);
        std::fs::create_dir_all(dir).map_err(failed)?;
        let file_system = statfs(dir).map_err(|e| failed(e.into()))?.f_type as u32;
        if trust == Trust::LocalDisk
            && let Some(name) = refused_name(file_system)
        {
            return Err(refused(format!(
                "is on {name}, where a sync does not make sure that what was acknowledged outlives this machine; use a local disk"
            )));
        }
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(refused("the log is open in another process".into())),
            Err(std::fs::TryLockError::Error(error)) => return Err(refused(format!("it cannot be locked: {error}"))),
        }
        let path = dir.join("probe");
        let measured = measure(&path).and_then(|sync| File::open(dir)?.sync_all().map(|()| sync));
        let _ = std::fs::remove_file(&path);
        match measured {
            Ok(sync) if trust == Trust::LocalDisk && sync < LEAST_SYNC => {
                Err(refused(format!("a sync takes {sync:?}: no disk is as fast, so it does nothing")))
            }
            Ok(sync) => Ok((Lock { _file: lock }, Self { file_system, sync })),
            Err(error) if super::disk::is_full(&error) => Err(failed(error)),
            Err(error) => Err(refused(format!("a file in it cannot be written and synced: {error}"))),
        }
    }
}

fn refused_name(file_system: u32) -> Option<&'static str> {
    REFUSED.iter().find(|(number, _)| *number == file_system).map(|(_, name)| *name)
}

/// The median time of a sync, after what was written was read back.
fn measure(path: &Path) -> io::Result<Duration> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    let reserved = fallocate(&file, FallocateFlags::empty(), 0, (SYNCS * 512) as u64);
    if reserved.is_err() {
        file.set_len((SYNCS * 512) as u64)?;
    }
    file.sync_all()?;
    let mut times = Vec::new();
    for n in 0..SYNCS {
        let written = [n as u8 + 1; 512];
        let start = Instant::now();
        file.write_all_at(&written, n as u64 * 512)?;
        file.sync_data()?;
        times.push(start.elapsed());
        let mut read = [0; 512];
        file.read_exact_at(&mut read, n as u64 * 512)?;
        if read != written {
            return Err(io::Error::other("what was written does not read back"));
        }
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_lose_what_was_synced_are_refused_by_name() {
        for (number, name) in [(0x6969, "NFS"), (0xFE53_4D42, "SMB2"), (0x6573_5546, "FUSE"), (0x0102_1997, "9p"), (0x0102_1994, "tmpfs")] {
            assert_eq!(refused_name(number), Some(name));
        }
        for (number, name) in [(0xEF53, "ext4"), (0x5846_5342, "xfs"), (0x9123_683E, "btrfs"), (0x794C_7630, "overlayfs")] {
            assert_eq!(refused_name(number), None, "{name}");
        }
    }

    #[test]
    fn a_log_is_open_once() {
        let dir = tempfile::tempdir().unwrap();
        let (first, probe) = Probe::run(dir.path(), Trust::Anything).unwrap();
        assert!(probe.sync > Duration::ZERO);
        let second = Probe::run(dir.path(), Trust::Anything);
        assert!(matches!(&second, Err(LogError::Unsafe(_, why)) if why.contains("another process")), "{second:?}");
        drop(first);
        Probe::run(dir.path(), Trust::Anything).unwrap();
    }

    #[test]
    fn a_memory_file_system_is_refused() {
        let shm = Path::new("/dev/shm");
        let Ok(dir) = tempfile::tempdir_in(shm) else { return };
        if refused_name(statfs(dir.path()).unwrap().f_type as u32) != Some("tmpfs") {
            return;
        }
        let refused = Probe::run(dir.path(), Trust::LocalDisk);
        assert!(matches!(&refused, Err(LogError::Unsafe(_, why)) if why.contains("tmpfs")), "{refused:?}");
        Probe::run(dir.path(), Trust::Anything).unwrap();
    }
}
