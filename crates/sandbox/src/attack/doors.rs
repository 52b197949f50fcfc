//! The doors: one function each. They run within a sandbox, as its most powerful user.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::fd::AsRawFd,
};

use libc::{c_int, c_long};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with},
};

use super::{Case, bounds};
use crate::profile::Profile;

pub(super) type Knocked = Result<(), String>;

/// Every door, in the order of the reference.
pub const CASES: &[Case] = &[
    Case { name: "cve_2019_5736_the_program_of_init", knock: program_of_init },
    Case { name: "cve_2024_21626_leaked_descriptors", knock: leaked_descriptors },
    Case { name: "cve_2025_31133_masked_files", knock: masked_files },
    Case { name: "cve_2025_52881_settings_of_the_kernel", knock: settings_of_the_kernel },
    Case { name: "cve_2022_0492_release_agent", knock: release_agent },
    Case { name: "cve_2022_0185_mount_interface", knock: mount_interface },
    Case { name: "cve_2022_0847_read_only_layers", knock: read_only_layers },
    Case { name: "cve_2023_0386_nested_user_namespaces", knock: nested_user_namespaces },
    Case { name: "cve_2023_32233_packet_filters", knock: packet_filters },
    Case { name: "cve_2022_24769_capabilities", knock: capabilities },
    Case { name: "cve_2017_5226_terminal_input", knock: terminal_input },
    Case { name: "shocker_files_by_handle", knock: files_by_handle },
    Case { name: "rarely_used_system_calls", knock: rarely_used_system_calls },
    Case { name: "foreign_system_call_tables", knock: foreign_system_call_tables },
    Case { name: "families_of_sockets", knock: families_of_sockets },
    Case { name: "init_cannot_be_looked_into", knock: init_cannot_be_looked_into },
    Case { name: "other_namespaces_cannot_be_entered", knock: other_namespaces },
    Case { name: "devices_cannot_be_made", knock: devices },
    Case { name: "mounts_cannot_be_undone", knock: mounts_cannot_be_undone },
    Case { name: "the_host_is_not_in_sight", knock: the_host_is_not_in_sight },
    Case { name: "files_in_memory_fill_only_their_share", knock: bounds::files_in_memory },
    Case { name: "names_in_memory_fill_only_their_share", knock: bounds::names_in_memory },
    Case { name: "holes_and_reserved_space_count", knock: bounds::holes_and_reserved_space },
    Case { name: "bounds_of_a_process_cannot_be_raised", knock: bounds::bounds_of_a_process },
    Case { name: "cve_2025_31133_covers_hold_under_every_name", knock: bounds::covers_under_every_name },
];

/// A system call with plain numbers or null pointers for arguments: what it says is all that is wanted of it.
#[expect(unsafe_code, reason = "the calls that are to be refused are wrapped by no crate")]
fn call(number: c_long, arguments: [c_long; 4]) -> Result<c_long, Errno> {
    let [a, b, c, d] = arguments;
    // SAFETY: numbers and null pointers only: the kernel refuses them, or fails on them, without touching memory of this process.
    let said = unsafe { libc::syscall(number, a, b, c, d) };
    let error = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    if said < 0 { Err(Errno::from_raw_os_error(error)) } else { Ok(said) }
}

/// A call that the filters must refuse, by name or as one that there is not.
fn refused(what: &str, number: c_long, arguments: [c_long; 4]) -> Knocked {
    match call(number, arguments) {
        Err(Errno::PERM | Errno::NOSYS) => Ok(()),
        other => Err(format!("{what} was answered with {other:?}")),
    }
}

pub(super) fn all(knocks: impl IntoIterator<Item = Knocked>) -> Knocked {
    let open: Vec<String> = knocks.into_iter().filter_map(Result::err).collect();
    if open.is_empty() { Ok(()) } else { Err(open.join("; ")) }
}

pub(super) fn unwritable(path: &str) -> Knocked {
    match OpenOptions::new().write(true).open(path) {
        Ok(_) => Err(format!("{path} could be opened for writing")),
        Err(_) => Ok(()),
    }
}

/// Not there, not readable, or empty.
pub(super) fn hidden(path: &str) -> Knocked {
    match fs::read(path) {
        Ok(bytes) if !bytes.is_empty() => Err(format!("{path} could be read")),
        _ => Ok(()),
    }
}

