//! The user namespace: made before it is needed, because layers are mounted with its ids; entered last.

use std::{
    fs::{self, File},
    io,
    os::fd::OwnedFd,
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Gid, Uid},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use crate::{kernel, range::Range};

/// A user namespace with these ids and nobody in it. It lives as long as its descriptor, or what is mounted with it.
pub(super) fn make(range: Range) -> io::Result<OwnedFd> {
    let (made, tell) = pipe_with(PipeFlags::CLOEXEC)?;
    let (wait, hold) = pipe_with(PipeFlags::CLOEXEC)?;
    match kernel::fork()? {
        kernel::Half::Child => {
            drop((made, hold));
            let said = match kernel::unshare(UnshareFlags::NEWUSER) {
                Ok(()) => 0,
                Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
            };
            let _ = rustix::io::write(&tell, &said.to_le_bytes());
            // Until the other half has what it needs, or is gone.
            let _ = rustix::io::read(&wait, &mut [0; 1]);
            std::process::exit(0);
        }
        kernel::Half::Parent(pid) => {
            drop((tell, wait));
            let mut said = [0; 4];
            rustix::io::read(&made, &mut said)?;
            match i32::from_le_bytes(said) {
                0 => {}
                error => return Err(io::Error::from_raw_os_error(error)),
            }
            let folder = format!("/proc/{}", pid.as_raw_nonzero());
            let map = format!("0 {} {}", range.first, Range::LENGTH);
            fs::write(format!("{folder}/uid_map"), &map)?;
            fs::write(format!("{folder}/gid_map"), &map)?;
            let namespace = File::open(format!("{folder}/ns/user"))?;
            drop(hold);
            Ok(namespace.into())
        }
    }
}

/// Leaves the host's ids for a namespace in which they are root's, and which has no others.
pub(super) fn own() -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if user.is_root() {
        let told = "root within would be the host's root: only an ordinary user's ids are given to a sandbox";
        return Err(io::Error::new(io::ErrorKind::Unsupported, told));
    }
    kernel::unshare(UnshareFlags::NEWUSER)?;
    // Groups could be a way to files that the rest of the world may read and this user may not.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))?;
    Ok(())
}

/// Becomes root of the namespace, with no group of outside left.
pub(super) fn enter(namespace: &OwnedFd) -> io::Result<()> {
    move_into_link_name_space(std::os::fd::AsFd::as_fd(namespace), Some(LinkNameSpaceType::User))?;
    set_thread_groups(&[])?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    Ok(set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?)
}
