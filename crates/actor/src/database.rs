//! SQLite on pages, for SQL that nobody trusts.
//!
//! A [`Database`] is one connection to one [`PageFile`], driven by `storage` (a guest's turns) and, on a read-only view of the past, by `actor`. What
//! a guest sends is compiled under an authorizer (`policy`), with limits on its size, its values (`weight`), its time, its memory and its
//! results; what `storage` itself asks is trusted, and only that sees the hidden tables (`_cf_…`).
//!
//! It is not: durable. A commit here puts pages into a `PageFile`; that they last is the log's business.

mod cursor;
mod functions;
mod policy;
mod split;
mod vfs;
mod weight;

use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::{
    Connection, OpenFlags,
    config::DbConfig,
    hooks::Authorization,
    limits::Limit,
    types::{ToSqlOutput, ValueRef},
};

use crate::pages::PAGE;

pub(crate) use self::vfs::Backing;
use self::{
    cursor::{Live, Watch},
    policy::Seen,
    vfs::{Running, TempRoom},
};
pub use self::{
    cursor::{Piece, Rows},
    vfs::{Vfs, VfsUnavailable},
};

/// Why pages cannot be read or written.
pub type PageError = Box<dyn std::error::Error + Send + Sync>;

/// A database file. Pages count from 1, as SQLite's do.
pub trait PageFile: Any + Send {
    /// How many pages there are.
    fn count(&self) -> u32;
    /// Reads one of them.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    fn read(&self, page: u32, into: &mut [u8; PAGE]) -> Result<(), PageError>;
    /// Writes a page into the open transaction; one after the last makes the file longer.
    ///
    /// # Errors
    /// When the file is read-only.
    fn write(&mut self, page: u32, content: &[u8; PAGE]) -> Result<(), PageError>;
    /// Cuts the file to so many pages, in the open transaction.
    ///
    /// # Errors
    /// When the file is read-only.
    fn truncate(&mut self, count: u32) -> Result<(), PageError>;
    /// Whether the open transaction changed anything.
    fn changed(&self) -> bool;
    /// Forgets the open transaction.
    fn discard(&mut self);
}

/// A value of SQL.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Bytes),
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(n) => ValueRef::Integer(*n),
            Self::Real(x) => ValueRef::Real(*x),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl Value {
    fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(n) => Self::Integer(n),
            ValueRef::Real(x) => Self::Real(x),
            ValueRef::Text(text) => Self::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Self::Blob(Bytes::copy_from_slice(bytes)),
        }
    }

    /// Bytes that it takes, about.
    fn size(&self) -> usize {
        8 + match self {
            Self::Null | Self::Integer(_) | Self::Real(_) => 0,
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
        }
    }
}

/// Bounds on what SQL of a guest may take. The defaults are those of Durable Objects where they document one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseLimits {
    /// Bytes of one text of SQL.
    pub statement_bytes: u32,
    /// Parameters that may be bound to one statement.
    pub bound: u32,
    /// Columns of a table and of a result.
    pub columns: u32,
    /// Bytes of one value, and of one row as it is stored.
    pub value_bytes: u32,
    /// Bytes of the whole database.
    pub database_bytes: u64,
    /// Time that one statement may take.
    pub statement_time: Duration,
    /// Time that all SQL of one turn may take.
    pub turn_time: Duration,
    /// Rows that one answer carries; the others come when asked for.
    pub piece_rows: usize,
    /// Bytes after which an answer is complete, the row that crosses them included.
    pub piece_bytes: usize,
    /// Bytes of results that are kept for a statement that writes: it runs to its end at once.
    pub kept_bytes: usize,
    /// Cursors that may be open at once.
    pub cursors: usize,
    /// Bytes of sorts and intermediate results that do not fit SQLite's own caches.
    pub temp_bytes: usize,
    /// Bytes of the database that SQLite keeps in memory.
    pub cache_bytes: usize,
}

impl Default for DatabaseLimits {
    fn default() -> Self {
        Self {
            statement_bytes: 100_000,
            bound: 100,
            columns: 100,
            value_bytes: 2_200_000,
            database_bytes: 10 << 30,
            statement_time: Duration::from_secs(5),
            turn_time: Duration::from_secs(20),
            piece_rows: 512,
            piece_bytes: 256 << 10,
            kept_bytes: 32 << 20,
            cursors: 64,
            temp_bytes: 64 << 20,
            cache_bytes: 1 << 20,
        }
    }
}

