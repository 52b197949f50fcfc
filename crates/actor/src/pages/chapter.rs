//! A chapter: one actor's history from a place to a later one, in one file that is written once.
//!
//! Driven by `fold` (writing), `merge` (joining), `shelf` (reading the past, and putting a base right after a crash) and `expire`. It holds the
//! pages as they were at its first place that its records change, and the records themselves; one that was joined of several has a *section* for
//! each, so that a place within it can still be read from the section's beginning. Layout: header, compressed pages and blocks of records in the
//! order written, compressed index. Everything has a checksum; a page or block that is damaged costs only itself.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use skep_id::ActorId;

use super::{
    PAGE, Page, PagesError,
    disk::{Disk, DiskFile},
    scan::{Scan, pack, unpack},
};
use crate::record::{Epoch, Record, RecordKind, Seq};

const MAGIC: &[u8; 8] = b"SKEPCHP2";
const HEADER: usize = 128;
/// Bytes of records that are compressed together.
const BLOCK: usize = 64 << 10;
/// Bytes that are gathered for one write.
const BUFFER: usize = 1 << 20;
/// The name that a chapter has while it is written.
pub(super) const UNFINISHED: &str = "chapter.new";
const PAGE_ENTRY: usize = 28;
const SECTION_ENTRY: usize = 20;
const BLOCK_ENTRY: usize = 44;
const CHECKPOINT_ENTRY: usize = 12;

/// Before what state of the base a chapter begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct From {
    pub place: Seq,
    pub time_ms: u64,
    pub count: u32,
}

/// A page as it was where a section begins.
#[derive(Clone, Copy, Debug)]
struct PageEntry {
    page: u32,
    from: Seq,
    piece: Piece,
}

#[derive(Clone, Copy, Debug)]
struct BlockEntry {
    first: Seq,
    last: Seq,
    min_time_ms: u64,
    piece: Piece,
    raw: u32,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    offset: u64,
    len: u32,
    sum: u32,
}

/// What a chapter has and where.
#[derive(Debug)]
pub(super) struct Index {
    /// Where the sections begin, in order; there is at least one, and the first begins where the chapter does.
    pub sections: Vec<From>,
    /// Pages that the database had at the last place.
    pub count_after: u32,
    /// In the order of their numbers, and those of one page in the order of the sections.
    pages: Vec<PageEntry>,
    blocks: Vec<BlockEntry>,
    /// Checkpoints among the records, and the block that each is in.
    checkpoints: Vec<(Seq, u32)>,
    /// Where pages and blocks end in the file.
    end: u64,
}

/// A chapter on disk.
#[derive(Debug)]
pub(super) struct Chapter {
    pub path: PathBuf,
    pub from: Seq,
    pub to: Seq,
    /// Time of the last record.
    pub time_ms: u64,
    /// The last checkpoint among the records; 0 if there is none.
    last_checkpoint: Seq,
    actor: ActorId,
    index: OnceLock<Arc<Index>>,
}

/// What must be known without opening a chapter: its file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub from: Seq,
    pub to: Seq,
    /// Time of the last record.
    pub time_ms: u64,
    /// The last checkpoint among the records; 0 if there is none.
    pub last_checkpoint: Seq,
}

impl Name {
    fn format(&self) -> String {
        format!("{:016x}-{:016x}-{:016x}-{:016x}.chapter", self.from.0, self.to.0, self.time_ms, self.last_checkpoint.0)
    }

    pub fn parse(name: &str) -> Option<Self> {
        let mut parts =
            name.strip_suffix(".chapter")?.split('-').map(|part| u64::from_str_radix(part, 16).ok().filter(|_| part.len() == 16));
        let [from, to, time_ms, last_checkpoint] = [parts.next()??, parts.next()??, parts.next()??, parts.next()??];
        let name = Self { from: Seq(from), to: Seq(to), time_ms, last_checkpoint: Seq(last_checkpoint) };
        (parts.next().is_none() && from < to).then_some(name)
    }
}

