//! The local log on the simulated disk against a pure model of what a log is.
//!
//! The oracle: what is found after a crash is, for each actor, everything that was acknowledged and perhaps more of what was asked for, without a gap
//! and in order; epochs never interleave.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;
use skep_id::ActorId;

use super::super::{
    AppendError, DurableLog, Head, LocalLog, Settings, Ticket,
    conformance::actor,
    simulated::{Dice, SimulatedDisk},
    writer::Writer,
};
use crate::record::{Epoch, Record, RecordKind, Seq};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Op {
    Append {
        actor: u32,
        size: usize,
        zeros: bool,
    },
    Fence {
        actor: u32,
    },
    /// An append of one who lost count, or his actor.
    Stray {
        actor: u32,
        epoch: u64,
        seq: u64,
    },
    Trim {
        actor: u32,
        back: u64,
    },
    Forget {
        actor: u32,
    },
    Write,
    Upkeep,
    Prepare,
    Full,
    SyncFails {
        calls: u64,
    },
    CutIn {
        calls: u64,
    },
    PowerCycle,
    Kill,
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let actor = || 0u32..5;
    prop_oneof![
        12 => (actor(), prop_oneof![3 => 0usize..300, 1 => 0usize..9_000], any::<bool>()).prop_map(|(actor, size, zeros)| Op::Append { actor, size, zeros }),
        4 => actor().prop_map(|actor| Op::Fence { actor }),
        1 => (actor(), 0u64..4, 0u64..9).prop_map(|(actor, epoch, seq)| Op::Stray { actor, epoch, seq }),
        3 => (actor(), 0u64..4).prop_map(|(actor, back)| Op::Trim { actor, back }),
        1 => actor().prop_map(|actor| Op::Forget { actor }),
        10 => Just(Op::Write),
        3 => Just(Op::Upkeep),
        1 => Just(Op::Prepare),
        1 => Just(Op::Full),
        1 => (0u64..3).prop_map(|calls| Op::SyncFails { calls }),
        2 => (0u64..12).prop_map(|calls| Op::CutIn { calls }),
        1 => Just(Op::PowerCycle),
        1 => Just(Op::Kill),
        1 => Just(Op::Close),
    ]
}

/// One life of one actor: from its first fence until it is forgotten.
#[derive(Clone, Debug, Default)]
struct Life {
    /// Asked for, and not refused.
    records: Vec<Record>,
    acknowledged: usize,
}

#[derive(Debug, Default)]
struct Modelled {
    /// The last one is in force.
    lives: Vec<Life>,
    trimmed: u64,
}

impl Modelled {
    fn life(&mut self) -> &mut Life {
        if self.lives.is_empty() {
            self.lives.push(Life::default());
        }
        let last = self.lives.len() - 1;
        &mut self.lives[last]
    }

    /// Whether a crash may leave this: the life in force or, if nothing of it was acknowledged, one that was forgotten before it.
    fn may_be(&self, head: Head, found: &[Record]) -> bool {
        let possible = |life: &Life| {
            let there = head.seq.0 as usize;
            let first = if head.seq == Seq(0) { 0 } else { head.first.0 as usize - 1 };
            life.acknowledged <= there && there <= life.records.len() && life.records[first..there] == *found
        };
        let mut lives = self.lives.iter().rev();
        let bare = head == Head::default() && found.is_empty();
        loop {
            match lives.next() {
                None => return bare,
                Some(life) if possible(life) => return true,
                Some(life) if life.acknowledged > 0 => {
                    return bare && self.lives.len() > 1 && self.lives[self.lives.len() - 1].acknowledged == 0;
                }
                Some(_) => {}
            }
        }
    }
}

struct World {
    disk: SimulatedDisk,
    log: Option<(LocalLog, Writer)>,
    model: BTreeMap<ActorId, Modelled>,
    waiting: Vec<(ActorId, usize, usize, Ticket)>,
    dice: Dice,
}

