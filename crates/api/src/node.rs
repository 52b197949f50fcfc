//! The node about itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/node`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// Version of skep.
    pub version: String,
    /// Hash of the isolate image. Snapshots belong to one image.
    pub image: String,
    /// ms since the node started.
    pub uptime_ms: u64,
    /// The domain below which workers answer by host name.
    pub domain: String,
    /// Deployed workers.
    pub workers: u64,
    /// Isolates held warm now.
    pub isolates: u64,
    /// Requests being served now.
    pub in_flight: u64,
    /// Whether the node takes no new requests.
    pub draining: bool,
}
