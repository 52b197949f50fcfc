//! The directory: a row for every actor of the node, and the last events of each. A summary in `directory.sqlite`: it may be behind the log and
//! says nothing about what is durable; a lost one is filled again from the log as actors are met.
//!
//! Changes are noted in memory and written in batches off the hot path ([`Directory::flush`]), reads see them at once because they flush first.
//! Nothing of an idle actor is in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    io, mem,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use skep_id::ActorId;

use crate::record::Seq;

/// The file in its folder, and what it is called once it is found damaged.
const FILE: &str = "directory.sqlite";
const DAMAGED: &str = "directory.damaged.sqlite";

/// The form of the file; one of another form is refused.
const FORM: i64 = 1;

/// Changes noted before whoever notes the next one writes them itself.
const NOTED_MAX: usize = 16_384;

/// Why the directory cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Its file cannot be opened.
    #[error("{}: {}", .0.display(), .1)]
    File(PathBuf, #[source] io::Error),
    /// SQLite says no.
    #[error("{}: {}", .0.display(), .1)]
    Sqlite(PathBuf, #[source] rusqlite::Error),
    /// Another version of this program wrote it.
    #[error("{}: is of form {found}, this program writes form {FORM}", .path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: i64,
    },
}

impl DirectoryError {
    /// Whether it is for want of room on the disk.
    pub(crate) fn is_full(&self) -> bool {
        self.code() == Some(ErrorCode::DiskFull)
    }

    /// Whether the file holds what SQLite never wrote.
    pub(crate) fn is_damaged(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sqlite(_, error) => error.sqlite_error_code(),
            _ => None,
        }
    }
}

/// What is known of an actor without waking it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Who.
    pub id: ActorId,
    /// `<worker>/<class>`.
    pub namespace: String,
    /// The name its id was made from, where known.
    pub name: Option<String>,
    /// Whose facet it is.
    pub parent: Option<ActorId>,
    /// When it was first met, ms since the epoch of Unix.
    pub created_ms: u64,
    /// When it was last awake, ms since the epoch of Unix.
    pub active_ms: u64,
    /// Size of its database as of then, in bytes.
    pub database_bytes: u64,
    /// The place of its last checkpoint.
    pub checkpoint: Option<Seq>,
    /// When it is to be woken next, ms since the epoch of Unix; at or before its earliest alarm or timer.
    pub wake_ms: Option<u64>,
    /// Code and image it ran on last.
    pub code: Option<String>,
}

/// What happened to an actor that its owner may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When, ms since the epoch of Unix.
    pub time_ms: u64,
    /// What, in a word: see [`What`].
    pub what: What,
    /// Why.
    pub why: String,
}

/// The kinds of [`Told`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It began.
    Created,
    /// It woke with its heap.
    Woken,
    /// Its constructor ran; why there was no heap to wake.
    Constructed,
    /// It did not start.
    NotStarted,
    /// It was written down and put to sleep.
    Slept,
    /// It was ended: a limit, `abort`, a commit that failed.
    Ended,
    /// A checkpoint could not be written.
    NoCheckpoint,
    /// An alarm was given up after its last retry.
    AlarmGivenUp,
    /// It began as a copy of another.
    Forked,
    /// It was brought back to an earlier place.
    Rewound,
    /// Its code was replaced.
    Updated,
}

impl What {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Created, "created"),
        (Self::Woken, "woken"),
        (Self::Constructed, "constructed"),
        (Self::NotStarted, "not-started"),
        (Self::Slept, "slept"),
        (Self::Ended, "ended"),
        (Self::NoCheckpoint, "no-checkpoint"),
        (Self::AlarmGivenUp, "alarm-given-up"),
        (Self::Forked, "forked"),
        (Self::Rewound, "rewound"),
        (Self::Updated, "updated"),
    ];

    fn text(self) -> &'static str {
        Self::ALL.iter().find(|(what, _)| *what == self).map_or("", |(_, text)| text)
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, t)| *t == text).map(|(what, _)| *what)
    }
}

