//! The local log under kill -9, on the real disk: a child appends from several threads and tells what was acknowledged; whatever it told is there.
//!
//! The child is this binary again, with its directory in the arguments; the test that it names does nothing when it is not one.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::FutureExt;
use skep_actor::{
    Epoch, Record, RecordKind, Seq,
    log::{DurableLog, LocalLog, Settings, Trust},
};
use skep_id::ActorId;

const THREADS: u32 = 4;
const ACTORS: u32 = 3;
const IN_FLIGHT: usize = 8;

fn settings() -> Settings {
    Settings { segment_bytes: 128 << 10, log_bytes: 1 << 20, trust: Trust::Anything, ..Settings::default() }
}

fn actor(n: u32) -> ActorId {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    ActorId::new(bytes)
}

/// The body is made of the place, so that who reads knows what has to be there.
fn record(n: u32, epoch: u64, seq: u64, kind: RecordKind) -> Record {
    let length = (seq * 2_654_435_761 + u64::from(n)) % 700;
    let body: Vec<u8> = (0..length).map(|at| (at * 31 + seq * 7 + epoch) as u8).collect();
    Record { actor: actor(n), epoch: Epoch(epoch), seq: Seq(seq), time_ms: epoch, kind, body: Bytes::from(body) }
}

/// Appends until it is killed; each acknowledgement is a line.
fn child(dir: &Path) {
    let log = std::sync::Arc::new(LocalLog::open(dir, settings()).unwrap());
    println!("open");
    let writers: Vec<_> = (0..THREADS)
        .map(|thread| {
            let log = log.clone();
            thread::spawn(move || append_forever(&log, thread))
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

fn append_forever(log: &LocalLog, thread: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut tips: Vec<(u32, u64, u64)> = (thread * ACTORS..(thread + 1) * ACTORS)
        .map(|n| {
            let head = log.head(actor(n));
            (n, head.epoch.0 + 1, head.seq.0)
        })
        .collect();
    let mut fresh = true;
    loop {
        let mut tickets = Vec::new();
        for round in 0..IN_FLIGHT {
            for (n, epoch, seq) in &mut tips {
                *seq += 1;
                let kind = if fresh && round == 0 { RecordKind::Fence } else { RecordKind::Commit };
                tickets.push((*n, log.append(record(*n, *epoch, *seq, kind))));
            }
        }
        fresh = false;
        for (n, ticket) in tickets {
            let receipt = runtime.block_on(ticket).unwrap();
            // One call for one line: a line is there or not. A pipe whose reader has gone ends this process.
            let line = format!("{n} {} {}\n", receipt.epoch, receipt.seq);
            std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        }
        for (n, _, seq) in &tips {
            log.trim(actor(*n), Seq(seq.saturating_sub(40)));
        }
    }
}

#[test]
fn child_of_the_kill_tests() {
    // Started as `<binary> --exact child_of_the_kill_tests --nocapture --skip <directory>`.
    let args: Vec<String> = std::env::args().collect();
    if let Some(dir) = args.iter().position(|arg| arg == "--skip").and_then(|at| args.get(at + 1)) {
        child(Path::new(dir));
    }
}

/// Runs the child for so long, kills it, and gives what it told.
fn run_and_kill(dir: &Path, after: Duration) -> HashMap<u32, (u64, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_of_the_kill_tests", "--nocapture", "--skip"])
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next().expect("the child opens its log").unwrap().ends_with("open") {}
    let reader = thread::spawn(move || {
        let mut told: HashMap<u32, (u64, u64)> = HashMap::new();
        for line in lines.map_while(Result::ok) {
            let mut words = line.split(' ').map(|word| word.parse::<u64>().ok());
            if let (Some(Some(n)), Some(Some(epoch)), Some(Some(seq))) = (words.next(), words.next(), words.next()) {
                told.insert(n as u32, (epoch, seq));
            }
        }
        told
    });
    thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn check(dir: &Path, told: &HashMap<u32, (u64, u64)>) {
    let log = LocalLog::open(dir, settings()).unwrap();
    assert_eq!(log.damage(), []);
    for n in 0..THREADS * ACTORS {
        let head = log.head(actor(n));
        if let Some((epoch, seq)) = told.get(&n) {
            assert!(head.seq.0 >= *seq && head.epoch.0 == *epoch, "actor {n}: {head:?}, but {seq} of epoch {epoch} was acknowledged");
        }
        let records = log.read(actor(n), Seq(head.first.0.saturating_sub(1)), Seq(u64::MAX)).unwrap();
        let mut last = 0;
        for (at, found) in records.iter().enumerate() {
            assert!(found.epoch.0 >= last, "epochs interleave");
            let kind = if found.epoch.0 > last && at > 0 { RecordKind::Fence } else { found.kind };
            last = found.epoch.0;
            assert_eq!(*found, record(n, found.epoch.0, head.first.0 + at as u64, kind));
        }
        assert_eq!(records.len() as u64, if head.seq.0 == 0 { 0 } else { head.seq.0 + 1 - head.first.0 });
    }
}

fn cycles(count: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for cycle in 0.. {
        // On a busy machine a child may be killed before anything of it was acknowledged: then there are more of them.
        if cycle >= count && acknowledged as u64 > count || cycle == 20 * count {
            break;
        }
        let told = run_and_kill(dir.path(), Duration::from_micros(cycle.wrapping_mul(2_654_435_761) % 12_000));
        acknowledged += told.len();
        check(dir.path(), &told);
    }
    assert!(acknowledged as u64 > count, "the children had time to do something");
}

#[test]
fn what_was_acknowledged_survives_50_kills() {
    cycles(50);
}

#[test]
#[ignore = "minutes; part of the soak"]
fn what_was_acknowledged_survives_1000_kills() {
    cycles(1000);
}

#[test]
fn a_hundred_thousand_actors_open_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let settings = || Settings { fill: false, trust: Trust::Anything, ..Settings::default() };
    {
        let log = LocalLog::open(dir.path(), settings()).unwrap();
        let mut last = None;
        for round in 1..=4 {
            for n in 0..100_000 {
                let kind = if round == 1 { RecordKind::Fence } else { RecordKind::Commit };
                let record = Record { body: Bytes::from(vec![n as u8 | 1; 250]), ..record(n, 1, round, kind) };
                while log.queued_bytes() > 32 << 20 {
                    thread::sleep(Duration::from_millis(1));
                }
                last = Some(log.append(record));
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(last.unwrap()).unwrap();
        assert!(log.append(record(1, 1, 9, RecordKind::Commit)).now_or_never().is_some_and(|answer| answer.is_err()));
    }
    let start = std::time::Instant::now();
    let log = LocalLog::open(dir.path(), settings()).unwrap();
    let took = start.elapsed();
    println!("100,000 actors, {} MiB: open in {took:?}", log.bytes().0 >> 20);
    assert_eq!(log.recent().len(), 100_000);
    // Far above what it takes, for slow machines under load.
    assert!(took < Duration::from_secs(5), "{took:?}");
    for n in 0..100_000 {
        log.trim(actor(n), Seq(4));
    }
    drop(log);
    let start = std::time::Instant::now();
    let log = LocalLog::open(dir.path(), settings()).unwrap();
    println!("all trimmed: open in {:?}", start.elapsed());
    assert_eq!(log.head(actor(99_999)).seq, Seq(4));
}
