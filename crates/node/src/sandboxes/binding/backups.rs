//! Folders of a sandbox, kept apart from it: packed and unpacked by the sandbox's own `tar`, as its own user, and to this side nothing but bytes. A backup that is
//! acknowledged was written, synced and read again.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use skep_id::WorkerName;
use skep_isolate::Response;
use skep_sandbox::{Command, FaultKind, RequestError, Sandbox, Stdio};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_blocking,
};

use super::{Call, Refusal, SandboxBinding, USER, commands, files::absolute, iso, json as answer_json};

/// Largest backup, in bytes as packed.
const BYTES_MAX: u64 = 8 << 30;

/// Backups of one worker.
const BACKUPS_MAX: usize = 1_000;

/// How long one is kept where nothing is said: three days, in seconds.
const TTL_S: u64 = 259_200;

/// The longest that can be asked for: a year, in seconds.
const TTL_MAX_S: u64 = 365 * 86_400;

const PIECE_BYTES: usize = 256 << 10;

#[derive(Deserialize)]
struct Make {
    dir: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    ttl: Option<u64>,
}

#[derive(Deserialize)]
struct Restore {
    id: String,
    dir: String,
}

/// What is written beside the bytes. It is there once the backup is whole.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    dir: String,
    name: Option<String>,
    expires_ms: i64,
    bytes: u64,
    sha256: String,
}

