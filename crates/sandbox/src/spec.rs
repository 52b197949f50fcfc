//! What a sandbox is to be: values that a caller may have written. Pure.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use skep_id::SandboxId;

use crate::{profile::Profile, range::Range};

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Its name for all time.
    pub id: SandboxId,
    /// How tight it is.
    pub profile: Profile,
    /// The name it sees itself by: at most 63 of `a-z`, `0-9` and `-`.
    pub hostname: String,
    /// What it may use.
    pub limits: Limits,
    /// What it is connected to.
    pub network: Network,
    /// Folders of the host, or of other sandboxes, that are seen within.
    pub volumes: Vec<Volume>,
    /// What `/proc/sys/kernel/random/boot_id` says within: new at each cold start. 36 characters of a UUID.
    pub boot: String,
}

/// What a sandbox may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory of all its processes, page cache included, in bytes; at the limit one of them is killed. Default: 512 MiB.
    pub memory_bytes: u64,
    /// Processes and threads. Default: 1,024.
    pub pids: u32,
    /// Computing time, in thousandths of a core. Default: 2,000.
    pub cpu_millis: u32,
    /// `/run` and `/dev/shm` together, in bytes; counted in memory, too. Default: 64 MiB.
    pub tmp_bytes: u64,
    /// Bytes that are read from the data folder's disk in a second. `None`, the default: as many as it gives.
    pub read_bps: Option<u64>,
    /// Bytes that are written to it in a second. `None`, the default: as many as it takes.
    pub write_bps: Option<u64>,
    /// Bytes on the disk of what it changes of that which it began with. `None`, the default: as many as there are.
    pub disk_bytes: Option<u64>,
    /// Files and folders that it makes or changes. `None`, the default: as many as there are.
    pub inodes: Option<u64>,
    /// Whether it will do, where the file system does not keep to these two, that they are looked at every few seconds: over them the node writes no
    /// files for anybody, and says so; what the sandbox's own programs write is not held back. Default: no, and then it is not started there.
    pub counted: bool,
}

impl Limits {
    /// Whether the disk is bounded.
    pub(crate) fn bound_the_disk(&self) -> bool {
        self.read_bps.is_some() || self.write_bps.is_some()
    }

    /// Whether there is a bound on what is kept there.
    pub(crate) fn bound_what_is_kept(&self) -> bool {
        self.disk_bytes.is_some() || self.inodes.is_some()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            pids: 1_024,
            cpu_millis: 2_000,
            tmp_bytes: 64 << 20,
            read_bps: None,
            write_bps: None,
            disk_bytes: None,
            inodes: None,
            counted: false,
        }
    }
}

/// What a sandbox is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Itself only.
    Loopback,
    /// A device whose other end somebody outside has ([`crate::Sandbox::device`]): every packet that leaves goes there.
    Tun {
        /// The sandbox's own addresses.
        address: Pair,
        /// Where everything goes, and where names are resolved. In the networks of `address`: the last two bits differ.
        gateway: Pair,
        /// The longest packet in bytes: 1,280 to 65,520. Long ones are what makes it fast, and the other end never sends them on as they are.
        mtu: u32,
    },
}

/// An address of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "their names say it")]
pub struct Pair {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Network {
    /// A device with the addresses that every sandbox has: they never meet, as each has a network of its own.
    #[must_use]
    pub const fn tun() -> Self {
        let (own, other) = (Ipv6Addr::new(0xfd00, 0x7368, 0, 0, 0, 0, 0, 2), Ipv6Addr::new(0xfd00, 0x7368, 0, 0, 0, 0, 0, 1));
        Self::Tun {
            address: Pair { v4: Ipv4Addr::new(10, 100, 0, 2), v6: own },
            gateway: Pair { v4: Ipv4Addr::new(10, 100, 0, 1), v6: other },
            mtu: 65_520,
        }
    }

