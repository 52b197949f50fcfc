//! How much a sandbox may keep on the disk, counted and kept to by the kernel: project quota.
//!
//! The folder of a sandbox's changes is given a project of its own, which whatever is made in it belongs to as well, and the file system an account for that
//! project, with bounds: beyond them a write is answered with `EDQUOT` (XFS: `ENOSPC`). The folder itself remembers its project, so that it is the same
//! after every start. Driven by `sandbox.rs` and by the probe. Where the file system
//! keeps no accounts, use can be counted from outside ([`is_over`]), which holds nobody back. It is not a bound on layers and snapshots: those are
//! shared, and the node's.

use std::{collections::HashSet, io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
};

use crate::{
    kernel::{self, Account},
    layer,
    spec::Limits,
};

/// Projects of sandboxes: few others give numbers that high, and one that has an account is passed over.
const FIRST: u32 = 0x2000_0000;
const COUNT: u32 = 0x4000_0000;

/// Tries before it is said that there is none.
const TRIES: usize = 16;

/// Bounds what is kept in a folder, which is empty or has been bounded before.
pub(crate) fn bind(folder: &Path, limits: &Limits) -> io::Result<()> {
    let folder = opened(folder)?;
    let project = match kernel::project(&folder)? {
        0 => {
            let project = free(&folder)?;
            kernel::set_project(&folder, project)?;
            project
        }
        project => project,
    };
    kernel::set_account(&folder, project, Account { most_bytes: limits.disk_bytes, most_inodes: limits.inodes, ..Account::default() })
}

/// Forgets the bounds of a folder that is about to go. What was moved out of it is counted on, without a bound.
pub(crate) fn release(folder: &Path) {
    let released = || -> io::Result<()> {
        let folder = opened(folder)?;
        match kernel::project(&folder)? {
            0 => Ok(()),
            project => kernel::set_account(&folder, project, Account::default()),
        }
    };
    // There were none, or there is nothing that they would bound: nobody is given this project while anything has it.
    let _ = released();
}

/// Whether more is kept in a folder than the limits say, counted from outside. A tree that cannot be counted is too much.
pub(crate) fn is_over(folder: &Path, limits: &Limits) -> bool {
    let count = || -> io::Result<(u64, u64)> {
        let (mut seen, mut bytes, mut inodes) = (HashSet::new(), 0_u64, 0_u64);
        for node in layer::walk(&layer::root(folder)?)? {
            if node.links == 1 || node.is_folder() || seen.insert(node.stamp.inode) {
                (bytes, inodes) = (bytes.saturating_add(node.kept), inodes + 1);
            }
        }
        Ok((bytes, inodes))
    };
    match count() {
        Ok((bytes, inodes)) => limits.disk_bytes.is_some_and(|most| bytes > most) || limits.inodes.is_some_and(|most| inodes > most),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn opened(folder: &Path) -> io::Result<OwnedFd> {
    Ok(open(folder, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// A project that nothing belongs to and nobody has bounded.
fn free(on: &OwnedFd) -> io::Result<u32> {
    for _ in 0..TRIES {
        let project = FIRST + u32::from_le_bytes(crate::snapshot::random()?) % COUNT;
        match kernel::account(on, project) {
            Ok(account) if account == Account::default() => return Ok(project),
            Ok(_) => {}
            // XFS has no account before there is something to count.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => return Ok(project),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("all projects that were tried have an account"))
}