fn settings() -> Settings {
    Settings { segment_bytes: 8 << 10, log_bytes: 32 << 10, queue_bytes: 1 << 20, fill: false, ..Settings::default() }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world =
            Self { disk: SimulatedDisk::new(seed), log: None, model: BTreeMap::new(), waiting: Vec::new(), dice: Dice::new(!seed) };
        world.open();
        world
    }

    fn log(&mut self) -> &mut (LocalLog, Writer) {
        self.log.as_mut().unwrap()
    }

    fn open(&mut self) {
        loop {
            match LocalLog::assemble(std::sync::Arc::new(self.disk.clone()), settings(), Some(0x5EED_5EED_5EED_5EED)) {
                Ok(opened) => {
                    self.log = Some(opened);
                    return;
                }
                // It went out while it was opened.
                Err(error) if self.disk.is_off() => {
                    let _ = error;
                    self.disk.power_cycle();
                }
                Err(error) => panic!("it does not open: {error}"),
            }
        }
    }

    fn append(&mut self, record: Record) {
        let a = record.actor;
        let ticket = self.log().0.append(record.clone());
        let modelled = self.model.entry(a).or_default();
        let life = modelled.life();
        life.records.push(record);
        let (life, at) = (modelled.lives.len() - 1, modelled.life().records.len() - 1);
        self.waiting.push((a, life, at, ticket));
        self.settle();
    }

    fn tip(&mut self, a: ActorId) -> (u64, u64) {
        let life = self.model.entry(a).or_default().life();
        life.records.last().map_or((0, 0), |record| (record.epoch.0, record.seq.0))
    }

    /// Takes the answers that are there.
    fn settle(&mut self) {
        let mut failed = Vec::new();
        for (a, life, at, mut ticket) in std::mem::take(&mut self.waiting) {
            match (&mut ticket).now_or_never() {
                None => self.waiting.push((a, life, at, ticket)),
                Some(Ok(receipt)) => {
                    let life = &mut self.model.get_mut(&a).unwrap().lives[life];
                    assert_eq!(receipt.seq, life.records[at].seq);
                    assert_eq!(life.acknowledged, at, "answers come in order");
                    life.acknowledged = at + 1;
                }
                // Refused for good: it is certainly not there.
                Some(Err(AppendError::Full(_))) => failed.push((a, life, at)),
                Some(Err(AppendError::Failed(_) | AppendError::Closed)) => {}
                Some(Err(error)) => panic!("{error}"),
            }
        }
        for (a, life, at) in failed.into_iter().rev() {
            let life = &mut self.model.get_mut(&a).unwrap().lives[life];
            assert_eq!(life.records.len(), at + 1, "whatever was queued after it failed as well");
            life.records.pop();
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Append { actor: n, size, zeros } => {
                let (epoch, seq) = self.tip(actor(n));
                if epoch > 0 {
                    let body: Vec<u8> = (0..size).map(|_| if zeros { 0 } else { self.dice.roll() as u8 | 1 }).collect();
                    self.append(Record {
                        actor: actor(n),
                        epoch: Epoch(epoch),
                        seq: Seq(seq + 1),
                        time_ms: 1,
                        kind: RecordKind::Commit,
                        body: Bytes::from(body),
                    });
                }
            }
            Op::Fence { actor: n } => {
                let (epoch, seq) = self.tip(actor(n));
                self.append(super::super::conformance::fence(actor(n), epoch + 1, seq + 1));
            }
            Op::Stray { actor: n, epoch, seq } => {
                let tip = self.tip(actor(n));
                if (epoch, seq) != (tip.0, tip.1 + 1) || epoch == 0 {
                    let answer = self.log().0.append(super::super::conformance::commit(actor(n), epoch, seq)).now_or_never();
                    assert!(matches!(answer, Some(Err(_))), "{answer:?}");
                }
            }
            Op::Trim { actor: n, back } => self.trim(actor(n), back),
            Op::Forget { actor: n } => {
                self.log().0.forget(actor(n));
                let modelled = self.model.entry(actor(n)).or_default();
                if !modelled.life().records.is_empty() {
                    modelled.lives.push(Life::default());
                    modelled.trimmed = 0;
                }
            }
            Op::Write => while self.log().1.turn() {},
            Op::Upkeep => drop(self.log().0.shared().remove_unneeded()),
            Op::Prepare => drop(self.log().0.shared().prepare()),
            Op::Full => {
                self.disk.set_room(0);
                while self.log().1.turn() {}
                self.settle();
                self.disk.set_room(u64::MAX);
            }
            Op::SyncFails { calls } => self.disk.fail_sync_in(calls),
            Op::CutIn { calls } => self.disk.cut_in(calls),
            Op::PowerCycle => self.crash(true),
            Op::Kill => self.crash(false),
            Op::Close => {
                while self.log().1.turn() {}
                self.crash(false);
            }
        }
        self.settle();
        if self.disk.is_off() {
            self.crash(true);
        } else if self.log().0.append(super::super::conformance::fence(actor(99), 0, 0)).now_or_never().is_some_and(failed_for_good) {
            self.crash(false);
        }
        self.check_live();
    }

    fn trim(&mut self, a: ActorId, back: u64) {
        let head = self.log().0.head(a);
        let to = head.seq.0.saturating_sub(back);
        self.log().0.trim(a, Seq(to));
        if head.seq.0 > 0 {
            let modelled = self.model.entry(a).or_default();
            modelled.trimmed = modelled.trimmed.max(to);
        }
    }

    /// While it runs, the log shows exactly what was acknowledged.
    fn check_live(&mut self) {
        let (log, _) = self.log.as_ref().unwrap();
        for (a, modelled) in &mut self.model {
            let trimmed = modelled.trimmed;
            let life = modelled.life();
            let head = log.head(*a);
            assert_eq!(head.seq.0 as usize, life.acknowledged);
            if head.seq.0 > 0 {
                assert_eq!(head.first.0, trimmed + 1);
                assert_eq!(head.epoch, life.records[life.acknowledged - 1].epoch);
                assert_eq!(log.read(*a, Seq(trimmed), Seq(u64::MAX)).unwrap(), life.records[trimmed as usize..life.acknowledged]);
            }
        }
    }

    fn crash(&mut self, power: bool) {
        self.log = None;
        if power || self.disk.is_off() {
            self.disk.power_cycle();
        } else {
            self.disk.process_restart();
        }
        self.settle();
        self.waiting.clear();
        self.open();
        let (log, _) = self.log.as_ref().unwrap();
        assert_eq!(log.damage(), []);
        for (a, modelled) in &mut self.model {
            let head = log.head(*a);
            let found = log.read(*a, Seq(head.first.0.saturating_sub(1)), Seq(u64::MAX)).unwrap();
            assert!(modelled.may_be(head, &found), "{a}: found {head:?} {found:?} for {modelled:?}");
            let epochs: Vec<u64> = found.iter().map(|record| record.epoch.0).collect();
            assert!(epochs.is_sorted(), "{epochs:?}");
            // What is there now counts as acknowledged: it is durable, and its owner goes on from it.
            let first = head.first.0.saturating_sub(1);
            let known = modelled.lives.iter().rev().find(|life| {
                life.records.len() >= head.seq.0 as usize && life.records.get(first as usize..head.seq.0 as usize) == Some(&found[..])
            });
            let records = known.map(|life| life.records[..head.seq.0 as usize].to_vec()).unwrap_or_default();
            *modelled = Modelled { lives: vec![Life { acknowledged: records.len(), records }], trimmed: first };
        }
    }
}