fn program_of_init(_: Profile) -> Knocked {
    let reading = match File::open("/proc/1/exe") {
        Ok(_) => Err("the program of init could be opened".to_owned()),
        Err(_) => Ok(()),
    };
    all([reading, unwritable("/proc/1/exe")])
}

fn leaked_descriptors(_: Profile) -> Knocked {
    let listing = fs::read_dir("/proc/self/fd").map_err(|error| error.to_string())?;
    let open = listing.flatten().filter_map(|entry| {
        let number: i32 = entry.file_name().to_str()?.parse().ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        // The listing itself is one; it leads to a folder of this process.
        (number > 2 && !target.starts_with("/proc")).then(|| Err(format!("descriptor {number} leads to {}", target.display())))
    });
    all(open)
}

fn masked_files(_: Profile) -> Knocked {
    let paths = [
        "/proc/kcore",
        "/proc/keys",
        "/proc/key-users",
        "/proc/timer_list",
        "/proc/sched_debug",
        "/proc/kallsyms",
        "/proc/kmsg",
        "/proc/config.gz",
        "/proc/latency_stats",
    ];
    let folders =
        ["/proc/acpi", "/proc/scsi", "/sys/firmware", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/fs/bpf", "/sys/fs/cgroup"];
    let empty = folders.map(|folder| match fs::read_dir(folder).map(Iterator::count) {
        Ok(entries) if entries > 0 => Err(format!("{folder} has {entries} entries")),
        _ => Ok(()),
    });
    all(paths.map(hidden).into_iter().chain(empty))
}

fn settings_of_the_kernel(_: Profile) -> Knocked {
    let doors = [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/kernel/yama/ptrace_scope",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/user/max_user_namespaces",
        "/proc/irq/0/smp_affinity",
        "/proc/bus/pci/00/00.0",
        "/sys/kernel/uevent_helper",
        "/proc/self/attr/current",
    ];
    let writable = doors.map(|door| match OpenOptions::new().write(true).open(door) {
        // Opening some is allowed; writing is what counts.
        Ok(mut file) => match io::Write::write(&mut file, b"0") {
            Ok(_) => Err(format!("{door} could be written")),
            Err(_) => Ok(()),
        },
        Err(_) => Ok(()),
    });
    all(writable)
}

fn release_agent(_: Profile) -> Knocked {
    all([
        refused("mount", libc::SYS_mount, [0; 4]),
        refused("unshare of cgroups", libc::SYS_unshare, [libc::CLONE_NEWCGROUP.into(), 0, 0, 0]),
        match fs::read_to_string("/proc/self/cgroup") {
            Ok(text) if text.lines().any(|line| line.contains("skep-")) => Err("the names of cgroups are in sight".to_owned()),
            _ => Ok(()),
        },
    ])
}

fn mount_interface(_: Profile) -> Knocked {
    let calls = [
        ("fsopen", libc::SYS_fsopen),
        ("fsconfig", libc::SYS_fsconfig),
        ("fsmount", libc::SYS_fsmount),
        ("fspick", libc::SYS_fspick),
        ("move_mount", libc::SYS_move_mount),
        ("open_tree", libc::SYS_open_tree),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("umount2", libc::SYS_umount2),
        ("pivot_root", libc::SYS_pivot_root),
    ];
    all(calls.map(|(name, number)| refused(name, number, [0; 4])))
}

/// The host's programs cannot be opened for writing where they are read-only; where they are copied, the copy is the sandbox's own.
fn read_only_layers(profile: Profile) -> Knocked {
    match profile {
        Profile::Strict => all(["/usr/bin/env", "/bin/sh"].map(unwritable)),
        Profile::Workstation => match fs::write("/usr/bin/env", "changed") {
            Ok(()) => Ok(()),
            Err(error) => Err(format!("root of a workstation cannot change its copy: {error}")),
        },
    }
}

fn nested_user_namespaces(_: Profile) -> Knocked {
    let flag = |flag: c_int| c_long::from(flag);
    all([
        refused("unshare of users", libc::SYS_unshare, [flag(libc::CLONE_NEWUSER), 0, 0, 0]),
        refused("unshare of users and mounts", libc::SYS_unshare, [flag(libc::CLONE_NEWUSER | libc::CLONE_NEWNS), 0, 0, 0]),
        refused("unshare of networks", libc::SYS_unshare, [flag(libc::CLONE_NEWNET), 0, 0, 0]),
        refused("clone with users", libc::SYS_clone, [flag(libc::CLONE_NEWUSER), 0, 0, 0]),
        match call(libc::SYS_clone3, [0; 4]) {
            Err(Errno::NOSYS) => Ok(()),
            other => Err(format!("clone3 was answered with {other:?}")),
        },
        match fs::read_to_string("/proc/sys/user/max_user_namespaces").as_deref().map(str::trim) {
            Ok("0") => Ok(()),
            other => Err(format!("user namespaces within: {other:?}")),
        },
    ])
}

fn packet_filters(_: Profile) -> Knocked {
    match socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER)) {
        Err(Errno::PERM) => Ok(()),
        other => Err(format!("a socket to packet filters was answered with {other:?}")),
    }
}

