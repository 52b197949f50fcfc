//! Actors of this node: the code behind their classes, the way to them, and what operators do with them.
//!
//! [`Actors`] is what [`crate::Node`] hands out. What lasts is `skep_actor`'s affair; here isolates become its guests (`host`), wire operations
//! its calls (`durable`), and names its ids (`identity`). `stub` is the way of a call, `sockets` keeps WebSockets open while their actors
//! sleep, `facet` knows what actors within actors are made of.

mod doctor;
mod durable;
mod facet;
mod host;
mod identity;
mod sockets;
mod stub;
mod turn;

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::{Arc, OnceLock, Weak},
};

use bytes::Bytes;
use parking_lot::Mutex;
use skep_actor::{
    ActorError, As, Entry, Filter, ForkOptions, GuestError, Place, facet_id,
    pages::PagesError,
    storage::{Bookmark, StorageError},
};
use skep_id::{ActorId, ParseError, WorkerName};
use skep_isolate::Namespace;

use self::{
    durable::ForkAsked,
    facet::{Facets, Which},
    host::{Hosts, Inhabitant},
    identity::Identity,
    sockets::Sockets,
    stub::{Class, Doorbell, Whom},
};
use crate::{Resident, Runtime, workers::Workers};

pub(crate) use doctor::open_log;
pub use doctor::{Inspection, inspect};
pub use identity::{NamespaceName, is_class};

/// Which actors are listed.
#[derive(Debug, Clone, Default)]
pub struct ActorFilter {
    /// Of this worker's classes.
    pub worker: Option<WorkerName>,
    /// Of this class.
    pub class: Option<String>,
    /// Whose name begins so.
    pub prefix: String,
    /// After this one.
    pub after: Option<ActorId>,
    /// At most so many.
    pub most: usize,
}

/// What an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorState {
    /// On disk only.
    Asleep,
    /// On its way into memory.
    Waking,
    /// Serving.
    Awake,
    /// On its way out of memory.
    FallingAsleep,
}

/// An actor as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorRow {
    /// Its id.
    pub id: ActorId,
    /// Worker and class; of a facet those of its root.
    pub namespace: NamespaceName,
    /// The name its id was made from, where known; of a facet its name within its parent.
    pub name: Option<String>,
    /// The actor that it is a facet of.
    pub parent: Option<ActorId>,
    /// What it is doing.
    pub state: ActorState,
    /// ms since the epoch.
    pub created_ms: u64,
    /// When it was last awake, ms since the epoch.
    pub active_ms: u64,
    /// Of its database.
    pub database_bytes: u64,
    /// When it next wakes by itself, ms since the epoch.
    pub wakes_ms: Option<u64>,
}

/// An actor with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorDetails {
    /// What the list shows.
    pub row: ActorRow,
    /// The term of ownership in force.
    pub epoch: u64,
    /// The place of its last record.
    pub seq: u64,
    /// The present.
    pub bookmark: String,
    /// By name, ms since the epoch.
    pub alarms: BTreeMap<String, u64>,
    /// Bookmarks of places that are kept beyond retention, by name.
    pub snapshots: BTreeMap<String, String>,
    /// What happened to it, the latest first: ms since the epoch, and what.
    pub log: Vec<(u64, String)>,
}

/// A point in an actor's past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// As of that time, ms since the epoch.
    Time(u64),
    /// As of that bookmark.
    Bookmark(String),
}

/// What a fork is to be.
#[derive(Debug, Clone, Default)]
pub struct Fork {
    /// Its name, which no actor may have yet.
    pub name: Option<String>,
    /// What it begins from; the present when absent.
    pub as_of: Option<Point>,
    /// Whether it gets the alarms too.
    pub alarms: bool,
}

/// The answer to a question in SQL.
#[derive(Debug, Clone, PartialEq)]
pub struct ActorRows {
    /// Names.
    pub columns: Vec<String>,
    /// Values by row.
    pub rows: Vec<Vec<skep_actor::database::Value>>,
}

