//! The system calls that no crate wraps: all `unsafe` of this crate, in functions that are each one call.
//!
//! Driven by the zygote and by `run`. It is not: a place for anything that decides.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use rustix::{
    ioctl::{Getter, Setter, ioctl, opcode},
    process::Pid,
    thread::UnshareFlags,
};
use tokio::io::{Interest, unix::AsyncFd};

/// Which half of a fork this is.
pub(crate) enum Half {
    Parent(Pid),
    Child,
}

/// Splits this process in two. For processes with one thread only: in the child of any other, locks may be held for ever.
#[expect(unsafe_code, reason = "no crate forks safely: it is safe only where there is one thread")]
pub(crate) fn fork() -> io::Result<Half> {
    // SAFETY: the zygote and its children have one thread until init begins, and only they call this; so no lock is held and no
    // other thread's state is lost.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Half::Child),
        pid => Pid::from_raw(pid).map(Half::Parent).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)),
    }
}

/// Moves this process out of the namespaces named.
#[expect(unsafe_code, reason = "rustix cannot know that no other thread shares the descriptors")]
pub(crate) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    // SAFETY: unsafe only for `FILES` with other threads; this process has one.
    Ok(unsafe { rustix::thread::unshare_unsafe(namespaces) }?)
}

/// Children that end are not kept for anybody to wait for.
#[expect(unsafe_code, reason = "signal dispositions are process-wide")]
pub(crate) fn forget_children() {
    // SAFETY: no handler runs: the signal is ignored.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// What a mount that was cloned is to be.
pub(crate) struct Attributes<'a> {
    pub read_only: bool,
    /// Its files' ids are translated by this user namespace.
    pub ids: Option<BorrowedFd<'a>>,
}

/// Changes a detached mount: never set-id, never devices.
#[expect(unsafe_code, reason = "mount_setattr is wrapped by no crate")]
pub(crate) fn set_attributes(mount: impl AsFd, attributes: &Attributes<'_>) -> io::Result<()> {
    let read_only = if attributes.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let mapped = if attributes.ids.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 };
    let wanted = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | read_only | mapped,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: attributes.ids.map_or(0, |ids| ids.as_raw_fd() as u64),
    };
    // SAFETY: the path is an empty string with its end, the structure lives across the call and its size is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const wanted,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a network device in this process's network namespace; what is written to it are packets that come in there.
#[expect(unsafe_code, reason = "the calls of TUN devices are wrapped by no crate")]
pub(crate) fn tun(control: impl AsFd, name: &std::ffi::CStr) -> io::Result<()> {
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let flags = libc::c_short::try_from(flags).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut wanted = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
    for (to, from) in wanted.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.to_bytes()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: the structure is the one that this call takes, initialized, and lives across it.
    let made = unsafe { libc::ioctl(control.as_fd().as_raw_fd(), libc::TUNSETIFF, &raw mut wanted) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: this call takes a number.
    let told = unsafe { libc::ioctl(control.as_fd().as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(libc::TUN_F_CSUM)) };
    if told < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every descriptor above the standard three but those to keep.
pub(crate) fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|descriptor| *descriptor > 2).collect();
    keep.sort_unstable();
    let mut from = 3;
    for kept in keep {
        if kept > from {
            close_range(from, kept - 1)?;
        }
        from = kept + 1;
    }
    close_range(from, RawFd::MAX)
}

#[expect(unsafe_code, reason = "descriptors that no Rust value of this process uses any more can only be closed by number")]
fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: called once, in a process that never returns to the frames whose values owned these descriptors.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has `step` done in the command's process, after everything else and right before it is executed.
#[expect(unsafe_code, reason = "between fork and exec only system calls are allowed, which no type can tell")]
pub(crate) fn before_exec(command: &mut Command, step: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: the steps given (init/commands.rs) make system calls and allocate nothing.
    unsafe { command.pre_exec(step) };
}

