//! The rows of sandboxes, in SQLite. A row is durable when its function returns.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use skep_id::SandboxId;
use skep_sandbox::SnapshotId;

use super::{Facts, SandboxesError, Setup, Template, uploads::Upload};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS sandbox (
        id TEXT PRIMARY KEY,
        -- JSON of `Facts`; it holds tokens.
        facts TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS snapshot (id TEXT PRIMARY KEY, owner TEXT NOT NULL) STRICT, WITHOUT ROWID;
    -- JSON of `Setup`, of snapshots whose sandboxes had one.
    CREATE TABLE IF NOT EXISTS snapshot_setup (id TEXT PRIMARY KEY, setup TEXT NOT NULL) STRICT, WITHOUT ROWID;
    -- JSON of `Template`.
    CREATE TABLE IF NOT EXISTS template (id TEXT PRIMARY KEY, template TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS upload (
        owner TEXT NOT NULL, hash TEXT NOT NULL, digest TEXT NOT NULL, bytes INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY (owner, hash)
    ) STRICT, WITHOUT ROWID;
";

pub(super) struct Records {
    database: Mutex<Connection>,
}

impl Records {
    /// Opens the file, or makes it, readable by its owner only.
    pub fn open(file: &Path) -> Result<Self, SandboxesError> {
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(file)?;
        fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
        let database = Connection::open(file)?;
        database.busy_timeout(Duration::from_secs(5))?;
        database.pragma_update(None, "journal_mode", "WAL")?;
        database.pragma_update(None, "synchronous", "FULL")?;
        database.execute_batch(SCHEMA)?;
        Ok(Self { database: Mutex::new(database) })
    }

    /// All rows that can be read; one that cannot is of no use to anybody, and its sandbox is taken for nobody's.
    pub fn all(&self) -> rusqlite::Result<Vec<(SandboxId, Facts)>> {
        let database = self.database.lock();
        let mut query = database.prepare("SELECT id, facts FROM sandbox")?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        let mut all = Vec::new();
        for row in rows {
            let (id, facts) = row?;
            match (id.parse(), serde_json::from_str(&facts)) {
                (Ok(id), Ok(facts)) => all.push((id, facts)),
                _ => tracing::error!(%id, "the row of a sandbox cannot be read"),
            }
        }
        Ok(all)
    }

    pub fn put(&self, id: &SandboxId, facts: &Facts) -> rusqlite::Result<()> {
        let text = written(facts)?;
        let sql = "INSERT INTO sandbox (id, facts) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET facts = ?2";
        self.database.lock().prepare_cached(sql)?.execute(params![id.as_str(), text])?;
        Ok(())
    }

    /// Snapshots that somebody asked for, and who.
    pub fn snapshot_owners(&self) -> rusqlite::Result<HashMap<String, String>> {
        let database = self.database.lock();
        let mut query = database.prepare_cached("SELECT id, owner FROM snapshot")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    }

    pub fn own_snapshot(&self, id: &SnapshotId, owner: &str, setup: &Setup) -> rusqlite::Result<()> {
        let setup = written(setup)?;
        let mut database = self.database.lock();
        let change = database.transaction()?;
        change.execute("INSERT OR IGNORE INTO snapshot_setup (id, setup) VALUES (?1, ?2)", [id.as_str(), &setup])?;
        change.execute("INSERT OR IGNORE INTO snapshot (id, owner) VALUES (?1, ?2)", [id.as_str(), owner])?;
        change.commit()
    }

    /// What sandboxes of a snapshot are used like.
    pub fn snapshot_setup(&self, id: &SnapshotId) -> rusqlite::Result<Setup> {
        let database = self.database.lock();
        let mut query = database.prepare_cached("SELECT setup FROM snapshot_setup WHERE id = ?1")?;
        let text: Option<String> = query.query_row([id.as_str()], |row| row.get(0)).optional()?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    pub fn remove_snapshot(&self, id: &SnapshotId) -> rusqlite::Result<()> {
        let mut database = self.database.lock();
        let change = database.transaction()?;
        for table in ["snapshot", "snapshot_setup"] {
            change.execute(&format!("DELETE FROM {table} WHERE id = ?1"), [id.as_str()])?;
        }
        change.commit()
    }

    /// All that can be read; one that cannot is said to be, and its images stay.
    pub fn templates(&self) -> rusqlite::Result<Vec<Template>> {
        let database = self.database.lock();
        let mut query = database.prepare("SELECT template FROM template")?;
        let rows = query.query_map([], |row| row.get::<_, String>(0))?;
        let mut all = Vec::new();
        for row in rows {
            match serde_json::from_str(&row?) {
                Ok(template) => all.push(template),
                Err(error) => tracing::error!(%error, "the row of a template cannot be read"),
            }
        }
        Ok(all)
    }

    pub fn put_template(&self, template: &Template) -> rusqlite::Result<()> {
        let sql = "INSERT INTO template (id, template) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET template = ?2";
        self.database.lock().prepare_cached(sql)?.execute([&template.id, &written(template)?])?;
        Ok(())
    }

    pub fn remove_template(&self, id: &str) -> rusqlite::Result<()> {
        self.database.lock().prepare_cached("DELETE FROM template WHERE id = ?1")?.execute([id])?;
        Ok(())
    }

    /// Archives of this owner; of all, where nobody is named.
    pub fn uploads(&self, owner: Option<&str>) -> rusqlite::Result<Vec<Upload>> {
        let database = self.database.lock();
        let sql = "SELECT owner, hash, digest, bytes, at_ms FROM upload WHERE ?1 IS NULL OR owner = ?1";
        let mut query = database.prepare_cached(sql)?;
        query.query_map([owner], upload)?.collect()
    }

    pub fn upload(&self, owner: &str, hash: &str) -> rusqlite::Result<Option<Upload>> {
        let database = self.database.lock();
        let sql = "SELECT owner, hash, digest, bytes, at_ms FROM upload WHERE owner = ?1 AND hash = ?2";
        let mut query = database.prepare_cached(sql)?;
        query.query_row([owner, hash], upload).optional()
    }

    pub fn put_upload(&self, upload: &Upload) -> rusqlite::Result<()> {
        let Upload { owner, hash, digest, bytes, at_ms } = upload;
        let bytes = i64::try_from(*bytes).unwrap_or(i64::MAX);
        let sql = "INSERT OR REPLACE INTO upload (owner, hash, digest, bytes, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.database.lock().prepare_cached(sql)?.execute(params![owner, hash, digest, bytes, at_ms])?;
        Ok(())
    }

    pub fn remove_upload(&self, owner: &str, hash: &str) -> rusqlite::Result<()> {
        self.database.lock().prepare_cached("DELETE FROM upload WHERE owner = ?1 AND hash = ?2")?.execute([owner, hash])?;
        Ok(())
    }

    pub fn remove(&self, id: &SandboxId) -> rusqlite::Result<()> {
        self.database.lock().prepare_cached("DELETE FROM sandbox WHERE id = ?1")?.execute([id.as_str()])?;
        Ok(())
    }
}

fn written(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn upload(row: &Row<'_>) -> rusqlite::Result<Upload> {
    let bytes = u64::try_from(row.get::<_, i64>(3)?).unwrap_or_default();
    Ok(Upload { owner: row.get(0)?, hash: row.get(1)?, digest: row.get(2)?, bytes, at_ms: row.get(4)? })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use skep_sandbox::{Limits, OnTimeout, Profile};

    use super::*;
    use crate::sandboxes::Reach;

    #[test]
    fn rows_come_back_and_only_their_owner_reads_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.sqlite");
        let id = SandboxId::from_random([3; 13]);
        let facts = Facts {
            owner: "key".into(),
            template: "base".into(),
            metadata: BTreeMap::from([("a".into(), "b".into())]),
            env: BTreeMap::new(),
            profile: Profile::Strict,
            limits: Limits::default(),
            timeout_ms: Some(5),
            on_timeout: OnTimeout::Pause,
            auto_resume: true,
            envd_token: Some("secret".into()),
            traffic_token: None,
            reach: Reach { deny: vec!["0.0.0.0/0".into()], ..Reach::default() },
            setup: Setup { user: Some("root".into()), ..Setup::default() },
            created_ms: 1,
            started_ms: 2,
        };
        {
            let records = Records::open(&file).unwrap();
            records.put(&id, &facts).unwrap();
            records.database.lock().execute("INSERT INTO sandbox VALUES ('iaaaaaaaaaaaaaaaaaaaa', '{}')", []).unwrap();
        }
        let records = Records::open(&file).unwrap();
        assert_eq!(records.all().unwrap(), [(id.clone(), facts)]);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        records.remove(&id).unwrap();
        assert!(records.all().unwrap().is_empty());
    }

    #[test]
    fn an_archive_is_its_senders_alone() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("x.sqlite")).unwrap();
        let one = Upload { owner: "a".into(), hash: "h".into(), digest: "d".into(), bytes: 3, at_ms: 4 };
        let other = Upload { owner: "b".into(), digest: "e".into(), ..one.clone() };
        for upload in [&one, &other] {
            records.put_upload(upload).unwrap();
        }
        assert_eq!(records.upload("a", "h").unwrap(), Some(one.clone()));
        assert_eq!(records.upload("b", "h").unwrap(), Some(other.clone()));
        assert_eq!((records.uploads(Some("a")).unwrap(), records.uploads(None).unwrap().len()), (vec![one], 2));
        records.remove_upload("a", "h").unwrap();
        assert_eq!((records.upload("a", "h").unwrap(), records.uploads(None).unwrap()), (None, vec![other]));
    }
}
