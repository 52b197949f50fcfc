//! The rows of sandboxes, in SQLite. A row is durable when its function returns.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use parking_lot::Mutex;
use rusqlite::{Connection, params};
use skep_id::SandboxId;
use skep_sandbox::SnapshotId;

use super::{Facts, SandboxesError};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS sandbox (
        id TEXT PRIMARY KEY,
        -- JSON of `Facts`; it holds tokens.
        facts TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS snapshot (id TEXT PRIMARY KEY, owner TEXT NOT NULL) STRICT, WITHOUT ROWID;
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
        let text = serde_json::to_string(facts).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
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

    pub fn own_snapshot(&self, id: &SnapshotId, owner: &str) -> rusqlite::Result<()> {
        self.database.lock().prepare_cached("INSERT INTO snapshot (id, owner) VALUES (?1, ?2)")?.execute([id.as_str(), owner])?;
        Ok(())
    }

    pub fn remove_snapshot(&self, id: &SnapshotId) -> rusqlite::Result<()> {
        self.database.lock().prepare_cached("DELETE FROM snapshot WHERE id = ?1")?.execute([id.as_str()])?;
        Ok(())
    }

    pub fn remove(&self, id: &SandboxId) -> rusqlite::Result<()> {
        self.database.lock().prepare_cached("DELETE FROM sandbox WHERE id = ?1")?.execute([id.as_str()])?;
        Ok(())
    }
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
}
