//! The two gates of an actor: what goes out waits until what was written before it is durable, and what comes in waits while the guest says so.
//! Values with rules; `actor.rs` applies them.

use std::collections::{HashMap, VecDeque};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::operation::Done;
use crate::held::Charge;
use crate::instance::Effect;
use crate::target::BoxFuture;

/// Effects that may wait for the log before the actor takes no further events.
const EFFECTS_WAITING: usize = 4_096;

/// Host memory of waiting effects before the actor takes no further events, in bytes.
const BYTES_WAITING: usize = 8 << 20;

/// Input gates that may be held within one another.
pub(crate) const GATES_MAX: usize = 1_024;

/// How long an input gate may be held, as on Cloudflare's edge; the wall limit if that is less.
const GATE_HELD_MAX: Duration = Duration::from_secs(30);

/// What a turn asked for, waiting.
pub(super) struct Batch {
    /// Ready when what the turn wrote is durable; `None` once it is, and for a turn that wrote nothing.
    until: Option<BoxFuture<Result<(), String>>>,
    /// The call on whose account the turn ran.
    pub(super) payer: Option<u32>,
    pub(super) effects: Vec<Effect>,
    bytes: usize,
    _charge: Charge,
}

/// Effects of turns in the order of the turns.
#[derive(Default)]
pub(super) struct OutputGate {
    waiting: VecDeque<Batch>,
    effects: usize,
    bytes: usize,
}

impl OutputGate {
    /// Whether nothing waits.
    pub(super) fn is_open(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether so much waits that nothing more may come.
    pub(super) fn is_full(&self) -> bool {
        self.effects >= EFFECTS_WAITING || self.bytes >= BYTES_WAITING
    }

    /// Holds a turn's effects, of `bytes`, until it is durable and those before it are out.
    pub(super) fn hold(
        &mut self,
        until: Option<BoxFuture<Result<(), String>>>,
        (payer, effects): (Option<u32>, Vec<Effect>),
        (bytes, charge): (usize, Charge),
    ) {
        self.effects += effects.len();
        self.bytes += bytes;
        self.waiting.push_back(Batch { until, payer, effects, bytes, _charge: charge });
    }

    /// Ready when the turn in front is durable, or never will be. Never ready while nothing waits. May be dropped and called again.
    pub(super) async fn through(&mut self) -> Result<(), String> {
        std::future::poll_fn(|cx| {
            let Some(until) = self.waiting.front_mut().map(|batch| &mut batch.until) else { return Poll::Pending };
            let Some(future) = until else { return Poll::Ready(Ok(())) };
            let result = std::task::ready!(future.as_mut().poll(cx));
            *until = None;
            Poll::Ready(result)
        })
        .await
    }

    /// The turn in front, if it waits for nothing any more.
    pub(super) fn pop(&mut self) -> Option<Batch> {
        let batch = self.waiting.pop_front_if(|batch| batch.until.is_none())?;
        self.effects -= batch.effects.len();
        self.bytes -= batch.bytes;
        Some(batch)
    }
}

/// What was started, or connected, while a gate was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Operation(u32),
    Socket(u32),
}

/// The gates that the guest holds, innermost last.
#[derive(Default)]
pub(super) struct InputGate {
    /// Each by its serial number.
    held: Vec<u64>,
    last: u64,
    /// The innermost gate at the time something was started; absent: none.
    since: HashMap<Source, u64>,
    taken: Option<Instant>,
    /// What has come for things from before, in order, each with its place on the isolate's account.
    waiting: VecDeque<(Done, Charge)>,
}

impl InputGate {
    /// Whether no gate is held.
    pub(super) fn is_free(&self) -> bool {
        self.held.is_empty()
    }

    /// How many gates are held.
    pub(super) fn depth(&self) -> usize {
        self.held.len()
    }

    /// Takes another; `false` when there are too many.
    pub(super) fn take(&mut self) -> bool {
        if self.held.len() >= GATES_MAX {
            return false;
        }
        if self.held.is_empty() {
            self.taken = Some(Instant::now());
        }
        self.last += 1;
        self.held.push(self.last);
        true
    }

    /// Gives the innermost back. One that is not held is nobody's.
    pub(super) fn give_back(&mut self) {
        self.held.pop();
        if self.held.is_empty() {
            self.taken = None;
            self.since.clear();
        }
    }

