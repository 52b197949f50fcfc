//! One sandbox, from its start to the removal of its last file.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt, chown},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{FileType, Mode, OFlags, fstat, major, minor, open},
    mount::{OpenTreeFlags, open_tree},
    net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
    termios::{Winsize, tcsetwinsize},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest, unix::AsyncFd},
    net::{TcpStream, unix::pipe},
    task::spawn_blocking,
};

use crate::{
    cgroup::{Cgroups, Group, Usage},
    connection::{self, Connection, Copied, Exit, RequestError},
    fence::{Fence, Host},
    kernel,
    plan::{Op, Plan, PlanError, plan},
    quota,
    spec::{Limits, Place, Spec},
    wire::{Account, Active, Answer, Ask, Entry, Fault, FaultKind, Noticed, PtySize, Status, Watching, Writing},
    zygote::{Zygote, ZygoteError},
};

/// Bytes in a pipe between a command and the node: each side works on without the other for that long.
const PIPE_BYTES: usize = 256 << 10;

/// What a new pipe takes at once.
pub const SHORT: usize = 60 << 10;

/// Of a listing: what a hostile init can make the node keep.
const MOST_LINES: u64 = 256 << 20;

/// Of one change: a path, what is there and what people wrote about it.
const MOST_LINE: usize = 64 << 10;

/// Why a sandbox does not start. Nothing is left of it but its folder.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot be.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// An operation failed.
    #[error(transparent)]
    Zygote(#[from] ZygoteError),
    /// Its folder, its cgroup, its socket or a volume.
    #[error("{0}: {1}")]
    Place(&'static str, #[source] io::Error),
}

/// A running, or frozen, sandbox.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    group: Group,
    folder: PathBuf,
    pid: Pid,
    process: AsyncFd<OwnedFd>,
    /// Whether more is kept than it may, as it was counted last.
    full: AtomicBool,
}

/// What is done before the zygote has its turn.
struct Prepared {
    plan: Plan,
    group: Group,
    given: Vec<OwnedFd>,
}

impl Sandbox {
    /// Starts what `spec` says in `place`, whose folder is made where it is missing.
    pub async fn start(zygote: &Zygote, host: &Host, cgroups: &Cgroups, spec: &Spec, place: &Place) -> Result<Self, StartError> {
        let prepared = {
            let (host, cgroups, spec, place) = (host.clone(), cgroups.clone(), spec.clone(), place.clone());
            spawn_blocking(move || Prepared::of(&host, &cgroups, &spec, &place)).await
        };
        let prepared = prepared.map_err(|error| StartError::Place("preparing", io::Error::other(error)))??;
        let given: Vec<_> = prepared.given.iter().map(AsFd::as_fd).collect();
        let begun = match zygote.carry_out(prepared.plan, &given).await {
            Ok(pid) => Self::meet(pid, &prepared.group, &place.folder),
            Err(error) => Err(error.into()),
        };
        if begun.is_err() {
            let group = prepared.group.clone();
            let _ = spawn_blocking(move || group.kill().and_then(|()| group.remove())).await;
        }
        begun
    }

