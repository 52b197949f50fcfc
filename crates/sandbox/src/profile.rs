//! How tight a sandbox is. Pure.

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::fence::Fence;

/// What commands may be and do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// For code that nobody vouches for: commands are one ordinary user and have no capability; the host's programs are read-only.
    Strict,
    /// For an agent at work: commands may be root within their own ids, install packages and change every file but the host's.
    Workstation,
}

/// What init needs to serve: to be the user that it starts a command or opens a file for, to signal it, to take capabilities away.
const INIT: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::KILL).union(CapabilitySet::SETPCAP);

const WORKSTATION: CapabilitySet = INIT
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT);

impl Profile {
    /// Capabilities, within its own ids, of a command that runs as root.
    #[must_use]
    pub fn command_capabilities(self) -> CapabilitySet {
        match self {
            Self::Strict => CapabilitySet::empty(),
            Self::Workstation => WORKSTATION,
        }
    }

    /// Capabilities of init.
    #[must_use]
    pub fn init_capabilities(self) -> CapabilitySet {
        self.command_capabilities().union(INIT)
    }

    /// Whether a command may run as root of the sandbox.
    #[must_use]
    pub fn allows_root(self) -> bool {
        self == Self::Workstation
    }

    /// Fences without which no sandbox of this profile is started.
    #[must_use]
    pub fn demands(self) -> &'static [Fence] {
        const BOTH: &[Fence] = &[
            Fence::UserNamespace,
            Fence::MountNamespace,
            Fence::PidNamespace,
            Fence::NetworkNamespace,
            Fence::IpcNamespace,
            Fence::UtsNamespace,
            Fence::Overlay,
            Fence::Seccomp,
            Fence::NoNewPrivileges,
            Fence::SealedBinary,
        ];
        const STRICT: &[Fence] = &[
            Fence::UserNamespace,
            Fence::IdRange,
            Fence::MountNamespace,
            Fence::PidNamespace,
            Fence::NetworkNamespace,
            Fence::IpcNamespace,
            Fence::UtsNamespace,
            Fence::CgroupNamespace,
            Fence::IdmappedMounts,
            Fence::IdsLast,
            Fence::Overlay,
            Fence::Seccomp,
            Fence::Landlock,
            Fence::NoNewPrivileges,
            Fence::SealedBinary,
            Fence::MemoryLimit,
            Fence::PidsLimit,
            Fence::Freezer,
        ];
        match self {
            Self::Strict => STRICT,
            Self::Workstation => BOTH,
        }
    }
}
