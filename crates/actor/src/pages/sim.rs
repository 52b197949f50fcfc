//! A disk in memory whose power can be cut. For tests.
//!
//! After a cut, of each file that part of the unsynced writes is there that the seed chooses, torn at sectors; of each folder, the names as of some
//! moment since it was synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use skep_id::ActorId;

use super::disk::{Disk, DiskFile};
use crate::{
    log::DurableLog,
    record::{Epoch, Record, RecordKind},
};

const SECTOR: usize = 512;

/// Pseudo-random numbers (xorshift), so that a seed says it all.
#[derive(Clone, Debug)]
pub(super) struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678_9ABC_DEF1);
        let mut x = self.0;
        x ^= x >> 31;
        x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (x ^ x >> 29) % n.max(1)
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct SimDisk(Arc<Mutex<World>>);

#[derive(Debug, Default)]
struct World {
    nodes: Vec<Node>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    pending: Vec<NameOp>,
    dirs: BTreeSet<PathBuf>,
    /// Operations that change something, so far; none succeeds from `cut_at` on.
    operations: u64,
    cut_at: Option<u64>,
    /// This one operation fails.
    fail_at: Option<u64>,
    boots: u64,
}

#[derive(Debug, Default)]
struct Node {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Clone, Debug)]
enum Write {
    Bytes(u64, Vec<u8>),
    Len(u64),
}

#[derive(Clone, Debug)]
enum NameOp {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameOp {
    fn dir(&self) -> &Path {
        let (Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, _)) = self;
        path.parent().unwrap()
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                let node = names.remove(from).unwrap();
                names.insert(to.clone(), node);
            }
        }
    }
}

fn apply(bytes: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Bytes(offset, new) => {
            let end = *offset as usize + new.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*offset as usize..end].copy_from_slice(new);
        }
        Write::Len(len) => bytes.resize(*len as usize, 0),
    }
}

/// The sectors of a write that made it.
fn torn(write: &Write, dice: &mut Dice) -> Vec<Write> {
    let Write::Bytes(offset, bytes) = write else { return vec![write.clone()] };
    let (mut at, mut parts) = (0, Vec::new());
    while at < bytes.len() {
        let next = (at + SECTOR - (*offset as usize + at) % SECTOR).min(bytes.len());
        if dice.below(2) == 0 {
            parts.push(Write::Bytes(offset + at as u64, bytes[at..next].to_vec()));
        }
        at = next;
    }
    parts
}

impl World {
    fn step(&mut self) -> io::Result<()> {
        self.alive()?;
        self.operations += 1;
        if self.fail_at == Some(self.operations) {
            return Err(io::Error::other("it fails once"));
        }
        Ok(())
    }

    fn alive(&self) -> io::Result<()> {
        match self.cut_at {
            Some(at) if self.operations >= at => Err(io::Error::other("the power is cut")),
            _ => Ok(()),
        }
    }

    fn name(&mut self, op: NameOp) {
        op.apply(&mut self.names);
        self.pending.push(op);
    }
}

impl SimDisk {
    /// Lets so many more operations succeed.
    pub fn cut_after(&self, operations: u64) {
        let mut world = self.0.lock();
        world.cut_at = Some(world.operations + operations);
    }

    /// Lets one operation fail after so many more.
    pub fn fail_after(&self, operations: u64) {
        let mut world = self.0.lock();
        world.fail_at = Some(world.operations + operations + 1);
    }

    /// Whether that operation has failed; if not, it will not.
    pub fn has_failed(&self) -> bool {
        let mut world = self.0.lock();
        let (at, now) = (world.fail_at.take(), world.operations);
        at.is_some_and(|at| at <= now)
    }

    /// Whether the power has been cut; if not, it will not be.
    pub fn was_cut(&self) -> bool {
        let mut world = self.0.lock();
        let cut = world.alive().is_err();
        if !cut {
            world.cut_at = None;
        }
        cut
    }

    /// Goes on after the process that was cut off has ended: what was written is there, durable or not.
    pub fn revive(&self) {
        self.0.lock().cut_at = None;
    }

