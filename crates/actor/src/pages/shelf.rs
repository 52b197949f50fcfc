//! What is on disk of one actor: its base, its chapters, its latest checkpoint, and marks of children that still read from it.
//!
//! Driven by `library` and everything that reads below a [`Layer`](super::layer::Layer). One shelf for each actor that something is open of; it is
//! put right when it is loaded. A chapter is on the shelf before any page that it keeps is overwritten, so that a reader who looks at the chapters
//! and then at the base, under one lock, finds every page as it was.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use skep_id::ActorId;

use super::{
    Page, PagesError, ZERO,
    base::{Base, Origin},
    chapter::{self, Chapter},
    commit::decode_fork,
    keep::{self, Kept},
    layer::Layer,
    library::Library,
    live::Overlay,
    scan::Scan,
    view::View,
};
use crate::record::{Record, RecordKind, Seq};

/// The length of the log's tail is not known.
const UNKNOWN: u64 = u64::MAX;
/// Finding, checking and applying a record takes as long as reading so many bytes.
const RECORD_COST: u64 = 1 << 10;
/// A child's log says among so many first records where it began.
const FORK_WITHIN: u64 = 8;
pub(super) const CHECKPOINT: &str = "checkpoint";
const CHECKPOINT_MAGIC: &[u8; 8] = b"SKEPHEP1";

/// One actor's files.
#[derive(Debug)]
pub(super) struct Shelf {
    pub actor: ActorId,
    /// Its base.
    pub path: PathBuf,
    /// Its history's folder.
    pub history: PathBuf,
    library: Weak<Library>,
    /// Held by who changes files: a fold, a fill, an expiry, a repair.
    pub changing: Mutex<()>,
    loading: Mutex<()>,
    loaded: AtomicBool,
    pub state: RwLock<State>,
    /// Places that views need the history from, and how many views do.
    pins: Mutex<BTreeMap<Seq, usize>>,
    /// What reading the records after the base's place costs, as far as this process saw them.
    tail: AtomicU64,
    /// Of who has the pages open.
    overlay: Mutex<Weak<Overlay>>,
}

/// What the files are.
#[derive(Debug, Default)]
pub(super) struct State {
    pub base: Option<Base>,
    /// In order; each ends where the next begins, and the last at the base's place.
    pub chapters: Vec<Arc<Chapter>>,
    /// Where the pages are that a child's base has not got.
    pub origin: Option<(Origin, View)>,
    /// Children that still read from this actor, and as of which place.
    pub children: BTreeMap<ActorId, Seq>,
    /// Places that are kept until somebody says otherwise, by name.
    pub kept: BTreeMap<String, Kept>,
    /// Chapters that do not lead up to the base.
    pub strays: Vec<Arc<Chapter>>,
    /// Chapters of a past that is not kept any more, to be removed.
    pub leaving: Vec<Arc<Chapter>>,
    /// The base as it is read, or its name, may not be durable.
    pub unsure: bool,
    /// The file's header may be that of a fold that failed and left no chapter.
    pub misled: bool,
    /// Counts what moved between log and chapters, or among these.
    pub moved: u64,
    pub gone: bool,
}

impl State {
    /// The place of the base.
    pub fn place(&self) -> Seq {
        self.base.as_ref().map_or(Seq(0), |base| base.header.place)
    }

    /// Pages at that place.
    pub fn count(&self) -> u32 {
        match (&self.base, &self.origin) {
            (Some(base), _) => base.header.count,
            (None, Some((origin, _))) => origin.count,
            (None, None) => 0,
        }
    }

    /// The first place that is kept.
    pub fn first(&self) -> Seq {
        self.chapters.first().map_or(self.place(), |chapter| chapter.from)
    }

    /// The chapter that a place before the base's lies in.
    pub fn chapter_of(&self, at: Seq) -> Option<&Arc<Chapter>> {
        self.chapters.iter().find(|chapter| chapter.from <= at && at < chapter.to)
    }

