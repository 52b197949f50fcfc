//! A context's process, from the node's side: commands as lines of JSON to its standard input, what it says as lines from its output.
//!
//! A line is the number of a cell, a space, and a JSON object; number 0 is about the interpreter itself. All of it is the sandbox's: a line too long, of no
//! known kind or no JSON ends the process or is passed over, and nothing is believed but that it came from there.

use std::{borrow::Cow, collections::BTreeMap, io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use skep_sandbox::{Command, FaultKind, RequestError, Running, Sandbox};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
};

use super::language::Language;

/// Longest line, in bytes: a picture in base64 among them.
const LINE_BYTES_MAX: usize = 32 << 20;

/// Bytes read at once.
const PIECE_BYTES: usize = 64 << 10;

/// How long an interpreter may take to start: several seconds on a slow disk.
const START: Duration = Duration::from_secs(60);

/// How long a bridge may take to read a command: it does nothing else.
const LISTENS: Duration = Duration::from_secs(30);

/// How long a process has to end by itself when its input has ended.
const LEAVES: Duration = Duration::from_secs(2);

/// Last words that are kept, in bytes.
const WORDS: usize = 2 << 10;

/// What a cell may say. Of what it says, nothing else reaches a client.
const KINDS: [&str; 5] = ["stdout", "stderr", "result", "error", "number_of_executions"];

/// Why there is no interpreter, or none for this cell.
#[derive(Debug, thiserror::Error)]
pub(super) enum KernelError {
    /// Something is not installed in the sandbox.
    #[error("{0} is missing in this sandbox: {1}")]
    Missing(String, String),
    /// The context's folder is none.
    #[error("{0}")]
    Folder(String),
    /// It did not start.
    #[error("the interpreter did not start: {0}")]
    Failed(String),
    /// Too many cells wait.
    #[error("too many cells wait for this context")]
    Crowded,
    /// Somebody removed it while the cell waited.
    #[error("the context was removed")]
    Removed,
}

impl From<RequestError> for KernelError {
    fn from(error: RequestError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What comes from a process while a cell runs.
pub(super) enum Said {
    /// A line for the client, its end included.
    Line(Bytes),
    /// The last one.
    End(Bytes),
    /// The process has gone, or says what no bridge says.
    Gone,
}

/// As much of a line as counts here.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    op: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    what: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    why: Option<Cow<'a, str>>,
}

/// A running interpreter. Dropped: its input ends, and if it does not go by that, it is killed.
pub(super) struct Kernel {
    sandbox: Sandbox,
    running: Option<Running>,
    input: Option<pipe::Sender>,
    output: pipe::Receiver,
    held: BytesMut,
    /// Bytes of `held` in which there is no end of a line.
    searched: usize,
    last: u64,
    words: Arc<Mutex<Vec<u8>>>,
}

impl Kernel {
    /// Starts one, and waits until it listens.
    pub async fn start(sandbox: &Sandbox, language: Language, folder: &str, env: &BTreeMap<String, String>) -> Result<Self, KernelError> {
        let command = Command { env: env.clone(), ..language.command(folder) };
        let mut running = sandbox.exec(command).await.map_err(|error| not_started(language, folder, error))?;
        let gone = || KernelError::Failed("its streams are missing".to_owned());
        let input = Some(running.stdin.take().ok_or_else(gone)?);
        let output = running.stdout.take().ok_or_else(gone)?;
        let words = Arc::default();
        tokio::spawn(keep_last_words(running.stderr.take(), Arc::clone(&words)));
        let (sandbox, held) = (sandbox.clone(), BytesMut::new());
        let mut kernel = Self { sandbox, running: Some(running), input, output, held, searched: 0, last: 0, words };
        match tokio::time::timeout(START, kernel.ready(language)).await {
            Ok(ready) => ready.map(|()| kernel),
            Err(_) => Err(KernelError::Failed(format!("it was not ready within {} s", START.as_secs()))),
        }
    }

    async fn ready(&mut self, language: Language) -> Result<(), KernelError> {
        while let Ok(Some(line)) = self.line().await {
            let Some((0, text)) = split(&line) else { continue };
            let Ok(head) = serde_json::from_slice::<Head<'_>>(&text) else { continue };
            match head.op.as_deref() {
                Some("ready") => return Ok(()),
                Some("missing") => {
                    let what: String = head.what.as_deref().unwrap_or_default().chars().take(80).collect();
                    let remedy = language.remedy(what_of(&what));
                    return Err(KernelError::Missing(what, remedy));
                }
                Some("failed") => return Err(KernelError::Failed(head.why.as_deref().unwrap_or_default().chars().take(2_000).collect())),
                _ => {}
            }
        }
        let words = String::from_utf8_lossy(&self.words.lock()).trim().to_owned();
        Err(KernelError::Failed(if words.is_empty() { "it ended at once".to_owned() } else { words }))
    }

