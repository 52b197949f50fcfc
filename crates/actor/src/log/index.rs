//! Where the records of each actor are, as far as they have not been trimmed.
//!
//! In memory only; built when the log is opened, kept by who writes and trims. An actor whose records have all been trimmed costs a row
//! of some 130 bytes. It is not: durable; `format::Heads` is what is written of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use skep_id::ActorId;

use super::{
    Head,
    format::{KnownHead, Spot},
    order::Tip,
};
use crate::record::{Epoch, Seq};

/// Where one record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Segments count from 1; 0 says that the record is lost.
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) body_bytes: u32,
}

impl Entry {
    pub(crate) const LOST: Self = Self { segment: 0, offset: 0, body_bytes: 0 };

    pub(crate) fn is_lost(self) -> bool {
        self.segment == 0
    }
}

/// Which damage took records away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hurt {
    pub(crate) file: Arc<str>,
    pub(crate) offset: u64,
    pub(crate) why: String,
}

/// An actor that was forgotten, as it has to be known until that is durable: a crash before may bring it back.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    pub(crate) tip: Tip,
    pub(crate) trimmed: Seq,
    pub(crate) since: Spot,
    pub(crate) entries: Vec<Entry>,
}

/// One actor.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Durable.
    pub(crate) tip: Tip,
    /// With what is queued. While the log is being read at its opening: what the file of heads promises.
    pub(crate) queued: Tip,
    pub(crate) trimmed: Seq,
    /// Begins at `trimmed.next()` and ends at `tip.seq`.
    pub(crate) index: VecDeque<Entry>,
    /// Behind the mark that an earlier one was forgotten. Known as long as that mark is in the log, also when nothing else is: what stands before
    /// it is not of the one that comes next.
    pub(crate) since: Spot,
    /// Tells an actor from an earlier one of the same id that was forgotten, while records of that are still on their way.
    pub(crate) life: u32,
    /// The one of the same id before it, until the mark that it is forgotten is durable.
    pub(crate) leaving: Option<Box<Leaving>>,
    pub(crate) hurt: Option<Box<Hurt>>,
}

impl State {
    pub(crate) fn known(head: &KnownHead) -> Self {
        let promised = Tip { epoch: head.epoch, seq: head.seq };
        Self {
            tip: Tip { epoch: head.epoch, seq: head.trimmed },
            queued: promised,
            trimmed: head.trimmed,
            since: head.since,
            ..Self::default()
        }
    }

    pub(crate) fn head(&self) -> Head {
        if self.tip == Tip::default() {
            return Head::default();
        }
        Head { epoch: self.tip.epoch, seq: self.tip.seq, first: self.trimmed.next() }
    }

    /// For the file of heads; `None` when nothing of it needs to be known.
    pub(crate) fn to_known(&self, actor: ActorId) -> Option<KnownHead> {
        let (tip, trimmed, since) = match &self.leaving {
            Some(old) => (old.tip, old.trimmed, old.since),
            None => (self.tip, self.trimmed, self.since),
        };
        (tip != Tip::default()).then_some(KnownHead { actor, epoch: tip.epoch, seq: tip.seq, trimmed, since })
    }

    /// Begins another life of the same id.
    pub(crate) fn forget(&mut self, life: u32) {
        let mut old = std::mem::replace(self, Self { life, ..Self::default() });
        let mut leaving = old
            .leaving
            .take()
            .unwrap_or_else(|| Box::new(Leaving { tip: old.tip, trimmed: old.trimmed, since: old.since, entries: Vec::new() }));
        leaving.entries.extend(old.index);
        self.leaving = Some(leaving);
    }

    pub(crate) fn push(&mut self, epoch: Epoch, seq: Seq, entry: Entry) {
        self.tip = Tip { epoch, seq };
        self.index.push_back(entry);
    }

    /// The entries of a range of places, which are all there.
    pub(crate) fn entries(&self, after: Seq, to: Seq) -> impl Iterator<Item = (Seq, Entry)> {
        let from = (after.0.saturating_sub(self.trimmed.0)) as usize;
        let count = to.0.saturating_sub(after.0) as usize;
        self.index.iter().skip(from).take(count).enumerate().map(move |(n, entry)| (Seq(after.0 + 1 + n as u64), *entry))
    }

