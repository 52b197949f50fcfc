//! Which pages of a copy-on-write mapping have become private, as the kernel knows it (`/proc/self/pagemap`).
//!
//! Driven by `instance.rs`, to find what differs from the image without comparing all of it. Linux only; elsewhere, or
//! where `/proc` is closed, it answers nothing and callers compare everything. Wasmtime's own use of page-table scans
//! missed pages that were swapped out; here a page counts as private unless the kernel says that it is absent or still
//! belongs to the file.

use std::ffi::c_void;
use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};

use crate::image::PAGE;

/// Bits of an entry (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;

/// Entries read at once: 16 MiB of memory.
const BATCH: usize = 4096;

/// Ranges asked for at once: more than one isolate usually has.
const RANGES: usize = 128;

/// The page map of this process.
#[derive(Debug)]
pub(crate) struct Pagemap(Option<File>);

impl Pagemap {
    pub(crate) fn open() -> Self {
        Self(File::open("/proc/self/pagemap").ok())
    }

    /// Indexes of the pages of `[address, address + len)` that may differ from what was mapped there; `None` if unknown.
    pub(crate) fn private_pages(&self, address: usize, len: usize) -> Option<Vec<u32>> {
        let file = self.0.as_ref()?;
        scanned(file, address, len).or_else(|| listed(file, address, len))
    }
}

/// By asking for the private ranges (`PAGEMAP_SCAN`, Linux 6.7): half the time of reading every entry.
fn scanned(file: &File, address: usize, len: usize) -> Option<Vec<u32>> {
    let mut found = Vec::with_capacity(RANGES);
    let mut ranges = [Range::default(); RANGES];
    let end = (address + len) as u64;
    let mut from = address as u64;
    while from < end {
        let (n, walked) = scan(file, from..end, &mut ranges)?;
        for range in &ranges[..n] {
            let page = |at: u64| ((at - address as u64) / PAGE as u64) as u32;
            found.extend(page(range.start)..page(range.end));
        }
        if walked <= from {
            return None;
        }
        from = walked;
    }
    Some(found)
}

/// By reading the entry of every page.
fn listed(file: &File, address: usize, len: usize) -> Option<Vec<u32>> {
    let pages = len / PAGE;
    let mut found = Vec::new();
    let mut buffer = [0; BATCH * 8];
    let mut first = 0;
    while first < pages {
        let n = BATCH.min(pages - first);
        let entries = &mut buffer[..n * 8];
        file.read_exact_at(entries, ((address / PAGE + first) * 8) as u64).ok()?;
        for (i, entry) in entries.as_chunks::<8>().0.iter().enumerate() {
            let entry = u64::from_le_bytes(*entry);
            let absent = entry & (PRESENT | SWAPPED) == 0;
            if !absent && entry & OF_FILE == 0 {
                found.push((first + i) as u32);
            }
        }
        first += n;
    }
    Some(found)
}

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Range {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// Categories of linux/fs.h (`PAGE_IS_…`).
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;

/// One scan: how many ranges it found, and how far it came.
fn scan(file: &File, of: std::ops::Range<u64>, ranges: &mut [Range]) -> Option<(usize, u64)> {
    let mut arg = Scan {
        size: size_of::<Scan>() as u64,
        start: of.start,
        end: of.end,
        vec: ranges.as_mut_ptr() as u64,
        vec_len: ranges.len() as u64,
        category_inverted: IS_FILE,
        category_mask: IS_FILE,
        category_anyof_mask: IS_PRESENT | IS_SWAPPED,
        return_mask: IS_PRESENT | IS_SWAPPED,
        ..Scan::default()
    };
    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    // SAFETY: `arg` is the structure this call takes, of the size it says; `vec` points to `vec_len` ranges, borrowed
    // mutably until the call returns; nothing else is written.
    let n = unsafe { rustix::ioctl::ioctl(file, PagemapScan(&mut arg)) }.ok()?;
    Some((n.min(ranges.len()), arg.walk_end))
}

struct PagemapScan<'a>(&'a mut Scan);

#[expect(unsafe_code, reason = "the trait of a system call without a safe wrapper")]
// SAFETY: the opcode is `PAGEMAP_SCAN`, `_IOWR('f', 16, struct pm_scan_arg)`; the pointer is to that structure; the result
// is the number of ranges that were written.
unsafe impl Ioctl for PagemapScan<'_> {
    type Output = usize;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<Scan>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<usize> {
        Ok(out as usize)
    }
}

#[cfg(test)]
impl Pagemap {
    /// Both ways of asking, where the kernel has both (for tests).
    pub(crate) fn both(&self, address: usize, len: usize) -> Option<[Vec<u32>; 2]> {
        let file = self.0.as_ref()?;
        Some([scanned(file, address, len)?, listed(file, address, len)?])
    }
}
