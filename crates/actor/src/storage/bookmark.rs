//! Bookmarks: places in an actor's past that it can be brought back to.
//!
//! A bookmark is text that sorts as the places do. Going back is a commit like any other, so it can be undone: the pages of then are written over
//! those of now, and the places between stay readable for as long as the past is kept.

use std::{fmt, str::FromStr};

use crc32c::crc32c;
use skep_id::ActorId;

use super::{Pending, Storage, StorageError};
use crate::{
    database::{PageFile, SqlError, Value},
    guest::Alarm,
    record::Seq,
};

/// A place in an actor's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bookmark {
    /// The last record that counts.
    pub seq: Seq,
    /// About when that was, ms since the epoch of Unix.
    pub time_ms: u64,
    /// Tells bookmarks of different actors apart, to catch mistakes.
    tag: u32,
}

impl Bookmark {
    /// The place of an actor.
    #[must_use]
    pub fn of(actor: ActorId, seq: Seq, time_ms: u64) -> Self {
        Self { seq, time_ms, tag: crc32c(actor.bytes()) }
    }
}

impl fmt::Display for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}-{:08x}", self.seq.0, self.time_ms, self.tag)
    }
}

impl FromStr for Bookmark {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self, StorageError> {
        let wrong = || StorageError::Refused("that is not a bookmark".into());
        let number = |part: Option<&str>, digits: usize| {
            part.filter(|p| p.len() == digits && p.bytes().all(|b| b.is_ascii_hexdigit())).and_then(|p| u64::from_str_radix(p, 16).ok())
        };
        let mut parts = text.split('-');
        let (seq, time_ms, tag) = (number(parts.next(), 16), number(parts.next(), 16), number(parts.next(), 8));
        match (seq, time_ms, tag, parts.next()) {
            (Some(seq), Some(time_ms), Some(tag), None) => Ok(Self { seq: Seq(seq), time_ms, tag: tag as u32 }),
            _ => Err(wrong()),
        }
    }
}

/// Actor and place, as [`Storage::adopt_at_start`] writes them down.
fn adopted(text: &str) -> Option<(ActorId, Seq)> {
    let (from, seq) = text.split_once('@')?;
    Some((from.parse().ok()?, Seq(seq.parse().ok()?)))
}

impl Storage {
    /// The place as of the last turn's end.
    #[must_use]
    pub fn bookmark(&self) -> Bookmark {
        Bookmark::of(self.setup.actor, self.last, self.last_ms)
    }

    /// The place that this turn's end will have: what the turn has written so far is in it, and what it writes yet if it has written before.
    #[must_use]
    pub fn bookmark_here(&self) -> Bookmark {
        if self.in_turn() { Bookmark::of(self.setup.actor, self.last.next(), (self.setup.clock)()) } else { self.bookmark() }
    }

    /// The bookmark, if it is one of this actor's that can be gone back to.
    ///
    /// # Errors
    /// When it is another actor's or lies in the future.
    pub fn own_bookmark(&self, bookmark: Bookmark) -> Result<Bookmark, StorageError> {
        if bookmark.tag != self.bookmark().tag {
            return Err(StorageError::Refused("that bookmark is another actor's".into()));
        }
        if bookmark.seq > self.last {
            return Err(StorageError::Refused("that bookmark lies in the future".into()));
        }
        Ok(bookmark)
    }

    /// The place that was in force at a time, in ms.
    ///
    /// # Errors
    /// When the past does not reach that far back.
    pub fn bookmark_at(&self, time_ms: u64) -> Result<Bookmark, StorageError> {
        if time_ms >= self.last_ms {
            return Ok(self.bookmark());
        }
        let seq = self.setup.history.place_at(self.setup.actor, time_ms)?;
        Ok(Bookmark::of(self.setup.actor, seq, time_ms))
    }

    /// Asks for the database to be brought back to a place when the actor next starts. Returns the place that undoes it: the end of this turn.
    ///
    /// # Errors
    /// When the bookmark is another actor's, lies in the future or is not kept any more, or the database is full.
    pub fn restore_at_start(&mut self, bookmark: Bookmark) -> Result<Bookmark, StorageError> {
        let seq = self.own_bookmark(bookmark)?.seq;
        self.ask_restore(Value::Integer(i64::try_from(seq.0).map_err(|_| StorageError::Refused("that is not a bookmark".into()))?))
    }

    /// The same for a place in the past of any actor, which the caller has shown that it may have. Alarms are no part of it: those that this actor
    /// has stay.
    ///
    /// # Errors
    /// When the database is full. Whether the place is still there shows when the actor next starts.
    pub fn adopt_at_start(&mut self, from: ActorId, seq: Seq) -> Result<Bookmark, StorageError> {
        self.ask_restore(Value::Text(format!("{from}@{}", seq.0)))
    }