/// Puts a record in a form that can be told from the next one.
pub(super) fn frame(record: &Record, into: &mut Vec<u8>) {
    for n in [record.seq.0, record.epoch.0, record.time_ms] {
        into.extend(n.to_le_bytes());
    }
    into.push(record.kind as u8);
    into.extend((record.body.len() as u32).to_le_bytes());
    into.extend_from_slice(&record.body);
}

/// Takes a record off the front.
pub(super) fn unframe(rest: &mut Scan<'_>, actor: ActorId) -> Option<Record> {
    let (seq, epoch, time_ms) = (Seq(rest.u64()?), Epoch(rest.u64()?), rest.u64()?);
    let kind = RecordKind::from_number(rest.u8()?)?;
    let len = rest.u32()? as usize;
    Some(Record { actor, epoch, seq, time_ms, kind, body: Bytes::copy_from_slice(rest.take(len)?) })
}

/// A chapter that is being written.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    disk: &'a dyn Disk,
    dir: PathBuf,
    temporary: PathBuf,
    file: Arc<dyn DiskFile>,
    actor: ActorId,
    sections: Vec<From>,
    /// Where `buffer` belongs.
    at: u64,
    buffer: Vec<u8>,
    pages: Vec<PageEntry>,
    blocks: Vec<BlockEntry>,
    checkpoints: Vec<(Seq, u32)>,
    block: Vec<u8>,
    block_first: Option<Seq>,
    block_min_ms: u64,
    last: (Seq, u64),
}

