//! The HTTP front of a node: accepts connections, sends worker requests to the node, translates `api` to the domain and back.
//!
//! [`Server::bind`] takes an address, [`Server::run`] serves until its shutdown future is ready and then drains: it stops accepting,
//! finishes what is in flight, and gives up at a deadline.
//!
//! It is not: where anything is decided. It is the only crate that knows HTTP routes.

#![warn(missing_docs)]

mod actors;
mod auth;
#[cfg(target_os = "linux")]
mod authority;
mod config;
mod control;
mod convert;
mod dispatch;
#[cfg(target_os = "linux")]
mod door;
#[cfg(target_os = "linux")]
mod e2b;
mod execute;
mod keys;
mod listen;
mod receipt;
mod reply;
#[cfg(target_os = "linux")]
mod sandboxes;
#[cfg(not(target_os = "linux"))]
#[path = "sandboxes/elsewhere.rs"]
mod sandboxes;
mod secrets;
mod status;
mod tail;
mod upgrade;
mod workers;

pub use config::{Config, SandboxesConfig, TlsConfig};
#[cfg(target_os = "linux")]
pub use e2b::interpreter::{Interpreter, Interpreters, router as interpreter};
#[cfg(target_os = "linux")]
pub use e2b::{Envd, EnvdMetrics, EnvdSettings, envd_debug, envd_router};
pub use listen::{BindError, Server};
