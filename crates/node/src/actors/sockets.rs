//! Kept WebSockets: connections that stay open while their actor sleeps.
//!
//! An actor's isolate hands its end of a socket over (`keep`), and from then on each message wakes the actor if need be and comes to it as a
//! call. A task for each direction moves messages; requests that the actor left an answer for are answered here, without waking anyone.
//! They end with the connection, with the actor, or with the node: a restarted node has none, and clients connect anew.
//!
//! Everything is bounded: sockets for an actor, tags and attachment of a socket, what waits for a client that does not read (it is cut
//! off), and what an actor has not taken yet (its sender waits).

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use skep_id::ActorId;
use skep_isolate::{Socket, SocketMessage, deliver};
use tokio::sync::{Notify, mpsc};

use super::{
    stub::Whom,
    turn::{Turn, Turns},
};

/// Most kept sockets of one actor.
pub(crate) const SOCKETS_MAX: usize = 32_768;

/// Most tags of a socket.
pub(crate) const TAGS_MAX: usize = 10;

/// Longest tag, in characters.
pub(crate) const TAG_CHARS_MAX: usize = 256;

/// Most bytes of a socket's attachment.
pub(crate) const ATTACHMENT_BYTES_MAX: usize = 16 << 10;

/// Longest request and answer of an auto-response, in characters.
pub(crate) const AUTO_CHARS_MAX: usize = 2_048;

/// Bytes that wait for one client. A message counts for 1 KiB at least.
const OUTGOING_BYTES_MAX: usize = 4 << 20;

/// Messages of one socket that its actor works on at a time; they are delivered in order.
const CALLS_MAX: usize = 8;

/// Longest time an actor may be given for one event, as on Cloudflare.
pub(crate) const TIMEOUT_MS_MAX: u64 = 604_800_000;

/// The connection broke without a closing handshake.
const BROKEN: u16 = 1006;

/// The other side goes away.
const GOING_AWAY: u16 = 1001;

/// Too much waits for this client.
const TRY_LATER: u16 = 1013;

/// Takes what comes in on kept sockets to their actor, waking it where it sleeps.
pub(crate) trait Delivery: Send + Sync + fmt::Debug {
    /// Ready when the actor's handler has come back, which it may take `wall_ms` for; `turn` is held until the message is on its way.
    fn deliver(&self, whom: Whom, socket: u32, message: SocketMessage, wall_ms: Option<u32>, turn: Turn) -> BoxFuture<'static, ()>;
}

/// Why a socket is not kept, or nothing is attached to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeepError {
    #[error("an actor keeps at most {SOCKETS_MAX} WebSockets")]
    Full,
    #[error("a WebSocket has at most {TAGS_MAX} tags")]
    Tags,
    #[error("a tag of a WebSocket has at most {TAG_CHARS_MAX} characters")]
    Tag,
    #[error("an attachment of a WebSocket has at most {ATTACHMENT_BYTES_MAX} bytes")]
    Attachment,
    #[error("request and response of an auto-response have at most {AUTO_CHARS_MAX} characters each")]
    Auto,
    #[error("a WebSocket of that number is kept already")]
    Taken,
    #[error("there is no such WebSocket")]
    Unknown,
}

/// A socket as its actor sees it after waking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub number: u32,
    pub tags: Arc<[String]>,
    pub attachment: Option<Bytes>,
    /// When it was last answered for its actor, ms since the epoch.
    pub answered_at: Option<i64>,
}

/// The kept sockets of a node.
#[derive(Debug)]
pub(crate) struct Sockets {
    by_actor: Mutex<HashMap<ActorId, Arc<Group>>>,
    delivery: Arc<dyn Delivery>,
    /// Tasks are started here: an isolate's long turns run on threads of another runtime.
    runtime: tokio::runtime::Handle,
}

impl Sockets {
    pub fn new(delivery: Arc<dyn Delivery>, runtime: tokio::runtime::Handle) -> Arc<Self> {
        Arc::new(Self { by_actor: Mutex::default(), delivery, runtime })
    }

    /// The sockets of one actor.
    pub fn of(self: &Arc<Self>, whom: Whom) -> Arc<Group> {
        let mut by_actor = self.by_actor.lock();
        let actor = whom.id;
        let new = || Arc::new(Group { whom, sockets: Arc::downgrade(self), kept: Mutex::default() });
        Arc::clone(by_actor.entry(actor).or_insert_with(new))
    }

