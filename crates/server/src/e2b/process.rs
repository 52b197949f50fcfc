//! `process.Process`: commands that outlive the request which started them, with as many listeners as like.
//!
//! Each command has a task that reads what it writes and gives it to all who listen; the slowest of them sets the pace, so that nothing is
//! lost, but one that stands still while others wait is let go. While nobody listens the command goes on, and the last that it wrote waits for
//! the next who comes. How it ended is known for half a minute. It is not: where commands are counted; init knows what runs.

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use skep_sandbox::{Command, FaultKind, PtySize, RequestError, Running, Sandbox, Status, Stdio, Terminal};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::{Notify, mpsc},
    time::{Instant, sleep_until, timeout},
};

use super::{
    connect::{self, Code, Problem},
    messages::{EndEvent, ProcessConfig, ProcessEvent, ProcessInfo, Selector, Told},
    telling::{self, Next, Pace, Source},
};

/// Of a pipe at once, and of a terminal.
const PIECE: usize = 64 << 10;
/// Pieces on the way to one listener.
const ON_THE_WAY: usize = 16;
/// What is kept for the next listener while there is none.
const KEPT: usize = 256 << 10;
/// How long one listener may keep others waiting.
const STALL: Duration = Duration::from_secs(10);
/// How long the end of a command is known.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Commands that are known, as long as some of them have ended.
const MOST_KNOWN: usize = 4_096;
/// Listeners of one command.
const MOST_LISTENERS: usize = 64;
/// How long a command that has no reader of its input may keep the one who writes.
const INPUT: Duration = Duration::from_secs(60);

/// Of the signals, those that the wire has.
const KILL: i32 = 9;
const TERM: i32 = 15;

/// All commands of a sandbox that were started through the wire.
pub struct Processes {
    sandbox: Sandbox,
    known: Arc<Mutex<HashMap<u32, Arc<Process>>>>,
}

struct Process {
    pid: u32,
    tag: Option<String>,
    input: tokio::sync::Mutex<Input>,
    terminal: Option<Arc<Terminal>>,
    /// Somebody sent it a signal that ends it: others that it started may hold its output open, and are not waited for.
    ending: Notify,
    hub: Mutex<Hub>,
}

enum Input {
    /// There is none, or not any more.
    Closed,
    Pipe(pipe::Sender),
    Terminal(Arc<Terminal>),
}

#[derive(Default)]
struct Hub {
    listeners: Vec<mpsc::Sender<Next>>,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    ended: Option<Next>,
}

/// What a command is started with.
pub struct Start {
    pub command: Command,
    /// From now.
    pub deadline: Option<Duration>,
}