    fn check(&self) -> Result<(), SpecError> {
        let Self::Tun { address, gateway, mtu } = self else { return Ok(()) };
        let four = address.v4 != gateway.v4 && u32::from(address.v4) >> 2 == u32::from(gateway.v4) >> 2;
        let six = address.v6 != gateway.v6 && u128::from(address.v6) >> 2 == u128::from(gateway.v6) >> 2;
        let private = address.v4.is_private() && address.v6.is_unique_local();
        if four && six && private && (1_280..=65_520).contains(mtu) { Ok(()) } else { Err(SpecError::Network) }
    }
}

/// A folder of the host that is seen within.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Where it is on the host. Its files' ids are inner ones, as a sandbox's own are.
    pub source: PathBuf,
    /// Where it is seen; made where it is missing, refused where a link is on the way.
    pub target: String,
    /// Whether nothing can be written there.
    pub read_only: bool,
}

/// Where the node put it: paths of its own making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// What it is made of.
    pub rootfs: Rootfs,
    /// The sandbox's folder: `stage` in it is empty, `fs` holds what it changes.
    pub folder: PathBuf,
    /// The name of its cgroups.
    pub group: String,
    /// Its ids.
    pub range: Range,
}

/// The trees that a sandbox begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rootfs {
    /// Whole roots, the topmost first. Never changed.
    pub layers: Vec<PathBuf>,
    /// Folders of the host within it.
    pub parts: Vec<Part>,
}

/// A folder of the host, seen read-only below what the sandbox changes there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Its name in the root: one component.
    pub name: String,
    /// Changes to it that layers bring, the topmost first.
    #[serde(default)]
    pub layers: Vec<PathBuf>,
}

/// Why a [`Spec`] is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Of the host's name.
    #[error("a sandbox's name is 1 to 63 of a-z, 0-9 and -, not {0:?}")]
    Hostname(String),
    /// Of a volume's target.
    #[error("a volume is seen at an absolute path without . and .., not at {0:?}")]
    Target(String),
    /// Of the boot's id.
    #[error("a boot's id is a UUID, not {0:?}")]
    Boot(String),
    /// Of a limit.
    #[error("{0} must be at least {1}")]
    Small(&'static str, u64),
    /// There is nothing to begin with, or more than an overlay takes.
    #[error("a root is made of 1 to {MOST_LAYERS} layers, not of {0}")]
    Layers(usize),
    /// Of the network device.
    #[error(
        "a device's addresses and its gateway's are private, differ in their last two bits only, and packets are 1,280 to 65,520 bytes"
    )]
    Network,
    /// Too many volumes.
    #[error("a sandbox sees at most {MOST_VOLUMES} volumes, not {0}")]
    Volumes(usize),
}

/// As many as the string that names them to the kernel holds with room to spare.
pub(crate) const MOST_LAYERS: usize = 24;
const MOST_VOLUMES: usize = 64;

impl Spec {
    /// Whether everything that a caller may have written is what it has to be.
    pub fn check(&self) -> Result<(), SpecError> {
        let named = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.hostname.is_empty() || self.hostname.len() > 63 || !self.hostname.bytes().all(named) {
            return Err(SpecError::Hostname(self.hostname.clone()));
        }
        if self.boot.len() != 36 || !self.boot.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            return Err(SpecError::Boot(self.boot.clone()));
        }
        let small = [
            ("memory_bytes", self.limits.memory_bytes, 8 << 20),
            ("pids", self.limits.pids.into(), 4),
            ("cpu_millis", self.limits.cpu_millis.into(), 10),
            ("tmp_bytes", self.limits.tmp_bytes, 1 << 20),
            ("read_bps", self.limits.read_bps.unwrap_or(u64::MAX), 64 << 10),
            ("write_bps", self.limits.write_bps.unwrap_or(u64::MAX), 64 << 10),
            ("disk_bytes", self.limits.disk_bytes.unwrap_or(u64::MAX), 1 << 20),
            ("inodes", self.limits.inodes.unwrap_or(u64::MAX), 64),
        ];
        if let Some((name, _, least)) = small.into_iter().find(|(_, value, least)| value < least) {
            return Err(SpecError::Small(name, least));
        }
        if self.volumes.len() > MOST_VOLUMES {
            return Err(SpecError::Volumes(self.volumes.len()));
        }
        self.network.check()?;
        match self.volumes.iter().find(|volume| !is_plain(&volume.target)) {
            Some(volume) => Err(SpecError::Target(volume.target.clone())),
            None => Ok(()),
        }
    }
}

