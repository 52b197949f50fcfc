//! What a guest may do within a turn to the state that lasts: SQL, keys and values, alarms, steps, bookmarks.
//!
//! Driven by a guest's host calls (adapted in `node`) and, between its turns, by `actor`. All that a turn writes is one transaction of the
//! actor's [`Database`]: it opens with the first write, is committed when the turn ends, and becomes one record of the log. Hidden tables
//! (`_cf_KV`, `_cf_ALARM`, `_cf_STEP`, `_cf_META`) are made when they are first written to, so they are committed, undone, forked and rewound
//! with everything else.
//!
//! It is not: the output gate. It hands out what tells that a record is durable; who lets effects out waits for it.

mod alarms;
mod bookmark;
mod checkpoint;
mod keys;
mod steps;

use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt, future::Shared};
use skep_id::ActorId;

use crate::{
    database::{Access, Backing, Database, DatabaseLimits, PageError, PageFile, Piece, Rows, SqlError, Value, Vfs},
    guest::Heap,
    log::{DurableLog, Ticket},
    pages::PAGE,
    record::{Epoch, Record, RecordKind, Seq},
};

pub use self::{alarms::AlarmEnd, bookmark::Bookmark, checkpoint::decode_checkpoint, keys::Range, steps::Step};

/// Savepoints that may be open at once.
const DEPTH: u32 = 64;

/// A record on its way, for any number of waiters: ready when it is durable, or will never be.
pub type Pending = Shared<Ticket>;

/// Pages whose commits become records.
pub trait PageStore: PageFile {
    /// Closes the open transaction: the body of its record, which will be at place `at`. `wake_ms` is when the actor next wants to be woken.
    fn commit(&mut self, at: Seq, wake_ms: Option<u64>) -> Bytes;

    /// Writes into the open transaction, in which nothing is yet, the pages in which `then` differs. Who knows without reading where two states
    /// may differ has a better way than this one, which reads all pages of both.
    ///
    /// # Errors
    /// When a page cannot be read; some may have been written then.
    fn bring_to(&mut self, then: &(dyn PageFile + 'static)) -> Result<(), PageError> {
        let (mut old, mut new) = ([0; PAGE], [0; PAGE]);
        let count = self.count();
        for page in 1..=then.count() {
            then.read(page, &mut new)?;
            if page <= count {
                self.read(page, &mut old)?;
            }
            if page > count || old != new {
                self.write(page, &new)?;
            }
        }
        if count > then.count() {
            self.truncate(then.count())?;
        }
        Ok(())
    }
}

/// The past of actors.
pub trait History: Send + Sync + 'static {
    /// The last durable place not after a time, in ms since the epoch of Unix.
    ///
    /// # Errors
    /// When that is no longer, or never was, known.
    fn place_at(&self, actor: ActorId, time_ms: u64) -> Result<Seq, StorageError>;

    /// The pages as of a durable place, read-only.
    ///
    /// # Errors
    /// When they are not kept any more, or not yet durable.
    fn view(&self, actor: ActorId, at: Seq) -> Result<Box<dyn PageFile>, StorageError>;
}

impl PageFile for Box<dyn PageFile> {
    fn count(&self) -> u32 {
        (**self).count()
    }

    fn read(&self, page: u32, into: &mut [u8; PAGE]) -> Result<(), PageError> {
        (**self).read(page, into)
    }

    fn write(&mut self, page: u32, content: &[u8; PAGE]) -> Result<(), PageError> {
        (**self).write(page, content)
    }

    fn truncate(&mut self, count: u32) -> Result<(), PageError> {
        (**self).truncate(count)
    }

    fn changed(&self) -> bool {
        (**self).changed()
    }

    fn discard(&mut self) {
        (**self).discard();
    }
}

/// Why state cannot be kept, or had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// SQL failed, a limit was met, or the database is damaged.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The past that was asked for cannot be had.
    #[error("{0}")]
    Past(String),
    /// What was asked makes no sense now: a bookmark of another actor, a savepoint too many.
    #[error("{0}")]
    Refused(String),
}