    /// Comes up again with what happened to be on the platter.
    pub fn restart(&self, seed: u64) {
        let (mut world, mut dice) = (self.0.lock(), Dice(seed));
        for node in &mut world.nodes {
            for write in std::mem::take(&mut node.unsynced) {
                match dice.below(3) {
                    0 => {}
                    1 => apply(&mut node.durable, &write),
                    _ => torn(&write, &mut dice).iter().for_each(|part| apply(&mut node.durable, part)),
                }
            }
            node.now = node.durable.clone();
        }
        let (mut names, pending) = (world.durable.clone(), std::mem::take(&mut world.pending));
        let dirs: BTreeSet<_> = pending.iter().map(|op| op.dir().to_owned()).collect();
        for dir in dirs {
            let ops: Vec<_> = pending.iter().filter(|op| op.dir() == dir).collect();
            let n = dice.below(ops.len() as u64 + 1) as usize;
            ops[..n].iter().for_each(|op| op.apply(&mut names));
        }
        world.names = names.clone();
        world.durable = names;
        world.cut_at = None;
        world.boots += 1;
    }

    fn at(&self, node: usize) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), node, boot: self.0.lock().boots })
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.lock().alive()?;
        let node = self.0.lock().names.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.at(node))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let node = {
            let mut world = self.0.lock();
            world.step()?;
            assert!(world.dirs.contains(path.parent().unwrap()), "{}: no folder", path.display());
            world.nodes.push(Node::default());
            let node = world.nodes.len() - 1;
            world.name(NameOp::Link(path.to_owned(), node));
            node
        };
        Ok(self.at(node))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.0.lock();
        world.alive()?;
        let in_dir = world.names.keys().chain(&world.dirs).filter(|path| path.parent() == Some(dir));
        Ok(in_dir.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let world = self.0.lock();
        world.alive()?;
        Ok(world.names.contains_key(path) || world.dirs.contains(path))
    }

    fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        if world.dirs.contains(dir) {
            return world.alive();
        }
        world.step()?;
        world.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.step()?;
        world.name(NameOp::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.step()?;
        world.name(NameOp::Unlink(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.step()?;
        assert!(!world.names.keys().any(|path| path.parent() == Some(dir)), "{}: not empty", dir.display());
        world.dirs.remove(dir);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.step()?;
        let (synced, pending): (Vec<_>, Vec<_>) = std::mem::take(&mut world.pending).into_iter().partition(|op| op.dir() == dir);
        world.pending = pending;
        synced.iter().for_each(|op| op.apply(&mut world.durable));
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: usize,
    boot: u64,
}

impl SimFile {
    fn change(&self, write: Write) -> io::Result<()> {
        let mut world = self.disk.0.lock();
        assert_eq!(self.boot, world.boots, "a file of before the cut");
        let result = world.step();
        if result.is_ok() || world.alive().is_ok() {
            // One that fails may have got half-way.
            let parts = if result.is_ok() { vec![write] } else { torn(&write, &mut Dice(world.operations)) };
            let node = &mut world.nodes[self.node];
            parts.iter().for_each(|part| apply(&mut node.now, part));
            node.unsynced.extend(parts);
        }
        result
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let world = self.disk.0.lock();
        world.alive()?;
        let from = world.nodes[self.node].now.get(offset as usize..offset as usize + into.len());
        into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Write::Bytes(offset, bytes.to_vec()))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().nodes[self.node].now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Write::Len(len))
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.0.lock();
        let (result, operations) = (world.step(), world.operations);
        let (node, mut dice) = (&mut world.nodes[self.node], Dice(operations));
        for write in std::mem::take(&mut node.unsynced) {
            // What a sync that fails did not bring to the disk is not brought by the next one either, though it is still read.
            if result.is_ok() || dice.below(2) == 0 {
                apply(&mut node.durable, &write);
            }
        }
        result
    }
}

/// The next record of an actor.
pub(super) fn next(log: &dyn DurableLog, actor: ActorId, kind: RecordKind, time_ms: u64, body: bytes::Bytes) -> Record {
    let head = log.head(actor);
    let epoch = Epoch(head.epoch.0 + u64::from(kind == RecordKind::Fence));
    Record { actor, epoch, seq: head.seq.next(), time_ms, kind, body }
}
