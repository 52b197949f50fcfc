//! A disk that does to the log what disks do: loses what was not synced, tears it at sectors, fills up, fails, flips bits.
//!
//! Everything is decided by a seed and the order of calls. It is not: slow, unless told to be.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    disk::{Disk, DiskFile},
    scan::SECTOR,
};

/// A generator good enough to pick faults with (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// As the system shows it.
    now: Vec<u8>,
    /// As it is on the medium.
    durable: Vec<u8>,
    /// Sectors that a sync will write.
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Put(String, u64),
    Gone(String),
}

#[derive(Debug)]
struct Inside {
    dice: Dice,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    files: HashMap<u64, Content>,
    next_file: u64,
    room: u64,
    /// Calls that change something until the power goes.
    cut_in: Option<u64>,
    /// Calls of sync until one fails.
    sync_fails_in: Option<u64>,
    off: bool,
    slow: Duration,
}

/// The disk. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedDisk(Arc<Mutex<Inside>>);

fn gone() -> io::Error {
    io::Error::other("the power is off")
}

impl SimulatedDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            dice: Dice::new(seed),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            files: HashMap::new(),
            next_file: 1,
            room: u64::MAX,
            cut_in: None,
            sync_fails_in: None,
            off: false,
            slow: Duration::ZERO,
        })))
    }

    /// The power goes with the `calls`th change from now; a write is then done in part.
    pub(crate) fn cut_in(&self, calls: u64) {
        self.0.lock().cut_in = Some(calls);
    }

    pub(crate) fn is_off(&self) -> bool {
        self.0.lock().off
    }

    /// The power goes now and comes back: of what was not synced, some is there and some is not.
    pub(crate) fn power_cycle(&self) {
        let mut inside = self.0.lock();
        let Inside { dice, files, unsynced_names, durable_names, .. } = &mut *inside;
        let kept = dice.below(unsynced_names.len() as u64 + 1) as usize;
        for change in unsynced_names.drain(..).take(kept) {
            change.apply(durable_names);
        }
        let mut ids: Vec<u64> = files.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(content) = files.get_mut(&id) {
                content.lose(dice);
            }
        }
        inside.names = inside.durable_names.clone();
        inside.wake();
    }

    /// The process goes and another comes: the system keeps what was written, synced or not.
    pub(crate) fn process_restart(&self) {
        self.0.lock().wake();
    }

    /// A sync fails, and the pages it was for are taken for clean, as the kernel does.
    pub(crate) fn fail_sync_in(&self, calls: u64) {
        self.0.lock().sync_fails_in = Some(calls);
    }

    /// So many bytes may still be reserved.
    pub(crate) fn set_room(&self, bytes: u64) {
        self.0.lock().room = bytes;
    }

    pub(crate) fn set_slow(&self, sync: Duration) {
        self.0.lock().slow = sync;
    }

    /// Changes what is on the medium.
    pub(crate) fn damage(&self, name: &str, damage: impl Fn(&mut Vec<u8>)) {
        let mut inside = self.0.lock();
        let id = inside.names[name];
        if let Some(content) = inside.files.get_mut(&id) {
            damage(&mut content.now);
            damage(&mut content.durable);
        }
    }

    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        let inside = self.0.lock();
        inside.files[&inside.names[name]].now.clone()
    }

    /// Another disk with the same on it.
    pub(crate) fn copy(&self, seed: u64) -> Self {
        let copy = Self::new(seed);
        {
            let (from, mut to) = (self.0.lock(), copy.0.lock());
            to.names = from.names.clone();
            to.durable_names = from.durable_names.clone();
            to.unsynced_names = from.unsynced_names.clone();
            to.files = from.files.clone();
            to.next_file = from.next_file;
        }
        copy
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Put(name, id) => {
                names.retain(|_, other| *other != id);
                names.insert(name, id);
            }
            Self::Gone(name) => {
                names.remove(&name);
            }
        }
    }
}

impl Content {
    fn sector(&self, n: usize) -> std::ops::Range<usize> {
        n * SECTOR..((n + 1) * SECTOR).min(self.now.len())
    }

