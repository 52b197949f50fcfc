//! What the runtime does with an actor's pages and storage: open them as the next owner, and work on the past.
//!
//! Everything here may read and write this machine's disk; who calls it is on a thread where that holds up nobody. It decides the one thing that is
//! between the log and a guest: whether a heap may wake.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use skep_id::ActorId;

use super::{ActorError, Clock, Config, ForkOptions, OpenError, Place, folding::Due};
use crate::{
    Epoch, Heap, Record, RecordKind, Seq, Storage,
    database::{Access, Database, DatabaseLimits, PageError, PageFile, Rows, Value, Vfs},
    directory::Change,
    guest::Alarm,
    log::{DurableLog, Head},
    pages::{CommitMeta, Finding, Fork, Kept, Library, PAGE, Pages, PagesError, View, decode_commit},
    storage::{History, PageStore, Pending, Setup, StorageError, decode_checkpoint},
};

/// Times that a heap may be woken without anything written after it. A heap that takes its guest down each time is then given up; one that merely
/// was awake when the node went down gets its chance.
const HEAP_WAKES: usize = 2;

/// Rows that one answer about the past may have.
const QUERY_ROWS: usize = 100_000;

/// What a fence says besides the epoch: enough to find an actor again when the directory is lost.
#[derive(Debug, Serialize, Deserialize)]
struct Owned {
    namespace: String,
    name: Option<String>,
    parent: Option<ActorId>,
}

/// Where a database was brought back to at its start, or why not; `None`: nobody had asked.
pub(crate) type Restored = Option<Result<Seq, StorageError>>;

/// An actor's files, opened by its next owner.
pub(crate) struct Opened {
    pub(crate) storage: Storage,
    /// Memory that its newest pages take, in bytes.
    pub(crate) overlay: Arc<AtomicUsize>,
    pub(crate) epoch: Epoch,
    /// Its fence, on its way.
    pub(crate) fence: Pending,
    /// The heap to wake, or why there is none.
    pub(crate) heap: Result<Heap, String>,
    /// It was never met before.
    pub(crate) fresh: bool,
    /// The place of its last checkpoint; 0 if there is none.
    pub(crate) checkpoint: Seq,
    /// Its database was brought back to that place, as it had asked for; or why not.
    pub(crate) restored: Restored,
}

/// Told of every commit's wake-up, before its record is appended.
pub(crate) type OnWake = Box<dyn Fn(Option<u64>) + Send + Sync>;

/// An actor's pages, as its storage sees them; and what the runtime wants to know of them.
struct Watched {
    pages: Pages,
    on_wake: OnWake,
    overlay: Arc<AtomicUsize>,
    library: Arc<Library>,
    due: Arc<Due>,
}

impl PageFile for Watched {
    fn count(&self) -> u32 {
        self.pages.count()
    }

    fn read(&self, page: u32, into: &mut [u8; PAGE]) -> Result<(), PageError> {
        Ok(self.pages.read(page, into)?)
    }

    fn write(&mut self, page: u32, content: &[u8; PAGE]) -> Result<(), PageError> {
        self.pages.write(page, content);
        Ok(())
    }

    fn truncate(&mut self, count: u32) -> Result<(), PageError> {
        self.pages.truncate(count);
        Ok(())
    }

    fn changed(&self) -> bool {
        self.pages.changed()
    }

    fn discard(&mut self) {
        self.pages.discard();
    }
}

impl PageStore for Watched {
    fn commit(&mut self, at: Seq, wake_ms: Option<u64>) -> Bytes {
        let body = self.pages.commit(at, &CommitMeta { wake_ms });
        let overlay = self.overlay.load(Ordering::Relaxed);
        self.due.committed(self.pages.actor(), overlay, self.library.overlay_bytes(), self.pages.tail_bytes());
        (self.on_wake)(wake_ms);
        body
    }

    fn bring_to(&mut self, then: &(dyn PageFile + 'static)) -> Result<(), PageError> {
        let then: &dyn Any = then;
        let Some(Then(view)) = then.downcast_ref() else { return Err("that is not a state of these pages".into()) };
        self.pages.bring_to(view)?;
        Ok(())
    }
}

/// A database as it was.
struct Then(View);

impl PageFile for Then {
    fn count(&self) -> u32 {
        self.0.count()
    }

    fn read(&self, page: u32, into: &mut [u8; PAGE]) -> Result<(), PageError> {
        Ok(self.0.read(page, into)?)
    }

