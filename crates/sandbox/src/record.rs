//! What a node writes down about its sandboxes, so that the next one finds them again, or ends them, and nothing is left over.
//!
//! One folder: `lock`, `mark`, and `box/<id>/record.json`. A record is there before anything that it names, and goes last. A folder
//! without a readable record is an unfinished removal. It is not: where what a sandbox changed is described; that is the overlay's own.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use skep_id::SandboxId;

use crate::{
    layer, quota,
    snapshot::Origin,
    spec::{Place, Spec},
    state::{Policy, State},
};

/// In the folder of a sandbox.
const RECORD: &str = "record.json";

/// What is written of a sandbox. Of an unknown version nothing is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Of this form: 1.
    pub version: u32,
    /// What it is.
    pub spec: Spec,
    /// Where it is.
    pub place: Place,
    /// What its owner decided.
    pub policy: Policy,
    /// Where it is in its life.
    pub state: State,
    /// Its init, while it has one.
    pub process: Option<Process>,
    /// What it is a fork of.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// The host's boot in which its layers were made, as long as they may not be on the disk: in a later one they are not to be trusted.
    #[serde(default)]
    pub unsynced: Option<String>,
}

/// A process of the host that cannot be mistaken for a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started, in the kernel's ticks since this boot.
    pub started: u64,
}

impl Process {
    /// The process of this number, if there is one.
    pub fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name, in parentheses, may hold anything.
        let (_, after) = text.rsplit_once(')')?;
        let started = after.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, started })
    }

    pub(crate) fn still(self) -> Option<Pid> {
        (Self::of(self.pid) == Some(self)).then(|| Pid::from_raw(self.pid)).flatten()
    }
}

/// Why a folder of sandboxes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another node has it.
    #[error("{0} is open in another process")]
    InUse(PathBuf),
    /// It cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
}

/// The folder of one node's sandboxes.
pub(crate) struct Store {
    folder: PathBuf,
    mark: String,
    _lock: File,
}

impl Store {
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = |error| StoreError::File(folder.to_owned(), error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join("box")).map_err(failed)?;
        // Made earlier by somebody else, it could be open to all; what is in it belongs to inner ids.
        fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(failed)?;
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(folder.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mark = mark(&folder.join("mark")).map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), mark, _lock: lock })
    }

    /// How the names of this folder's cgroups begin.
    pub(crate) fn prefix(&self) -> String {
        format!("skep-{}-", self.mark)
    }

    pub(crate) fn folder_of(&self, id: &SandboxId) -> PathBuf {
        self.folder.join("box").join(id.as_str())
    }

    /// Durable when it returns.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        replace(&self.folder_of(&record.spec.id), RECORD, &serde_json::to_vec_pretty(record)?)
    }

    /// The first one: there for the next node from now on, and durable after [`Self::keep`].
    pub(crate) fn begin(&self, record: &Record) -> io::Result<()> {
        let folder = self.folder_of(&record.spec.id);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let beside = folder.join(format!("{RECORD}.new"));
        fs::write(&beside, serde_json::to_vec_pretty(record)?)?;
        fs::rename(&beside, folder.join(RECORD))
    }

    /// Brings to the disk the record that is there, and its name. It may be written again meanwhile.
    pub(crate) fn keep(&self, id: &SandboxId) -> io::Result<()> {
        let folder = self.folder_of(id);
        File::open(folder.join(RECORD))?.sync_all()?;
        File::open(&folder)?.sync_all()?;
        File::open(self.folder.join("box"))?.sync_all()
    }

    /// After a loss of power, this one is found or the one before: for what says then the same of a sandbox.
    pub(crate) fn amend(&self, record: &Record) -> io::Result<()> {
        beside(&self.folder_of(&record.spec.id), RECORD, &serde_json::to_vec_pretty(record)?)
    }

    /// All that are written down; folders of which nothing is are removed, and counted.
    pub(crate) fn read(&self) -> io::Result<(Vec<Record>, usize)> {
        let (mut records, mut unfinished) = (Vec::new(), 0);
        for entry in fs::read_dir(self.folder.join("box"))? {
            let folder = entry?.path();
            match self.read_one(&folder) {
                Some(record) => records.push(record),
                None => {
                    layer::remove(&folder)?;
                    unfinished += 1;
                }
            }
        }
        Ok((records, unfinished))
    }

    fn read_one(&self, folder: &Path) -> Option<Record> {
        let record: Record = serde_json::from_slice(&fs::read(folder.join(RECORD)).ok()?).ok()?;
        (record.version == 1 && self.folder_of(&record.spec.id) == folder && record.place.folder == folder).then_some(record)
    }

    /// The record goes first here, and is gone for good before anything else: what is left of the folder is then an unfinished removal.
    pub(crate) fn remove(&self, id: &SandboxId) -> io::Result<()> {
        let folder = self.folder_of(id);
        match fs::remove_file(folder.join(RECORD)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        quota::release(&folder.join("fs"));
        remove(&folder)
    }
}

