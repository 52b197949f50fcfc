//! What a worker's sandbox was, and what others of it began with: snapshots, forks, differences, commands. Snapshots belong to the worker, not to the name that
//! they were taken under: they outlive the sandbox, and any of the worker's names may go back to one.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};
use skep_isolate::Response;
use skep_sandbox::{EntryKind, FileChange, Past, Snapshot, What, Why};

use super::{Call, Nothing, Refusal, SandboxBinding, TEMPLATE, check_name, commands::exit_code, iso, json as answer_json, named, owner};
use crate::sandboxes::{Owned, SandboxState, Sandboxes};

/// Snapshots of one worker.
const SNAPSHOTS_MAX: usize = 200;

/// Longest name of a snapshot, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Sandboxes that one call forks.
const FORKS_MAX: usize = 100;

/// Most entries of a list of changes.
const CHANGES_MAX: usize = 100_000;

/// Most commands that are told at once.
const COMMANDS_MAX: usize = 1_000;

#[derive(Deserialize)]
struct Take {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Back {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    before_command: Option<u64>,
}

#[derive(Deserialize)]
struct Which {
    id: String,
}

#[derive(Deserialize)]
struct Forks {
    names: Vec<String>,
}

#[derive(Deserialize)]
struct Newest {
    #[serde(default)]
    limit: Option<f64>,
}

fn missing() -> Refusal {
    Refusal::new(404, "SNAPSHOT_NOT_FOUND", "there is no such snapshot of this worker".to_owned())
}

fn shown(snapshot: &Snapshot) -> Value {
    json!({
        "id": snapshot.id.as_str(), "name": snapshot.name, "takenAt": iso(i64::try_from(snapshot.taken_ms).unwrap_or(i64::MAX)),
        "pausedUs": snapshot.paused_us, "durable": snapshot.durable,
    })
}

fn changed(change: &FileChange) -> Value {
    let what = match change.what {
        What::Added => "added",
        What::Changed => "changed",
        What::Removed => "removed",
    };
    let kind = match change.kind {
        EntryKind::File => "file",
        EntryKind::Folder => "directory",
        EntryKind::Link => "symlink",
        EntryKind::Other => "other",
    };
    json!({ "path": change.path, "what": what, "type": kind, "size": change.bytes, "mode": change.mode })
}

fn why(why: &Why) -> String {
    match why {
        Why::Refused(words) => format!("refused: {words}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn past(past: &Past) -> Value {
    let time = |ms: u64| iso(i64::try_from(ms).unwrap_or(i64::MAX));
    // What a worker runs is a line of the shell.
    let command = match past.argv.as_slice() {
        [shell, flag, line] if shell == "/bin/bash" && flag == "-c" => line.clone(),
        argv => argv.join(" "),
    };
    json!({
        "number": past.number, "author": past.author, "command": command, "cwd": past.cwd, "startTime": time(past.started_ms),
        "endTime": past.ended_ms.map(time), "exitCode": past.status.map(exit_code), "changed": past.changed, "more": past.more,
        "snapshotBefore": past.before.as_ref().map(|id| id.as_str().to_owned()),
    })
}

impl SandboxBinding {
    fn all(&self) -> Result<&Sandboxes, Refusal> {
        self.rooms.sandboxes.get().ok_or_else(Refusal::none)
    }

    /// Whether one more snapshot may be taken.
    pub(super) fn has_room_for_snapshot(&self) -> Result<(), Refusal> {
        if self.all()?.snapshots(Some(&owner(&self.worker)))?.len() >= SNAPSHOTS_MAX {
            let message = format!("a worker has at most {SNAPSHOTS_MAX} snapshots; delete one first");
            return Err(Refusal::new(429, "TOO_MANY_SNAPSHOTS", message));
        }
        Ok(())
    }

    /// A snapshot of this worker's, by its id alone: names are for people.
    fn snapshot(&self, id: &str) -> Result<Snapshot, Refusal> {
        let all = self.all()?.snapshots(Some(&owner(&self.worker)))?;
        all.into_iter().find(|snapshot| snapshot.id.as_str() == id).ok_or_else(missing)
    }

    pub(super) async fn create_snapshot(&self, mut call: Call) -> Result<Response, Refusal> {
        let Take { name } = call.arguments().await?;
        if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control)) {
            return Err(Refusal::invalid(format!("a snapshot's name has 1 to {NAME_BYTES_MAX} bytes, and no control characters")));
        }
        if name.as_deref() == Some(TEMPLATE) {
            return Err(Refusal::invalid(format!("{TEMPLATE:?} is what sandboxes begin with: a snapshot must not take its place")));
        }
        self.has_room_for_snapshot()?;
        let (owned, _) = self.sandbox(&call.room).await?;
        answer_json(&shown(&self.all()?.snapshot(&owned, name.as_deref()).await?))
    }

    pub(super) async fn list_snapshots(&self, mut call: Call) -> Result<Response, Refusal> {
        let Nothing {} = call.arguments().await?;
        let all: Vec<Value> = self.all()?.snapshots(Some(&owner(&self.worker)))?.iter().map(shown).collect();
        answer_json(&all)
    }

    pub(super) async fn delete_snapshot(&self, mut call: Call) -> Result<Response, Refusal> {
        let Which { id } = call.arguments().await?;
        let snapshot = self.snapshot(&id)?;
        self.all()?.remove_snapshot(&snapshot.id).await?;
        answer_json(&json!({ "success": true, "id": id }))
    }

    /// From here on the name stands for a sandbox that begins as the snapshot was; the one that it stood for is gone.
    pub(super) async fn restore_snapshot(&self, mut call: Call) -> Result<Response, Refusal> {
        let back: Back = call.arguments().await?;
        let snapshot = match (back.id, back.before_command) {
            (Some(id), None) => self.snapshot(&id)?,
            (None, Some(number)) => {
                let (owned, _) = self.sandbox(&call.room).await?;
                self.snapshot(owned.snapshot_before(number).await?.ok_or_else(missing)?.as_str())?
            }
            _ => return Err(Refusal::invalid("a snapshot is named by its id, or by the command that it was taken before".to_owned())),
        };
        // Whoever asked may leave: what has begun is carried through.
        let (binding, room) = (self.clone(), call.room);
        let (id, answer) = (snapshot.id.clone(), shown(&snapshot));
        let replaced = tokio::spawn(async move {
            let mut known = room.id.lock().await;
            let before = binding.found(&room, known.as_ref())?;
            let made = binding.all()?.create(binding.wished(&room.name, id.as_str())).await?;
            *known = Some(made.id().clone());
            room.processes.forget_all();
            if let Some(before) = before {
                before.remove().await?;
            }
            Ok::<_, Refusal>(())
        });
        replaced.await.map_err(|_| Refusal::internal("going back to the snapshot broke off".to_owned()))??;
        answer_json(&answer)
    }

    /// Sandboxes under names of their own that begin with the files of this one: all of them, or none.
    pub(super) async fn fork(&self, mut call: Call) -> Result<Response, Refusal> {
        let Forks { names } = call.arguments().await?;
        let wanted: BTreeSet<String> = names.iter().cloned().collect();
        wanted.iter().try_for_each(|name| check_name(name))?;
        if wanted.len() != names.len() || !(1..=FORKS_MAX).contains(&names.len()) || wanted.contains(&call.room.name) {
            return Err(Refusal::invalid(format!(
                "forks have 1 to {FORKS_MAX} names, each another than the others and than their parent's"
            )));
        }
        self.has_room_for(names.len())?;
        let (parent, _) = self.sandbox(&call.room).await?;
        let binding = self.clone();
        // In the order of names, so that two who fork at the same time do not wait for each other.
        let forked = tokio::spawn(async move { binding.fork_into(&parent, wanted).await });
        forked.await.map_err(|_| Refusal::internal("forking broke off".to_owned()))??;
        answer_json(&json!({ "success": true, "names": names }))
    }

    async fn fork_into(&self, parent: &Owned, names: BTreeSet<String>) -> Result<(), Refusal> {
        let mut rooms = Vec::new();
        for name in &names {
            rooms.push(self.rooms.room(&self.worker, name)?);
        }
        let mut places = Vec::new();
        for room in &rooms {
            let place = room.id.lock().await;
            if self.found(room, place.as_ref())?.is_some() {
                return Err(Refusal::new(409, "SANDBOX_EXISTS", format!("there is a sandbox {:?} already", room.name)));
            }
            places.push(place);
        }
        let millis = u64::try_from(self.sleeps_after().as_millis()).unwrap_or(u64::MAX);
        let metadata = names.iter().map(|name| named(name)).collect();
        let (mut made, mut failed) = (Vec::new(), None);
        for fork in self.all()?.fork_as(parent, &owner(&self.worker), metadata, Some(millis)).await {
            match fork {
                Ok(fork) => made.push(fork),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            for fork in made {
                fork.remove().await?;
            }
            return Err(error.into());
        }
        for ((room, mut place), fork) in rooms.iter().zip(places).zip(made) {
            room.processes.forget_all();
            *place = Some(fork.id().clone());
        }
        Ok(())
    }

    pub(super) async fn diff(&self, mut call: Call) -> Result<Response, Refusal> {
        let Nothing {} = call.arguments().await?;
        let (owned, _) = self.sandbox(&call.room).await?;
        let changes = owned.diff().await?;
        if changes.len() > CHANGES_MAX {
            return Err(Refusal::new(413, "TOO_MANY_FILES", format!("more than {CHANGES_MAX} files were changed")));
        }
        let changes: Vec<Value> = changes.iter().map(changed).collect();
        answer_json(&json!({ "count": changes.len(), "changes": changes }))
    }

    pub(super) async fn commit_back(&self, mut call: Call) -> Result<Response, Refusal> {
        let Nothing {} = call.arguments().await?;
        let (owned, _) = self.sandbox(&call.room).await?;
        let none = || Refusal::new(409, "NO_PARENT", "the sandbox is no fork of one of this worker's that is still there".to_owned());
        let origin = owned.boxed().origin().await.ok_or_else(none)?;
        // What is changed is the parent: it must be this worker's, too. One that is being removed is as good as gone.
        let ours = |parent: &Owned| parent.facts().owner == owner(&self.worker) && parent.state() != SandboxState::Removing;
        let parent = self.all()?.get(&origin.sandbox).filter(ours).ok_or_else(none)?;
        self.stay(&parent).await?;
        let _awake = (self.keep_awake(&parent), self.keep_awake(&owned));
        let merged = tokio::spawn(async move { owned.commit_back().await });
        let merged = merged.await.map_err(|_| Refusal::internal("committing back broke off".to_owned()))??;
        // It has been done: lists that are too long are cut, and the counts say so.
        let conflicts: Vec<Value> =
            merged.conflicts.iter().take(CHANGES_MAX).map(|conflict| json!({ "path": conflict.path, "why": why(&conflict.why) })).collect();
        answer_json(&json!({
            "applied": merged.applied.iter().take(CHANGES_MAX).map(changed).collect::<Vec<_>>(), "appliedCount": merged.applied.len(),
            "same": merged.same.iter().take(CHANGES_MAX).collect::<Vec<_>>(), "sameCount": merged.same.len(),
            "conflicts": conflicts, "conflictCount": merged.conflicts.len(),
        }))
    }

    pub(super) async fn history(&self, mut call: Call) -> Result<Response, Refusal> {
        let Newest { limit } = call.arguments().await?;
        let limit = limit.filter(|limit| *limit >= 1.0).map_or(COMMANDS_MAX, |limit| (limit as usize).min(COMMANDS_MAX));
        let (owned, _) = self.sandbox(&call.room).await?;
        let all = owned.history().await?;
        let newest: Vec<Value> = all.iter().skip(all.len().saturating_sub(limit)).map(past).collect();
        answer_json(&newest)
    }
}