    fn write(&mut self, _page: u32, _content: &[u8; PAGE]) -> Result<(), PageError> {
        Err("the past cannot be written".into())
    }

    fn truncate(&mut self, _count: u32) -> Result<(), PageError> {
        Err("the past cannot be written".into())
    }

    fn changed(&self) -> bool {
        false
    }

    fn discard(&mut self) {}
}

/// The past of all actors, as a storage sees it.
struct Past(Arc<Library>);

impl History for Past {
    fn place_at(&self, actor: ActorId, time_ms: u64) -> Result<Seq, StorageError> {
        self.0.place_at(actor, time_ms).map_err(|error| StorageError::Past(error.to_string()))
    }

    fn view(&self, actor: ActorId, at: Seq) -> Result<Box<dyn PageFile>, StorageError> {
        let view = self.0.view(actor, at).map_err(|error| StorageError::Past(error.to_string()))?;
        Ok(Box::new(Then(view)))
    }
}

/// A change of an actor's past that is on its way.
pub(crate) struct Changed {
    pub(crate) ticket: Pending,
    pub(crate) wake_ms: Option<u64>,
    /// Whether its heap came along.
    pub(crate) heap: bool,
    /// Pages stay open until what was done with them is durable.
    _storage: Storage,
}

/// What a copy is made of.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) actor: ActorId,
    /// As of which record.
    pub(crate) at: Seq,
    /// Its database as of then, where it is at hand.
    pub(crate) view: Option<View>,
}

/// The files of all actors.
pub(crate) struct Files {
    library: Arc<Library>,
    log: Arc<dyn DurableLog>,
    clock: Arc<dyn Clock>,
    vfs: Arc<Vfs>,
    limits: DatabaseLimits,
    due: Arc<Due>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("library", &self.library).finish_non_exhaustive()
    }
}

impl Files {
    pub(crate) fn open(config: &Config, log: Arc<dyn DurableLog>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let library = Library::open(&config.dir, log.clone())?;
        library.keep_for(config.retention_ms);
        Ok(Self { library, log, clock, vfs: Vfs::register()?, limits: config.database.limits(), due: Arc::new(Due::new(config)) })
    }

    /// Whose records are to be brought to their files.
    pub(crate) fn due(&self) -> &Arc<Due> {
        &self.due
    }

    /// A living guest was written down, with a heap of so many bytes: its next start would read past it.
    pub(crate) fn written_down(&self, id: ActorId, heap: usize) {
        self.library.appended(id, heap);
        let (overlay, tail) = self.library.weight(id);
        self.due.committed(id, overlay, self.library.overlay_bytes(), tail);
    }

    /// An actor falls asleep: what it leaves is brought to its file when its next start would read much.
    pub(crate) fn slept(&self, id: ActorId) {
        self.due.slept(id, self.library.weight(id).1);
    }

    /// Memory that the newest pages of all awake actors take, in bytes.
    pub(crate) fn overlay_bytes(&self) -> usize {
        self.library.overlay_bytes()
    }

    /// The same of one, and what reading its records would cost, in bytes; as far as that is known without reading them.
    pub(crate) fn weight(&self, actor: ActorId) -> (usize, u64) {
        self.library.weight(actor)
    }

    fn storage(
        &self,
        actor: ActorId,
        epoch: Epoch,
        last: Seq,
        pages: Pages,
        on_wake: OnWake,
    ) -> Result<(Storage, Arc<AtomicUsize>, Restored), ActorError> {
        let clock = self.clock.clone();
        let setup = Setup {
            actor,
            epoch,
            last,
            log: self.log.clone(),
            history: Arc::new(Past(self.library.clone())),
            vfs: self.vfs.clone(),
            limits: self.limits.clone(),
            clock: Arc::new(move || clock.now_ms()),
        };
        let overlay = pages.overlay();
        let watched = Watched { pages, on_wake, overlay: overlay.clone(), library: self.library.clone(), due: self.due.clone() };
        let (storage, restored) = Storage::open(setup, watched)?;
        Ok((storage, overlay, restored))
    }

