//! Unpacks a layer of somebody else's making into a folder, in overlay's own form: a name taken away is device 0:0, a folder that hides those
//! below it says `trusted.overlay.opaque`.
//!
//! The archive is hostile. Nothing is opened by a path of its: each name is one step from a folder that is held open, no link is followed by the
//! kernel, and where a folder's name turns out to be a link (of this layer, or of one below) it is read and taken from the layer's root on. Devices
//! are never made, set-id bits and attributes never set. Ids are inner ones. It is not: who says which layers an image has (`oci.rs`).

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
        fgetxattr, fsetxattr, fstat, futimens, linkat, makedev, mkdirat, mknodat, openat, openat2, readlinkat, statat, symlinkat, syncfs,
        unlinkat,
    },
    io::Errno,
};
use tar::{Archive, Entry, EntryType, PaxExtensions};

use crate::{etc, range::Range};

/// Set by overlay, and read by it, on a folder that hides what is below.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// Of one name, link or extension record.
const MOST_EXTENDED: u64 = 64 << 10;
const MOST_PATH: usize = 4_096;
const MOST_DEPTH: usize = 128;
const MOST_HOPS: usize = 40;
/// Whoever the archive says owns a file, and is none of a sandbox's ids.
const NOBODY: u32 = 65_534;

/// What all layers of an image may still take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes, unpacked.
    pub bytes: u64,
    /// Files, folders, links and records about them.
    pub entries: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: 32 << 30, entries: 2_000_000 }
    }
}

