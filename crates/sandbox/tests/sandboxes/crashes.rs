//! Nodes that are killed at any moment, and what their sandboxes hold afterwards, compared with a model of a file system.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Stdio},
    sync::mpsc,
    time::Duration,
};

use skep_sandbox::Cgroups;

use crate::boxed::{Bench, PROGRAM};

/// Names and contents of a folder.
type Files = BTreeMap<String, String>;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len())) }
    }
}

/// A node in a process of its own.
struct Node {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Node {
    /// And how many things it found that belonged to nobody.
    fn start(folder: &Path) -> (Self, u64) {
        for _ in 0..200 {
            let mut child = std::process::Command::new(PROGRAM)
                .args(["--node".as_ref(), folder.as_os_str()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut said = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            if let Some(counts) = line.trim().strip_prefix("opened ") {
                let leaks = counts.split(' ').nth(2).unwrap().parse().unwrap();
                return (Self { child, said }, leaks);
            }
            // The zygote of the one that was killed may hold the lock for a moment more.
            child.wait().unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the folder does not open again");
    }

    fn begin(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// `None`: it was killed before it answered.
    fn end(&mut self) -> Option<Result<String, String>> {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        let line = line.strip_suffix('\n')?;
        Some(match line.split_once(' ').unwrap_or((line, "")) {
            ("ok", text) => Ok(text.to_owned()),
            (_, why) => Err(why.to_owned()),
        })
    }

    fn ask(&mut self, line: &str) -> String {
        self.begin(line);
        self.end().expect("the node ended").unwrap_or_else(|why| panic!("{line}: {why}"))
    }

    /// Asks, and kills it some time after.
    fn ask_and_kill(&mut self, line: &str, after: Duration) -> Option<String> {
        self.begin(line);
        let (sender, answered) = mpsc::channel::<()>();
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        let killer = std::thread::spawn(move || {
            let _ = answered.recv_timeout(after);
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        });
        let answer = self.end().and_then(Result::ok);
        let _ = sender.send(());
        killer.join().unwrap();
        self.child.wait().unwrap();
        answer
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What there should be.
#[derive(Default)]
struct Model {
    boxes: BTreeMap<String, Files>,
    snapshots: BTreeMap<String, Files>,
}

const SHOW: &str = "mkdir -p w; cd w; for f in *; do test -f \"$f\" && echo \"$f=$(cat $f)\"; done; true";

fn shown(text: &str) -> Files {
    text.split('|').filter_map(|line| line.split_once('=')).map(|(name, content)| (name.to_owned(), content.to_owned())).collect()
}

/// One step: what is asked of the node, and what follows if it is done.
enum Step {
    Files(String, Files),
    Create(Files),
    Snapshot(Files),
    Remove(String),
    Forget(String),
    Nothing,
}

impl Model {
    fn step(&self, dice: &mut Dice) -> (String, Step) {
        let boxes: Vec<_> = self.boxes.iter().collect();
        let Some((id, files)) = dice.one(&boxes).copied() else { return ("create".into(), Step::Create(Files::new())) };
        let snapshots: Vec<_> = self.snapshots.iter().collect();
        match dice.below(12) {
            0 if boxes.len() < 4 => (format!("fork {id}"), Step::Create(files.clone())),
            1 => (format!("snapshot {id}"), Step::Snapshot(files.clone())),
            2 if boxes.len() < 4 && !snapshots.is_empty() => {
                let (snapshot, files) = dice.one(&snapshots).unwrap();
                (format!("restore {snapshot}"), Step::Create((*files).clone()))
            }
            3 if boxes.len() > 1 => (format!("remove {id}"), Step::Remove((*id).clone())),
            4 if snapshots.len() > 3 => (format!("forget {}", snapshots[0].0), Step::Forget(snapshots[0].0.clone())),
            5 => (format!("pause {id}"), Step::Nothing),
            6 => (format!("stop {id}"), Step::Nothing),
            7 => {
                let name = format!("f{}", dice.below(6));
                let after = files.iter().filter(|(there, _)| **there != name).map(|(n, c)| (n.clone(), c.clone())).collect();
                (format!("sh {id} rm -f w/{name}"), Step::Files((*id).clone(), after))
            }
            _ => {
                let (name, content) = (format!("f{}", dice.below(6)), format!("c{}", dice.below(1_000_000)));
                let line = format!("sh {id} mkdir -p w; echo {content} > .new; mv .new w/{name}");
                let after = files.clone().into_iter().chain([(name, content)]).collect();
                (line, Step::Files((*id).clone(), after))
            }
        }
    }

    /// It was done.
    fn done(&mut self, step: Step, answer: String) {
        match step {
            Step::Files(id, files) => drop(self.boxes.insert(id, files)),
            Step::Create(files) => drop(self.boxes.insert(answer, files)),
            Step::Snapshot(files) => drop(self.snapshots.insert(answer, files)),
            Step::Remove(id) => drop(self.boxes.remove(&id)),
            Step::Forget(id) => drop(self.snapshots.remove(&id)),
            Step::Nothing => {}
        }
    }

    /// It was begun, and nobody knows: what is found decides, and nothing else may have happened.
    fn found(&mut self, step: Step, node: &mut Node) {
        let ids = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (boxes, snapshots) = (ids(node.ask("list")), ids(node.ask("snapshots")));
        let new = |found: &[String], known: Vec<&String>| found.iter().find(|id| !known.contains(id)).cloned();
        match step {
            Step::Files(id, after) => {
                node.ask(&format!("resume {id}"));
                if shown(&node.ask(&format!("sh {id} {SHOW}"))) == after {
                    self.boxes.insert(id, after);
                }
            }
            Step::Create(files) => {
                if let Some(id) = new(&boxes, self.boxes.keys().collect()) {
                    self.boxes.insert(id, files);
                }
            }
            Step::Snapshot(files) => {
                if let Some(id) = new(&snapshots, self.snapshots.keys().collect()) {
                    self.snapshots.insert(id, files);
                }
            }
            Step::Remove(id) if !boxes.contains(&id) => drop(self.boxes.remove(&id)),
            Step::Forget(id) if !snapshots.contains(&id) => drop(self.snapshots.remove(&id)),
            Step::Remove(_) | Step::Forget(_) | Step::Nothing => {}
        }
        assert_eq!(boxes, sorted(&boxes, self.boxes.keys()), "a sandbox is lost, or nobody's");
        assert_eq!(snapshots, sorted(&snapshots, self.snapshots.keys()), "a snapshot is lost, or nobody's");
    }

    fn check(&self, node: &mut Node) {
        for (id, files) in &self.boxes {
            node.ask(&format!("resume {id}"));
            assert_eq!(shown(&node.ask(&format!("sh {id} {SHOW}"))), *files, "{id}");
        }
    }
}

/// The known ones in the order of those found, so that sets are compared.
fn sorted<'a>(found: &[String], known: impl Iterator<Item = &'a String>) -> Vec<String> {
    let known: Vec<_> = known.cloned().collect();
    let mut order: Vec<String> = found.iter().filter(|id| known.contains(id)).cloned().collect();
    order.extend(known.into_iter().filter(|id| !found.contains(id)));
    order
}

fn cycles(folder: &Path, count: usize, seed: u64) {
    let (mut dice, mut model) = (Dice(seed), Model::default());
    let (mut node, _) = Node::start(folder);
    for cycle in 0..count {
        for _ in 0..dice.below(6) {
            let (line, step) = model.step(&mut dice);
            if let Some(id) = line.strip_prefix("sh ").and_then(|rest| rest.split(' ').next()) {
                node.ask(&format!("resume {id}"));
            }
            node.begin(&line);
            match node.end().expect("the node ended by itself") {
                Ok(answer) => model.done(step, answer),
                // A stopped sandbox is not paused.
                Err(why) => assert!(matches!(step, Step::Nothing), "cycle {cycle}: {line}: {why}"),
            }
        }
        let (line, step) = model.step(&mut dice);
        if let Some(id) = line.strip_prefix("sh ").and_then(|rest| rest.split(' ').next()) {
            node.ask(&format!("resume {id}"));
        }
        let answer = node.ask_and_kill(&line, Duration::from_micros(dice.below(40_000) as u64));
        (node, _) = Node::start(folder);
        match answer {
            Some(answer) => model.done(step, answer),
            None => model.found(step, &mut node),
        }
        model.check(&mut node);
    }
    for id in model.boxes.keys() {
        node.ask(&format!("remove {id}"));
    }
    for id in model.snapshots.keys() {
        node.ask(&format!("forget {id}"));
    }
    drop(node);
    let (node, _) = Node::start(folder);
    drop(node);
    for name in ["box", "changes", "snapshot"] {
        assert_eq!(fs::read_dir(folder.join(name)).unwrap().count(), 0, "{name}");
    }
    let prefix = format!("skep-{}-", fs::read_to_string(folder.join("mark")).unwrap());
    assert!(Cgroups::probe().unwrap().names(&prefix).is_empty());
}

#[tokio::test]
async fn what_was_acknowledged_survives_nodes_that_are_killed_at_any_moment() {
    let Some(bench) = Bench::set_up().await else { return };
    cycles(&bench.folder.path().join("node"), 50, 0x9e37_79b9_7f4a_7c15);
}

/// Many minutes: `make soak`.
#[tokio::test]
#[ignore = "a thousand kills"]
async fn a_thousand_kills_lose_and_leave_nothing() {
    let Some(bench) = Bench::set_up().await else { return };
    cycles(&bench.folder.path().join("node"), 1_000, 0x0dd0_2bad_c0ff_ee11);
}
