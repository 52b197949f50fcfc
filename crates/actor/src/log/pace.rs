//! How the log keeps up: how long each group commit's sync took, and how many records shared it.
//!
//! Counted by `writer`, read by whoever shows numbers. It is not: the measurement at the start, which is `probe`'s.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the histogram's buckets, in microseconds; the last one is without bound.
pub const SYNC_BOUNDS_US: [u64; 11] = [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_500_000];

/// The group commits since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commits {
    /// Syncs that succeeded.
    pub count: u64,
    /// The time they took together, in microseconds.
    pub sync_us: u64,
    /// Records that they made durable.
    pub records: u64,
    /// Of how many the sync took less than the bound of [`SYNC_BOUNDS_US`] at that place, and not less than the one before it.
    pub buckets: [u64; SYNC_BOUNDS_US.len()],
}

/// The counters behind [`Commits`].
#[derive(Debug, Default)]
pub(crate) struct Pace {
    count: AtomicU64,
    sync_us: AtomicU64,
    records: AtomicU64,
    buckets: [AtomicU64; SYNC_BOUNDS_US.len()],
}

impl Pace {
    /// A batch is durable.
    pub(crate) fn committed(&self, records: u64, sync: Duration) {
        let us = u64::try_from(sync.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Relaxed);
        self.sync_us.fetch_add(us, Relaxed);
        self.records.fetch_add(records, Relaxed);
        if let Some(at) = SYNC_BOUNDS_US.iter().position(|bound| us < *bound) {
            self.buckets[at].fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn read(&self) -> Commits {
        Commits {
            count: self.count.load(Relaxed),
            sync_us: self.sync_us.load(Relaxed),
            records: self.records.load(Relaxed),
            buckets: std::array::from_fn(|at| self.buckets[at].load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_counted_in_one_bucket_or_beyond_the_last() {
        let pace = Pace::default();
        for (records, us) in [(1, 0), (2, 99), (3, 100), (4, 2_499_999), (5, 2_500_000)] {
            pace.committed(records, Duration::from_micros(us));
        }
        let commits = pace.read();
        assert_eq!((commits.count, commits.records, commits.sync_us), (5, 15, 5_000_198));
        assert_eq!((commits.buckets[0], commits.buckets[1], commits.buckets[10]), (2, 1, 1));
        assert_eq!(commits.buckets.iter().sum::<u64>(), 4);
    }
}
