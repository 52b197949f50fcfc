//! Bytes that the host holds on a guest's behalf: what it sends and nobody has taken yet, what waits to be carried out.
//!
//! They count against the isolate's memory limit like its own memory. A guest that asks for more is refused when it asks
//! (`State::room`); from then on a [`Charge`] travels with the bytes, wherever they go, and ends when they do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// The account of one isolate, or of one loader's code; a cheap clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<AtomicUsize>);

impl Held {
    /// Bytes held now.
    pub(crate) fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts `n` bytes until the charge is dropped.
    pub(crate) fn charge(&self, n: usize) -> Charge {
        self.0.fetch_add(n, Ordering::Relaxed);
        Charge { held: self.clone(), n }
    }

    /// The same bytes, counted until their last clone is dropped.
    pub(crate) fn bytes(&self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        match bytes.as_ref().len() {
            0 => Bytes::new(),
            n => Bytes::from_owner(Charged { bytes, _charge: self.charge(n) }),
        }
    }
}

/// Some bytes on an account.
#[derive(Debug)]
pub(crate) struct Charge {
    held: Held,
    n: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.n, Ordering::Relaxed);
    }
}

struct Charged<B> {
    bytes: B,
    _charge: Charge,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Charged<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_ends_with_the_last_clone() {
        let held = Held::default();
        let whole = held.bytes(vec![7; 1_000]);
        let part = whole.slice(10..20);
        drop(whole);
        assert_eq!((held.now(), part.len()), (1_000, 10));
        drop(part);
        assert_eq!(held.now(), 0);
    }
}