/// What a command writes, from here on.
pub struct Listener {
    pid: u32,
    deadline: Option<Instant>,
    pieces: mpsc::Receiver<Next>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Processes {
    pub fn of(sandbox: Sandbox) -> Self {
        Self { sandbox, known: Arc::default() }
    }

    /// Starts a command. It runs until it ends, its deadline comes or it is killed, whoever listens.
    pub async fn start(&self, start: Start) -> Result<Listener, RequestError> {
        let Start { command, deadline } = start;
        let tag = command.tag.clone();
        let deadline = deadline.map(|after| Instant::now() + after);
        let mut running = self.sandbox.exec(command).await?;
        let terminal = running.terminal.take().map(Arc::new);
        let input = match (&terminal, running.stdin.take()) {
            (Some(terminal), _) => Input::Terminal(Arc::clone(terminal)),
            (None, Some(pipe)) => Input::Pipe(pipe),
            (None, None) => Input::Closed,
        };
        let (sender, pieces) = mpsc::channel(ON_THE_WAY);
        let hub = Hub { listeners: vec![sender], ..Hub::default() };
        let pid = running.pid;
        let process = Process { pid, tag, input: input.into(), terminal, ending: Notify::new(), hub: hub.into() };
        let process = Arc::new(process);
        {
            let mut known = lock(&self.known);
            if known.len() >= MOST_KNOWN {
                known.retain(|_, other| lock(&other.hub).ended.is_none());
            }
            // Whoever asks by this name means the new one.
            if let Some(tag) = &process.tag {
                known.retain(|_, other| other.tag.as_ref() != Some(tag) || lock(&other.hub).ended.is_none());
            }
            known.insert(pid, Arc::clone(&process));
        }
        let known = Arc::downgrade(&self.known);
        tokio::spawn(attend(self.sandbox.clone(), running, process, deadline, known));
        Ok(Listener { pid, deadline, pieces })
    }

    /// Listens to a command that runs, or hears how one ended not long ago.
    pub async fn connect(&self, selector: &Selector) -> Result<Listener, Problem> {
        let process = match self.find(selector) {
            Ok(process) => process,
            Err(unknown) => self.earlier(selector).await.ok_or(unknown)?,
        };
        process.listen()
    }

    /// A command that an earlier node started: its pipes ended with that node, its end can still be heard.
    async fn earlier(&self, selector: &Selector) -> Option<Arc<Process>> {
        let active = self.sandbox.commands().await.ok()?.into_iter().find(|active| match selector {
            Selector { pid: Some(pid), .. } => active.pid == *pid,
            Selector { tag, .. } => tag.is_some() && active.tag == *tag,
        })?;
        let mut ending = self.sandbox.attach(active.pid).await.ok()??;
        let (pid, tag) = (active.pid, active.tag);
        let process =
            Arc::new(Process { pid, tag, input: Input::Closed.into(), terminal: None, ending: Notify::new(), hub: Hub::default().into() });
        lock(&self.known).insert(pid, Arc::clone(&process));
        let (known, ended) = (Arc::downgrade(&self.known), Arc::clone(&process));
        tokio::spawn(async move {
            let end = ending.exited().await;
            ended.end(end.ok(), &known).await;
        });
        Some(process)
    }

    /// What runs, as init knows it.
    pub async fn list(&self) -> Result<Vec<ProcessInfo>, RequestError> {
        let mut active = self.sandbox.commands().await?;
        active.sort_by_key(|active| active.pid);
        let info = active.into_iter().map(|active| {
            let mut argv = active.argv.into_iter();
            let config = ProcessConfig { cmd: argv.next().unwrap_or_default(), args: argv.collect(), envs: active.env, cwd: active.cwd };
            ProcessInfo { config, pid: active.pid, tag: active.tag }
        });
        Ok(info.collect())
    }

    fn find(&self, selector: &Selector) -> Result<Arc<Process>, Problem> {
        let known = lock(&self.known);
        let found = match selector {
            Selector { pid: Some(pid), .. } => known.get(pid),
            Selector { tag: Some(tag), .. } => {
                let mut tagged = known.values().filter(|process| process.tag.as_ref() == Some(tag));
                tagged.clone().find(|process| lock(&process.hub).ended.is_none()).or_else(|| tagged.next())
            }
            Selector { pid: None, tag: None } => return Err(Problem::new(Code::InvalidArgument, "a process is selected by pid or tag")),
        };
        found.cloned().ok_or_else(|| unknown(selector))
    }

    /// One that has not ended.
    async fn alive(&self, selector: &Selector) -> Result<Arc<Process>, Problem> {
        let process = match self.find(selector) {
            Ok(process) => process,
            Err(unknown) => self.earlier(selector).await.ok_or(unknown)?,
        };
        if lock(&process.hub).ended.is_some() { Err(unknown(selector)) } else { Ok(process) }
    }

    /// To its standard input.
    pub async fn input(&self, selector: &Selector, bytes: &[u8]) -> Result<(), Problem> {
        let process = self.alive(selector).await?;
        let mut input = process.input.lock().await;
        match &mut *input {
            Input::Pipe(pipe) => written(process.pid, "stdin", timeout(INPUT, pipe.write_all(bytes)).await),
            Input::Closed => Err(Problem::new(Code::Internal, "error writing to stdin: stdin not enabled or closed")),
            Input::Terminal(_) => Err(Problem::new(Code::Internal, "the process has a terminal: its input goes to pty, not to stdin")),
        }
    }

    /// As if typed.
    pub async fn typed(&self, selector: &Selector, bytes: &[u8]) -> Result<(), Problem> {
        let process = self.alive(selector).await?;
        let input = process.input.lock().await;
        let Input::Terminal(terminal) = &*input else {
            return Err(Problem::new(Code::Internal, "the process has no terminal: its input goes to stdin, not to pty"));
        };
        let all = async {
            let mut left = bytes;
            while !left.is_empty() {
                let taken = terminal.write(left).await?;
                left = &left[taken.min(left.len())..];
            }
            Ok(())
        };
        written(process.pid, "pty", timeout(INPUT, all).await)
    }

    /// Its standard input is at its end.
    pub async fn close_input(&self, selector: &Selector) -> Result<(), Problem> {
        let process = self.alive(selector).await?;
        let mut input = process.input.lock().await;
        match &*input {
            Input::Terminal(_) => Err(Problem::new(Code::Unknown, "cannot close the input of a terminal: send Ctrl+D (0x04) instead")),
            Input::Pipe(_) | Input::Closed => {
                *input = Input::Closed;
                Ok(())
            }
        }
    }

    /// Changes the size of its terminal.
    pub async fn resize(&self, selector: &Selector, size: PtySize) -> Result<(), Problem> {
        let process = self.alive(selector).await?;
        let terminal = process.terminal.as_ref().ok_or_else(|| Problem::new(Code::Internal, "error resizing tty: the process has none"))?;
        terminal.resize(size).map_err(|error| Problem::new(Code::Internal, format!("error resizing tty: {error}")))
    }

    /// `SIGTERM` or `SIGKILL`.
    pub async fn signal(&self, selector: &Selector, signal: i32) -> Result<(), Problem> {
        let process = self.alive(selector).await?;
        if ![KILL, TERM].contains(&signal) {
            return Err(Problem::new(Code::Unimplemented, format!("invalid signal: {signal}")));
        }
        process.ending.notify_one();
        let sent = self.sandbox.signal(process.pid, signal, false).await;
        sent.map_err(|error| match error {
            RequestError::Fault(fault) if fault.kind == FaultKind::NotFound => unknown(selector),
            error => Problem::new(Code::Internal, format!("error sending signal: {error}")),
        })
    }
}

fn unknown(selector: &Selector) -> Problem {
    let which = match selector {
        Selector { pid: Some(pid), .. } => format!("process with pid {pid} not found"),
        Selector { tag, .. } => format!("process with tag {} not found", tag.as_deref().unwrap_or_default()),
    };
    Problem::new(Code::NotFound, which)
}

fn written(pid: u32, what: &str, done: Result<io::Result<()>, tokio::time::error::Elapsed>) -> Result<(), Problem> {
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Problem::new(Code::Internal, format!("error writing to {what} of process '{pid}': {error}"))),
        Err(_) => Err(Problem::new(Code::Unavailable, format!("process '{pid}' does not read its {what}"))),
    }
}

