//! Folding: brings bases forward to the end of the durable log, so that the log can be trimmed.
//!
//! Driven by `actor` when the log is crowded or a tail is long. The order of steps is what makes it safe to be cut off anywhere: the chapter, durable;
//! the pages, durable; the header, durable; then the log is trimmed. Until the header has moved, the log has everything and the chapter has what the
//! pages were.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use parking_lot::Mutex;
use skep_id::ActorId;

use super::{
    Page, PagesError, ZERO,
    base::{Base, Header, Origin},
    chapter::{self, Chapter},
    layer::Layer,
    library::{self, Library},
    shelf::{Shelf, weight},
};
use crate::record::{Record, RecordKind, Seq};

/// Folds at once: enough that one's sync waits while others work, few enough that their memory is small.
const THREADS: usize = 8;
/// One step takes so many records, bytes of records, or pages that changed, whichever comes first: its memory, and what a view of a place within
/// it has to apply.
const STEP_RECORDS: usize = 4 << 10;
const STEP_BYTES: usize = 16 << 20;
const STEP_PAGES: usize = 4096;
/// A child with no more pages from its parent than this is filled by its first fold.
const FILL_PAGES: u32 = 1024;

/// What is folded at once.
struct Step {
    layer: Layer,
    records: Vec<Record>,
    bytes: u64,
}

