//! Snapshots, forks and differences of sandboxes in every state.

use std::{fs, path::Path, time::Duration};

use skep_sandbox::{
    Boxed, Command, Config, EntryKind, FileChange, Input, LifeError, OnTimeout, OpenError, Opened, Policy, Profile, Sandboxes, Spec, State,
    StoreError, What,
};

use crate::boxed::{BOTH, Bench, PROGRAM, most_powerful, run, sh};

pub const POLICY: Policy = Policy { timeout_ms: None, on_timeout: OnTimeout::Pause, auto_resume: true };

/// What an earlier node was just writing down is waited for.
pub async fn open(folder: &Path) -> (Sandboxes, Opened) {
    for _ in 0..500 {
        match Sandboxes::open(Config { folder: folder.to_owned(), program: PROGRAM.into() }).await {
            Err(OpenError::Store(StoreError::InUse(_))) => tokio::time::sleep(Duration::from_millis(20)).await,
            other => return other.unwrap(),
        }
    }
    panic!("{} stays in use", folder.display());
}

pub async fn create(bench: &Bench, node: &Sandboxes, profile: Profile) -> Boxed {
    node.create(bench.spec(profile), node.host_image().unwrap(), POLICY).await.unwrap()
}

pub async fn line(boxed: &Boxed, line: &str) -> String {
    sh(&boxed.sandbox().await.unwrap(), line).await
}

pub async fn one_fork(boxed: &Boxed) -> Boxed {
    boxed.fork(1, true).await.remove(0).unwrap()
}

pub fn layers(folder: &Path) -> usize {
    fs::read_dir(folder.join("changes")).unwrap().count()
}

/// Everything that a sandbox's home is made of, as text: kind, mode, owner, size, time, target and content of each entry.
const LISTING: &str = "cd /home/user; find . -printf '%p %y %m %U:%G %l %T@\n' | grep -v '^\\. ' | sort; find . -type f -print0 | sort -z | xargs -0r sha256sum";

#[tokio::test]
async fn a_fork_has_the_files_of_that_moment_and_goes_its_own_way() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    let (node, _) = open(&folder).await;
    for profile in BOTH {
        let boxed = create(&bench, &node, profile).await;
        let make = "mkdir -p a/b; echo one > a/b/f; ln a/b/f a/hard; ln -s ../gone a/link; mkfifo a/pipe; truncate -s 5M a/sparse; echo end >> a/sparse; \
             chmod 2750 a/b; chmod 4711 a/hard; touch -d 2001-02-03 a/b; touch 'a/ new\nline'; printf x > \"$(printf 'a/\\377')\"";
        line(&boxed, make).await;
        let shown = line(&boxed, LISTING).await;
        let mut ticking = boxed.sandbox().await.unwrap().exec(Command::shell("sleep 1000")).await.unwrap();
        let forks = boxed.fork(3, true).await;
        assert!(matches!(*boxed.state().borrow(), State::Running { .. }));
        let forks: Vec<Boxed> = forks.into_iter().map(Result::unwrap).collect();
        for fork in &forks {
            assert_eq!(line(fork, LISTING).await, shown, "{profile:?}");
        }
        let blocks = line(&forks[2], "test a/b/f -ef a/hard && stat -c %b a/sparse").await;
        assert!(blocks.trim().parse::<u64>().unwrap() < 100, "a hole was filled: {blocks}");
        line(&forks[0], "echo two > a/b/f; rm -r a/sparse; rm a/link; mkdir a/link").await;
        assert_eq!(line(&forks[1], LISTING).await, shown);
        assert_eq!(line(&boxed, LISTING).await, shown);
        line(&boxed, "rm -r a; mkdir a; echo new > a/own").await;
        assert_eq!(line(&forks[1], LISTING).await, shown);
        assert_eq!(line(&forks[0], "cat a/b/f").await, "two\n");
        let second = one_fork(&boxed).await;
        assert_eq!(line(&second, "cd a; find . -type f").await, "./own\n", "an emptied folder came back");
        let usage = fs::metadata(folder.join("changes")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&usage.permissions()) & 0o777, 0o700);
        assert!(tokio::time::timeout(Duration::from_millis(50), ticking.exited()).await.is_err(), "a fork ended the parent's command");
        drop(ticking);
        for boxed in node.list() {
            boxed.happen(Input::Remove).await.unwrap();
        }
    }
    wait_for(|| layers(&folder) == 0).await;
}

/// What a task of the node's does by itself.
pub async fn wait_for(done: impl Fn() -> bool) {
    let waited = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("it never came to be");
}

