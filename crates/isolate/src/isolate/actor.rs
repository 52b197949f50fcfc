//! What is different about the task of an actor: its effects pass the output gate, its events the input gate, and it can be written down and
//! ended from outside at any time. Driven by `task.rs`, which does everything else; what is behind the actor is its `Durable`.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Sleep;

use super::gate::{InputGate, OutputGate, Source};
use super::operation::Done;
use super::task::{Next, Task};
use crate::cpu::Cpu;
use crate::durable::{Actor, Durable};
use crate::instance::Effect;
use crate::ops::{self, number};
use crate::outcome::{Exception, Outcome};
use crate::resources::Keepable;
use crate::snapshot::{HibernateError, Snapshot, SnapshotError};
use crate::socket::{Socket, SocketMessage, deliver};
use crate::target::Target;
use crate::wire::{Wire, WireOut};

const GATE_OVERDUE: &str =
    "A call to blockConcurrencyWhile() in a Durable Object waited for too long. The call was canceled and the Durable Object was reset.";

const COMMIT_FAILED: &str = "Internal error in Durable Object storage caused object to be reset.";

/// Effects that nobody outside notices, carried out when their turn ends.
const AT_ONCE: &[&str] = &["log", "exception", "rpc.method", "actor.gate"];

/// What an actor is asked past its queue of calls.
#[derive(Debug)]
pub(super) enum Control {
    /// Ends now, for that reason.
    End(Exception),
    Snapshot(oneshot::Sender<Result<Snapshot, SnapshotError>>),
    Hibernate(oneshot::Sender<Result<Snapshot, HibernateError>>),
}

/// Who an actor is.
#[derive(Clone)]
struct Identity {
    class: String,
    id: String,
    name: Option<String>,
}

/// What the task of an actor has beyond that of any isolate.
pub(super) struct Acting {
    identity: Identity,
    /// What the instance gets when it begins: `ctx.props`, and what is behind it.
    props: (Bytes, Vec<Arc<dyn Target>>),
    durable: Option<Box<dyn Durable>>,
    control: mpsc::UnboundedReceiver<Control>,
    /// What was asked while a turn ran.
    asked: VecDeque<Control>,
    pub(super) output: OutputGate,
    pub(super) input: InputGate,
    /// Who waits for the actor to be written down once nothing is held.
    snapshots: Vec<oneshot::Sender<Result<Snapshot, SnapshotError>>>,
    /// Tells those who listen to a socket to give it back.
    listeners: HashMap<u32, Arc<Notify>>,
    /// Sockets that the state shall keep as soon as they have been given back, and the arguments for it.
    keeping: HashMap<u32, (mpsc::Sender<SocketMessage>, Vec<WireOut>)>,
    /// Alarms whose handlers run, by their calls.
    pub(super) ringing: HashMap<u32, String>,
    /// Since when nothing goes in.
    paused: Option<Instant>,
    /// Why it ends: it was ended from outside while a turn ran.
    ending: Option<Outcome>,
}

impl Acting {
    pub(super) fn new(actor: Actor) -> (mpsc::UnboundedSender<Control>, Box<Self>) {
        let (tx, control) = mpsc::unbounded_channel();
        let Actor { class, id, name, props, targets, durable } = actor;
        let acting = Self {
            identity: Identity { class, id, name },
            props: (props, targets),
            durable: Some(durable),
            control,
            asked: VecDeque::new(),
            output: OutputGate::default(),
            input: InputGate::default(),
            snapshots: Vec::new(),
            listeners: HashMap::new(),
            keeping: HashMap::new(),
            ringing: HashMap::new(),
            paused: None,
            ending: None,
        };
        (tx, Box::new(acting))
    }

    /// Id and class, for traces.
    pub(super) fn identity(&self) -> (&str, &str) {
        (&self.identity.id, &self.identity.class)
    }

    /// Whether nothing goes in for now, whatever the input gate says. One that has not `loaded` yet is not written down.
    pub(super) fn is_paused(&self, loaded: bool) -> bool {
        self.output.is_full() || (loaded && !self.snapshots.is_empty())
    }

    /// Why it was ended from outside, once.
    pub(super) fn ended(&mut self) -> Option<Outcome> {
        self.ending.take()
    }

