//! Compiled statements and cursors: what of a connection lives on between two calls.
//!
//! Driven by [`Database`](super::Database). A statement that only reads is a live cursor: its rows are made when they are asked for, across turns
//! too, and it sees what is written meanwhile as SQLite defines. One that writes is run to its end at once and its rows are kept. Compiled
//! statements are kept for their next use.
//!
//! It is not: safe by itself. Which statement may run is decided before.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use rusqlite::{Connection, Error, Statement, StatementStatus, ffi, limits::Limit};
use self_cell::self_cell;

use super::{
    Control, DatabaseLimits, SqlError, Value, functions,
    policy::{Change, NOT_AUTHORIZED, Seen},
    weight,
};

/// Compiled statements that are kept.
const IDLE: usize = 96;

/// Bytes that all open cursors may hold between two calls: values that their statements have made.
const HELD: usize = 512 << 20;

/// The first answer to a statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// By what number more rows are to be had; 0: these are all.
    pub cursor: u32,
    /// Names of the columns.
    pub columns: Arc<[String]>,
    /// The first rows.
    pub rows: Vec<Vec<Value>>,
    /// Rows read so far, at least: those scanned or returned, whichever are more.
    pub read: u64,
    /// Rows written, entries of indexes included.
    pub written: u64,
}

/// More rows of a cursor.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// They.
    pub rows: Vec<Vec<Value>>,
    /// Whether there are more; if not, the cursor is closed.
    pub more: bool,
    /// Rows read so far, at least.
    pub read: u64,
    /// Rows written.
    pub written: u64,
}

self_cell!(
    struct Inner {
        owner: Connection,
        #[covariant]
        dependent: Statements,
    }
);

#[derive(Default)]
struct Statements<'c> {
    /// By their text; the number says which was used last.
    idle: HashMap<Arc<str>, (u64, Prepared<'c>)>,
    /// Taken out of `idle`, or just compiled, and about to run.
    ready: Option<Prepared<'c>>,
    open: HashMap<u32, Cursor<'c>>,
    uses: u64,
    next: u32,
}

/// A connection and its statements.
pub(super) struct Live(Inner);

// SAFETY: a `Live` is a `Connection`, which may go to another thread, and statements that borrow it, which may not go there *without* it: they share
// its interior mutability. They never part. Both are private to this value, no method returns a borrow of either, and all of them need
// `&mut Live` (or read one flag of the connection by `&self`, which no other thread can do at the same time, `Live` not being `Sync`). SQLite ties
// neither to a thread.
#[expect(unsafe_code, reason = "that the borrowed moves together with what it borrows is not in the types")]
unsafe impl Send for Live {}

/// A statement and what is known of it.
struct Prepared<'c> {
    statement: Statement<'c>,
    facts: Arc<Facts>,
}

struct Facts {
    sql: Arc<str>,
    columns: Arc<[String]>,
    parameters: usize,
    /// It changes the database, or may.
    writes: bool,
    watch: Watch,
    /// Rows and index entries written for each row changed.
    entries: u64,
    /// Objects of the schema changed.
    schema: u64,
    /// It reads from tables: each row that it returns is one that it has read, at least.
    reads: bool,
    value_bytes: i32,
    /// Bytes that it may hold while it is open.
    holds: usize,
}

/// A statement that is ready to run: [`Live`] holds it.
pub(super) struct Compiled {
    pub(super) parameters: usize,
    pub(super) writes: bool,
    pub(super) watch: Watch,
}

/// What may turn out wrong about a statement only after it has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// Nothing.
    Nothing,
    /// The rows that it returns of what it wrote may be too many, or its triggers too deep: SQLite leaves what was done until then.
    Halfway,
    /// `ALTER TABLE … RENAME` does not show the new name to the authorizer.
    Names,
}

enum Cursor<'c> {
    Live {
        prepared: Prepared<'c>,
        returned: u64,
    },
    Kept {
        rows: VecDeque<Vec<Value>>,
        read: u64,
        written: u64,
    },
    /// The database was wiped, or the turn cut off.
    Gone,
}

