//! `filesystem.Filesystem`: paths as E2B writes them, entries, watches that stream and watches that are asked.
//!
//! All is done by init with the rights of the user who asks; here only words are changed. It is not: where file contents go (`files.rs`).

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use skep_sandbox::{Account, Changes, EntryKind, FaultKind, Noticed, RequestError, Sandbox, Watching};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    connect::{self, Code, Problem},
    messages::{EntryInfo, FilesystemEvent, WatchEvent, WatchRequest, event_type},
    telling::{self, Next, Pace, Source},
};

/// The longest path that a kernel takes.
const MOST_PATH: usize = 4_096;
/// Watches that are asked, of one sandbox.
const MOST_WATCHERS: usize = 64;
/// Changes kept for who asks.
const MOST_KEPT: usize = 65_536;
/// A watch that nobody asks any more.
const FORGOTTEN: Duration = Duration::from_secs(3_600);

/// An absolute path of what was asked for: `~` is the user's home, and what is relative begins there, or in the folder that was said to be the default.
///
/// # Errors
/// What no kernel takes; another user's home.
pub fn resolve(path: &str, account: &Account, workdir: Option<&str>) -> Result<String, Problem> {
    let invalid = |why: &str| Problem::new(Code::InvalidArgument, why);
    let path = if path.is_empty() { workdir.unwrap_or_default() } else { path };
    if path.contains('\0') {
        return Err(invalid("a path has no zero byte"));
    }
    let absolute = match path.strip_prefix('~') {
        Some(below) if below.is_empty() || below.starts_with('/') => cleaned(&format!("{}/{below}", account.home)),
        Some(_) => return Err(invalid("cannot expand user-specific home dir")),
        None if path.starts_with('/') => path.to_owned(),
        None => cleaned(&format!("{}/{path}", account.home)),
    };
    if absolute.len() > MOST_PATH { Err(invalid("the path is too long")) } else { Ok(absolute) }
}

/// Without `.`, `..` and doubled slashes, by the letters alone.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A failure of init's in the wire's words.
pub fn problem(error: RequestError) -> Problem {
    let code = match &error {
        RequestError::Gone => Code::Unavailable,
        RequestError::Here(error) if error.kind() == io::ErrorKind::InvalidInput => Code::InvalidArgument,
        RequestError::Here(_) => Code::Internal,
        RequestError::Fault(fault) => match fault.kind {
            FaultKind::NotFound => Code::NotFound,
            FaultKind::Exists => Code::AlreadyExists,
            FaultKind::NotFolder | FaultKind::IsFolder | FaultKind::Invalid => Code::InvalidArgument,
            FaultKind::Denied => Code::PermissionDenied,
            FaultKind::Full => Code::ResourceExhausted,
            FaultKind::Loop => Code::FailedPrecondition,
            FaultKind::Refused | FaultKind::Failed => Code::Internal,
        },
    };
    Problem::new(code, error.to_string())
}

/// The calls that have one answer.
pub struct Files<'a> {
    pub sandbox: &'a Sandbox,
    pub user: u32,
}

impl Files<'_> {
    pub async fn stat(&self, path: &str) -> Result<EntryInfo, Problem> {
        Ok(self.sandbox.stat(path, self.user).await.map_err(problem)?.into())
    }

    pub async fn list(&self, path: &str, depth: u32) -> Result<Vec<EntryInfo>, Problem> {
        let entries = self.sandbox.list(path, self.user, depth.max(1)).await.map_err(problem)?;
        Ok(entries.into_iter().map(EntryInfo::from).collect())
    }

    /// A folder that is there already is said to be; anything else in its place is asked wrongly.
    pub async fn make_folder(&self, path: &str) -> Result<EntryInfo, Problem> {
        match self.sandbox.make_folder(path, self.user).await {
            Ok(entry) => Ok(entry.into()),
            Err(RequestError::Fault(fault)) if fault.kind == FaultKind::Exists => {
                let there = self.sandbox.stat(path, self.user).await.map_err(problem)?;
                let kind = there.leads.map_or(there.kind, |leads| leads.kind);
                Err(match kind {
                    EntryKind::Folder => Problem::new(Code::AlreadyExists, format!("directory already exists: {path}")),
                    _ => Problem::new(Code::InvalidArgument, format!("path already exists but it is not a directory: {path}")),
                })
            }
            Err(error) => Err(problem(error)),
        }
    }

    pub async fn rename(&self, from: &str, to: &str) -> Result<EntryInfo, Problem> {
        Ok(self.sandbox.rename(from, to, self.user).await.map_err(problem)?.into())
    }

    /// What is not there is removed.
    pub async fn remove(&self, path: &str) -> Result<(), Problem> {
        match self.sandbox.remove_file(path, self.user).await {
            Err(RequestError::Fault(fault)) if fault.kind == FaultKind::NotFound => Ok(()),
            done => done.map_err(problem),
        }
    }

    /// A watch from here on.
    pub async fn watch(&self, path: &str, request: &WatchRequest) -> Result<Changes, Problem> {
        let watching = Watching { recursive: request.recursive, entries: request.include_entry, network: request.allow_network_mounts };
        self.sandbox.watch(path, self.user, watching).await.map_err(|error| match error {
            RequestError::Fault(fault) if fault.kind == FaultKind::NotFolder => {
                Problem::new(Code::InvalidArgument, format!("path {path} not a directory"))
            }
            error => problem(error),
        })
    }
}

