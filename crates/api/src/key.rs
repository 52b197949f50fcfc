//! API keys on the wire.

use serde::{Deserialize, Serialize};
use skep_id::KeyId;
use utoipa::ToSchema;

/// What a key may do. `admin` may do everything; the others do not include one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything, keys included.
    Admin,
    /// Deploy, roll back and delete workers.
    Deploy,
    /// Run snippets.
    Execute,
    /// List, tail, and read the node's status and metrics.
    Read,
    /// Look into actors and change them: SQL, checkpoint, fork, rewind, export, delete.
    Actors,
    /// Make sandboxes, and do everything with those that the same key made.
    Sandboxes,
}

/// `POST /v1/keys`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What it is for.
    #[serde(default)]
    pub label: String,
    /// What it may do; at least one.
    pub scopes: Vec<Scope>,
    /// When it stops working, ms since the epoch; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

/// The only answer that ever holds the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewKeyToken {
    /// The key.
    pub key: Key,
    /// `skep_<id>_<secret>`; the node keeps only its hash.
    pub token: String,
    /// The same token spelt `e2b_<hexadecimal>`, for E2B's SDKs.
    #[serde(default)]
    pub e2b: String,
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// The public part of the token.
    #[schema(value_type = String)]
    pub id: KeyId,
    /// What it is for.
    pub label: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// ms since the epoch.
    pub created_at: i64,
    /// When it stops working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// When it was last used, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<i64>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<i64>,
}

/// All keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// Newest first.
    pub keys: Vec<Key>,
}
