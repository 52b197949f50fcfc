//! A live isolate: the task that owns an instance, gives it events one at a time, and carries out what it asks for.
//!
//! States: starting (waiting for a slot, loading the worker's main module) → running (between turns, or in one) →
//! ended (every caller gone, or stopped by a limit). Callers hold an [`Isolate`] handle; the task ends when the last
//! handle is dropped and every call has finished. It knows no network: whatever goes out goes to a [`Target`].

mod actor;
mod bound;
mod call;
mod gate;
mod operation;
mod redirect;
mod task;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use self::actor::{Acting, Control};
pub(crate) use self::gate::GATES_MAX;
use crate::chain::Chain;
use crate::durable::{Actor, ActorClass};
use crate::image::Image;
use crate::limits::LimitsAsked;
use crate::outcome::{Exception, Outcome, Report};
use crate::snapshot::{HibernateError, Snapshot, SnapshotError};
use crate::socket::SocketMessage;
use crate::target::{BoxFuture, CallError, IsolateId, Request, Response, RpcMessage, Target};
use crate::trace::Trace;
use crate::worker::Worker;

/// Calls an isolate may have in flight. More are refused at once, so the command queue stays bounded too.
const CALLS_MAX: u32 = 10_000;

/// In the count of calls in flight: an actor that goes to sleep takes no more. Far above [`CALLS_MAX`].
const CLOSING: u32 = 1 << 31;

/// Which of a worker's entrypoints is called, and with which `ctx.props`.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Name of an exported class; `None` is the default export.
    pub name: Option<String>,
    /// `ctx.props`: a structured clone as the guest's serialiser writes it; empty means none.
    pub props: Bytes,
    /// Targets that `props` refers to.
    pub targets: Vec<Arc<dyn Target>>,
    /// `ctx.props` as a JSON text, where they come from outside of any isolate; `props` is then empty.
    pub props_json: Option<Arc<str>>,
    /// Limits of calls to this entrypoint, where lower than the worker's.
    pub limits: LimitsAsked,
}

/// An event other than a request.
#[derive(Clone, Debug)]
pub enum Event {
    /// A cron trigger.
    Scheduled {
        /// The cron expression.
        cron: String,
        /// When it was due, in ms since the epoch.
        time_ms: f64,
    },
    /// The worker's own test.
    Test,
    /// What the main module exports: the result is a JSON array of `[name, whether it is a class]`.
    Exports,
    /// Traces of a worker that this one is a tail of.
    Tail {
        /// A JSON array of events.
        trace: String,
        /// The calls that led to it.
        chain: Chain,
    },
    /// Calls a function of a module; the result is JSON.
    Run {
        /// Module name; empty for the main module.
        module: String,
        /// Name of the export.
        export: String,
        /// Arguments as a JSON array.
        args: String,
    },
    /// An alarm of an actor is due.
    Alarm {
        /// Which; empty for the one that `setAlarm` sets.
        name: String,
        /// When it was due, in ms since the epoch.
        scheduled_ms: f64,
        /// How often it was tried before and failed.
        retries: u32,
    },
    /// A message of a WebSocket that an actor's state keeps, or its end.
    Socket {
        /// The socket's number.
        number: u32,
        /// The message.
        message: SocketMessage,
    },
}

