//! Layers as an overlay shows them, without mounting any: to look something up, to compare, and to make one layer of many.
//!
//! The kernel's rules: what is higher hides what is lower; folders are merged until one is opaque; what is gone hides all below. Driven by `diff`,
//! `merge` and `snapshot`. It is not: what a sandbox itself reads; that is the kernel's overlay.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Mutex,
};

use crate::layer::{self, Kind, Node};

/// Layers, topmost first.
pub(crate) struct Stack {
    layers: Vec<OwnedFd>,
    /// Of folders: the layers that are merged there. They never change, but for the topmost of a running sandbox.
    folders: Option<Mutex<HashMap<PathBuf, Vec<usize>>>>,
}

/// Something in a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The layer it is in.
    pub layer: usize,
    pub node: Node,
}

impl Stack {
    /// Of layers that nobody changes meanwhile.
    pub fn open(layers: &[PathBuf]) -> io::Result<Self> {
        Ok(Self { layers: layers.iter().map(|layer| layer::root(layer)).collect::<io::Result<_>>()?, folders: Some(Mutex::default()) })
    }

    /// Of layers whose topmost is being written to; one that is not there yet has nothing in it.
    pub fn live(top: &Path, layers: &[PathBuf]) -> io::Result<Self> {
        let mut all = Vec::new();
        match layer::root(top) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => all.push(other?),
        }
        all.extend(Self::open(layers)?.layers);
        Ok(Self { layers: all, folders: None })
    }

    /// The root of one layer.
    pub fn root(&self, layer: usize) -> &OwnedFd {
        &self.layers[layer]
    }

    /// What is seen at a path, from the root. Of a folder: the topmost, which its attributes are of.
    pub fn look(&self, path: &Path) -> io::Result<Option<Seen>> {
        let mut open: Vec<usize> = (0..self.layers.len()).collect();
        if let Some(folder) = path.parent() {
            open = self.merged(folder)?;
        }
        Ok(self.through(&open, path)?.0)
    }

    /// The layers that have a folder there which is seen.
    fn merged(&self, folder: &Path) -> io::Result<Vec<usize>> {
        let known = |folders: &Mutex<HashMap<PathBuf, Vec<usize>>>| crate::sandboxes::lock(folders).get(folder).cloned();
        if let Some(known) = self.folders.as_ref().and_then(known) {
            return Ok(known);
        }
        let above = match folder.parent() {
            Some(above) => self.merged(above)?,
            None => (0..self.layers.len()).collect(),
        };
        let open = self.through(&above, folder)?.1;
        if let Some(folders) = &self.folders {
            crate::sandboxes::lock(folders).insert(folder.to_owned(), open.clone());
        }
        Ok(open)
    }

    /// From the topmost of these layers down: what is seen first, and, if that is a folder, the layers it is merged of.
    fn through(&self, layers: &[usize], path: &Path) -> io::Result<(Option<Seen>, Vec<usize>)> {
        let (mut first, mut merged) = (None, Vec::new());
        for &layer in layers {
            let Some(node) = layer::look(&self.layers[layer], path)? else { continue };
            match node.kind {
                Kind::Folder { opaque } => {
                    merged.push(layer);
                    first.get_or_insert(Seen { layer, node });
                    if opaque {
                        break;
                    }
                }
                Kind::Gone => break,
                _ => {
                    first.get_or_insert(Seen { layer, node });
                    break;
                }
            }
        }
        Ok((first, merged))
    }

    /// The names in a folder, in order.
    pub fn names(&self, folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
        let mut names = BTreeSet::new();
        for layer in self.merged(folder)? {
            for node in layer::children(&self.layers[layer], folder)?.1 {
                names.insert(node.path);
            }
        }
        let mut seen = BTreeSet::new();
        for path in names {
            if self.look(&path)?.is_some() {
                seen.insert(path);
            }
        }
        Ok(seen)
    }
}

/// What many layers show together, and hide of what is below them: each path with the layer it is in. Folders before what is in them.
pub(crate) fn merged(layers: &[Vec<Node>]) -> Vec<(usize, Node)> {
    let mut seen: BTreeMap<&Path, (usize, Node)> = BTreeMap::new();
    // Paths which lower layers have no part in, and folders inside which they have none.
    let (mut closed, mut full): (HashSet<&Path>, HashSet<&Path>) = Default::default();
    for (n, layer) in layers.iter().enumerate() {
        let (mut closes, mut fills) = (Vec::new(), Vec::new());
        for node in layer {
            let hidden = |path: &Path| closed.contains(path) || path.parent().is_some_and(|folder| full.contains(folder));
            if node.path.ancestors().any(hidden) {
                continue;
            }
            if let Kind::Folder { opaque } = node.kind {
                let (_, shown) = seen.entry(&node.path).or_insert_with(|| (n, node.clone()));
                if opaque {
                    shown.kind = Kind::Folder { opaque: true };
                    fills.push(&*node.path);
                }
                continue;
            }
            match seen.get_mut(&*node.path) {
                // A folder over something that is none: it hides what is below that.
                Some((_, shown)) => {
                    shown.kind = Kind::Folder { opaque: true };
                }
                None => drop(seen.insert(&node.path, (n, node.clone()))),
            }
            closes.push(&*node.path);
        }
        closed.extend(closes);
        full.extend(fills);
    }
    seen.into_values().collect()
}

