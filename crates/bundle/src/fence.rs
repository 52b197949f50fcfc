//! The fences around the compile child: what is left to a process that hostile code has taken over is computing and
//! writing to its pipe.
//!
//! Raised by `child.rs` in its own process before the first question, in two steps: [`first`] on the only thread there is,
//! [`last`] on the thread that answers. Each fence stands for itself; one that this kernel does not have is reported, and
//! the others are raised all the same. Not a sandbox for programs: nothing can be started behind these fences.

use std::io;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

/// Address space of a child. A 64 MiB Wasm module compiles within; the node does not feel it when it is used up.
const MEMORY_BYTES_MAX: u64 = 3 << 30;

/// One fence of a compile child, as the child reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// What it is called: `landlock`, `seccomp`, …
    pub name: String,
    /// Whether it was raised.
    pub standing: bool,
    /// What it keeps out, or why it is missing.
    pub said: String,
}

type Raised = Result<String, String>;

fn fence(name: &str, raised: Raised) -> Fence {
    Fence { name: name.to_owned(), standing: raised.is_ok(), said: raised.unwrap_or_else(|why| why) }
}

fn said<T, E: std::fmt::Display>(result: Result<T, E>, what: &str) -> Raised {
    result.map(|_| what.to_owned()).map_err(|error| error.to_string())
}

/// What can be raised before any other thread exists.
pub(crate) fn first() -> Vec<Fence> {
    vec![
        fence("descriptors", said(close_inherited(), "nothing is open but the pipe")),
        fence("parent", said(end_with_parent(), "ends with the node")),
        fence("privileges", said(rustix::thread::set_no_new_privs(true), "none can be gained")),
        fence("landlock", kernel::landlock()),
        // Behind Landlock, which needs a descriptor for a moment.
        fence("limits", said(limits(), "memory, CPU time, files and core dumps")),
    ]
}

/// What would keep threads from being started; it holds for those that there are, too.
pub(crate) fn last() -> Fence {
    fence("seccomp", kernel::seccomp())
}

/// The node opens everything close-on-exec, but what the node itself was started with may not be.
#[expect(unsafe_code, reason = "descriptors that no Rust value stands for can only be closed by number")]
fn close_inherited() -> io::Result<()> {
    let open = std::fs::read_dir("/dev/fd")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    // Collected first: the listing is itself a descriptor, which is closed when the iterator is gone.
    for descriptor in open.collect::<Vec<_>>() {
        if descriptor > 2 {
            // SAFETY: this runs before anything else of this process: it has one thread and no value that owns a descriptor
            // above the standard three. Closing a number that is not open does nothing.
            unsafe { rustix::io::close(descriptor) };
        }
    }
    Ok(())
}

/// Should the node be killed while this process computes; otherwise the end of its input is what ends it.
fn end_with_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

