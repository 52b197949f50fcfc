//! What the wire of other programs needs of init: watches, commands that are found again, files in place, what is said of them.

use std::{collections::BTreeMap, time::Duration};

use skep_sandbox::{
    Change, ChangeKind, Changes, Command, FaultKind, Noticed, Profile, RequestError, SHORT, Status, Stdio, Watching, Writing, Written,
};
use tokio::io::AsyncReadExt;

use crate::boxed::{BOTH, Bench, run, sh};

const PATIENCE: Duration = Duration::from_secs(20);

fn in_place(path: &str) -> Written {
    Written { how: Writing::InPlace, ..Written::to(path, 1_000) }
}

fn kind<T>(result: Result<T, RequestError>) -> Option<FaultKind> {
    match result {
        Err(RequestError::Fault(fault)) => Some(fault.kind),
        _ => None,
    }
}

/// All that was noticed so far.
fn so_far(changes: &mut Changes) -> Vec<(String, ChangeKind)> {
    let mut all = Vec::new();
    while let Some(noticed) = changes.now().unwrap() {
        match noticed {
            Noticed::Change(Change { path, kind, .. }) => all.push((path, kind)),
            Noticed::Lost => panic!("something was lost"),
        }
    }
    all
}

#[tokio::test]
async fn a_file_that_is_written_where_it_is_is_three_changes() {
    let Some(bench) = Bench::set_up().await else { return };
    for profile in BOTH {
        let sandbox = bench.sandbox(profile).await;
        let mut changes = sandbox.watch("/home/user", 1_000, Watching::default()).await.unwrap();
        sandbox.write_short(&in_place("/home/user/a"), b"one").await.unwrap();
        sandbox.settle().await.unwrap();
        let three = [ChangeKind::Created, ChangeKind::Attributes, ChangeKind::Written].map(|kind| ("a".to_owned(), kind));
        assert_eq!(so_far(&mut changes), three);
        sandbox.write_short(&in_place("/home/user/a"), b"").await.unwrap();
        assert_eq!(sandbox.read_all("/home/user/a", 1_000).await.unwrap(), b"");
        sh(&sandbox, "rm a; mkdir b; echo x > b/unseen; mv b c").await;
        sandbox.settle().await.unwrap();
        let all = so_far(&mut changes);
        let renamed = [("b".to_owned(), ChangeKind::Renamed), ("c".to_owned(), ChangeKind::Created)];
        assert!(all.contains(&("a".to_owned(), ChangeKind::Removed)) && all.ends_with(&renamed), "{all:?}");
        assert!(!all.iter().any(|(path, _)| path.contains("unseen")), "{all:?}");
        sandbox.remove().await.unwrap();
    }
}

