//! The tree of a sandbox, put together out of sight: in a mount namespace that nobody else is in, held by descriptors.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        CWD, FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstat, fstatfs, fstatvfs, makedev, mkdirat, mknodat, openat, openat2,
        symlinkat,
    },
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
        fsmount, fsopen, move_mount, open_tree,
    },
    process::{Gid, Uid},
    thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_res_gid, set_thread_res_uid},
};

use crate::{
    kernel::{Attributes, set_attributes},
    plan::Owner,
};

use super::missing;

const PROC_MAGIC: i64 = 0x9fa0;

/// What has been mounted so far.
#[derive(Default)]
pub(super) struct Mounts {
    ids: Option<OwnedFd>,
    owner: u32,
    /// Whether mounts belong to a namespace of ids that an ordinary user made.
    own: bool,
    stage: Option<OwnedFd>,
    root: Option<OwnedFd>,
    /// The new `/proc` as it was before anything was put over it.
    proc: Option<OwnedFd>,
    /// Where covers come from: `file`, `folder`, and what is said.
    covers: Option<OwnedFd>,
    expected: Vec<Expected>,
    said: usize,
}

/// What must be found at a path in the end.
struct Expected {
    at: String,
    what: What,
}

enum What {
    /// This very inode.
    Inode(u64, u64),
    /// Something that cannot be written to.
    ReadOnly,
}

impl Mounts {
    /// Files have the ids of this user namespace, whose root is `owner` outside.
    pub(super) fn set_ids(&mut self, ids: OwnedFd, owner: u32) {
        (self.ids, self.owner) = (Some(ids), owner);
    }

    /// Files have the ids of this process, which are all that there are.
    pub(super) fn set_own(&mut self) {
        self.own = true;
    }

    pub(super) fn root(&self) -> io::Result<&OwnedFd> {
        self.root.as_ref().ok_or_else(missing)
    }

