//! The attack corpus, in both profiles, and what must be watched from outside while it runs.

use std::{
    fs,
    os::{linux::net::SocketAddrExt, unix::fs::symlink},
    time::Duration,
};

use skep_sandbox::{Command, FaultKind, Fence, Limits, Profile, RequestError, Sandbox, Spec, Status, Volume, attack};

use crate::boxed::{BOTH, Bench, PROGRAM, most_powerful, run, sh};

const ATTACKER: &str = "/tmp/attacker";

async fn with_attacker(bench: &Bench, profile: Profile) -> Sandbox {
    let sandbox = bench.sandbox(profile).await;
    sandbox.write_all(ATTACKER, 1_000, &fs::read(PROGRAM).unwrap()).await.unwrap();
    sh(&sandbox, "chmod 755 /tmp/attacker").await;
    sandbox
}

async fn knock(bench: &Bench, profile: Profile, name: &str) {
    let sandbox = with_attacker(bench, profile).await;
    let shown = if profile.allows_root() { "workstation" } else { "strict" };
    let command = Command::new(&[ATTACKER, attack::ARGUMENT, shown, name]).user(most_powerful(profile));
    let finished = run(&sandbox, command).await;
    sandbox.remove().await.unwrap();
    let said = String::from_utf8_lossy(&finished.stdout);
    assert_eq!(finished.status, Status::Code(0), "{shown}: {name}: {said}{}", String::from_utf8_lossy(&finished.stderr));
}

/// A test for each case, so that a report names it; `every_case_is_a_test` notices one that is missing.
macro_rules! cases {
    ($($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let Some(bench) = Bench::set_up().await else { return };
                for profile in BOTH {
                    knock(&bench, profile, stringify!($name)).await;
                }
            }
        )*
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

cases! {
    cve_2019_5736_the_program_of_init
    cve_2024_21626_leaked_descriptors
    cve_2025_31133_masked_files
    cve_2025_52881_settings_of_the_kernel
    cve_2022_0492_release_agent
    cve_2022_0185_mount_interface
    cve_2022_0847_read_only_layers
    cve_2023_0386_nested_user_namespaces
    cve_2023_32233_packet_filters
    cve_2022_24769_capabilities
    cve_2017_5226_terminal_input
    shocker_files_by_handle
    rarely_used_system_calls
    foreign_system_call_tables
    families_of_sockets
    init_cannot_be_looked_into
    other_namespaces_cannot_be_entered
    devices_cannot_be_made
    mounts_cannot_be_undone
    the_host_is_not_in_sight
    files_in_memory_fill_only_their_share
    names_in_memory_fill_only_their_share
    holes_and_reserved_space_count
    bounds_of_a_process_cannot_be_raised
    cve_2025_31133_covers_hold_under_every_name
}

#[test]
fn every_case_is_a_test() {
    assert_eq!(attack::CASES.iter().map(|case| case.name).collect::<Vec<_>>(), TESTED);
}

#[tokio::test]
async fn cve_2024_21626_a_descriptor_is_no_place_to_begin_at() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    for cwd in ["/proc/self/fd/3", "/proc/self/fd/8", "/proc/1/cwd", "/proc/self/root", "/proc/self/cwd/../.."] {
        let command = Command { cwd: Some(cwd.into()), ..Command::shell("pwd") };
        assert!(matches!(sandbox.exec(command).await, Err(RequestError::Fault(_))), "{cwd}");
    }
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn cve_2021_30465_a_volume_never_lands_beyond_a_link() {
    let Some(bench) = Bench::set_up().await else { return };
    let (canary, data) = (bench.folder.path().join("canary"), bench.folder.path().join("data"));
    fs::create_dir(&canary).unwrap();
    fs::create_dir(&data).unwrap();
    let spec = Spec {
        volumes: vec![Volume { source: data, target: "/home/user/link/deep".into(), read_only: false }],
        ..bench.spec(Profile::Strict)
    };
    let place = bench.place(&spec);
    // As an earlier life of the sandbox may have left it.
    let home = place.folder.join("fs/root/home/user");
    fs::create_dir_all(&home).unwrap();
    for target in ["/etc", "../../../../../../..", canary.to_str().unwrap()] {
        let _ = fs::remove_file(home.join("link"));
        symlink(target, home.join("link")).unwrap();
        let started = Sandbox::start(&bench.zygote, &bench.host, &bench.cgroups, &spec, &place).await;
        let refused = started.err().unwrap_or_else(|| panic!("a volume was put beyond a link to {target}"));
        assert!(refused.to_string().contains("Volume"), "{refused}");
    }
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "something was made outside");
}

