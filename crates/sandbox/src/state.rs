//! The life of a sandbox: in which state it is, and what follows from what happens. Pure: no clock, no processes.
//!
//! One task per sandbox feeds it and carries out what comes back, one step after the other; so a pause that a caller asks for, one that a
//! timeout brings, and one before a snapshot are the same path. Whether an effect succeeded comes back as another input.

use serde::{Deserialize, Serialize};

/// Where a sandbox is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum State {
    /// It is being made.
    Starting,
    /// Its processes run.
    Running {
        /// When its time is up, in milliseconds since 1970. `None`: never.
        deadline_ms: Option<u64>,
    },
    /// Its processes stand still, with their memory.
    Paused,
    /// It has no processes; what it changed is kept.
    Stopped {
        /// Why.
        why: Stop,
    },
    /// It is going, and nothing brings it back.
    Removing,
}

/// Why a sandbox has no processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It was asked for.
    Asked,
    /// Its time was up.
    Timeout,
    /// Its init ended: out of memory, or by itself.
    InitEnded,
    /// It could not be started.
    NotStarted,
    /// The node that ran it died, and it was not found again.
    NodeDied,
    /// The host lost power before the files that it began with were on the disk: there may be only a part of them. It does not start again.
    Torn,
}

/// What the owner of a sandbox decided once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// How long it runs after its start and after each resume, in milliseconds. `None`: until it is told otherwise.
    pub timeout_ms: Option<u64>,
    /// What happens when its time is up.
    pub on_timeout: OnTimeout,
    /// Whether a request to one of its ports wakes it.
    pub auto_resume: bool,
}

/// What happens when a sandbox's time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// It stands still, with its memory.
    Pause,
    /// It ends; what it changed is kept.
    Stop,
    /// It goes.
    Remove,
}

/// What happens to a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Its init answers.
    Started,
    /// It could not be started; nothing runs.
    NotStarted,
    /// Somebody wants its processes to stand still.
    Pause,
    /// Somebody wants them to go on, or to be started again.
    Resume,
    /// A request for one of its ports.
    Traffic,
    /// Somebody wants its processes to end.
    Stop,
    /// Somebody wants it to go.
    Remove,
    /// Somebody wants it to run until then.
    Until(Option<u64>),
    /// Time has passed.
    Tick,
    /// Its init has ended.
    InitEnded,
}

/// What is to be done, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write the new state down before anything else is done.
    Record,
    /// Make its processes.
    Launch,
    /// Let all stand still.
    Freeze,
    /// Let all go on.
    Thaw,
    /// End all, politely first.
    ShutDown,
    /// End all.
    Kill,
    /// Remove what it changed, its groups and its record.
    Clear,
    /// Say that it cannot be: not in this state.
    Refuse,
}

/// What follows when this happens now.
#[must_use]
pub fn step(state: &State, policy: &Policy, input: Input, now_ms: u64) -> (State, Vec<Effect>) {
    use Effect::{Freeze, Launch, Record, Refuse, ShutDown, Thaw};
    let running = || State::Running { deadline_ms: policy.timeout_ms.map(|timeout| now_ms.saturating_add(timeout)) };
    let stay = |effects| (state.clone(), effects);
    match (state, input) {
        (State::Removing, Input::Remove) => stay(vec![]),
        (State::Removing, Input::InitEnded | Input::Tick | Input::Started | Input::NotStarted) => stay(vec![]),
        (State::Removing, _) => stay(vec![Refuse]),
        (_, Input::Remove) => remove(state),
        (State::Starting, Input::Started) => (running(), vec![Record]),
        (State::Starting, Input::NotStarted) => (State::Stopped { why: Stop::NotStarted }, vec![Record]),
        (State::Starting | State::Running { .. } | State::Paused, Input::InitEnded) => {
            (State::Stopped { why: Stop::InitEnded }, vec![Effect::Kill, Record])
        }
        (State::Running { .. }, Input::Pause) => (State::Paused, vec![Freeze, Record]),
        (State::Running { .. }, Input::Stop) => (State::Stopped { why: Stop::Asked }, vec![ShutDown, Record]),
        (State::Running { .. }, Input::Until(deadline_ms)) => (State::Running { deadline_ms }, vec![Record]),
        (State::Running { deadline_ms: Some(deadline) }, Input::Tick) if *deadline <= now_ms => time_is_up(policy, state, now_ms),
        (State::Running { .. }, Input::Resume | Input::Traffic) => stay(vec![]),
        (State::Paused, Input::Resume) => (running(), vec![Thaw, Record]),
        (State::Paused, Input::Traffic) if policy.auto_resume => (running(), vec![Thaw, Record]),
        // Frozen processes cannot hear that they are to end.
        (State::Paused, Input::Stop) => (State::Stopped { why: Stop::Asked }, vec![Thaw, ShutDown, Record]),
        (State::Stopped { why: Stop::Torn }, Input::Resume | Input::Traffic) => stay(vec![Refuse]),
        (State::Stopped { .. }, Input::Resume) => (State::Starting, vec![Record, Launch]),
        (State::Stopped { .. }, Input::Traffic) if policy.auto_resume => (State::Starting, vec![Record, Launch]),
        (State::Stopped { .. }, Input::Stop | Input::InitEnded) => stay(vec![]),
        (State::Starting, Input::Resume | Input::Traffic) => stay(vec![]),
        (_, Input::Tick | Input::Started | Input::NotStarted) => stay(vec![]),
        (State::Starting, Input::Pause | Input::Stop | Input::Until(_)) => stay(vec![Refuse]),
        (State::Paused | State::Stopped { .. }, Input::Pause | Input::Until(_) | Input::Traffic) => stay(vec![Refuse]),
    }
}

