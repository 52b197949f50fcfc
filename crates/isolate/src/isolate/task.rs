//! The task of one isolate: a loop over a closed set of things that can happen, one guest turn for each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::actor::{self, Acting, Control};
use super::bound::Bounds;
use super::call::{Call, Finished};
use super::gate::Source;
use super::operation::{self, Answers, Done, Ended, Started};
use super::{Command, Entry, Event, Exports, Input, Isolate, Shared};
use crate::body::Body;
use crate::chain::Chain;
use crate::held::Held;
use crate::host::HostError;
use crate::image::Image;
use crate::instance::{self, Effect, Instance, State, Stop, Stopped, Used};
use crate::ops::{number, text};
use crate::outcome::{Exception, Outcome};
use crate::snapshot::{Snapshot, SnapshotError};
use crate::target::{BoxFuture, Request, Response, RpcMessage, Target};
use crate::trace::Trace;
use crate::wire::{Wire, WireOut};
use crate::worker::{Binding, Worker};

/// How often overdue calls are looked for. A wall limit is kept to within this.
const WALL_TICK: Duration = Duration::from_millis(20);

/// Where an answer, as the guest gets it, has the number of its stream.
const BODY_OF_ANSWER: usize = 3;

/// CPU time that one turn may use when no call pays for it (timers after every call has ended), in milliseconds.
const UNPAID_CPU_MS: u64 = 50;

pub(super) struct Task {
    pub(super) image: Image,
    pub(super) worker: Arc<Worker>,
    pub(super) rx: mpsc::UnboundedReceiver<Command>,
    pub(super) exports: Exports,
    pub(super) shared: Arc<Shared>,
    instance: Option<Box<Instance>>,
    pub(super) calls: HashMap<u32, Call>,
    pub(super) in_flight: FuturesUnordered<BoxFuture<Done>>,
    /// Channels whose isolates the guest wants to know the end of. Nothing waits for these.
    pub(super) watched: FuturesUnordered<BoxFuture<u32>>,
    watching: HashSet<u32>,
    /// WebSockets whose other end somebody got as an answer, and this very isolate while there are any: what is connected to it
    /// keeps it alive.
    sockets_served: HashSet<u32>,
    own: Option<Isolate>,
    /// By the guest's ids.
    pub(super) started: HashMap<u32, Started>,
    /// Of calls that have ended, where what they asked for goes on.
    outlasting: Vec<Bounds>,
    /// When the guest wants to be woken, in ms since the epoch.
    pub(super) timer_ms: f64,
    /// Operations and host calls counted after the last turn.
    counted: Used,
    /// What turns used that no call paid for: before the worker had loaded, then since the last call or message came.
    unpaid: Used,
    /// Up to when `unpaid` was paid off.
    paid_until: std::time::Instant,
    /// The chain of the latest call, behind what is started when no call pays.
    latest: Chain,
    began: std::time::Instant,
    /// For the next trace: what was logged on no call's account.
    untraced: Option<Box<Trace>>,
    /// The call on whose account the current turn runs.
    pub(super) current: Option<u32>,
    pub(super) loaded: bool,
    startup: Option<Exception>,
    /// What an actor has beyond that.
    pub(super) actor: Option<Box<Acting>>,
}

/// What can happen next.
pub(super) enum Next {
    Command(Command),
    Done(Done),
    Timer,
    WallTick,
    /// The isolate behind this channel has ended.
    Broken(u32),
    NoMoreCallers,
    /// What waits first at an actor's output gate is durable, or never will be.
    Durable(Result<(), String>),
    /// An actor is asked for something that does not wait in its queue.
    Control(Control),
}

pub(super) fn now_ms() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Rounded to 0.1 ms: finer clocks serve side channels.
    (since.as_secs_f64() * 10_000.0).floor() / 10.0
}

impl Task {
    pub(super) fn new(
        image: Image,
        worker: Arc<Worker>,
        rx: mpsc::UnboundedReceiver<Command>,
        exports: Exports,
        shared: Arc<Shared>,
        actor: Option<Box<Acting>>,
    ) -> Self {
        Self {
            image,
            worker,
            rx,
            exports,
            shared,
            instance: None,
            calls: HashMap::new(),
            in_flight: FuturesUnordered::new(),
            watched: FuturesUnordered::new(),
            watching: HashSet::new(),
            sockets_served: HashSet::new(),
            own: None,
            started: HashMap::new(),
            outlasting: Vec::new(),
            timer_ms: f64::INFINITY,
            counted: Used::default(),
            unpaid: Used::default(),
            paid_until: std::time::Instant::now(),
            latest: Chain::default(),
            began: std::time::Instant::now(),
            untraced: None,
            current: None,
            loaded: false,
            startup: None,
            actor,
        }
    }

    pub(super) async fn run(mut self, snapshot: Option<Snapshot>) {
        let Some(slot) = self.image.engine().slot(self.wall()).await else {
            return self.end(&Outcome::Internal("the engine has no room for another isolate".into()));
        };
        self.began = std::time::Instant::now();
        let outcome = match self.begin(snapshot).await {
            Ok(()) => self.serve().await,
            Err(outcome) => Err(outcome),
        };
        if let Err(outcome) = outcome {
            self.end(&outcome);
        }
        // The instance must be gone, or clean, before its slot counts as free.
        if let Some(instance) = self.instance.take() {
            self.image.take_back(instance);
        }
        drop(slot);
    }