/// However deep it is, and whatever it is closed with.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match layer::remove(path) {
        // An ordinary user is held back by the modes of its own folders; an overlay's is 000.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => open_up(path).and_then(|()| layer::remove(path)),
        other => other,
    }
}

/// Gives back to their owner folders that nobody is in any more; links are not followed.
fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Eight random bytes, once for all time.
fn mark(path: &Path) -> io::Result<String> {
    let is_mark = |text: &String| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match fs::read_to_string(path) {
        Ok(text) if is_mark(&text) => return Ok(text),
        Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "the mark is damaged; without it leaks cannot be told apart")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let text = format!("{:016x}", u64::from_le_bytes(random));
    let folder = path.parent().unwrap_or(Path::new("."));
    replace(folder, "mark", text.as_bytes())?;
    Ok(text)
}

/// The whole new content or the whole old one, whatever happens; the new one for good when it returns.
pub(crate) fn replace(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    beside(folder, name, content)?;
    File::open(folder)?.sync_all()
}

/// The whole new content or the whole old one, whatever happens.
fn beside(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        range::Range,
        spec::{Rootfs, tests::spec},
        state::OnTimeout,
    };

    fn record(store: &Store) -> Record {
        let spec = spec();
        let folder = store.folder_of(&spec.id);
        let place = Place {
            rootfs: Rootfs { layers: vec!["/l".into()], parts: vec![] },
            folder,
            group: "skep-x".into(),
            range: Range { first: 0x7000_0000 },
        };
        let policy = Policy { timeout_ms: None, on_timeout: OnTimeout::Stop, auto_resume: false };
        Record { version: 1, spec, place, policy, state: State::Paused, process: Process::of(1), origin: None, unsynced: None }
    }

    #[test]
    fn records_come_back_and_what_is_none_goes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let record = record(&store);
        store.begin(&record).unwrap();
        store.keep(&record.spec.id).unwrap();
        store.amend(&record).unwrap();
        store.write(&record).unwrap();
        for (name, text) in [("iaaaaaaaaaaaaaaaaaaaa", "{"), ("other", "{}"), ("moved", &serde_json::to_string(&record).unwrap())] {
            fs::create_dir(folder.path().join("box").join(name)).unwrap();
            fs::write(folder.path().join("box").join(name).join("record.json"), text).unwrap();
        }
        let prefix = store.prefix();
        assert!(matches!(Store::open(folder.path()), Err(StoreError::InUse(_))));
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.prefix(), prefix);
        assert_eq!(store.read().unwrap(), (vec![record.clone()], 3));
        store.remove(&record.spec.id).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("box")).unwrap().count(), 0);
        assert_eq!(fs::metadata(folder.path()).map(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()) & 0o777).unwrap(), 0o700);
    }

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_number() {
        let this = Process::of(std::process::id().cast_signed()).unwrap();
        assert!(this.still().is_some());
        assert!(Process { started: this.started + 1, ..this }.still().is_none());
    }
}
