//! What a sandbox does for its owner.

use std::{fs, time::Duration};

use skep_sandbox::{Command, EntryKind, FaultKind, Profile, PtySize, RequestError, Status, Stdio, Volume};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::boxed::{BOTH, Bench, run, sh};

#[tokio::test]
async fn commands_run_as_their_user_with_their_streams_and_their_end() {
    let Some(bench) = Bench::set_up().await else { return };
    for profile in BOTH {
        let sandbox = bench.sandbox(profile).await;
        assert_eq!(
            sh(&sandbox, "id -un; echo $HOME; pwd; hostname; cat /proc/sys/kernel/random/boot_id").await,
            "user\n/home/user\n/home/user\nbox\n00000000-0000-4000-8000-0000000000aa\n"
        );
        let mut cat = sandbox.exec(Command { stdio: Stdio::Open, ..Command::new(&["cat"]) }).await.unwrap();
        let mut stdin = cat.stdin.take().unwrap();
        stdin.write_all(b"through").await.unwrap();
        drop(stdin);
        let finished = cat.output(1 << 20).await.unwrap();
        assert_eq!((finished.status, &finished.stdout[..]), (Status::Code(0), &b"through"[..]));
        assert_eq!(run(&sandbox, Command::shell("echo no >&2; exit 7")).await.stderr, b"no\n");
        assert_eq!(run(&sandbox, Command::shell("exit 7")).await.status, Status::Code(7));
        assert_eq!(run(&sandbox, Command::shell("kill -9 $$")).await.status, Status::Signal(9));
        sandbox.remove().await.unwrap();
    }
}

