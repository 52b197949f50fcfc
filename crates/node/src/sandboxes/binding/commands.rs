//! Commands of a worker: run to their end, or streamed as they write. A command lives no longer than the call that wants it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use skep_isolate::{Body, BodyWriter, Response};
use skep_sandbox::{Command, Note, RequestError, Running, Sandbox, Status};
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::{Awake, Call, Refusal, SandboxBinding, USER, answered, iso, json as answer_json, owner};
use crate::sandboxes::{Owned, SandboxError};

/// Most bytes kept of each stream of a command that is not streamed: what is more is passed over, and the answer says so.
const KEPT_MAX: usize = 8 << 20;

/// Most bytes of a command and its variables: they travel in one packet.
const COMMAND_MAX: usize = 40 << 10;

/// Bytes read at once.
const PIECE_BYTES: usize = 32 << 10;

/// How long nothing comes from a stream before it is read no more, when the command has ended and something that it left behind holds it open.
const LINGER: Duration = Duration::from_millis(100);

const KILL: i32 = 9;

/// What to run.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    pub command: String,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    env: Option<BTreeMap<String, String>>,
    #[serde(default)]
    timeout: Option<f64>,
    #[serde(default)]
    pub process_id: Option<String>,
    #[serde(default)]
    pub snapshot_before: bool,
    #[serde(default)]
    pub changes: bool,
}

impl Run {
    pub fn command(&self, of_sandbox: BTreeMap<String, String>) -> Result<Command, Refusal> {
        let mut env = of_sandbox;
        env.extend(self.env.clone().unwrap_or_default());
        let bytes: usize = env.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        if bytes + self.command.len() > COMMAND_MAX {
            let message = format!("a command and its variables have at most {COMMAND_MAX} bytes; write a file and run that");
            return Err(Refusal::new(413, "COMMAND_TOO_LONG", message));
        }
        let cwd = self.cwd.as_deref().map(super::files::absolute);
        Ok(Command { env, cwd, ..Command::new(&["/bin/bash", "-c", &self.command]).user(USER) })
    }

    /// How long it may take.
    pub fn limit(&self) -> Duration {
        match self.timeout {
            Some(ms) if ms.is_finite() && ms > 0.0 => Duration::from_secs_f64((ms / 1e3).min(1e8)),
            _ => Duration::from_secs(100_000_000),
        }
    }
}

/// A command and all that is in its process group; killed when it is dropped before it has ended.
pub(super) struct Group {
    sandbox: Sandbox,
    pid: Option<u32>,
    /// An isolate may be dropped, and this with it, on a thread that is none of the runtime's.
    runtime: tokio::runtime::Handle,
}

impl Group {
    /// Within a runtime.
    pub fn of(sandbox: &Sandbox, running: &Running) -> Self {
        Self { sandbox: sandbox.clone(), pid: Some(running.pid), runtime: tokio::runtime::Handle::current() }
    }

    /// It has ended, or shall go on.
    pub fn let_go(&mut self) {
        self.pid = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(pid) = self.pid else { return };
        let sandbox = self.sandbox.clone();
        // It may have ended just now.
        self.runtime.spawn(async move { drop(sandbox.signal(pid, KILL, true).await) });
    }
}

/// A command that has begun.
pub(super) struct Begun {
    /// In the history of its sandbox.
    pub number: u64,
    pub running: Running,
    pub group: Group,
}

/// As a shell has it.
pub(super) fn exit_code(status: Status) -> i32 {
    match status {
        Status::Code(code) => code,
        Status::Signal(signal) => 128 + signal,
    }
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    truncated: bool,
}

async fn keep(pipe: Option<pipe::Receiver>, kept: &Mutex<Kept>, came: &AtomicU64) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(read @ 1..) = pipe.read(&mut piece).await {
        came.fetch_add(read as u64, Relaxed);
        let mut kept = kept.lock();
        let room = KEPT_MAX.saturating_sub(kept.bytes.len()).min(read);
        kept.bytes.extend_from_slice(&piece[..room]);
        kept.truncated |= room < read;
    }
}

