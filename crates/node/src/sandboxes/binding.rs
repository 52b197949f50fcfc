//! `env.SANDBOX`: the sandboxes of one worker, by names of its own, as its isolates and actors reach them.
//!
//! A binding is a [`Target`]: each method of the guest's `sandbox.ts` is one request to it ("Sandboxes" in `docs/design/guest-abi.md`), so that what holds for
//! outgoing requests (an actor's output gate, limits, back-pressure, cancellation when the isolate ends) holds here without anything of its own. A name belongs
//! to its worker: the owner is part of the key, and no request can say another. Requests come from hostile code. It is not: who makes a sandbox or lets it
//! sleep; that is `Sandboxes`.

mod backups;
mod commands;
mod files;
mod past;
mod pattern;
mod ports;
mod processes;
mod refusal;
mod watches;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use skep_id::{SandboxId, WorkerName};
use skep_isolate::{Body, CallError, Request, Response, Target};
use skep_sandbox::{OnTimeout, Profile, Sandbox, State};
use tokio::task::JoinHandle;
use url::Url;

use super::{NewSandbox, Owned, Sandboxes};
use processes::Processes;
use refusal::Refusal;

/// How long a sandbox runs when nobody uses it: then it stands still, and the next use wakes it.
const SLEEPS_AFTER: Duration = Duration::from_secs(600);

/// Sandboxes of one worker: a loop that makes up names shall not take all of a node's.
const PER_WORKER_MAX: usize = 200;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Longest arguments, in bytes.
const ARGUMENTS_MAX: usize = 1 << 20;

/// Where a sandbox's metadata says what its worker calls it.
const NAME: &str = "skep.name";

/// What a new one begins with.
const TEMPLATE: &str = "base";

/// The number of the ordinary user within.
const USER: u32 = 1_000;

/// All sandboxes of a node that workers have by name.
pub(crate) struct Rooms {
    /// Set when the node has opened its sandboxes; where it has none, every use says so.
    sandboxes: Arc<OnceLock<Sandboxes>>,
    /// The folder of backups.
    backups: PathBuf,
    /// Below which ports of sandboxes answer. The front knows it, once it listens.
    domain: OnceLock<String>,
    known: Mutex<HashMap<(WorkerName, String), Arc<Room>>>,
}

/// A name of a worker's, and what this node keeps of it in memory.
struct Room {
    worker: WorkerName,
    name: String,
    /// The sandbox that it stands for; held while one is made, so that two first uses make one.
    id: tokio::sync::Mutex<Option<SandboxId>>,
    processes: Processes,
    /// How many watches there have been.
    watches: AtomicU64,
}

/// What a manifest says of a binding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SandboxWishes {
    /// Whether its sandboxes are `strict`; the node's configuration decides when absent.
    pub strict: Option<bool>,
    /// After how many seconds without use one stands still; 10 minutes when absent.
    pub sleep_after_s: Option<u32>,
}

/// One worker's binding.
#[derive(Clone)]
pub(crate) struct SandboxBinding {
    rooms: Arc<Rooms>,
    worker: WorkerName,
    wishes: SandboxWishes,
}

impl fmt::Debug for SandboxBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SandboxBinding({})", self.worker)
    }
}

impl Rooms {
    pub fn new(sandboxes: Arc<OnceLock<Sandboxes>>, data: &Path) -> Arc<Self> {
        Arc::new(Self { sandboxes, backups: data.join("sandbox-backups"), domain: OnceLock::new(), known: Mutex::default() })
    }

    /// Said once, by whoever serves ports of sandboxes.
    pub fn answer_below(&self, domain: &str) {
        let _ = self.domain.set(domain.to_owned());
    }

    pub fn binding(self: &Arc<Self>, worker: &WorkerName, wishes: SandboxWishes) -> Arc<dyn Target> {
        Arc::new(SandboxBinding { rooms: Arc::clone(self), worker: worker.clone(), wishes })
    }

