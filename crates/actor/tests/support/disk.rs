//! A log whose disk is slow, fails, fills up, and loses what was not synced when the power is cut.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;
use skep_actor::{
    Epoch, Receipt, Record, RecordKind, Seq, Tier,
    log::{AppendError, DurableLog, Head, LogError, MemoryLog, Ticket},
};
use skep_id::ActorId;
use tokio::sync::oneshot;

type Answer = oneshot::Sender<Result<Receipt, AppendError>>;

/// What is written but not synced, on a disk that outlives it.
#[derive(Clone)]
pub struct UnsafeDisk(Arc<Mutex<Inside>>, MemoryLog);

#[derive(Default)]
struct Inside {
    queue: VecDeque<(Record, Answer)>,
    /// Where each actor stands, the queue counted.
    tips: HashMap<ActorId, (Epoch, Seq)>,
    failure: Option<AppendError>,
}

impl UnsafeDisk {
    /// A log on what has lasted.
    pub fn on(lasting: &MemoryLog) -> Self {
        Self(Arc::default(), lasting.clone())
    }

    /// Syncs the first `most` records and acknowledges them.
    pub fn sync(&self, most: usize) {
        for _ in 0..most {
            let Some((record, answer)) = self.0.lock().queue.pop_front() else { return };
            let receipt = Receipt { actor: record.actor, epoch: record.epoch, seq: record.seq, tier: Tier::Memory };
            drop(self.1.append(record));
            answer.send(Ok(receipt)).ok();
        }
    }

    pub fn queued(&self) -> usize {
        self.0.lock().queue.len()
    }

    /// The device fails: everything that waits is not acknowledged, though the first `kept` records are on the disk; and nothing more is taken.
    pub fn fail(&self, kept: usize, failure: &AppendError) {
        let queue = {
            let mut inside = self.0.lock();
            inside.failure = Some(failure.clone());
            std::mem::take(&mut inside.queue)
        };
        for (n, (record, answer)) in queue.into_iter().enumerate() {
            if n < kept {
                drop(self.1.append(record));
            }
            answer.send(Err(failure.clone())).ok();
        }
    }
}

impl fmt::Debug for UnsafeDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnsafeDisk({} queued)", self.queued())
    }
}

impl DurableLog for UnsafeDisk {
    fn append(&self, record: Record) -> Ticket {
        let (answer, ticket) = Ticket::new();
        let head = self.1.head(record.actor);
        let mut inside = self.0.lock();
        if let Some(failure) = &inside.failure {
            answer.send(Err(failure.clone())).ok();
            return ticket;
        }
        let (epoch, seq) = *inside.tips.entry(record.actor).or_insert((head.epoch, head.seq));
        let next = match record.kind {
            RecordKind::Fence => record.epoch > epoch,
            _ => record.epoch == epoch,
        };
        if !next {
            answer.send(Err(AppendError::Fenced { actor: record.actor, asked: record.epoch, current: epoch })).ok();
        } else if record.seq != seq.next() {
            answer.send(Err(AppendError::NotNext { actor: record.actor, asked: record.seq, head: seq })).ok();
        } else {
            inside.tips.insert(record.actor, (record.epoch, record.seq));
            inside.queue.push_back((record, answer));
        }
        ticket
    }

    fn head(&self, actor: ActorId) -> Head {
        self.1.head(actor)
    }

    fn read(&self, actor: ActorId, after: Seq, to: Seq) -> Result<Vec<Record>, LogError> {
        self.1.read(actor, after, to)
    }

    fn trim(&self, actor: ActorId, to: Seq) {
        self.1.trim(actor, to);
    }

    fn forget(&self, actor: ActorId) {
        self.0.lock().tips.remove(&actor);
        self.1.forget(actor);
    }

    fn crowding(&self, _most: usize) -> Vec<ActorId> {
        Vec::new()
    }

    fn recent(&self) -> Vec<(ActorId, Head)> {
        self.1.recent()
    }

    fn queued_bytes(&self) -> usize {
        self.0.lock().queue.iter().map(|(record, _)| record.body.len()).sum()
    }

    fn tier(&self) -> Tier {
        Tier::Memory
    }
}