/// The backups of one worker.
struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    fn of(backups: &Path, worker: &WorkerName) -> Self {
        Self { folder: backups.join(worker.as_str()) }
    }

    /// Makes the folder, and removes what has expired or was never whole.
    fn open(&self) -> io::Result<usize> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut kept = 0;
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json").map(str::to_owned)) else { continue };
            match self.label(&id)? {
                Some(label) if label.expires_ms > crate::now_ms() => kept += 1,
                _ => self.remove(&id)?,
            }
        }
        Ok(kept)
    }

    fn bytes(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.tar.gz"))
    }

    fn label(&self, id: &str) -> io::Result<Option<Label>> {
        match fs::read(self.folder.join(format!("{id}.json"))) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, id: &str) -> io::Result<()> {
        for path in [self.folder.join(format!("{id}.json")), self.bytes(id)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Says that the bytes are whole: they are synced, read again and compared first.
    fn seal(&self, id: &str, label: &Label) -> io::Result<()> {
        File::open(self.bytes(id))?.sync_all()?;
        if digest(&self.bytes(id))? != (label.bytes, label.sha256.clone()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what was written is not what is read"));
        }
        let (beside, path) = (self.folder.join(format!("{id}.new")), self.folder.join(format!("{id}.json")));
        let mut file = File::create(&beside)?;
        io::Write::write_all(&mut file, &serde_json::to_vec(label)?)?;
        file.sync_all()?;
        fs::rename(beside, path)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut hash, mut bytes) = (File::open(path)?, Sha256::new(), 0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((bytes, hex(&hash.finalize()))),
            read => {
                hash.update(&piece[..read]);
                bytes += read as u64;
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name that is a file's name here: what a guest says is one only in this form.
fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn new_id() -> Result<String, Refusal> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(hex(&random))
}

fn broken<E: std::fmt::Display>(error: E) -> Refusal {
    Refusal::new(500, "BACKUP_FAILED", format!("the backup could not be made or read: {error}"))
}

/// Runs a program of the sandbox's on streams of ours.
fn tar(arguments: &[&str], dir: &str, stdio: Stdio) -> Command {
    let argv: Vec<&str> = std::iter::once("tar").chain(arguments.iter().copied()).collect();
    Command { cwd: Some(dir.to_owned()), stdio, ..Command::new(&argv).user(USER) }
}

impl SandboxBinding {
    pub(super) async fn create_backup(&self, mut call: Call) -> Result<Response, Refusal> {
        let Make { dir, name, ttl } = call.arguments().await?;
        let (dir, ttl) = (absolute(&dir), ttl.unwrap_or(TTL_S).min(TTL_MAX_S));
        let (owned, sandbox) = self.sandbox(&call.room).await?;
        let _awake = self.keep_awake(&owned);
        let (shelf, id) = (Shelf::of(&self.rooms.backups, &self.worker), new_id()?);
        let opened = {
            let folder = shelf.folder.clone();
            spawn_blocking(move || Shelf { folder }.open()).await.map_err(broken)??
        };
        if opened >= BACKUPS_MAX {
            return Err(Refusal::new(429, "TOO_MANY_BACKUPS", format!("a worker has at most {BACKUPS_MAX} backups")));
        }
        let packed = pack(&sandbox, &dir, &shelf.bytes(&id)).await;
        let sealed = match packed {
            Ok((bytes, sha256)) => {
                let expires_ms = crate::now_ms().saturating_add(i64::try_from(ttl).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000));
                let label = Label { dir: dir.clone(), name, expires_ms, bytes, sha256 };
                let (folder, id) = (shelf.folder.clone(), id.clone());
                spawn_blocking(move || Shelf { folder }.seal(&id, &label)).await.map_err(broken)?.map_err(broken)
            }
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = sealed {
            // Without its label it is found to be nothing, at the latest by the next one.
            let _ = spawn_blocking(move || shelf.remove(&id)).await;
            return Err(refusal);
        }
        answer_json(&json!({ "id": id, "dir": dir }))
    }

    pub(super) async fn restore_backup(&self, mut call: Call) -> Result<Response, Refusal> {
        let Restore { id, dir } = call.arguments().await?;
        let none = || Refusal::new(404, "BACKUP_NOT_FOUND", "there is no such backup of this worker, or it has expired".to_owned());
        if !is_id(&id) {
            return Err(none());
        }
        let (shelf, dir) = (Shelf::of(&self.rooms.backups, &self.worker), absolute(&dir));
        let (file, label) = {
            let (folder, id) = (shelf.folder.clone(), id.clone());
            let read = spawn_blocking(move || {
                let shelf = Shelf { folder };
                let Some(label) = shelf.label(&id)? else { return Ok(None) };
                // Nothing of the folder is touched before the backup is known to be whole.
                let whole = label.expires_ms > crate::now_ms() && digest(&shelf.bytes(&id))? == (label.bytes, label.sha256.clone());
                Ok::<_, io::Error>(whole.then_some((shelf.bytes(&id), label)))
            });
            read.await.map_err(broken)??.ok_or_else(none)?
        };
        let (owned, sandbox) = self.sandbox(&call.room).await?;
        let _awake = self.keep_awake(&owned);
        match sandbox.make_folder(&dir, USER).await {
            // What is there already stays, but for what the backup has of the same name.
            Err(RequestError::Fault(fault)) if fault.kind == FaultKind::Exists => {}
            made => drop(made?),
        }
        unpack(&sandbox, &dir, &file).await?;
        answer_json(&json!({ "success": true, "id": id, "dir": dir, "name": label.name, "timestamp": iso(crate::now_ms()) }))
    }
}

/// Packs a folder into a file; its size and hash.
async fn pack(sandbox: &Sandbox, dir: &str, to: &Path) -> Result<(u64, String), Refusal> {
    let mut running = sandbox.exec(tar(&["-czf", "-", "."], dir, Stdio::Closed)).await?;
    let mut group = commands::Group::of(sandbox, &running);
    let (mut pipe, words) = (running.stdout.take().ok_or_else(|| broken("no output"))?, words(running.stderr.take()));
    let mut file = tokio::fs::File::create(to).await?;
    let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; PIECE_BYTES]);
    loop {
        let read = pipe.read(&mut piece).await?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        if bytes > BYTES_MAX {
            return Err(Refusal::new(413, "BACKUP_TOO_LARGE", format!("a backup has at most {BYTES_MAX} bytes")));
        }
        hash.update(&piece[..read]);
        file.write_all(&piece[..read]).await?;
    }
    file.flush().await?;
    let code = commands::exit_code(running.exited().await?);
    group.let_go();
    if code != 0 {
        return Err(broken(words.await.unwrap_or_default()));
    }
    Ok((bytes, hex(&hash.finalize())))
}

/// Makes a folder what a file says it was.
async fn unpack(sandbox: &Sandbox, dir: &str, from: &Path) -> Result<(), Refusal> {
    let cleared =
        sandbox.exec(Command { cwd: Some(dir.to_owned()), ..Command::new(&["find", ".", "-mindepth", "1", "-delete"]).user(USER) }).await?;
    let cleared = cleared.output(4 << 10).await?;
    if commands::exit_code(cleared.status) != 0 {
        return Err(broken(String::from_utf8_lossy(&cleared.stderr)));
    }
    let mut running = sandbox.exec(tar(&["-xzpf", "-"], dir, Stdio::Open)).await?;
    let mut group = commands::Group::of(sandbox, &running);
    let (mut pipe, words) = (running.stdin.take().ok_or_else(|| broken("no input"))?, words(running.stderr.take()));
    let mut file = tokio::fs::File::open(from).await?;
    let copied = tokio::io::copy(&mut file, &mut pipe).await;
    drop(pipe);
    let code = commands::exit_code(running.exited().await?);
    group.let_go();
    if code != 0 {
        return Err(broken(words.await.unwrap_or_default()));
    }
    copied?;
    Ok(())
}

/// The first words that a program writes to its standard error; all of them are read.
fn words(from: Option<tokio::net::unix::pipe::Receiver>) -> tokio::task::JoinHandle<String> {
    tokio::spawn(async move {
        let Some(mut from) = from else { return String::new() };
        let mut kept = Vec::new();
        let _ = (&mut from).take(2 << 10).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
        String::from_utf8_lossy(&kept).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_backups_that_have_time_left_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::of(folder.path(), &"w".parse().unwrap());
        assert_eq!(shelf.open().unwrap(), 0);
        let (id, old, torn) = ("a".repeat(32), "b".repeat(32), "c".repeat(32));
        for (id, expires_ms) in [(&id, i64::MAX), (&old, 1)] {
            fs::write(shelf.bytes(id), "bytes").unwrap();
            let (bytes, sha256) = digest(&shelf.bytes(id)).unwrap();
            shelf.seal(id, &Label { dir: "/x".into(), name: None, expires_ms, bytes, sha256 }).unwrap();
        }
        fs::write(shelf.bytes(&torn), "bytes").unwrap();
        let label = Label { dir: "/x".into(), name: None, expires_ms: i64::MAX, bytes: 5, sha256: "0".repeat(64) };
        assert!(shelf.seal(&torn, &label).is_err() && shelf.label(&torn).unwrap().is_none());
        assert_eq!(shelf.open().unwrap(), 1);
        assert!(shelf.label(&id).unwrap().is_some() && shelf.label(&old).unwrap().is_none());
        assert!(!shelf.bytes(&old).exists());
    }

    #[test]
    fn ids_are_no_paths() {
        assert!(is_id(&new_id().unwrap()));
        for hostile in ["", "../x", &"/".repeat(32), &"A".repeat(32), &format!("{}/", "a".repeat(31)), &"a".repeat(33)] {
            assert!(!is_id(hostile), "{hostile:?}");
        }
    }
}
