//! The whole of a node with the real engine behind its front: what only shows when everything is in its place. One binary, so
//! that the image is compiled once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod actors;
mod beyond;
mod egress;
mod hibernation;
mod house;
#[cfg(target_os = "linux")]
mod sandboxes;
mod serving;
mod tails;
