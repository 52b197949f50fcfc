//! The secrets of a node: kept in a database of their own, put into requests by the gateway, and never handed out again.
//!
//! They lie in the data folder as they are (its owner alone can read it): what decrypts them would have to lie beside them.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use hmac::{Hmac, Mac};
use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, params};
use sha2::Sha256;
use skep_gateway::{HostRule, HostRuleError, Secret, SecretError, Vault};
use skep_id::WorkerName;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS secret (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL,
        -- One rule on each line.
        hosts TEXT NOT NULL,
        updated_at INTEGER NOT NULL
    ) STRICT;
    -- What placeholders are made with; one row.
    CREATE TABLE IF NOT EXISTS stand_in (key BLOB NOT NULL) STRICT;
";

/// Most secrets of a node; all are held in memory.
const SECRETS_MAX: usize = 10_000;

/// Longest name of a secret, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Why the secrets have no answer.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// Not a name.
    #[error("{0:?} is not a name for a secret: 1 to {NAME_BYTES_MAX} letters, digits and `_`, `-`, `.`, beginning with a letter")]
    Name(String),
    /// Not a secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Not a host.
    #[error(transparent)]
    Host(#[from] HostRuleError),
    /// There is none of that name.
    #[error("there is no secret {0}")]
    Unknown(String),
    /// There are too many.
    #[error("a node keeps at most {SECRETS_MAX} secrets")]
    Full,
    /// The file cannot be used.
    #[error("the file of secrets failed: {0}")]
    File(#[from] io::Error),
    /// The database failed.
    #[error("the database of secrets failed: {0}")]
    Database(#[from] rusqlite::Error),
}

/// A secret as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// Its name.
    pub name: String,
    /// Where it may go.
    pub hosts: Vec<String>,
    /// ms since the epoch.
    pub updated_at: i64,
}

struct Kept {
    secret: Arc<Secret>,
    updated_at: i64,
}

/// All secrets. Reads are from memory.
pub struct Secrets {
    database: Mutex<Connection>,
    /// Makes placeholders that nobody can guess, and the same ones after a restart: heaps of actors hold them.
    stand_in_key: [u8; 32],
    kept: RwLock<BTreeMap<String, Kept>>,
}

impl Secrets {
    /// Opens the file, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// When the file cannot be used or holds what was not written here.
    pub fn open(file: &Path) -> Result<Self, SecretsError> {
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(file)?;
        fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
        let database = Connection::open(file)?;
        database.busy_timeout(Duration::from_secs(5))?;
        // Deleted and replaced values are overwritten, and no second file holds what was changed.
        database.pragma_update(None, "secure_delete", true)?;
        database.pragma_update(None, "journal_mode", "TRUNCATE")?;
        database.execute_batch(SCHEMA)?;
        let stand_in_key = stand_in_key(&database)?;
        let mut kept = BTreeMap::new();
        {
            let mut query = database.prepare("SELECT name, value, hosts, updated_at FROM secret")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let (value, hosts): (String, String) = (row.get(1)?, row.get(2)?);
                let hosts = hosts.lines().map(str::parse).collect::<Result<Vec<HostRule>, _>>()?;
                kept.insert(row.get(0)?, Kept { secret: Arc::new(Secret::new(&value, hosts)?), updated_at: row.get(3)? });
            }
        }
        Ok(Self { database: Mutex::new(database), stand_in_key, kept: RwLock::new(kept) })
    }

    /// Sets a secret; requests from now on get the new value.
    ///
    /// # Errors
    /// When name, value or hosts break a rule, or the database fails.
    pub fn put(&self, name: &str, value: &str, hosts: &[String], at: i64) -> Result<SecretRow, SecretsError> {
        if !is_name(name) {
            return Err(SecretsError::Name(name.chars().take(80).collect()));
        }
        let rules = hosts.iter().map(|host| host.parse()).collect::<Result<Vec<HostRule>, _>>()?;
        let secret = Arc::new(Secret::new(value, rules)?);
        let hosts = shown(&secret);
        // One writer at a time; memory changes once the disk has.
        let database = self.database.lock();
        if self.kept.read().len() >= SECRETS_MAX && !self.has(name) {
            return Err(SecretsError::Full);
        }
        database.execute(
            "INSERT INTO secret (name, value, hosts, updated_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET value = ?2, hosts = ?3, updated_at = ?4",
            params![name, value, hosts.join("\n"), at],
        )?;
        self.kept.write().insert(name.to_owned(), Kept { secret, updated_at: at });
        Ok(SecretRow { name: name.to_owned(), hosts, updated_at: at })
    }

    /// Deletes a secret; its placeholders go out as they are from now on.
    ///
    /// # Errors
    /// When there is none, or the database fails.
    pub fn delete(&self, name: &str) -> Result<(), SecretsError> {
        let database = self.database.lock();
        if database.execute("DELETE FROM secret WHERE name = ?", [name])? == 0 {
            return Err(SecretsError::Unknown(name.chars().take(80).collect()));
        }
        self.kept.write().remove(name);
        Ok(())
    }

    /// All secrets by name, without their values.
    #[must_use]
    pub fn list(&self) -> Vec<SecretRow> {
        let row =
            |(name, kept): (&String, &Kept)| SecretRow { name: name.clone(), hosts: shown(&kept.secret), updated_at: kept.updated_at };
        self.kept.read().iter().map(row).collect()
    }

    /// What a placeholder is made of: for deployed code the same at every start of the same version, else random. `None` where the system has
    /// no randomness.
    pub(crate) fn stand_in(&self, deployed: Option<(&WorkerName, &[u8; 32])>, binding: &str) -> Option<[u8; 20]> {
        let mut made = [0; 20];
        match deployed {
            None => getrandom::fill(&mut made).ok()?,
            Some((worker, fingerprint)) => {
                let mut mac = Hmac::<Sha256>::new_from_slice(&self.stand_in_key).ok()?;
                for part in [worker.as_str().as_bytes(), fingerprint, binding.as_bytes()] {
                    mac.update(&(part.len() as u64).to_le_bytes());
                    mac.update(part);
                }
                let mac = mac.finalize().into_bytes();
                made.copy_from_slice(mac.get(..20)?);
            }
        }
        Some(made)
    }

    /// Whether there is one of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.kept.read().contains_key(name)
    }
}

