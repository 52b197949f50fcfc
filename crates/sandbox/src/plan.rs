//! From what is wanted to what is done: a pure list of operations.
//!
//! Whoever wants to know what a sandbox is made of reads the plan; tests compare plans. `run` carries it out. It is not: a place that asks the
//! host anything; what it must know was probed before.

use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::{
    fence::{Fence, Host},
    profile::Profile,
    range::Range,
    spec::{Network, Pair, Place, Spec, SpecError},
};

/// One operation. Names of places in the stage (`l0`, `root`, …) are the plan's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each operation's line says what its fields are")]
pub enum Op {
    /// Into the cgroup whose `cgroup.procs` is the descriptor of this number among those given.
    Join { given: usize },
    /// Makes the user namespace of these ids; nothing is in it yet.
    Users { range: Range },
    /// Into a user namespace in which this process's own ids are root's, and there are no others: what an ordinary user can make. What is made from
    /// here on belongs to that namespace.
    OwnUsers,
    /// Out of the host's namespaces. They stay the host's: only `Become` gives up what makes them governable.
    Leave { namespaces: Vec<Namespace> },
    /// What follows is process 1 of the new pid namespace.
    Fork,
    /// No mount comes in from the host or goes out to it.
    Private,
    /// An empty file system in memory, over a folder of ours, to put things together in.
    Stage { over: PathBuf },
    /// A folder of the host, with the sandbox's ids.
    Layer { name: String, source: PathBuf, read_only: bool },
    /// One tree made of layers (topmost first) and a folder for changes; at the root of the new tree, or in it.
    Overlay { layers: Vec<String>, changes: String, work: String, at: String },
    /// A layer as it is, in the new tree.
    Show { layer: String, at: String },
    /// A volume, made a mount before, in the new tree; its place is made where it is missing.
    Volume { given: usize, at: String, read_only: bool },
    /// A fresh `/proc` of the new pid namespace.
    Proc,
    /// `/dev` with the devices that every program counts on, terminals, and shared memory.
    Devices { owner: Owner, shared_bytes: u64 },
    /// A file system in memory.
    Memory { at: String, bytes: u64, mode: u16, owner: Owner },
    /// A setting of the kernel, in the new namespaces.
    Setting { key: String, value: String },
    /// Nothing can be read there any more. What is missing is passed over.
    Cover { at: String },
    /// Nothing can be changed there any more, not even by root.
    Freeze { at: String },
    /// A file that says what is given here, in place of what was there.
    Say { at: String, text: String },
    /// Every cover and frozen place is looked at again: it must be the very thing that was put there.
    Verify,
    /// The name that the sandbox sees itself by.
    Hostname { name: String },
    /// The loopback device comes up.
    Loopback,
    /// A device to somebody outside, with addresses and the way to everywhere; init keeps it.
    Tun { address: Pair, gateway: Pair, mtu: u32 },
    /// The new tree becomes the root; the old one is let go.
    Pivot,
    /// Into the user namespace, as its root: from here on nothing outside can be touched.
    Become,
    /// Where names are resolved, written as the sandbox's root: its own files decide where that goes, and all of them are within.
    Resolver { at: Pair },
    /// No user namespaces within.
    NoNestedUsers,
    /// Bounds that are each process's own.
    Bounds { open_files: u64 },
    /// No program gains privileges by being executed.
    NoNewPrivileges,
    /// The second fence: whatever was left open by mistake leads nowhere.
    Landlock,
    /// Everything is closed but what init needs, and nobody may look into this process.
    CloseAll,
    /// Capabilities, within the sandbox's ids, as bits.
    Capabilities { init: u64 },
    /// Only the system calls of this profile.
    Seccomp { profile: Profile },
}

/// Whose a file system of the sandbox's own is, as the process that mounts it sees ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// The root of a range: mounted by the host's root.
    Range(Range),
    /// The only user that there is.
    Own,
}

/// A namespace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the kernel's own words")]
pub enum Namespace {
    Cgroup,
    Ipc,
    Mount,
    Network,
    Pid,
    Uts,
}

/// What is done, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// One after the other; the first that fails is the last.
    pub ops: Vec<Op>,
    /// What init must know of it.
    pub profile: Profile,
    /// Whether all within are one user.
    pub single: bool,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// What is wanted is not possible.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The profile demands a fence that this host does not have.
    #[error("the profile demands the fence {fence:?}, which is missing here: {why} ({fix})")]
    Missing {
        /// Which one.
        fence: Fence,
        /// What the kernel said.
        why: String,
        /// What helps.
        fix: String,
    },
}

