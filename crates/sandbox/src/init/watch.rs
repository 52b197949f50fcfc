//! Watching folders for the node: inotify, folders within included, with what is there now.
//!
//! One instance for all watches of a sandbox, and none while there is no watch: the kernel counts instances for the host's user, who owns
//! every sandbox. Each watch has its queue and its pipe; who does not read loses changes and is told so. A watch ends when its pipe has no
//! reader. It is not: a history; what happened before a watch began, nobody knows.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ffi::OsString,
    fs, io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::{
    io::{AsyncWriteExt, Interest, unix::AsyncFd},
    net::unix::pipe,
    sync::{mpsc, oneshot},
    task::{JoinHandle, spawn_local},
};

use super::{
    files, line,
    users::{Names, User},
};
use crate::{
    kernel,
    wire::{Change, ChangeKind, Fault, FaultKind, Noticed, Watching},
};

/// Watches of one sandbox, and folders of all of them.
const MOST_WATCHES: usize = 128;
const MOST_FOLDERS: usize = 16_384;
/// Changes that wait for their pipe.
const MOST_WAITING: usize = 4_096;
/// Changes heard in one go; as many as the kernel keeps.
const MOST_HEARD: usize = 16_384;
/// How long a pipe is waited for when all that was noticed is to be in it.
const SETTLED: Duration = Duration::from_secs(1);

/// What is told of a folder.
const TOLD: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// All watches.
#[derive(Clone, Default)]
pub(super) struct Watches {
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    next: u64,
    instance: Option<Instance>,
    watches: HashMap<u64, Watch>,
    /// By the kernel's number of a watched folder: which watches it belongs to, and where it is in each.
    folders: HashMap<i32, Vec<Within>>,
}

struct Instance {
    descriptor: Rc<AsyncFd<OwnedFd>>,
    reader: JoinHandle<()>,
}

struct Watch {
    root: PathBuf,
    user: User,
    watching: Watching,
    queue: mpsc::Sender<Queued>,
    /// Something did not fit into the queue; told when all that did has been.
    lost: Rc<Cell<bool>>,
}

struct Within {
    watch: u64,
    below: PathBuf,
}

/// Whether the kernel has more to tell.
enum Heard {
    All,
    Some,
}

enum Queued {
    Line(Vec<u8>),
    Settled(oneshot::Sender<()>),
}

impl Watches {
    /// From here on, changes below `path` go into the pipe.
    pub(super) fn begin(&self, path: String, user: User, watching: Watching, pipe: pipe::Sender) -> Result<(), Fault> {
        files::absolute(&path)?;
        let root = PathBuf::from(path);
        let failed = |error: io::Error| Fault::of(&root.to_string_lossy(), &error);
        user.does(|| watchable(&root, watching)).and_then(|done| done).map_err(failed)?;
        let mut state = self.state.borrow_mut();
        if state.watches.len() >= MOST_WATCHES {
            return Err(Fault::new(FaultKind::Full, format!("more than {MOST_WATCHES} watches")));
        }
        if state.instance.is_none() {
            state.instance = Some(self.open().map_err(|error| Fault::of("inotify", &error))?);
        }
        let id = state.next;
        state.next += 1;
        let (queue, queued) = mpsc::channel(MOST_WAITING);
        let lost = Rc::<Cell<bool>>::default();
        state.watches.insert(id, Watch { root: root.clone(), user, watching, queue, lost: Rc::clone(&lost) });
        let added = state.add(id, Path::new(""), false);
        if let Err(error) = added {
            state.end(id);
            return Err(failed(error));
        }
        drop(state);
        let watches = self.clone();
        spawn_local(async move {
            deliver(pipe, queued, lost).await;
            watches.state.borrow_mut().end(id);
        });
        Ok(())
    }

    /// Returns when all that the kernel has noticed is in the pipes of those who read them.
    pub(super) async fn settle(&self) {
        let mut waiting = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            state.hear();
            for watch in state.watches.values() {
                let (settled, done) = oneshot::channel();
                if watch.queue.try_send(Queued::Settled(settled)).is_ok() {
                    waiting.push(done);
                }
            }
        }
        let all = async {
            for done in waiting {
                let _ = done.await;
            }
        };
        let _ = tokio::time::timeout(SETTLED, all).await;
    }

    fn open(&self) -> io::Result<Instance> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let descriptor = Rc::new(kernel::watched(descriptor, Interest::READABLE)?);
        let (watches, heard) = (self.clone(), Rc::clone(&descriptor));
        let reader = spawn_local(async move {
            while let Ok(mut ready) = heard.readable().await {
                match watches.state.borrow_mut().hear() {
                    Heard::All => ready.clear_ready(),
                    Heard::Some => ready.retain_ready(),
                }
                // Whoever changes files without pause has no more of init's time than others.
                tokio::task::yield_now().await;
            }
        });
        Ok(Instance { descriptor, reader })
    }
}

