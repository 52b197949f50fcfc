//! What an actor's isolate has behind it: operations of the guest ABI, as wire values, to [`Storage`] and back.
//!
//! Everything that arrives was written by hostile code: kinds and lengths are checked here, meaning and limits in `Storage`. Within a turn
//! nothing waits; what takes time (`start`) goes to the node's actors once the output gate lets it out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use skep_actor::{
    ActorError, Storage,
    database::{SqlError, Value as SqlValue},
    facet_id,
    pages::{Kept, PagesError},
    storage::{AlarmEnd, Bookmark, Range, Step},
};
use skep_id::ActorId;
use skep_isolate::{
    ActorClass, ActorSnapshot, BoxFuture, Durable, Exception, Socket, SocketMessage, Target, Worker,
    wire::{Text, Wire, WireOut},
};

use super::{
    Inner,
    facet::{Parent, Which},
    sockets::{ATTACHMENT_BYTES_MAX, Group, KeepError, TIMEOUT_MS_MAX},
};

/// Most keys of one operation; the guest splits what is longer.
const KEYS_MAX: usize = 1 << 14;

/// Longest name of an alarm, a step, a facet or an actor, in bytes.
const NAME_BYTES_MAX: usize = 2_048;

/// An error that the guest throws: name and message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Thrown(&'static str, String);

type Answer = Result<WireOut, Thrown>;

fn type_error(message: impl Into<String>) -> Thrown {
    Thrown("TypeError", message.into())
}

fn range_error(message: impl Into<String>) -> Thrown {
    Thrown("RangeError", message.into())
}

/// What state says in words of its own: an `Error`, as the hosted service has it.
fn error(error: impl std::fmt::Display) -> Thrown {
    Thrown("Error", error.to_string())
}

/// An answer that does not fit is a `RangeError`, all else what SQL says.
fn sql_error(error: SqlError) -> Thrown {
    match error {
        SqlError::TooLarge(_) => range_error("The answer is larger than the memory that is left."),
        other => Thrown("Error", other.to_string()),
    }
}

impl Thrown {
    fn into_pair(self) -> (String, String) {
        (self.0.to_owned(), self.1)
    }
}

impl From<Thrown> for WireOut {
    fn from(Thrown(name, message): Thrown) -> Self {
        Wire::Error { name: name.into(), message: message.into() }
    }
}

impl From<KeepError> for Thrown {
    fn from(error: KeepError) -> Self {
        match error {
            KeepError::Full | KeepError::Unknown | KeepError::Taken => Self("Error", error.to_string()),
            KeepError::Tags | KeepError::Tag | KeepError::Attachment | KeepError::Auto => Self("RangeError", error.to_string()),
        }
    }
}

/// The state behind one actor's isolate.
pub(super) struct Behind {
    pub actor: ActorId,
    pub namespace: Arc<str>,
    pub storage: Arc<Mutex<Storage>>,
    pub sockets: Arc<Group>,
    pub inner: Arc<Inner>,
    /// What its code has as its id.
    pub shown_id: Arc<str>,
    /// Its worker, where a loader brought that.
    pub loaded: Option<Arc<Worker>>,
    /// Set when its code says that the running alarm is not to be tried again.
    pub alarm_done: Arc<AtomicBool>,
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.inner.facets.forget_of(self.actor);
        self.inner.living.lock().remove(&self.actor);
    }
}

impl std::fmt::Debug for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Behind({})", self.actor)
    }
}