    /// Whether something of it is on its way to somebody, or kept for it.
    pub(super) fn waits(&self) -> bool {
        !self.output.is_open() || !self.input.is_free() || self.input.waiting() > 0
    }

    /// Where whoever listens to a socket hears that it is wanted back.
    pub(super) fn listener(&mut self, socket: u32) -> Arc<Notify> {
        self.listeners.entry(socket).or_default().clone()
    }

    /// Runs a turn to its end, which comes soon when the actor is ended meanwhile.
    pub(super) async fn run<T>(&mut self, turn: impl Future<Output = T>, cpu: &Cpu) -> T {
        let mut turn = std::pin::pin!(turn);
        loop {
            tokio::select! {
                biased;
                ended = &mut turn => return ended,
                Some(control) = self.control.recv() => match control {
                    Control::End(reason) => {
                        self.ending = Some(Outcome::Reset(reason));
                        cpu.stop();
                        return turn.await;
                    }
                    other => self.asked.push_back(other),
                },
            }
        }
    }
}

impl Task {
    /// Gives the instance what is behind the actor; the actor's argument of `load` and `wake`.
    pub(super) fn become_actor(&mut self) -> Result<WireOut, Outcome> {
        let Some(acting) = self.actor.as_mut() else { return Ok(Wire::Undefined) };
        let Identity { class, id, name } = acting.identity.clone();
        let ((props, targets), durable) = (std::mem::take(&mut acting.props), acting.durable.take());
        if let Some(state) = self.state() {
            state.resources.number_from(durable.as_ref().map_or(0, |durable| durable.last_socket()));
            state.durable = durable;
        }
        let props = match props.is_empty() {
            true => Wire::Null,
            false => {
                let channels = self.add_channels(&targets).ok_or_else(|| Outcome::Internal("too many channels".into()))?;
                Wire::Array(vec![props.to_vec().into(), channels])
            }
        };
        Ok(Wire::Array(vec![class.into(), id.into(), name.into(), props]))
    }

    /// The same for one that wakes: it holds its gates already.
    pub(super) fn wake_actor(&mut self, gates: u32) -> Result<WireOut, Outcome> {
        let identity = self.become_actor()?;
        let Some(acting) = self.actor.as_mut() else { return Ok(identity) };
        let held = (0..gates).all(|_| acting.input.take());
        if gates > 0
            && let Some(durable) = self.durable()
        {
            durable.call("actor.gate", &[true.into()], 0);
        }
        match held {
            true => Ok(identity),
            false => Err(Outcome::Internal("the snapshot holds too many gates".into())),
        }
    }

    fn durable(&mut self) -> Option<&mut Box<dyn Durable>> {
        self.state()?.durable.as_mut()
    }

    /// What can happen next to an actor.
    pub(super) async fn next_gated(&mut self, wall_tick: &mut Pin<Box<Sleep>>, callers: bool) -> Result<Next, Outcome> {
        let now = super::task::now_ms();
        let timer = Duration::from_secs_f64((self.timer_ms - now).clamp(0.0, 86_400_000.0) / 1_000.0);
        loop {
            self.answer_snapshots();
            let Some(acting) = self.actor.as_mut() else { return Err(Outcome::Internal("it is no actor".into())) };
            if let Some(control) = acting.asked.pop_front() {
                return Ok(Next::Control(control));
            }
            let (paused, free) = (acting.is_paused(self.loaded), acting.input.is_free());
            if !paused && let Some(done) = acting.input.next() {
                return Ok(Next::Done(done));
            }
            acting.paused = if paused { acting.paused.or_else(|| Some(Instant::now())) } else { None };
            let watches_wall = !self.calls.is_empty() || !self.loaded || !free || paused;
            let done = tokio::select! {
                biased;
                Some(control) = acting.control.recv() => return Ok(Next::Control(control)),
                result = acting.output.through(), if !acting.output.is_open() => return Ok(Next::Durable(result)),
                Some(done) = self.in_flight.next(), if !paused && !self.in_flight.is_empty() => done,
                Some(channel) = self.watched.next(), if !paused && free && !self.watched.is_empty() => return Ok(Next::Broken(channel)),
                command = self.rx.recv(), if !paused && free && callers && self.loaded => {
                    return Ok(command.map_or(Next::NoMoreCallers, Next::Command));
                }
                () = tokio::time::sleep(timer), if !paused && self.timer_ms.is_finite() => return Ok(Next::Timer),
                () = wall_tick.as_mut(), if watches_wall => return Ok(Next::WallTick),
            };
            if acting.input.lets(&done) {
                return Ok(Next::Done(done));
            }
            self.wait_at_gate(done)?;
        }
    }

