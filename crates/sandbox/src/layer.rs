//! A sandbox's changes as a tree of an overlay: walked, and copied as a layer that others begin with.
//!
//! What is walked was written by whoever is in the sandbox: names, links, modes and times are anything. Every step is by descriptor from the
//! tree's root, through folders only and never through a link. Driven by `snapshot`; it is not: what changed between two moments (`since.rs`),
//! nor where layers are kept.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps, XattrFlags, chmodat,
        chownat, copy_file_range, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, ftruncate, futimens, ioctl_ficlone, linkat,
        major, makedev, minor, mkdirat, mknodat, open, openat, openat2, readlinkat, renameat_with, seek, statat, symlinkat, unlinkat,
        utimensat,
    },
    io::Errno,
    process::{Gid, Uid},
};

/// How an overlay marks a folder that hides what layers below have there.
const OPAQUE: &str = "trusted.overlay.opaque";

/// Entries of one tree; with more it is refused as a whole, since its owner could let this process run out of memory.
const MOST_ENTRIES: usize = 2_000_000;

/// Bytes of one entry's attributes: those of a file are read at once, and a file system allows no more.
const MOST_ATTRIBUTES: usize = 64 << 10;

/// Threads of one walk or copy.
const MOST_THREADS: usize = 8;

/// Items worth a thread.
const BATCH: usize = 32;

/// What an entry of a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    File,
    /// Opaque: what layers below have there is not seen.
    Folder {
        opaque: bool,
    },
    Link,
    /// What layers below have there is gone.
    Gone,
    Pipe,
    Socket,
}

/// Seconds and nanoseconds since 1970.
pub(crate) type Time = (i64, u32);

/// What tells that an entry is still the same: nobody but the kernel sets `changed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub inode: u64,
    pub bytes: u64,
    pub modified: Time,
    pub changed: Time,
}

/// An entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// From the tree's root, which is the empty path.
    pub path: PathBuf,
    pub kind: Kind,
    /// Permission bits, set-id bits included.
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    pub stamp: Stamp,
    /// Names of this inode.
    pub links: u64,
    /// Bytes on the disk: holes are none.
    pub kept: u64,
}

impl Node {
    /// `None`: a device, which no sandbox can have made.
    #[expect(clippy::useless_conversion, reason = "fields differ in width between architectures")]
    fn of(path: PathBuf, stat: &Stat) -> Option<Self> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder { opaque: false },
            FileType::Symlink => Kind::Link,
            FileType::Fifo => Kind::Pipe,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice if (major(stat.st_rdev), minor(stat.st_rdev)) == (0, 0) => Kind::Gone,
            _ => return None,
        };
        let (user, group) = (stat.st_uid, stat.st_gid);
        let kept = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        Some(Self { path, kind, mode: stat.st_mode & 0o7777, user, group, stamp: Stamp::of(stat), links: stat.st_nlink.into(), kept })
    }

    pub(crate) fn is_folder(&self) -> bool {
        matches!(self.kind, Kind::Folder { .. })
    }
}

impl Stamp {
    #[expect(clippy::useless_conversion, reason = "fields differ in width between architectures")]
    fn of(stat: &Stat) -> Self {
        let nanos = |nanos: u64| u32::try_from(nanos).unwrap_or(0);
        Self {
            inode: stat.st_ino,
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime.into(), nanos(stat.st_mtime_nsec)),
            changed: (stat.st_ctime.into(), nanos(stat.st_ctime_nsec)),
        }
    }
}

