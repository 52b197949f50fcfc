//! Control groups: what a sandbox may use, what it uses, and stopping all of it at once.
//!
//! Both versions, also side by side: limits where their controllers are, freezing and killing by version 2 wherever it is mounted, since it needs
//! no controller. Driven by the node; the sandbox's first process only writes itself into the groups it is given. It is not: how a
//! sandbox ends (its pid namespace ends with its init); a group is how nothing is forgotten.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    fence::{Fence, Host},
    spec::Limits,
};

/// What this host has, and where this process is in it.
#[derive(Clone, Debug, Default)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    /// The disk that sandboxes lie on, as the kernel numbers it; or why there is none.
    disk: Option<Result<String, String>>,
}

/// One tree of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// The folder of the group that this process is in.
    pub folder: PathBuf,
    /// Whether it is the one of version 2.
    pub unified: bool,
    /// The controllers that can be used for groups within.
    pub controllers: Vec<String>,
}

/// Controllers that bound a sandbox.
const CONTROLLERS: [&str; 5] = ["memory", "pids", "cpu", "io", "blkio"];

/// Those that are of use only where the disk is bounded.
const OF_DISKS: [&str; 2] = ["io", "blkio"];

/// How long a group is waited for to freeze, or to be empty.
const PATIENCE: Duration = Duration::from_secs(5);

impl Cgroups {
    /// Looks where this process is.
    pub fn probe() -> io::Result<Self> {
        Ok(Self::read(&fs::read_to_string("/proc/self/mountinfo")?, &fs::read_to_string("/proc/self/cgroup")?))
    }

    fn read(mounts: &str, memberships: &str) -> Self {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for mount in mounts.lines().filter_map(Mounted::parse) {
            let Some(own) = mount.membership(memberships) else { continue };
            let within = own.strip_prefix(mount.root.trim_end_matches('/')).unwrap_or(own).trim_start_matches('/');
            let exact = Path::new(mount.point).join(within);
            let folder = if exact.is_dir() { exact } else { PathBuf::from(mount.point) };
            let controllers: Vec<String> = match mount.unified {
                true => CONTROLLERS.into_iter().filter(|wanted| offered(&folder, wanted)).map(str::to_owned).collect(),
                false => {
                    CONTROLLERS.into_iter().filter(|wanted| mount.options.split(',').any(|o| o == *wanted)).map(str::to_owned).collect()
                }
            };
            // A tree in which this user can make no groups is of no use to it.
            let mine = !folder.exists() || rustix::fs::access(&folder, rustix::fs::Access::WRITE_OK).is_ok();
            if mine && (mount.unified || !controllers.is_empty()) {
                hierarchies.push(Hierarchy { folder, unified: mount.unified, controllers });
            }
        }
        Self { hierarchies, disk: None }
    }

    /// The same, for sandboxes in this folder: its disk can be bounded.
    #[must_use]
    pub fn on(self, folder: &Path) -> Self {
        Self { disk: Some(disk_of(folder)), ..self }
    }

    /// Adds which limits can be set here.
    pub fn report(&self, host: &mut Host) {
        for (fence, controller) in [(Fence::MemoryLimit, "memory"), (Fence::PidsLimit, "pids"), (Fence::CpuLimit, "cpu")] {
            let has = self.hierarchies.iter().any(|hierarchy| hierarchy.controllers.iter().any(|c| c == controller));
            host.found(fence, if has { Ok(()) } else { Err(format!("no cgroup here has the controller {controller:?}")) });
        }
        host.found(Fence::IoLimit, self.disk_can_be_bounded());
        let tried = match self.hierarchies.iter().find(|hierarchy| hierarchy.unified) {
            Some(unified) => probe_group(&unified.folder),
            None => Err("version 2 of cgroups is not mounted".into()),
        };
        host.found(Fence::Freezer, tried);
    }

