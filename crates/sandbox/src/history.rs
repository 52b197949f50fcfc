//! The commands of a sandbox, written down: who ran what, how it ended, what it changed, and the snapshot that was taken before.
//!
//! One line of JSON when a command begins and one when it has ended, in `history.jsonl` of the sandbox's folder; so a node that is killed meanwhile
//! leaves a command without an end, and never half a record of another. It is not: an audit of what a command did within; that is the sandbox's.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::{
    diff::lowers,
    layer::{self, Kind, Stamp},
    sandbox::{Command, Running},
    sandboxes::{Boxed, LifeError, now_ms},
    snapshot::SnapshotId,
    spec::Place,
    state::State,
    wire::Status,
};

/// Names of changed files that are kept of one command.
const MOST_NAMES: usize = 1_000;

/// Bytes of arguments that are kept of one command.
const MOST_ARGUMENTS: usize = 8 << 10;

/// The longest line that is read.
const MOST_LINE: u64 = 4 << 20;

/// What is written down beside a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// Who wanted it: a user, a key, an agent.
    pub author: String,
    /// Whether a snapshot is taken before it runs.
    pub snapshot_before: bool,
    /// Whether the files that change while it runs are found out; it costs a walk through all changes before and after.
    pub changes: bool,
}

/// A command that was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Past {
    /// The first is 1.
    pub number: u64,
    /// Who wanted it.
    pub author: String,
    /// Program and arguments, cut after 8 KiB.
    pub argv: Vec<String>,
    /// Where it began. `None`: at the user's home.
    pub cwd: Option<String>,
    /// Who it ran as.
    pub user: u32,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// When it ended. `None`: it runs, or nobody was there when it ended.
    pub ended_ms: Option<u64>,
    /// How it ended.
    pub status: Option<Status>,
    /// Files that changed while it ran, whoever changed them: absolute paths, at most 1,000. `None`: that was not asked for.
    pub changed: Option<Vec<String>>,
    /// Whether there were more.
    pub more: bool,
    /// The snapshot that was taken before. It may be removed by now.
    pub before: Option<SnapshotId>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Began { number: u64, author: String, argv: Vec<String>, cwd: Option<String>, user: u32, started_ms: u64, before: Option<SnapshotId> },
    Ended { number: u64, ended_ms: u64, status: Option<Status>, changed: Option<Vec<String>>, more: bool },
}

/// What is known of a sandbox's history without reading it.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// The last number given. `None`: nobody has looked.
    last: Option<u64>,
}

impl Book {
    fn next(&mut self, path: &Path) -> io::Result<u64> {
        let last = match self.last {
            Some(last) => last,
            None => read(path)?.last().map_or(0, |past| past.number),
        };
        self.last = Some(last + 1);
        Ok(last + 1)
    }
}

impl Boxed {
    /// Starts a command and writes it down; its number in the history.
    pub async fn exec(&self, command: Command, note: Note) -> Result<(u64, Running), LifeError> {
        let sandbox = self.sandbox().await.ok_or_else(|| LifeError::Refused(self.state().borrow().clone()))?;
        let before = if note.snapshot_before { Some(self.snapshot(None).await?.id) } else { None };
        let place = note.changes.then(|| self.inner.place.clone());
        let there = match place.clone() {
            Some(place) => Some(spawn_blocking(move || stamps(&place)).await.map_err(io::Error::other)??),
            None => None,
        };
        let number = self.note_begin(&command, note.author, before).await?;
        let running = match sandbox.exec(command).await {
            Ok(running) => running,
            Err(error) => {
                self.note_end(number, None, None).await?;
                return Err(error.into());
            }
        };
        let (this, mut exit) = (self.clone(), running.exit.clone());
        tokio::spawn(async move {
            let status = exit.wait_for(Option::is_some).await.ok().and_then(|status| *status);
            let changed = match (place, there) {
                (Some(place), Some(there)) => {
                    spawn_blocking(move || Ok(changed(&there, &stamps(&place)?))).await.ok().and_then(io::Result::ok)
                }
                _ => None,
            };
            // A folder that is gone needs no history.
            let _ = this.note_end(number, status, changed).await;
        });
        Ok((number, running))
    }

    /// Every command through [`Boxed::exec`], in order.
    pub async fn history(&self) -> Result<Vec<Past>, LifeError> {
        let path = self.history_file();
        Ok(spawn_blocking(move || read(&path)).await.map_err(io::Error::other)??)
    }

    /// The snapshot that was taken before a command. `None`: there is no such command, or none was taken.
    pub async fn snapshot_before(&self, number: u64) -> Result<Option<SnapshotId>, LifeError> {
        Ok(self.history().await?.into_iter().find(|past| past.number == number).and_then(|past| past.before))
    }

    fn history_file(&self) -> PathBuf {
        self.inner.place.folder.join("history.jsonl")
    }

    async fn note_begin(&self, command: &Command, author: String, before: Option<SnapshotId>) -> Result<u64, LifeError> {
        let mut book = self.inner.book.clone().lock_owned().await;
        if matches!(*self.state().borrow(), State::Removing) {
            return Err(LifeError::Refused(State::Removing));
        }
        let (argv, cwd, user, path) = (cut(&command.argv), command.cwd.clone(), command.user, self.history_file());
        let written = spawn_blocking(move || {
            let number = book.next(&path)?;
            append(&path, &Line::Began { number, author, argv, cwd, user, started_ms: now_ms(), before })?;
            Ok::<_, io::Error>(number)
        });
        Ok(written.await.map_err(io::Error::other)??)
    }

