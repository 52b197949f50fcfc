//! The log's bytes: segments, records, and the file of heads.
//!
//! A segment is a prelude of 64 bytes and records without gaps, each a header of 88 bytes and a body, padded to 8; behind the last one
//! are zeros. All numbers are little-endian, all checksums CRC-32C. Values only: nothing here knows a file.
//!
//! Every header begins with the log's *mark*, 64 random bits made with the log. Bodies are written by guests, and one of them may look
//! like a row of records; without the mark it never reads as one when a damaged place is skipped.

use skep_id::ActorId;

use crate::record::{Epoch, RecordKind, Seq};

/// The version of everything here. A reader refuses others.
pub(crate) const VERSION: u8 = 1;
/// Bytes of a segment before its first record.
pub(crate) const PRELUDE: usize = 64;
/// Bytes of a record before its body.
pub(crate) const HEADER: usize = 88;
/// Bytes of one name in a leaf.
pub(crate) const NAME: usize = 40;

const MAGIC: [u8; 8] = *b"skeplog\n";
const LAST: u8 = 1;

/// What a record in a segment is: an actor's, or one of the log's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Record(RecordKind),
    /// Names of records before it, so that one whose header is destroyed is missed.
    Leaf,
    /// The actor's records after `seq` that stand before it do not count: it was repaired.
    Cut,
    /// Nothing of the actor that stands before it counts.
    Forget,
    /// Was torn, and never acknowledged.
    Void,
}

impl What {
    fn number(self) -> u8 {
        match self {
            Self::Record(kind) => kind as u8,
            Self::Leaf => 100,
            Self::Cut => 101,
            Self::Forget => 102,
            Self::Void => 103,
        }
    }

    fn from_number(n: u8) -> Option<Self> {
        match n {
            100 => Some(Self::Leaf),
            101 => Some(Self::Cut),
            102 => Some(Self::Forget),
            103 => Some(Self::Void),
            _ => RecordKind::from_number(n).map(Self::Record),
        }
    }
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Which group commit wrote it. They count without gaps, and one is begun when the one before is durable.
    pub(crate) batch: u64,
    /// Whether it is the last of its batch.
    pub(crate) last: bool,
    pub(crate) what: What,
    pub(crate) actor: ActorId,
    pub(crate) epoch: Epoch,
    /// The place; of a leaf, which leaf it is.
    pub(crate) seq: Seq,
    pub(crate) time_ms: u64,
    pub(crate) body_bytes: u32,
    pub(crate) body_crc: u32,
}

/// Nobody: the actor of the log's own records.
pub(crate) fn nobody() -> ActorId {
    ActorId::new([0; 32])
}

impl Header {
    /// A record of the log's own without a body.
    pub(crate) fn own(what: What, batch: u64) -> Self {
        Self { batch, last: false, what, actor: nobody(), epoch: Epoch(0), seq: Seq(0), time_ms: 0, body_bytes: 0, body_crc: 0 }
    }

    /// Bytes in the segment, padding included.
    pub(crate) fn extent(&self) -> usize {
        extent(self.body_bytes as usize)
    }

