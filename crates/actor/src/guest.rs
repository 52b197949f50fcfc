//! The seam between an actor and what runs in it. Isolates are the first guest (adapted in `node`); agents in Rust follow.
//!
//! A guest works in turns. Within a turn it reads and changes its [`Storage`](crate::Storage); at the end of each it calls
//! [`Storage::end_turn`](crate::Storage::end_turn) and lets nothing out that the turn produced before the ticket it got is ready
//! (the output gate). One that is cut off in a turn calls [`Storage::cut_off`](crate::Storage::cut_off) instead.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use skep_id::ActorId;

use crate::Storage;

/// A boxed future, as object-safe traits need it.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A heap that was written down: bytes that its guest's kind understands, and what must match for it to wake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heap {
    /// Names the code, and the image it ran on: a heap wakes only under both.
    pub code: String,
    /// When the guest wants to be woken for a timer of its heap, ms since the epoch of Unix; `None`: it waits for nothing.
    pub timer_ms: Option<u64>,
    /// The heap.
    pub bytes: Bytes,
}

/// Everything a guest is started with.
pub struct Start {
    /// Who it is.
    pub actor: ActorId,
    /// The namespace it belongs to, `<worker>/<class>`; a facet's is that of its root.
    pub namespace: Arc<str>,
    /// The name its id was made from, where it is known.
    pub name: Option<Arc<str>>,
    /// Its state. The guest locks it for as long as a host call takes.
    pub storage: Arc<Mutex<Storage>>,
    /// The heap to go on with. Without one its constructor runs.
    pub heap: Option<Heap>,
}

/// An alarm that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Which one; empty for the one that `setAlarm` sets.
    pub name: String,
    /// When it was due, ms since the epoch of Unix.
    pub due_ms: u64,
    /// How often it was tried before and failed.
    pub retries: u32,
}

/// What the code of a guest threw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thrown {
    /// Its name, such as `TypeError`.
    pub name: String,
    /// Its message.
    pub message: String,
}

impl fmt::Display for Thrown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // That it is an error need not be said of one that has no name of its own.
        if self.name != "Error" {
            write!(f, "{}: ", self.name)?;
        }
        f.write_str(&self.message)
    }
}

/// Why a guest does not start. One that threw says so to its callers as if they had called what threw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotStarted {
    /// Its code threw.
    Threw(Thrown),
    /// Everything else.
    Failed(Arc<str>),
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threw(thrown) => thrown.fmt(f),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl From<&str> for NotStarted {
    fn from(why: &str) -> Self {
        Self::Failed(why.into())
    }
}

impl From<GuestError> for NotStarted {
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::Threw(thrown) => Self::Threw(thrown),
            GuestError::Start(why) => Self::Failed(why.into()),
            other => Self::Failed(other.to_string().into()),
        }
    }
}

/// Why a guest gave no answer, or did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// Its code threw; it goes on living, unless it was about to start.
    #[error("{0}")]
    Threw(Thrown),
    /// It does not start, for a reason that is not its code's. The next message starts another.
    #[error("it does not start: {0}")]
    Start(String),
    /// It was ended: a limit, `ctx.abort()`, a commit that failed.
    #[error("it was ended: {0}")]
    Ended(String),
    /// It is in the middle of something that cannot be written down.
    #[error("it is busy: {0}")]
    Busy(String),
    /// Its heap cannot be written down, or not be woken; its database is all that lasts.
    #[error("its heap cannot be kept: {0}")]
    Heapless(String),
}

/// A live guest. Dropping the last reference ends it.
pub trait Guest: Send + Sync + fmt::Debug + 'static {
    /// Ready when it serves, or does not start.
    fn ready(&self) -> BoxFuture<Result<(), GuestError>>;

    /// Tells it that an alarm is due. `Ok` when its handler has come back: the alarm is then done.
    fn alarm(&self, alarm: Alarm) -> BoxFuture<Result<(), GuestError>>;

    /// A timer of its heap may be due; only guests that were woken from a heap are told.
    fn tick(&self);

    /// Writes the live heap down between two turns; it goes on running. Nothing of the guest is held back by the output gate at that moment, so
    /// the place of the record made of it is that of the database as well.
    fn checkpoint(&self) -> BoxFuture<Result<Heap, GuestError>>;

    /// Writes the heap down and ends, if the guest is idle: no call in flight, nothing held back, nothing started that has not come back. `Busy` otherwise:
    /// it goes on. `Heapless`: it has ended without a heap.
    fn hibernate(&self) -> BoxFuture<Result<Heap, GuestError>>;

    /// Ends it now; what is in flight fails with `reason`.
    fn end(&self, reason: &str);

    /// Calls in flight, alarms and messages of sockets included.
    fn in_flight(&self) -> u32;

    /// Whether it can still be called.
    fn alive(&self) -> bool;

    /// Ready when it has ended.
    fn gone(&self) -> BoxFuture<()>;

    /// For who sends it messages of its own kind: the concrete guest.
    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync>;
}

/// Makes guests. One per node; knows the code behind each namespace.
pub trait Guests: Send + Sync + 'static {
    /// Starts one. Returns quickly; a guest that does not come to life says so when asked.
    fn start(&self, start: Start) -> BoxFuture<Result<Arc<dyn Guest>, GuestError>>;

    /// Names code and image in force for a namespace, as [`Heap::code`] does; `None` when there is no such code (any more).
    fn code(&self, namespace: &str) -> Option<String>;
}
