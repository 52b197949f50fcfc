//! The CPU clock of one isolate: time its turns spent on a thread, and the allowance of the turn in progress.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// CPU time after which a slice gives way, in microseconds.
const SLICE_US: u64 = 1_000;

/// What a tick of the clock means to the slice in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    /// The turn has used up its allowance.
    Exceeded,
    /// The slice has had its time.
    Used,
    /// It has not: others had the processor.
    Waited,
}

/// CPU time of this thread so far, in microseconds.
pub(crate) fn thread_us() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1_000
}

/// Shared by the future that runs a turn and the callback that may stop it. Both run on the same thread at any time;
/// atomics only because the turn moves between threads.
#[derive(Debug)]
pub(crate) struct Cpu {
    /// Used in finished slices of this turn, in microseconds.
    used_us: AtomicU64,
    /// Thread time at which the running slice began.
    slice_from_us: AtomicU64,
    /// What this turn may use.
    allowance_us: AtomicU64,
}

impl Default for Cpu {
    /// Without a limit: what runs between turns is the host's own business.
    fn default() -> Self {
        Self { used_us: AtomicU64::new(0), slice_from_us: AtomicU64::new(0), allowance_us: AtomicU64::new(u64::MAX) }
    }
}

impl Cpu {
    /// Begins a turn that may use `allowance_us`.
    pub(crate) fn begin(&self, allowance_us: u64) {
        self.used_us.store(0, Ordering::Relaxed);
        self.allowance_us.store(allowance_us, Ordering::Relaxed);
    }

    /// Ends the turn in progress at the next tick.
    pub(crate) fn stop(&self) {
        self.allowance_us.store(0, Ordering::Relaxed);
    }

    /// Used by the turn until its last slice ended.
    pub(crate) fn used_us(&self) -> u64 {
        self.used_us.load(Ordering::Relaxed)
    }

    /// Called within a slice when a tick of the clock has passed.
    pub(crate) fn tick(&self) -> Tick {
        let slice = thread_us().saturating_sub(self.slice_from_us.load(Ordering::Relaxed));
        match () {
            () if self.used_us() + slice >= self.allowance_us.load(Ordering::Relaxed) => Tick::Exceeded,
            // The thread was not running for most of the tick. A turn is not long because its machine is busy.
            () if slice < SLICE_US => Tick::Waited,
            () => Tick::Used,
        }
    }
}

/// A turn whose polls are timed.
pub(crate) struct Timed<F> {
    pub(crate) turn: Pin<Box<F>>,
    pub(crate) cpu: Arc<Cpu>,
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let from = thread_us();
        self.cpu.slice_from_us.store(from, Ordering::Relaxed);
        let poll = self.turn.as_mut().poll(cx);
        self.cpu.used_us.fetch_add(thread_us().saturating_sub(from), Ordering::Relaxed);
        poll
    }
}
