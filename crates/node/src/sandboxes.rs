//! The sandboxes of a node: who each belongs to, what it is called and begins with, its tokens, and its life as callers ask for it.
//!
//! `skep_sandbox` makes them and knows how they live; what it does not know is kept here, in a database of its own beside its records. The row of a
//! sandbox is written before the sandbox is made and goes after it is gone, so a node that was killed finds a row without a sandbox at worst, and
//! drops it. It is not: HTTP, and it opens no file of a sandbox.

pub(crate) mod binding;
mod create;
mod facts;
mod images;
mod life;
mod log;
mod network;
mod past;
mod records;
mod samples;
mod saving;
mod templates;
mod uploads;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::RwLock;
use skep_gateway::Egress;
use skep_id::SandboxId;
use skep_sandbox::{Boxed, Fence, Host, ImageRules, Input, LifeError, RequestError};
use tokio::sync::Semaphore;

pub use create::NewSandbox;
pub use facts::{Facts, Reach, Setup};
pub use images::Incoming;
pub use life::{Owned, Woken};
pub use log::{Level, LogEntry};
pub use samples::Sample;
pub use saving::{ChunksError, look_at_chunks};
pub use skep_sandbox::{
    Action, Command as SandboxCommand, Credentials, Entry, EntryKind, Fault, FaultKind, FileChange, Image, ImageError, Level as BuildLevel,
    Limits as SandboxLimits, Line as BuildLine, Making as ImageMaking, Merged, Missing, Note, OnTimeout, Opened, Past,
    Platform as ImagePlatform, Profile, PtySize, RecipeStep, Running, Sandbox, Snapshot, SnapshotId, Source as ImageSource, Standing,
    State as SandboxState, Status as ExitStatus, Stdio, Stop, Terminal, What as ChangeWhat,
};
pub use templates::{Build, BuildFrom, BuildState, BuildSteps, DEFAULT_TAG, FailedAt, NewBuild, Tagged, Template};
pub use uploads::{Uploaded, Uploading};

use crate::SandboxesConfig;
use network::Network;
use records::Records;
use saving::Saving;
use templates::Templates;
use uploads::Uploads;

/// How often what each sandbox uses is looked at.
const SAMPLED: Duration = Duration::from_secs(5);

/// Requests that may wait at once, on all sandboxes together, for one to wake: each holds a connection.
const WAITING_MAX: usize = 256;

/// The folder of what was sent for steps of templates, in the data folder.
const UPLOADS: &str = "template-files";