    /// A page as of the base's place.
    pub fn read(&self, page: u32, into: &mut Page) -> Result<(), PagesError> {
        if let Some(base) = &self.base
            && base.read(page, into)?
        {
            return Ok(());
        }
        match &self.origin {
            Some((origin, parent)) if page <= origin.count => parent.read(page, into),
            _ => {
                *into = ZERO;
                Ok(())
            }
        }
    }
}

/// Keeps the history from a place on.
#[derive(Debug)]
pub(super) struct Pin {
    pub shelf: Arc<Shelf>,
    place: Seq,
}

impl Pin {
    pub fn place(&self) -> Seq {
        self.place
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        *self.shelf.pins.lock().entry(self.place).or_default() += 1;
        Self { shelf: self.shelf.clone(), place: self.place }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.shelf.pins.lock();
        if let Some(views) = pins.get_mut(&self.place) {
            *views -= 1;
            if *views == 0 {
                pins.remove(&self.place);
            }
        }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        if let Some(library) = self.library.upgrade() {
            library.put_away(self.actor);
        }
    }
}

impl Shelf {
    pub fn new(library: &Arc<Library>, actor: ActorId, path: PathBuf, history: PathBuf) -> Self {
        Self {
            actor,
            path,
            history,
            library: Arc::downgrade(library),
            changing: Mutex::default(),
            loading: Mutex::default(),
            loaded: AtomicBool::new(false),
            state: RwLock::default(),
            pins: Mutex::default(),
            tail: AtomicU64::new(UNKNOWN),
            overlay: Mutex::default(),
        }
    }

    /// The library it belongs to; gone only when the node is going down.
    pub fn library(&self) -> Result<Arc<Library>, PagesError> {
        self.library.upgrade().ok_or(PagesError::Gone(self.actor))
    }

