//! A node that ends in any way leaves nothing that the next one does not find.

use std::{fs, time::Duration};

use skep_sandbox::{Boxed, Cgroups, Input, Limits, OnTimeout, Opened, Policy, Profile, Sandboxes, Spec, State, Stop};

use crate::{
    boxed::{Bench, sh},
    snapshots::open,
};

const POLICY: Policy = Policy { timeout_ms: None, on_timeout: OnTimeout::Pause, auto_resume: true };

async fn create(bench: &Bench, node: &Sandboxes, policy: Policy) -> Boxed {
    node.create(bench.spec(Profile::Strict), node.host_image().unwrap(), policy).await.unwrap()
}

/// As much of a node's end as a sandbox can tell: no handle, no zygote, no lock is left.
async fn end(node: Sandboxes) {
    drop(node);
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn what_runs_is_found_again_and_what_died_is_stopped() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    let (node, opened) = open(&folder).await;
    assert_eq!(opened, Opened::default());
    let (running, paused, killed) =
        (create(&bench, &node, POLICY).await, create(&bench, &node, POLICY).await, create(&bench, &node, POLICY).await);
    let ids = [&running, &paused, &killed].map(|boxed| boxed.id().clone());
    let process = running.sandbox().await.unwrap();
    sh(&process, "sleep 1000 > /dev/null 2>&1 & echo $! > pid").await;
    paused.happen(Input::Pause).await.unwrap();
    let pid = rustix::process::Pid::from_raw(killed.sandbox().await.unwrap().pid()).unwrap();
    drop((running, paused, killed, process));
    end(node).await;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let prefix = format!("skep-{}-", fs::read_to_string(folder.join("mark")).unwrap());
    let cgroups = Cgroups::probe().unwrap();
    cgroups.create(&format!("{prefix}stray"), &Limits::default()).unwrap();
    fs::create_dir_all(folder.join("box/stray/fs")).unwrap();

    let (node, opened) = open(&folder).await;
    assert_eq!(opened, Opened { adopted: 2, stopped: 1, leaks: 2 });
    let [running, paused, killed] = ids.map(|id| node.get(&id).unwrap());
    assert_eq!(sh(&running.sandbox().await.unwrap(), "kill -0 $(cat pid) && echo lives").await, "lives\n");
    assert_eq!(*paused.state().borrow(), State::Paused);
    paused.happen(Input::Traffic).await.unwrap();
    assert_eq!(sh(&paused.sandbox().await.unwrap(), "echo awake").await, "awake\n");
    assert_eq!(*killed.state().borrow(), State::Stopped { why: Stop::NodeDied });
    killed.happen(Input::Resume).await.unwrap();
    assert_eq!(sh(&killed.sandbox().await.unwrap(), "echo again").await, "again\n");
    for boxed in node.list() {
        boxed.happen(Input::Remove).await.unwrap();
    }
    assert!(cgroups.names(&prefix).is_empty() && fs::read_dir(folder.join("box")).unwrap().count() == 0);
    end(node).await;
    assert_eq!(open(&folder).await.1, Opened::default());
}

/// What is left of a removal is finished first, while others are still being looked for: their layers must not be taken for nobody's.
#[tokio::test]
async fn a_removal_that_was_interrupted_costs_nobody_else_his_layers() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    let (node, _) = open(&folder).await;
    let parent = create(&bench, &node, POLICY).await;
    sh(&parent.sandbox().await.unwrap(), "echo kept > file").await;
    let forks: Vec<_> = parent.fork(6, true).await.into_iter().map(|fork| fork.unwrap().id().clone()).collect();
    parent.happen(Input::Remove).await.unwrap();
    drop(parent);
    end(node).await;
    // Half of them, so that in whatever order they are found some come after.
    for id in &forks[..3] {
        let path = folder.join("box").join(id.as_str()).join("record.json");
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record["state"] = serde_json::json!("removing");
        fs::write(&path, record.to_string()).unwrap();
    }
    let (node, opened) = open(&folder).await;
    assert_eq!(opened, Opened { adopted: 3, stopped: 0, leaks: 3 });
    for id in &forks[3..] {
        let boxed = node.get(id).unwrap();
        assert_eq!(sh(&boxed.sandbox().await.unwrap(), "cat file").await, "kept\n");
        boxed.happen(Input::Remove).await.unwrap();
    }
    end(node).await;
    let (_node, _) = open(&folder).await;
    assert_eq!(fs::read_dir(folder.join("changes")).unwrap().count(), 0);
}

#[tokio::test]
async fn time_that_is_up_pauses_and_traffic_wakes() {
    let Some(bench) = Bench::set_up().await else { return };
    let (node, _) = open(&bench.folder.path().join("node")).await;
    let boxed = create(&bench, &node, Policy { timeout_ms: Some(300), ..POLICY }).await;
    let mut state = boxed.state();
    tokio::time::timeout(Duration::from_secs(20), state.wait_for(|state| *state == State::Paused)).await.unwrap().unwrap();
    boxed.happen(Input::Traffic).await.unwrap();
    assert!(matches!(*boxed.state().borrow(), State::Running { .. }));
    boxed.happen(Input::Remove).await.unwrap();
    assert!(node.list().is_empty());
    assert!(boxed.happen(Input::Resume).await.is_err(), "a removed sandbox came back");
}

