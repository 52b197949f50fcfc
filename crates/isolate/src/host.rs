//! Host calls that are pure or local work: URLs, text encodings, compression, randomness and cryptography.
//!
//! Driven by the engine, which decodes a guest's arguments and hands every synchronous operation that it does not know
//! itself to [`pure_call`], and the started `crypto.heavy.*` to [`heavy_call`] on a blocking thread. No I/O, no clock; all
//! that is kept between calls is in [`Tables`]. Arguments are hostile: whatever they are, the answer is a value or an error.

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::wire::{Wire, WireOut};

mod compression;
mod crypto;
mod encoding;
mod url;

pub(crate) use url::locate;

/// An error that is thrown inside the guest: as the built-in of that name, else as a `DOMException`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub struct HostError {
    /// `TypeError`, `RangeError`, `SyntaxError`, `Error`, or the name of a `DOMException`.
    pub name: &'static str,
    /// For people.
    pub message: String,
}

impl HostError {
    /// An error of that name.
    pub fn new(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, message: message.into() }
    }

    /// A `TypeError`.
    pub fn type_error(message: impl Into<String>) -> Self {
        Self::new("TypeError", message)
    }

    fn operation(message: impl Into<String>) -> Self {
        Self::new("OperationError", message)
    }

    fn data(message: impl Into<String>) -> Self {
        Self::new("DataError", message)
    }

    fn unsupported(message: impl Into<String>) -> Self {
        Self::new("NotSupportedError", message)
    }
}

impl From<HostError> for WireOut {
    fn from(e: HostError) -> Self {
        Wire::error(e.name, e.message)
    }
}

type Result<T, E = HostError> = std::result::Result<T, E>;

/// What the host keeps for one isolate between pure calls. Lost when the isolate is hibernated.
#[derive(Default)]
pub struct Tables {
    decoders: Slots<encoding::Decoder>,
    codecs: Slots<compression::Codec>,
    hashes: Slots<crypto::Hash>,
}

impl Tables {
    /// Most stateful text decoders of one isolate; some hundred bytes each.
    pub const MAX_DECODERS: usize = 64;
    /// Most compressors and decompressors of one isolate; up to 400 KiB each, Brotli decoders up to 20 MiB.
    pub const MAX_CODECS: usize = 64;
    /// Most incremental digests of one isolate; up to 500 bytes each.
    pub const MAX_HASHES: usize = 1024;

    const DECODER_BYTES: usize = 256;
    const HASH_BYTES: usize = 512;

    /// Host memory in use, roughly, in bytes: counted against the isolate's memory limit.
    pub fn bytes(&self) -> usize {
        let codecs: usize = self.codecs.map.values().map(compression::Codec::bytes).sum();
        self.decoders.map.len() * Self::DECODER_BYTES + self.hashes.map.len() * Self::HASH_BYTES + codecs
    }

    /// What an operation may add to [`Tables::bytes`].
    pub fn cost(op: &str, args: &[Wire<'_>]) -> usize {
        match op {
            "zip.open" => compression::cost(&args.first().and_then(Wire::as_str).unwrap_or_default()),
            "hash.open" | "hash.copy" => Self::HASH_BYTES,
            "text.decode" => Self::DECODER_BYTES,
            _ => 0,
        }
    }
}

/// Values under ids. An id is never used twice, and where the numbers begin is random, so that one from before a hibernation is
/// not mistaken for one of now.
struct Slots<T> {
    map: HashMap<u32, T>,
    next: Option<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { map: HashMap::new(), next: None }
    }
}

impl<T> Slots<T> {
    fn insert(&mut self, value: T, limit: usize, what: &str) -> Result<u32> {
        if self.map.len() >= limit {
            return Err(HostError::new("RangeError", format!("too many {what}s are open at once (at most {limit})")));
        }
        let id = match self.next {
            Some(id) => id,
            None => u32::from_le_bytes(crypto::random_array()?) & 0x3FFF_FFFF,
        }
        .max(1);
        self.next = Some((id + 1) & 0x7FFF_FFFF);
        self.map.insert(id, value);
        Ok(id)
    }

    fn get(&mut self, id: u32, what: &str) -> Result<&mut T> {
        self.map.get_mut(&id).ok_or_else(|| gone(what))
    }

    fn take(&mut self, id: u32, what: &str) -> Result<T> {
        self.map.remove(&id).ok_or_else(|| gone(what))
    }
}

