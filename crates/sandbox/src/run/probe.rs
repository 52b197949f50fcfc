//! What this host lets one do: each fence is tried in a process of its own, which then ends.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::CWD,
    io::Errno,
    mount::{
        FsOpenFlags, MountPropagationFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsopen, mount_change,
        open_tree,
    },
    pipe::{PipeFlags, pipe_with},
    thread::{CapabilitySet, CapabilitySets, UnshareFlags, capabilities, set_capabilities},
};

use crate::{
    fence::Fence,
    kernel::{self, Attributes, set_attributes},
    profile::Profile,
    quota,
    range::Ranges,
    seccomp::Filters,
    spec::{Limits, Network},
};

use super::{landlocked, network, users};

/// Tries all that can be tried without cgroups; an error's text where one is missing.
pub(crate) fn probe(folder: &Path, filters: &Filters) -> Vec<(Fence, Option<String>)> {
    // Who cannot make mounts with the host's ids gives them up first, and is then asked what it can do.
    let ids_last = tried(own_mounts);
    let first = ids_last.is_some();
    let leave = |namespace| {
        move || {
            if first {
                users::own()?;
            }
            kernel::unshare(namespace)
        }
    };
    vec![
        (Fence::UserNamespace, tried(|| if first { users::own() } else { user_namespace() })),
        (Fence::IdRange, tried(user_namespace)),
        (Fence::MountNamespace, tried(leave(UnshareFlags::NEWNS))),
        (Fence::PidNamespace, tried(leave(UnshareFlags::NEWPID))),
        (Fence::NetworkNamespace, tried(leave(UnshareFlags::NEWNET))),
        (Fence::IpcNamespace, tried(leave(UnshareFlags::NEWIPC))),
        (Fence::UtsNamespace, tried(leave(UnshareFlags::NEWUTS))),
        (Fence::CgroupNamespace, tried(leave(UnshareFlags::NEWCGROUP))),
        (Fence::IdmappedMounts, tried(|| idmapped(folder))),
        (Fence::IdsLast, ids_last),
        (Fence::Overlay, tried(|| overlay(folder, first))),
        (Fence::NoNewPrivileges, tried(|| Ok(rustix::thread::set_no_new_privs(true)?))),
        (Fence::Seccomp, tried(|| seccomp(filters))),
        (Fence::Tun, tried(|| if first { users::own().and_then(|()| tun()) } else { tun() })),
        (Fence::DiskQuota, tried(|| quota(folder))),
        (Fence::Landlock, tried(|| rustix::thread::set_no_new_privs(true).map_err(io::Error::from).and_then(|()| landlocked()))),
    ]
}

/// Does it in a child of this process. `None`: it worked.
fn tried(trial: impl FnOnce() -> io::Result<()>) -> Option<String> {
    let told = || -> io::Result<Vec<u8>> {
        let (told, tell) = pipe_with(PipeFlags::CLOEXEC)?;
        match kernel::fork()? {
            kernel::Half::Child => {
                let said = trial().err().map(|error| error.to_string());
                let _ = rustix::io::write(&tell, &serde_json::to_vec(&said).unwrap_or_default());
                std::process::exit(0);
            }
            kernel::Half::Parent(_) => {
                drop(tell);
                let mut said = Vec::new();
                io::Read::read_to_end(&mut fs::File::from(told), &mut said)?;
                Ok(said)
            }
        }
    };
    match told().map(|said| serde_json::from_slice(&said)) {
        Ok(Ok(said)) => said,
        Ok(Err(_)) => Some("the process that tried it was killed".into()),
        Err(error) => Some(error.to_string()),
    }
}

fn user_namespace() -> io::Result<()> {
    let range = Ranges::default().take().ok_or(Errno::RANGE)?;
    users::make(range).map(drop)
}

/// Mounts of a namespace that the host owns: what only the host's root can make.
fn own_mounts() -> io::Result<()> {
    kernel::unshare(UnshareFlags::NEWNS)?;
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

fn tun() -> io::Result<()> {
    let Network::Tun { address, gateway, mtu } = Network::tun() else { return Ok(()) };
    kernel::unshare(UnshareFlags::NEWNET)?;
    network::tun(address, gateway, mtu).map(drop)
}

fn idmapped(folder: &Path) -> io::Result<()> {
    let users = users::make(Ranges::default().take().ok_or(Errno::RANGE)?)?;
    own_mounts()?;
    let layer = open_tree(CWD, folder, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    set_attributes(&layer, &Attributes { read_only: true, ids: Some(users.as_fd()) })
}

fn overlay(folder: &Path, first: bool) -> io::Result<()> {
    let probe = Scratch(folder.join(format!("probe-{}", std::process::id())));
    for name in ["lower", "upper", "work"] {
        fs::create_dir_all(probe.0.join(name))?;
    }
    if first {
        users::own()?;
    }
    own_mounts()?;
    rustix::process::chdir(&probe.0)?;
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
        fsconfig_set_string(&overlay, key, value)?;
    }
    if first {
        fsconfig_set_flag(&overlay, "userxattr")?;
    }
    Ok(fsconfig_create(&overlay)?)
}

/// A bound on files, tried by one who may not pass over it, as overlays of sandboxes may not.
fn quota(folder: &Path) -> io::Result<()> {
    let probe = Scratch(folder.join(format!("probe-{}", std::process::id())));
    fs::create_dir_all(&probe.0)?;
    quota::bind(&probe.0, &Limits { inodes: Some(4), ..Limits::default() })?;
    let own = capabilities(None)?;
    set_capabilities(None, CapabilitySets { effective: own.effective.difference(CapabilitySet::SYS_RESOURCE), ..own })?;
    let filled = (0..8).try_for_each(|n| fs::File::create(probe.0.join(n.to_string())).map(drop));
    quota::release(&probe.0);
    match filled {
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::DQUOT | Errno::NOSPC)) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(io::Error::other("the file system has accounts of projects and does not keep to their bounds")),
    }
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = crate::record::remove(&self.0);
    }
}

fn seccomp(filters: &Filters) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    filters.apply(Profile::Strict)?;
    match fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(Errno::PERM) => Ok(()),
        other => Err(io::Error::other(format!("a refused call was answered with {other:?}"))),
    }
}
