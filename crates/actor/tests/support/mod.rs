//! What the tests of actors stand on: a bank as a guest written in Rust, a log that fails as disks do, a clock that jumps.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod disk;
pub mod guest;
pub mod linear;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use skep_actor::{Clock, Config, Place};
use skep_id::ActorId;

/// A clock that stands where it is put.
#[derive(Clone, Debug)]
pub struct Hand(pub Arc<AtomicU64>);

impl Hand {
    pub fn at(ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(ms)))
    }

    pub fn set(&self, ms: u64) {
        self.0.store(ms, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub fn id(n: u64) -> ActorId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    ActorId::new(bytes)
}

pub fn place() -> Place {
    Place { namespace: "bank/Account".into(), name: None, parent: None }
}

pub fn config(dir: &std::path::Path) -> Config {
    Config { dir: dir.to_owned(), idle_ms: 200, ..Config::default() }
}

/// Numbers from a seed: the same every time.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most.max(1)
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
