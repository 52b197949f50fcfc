//! Warm isolates: which are alive, which one takes a request, and which one goes when room is needed.
//!
//! Room is found by second chance: isolates stand in a ring, each use marks one, and the hand takes the first idle one that was
//! not used since it came by last. That is near enough to "least recently used", and a use costs one store instead of a lock.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{Guest, PoolConfig};

/// An isolate in the pool.
pub(crate) struct Slot {
    pub guest: Arc<dyn Guest>,
    in_flight: AtomicUsize,
    used: AtomicBool,
    /// Where it is listed; it is taken off when it goes.
    home: Weak<Slots>,
    alive: Arc<AtomicUsize>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The isolates of one version.
#[derive(Default)]
pub(crate) struct Slots {
    list: Mutex<Vec<Arc<Slot>>>,
    /// Held while one is started, so that a burst of first requests does not start a burst of isolates.
    pub starting: tokio::sync::Mutex<()>,
}

/// A request's hold on an isolate.
pub(crate) struct Lease {
    slot: Arc<Slot>,
}

impl Lease {
    pub fn guest(&self) -> &Arc<dyn Guest> {
        &self.slot.guest
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.slot.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.slot.guest.alive()
            && let Some(home) = self.slot.home.upgrade()
        {
            home.remove(&self.slot);
        }
    }
}

/// What to do with a request.
pub(crate) enum Pick {
    /// This isolate takes it.
    Use(Lease),
    /// A new one should be started; meanwhile this one could take it, if there is one.
    Start(Option<Lease>),
    /// All are full and no more may be started.
    Full,
}

impl Slots {
    pub fn pick(&self, config: &PoolConfig) -> Pick {
        let mut list = self.list.lock();
        // One may have died between requests, in a timer.
        list.retain(|slot| slot.guest.alive());
        let least = list.iter().map(|slot| (slot.in_flight.load(Ordering::Relaxed), slot)).min_by_key(|(in_flight, _)| *in_flight);
        match least {
            Some((in_flight, slot)) if in_flight < config.requests_per_isolate => Pick::Use(lease(slot)),
            Some((in_flight, slot)) if in_flight < config.requests_per_isolate_max => {
                let lease = lease(slot);
                if list.len() < config.isolates_per_worker_max { Pick::Start(Some(lease)) } else { Pick::Use(lease) }
            }
            _ if list.len() < config.isolates_per_worker_max => Pick::Start(None),
            _ => Pick::Full,
        }
    }

    fn remove(&self, slot: &Arc<Slot>) {
        self.list.lock().retain(|other| !Arc::ptr_eq(other, slot));
    }
}

fn lease(slot: &Arc<Slot>) -> Lease {
    slot.in_flight.fetch_add(1, Ordering::Relaxed);
    slot.used.store(true, Ordering::Relaxed);
    Lease { slot: Arc::clone(slot) }
}

/// All isolates of deployed workers.
#[derive(Default)]
pub(crate) struct Pool {
    ring: Mutex<VecDeque<Weak<Slot>>>,
    alive: Arc<AtomicUsize>,
}

impl Pool {
    /// Isolates alive.
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    /// Makes room for one more. False: everything is in use.
    pub fn make_room(&self, most: usize) -> bool {
        while self.alive() >= most {
            if !self.evict_one() {
                return false;
            }
        }
        true
    }

    /// Takes a started guest in, in use by its first request.
    pub fn admit(&self, slots: &Arc<Slots>, guest: Arc<dyn Guest>) -> Lease {
        self.alive.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot {
            guest,
            in_flight: AtomicUsize::new(0),
            used: AtomicBool::new(true),
            home: Arc::downgrade(slots),
            alive: Arc::clone(&self.alive),
        });
        {
            let mut ring = self.ring.lock();
            // Isolates also go with their version, and then leave their place in the ring behind.
            if ring.len() > 2 * self.alive() + 64 {
                ring.retain(|place| place.strong_count() > 0);
            }
            ring.push_back(Arc::downgrade(&slot));
        }
        let mut list = slots.list.lock();
        let lease = lease(&slot);
        list.push(slot);
        lease
    }

    /// Ends one idle isolate.
    fn evict_one(&self) -> bool {
        let mut ring = self.ring.lock();
        // Twice around: the first pass may only take marks away.
        for _ in 0..2 * ring.len() {
            let Some(next) = ring.pop_front() else { return false };
            let Some(slot) = next.upgrade() else { continue };
            let busy = slot.in_flight.load(Ordering::Relaxed) > 0;
            if busy || slot.used.swap(false, Ordering::Relaxed) {
                ring.push_back(next);
                continue;
            }
            if let Some(home) = slot.home.upgrade() {
                let mut list = home.list.lock();
                // Leases are taken under this lock: what is idle now and off the list stays idle.
                if slot.in_flight.load(Ordering::Relaxed) > 0 {
                    ring.push_back(next);
                    continue;
                }
                list.retain(|other| !Arc::ptr_eq(other, &slot));
            }
            return true;
        }
        false
    }
}