impl Rootfs {
    pub(crate) fn check(&self) -> Result<(), SpecError> {
        if self.layers.is_empty() || self.deepest() > MOST_LAYERS { Err(SpecError::Layers(self.deepest())) } else { Ok(()) }
    }

    /// The most layers that one of its trees has.
    pub(crate) fn deepest(&self) -> usize {
        self.parts.iter().map(|part| part.layers.len() + 1).chain([self.layers.len()]).max().unwrap_or(0)
    }

    /// Every tree that it is made of, but for the host's.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &std::path::Path> {
        self.layers.iter().chain(self.parts.iter().flat_map(|part| &part.layers)).map(PathBuf::as_path)
    }
}

/// A UUID of version 4.
pub(crate) fn boot_id(random: [u8; 16]) -> String {
    let mut bytes = random;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

/// Whether a path is absolute, not the root itself, and names each step.
fn is_plain(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    path.len() <= 4_096 && !path.contains('\0') && rest.split('/').all(|step| !matches!(step, "" | "." | ".."))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn spec() -> Spec {
        Spec {
            id: SandboxId::from_random([1; 13]),
            profile: Profile::Strict,
            hostname: "box".into(),
            limits: Limits::default(),
            network: Network::Loopback,
            volumes: vec![],
            boot: "01234567-89ab-cdef-0123-456789abcdef".into(),
        }
    }

    #[test]
    fn hostile_specs_are_refused() {
        assert_eq!(spec().check(), Ok(()));
        for hostname in ["", "a b", "../x", "A", "x\0", &"a".repeat(64)] {
            assert!(matches!(Spec { hostname: hostname.into(), ..spec() }.check(), Err(SpecError::Hostname(_))), "{hostname:?}");
        }
        for target in ["", "/", "data", "/a/../b", "/a//b", "/./a", "/a/", "/a\0b"] {
            let volume = Volume { source: "/x".into(), target: target.into(), read_only: true };
            assert!(matches!(Spec { volumes: vec![volume], ..spec() }.check(), Err(SpecError::Target(_))), "{target:?}");
        }
        for boot in ["", "x", "01234567-89ab-cdef-0123-456789abcde\n"] {
            assert!(matches!(Spec { boot: boot.into(), ..spec() }.check(), Err(SpecError::Boot(_))), "{boot:?}");
        }
        let public = Pair { v4: Ipv4Addr::new(1, 1, 1, 1), v6: Ipv6Addr::LOCALHOST };
        let Network::Tun { address, gateway, mtu } = Network::tun() else { unreachable!() };
        assert_eq!(Spec { network: Network::tun(), ..spec() }.check(), Ok(()));
        for network in [
            Network::Tun { address, gateway, mtu: 100 },
            Network::Tun { address, gateway: address, mtu },
            Network::Tun { address, gateway: public, mtu },
            Network::Tun { address: public, gateway, mtu },
        ] {
            assert_eq!(Spec { network, ..spec() }.check(), Err(SpecError::Network), "{network:?}");
        }
        let limits = Limits { pids: 0, ..Limits::default() };
        assert_eq!(Spec { limits, ..spec() }.check(), Err(SpecError::Small("pids", 4)));
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(serde_json::from_str::<Limits>(r#"{"memory": 1}"#).is_err());
    }
}
