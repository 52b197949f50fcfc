//! The token of a key: `skep_<id>_<secret>`.
//!
//! The secret is 256 random bits. It is stored as its plain SHA-256: a slow password hash protects secrets that can be
//! guessed, and this one cannot; what slowness would add is a lever for denial of service.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};
use skep_id::KeyId;
use subtle::ConstantTimeEq;

const SECRET_LEN: usize = 52;

/// A token in the clear. It is shown once, at creation; `Debug` does not show the secret.
#[derive(Clone)]
pub struct Token {
    id: KeyId,
    secret: String,
}

/// The text is no token. Says nothing about which part is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API key of the form skep_<id>_<secret>")]
pub struct TokenError;

impl Token {
    pub(crate) fn from_random(id: [u8; 10], secret: [u8; 32]) -> Self {
        Self { id: KeyId::from_random(id), secret: skep_id::base32(&secret) }
    }

    /// The public part.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The whole token, to be handed to its owner.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("skep_{}_{}", self.id, self.secret)
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret.as_bytes()).into()
    }

    /// Compares without telling by its duration how much was right.
    pub(crate) fn matches(&self, hash: &[u8]) -> bool {
        self.hash().as_slice().ct_eq(hash).into()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (id, secret) = text.strip_prefix("skep_").and_then(|rest| rest.split_once('_')).ok_or(TokenError)?;
        if secret.len() != SECRET_LEN || !secret.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(TokenError);
        }
        Ok(Self { id: id.parse().map_err(|_| TokenError)?, secret: secret.to_owned() })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id)
    }
}