/// Why there is no answer about an actor.
#[derive(Debug, thiserror::Error)]
pub enum ActorsError {
    /// It names no actor.
    #[error("{0:?} names no actor")]
    NotAnAddress(String),
    /// There is none.
    #[error("there is no actor {0}")]
    NoActor(ActorId),
    /// There is one already.
    #[error("there is an actor {0} already")]
    Exists(String),
    /// Nothing is kept of that point.
    #[error("{0}")]
    BadPoint(String),
    /// SQLite says no.
    #[error("{0}")]
    Sql(String),
    /// It is in the middle of something.
    #[error("{0}")]
    NotNow(String),
    /// It, or the node, has too much to do.
    #[error("{0}")]
    Busy(String),
    /// The disk has no room.
    #[error("the disk of this node is full: {0}")]
    Full(String),
    /// Its code failed.
    #[error("{0}")]
    Guest(String),
    /// Its files are damaged.
    #[error("{0}")]
    Damaged(String),
    /// A fault of ours.
    #[error(transparent)]
    Failed(ActorError),
}

impl From<ActorError> for ActorsError {
    fn from(error: ActorError) -> Self {
        match error {
            full if full.is_full() => Self::Full(full.to_string()),
            ActorError::Unknown(id) => Self::NoActor(id),
            ActorError::Nowhere(why) => Self::BadPoint(why),
            ActorError::Storage(StorageError::Sql(error)) => Self::Sql(error.to_string()),
            ActorError::Storage(StorageError::Past(why)) => Self::BadPoint(why),
            ActorError::Pages(PagesError::Gone(id)) => Self::NoActor(id),
            ActorError::Pages(PagesError::Exists(id)) => Self::Exists(id.to_string()),
            ActorError::Pages(error @ (PagesError::Expired { .. } | PagesError::NotYet { .. })) => Self::BadPoint(error.to_string()),
            ActorError::Storage(StorageError::Refused(why)) => Self::NotNow(why),
            ActorError::Guest(GuestError::Busy(why)) => Self::NotNow(format!("the actor is busy: {why}")),
            ActorError::Crowded | ActorError::Slow | ActorError::Closed => Self::Busy(error.to_string()),
            ActorError::Start(_) | ActorError::NoCode(_) | ActorError::Guest(_) => Self::Guest(error.to_string()),
            ActorError::Pages(_) => Self::Damaged(error.to_string()),
            other => Self::Failed(other),
        }
    }
}

/// The actors of a node, for operators.
#[derive(Clone)]
pub struct Actors(pub(crate) Arc<Inner>);

/// Everything of the node that actors need.
pub(crate) struct Inner {
    workers: Weak<Workers>,
    runtime: Arc<dyn Runtime>,
    sockets: Arc<Sockets>,
    facets: Arc<Facets>,
    /// Actors whose isolates live.
    living: Mutex<HashMap<ActorId, Weak<Inhabitant>>>,
    own: Weak<Inner>,
    /// Set as soon as it is open: it starts guests, which need the rest.
    kept: OnceLock<skep_actor::Actors>,
}

/// A hold on an awake actor and its guest.
pub(crate) struct Awakened {
    guest: Arc<dyn Resident>,
    _active: skep_actor::Active,
}

impl Awakened {
    pub fn guest(&self) -> &Arc<dyn Resident> {
        &self.guest
    }
}

impl Inner {
    pub fn new(workers: Weak<Workers>, runtime: Arc<dyn Runtime>) -> Arc<Self> {
        Arc::new_cyclic(|own: &Weak<Self>| Self {
            workers,
            runtime,
            sockets: Sockets::new(Arc::new(Doorbell { inner: Weak::clone(own) }), tokio::runtime::Handle::current()),
            facets: Arc::default(),
            living: Mutex::default(),
            own: Weak::clone(own),
            kept: OnceLock::new(),
        })
    }

    /// Opens what lasts. From then on alarms fire.
    pub fn open(
        self: &Arc<Self>,
        config: skep_actor::Config,
        log: Arc<dyn skep_actor::log::DurableLog>,
    ) -> Result<(), skep_actor::OpenError> {
        let kept = skep_actor::Actors::open(config, log, Arc::new(Hosts(Arc::downgrade(self))))?;
        let _ = self.kept.set(kept);
        Ok(())
    }

    /// Where actors of a class are reached.
    pub fn class(&self, namespace: &NamespaceName) -> Arc<dyn Namespace> {
        let namespace: Arc<str> = namespace.to_string().into();
        Arc::new(Class { inner: Weak::clone(&self.own), identity: Identity::of(&namespace), namespace })
    }

