//! The actors of one node: who is awake, who is woken next, what is written down, what is thrown away.
//!
//! [`Actors`] is the handle; `node` turns requests into [`Actors::activate`] and what operators ask for into the rest. An actor's life is the state
//! machine in `machine.rs`, driven by `cell.rs` and `waking.rs`; alarms are `schedule.rs` and `firing.rs`; what goes on by itself is `sweep.rs`;
//! what concerns the past of an actor is `past.rs`. It is not: the output gate (the guest's and its storage's), a log, SQL.

mod cell;
mod clock;
mod config;
mod facet;
mod files;
mod firing;
mod folding;
mod machine;
mod metrics;
mod past;
mod schedule;
mod show;
mod sweep;
mod waking;

use std::{collections::HashMap, fmt, future::Future, io, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use skep_id::ActorId;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
};

use self::{
    cell::{Asked, Cell},
    files::{Files, Opened},
    firing::Attempted,
    machine::{Event, Generation},
    metrics::{Counters, count},
    schedule::Schedule,
};
use crate::{
    Directory, DirectoryError, Epoch, Guest, GuestError, Guests, NotStarted, Seq,
    database::{SqlError, VfsUnavailable},
    directory::{Change, Told, What},
    log::{AppendError, DurableLog, LogError, is_full},
    pages::PagesError,
    storage::StorageError,
};

pub use clock::{Clock, SystemClock};
pub use config::{AlarmConfig, Config, DatabaseConfig};
pub use facet::facet_id;
pub use metrics::{Due, Metrics};
pub use past::{As, Export, ForkOptions};
pub use show::{Doctor, Shown, Standing};

/// What is known of an actor by who sends it a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `<worker>/<class>`; a facet's is that of its root.
    pub namespace: Arc<str>,
    /// The name its id was made from, where known; of a facet its name within its parent.
    pub name: Option<Arc<str>>,
    /// Whose facet it is.
    pub parent: Option<ActorId>,
}

/// Why an actor cannot be reached, or something cannot be done with it.
#[derive(Debug, thiserror::Error)]
pub enum ActorError {
    /// Too many messages wait for it.
    #[error("too many messages wait for this actor")]
    Crowded,
    /// It did not become free, or there was no room for it, within the time that a message waits.
    #[error("the actor did not become free in time")]
    Slow,
    /// It does not start.
    #[error("the actor does not start: {0}")]
    Start(NotStarted),
    /// Its namespace has no code.
    #[error("there is no code for {0}")]
    NoCode(String),
    /// There is no such actor.
    #[error("there is no actor {0}")]
    Unknown(ActorId),
    /// It has as many facets as it may.
    #[error("an actor may have {0} facets")]
    Facets(u32),
    /// There is nothing at the place asked for.
    #[error("{0}")]
    Nowhere(String),
    /// Its guest says no.
    #[error(transparent)]
    Guest(GuestError),
    /// Its log takes nothing, or somebody else owns it.
    #[error(transparent)]
    Log(AppendError),
    /// Its files cannot be read or written.
    #[error(transparent)]
    Pages(#[from] PagesError),
    /// Its storage says no.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The directory cannot be read or written.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The node goes down.
    #[error("the actors of this node are closed")]
    Closed,
}

impl ActorError {
    /// Whether it is for want of room on the disk: nothing of it was done, and it can be done again when there is some.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Log(error) => matches!(error, AppendError::Full(_)),
            Self::Pages(PagesError::File(_, error) | PagesError::Log(LogError::File(_, error))) => is_full(error),
            Self::Directory(error) => error.is_full(),
            _ => false,
        }
    }

    /// Whether the directory holds what was never written there: [`Directory::heal`] makes it anew.
    #[must_use]
    pub fn is_of_damaged_directory(&self) -> bool {
        matches!(self, Self::Directory(error) if error.is_damaged())
    }
}

