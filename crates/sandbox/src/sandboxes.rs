//! All sandboxes of a node: made, found again after the node was killed, and removed without a trace.
//!
//! Each has a record, and a lock behind which its life goes on one step at a time (`state.rs` says which). It is not: who owns a sandbox, what it
//! is called, or what it may reach; that is the node's and the gateway's.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use skep_id::SandboxId;
use tokio::{sync::watch, task::spawn_blocking};

use crate::{
    cgroup::Cgroups,
    connection::RequestError,
    fence::{Fence, Host},
    history::Book,
    image::{HOST, ImageError, Images, Making, Recipe, Workshop, template},
    quota,
    range::Ranges,
    record::{Process, Record, Store, StoreError},
    sandbox::{Sandbox, StartError},
    snapshot::{
        Origin, SnapshotId, Snapshots,
        chunks::ChunkError,
        random,
        store::{ChunkStore, Folder},
        taking::{self, Shadow},
    },
    spec::{Limits, Place, Rootfs, Spec, boot_id},
    state::{Effect, Input, Policy, State, Stop, step},
    zygote::{Zygote, ZygoteError},
};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);

/// How often what is kept on the disk is counted, where the file system does not; the more there is to count, the more seldom.
const COUNT: Duration = Duration::from_secs(2);
const COUNT_SHARE: u32 = 20;

/// How long an init has to answer a node that found it again.
const ANSWER: Duration = Duration::from_secs(5);

/// Where sandboxes are, and what they begin in.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of this node's sandboxes; nobody else's.
    pub folder: PathBuf,
    /// The program whose `main` begins with [`crate::child`]: usually `/proc/self/exe`.
    pub program: PathBuf,
}

/// What was found when a folder was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Sandboxes that run, or stand still, as they did.
    pub adopted: usize,
    /// Sandboxes whose processes are gone; what they changed is there.
    pub stopped: usize,
    /// Groups, folders and layers of images that belonged to none, and were removed.
    pub leaks: usize,
}

