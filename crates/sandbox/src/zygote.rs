//! The process that every sandbox begins in: this same program, run from sealed memory.
//!
//! A node has one. It is small, has one thread, holds no secret, opens nothing by itself, and forks for each sandbox: starting one costs neither
//! an exec nor a copy of the node. It ends when the node's end of its socket does; sandboxes do not. Nothing within a sandbox can
//! reach this program's file, because what runs is a sealed copy.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    process::{ExitCode, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::Pid,
};
use serde::{Deserialize, Serialize};
use tokio::{io::unix::AsyncFd, sync::oneshot, task::JoinHandle};

use crate::{
    attack,
    cgroup::Cgroups,
    fence::{Fence, Host},
    kernel,
    plan::Plan,
    run,
    seccomp::Filters,
    wire,
};

/// What the second argument of this program is when it is to be a zygote.
const NAME: &str = "sandbox-zygote";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum Order {
    /// Descriptors: the listener of init's socket, then those of the plan.
    Start { id: u64, plan: Plan },
    /// Which fences stand, tried on this folder.
    Probe { id: u64, folder: std::path::PathBuf },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum Outcome {
    /// Init runs, as this process of the host.
    Started {
        id: u64,
        pid: i32,
    },
    Failed {
        id: u64,
        failed: Failed,
    },
    Probed {
        id: u64,
        tried: Vec<(Fence, Option<String>)>,
    },
}

/// Which operation of a plan failed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{op}: {why}")]
pub struct Failed {
    /// The operation, as the plan has it.
    pub op: String,
    /// What the kernel said.
    pub why: String,
}

/// Begins the `main` of every program that starts sandboxes: if this process is to be a zygote, or one of the corpus's attackers, it is that, and
/// its exit code comes back.
#[must_use]
pub fn child() -> Option<ExitCode> {
    if let Some(code) = attack::inside() {
        return Some(code);
    }
    let wanted = std::env::args_os().nth(1).is_some_and(|argument| argument == NAME);
    if !wanted || rustix::net::sockopt::socket_type(io::stdin()) != Ok(SocketType::SEQPACKET) {
        return None;
    }
    Some(match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sandbox zygote: {error}");
            ExitCode::FAILURE
        }
    })
}

fn serve() -> io::Result<()> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let filters = Filters::compile().map_err(io::Error::other)?;
    kernel::forget_children();
    let mut buffer = vec![0; wire::MOST_BYTES + 1];
    while let Some((order, given)) = wire::receive::<Order>(&socket, &mut buffer)? {
        match kernel::fork() {
            Ok(kernel::Half::Parent(_)) => {}
            Ok(kernel::Half::Child) => {
                follow(order, given, &socket, &filters);
                std::process::exit(0);
            }
            Err(error) => {
                let (Order::Start { id, .. } | Order::Probe { id, .. }) = order;
                let failed = Failed { op: "fork".into(), why: error.to_string() };
                wire::send(&socket, &Outcome::Failed { id, failed }, &[])?;
            }
        }
    }
    Ok(())
}

/// In a child of the zygote, which ends afterwards.
fn follow(order: Order, given: Vec<OwnedFd>, socket: &OwnedFd, filters: &Filters) {
    let outcome = match order {
        Order::Start { id, plan } => match run::begin(&plan, given, filters) {
            Ok(pid) => Outcome::Started { id, pid: pid.as_raw_nonzero().get() },
            Err(failed) => Outcome::Failed { id, failed },
        },
        Order::Probe { id, folder } => Outcome::Probed { id, tried: run::probe(&folder, filters) },
    };
    // Where the node is gone there is nobody to tell; init, if there is one, waits for another node.
    let _ = wire::send(socket, &outcome, &[]);
}

