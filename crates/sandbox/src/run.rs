//! Carries out a plan, in a process of the zygote's making that ends as the sandbox's init, or with the first operation that fails.
//!
//! It decides nothing: the plan says what and in which order. Nothing is opened by a path that the sandbox's own files decide, but below its root
//! and without following links; places are held by descriptor. It is not for the node's process: everything here changes the process that calls it.

mod mounts;
mod network;
mod probe;
mod users;

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount},
    pipe::{PipeFlags, pipe_with},
    process::{DumpableBehavior, Pid, Resource, Rlimit, getrlimit, setrlimit},
    thread::{CapabilitySet, CapabilitySets, UnshareFlags},
};

pub(crate) use probe::probe;

use crate::{
    init, kernel,
    plan::{Namespace, Op, Plan},
    seccomp::Filters,
    zygote::Failed,
};

/// What has been made so far.
struct Build<'a> {
    filters: &'a Filters,
    given: Vec<OwnedFd>,
    users: Option<OwnedFd>,
    mounts: mounts::Mounts,
    /// Where the outcome is told, and init's socket: all that outlives `CloseAll`.
    report: Option<File>,
    listener: Option<OwnedFd>,
    device: Option<OwnedFd>,
}

/// Begins a sandbox: the process that comes back is its init. `given` is the listener of init's socket and what the plan counts.
pub(crate) fn begin(plan: &Plan, given: Vec<OwnedFd>, filters: &Filters) -> Result<Pid, Failed> {
    let failed = |error: io::Error| Failed { op: "Fork".into(), why: error.to_string() };
    let mut given = given.into_iter();
    let listener = given.next();
    let mounts = mounts::Mounts::default();
    let mut build = Build { filters, given: given.collect(), users: None, mounts, report: None, listener, device: None };
    let fork = plan.ops.iter().position(|op| *op == Op::Fork).unwrap_or(plan.ops.len());
    let (before, after) = plan.ops.split_at(fork);
    build.all(before)?;
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    match kernel::fork().map_err(failed)? {
        kernel::Half::Parent(pid) => {
            drop((tell, build));
            let mut said = Vec::new();
            File::from(told).read_to_end(&mut said).map_err(failed)?;
            match serde_json::from_slice::<Result<(), Failed>>(&said) {
                Ok(outcome) => outcome.map(|()| pid),
                Err(_) => Err(Failed { op: "Fork".into(), why: "the sandbox's first process was killed".into() }),
            }
        }
        kernel::Half::Child => {
            drop(told);
            build.report = Some(File::from(tell));
            let done = build.all(after.get(1..).unwrap_or_default());
            build.finish(done, plan)
        }
    }
}

