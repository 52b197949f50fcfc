//! The fences of a sandbox: which of them this host has, and where one is missing, why and what helps.
//!
//! The kernel is asked by doing, in a child of the zygote, and not by its version: distributions, containers and security modules take
//! away what a version promises. Told by `skep doctor`; a profile that demands what is missing refuses to start.

use serde::{Deserialize, Serialize};

/// One thing that keeps a sandbox in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fence {
    /// Root within is nobody outside, or, without a range of ids, only who started it.
    UserNamespace,
    /// Ids of its own for each user within. Without it (ordinary users) all within are one user, who is root there.
    IdRange,
    /// Its own mounts; the host's are not there.
    MountNamespace,
    /// Its own processes; the host's cannot be seen or signalled.
    PidNamespace,
    /// Its own network devices, ports and abstract sockets.
    NetworkNamespace,
    /// Its own shared memory and message queues.
    IpcNamespace,
    /// Its own host name.
    UtsNamespace,
    /// Its own view of cgroups.
    CgroupNamespace,
    /// Files of layers have the sandbox's ids, so that layers are shared and nothing is owned by the host's root.
    IdmappedMounts,
    /// Namespaces belong to the host: root within has no privilege over mounts, network or processes' names.
    IdsLast,
    /// Changes go to a folder of their own.
    Overlay,
    /// System calls that no program needs are refused.
    Seccomp,
    /// A second fence around files, signals and abstract sockets.
    Landlock,
    /// No program gains privileges by being executed.
    NoNewPrivileges,
    /// The program that becomes init cannot be overwritten from within.
    SealedBinary,
    /// A bound on memory.
    MemoryLimit,
    /// A bound on computing time.
    CpuLimit,
    /// A bound on processes.
    PidsLimit,
    /// A bound on what is read from and written to the disk in a second. By version 1 of cgroups it holds for reads and for what is written past
    /// the page cache; what goes through it is written in the kernel's name.
    IoLimit,
    /// A bound on what is kept on the disk. Demanded by a spec that sets one, by no profile.
    DiskQuota,
    /// All processes can be stopped at once.
    Freezer,
    /// A network device whose other end the node has: without it a sandbox reaches nothing but itself.
    Tun,
}

/// Whether a fence stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Which one.
    pub fence: Fence,
    /// Why it is missing and what helps. `None`: it stands.
    pub missing: Option<Missing>,
}

/// Why a fence is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What the kernel said.
    pub why: String,
    /// What a person can do about it.
    pub fix: String,
}

/// What was found out about a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Every fence, once.
    pub standing: Vec<Standing>,
}

impl Host {
    /// Adds what was found out about one fence.
    pub(crate) fn found(&mut self, fence: Fence, tried: Result<(), String>) {
        let missing = tried.err().map(|why| Missing { why, fix: fix(fence).to_owned() });
        self.standing.push(Standing { fence, missing });
    }

    /// Why a fence is missing. `None`: it stands.
    #[must_use]
    pub fn missing(&self, fence: Fence) -> Option<Missing> {
        match self.standing.iter().find(|standing| standing.fence == fence) {
            Some(standing) => standing.missing.clone(),
            None => Some(Missing { why: "it was not looked for".into(), fix: "run `skep doctor`".into() }),
        }
    }

    /// Whether a sandbox is put together by a process that has given up the host's ids first: all that an ordinary user can do.
    #[must_use]
    pub fn ids_first(&self) -> bool {
        !self.has(Fence::IdsLast)
    }

    /// Whether a fence stands.
    #[must_use]
    pub fn has(&self, fence: Fence) -> bool {
        self.missing(fence).is_none()
    }
}

/// What helps where a fence is missing.
fn fix(fence: Fence) -> &'static str {
    match fence {
        Fence::UserNamespace => {
            "run as root, or allow user namespaces: sysctl user.max_user_namespaces=15000, and on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0; \
             in a container: --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
        }
        Fence::MountNamespace
        | Fence::PidNamespace
        | Fence::NetworkNamespace
        | Fence::IpcNamespace
        | Fence::UtsNamespace
        | Fence::CgroupNamespace => "run as root; in a container: give it SYS_ADMIN and --security-opt seccomp=unconfined",
        Fence::IdmappedMounts => "run as root on Linux 5.19 or later, with the data folder on ext4, XFS or btrfs",
        Fence::IdsLast | Fence::IdRange => "run as root",
        Fence::Overlay => {
            "load it: modprobe overlay; put the data folder on a disk (an overlay's upper cannot be on an overlay, NFS or FUSE)"
        }
        Fence::Seccomp => "use a kernel with CONFIG_SECCOMP_FILTER",
        Fence::Landlock => "add landlock to the kernel's lsm= parameter (Linux 5.13 or later)",
        Fence::NoNewPrivileges => "use Linux 3.5 or later",
        Fence::SealedBinary => "allow executable memfds: sysctl vm.memfd_noexec=0",
        Fence::Tun => {
            "load it: modprobe tun; run as root; in a container: --device /dev/net/tun and give it NET_ADMIN, or leave the network out"
        }
        Fence::DiskQuota => {
            "run as root, with the data folder on ext4 (tune2fs -O quota,project -Q prjquota, unmounted) or XFS, mounted with -o prjquota; or set no \
             bound on the disk"
        }
        Fence::IoLimit => {
            "mount cgroup v2 with the io controller, and put the data folder on a file system of one disk (not btrfs, NFS or an overlay)"
        }
        Fence::MemoryLimit | Fence::CpuLimit | Fence::PidsLimit | Fence::Freezer => {
            "mount cgroup v2 and give the node a part of it: as root, or Delegate=yes in its systemd unit"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_looked_for_does_not_stand() {
        let mut host = Host::default();
        assert!(!host.has(Fence::Seccomp));
        host.found(Fence::Seccomp, Ok(()));
        host.found(Fence::Landlock, Err("ENOSYS".into()));
        assert!(host.has(Fence::Seccomp));
        let missing = host.missing(Fence::Landlock).unwrap();
        assert!(missing.why == "ENOSYS" && missing.fix.contains("lsm="), "{missing:?}");
    }
}
