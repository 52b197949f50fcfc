//! What sandboxes use, and what happened to them.

use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use skep_node::{Level, LogEntry, Owned, Sample};

use super::{Caller, find, sandboxes};
use crate::{
    control::Control,
    e2b::{error::Error, time},
    reply::json as answer,
};

/// Sandboxes of one question about several.
const MANY_MAX: usize = 100;

/// Lines of one answer.
const LINES_MAX: usize = 1_000;

/// Longest text that lines are searched for, in characters.
const SEARCH_MAX: usize = 256;

#[derive(Deserialize)]
pub(super) struct Span {
    start: Option<i64>,
    end: Option<i64>,
}

pub(super) async fn metrics(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
    Query(span): Query<Span>,
) -> Result<Response, Error> {
    let owned = find(&control, &caller, &id)?;
    let (from, to) = (span.start.unwrap_or(0), span.end.unwrap_or(i64::MAX / 1_000));
    if from > to {
        return Err(Error::invalid("`start` is after `end`"));
    }
    // A second's end belongs to it: times of callers are whole seconds.
    let samples = owned.used_between(from.saturating_mul(1_000), to.saturating_mul(1_000).saturating_add(999));
    Ok(answer(StatusCode::OK, &samples.iter().map(|sample| sample_out(&owned, sample)).collect::<Vec<_>>()))
}

#[derive(Deserialize)]
pub(super) struct Many {
    sandbox_ids: String,
}

pub(super) async fn metrics_of_many(State(control): State<Control>, caller: Caller, Query(many): Query<Many>) -> Result<Response, Error> {
    let ids: Vec<&str> = many.sandbox_ids.split(',').filter(|id| !id.is_empty()).collect();
    if ids.len() > MANY_MAX {
        return Err(Error::invalid(format!("at most {MANY_MAX} sandboxes at once")));
    }
    let all = sandboxes(&control)?;
    let mut out = Map::new();
    for id in ids {
        let owned = id.parse().ok().and_then(|id| all.get(&id)).filter(|owned| caller.may(owned));
        if let Some((owned, sample)) = owned.and_then(|owned| owned.newest_sample().map(|sample| (owned, sample))) {
            out.insert(id.to_owned(), sample_out(&owned, &sample));
        }
    }
    Ok(answer(StatusCode::OK, &json!({ "sandboxes": out })))
}

fn sample_out(owned: &Owned, sample: &Sample) -> Value {
    let limits = owned.facts().limits;
    json!({
        "timestamp": time::shown(sample.at_ms),
        "timestampUnix": sample.at_ms.div_euclid(1_000),
        "cpuCount": limits.cpu_millis.div_ceil(1_000).max(1),
        "cpuUsedPct": (sample.cpu_percent * 100.0).round() / 100.0,
        "memUsed": sample.memory_bytes,
        "memTotal": limits.memory_bytes,
        "memCache": sample.cache_bytes,
        "diskUsed": sample.disk_bytes,
        "diskTotal": sample.disk_total_bytes,
    })
}

#[derive(Default, Deserialize)]
pub(super) struct LogsAsked {
    start: Option<i64>,
    cursor: Option<i64>,
    limit: Option<usize>,
    direction: Option<String>,
    level: Option<Level>,
    search: Option<String>,
}

pub(super) async fn logs_v1(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
    Query(asked): Query<LogsAsked>,
) -> Result<Response, Error> {
    let asked = LogsAsked { cursor: asked.start, direction: None, level: None, search: None, ..asked };
    let lines = selected(find(&control, &caller, &id)?.log(), &asked)?;
    let plain: Vec<Value> = lines.iter().map(|line| json!({ "timestamp": time::shown(line.at_ms), "line": line.message })).collect();
    let entries: Vec<Value> = lines.iter().map(line_out).collect();
    Ok(answer(StatusCode::OK, &json!({ "logs": plain, "logEntries": entries })))
}

pub(super) async fn logs_v2(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
    Query(asked): Query<LogsAsked>,
) -> Result<Response, Error> {
    let lines = selected(find(&control, &caller, &id)?.log(), &asked)?;
    Ok(answer(StatusCode::OK, &json!({ "logs": lines.iter().map(line_out).collect::<Vec<_>>() })))
}

fn line_out(line: &LogEntry) -> Value {
    json!({ "timestamp": time::shown(line.at_ms), "message": line.message, "level": line.level, "fields": line.fields })
}

/// The lines from the cursor on, in the direction asked for.
fn selected(mut lines: Vec<LogEntry>, asked: &LogsAsked) -> Result<Vec<LogEntry>, Error> {
    let limit = asked.limit.unwrap_or(LINES_MAX);
    if limit > LINES_MAX {
        return Err(Error::invalid(format!("`limit` is at most {LINES_MAX}")));
    }
    let search = asked.search.as_deref().unwrap_or_default();
    if search.chars().count() > SEARCH_MAX {
        return Err(Error::invalid(format!("`search` has at most {SEARCH_MAX} characters")));
    }
    let backward = match asked.direction.as_deref() {
        None | Some("forward") => false,
        Some("backward") => true,
        Some(_) => return Err(Error::invalid("`direction` is forward or backward")),
    };
    if backward {
        lines.reverse();
    }
    let since = |at_ms: i64| match asked.cursor {
        None => true,
        Some(cursor) if backward => at_ms <= cursor,
        Some(cursor) => at_ms >= cursor,
    };
    let wanted =
        |line: &LogEntry| since(line.at_ms) && asked.level.is_none_or(|level| line.level >= level) && line.message.contains(search);
    Ok(lines.into_iter().filter(wanted).take(limit).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn lines_are_selected() {
        let line = |at_ms, level, message: &str| LogEntry { at_ms, level, message: message.to_owned(), fields: BTreeMap::new() };
        let lines = vec![line(1, Level::Info, "one"), line(2, Level::Error, "two"), line(3, Level::Info, "three")];
        let shown = |asked: LogsAsked| -> Vec<i64> { selected(lines.clone(), &asked).unwrap().iter().map(|line| line.at_ms).collect() };
        assert_eq!(shown(LogsAsked::default()), [1, 2, 3]);
        assert_eq!(shown(LogsAsked { cursor: Some(2), ..LogsAsked::default() }), [2, 3]);
        let backward = || Some("backward".to_owned());
        assert_eq!(shown(LogsAsked { cursor: Some(2), direction: backward(), ..LogsAsked::default() }), [2, 1]);
        assert_eq!(shown(LogsAsked { level: Some(Level::Warn), ..LogsAsked::default() }), [2]);
        assert_eq!(shown(LogsAsked { search: Some("o".into()), limit: Some(1), ..LogsAsked::default() }), [1]);
        assert!(selected(vec![], &LogsAsked { direction: Some("up".into()), ..LogsAsked::default() }).is_err());
    }
}