    async fn note_end(&self, number: u64, status: Option<Status>, changed: Option<(Vec<String>, bool)>) -> io::Result<()> {
        let book = self.inner.book.clone().lock_owned().await;
        let path = self.history_file();
        let (changed, more) = changed.map_or((None, false), |(changed, more)| (Some(changed), more));
        spawn_blocking(move || {
            let _book = book;
            append(&path, &Line::Ended { number, ended_ms: now_ms(), status, changed, more })
        })
        .await?
    }
}

fn cut(argv: &[String]) -> Vec<String> {
    let mut left = MOST_ARGUMENTS;
    let mut kept = Vec::new();
    for argument in argv {
        if left == 0 {
            break;
        }
        let end = (0..=argument.len().min(left)).rev().find(|end| argument.is_char_boundary(*end)).unwrap_or(0);
        kept.push(argument[..end].to_owned());
        left -= end.max(1).min(left);
    }
    kept
}

/// One line, in one write. What an earlier write left unfinished does not take it along.
fn append(path: &Path, line: &Line) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut text = Vec::new();
    if !ends_whole(&mut file)? {
        text.push(b'\n');
    }
    serde_json::to_writer(&mut text, line)?;
    text.push(b'\n');
    file.write_all(&text)
}

fn ends_whole(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Lines that are none are passed over: they were being written when the node was killed.
fn read(path: &Path) -> io::Result<Vec<Past>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut all: BTreeMap<u64, Past> = BTreeMap::new();
    let mut reader = BufReader::new(file);
    let mut text = Vec::new();
    loop {
        text.clear();
        if (&mut reader).take(MOST_LINE).read_until(b'\n', &mut text)? == 0 {
            return Ok(all.into_values().collect());
        }
        match serde_json::from_slice(&text) {
            Ok(Line::Began { number, author, argv, cwd, user, started_ms, before }) => {
                let (ended_ms, status, changed, more) = (None, None, None, false);
                all.insert(number, Past { number, author, argv, cwd, user, started_ms, ended_ms, status, changed, more, before });
            }
            Ok(Line::Ended { number, ended_ms, status, changed, more }) => {
                if let Some(past) = all.get_mut(&number) {
                    (past.ended_ms, past.status, past.changed, past.more) = (Some(ended_ms), status, changed, more);
                }
            }
            Err(_) => {}
        }
    }
}

type Stamps = HashMap<PathBuf, (Kind, Stamp)>;

/// Everything that a sandbox has changed so far, and when.
fn stamps(place: &Place) -> io::Result<Stamps> {
    let mut all = HashMap::new();
    for (at, name, _) in lowers(place) {
        let root = match layer::root(&place.folder.join("fs").join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for node in layer::walk(&root)? {
            all.insert(Path::new("/").join(at).join(&node.path), (node.kind, node.stamp));
        }
    }
    Ok(all)
}

/// Files that are other files now, or are new, or gone; of folders, that they are gone. An overlay makes folders of its own above what changes.
fn changed(before: &Stamps, now: &Stamps) -> (Vec<String>, bool) {
    let is_file = |(_, (kind, _)): &(&PathBuf, &(Kind, Stamp))| !matches!(kind, Kind::Folder { .. });
    let mut paths: Vec<&Path> = now
        .iter()
        .filter(is_file)
        .filter(|(path, (kind, stamp))| match before.get(*path) {
            // All that is gone is one inode, whose time changes with each.
            Some((Kind::Gone, _)) if *kind == Kind::Gone => false,
            Some((was, old)) => (was, old) != (kind, stamp),
            None => true,
        })
        .map(|(path, _)| path.as_path())
        .chain(before.keys().filter(|path| !now.contains_key(*path)).map(PathBuf::as_path))
        .collect();
    paths.sort_unstable();
    let more = paths.len() > MOST_NAMES;
    (paths.into_iter().take(MOST_NAMES).map(|path| path.to_string_lossy().into_owned()).collect(), more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_survives_a_write_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let began =
            |number| Line::Began { number, author: "a".into(), argv: vec!["x".into()], cwd: None, user: 1, started_ms: 1, before: None };
        let ended = |number| Line::Ended { number, ended_ms: 2, status: Some(Status::Code(3)), changed: None, more: false };
        append(&path, &began(1)).unwrap();
        append(&path, &ended(1)).unwrap();
        append(&path, &began(2)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut book = Book::default();
            let number = book.next(&path).unwrap();
            append(&path, &began(number)).unwrap();
            let past = read(&path).unwrap();
            assert_eq!(past.last().unwrap().number, number, "cut at {cut}");
            assert_eq!(past.iter().map(|past| past.number).collect::<Vec<_>>(), (1..=number).collect::<Vec<_>>());
            assert_eq!(book.next(&path).unwrap(), number + 1);
        }
    }

    #[test]
    fn arguments_are_cut_where_characters_end() {
        let argv = ["é".repeat(5_000), "x".into(), "y".repeat(9_000)];
        let kept = cut(&argv);
        assert!(kept.iter().map(String::len).sum::<usize>() <= MOST_ARGUMENTS);
        assert_eq!(kept[0].len(), 8_192);
        assert_eq!(cut(&["a".into(), String::new(), "b".into()]), ["a", "", "b"]);
    }
}