#[tokio::test]
async fn cve_2018_15664_copies_stay_inside_while_links_flip() {
    let Some(bench) = Bench::set_up().await else { return };
    let canary = bench.folder.path().join("canary");
    fs::write(&canary, "canary").unwrap();
    let sandbox = bench.sandbox(Profile::Workstation).await;
    sh(&sandbox, "mkdir -p /tmp/d && echo inside > /tmp/d/f && chmod -R 777 /tmp/d").await;
    let outside = canary.parent().unwrap().to_str().unwrap();
    let flip = format!("cd /tmp; while :; do mv -T d e; ln -s {outside} d; rm d; mv -T e d; done");
    let flipper = sandbox.exec(Command::shell(&flip)).await.unwrap();
    for n in 0..200 {
        let read = sandbox.read_all("/tmp/d/canary", 0).await;
        // What it wrote itself it may read: removing it may have met the link.
        assert!(!matches!(&read, Ok(text) if text == b"canary"), "the host's file was read");
        let _ = sandbox.write_all("/tmp/d/canary", 0, format!("{n}").as_bytes()).await;
        let _ = sandbox.remove_file("/tmp/d/canary", 0).await;
    }
    assert_eq!(fs::read_to_string(&canary).unwrap(), "canary");
    sandbox.signal(flipper.pid, 9, true).await.unwrap();
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn cve_2020_15257_abstract_sockets_and_ports_of_the_host() {
    let Some(bench) = Bench::set_up().await else { return };
    let name = format!("skep-canary-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let number = port.local_addr().unwrap().port();
    for profile in BOTH {
        let sandbox = bench.sandbox(profile).await;
        let listed = sh(&sandbox, "cat /proc/net/unix /proc/net/tcp").await;
        assert!(!listed.contains(&name), "{listed}");
        assert!(!listed.contains(&format!(":{number:04X} ")), "{listed}");
        let refused = sandbox.connect(number).await;
        assert!(matches!(refused, Err(RequestError::Fault(fault)) if fault.kind == FaultKind::Refused));
        sandbox.remove().await.unwrap();
    }
}

#[tokio::test]
async fn cve_2022_0847_the_host_s_programs_stay_as_they_are() {
    let Some(bench) = Bench::set_up().await else { return };
    let before = fs::read("/usr/bin/env").unwrap();
    for profile in BOTH {
        let sandbox = bench.sandbox(profile).await;
        let command =
            Command::shell("echo changed > /usr/bin/env; echo more > /usr/bin/new; rm -rf /usr/bin/id").user(most_powerful(profile));
        run(&sandbox, command).await;
        sandbox.remove().await.unwrap();
    }
    assert!(fs::read("/usr/bin/env").unwrap() == before && !fs::exists("/usr/bin/new").unwrap() && fs::exists("/usr/bin/id").unwrap());
}

#[tokio::test]
async fn root_within_is_nobody_outside() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Workstation).await;
    let mut sleeper = sandbox.exec(Command::new(&["sleep", "60"]).user(0)).await.unwrap();
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", sandbox.pid())).unwrap();
    let owner = |pid: &str| std::os::linux::fs::MetadataExt::st_uid(&fs::metadata(format!("/proc/{pid}")).unwrap());
    for pid in children.split_whitespace() {
        assert!(owner(pid) >= 0x7000_0000, "process {pid} belongs to {}", owner(pid));
    }
    assert!(owner(&sandbox.pid().to_string()) == 0 || owner(&sandbox.pid().to_string()) >= 0x7000_0000);
    let ids = fs::read_to_string(format!("/proc/{}/status", sandbox.pid())).unwrap();
    let ids = ids.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    assert!(ids.split_whitespace().all(|id| id.parse::<u32>().unwrap() >= 0x7000_0000), "init runs as {ids}");
    sandbox.signal(sleeper.pid, 15, false).await.unwrap();
    assert_eq!(sleeper.exited().await.unwrap(), Status::Signal(15));
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn sandboxes_do_not_see_each_other() {
    let Some(bench) = Bench::set_up().await else { return };
    let (one, other) = (bench.sandbox(Profile::Workstation).await, bench.sandbox(Profile::Workstation).await);
    sh(&one, "echo secret > /tmp/secret; chmod 644 /tmp/secret; echo secret > /dev/shm/secret").await;
    let server = one.exec(Command::new(&["/usr/bin/env", "sh", "-c", "exec sleep 60"])).await.unwrap();
    assert_eq!(
        sh(&other, "ls /tmp /dev/shm; ls /proc | grep -c '^[0-9]*$'").await.lines().last().map(|n| n.parse::<u32>().unwrap() < 8),
        Some(true)
    );
    assert!(!sh(&other, "ls /tmp /dev/shm").await.contains("secret"));
    drop(server);
    one.remove().await.unwrap();
    other.remove().await.unwrap();
}

#[tokio::test]
async fn a_fork_bomb_ends_at_its_bound_and_nobody_else_feels_it() {
    let Some(bench) = Bench::set_up().await else { return };
    let limits = Limits { pids: 64, ..Limits::default() };
    let bomb = bench.start(&Spec { limits, ..bench.spec(Profile::Strict) }).await.unwrap();
    let quiet = bench.sandbox(Profile::Strict).await;
    let running = bomb.exec(Command::shell("b() { b | b & }; b; while :; do sleep 30 & done 2>/dev/null")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(bomb.group().usage().pids <= 64, "{:?}", bomb.group().usage());
    assert_eq!(sh(&quiet, "echo fine").await, "fine\n");
    drop(running);
    bomb.remove().await.unwrap();
    quiet.remove().await.unwrap();
}

#[tokio::test]
async fn a_memory_bomb_is_killed_and_its_sandbox_goes_on() {
    let Some(bench) = Bench::set_up().await else { return };
    let limits = Limits { memory_bytes: 48 << 20, ..Limits::default() };
    let sandbox = bench.start(&Spec { limits, ..bench.spec(Profile::Strict) }).await.unwrap();
    let finished = run(&sandbox, Command::shell("exec tail /dev/zero")).await;
    assert_eq!(finished.status, Status::Signal(9));
    let shared = run(&sandbox, Command::shell("head -c 200M /dev/zero > /dev/shm/fill")).await;
    assert_ne!(shared.status, Status::Code(0));
    assert_eq!(sh(&sandbox, "rm -f /dev/shm/fill; echo fine").await, "fine\n");
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn a_storm_of_zombies_is_reaped() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    sh(&sandbox, "for i in $(seq 200); do (sleep 0.01 &) ; done; sleep 0.3").await;
    let left = sh(&sandbox, "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l").await;
    assert_eq!(left.trim(), "0");
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn a_flood_of_output_is_kept_back_and_nobody_else_feels_it() {
    let Some(bench) = Bench::set_up().await else { return };
    let (flooding, quiet) = (bench.sandbox(Profile::Strict).await, bench.sandbox(Profile::Strict).await);
    // Nobody reads it: it fills its pipes, and waits.
    let unread = flooding.exec(Command::shell("yes >&2 & exec yes")).await.unwrap();
    let finished = flooding.exec(Command::shell("head -c 200M /dev/zero")).await.unwrap().output(1 << 20).await.unwrap();
    assert_eq!((finished.status, finished.stdout.len()), (Status::Code(0), 1 << 20));
    assert_eq!(sh(&quiet, "echo fine").await, "fine\n");
    drop(unread);
    flooding.remove().await.unwrap();
    quiet.remove().await.unwrap();
}

#[tokio::test]
async fn one_sandbox_does_not_reach_what_another_serves() {
    let Some(bench) = Bench::set_up().await else { return };
    let (one, other) = (bench.sandbox(Profile::Workstation).await, bench.sandbox(Profile::Workstation).await);
    let serve = "import socket,time\nport=socket.create_server(('0.0.0.0',7777))\n\
                 named=socket.socket(socket.AF_UNIX)\nnamed.bind('\\0skep-secret')\nnamed.listen()\nprint('up',flush=True)\ntime.sleep(60)";
    let mut server = one.exec(Command::new(&["/usr/bin/python3", "-c", serve]).user(0)).await.unwrap();
    let mut up = [0; 3];
    tokio::io::AsyncReadExt::read_exact(server.stdout.as_mut().unwrap(), &mut up).await.unwrap();
    one.connect(7_777).await.unwrap();
    assert!(matches!(other.connect(7_777).await, Err(RequestError::Fault(fault)) if fault.kind == FaultKind::Refused));
    let call =
        "import socket\ntry:\n socket.socket(socket.AF_UNIX).connect('\\0skep-secret')\n print('open')\nexcept OSError as e: print('shut')";
    let called = run(&other, Command::new(&["/usr/bin/python3", "-c", call]).user(0)).await;
    assert_eq!(String::from_utf8_lossy(&called.stdout), "shut\n", "{}", String::from_utf8_lossy(&called.stderr));
    for pid in [one.pid(), other.pid()] {
        let line = format!("kill -0 {pid}");
        assert_ne!(run(&other, Command::shell(&line).user(0)).await.status, Status::Code(0), "process {pid} of the host is in sight");
    }
    one.remove().await.unwrap();
    other.remove().await.unwrap();
}

#[tokio::test]
async fn what_one_changes_of_a_shared_layer_another_does_not_see() {
    let Some(bench) = Bench::set_up().await else { return };
    let (one, other) = (bench.sandbox(Profile::Workstation).await, bench.sandbox(Profile::Workstation).await);
    let change = "echo changed > /etc/hosts; echo changed > /usr/bin/env; python3 - <<'E'\n\
                  import mmap\nf=open('/etc/services','r+b')\nm=mmap.mmap(f.fileno(),0)\nm[0:7]=b'changed'\nm.flush()\nE";
    run(&one, Command::shell(change).user(0)).await;
    for path in ["/etc/hosts", "/usr/bin/env", "/etc/services"] {
        let head = |sandbox: &Sandbox| {
            let sandbox = sandbox.clone();
            async move { run(&sandbox, Command::new(&["head", "-c", "7", path])).await.stdout }
        };
        assert_eq!(head(&one).await, b"changed", "{path}");
        assert_ne!(head(&other).await, b"changed", "{path}");
    }
    one.remove().await.unwrap();
    other.remove().await.unwrap();
}

#[tokio::test]
async fn the_disk_is_read_and_written_no_faster_than_its_bound() {
    let Some(bench) = Bench::set_up().await else { return };
    if let Some(missing) = bench.host.missing(Fence::IoLimit) {
        return println!("passed over: this machine has no IoLimit: {} ({})", missing.why, missing.fix);
    }
    let limits = Limits { write_bps: Some(4 << 20), ..Limits::default() };
    let slow = bench.start(&Spec { limits, ..bench.spec(Profile::Strict) }).await.unwrap();
    let line = "dd if=/dev/zero of=fill bs=512k count=16 oflag=direct 2>&1 | tail -1";
    let began = std::time::Instant::now();
    let said = sh(&slow, line).await;
    // 8 MiB at 4 MiB a second; the first of it may go at once.
    assert!(began.elapsed() > Duration::from_millis(1_000), "{:?}: {said}", began.elapsed());
    slow.remove().await.unwrap();
}
