//! Something an isolate can call: another worker's entrypoint, a function passed by reference, or the way out.
//!
//! The one trait through which an isolate reaches anything beyond itself. Implemented here for isolates, and by the
//! node for the gateway. Requests and answers are plain data and streams.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::body::Body;
use crate::chain::Chain;
use crate::durable::{ActorClass, ActorSnapshot};
use crate::outcome::Outcome;
use crate::socket::Socket;

/// A boxed future, as object-safe traits need it.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A request, on its way in or out.
#[derive(Debug, Default)]
pub struct Request {
    /// Method, upper case for the known ones.
    pub method: String,
    /// Absolute URL.
    pub url: String,
    /// Names (lower case) and values, in order.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Body,
    /// The `cf` object as JSON, or empty.
    pub cf: String,
    /// The calls that led to it.
    pub chain: Chain,
}

/// A response.
#[derive(Debug, Default)]
pub struct Response {
    /// Status code, 101 or 200–599.
    pub status: u16,
    /// Reason phrase; may be empty.
    pub status_text: String,
    /// Names and values, in order; `set-cookie` may repeat.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Body,
    /// Final URL after redirects, for an outgoing request.
    pub url: String,
    /// Whether a redirect was followed.
    pub redirected: bool,
    /// The other end of a WebSocket, with status 101.
    pub socket: Option<Socket>,
}

impl Response {
    /// What its headers take of the host's memory, in bytes.
    pub(crate) fn headers_bytes(&self) -> usize {
        self.headers.iter().map(|(name, value)| 2 * size_of::<String>() + name.len() + value.len()).sum()
    }
}

/// A message of the service-stub protocol: bytes made by one guest, read by another, and the targets they refer to.
#[derive(Clone, Debug, Default)]
pub struct RpcMessage {
    /// The structured clone.
    pub bytes: Bytes,
    /// Targets by the index used in `bytes`.
    pub targets: Vec<Arc<dyn Target>>,
    /// The calls that led to it; nothing in an answer.
    pub chain: Chain,
}

/// Names an isolate among those alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsolateId(pub(crate) usize);

/// Why a call to a target failed, as the calling guest shall see it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The network or the peer failed (`TypeError` in the guest, as `fetch` has it).
    #[error("{0}")]
    Network(String),
    /// Policy refused it.
    #[error("{0}")]
    Refused(String),
    /// The called isolate ended the call.
    #[error("{0}")]
    Ended(Outcome),
}

/// Something that can be called.
pub trait Target: Send + Sync + Debug {
    /// An HTTP request; for a 101 the response carries a socket.
    fn fetch(&self, request: Request) -> BoxFuture<Result<Response, CallError>>;

    /// One message of the service-stub protocol.
    fn rpc(&self, message: RpcMessage) -> BoxFuture<Result<RpcMessage, CallError>> {
        let _ = message;
        Box::pin(async { Err(CallError::Refused("this target answers fetch only".into())) })
    }

    /// Ready when the isolate behind it has ended; absent where none is, or another takes its place.
    fn gone(&self) -> Option<BoxFuture<()>> {
        None
    }

    /// Whether what is asked of it is given up when the call that asked ends, or gives its request up: an isolate of a worker outlives its
    /// calls, and what is done for one of them must not.
    fn ends_with_call(&self) -> bool {
        false
    }

    /// The same target for other hands than those of the isolate that it leads to; absent where that makes no difference. It
    /// then keeps its isolate alive.
    fn lent(&self) -> Option<Arc<dyn Target>> {
        None
    }

    /// The reverse of [`Target::lent`], when a target comes back `to` the isolate that it leads to.
    fn returned(&self, to: IsolateId) -> Option<Arc<dyn Target>> {
        let _ = to;
        None
    }

    /// The class that it stands for, where it is one that facets may be made of.
    fn actor_class(&self) -> Option<ActorClass> {
        None
    }

    /// The snapshot of an actor's database that it stands for, where it is one.
    fn actor_snapshot(&self) -> Option<&ActorSnapshot> {
        None
    }

    /// Traces (a JSON array of events) of a worker that this one is a tail of.
    fn tail(&self, trace: String, chain: Chain) -> BoxFuture<Result<(), CallError>> {
        let _ = (trace, chain);
        Box::pin(async { Err(CallError::Refused("this target takes no traces".into())) })
    }
}
