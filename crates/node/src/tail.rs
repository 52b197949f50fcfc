//! Who listens to a worker.
//!
//! Tails are bounded and lossy: a reader that is too slow is told how many events it missed, and never slows a worker down.
//! With no reader an event costs one load of an atomic.

use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use skep_id::{RequestId, VersionId, WorkerName};
use skep_isolate::{Exception, Report};
use std::collections::HashMap;
use tokio::sync::broadcast;

/// Events that wait for a slow reader; some tenths of a second of a busy worker.
const EVENTS_AHEAD: usize = 1_024;

/// Longest log line in an event; the rest is cut off, for one line could otherwise hold the whole buffer's worth of memory.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Something that happened in a worker.
#[derive(Debug, Clone)]
pub enum Event {
    /// A line of its log.
    Log {
        /// The request that it belongs to, where that is known.
        request: Option<RequestId>,
        /// `log`, `warn`, …
        level: String,
        /// The text.
        text: String,
        /// ms since the epoch.
        at: i64,
    },
    /// An exception that nobody caught.
    Exception {
        /// The request that it belongs to, where that is known.
        request: Option<RequestId>,
        /// The exception.
        exception: Exception,
        /// ms since the epoch.
        at: i64,
    },
    /// The end of a request.
    Ended {
        /// The request.
        request: RequestId,
        /// The version that served it.
        version: VersionId,
        /// Its method.
        method: String,
        /// Its URL.
        url: String,
        /// The status of the answer, if there was one.
        status: Option<u16>,
        /// How it ended.
        report: Report,
        /// ms since the epoch.
        at: i64,
    },
}

/// The tail of one worker, over all its versions.
#[derive(Debug, Default)]
pub struct Tail {
    sender: OnceLock<broadcast::Sender<Arc<Event>>>,
}

impl Tail {
    /// Whether anybody would hear an event.
    #[must_use]
    pub fn heard(&self) -> bool {
        self.sender.get().is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// Tells the readers.
    pub(crate) fn send(&self, event: Event) {
        if let Some(sender) = self.sender.get() {
            // An error means that the last reader just left.
            let _ = sender.send(Arc::new(event));
        }
    }

    /// A new reader; it hears what comes from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Arc<Event>> {
        self.sender.get_or_init(|| broadcast::channel(EVENTS_AHEAD).0).subscribe()
    }
}

/// The tails of all workers. They outlive versions, so that a reader sees the next deploy too.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    by_worker: RwLock<HashMap<WorkerName, Arc<Tail>>>,
}

impl Tails {
    pub fn of(&self, worker: &WorkerName) -> Arc<Tail> {
        if let Some(tail) = self.by_worker.read().get(worker) {
            return Arc::clone(tail);
        }
        Arc::clone(self.by_worker.write().entry(worker.clone()).or_default())
    }

    pub fn forget(&self, worker: &WorkerName) {
        self.by_worker.write().remove(worker);
    }
}

/// Passes on what an isolate says.
pub(crate) struct TailObserver {
    pub tail: Arc<Tail>,
}

impl skep_isolate::Observer for TailObserver {
    fn log(&self, call: Option<&str>, level: &str, text: &str) {
        if self.tail.heard() {
            let (level, text) = (level.to_owned(), cut(text, LINE_BYTES_MAX).to_owned());
            self.tail.send(Event::Log { request: request(call), level, text, at: crate::now_ms() });
        }
    }

    fn exception(&self, call: Option<&str>, exception: &Exception) {
        if self.tail.heard() {
            self.tail.send(Event::Exception { request: request(call), exception: exception.clone(), at: crate::now_ms() });
        }
    }
}

/// Chains of calls are labelled with the request that they began with.
fn request(call: Option<&str>) -> Option<RequestId> {
    call.and_then(|label| label.parse().ok())
}

/// At most `most` bytes of `text`, whole characters.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
