//! The durable log: the one thing that decides what has happened.
//!
//! Its only write is "append record N+1 of actor A in epoch E, or fail", and that is the fence: an owner that was replaced loses the
//! race for the next place. Everything else on disk is a cache of it or a summary of what was trimmed. [`LocalLog`] is the backend
//! of one node; the trait and its `conformance` suite are written for further ones (PostgreSQL, object storage).

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod disk;
mod format;
mod index;
mod local;
mod memory;
mod order;
mod pace;
mod probe;
mod queue;
mod recovery;
mod scan;
#[cfg(test)]
mod simulated;
mod upkeep;
mod writer;

use std::{fmt, future::Future, io, path::PathBuf, pin::Pin, task};

use skep_id::ActorId;
use tokio::sync::oneshot;

pub use local::{Damage, LocalLog, Settings};
pub use memory::MemoryLog;
pub use pace::{Commits, SYNC_BOUNDS_US};
pub use probe::{Probe, Trust};

pub(crate) use disk::is_full;

use crate::record::{Epoch, Receipt, Record, Seq, Tier};

/// Why a record was not appended. Every record that was queued after it for the same actor fails as well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Its place is taken, or not yet the next one: somebody else owns the actor, or the caller lost count.
    #[error("record {asked} of actor {actor} is not the next one after {head}")]
    NotNext {
        /// Whose.
        actor: ActorId,
        /// The place asked for.
        asked: Seq,
        /// The last place taken.
        head: Seq,
    },
    /// A later epoch has begun.
    #[error("actor {actor} is owned in epoch {current}, not {asked} any more")]
    Fenced {
        /// Whose.
        actor: ActorId,
        /// The epoch asked for.
        asked: Epoch,
        /// The one in force.
        current: Epoch,
    },
    /// The disk is full, or will be.
    #[error("the log cannot grow: {0}")]
    Full(String),
    /// A record is larger than the backend takes.
    #[error("a record of {size} bytes is over the log's limit of {most}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        most: usize,
    },
    /// The log lost records of this actor, and takes nothing more of it until it is repaired.
    #[error("the log of actor {actor} is damaged: {why}")]
    Damaged {
        /// Whose.
        actor: ActorId,
        /// Which file, where, and what.
        why: String,
    },
    /// The device failed. What was not acknowledged may or may not be there; the log takes nothing more until it is opened anew.
    #[error("the log failed, and takes nothing more until the node is restarted: {0}")]
    Failed(String),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// Why the log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file failed.
    #[error("{}: {}", .0.display(), .1)]
    File(PathBuf, #[source] io::Error),
    /// A file holds what no log wrote, at a place that was acknowledged.
    #[error("{}: damaged at byte {}: {}", .file.display(), .offset, .why)]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// Records that were asked for have been trimmed.
    #[error("the log of actor {actor} begins after {first}")]
    Trimmed {
        /// Whose.
        actor: ActorId,
        /// The first place that is still there.
        first: Seq,
    },
    /// The device does not keep the promise that this backend makes.
    #[error("{}: {}", .0.display(), .1)]
    Unsafe(PathBuf, String),
}

/// Where an actor's log stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The epoch in force.
    pub epoch: Epoch,
    /// The last place taken.
    pub seq: Seq,
    /// The first place that can be read; after `seq` if all has been trimmed.
    pub first: Seq,
}

/// A record on its way: ready when it is durable, or will never be. Those of one actor are ready in order.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Result<Receipt, AppendError>>);

impl Ticket {
    /// A ticket and who answers it.
    #[must_use]
    pub fn new() -> (oneshot::Sender<Result<Receipt, AppendError>>, Self) {
        let (tx, rx) = oneshot::channel();
        (tx, Self(rx))
    }
}

impl Future for Ticket {
    type Output = Result<Receipt, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> task::Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(AppendError::Closed)))
    }
}

/// A log for many actors. Object-safe; calls do not block except [`DurableLog::read`], which reads from a disk.
pub trait DurableLog: Send + Sync + fmt::Debug + 'static {
    /// Queues a record and returns at once. The order of calls for one actor is the order of its records. A fence is accepted when its epoch is
    /// later than the one in force and its place the next; any other record when epoch and place are the expected ones, counting what is queued.
    fn append(&self, record: Record) -> Ticket;

    /// Where the log of an actor stands, what is queued not counted; the default for one that it has never heard of.
    fn head(&self, actor: ActorId) -> Head;

    /// The durable records of an actor after `after`, up to and including `to`, in order.
    ///
    /// # Errors
    /// When files cannot be read or are damaged, or some of the records have been trimmed.
    fn read(&self, actor: ActorId, after: Seq, to: Seq) -> Result<Vec<Record>, LogError>;

    /// The records of an actor up to `to` are not needed any more: they are kept elsewhere. Its head is remembered.
    fn trim(&self, actor: ActorId, to: Seq);

    /// The actor is gone and its head need not be remembered: ids are not used twice.
    fn forget(&self, actor: ActorId);

    /// Actors whose records stand in the way of giving back space, the most urgent first, at most `most`: their owner should bring what they
    /// hold to where it belongs and trim them. Empty as long as the log is within its size.
    fn crowding(&self, most: usize) -> Vec<ActorId>;

    /// Actors that have records, with their heads: what was in flight when the node went down is among them.
    fn recent(&self) -> Vec<(ActorId, Head)>;

    /// Bytes waiting to be written: who appends looks at it before it goes on.
    fn queued_bytes(&self) -> usize;

    /// How safe an acknowledged record is.
    fn tier(&self) -> Tier;
}

#[cfg(test)]
mod tests;
