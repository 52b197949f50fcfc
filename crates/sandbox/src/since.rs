//! What has changed in a tree since it was copied, said as a further layer over that copy. Pure.
//!
//! So a snapshot costs what has changed, and the pause for it does not grow with what has not. Driven by `snapshot`; it is not: the difference of a
//! sandbox to what it began with, which the tree itself says (`diff.rs`).

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use crate::layer::{Copied, Kind, Node, Stamp, Time};

/// A tree as it was when a layer was made of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remembered {
    /// As they were walked: the next walk finds most of them in the same order.
    entries: Vec<(PathBuf, Known)>,
    /// Their places, in the order of paths.
    by_path: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Known {
    kind: Kind,
    mode: u32,
    user: u32,
    group: u32,
    stamp: Stamp,
    /// Whether an equal stamp means an equal file.
    sure: bool,
}

/// How long the kernel may take to show a change in a file's time: clocks of file systems go in steps.
const STEP: i64 = 100_000_000;

impl Remembered {
    /// After a copy of these entries. `synced`: when everything was last begun to be written to the disk before the entries were looked at. A page
    /// that was written to, through a mapping, after that is noticed by the kernel; one that was written to before may go on unnoticed.
    pub(crate) fn of(nodes: &[Node], copied: &Copied, synced: Option<Time>) -> Self {
        let known = |node: &Node| {
            let sure = synced.is_some_and(|synced| is_before(node.stamp.changed, synced)) && !copied.torn.contains(&node.path);
            Known { kind: node.kind, mode: node.mode, user: node.user, group: node.group, stamp: node.stamp, sure }
        };
        let there = nodes.iter().filter(|node| !copied.missed.contains(&node.path));
        let entries: Vec<(PathBuf, Known)> = there.map(|node| (node.path.clone(), known(node))).collect();
        let mut by_path: Vec<u32> = (0..entries.len()).filter_map(|place| u32::try_from(place).ok()).collect();
        by_path.sort_unstable_by_key(|&place| bytes(&entries[place as usize].0));
        Self { entries, by_path }
    }

    /// Whether the copy of this file is still what the file is.
    pub(crate) fn has(&self, node: &Node) -> bool {
        self.place(&node.path).is_some_and(|place| self.entries[place].1.is(node))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn place(&self, path: &Path) -> Option<usize> {
        let found = self.by_path.binary_search_by_key(&bytes(path), |&place| bytes(&self.entries[place as usize].0));
        found.ok().map(|at| self.by_path[at] as usize)
    }

    /// The places of entries that are asked for in about the order of this tree.
    fn places<'a>(&'a self, now: &'a [Node]) -> impl Iterator<Item = Option<usize>> + 'a {
        let mut next = 0;
        now.iter().map(move |node| {
            let expected = self.entries.get(next).filter(|(path, _)| bytes(path) == bytes(&node.path)).map(|_| next);
            let place = expected.or_else(|| self.place(&node.path));
            next = place.map_or(next, |place| place + 1);
            place
        })
    }
}

/// Paths of a tree are written in one way: their bytes say whether they are the same.
fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// Whether it was so long before that no step of a clock can have hidden it.
fn is_before(changed: Time, synced: Time) -> bool {
    let nanos = |time: Time| i128::from(time.0) * 1_000_000_000 + i128::from(time.1);
    nanos(changed) + i128::from(STEP) < nanos(synced)
}

impl Known {
    fn is(&self, node: &Node) -> bool {
        self.sure
            && (self.kind, self.mode, self.user, self.group) == (node.kind, node.mode, node.user, node.group)
            && self.stamp == node.stamp
    }
}

/// What a layer over the copy must hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Entries, each folder before what is in it; marked opaque only where the copy itself is to be hidden.
    pub nodes: Vec<Node>,
    /// Of the copy, hidden by it.
    pub gone: Vec<PathBuf>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.gone.is_empty()
    }
}

