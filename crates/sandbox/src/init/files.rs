//! Files for the node: always with the rights of a user of the sandbox, never with init's own.
//!
//! Each request is begun (answered with what it opened) and, where bytes go through a pipe, copied afterwards.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{
    AtFlags, CWD, Timespec, Timestamps, XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, fstatfs, getxattr, listxattr, utimensat,
};

use super::{
    Within,
    users::{self, Names, User},
};
use crate::wire::{Answer, Ask, Entry, EntryKind, Fault, FaultKind, Leads, Writing};

/// Where what people write about a file is kept with it.
const METADATA: &str = "user.e2b.";
/// Of all names and values of one file: what file systems keep beside an inode.
const MOST_METADATA: usize = 4_096;
/// Of the list of all attributes of a file, whoever made them: the kernel's own bound.
const MOST_ATTRIBUTES: usize = 64 << 10;

/// Entries of one listing; what is deeper or more is an error, not a surprise.
const MOST_ENTRIES: u64 = 1_000_000;
const MOST_DEPTH: u32 = 64;

/// Bytes on their way.
pub(super) enum Copy {
    Out { file: File, most: Option<u64>, pipe: File },
    In { pipe: File, into: Filling },
    List { path: PathBuf, depth: u32, pipe: File, user: User },
    Lines { lines: Vec<u8>, pipe: File },
}

/// A file that is being written.
pub(super) struct Filling {
    file: File,
    place: Target,
    metadata: Option<BTreeMap<String, String>>,
    user: User,
}

enum Target {
    Beside { beside: PathBuf, path: PathBuf },
    Itself(PathBuf),
}

pub(super) type Begun = Result<(Answer, Option<Copy>), Fault>;

pub(super) fn begin(ask: Ask, given: Option<OwnedFd>, all: Within) -> Begun {
    let pipe = || given.map(File::from).ok_or_else(|| Fault::new(FaultKind::Invalid, "a pipe is needed"));
    let of = |id: u32| users::find(id, all);
    let done = |done: io::Result<()>, path: &str| done.map(|()| (Answer::Done, None)).map_err(|error| Fault::of(path, &error));
    match ask {
        Ask::Read { path, user, from, most } => {
            let (file, bytes, modified_ms) = within(&of(user)?, &path, |p| open(p, from))?;
            Ok((Answer::Opened { bytes, modified_ms }, Some(Copy::Out { file, most, pipe: pipe()? })))
        }
        Ask::Write { path, user, mode, parents, how, at_once, metadata } => {
            let user = of(user)?;
            let (file, place) = within(&user, &path, |p| match how {
                Writing::Whole => create(p, mode, parents).map(|(file, beside, path)| (file, Target::Beside { beside, path })),
                Writing::InPlace => open_in_place(p, mode, parents).map(|file| (file, Target::Itself(p.to_owned()))),
            })?;
            let copy = Copy::In { pipe: pipe()?, into: Filling { file, place, metadata, user } };
            match at_once {
                true => Ok((Answer::Written { bytes: copy.run()? }, None)),
                false => Ok((Answer::Opened { bytes: 0, modified_ms: 0 }, Some(copy))),
            }
        }
        Ask::Compose { from, path, user } => Ok((Answer::Entry(compose(&from, &path, &of(user)?)?), None)),
        Ask::Account { name } => Ok((Answer::Account(users::account(&name, all)?), None)),
        Ask::Space => space().map(|answer| (answer, None)).map_err(|error| Fault::of("/", &error)),
        Ask::List { path, user, depth } => {
            let user = of(user)?;
            within(&user, &path, |p| fs::read_dir(p).map(drop))?;
            let copy = Copy::List { path: path.into(), depth: depth.clamp(1, MOST_DEPTH), pipe: pipe()?, user };
            Ok((Answer::Done, Some(copy)))
        }
        Ask::Stat { path, user } => {
            let names = Names::read();
            Ok((Answer::Entry(within(&of(user)?, &path, |p| entry(p, &names))?), None))
        }
        Ask::MakeFolder { path, user } => {
            let names = Names::read();
            let made = within(&of(user)?, &path, |p| match fs::symlink_metadata(p) {
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(_) => fs::create_dir_all(p).and_then(|()| entry(p, &names)),
            })?;
            Ok((Answer::Entry(made), None))
        }
        Ask::Rename { from, to, user } => {
            let user = of(user)?;
            absolute(&from)?;
            absolute(&to)?;
            let names = Names::read();
            let moved = user.does(|| rename(Path::new(&from), Path::new(&to)).and_then(|()| entry(Path::new(&to), &names)));
            Ok((Answer::Entry(moved.and_then(|moved| moved).map_err(|error| Fault::of(&from, &error))?), None))
        }
        Ask::Remove { path, user } => {
            let user = of(user)?;
            absolute(&path)?;
            let removed = user.does(|| remove(Path::new(&path))).and_then(|removed| removed);
            done(removed, &path)
        }
        Ask::Link { path, target, user } => {
            within(&of(user)?, &path, |p| symlink(&target, p))?;
            Ok((Answer::Done, None))
        }
        Ask::Attributes { path, user, mode, owner, group, modified } => {
            within(&of(user)?, &path, |p| dress(p, mode, owner, group, modified))?;
            Ok((Answer::Done, None))
        }
        Ask::Exec { .. }
        | Ask::Commands
        | Ask::Signal { .. }
        | Ask::Connect { .. }
        | Ask::Watch { .. }
        | Ask::Settle
        | Ask::Tun
        | Ask::Shutdown
        | Ask::Long => Err(Fault::new(FaultKind::Invalid, "is no request about files")),
    }
}

