//! Takes a snapshot of a sandbox's changes: what is copied while it runs, and what while it stands still.
//!
//! Most is copied while the sandbox goes on, with whatever tears that makes; then it stands still, and what has changed meanwhile is laid over
//! that copy. The copy is kept for the next snapshots, which lay their own changes over it: so a snapshot costs what has changed since the last.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    cgroup::Group,
    layer::{self, Copied, Node, Time},
    since::{Changes, Remembered, since},
    spec::Place,
    stack::flatten,
};

/// Changes that are copied at once while the sandbox stands still; with more, most are copied before.
const FEW_FILES: usize = 500;
const FEW_BYTES: u64 = 16 << 20;

/// One copy of a sandbox's changes, and what it was a copy of.
#[derive(Debug)]
pub(crate) struct Copy {
    folder: PathBuf,
    trees: BTreeMap<String, Remembered>,
}

/// What an earlier snapshot left for the next one.
#[derive(Debug)]
pub(crate) struct Shadow {
    /// Of everything, as it was at one time or another.
    base: Copy,
    /// Of what had changed since, in the last snapshot.
    latest: Option<Copy>,
    /// When everything was last begun to be written to the disk.
    synced: Time,
}

/// When what was taken has to be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durable {
    /// When it is there: it is promised to be kept.
    Now,
    /// Soon after: whoever asked sees to it ([`bring_to_disk`]), and has it written down until then.
    Soon,
}

/// A snapshot that was taken: its layers of changes, topmost first, and how long the sandbox stood still.
#[derive(Debug)]
pub(crate) struct Taken {
    pub layers: Vec<PathBuf>,
    pub paused: Duration,
}

/// What a snapshot is taken of.
pub(crate) struct Taking<'a> {
    /// Where layers are kept.
    pub layers: &'a Path,
    pub place: &'a Place,
    /// What is to stand still meanwhile. `None`: it does already.
    pub group: Option<&'a Group>,
    pub durable: Durable,
}

/// A tree of changes, as it was found.
struct Found {
    name: String,
    root: OwnedFd,
    nodes: Vec<Node>,
}

/// A sandbox that stands still as long as this is there.
struct Still<'a> {
    group: Option<&'a Group>,
    since: Instant,
}

impl<'a> Still<'a> {
    fn hold(group: Option<&'a Group>) -> io::Result<Self> {
        let still = Self { group, since: Instant::now() };
        // Half frozen, it is let go on again as well.
        group.map_or(Ok(()), Group::freeze).map(|()| still)
    }

    fn let_go(mut self) -> io::Result<Duration> {
        let paused = self.since.elapsed();
        self.group.take().map_or(Ok(Duration::ZERO), |group| group.thaw().map(|()| paused))
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // What failed before is what is reported; a group that cannot be thawed is gone.
            let _ = group.thaw();
        }
    }
}

