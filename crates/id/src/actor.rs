//! The id of an actor.

use std::{fmt, str::FromStr};

use crate::{ParseError, text_id};

/// Names an actor on all nodes and for all time: 32 bytes, written as 64 lower-case hexadecimal digits. The last [`ActorId::TAG`]
/// bytes tell its namespace, so that an id of another namespace is recognised without asking anyone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorId([u8; 32]);

impl ActorId {
    /// Bytes at the end that belong to the namespace.
    pub const TAG: usize = 8;

    /// From its bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The part that belongs to the namespace.
    #[must_use]
    pub fn tag(&self) -> [u8; Self::TAG] {
        let mut tag = [0; Self::TAG];
        tag.copy_from_slice(&self.0[32 - Self::TAG..]);
        tag
    }
}

impl FromStr for ActorId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = "an actor id (64 hexadecimal digits)";
        if text.len() != 64 || !text.is_ascii() {
            return Err(ParseError::new(text, expected));
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
            let digit = |b: u8| char::from(b).to_digit(16).ok_or_else(|| ParseError::new(text, expected));
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_id!(ActorId);
