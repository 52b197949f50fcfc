//! What the durable log holds: one record for each change of one actor, in order, without gaps.
//!
//! Values only. What a body means is known to who wrote it: `pages` for commits, `actor` for checkpoints.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_id::ActorId;

/// A term of ownership of one actor. Whoever takes an actor over appends a fence of the next epoch; who still holds an earlier one
/// then finds the place of its next record taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// The place of a record in its actor's log; the first is 1, and 0 is the place before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a record says. The numbers are on disk and are not used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// An owner took over: nothing else. First record of every epoch.
    Fence = 1,
    /// A transaction: pages of the database that changed, and when the actor next wants to be woken.
    Commit = 2,
    /// Heap and what belongs to it; the database is the one as of this place.
    Checkpoint = 3,
    /// The actor began as a copy of another as of a place in that one's log.
    Fork = 4,
    /// The actor is gone, with all it had.
    Delete = 5,
}

impl RecordKind {
    /// From its number on disk.
    #[must_use]
    pub fn from_number(n: u8) -> Option<Self> {
        [Self::Fence, Self::Commit, Self::Checkpoint, Self::Fork, Self::Delete].into_iter().find(|kind| *kind as u8 == n)
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub actor: ActorId,
    /// In which term of ownership it was written.
    pub epoch: Epoch,
    /// Its place.
    pub seq: Seq,
    /// Wall-clock time of its writer, ms since the epoch of Unix: for people and for "as of then", never for order.
    pub time_ms: u64,
    /// What it says.
    pub kind: RecordKind,
    /// The details.
    pub body: Bytes,
}

/// How safe an acknowledged record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// In this process only; for tests and actors that need not last.
    Memory,
    /// On this machine's disk, synced.
    LocalFsync,
}

/// Proof of an acknowledgement: where in which actor's log the change is, and how safe it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Whose.
    pub actor: ActorId,
    /// In which term.
    pub epoch: Epoch,
    /// Its place: everything up to it is as safe.
    pub seq: Seq,
    /// How safe.
    pub tier: Tier,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::LocalFsync => "local-fsync",
        })
    }
}

/// In one line, as a header has it.
impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { actor, epoch, seq, tier } = self;
        write!(f, "actor={actor}; epoch={}; seq={}; tier={tier}", epoch.0, seq.0)
    }
}