#[tokio::test]
async fn an_init_that_ends_is_noticed() {
    let Some(bench) = Bench::set_up().await else { return };
    let (node, _) = open(&bench.folder.path().join("node")).await;
    let boxed = create(&bench, &node, POLICY).await;
    let pid = rustix::process::Pid::from_raw(boxed.sandbox().await.unwrap().pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let mut state = boxed.state();
    let stopped = State::Stopped { why: Stop::InitEnded };
    tokio::time::timeout(Duration::from_secs(20), state.wait_for(|state| *state == stopped)).await.unwrap().unwrap();
    boxed.happen(Input::Remove).await.unwrap();
}

#[tokio::test]
async fn what_does_not_start_leaves_nothing() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    let (node, _) = open(&folder).await;
    let spec = Spec { hostname: "no such name".into(), ..bench.spec(Profile::Strict) };
    assert!(node.create(spec, node.host_image().unwrap(), POLICY).await.is_err());
    assert!(node.list().is_empty() && fs::read_dir(folder.join("box")).unwrap().count() == 0);
}

/// Minutes: `make soak`.
#[tokio::test]
#[ignore = "a thousand sandboxes"]
async fn a_thousand_made_and_removed_leave_nothing() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    for round in 0..50 {
        let (node, opened) = open(&folder).await;
        assert_eq!(opened.leaks, 0, "in round {round}");
        for n in 0..20 {
            let boxed = create(&bench, &node, POLICY).await;
            // Some stay for the next round's node to find.
            if (n + round) % 7 != 0 || round == 49 {
                boxed.happen(Input::Remove).await.unwrap();
            }
        }
        end(node).await;
    }
    let (node, _) = open(&folder).await;
    for boxed in node.list() {
        boxed.happen(Input::Remove).await.unwrap();
    }
    assert_eq!(fs::read_dir(folder.join("box")).unwrap().count(), 0);
}

const BOOT: &str = "cat /proc/sys/kernel/random/boot_id";

#[tokio::test]
async fn each_cold_start_is_a_boot_of_its_own() {
    let Some(bench) = Bench::set_up().await else { return };
    let (node, _) = open(&bench.folder.path().join("node")).await;
    let boxed = create(&bench, &node, POLICY).await;
    let boot = async || sh(&boxed.sandbox().await.unwrap(), BOOT).await;
    let first = boot().await;
    boxed.happen(Input::Pause).await.unwrap();
    boxed.happen(Input::Resume).await.unwrap();
    assert_eq!(boot().await, first, "a pause is no end");
    boxed.happen(Input::Stop).await.unwrap();
    boxed.happen(Input::Resume).await.unwrap();
    let second = boot().await;
    assert!(second != first && second.trim().len() == 36, "{second}");
    let fork = boxed.fork(1, true).await.remove(0).unwrap();
    assert!(![first, second].contains(&sh(&fork.sandbox().await.unwrap(), BOOT).await));
    for boxed in node.list() {
        boxed.happen(Input::Remove).await.unwrap();
    }
}

/// A fork is there before its files are on the disk: a host that lost power in between may have a part of them.
#[tokio::test]
async fn a_fork_that_a_loss_of_power_may_have_torn_is_found_and_does_not_start() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    let (node, _) = open(&folder).await;
    let parent = create(&bench, &node, POLICY).await;
    sh(&parent.sandbox().await.unwrap(), "echo kept > file").await;
    let forks = parent.fork(2, false).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    for fork in &forks {
        tokio::time::timeout(Duration::from_secs(60), fork.synced()).await.unwrap();
    }
    let ids = [forks[0].id().clone(), forks[1].id().clone()];
    let record = |id: &skep_id::SandboxId| folder.join("box").join(id.as_str()).join("record.json");
    let read = |id| -> serde_json::Value { serde_json::from_slice(&fs::read(record(id)).unwrap()).unwrap() };
    assert!(ids.iter().all(|id| read(id)["unsynced"].is_null()), "it is not written down");
    drop((parent, forks));
    end(node).await;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned();
    for (id, boot) in ids.iter().zip(["another boot of this host", &boot]) {
        let mut written = read(id);
        written["unsynced"] = serde_json::json!(boot);
        fs::write(record(id), written.to_string()).unwrap();
    }
    let (node, opened) = open(&folder).await;
    assert_eq!(opened, Opened { adopted: 1, stopped: 2, leaks: 0 });
    let [torn, whole] = ids.each_ref().map(|id| node.get(id).unwrap());
    assert_eq!(*torn.state().borrow(), State::Stopped { why: Stop::Torn });
    assert!(torn.happen(Input::Resume).await.is_err() && torn.happen(Input::Traffic).await.is_err());
    assert!(torn.snapshot(None).await.is_err() && torn.fork(1, false).await[0].is_err(), "its files are not to be trusted");
    whole.synced().await;
    assert!(read(&ids[1])["unsynced"].is_null());
    whole.happen(Input::Resume).await.unwrap();
    assert_eq!(sh(&whole.sandbox().await.unwrap(), "cat file").await, "kept\n");
    for boxed in node.list() {
        boxed.happen(Input::Remove).await.unwrap();
    }
}