/// A change of one row. Absent fields stay as they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    /// Makes the row if it is not there: namespace, name, parent, time.
    pub(crate) met: Option<(String, Option<String>, Option<ActorId>, u64)>,
    pub(crate) active_ms: Option<u64>,
    pub(crate) database_bytes: Option<u64>,
    pub(crate) checkpoint: Option<Option<Seq>>,
    pub(crate) wake_ms: Option<Option<u64>>,
    pub(crate) code: Option<String>,
    pub(crate) told: Vec<Told>,
    /// The row goes, with its events; what is noted after it begins anew.
    pub(crate) gone: bool,
}

impl Change {
    /// What makes a row as it is.
    fn of(row: Entry) -> Self {
        Self {
            met: Some((row.namespace, row.name, row.parent, row.created_ms)),
            active_ms: Some(row.active_ms),
            database_bytes: Some(row.database_bytes),
            checkpoint: Some(row.checkpoint),
            wake_ms: Some(row.wake_ms),
            code: row.code,
            told: Vec::new(),
            gone: false,
        }
    }

    fn merge(&mut self, later: Self) {
        if later.gone {
            *self = later;
            return;
        }
        // The first meeting stands, unless a later one knows the name.
        match (&mut self.met, later.met) {
            (Some((_, name, parent, _)), Some((_, later_name, later_parent, _))) => {
                *name = name.take().or(later_name);
                *parent = parent.take().or(later_parent);
            }
            (met @ None, later) => *met = later,
            (Some(_), None) => {}
        }
        self.active_ms = later.active_ms.or(self.active_ms);
        self.database_bytes = later.database_bytes.or(self.database_bytes);
        self.checkpoint = later.checkpoint.or(self.checkpoint);
        self.wake_ms = later.wake_ms.or(self.wake_ms);
        self.code = later.code.or(self.code.take());
        self.told.extend(later.told);
    }
}

impl Change {
    /// The row as it is when this is written.
    fn upon(&self, id: ActorId, row: Option<Entry>) -> Option<Entry> {
        let met = self.met.as_ref().map(|(namespace, name, parent, now)| Entry {
            id,
            namespace: namespace.clone(),
            name: name.clone(),
            parent: *parent,
            created_ms: *now,
            active_ms: *now,
            database_bytes: 0,
            checkpoint: None,
            wake_ms: None,
            code: None,
        });
        let row = match (row.filter(|_| !self.gone), met) {
            (Some(row), Some(met)) => Entry { name: row.name.or(met.name), parent: row.parent.or(met.parent), ..row },
            (row, met) => row.or(met)?,
        };
        Some(Entry {
            active_ms: self.active_ms.unwrap_or(row.active_ms),
            database_bytes: self.database_bytes.unwrap_or(row.database_bytes),
            checkpoint: self.checkpoint.unwrap_or(row.checkpoint),
            wake_ms: self.wake_ms.unwrap_or(row.wake_ms),
            code: self.code.clone().or(row.code),
            ..row
        })
    }
}

/// Which actors a list is of.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Namespaces that begin so; empty: all.
    pub namespace_prefix: String,
    /// Names that begin so; empty: all, those without a name as well.
    pub name_prefix: String,
    /// Facets of this actor; `None`: actors that are nobody's facet.
    pub parent: Option<ActorId>,
    /// After this one: the last of the page before.
    pub after: Option<ActorId>,
    /// At most so many; 1 to 1,000.
    pub most: usize,
}

/// All rows.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// For single rows: who asks for one does not wait for a batch to be written. Before `db`, which is then closed last and brings all into one file.
    reader: Mutex<Connection>,
    db: Mutex<Connection>,
    noted: Mutex<Noted>,
    events_each: u32,
    /// It was made when it was opened.
    new: bool,
}

/// Changes that may not be in the file.
#[derive(Debug, Default)]
struct Noted {
    /// For the next batch.
    next: BTreeMap<ActorId, Change>,
    /// The batch that is being written.
    writing: Arc<BTreeMap<ActorId, Change>>,
}

