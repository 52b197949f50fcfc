//! The id of one request, from its first log line to its outcome.

use std::{fmt, str::FromStr};

use crate::{ParseError, base32, text_id};

/// 128 bits as 26 characters. Sent back as `x-request-id` and carried by every tail event of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 26]);

impl RequestId {
    /// From a number that the caller makes unique (a random start and a counter).
    #[must_use]
    pub fn from_number(number: u128) -> Self {
        let mut text = [b'0'; 26];
        let encoded = base32::encode(&number.to_be_bytes());
        text.copy_from_slice(encoded.as_bytes());
        Self(text)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for RequestId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match <[u8; 26]>::try_from(text.as_bytes()) {
            Ok(bytes) if base32::is_text(text, 26) => Ok(Self(bytes)),
            _ => Err(ParseError::new(text, "a request id (26 letters and digits)")),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

text_id!(RequestId);