    fn disk_can_be_bounded(&self) -> Result<(), String> {
        let disk = self.disk.clone().unwrap_or_else(|| Err("no folder was named".into()))?;
        let parent = self.hierarchies.iter().find(|it| it.controllers.iter().any(|c| OF_DISKS.contains(&c.as_str())));
        let parent = parent.ok_or("no cgroup here has the controller \"io\", or \"blkio\"")?;
        let limits = Limits { read_bps: Some(1 << 40), ..Limits::default() };
        in_a_group(&parent.folder, |folder| match parent.unified {
            true => bound_disk(folder, "io", &disk, &limits),
            false => bound_disk(folder, "blkio", &disk, &limits),
        })
    }

    /// A group of this name in every tree that is of use, empty, with its limits set. One that is there already is an error.
    pub fn create(&self, name: &str, limits: &Limits) -> io::Result<Group> {
        let mut group = Group { folders: Vec::new() };
        let disk = self.disk.as_ref().and_then(|disk| disk.as_deref().ok()).filter(|_| limits.bound_the_disk());
        for hierarchy in &self.hierarchies {
            if disk.is_none() && hierarchy.only_bounds_disks() {
                continue;
            }
            let folder = hierarchy.folder.join(name);
            let made = fs::create_dir(&folder).and_then(|()| {
                group.folders.push((folder.clone(), hierarchy.unified));
                hierarchy.controllers.iter().try_for_each(|controller| match disk {
                    Some(disk) if OF_DISKS.contains(&controller.as_str()) => bound_disk(&folder, controller, disk, limits),
                    _ => limit(&folder, hierarchy.unified, controller, limits),
                })
            });
            if let Err(error) = made {
                let _ = group.remove();
                return Err(io::Error::new(error.kind(), format!("{}: {error}", folder.display())));
            }
        }
        Ok(group)
    }

    /// The groups of this name, where there are any.
    #[must_use]
    pub fn named(&self, name: &str) -> Group {
        let folders = self.hierarchies.iter().map(|hierarchy| (hierarchy.folder.join(name), hierarchy.unified));
        Group { folders: folders.filter(|(folder, _)| folder.is_dir()).collect() }
    }

    /// The names of groups that begin so: what an earlier node left.
    #[must_use]
    pub fn names(&self, prefix: &str) -> BTreeSet<String> {
        let entries = self.hierarchies.iter().filter_map(|hierarchy| fs::read_dir(&hierarchy.folder).ok()).flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(prefix)).collect()
    }
}

impl Hierarchy {
    fn only_bounds_disks(&self) -> bool {
        !self.unified && self.controllers.iter().all(|controller| OF_DISKS.contains(&controller.as_str()))
    }
}

/// One line of `mountinfo` that is a tree of groups.
struct Mounted<'a> {
    root: &'a str,
    point: &'a str,
    unified: bool,
    options: &'a str,
}

impl<'a> Mounted<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let unified = match right.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        Some(Self { root, point, unified, options: right.nth(1)? })
    }

    /// The group that a process is in, of this tree.
    fn membership<'b>(&self, memberships: &'b str) -> Option<&'b str> {
        memberships.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let this =
                if self.unified { controllers.is_empty() } else { controllers.split(',').any(|c| self.options.split(',').any(|o| o == c)) };
            this.then_some(path)
        })
    }
}

/// Whether groups within a group of version 2 can have a controller; it is switched on where it is not.
fn offered(folder: &Path, controller: &str) -> bool {
    let has = |file: &str| fs::read_to_string(folder.join(file)).is_ok_and(|text| text.split_whitespace().any(|c| c == controller));
    has("cgroup.subtree_control")
        || (has("cgroup.controllers") && fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")).is_ok())
}

fn probe_group(parent: &Path) -> Result<(), String> {
    in_a_group(parent, |folder| write(folder, "cgroup.freeze", "1"))
}

/// Tries something in a group that is there only for it.
fn in_a_group(parent: &Path, trial: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), String> {
    // A name of its own: two nodes of one process may look at once.
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).map_err(|error| error.to_string())?;
    let folder = parent.join(format!("skep-probe-{:016x}", u64::from_le_bytes(random)));
    let tried = fs::create_dir(&folder).and_then(|()| trial(&folder));
    let _ = fs::remove_dir(&folder);
    tried.map_err(|error| format!("{}: {error}", folder.display()))
}