impl Durable for Behind {
    fn call(&mut self, op: &str, args: &[Wire<'_>], room: usize) -> WireOut {
        let answer = self.answer(op, &Args(args), room).unwrap_or_else(WireOut::from);
        if answer.footprint() > room {
            return range_error("The answer is larger than the memory that is left.").into();
        }
        answer
    }

    fn alarm_done(&mut self, name: &str) {
        // If it cannot be written, neither can the turn; and who rang it sees that it is still there.
        let _ = self.storage.lock().alarm_end(name, AlarmEnd::Done);
    }

    fn end_turn(&mut self) -> Option<BoxFuture<Result<(), String>>> {
        match self.storage.lock().end_turn() {
            Ok(None) => None,
            Ok(Some(ticket)) => Some(Box::pin(async move { ticket.await.map(drop).map_err(|error| error.to_string()) })),
            Err(error) => {
                let why = error.to_string();
                Some(Box::pin(async move { Err(why) }))
            }
        }
    }

    fn cut_off(&mut self) {
        self.storage.lock().cut_off();
    }

    fn start(&mut self, op: &str, args: Vec<WireOut>) -> BoxFuture<Result<WireOut, (String, String)>> {
        let started = self.started(op, &Args(&args));
        Box::pin(async move {
            let answer = match started {
                Ok(running) => running.await,
                Err(thrown) => Err(thrown),
            };
            answer.map_err(Thrown::into_pair)
        })
    }

    fn carry_out(&mut self, op: &str, args: Vec<WireOut>) {
        // Nobody waits for it: what is malformed does nothing, as the guest's own side checks first.
        let _ = self.effect(op, &Args(&args));
    }

    fn keep_socket(&mut self, number: u32, socket: Socket, args: &[WireOut]) {
        let back = socket.tx.clone();
        let kept = Args(args).tags(0).and_then(|tags| Ok(self.sockets.keep(number, socket, tags, None)?));
        if let Err(Thrown(_, why)) = kept {
            // The client hears why: there is nobody else to tell.
            let _ = back.try_send(SocketMessage::Close(1011, why));
        }
    }

    fn last_socket(&self) -> u32 {
        self.sockets.last()
    }

    fn facet(&mut self, name: &str, class: Option<ActorClass>, id: Option<&str>) -> Result<Option<Arc<dyn Target>>, (String, String)> {
        if name.len() > NAME_BYTES_MAX {
            return Err(("RangeError".to_owned(), format!("The name of a facet has at most {NAME_BYTES_MAX} bytes.")));
        }
        let parent = Parent { id: self.actor, namespace: &self.namespace, shown_id: &self.shown_id, loaded: self.loaded.as_ref() };
        Ok(self.inner.facets.open(&Arc::downgrade(&self.inner), &parent, name, class, id))
    }

    fn snapshot(&mut self, bookmark: Option<&str>) -> Result<ActorSnapshot, (String, String)> {
        let storage = self.storage.lock();
        let place = match bookmark {
            Some(bookmark) => bookmark.parse().and_then(|bookmark| storage.own_bookmark(bookmark)),
            None => Ok(storage.bookmark_here()),
        };
        let bookmark = place.map_err(|why| Thrown::into_pair(error(why)))?.to_string();
        Ok(ActorSnapshot { actor: self.actor.to_string(), bookmark })
    }

    fn adopt(&mut self, snapshot: &ActorSnapshot) -> Result<String, (String, String)> {
        let adopted = || {
            let place: Bookmark = snapshot.bookmark.parse().map_err(error)?;
            let from: ActorId = snapshot.actor.parse().map_err(error)?;
            let storage = &mut *self.storage.lock();
            storage.adopt_at_start(from, place.seq).map_err(error)
        };
        adopted().map(|undo| undo.to_string()).map_err(Thrown::into_pair)
    }
}

impl Behind {
    fn answer(&self, op: &str, args: &Args<'_, '_>, room: usize) -> Answer {
        let storage = &mut *self.storage.lock();
        match op {
            "actor.sql" => sql(storage, &args.text(0)?, &args.bindings(1)?),
            "actor.sql.next" => {
                let more = storage.sql_next(args.number(0)?).map_err(error)?;
                Ok(vec![rows(more.rows), more.more.into(), count(more.read), count(more.written)].into())
            }
            "actor.sql.drop" => {
                storage.sql_drop(args.number(0)?);
                Ok(Wire::Undefined)
            }
            "actor.sql.size" => Ok(count(storage.database_bytes().map_err(error)?)),
            "actor.kv.get" | "actor.kv.put" | "actor.kv.delete" | "actor.kv.list" | "actor.kv.clear" => kv(storage, op, args, room),
            "actor.tx" => transaction(storage, &args.text(0)?),
            "actor.alarm.set" | "actor.alarm.get" | "actor.alarm.delete" | "actor.alarm.list" => alarm(storage, op, args),
            "actor.bookmark" => Ok(storage.bookmark().to_string().into()),
            "actor.bookmark.at" => Ok(storage.bookmark_at(args.time(0)?).map_err(error)?.to_string().into()),
            "actor.restore" => {
                let to: Bookmark = args.text(0)?.parse().map_err(error)?;
                Ok(storage.restore_at_start(to).map_err(error)?.to_string().into())
            }
            "actor.step.begin" | "actor.step.end" | "actor.step.forget" => step(storage, op, args),
            "actor.gate" => {
                storage.hold_transaction(args.flag(0)?);
                Ok(Wire::Undefined)
            }
            "actor.facet.abort" | "actor.facet.delete" => {
                let deleted = || Exception { name: "Error".to_owned(), message: "Facet was deleted.".to_owned(), stack: String::new() };
                let why = if op == "actor.facet.abort" { args.exception(1) } else { deleted() };
                self.inner.facets.part(self.actor, args.facets(self.actor)?, &why);
                Ok(Wire::Undefined)
            }
            _ => self.socket_answer(op, args),
        }
    }

