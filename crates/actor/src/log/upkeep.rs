//! What the log does beside writing: the next segment is prepared, and segments that nobody needs are removed.
//!
//! A segment is removed when none of its records is needed, and after the heads of all actors have been written down: they may have been known
//! from it alone. It is not in anybody's way: the writer takes what is prepared, and makes a segment itself when nothing is.

use std::{io, sync::Arc};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{
    disk::{DiskFile, FILL_STEP, fill},
    format::{Heads, PRELUDE},
    local::{HEADS, Shared, segment_name},
};

/// The name of a segment that has no number yet.
pub(crate) const PREPARED: &str = "prepared";

/// A segment ahead of its use.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) size: u64,
    filled: u64,
}

/// The work list of the upkeep thread.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// Locked by whoever makes or takes the file of that name.
    pub(crate) prepared: Mutex<Option<Prepared>>,
    asked: Mutex<Asked>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Asked {
    work: bool,
    closing: bool,
}

impl Upkeep {
    pub(crate) fn ask(&self) {
        self.asked.lock().work = true;
        self.wake.notify_one();
    }

    pub(crate) fn close(&self) {
        self.asked.lock().closing = true;
        self.wake.notify_one();
    }

    fn closing(&self) -> bool {
        self.asked.lock().closing
    }

    /// Waits for work; `false` when the log is closed.
    fn wait(&self) -> bool {
        let mut asked = self.asked.lock();
        while !asked.work && !asked.closing {
            self.wake.wait(&mut asked);
        }
        asked.work = false;
        !asked.closing
    }
}

impl Shared {
    /// Until the log is closed. What fails is tried again with the next piece of work: nothing depends on it but space.
    pub(crate) fn keep_up(&self) {
        let mut first = true;
        while first || self.upkeep.wait() {
            first = false;
            if let Err(error) = self.remove_unneeded().and_then(|()| self.prepare()) {
                tracing::warn!("log: {}: {error}", self.disk.path("").display());
            }
        }
        if let Err(error) = self.write_heads(&[]) {
            tracing::warn!("log: {}: {error}", self.disk.path(HEADS).display());
        }
    }

    /// Makes the next segment, and fills it in steps, between which the writer may take it as it is.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        let size = self.settings.segment_bytes;
        {
            let mut prepared = self.upkeep.prepared.lock();
            if prepared.is_none() {
                let file = self.disk.create(PREPARED, size)?;
                *prepared = Some(Prepared { file, size, filled: if self.settings.fill { 0 } else { size } });
            }
        }
        while !self.upkeep.closing() && fill_step(self.upkeep.prepared.lock())? {}
        Ok(())
    }

    /// Removes segments without a record that is needed. One with marks about older segments goes when those are gone, and none goes before
    /// something durable stands in the newest: until then the one before it tells where the log ends.
    pub(crate) fn remove_unneeded(&self) -> io::Result<()> {
        let gone: Vec<u32> = {
            let segments = self.segments.lock();
            let Some((newest, last)) = segments.last_key_value() else { return Ok(()) };
            if last.end == PRELUDE as u64 {
                return Ok(());
            }
            let mut all_before = true;
            let mut gone = Vec::new();
            for (number, segment) in segments.iter().filter(|(number, _)| *number != newest) {
                let unneeded = segment.live == 0 && (!segment.marks || all_before);
                if unneeded {
                    gone.push(*number);
                }
                all_before &= unneeded;
            }
            gone
        };
        if gone.is_empty() {
            return Ok(());
        }
        self.write_heads(&gone)?;
        self.segments.lock().retain(|number, _| !gone.contains(number));
        self.index.drop_marks(&gone);
        gone.iter().try_for_each(|number| self.disk.remove(&segment_name(*number)))
    }

    /// Writes down where every actor stands, and which segments count without those in `gone`.
    fn write_heads(&self, gone: &[u32]) -> io::Result<()> {
        let mut heads = Heads::default();
        {
            let segments = self.segments.lock();
            let kept: Vec<u32> = segments.keys().copied().filter(|number| !gone.contains(number)).collect();
            let Some((first, last)) = kept.first().zip(kept.last()) else { return Ok(()) };
            heads.oldest = *first;
            heads.dropped = (*first..*last).filter(|number| kept.binary_search(number).is_err()).collect();
        }
        self.index.each(|actor, state| heads.heads.extend(state.to_known(actor)));
        let bytes = heads.encode(self.mark);
        let temporary = "heads.new";
        let file = self.disk.create(temporary, bytes.len() as u64)?;
        file.write_at(&bytes, 0)?;
        file.sync()?;
        self.disk.rename(temporary, HEADS)?;
        self.disk.sync_names()
    }
}

/// Whether there is more to fill.
fn fill_step(mut prepared: MutexGuard<'_, Option<Prepared>>) -> io::Result<bool> {
    let Some(prepared) = prepared.as_mut().filter(|prepared| prepared.filled < prepared.size) else { return Ok(false) };
    let to = (prepared.filled + FILL_STEP).min(prepared.size);
    fill(&*prepared.file, prepared.filled, to)?;
    prepared.file.sync()?;
    prepared.filled = to;
    Ok(true)
}
