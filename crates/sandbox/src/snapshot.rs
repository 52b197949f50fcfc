//! Snapshots: the files of one moment, which other sandboxes begin with; and who still needs which layer.
//!
//! A snapshot is a record that names layers. Layers of sandboxes' changes are in `changes/`, made beside and renamed, never changed after that,
//! and removed when neither a sandbox nor a snapshot names them. It is not: how a layer is made (`snapshot/taking.rs`), nor how one is kept
//! elsewhere (`snapshot/manifest.rs`).

pub(crate) mod bucket;
pub(crate) mod chunks;
pub(crate) mod manifest;
pub(crate) mod store;
mod taken;
pub(crate) mod taking;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use skep_id::SandboxId;

use crate::{layer, record::replace, snapshot::chunks::ChunkName, spec::Rootfs};

/// Names a snapshot for all time: `s` and 20 letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId(String);

impl SnapshotId {
    /// A new one.
    pub fn random() -> io::Result<Self> {
        Ok(Self(format!("s{}", random_text()?)))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Bytes that nobody guesses.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut random = [0; N];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(random)
}

/// A hundred random bits in letters and digits.
pub(crate) fn random_text() -> io::Result<String> {
    let mut text = skep_id::base32(&random::<13>()?);
    text.truncate(20);
    Ok(text)
}

/// Why a text is no snapshot's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a snapshot id (s and 20 letters and digits)")]
pub struct NoSnapshotId(String);

impl FromStr for SnapshotId {
    type Err = NoSnapshotId;

    fn from_str(text: &str) -> Result<Self, NoSnapshotId> {
        let letters = |rest: &str| rest.len() == 20 && rest.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        match text.strip_prefix('s') {
            Some(rest) if letters(rest) => Ok(Self(text.to_owned())),
            _ => Err(NoSnapshotId(text.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = NoSnapshotId;

    fn try_from(text: String) -> Result<Self, NoSnapshotId> {
        text.parse()
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The files of a sandbox at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Of this form: 1.
    pub version: u32,
    /// Its name for all time.
    pub id: SnapshotId,
    /// What its owner calls it.
    pub name: Option<String>,
    /// The sandbox it was taken of, which may be gone.
    pub of: SandboxId,
    /// The snapshot which that sandbox began with.
    pub parent: Option<SnapshotId>,
    /// What a sandbox that begins with it is made of.
    pub rootfs: Rootfs,
    /// When, in milliseconds since 1970.
    pub taken_ms: u64,
    /// How long the sandbox stood still for it, in microseconds. 0: it did not run.
    pub paused_us: u64,
    /// Where it is in the chunk store.
    pub manifest: Option<ChunkName>,
    /// Whether every chunk of it was read back and matched.
    pub durable: bool,
}

/// What a sandbox is a fork of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// What it began with. It may be removed by now; its layers are kept as long as this sandbox is.
    pub snapshot: SnapshotId,
    /// The sandbox that the snapshot was taken of.
    pub sandbox: SandboxId,
}

/// The snapshots of a node and their layers.
pub(crate) struct Snapshots {
    folder: PathBuf,
    known: Mutex<BTreeMap<SnapshotId, Snapshot>>,
    /// Held for reading while there are layers that no record names yet, for writing while those that none names are removed.
    pub making: tokio::sync::RwLock<()>,
    /// Held while chunks are written that no record names yet, or removed that none names.
    pub chunks: tokio::sync::Mutex<()>,
}

impl Snapshots {
    /// Reads what is there. A record that cannot be read stops everything: its layers would be taken for nobody's.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let mut known = BTreeMap::new();
        for name in ["snapshot", "changes"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join(name))?;
        }
        for entry in fs::read_dir(folder.join("snapshot"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "new") {
                fs::remove_file(&path)?;
                continue;
            }
            let damaged = |error: serde_json::Error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()));
            let snapshot: Snapshot = serde_json::from_slice(&fs::read(&path)?).map_err(damaged)?;
            known.insert(snapshot.id.clone(), snapshot);
        }
        let (making, chunks) = Default::default();
        Ok(Self { folder: folder.to_owned(), known: Mutex::new(known), making, chunks })
    }

    pub fn known(&self) -> MutexGuard<'_, BTreeMap<SnapshotId, Snapshot>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Durable when it returns.
    pub fn write(&self, snapshot: &Snapshot) -> io::Result<()> {
        replace(&self.folder.join("snapshot"), &format!("{}.json", snapshot.id), &serde_json::to_vec_pretty(snapshot)?)?;
        self.known().insert(snapshot.id.clone(), snapshot.clone());
        Ok(())
    }

