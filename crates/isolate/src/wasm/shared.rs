//! Pages that a Wasm memory shares with the guest's memory: a file without a name, mapped in both.
//!
//! Driven by `live`. A Wasm memory is private until the guest first asks for its buffer; then its contents move into a file,
//! which takes the place of its pages, and is mapped over a [`Place`] in the guest's memory as well. A slot of the guest's pool
//! that was mapped over is worn: clearing it would show the file, so a place is made anonymous memory again before the slot
//! goes back ([`Place`]'s drop).

use std::ffi::c_void;
use std::os::fd::OwnedFd;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

/// The pages of one Wasm memory.
#[derive(Debug)]
pub(super) struct Pages(OwnedFd);

/// A range of the guest's memory that pages can be mapped over: whole pages, never given back to the guest's allocator.
#[derive(Debug)]
pub(super) struct Place {
    address: usize,
    /// The address as the guest sees it.
    pub(super) offset: u32,
    pub(super) len: usize,
    /// Bytes that are mapped over.
    mapped: usize,
}

impl Pages {
    /// Moves a memory into a file of `most` bytes, `len` of which are in use now, and maps the file in its place.
    #[expect(unsafe_code, reason = "memory is mapped in place of other memory")]
    pub(super) fn replace(base: *mut u8, len: usize, most: usize) -> rustix::io::Result<Self> {
        let file = rustix::fs::memfd_create("skep-wasm", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, most as u64)?;
        let mut done = 0;
        while done < len {
            // SAFETY: the memory is `len` bytes long, is not written while this reads (its store is borrowed by the caller), and
            // bytes have no invalid values.
            let rest = unsafe { std::slice::from_raw_parts(base.add(done), len - done) };
            // Pages of zeros stay holes of the file.
            let chunk = &rest[..rest.len().min(64 << 10)];
            if chunk.iter().any(|b| *b != 0) {
                let mut at = 0;
                while at < chunk.len() {
                    at += rustix::io::pwrite(&file, &chunk[at..], (done + at) as u64)?;
                }
            }
            done += chunk.len();
        }
        // SAFETY: `[base, base + most)` is the reservation of one Wasm memory, which the caller owns: reserved up to 4 GiB and never
        // smaller than its maximum. The file holds the same bytes; beyond `len` it is inaccessible as before, until Wasmtime
        // makes it accessible when the memory grows, in place. The mapping ends with the memory.
        unsafe {
            rustix::mm::mmap(base.cast(), most, ProtFlags::empty(), MapFlags::SHARED | MapFlags::FIXED, &file, 0)?;
            if len > 0 {
                rustix::mm::mprotect(base.cast(), len, MprotectFlags::READ | MprotectFlags::WRITE)?;
            }
        }
        Ok(Self(file))
    }
}

impl Place {
    /// A place at an address within the guest's memory.
    pub(super) fn new(address: usize, offset: u32, len: usize) -> Self {
        Self { address, offset, len, mapped: 0 }
    }

    /// Maps the first `len` bytes of `pages` over the place.
    #[expect(unsafe_code, reason = "memory is mapped in place of other memory")]
    pub(super) fn map(&mut self, pages: &Pages, len: usize) -> rustix::io::Result<()> {
        let len = len.min(self.len);
        if len <= self.mapped {
            return Ok(());
        }
        // SAFETY: the range lies within the guest's memory, which outlives this place (see `Live`), was grown for it alone and is
        // not otherwise used; that its contents change is what is meant.
        unsafe {
            let at = self.address as *mut c_void;
            rustix::mm::mmap(at, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::FIXED, &pages.0, 0)?;
        }
        self.mapped = len;
        Ok(())
    }

    /// Makes it fresh memory of the guest again, which reads as zero.
    pub(super) fn clear(&mut self) {
        if self.mapped == 0 {
            return;
        }
        #[expect(unsafe_code, reason = "memory is mapped in place of other memory")]
        // SAFETY: as in `map`; the range is mapped over as a whole, and what takes its place is what the pool had there.
        let cleared = unsafe {
            let at = self.address as *mut c_void;
            rustix::mm::mmap_anonymous(at, self.mapped, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED)
        };
        if cleared.is_err() {
            // The kernel is out of mappings. The slot must not go to another tenant as it is, and it cannot be kept from the pool.
            tracing::error!("a memory slot cannot be cleared");
            std::process::abort();
        }
        self.mapped = 0;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clear();
    }
}
