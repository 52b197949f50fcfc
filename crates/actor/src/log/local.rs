//! The log of one node, in segment files on its own disk: tier `LocalFsync`.
//!
//! Who appends checks the fence and encodes the record into the batch that is being collected; one thread writes a whole batch, syncs, and
//! answers everybody in it (`writer`). What queued up during one sync is the next batch, so that nobody waits for a timer. A second thread
//! prepares segments ahead and removes those that nobody needs (`upkeep`). It is not: a cache; a read goes to the file.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry as MapEntry},
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use skep_id::ActorId;

use super::{
    AppendError, DurableLog, Head, LogError, Ticket,
    disk::{Disk, DiskFile, RealDisk, read_range},
    format::{HEADER, Header, PRELUDE, Prelude, What, extent},
    index::{Entry, Hurt, Index, State},
    order::Tip,
    pace::{Commits, Pace},
    probe::{Lock, Probe, Trust},
    queue::{Answer, Batch, Pending, Queue},
    recovery::{Recovered, Segment, recover},
    upkeep::Upkeep,
    writer::Writer,
};
use crate::record::{Receipt, Record, Seq, Tier};

/// Records that are so few bytes apart are read at once, up to so many bytes in all.
const READ_GAP: u64 = 4 << 10;
const READ_RUN: u64 = 256 << 10;

/// The file of heads.
pub(crate) const HEADS: &str = "heads";
const IDENTITY: &str = "identity";

/// How a local log is kept. The defaults suit a node with some 100,000 actors.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of one segment; 4 KiB to 1 GiB. A segment is what is reserved, and given back, at once.
    pub segment_bytes: u64,
    /// Bytes of all segments beyond which [`DurableLog::crowding`] names actors.
    pub log_bytes: u64,
    /// Bytes that may wait to be written; an append beyond that fails as `Full`.
    pub queue_bytes: usize,
    /// The largest body, in bytes; at most 1 GiB. One that does not fit into a segment gets one of its own.
    pub record_bytes: usize,
    /// Writes zeros over a new segment before it is used: a sync then has nothing but data to write. Costs a write of each segment.
    pub fill: bool,
    /// Which places are good enough.
    pub trust: Trust,
    /// Opens a log that has lost acknowledged records of actors that cannot be named. Without, such a log does not open.
    pub accept_losses: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            log_bytes: 256 << 20,
            queue_bytes: 64 << 20,
            record_bytes: 256 << 20,
            fill: true,
            trust: Trust::LocalDisk,
            accept_losses: false,
        }
    }
}

impl Settings {
    fn within_bounds(mut self) -> Self {
        self.segment_bytes = self.segment_bytes.clamp(4 << 10, 1 << 30);
        self.record_bytes = self.record_bytes.min(1 << 30);
        self
    }

    /// Bytes that are written and synced at once. Any batch of more than one record fits into an empty segment, its leaf included.
    fn batch_bytes(&self) -> usize {
        ((self.segment_bytes as usize - PRELUDE - HEADER) / 2).min(8 << 20)
    }
}

/// A place where the log holds what no log wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Whose records are lost by it; `None`: nobody's, or it cannot be told.
    pub actor: Option<ActorId>,
    /// Which file.
    pub file: PathBuf,
    /// Where, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub why: String,
}

pub(crate) fn segment_name(number: u32) -> String {
    format!("{number:010}.log")
}

pub(crate) fn segment_number(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".log")?;
    (number.len() == 10).then(|| number.parse().ok()).flatten()
}

/// What the log's threads and its callers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) settings: Settings,
    pub(crate) mark: u64,
    pub(crate) index: Index,
    pub(crate) queue: Mutex<Queue>,
    /// The writer waits here.
    pub(crate) work: Condvar,
    pub(crate) queued: AtomicUsize,
    pub(crate) segments: Mutex<BTreeMap<u32, Segment>>,
    pub(crate) upkeep: Upkeep,
    pub(crate) pace: Pace,
    lives: AtomicU32,
}

/// The log of one node. Dropping it writes what is queued and closes it.
pub struct LocalLog {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    damage: Vec<Damage>,
    probe: Option<Probe>,
    _lock: Option<Lock>,
}

impl fmt::Debug for LocalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalLog({})", self.shared.disk.path("").display())
    }
}