    /// Whether an actor's isolate lives, without asking its files.
    fn state(&self, actor: ActorId) -> ActorState {
        let living = self.living.lock().get(&actor).and_then(Weak::upgrade);
        let serves = living.is_some_and(|inhabitant| inhabitant.resident().alive());
        if serves { ActorState::Awake } else { ActorState::Asleep }
    }

    fn workers(&self) -> Option<Arc<Workers>> {
        self.workers.upgrade()
    }

    fn kept(&self) -> Result<&skep_actor::Actors, ActorError> {
        self.kept.get().ok_or(ActorError::Closed)
    }

    /// The guest of an actor, held awake.
    async fn awaken(&self, whom: &Whom) -> Result<Awakened, ActorError> {
        let place = Place { namespace: Arc::clone(&whom.namespace), name: whom.name.clone(), parent: whom.parent };
        let active = self.kept()?.activate(whom.id, &place).await?;
        let guest = Arc::clone(active.guest()).as_any().downcast::<Inhabitant>();
        let guest = guest.map_err(|_| ActorError::Guest(GuestError::Ended("it is no isolate".to_owned())))?;
        Ok(Awakened { guest: Arc::clone(guest.resident()), _active: active })
    }

    async fn whom(&self, id: ActorId) -> Result<Whom, ActorError> {
        let Entry { namespace, name, parent, .. } = self.kept()?.show(id).await?.entry;
        Ok(Whom { id, namespace: namespace.into(), name: name.map(Into::into), parent })
    }

    /// The actor that a facet is within.
    async fn parent_of(&self, facet: ActorId) -> Result<Option<Whom>, ActorError> {
        match self.kept()?.show(facet).await?.entry.parent {
            Some(parent) => self.whom(parent).await.map(Some),
            None => Ok(None),
        }
    }

    /// The actor at the end of a facet's parents.
    async fn root_of(&self, facet: ActorId) -> Result<Whom, ActorError> {
        let mut at = self.whom(facet).await?;
        while let Some(parent) = at.parent {
            at = self.whom(parent).await?;
        }
        Ok(at)
    }

    async fn checkpoint(&self, id: ActorId) -> Result<skep_actor::Receipt, ActorError> {
        self.kept()?.checkpoint(id).await
    }

    /// `ctx.fork()`: the caller's own copy, with its heap unless it says otherwise.
    async fn fork_self(&self, id: ActorId, namespace: &str, asked: ForkAsked) -> Result<ActorId, ActorError> {
        let (root, facet) = facet::split(namespace);
        if facet.is_some() {
            return Err(ActorError::Nowhere("a facet is cloned by its parent".to_owned()));
        }
        let identity = Identity::of(root);
        let child = match &asked.name {
            Some(name) => Some(identity.named(name)),
            None => identity.unique(),
        };
        let child = child.ok_or_else(|| ActorError::Nowhere("this system has no randomness".to_owned()))?;
        let options = ForkOptions { name: asked.name, heap: asked.heap.unwrap_or(true), alarms: asked.alarms };
        self.kept()?.fork(id, As::Now, child, &options).await?;
        Ok(child)
    }

    /// Ends facets that their parent has parted with.
    fn abort_facets(&self, parent: ActorId, which: Which, reason: &str) {
        let _parting = self.facets.begin(parent, which);
        if let (Ok(kept), Which::One(facet)) = (self.kept(), which) {
            kept.end(facet, reason);
        }
    }

    /// Deletes facets that their parent has parted with, in the background: the parent does not wait for it, and who calls one of that name next begins
    /// a new one after it is gone.
    fn delete_facets(self: &Arc<Self>, parent: ActorId, which: Which) {
        let inner = Arc::clone(self);
        // From now on, not from when the task first runs.
        let parting = self.facets.begin(parent, which);
        self.sockets.on_runtime(async move {
            let _parting = parting;
            if let Err(error) = inner.delete_which(which).await {
                tracing::error!(%parent, %error, "a facet could not be deleted");
            }
        });
    }

    async fn delete_which(&self, which: Which) -> Result<(), ActorError> {
        let ids = match which {
            Which::One(facet) | Which::Copy(facet) => vec![facet],
            Which::AllOf(parent) => self.facets_of(parent).await?,
        };
        for id in ids {
            self.clear(id).await?;
        }
        Ok(())
    }

