//! `skep sandbox cp`: files and folders, in or out.
//!
//! What comes out was named by hostile code: of an entry's path only the last part is used, and only if it is one.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use skep_api::{ErrorCode, SandboxFile, SandboxFolder};

use super::{encoded, path};
use crate::{client::Client, failure::Failure, output};

/// Deepest folder that is followed: one within may be endless.
const DEPTH_MAX: usize = 64;

/// One side of a copy.
enum Side<'a> {
    Here(&'a Path),
    Within { url: String, path: &'a str },
}

impl<'a> Side<'a> {
    fn of(text: &'a str) -> Self {
        match text.split_once(':').and_then(|(sandbox, within)| Some((path(sandbox).ok()?, within))) {
            Some((url, within)) => Self::Within { url, path: within },
            None => Self::Here(Path::new(text)),
        }
    }
}

pub fn run(client: &Client, from: &str, to: &str, user: &str, json: bool) -> Result<(), Failure> {
    let mut copied = Copied { client, user, files: 0, bytes: 0, passed_over: 0 };
    match (Side::of(from), Side::of(to)) {
        (Side::Here(from), Side::Within { url, path }) => copied.put_any(from, &url, path)?,
        (Side::Within { url, path }, Side::Here(to)) => copied.take_any(&url, path, to)?,
        _ => return Err(Failure::wrong("one side of a copy is a sandbox's, SANDBOX:PATH", "`skep sandbox ls` shows their ids.")),
    }
    let Copied { files, bytes, passed_over, .. } = copied;
    if json {
        output::json(&serde_json::json!({ "files": files, "bytes": bytes, "passed_over": passed_over }));
    } else {
        let rest = if passed_over > 0 { format!(", {passed_over} links and devices passed over") } else { String::new() };
        output::line(&format!("{files} files, {}{rest}", output::bytes(bytes)));
    }
    Ok(())
}

struct Copied<'a> {
    client: &'a Client,
    user: &'a str,
    files: u64,
    bytes: u64,
    passed_over: u64,
}