    fn room(&self, worker: &WorkerName, name: &str) -> Result<Arc<Room>, Refusal> {
        let mut known = self.known.lock();
        let key = (worker.clone(), name.to_owned());
        if let Some(room) = known.get(&key) {
            return Ok(Arc::clone(room));
        }
        if known.keys().filter(|(of, _)| of == worker).count() >= 2 * PER_WORKER_MAX {
            // Names that stand for nothing any more.
            known.retain(|(of, _), room| of != worker || Arc::strong_count(room) > 1 || room.id.try_lock().is_ok_and(|id| id.is_some()));
        }
        let room = Arc::new(Room {
            worker: worker.clone(),
            name: name.to_owned(),
            id: tokio::sync::Mutex::default(),
            processes: Processes::default(),
            watches: AtomicU64::new(0),
        });
        known.insert(key, Arc::clone(&room));
        Ok(room)
    }
}

/// What keeps a sandbox awake as long as it is held.
struct Awake(JoinHandle<()>);

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request, taken apart.
struct Call {
    room: Arc<Room>,
    query: BTreeMap<String, String>,
    request: Request,
}

impl Call {
    async fn arguments<T: DeserializeOwned>(&mut self) -> Result<T, Refusal> {
        let body = std::mem::take(&mut self.request.body);
        let bytes = body.collect(ARGUMENTS_MAX).await.map_err(|error| Refusal::invalid(error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| Refusal::invalid(error.to_string()))
    }

    fn asked(&self, key: &str) -> Result<&str, Refusal> {
        self.query.get(key).map(String::as_str).ok_or_else(|| Refusal::invalid(format!("{key} is missing")))
    }
}

#[derive(Deserialize)]
struct Nothing {}

impl Target for SandboxBinding {
    /// What a worker's call wants done ends with it; `startProcess` has what goes on.
    fn ends_with_call(&self) -> bool {
        true
    }

    fn fetch(&self, request: Request) -> BoxFuture<'static, Result<Response, CallError>> {
        let binding = self.clone();
        Box::pin(async move { Ok(binding.answer(request).await.unwrap_or_else(Refusal::into_response)) })
    }
}