impl Vault for Secrets {
    fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        self.kept.read().get(name).map(|kept| Arc::clone(&kept.secret))
    }
}

/// The key of this file; made with it.
fn stand_in_key(database: &Connection) -> Result<[u8; 32], SecretsError> {
    let mut new = [0; 32];
    getrandom::fill(&mut new).map_err(io::Error::other)?;
    database.execute("INSERT INTO stand_in (key) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM stand_in)", [new])?;
    Ok(database.query_row("SELECT key FROM stand_in", [], |row| row.get(0))?)
}

fn shown(secret: &Secret) -> Vec<String> {
    secret.hosts().iter().map(ToString::to_string).collect()
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_in_a_heap_is_good_after_a_restart_and_no_other_version_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets.sqlite");
        let worker: WorkerName = "w".parse().unwrap();
        let made = |version: [u8; 32], binding: &str| Secrets::open(&file).unwrap().stand_in(Some((&worker, &version)), binding).unwrap();
        let first = made([1; 32], "KEY");
        assert_eq!(first, made([1; 32], "KEY"));
        assert_ne!(first, made([2; 32], "KEY"));
        assert_ne!(first, made([1; 32], "OTHER"));
        let secrets = Secrets::open(&file).unwrap();
        assert_ne!(secrets.stand_in(None, "KEY"), secrets.stand_in(None, "KEY"), "code that is not deployed gets new ones");
        let other = Secrets::open(&folder.path().join("other.sqlite")).unwrap();
        assert_ne!(other.stand_in(Some((&worker, &[1; 32])), "KEY"), Some(first), "nobody who does not have the key can tell");
    }
}
