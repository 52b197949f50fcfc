//! Ranges of user and group ids: each sandbox has one of its own. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Ids of one sandbox: what it calls 0 is `first` outside, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The host's id of the sandbox's root.
    pub first: u32,
}

impl Range {
    /// Ids in each range: as many as Debian and its packages count on, `nobody` (65534) included.
    pub const LENGTH: u32 = 65_536;

    /// The host's id of an inner one. `None`: there is no such inner id.
    #[must_use]
    pub fn outer(self, inner: u32) -> Option<u32> {
        (inner < Self::LENGTH).then(|| self.first + inner)
    }
}

/// Which ranges are taken.
#[derive(Clone, Debug)]
pub struct Ranges {
    first: u32,
    places: u32,
    taken: BTreeSet<u32>,
}

impl Default for Ranges {
    /// Above what `adduser`, `subuid` and systemd's containers give out (up to 1,879,048,191), below the ids that are negative as signed numbers.
    fn default() -> Self {
        Self { first: 0x7000_0000, places: 4_000, taken: BTreeSet::new() }
    }
}

impl Ranges {
    /// The lowest free range. `None`: all are taken.
    pub fn take(&mut self) -> Option<Range> {
        let place = (0..self.places).find(|place| !self.taken.contains(place))?;
        self.taken.insert(place);
        Some(Range { first: self.first + place * Range::LENGTH })
    }

    /// Says that a record has this range. `false`: it is no range of these, or another has it.
    pub fn claim(&mut self, range: Range) -> bool {
        self.place(range).is_some_and(|place| self.taken.insert(place))
    }

    /// Gives a range back, after the last process and file with its ids is gone.
    pub fn give_back(&mut self, range: Range) {
        if let Some(place) = self.place(range) {
            self.taken.remove(&place);
        }
    }

    fn place(&self, range: Range) -> Option<u32> {
        let offset = range.first.checked_sub(self.first)?;
        (offset % Range::LENGTH == 0 && offset / Range::LENGTH < self.places).then_some(offset / Range::LENGTH)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_never_overlap(steps in proptest::collection::vec(any::<(bool, u8)>(), 1..200)) {
            let mut ranges = Ranges::default();
            let mut held: Vec<Range> = Vec::new();
            for (take, which) in steps {
                if take || held.is_empty() {
                    let new = ranges.take().unwrap();
                    for other in &held {
                        prop_assert!(new.first.abs_diff(other.first) >= Range::LENGTH);
                    }
                    held.push(new);
                } else {
                    ranges.give_back(held.swap_remove(usize::from(which) % held.len()));
                }
            }
            for range in held {
                prop_assert!(!ranges.claim(range), "a held range was claimed");
            }
        }
    }

    #[test]
    fn what_is_no_range_is_not_claimed() {
        let mut ranges = Ranges::default();
        for first in [0, 1_000, 0x7000_0001, u32::MAX - 65_535] {
            assert!(!ranges.claim(Range { first }), "{first}");
        }
        assert!(ranges.claim(Range { first: 0x7001_0000 }));
        assert_eq!(ranges.take().unwrap().first, 0x7000_0000);
        assert_eq!(ranges.take().unwrap().first, 0x7002_0000);
    }

    #[test]
    fn inner_ids_end_where_the_range_ends() {
        let range = Range { first: 0x7000_0000 };
        assert_eq!(range.outer(1_000), Some(0x7000_03e8));
        assert_eq!(range.outer(Range::LENGTH), None);
    }
}