fn status(field: &str) -> Result<u64, String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or_else(|| format!("no {field} in status"))?;
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).map_err(|error| error.to_string())
}

fn capabilities(profile: Profile) -> Knocked {
    let most = profile.command_capabilities().bits();
    let is = |field: &str, wanted: u64| match status(field)? {
        found if found == wanted => Ok(()),
        found => Err(format!("{field} is {found:x} and not {wanted:x}")),
    };
    all([
        is("CapInh", 0),
        is("CapAmb", 0),
        is("CapBnd", most),
        is("CapEff", most),
        is("CapPrm", most),
        is("NoNewPrivs", 1),
        is("Seccomp", 2),
    ])
}

fn terminal_input(_: Profile) -> Knocked {
    // The upper half of the number is nothing to the kernel: a filter that compares it is passed (CVE-2019-10063).
    let disguised = c_long::try_from(libc::TIOCSTI).unwrap_or(0) | 1 << 40;
    all([
        refused("TIOCSTI", libc::SYS_ioctl, [0, c_long::try_from(libc::TIOCSTI).unwrap_or(0), 0, 0]),
        refused("TIOCSTI in disguise", libc::SYS_ioctl, [0, disguised, 0, 0]),
        refused("TIOCLINUX", libc::SYS_ioctl, [0, c_long::try_from(libc::TIOCLINUX).unwrap_or(0), 0, 0]),
    ])
}

fn files_by_handle(_: Profile) -> Knocked {
    all([
        refused("open_by_handle_at", libc::SYS_open_by_handle_at, [0; 4]),
        refused("name_to_handle_at", libc::SYS_name_to_handle_at, [0; 4]),
    ])
}

fn rarely_used_system_calls(profile: Profile) -> Knocked {
    let both = [
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("keyctl", libc::SYS_keyctl),
        ("add_key", libc::SYS_add_key),
        ("request_key", libc::SYS_request_key),
        ("bpf", libc::SYS_bpf),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("fanotify_init", libc::SYS_fanotify_init),
        ("kexec_load", libc::SYS_kexec_load),
        ("init_module", libc::SYS_init_module),
        ("finit_module", libc::SYS_finit_module),
        ("delete_module", libc::SYS_delete_module),
        ("swapon", libc::SYS_swapon),
        ("reboot", libc::SYS_reboot),
        ("quotactl", libc::SYS_quotactl),
        ("acct", libc::SYS_acct),
        ("settimeofday", libc::SYS_settimeofday),
        ("syslog", libc::SYS_syslog),
        ("kcmp", libc::SYS_kcmp),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("memfd_secret", libc::SYS_memfd_secret),
    ];
    let strict = [("ptrace", libc::SYS_ptrace), ("process_vm_readv", libc::SYS_process_vm_readv), ("chroot", libc::SYS_chroot)];
    let strict = strict.into_iter().filter(|_| profile == Profile::Strict);
    all(both.into_iter().chain(strict).map(|(name, number)| refused(name, number, [0; 4])))
}

fn foreign_system_call_tables(_: Profile) -> Knocked {
    // Calls of the x32 table have this bit set; and numbers that no table has.
    const X32: c_long = 0x4000_0000;
    all([refused("getpid of x32", X32 | 39, [0; 4]), refused("a call that there is not", 0x0fff_ffff, [0; 4])])
}

fn families_of_sockets(_: Profile) -> Knocked {
    let families = [
        ("vsock", libc::AF_VSOCK),
        ("packet", libc::AF_PACKET),
        ("alg", libc::AF_ALG),
        ("bluetooth", libc::AF_BLUETOOTH),
        ("can", libc::AF_CAN),
        ("key", libc::AF_KEY),
        ("tipc", libc::AF_TIPC),
        ("xdp", libc::AF_XDP),
        ("rds", libc::AF_RDS),
    ];
    all(families.map(|(name, family)| refused(name, libc::SYS_socket, [family.into(), libc::SOCK_RAW.into(), 0, 0])))
}