fn limits() -> io::Result<()> {
    limit(Resource::As, MEMORY_BYTES_MAX)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nofile, 3)
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
    Ok(setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })?)
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use super::Raised;

    pub(super) fn landlock() -> Raised {
        Err("this system has none".to_owned())
    }

    pub(super) fn seccomp() -> Raised {
        Err("this system has none".to_owned())
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::collections::BTreeMap;

    use landlock::{
        ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
    };
    use seccompiler::{
        BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    };

    use super::Raised;

    /// The newest version whose rights are named here; an older kernel gets what it knows of them.
    const LANDLOCK: ABI = ABI::V7;

    /// System calls of a program that computes: memory, threads' waiting and ending, signals of its own, clocks, randomness.
    const COMPUTING: &[libc::c_long] = &[
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_getrandom,
        libc::SYS_close,
        libc::SYS_exit,
        libc::SYS_exit_group,
        // Answered by the other filter.
        libc::SYS_clone3,
    ];

    /// No right of any kind is granted to any file, port, socket or process.
    pub(super) fn landlock() -> Raised {
        let restricted = || -> Result<_, RulesetError> {
            Ruleset::default()
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(LANDLOCK))?
                .handle_access(AccessNet::from_all(LANDLOCK))?
                .scope(Scope::from_all(LANDLOCK))?
                .create()?
                .restrict_self()
        };
        let status = restricted().map_err(|error| error.to_string())?;
        match (status.ruleset, status.landlock) {
            (RulesetStatus::FullyEnforced, _) => Ok("no file, no port, no other process".to_owned()),
            (RulesetStatus::PartiallyEnforced, _) => Ok("what this kernel's older version of it knows".to_owned()),
            (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => Err("the kernel has it, but it is not enabled at boot".to_owned()),
            (RulesetStatus::NotEnforced, _) => Err("the kernel does not have it (Linux 5.13)".to_owned()),
        }
    }

    /// Allows computing, and the pipe; refuses everything else with `EPERM`.
    pub(super) fn seccomp() -> Raised {
        let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
        let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let allowing = filter(allowed().map_err(|error| error.to_string())?, refused, SeccompAction::Allow, architecture)?;
        // The flags of `clone3` lie in memory, where a filter cannot look: said to be unknown, it is replaced by `clone`.
        let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        let without = filter(BTreeMap::from([(libc::SYS_clone3, vec![])]), SeccompAction::Allow, unknown, architecture)?;
        for program in [without, allowing] {
            seccompiler::apply_filter_all_threads(&program).map_err(|error| error.to_string())?;
        }
        Ok("no system calls but those of computing".to_owned())
    }

    type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

    fn filter(rules: Rules, others: SeccompAction, these: SeccompAction, architecture: TargetArch) -> Result<BpfProgram, String> {
        let filter = SeccompFilter::new(rules, others, these, architecture).map_err(|error| error.to_string())?;
        BpfProgram::try_from(filter).map_err(|error| error.to_string())
    }

    /// A system call whose argument `at` has `value` where `mask` is set.
    fn masked(at: u8, mask: libc::c_int, value: libc::c_int) -> Result<SeccompCondition, BackendError> {
        let (mask, value) = (u64::from(mask.unsigned_abs()), u64::from(value.unsigned_abs()));
        SeccompCondition::new(at, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
    }

    fn equal(at: u8, value: libc::c_int) -> Result<SeccompCondition, BackendError> {
        SeccompCondition::new(at, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value.unsigned_abs()))
    }

    fn allowed() -> Result<Rules, BackendError> {
        let mut rules: Rules = COMPUTING.iter().map(|call| (*call, vec![])).collect();
        let on = |descriptor| SeccompRule::new(vec![equal(0, descriptor)?]);
        let thread = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
        rules.extend([
            (libc::SYS_read, vec![on(0)?]),
            (libc::SYS_write, vec![on(1)?, on(2)?]),
            (libc::SYS_writev, vec![on(1)?, on(2)?]),
            // Memory of its own, never executable.
            (
                libc::SYS_mmap,
                vec![SeccompRule::new(vec![masked(2, libc::PROT_EXEC, 0)?, masked(3, libc::MAP_ANONYMOUS, libc::MAP_ANONYMOUS)?])?],
            ),
            (libc::SYS_mprotect, vec![SeccompRule::new(vec![masked(2, libc::PROT_EXEC, 0)?])?]),
            // Threads, not processes.
            (libc::SYS_clone, vec![SeccompRule::new(vec![masked(0, thread, thread)?])?]),
            // Its own CPU time, which it allows itself anew for each question; the node has a clock of its own.
            (libc::SYS_prlimit64, vec![SeccompRule::new(vec![equal(0, 0)?, equal(1, libc::RLIMIT_CPU as libc::c_int)?])?]),
        ]);
        Ok(rules)
    }

    #[cfg(test)]
    mod tests {
        use std::{io::ErrorKind, thread};

        /// Restrictions hold for a thread and its children, so each test is a thread of its own.
        fn behind<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
            thread::spawn(test).join().unwrap()
        }

        #[test]
        fn landlock_alone_keeps_files_shut() {
            let (raised, opened) = behind(|| (super::landlock(), std::fs::File::open("/etc/passwd").map_err(|error| error.kind())));
            match raised {
                Ok(_) => assert_eq!(opened.unwrap_err(), ErrorKind::PermissionDenied),
                Err(why) => assert!(why.contains("kernel"), "{why}"),
            }
            assert!(std::fs::File::open("/etc/passwd").is_ok(), "the test's own process is not fenced in");
        }
    }
}
