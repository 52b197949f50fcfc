//! Actors: listed, looked into, checkpointed, forked, rewound, exported, deleted.

use axum::{
    body::Body as HttpBody,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use skep_api::{self as api, ErrorCode};
use skep_id::ActorId;
use skep_node::{ActorFilter, ActorsError, Fork};

use crate::{
    control::{Control, Json},
    convert::{actor_details_out, actor_out, point_in, receipt_out, rows_out},
    receipt,
    reply::{Failure, json},
    workers::worker_name,
};

/// Actors of a page when nobody says how many.
const PAGE: u32 = 100;

/// Most actors of a page.
const PAGE_MAX: u32 = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listed {
    worker: Option<String>,
    class: Option<String>,
    prefix: Option<String>,
    cursor: Option<String>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exported {
    as_of: Option<String>,
}

type Asked<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

pub(crate) async fn list(State(control): State<Control>, asked: Asked<Listed>) -> Result<Response, Failure> {
    let asked = query(asked)?;
    let limit = asked.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Failure::new(
            ErrorCode::Invalid,
            format!("a page has 1 to {PAGE_MAX} actors, not {limit}"),
            "Ask for less, page by page.",
        ));
    }
    let filter = ActorFilter {
        worker: asked.worker.as_deref().map(worker_name).transpose()?,
        class: asked.class,
        prefix: asked.prefix.unwrap_or_default(),
        after: asked.cursor.as_deref().map(cursor).transpose()?,
        most: limit as usize,
    };
    let (actors, more) = control.node.actors().list(filter).await?;
    let cursor = if more { actors.last().map(|actor| actor.id.to_string()) } else { None };
    Ok(json(StatusCode::OK, &api::ActorList { actors: actors.into_iter().map(actor_out).collect(), cursor }))
}

pub(crate) async fn show(State(control): State<Control>, Path(actor): Path<String>) -> Result<Response, Failure> {
    let actor = id(&control, &actor)?;
    Ok(json(StatusCode::OK, &actor_details_out(control.node.actors().show(actor).await?)))
}

pub(crate) async fn sql(
    State(control): State<Control>,
    Path(actor): Path<String>,
    Json(body): Json<api::ActorSql>,
) -> Result<Response, Failure> {
    let actor = id(&control, &actor)?;
    let rows = control.node.actors().sql(actor, body.query, body.as_of.map(point_in)).await?;
    Ok(json(StatusCode::OK, &rows_out(rows)))
}

pub(crate) async fn checkpoint(State(control): State<Control>, Path(actor): Path<String>, headers: HeaderMap) -> Result<Response, Failure> {
    let actor = id(&control, &actor)?;
    let receipt = control.node.actors().checkpoint(actor).await?;
    Ok(receipt::shown(json(StatusCode::OK, &receipt_out(receipt)), &headers, &receipt))
}

pub(crate) async fn fork(
    State(control): State<Control>,
    Path(actor): Path<String>,
    headers: HeaderMap,
    Json(body): Json<api::ForkActor>,
) -> Result<Response, Failure> {
    let actor = id(&control, &actor)?;
    let fork = Fork { name: body.name, as_of: body.as_of.map(point_in), alarms: body.alarms };
    let (actor, receipt) = control.node.actors().fork(actor, fork).await?;
    Ok(receipt::shown(json(StatusCode::CREATED, &actor_out(actor)), &headers, &receipt))
}

pub(crate) async fn rewind(
    State(control): State<Control>,
    Path(actor): Path<String>,
    headers: HeaderMap,
    Json(body): Json<api::RewindActor>,
) -> Result<Response, Failure> {
    let actor = id(&control, &actor)?;
    let (undo, receipt) = control.node.actors().rewind(actor, point_in(body.to)).await?;
    Ok(receipt::shown(json(StatusCode::OK, &api::Rewound { undo }), &headers, &receipt))
}

pub(crate) async fn export(State(control): State<Control>, Path(actor): Path<String>, asked: Asked<Exported>) -> Result<Response, Failure> {
    let (actor, asked) = (id(&control, &actor)?, query(asked)?);
    let as_of = asked.as_of.map(|text| match text.parse() {
        Ok(time) => api::Point::Time(time),
        Err(_) => api::Point::Bookmark(text),
    });
    let file = control.node.actors().export(actor, as_of.map(point_in)).await?;
    let length = file.length();
    // The piece that fails ends the connection before its length is reached: half a database is never taken for a whole one.
    let pieces = stream::unfold(file, |mut file| async move { file.next().await.map(|piece| (piece, file)) });
    let mut response = Response::new(HttpBody::from_stream(pieces.boxed()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.sqlite3"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{actor}.sqlite\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

pub(crate) async fn delete(State(control): State<Control>, Path(actor): Path<String>, headers: HeaderMap) -> Result<Response, Failure> {
    let actor = id(&control, &actor)?;
    let receipt = control.node.actors().delete(actor).await?;
    Ok(receipt::shown(StatusCode::NO_CONTENT.into_response(), &headers, &receipt))
}

/// An actor's id, from itself or from worker, class and name.
fn id(control: &Control, text: &str) -> Result<ActorId, Failure> {
    Ok(control.node.actors().id_of(text)?)
}

fn cursor(text: &str) -> Result<ActorId, Failure> {
    let wrong = |_| Failure::new(ErrorCode::Invalid, format!("{text:.80?} is not a cursor"), "Send the `cursor` of the page before.");
    text.parse().map_err(wrong)
}

fn query<T>(asked: Asked<T>) -> Result<T, Failure> {
    asked.map(|Query(asked)| asked).map_err(|error| {
        Failure::new(ErrorCode::Invalid, format!("the query is not what this route takes: {error}"), "GET /openapi.json describes it.")
    })
}

impl From<ActorsError> for Failure {
    fn from(error: ActorsError) -> Self {
        let (code, hint) = match &error {
            ActorsError::NotAnAddress(_) => (ErrorCode::Invalid, "Send its id, or <worker>/<class>/<name> with the slashes as %2F."),
            ActorsError::NoActor(_) => (ErrorCode::NotFound, "`skep actors ls` shows all actors."),
            ActorsError::Exists(_) => (ErrorCode::Conflict, "Choose another name, or delete that actor first."),
            ActorsError::BadPoint(_) => {
                (ErrorCode::Invalid, "`skep actors show` prints the present bookmark; times are ms since the epoch.")
            }
            ActorsError::Sql(_) => {
                (ErrorCode::Invalid, "`SELECT name, sql FROM sqlite_schema` shows what there is; nothing can be changed by this route.")
            }
            ActorsError::NotNow(_) => (ErrorCode::Conflict, "Try again when it is at rest; `skep actors show` tells."),
            ActorsError::Busy(_) => (ErrorCode::Unavailable, "Try again in a moment."),
            ActorsError::Full(_) => (ErrorCode::Unavailable, "Make room where the data folder is: then it works again, without a restart."),
            ActorsError::Guest(_) => (ErrorCode::WorkerFailed, "`skep actors show` and `skep tail` say more."),
            ActorsError::Damaged(_) => (ErrorCode::Internal, "`skep doctor` says what can be repaired; other actors are not affected."),
            ActorsError::Failed(_) => return Self::internal(&error),
        };
        Self::new(code, error.to_string(), hint)
    }
}