    /// Runs something in the background.
    pub fn on_runtime(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Connections held open.
    pub fn count(&self) -> usize {
        self.by_actor.lock().values().map(|group| group.kept.lock().list.len()).sum()
    }

    /// Ends all connections of an actor that is no more.
    pub fn close_all(&self, actor: ActorId, reason: &str) {
        let Some(group) = self.by_actor.lock().remove(&actor) else { return };
        let list = std::mem::take(&mut group.kept.lock().list);
        for kept in list.into_values() {
            kept.silenced.store(true, Relaxed);
            kept.send(SocketMessage::Close(GOING_AWAY, reason.to_owned()));
        }
    }

    /// Forgets an actor without sockets when nobody else holds its group. Its settings are in its heap, should it wake.
    fn tidy(&self, actor: ActorId) {
        let mut by_actor = self.by_actor.lock();
        // The map holds it, and whoever asks.
        let idle = |group: &Arc<Group>| Arc::strong_count(group) <= 2 && group.kept.lock().list.is_empty();
        if by_actor.get(&actor).is_some_and(idle) {
            by_actor.remove(&actor);
        }
    }
}

/// What an actor leaves behind for its sockets while it sleeps.
#[derive(Debug, Default)]
struct Kept {
    list: BTreeMap<u32, Arc<Connection>>,
    auto: Option<Arc<(Bytes, Bytes)>>,
    timeout: Option<Duration>,
}

/// The sockets of one actor.
#[derive(Debug)]
pub(crate) struct Group {
    whom: Whom,
    sockets: Weak<Sockets>,
    kept: Mutex<Kept>,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    out: mpsc::UnboundedSender<SocketMessage>,
    /// Of what waits in `out`.
    out_bytes: Arc<AtomicUsize>,
    tags: Arc<[String]>,
    attachment: Mutex<Option<Bytes>>,
    /// When it was last answered for its actor, ms since the epoch; 0: never.
    answered_at: AtomicI64,
    /// Its actor hears no more of it.
    silenced: AtomicBool,
    /// Ends its tasks.
    gone: Notify,
    turns: Turns,
}

impl Connection {
    /// Queues a message for the client. One that does not read is cut off.
    fn send(&self, message: SocketMessage) {
        let size = size(&message);
        // One message of any size is taken when little waits.
        if self.out_bytes.load(Relaxed) > OUTGOING_BYTES_MAX {
            self.gone.notify_one();
            return;
        }
        self.out_bytes.fetch_add(size, Relaxed);
        // The task that takes it may have ended with the connection.
        let _ = self.out.send(message);
    }
}

fn size(message: &SocketMessage) -> usize {
    let content = match message {
        SocketMessage::Text(bytes) | SocketMessage::Binary(bytes) => bytes.len(),
        SocketMessage::Close(_, reason) | SocketMessage::Error(reason) => reason.len(),
    };
    content.max(1 << 10)
}

impl Group {
    /// Keeps a socket under the guest's number for it.
    pub fn keep(self: &Arc<Self>, number: u32, socket: Socket, tags: Vec<String>, attachment: Option<Bytes>) -> Result<(), KeepError> {
        check_tags(&tags)?;
        let Some(sockets) = self.sockets.upgrade() else { return Err(KeepError::Unknown) };
        let Socket { tx, rx, .. } = socket;
        let (out, outgoing) = mpsc::unbounded_channel();
        let connection = Arc::new(Connection {
            out,
            out_bytes: Arc::default(),
            tags: tags.into(),
            attachment: Mutex::new(attachment),
            answered_at: AtomicI64::new(0),
            silenced: AtomicBool::new(false),
            gone: Notify::new(),
            turns: Turns::default(),
        });
        {
            let mut kept = self.kept.lock();
            if kept.list.len() >= SOCKETS_MAX {
                return Err(KeepError::Full);
            }
            if kept.list.contains_key(&number) {
                return Err(KeepError::Taken);
            }
            kept.list.insert(number, Arc::clone(&connection));
        }
        let writing = sockets.runtime.spawn(write(tx, outgoing, Arc::clone(&connection.out_bytes)));
        let group = Arc::clone(self);
        sockets.runtime.spawn(async move {
            group.read(number, rx, &connection).await;
            group.drop_connection(number, &connection);
            drop(connection);
            // What was sent before still goes out, but a client that takes nothing is not waited for.
            let writer = writing.abort_handle();
            if tokio::time::timeout(Duration::from_secs(10), writing).await.is_err() {
                writer.abort();
            }
        });
        Ok(())
    }

    /// All sockets, the oldest first.
    pub fn list(&self) -> Vec<Shown> {
        let kept = self.kept.lock();
        let shown = |(number, kept): (&u32, &Arc<Connection>)| Shown {
            number: *number,
            tags: Arc::clone(&kept.tags),
            attachment: kept.attachment.lock().clone(),
            answered_at: Some(kept.answered_at.load(Relaxed)).filter(|at| *at != 0),
        };
        kept.list.iter().map(shown).collect()
    }

