//! Processes that go on without the worker that started them: what they are, what they wrote lately, and how they ended. Kept in memory, of one life of a node;
//! a sandbox that ends takes them with it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_isolate::{Body, BodyWriter, Response};
use skep_sandbox::{Running, Sandbox, Status};
use tokio::sync::watch;

use super::{
    Call, Nothing, Refusal, SandboxBinding, answered, commands,
    commands::Run,
    commands::{Begun, Heard},
    iso, json as answer_json,
};

/// Processes of one sandbox that are known, ended ones among them.
const PROCESSES_MAX: usize = 64;

/// Bytes kept of what one process wrote: the newest.
const LOG_BYTES: usize = 512 << 10;

#[derive(Default)]
pub(super) struct Processes {
    all: Mutex<BTreeMap<String, Arc<Process>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    at_ms: i64,
    /// `None`: the sandbox ended first.
    status: Option<Status>,
}

pub(super) struct Process {
    id: String,
    number: u64,
    pid: u32,
    command: String,
    started_ms: i64,
    sandbox: Sandbox,
    killed: AtomicBool,
    ended: watch::Sender<Option<Ended>>,
    log: Mutex<Log>,
    /// How many pieces there have been.
    grown: watch::Sender<u64>,
}

#[derive(Default)]
struct Log {
    /// The number of the first piece that is kept.
    first: u64,
    pieces: VecDeque<(&'static str, String)>,
    bytes: usize,
}

impl Log {
    fn add(&mut self, stream: &'static str, text: String) -> u64 {
        self.bytes += text.len();
        self.pieces.push_back((stream, text));
        while self.bytes > LOG_BYTES && self.pieces.len() > 1 {
            self.bytes -= self.pieces.pop_front().map_or(0, |(_, text)| text.len());
            self.first += 1;
        }
        self.first + self.pieces.len() as u64
    }

    fn all(&self, of: &str) -> String {
        self.pieces.iter().filter(|(stream, _)| *stream == of).map(|(_, text)| text.as_str()).collect()
    }

    /// The pieces from number `from` on, and the number after them.
    fn since(&self, from: u64) -> (Vec<(&'static str, String)>, u64) {
        let skipped = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        (self.pieces.iter().skip(skipped).cloned().collect(), self.first + self.pieces.len() as u64)
    }
}

impl Process {
    fn shown(&self) -> Value {
        let ended = *self.ended.borrow();
        let mut shown = json!({
            "id": self.id, "pid": self.pid, "command": self.command, "status": self.status(), "startTime": iso(self.started_ms), "number": self.number,
        });
        if let (Some(Ended { at_ms, status }), Some(shown)) = (ended, shown.as_object_mut()) {
            shown.insert("endTime".to_owned(), iso(at_ms).into());
            shown.insert("exitCode".to_owned(), status.map_or(137, commands::exit_code).into());
        }
        shown
    }

    fn status(&self) -> &'static str {
        match *self.ended.borrow() {
            None => "running",
            Some(Ended { status: Some(Status::Code(0)), .. }) => "completed",
            Some(Ended { status: Some(Status::Code(_)), .. }) if !self.killed.load(Relaxed) => "failed",
            Some(_) => "killed",
        }
    }

    fn runs(&self) -> bool {
        self.ended.borrow().is_none()
    }

    async fn kill(&self, signal: i32) -> Result<(), Refusal> {
        if !self.runs() {
            return Ok(());
        }
        self.killed.store(true, Relaxed);
        Ok(self.sandbox.signal(self.pid, signal, true).await?)
    }

    /// Gathers what it writes, and its end.
    async fn follow(self: Arc<Self>, running: Running) {
        let mut heard = Heard::of(running);
        while let Some((stream, text)) = heard.next().await {
            let grown = self.log.lock().add(stream, text);
            self.grown.send_replace(grown);
        }
        self.ended.send_replace(Some(Ended { at_ms: crate::now_ms(), status: heard.status().ok() }));
    }
}

impl Processes {
    pub fn forget_all(&self) {
        self.all.lock().clear();
    }

    fn find(&self, id: &str) -> Option<Arc<Process>> {
        self.all.lock().get(id).cloned()
    }

    fn known(&self, id: &str) -> Result<Arc<Process>, Refusal> {
        self.find(id).ok_or_else(|| {
            Refusal::new(404, "PROCESS_NOT_FOUND", format!("there is no process {:?}", id.chars().take(80).collect::<String>()))
        })
    }

