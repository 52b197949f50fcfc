//! Real sandboxes behind a real node, through HTTP and the command line as strangers, owners and attackers use them.
//!
//! Where this machine lacks a fence that sandboxes demand, each test says which and passes: there is nothing that it could try.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod attacks;
mod browser;
mod commands;
mod house;
mod images;
mod life;
mod ports;
