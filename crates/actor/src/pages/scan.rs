//! Reads little-endian values off the front of bytes that anybody may have written.
//!
//! Driven by every format of `pages`. Never panics, and never believes a length before it has seen the bytes.

/// Bytes that one byte of a zstd frame can stand for at most: a block of 128 KiB takes four.
const ZSTD_RATIO_MAX: usize = 32 << 10;

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan<'a>(pub &'a [u8]);

impl<'a> Scan<'a> {
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(front)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Decompresses what says that it becomes `raw` bytes; `None` when it does not.
pub(super) fn unpack(packed: &[u8], raw: usize) -> Option<Vec<u8>> {
    if raw > packed.len().saturating_mul(ZSTD_RATIO_MAX) {
        return None;
    }
    let bytes = zstd::bulk::decompress(packed, raw).ok()?;
    (bytes.len() == raw).then_some(bytes)
}

/// Compresses fast; `None` when it does not pay.
pub(super) fn pack(bytes: &[u8]) -> Option<Vec<u8>> {
    zstd::bulk::compress(bytes, 1).ok().filter(|packed| packed.len() < bytes.len())
}
