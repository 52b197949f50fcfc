//! Bodies of records that `pages` makes: the lines of pages that a commit changed, and where a fork began.
//!
//! Pure. Lines are absolute: applying a record twice gives the same page. Decoding takes bytes from anyone.

use bytes::{BufMut, Bytes, BytesMut};
use skep_id::ActorId;

use super::{PAGE, Page, View, scan};
use crate::record::Seq;

/// Bytes of a line: what is compared and written as a unit; a page has 64.
pub(super) const LINE: usize = PAGE / 64;
/// The mask of a page that is written whole.
pub(super) const WHOLE: u64 = u64::MAX;
/// Pages that a database may have: 64 GiB, well over any limit that a database is given.
pub(super) const PAGES_MAX: u32 = 1 << 24;

const VERSION: u8 = 1;
const WAKES: u8 = 1;
const PACKED: u8 = 2;
/// From this size on, compressing is tried.
const PACK_FROM: usize = 2 << 10;

/// What a commit says besides pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitMeta {
    /// The earliest alarm, ms since the epoch of Unix, so that a scan of the log finds it without opening the database.
    pub wake_ms: Option<u64>,
}

/// The pages that a commit changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    count: u32,
    /// For each page its number, mask and lines; found to be well-formed.
    pages: Bytes,
}

/// One page of a [`Delta`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Its number, from 1.
    pub page: u32,
    /// The lines that changed; the lowest bit is the first.
    pub mask: u64,
    /// Their content, 64 bytes each.
    pub lines: &'a [u8],
}

/// Where a child began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Whose copy it is.
    pub parent: ActorId,
    /// As of which place.
    pub at: Seq,
    /// Pages that the parent had there.
    pub count: u32,
    /// For who made the fork; `pages` gives them no meaning.
    pub flags: u32,
}

impl Delta {
    /// Pages that the database has after the commit.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The changed pages, in ascending order.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        let mut rest = scan::Scan(&self.pages);
        std::iter::from_fn(move || change(&mut rest))
    }
}

impl Change<'_> {
    /// Puts the lines where they belong.
    pub fn apply(&self, page: &mut [u8; PAGE]) {
        let mut mask = self.mask;
        for line in self.lines.chunks_exact(LINE) {
            let at = mask.trailing_zeros() as usize * LINE;
            mask &= mask.wrapping_sub(1);
            if let Some(place) = page.get_mut(at..at + LINE) {
                place.copy_from_slice(line);
            }
        }
    }
}

fn change<'a>(rest: &mut scan::Scan<'a>) -> Option<Change<'a>> {
    let (page, mask) = (rest.u32()?, rest.u64()?);
    Some(Change { page, mask, lines: rest.take(mask.count_ones() as usize * LINE)? })
}

/// Gathers a commit's pages.
#[derive(Debug, Default)]
pub(super) struct Draft(BytesMut);

impl Draft {
    /// A page, in ascending order; its lines that differ from `before`, all of them if that is not known. Nothing if none does.
    pub fn page(&mut self, page: u32, now: &Page, before: Option<&Page>) -> bool {
        let mask = before.map_or(WHOLE, |before| differing(now, before));
        if mask == 0 {
            return false;
        }
        self.0.reserve(12 + mask.count_ones() as usize * LINE);
        self.0.put_u32_le(page);
        self.0.put_u64_le(mask);
        for (_, line) in now.chunks_exact(LINE).enumerate().filter(|(i, _)| mask >> i & 1 == 1) {
            self.0.put_slice(line);
        }
        true
    }