/// The root of a tree, by a path of ours.
pub(crate) fn root(folder: &Path) -> io::Result<OwnedFd> {
    Ok(open(folder, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens what is at a path in a tree, through folders only.
pub(crate) fn open_in(root: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let waiting = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK | OFlags::NOCTTY };
    let flags = flags | waiting | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// What is at a path in a tree. `None`: nothing, or nothing that a layer holds.
pub(crate) fn look(root: &OwnedFd, path: &Path) -> io::Result<Option<Node>> {
    let found = match open_in(root, path, OFlags::PATH) {
        Ok(found) => found,
        Err(error) if is_nothing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(mut node) = Node::of(path.to_owned(), &fstat(&found)?) else { return Ok(None) };
    if let Kind::Folder { opaque } = &mut node.kind {
        *opaque = is_opaque(&open_in(root, path, OFlags::DIRECTORY | OFlags::RDONLY)?)?;
    }
    Ok(Some(node))
}

/// Whether an error says that there is nothing at a path, or no longer what was there.
pub(crate) fn is_nothing(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::STALE | Errno::NAMETOOLONG)
    )
}

fn is_opaque(folder: &OwnedFd) -> io::Result<bool> {
    let mut value = [0; 1];
    match fgetxattr(folder, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(length == 1 && value[0] == b'y'),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Every entry of a tree, each folder before what is in it, the root first. What vanishes meanwhile is passed over; in a sandbox that stands still
/// nothing does.
pub(crate) fn walk(root: &OwnedFd) -> io::Result<Vec<Node>> {
    let no_folder = || io::Error::new(io::ErrorKind::NotADirectory, "the root of a tree is a folder");
    let mut nodes = vec![Node::of(PathBuf::new(), &fstat(root)?).ok_or_else(no_folder)?];
    let mut level = vec![0];
    while !level.is_empty() {
        let read = in_parallel(&level, |&at: &usize| children(root, &nodes[at].path))?;
        let mut next = Vec::new();
        for (at, (opaque, found)) in level.into_iter().zip(read) {
            nodes[at].kind = Kind::Folder { opaque };
            for node in found {
                if node.is_folder() {
                    next.push(nodes.len());
                }
                nodes.push(node);
            }
        }
        if nodes.len() > MOST_ENTRIES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MOST_ENTRIES} files were changed")));
        }
        level = next;
    }
    Ok(nodes)
}

/// Whether a folder is opaque, and what is in it.
pub(crate) fn children(root: &OwnedFd, path: &Path) -> io::Result<(bool, Vec<Node>)> {
    let folder = match open_in(root, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOATIME) {
        Ok(folder) => folder,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NAMETOOLONG) => {
            let shown: String = path.to_string_lossy().chars().take(80).collect();
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, format!("folders lie too deep in each other below {shown:?}")));
        }
        Err(error) if is_nothing(&error) => return Ok((false, Vec::new())),
        Err(error) => return Err(error),
    };
    let opaque = is_opaque(&folder)?;
    let mut nodes = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => nodes.extend(Node::of(path.join(std::ffi::OsStr::from_bytes(name.to_bytes())), &stat)),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((opaque, nodes))
}

/// Does the work for every item, with more than one thread where there are many; results are in the order of the items.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> io::Result<R> + Sync) -> io::Result<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS).min(items.len() / BATCH);
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let take = || -> io::Result<Vec<(usize, Vec<R>)>> {
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            if from >= items.len() {
                break;
            }
            let batch: io::Result<Vec<R>> = items[from..items.len().min(from + BATCH)].iter().map(&work).collect();
            done.push((from, batch.inspect_err(|_| failed.store(true, Ordering::Relaxed))?));
        }
        Ok(done)
    };
    let mut batches = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(take)).collect();
        let mut batches = take();
        for other in others {
            let more = other.join().unwrap_or_else(|_| Err(io::Error::other("a thread of a walk failed")));
            batches = batches.and_then(|mut all| {
                all.extend(more?);
                Ok(all)
            });
        }
        batches
    })?;
    batches.sort_unstable_by_key(|(from, _)| *from);
    Ok(batches.into_iter().flat_map(|(_, batch)| batch).collect())
}

/// An earlier copy of a file that has not changed since: the root of a layer and the path in it.
pub(crate) type Earlier<'a> = dyn Fn(&Node) -> Option<&'a OwnedFd> + Sync + 'a;

/// What came of a copy.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    /// Files that are there, but changed while they were copied: they may be of no one moment.
    pub torn: HashSet<PathBuf>,
    /// Entries that were gone before they were copied.
    pub missed: HashSet<PathBuf>,
}

