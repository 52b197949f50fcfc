//! What `skep tail` shows: one event per line of the stream.

use serde::{Deserialize, Serialize};
use skep_id::{RequestId, VersionId};
use utoipa::ToSchema;

use crate::{Fault, LogLine, Meter, Outcome};

/// An event of a worker. Delivery is lossy when the reader is slow; `lost` then says how many are missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TailEvent {
    /// A line of the log.
    Log {
        /// The request that it belongs to: absent for what belongs to none, such as top-level code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        request: Option<RequestId>,
        /// The line.
        line: LogLine,
    },
    /// An uncaught exception or unhandled rejection.
    Exception {
        /// The request that it belongs to, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        request: Option<RequestId>,
        /// The error.
        error: Fault,
        /// ms since the epoch.
        at: i64,
    },
    /// The end of a request.
    Outcome {
        /// The request.
        #[schema(value_type = String)]
        request: RequestId,
        /// The version that served it.
        #[schema(value_type = String)]
        version: VersionId,
        /// What it was.
        trigger: Trigger,
        /// How it ended.
        outcome: Outcome,
        /// The error, unless the outcome is `ok`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Fault>,
        /// What it took.
        meter: Meter,
        /// ms since the epoch.
        at: i64,
    },
    /// Events that this reader was too slow for.
    Lost {
        /// How many.
        count: u64,
    },
}

/// What started a piece of guest work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trigger {
    /// An HTTP request.
    Fetch {
        /// Its method.
        method: String,
        /// Its URL, as the worker saw it.
        url: String,
        /// The status of the answer; absent when there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
}
