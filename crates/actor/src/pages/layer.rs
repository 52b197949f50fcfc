//! What changed above a base: whole pages in memory, each with the place of its last change.
//!
//! Pure. Driven by `live`, `view` and `fold`. What lies below is read by a function that the caller brings; clones share content.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    PAGE, Page, PagesError, ZERO,
    commit::{Delta, WHOLE},
};
use crate::record::Seq;

/// A page that changed.
#[derive(Clone, Debug)]
struct Entry {
    seq: Seq,
    content: Arc<Page>,
}

/// The pages of a database that differ from what lies below.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// What lies below is as of this place, and has so many pages.
    pub below: Seq,
    below_count: u32,
    /// The place of the last change.
    pub at: Seq,
    /// Pages that the database has.
    pub count: u32,
    pages: Arc<BTreeMap<u32, Entry>>,
    /// Where the database became shorter, and how short, with both growing: what is beyond is not seen through any more.
    cuts: Vec<(Seq, u32)>,
}

/// Where a page is.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Here(&'a Arc<Page>),
    /// It has never been written, or is beyond the end.
    Zero,
    Below,
}

impl Layer {
    pub fn new(below: Seq, below_count: u32) -> Self {
        Self { below, below_count, at: below, count: below_count, pages: Arc::default(), cuts: Vec::new() }
    }

    /// Pages that what lies below has.
    pub fn below_count(&self) -> u32 {
        self.below_count
    }

    /// Pages up to this number are seen through to what lies below.
    pub fn floor(&self) -> u32 {
        self.cuts.first().map_or(self.below_count, |(_, count)| self.below_count.min(*count))
    }

    pub fn find(&self, page: u32) -> Found<'_> {
        match self.pages.get(&page) {
            _ if page > self.count => Found::Zero,
            Some(entry) => Found::Here(&entry.content),
            None if page > self.floor() => Found::Zero,
            None => Found::Below,
        }
    }

    /// A page's content.
    pub fn read(&self, page: u32, into: &mut Page, below: impl Fn(u32, &mut Page) -> Result<(), PagesError>) -> Result<(), PagesError> {
        match self.find(page) {
            Found::Here(content) => *into = **content,
            Found::Zero => *into = ZERO,
            Found::Below => below(page, into)?,
        }
        Ok(())
    }

    /// Applies a commit.
    pub fn apply(&mut self, at: Seq, delta: &Delta, below: impl Fn(u32, &mut Page) -> Result<(), PagesError>) -> Result<(), PagesError> {
        self.resize(at, delta.count());
        for change in delta.changes() {
            if change.mask != WHOLE && matches!(self.find(change.page), Found::Below) {
                let mut content = ZERO;
                below(change.page, &mut content)?;
                self.put(change.page, at, Arc::new(content));
            }
            let entry = Arc::make_mut(&mut self.pages).entry(change.page);
            let entry = entry.or_insert_with(|| Entry { seq: at, content: Arc::new(ZERO) });
            entry.seq = at;
            change.apply(Arc::make_mut(&mut entry.content));
        }
        Ok(())
    }

    /// Moves to a place with so many pages.
    pub fn resize(&mut self, at: Seq, count: u32) {
        if count < self.count {
            Arc::make_mut(&mut self.pages).split_off(&count.saturating_add(1));
            while self.cuts.pop_if(|(_, earlier)| *earlier >= count).is_some() {}
            self.cuts.push((at, count));
        }
        (self.at, self.count) = (at, count);
    }

    /// Sets a page.
    pub fn put(&mut self, page: u32, at: Seq, content: Arc<Page>) {
        Arc::make_mut(&mut self.pages).insert(page, Entry { seq: at, content });
    }

    /// What lies below was brought to a later place: what is the same there need not be here.
    pub fn settle(&mut self, place: Seq, count: u32) {
        if place <= self.below {
            return;
        }
        Arc::make_mut(&mut self.pages).retain(|_, entry| entry.seq > place);
        self.cuts.retain(|(seq, _)| *seq > place);
        (self.below, self.below_count) = (place, count);
        if self.at <= place {
            (self.at, self.count) = (place, count);
        }
    }

    /// How many pages are here.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Memory in bytes.
    pub fn bytes(&self) -> usize {
        self.pages.len() * (PAGE + 64)
    }

    /// All pages that may differ from what lies below, in ascending order, as far as the longer of both goes.
    pub fn touched(&self) -> Vec<u32> {
        let end = self.count.max(self.below_count);
        let mut touched: Vec<u32> = self.pages.range(..=self.floor()).map(|(page, _)| *page).collect();
        touched.extend(self.floor().saturating_add(1)..=end);
        touched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_pages_are_not_seen_through() {
        let mut layer = Layer::new(Seq(5), 10);
        layer.resize(Seq(6), 4);
        layer.resize(Seq(7), 12);
        assert!(matches!(layer.find(4), Found::Below));
        assert!((5..=13).all(|page| matches!(layer.find(page), Found::Zero)));
        layer.put(11, Seq(8), Arc::new([1; PAGE]));
        assert_eq!(layer.touched(), [5, 6, 7, 8, 9, 10, 11, 12]);
        layer.settle(Seq(6), 4);
        assert_eq!(layer.floor(), 4);
        layer.resize(Seq(9), 8);
        layer.settle(Seq(9), 8);
        assert!((1..=8).all(|page| matches!(layer.find(page), Found::Below)));
        assert_eq!(layer.len(), 0);
    }

    #[test]
    fn the_lowest_cut_after_what_lies_below_counts() {
        let mut layer = Layer::new(Seq(0), 10);
        for (seq, count) in [(1, 3), (2, 20), (3, 7), (4, 20), (5, 9), (6, 20)] {
            layer.resize(Seq(seq), count);
        }
        assert_eq!(layer.floor(), 3);
        layer.settle(Seq(2), 20);
        assert_eq!(layer.floor(), 7);
        layer.settle(Seq(4), 20);
        assert_eq!(layer.floor(), 9);
    }
}