impl Cursor<'_> {
    fn holds(&self) -> usize {
        match self {
            Self::Live { prepared, .. } => prepared.facts.holds,
            Self::Kept { rows, .. } => rows.iter().flatten().map(Value::size).sum(),
            Self::Gone => 0,
        }
    }
}

impl Live {
    pub(super) fn of(connection: Connection) -> Self {
        Self(Inner::new(connection, |_| Statements::default()))
    }

    pub(super) fn autocommit(&self) -> bool {
        self.0.borrow_owner().is_autocommit()
    }

    /// Puts the functions on the connection that a guest's statements may call. Nothing but these calls them.
    pub(super) fn equip(&self, limits: &DatabaseLimits) -> Result<(), SqlError> {
        functions::register(self.0.borrow_owner(), limits.value_bytes as usize).map_err(|e| failed(&e))
    }

    /// The statement of this very text, if it was compiled before.
    pub(super) fn idle(&mut self, sql: &str) -> Option<Compiled> {
        self.0.with_dependent_mut(|_, s| {
            let (_, prepared) = s.idle.remove(sql)?;
            Some(s.make_ready(prepared))
        })
    }

    /// Compiles one statement of a guest.
    pub(super) fn compile(&mut self, sql: &str, control: &Control, limits: &DatabaseLimits) -> Result<Compiled, SqlError> {
        self.0.with_dependent_mut(|db, s| {
            if let Some((_, prepared)) = s.idle.remove(sql) {
                return Ok(s.make_ready(prepared));
            }
            control.trusted.store(false, Ordering::Relaxed);
            *control.seen.lock() = Seen::default();
            let compiled = db.prepare(sql);
            let seen = std::mem::take(&mut *control.seen.lock());
            let statement = compiled.map_err(|e| refusal(e, &seen))?;
            control.trusted.store(true, Ordering::Relaxed);
            let prepared = guest(db, statement, sql, &seen, limits);
            control.trusted.store(false, Ordering::Relaxed);
            let prepared = prepared.map_err(|e| failed(&e))?;
            if prepared.facts.writes && !control.writes {
                return Err(SqlError::Failed("attempt to write a readonly database: SQLITE_READONLY".into()));
            }
            Ok(s.make_ready(prepared))
        })
    }

    /// A statement that was ready does not run after all.
    pub(super) fn park(&mut self, _: Compiled) {
        self.0.with_dependent_mut(|_, s| {
            if let Some(prepared) = s.ready.take() {
                s.keep(prepared);
            }
        });
    }

    /// Runs the statement that is ready.
    pub(super) fn run(&mut self, _: Compiled, bindings: &[Value], limits: &DatabaseLimits) -> Result<Rows, SqlError> {
        self.0.with_dependent_mut(|db, s| {
            let Some(mut prepared) = s.ready.take() else { return Err(SqlError::refused("nothing is ready")) };
            if s.open.len() >= limits.cursors {
                s.keep(prepared);
                return Err(SqlError::refused(format!("too many cursors are open (maximum {})", limits.cursors)));
            }
            db.set_limit(Limit::SQLITE_LIMIT_LENGTH, prepared.facts.value_bytes).map_err(|e| failed(&e))?;
            bind(&mut prepared, bindings)?;
            prepared.statement.reset_status(StatementStatus::FullscanStep);
            if prepared.facts.writes { s.run_to_the_end(db, prepared, limits) } else { s.run_first(prepared, limits) }
        })
    }

    /// More of a cursor.
    pub(super) fn next(&mut self, cursor: u32, limits: &DatabaseLimits) -> Result<Piece, SqlError> {
        self.0.with_dependent_mut(|db, s| match s.open.remove(&cursor) {
            None => Err(SqlError::refused("the cursor is closed")),
            Some(Cursor::Gone) => Err(SqlError::refused("SQLite query was canceled because the database was deleted.")),
            Some(Cursor::Kept { mut rows, read, written }) => {
                let piece = take(&mut rows, limits);
                let more = !rows.is_empty();
                if more {
                    s.open.insert(cursor, Cursor::Kept { rows, read, written });
                }
                Ok(Piece { rows: piece, more, read, written })
            }
            Some(Cursor::Live { mut prepared, returned }) => {
                db.set_limit(Limit::SQLITE_LIMIT_LENGTH, prepared.facts.value_bytes).map_err(|e| failed(&e))?;
                let (rows, more) = step(&mut prepared, limits.piece_rows, limits.piece_bytes)?;
                let returned = returned + rows.len() as u64;
                let read = read(&prepared, returned);
                s.leave(cursor, prepared, returned, more)?;
                Ok(Piece { rows, more, read, written: 0 })
            }
        })
    }

