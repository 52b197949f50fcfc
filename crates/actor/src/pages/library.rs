//! All actors' pages of one node: opens them, as they are and as they were.
//!
//! Driven by `actor` and `storage`. It keeps nothing of an actor of which nothing is open. Files below its folder:
//! `base/<2 hex>/<id>.base`, and in `history/<2 hex>/<id>/` the chapters, the latest checkpoint of the time before them, and marks of children.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use skep_id::ActorId;

use super::{
    Pages, PagesError, View,
    chapter::From,
    commit::decode_commit,
    disk::{Disk, LocalDisk},
    layer::Layer,
    shelf::{Pin, Shelf, place_in, weight},
};
use crate::{
    log::{DurableLog, Head, LogError},
    record::{Epoch, Record, RecordKind, Seq},
};

/// How long the past is kept unless somebody says so: 30 days.
const RETENTION_MS: u64 = 30 * 24 * 3_600_000;
/// Records that are read from the log at once.
pub(super) const WINDOW: u64 = 1024;
/// How often a place is looked up again because it was moved from the log to a chapter, or to another one, meanwhile.
const TRIES: usize = 16;

/// The folder with bases and histories of all actors of a node.
#[derive(Debug)]
pub struct Library {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) log: Arc<dyn DurableLog>,
    pub(super) bases: PathBuf,
    pub(super) histories: PathBuf,
    shelves: Mutex<HashMap<ActorId, Weak<Shelf>>>,
    history: AtomicBool,
    /// How long it is kept.
    pub(super) retention_ms: AtomicU64,
    /// Memory that the overlays of all actors take, in bytes.
    overlays: Arc<AtomicUsize>,
}

/// A database as of a place, not yet for anyone.
pub(super) struct Opened {
    layer: Layer,
    pin: Pin,
    at: Seq,
    tail: u64,
}