    async fn begin(&mut self, snapshot: Option<Snapshot>) -> Result<(), Outcome> {
        let internal = |e: wasmtime::Error| Outcome::Internal(format!("the isolate does not start: {e:#}"));
        self.check_code_size()?;
        let modules = self.image.engine().wasm().modules(self.image.engine(), &self.worker.code).await;
        let mut instance = self.image.instance(self.worker.clone()).await.map_err(internal)?;
        instance.state().wasm.modules = modules;
        instance.state().exports = Some(self.exports.clone());
        match snapshot {
            None => {
                self.instance = Some(instance);
                let bindings = self.bindings()?;
                let tailed = !self.worker.tails.is_empty();
                let actor = if self.actor.is_some() { Some(self.become_actor()?) } else { None };
                let mut load = vec![self.worker.code.main.as_str().into(), bindings, self.worker.options.clone(), tailed.into()];
                load.extend(actor);
                let load = instance::event("load", load);
                self.turn(None, load).await
            }
            Some(snapshot) => {
                self.loaded = true;
                self.wake(&mut instance, &snapshot).await?;
                self.instance = Some(instance);
                self.timer_ms = snapshot.timer_ms;
                let lost = snapshot.lost.iter().map(|id| Wire::from(*id)).collect();
                let bindings = self.bindings()?;
                let mut wake = vec![Wire::Array(lost), bindings];
                if self.actor.is_some() {
                    wake.push(self.wake_actor(snapshot.gates)?);
                }
                self.turn(None, instance::event("wake", wake)).await
            }
        }
    }

    pub(super) fn wall(&self) -> Duration {
        Duration::from_millis(self.worker.limits.wall_ms.into())
    }

    /// Why a worker that has not loaded yet never will: its wall time is over, or its top-level code awaits what nothing brings.
    fn check_start(&mut self) -> Result<(), Outcome> {
        if let Some(exception) = self.startup.take() {
            return Err(Outcome::Startup(exception));
        }
        match self.loaded {
            false if self.began.elapsed() > self.wall() => Err(self.start_overdue()),
            false if self.in_flight.is_empty() && !self.timer_ms.is_finite() && !self.actor.as_ref().is_some_and(|a| a.waits()) => {
                Err(startup_failed("Top-level await in module is unsettled.".into()))
            }
            _ => Ok(()),
        }
    }

    fn start_overdue(&self) -> Outcome {
        startup_failed(format!("The worker's top-level code did not end within {} ms.", self.worker.limits.wall_ms))
    }

    fn check_code_size(&self) -> Result<(), Outcome> {
        let (size, most) = (self.worker.code.size(), self.worker.limits.code_bytes);
        if size <= most {
            return Ok(());
        }
        let message = format!("The worker's modules are {size} bytes; at most {most} are allowed.");
        Err(Outcome::Startup(Exception { name: "RangeError".into(), message, stack: String::new() }))
    }

    async fn wake(&mut self, instance: &mut Instance, snapshot: &Snapshot) -> Result<(), Outcome> {
        let internal = |m: String| Outcome::Internal(m);
        let (delta, size) = snapshot.unpack().map_err(|e| internal(e.to_string()))?;
        if !instance.restore(&self.image, &delta, size).await {
            return Err(Outcome::Memory);
        }
        instance.reseed(crate::random::seed()).map_err(|e| internal(format!("{e:#}")))?;
        self.counted = instance.used();
        Ok(())
    }

    /// `env` as descriptors; services, loaders and namespaces become numbers.
    fn bindings(&mut self) -> Result<WireOut, Outcome> {
        let worker = self.worker.clone();
        self.descriptors(&worker.bindings)
    }

    fn descriptors(&mut self, bindings: &[(String, Binding)]) -> Result<WireOut, Outcome> {
        let too_many = || Outcome::Internal("too many bindings".into());
        let mut list = Vec::with_capacity(bindings.len());
        for (name, binding) in bindings {
            let descriptor = match binding {
                Binding::Text(s) => vec!["text".into(), s.clone().into()],
                Binding::Json(s) => vec!["json".into(), s.clone().into()],
                Binding::Secret(s) => vec!["secret".into(), s.clone().into()],
                Binding::Data(b) => vec!["data".into(), b.to_vec().into()],
                Binding::Service(t) => vec!["service".into(), self.add_channel(t.clone()).ok_or_else(too_many)?.into()],
                Binding::Loader(loader) => {
                    let number = self.state().and_then(|s| s.resources.add_loader(loader.clone()));
                    vec!["loader".into(), number.ok_or_else(too_many)?.into()]
                }
                Binding::Cloned(bytes, targets) => {
                    let channels = self.add_channels(targets).ok_or_else(too_many)?;
                    vec!["cloned".into(), bytes.to_vec().into(), channels]
                }
                Binding::Namespace(namespace) => {
                    let number = self.state().map(|s| s.resources.add_namespace(namespace.clone()));
                    vec!["namespace".into(), number.ok_or_else(too_many)?.into()]
                }
                Binding::Sandboxes(t) => vec!["sandboxes".into(), self.add_channel(t.clone()).ok_or_else(too_many)?.into()],
                Binding::Exports(exports) => vec!["exports".into(), self.descriptors(exports)?],
            };
            let mut entry: Vec<WireOut> = vec![name.clone().into()];
            entry.extend(descriptor);
            list.push(Wire::Array(entry));
        }
        Ok(Wire::Array(list))
    }

    pub(super) fn add_channel(&mut self, target: Arc<dyn Target>) -> Option<u32> {
        let target = target.returned(self.exports.id()).unwrap_or(target);
        self.state()?.resources.add_channel(target)
    }

    pub(super) fn add_channels(&mut self, targets: &[Arc<dyn Target>]) -> Option<WireOut> {
        let numbers: Option<Vec<WireOut>> = targets.iter().map(|t| self.add_channel(t.clone()).map(Wire::from)).collect();
        Some(Wire::Array(numbers?))
    }

    pub(super) fn state(&mut self) -> Option<&mut State> {
        self.instance.as_mut().map(|i| i.state())
    }

    pub(super) fn call(&mut self, id: u32) -> Option<&mut Call> {
        self.calls.get_mut(&id)
    }

