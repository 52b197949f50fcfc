//! What is deployed, kept so that a crash at any instant leaves either the old version or the new one.
//!
//! Modules are files named by their SHA-256; versions are rows that refer to them. The order makes it safe: first the files, each
//! written aside, flushed, renamed, and its folder flushed; then one transaction that adds the version and points the worker
//! at it. A crash before the commit leaves files that nobody refers to, which the next start sweeps away.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skep_bundle::{Kind, Module, Modules};
use skep_id::{VersionId, WorkerName};

use skep_isolate::LimitsAsked;

use crate::{Binding, Code};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS worker (
        name TEXT PRIMARY KEY,
        -- The row of the active version; NULL: deleted. The row stays, so that numbers are not used twice.
        active INTEGER REFERENCES version(id),
        previous INTEGER,
        active_since INTEGER NOT NULL,
        last_number INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS version (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        worker TEXT NOT NULL REFERENCES worker(name),
        number INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        hash TEXT NOT NULL,
        size INTEGER NOT NULL,
        message TEXT,
        manifest TEXT NOT NULL,
        UNIQUE (worker, number)
    ) STRICT;
";

/// Why the store has no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No worker of that name is deployed.
    #[error("there is no worker {0}")]
    NoWorker(WorkerName),
    /// The worker has no such version, or no earlier one.
    #[error("worker {0} has no {1}")]
    NoVersion(WorkerName, String),
    /// The database failed.
    #[error("the database of workers failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// The disk failed.
    #[error("the folder of modules failed: {0}")]
    Files(#[from] io::Error),
    /// A file or row is not what was written.
    #[error("{0} is damaged: {1}")]
    Damaged(String, &'static str),
}

/// A version as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// The row; never used twice, so it names a version for the life of the data folder.
    pub id: i64,
    /// The worker.
    pub worker: WorkerName,
    /// Its number.
    pub version: VersionId,
    /// Whether it answers.
    pub active: bool,
    /// ms since the epoch.
    pub created_at: i64,
    /// ms since the epoch; of the worker's last switch.
    pub active_since: i64,
    /// The key that deployed it.
    pub created_by: String,
    /// Hash of the manifest.
    pub hash: String,
    /// Bytes of all modules.
    pub size: u64,
    /// A remark.
    pub message: Option<String>,
}

/// What goes with a new version.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Who deploys.
    pub by: String,
    /// A remark.
    pub message: Option<String>,
    /// When, ms since the epoch.
    pub at: i64,
    /// Versions of the worker that are kept.
    pub keep: u32,
}

/// A version on disk, modules by hash.
#[derive(Serialize, Deserialize)]
struct Manifest {
    main: String,
    modules: BTreeMap<String, ManifestModule>,
    bindings: BTreeMap<String, Binding>,
    limits: LimitsAsked,
    compatibility_date: Option<String>,
    compatibility_flags: Vec<String>,
    network: bool,
}

#[derive(Serialize, Deserialize)]
struct ManifestModule {
    kind: String,
    hash: String,
    source_map: Option<String>,
}

/// The store. Writers take turns; readers of modules need no lock.
pub struct Store {
    database: Mutex<Connection>,
    modules: PathBuf,
    /// Held from the first file of a deploy to its commit, and by the sweep: else the sweep would take files whose row is to come.
    writing: Mutex<()>,
}

