//! Deploying, listing, rolling back, deleting.

use axum::{
    Extension,
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Deserialize;
use skep_access::Principal;
use skep_api::{Deploy, Deployed, ErrorCode, Rollback, VersionList, Worker, WorkerList};
use skep_id::WorkerName;
use skep_node::{Orphans, VersionRow};

use crate::{
    control::{Control, Json},
    convert::{draft_in, version_out},
    reply::{Failure, json},
};

pub(crate) async fn deploy(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    Json(body): Json<Deploy>,
) -> Result<Response, Failure> {
    let name = worker_name(&name)?;
    let message = body.message.clone();
    let (row, new) = control.node.deploy(&name, draft_in(body)?, principal.key.to_string(), message).await?;
    Ok(json(StatusCode::OK, &deployed(&control, row, !new)))
}

pub(crate) async fn rollback(
    State(control): State<Control>,
    Path(name): Path<String>,
    Json(body): Json<Rollback>,
) -> Result<Response, Failure> {
    let row = control.node.rollback(&worker_name(&name)?, body.version).await?;
    Ok(json(StatusCode::OK, &deployed(&control, row, false)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deleted {
    actors: Option<Left>,
}

/// What becomes of the actors of a deleted worker.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Left {
    Delete,
    Keep,
}

pub(crate) async fn delete(
    State(control): State<Control>,
    Path(name): Path<String>,
    asked: Result<Query<Deleted>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(asked) = asked.map_err(|error| {
        Failure::new(ErrorCode::Invalid, format!("the query is not what this route takes: {error}"), "`?actors=delete` or `?actors=keep`.")
    })?;
    let orphans = match asked.actors {
        None => Orphans::Refuse,
        Some(Left::Delete) => Orphans::Delete,
        Some(Left::Keep) => Orphans::Keep,
    };
    control.node.delete(&worker_name(&name)?, orphans).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn list(State(control): State<Control>) -> Result<Response, Failure> {
    let workers = control.node.workers()?.into_iter().map(|row| Worker {
        urls: control.places.of(&row.worker),
        name: row.worker,
        version: row.version,
        active_since: row.active_since,
    });
    Ok(json(StatusCode::OK, &WorkerList { workers: workers.collect() }))
}

pub(crate) async fn versions(State(control): State<Control>, Path(name): Path<String>) -> Result<Response, Failure> {
    let versions = control.node.versions(&worker_name(&name)?)?.into_iter().map(version_out).collect();
    Ok(json(StatusCode::OK, &VersionList { versions }))
}

pub(crate) fn worker_name(text: &str) -> Result<WorkerName, Failure> {
    text.parse()
        .map_err(|error: skep_id::ParseError| Failure::new(ErrorCode::Invalid, error.to_string(), "`skep workers ls` shows all workers."))
}

fn deployed(control: &Control, row: VersionRow, unchanged: bool) -> Deployed {
    Deployed { urls: control.places.of(&row.worker), worker: row.worker, version: row.version, hash: row.hash, unchanged }
}