impl<'a> Draft<'a> {
    pub fn create(disk: &'a dyn Disk, dir: &Path, actor: ActorId, from: From) -> Result<Self, PagesError> {
        let temporary = dir.join(UNFINISHED);
        let file = disk.create(&temporary).map_err(PagesError::file(&temporary))?;
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            temporary,
            file,
            actor,
            sections: vec![from],
            at: HEADER as u64,
            buffer: Vec::new(),
            pages: Vec::new(),
            blocks: Vec::new(),
            checkpoints: Vec::new(),
            block: Vec::new(),
            block_first: None,
            block_min_ms: u64::MAX,
            last: (from.place, from.time_ms),
        })
    }

    /// A page as it was at the first place; in ascending order.
    pub fn page(&mut self, page: u32, content: &Page) -> Result<(), PagesError> {
        let piece = match pack(content) {
            Some(packed) => self.piece(&packed)?,
            None => self.piece(content)?,
        };
        self.pages.push(PageEntry { page, from: self.sections[0].place, piece });
        Ok(())
    }

    /// The next record.
    pub fn record(&mut self, record: &Record) -> Result<(), PagesError> {
        if record.kind == RecordKind::Checkpoint {
            self.checkpoints.push((record.seq, self.blocks.len() as u32));
        }
        self.block_first.get_or_insert(record.seq);
        self.block_min_ms = self.block_min_ms.min(record.time_ms);
        self.last = (record.seq, record.time_ms);
        frame(record, &mut self.block);
        if self.block.len() >= BLOCK { self.end_block() } else { Ok(()) }
    }

    /// All of a chapter that follows what is here, as it is: what is damaged stays so.
    pub fn append(&mut self, chapter: &Chapter) -> Result<(), PagesError> {
        let (index, file) = (chapter.index(self.disk)?, chapter.open(self.disk)?);
        let (to, blocks) = (self.at + self.buffer.len() as u64, self.blocks.len() as u32);
        let moved = |piece: Piece| Piece { offset: (piece.offset - HEADER as u64).saturating_add(to), ..piece };
        let mut from = HEADER as u64;
        while from < index.end {
            let mut bytes = vec![0; (index.end - from).min(BUFFER as u64) as usize];
            chapter.fill(&*file, &mut bytes, from)?;
            from += bytes.len() as u64;
            self.buffer.extend_from_slice(&bytes);
            if self.buffer.len() >= BUFFER {
                self.write_buffer()?;
            }
        }
        // The first section has begun with the draft.
        let begun = self.sections.last().map(|section| section.place);
        self.sections.extend(index.sections.iter().filter(|section| Some(section.place) > begun));
        self.pages.extend(index.pages.iter().map(|entry| PageEntry { piece: moved(entry.piece), ..*entry }));
        self.blocks.extend(index.blocks.iter().map(|entry| BlockEntry { piece: moved(entry.piece), ..*entry }));
        self.checkpoints.extend(index.checkpoints.iter().map(|(seq, block)| (*seq, block.saturating_add(blocks))));
        self.last = (chapter.to, chapter.time_ms);
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), PagesError> {
        let Some(first) = self.block_first.take() else { return Ok(()) };
        let block = std::mem::take(&mut self.block);
        let piece = match pack(&block) {
            Some(packed) => self.piece(&packed)?,
            None => self.piece(&block)?,
        };
        let min_time_ms = std::mem::replace(&mut self.block_min_ms, u64::MAX);
        self.blocks.push(BlockEntry { first, last: self.last.0, min_time_ms, piece, raw: block.len() as u32 });
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<Piece, PagesError> {
        let piece = Piece { offset: self.at + self.buffer.len() as u64, len: bytes.len() as u32, sum: crc32c::crc32c(bytes) };
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.write_buffer()?;
        }
        Ok(piece)
    }

    fn write_buffer(&mut self) -> Result<(), PagesError> {
        self.file.write_at(&self.buffer, self.at).map_err(PagesError::file(&self.temporary))?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes the chapter durable; it ends at the last record.
    pub fn finish(mut self, count_after: u32) -> Result<Chapter, PagesError> {
        self.end_block()?;
        self.pages.sort_unstable_by_key(|entry| (entry.page, entry.from));
        let raw = self.encode_index();
        let index = self.piece(&pack(&raw).unwrap_or_else(|| raw.clone()))?;
        self.write_buffer()?;
        let (to, time_ms) = self.last;
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(self.actor.bytes());
        let from = self.sections[0];
        for n in [from.place.0, to.0, from.time_ms, time_ms, index.offset] {
            header.extend(n.to_le_bytes());
        }
        for n in [from.count, count_after, index.len, index.sum, raw.len() as u32] {
            header.extend(n.to_le_bytes());
        }
        header.resize(HEADER - 4, 0);
        header.extend(crc32c::crc32c(&header).to_le_bytes());
        self.file.write_at(&header, 0).map_err(PagesError::file(&self.temporary))?;
        self.file.sync().map_err(PagesError::file(&self.temporary))?;
        let last_checkpoint = self.checkpoints.last().map_or(Seq(0), |(seq, _)| *seq);
        let name = Name { from: from.place, to, time_ms, last_checkpoint };
        let path = self.dir.join(name.format());
        self.disk.rename(&self.temporary, &path).map_err(PagesError::file(&path))?;
        if let Err(e) = self.disk.sync_dir(&self.dir) {
            // It is on nobody's shelf; if it cannot go now, it is a stray that harms nothing.
            let _ = self.disk.remove(&path);
            return Err(PagesError::File(self.dir, e));
        }
        Ok(Chapter::new(path, self.actor, name))
    }

    fn encode_index(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        for n in [self.sections.len(), self.pages.len(), self.blocks.len(), self.checkpoints.len()] {
            raw.extend((n as u32).to_le_bytes());
        }
        for section in &self.sections {
            raw.extend(section.place.0.to_le_bytes());
            raw.extend(section.time_ms.to_le_bytes());
            raw.extend(section.count.to_le_bytes());
        }
        let piece = |raw: &mut Vec<u8>, piece: Piece| {
            raw.extend(piece.offset.to_le_bytes());
            raw.extend(piece.len.to_le_bytes());
            raw.extend(piece.sum.to_le_bytes());
        };
        for entry in &self.pages {
            raw.extend(entry.page.to_le_bytes());
            raw.extend(entry.from.0.to_le_bytes());
            piece(&mut raw, entry.piece);
        }
        for entry in &self.blocks {
            raw.extend([entry.first.0, entry.last.0, entry.min_time_ms].into_iter().flat_map(u64::to_le_bytes));
            piece(&mut raw, entry.piece);
            raw.extend(entry.raw.to_le_bytes());
        }
        for (seq, block) in &self.checkpoints {
            raw.extend(seq.0.to_le_bytes());
            raw.extend(block.to_le_bytes());
        }
        raw
    }
}