impl From<SqlError> for ActorError {
    fn from(error: SqlError) -> Self {
        Self::Storage(error.into())
    }
}

/// Why the actors of a node cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made.
    #[error("{}: {}", .0.display(), .1)]
    Folder(PathBuf, #[source] io::Error),
    /// The directory cannot be opened.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Bases and histories cannot be opened.
    #[error(transparent)]
    Pages(#[from] PagesError),
    /// SQLite cannot be set up.
    #[error(transparent)]
    Sqlite(#[from] VfsUnavailable),
}

impl OpenError {
    /// Whether the directory holds what was never written there: [`Directory::heal`] makes it anew.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Directory(error) if error.is_damaged())
    }
}

/// The actors of a node. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Actors(Arc<Node>);

/// A hold on an awake actor: as long as it lives, the guest is not put to sleep. The guest may still end by itself.
pub struct Active {
    node: Arc<Node>,
    cell: Arc<Cell>,
    generation: Generation,
    guest: Arc<dyn Guest>,
    epoch: Epoch,
}

impl Active {
    /// The guest.
    #[must_use]
    pub fn guest(&self) -> &Arc<dyn Guest> {
        &self.guest
    }

    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.cell.id
    }

    /// What is known of the guest, until it has ended.
    fn live(&self) -> Option<cell::Live> {
        self.cell.live().filter(|live| live.generation == self.generation)
    }

    /// In which term of ownership it lives.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl fmt::Debug for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Active").field("id", &self.cell.id).field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.cell.life.lock().since = tokio::time::Instant::now();
        self.node.tell(&self.cell, Event::Released(self.generation));
    }
}

/// Everything behind the handle.
pub(crate) struct Node {
    config: Config,
    clock: Arc<dyn Clock>,
    log: Arc<dyn DurableLog>,
    guests: Arc<dyn Guests>,
    files: Arc<Files>,
    directory: Arc<Directory>,
    /// Actors that are not asleep.
    cells: Mutex<HashMap<ActorId, Arc<Cell>>>,
    /// Room for guests.
    rooms: Arc<Semaphore>,
    /// Told when a guest has left.
    room: Notify,
    /// Told when somebody waits for room.
    pressed: Notify,
    schedule: Mutex<Schedule>,
    /// Told when the schedule should be looked at.
    bell: Notify,
    /// Alarms that failed and are tried again.
    attempts: Mutex<Attempted>,
    ringers: Arc<Semaphore>,
    counters: Counters,
    closed: watch::Sender<bool>,
    runtime: Handle,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("config", &self.config).field("awake", &self.counters.awake).finish_non_exhaustive()
    }
}

impl Actors {
    /// Opens the actors of a folder. What goes on by itself runs on the runtime that this is called in.
    ///
    /// # Errors
    /// When the folder or what is in it cannot be opened.
    pub fn open(config: Config, log: Arc<dyn DurableLog>, guests: Arc<dyn Guests>) -> Result<Self, OpenError> {
        Self::open_at(config, log, guests, Arc::new(SystemClock))
    }

    /// As [`Actors::open`], under a clock of the caller's.
    ///
    /// # Errors
    /// When the folder or what is in it cannot be opened.
    pub fn open_at(config: Config, log: Arc<dyn DurableLog>, guests: Arc<dyn Guests>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        std::fs::create_dir_all(&config.dir).map_err(|e| OpenError::Folder(config.dir.clone(), e))?;
        let directory = Arc::new(Directory::open(&config.dir, config.events_each)?);
        let files = Arc::new(Files::open(&config, log.clone(), clock.clone())?);
        let node = Arc::new(Node {
            rooms: Arc::new(Semaphore::new(config.awake_max.max(1))),
            ringers: Arc::new(Semaphore::new(config.alarms.at_once.max(1))),
            config,
            clock,
            log,
            guests,
            files,
            directory,
            cells: Mutex::default(),
            room: Notify::new(),
            pressed: Notify::new(),
            schedule: Mutex::default(),
            bell: Notify::new(),
            attempts: Mutex::default(),
            counters: Counters::default(),
            closed: watch::Sender::new(false),
            runtime: Handle::current(),
        });
        sweep::begin(&node);
        firing::begin(&node);
        Ok(Self(node))
    }