impl Taking<'_> {
    /// Leaves in `shadow` what the next snapshot of the same sandbox can use.
    pub fn take(&self, shadow: &mut Option<Shadow>) -> io::Result<Taken> {
        shadow.take_if(|shadow| !shadow.base.folder.is_dir());
        if shadow.is_none() && self.group.is_some() && !few(&self.find()?) {
            *shadow = Some(self.copy_while_it_runs(None)?);
        }
        for last in [false, true] {
            let still = Still::hold(self.group)?;
            let found = self.find()?;
            let changes = shadow.as_ref().and_then(|shadow| shadow.changes(&found));
            if let (Some(before), Some(changes)) = (shadow.as_mut(), changes)
                && (last || before.is_worth_it(&changes))
            {
                let over = self.lay_over(before, &found, changes)?;
                let paused = still.let_go()?;
                return self.done(before, over, paused);
            }
            if !last && self.group.is_some() && !few(&found) {
                drop((still, found));
                *shadow = Some(self.copy_while_it_runs(shadow.take())?);
                continue;
            }
            let whole = self.copy(&found, shadow.as_ref(), None)?;
            let paused = still.let_go()?;
            let synced = shadow.take().map_or((0, 0), |shadow| shadow.synced);
            let whole = shadow.insert(Shadow { base: whole, latest: None, synced });
            return self.done(whole, None, paused);
        }
        Err(io::Error::other("a snapshot was taken twice"))
    }

    /// With names that last, and on the disk where that is to be now.
    fn done(&self, shadow: &mut Shadow, over: Option<Copy>, paused: Duration) -> io::Result<Taken> {
        if self.durable == Durable::Now {
            shadow.synced = now();
            layer::sync(self.layers)?;
        }
        keep(&mut shadow.base)?;
        let mut layers = vec![shadow.base.folder.clone()];
        if let Some(mut over) = over {
            keep(&mut over)?;
            layers.insert(0, over.folder.clone());
            shadow.latest = Some(over);
        }
        if self.durable == Durable::Now {
            fs::File::open(self.layers)?.sync_all()?;
        }
        Ok(Taken { layers, paused })
    }

    fn find(&self) -> io::Result<Vec<Found>> {
        let parts = self.place.rootfs.parts.iter().map(|part| part.name.as_str());
        let mut found = Vec::new();
        for name in std::iter::once("root").chain(parts) {
            let root = match layer::root(&self.place.folder.join("fs").join(name)) {
                // It has not been started yet, or its profile has no changes there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            found.push(Found { name: name.to_owned(), nodes: layer::walk(&root)?, root });
        }
        Ok(found)
    }

    fn copy_while_it_runs(&self, before: Option<Shadow>) -> io::Result<Shadow> {
        let synced = now();
        layer::sync(self.layers)?;
        let base = self.copy(&self.find()?, before.as_ref(), Some(synced))?;
        Ok(Shadow { base, latest: None, synced })
    }

    /// All that was found. What an earlier copy has is linked to it.
    fn copy(&self, found: &[Found], before: Option<&Shadow>, synced: Option<Time>) -> io::Result<Copy> {
        let mut copy = self.begin()?;
        let synced = synced.or(before.map(|before| before.synced));
        for tree in found {
            let earlier = before.map(|before| before.roots(&tree.name)).transpose()?;
            let copied = copy.tree(tree, &tree.nodes, &[], earlier.as_ref())?;
            copy.trees.insert(tree.name.clone(), Remembered::of(&tree.nodes, &copied, synced));
        }
        Ok(copy)
    }

    fn lay_over(&self, before: &Shadow, found: &[Found], changes: Vec<Changes>) -> io::Result<Option<Copy>> {
        if changes.iter().all(Changes::is_empty) {
            return Ok(None);
        }
        let mut copy = self.begin()?;
        for (tree, mut changes) in found.iter().zip(changes) {
            // Every layer has a root, so that the roots say in which order layers lie.
            match (changes.is_empty(), tree.name == "root") {
                (true, false) => continue,
                (true, true) => changes.nodes.extend(tree.nodes.first().cloned()),
                (false, _) => {}
            }
            let earlier = before.roots(&tree.name)?;
            let copied = copy.tree(tree, &changes.nodes, &changes.gone, Some(&earlier))?;
            copy.trees.insert(tree.name.clone(), Remembered::of(&changes.nodes, &copied, Some(before.synced)));
        }
        Ok(Some(copy))
    }

    fn begin(&self) -> io::Result<Copy> {
        Ok(Copy { folder: new_layer(self.layers)?, trees: BTreeMap::new() })
    }
}

/// Earlier copies of a tree.
struct Roots<'a> {
    copies: Vec<(OwnedFd, &'a Remembered)>,
}