/// Why a statement did not run. The text is what the guest is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// SQLite refused it or it failed; the text names SQLite's code.
    #[error("{0}")]
    Failed(String),
    /// It is refused before SQLite sees it: the number of bindings, a transaction, a limit.
    #[error("{0}")]
    Refused(String),
    /// It took too long or too much memory, or all of the turn took too long.
    #[error("{0}")]
    TooLong(String),
    /// An answer would be larger than there is room for, in bytes.
    #[error("the result is larger than {0} bytes")]
    TooLarge(usize),
    /// The transaction is gone, or the database cannot be read: nothing more can be done in this turn, and it cannot be committed.
    #[error("{0}")]
    Broken(String),
}

impl SqlError {
    fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }
}

/// What the connection's callbacks share with their [`Database`].
struct Control {
    /// The statement being compiled or run is `storage`'s own.
    trusted: AtomicBool,
    /// The database may be changed.
    writes: bool,
    /// What was seen of the statement being compiled.
    seen: Mutex<Seen>,
    /// When the running statement has to stop, in ns after `start`.
    deadline: AtomicU64,
    start: Instant,
    /// What SQLite may hold in this process before the running statement has to stop, in bytes.
    memory: AtomicI64,
}

/// Memory that SQLite may take while one statement runs, in bytes. It knows only what the whole process holds, so a statement may also be stopped for
/// what others take meanwhile: only one that attacks takes as much.
const RUN_BYTES: i64 = 256 << 20;

/// Pages that SQLite can number.
const PAGES_MAX: u64 = u32::MAX as u64 - 1;

/// Pages beyond the limit that a statement may take before it is undone, where earlier ones must not be lost with it: 64 MiB.
const RESERVE: u64 = (64 << 20) / PAGE as u64;

/// What is said of SQL in which there is no statement.
const NOTHING: &str = "SQL code did not contain a statement.";

/// Instructions of SQLite between two looks at clock and memory.
const LOOK: i32 = 200;

/// Bytes that SQLite holds in this process.
fn held() -> i64 {
    // SAFETY: a function without arguments that reads a counter under SQLite's own mutex.
    #[expect(unsafe_code, reason = "rusqlite has no safe name for it")]
    unsafe {
        rusqlite::ffi::sqlite3_memory_used()
    }
}

impl Control {
    fn authorize(&self, asked: &rusqlite::hooks::AuthContext<'_>) -> Authorization {
        if self.trusted.load(Ordering::Relaxed) || policy::allows(asked, self.writes, &mut self.seen.lock()) {
            Authorization::Allow
        } else {
            Authorization::Deny
        }
    }

    fn enough(&self) -> bool {
        self.start.elapsed().as_nanos() as u64 > self.deadline.load(Ordering::Relaxed) || held() > self.memory.load(Ordering::Relaxed)
    }

    /// Lets what runs next take all the time and memory it wants: it is ours, and small.
    fn unbounded(&self) {
        self.deadline.store(u64::MAX, Ordering::Relaxed);
        self.memory.store(i64::MAX, Ordering::Relaxed);
    }
}

/// One connection. All methods block: they may read from a disk.
pub struct Database {
    // First, so that the connection is closed while everything it uses is still there.
    live: Live,
    control: Arc<Control>,
    backing: Arc<Backing<dyn PageFile>>,
    temp: Arc<TempRoom>,
    vfs: Arc<Vfs>,
    limits: DatabaseLimits,
    /// Time that SQL took since [`Database::rest`].
    spent: Duration,
    /// Set when the transaction was lost to an error; nothing runs until it is cleared by a rollback.
    broken: Option<String>,
    in_transaction: bool,
    /// Nothing but the running statement, or group of them, is in the transaction: were it lost, nothing else would be.
    alone: bool,
    /// A group of our own statements runs.
    grouped: bool,
    /// Savepoints of `storage` are open.
    nested: bool,
    /// The functions of ours are there: they are registered with the first statement of a guest, for many an actor only keeps keys and alarms.
    equipped: bool,
    /// Earlier statements of the turn are in the pages already: undoing them is the pages' business, behind SQLite's back.
    put_by: bool,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("in_transaction", &self.in_transaction).field("broken", &self.broken).finish_non_exhaustive()
    }
}

