//! Secrets on the wire. A value goes in and never comes out.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `PUT /v1/secrets/{name}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSecret {
    /// The secret: 8 bytes to 16 KiB of visible ASCII. No answer ever holds it.
    #[schema(write_only)]
    pub value: String,
    /// Hosts that it may be sent to, in headers, over TLS: `api.example.com`, `*.example.com`, with `:port` where it is not 443. With
    /// `http://` before it, without TLS.
    pub hosts: Vec<String>,
}

impl std::fmt::Debug for PutSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutSecret").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// Where it may go.
    pub hosts: Vec<String>,
    /// When it was last set, ms since the epoch.
    pub updated_at: i64,
}

/// All secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretList {
    /// By name.
    pub secrets: Vec<Secret>,
}