    /// The largest number in use; 0 if there is none.
    pub fn last(&self) -> u32 {
        self.kept.lock().list.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// Sends to a client; to one that has gone, nothing happens.
    pub fn send(&self, number: u32, message: SocketMessage) {
        let connection = self.kept.lock().list.get(&number).cloned();
        if let Some(connection) = connection {
            connection.send(message);
        }
    }

    /// Keeps a few bytes with a socket.
    pub fn attach(&self, number: u32, attachment: Bytes) -> Result<(), KeepError> {
        if attachment.len() > ATTACHMENT_BYTES_MAX {
            return Err(KeepError::Attachment);
        }
        let kept = self.kept.lock();
        *kept.list.get(&number).ok_or(KeepError::Unknown)?.attachment.lock() = Some(attachment);
        Ok(())
    }

    /// What is answered without waking the actor, and with what.
    pub fn set_auto(&self, auto: Option<(Bytes, Bytes)>) -> Result<(), KeepError> {
        let long = |text: &Bytes| String::from_utf8_lossy(text).chars().count() > AUTO_CHARS_MAX;
        if auto.as_ref().is_some_and(|(request, answer)| long(request) || long(answer)) {
            return Err(KeepError::Auto);
        }
        self.kept.lock().auto = auto.map(Arc::new);
        Ok(())
    }

    /// What [`Group::set_auto`] set.
    pub fn auto(&self) -> Option<Arc<(Bytes, Bytes)>> {
        self.kept.lock().auto.clone()
    }

    /// How long the actor may work on one event, where that was set.
    pub fn timeout(&self) -> Option<Duration> {
        self.kept.lock().timeout
    }

    /// Sets how long the actor may work on one event.
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        self.kept.lock().timeout = timeout;
    }

    /// Takes what the client sends to the actor, until either has gone.
    async fn read(&self, number: u32, mut rx: mpsc::Receiver<SocketMessage>, connection: &Connection) {
        let mut calls = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = connection.gone.notified() => {
                    let _ = connection.out.send(SocketMessage::Close(TRY_LATER, "the client does not read what is sent to it".to_owned()));
                    calls.push(self.call(number, broken(), connection));
                    break;
                }
                Some(()) = calls.next(), if !calls.is_empty() => {}
                message = rx.recv(), if calls.len() < CALLS_MAX => {
                    let message = message.unwrap_or_else(broken);
                    if let Some(answer) = self.answer(&message) {
                        connection.answered_at.store(crate::now_ms(), Relaxed);
                        connection.send(SocketMessage::Text(answer));
                        continue;
                    }
                    let last = matches!(message, SocketMessage::Close(..) | SocketMessage::Error(_));
                    calls.push(self.call(number, if last { ending(message) } else { message }, connection));
                    if last {
                        break;
                    }
                }
            }
        }
        while calls.next().await.is_some() {}
    }

    fn call(&self, number: u32, message: SocketMessage, connection: &Connection) -> BoxFuture<'static, ()> {
        let (sockets, timeout) = (self.sockets.upgrade(), self.kept.lock().timeout);
        let Some(sockets) = sockets.filter(|_| !connection.silenced.load(Relaxed)) else { return Box::pin(async {}) };
        let wall_ms = timeout.map(|most| u32::try_from(most.as_millis()).unwrap_or(u32::MAX));
        sockets.delivery.deliver(self.whom.clone(), number, message, wall_ms, connection.turns.next())
    }

    fn answer(&self, message: &SocketMessage) -> Option<Bytes> {
        let SocketMessage::Text(text) = message else { return None };
        let kept = self.kept.lock();
        kept.auto.as_ref().filter(|auto| auto.0 == *text).map(|auto| auto.1.clone())
    }

    fn drop_connection(&self, number: u32, connection: &Arc<Connection>) {
        {
            let mut kept = self.kept.lock();
            // The number may be another connection's by now.
            if kept.list.get(&number).is_some_and(|kept| Arc::ptr_eq(kept, connection)) {
                kept.list.remove(&number);
            }
        }
        if let Some(sockets) = self.sockets.upgrade() {
            sockets.tidy(self.whom.id);
        }
    }
}

fn check_tags(tags: &[String]) -> Result<(), KeepError> {
    if tags.len() > TAGS_MAX {
        return Err(KeepError::Tags);
    }
    if tags.iter().any(|tag| tag.chars().count() > TAG_CHARS_MAX) { Err(KeepError::Tag) } else { Ok(()) }
}

fn broken() -> SocketMessage {
    SocketMessage::Close(BROKEN, "WebSocket disconnected without sending Close frame.".to_owned())
}

/// How the end of a connection is told: a broken one is a close that was not clean.
fn ending(message: SocketMessage) -> SocketMessage {
    match message {
        SocketMessage::Error(_) => broken(),
        other => other,
    }
}

/// Takes messages to the client as it reads them; ends after a close.
async fn write(tx: mpsc::Sender<SocketMessage>, mut outgoing: mpsc::UnboundedReceiver<SocketMessage>, waiting: Arc<AtomicUsize>) {
    while let Some(message) = outgoing.recv().await {
        let (last, size) = (matches!(message, SocketMessage::Close(..)), size(&message));
        let taken = deliver(&tx, message).await;
        waiting.fetch_sub(size, Relaxed);
        if !taken || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
