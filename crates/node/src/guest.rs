//! The seam between the node and what runs workers.
//!
//! The node speaks to guests through these traits and the plain values of `isolate`. There are two implementations:
//! isolates ([`crate::isolates`]), and a small scripted one in the tests, which keeps the seam honest and lets everything
//! around it be tested without an engine.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use skep_isolate::{Actor, Limits, Loader, Outcome, Report, Request, Response, RpcMessage, SocketMessage, Transform, Worker};

/// Starts guests.
pub trait Runtime: Send + Sync + 'static {
    /// Hash of the image that guests are made from.
    fn image(&self) -> String;

    /// Starts a guest. Returns at once: one that does not come to life fails what it is asked.
    fn start(&self, worker: Arc<Worker>) -> Arc<dyn Guest>;

    /// Starts a guest as an actor, or wakes it from a heap that was written down by one.
    ///
    /// # Errors
    /// Why the heap cannot be woken.
    fn resident(&self, worker: Arc<Worker>, actor: Actor, heap: Option<&[u8]>) -> Result<Arc<dyn Resident>, String>;

    /// A Worker Loader whose workers get at most `policy`, if there is such a thing.
    fn loader(&self, policy: Limits, transform: Arc<dyn Transform>) -> Option<Arc<Loader>>;

    /// Isolates that could still be started.
    fn free(&self) -> usize;
}

/// One isolate with a worker in it. Dropping the last reference ends it.
pub trait Guest: Send + Sync + 'static {
    /// Ready when the code's top level has been evaluated, or has failed.
    fn loaded(&self) -> BoxFuture<'_, Result<(), Outcome>>;

    /// Serves an HTTP request. Dropping the future, or the body of the response, tells the guest that its client is gone.
    fn fetch(&self, entrypoint: Entrypoint, request: Request) -> BoxFuture<'_, Result<Served, Report>>;

    /// Carries one message of the service-stub protocol.
    fn rpc(&self, entrypoint: Entrypoint, message: RpcMessage) -> BoxFuture<'_, Result<RpcMessage, Report>>;

    /// Calls the default export of a module with `args`, a JSON array, and `env`; the result is JSON, absent when it threw or was
    /// stopped.
    fn run(&self, module: String, args: String) -> BoxFuture<'_, (Option<String>, Report)>;

    /// What the code exports, once it has loaded.
    fn exports(&self) -> BoxFuture<'_, Result<Vec<Export>, Outcome>>;

    /// Whether it can take requests. One that was stopped by a limit cannot.
    fn alive(&self) -> bool;
}

/// A guest that is an actor: it has one instance of a class and state behind it. It ends when it is told to, not when references to it are dropped.
pub trait Resident: Guest + fmt::Debug {
    /// An alarm is due. Ready when its handler has come back and what it wrote is durable.
    fn alarm(&self, name: String, due_ms: u64, retries: u32) -> BoxFuture<'static, Result<(), Outcome>>;

    /// A message of a kept WebSocket, or its end. `wall_ms`: how long the handler may take, where that is less than the wall limit.
    fn message(&self, socket: u32, message: SocketMessage, wall_ms: Option<u32>) -> BoxFuture<'static, Result<(), Outcome>>;

    /// Writes the heap down at a moment at which nothing is held back; it goes on running.
    fn write_down(&self) -> BoxFuture<'static, Result<Written, Awake>>;

    /// Writes the heap down and ends, if it is idle.
    fn hibernate(&self) -> BoxFuture<'static, Result<Written, Awake>>;

    /// Ends it now; calls in flight fail with `reason`.
    fn end(&self, reason: &str);

    /// Calls in flight.
    fn in_flight(&self) -> u32;

    /// Ready when it has ended and nothing of it is left.
    fn gone(&self) -> BoxFuture<'static, ()>;
}

/// A heap that was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What [`Runtime::resident`] takes.
    pub heap: Bytes,
    /// When the guest wants to be woken for a timer, ms since the epoch.
    pub timer_ms: Option<u64>,
}

/// Why a heap was not written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awake {
    /// It is in the middle of something, and goes on.
    Busy(String),
    /// Its heap cannot be written down; one that was to hibernate has ended.
    Heapless(String),
    /// It had ended before.
    Ended,
}

/// Something that a worker's main module exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// `default` for the default export.
    pub name: String,
    /// Whether it is a class.
    pub class: bool,
}

/// Which of a worker's classes is called, and with which `ctx.props`.
#[derive(Debug, Clone, Default)]
pub struct Entrypoint {
    /// A named `WorkerEntrypoint`; the default export when absent.
    pub name: Option<String>,
    /// `ctx.props` as JSON.
    pub props: Option<Arc<str>>,
}

/// A response, and later the report.
pub struct Served {
    /// The response; its body may still be on its way.
    pub response: Response,
    /// Ready when the body and everything else that the request started have ended.
    pub report: BoxFuture<'static, Report>,
}
