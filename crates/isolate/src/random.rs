//! Randomness from the kernel.

/// Fills `bytes`. The kernel's generator cannot fail once it is seeded, which it is before any user program runs.
pub(crate) fn fill(bytes: &mut [u8]) {
    let mut at = 0;
    while at < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[at..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => at += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => unreachable!("getrandom failed: {e}"),
        }
    }
}

/// A random number.
pub(crate) fn seed() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