impl SandboxBinding {
    /// Starts a command, which is written down. Whoever wants it may be gone before it has begun: then it ends at once.
    pub(super) async fn begin(&self, owned: &Owned, sandbox: &Sandbox, run: &Run) -> Result<Begun, Refusal> {
        if run.snapshot_before {
            self.has_room_for_snapshot()?;
        }
        let note = Note { author: owner(&self.worker), snapshot_before: run.snapshot_before, changes: run.changes };
        let command = run.command(owned.facts().env)?;
        let (owned, sandbox, snapshot_before) = (owned.clone(), sandbox.clone(), run.snapshot_before);
        let begun = tokio::spawn(async move {
            let (number, running) = owned.exec(command, note).await?;
            let group = Group::of(&sandbox, &running);
            if snapshot_before {
                owned.own_snapshot_before(number).await?;
            }
            Ok::<_, SandboxError>(Begun { number, running, group })
        });
        begun.await.map_err(|_| Refusal::internal("starting the command broke off".to_owned()))?.map_err(Refusal::from)
    }

    pub(super) async fn exec(&self, mut call: Call) -> Result<Response, Refusal> {
        let run: Run = call.arguments().await?;
        let (owned, sandbox) = self.sandbox(&call.room).await?;
        let _awake = self.keep_awake(&owned);
        let (began, timestamp) = (Instant::now(), iso(crate::now_ms()));
        let Begun { number, mut running, mut group } = self.begin(&owned, &sandbox, &run).await?;
        let (stdout, stderr) = (Mutex::<Kept>::default(), Mutex::<Kept>::default());
        let (out, err) = (running.stdout.take(), running.stderr.take());
        let came = AtomicU64::new(0);
        let ended = async {
            let reading = async { tokio::join!(keep(out, &stdout, &came), keep(err, &stderr, &came)) };
            tokio::pin!(reading);
            tokio::select! {
                _ = &mut reading => running.exited().await,
                status = running.exited() => {
                    // Something that it started may keep its streams for good: they are read as long as something comes.
                    let mut before = u64::MAX;
                    while before != came.load(Relaxed) {
                        before = came.load(Relaxed);
                        if tokio::time::timeout(LINGER, &mut reading).await.is_ok() {
                            break;
                        }
                    }
                    status
                }
            }
        };
        let Ok(status) = tokio::time::timeout(run.limit(), ended).await else {
            return Err(Refusal::new(408, "COMMAND_TIMEOUT", format!("the command did not end within {} ms", run.limit().as_millis())));
        };
        let exit_code = exit_code(status?);
        group.let_go();
        let (stdout, stderr) = (stdout.into_inner(), stderr.into_inner());
        answer_json(&json!({
            "success": exit_code == 0,
            "exitCode": exit_code,
            "stdout": String::from_utf8_lossy(&stdout.bytes),
            "stderr": String::from_utf8_lossy(&stderr.bytes),
            "command": run.command,
            "duration": began.elapsed().as_millis() as u64,
            "timestamp": timestamp,
            "truncated": stdout.truncated || stderr.truncated,
            "number": number,
        }))
    }

    pub(super) async fn exec_stream(&self, mut call: Call) -> Result<Response, Refusal> {
        let run: Run = call.arguments().await?;
        let (owned, sandbox) = self.sandbox(&call.room).await?;
        let awake = self.keep_awake(&owned);
        let Begun { number, running, group } = self.begin(&owned, &sandbox, &run).await?;
        let (writer, stream) = Body::channel();
        tokio::spawn(follow((number, running), group, awake, writer, run.limit()));
        Ok(answered("text/event-stream", Body::Stream(stream)))
    }
}

/// Tells what a command writes until it ends. Who has stopped reading takes the command with it.
async fn follow((number, running): (u64, Running), mut group: Group, _awake: Awake, writer: BodyWriter, limit: Duration) {
    let ended = {
        let told = tell(number, running, &writer);
        tokio::select! {
            ended = tokio::time::timeout(limit, told) => ended,
            () = writer.closed() => return,
        }
    };
    let last = match ended {
        Ok(Ok(status)) => {
            group.let_go();
            event("complete", &json!({ "exitCode": exit_code(status) }))
        }
        Ok(Err(error)) => event("error", &json!({ "error": error.to_string() })),
        Err(_) => event("error", &json!({ "error": "timeout" })),
    };
    let _ = writer.write(last).await;
}

async fn tell(number: u64, running: Running, writer: &BodyWriter) -> Result<Status, RequestError> {
    let gone = |_| RequestError::Gone;
    writer.write(event("start", &json!({ "pid": running.pid, "number": number }))).await.map_err(gone)?;
    let mut heard = Heard::of(running);
    while let Some((stream, text)) = heard.next().await {
        writer.write(event(stream, &json!({ "data": text }))).await.map_err(gone)?;
    }
    heard.status()
}