    async fn facets_of(&self, parent: ActorId) -> Result<Vec<ActorId>, ActorError> {
        let mut ids: Vec<ActorId> = Vec::new();
        loop {
            let after = ids.last().copied();
            let page = self.kept()?.list(Filter { parent: Some(parent), after, most: 1_000, ..Filter::default() }).await?;
            ids.extend(page.iter().map(|entry| entry.id));
            if page.len() < 1_000 {
                return Ok(ids);
            }
        }
    }

    /// Deletes an actor, if there is one.
    async fn clear(&self, id: ActorId) -> Result<(), ActorError> {
        match self.delete(id).await {
            Err(ActorError::Unknown(_)) => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    /// Makes a facet a copy of another, which takes the place of what was there; a copy of nothing is nothing. Calls to it wait from now on.
    fn clone_facet(self: &Arc<Self>, parent: ActorId, from: &str, to: &str) -> impl Future<Output = Result<(), ActorError>> + Send + use<> {
        let (source, copy, to) = (facet_id(parent, from), facet_id(parent, to), to.to_owned());
        let (inner, parting) = (Arc::clone(self), self.facets.begin(parent, Which::Copy(copy)));
        async move {
            let _parting = parting;
            if source == copy { Ok(()) } else { inner.copy_facet(parent, source, copy, to).await }
        }
    }

    async fn copy_facet(&self, parent: ActorId, source: ActorId, copy: ActorId, name: String) -> Result<(), ActorError> {
        self.facets.left(source, parent).await;
        self.clear(copy).await?;
        let options = ForkOptions { name: Some(name), heap: false, alarms: true };
        match self.kept()?.fork(source, As::Now, copy, &options).await {
            Err(ActorError::Unknown(_)) => Ok(()),
            forked => forked.map(drop),
        }
    }

    async fn delete(&self, id: ActorId) -> Result<skep_actor::Receipt, ActorError> {
        let receipt = self.kept()?.delete(id).await?;
        self.facets.forget_of(id);
        self.sockets.close_all(id, "the actor was deleted");
        Ok(receipt)
    }
}

impl Actors {
    /// A page of actors by id, and whether there are more. Facets are shown with their parents only.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn list(&self, filter: ActorFilter) -> Result<(Vec<ActorRow>, bool), ActorsError> {
        let prefix = match (&filter.worker, &filter.class) {
            (Some(worker), Some(class)) => format!("{worker}/{class}"),
            (Some(worker), None) => format!("{worker}/"),
            (None, _) => String::new(),
        };
        let (mut after, mut found) = (filter.after, Vec::new());
        loop {
            let asked = Filter { namespace_prefix: prefix.clone(), name_prefix: filter.prefix.clone(), parent: None, after, most: 1_000 };
            let page = self.0.kept()?.list(asked).await?;
            let last = page.len() < 1_000;
            after = page.last().map(|entry| entry.id);
            for entry in page {
                let Some(namespace) = NamespaceName::parse(facet::split(&entry.namespace).0) else { continue };
                if filter.class.as_ref().is_some_and(|class| *class != namespace.class) {
                    continue;
                }
                if found.len() == filter.most {
                    return Ok((found, true));
                }
                let state = self.0.state(entry.id);
                found.push(row(entry, namespace, state));
            }
            if last {
                return Ok((found, false));
            }
        }
    }

    /// How many actors a worker's classes have.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn count(&self, worker: &WorkerName) -> Result<usize, ActorsError> {
        Ok(self.ids(worker).await?.len())
    }

    async fn ids(&self, worker: &WorkerName) -> Result<Vec<ActorId>, ActorsError> {
        let mut ids = Vec::new();
        loop {
            let namespace_prefix = format!("{worker}/");
            let asked = Filter { namespace_prefix, name_prefix: String::new(), parent: None, after: ids.last().copied(), most: 1_000 };
            let page = self.0.kept()?.list(asked).await?;
            ids.extend(page.iter().map(|entry| entry.id));
            if page.len() < 1_000 {
                return Ok(ids);
            }
        }
    }