    async fn serve(&mut self) -> Result<(), Outcome> {
        let mut wall_tick: Pin<Box<Sleep>> = Box::pin(tokio::time::sleep(WALL_TICK));
        let mut callers = true;
        loop {
            self.check_start()?;
            self.end_hung().await?;
            if !callers && self.calls.is_empty() && self.actor.as_ref().is_none_or(|acting| acting.output.is_open()) {
                return Ok(());
            }
            let next = match self.actor {
                None => self.next(&mut wall_tick, callers).await,
                // In a box: only actors pay for it.
                Some(_) => Box::pin(self.next_gated(&mut wall_tick, callers)).await?,
            };
            match next {
                Next::Command(Command::Evict) => {
                    self.shared.evicting.store(false, Ordering::Relaxed);
                    if self.calls.is_empty() && self.rx.is_empty() {
                        return Ok(());
                    }
                }
                Next::Broken(channel) => self.broken(channel).await?,
                Next::Command(command) => self.command(command).await?,
                Next::Done(done) => self.done(done).await?,
                Next::Timer => {
                    self.timer_ms = f64::INFINITY;
                    let payer = self.calls.keys().copied().min();
                    self.turn(payer, instance::event("timers", vec![])).await?;
                }
                Next::WallTick => {
                    wall_tick.as_mut().reset(Instant::now() + WALL_TICK);
                    self.end_overdue().await?;
                    self.check_gates()?;
                    // While it loads, nothing else tells that everybody has left.
                    callers &= !(self.rx.is_closed() && self.rx.is_empty());
                }
                Next::NoMoreCallers => callers = false,
                Next::Durable(result) => self.durable_now(result)?,
                Next::Control(control) => {
                    if self.control(control)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn next(&mut self, wall_tick: &mut Pin<Box<Sleep>>, callers: bool) -> Next {
        let wait_ms = (self.timer_ms - now_ms()).max(0.0);
        let timed = self.timer_ms.is_finite();
        tokio::select! {
            biased;
            Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => Next::Done(done),
            Some(channel) = self.watched.next(), if !self.watched.is_empty() => Next::Broken(channel),
            // What comes before the worker has loaded waits in the queue.
            command = self.rx.recv(), if callers && self.loaded => command.map_or(Next::NoMoreCallers, Next::Command),
            () = tokio::time::sleep(Duration::from_secs_f64(wait_ms.min(86_400_000.0) / 1_000.0)), if timed => Next::Timer,
            () = wall_tick.as_mut(), if !self.calls.is_empty() || !self.loaded => Next::WallTick,
        }
    }

    async fn command(&mut self, command: Command) -> Result<(), Outcome> {
        match command {
            Command::Call { id, arrived, entry, input, reply, report } => {
                let (origin, limits) = ((input.kind(), input.chain()), self.worker.limits.lowered(&entry.limits));
                self.event_from_outside(origin.1.clone());
                let trace = self.traced(&entry, &input);
                let call = Call::new(origin, limits, arrived, reply, report).traced(trace);
                self.calls.insert(id, call);
                let Some(event) = self.input(id, entry, input) else {
                    return Err(Outcome::Internal("too many channels".into()));
                };
                self.turn(Some(id), event).await
            }
            Command::Cancel(id) => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.end(Outcome::Cancelled("the caller has gone".into()));
                    return self.turn(Some(id), instance::event("cancel", vec![id.into()])).await;
                }
                Ok(())
            }
            Command::Returned | Command::Evict => Ok(()),
            Command::Release(id) => self.turn(None, instance::event("release", vec![id.into()])).await,
            Command::Ready(tx) => {
                let _ = tx.send(Ok(()));
                Ok(())
            }
            Command::Snapshot(tx) => {
                let _ = tx.send(self.snapshot());
                Ok(())
            }
        }
    }

    /// The trace of a call that begins, where somebody wants it.
    fn traced(&self, entry: &Entry, input: &Input) -> Option<Box<Trace>> {
        if self.worker.tails.is_empty() {
            return None;
        }
        let Some((id, class)) = self.actor.as_ref().map(|acting| acting.identity()) else {
            return Some(Box::new(input.trace(entry.name.clone())));
        };
        let entrypoint = entry.name.clone().unwrap_or_else(|| class.to_owned());
        Some(Box::new(input.trace(Some(entrypoint)).of_actor(id)))
    }

    pub(super) fn snapshot(&mut self) -> Result<Snapshot, SnapshotError> {
        let mut lost: Vec<u32> = self.started.keys().copied().collect();
        lost.sort_unstable();
        let timer = self.timer_ms;
        let image = self.image.clone();
        let Some(instance) = self.instance.as_mut() else { return Err(SnapshotError::Ended) };
        if instance.state().wasm.used() {
            return Err(SnapshotError::Unsupported("WebAssembly lives in it, which cannot be written down".into()));
        }
        let (delta, size) = instance.delta(&image);
        let gates = self.actor.as_ref().map_or(0, |acting| acting.input.depth() as u32);
        Ok(Snapshot::new(&image, (delta, size), (timer, gates), lost))
    }

    /// The event that brings a call to the guest; `None` if its channels do not fit.
    fn input(&mut self, id: u32, entry: Entry, input: Input) -> Option<Vec<u8>> {
        let props = match (&entry.props_json, entry.props.is_empty()) {
            (Some(json), _) => Wire::from(json.as_ref()).into_owned(),
            (None, true) => Wire::Null,
            (None, false) => Wire::Array(vec![entry.props.to_vec().into(), self.add_channels(&entry.targets)?]),
        };
        let head = |mut rest: Vec<WireOut>| {
            let mut args: Vec<WireOut> = vec![id.into(), entry.name.clone().into(), props];
            args.append(&mut rest);
            args
        };
        Some(match input {
            Input::Request(request) => {
                let Request { method, url, headers, body, cf, .. } = *request;
                let body = self.body_in(Some(id), body);
                let cf = if cf.is_empty() { Wire::Null } else { cf.into() };
                instance::event("fetch", head(vec![method.into(), url.into(), flat(headers), body, cf]))
            }
            Input::Event(Event::Scheduled { cron, time_ms }) => instance::event("scheduled", head(vec![cron.into(), time_ms.into()])),
            Input::Event(Event::Test) => instance::event("test", head(vec![])),
            Input::Event(Event::Exports) => instance::event("exports", vec![id.into()]),
            Input::Event(Event::Tail { trace, .. }) => instance::event("tail", head(vec![trace.into()])),
            Input::Event(Event::Alarm { name, scheduled_ms, retries }) => {
                self.actor.iter_mut().for_each(|acting| drop(acting.ringing.insert(id, name.clone())));
                instance::event("alarm", vec![id.into(), name.into(), scheduled_ms.into(), retries.into()])
            }
            Input::Event(Event::Socket { number, message }) => {
                let mut event: Vec<WireOut> = vec![id.into(), number.into()];
                event.extend(operation::socket_event(Some(message)));
                instance::event("socket", event)
            }
            Input::Event(Event::Run { mut module, export, args }) => {
                if module.is_empty() {
                    module.clone_from(&self.worker.code.main);
                }
                instance::event("run", vec![id.into(), module.into(), export.into(), json_array(&args)])
            }
            Input::Rpc { export, message } => {
                let channels = self.add_channels(&message.targets)?;
                if let Some(call) = self.calls.get_mut(&id) {
                    call.meter.bytes_in += message.bytes.len() as u64;
                }
                match export {
                    None => instance::event("rpc", head(vec![message.bytes.to_vec().into(), channels])),
                    Some(local) => {
                        instance::event("rpc", vec![id.into(), local.into(), Wire::Null, message.bytes.to_vec().into(), channels])
                    }
                }
            }
        })
    }

    /// A body on its way in: bytes, or a number under which the guest reads it.
    pub(super) fn body_in(&mut self, call: Option<u32>, body: Body) -> WireOut {
        match body {
            Body::None => Wire::Null,
            Body::Bytes(b) => {
                if let Some(call) = call.and_then(|c| self.calls.get_mut(&c)) {
                    call.meter.bytes_in += b.len() as u64;
                }
                b.to_vec().into()
            }
            Body::Stream(s) => self.state().map_or(Wire::Null, |state| state.resources.add_reader(s).into()),
        }
    }

    /// Bytes on their way out, or a string's UTF-8: on the isolate's account until they have arrived.
    pub(super) fn bytes_out(&mut self, value: Option<&WireOut>) -> Bytes {
        let Some(held) = self.state().map(|s| s.held.clone()) else { return Bytes::new() };
        match value {
            Some(Wire::Bytes(b)) => held.bytes(b.to_vec()),
            Some(Wire::Str(s)) => held.bytes(s.to_str().into_owned()),
            _ => Bytes::new(),
        }
    }

    /// A body on its way out.
    pub(super) fn body_out(&mut self, body: Option<&WireOut>) -> Body {
        match body {
            Some(Wire::Bytes(_) | Wire::Str(_)) => Body::Bytes(self.bytes_out(body)),
            Some(n) if n.as_u32().is_some() => {
                let n = n.as_u32().unwrap_or(0);
                self.state().and_then(|s| s.resources.take_stream(n)).map_or(Body::None, Body::Stream)
            }
            _ => Body::None,
        }
    }

    /// Delivers an event on the account of `payer` and carries out what the guest asked for.
    pub(super) async fn turn(&mut self, payer: Option<u32>, event: Vec<u8>) -> Result<(), Outcome> {
        let Some(instance) = self.instance.take() else {
            return Err(Outcome::Internal("the isolate is gone".into()));
        };
        self.current = payer;
        let allowance = self.allowance_us(payer);
        if allowance == 0 {
            return Err(self.why(payer, Stop::Cpu));
        }
        let image = self.image.clone();
        let ended = match &mut self.actor {
            None => instance.turn(&image, event, allowance, now_ms()).await,
            Some(acting) => {
                let cpu = instance.cpu();
                // In a box: the task of an isolate that is no actor does not grow by it.
                Box::pin(acting.run(instance.turn(&image, event, allowance, now_ms()), &cpu)).await
            }
        };
        match ended {
            Ok((mut instance, timer_ms)) => {
                self.timer_ms = timer_ms;
                let used = instance.used();
                let bytes = instance.state().effect_bytes();
                let effects = instance.state().take_effects();
                self.instance = Some(instance);
                self.shared.memory_bytes.store(used.memory_peak, Ordering::Relaxed);
                self.charge(payer, used);
                if self.actor.is_some() {
                    return self.actor_turn_ended(effects, bytes);
                }
                effects.into_iter().for_each(|effect| self.carry_out(effect));
                Ok(())
            }
            Err(Stopped { stop, used, logs }) => {
                self.charge(payer, used);
                logs.into_iter().for_each(|line| self.carry_out(line));
                let ended = self.actor.as_mut().and_then(|acting| acting.ended());
                Err(ended.unwrap_or_else(|| self.why(payer, stop)))
            }
        }
    }

    /// CPU time that a turn may use, in microseconds. What no call pays for has an account too, as large as that of a call:
    /// one until the worker has loaded, and one from then on, which time pays off: the CPU limit in each wall limit.
    fn allowance_us(&mut self, payer: Option<u32>) -> u64 {
        if let Some(call) = payer.and_then(|p| self.calls.get(&p)) {
            return call.allowance_us();
        }
        let (cpu_ms, wall_ms) = (u64::from(self.worker.limits.cpu_ms), u64::from(self.worker.limits.wall_ms.max(1)));
        if !self.loaded {
            let wall_left = self.wall().saturating_sub(self.began.elapsed()).as_micros() as u64;
            return (cpu_ms * 1_000).saturating_sub(self.unpaid.cpu_us).min(wall_left);
        }
        let now = std::time::Instant::now();
        let since = now.duration_since(std::mem::replace(&mut self.paid_until, now)).as_micros() as u64;
        self.unpaid.cpu_us = self.unpaid.cpu_us.saturating_sub(since.saturating_mul(cpu_ms) / wall_ms);
        (cpu_ms * 1_000).saturating_sub(self.unpaid.cpu_us).min(UNPAID_CPU_MS * 1_000)
    }

    fn why(&self, payer: Option<u32>, stop: Stop) -> Outcome {
        match (stop, payer.and_then(|p| self.calls.get(&p))) {
            // A turn is also cut off when it has used as much CPU as its call, or the start, had wall time left.
            (Stop::Cpu, Some(call)) if call.is_overdue() && call.cpu_left_us() > 0 => Outcome::Wall,
            (Stop::Cpu, _) if !self.loaded && self.unpaid.cpu_us < u64::from(self.worker.limits.cpu_ms) * 1_000 => self.start_overdue(),
            (Stop::Cpu, _) => Outcome::Cpu,
            (Stop::Memory, _) => Outcome::Memory,
            (Stop::Trap(why), _) => Outcome::Internal(why),
            (Stop::Aborted(args), _) => Outcome::Reset(self.reason(&args)),
        }
    }

    fn charge(&mut self, payer: Option<u32>, total: Used) {
        let counted = std::mem::replace(&mut self.counted, total);
        let used = Used {
            operations: total.operations.saturating_sub(counted.operations),
            host_calls: total.host_calls.saturating_sub(counted.host_calls),
            ..total
        };
        match payer.and_then(|p| self.calls.get_mut(&p)) {
            Some(call) => call.charge(used),
            None => {
                self.unpaid.cpu_us += used.cpu_us;
                self.unpaid.operations += used.operations;
                self.unpaid.host_calls += used.host_calls;
                self.unpaid.memory_peak = used.memory_peak;
            }
        }
    }

    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Start { id, op, args } => self.start(id, &op, args),
            Effect::Abandon(id) => drop(self.started.remove(&id)),
            Effect::Do { op, args } => self.carry_out_one(op, args),
            Effect::Arrive(coming) => coming.arrive(),
        }
    }