/// Makes one tree, in an empty folder, that shows and hides what these together do. Files are linked, not copied.
pub(crate) fn flatten(trees: &[PathBuf], target: &Path) -> io::Result<()> {
    let roots: Vec<OwnedFd> = trees.iter().map(|tree| layer::root(tree)).collect::<io::Result<_>>()?;
    let walked: Vec<Vec<Node>> = roots.iter().map(layer::walk).collect::<io::Result<_>>()?;
    layer::assemble(&roots, &merged(&walked), &layer::root(target)?)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn tree(folder: &Path, paths: &[&str]) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        for path in paths {
            let (path, content) = path.split_once('=').unwrap_or((path, ""));
            let at = folder.join(path.trim_end_matches('/'));
            if path.ends_with('/') {
                fs::create_dir_all(at).unwrap();
            } else {
                fs::create_dir_all(at.parent().unwrap()).unwrap();
                fs::write(at, content).unwrap();
            }
        }
        folder.to_owned()
    }

    /// Whiteouts and opaque folders are root's to make.
    fn is_root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            println!("passed over: whiteouts are made by root");
        }
        root
    }

    #[test]
    fn a_stack_shows_what_an_overlay_would() {
        if !is_root() {
            return;
        }
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let low = tree(&folder.path().join("low"), &["a/x=low", "a/y=low", "b/z=low", "c=low", "d/e/f=low", "g/h=low"]);
        let middle = tree(&folder.path().join("middle"), &["a/x=middle", "b/", "d/n=middle"]);
        let high = tree(&folder.path().join("high"), &["a/w=high", "g=high"]);
        let at = |path: &Path| layer::root(path).unwrap();
        rustix::fs::setxattr(middle.join("b"), "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();
        layer::white_out(&at(&middle), "c".as_ref()).unwrap();
        layer::white_out(&at(&high), "a/y".as_ref()).unwrap();
        layer::white_out(&at(&high), "d".as_ref()).unwrap();
        let stack = Stack::open(&[high.clone(), middle.clone(), low.clone()]).unwrap();
        let which = |path: &str| stack.look(path.as_ref()).unwrap().map(|seen| seen.layer);
        let seen = ["a", "a/x", "a/y", "a/w", "b", "b/z", "c", "d", "d/e/f", "d/n", "g", "g/h"].map(which);
        assert_eq!(seen, [Some(0), Some(1), None, Some(0), Some(1), None, None, None, None, None, Some(0), None]);
        let names: Vec<_> = stack.names("a".as_ref()).unwrap().into_iter().collect();
        assert_eq!(names, [PathBuf::from("a/w"), "a/x".into()]);

        let one = folder.path().join("one");
        fs::create_dir(&one).unwrap();
        flatten(&[high, middle], &one).unwrap();
        let flat = Stack::open(&[one.clone(), low]).unwrap();
        for path in ["", "a", "a/x", "a/y", "a/w", "b", "b/z", "c", "d", "d/e", "d/e/f", "d/n", "g", "g/h"] {
            let content = |stack: &Stack, seen: Option<Seen>| {
                seen.map(|seen| match seen.node.kind {
                    Kind::File => {
                        let mut text = String::new();
                        let file = layer::open_in(stack.root(seen.layer), path.as_ref(), rustix::fs::OFlags::RDONLY).unwrap();
                        io::Read::read_to_string(&mut fs::File::from(file), &mut text).unwrap();
                        text
                    }
                    _ => "folder".to_owned(),
                })
            };
            let (many, one) = (stack.look(path.as_ref()).unwrap(), flat.look(path.as_ref()).unwrap());
            assert_eq!(content(&stack, many), content(&flat, one), "{path}");
        }
    }

    #[test]
    fn nothing_is_looked_up_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let low = tree(&folder.path().join("low"), &["real/secret=x"]);
        symlink(folder.path().join("low/real"), folder.path().join("low/link")).unwrap();
        symlink("/", folder.path().join("low/root")).unwrap();
        let stack = Stack::open(&[low]).unwrap();
        assert_eq!(stack.look("link".as_ref()).unwrap().unwrap().node.kind, Kind::Link);
        for path in ["link/secret", "root/etc/passwd", "root/etc"] {
            assert_eq!(stack.look(path.as_ref()).unwrap(), None, "{path}");
        }
    }
}
