//! Isolates as tenants meet them, through the public interface alone: attacks by name (`hostile`), limits, snapshots and
//! meters. One binary, so that the image is loaded once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod actors;
mod hostile;
mod limits;
mod meter;
mod passing_on;
mod snapshots;
mod tails;
mod wasm;
mod worlds;
