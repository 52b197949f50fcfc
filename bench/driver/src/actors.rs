//! The actors suite, in process: one sync of this disk, plain SQLite that syncs each commit, and the node's log with one writer and with 256.
//!
//! All files are in a folder beside the program, on the disk that the program is on, and are removed afterwards.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rusqlite::Connection;
use skep_actor::log::{DurableLog, LocalLog, Settings};
use skep_actor::{Epoch, Record, RecordKind, Seq};
use skep_id::ActorId;
use tokio::task::JoinSet;

use crate::isolates::{Print, percentile};

/// Bytes of a record as a counter's update leaves it.
const BODY: usize = 200;
const WRITERS: usize = 256;

/// Runs the parts: `rusqlite`, `log`, or both.
pub async fn run(quick: bool, only: Option<&str>, print: Print<'_>) -> Result<()> {
    let beside = std::env::current_exe()?;
    let folder = tempfile::tempdir_in(beside.parent().context("the program is in no folder")?)?;
    let span = Duration::from_secs(if quick { 1 } else { 5 });
    match only {
        None => {
            rusqlite(folder.path(), span, print)?;
            log(folder.path(), span, print).await
        }
        Some("rusqlite") => rusqlite(folder.path(), span, print),
        Some("log") => log(folder.path(), span, print).await,
        Some(other) => bail!("no such part: {other}; there are rusqlite and log"),
    }
}

/// What the disk allows: a small write into space that is already there, and `fdatasync`. The space is small and used again and again, for a disk
/// that was just given much to write is slow for a while.
struct Space {
    file: File,
    at: u64,
}

impl Space {
    const BYTES: u64 = 1 << 20;

    fn new(folder: &Path) -> Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(folder.join("sync"))?;
        file.write_all(&vec![0; Self::BYTES as usize])?;
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }

    fn sync(&mut self, span: Duration) -> Result<Vec<Duration>> {
        let (mut taken, end, bytes) = (Vec::new(), Instant::now() + span, [1; 512]);
        while Instant::now() < end {
            let start = Instant::now();
            self.file.write_all_at(&bytes, self.at)?;
            self.file.sync_data()?;
            taken.push(start.elapsed());
            self.at = (self.at + bytes.len() as u64) % Self::BYTES;
        }
        Ok(taken)
    }
}

/// Reads, changes and writes one number, each time durably, as `bench/workers/counter.js` does: the limit of what one actor can do without a group.
fn rusqlite(folder: &Path, span: Duration, print: Print<'_>) -> Result<()> {
    let db = Connection::open(folder.join("counter.db"))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch("CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL); INSERT INTO counters VALUES ('n', 0)")?;
    let (start, mut done) = (Instant::now(), 0_u64);
    while start.elapsed() < span {
        let value: i64 = db.prepare_cached("SELECT value FROM counters WHERE name = 'n'")?.query_row([], |row| row.get(0))?;
        db.prepare_cached("UPDATE counters SET value = ? WHERE name = 'n'")?.execute([value + 1])?;
        done += 1;
    }
    print("rusqlite_rps", done as f64 / start.elapsed().as_secs_f64(), "1/s");
    Ok(())
}

/// An actor that appends as soon as its last record is durable.
async fn write(log: Arc<LocalLog>, number: usize, end: Instant) -> Result<Vec<Duration>> {
    let mut id = [7; 32];
    id[..8].copy_from_slice(&(number as u64).to_le_bytes());
    let (actor, epoch, body) = (ActorId::new(id), Epoch(1), Bytes::from(vec![b'x'; BODY]));
    let mut seq = Seq(1);
    let record = |seq, kind, body| Record { actor, epoch, seq, time_ms: 0, kind, body };
    log.append(record(seq, RecordKind::Fence, Bytes::new())).await?;
    let mut taken = Vec::new();
    while Instant::now() < end {
        seq = seq.next();
        let start = Instant::now();
        log.append(record(seq, RecordKind::Commit, body.clone())).await?;
        taken.push(start.elapsed());
    }
    Ok(taken)
}

/// Rounds of one sync and of one writer alternate, so that a disturbance of the disk meets both; then all the writers at once.
async fn log(folder: &Path, span: Duration, print: Print<'_>) -> Result<()> {
    const ROUNDS: usize = 5;
    let log = Arc::new(LocalLog::open(&folder.join("log"), Settings::default())?);
    let mut space = Space::new(folder)?;
    let (mut syncs, mut acks) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        syncs.append(&mut space.sync(span / ROUNDS as u32)?);
        acks.append(&mut write(log.clone(), round, Instant::now() + span / ROUNDS as u32).await?);
    }
    print("fsync_p50_us", percentile(&mut syncs, 0.5), "us");
    print("ack_p50_us", percentile(&mut acks, 0.5), "us");
    let (start, mut writers) = (Instant::now(), JoinSet::new());
    for number in 0..WRITERS {
        writers.spawn(write(log.clone(), ROUNDS + number, start + span));
    }
    let mut all = Vec::new();
    while let Some(taken) = writers.join_next().await {
        all.append(&mut taken??);
    }
    print("commits_256_per_s", all.len() as f64 / start.elapsed().as_secs_f64(), "1/s");
    print("ack_256_p50_us", percentile(&mut all, 0.5), "us");
    Ok(())
}
