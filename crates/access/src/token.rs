//! The token of a key: `skep_<id>_<secret>`.
//!
//! The same key has a second spelling, `e2b_<hexadecimal>`, for clients that take keys of that shape only: id and secret, byte by byte.
//!
//! The secret is 256 random bits. It is stored as its plain SHA-256: a slow password hash protects secrets that can be
//! guessed, and this one cannot; what slowness would add is a lever for denial of service.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use sha2::{Digest, Sha256};
use skep_id::KeyId;
use subtle::ConstantTimeEq;

const SECRET_LEN: usize = 52;

/// Bytes of an id.
const ID_BYTES: usize = 10;

/// Bytes of a secret.
const SECRET_BYTES: usize = 32;

/// A token in the clear. It is shown once, at creation; `Debug` does not show the secret.
#[derive(Clone)]
pub struct Token {
    id: KeyId,
    secret: String,
}

/// The text is no token. Says nothing about which part is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API key of the form skep_<id>_<secret> or e2b_<hexadecimal>")]
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

    /// The whole token as `e2b_<hexadecimal>`.
    #[must_use]
    pub fn reveal_hexadecimal(&self) -> String {
        let bytes = [self.id.as_str(), &self.secret].into_iter().filter_map(skep_id::from_base32).flatten();
        bytes.fold("e2b_".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    fn from_hexadecimal(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 2 * (ID_BYTES + SECRET_BYTES) {
            return None;
        }
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect::<Option<_>>()?;
        let (id, secret) = bytes.split_at(ID_BYTES);
        Some(Self::from_random(id.try_into().ok()?, secret.try_into().ok()?))
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
        if let Some(digits) = text.strip_prefix("e2b_") {
            return Self::from_hexadecimal(digits).ok_or(TokenError);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_two_spellings() {
        let token = Token::from_random([0xa5; 10], std::array::from_fn(|at| at as u8));
        let hexadecimal = token.reveal_hexadecimal();
        assert!(hexadecimal.strip_prefix("e2b_").unwrap().bytes().all(|b| b.is_ascii_hexdigit()), "{hexadecimal}");
        for text in [token.reveal(), hexadecimal.clone(), hexadecimal.to_uppercase().replace("E2B_", "e2b_")] {
            let read: Token = text.parse().unwrap();
            assert!(read.id() == token.id() && read.matches(&token.hash()), "{text}");
        }
        for not in ["e2b_", "e2b_00", &hexadecimal[..hexadecimal.len() - 1], &format!("{hexadecimal}0"), &hexadecimal.replace('a', "g")] {
            assert!(not.parse::<Token>().is_err(), "{not}");
        }
    }
}