#[tokio::test]
async fn packages_that_were_installed_are_in_the_fork() {
    let Some(bench) = Bench::set_up().await else { return };
    let (node, _) = open(&bench.folder.path().join("node")).await;
    let boxed = create(&bench, &node, Profile::Workstation).await;
    let root = async |boxed: &Boxed, text: &str| {
        let finished = run(&boxed.sandbox().await.unwrap(), Command::shell(text).user(0)).await;
        String::from_utf8_lossy(&finished.stdout).into_owned() + &String::from_utf8_lossy(&finished.stderr)
    };
    assert_eq!(
        root(&boxed, "printf '#!/bin/sh\\necho tool' > /usr/local/bin/tool && chmod 755 /usr/local/bin/tool; rm /usr/bin/env").await,
        ""
    );
    let fork = one_fork(&boxed).await;
    let deeper = one_fork(&fork).await;
    for boxed in [&fork, &deeper] {
        assert_eq!(line(boxed, "tool; test -e /usr/bin/env || echo gone").await, "tool\ngone\n");
    }
    assert_eq!(root(&deeper, "echo more > /usr/local/more; cat /usr/local/more").await, "more\n");
    assert_eq!(root(&fork, "cat /usr/local/more 2>&1 | tail -c 10").await, "directory\n");
    assert!(Path::new("/usr/bin/env").exists());
    for boxed in node.list() {
        boxed.happen(Input::Remove).await.unwrap();
    }
}

#[tokio::test]
async fn each_snapshot_is_of_its_moment_in_whatever_state() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    let (node, _) = open(&folder).await;
    let boxed = create(&bench, &node, Profile::Strict).await;
    // More than is copied at once, so that the first is a copy of what runs and changes over it.
    line(&boxed, "mkdir many; for n in $(seq 900); do echo $n > many/$n; done; mkdir old; echo kept > old/kept").await;
    let (mut shown, mut taken) = (vec![], vec![]);
    for (n, change) in [
        ":",
        "echo changed > many/5; rm many/6",
        "rm -r old; mkdir old; echo new > old/new; mv many/7 seven",
        "rm -r many; echo file > many",
    ]
    .into_iter()
    .enumerate()
    {
        line(&boxed, change).await;
        shown.push(line(&boxed, LISTING).await);
        match n {
            1 => boxed.happen(Input::Pause).await.unwrap(),
            2 => boxed.happen(Input::Stop).await.unwrap(),
            _ => {}
        }
        taken.push(boxed.snapshot(Some(&format!("of {n}"))).await.unwrap());
        boxed.happen(Input::Resume).await.unwrap();
    }
    assert!(taken[0].paused_us > 0 && taken[1].paused_us == 0 && taken[2].paused_us == 0);
    boxed.happen(Input::Remove).await.unwrap();
    let ids: Vec<_> = taken.iter().map(|snapshot| snapshot.id.clone()).collect();
    drop(boxed);
    drop(node);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (node, opened) = open(&folder).await;
    assert_eq!(opened, Opened::default());
    let mut restored = Vec::new();
    for (id, shown) in ids.iter().zip(&shown) {
        let boxed = node.restore(id, bench.spec(Profile::Strict), POLICY).await.unwrap();
        assert_eq!(line(&boxed, LISTING).await, *shown, "{:?}", node.snapshot(id).unwrap().name);
        assert_eq!(boxed.origin().await.unwrap().snapshot, *id);
        restored.push(boxed);
    }
    for id in &ids {
        assert!(node.remove_snapshot(id).await.unwrap());
        assert!(!node.remove_snapshot(id).await.unwrap());
    }
    assert!(layers(&folder) > 0);
    assert!(matches!(node.restore(&ids[0], bench.spec(Profile::Strict), POLICY).await, Err(LifeError::NoSnapshot(_))));
    for (boxed, shown) in restored.iter().zip(&shown) {
        assert_eq!(line(boxed, LISTING).await, *shown, "its layers went with a snapshot");
        boxed.happen(Input::Remove).await.unwrap();
    }
    wait_for(|| layers(&folder) == 0).await;
}

#[tokio::test]
async fn forks_of_forks_of_forks_are_made_shallow() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    let (node, _) = open(&folder).await;
    let mut last = create(&bench, &node, Profile::Strict).await;
    line(&last, "echo 0 > first; mkdir all").await;
    for n in 0..30 {
        let fork = one_fork(&last).await;
        line(&fork, &format!("touch all/{n}; rm -f all/{}; echo {n} > last", n - 3)).await;
        last.happen(Input::Remove).await.unwrap();
        last = fork;
    }
    assert_eq!(line(&last, "cat first last; ls all").await, "0\n29\n27\n28\n29\n");
    assert_eq!(node.list().len(), 1);
    last.happen(Input::Remove).await.unwrap();
    wait_for(|| layers(&folder) == 0).await;
}