    /// Something came from outside: the account of what no call pays for begins anew.
    pub(super) fn event_from_outside(&mut self, chain: Chain) {
        self.unpaid = Used::default();
        self.latest = chain;
    }

    /// The chain behind what is started now.
    pub(super) fn chain(&mut self) -> Chain {
        match self.current.and_then(|c| self.calls.get_mut(&c)) {
            Some(call) => call.chain.next(),
            None if self.latest.is_root() => Chain::default().next(),
            None => self.latest.next(),
        }
    }

    pub(super) fn carry_out_one(&mut self, op: &'static str, args: Vec<WireOut>) {
        match op {
            "log" => {
                let (of, level, said) = (self.paying(args.get(3)), text(&args, 0), text(&args, 1));
                self.worker.observer.log(self.label(of), &level, &said);
                self.trace(of, |trace, held| trace.log(&level, &said, args.get(2).and_then(Wire::as_str).as_deref(), held));
            }
            "exception" => {
                let (of, exception) = (self.paying(args.get(3)), self.exception(&args, 0));
                self.worker.observer.exception(self.label(of), &exception);
                self.trace(of, |trace, held| trace.exception(&exception, held));
            }
            "rpc.method" => {
                if let Some(trace) = self.calls.get_mut(&number(&args, 0)).and_then(|call| call.trace.as_mut()) {
                    trace.method(&text(&args, 1));
                }
            }
            "loaded" => match args.first() {
                Some(Wire::Array(error)) => self.startup = Some(self.exception(error, 0)),
                _ => (self.loaded, self.unpaid) = (true, Used::default()),
            },
            "respond" => {
                self.respond(&args);
                if args.get(6).and_then(Wire::as_bool) == Some(true) {
                    self.finish(number(&args, 0));
                }
            }
            "respond.with" => {
                let answers = Answers { call: number(&args, 0), bodyless: args.get(2).and_then(Wire::as_bool) == Some(true) };
                match self.started.get_mut(&number(&args, 1)) {
                    Some(started) => started.answers = Some(answers),
                    None => self.finish(answers.call),
                }
            }
            "result" => {
                let (targets, bytes) = (self.targets(args.get(2)), self.bytes_out(args.get(1)));
                if let Some(call) = self.calls.get_mut(&number(&args, 0)) {
                    let failed = args.get(3).and_then(Wire::as_bool).unwrap_or(false);
                    match call.output(bytes.len()) {
                        true => call.result(RpcMessage { bytes, targets, chain: Chain::default() }, failed),
                        false => call.fail(output_exceeded()),
                    }
                }
            }
            "fail" => {
                let exception = self.exception(&args, 1);
                if let Some(call) = self.calls.get_mut(&number(&args, 0)) {
                    call.fail(exception);
                }
            }
            "done" => {
                let id = number(&args, 0);
                if self.actor.is_some()
                    && let Some(call) = self.calls.get_mut(&id).filter(|call| call.is_told())
                {
                    call.result(RpcMessage::default(), false);
                }
                self.finish(id);
            }
            "channel.watch" => self.watch(number(&args, 0)),
            "channel.drop" => self.state().into_iter().for_each(|state| state.resources.drop_channel(number(&args, 0))),
            "stream.cancel" => {
                let reader = number(&args, 0);
                self.state().into_iter().for_each(|state| state.resources.drop_reader(reader));
                self.calls.values_mut().map(|call| &mut call.bounds).chain(&mut self.outlasting).for_each(|bounds| bounds.let_go(reader));
            }
            _ if op.starts_with("actor.") => self.do_as_actor(op, args),
            _ => self.do_with_resource(op, &args),
        }
    }

