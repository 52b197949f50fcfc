//! Where a call stands in the chain of calls that led to it: a request makes a worker call another, which calls a third …
//! Carried with every call from isolate to isolate, and checked where it enters one, so that a ring of workers ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::outcome::{Exception, Outcome};

/// Isolates that a call may come through, one within the other.
const DEPTH_MAX: u32 = 32;

/// Calls between isolates that one call from outside may lead to, all in all: a worker that calls itself twice each time would
/// reach 2³² by depth alone.
const CALLS_MAX: u32 = 100_000;

/// Tails that a chain may come through: a tail's own call is traced like any other, and two workers that are each other's tails, or a
/// tail that calls the worker it listens to, would never come to rest.
const TAILS_MAX: u32 = 4;

/// Actors of which one chain gathers receipts.
const RECEIPTS_MAX: usize = 64;

/// Receipts of the actors that a chain of calls comes through, gathered for whoever made the first call. One for each actor, the latest.
#[derive(Clone, Debug, Default)]
pub struct Receipts(Arc<Mutex<BTreeMap<Arc<str>, String>>>);

impl Receipts {
    /// An actor has answered, and this says where in its log everything is that it wrote before. The first 64 actors count.
    pub fn put(&self, actor: &str, receipt: String) {
        let mut gathered = self.0.lock();
        if let Some(known) = gathered.get_mut(actor) {
            *known = receipt;
        } else if gathered.len() < RECEIPTS_MAX {
            gathered.insert(actor.into(), receipt);
        }
    }

    /// What was gathered so far, by actor.
    #[must_use]
    pub fn gathered(&self) -> Vec<String> {
        self.0.lock().values().cloned().collect()
    }
}

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
    /// Where receipts go, if somebody wants them.
    receipts: Option<Receipts>,
}

impl Chain {
    /// The same chain under a label, which observers of all isolates that it comes through are told.
    #[must_use]
    pub fn labelled(self, label: &str) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// The same chain, and the receipts of the actors that it will come through.
    #[must_use]
    pub fn with_receipts(self) -> (Self, Receipts) {
        let receipts = Receipts::default();
        (Self { receipts: Some(receipts.clone()), ..self }, receipts)
    }

    /// Where whoever calls an actor for this chain puts the receipt; absent where nobody wants one.
    #[must_use]
    pub fn receipts(&self) -> Option<&Receipts> {
        self.receipts.as_ref()
    }

    /// Its label.
    pub(crate) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The chain of a call that the call of this chain makes.
    pub(crate) fn next(&mut self) -> Self {
        let calls = Some(self.calls.get_or_insert_default().clone());
        Self { depth: self.depth + 1, tails: self.tails, calls, label: self.label.clone(), receipts: self.receipts.clone() }
    }

    /// The chain of the call that delivers a trace of the call of this chain; `None` when it ends here.
    pub(crate) fn tail(&mut self) -> Option<Self> {
        (self.tails < TAILS_MAX).then(|| Self { tails: self.tails + 1, receipts: None, ..self.next() })
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
        let (mut asking, receipts) = Chain::default().with_receipts();
        for n in 0..=RECEIPTS_MAX {
            asking.next().next().receipts().unwrap().put(&n.to_string(), "first".into());
        }
        asking.next().receipts().unwrap().put("0", "second".into());
        let gathered = receipts.gathered();
        assert_eq!((gathered.len(), gathered[0].as_str(), gathered[1].as_str()), (RECEIPTS_MAX, "second", "first"));
        assert!(asking.tail().unwrap().receipts().is_none() && Chain::default().next().receipts().is_none());
        let mut tailed = Chain::default();
        for _ in 0..TAILS_MAX {
            tailed = tailed.tail().unwrap().next();
        }
        assert!(tailed.tail().is_none());
    }
}