/// The disk that a folder's file system is on: `major:minor` of the whole disk, which is what can be bounded, and not of a part of it.
fn disk_of(folder: &Path) -> Result<String, String> {
    let device = std::os::linux::fs::MetadataExt::st_dev(&fs::metadata(folder).map_err(|error| format!("{}: {error}", folder.display()))?);
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let none = |error| format!("the file system of {} is on no one disk: device {number}: {error}", folder.display());
    let found = fs::canonicalize(Path::new("/sys/dev/block").join(&number)).map_err(none)?;
    let whole = if found.join("partition").exists() { found.join("../dev") } else { found.join("dev") };
    fs::read_to_string(whole).map(|text| text.trim().to_owned()).map_err(none)
}

fn bound_disk(folder: &Path, controller: &str, disk: &str, limits: &Limits) -> io::Result<()> {
    let each = [("rbps", "read", limits.read_bps), ("wbps", "write", limits.write_bps)];
    each.into_iter().filter_map(|(key, name, bound)| Some((key, name, bound?))).try_for_each(|(key, name, bound)| match controller {
        "io" => write(folder, "io.max", &format!("{disk} {key}={bound}")),
        _ => write(folder, &format!("blkio.throttle.{name}_bps_device"), &format!("{disk} {bound}")),
    })
}

fn limit(folder: &Path, unified: bool, controller: &str, limits: &Limits) -> io::Result<()> {
    const PERIOD_MICROS: u64 = 100_000;
    let quota = u64::from(limits.cpu_millis) * PERIOD_MICROS / 1_000;
    let set = |file: &str, value: String| write(folder, file, &value);
    match (unified, controller) {
        (true, "memory") => {
            set("memory.max", limits.memory_bytes.to_string())?;
            passable(set("memory.swap.max", "0".into()))
        }
        (false, "memory") => {
            set("memory.limit_in_bytes", limits.memory_bytes.to_string())?;
            passable(set("memory.memsw.limit_in_bytes", limits.memory_bytes.to_string()))
        }
        (_, "pids") => set("pids.max", limits.pids.to_string()),
        (true, "cpu") => set("cpu.max", format!("{quota} {PERIOD_MICROS}")),
        (false, "cpu") => {
            set("cpu.cfs_period_us", PERIOD_MICROS.to_string())?;
            set("cpu.cfs_quota_us", quota.to_string())
        }
        _ => Ok(()),
    }
}

/// Kernels that do not account for swap have no file for its limit; then there is none to use up either.
fn passable(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(()),
        other => other,
    }
}

/// Files of the kernel are written in one call, and never made.
fn write(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = folder.join(file);
    let written = OpenOptions::new().write(true).open(&path).and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    written.map_err(|error| io::Error::new(error.kind(), format!("{} = {value}: {error}", path.display())))
}

/// What a sandbox uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory, page cache included, in bytes.
    pub memory_bytes: u64,
    /// Of it, copies of files, which go when memory is needed.
    pub cache_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Processor time since the start, in microseconds.
    pub cpu_micros: u64,
}

/// The groups of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    folders: Vec<(PathBuf, bool)>,
}

impl Group {
    /// What its first process writes `0` to.
    pub(crate) fn doors(&self) -> io::Result<Vec<File>> {
        self.folders.iter().map(|(folder, _)| OpenOptions::new().write(true).open(folder.join("cgroup.procs"))).collect()
    }