impl Store {
    /// Opens the store in `data`, or makes it, and sweeps away what a crash left.
    ///
    /// # Errors
    /// When the folder or the database cannot be used.
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        let modules = data.join("modules");
        fs::create_dir_all(&modules)?;
        let database = Connection::open(data.join("workers.sqlite"))?;
        database.busy_timeout(Duration::from_secs(5))?;
        database.pragma_update(None, "journal_mode", "WAL")?;
        database.pragma_update(None, "synchronous", "FULL")?;
        database.pragma_update(None, "foreign_keys", true)?;
        database.execute_batch(SCHEMA)?;
        let store = Self { database: Mutex::new(database), modules, writing: Mutex::new(()) };
        store.sweep()?;
        Ok(store)
    }

    /// Adds a version and makes it the active one. The same code as the active version's adds nothing; then the flag is false.
    ///
    /// # Errors
    /// When the disk or the database fails; then the former version stays active.
    pub fn deploy(&self, worker: &WorkerName, code: &Code, deployment: &Deployment) -> Result<(VersionRow, bool), StoreError> {
        let _turn = self.writing.lock();
        let manifest = self.write_modules(code)?;
        let text = serde_json::to_string(&manifest).map_err(|_| StoreError::Damaged(worker.to_string(), "no manifest"))?;
        let hash = hex(&Sha256::digest(text.as_bytes()));
        let mut database = self.database.lock();
        let change = database.transaction()?;
        if let Some(active) = active(&change, worker)?
            && active.hash == hash
        {
            return Ok((active, false));
        }
        change.execute(
            "INSERT INTO worker (name, active_since, last_number) VALUES (?1, ?2, 1)
             ON CONFLICT (name) DO UPDATE SET last_number = last_number + 1",
            params![worker.as_str(), deployment.at],
        )?;
        change.execute(
            "INSERT INTO version (worker, number, created_at, created_by, hash, size, message, manifest)
             VALUES (?1, (SELECT last_number FROM worker WHERE name = ?1), ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                worker.as_str(),
                deployment.at,
                deployment.by,
                hash,
                i64::try_from(code.modules.size()).unwrap_or(i64::MAX),
                deployment.message,
                text
            ],
        )?;
        let id = change.last_insert_rowid();
        activate(&change, worker, id, deployment.at)?;
        prune(&change, worker, deployment.keep)?;
        let row = active(&change, worker)?.ok_or_else(|| StoreError::NoWorker(worker.clone()))?;
        change.commit()?;
        Ok((row, true))
    }

    /// Makes an earlier version the active one: the named one, or the one that was active before.
    ///
    /// # Errors
    /// When there is no such worker or version.
    pub fn rollback(&self, worker: &WorkerName, to: Option<VersionId>, at: i64) -> Result<VersionRow, StoreError> {
        let mut database = self.database.lock();
        let change = database.transaction()?;
        let current = active(&change, worker)?.ok_or_else(|| StoreError::NoWorker(worker.clone()))?;
        let id: Option<i64> = match to {
            Some(version) => change
                .query_row("SELECT id FROM version WHERE worker = ? AND number = ?", params![worker.as_str(), version.number()], |row| {
                    row.get(0)
                })
                .optional()?,
            None => change
                .query_row("SELECT v.id FROM worker w JOIN version v ON v.id = w.previous WHERE w.name = ?", [worker.as_str()], |row| {
                    row.get(0)
                })
                .optional()?,
        };
        let wanted = to.map_or_else(|| "earlier version".to_owned(), |version| format!("version {version}"));
        let id = id.ok_or_else(|| StoreError::NoVersion(worker.clone(), wanted))?;
        if id == current.id {
            return Ok(current);
        }
        activate(&change, worker, id, at)?;
        let row = active(&change, worker)?.ok_or_else(|| StoreError::NoWorker(worker.clone()))?;
        change.commit()?;
        Ok(row)
    }

    /// Deletes a worker and all its versions.
    ///
    /// # Errors
    /// When there is no such worker.
    pub fn delete(&self, worker: &WorkerName) -> Result<(), StoreError> {
        {
            let mut database = self.database.lock();
            let change = database.transaction()?;
            let sql = "UPDATE worker SET active = NULL, previous = NULL WHERE name = ? AND active IS NOT NULL";
            if change.execute(sql, [worker.as_str()])? == 0 {
                return Err(StoreError::NoWorker(worker.clone()));
            }
            change.execute("DELETE FROM version WHERE worker = ?", [worker.as_str()])?;
            change.commit()?;
        }
        self.sweep()
    }

    /// The active version of every worker, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub fn active(&self) -> Result<Vec<VersionRow>, StoreError> {
        let database = self.database.lock();
        let mut query = database.prepare_cached(&format!("{SELECT} WHERE w.active = v.id ORDER BY w.name"))?;
        let rows = query.query_map([], version_of)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// All versions of a worker, newest first.
    ///
    /// # Errors
    /// When there is no such worker.
    pub fn versions(&self, worker: &WorkerName) -> Result<Vec<VersionRow>, StoreError> {
        let database = self.database.lock();
        let mut query = database.prepare_cached(&format!("{SELECT} WHERE v.worker = ? ORDER BY v.number DESC"))?;
        let rows = query.query_map([worker.as_str()], version_of)?.collect::<Result<Vec<_>, _>>()?;
        if rows.is_empty() { Err(StoreError::NoWorker(worker.clone())) } else { Ok(rows) }
    }

    /// The code of a version, each module checked against its hash.
    ///
    /// # Errors
    /// When the version is gone or a file is damaged.
    pub fn code(&self, version: &VersionRow) -> Result<Code, StoreError> {
        let text: Option<String> =
            self.database.lock().query_row("SELECT manifest FROM version WHERE id = ?", [version.id], |row| row.get(0)).optional()?;
        let gone = || StoreError::NoVersion(version.worker.clone(), format!("version {}", version.version));
        let text = text.ok_or_else(gone)?;
        let manifest: Manifest = serde_json::from_str(&text)
            .map_err(|_| StoreError::Damaged(format!("{} {}", version.worker, version.version), "the manifest does not parse"))?;
        let mut modules = BTreeMap::new();
        for (name, module) in manifest.modules {
            let kind = Kind::from_word(&module.kind).ok_or_else(|| StoreError::Damaged(name.clone(), "unknown kind"))?;
            let bytes = self.read_module(&module.hash)?;
            let source_map = match &module.source_map {
                Some(hash) => String::from_utf8(self.read_module(hash)?).ok(),
                None => None,
            };
            modules.insert(name, Module { kind, bytes, source_map });
        }
        Ok(Code {
            modules: Modules { main: manifest.main, modules },
            bindings: manifest.bindings,
            limits: manifest.limits,
            compatibility_date: manifest.compatibility_date,
            compatibility_flags: manifest.compatibility_flags,
            network: manifest.network,
        })
    }

    fn write_modules(&self, code: &Code) -> Result<Manifest, StoreError> {
        let mut modules = BTreeMap::new();
        for (name, module) in &code.modules.modules {
            let hash = self.write_module(&module.bytes)?;
            let source_map = module.source_map.as_ref().map(|map| self.write_module(map.as_bytes())).transpose()?;
            modules.insert(name.clone(), ManifestModule { kind: module.kind.as_str().to_owned(), hash, source_map });
        }
        Ok(Manifest {
            main: code.modules.main.clone(),
            modules,
            bindings: code.bindings.clone(),
            limits: code.limits,
            compatibility_date: code.compatibility_date.clone(),
            compatibility_flags: code.compatibility_flags.clone(),
            network: code.network,
        })
    }

    fn write_module(&self, bytes: &[u8]) -> Result<String, StoreError> {
        let hash = hex(&Sha256::digest(bytes));
        let path = self.module_path(&hash);
        // A file under its final name was flushed before it got the name.
        if path.exists() {
            return Ok(hash);
        }
        let folder = self.modules.join(&hash[..2]);
        if !folder.exists() {
            fs::create_dir(&folder)?;
            File::open(&self.modules)?.sync_all()?;
        }
        let aside = folder.join(format!("{hash}.new"));
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(&folder)?.sync_all()?;
        Ok(hash)
    }

    fn read_module(&self, hash: &str) -> Result<Vec<u8>, StoreError> {
        let bytes = fs::read(self.module_path(hash))?;
        if hex(&Sha256::digest(&bytes)) == hash {
            Ok(bytes)
        } else {
            Err(StoreError::Damaged(format!("module {hash}"), "its content is not what its name says"))
        }
    }

    fn module_path(&self, hash: &str) -> PathBuf {
        self.modules.join(hash.get(..2).unwrap_or_default()).join(hash)
    }

    /// Deletes files that no version refers to.
    fn sweep(&self) -> Result<(), StoreError> {
        let _turn = self.writing.lock();
        let referred = self.referred()?;
        for folder in fs::read_dir(&self.modules)? {
            let folder = folder?.path();
            if !folder.is_dir() {
                continue;
            }
            for file in fs::read_dir(folder)? {
                let file = file?;
                if !referred.contains(&*file.file_name().to_string_lossy()) {
                    fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }

    fn referred(&self) -> Result<HashSet<String>, StoreError> {
        let database = self.database.lock();
        let mut query = database.prepare("SELECT manifest FROM version")?;
        let mut rows = query.query([])?;
        let mut referred = HashSet::new();
        while let Some(row) = rows.next()? {
            let text: String = row.get(0)?;
            let manifest: Manifest =
                serde_json::from_str(&text).map_err(|_| StoreError::Damaged("a version".to_owned(), "the manifest does not parse"))?;
            for module in manifest.modules.into_values() {
                referred.insert(module.hash);
                referred.extend(module.source_map);
            }
        }
        Ok(referred)
    }
}

const SELECT: &str = "SELECT v.id, v.worker, v.number, w.active = v.id, v.created_at, w.active_since, v.created_by, v.hash, v.size,
    v.message FROM version v JOIN worker w ON w.name = v.worker";

fn version_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<VersionRow> {
    let worker: String = row.get(1)?;
    let worker = worker
        .parse()
        .map_err(|error: skep_id::ParseError| rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error)))?;
    Ok(VersionRow {
        id: row.get(0)?,
        worker,
        version: VersionId::new(row.get(2)?),
        active: row.get::<_, Option<bool>>(3)?.unwrap_or_default(),
        created_at: row.get(4)?,
        active_since: row.get(5)?,
        created_by: row.get(6)?,
        hash: row.get(7)?,
        size: row.get::<_, i64>(8)?.unsigned_abs(),
        message: row.get(9)?,
    })
}

fn active(change: &Transaction<'_>, worker: &WorkerName) -> rusqlite::Result<Option<VersionRow>> {
    change.prepare_cached(&format!("{SELECT} WHERE w.name = ? AND w.active = v.id"))?.query_row([worker.as_str()], version_of).optional()
}

fn activate(change: &Transaction<'_>, worker: &WorkerName, id: i64, at: i64) -> rusqlite::Result<()> {
    change.execute("UPDATE worker SET previous = active, active = ?, active_since = ? WHERE name = ?", params![id, at, worker.as_str()])?;
    Ok(())
}

/// Drops the oldest versions beyond `keep`; never the active one nor the one before it. Their files go with the next sweep.
fn prune(change: &Transaction<'_>, worker: &WorkerName, keep: u32) -> rusqlite::Result<()> {
    change.execute(
        "DELETE FROM version WHERE worker = ?1
           AND id NOT IN (SELECT id FROM version WHERE worker = ?1 ORDER BY id DESC LIMIT ?2)
           AND id NOT IN (SELECT active FROM worker WHERE name = ?1 UNION SELECT coalesce(previous, 0) FROM worker WHERE name = ?1)",
        params![worker.as_str(), keep],
    )?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
