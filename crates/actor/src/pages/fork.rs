//! Forks: a child reads from its parent's past what it has not got itself.
//!
//! Driven by `actor`. A fork costs a mark in the parent's history (so that no retention and no deletion takes away what the child reads) and the
//! child's fork record. A child is filled, that is made independent, by its first fold if it is small, before its parent's past expires, before its
//! parent is deleted, and before it would read through too many ancestors.

use std::sync::Arc;

use skep_id::ActorId;

use super::{
    Pages, PagesError, View,
    base::{Header, Origin},
    layer::Layer,
    library::Library,
    shelf::Shelf,
};
use crate::record::Seq;

/// Actors whose files one page may be looked for in.
const DEPTH_MAX: usize = 8;

impl Library {
    /// The pages of a new actor that begins as a copy of another as of a durable place. The caller appends a record of
    /// [`Fork::of`](super::Fork::of) that view among the first eight of the child's log, and keeps the pages until it is durable.
    ///
    /// # Errors
    /// When the child exists, the parent's place is not durable, or files cannot be read or written.
    pub fn fork(self: &Arc<Self>, parent: &View, child: ActorId) -> Result<Pages, PagesError> {
        let (actor, at) = (parent.actor(), parent.at());
        if child == actor || self.knows(child)? {
            return Err(PagesError::Exists(child));
        }
        let head = self.log.head(actor).seq;
        if at > head {
            return Err(PagesError::NotYet { actor, at, head });
        }
        let parent = if parent.depth() >= DEPTH_MAX {
            self.fill(actor)?;
            self.view(actor, at)?
        } else {
            parent.clone()
        };
        if parent.shelf().state.read().misled {
            // The base may be found beyond this place otherwise, with no chapter that leads to it.
            let _changing = parent.shelf().changing.lock();
            parent.shelf().put_right(self)?;
        }
        let shelf = self.shelf(child)?;
        self.mark(parent.shelf(), child, at)?;
        let origin = Origin { parent: actor, at, count: parent.count() };
        shelf.state.write().origin = Some((origin, parent));
        shelf.set_tail(0);
        Ok(self.opened(shelf, Layer::new(Seq(0), origin.count)))
    }

    /// Gives a child all pages that it reads from its parent; nothing to do if it reads none.
    ///
    /// # Errors
    /// When files cannot be read or written, or are damaged.
    pub fn fill(self: &Arc<Self>, actor: ActorId) -> Result<(), PagesError> {
        if !self.knows(actor)? {
            return Err(PagesError::Gone(actor));
        }
        let shelf = self.shelf(actor)?;
        let _changing = shelf.changing.lock();
        self.fill_held(&shelf)
    }

    /// The base is written anew, so that a fill that is cut off leaves nothing half done.
    pub(super) fn fill_held(self: &Arc<Self>, shelf: &Arc<Shelf>) -> Result<(), PagesError> {
        shelf.put_right(self)?;
        let header = {
            let state = shelf.state.read();
            let count = state.count();
            let Some((origin, _)) = &state.origin else { return Ok(()) };
            let old = state.base.as_ref().map_or(Header::new(), |base| base.header);
            debug_assert!(origin.count <= count);
            Header { count, extent: count, origin: None, ..old }
        };
        let pages: Vec<u32> = (1..=header.count).collect();
        let base = self.new_base(shelf, header, &pages, |page, into| shelf.read(page, into))?;
        {
            // The old file has no name any more: nothing may be written to it.
            let mut state = shelf.state.write();
            (state.base, state.unsure) = (Some(base), true);
        }
        shelf.put_right(self)?;
        let parted = shelf.state.write().origin.take();
        match parted {
            Some((origin, parent)) => self.unmark(parent.shelf(), shelf.actor, origin.at),
            None => Ok(()),
        }
    }

    /// Fills or forgets a child; one that never came to be has nothing to be filled.
    pub(super) fn part(self: &Arc<Self>, parent: &Arc<Shelf>, child: ActorId, at: Seq) -> Result<(), PagesError> {
        let in_progress = || self.shelf(child).map(|shelf| shelf.state.read().origin.is_some());
        if self.knows(child)? || in_progress()? {
            let shelf = self.shelf(child)?;
            let _changing = shelf.changing.lock();
            self.fill_held(&shelf)?;
        }
        self.unmark(parent, child, at)
    }

    fn mark(&self, parent: &Shelf, child: ActorId, at: Seq) -> Result<(), PagesError> {
        let (disk, path) = (&*self.disk, parent.child_mark(child, at));
        let write = || {
            disk.make_dirs(&parent.history)?;
            disk.create(&path)?;
            disk.sync_dir(&parent.history)
        };
        write().map_err(PagesError::file(&path))?;
        parent.state.write().children.insert(child, at);
        Ok(())
    }

    pub(super) fn unmark(&self, parent: &Shelf, child: ActorId, at: Seq) -> Result<(), PagesError> {
        let path = parent.child_mark(child, at);
        self.disk.remove(&path).map_err(PagesError::file(&path))?;
        parent.state.write().children.remove(&child);
        Ok(())
    }
}