    /// Takes an actor over: a fence, its storage, and the heap if it may wake under `code`.
    pub(crate) fn take(&self, id: ActorId, place: &Place, code: &str, on_wake: OnWake) -> Result<Opened, ActorError> {
        let head = self.log.head(id);
        let (pages, fresh) = match self.library.pages(id)? {
            Some(pages) => (pages, false),
            None => (self.library.create(id)?, true),
        };
        let written = if fresh { Ok(None) } else { self.library.checkpoint(id, head.seq) };
        let checkpoint = written.as_ref().ok().and_then(Option::as_ref).map_or(Seq(0), |record| record.seq);
        let heap = match &written {
            Ok(None) => Err("it was never written down".to_owned()),
            Ok(Some(record)) => self.may_wake(record, head, code)?,
            // The past is damaged, and the database is whole.
            Err(error) => Err(format!("its last checkpoint cannot be read: {error}")),
        };
        let (epoch, fence) = self.fence(id, place, head);
        let (storage, overlay, restored) = self.storage(id, epoch, head.seq.next(), pages, on_wake)?;
        let heap = if restored.is_some() { Err("its database was brought back to an earlier place".to_owned()) } else { heap };
        Ok(Opened { storage, overlay, epoch, fence, heap, fresh, checkpoint, restored })
    }

    /// Appends the fence of the next epoch. Nobody waits for it: what is appended after it is durable only if it is.
    fn fence(&self, actor: ActorId, place: &Place, head: Head) -> (Epoch, Pending) {
        let owned = Owned { namespace: place.namespace.to_string(), name: place.name.as_deref().map(str::to_owned), parent: place.parent };
        let body = Bytes::from(serde_json::to_vec(&owned).unwrap_or_default());
        let epoch = Epoch(head.epoch.0 + 1);
        let record = Record { actor, epoch, seq: head.seq.next(), time_ms: self.clock.now_ms(), kind: RecordKind::Fence, body };
        (epoch, self.log.append(record).shared())
    }

    /// The heap of a checkpoint, if nothing was written after it and its code is in force; or why not.
    fn may_wake(&self, record: &Record, head: Head, code: &str) -> Result<Result<Heap, String>, ActorError> {
        // Most often it is the last record there is, and then there is nothing to read. If there are many more, one of them is a commit.
        let most = Seq(record.seq.0.saturating_add(HEAP_WAKES as u64 + 1));
        let after = if record.seq == head.seq {
            Some(Vec::new())
        } else {
            match self.library.kinds(record.actor, record.seq, head.seq.min(most)) {
                Ok(kinds) => kinds,
                Err(error) => return Ok(Err(format!("what it did since it was written down cannot be read: {error}"))),
            }
        };
        let Some(after) = after else { return Ok(Err("what it did since it was written down is no longer kept".to_owned())) };
        if after.iter().any(|kind| *kind != RecordKind::Fence) {
            return Ok(Err("it wrote after it was written down".to_owned()));
        }
        if after.len() >= HEAP_WAKES {
            return Ok(Err("its heap was woken before and did not last".to_owned()));
        }
        Ok(match decode_checkpoint(&record.body) {
            Some(heap) if heap.code == code => Ok(heap),
            Some(_) => Err("its code or image was replaced".to_owned()),
            None => Err("its heap is of a form that is not known".to_owned()),
        })
    }

    /// Brings a database back to what it was at `to`, as a change of a new epoch; the heap of that place with it if asked for.
    pub(crate) fn rewind(&self, id: ActorId, place: &Place, to: Seq, heap: bool) -> Result<Changed, ActorError> {
        let written = if heap { self.checkpoint_at(id, to)? } else { None };
        let view = self.library.view(id, to)?;
        let mut opened = self.take(id, place, "", Box::new(|_| ()))?;
        let committed = opened.storage.rewind(&Then(view))?;
        let restored = written.as_ref().map(|heap| opened.storage.append_checkpoint(heap)).transpose()?;
        let timer_ms = written.as_ref().and_then(|heap| heap.timer_ms);
        let wake_ms = [opened.storage.wake()?, timer_ms].into_iter().flatten().min();
        // A way back that changes nothing is done when the fence is there.
        let ticket = restored.or(committed).unwrap_or(opened.fence);
        Ok(Changed { ticket, wake_ms, heap: written.is_some(), _storage: opened.storage })
    }

