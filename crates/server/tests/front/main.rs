//! The front and the node through HTTP, on port 0, with temporary folders.
#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod actors;
mod control;
mod house;
mod inhabitant;
mod lifecycle;
mod routes;
mod scripted;
mod traffic;
