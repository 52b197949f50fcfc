//! The keys and their file.

use std::{collections::HashMap, path::Path, time::Duration};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, params};
use skep_id::KeyId;

use crate::{Principal, Scopes, Token};

/// A key is noted as used at most this often, so that a busy key costs no disk flush for each request.
const LAST_USED_GRAIN_MS: i64 = 60_000;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS key (
        id TEXT PRIMARY KEY,
        hash BLOB NOT NULL,
        label TEXT NOT NULL,
        scopes TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER,
        last_used_at INTEGER,
        revoked_at INTEGER
    ) STRICT;
";

const COLUMNS: &str = "id, label, scopes, created_at, expires_at, last_used_at, revoked_at";

/// What is known about a key; its secret is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The public part of the token.
    pub id: KeyId,
    /// What it is for, in the words of who made it.
    pub label: String,
    /// What it grants.
    pub scopes: Scopes,
    /// ms since the epoch.
    pub created_at: i64,
    /// When it stops working; never if absent.
    pub expires_at: Option<i64>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<i64>,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
}

/// A key to be made.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// What it is for; at most 200 characters.
    pub label: String,
    /// What it grants; at least one scope.
    pub scopes: Scopes,
    /// When it stops working, ms since the epoch.
    pub expires_at: Option<i64>,
}

/// Why a question about keys has no answer.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The token is of no key, or of one that was revoked or has expired. Which of these is not told.
    #[error("the API key is unknown, revoked or expired")]
    Denied,
    /// No key has that id.
    #[error("there is no key {0}")]
    Unknown(KeyId),
    /// A key without scopes, one that is expired at birth, or an endless label.
    #[error("{0}")]
    Invalid(&'static str),
    /// The file failed.
    #[error("the file of API keys failed")]
    Storage(#[from] rusqlite::Error),
    /// No randomness.
    #[error("the system gives no random bytes")]
    Random,
}

/// All keys of a data folder.
pub struct Keys {
    file: Mutex<Connection>,
    /// Uses not yet written down.
    used: Mutex<HashMap<KeyId, i64>>,
}

impl Keys {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When the file cannot be opened or is no database.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let file = Connection::open(path)?;
        file.busy_timeout(Duration::from_secs(5))?;
        file.pragma_update(None, "journal_mode", "WAL")?;
        file.pragma_update(None, "synchronous", "FULL")?;
        file.execute_batch(SCHEMA)?;
        Ok(Self { file: Mutex::new(file), used: Mutex::default() })
    }

    /// Makes a key. The token is in the answer and nowhere else.
    ///
    /// # Errors
    /// When the key makes no sense, or the file fails.
    pub fn create(&self, new: &NewKey, now: i64) -> Result<(Key, Token), KeyError> {
        if new.scopes.is_empty() {
            return Err(KeyError::Invalid("a key needs at least one scope: admin, deploy, execute, read, actors or sandboxes"));
        }
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(KeyError::Invalid("the key would be expired from the start"));
        }
        if new.label.chars().count() > 200 {
            return Err(KeyError::Invalid("a label has at most 200 characters"));
        }
        let token = random_token()?;
        self.file.lock().execute(
            "INSERT INTO key (id, hash, label, scopes, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
            params![token.id().as_str(), token.hash(), new.label, new.scopes.to_string(), now, new.expires_at],
        )?;
        let key = Key {
            id: token.id().clone(),
            label: new.label.clone(),
            scopes: new.scopes,
            created_at: now,
            expires_at: new.expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        Ok((key, token))
    }

    /// All keys, newest first, revoked ones included.
    ///
    /// # Errors
    /// When the file fails.
    pub fn list(&self) -> Result<Vec<Key>, KeyError> {
        self.flush()?;
        let file = self.file.lock();
        let mut query = file.prepare_cached(&format!("SELECT {COLUMNS} FROM key ORDER BY created_at DESC, id"))?;
        let keys = query.query_map([], key_of)?.collect::<Result<_, _>>()?;
        Ok(keys)
    }

    /// Revokes a key, effective with the next request. Revoking twice changes nothing.
    ///
    /// # Errors
    /// When there is no such key, or the file fails.
    pub fn revoke(&self, id: &KeyId, now: i64) -> Result<(), KeyError> {
        let changed =
            self.file.lock().execute("UPDATE key SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?", params![now, id.as_str()])?;
        if changed == 0 { Err(KeyError::Unknown(id.clone())) } else { Ok(()) }
    }

    /// Whether there is a key that works and may make others: if not, the node makes its first one.
    ///
    /// # Errors
    /// When the file fails.
    pub fn has_admin(&self, now: i64) -> Result<bool, KeyError> {
        let live = |key: &Key| key.revoked_at.is_none() && key.expires_at.is_none_or(|at| at > now);
        Ok(self.list()?.iter().any(|key| live(key) && key.scopes.allow(crate::Scope::Admin)))
    }

    /// Turns the text of a token into who it stands for.
    ///
    /// # Errors
    /// [`KeyError::Denied`] for every reason that is the asker's; the file's failure otherwise.
    pub fn authenticate(&self, token: &str, now: i64) -> Result<Principal, KeyError> {
        let token: Token = token.parse().map_err(|_| KeyError::Denied)?;
        let found = {
            let file = self.file.lock();
            let mut query = file.prepare_cached(&format!("SELECT {COLUMNS}, hash FROM key WHERE id = ?"))?;
            query.query_row([token.id().as_str()], |row| Ok((key_of(row)?, row.get::<_, Vec<u8>>(7)?))).optional()?
        };
        let (key, hash) = found.ok_or(KeyError::Denied)?;
        let expired = key.expires_at.is_some_and(|at| at <= now);
        if !token.matches(&hash) || key.revoked_at.is_some() || expired {
            return Err(KeyError::Denied);
        }
        if key.last_used_at.is_none_or(|at| now - at >= LAST_USED_GRAIN_MS) {
            self.used.lock().insert(key.id.clone(), now);
        }
        Ok(Principal { key: key.id, scopes: key.scopes })
    }

    /// Writes down when keys were last used. The node calls it now and then and at its end.
    ///
    /// # Errors
    /// When the file fails.
    pub fn flush(&self) -> Result<(), KeyError> {
        let used = std::mem::take(&mut *self.used.lock());
        if used.is_empty() {
            return Ok(());
        }
        let mut file = self.file.lock();
        let change = file.transaction()?;
        for (id, at) in used {
            change
                .execute("UPDATE key SET last_used_at = ?1 WHERE id = ?2 AND coalesce(last_used_at, 0) < ?1", params![at, id.as_str()])?;
        }
        Ok(change.commit()?)
    }
}

fn random_token() -> Result<Token, KeyError> {
    let (mut id, mut secret) = ([0; 10], [0; 32]);
    getrandom::fill(&mut id).map_err(|_| KeyError::Random)?;
    getrandom::fill(&mut secret).map_err(|_| KeyError::Random)?;
    Ok(Token::from_random(id, secret))
}

fn key_of(row: &Row<'_>) -> rusqlite::Result<Key> {
    let id: String = row.get(0)?;
    let id = id
        .parse()
        .map_err(|error: skep_id::ParseError| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))?;
    Ok(Key {
        id,
        label: row.get(1)?,
        scopes: Scopes::from_words(&row.get::<_, String>(2)?),
        created_at: row.get(3)?,
        expires_at: row.get(4)?,
        last_used_at: row.get(5)?,
        revoked_at: row.get(6)?,
    })
}