    /// Keeps what has come for something from before the input gate was taken; on the isolate's account, for it could be much.
    fn wait_at_gate(&mut self, done: Done) -> Result<(), Outcome> {
        let bytes = ops::effect_bytes(&[]) + done.footprint();
        let charge = self.state().and_then(|state| state.room(bytes).then(|| state.held.charge(bytes)));
        let (Some(charge), Some(acting)) = (charge, self.actor.as_mut()) else { return Err(Outcome::Memory) };
        acting.input.wait(done, charge);
        Ok(())
    }

    /// A turn has ended by itself: what it wrote is on its way, and what it asked for goes out, or waits.
    pub(super) fn actor_turn_ended(&mut self, effects: Vec<Effect>, bytes: usize) -> Result<(), Outcome> {
        let Some(acting) = self.actor.as_mut() else { return Ok(()) };
        if let Some(outcome) = acting.ending.take() {
            // Ended from outside while the turn came to its own end.
            self.durable().into_iter().for_each(|durable| durable.cut_off());
            return Err(outcome);
        }
        self.alarms_done(&effects);
        let until = self.durable().and_then(|durable| durable.end_turn());
        let effects = self.at_once(effects)?;
        let Some(acting) = self.actor.as_mut() else { return Ok(()) };
        if until.is_none() && acting.output.is_open() {
            effects.into_iter().for_each(|effect| self.carry_out(effect));
            return Ok(());
        }
        if until.is_some() || !effects.is_empty() {
            let (payer, charge) = (self.current, self.state().map(|state| state.held.charge(bytes)));
            let (Some(charge), Some(acting)) = (charge, self.actor.as_mut()) else { return Ok(()) };
            acting.output.hold(until, (payer, effects), (bytes, charge));
        }
        Ok(())
    }

    /// Alarms whose handlers have come back with this turn are done by its commit: one record instead of two, and no moment in between.
    fn alarms_done(&mut self, effects: &[Effect]) {
        let mut done = Vec::new();
        for effect in effects {
            let Some(acting) = self.actor.as_mut().filter(|acting| !acting.ringing.is_empty()) else { break };
            // The first of them is the answer.
            let Effect::Do { op: op @ ("fail" | "result" | "done"), args } = effect else { continue };
            let id = number(args, 0);
            let failed = *op == "fail" || args.get(3).and_then(Wire::as_bool) == Some(true);
            // One whose caller has gone, or has had another answer, is not done either.
            if let Some(name) = acting.ringing.remove(&id)
                && !failed
                && self.calls.get(&id).is_some_and(|call| call.is_told())
            {
                done.push(name);
            }
        }
        for name in done {
            self.durable().into_iter().for_each(|durable| durable.alarm_done(&name));
        }
    }

    /// Carries out those effects of a turn that wait for nothing, and gives back the others. Takes note of what was started under which gate.
    fn at_once(&mut self, mut effects: Vec<Effect>) -> Result<Vec<Effect>, Outcome> {
        let mut i = 0;
        while let Some(effect) = effects.get(i) {
            let Some(acting) = self.actor.as_mut() else { return Ok(effects) };
            let now = match effect {
                Effect::Start { id, .. } => {
                    acting.input.begins(Source::Operation(*id));
                    false
                }
                Effect::Do { op: "loaded", args } => !matches!(args.first(), Some(Wire::Array(_))),
                Effect::Do { op, .. } => AT_ONCE.contains(op),
                Effect::Abandon(_) | Effect::Arrive(_) => false,
            };
            i += 1;
            if !now {
                continue;
            }
            // What is left in its place is nothing: moving the rest up for each line of a log would take the square of the time.
            match std::mem::replace(&mut effects[i - 1], Effect::Do { op: "", args: Vec::new() }) {
                Effect::Do { op: "actor.gate", args } => self.turn_gate(args.first().and_then(Wire::as_bool).unwrap_or(false))?,
                Effect::Do { op, args } => self.carry_out_one(op, args),
                Effect::Start { .. } | Effect::Abandon(_) | Effect::Arrive(_) => {}
            }
        }
        Ok(effects)
    }

