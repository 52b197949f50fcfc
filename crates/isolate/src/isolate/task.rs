//! The task of one isolate: a loop over a closed set of things that can happen, one guest turn for each.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use super::call::Call;
use super::operation::{Done, Ended};
use super::{Command, Entry, Event, Exports, Input, Shared};
use crate::body::Body;
use crate::image::Image;
use crate::instance::{self, Effect, Instance, State, Stop};
use crate::ops::{number, text};
use crate::outcome::{Exception, Outcome};
use crate::snapshot::{Snapshot, SnapshotError};
use crate::target::{BoxFuture, Request, Response, RpcMessage, Target};
use crate::wire::{Wire, WireOut};
use crate::worker::{Binding, Worker};

/// How often overdue calls are looked for. A wall limit is kept to within this.
const WALL_TICK: Duration = Duration::from_millis(20);

/// CPU time that one turn may use when no call pays for it (timers after every call has ended), in milliseconds.
const UNPAID_CPU_MS: u64 = 50;

pub(super) struct Task {
    pub(super) image: Image,
    pub(super) worker: Arc<Worker>,
    rx: mpsc::UnboundedReceiver<Command>,
    exports: Exports,
    shared: Arc<Shared>,
    instance: Option<Box<Instance>>,
    calls: HashMap<u32, Call>,
    pub(super) in_flight: FuturesUnordered<BoxFuture<Done>>,
    /// Guest's id → the call that started it.
    pub(super) started: HashMap<u32, Option<u32>>,
    /// When the guest wants to be woken, in ms since the epoch.
    timer_ms: f64,
    /// Engine operations counted after the last turn.
    operations: u64,
    host_calls: u64,
    /// The call on whose account the current turn runs.
    pub(super) current: Option<u32>,
    loaded: bool,
    /// Who waits for the worker to have loaded.
    waiting: Vec<oneshot::Sender<Result<(), Outcome>>>,
    startup: Option<Exception>,
}

/// What can happen next.
enum Next {
    Command(Command),
    Done(Done),
    Timer,
    WallTick,
    NoMoreCallers,
}