    /// One that runs already.
    pub(crate) fn meet(pid: Pid, group: &Group, folder: &Path) -> Result<Self, StartError> {
        let process = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(io::Error::from).and_then(|it| kernel::watched(it, Interest::READABLE));
        let process = process.map_err(|error| StartError::Place("init", error))?;
        let connection = Connection::to(folder).map_err(|error| StartError::Place("socket", error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                connection,
                group: group.clone(),
                folder: folder.to_owned(),
                pid,
                process,
                full: AtomicBool::new(false),
            }),
        })
    }

    /// Its init, as the host numbers processes.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.inner.pid.as_raw_nonzero().get()
    }

    /// Its cgroups.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.inner.group
    }

    /// Whether it was found to keep more than it may ([`crate::Limits::counted`]): no file is written for anybody until it keeps less.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.inner.full.load(Ordering::Relaxed)
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.inner.full.store(full, Ordering::Relaxed);
    }

    fn has_room(&self) -> Result<(), RequestError> {
        match self.is_full() {
            true => Err(Fault::new(FaultKind::Full, "the sandbox keeps more on the disk than it may").into()),
            false => Ok(()),
        }
    }

    /// Starts a command.
    pub async fn exec(&self, command: Command) -> Result<Running, RequestError> {
        let Command { argv, env, cwd, user, terminal, stdio, tag } = command;
        let ask = Ask::Exec { argv, env, cwd, user, terminal, tag };
        if terminal.is_some() {
            let (pid, mut beside, exit) = self.started(ask, &[]).await?;
            let master = beside.pop().filter(is_terminal).ok_or(RequestError::Gone)?;
            return Ok(Running { pid, exit, stdin: None, stdout: None, stderr: None, terminal: Some(Terminal::of(master)?) });
        }
        let (input, output, error) = (Pipe::make()?, Pipe::make()?, Pipe::make()?);
        let given = [input.read.as_fd(), output.write.as_fd(), error.write.as_fd()];
        let (pid, _, exit) = self.started(ask, &given).await?;
        let stdin = match stdio {
            Stdio::Closed => None,
            Stdio::Open => Some(pipe::Sender::from_owned_fd(input.write)?),
        };
        let (stdout, stderr) = (pipe::Receiver::from_owned_fd(output.read)?, pipe::Receiver::from_owned_fd(error.read)?);
        Ok(Running { pid, exit, stdin, stdout: Some(stdout), stderr: Some(stderr), terminal: None })
    }

    async fn started(&self, ask: Ask, given: &[std::os::fd::BorrowedFd<'_>]) -> Result<(u32, Vec<OwnedFd>, Exit), RequestError> {
        match self.inner.connection.ask(ask, given).await? {
            (Answer::Started { pid }, beside, Some(exit)) => Ok((pid, beside, exit)),
            _ => Err(RequestError::Gone),
        }
    }

    /// Sends a signal to a process, or to the process group of a command, by its number within.
    pub async fn signal(&self, pid: u32, signal: i32, group: bool) -> Result<(), RequestError> {
        self.done(Ask::Signal { pid, signal, group }).await
    }

    /// A file's bytes, as they come, and how the copy ended.
    pub async fn read(&self, path: &str, user: u32) -> Result<(u64, pipe::Receiver, Copied), RequestError> {
        let part = self.read_part(path, user, 0, None).await?;
        Ok((part.bytes, part.pipe, part.copied))
    }

    /// A file's bytes from one on, at most so many.
    pub async fn read_part(&self, path: &str, user: u32, from: u64, most: Option<u64>) -> Result<Part, RequestError> {
        let ends = Pipe::make()?;
        let ask = Ask::Read { path: path.to_owned(), user, from, most };
        let (answer, copied) = self.inner.connection.ask_for_copy(ask, ends.write.as_fd()).await?;
        let Answer::Opened { bytes, modified_ms } = answer else { return Err(RequestError::Gone) };
        Ok(Part { bytes, modified_ms, pipe: pipe::Receiver::from_owned_fd(ends.read)?, copied })
    }

    /// Where a file's bytes go; the file is seen when the pipe was closed and the copy has ended well.
    pub async fn write(&self, path: &str, user: u32, mode: u32) -> Result<(pipe::Sender, Copied), RequestError> {
        self.write_as(&Written { mode, ..Written::to(path, user) }).await
    }

    /// Where a file's bytes go, and how it comes to have them.
    pub async fn write_as(&self, file: &Written) -> Result<(pipe::Sender, Copied), RequestError> {
        self.has_room()?;
        let ends = Pipe::make()?;
        let (_, copied) = self.inner.connection.ask_for_copy(file.ask(false), ends.read.as_fd()).await?;
        Ok((pipe::Sender::from_owned_fd(ends.write)?, copied))
    }

    /// A file of at most [`SHORT`] bytes, in one exchange.
    pub async fn write_short(&self, file: &Written, bytes: &[u8]) -> Result<(), RequestError> {
        if bytes.len() > SHORT {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("more than {SHORT} bytes")).into());
        }
        self.has_room()?;
        // A new pipe takes so much without anybody reading.
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(io::Error::from)?;
        rustix::io::ioctl_fionbio(&read, false).map_err(io::Error::from)?;
        let taken = if bytes.is_empty() { 0 } else { rustix::io::write(&write, bytes).map_err(io::Error::from)? };
        drop(write);
        if taken < bytes.len() {
            // Pipes of a user over the bound have one page.
            return self.write_slowly(file, bytes).await;
        }
        match self.inner.connection.ask(file.ask(true), &[read.as_fd()]).await? {
            (Answer::Written { bytes: written }, ..) if written == bytes.len() as u64 => Ok(()),
            _ => Err(RequestError::Gone),
        }
    }

    async fn write_slowly(&self, file: &Written, bytes: &[u8]) -> Result<(), RequestError> {
        let (mut pipe, copied) = self.write_as(file).await?;
        pipe.write_all(bytes).await?;
        drop(pipe);
        copied.await.map_err(|_| RequestError::Gone)??;
        Ok(())
    }

    /// Puts files one after the other into a new one; they are gone afterwards.
    pub async fn compose(&self, from: Vec<String>, path: &str, user: u32) -> Result<Entry, RequestError> {
        self.has_room()?;
        self.entry(Ask::Compose { from, path: path.to_owned(), user }).await
    }

    /// The user of this name, as the sandbox's own files say.
    pub async fn account(&self, name: &str) -> Result<Account, RequestError> {
        match self.inner.connection.ask(Ask::Account { name: name.to_owned() }, &[]).await? {
            (Answer::Account(account), ..) if account.home.starts_with('/') => Ok(account),
            _ => Err(RequestError::Gone),
        }
    }

    /// The commands that were started from outside and run.
    pub async fn commands(&self) -> Result<Vec<Active>, RequestError> {
        self.lines(Ask::Commands).await
    }

    /// How a command ends that was started by an earlier node. `None`: there is no such command.
    pub async fn attach(&self, pid: u32) -> Result<Option<Ending>, RequestError> {
        // The end may come while it is asked for.
        let exit = self.inner.connection.exit_of(pid)?;
        let active = self.commands().await?.into_iter().find(|active| active.pid == pid);
        Ok(active.map(|active| Ending { active, exit }))
    }

    /// Changes below a folder, from here on.
    pub async fn watch(&self, path: &str, user: u32, watching: Watching) -> Result<Changes, RequestError> {
        let ends = Pipe::make()?;
        let ask = Ask::Watch { path: path.to_owned(), user, watching };
        self.inner.connection.ask(ask, &[ends.write.as_fd()]).await?;
        Ok(Changes { pipe: pipe::Receiver::from_owned_fd(ends.read)?, rest: Vec::new() })
    }

    /// What has changed so far is told by every [`Changes`] that is read when this returns.
    pub async fn settle(&self) -> Result<(), RequestError> {
        self.done(Ask::Settle).await
    }

    /// What it uses now.
    pub async fn metrics(&self) -> Result<Metrics, RequestError> {
        let group = self.inner.group.clone();
        let usage = spawn_blocking(move || group.usage()).await.map_err(io::Error::from)?;
        let (Answer::Space { total, free }, ..) = self.inner.connection.ask(Ask::Space, &[]).await? else { return Err(RequestError::Gone) };
        Ok(Metrics { usage, disk_bytes: total, disk_free_bytes: free.min(total) })
    }

    /// A whole small file.
    pub async fn read_all(&self, path: &str, user: u32) -> Result<Vec<u8>, RequestError> {
        let (_, mut pipe, copied) = self.read(path, user).await?;
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).await?;
        copied.await.map_err(|_| RequestError::Gone)??;
        Ok(bytes)
    }

    /// A whole small file.
    pub async fn write_all(&self, path: &str, user: u32, bytes: &[u8]) -> Result<(), RequestError> {
        let (mut pipe, copied) = self.write(path, user, 0o644).await?;
        pipe.write_all(bytes).await?;
        drop(pipe);
        copied.await.map_err(|_| RequestError::Gone)??;
        Ok(())
    }

    /// What is at a path; a link itself.
    pub async fn stat(&self, path: &str, user: u32) -> Result<Entry, RequestError> {
        self.entry(Ask::Stat { path: path.to_owned(), user }).await
    }

    /// The entries of a folder, and of folders in it down to `depth`.
    pub async fn list(&self, path: &str, user: u32, depth: u32) -> Result<Vec<Entry>, RequestError> {
        self.lines(Ask::List { path: path.to_owned(), user, depth }).await
    }

    async fn lines<T: serde::de::DeserializeOwned>(&self, ask: Ask) -> Result<Vec<T>, RequestError> {
        let ends = Pipe::make()?;
        let (_, copied) = self.inner.connection.ask_for_copy(ask, ends.write.as_fd()).await?;
        let Pipe { read, write } = ends;
        drop(write);
        let mut text = Vec::new();
        pipe::Receiver::from_owned_fd(read)?.take(MOST_LINES).read_to_end(&mut text).await?;
        copied.await.map_err(|_| RequestError::Gone)??;
        let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice);
        lines.collect::<Result<_, _>>().map_err(|_| RequestError::Gone)
    }

    /// Makes a folder and those it is in.
    pub async fn make_folder(&self, path: &str, user: u32) -> Result<Entry, RequestError> {
        self.has_room()?;
        self.entry(Ask::MakeFolder { path: path.to_owned(), user }).await
    }

    /// Moves a file or folder.
    pub async fn rename(&self, from: &str, to: &str, user: u32) -> Result<Entry, RequestError> {
        self.entry(Ask::Rename { from: from.to_owned(), to: to.to_owned(), user }).await
    }

    /// Removes a file, or a folder with all that is in it.
    pub async fn remove_file(&self, path: &str, user: u32) -> Result<(), RequestError> {
        self.done(Ask::Remove { path: path.to_owned(), user }).await
    }

    /// A connection to a port of the sandbox's own loopback device.
    pub async fn connect(&self, port: u16) -> Result<TcpStream, RequestError> {
        let (_, mut beside, _) = self.inner.connection.ask(Ask::Connect { port }, &[]).await?;
        let socket = beside.pop().filter(is_connection).ok_or(RequestError::Gone)?;
        rustix::io::ioctl_fionbio(&socket, true).map_err(io::Error::from)?;
        Ok(TcpStream::from_std(socket.into())?)
    }

    /// The other end of the network device ([`crate::Network::Tun`]): packets of IP, each behind 10 bytes (`virtio_net_hdr`) that say whether
    /// its checksum is still to be made. Whoever has it sees every packet once; two readers would see half each.
    pub async fn device(&self) -> Result<OwnedFd, RequestError> {
        let (_, mut beside, _) = self.inner.connection.ask(Ask::Tun, &[]).await?;
        beside.pop().filter(is_tun).ok_or(RequestError::Gone)
    }

    async fn entry(&self, ask: Ask) -> Result<Entry, RequestError> {
        match self.inner.connection.ask(ask, &[]).await? {
            (Answer::Entry(entry), ..) => Ok(entry),
            _ => Err(RequestError::Gone),
        }
    }

    pub(crate) async fn done(&self, ask: Ask) -> Result<(), RequestError> {
        match self.inner.connection.ask(ask, &[]).await? {
            (Answer::Done, ..) => Ok(()),
            _ => Err(RequestError::Gone),
        }
    }

    /// Stops every process where it is; memory is kept.
    pub async fn freeze(&self) -> io::Result<()> {
        let group = self.inner.group.clone();
        spawn_blocking(move || group.freeze()).await?
    }

    /// Lets all go on.
    pub async fn thaw(&self) -> io::Result<()> {
        let group = self.inner.group.clone();
        spawn_blocking(move || group.thaw()).await?
    }

    /// Asks every process to end; returns when all have.
    pub async fn shut_down(&self) -> Result<(), RequestError> {
        self.done(Ask::Shutdown).await?;
        self.ended().await?;
        Ok(())
    }

    /// Returns when init, and with it every process, has ended.
    pub async fn ended(&self) -> io::Result<()> {
        self.inner.process.readable().await.map(drop)
    }

    /// Ends it at once. What it changed stays in its folder.
    pub async fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(self.inner.process.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        self.ended().await?;
        let group = self.inner.group.clone();
        spawn_blocking(move || {
            group.kill()?;
            group.remove()
        })
        .await?
    }

    /// Ends it at once and removes all that it changed.
    pub async fn remove(&self) -> io::Result<()> {
        self.kill().await?;
        let folder = self.inner.folder.clone();
        spawn_blocking(move || {
            quota::release(&folder.join("fs"));
            crate::record::remove(&folder)
        })
        .await?
    }
}