    fn socket_answer(&self, op: &str, args: &Args<'_, '_>) -> Answer {
        let sockets = &self.sockets;
        match op {
            "actor.ws.list" => {
                let tag = args.maybe_text(0)?;
                let has = |socket: &super::sockets::Shown| tag.as_ref().is_none_or(|tag| socket.tags.contains(tag));
                Ok(Wire::Array(sockets.list().into_iter().filter(has).map(shown).collect()))
            }
            "actor.ws.attach" => {
                let bytes = args.bytes(1)?;
                match sockets.attach(args.number(0)?, Bytes::copy_from_slice(bytes)) {
                    // It may have closed a moment ago, which its actor hears next.
                    Ok(()) | Err(KeepError::Unknown) if bytes.len() <= ATTACHMENT_BYTES_MAX => Ok(Wire::Undefined),
                    Ok(()) | Err(KeepError::Unknown) => Err(KeepError::Attachment.into()),
                    Err(error) => Err(error.into()),
                }
            }
            "actor.ws.auto" => {
                let auto = match (args.maybe_text(0)?, args.maybe_text(1)?) {
                    (Some(request), Some(answer)) => Some((Bytes::from(request), Bytes::from(answer))),
                    _ => None,
                };
                sockets.set_auto(auto)?;
                Ok(Wire::Undefined)
            }
            "actor.ws.auto.get" => Ok(sockets.auto().map_or(Wire::Null, |auto| {
                let text = |bytes: &Bytes| Wire::Str(Text::from_raw(bytes.to_vec()));
                Wire::Array(vec![text(&auto.0), text(&auto.1)])
            })),
            "actor.ws.timeout" => {
                let timeout = args.maybe_time(0)?;
                if timeout.is_some_and(|ms| ms > TIMEOUT_MS_MAX) {
                    return Err(range_error(format!("An event of a WebSocket may take at most {TIMEOUT_MS_MAX} ms.")));
                }
                sockets.set_timeout(timeout.map(Duration::from_millis));
                Ok(Wire::Undefined)
            }
            _ => Err(type_error(format!("There is no operation {op:.80}."))),
        }
    }

    fn effect(&mut self, op: &str, args: &Args<'_, '_>) -> Result<(), Thrown> {
        match op {
            "actor.ws.send" => self.sockets.send(args.number(0)?, args.message(1)?),
            "actor.ws.close" => self.sockets.send(args.number(0)?, args.close(1)?),
            "actor.facet.abort" => self.inner.abort_facets(self.actor, args.facets(self.actor)?, &args.exception(1).message),
            "actor.facet.delete" => self.inner.delete_facets(self.actor, args.facets(self.actor)?),
            "actor.abort" => self.alarm_done.store(!args.flag(1).unwrap_or(true), Relaxed),
            "actor.gate" => self.storage.lock().hold_transaction(args.flag(0)?),
            _ => {}
        }
        Ok(())
    }

