//! What an actor's isolate has behind it: state that outlives it, and the namespaces through which actors are reached.
//!
//! Two traits that the node implements; nothing here knows SQL or files. Operations and their arguments are those of "Actors" in
//! `docs/design/guest-abi.md`. Arguments come from hostile code.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;

use crate::loader::Loaded;
use crate::socket::Socket;
use crate::target::{BoxFuture, CallError, Request, Response, Target};
use crate::wire::{Wire, WireOut};
use crate::worker::Worker;

/// The state behind one actor's isolate. Its methods are called by the isolate's task only, one at a time. It is dropped before the isolate counts
/// as gone; when that happens in the middle of a turn (the node shuts down), what the turn wrote is undone as by [`Durable::cut_off`].
pub trait Durable: Send + Debug {
    /// A host call `actor.*` within a turn; an error value is thrown in the guest. It may use this machine's disk but waits for nothing else.
    /// `actor.gate` comes here too, when it is asked for and after a wake with the gate held: it says whether an open transaction may outlast the turn.
    /// So do `actor.facet.abort` and `actor.facet.delete`: from then on the stubs of such a facet lead nowhere, and [`Durable::facet`] makes another.
    /// `room` is the host memory in bytes that the answer may take: a larger one must be an error (`RangeError`) instead.
    fn call(&mut self, op: &str, args: &[Wire<'_>], room: usize) -> WireOut;

    /// The handler of the alarm of that name has come back, in the turn that ends now: the alarm is done by the same commit as what the turn wrote. Comes
    /// right before [`Durable::end_turn`], and for handlers that did not fail only.
    fn alarm_done(&mut self, name: &str);

    /// A turn has ended by itself. What it wrote is committed and on its way; if the future is there, all effects of the turn, and of every turn after
    /// it, wait for it (the output gate). An error ends the isolate, and no effect that waited is ever carried out.
    fn end_turn(&mut self) -> Option<BoxFuture<Result<(), String>>>;

    /// The turn was cut off, by a limit or a trap: what it wrote is undone. The isolate ends.
    fn cut_off(&mut self);

    /// An operation `actor.*` that takes time; `Err` is the name and the message of what is thrown. It starts when the gate lets it.
    fn start(&mut self, op: &str, args: Vec<WireOut>) -> BoxFuture<Result<WireOut, (String, String)>>;

    /// An effect `actor.*` that nothing waits for, when the gate lets it out. `actor.abort` comes here after [`Durable::cut_off`], before the
    /// isolate ends by it.
    fn carry_out(&mut self, op: &str, args: Vec<WireOut>);

    /// Takes over the isolate's end of a WebSocket, under the number that the guest knows it by: from now on its messages come as calls, also after
    /// the isolate was hibernated (`acceptWebSocket`). `args` are those of `actor.ws.keep` after the socket. One that is kept under the same number
    /// already is closed.
    fn keep_socket(&mut self, number: u32, socket: Socket, args: &[WireOut]);

    /// The largest number of a kept socket that is still connected, so that a new one gets a larger; 0 if there is none.
    fn last_socket(&self) -> u32;

    /// The facet of that name (`actor.facet`): running, or to be started as `class` by the first call to it. `None` if it is not running and no class
    /// is given. `id` is what the facet shall have as its own. `Err` is the name and the message of what is thrown.
    fn facet(&mut self, name: &str, class: Option<ActorClass>, id: Option<&str>) -> Result<Option<Arc<dyn Target>>, (String, String)>;

    /// The actor's database at the end of this turn, or as of one of its bookmarks (`actor.snapshot`). `Err` is the name and the message of what is thrown.
    fn snapshot(&mut self, bookmark: Option<&str>) -> Result<ActorSnapshot, (String, String)>;

    /// The actor's database is to become what was put down there when the actor next starts (`actor.adopt`). The bookmark that undoes it; `Err` as above.
    fn adopt(&mut self, snapshot: &ActorSnapshot) -> Result<String, (String, String)>;
}

/// Where actors of one class are reached: a binding of a worker, or `ctx.exports.<class>`.
pub trait Namespace: Send + Sync + Debug {
    /// The id that belongs to a name, as 64 hexadecimal digits.
    fn id_of(&self, name: &str) -> String;

    /// A new id that nobody can guess.
    fn unique(&self) -> String;

    /// Whether such an id is of this namespace. It may be any text.
    fn owns(&self, id: &str) -> bool;

    /// The actor of that id (which this namespace owns); `name` is what the caller made the id from. It is not activated before it is called. Each
    /// target is a stub of its own: its calls arrive in the order in which their futures are first polled.
    fn target(&self, id: &str, name: Option<&str>) -> Arc<dyn Target>;
}

/// Makes an isolate an actor.
#[derive(Debug)]
pub struct Actor {
    /// The exported class that is its guest; `default` is the default export.
    pub class: String,
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// The name its id was made from, where it is known.
    pub name: Option<String>,
    /// `ctx.props`, as those of [`crate::Entry`]; empty for all but facets.
    pub props: Bytes,
    /// Targets that `props` refers to.
    pub targets: Vec<Arc<dyn Target>>,
    /// What it has behind it.
    pub durable: Box<dyn Durable>,
}

/// A database as it was, apart from its actor: who has a channel to it may bring an actor's database there, and do nothing else with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorSnapshot {
    /// The actor's id, 64 hexadecimal digits.
    pub actor: String,
    /// The place in its past, as the node writes that down.
    pub bookmark: String,
}

impl Target for ActorSnapshot {
    fn fetch(&self, _request: Request) -> BoxFuture<Result<Response, CallError>> {
        Box::pin(async { Err(CallError::Refused("a snapshot is not called; give it to onNextSessionRestore".into())) })
    }

    fn actor_snapshot(&self) -> Option<&ActorSnapshot> {
        Some(self)
    }
}

/// A class whose instances may be facets: what the guest passes to `actor.facet`, and what [`Target::actor_class`] gives.
#[derive(Clone, Debug)]
pub struct ActorClass {
    /// Name of the export; `default` is the default export.
    pub class: String,
    /// `ctx.props` of its instances.
    pub props: Bytes,
    /// Targets that `props` refers to.
    pub targets: Vec<Arc<dyn Target>>,
    /// `None`: a class of the very worker that names it.
    pub(crate) loaded: Option<Arc<Loaded>>,
}

impl ActorClass {
    /// Whether the class is one of the very worker that names it: the code, bindings and limits of the actor's own worker.
    pub fn is_own(&self) -> bool {
        self.loaded.is_none()
    }

    /// The worker that has the class, with the limits of its loader's policy: waits until its code is there. `None` for a class of the actor's own
    /// worker. An error is why the code never comes.
    pub async fn worker(&self) -> Result<Option<Arc<Worker>>, CallError> {
        match &self.loaded {
            Some(loaded) => loaded.worker().await.map(Some),
            None => Ok(None),
        }
    }
}
