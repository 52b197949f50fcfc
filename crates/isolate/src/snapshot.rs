//! A snapshot of a live isolate: the pages that differ from its image, compressed, and what was lost outside.
//!
//! A value: bytes in, bytes out. It belongs to one image; the header says which, and a hash guards the rest.

use std::borrow::Cow;
use std::sync::Arc;

use crate::image::{Image, PAGE};
use crate::isolate::GATES_MAX;
use crate::limits::Limits;

/// First bytes of every snapshot.
const MAGIC: &[u8; 8] = b"SKEPSNP3";

/// Compression level: 1 is a third of the time of 3 for a few percent more bytes on heap pages.
const ZSTD_LEVEL: i32 = 1;

/// What is compared and kept as a unit, in bytes.
const LINE: usize = 64;

/// Size of a page's entry, in bytes.
const ENTRY: usize = 12;

/// Bytes that one byte of a zstd frame can stand for at most: a block of 128 KiB takes four.
const ZSTD_RATIO_MAX: usize = 32 << 10;

/// Linear memory grows by pages of this size.
const WASM_PAGE: usize = 64 << 10;

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
    /// Larger than what its worker may use.
    #[error("the snapshot needs {needed} bytes of memory, and its worker may use {most}; raise its memory limit or start it afresh")]
    TooLarge {
        /// Size of the memory that was written down.
        needed: u64,
        /// The worker's memory limit.
        most: u64,
    },
    /// Not a snapshot, or damaged.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// Something of the isolate lies outside of its heap and cannot be written down.
    #[error("the isolate cannot be snapshot: {0}")]
    Unsupported(String),
}

/// Why an actor did not go to sleep with its heap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HibernateError {
    /// It is in the middle of something, and goes on.
    #[error("it is busy: {0}")]
    Busy(&'static str),
    /// It has ended, and its heap could not be written down.
    #[error("it has ended without its heap: {0}")]
    Heapless(String),
    /// It had ended before.
    #[error("the isolate has ended")]
    Ended,
}

/// What differs from the image.
#[derive(Clone, Debug, PartialEq)]
enum Pages {
    /// As it was taken: a fork on the same machine never needs it smaller.
    Plain(Arc<Delta>),
    /// As it is stored: an index (`u32`) and a mask (`u64`) for each of `n` pages, then the lines, compressed together.
    Packed { n: usize, bytes: Vec<u8> },
}

/// The lines that differ from the image, by page. Waking is mostly decompression, and most lines of a private page are as
/// they were: leaving those out halved its time, and the size. Of a line, what is kept is its difference (exclusive or) from the
/// image's: mostly a count or a pointer changed, and the zeros around it compress to nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Delta {
    /// Pages, in order, and which of their lines follow (bit 0 is the first).
    pages: Vec<(u32, u64)>,
    lines: Vec<u8>,
}

impl Delta {
    /// Adds what differs in a page; `before` is the page in the image, absent beyond its end.
    pub(crate) fn add(&mut self, index: u32, page: &[u8; PAGE], before: Option<&[u8; PAGE]>) {
        let mut mask = 0u64;
        let before = before.unwrap_or(&[0; PAGE]).as_chunks::<LINE>().0;
        for (i, (line, before)) in page.as_chunks::<LINE>().0.iter().zip(before).enumerate() {
            let difference = difference(line, before);
            if !is_zero(&difference) {
                mask |= 1 << i;
                self.lines.extend_from_slice(&difference);
            }
        }
        if mask != 0 {
            self.pages.push((index, mask));
        }
    }

    /// Puts the lines into a memory that is as the image, whose memory is `pristine`. `false` if they do not fit.
    pub(crate) fn apply(&self, memory: &mut [u8], pristine: &[u8]) -> bool {
        let (memory, pristine) = (memory.as_chunks_mut::<PAGE>().0, pristine.as_chunks::<PAGE>().0);
        let mut lines = self.lines.as_chunks::<LINE>().0.iter();
        for (index, mask) in &self.pages {
            let Some(page) = memory.get_mut(*index as usize) else { return false };
            let before = pristine.get(*index as usize).unwrap_or(&[0; PAGE]);
            let (page, before) = (page.as_chunks_mut::<LINE>().0, before.as_chunks::<LINE>().0);
            let mut left = *mask;
            while left != 0 {
                let i = left.trailing_zeros() as usize;
                let Some(line) = lines.next() else { return false };
                page[i] = difference(line, &before[i]);
                left &= left - 1;
            }
        }
        true
    }

