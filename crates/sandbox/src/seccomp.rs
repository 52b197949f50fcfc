//! Which system calls there are within a sandbox.
//!
//! Two filters: one knows the calls that programs use and says of all others that this kernel does not have them, so that programs fall back;
//! the other refuses by name what opens doors. They hold for init and for everything it starts. Compiled once by the zygote. It is not: the
//! fence that keeps files apart; it keeps the kernel's rarely used parts out of reach.

use std::collections::BTreeMap;

use libc::{c_int, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::profile::Profile;

/// The filters of both profiles, ready to be applied.
#[derive(Clone)]
pub(crate) struct Filters {
    strict: [BpfProgram; 2],
    workstation: [BpfProgram; 2],
}

impl Filters {
    pub(crate) fn compile() -> Result<Self, String> {
        Ok(Self { strict: programs(Profile::Strict)?, workstation: programs(Profile::Workstation)? })
    }

    /// Holds from here on for this thread, all threads and processes it starts. No new privileges must be set.
    pub(crate) fn apply(&self, profile: Profile) -> std::io::Result<()> {
        let programs = match profile {
            Profile::Strict => &self.strict,
            Profile::Workstation => &self.workstation,
        };
        for program in programs {
            seccompiler::apply_filter(program).map_err(std::io::Error::other)?;
        }
        Ok(())
    }
}

/// What programs use: the calls of files, memory, processes, signals, time, sockets.
const USED: &[c_long] = &[
    // Files by descriptor.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_sync,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_truncate,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_tee,
    libc::SYS_vmsplice,
    libc::SYS_pipe2,
    libc::SYS_memfd_create,
    // Files by name.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_renameat2,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_getdents64,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_mlockall,
    libc::SYS_munlockall,
    libc::SYS_brk,
    libc::SYS_membarrier,
    libc::SYS_get_mempolicy,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    // Processes and threads.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getpgid,
    libc::SYS_setpgid,
    libc::SYS_getsid,
    libc::SYS_setsid,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_setparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_getattr,
    libc::SYS_sched_setattr,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_ioprio_get,
    libc::SYS_ioprio_set,
    libc::SYS_getcpu,
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
    libc::SYS_prlimit64,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_prctl,
    libc::SYS_seccomp,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
    // Who one is.
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_getgroups,
    libc::SYS_setgroups,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    // Signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_signalfd4,
    // Time and waiting.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_getrandom,
    // The older interface to asynchronous files, which databases use.
    libc::SYS_io_setup,
    libc::SYS_io_destroy,
    libc::SYS_io_submit,
    libc::SYS_io_cancel,
    libc::SYS_io_getevents,
    // Sockets; which families is said below.
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_shutdown,
    // Shared memory, semaphores and queues, in the sandbox's own namespace.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmdt,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_notify,
    libc::SYS_mq_getsetattr,
];

/// What only x86 still has beside its newer form.
#[cfg(target_arch = "x86_64")]
const USED_HERE: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_unlink,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_getdents,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_signalfd,
    libc::SYS_inotify_init,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_getpgrp,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const USED_HERE: &[c_long] = &[libc::SYS_renameat];

/// What opens doors, refused by name so that a program hears that it may not, and not that it does not exist.
const REFUSED: &[c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
];

/// What takes another process apart or changes the root: tools of a developer, not of code that nobody vouches for.
const WORKSTATION: &[c_long] = &[libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_chroot];

const NAMESPACES: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;
/// A namespace of clocks; as a flag of `clone` its bit is part of a signal's number.
const TIME_NAMESPACE: c_int = 0x80;

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn programs(profile: Profile) -> Result<[BpfProgram; 2], String> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let compiled = |rules: Result<Rules, BackendError>, others, these| {
        let filter = rules.and_then(|rules| SeccompFilter::new(rules, others, these, architecture));
        filter.and_then(BpfProgram::try_from).map_err(|error| error.to_string())
    };
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    // Of several filters the strictest answer counts, and of two errors the one applied last: so `refused` comes second.
    Ok([compiled(known(), unknown, SeccompAction::Allow)?, compiled(refusals(profile), SeccompAction::Allow, refused)?])
}

/// Everything that there is, also what the second filter refuses.
fn known() -> Result<Rules, BackendError> {
    let mut rules: Rules = [USED, USED_HERE, REFUSED, WORKSTATION].into_iter().flatten().map(|call| (*call, vec![])).collect();
    let always = [libc::SYS_clone, libc::SYS_unshare, libc::SYS_socket, libc::SYS_socketpair, libc::SYS_ioctl, libc::SYS_personality];
    rules.extend(always.map(|call| (call, vec![])));
    // The flags of `clone3` lie in memory, where a filter cannot look: said to be unknown, it is replaced by `clone`.
    rules.remove(&libc::SYS_clone3);
    Ok(rules)
}