/// A server-sent event.
pub(super) fn event(kind: &str, more: &serde_json::Value) -> Bytes {
    let mut event = json!({ "type": kind, "timestamp": iso(crate::now_ms()) });
    if let (Some(event), Some(more)) = (event.as_object_mut(), more.as_object()) {
        event.extend(more.clone());
    }
    format!("data: {event}\n\n").into()
}

/// A running command, as it is heard: piece by piece, and then how it ended.
pub(super) struct Heard {
    running: Running,
    out: Pieces,
    err: Pieces,
    /// `Some(None)`: the sandbox ended first.
    status: Option<Option<Status>>,
}

impl Heard {
    pub fn of(mut running: Running) -> Self {
        let (out, err) = (Pieces::of(running.stdout.take()), Pieces::of(running.stderr.take()));
        Self { running, out, err, status: None }
    }

    /// The next piece and the stream that it was written to. `None`: it has ended, and what it left behind has nothing more to say for now. Given up
    /// in between, it loses nothing.
    pub async fn next(&mut self) -> Option<(&'static str, String)> {
        while self.out.open() || self.err.open() {
            let ended = self.status.is_some();
            let late = async {
                match ended {
                    true => tokio::time::sleep(LINGER).await,
                    false => std::future::pending().await,
                }
            };
            let (stream, text) = tokio::select! {
                biased;
                text = self.out.next(), if self.out.open() => ("stdout", text),
                text = self.err.next(), if self.err.open() => ("stderr", text),
                status = self.running.exited(), if !ended => {
                    self.status = Some(status.ok());
                    continue;
                }
                () = late => break,
            };
            if let Some(text) = text {
                return Some((stream, text));
            }
        }
        if self.status.is_none() {
            self.status = Some(self.running.exited().await.ok());
        }
        None
    }

    /// How it ended, once there is nothing more.
    pub fn status(&self) -> Result<Status, RequestError> {
        self.status.flatten().ok_or(RequestError::Gone)
    }
}

/// What a pipe brings, as text: a character that came in two pieces is told in one.
struct Pieces {
    pipe: Option<pipe::Receiver>,
    held: Vec<u8>,
}

impl Pieces {
    fn of(pipe: Option<pipe::Receiver>) -> Self {
        Self { pipe, held: Vec::with_capacity(PIECE_BYTES) }
    }

    fn open(&self) -> bool {
        self.pipe.is_some()
    }

    /// The next piece; `None`: nothing yet, or no more. Given up in between, it loses nothing.
    async fn next(&mut self) -> Option<String> {
        let read = self.pipe.as_mut()?.read_buf(&mut self.held).await;
        if !matches!(read, Ok(1..)) {
            self.pipe = None;
            return (!self.held.is_empty()).then(|| String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned());
        }
        let whole = self.held.len() - unfinished(&self.held);
        let rest = self.held.split_off(whole);
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        self.held.extend_from_slice(&rest);
        self.held.reserve(PIECE_BYTES);
        Some(text)
    }
}

/// Bytes at the end that begin a character and do not end it.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0x00..=0x7f => return 0,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            // It goes on from one before.
            _ => continue,
        };
        return if length > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_cut_in_two() {
        let text = "aé€🐝";
        for at in 0..=text.len() {
            let bytes = &text.as_bytes()[..at];
            let whole = &bytes[..at - unfinished(bytes)];
            assert!(std::str::from_utf8(whole).is_ok() && at - whole.len() < 4, "{at}");
        }
        assert_eq!(unfinished(&[0x80, 0x80, 0x80, 0x80]), 0);
        assert_eq!(unfinished(&[]), 0);
    }

    #[test]
    fn a_command_fits_into_a_packet_or_is_refused() {
        let run = |command: String| Run {
            command,
            cwd: None,
            env: None,
            timeout: None,
            process_id: None,
            snapshot_before: false,
            changes: false,
        };
        assert!(run("x".repeat(COMMAND_MAX)).command(BTreeMap::new()).is_ok());
        assert!(run("x".repeat(COMMAND_MAX + 1)).command(BTreeMap::new()).is_err());
        for timeout in [f64::NAN, -1.0, f64::INFINITY, 1e300] {
            assert!(Run { timeout: Some(timeout), ..run(String::new()) }.limit() <= Duration::from_secs(100_000_000));
        }
    }
}
