//! The id of a sandbox.

use std::{fmt, str::FromStr};

use crate::{ParseError, base32, text_id};

/// Names a sandbox for all time: `i` and 20 letters and digits, so that it can be part of a host name and of a folder's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SandboxId(String);

impl SandboxId {
    /// From a hundred random bits (the rest of the thirteenth byte is not used).
    #[must_use]
    pub fn from_random(bytes: [u8; 13]) -> Self {
        let mut text = base32::encode(&bytes);
        text.truncate(20);
        Self(format!("i{text}"))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SandboxId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.strip_prefix('i') {
            Some(rest) if base32::is_text(rest, 20) => Ok(Self(text.to_owned())),
            _ => Err(ParseError::new(text, "a sandbox id (i and 20 letters and digits)")),
        }
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_id!(SandboxId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_text_and_nothing_else_is_one() {
        let id = SandboxId::from_random([0xa5; 13]);
        assert_eq!(id.as_str().len(), 21);
        assert_eq!(id.to_string().parse::<SandboxId>().unwrap(), id);
        for not in ["", "i", "i../../../../etc/passwd", "I0123456789abcdefghjk", "i0123456789abcdefghj-", "x0123456789abcdefghjk"] {
            assert!(not.parse::<SandboxId>().is_err(), "{not}");
        }
    }
}
