//! What is kept of a snapshot in a chunk store: the entries of its layers in the order of their paths, and for each file the chunks it is made of.
//!
//! A manifest is itself a chunk. Written from layers of ours; read as if a stranger had written it: paths lead nowhere but into the new layer, ids
//! are inner ones, and nothing says what is on the host. It is not: what the changes are changes to; an image comes from where images come from.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags, chmodat, chownat, fsetxattr, linkat, makedev, mkdirat, mknodat, openat,
    symlinkat, utimensat,
};
use serde::{Deserialize, Serialize};

use super::{
    chunks::{self, ChunkError, ChunkName, MOST_BYTES, SIZES},
    store::ChunkStore,
};
use crate::{
    diff,
    layer::{self, Kind, Node, Stamp, Time},
    range::Range,
};

/// Layers of one snapshot: as many as a sandbox may have.
const MOST_LAYERS: usize = crate::spec::MOST_LAYERS;

/// The longest file: what file systems allow is far more, and an offset beyond is a mistake.
const LONGEST_FILE: u64 = 1 << 46;

/// What is kept of a snapshot's changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Of this form: 1.
    pub version: u32,
    /// Topmost first.
    pub layers: Vec<Vec<Tree>>,
}

/// One tree of a layer: that of the root, or of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tree {
    name: String,
    /// In the order of their paths; so each folder is before what is in it.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: Bytes,
    what: Item,
    mode: u32,
    user: u32,
    group: u32,
    modified: Time,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<(String, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Item {
    File {
        bytes: u64,
        pieces: Vec<Piece>,
    },
    /// Another name of the file which has this number in the tree.
    Name(usize),
    Folder {
        opaque: bool,
    },
    Link(Bytes),
    Gone,
    Pipe,
    Socket,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Piece {
    at: u64,
    bytes: u32,
    chunk: ChunkName,
}

/// Names and values need not be text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    Raw(Vec<u8>),
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::Raw(bytes.to_vec()), |text| Self::Text(text.to_owned()))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Raw(bytes) => bytes,
        }
    }
}

/// What was kept of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Where it begins.
    pub manifest: ChunkName,
    /// Chunks that it is made of.
    pub chunks: usize,
    /// Those which were not there before.
    pub new_chunks: usize,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Writes layers, topmost first, into a store, and reads back every chunk of them, old ones as well.
pub(crate) fn save(store: &dyn ChunkStore, layers: &[PathBuf]) -> Result<Saved, ChunkError> {
    let writing = Writing { store, new: AtomicUsize::new(0), bytes: AtomicU64::new(0) };
    let mut manifest = Manifest { version: 1, layers: Vec::new() };
    for layer in layers {
        manifest.layers.push(writing.layer(layer)?);
    }
    let text = serde_json::to_vec(&manifest).map_err(|error| ChunkError::Store("the manifest".into(), error.into()))?;
    let name = writing.put(&text)?;
    let mut chunks = manifest.chunks();
    chunks.insert(name);
    verify(store, &chunks)?;
    Ok(Saved {
        manifest: name,
        chunks: chunks.len(),
        new_chunks: writing.new.load(Ordering::Relaxed),
        bytes: writing.bytes.load(Ordering::Relaxed),
    })
}

/// Reads chunks and compares each with its name.
fn verify(store: &dyn ChunkStore, chunks: &BTreeSet<ChunkName>) -> Result<(), ChunkError> {
    let names: Vec<ChunkName> = chunks.iter().copied().collect();
    each(&names, |name| chunks::get(store, name, MOST_BYTES).map(drop)).map(drop)
}

/// In parallel, with errors of chunks.
fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R, ChunkError> + Sync) -> Result<Vec<R>, ChunkError> {
    let done = layer::in_parallel(items, |item| work(item).map_err(io::Error::other));
    done.map_err(|error| match error.downcast::<ChunkError>() {
        Ok(error) => error,
        Err(error) => ChunkError::Store("a thread".into(), error),
    })
}