fn scan_piece(rest: &mut Scan<'_>) -> Option<Piece> {
    Some(Piece { offset: rest.u64()?, len: rest.u32()?, sum: rest.u32()? })
}

impl Index {
    /// `begins` is what the header says of where the chapter begins.
    fn decode(raw: &[u8], begins: From, count_after: u32, end: u64) -> Option<Self> {
        let mut rest = Scan(raw);
        let [sections, pages, blocks, checkpoints] =
            [rest.u32()? as usize, rest.u32()? as usize, rest.u32()? as usize, rest.u32()? as usize];
        let parts = [(sections, SECTION_ENTRY), (pages, PAGE_ENTRY), (blocks, BLOCK_ENTRY), (checkpoints, CHECKPOINT_ENTRY)];
        let expected = parts.iter().try_fold(0usize, |sum, (n, each)| sum.checked_add(n.checked_mul(*each)?))?;
        if rest.0.len() != expected {
            return None;
        }
        let section = |rest: &mut Scan<'_>| Some(From { place: Seq(rest.u64()?), time_ms: rest.u64()?, count: rest.u32()? });
        let page = |rest: &mut Scan<'_>| Some(PageEntry { page: rest.u32()?, from: Seq(rest.u64()?), piece: scan_piece(rest)? });
        let block = |rest: &mut Scan<'_>| {
            let [first, last, min_time_ms] = [rest.u64()?, rest.u64()?, rest.u64()?];
            Some(BlockEntry { first: Seq(first), last: Seq(last), min_time_ms, piece: scan_piece(rest)?, raw: rest.u32()? })
        };
        let index = Self {
            sections: (0..sections).map(|_| section(&mut rest)).collect::<Option<_>>()?,
            count_after,
            pages: (0..pages).map(|_| page(&mut rest)).collect::<Option<_>>()?,
            blocks: (0..blocks).map(|_| block(&mut rest)).collect::<Option<_>>()?,
            checkpoints: (0..checkpoints).map(|_| Some((Seq(rest.u64()?), rest.u32()?))).collect::<Option<_>>()?,
            end,
        };
        index.makes_sense(begins).then_some(index)
    }

    fn makes_sense(&self, begins: From) -> bool {
        let pieces = self.pages.iter().map(|entry| entry.piece).chain(self.blocks.iter().map(|entry| entry.piece));
        let within = |piece: Piece| {
            let end = piece.offset.checked_add(u64::from(piece.len));
            piece.offset >= HEADER as u64 && end.is_some_and(|end| end <= self.end)
        };
        self.sections.first().is_some_and(|first| first.place == begins.place)
            && self.sections.is_sorted_by(|a, b| a.place < b.place)
            && self.pages.is_sorted_by_key(|entry| (entry.page, entry.from))
            && pieces.into_iter().all(within)
    }

    /// Where the chapter begins.
    pub fn first(&self) -> From {
        self.sections[0]
    }

    /// Time of the first records.
    pub fn begins_ms(&self) -> u64 {
        self.blocks.first().map_or(0, |block| block.min_time_ms)
    }

    /// The last section that begins at or before a place.
    pub fn section_of(&self, at: Seq) -> From {
        self.sections[self.sections.partition_point(|section| section.place <= at).saturating_sub(1)]
    }

    /// Numbers of pages between the shortest and the longest that the database was.
    pub fn ends(&self) -> std::ops::RangeInclusive<u32> {
        let counts = || self.sections.iter().map(|section| section.count).chain([self.count_after]);
        counts().min().unwrap_or(0).saturating_add(1)..=counts().max().unwrap_or(0)
    }
}

impl Chapter {
    pub fn new(path: PathBuf, actor: ActorId, name: Name) -> Self {
        let Name { from, to, time_ms, last_checkpoint } = name;
        Self { path, from, to, time_ms, last_checkpoint, actor, index: OnceLock::new() }
    }

    fn open(&self, disk: &dyn Disk) -> Result<Arc<dyn DiskFile>, PagesError> {
        disk.open(&self.path).map_err(PagesError::file(&self.path))
    }

