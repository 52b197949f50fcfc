//! The node's handle: what one can ask of a node.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use skep_access::{KeyError, Keys, NewKey, Scope};
use skep_actor::log::{DurableLog, LocalLog, SYNC_BOUNDS_US};
use skep_bundle::{Compiler, CompilerConfig};
use skep_gateway::Outbound;
use skep_id::{RequestId, VersionId, WorkerName};
use skep_isolate::{Outcome, Request, Response};
use tokio::sync::{Semaphore, broadcast};

use crate::{
    Actors, ActorsError, CodeError, Config, Deployment, Draft, Egress, Entrypoint, Event, Export, Runtime, Secrets, SecretsError, Store,
    StoreError, VersionRow, actors,
    isolates::Isolates,
    metrics::{Histogram, Metrics},
    tail::cut,
    workers::{DispatchError, Parts, Workers},
};

/// Where the first admin key is left for the CLI of the same machine.
const ADMIN_KEY_FILE: &str = "admin.key";

/// Longest time for one question to the compile child.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a node does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder cannot be used.
    #[error("cannot use the data folder {}", .0.display())]
    Data(PathBuf, #[source] io::Error),
    /// Another node has it.
    #[error("another node is running on the data folder {}", .0.display())]
    InUse(PathBuf),
    /// What is deployed cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The engine does not start.
    #[error("the isolate engine does not start")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The secrets cannot be read.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The log of actors cannot be opened, or this disk does not keep its promise.
    #[error(transparent)]
    Log(#[from] skep_actor::log::LogError),
    /// The files of actors could not be looked at.
    #[error("the files of actors could not be looked at")]
    Inspection(#[source] skep_actor::ActorError),
    /// The actors cannot be opened.
    #[error(transparent)]
    Actors(#[from] skep_actor::OpenError),
    /// TLS for outgoing connections cannot be set up.
    #[error("outgoing TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// Why a deploy changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The code breaks a rule or does not compile.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The code did not come to life.
    #[error("the worker does not start")]
    Startup(Outcome),
    /// A binding names a class of the worker's own that it does not export.
    #[error("the worker exports no class {class:?}, of which binding {binding:?} is to have actors; {}", exported(.exports))]
    NoClass {
        /// The binding's name.
        binding: String,
        /// The class that it names.
        class: String,
        /// What there is.
        exports: Vec<Export>,
    },
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Most exports that an error names.
const EXPORTS_SHOWN: usize = 20;

/// What there is to choose from, in words.
fn exported(exports: &[Export]) -> String {
    let names = |class: bool| {
        let mut names: Vec<&str> = exports.iter().filter(|export| export.class == class).map(|export| cut(&export.name, 80)).collect();
        if names.len() > EXPORTS_SHOWN {
            names.truncate(EXPORTS_SHOWN);
            names.push("…");
        }
        names.join(", ")
    };
    match (names(true), names(false)) {
        (classes, others) if classes.is_empty() && others.is_empty() => "it exports nothing".to_owned(),
        (classes, others) if classes.is_empty() => format!("it exports no class, only {others}"),
        (classes, others) if others.is_empty() => format!("its classes are {classes}"),
        (classes, others) => format!("its classes are {classes}; what else it exports is no class: {others}"),
    }
}

/// What could not be written down at the end. Nothing acknowledged is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// The times at which keys were last used.
    #[error("the times at which keys were last used could not be written")]
    Keys(#[from] KeyError),
    /// The directory of actors: it is brought up to date from their log at the next start.
    #[error("the directory of actors could not be written")]
    Actors(#[from] skep_actor::ActorError),
}

/// Why a worker was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// Its classes have actors, and nobody said what becomes of them.
    #[error("worker {worker} has {count} actors")]
    HasActors {
        /// The worker.
        worker: WorkerName,
        /// How many.
        count: usize,
    },
    /// The store says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its actors could not be counted or deleted. The worker is deleted if it was their turn.
    #[error(transparent)]
    Actors(#[from] ActorsError),
}

/// What becomes of the actors of a deleted worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Orphans {
    /// If there are any, the worker is not deleted.
    #[default]
    Refuse,
    /// They are deleted with all they have.
    Delete,
    /// They stay, for a worker of the same name to come.
    Keep,
}

/// The node about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Since it opened.
    pub uptime: Duration,
    /// Deployed workers.
    pub workers: usize,
    /// Isolates of deployed workers that are alive.
    pub isolates: usize,
    /// Requests in flight, as counted by [`Node::enter`].
    pub in_flight: u64,
    /// Whether it takes no new requests.
    pub draining: bool,
}

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub config: Arc<Config>,
    pub runtime: Arc<dyn Runtime>,
    pub workers: Arc<Workers>,
    pub compiler: Compiler,
    pub metrics: Arc<Metrics>,
    pub executing: Semaphore,
    store: Arc<Store>,
    keys: Arc<Keys>,
    pub secrets: Arc<Secrets>,
    actors: Actors,
    log: Arc<LocalLog>,
    #[cfg(target_os = "linux")]
    sandboxes: Arc<OnceLock<crate::Sandboxes>>,
    /// Deploys of one node take turns from storing to switching, so that what answers is what is stored.
    switching: tokio::sync::Mutex<()>,
    in_flight: AtomicU64,
    draining: AtomicBool,
    opened: Instant,
    // Held for its lock.
    _lock: File,
}

/// Counts a request as in flight until it is dropped.
pub struct InFlight(Arc<Inner>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

fn compiler(config: &Config, (program, args): (PathBuf, Vec<String>)) -> Compiler {
    Compiler::new(CompilerConfig {
        program,
        args,
        children_max: config.code.compile_children_max,
        timeout: COMPILE_TIMEOUT,
        fences_required: config.code.compile_fences_required,
    })
}

impl Node {
    /// Opens a node with isolates. `compile_child` is the command that becomes a compile child.
    ///
    /// # Errors
    /// When the data folder is in use or damaged, or the engine does not start.
    pub fn open(config: Config, compile_child: (PathBuf, Vec<String>)) -> Result<Self, OpenError> {
        let lock = claim(&config.data)?;
        let compiler = compiler(&config, compile_child);
        let runtime = Isolates::open(&config.engine, config.image.as_deref(), &config.data.join("cache"), compiler.clone())?;
        Self::assemble(config, compiler, Arc::new(runtime), lock)
    }

    /// Opens a node with guests of another kind.
    ///
    /// # Errors
    /// When the data folder is in use or damaged.
    pub fn open_with(config: Config, compile_child: (PathBuf, Vec<String>), runtime: Arc<dyn Runtime>) -> Result<Self, OpenError> {
        let lock = claim(&config.data)?;
        let compiler = compiler(&config, compile_child);
        Self::assemble(config, compiler, runtime, lock)
    }

    fn assemble(config: Config, compiler: Compiler, runtime: Arc<dyn Runtime>, lock: File) -> Result<Self, OpenError> {
        let store = Arc::new(Store::open(&config.data)?);
        let keys = Arc::new(Keys::open(&config.data.join("access.sqlite"))?);
        let outbound = match config.egress {
            Egress::None => None,
            policy => Some(Outbound::new(policy)?),
        };
        let secrets = Arc::new(Secrets::open(&config.data.join("secrets.sqlite"))?);
        let dir = config.data.join(&config.actors.dir);
        let log = Arc::new(actors::open_log(&config, &dir)?);
        let config = Arc::new(config);
        let metrics = Arc::new(Metrics::new());
        let way = Arc::new(OnceLock::new());
        #[cfg(target_os = "linux")]
        let sandboxes = Arc::new(OnceLock::new());
        let workers = Workers::open(Parts {
            config: Arc::clone(&config),
            store: Arc::clone(&store),
            runtime: Arc::clone(&runtime),
            compiler: compiler.clone(),
            metrics: Arc::clone(&metrics),
            outbound,
            secrets: Arc::clone(&secrets),
            actors: Arc::clone(&way),
            #[cfg(target_os = "linux")]
            rooms: crate::sandboxes::binding::Rooms::new(Arc::clone(&sandboxes), &config.data),
        })?;
        let actors = actors::Inner::new(Arc::downgrade(&workers), Arc::clone(&runtime));
        // Before the first actor wakes: what it is bound to leads here.
        let _ = way.set(Arc::clone(&actors));
        let durable: Arc<dyn DurableLog> = log.clone();
        actors.open(skep_actor::Config { dir, ..config.actors.clone() }, durable)?;
        let inner = Inner {
            executing: Semaphore::new(config.pool.executes_max),
            config,
            runtime,
            workers,
            compiler,
            metrics,
            store,
            keys,
            secrets,
            actors: Actors(actors),
            log,
            #[cfg(target_os = "linux")]
            sandboxes,
            switching: tokio::sync::Mutex::default(),
            in_flight: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            opened: Instant::now(),
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The settings it was opened with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The API keys.
    #[must_use]
    pub fn keys(&self) -> &Arc<Keys> {
        &self.inner.keys
    }

    /// The secrets.
    #[must_use]
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.inner.secrets
    }

    /// The actors.
    #[must_use]
    pub fn actors(&self) -> &Actors {
        &self.inner.actors
    }

    /// Opens the sandboxes of this node; until then, and where it fails, there are none. `program` is the binary whose `main` begins with
    /// `skep_sandbox::child`, usually `/proc/self/exe`.
    ///
    /// # Errors
    /// When the configuration turns them off, the host lacks a fence that they demand, or their folder cannot be used.
    #[cfg(target_os = "linux")]
    pub async fn open_sandboxes(&self, program: PathBuf) -> Result<crate::Opened, crate::SandboxesError> {
        let config = &self.inner.config;
        let (sandboxes, opened) = crate::Sandboxes::open(config.sandboxes.clone(), config.data.clone(), program, config.egress).await?;
        self.inner.sandboxes.set(sandboxes).map_err(|_| crate::SandboxesError::Twice)?;
        Ok(opened)
    }

    /// Says below which domain, port included, ports of sandboxes answer: `exposePort` of workers tells it.
    #[cfg(target_os = "linux")]
    pub fn sandboxes_answer_below(&self, domain: &str) {
        self.inner.workers.rooms().answer_below(domain);
    }

    /// The sandboxes, where they are open.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn sandboxes(&self) -> Option<&crate::Sandboxes> {
        self.inner.sandboxes.get()
    }

    /// Hash of the image that isolates start from.
    #[must_use]
    pub fn image(&self) -> String {
        self.inner.runtime.image()
    }

    /// Makes the first admin key if there is none that works, and leaves it in the data folder, readable by its owner only. Returns the
    /// file if it was made now.
    ///
    /// # Errors
    /// When the key cannot be made or written.
    pub fn ensure_admin_key(&self) -> Result<Option<PathBuf>, OpenError> {
        let now = crate::now_ms();
        if self.inner.keys.has_admin(now)? {
            return Ok(None);
        }
        let new = NewKey { label: "first key, made by skep up".to_owned(), scopes: [Scope::Admin].into_iter().collect(), expires_at: None };
        let (_, token) = self.inner.keys.create(&new, now)?;
        let path = self.inner.config.data.join(ADMIN_KEY_FILE);
        write_secret(&path, &token.reveal()).map_err(|error| OpenError::Data(path.clone(), error))?;
        Ok(Some(path))
    }

    /// Deploys code under a name. When it returns, the new version answers; if it fails, nothing has changed.
    ///
    /// # Errors
    /// When the code is refused, does not start, or cannot be stored.
    pub async fn deploy(
        &self,
        name: &WorkerName,
        draft: Draft,
        by: String,
        message: Option<String>,
    ) -> Result<(VersionRow, bool), DeployError> {
        draft.check_secrets(&self.inner.secrets)?;
        let code = draft.compile(&self.inner.compiler, &self.inner.config.code, &self.inner.config.limits).await?;
        let rehearsed = self.inner.workers.rehearse(name, &code).await?;
        let deployment = Deployment { by, message, at: crate::now_ms(), keep: self.inner.config.code.versions_max };
        let inner = Arc::clone(&self.inner);
        let name = name.clone();
        // A task of its own: the client may leave, and then a stored version must still be switched to.
        let done = tokio::spawn(async move {
            let _turn = inner.switching.lock().await;
            let (store, to) = (Arc::clone(&inner.store), name);
            let stored = tokio::task::spawn_blocking(move || store.deploy(&to, &code, &deployment)).await;
            let (row, new) = stored.map_err(|_| StoreError::Damaged("the store".to_owned(), "a deploy panicked"))??;
            if new {
                inner.metrics.deploys.fetch_add(1, Relaxed);
                inner.workers.switch(row.clone(), Some(rehearsed));
                inner.actors.deployed(&row.worker);
            }
            Ok::<_, DeployError>((row, new))
        });
        done.await.unwrap_or_else(|_| Err(StoreError::Damaged("the store".to_owned(), "a deploy panicked").into()))
    }

    /// Returns to an earlier version.
    ///
    /// # Errors
    /// When there is no such worker or version.
    pub async fn rollback(&self, name: &WorkerName, to: Option<VersionId>) -> Result<VersionRow, StoreError> {
        let _turn = self.inner.switching.lock().await;
        let (store, name) = (Arc::clone(&self.inner.store), name.clone());
        let done = tokio::task::spawn_blocking(move || store.rollback(&name, to, crate::now_ms())).await;
        let row = done.unwrap_or_else(|_| Err(StoreError::Damaged("the store".to_owned(), "a rollback panicked")))?;
        self.inner.workers.switch(row.clone(), None);
        self.inner.actors.deployed(&row.worker);
        Ok(row)
    }

    /// Deletes a worker. The actors of its classes do not go by accident.
    ///
    /// # Errors
    /// When there is no such worker, or it has actors and nobody said what becomes of them.
    pub async fn delete(&self, name: &WorkerName, orphans: Orphans) -> Result<(), DeleteError> {
        let _turn = self.inner.switching.lock().await;
        if orphans == Orphans::Refuse && self.has(name) {
            let count = self.inner.actors.count(name).await?;
            if count > 0 {
                return Err(DeleteError::HasActors { worker: name.clone(), count });
            }
        }
        let (store, gone) = (Arc::clone(&self.inner.store), name.clone());
        let done = tokio::task::spawn_blocking(move || store.delete(&gone)).await;
        done.unwrap_or_else(|_| Err(StoreError::Damaged("the store".to_owned(), "a delete panicked")))?;
        self.inner.workers.remove(name);
        // Their code is gone from here on: none of them is made anew in the meantime.
        self.inner.actors.deployed(name);
        if orphans == Orphans::Delete {
            self.inner.actors.delete_all(name).await?;
        }
        Ok(())
    }

    /// All workers: the version of each that answers.
    ///
    /// # Errors
    /// When the database fails.
    pub fn workers(&self) -> Result<Vec<VersionRow>, StoreError> {
        self.inner.store.active()
    }

    /// A worker's versions, newest first.
    ///
    /// # Errors
    /// When there is no such worker.
    pub fn versions(&self, name: &WorkerName) -> Result<Vec<VersionRow>, StoreError> {
        self.inner.store.versions(name)
    }

    /// Whether a worker of that name is deployed.
    #[must_use]
    pub fn has(&self, name: &WorkerName) -> bool {
        self.inner.workers.has(name)
    }

    /// A new request id.
    #[must_use]
    pub fn next_id(&self) -> RequestId {
        self.inner.metrics.ids.next()
    }

    /// Sends a request to a worker. Dropping the future, or the response's body, cancels it.
    ///
    /// # Errors
    /// When there is no such worker, no room, or the worker failed.
    pub async fn fetch(&self, name: &WorkerName, id: RequestId, request: Request) -> Result<Response, DispatchError> {
        self.inner.workers.fetch(name, id, Entrypoint::default(), request).await
    }

    /// A worker's events from now on.
    #[must_use]
    pub fn tail(&self, name: &WorkerName) -> Option<broadcast::Receiver<Arc<Event>>> {
        self.has(name).then(|| self.inner.workers.tails.of(name).listen())
    }

    /// Counts a request in. `None` while draining.
    #[must_use]
    pub fn enter(&self) -> Option<InFlight> {
        self.inner.in_flight.fetch_add(1, Relaxed);
        let entered = InFlight(Arc::clone(&self.inner));
        (!self.inner.draining.load(Relaxed)).then_some(entered)
    }

    /// Takes no new requests from now on.
    pub fn drain(&self) {
        self.inner.draining.store(true, Relaxed);
    }

    /// The node about itself.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            uptime: self.inner.opened.elapsed(),
            workers: self.inner.workers.count(),
            isolates: self.inner.workers.alive(),
            in_flight: self.inner.in_flight.load(Relaxed),
            draining: self.inner.draining.load(Relaxed),
        }
    }

    /// Counters and gauges in the Prometheus text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let status = self.status();
        let (actors, sockets) = self.inner.actors.numbers();
        let (used, reserved) = self.inner.log.bytes();
        let sync = self.inner.log.probe().map_or(0, |probe| probe.sync.as_micros() as u64);
        let commits = self.inner.log.commits();
        let syncs = Histogram {
            name: "skep_actor_log_sync_seconds",
            help: "How long the sync of each group commit of the log of actors took.",
            bounds: SYNC_BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).collect(),
            buckets: commits.buckets.to_vec(),
            count: commits.count,
            sum: commits.sync_us as f64 / 1e6,
        };
        let due = actors.due;
        let gauges = [
            ("skep_workers", "Deployed workers.", status.workers as f64),
            ("skep_isolates", "Isolates of deployed workers that are alive.", status.isolates as f64),
            ("skep_isolate_slots_free", "Isolates that could still be started.", self.inner.runtime.free() as f64),
            ("skep_requests_in_flight", "Requests being served.", status.in_flight as f64),
            ("skep_uptime_seconds", "Since the node opened.", status.uptime.as_secs() as f64),
            ("skep_actors_awake", "Actors in memory.", actors.awake as f64),
            ("skep_actor_sockets", "WebSockets kept for actors, awake or asleep.", sockets as f64),
            ("skep_actor_alarms_due", "Actors whose alarm or timer is due and that are not being woken for it yet.", due.waiting as f64),
            (
                "skep_actor_alarms_firing",
                "Actors that are being woken for an alarm or timer, or whose alarm handler runs.",
                due.firing as f64,
            ),
            ("skep_actor_alarm_late_seconds", "For how long the first of those that are due has been due.", due.late_ms as f64 / 1e3),
            ("skep_actor_log_queued_bytes", "Bytes waiting to be written to the log of actors.", self.inner.log.queued_bytes() as f64),
            ("skep_actor_log_used_bytes", "Bytes of the files of the log of actors that hold records.", used as f64),
            ("skep_actor_log_reserved_bytes", "Bytes of the files of the log of actors.", reserved as f64),
            (
                "skep_actor_log_sync_microseconds",
                "The median time of a sync on the disk of the log, measured when the node opened.",
                sync as f64,
            ),
        ];
        let counters = [
            ("skep_actor_wakes_total", "Actors woken with their heap.", actors.woken),
            ("skep_actor_constructions_total", "Actors begun by their constructor.", actors.constructed),
            ("skep_actor_failed_starts_total", "Actors that did not start.", actors.not_started),
            ("skep_actor_sleeps_total", "Actors put to sleep with their heap.", actors.slept),
            ("skep_actor_ends_total", "Actors that ended otherwise.", actors.ended),
            ("skep_actor_evictions_total", "Actors put to sleep for lack of room.", actors.pressed_out),
            ("skep_actor_checkpoints_total", "Checkpoints written.", actors.checkpoints),
            ("skep_actor_checkpoint_bytes_total", "Bytes of their heaps.", actors.checkpoint_bytes),
            ("skep_actor_alarms_total", "Alarms whose handler came back.", actors.alarms_fired),
            ("skep_actor_alarm_failures_total", "Attempts at an alarm that failed.", actors.alarms_failed),
            ("skep_actor_alarms_lost_total", "Alarms given up after all retries.", actors.alarms_given_up),
            ("skep_actor_refusals_total", "Messages refused because too many waited.", actors.refused),
            ("skep_actor_folds_total", "Actors whose records were brought to their files.", actors.folded),
            ("skep_actor_log_records_total", "Records that the log of actors made durable.", commits.records),
        ];
        self.inner.metrics.render(&[syncs], &gauges, &counters)
    }

    /// Puts actors to sleep, which takes a bounded time, and writes down what is only in memory. Called at the end.
    ///
    /// # Errors
    /// When the files fail. What was acknowledged is safe all the same.
    pub async fn close(&self) -> Result<(), CloseError> {
        let actors = self.inner.actors.close().await;
        self.inner.keys.flush()?;
        Ok(actors?)
    }
}

/// Makes the data folder, the owner's alone, and takes its lock. The lock goes with the process, however that ends.
pub(crate) fn claim(data: &Path) -> Result<File, OpenError> {
    let failed = |error| OpenError::Data(data.to_path_buf(), error);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(failed)?;
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(data.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(data.to_path_buf())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// A new file that only its owner can read, from its first instant; an old one is replaced, not written into.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension("new");
    let _ = fs::remove_file(&aside);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&aside)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(aside, path)
}