/// What one [`Storage`] is made of.
pub struct Setup {
    /// Whose.
    pub actor: ActorId,
    /// The term of ownership; its fence has been appended.
    pub epoch: Epoch,
    /// The last place that was taken.
    pub last: Seq,
    /// Where records go.
    pub log: Arc<dyn DurableLog>,
    /// Where the past comes from.
    pub history: Arc<dyn History>,
    /// Where SQLite finds the pages.
    pub vfs: Arc<Vfs>,
    /// Bounds on SQL.
    pub limits: DatabaseLimits,
    /// The time, in ms since the epoch of Unix.
    pub clock: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// Everything of one actor that a turn reads and changes.
pub struct Storage {
    database: Database,
    pages: Arc<Backing<dyn PageStore>>,
    setup: Setup,
    /// The last place taken.
    last: Seq,
    /// When its record was made.
    last_ms: u64,
    /// The last record appended here.
    pending: Option<Pending>,
    /// Hidden tables that are known to exist.
    made: Made,
    /// What is known of the alarms in the database.
    alarms: alarms::Known,
    /// When those that failed are tried again, by name, if it is known.
    again: Option<HashMap<String, u64>>,
    /// Alarms whose handlers run now, and when they were due.
    running: HashMap<String, u64>,
    depth: u32,
    held: bool,
    /// The database was emptied in this turn, behind SQLite's back.
    wiped: bool,
}

/// Which hidden tables exist.
#[derive(Clone, Copy, Default)]
struct Made {
    known: bool,
    keys: bool,
    alarms: bool,
    steps: bool,
    meta: bool,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("actor", &self.setup.actor).field("last", &self.last).finish_non_exhaustive()
    }
}

impl Storage {
    /// Opens the state of an actor. If it was to be brought back to an earlier place when it next starts, that has happened, and its record is
    /// appended, when this returns; `Err` in the second half says why it could not be.
    ///
    /// # Errors
    /// When the database cannot be opened or read.
    pub fn open<P: PageStore>(setup: Setup, pages: P) -> Result<(Self, Option<Result<Seq, StorageError>>), StorageError> {
        let pages = Database::share(pages);
        let database = Database::on(&setup.vfs, Arc::clone(&pages) as _, Access::ReadWrite, &setup.limits)?;
        let last = setup.last;
        let mut storage = Self {
            database,
            pages,
            last,
            last_ms: (setup.clock)(),
            setup,
            pending: None,
            made: Made::default(),
            alarms: alarms::Known::Nothing,
            again: None,
            running: HashMap::new(),
            depth: 0,
            held: false,
            wiped: false,
        };
        let restored = storage.restore()?;
        Ok((storage, restored))
    }

    /// Whose state it is.
    #[must_use]
    pub fn actor(&self) -> ActorId {
        self.setup.actor
    }

    /// The last place taken.
    #[must_use]
    pub fn last(&self) -> Seq {
        self.last
    }

    /// Whether a turn has written something that is not yet committed.
    #[must_use]
    pub fn in_turn(&self) -> bool {
        self.database.in_transaction() || self.database.put_by() || self.wiped
    }

    /// Runs SQL of the guest: all statements, the bindings being the last one's. Rows come in pieces.
    ///
    /// # Errors
    /// When it may not, does not compile, fails, or takes too much.
    pub fn sql(&mut self, query: &str, bindings: &[Value]) -> Result<Rows, SqlError> {
        self.database.sql(query, bindings)
    }

    /// The next rows of a cursor.
    ///
    /// # Errors
    /// When it is closed, or the statement fails.
    pub fn sql_next(&mut self, cursor: u32) -> Result<Piece, SqlError> {
        self.database.next(cursor)
    }

    /// Closes a cursor.
    pub fn sql_drop(&mut self, cursor: u32) {
        self.database.close(cursor);
    }