    /// A place under a name, or the next free number.
    fn name(&self, wanted: Option<String>) -> Result<String, Refusal> {
        let mut all = self.all.lock();
        if all.len() >= PROCESSES_MAX {
            let oldest =
                all.values().filter(|process| !process.runs()).min_by_key(|process| process.started_ms).map(|process| process.id.clone());
            let oldest = oldest.ok_or_else(|| Refusal::new(429, "TOO_MANY_PROCESSES", format!("{PROCESSES_MAX} processes run already")))?;
            all.remove(&oldest);
        }
        let Some(name) = wanted else {
            let mut number = all.len() + 1;
            while all.contains_key(&format!("proc_{number}")) {
                number += 1;
            }
            return Ok(format!("proc_{number}"));
        };
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(fine) {
            return Err(Refusal::invalid("a process is called by 1 to 64 of A-Z, a-z, 0-9, - and _".to_owned()));
        }
        if all.get(&name).is_some_and(|process| process.runs()) {
            return Err(Refusal::new(409, "PROCESS_EXISTS", format!("process {name} runs already")));
        }
        Ok(name)
    }
}

#[derive(Deserialize)]
struct Which {
    id: String,
    #[serde(default)]
    signal: Option<Value>,
    #[serde(default)]
    timeout: Option<f64>,
}

/// A signal by number or name.
fn signal_of(given: Option<&Value>) -> Result<i32, Refusal> {
    const NAMES: [(&str, i32); 9] =
        [("HUP", 1), ("INT", 2), ("QUIT", 3), ("KILL", 9), ("USR1", 10), ("USR2", 12), ("TERM", 15), ("CONT", 18), ("STOP", 19)];
    let unknown = || Refusal::invalid("a signal is a number from 1 to 31, or a name like SIGTERM".to_owned());
    match given {
        None | Some(Value::Null) => Ok(15),
        Some(Value::Number(number)) => {
            number.as_i64().and_then(|number| i32::try_from(number).ok()).filter(|number| (1..=31).contains(number)).ok_or_else(unknown)
        }
        Some(Value::String(name)) => {
            let name = name.strip_prefix("SIG").unwrap_or(name);
            NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, number)| number).ok_or_else(unknown)
        }
        Some(_) => Err(unknown()),
    }
}

impl SandboxBinding {
    pub(super) async fn start_process(&self, mut call: Call) -> Result<Response, Refusal> {
        let run: Run = call.arguments().await?;
        let (owned, sandbox) = self.sandbox(&call.room).await?;
        let processes = &call.room.processes;
        let id = processes.name(run.process_id.clone())?;
        let Begun { number, running, mut group } = self.begin(&owned, &sandbox, &run).await?;
        let process = Arc::new(Process {
            id: id.clone(),
            number,
            pid: running.pid,
            command: run.command.clone(),
            started_ms: crate::now_ms(),
            sandbox,
            killed: AtomicBool::new(false),
            ended: watch::Sender::new(None),
            log: Mutex::default(),
            grown: watch::Sender::new(0),
        });
        let shown = process.shown();
        processes.all.lock().insert(id, Arc::clone(&process));
        // From here on it goes on by itself.
        group.let_go();
        if run.limit() < Duration::from_secs(50_000_000) {
            let (process, limit) = (Arc::clone(&process), run.limit());
            tokio::spawn(async move {
                let mut ended = process.ended.subscribe();
                if tokio::time::timeout(limit, ended.wait_for(Option::is_some)).await.is_err() {
                    // It may have ended just now.
                    let _ = process.kill(9).await;
                }
            });
        }
        tokio::spawn(process.follow(running));
        answer_json(&shown)
    }

    pub(super) async fn list_processes(&self, mut call: Call) -> Result<Response, Refusal> {
        let Nothing {} = call.arguments().await?;
        let all: Vec<Value> = call.room.processes.all.lock().values().map(|process| process.shown()).collect();
        answer_json(&all)
    }

    pub(super) async fn get_process(&self, mut call: Call) -> Result<Response, Refusal> {
        let Which { id, .. } = call.arguments().await?;
        answer_json(&call.room.processes.find(&id).map(|process| process.shown()))
    }

    pub(super) async fn kill_process(&self, mut call: Call) -> Result<Response, Refusal> {
        let Which { id, signal, .. } = call.arguments().await?;
        let signal = signal_of(signal.as_ref())?;
        call.room.processes.known(&id)?.kill(signal).await?;
        answer_json(&json!({ "success": true }))
    }

    pub(super) async fn kill_all_processes(&self, mut call: Call) -> Result<Response, Refusal> {
        let Nothing {} = call.arguments().await?;
        if self.rooms.sandboxes.get().is_none() {
            return Err(Refusal::none());
        }
        let all: Vec<Arc<Process>> = call.room.processes.all.lock().values().filter(|process| process.runs()).cloned().collect();
        for process in &all {
            process.kill(9).await?;
        }
        answer_json(&all.len())
    }