/// Files of `/proc` that tell about the host, or that the host's kernel should not be asked through.
const COVERED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/config.gz",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/mtrr",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
];

/// Settings of the kernel, and doors to it.
const FROZEN: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Open files of one process: what databases and build tools ask for.
const OPEN_FILES: u64 = 65_536;

/// The plan of a sandbox. `groups` is how many descriptors of cgroups come before those of the volumes.
pub fn plan(spec: &Spec, host: &Host, place: &Place, groups: usize) -> Result<Plan, PlanError> {
    spec.check()?;
    place.rootfs.check()?;
    let device = matches!(spec.network, Network::Tun { .. }).then_some(Fence::Tun);
    let disk = spec.limits.bound_the_disk().then_some(Fence::IoLimit);
    let kept = (spec.limits.bound_what_is_kept() && !spec.limits.counted).then_some(Fence::DiskQuota);
    for fence in spec.profile.demands().iter().copied().chain(device).chain(disk).chain(kept) {
        if let Some(missing) = host.missing(fence) {
            return Err(PlanError::Missing { fence, why: missing.why, fix: missing.fix });
        }
    }
    let mut ops: Vec<Op> = (0..groups).map(|given| Op::Join { given }).collect();
    let owner = if host.ids_first() { Owner::Own } else { Owner::Range(place.range) };
    ops.push(match owner {
        Owner::Own => Op::OwnUsers,
        Owner::Range(range) => Op::Users { range },
    });
    ops.extend([Op::Leave { namespaces: namespaces(host) }, Op::Fork, Op::Private]);
    ops.push(Op::Stage { over: place.folder.join("stage") });
    root(&mut ops, spec, place);
    ops.extend(spec.volumes.iter().enumerate().map(|(n, volume)| Op::Volume {
        given: groups + n,
        at: volume.target.clone(),
        read_only: volume.read_only,
    }));
    inside(&mut ops, spec, owner);
    confine(&mut ops, spec, host);
    Ok(Plan { ops, profile: spec.profile, single: owner == Owner::Own })
}

fn namespaces(host: &Host) -> Vec<Namespace> {
    let mut namespaces = vec![Namespace::Ipc, Namespace::Mount, Namespace::Network, Namespace::Pid, Namespace::Uts];
    if host.has(Fence::CgroupNamespace) {
        namespaces.push(Namespace::Cgroup);
    }
    namespaces
}

/// The tree: an overlay of the image, and the host's folders in it, changeable where the profile lets packages be installed.
fn root(ops: &mut Vec<Op>, spec: &Spec, place: &Place) {
    let layer = |name: &str, source: &Path, read_only| Op::Layer { name: name.into(), source: source.to_owned(), read_only };
    let overlay = |layers: Vec<String>, tree: &str, at: &str| Op::Overlay {
        layers,
        changes: format!("changes/{tree}"),
        work: format!("changes/{tree}.work"),
        at: at.into(),
    };
    ops.push(layer("changes", &place.folder.join("fs"), false));
    let names: Vec<String> = (0..place.rootfs.layers.len()).map(|n| format!("l{n}")).collect();
    ops.extend(names.iter().zip(&place.rootfs.layers).map(|(name, source)| layer(name, source, true)));
    ops.push(overlay(names, "root", "/"));
    for (n, part) in place.rootfs.parts.iter().enumerate() {
        let (name, at) = (format!("p{n}"), format!("/{}", part.name));
        let mut names: Vec<String> = (0..part.layers.len()).map(|m| format!("{name}-{m}")).collect();
        ops.extend(names.iter().zip(&part.layers).map(|(name, source)| layer(name, source, true)));
        ops.push(layer(&name, &part.source, true));
        // Changes that the root begins with are seen through an overlay, whatever may be added to them.
        ops.push(match spec.profile {
            Profile::Strict if names.is_empty() => Op::Show { layer: name, at },
            Profile::Strict | Profile::Workstation => {
                names.push(name);
                overlay(names, &part.name, &at)
            }
        });
    }
}

