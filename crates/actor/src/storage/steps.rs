//! The step journal: what an actor set out to do outside, and what came of it.
//!
//! Driven by a guest's `ctx.step`. The intent is written before the effect is let out (the output gate waits for its record) and the result after, so
//! a step that was cut off is known to be unfinished, and is reported instead of repeated.

use bytes::Bytes;

use super::Storage;
use crate::database::{SqlError, Value};

/// Bytes of a step's name.
const NAME: usize = 1024;

/// Bytes of a step's result.
const RESULT: usize = 1 << 20;

/// What is known of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It begins now; its intent is written.
    New,
    /// It was done, with this result.
    Done(Bytes),
    /// It failed, with this error.
    Failed(Bytes),
    /// It was begun earlier, at this time in ms, and nobody knows how it ended.
    Unfinished(u64),
}

impl Storage {
    /// Begins a step, or says what is known of it.
    ///
    /// # Errors
    /// When the name is too long, or the database cannot be read or written.
    pub fn step_begin(&mut self, name: &str) -> Result<Step, SqlError> {
        const MAKE: &str =
            "CREATE TABLE _cf_STEP (name TEXT PRIMARY KEY, state INTEGER NOT NULL, at INTEGER NOT NULL, result BLOB) WITHOUT ROWID";
        if name.len() > NAME {
            return Err(SqlError::Refused(format!("the name of a step is longer than {NAME} bytes")));
        }
        if !self.made()?.steps {
            self.database.trusted_write(MAKE, &[])?;
            self.made.steps = true;
        }
        let key = Value::Text(name.to_owned());
        let known = self.database.trusted("SELECT state, at, result FROM _cf_STEP WHERE name = ?1", std::slice::from_ref(&key))?;
        let Some(row) = known.into_iter().next() else {
            let now = Value::Integer(i64::try_from((self.setup.clock)()).unwrap_or(i64::MAX));
            self.database.trusted_write("INSERT INTO _cf_STEP VALUES (?1, 0, ?2, NULL)", &[key, now])?;
            return Ok(Step::New);
        };
        Ok(match <[Value; 3]>::try_from(row) {
            Ok([Value::Integer(1), _, Value::Blob(result)]) => Step::Done(result),
            Ok([Value::Integer(2), _, Value::Blob(error)]) => Step::Failed(error),
            Ok([_, Value::Integer(at), _]) => Step::Unfinished(u64::try_from(at).unwrap_or(0)),
            _ => Step::Unfinished(0),
        })
    }

    /// Writes the result of a step down: a value, or what it threw.
    ///
    /// # Errors
    /// When the step was not begun, the result is larger than 1 MiB, or the database is full.
    pub fn step_end(&mut self, name: &str, ok: bool, result: Bytes) -> Result<(), SqlError> {
        if result.len() > RESULT {
            return Err(SqlError::Refused(format!("the result of a step is larger than {RESULT} bytes")));
        }
        let bound = [Value::Text(name.to_owned()), Value::Integer(if ok { 1 } else { 2 }), Value::Blob(result)];
        let begun = self.made()?.steps
            && !self.database.trusted_write("UPDATE _cf_STEP SET state = ?2, result = ?3 WHERE name = ?1 RETURNING 1", &bound)?.is_empty();
        if begun { Ok(()) } else { Err(SqlError::Refused(format!("there is no step {name:?}"))) }
    }

    /// Forgets a step: the next one of that name is new.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn step_forget(&mut self, name: &str) -> Result<(), SqlError> {
        if self.made()?.steps {
            self.database.trusted_write("DELETE FROM _cf_STEP WHERE name = ?1", &[Value::Text(name.to_owned())])?;
        }
        Ok(())
    }
}