    pub(super) fn close(&mut self, cursor: u32) {
        self.0.with_dependent_mut(|_, s| {
            if let Some(Cursor::Live { prepared, .. }) = s.open.remove(&cursor) {
                s.put_away(prepared);
            }
        });
    }

    /// Closes all cursors, and tells who still asks for them.
    pub(super) fn close_all(&mut self) {
        self.0.with_dependent_mut(|_, s| {
            s.ready = None;
            for cursor in s.open.values_mut() {
                *cursor = Cursor::Gone;
            }
        });
    }

    /// Runs a statement of ours, which makes few rows, to its end.
    pub(super) fn own(&mut self, sql: &str, bindings: &[Value], limits: &DatabaseLimits) -> Result<Vec<Vec<Value>>, SqlError> {
        self.0.with_dependent_mut(|db, s| {
            let mut prepared = match s.idle.remove(sql) {
                Some((_, prepared)) => prepared,
                None => ours(db.prepare(sql).map_err(|e| failed(&e))?, sql, limits),
            };
            db.set_limit(Limit::SQLITE_LIMIT_LENGTH, prepared.facts.value_bytes).map_err(|e| failed(&e))?;
            bind(&mut prepared, bindings)?;
            let (rows, more) = step(&mut prepared, usize::MAX, limits.kept_bytes)?;
            s.put_away(prepared);
            if more { Err(SqlError::TooLarge(limits.kept_bytes)) } else { Ok(rows) }
        })
    }
}

impl<'c> Statements<'c> {
    fn make_ready(&mut self, prepared: Prepared<'c>) -> Compiled {
        let facts = &prepared.facts;
        let compiled = Compiled { parameters: facts.parameters, writes: facts.writes, watch: facts.watch };
        self.ready = Some(prepared);
        compiled
    }

    /// Keeps a statement for its next use; it has been reset.
    fn keep(&mut self, prepared: Prepared<'c>) {
        if self.idle.len() >= IDLE
            && let Some(oldest) = self.idle.iter().min_by_key(|(_, (used, _))| *used).map(|(sql, _)| Arc::clone(sql))
        {
            self.idle.remove(&oldest);
        }
        self.uses += 1;
        self.idle.insert(Arc::clone(&prepared.facts.sql), (self.uses, prepared));
    }

    /// Resets a statement and keeps it.
    fn put_away(&mut self, mut prepared: Prepared<'c>) {
        // Rows reset their statement when they go.
        drop(prepared.statement.raw_query());
        prepared.statement.clear_bindings();
        self.keep(prepared);
    }

    fn number(&mut self) -> u32 {
        loop {
            self.next = self.next.wrapping_add(1).max(1);
            if !self.open.contains_key(&self.next) {
                return self.next;
            }
        }
    }

    fn run_first(&mut self, mut prepared: Prepared<'c>, limits: &DatabaseLimits) -> Result<Rows, SqlError> {
        let (rows, more) = step(&mut prepared, limits.piece_rows, limits.piece_bytes)?;
        let (columns, returned) = (Arc::clone(&prepared.facts.columns), rows.len() as u64);
        let read = read(&prepared, returned);
        let cursor = if more { self.number() } else { 0 };
        self.leave(cursor, prepared, returned, more)?;
        Ok(Rows { cursor, columns, rows, read, written: 0 })
    }

    /// After a piece of a live cursor: leaves it open, if it does not hold too much, or puts its statement away.
    fn leave(&mut self, cursor: u32, prepared: Prepared<'c>, returned: u64, more: bool) -> Result<(), SqlError> {
        if !more {
            self.put_away(prepared);
            return Ok(());
        }
        self.room(prepared.facts.holds)?;
        self.open.insert(cursor, Cursor::Live { prepared, returned });
        Ok(())
    }

