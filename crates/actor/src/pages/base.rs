//! A base file: one database as of a place, page by page, each with its checksum.
//!
//! Driven by `shelf` (reading), `fold` (the only writer of an existing base) and `inspect`. Layout: two copies of the header at 0 and 4096,
//! then from 8192 on a slot for each page: checksum, page number, content. A slot of zeros holds nothing yet: a child reads that page
//! from its parent. The copies of the header are written one after the other with a sync between, so that one of them is always whole.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use skep_id::ActorId;

use super::{
    PAGE, Page, PagesError,
    commit::PAGES_MAX,
    disk::{Disk, DiskFile},
    scan::Scan,
};
use crate::record::{Epoch, Seq};

const MAGIC: &[u8; 8] = b"SKEPBAS1";
const HEADER: usize = 512;
const COPIES: [u64; 2] = [0, 4096];
const SLOTS: u64 = 8192;
pub(super) const SLOT: usize = 8 + PAGE;

/// Where a child's missing pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub parent: ActorId,
    pub at: Seq,
    /// Pages up to this number may be the parent's; all after it are the child's.
    pub count: u32,
}

/// What the base is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Counts the headers of this file; the later one of two valid copies is in force.
    pub generation: u64,
    /// The pages are as of this place …
    pub place: Seq,
    /// … whose record was written in this epoch …
    pub epoch: Epoch,
    /// … at this time.
    pub time_ms: u64,
    /// The log's end when the base was brought here.
    pub head: Seq,
    /// Pages that the database has.
    pub count: u32,
    /// The file has at least this many slots.
    pub extent: u32,
    pub origin: Option<Origin>,
}

impl Header {
    /// Of a base that nothing was folded into.
    pub fn new() -> Self {
        Self { generation: 0, place: Seq(0), epoch: Epoch(0), time_ms: 0, head: Seq(0), count: 0, extent: 0, origin: None }
    }

    fn encode(&self, actor: ActorId) -> [u8; HEADER] {
        let origin = self.origin.unwrap_or(Origin { parent: ActorId::new([0; 32]), at: Seq(0), count: 0 });
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(actor.bytes());
        for n in [self.generation, self.place.0, self.epoch.0, self.time_ms, self.head.0] {
            bytes.extend(n.to_le_bytes());
        }
        for n in [self.count, self.extent, u32::from(self.origin.is_some()), origin.count] {
            bytes.extend(n.to_le_bytes());
        }
        bytes.extend_from_slice(origin.parent.bytes());
        bytes.extend(origin.at.0.to_le_bytes());
        let mut header = [0; HEADER];
        header[..bytes.len()].copy_from_slice(&bytes);
        let sum = crc32c::crc32c(&header[..HEADER - 4]);
        header[HEADER - 4..].copy_from_slice(&sum.to_le_bytes());
        header
    }

    fn decode(bytes: &[u8; HEADER], actor: ActorId) -> Result<Self, &'static str> {
        let (body, sum) = bytes.split_at(HEADER - 4);
        if crc32c::crc32c(body).to_le_bytes() != sum {
            return Err("the header's checksum does not match");
        }
        let mut rest = Scan(body);
        let mut fields = || {
            let (magic, owner): ([u8; 8], [u8; 32]) = (rest.array()?, rest.array()?);
            let [generation, place, epoch, time_ms, head] = [rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?];
            let [count, extent, has_origin, floor] = [rest.u32()?, rest.u32()?, rest.u32()?, rest.u32()?];
            let origin = Origin { parent: ActorId::new(rest.array()?), at: Seq(rest.u64()?), count: floor };
            let header = Self {
                generation,
                place: Seq(place),
                epoch: Epoch(epoch),
                time_ms,
                head: Seq(head),
                count,
                extent,
                origin: (has_origin == 1).then_some(origin),
            };
            Some((magic, owner, header))
        };
        match fields() {
            Some((magic, _, _)) if magic != *MAGIC => Err("it is not a base file of a known version"),
            Some((_, owner, _)) if owner != *actor.bytes() => Err("it belongs to another actor"),
            Some((_, _, header)) if header.count.max(header.extent) <= PAGES_MAX => Ok(header),
            _ => Err("the header makes no sense"),
        }
    }
}

/// An open base.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub path: PathBuf,
    actor: ActorId,
    file: Arc<dyn DiskFile>,
    pub header: Header,
    /// The copy of the header to write first: the one that is not the only good one.
    first: usize,
    /// Copies of the header that cannot be read, and why.
    pub faults: Vec<(u64, &'static str)>,
}

fn offset(page: u32) -> u64 {
    SLOTS + u64::from(page.saturating_sub(1)) * SLOT as u64
}

fn checksum(page: u32, content: &Page) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&page.to_le_bytes()), content)
}

