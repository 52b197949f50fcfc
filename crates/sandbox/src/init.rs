//! Process 1 of a sandbox: reaps what nobody waits for, starts commands, serves files and ports, all over one socket that no path within leads to.
//!
//! It is this same program in a process of the zygote's, behind every fence of its sandbox, with one thread that decides and a few that copy. It
//! executes nothing in its own process and loads nothing of the sandbox. It is trusted by nobody outside: the node checks all that it says.

mod commands;
mod files;
mod users;
mod watch;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
    time::Duration,
};

use rustix::{
    net::{SocketFlags, accept_with},
    process::{Pid, Signal, WaitOptions, kill_process, kill_process_group},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::unix::pipe,
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    task::{spawn_blocking, spawn_local},
};

use crate::{
    kernel,
    profile::Profile,
    wire::{self, Active, Answer, Ask, Fault, FaultKind, PtySize, Request, Said, Status},
};

/// How long it goes on without a node before it ends the sandbox: a node that was killed comes back, or nobody does.
const ORPHAN: Duration = Duration::from_secs(600);

/// How long processes have after `SIGTERM` when everything is to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Threads for files.
const THREADS: usize = 32;

/// Copies at once, which last as long as the other side likes; so that the threads that are left look things up meanwhile.
const COPIES: usize = 26;

/// Is the sandbox's init, until it ends.
pub(crate) fn serve(listener: OwnedFd, device: Option<OwnedFd>, profile: Profile, single: bool) -> ! {
    // What it makes, and what commands make, is for others to read and not to write; whatever the node was started with.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS)
        .thread_stack_size(256 << 10)
        .thread_keep_alive(Duration::from_millis(500))
        .build();
    let served = runtime.and_then(|runtime| {
        let copies = Semaphore::new(COPIES);
        let within = Within { profile, single };
        let init = Rc::new(Init {
            within,
            device,
            commands: RefCell::default(),
            node: RefCell::default(),
            watches: watch::Watches::default(),
            copies,
        });
        tokio::task::LocalSet::new().block_on(&runtime, init.run(listener))
    });
    std::process::exit(i32::from(served.is_err()))
}

/// What holds for everybody within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Within {
    profile: Profile,
    /// There is one user, whatever its names.
    single: bool,
}

type Node = Rc<AsyncFd<OwnedFd>>;

struct Init {
    within: Within,
    /// The network device, for every node that comes: the one that made it may be gone.
    device: Option<OwnedFd>,
    /// Commands that were started for the node and have not ended.
    commands: RefCell<HashMap<u32, Active>>,
    /// The node that came last.
    node: RefCell<Option<Node>>,
    watches: watch::Watches,
    copies: Semaphore,
}

/// What a command is started with.
struct Start {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    user: u32,
    terminal: Option<PtySize>,
    tag: Option<String>,
}

