//! Brotli (RFC 7932), decompression only: the coding `br` of bodies. Large windows, which are no part of it, are refused.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::{Next, PIECE, Step};
use crate::host::{HostError, Result};

/// The largest window.
const WINDOW_MAX: usize = 1 << 24;

/// Besides the window: prefix code trees and context maps, at most.
const REST_BYTES: usize = 4 << 20;

/// Memory of a decoder that may come to any window.
pub(in super::super) const BYTES_MAX: usize = WINDOW_MAX + REST_BYTES;

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

pub(in super::super) struct Brotli {
    state: Box<State>,
    /// Counted for the largest window until the first byte says which it is.
    bytes: usize,
    begun: bool,
    ended: bool,
}

/// The window that a stream's first byte asks for, in bytes.
fn window(first: u8) -> usize {
    let bits = match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, _, _) => 16,
        (_, 0, 0) => 17,
        (_, 0, n) => 8 + u32::from(n),
        (_, n, _) => 17 + u32::from(n),
    };
    1 << bits
}

impl Brotli {
    pub(super) fn new() -> Self {
        let state = State::new_strict(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
        Self { state: Box::new(state), bytes: BYTES_MAX, begun: false, ended: false }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, input: &[u8], more_input: bool, finish: bool) -> Result<Step> {
        if let (false, Some(first)) = (self.begun, input.first()) {
            self.begun = true;
            self.bytes = window(*first) + REST_BYTES;
        }
        let mut output = Vec::new();
        let (mut consumed, mut full) = (0, false);
        if !self.ended {
            output.resize(PIECE, 0);
            let (mut left, mut room, mut given, mut total) = (input.len(), PIECE, 0, 0);
            let result =
                BrotliDecompressStream(&mut left, &mut consumed, input, &mut room, &mut given, &mut output, &mut total, &mut self.state);
            output.truncate(given);
            match result {
                BrotliResult::ResultSuccess => self.ended = true,
                BrotliResult::NeedsMoreInput => {}
                BrotliResult::NeedsMoreOutput => full = true,
                BrotliResult::ResultFailure => return Err(HostError::type_error("Decompression failed.")),
            }
        }
        if finish && !self.ended && !full {
            return Err(HostError::type_error("Called close() on a decompression stream with incomplete data"));
        }
        let next = match () {
            () if self.ended && (more_input || consumed < input.len()) => Next::Trailing,
            () if self.ended && finish => Next::Ended,
            () if full => Next::Again,
            () => Next::Feed,
        };
        Ok(Step { output, consumed, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"x".repeat(1 << 20)`, as Node's `brotliCompressSync` writes it with its defaults.
    const MANY: &[u8] = &[0x5b, 0xff, 0xff, 0x8f, 0x5f, 0x02, 0x2f, 0x1e, 0x0b, 0x04, 0x72, 0xef, 0x1f, 0x00];

    fn all(input: &[u8], piece: usize) -> Result<(Vec<u8>, Next)> {
        let (mut brotli, mut out, mut at) = (Brotli::new(), Vec::new(), 0);
        loop {
            let end = (at + piece).min(input.len());
            let step = brotli.push(&input[at..end], end < input.len(), end == input.len())?;
            assert!(step.output.len() <= PIECE);
            at += step.consumed;
            out.extend(step.output);
            if matches!(step.next, Next::Ended | Next::Trailing) {
                return Ok((out, step.next));
            }
        }
    }

    #[test]
    fn in_one_piece_and_byte_by_byte() {
        for piece in [usize::MAX / 2, 1] {
            let (text, next) = all(MANY, piece).expect("decompressed");
            assert!(text.len() == 1 << 20 && text.iter().all(|b| *b == b'x'));
            assert_eq!(next, Next::Ended);
        }
    }

    #[test]
    fn what_is_broken_is_refused() {
        for broken in [&MANY[..MANY.len() - 1], b"", b"\xff\xff\xff\xff", b"<html>", &[0x11; 40]] {
            assert!(all(broken, 7).is_err(), "{broken:?}");
        }
        let (_, next) = all(&[MANY, b"more"].concat(), 1 << 10).expect("decompressed");
        assert_eq!(next, Next::Trailing);
    }

    /// The first byte of a stream, and the window that RFC 7932, 9.1 has for it.
    #[test]
    fn windows() {
        for (first, bits) in [(0x00, 16), (0x01, 17), (0x21, 10), (0x71, 15), (0x03, 18), (0x0b, 22), (0x0f, 24)] {
            assert_eq!(window(first), 1 << bits, "{first:#x}");
        }
        assert!((0..=255).all(|first| window(first) <= WINDOW_MAX));
    }
}