impl Base {
    /// Opens a base; `None` if there is none.
    pub fn open(disk: &dyn Disk, path: &Path, actor: ActorId) -> Result<Option<Self>, PagesError> {
        let file = match disk.open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(PagesError::file(path))?,
        };
        let mut copies = Vec::with_capacity(2);
        for at in COPIES {
            let mut bytes = [0; HEADER];
            copies.push(match file.read_at(&mut bytes, at) {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err("the file ends within the header"),
                Err(e) => return Err(PagesError::File(path.to_owned(), e)),
                Ok(()) => Header::decode(&bytes, actor),
            });
        }
        let faults = copies.iter().zip(COPIES).filter_map(|(copy, at)| copy.err().map(|why| (at, why))).collect();
        let (header, first) = match (copies[0], copies[1]) {
            (Ok(a), Ok(b)) if b.generation > a.generation => (b, 0),
            (Ok(a), Ok(b)) => (a, usize::from(a.generation > b.generation)),
            (Ok(a), Err(_)) => (a, 1),
            (Err(_), Ok(b)) => (b, 0),
            (Err(why), Err(_)) => return Err(PagesError::damaged(path, 0, why)),
        };
        let base = Self { path: path.to_owned(), actor, file, header, first, faults };
        base.check_length()?;
        Ok(Some(base))
    }

    /// A child's missing pages are its parent's: those that the end of the file took must not pass for such.
    fn check_length(&self) -> Result<(), PagesError> {
        let (len, least) = (self.file.len().map_err(PagesError::file(&self.path))?, offset(self.header.extent.saturating_add(1)));
        if self.header.origin.is_some() && self.header.extent > 0 && len < least {
            return Err(PagesError::damaged(&self.path, len, format!("the file ends here instead of at {least}")));
        }
        Ok(())
    }

    /// A file whose headers cannot be read, as what it is known to be otherwise.
    pub fn headless(disk: &dyn Disk, path: &Path, actor: ActorId, header: Header) -> Result<Self, PagesError> {
        let file = disk.open(path).map_err(PagesError::file(path))?;
        Ok(Self { path: path.to_owned(), actor, file, header, first: 0, faults: Vec::new() })
    }

    /// A new file; it is no base before a header was written.
    pub fn create(disk: &dyn Disk, path: &Path, actor: ActorId) -> Result<Self, PagesError> {
        let file = disk.create(path).map_err(PagesError::file(path))?;
        Ok(Self { path: path.to_owned(), actor, file, header: Header::new(), first: 0, faults: Vec::new() })
    }

    /// A page as it is in its slot; `None` when the slot holds nothing and need not.
    pub fn read(&self, page: u32, into: &mut Page) -> Result<bool, PagesError> {
        let (at, mut slot) = (offset(page), [0; SLOT]);
        let may_lack = self.header.origin.is_some_and(|origin| page <= origin.count);
        match self.file.read_at(&mut slot, at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return if may_lack && page > self.header.extent {
                    Ok(false)
                } else {
                    Err(PagesError::damaged(&self.path, at, format!("the file ends before or within page {page}")))
                };
            }
            other => other.map_err(PagesError::file(&self.path))?,
        }
        let mut rest = Scan(&slot);
        let (Some(sum), Some(number), Some(content)) = (rest.u32(), rest.u32(), rest.array::<PAGE>()) else { return Ok(false) };
        if sum == checksum(page, &content) && number == page {
            *into = content;
            return Ok(true);
        }
        if may_lack && slot.iter().all(|byte| *byte == 0) {
            return Ok(false);
        }
        Err(PagesError::damaged(&self.path, at, format!("the checksum of page {page} does not match")))
    }

    pub fn write(&self, page: u32, content: &Page) -> Result<(), PagesError> {
        let mut slot = [0; SLOT];
        slot[..4].copy_from_slice(&checksum(page, content).to_le_bytes());
        slot[4..8].copy_from_slice(&page.to_le_bytes());
        slot[8..].copy_from_slice(content);
        self.file.write_at(&slot, offset(page)).map_err(PagesError::file(&self.path))
    }

    pub fn sync(&self) -> Result<(), PagesError> {
        self.file.sync().map_err(PagesError::file(&self.path))
    }

    /// Puts a header in force, durably.
    pub fn write_header(&mut self, header: Header) -> Result<(), PagesError> {
        let header = Header { generation: self.header.generation + 1, ..header };
        let bytes = header.encode(self.actor);
        self.file.write_at(&bytes, COPIES[self.first]).map_err(PagesError::file(&self.path))?;
        self.sync()?;
        self.header = header;
        self.faults.clear();
        // The header is in force: what asked for it is done, whatever becomes of the other copy, which is the first to be written the next time.
        self.first = 1 - self.first;
        if let Err(error) = self.file.write_at(&bytes, COPIES[self.first]) {
            tracing::warn!(file = %self.path.display(), %error, "a copy of the header could not be written");
            self.faults.push((COPIES[self.first], "it could not be written"));
        }
        Ok(())
    }

    /// Makes sure that the header in force is on the disk, and not only read: a sync may have failed before the process that asked for it ended, and the
    /// next one does not bring what that one did not. The copy that was read is written again first, so that the other one, of an earlier
    /// place perhaps, is whole if this is cut off.
    pub fn confirm(&mut self) -> Result<(), PagesError> {
        if self.faults.is_empty() {
            self.first = 1 - self.first;
        }
        self.write_header(self.header)
    }

    /// Makes a new file a base, durably, with all pages that were written.
    pub fn complete(&mut self, header: Header) -> Result<(), PagesError> {
        self.header = Header { generation: 1, ..header };
        let bytes = self.header.encode(self.actor);
        for at in COPIES {
            self.file.write_at(&bytes, at).map_err(PagesError::file(&self.path))?;
        }
        self.sync()
    }

    /// Gives back the room of slots after the last one. Only for what no view reads.
    pub fn shorten(&self) -> Result<(), PagesError> {
        let len = offset(self.header.extent.saturating_add(1));
        if self.file.len().map_err(PagesError::file(&self.path))? > len {
            self.file.set_len(len).map_err(PagesError::file(&self.path))?;
        }
        Ok(())
    }
}