#[tokio::test]
async fn a_recursive_watch_sees_folders_that_come_later_and_what_is_there() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    sh(&sandbox, "mkdir -p w/old; mkdir other; ln -s /tmp w/out").await;
    let watching = Watching { recursive: true, entries: true, ..Watching::default() };
    let mut changes = sandbox.watch("/home/user/w", 1_000, watching).await.unwrap();
    sh(&sandbox, "echo a > w/old/a; mkdir -p w/new/deep; echo b > w/new/deep/b; echo c > /tmp/c; echo d > other/d").await;
    let mut seen: BTreeMap<String, Vec<ChangeKind>> = BTreeMap::new();
    let mut entries = Vec::new();
    let all = async {
        while !seen.get("new/deep/b").is_some_and(|kinds| kinds.contains(&ChangeKind::Written)) {
            let Some(Noticed::Change(change)) = changes.next().await else { panic!("the watch ended") };
            seen.entry(change.path).or_default().push(change.kind);
            entries.extend(change.entry.map(|entry| (entry.path, entry.owner)));
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    assert!(seen["old/a"].contains(&ChangeKind::Written) && seen["new"].contains(&ChangeKind::Created), "{seen:?}");
    assert!(seen.keys().all(|path| !path.ends_with('c') && !path.ends_with('d')), "a link leads out of what is watched: {seen:?}");
    assert!(entries.contains(&("/home/user/w/old/a".to_owned(), "user".to_owned())), "{entries:?}");
    // What has moved away is seen no more.
    sh(&sandbox, "mv w/new other/new").await;
    sandbox.settle().await.unwrap();
    so_far(&mut changes);
    sh(&sandbox, "echo x > other/new/deep/x").await;
    sandbox.settle().await.unwrap();
    assert_eq!(so_far(&mut changes), []);
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn watches_that_nobody_reads_lose_changes_and_say_so_and_dropped_ones_end() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    let mut changes = sandbox.watch("/home/user", 1_000, Watching::default()).await.unwrap();
    sh(&sandbox, "i=0; while [ $i -lt 12000 ]; do : > f$i; i=$((i+1)); done").await;
    // Init goes on serving all the while.
    assert_eq!(sh(&sandbox, "echo up").await, "up\n");
    let lost = async { while !matches!(changes.next().await, Some(Noticed::Lost)) {} };
    tokio::time::timeout(PATIENCE, lost).await.unwrap();
    drop(changes);
    // Were they not ended, these would be too many.
    for _ in 0..400 {
        let watch = async {
            while sandbox.watch("/home/user", 1_000, Watching::default()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, watch).await.unwrap();
    }
    let refused = |path: &'static str| sandbox.watch(path, 1_000, Watching::default());
    assert_eq!(kind(refused("/home/user/f1").await), Some(FaultKind::NotFolder));
    assert_eq!(kind(refused("/nowhere").await), Some(FaultKind::NotFound));
    assert_eq!(kind(refused("/root").await), Some(FaultKind::Denied));
    assert_eq!(kind(refused("home").await), Some(FaultKind::Invalid));
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn what_people_write_about_a_file_is_kept_with_it() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    let about = |pairs: &[(&str, &str)]| Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
    let with = |metadata| Written { metadata, ..in_place("/home/user/a") };
    sandbox.write_short(&with(about(&[("author", "mish"), ("purpose", "x y")])), b"1").await.unwrap();
    let entry = sandbox.stat("/home/user/a", 1_000).await.unwrap();
    assert_eq!(Some(entry.metadata), about(&[("author", "mish"), ("purpose", "x y")]));
    assert_eq!((entry.owner.as_str(), entry.group_name.as_str(), entry.mode), ("user", "user", 0o644));
    sandbox.write_short(&with(None), b"2").await.unwrap();
    assert_eq!(sandbox.stat("/home/user/a", 1_000).await.unwrap().metadata.len(), 2, "what is not spoken of stays");
    // What others put beside it is hostile: not text, too much, or not meant.
    let hostile = "import os\nf='/home/user/a'\nos.setxattr(f,'user.e2b.bin',b'\\xff\\n')\nos.setxattr(f,'user.other',b'x')\n\
        os.setxattr(f,'user.e2b.long',b'v'*3000)\nos.setxattr(f,'user.e2b.tool',b'py')\n";
    assert_eq!(run(&sandbox, Command::new(&["/usr/bin/python3", "-c", hostile])).await.status, Status::Code(0));
    let metadata = sandbox.stat("/home/user/a", 1_000).await.unwrap().metadata;
    assert!(metadata["tool"] == "py" && !metadata.contains_key("bin") && !metadata.contains_key("other"), "{metadata:?}");
    sandbox.write_short(&with(about(&[])), b"3").await.unwrap();
    let metadata = sandbox.stat("/home/user/a", 1_000).await.unwrap().metadata;
    assert!(metadata.is_empty() || metadata.keys().all(|key| key == "bin"), "{metadata:?}");
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn links_are_told_with_what_they_lead_to() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    sh(&sandbox, "mkdir d; ln -s d one; ln -s one two; ln -s nowhere three; ln -s four four").await;
    let leads = async |name: &str| sandbox.stat(&format!("/home/user/{name}"), 1_000).await.unwrap().leads.map(|leads| leads.path);
    assert_eq!(leads("two").await.as_deref(), Some("/home/user/d"));
    assert_eq!((leads("three").await, leads("four").await, leads("d").await), (None, None, None));
    assert_eq!(kind(sandbox.list("/home/user/four", 1_000, 1).await), Some(FaultKind::Loop));
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn parts_of_files_and_files_of_parts() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    for (name, size) in [("a", SHORT), ("b", 1), ("c", 0)] {
        sandbox.write_short(&in_place(&format!("/home/user/parts/{name}")), &vec![name.as_bytes()[0]; size]).await.unwrap();
    }
    let mut part = sandbox.read_part("/home/user/parts/a", 1_000, 10, Some(5)).await.unwrap();
    let mut bytes = Vec::new();
    part.pipe.read_to_end(&mut bytes).await.unwrap();
    assert_eq!((part.bytes, &bytes[..], part.copied.await.unwrap().unwrap()), (SHORT as u64, &b"aaaaa"[..], 5));
    let sources = ["a", "b", "c"].map(|name| format!("/home/user/parts/{name}")).to_vec();
    let made = sandbox.compose(sources, "/home/user/new/whole", 1_000).await.unwrap();
    assert_eq!(made.bytes, SHORT as u64 + 1);
    assert!(sandbox.list("/home/user/parts", 1_000, 1).await.unwrap().is_empty());
    let whole = "/home/user/new/whole";
    assert_eq!(kind(sandbox.compose(vec![whole.into()], whole, 1_000).await), Some(FaultKind::Invalid));
    assert_eq!(kind(sandbox.compose(vec![whole.into(), "/nowhere".into()], "/home/user/x", 1_000).await), Some(FaultKind::NotFound));
    assert_eq!(sandbox.stat(whole, 1_000).await.unwrap().bytes, SHORT as u64 + 1, "what is not made takes nothing");
    sandbox.remove().await.unwrap();
}

/// Init opens files for others in its own process: what `/proc` calls one's own is init's then.
#[tokio::test]
async fn a_link_to_init_s_own_memory_leads_nowhere() {
    let Some(bench) = Bench::set_up().await else { return };
    for profile in BOTH {
        let sandbox = bench.sandbox(profile).await;
        let user = crate::boxed::most_powerful(profile);
        for file in ["mem", "maps", "environ", "stat", "task/1/mem", "fdinfo/0"] {
            sh(&sandbox, &format!("ln -sf /proc/self/{file} trap")).await;
            for (path, user) in [
                ("/home/user/trap".to_owned(), 1_000),
                (format!("/proc/1/{file}"), user),
                (format!("/proc/thread-self/../../{file}"), user),
            ] {
                let read = kind(sandbox.read_all(&path, user).await);
                assert!(read.is_some(), "{file} of init was read by {path}");
                let written = sandbox.write_short(&Written { user, ..in_place(&path) }, b"x").await;
                assert!(kind(written).is_some(), "{file} of init was written by {path}");
            }
        }
        let own = sandbox.write_short(&in_place("/proc/sys/kernel/core_pattern"), b"x").await;
        assert!(kind(own).is_some());
        assert!(!sandbox.read_all("/proc/cpuinfo", 1_000).await.unwrap().is_empty(), "what is nobody's secret is read");
        sh(&sandbox, "mkfifo pipe; ln -s /dev/null null").await;
        assert_eq!(kind(sandbox.write_short(&in_place("/home/user/pipe"), b"x").await), Some(FaultKind::Invalid));
        assert_eq!(kind(sandbox.write_short(&in_place("/home/user/null"), b"x").await), Some(FaultKind::Invalid));
        sandbox.remove().await.unwrap();
    }
}

#[tokio::test]
async fn commands_are_as_long_as_the_kernel_takes_and_are_listed() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    let long = format!("echo {} | wc -c", "x".repeat(120_000));
    assert_eq!(sh(&sandbox, &long).await, "120001\n");
    let env: BTreeMap<_, _> = (0..200).map(|n| (format!("V{n}"), "y".repeat(1_000))).collect();
    let mut sleeping =
        sandbox.exec(Command { env, tag: Some("nap".into()), stdio: Stdio::Open, ..Command::shell("read x") }).await.unwrap();
    let active = sandbox.commands().await.unwrap();
    assert_eq!((active.len(), active[0].pid, active[0].tag.as_deref(), active[0].env.len()), (1, sleeping.pid, Some("nap"), 200));
    let mut ending = sandbox.attach(sleeping.pid).await.unwrap().unwrap();
    assert!(sandbox.attach(60_000).await.unwrap().is_none());
    drop(sleeping.stdin.take());
    assert_eq!(ending.exited().await.unwrap(), Status::Code(1));
    assert_eq!(sleeping.exited().await.unwrap(), Status::Code(1));
    assert!(sandbox.commands().await.unwrap().is_empty());
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn users_have_names_and_what_is_used_is_measured() {
    let Some(bench) = Bench::set_up().await else { return };
    let (strict, workstation) = (bench.sandbox(Profile::Strict).await, bench.sandbox(Profile::Workstation).await);
    let user = strict.account("user").await.unwrap();
    assert_eq!((user.id, user.group, user.home.as_str()), (1_000, 1_000, "/home/user"));
    assert_eq!(kind(strict.account("root").await), Some(FaultKind::Denied));
    assert_eq!(workstation.account("root").await.unwrap().home, "/root");
    for nobody in ["", "nobody-at-all", "user:x", "root\n"] {
        assert_eq!(kind(workstation.account(nobody).await), Some(FaultKind::NotFound), "{nobody:?}");
    }
    sh(&strict, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").await;
    let metrics = strict.metrics().await.unwrap();
    assert!(metrics.usage.cpu_micros > 0 && metrics.usage.memory_bytes > 0 && metrics.usage.pids > 0, "{metrics:?}");
    assert!(metrics.disk_bytes > metrics.disk_free_bytes, "{metrics:?}");
    strict.remove().await.unwrap();
    workstation.remove().await.unwrap();
}

/// Transfers that stand still hold their threads; whoever only looks something up must not wait for them.
#[tokio::test]
async fn slow_readers_do_not_hold_others_up() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    sandbox.write_all("/home/user/big", 1_000, &vec![7; 4 << 20]).await.unwrap();
    let mut slow = Vec::new();
    for _ in 0..40 {
        slow.push(sandbox.read_part("/home/user/big", 1_000, 0, None).await.unwrap());
    }
    let looked = tokio::time::timeout(PATIENCE, sandbox.stat("/home/user/big", 1_000)).await.unwrap();
    assert_eq!(looked.unwrap().bytes, 4 << 20);
    drop(slow);
    assert_eq!(sandbox.read_all("/home/user/big", 1_000).await.unwrap().len(), 4 << 20);
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn what_is_made_is_not_for_everybody_to_write() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = bench.sandbox(Profile::Strict).await;
    assert_eq!(sandbox.make_folder("/home/user/a/b", 1_000).await.unwrap().mode, 0o755);
    sandbox.write_short(&in_place("/home/user/c/d"), b"x").await.unwrap();
    assert_eq!(sh(&sandbox, "umask; stat -c %a a c c/d").await, "0022\n755\n755\n644\n");
    sandbox.remove().await.unwrap();
}
