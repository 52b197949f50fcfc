//! The time of day, as the actors of a node see it: alarms and retention go by it, so tests bring one that jumps.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

/// Tells the time of day. It may jump either way; nothing that must be in order goes by it.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Milliseconds since the epoch of Unix.
    fn now_ms(&self) -> u64;
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}
