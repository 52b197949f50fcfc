//! What is given back: the past that is no longer kept, and actors that are gone.
//!
//! Driven by `actor`. Nothing goes that a view or a child still reads: views are waited for, children are filled first.

use std::sync::Arc;

use skep_id::ActorId;

use super::{
    PagesError,
    chapter::{Chapter, Name},
    library::Library,
    shelf::{Shelf, place_in},
};
use crate::record::{Record, Seq};

/// What an expiry did.
#[derive(Debug, Default)]
pub struct Expired {
    /// Chapters removed.
    pub chapters: usize,
    /// Bytes that they took.
    pub bytes: u64,
    /// Actors whose past could not be expired, and why; the others are not affected.
    pub failed: Vec<(ActorId, PagesError)>,
}

impl Library {
    /// Drops the past that ended before a time, ms since the epoch of Unix: any place that was in force since then can still be viewed. What a
    /// view reads stays until the next call. The latest checkpoint of each actor stays.
    ///
    /// # Errors
    /// When the folder of histories cannot be read.
    pub fn expire(self: &Arc<Self>, before_ms: u64) -> Result<Expired, PagesError> {
        let mut expired = Expired::default();
        for half in self.disk.names(&self.histories).map_err(PagesError::file(&self.histories))? {
            let dir = self.histories.join(half);
            for name in self.disk.names(&dir).map_err(PagesError::file(&dir))? {
                let Ok(actor) = name.parse::<ActorId>() else { continue };
                match self.expire_one(actor, before_ms) {
                    Ok((chapters, bytes)) => (expired.chapters, expired.bytes) = (expired.chapters + chapters, expired.bytes + bytes),
                    Err(e) => expired.failed.push((actor, e)),
                }
            }
        }
        Ok(expired)
    }

    fn expire_one(self: &Arc<Self>, actor: ActorId, before_ms: u64) -> Result<(usize, u64), PagesError> {
        let dir = place_in(&self.histories, actor, "");
        let names = self.disk.names(&dir).map_err(PagesError::file(&dir))?;
        let due = |name: &String| Name::parse(name).is_some_and(|name| name.time_ms <= before_ms);
        if !names.iter().any(due) {
            return Ok((0, 0));
        }
        let shelf = self.shelf(actor)?;
        let _changing = shelf.changing.lock();
        self.drop_chapters(&shelf, before_ms, true)
    }

    /// Drops the first chapters of a shelf whose last record is not after a time; how many, and their bytes. The caller holds `changing`.
    pub(super) fn drop_chapters(self: &Arc<Self>, shelf: &Arc<Shelf>, before_ms: u64, fill: bool) -> Result<(usize, u64), PagesError> {
        shelf.put_right(self)?;
        let (due, children) = {
            let state = shelf.state.read();
            let due: Vec<_> = state.chapters.iter().take_while(|chapter| chapter.time_ms <= before_ms).cloned().collect();
            (due, state.children.clone())
        };
        let end = due.last().map_or(Seq(0), |chapter| chapter.to);
        if fill {
            for (child, at) in children.into_iter().filter(|(_, at)| *at < end) {
                self.part(shelf, child, at)?;
            }
        }
        let kept = self.needed_from(shelf).unwrap_or(Seq(u64::MAX));
        let going: Vec<_> = due.into_iter().take_while(|chapter| chapter.to <= kept).collect();
        if let Some(record) = self.newest_checkpoint(&going) {
            shelf.keep_checkpoint(self, &record)?;
        }
        {
            // Who opens a view pins it while holding the state.
            let mut state = shelf.state.write();
            let kept = shelf.pinned().unwrap_or(Seq(u64::MAX));
            let n = going.iter().take_while(|chapter| chapter.to <= kept).count();
            let gone: Vec<_> = state.chapters.drain(..n).collect();
            state.moved += 1;
            // Strays first: what is left of those that were joined would look like a gap if the joined one went before them.
            let (due, kept) = std::mem::take(&mut state.strays).into_iter().partition(|stray| stray.time_ms <= before_ms);
            state.strays = kept;
            state.leaving.extend::<Vec<_>>(due);
            state.leaving.extend(gone);
        }
        let going = shelf.state.read().leaving.clone();
        let mut bytes = 0;
        for chapter in &going {
            bytes += self.disk.open(&chapter.path).and_then(|file| file.len()).unwrap_or(0);
            self.disk.remove(&chapter.path).map_err(PagesError::file(&chapter.path))?;
            shelf.state.write().leaving.retain(|leaving| leaving.path != chapter.path);
        }
        if !going.is_empty() {
            self.disk.sync_dir(&shelf.history).map_err(PagesError::file(&shelf.history))?;
        }
        if self.disk.names(&shelf.history).is_ok_and(|names| names.is_empty()) {
            self.disk.remove_dir(&shelf.history).map_err(PagesError::file(&shelf.history))?;
        }
        Ok((going.len(), bytes))
    }