/// Lines that are there already.
pub(super) fn lines(lines: Vec<u8>, pipe: Option<OwnedFd>) -> Begun {
    let pipe = pipe.map(File::from).ok_or_else(|| Fault::new(FaultKind::Invalid, "a pipe is needed"))?;
    Ok((Answer::Done, Some(Copy::Lines { lines, pipe })))
}

fn space() -> io::Result<Answer> {
    let found = rustix::fs::statvfs("/")?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Answer::Space { total: bytes(found.f_blocks), free: bytes(found.f_bavail) })
}

pub(super) fn absolute(path: &str) -> Result<(), Fault> {
    if path.starts_with('/') && !path.contains('\0') {
        Ok(())
    } else {
        Err(Fault::new(FaultKind::Invalid, format!("{path:?} is no absolute path")))
    }
}

fn within<T>(user: &User, path: &str, work: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, Fault> {
    absolute(path)?;
    user.does(|| work(Path::new(path))).and_then(|done| done).map_err(|error| Fault::of(path, &error))
}

/// Opened without waiting: what looks like a file may be a pipe that nobody writes to.
fn open(path: &Path, from: u64) -> io::Result<(File, u64, i64)> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no file"));
    }
    if is_kernel_s(&file)? && is_init_s(&file)? {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    if from > 0 {
        file.seek(SeekFrom::Start(from))?;
    }
    Ok((file, found.len(), modified_ms(&found)))
}

fn is_kernel_s(file: &File) -> io::Result<bool> {
    Ok(fstatfs(file)?.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// What `/proc` shows a process of itself is init's when init opens it, whoever asked: a link within may lead there. The tables of the network are
/// everybody's: there is one for all within.
fn is_init_s(file: &File) -> io::Result<bool> {
    let path = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)))?;
    let own = PathBuf::from("/proc").join(std::process::id().to_string());
    let others = path.strip_prefix("/proc").ok().and_then(|below| below.components().next()).is_none();
    Ok(others || path.starts_with(&own) && !path.starts_with(own.join("net")))
}

/// The file itself, emptied; made where there is none.
fn open_in_place(path: &Path, mode: u32, parents: bool) -> io::Result<File> {
    if parents && let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let existed = match fs::metadata(path) {
        Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no file")),
        Ok(_) => true,
        Err(_) => false,
    };
    let mut options = OpenOptions::new();
    // Emptied only after it was looked at.
    options.write(true).create(true).truncate(false).mode(mode & 0o777).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no file"));
    }
    if is_kernel_s(&file)? {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    match existed {
        true => file.set_len(0)?,
        false => file.set_permissions(fs::Permissions::from_mode(mode & 0o777))?,
    }
    Ok(file)
}