    /// Reads what there is, once, and undoes a fold that was cut off.
    pub fn load(&self, library: &Arc<Library>) -> Result<(), PagesError> {
        let _loading = self.loading.lock();
        if self.loaded.load(Ordering::Acquire) {
            return Ok(());
        }
        let base = Base::open(&*library.disk, &self.path, self.actor)?;
        // Who wrote the base last may have been killed before it was durable.
        let mut state = State { unsure: base.is_some(), base, ..State::default() };
        self.load_history(library, &mut state)?;
        let log = library.log.head(self.actor);
        let fork = match &state.base {
            Some(base) if log.seq < base.header.place => {
                return Err(PagesError::Ahead { actor: self.actor, file: self.path.clone(), place: base.header.place, head: log.seq });
            }
            Some(base) => base.header.origin,
            None if log.first > Seq(1) && self.deleted(library, log.seq)? => {
                (state.gone, state.chapters) = (true, Vec::new());
                None
            }
            None if log.first > Seq(1) => return Err(PagesError::damaged(&self.path, 0, "the file is missing")),
            None => self.fork_in_log(library, log.seq)?,
        };
        if let Some(origin) = fork {
            if origin.parent == self.actor {
                return Err(PagesError::damaged(&self.path, 0, "it says that the actor is its own parent"));
            }
            match library.view(origin.parent, origin.at) {
                Ok(view) => state.origin = Some((origin, view)),
                // Children that read through it would have kept its parent: nobody needs what is left of one that is deleted itself.
                Err(PagesError::Gone(_)) if self.deleted(library, log.seq)? => (state.gone, state.chapters) = (true, Vec::new()),
                Err(error) => return Err(error),
            }
        }
        if !state.gone {
            self.arrange(library, &mut state)?;
        }
        *self.state.write() = state;
        self.loaded.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether the actor's last record says that it is gone: some of its files may be.
    fn deleted(&self, library: &Library, head: Seq) -> Result<bool, PagesError> {
        let last = library.log.read(self.actor, Seq(head.0.saturating_sub(1)), head)?;
        Ok(last.last().is_some_and(|record| record.kind == RecordKind::Delete))
    }

    /// Where the actor began, as its log says.
    fn fork_in_log(&self, library: &Library, head: Seq) -> Result<Option<Origin>, PagesError> {
        if head == Seq(0) {
            return Ok(None);
        }
        let records = library.log.read(self.actor, Seq(0), head.min(Seq(FORK_WITHIN)))?;
        let Some(record) = records.iter().find(|record| record.kind == RecordKind::Fork) else { return Ok(None) };
        let fork = decode_fork(&record.body).map_err(|why| PagesError::Record { actor: self.actor, seq: record.seq, why })?;
        Ok(Some(Origin { parent: fork.parent, at: fork.at, count: fork.count }))
    }

    fn load_history(&self, library: &Library, state: &mut State) -> Result<(), PagesError> {
        for name in library.disk.names(&self.history).map_err(PagesError::file(&self.history))? {
            if let Some(parsed) = chapter::Name::parse(&name) {
                state.chapters.push(Arc::new(Chapter::new(self.history.join(&name), self.actor, parsed)));
            } else if let Some((child, at)) = parse_child(&name) {
                if library.knows(child)? {
                    state.children.insert(child, at);
                } else {
                    let path = self.history.join(&name);
                    library.disk.remove(&path).map_err(PagesError::file(&path))?;
                }
            } else if let Some(kept) = keep::parse(&name) {
                // Of two of one name the later one was to take the other's place.
                let known = state.kept.get(&kept.name).is_some_and(|known| known.at >= kept.at);
                if !known {
                    state.kept.insert(kept.name.clone(), kept);
                }
            }
        }
        state.chapters.sort_by_key(|chapter| (chapter.from, chapter.to));
        Ok(())
    }

    /// Keeps the chapters that lead up to the base, and puts right what a cut-off fold left.
    fn arrange(&self, library: &Library, state: &mut State) -> Result<(), PagesError> {
        let place = state.place();
        let unfinished = state.chapters.pop_if(|chapter| chapter.from >= place);
        // Of those that end at one place, one that was joined has what the others have; a crash may have left both.
        let (mut from, mut kept) = (place, Vec::new());
        let longest = |to: Seq| state.chapters.iter().filter(|chapter| chapter.to == to).min_by_key(|chapter| chapter.from).cloned();
        while let Some(chapter) = longest(from) {
            from = chapter.from;
            kept.push(chapter);
        }
        kept.reverse();
        state.chapters.retain(|chapter| !kept.iter().any(|kept| Arc::ptr_eq(kept, chapter)));
        state.strays = std::mem::replace(&mut state.chapters, kept);
        let Some(chapter) = unfinished else { return Ok(()) };
        if chapter.from != place || library.log.head(self.actor).first > place.next() {
            return Err(PagesError::damaged(&self.path, 0, format!("it is as of {place}, but was folded to {}", chapter.to)));
        }
        self.undo_fold(library, &mut state.base, &chapter)
    }

    /// Takes a fold back that did not come to its end: its pages are put back, then its chapter goes; the log still has its records. Everything is
    /// written again even if it looks right: after a sync that failed, what is read need not be what is on the disk.
    fn undo_fold(&self, library: &Library, base: &mut Option<Base>, chapter: &Chapter) -> Result<(), PagesError> {
        let disk = &*library.disk;
        self.undo_header(library, base)?;
        if let Some(base) = base {
            let mut content = ZERO;
            for page in chapter.pages(disk)? {
                chapter.page(disk, chapter.from, page, &mut content)?;
                base.write(page, &content)?;
            }
            base.sync()?;
        }
        // It must not be there again after the next fold.
        disk.remove(&chapter.path).and_then(|()| disk.sync_dir(&self.history)).map_err(PagesError::file(&chapter.path))
    }

    /// Makes the base's name, or that there is none, durable.
    pub fn sync_name(&self, library: &Library) -> Result<(), PagesError> {
        let dir = self.path.parent().unwrap_or(&library.bases);
        let there = library.disk.exists(dir).map_err(PagesError::file(dir))?;
        if there { library.disk.sync_dir(dir).map_err(PagesError::file(dir)) } else { Ok(()) }
    }

    /// Puts right what an operation left that failed on the way, and makes sure of what was read. The caller holds `changing`.
    pub fn put_right(&self, library: &Library) -> Result<(), PagesError> {
        let (unsure, misled, mut base) = {
            let state = self.state.read();
            (state.unsure, state.misled, state.base.clone())
        };
        if unsure {
            base.as_mut().map_or(Ok(()), Base::confirm)?;
            self.sync_name(library)?;
            let mut state = self.state.write();
            (state.base, state.unsure) = (base.clone(), false);
        }
        if misled {
            self.undo_header(library, &mut base)?;
            let mut state = self.state.write();
            (state.base, state.misled) = (base, false);
        }
        self.undo_unfinished(library)
    }

    /// Takes back a fold that failed on the way. The caller holds `changing`.
    pub fn undo_unfinished(&self, library: &Library) -> Result<(), PagesError> {
        let (mut base, unfinished) = {
            let state = self.state.read();
            let last = state.chapters.last().filter(|chapter| chapter.from == state.place());
            (state.base.clone(), last.cloned())
        };
        if let Some(chapter) = unfinished {
            self.undo_fold(library, &mut base, &chapter)?;
            let mut state = self.state.write();
            state.base = base;
            state.chapters.pop();
        }
        Ok(())
    }

    /// Puts the header back that was in force before a fold that failed; a base that there was not before goes.
    fn undo_header(&self, library: &Library, base: &mut Option<Base>) -> Result<(), PagesError> {
        match base {
            Some(base) => base.write_header(base.header),
            None => {
                library.disk.remove(&self.path).map_err(PagesError::file(&self.path))?;
                self.sync_name(library)
            }
        }
    }

    /// A page as of the base's place. For who has all that a fold in progress may overwrite.
    pub fn read(&self, page: u32, into: &mut Page) -> Result<(), PagesError> {
        self.state.read().read(page, into)
    }

    /// A page as of a place that a section of a chapter begins at, or the base's; the place must be pinned.
    pub fn read_as_of(&self, place: Seq, page: u32, into: &mut Page) -> Result<(), PagesError> {
        let library = self.library()?;
        let state = self.state.read();
        if state.gone {
            return Err(PagesError::Gone(self.actor));
        }
        for chapter in state.chapters.iter().filter(|chapter| chapter.to > place) {
            if chapter.page(&*library.disk, place, page, into)? {
                return Ok(());
            }
        }
        state.read(page, into)
    }

    /// Keeps the history from a place on; the caller holds the state so that nothing is dropped in between.
    pub fn pin(self: &Arc<Self>, place: Seq) -> Pin {
        *self.pins.lock().entry(place).or_default() += 1;
        Pin { shelf: self.clone(), place }
    }

    /// The first place that a view needs the history from.
    pub fn pinned(&self) -> Option<Seq> {
        self.pins.lock().keys().next().copied()
    }

    pub fn depth(&self) -> usize {
        self.state.read().origin.as_ref().map_or(0, |(_, parent)| parent.depth())
    }

    /// Somebody has opened the pages.
    pub fn opened(&self, overlay: &Arc<Overlay>) {
        *self.overlay.lock() = Arc::downgrade(overlay);
    }

    /// Of who has the pages open, if anybody has.
    pub fn overlay(&self) -> Option<Arc<Overlay>> {
        self.overlay.lock().upgrade()
    }

    /// Takes what the base has by now out of the overlay.
    pub fn settle(&self) {
        let Some(overlay) = self.overlay() else { return };
        let (place, count) = {
            let state = self.state.read();
            (state.place(), state.count())
        };
        overlay.settle(place, count);
    }

    /// A view of a layer that lies on this base. `None` when the base is beyond `at`: then only the history knows what was there.
    pub fn view(self: &Arc<Self>, mut layer: Layer, at: Seq) -> Option<View> {
        let state = self.state.read();
        if state.gone || state.place() > at {
            return None;
        }
        layer.settle(state.place(), state.count());
        let pin = self.pin(layer.below);
        Some(View::new(layer, at, pin))
    }

    /// What reading the log's tail costs, if this process has counted it.
    pub fn tail(&self) -> Option<u64> {
        Some(self.tail.load(Ordering::Relaxed)).filter(|bytes| *bytes != UNKNOWN)
    }

    pub fn set_tail(&self, bytes: u64) {
        self.tail.store(bytes, Ordering::Relaxed);
    }

    /// A record more, with a body of so many bytes.
    pub fn lengthen_tail(&self, body: usize) {
        self.update_tail(|bytes| bytes + body as u64 + RECORD_COST);
    }

    /// A fold took so much away.
    pub fn shorten_tail(&self, less: u64) {
        self.update_tail(|bytes| bytes.saturating_sub(less));
    }

    fn update_tail(&self, change: impl Fn(u64) -> u64) {
        // An unknown tail stays unknown.
        let _ = self.tail.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| (bytes != UNKNOWN).then(|| change(bytes)));
    }