impl Directory {
    /// Opens `directory.sqlite` in a folder, or makes it.
    ///
    /// # Errors
    /// When the file cannot be opened, or is none of this program's.
    pub fn open(dir: &Path, events_each: u32) -> Result<Self, DirectoryError> {
        let path = dir.join(FILE);
        let db = Connection::open(&path).map_err(|e| DirectoryError::Sqlite(path.clone(), e))?;
        let new = Self::prepare(&db, &path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&path, flags).map_err(|e| DirectoryError::Sqlite(path.clone(), e))?;
        Ok(Self { path, db: Mutex::new(db), reader: Mutex::new(reader), noted: Mutex::default(), events_each, new })
    }

    /// Whether there was none before it was opened: then it knows nobody yet.
    pub(crate) fn is_new(&self) -> bool {
        self.new
    }

    /// Makes a damaged file anew, from the rows of it that can be read; the damaged one stays beside it as `directory.damaged.sqlite`. What was
    /// wrong with it; `None`: it is sound, or there is none, and nothing was done. Not while it is open.
    ///
    /// # Errors
    /// When files cannot be read, named or written. What was put aside by then is not taken back: the next start makes the file anew.
    pub fn heal(dir: &Path, events_each: u32) -> Result<Option<String>, DirectoryError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let why = match Self::open(dir, events_each).and_then(|directory| directory.check()) {
            Ok((_, words)) if words.is_empty() => return Ok(None),
            Ok((_, words)) => format!("{}: {}", path.display(), words.join("; ")),
            Err(error) if error.is_damaged() => error.to_string(),
            Err(error) => return Err(error),
        };
        for suffix in ["-wal", "-shm", ""] {
            let (from, to) = (dir.join(format!("{FILE}{suffix}")), dir.join(format!("{DAMAGED}{suffix}")));
            match std::fs::rename(&from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(DirectoryError::File(from, error)),
                _ => {}
            }
        }
        let anew = Self::open(dir, events_each)?;
        let rows = readable(&dir.join(DAMAGED));
        let kept = rows.len();
        for (actor, row) in rows {
            anew.note(actor, row)?;
        }
        anew.flush()?;
        Ok(Some(format!("{why}; made anew, with the {kept} rows that could be read")))
    }

    /// Opens the tables of a file, or makes them: whether they were made.
    fn prepare(db: &Connection, path: &Path) -> Result<bool, DirectoryError> {
        let sqlite = |e| DirectoryError::Sqlite(path.to_owned(), e);
        db.pragma_update(None, "journal_mode", "WAL").map_err(sqlite)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(sqlite)?;
        let form: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
        match form {
            FORM => Ok(false),
            0 => db.execute_batch(SCHEMA).map(|()| true).map_err(sqlite),
            found => Err(DirectoryError::Form { path: path.to_owned(), found }),
        }
    }

    /// Notes a change; it is written with the next batch.
    ///
    /// # Errors
    /// When so much is noted that it is written at once, and that fails.
    pub(crate) fn note(&self, actor: ActorId, change: Change) -> Result<(), DirectoryError> {
        let full = {
            let mut noted = self.noted.lock();
            noted.next.entry(actor).or_default().merge(change);
            noted.next.len() >= NOTED_MAX
        };
        if full { self.flush() } else { Ok(()) }
    }

    /// Writes what was noted, durably.
    ///
    /// # Errors
    /// When SQLite says no; what was noted is kept for the next time.
    pub fn flush(&self) -> Result<(), DirectoryError> {
        let mut db = self.db.lock();
        self.write_noted(&mut db)
    }

    fn write_noted(&self, db: &mut Connection) -> Result<(), DirectoryError> {
        let batch = {
            let mut noted = self.noted.lock();
            noted.writing = Arc::new(mem::take(&mut noted.next));
            noted.writing.clone()
        };
        if batch.is_empty() {
            return Ok(());
        }
        let written = write_batch(db, &batch, self.events_each);
        let mut noted = self.noted.lock();
        noted.writing = Arc::default();
        if written.is_err() {
            for (actor, mut change) in Arc::unwrap_or_clone(batch) {
                if let Some(later) = noted.next.remove(&actor) {
                    change.merge(later);
                }
                noted.next.insert(actor, change);
            }
        }
        drop(noted);
        written.map_err(|e| DirectoryError::Sqlite(self.path.clone(), e))
    }

    /// Reads as of now.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, DirectoryError> {
        let mut db = self.db.lock();
        self.write_noted(&mut db)?;
        self.read_from(&db, read)
    }

    fn read_from<T>(&self, db: &Connection, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, DirectoryError> {
        read(db).map_err(|e| DirectoryError::Sqlite(self.path.clone(), e))
    }

    /// One actor's row, with what is noted of it. Nothing is written for it, and no batch that is being written is waited for: a storm of alarms
    /// asks for many.
    ///
    /// # Errors
    /// When SQLite says no.
    pub fn get(&self, actor: ActorId) -> Result<Option<Entry>, DirectoryError> {
        // Before the row: a batch that is written meanwhile is in both, and changes nothing the second time.
        let changes = {
            let noted = self.noted.lock();
            [noted.writing.get(&actor).cloned(), noted.next.get(&actor).cloned()]
        };
        let db = self.reader.lock();
        let query = format!("SELECT {COLUMNS} FROM actor WHERE id = ?1");
        let row = db.prepare_cached(&query).and_then(|mut query| query.query_row([actor.bytes()], entry).optional());
        let row = row.map_err(|e| DirectoryError::Sqlite(self.path.clone(), e))?;
        Ok(changes.into_iter().flatten().fold(row, |row, change| change.upon(actor, row)))
    }

    /// A page of rows in the order of their ids.
    ///
    /// # Errors
    /// When SQLite says no.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Entry>, DirectoryError> {
        self.read(|db| {
            let mut query = db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM actor WHERE id > ?1 AND substr(namespace, 1, length(?2)) = ?2
                 AND (?3 = '' OR substr(name, 1, length(?3)) = ?3) AND parent IS ?4 ORDER BY id LIMIT ?5"
            ))?;
            let after = filter.after.map_or_else(Vec::new, |id| id.bytes().to_vec());
            let parent = filter.parent.map(|id| id.bytes().to_vec());
            let most = filter.most.clamp(1, 1_000) as i64;
            query.query_map(params![after, filter.namespace_prefix, filter.name_prefix, parent, most], entry)?.collect()
        })
    }

    /// The facets of an actor, and theirs, parents before children; at most `most`. Nothing is written for it unless a facet has only been noted: who
    /// forks asks for the family of those that have none.
    ///
    /// # Errors
    /// When SQLite says no.
    pub fn family(&self, actor: ActorId, most: usize) -> Result<Vec<Entry>, DirectoryError> {
        let mut db = self.db.lock();
        let noted = |change: &Change| change.gone || change.met.as_ref().is_some_and(|(_, _, parent, _)| parent.is_some());
        if self.noted.lock().next.values().any(noted) {
            self.write_noted(&mut db)?;
        }
        self.read_from(&db, |db| {
            let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM actor WHERE parent = ?1 ORDER BY id"))?;
            let (mut found, mut todo) = (Vec::new(), VecDeque::from([actor]));
            while let Some(parent) = todo.pop_front() {
                for row in query.query_map([parent.bytes()], entry)? {
                    let row = row?;
                    todo.push_back(row.id);
                    found.push(row);
                    if found.len() >= most {
                        return Ok(found);
                    }
                }
            }
            Ok(found)
        })
    }

    /// Wake-ups from a place of the index on and before `until_ms`, the earliest first, at most `most`.
    ///
    /// # Errors
    /// When SQLite says no.
    pub(crate) fn wakes(&self, from: (u64, ActorId), until_ms: u64, most: usize) -> Result<Vec<(u64, ActorId)>, DirectoryError> {
        self.read(|db| {
            let mut query = db.prepare_cached(
                "SELECT wake_ms, id FROM actor WHERE wake_ms IS NOT NULL AND (wake_ms, id) >= (?1, ?2) AND wake_ms < ?3
                 ORDER BY wake_ms, id LIMIT ?4",
            )?;
            let from = (int(from.0), from.1);
            let rows =
                query.query_map(params![from.0, from.1.bytes(), int(until_ms), most as i64], |row| Ok((uint(row, 0)?, id_at(row, 1)?)))?;
            rows.collect()
        })
    }

    /// All actors that have a row.
    ///
    /// # Errors
    /// When SQLite says no.
    pub(crate) fn ids(&self) -> Result<Vec<ActorId>, DirectoryError> {
        self.read(|db| db.prepare("SELECT id FROM actor ORDER BY id")?.query_map([], |row| id_at(row, 0))?.collect())
    }

    /// What happened to an actor, the latest first.
    ///
    /// # Errors
    /// When SQLite says no.
    pub fn told(&self, actor: ActorId) -> Result<Vec<Told>, DirectoryError> {
        self.read(|db| {
            let mut query = db.prepare_cached("SELECT time_ms, what, why FROM told WHERE actor = ?1 ORDER BY n DESC")?;
            let rows = query.query_map([actor.bytes()], |row| {
                let what: String = row.get(1)?;
                Ok((uint(row, 0)?, What::from_text(&what), row.get(2)?))
            })?;
            rows.filter_map(|row| match row {
                Ok((time_ms, what, why)) => what.map(|what| Ok(Told { time_ms, what, why })),
                Err(e) => Some(Err(e)),
            })
            .collect()
        })
    }

    /// How many rows there are, and SQLite's own word on the file: empty when it is sound.
    ///
    /// # Errors
    /// When SQLite says no.
    pub fn check(&self) -> Result<(u64, Vec<String>), DirectoryError> {
        self.read(|db| {
            let rows = db.query_row("SELECT count(*) FROM actor", [], |row| uint(row, 0))?;
            let mut query = db.prepare("PRAGMA quick_check(20)")?;
            let words: Vec<String> = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            Ok((rows, words.into_iter().filter(|word| word != "ok").collect()))
        })
    }
}

