//! Alarms: when an actor wants to be woken, by name; part of the transaction like everything else.
//!
//! Set and asked for by the guest, run by `actor`. An alarm stays until its handler has come back *and* that is committed, so it rings at least
//! once. While its handler runs it is not seen by the guest, as with Durable Objects; if the handler sets it anew, that one stays. How often it failed, and
//! when it is tried again, lasts as it does.

use std::collections::HashMap;

use super::{Storage, StorageError};
use crate::{
    database::{SqlError, Value},
    guest::Alarm,
};

/// Alarms that one actor may have.
const MOST: i64 = 10_000;

/// Bytes of a name.
const NAME: usize = 1024;

/// Alarms that are kept in memory as well. Nearly every actor has fewer: each waking, firing and commit asks for them, and compiling statements for
/// that was a tenth of what a firing cost.
const FEW: usize = 16;

/// What is known of the alarms in the database.
#[derive(Debug, Default)]
pub(super) enum Known {
    #[default]
    Nothing,
    /// These are all, by name.
    Few(Vec<Alarm>),
    /// More than [`FEW`], of which the earliest is due then, if that is known.
    Many(Option<u64>),
}

/// Under these keys of the hidden table stands when an alarm that failed is tried again, in ms since the epoch of Unix.
const AGAIN: &str = "again/";

/// How the handler of an alarm ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmEnd {
    /// It came back, or is given up: the alarm is gone, unless it was set anew.
    Done,
    /// It is to be tried again; when it was due is still what it was.
    Retry {
        /// When, in ms since the epoch of Unix.
        at_ms: u64,
        /// Whether this counts as a failure of the handler.
        counts: bool,
    },
}

impl Storage {
    /// Sets an alarm; one of that name that is set already is moved. The empty name is the alarm of `setAlarm`.
    ///
    /// # Errors
    /// When the name is too long, there are too many, or the database is full.
    pub fn set_alarm(&mut self, name: &str, due_ms: u64) -> Result<(), SqlError> {
        if name.len() > NAME {
            return Err(SqlError::Refused(format!("the name of an alarm is longer than {NAME} bytes")));
        }
        self.make_alarms()?;
        let bound = [Value::Text(name.to_owned()), ms(due_ms)];
        if self.few()?.is_none()
            && !name.is_empty()
            && self.alarm_row(name)?.is_none()
            && count(&self.database.trusted("SELECT count(*) FROM _cf_ALARM", &[])?) >= MOST
        {
            return Err(SqlError::Refused(format!("there are more than {MOST} alarms")));
        }
        const SET: &str = "INSERT INTO _cf_ALARM VALUES (?1, ?2, 0) ON CONFLICT (name) DO UPDATE SET due = excluded.due, retries = 0";
        self.database.trusted_write(SET, &bound)?;
        self.forget_again(name)?;
        self.running.remove(name);
        self.now_known(name, Some(Alarm { name: name.to_owned(), due_ms: due_ms.min(i64::MAX as u64), retries: 0 }));
        Ok(())
    }