    /// Whether it was held for longer than may be.
    pub(super) fn is_overdue(&self, wall: Duration) -> bool {
        self.taken.is_some_and(|taken| taken.elapsed() > wall.min(GATE_HELD_MAX))
    }

    /// Something begins now.
    pub(super) fn begins(&mut self, source: Source) {
        if let Some(innermost) = self.held.last() {
            self.since.insert(source, *innermost);
        }
    }

    /// It is over.
    pub(super) fn is_over(&mut self, source: Source) {
        self.since.remove(&source);
    }

    /// Whether what it brings may go in now.
    pub(super) fn lets(&self, done: &Done) -> bool {
        let source = match done {
            Done::Silent | Done::Kept { .. } => return true,
            Done::Started { id, .. } => Source::Operation(*id),
            Done::Socket { number, .. } => Source::Socket(*number),
        };
        self.held.last().is_none_or(|innermost| self.since.get(&source).is_some_and(|since| since >= innermost))
    }

    /// Keeps something for later.
    pub(super) fn wait(&mut self, done: Done, charge: Charge) {
        self.waiting.push_back((done, charge));
    }

    /// How much is kept.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The first of what was kept that may go in now.
    pub(super) fn next(&mut self) -> Option<Done> {
        let at = self.waiting.iter().position(|(done, _)| self.lets(done))?;
        self.waiting.remove(at).map(|(done, _)| done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::Held;

    fn ended(id: u32) -> Done {
        Done::Started { id, result: Err(crate::host::HostError::new("Error", "")) }
    }

    fn id(done: Option<Done>) -> Option<u32> {
        match done {
            Some(Done::Started { id, .. }) => Some(id),
            _ => None,
        }
    }

    #[test]
    fn only_what_was_started_since_the_innermost_gate_goes_in() {
        let mut gate = InputGate::default();
        let held = Held::default();
        gate.begins(Source::Operation(1));
        assert!(gate.lets(&ended(1)), "nothing is held");
        assert!(gate.take());
        gate.begins(Source::Operation(2));
        assert!(gate.take());
        gate.begins(Source::Operation(3));
        assert_eq!([1, 2, 3].map(|id| gate.lets(&ended(id))), [false, false, true]);
        for id in [1, 2] {
            gate.wait(ended(id), held.charge(10));
        }
        assert_eq!(id(gate.next()), None);
        gate.give_back();
        assert!(gate.lets(&ended(3)), "what the inner one started was started since the outer as well");
        assert_eq!((id(gate.next()), id(gate.next())), (Some(2), None));
        gate.give_back();
        assert_eq!((id(gate.next()), held.now()), (Some(1), 0));
        gate.give_back();
        assert!(gate.is_free() && gate.take() && !gate.lets(&ended(3)), "giving back what is not held is nothing; a new gate is a new one");
    }

    #[test]
    fn gates_within_gates_are_bounded() {
        let mut gate = InputGate::default();
        assert_eq!((0..5_000).filter(|_| gate.take()).count(), GATES_MAX);
    }

    #[tokio::test]
    async fn turns_leave_in_order_and_full_is_full() {
        let held = Held::default();
        let (first, second) = (tokio::sync::oneshot::channel::<()>(), tokio::sync::oneshot::channel::<()>());
        let until = |rx: tokio::sync::oneshot::Receiver<()>| -> Option<BoxFuture<Result<(), String>>> {
            Some(Box::pin(async move { rx.await.map_err(|_| "lost".to_owned()) }))
        };
        let mut gate = OutputGate::default();
        for (payer, until) in [until(first.1), None, until(second.1)].into_iter().enumerate() {
            let effects = (0..EFFECTS_WAITING / 2).map(|_| Effect::Abandon(0)).collect();
            gate.hold(until, (Some(payer as u32), effects), (7, held.charge(7)));
        }
        assert!(gate.is_full() && gate.pop().is_none() && held.now() == 21);
        first.0.send(()).unwrap();
        gate.through().await.unwrap();
        let out: Vec<_> = std::iter::from_fn(|| gate.pop()).map(|batch| batch.payer).collect();
        assert_eq!((out, gate.is_full(), gate.is_open()), (vec![Some(0), Some(1)], false, false));
        drop(second.0);
        assert_eq!(gate.through().await, Err("lost".to_owned()));
    }
}
