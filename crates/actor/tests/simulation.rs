//! Mailboxes, gates and log under a simulated world: one thread and one seed, from which all turns of everybody follow; nothing waits for time. Disks are
//! slow, fail, and lose what was not synced when the power is cut; memory is short at any moment, and clocks jump.
//!
//! What must hold after each power cut: what was acknowledged is there, what is there was committed in that order, nothing was let out that is
//! not there, epochs never interleave, and each account's calls could have been one after the other.

mod support;

use std::{
    cell::Cell,
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use skep_actor::{
    Actors, Clock, Epoch, RecordKind, Seq,
    log::{AppendError, DurableLog, MemoryLog},
};
use support::{
    Dice, Hand, config,
    disk::UnsafeDisk,
    guest::{Bank, Branch, account},
    id,
    linear::{Call, linearizable},
    place,
};

const ACCOUNTS: u64 = 3;
const CLIENTS: u64 = 4;
const LIVES: u64 = 5;

/// What clients saw, by account.
type Seen = Rc<std::cell::RefCell<BTreeMap<u64, Vec<(u64, Call)>>>>;

async fn client(actors: Actors, mut dice: Dice, seen: Seen, now: Rc<Cell<u64>>, entries: Rc<Cell<u64>>) {
    let tick = || {
        now.set(now.get() + 1);
        now.get()
    };
    for _ in 0..6 {
        let whose = dice.below(ACCOUNTS);
        let adds = !dice.once_in(4);
        let (amount, entry) = (if adds { 1 + dice.below(9) as i64 } else { 0 }, entries.get());
        entries.set(entry + 1);
        let from = tick();
        let at = {
            let mut seen = seen.borrow_mut();
            let calls = seen.entry(whose).or_default();
            calls.push((entry, Call { amount, from, back: None }));
            calls.len() - 1
        };
        let Ok(active) = actors.activate(id(whose), &place()).await else { continue };
        let account = account(&active);
        let gave = if adds { account.add(entry, amount).await } else { account.look().await.map(|book| book.total) };
        if let Ok(total) = gave {
            seen.borrow_mut().get_mut(&whose).expect("works in a test")[at].1.back = Some((tick(), total));
        }
        drop((account, active));
        turns(dice.below(60)).await;
    }
}

/// Lets everybody else have so many turns.
async fn turns(many: u64) {
    for _ in 0..many {
        tokio::task::yield_now().await;
    }
}

async fn device(disk: UnsafeDisk, mut dice: Dice, faults: bool) {
    loop {
        turns(if dice.once_in(30) { 300 } else { dice.below(20) }).await;
        disk.sync(1 + dice.below(6) as usize);
        if faults && dice.once_in(120) {
            let kept = dice.below(disk.queued() as u64 + 1) as usize;
            disk.fail(kept, &AppendError::Failed("the device is gone".into()));
        }
    }
}

/// Memory is short now and then, somebody is ended, somebody is written down; the clock is put an hour forward or back.
async fn trouble(actors: Actors, mut dice: Dice, hand: Hand) {
    const HOUR: u64 = 3_600_000;
    loop {
        turns(dice.below(40)).await;
        match dice.below(9) {
            2 => hand.set((hand.now_ms() + dice.below(2) * 2 * HOUR).saturating_sub(HOUR)),
            0 => actors.end(id(dice.below(ACCOUNTS)), "trouble"),
            1 => drop(actors.checkpoint(id(dice.below(ACCOUNTS))).await),
            _ => actors.relieve(1 + dice.below(2) as usize),
        }
    }
}

/// One run: several lives of a node on one disk.
async fn run(seed: u64) {
    let mut dice = Dice::new(seed);
    let (dir, lasting, bank, hand) = (tempfile::tempdir().expect("works in a test"), MemoryLog::new(), Bank::new(), Hand::at(1));
    let (seen, now, entries): (Seen, _, _) = (Seen::default(), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mut before: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for life in 0..LIVES {
        bank.committed.lock().clear();
        let disk = UnsafeDisk::on(&lasting);
        let guests = Branch::of(&bank);
        let config = skep_actor::Config { idle_ms: 3_600_000, ..config(dir.path()) };
        let actors = Actors::open_at(config, Arc::new(disk.clone()), guests, Arc::new(hand.clone())).expect("works in a test");
        let local = tokio::task::LocalSet::new();
        local.spawn_local(device(disk.clone(), Dice::new(dice.below(u64::MAX)), life + 1 < LIVES));
        for _ in 0..CLIENTS {
            local.spawn_local(client(actors.clone(), Dice::new(dice.below(u64::MAX)), seen.clone(), now.clone(), entries.clone()));
        }
        local.spawn_local(trouble(actors.clone(), Dice::new(dice.below(u64::MAX)), hand.clone()));
        local.run_until(turns(100 + dice.below(3_000))).await;
        drop(local);
        // The power is cut: some of what was on its way is on the disk, nobody hears of it, and nothing more is taken.
        disk.fail(dice.below(disk.queued() as u64 + 1) as usize, &AppendError::Closed);
        drop(actors);
        turns(200).await;
        bank.life.fetch_add(1, Ordering::SeqCst);
        check(seed, &lasting, dir.path(), &bank, &mut before).await;
    }
    for (whose, calls) in seen.borrow().iter() {
        let calls: Vec<_> = calls.iter().map(|(_, call)| call.clone()).collect();
        assert!(linearizable(&calls), "seed {seed}: account {whose} cannot be put in order: {calls:#?}");
    }
}

/// Reads every account as a new owner does, and holds it against what happened.
async fn check(seed: u64, lasting: &MemoryLog, dir: &std::path::Path, bank: &Arc<Bank>, before: &mut BTreeMap<u64, Vec<u64>>) {
    epochs_in_order(seed, lasting);
    let guests = Branch::of(bank);
    let actors = Actors::open_at(config(dir), Arc::new(lasting.clone()), guests, Arc::new(Hand::at(2))).expect("works in a test");
    for whose in 0..ACCOUNTS {
        let active = actors.activate(id(whose), &place()).await.expect("works in a test");
        let book = account(&active).look().await.expect("works in a test");
        let there = &book.entries;
        let released = bank.released.lock().get(&id(whose)).cloned().unwrap_or_default();
        let lost: Vec<_> = released.iter().filter(|entry| !there.contains(entry)).collect();
        assert!(lost.is_empty(), "seed {seed}: account {whose} lost {lost:?}, which were let out; it has {there:?}");
        let known = before.entry(whose).or_default();
        assert!(there.starts_with(known), "seed {seed}: account {whose} changed its past: {known:?} became {there:?}");
        let committed = bank.committed.lock().get(&id(whose)).cloned().unwrap_or_default();
        // Guests that were ended within a life left commits that never lasted: what is there is a part of what was committed, in that order.
        let mut order = committed.iter();
        assert!(
            there[known.len()..].iter().all(|entry| order.any(|c| c == entry)),
            "seed {seed}: {there:?} is not of {known:?} + {committed:?}"
        );
        *known = there.clone();
    }
    actors.close().await.expect("works in a test");
    bank.life.fetch_add(1, Ordering::SeqCst);
}

fn epochs_in_order(seed: u64, log: &MemoryLog) {
    for (actor, head) in log.recent() {
        let (mut epoch, mut seq) = (Epoch(0), Seq(0));
        for record in log.read(actor, Seq(0), head.seq).expect("works in a test") {
            assert_eq!(record.seq, seq.next(), "seed {seed}: a gap");
            let fits = if record.kind == RecordKind::Fence { record.epoch > epoch } else { record.epoch == epoch };
            assert!(fits, "seed {seed}: epochs interleave at {actor} {}", record.seq);
            (epoch, seq) = (record.epoch, record.seq);
        }
    }
}

fn simulate(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("works in a test");
    runtime.block_on(run(seed));
}

#[test]
fn a_few_seeds() {
    (1..=40).for_each(simulate);
}

#[test]
#[ignore = "minutes: `make soak`"]
fn many_seeds() {
    (1_000..4_000).for_each(simulate);
}
