//! Actors from the command line, and what SIGKILL, a full disk and damaged files leave of them.
#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod commands;
mod damage;
mod full_disk;
mod house;
mod kills;
