//! The pages of a live database: base, overlay, and the transaction that is open.
//!
//! Owned by one `database`. Everything that the log's tail changed is in the overlay, so a fold in another thread may bring the base forward under
//! it: the fold only writes pages that are here. When it has, it takes them out of the overlay. Who wants a view of what is there now shares the
//! overlay's pages instead of reading the log again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use parking_lot::{RwLock, RwLockReadGuard};
use skep_id::ActorId;

use super::{
    CommitMeta, PAGE, Page, PagesError, View, ZERO,
    commit::Draft,
    layer::{Found, Layer},
    shelf::Shelf,
};
use crate::record::{Epoch, Seq};

/// The pages of a live database.
#[derive(Debug)]
pub struct Pages {
    shelf: Arc<Shelf>,
    overlay: Arc<Overlay>,
    open: Transaction,
}

/// What the log's tail changed, as the owner of the actor has it.
#[derive(Debug)]
pub(super) struct Overlay {
    layer: RwLock<Layer>,
    /// The owner's term: what is appended in a later one is not here, and what is here may not have become durable.
    pub epoch: Epoch,
    /// Memory in bytes.
    bytes: Arc<AtomicUsize>,
    /// The same of all overlays of the library.
    total: Arc<AtomicUsize>,
}

impl Overlay {
    fn new(layer: Layer, epoch: Epoch, total: Arc<AtomicUsize>) -> Arc<Self> {
        let bytes = layer.bytes();
        total.fetch_add(bytes, Relaxed);
        Arc::new(Self { layer: RwLock::new(layer), epoch, bytes: Arc::new(AtomicUsize::new(bytes)), total })
    }

    pub fn layer(&self) -> RwLockReadGuard<'_, Layer> {
        self.layer.read()
    }

    /// What lies below was brought to a later place by a fold.
    pub fn settle(&self, place: Seq, count: u32) {
        self.change(|layer| layer.settle(place, count));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Layer) -> T) -> T {
        let mut layer = self.layer.write();
        let done = change(&mut layer);
        let (now, before) = (layer.bytes(), self.bytes.load(Relaxed));
        self.bytes.store(now, Relaxed);
        self.total.fetch_add(now, Relaxed);
        self.total.fetch_sub(before, Relaxed);
        done
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes.load(Relaxed), Relaxed);
    }
}

/// What was written since the last commit.
#[derive(Debug)]
struct Transaction {
    pages: BTreeMap<u32, Arc<Page>>,
    count: u32,
    /// Pages after it were cut off within the transaction.
    floor: u32,
}

impl Transaction {
    fn new(count: u32) -> Self {
        Self { pages: BTreeMap::new(), count, floor: count }
    }
}

impl Pages {
    /// Of an owner whose term is `epoch`; `total` is what the overlays of all take.
    pub(super) fn new(shelf: Arc<Shelf>, layer: Layer, epoch: Epoch, total: Arc<AtomicUsize>) -> Self {
        let (open, overlay) = (Transaction::new(layer.count), Overlay::new(layer, epoch, total));
        shelf.opened(&overlay);
        Self { shelf, overlay, open }
    }

    /// Whose.
    #[must_use]
    pub fn actor(&self) -> ActorId {
        self.shelf.actor
    }

    /// The place of the last commit; what follows it in the log changed no pages.
    #[must_use]
    pub fn at(&self) -> Seq {
        self.overlay.layer().at
    }