    /// The file that says that a child reads from this actor as of a place.
    pub fn child_mark(&self, child: ActorId, at: Seq) -> PathBuf {
        self.history.join(format!("{child}-{:016x}.child", at.0))
    }

    fn checkpoint_path(&self) -> PathBuf {
        self.history.join(CHECKPOINT)
    }

    /// The latest checkpoint of the past that is not kept.
    pub fn checkpoint(&self, library: &Library) -> Result<Option<Record>, PagesError> {
        let path = self.checkpoint_path();
        if !library.disk.exists(&path).map_err(PagesError::file(&path))? {
            return Ok(None);
        }
        let file = library.disk.open(&path).map_err(PagesError::file(&path))?;
        let mut bytes = vec![0; file.len().map_err(PagesError::file(&path))? as usize];
        file.read_at(&mut bytes, 0).map_err(PagesError::file(&path))?;
        let mut rest = Scan(&bytes);
        let sound = match (rest.array::<8>(), rest.u32()) {
            (Some(magic), Some(sum)) => magic == *CHECKPOINT_MAGIC && sum == crc32c::crc32c(rest.0),
            _ => false,
        };
        let record = if sound { chapter::unframe(&mut rest, self.actor) } else { None };
        record.map(Some).ok_or_else(|| PagesError::damaged(&path, 0, "the checksum of the checkpoint does not match"))
    }