/// Copies entries of a tree, folders before what is in them, into an empty folder of ours. By reflink where there is one, by a hard link to an
/// earlier copy where `earlier` has one, else by bytes; holes stay holes. What is `gone` is marked so.
pub(crate) fn copy(from: &OwnedFd, nodes: &[Node], gone: &[PathBuf], to: &OwnedFd, earlier: &Earlier<'_>) -> io::Result<Copied> {
    let copy = Copying { from, to, earlier, reflinks: AtomicBool::new(true) };
    let mut copied = Copied::default();
    let (folders, others): (Vec<&Node>, Vec<&Node>) = nodes.iter().partition(|node| node.is_folder());
    for folder in folders.iter().filter(|folder| !folder.path.as_os_str().is_empty()) {
        mkdirat(to, &folder.path, Mode::RWXU)?;
    }
    let mut first: HashMap<u64, &Path> = HashMap::new();
    let (names, files): (Vec<&Node>, Vec<&Node>) = others.into_iter().partition(|node| {
        let many = node.links > 1 && node.kind == Kind::File;
        many && *first.entry(node.stamp.inode).or_insert(&node.path) != node.path
    });
    for (node, how) in files.iter().zip(in_parallel(&files, |node| copy.entry(node))?) {
        match how {
            How::Whole => {}
            How::Torn => drop(copied.torn.insert(node.path.clone())),
            How::Missed => drop(copied.missed.insert(node.path.clone())),
        }
    }
    for node in names {
        let first = first.get(&node.stamp.inode).copied().unwrap_or(&node.path);
        if copied.missed.contains(first) {
            copied.missed.insert(node.path.clone());
        } else {
            linkat(to, first, to, &node.path, AtFlags::empty())?;
            if copied.torn.contains(first) {
                copied.torn.insert(node.path.clone());
            }
        }
    }
    gone.iter().try_for_each(|path| white_out(to, path))?;
    // Last: whatever is made in a folder changes its time.
    in_parallel(&folders, |folder| copy.folder(folder))?;
    Ok(copied)
}

/// Puts entries of many trees, each with the number of its tree, into an empty folder of ours; folders come before what is in them. Files are
/// linked, since trees of ours never change.
pub(crate) fn assemble(trees: &[OwnedFd], entries: &[(usize, Node)], to: &OwnedFd) -> io::Result<()> {
    let (folders, others): (Vec<_>, Vec<_>) = entries.iter().partition(|(_, node)| node.is_folder());
    for (_, folder) in folders.iter().filter(|(_, folder)| !folder.path.as_os_str().is_empty()) {
        mkdirat(to, &folder.path, Mode::RWXU)?;
    }
    let from = |tree: usize, work: &dyn Fn(&Copying<'_, '_>) -> io::Result<()>| {
        let earlier = |_: &Node| Some(&trees[tree]);
        work(&Copying { from: &trees[tree], to, earlier: &earlier, reflinks: AtomicBool::new(true) })
    };
    in_parallel(&others, |(tree, node)| from(*tree, &|copy| copy.entry(node).map(drop)))?;
    in_parallel(&folders, |(tree, node)| from(*tree, &|copy| copy.folder(node)))?;
    Ok(())
}

enum How {
    Whole,
    Torn,
    Missed,
}

struct Copying<'a, 'e> {
    from: &'a OwnedFd,
    to: &'a OwnedFd,
    earlier: &'a Earlier<'e>,
    /// Whether the file system has not refused one yet.
    reflinks: AtomicBool,
}

impl Copying<'_, '_> {
    fn entry(&self, node: &Node) -> io::Result<How> {
        let described = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", node.path.display()));
        match node.kind {
            Kind::File => self.file(node).map_err(described),
            Kind::Link => self.link(node).map_err(described),
            Kind::Gone => self.node(node, FileType::CharacterDevice),
            Kind::Pipe => self.node(node, FileType::Fifo),
            Kind::Socket => self.node(node, FileType::Socket),
            Kind::Folder { .. } => Ok(How::Whole),
        }
    }