impl Prepared {
    fn of(host: &Host, cgroups: &Cgroups, spec: &Spec, place: &Place) -> Result<Self, StartError> {
        let folder = &place.folder;
        let failed = |what| move |error| StartError::Place(what, error);
        private_folder(folder).and_then(|()| private_folder(&folder.join("stage"))).map_err(failed("folder"))?;
        let listener = listener(folder).map_err(failed("socket"))?;
        let volumes = spec.volumes.iter().map(|volume| seen_elsewhere(&volume.source)).collect::<io::Result<Vec<_>>>();
        let volumes = volumes.map_err(failed("volume"))?;
        let group = cgroups.create(&place.group, &spec.limits).map_err(failed("cgroup"))?;
        let prepared = || -> Result<Self, StartError> {
            let doors = group.doors().map_err(failed("cgroup"))?;
            let plan = plan(spec, host, place, doors.len())?;
            let bound = (spec.limits.bound_what_is_kept() && host.has(Fence::DiskQuota)).then_some(&spec.limits);
            changes(&plan, folder, bound).map_err(failed("folder"))?;
            let given = std::iter::once(listener).chain(doors.into_iter().map(OwnedFd::from)).chain(volumes).collect();
            Ok(Self { plan, group: group.clone(), given })
        };
        prepared().inspect_err(|_| drop(group.remove()))
    }
}

fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The folders of the overlays' changes. What was never changed has the owner and mode of the tree below, since a root's are the uppermost's.
fn changes(plan: &Plan, folder: &Path, bound: Option<&Limits>) -> io::Result<()> {
    let fs_folder = folder.join("fs");
    private_folder(&fs_folder)?;
    if let Some(limits) = bound {
        quota::bind(&fs_folder, limits)?;
    }
    let source = |name: &String| {
        plan.ops.iter().find_map(|op| match op {
            Op::Layer { name: this, source, .. } if this == name => Some(source),
            _ => None,
        })
    };
    for op in &plan.ops {
        let Op::Overlay { layers, changes, work, .. } = op else { continue };
        let [changes, work] = [changes, work].map(|name| fs_folder.join(name.strip_prefix("changes/").unwrap_or(name)));
        fs::DirBuilder::new().recursive(true).mode(0o755).create(work)?;
        if changes.is_dir() {
            continue;
        }
        fs::DirBuilder::new().mode(0o755).create(&changes)?;
        if let Some(below) = layers.first().and_then(source) {
            let below = fs::metadata(below)?;
            match chown(&changes, Some(below.uid()), Some(below.gid())) {
                // An ordinary user's changes are its own.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                other => other?,
            }
            fs::set_permissions(&changes, below.permissions())?;
        }
    }
    Ok(())
}