#[tokio::test]
async fn root_is_for_workstations() {
    let Some(bench) = Bench::set_up().await else { return };
    let (strict, workstation) = (bench.sandbox(Profile::Strict).await, bench.sandbox(Profile::Workstation).await);
    let refused = strict.exec(Command::shell("id").user(0)).await;
    assert!(matches!(refused, Err(RequestError::Fault(fault)) if fault.kind == FaultKind::Denied));
    let line = "id -u; touch /usr/bin/mine /etc/mine && chown 1000:1000 /etc/mine && stat -c %u /etc/mine";
    let finished = run(&workstation, Command::shell(line).user(0)).await;
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "0\n1000\n", "{}", String::from_utf8_lossy(&finished.stderr));
    strict.remove().await.unwrap();
    workstation.remove().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    let kind = async |command: Command| match sandbox.exec(command).await {
        Err(RequestError::Fault(fault)) => fault.kind,
        other => panic!("{:?}", other.map(|running| running.pid)),
    };
    assert_eq!(kind(Command::new(&["no-such-program"])).await, FaultKind::NotFound);
    assert_eq!(kind(Command::new(&["/etc/passwd"])).await, FaultKind::Denied);
    assert_eq!(kind(Command::new(&[])).await, FaultKind::Invalid);
    assert_eq!(kind(Command { cwd: Some("/nowhere".into()), ..Command::shell("pwd") }).await, FaultKind::NotFound);
    assert_eq!(kind(Command { cwd: Some("/root".into()), ..Command::shell("pwd") }).await, FaultKind::Denied);
    assert_eq!(kind(Command { env: [("a=b".into(), "c".into())].into(), ..Command::shell("pwd") }).await, FaultKind::Invalid);
    assert_eq!(kind(Command::shell("id").user(65_535)).await, FaultKind::Invalid);
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn terminals_have_a_size_and_a_session() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    let terminal = Some(PtySize { columns: 132, rows: 43 });
    let mut running = sandbox.exec(Command { terminal, ..Command::shell("stty size; read x; stty size; tty; echo got-$x") }).await.unwrap();
    let screen = running.terminal.take().unwrap();
    let mut shown = String::new();
    let mut until = async |wanted: &str| {
        let mut buffer = [0; 1024];
        while !shown.contains(wanted) {
            let got = tokio::time::timeout(Duration::from_secs(20), screen.read(&mut buffer)).await.unwrap().unwrap();
            assert_ne!(got, 0, "the terminal ended after {shown:?}");
            shown.push_str(&String::from_utf8_lossy(&buffer[..got]));
        }
    };
    until("43 132").await;
    screen.resize(PtySize { columns: 80, rows: 25 }).unwrap();
    screen.write(b"typed\r").await.unwrap();
    until("got-typed").await;
    assert!(shown.contains("25 80") && shown.contains("/dev/pts/0"), "{shown:?}");
    assert_eq!(running.exited().await.unwrap(), Status::Code(0));
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn files_are_the_user_s() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    sandbox.write_all("/home/user/a/b/big", 1_000, &bytes).await.unwrap();
    assert!(sandbox.read_all("/home/user/a/b/big", 1_000).await.unwrap() == bytes);
    assert_eq!(sh(&sandbox, "stat -c '%U %a %s' a/b/big").await, "user 644 3000000\n");
    let entry = sandbox.stat("/home/user/a", 1_000).await.unwrap();
    assert_eq!((entry.kind, entry.user), (EntryKind::Folder, 1_000));
    sh(&sandbox, "ln -s /etc/passwd a/link").await;
    let listed = sandbox.list("/home/user", 1_000, 5).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|entry| (entry.path.as_str(), entry.target.as_deref())).collect();
    let (a, b) = (("/home/user/a", None), ("/home/user/a/b", None));
    assert_eq!(listed, [a, b, ("/home/user/a/b/big", None), ("/home/user/a/link", Some("/etc/passwd"))]);
    sandbox.rename("/home/user/a/b/big", "/home/user/c", 1_000).await.unwrap();
    sandbox.remove_file("/home/user/a", 1_000).await.unwrap();
    assert_eq!(sh(&sandbox, "ls").await, "c\n");
    let kind = |result: Result<(), RequestError>| match result {
        Err(RequestError::Fault(fault)) => Some(fault.kind),
        _ => None,
    };
    assert_eq!(kind(sandbox.write_all("/etc/passwd", 1_000, b"x").await), Some(FaultKind::Denied));
    assert_eq!(kind(sandbox.read_all("/etc/shadow", 1_000).await.map(drop)), Some(FaultKind::Denied));
    assert_eq!(kind(sandbox.read_all("/nowhere", 1_000).await.map(drop)), Some(FaultKind::NotFound));
    assert_eq!(kind(sandbox.read_all("/home", 1_000).await.map(drop)), Some(FaultKind::IsFolder));
    assert_eq!(kind(sandbox.read_all("relative", 1_000).await.map(drop)), Some(FaultKind::Invalid));
    sh(&sandbox, "mkfifo pipe; ln -s loop loop").await;
    assert_eq!(kind(sandbox.read_all("/home/user/pipe", 1_000).await.map(drop)), Some(FaultKind::Invalid));
    assert_eq!(kind(sandbox.read_all("/home/user/loop", 1_000).await.map(drop)), Some(FaultKind::Loop));
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn a_port_within_is_reached_from_outside() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    let serve =
        "import socket\ns=socket.create_server(('127.0.0.1',80))\nprint('up',flush=True)\nc,_=s.accept()\nc.sendall(c.recv(9).upper())";
    let mut server = sandbox.exec(Command::new(&["/usr/bin/python3", "-c", serve])).await.unwrap();
    let mut said = [0; 3];
    server.stdout.as_mut().unwrap().read_exact(&mut said).await.unwrap();
    let mut socket = sandbox.connect(80).await.unwrap();
    socket.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "HELLO");
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn a_frozen_sandbox_stands_still_and_keeps_its_memory() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    let mut counter = sandbox.exec(Command::shell("i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done")).await.unwrap();
    let mut out = counter.stdout.take().unwrap();
    let mut buffer = [0; 4096];
    assert!(out.read(&mut buffer).await.unwrap() > 0);
    sandbox.freeze().await.unwrap();
    while tokio::time::timeout(Duration::from_millis(100), out.read(&mut buffer)).await.is_ok() {}
    assert!(tokio::time::timeout(Duration::from_millis(300), out.read(&mut buffer)).await.is_err(), "it went on");
    sandbox.thaw().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(20), out.read(&mut buffer)).await.unwrap().unwrap() > 0);
    sandbox.freeze().await.unwrap();
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn volumes_are_seen_with_the_sandbox_s_own_ids() {
    let Some(bench) = Bench::set_up().await else { return };
    let data = bench.folder.path().join("data");
    fs::create_dir(&data).unwrap();
    std::os::unix::fs::chown(&data, Some(1_000), Some(1_000)).unwrap();
    let volume = |read_only| Volume { source: data.clone(), target: "/data/deep".into(), read_only };
    let sandbox = bench.with_volume(Profile::Strict, volume(false)).await.unwrap();
    sh(&sandbox, "echo kept > /data/deep/file").await;
    sandbox.remove().await.unwrap();
    assert_eq!(std::os::linux::fs::MetadataExt::st_uid(&fs::metadata(data.join("file")).unwrap()), 1_000);
    let sandbox = bench.with_volume(Profile::Strict, volume(true)).await.unwrap();
    assert_eq!(sh(&sandbox, "cat /data/deep/file; touch /data/deep/x 2>&1 || echo refused").await.lines().last(), Some("refused"));
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn what_was_stopped_is_there_at_the_next_start_and_nothing_is_left_after_removal() {
    let Some(bench) = Bench::set_up().await else { return };
    let spec = bench.spec(Profile::Workstation);
    let place = bench.place(&spec);
    let start = async || skep_sandbox::Sandbox::start(&bench.zygote, &bench.host, &bench.cgroups, &spec, &place).await.unwrap();
    let sandbox = start().await;
    sh(&sandbox, "echo kept > kept").await;
    sandbox.shut_down().await.unwrap();
    sandbox.kill().await.unwrap();
    let mut moved = place.clone();
    moved.range.first ^= 0x10_0000;
    let sandbox = skep_sandbox::Sandbox::start(&bench.zygote, &bench.host, &bench.cgroups, &spec, &moved).await.unwrap();
    assert_eq!(sh(&sandbox, "cat kept; stat -c %U kept").await, "kept\nuser\n", "files follow their sandbox into another range of ids");
    sandbox.remove().await.unwrap();
    assert!(!place.folder.exists());
    assert!(bench.cgroups.names(&place.group).is_empty());
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(spec.id.as_str()), "a mount is left on the host");
}

#[tokio::test]
async fn a_hundred_at_once_all_start() {
    let Some(bench) = Bench::set_up().await else { return };
    let bench = std::sync::Arc::new(bench);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let bench = std::sync::Arc::clone(&bench);
        tasks.spawn(async move {
            let sandbox = bench.sandbox(Profile::Strict).await;
            assert_eq!(sh(&sandbox, "echo up").await, "up\n");
            sandbox
        });
    }
    for sandbox in tasks.join_all().await {
        sandbox.remove().await.unwrap();
    }
}
