//! A snapshot of a live isolate: the pages that differ from its image, compressed, and what was lost outside.
//!
//! A value: bytes in, bytes out. It belongs to one image; the header says which, and a hash guards the rest.

use crate::image::{Image, PAGE};

/// First bytes of every snapshot.
const MAGIC: &[u8; 8] = b"SKEPSNP1";

/// Compression level: 1 is a third of the time of 3 for a few percent more bytes on heap pages.
const ZSTD_LEVEL: i32 = 1;

/// Largest memory a snapshot may ask for, in bytes; a forged header must not make the host allocate more.
const MEMORY_MAX: usize = 4 << 30;

/// Why a snapshot cannot be taken or woken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The isolate has stopped.
    #[error("the isolate has ended")]
    Ended,
    /// Made by another build of the image.
    #[error("the snapshot belongs to image {found}, this one is {expected}; start the worker afresh instead")]
    OtherImage {
        /// Image named by the snapshot (first 16 digits of its hash).
        found: String,
        /// Image of this build.
        expected: String,
    },
    /// Not a snapshot, or damaged.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// Something of the isolate lies outside of its heap and cannot be written down.
    #[error("the isolate cannot be snapshot: {0}")]
    Unsupported(String),
}

/// A written-down isolate.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    image: String,
    memory_bytes: usize,
    /// Indexes of pages, delta-coded and compressed together with their contents.
    packed: Vec<u8>,
    pages: usize,
    /// When the guest next wanted to be woken, in ms since the epoch.
    pub(crate) timer_ms: f64,
    /// Operations that were in flight: they reject with `HibernationError` on wake.
    pub(crate) lost: Vec<u32>,
}

impl Snapshot {
    pub(crate) fn pack(
        image: &Image,
        indexes: &[u32],
        contents: &[u8],
        memory_bytes: usize,
        timer_ms: f64,
        lost: Vec<u32>,
    ) -> Result<Self, SnapshotError> {
        let mut plain = Vec::with_capacity(indexes.len() * 4 + contents.len());
        for index in indexes {
            plain.extend_from_slice(&index.to_le_bytes());
        }
        plain.extend_from_slice(contents);
        let packed = zstd::bulk::compress(&plain, ZSTD_LEVEL).map_err(|_| SnapshotError::Unsupported("compression failed".into()))?;
        Ok(Self { image: short(image), memory_bytes, packed, pages: indexes.len(), timer_ms, lost })
    }

    /// Page indexes, contents, and the size of the memory.
    pub(crate) fn unpack(&self) -> Result<(Vec<u32>, Vec<u8>, usize), SnapshotError> {
        let size = self.pages.checked_mul(PAGE + 4).filter(|s| *s <= MEMORY_MAX).ok_or(SnapshotError::Damaged("too many pages"))?;
        let mut plain = zstd::bulk::decompress(&self.packed, size).map_err(|_| SnapshotError::Damaged("pages do not decompress"))?;
        if plain.len() != size {
            return Err(SnapshotError::Damaged("pages are missing"));
        }
        let contents = plain.split_off(self.pages * 4);
        let indexes: Vec<u32> = plain.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if indexes.iter().any(|i| (*i as usize + 1) * PAGE > self.memory_bytes) {
            return Err(SnapshotError::Damaged("a page lies outside of the memory"));
        }
        Ok((indexes, contents, self.memory_bytes))
    }

    /// Whether it can be woken with `image`.
    pub fn check(&self, image: &Image) -> Result<(), SnapshotError> {
        if self.image != short(image) {
            return Err(SnapshotError::OtherImage { found: self.image.clone(), expected: short(image) });
        }
        if self.memory_bytes > MEMORY_MAX {
            return Err(SnapshotError::Damaged("its memory is too large"));
        }
        Ok(())
    }

    /// Pages that differ from the image.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Size in bytes as [`Snapshot::to_bytes`] writes it.
    pub fn size(&self) -> usize {
        self.packed.len() + 64 + self.lost.len() * 4
    }

    /// Writes it down.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(self.image.as_bytes());
        out.extend_from_slice(&(self.memory_bytes as u64).to_le_bytes());
        out.extend_from_slice(&(self.pages as u64).to_le_bytes());
        out.extend_from_slice(&self.timer_ms.to_le_bytes());
        out.extend_from_slice(&(self.lost.len() as u64).to_le_bytes());
        for id in &self.lost {
            out.extend_from_slice(&id.to_le_bytes());
        }
        out.extend_from_slice(&self.packed);
        let sum = checksum(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads one that [`Snapshot::to_bytes`] wrote; anything else is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let truncated = SnapshotError::Damaged("it is truncated");
        let Some((body, sum)) = bytes.split_last_chunk::<4>() else { return Err(truncated) };
        let Some(rest) = body.strip_prefix(MAGIC) else { return Err(SnapshotError::Damaged("it is not a snapshot")) };
        if checksum(body) != u32::from_le_bytes(*sum) {
            return Err(SnapshotError::Damaged("its checksum does not match"));
        }
        let (image, rest) = rest.split_at_checked(16).ok_or(truncated.clone())?;
        let mut rest = rest;
        let mut word = || {
            let (word, tail) = rest.split_first_chunk::<8>().ok_or(truncated.clone())?;
            rest = tail;
            Ok(*word)
        };
        let (memory_bytes, pages, timer, lost) = (word()?, word()?, word()?, word()?);
        let n_lost = u64::from_le_bytes(lost) as usize;
        let (lost, packed) = n_lost.checked_mul(4).and_then(|n| rest.split_at_checked(n)).ok_or(truncated)?;
        let snapshot = Self {
            image: String::from_utf8_lossy(image).into_owned(),
            memory_bytes: u64::from_le_bytes(memory_bytes) as usize,
            pages: u64::from_le_bytes(pages) as usize,
            timer_ms: f64::from_le_bytes(timer),
            lost: lost.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            packed: packed.to_vec(),
        };
        Ok(snapshot)
    }
}

/// The name of an image as snapshots carry it: 16 digits.
fn short(image: &Image) -> String {
    format!("{:0<16.16}", image.hash())
}

/// Detects damage, not forgery: whoever can write snapshots can write heaps.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