    fn unified(&self) -> io::Result<&Path> {
        let unified = self.folders.iter().find(|(_, unified)| *unified).map(|(folder, _)| folder.as_path());
        unified.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "version 2 of cgroups is not mounted"))
    }

    /// Stops all processes where they are; done when all have.
    pub fn freeze(&self) -> io::Result<()> {
        self.set_frozen(true)
    }

    /// Lets them go on.
    pub fn thaw(&self) -> io::Result<()> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        let folder = self.unified()?;
        let wanted = format!("frozen {}", u8::from(frozen));
        write(folder, "cgroup.freeze", if frozen { "1" } else { "0" })?;
        until(|| Ok(fs::read_to_string(folder.join("cgroup.events"))?.lines().any(|line| line == wanted)))
    }

    /// Ends all processes.
    pub fn kill(&self) -> io::Result<()> {
        match self.unified() {
            Ok(folder) => write(folder, "cgroup.kill", "1"),
            Err(_) => self.folders.first().map_or(Ok(()), |(folder, _)| kill_each(folder)),
        }
    }

    /// Ends all processes and removes the groups; done where there are none.
    pub fn end(&self) -> io::Result<()> {
        match self.folders.is_empty() {
            true => Ok(()),
            false => self.kill().and_then(|()| self.remove()),
        }
    }

    /// What they use.
    #[must_use]
    pub fn usage(&self) -> Usage {
        // Of files that both versions have, only one has the line.
        let first = |read: &dyn Fn(&Path) -> Option<u64>| self.folders.iter().find_map(|(folder, _)| read(folder));
        let number = |file: &str| first(&|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok());
        let named = |file: &str, name: &str| first(&|folder| named(&fs::read_to_string(folder.join(file)).ok()?, name));
        let used = || named("cpu.stat", "usage_usec").or_else(|| Some(number("cpuacct.usage")? / 1_000));
        Usage {
            memory_bytes: number("memory.current").or_else(|| number("memory.usage_in_bytes")).unwrap_or(0),
            cache_bytes: named("memory.stat", "file").or_else(|| named("memory.stat", "total_cache")).unwrap_or(0),
            pids: number("pids.current").unwrap_or(0),
            cpu_micros: used().unwrap_or(0),
        }
    }

    /// Removes the groups, once the last process has left them.
    pub fn remove(&self) -> io::Result<()> {
        for (folder, _) in &self.folders {
            until(|| match fs::remove_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(false),
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(true),
            })?;
        }
        Ok(())
    }
}

/// The number after a name, in files that are lines of both.
fn named(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once(' ').filter(|(found, _)| *found == name)?.1.parse().ok())
}

/// With version 1 alone: with init its pid namespace ends, so that none is born meanwhile that stays.
fn kill_each(folder: &Path) -> io::Result<()> {
    for pid in fs::read_to_string(folder.join("cgroup.procs"))?.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        match kill_process(pid, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Asks again until it is so: the kernel tells nobody in a way that both versions have.
fn until(mut so: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let began = Instant::now();
    let mut pause = Duration::from_micros(50);
    while !so()? {
        if began.elapsed() > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the processes of a cgroup do not stop"));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_of_both_versions_are_found() {
        let mounts = "25 1 0:22 / /x/memory rw,relatime - cgroup cgroup rw,memory\n\
            26 1 0:23 / /x/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
            27 1 0:24 / /x/systemd rw - cgroup cgroup rw,name=systemd\n\
            28 1 0:25 /outer /x/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
            29 1 0:26 / /proc rw - proc proc rw";
        let found = Cgroups::read(mounts, "4:memory:/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/\n0::/outer\n");
        let shown: Vec<_> = found.hierarchies.iter().map(|h| (h.folder.to_str().unwrap(), h.unified, h.controllers.join(","))).collect();
        let memory = ("/x/memory", false, "memory".to_owned());
        assert_eq!(shown, [memory, ("/x/cpu", false, "cpu".to_owned()), ("/x/unified", true, String::new())]);
    }

    #[test]
    fn numbers_are_found_by_their_names() {
        let text = "nr_periods 7\nusage_usec 1234\nusage_usec_more 5\n";
        assert_eq!((named(text, "usage_usec"), named(text, "usage"), named("", "x")), (Some(1_234), None, None));
    }

    #[test]
    fn without_cgroups_every_limit_is_missing() {
        let mut host = Host::default();
        Cgroups::read("", "").report(&mut host);
        assert!(
            [Fence::MemoryLimit, Fence::PidsLimit, Fence::CpuLimit, Fence::IoLimit, Fence::Freezer].iter().all(|fence| !host.has(*fence))
        );
    }
}
