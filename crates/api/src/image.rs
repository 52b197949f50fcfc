//! Images: what sandboxes begin with, and how one is made.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ApiError;

/// `POST /v1/images/{name}`: what to make it of, one of `registry` and `debian`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewImage {
    /// An image of a registry: `debian:12`, `ghcr.io/owner/name@sha256:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// For a registry that asks who is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<ImageCredentials>,
    /// A Debian, or a relative of it, made on the node's host by `mmdebstrap` or `debootstrap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debian: Option<DebianImage>,
}

/// For a registry; neither kept nor logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageCredentials {
    /// Who.
    pub user: String,
    /// A password or a token.
    pub password: String,
}

/// A Debian to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DebianImage {
    /// `bookworm`, `trixie`, …
    pub suite: String,
    /// Where its packages are; the tool's own choice when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// Packages beside the smallest set.
    #[serde(default)]
    pub packages: Vec<String>,
}

/// What sandboxes can begin with: its name is a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// What `template` of a new sandbox names it by.
    pub name: String,
    /// What it was made of: `registry debian:12`, `debian bookworm`, `archive`, `template` or `host`.
    pub from: String,
    /// How many layers it has of its own.
    pub layers: usize,
    /// Whether the host's own programs are below them.
    pub host: bool,
    /// ms since the epoch.
    pub made_at: i64,
}

/// Images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageList {
    /// In the order of their names.
    pub images: Vec<Image>,
}

/// One line of the answer while an image is made. The last one is `made` or `failed`; the work goes on whoever reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageProgress {
    /// What was done.
    Said {
        /// ms since the epoch.
        at: u64,
        /// `debug`, `info`, `warn` or `error`.
        level: String,
        /// Without its end.
        text: String,
    },
    /// It is made.
    Made(Image),
    /// It is not, and one of this name that was there before is as it was.
    Failed(ApiError),
}