    fn started(&self, op: &str, args: &Args<'_, '_>) -> Result<BoxFuture<Answer>, Thrown> {
        let (inner, actor) = (Arc::clone(&self.inner), self.actor);
        Ok(match op {
            "actor.sync" => {
                let ticket = self.storage.lock().sync();
                Box::pin(async move {
                    match ticket {
                        Some(ticket) => Ok(receipt(ticket.await.map_err(error)?)),
                        None => Ok(Wire::Null),
                    }
                })
            }
            "actor.checkpoint" => Box::pin(async move { Ok(receipt(inner.checkpoint(actor).await.map_err(error)?)) }),
            "actor.keep" => {
                let (name, place) = (args.text(0)?, args.text(1)?.parse::<Bookmark>().map_err(error)?);
                // A turn that wrote what was there already has no place of its own.
                let at = place.seq.min(self.storage.lock().last());
                Box::pin(async move {
                    let kept = Kept { name, at, time_ms: place.time_ms };
                    inner.kept().map_err(error)?.keep(actor, kept).await.map(|()| Wire::Undefined).map_err(not_kept)
                })
            }
            "actor.kept" => Box::pin(async move {
                let kept = inner.kept().map_err(error)?.kept(actor).await.map_err(error)?;
                let bookmark = |kept: &Kept| Bookmark::of(actor, kept.at, kept.time_ms).to_string();
                Ok(Wire::Array(kept.iter().flat_map(|kept| [kept.name.clone().into(), bookmark(kept).into()]).collect()))
            }),
            "actor.let_go" => {
                let name = args.text(0)?;
                Box::pin(async move { inner.kept().map_err(error)?.let_go(actor, &name).await.map(Wire::from).map_err(error) })
            }
            "actor.fork" => {
                let asked: ForkAsked = serde_json::from_str(&args.text(0)?).map_err(|_| type_error("These are no options of a fork."))?;
                let namespace = Arc::clone(&self.namespace);
                Box::pin(async move { Ok(inner.fork_self(actor, &namespace, asked).await.map_err(error)?.to_string().into()) })
            }
            "actor.facet.clone" => {
                let (from, to) = (args.name(0)?, args.name(1)?);
                let cloned = inner.clone_facet(actor, &from, &to);
                Box::pin(async move { cloned.await.map(|()| Wire::Undefined).map_err(error) })
            }
            _ => return Err(type_error(format!("There is no operation {op:.80}."))),
        })
    }
}

/// A name or a number of snapshots that may not be is a `RangeError`.
fn not_kept(why: ActorError) -> Thrown {
    match why {
        ActorError::Pages(PagesError::NotKept(why)) => range_error(why),
        other => error(other),
    }
}

/// What `ctx.fork()` takes.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ForkAsked {
    pub name: Option<String>,
    pub alarms: bool,
    /// Whether the heap goes along.
    pub heap: Option<bool>,
}

fn sql(storage: &mut Storage, query: &str, bindings: &[SqlValue]) -> Answer {
    let done = storage.sql(query, bindings).map_err(error)?;
    let columns = Wire::Array(done.columns.iter().cloned().map(Wire::from).collect());
    Ok(Wire::Array(vec![done.cursor.into(), columns, rows(done.rows), count(done.read), count(done.written)]))
}

fn rows(rows: Vec<Vec<SqlValue>>) -> WireOut {
    let row = |row: Vec<SqlValue>| Wire::Array(row.into_iter().map(value).collect());
    Wire::Array(rows.into_iter().map(row).collect())
}

/// Integers become numbers, as on the hosted service: beyond 2^53 the nearest one.
fn value(value: SqlValue) -> WireOut {
    match value {
        SqlValue::Null => Wire::Null,
        SqlValue::Integer(n) => i32::try_from(n).map_or(Wire::Number(n as f64), Wire::Int),
        SqlValue::Real(x) => Wire::Number(x),
        SqlValue::Text(text) => text.into(),
        SqlValue::Blob(bytes) => Vec::from(bytes).into(),
    }
}

fn count(n: u64) -> WireOut {
    i32::try_from(n).map_or(Wire::Number(n as f64), Wire::Int)
}

fn kv(storage: &mut Storage, op: &str, args: &Args<'_, '_>, room: usize) -> Answer {
    match op {
        "actor.kv.get" => {
            let keys = args.texts(0)?;
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let values = storage.kv_get(&keys, room).map_err(sql_error)?;
            Ok(Wire::Array(values.into_iter().map(|value| value.map(Vec::from).into()).collect()))
        }
        "actor.kv.put" => {
            let pairs = args.list(0)?.chunks(2).map(|pair| match pair {
                [key, Wire::Bytes(bytes)] => Ok((text(key)?, Bytes::copy_from_slice(bytes))),
                _ => Err(type_error("A key comes with bytes.")),
            });
            storage.kv_put(pairs.collect::<Result<_, _>>()?).map_err(sql_error)?;
            Ok(Wire::Undefined)
        }
        "actor.kv.delete" => {
            let keys = args.texts(0)?;
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            Ok(count(storage.kv_delete(&keys).map_err(sql_error)?))
        }
        "actor.kv.list" => {
            let range = Range {
                start: args.maybe_text(0)?,
                start_after: args.maybe_text(1)?,
                end: args.maybe_text(2)?,
                prefix: args.maybe_text(3)?,
                reverse: args.flag(4)?,
                limit: args.maybe_time(5)?.map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
            };
            let pairs = storage.kv_list(&range, room).map_err(sql_error)?;
            Ok(Wire::Array(pairs.into_iter().flat_map(|(key, bytes)| [key.into(), Vec::from(bytes).into()]).collect()))
        }
        _ => {
            storage.clear(args.flag(0).unwrap_or(false)).map_err(error)?;
            Ok(Wire::Undefined)
        }
    }
}

