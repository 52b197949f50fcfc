//! What waits to be written: batches that are already the bytes of the segment, and who is to be answered for each record.
//!
//! Batches count without gaps, from the number that the log ended with: recovery relies on it. It is not: a lock; `Shared` has one around it.

use std::collections::VecDeque;

use skep_id::ActorId;
use tokio::sync::oneshot;

use super::{
    AppendError,
    format::{Header, PRELUDE, What},
};
use crate::record::{Epoch, Receipt, Seq};

/// Where the answer to an append goes.
pub(crate) type Answer = oneshot::Sender<Result<Receipt, AppendError>>;

/// Who is to be answered for one record of a batch.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) actor: ActorId,
    pub(crate) life: u32,
    pub(crate) epoch: Epoch,
    pub(crate) seq: Seq,
    pub(crate) what: What,
    /// In the batch's bytes.
    pub(crate) at: usize,
    pub(crate) body_bytes: u32,
    /// In the segment.
    pub(crate) bytes: usize,
    pub(crate) answer: Option<Answer>,
}

/// Records that are written and synced at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    /// Begins with room for a prelude, should it be the first of a segment.
    pub(crate) bytes: Vec<u8>,
    pub(crate) pending: Vec<Pending>,
}

/// The batches that wait.
#[derive(Debug)]
pub(crate) struct Queue {
    batches: VecDeque<Batch>,
    /// Emptied, for their memory.
    spare: Vec<Batch>,
    next: u64,
    batch_bytes: usize,
    closing: bool,
    pub(crate) failed: Option<AppendError>,
    /// Whether the writer has to be woken.
    pub(crate) writer_waits: bool,
    /// Marks of forgotten actors that could not be written for want of space. They go before the next record.
    pub(crate) postponed: Vec<(ActorId, u32)>,
}

/// Buffers beyond this are not kept for the next batch.
const KEEP_BYTES: usize = 16 << 20;

impl Queue {
    pub(crate) fn new(next: u64, batch_bytes: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            spare: Vec::new(),
            next,
            batch_bytes,
            closing: false,
            failed: None,
            writer_waits: false,
            postponed: Vec::new(),
        }
    }

    /// Whether nothing more is taken.
    pub(crate) fn closed(&self) -> Result<(), AppendError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.closing => Err(AppendError::Closed),
            None => Ok(()),
        }
    }

    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// Whether the writer is done once there is no batch left.
    pub(crate) fn ends(&self) -> bool {
        self.closing
    }

    pub(crate) fn push(&mut self, mark: u64, header: Header, body: &[u8], life: u32, answer: Option<Answer>) {
        for (actor, life) in std::mem::take(&mut self.postponed) {
            self.encode(mark, Header { actor, ..Header::own(What::Forget, 0) }, &[], life, None);
        }
        self.encode(mark, header, body, life, answer);
    }

    fn encode(&mut self, mark: u64, header: Header, body: &[u8], life: u32, answer: Option<Answer>) {
        let bytes = header.extent();
        if self.batches.back().is_none_or(|batch| batch.bytes.len() + bytes > self.batch_bytes) {
            let mut batch = self.spare.pop().unwrap_or_default();
            batch.number = self.next;
            batch.bytes.resize(PRELUDE, 0);
            self.next += 1;
            self.batches.push_back(batch);
        }
        let Some(batch) = self.batches.back_mut() else { return };
        let at = batch.bytes.len();
        batch.bytes.extend_from_slice(&Header { batch: batch.number, ..header }.encode(mark));
        batch.bytes.extend_from_slice(body);
        batch.bytes.resize(at + bytes, 0);
        let Header { actor, epoch, seq, what, body_bytes, .. } = header;
        batch.pending.push(Pending { actor, life, epoch, seq, what, at, body_bytes, bytes, answer });
    }

    pub(crate) fn pop(&mut self) -> Option<Batch> {
        self.batches.pop_front()
    }

    /// For the memory of a batch that is done with.
    pub(crate) fn give_back(&mut self, mut batch: Batch) {
        if batch.bytes.capacity() <= KEEP_BYTES && self.spare.len() < 2 {
            batch.bytes.clear();
            batch.pending.clear();
            self.spare.push(batch);
        }
    }

    /// Everything that waits, because the batch of this number was not written: the next one has its number.
    pub(crate) fn take_back(&mut self, number: u64) -> impl Iterator<Item = Batch> + use<'_> {
        self.next = number;
        self.batches.drain(..)
    }
}
