//! Typed ids and names.
//!
//! One word of the project, one type: a worker's name cannot be handed where a key's id is asked for. Every type parses,
//! displays and serialises as its text, and nothing else lives here.
//!
//! It is not: a place for wire types (those are in `api`), nor for randomness — who makes an id brings the bytes.

#![warn(missing_docs)]

mod actor;
mod base32;
mod key;
mod name;
mod request;
mod sandbox;
mod version;

pub use actor::ActorId;
pub use key::KeyId;
pub use name::WorkerName;
pub use request::RequestId;
pub use sandbox::SandboxId;
pub use version::VersionId;

pub use base32::{decode as from_base32, encode as base32};

/// Why a text is not the id or name that it was taken for. The message says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not {expected}")]
pub struct ParseError {
    /// The text as given, cut to 80 characters so that a hostile input does not fill a log.
    pub input: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

impl ParseError {
    fn new(input: &str, expected: &'static str) -> Self {
        Self { input: input.chars().take(80).collect(), expected }
    }
}

/// Text in, text out: the serde, `FromStr` and `Display` sides that all ids share.
macro_rules! text_id {
    ($type:ident) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_id;
