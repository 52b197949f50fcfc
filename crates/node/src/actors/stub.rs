//! The way of a call to an actor: a stub in an isolate's hands, and a namespace that makes stubs.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use futures_util::future::BoxFuture;
use skep_actor::{ActorError, NotStarted, Thrown};
use skep_id::ActorId;
use skep_isolate::{CallError, Exception, Namespace, Outcome, Receipts, Request, Response, RpcMessage, SocketMessage, Target};

use super::{
    Awakened, Inner,
    facet::Made,
    identity::Identity,
    sockets::Delivery,
    turn::{Turn, Turns, send},
};
use crate::Entrypoint;

/// How often a call looks for its actor: again when that had ended in between.
const TRIES: u32 = 2;

/// Who an actor is, for those who call it.
#[derive(Clone, Debug)]
pub(crate) struct Whom {
    pub id: ActorId,
    /// As `Place` has it.
    pub namespace: Arc<str>,
    pub name: Option<Arc<str>>,
    pub parent: Option<ActorId>,
}

/// Actors of one class, as isolates see them.
pub(crate) struct Class {
    pub(super) inner: Weak<Inner>,
    pub(super) namespace: Arc<str>,
    pub(super) identity: Identity,
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Class({})", self.namespace)
    }
}

impl Namespace for Class {
    fn id_of(&self, name: &str) -> String {
        self.identity.named(name).to_string()
    }

    fn unique(&self) -> String {
        // Without randomness there is no id that nobody can guess, so there is none; a text that is no id fails where it is used.
        self.identity.unique().map(|id| id.to_string()).unwrap_or_default()
    }

    fn owns(&self, id: &str) -> bool {
        id.parse().is_ok_and(|id| self.identity.owns(id))
    }

    fn target(&self, id: &str, name: Option<&str>) -> Arc<dyn Target> {
        // Checked by `owns` before; an id that is none leads to an actor that nobody has.
        let id = id.parse().unwrap_or(ActorId::new([0; 32]));
        // A name is believed only where it makes this id.
        let name = name.filter(|name| self.identity.named(name) == id).map(Arc::from);
        Stub::target(&self.inner, Whom { id, namespace: Arc::clone(&self.namespace), name, parent: None })
    }
}

/// A stub: calls through it arrive in the order in which they were made.
#[derive(Debug)]
pub(super) struct Stub {
    inner: Weak<Inner>,
    whom: Whom,
    turns: Turns,
    /// What it was made of, where it is a facet.
    made: Option<Arc<Made>>,
}

impl Stub {
    pub fn target(inner: &Weak<Inner>, whom: Whom) -> Arc<dyn Target> {
        Arc::new(Self { inner: Weak::clone(inner), whom, turns: Turns::default(), made: None })
    }

    /// A stub of a facet, until its parent parts with it.
    pub fn of_facet(inner: &Weak<Inner>, whom: Whom, made: Arc<Made>) -> Arc<dyn Target> {
        Arc::new(Self { inner: Weak::clone(inner), whom, turns: Turns::default(), made: Some(made) })
    }

    /// What comes of a call, or why there is no such facet any more.
    fn bound<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, CallError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, CallError>> {
        match self.made.clone() {
            None => Box::pin(call),
            Some(made) => Box::pin(async move {
                tokio::select! {
                    // First: whoever ends the guest as well must not be faster with a reason of its own.
                    biased;
                    why = made.parted() => Err(why),
                    answer = call => answer,
                }
            }),
        }
    }

    fn begin(&self) -> Result<(Arc<Inner>, Whom, Turn), CallError> {
        let inner = self.inner.upgrade().ok_or_else(|| CallError::Refused("the node is stopping".to_owned()))?;
        Ok((inner, self.whom.clone(), self.turns.next()))
    }
}

impl Target for Stub {
    fn fetch(&self, request: Request) -> BoxFuture<'static, Result<Response, CallError>> {
        let begun = self.begin();
        self.bound(async move {
            let (inner, whom, turn) = begun?;
            let turn = turn.await;
            let awake = awaken(&inner, &whom).await?;
            let receipts = request.chain.receipts().cloned();
            let served = send(turn, awake.guest().fetch(Entrypoint::default(), request)).await;
            let served = served.map_err(|report| CallError::Ended(report.outcome))?;
            acknowledge(&inner, &whom, receipts);
            // The guest itself knows what is in flight; nothing sleeps before the body has ended.
            Ok(served.response)
        })
    }

    fn rpc(&self, message: RpcMessage) -> BoxFuture<'static, Result<RpcMessage, CallError>> {
        let begun = self.begin();
        self.bound(async move {
            let (inner, whom, turn) = begun?;
            let turn = turn.await;
            let awake = awaken(&inner, &whom).await?;
            let receipts = message.chain.receipts().cloned();
            let answer = send(turn, awake.guest().rpc(Entrypoint::default(), message)).await;
            let answer = answer.map_err(|report| CallError::Ended(report.outcome))?;
            acknowledge(&inner, &whom, receipts);
            Ok(answer)
        })
    }
}

/// The answer is out, so everything that the actor wrote before it is durable: up to the log's head, if not further.
fn acknowledge(inner: &Inner, whom: &Whom, receipts: Option<Receipts>) {
    if let (Some(receipts), Ok(kept)) = (receipts, inner.kept()) {
        let receipt = kept.receipt(whom.id);
        receipts.put(&whom.id.to_string(), receipt.to_string());
    }
}

/// A guest that takes calls. One that had ended before a call was begun is replaced.
async fn awaken(inner: &Arc<Inner>, whom: &Whom) -> Result<Awakened, CallError> {
    if let Some(parent) = whom.parent {
        inner.facets.settled(whom.id, parent).await;
    }
    for _ in 1..TRIES {
        let awake = inner.awaken(whom).await.map_err(|error| call_error(&error))?;
        if awake.guest().alive() {
            return Ok(awake);
        }
        awake.guest().gone().await;
    }
    inner.awaken(whom).await.map_err(|error| call_error(&error))
}

/// What a caller sees of an actor that does not come: what its constructor threw is thrown at the caller, as on the hosted service.
fn call_error(error: &ActorError) -> CallError {
    match error {
        ActorError::Start(NotStarted::Threw(Thrown { name, message })) => {
            CallError::Ended(Outcome::Reset(Exception { name: name.clone(), message: message.clone(), stack: String::new() }))
        }
        other => CallError::Refused(other.to_string()),
    }
}

/// Brings what comes in on kept sockets to their actors.
pub(super) struct Doorbell {
    pub inner: Weak<Inner>,
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doorbell")
    }
}

impl Delivery for Doorbell {
    fn deliver(&self, whom: Whom, socket: u32, message: SocketMessage, wall_ms: Option<u32>, turn: Turn) -> BoxFuture<'static, ()> {
        let inner = self.inner.upgrade();
        Box::pin(async move {
            let Some(inner) = inner else { return };
            let turn = turn.await;
            // An actor that does not start hears nothing: its own log says why, and the connection stays for the next one that does.
            let Ok(awake) = awaken(&inner, &whom).await else { return };
            // What its handler throws is in the worker's log.
            let _ = send(turn, awake.guest().message(socket, message, wall_ms)).await;
        })
    }
}