const SCHEMA: &str = "BEGIN;
    CREATE TABLE actor (id BLOB PRIMARY KEY, namespace TEXT NOT NULL, name TEXT, parent BLOB, created_ms INTEGER NOT NULL,
        active_ms INTEGER NOT NULL, database_bytes INTEGER NOT NULL DEFAULT 0, checkpoint INTEGER, wake_ms INTEGER, code TEXT) WITHOUT ROWID;
    CREATE INDEX actor_wake ON actor (wake_ms, id) WHERE wake_ms IS NOT NULL;
    CREATE INDEX actor_parent ON actor (parent, id) WHERE parent IS NOT NULL;
    CREATE TABLE told (actor BLOB NOT NULL, n INTEGER NOT NULL, time_ms INTEGER NOT NULL, what TEXT NOT NULL, why TEXT NOT NULL,
        PRIMARY KEY (actor, n)) WITHOUT ROWID;
    PRAGMA user_version = 1;
    COMMIT";

const COLUMNS: &str = "id, namespace, name, parent, created_ms, active_ms, database_bytes, checkpoint, wake_ms, code";

/// The rows of a damaged file that can be read: from both ends, each up to what is damaged.
fn readable(path: &Path) -> BTreeMap<ActorId, Change> {
    let mut found = BTreeMap::new();
    let Ok(db) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return found };
    for order in ["ASC", "DESC"] {
        let Ok(mut query) = db.prepare(&format!("SELECT {COLUMNS} FROM actor ORDER BY id {order}")) else { continue };
        let Ok(rows) = query.query_map([], entry) else { continue };
        found.extend(rows.map_while(Result::ok).map(|row| (row.id, Change::of(row))));
    }
    found
}