/// Whether there is a folder whose changes are told here.
fn watchable(path: &Path, watching: Watching) -> io::Result<()> {
    const ELSEWHERE: [u64; 5] = [0x6969, 0xff53_4d42, 0x517b, 0xfe53_4d42, 0x6573_5546];
    if !fs::metadata(path)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let kind = u64::try_from(rustix::fs::statfs(path)?.f_type).unwrap_or(0);
    if !watching.network && ELSEWHERE.contains(&kind) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot watch a path on a network file system"));
    }
    Ok(())
}

/// Until nobody reads any more, or the watch is over.
async fn deliver(mut pipe: pipe::Sender, mut queued: mpsc::Receiver<Queued>, lost: Rc<Cell<bool>>) {
    loop {
        if queued.is_empty() && lost.take() && pipe.write_all(&line(&Noticed::Lost)).await.is_err() {
            return;
        }
        let next = tokio::select! {
            next = queued.recv() => next,
            // The other end was closed.
            _ = pipe.ready(Interest::ERROR) => None,
        };
        match next {
            Some(Queued::Line(line)) => {
                if pipe.write_all(&line).await.is_err() {
                    return;
                }
            }
            Some(Queued::Settled(settled)) => drop(settled.send(())),
            None => return,
        }
    }
}

/// What was in a folder before anybody looked.
struct Found {
    name: OsString,
    folder: bool,
    written: bool,
}

impl Found {
    fn of(entry: fs::DirEntry) -> Self {
        let kind = entry.file_type().ok();
        let written = kind.is_some_and(|kind| kind.is_file()) && entry.metadata().is_ok_and(|found| found.len() > 0);
        Self { name: entry.file_name(), folder: kind.is_some_and(|kind| kind.is_dir()), written }
    }

    /// As the kernel says it.
    fn what(&self) -> ReadFlags {
        if self.folder { ReadFlags::ISDIR } else { ReadFlags::empty() }
    }
}