    /// Bytes of the database in use.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn database_bytes(&mut self) -> Result<u64, SqlError> {
        self.database.bytes()
    }

    /// Opens a savepoint.
    ///
    /// # Errors
    /// When 64 are open.
    pub fn begin(&mut self) -> Result<(), SqlError> {
        if self.depth >= DEPTH {
            return Err(SqlError::Refused(format!("transactions are nested more than {DEPTH} deep")));
        }
        // Savepoints of one name nest: the name means the innermost.
        self.database.savepoint("_cf_turn")?;
        self.depth += 1;
        self.database.nest(true);
        Ok(())
    }

    /// Makes the changes since the last savepoint part of what was before it.
    ///
    /// # Errors
    /// When there is none.
    pub fn commit(&mut self) -> Result<(), SqlError> {
        self.leave(false)
    }

    /// Undoes the changes since the last savepoint.
    ///
    /// # Errors
    /// When there is none.
    pub fn rollback(&mut self) -> Result<(), SqlError> {
        self.leave(true)
    }

    fn leave(&mut self, undo: bool) -> Result<(), SqlError> {
        if self.depth == 0 {
            return Err(SqlError::Refused("there is no transaction".into()));
        }
        if undo {
            self.forget();
            self.database.trusted("ROLLBACK TO _cf_turn", &[])?;
        }
        self.database.trusted("RELEASE _cf_turn", &[])?;
        self.depth -= 1;
        self.database.nest(self.depth > 0);
        Ok(())
    }

    /// Whether savepoints that are open when a turn ends stay open: while the guest holds the input gate.
    pub fn hold_transaction(&mut self, yes: bool) {
        self.held = yes;
    }

    /// `deleteAll`: every table, key and step, and with `alarms` every alarm, in one stroke. Cursors are closed.
    ///
    /// # Errors
    /// When a savepoint is open, or the database cannot be made anew.
    pub fn clear(&mut self, alarms: bool) -> Result<(), StorageError> {
        if self.depth > 0 {
            return Err(StorageError::Refused("deleteAll() cannot be called within a transaction".into()));
        }
        let (kept, again) = if alarms { (Vec::new(), HashMap::new()) } else { (self.alarm_rows()?, self.again()?.clone()) };
        self.database.wipe()?;
        self.forget();
        self.wiped = true;
        self.running.clear();
        self.put_alarm_rows(&kept)?;
        Ok(again.into_iter().try_for_each(|(name, at_ms)| self.try_again(&name, at_ms))?)
    }

    /// Ends the turn: commits what it wrote and appends the record. `None`: nothing was written. Savepoints that are open are undone, unless they
    /// are held; then nothing is committed yet.
    ///
    /// # Errors
    /// When it cannot be committed: everything the turn wrote is undone, and the guest, which believes otherwise, has to be ended.
    pub fn end_turn(&mut self) -> Result<Option<Pending>, StorageError> {
        self.database.rest();
        if self.depth > 0 && self.held {
            return Ok(None);
        }
        let committed = self.commit_all();
        if committed.is_err() {
            self.cut_off();
        }
        committed
    }

    fn commit_all(&mut self) -> Result<Option<Pending>, StorageError> {
        while self.depth > 0 {
            self.leave(true)?;
        }
        if !self.in_turn() {
            return Ok(None);
        }
        let wake_ms = self.wake()?;
        self.database.commit()?;
        let mut pages = self.pages.pages.lock();
        self.wiped = false;
        if !pages.changed() {
            return Ok(None);
        }
        let body = pages.commit(self.last.next(), wake_ms);
        drop(pages);
        Ok(Some(self.append(RecordKind::Commit, body)))
    }

    /// The turn was cut off: everything it wrote is undone, also what is held, and cursors are closed.
    pub fn cut_off(&mut self) {
        let put_by = self.database.put_by();
        self.database.rollback();
        self.database.rest();
        self.database.nest(false);
        self.pages.pages.lock().discard();
        self.depth = 0;
        self.held = false;
        self.forget();
        if (std::mem::take(&mut self.wiped) || put_by)
            && let Err(e) = self.database.reopen()
        {
            // Every call says so again; the guest is ended, and the next activation opens the database anew.
            tracing::error!(actor = %self.setup.actor, error = %e, "the database cannot be opened after a turn was undone");
        }
    }

    /// The last record appended, whoever wrote it: ready when everything so far is durable. `None`: nothing was appended since the state was opened.
    pub fn sync(&mut self) -> Option<Pending> {
        self.pending.clone()
    }

    /// Appends a checkpoint at the place of the database. Only between turns. One that the log refuses at once (it is too large, too much waits) leaves
    /// everything as it was.
    ///
    /// # Errors
    /// When a transaction is open.
    pub fn append_checkpoint(&mut self, heap: &Heap) -> Result<Pending, StorageError> {
        if self.in_turn() {
            return Err(StorageError::Refused("a transaction is open".into()));
        }
        let before = (self.last, self.last_ms, self.pending.clone());
        let pending = self.append(RecordKind::Checkpoint, checkpoint::encode(heap));
        if matches!(pending.clone().now_or_never(), Some(Err(_))) {
            (self.last, self.last_ms, self.pending) = before;
        }
        Ok(pending)
    }

    fn append(&mut self, kind: RecordKind, body: Bytes) -> Pending {
        let time_ms = (self.setup.clock)();
        let record = Record { actor: self.setup.actor, epoch: self.setup.epoch, seq: self.last.next(), time_ms, kind, body };
        self.last = record.seq;
        self.last_ms = time_ms;
        let pending = self.setup.log.append(record).shared();
        self.pending = Some(pending.clone());
        pending
    }

    /// Forgets what is known of the database: it may be another one now.
    fn forget(&mut self) {
        self.made = Made::default();
        (self.alarms, self.again) = (alarms::Known::Nothing, None);
    }

    fn made(&mut self) -> Result<Made, SqlError> {
        if !self.made.known {
            let mut made = Made { known: true, ..Made::default() };
            for row in
                self.database.trusted("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '\\_cf\\_%' ESCAPE '\\'", &[])?
            {
                match row.first() {
                    Some(Value::Text(name)) if name == "_cf_KV" => made.keys = true,
                    Some(Value::Text(name)) if name == "_cf_ALARM" => made.alarms = true,
                    Some(Value::Text(name)) if name == "_cf_STEP" => made.steps = true,
                    Some(Value::Text(name)) if name == "_cf_META" => made.meta = true,
                    _ => {}
                }
            }
            self.made = made;
        }
        Ok(self.made)
    }
}