/// Until a command has ended and everybody has heard so.
async fn attend(
    sandbox: Sandbox,
    mut running: Running,
    process: Arc<Process>,
    deadline: Option<Instant>,
    known: Weak<Mutex<HashMap<u32, Arc<Process>>>>,
) {
    let (stdout, stderr) = (running.stdout.take(), running.stderr.take());
    let killed = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => pending().await,
        }
        process.ending.notify_one();
        // All that it started in its session: what a deadline ends has ended.
        let _ = sandbox.signal(process.pid, KILL, true).await;
        pending::<()>().await;
    };
    let told = async {
        match &process.terminal {
            Some(terminal) => process.relay_terminal(terminal, &mut running).await,
            None => process.relay(stdout, stderr, &mut running).await,
        }
        running.exited().await
    };
    let end = tokio::select! {
        end = told => end,
        () = killed => return,
    };
    process.end(end.ok(), &known).await;
}

impl Process {
    fn listen(&self) -> Result<Listener, Problem> {
        let mut hub = lock(&self.hub);
        if hub.listeners.len() >= MOST_LISTENERS {
            return Err(Problem::new(Code::ResourceExhausted, format!("process {} has {MOST_LISTENERS} listeners", self.pid)));
        }
        // What waits, and the end, must fit without anybody waiting.
        let (sender, pieces) = mpsc::channel(ON_THE_WAY + hub.kept.len() + 1);
        for piece in hub.kept.drain(..).collect::<Vec<_>>() {
            let _ = sender.try_send(Next::More(piece));
        }
        hub.kept_bytes = 0;
        match &hub.ended {
            Some(end) => drop(sender.try_send(end.clone())),
            None => hub.listeners.push(sender),
        }
        Ok(Listener { pid: self.pid, deadline: None, pieces })
    }

    /// Standard output and error, until both have ended, or until it has ended that was to end.
    async fn relay(&self, mut stdout: Option<pipe::Receiver>, mut stderr: Option<pipe::Receiver>, running: &mut Running) {
        let (mut out, mut err) = (vec![0; PIECE], vec![0; PIECE]);
        let mut ending = false;
        while stdout.is_some() || stderr.is_some() {
            tokio::select! {
                read = read(&mut stdout, &mut out) => self.took("stdout", read, &out, &mut stdout).await,
                read = read(&mut stderr, &mut err) => self.took("stderr", read, &err, &mut stderr).await,
                () = self.ending.notified(), if !ending => ending = true,
                _ = running.exited(), if ending => {
                    for (name, pipe, buffer) in [("stdout", &stdout, &mut out), ("stderr", &stderr, &mut err)] {
                        self.rest(name, pipe.as_ref(), buffer).await;
                    }
                    return;
                }
            }
        }
    }

    async fn took(&self, name: &str, read: io::Result<usize>, buffer: &[u8], pipe: &mut Option<pipe::Receiver>) {
        match read {
            Ok(length) if length > 0 => self.tell(data(name, &buffer[..length])).await,
            _ => *pipe = None,
        }
    }

