//! What the local log does on this disk: `log_bench [directory [anything]]`; one JSON object on standard output.
//!
//! `fsync_p50_us`: 512 bytes into a file whose space is there and a sync, the least that an acknowledgement takes here. `ack_p50_us`: one actor that
//! appends, waits and appends. `per_commit_rps`: such syncs a second; `group_rps`: appends a second of 256 actors at once, each waiting for its own.
//! With `anything` the log does not ask what the directory is on: on a file system in memory, what is left is the cost of the log itself.
//! Driven by the bench suite. It is not: a test.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use skep_actor::{
    Epoch, Record, RecordKind, Seq,
    log::{AppendError, DurableLog, LocalLog, Settings, Trust},
};
use skep_id::ActorId;

const BODY: usize = 212;
const ACTORS: u32 = 256;
/// What is compared is measured in turns: other load on the disk then meets all of it alike.
const ROUNDS: u64 = 8;
const SLICE: Duration = Duration::from_millis(400);

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn actor(n: u32) -> ActorId {
    let mut bytes = [1; 32];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    ActorId::new(bytes)
}

fn record(actor: ActorId, seq: u64, body: &Bytes) -> Record {
    let kind = if seq == 1 { RecordKind::Fence } else { RecordKind::Commit };
    Record { actor, epoch: Epoch(1), seq: Seq(seq), time_ms: 0, kind, body: body.clone() }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

/// Syncs of 512 bytes, one after the other, in a file that was written before.
fn syncs(file: &File, times: &mut Vec<Duration>) -> Result<(), Failure> {
    let begin = Instant::now();
    while begin.elapsed() < SLICE {
        let start = Instant::now();
        file.write_all_at(&[times.len() as u8; 512], times.len() as u64 * 512 % FILE)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    Ok(())
}

const FILE: u64 = 8 << 20;

/// One actor that waits for each acknowledgement.
async fn one_actor(log: Arc<LocalLog>, body: Bytes, mut times: Vec<Duration>) -> Result<Vec<Duration>, Failure> {
    let begin = Instant::now();
    while begin.elapsed() < SLICE {
        let record = record(actor(u32::MAX), times.len() as u64 + 1, &body);
        let start = Instant::now();
        log.append(record).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// Many actors, each waiting for its own; how many appends a second.
async fn many_actors(log: Arc<LocalLog>, body: &Bytes) -> Result<f64, Failure> {
    let begin = Instant::now();
    let actors: Vec<_> = (0..ACTORS)
        .map(|n| {
            let (log, body) = (log.clone(), body.clone());
            tokio::spawn(async move {
                let first = log.head(actor(n)).seq.0;
                let mut seq = first;
                while begin.elapsed() < SLICE {
                    seq += 1;
                    log.append(record(actor(n), seq, &body)).await?;
                }
                log.trim(actor(n), Seq(seq));
                Ok::<u64, AppendError>(seq - first)
            })
        })
        .collect();
    let mut total = 0;
    for actor in actors {
        total += actor.await??;
    }
    Ok(total as f64 / begin.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let given = args.next().map(PathBuf::from);
    let trust = if args.next().as_deref() == Some("anything") { Trust::Anything } else { Trust::LocalDisk };
    let dir = given.unwrap_or_else(std::env::temp_dir).join(format!("skep-log-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let body = Bytes::from(vec![0x5A; BODY]);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(dir.join("one-sync"))?;
    file.write_all_at(&vec![0; FILE as usize], 0)?;
    file.sync_all()?;
    let log = Arc::new(LocalLog::open(&dir.join("log"), Settings { trust, ..Settings::default() })?);
    let (mut sync, mut ack, mut group) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        syncs(&file, &mut sync)?;
        ack = tokio::spawn(one_actor(log.clone(), body.clone(), ack)).await??;
        group.push(many_actors(log.clone(), &body).await?);
    }
    let per_commit = sync.len() as f64 / sync.iter().sum::<Duration>().as_secs_f64();
    let group = group.iter().sum::<f64>() / group.len() as f64;
    let (sync, ack) = (median(sync), median(ack));
    println!(
        "{{\"fsync_p50_us\":{sync:.1},\"ack_p50_us\":{ack:.1},\"ack_per_fsync\":{:.2},\"per_commit_rps\":{per_commit:.0},\"group_rps\":{group:.0},\"group_commit_gain\":{:.1}}}",
        ack / sync,
        group / per_commit
    );
    drop(log);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