impl SandboxBinding {
    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let url = Url::parse(&request.url).map_err(|error| Refusal::invalid(error.to_string()))?;
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let name = query.get("sandbox").ok_or_else(|| Refusal::invalid("no sandbox is named".to_owned()))?;
        check_name(name)?;
        let room = self.rooms.room(&self.worker, name)?;
        let call = Call { room, query, request };
        match url.path().trim_start_matches('/') {
            "exec" => self.exec(call).await,
            "execStream" => self.exec_stream(call).await,
            "startProcess" => self.start_process(call).await,
            "listProcesses" => self.list_processes(call).await,
            "getProcess" => self.get_process(call).await,
            "killProcess" => self.kill_process(call).await,
            "killAllProcesses" => self.kill_all_processes(call).await,
            "cleanupCompletedProcesses" => self.cleanup_completed_processes(call).await,
            "getProcessLogs" => self.process_logs(call).await,
            "streamProcessLogs" => self.stream_process_logs(call).await,
            "waitForExit" => self.wait_for_exit(call).await,
            "waitForPort" => self.wait_for_port(call).await,
            "writeFile" => self.write_file(call).await,
            "readFile" => self.read_file(call).await,
            "mkdir" => self.mkdir(call).await,
            "deleteFile" => self.delete_file(call).await,
            "renameFile" => self.rename_file(call).await,
            "listFiles" => self.list_files(call).await,
            "exists" => self.exists(call).await,
            "exposePort" => self.expose_port(call).await,
            "containerFetch" => self.container_fetch(call).await,
            "createBackup" => self.create_backup(call).await,
            "restoreBackup" => self.restore_backup(call).await,
            "watch" => self.watch(call).await,
            "createSnapshot" => self.create_snapshot(call).await,
            "listSnapshots" => self.list_snapshots(call).await,
            "restoreSnapshot" => self.restore_snapshot(call).await,
            "deleteSnapshot" => self.delete_snapshot(call).await,
            "fork" => self.fork(call).await,
            "diff" => self.diff(call).await,
            "commitBack" => self.commit_back(call).await,
            "history" => self.history(call).await,
            "destroy" => self.destroy(call).await,
            other => Err(Refusal::new(
                404,
                "NO_SUCH_METHOD",
                format!("sandboxes have no method {:?}", other.chars().take(80).collect::<String>()),
            )),
        }
    }

    fn sleeps_after(&self) -> Duration {
        self.wishes.sleep_after_s.map_or(SLEEPS_AFTER, |seconds| Duration::from_secs(seconds.max(1).into()))
    }

    /// The sandbox behind a name, if there is one.
    fn found(&self, room: &Room, id: Option<&SandboxId>) -> Result<Option<Owned>, Refusal> {
        let sandboxes = self.rooms.sandboxes.get().ok_or_else(Refusal::none)?;
        let owner = owner(&room.worker);
        let is_it = |owned: &Owned| {
            let facts = owned.facts();
            facts.owner == owner && facts.metadata.get(NAME) == Some(&room.name) && owned.state() != State::Removing
        };
        Ok(match id.and_then(|id| sandboxes.get(id)) {
            Some(owned) if is_it(&owned) => Some(owned),
            // It was made before the node started, or has gone.
            // A node that was killed while one took another's place left both.
            _ => sandboxes.list().into_iter().filter(is_it).max_by_key(|owned| owned.facts().created_ms),
        })
    }

    /// Those of this worker that are there.
    fn count(&self) -> Result<usize, Refusal> {
        let (sandboxes, owner) = (self.rooms.sandboxes.get().ok_or_else(Refusal::none)?, owner(&self.worker));
        Ok(sandboxes.list().iter().filter(|owned| owned.facts().owner == owner).count())
    }

    /// What it begins with, and what the manifest wishes.
    fn wished(&self, name: &str, template: &str) -> NewSandbox {
        let millis = u64::try_from(self.sleeps_after().as_millis()).unwrap_or(u64::MAX);
        NewSandbox {
            profile: self.wishes.strict.map(|strict| if strict { Profile::Strict } else { Profile::Workstation }),
            on_timeout: OnTimeout::Pause,
            auto_resume: true,
            metadata: named(name),
            ..NewSandbox::of(&owner(&self.worker), template, Some(millis))
        }
    }

    /// The sandbox behind a name: made where there is none, awake when this returns.
    async fn sandbox(&self, room: &Room) -> Result<(Owned, Sandbox), Refusal> {
        let mut id = room.id.lock().await;
        let owned = match self.found(room, id.as_ref())? {
            Some(owned) => owned,
            None => self.make(room).await?,
        };
        *id = Some(owned.id().clone());
        drop(id);
        self.stay(&owned).await?;
        let sandbox = owned.running().await?;
        Ok((owned, sandbox))
    }

    async fn make(&self, room: &Room) -> Result<Owned, Refusal> {
        let sandboxes = self.rooms.sandboxes.get().ok_or_else(Refusal::none)?;
        self.has_room_for(1)?;
        room.processes.forget_all();
        Ok(sandboxes.create(self.wished(&room.name, TEMPLATE)).await?)
    }

    fn has_room_for(&self, more: usize) -> Result<(), Refusal> {
        if self.count()? + more > PER_WORKER_MAX {
            let message = format!("a worker has at most {PER_WORKER_MAX} sandboxes; destroy one first");
            return Err(Refusal::new(429, "TOO_MANY_SANDBOXES", message));
        }
        Ok(())
    }

    /// It sleeps no sooner than that from now. Nothing is written down while more than half of the time is left.
    async fn stay(&self, owned: &Owned) -> Result<(), Refusal> {
        let millis = u64::try_from(self.sleeps_after().as_millis()).unwrap_or(u64::MAX);
        let left = owned.ends_ms().map(|ends| ends.saturating_sub(crate::now_ms()));
        if !left.is_some_and(|left| u64::try_from(left).is_ok_and(|left| left > millis / 2)) {
            owned.connect(Some(millis)).await?;
        }
        Ok(())
    }

    /// Keeps it awake while somebody works in it.
    fn keep_awake(&self, owned: &Owned) -> Awake {
        let (binding, owned) = (self.clone(), owned.clone());
        Awake(tokio::spawn(async move {
            let mut every = tokio::time::interval((binding.sleeps_after() / 4).max(Duration::from_millis(200)));
            loop {
                every.tick().await;
                // What cannot be kept awake sleeps; whoever works in it notices.
                if binding.stay(&owned).await.is_err() {
                    return;
                }
            }
        }))
    }

    async fn destroy(&self, mut call: Call) -> Result<Response, Refusal> {
        let Nothing {} = call.arguments().await?;
        let mut id = call.room.id.lock().await;
        // Should there be two, the name must not stand for the other from now on.
        while let Some(owned) = self.found(&call.room, id.as_ref())? {
            owned.remove().await?;
            *id = None;
        }
        *id = None;
        call.room.processes.forget_all();
        json(&serde_json::json!({ "success": true }))
    }
}

