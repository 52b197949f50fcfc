//! The one thread that writes: a batch, a sync, the answers, and the next batch.
//!
//! It owns the end of the log. It is not: who decides what may be written; that was checked when it was queued.

use std::{io, sync::Arc, time::Instant};

use super::{
    AppendError, LogError,
    disk::{DiskFile, fill, is_full},
    format::{HEADER, NAME, PRELUDE, Prelude, Spot, What, push_leaf, push_name, set_last},
    index::Entry,
    local::{Shared, segment_name},
    order::Tip,
    queue::{Batch, Pending},
    recovery::Segment,
    upkeep::PREPARED,
};
use crate::record::{Receipt, Tier};

/// Bytes of records that one leaf names at most, but for the batch that ends it.
const LEAF_EVERY: u64 = 128 << 10;

/// Bytes of a log's first segment, which is filled while somebody waits for it; the next one is made in the background.
const FIRST_BYTES: u64 = 8 << 20;

/// Why a batch was not written.
enum Trouble {
    /// There was no room for it, and nothing of it was written.
    Full(io::Error),
    /// Nobody knows what of it was written.
    Failed(io::Error),
}

/// How many of a batch are records of actors.
fn records_of(batch: &Batch) -> usize {
    batch.pending.iter().filter(|pending| matches!(pending.what, What::Record(_))).count()
}

/// The end of the log.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    file: Arc<dyn DiskFile>,
    number: u32,
    size: u64,
    end: u64,
    leaves: u64,
    /// Names for the next leaf, and how many bytes of records they stand for.
    names: Vec<u8>,
    unnamed: u64,
}

/// Makes this thread one that does not interrupt another when it is woken. On a core that has turns to run it then begins once they wait, with
/// the records of all of them in one batch; a thread that takes the core for each record syncs for each. (One core, 32 requests to one actor at a
/// time: 29 µs of this thread per request as an ordinary thread, 5 µs so.) On an idle core nothing changes.
#[expect(unsafe_code, reason = "rustix does not set scheduling policies")]
fn yield_to_turns() {
    let ordinary = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the parameter outlives the call, which only reads it.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const ordinary) } != 0 {
        tracing::debug!("log: the writer keeps the ordinary scheduling policy: {}", io::Error::last_os_error());
    }
}

impl Writer {
    /// At the end of the newest segment, or of a new one if there is none; `newest` is the highest number that was ever in use.
    pub(crate) fn new(shared: Arc<Shared>, newest: u32, leaves: u64, names: Vec<u8>) -> Result<Self, LogError> {
        let last =
            shared.segments.lock().last_key_value().map(|(number, segment)| (*number, segment.file.clone(), segment.size, segment.end));
        let (number, file, size, end) = match last {
            Some(last) => last,
            None => {
                let (number, size) = (newest + 1, shared.settings.segment_bytes.min(FIRST_BYTES));
                let made = shared.new_segment(number, size).and_then(|file| {
                    if shared.settings.fill {
                        fill(&*file, 0, size).and_then(|()| file.sync())?;
                    }
                    Ok(file)
                });
                let file = made.map_err(|e| LogError::File(shared.disk.path(&segment_name(number)), e))?;
                (number, file, size, PRELUDE as u64)
            }
        };
        Ok(Self { shared, file, number, size, end, leaves, names, unnamed: 0 })
    }

    /// Until the log is closed.
    pub(crate) fn run(mut self) {
        yield_to_turns();
        loop {
            let batch = {
                let mut queue = self.shared.queue.lock();
                loop {
                    if let Some(batch) = queue.pop() {
                        break batch;
                    }
                    if queue.ends() {
                        return;
                    }
                    queue.writer_waits = true;
                    self.shared.work.wait(&mut queue);
                }
            };
            self.commit(batch);
        }
    }

    /// Writes one batch, if one waits. For who has no thread for it.
    #[cfg(test)]
    pub(crate) fn turn(&mut self) -> bool {
        let batch = self.shared.queue.lock().pop();
        batch.map(|batch| self.commit(batch)).is_some()
    }

    fn commit(&mut self, mut batch: Batch) {
        match self.write(&mut batch) {
            Ok(from) => self.publish(batch, from),
            Err(Trouble::Full(error)) => {
                tracing::warn!("log: no room: {error}");
                self.shared.fail(batch, &AppendError::Full(error.to_string()), false);
            }
            Err(Trouble::Failed(error)) => {
                tracing::error!("log: {}: {error}", self.shared.disk.path(&segment_name(self.number)).display());
                self.shared.fail(batch, &AppendError::Failed(error.to_string()), true);
            }
        }
    }

    /// Where in the segment the batch's bytes begin, now that they are durable.
    fn write(&mut self, batch: &mut Batch) -> Result<u64, Trouble> {
        let records = batch.bytes.len() - PRELUDE;
        let names = records_of(batch) * NAME;
        let leaf = HEADER + self.names.len() + names;
        let due =
            self.unnamed + records as u64 > LEAF_EVERY.min(self.shared.settings.segment_bytes / 4) && leaf + records < u32::MAX as usize;
        let bytes = (records + if due { leaf.next_multiple_of(8) } else { 0 }) as u64;
        if self.end + bytes > self.size {
            self.next_segment(bytes)?;
        }
        let names_before = self.names.len();
        for Pending { actor, seq, .. } in batch.pending.iter().filter(|pending| matches!(pending.what, What::Record(_))) {
            push_name(&mut self.names, *actor, *seq);
        }
        let last = if due {
            let at = batch.bytes.len();
            push_leaf(&mut batch.bytes, self.shared.mark, batch.number, self.leaves + 1, &self.names);
            at
        } else {
            batch.pending.last().map_or(PRELUDE, |pending| pending.at)
        };
        set_last(&mut batch.bytes, last);
        let written = self.put(batch);
        if written.is_err() {
            self.names.truncate(names_before);
            return written;
        }
        self.unnamed += records as u64;
        if due {
            self.leaves += 1;
            self.names.clear();
            self.unnamed = 0;
        }
        written
    }

