//! Signed addresses of files: whoever has one may read or write that one file, until it expires. Pure.
//!
//! E2B's form, made by its packages on the client's side: `v1_` and the base64 of a SHA-256 of what is allowed and the sandbox's access token.

use base64::Engine;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a signature allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The file's content.
    Read,
    /// A new content.
    Write,
}

/// Why somebody without the token may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none.
    #[error("missing signature query parameter")]
    Missing,
    /// It allows something else, or nothing.
    #[error("invalid signature")]
    Invalid,
    /// It did allow it.
    #[error("signature is already expired")]
    Expired,
}

/// What is signed: the path and user as the query has them, empty where it has none.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// As asked for, before anything is resolved.
    pub path: &'a str,
    /// Whose file.
    pub user: &'a str,
    /// To do what.
    pub operation: Operation,
    /// Until when, in seconds since 1970.
    pub expires: Option<i64>,
}

impl Claim<'_> {
    /// The signature that allows it.
    #[must_use]
    pub fn signed(&self, token: &str) -> String {
        let operation = match self.operation {
            Operation::Read => "read",
            Operation::Write => "write",
        };
        let mut text = format!("{}:{operation}:{}:{token}", self.path, self.user);
        if let Some(expires) = self.expires {
            text.push_str(&format!(":{expires}"));
        }
        format!("v1_{}", base64::engine::general_purpose::STANDARD_NO_PAD.encode(Sha256::digest(text)))
    }

    /// Whether `signature` allows it at `now`, in seconds since 1970. That it is expired is said only of one that was good.
    pub fn check(&self, signature: Option<&str>, token: &str, now: i64) -> Result<(), Refused> {
        let signature = signature.ok_or(Refused::Missing)?;
        if !bool::from(self.signed(token).as_bytes().ct_eq(signature.as_bytes())) {
            return Err(Refused::Invalid);
        }
        match self.expires {
            Some(expires) if expires < now => Err(Refused::Expired),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Claim<'static> = Claim { path: "/a:b", user: "user", operation: Operation::Read, expires: None };

    #[test]
    fn a_signature_is_what_the_packages_make() {
        // printf '%s' '/tmp/x:read::secret:1700000000' | openssl dgst -sha256 -binary | base64 | tr -d =
        let claim = Claim { path: "/tmp/x", user: "", operation: Operation::Read, expires: Some(1_700_000_000) };
        assert_eq!(claim.signed("secret"), "v1_nr1d/unlGBlCtx0PPjKkFcoP9CNvQVhO4NQeeNMuYPE");
    }

    #[test]
    fn nothing_else_is_allowed() {
        let good = READ.signed("token");
        assert_eq!(READ.check(Some(&good), "token", 0), Ok(()));
        assert_eq!(READ.check(None, "token", 0), Err(Refused::Missing));
        let others = [
            Claim { path: "/a", ..READ },
            Claim { user: "root", ..READ },
            Claim { operation: Operation::Write, ..READ },
            Claim { expires: Some(i64::MAX), ..READ },
        ];
        for other in others {
            assert_eq!(other.check(Some(&good), "token", 0), Err(Refused::Invalid), "{other:?}");
        }
        assert_eq!(READ.check(Some(&good), "another", 0), Err(Refused::Invalid));
        for forged in ["", "v1_", &good[..good.len() - 1], &good.to_uppercase(), &format!("{good}="), &format!(" {good}")] {
            assert_eq!(READ.check(Some(forged), "token", 0), Err(Refused::Invalid), "{forged:?}");
        }
    }

    #[test]
    fn it_ends() {
        let claim = Claim { expires: Some(100), ..READ };
        let good = claim.signed("token");
        assert_eq!(claim.check(Some(&good), "token", 100), Ok(()));
        assert_eq!(claim.check(Some(&good), "token", 101), Err(Refused::Expired));
        assert_eq!(
            Claim { expires: Some(1_000), ..READ }.check(Some(&good), "token", 101),
            Err(Refused::Invalid),
            "its end is signed, too"
        );
        assert_eq!(claim.check(Some("v1_forged"), "token", 101), Err(Refused::Invalid));
    }
}
