//! When which actor is to be woken: a pure schedule over a window of the directory, and what a failed alarm waits for.
//!
//! Driven by `firing.rs`. It holds the wake-ups up to its *horizon* only; those beyond it stay in the directory's index until the horizon moves,
//! so a million alarms for next year cost no memory.

use std::collections::{BTreeSet, HashMap};

use skep_id::ActorId;

/// Wake-ups that are kept in memory at most; the horizon is drawn in when there are more.
pub(crate) const WINDOW_MAX: usize = 50_000;

/// How far the horizon is ahead of the clock, in milliseconds.
pub(crate) const HORIZON_MS: u64 = 60_000;

/// The wake-ups of the near future.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// Every wake-up before it is in here; by time and actor, as the directory's index is, so that many at one moment can be read in pieces.
    horizon: (u64, ActorId),
    order: BTreeSet<(u64, ActorId)>,
    at: HashMap<ActorId, u64>,
    /// Those being fired. What is set for them meanwhile is looked at when they are done.
    firing: HashMap<ActorId, Option<u64>>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { horizon: (0, ActorId::new([0; 32])), order: BTreeSet::new(), at: HashMap::new(), firing: HashMap::new() }
    }
}

impl Schedule {
    /// An actor's next wake-up, or none, as of its newest record.
    pub(crate) fn set(&mut self, actor: ActorId, wake_ms: Option<u64>) {
        if let Some(after) = self.firing.get_mut(&actor) {
            *after = wake_ms;
            return;
        }
        self.place(actor, wake_ms);
    }

    fn place(&mut self, actor: ActorId, wake_ms: Option<u64>) {
        if let Some(before) = self.at.remove(&actor) {
            self.order.remove(&(before, actor));
        }
        let Some(wake_ms) = wake_ms.filter(|ms| (*ms, actor) < self.horizon) else { return };
        self.order.insert((wake_ms, actor));
        self.at.insert(actor, wake_ms);
        if self.order.len() > WINDOW_MAX
            && let Some(last) = self.order.pop_last()
        {
            self.at.remove(&last.1);
            self.horizon = last;
        }
    }

    /// Whether the directory should be read on: the horizon has come near, or the clock has jumped.
    pub(crate) fn wants_window(&self, now_ms: u64) -> bool {
        self.order.len() < WINDOW_MAX / 2 && self.horizon.0 <= now_ms.saturating_add(HORIZON_MS / 2)
    }

    /// The wake-ups of the directory from the horizon on, in order. `complete`: there are no more before `until_ms`.
    pub(crate) fn extend(&mut self, rows: Vec<(u64, ActorId)>, until_ms: u64, complete: bool) {
        let until = (until_ms, ActorId::new([0; 32]));
        let read_to = if complete { until } else { rows.last().copied().unwrap_or(until) };
        self.horizon = self.horizon.max(read_to);
        for (wake_ms, actor) in rows {
            // What is known here is newer than the row.
            if !self.at.contains_key(&actor) && !self.firing.contains_key(&actor) {
                self.place(actor, Some(wake_ms));
            }
        }
    }

    /// Where the directory is to be read on from.
    pub(crate) fn horizon(&self) -> (u64, ActorId) {
        self.horizon
    }

    /// Takes out the actor that has been due for longest; it counts as being fired until [`Schedule::done`].
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Option<ActorId> {
        let (_, actor) = self.order.first().copied()?;
        self.take_one(actor, now_ms).then_some(actor)
    }

    /// The actors that are due and not being fired, those that have been due for longest first.
    pub(crate) fn overdue(&self, now_ms: u64) -> impl Iterator<Item = ActorId> {
        self.order.iter().take_while(move |(ms, _)| *ms <= now_ms).map(|(_, actor)| *actor)
    }

    /// Takes out one actor, as [`Schedule::take_due`] does, if it is due.
    pub(crate) fn take_one(&mut self, actor: ActorId, now_ms: u64) -> bool {
        let Some(ms) = self.at.get(&actor).copied().filter(|ms| *ms <= now_ms) else { return false };
        self.order.remove(&(ms, actor));
        self.at.remove(&actor);
        self.firing.insert(actor, None);
        true
    }

    /// The alarms of an actor were fired; `wake_ms` is when it is to be looked at again.
    pub(crate) fn done(&mut self, actor: ActorId, wake_ms: Option<u64>) {
        if let Some(set) = self.firing.remove(&actor) {
            self.place(actor, [set, wake_ms].into_iter().flatten().min());
        }
    }

    /// The actor is gone.
    pub(crate) fn remove(&mut self, actor: ActorId) {
        self.firing.remove(&actor);
        self.place(actor, None);
    }

    /// Actors whose wake-up is due and has not been begun, as far as the window reaches, and since when the first of them has been due; and how many
    /// are being fired.
    pub(crate) fn due(&self, now_ms: u64) -> (usize, Option<u64>, usize) {
        let due = self.order.iter().take_while(|(ms, _)| *ms <= now_ms).count();
        (due, self.next_ms().filter(|ms| *ms <= now_ms), self.firing.len())
    }

    /// When the next is due.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.order.first().map(|(ms, _)| *ms)
    }
}

/// How an attempt at an alarm failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Its handler's fault: it counts.
    Handler,
    /// Not its fault: a disk, a node that goes down, code that was replaced.
    Internal,
}

/// What was tried of one alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attempts {
    /// Failures of the handler.
    pub(crate) counted: u32,
    /// All failures in a row.
    pub(crate) all: u32,
}