impl Input {
    /// The kind of event, for reports.
    fn kind(&self) -> &'static str {
        match self {
            Self::Request(_) => "fetch",
            Self::Event(Event::Scheduled { .. }) => "scheduled",
            Self::Event(Event::Test) => "test",
            Self::Event(Event::Exports) => "exports",
            Self::Event(Event::Tail { .. }) => "tail",
            Self::Event(Event::Run { .. }) => "run",
            Self::Event(Event::Alarm { .. }) => "alarm",
            Self::Event(Event::Socket { .. }) => "hibernatableWebSocket",
            Self::Rpc { .. } => "rpc",
        }
    }

    /// A trace that begins with it.
    fn trace(&self, entrypoint: Option<String>) -> Trace {
        match self {
            Self::Request(r) => Trace::fetch(&r.method, &r.url, &r.headers, &r.cf, entrypoint),
            Self::Event(Event::Scheduled { cron, time_ms }) => {
                Trace::new(serde_json::json!({ "cron": cron, "scheduledTime": time_ms }), entrypoint)
            }
            // Each event is of a worker without a name: workers that were loaded have none.
            Self::Event(Event::Tail { .. }) => Trace::new(serde_json::json!({ "consumedEvents": [{ "scriptName": null }] }), entrypoint),
            // What is called travels in a message that only guests read.
            Self::Rpc { .. } => Trace::new(serde_json::json!({ "rpcMethod": "" }), entrypoint),
            Self::Event(Event::Alarm { scheduled_ms, .. }) => Trace::new(serde_json::json!({ "scheduledTime": scheduled_ms }), entrypoint),
            Self::Event(Event::Socket { message, .. }) => {
                let event = match message {
                    SocketMessage::Text(_) | SocketMessage::Binary(_) => serde_json::json!({ "webSocketEventType": "message" }),
                    SocketMessage::Close(code, _) => {
                        serde_json::json!({ "webSocketEventType": "close", "code": code, "wasClean": *code != 1006 })
                    }
                    SocketMessage::Error(_) => serde_json::json!({ "webSocketEventType": "error" }),
                };
                Trace::new(serde_json::json!({ "getWebSocketEvent": event }), entrypoint)
            }
            Self::Event(Event::Test | Event::Exports | Event::Run { .. }) => Trace::new(serde_json::Value::Null, entrypoint),
        }
    }

    /// The calls that led to it.
    fn chain(&self) -> Chain {
        match self {
            Self::Request(request) => request.chain.clone(),
            Self::Rpc { message, .. } => message.chain.clone(),
            Self::Event(Event::Tail { chain, .. }) => chain.clone(),
            Self::Event(_) => Chain::default(),
        }
    }
}

enum Reply {
    Response(oneshot::Sender<Result<Response, Outcome>>),
    Message(oneshot::Sender<Result<RpcMessage, Outcome>>),
}

/// What arrives with a call.
enum Input {
    Request(Box<Request>),
    Event(Event),
    /// To an entrypoint (`export` is `None`) or to something passed by reference.
    Rpc {
        export: Option<u32>,
        message: RpcMessage,
    },
}

#[expect(clippy::large_enum_variant, reason = "nearly every command is a call; boxing it would cost an allocation each")]
enum Command {
    Call {
        id: u32,
        arrived: Instant,
        entry: Entry,
        input: Input,
        reply: Reply,
        report: Option<oneshot::Sender<Report>>,
    },
    /// The caller of that call has gone.
    Cancel(u32),
    /// Nobody holds that export any more.
    Release(u32),
    /// Somebody gave an export back.
    Returned,
    Snapshot(oneshot::Sender<Result<Snapshot, SnapshotError>>),
    /// Its place is wanted: it ends if it is idle.
    Evict,
    /// Answered once the isolate serves.
    Ready(oneshot::Sender<Result<(), Outcome>>),
}

#[derive(Debug, Default)]
struct Shared {
    in_flight: AtomicU32,
    /// Objects of the guest that others hold and may call.
    objects_lent: AtomicU32,
    last_call: AtomicU32,
    memory_bytes: AtomicU64,
    /// WebSockets whose other end somebody got as an answer.
    sockets_served: AtomicU32,
    /// When the last call came, in ms since the epoch.
    last_call_ms: AtomicU64,
    /// Whether it was asked to end and has not answered yet.
    evicting: AtomicBool,
    /// How an actor's task is reached past its queue.
    control: Option<mpsc::UnboundedSender<Control>>,
}

