//! What a node does with the files of its sandboxes: snapshots, forks, differences.
//!
//! Each waits for the sandbox's lock, so that its state is the same before and after. It is not: how files are copied (`taking.rs`).

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use skep_id::SandboxId;
use tokio::task::spawn_blocking;

use super::{
    Origin, Snapshot, SnapshotId,
    chunks::ChunkName,
    manifest::{self, Saved},
    over, random,
    taking::{self, Durable, Shadow, Taking},
};
use crate::{
    diff::{Change, differences, trees},
    sandboxes::{Boxed, LifeError, Sandboxes, Shared, now_ms},
    spec::{MOST_LAYERS, Rootfs, Spec, boot_id},
    state::{Policy, State, Stop},
};

/// A fork has an upper of its own, and one further snapshot lays two layers over what it began with.
const ROOM: usize = 2;

impl Sandboxes {
    /// All snapshots.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.shared.snapshots.known().values().cloned().collect()
    }

    /// One of them.
    #[must_use]
    pub fn snapshot(&self, id: &SnapshotId) -> Option<Snapshot> {
        self.shared.snapshots.known().get(id).cloned()
    }

    /// Makes and starts a sandbox that begins as a snapshot was. How long it takes does not depend on how much that is.
    pub async fn restore(&self, from: &SnapshotId, spec: Spec, policy: Policy) -> Result<Boxed, LifeError> {
        let _making = self.shared.snapshots.making.read().await;
        let snapshot = self.snapshot(from).ok_or_else(|| LifeError::NoSnapshot(from.clone()))?;
        let origin = Origin { snapshot: snapshot.id, sandbox: snapshot.of };
        self.shared.make(spec, snapshot.rootfs, policy, Some(origin), true, None).await
    }

    /// Forgets a snapshot; `false`: there is none. Sandboxes and snapshots that build on it go on.
    pub async fn remove_snapshot(&self, id: &SnapshotId) -> Result<bool, LifeError> {
        let (shared, id) = (Arc::clone(&self.shared), id.clone());
        let _changing = shared.snapshots.chunks.lock().await;
        let forgotten = spawn_blocking({
            let shared = Arc::clone(&shared);
            move || shared.snapshots.forget(&id)
        });
        let known = forgotten.await.map_err(io::Error::other)??;
        shared.collect_layers().await?;
        Ok(known)
    }
}

impl Sandboxes {
    /// Writes a snapshot into the chunk store; when this returns, every chunk of it was read back and is what it should be.
    pub async fn save(&self, id: &SnapshotId) -> Result<Saved, LifeError> {
        let _changing = self.shared.snapshots.chunks.lock().await;
        let snapshot = self.snapshot(id).ok_or_else(|| LifeError::NoSnapshot(id.clone()))?;
        let shared = Arc::clone(&self.shared);
        // Held: what is read must not go meanwhile.
        let making = self.shared.snapshots.making.read().await;
        let saved = spawn_blocking(move || -> Result<Saved, LifeError> {
            let saved = manifest::save(&*shared.chunks, &changes(&snapshot.rootfs, &shared.snapshots.layers()))?;
            let Some(now) = shared.snapshots.known().get(&snapshot.id).cloned() else { return Err(LifeError::NoSnapshot(snapshot.id)) };
            shared.snapshots.write(&Snapshot { manifest: Some(saved.manifest), durable: true, ..now })?;
            Ok(saved)
        });
        let saved = saved.await.map_err(io::Error::other)?;
        drop(making);
        saved
    }

    /// Reads a snapshot out of the chunk store, over the image that it is changes to, every chunk verified.
    pub async fn load(&self, from: &ChunkName, image: &Rootfs, of: SandboxId, name: Option<&str>) -> Result<Snapshot, LifeError> {
        let _making = self.shared.snapshots.making.read().await;
        let (shared, from, image, name) = (Arc::clone(&self.shared), *from, image.clone(), name.map(str::to_owned));
        let loaded = spawn_blocking(move || -> Result<Snapshot, LifeError> {
            let manifest = manifest::read(&*shared.chunks, &from)?;
            let mut layers = Vec::new();
            for layer in 0..manifest.layers.len() {
                let beside = taking::new_layer(&shared.snapshots.layers())?;
                manifest.restore(layer, &*shared.chunks, &beside)?;
                layers.push(beside);
            }
            let layers = taking::keep_all(&shared.snapshots.layers(), layers)?;
            let rootfs = over(&image, &layers);
            rootfs.check().map_err(|error| LifeError::Start(crate::plan::PlanError::from(error).into()))?;
            let snapshot = Snapshot {
                version: 1,
                id: SnapshotId::random()?,
                name,
                of,
                parent: None,
                rootfs,
                taken_ms: now_ms(),
                paused_us: 0,
                manifest: Some(from),
                durable: true,
            };
            shared.snapshots.write(&snapshot)?;
            Ok(snapshot)
        });
        loaded.await.map_err(io::Error::other)?
    }

