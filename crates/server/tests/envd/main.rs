//! E2B's wire at the HTTP boundary, over a sandbox on the real kernel. Where the tests are not root's they say so and pass.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod attacks;
mod calls;
mod commands;
mod files;
mod house;
mod speed;