/// How a [`Database`] is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may be changed.
    ReadWrite,
    /// It is looked at: the past, or another's.
    ReadOnly,
}

impl Database {
    /// Opens the database in a file; an empty one is a new database. `file` stays shared with who makes records of its commits.
    ///
    /// # Errors
    /// When the file is no database, or cannot be read.
    pub fn open<P: PageFile>(vfs: &Arc<Vfs>, file: P, access: Access, limits: &DatabaseLimits) -> Result<Self, SqlError> {
        Self::on(vfs, Arc::new(Backing { failure: Mutex::new(None), pages: Mutex::new(file) }), access, limits)
    }

    pub(crate) fn share<P: PageFile>(file: P) -> Arc<Backing<P>> {
        Arc::new(Backing { failure: Mutex::new(None), pages: Mutex::new(file) })
    }

    pub(crate) fn on(
        vfs: &Arc<Vfs>,
        backing: Arc<Backing<dyn PageFile>>,
        access: Access,
        limits: &DatabaseLimits,
    ) -> Result<Self, SqlError> {
        let control = Arc::new(Control {
            trusted: AtomicBool::new(true),
            writes: access == Access::ReadWrite,
            seen: Mutex::default(),
            deadline: AtomicU64::new(u64::MAX),
            start: Instant::now(),
            memory: AtomicI64::new(i64::MAX),
        });
        let temp = TempRoom::new(limits.temp_bytes);
        let live = connect(vfs, &backing, &control, &temp, limits)?;
        Ok(Self {
            live,
            control,
            backing,
            temp,
            vfs: Arc::clone(vfs),
            limits: limits.clone(),
            spent: Duration::ZERO,
            broken: None,
            in_transaction: false,
            alone: false,
            grouped: false,
            nested: false,
            equipped: false,
            put_by: false,
        })
    }

    /// The limits it was opened with.
    #[must_use]
    pub fn limits(&self) -> &DatabaseLimits {
        &self.limits
    }

    /// Runs a guest's SQL: all statements of `sql`, the bindings being the last one's, whose first rows are returned.
    ///
    /// # Errors
    /// When it may not, does not compile or fails. What the statements before the failing one did stays in the transaction.
    pub fn sql(&mut self, sql: &str, bindings: &[Value]) -> Result<Rows, SqlError> {
        self.usable()?;
        if sql.len() > self.limits.statement_bytes as usize {
            return Err(SqlError::Failed("statement too long: SQLITE_TOOBIG".into()));
        }
        if sql.contains('\0') {
            // SQLite reads to it and no further; Durable Objects say so of what follows.
            return Err(SqlError::refused(NOTHING));
        }
        let run = self.running()?;
        let result = self.equip().and_then(|()| self.run_all(sql, bindings));
        self.finished(run, result)
    }

    fn equip(&mut self) -> Result<(), SqlError> {
        if !self.equipped {
            self.live.equip(&self.limits)?;
            self.equipped = true;
        }
        Ok(())
    }

    fn run_all(&mut self, sql: &str, bindings: &[Value]) -> Result<Rows, SqlError> {
        if let Some(found) = self.live.idle(sql) {
            return self.run_one(found, bindings);
        }
        let statements = split::statements(sql);
        let Some((last, before)) = statements.split_last() else {
            return Err(SqlError::refused(NOTHING));
        };
        let (mut read, mut written) = (0, 0);
        for statement in before {
            let compiled = self.live.compile(statement, &self.control, &self.limits)?;
            if compiled.parameters > 0 {
                return Err(SqlError::refused(
                    "When executing multiple SQL statements in a single call, only the last statement can have parameters.",
                ));
            }
            let rows = self.run_one(compiled, &[])?;
            self.live.close(rows.cursor);
            read += rows.read;
            written += rows.written;
        }
        let compiled = self.live.compile(last, &self.control, &self.limits)?;
        let mut rows = self.run_one(compiled, bindings)?;
        rows.read += read;
        rows.written += written;
        Ok(rows)
    }