    /// What a power cut leaves: of the sectors that were not synced, none, all, some pages or some sectors.
    fn lose(&mut self, dice: &mut Dice) {
        let (way, salt) = (dice.below(4), dice.roll());
        for n in 0..self.now.len().div_ceil(SECTOR) {
            let keep = match way {
                0 => false,
                1 => true,
                2 => Dice::new(salt ^ (n / 8) as u64).below(2) == 0,
                _ => Dice::new(salt ^ n as u64).below(2) == 0,
            };
            let range = self.sector(n);
            if keep && self.dirty.contains(&n) {
                self.durable[range.clone()].copy_from_slice(&self.now[range]);
            }
        }
        self.now.clone_from(&self.durable);
        self.dirty.clear();
    }
}

impl Inside {
    fn wake(&mut self) {
        self.off = false;
        self.cut_in = None;
        self.sync_fails_in = None;
    }

    /// Counts a change; `true` when the power goes within it.
    fn change(&mut self) -> io::Result<bool> {
        if self.off {
            return Err(gone());
        }
        match &mut self.cut_in {
            Some(0) => {
                self.off = true;
                Ok(true)
            }
            Some(left) => {
                *left -= 1;
                Ok(false)
            }
            None => Ok(false),
        }
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        if self.change()? {
            return Err(gone());
        }
        change.clone().apply(&mut self.names);
        self.unsynced_names.push(change);
        Ok(())
    }

    fn id(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimulatedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let inside = self.0.lock();
        if inside.off { Err(gone()) } else { Ok(inside.names.keys().cloned().collect()) }
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.0.lock().id(name)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), id }))
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut inside = self.0.lock();
        if inside.room < size {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let id = inside.next_file;
        inside.change_name(NameChange::Put(name.to_owned(), id))?;
        inside.next_file += 1;
        inside.room -= if inside.room == u64::MAX { 0 } else { size };
        let zeros = vec![0; size as usize];
        inside.files.insert(id, Content { now: zeros.clone(), durable: zeros, dirty: BTreeSet::new() });
        drop(inside);
        Ok(Arc::new(SimulatedFile { disk: self.clone(), id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inside = self.0.lock();
        let id = inside.id(from)?;
        inside.change_name(NameChange::Put(to.to_owned(), id))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inside = self.0.lock();
        inside.id(name)?;
        inside.change_name(NameChange::Gone(name.to_owned()))
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut inside = self.0.lock();
        if inside.change()? {
            return Err(gone());
        }
        let Inside { unsynced_names, durable_names, .. } = &mut *inside;
        unsynced_names.drain(..).for_each(|change| change.apply(durable_names));
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("simulated").join(name)
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    id: u64,
}

impl DiskFile for SimulatedFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().files[&self.id].now.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let inside = self.disk.0.lock();
        if inside.off {
            return Err(gone());
        }
        let now = &inside.files[&self.id].now;
        let from = (offset as usize).min(now.len());
        let count = into.len().min(now.len() - from);
        into[..count].copy_from_slice(&now[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inside = self.disk.0.lock();
        let cut = inside.change()?;
        let from = offset as usize;
        // The system copies pages, and no page goes to the medium half copied: what was cut ends with a sector.
        let copied = inside.dice.below(bytes.len() as u64 + 1) as usize;
        let written = if cut { ((from + copied) / SECTOR * SECTOR).saturating_sub(from) } else { bytes.len() };
        if let Some(content) = inside.files.get_mut(&self.id) {
            let end = from + written;
            if end > content.now.len() {
                content.now.resize(end, 0);
                content.durable.resize(end, 0);
            }
            content.now[from..end].copy_from_slice(&bytes[..written]);
            if written > 0 {
                content.dirty.extend(from / SECTOR..=(end - 1) / SECTOR);
            }
        }
        if cut { Err(gone()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let slow = self.disk.0.lock().slow;
        if !slow.is_zero() {
            std::thread::sleep(slow);
        }
        let mut inside = self.disk.0.lock();
        if inside.change()? {
            return Err(gone());
        }
        let fails = match &mut inside.sync_fails_in {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        if fails {
            inside.sync_fails_in = None;
        }
        let Some(content) = inside.files.get_mut(&self.id) else { return Err(gone()) };
        for n in std::mem::take(&mut content.dirty) {
            let range = content.sector(n);
            if !fails {
                content.durable[range.clone()].copy_from_slice(&content.now[range]);
            }
        }
        if fails { Err(io::Error::other("the device failed")) } else { Ok(()) }
    }
}