    /// Channels that the guest gives away with a message: it keeps no number for them.
    pub(super) fn targets(&mut self, channels: Option<&WireOut>) -> Vec<Arc<dyn Target>> {
        let numbers: Vec<u32> = channels.and_then(Wire::as_array).map(|a| a.iter().filter_map(Wire::as_u32).collect()).unwrap_or_default();
        let Some(state) = self.state() else { return Vec::new() };
        numbers.iter().filter_map(|n| state.resources.take_channel(*n)).collect()
    }

    fn exception(&self, args: &[WireOut], from: usize) -> Exception {
        let stack = crate::stack::map(&self.worker.code, &text(args, from + 2));
        Exception { name: text(args, from), message: text(args, from + 1), stack }
    }

    /// Why an actor asked for its end.
    fn reason(&self, args: &[WireOut]) -> Exception {
        match args.first() {
            Some(Wire::Array(reason)) => self.exception(reason, 0),
            _ => Exception { name: "Error".into(), message: text(args, 0), stack: String::new() },
        }
    }

    fn respond(&mut self, args: &[WireOut]) {
        let id = number(args, 0);
        let body = self.body_out(args.get(4));
        let socket = args.get(5).and_then(Wire::as_u32).and_then(|n| self.take_socket(n));
        let (status, status_text, headers) = (number(args, 1) as u16, text(args, 2), pairs(args.get(3)));
        self.answer(id, Response { status, status_text, headers, body, socket, ..Response::default() });
    }