/// Why a node has no sandboxes.
#[derive(Debug, thiserror::Error)]
pub enum SandboxesError {
    /// The configuration says so.
    #[error("sandboxes are turned off in the configuration")]
    Off,
    /// The host lacks what sandboxes of the configured profile need.
    #[error("this host has no {0:?}: {why}; {fix}", why = .1.why, fix = .1.fix)]
    Missing(Fence, Missing),
    /// They were opened already.
    #[error("sandboxes are open already")]
    Twice,
    /// The object storage of the configuration.
    #[error("the store of chunks: {0}")]
    Chunks(#[from] ChunksError),
    /// The core does not open.
    #[error(transparent)]
    Core(#[from] skep_sandbox::OpenError),
    /// The database.
    #[error("the database of sandboxes failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// A file.
    #[error("the folder of sandboxes failed: {0}")]
    File(#[from] std::io::Error),
}

/// Why something was not done to a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// There is none of that id, or none any more.
    #[error("there is no sandbox {0}")]
    Gone(SandboxId),
    /// No template, image or snapshot of that name.
    #[error("there is no template {0:?}")]
    NoTemplate(String),
    /// What was asked for cannot be.
    #[error("{0}")]
    Invalid(String),
    /// It stands still, and nothing wakes it by itself.
    #[error("sandbox {0} is paused")]
    Asleep(SandboxId),
    /// Too many wait for a sandbox to wake.
    #[error("more than {WAITING_MAX} requests wait for sandboxes to wake")]
    Busy,
    /// There are as many as the configuration allows.
    #[error("the node has {0} sandboxes, and no more are allowed")]
    Full(usize),
    /// A step of its life.
    #[error(transparent)]
    Life(#[from] LifeError),
    /// What its template starts does not.
    #[error("what its template starts: {0}")]
    NotReady(String),
    /// An image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Its init said no, or is gone.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The database.
    #[error("the database of sandboxes failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// A file of the node's.
    #[error("the folder of sandboxes failed: {0}")]
    File(#[from] std::io::Error),
    /// No randomness, or a task that broke.
    #[error("{0}")]
    Here(&'static str),
}

/// All sandboxes of a node. Cheap to clone.
#[derive(Clone)]
pub struct Sandboxes {
    inner: Arc<Inner>,
}

struct Inner {
    core: skep_sandbox::Sandboxes,
    config: SandboxesConfig,
    /// Of the sandboxes: whose disk is told to their owners.
    folder: PathBuf,
    network: Network,
    records: Arc<Records>,
    held: RwLock<HashMap<SandboxId, Owned>>,
    waiting: Arc<Semaphore>,
    templates: Templates,
    uploads: Uploads,
    /// Places for sandboxes in which steps of templates run.
    building: Arc<Semaphore>,
    /// Where snapshots are kept beside this node's disk.
    saving: Option<Saving>,
}

impl Inner {
    /// A snapshot came, or went.
    fn snapshots_changed(&self) {
        if let Some(saving) = &self.saving {
            saving.todo.notify_one();
        }
    }
}

impl Sandboxes {
    /// Opens what an earlier node left in `data`. `program` becomes the zygote: the binary whose `main` begins with `skep_sandbox::child`. Registries
    /// of images may be where `egress` says.
    ///
    /// # Errors
    /// When the host lacks a fence that the configured profile demands, or the folder is in use or damaged.
    pub async fn open(config: SandboxesConfig, data: PathBuf, program: PathBuf, egress: Egress) -> Result<(Self, Opened), SandboxesError> {
        if !config.enabled {
            return Err(SandboxesError::Off);
        }
        let folder = data.join(&config.dir);
        let place = skep_sandbox::Config { folder: folder.clone(), program };
        let (saving, (core, opened)) = match config.chunks.clone() {
            None => (None, skep_sandbox::Sandboxes::open(place).await?),
            Some(chunks) => {
                let at = data.clone();
                let opening = tokio::task::spawn_blocking(move || Saving::open(&chunks, &at));
                let (saving, bucket) = opening.await.map_err(std::io::Error::other)??;
                (Some(saving), skep_sandbox::Sandboxes::open_with(place, bucket).await?)
            }
        };
        if let Some((fence, missing)) = lacking(core.host(), profile_of(&config)) {
            return Err(SandboxesError::Missing(fence, missing));
        }
        images::clear_incoming(&folder)?;
        let records = Arc::new(Records::open(&data.join("sandboxes.sqlite"))?);
        let (waiting, network) = (Arc::new(Semaphore::new(WAITING_MAX)), Network::of(core.host()));
        core.images()
            .rule(ImageRules { reach: skep_sandbox::Reach(Arc::new(move |_, address| egress.allows(address))), ..ImageRules::default() });
        let (templates, uploads) = (Templates::of(records.templates()?), Uploads::open(data.join(UPLOADS))?);
        let (held, building) = (RwLock::default(), Arc::new(Semaphore::new(templates::BUILDING_MAX)));
        let inner = Inner { core, config, folder, network, records, held, waiting, templates, uploads, building, saving };
        let sandboxes = Self { inner: Arc::new(inner) };
        sandboxes.find_again().await?;
        if let Some(saving) = &sandboxes.inner.saving {
            tokio::spawn(saving.keeper(Arc::downgrade(&sandboxes.inner)));
        }
        if sandboxes.inner.config.make_base {
            sandboxes.make_base();
        }
        tokio::spawn(samples::sample(Arc::downgrade(&sandboxes.inner), SAMPLED));
        Ok((sandboxes, opened))
    }

    /// Joins rows and sandboxes. A row without a sandbox, and a sandbox without a row, was never acknowledged, or is half removed.
    async fn find_again(&self) -> Result<(), SandboxesError> {
        let mut boxes: HashMap<SandboxId, Boxed> = self.inner.core.list().into_iter().map(|boxed| (boxed.id().clone(), boxed)).collect();
        for (id, facts) in self.inner.records.all()? {
            match boxes.remove(&id) {
                Some(boxed) => {
                    let owned = self.inner.hold(boxed, facts);
                    // One that stands still is attached when it goes on: its init does not hear now.
                    if matches!(owned.state(), SandboxState::Running { .. })
                        && let Err(error) = owned.attach().await
                    {
                        tracing::warn!(%id, %error, "a sandbox that was found again has no network");
                    }
                }
                None => self.inner.records.remove(&id)?,
            }
        }
        for (id, boxed) in boxes {
            if let Err(error) = boxed.happen(Input::Remove).await {
                tracing::warn!(%id, %error, "a sandbox that nobody owns could not be removed");
            }
        }
        Ok(())
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &SandboxesConfig {
        &self.inner.config
    }

    /// What a sandbox may use when nobody asks for anything.
    #[must_use]
    pub fn usual_limits(&self) -> skep_sandbox::Limits {
        create::limits_of(&self.inner.config)
    }

    /// The fences of this host.
    #[must_use]
    pub fn host(&self) -> &Host {
        self.inner.core.host()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: &SandboxId) -> Option<Owned> {
        self.inner.held.read().get(id).cloned()
    }

    /// All of them, the one that started last first.
    #[must_use]
    pub fn list(&self) -> Vec<Owned> {
        let mut all: Vec<Owned> = self.inner.held.read().values().cloned().collect();
        all.sort_by_cached_key(|owned| (std::cmp::Reverse(owned.facts().started_ms), owned.id().clone()));
        all
    }
}

impl Inner {
    /// From here on it is seen, and forgotten when it is gone.
    fn hold(self: &Arc<Self>, boxed: Boxed, facts: Facts) -> Owned {
        let owned = Owned::new(boxed, facts, &self.network, Arc::clone(&self.records), Arc::clone(&self.waiting));
        self.held.write().insert(owned.id().clone(), owned.clone());
        tokio::spawn(forget_when_gone(Arc::downgrade(self), owned.clone()));
        owned
    }
}

/// Its time may be up, or somebody removes it: whoever it was, its row goes after it.
async fn forget_when_gone(inner: Weak<Inner>, owned: Owned) {
    let mut state = owned.state_changes();
    owned.keep_log(&mut state).await;
    let Some(inner) = inner.upgrade() else { return };
    inner.held.write().remove(owned.id());
    if let Err(error) = inner.records.remove(owned.id()) {
        tracing::warn!(id = %owned.id(), %error, "the row of a sandbox that is gone could not be removed; the next start does it");
    }
}

/// The profile of sandboxes that ask for none.
fn profile_of(config: &SandboxesConfig) -> Profile {
    if config.strict { Profile::Strict } else { Profile::Workstation }
}

/// The first fence that the profile demands and the host has not.
fn lacking(host: &Host, profile: Profile) -> Option<(Fence, Missing)> {
    profile.demands().iter().find_map(|fence| Some((*fence, host.missing(*fence)?)))
}
