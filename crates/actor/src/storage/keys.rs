//! Keys and values: the key-value API over the hidden table `_cf_KV`.
//!
//! Driven by a guest's host calls. Keys are text and sorted by their UTF-8 bytes; values are bytes that only the guest understands.
//!
//! It is not: a cache. Each call is a prepared statement on pages that are in memory already.

use bytes::Bytes;

use super::Storage;
use crate::database::{SqlError, Value};

/// Which keys a listing wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// From this one on.
    pub start: Option<String>,
    /// Those after this one.
    pub start_after: Option<String>,
    /// Those before this one.
    pub end: Option<String>,
    /// Those that begin so.
    pub prefix: Option<String>,
    /// From the last to the first.
    pub reverse: bool,
    /// At most so many.
    pub limit: Option<u32>,
}

impl Range {
    /// The lowest key, inclusive, and the highest, exclusive.
    fn bounds(&self) -> (String, Option<String>) {
        let after = self.start_after.as_ref().map(|key| format!("{key}\0"));
        let low = [self.start.clone(), after, self.prefix.clone()].into_iter().flatten().max().unwrap_or_default();
        let high = [self.end.clone(), self.prefix.as_deref().and_then(successor)].into_iter().flatten().min();
        (low, high)
    }
}

/// The lowest text that is above every text with this prefix; `None` if there is none.
fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            char::MAX => None,
            c => char::from_u32(c as u32 + 1),
        };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

impl Storage {
    /// The values of keys, in the same order; `None` for a key that is not there. `room` bounds the bytes of all of them.
    ///
    /// # Errors
    /// When they are too large together, or the database cannot be read.
    pub fn kv_get(&mut self, keys: &[&str], room: usize) -> Result<Vec<Option<Bytes>>, SqlError> {
        if !self.made()?.keys {
            return Ok(vec![None; keys.len()]);
        }
        let mut left = room;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let rows = self.database.trusted("SELECT value FROM _cf_KV WHERE key = ?1", &[text(key)])?;
            let value = rows.into_iter().next().and_then(|row| row.into_iter().next()).and_then(blob);
            left = left.checked_sub(value.as_ref().map_or(0, Bytes::len)).ok_or(SqlError::TooLarge(room))?;
            found.push(value);
        }
        Ok(found)
    }

    /// Writes values; all or, on an error, none.
    ///
    /// # Errors
    /// When one is too large, or the database is full.
    pub fn kv_put(&mut self, pairs: Vec<(String, Bytes)>) -> Result<(), SqlError> {
        self.make_keys()?;
        self.all_or_none(pairs.len() > 1, |s| {
            for (key, value) in pairs {
                const PUT: &str = "INSERT INTO _cf_KV VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
                s.database.trusted_write(PUT, &[Value::Text(key), Value::Blob(value)])?;
            }
            Ok(())
        })
    }

    /// Deletes keys; how many there were.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn kv_delete(&mut self, keys: &[&str]) -> Result<u64, SqlError> {
        if !self.made()?.keys {
            return Ok(0);
        }
        self.all_or_none(keys.len() > 1, |s| {
            let mut there = 0;
            for key in keys {
                there += s.database.trusted_write("DELETE FROM _cf_KV WHERE key = ?1 RETURNING 1", &[text(key)])?.len() as u64;
            }
            Ok(there)
        })
    }

    /// Keys and values of a range, in order. `room` bounds the bytes of all of them.
    ///
    /// # Errors
    /// When they are too large together, or the database cannot be read.
    pub fn kv_list(&mut self, range: &Range, room: usize) -> Result<Vec<(String, Bytes)>, SqlError> {
        const PAGE: usize = 128;
        if !self.made()?.keys {
            return Ok(Vec::new());
        }
        let (mut low, mut high) = range.bounds();
        let mut wanted = range.limit.map_or(usize::MAX, |n| n as usize);
        let (mut found, mut left) = (Vec::new(), room);
        while wanted > 0 {
            let page = wanted.min(PAGE);
            let mut bindings = vec![Value::Text(low.clone()), Value::Integer(page as i64)];
            bindings.extend(high.clone().map(Value::Text));
            let sql = match (high.is_some(), range.reverse) {
                (false, false) => "SELECT key, value FROM _cf_KV WHERE key >= ?1 ORDER BY key LIMIT ?2",
                (false, true) => "SELECT key, value FROM _cf_KV WHERE key >= ?1 ORDER BY key DESC LIMIT ?2",
                (true, false) => "SELECT key, value FROM _cf_KV WHERE key >= ?1 AND key < ?3 ORDER BY key LIMIT ?2",
                (true, true) => "SELECT key, value FROM _cf_KV WHERE key >= ?1 AND key < ?3 ORDER BY key DESC LIMIT ?2",
            };
            let rows = self.database.trusted(sql, &bindings)?;
            let count = rows.len();
            for mut row in rows {
                if let (Some(value), Some(Value::Text(key))) = (row.pop().and_then(blob), row.pop()) {
                    left = left.checked_sub(key.len() + value.len()).ok_or(SqlError::TooLarge(room))?;
                    found.push((key, value));
                }
            }
            let Some((last, _)) = found.last().filter(|_| count == page) else { break };
            wanted -= count;
            if range.reverse {
                high = Some(last.clone());
            } else {
                low = format!("{last}\0");
            }
        }
        Ok(found)
    }

    fn make_keys(&mut self) -> Result<(), SqlError> {
        if !self.made()?.keys {
            self.database.trusted_write("CREATE TABLE _cf_KV (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID", &[])?;
            self.made.keys = true;
        }
        Ok(())
    }

    /// Runs writes within a savepoint of their own, if there are several.
    fn all_or_none<T>(&mut self, several: bool, write: impl FnOnce(&mut Self) -> Result<T, SqlError>) -> Result<T, SqlError> {
        if !several {
            return write(self);
        }
        self.database.group()?;
        let result = write(self);
        // If the transaction is broken, the next call says so.
        let ended = self.database.ungroup(result.is_err());
        result.and_then(|value| ended.map(|()| value))
    }
}

fn text(key: &str) -> Value {
    Value::Text(key.to_owned())
}

fn blob(value: Value) -> Option<Bytes> {
    match value {
        Value::Blob(bytes) => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_text() {
        assert_eq!(successor("a").as_deref(), Some("b"));
        assert_eq!(successor("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(successor("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(successor("\u{10ffff}"), None);
        assert_eq!(successor(""), None);
    }

    #[test]
    fn bounds_are_the_narrowest() {
        let range = Range { start: Some("b".into()), prefix: Some("a".into()), ..Range::default() };
        assert_eq!(range.bounds(), ("b".into(), Some("b".into())));
        let range = Range { start_after: Some("ab".into()), end: Some("ac".into()), prefix: Some("a".into()), ..Range::default() };
        assert_eq!(range.bounds(), ("ab\0".into(), Some("ac".into())));
    }
}