/// A folder of the host's as a mount that is nowhere yet: only here, among the host's own mounts, can it be made one.
fn seen_elsewhere(folder: &Path) -> io::Result<OwnedFd> {
    let folder = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let this = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(&folder, "", this)?)
}

fn listener(folder: &Path) -> io::Result<OwnedFd> {
    match fs::remove_file(folder.join("socket")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (_held, address) = connection::address(folder)?;
    bind(&socket, &address)?;
    listen(&socket, 8)?;
    Ok(socket)
}

/// The master of a terminal, and not a descriptor that would do something else when it is read.
fn is_terminal(descriptor: &OwnedFd) -> bool {
    fstat(descriptor).is_ok_and(|it| {
        FileType::from_raw_mode(it.st_mode) == FileType::CharacterDevice && (major(it.st_rdev), minor(it.st_rdev)) == (5, 2)
    })
}

/// A network device, and not a descriptor that would do something else when it is read.
fn is_tun(descriptor: &OwnedFd) -> bool {
    fstat(descriptor).is_ok_and(|it| {
        FileType::from_raw_mode(it.st_mode) == FileType::CharacterDevice && (major(it.st_rdev), minor(it.st_rdev)) == (10, 200)
    })
}

/// A socket of the Internet that bytes go through.
fn is_connection(descriptor: &OwnedFd) -> bool {
    let domain = sockopt::socket_domain(descriptor);
    let stream = sockopt::socket_type(descriptor) == Ok(SocketType::STREAM);
    stream && matches!(domain, Ok(AddressFamily::INET | AddressFamily::INET6)) && sockopt::socket_acceptconn(descriptor) == Ok(false)
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    fn make() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        // Where the bound on pipes of a user is reached it stays smaller, and slower.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES);
        Ok(Self { read, write })
    }
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables, beside `PATH`, `HOME`, `USER` and `LOGNAME`, which they may replace.
    pub env: BTreeMap<String, String>,
    /// Where it begins. `None`: at the user's home.
    pub cwd: Option<String>,
    /// Who it runs as, by its number within.
    pub user: u32,
    /// With a terminal of this size, instead of pipes.
    pub terminal: Option<PtySize>,
    /// Its standard input, without a terminal.
    pub stdio: Stdio,
    /// What it is called, by whoever starts it.
    pub tag: Option<String>,
}