    pub(crate) fn encode(&self, mark: u64) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0..8].copy_from_slice(&mark.to_le_bytes());
        out[8..16].copy_from_slice(&self.batch.to_le_bytes());
        out[16..48].copy_from_slice(self.actor.bytes());
        out[48..56].copy_from_slice(&self.epoch.0.to_le_bytes());
        out[56..64].copy_from_slice(&self.seq.0.to_le_bytes());
        out[64..72].copy_from_slice(&self.time_ms.to_le_bytes());
        out[72..76].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[76] = self.what.number();
        out[77] = VERSION;
        out[78] = if self.last { LAST } else { 0 };
        out[80..84].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..84]);
        out[84..88].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` where there is no whole header of this log.
    pub(crate) fn decode(mark: u64, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        if bytes[0..8] != mark.to_le_bytes() || u32_at(bytes, 84)? != crc32c::crc32c(&bytes[..84]) || bytes[77] != VERSION {
            return None;
        }
        Some(Self {
            batch: u64_at(bytes, 8)?,
            last: bytes[78] & LAST != 0,
            what: What::from_number(bytes[76])?,
            actor: ActorId::new(bytes[16..48].try_into().ok()?),
            epoch: Epoch(u64_at(bytes, 48)?),
            seq: Seq(u64_at(bytes, 56)?),
            time_ms: u64_at(bytes, 64)?,
            body_bytes: u32_at(bytes, 72)?,
            body_crc: u32_at(bytes, 80)?,
        })
    }
}

impl Header {
    /// As [`Header::decode`], and where that fails, with the one bit put right that makes it succeed. `true` when it was.
    pub(crate) fn decode_mended(mark: u64, bytes: &[u8]) -> Option<(Self, bool)> {
        if let Some(header) = Self::decode(mark, bytes) {
            return Some((header, false));
        }
        let mut copy: [u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        match (u64_at(&copy, 0)? ^ mark).count_ones() {
            0 => (64..HEADER * 8).find_map(|bit| {
                copy[bit / 8] ^= 1 << (bit % 8);
                let header = Self::decode(mark, &copy);
                copy[bit / 8] ^= 1 << (bit % 8);
                header
            }),
            1 => {
                copy[..8].copy_from_slice(&mark.to_le_bytes());
                Self::decode(mark, &copy)
            }
            _ => None,
        }
        .map(|header| (header, true))
    }
}

/// Bytes that a record with such a body takes.
pub(crate) fn extent(body_bytes: usize) -> usize {
    (HEADER + body_bytes).next_multiple_of(8)
}

/// Sets the flag of the last record of a batch, whose header is at `at`.
pub(crate) fn set_last(bytes: &mut [u8], at: usize) {
    bytes[at + 78] |= LAST;
    let crc = crc32c::crc32c(&bytes[at..at + 84]);
    bytes[at + 84..at + 88].copy_from_slice(&crc.to_le_bytes());
}

/// Appends a leaf: the `number`th, with these names.
pub(crate) fn push_leaf(into: &mut Vec<u8>, mark: u64, batch: u64, number: u64, names: &[u8]) {
    let header =
        Header { seq: Seq(number), body_bytes: names.len() as u32, body_crc: crc32c::crc32c(names), ..Header::own(What::Leaf, batch) };
    into.extend_from_slice(&header.encode(mark));
    into.extend_from_slice(names);
    into.resize(into.len().next_multiple_of(8), 0);
}

/// A record's name in a leaf.
pub(crate) fn push_name(into: &mut Vec<u8>, actor: ActorId, seq: Seq) {
    into.extend_from_slice(actor.bytes());
    into.extend_from_slice(&seq.0.to_le_bytes());
}

/// The names in a leaf's body.
pub(crate) fn names(body: &[u8]) -> impl Iterator<Item = (ActorId, Seq)> {
    body.as_chunks::<NAME>().0.iter().filter_map(|name| Some((ActorId::new(name[..32].try_into().ok()?), Seq(u64_at(name, 32)?))))
}

/// The beginning of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prelude {
    pub(crate) mark: u64,
    pub(crate) number: u32,
    /// Where the segment before it ends.
    pub(crate) previous_end: u64,
    /// Leaves that were written before it.
    pub(crate) leaves: u64,
    /// Its first batch.
    pub(crate) batch: u64,
}

impl Prelude {
    pub(crate) fn encode(&self) -> [u8; PRELUDE] {
        let mut out = [0; PRELUDE];
        out[0..8].copy_from_slice(&MAGIC);
        out[8] = VERSION;
        out[12..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..24].copy_from_slice(&self.mark.to_le_bytes());
        out[24..32].copy_from_slice(&self.previous_end.to_le_bytes());
        out[32..40].copy_from_slice(&self.leaves.to_le_bytes());
        out[40..48].copy_from_slice(&self.batch.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..PRELUDE)?;
        if bytes[0..8] != MAGIC || bytes[8] != VERSION || u32_at(bytes, 60)? != crc32c::crc32c(&bytes[..60]) {
            return None;
        }
        Some(Self {
            number: u32_at(bytes, 12)?,
            mark: u64_at(bytes, 16)?,
            previous_end: u64_at(bytes, 24)?,
            leaves: u64_at(bytes, 32)?,
            batch: u64_at(bytes, 40)?,
        })
    }
}

/// A place in the log: segment and offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

/// What is known of one actor beside its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownHead {
    pub(crate) actor: ActorId,
    pub(crate) epoch: Epoch,
    pub(crate) seq: Seq,
    pub(crate) trimmed: Seq,
    /// What stands before this is of an actor of the same id that was forgotten.
    pub(crate) since: Spot,
}

/// The file of heads: written before a segment is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heads {
    /// The oldest segment that counts.
    pub(crate) oldest: u32,
    /// Segments after it that are gone.
    pub(crate) dropped: Vec<u32>,
    pub(crate) heads: Vec<KnownHead>,
}

const KNOWN: usize = 64;

impl Heads {
    pub(crate) fn encode(&self, mark: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(PRELUDE + self.dropped.len() * 4 + self.heads.len() * KNOWN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, b'h', 0, 0]);
        out.extend_from_slice(&self.oldest.to_le_bytes());
        out.extend_from_slice(&mark.to_le_bytes());
        out.extend_from_slice(&(self.dropped.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.heads.len() as u32).to_le_bytes());
        for number in &self.dropped {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for head in &self.heads {
            push_name(&mut out, head.actor, head.seq);
            out.extend_from_slice(&head.epoch.0.to_le_bytes());
            out.extend_from_slice(&head.trimmed.0.to_le_bytes());
            out.extend_from_slice(&head.since.segment.to_le_bytes());
            out.extend_from_slice(&head.since.offset.to_le_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// `None` when it is not whole, or another log's.
    pub(crate) fn decode(bytes: &[u8], mark: u64) -> Option<Self> {
        if bytes.get(..8)? != MAGIC || bytes.get(8..10)? != [VERSION, b'h'] || u64_at(bytes, 16)? != mark {
            return None;
        }
        let (dropped, heads) = (u32_at(bytes, 24)? as usize, u32_at(bytes, 28)? as usize);
        let end = 32 + dropped * 4 + heads * KNOWN;
        if u32_at(bytes, end)? != crc32c::crc32c(&bytes[..end]) {
            return None;
        }
        let (numbers, known) = bytes[32..end].split_at(dropped * 4);
        Some(Self {
            oldest: u32_at(bytes, 12)?,
            dropped: (0..dropped).filter_map(|n| u32_at(numbers, n * 4)).collect(),
            heads: known.as_chunks::<KNOWN>().0.iter().filter_map(known_head).collect(),
        })
    }
}

fn known_head(bytes: &[u8; KNOWN]) -> Option<KnownHead> {
    Some(KnownHead {
        actor: ActorId::new(bytes[..32].try_into().ok()?),
        seq: Seq(u64_at(bytes, 32)?),
        epoch: Epoch(u64_at(bytes, 40)?),
        trimmed: Seq(u64_at(bytes, 48)?),
        since: Spot { segment: u32_at(bytes, 56)?, offset: u32_at(bytes, 60)? },
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_preludes_and_heads_come_back_and_no_flipped_bit_passes() {
        let header = Header { seq: Seq(7), epoch: Epoch(3), body_bytes: 99, ..Header::own(What::Record(RecordKind::Commit), 12) };
        let bytes = header.encode(42);
        assert_eq!(Header::decode(42, &bytes), Some(header));
        assert_eq!(Header::decode(43, &bytes), None, "another log's");
        let prelude = Prelude { mark: 1, number: 2, previous_end: 3, leaves: 4, batch: 5 };
        assert_eq!(Prelude::decode(&prelude.encode()), Some(prelude));
        let known = KnownHead {
            actor: ActorId::new([9; 32]),
            epoch: Epoch(1),
            seq: Seq(2),
            trimmed: Seq(2),
            since: Spot { segment: 5, offset: 6 },
        };
        let heads = Heads { oldest: 3, dropped: vec![5, 6], heads: vec![known; 3] };
        assert_eq!(Heads::decode(&heads.encode(42), 42), Some(heads.clone()));
        let whole = heads.encode(42);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Heads::decode(&bytes, 42), None, "bit {bit}");
        }
        for bit in 0..HEADER * 8 {
            let mut bytes = header.encode(42);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(42, &bytes), None, "bit {bit}");
            assert_eq!(Header::decode_mended(42, &bytes), Some((header, true)), "bit {bit}");
        }
        assert!((0..whole.len()).all(|cut| Heads::decode(&whole[..cut], 42).is_none()));
    }
}