    /// Deletes all actors of a worker's classes.
    ///
    /// # Errors
    /// When one cannot be deleted; the others before it are.
    pub async fn delete_all(&self, worker: &WorkerName) -> Result<(), ActorsError> {
        for id in self.ids(worker).await? {
            match self.0.delete(id).await {
                Ok(_) | Err(ActorError::Unknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The id that a text means: an id, or `<worker>/<class>/<name>`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn id_of(&self, text: &str) -> Result<ActorId, ActorsError> {
        let wrong = || ActorsError::NotAnAddress(text.chars().take(80).collect());
        let asked: Result<ActorId, ParseError> = text.parse();
        if let Ok(id) = asked {
            return Ok(id);
        }
        let (class_end, _) = text.match_indices('/').nth(1).ok_or_else(wrong)?;
        let (namespace, name) = (&text[..class_end], &text[class_end + 1..]);
        let namespace = NamespaceName::parse(namespace).ok_or_else(wrong)?;
        Ok(Identity::of(&namespace.to_string()).named(name))
    }

    /// One actor.
    ///
    /// # Errors
    /// When there is none, or its files cannot be read.
    pub async fn show(&self, id: ActorId) -> Result<ActorDetails, ActorsError> {
        let shown = self.0.kept()?.show(id).await?;
        let namespace = namespace_of(&shown.entry)?;
        let line = |told: skep_actor::Told| {
            let mut what =
                serde_json::to_value(told.what).ok().and_then(|word| word.as_str().map(|word| word.replace('-', " "))).unwrap_or_default();
            let _ = write!(what, ": {}", told.why);
            (told.time_ms, what)
        };
        Ok(ActorDetails {
            epoch: shown.epoch.0,
            seq: shown.head.0,
            bookmark: Bookmark::of(id, shown.head, crate::now_ms().unsigned_abs()).to_string(),
            alarms: shown.alarms.into_iter().collect(),
            snapshots: shown.kept.into_iter().map(|kept| (kept.name, Bookmark::of(id, kept.at, kept.time_ms).to_string())).collect(),
            log: shown.told.into_iter().map(line).collect(),
            row: row(shown.entry, namespace, state_of(shown.standing)),
        })
    }

    /// Asks an actor's database, now or in its past. Nothing is changed by it, and nobody woken.
    ///
    /// # Errors
    /// When there is no such actor or point, or SQLite says no.
    pub async fn sql(&self, id: ActorId, query: String, as_of: Option<Point>) -> Result<ActorRows, ActorsError> {
        let rows = self.0.kept()?.sql(id, &query, Vec::new(), point(id, as_of)?).await?;
        Ok(ActorRows { columns: rows.columns.to_vec(), rows: rows.rows })
    }

    /// Writes an actor down, heap and database together.
    ///
    /// # Errors
    /// When there is none, or it never comes to rest.
    pub async fn checkpoint(&self, id: ActorId) -> Result<skep_actor::Receipt, ActorsError> {
        Ok(self.0.checkpoint(id).await?)
    }

    /// Makes a new actor from one as it is, with its heap, or was. The receipt is the new one's.
    ///
    /// # Errors
    /// When there is no such actor or point, or the name is taken.
    pub async fn fork(&self, id: ActorId, fork: Fork) -> Result<(ActorRow, skep_actor::Receipt), ActorsError> {
        let kept = self.0.kept()?;
        let parent = kept.entry(id).await?;
        let namespace = namespace_of(&parent)?;
        if parent.parent.is_some() {
            return Err(ActorsError::NotNow("a facet is cloned by its parent, not forked from outside".to_owned()));
        }
        let identity = Identity::of(&parent.namespace);
        let child = match &fork.name {
            Some(name) => identity.named(name),
            None => identity.unique().ok_or_else(|| ActorsError::Busy("this system has no randomness".to_owned()))?,
        };
        match kept.entry(child).await {
            Ok(_) => return Err(ActorsError::Exists(format!("{namespace}/{}", fork.name.unwrap_or_default()))),
            Err(ActorError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
        // The heap of a moment in the past is taken along where a checkpoint lies there; of the present, one is made, if the guest can be written down.
        let (at, options) = (point(id, fork.as_of)?, ForkOptions { name: fork.name, heap: true, alarms: fork.alarms });
        let receipt = match kept.fork(id, at, child, &options).await {
            Err(ActorError::Nowhere(_) | ActorError::Guest(GuestError::Heapless(_))) => {
                kept.fork(id, at, child, &ForkOptions { heap: false, ..options }).await?
            }
            forked => forked?,
        };
        let (standing, _) = kept.standing(child);
        Ok((row(kept.entry(child).await?, namespace, state_of(standing)), receipt))
    }

    /// Brings an actor's database back to a point in its past; the answer is the bookmark that undoes it.
    ///
    /// # Errors
    /// When there is no such actor or point, or its files do not become free in time.
    pub async fn rewind(&self, id: ActorId, to: Point) -> Result<(String, skep_actor::Receipt), ActorsError> {
        let receipt = self.0.kept()?.rewind(id, point(id, Some(to))?, true).await?;
        // What was before the record that rewound it.
        let before = skep_actor::Seq(receipt.seq.0.saturating_sub(1));
        Ok((Bookmark::of(id, before, crate::now_ms().unsigned_abs()).to_string(), receipt))
    }

    /// An actor's database as a SQLite file, now or as of a point in its past, without stopping it.
    ///
    /// # Errors
    /// When there is no such actor or point.
    pub async fn export(&self, id: ActorId, as_of: Option<Point>) -> Result<Exported, ActorsError> {
        Ok(Exported { export: self.0.kept()?.export(id, point(id, as_of)?).await?, failed: false })
    }

    /// Deletes an actor with all it has. Its sockets are closed.
    ///
    /// # Errors
    /// When there is none, or its files do not become free in time.
    pub async fn delete(&self, id: ActorId) -> Result<skep_actor::Receipt, ActorsError> {
        Ok(self.0.delete(id).await?)
    }

    /// Other code is in force for a worker's classes.
    pub(crate) fn deployed(&self, worker: &WorkerName) {
        if let Ok(kept) = self.0.kept() {
            kept.deployed(&format!("{worker}/"));
        }
    }

    /// Puts all to sleep, within a bounded time.
    pub(crate) async fn close(&self) -> Result<(), ActorError> {
        match self.0.kept.get() {
            Some(kept) => kept.clone().close().await,
            None => Ok(()),
        }
    }

    /// Numbers: what was counted since the start, and what is now.
    pub(crate) fn numbers(&self) -> (skep_actor::Metrics, usize) {
        (self.0.kept.get().map(skep_actor::Actors::metrics).unwrap_or_default(), self.0.sockets.count())
    }
}

/// A database on its way out.
#[derive(Debug)]
pub struct Exported {
    export: skep_actor::Export,
    failed: bool,
}

impl Exported {
    /// Its size in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.export.bytes()
    }

    /// The next piece. After a failure there is none.
    pub async fn next(&mut self) -> Option<Result<Bytes, ActorsError>> {
        if self.failed {
            return None;
        }
        let piece = self.export.piece().await.transpose()?;
        self.failed = piece.is_err();
        Some(piece.map_err(ActorsError::from))
    }
}

fn namespace_of(entry: &Entry) -> Result<NamespaceName, ActorsError> {
    NamespaceName::parse(facet::split(&entry.namespace).0)
        .ok_or_else(|| ActorsError::Damaged(format!("the directory says that actor {} is of {:?}", entry.id, entry.namespace)))
}

fn state_of(standing: skep_actor::Standing) -> ActorState {
    use skep_actor::Standing;
    match standing {
        Standing::Asleep | Standing::Lent => ActorState::Asleep,
        Standing::Waking => ActorState::Waking,
        Standing::Awake => ActorState::Awake,
        Standing::FallingAsleep | Standing::Broken => ActorState::FallingAsleep,
    }
}

fn row(entry: Entry, namespace: NamespaceName, state: ActorState) -> ActorRow {
    ActorRow {
        id: entry.id,
        namespace,
        name: entry.name,
        parent: entry.parent,
        state,
        created_ms: entry.created_ms,
        active_ms: entry.active_ms,
        database_bytes: entry.database_bytes,
        wakes_ms: entry.wake_ms,
    }
}

fn point(id: ActorId, point: Option<Point>) -> Result<As, ActorsError> {
    Ok(match point {
        None => As::Now,
        Some(Point::Time(time_ms)) => As::Time(time_ms),
        Some(Point::Bookmark(text)) => {
            let wrong =
                || ActorsError::BadPoint(format!("{:?} is not a bookmark of this actor", text.chars().take(80).collect::<String>()));
            let mark: Bookmark = text.parse().map_err(|_| wrong())?;
            if mark != Bookmark::of(id, mark.seq, mark.time_ms) {
                return Err(wrong());
            }
            As::Place(mark.seq)
        }
    })
}