/// A command's standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// At its end from the beginning.
    Closed,
    /// A pipe.
    Open,
}

impl Command {
    /// A program with arguments, as the ordinary user.
    #[must_use]
    pub fn new(argv: &[&str]) -> Self {
        let argv = argv.iter().map(|argument| (*argument).to_owned()).collect();
        Self { argv, env: BTreeMap::new(), cwd: None, user: crate::etc::USER.1, terminal: None, stdio: Stdio::Closed, tag: None }
    }

    /// A line for the shell, as the ordinary user.
    #[must_use]
    pub fn shell(line: &str) -> Self {
        Self::new(&["/bin/sh", "-c", line])
    }

    /// As another user.
    #[must_use]
    pub fn user(self, user: u32) -> Self {
        Self { user, ..self }
    }
}

/// A file, or a part of it, on its way out.
pub struct Part {
    /// The size of the whole file when it was opened.
    pub bytes: u64,
    /// When its content had changed, in milliseconds since 1970.
    pub modified_ms: i64,
    /// Its bytes.
    pub pipe: pipe::Receiver,
    /// How many there were, or why not all came.
    pub copied: Copied,
}

/// A file to be written. Folders that it is in are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Absolute.
    pub path: String,
    /// Who writes, by the number within.
    pub user: u32,
    /// Permission bits of a new file.
    pub mode: u32,
    /// How it comes to have its content.
    pub how: Writing,
    /// What people wrote about it, all of it; `None` leaves what there is.
    pub metadata: Option<BTreeMap<String, String>>,
}

impl Written {
    /// Anybody may read it.
    #[must_use]
    pub fn to(path: &str, user: u32) -> Self {
        Self { path: path.to_owned(), user, mode: 0o644, how: Writing::Whole, metadata: None }
    }

    fn ask(&self, at_once: bool) -> Ask {
        let Self { path, user, mode, how, metadata } = self.clone();
        Ask::Write { path, user, mode, parents: true, how, at_once, metadata }
    }
}