/// What every program counts on, and what none may see.
fn inside(ops: &mut Vec<Op>, spec: &Spec, owner: Owner) {
    let setting = |key: &str, value: String| Op::Setting { key: key.into(), value };
    let (first, last) = match owner {
        Owner::Range(range) => (range.first, range.first + Range::LENGTH - 1),
        Owner::Own => (0, 0),
    };
    ops.extend([
        Op::Proc,
        Op::Devices { owner, shared_bytes: spec.limits.tmp_bytes / 2 },
        Op::Memory { at: "/run".into(), bytes: spec.limits.tmp_bytes / 2, mode: 0o755, owner },
        setting("net/ipv4/ip_unprivileged_port_start", "0".into()),
        setting("net/ipv4/ping_group_range", format!("{first} {last}")),
        Op::Hostname { name: spec.hostname.clone() },
        Op::Loopback,
    ]);
    if let Network::Tun { address, gateway, mtu } = spec.network {
        ops.push(Op::Tun { address, gateway, mtu });
    }
    ops.extend(COVERED.iter().map(|at| Op::Cover { at: (*at).into() }));
    ops.extend(FROZEN.iter().map(|at| Op::Freeze { at: (*at).into() }));
    ops.push(Op::Say { at: "/proc/sys/kernel/random/boot_id".into(), text: format!("{}\n", spec.boot) });
    ops.push(Op::Verify);
}

/// The way in, which is one way.
fn confine(ops: &mut Vec<Op>, spec: &Spec, host: &Host) {
    let profile = spec.profile;
    ops.push(Op::Pivot);
    if !host.ids_first() {
        ops.push(Op::Become);
    }
    if let Network::Tun { gateway, .. } = spec.network {
        ops.push(Op::Resolver { at: gateway });
    }
    ops.extend([Op::NoNestedUsers, Op::Bounds { open_files: OPEN_FILES }, Op::NoNewPrivileges]);
    if host.has(Fence::Landlock) {
        ops.push(Op::Landlock);
    }
    ops.extend([Op::CloseAll, Op::Capabilities { init: bits(profile.init_capabilities()) }, Op::Seccomp { profile }]);
}