impl Shared {
    /// Whether nothing is in flight; if so, no call is let in any more.
    fn close(&self) -> bool {
        self.in_flight.compare_exchange(0, CLOSING, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

fn clock_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// An isolate that may be ended while it is idle, as the engine knows it. Keeps nothing alive.
pub(crate) struct Evictable {
    tx: mpsc::WeakUnboundedSender<Command>,
    shared: Weak<Shared>,
}

impl Evictable {
    pub(crate) fn is_alive(&self) -> bool {
        self.shared.strong_count() > 0
    }

    /// In which order idle isolates go: those with open sockets last, those that were called last before them. `None`: not idle.
    pub(crate) fn idle(&self) -> Option<(bool, u64)> {
        let shared = self.shared.upgrade()?;
        let busy = shared.in_flight.load(Ordering::Relaxed) > 0 || shared.evicting.load(Ordering::Relaxed);
        (!busy).then(|| (shared.sockets_served.load(Ordering::Relaxed) > 0, shared.last_call_ms.load(Ordering::Relaxed)))
    }

    pub(crate) fn evict(&self) {
        if let (Some(shared), Some(tx)) = (self.shared.upgrade(), self.tx.upgrade()) {
            shared.evicting.store(true, Ordering::Relaxed);
            let _ = tx.send(Command::Evict);
        }
    }
}

/// A handle to a live isolate; a cheap clone. The isolate ends when the last handle is gone and its calls are finished.
#[derive(Clone)]
pub struct Isolate {
    tx: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
    /// Closed when the task has ended and its slot is free.
    gone: watch::Receiver<()>,
}

impl std::fmt::Debug for Isolate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Isolate").field("in_flight", &self.in_flight()).field("ended", &self.has_ended()).finish()
    }
}

/// Tells the task that the caller left, unless it is disarmed.
struct CancelOnDrop<'a> {
    isolate: &'a Isolate,
    call: Option<u32>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            let _ = self.isolate.tx.send(Command::Cancel(call));
        }
    }
}

impl Isolate {
    /// Starts an isolate with a worker. Returns at once; a worker that does not load fails its calls.
    pub fn start(image: &Image, worker: Arc<Worker>) -> Self {
        Self::spawn(image, worker, None, None)
    }

    /// Starts an isolate as an actor. Returns at once; its calls wait until it has been constructed, and get what the constructor threw.
    pub fn start_actor(image: &Image, worker: Arc<Worker>, actor: Actor) -> Self {
        Self::spawn(image, worker, None, Some(actor))
    }

    /// Wakes an actor from a snapshot: nothing is constructed.
    pub fn wake_actor(image: &Image, worker: Arc<Worker>, snapshot: Snapshot, actor: Actor) -> Result<Self, SnapshotError> {
        snapshot.check(image)?;
        snapshot.check_limits(&worker.limits)?;
        Ok(Self::spawn(image, worker, Some(snapshot), Some(actor)))
    }

    /// Wakes a snapshot. The worker supplies bindings and limits; its code is in the snapshot already.
    pub fn wake(image: &Image, worker: Arc<Worker>, snapshot: Snapshot) -> Result<Self, SnapshotError> {
        snapshot.check(image)?;
        snapshot.check_limits(&worker.limits)?;
        Ok(Self::spawn(image, worker, Some(snapshot), None))
    }

    fn spawn(image: &Image, worker: Arc<Worker>, snapshot: Option<Snapshot>, actor: Option<Actor>) -> Self {
        let (tx, rx) = mpsc::unbounded_channel();
        let (control, acting) = actor.map(Acting::new).unzip();
        let shared = Arc::new(Shared { control, ..Shared::default() });
        let (alive, gone) = watch::channel(());
        let exports = Exports { tx: tx.downgrade(), shared: shared.clone(), gone: gone.clone() };
        shared.last_call_ms.store(clock_ms(), Ordering::Relaxed);
        // An actor is put to sleep by those who know what it has behind it.
        if worker.evictable && acting.is_none() {
            image.engine().may_evict(Evictable { tx: tx.downgrade(), shared: Arc::downgrade(&shared) });
        }
        let task = task::Task::new(image.clone(), worker, rx, exports, shared.clone(), acting);
        tokio::spawn(async move {
            task.run(snapshot).await;
            drop(alive);
        });
        Self { tx, shared, gone }
    }

    /// Gives up this handle and waits until the isolate is gone: its memory is given back and its slot is free. Other
    /// handles and calls in flight keep it.
    pub async fn gone(self) {
        let Self { tx, mut gone, .. } = self;
        drop(tx);
        // Nothing is ever sent: an error is the end of the task.
        let _ = gone.changed().await;
    }

    /// Ready when it is gone, as after [`Isolate::gone`]. Does not keep it.
    pub fn when_gone(&self) -> BoxFuture<()> {
        let mut gone = self.gone.clone();
        Box::pin(async move { while gone.changed().await.is_ok() {} })
    }

    /// Waits until it has started, or woken, and run its first turn; the worker's wall limit ends that at the latest.
    pub async fn ready(&self) -> Result<(), Outcome> {
        let (tx, rx) = oneshot::channel();
        self.tx.send(Command::Ready(tx)).map_err(|_| ended())?;
        rx.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> u32 {
        self.shared.in_flight.load(Ordering::Relaxed) & !CLOSING
    }

    /// Most memory it has used, what the host holds for it included, as of its last turn, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.shared.memory_bytes.load(Ordering::Relaxed)
    }