fn failed_for_good(answer: Result<crate::record::Receipt, AppendError>) -> bool {
    matches!(answer, Err(AppendError::Failed(_)))
}

fn play(seed: u64, ops: &[Op]) {
    let mut world = World::new(seed);
    for op in ops {
        world.run(op);
    }
    world.crash(true);
    world.check_live();
}

/// Found by the soak: the mark stayed in the log when everything before it was gone, and at the second opening it ended the actor that came after it.
#[test]
fn an_actor_that_begins_anew_is_not_ended_by_the_mark_of_the_one_before_it() {
    let append = |actor, size| Op::Append { actor, size, zeros: false };
    play(
        0,
        &[
            Op::Fence { actor: 0 },
            Op::Fence { actor: 3 },
            append(3, 7657),
            Op::Write,
            Op::Forget { actor: 0 },
            Op::Write,
            Op::Trim { actor: 3, back: 1 },
            Op::Upkeep,
            Op::Fence { actor: 0 },
            append(0, 0),
            append(0, 7481),
            Op::Write,
            Op::PowerCycle,
            append(3, 0),
            Op::Trim { actor: 0, back: 0 },
            Op::Write,
            Op::Upkeep,
            append(0, 0),
        ],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn what_a_crash_leaves_is_what_was_acknowledged_and_perhaps_more(seed in any::<u64>(), ops in proptest::collection::vec(op(), 1..120)) {
        play(seed, &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    #[ignore = "minutes; part of the soak"]
    fn many_crashes(seed in any::<u64>(), ops in proptest::collection::vec(op(), 1..300)) {
        play(seed, &ops);
    }
}