fn bits(capabilities: CapabilitySet) -> u64 {
    capabilities.bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Part, Rootfs, Volume, tests::spec};

    fn every_fence() -> Host {
        let mut host = Host::default();
        for fence in Profile::Strict.demands().iter().chain(Profile::Workstation.demands()).chain(&[Fence::Tun]) {
            host.found(*fence, Ok(()));
        }
        host
    }

    fn place() -> Place {
        Place {
            rootfs: Rootfs { layers: vec!["/img".into()], parts: vec![Part { source: "/usr".into(), name: "usr".into(), layers: vec![] }] },
            folder: "/data/box".into(),
            group: "skep-test".into(),
            range: Range { first: 0x7000_0000 },
        }
    }

    fn position(plan: &Plan, is: impl Fn(&Op) -> bool) -> usize {
        plan.ops.iter().position(is).unwrap()
    }

    #[test]
    fn privilege_is_given_up_after_the_last_mount_and_before_anything_of_the_sandbox_runs() {
        let volume = Volume { source: "/v".into(), target: "/data".into(), read_only: true };
        let plan = plan(&Spec { volumes: vec![volume], ..spec() }, &every_fence(), &place(), 3).unwrap();
        let pivot = position(&plan, |op| *op == Op::Pivot);
        assert_eq!(plan.ops[pivot + 1], Op::Become);
        let mounts = |op: &Op| {
            matches!(
                op,
                Op::Layer { .. }
                    | Op::Overlay { .. }
                    | Op::Show { .. }
                    | Op::Volume { .. }
                    | Op::Cover { .. }
                    | Op::Freeze { .. }
                    | Op::Proc
            )
        };
        assert!(!plan.ops[pivot..].iter().any(mounts));
        assert_eq!(plan.ops[pivot - 1], Op::Verify);
        assert!(matches!(plan.ops.last(), Some(Op::Seccomp { profile: Profile::Strict })));
        assert!(position(&plan, |op| matches!(op, Op::Join { given: 2 })) < position(&plan, |op| matches!(op, Op::Leave { .. })));
        assert!(plan.ops.contains(&Op::Volume { given: 3, at: "/data".into(), read_only: true }));
    }

    #[test]
    fn the_host_s_programs_are_read_only_where_strict_and_changeable_in_a_copy_else() {
        let tree = |profile| plan(&Spec { profile, ..spec() }, &every_fence(), &place(), 0).unwrap();
        assert!(tree(Profile::Strict).ops.contains(&Op::Show { layer: "p0".into(), at: "/usr".into() }));
        let changes = |op: &Op| matches!(op, Op::Overlay { at, changes, .. } if at == "/usr" && changes == "changes/usr");
        assert!(tree(Profile::Workstation).ops.iter().any(changes));
        let layers = |op: &Op| matches!(op, Op::Layer { read_only: false, .. });
        assert_eq!(tree(Profile::Strict).ops.iter().filter(|op| layers(op)).count(), 1, "only the sandbox's own changes are writable");
    }

    #[test]
    fn what_layers_change_of_the_host_s_programs_lies_over_them() {
        let mut place = place();
        place.rootfs.parts[0].layers = vec!["/l/b/usr".into(), "/l/a/usr".into()];
        let plan = plan(&spec(), &every_fence(), &place, 0).unwrap();
        let over = plan.ops.iter().find_map(|op| match op {
            Op::Overlay { layers, at, .. } if at == "/usr" => Some(layers.clone()),
            _ => None,
        });
        assert_eq!(over.unwrap(), ["p0-0", "p0-1", "p0"]);
        assert!(plan.ops.contains(&Op::Layer { name: "p0-0".into(), source: "/l/b/usr".into(), read_only: true }));
    }

    #[test]
    fn a_demanded_fence_that_is_missing_stops_it() {
        let mut host = every_fence();
        host.standing.retain(|standing| standing.fence != Fence::Landlock);
        host.found(Fence::Landlock, Err("not enabled at boot".into()));
        let refused = plan(&spec(), &host, &place(), 0).unwrap_err();
        assert!(matches!(&refused, PlanError::Missing { fence: Fence::Landlock, why, .. } if why == "not enabled at boot"), "{refused}");
        let without = plan(&Spec { profile: Profile::Workstation, ..spec() }, &host, &place(), 0).unwrap();
        assert!(!without.ops.contains(&Op::Landlock));
    }

    #[test]
    fn a_device_is_made_with_the_host_s_privileges_and_names_are_told_with_the_sandbox_s() {
        let spec = Spec { network: Network::tun(), ..spec() };
        let made = plan(&spec, &every_fence(), &place(), 0).unwrap();
        let (device, resolver) =
            (position(&made, |op| matches!(op, Op::Tun { .. })), position(&made, |op| matches!(op, Op::Resolver { .. })));
        assert_eq!(made.ops[device - 1], Op::Loopback);
        assert!(device < position(&made, |op| *op == Op::Become) && position(&made, |op| *op == Op::Become) < resolver);
        let mut host = every_fence();
        host.standing.retain(|standing| standing.fence != Fence::Tun);
        host.found(Fence::Tun, Err("no such file".into()));
        assert!(matches!(plan(&spec, &host, &place(), 0), Err(PlanError::Missing { fence: Fence::Tun, .. })));
        assert!(plan(&Spec { network: Network::Loopback, ..spec }, &host, &place(), 0).is_ok());
    }

    #[test]
    fn a_bound_that_cannot_be_set_is_not_passed_over() {
        let limits = crate::spec::Limits { write_bps: Some(1 << 20), ..crate::spec::Limits::default() };
        let spec = Spec { limits, profile: Profile::Workstation, ..spec() };
        let mut host = every_fence();
        assert!(matches!(plan(&spec, &host, &place(), 0), Err(PlanError::Missing { fence: Fence::IoLimit, .. })));
        host.found(Fence::IoLimit, Ok(()));
        assert!(plan(&spec, &host, &place(), 0).is_ok());
        let limits = crate::spec::Limits { inodes: Some(1_000), ..crate::spec::Limits::default() };
        let spec = Spec { limits, ..spec };
        assert!(matches!(plan(&spec, &host, &place(), 0), Err(PlanError::Missing { fence: Fence::DiskQuota, .. })));
        let limits = crate::spec::Limits { counted: true, ..limits };
        assert!(plan(&Spec { limits, ..spec }, &host, &place(), 0).is_ok());
    }

    #[test]
    fn an_ordinary_user_gives_up_its_ids_first() {
        let mut host = every_fence();
        let missing = [Fence::IdsLast, Fence::IdRange, Fence::IdmappedMounts];
        host.standing.retain(|standing| !missing.contains(&standing.fence));
        missing.into_iter().for_each(|fence| host.found(fence, Err("EPERM".into())));
        assert!(matches!(plan(&spec(), &host, &place(), 0), Err(PlanError::Missing { .. })), "strict is not for ordinary users");
        let plan = plan(&Spec { profile: Profile::Workstation, ..spec() }, &host, &place(), 0).unwrap();
        assert!(plan.ops[0] == Op::OwnUsers && matches!(plan.ops[1], Op::Leave { .. }) && plan.single);
        assert!(!plan.ops.iter().any(|op| matches!(op, Op::Users { .. } | Op::Become)));
    }

    #[test]
    fn a_plan_survives_the_socket() {
        let plan = plan(&spec(), &every_fence(), &place(), 1).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        assert!(text.len() < 16_000, "{}", text.len());
    }
}
