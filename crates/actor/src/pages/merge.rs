//! Joins chapters, so that an actor that is folded often has few files: eight of one size become one, up to a size and to a part of the time that the
//! past is kept, so that what expires still goes piece by piece.
//!
//! Driven by `fold`. Joining copies: each chapter becomes a section of the new one, and any place in it is read as before. The new file is durable
//! before it takes the others' place, and those go only then; what a crash leaves of them is removed when the shelf is loaded.

use std::sync::{Arc, atomic::Ordering};

use super::{
    PagesError,
    chapter::{self, Chapter},
    library::Library,
    shelf::Shelf,
};

/// Chapters of one size that become one. In tests it is soon that there are so many.
const FAN: usize = if cfg!(test) { 3 } else { 8 };
/// Fewer are joined where the bounds do not allow for more.
const FAN_LEAST: usize = FAN / 2 + 1;
/// So many of the newest chapters are looked at.
const LOOK: usize = 64;
/// The largest file that joining makes, in bytes.
const JOINED_BYTES: u64 = 64 << 20;
/// A joined chapter lies within such a part of the time that the past is kept.
const PART: u64 = 16;

impl Library {
    /// How long the past is kept, in milliseconds: chapters are joined so that it can still be dropped bit by bit. 30 days unless told otherwise.
    pub fn keep_for(&self, retention_ms: u64) {
        self.retention_ms.store(retention_ms, Ordering::Relaxed);
    }

    /// Joins chapters where there are many. The caller holds `changing` and has put the shelf right.
    pub(super) fn merge(&self, shelf: &Arc<Shelf>) -> Result<(), PagesError> {
        while let Some(run) = self.next_run(shelf) {
            let path = shelf.history.join(chapter::UNFINISHED);
            let joined = self.sweep(&path, self.join(shelf, &run))?;
            {
                let mut state = shelf.state.write();
                state.chapters.retain(|chapter| !run.iter().any(|old| Arc::ptr_eq(old, chapter)));
                let at = state.chapters.partition_point(|chapter| chapter.from < joined.from);
                state.chapters.insert(at, Arc::new(joined));
                state.moved += 1;
            }
            for old in run {
                self.disk.remove(&old.path).map_err(PagesError::file(&old.path))?;
            }
        }
        Ok(())
    }

    fn join(&self, shelf: &Shelf, run: &[Arc<Chapter>]) -> Result<Chapter, PagesError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Err(PagesError::Gone(shelf.actor)) };
        let count_after = last.index(&*self.disk)?.count_after;
        let mut draft = chapter::Draft::create(&*self.disk, &shelf.history, shelf.actor, first.index(&*self.disk)?.first())?;
        run.iter().try_for_each(|chapter| draft.append(chapter))?;
        draft.finish(count_after)
    }

    /// Neighbours to join: the newest of about one size, when there are enough of them.
    fn next_run(&self, shelf: &Shelf) -> Option<Vec<Arc<Chapter>>> {
        let chapters = shelf.state.read().chapters.clone();
        let mut level = 0;
        loop {
            let fits = |chapter: &&Arc<Chapter>| size_class(chapter) <= level;
            let run = chapters.iter().rev().take(LOOK).take_while(fits).count();
            if run >= FAN
                && let Some(found) = self.within_bounds(&chapters[chapters.len() - run..])
            {
                return Some(found);
            }
            if run == chapters.len().min(LOOK) {
                return None;
            }
            level += 1;
        }
    }

    /// The first of these chapters that can be joined within the bounds. One that cannot be read is no part of it.
    fn within_bounds(&self, chapters: &[Arc<Chapter>]) -> Option<Vec<Arc<Chapter>>> {
        let span_max = self.retention_ms.load(Ordering::Relaxed) / PART;
        let (mut run, mut bytes, mut begins_ms) = (Vec::new(), 0, 0);
        for chapter in chapters {
            let read = chapter.index(&*self.disk).and_then(|index| Ok((index.begins_ms(), chapter.bytes(&*self.disk)?)));
            let (from_ms, size) = read.unwrap_or((chapter.time_ms, JOINED_BYTES));
            let fits = bytes + size < JOINED_BYTES && chapter.time_ms.saturating_sub(begins_ms) <= span_max;
            if !run.is_empty() && !fits {
                if run.len() >= FAN_LEAST {
                    return Some(run);
                }
                run.clear();
            }
            if run.is_empty() {
                (bytes, begins_ms) = (0, from_ms);
            }
            if size < JOINED_BYTES {
                bytes += size;
                run.push(chapter.clone());
            }
        }
        (run.len() >= FAN).then_some(run)
    }
}

/// How many records a chapter has, as a power of eight.
fn size_class(chapter: &Chapter) -> u32 {
    (chapter.to.0 - chapter.from.0).max(1).ilog2() / FAN.ilog2()
}