fn transaction(storage: &mut Storage, what: &str) -> Answer {
    match what {
        "begin" => storage.begin(),
        "commit" => storage.commit(),
        "rollback" => storage.rollback(),
        _ => return Err(type_error("A transaction begins, commits or rolls back.")),
    }
    .map_err(error)?;
    Ok(Wire::Undefined)
}

fn alarm(storage: &mut Storage, op: &str, args: &Args<'_, '_>) -> Answer {
    match op {
        "actor.alarm.set" => {
            storage.set_alarm(&args.name(0)?, args.time(1)?).map_err(error)?;
            Ok(Wire::Undefined)
        }
        "actor.alarm.get" => Ok(storage.alarm(&args.name(0)?).map_err(error)?.map(|ms| ms as f64).into()),
        "actor.alarm.delete" => {
            storage.delete_alarm(&args.name(0)?).map_err(error)?;
            Ok(Wire::Undefined)
        }
        _ => {
            let named = storage.alarms().map_err(error)?;
            Ok(Wire::Array(named.into_iter().flat_map(|(name, ms)| [name.into(), Wire::Number(ms as f64)]).collect()))
        }
    }
}

fn step(storage: &mut Storage, op: &str, args: &Args<'_, '_>) -> Answer {
    let name = args.name(0)?;
    let word = |word: &str, more: Option<WireOut>| Wire::Array([Wire::from(word.to_owned())].into_iter().chain(more).collect());
    match op {
        "actor.step.begin" => Ok(match storage.step_begin(&name).map_err(error)? {
            Step::New => word("new", None),
            Step::Done(bytes) => word("done", Some(Vec::from(bytes).into())),
            Step::Failed(bytes) => word("failed", Some(Vec::from(bytes).into())),
            Step::Unfinished(started_ms) => word("unfinished", Some(Wire::Number(started_ms as f64))),
        }),
        "actor.step.end" => {
            storage.step_end(&name, args.flag(1)?, Bytes::copy_from_slice(args.bytes(2)?)).map_err(error)?;
            Ok(Wire::Undefined)
        }
        _ => {
            storage.step_forget(&name).map_err(error)?;
            Ok(Wire::Undefined)
        }
    }
}

fn receipt(receipt: skep_actor::Receipt) -> WireOut {
    Wire::Array(vec![count(receipt.epoch.0), count(receipt.seq.0), receipt.tier.to_string().into()])
}

fn shown(socket: super::sockets::Shown) -> WireOut {
    let tags = socket.tags.iter().map(|tag| Wire::from(tag.clone())).collect();
    let attachment = socket.attachment.map(Vec::from).into();
    Wire::Array(vec![socket.number.into(), Wire::Array(tags), attachment, socket.answered_at.map(|at| at as f64).into()])
}

fn text(value: &Wire<'_>) -> Result<String, Thrown> {
    match value {
        Wire::Str(text) => Ok(text.to_str().into_owned()),
        _ => Err(type_error("A text is expected here.")),
    }
}

/// Arguments of an operation, by their place.
struct Args<'a, 'w>(&'a [Wire<'w>]);

impl<'a, 'w> Args<'a, 'w> {
    fn at(&self, at: usize) -> &'a Wire<'w> {
        self.0.get(at).unwrap_or(&Wire::Undefined)
    }

    fn text(&self, at: usize) -> Result<String, Thrown> {
        text(self.at(at))
    }

    fn maybe_text(&self, at: usize) -> Result<Option<String>, Thrown> {
        match self.at(at) {
            Wire::Null | Wire::Undefined => Ok(None),
            some => text(some).map(Some),
        }
    }

    /// A text short enough to be a name.
    fn name(&self, at: usize) -> Result<String, Thrown> {
        let name = self.text(at)?;
        if name.len() > NAME_BYTES_MAX { Err(range_error(format!("A name has at most {NAME_BYTES_MAX} bytes."))) } else { Ok(name) }
    }

