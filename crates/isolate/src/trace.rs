//! Tails: what happened in a call of a loaded worker, sent to the workers named as its tails once the call has ended.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use crate::outcome::{Exception, Report};
use crate::target::Target;
use crate::worker::Observer;

/// Log lines kept for one trace; the rest is counted as truncated.
const LOGS_MAX: usize = 256;

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
}

/// An observer that also sends traces, if there is anyone to send them to.
pub(crate) fn observed(next: Arc<dyn Observer>, tails: Tails) -> Arc<dyn Observer> {
    match tails.0.is_empty() {
        true => next,
        false => Arc::new(Tailed { next, tails, trace: Mutex::default() }),
    }
}

impl Observer for Tailed {
    fn log(&self, level: &str, text: &str) {
        let mut trace = self.trace.lock();
        match trace.logs.len() < LOGS_MAX {
            true => trace.logs.push(Log { level: level.into(), message: vec![text.into()] }),
            false => trace.truncated = true,
        }
        drop(trace);
        self.next.log(level, text);
    }

    fn exception(&self, exception: &Exception) {
        let mut trace = self.trace.lock();
        if trace.exceptions.len() < LOGS_MAX {
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
        let json = serde_json::to_string(&[trace]).unwrap_or_else(|_| "[]".into());
        for tail in &self.tails.0 {
            // A tail that fails or hangs is its own affair; its wall limit ends it.
            tokio::spawn(tail.tail(json.clone()));
        }
        self.next.finished(event, report);
    }
}