/// Why a folder of sandboxes does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The zygote.
    #[error(transparent)]
    Zygote(#[from] ZygoteError),
    /// Something that an earlier node left cannot be removed, or cgroups cannot be read.
    #[error("what an earlier node left: {0}")]
    Left(#[from] io::Error),
}

/// Why a step of a sandbox's life was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// Not in this state.
    #[error("the sandbox cannot do that while it is {0:?}")]
    Refused(State),
    /// It does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its processes, groups, folder or record.
    #[error("the sandbox's files or processes: {0}")]
    Here(#[from] io::Error),
    /// There are as many sandboxes as there are ranges of ids.
    #[error("all ranges of ids are taken")]
    Ranges,
    /// There is no such snapshot.
    #[error("there is no snapshot {0}")]
    NoSnapshot(SnapshotId),
    /// The chunk store.
    #[error(transparent)]
    Chunks(#[from] ChunkError),
    /// It is no fork, or what it was forked from is gone.
    #[error("the sandbox is no fork of one that is still there")]
    NoFork,
    /// The sandbox itself said no.
    #[error(transparent)]
    Within(#[from] RequestError),
}

/// All sandboxes of a node. The last one dropped leaves them running, for the next node to find.
#[derive(Clone)]
pub struct Sandboxes {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    store: Store,
    images: Images,
    pub(crate) snapshots: Snapshots,
    pub(crate) chunks: Arc<dyn ChunkStore>,
    zygote: Zygote,
    cgroups: Cgroups,
    host: Host,
    /// This boot of the host.
    pub(crate) boot: String,
    ranges: Mutex<Ranges>,
    pub(crate) boxes: Mutex<HashMap<SandboxId, Boxed>>,
}

/// One sandbox of a node, in whatever state.
#[derive(Clone)]
pub struct Boxed {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    id: SandboxId,
    shared: Weak<Shared>,
    pub(crate) life: tokio::sync::Mutex<Life>,
    state: watch::Sender<State>,
    /// What it began with, and where it is, for all its life.
    pub(crate) place: Place,
    /// What it may keep on the disk.
    limits: Limits,
    /// The numbers of its commands.
    pub(crate) book: Arc<tokio::sync::Mutex<Book>>,
    /// Whether the layers that it began with may not be on the disk yet.
    pub(crate) unsynced: watch::Sender<bool>,
    /// Whether it kept more than it may when that was counted last.
    full: AtomicBool,
    /// When what it keeps is counted next. `None`: it is being counted.
    count: Mutex<Option<Instant>>,
    /// What its last snapshot left for the next.
    pub(crate) shadow: Arc<tokio::sync::Mutex<Option<Shadow>>>,
}

pub(crate) struct Life {
    pub(crate) record: Record,
    pub(crate) sandbox: Option<Sandbox>,
}

impl Sandboxes {
    /// Finds what an earlier node left: what still runs goes on, what does not is stopped, what belongs to nobody is removed.
    pub async fn open(config: Config) -> Result<(Self, Opened), OpenError> {
        Self::find(config, None).await
    }

    /// The same, with chunks kept somewhere else than in the folder.
    pub async fn open_with(config: Config, chunks: Arc<dyn ChunkStore>) -> Result<(Self, Opened), OpenError> {
        Self::find(config, Some(chunks)).await
    }

    async fn find(config: Config, chunks: Option<Arc<dyn ChunkStore>>) -> Result<(Self, Opened), OpenError> {
        // Who puts sandboxes together stands at the root of the file system.
        let config = Config { folder: std::path::absolute(&config.folder)?, ..config };
        let folder = config.folder.clone();
        let store = spawn_blocking(move || Store::open(&folder)).await.map_err(io::Error::other)??;
        let snapshots = Snapshots::open(&config.folder)?;
        let chunks = match chunks {
            Some(chunks) => chunks,
            None => Arc::new(Folder::open(&config.folder.join("chunk"))?),
        };
        let zygote = Zygote::start(&config.program)?;
        let cgroups = Cgroups::probe()?.on(&config.folder);
        let host = zygote.probe(&config.folder, &cgroups).await?;
        let images = Images::open(&config.folder)?;
        let (records, unfinished) = store.read()?;
        let (ranges, boxes) = Default::default();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let shared = Arc::new(Shared { store, images, snapshots, chunks, zygote, cgroups, host, boot, ranges, boxes });
        let mut opened = Opened { leaks: unfinished, ..Opened::default() };
        let groups: BTreeSet<String> = records.iter().map(|record| record.place.group.clone()).collect();
        for record in records {
            shared.find_again(record, &mut opened).await?;
        }
        shared.sync_layers().await?;
        let (images, held) = (shared.images.clone(), shared.held());
        opened.leaks += spawn_blocking(move || images.sweep(&held)).await.map_err(io::Error::other)??;
        for leaked in shared.cgroups.names(&shared.store.prefix()).difference(&groups) {
            let group = shared.cgroups.named(leaked);
            spawn_blocking(move || group.end()).await.map_err(io::Error::other)??;
            opened.leaks += 1;
        }
        opened.leaks += shared.collect_layers().await?;
        tokio::spawn(tick(Arc::downgrade(&shared)));
        Ok((Self { shared }, opened))
    }

    /// The fences of this host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.shared.host
    }

    /// The host's own programs below a root of ours.
    pub fn host_image(&self) -> io::Result<Rootfs> {
        match self.shared.images.rootfs(HOST) {
            Err(ImageError::Here(error)) => Err(error),
            other => other.map_err(io::Error::other),
        }
    }

    /// What sandboxes begin with.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.shared.images
    }

    /// Makes an image by steps, in sandboxes that `workshop` opens.
    #[must_use]
    pub fn build(&self, name: &str, recipe: Recipe, workshop: Workshop) -> Making {
        let images = self.shared.images.clone();
        self.shared.images.begin(name, template::key(&recipe), move |making, name| async move {
            template::build(&images, recipe, &workshop, &making, &name).await
        })
    }

    /// Removes an image, and its layers that nothing else has: no image, snapshot or sandbox, in whatever state. `false`: there is none.
    pub async fn remove_image(&self, name: &str) -> Result<bool, ImageError> {
        // Forks that are being made hold layers that nobody else may name by now.
        let _made = self.shared.snapshots.making.write().await;
        self.shared.images.remove(name, || self.shared.held()).await
    }

    /// Makes and starts a sandbox. One that does not start leaves nothing.
    pub async fn create(&self, spec: Spec, rootfs: Rootfs, policy: Policy) -> Result<Boxed, LifeError> {
        self.shared.make(spec, rootfs, policy, None, true, None).await
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: &SandboxId) -> Option<Boxed> {
        lock(&self.shared.boxes).get(id).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> Vec<Boxed> {
        lock(&self.shared.boxes).values().cloned().collect()
    }
}

impl Shared {
    /// Layers of all sandboxes, in whatever state, and of all snapshots.
    fn held(&self) -> BTreeSet<PathBuf> {
        let mut held = BTreeSet::new();
        let mut hold = |rootfs: &Rootfs| held.extend(rootfs.folders().map(Path::to_owned));
        lock(&self.boxes).values().for_each(|boxed| hold(&boxed.inner.place.rootfs));
        self.snapshots.known().values().for_each(|snapshot| hold(&snapshot.rootfs));
        held
    }

    /// `unsynced`: the boot of the host in which the layers were made, where they are not on the disk yet; whoever asks sees to it
    /// ([`Boxed::is_synced`]).
    pub(crate) async fn make(
        self: &Arc<Self>,
        spec: Spec,
        rootfs: Rootfs,
        policy: Policy,
        origin: Option<Origin>,
        start: bool,
        unsynced: Option<String>,
    ) -> Result<Boxed, LifeError> {
        let _layers_stay = self.images.using().await;
        let range = lock(&self.ranges).take().ok_or(LifeError::Ranges)?;
        let group = format!("{}{}", self.store.prefix(), spec.id);
        let place = Place { rootfs, folder: self.store.folder_of(&spec.id), group, range };
        let state = if start { State::Starting } else { State::Stopped { why: Stop::Asked } };
        let record = Record { version: 1, spec, place, policy, state, process: None, origin, unsynced };
        let boxed = Boxed::of(self, record, None);
        let started = {
            let mut life = boxed.inner.life.lock().await;
            match boxed.begin(&life.record).await {
                Ok(()) => {
                    let launch = async { if start { boxed.launch(self, &mut life).await } else { Ok(()) } };
                    let (launched, kept) = tokio::join!(launch, boxed.keep());
                    launched.and(kept.map_err(LifeError::from))
                }
                Err(error) => Err(error.into()),
            }
        };
        match started {
            Ok(()) => {
                lock(&self.boxes).insert(boxed.inner.id.clone(), boxed.clone());
                Ok(boxed)
            }
            Err(error) => {
                // Why it failed is what counts; what cannot be removed now is found when the node starts next.
                let _ = boxed.happen(Input::Remove).await;
                Err(error)
            }
        }
    }

    async fn find_again(self: &Arc<Self>, mut record: Record, opened: &mut Opened) -> Result<(), OpenError> {
        lock(&self.ranges).claim(record.place.range);
        let alive = match record.state {
            State::Running { .. } | State::Paused => self.adopt(&record).await,
            State::Starting | State::Stopped { .. } | State::Removing => None,
        };
        if alive.is_some() {
            opened.adopted += 1;
        } else {
            let group = self.cgroups.named(&record.place.group);
            spawn_blocking(move || group.end()).await.map_err(io::Error::other)??;
            record.process = None;
            if !matches!(record.state, State::Stopped { .. } | State::Removing) {
                record.state = State::Stopped { why: Stop::NodeDied };
            }
            opened.stopped += 1;
        }
        if record.unsynced.as_ref().is_some_and(|boot| *boot != self.boot) && record.state != State::Removing {
            record.state = State::Stopped { why: Stop::Torn };
        }
        let removing = record.state == State::Removing;
        let boxed = Boxed::of(self, record, alive);
        if removing {
            opened.stopped -= 1;
            opened.leaks += 1;
            let mut life = boxed.inner.life.lock().await;
            // Its layers stay until all are found: those of sandboxes that are not known yet would be taken for nobody's.
            return Ok(boxed.clear(self, &mut life).await?);
        }
        boxed.write(&boxed.inner.life.lock().await.record).await?;
        lock(&self.boxes).insert(boxed.inner.id.clone(), boxed.clone());
        Ok(())
    }

    /// Forks of an earlier node of this boot, which may not have come to bring them to the disk.
    async fn sync_layers(self: &Arc<Self>) -> io::Result<()> {
        let unsynced = |boxed: &&Boxed| *boxed.inner.unsynced.borrow() && *boxed.inner.state.borrow() != State::Stopped { why: Stop::Torn };
        let boxes: Vec<Boxed> = lock(&self.boxes).values().filter(unsynced).cloned().collect();
        if boxes.is_empty() {
            return Ok(());
        }
        let layers = self.snapshots.layers();
        spawn_blocking(move || taking::bring_to_disk(&layers)).await??;
        for boxed in boxes {
            boxed.is_synced().await?;
        }
        Ok(())
    }

    /// The very process, and its init answers; a frozen one is let go on for that moment.
    async fn adopt(&self, record: &Record) -> Option<Sandbox> {
        let pid = record.process?.still()?;
        let group = self.cgroups.named(&record.place.group);
        let sandbox = Sandbox::meet(pid, &group, &record.place.folder).ok()?;
        let frozen = record.state == State::Paused;
        sandbox.thaw().await.ok()?;
        tokio::time::timeout(ANSWER, sandbox.stat("/", 1_000)).await.ok()?.ok()?;
        if frozen {
            sandbox.freeze().await.ok()?;
        }
        Some(sandbox)
    }
}

impl Boxed {
    fn of(shared: &Arc<Shared>, record: Record, sandbox: Option<Sandbox>) -> Self {
        let (state, _) = watch::channel(record.state.clone());
        let (id, place, limits) = (record.spec.id.clone(), record.place.clone(), record.spec.limits);
        let (unsynced, _) = watch::channel(record.unsynced.is_some());
        let boxed = Self {
            inner: Arc::new(Inner {
                id,
                place,
                limits,
                book: Arc::default(),
                shadow: Arc::default(),
                unsynced,
                full: AtomicBool::new(false),
                count: Mutex::new(Some(Instant::now())),
                shared: Arc::downgrade(shared),
                life: tokio::sync::Mutex::new(Life { record, sandbox: sandbox.clone() }),
                state,
            }),
        };
        if let Some(sandbox) = sandbox {
            boxed.watch(sandbox);
        }
        boxed
    }

    pub(crate) fn shared(&self) -> Result<Arc<Shared>, LifeError> {
        self.inner.shared.upgrade().ok_or(LifeError::Refused(State::Removing))
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &SandboxId {
        &self.inner.id
    }

    /// Where it is in its life, now and as it changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.inner.state.subscribe()
    }

    /// Whether it was found to keep more on the disk than it may ([`crate::Limits::counted`]).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.inner.full.load(Ordering::Relaxed)
    }

    /// What runs, or stands still. `None`: it has no processes.
    pub async fn sandbox(&self) -> Option<Sandbox> {
        self.inner.life.lock().await.sandbox.clone()
    }

    /// Where its files are.
    pub(crate) async fn place(&self) -> Place {
        self.inner.life.lock().await.record.place.clone()
    }

    /// Lets something happen to it, and returns when what follows has been done.
    pub async fn happen(&self, input: Input) -> Result<(), LifeError> {
        let shared = self.shared()?;
        let mut life = self.inner.life.lock().await;
        self.take(&shared, &mut life, input).await
    }

    async fn take(&self, shared: &Arc<Shared>, life: &mut Life, input: Input) -> Result<(), LifeError> {
        let before = life.record.state.clone();
        let (next, effects) = step(&before, &life.record.policy, input, now_ms());
        if effects.contains(&Effect::Refuse) {
            return Err(LifeError::Refused(before));
        }
        if effects.contains(&Effect::Launch) {
            life.record.spec.boot = boot_id(random()?);
        }
        life.record.state = next;
        for effect in effects {
            if let Err(error) = self.carry_out(shared, life, input, effect).await {
                // What is being removed stays so: it is tried again.
                if life.record.state != State::Removing && effect != Effect::Launch {
                    life.record.state = before;
                }
                return Err(error);
            }
        }
        self.inner.state.send_replace(life.record.state.clone());
        Ok(())
    }

    async fn carry_out(&self, shared: &Arc<Shared>, life: &mut Life, input: Input, effect: Effect) -> Result<(), LifeError> {
        match (effect, life.sandbox.clone()) {
            (Effect::Record, _) if input == Input::Started => Ok(self.amend(&life.record).await?),
            (Effect::Record, _) => Ok(self.write(&life.record).await?),
            (Effect::Launch, _) => Box::pin(self.launch(shared, life)).await,
            (Effect::Freeze, Some(sandbox)) => Ok(sandbox.freeze().await?),
            (Effect::Thaw, Some(sandbox)) => Ok(sandbox.thaw().await?),
            (Effect::ShutDown, Some(sandbox)) => {
                // One that does not listen is killed all the same.
                let _ = tokio::time::timeout(ANSWER, sandbox.shut_down()).await;
                self.end(life, &sandbox).await
            }
            (Effect::Kill, Some(sandbox)) => self.end(life, &sandbox).await,
            (Effect::Clear, _) => {
                self.clear(shared, life).await?;
                self.let_go_of_layers(shared);
                Ok(())
            }
            (Effect::Freeze | Effect::Thaw | Effect::ShutDown | Effect::Kill | Effect::Refuse, _) => Ok(()),
        }
    }

    async fn end(&self, life: &mut Life, sandbox: &Sandbox) -> Result<(), LifeError> {
        sandbox.kill().await?;
        (life.sandbox, life.record.process) = (None, None);
        Ok(())
    }

    async fn launch(&self, shared: &Arc<Shared>, life: &mut Life) -> Result<(), LifeError> {
        let started = Sandbox::start(&shared.zygote, &shared.host, &shared.cgroups, &life.record.spec, &life.record.place).await;
        let failed = match started {
            Ok(sandbox) => {
                life.record.process = Process::of(sandbox.pid());
                life.sandbox = Some(sandbox.clone());
                self.watch(sandbox);
                None
            }
            Err(error) => Some(error),
        };
        let input = if failed.is_some() { Input::NotStarted } else { Input::Started };
        Box::pin(self.take(shared, life, input)).await?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Looks, in a task of its own, whether it keeps more than it may: if that is to be counted, it runs, and it is time.
    fn count(&self) {
        let mut next = lock(&self.inner.count);
        let runs = matches!(*self.inner.state.borrow(), State::Running { .. });
        if !runs || !self.inner.limits.counted || next.is_none_or(|next| next > Instant::now()) {
            return;
        }
        *next = None;
        let this = self.clone();
        tokio::spawn(async move {
            let (folder, limits) = (this.inner.place.folder.join("fs"), this.inner.limits);
            let began = Instant::now();
            let over = spawn_blocking(move || quota::is_over(&folder, &limits)).await;
            if let (Ok(over), Some(sandbox)) = (over, this.sandbox().await) {
                this.inner.full.store(over, Ordering::Relaxed);
                sandbox.set_full(over);
            }
            *lock(&this.inner.count) = Some(Instant::now() + COUNT.max(began.elapsed() * COUNT_SHARE));
        });
    }

    /// The layers that it began with are on the disk: written down, if it is still there.
    pub(crate) async fn is_synced(&self) -> io::Result<()> {
        let mut life = self.inner.life.lock().await;
        if life.record.unsynced.is_none() || life.record.state == State::Removing {
            return Ok(());
        }
        let record = Record { unsynced: None, ..life.record.clone() };
        self.write(&record).await?;
        life.record = record;
        self.inner.unsynced.send_replace(false);
        Ok(())
    }

    /// Notices when its init ends by itself.
    fn watch(&self, sandbox: Sandbox) {
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            let _ = sandbox.ended().await;
            let Some(inner) = inner.upgrade() else { return };
            let boxed = Self { inner };
            let Some(shared) = boxed.inner.shared.upgrade() else { return };
            let mut life = boxed.inner.life.lock().await;
            // It may have been ended on purpose, and started again, meanwhile.
            if life.sandbox.as_ref().is_some_and(|current| current.pid() == sandbox.pid()) {
                // The record is found to be wrong at the next start, at the latest.
                let _ = boxed.take(&shared, &mut life, Input::InitEnded).await;
            }
        });
    }

    async fn write(&self, record: &Record) -> io::Result<()> {
        let (shared, record) = (self.inner.shared.upgrade().ok_or(io::ErrorKind::NotConnected)?, record.clone());
        spawn_blocking(move || shared.store.write(&record)).await?
    }

    /// The first record.
    async fn begin(&self, record: &Record) -> io::Result<()> {
        let (shared, record) = (self.inner.shared.upgrade().ok_or(io::ErrorKind::NotConnected)?, record.clone());
        spawn_blocking(move || shared.store.begin(&record)).await?
    }

    async fn keep(&self) -> io::Result<()> {
        let (shared, id) = (self.inner.shared.upgrade().ok_or(io::ErrorKind::NotConnected)?, self.inner.id.clone());
        spawn_blocking(move || shared.store.keep(&id)).await?
    }

    /// That it runs, or could not be started: after a loss of power both are the same.
    async fn amend(&self, record: &Record) -> io::Result<()> {
        let (shared, record) = (self.inner.shared.upgrade().ok_or(io::ErrorKind::NotConnected)?, record.clone());
        spawn_blocking(move || shared.store.amend(&record)).await?
    }

    async fn clear(&self, shared: &Arc<Shared>, life: &mut Life) -> io::Result<()> {
        let (store, id, group) = (Arc::clone(shared), self.inner.id.clone(), life.record.place.group.clone());
        spawn_blocking(move || {
            store.cgroups.named(&group).end()?;
            store.store.remove(&id)
        })
        .await??;
        lock(&shared.ranges).give_back(life.record.place.range);
        lock(&shared.boxes).remove(&self.inner.id);
        Ok(())
    }

    /// Layers that it was the last to name go when nobody waits; those which are missed now are found when the node starts next.
    fn let_go_of_layers(&self, shared: &Arc<Shared>) {
        // Where it cannot be looked at, there is one.
        let shadow = self.inner.shadow.try_lock().map_or(true, |shadow| shadow.is_some());
        if shadow || self.inner.place.rootfs.folders().count() > 1 {
            let shared = Arc::clone(shared);
            tokio::spawn(async move { drop(shared.collect_layers().await) });
        }
    }
}

async fn tick(shared: Weak<Shared>) {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        every.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let boxes: Vec<Boxed> = lock(&shared.boxes).values().cloned().collect();
        let counts = !shared.host.has(Fence::DiskQuota);
        drop(shared);
        for boxed in boxes {
            if counts {
                boxed.count();
            }
            let due = matches!(&*boxed.inner.state.borrow(), State::Running { deadline_ms: Some(deadline) } if *deadline <= now_ms());
            if due {
                // One that cannot be paused now is tried again at the next tick.
                tokio::spawn(async move { drop(boxed.happen(Input::Tick).await) });
            }
        }
    }
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