    /// Whether it has stopped (a limit, a trap, a worker that does not load): it answers nothing any more.
    pub fn has_ended(&self) -> bool {
        self.tx.is_closed()
    }

    fn send(&self, entry: Entry, input: Input, reply: Reply, report: Option<oneshot::Sender<Report>>) -> Result<CancelOnDrop<'_>, Outcome> {
        input.chain().enter()?;
        let before = self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        if before >= CALLS_MAX {
            self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            let closing = before >= CLOSING;
            return Err(if closing { ended() } else { Outcome::Cancelled("the isolate has too many calls in flight".into()) });
        }
        self.shared.last_call_ms.store(clock_ms(), Ordering::Relaxed);
        let id = self.shared.last_call.fetch_add(1, Ordering::Relaxed) % (i32::MAX as u32) + 1;
        let call = Command::Call { id, arrived: Instant::now(), entry, input, reply, report };
        if self.tx.send(call).is_err() {
            self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(ended());
        }
        Ok(CancelOnDrop { isolate: self, call: Some(id) })
    }

    /// Sends a request; answers when the response's head is known. Dropping the future cancels the call.
    pub async fn fetch(&self, entry: Entry, request: Request) -> Result<Response, Outcome> {
        self.fetch_reported(entry, request, None).await
    }

    /// As [`Isolate::fetch`]; `report` hears when the call and everything it started has ended.
    pub async fn fetch_reported(
        &self,
        entry: Entry,
        request: Request,
        report: Option<oneshot::Sender<Report>>,
    ) -> Result<Response, Outcome> {
        let (tx, rx) = oneshot::channel();
        let mut guard = self.send(entry, Input::Request(Box::new(request)), Reply::Response(tx), report)?;
        let answer = rx.await.unwrap_or_else(|_| Err(ended()));
        guard.call = None;
        answer
    }

    /// Sends another event and returns its result (JSON bytes of a `run`, empty otherwise).
    pub async fn event(&self, entry: Entry, event: Event, report: Option<oneshot::Sender<Report>>) -> Result<Bytes, Outcome> {
        let (tx, rx) = oneshot::channel();
        let mut guard = self.send(entry, Input::Event(event), Reply::Message(tx), report)?;
        let answer = rx.await.unwrap_or_else(|_| Err(ended()));
        guard.call = None;
        answer.map(|m| m.bytes)
    }

    /// Sends a message of the service-stub protocol to an entrypoint.
    pub async fn rpc(&self, entry: Entry, message: RpcMessage) -> Result<RpcMessage, Outcome> {
        self.rpc_to(entry, None, message).await
    }

    async fn rpc_to(&self, entry: Entry, export: Option<u32>, message: RpcMessage) -> Result<RpcMessage, Outcome> {
        let (tx, rx) = oneshot::channel();
        let mut guard = self.send(entry, Input::Rpc { export, message }, Reply::Message(tx), None)?;
        let answer = rx.await.unwrap_or_else(|_| Err(ended()));
        guard.call = None;
        answer
    }

    /// Tells an actor that an alarm is due: name (empty for the one that `setAlarm` sets), when it was due in ms since the epoch, and how often it
    /// was tried before. Ready when its handler has come back and what it wrote is durable.
    pub async fn alarm(&self, name: &str, scheduled_ms: f64, retries: u32) -> Result<(), Outcome> {
        let event = Event::Alarm { name: name.to_owned(), scheduled_ms, retries };
        self.event(Entry::default(), event, None).await.map(drop)
    }

    /// Brings an actor a message of a socket that its state keeps, or the socket's end. `wall_ms`: how long the handler may take, where that is less
    /// than the wall limit. Ready when the handler has come back and what it wrote is durable.
    pub async fn socket(&self, number: u32, message: SocketMessage, wall_ms: Option<u32>) -> Result<(), Outcome> {
        let entry = Entry { limits: LimitsAsked { wall_ms, ..LimitsAsked::default() }, ..Entry::default() };
        self.event(entry, Event::Socket { number, message }, None).await.map(drop)
    }

    /// Writes the live isolate down: heap, closures, pending promises, timers. It goes on running. An actor is written down as soon as nothing is
    /// held by its output gate, and runs no turn until then.
    pub async fn snapshot(&self) -> Result<Snapshot, SnapshotError> {
        let (tx, rx) = oneshot::channel();
        let sent = match &self.shared.control {
            Some(control) => control.send(Control::Snapshot(tx)).is_ok(),
            None => self.tx.send(Command::Snapshot(tx)).is_ok(),
        };
        if !sent {
            return Err(SnapshotError::Ended);
        }
        rx.await.unwrap_or(Err(SnapshotError::Ended))
    }

    /// Writes an actor down and ends it, if it is idle: no call is in flight, nothing is held by a gate, nothing it started is still under way,
    /// nobody holds an object of it, and all its WebSockets are kept by its state. A call that comes meanwhile is refused and was not begun.
    pub async fn hibernate(&self) -> Result<Snapshot, HibernateError> {
        let (tx, rx) = oneshot::channel();
        let Some(control) = &self.shared.control else { return Err(HibernateError::Busy("it is no actor")) };
        control.send(Control::Hibernate(tx)).map_err(|_| HibernateError::Ended)?;
        rx.await.unwrap_or(Err(HibernateError::Ended))
    }

    /// Ends an actor now, also in the middle of a turn, which is then undone; calls in flight fail with `reason`, and what the output gate
    /// holds is dropped. Nothing happens to an isolate that is no actor.
    pub fn end(&self, reason: Exception) {
        if let Some(control) = &self.shared.control {
            // An error means that it has ended already.
            let _ = control.send(Control::End(reason));
        }
    }

    /// A target for one of its entrypoints, for other isolates to call.
    pub fn entrypoint(&self, entry: Entry) -> Arc<dyn Target> {
        let exports = Exports { tx: self.tx.downgrade(), shared: self.shared.clone(), gone: self.gone.clone() };
        Lent::target(self.clone(), Arc::new(Inside { exports, place: Place::Entrypoint(entry) }))
    }
}