    /// What the chapter has; read once.
    pub fn index(&self, disk: &dyn Disk) -> Result<Arc<Index>, PagesError> {
        if let Some(index) = self.index.get() {
            return Ok(index.clone());
        }
        let index = Arc::new(self.read_index(disk)?);
        Ok(self.index.get_or_init(|| index).clone())
    }

    fn read_index(&self, disk: &dyn Disk) -> Result<Index, PagesError> {
        let (file, mut header) = (self.open(disk)?, [0; HEADER]);
        self.fill(&*file, &mut header, 0)?;
        let (body, sum) = header.split_at(HEADER - 4);
        if crc32c::crc32c(body).to_le_bytes() != sum {
            return Err(PagesError::damaged(&self.path, 0, "the header's checksum does not match"));
        }
        let mut rest = Scan(body);
        let mut fields = || {
            let (magic, owner): ([u8; 8], [u8; 32]) = (rest.array()?, rest.array()?);
            let [from, to, from_time_ms, _time, offset] = [rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?];
            let [count, count_after, len, sum, raw] = [rest.u32()?, rest.u32()?, rest.u32()?, rest.u32()?, rest.u32()?];
            let matches = magic == *MAGIC && owner == *self.actor.bytes() && (Seq(from), Seq(to)) == (self.from, self.to);
            let begins = From { place: self.from, time_ms: from_time_ms, count };
            matches.then_some((Piece { offset, len, sum }, raw as usize, begins, count_after))
        };
        let (piece, raw, begins, count_after) =
            fields().ok_or_else(|| PagesError::damaged(&self.path, 0, "it is not the chapter that its name says"))?;
        let bytes = self.unpacked(&*file, piece, raw, "the index")?;
        Index::decode(&bytes, begins, count_after, piece.offset)
            .ok_or_else(|| PagesError::damaged(&self.path, piece.offset, "the index makes no sense"))
    }

