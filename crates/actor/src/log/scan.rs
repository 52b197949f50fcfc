//! One segment read from end to end: its records, and the places where there are none.
//!
//! Pure: bytes in, pieces out. What a broken place means (a batch that was never acknowledged, or a loss) is for `recovery` to judge,
//! which knows what comes after.

use super::format::{HEADER, Header};

/// The smallest piece that a disk writes whole or not at all, in bytes.
pub(crate) const SECTOR: usize = 512;

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A whole record. `mended`: but for one bit of its header.
    Record { at: usize, header: Header, mended: bool },
    /// No whole record. `header` where only the body is broken; `torn` when a part of it looks as if it had never been written.
    Broken { from: usize, to: usize, header: Option<Header>, torn: bool },
}

/// The pieces of `bytes` from `at` on. With `sealed`, every byte is known to have been written; without, the zeros at the end are not.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    mark: u64,
    bytes: &'a [u8],
    at: usize,
    sealed: bool,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(mark: u64, bytes: &'a [u8], at: usize, sealed: bool) -> Self {
        Self { mark, bytes, at, sealed }
    }

    fn whole_header(&self, at: usize) -> Option<(Header, bool)> {
        let (header, mended) = Header::decode_mended(self.mark, self.bytes.get(at..)?)?;
        (at + header.extent() <= self.bytes.len()).then_some((header, mended))
    }

    /// Headers stand at multiples of eight, as everything before them is padded.
    fn next_header(&self, from: usize) -> Option<usize> {
        let mark = self.mark.to_le_bytes();
        let from = from.next_multiple_of(8);
        let words = self.bytes.get(from..)?.as_chunks::<8>().0;
        words.iter().enumerate().filter(|(_, word)| **word == mark).map(|(n, _)| from + n * 8).find(|at| self.whole_header(*at).is_some())
    }

    fn broken(&self, from: usize, to: usize, header: Option<Header>) -> Piece {
        // Behind the last byte that was written, a header that was not written to its end goes on as zeros.
        let shown = to.max(from + HEADER).min(self.bytes.len());
        Piece::Broken { from, to, header, torn: looks_torn(self.bytes, from, shown) }
    }
}

impl Iterator for Scan<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let at = self.at;
        if at >= self.bytes.len() {
            return None;
        }
        if let Some((header, mended)) = self.whole_header(at) {
            self.at = at + header.extent();
            let body = &self.bytes[at + HEADER..at + HEADER + header.body_bytes as usize];
            let sound = crc32c::crc32c(body) == header.body_crc;
            return Some(if sound { Piece::Record { at, header, mended } } else { self.broken(at, self.at, Some(header)) });
        }
        let to = match self.next_header(at + 8) {
            Some(next) => next,
            None if self.sealed => self.bytes.len(),
            None => written_end(self.bytes, at).next_multiple_of(8).min(self.bytes.len()),
        };
        self.at = if to == at { self.bytes.len() } else { to };
        (to > at).then(|| self.broken(at, to, None))
    }
}

/// The end of what is not zero, at least `from`.
pub(crate) fn written_end(bytes: &[u8], from: usize) -> usize {
    let zeros = [0; 4096];
    let mut end = bytes.len();
    while end > from {
        let step = (end - from).min(zeros.len());
        if bytes[end - step..end] != zeros[..step] {
            return end - bytes[end - step..end].iter().rev().take_while(|byte| **byte == 0).count();
        }
        end -= step;
    }
    from
}

/// Whether some sector's share of a range is all zeros, as all of it was before. A record that was written whole and then damaged has no such
/// share, unless it has 512 zeros of its own.
fn looks_torn(bytes: &[u8], from: usize, to: usize) -> bool {
    let mut at = from;
    while at < to {
        let next = ((at / SECTOR + 1) * SECTOR).min(to);
        if written_end(&bytes[..next], at) == at {
            return true;
        }
        at = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use skep_id::ActorId;

    use super::*;
    use crate::{
        log::format::What,
        record::{Epoch, RecordKind, Seq},
    };

    const MARK: u64 = 0x1122_3344_5566_7788;

    fn push(into: &mut Vec<u8>, seq: u64, body: &[u8]) -> usize {
        let at = into.len();
        let header = Header {
            actor: ActorId::new([1; 32]),
            epoch: Epoch(1),
            seq: Seq(seq),
            body_bytes: body.len() as u32,
            body_crc: crc32c::crc32c(body),
            ..Header::own(What::Record(RecordKind::Commit), 1)
        };
        into.extend_from_slice(&header.encode(MARK));
        into.extend_from_slice(body);
        into.resize(into.len().next_multiple_of(8), 0);
        at
    }

    fn seqs(bytes: &[u8]) -> Vec<Option<u64>> {
        let seq = |piece| match piece {
            Piece::Record { header, .. } => Some(header.seq.0),
            Piece::Broken { .. } => None,
        };
        Scan::new(MARK, bytes, 0, false).map(seq).collect()
    }

    #[test]
    fn a_body_that_looks_like_records_is_never_read_as_one() {
        let mut forged = Vec::new();
        for seq in 0..20 {
            push(&mut forged, seq, b"forged");
        }
        // A guest does not know the mark; with any other its rows stay a body, also when the header in front of them is destroyed.
        for at in (0..forged.len()).step_by(8) {
            if forged[at..at + 8] == MARK.to_le_bytes() {
                forged[at] ^= 1;
            }
        }
        let mut bytes = Vec::new();
        push(&mut bytes, 1, &forged);
        push(&mut bytes, 2, b"after");
        assert_eq!(seqs(&bytes), [Some(1), Some(2)]);
        bytes[20] ^= 3;
        assert_eq!(seqs(&bytes), [None, Some(2)]);
    }

    #[test]
    fn a_record_that_was_cut_anywhere_is_torn_and_one_with_a_flipped_bit_is_not() {
        let mut bytes = Vec::new();
        push(&mut bytes, 1, b"before");
        let at = push(&mut bytes, 2, &[7; 3000]);
        bytes.resize(8192, 0);
        for sector in at / SECTOR..=(at + HEADER + 2999) / SECTOR {
            let mut torn = bytes.clone();
            torn[(sector * SECTOR).max(at)..(sector + 1) * SECTOR].fill(0);
            let pieces: Vec<_> = Scan::new(MARK, &torn, 0, false).skip(1).collect();
            assert!(matches!(pieces[..], [Piece::Broken { torn: true, .. }]), "{pieces:?}");
        }
        for bit in (at * 8..(at + HEADER + 3000) * 8).step_by(37) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let pieces: Vec<_> = Scan::new(MARK, &flipped, 0, false).skip(1).collect();
            let mended = matches!(pieces[..], [Piece::Record { mended: true, header: Header { seq: Seq(2), .. }, .. }]);
            let broken = matches!(pieces[..], [Piece::Broken { torn: false, header: Some(_), .. }]);
            assert!(if bit < (at + HEADER) * 8 { mended } else { broken }, "bit {bit}: {pieces:?}");
        }
    }
}
