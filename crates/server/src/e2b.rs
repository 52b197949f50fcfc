//! E2B's wire, as its unmodified packages speak it: the control plane, and every port of every sandbox as a host of its own.
//!
//! `control.rs` answers `/sandboxes`, `/v2/sandboxes`, …; `proxy.rs` everything that is for a sandbox, which `host.rs` tells from a request's head. What
//! E2B serves from within a sandbox, on port 49983, is served here over init's socket (`envd.rs`). It is not: where a sandbox's life is decided; that
//! is the node's.

mod connect;
mod control;
mod encoding;
mod envd;
mod error;
mod files;
mod filesystem;
mod host;
pub(crate) mod interpreter;
mod messages;
mod multipart;
mod process;
mod proxy;
mod runs;
mod signature;
mod telling;
mod time;

pub(crate) use control::router;
pub use envd::{Envd, EnvdMetrics, EnvdSettings, debug as envd_debug, router as envd_router};
pub(crate) use host::{Claim, claim};
pub(crate) use proxy::{Client, Proxy, wrong};
pub(crate) use time::date_of;

/// The port of a sandbox that E2B's own program in it answers.
const ENVD_PORT: u16 = 49_983;

/// The version of E2B's program whose wire is spoken: clients look at it before they use what came later.
const ENVD_VERSION: &str = "0.6.10";

/// Who a sandbox runs at, for clients that show it.
const CLIENT_ID: &str = "skep";

/// Ports that the node answers itself, for every sandbox.
pub(crate) fn served() -> Vec<(u16, axum::Router)> {
    vec![(ENVD_PORT, runs::served()), (interpreter::PORT, interpreter::served())]
}