    fn file(&self, node: &Node) -> io::Result<How> {
        if let Some(layer) = (self.earlier)(node)
            && linkat(layer, &node.path, self.to, &node.path, AtFlags::empty()).is_ok()
        {
            return Ok(How::Whole);
        }
        let Some(source) = self.same(node)? else { return Ok(How::Missed) };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = openat(self.to, &node.path, flags, Mode::RUSR | Mode::WUSR)?;
        let before = fstat(&source)?;
        self.content(&source, &target, &before)?;
        attributes(&source, &target)?;
        dress(&target, node)?;
        Ok(if Stamp::of(&fstat(&source)?) == node.stamp { How::Whole } else { How::Torn })
    }

    /// The very file that was found when the tree was walked. Opened without waiting: by now it may be a pipe.
    fn same(&self, node: &Node) -> io::Result<Option<OwnedFd>> {
        let file = match open_in(self.from, &node.path, OFlags::RDONLY | OFlags::NOATIME) {
            Ok(file) => file,
            Err(error) if is_nothing(&error) || Errno::from_io_error(&error) == Some(Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = fstat(&file)?;
        let same = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_ino == node.stamp.inode;
        Ok(same.then_some(file))
    }

    fn content(&self, source: &OwnedFd, target: &OwnedFd, stat: &Stat) -> io::Result<()> {
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if bytes == 0 {
            return Ok(());
        }
        if self.reflinks.load(Ordering::Relaxed) {
            match ioctl_ficlone(target, source) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS) => self.reflinks.store(false, Ordering::Relaxed),
                // This file only.
                Err(Errno::INVAL | Errno::TXTBSY | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) >= bytes {
            return range(source, target, 0, bytes);
        }
        for (from, length) in extents(source, bytes)? {
            range(source, target, from, length)?;
        }
        Ok(ftruncate(target, bytes)?)
    }

    fn link(&self, node: &Node) -> io::Result<How> {
        let found = match open_in(self.from, &node.path, OFlags::PATH) {
            Ok(found) => found,
            Err(error) if is_nothing(&error) => return Ok(How::Missed),
            Err(error) => return Err(error),
        };
        let target = match readlinkat(&found, "", Vec::new()) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::INVAL) => return Ok(How::Missed),
            Err(error) => return Err(error.into()),
        };
        symlinkat(&*target, self.to, &node.path)?;
        self.dress_by_name(node)?;
        Ok(How::Whole)
    }

    fn node(&self, node: &Node, kind: FileType) -> io::Result<How> {
        mknodat(self.to, &node.path, kind, Mode::from_raw_mode(node.mode), makedev(0, 0))?;
        if node.kind != Kind::Gone {
            self.dress_by_name(node)?;
            // What it was made with, this process's mask has had a part in.
            chmodat(self.to, &node.path, Mode::from_raw_mode(node.mode), AtFlags::empty())?;
        }
        Ok(How::Whole)
    }

