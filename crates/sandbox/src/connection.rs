//! The node's side of an init's socket: many requests at once, each with its answer; copies and commands with their ends.
//!
//! Init is in the sandbox, and whatever is in there may have taken it over: what it says is checked, and what it sends beside is looked at
//! before it is used. When the connection ends, everybody who waits hears so.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{Mode, OFlags, open},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{
    kernel,
    wire::{self, Answer, Ask, Fault, Request, Said, Status},
};

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The sandbox said why.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The sandbox has ended, or its init said something that no init says.
    #[error("the sandbox is gone")]
    Gone,
    /// On this side.
    #[error("the request could not be made: {0}")]
    Here(#[from] io::Error),
}

type Answered = Result<(Answer, Vec<OwnedFd>, Option<Exit>), Fault>;
/// How a command ended, once it has. Closed without: the sandbox ended first.
pub(crate) type Exit = watch::Receiver<Option<Status>>;
/// How many bytes a copy through a pipe had, once it has ended. Closed without: the sandbox ended first.
pub type Copied = oneshot::Receiver<Result<u64, Fault>>;

#[derive(Default)]
struct Open {
    answers: HashMap<u64, oneshot::Sender<Answered>>,
    copies: HashMap<u64, oneshot::Sender<Result<u64, Fault>>>,
    exits: HashMap<u32, watch::Sender<Option<Status>>>,
}

/// `None`: it has ended.
type Shared = Arc<Mutex<Option<Open>>>;

/// A connection to a sandbox's init.
pub struct Connection {
    socket: Arc<AsyncFd<OwnedFd>>,
    open: Shared,
    next: AtomicU64,
    reader: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Connection {
    /// Connects to the socket in a sandbox's folder.
    pub fn to(folder: &Path) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        let (_held, address) = address(folder)?;
        connect(&socket, &address)?;
        let socket = Arc::new(kernel::watched(socket, Interest::READABLE | Interest::WRITABLE)?);
        let open: Shared = Arc::new(Mutex::new(Some(Open::default())));
        let reader = tokio::spawn(read(Arc::clone(&socket), Arc::clone(&open)));
        Ok(Self { socket, open, next: AtomicU64::new(0), reader })
    }

    pub(crate) async fn ask(&self, ask: Ask, given: &[BorrowedFd<'_>]) -> Result<(Answer, Vec<OwnedFd>, Option<Exit>), RequestError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answered) = oneshot::channel();
        self.with(|open| open.answers.insert(id, sender))?;
        self.send(id, ask, given).await?;
        Ok(answered.await.map_err(|_| RequestError::Gone)??)
    }

    /// A request whose answer is followed by the end of a copy.
    pub(crate) async fn ask_for_copy(&self, ask: Ask, pipe: BorrowedFd<'_>) -> Result<(Answer, Copied), RequestError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let ((sender, answered), (copy, copied)) = (oneshot::channel(), oneshot::channel());
        self.with(|open| (open.answers.insert(id, sender), open.copies.insert(id, copy)))?;
        self.send(id, ask, &[pipe]).await?;
        match answered.await.map_err(|_| RequestError::Gone)? {
            Ok((answer, ..)) => Ok((answer, copied)),
            Err(fault) => {
                self.with(|open| open.copies.remove(&id))?;
                Err(fault.into())
            }
        }
    }

    /// How the command of this number ends, which may have been started by an earlier node. Whether it runs at all must be asked afterwards.
    pub(crate) fn exit_of(&self, pid: u32) -> Result<Exit, RequestError> {
        self.with(|open| open.exits.entry(pid).or_insert_with(|| watch::channel(None).0).subscribe())
    }

    async fn send(&self, id: u64, ask: Ask, given: &[BorrowedFd<'_>]) -> Result<(), RequestError> {
        let sent = async {
            let (ask, long) = shortened(ask)?;
            let mut given = given.to_vec();
            given.extend(long.as_ref().map(AsFd::as_fd));
            let request = Request { id, ask };
            self.socket.async_io(Interest::WRITABLE, |socket| wire::send(socket, &request, &given)).await
        };
        sent.await.map_err(|error| {
            let _ = self.with(|open| (open.answers.remove(&id), open.copies.remove(&id)));
            RequestError::Here(error)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Open) -> T) -> Result<T, RequestError> {
        lock(&self.open).as_mut().map(work).ok_or(RequestError::Gone)
    }
}

/// A request that fits no packet goes beside it: what runs may be a whole script, and its variables many.
fn shortened(ask: Ask) -> io::Result<(Ask, Option<OwnedFd>)> {
    if ask.surely_short() {
        return Ok((ask, None));
    }
    let text = serde_json::to_vec(&ask)?;
    if text.len() <= wire::MOST_BYTES / 2 {
        return Ok((ask, None));
    }
    if text.len() > wire::MOST_LONG {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a request of more than {} bytes", wire::MOST_LONG)));
    }
    let memory = rustix::fs::memfd_create("request", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(memory);
    io::Write::write_all(&mut file, &text)?;
    Ok((Ask::Long, Some(file.into())))
}

/// A socket's path has 108 bytes at most; a folder's descriptor makes every path short. The descriptor must live as long as the address is used.
pub(crate) fn address(folder: &Path) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let held = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/socket", std::os::fd::AsRawFd::as_raw_fd(&held.as_fd())))?;
    Ok((held, address))
}

fn lock(open: &Shared) -> std::sync::MutexGuard<'_, Option<Open>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(socket: Arc<AsyncFd<OwnedFd>>, open: Shared) {
    let mut buffer = vec![0; wire::MOST_BYTES + 1];
    while let Ok(Some((said, beside))) = socket.async_io(Interest::READABLE, |socket| wire::receive::<Said>(socket, &mut buffer)).await {
        if let Some(open) = lock(&open).as_mut() {
            hear(open, said, beside);
        }
    }
    // With their senders gone, all who wait hear that there is nobody left.
    lock(&open).take();
}

/// What nobody asked for is passed over.
fn hear(open: &mut Open, said: Said, beside: Vec<OwnedFd>) {
    match said {
        Said::Answer { id, answer } => {
            let Some(waiter) = open.answers.remove(&id) else { return };
            // The end of a command may be the next packet: who hears of it must be there before.
            let exit = match &answer {
                Ok(Answer::Started { pid }) => {
                    let (sender, receiver) = watch::channel(None);
                    open.exits.insert(*pid, sender);
                    Some(receiver)
                }
                _ => None,
            };
            let _ = waiter.send(answer.map(|answer| (answer, beside, exit)));
        }
        Said::Copied { id, bytes, fault } => {
            if let Some(waiter) = open.copies.remove(&id) {
                let _ = waiter.send(fault.map_or(Ok(bytes), Err));
            }
        }
        Said::Exited { pid, status } => {
            if let Some(command) = open.exits.remove(&pid) {
                let _ = command.send(Some(status));
            }
        }
    }
}