    fn pack(&self) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.pages.len() * ENTRY + self.lines.len());
        for (index, mask) in &self.pages {
            plain.extend_from_slice(&index.to_le_bytes());
            plain.extend_from_slice(&mask.to_le_bytes());
        }
        plain.extend_from_slice(&self.lines);
        // Into a buffer of the size that zstd itself asks for: this does not fail.
        zstd::bulk::compress(&plain, ZSTD_LEVEL).unwrap_or_default()
    }

    fn unpack(n: usize, bytes: &[u8], memory_bytes: usize) -> Result<Self, SnapshotError> {
        let size = plain_size(n, bytes, memory_bytes)?;
        let mut plain = zstd::bulk::decompress(bytes, size).map_err(|_| SnapshotError::Damaged("pages do not decompress"))?;
        let (entries, _) = plain.split_at_checked(n * ENTRY).ok_or(SnapshotError::Damaged("pages are missing"))?;
        let entry = |b: &[u8; ENTRY]| {
            let [i0, i1, i2, i3, mask @ ..] = *b;
            (u32::from_le_bytes([i0, i1, i2, i3]), u64::from_le_bytes(mask))
        };
        let pages: Vec<(u32, u64)> = entries.as_chunks::<ENTRY>().0.iter().map(entry).collect();
        if !pages.is_sorted_by(|a, b| a.0 < b.0) || pages.last().is_some_and(|(i, _)| (*i as usize + 1) * PAGE > memory_bytes) {
            return Err(SnapshotError::Damaged("a page lies outside of the memory"));
        }
        let lines = plain.split_off(n * ENTRY);
        let marked: usize = pages.iter().map(|(_, mask)| mask.count_ones() as usize).sum();
        if lines.len() != marked * LINE {
            return Err(SnapshotError::Damaged("lines are missing"));
        }
        Ok(Self { pages, lines })
    }
}

/// What makes of one line the other, both ways.
fn difference(line: &[u8; LINE], other: &[u8; LINE]) -> [u8; LINE] {
    std::array::from_fn(|i| line[i] ^ other[i])
}

/// In a few wide instructions: most lines that are looked at are as they were.
fn is_zero(line: &[u8; LINE]) -> bool {
    line.as_chunks::<16>().0.iter().fold(0, |all, word| all | u128::from_ne_bytes(*word)) == 0
}

/// Size of `n` pages when they are unpacked, in bytes. The snapshot's header says how many there are and the frame how large it
/// is, and whoever wrote them may have lied: no more is allocated than these bytes can stand for and the memory can hold.
fn plain_size(n: usize, bytes: &[u8], memory_bytes: usize) -> Result<usize, SnapshotError> {
    let most = n.checked_mul(ENTRY + PAGE).filter(|_| n <= memory_bytes / PAGE).ok_or(SnapshotError::Damaged("too many pages"))?;
    let most = most.min(bytes.len().saturating_mul(ZSTD_RATIO_MAX));
    let said = zstd::zstd_safe::get_frame_content_size(bytes).ok().flatten().and_then(|size| usize::try_from(size).ok());
    said.filter(|size| (n * ENTRY..=most).contains(size)).ok_or(SnapshotError::Damaged("the number of its pages is wrong"))
}

/// A written-down isolate; a cheap clone until it was read back from bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    image: String,
    memory_bytes: usize,
    pages: Pages,
    /// When the guest next wanted to be woken, in ms since the epoch.
    pub(crate) timer_ms: f64,
    /// Operations that were in flight: they reject with `HibernationError` on wake.
    pub(crate) lost: Vec<u32>,
    /// Input gates that an actor held.
    pub(crate) gates: u32,
}

impl Snapshot {
    pub(crate) fn new(image: &Image, (delta, memory_bytes): (Delta, usize), (timer_ms, gates): (f64, u32), lost: Vec<u32>) -> Self {
        Self { image: short(image), memory_bytes, pages: Pages::Plain(Arc::new(delta)), timer_ms, lost, gates }
    }

    /// When the guest wants to be woken for a timer, in ms since the epoch; `None`: it waits for none.
    pub fn next_timer_ms(&self) -> Option<u64> {
        self.timer_ms.is_finite().then(|| self.timer_ms.max(0.0).ceil() as u64)
    }