    fn dress_by_name(&self, node: &Node) -> io::Result<()> {
        let (user, group) = (Uid::from_raw(node.user), Gid::from_raw(node.group));
        chownat(self.to, &node.path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(utimensat(self.to, &node.path, &times(node.stamp.modified), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn folder(&self, node: &Node) -> io::Result<()> {
        let target = open_in(self.to, &node.path, OFlags::DIRECTORY | OFlags::RDONLY)?;
        match open_in(self.from, &node.path, OFlags::DIRECTORY | OFlags::RDONLY) {
            Ok(source) => attributes(&source, &target)?,
            Err(error) if is_nothing(&error) => {}
            Err(error) => return Err(error),
        }
        if node.kind == (Kind::Folder { opaque: true }) {
            make_opaque(&target)?;
        }
        dress(&target, node)
    }
}

/// Owner before mode: a new owner takes set-id bits away. Times last.
pub(crate) fn dress(target: &OwnedFd, node: &Node) -> io::Result<()> {
    fchown(target, Some(Uid::from_raw(node.user)), Some(Gid::from_raw(node.group)))?;
    fchmod(target, Mode::from_raw_mode(node.mode))?;
    Ok(futimens(target, &times(node.stamp.modified))?)
}

pub(crate) fn times(modified: Time) -> Timestamps {
    let at = Timespec { tv_sec: modified.0, tv_nsec: modified.1.into() };
    Timestamps { last_access: at, last_modification: at }
}

/// The attributes that are the owner's own: `user.*` and access lists. Those of overlays and of security modules are not a copy's.
pub(crate) fn own_attributes(of: &OwnedFd) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; 256];
    let length = loop {
        match flistxattr(of, &mut names[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < MOST_ATTRIBUTES => names.resize(MOST_ATTRIBUTES, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    };
    let mut found = Vec::new();
    for name in names[..length].split(|b| *b == 0).filter_map(|name| std::str::from_utf8(name).ok()) {
        if !name.starts_with("user.") && !name.starts_with("system.posix_acl_") {
            continue;
        }
        let mut value = vec![0; MOST_ATTRIBUTES];
        match fgetxattr(of, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                found.push((name.to_owned(), value));
            }
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn attributes(source: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    for (name, value) in own_attributes(source)? {
        fsetxattr(target, &*name, &value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Where a file has content: offset and length of each piece that is no hole.
pub(crate) fn extents(file: impl AsFd, bytes: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < bytes {
        let from = match seek(&file, SeekFrom::Data(at)) {
            Ok(from) => from,
            Err(Errno::NXIO) => break,
            // A file system that does not know of holes.
            Err(Errno::INVAL) => {
                pieces.push((at, bytes - at));
                break;
            }
            Err(error) => return Err(error.into()),
        };
        let to = seek(&file, SeekFrom::Hole(from))?.min(bytes);
        if to <= from {
            break;
        }
        pieces.push((from, to - from));
        at = to;
    }
    Ok(pieces)
}

fn range(source: &OwnedFd, target: &OwnedFd, from: u64, length: u64) -> io::Result<()> {
    let (mut read_at, mut write_at, end) = (from, from, from + length);
    while read_at < end {
        let most = usize::try_from(end - read_at).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(source, Some(&mut read_at), target, Some(&mut write_at), most) {
            // It has become shorter.
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => return by_buffer(source, target, read_at, end),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn by_buffer(source: &OwnedFd, target: &OwnedFd, mut at: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let read = rustix::io::pread(source, &mut buffer[..most], at)?;
        if read == 0 {
            return Ok(());
        }
        let mut written = 0;
        while written < read {
            let so_far = u64::try_from(written).unwrap_or(0);
            written += rustix::io::pwrite(target, &buffer[written..read], at + so_far)?;
        }
        at += u64::try_from(read).unwrap_or(0);
    }
    Ok(())
}

/// Hides what the layers below have in this folder.
pub(crate) fn make_opaque(folder: &OwnedFd) -> io::Result<()> {
    Ok(fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty())?)
}

/// Marks something of the layers below as gone.
pub(crate) fn white_out(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    Ok(mknodat(tree, path, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?)
}

/// Folders that are open at once while a tree is removed.
const OPEN_FOLDERS: usize = 64;

/// Removes a tree, however deep folders lie in each other: what is deeper than can be open at once is first moved up.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(io::ErrorKind::InvalidInput.into()) };
    let parent = match open(parent, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => return Ok(unlinkat(&parent, name, AtFlags::empty())?),
        other => drop(other?),
    }
    let top = openat(&parent, name, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let mut moved = 0;
    while !empty(&top, &top, 1, &mut moved)? {}
    Ok(unlinkat(&parent, name, AtFlags::REMOVEDIR)?)
}

/// Removes what is in a folder. `false`: something was moved up into `top`, which must be emptied again.
fn empty(top: &OwnedFd, folder: &OwnedFd, depth: usize, moved: &mut u64) -> io::Result<bool> {
    let mut whole = true;
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        if depth >= OPEN_FOLDERS {
            move_up(folder, name, top, moved)?;
            whole = false;
            continue;
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        whole &= empty(top, &openat(folder, name, flags, Mode::empty())?, depth + 1, moved)?;
        unlinkat(folder, name, AtFlags::REMOVEDIR)?;
    }
    Ok(whole)
}

/// Under a name that nobody has taken yet, on purpose or not.
fn move_up(folder: &OwnedFd, name: &std::ffi::CStr, top: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        match renameat_with(folder, name, top, format!(".moved-up-{moved}"), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
    }
}

/// Everything of the file system that a folder is on is on its disk when this returns.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(open(folder, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)?)
}
