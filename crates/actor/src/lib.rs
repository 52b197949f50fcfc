//! Actors: one mailbox, one SQLite database, one guest, and a log that decides what has happened.
//!
//! From the bottom: `record` (values) → `log` (durable, ordered, fenced) → `pages` (a database file as base, log tail and
//! history) → `database` (SQLite on those pages, safe against hostile SQL) → `storage` (what a guest may do within a turn)
//! → `actor` (activation, gates, alarms, eviction, fork, rewind), which drives the [`Guest`] trait.
//!
//! It is not: a network of nodes, an isolate, an API. It knows one directory on one machine and a log behind a trait.

#![warn(missing_docs)]

mod actor;
pub mod database;
mod directory;
mod guest;
pub mod log;
pub mod pages;
mod record;
pub mod storage;

pub use actor::{
    Active, ActorError, Actors, AlarmConfig, As, Clock, Config, DatabaseConfig, Doctor, Due, Export, ForkOptions, Metrics, OpenError,
    Place, Shown, Standing, SystemClock, facet_id,
};
pub use directory::{Directory, DirectoryError, Entry, Filter, Told, What};
pub use guest::{Alarm, BoxFuture, Guest, GuestError, Guests, Heap, NotStarted, Start, Thrown};
pub use record::{Epoch, Receipt, Record, RecordKind, Seq, Tier};
pub use storage::Storage;