    fn room(&self, bytes: usize) -> Result<(), SqlError> {
        let others: usize = self.open.values().map(Cursor::holds).sum();
        if others + bytes > HELD {
            return Err(SqlError::refused("too many cursors are open on statements that make many values: read one to its end first"));
        }
        Ok(())
    }

    fn run_to_the_end(&mut self, db: &Connection, mut prepared: Prepared<'c>, limits: &DatabaseLimits) -> Result<Rows, SqlError> {
        let before = db.total_changes();
        let (rows, more) = step(&mut prepared, usize::MAX, limits.kept_bytes)?;
        if more {
            self.put_away(prepared);
            return Err(SqlError::TooLarge(limits.kept_bytes));
        }
        let changed = db.total_changes().saturating_sub(before);
        let written = changed * prepared.facts.entries + prepared.facts.schema;
        let read = read(&prepared, rows.len() as u64);
        let columns = Arc::clone(&prepared.facts.columns);
        if prepared.facts.schema > 0 {
            // How large values may be was decided by the views and triggers there were.
            self.idle.clear();
        } else {
            self.put_away(prepared);
        }
        let mut rest = VecDeque::from(rows);
        let first = take(&mut rest, limits);
        let cursor = if rest.is_empty() { 0 } else { self.number() };
        if cursor != 0 {
            let kept = Cursor::Kept { rows: rest, read, written };
            self.room(kept.holds())?;
            self.open.insert(cursor, kept);
        }
        Ok(Rows { cursor, columns, rows: first, read, written })
    }
}

fn bind(prepared: &mut Prepared<'_>, bindings: &[Value]) -> Result<(), SqlError> {
    for (i, value) in bindings.iter().enumerate() {
        prepared.statement.raw_bind_parameter(i + 1, value).map_err(|e| failed(&e))?;
    }
    Ok(())
}

/// The next rows of a statement, and whether it has more. One that has no more is reset.
fn step(prepared: &mut Prepared<'_>, most_rows: usize, most_bytes: usize) -> Result<(Vec<Vec<Value>>, bool), SqlError> {
    let columns = prepared.facts.columns.len();
    let mut rows = prepared.statement.raw_query();
    let (mut found, mut bytes) = (Vec::new(), 0);
    while found.len() < most_rows && bytes < most_bytes {
        let Some(row) = rows.next().map_err(|e| failed(&e))? else { return Ok((found, false)) };
        let mut values = Vec::with_capacity(columns);
        for i in 0..columns {
            let value = Value::of(row.get_ref(i).map_err(|e| failed(&e))?);
            bytes += value.size();
            values.push(value);
        }
        found.push(values);
    }
    // Rows that go reset their statement; these leave it where it is.
    std::mem::forget(rows);
    Ok((found, true))
}

fn take(rows: &mut VecDeque<Vec<Value>>, limits: &DatabaseLimits) -> Vec<Vec<Value>> {
    let (mut piece, mut bytes) = (Vec::new(), 0);
    while piece.len() < limits.piece_rows
        && bytes < limits.piece_bytes
        && let Some(row) = rows.pop_front()
    {
        bytes += row.iter().map(Value::size).sum::<usize>();
        piece.push(row);
    }
    piece
}

fn read(prepared: &Prepared<'_>, returned: u64) -> u64 {
    let scanned = prepared.statement.get_status(StatementStatus::FullscanStep);
    // The first row of a scan is found, the others are stepped to.
    let returned = if prepared.facts.reads { returned } else { 0 };
    returned.max(u64::try_from(scanned).map_or(0, |n| if n > 0 { n + 1 } else { 0 }))
}