    fn run_one(&mut self, compiled: cursor::Compiled, bindings: &[Value]) -> Result<Rows, SqlError> {
        if compiled.parameters != bindings.len() {
            self.live.park(compiled);
            return Err(SqlError::refused("Wrong number of parameter bindings for SQL query."));
        }
        if compiled.writes && self.control.writes {
            if let Err(e) = self.begin_transaction() {
                self.live.park(compiled);
                return Err(e);
            }
            return self.with_reserve(|this| this.run_guests(compiled, bindings), |live, rows| live.close(rows.cursor));
        }
        self.alone = false;
        self.run_guests(compiled, bindings)
    }

    fn run_guests(&mut self, compiled: cursor::Compiled, bindings: &[Value]) -> Result<Rows, SqlError> {
        self.control.trusted.store(false, Ordering::Relaxed);
        match compiled.watch {
            Watch::Nothing => self.live.run(compiled, bindings, &self.limits),
            watch => self.run_watched(watch, compiled, bindings),
        }
    }

    /// Runs what writes. SQLite may undo a whole transaction when its last statement finds no room; where earlier statements would be lost by that, this
    /// one has room beyond the limit, and is undone by itself if it took of it. `forget` closes what it gave then.
    fn with_reserve<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T, SqlError>,
        forget: impl FnOnce(&mut Live, T),
    ) -> Result<T, SqlError> {
        if !self.in_transaction || self.alone || !self.short_of_room()? {
            return run(self);
        }
        let most = pages_max(&self.limits);
        self.own("SAVEPOINT _cf_reserve", &[])?;
        let widened = self.number(&format!("PRAGMA max_page_count = {}", most.saturating_add(RESERVE).min(PAGES_MAX)));
        let mut result = widened.and_then(|_| run(self));
        if !self.live.autocommit() {
            if result.is_ok() && self.number("PRAGMA page_count")? > most {
                if let Ok(given) = result {
                    forget(&mut self.live, given);
                }
                result = Err(SqlError::Failed("database or disk is full: SQLITE_FULL".into()));
            }
            if result.is_err() {
                self.own("ROLLBACK TO _cf_reserve", &[])?;
            }
            self.own("RELEASE _cf_reserve", &[])?;
        }
        self.number(&format!("PRAGMA max_page_count = {most}"))?;
        result
    }

    /// Runs a statement that may turn out wrong only after it has run, and undoes it then.
    fn run_watched(&mut self, watch: Watch, compiled: cursor::Compiled, bindings: &[Value]) -> Result<Rows, SqlError> {
        const HIDDEN: &str =
            "SELECT count(*) FROM sqlite_master WHERE name LIKE '\\_cf\\_%' ESCAPE '\\' OR tbl_name LIKE '\\_cf\\_%' ESCAPE '\\'";
        let before = if watch == Watch::Names { self.own(HIDDEN, &[])? } else { Vec::new() };
        self.own("SAVEPOINT _cf_watched", &[])?;
        self.control.trusted.store(false, Ordering::Relaxed);
        let mut result = self.live.run(compiled, bindings, &self.limits);
        if self.live.autocommit() {
            return result;
        }
        if watch == Watch::Names
            && let Ok(rows) = &result
            && self.own(HIDDEN, &[])? != before
        {
            self.live.close(rows.cursor);
            result = Err(SqlError::Failed("not authorized: SQLITE_AUTH".into()));
        }
        if result.is_err() {
            self.own("ROLLBACK TO _cf_watched", &[])?;
        }
        self.own("RELEASE _cf_watched", &[])?;
        result
    }

    /// More rows of a cursor.
    ///
    /// # Errors
    /// When it has been closed, or the statement fails.
    pub fn next(&mut self, cursor: u32) -> Result<Piece, SqlError> {
        self.usable()?;
        let run = self.running()?;
        let result = self.live.next(cursor, &self.limits);
        self.finished(run, result)
    }

    /// Closes a cursor; one that is closed already is none.
    pub fn close(&mut self, cursor: u32) {
        let _running = Running::with(&self.temp);
        self.live.close(cursor);
    }

    /// Runs one statement of ours and returns its rows, at most as many as fit the memory of one.
    ///
    /// # Errors
    /// When the database is damaged, full, or out of time.
    pub(crate) fn trusted(&mut self, sql: &str, bindings: &[Value]) -> Result<Vec<Vec<Value>>, SqlError> {
        self.usable()?;
        let run = self.running()?;
        let result = self.own(sql, bindings);
        self.finished(run, result)
    }

    /// A statement of ours that writes.
    pub(crate) fn trusted_write(&mut self, sql: &str, bindings: &[Value]) -> Result<Vec<Vec<Value>>, SqlError> {
        self.usable()?;
        let run = self.running()?;
        let result = self.begin_transaction().and_then(|()| self.with_reserve(|this| this.own(sql, bindings), |_, _| ()));
        self.finished(run, result)
    }

    fn own(&mut self, sql: &str, bindings: &[Value]) -> Result<Vec<Vec<Value>>, SqlError> {
        self.control.trusted.store(true, Ordering::Relaxed);
        self.live.own(sql, bindings, &self.limits)
    }

    fn begin_transaction(&mut self) -> Result<(), SqlError> {
        if self.grouped {
            return Ok(());
        }
        self.alone = false;
        if self.in_transaction && !self.nested && self.nearly_full()? && self.own("COMMIT", &[]).is_ok() {
            // SQLite undoes a whole transaction when its last statement finds no room. What the turn has written before goes to the pages, which are
            // undone with the turn only. A commit that fails (a deferred foreign key) leaves everything as it was.
            self.put_by = true;
            self.in_transaction = false;
        }
        if !self.in_transaction {
            self.own("BEGIN", &[])?;
            self.in_transaction = true;
            self.alone = true;
        }
        Ok(())
    }

    /// Opens a savepoint; with it a transaction, if there is none.
    pub(crate) fn savepoint(&mut self, name: &str) -> Result<(), SqlError> {
        self.usable()?;
        let run = self.running()?;
        let result = self.begin_transaction().and_then(|()| self.own(&format!("SAVEPOINT {name}"), &[]));
        self.finished(run, result).map(drop)
    }

    /// Begins statements of ours that take effect together, in a savepoint, or are undone together.
    pub(crate) fn group(&mut self) -> Result<(), SqlError> {
        self.usable()?;
        let run = self.running()?;
        let result = self.begin_transaction().and_then(|()| self.own("SAVEPOINT _cf_several", &[]));
        self.grouped = result.is_ok();
        self.finished(run, result).map(drop)
    }

    /// Ends what [`Database::group`] began.
    pub(crate) fn ungroup(&mut self, undo: bool) -> Result<(), SqlError> {
        self.grouped = false;
        self.alone = false;
        if !self.in_transaction {
            // An error has undone it already.
            return Ok(());
        }
        if undo {
            self.trusted("ROLLBACK TO _cf_several", &[])?;
        }
        self.trusted("RELEASE _cf_several", &[]).map(drop)
    }

    /// Whether the next statement may find the database full, and those before it can be put by.
    fn nearly_full(&mut self) -> Result<bool, SqlError> {
        // A commit ends that foreign keys are deferred.
        Ok(self.short_of_room()? && self.number("PRAGMA defer_foreign_keys")? == 0)
    }

    /// Whether the next statement may find the database full.
    fn short_of_room(&mut self) -> Result<bool, SqlError> {
        /// A turn does not fill as much: its time ends before.
        const FAR: u64 = 4 << 30;
        /// Room for one row of the largest size in a table with some indexes.
        const NEAR: u64 = 16 << 20;
        let most = self.limits.database_bytes;
        let room = |pages: u64| most.saturating_sub(pages * PAGE as u64);
        Ok(room(self.backing.pages.lock().count().into()) <= FAR && room(self.number("PRAGMA page_count")?) <= NEAR.max(most / 8))
    }

    fn number(&mut self, sql: &str) -> Result<u64, SqlError> {
        let rows = self.own(sql, &[])?;
        match rows.first().and_then(|row| row.first()) {
            Some(Value::Integer(n)) => Ok(u64::try_from(*n).unwrap_or(0)),
            _ => Ok(0),
        }
    }

    /// Whether savepoints are open: the transaction has to stay one.
    pub(crate) fn nest(&mut self, yes: bool) {
        self.nested = yes;
    }

    /// Whether the pages hold something of the turn that SQLite takes for committed.
    pub(crate) fn put_by(&self) -> bool {
        self.put_by
    }

    /// Whether a transaction is open: something was, or was to be, written.
    pub(crate) fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Puts what was written into the pages. Cursors stay open: they read on in what is there then.
    ///
    /// # Errors
    /// When the transaction was lost before, or cannot be committed (a deferred foreign key, no room): it is undone.
    pub(crate) fn commit(&mut self) -> Result<(), SqlError> {
        if let Some(why) = &self.broken {
            let why = why.clone();
            self.rollback();
            return Err(SqlError::Broken(why));
        }
        if self.in_transaction {
            let _running = Running::with(&self.temp);
            self.control.unbounded();
            if let Err(e) = self.own("COMMIT", &[]) {
                self.rollback();
                return Err(e);
            }
            self.in_transaction = false;
        }
        self.put_by = false;
        Ok(())
    }

    /// Undoes the open transaction, closes all cursors, and makes a broken database usable again. If the pages held something
    /// ([`Database::put_by`]), it has to be opened again.
    pub(crate) fn rollback(&mut self) {
        let _running = Running::with(&self.temp);
        self.control.unbounded();
        self.live.close_all();
        if !self.live.autocommit()
            && let Err(e) = self.own("ROLLBACK", &[])
        {
            self.broken = Some(format!("the transaction cannot be undone: {e}"));
            return;
        }
        self.in_transaction = false;
        self.broken = None;
        self.backing.pages.lock().discard();
    }

    /// Makes the database empty, within the open transaction of its pages: what SQLite has open is undone first.
    ///
    /// # Errors
    /// When the file cannot be opened anew.
    pub(crate) fn wipe(&mut self) -> Result<(), SqlError> {
        self.rollback();
        let cut = self.backing.pages.lock().truncate(0);
        cut.map_err(|e| SqlError::Broken(e.to_string()))?;
        self.reopen()
    }

    /// Opens the file again, after its pages were changed behind SQLite's back. No transaction may be open.
    pub(crate) fn reopen(&mut self) -> Result<(), SqlError> {
        self.control.trusted.store(true, Ordering::Relaxed);
        self.control.unbounded();
        self.live = connect(&self.vfs, &self.backing, &self.control, &self.temp, &self.limits)?;
        self.in_transaction = false;
        self.equipped = false;
        self.put_by = false;
        Ok(())
    }

    /// A turn has ended: the next one has all its time.
    pub(crate) fn rest(&mut self) {
        self.spent = Duration::ZERO;
    }

    /// Bytes of the pages in use.
    ///
    /// # Errors
    /// When the header cannot be read.
    pub fn bytes(&mut self) -> Result<u64, SqlError> {
        /// Where the header says how many pages are free: a number of four bytes, the most significant first.
        const FREE: usize = 36;
        self.usable()?;
        if !self.in_transaction {
            // Everything is in the pages; no statement has to be compiled.
            let pages = self.backing.pages.lock();
            let (count, mut header) = (pages.count(), [0; PAGE]);
            if count > 0 {
                pages.read(1, &mut header).map_err(|e| SqlError::Failed(e.to_string()))?;
            }
            let free = header[FREE..].first_chunk().copied().map_or(0, u32::from_be_bytes);
            return Ok(u64::from(count.saturating_sub(free)) * PAGE as u64);
        }
        let used = self.trusted("SELECT (SELECT * FROM pragma_page_count) - (SELECT * FROM pragma_freelist_count)", &[])?;
        match used.first().and_then(|row| row.first()) {
            Some(Value::Integer(pages)) => Ok(u64::try_from(*pages).unwrap_or(0) * PAGE as u64),
            _ => Ok(0),
        }
    }

    fn usable(&self) -> Result<(), SqlError> {
        match &self.broken {
            Some(why) => Err(SqlError::Broken(why.clone())),
            None => Ok(()),
        }
    }

    fn running(&mut self) -> Result<(Running, Instant), SqlError> {
        let left = self.limits.turn_time.saturating_sub(self.spent);
        if left.is_zero() {
            return Err(SqlError::TooLong(format!("SQL of one turn took more than {} ms", self.limits.turn_time.as_millis())));
        }
        let now = Instant::now();
        let deadline = now.duration_since(self.control.start) + left.min(self.limits.statement_time);
        self.control.deadline.store(deadline.as_nanos() as u64, Ordering::Relaxed);
        self.control.memory.store(held() + RUN_BYTES, Ordering::Relaxed);
        self.control.trusted.store(false, Ordering::Relaxed);
        // A statement may be compiled anew while it runs, and what is seen then counts from nothing.
        *self.control.seen.lock() = Seen::default();
        Ok((Running::with(&self.temp), now))
    }

    /// After each call: what it cost, whether it lost the transaction, and its error in words that help.
    fn finished<T>(&mut self, (running, began): (Running, Instant), result: Result<T, SqlError>) -> Result<T, SqlError> {
        drop(running);
        self.spent += began.elapsed();
        let alone = self.alone;
        self.alone &= self.grouped;
        let Err(e) = result else { return result };
        let e = match self.backing.failure.lock().take() {
            Some(why) => SqlError::Failed(format!("{e}: {why}")),
            None if matches!(&e, SqlError::Failed(text) if text.ends_with("SQLITE_INTERRUPT")) => {
                SqlError::TooLong(format!("{e}: it took more than {} ms, or {RUN_BYTES} bytes", self.limits.statement_time.as_millis()))
            }
            None => e,
        };
        if self.in_transaction && self.live.autocommit() {
            self.in_transaction = !alone;
        }
        if self.in_transaction && self.live.autocommit() {
            self.broken = Some(format!("the transaction was undone by an earlier error: {e}"));
        }
        Err(e)
    }
}

