//! What the actors of a node did, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// Actors with an alarm, or a timer of their heap, that is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// That are not yet being woken for it, at most as many as are kept in memory.
    pub waiting: u64,
    /// That are being woken, or whose handlers run.
    pub firing: u64,
    /// For how long the first of those that wait has been due, in milliseconds.
    pub late_ms: u64,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counted since the start; `awake` and `due` are as of now.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Metrics {
            $($(#[$doc])* pub $name: u64,)*
            /// Alarms that are due.
            pub due: Due,
        }

        /// The counters behind [`Metrics`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn read(&self, due: Due) -> Metrics {
                Metrics { $($name: self.$name.load(Relaxed),)* due }
            }
        }
    };
}

metrics! {
    /// Guests that live.
    awake,
    /// Guests woken with their heap.
    woken,
    /// Guests whose constructor ran.
    constructed,
    /// Guests that did not start.
    not_started,
    /// Guests put to sleep with their heap.
    slept,
    /// Guests that ended otherwise.
    ended,
    /// Guests put to sleep because there was no room for another.
    pressed_out,
    /// Checkpoints written, those of falling asleep among them.
    checkpoints,
    /// Their heaps, in bytes.
    checkpoint_bytes,
    /// Alarms whose handler came back.
    alarms_fired,
    /// Attempts at an alarm that failed.
    alarms_failed,
    /// Alarms given up.
    alarms_given_up,
    /// Messages refused because too many waited, or for too long.
    refused,
    /// Actors whose records were brought to their files.
    folded,
    /// Bytes that retention gave back.
    expired_bytes,
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