/// A guest's statement, with what follows from what the authorizer saw of it.
fn guest<'c>(db: &Connection, statement: Statement<'c>, sql: &str, seen: &Seen, limits: &DatabaseLimits) -> rusqlite::Result<Prepared<'c>> {
    let mut entries = 1;
    for (table, change) in &seen.changes {
        entries = entries.max(1 + touched_indexes(db, table, change)?);
    }
    let hazard = if seen.reads > 0 { schema_places(db)? } else { 0 };
    let most = if seen.searches && searches(db, seen)? { limits.value_bytes.min(weight::SEARCH) } else { limits.value_bytes };
    let (value_bytes, holds) = weight::value_bytes(most as usize, sql, seen, hazard);
    let facts = Facts {
        sql: sql.into(),
        columns: statement.column_names().map(str::to_owned).collect(),
        parameters: statement.parameter_count(),
        writes: !statement.readonly() || seen.sets,
        watch: if seen.alters {
            Watch::Names
        } else if !statement.readonly() && (seen.triggers || statement.column_count() > 0) {
            Watch::Halfway
        } else {
            Watch::Nothing
        },
        entries,
        schema: u64::from(seen.schema),
        reads: seen.reads > 0,
        value_bytes: value_bytes as i32,
        holds,
    };
    Ok(Prepared { statement, facts: Arc::new(facts) })
}

/// A statement of ours.
fn ours<'c>(statement: Statement<'c>, sql: &str, limits: &DatabaseLimits) -> Prepared<'c> {
    let facts = Facts {
        sql: sql.into(),
        columns: statement.column_names().map(str::to_owned).collect(),
        parameters: statement.parameter_count(),
        writes: !statement.readonly(),
        watch: Watch::Nothing,
        entries: 1,
        schema: 0,
        reads: true,
        value_bytes: limits.value_bytes as i32,
        holds: 0,
    };
    Prepared { statement, facts: Arc::new(facts) }
}

/// Indexes of a table that such a change writes to, besides the table.
fn touched_indexes(db: &Connection, table: &str, change: &Change) -> rusqlite::Result<u64> {
    let (sql, columns) = match change {
        Change::Delete => return Ok(0),
        Change::Insert => ("SELECT count(*) FROM pragma_index_list(?1) AS l WHERE l.origin <> 'pk' OR NOT ?2", String::new()),
        Change::Update(columns) => (
            "SELECT count(*) FROM pragma_index_list(?1) AS l WHERE (l.origin <> 'pk' OR NOT ?2)
             AND EXISTS (SELECT 1 FROM pragma_index_info(l.name) AS i WHERE instr(?3, '|' || i.name || '|'))",
            format!("|{}|", columns.join("|")),
        ),
    };
    let without_rowid = db
        .prepare("SELECT wr FROM pragma_table_list(?1)")?
        .query_row([table], |row| row.get::<_, bool>(0))
        .or_else(|e| if e == Error::QueryReturnedNoRows { Ok(false) } else { Err(e) })?;
    let mut count = db.prepare(sql)?;
    let indexes: u32 = if columns.is_empty() {
        count.query_row(rusqlite::params![table, without_rowid], |row| row.get(0))
    } else {
        count.query_row(rusqlite::params![table, without_rowid, columns], |row| row.get(0))
    }?;
    Ok(indexes.into())
}

