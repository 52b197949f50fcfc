//! Sandboxes, page by page.

use axum::{
    extract::{Query, State},
    response::Response,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use skep_id::SandboxId;
use skep_node::Owned;

use super::{Caller, listed_out, page, runs, sandboxes};
use crate::{
    control::Control,
    e2b::{error::Error, time},
};

/// Most sandboxes of a page.
const PAGE_MAX: usize = 100;

type Asked = Vec<(String, String)>;

/// What a caller wants to see.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    metadata: Vec<(String, String)>,
    running: bool,
    paused: bool,
    oldest_first: bool,
    started_after_ms: Option<i64>,
    template: Option<String>,
    limit: usize,
    after: Option<Place>,
}

/// Where a page ended: the start of its last sandbox, and its id.
type Place = (i64, SandboxId);

pub(super) async fn v1(State(control): State<Control>, caller: Caller, Query(asked): Query<Asked>) -> Result<Response, Error> {
    let wanted = Wanted { paused: false, limit: usize::MAX, ..Wanted::read(&asked)? };
    let (found, ..) = select(&control, &caller, &wanted)?;
    Ok(page(found.iter().map(listed_out).collect(), None, None))
}

pub(super) async fn v2(State(control): State<Control>, caller: Caller, Query(asked): Query<Asked>) -> Result<Response, Error> {
    let wanted = Wanted::read(&asked)?;
    let (found, next, running) = select(&control, &caller, &wanted)?;
    Ok(page(found.iter().map(listed_out).collect(), next.map(|place| shown(&place)), Some(running)))
}

/// The page, where the next one begins, and how many of all run.
fn select(control: &Control, caller: &Caller, wanted: &Wanted) -> Result<(Vec<Owned>, Option<Place>, usize), Error> {
    let mut all: Vec<(Place, Owned)> = sandboxes(control)?
        .list()
        .into_iter()
        .filter(|owned| caller.may(owned))
        .map(|owned| ((owned.facts().started_ms, owned.id().clone()), owned))
        .collect();
    let running = all.iter().filter(|(_, owned)| runs(owned)).count();
    all.retain(|(_, owned)| wanted.takes(owned));
    all.sort_by(|(one, _), (other, _)| order(one, other, wanted.oldest_first));
    let begins = match &wanted.after {
        Some(after) => all.partition_point(|(place, _)| order(place, after, wanted.oldest_first).is_le()),
        None => 0,
    };
    let rest = all.split_off(begins);
    let next = (rest.len() > wanted.limit).then(|| rest.get(wanted.limit.saturating_sub(1)).map(|(place, _)| place.clone())).flatten();
    Ok((rest.into_iter().take(wanted.limit).map(|(_, owned)| owned).collect(), next, running))
}

fn order(one: &Place, other: &Place, oldest_first: bool) -> std::cmp::Ordering {
    if oldest_first { one.cmp(other) } else { other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)) }
}

impl Wanted {
    fn read(asked: &[(String, String)]) -> Result<Self, Error> {
        let mut wanted = Self { running: true, paused: true, limit: PAGE_MAX, ..Self::default() };
        let states: Vec<&str> =
            asked.iter().filter(|(name, _)| name == "state").flat_map(|(_, value)| value.split(',')).filter(|s| !s.is_empty()).collect();
        if let Some(state) = states.iter().find(|state| !["running", "paused"].contains(state)) {
            return Err(Error::invalid(format!("{state:.40?} is no state: running or paused")));
        }
        if !states.is_empty() {
            (wanted.running, wanted.paused) = (states.contains(&"running"), states.contains(&"paused"));
        }
        for (name, value) in asked {
            match name.as_str() {
                "metadata" => wanted.metadata.extend(url::form_urlencoded::parse(value.as_bytes()).into_owned()),
                "order" => wanted.oldest_first = value == "asc",
                "startedAfter" => {
                    let read = time::read(value).ok_or_else(|| Error::invalid("`startedAfter` is no time of RFC 3339"))?;
                    wanted.started_after_ms = Some(read);
                }
                "template" => wanted.template = Some(value.clone()),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                    wanted.limit = limit.ok_or_else(|| Error::invalid(format!("`limit` is 1 to {PAGE_MAX}")))?;
                }
                "nextToken" if !value.is_empty() => {
                    wanted.after = Some(place(value).ok_or_else(|| Error::invalid("`nextToken` is none of this server's"))?);
                }
                _ => {}
            }
        }
        Ok(wanted)
    }

    fn takes(&self, owned: &Owned) -> bool {
        let facts = owned.facts();
        let state = if runs(owned) { self.running } else { self.paused };
        state
            && self.metadata.iter().all(|(name, value)| facts.metadata.get(name) == Some(value))
            && self.started_after_ms.is_none_or(|after| facts.started_ms >= after)
            && self.template.as_ref().is_none_or(|template| *template == facts.template)
    }
}

fn shown((started_ms, id): &Place) -> String {
    URL_SAFE_NO_PAD.encode(format!("{started_ms}:{id}"))
}

fn place(text: &str) -> Option<Place> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (started_ms, id) = text.split_once(':')?;
    Some((started_ms.parse().ok()?, id.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Wanted, Error> {
        Wanted::read(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn queries_are_read_as_clients_write_them() {
        let wanted = read(&[("metadata", "user=a%20b&app=prod"), ("state", "paused"), ("limit", "2"), ("order", "asc")]).unwrap();
        assert_eq!(wanted.metadata, [("user".into(), "a b".into()), ("app".into(), "prod".into())]);
        assert!(!wanted.running && wanted.paused && wanted.limit == 2 && wanted.oldest_first);
        let both = read(&[("state", "running,paused")]).unwrap();
        assert!(both.running && both.paused && both.limit == PAGE_MAX);
        for wrong in [[("limit", "0")], [("limit", "101")], [("state", "gone")], [("nextToken", "../..")], [("startedAfter", "yesterday")]]
        {
            assert!(read(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_page_goes_on_where_the_last_one_ended() {
        let id = |byte| SandboxId::from_random([byte; 13]);
        let at = (1_700_000_000_000, id(1));
        assert_eq!(place(&shown(&at)), Some(at.clone()));
        assert!(order(&(2, id(1)), &(1, id(1)), false).is_lt() && order(&(2, id(1)), &(1, id(1)), true).is_gt());
        assert!(order(&(1, id(1)), &(1, id(2)), false).is_lt());
    }
}