impl Library {
    /// Brings the bases of actors to the end of their durable logs as it is now. Each succeeds or fails by itself; one that was deleted is left alone.
    pub fn fold(self: &Arc<Self>, actors: &[ActorId]) -> Vec<(ActorId, Result<(), PagesError>)> {
        let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(actors.len())));
        let work = || {
            while let Some(actor) = actors.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = self.fold_one(*actor);
                results.lock().push((*actor, result));
            }
        };
        if actors.len() == 1 {
            work();
        } else {
            thread::scope(|scope| (0..THREADS.min(actors.len())).for_each(|_| drop(scope.spawn(work))));
        }
        results.into_inner()
    }

    fn fold_one(self: &Arc<Self>, actor: ActorId) -> Result<(), PagesError> {
        if !self.knows(actor)? {
            return Err(PagesError::Gone(actor));
        }
        let shelf = self.shelf(actor)?;
        let _changing = shelf.changing.lock();
        shelf.put_right(self)?;
        if shelf.state.read().origin.as_ref().is_some_and(|(origin, _)| origin.count <= FILL_PAGES) {
            self.fill_held(&shelf)?;
        }
        // What comes while it is folded is for the next time: an actor that always writes would never be done with.
        let until = self.log.head(actor).seq;
        while let Some(step) = self.next_step(&shelf, until)? {
            if let Err(e) = self.fold_step(&shelf, &step) {
                // What cannot be put right now will be tried again before anything else is changed.
                if let Err(e) = shelf.put_right(self) {
                    tracing::warn!(%actor, error = %e, "a fold that failed is not undone yet");
                }
                return Err(e);
            }
        }
        // A crash may have come between the header and this: then nothing was left to fold, and the log had the records still.
        let place = shelf.state.read().place();
        self.log.trim(actor, place);
        if !self.keeps_history() {
            self.drop_chapters(&shelf, u64::MAX, false)?;
        } else if let Err(e) = self.merge(&shelf) {
            tracing::warn!(%actor, error = %e, "its history cannot be put together");
        }
        Ok(())
    }

    /// What to fold next; `None` when the base has everything up to a place.
    fn next_step(&self, shelf: &Shelf, until: Seq) -> Result<Option<Step>, PagesError> {
        let (place, count, child) = {
            let state = shelf.state.read();
            if state.gone {
                return Ok(None);
            }
            (state.place(), state.count(), state.children.values().copied().filter(|at| *at > state.place()).min())
        };
        // A chapter ends where a child begins: the child then opens without replaying any of it.
        let head = until.min(child.unwrap_or(Seq(u64::MAX)));
        let mut step = Step { layer: Layer::new(place, count), records: Vec::new(), bytes: 0 };
        let mut after = place;
        while after < head && !step.full() {
            let to = head.min(Seq(after.0.saturating_add(library::WINDOW)));
            for record in self.log.read(shelf.actor, after, to)? {
                if record.kind == RecordKind::Delete {
                    return Ok(None);
                }
                library::apply(&mut step.layer, &record, |page, into| shelf.read(page, into))?;
                step.bytes += weight(&record.body);
                step.records.push(record);
                if step.full() {
                    break;
                }
            }
            after = to;
        }
        Ok((!step.records.is_empty()).then_some(step))
    }

    fn fold_step(&self, shelf: &Arc<Shelf>, step: &Step) -> Result<(), PagesError> {
        let Some(last) = step.records.last() else { return Ok(()) };
        let touched = step.layer.touched();
        let overwritten: Vec<u32> = touched.iter().copied().filter(|page| *page <= step.layer.below_count()).collect();
        let needed = {
            let state = shelf.state.read();
            // A history has no gaps: where there are chapters, another one follows.
            let wanted = self.keeps_history() || shelf.pinned().is_some() || !state.children.is_empty() || !state.kept.is_empty();
            wanted || !overwritten.is_empty() || !state.chapters.is_empty()
        };
        if needed {
            let written = self.write_chapter(shelf, step, &overwritten);
            let chapter = Arc::new(self.sweep(&shelf.history.join(chapter::UNFINISHED), written)?);
            shelf.state.write().chapters.push(chapter);
        } else if let Some(record) = step.records.iter().rev().find(|record| record.kind == RecordKind::Checkpoint) {
            shelf.keep_checkpoint(self, record)?;
        }
        let base = match self.write_base(shelf, step, last, touched) {
            Err(e) => {
                // With a chapter, that says where the base was.
                shelf.state.write().misled = !needed;
                return Err(e);
            }
            Ok(base) => base,
        };
        let shrunk = base.clone();
        let parted = {
            let mut state = shelf.state.write();
            let origin = base.header.origin;
            state.base = Some(base);
            state.moved += 1;
            match (state.origin.take(), origin) {
                (Some((_, parent)), Some(origin)) => {
                    state.origin = Some((origin, parent));
                    None
                }
                (was, _) => was,
            }
        };
        shelf.settle();
        shrunk.shorten()?;
        if let Some((origin, parent)) = parted {
            self.unmark(parent.shelf(), shelf.actor, origin.at)?;
        }
        shelf.shorten_tail(step.bytes);
        self.log.trim(shelf.actor, last.seq);
        Ok(())
    }

    fn write_chapter(&self, shelf: &Shelf, step: &Step, overwritten: &[u32]) -> Result<Chapter, PagesError> {
        self.disk.make_dirs(&shelf.history).map_err(PagesError::file(&shelf.history))?;
        let from = {
            let state = shelf.state.read();
            let time_ms = state.base.as_ref().map_or(0, |base| base.header.time_ms);
            chapter::From { place: state.place(), time_ms, count: state.count() }
        };
        let mut draft = chapter::Draft::create(&*self.disk, &shelf.history, shelf.actor, from)?;
        let mut content = ZERO;
        for page in overwritten {
            shelf.read(*page, &mut content)?;
            draft.page(*page, &content)?;
        }
        for record in &step.records {
            draft.record(record)?;
        }
        draft.finish(step.layer.count)
    }

    /// Gives back the room of what could not be finished; a later attempt would do so as well.
    pub(super) fn sweep<T>(&self, unfinished: &Path, result: Result<T, PagesError>) -> Result<T, PagesError> {
        if result.is_err()
            && let Err(e) = self.disk.remove(unfinished)
        {
            tracing::debug!(file = %unfinished.display(), error = %e, "not removed yet");
        }
        result
    }

    fn write_base(&self, shelf: &Shelf, step: &Step, last: &Record, touched: Vec<u32>) -> Result<Base, PagesError> {
        let (old, origin) = {
            let state = shelf.state.read();
            (state.base.clone(), state.origin.as_ref().map(|(origin, _)| *origin))
        };
        let count = step.layer.count;
        let pages: Vec<u32> = touched.into_iter().filter(|page| *page <= count).collect();
        let floor = step.layer.floor();
        let extent = old.as_ref().map_or(0, |base| base.header.extent).max(pages.last().copied().unwrap_or(0)).min(count);
        let header = Header {
            generation: 0,
            place: last.seq,
            epoch: last.epoch,
            time_ms: last.time_ms,
            head: self.log.head(shelf.actor).seq,
            count,
            extent,
            origin: origin.map(|origin| Origin { count: origin.count.min(floor), ..origin }).filter(|origin| origin.count > 0),
        };
        let content = |page: u32, into: &mut Page| step.layer.read(page, into, |page, into| shelf.read(page, into));
        match old {
            Some(mut base) => {
                write_pages(&base, &pages, content)?;
                base.sync()?;
                base.write_header(header)?;
                Ok(base)
            }
            None => {
                let base = self.new_base(shelf, header, &pages, content)?;
                shelf.sync_name(self)?;
                Ok(base)
            }
        }
    }

    /// Writes a whole base under another name and puts it in place at once; the caller makes the name durable.
    pub(super) fn new_base(
        &self,
        shelf: &Shelf,
        header: Header,
        pages: &[u32],
        content: impl Fn(u32, &mut Page) -> Result<(), PagesError>,
    ) -> Result<Base, PagesError> {
        let dir = shelf.path.parent().unwrap_or(&self.bases);
        self.disk.make_dirs(dir).map_err(PagesError::file(dir))?;
        let temporary = shelf.path.with_extension("new");
        let write = || {
            let mut base = Base::create(&*self.disk, &temporary, shelf.actor)?;
            write_pages(&base, pages, content)?;
            base.complete(header)?;
            self.disk.rename(&temporary, &shelf.path).map_err(PagesError::file(&shelf.path))?;
            base.path.clone_from(&shelf.path);
            Ok(base)
        };
        self.sweep(&temporary, write())
    }
}

impl Step {
    fn full(&self) -> bool {
        self.records.len() >= STEP_RECORDS || self.bytes >= STEP_BYTES as u64 || self.layer.len() >= STEP_PAGES
    }
}

fn write_pages(base: &Base, pages: &[u32], content: impl Fn(u32, &mut Page) -> Result<(), PagesError>) -> Result<(), PagesError> {
    let mut page = ZERO;
    for number in pages {
        content(*number, &mut page)?;
        base.write(*number, &page)?;
    }
    Ok(())
}
