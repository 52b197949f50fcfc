//! Snapshots and forks, in E2B's words.

use axum::{
    body::Bytes,
    extract::{Path, Query, State},
    response::Response,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_node::Snapshot;

use super::{Caller, body, find, millis, page, sandbox_out, sandboxes};
use crate::{control::Control, e2b::error::Error, reply::json as answer};

/// Most snapshots of a page.
const PAGE_MAX: usize = 100;

/// Seconds that a fork runs when nobody says so: E2B's number.
const FORK_TIMEOUT: i64 = 15;

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

pub(super) async fn snapshot(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Result<Response, Error> {
    let asked: Named = body(&bytes)?;
    let owned = find(&control, &caller, &id)?;
    let taken = sandboxes(&control)?.snapshot(&owned, asked.name.as_deref()).await?;
    Ok(answer(StatusCode::CREATED, &snapshot_out(&taken)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    #[serde(rename = "sandboxID")]
    sandbox_id: Option<String>,
    name: Option<String>,
    limit: Option<usize>,
    next_token: Option<String>,
}

pub(super) async fn list(State(control): State<Control>, caller: Caller, Query(asked): Query<Listed>) -> Result<Response, Error> {
    let limit = asked.limit.unwrap_or(PAGE_MAX);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Error::invalid(format!("`limit` is 1 to {PAGE_MAX}")));
    }
    let mut found = sandboxes(&control)?.snapshots(caller.owner())?;
    found.retain(|snapshot| {
        asked.sandbox_id.as_deref().is_none_or(|id| snapshot.of.as_str() == id)
            && asked.name.as_deref().is_none_or(|name| snapshot.name.as_deref() == Some(name))
    });
    if let Some(after) = asked.next_token.filter(|token| !token.is_empty()) {
        // The token is the last id of the page before; one that is gone meanwhile leaves the order by time.
        let place = found.iter().position(|snapshot| snapshot.id.as_str() == after);
        let place = place.ok_or_else(|| Error::invalid("`nextToken` is none of this server's"))?;
        found.drain(..=place);
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|snapshot| snapshot.id.to_string());
    Ok(page(found.iter().map(snapshot_out).collect(), next, None))
}

fn snapshot_out(snapshot: &Snapshot) -> Value {
    json!({ "snapshotID": snapshot.id.to_string(), "names": snapshot.name.iter().collect::<Vec<_>>() })
}

#[derive(Deserialize)]
struct Fork {
    timeout: Option<i64>,
    count: Option<u32>,
}

pub(super) async fn fork(State(control): State<Control>, caller: Caller, Path(id): Path<String>, bytes: Bytes) -> Result<Response, Error> {
    let asked: Fork = body(&bytes)?;
    let count = asked.count.unwrap_or(1);
    if !(1..=100).contains(&count) {
        return Err(Error::invalid("`count` is 1 to 100"));
    }
    let timeout = millis(asked.timeout.unwrap_or(FORK_TIMEOUT))?;
    let owned = find(&control, &caller, &id)?;
    let forks = sandboxes(&control)?.fork(&owned, caller.name(), count, Some(timeout)).await;
    let out: Vec<Value> = forks
        .into_iter()
        .map(|fork| match fork {
            Ok(fork) => json!({ "sandbox": sandbox_out(&control, &fork) }),
            Err(error) => {
                let error = Error::from(error);
                json!({ "error": { "code": error.status.as_u16(), "message": error.message } })
            }
        })
        .collect();
    Ok(answer(StatusCode::CREATED, &out))
}
