//! Sandboxes on the real kernel, as root. Where the tests are not root's they say so and pass: there is nothing that they could try.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod attacks;
mod boxed;
mod commits;
mod crashes;
mod disk;
mod images;
mod kept;
mod ordinary;
mod recovery;
mod running;
#[path = "../../src/snapshot/bucket/server.rs"]
#[expect(dead_code, reason = "its bad days are those of the tests beside it")]
mod s3;
mod snapshots;
mod trees;
mod watching;
mod work;