    fn put(&mut self, batch: &mut Batch) -> Result<u64, Trouble> {
        let first = self.end == PRELUDE as u64;
        if first {
            let previous_end = self.shared.segments.lock().get(&(self.number - 1)).map_or(0, |segment| segment.end);
            let prelude = Prelude { mark: self.shared.mark, number: self.number, previous_end, leaves: self.leaves, batch: batch.number };
            batch.bytes[..PRELUDE].copy_from_slice(&prelude.encode());
        }
        let (from, bytes) = if first { (0, &batch.bytes[..]) } else { (self.end, &batch.bytes[PRELUDE..]) };
        self.file.write_at(bytes, from).map_err(Trouble::Failed)?;
        let began = Instant::now();
        self.file.sync().map_err(Trouble::Failed)?;
        self.shared.pace.committed(records_of(batch) as u64, began.elapsed());
        let at = self.end;
        self.end = from + bytes.len() as u64;
        Ok(at)
    }

    /// Goes on in a new segment. What does not fit into one gets its own size.
    fn next_segment(&mut self, bytes: u64) -> Result<(), Trouble> {
        let size = self.shared.settings.segment_bytes.max(PRELUDE as u64 + bytes);
        // One that nothing was written to, too small for a large record, is passed over.
        let number = self.number + 1;
        let file = self
            .shared
            .new_segment(number, size)
            .map_err(|error| if is_full(&error) { Trouble::Full(error) } else { Trouble::Failed(error) })?;
        (self.file, self.number, self.size, self.end) = (file, number, size, PRELUDE as u64);
        Ok(())
    }

    /// Moves the heads and answers.
    fn publish(&mut self, mut batch: Batch, from: u64) {
        let records = records_of(&batch) as u64;
        let rotated = {
            let mut segments = self.shared.segments.lock();
            let rotated = segments.get(&self.number).is_some_and(|segment| segment.end == PRELUDE as u64);
            if let Some(segment) = segments.get_mut(&self.number) {
                segment.end = self.end;
                segment.live += records;
                segment.marks |= batch.pending.len() as u64 > records;
            }
            rotated
        };
        let mut gone = Vec::new();
        let mut done = 0;
        for pending in batch.pending.drain(..) {
            done += pending.bytes;
            let spot = Spot { segment: self.number, offset: (from + (pending.at - PRELUDE) as u64) as u32 };
            let receipt = Receipt { actor: pending.actor, epoch: pending.epoch, seq: pending.seq, tier: Tier::LocalFsync };
            self.settle(&pending, spot, &mut gone);
            if let Some(answer) = pending.answer {
                let _ = answer.send(Ok(receipt));
            }
        }
        self.shared.queued.fetch_sub(done, std::sync::atomic::Ordering::Relaxed);
        self.shared.release(&gone);
        if rotated {
            self.shared.upkeep.ask();
        }
        self.shared.queue.lock().give_back(batch);
    }

    /// What one durable record means to its actor.
    fn settle(&self, pending: &Pending, spot: Spot, gone: &mut Vec<Entry>) {
        let entry = Entry { segment: spot.segment, offset: spot.offset, body_bytes: pending.body_bytes };
        let mut states = self.shared.index.of(&pending.actor);
        let state = states.get_mut(&pending.actor);
        let in_force = state.as_ref().is_some_and(|state| state.life == pending.life);
        match (pending.what, state.filter(|state| in_force || state.leaving.is_some())) {
            (What::Record(_), Some(state)) if in_force => state.push(pending.epoch, pending.seq, entry),
            // Its actor has been forgotten meanwhile.
            (What::Record(_), state) => match state.and_then(|state| state.leaving.as_mut()) {
                Some(leaving) => {
                    leaving.tip = Tip { epoch: pending.epoch, seq: pending.seq };
                    leaving.entries.push(entry);
                }
                None => gone.push(entry),
            },
            (_, Some(_)) if !in_force => {}
            (What::Cut, Some(state)) => {
                gone.extend(state.cut(pending.seq));
                state.queued = state.tip;
            }
            (What::Forget, Some(state)) => {
                gone.extend(state.leaving.take().into_iter().flat_map(|leaving| leaving.entries));
                state.since = Spot { offset: spot.offset + HEADER as u32, ..spot };
            }
            _ => {}
        }
    }
}

impl Shared {
    /// A segment that is ready to be written to: one that was prepared, or a new one.
    pub(crate) fn new_segment(&self, number: u32, size: u64) -> io::Result<Arc<dyn DiskFile>> {
        let name = segment_name(number);
        let mut prepared = self.upkeep.prepared.lock();
        let file = match prepared.take().filter(|prepared| prepared.size == size) {
            Some(prepared) => prepared.file,
            None => self.disk.create(PREPARED, size)?,
        };
        self.disk.rename(PREPARED, &name)?;
        self.disk.sync_names()?;
        self.segments.lock().insert(number, Segment { file: file.clone(), size, end: PRELUDE as u64, live: 0, marks: false });
        Ok(file)
    }
}
