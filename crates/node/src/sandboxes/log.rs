//! What happened to a sandbox, for its owner: the newest lines only, in memory.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Lines kept of one sandbox.
const LINES_MAX: usize = 1_000;

/// Longest line, in bytes: a command's text may be anything.
const LINE_BYTES_MAX: usize = 4 << 10;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For whoever looks for a cause.
    Debug,
    /// Ordinary.
    Info,
    /// Not as wished.
    Warn,
    /// Failed.
    Error,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// ms since the epoch.
    pub at_ms: i64,
    /// How much it matters.
    pub level: Level,
    /// What happened.
    pub message: String,
    /// More about it.
    pub fields: BTreeMap<String, String>,
}

#[derive(Default)]
pub(super) struct Log {
    lines: VecDeque<LogEntry>,
}

impl Log {
    pub fn add(&mut self, mut entry: LogEntry) {
        cut(&mut entry.message);
        entry.fields.values_mut().for_each(cut);
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(entry);
    }

    pub fn lines(&self) -> Vec<LogEntry> {
        self.lines.iter().cloned().collect()
    }
}

fn cut(text: &mut String) {
    if text.len() > LINE_BYTES_MAX {
        let mut end = LINE_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_none_is_endless() {
        let mut log = Log::default();
        for at_ms in 0..1_500 {
            log.add(LogEntry { at_ms, level: Level::Info, message: "é".repeat(3_000), fields: BTreeMap::new() });
        }
        let lines = log.lines();
        assert_eq!((lines.len(), lines[0].at_ms), (LINES_MAX, 500));
        assert!(lines.iter().all(|line| line.message.len() <= LINE_BYTES_MAX + '…'.len_utf8()));
    }
}