    fn list(&self, at: usize) -> Result<&'a [Wire<'w>], Thrown> {
        match self.at(at) {
            Wire::Array(list) if list.len() <= 2 * KEYS_MAX => Ok(list),
            Wire::Array(_) => Err(range_error(format!("At most {KEYS_MAX} keys at once."))),
            _ => Err(type_error("A list is expected here.")),
        }
    }

    fn texts(&self, at: usize) -> Result<Vec<String>, Thrown> {
        self.list(at)?.iter().map(text).collect()
    }

    fn bytes(&self, at: usize) -> Result<&'a [u8], Thrown> {
        match self.at(at) {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => Err(type_error("Bytes are expected here.")),
        }
    }

    fn flag(&self, at: usize) -> Result<bool, Thrown> {
        match self.at(at) {
            Wire::Bool(flag) => Ok(*flag),
            _ => Err(type_error("A yes or no is expected here.")),
        }
    }

    fn number(&self, at: usize) -> Result<u32, Thrown> {
        self.at(at).as_u32().ok_or_else(|| type_error("A number is expected here."))
    }

    /// Milliseconds, or another whole number that is not negative; fractions are cut off.
    fn time(&self, at: usize) -> Result<u64, Thrown> {
        let number = match self.at(at) {
            Wire::Int(n) => f64::from(*n),
            Wire::Number(n) => *n,
            _ => return Err(type_error("A number is expected here.")),
        };
        if (0.0..9e15).contains(&number) { Ok(number as u64) } else { Err(range_error("This number is out of range.")) }
    }

    fn maybe_time(&self, at: usize) -> Result<Option<u64>, Thrown> {
        match self.at(at) {
            Wire::Null | Wire::Undefined => Ok(None),
            _ => self.time(at).map(Some),
        }
    }

    /// Values bound to a statement. Numbers are bound as reals, as on the hosted service; a column's type makes integers of them.
    fn bindings(&self, at: usize) -> Result<Vec<SqlValue>, Thrown> {
        let bound = |value: &Wire<'_>| match value {
            Wire::Null | Wire::Undefined => Ok(SqlValue::Null),
            Wire::Int(n) => Ok(SqlValue::Real(f64::from(*n))),
            Wire::Number(n) => Ok(SqlValue::Real(*n)),
            Wire::Str(text) => Ok(SqlValue::Text(text.to_str().into_owned())),
            Wire::Bytes(bytes) => Ok(SqlValue::Blob(Bytes::copy_from_slice(bytes))),
            _ => Err(type_error("A statement takes null, numbers, texts and bytes.")),
        };
        self.list(at)?.iter().map(bound).collect()
    }

    fn tags(&self, at: usize) -> Result<Vec<String>, Thrown> {
        match self.at(at) {
            Wire::Null | Wire::Undefined => Ok(Vec::new()),
            _ => self.texts(at),
        }
    }

    fn message(&self, at: usize) -> Result<SocketMessage, Thrown> {
        match self.at(at) {
            Wire::Str(text) => Ok(SocketMessage::Text(Bytes::from(text.to_str().into_owned()))),
            Wire::Bytes(bytes) => Ok(SocketMessage::Binary(Bytes::copy_from_slice(bytes))),
            _ => Err(type_error("A message is a text or bytes.")),
        }
    }

    fn close(&self, at: usize) -> Result<SocketMessage, Thrown> {
        let code = match self.at(at) {
            Wire::Null | Wire::Undefined => 1005,
            code => code.as_u32().and_then(|code| u16::try_from(code).ok()).ok_or_else(|| type_error("This is no close code."))?,
        };
        // A close frame holds 125 bytes, two of which are the code.
        let reason = self.maybe_text(at + 1)?.unwrap_or_default();
        Ok(SocketMessage::Close(code, reason[..reason.floor_char_boundary(123)].to_owned()))
    }

    /// The facet that a name means; without a name, all of them.
    fn facets(&self, parent: ActorId) -> Result<Which, Thrown> {
        match self.at(0) {
            Wire::Null | Wire::Undefined => Ok(Which::AllOf(parent)),
            _ => Ok(Which::One(facet_id(parent, &self.name(0)?))),
        }
    }

    /// Why something is ended: a text, or name, message and stack.
    fn exception(&self, at: usize) -> Exception {
        let parts = match self.at(at) {
            Wire::Array(parts) => parts.as_slice(),
            Wire::Str(message) => {
                return Exception { name: "Error".to_owned(), message: message.to_str().into_owned(), stack: String::new() };
            }
            _ => &[],
        };
        let part = |n: usize| parts.get(n).and_then(|part| text(part).ok());
        let name = part(0).filter(|name| !name.is_empty()).unwrap_or_else(|| "Error".to_owned());
        Exception { name, message: part(1).unwrap_or_default(), stack: String::new() }
    }
}

#[cfg(test)]
mod tests;