/// Opens a connection and takes from it all that a guest could misuse.
fn connect(
    vfs: &Arc<Vfs>,
    backing: &Arc<Backing<dyn PageFile>>,
    control: &Arc<Control>,
    temp: &Arc<TempRoom>,
    limits: &DatabaseLimits,
) -> Result<Live, SqlError> {
    let _running = Running::with(temp);
    let name = vfs.offer(Arc::clone(backing));
    let result = prepare(vfs, &name, control, limits);
    vfs.withdraw(&name);
    result.map(Live::of).map_err(|e| match backing.failure.lock().take() {
        Some(why) => SqlError::Broken(format!("the database cannot be opened: {why}")),
        None => SqlError::Broken(format!("the database cannot be opened: {}", cursor::text(&e))),
    })
}

/// Pages that a database may have.
fn pages_max(limits: &DatabaseLimits) -> u64 {
    (limits.database_bytes / PAGE as u64).clamp(1, PAGES_MAX)
}

fn prepare(vfs: &Arc<Vfs>, name: &str, control: &Arc<Control>, limits: &DatabaseLimits) -> rusqlite::Result<Connection> {
    // SQLite creates what is empty only if it may write.
    let mode =
        if control.writes { OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    let mut db = Connection::open_with_flags_and_vfs(name, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX, vfs.name())?;
    db.set_prepared_statement_cache_capacity(0);
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, limits.value_bytes as i32),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, limits.statement_bytes as i32),
        (Limit::SQLITE_LIMIT_COLUMN, limits.columns as i32),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 5),
        (Limit::SQLITE_LIMIT_VDBE_OP, 25_000),
        (Limit::SQLITE_LIMIT_FUNCTION_ARG, 127),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 50),
        (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, limits.bound as i32),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 10),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        db.set_limit(limit, value)?;
    }
    // The order matters: no lock is ever given back once the mode is exclusive, and the journal's mode reads the file.
    // Sorts may spill: `vfs` keeps what they spill in memory, and counts it, which SQLite's own in-memory mode does not.
    db.execute_batch(&format!(
        "PRAGMA page_size = {PAGE}; PRAGMA locking_mode = EXCLUSIVE; PRAGMA mmap_size = 0; PRAGMA temp_store = FILE; PRAGMA synchronous = OFF;
         PRAGMA cache_size = -{}; PRAGMA cell_size_check = ON; PRAGMA journal_mode = MEMORY; PRAGMA max_page_count = {};",
        limits.cache_bytes / 1024,
        pages_max(limits),
    ))?;
    let asked = Arc::clone(control);
    db.authorizer(Some(move |context: rusqlite::hooks::AuthContext<'_>| asked.authorize(&context)))?;
    let clock = Arc::clone(control);
    db.progress_handler(LOOK, Some(move || clock.enough()))?;
    Ok(db)
}