    /// The guest of an actor, woken if it is asleep, and held awake until [`Active`] is dropped. An actor that was never met begins.
    ///
    /// # Errors
    /// When it does not start, too many wait for it, or it takes too long.
    pub async fn activate(&self, id: ActorId, place: &Place) -> Result<Active, ActorError> {
        self.0.activate(id, place).await
    }

    /// Other code is in force for a namespace (or, if the text ends in `/`, for all that begin so): its actors go over to it, those at work when they
    /// come to rest.
    pub fn deployed(&self, namespace: &str) {
        self.0.deployed(namespace);
    }

    /// Ends the guest of an actor, and those of its facets; what is in flight fails with `reason`. The next message starts it anew.
    pub fn end(&self, id: ActorId, reason: &str) {
        self.0.end(id, reason);
    }

    /// Puts up to `most` idle actors to sleep, those that have been idle for longest first: memory is short.
    pub fn relieve(&self, most: usize) {
        self.0.relieve(most);
    }

    /// What they did so far.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let now_ms = self.0.clock.now_ms();
        let (waiting, since, firing) = self.0.schedule.lock().due(now_ms);
        let late_ms = since.map_or(0, |since| now_ms.saturating_sub(since));
        self.0.counters.read(Due { waiting: waiting as u64, firing: firing as u64, late_ms })
    }

    /// Puts everyone to sleep and writes the directory. Actors that do not come to rest within `wait_ms` are ended.
    ///
    /// # Errors
    /// When the directory cannot be written; the log has everything all the same.
    pub async fn close(self) -> Result<(), ActorError> {
        self.0.close().await
    }
}

impl Node {
    async fn activate(self: &Arc<Self>, id: ActorId, place: &Place) -> Result<Active, ActorError> {
        if *self.closed.borrow() {
            return Err(ActorError::Closed);
        }
        match self.want(id, place)? {
            Asked::Now(active) => Ok(active),
            Asked::Later(mut wait) => tokio::time::timeout(self.wait(), wait.answer()).await.unwrap_or_else(|_| {
                count(&self.counters.refused);
                Err(ActorError::Slow)
            }),
        }
    }

    /// How long a message waits.
    fn wait(&self) -> Duration {
        Duration::from_millis(self.config.wait_ms)
    }

    /// A place among those that may be awake at once; somebody idle makes room.
    async fn make_room(&self) -> Result<OwnedSemaphorePermit, ActorError> {
        if let Ok(room) = self.rooms.clone().try_acquire_owned() {
            return Ok(room);
        }
        self.pressed.notify_one();
        let room = tokio::time::timeout(self.wait(), self.rooms.clone().acquire_owned()).await;
        room.map_err(|_| ActorError::Slow)?.map_err(|_| ActorError::Closed)
    }