/// A descriptor that the runtime tells about: whether it can be read, or written.
#[expect(unsafe_code, reason = "the runtime cannot know that a type keeps its descriptor open")]
pub(crate) fn watched(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is the same open descriptor from here until it is dropped, together with its registration.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// What the kernel counts for a project, and where it stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Files, folders and all else that has a name.
    pub inodes: u64,
    /// `None`: no bound.
    pub most_bytes: Option<u64>,
    /// `None`: no bound.
    pub most_inodes: Option<u64>,
}

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Extended {
    flags: u32,
    extent: u32,
    extents: u32,
    project: u32,
    copy_extent: u32,
    rest: [u8; 8],
}

/// `FS_XFLAG_PROJINHERIT`: what is made in a folder is in its project.
const INHERITED: u32 = 0x200;

#[expect(unsafe_code, reason = "the call is wrapped by no crate")]
fn extended(folder: impl AsFd) -> io::Result<Extended> {
    // SAFETY: `FS_IOC_FSGETXATTR` fills in this very structure, whose every pattern of bits is a value.
    Ok(unsafe { ioctl(folder, Getter::<{ opcode::read::<Extended>(b'X', 31) }, Extended>::new()) }?)
}

/// The project of a folder. 0: none.
pub(crate) fn project(folder: impl AsFd) -> io::Result<u32> {
    extended(folder).map(|extended| extended.project)
}

/// Puts a folder, and what will be made in it, into a project.
#[expect(unsafe_code, reason = "the call is wrapped by no crate")]
pub(crate) fn set_project(folder: impl AsFd, project: u32) -> io::Result<()> {
    let was = extended(&folder)?;
    let wanted = Extended { flags: was.flags | INHERITED, project, ..was };
    // SAFETY: `FS_IOC_FSSETXATTR` reads this very structure.
    Ok(unsafe { ioctl(folder, Setter::<{ opcode::write::<Extended>(b'X', 32) }, Extended>::new(wanted)) }?)
}

/// `PRJQUOTA`.
const PROJECTS: libc::c_int = 2;

/// What the file system that `on` is on has counted for a project.
pub(crate) fn account(on: impl AsFd, project: u32) -> io::Result<Account> {
    let mut found = quota(None, None);
    quotactl(on, libc::Q_GETQUOTA, project, &mut found)?;
    let bound = |bound: u64| (bound > 0).then_some(bound);
    Ok(Account {
        bytes: found.dqb_curspace,
        inodes: found.dqb_curinodes,
        most_bytes: bound(found.dqb_bhardlimit).map(|blocks| blocks.saturating_mul(QUOTA_BLOCK)),
        most_inodes: bound(found.dqb_ihardlimit),
    })
}

/// Bounds a project; what is counted cannot be set.
pub(crate) fn set_account(on: impl AsFd, project: u32, wanted: Account) -> io::Result<()> {
    quotactl(on, libc::Q_SETQUOTA, project, &mut quota(wanted.most_bytes, wanted.most_inodes))
}

/// The unit of bounds: bytes.
const QUOTA_BLOCK: u64 = 1_024;

fn quota(bytes: Option<u64>, inodes: Option<u64>) -> libc::dqblk {
    let (blocks, inodes) = (bytes.map_or(0, |bytes| bytes.div_ceil(QUOTA_BLOCK)), inodes.unwrap_or(0));
    libc::dqblk {
        dqb_bhardlimit: blocks,
        dqb_bsoftlimit: 0,
        dqb_curspace: 0,
        dqb_ihardlimit: inodes,
        dqb_isoftlimit: 0,
        dqb_curinodes: 0,
        dqb_btime: 0,
        dqb_itime: 0,
        dqb_valid: libc::QIF_LIMITS,
    }
}

#[expect(unsafe_code, reason = "quotactl_fd is wrapped by no crate")]
fn quotactl(on: impl AsFd, command: libc::c_int, project: u32, block: &mut libc::dqblk) -> io::Result<()> {
    let command = libc::QCMD(command, PROJECTS);
    // SAFETY: both commands take this very structure, which lives across the call, and nothing else is read or written.
    let done = unsafe { libc::syscall(libc::SYS_quotactl_fd, on.as_fd().as_raw_fd(), command, project, std::ptr::from_mut(block)) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