    /// Makes `child` a copy of what `of` is.
    pub(crate) fn fork(&self, of: &Origin, child: ActorId, place: &Place, options: &ForkOptions) -> Result<Changed, ActorError> {
        let (parent, at) = (of.actor, of.at);
        let written = if options.heap { self.checkpoint_at(parent, at)? } else { None };
        if options.heap && written.is_none() {
            return Err(ActorError::Nowhere(format!("no checkpoint of {parent} lies at place {at}, so there is no heap to take along")));
        }
        let view = of.view.clone().map_or_else(|| self.library.view(parent, at), Ok)?;
        let head = self.log.head(child);
        let pages = self.library.fork(&view, child)?;
        let (epoch, _) = self.fence(child, place, head);
        let seq = Seq(head.seq.0 + 2);
        let body = Fork::of(&view, 0).encode();
        let began =
            self.log.append(Record { actor: child, epoch, seq, time_ms: self.clock.now_ms(), kind: RecordKind::Fork, body }).shared();
        let (mut storage, _, _) = self.storage(child, epoch, seq, pages, Box::new(|_| ()))?;
        if !options.alarms {
            for alarm in storage.due(u64::MAX)? {
                storage.delete_alarm(&alarm.name)?;
            }
        }
        let mut ticket = storage.end_turn()?;
        let mut wake_ms = storage.wake()?;
        if let Some(heap) = &written {
            let heap = if options.alarms { heap.clone() } else { Heap { timer_ms: None, ..heap.clone() } };
            wake_ms = [wake_ms, heap.timer_ms].into_iter().flatten().min();
            ticket = Some(storage.append_checkpoint(&heap)?);
        }
        Ok(Changed { ticket: ticket.unwrap_or(began), wake_ms, heap: written.is_some(), _storage: storage })
    }

    /// Whether the last record of an actor is a checkpoint: a heap to take along, without waking anybody.
    pub(crate) fn ends_written_down(&self, id: ActorId) -> Result<Option<Seq>, ActorError> {
        let head = self.log.head(id).seq;
        Ok(self.checkpoint_at(id, head)?.map(|_| head))
    }

    /// Whether an actor was written down at exactly that place, with a heap that can be taken along.
    pub(crate) fn is_written_down(&self, id: ActorId, at: Seq) -> Result<bool, ActorError> {
        Ok(self.checkpoint_at(id, at)?.is_some())
    }

    /// The database of an awake actor as of a record that is appended just now, while its storage is held.
    pub(crate) fn still(&self, id: ActorId, at: Seq) -> Result<Option<View>, PagesError> {
        self.library.still(id, at)
    }

    /// The heap that was written down at exactly that place.
    fn checkpoint_at(&self, id: ActorId, at: Seq) -> Result<Option<Heap>, ActorError> {
        let record = self.library.checkpoint(id, at)?.filter(|record| record.seq == at);
        Ok(record.and_then(|record| decode_checkpoint(&record.body)))
    }

    pub(crate) fn view(&self, id: ActorId, at: Seq) -> Result<View, ActorError> {
        Ok(self.library.view(id, at)?)
    }

    pub(crate) fn keep(&self, id: ActorId, kept: Kept) -> Result<(), ActorError> {
        Ok(self.library.keep(id, kept)?)
    }

    pub(crate) fn let_go(&self, id: ActorId, name: &str) -> Result<bool, ActorError> {
        Ok(self.library.let_go(id, name)?)
    }

    pub(crate) fn kept(&self, id: ActorId) -> Result<Vec<Kept>, ActorError> {
        Ok(self.library.kept(id)?)
    }

    pub(crate) fn place_at(&self, id: ActorId, time_ms: u64) -> Result<Seq, ActorError> {
        Ok(self.library.place_at(id, time_ms)?)
    }

    pub(crate) fn time_of(&self, id: ActorId, at: Seq) -> Result<u64, ActorError> {
        Ok(self.library.time_of(id, at)?)
    }

    fn database(&self, id: ActorId, at: Seq) -> Result<Database, ActorError> {
        let view = self.library.view(id, at)?;
        Ok(Database::open(&self.vfs, Then(view), Access::ReadOnly, &self.limits)?)
    }

    /// Answers a query as of a place: all rows, or an error when they are more than an answer may have.
    pub(crate) fn query(&self, id: ActorId, at: Seq, query: &str, bindings: &[Value]) -> Result<Rows, ActorError> {
        let mut database = self.database(id, at)?;
        let mut rows = database.sql(query, bindings)?;
        while rows.cursor != 0 {
            let piece = database.next(rows.cursor)?;
            rows.rows.extend(piece.rows);
            (rows.read, rows.written) = (piece.read, piece.written);
            if !piece.more {
                rows.cursor = 0;
            } else if rows.rows.len() > QUERY_ROWS {
                return Err(ActorError::Nowhere(format!("the answer has more than {QUERY_ROWS} rows: ask for fewer")));
            }
        }
        Ok(rows)
    }