    /// The body.
    pub fn finish(self, count: u32, meta: CommitMeta) -> Bytes {
        let packed = if self.0.len() >= PACK_FROM { scan::pack(&self.0) } else { None };
        let mut body = BytesMut::with_capacity(18 + packed.as_ref().map_or(self.0.len(), Vec::len));
        body.put_u8(VERSION);
        body.put_u8(if meta.wake_ms.is_some() { WAKES } else { 0 } | if packed.is_some() { PACKED } else { 0 });
        body.put_u32_le(count);
        if let Some(ms) = meta.wake_ms {
            body.put_u64_le(ms);
        }
        match packed {
            Some(packed) => {
                body.put_u32_le(self.0.len() as u32);
                body.put_slice(&packed);
            }
            None => body.put_slice(&self.0),
        }
        body.freeze()
    }
}

fn differing(now: &Page, before: &Page) -> u64 {
    let lines = now.chunks_exact(LINE).zip(before.chunks_exact(LINE)).enumerate();
    lines.fold(0, |mask, (i, (a, b))| mask | u64::from(a != b) << i)
}

/// Reads the body of a commit record.
///
/// # Errors
/// Says what is wrong with it.
pub fn decode_commit(body: &[u8]) -> Result<(CommitMeta, Delta), String> {
    let mut rest = scan::Scan(body);
    let cut = || "it is cut short".to_owned();
    let version = rest.u8().ok_or_else(cut)?;
    if version != VERSION {
        return Err(format!("commits of version {version} are not known"));
    }
    let flags = rest.u8().ok_or_else(cut)?;
    if flags & !(WAKES | PACKED) != 0 {
        return Err(format!("flags {flags:#x} are not known"));
    }
    let count = rest.u32().ok_or_else(cut)?;
    if count > PAGES_MAX {
        return Err(format!("{count} pages are more than a database may have"));
    }
    let wake_ms = if flags & WAKES != 0 { Some(rest.u64().ok_or_else(cut)?) } else { None };
    let pages = if flags & PACKED != 0 {
        let raw = rest.u32().ok_or_else(cut)? as usize;
        Bytes::from(scan::unpack(rest.0, raw).ok_or_else(|| "its pages do not decompress".to_owned())?)
    } else {
        Bytes::copy_from_slice(rest.0)
    };
    check(&pages, count)?;
    Ok((CommitMeta { wake_ms }, Delta { count, pages }))
}

fn check(pages: &[u8], count: u32) -> Result<(), String> {
    let (mut rest, mut last) = (scan::Scan(pages), 0);
    while !rest.0.is_empty() {
        let change = change(&mut rest).ok_or("a page is cut short")?;
        if change.page <= last || change.page > count || change.mask == 0 {
            return Err(format!("page {} does not belong after page {last} of {count}", change.page));
        }
        last = change.page;
    }
    Ok(())
}

impl Fork {
    /// What the first record of a child says.
    #[must_use]
    pub fn of(parent: &View, flags: u32) -> Self {
        Self { parent: parent.actor(), at: parent.at(), count: parent.count(), flags }
    }

    /// The body of its record.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::with_capacity(49);
        body.put_u8(VERSION);
        body.put_slice(self.parent.bytes());
        body.put_u64_le(self.at.0);
        body.put_u32_le(self.count);
        body.put_u32_le(self.flags);
        body.freeze()
    }
}