    /// Pages that the database has, the open transaction included.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.open.count
    }

    /// A page, from 1; zeros beyond the end.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn read(&self, page: u32, into: &mut [u8; PAGE]) -> Result<(), PagesError> {
        match self.open.pages.get(&page) {
            Some(content) => *into = **content,
            None if page > self.open.floor => *into = ZERO,
            None => self.read_committed(page, into)?,
        }
        Ok(())
    }

    fn read_committed(&self, page: u32, into: &mut Page) -> Result<(), PagesError> {
        self.overlay.layer().read(page, into, |page, into| self.shelf.read(page, into))
    }

    /// Writes a page, from 1, in the open transaction; the database grows as needed. Page 0 is no page and nothing is written.
    pub fn write(&mut self, page: u32, content: &[u8; PAGE]) {
        if page == 0 {
            return;
        }
        self.open.count = self.open.count.max(page);
        match self.open.pages.get_mut(&page) {
            Some(open) => *Arc::make_mut(open) = *content,
            None => {
                self.open.pages.insert(page, Arc::new(*content));
            }
        }
    }

    /// Makes the database so many pages long, in the open transaction; pages that are new are zeros.
    pub fn truncate(&mut self, count: u32) {
        self.open.pages.split_off(&count.saturating_add(1));
        self.open.floor = self.open.floor.min(count);
        self.open.count = count;
    }

    /// Whether anything was written in the open transaction.
    #[must_use]
    pub fn changed(&self) -> bool {
        let count = self.overlay.layer().count;
        !self.open.pages.is_empty() || self.open.count != count || self.open.floor < count
    }

    /// Undoes the open transaction.
    pub fn discard(&mut self) {
        self.open = Transaction::new(self.overlay.layer().count);
    }

    /// Closes the open transaction as the change at a place: the body of its record, which is to be appended there.
    pub fn commit(&mut self, at: Seq, meta: &CommitMeta) -> Bytes {
        let open = std::mem::replace(&mut self.open, Transaction::new(0));
        let (draft, count) = self.overlay.change(|layer| (apply(layer, &self.shelf, at, open), layer.count));
        self.open = Transaction::new(count);
        let body = draft.finish(count, *meta);
        self.shelf.lengthen_tail(body.len());
        body
    }

    /// The database as of a durable place; that of the last commit costs nothing. The open transaction is not part of it.
    ///
    /// # Errors
    /// As [`Library::view`](super::Library::view).
    pub fn view(&self, at: Seq) -> Result<View, PagesError> {
        let layer = self.overlay.layer().clone();
        let view = if at < layer.at { None } else { self.shelf.view(layer, at) };
        match view {
            Some(view) => Ok(view),
            None => self.shelf.library()?.view(self.shelf.actor, at),
        }
    }

    /// Writes into the open transaction all pages that differ from a view, so that the commit which follows brings its database here. Returns
    /// how many. Pages that neither tail nor history name are not looked at, unless the view is of another actor.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged; some pages may have been written then.
    pub fn bring_to(&mut self, view: &View) -> Result<usize, PagesError> {
        let count = view.count();
        let candidates = self.candidates(view)?;
        if count != self.open.count {
            self.truncate(count);
        }
        let (mut then, mut now, mut written) = (ZERO, ZERO, 0);
        for page in candidates.into_iter().filter(|page| *page <= count) {
            view.read(page, &mut then)?;
            // A page that is damaged now is worth replacing.
            if self.read(page, &mut now).is_err() || now != then {
                self.write(page, &then);
                written += 1;
            }
        }
        Ok(written)
    }

    /// Pages that may differ from a view's, in ascending order.
    fn candidates(&self, view: &View) -> Result<Vec<u32>, PagesError> {
        if !Arc::ptr_eq(&self.shelf, view.shelf()) {
            return Ok((1..=view.count()).collect());
        }
        let library = self.shelf.library()?;
        let mut pages: Vec<u32> = self.open.pages.keys().copied().collect();
        pages.extend(self.open.floor.saturating_add(1)..=view.count());
        pages.extend(self.overlay.layer().touched());
        pages.extend(view.layer().touched());
        let state = self.shelf.state.read();
        let since = state.chapters.iter().filter(|chapter| chapter.to > view.layer().below);
        for chapter in since {
            pages.extend(chapter.pages(&*library.disk)?);
            pages.extend(chapter.index(&*library.disk)?.ends());
        }
        drop(state);
        pages.sort_unstable();
        pages.dedup();
        Ok(pages)
    }

    /// Memory in bytes that pages take which the base has not got yet, the open transaction included.
    #[must_use]
    pub fn overlay_bytes(&self) -> usize {
        self.overlay.bytes.load(Relaxed) + self.open.pages.len() * (PAGE + 64)
    }

    /// The same without the open transaction, kept as it is now by who commits and folds.
    #[must_use]
    pub fn overlay(&self) -> Arc<AtomicUsize> {
        self.overlay.bytes.clone()
    }

    /// What an activation would read of the log's tail: as [`Library::tail_bytes`](super::Library::tail_bytes).
    #[must_use]
    pub fn tail_bytes(&self) -> u64 {
        self.shelf.tail().unwrap_or(0)
    }
}

/// Lays a transaction above what is there: what of it goes into the record.
fn apply(layer: &mut Layer, shelf: &Shelf, at: Seq, mut open: Transaction) -> Draft {
    // Cut off and grown again within the transaction: zeros where something was.
    for page in open.floor.saturating_add(1)..=open.count.min(layer.count) {
        open.pages.entry(page).or_insert_with(|| Arc::new(ZERO));
    }
    layer.resize(at, open.count);
    let mut draft = Draft::default();
    for (page, now) in open.pages {
        let mut read = ZERO;
        let before = match layer.find(page) {
            Found::Here(content) => Some(&**content),
            Found::Zero => Some(&ZERO),
            // What cannot be read is replaced: all of it goes into the record.
            Found::Below => shelf.read(page, &mut read).is_ok().then_some(&read),
        };
        if draft.page(page, &now, before) {
            layer.put(page, at, now);
        }
    }
    draft
}
