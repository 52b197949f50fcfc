//! The one way out: every connection that a worker opens to the outside is opened here.
//!
//! [`Outbound`] is a [`skep_isolate::Target`]; the node gives it to its workers. Whether an address may be reached is judged by
//! [`Egress`], on the very address that is then connected to. What is secret is put into requests here and never inside
//! ([`Placeholders`]). It is not: a place that knows workers, names or storage.

#![warn(missing_docs)]

mod address;
pub mod body;
mod connect;
mod header;
mod inward;
#[cfg(target_os = "linux")]
pub mod net;
mod outbound;
mod secret;
pub mod websocket;

pub use address::Egress;
pub use header::header_text;
pub use inward::inward;
pub use outbound::Outbound;
pub use secret::{FillError, HostRule, HostRuleError, Placeholders, Secret, SecretError, Vault};
