//! A Debian tree, by the tools that Debian makes: `mmdebstrap` where it is, `debootstrap` else.
//!
//! They check the signatures of what they fetch. What they write is read back as an archive, like every other: by the same bounds, without devices
//! and set-id bits. It is not: what happens where neither is installed; the error then says so.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{
    Bounds, ImageError,
    making::{Level, Log},
    oci::{Digest, place},
    unpack::unpack,
};

/// What is wanted of it.
pub(super) struct Wanted<'a> {
    pub suite: &'a str,
    pub mirror: Option<&'a str>,
    pub packages: &'a [String],
}

impl Wanted<'_> {
    /// Words that go to a program: none of them an option, or more than one word.
    fn check(&self) -> Result<(), ImageError> {
        let word = |text: &str, more: &[u8]| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || more.contains(&b);
            text.len() <= 200 && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && text.bytes().all(plain)
        };
        let mirror = self.mirror.is_none_or(|it| {
            (it.starts_with("http://") || it.starts_with("https://")) && it.len() <= 500 && it.bytes().all(|b| b.is_ascii_graphic())
        });
        if word(self.suite, b"-") && mirror && self.packages.iter().all(|name| word(name, b"+-.")) {
            return Ok(());
        }
        Err(ImageError::Document("suite, mirror or packages", format!("{:?} {:?} {:?}", self.suite, self.mirror, self.packages)))
    }
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The name of the layer. The same wish finds the layer that it made before.
pub(super) fn make(wanted: &Wanted<'_>, store: &Path, programs: &[PathBuf], bounds: Bounds, log: &Log) -> Result<String, ImageError> {
    wanted.check()?;
    let wish = format!("debian {} {:?} {:?}", wanted.suite, wanted.mirror, wanted.packages);
    let name = format!("debian-{}", Digest::of(wish.as_bytes()).hex());
    if store.join(&name).is_dir() {
        log.say(Level::Info, "the tree is here already");
        return Ok(name);
    }
    let find = |program: &str| programs.iter().map(|folder| folder.join(program)).find(|path| path.is_file());
    let mut left = bounds;
    match (find("mmdebstrap"), find("debootstrap")) {
        (Some(program), _) => place(store, &name, |beside| by_mmdebstrap(&program, wanted, beside, &mut left, log))?,
        (None, Some(program)) => place(store, &name, |beside| by_debootstrap(&program, wanted, store, beside, &mut left, log))?,
        (None, None) => {
            let told = "a Debian tree needs mmdebstrap or debootstrap, and neither is installed (apt-get install mmdebstrap)";
            return Err(ImageError::Tool(told.into()));
        }
    }
    Ok(name)
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// It writes the tree as an archive: nothing of it is ever a folder with the host's ids.
fn by_mmdebstrap(program: &Path, wanted: &Wanted<'_>, beside: &Path, left: &mut Bounds, log: &Log) -> Result<(), ImageError> {
    let mut command = command(program);
    command.args(["--variant=minbase", "--format=tar"]);
    if !wanted.packages.is_empty() {
        command.arg(format!("--include={}", wanted.packages.join(",")));
    }
    command.args([wanted.suite, "-"]).args(wanted.mirror);
    let archive = Running::start(command, log)?;
    archive.unpacked(beside, left)
}

/// It makes a folder, which `tar` then reads.
fn by_debootstrap(
    program: &Path,
    wanted: &Wanted<'_>,
    store: &Path,
    beside: &Path,
    left: &mut Bounds,
    log: &Log,
) -> Result<(), ImageError> {
    let folder = tempfile::Builder::new().prefix("debian").suffix(".new").tempdir_in(store)?;
    let mut bootstrap = command(program);
    bootstrap.arg("--variant=minbase");
    if !wanted.packages.is_empty() {
        bootstrap.arg(format!("--include={}", wanted.packages.join(",")));
    }
    bootstrap.arg(wanted.suite).arg(folder.path()).args(wanted.mirror);
    let mut running = Running::start(bootstrap, log)?;
    let out = running.child.stdout.take();
    out.into_iter().try_for_each(|out| lines(out, log))?;
    running.ended()?;
    fs::remove_dir_all(folder.path().join("var/cache/apt/archives")).or_else(missing)?;
    let mut tar = command(Path::new("/usr/bin/tar"));
    tar.arg("--numeric-owner").arg("-C").arg(folder.path()).args(["-c", "."]);
    Running::start(tar, log)?.unpacked(beside, left)
}

fn missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// A program whose errors become lines of the log. Dropped, it is ended.
struct Running {
    child: Child,
    errors: Option<std::thread::JoinHandle<()>>,
    name: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(mut command: Command, log: &Log) -> Result<Self, ImageError> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|error| ImageError::Tool(format!("{name}: {error}")))?;
        let errors = child.stderr.take().map(|errors| {
            let log = log.clone();
            std::thread::spawn(move || drop(lines(errors, &log)))
        });
        Ok(Self { child, errors, name })
    }

    fn unpacked(mut self, beside: &Path, left: &mut Bounds) -> Result<(), ImageError> {
        let mut out = self.child.stdout.take().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let unpacked = unpack(&mut out, beside, &[], left);
        if unpacked.is_ok() {
            io::copy(&mut out, &mut io::sink())?;
        }
        drop(out);
        // How the program ended says more than that its archive is short.
        if matches!(unpacked, Ok(()) | Err(super::UnpackError::Archive(_))) {
            self.ended()?;
        }
        Ok(unpacked?)
    }

    fn ended(&mut self) -> Result<(), ImageError> {
        let status = self.child.wait()?;
        if let Some(errors) = self.errors.take() {
            let _ = errors.join();
        }
        if status.success() { Ok(()) } else { Err(ImageError::Tool(format!("{}: {status}; the log says why", self.name))) }
    }
}

/// What a program says, line by line; a line without an end is cut.
fn lines(from: impl Read, log: &Log) -> io::Result<()> {
    const MOST_LINE: u64 = 4 << 10;
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        if (&mut from).take(MOST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        log.say(Level::Info, text.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_no_options() {
        let check =
            |suite: &str, mirror: Option<&str>, package: &str| Wanted { suite, mirror, packages: &[package.to_owned()] }.check().is_ok();
        assert!(check("bookworm", Some("http://deb.debian.org/debian"), "libstdc++6"));
        assert!(!check("--hook", None, "git") && !check("a b", None, "git") && !check("", None, "git"));
        assert!(!check("sid", Some("file:///etc"), "git") && !check("sid", Some("copy:/"), "git") && !check("sid", None, "-o=x"));
        assert!(!check("sid", None, "a,b"));
    }
}
