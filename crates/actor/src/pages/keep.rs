//! Kept places: points of an actor's past that no retention takes away, each by a name.
//!
//! Driven by `actor` for `storage.snapshot({ name })`. A kept place is an empty file in the actor's history, whose name says it all; expiry keeps the
//! chapters from the first of them on. It costs what the pages written since were before, and no copy. It is not: a checkpoint (there is no heap in it),
//! nor part of the database, which could be rewound past it.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use skep_id::ActorId;

use super::{PagesError, library::Library, shelf::Shelf};
use crate::record::Seq;

/// Places of one actor that may be kept.
pub const KEPT_MAX: usize = 32;
/// Longest name of one, in bytes: in hexadecimal digits it is part of a file's name.
pub const KEPT_NAME_BYTES_MAX: usize = 64;

/// A place that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// By which it is let go, or replaced.
    pub name: String,
    /// The last record that counts.
    pub at: Seq,
    /// About when that was, ms since the epoch of Unix.
    pub time_ms: u64,
}

impl Kept {
    fn path(&self, shelf: &Shelf) -> PathBuf {
        let name: String = self.name.bytes().map(|byte| format!("{byte:02x}")).collect();
        shelf.history.join(format!("{:016x}-{:016x}-{name}.kept", self.at.0, self.time_ms))
    }
}

/// Back from the name of its file.
pub(super) fn parse(name: &str) -> Option<Kept> {
    let mut parts = name.strip_suffix(".kept")?.split('-');
    let mut number = || parts.next().filter(|part| part.len() == 16).and_then(|part| u64::from_str_radix(part, 16).ok());
    let (at, time_ms) = (Seq(number()?), number()?);
    let digits = parts.next()?.as_bytes();
    let bytes: Option<Vec<u8>> =
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()).collect();
    let name = String::from_utf8(bytes?).ok().filter(|name| !name.is_empty())?;
    parts.next().is_none().then_some(Kept { name, at, time_ms })
}

impl Library {
    /// Keeps a place of an actor's past until it is let go; one that was kept by that name before is let go. Durable when it returns.
    ///
    /// # Errors
    /// When the name is empty or too long, too many are kept, or the place is not durable or no longer there.
    pub fn keep(self: &Arc<Self>, actor: ActorId, kept: Kept) -> Result<(), PagesError> {
        if kept.name.is_empty() || kept.name.len() > KEPT_NAME_BYTES_MAX {
            return Err(PagesError::NotKept("The name of a snapshot has 1 to 64 bytes."));
        }
        if !self.knows(actor)? {
            return Err(PagesError::Gone(actor));
        }
        let shelf = self.shelf(actor)?;
        let _changing = shelf.changing.lock();
        shelf.put_right(self)?;
        // It is there, and stays until the mark says so.
        let _view = self.view(actor, kept.at)?;
        let before = {
            let state = shelf.state.read();
            if state.kept.len() >= KEPT_MAX && !state.kept.contains_key(&kept.name) {
                return Err(PagesError::NotKept("An actor keeps at most 32 snapshots: delete one."));
            }
            state.kept.get(&kept.name).cloned()
        };
        let (disk, path) = (&*self.disk, kept.path(&shelf));
        let write = || {
            disk.make_dirs(&shelf.history)?;
            disk.create(&path)?;
            disk.sync_dir(&shelf.history)
        };
        write().map_err(PagesError::file(&path))?;
        shelf.state.write().kept.insert(kept.name.clone(), kept);
        match before.map(|before| before.path(&shelf)).filter(|before| *before != path) {
            Some(before) => self.remove_mark(&shelf, &before),
            None => Ok(()),
        }
    }

    /// Lets a kept place go: retention decides about it again. Whether there was one of that name.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub fn let_go(self: &Arc<Self>, actor: ActorId, name: &str) -> Result<bool, PagesError> {
        if !self.knows(actor)? {
            return Err(PagesError::Gone(actor));
        }
        let shelf = self.shelf(actor)?;
        let _changing = shelf.changing.lock();
        let Some(kept) = shelf.state.read().kept.get(name).cloned() else { return Ok(false) };
        self.remove_mark(&shelf, &kept.path(&shelf))?;
        shelf.state.write().kept.remove(name);
        Ok(true)
    }

    /// The places of an actor that are kept, in the order of their names.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn kept(self: &Arc<Self>, actor: ActorId) -> Result<Vec<Kept>, PagesError> {
        if !self.knows(actor)? {
            return Ok(Vec::new());
        }
        Ok(self.shelf(actor)?.state.read().kept.values().cloned().collect())
    }

    fn remove_mark(&self, shelf: &Shelf, path: &std::path::Path) -> Result<(), PagesError> {
        self.disk.remove(path).and_then(|()| self.disk.sync_dir(&shelf.history)).map_err(PagesError::file(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_read_back() {
        let kept = Kept { name: "vor der Änderung/..".to_owned(), at: Seq(7), time_ms: 9 };
        let name = format!("{:016x}-{:016x}-{}.kept", 7, 9, kept.name.bytes().map(|b| format!("{b:02x}")).collect::<String>());
        assert_eq!(parse(&name), Some(kept));
        let (seven, nine) = (format!("{:016x}", 7), format!("{:016x}", 9));
        for wrong in
            ["", "7-9-61.kept", &format!("{seven}-{nine}-.kept"), &format!("{seven}-{nine}-6.kept"), &format!("{seven}-{nine}-ff.kept")]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