impl Attempts {
    /// After one more failure: when it is tried again, or `None` when it is given up.
    pub(crate) fn after(&mut self, failure: Failure, now_ms: u64, backoff_ms: u64, retries: u32) -> Option<u64> {
        if failure == Failure::Handler {
            self.counted += 1;
        }
        self.all += 1;
        let wait_ms = backoff_ms.saturating_mul(1 << (self.all - 1).min(9));
        (self.counted <= retries).then(|| now_ms.saturating_add(wait_ms))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(n: u8) -> ActorId {
        ActorId::new([n; 32])
    }

    #[test]
    fn retries_double_from_two_seconds_and_end_after_six() {
        let mut attempts = Attempts::default();
        let waits: Vec<_> = (0..7).map(|_| attempts.after(Failure::Handler, 0, 2_000, 6)).collect();
        let expected = [2_000, 4_000, 8_000, 16_000, 32_000, 64_000].map(Some);
        assert_eq!(waits[..6], expected);
        assert_eq!(waits[6], None, "given up");
    }

    #[test]
    fn failures_that_are_not_its_own_do_not_count() {
        let mut attempts = Attempts::default();
        for _ in 0..100 {
            assert!(attempts.after(Failure::Internal, 0, 2_000, 6).is_some());
        }
        assert_eq!(attempts.counted, 0);
        assert_eq!(attempts.after(Failure::Handler, 7, 2_000, 6), Some(7 + 2_000 * 512), "the wait has an end");
    }

    #[test]
    fn an_alarm_set_while_its_actor_is_fired_is_kept() {
        let mut schedule = Schedule::default();
        schedule.extend(vec![(5, id(1))], 1_000, true);
        assert_eq!((schedule.due(4), schedule.due(10)), ((0, None, 0), (1, Some(5), 0)));
        assert_eq!(schedule.take_due(10), Some(id(1)));
        assert_eq!(schedule.due(10), (0, None, 1));
        schedule.set(id(1), Some(50));
        assert_eq!(schedule.take_due(100), None, "never twice at once");
        schedule.done(id(1), Some(90));
        assert_eq!(schedule.next_ms(), Some(50));
    }

    #[test]
    fn one_that_is_due_may_be_taken_before_its_turn() {
        let mut schedule = Schedule::default();
        schedule.extend(vec![(1, id(1)), (2, id(2)), (9, id(3))], 1_000, true);
        assert_eq!(schedule.overdue(5).collect::<Vec<_>>(), [id(1), id(2)]);
        assert!(schedule.take_one(id(2), 5));
        assert!(!schedule.take_one(id(2), 5), "never twice at once");
        assert!(!schedule.take_one(id(3), 5), "it is not due");
        assert_eq!((schedule.take_due(5), schedule.take_due(5)), (Some(id(1)), None));
    }

    #[test]
    fn a_clock_that_jumps_fires_what_is_due_then_and_nothing_twice() {
        const HOUR: u64 = 3_600_000;
        let mut schedule = Schedule::default();
        schedule.extend(vec![(1_000, id(1)), (HOUR / 2, id(2))], 2 * HOUR, true);
        assert_eq!(schedule.take_due(1_000), Some(id(1)));
        schedule.done(id(1), None);
        assert_eq!(schedule.take_due(HOUR), Some(id(2)), "an hour forward");
        schedule.done(id(2), Some(HOUR + 2_000));
        assert_eq!(schedule.take_due(2_000), None, "an hour back");
        assert_eq!(schedule.take_due(HOUR + 2_000), Some(id(2)));
    }

    #[test]
    fn the_window_is_bounded_and_what_is_outside_is_read_again() {
        let mut schedule = Schedule::default();
        let many: Vec<_> = (0..WINDOW_MAX as u64 + 10)
            .map(|n| {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&n.to_be_bytes());
                (n, ActorId::new(bytes))
            })
            .collect();
        let beyond = many[WINDOW_MAX];
        schedule.extend(many.clone(), 1 << 40, true);
        assert!(schedule.order.len() <= WINDOW_MAX);
        assert_eq!(schedule.horizon(), beyond, "read on from the first that is not in it");
        for (n, (_, expected)) in many[..WINDOW_MAX].iter().enumerate() {
            assert_eq!(schedule.take_due(n as u64), Some(*expected));
        }
        assert!(schedule.wants_window(WINDOW_MAX as u64));
    }

    proptest! {
        /// Against a plain map: everything before the horizon is due in order of time, at its latest wake-up.
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0..6u8, prop::option::of(0..500u64), 0..3u8), 0..80)) {
            let (mut schedule, mut model) = (Schedule::default(), BTreeMap::new());
            schedule.extend(Vec::new(), 1_000, true);
            let mut now = 0;
            for (n, wake, what) in steps {
                if what == 0 {
                    now += u64::from(n) * 20;
                    let mut last = 0;
                    while let Some(actor) = schedule.take_due(now) {
                        let ms = model.remove(&actor).expect("fired what was not set");
                        prop_assert!(ms <= now && ms >= last);
                        last = ms;
                        schedule.done(actor, None);
                    }
                    prop_assert!(model.values().all(|ms| *ms > now), "left out one that was due");
                } else {
                    schedule.set(id(n), wake);
                    match wake {
                        Some(ms) => model.insert(id(n), ms),
                        None => model.remove(&id(n)),
                    };
                }
            }
        }
    }
}
