//! Chunks: pieces of content, named by what they hold, compressed, and never believed unread.
//!
//! A name is the BLAKE3 of the content, so equal pieces of all snapshots are one chunk, and a chunk that does not hold what its name says is
//! found at every read. It is not: where chunks are kept (`store.rs`), nor what they are pieces of (`manifest.rs`).

use std::{fmt, io, str::FromStr};

use serde::{Deserialize, Serialize};

use super::store::ChunkStore;

/// Bytes of a piece of a file: at least, wanted, at most.
pub(crate) const SIZES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];

/// How hard is compressed.
const LEVEL: i32 = 3;

/// The longest content of a chunk: a manifest of as many files as a layer may have. Nothing that is read makes this process hold more.
pub(crate) const MOST_BYTES: usize = 1 << 30;

/// The name of a chunk: the BLAKE3 of its content, as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChunkName([u8; 32]);

impl ChunkName {
    /// Of this content.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }
}

impl fmt::Display for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no chunk's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a chunk's name (64 hexadecimal digits in lower case)")]
pub struct NoChunkName(String);

impl FromStr for ChunkName {
    type Err = NoChunkName;

    fn from_str(text: &str) -> Result<Self, NoChunkName> {
        let refused = || NoChunkName(text.chars().take(80).collect());
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(refused());
        }
        let mut name = [0; 32];
        for (byte, at) in name.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| refused())?;
        }
        Ok(Self(name))
    }
}

impl TryFrom<String> for ChunkName {
    type Error = NoChunkName;

    fn try_from(text: String) -> Result<Self, NoChunkName> {
        text.parse()
    }
}

impl From<ChunkName> for String {
    fn from(name: ChunkName) -> Self {
        name.to_string()
    }
}

/// Why content cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// It is not in the store.
    #[error("the chunk {0} is missing")]
    Missing(ChunkName),
    /// It is there, and is not what it should be.
    #[error("the chunk {0} is damaged: {1}")]
    Damaged(ChunkName, String),
    /// The store cannot be read or written, or what comes out of it cannot be written down.
    #[error("{0}: {1}")]
    Store(String, #[source] io::Error),
}

impl ChunkError {
    pub(crate) fn store(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Store(what.to_string(), error)
    }
}

/// Keeps content, unless it is there. `true`: it was not.
pub(crate) fn put(store: &dyn ChunkStore, content: &[u8]) -> Result<(ChunkName, bool), ChunkError> {
    let name = ChunkName::of(content);
    let failed = |error| ChunkError::Store(format!("the chunk {name}"), error);
    if store.has(&name).map_err(failed)? {
        return Ok((name, false));
    }
    store.put(&name, &zstd::bulk::compress(content, LEVEL).map_err(failed)?).map_err(failed)?;
    Ok((name, true))
}

/// The content of a chunk, which is what its name says.
pub(crate) fn get(store: &dyn ChunkStore, name: &ChunkName, most: usize) -> Result<Vec<u8>, ChunkError> {
    let stored = match store.get(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ChunkError::Missing(*name)),
        other => other.map_err(ChunkError::store(format_args!("the chunk {name}")))?,
    };
    let mut content = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(&*stored).map(|decoder| io::Read::take(decoder, most as u64 + 1));
    let read = decoder.and_then(|mut decoder| io::Read::read_to_end(&mut decoder, &mut content));
    read.map_err(|error| ChunkError::Damaged(*name, error.to_string()))?;
    if content.len() > most {
        return Err(ChunkError::Damaged(*name, format!("it holds more than {most} bytes")));
    }
    match ChunkName::of(&content) {
        is if is == *name => Ok(content),
        is => Err(ChunkError::Damaged(*name, format!("it holds what should be named {is}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::store::Folder;

    #[test]
    fn a_flipped_bit_anywhere_is_found_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = Folder::open(folder.path()).unwrap();
        let content: Vec<u8> = (0..5_000u32).flat_map(|n| (n % 97).to_le_bytes()).collect();
        let (name, new) = put(&store, &content).unwrap();
        assert!(new && !put(&store, &content).unwrap().1);
        assert_eq!(get(&store, &name, MOST_BYTES).unwrap(), content);
        let stored = store.get(&name).unwrap();
        for at in 0..stored.len() {
            let mut damaged = stored.clone();
            damaged[at] ^= 1 << (at % 8);
            store.remove(&name).unwrap();
            store.put(&name, &damaged).unwrap();
            match get(&store, &name, MOST_BYTES) {
                // Bits of the frame that mean nothing are nobody's content.
                Ok(read) => assert_eq!(read, content, "byte {at}"),
                Err(error) => assert!(error.to_string().contains(&name.to_string()), "{error}"),
            }
        }
        store.remove(&name).unwrap();
        assert!(matches!(get(&store, &name, MOST_BYTES), Err(ChunkError::Missing(missing)) if missing == name));
    }

    #[test]
    fn a_chunk_that_unpacks_without_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Folder::open(folder.path()).unwrap();
        let (name, _) = put(&store, &vec![0; 64 << 20]).unwrap();
        assert!(matches!(get(&store, &name, 1 << 20), Err(ChunkError::Damaged(..))));
    }

    #[test]
    fn hostile_names_are_none() {
        for text in ["", "../../etc/passwd", &"A".repeat(64), &"é".repeat(32), &"g".repeat(64), &"0".repeat(63)] {
            assert!(text.parse::<ChunkName>().is_err(), "{text}");
        }
        let name = ChunkName::of(b"x");
        assert_eq!(name.to_string().parse::<ChunkName>().unwrap(), name);
    }
}
