//! The rule that makes the log a fence: which record may come next.
//!
//! Pure; asked by every backend before a record is queued, with the place and epoch that count what is queued already.
//! It is not: durability. A record that may come next may still be lost before it is acknowledged.

use crate::{
    log::AppendError,
    record::{Epoch, Record, RecordKind, Seq},
};

/// The epoch in force and the last place taken, queued records counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) epoch: Epoch,
    pub(crate) seq: Seq,
}

impl Tip {
    /// Where the log stands after `record`, if it may come next. A fence begins a later epoch; everything else belongs to the one in force, and
    /// nothing belongs to epoch 0, in which nobody owns the actor.
    pub(crate) fn then(self, record: &Record) -> Result<Self, AppendError> {
        let in_turn = match record.kind {
            RecordKind::Fence => record.epoch > self.epoch,
            _ => record.epoch == self.epoch && self.epoch != Epoch(0),
        };
        if !in_turn {
            return Err(AppendError::Fenced { actor: record.actor, asked: record.epoch, current: self.epoch });
        }
        if record.seq.0.checked_sub(1) != Some(self.seq.0) {
            return Err(AppendError::NotNext { actor: record.actor, asked: record.seq, head: self.seq });
        }
        Ok(Self { epoch: record.epoch, seq: record.seq })
    }
}