    pub(super) async fn cleanup_completed_processes(&self, mut call: Call) -> Result<Response, Refusal> {
        let Nothing {} = call.arguments().await?;
        let mut all = call.room.processes.all.lock();
        let before = all.len();
        all.retain(|_, process| process.runs());
        answer_json(&(before - all.len()))
    }

    pub(super) async fn process_logs(&self, mut call: Call) -> Result<Response, Refusal> {
        let Which { id, .. } = call.arguments().await?;
        let process = call.room.processes.known(&id)?;
        let log = process.log.lock();
        answer_json(&json!({ "stdout": log.all("stdout"), "stderr": log.all("stderr"), "processId": id }))
    }

    pub(super) async fn stream_process_logs(&self, mut call: Call) -> Result<Response, Refusal> {
        let Which { id, .. } = call.arguments().await?;
        let process = call.room.processes.known(&id)?;
        let (writer, stream) = Body::channel();
        tokio::spawn(async move {
            tokio::select! {
                () = stream_log(&process, &writer) => {}
                () = writer.closed() => {}
            }
        });
        Ok(answered("text/event-stream", Body::Stream(stream)))
    }

    pub(super) async fn wait_for_exit(&self, mut call: Call) -> Result<Response, Refusal> {
        let Which { id, timeout, .. } = call.arguments().await?;
        let process = call.room.processes.known(&id)?;
        let mut ended = process.ended.subscribe();
        let limit = Duration::from_secs_f64(timeout.filter(|ms| ms.is_finite() && *ms >= 0.0).map_or(1e8, |ms| (ms / 1e3).min(1e8)));
        let Ok(ended) = tokio::time::timeout(limit, ended.wait_for(Option::is_some)).await else {
            return Err(Refusal::new(408, "PROCESS_READY_TIMEOUT", format!("process {id} did not end within {} ms", limit.as_millis())));
        };
        let status = ended.ok().and_then(|ended| *ended).and_then(|ended| ended.status);
        answer_json(&json!({ "exitCode": status.map_or(137, commands::exit_code) }))
    }

    /// A process that is asked about, and whether it runs.
    pub(super) fn process_runs(&self, call: &Call, id: &str) -> Result<bool, Refusal> {
        Ok(call.room.processes.known(id)?.runs())
    }
}

async fn stream_log(process: &Process, writer: &BodyWriter) {
    let (mut grown, mut ended) = (process.grown.subscribe(), process.ended.subscribe());
    let mut next = 0;
    loop {
        // Before the log is looked at: what came before the end is in it.
        let over = ended.borrow_and_update().is_some();
        let (pieces, after) = process.log.lock().since(next);
        next = after;
        for (stream, text) in pieces {
            if writer.write(commands::event(stream, &json!({ "data": text }))).await.is_err() {
                return;
            }
        }
        if over {
            break;
        }
        tokio::select! {
            grew = grown.wait_for(|grown| *grown > next) => if grew.is_err() { return },
            ended = ended.changed() => if ended.is_err() { return },
        }
    }
    let code = process.ended.borrow().and_then(|ended| ended.status).map_or(137, commands::exit_code);
    // Whoever reads may have gone.
    let _ = writer.write(commands::event("complete", &json!({ "exitCode": code }))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_the_newest_and_numbers_what_it_had() {
        let mut log = Log::default();
        assert_eq!(log.add("stdout", "a".repeat(LOG_BYTES)), 1);
        assert_eq!(log.add("stderr", "b".to_owned()), 2);
        assert_eq!((log.all("stdout").len(), log.all("stderr").as_str()), (0, "b"));
        assert_eq!(log.since(0), (vec![("stderr", "b".to_owned())], 2));
        assert_eq!(log.since(2), (vec![], 2));
        log.add("stdout", "é".repeat(LOG_BYTES));
        assert_eq!(log.pieces.len(), 1, "one piece is kept whatever its size");
    }

    #[test]
    fn signals_are_numbers_or_names() {
        assert_eq!(signal_of(None).unwrap(), 15);
        assert_eq!(signal_of(Some(&json!("SIGKILL"))).unwrap(), 9);
        assert_eq!(signal_of(Some(&json!("INT"))).unwrap(), 2);
        for hostile in [json!(0), json!(-9), json!(32), json!(1e300), json!("SIGNONE"), json!([]), json!("9; rm")] {
            assert!(signal_of(Some(&hostile)).is_err(), "{hostile}");
        }
    }
}