/// Whether a statement may search a full-text table.
fn searches(db: &Connection, seen: &Seen) -> rusqlite::Result<bool> {
    let mut tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL%fts5%'")?;
    let mut rows = tables.query([])?;
    while let Some(row) = rows.next()? {
        if row.get_ref(0)?.as_str().is_ok_and(|name| seen.may_search(name)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Places that make values in the worst part of the schema that a statement can repeat.
fn schema_places(db: &Connection) -> rusqlite::Result<usize> {
    let mut parts =
        db.prepare("SELECT sql FROM sqlite_master WHERE type IN ('view', 'trigger') OR (type = 'table' AND sql LIKE '% AS %(%' AND sql NOT LIKE 'CREATE VIRTUAL%')")?;
    let mut rows = parts.query([])?;
    let mut most = 0;
    while let Some(row) = rows.next()? {
        if let Ok(sql) = row.get_ref(0)?.as_str() {
            most = most.max(weight::places(sql));
        }
    }
    Ok(most)
}

fn refusal(e: Error, seen: &Seen) -> SqlError {
    match &seen.refusal {
        Some(why) if why == NOT_AUTHORIZED => SqlError::Failed(format!("{why}: SQLITE_ERROR")),
        Some(why) if why.starts_with(NOT_AUTHORIZED) || why.starts_with("no such function") => match &e {
            Error::SqlInputError { offset, .. } if *offset >= 0 => SqlError::Failed(format!("{why} at offset {offset}: SQLITE_ERROR")),
            _ => SqlError::Failed(format!("{why}: SQLITE_ERROR")),
        },
        Some(why) => SqlError::refused(why.clone()),
        None => failed(&e),
    }
}

fn failed(e: &Error) -> SqlError {
    SqlError::Failed(text(e))
}

/// SQLite's message with its code, as Durable Objects show them.
pub(super) fn text(e: &Error) -> String {
    match e {
        Error::SqliteFailure(code, message) => coded(code, message.as_deref()),
        Error::SqlInputError { error, msg, offset, .. } if *offset >= 0 => coded(error, Some(&format!("{msg} at offset {offset}"))),
        Error::SqlInputError { error, msg, .. } => coded(error, Some(msg)),
        Error::MultipleStatement => "A prepared SQL statement must contain only one statement.".into(),
        other => format!("{other}: SQLITE_ERROR"),
    }
}

fn coded(code: &ffi::Error, message: Option<&str>) -> String {
    let primary = primary(code.extended_code & 0xff);
    let message = message.map_or_else(|| ffi::code_to_str(code.extended_code).to_owned(), str::to_owned);
    match extended(code.extended_code) {
        Some(extended) => format!("{message}: {primary} (extended: {extended})"),
        None => format!("{message}: {primary}"),
    }
}

fn primary(code: i32) -> &'static str {
    match code {
        ffi::SQLITE_INTERNAL => "SQLITE_INTERNAL",
        ffi::SQLITE_PERM => "SQLITE_PERM",
        ffi::SQLITE_ABORT => "SQLITE_ABORT",
        ffi::SQLITE_BUSY => "SQLITE_BUSY",
        ffi::SQLITE_LOCKED => "SQLITE_LOCKED",
        ffi::SQLITE_NOMEM => "SQLITE_NOMEM",
        ffi::SQLITE_READONLY => "SQLITE_READONLY",
        ffi::SQLITE_INTERRUPT => "SQLITE_INTERRUPT",
        ffi::SQLITE_IOERR => "SQLITE_IOERR",
        ffi::SQLITE_CORRUPT => "SQLITE_CORRUPT",
        ffi::SQLITE_FULL => "SQLITE_FULL",
        ffi::SQLITE_CANTOPEN => "SQLITE_CANTOPEN",
        ffi::SQLITE_SCHEMA => "SQLITE_SCHEMA",
        ffi::SQLITE_TOOBIG => "SQLITE_TOOBIG",
        ffi::SQLITE_CONSTRAINT => "SQLITE_CONSTRAINT",
        ffi::SQLITE_MISMATCH => "SQLITE_MISMATCH",
        ffi::SQLITE_MISUSE => "SQLITE_MISUSE",
        ffi::SQLITE_AUTH => "SQLITE_AUTH",
        ffi::SQLITE_RANGE => "SQLITE_RANGE",
        ffi::SQLITE_NOTADB => "SQLITE_NOTADB",
        _ => "SQLITE_ERROR",
    }
}

fn extended(code: i32) -> Option<&'static str> {
    Some(match code {
        ffi::SQLITE_CONSTRAINT_CHECK => "SQLITE_CONSTRAINT_CHECK",
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "SQLITE_CONSTRAINT_FOREIGNKEY",
        ffi::SQLITE_CONSTRAINT_NOTNULL => "SQLITE_CONSTRAINT_NOTNULL",
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY => "SQLITE_CONSTRAINT_PRIMARYKEY",
        ffi::SQLITE_CONSTRAINT_ROWID => "SQLITE_CONSTRAINT_ROWID",
        ffi::SQLITE_CONSTRAINT_TRIGGER => "SQLITE_CONSTRAINT_TRIGGER",
        ffi::SQLITE_CONSTRAINT_UNIQUE => "SQLITE_CONSTRAINT_UNIQUE",
        ffi::SQLITE_CONSTRAINT_VTAB => "SQLITE_CONSTRAINT_VTAB",
        ffi::SQLITE_CONSTRAINT_DATATYPE => "SQLITE_CONSTRAINT_DATATYPE",
        _ => return None,
    })
}