#[tokio::test]
async fn a_difference_is_what_was_added_changed_and_removed() {
    let Some(bench) = Bench::set_up().await else { return };
    let (node, _) = open(&bench.folder.path().join("node")).await;
    for profile in BOTH {
        let boxed = create(&bench, &node, profile).await;
        line(&boxed, "mkdir d e; echo same > same; echo was > changed; echo gone > d/gone; echo x > e/x; echo y > e/y; ln -s a link").await;
        let fork = one_fork(&boxed).await;
        assert_eq!(fork.diff().await.unwrap(), []);
        let change = "echo same > other; mv other same; echo is > changed; rm -r d; rm -r e; mkdir e; echo z > e/x; mkdir n; echo new > n/f; ln -sfn b link; chmod 600 e/x; touch -d 2001-01-01 e";
        line(&fork, change).await;
        let seen = |changes: &[FileChange]| -> Vec<String> {
            changes
                .iter()
                .map(|change| format!("{:?} {} {:?} {}", change.what, &change.path["/home/user/".len()..], change.kind, change.bytes))
                .collect()
        };
        let expected = [
            "Changed changed File 3",
            "Removed d Folder 0",
            "Changed e/x File 2",
            "Removed e/y File 2",
            "Changed link Link 0",
            "Added n Folder 0",
            "Added n/f File 4",
        ];
        assert_eq!(seen(&fork.diff().await.unwrap()), expected);
        fork.happen(Input::Stop).await.unwrap();
        let changes = fork.diff().await.unwrap();
        assert_eq!(seen(&changes), expected);
        assert_eq!((changes[2].mode, changes[2].kind, changes[2].what), (0o600, EntryKind::File, What::Changed));
        if profile.allows_root() {
            let user = most_powerful(profile);
            run(&boxed.sandbox().await.unwrap(), Command::shell("rm /usr/bin/env; echo > /usr/local/x").user(user)).await;
            let changes = boxed.diff().await.unwrap();
            let usr: Vec<_> = changes.iter().filter(|c| c.path.starts_with("/usr")).map(|c| (c.path.as_str(), c.what)).collect();
            assert_eq!(usr, [("/usr/bin/env", What::Removed), ("/usr/local/x", What::Added)]);
        }
    }
    for boxed in node.list() {
        boxed.happen(Input::Remove).await.unwrap();
    }
}

#[tokio::test]
async fn a_fork_that_is_not_started_starts_later() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    let (node, _) = open(&folder).await;
    let boxed = create(&bench, &node, Profile::Strict).await;
    line(&boxed, "echo kept > kept").await;
    let forks: Vec<Boxed> = boxed.fork(20, false).await.into_iter().map(Result::unwrap).collect();
    assert!(forks.iter().all(|fork| matches!(*fork.state().borrow(), State::Stopped { .. })));
    let id = forks[7].id().clone();
    drop((boxed, forks, node));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (node, opened) = open(&folder).await;
    assert_eq!((opened.adopted, opened.stopped, opened.leaks), (1, 20, 0));
    let fork = node.get(&id).unwrap();
    fork.happen(Input::Resume).await.unwrap();
    assert_eq!(line(&fork, "cat kept").await, "kept\n");
    let spec = Spec { hostname: "no such name".into(), ..bench.spec(Profile::Strict) };
    let snapshot = fork.snapshot(None).await.unwrap();
    assert!(node.restore(&snapshot.id, spec, POLICY).await.is_err());
    assert_eq!(node.list().len(), 21);
    for boxed in node.list() {
        boxed.happen(Input::Remove).await.unwrap();
    }
}

/// The copy that the next fork is a change to stays as long as its sandbox, whoever else has let it go; and no longer.
#[tokio::test]
async fn what_the_next_fork_needs_stays_with_its_sandbox() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    let (node, _) = open(&folder).await;
    let boxed = create(&bench, &node, Profile::Strict).await;
    line(&boxed, "mkdir many; for n in $(seq 900); do echo $n > many/$n; done").await;
    let names = || fs::read_dir(folder.join("changes")).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let first = one_fork(&boxed).await;
    first.happen(Input::Remove).await.unwrap();
    node.remove_snapshot(&boxed.snapshot(None).await.unwrap().id).await.unwrap();
    let kept = names();
    line(&boxed, "echo changed > many/7; rm many/8").await;
    let second = one_fork(&boxed).await;
    assert_eq!(line(&second, "cat many/7; ls many | wc -l").await, "changed\n899\n");
    assert!(kept.iter().any(|name| names().contains(name)), "everything was copied again");
    second.happen(Input::Remove).await.unwrap();
    boxed.happen(Input::Remove).await.unwrap();
    wait_for(|| layers(&folder) == 0).await;
}