/// The longest reason that is kept, in bytes: guests write them.
const WHY_MAX: usize = 2_000;

fn write_batch(db: &mut Connection, batch: &BTreeMap<ActorId, Change>, events_each: u32) -> rusqlite::Result<()> {
    let tx = db.transaction()?;
    for (actor, change) in batch {
        let id = actor.bytes();
        if change.gone {
            tx.prepare_cached("DELETE FROM actor WHERE id = ?1")?.execute([id])?;
            tx.prepare_cached("DELETE FROM told WHERE actor = ?1")?.execute([id])?;
        }
        if let Some((namespace, name, parent, now)) = &change.met {
            // Most actors were met before, with their name.
            tx.prepare_cached(
                "INSERT INTO actor (id, namespace, name, parent, created_ms, active_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
                 ON CONFLICT (id) DO UPDATE SET name = coalesce(name, excluded.name), parent = coalesce(parent, excluded.parent)
                 WHERE (name IS NULL AND excluded.name IS NOT NULL) OR (parent IS NULL AND excluded.parent IS NOT NULL)",
            )?
            .execute(params![id, namespace, name, parent.map(|p| p.bytes().to_vec()), int(*now)])?;
        }
        tx.prepare_cached(
            "UPDATE actor SET active_ms = coalesce(?2, active_ms), database_bytes = coalesce(?3, database_bytes),
             checkpoint = iif(?4, ?5, checkpoint), wake_ms = iif(?6, ?7, wake_ms), code = coalesce(?8, code) WHERE id = ?1",
        )?
        .execute(params![
            id,
            change.active_ms.map(int),
            change.database_bytes.map(int),
            change.checkpoint.is_some(),
            change.checkpoint.flatten().map(|seq| int(seq.0)),
            change.wake_ms.is_some(),
            change.wake_ms.flatten().map(int),
            change.code,
        ])?;
        write_told(&tx, id, &change.told, events_each)?;
    }
    tx.commit()
}