/// The same as if somebody had asked for it.
fn time_is_up(policy: &Policy, state: &State, now_ms: u64) -> (State, Vec<Effect>) {
    match policy.on_timeout {
        OnTimeout::Pause => step(state, policy, Input::Pause, now_ms),
        OnTimeout::Remove => step(state, policy, Input::Remove, now_ms),
        OnTimeout::Stop => (State::Stopped { why: Stop::Timeout }, vec![Effect::ShutDown, Effect::Record]),
    }
}

fn remove(state: &State) -> (State, Vec<Effect>) {
    let alive = !matches!(state, State::Stopped { .. });
    let kill = alive.then_some(Effect::Kill);
    (State::Removing, [Effect::Record].into_iter().chain(kill).chain([Effect::Clear]).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the effects make of a sandbox's processes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Processes {
        None,
        Run,
        Frozen,
        Cleared,
    }

    fn inputs() -> impl Strategy<Value = Input> {
        prop_oneof![
            Just(Input::Pause),
            Just(Input::Resume),
            Just(Input::Traffic),
            Just(Input::Stop),
            Just(Input::Tick),
            Just(Input::InitEnded),
            Just(Input::Remove),
            (0..2_000u64).prop_map(|at| Input::Until(Some(at))),
        ]
    }

    fn policies() -> impl Strategy<Value = Policy> {
        let on_timeout = prop_oneof![Just(OnTimeout::Pause), Just(OnTimeout::Stop), Just(OnTimeout::Remove)];
        (proptest::option::of(0..300u64), on_timeout, any::<bool>()).prop_map(|(timeout_ms, on_timeout, auto_resume)| Policy {
            timeout_ms,
            on_timeout,
            auto_resume,
        })
    }

    fn applied(processes: Processes, effect: Effect) -> Processes {
        match (processes, effect) {
            (before, Effect::Record | Effect::Refuse) => before,
            (Processes::Run, Effect::Freeze) => Processes::Frozen,
            (Processes::Frozen, Effect::Thaw) => Processes::Run,
            (Processes::Run, Effect::ShutDown) => Processes::None,
            (Processes::None, Effect::Launch) => Processes::Run,
            (Processes::Run | Processes::Frozen | Processes::None, Effect::Kill) => Processes::None,
            (Processes::None, Effect::Clear) => Processes::Cleared,
            impossible => panic!("{impossible:?}"),
        }
    }

    proptest! {
        /// No effect is asked for that the processes cannot undergo, the state always says what they are, and nothing comes back.
        #[test]
        fn the_state_says_what_the_processes_are(policy in policies(), steps in proptest::collection::vec((inputs(), 0..200u64), 0..60)) {
            let (mut state, mut processes, mut now) = (State::Starting, Processes::Run, 0);
            for (input, passed) in std::iter::once((Input::Started, 0)).chain(steps) {
                now += passed;
                let before = state.clone();
                let mut input = Some(input);
                while let Some(happens) = input.take() {
                    let (next, effects) = step(&state, &policy, happens, now);
                    for effect in effects {
                        processes = applied(processes, effect);
                        // A launch that succeeds says so.
                        input = (effect == Effect::Launch).then_some(Input::Started).or(input);
                    }
                    state = next;
                }
                prop_assert!(before != State::Removing || state == State::Removing);
                let expected = match state {
                    State::Starting | State::Running { .. } => Processes::Run,
                    State::Paused => Processes::Frozen,
                    State::Stopped { .. } => Processes::None,
                    State::Removing => Processes::Cleared,
                };
                prop_assert_eq!(processes, expected);
            }
        }
    }

    #[test]
    fn a_timeout_is_what_somebody_would_have_asked_for() {
        let policy = Policy { timeout_ms: Some(10), on_timeout: OnTimeout::Pause, auto_resume: true };
        let running = State::Running { deadline_ms: Some(10) };
        assert_eq!(step(&running, &policy, Input::Tick, 9), (running.clone(), vec![]));
        assert_eq!(step(&running, &policy, Input::Tick, 10), step(&running, &policy, Input::Pause, 10));
        assert_eq!(
            step(&State::Paused, &policy, Input::Traffic, 50),
            (State::Running { deadline_ms: Some(60) }, vec![Effect::Thaw, Effect::Record])
        );
        let asleep = Policy { auto_resume: false, ..policy };
        assert_eq!(step(&State::Paused, &asleep, Input::Traffic, 50).1, [Effect::Refuse]);
    }
}