/// Why a layer is not unpacked. What was unpacked of it is removed.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A name that leads out of the layer, or that no file can have.
    #[error("the layer has the name {0:?}, which is none of a file in it")]
    Name(String),
    /// Something goes through, or links to, what is not there or is no such thing.
    #[error("the layer's {0:?}: {1}")]
    Place(String, &'static str),
    /// A file with holes: what it claims and what it takes differ.
    #[error("the layer's {0:?} is sparse, which layers are not")]
    Sparse(String),
    /// More than an image may be.
    #[error("the image is larger than {0}")]
    Bound(&'static str),
    /// No archive, or a damaged one.
    #[error("the layer cannot be read: {0}")]
    Archive(#[source] io::Error),
    /// The disk.
    #[error("{0:?} cannot be made: {1}")]
    File(String, #[source] io::Error),
}

type Unpacked<T> = Result<T, UnpackError>;

/// Unpacks into `folder`, which is empty and nobody else's; `lowers` are the layers below, topmost first. On disk when it returns.
pub(crate) fn unpack(archive: impl Read, folder: &Path, lowers: &[PathBuf], left: &mut Bounds) -> Unpacked<()> {
    let mut tree = Tree::open(folder, lowers).map_err(|error| UnpackError::File("/".into(), error))?;
    let mut archive = Archive::new(archive);
    let mut said = Said::default();
    for entry in archive.entries().map_err(UnpackError::Archive)?.raw(true) {
        let mut entry = entry.map_err(UnpackError::Archive)?;
        let bytes = entry.header().entry_size().map_err(UnpackError::Archive)?;
        left.entries = left.entries.checked_sub(1).ok_or(UnpackError::Bound("its entries may be many"))?;
        left.bytes = left.bytes.checked_sub(bytes).ok_or(UnpackError::Bound("its bytes may be many"))?;
        if !said.more(&mut entry)? {
            tree.add(&mut entry, std::mem::take(&mut said), bytes)?;
        }
    }
    if lowers.is_empty() {
        tree.places().map_err(|error| UnpackError::File("the places of mounts".into(), error))?;
    }
    syncfs(&tree.root).map_err(|error| UnpackError::File("/".into(), error.into()))
}

/// What records before an entry say of it.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    user: Option<u64>,
    group: Option<u64>,
    bytes: Option<u64>,
}

impl Said {
    /// Takes a record in. `false`: it is none.
    fn more<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Unpacked<bool> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.path = Some(text(entry)?),
            EntryType::GNULongLink => self.link = Some(text(entry)?),
            EntryType::XHeader => self.extensions(&record(entry)?)?,
            // Of the whole archive: a comment, mostly; nothing that a layer needs.
            EntryType::XGlobalHeader => drop(record(entry)?),
            EntryType::GNUSparse => return Err(UnpackError::Sparse(shown(&entry.path_bytes()))),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn extensions(&mut self, record: &[u8]) -> Unpacked<()> {
        for extension in PaxExtensions::new(record) {
            let extension = extension.map_err(UnpackError::Archive)?;
            let value = extension.value_bytes();
            let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            match extension.key_bytes() {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"uid" => self.user = number(),
                b"gid" => self.group = number(),
                b"size" => self.bytes = number(),
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(UnpackError::Sparse(shown(self.path.as_deref().unwrap_or_default())));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn record<R: Read>(entry: &mut Entry<'_, R>) -> Unpacked<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(MOST_EXTENDED + 1).read_to_end(&mut bytes).map_err(UnpackError::Archive)?;
    if bytes.len() as u64 > MOST_EXTENDED {
        return Err(UnpackError::Bound("the record of one entry"));
    }
    Ok(bytes)
}

fn text<R: Read>(entry: &mut Entry<'_, R>) -> Unpacked<Vec<u8>> {
    let mut bytes = record(entry)?;
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    Ok(bytes)
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned()
}

/// The steps of a name; none is one that leads up. An absolute name is one below the layer's root.
fn steps(name: &[u8]) -> Unpacked<Vec<&[u8]>> {
    let refuse = || UnpackError::Name(shown(name));
    let steps: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|step| !matches!(*step, b"" | b".")).collect();
    let fits = |step: &&[u8]| step.len() <= 255 && **step != *b".." && !step.contains(&0);
    if name.len() > MOST_PATH || steps.len() > MOST_DEPTH || !steps.iter().all(fits) {
        return Err(refuse());
    }
    Ok(steps)
}

/// Who owns an entry and what may be done with it.
#[derive(Clone, Copy)]
struct Attributes {
    user: u32,
    group: u32,
    mode: u32,
    modified: i64,
}

impl Attributes {
    fn of<R: Read>(entry: &Entry<'_, R>, said: &Said) -> Self {
        let header = entry.header();
        let id = |said: Option<u64>, written: Option<u64>| {
            let id = said.or(written).and_then(|id| u32::try_from(id).ok()).filter(|id| *id < Range::LENGTH);
            id.unwrap_or(NOBODY)
        };
        Self {
            user: id(said.user, header.uid().ok()),
            group: id(said.group, header.gid().ok()),
            mode: header.mode().unwrap_or(0o755),
            modified: header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0),
        }
    }

    /// The host's root, as inner ids have it.
    const ROOTS: Self = Self { user: 0, group: 0, mode: 0o755, modified: 0 };

    fn give(self, to: &OwnedFd, mask: u32) -> io::Result<()> {
        // Owner first: a change of owner takes bits away.
        fchown(to, Some(Uid::from_raw(self.user)), Some(Gid::from_raw(self.group)))?;
        Ok(fchmod(to, Mode::from_raw_mode(self.mode & mask))?)
    }
}

/// Never set-id: what a file has of it means nothing in a sandbox, and nothing outside either.
const FILE_MODE: u32 = 0o1777;
const FOLDER_MODE: u32 = 0o3777;

/// What a name is in the layers below.
enum Below {
    Folder(Stat),
    Link(Vec<u8>),
    Other,
    Nothing,
}

/// The layer as far as it has been unpacked.
struct Tree {
    root: OwnedFd,
    lowers: Vec<OwnedFd>,
    /// The folder that the last entry was put in: mostly the next one's, too.
    last: Option<(Vec<Vec<u8>>, OwnedFd)>,
}

impl Tree {
    fn open(folder: &Path, lowers: &[PathBuf]) -> io::Result<Self> {
        let open = |folder: &Path| openat(CWD, folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let lowers = lowers.iter().map(|lower| open(lower)).collect::<Result<Vec<_>, _>>()?;
        let root = open(folder)?;
        match lowers.first() {
            Some(below) => from(&fstat(below)?).give(&root, FOLDER_MODE)?,
            None => Attributes::ROOTS.give(&root, FOLDER_MODE)?,
        }
        Ok(Self { root, lowers, last: None })
    }

    fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>, said: Said, bytes: u64) -> Unpacked<()> {
        let name = said.path.clone().unwrap_or_else(|| entry.path_bytes().into_owned());
        let attributes = Attributes::of(entry, &said);
        let names = steps(&name)?;
        let failed = |error: io::Error| UnpackError::File(shown(&name), error);
        let Some((last, parents)) = names.split_last() else {
            // The root itself.
            return attributes.give(&self.root, FOLDER_MODE).map_err(failed);
        };
        if said.bytes.is_some_and(|said| said != bytes) {
            return Err(UnpackError::Bound("what one entry's header can say"));
        }
        let parents: Vec<Vec<u8>> = parents.iter().map(|step| step.to_vec()).collect();
        if let Some(hidden) = last.strip_prefix(b".wh.") {
            let parent = self.folder(&parents)?;
            return self.hide(&parent, hidden, &name);
        }
        let link = || said.link.clone().or_else(|| entry.link_name_bytes().map(std::borrow::Cow::into_owned)).unwrap_or_default();
        match entry.header().entry_type() {
            EntryType::Directory => {
                let parent = self.folder(&parents)?;
                self.make_folder(&parent, last, attributes).map(drop).map_err(failed)
            }
            EntryType::Regular | EntryType::Continuous => {
                let parent = self.clear(&parents, last, &name)?;
                file(&parent, last, attributes, entry).map_err(failed)
            }
            EntryType::Symlink => {
                let target = link();
                if target.is_empty() || target.len() > MOST_PATH || target.contains(&0) {
                    return Err(UnpackError::Name(shown(&target)));
                }
                let parent = self.clear(&parents, last, &name)?;
                soft_link(&parent, last, &target, attributes).map_err(failed)
            }
            EntryType::Link => self.hard_link(&parents, last, &link(), &name),
            EntryType::Fifo => {
                let parent = self.clear(&parents, last, &name)?;
                let mode = Mode::from_raw_mode(attributes.mode & 0o777);
                mknodat(&parent, *last, FileType::Fifo, mode, 0).map_err(|error| failed(error.into()))
            }
            // Devices would be no devices in a sandbox; and 0:0 means something to an overlay.
            _ => Ok(()),
        }
    }

    /// A folder of the layer, made where it is missing: as the layers below have it, if they do.
    fn folder(&mut self, names: &[Vec<u8>]) -> Unpacked<OwnedFd> {
        let path = || shown(&names.join(&b'/'));
        let failed = |error: io::Error| UnpackError::File(path(), error);
        if let Some((last, folder)) = &self.last
            && last == names
        {
            return folder.try_clone().map_err(failed);
        }
        let mut at = self.root.try_clone().map_err(failed)?;
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut todo: VecDeque<Vec<u8>> = names.to_vec().into();
        let mut hops = 0;
        while let Some(step) = todo.pop_front() {
            if step == b".." {
                done.pop();
                at = self.again(&done).map_err(failed)?;
                continue;
            }
            let link = match kind(&at, &step).map_err(failed)? {
                Some(FileType::Directory) => None,
                Some(FileType::Symlink) => Some(readlinkat(&at, &step[..], Vec::new()).map_err(|e| failed(e.into()))?.into_bytes()),
                // Taken away by this layer, and there again.
                Some(FileType::CharacterDevice) => self.make_folder(&at, &step, Attributes::ROOTS).map(|_| None).map_err(failed)?,
                Some(_) => return Err(UnpackError::Place(path(), "goes through what is no folder")),
                None => match self.below(&done, &step).map_err(failed)? {
                    Below::Link(target) => Some(target),
                    Below::Folder(there) => self.make_folder(&at, &step, from(&there)).map(|_| None).map_err(failed)?,
                    Below::Other | Below::Nothing => self.make_folder(&at, &step, Attributes::ROOTS).map(|_| None).map_err(failed)?,
                },
            };
            let Some(target) = link else {
                at = open_folder(&at, &step).map_err(failed)?;
                done.push(step);
                continue;
            };
            hops += 1;
            if hops > MOST_HOPS || done.len() + todo.len() > MOST_DEPTH * 2 {
                return Err(UnpackError::Place(path(), "goes through links in a circle"));
            }
            if target.first() == Some(&b'/') {
                done.clear();
                at = self.root.try_clone().map_err(failed)?;
            }
            let target: Vec<Vec<u8>> = target.split(|b| *b == b'/').filter(|s| !matches!(*s, b"" | b".")).map(<[u8]>::to_vec).collect();
            target.into_iter().rev().for_each(|step| todo.push_front(step));
        }
        self.last = at.try_clone().ok().map(|at| (names.to_vec(), at));
        Ok(at)
    }

    /// A folder that was walked to before.
    fn again(&self, done: &[Vec<u8>]) -> io::Result<OwnedFd> {
        done.iter().try_fold(self.root.try_clone()?, |at, step| open_folder(&at, step))
    }

    /// What a name is below this layer, where `done` are folders without links.
    fn below(&self, done: &[Vec<u8>], step: &[u8]) -> io::Result<Below> {
        for lower in &self.lowers {
            let mut at = Some(lower.try_clone()?);
            let mut hides = false;
            for name in done {
                let Some(folder) = at.take() else { break };
                match kind(&folder, name)? {
                    Some(FileType::Directory) => {
                        let next = open_folder(&folder, name)?;
                        hides |= is_opaque(&next);
                        at = Some(next);
                    }
                    Some(_) => hides = true,
                    None => {}
                }
            }
            if let Some(folder) = at {
                match statat(&folder, step, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(found) => return below(&folder, step, found),
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if hides {
                break;
            }
        }
        Ok(Below::Nothing)
    }

    /// There, and as it says; one that was taken away by this layer before hides what is below.
    fn make_folder(&mut self, parent: &OwnedFd, name: &[u8], attributes: Attributes) -> io::Result<OwnedFd> {
        let hides = match kind(parent, name)? {
            Some(FileType::Directory) => false,
            Some(there) => {
                unlinkat(parent, name, AtFlags::empty())?;
                mkdirat(parent, name, Mode::RWXU)?;
                there == FileType::CharacterDevice
            }
            None => mkdirat(parent, name, Mode::RWXU).map(|()| false)?,
        };
        let folder = open_folder(parent, name)?;
        if hides {
            fsetxattr(&folder, OPAQUE, b"y", XattrFlags::empty())?;
        }
        attributes.give(&folder, FOLDER_MODE)?;
        Ok(folder)
    }

    /// The folder that a new name is made in, with nothing of that name left: what comes later counts.
    fn clear(&mut self, parents: &[Vec<u8>], name: &[u8], path: &[u8]) -> Unpacked<OwnedFd> {
        let parent = self.folder(parents)?;
        let cleared = match kind(&parent, name) {
            Ok(None) => Ok(()),
            Ok(Some(FileType::Directory)) => {
                self.last = None;
                let path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(OsStr::from_bytes(name));
                std::fs::remove_dir_all(path)
            }
            Ok(Some(_)) => unlinkat(&parent, name, AtFlags::empty()).map_err(Into::into),
            Err(error) => Err(error),
        };
        cleared.map(|()| parent).map_err(|error| UnpackError::File(shown(path), error))
    }

    /// `.wh.NAME` takes away what is below; `.wh..wh..opq` all that is below its folder. Nothing of this layer itself.
    fn hide(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Unpacked<()> {
        let failed = |error: Errno| UnpackError::File(shown(path), error.into());
        let opaque = |folder: &OwnedFd| fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty()).map_err(failed);
        match name {
            b"" | b"." | b".." => Err(UnpackError::Name(shown(path))),
            b".wh..opq" => opaque(parent),
            // Notes of an older union file system to itself.
            _ if name.starts_with(b".wh.") => Ok(()),
            _ => match kind(parent, name).map_err(|error| UnpackError::File(shown(path), error))? {
                Some(FileType::Directory) => opaque(&open_folder(parent, name).map_err(|error| UnpackError::File(shown(path), error))?),
                Some(_) => Ok(()),
                None => mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).map_err(failed),
            },
        }
    }

    fn hard_link(&mut self, parents: &[Vec<u8>], name: &[u8], target: &[u8], path: &[u8]) -> Unpacked<()> {
        let failed = |error: io::Error| UnpackError::File(shown(path), error);
        let to = steps(target)?;
        let (to_name, to_parents) = to.split_last().ok_or_else(|| UnpackError::Name(shown(target)))?;
        let to_parents: Vec<Vec<u8>> = to_parents.iter().map(|step| step.to_vec()).collect();
        let there = self.folder(&to_parents)?;
        match kind(&there, to_name).map_err(failed)? {
            Some(FileType::RegularFile | FileType::Symlink | FileType::Fifo) => {}
            Some(_) => return Err(UnpackError::Place(shown(path), "is a second name of what can have only one")),
            None => return Err(UnpackError::Place(shown(path), "is a second name of what is not in the layer")),
        }
        let same = to_parents == parents && *to_name == name;
        if same {
            return Ok(());
        }
        let parent = self.clear(parents, name, path)?;
        linkat(&there, *to_name, &parent, name, AtFlags::empty()).map_err(|error| failed(error.into()))
    }

    /// Where a sandbox's own mounts go, and what programs look for: made in the lowest layer where it has none.
    fn places(&mut self) -> io::Result<()> {
        for (name, mode) in [("proc", 0o555), ("sys", 0o555), ("dev", 0o755), ("run", 0o755), ("tmp", 0o1777), ("etc", 0o755)] {
            if kind(&self.root, name.as_bytes())?.is_none() {
                let root = self.root.try_clone()?;
                self.make_folder(&root, name.as_bytes(), Attributes { mode, ..Attributes::ROOTS })?;
            }
        }
        let Some(FileType::Directory) = kind(&self.root, b"etc")? else { return Ok(()) };
        let etc = open_folder(&self.root, b"etc")?;
        for (name, text, mode) in
            etc::files().into_iter().filter(|(name, ..)| matches!(*name, "resolv.conf" | "hosts" | "passwd" | "group"))
        {
            if kind(&etc, name.as_bytes())?.is_none() {
                let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let file = openat(&etc, name, new, Mode::RUSR | Mode::WUSR)?;
                Attributes { mode, ..Attributes::ROOTS }.give(&file, FILE_MODE)?;
                io::Write::write_all(&mut File::from(file), text.as_bytes())?;
            }
        }
        Ok(())
    }
}

fn from(there: &Stat) -> Attributes {
    Attributes { user: there.st_uid, group: there.st_gid, mode: there.st_mode, modified: 0 }
}

fn below(folder: &OwnedFd, step: &[u8], found: Stat) -> io::Result<Below> {
    Ok(match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => Below::Folder(found),
        FileType::Symlink => Below::Link(readlinkat(folder, step, Vec::new())?.into_bytes()),
        FileType::CharacterDevice => Below::Nothing,
        _ => Below::Other,
    })
}

fn kind(folder: &OwnedFd, name: &[u8]) -> io::Result<Option<FileType>> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_opaque(folder: &OwnedFd) -> bool {
    let mut value = [0; 1];
    fgetxattr(folder, OPAQUE, &mut value).is_ok_and(|length| length == 1 && value == *b"y")
}

fn open_folder(parent: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(parent, name, flags, Mode::empty(), resolve)?)
}

fn file(parent: &OwnedFd, name: &[u8], attributes: Attributes, content: &mut impl Read) -> io::Result<()> {
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(parent, name, new, Mode::RUSR | Mode::WUSR)?);
    io::copy(content, &mut file)?;
    let file = OwnedFd::from(file);
    attributes.give(&file, FILE_MODE)?;
    let time = Timespec { tv_sec: attributes.modified, tv_nsec: 0 };
    Ok(futimens(&file, &Timestamps { last_access: time, last_modification: time })?)
}

fn soft_link(parent: &OwnedFd, name: &[u8], target: &[u8], attributes: Attributes) -> io::Result<()> {
    symlinkat(target, parent, name)?;
    let (user, group) = (Uid::from_raw(attributes.user), Gid::from_raw(attributes.group));
    Ok(chownat(parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod attacks;