impl Init {
    async fn run(self: Rc<Self>, listener: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        let listener = kernel::watched(listener, Interest::READABLE)?;
        let mut children = signal(SignalKind::child())?;
        spawn_local({
            let init = Rc::clone(&self);
            async move {
                while children.recv().await.is_some() {
                    init.reap();
                }
            }
        });
        loop {
            let accept = listener.async_io(Interest::READABLE, |l| Ok(accept_with(l, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?));
            match tokio::time::timeout(ORPHAN, accept).await {
                Ok(node) => {
                    let node = Rc::new(kernel::watched(node?, Interest::READABLE | Interest::WRITABLE)?);
                    *self.node.borrow_mut() = Some(Rc::clone(&node));
                    spawn_local(Rc::clone(&self).attend(node));
                }
                Err(_) if self.node.borrow().is_none() => return Ok(()),
                Err(_) => {}
            }
        }
    }

    /// One node's requests, each answered in a task of its own.
    async fn attend(self: Rc<Self>, node: Node) {
        let mut buffer = vec![0; wire::MOST_BYTES + 1];
        while let Ok(Some((request, given))) = node.async_io(Interest::READABLE, |n| wire::receive::<Request>(n, &mut buffer)).await {
            spawn_local(Rc::clone(&self).answer(Rc::clone(&node), request, given));
        }
        let mut current = self.node.borrow_mut();
        if current.as_ref().is_some_and(|it| Rc::ptr_eq(it, &node)) {
            *current = None;
        }
    }

    async fn answer(self: Rc<Self>, node: Node, request: Request, mut given: Vec<OwnedFd>) {
        let id = request.id;
        let answer = |answer| Said::Answer { id, answer };
        let ask = match request.ask {
            Ask::Long => match long(given.pop()) {
                Ok(ask) => ask,
                Err(fault) => return tell(&node, &answer(Err(fault)), &[]).await,
            },
            short => short,
        };
        match ask {
            Ask::Exec { argv, env, cwd, user, terminal, tag } => match self.exec(Start { argv, env, cwd, user, terminal, tag }, given) {
                Ok((pid, master)) => {
                    let beside: Vec<_> = master.iter().map(AsFd::as_fd).collect();
                    tell(&node, &answer(Ok(Answer::Started { pid })), &beside).await;
                }
                Err(fault) => tell(&node, &answer(Err(fault)), &[]).await,
            },
            Ask::Commands => {
                let lines: Vec<u8> = self.commands.borrow().values().flat_map(line).collect();
                self.copied(&node, id, files::lines(lines, given.pop())).await;
            }
            Ask::Watch { path, user, watching } => {
                let begun = self.watch(path, user, watching, given.pop());
                tell(&node, &answer(begun.map(|()| Answer::Done)), &[]).await;
            }
            Ask::Settle => {
                self.watches.settle().await;
                tell(&node, &answer(Ok(Answer::Done)), &[]).await;
            }
            Ask::Connect { port } => match connect(port).await {
                Ok(socket) => tell(&node, &answer(Ok(Answer::Connected)), &[socket.as_fd()]).await,
                Err(error) => tell(&node, &answer(Err(Fault::of(&format!("port {port}"), &error))), &[]).await,
            },
            Ask::Tun => match &self.device {
                Some(device) => tell(&node, &answer(Ok(Answer::Connected)), &[device.as_fd()]).await,
                None => tell(&node, &answer(Err(Fault::new(FaultKind::NotFound, "there is no network device"))), &[]).await,
            },
            Ask::Signal { pid, signal, group } => tell(&node, &answer(self.signal(pid, signal, group)), &[]).await,
            Ask::Shutdown => {
                tell(&node, &answer(Ok(Answer::Done)), &[]).await;
                self.shut_down().await;
            }
            other => self.files(&node, id, other, given).await,
        }
    }

    /// What is done with files is done by threads, so that a slow disk holds nobody else up.
    async fn files(&self, node: &Node, id: u64, ask: Ask, given: Vec<OwnedFd>) {
        let within = self.within;
        let begun = spawn_blocking(move || files::begin(ask, given.into_iter().next(), within)).await;
        self.copied(node, id, begun.unwrap_or_else(|_| Err(Fault::new(FaultKind::Failed, "init failed at it")))).await;
    }

    async fn copied(&self, node: &Node, id: u64, begun: files::Begun) {
        let (answer, copy) = match begun {
            Ok((answer, copy)) => (Ok(answer), copy),
            Err(fault) => (Err(fault), None),
        };
        tell(node, &Said::Answer { id, answer }, &[]).await;
        if let Some(copy) = copy {
            let _place = self.copies.acquire().await;
            let copied = spawn_blocking(move || copy.run()).await;
            let (bytes, fault) = match copied.unwrap_or_else(|_| Err(Fault::new(FaultKind::Failed, "init failed at it"))) {
                Ok(bytes) => (bytes, None),
                Err(fault) => (0, Some(fault)),
            };
            tell(node, &Said::Copied { id, bytes, fault }, &[]).await;
        }
    }

    fn exec(&self, start: Start, given: Vec<OwnedFd>) -> Result<(u32, Option<OwnedFd>), Fault> {
        let Start { argv, env, cwd, user, terminal, tag } = start;
        let user = users::find(user, self.within)?;
        let (pid, master) = commands::start(&argv, env.clone(), cwd.as_deref(), &user, terminal, given, self.within.profile)?;
        let active = Active { pid, tag, argv, env, cwd, terminal: terminal.is_some() };
        self.commands.borrow_mut().insert(pid, active);
        Ok((pid, master))
    }

    fn watch(&self, path: String, user: u32, watching: wire::Watching, pipe: Option<OwnedFd>) -> Result<(), Fault> {
        let user = users::find(user, self.within)?;
        let pipe = pipe.ok_or_else(|| Fault::new(FaultKind::Invalid, "a pipe is needed"))?;
        let pipe = pipe::Sender::from_owned_fd(pipe).map_err(|error| Fault::of("pipe", &error))?;
        self.watches.begin(path, user, watching, pipe)
    }

    /// Takes in every child that has ended, whoever its parent was.
    fn reap(self: &Rc<Self>) {
        while let Ok(Some((pid, how))) = rustix::process::wait(WaitOptions::NOHANG) {
            let status = match (how.exit_status(), how.terminating_signal()) {
                (Some(code), _) => Status::Code(code),
                (None, Some(signal)) => Status::Signal(signal),
                (None, None) => continue,
            };
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            if self.commands.borrow_mut().remove(&pid).is_some()
                && let Some(node) = self.node.borrow().clone()
            {
                spawn_local(async move { tell(&node, &Said::Exited { pid, status }, &[]).await });
            }
        }
    }

    fn signal(&self, pid: u32, signal: i32, group: bool) -> Result<Answer, Fault> {
        let known = i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw);
        let (Some(pid), Some(signal)) = (known, Signal::from_named_raw(signal)) else {
            return Err(Fault::new(FaultKind::Invalid, "no such process or signal"));
        };
        let sent = if group { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
        sent.map(|()| Answer::Done).map_err(|error| Fault::of(&format!("process {pid}"), &error.into()))
    }

    /// Everybody is asked to end; who has not by then ends with this process.
    async fn shut_down(&self) {
        let _ = kill_every(Signal::TERM);
        let waited = async {
            while std::fs::read_dir("/proc").is_ok_and(|entries| entries.flatten().filter(is_process).count() > 1) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, waited).await;
        rustix::fs::sync();
        std::process::exit(0);
    }
}

/// A request that came beside its packet.
fn long(file: Option<OwnedFd>) -> Result<Ask, Fault> {
    let wrong = |why: &str| Fault::new(FaultKind::Invalid, why);
    let file = File::from(file.ok_or_else(|| wrong("a long request is in a file"))?);
    let mut text = Vec::new();
    // Written through the same open file, whose place is at its end.
    let file = io::Seek::rewind(&mut &file).map(|()| file);
    let read = file.and_then(|file| file.take(wire::MOST_LONG as u64 + 1).read_to_end(&mut text));
    read.map_err(|error| Fault::of("a long request", &error))?;
    if text.len() > wire::MOST_LONG {
        return Err(wrong("the request is too long"));
    }
    match serde_json::from_slice(&text) {
        Ok(Ask::Long) | Err(_) => Err(wrong("is no request")),
        Ok(ask) => Ok(ask),
    }
}

fn line(value: &impl serde::Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

fn is_process(entry: &std::fs::DirEntry) -> bool {
    entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
}

fn kill_every(signal: Signal) -> io::Result<()> {
    for entry in std::fs::read_dir("/proc")?.flatten().filter(is_process) {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).filter(|pid| *pid > 1).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended meanwhile.
            let _ = kill_process(pid, signal);
        }
    }
    Ok(())
}

/// A node that does not take what it is told is gone; what it would have heard is lost with it.
async fn tell(node: &Node, said: &Said, beside: &[BorrowedFd<'_>]) {
    let _ = node.async_io(Interest::WRITABLE, |node| wire::send(node, said, beside)).await;
}

async fn connect(port: u16) -> io::Result<std::net::TcpStream> {
    let local = [(std::net::Ipv4Addr::LOCALHOST.into(), port), (std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST), port)];
    let [four, six] = local.map(std::net::SocketAddr::from);
    let socket = match tokio::net::TcpStream::connect(four).await {
        Ok(socket) => socket,
        Err(first) => tokio::net::TcpStream::connect(six).await.map_err(|_| first)?,
    };
    socket.into_std()
}