/// A manifest that is in a store.
pub(crate) fn read(store: &dyn ChunkStore, name: &ChunkName) -> Result<Manifest, ChunkError> {
    let damaged = |why: String| ChunkError::Damaged(*name, why);
    let manifest: Manifest =
        serde_json::from_slice(&chunks::get(store, name, MOST_BYTES)?).map_err(|error| damaged(format!("it is no manifest: {error}")))?;
    if manifest.version != 1 || manifest.layers.len() > MOST_LAYERS {
        return Err(damaged("it is a manifest of another form".into()));
    }
    Ok(manifest)
}

impl Manifest {
    /// Every chunk that it names.
    pub fn chunks(&self) -> BTreeSet<ChunkName> {
        let entries = self.layers.iter().flatten().flat_map(|tree| &tree.entries);
        let pieces = entries.filter_map(|entry| match &entry.what {
            Item::File { pieces, .. } => Some(pieces),
            _ => None,
        });
        pieces.flatten().map(|piece| piece.chunk).collect()
    }

    /// Makes one of its layers in an empty folder of ours.
    pub fn restore(&self, layer: usize, store: &dyn ChunkStore, folder: &Path) -> Result<(), ChunkError> {
        for tree in self.layers.get(layer).into_iter().flatten() {
            let failed = |error| ChunkError::Store(format!("the tree {:?} of a manifest", tree.name), error);
            let plain = !tree.name.is_empty() && tree.name.bytes().all(|b| b.is_ascii_alphanumeric());
            if !plain {
                return Err(failed(refused("is no tree's name")));
            }
            let at = folder.join(&tree.name);
            fs::DirBuilder::new()
                .mode(0o700)
                .create(&at)
                .and_then(|()| layer::root(&at))
                .map_err(failed)
                .and_then(|root| tree.restore(store, &root))?;
        }
        Ok(())
    }
}

struct Writing<'a> {
    store: &'a dyn ChunkStore,
    new: AtomicUsize,
    bytes: AtomicU64,
}

impl Writing<'_> {
    fn put(&self, content: &[u8]) -> Result<ChunkName, ChunkError> {
        let (name, new) = chunks::put(self.store, content)?;
        self.new.fetch_add(usize::from(new), Ordering::Relaxed);
        Ok(name)
    }

    fn layer(&self, layer: &Path) -> Result<Vec<Tree>, ChunkError> {
        let failed = || ChunkError::store(layer.display().to_string());
        let names: io::Result<BTreeSet<_>> = fs::read_dir(layer).map_err(failed())?.map(|entry| Ok(entry?.file_name())).collect();
        let mut trees = Vec::new();
        for name in names.map_err(failed())? {
            let root = layer::root(&layer.join(&name)).map_err(failed())?;
            let mut nodes = layer::walk(&root).map_err(failed())?;
            nodes.sort_by(|a, b| a.path.cmp(&b.path));
            let mut first: HashMap<u64, usize> = HashMap::new();
            let numbered: Vec<(&Node, Option<usize>)> = nodes
                .iter()
                .enumerate()
                .map(|(n, node)| {
                    let many = node.links > 1 && node.kind == Kind::File;
                    (node, many.then(|| *first.entry(node.stamp.inode).or_insert(n)).filter(|first| *first != n))
                })
                .collect();
            let entries = each(&numbered, |(node, first)| self.entry(&root, node, *first))?;
            trees.push(Tree { name: name.to_string_lossy().into_owned(), entries });
        }
        Ok(trees)
    }

    fn entry(&self, root: &OwnedFd, node: &Node, first: Option<usize>) -> Result<Entry, ChunkError> {
        let failed = || ChunkError::store(node.path.display().to_string());
        let mut attributes = Vec::new();
        let what = match (node.kind, first) {
            (_, Some(first)) => Item::Name(first),
            (Kind::File, None) => {
                let file = diff::file(root, &node.path).map_err(failed())?;
                let file = OwnedFd::from(file);
                attributes = layer::own_attributes(&file).map_err(failed())?;
                self.file(File::from(file), node.stamp.bytes).map_err(|error| match error {
                    ChunkError::Store(_, error) => failed()(error),
                    other => other,
                })?
            }
            (Kind::Folder { opaque }, None) => {
                let folder = layer::open_in(root, &node.path, OFlags::DIRECTORY | OFlags::RDONLY).map_err(failed())?;
                attributes = layer::own_attributes(&folder).map_err(failed())?;
                Item::Folder { opaque }
            }
            (Kind::Link, None) => Item::Link(Bytes::of(&diff::target(root, &node.path).map_err(failed())?)),
            (Kind::Gone, None) => Item::Gone,
            (Kind::Pipe, None) => Item::Pipe,
            (Kind::Socket, None) => Item::Socket,
        };
        let attributes = attributes.into_iter().map(|(name, value)| (name, Bytes::of(&value))).collect();
        let (mode, user, group, modified) = (node.mode, node.user, node.group, node.stamp.modified);
        Ok(Entry { path: Bytes::of(node.path.as_os_str().as_bytes()), what, mode, user, group, modified, attributes })
    }

    /// Pieces end where the content says, so that a byte put in moves few of them; holes are no pieces.
    fn file(&self, mut file: File, bytes: u64) -> Result<Item, ChunkError> {
        let failed = || ChunkError::store("a file of a layer");
        let [least, wanted, most] = SIZES;
        let mut pieces = Vec::new();
        for (from, length) in layer::extents(&file, bytes).map_err(failed())? {
            file.seek(SeekFrom::Start(from)).map_err(failed())?;
            for piece in fastcdc::v2020::StreamCDC::new((&file).take(length), least, wanted, most) {
                let piece = piece.map_err(|error| failed()(io::Error::other(error.to_string())))?;
                let bytes = u32::try_from(piece.length).unwrap_or(u32::MAX);
                pieces.push(Piece { at: from + piece.offset, bytes, chunk: self.put(&piece.data)? });
            }
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Item::File { bytes, pieces })
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("refused: {why}"))
}

