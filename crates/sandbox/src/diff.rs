//! What a sandbox has changed of what it began with, as its overlay's upper says it.
//!
//! It is not: what has changed between two moments (`since.rs`), nor what becomes of it elsewhere (`merge.rs`).

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{OFlags, readlinkat};
use serde::{Deserialize, Serialize};

use crate::{
    layer::{self, Kind, Node},
    spec::Place,
    stack::{Seen, Stack},
    wire::EntryKind,
};

/// What became of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It was not there.
    Added,
    /// Its content, its kind, its owner or its mode.
    Changed,
    /// With all that was in it.
    Removed,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Absolute, as the sandbox sees it; bytes that are no text are replaced.
    pub path: String,
    /// What became of it.
    pub what: What,
    /// What it is, or was.
    pub kind: EntryKind,
    /// Of a file: bytes, now or before it was removed.
    pub bytes: u64,
    /// Permission bits.
    pub mode: u32,
}

/// One tree of a sandbox: what it changed, and what is below that.
pub(crate) struct Tree {
    /// Where it is seen: empty for the root, else a part's name.
    pub at: PathBuf,
    pub upper: OwnedFd,
    pub below: Stack,
}

/// One difference, with what is needed to carry it elsewhere.
pub(crate) struct Difference {
    /// The number of its tree.
    pub tree: usize,
    /// In its tree.
    pub path: PathBuf,
    pub what: What,
    /// What is there now. `None`: nothing.
    pub now: Option<Node>,
    /// What was there.
    pub before: Option<Seen>,
}

/// Every tree of a sandbox that it could change.
pub(crate) fn trees(place: &Place) -> io::Result<Vec<Tree>> {
    let mut trees = Vec::new();
    for (at, name, layers) in lowers(place) {
        match layer::root(&place.folder.join("fs").join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            upper => trees.push(Tree { at: at.into(), upper: upper?, below: Stack::open(&layers)? }),
        }
    }
    Ok(trees)
}

/// Where each tree is seen, its name among the changes, and its layers.
pub(crate) fn lowers(place: &Place) -> Vec<(&str, &str, Vec<PathBuf>)> {
    let mut all = vec![("", "root", place.rootfs.layers.clone())];
    for part in &place.rootfs.parts {
        let layers = part.layers.iter().chain([&part.source]).cloned().collect();
        all.push((&part.name, &part.name, layers));
    }
    all
}

/// All differences of all trees, in the order of their paths; of what was removed only the topmost.
pub(crate) fn differences(trees: &[Tree]) -> io::Result<Vec<Difference>> {
    let mut all = Vec::new();
    for (n, tree) in trees.iter().enumerate() {
        tree.differences(n, &mut all)?;
    }
    all.sort_by_cached_key(|difference| trees[difference.tree].at.join(&difference.path));
    Ok(all)
}

impl Tree {
    fn differences(&self, tree: usize, all: &mut Vec<Difference>) -> io::Result<()> {
        let nodes = layer::walk(&self.upper)?;
        let there: HashSet<&Path> = nodes.iter().map(|node| &*node.path).collect();
        let mut add = |path: &Path, what, now: Option<&Node>, before: Option<Seen>| {
            all.push(Difference { tree, path: path.to_owned(), what, now: now.cloned(), before });
        };
        // The root itself is made by whoever starts the sandbox.
        for node in nodes.iter().filter(|node| !node.path.as_os_str().is_empty()) {
            let before = self.below.look(&node.path)?;
            match (node.kind, before) {
                (Kind::Gone, None) => {}
                (Kind::Gone, before) => add(&node.path, What::Removed, None, before),
                (_, None) => add(&node.path, What::Added, Some(node), None),
                (_, Some(before)) => {
                    if let Kind::Folder { opaque: true } = node.kind {
                        for path in self.below.names(&node.path)?.iter().filter(|path| !there.contains(path.as_path())) {
                            add(path, What::Removed, None, self.below.look(path)?);
                        }
                    }
                    if !self.is_as_before(node, &before)? {
                        add(&node.path, What::Changed, Some(node), Some(before));
                    }
                }
            }
        }
        Ok(())
    }

    fn is_as_before(&self, now: &Node, before: &Seen) -> io::Result<bool> {
        let was = &before.node;
        if (now.mode, now.user, now.group) != (was.mode, was.user, was.group) {
            return Ok(false);
        }
        let below = self.below.root(before.layer);
        match (now.kind, was.kind) {
            (Kind::Folder { .. }, Kind::Folder { .. }) => Ok(true),
            (Kind::File, Kind::File) => {
                Ok(now.stamp.bytes == was.stamp.bytes && same_bytes(file(&self.upper, &now.path)?, file(below, &was.path)?)?)
            }
            (Kind::Link, Kind::Link) => Ok(target(&self.upper, &now.path)? == target(below, &was.path)?),
            (now, was) => Ok(now == was),
        }
    }
}

impl Difference {
    pub(crate) fn change(&self, trees: &[Tree]) -> Change {
        let about = self.now.as_ref().or(self.before.as_ref().map(|before| &before.node));
        Change {
            path: self.seen_at(trees).to_string_lossy().into_owned(),
            what: self.what,
            kind: about.map_or(EntryKind::Other, kind),
            bytes: about.filter(|node| node.kind == Kind::File).map_or(0, |node| node.stamp.bytes),
            mode: about.map_or(0, |node| node.mode),
        }
    }

    pub(crate) fn seen_at(&self, trees: &[Tree]) -> PathBuf {
        Path::new("/").join(&trees[self.tree].at).join(&self.path)
    }
}

pub(crate) fn kind(node: &Node) -> EntryKind {
    match node.kind {
        Kind::File => EntryKind::File,
        Kind::Folder { .. } => EntryKind::Folder,
        Kind::Link => EntryKind::Link,
        Kind::Gone | Kind::Pipe | Kind::Socket => EntryKind::Other,
    }
}

pub(crate) fn file(root: &OwnedFd, path: &Path) -> io::Result<File> {
    let file = File::from(layer::open_in(root, path, OFlags::RDONLY)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no file any more", path.display())));
    }
    Ok(file)
}

pub(crate) fn target(root: &OwnedFd, path: &Path) -> io::Result<Vec<u8>> {
    Ok(readlinkat(layer::open_in(root, path, OFlags::PATH)?, "", Vec::new())?.into_bytes())
}

fn same_bytes(mut one: File, mut other: File) -> io::Result<bool> {
    let (mut a, mut b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = one.read(&mut a)?;
        if read == 0 {
            return Ok(other.read(&mut b[..1])? == 0);
        }
        if let Err(error) = other.read_exact(&mut b[..read]) {
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(false) } else { Err(error) };
        }
        if a[..read] != b[..read] {
            return Ok(false);
        }
    }
}
