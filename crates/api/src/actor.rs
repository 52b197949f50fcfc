//! Actors on the wire: what there is, what is in them, and what was acknowledged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skep_id::{ActorId, WorkerName};
use utoipa::ToSchema;

/// One actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Actor {
    /// 64 hexadecimal digits.
    #[schema(value_type = String)]
    pub id: ActorId,
    /// The worker whose class it is.
    #[schema(value_type = String)]
    pub worker: WorkerName,
    /// The class.
    pub class: String,
    /// The name its id was made from; absent where nobody ever said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The actor that it is a facet of, or a fork of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub parent: Option<ActorId>,
    /// What it is doing.
    pub state: ActorState,
    /// ms since the epoch.
    pub created_at: i64,
    /// When it was last awake, ms since the epoch.
    pub active_at: i64,
    /// Bytes of its database.
    pub database_bytes: u64,
    /// When it next wakes by itself, ms since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wakes_at: Option<i64>,
}

/// What an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// On disk only.
    Asleep,
    /// On its way into memory.
    Waking,
    /// In memory, serving.
    Awake,
    /// On its way out of memory.
    FallingAsleep,
}

/// A page of actors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActorList {
    /// By id.
    pub actors: Vec<Actor>,
    /// Asks for the next page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One actor with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActorDetails {
    /// What the list shows.
    #[serde(flatten)]
    pub actor: Actor,
    /// The term of ownership in force.
    pub epoch: u64,
    /// The place of its last record.
    pub seq: u64,
    /// The present, to return to later with `rewind` or to look at with `as_of`.
    pub bookmark: String,
    /// Named alarms and the one without a name (`""`), ms since the epoch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alarms: BTreeMap<String, i64>,
    /// Bookmarks of the places that its code keeps beyond retention, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub snapshots: BTreeMap<String, String>,
    /// The newest lines of its own log: why it last began without its heap, what failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<ActorLine>,
}

/// A line of an actor's own log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActorLine {
    /// ms since the epoch.
    pub at: i64,
    /// What happened.
    pub text: String,
}

/// A point in an actor's past: a number is a time, ms since the epoch; a text is a bookmark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Point {
    /// As of that time.
    Time(i64),
    /// As of that bookmark.
    Bookmark(String),
}

/// `POST /v1/actors/{actor}/sql`: one question to its database. Nothing can be changed by it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActorSql {
    /// The statement.
    pub query: String,
    /// The past to ask; the present when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Point>,
}

/// Rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ActorRows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Each row an array of null, number, string, or `{"base64": …}` for bytes. An integer beyond 2^53 is
    /// `{"integer": "…"}`, an infinite number `{"real": "…"}`.
    pub rows: Vec<Vec<serde_json::Value>>,
}

/// Proof that what an actor did up to a place lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// Whose.
    #[schema(value_type = String)]
    pub actor: ActorId,
    /// The term of ownership it was written in.
    pub epoch: u64,
    /// The place: everything up to it is as safe.
    pub seq: u64,
    /// How safe: `memory` (lost with the process) or `local-fsync` (on this machine's disk, synced).
    pub tier: String,
}

/// `POST /v1/actors/{actor}/fork`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkActor {
    /// The name of the new actor, which must not exist; without one it gets an id that nobody can guess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The past to begin from; the present when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Point>,
    /// Whether the new actor gets the alarms too.
    #[serde(default)]
    pub alarms: bool,
}

/// `POST /v1/actors/{actor}/rewind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RewindActor {
    /// Where to.
    pub to: Point,
}

/// A rewound actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rewound {
    /// Rewinding to this undoes it.
    pub undo: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_time_or_a_bookmark() {
        let read = |text: &str| serde_json::from_str::<RewindActor>(text);
        assert_eq!(read(r#"{"to":1700000000000}"#).unwrap().to, Point::Time(1_700_000_000_000));
        assert_eq!(read(r#"{"to":"00-01"}"#).unwrap().to, Point::Bookmark("00-01".to_owned()));
        assert!(read(r#"{"to":null}"#).is_err() && read("{}").is_err() && read(r#"{"to":1,"x":1}"#).is_err());
    }
}
