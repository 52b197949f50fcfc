//! The HTTP front of a node: accepts connections, sends worker requests to the node, translates `api` to the domain and back.
//!
//! [`Server::bind`] takes an address, [`Server::run`] serves until its shutdown future is ready and then drains: it stops accepting,
//! finishes what is in flight, and gives up at a deadline.
//!
//! It is not: where anything is decided. It is the only crate that knows HTTP routes.

#![warn(missing_docs)]

mod actors;
mod auth;
mod config;
mod control;
mod convert;
mod dispatch;
mod execute;
mod keys;
mod listen;
mod receipt;
mod reply;
mod secrets;
mod status;
mod tail;
mod upgrade;
mod workers;

pub use config::{Config, TlsConfig};
pub use listen::{BindError, Server};