impl LocalLog {
    /// Opens the log in a directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`LogError::Unsafe`] when the directory does not keep the promise of a sync, or another process has it open; [`LogError::Damaged`] when
    /// acknowledged records are lost and it cannot be told whose; [`LogError::File`] when a file fails.
    pub fn open(dir: &Path, settings: Settings) -> Result<Self, LogError> {
        let (lock, probe) = Probe::run(dir, settings.trust)?;
        let (mut log, writer) = Self::assemble(Arc::new(RealDisk::new(dir)), settings, None)?;
        let failed = |error| LogError::File(dir.to_owned(), error);
        log.threads.push(std::thread::Builder::new().name("log".into()).spawn(move || writer.run()).map_err(failed)?);
        let shared = log.shared.clone();
        log.threads.push(std::thread::Builder::new().name("log-upkeep".into()).spawn(move || shared.keep_up()).map_err(failed)?);
        log.probe = Some(probe);
        log._lock = Some(lock);
        Ok(log)
    }

    /// Without threads: who has the writer decides when it works.
    pub(crate) fn assemble(disk: Arc<dyn Disk>, settings: Settings, mark: Option<u64>) -> Result<(Self, Writer), LogError> {
        let settings = settings.within_bounds();
        let mark = identity(&*disk, mark)?;
        let Recovered { states, segments, next_batch, leaves, newest, damage, uncovered } = recover(&*disk, &settings, mark)?;
        for found in &damage {
            tracing::error!(file = %found.file.display(), offset = found.offset, actor = ?found.actor, "log: {}", found.why);
        }
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(next_batch, settings.batch_bytes())),
            disk,
            settings,
            mark,
            index: Index::new(states),
            work: Condvar::new(),
            queued: AtomicUsize::new(0),
            segments: Mutex::new(segments),
            upkeep: Upkeep::default(),
            pace: Pace::default(),
            lives: AtomicU32::new(1),
        });
        let writer = Writer::new(shared.clone(), newest, leaves, uncovered)?;
        Ok((Self { shared, threads: Vec::new(), damage, probe: None, _lock: None }, writer))
    }

    /// What was found wrong when the log was opened. The actors in it can be read up to what they lost, and not appended to.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// What the directory was found to be.
    #[must_use]
    pub fn probe(&self) -> Option<Probe> {
        self.probe
    }

    /// Its group commits since it was opened.
    #[must_use]
    pub fn commits(&self) -> Commits {
        self.shared.pace.read()
    }

    /// Bytes of the segment files: used, and reserved.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let segments = self.shared.segments.lock();
        segments.values().fold((0, 0), |(used, reserved), segment| (used + segment.end, reserved + segment.size))
    }

    /// Gives up what an actor lost, and everything after it: its log ends before the first lost record and goes on from there, in a later epoch.
    /// Ready when that is durable. Does nothing to an actor that lost nothing.
    pub fn repair(&self, actor: ActorId) -> Ticket {
        let (answer, ticket) = Ticket::new();
        let states = self.shared.index.of(&actor);
        let Some((life, tip)) = states.get(&actor).and_then(|state| {
            let cut = Tip { epoch: state.tip.epoch, seq: Seq(state.first_lost()?.0 - 1) };
            Some((state.life, cut))
        }) else {
            let head = states.get(&actor).map_or_else(Head::default, State::head);
            let _ = answer.send(Ok(Receipt { actor, epoch: head.epoch, seq: head.seq, tier: Tier::LocalFsync }));
            return ticket;
        };
        let header = Header { actor, epoch: tip.epoch, seq: tip.seq, ..Header::own(What::Cut, 0) };
        self.shared.queue_up(header, &[], life, Some(answer));
        ticket
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// The mark of the log in a directory. A new log gets one before it gets its first segment.
fn identity(disk: &dyn Disk, fixed: Option<u64>) -> Result<u64, LogError> {
    let failed = |error| LogError::File(disk.path(IDENTITY), error);
    let names = disk.list().map_err(failed)?;
    if names.iter().any(|name| name == IDENTITY) {
        let bytes = disk.open(IDENTITY).and_then(|file| read_range(&*file, 0, PRELUDE)).map_err(failed)?;
        if let Some(prelude) = Prelude::decode(&bytes) {
            return Ok(prelude.mark);
        }
    }
    let mut marks = names.iter().filter(|name| segment_number(name).is_some()).filter_map(|name| {
        let bytes = disk.open(name).and_then(|file| read_range(&*file, 0, PRELUDE)).ok()?;
        Some(Prelude::decode(&bytes)?.mark)
    });
    let written = names.iter().any(|name| segment_number(name).is_some() || name == HEADS);
    let mark = match (marks.next(), written) {
        (Some(mark), _) => mark,
        (None, true) if has_content(disk, &names).map_err(failed)? => {
            return Err(LogError::Damaged {
                file: disk.path(IDENTITY),
                offset: 0,
                why: "what the log's records begin with is not known".into(),
            });
        }
        _ => fixed.map_or_else(new_mark, Ok).map_err(failed)?,
    };
    let prelude = Prelude { mark, number: 0, previous_end: 0, leaves: 0, batch: 0 };
    let temporary = "identity.new";
    let file = disk.create(temporary, PRELUDE as u64).map_err(failed)?;
    file.write_at(&prelude.encode(), 0).and_then(|()| file.sync()).map_err(failed)?;
    disk.rename(temporary, IDENTITY).and_then(|()| disk.sync_names()).map_err(failed)?;
    Ok(mark)
}

/// Whether anything was ever written to the segments; only then a lost identity is a loss.
fn has_content(disk: &dyn Disk, names: &[String]) -> io::Result<bool> {
    for name in names.iter().filter(|name| segment_number(name).is_some() || *name == HEADS) {
        let file = disk.open(name)?;
        let bytes = read_range(&*file, 0, file.size()? as usize)?;
        if super::scan::written_end(&bytes, 0) > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn new_mark() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(u64::from_le_bytes(bytes).max(1))
}

impl Shared {
    /// Checks the fence and queues a record. Takes the answer's sender if it does.
    fn admit(&self, record: &Record, answer: &mut Option<Answer>) -> Result<(), AppendError> {
        let size = record.body.len();
        if size > self.settings.record_bytes {
            return Err(AppendError::TooLarge { size, most: self.settings.record_bytes });
        }
        // Before the fence is asked: a log that has failed knows no places any more.
        self.open_for(extent(size))?;
        let body_crc = crc32c::crc32c(&record.body);
        let mut states = self.index.of(&record.actor);
        let state = states.get_mut(&record.actor);
        if let Some(Hurt { file, offset, why }) = state.as_ref().and_then(|state| state.hurt.as_deref()) {
            let why = format!("{}: damaged at byte {offset}: {why}", self.disk.path(file).display());
            return Err(AppendError::Damaged { actor: record.actor, why });
        }
        let tip = state.as_ref().map_or_else(Tip::default, |state| state.queued).then(record)?;
        let state = match state {
            Some(state) => state,
            None => states.entry(record.actor).or_insert_with(|| State { life: self.new_life(), ..State::default() }),
        };
        let header = Header {
            batch: 0,
            last: false,
            what: What::Record(record.kind),
            actor: record.actor,
            epoch: record.epoch,
            seq: record.seq,
            time_ms: record.time_ms,
            body_bytes: size as u32,
            body_crc,
        };
        state.queued = tip;
        self.queue_up(header, &record.body, state.life, answer.take());
        Ok(())
    }

    /// Whether so many bytes more may wait.
    fn open_for(&self, bytes: usize) -> Result<(), AppendError> {
        let queued = self.queued.load(Ordering::Relaxed);
        if queued > 0 && queued + bytes > self.settings.queue_bytes {
            return Err(AppendError::Full(format!("{queued} bytes wait to be written, and {bytes} more are over the limit")));
        }
        self.queue.lock().closed()
    }

    /// Called with the actor's shard locked: the order in the queue is that of the places.
    fn queue_up(&self, header: Header, body: &[u8], life: u32, answer: Option<Answer>) {
        self.queued.fetch_add(header.extent(), Ordering::Relaxed);
        let wake = {
            let mut queue = self.queue.lock();
            if let Err(error) = queue.closed() {
                self.queued.fetch_sub(header.extent(), Ordering::Relaxed);
                if let Some(answer) = answer {
                    let _ = answer.send(Err(error));
                }
                return;
            }
            queue.push(self.mark, header, body, life, answer);
            std::mem::take(&mut queue.writer_waits)
        };
        if wake {
            self.work.notify_one();
        }
    }

    pub(crate) fn new_life(&self) -> u32 {
        self.lives.fetch_add(1, Ordering::Relaxed)
    }

    /// Records that nobody needs any more.
    pub(crate) fn release(&self, gone: &[Entry]) {
        if gone.is_empty() {
            return;
        }
        let mut segments = self.segments.lock();
        let newest = segments.last_key_value().map(|(number, _)| *number);
        let mut free = false;
        for entry in gone.iter().filter(|entry| !entry.is_lost()) {
            if let Some(segment) = segments.get_mut(&entry.segment) {
                segment.live = segment.live.saturating_sub(1);
                free |= segment.live == 0 && Some(entry.segment) != newest;
            }
        }
        drop(segments);
        if free {
            self.upkeep.ask();
        }
    }

    /// Fails everything that waits, for one reason, and takes back the places that it had.
    pub(crate) fn fail(&self, first: Batch, error: &AppendError, for_good: bool) {
        let mut all = self.index.all();
        let mut batches = vec![first];
        {
            let mut queue = self.queue.lock();
            batches.extend(queue.take_back(batches[0].number));
            if for_good {
                queue.failed = Some(error.clone());
            }
        }
        let (mut answers, mut touched) = (Vec::new(), Vec::new());
        for Pending { actor, life, what, bytes, answer, .. } in batches.iter_mut().flat_map(|batch| batch.pending.drain(..)) {
            self.queued.fetch_sub(bytes, Ordering::Relaxed);
            answers.extend(answer);
            touched.push((actor, life));
            let state = Index::get(&mut all, &actor).filter(|state| state.life == life);
            match (state, what) {
                (Some(state), What::Record(_) | What::Cut) => state.queued = state.tip,
                (Some(_), What::Forget) if !for_good => self.queue.lock().postponed.push((actor, life)),
                _ => {}
            }
        }
        for (actor, life) in touched {
            Index::drop_if_empty(&mut all, &actor, life);
        }
        drop(all);
        for answer in answers {
            let _ = answer.send(Err(error.clone()));
        }
    }

    /// Records of one segment that lie close together, by one read.
    fn read_run(&self, actor: ActorId, run: &[(Seq, Entry)], file: &dyn DiskFile, into: &mut Vec<Record>) -> Result<(), LogError> {
        let (Some((_, first)), Some((_, last))) = (run.first(), run.last()) else { return Ok(()) };
        let path = || self.disk.path(&segment_name(first.segment));
        let from = u64::from(first.offset);
        let bytes = read_range(file, from, (end_of(*last) - from) as usize).map_err(|e| LogError::File(path(), e))?;
        let bytes = Bytes::from(bytes);
        for (seq, entry) in run {
            let at = (u64::from(entry.offset) - from) as usize;
            let part = bytes.slice(at.min(bytes.len())..(at + HEADER + entry.body_bytes as usize).min(bytes.len()));
            into.push(self.decode_entry(actor, *seq, part).ok_or_else(|| LogError::Damaged {
                file: path(),
                offset: entry.offset.into(),
                why: format!("record {seq} of actor {actor} is not whole"),
            })?);
        }
        Ok(())
    }

    /// A record as it stands in a segment; `None` when it is not whole, or another one.
    fn decode_entry(&self, actor: ActorId, seq: Seq, bytes: Bytes) -> Option<Record> {
        let (header, _) = Header::decode_mended(self.mark, &bytes)?;
        let Header { what: What::Record(kind), epoch, time_ms, .. } = header else { return None };
        let body = bytes.slice(HEADER..);
        let whole = header.actor == actor && header.seq == seq && body.len() == header.body_bytes as usize;
        (whole && crc32c::crc32c(&body) == header.body_crc).then_some(Record { actor, epoch, seq, time_ms, kind, body })
    }
}

/// Where a record ends.
fn end_of(entry: Entry) -> u64 {
    u64::from(entry.offset) + HEADER as u64 + u64::from(entry.body_bytes)
}

/// Whether a record is read along with those from `first` to `before`.
fn follows(first: Entry, before: Entry, entry: Entry) -> bool {
    let gap = u64::from(entry.offset).checked_sub(end_of(before));
    entry.segment == first.segment && gap.is_some_and(|gap| gap <= READ_GAP) && end_of(entry) - u64::from(first.offset) <= READ_RUN
}

impl DurableLog for LocalLog {
    fn append(&self, record: Record) -> Ticket {
        let (answer, ticket) = Ticket::new();
        let mut answer = Some(answer);
        if let (Err(error), Some(answer)) = (self.shared.admit(&record, &mut answer), answer) {
            let _ = answer.send(Err(error));
        }
        ticket
    }

    fn head(&self, actor: ActorId) -> Head {
        self.shared.index.of(&actor).get(&actor).map_or_else(Head::default, State::head)
    }

    fn read(&self, actor: ActorId, after: Seq, to: Seq) -> Result<Vec<Record>, LogError> {
        let entries: Vec<(Seq, Entry)> = {
            let states = self.shared.index.of(&actor);
            let Some(state) = states.get(&actor) else { return Ok(Vec::new()) };
            let to = to.min(state.tip.seq);
            if after >= to {
                return Ok(Vec::new());
            }
            if after < state.trimmed {
                return Err(LogError::Trimmed { actor, first: state.trimmed.next() });
            }
            if let Some(Hurt { file, offset, why }) =
                state.hurt.as_deref().filter(|_| state.entries(after, to).any(|(_, entry)| entry.is_lost()))
            {
                return Err(LogError::Damaged { file: self.shared.disk.path(file), offset: *offset, why: why.clone() });
            }
            state.entries(after, to).collect()
        };
        // The records may be trimmed while they are read, and their segment removed.
        let mut files: HashMap<u32, Arc<dyn DiskFile>> = HashMap::new();
        let mut records = Vec::with_capacity(entries.len());
        let mut rest = &entries[..];
        while let Some((seq, first)) = rest.first() {
            let n = 1 + rest.windows(2).take_while(|pair| follows(*first, pair[0].1, pair[1].1)).count();
            let file = match files.entry(first.segment) {
                MapEntry::Occupied(found) => found.into_mut(),
                MapEntry::Vacant(place) => match self.shared.segments.lock().get(&first.segment) {
                    Some(segment) => place.insert(segment.file.clone()),
                    None => return Err(LogError::Trimmed { actor, first: seq.next() }),
                },
            };
            self.shared.read_run(actor, &rest[..n], &**file, &mut records)?;
            rest = &rest[n..];
        }
        Ok(records)
    }

    fn trim(&self, actor: ActorId, to: Seq) {
        let gone = match self.shared.index.of(&actor).get_mut(&actor) {
            Some(state) => state.trim(to),
            None => return,
        };
        self.shared.release(&gone);
    }

    fn forget(&self, actor: ActorId) {
        let mut states = self.shared.index.of(&actor);
        let Some(state) = states.get_mut(&actor) else { return };
        if state.queued == Tip::default() && state.tip == Tip::default() {
            return;
        }
        let life = self.shared.new_life();
        state.forget(life);
        self.shared.queue_up(Header { actor, ..Header::own(What::Forget, 0) }, &[], life, None);
    }

    fn crowding(&self, most: usize) -> Vec<ActorId> {
        let (used, _) = self.bytes();
        if used <= self.shared.settings.log_bytes {
            return Vec::new();
        }
        let mut found: Vec<(u32, u32, ActorId)> = Vec::new();
        self.shared.index.each(|actor, state| {
            if let Some(entry) = state.index.iter().find(|entry| !entry.is_lost()) {
                found.push((entry.segment, entry.offset, actor));
            }
        });
        if found.len() > most {
            found.select_nth_unstable(most);
            found.truncate(most);
        }
        found.sort_unstable();
        found.into_iter().map(|(_, _, actor)| actor).collect()
    }

    fn recent(&self) -> Vec<(ActorId, Head)> {
        let mut found = Vec::new();
        self.shared.index.each(|actor, state| {
            if !state.index.is_empty() {
                found.push((actor, state.head()));
            }
        });
        found
    }

    fn queued_bytes(&self) -> usize {
        self.shared.queued.load(Ordering::Relaxed)
    }

    fn tier(&self) -> Tier {
        Tier::LocalFsync
    }
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        self.shared.queue.lock().close();
        self.shared.work.notify_one();
        self.shared.upkeep.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