/// From the copy to now. `now` has each folder before what is in it. `None`: no layer over the copy can say it.
pub(crate) fn since(before: &Remembered, now: &[Node]) -> Option<Changes> {
    // Nothing is hashed but folders: what has not changed costs a comparison.
    let folders: HashMap<&Path, usize> = (0..now.len()).filter(|&at| now[at].is_folder()).map(|at| (&*now[at].path, at)).collect();
    let mut hidden: HashSet<&Path> = HashSet::new();
    let mut said: Vec<Option<bool>> = vec![None; now.len()];
    let mut found = vec![false; before.entries.len()];
    for ((at, node), place) in now.iter().enumerate().zip(before.places(now)) {
        if let Some(place) = place {
            found[place] = true;
        }
        let under = !hidden.is_empty() && node.path.parent().is_some_and(|folder| hidden.contains(folder));
        let old = place.filter(|_| !under).map(|place| &before.entries[place].1);
        if under && node.is_folder() {
            hidden.insert(&node.path);
        }
        said[at] = match (old, old.map(|old| old.kind), node.kind) {
            (Some(old), ..) if old.is(node) => continue,
            (_, Some(Kind::Folder { opaque: false }), Kind::Folder { opaque: true }) => {
                hidden.insert(&node.path);
                Some(true)
            }
            (_, Some(Kind::Folder { opaque: true }), Kind::Folder { opaque: false }) => return None,
            // The copy's own says that it is opaque: said once more it would hide the copy.
            (_, Some(Kind::Folder { .. }), Kind::Folder { .. }) => Some(false),
            (_, _, Kind::Folder { opaque }) => Some(opaque),
            _ => Some(false),
        };
    }
    let gone = gone(before, &found, &folders, &hidden)?;
    let changed: Vec<&Path> = (0..now.len()).filter(|&at| said[at].is_some()).map(|at| &*now[at].path).collect();
    for path in changed.into_iter().chain(gone.iter().map(PathBuf::as_path)) {
        for folder in path.ancestors().skip(1) {
            let folder = *folders.get(folder)?;
            if said[folder].is_some() {
                break;
            }
            said[folder] = Some(false);
        }
    }
    let nodes = now.iter().zip(said).filter_map(|(node, said)| {
        let opaque = said?;
        Some(if node.is_folder() { Node { kind: Kind::Folder { opaque }, ..node.clone() } } else { node.clone() })
    });
    Some(Changes { nodes: nodes.collect(), gone })
}

