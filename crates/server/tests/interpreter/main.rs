//! The code-interpreter wire on real sandboxes, by our own requests and by the published packages. As root only; what else a machine lacks is named.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod javascript;
mod packages;
mod python;