    /// Alarms as of a place.
    pub(crate) fn alarms(&self, id: ActorId, at: Seq) -> Result<Vec<Alarm>, ActorError> {
        let mut database = self.database(id, at)?;
        if database.trusted("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_cf_ALARM'", &[])?.is_empty() {
            return Ok(Vec::new());
        }
        let rows = database.trusted("SELECT name, due, retries FROM _cf_ALARM ORDER BY due, name LIMIT 1000", &[])?;
        let alarm = |row: &Vec<Value>| match row.as_slice() {
            [Value::Text(name), Value::Integer(due), Value::Integer(retries)] => {
                Some(Alarm { name: name.clone(), due_ms: u64::try_from(*due).ok()?, retries: u32::try_from(*retries).ok()? })
            }
            _ => None,
        };
        Ok(rows.iter().filter_map(alarm).collect())
    }

    /// Appends the end of an actor.
    pub(crate) fn delete(&self, id: ActorId, place: &Place) -> Result<Pending, ActorError> {
        let head = self.log.head(id);
        let (epoch, _) = self.fence(id, place, head);
        let seq = Seq(head.seq.0 + 2);
        let record = Record { actor: id, epoch, seq, time_ms: self.clock.now_ms(), kind: RecordKind::Delete, body: Bytes::new() };
        Ok(self.log.append(record).shared())
    }

    /// Removes the files of an actor whose end is durable. Its head stays known: who comes by the same name goes on from there.
    pub(crate) fn remove(&self, id: ActorId) -> Result<(), ActorError> {
        self.library.delete(id)?;
        Ok(())
    }

    pub(crate) fn fold(&self, actors: &[ActorId]) -> Vec<(ActorId, Result<(), PagesError>)> {
        self.library.fold(actors)
    }

    /// Removes what is older than a time; how many bytes that gave back.
    pub(crate) fn expire(&self, before_ms: u64) -> Result<u64, PagesError> {
        self.library.expire(before_ms).map(|expired| expired.bytes)
    }

    /// Actors that have files; those that have only records in the log are not among them.
    pub(crate) fn actors(&self) -> Result<Vec<ActorId>, ActorError> {
        Ok(self.library.actors()?)
    }

    /// The row of an actor that the directory has lost, from its files; `None` when they do not say any more where it belongs, or it was deleted.
    pub(crate) fn recall(&self, id: ActorId) -> Result<Option<Change>, ActorError> {
        let head = self.log.head(id).seq;
        let fence = match self.library.fence(id) {
            Err(PagesError::Gone(_)) => return Ok(None),
            other => other?,
        };
        let Some(met) = fence.and_then(|fence| self.place_of(&fence)) else { return Ok(None) };
        let alarms = match self.alarms(id, head) {
            Err(ActorError::Pages(PagesError::Gone(_))) => return Ok(None),
            other => other?,
        };
        let checkpoint = self.library.checkpoint(id, head)?;
        // Early rather than late: who is woken for nothing goes back to sleep.
        let timer_ms = checkpoint.as_ref().and_then(|record| self.timer_of(record));
        let wake_ms = alarms.first().map(|alarm| alarm.due_ms).into_iter().chain(timer_ms).min();
        Ok(Some(Change {
            met: Some(met),
            checkpoint: Some(checkpoint.map(|record| record.seq)),
            wake_ms: Some(wake_ms),
            ..Change::default()
        }))
    }

    pub(crate) fn inspect(&self, id: ActorId, repair: bool) -> Vec<Finding> {
        self.library.inspect(id, repair)
    }

    /// The wake-up that a commit carries.
    pub(crate) fn wake_of(&self, record: &Record) -> Option<Option<u64>> {
        (record.kind == RecordKind::Commit).then(|| decode_commit(&record.body).ok().map(|(meta, _)| meta.wake_ms)).flatten()
    }

    /// The timer that a checkpoint's heap waits for.
    pub(crate) fn timer_of(&self, record: &Record) -> Option<u64> {
        (record.kind == RecordKind::Checkpoint).then(|| decode_checkpoint(&record.body)?.timer_ms).flatten()
    }

    /// Where a fence says that its actor belongs.
    pub(crate) fn place_of(&self, record: &Record) -> Option<(String, Option<String>, Option<ActorId>, u64)> {
        let owned = (record.kind == RecordKind::Fence).then(|| serde_json::from_slice::<Owned>(&record.body).ok()).flatten()?;
        Some((owned.namespace, owned.name, owned.parent, record.time_ms))
    }
}