fn init_cannot_be_looked_into(_: Profile) -> Knocked {
    let read = ["mem", "environ", "maps", "auxv", "syscall", "stack"].map(|file| {
        let path = format!("/proc/1/{file}");
        match File::open(&path).and_then(|mut file| io::Read::read(&mut file, &mut [0; 16])) {
            Ok(got) if got > 0 => Err(format!("{path} could be read")),
            _ => Ok(()),
        }
    });
    let followed = ["root", "cwd", "fd"].map(|link| {
        let path = format!("/proc/1/{link}");
        if fs::read_dir(&path).is_ok() { Err(format!("{path} could be entered")) } else { Ok(()) }
    });
    const ATTACH: c_long = 16;
    let traced = match call(libc::SYS_ptrace, [ATTACH, 1, 0, 0]) {
        Err(_) => Ok(()),
        Ok(_) => Err("init could be traced".to_owned()),
    };
    all(read.into_iter().chain(followed).chain([traced, unwritable("/proc/1/mem"), unwritable("/proc/1/oom_score_adj")]))
}

fn other_namespaces(_: Profile) -> Knocked {
    let opened = ["mnt", "net", "pid", "user", "ipc", "uts"].into_iter().map(|name| match File::open(format!("/proc/1/ns/{name}")) {
        Ok(file) => refused("setns", libc::SYS_setns, [file.as_raw_fd().into(), 0, 0, 0]),
        Err(_) => Ok(()),
    });
    all(opened.chain([refused("setns", libc::SYS_setns, [-1, 0, 0, 0])]))
}

fn devices(_: Profile) -> Knocked {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat, unlink};
    let nodes = [("block", FileType::BlockDevice, makedev(8, 0)), ("memory", FileType::CharacterDevice, makedev(1, 1))];
    let made = nodes.map(|(name, kind, device)| {
        let path = format!("/tmp/device-{name}");
        // An overlay keeps a deleted file as device 0:0; every other is refused.
        let made = mknodat(CWD, &path, kind, Mode::RUSR | Mode::WUSR, device).and_then(|()| File::open(&path).map_err(|_| Errno::PERM));
        let _ = unlink(&path);
        if made.is_ok() { Err(format!("a {name} device could be made and opened")) } else { Ok(()) }
    });
    let there =
        ["/dev/mem", "/dev/kmem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/fuse", "/dev/kvm", "/dev/loop-control", "/dev/net/tun"];
    let there = there.map(|path| if fs::symlink_metadata(path).is_ok() { Err(format!("{path} is there")) } else { Ok(()) });
    let replaced = match fs::remove_file("/dev/null") {
        Ok(()) => Err("/dev/null could be removed".to_owned()),
        Err(_) => Ok(()),
    };
    all(made.into_iter().chain(there).chain([replaced]))
}

fn mounts_cannot_be_undone(_: Profile) -> Knocked {
    let moved = match fs::rename("/proc", "/proc.old") {
        Ok(()) => Err("/proc could be moved away".to_owned()),
        Err(_) => Ok(()),
    };
    all([moved, refused("umount2", libc::SYS_umount2, [0; 4]), unwritable("/proc/sys/kernel/random/boot_id")])
}

fn the_host_is_not_in_sight(_: Profile) -> Knocked {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    let shown = mounts.lines().filter(|line| line.split(' ').nth(4).is_some_and(|at| at.contains("stage") || at.contains("oldroot")));
    let shown = shown.map(|line| Err(format!("a mount of the host is in sight: {line}")));
    let processes = fs::read_dir("/proc").map_err(|error| error.to_string())?;
    let processes = processes.flatten().filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok())).count();
    let few = if processes <= 8 { Ok(()) } else { Err(format!("{processes} processes are in sight")) };
    let devices = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let devices = devices.lines().skip(2).filter(|line| !line.trim_start().starts_with("lo:"));
    let devices = devices.filter(|line| !line.trim().is_empty()).map(|line| Err(format!("a network device is in sight: {line}")));
    let files = ["/etc/machine-id", "/var/lib/dpkg/status", "/root/.ssh", "/var/run/docker.sock", "/run/systemd"];
    let files = files.map(|path| if fs::symlink_metadata(path).is_ok() { Err(format!("{path} is in sight")) } else { Ok(()) });
    all(shown.chain([few]).chain(devices).chain(files))
}
