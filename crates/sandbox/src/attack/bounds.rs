//! Doors that are opened by asking for too much, or by asking under another name. What is filled is emptied again.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FallocateFlags, fallocate, ftruncate},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::doors::{Knocked, all, hidden, unwritable};
use crate::profile::Profile;

/// More than all that a sandbox's folders in memory may hold, far less than a host has.
const MUCH: u64 = 256 << 20;

/// A folder of this case's own in shared memory; emptied whatever happens.
struct Scratch(&'static str);

impl Scratch {
    fn make(path: &'static str) -> Result<Self, String> {
        fs::create_dir(path).map(|()| Self(path)).map_err(|error| format!("{path}: {error}"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0);
    }
}

fn full(what: &str, error: &io::Error) -> Knocked {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Ok(()),
        _ => Err(format!("{what} ended with {error} and not because it was full")),
    }
}

pub(super) fn files_in_memory(_: Profile) -> Knocked {
    let folder = Scratch::make("/dev/shm/fill")?;
    let mut file = File::create(Path::new(folder.0).join("file")).map_err(|error| error.to_string())?;
    let block = vec![1; 1 << 20];
    for _ in 0..MUCH >> 20 {
        if let Err(error) = file.write_all(&block) {
            return full("writing to memory", &error);
        }
    }
    Err(format!("{MUCH} bytes could be written to memory"))
}

pub(super) fn names_in_memory(_: Profile) -> Knocked {
    let folder = Scratch::make("/dev/shm/names")?;
    for n in 0..100_000 {
        if let Err(error) = File::create(Path::new(folder.0).join(n.to_string())) {
            return full("making files in memory", &error);
        }
    }
    Err("100,000 files could be made in memory".into())
}

pub(super) fn holes_and_reserved_space(_: Profile) -> Knocked {
    let folder = Scratch::make("/dev/shm/holes")?;
    let file = File::create(Path::new(folder.0).join("file")).map_err(|error| error.to_string())?;
    let holes = match ftruncate(&file, 1 << 50).map(|()| file.metadata()) {
        Ok(Ok(found)) if found.blocks() * 512 > MUCH => Err(format!("a file of holes takes {} blocks", found.blocks())),
        _ => Ok(()),
    };
    let reserved = match fallocate(&file, FallocateFlags::empty(), 0, MUCH) {
        Ok(()) => Err(format!("{MUCH} bytes of memory could be reserved")),
        Err(error) => full("reserving memory", &error.into()),
    };
    all([holes, reserved])
}

pub(super) fn bounds_of_a_process(_: Profile) -> Knocked {
    let raised = [("core files", Resource::Core), ("open files", Resource::Nofile)].map(|(what, resource)| {
        let bound = getrlimit(resource);
        let Some(most) = bound.maximum else { return Err(format!("{what} are not bounded")) };
        match setrlimit(resource, Rlimit { current: bound.current, maximum: Some(most + 1) }) {
            Ok(()) => Err(format!("the bound of {most} {what} could be raised")),
            Err(_) => Ok(()),
        }
    });
    let spared = match fs::write("/proc/self/oom_score_adj", "-1000") {
        Ok(()) => Err("a process could make itself the last to be killed".to_owned()),
        Err(_) => Ok(()),
    };
    let hurried = match rustix::process::setpriority_process(None, -20) {
        Ok(()) => Err("a process could go before all others".to_owned()),
        Err(_) => Ok(()),
    };
    all(raised.into_iter().chain([spared, hurried]))
}

/// The same files by other ways to them, while somebody swaps the links on the way.
pub(super) fn covers_under_every_name(_: Profile) -> Knocked {
    let swapped = "/tmp/swapped";
    let over = AtomicBool::new(false);
    let knocked = std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for target in ["/proc", "/tmp", "/proc/self/root/proc", "/dev/../proc"] {
                    let beside = "/tmp/swapped.new";
                    let _ = symlink(target, beside).and_then(|()| fs::rename(beside, swapped));
                }
            }
        });
        let began = Instant::now();
        let mut knocked = Ok(());
        while knocked.is_ok() && began.elapsed() < Duration::from_millis(100) {
            let ways = ["/proc/self/root/proc", "/proc/thread-self/root/proc", "/proc/self/task/../root/proc", "/proc/../proc", swapped];
            knocked = all(ways.into_iter().flat_map(|way| {
                let covered = ["kcore", "keys", "timer_list", "kallsyms"].map(|file| hidden(&format!("{way}/{file}")));
                let frozen = ["sysrq-trigger", "sys/kernel/core_pattern"].map(|file| unwritable(&format!("{way}/{file}")));
                covered.into_iter().chain(frozen)
            }));
        }
        over.store(true, Ordering::Relaxed);
        knocked
    });
    let _ = fs::remove_file(swapped);
    knocked
}