impl Shadow {
    /// What the next snapshot counts on, though perhaps nobody names it any more.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.latest.iter().chain([&self.base]).map(|copy| copy.folder.as_path())
    }

    /// Everything was written to the disk, which was begun then.
    pub fn synced_at(&mut self, since: Time) {
        self.synced = self.synced.max(since);
    }

    fn changes(&self, found: &[Found]) -> Option<Vec<Changes>> {
        let nothing = Remembered::default();
        found.iter().map(|tree| since(self.base.trees.get(&tree.name).unwrap_or(&nothing), &tree.nodes)).collect()
    }

    /// Whether what has changed is less than everything.
    fn is_worth_it(&self, changes: &[Changes]) -> bool {
        let files: usize = changes.iter().map(|changes| changes.nodes.len() + changes.gone.len()).sum();
        let all: usize = self.base.trees.values().map(Remembered::len).sum();
        let bytes: u64 = changes.iter().flat_map(|changes| &changes.nodes).map(|node| node.kept).sum();
        files <= FEW_FILES.max(all / 4) && bytes <= 4 * FEW_BYTES
    }

    fn roots(&self, tree: &str) -> io::Result<Roots<'_>> {
        let mut copies = Vec::new();
        for copy in self.latest.iter().chain([&self.base]) {
            if let (Some(remembered), Ok(root)) = (copy.trees.get(tree), layer::root(&copy.folder.join(tree))) {
                copies.push((root, remembered));
            }
        }
        Ok(Roots { copies })
    }
}

impl Copy {
    fn tree(&self, tree: &Found, nodes: &[Node], gone: &[PathBuf], earlier: Option<&Roots<'_>>) -> io::Result<Copied> {
        let folder = self.folder.join(&tree.name);
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let find = |node: &Node| {
            let copies = earlier.map(|earlier| &earlier.copies);
            copies.into_iter().flatten().find(|(_, remembered)| remembered.has(node)).map(|(root, _)| root)
        };
        layer::copy(&tree.root, nodes, gone, &layer::root(&folder)?, &find)
    }
}

/// A copy that is named in a record is not one that was interrupted.
fn keep(copy: &mut Copy) -> io::Result<()> {
    if copy.folder.extension().is_some() {
        let kept = copy.folder.with_extension("");
        fs::rename(&copy.folder, &kept)?;
        copy.folder = kept;
    }
    Ok(())
}

fn few(found: &[Found]) -> bool {
    let files: usize = found.iter().map(|tree| tree.nodes.len()).sum();
    let bytes: u64 = found.iter().flat_map(|tree| &tree.nodes).map(|node| node.kept).sum();
    files <= FEW_FILES && bytes <= FEW_BYTES
}

/// Brings to the disk whatever was taken so far, names included; when that was begun.
pub(crate) fn bring_to_disk(layers: &Path) -> io::Result<Time> {
    let since = now();
    layer::sync(layers)?;
    Ok(since)
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

/// Layers of changes, topmost first, made one.
pub(crate) fn made_one(layers: &Path, stack: &[PathBuf]) -> io::Result<PathBuf> {
    let folder = new_layer(layers)?;
    let mut names = BTreeSet::new();
    for layer in stack {
        for entry in fs::read_dir(layer)? {
            names.insert(entry?.file_name());
        }
    }
    for name in names {
        let trees: Vec<PathBuf> = stack.iter().map(|layer| layer.join(&name)).filter(|tree| tree.is_dir()).collect();
        let target = folder.join(&name);
        fs::DirBuilder::new().mode(0o700).create(&target)?;
        flatten(&trees, &target)?;
    }
    keep_all(layers, vec![folder.clone()])?;
    Ok(folder.with_extension(""))
}

/// The folder of a layer that is being made.
pub(crate) fn new_layer(layers: &Path) -> io::Result<PathBuf> {
    let folder = layers.join(format!("c{}.new", super::random_text()?));
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

/// Layers that are whole, under names that last, on the disk.
pub(crate) fn keep_all(layers: &Path, made: Vec<PathBuf>) -> io::Result<Vec<PathBuf>> {
    layer::sync(layers)?;
    let mut kept = Vec::new();
    for folder in made {
        let name = folder.with_extension("");
        fs::rename(&folder, &name)?;
        kept.push(name);
    }
    fs::File::open(layers)?.sync_all()?;
    Ok(kept)
}