    /// Removes chunks that no snapshot is made of; how many. Where a manifest cannot be read, nothing is removed.
    pub async fn collect_chunks(&self) -> Result<usize, LifeError> {
        let _changing = self.shared.snapshots.chunks.lock().await;
        let shared = Arc::clone(&self.shared);
        let collected = spawn_blocking(move || -> Result<usize, LifeError> {
            let manifests: BTreeSet<ChunkName> = shared.snapshots.known().values().filter_map(|snapshot| snapshot.manifest).collect();
            let mut used = manifests.clone();
            for name in &manifests {
                used.extend(manifest::read(&*shared.chunks, name)?.chunks());
            }
            let unused: Vec<ChunkName> = shared.chunks.list()?.into_iter().filter(|name| !used.contains(name)).collect();
            unused.iter().try_for_each(|name| shared.chunks.remove(name))?;
            Ok(unused.len())
        });
        collected.await.map_err(io::Error::other)?
    }
}

impl Shared {
    /// Removes layers of changes that nobody names; how many.
    pub(crate) async fn collect_layers(self: &Arc<Self>) -> io::Result<usize> {
        let _alone = self.snapshots.making.write().await;
        let boxes: Vec<Boxed> = crate::sandboxes::lock(&self.boxes).values().cloned().collect();
        let used: Vec<Rootfs> = boxes.iter().map(|boxed| boxed.inner.place.rootfs.clone()).collect();
        let mut kept = Vec::new();
        for boxed in boxes {
            // Nobody takes a snapshot now: they all hold `making`.
            kept.extend(boxed.inner.shadow.lock().await.iter().flat_map(Shadow::folders).map(Path::to_owned));
        }
        let shared = Arc::clone(self);
        spawn_blocking(move || shared.snapshots.collect(&used, kept)).await?
    }
}

impl Boxed {
    /// The files as they are at one moment. A sandbox that runs stands still for as long as it takes to copy what has just changed; its state is the
    /// same afterwards. Memory is not in it.
    pub async fn snapshot(&self, name: Option<&str>) -> Result<Snapshot, LifeError> {
        // In a task of its own: whoever asked may stop waiting, and the sandbox is let go on all the same.
        let (this, name) = (self.clone(), name.map(str::to_owned));
        tokio::spawn(async move { this.snapshot_named(name).await }).await.map_err(io::Error::other)?
    }

    async fn snapshot_named(&self, name: Option<String>) -> Result<Snapshot, LifeError> {
        let shared = self.shared()?;
        let making = shared.snapshots.making.read().await;
        let snapshot = Snapshot { name, ..self.take_snapshot(&shared, Durable::Now).await? };
        let write = {
            let (shared, snapshot) = (Arc::clone(&shared), snapshot.clone());
            spawn_blocking(move || shared.snapshots.write(&snapshot))
        };
        write.await.map_err(io::Error::other)??;
        drop(making);
        Ok(snapshot)
    }

    /// Sandboxes that begin with the files of this one as they are now, each with processes of its own; or stopped, where they are not to start.
    ///
    /// They are there when this returns, also for a node that comes after one that was killed. Their files are on the disk a moment later
    /// ([`Self::synced`]): a host that loses power before that finds them stopped for good ([`crate::Stop::Torn`]), and never with a part of
    /// their files. What must outlast that is a snapshot first.
    pub async fn fork(&self, count: u32, start: bool) -> Vec<Result<Self, LifeError>> {
        let this = self.clone();
        let forks = tokio::spawn(async move { this.forks(count, start).await }).await;
        match forks.map_err(|error| LifeError::Here(io::Error::other(error))).flatten() {
            Ok(forks) => forks,
            Err(error) => vec![Err(error)],
        }
    }

    async fn forks(&self, count: u32, start: bool) -> Result<Vec<Result<Self, LifeError>>, LifeError> {
        let shared = self.shared()?;
        let _making = shared.snapshots.making.read().await;
        let (spec, policy) = {
            let life = self.inner.life.lock().await;
            (life.record.spec.clone(), life.record.policy)
        };
        let snapshot = self.take_snapshot(&shared, Durable::Soon).await?;
        let origin = Origin { snapshot: snapshot.id, sandbox: snapshot.of };
        let mut starting = Vec::new();
        for _ in 0..count {
            let spec = Spec { id: SandboxId::from_random(random()?), boot: boot_id(random()?), ..spec.clone() };
            let (shared, rootfs, origin) = (Arc::clone(&shared), snapshot.rootfs.clone(), origin.clone());
            starting.push(tokio::spawn(async move {
                let boot = Some(shared.boot.clone());
                shared.make(spec, rootfs, policy, Some(origin), start, boot).await
            }));
        }
        let mut forks = Vec::new();
        for fork in starting {
            forks.push(fork.await.map_err(|error| LifeError::Here(io::Error::other(error))).flatten());
        }
        let made: Vec<Self> = forks.iter().filter_map(|fork| fork.as_ref().ok().cloned()).collect();
        tokio::spawn(bring_to_disk(shared.snapshots.layers(), self.clone(), made));
        Ok(forks)
    }

