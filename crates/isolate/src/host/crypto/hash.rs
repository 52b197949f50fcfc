//! Digests, and what is built of them by a generic construction: HMAC, HKDF, PBKDF2.

use digest::{Digest, Mac};
use hmac::Hmac;

use super::super::{HostError, Result};

/// Runs code for the digest type of a name: `SHA-256`, `sha256` and `SHA256` are the same.
macro_rules! with_digest {
    ($name:expr, $D:ident => $body:expr) => {{
        let name: &str = $name;
        match canonical(name).as_str() {
            "md5" => {
                type $D = md5::Md5;
                $body
            }
            "sha1" => {
                type $D = sha1::Sha1;
                $body
            }
            "sha224" => {
                type $D = sha2::Sha224;
                $body
            }
            "sha256" => {
                type $D = sha2::Sha256;
                $body
            }
            "sha384" => {
                type $D = sha2::Sha384;
                $body
            }
            "sha512" => {
                type $D = sha2::Sha512;
                $body
            }
            "sha512256" => {
                type $D = sha2::Sha512_256;
                $body
            }
            "sha512224" => {
                type $D = sha2::Sha512_224;
                $body
            }
            _ => Err(unknown(name)),
        }
    }};
}

fn canonical(name: &str) -> String {
    let kept = name.chars().filter(|c| !matches!(c, '-' | '/' | '_'));
    kept.take(16).map(|c| c.to_ascii_lowercase()).collect()
}

fn unknown(name: &str) -> HostError {
    HostError::unsupported(format!("Unrecognized hash algorithm \"{}\"", name.chars().take(64).collect::<String>()))
}

/// A digest or an HMAC that takes its input piece by piece.
pub(in super::super) struct Hash(Box<dyn Incremental>);

impl Hash {
    /// With a key: an HMAC.
    pub(super) fn new(name: &str, key: Option<&[u8]>) -> Result<Self> {
        with_digest!(name, D => Ok(Hash(match key {
            None => Box::new(Plain(D::new())),
            Some(key) => Box::new(Keyed(<Hmac<D> as Mac>::new_from_slice(key).map_err(|_| HostError::data("Invalid HMAC key"))?)),
        })))
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.push(bytes);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0.finish()
    }
}

impl Clone for Hash {
    fn clone(&self) -> Self {
        Hash(self.0.copy())
    }
}

trait Incremental: Send {
    fn push(&mut self, bytes: &[u8]);
    fn finish(self: Box<Self>) -> Vec<u8>;
    fn copy(&self) -> Box<dyn Incremental>;
}

struct Plain<D>(D);

impl<D: Digest + Clone + Send + 'static> Incremental for Plain<D> {
    fn push(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.0.finalize().to_vec()
    }

    fn copy(&self) -> Box<dyn Incremental> {
        Box::new(Plain(self.0.clone()))
    }
}

struct Keyed<M>(M);

impl<M: Mac + Clone + Send + 'static> Incremental for Keyed<M> {
    fn push(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.0.finalize().into_bytes().to_vec()
    }

    fn copy(&self) -> Box<dyn Incremental> {
        Box::new(Keyed(self.0.clone()))
    }
}

pub(super) fn output_len(name: &str) -> Result<usize> {
    with_digest!(name, D => Ok(<D as Digest>::output_size()))
}

/// The digest of `data`, as the signature schemes want it.
pub(super) fn once(name: &str, data: &[u8]) -> Result<Vec<u8>> {
    with_digest!(name, D => Ok(D::digest(data).to_vec()))
}

pub(super) fn hkdf(name: &str, key: &[u8], salt: &[u8], info: &[u8], out: &mut [u8]) -> Result<()> {
    with_digest!(name, D => hkdf::Hkdf::<D>::new(Some(salt), key)
        .expand(info, out)
        .map_err(|_| HostError::operation("HKDF cannot derive that many bytes")))
}

pub(super) fn pbkdf2(name: &str, password: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) -> Result<()> {
    with_digest!(name, D => {
        pbkdf2::pbkdf2_hmac::<D>(password, salt, iterations, out);
        Ok(())
    })
}
