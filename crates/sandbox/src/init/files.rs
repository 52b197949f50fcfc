//! Files for the node: always with the rights of a user of the sandbox, never with init's own.
//!
//! Each request is begun (answered with what it opened) and, where bytes go through a pipe, copied afterwards.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use super::{
    Within,
    users::{self, User},
};
use crate::wire::{Answer, Ask, Entry, EntryKind, Fault, FaultKind};

/// Entries of one listing; what is deeper or more is an error, not a surprise.
const MOST_ENTRIES: u64 = 1_000_000;
const MOST_DEPTH: u32 = 64;

/// Bytes on their way.
pub(super) enum Copy {
    Out { file: File, pipe: File },
    In { pipe: File, file: File, beside: PathBuf, path: PathBuf, user: User },
    List { path: PathBuf, depth: u32, pipe: File, user: User },
}

pub(super) type Begun = Result<(Answer, Option<Copy>), Fault>;

pub(super) fn begin(ask: Ask, given: Option<OwnedFd>, all: Within) -> Begun {
    let pipe = || given.map(File::from).ok_or_else(|| Fault::new(FaultKind::Invalid, "a pipe is needed"));
    let of = |id: u32| users::find(id, all);
    let done = |done: io::Result<()>, path: &str| done.map(|()| (Answer::Done, None)).map_err(|error| Fault::of(path, &error));
    match ask {
        Ask::Read { path, user } => {
            let (file, bytes) = within(&of(user)?, &path, open)?;
            Ok((Answer::Opened { bytes }, Some(Copy::Out { file, pipe: pipe()? })))
        }
        Ask::Write { path, user, mode, parents } => {
            let user = of(user)?;
            let (file, beside, path) = within(&user, &path, |p| create(p, mode, parents))?;
            Ok((Answer::Opened { bytes: 0 }, Some(Copy::In { pipe: pipe()?, file, beside, path, user })))
        }
        Ask::List { path, user, depth } => {
            let user = of(user)?;
            within(&user, &path, |p| fs::read_dir(p).map(drop))?;
            let copy = Copy::List { path: path.into(), depth: depth.clamp(1, MOST_DEPTH), pipe: pipe()?, user };
            Ok((Answer::Done, Some(copy)))
        }
        Ask::Stat { path, user } => Ok((Answer::Entry(within(&of(user)?, &path, entry)?), None)),
        Ask::MakeFolder { path, user } => {
            let made = within(&of(user)?, &path, |p| match fs::symlink_metadata(p) {
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(_) => fs::create_dir_all(p).and_then(|()| entry(p)),
            })?;
            Ok((Answer::Entry(made), None))
        }
        Ask::Rename { from, to, user } => {
            let user = of(user)?;
            absolute(&from)?;
            absolute(&to)?;
            let moved = user.does(|| rename(Path::new(&from), Path::new(&to)).and_then(|()| entry(Path::new(&to))));
            Ok((Answer::Entry(moved.and_then(|moved| moved).map_err(|error| Fault::of(&from, &error))?), None))
        }
        Ask::Remove { path, user } => {
            let user = of(user)?;
            absolute(&path)?;
            let removed = user.does(|| remove(Path::new(&path))).and_then(|removed| removed);
            done(removed, &path)
        }
        Ask::Exec { .. } | Ask::Signal { .. } | Ask::Connect { .. } | Ask::Tun | Ask::Shutdown => {
            Err(Fault::new(FaultKind::Invalid, "is no request about files"))
        }
    }
}

fn absolute(path: &str) -> Result<(), Fault> {
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
fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no file"));
    }
    Ok((file, found.len()))
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

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

fn entry(path: &Path) -> io::Result<Entry> {
    let found = fs::symlink_metadata(path)?;
    let kind = match found.file_type() {
        kind if kind.is_file() => EntryKind::File,
        kind if kind.is_dir() => EntryKind::Folder,
        kind if kind.is_symlink() => EntryKind::Link,
        _ => EntryKind::Other,
    };
    Ok(Entry {
        path: path.to_string_lossy().into_owned(),
        kind,
        bytes: found.len(),
        mode: found.mode() & 0o7777,
        user: found.uid(),
        group: found.gid(),
        modified_ms: found.mtime().saturating_mul(1_000).saturating_add(found.mtime_nsec() / 1_000_000),
        target: fs::read_link(path).ok().map(|target| target.to_string_lossy().into_owned()),
    })
}

impl Copy {
    /// To its end; how many bytes, or entries.
    pub(super) fn run(self) -> Result<u64, Fault> {
        match self {
            Self::Out { mut file, mut pipe } => io::copy(&mut file, &mut pipe).map_err(|error| Fault::of("read", &error)),
            Self::In { mut pipe, mut file, beside, path, user } => {
                let copied = io::copy(&mut pipe, &mut file);
                let kept = user.does(|| {
                    copied.and_then(|bytes| fs::rename(&beside, &path).map(|()| bytes)).inspect_err(|_| drop(fs::remove_file(&beside)))
                });
                kept.and_then(|kept| kept).map_err(|error| Fault::of(&path.to_string_lossy(), &error))
            }
            Self::List { path, depth, pipe, user } => {
                let mut out = io::BufWriter::new(pipe);
                let mut count = 0;
                let listed = user.does(|| list(&path, depth, &mut out, &mut count).and_then(|()| out.flush()));
                listed.and_then(|listed| listed).map(|()| count).map_err(|error| Fault::of(&path.to_string_lossy(), &error))
            }
        }
    }
}

/// A folder's entries in the order of their names, each folder's own after it. What cannot be looked into, or is gone meanwhile, is passed over.
fn list(folder: &Path, depth: u32, out: &mut impl Write, count: &mut u64) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    names.sort();
    for path in names {
        let Ok(found) = entry(&path) else { continue };
        *count += 1;
        if *count > MOST_ENTRIES {
            return Err(io::Error::other(format!("more than {MOST_ENTRIES} entries")));
        }
        serde_json::to_writer(&mut *out, &found)?;
        out.write_all(b"\n")?;
        if found.kind == EntryKind::Folder && depth > 1 {
            list(&path, depth - 1, out, count)?;
        }
    }
    Ok(())
}