    /// Whether its process has not ended.
    pub fn alive(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| running.exited().now_or_never().is_none())
    }

    /// Begins a cell; its number.
    pub async fn begin(&mut self, code: &str, env: &BTreeMap<String, String>) -> io::Result<u64> {
        self.last += 1;
        self.tell(&json!({ "op": "execute", "id": self.last, "code": code, "env": env }), LISTENS).await?;
        Ok(self.last)
    }

    /// Asks a cell to stop where it is. One that cannot be told ends by its process.
    pub async fn interrupt(&mut self, cell: u64) {
        let _ = self.tell(&json!({ "op": "interrupt", "id": cell }), LEAVES).await;
    }

    async fn tell(&mut self, command: &serde_json::Value, within: Duration) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let line = format!("{command}\n");
        tokio::time::timeout(within, input.write_all(line.as_bytes())).await?
    }

    /// The next thing that a cell says. Given up in between, it loses nothing.
    pub async fn said(&mut self, cell: u64) -> Said {
        while let Ok(Some(line)) = self.line().await {
            let Some((number, text)) = split(&line) else { continue };
            // What an earlier cell still said when it had been given up.
            if number != cell {
                continue;
            }
            let Ok(head) = serde_json::from_slice::<Head<'_>>(&text) else { continue };
            match head.kind.as_deref() {
                Some("end_of_execution") => return Said::End(text),
                Some("unexpected_end_of_execution") => return Said::Gone,
                Some(kind) if KINDS.contains(&kind) => return Said::Line(text),
                _ => {}
            }
        }
        Said::Gone
    }

    /// A line, its end included. `None`: there are no more.
    async fn line(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(at) = self.held[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.held.split_to(self.searched + at + 1).freeze();
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.held.len();
            if self.held.len() > LINE_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.held.reserve(PIECE_BYTES);
            if self.output.read_buf(&mut self.held).await? == 0 {
                return Ok(None);
            }
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.input = None;
        let Some(mut running) = self.running.take() else { return };
        let sandbox = self.sandbox.clone();
        // Where the node stops there is nobody to wait; the end of its input is all it hears then.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if tokio::time::timeout(LEAVES, running.exited()).await.is_err() {
                // It may have ended just now.
                let _ = sandbox.signal(running.pid, KILL, true).await;
            }
        });
    }
}

const KILL: i32 = 9;

/// The number of a line, and its text.
fn split(line: &Bytes) -> Option<(u64, Bytes)> {
    let at = line.iter().take(21).position(|byte| *byte == b' ')?;
    let number = std::str::from_utf8(&line[..at]).ok()?.parse().ok()?;
    // A list would be taken for the fields of a message in their order.
    (line.get(at + 1) == Some(&b'{')).then(|| (number, line.slice(at + 1..)))
}

/// A module of Jupyter's own is missing because all of it is.
fn what_of(what: &str) -> &str {
    what.split('.').next().unwrap_or(what)
}

fn not_started(language: Language, folder: &str, error: RequestError) -> KernelError {
    match error {
        // What its user may not enter is told of where the program is started.
        RequestError::Fault(fault) if fault.kind == FaultKind::Denied || fault.message.starts_with("cwd") => KernelError::Folder(format!(
            "cwd {:?} is no folder of this sandbox that its user may enter",
            folder.chars().take(200).collect::<String>()
        )),
        RequestError::Fault(fault) if fault.kind == FaultKind::NotFound => {
            let program = language.program();
            KernelError::Missing(program.to_owned(), language.remedy(program))
        }
        other => other.into(),
    }
}

async fn keep_last_words(from: Option<pipe::Receiver>, words: Arc<Mutex<Vec<u8>>>) {
    let Some(mut from) = from else { return };
    let mut piece = vec![0; 4 << 10];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        let mut words = words.lock();
        words.extend_from_slice(&piece[..read]);
        let over = words.len().saturating_sub(WORDS);
        words.drain(..over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_sandbox_are_taken_for_what_they_are() {
        let (number, text) = split(&Bytes::from_static(b"12 {\"type\":\"stdout\"}\n")).unwrap();
        assert_eq!((number, &text[..]), (12, &b"{\"type\":\"stdout\"}\n"[..]));
        for hostile in
            ["", "\n", "x {}\n", "-1 {}\n", "99999999999999999999999 {}\n", "{\"type\":\"result\"}\n", "\u{85} {}\n", "1 []\n", "1 "]
        {
            assert!(split(&Bytes::from(hostile)).is_none(), "{hostile:?}");
        }
        for hostile in ["{", "{\"type\":1}", "nonsense"] {
            assert!(serde_json::from_str::<Head<'_>>(hostile).is_err(), "{hostile:?}");
        }
    }
}