impl State {
    /// A folder, and with a recursive watch those in it; told of, if they are new.
    fn add(&mut self, id: u64, below: &Path, new: bool) -> io::Result<()> {
        let (Some(watch), Some(instance)) = (self.watches.get(&id), &self.instance) else { return Ok(()) };
        let (root, user, recursive) = (watch.root.clone(), watch.user.clone(), watch.watching.recursive);
        let descriptor = Rc::clone(&instance.descriptor);
        let mut folders = vec![below.to_owned()];
        while let Some(below) = folders.pop() {
            if self.folders.len() >= MOST_FOLDERS {
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, format!("more than {MOST_FOLDERS} folders")));
            }
            let is_root = below.as_os_str().is_empty();
            let path = root.join(&below);
            let flags = if is_root { TOLD } else { TOLD | WatchFlags::DONT_FOLLOW };
            let found = user.does(|| -> io::Result<_> {
                let number = inotify::add_watch(descriptor.get_ref(), &path, flags)?;
                let entries = if recursive { fs::read_dir(&path)?.flatten().map(Found::of).collect() } else { Vec::new() };
                Ok((number, entries))
            })?;
            let (number, entries) = match found {
                Ok(found) => found,
                Err(error) if is_root => return Err(error),
                // Gone meanwhile, or not for this user's eyes.
                Err(_) => continue,
            };
            let places = self.folders.entry(number).or_default();
            places.retain(|place| place.watch != id);
            places.push(Within { watch: id, below: below.clone() });
            for entry in entries {
                let below = below.join(&entry.name);
                if new {
                    self.tell(id, &below, ChangeKind::Created, entry.what());
                    if entry.written {
                        self.tell(id, &below, ChangeKind::Written, entry.what());
                    }
                }
                if entry.folder {
                    folders.push(below);
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, id: u64) {
        self.watches.remove(&id);
        self.leave(id, Path::new(""));
        if self.watches.is_empty()
            && let Some(instance) = self.instance.take()
        {
            instance.reader.abort();
            self.folders.clear();
        }
    }

    /// A watch no longer looks at these folders.
    fn leave(&mut self, id: u64, below: &Path) {
        let instance = self.instance.as_ref().map(|instance| Rc::clone(&instance.descriptor));
        self.folders.retain(|number, places| {
            places.retain(|place| place.watch != id || !place.below.starts_with(below));
            if places.is_empty()
                && let Some(instance) = &instance
            {
                let _ = inotify::remove_watch(instance.get_ref(), *number);
            }
            !places.is_empty()
        });
    }

    /// Takes all that the kernel has to tell.
    fn hear(&mut self) -> Heard {
        let Some(descriptor) = self.instance.as_ref().map(|instance| Rc::clone(&instance.descriptor)) else { return Heard::All };
        let mut space = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(descriptor.get_ref(), &mut space);
        for _ in 0..MOST_HEARD {
            let Ok(event) = reader.next() else { return Heard::All };
            let name = event.file_name().map(|name| PathBuf::from(name.to_string_lossy().into_owned()));
            self.happened(event.wd(), event.events(), name.as_deref());
        }
        // What was read already would be lost with the reader.
        while !reader.is_buffer_empty() {
            let Ok(event) = reader.next() else { break };
            let name = event.file_name().map(|name| PathBuf::from(name.to_string_lossy().into_owned()));
            self.happened(event.wd(), event.events(), name.as_deref());
        }
        Heard::Some
    }

    fn happened(&mut self, number: i32, what: ReadFlags, name: Option<&Path>) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.watches.values().for_each(Watch::lose);
        }
        if what.contains(ReadFlags::IGNORED) {
            self.folders.remove(&number);
            return;
        }
        let Some(places) = self.folders.get(&number) else { return };
        let places: Vec<(u64, PathBuf)> = places.iter().map(|place| (place.watch, place.below.clone())).collect();
        for (id, below) in places {
            match (name, kind_of(what)) {
                (Some(name), Some(kind)) => self.changed(id, &below.join(name), kind, what),
                // The folder above tells of those within; only of the watched one itself nobody else does.
                (None, Some(kind @ (ChangeKind::Removed | ChangeKind::Renamed))) if below.as_os_str().is_empty() => {
                    self.tell(id, Path::new("."), kind, ReadFlags::ISDIR);
                }
                _ => {}
            }
        }
    }

    fn changed(&mut self, id: u64, path: &Path, kind: ChangeKind, what: ReadFlags) {
        self.tell(id, path, kind, what);
        let recursive = self.watches.get(&id).is_some_and(|watch| watch.watching.recursive);
        if !recursive || !what.contains(ReadFlags::ISDIR) {
            return;
        }
        match kind {
            ChangeKind::Created => {
                if self.add(id, path, true).is_err()
                    && let Some(watch) = self.watches.get(&id)
                {
                    watch.lose();
                }
            }
            ChangeKind::Renamed => self.leave(id, path),
            ChangeKind::Written | ChangeKind::Removed | ChangeKind::Attributes => {}
        }
    }

    fn tell(&mut self, id: u64, path: &Path, kind: ChangeKind, what: ReadFlags) {
        let Some(watch) = self.watches.get(&id) else { return };
        let there = matches!(kind, ChangeKind::Created | ChangeKind::Written | ChangeKind::Attributes);
        let entry = (watch.watching.entries && there).then(|| {
            let at = watch.root.join(path);
            let names = Names::read();
            watch.user.does(|| files::entry(&at, &names)).and_then(|found| found).ok()
        });
        let (folder, moved) = (what.contains(ReadFlags::ISDIR), what.contains(ReadFlags::MOVED_TO));
        let change = Change { path: path.to_string_lossy().into_owned(), kind, folder, moved, entry: entry.flatten() };
        if watch.queue.try_send(Queued::Line(line(&Noticed::Change(change)))).is_err() {
            watch.lost.set(true);
        }
    }
}

impl Watch {
    /// Something that happened is not known.
    fn lose(&self) {
        if self.queue.try_send(Queued::Line(line(&Noticed::Lost))).is_err() {
            self.lost.set(true);
        }
    }
}

fn kind_of(what: ReadFlags) -> Option<ChangeKind> {
    let kinds = [
        (ReadFlags::CREATE | ReadFlags::MOVED_TO, ChangeKind::Created),
        (ReadFlags::MOVED_FROM | ReadFlags::MOVE_SELF, ChangeKind::Renamed),
        (ReadFlags::DELETE | ReadFlags::DELETE_SELF, ChangeKind::Removed),
        (ReadFlags::MODIFY, ChangeKind::Written),
        (ReadFlags::ATTRIB, ChangeKind::Attributes),
    ];
    kinds.into_iter().find(|(flags, _)| what.intersects(*flags)).map(|(_, kind)| kind)
}
