//! A log in memory: tier `Memory`. For the tests of what stands on a log, and for actors that need not last.
//!
//! It keeps every promise of the trait but one: it ends with its process. It is not: fast at anything but being simple.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use skep_id::ActorId;

use super::order::Tip;
use crate::{
    log::{AppendError, DurableLog, Head, LogError, Ticket},
    record::{Receipt, Record, Seq, Tier},
};

/// A log that lives as long as its last clone: dropping one and going on with another is what a restart is to the other backends.
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    actors: HashMap<ActorId, Kept>,
    failure: Option<AppendError>,
}

#[derive(Default)]
struct Kept {
    tip: Tip,
    trimmed: Seq,
    records: BTreeMap<Seq, Record>,
}

impl Kept {
    fn head(&self) -> Head {
        Head { epoch: self.tip.epoch, seq: self.tip.seq, first: self.trimmed.next() }
    }
}

impl MemoryLog {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on every append fails so, until it is told otherwise with `None`: a disk that is full, or gone.
    pub fn fail(&self, failure: Option<AppendError>) {
        self.0.lock().failure = failure;
    }
}

impl std::fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryLog({} actors)", self.0.lock().actors.len())
    }
}

impl Inside {
    fn append(&mut self, record: Record) -> Result<Receipt, AppendError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let tip = self.actors.get(&record.actor).map_or_else(Tip::default, |kept| kept.tip).then(&record)?;
        let kept = self.actors.entry(record.actor).or_default();
        kept.tip = tip;
        let receipt = Receipt { actor: record.actor, epoch: record.epoch, seq: record.seq, tier: Tier::Memory };
        kept.records.insert(record.seq, record);
        Ok(receipt)
    }
}

impl DurableLog for MemoryLog {
    fn append(&self, record: Record) -> Ticket {
        let (answer, ticket) = Ticket::new();
        let _ = answer.send(self.0.lock().append(record));
        ticket
    }

    fn head(&self, actor: ActorId) -> Head {
        self.0.lock().actors.get(&actor).map_or_else(Head::default, Kept::head)
    }

    fn read(&self, actor: ActorId, after: Seq, to: Seq) -> Result<Vec<Record>, LogError> {
        let inside = self.0.lock();
        let Some(kept) = inside.actors.get(&actor) else { return Ok(Vec::new()) };
        let to = to.min(kept.tip.seq);
        if after >= to {
            return Ok(Vec::new());
        }
        if after < kept.trimmed {
            return Err(LogError::Trimmed { actor, first: kept.trimmed.next() });
        }
        Ok(kept.records.range(after.next()..=to).map(|(_, record)| record.clone()).collect())
    }

    fn trim(&self, actor: ActorId, to: Seq) {
        if let Some(kept) = self.0.lock().actors.get_mut(&actor) {
            kept.trimmed = kept.trimmed.max(to.min(kept.tip.seq));
            kept.records = kept.records.split_off(&kept.trimmed.next());
        }
    }

    fn forget(&self, actor: ActorId) {
        self.0.lock().actors.remove(&actor);
    }

    fn crowding(&self, _most: usize) -> Vec<ActorId> {
        Vec::new()
    }

    fn recent(&self) -> Vec<(ActorId, Head)> {
        self.0.lock().actors.iter().filter(|(_, kept)| !kept.records.is_empty()).map(|(actor, kept)| (*actor, kept.head())).collect()
    }

    fn queued_bytes(&self) -> usize {
        0
    }

    fn tier(&self) -> Tier {
        Tier::Memory
    }
}