    /// Runs what reads or writes files where it holds up nobody. A runtime of one thread has no such place, and runs it at once.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ActorError> {
        if self.runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Ok(work());
        }
        self.runtime.spawn_blocking(work).await.map_err(|_| ActorError::Closed)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Notes a change for the directory. That it cannot be written is said, and nothing is lost by it: the log has it.
    fn note(&self, id: ActorId, change: Change) {
        if let Err(error) = self.directory.note(id, change) {
            tracing::warn!(%error, "the directory of actors cannot be written");
        }
    }

    fn told(&self, id: ActorId, what: What, why: &str) {
        let told = vec![Told { time_ms: self.clock.now_ms(), what, why: why.to_owned() }];
        self.note(id, Change { told, active_ms: Some(self.clock.now_ms()), ..Change::default() });
    }

    fn met(&self, id: ActorId, place: &Place, opened: &Opened, code: &str) {
        let name = place.name.as_deref().map(str::to_owned);
        let met = Some((place.namespace.to_string(), name, place.parent, self.clock.now_ms()));
        let checkpoint = (opened.checkpoint > Seq(0)).then_some(opened.checkpoint);
        let code = Some(code.to_owned());
        self.note(id, Change { met, checkpoint: Some(checkpoint), code, ..Change::default() });
    }

    /// An actor's next wake-up is another one.
    fn wake_changed(&self, id: ActorId, wake_ms: Option<u64>) {
        self.note(id, Change { wake_ms: Some(wake_ms), ..Change::default() });
        let sooner = {
            let mut schedule = self.schedule.lock();
            let before = schedule.next_ms();
            schedule.set(id, wake_ms);
            schedule.next_ms() != before
        };
        if sooner {
            self.bell.notify_one();
        }
    }

    /// Notes how large the database of a guest is that has ended.
    fn note_size(&self, cell: &Cell, live: &cell::Live) {
        let bytes = live.storage.lock().database_bytes();
        if let Ok(bytes) = bytes {
            self.note(cell.id, Change { database_bytes: Some(bytes), active_ms: Some(self.clock.now_ms()), ..Change::default() });
        }
    }

    /// Refuses a new facet when its parent has too many.
    async fn check_family(self: &Arc<Self>, place: &Place) -> Result<(), ActorError> {
        let Some(parent) = place.parent else { return Ok(()) };
        let (directory, most) = (self.directory.clone(), self.config.facets_max);
        let family = self.blocking(move || directory.family(parent, most as usize)).await??;
        if family.len() >= most as usize { Err(ActorError::Facets(most)) } else { Ok(()) }
    }

    fn every_cell(&self) -> Vec<Arc<Cell>> {
        self.cells.lock().values().cloned().collect()
    }

    fn deployed(self: &Arc<Self>, namespace: &str) {
        for cell in self.every_cell() {
            let (of, code) = {
                let life = cell.life.lock();
                (life.place.namespace.clone(), life.live.as_ref().map(|live| live.code.clone()))
            };
            let meant = if namespace.ends_with('/') { of.starts_with(namespace) } else { &*of == namespace };
            if meant && (code.is_none() || self.guests.code(&of).as_deref() != code.as_deref()) {
                self.tell(&cell, Event::Outdated);
                if code.is_some() {
                    self.told(cell.id, What::Updated, "other code is in force");
                }
            }
        }
    }

    fn end(self: &Arc<Self>, id: ActorId, reason: &str) {
        let cell = self.cells.lock().get(&id).cloned();
        if let Some(cell) = cell {
            self.tell(&cell, Event::End(reason.into()));
        }
        self.end_facets(id);
    }

    /// The facets of an actor that was ended end with it.
    fn end_facets(self: &Arc<Self>, parent: ActorId) {
        for cell in self.every_cell() {
            if cell.life.lock().place.parent == Some(parent) {
                self.tell(&cell, Event::End("its parent was ended".into()));
            }
        }
    }

    async fn close(self: Arc<Self>) -> Result<(), ActorError> {
        self.closed.send_replace(true);
        self.bell.notify_waiters();
        let deadline = tokio::time::Instant::now() + self.wait();
        loop {
            let cells = self.every_cell();
            if cells.is_empty() {
                break;
            }
            let late = tokio::time::Instant::now() >= deadline;
            for cell in cells {
                self.tell(&cell, if late { Event::End("the node goes down".into()) } else { Event::Rest });
            }
            if tokio::time::Instant::now() >= deadline + Duration::from_secs(5) {
                break;
            }
            tokio::time::timeout(Duration::from_millis(20), self.room.notified()).await.ok();
        }
        let directory = self.directory.clone();
        Ok(self.blocking(move || directory.flush()).await??)
    }
}