    fn ask_restore(&mut self, wanted: Value) -> Result<Bookmark, StorageError> {
        self.make_meta()?;
        self.database.trusted_write("INSERT OR REPLACE INTO _cf_META VALUES ('restore', ?1)", &[wanted])?;
        Ok(Bookmark::of(self.setup.actor, self.last.next(), (self.setup.clock)()))
    }

    pub(super) fn make_meta(&mut self) -> Result<(), SqlError> {
        if !self.made()?.meta {
            self.database.trusted_write("CREATE TABLE _cf_META (key TEXT PRIMARY KEY, value) WITHOUT ROWID", &[])?;
            self.made.meta = true;
        }
        Ok(())
    }

    /// Brings the database to what it was, as the next record. Only between turns; savepoints and cursors are gone. `None`: it is so already.
    ///
    /// # Errors
    /// When pages cannot be read, or the result is no database.
    pub fn rewind(&mut self, then: &(dyn PageFile + 'static)) -> Result<Option<Pending>, StorageError> {
        self.bring_to(then, None)
    }

    /// With `alarms`, those are what it has afterwards.
    fn bring_to(&mut self, then: &(dyn PageFile + 'static), alarms: Option<&[Alarm]>) -> Result<Option<Pending>, StorageError> {
        self.cut_off();
        let brought = self.pages.pages.lock().bring_to(then);
        if let Err(e) = brought {
            self.pages.pages.lock().discard();
            return Err(StorageError::Past(e.to_string()));
        }
        self.wiped = true;
        self.running.clear();
        let reopened = self.database.reopen();
        self.forget();
        let ended = match reopened {
            Ok(()) => self.settle(alarms).and_then(|()| self.end_turn()),
            Err(e) => Err(e.into()),
        };
        if ended.is_err() {
            self.cut_off();
        }
        ended
    }

    /// Does what [`Storage::restore_at_start`] asked for, if it did.
    pub(super) fn restore(&mut self) -> Result<Option<Result<Seq, StorageError>>, StorageError> {
        if !self.made()?.meta {
            return Ok(None);
        }
        let wanted = self.database.trusted("SELECT value FROM _cf_META WHERE key = 'restore'", &[])?;
        let (seq, done) = match wanted.first().and_then(|row| row.first()) {
            Some(Value::Integer(seq)) => {
                let seq = Seq(u64::try_from(*seq).unwrap_or(0));
                (seq, self.setup.history.view(self.setup.actor, seq).and_then(|view| self.rewind(&*view)))
            }
            Some(Value::Text(whose)) => {
                let alarms = self.alarm_rows()?;
                let (from, seq) = adopted(whose).unwrap_or((self.setup.actor, Seq(u64::MAX)));
                (seq, self.setup.history.view(from, seq).and_then(|view| self.bring_to(&*view, Some(&alarms))))
            }
            _ => return Ok(None),
        };
        match done {
            Ok(_) => Ok(Some(Ok(seq))),
            Err(e) => {
                // It would fail at every start.
                self.forget_restore()?;
                self.end_turn()?;
                Ok(Some(Err(e)))
            }
        }
    }

    /// What is not to come along from then: a wish to go back, and, where others were given, alarms.
    fn settle(&mut self, alarms: Option<&[Alarm]>) -> Result<(), StorageError> {
        self.forget_restore()?;
        let Some(alarms) = alarms else { return Ok(()) };
        if self.made()?.alarms {
            self.database.trusted_write("DELETE FROM _cf_ALARM", &[])?;
            (self.alarms, self.again) = (super::alarms::Known::Nothing, None);
        }
        self.put_alarm_rows(alarms)
    }

    fn forget_restore(&mut self) -> Result<(), StorageError> {
        if self.made()?.meta {
            self.database.trusted_write("DELETE FROM _cf_META WHERE key = 'restore'", &[])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookmarks_sort_as_places_do_and_are_read_back() {
        let actor: ActorId = ActorId::new([7; 32]);
        let marks: Vec<Bookmark> = [(1, 900), (2, 800), (0x100, 1), (u64::MAX, 0)].map(|(s, t)| Bookmark::of(actor, Seq(s), t)).into();
        let texts: Vec<String> = marks.iter().map(ToString::to_string).collect();
        assert!(texts.is_sorted());
        for (mark, text) in marks.iter().zip(&texts) {
            assert_eq!(text.parse::<Bookmark>().unwrap(), *mark);
        }
        for wrong in ["", "1-2-3", "zz", &texts[0][1..], &format!("{}-0", texts[0]), &texts[0].replace('0', "+")] {
            assert!(wrong.parse::<Bookmark>().is_err(), "{wrong}");
        }
    }
}