fn lost() -> Problem {
    Problem::new(Code::DataLoss, "more changed at once than could be told: look again")
}

fn event(change: skep_sandbox::Change) -> FilesystemEvent {
    FilesystemEvent { name: change.path, kind: event_type(change.kind), entry: change.entry.map(EntryInfo::from) }
}

/// The envelopes of a watch that streams.
pub fn stream(changes: Changes, ping: Duration, deadline: Option<Duration>) -> impl Stream<Item = Result<Bytes, io::Error>> {
    let [start, alive] = [WatchEvent::Start {}, WatchEvent::Keepalive {}].map(|event| connect::message(&event));
    let deadline = deadline.map(|after| Instant::now() + after);
    telling::tell(start, alive, Pace { ping, deadline }, Watched(changes))
}

struct Watched(Changes);

impl Source for Watched {
    async fn next(&mut self) -> Next {
        match self.0.next().await {
            Some(Noticed::Change(change)) => Next::More(connect::message(&WatchEvent::Filesystem(Box::new(event(change))))),
            Some(Noticed::Lost) => Next::failed(&lost()),
            None => Next::Gone,
        }
    }
}

type Answer = Result<Vec<FilesystemEvent>, Problem>;

/// Watches that are asked what has changed, by name.
#[derive(Default)]
pub struct Watchers {
    known: Mutex<HashMap<String, mpsc::Sender<oneshot::Sender<Answer>>>>,
}

impl Watchers {
    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::Sender<oneshot::Sender<Answer>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a watch under this name.
    pub fn keep(&self, name: String, changes: Changes) -> Result<(), Problem> {
        let mut known = self.known();
        known.retain(|_, asks| !asks.is_closed());
        if known.len() >= MOST_WATCHERS {
            return Err(Problem::new(Code::ResourceExhausted, format!("there are {MOST_WATCHERS} watchers already")));
        }
        let (sender, asks) = mpsc::channel(8);
        known.insert(name, sender);
        tokio::spawn(gather(changes, asks));
        Ok(())
    }

    /// What has changed since it was asked last.
    pub async fn events(&self, name: &str, sandbox: &Sandbox) -> Answer {
        let asks = self.known().get(name).cloned().ok_or_else(|| unknown(name))?;
        // What a caller did before it asked is told, although nobody waited for the kernel to say so.
        sandbox.settle().await.map_err(problem)?;
        let (answer, answered) = oneshot::channel();
        asks.send(answer).await.map_err(|_| unknown(name))?;
        answered.await.map_err(|_| unknown(name))?
    }

    /// Ends one.
    pub fn remove(&self, name: &str) -> Result<(), Problem> {
        self.known().remove(name).map(drop).ok_or_else(|| unknown(name))
    }
}

fn unknown(name: &str) -> Problem {
    Problem::new(Code::NotFound, format!("watcher with id {name} not found"))
}

/// Gathers changes until nobody can ask any more, or nobody has for long.
async fn gather(mut changes: Changes, mut asks: mpsc::Receiver<oneshot::Sender<Answer>>) {
    let (mut kept, mut asked) = (Kept::default(), Instant::now());
    loop {
        tokio::select! {
            noticed = changes.next(), if !kept.ended => match noticed {
                Some(noticed) => kept.take(noticed),
                None => kept.ended = true,
            },
            ask = asks.recv() => {
                let Some(ask) = ask else { return };
                asked = Instant::now();
                while let Ok(Some(noticed)) = changes.now() {
                    kept.take(noticed);
                }
                let _ = ask.send(kept.give());
            }
            () = sleep_until(asked + FORGOTTEN) => return,
        }
    }
}

#[derive(Default)]
struct Kept {
    events: VecDeque<FilesystemEvent>,
    lost: bool,
    ended: bool,
}

impl Kept {
    fn take(&mut self, noticed: Noticed) {
        match noticed {
            Noticed::Change(change) if self.events.len() < MOST_KEPT => self.events.push_back(event(change)),
            Noticed::Change(_) | Noticed::Lost => self.lost = true,
        }
    }

    /// That something was lost is said once, after what was not.
    fn give(&mut self) -> Answer {
        if !self.events.is_empty() {
            return Ok(self.events.drain(..).collect());
        }
        if std::mem::take(&mut self.lost) {
            return Err(lost());
        }
        if self.ended { Err(Problem::new(Code::Unavailable, "the sandbox has ended")) } else { Ok(Vec::new()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_at_home() {
        let account = Account { id: 1_000, group: 1_000, name: "user".into(), home: "/home/user".into() };
        let of = |path: &str| resolve(path, &account, None);
        let cases = [
            ("", "/home/user"),
            ("a", "/home/user/a"),
            ("a/../b/./c//d", "/home/user/b/c/d"),
            ("../../../../etc", "/etc"),
            ("~", "/home/user"),
            ("~/x", "/home/user/x"),
            ("/a//b/../c", "/a//b/../c"),
        ];
        for (path, wanted) in cases {
            assert_eq!(of(path).unwrap(), wanted, "{path}");
        }
        for hostile in ["~root", "~root/x", "a\0b", &"x/".repeat(3_000)] {
            assert_eq!(of(hostile).unwrap_err().code, Code::InvalidArgument);
        }
        assert_eq!(resolve("", &account, Some("/work")).unwrap(), "/work");
        assert_eq!(resolve("x", &account, Some("/work")).unwrap(), "/home/user/x");
    }
}