    fn fill(&self, file: &dyn DiskFile, into: &mut [u8], offset: u64) -> Result<(), PagesError> {
        file.read_at(into, offset).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => PagesError::damaged(&self.path, offset, "the file ends before or within this part"),
            _ => PagesError::File(self.path.clone(), e),
        })
    }

    fn unpacked(&self, file: &dyn DiskFile, piece: Piece, raw: usize, what: &str) -> Result<Vec<u8>, PagesError> {
        let end = piece.offset.checked_add(u64::from(piece.len));
        if end.is_none_or(|end| file.len().is_ok_and(|len| end > len)) {
            return Err(PagesError::damaged(&self.path, piece.offset, format!("the file ends before or within {what}")));
        }
        let mut bytes = vec![0; piece.len as usize];
        self.fill(file, &mut bytes, piece.offset)?;
        if crc32c::crc32c(&bytes) != piece.sum {
            return Err(PagesError::damaged(&self.path, piece.offset, format!("the checksum of {what} does not match")));
        }
        if bytes.len() == raw {
            return Ok(bytes);
        }
        unpack(&bytes, raw).ok_or_else(|| PagesError::damaged(&self.path, piece.offset, format!("{what} does not decompress")))
    }

    /// The pages that its records change, as far as they existed before.
    pub fn pages(&self, disk: &dyn Disk) -> Result<Vec<u32>, PagesError> {
        let mut pages: Vec<u32> = self.index(disk)?.pages.iter().map(|entry| entry.page).collect();
        pages.dedup();
        Ok(pages)
    }

    /// A page as it was where a section begins, if the records from there on change it and it existed in the section in which they first do.
    pub fn page(&self, disk: &dyn Disk, place: Seq, page: u32, into: &mut Page) -> Result<bool, PagesError> {
        let index = self.index(disk)?;
        let found = index.pages.partition_point(|entry| (entry.page, entry.from) < (page, place));
        let Some(entry) = index.pages.get(found).filter(|entry| entry.page == page) else { return Ok(false) };
        self.piece(disk, entry, into).map(|()| true)
    }

    /// A page as it was where that very section begins, if the section's records change it and it existed.
    pub fn page_in(&self, disk: &dyn Disk, section: Seq, page: u32, into: &mut Page) -> Result<bool, PagesError> {
        let index = self.index(disk)?;
        let Ok(found) = index.pages.binary_search_by_key(&(page, section), |entry| (entry.page, entry.from)) else { return Ok(false) };
        self.piece(disk, &index.pages[found], into).map(|()| true)
    }

    fn piece(&self, disk: &dyn Disk, entry: &PageEntry, into: &mut Page) -> Result<(), PagesError> {
        let bytes = self.unpacked(&*self.open(disk)?, entry.piece, PAGE, &format!("page {}", entry.page))?;
        into.copy_from_slice(&bytes);
        Ok(())
    }

    /// Bytes of the file.
    pub fn bytes(&self, disk: &dyn Disk) -> Result<u64, PagesError> {
        self.open(disk)?.len().map_err(PagesError::file(&self.path))
    }

    /// The records after a place, up to and including another, in order, block by block.
    pub fn each_block(
        &self,
        disk: &dyn Disk,
        (after, to): (Seq, Seq),
        mut visit: impl FnMut(&[Record]) -> Result<(), PagesError>,
    ) -> Result<(), PagesError> {
        for block in self.index(disk)?.blocks.iter().filter(|block| block.last > after && block.first <= to) {
            let records = self.block(disk, block)?;
            let (from, end) = (records.partition_point(|record| record.seq <= after), records.partition_point(|record| record.seq <= to));
            visit(records.get(from..end).unwrap_or(&[]))?;
        }
        Ok(())
    }

    fn block(&self, disk: &dyn Disk, block: &BlockEntry) -> Result<Vec<Record>, PagesError> {
        let what = format!("records {} to {}", block.first, block.last);
        let bytes = self.unpacked(&*self.open(disk)?, block.piece, block.raw as usize, &what)?;
        let (mut rest, mut records) = (Scan(&bytes), Vec::new());
        while !rest.0.is_empty() {
            let record = unframe(&mut rest, self.actor);
            records.push(record.ok_or_else(|| PagesError::damaged(&self.path, block.piece.offset, format!("{what} make no sense")))?);
        }
        Ok(records)
    }

    /// The latest checkpoint that is not after a place.
    pub fn checkpoint(&self, disk: &dyn Disk, at: Seq) -> Result<Option<Record>, PagesError> {
        if self.last_checkpoint == Seq(0) {
            return Ok(None);
        }
        let index = self.index(disk)?;
        let Some((seq, block)) = index.checkpoints.iter().rev().find(|(seq, _)| *seq <= at) else { return Ok(None) };
        let Some(block) = index.blocks.get(*block as usize) else {
            return Err(PagesError::damaged(&self.path, 0, format!("checkpoint {seq} is in no block")));
        };
        Ok(self.block(disk, block)?.into_iter().find(|record| record.seq == *seq))
    }

    /// The last place whose record was not written after a time.
    pub fn place_at(&self, disk: &dyn Disk, time_ms: u64) -> Result<Option<Seq>, PagesError> {
        for block in self.index(disk)?.blocks.iter().rev().filter(|block| block.min_time_ms <= time_ms) {
            if let Some(record) = self.block(disk, block)?.iter().rev().find(|record| record.time_ms <= time_ms) {
                return Ok(Some(record.seq));
            }
        }
        Ok(None)
    }

    /// Reads everything; what is wrong, and what it costs.
    pub fn verify(&self, disk: &dyn Disk) -> Vec<(PagesError, String)> {
        let index = match self.index(disk) {
            Ok(index) => index,
            Err(e) => return vec![(e, format!("the past from place {} to {}", self.from, self.to))],
        };
        let mut faults = Vec::new();
        for (n, entry) in index.pages.iter().enumerate() {
            if let Err(e) = self.piece(disk, entry, &mut [0; PAGE]) {
                let later = index.pages.get(n + 1).filter(|later| later.page == entry.page);
                let until = later.map_or(self.to, |later| later.from);
                faults.push((e, format!("page {} as it was before place {until}", entry.page)));
            }
        }
        for block in &index.blocks {
            if let Err(e) = self.block(disk, block) {
                faults.push((e, format!("what happened from place {} to {}", block.first, block.last)));
            }
        }
        faults
    }
}