    pub(super) fn stage(&mut self, over: &Path) -> io::Result<()> {
        rustix::process::umask(Mode::empty());
        let stage = memory(&[("size", "1m"), ("mode", "700")], MountAttrFlags::MOUNT_ATTR_NODEV)?;
        move_mount(&stage, "", CWD, over, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        // Names in the stage are relative from here on.
        rustix::process::fchdir(&stage)?;
        let covers = memory(&[("size", "256k"), ("mode", "555")], MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
        openat(&covers, "file", OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        mkdirat(&covers, "folder", Mode::empty())?;
        mkdirat(&stage, "covers", Mode::RWXU)?;
        attach(&covers, &stage, "covers")?;
        (self.stage, self.covers) = (Some(stage), Some(covers));
        Ok(())
    }

    pub(super) fn layer(&mut self, name: &str, source: &Path, read_only: bool) -> io::Result<()> {
        let layer = open_tree(CWD, source, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        set_attributes(&layer, &Attributes { read_only, ids: self.ids.as_ref().map(AsFd::as_fd) })?;
        let stage = self.stage.as_ref().ok_or_else(missing)?;
        mkdirat(stage, name, Mode::RWXU)?;
        attach(&layer, stage, name)
    }

    /// Made with the host's capabilities, so that what the overlay notes down in attributes is out of the sandbox's reach; and with the id of the
    /// sandbox's root, because the overlay makes files of its own with the ids of who made it, and the host's have no place in that tree.
    pub(super) fn overlay(&mut self, layers: &[String], changes: &str, work: &str, at: &str) -> io::Result<()> {
        let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let lower = layers.join(":");
        let options = [
            ("source", "skep"),
            ("lowerdir", lower.as_str()),
            ("upperdir", changes),
            ("workdir", work),
            ("redirect_dir", "nofollow"),
            ("metacopy", "off"),
            ("index", "off"),
        ];
        options.iter().try_for_each(|(key, value)| fsconfig_set_string(&overlay, *key, *value))?;
        if self.own {
            // Nobody but the host's root may use the attributes that an overlay else notes things down in.
            fsconfig_set_flag(&overlay, "userxattr")?;
        }
        self.as_owner(|| fsconfig_create(&overlay))??;
        let tree = fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)?;
        if at != "/" {
            return self.put(&tree, at);
        }
        let stage = self.stage.as_ref().ok_or_else(missing)?;
        mkdirat(stage, "root", Mode::RWXU)?;
        attach(&tree, stage, "root")?;
        self.root = Some(tree);
        Ok(())
    }

    pub(super) fn show(&mut self, layer: &str, at: &str) -> io::Result<()> {
        let stage = self.stage.as_ref().ok_or_else(missing)?;
        let shown = open_tree(stage, layer, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        self.put(&shown, at)
    }

    pub(super) fn volume(&mut self, volume: &OwnedFd, at: &str, read_only: bool) -> io::Result<()> {
        set_attributes(volume, &Attributes { read_only, ids: self.ids.as_ref().map(AsFd::as_fd) })?;
        let mut place = self.find("/")?;
        for step in at.split('/').filter(|step| !step.is_empty()) {
            match self.as_owner(|| mkdirat(&place, step, Mode::from_raw_mode(0o755)))? {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            place = open_below(&place, step)?;
        }
        attach_over(volume, &place)
    }

    pub(super) fn proc(&mut self) -> io::Result<()> {
        let proc = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&proc)?;
        let safe = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let tree = fsmount(&proc, FsMountFlags::FSMOUNT_CLOEXEC, safe)?;
        self.put(&tree, "/proc")?;
        self.proc = Some(clone_of(&tree)?);
        Ok(())
    }

    /// The folder and its nodes are the host root's: nobody within can put anything else in their place.
    pub(super) fn devices(&mut self, owner: Owner, shared_bytes: u64) -> io::Result<()> {
        let safe = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let devices = memory(&[("size", "64k"), ("mode", "755")], safe)?;
        for (name, major, minor) in [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)] {
            let kind = if self.own { FileType::RegularFile } else { FileType::CharacterDevice };
            mknodat(&devices, name, kind, Mode::from_raw_mode(0o666), if self.own { 0 } else { makedev(major, minor) })?;
        }
        for (name, to) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("ptmx", "pts/ptmx")] {
            symlinkat(to, &devices, name)?;
        }
        mkdirat(&devices, "pts", Mode::from_raw_mode(0o755))?;
        mkdirat(&devices, "shm", Mode::from_raw_mode(0o755))?;
        self.put(&devices, "/dev")?;
        if self.own {
            ["null", "zero", "full", "random", "urandom", "tty"].into_iter().try_for_each(|name| borrowed(&devices, name))?;
        }
        let terminals = fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let group = match owner {
            Owner::Range(range) => range.first + 5,
            Owner::Own => 0,
        };
        let group = group.to_string();
        for (key, value) in [("mode", "620"), ("ptmxmode", "666"), ("gid", group.as_str())] {
            fsconfig_set_string(&terminals, key, value)?;
        }
        fsconfig_create(&terminals)?;
        self.put(&fsmount(&terminals, FsMountFlags::FSMOUNT_CLOEXEC, safe)?, "/dev/pts")?;
        self.memory("/dev/shm", shared_bytes, 0o1777, owner)
    }

    pub(super) fn memory(&mut self, at: &str, bytes: u64, mode: u16, owner: Owner) -> io::Result<()> {
        let owner = match owner {
            Owner::Range(range) => range.first,
            Owner::Own => 0,
        };
        let (bytes, mode, owner) = (bytes.to_string(), format!("{mode:o}"), owner.to_string());
        let options = [("size", bytes.as_str()), ("mode", &mode), ("uid", &owner), ("gid", &owner), ("nr_inodes", "16384")];
        self.put(&memory(&options, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)?, at)
    }

    /// Written where nothing has been put over it, and nobody within can look on.
    pub(super) fn setting(&mut self, key: &str, value: &str) -> io::Result<()> {
        let proc = self.proc.as_ref().ok_or_else(missing)?;
        let file = openat2(
            proc,
            format!("sys/{key}"),
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )?;
        File::from(file).write_all(value.as_bytes())
    }

    pub(super) fn cover(&mut self, at: &str) -> io::Result<()> {
        let target = match self.find(at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        must_be_proc(&target, at)?;
        let folder = FileType::from_raw_mode(fstat(&target)?.st_mode) == FileType::Directory;
        self.lay(if folder { "folder" } else { "file" }, &target, at)
    }

    pub(super) fn say(&mut self, at: &str, text: &str) -> io::Result<()> {
        let target = self.find(at)?;
        must_be_proc(&target, at)?;
        let name = format!("said{}", self.said);
        self.said += 1;
        let covers = self.covers.as_ref().ok_or_else(missing)?;
        let file = openat(covers, &name, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o444))?;
        File::from(file).write_all(text.as_bytes())?;
        self.lay(&name, &target, at)
    }

    /// Puts one of the covers over a place, read-only.
    fn lay(&mut self, cover: &str, target: &OwnedFd, at: &str) -> io::Result<()> {
        let covers = self.covers.as_ref().ok_or_else(missing)?;
        let cover = open_tree(covers, cover, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        set_attributes(&cover, &Attributes { read_only: true, ids: None })?;
        attach_over(&cover, target)?;
        let inode = fstat(&cover)?;
        self.expected.push(Expected { at: at.to_owned(), what: What::Inode(inode.st_dev, inode.st_ino) });
        Ok(())
    }

    pub(super) fn freeze(&mut self, at: &str) -> io::Result<()> {
        let target = match self.find(at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        must_be_proc(&target, at)?;
        let frozen = clone_of(&target)?;
        set_attributes(&frozen, &Attributes { read_only: true, ids: None })?;
        attach_over(&frozen, &target)?;
        self.expected.push(Expected { at: at.to_owned(), what: What::ReadOnly });
        Ok(())
    }

    pub(super) fn verify(&self) -> io::Result<()> {
        for expected in &self.expected {
            let found = self.find(&expected.at)?;
            let holds = match expected.what {
                What::Inode(device, inode) => fstat(&found).map(|it| (it.st_dev, it.st_ino) == (device, inode))?,
                What::ReadOnly => fstatvfs(&found)?.f_flag.contains(StatVfsMountFlags::RDONLY),
            };
            if !holds {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is not what was put there", expected.at)));
            }
        }
        Ok(())
    }

    fn as_owner<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        if self.own { Ok(work()) } else { as_owner(self.owner, work) }
    }

    /// A place in the new tree. Links are never followed: those in it may be anybody's.
    fn find(&self, at: &str) -> io::Result<OwnedFd> {
        let root = self.root()?;
        match at.trim_start_matches('/') {
            "" => Ok(root.try_clone()?),
            below => open_below(root, below),
        }
    }

    fn put(&self, mount: &OwnedFd, at: &str) -> io::Result<()> {
        let found = self.find(at).map_err(|error| io::Error::new(error.kind(), format!("the place for {at}: {error}")))?;
        attach_over(mount, &found)
    }
}

/// The host's own device, over a file: where no devices can be made.
fn borrowed(devices: &OwnedFd, name: &str) -> io::Result<()> {
    let there = openat(CWD, format!("/dev/{name}"), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&there)?.st_mode) != FileType::CharacterDevice {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("/dev/{name} of the host is no device")));
    }
    attach(&clone_of(&there)?, devices, name)
}