impl Library {
    /// Opens the library in a folder, which is made if it is missing.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(dir: &Path, log: Arc<dyn DurableLog>) -> Result<Arc<Self>, PagesError> {
        Self::on(Arc::new(LocalDisk), dir, log)
    }

    pub(super) fn on(disk: Arc<dyn Disk>, dir: &Path, log: Arc<dyn DurableLog>) -> Result<Arc<Self>, PagesError> {
        let (bases, histories) = (dir.join("base"), dir.join("history"));
        for dir in [&bases, &histories] {
            disk.make_dirs(dir).map_err(PagesError::file(dir))?;
        }
        Ok(Arc::new(Self {
            disk,
            log,
            bases,
            histories,
            shelves: Mutex::default(),
            history: AtomicBool::new(true),
            retention_ms: AtomicU64::new(RETENTION_MS),
            overlays: Arc::default(),
        }))
    }

    /// Whether the past is kept at all, until [`Library::expire`] drops it; it is unless told otherwise. Without, a fold leaves no chapter
    /// behind that nothing needs, and only the latest checkpoint.
    pub fn keep_history(&self, yes: bool) {
        self.history.store(yes, Ordering::Relaxed);
    }

    pub(super) fn keeps_history(&self) -> bool {
        self.history.load(Ordering::Relaxed)
    }

    /// The shelf of an actor, known or not.
    pub(super) fn shelf(self: &Arc<Self>, actor: ActorId) -> Result<Arc<Shelf>, PagesError> {
        let shelf = {
            let mut shelves = self.shelves.lock();
            let open = shelves.get(&actor).and_then(Weak::upgrade);
            open.unwrap_or_else(|| {
                let (base, history) = (place_in(&self.bases, actor, ".base"), place_in(&self.histories, actor, ""));
                let shelf = Arc::new(Shelf::new(self, actor, base, history));
                shelves.insert(actor, Arc::downgrade(&shelf));
                shelf
            })
        };
        shelf.load(self)?;
        Ok(shelf)
    }

    /// Forgets a shelf that nobody holds any more.
    pub(super) fn put_away(&self, actor: ActorId) {
        let mut shelves = self.shelves.lock();
        if shelves.get(&actor).is_some_and(|shelf| shelf.strong_count() == 0) {
            shelves.remove(&actor);
        }
    }

    /// Whether there is anything of an actor.
    pub(super) fn knows(&self, actor: ActorId) -> Result<bool, PagesError> {
        let path = place_in(&self.bases, actor, ".base");
        Ok(self.log.head(actor) != Head::default() || self.disk.exists(&path).map_err(PagesError::file(&path))?)
    }

    /// The pages of an actor as of its last durable record. `None`: there is no such actor, or its last record says that it is gone. One
    /// actor's pages are opened by one owner at a time.
    ///
    /// # Errors
    /// When files or log cannot be read or are damaged.
    pub fn pages(self: &Arc<Self>, actor: ActorId) -> Result<Option<Pages>, PagesError> {
        if !self.knows(actor)? {
            return Ok(None);
        }
        let shelf = self.shelf(actor)?;
        let opened = match self.open_at(&shelf, None) {
            Err(PagesError::Gone(gone)) if gone == actor => return Ok(None),
            other => other?,
        };
        shelf.set_tail(opened.tail);
        Ok(Some(self.opened(shelf, opened.layer)))
    }

    /// The pages of an actor that is new: none, as of place 0. Nothing is written.
    ///
    /// # Errors
    /// When there is such an actor.
    pub fn create(self: &Arc<Self>, actor: ActorId) -> Result<Pages, PagesError> {
        if self.knows(actor)? {
            return Err(PagesError::Exists(actor));
        }
        let shelf = self.shelf(actor)?;
        shelf.set_tail(0);
        Ok(self.opened(shelf, Layer::new(Seq(0), 0)))
    }

    /// The pages of an owner whose fence is the next record.
    pub(super) fn opened(&self, shelf: Arc<Shelf>, layer: Layer) -> Pages {
        let epoch = Epoch(self.log.head(shelf.actor).epoch.0 + 1);
        Pages::new(shelf, layer, epoch, self.overlays.clone())
    }

    /// Memory that pages take which no base has got yet, of all actors whose pages are open, in bytes.
    #[must_use]
    pub fn overlay_bytes(&self) -> usize {
        self.overlays.load(Ordering::Relaxed)
    }

    /// The same of one actor, and what its next activation would read, as [`Library::tail_bytes`]; 0 where that would have to be looked up.
    #[must_use]
    pub fn weight(&self, actor: ActorId) -> (usize, u64) {
        let shelf = self.shelves.lock().get(&actor).and_then(Weak::upgrade);
        shelf.map_or((0, 0), |shelf| (shelf.overlay().map_or(0, |overlay| overlay.layer().bytes()), shelf.tail().unwrap_or(0)))
    }

    /// Counts a record that the owner appended beside its commits, with a body of so many bytes, to what the next activation reads.
    pub fn appended(&self, actor: ActorId, bytes: usize) {
        let shelf = self.shelves.lock().get(&actor).and_then(Weak::upgrade);
        if let Some(shelf) = shelf {
            shelf.lengthen_tail(bytes);
        }
    }

    /// The database of an actor whose pages are open, as of a record that its owner appends at `at` just now, so that no commit lies in between:
    /// its pages are shared, nothing is read. It is a view of what has happened once that record is durable. `None`: nobody has the pages open.
    ///
    /// # Errors
    /// When files cannot be read or are damaged.
    pub fn still(self: &Arc<Self>, actor: ActorId, at: Seq) -> Result<Option<View>, PagesError> {
        let shelf = self.shelf(actor)?;
        let layer = shelf.overlay().map(|overlay| overlay.layer().clone());
        Ok(layer.filter(|layer| layer.at < at).and_then(|layer| shelf.view(layer, at)))
    }

    /// An actor's database as of a durable place.
    ///
    /// # Errors
    /// When there is no such actor or place, the place is no longer kept, or files or log cannot be read or are damaged.
    pub fn view(self: &Arc<Self>, actor: ActorId, at: Seq) -> Result<View, PagesError> {
        if !self.knows(actor)? {
            return Err(PagesError::Gone(actor));
        }
        let shelf = self.shelf(actor)?;
        if let Some(view) = self.shared(&shelf, at) {
            return Ok(view);
        }
        let opened = self.open_at(&shelf, Some(at))?;
        Ok(View::new(opened.layer, opened.at, opened.pin))
    }

    /// What who has the pages open has, if that is the database as of a durable place: nothing was committed after it, and nobody else owns it.
    fn shared(&self, shelf: &Arc<Shelf>, at: Seq) -> Option<View> {
        let (overlay, head) = (shelf.overlay()?, self.log.head(shelf.actor));
        if at > head.seq || head.epoch > overlay.epoch {
            return None;
        }
        let layer = overlay.layer().clone();
        if layer.at <= at { shelf.view(layer, at) } else { None }
    }

    /// Lays what records changed above the nearest place before `at` (or the log's end) that pages can be read as of.
    pub(super) fn open_at(&self, shelf: &Arc<Shelf>, at: Option<Seq>) -> Result<Opened, PagesError> {
        self.again_if_moved(shelf, || {
            let head = self.log.head(shelf.actor).seq;
            let at = at.unwrap_or(head);
            let state = shelf.state.read();
            if state.gone {
                return Err(PagesError::Gone(shelf.actor));
            }
            if at > head {
                return Err(PagesError::NotYet { actor: shelf.actor, at, head });
            }
            let chapter = if at < state.place() { state.chapter_of(at).cloned() } else { None };
            if chapter.is_none() && at < state.place() {
                return Err(PagesError::Expired { actor: shelf.actor, at, first: state.first() });
            }
            // From the beginning of the section that the place lies in, or from the base.
            let below = match &chapter {
                Some(chapter) => chapter.index(&*self.disk)?.section_of(at),
                None => From { place: state.place(), time_ms: 0, count: state.count() },
            };
            let pin = shelf.pin(below.place);
            drop(state);
            let mut opened = Opened { layer: Layer::new(below.place, below.count), pin, at, tail: 0 };
            let below = below.place;
            match chapter {
                Some(chapter) => chapter.each_block(&*self.disk, (below, at), |records| opened.apply(records))?,
                None => {
                    let mut after = below;
                    while after < at {
                        let to = at.min(Seq(after.0.saturating_add(WINDOW)));
                        opened.apply(&self.log.read(shelf.actor, after, to)?)?;
                        after = to;
                    }
                }
            }
            Ok(opened)
        })
    }

    /// Looks again when a fold has moved records from the log to a chapter between two steps, or chapters were joined or dropped.
    fn again_if_moved<T>(&self, shelf: &Shelf, mut look: impl FnMut() -> Result<T, PagesError>) -> Result<T, PagesError> {
        for _ in 0..TRIES {
            let moved = || shelf.state.read().moved;
            let before = moved();
            match look() {
                Err(PagesError::Log(LogError::Trimmed { .. })) if moved() != before => {}
                Err(PagesError::File(_, e)) if e.kind() == io::ErrorKind::NotFound && moved() != before => {}
                result => return result,
            }
        }
        look()
    }

    /// The last place whose record was not written after a time (ms since the epoch of Unix, by the clock of who wrote it).
    ///
    /// # Errors
    /// When there is no such actor, the time lies before what is kept, or files or log cannot be read or are damaged.
    pub fn place_at(self: &Arc<Self>, actor: ActorId, time_ms: u64) -> Result<Seq, PagesError> {
        if !self.knows(actor)? {
            return Err(PagesError::Gone(actor));
        }
        let shelf = self.shelf(actor)?;
        if let Some(record) = self.last_in_tail(&shelf, Seq(u64::MAX), |record| record.time_ms <= time_ms)? {
            return Ok(record.seq);
        }
        self.again_if_moved(&shelf, || {
            let (chapters, base) = {
                let state = shelf.state.read();
                (state.chapters.clone(), state.base.as_ref().map(|base| base.header))
            };
            for chapter in chapters.iter().rev() {
                if let Some(place) = chapter.place_at(&*self.disk, time_ms)? {
                    return Ok(place);
                }
            }
            let (first, first_ms) = match (chapters.first(), base) {
                (Some(chapter), _) => (chapter.from, chapter.index(&*self.disk)?.first().time_ms),
                (None, Some(header)) => (header.place, header.time_ms),
                (None, None) => (Seq(0), 0),
            };
            if first == Seq(0) || first_ms <= time_ms { Ok(first) } else { Err(PagesError::Expired { actor, at: Seq(0), first }) }
        })
    }

    /// When the record at a place was written (ms since the epoch of Unix, by the clock of who wrote it).
    ///
    /// # Errors
    /// When there is no such actor, the place is no longer kept, or files or log cannot be read or are damaged.
    pub fn time_of(self: &Arc<Self>, actor: ActorId, at: Seq) -> Result<u64, PagesError> {
        if !self.knows(actor)? {
            return Err(PagesError::Gone(actor));
        }
        let shelf = self.shelf(actor)?;
        if let Some(record) = self.last_in_tail(&shelf, at, |_| true)? {
            return Ok(record.time_ms);
        }
        self.again_if_moved(&shelf, || {
            let (chapters, base) = {
                let state = shelf.state.read();
                (state.chapters.clone(), state.base.as_ref().map(|base| base.header))
            };
            let mut time_ms = None;
            for chapter in chapters.iter().filter(|chapter| chapter.from < at && chapter.to >= at) {
                chapter.each_block(&*self.disk, (Seq(at.0 - 1), at), |records| {
                    time_ms = records.iter().find(|record| record.seq == at).map(|record| record.time_ms).or(time_ms);
                    Ok(())
                })?;
            }
            let first = chapters.first().map_or(base.map_or(Seq(0), |header| header.place), |chapter| chapter.from);
            let of_base = base.filter(|header| header.place == at).map(|header| header.time_ms);
            time_ms.or(of_base).ok_or(PagesError::Expired { actor, at, first })
        })
    }

    /// The latest checkpoint that is not after a place. The last one of the time that is no longer kept is still found.
    ///
    /// # Errors
    /// When there is no such actor, or files or log cannot be read or are damaged.
    pub fn checkpoint(self: &Arc<Self>, actor: ActorId, at: Seq) -> Result<Option<Record>, PagesError> {
        if !self.knows(actor)? {
            return Err(PagesError::Gone(actor));
        }
        let shelf = self.shelf(actor)?;
        if let Some(record) = self.last_in_tail(&shelf, at, |record| record.kind == RecordKind::Checkpoint)? {
            return Ok(Some(record));
        }
        self.again_if_moved(&shelf, || {
            let chapters = shelf.state.read().chapters.clone();
            for chapter in chapters.iter().rev().filter(|chapter| chapter.from < at) {
                if let Some(record) = chapter.checkpoint(&*self.disk, at)? {
                    return Ok(Some(record));
                }
            }
            Ok(shelf.checkpoint(self)?.filter(|record| record.seq <= at))
        })
    }

    /// The place that an actor's base has been brought to; 0 if it has none. Of what lies before it the log need not know anything.
    ///
    /// # Errors
    /// When files or log cannot be read or are damaged.
    pub fn folded_to(self: &Arc<Self>, actor: ActorId) -> Result<Seq, PagesError> {
        Ok(self.shelf(actor)?.state.read().place())
    }

    /// The latest record that took an actor over; `None` where it lies before what is kept.
    ///
    /// # Errors
    /// When there is no such actor, or files or log cannot be read or are damaged.
    pub fn fence(self: &Arc<Self>, actor: ActorId) -> Result<Option<Record>, PagesError> {
        if !self.knows(actor)? {
            return Err(PagesError::Gone(actor));
        }
        let shelf = self.shelf(actor)?;
        let fence = |record: &Record| record.kind == RecordKind::Fence;
        if let Some(record) = self.last_in_tail(&shelf, Seq(u64::MAX), fence)? {
            return Ok(Some(record));
        }
        let chapters = shelf.state.read().chapters.clone();
        for chapter in chapters.iter().rev() {
            let mut last = None;
            chapter.each_block(&*self.disk, (chapter.from, chapter.to), |records| {
                last = records.iter().rev().find(|record| fence(record)).cloned().or(last.take());
                Ok(())
            })?;
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// The last record after the base's place, up to another, that is as wanted. Most often it is one of the very last.
    fn last_in_tail(&self, shelf: &Shelf, to: Seq, wanted: impl Fn(&Record) -> bool) -> Result<Option<Record>, PagesError> {
        self.again_if_moved(shelf, || {
            let place = shelf.state.read().place();
            let (mut to, mut window) = (self.log.head(shelf.actor).seq.min(to), 1);
            while to > place {
                let after = place.max(Seq(to.0.saturating_sub(window)));
                window = (window * 4).min(WINDOW);
                let records = self.log.read(shelf.actor, after, to)?;
                if let Some(record) = records.into_iter().rev().find(|record| wanted(record)) {
                    return Ok(Some(record));
                }
                to = after;
            }
            Ok(None)
        })
    }

    /// Kinds of the records of an actor after a place up to another, from the log or its history. `None`: they are no longer kept.
    ///
    /// # Errors
    /// When files or log cannot be read or are damaged.
    pub fn kinds(self: &Arc<Self>, actor: ActorId, after: Seq, to: Seq) -> Result<Option<Vec<RecordKind>>, PagesError> {
        let shelf = self.shelf(actor)?;
        self.again_if_moved(&shelf, || {
            let (place, first, chapters) = {
                let state = shelf.state.read();
                (state.place(), state.first(), state.chapters.clone())
            };
            if after < first {
                return Ok(None);
            }
            let mut kinds = Vec::new();
            for chapter in chapters.iter().filter(|chapter| chapter.to > after && chapter.from < to) {
                chapter.each_block(&*self.disk, (after, to), |records| {
                    kinds.extend(records.iter().map(|record| record.kind));
                    Ok(())
                })?;
            }
            if to > place {
                kinds.extend(self.log.read(actor, after.max(place), to)?.iter().map(|record| record.kind));
            }
            Ok(Some(kinds))
        })
    }

    /// What the next activation of an actor reads: its records that no fold has brought to its base yet, in bytes, each counted as 1 KiB longer than
    /// its body. Counted while its pages are open, else read from the log.
    ///
    /// # Errors
    /// When files or log cannot be read or are damaged.
    pub fn tail_bytes(self: &Arc<Self>, actor: ActorId) -> Result<u64, PagesError> {
        if !self.knows(actor)? {
            return Ok(0);
        }
        let shelf = self.shelf(actor)?;
        if let Some(bytes) = shelf.tail() {
            return Ok(bytes);
        }
        let bytes = std::cell::Cell::new(0);
        self.again_if_moved(&shelf, || {
            bytes.set(0);
            let (mut after, head) = (shelf.state.read().place(), self.log.head(actor).seq);
            while after < head {
                let to = head.min(Seq(after.0.saturating_add(WINDOW)));
                let read: u64 = self.log.read(actor, after, to)?.iter().map(|record| weight(&record.body)).sum();
                bytes.set(bytes.get() + read);
                after = to;
            }
            Ok(())
        })?;
        Ok(bytes.get())
    }

    /// Actors that have a base or a history, in no order. Those that have only records in the log are not among them.
    ///
    /// # Errors
    /// When folders cannot be read.
    pub fn actors(&self) -> Result<Vec<ActorId>, PagesError> {
        let mut actors = Vec::new();
        for dir in [&self.bases, &self.histories] {
            for half in self.disk.names(dir).map_err(PagesError::file(dir))? {
                let dir = dir.join(half);
                let names = self.disk.names(&dir).map_err(PagesError::file(&dir))?;
                actors.extend(names.iter().filter_map(|name| name.strip_suffix(".base").unwrap_or(name).parse::<ActorId>().ok()));
            }
        }
        actors.sort_unstable();
        actors.dedup();
        Ok(actors)
    }
}

impl Opened {
    fn apply(&mut self, records: &[Record]) -> Result<(), PagesError> {
        for record in records {
            self.tail += weight(&record.body);
            apply(&mut self.layer, record, |page, into| self.pin.shelf.read_as_of(self.pin.place(), page, into))?;
        }
        Ok(())
    }
}

/// Lays one record above what a layer has.
pub(super) fn apply(
    layer: &mut Layer,
    record: &Record,
    below: impl Fn(u32, &mut super::Page) -> Result<(), PagesError>,
) -> Result<(), PagesError> {
    match record.kind {
        RecordKind::Commit => {
            let decoded = decode_commit(&record.body);
            let (_, delta) = decoded.map_err(|why| PagesError::Record { actor: record.actor, seq: record.seq, why })?;
            layer.apply(record.seq, &delta, below)
        }
        RecordKind::Delete => Err(PagesError::Gone(record.actor)),
        RecordKind::Fence | RecordKind::Checkpoint | RecordKind::Fork => Ok(()),
    }
}