fn ended() -> Outcome {
    Outcome::Cancelled("the isolate has ended".into())
}

/// What makes targets of what a guest passes by reference. It is held by the isolate itself and does not keep it alive.
#[derive(Clone)]
pub(crate) struct Exports {
    tx: mpsc::WeakUnboundedSender<Command>,
    shared: Arc<Shared>,
    gone: watch::Receiver<()>,
}

impl std::fmt::Debug for Exports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exports").finish_non_exhaustive()
    }
}

impl Exports {
    fn isolate(&self) -> Option<Isolate> {
        Some(Isolate { tx: self.tx.upgrade()?, shared: self.shared.clone(), gone: self.gone.clone() })
    }

    /// Names the isolate among those alive.
    pub(crate) fn id(&self) -> IsolateId {
        IsolateId(Arc::as_ptr(&self.shared) as usize)
    }

    /// Whether somebody may still call an object of the guest.
    fn any_lent(&self) -> bool {
        self.shared.objects_lent.load(Ordering::Relaxed) > 0
    }

    /// A target for the guest's export `id`.
    pub(crate) fn target(&self, id: u32) -> Arc<dyn Target> {
        Arc::new(Own(Arc::new(Inside { exports: self.clone(), place: Place::Object(id) })))
    }

    /// A target for an entrypoint of the isolate itself.
    pub(crate) fn entrypoint(&self, entry: Entry) -> Arc<dyn Target> {
        Arc::new(Own(Arc::new(Inside { exports: self.clone(), place: Place::Entrypoint(entry) })))
    }
}

/// What of an isolate is called.
#[derive(Debug)]
enum Place {
    Entrypoint(Entry),
    /// An object that the guest passed by reference, under the guest's number.
    Object(u32),
}

#[derive(Debug)]
struct Inside {
    exports: Exports,
    place: Place,
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let (Place::Object(id), Some(tx)) = (&self.place, self.exports.tx.upgrade()) {
            let _ = tx.send(Command::Release(*id));
        }
    }
}

impl Inside {
    fn fetch(&self, isolate: Isolate, request: Request) -> BoxFuture<Result<Response, CallError>> {
        let Place::Entrypoint(entry) = &self.place else {
            return Box::pin(async { Err(CallError::Refused("a stub passed by reference has no fetch of its own".into())) });
        };
        let entry = entry.clone();
        Box::pin(async move { isolate.fetch(entry, request).await.map_err(CallError::Ended) })
    }

