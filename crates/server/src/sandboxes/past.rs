//! Snapshots, forks, differences, and what was run.

use axum::{
    Extension,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use skep_access::Principal;
use skep_api::{self as api, ErrorCode};
use skep_node::{ChangeWhat, EntryKind, ExitStatus, FileChange, Snapshot};

use super::{all, find, out, owner};
use crate::{
    control::{Control, Json},
    reply::{Failure, json},
};

pub(crate) async fn snapshot(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Json(body): Json<api::NewSandboxSnapshot>,
) -> Result<Response, Failure> {
    let owned = find(&control, &principal, &id)?;
    let taken = all(&control)?.snapshot(&owned, body.name.as_deref()).await?;
    Ok(json(StatusCode::CREATED, &snapshot_out(taken)))
}

pub(crate) async fn snapshots(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let owned = find(&control, &principal, &id)?;
    let mut found = all(&control)?.snapshots(owner(&principal))?;
    found.retain(|snapshot| snapshot.of == *owned.id());
    Ok(json(StatusCode::OK, &api::SandboxSnapshotList { snapshots: found.into_iter().map(snapshot_out).collect() }))
}

pub(crate) async fn remove_snapshot(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path((id, snapshot)): Path<(String, String)>,
) -> Result<Response, Failure> {
    find(&control, &principal, &id)?;
    let sandboxes = all(&control)?;
    let missing =
        || Failure::new(ErrorCode::NotFound, format!("there is no snapshot {snapshot:.60?}"), "`skep sandbox snapshot --list` shows them.");
    let found = sandboxes.find_snapshot(owner(&principal), &snapshot)?.ok_or_else(missing)?;
    sandboxes.remove_snapshot(&found.id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn fork(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Json(body): Json<api::ForkSandbox>,
) -> Result<Response, Failure> {
    let owned = find(&control, &principal, &id)?;
    let made = all(&control)?.fork(&owned, principal.key.as_str(), body.count.unwrap_or(1), body.timeout_ms).await;
    let (mut forks, mut errors) = (Vec::new(), Vec::new());
    for fork in made {
        match fork {
            Ok(fork) => forks.push(out(&control, &fork)),
            Err(error) => errors.push(Failure::from(error).0),
        }
    }
    // Where none was made, the first reason is the answer.
    match (forks.is_empty(), errors.is_empty()) {
        (true, false) => Err(Failure(errors.swap_remove(0))),
        _ => Ok(json(StatusCode::CREATED, &api::SandboxForks { forks, errors })),
    }
}

pub(crate) async fn diff(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let changes = find(&control, &principal, &id)?.diff().await?;
    Ok(json(StatusCode::OK, &api::SandboxDiff { changes: changes.into_iter().map(change_out).collect() }))
}

pub(crate) async fn commit(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let owned = find(&control, &principal, &id)?;
    // What is changed is the parent: it must be the caller's, too.
    if let Some(origin) = owned.boxed().origin().await {
        find(&control, &principal, origin.sandbox.as_str())?;
    }
    let merged = owned.commit_back().await?;
    let conflicts = merged.conflicts.into_iter();
    let conflicts =
        conflicts.map(|conflict| api::SandboxConflict { path: conflict.path, why: format!("{:?}", conflict.why).to_lowercase() });
    Ok(json(
        StatusCode::OK,
        &api::SandboxMerged {
            applied: merged.applied.into_iter().map(change_out).collect(),
            same: merged.same,
            conflicts: conflicts.collect(),
        },
    ))
}

pub(crate) async fn history(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let past = find(&control, &principal, &id)?.history().await?;
    let time = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let one = |past: skep_node::Past| api::SandboxPast {
        number: past.number,
        author: past.author,
        argv: past.argv,
        user: past.user,
        started_at: time(past.started_ms),
        ended_at: past.ended_ms.map(time),
        code: past.status.map(|status| match status {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => 128 + signal,
        }),
        changed: past.changed.unwrap_or_default(),
        more: past.more,
        before: past.before.map(|snapshot| snapshot.to_string()),
    };
    Ok(json(StatusCode::OK, &api::SandboxHistory { commands: past.into_iter().map(one).collect() }))
}

fn snapshot_out(snapshot: Snapshot) -> api::SandboxSnapshot {
    api::SandboxSnapshot {
        id: snapshot.id.to_string(),
        name: snapshot.name,
        sandbox: snapshot.of,
        taken_at: i64::try_from(snapshot.taken_ms).unwrap_or(i64::MAX),
        paused_us: snapshot.paused_us,
        durable: snapshot.durable,
    }
}

fn change_out(change: FileChange) -> api::SandboxChange {
    api::SandboxChange {
        path: change.path,
        what: match change.what {
            ChangeWhat::Added => "added",
            ChangeWhat::Changed => "changed",
            ChangeWhat::Removed => "removed",
        }
        .to_owned(),
        kind: match change.kind {
            EntryKind::File => "file",
            EntryKind::Folder => "folder",
            EntryKind::Link => "link",
            EntryKind::Other => "other",
        }
        .to_owned(),
        bytes: change.bytes,
        mode: change.mode,
    }
}