/// Why sandboxes cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ZygoteError {
    /// It did not come up.
    #[error("the zygote of sandboxes does not start: {0}")]
    Start(#[source] io::Error),
    /// It is gone.
    #[error("the zygote of sandboxes has ended")]
    Gone,
    /// An operation failed.
    #[error(transparent)]
    Failed(#[from] Failed),
}

type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Outcome>>>>>;

/// The node's side. It ends with its last handle.
pub struct Zygote {
    socket: Arc<AsyncFd<OwnedFd>>,
    waiting: Waiting,
    next: std::sync::atomic::AtomicU64,
    reader: JoinHandle<()>,
    sealed: bool,
    process: Mutex<std::process::Child>,
}

impl Drop for Zygote {
    fn drop(&mut self) {
        self.reader.abort();
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = process.kill();
        let _ = process.wait();
    }
}

impl Zygote {
    /// Starts it from a program whose `main` begins with [`child`]: usually `/proc/self/exe`.
    pub fn start(program: &Path) -> Result<Self, ZygoteError> {
        let started = || -> io::Result<Self> {
            let (here, there) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            let copy = sealed_copy(program)?;
            let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
            let mut command = std::process::Command::new(path);
            command.arg(NAME).env_clear().stdin(Stdio::from(there)).stdout(Stdio::null()).stderr(Stdio::inherit()).current_dir("/");
            let process = command.spawn()?;
            rustix::io::ioctl_fionbio(&here, true)?;
            let socket = Arc::new(kernel::watched(here, tokio::io::Interest::READABLE | tokio::io::Interest::WRITABLE)?);
            let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
            let reader = tokio::spawn(read(Arc::clone(&socket), Arc::clone(&waiting)));
            Ok(Self { socket, waiting, next: 0.into(), reader, sealed: true, process: Mutex::new(process) })
        };
        started().map_err(ZygoteError::Start)
    }

    /// Which fences this host has, tried in children of the zygote; `folder` is where sandboxes will be.
    pub async fn probe(&self, folder: &Path, cgroups: &Cgroups) -> Result<Host, ZygoteError> {
        let folder = folder.to_owned();
        match self.order(|id| Order::Probe { id, folder }, &[]).await? {
            Outcome::Probed { tried, .. } => {
                let mut host = Host::default();
                tried.into_iter().for_each(|(fence, why)| host.found(fence, why.map_or(Ok(()), Err)));
                host.found(Fence::SealedBinary, if self.sealed { Ok(()) } else { Err("it runs from its file".into()) });
                cgroups.report(&mut host);
                Ok(host)
            }
            Outcome::Failed { failed, .. } => Err(failed.into()),
            Outcome::Started { .. } => Err(ZygoteError::Gone),
        }
    }

    /// Carries out a plan; the process that comes back is init, listening on the first descriptor given.
    pub(crate) async fn carry_out(&self, plan: Plan, given: &[BorrowedFd<'_>]) -> Result<Pid, ZygoteError> {
        match self.order(|id| Order::Start { id, plan }, given).await? {
            Outcome::Started { pid, .. } => Pid::from_raw(pid).ok_or(ZygoteError::Gone),
            Outcome::Failed { failed, .. } => Err(failed.into()),
            Outcome::Probed { .. } => Err(ZygoteError::Gone),
        }
    }

    async fn order(&self, order: impl FnOnce(u64) -> Order, given: &[BorrowedFd<'_>]) -> Result<Outcome, ZygoteError> {
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let open = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(|waiting| waiting.insert(id, answer));
        open.ok_or(ZygoteError::Gone)?;
        let order = order(id);
        let sent = self.socket.async_io(tokio::io::Interest::WRITABLE, |socket| wire::send(socket, &order, given)).await;
        if let Err(error) = sent {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(|waiting| waiting.remove(&id));
            return Err(ZygoteError::Failed(Failed { op: "send".into(), why: error.to_string() }));
        }
        answered.await.map_err(|_| ZygoteError::Gone)
    }
}

/// Brings outcomes to those who wait for them; when the zygote is gone, everybody who waits hears that.
async fn read(socket: Arc<AsyncFd<OwnedFd>>, waiting: Waiting) {
    let mut buffer = vec![0; wire::MOST_BYTES + 1];
    while let Ok(Some((outcome, _))) =
        socket.async_io(tokio::io::Interest::READABLE, |socket| wire::receive::<Outcome>(socket, &mut buffer)).await
    {
        let (Outcome::Started { id, .. } | Outcome::Failed { id, .. } | Outcome::Probed { id, .. }) = &outcome;
        let waiter = waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(|waiting| waiting.remove(id));
        if let Some(waiter) = waiter {
            let _ = waiter.send(outcome);
        }
    }
    waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// A program in memory that nobody can change any more: only what is loaded of it, without its tables for debuggers.
fn sealed_copy(program: &Path) -> io::Result<OwnedFd> {
    let mut file = fs::File::open(program)?;
    let bytes = loaded_bytes(&mut file)?;
    let copy = memfd_create("skep", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = fs::File::from(copy);
    file.seek(SeekFrom::Start(0))?;
    io::copy(&mut file.take(bytes), &mut copy)?;
    rustix::fs::fchmod(&copy, rustix::fs::Mode::from_raw_mode(0o500))?;
    fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    // What is open for writing cannot be executed; sealed or not, the kernel asks for a descriptor that only reads.
    let sealed = fs::File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?;
    Ok(sealed.into())
}

/// Up to where an ELF file's program headers say that it is loaded.
fn loaded_bytes(file: &mut fs::File) -> io::Result<u64> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the program is no 64-bit ELF file");
    let mut header = [0; 64];
    file.read_exact(&mut header)?;
    if header[..5] != *b"\x7fELF\x02" {
        return Err(damaged());
    }
    let word = |bytes: &[u8], at: usize| -> Option<u64> { Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?)) };
    let short = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let (table, size, count) = (word(&header, 32).ok_or_else(damaged)?, short(54), short(56));
    let mut headers = vec![0; usize::try_from(size * count).map_err(|_| damaged())?];
    file.seek(SeekFrom::Start(table))?;
    file.read_exact(&mut headers)?;
    let size = usize::try_from(size).map_err(|_| damaged())?;
    let ends = headers.chunks_exact(size.max(56)).map(|one| Some(word(one, 8)?.saturating_add(word(one, 32)?)));
    ends.collect::<Option<Vec<u64>>>().and_then(|ends| ends.into_iter().max()).ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_what_is_loaded_and_cannot_be_changed() {
        let program = std::env::current_exe().unwrap();
        let copy = sealed_copy(&program).unwrap();
        let seals = rustix::fs::fcntl_get_seals(&copy).unwrap();
        assert!(seals.contains(SealFlags::WRITE | SealFlags::SEAL | SealFlags::GROW | SealFlags::SHRINK));
        assert!(
            fs::OpenOptions::new()
                .write(true)
                .open(format!("/proc/self/fd/{}", copy.as_raw_fd()))
                .is_ok_and(|mut f| f.write(b"x").is_err())
        );
        let whole = fs::read(program).unwrap();
        let mut kept = Vec::new();
        fs::File::from(copy).read_to_end(&mut kept).unwrap();
        assert!(kept.len() > 4096 && whole.starts_with(&kept));
    }

    #[test]
    fn no_other_program_is_a_zygote() {
        assert!(child().is_none());
    }
}