    /// Forgets a snapshot. Its layers are somebody else's concern.
    pub fn forget(&self, id: &SnapshotId) -> io::Result<bool> {
        if self.known().remove(id).is_none() {
            return Ok(false);
        }
        let folder = self.folder.join("snapshot");
        fs::remove_file(folder.join(format!("{id}.json")))?;
        fs::File::open(folder)?.sync_all()?;
        Ok(true)
    }

    /// Where layers of changes are.
    pub fn layers(&self) -> PathBuf {
        self.folder.join("changes")
    }

    /// Removes layers of changes that neither a snapshot nor one of these trees names, and that are not among `kept`; how many.
    pub fn collect<'a>(&self, used_by: impl IntoIterator<Item = &'a Rootfs>, kept: Vec<PathBuf>) -> io::Result<usize> {
        let mut used: BTreeSet<PathBuf> = kept.into_iter().collect();
        let mut name = |rootfs: &Rootfs| used.extend(rootfs.folders().filter_map(Path::parent).map(Path::to_owned));
        used_by.into_iter().for_each(&mut name);
        self.known().values().for_each(|snapshot| name(&snapshot.rootfs));
        let mut removed = 0;
        for entry in fs::read_dir(self.layers())? {
            let path = entry?.path();
            if !used.contains(&path) {
                // Half of a layer must not be taken for one by who remembers it.
                let gone = path.with_extension("gone");
                fs::rename(&path, &gone)?;
                layer::remove(&gone)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Layers of changes, put over what they are changes to. `layers` are folders with a tree for the root and one for each part that has changes.
pub(crate) fn over(below: &Rootfs, layers: &[PathBuf]) -> Rootfs {
    let of = |tree: &str| -> Vec<PathBuf> { layers.iter().map(|layer| layer.join(tree)).filter(|tree| tree.is_dir()).collect() };
    let mut rootfs = below.clone();
    rootfs.layers.splice(0..0, of("root"));
    for part in &mut rootfs.parts {
        let changed = of(&part.name);
        part.layers.splice(0..0, changed);
    }
    rootfs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(layers: &[PathBuf]) -> Snapshot {
        Snapshot {
            version: 1,
            id: SnapshotId::random().unwrap(),
            name: None,
            of: SandboxId::from_random([1; 13]),
            parent: None,
            rootfs: Rootfs { layers: layers.to_vec(), parts: vec![] },
            taken_ms: 1,
            paused_us: 0,
            manifest: None,
            durable: false,
        }
    }

    #[test]
    fn a_layer_goes_with_the_last_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(folder.path()).unwrap();
        let layer = |name: &str| {
            fs::create_dir_all(snapshots.layers().join(name).join("root")).unwrap();
            snapshots.layers().join(name).join("root")
        };
        let (a, b, c) = (layer("a"), layer("b"), layer("c.new"));
        let (first, second) = (snapshot(std::slice::from_ref(&a)), snapshot(&[b.clone(), a.clone()]));
        snapshots.write(&first).unwrap();
        snapshots.write(&second).unwrap();
        let sandbox = Rootfs { layers: vec![b.clone()], parts: vec![] };
        assert_eq!(snapshots.collect([&sandbox], vec![a.parent().unwrap().to_owned()]).unwrap(), 1);
        assert!(a.exists() && b.exists() && !c.exists());
        assert!(snapshots.forget(&second.id).unwrap() && !snapshots.forget(&second.id).unwrap());
        assert_eq!(snapshots.collect([&sandbox], vec![]).unwrap(), 0, "a sandbox names it");
        assert_eq!(snapshots.collect([], vec![]).unwrap(), 1);
        drop(snapshots);
        let snapshots = Snapshots::open(folder.path()).unwrap();
        assert_eq!(snapshots.known().values().collect::<Vec<_>>(), [&first]);
        fs::write(folder.path().join("snapshot/damaged.json"), "{").unwrap();
        assert!(Snapshots::open(folder.path()).is_err(), "what it names would be removed");
    }

    #[test]
    fn hostile_ids_are_none() {
        for text in ["", "s", "s../../../etc/passwd", "S0123456789abcdefghij", "s0123456789abcdefghi/"] {
            assert!(text.parse::<SnapshotId>().is_err(), "{text}");
            assert!(serde_json::from_str::<SnapshotId>(&format!("{text:?}")).is_err());
        }
        let id = SnapshotId::random().unwrap();
        assert_eq!(id.as_str().parse::<SnapshotId>().unwrap(), id);
    }
}
