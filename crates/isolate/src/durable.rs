//! What an actor's isolate has behind it: state that outlives it, and the namespaces through which actors are reached.
//!
//! Two traits that the node implements; nothing here knows SQL or files. Operations and their arguments are those of "Actors" in
//! `docs/design/guest-abi.md`. Arguments come from hostile code.

use std::fmt::Debug;
use std::sync::Arc;

use crate::socket::Socket;
use crate::target::{BoxFuture, Target};
use crate::wire::{Wire, WireOut};

/// The state behind one actor's isolate. Its methods are called by the isolate's task only, one at a time.
pub trait Durable: Send + Debug {
    /// A host call `actor.*` within a turn; an error value is thrown in the guest. It may use this machine's disk but waits for nothing else.
    /// `room` is the host memory in bytes that the answer may take: a larger one must be an error (`RangeError`) instead.
    fn call(&mut self, op: &str, args: &[Wire<'_>], room: usize) -> WireOut;

    /// A turn has ended by itself. What it wrote is committed and on its way; if the future is there, all effects of the turn, and of every turn after
    /// it, wait for it (the output gate). An error ends the isolate, and no effect that waited is ever carried out.
    fn end_turn(&mut self) -> Option<BoxFuture<Result<(), String>>>;

    /// The turn was cut off, by a limit or a trap: what it wrote is undone.
    fn cut_off(&mut self);

    /// An operation `actor.*` that takes time; `Err` is the name and the message of what is thrown. It starts when the gate lets it.
    fn start(&mut self, op: &str, args: Vec<WireOut>) -> BoxFuture<Result<WireOut, (String, String)>>;

    /// An effect `actor.*` that nothing waits for, when the gate lets it out.
    fn carry_out(&mut self, op: &str, args: Vec<WireOut>);

    /// Takes over the isolate's end of a WebSocket, under the number that the guest knows it by: from now on its messages come as calls, also after
    /// the isolate was hibernated (`acceptWebSocket`). `args` are those of `actor.ws.keep` after the socket.
    fn keep_socket(&mut self, number: u32, socket: Socket, args: &[WireOut]);
}

/// Where actors of one class are reached: a binding of a worker, or `ctx.exports.<class>`.
pub trait Namespace: Send + Sync + Debug {
    /// The id that belongs to a name, as 64 hexadecimal digits.
    fn id_of(&self, name: &str) -> String;

    /// A new id that nobody can guess.
    fn unique(&self) -> String;

    /// Whether such an id is of this namespace.
    fn owns(&self, id: &str) -> bool;

    /// The actor of that id (which this namespace owns); `name` is what the caller made the id from. It is not activated before it is called. Each
    /// target is a stub of its own: its calls arrive in order.
    fn target(&self, id: &str, name: Option<&str>) -> Arc<dyn Target>;
}

/// Makes an isolate an actor.
#[derive(Debug)]
pub struct Actor {
    /// The exported class that is its guest.
    pub class: String,
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// The name its id was made from, where it is known.
    pub name: Option<String>,
    /// What it has behind it.
    pub durable: Box<dyn Durable>,
}