    fn rpc(&self, isolate: Isolate, message: RpcMessage) -> BoxFuture<Result<RpcMessage, CallError>> {
        let (entry, object) = match &self.place {
            Place::Entrypoint(entry) => (entry.clone(), None),
            Place::Object(id) => (Entry::default(), Some(*id)),
        };
        Box::pin(async move { isolate.rpc_to(entry, object, message).await.map_err(CallError::Ended) })
    }

    fn tail(&self, isolate: Isolate, trace: String, chain: Chain) -> BoxFuture<Result<(), CallError>> {
        let Place::Entrypoint(entry) = &self.place else {
            return Box::pin(async { Err(CallError::Refused("this target takes no traces".into())) });
        };
        let entry = entry.clone();
        Box::pin(async move { isolate.event(entry, Event::Tail { trace, chain }, None).await.map(drop).map_err(CallError::Ended) })
    }
}

/// A target of an isolate in its own hands: were it to keep the isolate alive, a guest could keep its slot for ever.
#[derive(Debug)]
struct Own(Arc<Inside>);

impl Own {
    fn isolate(&self) -> Result<Isolate, CallError> {
        self.0.exports.isolate().ok_or_else(|| CallError::Ended(ended()))
    }
}

impl Target for Own {
    fn fetch(&self, request: Request) -> BoxFuture<Result<Response, CallError>> {
        match self.isolate() {
            Ok(isolate) => self.0.fetch(isolate, request),
            Err(e) => Box::pin(async { Err(e) }),
        }
    }

    fn rpc(&self, message: RpcMessage) -> BoxFuture<Result<RpcMessage, CallError>> {
        match self.isolate() {
            Ok(isolate) => self.0.rpc(isolate, message),
            Err(e) => Box::pin(async { Err(e) }),
        }
    }

    fn tail(&self, trace: String, chain: Chain) -> BoxFuture<Result<(), CallError>> {
        match self.isolate() {
            Ok(isolate) => self.0.tail(isolate, trace, chain),
            Err(e) => Box::pin(async { Err(e) }),
        }
    }

    fn lent(&self) -> Option<Arc<dyn Target>> {
        Some(Lent::target(self.0.exports.isolate()?, self.0.clone()))
    }

    fn actor_class(&self) -> Option<ActorClass> {
        let Place::Entrypoint(entry) = &self.0.place else { return None };
        let class = entry.name.clone().unwrap_or_else(|| "default".into());
        Some(ActorClass { class, props: entry.props.clone(), targets: entry.targets.clone(), loaded: None })
    }
}

/// The same in other hands: the isolate lives until it is dropped.
#[derive(Debug)]
struct Lent {
    isolate: Isolate,
    inside: Arc<Inside>,
}

impl Lent {
    fn target(isolate: Isolate, inside: Arc<Inside>) -> Arc<dyn Target> {
        if matches!(inside.place, Place::Object(_)) {
            isolate.shared.objects_lent.fetch_add(1, Ordering::Relaxed);
        }
        Arc::new(Self { isolate, inside })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if matches!(self.inside.place, Place::Object(_)) {
            self.isolate.shared.objects_lent.fetch_sub(1, Ordering::Relaxed);
            // The isolate looks whether anybody is left to answer its calls.
            let _ = self.isolate.tx.send(Command::Returned);
        }
    }
}

impl Target for Lent {
    fn fetch(&self, request: Request) -> BoxFuture<Result<Response, CallError>> {
        self.inside.fetch(self.isolate.clone(), request)
    }

    fn rpc(&self, message: RpcMessage) -> BoxFuture<Result<RpcMessage, CallError>> {
        self.inside.rpc(self.isolate.clone(), message)
    }

    fn tail(&self, trace: String, chain: Chain) -> BoxFuture<Result<(), CallError>> {
        self.inside.tail(self.isolate.clone(), trace, chain)
    }

    fn gone(&self) -> Option<BoxFuture<()>> {
        Some(self.isolate.when_gone())
    }

    fn returned(&self, to: IsolateId) -> Option<Arc<dyn Target>> {
        (self.inside.exports.id() == to).then(|| Arc::new(Own(self.inside.clone())) as Arc<dyn Target>)
    }
}