    /// Answers a call within its limits.
    fn answer(&mut self, id: u32, response: Response) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if response.headers_bytes() > HEADERS_BYTES_MAX {
            return call.fail(Exception { name: "RangeError".into(), message: HEADERS_EXCEEDED.into(), stack: String::new() });
        }
        if let Body::Bytes(b) = &response.body
            && !call.output(b.len())
        {
            return call.fail(output_exceeded());
        }
        call.respond(response);
    }

    /// Answers a call with what an operation has brought, as the guest would have that returned it: its body is what it was, where it came from and how
    /// is left out.
    fn pass_on(&mut self, Answers { call: id, bodyless }: Answers, brought: Result<Ended, HostError>) {
        match brought {
            Ok(Ended::Response(response) | Ended::Answer(response, _)) => {
                let Response { status, status_text, headers, body, socket, .. } = *response;
                if let (Body::Bytes(bytes), Some(call)) = (&body, self.calls.get_mut(&id)) {
                    call.meter.bytes_in += bytes.len() as u64;
                }
                let body = if bodyless || matches!(status, 101 | 204 | 205 | 304) { Body::None } else { body };
                self.answer(id, Response { status, status_text, headers, body, socket, ..Response::default() });
            }
            Ok(_) => {}
            Err(HostError { name, message }) => {
                let name = name.strip_prefix(operation::RESET).unwrap_or(name);
                if let Some(call) = self.calls.get_mut(&id) {
                    call.fail(Exception { name: name.to_owned(), message, stack: String::new() });
                }
            }
        }
        self.finish(id);
    }

    /// The call that something belongs to: the one that the guest names if there is such a call, else the one that pays for the turn.
    pub(super) fn paying(&self, named: Option<&WireOut>) -> Option<u32> {
        named.and_then(Wire::as_u32).filter(|id| self.calls.contains_key(id)).or(self.current)
    }

    fn label(&self, of: Option<u32>) -> Option<&str> {
        of.and_then(|id| self.calls.get(&id)).and_then(|call| call.chain.label())
    }

    /// Writes something into the trace of a call, or of the next when it belongs to none.
    fn trace(&mut self, of: Option<u32>, write: impl FnOnce(&mut Trace, &Held)) {
        if self.worker.tails.is_empty() {
            return;
        }
        let held = self.state().map(|state| state.held.clone()).unwrap_or_default();
        let trace = match of.and_then(|id| self.calls.get_mut(&id)) {
            Some(call) => call.trace.as_mut(),
            None => Some(self.untraced.get_or_insert_with(|| Box::new(Trace::new(serde_json::Value::Null, None)))),
        };
        if let Some(trace) = trace {
            write(trace, &held);
        }
    }

    /// Ends what a call asked for and what must not outlive it. An actor's goes on after its answer, as all that it began, unless its time is over.
    fn end_bounds(&mut self, id: u32, is_overdue: bool) {
        let Some(bounds) = self.calls.get_mut(&id).map(|call| std::mem::take(&mut call.bounds)) else { return };
        if self.actor.is_some() && !is_overdue {
            return self.outlast(bounds);
        }
        let Some(state) = self.state() else { return };
        // Those that were handed on are not there any more.
        bounds.readers().for_each(|reader| state.resources.drop_reader(reader));
    }

    fn outlast(&mut self, bounds: Bounds) {
        self.outlasting.retain(|bounds| !bounds.is_over());
        if !bounds.is_over() {
            self.outlasting.push(bounds);
        }
    }

    /// The stream of an answer (`value`) lives no longer than the request for it might.
    fn bind_stream(&mut self, started: &Started, value: &WireOut) {
        let (Some((asker, _)), Wire::Array(answer)) = (&started.bound, value) else { return };
        let Some(reader) = answer.get(BODY_OF_ANSWER).and_then(Wire::as_u32) else { return };
        let asking = asker.and_then(|id| self.calls.get_mut(&id));
        let until = match asking {
            Some(call) => call.bounds.reads(reader),
            // It ended in between.
            None if asker.is_some() && self.actor.is_none() => {
                return self.state().into_iter().for_each(|state| state.resources.drop_reader(reader));
            }
            None => {
                let mut bounds = Bounds::default();
                let until = bounds.reads(reader);
                self.outlast(bounds);
                until
            }
        };
        self.state().into_iter().for_each(|state| state.resources.bind_reader(reader, until.clone()));
    }

    fn finish(&mut self, id: u32) {
        self.end_bounds(id, false);
        if let Some(call) = self.calls.remove(&id) {
            self.actor.iter_mut().for_each(|acting| drop(acting.ringing.remove(&id)));
            self.finished(call.finish());
        }
    }

    /// Tells those who want to know of the end of a call.
    fn finished(&mut self, finished: Finished) {
        let Finished { event, report, trace, mut chain } = finished;
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(mut trace) = trace {
            if let Some(before) = self.untraced.take() {
                trace.follow(*before);
            }
            self.worker.tails.send(*trace, &mut chain, &report);
        }
        self.worker.observer.finished(event, &report);
    }

    /// The guest wants to know when the isolate behind a channel ends.
    fn watch(&mut self, channel: u32) {
        let Some(gone) = self.state().and_then(|s| s.resources.channel(channel).and_then(|target| target.gone())) else { return };
        if self.watching.insert(channel) {
            self.watched.push(Box::pin(async move {
                gone.await;
                channel
            }));
        }
    }

    async fn broken(&mut self, channel: u32) -> Result<(), Outcome> {
        self.watching.remove(&channel);
        if self.state().is_none_or(|s| s.resources.channel(channel).is_none()) {
            return Ok(());
        }
        let error = Wire::error("Error", "The isolate behind this stub has ended.");
        self.turn(None, instance::event("broken", vec![channel.into(), error])).await
    }

    /// Somebody got the other end of a socket, or (`false`) that end is gone.
    pub(super) fn serves(&mut self, socket: u32, now: bool) {
        match now {
            true => drop(self.sockets_served.insert(socket)),
            false => drop(self.sockets_served.remove(&socket)),
        }
        self.shared.sockets_served.store(self.sockets_served.len() as u32, Ordering::Relaxed);
        match self.sockets_served.is_empty() {
            true => self.own = None,
            false if self.own.is_none() => self.own = self.exports.isolate(),
            false => {}
        }
    }

    /// Ends calls that nothing will answer: the isolate as a whole waits for no operation, stream, socket or timer, nothing is
    /// queued for it, and nobody holds an object of its guest. A later call could still settle their promises, but a call is not
    /// kept waiting for one that may never come. One that has answered (a stream of events, say) is left to its wall limit,
    /// and so is every call of an actor: there calls do wait for one another, and `ctx.abort()` says why they ended.
    async fn end_hung(&mut self) -> Result<(), Outcome> {
        let waits = !self.in_flight.is_empty() || self.timer_ms.is_finite() || !self.rx.is_empty() || self.exports.any_lent();
        if !self.loaded || self.calls.is_empty() || waits || self.actor.is_some() {
            return Ok(());
        }
        let mut hung: Vec<u32> = self.calls.iter().filter(|(_, call)| !call.is_answered()).map(|(id, _)| *id).collect();
        hung.sort_unstable();
        for id in hung {
            self.finish(id);
            self.turn(None, instance::event("cancel", vec![id.into()])).await?;
        }
        Ok(())
    }

    async fn end_overdue(&mut self) -> Result<(), Outcome> {
        let overdue: Vec<u32> = self.calls.iter().filter(|(_, c)| c.is_overdue()).map(|(id, _)| *id).collect();
        for id in overdue {
            if let Some(call) = self.calls.get_mut(&id) {
                call.end(Outcome::Wall);
            }
            self.turn(Some(id), instance::event("cancel", vec![id.into()])).await?;
            self.end_bounds(id, true);
            self.finish(id);
        }
        Ok(())
    }

    async fn done(&mut self, done: Done) -> Result<(), Outcome> {
        match done {
            Done::Silent => Ok(()),
            Done::Started { id, result } => {
                if let Some(acting) = &mut self.actor {
                    acting.input.is_over(Source::Operation(id));
                }
                // Abandoned meanwhile: nobody waits for it.
                let Some(started) = self.started.remove(&id) else { return Ok(()) };
                let payer = started.payer;
                let result = match result {
                    Ok(Ended::Answer(response, redirects)) => match self.answered(id, &started, *response, redirects) {
                        Some(result) => result,
                        None => return Ok(()),
                    },
                    other => other,
                };
                if let Some(answers) = started.answers {
                    self.pass_on(answers, result);
                    return Ok(());
                }
                let event = match result {
                    Ok(Ended::Thrown { name, message }) => {
                        instance::event("complete", vec![id.into(), false.into(), Wire::error(name, message)])
                    }
                    Ok(ended) => {
                        let value = self.deliver(payer, ended);
                        self.bind_stream(&started, &value);
                        instance::event("complete", vec![id.into(), true.into(), value])
                    }
                    Err(e) => instance::event("complete", vec![id.into(), false.into(), Wire::error(e.name, e.message)]),
                };
                self.turn(payer, event).await
            }
            Done::Socket { number, message, rx } => self.socket_message(number, message, rx).await,
            Done::Kept { number, rx } => {
                self.given_back(number, None, rx);
                Ok(())
            }
        }
    }

    /// What a finished operation brought, as the guest sees it.
    fn deliver(&mut self, payer: Option<u32>, ended: Ended) -> WireOut {
        match ended {
            Ended::Value(value) => value,
            Ended::Thrown { message, .. } => message.into(),
            Ended::Chunk(chunk) => {
                if let Some(call) = payer.and_then(|p| self.calls.get_mut(&p)) {
                    call.meter.bytes_in += chunk.len() as u64;
                }
                chunk.to_vec().into()
            }
            Ended::Response(response) | Ended::Answer(response, _) => self.response_in(payer, *response),
            Ended::Socket(socket) => {
                let protocol = socket.protocol.clone();
                Wire::Array(vec![self.add_socket(socket).into(), protocol.into()])
            }
            Ended::Heavy { value, cpu_us } => {
                if let Some(call) = payer.and_then(|p| self.calls.get_mut(&p)) {
                    call.meter.cpu_us += cpu_us;
                }
                value
            }
            Ended::Rpc(message) => {
                if let Some(call) = payer.and_then(|p| self.calls.get_mut(&p)) {
                    call.meter.bytes_in += message.bytes.len() as u64;
                }
                let channels = self.add_channels(&message.targets).unwrap_or_else(|| Wire::Array(Vec::new()));
                Wire::Array(vec![message.bytes.to_vec().into(), channels])
            }
        }
    }

    fn response_in(&mut self, payer: Option<u32>, response: Response) -> WireOut {
        let body = self.body_in(payer, response.body);
        let socket = response.socket.map_or(Wire::Null, |s| self.add_socket(s).into());
        Wire::Array(vec![
            u32::from(response.status).into(),
            response.status_text.into(),
            flat(response.headers),
            body,
            response.url.into(),
            response.redirected.into(),
            socket,
        ])
    }

    /// Ends everything: every call learns why.
    fn end(&mut self, outcome: &Outcome) {
        self.rx.close();
        // Streams that go on without their writer would look as if they were whole.
        self.in_flight.clear();
        if let Some(state) = self.state() {
            state.resources.abort_streams(&outcome.to_string());
        }
        let culprit = self.current;
        let mut calls: BTreeMap<u32, Call> = std::mem::take(&mut self.calls).into_iter().collect();
        while let Ok(command) = self.rx.try_recv() {
            match command {
                Command::Call { id, arrived, entry, input, reply, report } => {
                    let trace = self.traced(&entry, &input);
                    let call = Call::new((input.kind(), input.chain()), self.worker.limits, arrived, reply, report);
                    calls.insert(id, call.traced(trace));
                }
                Command::Ready(tx) => drop(tx.send(Err(outcome.clone()))),
                Command::Cancel(_) | Command::Release(_) | Command::Returned | Command::Evict | Command::Snapshot(_) => {}
            }
        }
        // A start that failed is on the account of the first call, for which it was made.
        if !self.loaded
            && let Some(first) = calls.values_mut().next()
        {
            first.charge(self.unpaid);
        }
        // A caller's stub shows what the constructor threw.
        let thrown = match outcome {
            Outcome::Startup(exception) if self.actor.is_some() => Some(Outcome::Reset(exception.clone())),
            _ => None,
        };
        let outcome = thrown.as_ref().unwrap_or(outcome);
        for (id, mut call) in calls {
            // A limit is the fault of the call that hit it; the others only shared the isolate.
            let shared_fate = matches!(outcome, Outcome::Cpu | Outcome::Memory) && culprit.is_some_and(|c| c != id);
            let ended = match shared_fate {
                true => Outcome::Cancelled(format!("another call of the same isolate ended it: {outcome}")),
                false => outcome.clone(),
            };
            match self.actor.as_ref().and_then(|_| actor::exceeded(outcome)) {
                Some(reset) => call.end_telling(reset, ended),
                None => call.end(ended),
            }
            self.finished(call.finish());
        }
    }
}

