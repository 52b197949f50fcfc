//! The number of a deployed version.

use std::{fmt, str::FromStr};

use crate::{ParseError, text_id};

/// The n-th version of one worker, written `v3`. Numbers count up and are not used twice, not even after the worker was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionId(u32);

impl VersionId {
    /// From its number.
    #[must_use]
    pub fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number behind the `v`.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

impl FromStr for VersionId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let digits = text.strip_prefix('v').unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        match digits.parse() {
            Ok(number) if plain && number > 0 => Ok(Self(number)),
            _ => Err(ParseError::new(text, "a version (v1, v2, …)")),
        }
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

text_id!(VersionId);
