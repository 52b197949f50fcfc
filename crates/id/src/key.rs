//! The public half of an API key.

use std::{fmt, str::FromStr};

use crate::{ParseError, base32, text_id};

/// Names an API key in lists, logs and the audit trail. It is the middle part of the token and no secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    /// Ten random bytes: no two keys of an installation ever meet.
    #[must_use]
    pub fn from_random(bytes: [u8; 10]) -> Self {
        Self(base32::encode(&bytes))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if base32::is_text(text, 16) { Ok(Self(text.to_owned())) } else { Err(ParseError::new(text, "a key id (16 letters and digits)")) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_id!(KeyId);