fn startup_failed(message: String) -> Outcome {
    Outcome::Startup(Exception { name: "Error".into(), message, stack: String::new() })
}

fn output_exceeded() -> Exception {
    Exception { name: "RangeError".into(), message: "the output limit was exceeded".into(), stack: String::new() }
}

/// A JSON array as a wire value; anything else as an empty array.
fn json_array(text: &str) -> WireOut {
    fn wire(value: serde_json::Value) -> WireOut {
        match value {
            serde_json::Value::Null => Wire::Null,
            serde_json::Value::Bool(b) => b.into(),
            serde_json::Value::Number(n) => n.as_f64().unwrap_or(f64::NAN).into(),
            serde_json::Value::String(s) => s.into(),
            serde_json::Value::Array(a) => Wire::Array(a.into_iter().map(wire).collect()),
            serde_json::Value::Object(o) => Wire::object(o.into_iter().map(|(k, v)| (k, wire(v)))),
        }
    }
    match serde_json::from_str(text) {
        Ok(array @ serde_json::Value::Array(_)) => wire(array),
        _ => Wire::Array(Vec::new()),
    }
}

/// Headers of one message may take so much of the host's memory, in bytes: unlike bodies they are not on an account.
const HEADERS_BYTES_MAX: usize = 512 << 10;
pub(super) const HEADERS_EXCEEDED: &str = "the headers are too large";

pub(super) fn headers_exceeded(list: Option<&WireOut>) -> bool {
    list.is_some_and(|list| list.footprint() > HEADERS_BYTES_MAX)
}

/// Headers as the flat array of the guest ABI.
pub(super) fn flat(headers: Vec<(String, String)>) -> WireOut {
    let mut list = Vec::with_capacity(headers.len() * 2);
    for (name, value) in headers {
        list.push(name.into());
        list.push(value.into());
    }
    Wire::Array(list)
}

/// The flat array as headers.
pub(super) fn pairs(list: Option<&WireOut>) -> Vec<(String, String)> {
    let items = list.and_then(Wire::as_array).unwrap_or_default();
    let word = |w: &WireOut| w.as_str().map(|s| s.into_owned()).unwrap_or_default();
    items.chunks_exact(2).map(|pair| (word(&pair[0]), word(&pair[1]))).collect()
}
