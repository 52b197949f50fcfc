//! Which pages of a copy-on-write mapping have become private, as the kernel knows it (`/proc/self/pagemap`).
//!
//! Driven by `instance.rs`, to find what differs from the image without comparing all of it. Linux only; elsewhere, or
//! where `/proc` is closed, it answers nothing and callers compare everything. Wasmtime's own use of page-table scans
//! missed pages that were swapped out; here a page counts as private unless the kernel says that it is absent or still
//! belongs to the file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::image::PAGE;

/// Bits of an entry (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;

/// Entries read at once: 16 MiB of memory.
const BATCH: usize = 4096;

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
}
