//! A database as of a place, to read only. It stays as it is while its actor goes on, is folded, or is forked.
//!
//! Driven by `database` (`AS OF` queries), `library` (forks) and `live` (rewinds). What it needs of the history is kept for as long as it lives.

use std::sync::Arc;

use skep_id::ActorId;

use super::{
    PAGE, PagesError,
    layer::Layer,
    shelf::{Pin, Shelf},
};
use crate::record::Seq;

/// A database as of a place.
#[derive(Clone, Debug)]
pub struct View {
    layer: Layer,
    at: Seq,
    pin: Pin,
}

impl View {
    /// What the layer does not have is read from what `pin` keeps, which is as of the layer's `below`.
    pub(super) fn new(layer: Layer, at: Seq, pin: Pin) -> Self {
        Self { layer, at, pin }
    }

    /// Whose.
    #[must_use]
    pub fn actor(&self) -> ActorId {
        self.shelf().actor
    }

    /// As of which place.
    #[must_use]
    pub fn at(&self) -> Seq {
        self.at
    }

    /// Pages that the database has.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.layer.count
    }

    /// A page, from 1; zeros beyond the end.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn read(&self, page: u32, into: &mut [u8; PAGE]) -> Result<(), PagesError> {
        self.layer.read(page, into, |page, into| self.shelf().read_as_of(self.layer.below, page, into))
    }

    pub(super) fn shelf(&self) -> &Arc<Shelf> {
        &self.pin.shelf
    }

    pub(super) fn layer(&self) -> &Layer {
        &self.layer
    }

    /// Actors whose files it may read.
    pub(super) fn depth(&self) -> usize {
        1 + self.shelf().depth()
    }
}