    fn turn_gate(&mut self, take: bool) -> Result<(), Outcome> {
        let Some(acting) = self.actor.as_mut() else { return Ok(()) };
        match take {
            true if !acting.input.take() => Err(reset("too many calls of blockConcurrencyWhile() within one another")),
            true => Ok(()),
            false => {
                acting.input.give_back();
                Ok(())
            }
        }
    }

    /// The turn in front is durable, or never will be.
    pub(super) fn durable_now(&mut self, result: Result<(), String>) -> Result<(), Outcome> {
        if let Err(why) = result {
            return Err(self.lost(&why));
        }
        while let Some(batch) = self.actor.as_mut().and_then(|acting| acting.output.pop()) {
            self.current = batch.payer;
            batch.effects.into_iter().for_each(|effect| self.carry_out(effect));
        }
        Ok(())
    }

    /// Writes it down for those who wait for that, if nothing is held. Not before its constructor has come back: a heap in the middle of that is none.
    fn answer_snapshots(&mut self) {
        let Some(acting) = self.actor.as_mut() else { return };
        if !self.loaded || !acting.output.is_open() || acting.snapshots.is_empty() {
            return;
        }
        for tx in std::mem::take(&mut acting.snapshots) {
            let _ = tx.send(self.snapshot());
        }
    }

    /// Does what was asked past the queue; `true` when the actor has gone to sleep.
    pub(super) fn control(&mut self, control: Control) -> Result<bool, Outcome> {
        match control {
            Control::End(reason) => Err(Outcome::Reset(reason)),
            Control::Snapshot(tx) => {
                if let Some(acting) = self.actor.as_mut() {
                    acting.snapshots.push(tx);
                }
                Ok(false)
            }
            Control::Hibernate(tx) => {
                let slept = self.hibernate();
                let ended = !matches!(slept, Err(HibernateError::Busy(_)));
                let _ = tx.send(slept);
                Ok(ended)
            }
        }
    }

    fn hibernate(&mut self) -> Result<Snapshot, HibernateError> {
        if let Some(why) = self.busy() {
            return Err(HibernateError::Busy(why));
        }
        if !self.shared.close() {
            return Err(HibernateError::Busy("calls are in flight"));
        }
        self.snapshot().map_err(|e| match e {
            SnapshotError::Ended => HibernateError::Ended,
            other => HibernateError::Heapless(other.to_string()),
        })
    }