/// What a sandbox uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Memory, processes and processor time.
    pub usage: Usage,
    /// The size of the file system of its root, in bytes.
    pub disk_bytes: u64,
    /// What of it a user can still have.
    pub disk_free_bytes: u64,
}

/// A command of an earlier node's.
pub struct Ending {
    /// What it is.
    pub active: Active,
    exit: Exit,
}

impl Ending {
    /// How it ended, once it has.
    pub async fn exited(&mut self) -> Result<Status, RequestError> {
        let status = self.exit.wait_for(Option::is_some).await.map_err(|_| RequestError::Gone)?;
        status.ok_or(RequestError::Gone)
    }
}

/// Changes of a folder, as they are told. Dropped: nobody watches any more.
pub struct Changes {
    pipe: pipe::Receiver,
    rest: Vec<u8>,
}

impl Changes {
    /// The next one, once there is one; nothing is lost if this is not waited for to its end. `None`: the sandbox has ended.
    pub async fn next(&mut self) -> Option<Noticed> {
        loop {
            match self.now() {
                Ok(Some(noticed)) => return Some(noticed),
                Ok(None) => self.pipe.readable().await.ok()?,
                Err(_) => return None,
            }
        }
    }

    /// The next one, if there is one.
    ///
    /// # Errors
    /// [`RequestError::Gone`]: the sandbox has ended, or says what no init says.
    pub fn now(&mut self) -> Result<Option<Noticed>, RequestError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|_| RequestError::Gone);
            }
            let mut some = [0; 8 << 10];
            match self.pipe.try_read(&mut some) {
                Ok(0) => return Err(RequestError::Gone),
                Ok(_) if self.rest.len() > MOST_LINE => return Err(RequestError::Gone),
                Ok(read) => self.rest.extend_from_slice(&some[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A command that runs.
pub struct Running {
    /// Its number within.
    pub pid: u32,
    /// Its standard input, if it is open.
    pub stdin: Option<pipe::Sender>,
    /// Its standard output, without a terminal.
    pub stdout: Option<pipe::Receiver>,
    /// Its standard error, without a terminal.
    pub stderr: Option<pipe::Receiver>,
    /// Its terminal.
    pub terminal: Option<Terminal>,
    pub(crate) exit: Exit,
}

/// How a command ended and what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub status: Status,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

impl Running {
    /// How it ended, once it has.
    pub async fn exited(&mut self) -> Result<Status, RequestError> {
        let status = self.exit.wait_for(Option::is_some).await.map_err(|_| RequestError::Gone)?;
        status.ok_or(RequestError::Gone)
    }

    /// Waits for its end and gathers what it writes, at most `most` bytes of each stream; what is more is passed over.
    pub async fn output(mut self, most: u64) -> Result<Finished, RequestError> {
        self.stdin = None;
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (stdout, stderr) = tokio::try_join!(gather(stdout, most), gather(stderr, most))?;
        Ok(Finished { status: self.exited().await?, stdout, stderr })
    }
}

async fn gather(pipe: Option<pipe::Receiver>, most: u64) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(most).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

/// The master of a command's terminal.
pub struct Terminal {
    master: AsyncFd<OwnedFd>,
}

impl Terminal {
    fn of(master: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self { master: kernel::watched(master, Interest::READABLE | Interest::WRITABLE)? })
    }

    /// What is on the way to the screen. 0: nobody has the terminal open any more.
    pub async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.master.async_io(Interest::READABLE, |master| Ok(rustix::io::read(master, &mut *into)?)).await;
        match read {
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
            other => other,
        }
    }

    /// As if it were typed; how many bytes were taken.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.master.async_io(Interest::WRITABLE, |master| Ok(rustix::io::write(master, bytes)?)).await
    }

    /// Changes its size; programs on it hear so.
    pub fn resize(&self, size: PtySize) -> io::Result<()> {
        Ok(tcsetwinsize(self.master.get_ref(), Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 })?)
    }
}