impl Build<'_> {
    fn all(&mut self, ops: &[Op]) -> Result<(), Failed> {
        for op in ops {
            self.carry_out(op).map_err(|error| Failed { op: format!("{op:?}"), why: error.to_string() })?;
        }
        Ok(())
    }

    /// Tells how it went, and is init or nothing from here on.
    fn finish(mut self, done: Result<(), Failed>, plan: &Plan) -> ! {
        let told = self.report.take().map(|mut report| {
            let text = serde_json::to_vec(&done).unwrap_or_default();
            report.write_all(&text)
        });
        match (done, told, self.listener.take()) {
            (Ok(()), Some(Ok(())), Some(listener)) => init::serve(listener, self.device.take(), plan.profile, plan.single),
            _ => std::process::exit(1),
        }
    }

    fn carry_out(&mut self, op: &Op) -> io::Result<()> {
        match op {
            Op::Join { given } => Ok(rustix::io::write(self.given(*given)?, b"0").map(drop)?),
            Op::Users { range } => {
                let users = users::make(*range)?;
                self.mounts.set_ids(users.try_clone()?, range.first);
                self.users = Some(users);
                Ok(())
            }
            Op::OwnUsers => {
                users::own()?;
                self.mounts.set_own();
                Ok(())
            }
            Op::Leave { namespaces } => kernel::unshare(flags(namespaces)),
            Op::Fork => Err(io::Error::new(io::ErrorKind::InvalidInput, "a plan forks once")),
            Op::Private => Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?),
            Op::Stage { over } => self.mounts.stage(over),
            Op::Layer { name, source, read_only } => self.mounts.layer(name, source, *read_only),
            Op::Overlay { layers, changes, work, at } => self.mounts.overlay(layers, changes, work, at),
            Op::Show { layer, at } => self.mounts.show(layer, at),
            Op::Volume { given, at, read_only } => {
                let volume = self.given.get(*given).ok_or_else(missing)?;
                self.mounts.volume(volume, at, *read_only)
            }
            Op::Proc => self.mounts.proc(),
            Op::Devices { owner, shared_bytes } => self.mounts.devices(*owner, *shared_bytes),
            Op::Memory { at, bytes, mode, owner } => self.mounts.memory(at, *bytes, *mode, *owner),
            Op::Setting { key, value } => self.mounts.setting(key, value),
            Op::Cover { at } => self.mounts.cover(at),
            Op::Freeze { at } => self.mounts.freeze(at),
            Op::Say { at, text } => self.mounts.say(at, text),
            Op::Verify => self.mounts.verify(),
            Op::Hostname { name } => Ok(rustix::system::sethostname(name.as_bytes())?),
            Op::Loopback => network::loopback_up(),
            Op::Tun { address, gateway, mtu } => {
                self.device = Some(network::tun(*address, *gateway, *mtu)?);
                Ok(())
            }
            Op::Resolver { at } => {
                network::resolver(*at);
                Ok(())
            }
            Op::Pivot => self.pivot(),
            Op::Become => users::enter(self.users.as_ref().ok_or_else(missing)?),
            Op::NoNestedUsers => self.mounts.setting("user/max_user_namespaces", "0"),
            Op::Bounds { open_files } => bounds(*open_files),
            Op::NoNewPrivileges => Ok(rustix::thread::set_no_new_privs(true)?),
            Op::Landlock => landlocked(),
            Op::CloseAll => self.close_all(),
            Op::Capabilities { init } => capabilities(CapabilitySet::from_bits_retain(*init)),
            Op::Seccomp { profile } => self.filters.apply(*profile),
        }
    }

    fn given(&self, given: usize) -> io::Result<&OwnedFd> {
        self.given.get(given).ok_or_else(missing)
    }

    /// Lets the old root go: the layers under the new one are held by the overlay alone.
    fn pivot(&mut self) -> io::Result<()> {
        rustix::process::fchdir(self.mounts.root()?)?;
        rustix::process::pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        Ok(rustix::process::chdir("/")?)
    }

    fn close_all(&mut self) -> io::Result<()> {
        self.given.clear();
        self.users = None;
        self.mounts = mounts::Mounts::default();
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        drop(null);
        let kept = [self.listener.as_ref(), self.device.as_ref()].map(|descriptor| descriptor.map(AsRawFd::as_raw_fd));
        let kept = kept.into_iter().chain([self.report.as_ref().map(AsRawFd::as_raw_fd)]);
        kernel::close_all_but(&kept.flatten().collect::<Vec<_>>())?;
        Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
    }
}

fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the plan asks for what was not given or made")
}

fn flags(namespaces: &[Namespace]) -> UnshareFlags {
    let flag = |namespace: &Namespace| match namespace {
        Namespace::Cgroup => UnshareFlags::NEWCGROUP,
        Namespace::Ipc => UnshareFlags::NEWIPC,
        Namespace::Mount => UnshareFlags::NEWNS,
        Namespace::Network => UnshareFlags::NEWNET,
        Namespace::Pid => UnshareFlags::NEWPID,
        Namespace::Uts => UnshareFlags::NEWUTS,
    };
    namespaces.iter().map(flag).collect()
}

fn bounds(open_files: u64) -> io::Result<()> {
    let most = getrlimit(Resource::Nofile).maximum.map_or(open_files, |hard| hard.min(open_files));
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) })?;
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

fn capabilities(kept: CapabilitySet) -> io::Result<()> {
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        // Bits that the kernel has no capability for are an error to ask about.
        if !kept.contains(one) && rustix::thread::capability_is_in_bounding_set(one).unwrap_or(false) {
            rustix::thread::remove_capability_from_bounding_set(one)?;
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    Ok(rustix::thread::set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })?)
}

/// Everything below the root is allowed, so that nothing else is: a descriptor that was left open by mistake opens no file, a process or an
/// abstract socket that was left in sight cannot be signalled or spoken to, and nothing can be mounted.
fn landlocked() -> io::Result<()> {
    use landlock::{
        ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    };
    const NEWEST: ABI = ABI::V6;
    let root = File::open("/")?;
    let restricted = || -> Result<_, landlock::RulesetError> {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?
            .add_rule(PathBeneath::new(root.as_fd(), AccessFs::from_all(NEWEST)))?
            .restrict_self()
    };
    match restricted().map_err(io::Error::other)?.ruleset {
        RulesetStatus::NotEnforced => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel does not have it, or not enabled at boot"))
        }
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}