    /// Why it cannot go to sleep now.
    fn busy(&mut self) -> Option<&'static str> {
        let acting = self.actor.as_ref()?;
        match () {
            () if !self.loaded => Some("it is starting"),
            () if !self.calls.is_empty() || !self.rx.is_empty() => Some("calls are in flight"),
            () if !acting.output.is_open() => Some("what it did waits for the log"),
            () if !acting.input.is_free() => Some("it blocks concurrency"),
            () if !acting.keeping.is_empty() => Some("a socket is being handed over"),
            () if self.state().is_some_and(|state| state.resources.any_connected()) => Some("a WebSocket is open that is not kept"),
            () if !self.in_flight.is_empty() || self.actor.as_ref().is_some_and(|a| a.input.waiting() > 0) => {
                Some("operations are in flight")
            }
            () if self.exports.any_lent() => Some("others hold objects of it"),
            () => None,
        }
    }

    /// Whether a gate was shut for too long. Calls wait in the queue behind it, where no wall limit of theirs is looked at.
    pub(super) fn check_gates(&self) -> Result<(), Outcome> {
        let (Some(acting), wall) = (self.actor.as_ref(), self.wall()) else { return Ok(()) };
        if acting.input.is_overdue(wall) {
            return Err(reset(GATE_OVERDUE));
        }
        match acting.paused.is_some_and(|since| since.elapsed() > wall) {
            true => Err(self.lost("the log has not answered within the wall limit")),
            false => Ok(()),
        }
    }

    /// What was written may not last. Callers need not know how this node stores things; whoever listens to the worker does.
    fn lost(&self, why: &str) -> Outcome {
        let exception = Exception { name: "Error".into(), message: format!("{COMMIT_FAILED} {why}"), stack: String::new() };
        self.worker.observer.exception(None, &exception);
        reset(COMMIT_FAILED)
    }

    /// Effects of actors.
    pub(super) fn do_as_actor(&mut self, op: &'static str, mut args: Vec<WireOut>) {
        let n = number(&args, 0);
        match op {
            "actor.ws.keep" => {
                args.drain(..args.len().min(1));
                return self.keep(n, args);
            }
            "actor.ws.send" => {
                let bytes = args.get(1).map_or(0, Wire::footprint);
                if self.current.and_then(|c| self.call(c)).is_some_and(|call| !call.output(bytes)) {
                    // As for a socket that is not kept: one that lost a message is of no use.
                    let close = vec![n.into(), 1009_u32.into(), "the output limit was exceeded".into()];
                    return self.durable().into_iter().for_each(|durable| durable.carry_out("actor.ws.close", close.clone()));
                }
            }
            _ => {}
        }
        if let Some(durable) = self.durable() {
            durable.carry_out(op, args);
        }
    }

    /// Gives a socket to the actor's state, at once or as soon as whoever listens to it has given it back.
    fn keep(&mut self, number: u32, args: Vec<WireOut>) {
        let socket = match self.state().and_then(|state| state.resources.keep_socket(number)) {
            Some(Keepable::Fresh(socket)) => socket,
            Some(Keepable::Connected(tx)) => {
                self.serves(number, false);
                let Some(acting) = self.actor.as_mut() else { return };
                if let Some(listener) = acting.listeners.remove(&number) {
                    acting.keeping.insert(number, (tx, args));
                    return listener.notify_one();
                }
                // Its end has come already, and so it will to whoever keeps it.
                Socket { tx, rx: mpsc::channel(1).1, protocol: String::new() }
            }
            None => return,
        };
        self.hand_over(number, socket, &args);
    }

    fn hand_over(&mut self, number: u32, socket: Socket, args: &[WireOut]) {
        if let Some(durable) = self.durable() {
            durable.keep_socket(number, socket, args);
        }
    }

    /// A listener has given a socket back, with a message that came before it heard that it shall. `None`: nobody wanted it back.
    pub(super) fn given_back(
        &mut self,
        number: u32,
        message: Option<SocketMessage>,
        rx: mpsc::Receiver<SocketMessage>,
    ) -> Option<(Option<SocketMessage>, mpsc::Receiver<SocketMessage>)> {
        let Some((tx, args)) = self.actor.as_mut().and_then(|acting| acting.keeping.remove(&number)) else { return Some((message, rx)) };
        let rx = match message {
            Some(first) => preceded(first, rx),
            None => rx,
        };
        self.hand_over(number, Socket { tx, rx, protocol: String::new() }, &args);
        None
    }

    /// Nobody listens to that socket any more.
    pub(super) fn unlistened(&mut self, number: u32) {
        self.actor.iter_mut().for_each(|acting| drop(acting.listeners.remove(&number)));
    }
}

/// What callers of an actor are told that a limit ended: that it was reset, whoever's fault it was. In the open-source runtime's words where it has some.
pub(super) fn exceeded(outcome: &Outcome) -> Option<Outcome> {
    match outcome {
        Outcome::Cpu => Some(reset("Durable Object exceeded its CPU time limit and was reset.")),
        Outcome::Memory => Some(reset("Durable Object's isolate exceeded its memory limit and was reset.")),
        Outcome::Wall => Some(reset("Durable Object exceeded its wall-time limit in one turn and was reset.")),
        _ => None,
    }
}

fn reset(message: &str) -> Outcome {
    Outcome::Reset(Exception { name: "Error".into(), message: message.into(), stack: String::new() })
}

/// What comes from `rx`, with a message before it.
fn preceded(first: SocketMessage, mut rx: mpsc::Receiver<SocketMessage>) -> mpsc::Receiver<SocketMessage> {
    let (tx, preceded) = mpsc::channel(rx.max_capacity());
    tokio::spawn(async move {
        let mut next = Some(first);
        while let Some(message) = next {
            if !deliver(&tx, message).await {
                return;
            }
            next = rx.recv().await;
        }
    });
    preceded
}