    /// What is in a pipe that others may still hold open.
    async fn rest(&self, name: &str, pipe: Option<&pipe::Receiver>, buffer: &mut [u8]) {
        let Some(pipe) = pipe else { return };
        // Others may go on writing for ever.
        let mut left: usize = 1 << 20;
        while let Ok(length @ 1..) = pipe.try_read(buffer) {
            self.tell(data(name, &buffer[..length])).await;
            left = left.saturating_sub(length);
            if left == 0 {
                return;
            }
        }
    }

    async fn relay_terminal(&self, terminal: &Terminal, running: &mut Running) {
        let mut buffer = vec![0; PIECE];
        let mut ending = false;
        loop {
            tokio::select! {
                biased;
                read = terminal.read(&mut buffer) => match read {
                    Ok(length) if length > 0 => self.tell(data("pty", &buffer[..length])).await,
                    _ => return,
                },
                () = self.ending.notified(), if !ending => ending = true,
                _ = running.exited(), if ending => return,
            }
        }
    }

    /// To all who listen; returns when all have it, or are gone. What nobody heard is kept.
    async fn tell(&self, piece: Bytes) {
        loop {
            let listeners = {
                let mut hub = lock(&self.hub);
                hub.listeners.retain(|listener| !listener.is_closed());
                if hub.listeners.is_empty() {
                    return hub.keep(piece);
                }
                hub.listeners.clone()
            };
            let mut heard = false;
            for listener in listeners {
                heard |= self.tell_one(&listener, &piece).await;
            }
            if heard {
                return;
            }
        }
    }

    async fn tell_one(&self, listener: &mpsc::Sender<Next>, piece: &Bytes) -> bool {
        loop {
            match timeout(STALL, listener.reserve()).await {
                Ok(Ok(room)) => {
                    room.send(Next::More(piece.clone()));
                    return true;
                }
                Ok(Err(_)) => return false,
                Err(_) => {
                    let mut hub = lock(&self.hub);
                    let others = hub.listeners.iter().any(|other| !other.same_channel(listener) && !other.is_closed());
                    if others {
                        hub.listeners.retain(|other| !other.same_channel(listener));
                        return false;
                    }
                }
            }
        }
    }

    async fn end(&self, status: Option<Status>, known: &Weak<Mutex<HashMap<u32, Arc<Self>>>>) {
        let end = match status {
            Some(status) => Next::Last(connect::message(&Told { event: ProcessEvent::End(EndEvent::of(status)) })),
            None => Next::Gone,
        };
        *self.input.lock().await = Input::Closed;
        let listeners = {
            let mut hub = lock(&self.hub);
            hub.ended = Some(end.clone());
            std::mem::take(&mut hub.listeners)
        };
        for listener in listeners {
            let _ = timeout(STALL, listener.send(end.clone())).await;
        }
        tokio::time::sleep(REMEMBERED).await;
        if let Some(known) = known.upgrade() {
            let mut known = lock(&known);
            if known.get(&self.pid).is_some_and(|process| std::ptr::eq(Arc::as_ptr(process), self)) {
                known.remove(&self.pid);
            }
        }
    }
}

impl Hub {
    fn keep(&mut self, piece: Bytes) {
        self.kept_bytes += piece.len();
        self.kept.push_back(piece);
        while self.kept_bytes > KEPT
            && let Some(oldest) = self.kept.pop_front()
        {
            self.kept_bytes -= oldest.len();
        }
    }
}

async fn read(pipe: &mut Option<pipe::Receiver>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => pending().await,
    }
}

fn data(name: &str, bytes: &[u8]) -> Bytes {
    connect::message_of_bytes(&format!("{{\"event\":{{\"data\":{{\"{name}\":\""), bytes, "\"}}}")
}

impl Listener {
    /// The envelopes of a whole stream: its start, what comes, signs of life, its end.
    ///
    /// Whoever started the command with a deadline is told of that when it has come, and not of how the command ended then.
    pub fn stream(self, ping: Duration, deadline: Option<Duration>) -> impl Stream<Item = Result<Bytes, io::Error>> {
        let [start, alive] =
            [ProcessEvent::Start { pid: self.pid }, ProcessEvent::Keepalive {}].map(|event| connect::message(&Told { event }));
        let deadline = self.deadline.or_else(|| deadline.map(|after| Instant::now() + after));
        telling::tell(start, alive, Pace { ping, deadline }, self)
    }
}

impl Source for Listener {
    async fn next(&mut self) -> Next {
        let let_go = || Next::failed(&Problem::new(Code::ResourceExhausted, "others waited too long for this listener"));
        self.pieces.recv().await.unwrap_or_else(let_go)
    }
}

/// How a command's input is to be.
pub fn stdio(stdin: Option<bool>) -> Stdio {
    if stdin.unwrap_or(true) { Stdio::Open } else { Stdio::Closed }
}