    /// Returns when its files would outlast a loss of power, as far as they are those that it began with.
    pub async fn synced(&self) {
        let mut unsynced = self.inner.unsynced.subscribe();
        // The sender is this sandbox's own.
        let _ = unsynced.wait_for(|unsynced| !unsynced).await;
    }

    /// What it is a fork of. `None`: it began with an image.
    pub async fn origin(&self) -> Option<Origin> {
        self.inner.life.lock().await.record.origin.clone()
    }

    /// What it has changed of what it began with, in the order of paths; of what was removed only the topmost. Of one that runs, as it goes on.
    pub async fn diff(&self) -> Result<Vec<Change>, LifeError> {
        let life = self.inner.life.lock().await;
        let place = life.record.place.clone();
        let changes = spawn_blocking(move || -> io::Result<Vec<Change>> {
            let trees = trees(&place)?;
            Ok(differences(&trees)?.iter().map(|difference| difference.change(&trees)).collect())
        });
        Ok(changes.await.map_err(io::Error::other)??)
    }

    /// A snapshot that no record names yet. `making` is held.
    async fn take_snapshot(&self, shared: &Arc<Shared>, durable: Durable) -> Result<Snapshot, LifeError> {
        let mut shadow = Arc::clone(&self.inner.shadow).lock_owned().await;
        let life = self.inner.life.lock().await;
        let group = match (&life.record.state, &life.sandbox) {
            (State::Running { .. }, Some(sandbox)) => Some(sandbox.group().clone()),
            (State::Stopped { why: Stop::Torn }, _) => return Err(LifeError::Refused(life.record.state.clone())),
            (State::Paused | State::Stopped { .. }, _) => None,
            (state, _) => return Err(LifeError::Refused(state.clone())),
        };
        let (place, layers) = (life.record.place.clone(), shared.snapshots.layers());
        let taken = spawn_blocking(move || -> io::Result<_> {
            let taken = Taking { layers: &layers, place: &place, group: group.as_ref(), durable }.take(&mut shadow)?;
            let rootfs = over(&place.rootfs, &taken.layers);
            let shallow = if rootfs.deepest() + ROOM > MOST_LAYERS { flattened(&rootfs, &layers)? } else { rootfs };
            Ok((shallow, taken.paused))
        });
        let (rootfs, paused) = taken.await.map_err(io::Error::other)??;
        let record = &life.record;
        Ok(Snapshot {
            version: 1,
            id: SnapshotId::random()?,
            name: None,
            of: record.spec.id.clone(),
            parent: record.origin.as_ref().map(|origin| origin.snapshot.clone()),
            rootfs,
            taken_ms: now_ms(),
            paused_us: u64::try_from(paused.as_micros()).unwrap_or(u64::MAX),
            manifest: None,
            durable: false,
        })
    }
}

/// Brings the layers of forks to the disk, and writes down that they are there. What fails is done by the node that comes next.
async fn bring_to_disk(layers: PathBuf, parent: Boxed, forks: Vec<Boxed>) {
    let Ok(Ok(since)) = spawn_blocking(move || taking::bring_to_disk(&layers)).await else { return };
    for fork in forks {
        let _ = fork.is_synced().await;
    }
    if let Some(shadow) = &mut *parent.inner.shadow.lock().await {
        shadow.synced_at(since);
    }
}

/// The topmost layers that are changes of sandboxes, and not of the image.
pub(crate) fn changes(rootfs: &Rootfs, layers: &Path) -> Vec<PathBuf> {
    let folders = rootfs.layers.iter().filter_map(|tree| tree.parent());
    folders.take_while(|folder| folder.parent() == Some(layers)).map(Path::to_owned).collect()
}

/// What is below the changes of sandboxes.
pub(crate) fn image_of(rootfs: &Rootfs, layers: &Path) -> Rootfs {
    let mut image = rootfs.clone();
    let is_ours = |tree: &Path| tree.parent().and_then(Path::parent) == Some(layers);
    image.layers.retain(|tree| !is_ours(tree));
    image.parts.iter_mut().for_each(|part| part.layers.retain(|tree| !is_ours(tree)));
    image
}

/// The same with all changes of sandboxes in one layer.
fn flattened(rootfs: &Rootfs, layers: &Path) -> io::Result<Rootfs> {
    let one = taking::made_one(layers, &changes(rootfs, layers))?;
    Ok(over(&image_of(rootfs, layers), &[one]))
}