fn refusals(profile: Profile) -> Result<Rules, BackendError> {
    let mut rules: Rules = REFUSED.iter().map(|call| (*call, vec![])).collect();
    if profile == Profile::Strict {
        rules.extend(WORKSTATION.iter().map(|call| (*call, vec![])));
    }
    let every = |conditions: Vec<SeccompCondition>| SeccompRule::new(conditions);
    let each_flag = |flags: c_int| -> Result<Vec<SeccompRule>, BackendError> {
        (0..32).map(|bit| 1u32 << bit).filter(|bit| flags.cast_unsigned() & bit != 0).map(|bit| every(vec![has(0, bit)?])).collect()
    };
    rules.insert(libc::SYS_clone, each_flag(NAMESPACES)?);
    rules.insert(libc::SYS_unshare, each_flag(NAMESPACES | TIME_NAMESPACE)?);
    // Local sockets, the Internet, and the part of netlink that tells of addresses and routes.
    let other_family = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(|family| is_not(0, family.cast_unsigned()));
    let other_netlink = vec![is(0, libc::AF_NETLINK.cast_unsigned())?, is_not(2, libc::NETLINK_ROUTE.cast_unsigned())?];
    rules.insert(libc::SYS_socket, vec![every(other_family.into_iter().collect::<Result<_, _>>()?)?, every(other_netlink)?]);
    rules.insert(libc::SYS_socketpair, vec![every(vec![is_not(0, libc::AF_UNIX.cast_unsigned())?])?]);
    // Putting characters into a terminal's input, and Linux's own consoles.
    let commands = [libc::TIOCSTI as u32, libc::TIOCLINUX as u32];
    rules.insert(libc::SYS_ioctl, commands.into_iter().map(|command| every(vec![is(1, command)?])).collect::<Result<_, _>>()?);
    // Asking, none, and no random addresses: for debuggers.
    let personality = [0, libc::ADDR_NO_RANDOMIZE.cast_unsigned(), u32::MAX].map(|value| is_not(0, value));
    rules.insert(libc::SYS_personality, vec![every(personality.into_iter().collect::<Result<_, _>>()?)?]);
    Ok(rules)
}

fn condition(at: u8, how: SeccompCmpOp, value: u32) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(at, SeccompCmpArgLen::Dword, how, value.into())
}

fn is(at: u8, value: u32) -> Result<SeccompCondition, BackendError> {
    condition(at, SeccompCmpOp::Eq, value)
}

fn is_not(at: u8, value: u32) -> Result<SeccompCondition, BackendError> {
    condition(at, SeccompCmpOp::Ne, value)
}

fn has(at: u8, bit: u32) -> Result<SeccompCondition, BackendError> {
    condition(at, SeccompCmpOp::MaskedEq(bit.into()), bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_both_used_and_refused_and_both_profiles_compile() {
        for call in REFUSED.iter().chain(WORKSTATION) {
            assert!(!USED.contains(call) && !USED_HERE.contains(call), "{call}");
        }
        Filters::compile().unwrap();
    }

    /// Filters hold for the thread that applies them: each test is one of its own.
    fn behind<T: Send + 'static>(profile: Profile, test: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            Filters::compile().unwrap().apply(profile).unwrap();
            test()
        })
        .join()
        .unwrap()
    }

    #[test]
    fn doors_are_refused_and_programs_run() {
        use rustix::{
            io::Errno,
            net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with},
        };
        for profile in [Profile::Strict, Profile::Workstation] {
            behind(profile, || {
                let socket = |family, kind, protocol| socket_with(family, kind, SocketFlags::CLOEXEC, protocol).map(drop);
                assert_eq!(socket(AddressFamily::UNIX, SocketType::STREAM, None), Ok(()));
                assert_eq!(socket(AddressFamily::INET6, SocketType::DGRAM, None), Ok(()));
                assert_eq!(socket(AddressFamily::NETLINK, SocketType::RAW, None), Ok(()));
                assert_eq!(socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::NETFILTER)), Err(Errno::PERM));
                for family in [libc::AF_VSOCK, libc::AF_PACKET, libc::AF_ALG, libc::AF_BLUETOOTH, libc::AF_XDP, libc::AF_KEY] {
                    let family = AddressFamily::from_raw(family.try_into().unwrap());
                    assert_eq!(socket(family, SocketType::RAW, None), Err(Errno::PERM), "{family:?}");
                }
                assert!(rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::empty()).is_err_and(|e| e == Errno::PERM));
                let threads = std::thread::spawn(|| 1).join().unwrap();
                assert_eq!(threads, 1);
            });
        }
    }
}