/// Appends to an actor's ring of events.
fn write_told(tx: &rusqlite::Transaction<'_>, id: &[u8; 32], told: &[Told], events_each: u32) -> rusqlite::Result<()> {
    if told.is_empty() {
        return Ok(());
    }
    let newest = |row: &Row<'_>| row.get::<_, Option<i64>>(0);
    let mut n = tx.prepare_cached("SELECT max(n) FROM told WHERE actor = ?1")?.query_row([id], newest)?.unwrap_or(0);
    for told in told {
        n += 1;
        tx.prepare_cached("INSERT INTO told (actor, n, time_ms, what, why) VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
            id,
            n,
            int(told.time_ms),
            told.what.text(),
            short(&told.why)
        ])?;
    }
    let gone = n - i64::from(events_each);
    if gone > 0 {
        tx.prepare_cached("DELETE FROM told WHERE actor = ?1 AND n <= ?2")?.execute(params![id, gone])?;
    }
    Ok(())
}

fn short(text: &str) -> &str {
    if text.len() <= WHY_MAX {
        return text;
    }
    let end = (0..=WHY_MAX).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    &text[..end]
}

/// Times of guests may be anything; SQLite's integers are signed.
fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn uint(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.max(0) as u64)
}

fn id_at(row: &Row<'_>, column: usize) -> rusqlite::Result<ActorId> {
    row.get::<_, [u8; 32]>(column).map(ActorId::new)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let optional = |column| row.get::<_, Option<i64>>(column).map(|n| n.map(|n| n.max(0) as u64));
    Ok(Entry {
        id: id_at(row, 0)?,
        namespace: row.get(1)?,
        name: row.get(2)?,
        parent: row.get::<_, Option<[u8; 32]>>(3)?.map(ActorId::new),
        created_ms: uint(row, 4)?,
        active_ms: uint(row, 5)?,
        database_bytes: uint(row, 6)?,
        checkpoint: optional(7)?.map(Seq),
        wake_ms: optional(8)?,
        code: row.get(9)?,
    })
}

#[cfg(test)]
#[path = "directory/tests.rs"]
mod tests;