/// Reads the body of a fork record.
///
/// # Errors
/// Says what is wrong with it.
pub fn decode_fork(body: &[u8]) -> Result<Fork, String> {
    let mut rest = scan::Scan(body);
    let mut fields = || Some((rest.u8()?, rest.array()?, rest.u64()?, rest.u32()?, rest.u32()?));
    let (version, parent, at, count, flags) = fields().ok_or("it is cut short")?;
    if version != VERSION || count > PAGES_MAX || !rest.0.is_empty() {
        return Err("it is not a fork's".to_owned());
    }
    Ok(Fork { parent: ActorId::new(parent), at: Seq(at), count, flags })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(fill: u8) -> Page {
        [fill; PAGE]
    }

    #[test]
    fn a_counter_costs_a_line() {
        let (before, mut now) = (page(7), page(7));
        now[100] = 8;
        let mut draft = Draft::default();
        assert!(draft.page(3, &now, Some(&before)));
        assert!(!draft.page(4, &now, Some(&now)));
        let body = draft.finish(9, CommitMeta { wake_ms: Some(5) });
        assert!(body.len() < 100, "{}", body.len());
        let (meta, delta) = decode_commit(&body).unwrap();
        assert_eq!((meta.wake_ms, delta.count()), (Some(5), 9));
        let mut got = before;
        delta.changes().for_each(|change| change.apply(&mut got));
        assert_eq!(got, now);
    }

    #[test]
    fn hostile_bodies_are_refused() {
        let packed = |raw: u32, bytes: &[u8]| {
            let mut body = vec![VERSION, PACKED];
            body.extend(5u32.to_le_bytes());
            body.extend(raw.to_le_bytes());
            body.extend(zstd::bulk::compress(bytes, 1).unwrap());
            body
        };
        let plain = |count: u32, page: u32, mask: u64, lines: usize| {
            let mut body = vec![VERSION, 0];
            body.extend(count.to_le_bytes());
            body.extend(page.to_le_bytes());
            body.extend(mask.to_le_bytes());
            body.extend(vec![1; lines]);
            body
        };
        let mut twice = plain(5, 1, 1, 64);
        twice.extend_from_slice(&plain(5, 1, 1, 64)[6..]);
        let hostile: [(&str, Vec<u8>); 12] = [
            ("nothing", vec![]),
            ("another version", vec![2, 0, 0, 0, 0, 0]),
            ("unknown flags", vec![1, 4, 0, 0, 0, 0]),
            ("no alarm where one was promised", vec![1, WAKES, 0, 0, 0, 0, 9]),
            ("sixteen tebibytes of pages", plain(u32::MAX, 1, 1, 64)),
            ("page zero", plain(5, 0, 1, 64)),
            ("a page after the end", plain(5, 6, 1, 64)),
            ("no lines", plain(5, 1, 0, 0)),
            ("fewer lines than the mask says", plain(5, 1, 3, 64)),
            ("one page twice", twice),
            ("a bomb that says four gigabytes", packed(u32::MAX, &[0; 100])),
            ("a frame longer than it says", packed(10, &[0; 100])),
        ];
        for (name, body) in hostile {
            assert!(decode_commit(&body).is_err(), "{name}");
        }
        assert!(decode_fork(&[1; 48]).is_err() && decode_fork(&[1; 50]).is_err() && decode_fork(&[2; 49]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(mut body in proptest::collection::vec(any::<u8>(), 0..400), flags in 0u8..4) {
            let _ = decode_fork(&body);
            if body.len() > 6 {
                (body[0], body[1], body[4], body[5]) = (VERSION, flags, 0, 0);
            }
            if let Ok((_, delta)) = decode_commit(&body) {
                let mut page = [0; PAGE];
                delta.changes().for_each(|change| change.apply(&mut page));
            }
        }

        #[test]
        fn what_is_encoded_comes_back(edits in proptest::collection::btree_map(1u32..40, proptest::collection::vec((0..PAGE, any::<u8>()), 0..50), 0..20), wake in any::<Option<u64>>()) {
            let mut draft = Draft::default();
            for (number, edits) in &edits {
                let mut now = page(1);
                edits.iter().for_each(|(at, byte)| now[*at] = *byte);
                draft.page(*number, &now, Some(&page(1)));
            }
            let (meta, delta) = decode_commit(&draft.finish(40, CommitMeta { wake_ms: wake })).unwrap();
            prop_assert_eq!(meta.wake_ms, wake);
            for change in delta.changes() {
                let (mut got, mut now) = (page(1), page(1));
                edits[&change.page].iter().for_each(|(at, byte)| now[*at] = *byte);
                change.apply(&mut got);
                prop_assert_eq!(got, now);
            }
        }
    }
}