impl Copied<'_> {
    fn at(&self, url: &str, what: &str, path: &str) -> String {
        format!("{url}/{what}?path={}&user={}", encoded(path), encoded(self.user))
    }

    fn put_any(&mut self, from: &Path, url: &str, to: &str) -> Result<(), Failure> {
        let found = fs::metadata(from).map_err(|error| unreadable(from, &error))?;
        if found.is_dir() {
            return self.put_folder(from, url, to.trim_end_matches('/'), 0);
        }
        // As `cp` does: a place that ends with a slash, or none at all, is a folder.
        let name = from.file_name().and_then(|name| name.to_str()).ok_or_else(|| strange(from))?;
        let to = if to.is_empty() || to.ends_with('/') { format!("{to}{name}") } else { to.to_owned() };
        self.put_file(from, url, &to)
    }

    fn put_folder(&mut self, from: &Path, url: &str, to: &str, depth: usize) -> Result<(), Failure> {
        if depth > DEPTH_MAX {
            return Err(Failure::wrong(format!("{} is more than {DEPTH_MAX} folders deep", from.display()), ""));
        }
        let entries = fs::read_dir(from).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(|error| unreadable(from, &error))?;
        for entry in entries {
            let here = entry.path();
            let name = entry.file_name().into_string().map_err(|_| strange(&here))?;
            let within = if to.is_empty() { name } else { format!("{to}/{name}") };
            let kind = entry.file_type().map_err(|error| unreadable(&here, &error))?;
            if kind.is_dir() {
                self.put_folder(&here, url, &within, depth + 1)?;
            } else if kind.is_file() {
                self.put_file(&here, url, &within)?;
            } else {
                self.passed_over += 1;
            }
        }
        Ok(())
    }

    fn put_file(&mut self, from: &Path, url: &str, to: &str) -> Result<(), Failure> {
        let file = File::open(from).map_err(|error| unreadable(from, &error))?;
        let written: SandboxFile = self.client.put_file(&self.at(url, "files", to), file)?;
        (self.files, self.bytes) = (self.files + 1, self.bytes + written.bytes);
        Ok(())
    }

    fn take_any(&mut self, url: &str, from: &str, to: &Path) -> Result<(), Failure> {
        match self.client.get::<SandboxFolder>(&self.at(url, "folder", from)) {
            Ok(folder) => self.take_folder(url, from.trim_end_matches('/'), folder, to, 0),
            Err(_) => {
                let name = last(from).ok_or_else(|| Failure::wrong(format!("{from:?} names no file"), ""))?;
                let to = if to.is_dir() { to.join(name) } else { to.to_owned() };
                self.take_file(url, from, &to)
            }
        }
    }

    fn take_folder(&mut self, url: &str, from: &str, folder: SandboxFolder, to: &Path, depth: usize) -> Result<(), Failure> {
        if depth > DEPTH_MAX {
            return Err(Failure::wrong(format!("{from:?} is more than {DEPTH_MAX} folders deep"), ""));
        }
        fs::create_dir_all(to).map_err(|error| unwritable(to, &error))?;
        for entry in folder.entries {
            let Some(name) = last(&entry.path) else {
                self.passed_over += 1;
                continue;
            };
            let (within, here) = (format!("{from}/{name}"), to.join(name));
            match entry.kind.as_str() {
                "folder" => {
                    let inner = self.client.get(&self.at(url, "folder", &within))?;
                    self.take_folder(url, &within, inner, &here, depth + 1)?;
                }
                "file" => self.take_file(url, &within, &here)?,
                _ => self.passed_over += 1,
            }
        }
        Ok(())
    }

    /// Written aside and renamed: a file of that name is whole.
    fn take_file(&mut self, url: &str, from: &str, to: &Path) -> Result<(), Failure> {
        let answer = self.client.open(&self.at(url, "files", from))?;
        let name = to.file_name().ok_or_else(|| strange(to))?.to_string_lossy();
        let aside: PathBuf = to.with_file_name(format!(".{name}.part"));
        let mut file = File::create(&aside).map_err(|error| unwritable(&aside, &error))?;
        let copied = io::copy(&mut answer.into_body().into_reader(), &mut file).and_then(|bytes| fs::rename(&aside, to).map(|()| bytes));
        let bytes = copied.map_err(|error| {
            let _ = fs::remove_file(&aside);
            unwritable(to, &error)
        })?;
        (self.files, self.bytes) = (self.files + 1, self.bytes + bytes);
        Ok(())
    }
}

/// The last part of a path that hostile code wrote, if it is a name and nothing else.
fn last(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    (!matches!(name, "" | "." | "..") && !name.contains(['\0', '\\'])).then_some(name)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(ErrorCode::Invalid, format!("cannot read {}: {error}", path.display()), "")
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(ErrorCode::Invalid, format!("cannot write {}: {error}", path.display()), "")
}

fn strange(path: &Path) -> Failure {
    Failure::wrong(format!("{} has a name that is no text", path.display()), "Rename it, or pack it with tar.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hostile_code_do_not_climb() {
        assert_eq!(last("/home/user/a b"), Some("a b"));
        for climbing in ["/home/..", "..", ".", "/", "", "a\0", "x\\..\\y"] {
            assert_eq!(last(climbing), None, "{climbing:?}");
        }
        assert_eq!(last("/x/../../etc/passwd"), Some("passwd"));
    }

    #[test]
    fn a_side_is_a_sandboxs_only_with_its_id() {
        assert!(matches!(Side::of("i0123456789abcdefghjk:/x"), Side::Within { path: "/x", .. }));
        for here in ["./a:b", "C:/x", "a", "i012:/x"] {
            assert!(matches!(Side::of(here), Side::Here(_)), "{here}");
        }
    }
}