fn now_ms() -> f64 {
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
            started: HashMap::new(),
            timer_ms: f64::INFINITY,
            operations: 0,
            host_calls: 0,
            current: None,
            loaded: false,
            waiting: Vec::new(),
            startup: None,
        }
    }

    pub(super) async fn run(mut self, snapshot: Option<Snapshot>) {
        let Some(slot) = self.image.engine().slot().await else {
            return self.end(&Outcome::Internal("the engine has shut down".into()));
        };
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
        let mut instance = self.image.instance(self.worker.clone()).await.map_err(internal)?;
        instance.state().exports = Some(self.exports.clone());
        match snapshot {
            None => {
                self.instance = Some(instance);
                let bindings = self.bindings()?;
                let load = instance::event("load", vec![self.worker.code.main.as_str().into(), bindings, self.worker.options.clone()]);
                self.turn(None, load).await
            }
            Some(snapshot) => {
                self.loaded = true;
                self.wake(&mut instance, &snapshot).await?;
                self.instance = Some(instance);
                self.timer_ms = snapshot.timer_ms;
                let lost = snapshot.lost.iter().map(|id| Wire::from(*id)).collect();
                let bindings = self.bindings()?;
                self.turn(None, instance::event("wake", vec![Wire::Array(lost), bindings])).await
            }
        }
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
        let (indexes, contents, size) = snapshot.unpack().map_err(|e| internal(e.to_string()))?;
        if !instance.restore(&indexes, &contents, size).await {
            return Err(Outcome::Memory);
        }
        instance.reseed(crate::random::seed()).await.map_err(|e| internal(format!("{e:#}")))?;
        self.operations = instance.operations().await;
        Ok(())
    }

    /// `env` as descriptors; services and loaders become channels.
    fn bindings(&mut self) -> Result<WireOut, Outcome> {
        let worker = self.worker.clone();
        let too_many = || Outcome::Internal("too many bindings".into());
        let mut list = Vec::with_capacity(worker.bindings.len());
        for (name, binding) in &worker.bindings {
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
            };
            let mut entry: Vec<WireOut> = vec![name.clone().into()];
            entry.extend(descriptor);
            list.push(Wire::Array(entry));
        }
        Ok(Wire::Array(list))
    }

    pub(super) fn add_channel(&mut self, target: Arc<dyn Target>) -> Option<u32> {
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
            if let Some(exception) = self.startup.take() {
                return Err(Outcome::Startup(exception));
            }
            if !callers && self.calls.is_empty() {
                return Ok(());
            }
            match self.next(&mut wall_tick, callers).await {
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
                }
                Next::NoMoreCallers => callers = false,
            }
        }
    }

    async fn next(&mut self, wall_tick: &mut Pin<Box<Sleep>>, callers: bool) -> Next {
        let wait_ms = (self.timer_ms - now_ms()).max(0.0);
        let timed = self.timer_ms.is_finite();
        tokio::select! {
            biased;
            Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => Next::Done(done),
            command = self.rx.recv(), if callers => command.map_or(Next::NoMoreCallers, Next::Command),
            () = tokio::time::sleep(Duration::from_secs_f64(wait_ms.min(86_400_000.0) / 1_000.0)), if timed => Next::Timer,
            () = wall_tick.as_mut(), if !self.calls.is_empty() => Next::WallTick,
        }
    }

    async fn command(&mut self, command: Command) -> Result<(), Outcome> {
        match command {
            Command::Call { id, entry, input, reply, report } => {
                let kind = match &input {
                    Input::Request(_) => "fetch",
                    Input::Event(Event::Scheduled { .. }) => "scheduled",
                    Input::Event(Event::Test) => "test",
                    Input::Event(Event::Tail { .. }) => "tail",
                    Input::Event(Event::Run { .. }) => "run",
                    Input::Rpc { .. } => "rpc",
                };
                self.calls.insert(id, Call::new(kind, self.worker.limits.lowered(&entry.limits), reply, report));
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
            Command::Release(id) => self.turn(None, instance::event("release", vec![id.into()])).await,
            Command::Ready(tx) => {
                match self.loaded {
                    true => drop(tx.send(Ok(()))),
                    false => self.waiting.push(tx),
                }
                Ok(())
            }
            Command::Snapshot(tx) => {
                let _ = tx.send(self.snapshot());
                Ok(())
            }
        }
    }

    fn snapshot(&mut self) -> Result<Snapshot, SnapshotError> {
        let mut lost: Vec<u32> = self.started.keys().copied().collect();
        lost.sort_unstable();
        let timer = self.timer_ms;
        let image = self.image.clone();
        let Some(instance) = self.instance.as_mut() else { return Err(SnapshotError::Ended) };
        let (indexes, contents, size) = instance.dirty_pages(&image);
        Snapshot::pack(&image, &indexes, &contents, size, timer, lost)
    }

    /// The event that brings a call to the guest; `None` if its channels do not fit.
    fn input(&mut self, id: u32, entry: Entry, input: Input) -> Option<Vec<u8>> {
        let props = match entry.props.is_empty() {
            true => Wire::Null,
            false => Wire::Array(vec![entry.props.to_vec().into(), self.add_channels(&entry.targets)?]),
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
            Input::Event(Event::Tail { trace }) => instance::event("tail", head(vec![trace.into()])),
            Input::Event(Event::Run { mut module, export, args }) => {
                if module.is_empty() {
                    module.clone_from(&self.worker.code.main);
                }
                instance::event("run", vec![id.into(), module.into(), export.into(), json_array(&args)])
            }
            Input::Rpc { export, message } => {
                let channels = self.add_channels(&message.targets)?;
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

    /// A body on its way out.
    pub(super) fn body_out(&mut self, body: Option<&WireOut>) -> Body {
        match body {
            Some(Wire::Bytes(b)) => Body::Bytes(b.to_vec().into()),
            Some(Wire::Str(s)) => Body::Bytes(s.to_str().into_owned().into()),
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
        let limits = self.worker.limits;
        let allowance = match payer.and_then(|p| self.calls.get(&p)) {
            Some(call) => call.allowance_us(),
            None if self.loaded => UNPAID_CPU_MS.min(u64::from(limits.cpu_ms)) * 1_000,
            None => u64::from(limits.cpu_ms) * 1_000,
        };
        let image = self.image.clone();
        match instance.turn(&image, event, allowance, now_ms()).await {
            Ok((mut instance, timer_ms)) => {
                self.timer_ms = timer_ms;
                let operations = instance.operations().await;
                let cpu_us = instance.turn_cpu_us();
                let state = instance.state();
                let effects = std::mem::take(&mut state.effects);
                let (host_calls, memory) = (state.host_calls, state.memory_peak as u64);
                self.instance = Some(instance);
                self.shared.memory_bytes.store(memory, Ordering::Relaxed);
                self.charge(payer, cpu_us, operations, host_calls, memory);
                self.carry_out(effects);
                self.finish_silent();
                Ok(())
            }
            Err((stop, cpu_us)) => {
                self.charge(payer, cpu_us, self.operations, self.host_calls, self.shared.memory_bytes.load(Ordering::Relaxed));
                Err(match stop {
                    // A turn is also cut off when it has used as much CPU as its call had wall time left.
                    Stop::Cpu if payer.and_then(|p| self.calls.get(&p)).is_some_and(|c| c.is_overdue() && c.cpu_left_us() > 0) => {
                        Outcome::Wall
                    }
                    Stop::Cpu => Outcome::Cpu,
                    Stop::Memory => Outcome::Memory,
                    Stop::Trap(why) => Outcome::Internal(why),
                })
            }
        }
    }

    fn charge(&mut self, payer: Option<u32>, cpu_us: u64, operations: u64, host_calls: u64, memory: u64) {
        if let Some(call) = payer.and_then(|p| self.calls.get_mut(&p)) {
            call.meter.cpu_us += cpu_us;
            call.meter.operations += operations.saturating_sub(self.operations);
            call.meter.host_calls += host_calls.saturating_sub(self.host_calls);
            call.meter.memory_peak_bytes = call.meter.memory_peak_bytes.max(memory);
        }
        self.operations = operations;
        self.host_calls = host_calls;
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Start { id, op, args } => self.start(id, &op, args),
                Effect::Abandon(id) => drop(self.started.remove(&id)),
                Effect::Do { op, args } => self.carry_out_one(op, args),
            }
        }
    }

    fn carry_out_one(&mut self, op: &'static str, args: Vec<WireOut>) {
        match op {
            "log" => self.worker.observer.log(&text(&args, 0), &text(&args, 1)),
            "exception" => self.worker.observer.exception(&self.exception(&args, 0)),
            "loaded" => {
                self.loaded = true;
                match args.get(1) {
                    Some(Wire::Array(error)) => self.startup = Some(self.exception(error, 0)),
                    _ => self.waiting.drain(..).for_each(|tx| drop(tx.send(Ok(())))),
                }
            }
            "respond" => self.respond(&args),
            "result" => {
                let targets = self.targets(args.get(2));
                if let Some(call) = self.calls.get_mut(&number(&args, 0)) {
                    let bytes = args.get(1).map(|v| {
                        v.as_bytes().map_or_else(|| v.as_str().map(|s| s.as_bytes().to_vec()).unwrap_or_default(), <[u8]>::to_vec)
                    });
                    let failed = args.get(3).and_then(Wire::as_bool).unwrap_or(false);
                    call.result(RpcMessage { bytes: bytes.unwrap_or_default().into(), targets }, failed);
                }
            }
            "fail" => {
                let exception = self.exception(&args, 1);
                if let Some(call) = self.calls.get_mut(&number(&args, 0)) {
                    call.fail(exception);
                }
            }
            "done" => self.finish(number(&args, 0)),
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

    fn respond(&mut self, args: &[WireOut]) {
        let id = number(args, 0);
        let body = self.body_out(args.get(4));
        let socket = args.get(5).and_then(Wire::as_u32).and_then(|n| self.take_socket(n));
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Body::Bytes(b) = &body
            && !call.output(b.len())
        {
            return call.fail(Exception {
                name: "RangeError".into(),
                message: "the output limit was exceeded".into(),
                stack: String::new(),
            });
        }
        call.respond(Response {
            status: number(args, 1) as u16,
            status_text: text(args, 2),
            headers: pairs(args.get(3)),
            body,
            socket,
            ..Response::default()
        });
    }

    fn finish(&mut self, id: u32) {
        if let Some(call) = self.calls.remove(&id) {
            let (event, report) = call.finish();
            self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.worker.observer.finished(event, &report);
        }
    }

    /// Ends calls that nothing can answer any more: no operation in flight, no timer, no other event to come.
    fn finish_silent(&mut self) {
        if !self.loaded || !self.in_flight.is_empty() || self.timer_ms.is_finite() || self.calls.is_empty() || !self.rx.is_empty() {
            return;
        }
        let hung: Vec<u32> = self.calls.iter().filter(|(_, c)| !c.is_answered()).map(|(id, _)| *id).collect();
        // Another call in flight could still resolve a promise that this one waits for.
        if hung.len() == self.calls.len() && hung.len() == 1 && self.exports.handles() <= 1 {
            hung.into_iter().for_each(|id| self.finish(id));
        }
    }

    async fn end_overdue(&mut self) -> Result<(), Outcome> {
        let overdue: Vec<u32> = self.calls.iter().filter(|(_, c)| c.is_overdue()).map(|(id, _)| *id).collect();
        for id in overdue {
            if let Some(call) = self.calls.get_mut(&id) {
                call.end(Outcome::Wall);
            }
            self.turn(Some(id), instance::event("cancel", vec![id.into()])).await?;
            self.finish(id);
        }
        Ok(())
    }

    async fn done(&mut self, done: Done) -> Result<(), Outcome> {
        match done {
            Done::Silent => Ok(()),
            Done::Started { id, result } => {
                // Abandoned meanwhile: nobody waits for it.
                let Some(payer) = self.started.remove(&id) else { return Ok(()) };
                let event = match result {
                    Ok(ended) => {
                        let value = self.deliver(payer, ended);
                        instance::event("complete", vec![id.into(), true.into(), value])
                    }
                    Err(e) => instance::event("complete", vec![id.into(), false.into(), Wire::error(e.name, e.message)]),
                };
                self.turn(payer, event).await
            }
            Done::Socket { number, message, rx } => self.socket_message(number, message, rx).await,
        }
    }

    /// What a finished operation brought, as the guest sees it.
    fn deliver(&mut self, payer: Option<u32>, ended: Ended) -> WireOut {
        match ended {
            Ended::Value(value) => value,
            Ended::Chunk(chunk) => {
                if let Some(call) = payer.and_then(|p| self.calls.get_mut(&p)) {
                    call.meter.bytes_in += chunk.len() as u64;
                }
                chunk.to_vec().into()
            }
            Ended::Response(response) => self.response_in(payer, *response),
            Ended::Socket(socket) => {
                let protocol = socket.protocol.clone();
                Wire::Array(vec![self.add_socket(socket).into(), protocol.into()])
            }
            Ended::Rpc(message) => {
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
        let culprit = self.current;
        let mut calls = std::mem::take(&mut self.calls);
        while let Ok(command) = self.rx.try_recv() {
            match command {
                Command::Call { id, reply, report, .. } => drop(calls.insert(id, Call::new("fetch", self.worker.limits, reply, report))),
                Command::Ready(tx) => drop(tx.send(Err(outcome.clone()))),
                Command::Cancel(_) | Command::Release(_) | Command::Snapshot(_) => {}
            }
        }
        for tx in self.waiting.drain(..) {
            let _ = tx.send(Err(outcome.clone()));
        }
        for (id, mut call) in calls {
            // A limit is the fault of the call that hit it; the others only shared the isolate.
            let shared_fate = matches!(outcome, Outcome::Cpu | Outcome::Memory) && culprit.is_some_and(|c| c != id);
            call.end(match shared_fate {
                true => Outcome::Cancelled(format!("another call of the same isolate ended it: {outcome}")),
                false => outcome.clone(),
            });
            let (event, report) = call.finish();
            self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.worker.observer.finished(event, &report);
        }
    }
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