/// Who owns the sandboxes of a worker: no key is called so.
fn owner(worker: &WorkerName) -> String {
    format!("worker:{worker}")
}

/// What is written down of a sandbox that a worker calls so.
fn named(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(NAME.to_owned(), name.to_owned())])
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Refusal::invalid(format!("a sandbox's name has 1 to {NAME_BYTES_MAX} bytes, and no control characters")));
    }
    Ok(())
}

fn json<T: Serialize>(value: &T) -> Result<Response, Refusal> {
    let bytes = serde_json::to_vec(value).map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(answered("application/json", Body::Bytes(Bytes::from(bytes))))
}

fn answered(kind: &str, body: Body) -> Response {
    let headers = vec![("content-type".to_owned(), kind.to_owned()), ("x-timestamp".to_owned(), iso(crate::now_ms()))];
    Response { status: 200, headers, body, ..Response::default() }
}

/// A time in ISO 8601, from milliseconds since 1970.
fn iso(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Howard Hinnant's days-to-date: eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted_month + 2) / 5 + 1, if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hours, minutes, seconds, millis) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(iso(1_795_302_533_506), "2026-11-21T23:08:53.506Z");
        assert_eq!(iso(-1), "1969-12-31T23:59:59.999Z");
    }

    async fn asked(url: &str) -> (u16, String) {
        let rooms = Rooms::new(Arc::default(), Path::new("/nowhere"));
        let binding = rooms.binding(&"one".parse().unwrap(), SandboxWishes::default());
        let request = Request { method: "POST".into(), url: url.into(), body: Body::Bytes("{}".into()), ..Request::default() };
        let response = binding.fetch(request).await.unwrap();
        let body = response.body.collect(1 << 20).await.unwrap();
        (response.status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Whatever a name is made of, it is a name and no path, and a request that is none is told so.
    #[tokio::test]
    async fn hostile_requests_are_refused() {
        let code = async |url: &str| {
            let (status, text) = asked(url).await;
            (status, serde_json::from_str::<serde_json::Value>(&text).unwrap()["code"].as_str().unwrap().to_owned())
        };
        for url in ["nonsense", "http://sandbox/exec", "http://sandbox/exec?sandbox=", "http://sandbox/exec?sandbox=a%00b"] {
            assert_eq!(code(url).await, (400, "INVALID_ARGUMENT".to_owned()), "{url}");
        }
        assert_eq!(code(&format!("http://sandbox/exec?sandbox={}", "x".repeat(129))).await.0, 400);
        assert_eq!(code("http://sandbox/../fetch?sandbox=a").await, (404, "NO_SUCH_METHOD".to_owned()));
        assert_eq!(code("http://sandbox/killAllProcesses?sandbox=..%2F..%2Fother").await, (503, "NO_SANDBOXES".to_owned()));
    }
}
