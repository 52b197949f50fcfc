//! Tails: what happened in a call of a loaded worker, sent to the workers named as its tails once the call has ended.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::outcome::{Exception, Report};
use crate::target::Target;
use crate::worker::Observer;

/// Log lines kept for one trace; the rest is counted as truncated.
const LOGS_MAX: usize = 256;

/// Bytes of log lines and exceptions kept for one trace; the rest is counted as truncated.
const BYTES_MAX: usize = 256 << 10;

/// Traces of one worker that its tails have not taken yet. Further ones are lost: a tail that is slow must not make the host keep
/// what a worker writes.
const UNDELIVERED_MAX: usize = 64;

/// Where traces go.
pub(crate) struct Tails(pub(crate) Vec<Arc<dyn Target>>);

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    outcome: &'static str,
    event: String,
    cpu_time: f64,
    wall_time: f64,
    truncated: bool,
    logs: Vec<Log>,
    exceptions: Vec<Exception>,
    #[serde(skip)]
    bytes: usize,
}

impl Trace {
    /// Whether an entry of that size still fits.
    fn takes(&mut self, bytes: usize) -> bool {
        let fits = self.logs.len() + self.exceptions.len() < LOGS_MAX && self.bytes + bytes <= BYTES_MAX;
        match fits {
            true => self.bytes += bytes,
            false => self.truncated = true,
        }
        fits
    }
}

#[derive(Serialize)]
struct Log {
    level: String,
    message: Vec<String>,
}

struct Tailed {
    next: Arc<dyn Observer>,
    tails: Tails,
    trace: Mutex<Trace>,
    undelivered: Arc<Semaphore>,
}

/// An observer that also sends traces, if there is anyone to send them to.
pub(crate) fn observed(next: Arc<dyn Observer>, tails: Tails) -> Arc<dyn Observer> {
    match tails.0.is_empty() {
        true => next,
        false => Arc::new(Tailed { next, tails, trace: Mutex::default(), undelivered: Arc::new(Semaphore::new(UNDELIVERED_MAX)) }),
    }
}

impl Tailed {
    fn send(&self, trace: &Trace) {
        let json = serde_json::to_string(&[trace]).unwrap_or_else(|_| "[]".into());
        for tail in &self.tails.0 {
            let Ok(place) = self.undelivered.clone().try_acquire_owned() else { return };
            let told = tail.tail(json.clone());
            // A tail that fails or hangs is its own affair; its wall limit ends it.
            tokio::spawn(async move {
                let _ = told.await;
                drop(place);
            });
        }
    }
}

impl Observer for Tailed {
    fn log(&self, level: &str, text: &str) {
        let mut trace = self.trace.lock();
        if trace.takes(level.len() + text.len()) {
            trace.logs.push(Log { level: level.into(), message: vec![text.into()] });
        }
        drop(trace);
        self.next.log(level, text);
    }

    fn exception(&self, exception: &Exception) {
        let mut trace = self.trace.lock();
        if trace.takes(exception.name.len() + exception.message.len() + exception.stack.len()) {
            trace.exceptions.push(exception.clone());
        }
        drop(trace);
        self.next.exception(exception);
    }

    fn finished(&self, event: &str, report: &Report) {
        let mut trace = std::mem::take(&mut *self.trace.lock());
        trace.outcome = report.outcome.word();
        trace.event = event.into();
        trace.cpu_time = report.meter.cpu_us as f64 / 1_000.0;
        trace.wall_time = report.meter.wall_us as f64 / 1_000.0;
        if let crate::outcome::Outcome::Exception(e) = &report.outcome {
            trace.exceptions.push(e.clone());
        }
        // A tail's own calls are not traced: two workers that are each other's tails would never come to rest.
        if event != "tail" {
            self.send(&trace);
        }
        self.next.finished(event, report);
    }
}