/// A file beside the one that is meant, so that a reader sees either the old or the whole new one. Links are followed, as by every editor.
fn create(path: &Path, mode: u32, parents: bool) -> io::Result<(File, PathBuf, PathBuf)> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "is no file's path");
    let path = match fs::canonicalize(path) {
        Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) => there,
        Err(_) => path.to_owned(),
    };
    let folder = path.parent().ok_or_else(invalid)?;
    let name = path.file_name().ok_or_else(invalid)?.to_string_lossy().into_owned();
    if parents {
        fs::create_dir_all(folder)?;
    }
    let mode = fs::metadata(&path).map_or(mode & 0o777, |there| there.mode() & 0o777);
    // Whoever may not change the file may not put another in its place either.
    if path.exists() {
        OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
    }
    for attempt in 0..100u32 {
        let short: String = name.chars().take(60).collect();
        let beside = folder.join(format!(".{short}.{}-{attempt}.part", rustix::thread::gettid().as_raw_nonzero()));
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside) {
            Ok(file) => return file.set_permissions(fs::Permissions::from_mode(mode)).map(|()| (file, beside, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::symlink_metadata(from)?;
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::rename(from, to)
}

/// The owner first, and only where it is another: who may not give files away may still dress their own.
fn dress(path: &Path, mode: Option<u32>, owner: u32, group: u32, modified: (i64, u32)) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if (found.uid(), found.gid()) != (owner, group) {
        lchown(path, Some(owner), Some(group))?;
    }
    if let Some(mode) = mode.filter(|_| !found.is_symlink()) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))?;
    }
    let at = Timespec { tv_sec: modified.0, tv_nsec: modified.1.into() };
    Ok(utimensat(CWD, path, &Timestamps { last_access: at, last_modification: at }, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

/// Files one after the other into one beside, which then takes the place.
fn compose(from: &[String], path: &str, user: &User) -> Result<Entry, Fault> {
    if from.is_empty() {
        return Err(Fault::new(FaultKind::Invalid, "of no files none is made"));
    }
    absolute(path)?;
    let names = Names::read();
    let mut parts = Vec::new();
    for part in from {
        if Path::new(part) == Path::new(path) {
            return Err(Fault::new(FaultKind::Invalid, format!("{part:?} cannot be made of itself")));
        }
        let (file, ..) = within(user, part, |p| open(p, 0))?;
        parts.push((part, file));
    }
    let composed = user.does(|| {
        let (mut file, beside, path) = create(Path::new(path), 0o644, true)?;
        let copied = parts.iter_mut().try_for_each(|(_, part)| io::copy(part, &mut file).map(drop));
        let placed = copied.and_then(|()| fs::rename(&beside, &path));
        placed.inspect_err(|_| drop(fs::remove_file(&beside)))?;
        for (part, _) in &parts {
            fs::remove_file(part)?;
        }
        entry(&path, &names)
    });
    composed.and_then(|composed| composed).map_err(|error| Fault::of(path, &error))
}

fn kind_of(kind: fs::FileType) -> EntryKind {
    match kind {
        kind if kind.is_file() => EntryKind::File,
        kind if kind.is_dir() => EntryKind::Folder,
        kind if kind.is_symlink() => EntryKind::Link,
        _ => EntryKind::Other,
    }
}

fn modified_ms(found: &fs::Metadata) -> i64 {
    found.mtime().saturating_mul(1_000).saturating_add(found.mtime_nsec() / 1_000_000)
}

pub(super) fn entry(path: &Path, names: &Names) -> io::Result<Entry> {
    let found = fs::symlink_metadata(path)?;
    let kind = kind_of(found.file_type());
    let leads = (kind == EntryKind::Link).then(|| end_of(path)).flatten();
    Ok(Entry {
        path: path.to_string_lossy().into_owned(),
        kind,
        bytes: found.len(),
        mode: found.mode() & 0o7777,
        user: found.uid(),
        group: found.gid(),
        modified_ms: modified_ms(&found),
        target: fs::read_link(path).ok().map(|target| target.to_string_lossy().into_owned()),
        owner: names.user(found.uid()),
        group_name: names.group(found.gid()),
        leads,
        metadata: metadata_at(path),
    })
}

fn end_of(path: &Path) -> Option<Leads> {
    let end = fs::canonicalize(path).ok()?;
    let found = fs::metadata(&end).ok()?;
    Some(Leads { path: end.to_string_lossy().into_owned(), kind: kind_of(found.file_type()), mode: found.mode() & 0o7777 })
}

/// What people wrote about a file. What is no plain text was not written as such, and what is more than they may write neither.
fn metadata_at(path: &Path) -> BTreeMap<String, String> {
    // Most files have none at all, and the answer to that is short.
    let mut names = vec![0; 1_024];
    let listed = listxattr(path, &mut names[..]).or_else(|error| match error {
        rustix::io::Errno::RANGE => {
            names.resize(MOST_ATTRIBUTES, 0);
            listxattr(path, &mut names[..])
        }
        other => Err(other),
    });
    let Ok(length) = listed else { return BTreeMap::new() };
    gathered(&names[..length], |name, value| getxattr(path, name, value).ok())
}

fn gathered(names: &[u8], read: impl Fn(&str, &mut [u8]) -> Option<usize>) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::new();
    let mut left = MOST_METADATA;
    for name in names.split(|byte| *byte == 0) {
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_plain(name)) else { continue };
        let Some(key) = name.strip_prefix(METADATA) else { continue };
        let mut value = [0; MOST_METADATA];
        let Some(length) = read(name, &mut value) else { continue };
        let Some(text) = std::str::from_utf8(&value[..length]).ok().filter(|text| is_plain(text)) else { continue };
        let Some(after) = left.checked_sub(name.len() + length) else { break };
        left = after;
        metadata.insert(key.to_owned(), text.to_owned());
    }
    metadata
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// All that is said of a file is what `metadata` says. File systems that keep no attributes keep none.
fn describe(file: &File, metadata: &BTreeMap<String, String>) -> io::Result<()> {
    let mut names = vec![0; MOST_ATTRIBUTES];
    let length = match flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let there = gathered(&names[..length], |name, value| fgetxattr(file, name, value).ok());
    for gone in there.keys().filter(|key| !metadata.contains_key(*key)) {
        fremovexattr(file, format!("{METADATA}{gone}"))?;
    }
    for (key, value) in metadata {
        match fsetxattr(file, format!("{METADATA}{key}"), value.as_bytes(), XattrFlags::empty()) {
            Err(rustix::io::Errno::NOTSUP) => return Ok(()),
            done => done?,
        }
    }
    Ok(())
}

impl Filling {
    fn fill(mut self, pipe: &mut File) -> Result<u64, Fault> {
        let copied = io::copy(pipe, &mut self.file);
        let Self { file, place, metadata, user } = self;
        let path = match &place {
            Target::Beside { path, .. } | Target::Itself(path) => path,
        };
        let kept = user.does(|| {
            let described = |bytes| metadata.as_ref().map_or(Ok(()), |metadata| describe(&file, metadata)).map(|()| bytes);
            match &place {
                Target::Itself(_) => copied.and_then(described),
                Target::Beside { beside, path } => copied
                    .and_then(described)
                    .and_then(|bytes| fs::rename(beside, path).map(|()| bytes))
                    .inspect_err(|_| drop(fs::remove_file(beside))),
            }
        });
        kept.and_then(|kept| kept).map_err(|error| Fault::of(&path.to_string_lossy(), &error))
    }
}

impl Copy {
    /// To its end; how many bytes, or entries.
    pub(super) fn run(self) -> Result<u64, Fault> {
        match self {
            Self::Out { mut file, most, mut pipe } => {
                let copied = match most {
                    Some(most) => io::copy(&mut file.take(most), &mut pipe),
                    None => io::copy(&mut file, &mut pipe),
                };
                copied.map_err(|error| Fault::of("read", &error))
            }
            Self::In { mut pipe, into } => into.fill(&mut pipe),
            Self::Lines { lines, mut pipe } => pipe.write_all(&lines).map(|()| 0).map_err(|error| Fault::of("lines", &error)),
            Self::List { path, depth, pipe, user } => {
                let mut out = io::BufWriter::new(pipe);
                let mut count = 0;
                let names = Names::read();
                let listed = user.does(|| list(&path, depth, &names, &mut out, &mut count).and_then(|()| out.flush()));
                listed.and_then(|listed| listed).map(|()| count).map_err(|error| Fault::of(&path.to_string_lossy(), &error))
            }
        }
    }
}

/// A folder's entries in the order of their names, each folder's own after it. What cannot be looked into, or is gone meanwhile, is passed over.
fn list(folder: &Path, depth: u32, names: &Names, out: &mut impl Write, count: &mut u64) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(found) = entry(&path, names) else { continue };
        *count += 1;
        if *count > MOST_ENTRIES {
            return Err(io::Error::other(format!("more than {MOST_ENTRIES} entries")));
        }
        serde_json::to_writer(&mut *out, &found)?;
        out.write_all(b"\n")?;
        if found.kind == EntryKind::Folder && depth > 1 {
            list(&path, depth - 1, names, out, count)?;
        }
    }
    Ok(())
}