    /// Keeps a checkpoint whose chapter is going away.
    pub fn keep_checkpoint(&self, library: &Library, record: &Record) -> Result<(), PagesError> {
        let (path, temporary) = (self.checkpoint_path(), self.history.join("checkpoint.new"));
        let mut framed = Vec::new();
        chapter::frame(record, &mut framed);
        let bytes = [&CHECKPOINT_MAGIC[..], &crc32c::crc32c(&framed).to_le_bytes(), &framed].concat();
        let disk = &*library.disk;
        disk.make_dirs(&self.history).map_err(PagesError::file(&self.history))?;
        let write = || {
            let file = disk.create(&temporary)?;
            file.write_at(&bytes, 0)?;
            file.sync()?;
            disk.rename(&temporary, &path)?;
            disk.sync_dir(&self.history)
        };
        write().map_err(PagesError::file(&path))
    }
}

/// What reading a record costs, in bytes read at once: small ones are many.
pub(super) fn weight(body: &[u8]) -> u64 {
    body.len() as u64 + RECORD_COST
}

/// Child and place, from the name of its mark.
fn parse_child(name: &str) -> Option<(ActorId, Seq)> {
    let (child, at) = name.strip_suffix(".child")?.split_once('-')?;
    Some((child.parse().ok()?, Seq(u64::from_str_radix(at, 16).ok()?)))
}

/// Where an actor's file or folder is below a folder of many.
pub(super) fn place_in(dir: &Path, actor: ActorId, suffix: &str) -> PathBuf {
    let name = actor.to_string();
    dir.join(&name[..2]).join(name + suffix)
}