    /// Gives up the records up to `to`.
    pub(crate) fn trim(&mut self, to: Seq) -> Vec<Entry> {
        let to = to.min(self.tip.seq);
        let count = to.0.saturating_sub(self.trimmed.0) as usize;
        if count == 0 {
            return Vec::new();
        }
        self.trimmed = to;
        let gone = self.index.drain(..count.min(self.index.len())).collect();
        self.settle();
        gone
    }

    /// Gives up the records after `seq`, which is not before what was trimmed. The epoch in force stays.
    pub(crate) fn cut(&mut self, seq: Seq) -> Vec<Entry> {
        let seq = seq.max(self.trimmed);
        let keep = (seq.0 - self.trimmed.0) as usize;
        let gone = self.index.drain(keep.min(self.index.len())..).collect();
        self.tip.seq = seq.min(self.tip.seq);
        self.settle();
        gone
    }

    /// The first place that is lost.
    pub(crate) fn first_lost(&self) -> Option<Seq> {
        self.index.iter().position(|entry| entry.is_lost()).map(|n| Seq(self.trimmed.0 + 1 + n as u64))
    }

    fn settle(&mut self) {
        if self.index.is_empty() || (self.hurt.is_some() && self.first_lost().is_none()) {
            self.hurt = None;
        }
        if self.index.capacity() > 32 && self.index.len() * 4 < self.index.capacity() {
            self.index.shrink_to_fit();
        }
    }
}

/// All actors, behind enough locks that those who append do not wait for each other.
#[derive(Debug)]
pub(crate) struct Index(Box<[Mutex<HashMap<ActorId, State>>]>);

const SHARDS: usize = 64;

impl Index {
    pub(crate) fn new(states: HashMap<ActorId, State>) -> Self {
        let mut shards: Vec<HashMap<ActorId, State>> = (0..SHARDS).map(|_| HashMap::with_capacity(states.len() / SHARDS)).collect();
        for (actor, state) in states {
            shards[shard(&actor)].insert(actor, state);
        }
        Self(shards.into_iter().map(Mutex::new).collect())
    }

    pub(crate) fn of(&self, actor: &ActorId) -> MutexGuard<'_, HashMap<ActorId, State>> {
        self.0[shard(actor)].lock()
    }

    /// Everything at once: nothing is queued as long as this is held.
    pub(crate) fn all(&self) -> Vec<MutexGuard<'_, HashMap<ActorId, State>>> {
        self.0.iter().map(Mutex::lock).collect()
    }

    pub(crate) fn get<'a>(all: &'a mut [MutexGuard<'_, HashMap<ActorId, State>>], actor: &ActorId) -> Option<&'a mut State> {
        all[shard(actor)].get_mut(actor)
    }

    /// Removes an actor of which nothing was ever written.
    pub(crate) fn drop_if_empty(all: &mut [MutexGuard<'_, HashMap<ActorId, State>>], actor: &ActorId, life: u32) {
        let states = &mut all[shard(actor)];
        let empty =
            |state: &State| state.life == life && state.tip == Tip::default() && state.queued == state.tip && state.leaving.is_none();
        if states.get(actor).is_some_and(|state| empty(state) && state.since == Spot::default()) {
            states.remove(actor);
        }
    }

    /// Removes what was only known because of marks in segments that are gone.
    pub(crate) fn drop_marks(&self, gone: &[u32]) {
        let needed = |state: &mut State| {
            let bare = state.tip == Tip::default() && state.queued == state.tip && state.leaving.is_none();
            !bare || !gone.contains(&state.since.segment)
        };
        for shard in &self.0 {
            shard.lock().retain(|_, state| needed(state));
        }
    }

    /// Calls for each actor, one lock at a time.
    pub(crate) fn each(&self, mut visit: impl FnMut(ActorId, &State)) {
        for shard in &self.0 {
            shard.lock().iter().for_each(|(actor, state)| visit(*actor, state));
        }
    }
}

/// The first bytes of an id: they are a hash or random. Who picks ids that share a shard makes appends of those wait for each other.
fn shard(actor: &ActorId) -> usize {
    let bytes = actor.bytes();
    (bytes[0] ^ bytes[1].rotate_left(3) ^ bytes[31]) as usize % SHARDS
}
