//! Where a call stands in the chain of calls that led to it: a request makes a worker call another, which calls a third …
//! Carried with every call from isolate to isolate, and checked where it enters one, so that a ring of workers ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::outcome::{Exception, Outcome};

/// Isolates that a call may come through, one within the other.
const DEPTH_MAX: u32 = 32;

/// Calls between isolates that one call from outside may lead to, all in all: a worker that calls itself twice each time would
/// reach 2³² by depth alone.
const CALLS_MAX: u32 = 100_000;

/// Tails that a chain may come through: a tail's own call is traced like any other, and two workers that are each other's tails, or a
/// tail that calls the worker it listens to, would never come to rest.
const TAILS_MAX: u32 = 4;

/// The chain behind a call. The default is a call from outside.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    depth: u32,
    /// How often it went from a call to the trace of it.
    tails: u32,
    /// Calls of the whole chain so far; made when the first is.
    calls: Option<Arc<AtomicU32>>,
    /// What observers know it by.
    label: Option<Arc<str>>,
}

impl Chain {
    /// The same chain under a label, which observers of all isolates that it comes through are told.
    #[must_use]
    pub fn labelled(self, label: &str) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// Its label.
    pub(crate) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The chain of a call that the call of this chain makes.
    pub(crate) fn next(&mut self) -> Self {
        let calls = Some(self.calls.get_or_insert_default().clone());
        Self { depth: self.depth + 1, tails: self.tails, calls, label: self.label.clone() }
    }

    /// The chain of the call that delivers a trace of the call of this chain; `None` when it ends here.
    pub(crate) fn tail(&mut self) -> Option<Self> {
        (self.tails < TAILS_MAX).then(|| Self { tails: self.tails + 1, ..self.next() })
    }

    /// Whether it came from outside.
    pub(crate) fn is_root(&self) -> bool {
        self.depth == 0
    }

    /// Enters an isolate: counts the call, or says why it goes no further.
    pub(crate) fn enter(&self) -> Result<(), Outcome> {
        if self.depth > DEPTH_MAX {
            return Err(exceeded(format!(
                "Subrequest depth limit exceeded. This call has come through {DEPTH_MAX} workers already; do they call one another in a ring?"
            )));
        }
        match &self.calls {
            Some(calls) if calls.fetch_add(1, Ordering::Relaxed) >= CALLS_MAX => {
                Err(exceeded(format!("Too many subrequests. One request has led to {CALLS_MAX} calls between workers.")))
            }
            _ => Ok(()),
        }
    }
}

fn exceeded(message: String) -> Outcome {
    Outcome::Exception(Exception { name: "Error".into(), message, stack: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_number_are_bounded() {
        let mut chain = Chain::default();
        for _ in 0..DEPTH_MAX {
            chain = chain.next();
            assert_eq!(chain.enter(), Ok(()));
        }
        assert!(chain.next().enter().is_err());
        let mut root = Chain::default();
        let calls: Vec<_> = (0..CALLS_MAX).map(|_| root.next().enter()).collect();
        assert!(calls.iter().all(Result::is_ok));
        assert!(root.next().enter().is_err());
        assert_eq!(Chain::default().next().enter(), Ok(()));
        let mut tailed = Chain::default();
        for _ in 0..TAILS_MAX {
            tailed = tailed.tail().unwrap().next();
        }
        assert!(tailed.tail().is_none());
    }
}