/// The topmost of what was there and was not found.
fn gone(before: &Remembered, found: &[bool], folders: &HashMap<&Path, usize>, hidden: &HashSet<&Path>) -> Option<Vec<PathBuf>> {
    let mut gone = Vec::new();
    for ((path, old), _) in before.entries.iter().zip(found).filter(|(_, found)| !**found) {
        let folder = path.parent()?;
        if !folders.contains_key(folder) || hidden.contains(folder) {
            // With its folder.
            continue;
        }
        if old.kind == Kind::Gone {
            // What is below the copy would have to come to light again.
            return None;
        }
        gone.push(path.clone());
    }
    gone.sort_unstable();
    Some(gone)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn node(path: &str, kind: Kind, changed: i64) -> Node {
        let stamp = Stamp { inode: 1, bytes: 0, modified: (changed, 0), changed: (changed, 0) };
        Node { path: path.into(), kind, mode: 0o644, user: 0, group: 0, stamp, links: 1, kept: 0 }
    }

    /// What an overlay shows of layers, topmost first; the value is the time that tells contents apart.
    fn shown(layers: &[Vec<Node>]) -> BTreeMap<PathBuf, (bool, i64)> {
        let mut seen: BTreeMap<PathBuf, (bool, i64)> = BTreeMap::new();
        let mut closed: HashSet<PathBuf> = HashSet::new();
        for layer in layers {
            let mut newly: HashSet<PathBuf> = HashSet::new();
            for node in layer {
                let open = |path: &Path| path.ancestors().all(|above| !closed.contains(above));
                if closed.contains(&node.path) || node.path.parent().is_some_and(|folder| !open(folder)) {
                    continue;
                }
                // A folder that a folder above covers stays open: it is merged.
                match node.kind {
                    Kind::Gone => drop(newly.insert(node.path.clone())),
                    Kind::Folder { opaque } => {
                        seen.entry(node.path.clone()).or_insert((true, 0));
                        if opaque {
                            newly.insert(node.path.join("\u{0}"));
                        }
                    }
                    _ => {
                        if !seen.contains_key(&node.path) {
                            seen.insert(node.path.clone(), (false, node.stamp.changed.0));
                        }
                        newly.insert(node.path.clone());
                    }
                }
            }
            // An opaque folder closes what is in it, and not itself.
            for path in newly {
                if path.file_name().is_some_and(|name| name == "\u{0}") {
                    let folder = path.parent().unwrap();
                    closed.insert(folder.join("a"));
                    closed.insert(folder.join("b"));
                    closed.insert(folder.join("c"));
                } else {
                    closed.insert(path);
                }
            }
        }
        seen
    }

    /// An upper over a layer below that has every path of three letters as a folder, as the kernel could have left it: one depth of folders.
    fn uppers() -> impl Strategy<Value = Vec<Node>> {
        let leaf = prop_oneof![Just(None), Just(Some(Kind::File)), Just(Some(Kind::Gone))];
        let folder = (any::<bool>(), proptest::collection::vec((leaf, 0..3i64), 3));
        let top = prop_oneof![Just(None), Just(Some(Kind::File)), Just(Some(Kind::Gone)), Just(Some(Kind::Folder { opaque: false }))];
        proptest::collection::vec((top, folder, 0..3i64), 3).prop_map(|tops| {
            let mut nodes = vec![node("", Kind::Folder { opaque: false }, 0)];
            for (name, (top, (opaque, leaves), time)) in ["a", "b", "c"].iter().zip(tops) {
                match top {
                    Some(Kind::Folder { .. }) => {
                        nodes.push(node(name, Kind::Folder { opaque }, time));
                        for (leaf, (kind, time)) in ["a", "b", "c"].iter().zip(leaves) {
                            nodes.extend(kind.map(|kind| node(&format!("{name}/{leaf}"), kind, time)));
                        }
                    }
                    Some(kind) => nodes.push(node(name, kind, time)),
                    None => {}
                }
            }
            nodes
        })
    }

    /// Has nothing by the name of `c`.
    fn below() -> Vec<Node> {
        let mut nodes = vec![node("", Kind::Folder { opaque: false }, 0)];
        for name in ["a", "b"] {
            nodes.push(node(name, Kind::Folder { opaque: false }, 0));
            nodes.extend(["a", "b"].map(|leaf| node(&format!("{name}/{leaf}"), Kind::File, -1)));
        }
        nodes
    }

    /// Whether an overlay can have made the one of the other: what hides something of below hides it for good.
    fn can_follow(before: &[Node], now: &[Node]) -> bool {
        let find = |tree: &[Node], path: &Path| tree.iter().find(|node| node.path == path).map(|node| node.kind);
        let open = Some(Kind::Folder { opaque: false });
        below().iter().skip(1).all(|low| {
            let (was, is) = (find(before, &low.path), find(now, &low.path));
            let there = low.path.parent().is_none_or(|folder| find(now, folder) == open);
            let appeared = is.is_none() && was.is_some();
            let merged = is == open && !matches!(was, None | Some(Kind::Folder { .. }));
            !there || !(appeared || merged)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::default() })]
        /// Where a layer can say the change, that layer over the copy shows what the tree itself shows.
        #[test]
        fn the_copy_and_the_changes_over_it_show_the_tree(before in uppers(), now in uppers()) {
            prop_assume!(can_follow(&before, &now));
            let remembered = Remembered::of(&before, &Copied::default(), Some((1_000, 0)));
            if let Some(changes) = since(&remembered, &now) {
                let mut delta = changes.nodes;
                delta.extend(changes.gone.iter().map(|path| node(path.to_str().unwrap(), Kind::Gone, 0)));
                prop_assert_eq!(shown(&[delta, before, below()]), shown(&[now, below()]));
            }
        }

        #[test]
        fn an_unchanged_tree_has_no_changes(tree in uppers()) {
            let remembered = Remembered::of(&tree, &Copied::default(), Some((1_000, 0)));
            prop_assert!(since(&remembered, &tree).unwrap().is_empty());
        }
    }

    #[test]
    fn what_is_not_sure_is_copied_again() {
        let tree = vec![node("", Kind::Folder { opaque: false }, 0), node("a", Kind::File, 10), node("b", Kind::File, 10)];
        let torn = Copied { torn: ["a".into()].into(), missed: HashSet::new() };
        let paths = |remembered: &Remembered| -> Vec<PathBuf> {
            since(remembered, &tree).unwrap().nodes.into_iter().map(|node| node.path).filter(|path| path.parent().is_some()).collect()
        };
        assert_eq!(paths(&Remembered::of(&tree, &torn, Some((1_000, 0)))), [PathBuf::from("a")]);
        assert_eq!(paths(&Remembered::of(&tree, &Copied::default(), Some((10, 50_000_000)))).len(), 2, "within a step of the clock");
        assert_eq!(paths(&Remembered::of(&tree, &Copied::default(), None)).len(), 2);
    }
}