impl Tree {
    fn restore(&self, store: &dyn ChunkStore, root: &OwnedFd) -> Result<(), ChunkError> {
        let failed = |entry: &Entry| ChunkError::store(format!("{:?} of a manifest", String::from_utf8_lossy(entry.path.bytes())));
        let paths = self.entries.iter().map(|entry| entry.place().map_err(failed(entry))).collect::<Result<Vec<_>, _>>()?;
        let all: Vec<(&Entry, &PathBuf)> = self.entries.iter().zip(&paths).collect();
        let (folders, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(entry, _)| matches!(entry.what, Item::Folder { .. }));
        let (names, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|(entry, _)| matches!(entry.what, Item::Name(_)));
        for (entry, path) in folders.iter().filter(|(_, path)| !path.as_os_str().is_empty()) {
            let made = home(root, path).and_then(|(folder, name)| Ok(mkdirat(&folder, name, Mode::RWXU)?));
            made.map_err(failed(entry))?;
        }
        each(&others, |(entry, path)| {
            entry.restore(store, root, path).map_err(|error| match error {
                ChunkError::Store(_, error) => failed(entry)(error),
                other => other,
            })
        })?;
        for (entry, path) in names {
            let Item::Name(first) = entry.what else { continue };
            let file = self.entries.get(first).filter(|first| matches!(first.what, Item::File { .. })).and(paths.get(first));
            let linked = file.ok_or_else(|| refused("another name of what is no file")).and_then(|first| {
                let ((from, old), (to, new)) = (home(root, first)?, home(root, path)?);
                Ok(linkat(&from, old, &to, new, AtFlags::empty())?)
            });
            linked.map_err(failed(entry))?;
        }
        for (entry, path) in folders.into_iter().rev() {
            let dressed = layer::open_in(root, path, OFlags::DIRECTORY | OFlags::RDONLY).and_then(|folder| {
                if entry.what == (Item::Folder { opaque: true }) {
                    layer::make_opaque(&folder)?;
                }
                entry.dress(&folder, path)
            });
            dressed.map_err(failed(entry))?;
        }
        Ok(())
    }
}

/// The folder that something is to be in, through folders only, and its name.
fn home<'a>(root: &OwnedFd, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(refused("the root is a folder")) };
    Ok((layer::open_in(root, folder, OFlags::DIRECTORY | OFlags::RDONLY)?, name))
}