    /// The first place that a view, a child or a kept place needs the history from.
    fn needed_from(&self, shelf: &Shelf) -> Option<Seq> {
        let state = shelf.state.read();
        let kept = state.kept.values().map(|kept| kept.at);
        state.children.values().copied().chain(kept).chain(shelf.pinned()).min()
    }

    fn newest_checkpoint(&self, going: &[Arc<Chapter>]) -> Option<Record> {
        let look = |chapter: &Arc<Chapter>| match chapter.checkpoint(&*self.disk, chapter.to) {
            Ok(found) => found,
            Err(e) => {
                tracing::warn!(error = %e, "a checkpoint in a chapter that expires cannot be read and is lost");
                None
            }
        };
        going.iter().rev().find_map(look)
    }

    /// Removes all that an actor has, and its log's memory of it. Children that still read from it are filled first. To be called when its
    /// record of deletion is durable, and again after a start if that was cut off.
    ///
    /// # Errors
    /// When a child cannot be filled, or files cannot be removed; the actor may be gone in part then.
    pub fn delete(self: &Arc<Self>, actor: ActorId) -> Result<(), PagesError> {
        match self.shelf(actor) {
            Ok(shelf) => {
                let _changing = shelf.changing.lock();
                self.part_all(&shelf)?;
                self.remove_files(actor)?;
            }
            // One whose files are damaged can go if nobody reads from it.
            Err(e) => {
                if self.has_children(actor)? {
                    return Err(e);
                }
                self.remove_files(actor)?;
            }
        }
        self.log.forget(actor);
        Ok(())
    }

    /// Parts an actor from its children and its parent.
    fn part_all(self: &Arc<Self>, shelf: &Arc<Shelf>) -> Result<(), PagesError> {
        loop {
            let next = {
                let mut state = shelf.state.write();
                state.gone = state.children.is_empty();
                state.children.first_key_value().map(|(child, at)| (*child, *at))
            };
            let Some((child, at)) = next else { break };
            self.part(shelf, child, at)?;
        }
        let parted = shelf.state.write().origin.take();
        match parted {
            Some((origin, parent)) => self.unmark(parent.shelf(), shelf.actor, origin.at),
            None => Ok(()),
        }
    }

    fn has_children(&self, actor: ActorId) -> Result<bool, PagesError> {
        let dir = place_in(&self.histories, actor, "");
        Ok(self.disk.names(&dir).map_err(PagesError::file(&dir))?.iter().any(|name| name.ends_with(".child")))
    }

    fn remove_files(&self, actor: ActorId) -> Result<(), PagesError> {
        let (base, history) = (place_in(&self.bases, actor, ".base"), place_in(&self.histories, actor, ""));
        for path in [base.with_extension("new"), base.clone()] {
            self.disk.remove(&path).map_err(PagesError::file(&path))?;
        }
        for name in self.disk.names(&history).map_err(PagesError::file(&history))? {
            let path = history.join(name);
            self.disk.remove(&path).map_err(PagesError::file(&path))?;
        }
        self.disk.remove_dir(&history).map_err(PagesError::file(&history))?;
        for path in [base, history] {
            let Some(dir) = path.parent() else { continue };
            if self.disk.exists(dir).map_err(PagesError::file(dir))? {
                self.disk.sync_dir(dir).map_err(PagesError::file(dir))?;
            }
        }
        Ok(())
    }
}
