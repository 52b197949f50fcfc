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
mod snapshots;
mod trees;
mod watching;
mod work;
