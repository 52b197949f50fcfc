//! What an operator may set about actors.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::database::DatabaseLimits;

/// The actors of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder of directory, bases and histories. Default: `actors`, below where the node runs; a node sets it to a folder of its data.
    pub dir: PathBuf,
    /// How long an actor stays awake after its last message, in milliseconds. Default: 10,000, as the hosted service.
    pub idle_ms: u64,
    /// Actors awake at once. Above it those that have been idle for longest are put to sleep first, and a message for another waits for room.
    /// Default: 4,096.
    pub awake_max: usize,
    /// How long a message waits for room, for an actor to start, or for its files to be given back, in milliseconds. Default: 30,000.
    pub wait_ms: u64,
    /// Messages that wait for one actor at once; further ones are refused. Default: 4,096.
    pub waiting_max: usize,
    /// Records of an awake actor between two of its checkpoints. 0: only when it falls asleep and when asked. Default: 10,000.
    pub checkpoint_every: u64,
    /// How long new messages wait after a deploy for what is in flight on the old code, in milliseconds; after that the old code serves them.
    /// Default: 10,000.
    pub deploy_wait_ms: u64,
    /// How far back one can go, in milliseconds. Default: 30 days.
    pub retention_ms: u64,
    /// How often retention is looked after, in milliseconds. Default: 10 minutes.
    pub expire_every_ms: u64,
    /// Actors whose records are brought to their files at once, when the log is crowded. Default: 64.
    pub fold_at_once: usize,
    /// What of an actor's newest pages is kept in memory before they are brought to its file, in bytes: what the first start of a fork may have to read. Default: 1 MiB.
    pub overlay_bytes: usize,
    /// The same of all actors together; those who have most go first. Default: 256 MiB.
    pub overlays_bytes: usize,
    /// Records of an awake actor before they are brought to its file, in bytes, each counted as 1 KiB longer than it is: what looking at a place in
    /// the recent past reads. Default: 16 MiB.
    pub tail_bytes: u64,
    /// The same of an actor that falls asleep: what its next start reads. Default: 1 MiB.
    pub left_bytes: u64,
    /// Alarms.
    pub alarms: AlarmConfig,
    /// Databases.
    pub database: DatabaseConfig,
    /// Events kept of each actor. Default: 64.
    pub events_each: u32,
    /// Children, and children of children, that one actor may have. Default: 1,000.
    pub facets_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("actors"),
            idle_ms: 10_000,
            awake_max: 4_096,
            wait_ms: 30_000,
            waiting_max: 4_096,
            checkpoint_every: 10_000,
            deploy_wait_ms: 10_000,
            retention_ms: 30 * 24 * 3_600_000,
            expire_every_ms: 600_000,
            fold_at_once: 64,
            overlay_bytes: 1 << 20,
            overlays_bytes: 256 << 20,
            tail_bytes: 16 << 20,
            left_bytes: 1 << 20,
            alarms: AlarmConfig::default(),
            database: DatabaseConfig::default(),
            events_each: 64,
            facets_max: 1_000,
        }
    }
}

/// How alarms are fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmConfig {
    /// Actors whose alarms are fired at once. One whose handler takes longer than `slow_ms` does not count any more. Default: 64.
    pub at_once: usize,
    /// After how long a handler makes room for others, in milliseconds. It goes on. Default: 500.
    pub slow_ms: u64,
    /// The wait before the first retry, in milliseconds; it doubles each time. Default: 2,000.
    pub backoff_ms: u64,
    /// Retries of a handler that failed, before its alarm is given up. Failures that are not its own do not count. Default: 6.
    pub retries: u32,
}

impl Default for AlarmConfig {
    fn default() -> Self {
        Self { at_once: 64, slow_ms: 500, backoff_ms: 2_000, retries: 6 }
    }
}

/// Bounds on the database of one actor; the others are those of Durable Objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Its size, in bytes. Default: 10 GiB.
    pub max_bytes: u64,
    /// Time that one statement may take, in milliseconds. Default: 5,000.
    pub statement_ms: u64,
    /// Time that all SQL of one turn may take, in milliseconds. Default: 10,000.
    pub turn_ms: u64,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { max_bytes: 10 << 30, statement_ms: 5_000, turn_ms: 10_000 }
    }
}

impl DatabaseConfig {
    pub(crate) fn limits(&self) -> DatabaseLimits {
        DatabaseLimits {
            database_bytes: self.max_bytes,
            statement_time: Duration::from_millis(self.statement_ms),
            turn_time: Duration::from_millis(self.turn_ms),
            ..DatabaseLimits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused_and_absent_ones_are_the_defaults() {
        assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
        assert!(serde_json::from_str::<Config>(r#"{"idle": 1}"#).is_err());
        assert!(serde_json::from_str::<Config>(r#"{"alarms": {"retrys": 1}}"#).is_err());
    }
}