    /// When an alarm is due, in ms; `None` if it is not set, or its handler runs and has not set it anew.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn alarm(&mut self, name: &str) -> Result<Option<u64>, SqlError> {
        if self.running.contains_key(name) {
            return Ok(None);
        }
        Ok(self.alarm_row(name)?.map(|alarm| alarm.due_ms))
    }

    /// Takes an alarm away.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn delete_alarm(&mut self, name: &str) -> Result<(), SqlError> {
        if self.made()?.alarms {
            self.database.trusted_write("DELETE FROM _cf_ALARM WHERE name = ?1", &[Value::Text(name.to_owned())])?;
            self.forget_again(name)?;
            self.running.remove(name);
            self.now_known(name, None);
        }
        Ok(())
    }

    /// Named alarms that are set, by name, and when they are due.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn alarms(&mut self) -> Result<Vec<(String, u64)>, SqlError> {
        let all = self.alarm_rows()?;
        Ok(all.into_iter().filter(|a| !a.name.is_empty() && !self.running.contains_key(&a.name)).map(|a| (a.name, a.due_ms)).collect())
    }

    /// When the earliest alarm is due, or to be tried again, in ms; those whose handlers run count too.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn wake(&mut self) -> Result<Option<u64>, SqlError> {
        if !self.again()?.is_empty() {
            return Ok(self.attempts()?.iter().map(|alarm| alarm.due_ms).min());
        }
        if let Some(few) = self.few()? {
            return Ok(few.iter().map(|alarm| alarm.due_ms).min());
        }
        if let Known::Many(Some(earliest)) = self.alarms {
            return Ok(Some(earliest));
        }
        let rows = self.database.trusted("SELECT min(due) FROM _cf_ALARM", &[])?;
        let earliest = rows.first().and_then(|row| row.first()).and_then(time);
        self.alarms = Known::Many(earliest);
        Ok(earliest)
    }

    /// Alarms that are due, or to be tried again, and whose handlers do not run, the earliest first; their times are those of the next attempt.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn due(&mut self, now_ms: u64) -> Result<Vec<Alarm>, SqlError> {
        if self.wake()?.is_none_or(|wake| wake > now_ms) {
            return Ok(Vec::new());
        }
        let mut due: Vec<Alarm> =
            self.attempts()?.into_iter().filter(|a| a.due_ms <= now_ms && !self.running.contains_key(&a.name)).collect();
        due.sort_by(|a, b| (a.due_ms, &a.name).cmp(&(b.due_ms, &b.name)));
        Ok(due)
    }

    /// When the earliest alarm is due, or to be tried again, whose handler does not run.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn next_due(&mut self) -> Result<Option<u64>, SqlError> {
        if self.running.is_empty() {
            return self.wake();
        }
        Ok(self.attempts()?.iter().filter(|a| !self.running.contains_key(&a.name)).map(|a| a.due_ms).min())
    }

    /// The handler of an alarm is about to run. `None`: it is not set (any more).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn alarm_begin(&mut self, name: &str) -> Result<Option<Alarm>, SqlError> {
        let alarm = self.alarm_row(name)?;
        if let Some(alarm) = &alarm {
            self.running.insert(name.to_owned(), alarm.due_ms);
        }
        Ok(alarm)
    }

    /// The handler of an alarm has ended. What that changes is committed with the turn that is open, or by the next [`Storage::end_turn`].
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn alarm_end(&mut self, name: &str, end: AlarmEnd) -> Result<(), SqlError> {
        // Set anew, deleted or ended meanwhile: then this one is gone already.
        if !self.running.contains_key(name) {
            return Ok(());
        }
        let bound = Value::Text(name.to_owned());
        match end {
            AlarmEnd::Done => {
                self.database.trusted_write("DELETE FROM _cf_ALARM WHERE name = ?1", &[bound])?;
                self.forget_again(name)?;
                self.now_known(name, None);
            }
            AlarmEnd::Retry { at_ms, counts } => {
                let counted = "UPDATE _cf_ALARM SET retries = retries + ?2 WHERE name = ?1";
                self.database.trusted_write(counted, &[bound, Value::Integer(counts.into())])?;
                self.alarms = Known::Nothing;
                self.try_again(name, at_ms)?;
            }
        }
        self.running.remove(name);
        Ok(())
    }

    /// The alarms by name, if they are few.
    fn few(&mut self) -> Result<Option<&[Alarm]>, SqlError> {
        if matches!(self.alarms, Known::Nothing) {
            let mut few = Vec::new();
            if self.made()?.alarms {
                let one_more = Value::Integer(FEW as i64 + 1);
                let rows = self.database.trusted("SELECT name, due, retries FROM _cf_ALARM ORDER BY name LIMIT ?1", &[one_more])?;
                few.extend(rows.iter().filter_map(|row| of(row)));
            }
            self.alarms = if few.len() > FEW { Known::Many(None) } else { Known::Few(few) };
        }
        Ok(match &self.alarms {
            Known::Few(few) => Some(few),
            Known::Nothing | Known::Many(_) => None,
        })
    }

    /// An alarm was written, or (`None`) taken out.
    fn now_known(&mut self, name: &str, alarm: Option<Alarm>) {
        self.alarms = match std::mem::take(&mut self.alarms) {
            Known::Few(mut few) => {
                match (few.binary_search_by(|known| known.name.as_str().cmp(name)), alarm) {
                    (Ok(at), Some(alarm)) => few[at] = alarm,
                    (Ok(at), None) => drop(few.remove(at)),
                    (Err(at), Some(alarm)) => few.insert(at, alarm),
                    (Err(_), None) => {}
                }
                if few.len() > FEW { Known::Many(None) } else { Known::Few(few) }
            }
            Known::Many(_) => Known::Many(None),
            Known::Nothing => Known::Nothing,
        };
    }

    /// What became of an attempt whose guest ended with it, noted for the next guest; nothing if the alarm was set anew or taken away meanwhile, or its
    /// handler runs already. As [`Storage::alarm_end`] otherwise.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn alarm_ended_before(&mut self, alarm: &Alarm, end: AlarmEnd) -> Result<(), SqlError> {
        let the_same = self.alarm_row(&alarm.name)?.is_some_and(|row| row.due_ms == alarm.due_ms);
        if !the_same || self.running.contains_key(&alarm.name) {
            return Ok(());
        }
        self.running.insert(alarm.name.clone(), alarm.due_ms);
        self.alarm_end(&alarm.name, end)
    }

    /// All alarms, at the times of their next attempts.
    fn attempts(&mut self) -> Result<Vec<Alarm>, SqlError> {
        let mut alarms = self.alarm_rows()?;
        let again = self.again()?;
        for alarm in &mut alarms {
            alarm.due_ms = again.get(&alarm.name).copied().unwrap_or(0).max(alarm.due_ms);
        }
        Ok(alarms)
    }

    /// When alarms that failed are tried again, by name.
    pub(super) fn again(&mut self) -> Result<&mut HashMap<String, u64>, SqlError> {
        let known = match self.again.take() {
            Some(known) => known,
            None if !self.made()?.meta => HashMap::new(),
            None => {
                // All keys that begin so: the character after the slash ends them.
                let rows =
                    self.database.trusted("SELECT substr(key, 7), value FROM _cf_META WHERE key >= 'again/' AND key < 'again0'", &[])?;
                let pair = |row: Vec<Value>| match &row[..] {
                    [Value::Text(name), at] => Some((name.clone(), time(at)?)),
                    _ => None,
                };
                rows.into_iter().filter_map(pair).collect()
            }
        };
        Ok(self.again.insert(known))
    }

    /// Notes when an alarm that failed is tried again.
    pub(super) fn try_again(&mut self, name: &str, at_ms: u64) -> Result<(), SqlError> {
        self.make_meta()?;
        let key = Value::Text(format!("{AGAIN}{name}"));
        self.database.trusted_write("INSERT OR REPLACE INTO _cf_META VALUES (?1, ?2)", &[key, ms(at_ms)])?;
        self.again = None;
        Ok(())
    }

    fn forget_again(&mut self, name: &str) -> Result<(), SqlError> {
        if self.again()?.remove(name).is_some() {
            self.database.trusted_write("DELETE FROM _cf_META WHERE key = ?1", &[Value::Text(format!("{AGAIN}{name}"))])?;
        }
        Ok(())
    }

    fn alarm_row(&mut self, name: &str) -> Result<Option<Alarm>, SqlError> {
        if let Some(few) = self.few()? {
            return Ok(few.iter().find(|alarm| alarm.name == name).cloned());
        }
        let rows = self.database.trusted("SELECT name, due, retries FROM _cf_ALARM WHERE name = ?1", &[Value::Text(name.to_owned())])?;
        Ok(rows.into_iter().find_map(|row| of(&row)))
    }

    pub(super) fn alarm_rows(&mut self) -> Result<Vec<Alarm>, SqlError> {
        if let Some(few) = self.few()? {
            return Ok(few.to_vec());
        }
        let rows = self.database.trusted("SELECT name, due, retries FROM _cf_ALARM ORDER BY name", &[])?;
        Ok(rows.iter().filter_map(|row| of(row)).collect())
    }

    pub(super) fn put_alarm_rows(&mut self, alarms: &[Alarm]) -> Result<(), StorageError> {
        if alarms.is_empty() {
            return Ok(());
        }
        self.make_alarms()?;
        for alarm in alarms {
            let bound = [Value::Text(alarm.name.clone()), ms(alarm.due_ms), Value::Integer(alarm.retries.into())];
            self.database.trusted_write("INSERT INTO _cf_ALARM VALUES (?1, ?2, ?3)", &bound)?;
        }
        self.alarms = Known::Nothing;
        Ok(())
    }

    fn make_alarms(&mut self) -> Result<(), SqlError> {
        if !self.made()?.alarms {
            const MAKE: &str =
                "CREATE TABLE _cf_ALARM (name TEXT PRIMARY KEY, due INTEGER NOT NULL, retries INTEGER NOT NULL) WITHOUT ROWID";
            self.database.trusted_write(MAKE, &[])?;
            self.made.alarms = true;
        }
        Ok(())
    }
}

fn of(row: &[Value]) -> Option<Alarm> {
    match row {
        [Value::Text(name), due, Value::Integer(retries)] => {
            Some(Alarm { name: name.clone(), due_ms: time(due)?, retries: u32::try_from(*retries).unwrap_or(u32::MAX) })
        }
        _ => None,
    }
}

fn time(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(ms) => u64::try_from(*ms).ok(),
        _ => None,
    }
}

fn ms(time: u64) -> Value {
    Value::Integer(i64::try_from(time).unwrap_or(i64::MAX))
}

fn count(rows: &[Vec<Value>]) -> i64 {
    match rows.first().and_then(|row| row.first()) {
        Some(Value::Integer(n)) => *n,
        _ => 0,
    }
}