fn open_below(folder: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(folder, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

fn attach(mount: &OwnedFd, folder: &OwnedFd, name: &str) -> io::Result<()> {
    Ok(move_mount(mount, "", folder, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn attach_over(mount: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let by_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", by_descriptor)?)
}

fn clone_of(place: &OwnedFd) -> io::Result<OwnedFd> {
    let this = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(place, "", this)?)
}

fn memory(options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let memory = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    options.iter().try_for_each(|(key, value)| fsconfig_set_string(&memory, *key, *value))?;
    fsconfig_create(&memory)?;
    Ok(fsmount(&memory, FsMountFlags::FSMOUNT_CLOEXEC, attributes | MountAttrFlags::MOUNT_ATTR_NOSUID)?)
}

fn must_be_proc(place: &OwnedFd, at: &str) -> io::Result<()> {
    if fstatfs(place)?.f_type == PROC_MAGIC {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("{at} is not of procfs")))
    }
}

/// As the sandbox's root, with the capabilities of the host's: ids that the tree's file system can hold, and the right to do it. But for one, since
/// an overlay writes with what its maker had: whoever may pass over bounds of the disk would do so in the sandbox's name.
fn as_owner<T>(owner: u32, work: impl FnOnce() -> T) -> io::Result<T> {
    set_thread_res_gid(None, Some(Gid::from_raw(owner)), None)?;
    set_thread_res_uid(None, Some(Uid::from_raw(owner)), None)?;
    let own = capabilities(None)?;
    set_capabilities(None, CapabilitySets { effective: own.permitted.difference(CapabilitySet::SYS_RESOURCE), ..own })?;
    let done = work();
    set_thread_res_uid(None, Some(Uid::ROOT), None)?;
    set_thread_res_gid(None, Some(Gid::ROOT), None)?;
    Ok(done)
}