fn gone(what: &str) -> HostError {
    HostError::new("HibernationError", format!("the state of this {what} was lost when the isolate was hibernated"))
}

/// The arguments of a call, read by position.
#[derive(Clone, Copy)]
struct Args<'a, 'm> {
    op: &'a str,
    values: &'a [Wire<'m>],
}

impl<'a, 'm> Args<'a, 'm> {
    fn at(self, i: usize) -> &'a Wire<'m> {
        self.values.get(i).unwrap_or(&Wire::Undefined)
    }

    fn wrong<T>(self, i: usize, expected: &str) -> Result<T> {
        Err(HostError::type_error(format!("{}: argument {} is not {expected}", self.op, i + 1)))
    }

    fn bytes(self, i: usize) -> Result<&'a [u8]> {
        self.at(i).as_bytes().map_or_else(|| self.wrong(i, "a Uint8Array"), Ok)
    }

    fn some_bytes(self, i: usize) -> Result<Option<&'a [u8]>> {
        if self.at(i).is_some() { self.bytes(i).map(Some) } else { Ok(None) }
    }

    fn str(self, i: usize) -> Result<Cow<'a, str>> {
        self.at(i).as_str().map_or_else(|| self.wrong(i, "a string"), Ok)
    }

    fn u32(self, i: usize) -> Result<u32> {
        self.at(i).as_u32().map_or_else(|| self.wrong(i, "an unsigned integer"), Ok)
    }

    fn flag(self, i: usize) -> bool {
        self.at(i).as_bool().unwrap_or(false)
    }
}

/// Answers a synchronous operation, or `None` if it is not one of this module's.
pub fn pure_call(tables: &mut Tables, op: &str, values: &[Wire<'_>]) -> Option<Result<WireOut>> {
    let args = Args { op, values };
    let (family, name) = op.split_once('.').unwrap_or((op, ""));
    guarded(|| match family {
        "url" => url::call(name, args),
        "text" => encoding::call(&mut tables.decoders, name, args),
        "zip" => compression::call(&mut tables.codecs, name, args),
        "random" => Some(crypto::random(args)),
        "hash" => crypto::incremental(&mut tables.hashes, name, args),
        "crypto" => crypto::call(name, args),
        _ => None,
    })
}

/// Answers a `crypto.heavy.*` operation: milliseconds to seconds of computing, for a blocking thread.
pub fn heavy_call(op: &str, values: &[Wire<'_>]) -> Option<Result<WireOut>> {
    guarded(|| crypto::heavy(op.strip_prefix("crypto.heavy.")?, Args { op, values }))
}

/// Big-number arithmetic of dependencies meets keys made by an attacker here. Should one of them panic in spite of the checks
/// before it, the call fails and the host lives; `Tables` hold no invariant that a cut-short call could break.
fn guarded(f: impl FnOnce() -> Option<Result<WireOut>>) -> Option<Result<WireOut>> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| Some(Err(HostError::operation("the operation failed on these arguments"))))
}

/// Every operation that is answered here, for the tests that feed them garbage.
#[cfg(test)]
pub(crate) const OPERATIONS: &[&str] = &[
    "url.parse",
    "url.set",
    "url.domainToASCII",
    "url.domainToUnicode",
    "text.label",
    "text.decode",
    "text.drop",
    "zip.open",
    "zip.push",
    "zip.drop",
    "random",
    "hash.open",
    "hash.push",
    "hash.finish",
    "hash.copy",
    "hash.drop",
    "crypto.digest",
    "crypto.hmac",
    "crypto.equal",
    "crypto.hkdf",
    "crypto.pbkdf2",
    "crypto.scrypt",
    "crypto.aes.encrypt",
    "crypto.aes.decrypt",
    "crypto.aes.wrap",
    "crypto.aes.unwrap",
    "crypto.ec.generate",
    "crypto.ec.import",
    "crypto.ec.export",
    "crypto.ec.sign",
    "crypto.ec.verify",
    "crypto.ec.derive",
    "crypto.rsa.import",
    "crypto.rsa.integers",
    "crypto.rsa.verify",
    "crypto.rsa.encrypt",
    "crypto.heavy.pbkdf2",
    "crypto.heavy.scrypt",
    "crypto.heavy.rsaSign",
    "crypto.heavy.rsaDecrypt",
];

#[cfg(test)]
mod tests;
