//! The image that is always there: the host's own programs below a root that is made.
//!
//! It works at once and offline. The host's `/usr` is shown, with the folders that a host may have beside it (`/lib64`, …); its `/etc`,
//! its users, its data are not. Ids on disk are inner ones.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use crate::{
    etc,
    spec::{Part, Rootfs},
};

/// Folders of the host that hold its programs, where they are no links into `/usr`.
const PROGRAMS: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Folders of the root: name, permission bits, whether they are the ordinary user's.
const FOLDERS: &[(&str, u32, bool)] = &[
    ("etc", 0o755, false),
    ("home", 0o755, false),
    ("home/user", 0o755, true),
    ("root", 0o700, false),
    ("tmp", 0o1777, false),
    ("var", 0o755, false),
    ("var/cache", 0o755, false),
    ("var/lib", 0o755, false),
    ("var/log", 0o755, false),
    ("var/tmp", 0o1777, false),
    ("opt", 0o755, false),
    ("srv", 0o755, false),
    ("mnt", 0o755, false),
    ("media", 0o755, false),
    ("run", 0o755, false),
    ("proc", 0o555, false),
    ("sys", 0o555, false),
    ("dev", 0o755, false),
    ("code", 0o755, true),
];

/// Makes the root beside the host's programs in `folder`, unless it is there, and says what a sandbox is then made of.
pub fn host_image(folder: &Path) -> io::Result<Rootfs> {
    let parts: Vec<&str> =
        PROGRAMS.into_iter().filter(|name| fs::symlink_metadata(Path::new("/").join(name)).is_ok_and(|m| m.is_dir())).collect();
    if !folder.exists() {
        let beside = beside(folder)?;
        make(&beside, &parts)?;
        match fs::rename(&beside, folder) {
            // Somebody else made the same one.
            Err(_) if folder.exists() => fs::remove_dir_all(&beside)?,
            other => other?,
        }
    }
    let part = |name: &str| Part { source: Path::new("/").join(name), name: name.to_owned(), layers: vec![] };
    Ok(Rootfs { layers: vec![folder.to_owned()], parts: parts.into_iter().map(part).collect() })
}

/// An empty folder beside this one, that nobody else makes the root in: sandboxes may be asked for at once.
fn beside(folder: &Path) -> io::Result<PathBuf> {
    let names = (0_u32..).map(|number| folder.with_extension(format!("new{}-{number}", std::process::id())));
    let mut made = names.filter_map(|path| match fs::create_dir_all(path.parent().unwrap_or(&path)).and_then(|()| fs::create_dir(&path)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
        done => Some(done.map(|()| path)),
    });
    made.next().unwrap_or_else(|| Err(io::ErrorKind::AlreadyExists.into()))
}

fn make(root: &Path, parts: &[&str]) -> io::Result<()> {
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    for part in parts {
        fs::create_dir(root.join(part))?;
    }
    for name in PROGRAMS {
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            symlink(target, root.join(name))?;
        }
    }
    for (name, mode, users) in FOLDERS {
        let folder = root.join(name);
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(*mode))?;
        if *users {
            let (_, id) = etc::USER;
            match chown(&folder, Some(id), Some(id)) {
                // Of an ordinary user's sandboxes all files are one user's.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !rustix::process::geteuid().is_root() => {}
                given => given?,
            }
        }
    }
    symlink("../run", root.join("var/run"))?;
    let here = root.join("etc");
    for name in etc::TAKEN {
        take(&Path::new("/etc").join(name), &here.join(name))?;
    }
    for (name, text, mode) in etc::files() {
        write(&here.join(name), text.as_bytes(), mode)?;
    }
    Ok(())
}

/// Copies what everybody on the host may read: files, folders of them, and links that lead into `/usr` or stay beside themselves.
fn take(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(from) else { return Ok(()) };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if found.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            take(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if found.is_symlink() {
        let target = fs::read_link(from)?;
        return if target.starts_with("/usr")
            || target.starts_with("../usr")
            || target.starts_with("/etc/alternatives")
            || target.components().count() == 1
        {
            symlink(target, to)
        } else {
            Ok(())
        };
    }
    if found.is_file() && found.permissions().mode() & 0o004 != 0 {
        return write(to, &fs::read(from)?, 0o644);
    }
    Ok(())
}

fn write(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    io::Write::write_all(&mut file, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_at_once_gets_the_same_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("images/host");
        let all: Vec<Rootfs> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| host_image(&root).unwrap())).collect();
            asking.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        assert!(all.iter().all(|rootfs| rootfs == &all[0]));
        assert_eq!(fs::read_dir(folder.path().join("images")).unwrap().count(), 1, "what was made for nothing is removed");
    }
}
