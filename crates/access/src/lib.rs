//! Who may do what: API keys, and the principal that a good key turns into.
//!
//! Keys live in one SQLite file that several processes may open at once: the node, and `skep key` beside it. A key made or
//! revoked by one is seen by the other with its next question, for nothing is cached.
//!
//! It is not: a policy engine, and it knows no HTTP. Time is a parameter everywhere; no function reads a clock.

#![warn(missing_docs)]

mod keys;
mod principal;
mod token;

pub use keys::{Key, KeyError, Keys, NewKey};
pub use principal::{Principal, Scope, Scopes};
pub use token::{Token, TokenError};
