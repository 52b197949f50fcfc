//! Work on an image that takes its time: pulling, unpacking, running a template's steps. It goes on whoever listens; who comes later hears all of it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Image, ImageError};

/// Lines of one log; what comes after them is left out, but how it ended.
const MOST_LINES: usize = 20_000;
const MOST_LINE: usize = 4 << 10;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "everybody's words")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// One line of what was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// How much it matters.
    pub level: Level,
    /// Which of a template's steps it belongs to; the first is 1.
    pub step: Option<u32>,
    /// Without its end; at most 4 KiB.
    pub text: String,
}

type Done = Option<Result<Image, Arc<ImageError>>>;

/// An image that is being made. Dropped: it is made all the same.
#[derive(Clone)]
pub struct Making {
    log: Log,
    /// What is made of what: who asks for the same joins.
    pub(super) key: String,
    done: watch::Sender<Done>,
}

/// Where lines go.
#[derive(Clone)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<Line>>>,
    grown: watch::Sender<usize>,
    step: Option<u32>,
}

impl Log {
    fn new() -> Self {
        Self { lines: Arc::default(), grown: watch::channel(0).0, step: None }
    }

    /// The same log, for one of a template's steps.
    pub(crate) fn of_step(&self, step: u32) -> Self {
        Self { step: Some(step), ..self.clone() }
    }

    pub(crate) fn say(&self, level: Level, text: impl Into<String>) {
        let mut text: String = text.into();
        let end = (0..=MOST_LINE.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match lines.len() {
            n if n < MOST_LINES => lines.push(Line { at_ms, level, step: self.step, text }),
            MOST_LINES => lines.push(Line { at_ms, level: Level::Warn, step: None, text: "further lines are left out".into() }),
            // How it ended is told all the same.
            _ if level == Level::Error && lines.len() < MOST_LINES + 100 => lines.push(Line { at_ms, level, step: self.step, text }),
            _ => return,
        }
        self.grown.send_replace(lines.len());
    }
}

impl Making {
    pub(super) fn new(key: String) -> Self {
        Self { log: Log::new(), key, done: watch::channel(None).0 }
    }

    pub(crate) fn log_to(&self) -> &Log {
        &self.log
    }

    pub(super) fn end(&self, result: Result<Image, ImageError>) {
        match &result {
            Ok(image) => self.log.say(Level::Info, format!("{} is made, of {} layers", image.name, image.layers.len())),
            Err(error) => self.log.say(Level::Error, error.to_string()),
        }
        self.done.send_replace(Some(result.map_err(Arc::new)));
        // Who waits for lines hears that there are no more.
        self.log.grown.send_modify(|_| {});
    }

    pub(super) fn has_ended(&self) -> bool {
        self.done.borrow().is_some()
    }

    /// The lines from this number on, as far as there are any.
    #[must_use]
    pub fn log(&self, from: usize) -> Vec<Line> {
        let lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.get(from..).unwrap_or_default().to_vec()
    }

    /// Returns when there are more lines than this, or there will be none.
    pub async fn grown(&self, than: usize) {
        let mut grown = self.log.grown.subscribe();
        while !self.has_ended() && *grown.borrow_and_update() <= than {
            if grown.changed().await.is_err() {
                return;
            }
        }
    }

    /// How it ended. `None`: it has not.
    #[must_use]
    pub fn ended(&self) -> Option<Result<Image, Arc<ImageError>>> {
        self.done.borrow().clone()
    }

    /// The image, once it is made.
    pub async fn done(&self) -> Result<Image, Arc<ImageError>> {
        let mut done = self.done.subscribe();
        match done.wait_for(Option::is_some).await.map(|done| done.clone()) {
            Ok(Some(result)) => result,
            _ => Err(Arc::new(ImageError::Stopped)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_of_lines_is_bounded_and_the_end_is_told() {
        let making = Making::new("x".into());
        for n in 0..MOST_LINES + 500 {
            making.log.say(Level::Info, format!("{n}"));
        }
        making.log.of_step(3).say(Level::Info, "é".repeat(MOST_LINE));
        making.end(Err(ImageError::Stopped));
        let lines = making.log(MOST_LINES - 1);
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[2].level, lines[0].text.as_str()), (Level::Error, "19999"));
        making.grown(1 << 30).await;
        assert!(making.done().await.is_err() && making.log(usize::MAX).is_empty());
    }
}
