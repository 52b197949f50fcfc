//! An actor's database as pages: a base on disk, what the log's tail changed since, and what was before.
//!
//! Driven by `database` (which runs SQLite on [`Pages`] and [`View`]), `storage` (which makes records of commits) and `actor` (which folds,
//! forks, expires and deletes). The log decides what has happened; everything here is rebuilt from base and log, and nothing is written to a
//! base before its record is durable.
//!
//! It is not: SQLite, a cache, a judge of who owns an actor (the log's fence is).

mod base;
mod chapter;
mod commit;
mod disk;
mod expire;
mod fold;
mod fork;
mod inspect;
mod keep;
mod layer;
mod library;
mod live;
mod merge;
mod scan;
mod shelf;
mod view;

#[cfg(test)]
mod proof;
#[cfg(test)]
mod sim;

use std::{io, path::PathBuf};

use skep_id::ActorId;

use crate::{log::LogError, record::Seq};

pub use commit::{Change, CommitMeta, Delta, Fork, decode_commit, decode_fork};
pub use expire::Expired;
pub use inspect::Finding;
pub use keep::{KEPT_MAX, KEPT_NAME_BYTES_MAX, Kept};
pub use library::Library;
pub use live::Pages;
pub use view::View;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// One page's content.
type Page = [u8; PAGE];

const ZERO: Page = [0; PAGE];

/// Why pages cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// A file failed.
    #[error("{}: {}", .0.display(), .1)]
    File(PathBuf, #[source] io::Error),
    /// A file holds what was never written there.
    #[error("{}: damaged at byte {}: {}", .file.display(), .offset, .why)]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record of the log, or of a chapter, does not say what its kind should.
    #[error("record {seq} of actor {actor} cannot be read: {why}")]
    Record {
        /// Whose.
        actor: ActorId,
        /// Its place.
        seq: Seq,
        /// What is wrong.
        why: String,
    },
    /// The base is further than the log: the log has lost records, or is another one.
    #[error("{}: as of place {place}, but the log of actor {actor} ends at {head}", .file.display())]
    Ahead {
        /// Whose.
        actor: ActorId,
        /// The base.
        file: PathBuf,
        /// Its place.
        place: Seq,
        /// The log's last place.
        head: Seq,
    },
    /// The past is kept for a time, and that place lies before it.
    #[error("place {at} of actor {actor} is no longer kept: the first one is {first}")]
    Expired {
        /// Whose.
        actor: ActorId,
        /// The place asked for; for a time asked for, 0.
        at: Seq,
        /// The first place that is kept.
        first: Seq,
    },
    /// There is no such place yet.
    #[error("place {at} of actor {actor} is not durable: the log ends at {head}")]
    NotYet {
        /// Whose.
        actor: ActorId,
        /// The place asked for.
        at: Seq,
        /// The log's last place.
        head: Seq,
    },
    /// A child was to get an id that is in use.
    #[error("actor {0} exists")]
    Exists(ActorId),
    /// As many places of that actor are kept as may be, or the name is none that a kept place may have.
    #[error("{0}")]
    NotKept(&'static str),
    /// There is no such actor, or it was deleted.
    #[error("there is no actor {0}")]
    Gone(ActorId),
}

impl PagesError {
    /// For `map_err` of what a disk does to a file.
    fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |e| Self::File(path, e)
    }

    fn damaged(file: &std::path::Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), offset, why: why.into() }
    }
}