    /// What differs, and the size of the memory in bytes.
    pub(crate) fn unpack(&self) -> Result<(Arc<Delta>, usize), SnapshotError> {
        let delta = match &self.pages {
            Pages::Plain(delta) => delta.clone(),
            Pages::Packed { n, bytes } => Arc::new(Delta::unpack(*n, bytes, self.memory_bytes)?),
        };
        Ok((delta, self.memory_bytes))
    }

    /// Whether it can be woken with `image`.
    pub fn check(&self, image: &Image) -> Result<(), SnapshotError> {
        if self.image != short(image) {
            return Err(SnapshotError::OtherImage { found: self.image.clone(), expected: short(image) });
        }
        if self.memory_bytes < image.pristine().len() || !self.memory_bytes.is_multiple_of(WASM_PAGE) {
            return Err(SnapshotError::Damaged("the size of its memory is wrong"));
        }
        Ok(())
    }

    /// Whether a worker with these limits may wake it.
    pub(crate) fn check_limits(&self, limits: &Limits) -> Result<(), SnapshotError> {
        let (needed, most) = (self.memory_bytes as u64, u64::from(limits.memory_mb) << 20);
        if needed > most { Err(SnapshotError::TooLarge { needed, most }) } else { Ok(()) }
    }

    /// Pages that differ from the image.
    pub fn pages(&self) -> usize {
        match &self.pages {
            Pages::Plain(delta) => delta.pages.len(),
            Pages::Packed { n, .. } => *n,
        }
    }

    /// Bytes that [`Snapshot::to_bytes`] has to compress.
    pub fn plain_bytes(&self) -> usize {
        match &self.pages {
            Pages::Plain(delta) => delta.pages.len() * ENTRY + delta.lines.len(),
            Pages::Packed { .. } => 0,
        }
    }

    /// Writes it down, compressed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let packed = match &self.pages {
            Pages::Plain(delta) => Cow::Owned(delta.pack()),
            Pages::Packed { bytes, .. } => Cow::Borrowed(bytes),
        };
        let mut out = Vec::with_capacity(packed.len() + 64 + self.lost.len() * 4);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(self.image.as_bytes());
        out.extend_from_slice(&(self.memory_bytes as u64).to_le_bytes());
        out.extend_from_slice(&(self.pages() as u64).to_le_bytes());
        out.extend_from_slice(&self.timer_ms.to_le_bytes());
        out.extend_from_slice(&(self.lost.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.gates.to_le_bytes());
        for id in &self.lost {
            out.extend_from_slice(&id.to_le_bytes());
        }
        out.extend_from_slice(&packed);
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
        let lost = u64::from_le_bytes(lost);
        let (n_lost, gates) = (lost as u32 as usize, (lost >> 32) as u32);
        if gates as usize > GATES_MAX {
            return Err(SnapshotError::Damaged("too many gates are held"));
        }
        let (lost, packed) = n_lost.checked_mul(4).and_then(|n| rest.split_at_checked(n)).ok_or(truncated)?;
        let (n, memory_bytes) = (u64::from_le_bytes(pages) as usize, u64::from_le_bytes(memory_bytes) as usize);
        plain_size(n, packed, memory_bytes)?;
        Ok(Self {
            image: String::from_utf8_lossy(image).into_owned(),
            memory_bytes,
            pages: Pages::Packed { n, bytes: packed.to_vec() },
            timer_ms: f64::from_le_bytes(timer),
            gates,
            lost: lost.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Pages of the image, and one beyond its end, with bytes of them changed.
        #[test]
        fn what_differs_is_put_back(image in prop::collection::vec(any::<u8>(), 2 * PAGE), changes in prop::collection::vec((0..3 * PAGE, any::<u8>()), 0..200)) {
            let mut memory = image.clone();
            memory.resize(3 * PAGE, 0);
            let fresh = memory.clone();
            changes.iter().for_each(|(at, byte)| memory[*at] = *byte);
            let mut delta = Delta::default();
            for (i, page) in memory.as_chunks::<PAGE>().0.iter().enumerate() {
                delta.add(i as u32, page, image.as_chunks::<PAGE>().0.get(i));
            }
            let back = Delta::unpack(delta.pages.len(), &delta.pack(), 3 * PAGE).unwrap();
            prop_assert_eq!(&back, &delta);
            // Also where the memory is not quite as the image: it has got its randomness already.
            for mut into in [fresh, memory.clone()] {
                prop_assert!(back.apply(&mut into, &image));
                prop_assert_eq!(&into, &memory);
            }
        }
    }
}