impl Entry {
    /// Its path, if it stays where it is to be, and its ids are of a sandbox.
    fn place(&self) -> io::Result<PathBuf> {
        let path = Path::new(OsStr::from_bytes(self.path.bytes()));
        let plain = path.components().all(|step| matches!(step, Component::Normal(_))) && !self.path.bytes().contains(&0);
        if !plain || path.components().collect::<PathBuf>().as_os_str() != path.as_os_str() {
            return Err(refused("the path does not stay in the layer"));
        }
        if self.user >= Range::LENGTH || self.group >= Range::LENGTH {
            return Err(refused("it belongs to nobody of a sandbox"));
        }
        let own = |name: &str| name.starts_with("user.") || name.starts_with("system.posix_acl_");
        if !self.attributes.iter().all(|(name, _)| own(name)) {
            return Err(refused("an attribute is not its owner's"));
        }
        Ok(path.to_owned())
    }

    fn restore(&self, store: &dyn ChunkStore, root: &OwnedFd, path: &Path) -> Result<(), ChunkError> {
        let failed = || ChunkError::store("here");
        let (folder, name) = home(root, path).map_err(failed())?;
        let kind = match &self.what {
            Item::File { bytes, pieces } => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(&folder, name, flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from).map_err(failed())?;
                fill(store, &file, *bytes, pieces)?;
                return self.dress(&file, path).map_err(failed());
            }
            Item::Link(target) => {
                symlinkat(OsStr::from_bytes(target.bytes()), &folder, name).map_err(io::Error::from).map_err(failed())?;
                return self.dress_by_name(&folder, name).map_err(failed());
            }
            Item::Gone => return layer::white_out(&folder, Path::new(name)).map_err(failed()),
            Item::Pipe => FileType::Fifo,
            Item::Socket => FileType::Socket,
            Item::Folder { .. } | Item::Name(_) => return Ok(()),
        };
        let mode = Mode::from_raw_mode(self.mode & 0o7777);
        let made = mknodat(&folder, name, kind, mode, makedev(0, 0)).map_err(io::Error::from);
        let dressed = made.and_then(|()| self.dress_by_name(&folder, name));
        dressed.and_then(|()| Ok(chmodat(&folder, name, mode, AtFlags::empty())?)).map_err(failed())
    }

    fn dress(&self, target: &OwnedFd, path: &Path) -> io::Result<()> {
        for (name, value) in &self.attributes {
            fsetxattr(target, &**name, value.bytes(), XattrFlags::empty())?;
        }
        let stamp = Stamp { inode: 0, bytes: 0, modified: self.modified, changed: self.modified };
        let (mode, user, group) = (self.mode & 0o7777, self.user, self.group);
        layer::dress(target, &Node { path: path.to_owned(), kind: Kind::File, mode, user, group, stamp, links: 1, kept: 0 })
    }

    fn dress_by_name(&self, folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.group));
        chownat(folder, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(utimensat(folder, name, &layer::times(self.modified), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn fill(store: &dyn ChunkStore, file: &OwnedFd, bytes: u64, pieces: &[Piece]) -> Result<(), ChunkError> {
    let failed = || ChunkError::store("a file");
    if bytes > LONGEST_FILE {
        return Err(failed()(refused("no file is as long")));
    }
    for piece in pieces {
        let content = chunks::get(store, &piece.chunk, MOST_BYTES)?;
        let fits = u64::try_from(content.len()).ok() == Some(piece.bytes.into());
        if !fits || piece.at.checked_add(piece.bytes.into()).is_none_or(|end| end > bytes) {
            return Err(failed()(refused("a piece does not fit its place")));
        }
        let mut written = 0;
        while written < content.len() {
            let at = piece.at + u64::try_from(written).unwrap_or(0);
            written += rustix::io::pwrite(file, &content[written..], at).map_err(io::Error::from).map_err(failed())?;
        }
    }
    rustix::fs::ftruncate(file, bytes).map_err(io::Error::from).map_err(failed())
}
