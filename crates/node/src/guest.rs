//! The seam between the node and what runs workers.
//!
//! The node speaks to guests through these traits and the plain values of `isolate`. There are two implementations:
//! isolates ([`crate::isolates`]), and a small scripted one in the tests, which keeps the seam honest and lets everything
//! around it be tested without an engine.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use skep_isolate::{Limits, Loader, Outcome, Report, Request, Response, RpcMessage, Transform, Worker};

/// Starts guests.
pub trait Runtime: Send + Sync + 'static {
    /// Hash of the image that guests are made from.
    fn image(&self) -> String;

    /// Starts a guest. Returns at once: one that does not come to life fails what it is asked.
    fn start(&self, worker: Arc<Worker>) -> Arc<dyn Guest>;

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

    /// Whether it can take requests. One that was stopped by a limit cannot.
    fn alive(&self) -> bool;
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
