//! Property tests of one actor's life: any events in any order, with a guest, messages and borrowers that behave as the real ones may.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What the world may do next; numbers choose among what is possible.
#[derive(Clone, Debug)]
enum Move {
    Want,
    GiveUp(usize),
    Release(usize),
    /// The guest that is starting comes to life, or does not.
    Start(bool),
    Rest,
    /// The guest that was asked to sleep does, or is busy.
    Sleep(bool),
    Die,
    Settle,
    End,
    Borrow,
    GiveBack(usize),
    Outdated,
    OutOfPatience,
    Hush(bool),
    /// News of a guest that is long gone.
    Stale(usize),
}

/// A model of everything around the machine, which checks each command as it comes.
#[derive(Default)]
struct World {
    machine: Option<Machine>,
    starting: Option<Generation>,
    serving: Option<Generation>,
    sleeping: Option<Generation>,
    /// Told to end, or dead and not settled.
    ending: Option<Generation>,
    past: Vec<Generation>,
    waiting: BTreeSet<Waiter>,
    held: BTreeMap<Waiter, Generation>,
    loans: BTreeSet<Loan>,
    lent: Option<Loan>,
    answered: BTreeSet<Waiter>,
    count: u64,
}

impl World {
    fn new(most: usize) -> Self {
        Self { machine: Some(Machine::new(most)), ..Self::default() }
    }

    fn guests(&self) -> usize {
        [self.starting, self.serving, self.sleeping, self.ending].iter().flatten().count()
    }

    fn tell(&mut self, event: Event) {
        let commands = self.machine.as_mut().unwrap().apply(event);
        for command in commands {
            self.carry_out(command);
            assert!(self.guests() <= 1, "two guests at once");
            assert!(self.lent.is_none() || self.guests() == 0, "files lent under a guest");
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Wake(guest) => {
                assert!(self.guests() == 0 && self.lent.is_none() && !self.past.contains(&guest));
                self.starting = Some(guest);
            }
            Command::Grant(waiter, guest) => {
                assert_eq!(self.serving, Some(guest), "a message for a guest that does not serve");
                assert!(self.waiting.remove(&waiter), "a grant to who does not wait");
                assert!(self.answered.insert(waiter), "answered twice");
                self.held.insert(waiter, guest);
            }
            Command::Refuse(waiter, _) => {
                assert!(self.waiting.remove(&waiter) && self.answered.insert(waiter));
            }
            Command::Sleep(guest) => {
                assert_eq!(self.serving.take(), Some(guest));
                assert!(!self.held.values().any(|g| *g == guest), "put to sleep with a message in hand");
                self.sleeping = Some(guest);
            }
            Command::End(guest, _) => {
                assert!(self.serving == Some(guest) || self.ending == Some(guest), "ended one that is not there");
                self.serving = None;
                self.ending = Some(guest);
            }
            Command::Forget(guest) => {
                let whose = [&mut self.starting, &mut self.serving, &mut self.sleeping, &mut self.ending];
                let slot = whose.into_iter().find(|slot| **slot == Some(guest)).expect("forgot one that is not there");
                *slot = None;
                self.past.push(guest);
            }
            Command::Lend(loan) => {
                assert!(self.guests() == 0 && self.lent.is_none() && self.loans.contains(&loan));
                self.lent = Some(loan);
            }
        }
    }

    fn go(&mut self, step: &Move) {
        self.count += 1;
        let n = self.count;
        match step {
            Move::Want => {
                self.waiting.insert(n);
                self.tell(Event::Wanted(n));
            }
            Move::GiveUp(i) => {
                if let Some(waiter) = pick(&self.waiting, *i) {
                    self.waiting.remove(&waiter);
                    self.tell(Event::GaveUp(waiter));
                }
            }
            Move::Release(i) => {
                if let Some((waiter, guest)) = self.held.iter().nth(i % self.held.len().max(1)).map(|(w, g)| (*w, *g)) {
                    self.held.remove(&waiter);
                    self.tell(Event::Released(guest));
                }
            }
            Move::Start(well) => {
                if let Some(guest) = self.starting {
                    if *well {
                        self.serving = self.starting.take();
                        self.tell(Event::Woke(guest));
                    } else {
                        self.tell(Event::NotWoken(guest, "threw".into()));
                    }
                }
            }
            Move::Rest => self.tell(Event::Rest),
            Move::Sleep(well) => {
                if let Some(guest) = self.sleeping {
                    if *well {
                        self.tell(Event::Slept(guest));
                    } else {
                        self.serving = self.sleeping.take();
                        self.tell(Event::Busy(guest));
                    }
                }
            }
            Move::Die => {
                if let Some(guest) = self.serving {
                    self.tell(Event::Broke(guest, "a limit".into()));
                }
            }
            Move::Settle => {
                if let Some(guest) = self.ending.or(self.serving) {
                    self.tell(Event::Gone(guest));
                }
            }
            Move::End => self.tell(Event::End("abort".into())),
            Move::Borrow => {
                self.loans.insert(n);
                self.tell(Event::Borrow(n, "rewind".into()));
            }
            Move::GiveBack(i) => {
                if let Some(loan) = self.lent.take().or_else(|| pick(&self.loans, *i)) {
                    self.loans.remove(&loan);
                    self.tell(Event::GiveBack(loan));
                }
            }
            Move::Outdated => self.tell(Event::Outdated),
            Move::OutOfPatience => self.tell(Event::OutOfPatience),
            Move::Hush(yes) => self.tell(Event::Hush(*yes)),
            Move::Stale(i) => {
                if let Some(guest) = self.past.get(i % self.past.len().max(1)).copied() {
                    for event in [
                        Event::Gone(guest),
                        Event::Broke(guest, "late".into()),
                        Event::Woke(guest),
                        Event::Slept(guest),
                        Event::Busy(guest),
                        Event::Released(guest),
                        Event::NotWoken(guest, "late".into()),
                    ] {
                        // A message may still hold an earlier guest; its release was not told twice.
                        let before = self.machine.as_ref().unwrap().state().clone();
                        self.tell(event);
                        assert_eq!(self.machine.as_ref().unwrap().state(), &before, "old news changed something");
                    }
                }
            }
        }
    }

    /// Lets everything that was begun come to its end; then nobody may be left waiting.
    fn run_out(&mut self) {
        self.tell(Event::Hush(false));
        for _ in 0..10_000 {
            if let Some(guest) = self.starting {
                self.serving = self.starting.take();
                self.tell(Event::Woke(guest));
            } else if self.sleeping.is_some() {
                self.go(&Move::Sleep(true));
            } else if self.ending.is_some() {
                self.go(&Move::Settle);
            } else if self.lent.is_some() || !self.loans.is_empty() {
                self.go(&Move::GiveBack(0));
            } else if !self.held.is_empty() {
                self.go(&Move::Release(0));
            } else if !self.waiting.is_empty() {
                assert!(self.machine.as_ref().unwrap().is_draining(), "somebody waits and nothing moves");
                self.go(&Move::OutOfPatience);
            } else if self.serving.is_some() {
                self.go(&Move::Rest);
            } else {
                break;
            }
        }
        assert!(self.waiting.is_empty(), "never answered: {:?}", self.waiting);
        assert!(self.machine.as_ref().unwrap().is_at_rest(), "{:?}", self.machine);
    }
}

fn pick(of: &BTreeSet<u64>, i: usize) -> Option<u64> {
    of.iter().nth(i % of.len().max(1)).copied()
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        6 => Just(Move::Want),
        1 => (0..8usize).prop_map(Move::GiveUp),
        5 => (0..8usize).prop_map(Move::Release),
        4 => prop::bool::weighted(0.8).prop_map(Move::Start),
        3 => Just(Move::Rest),
        4 => any::<bool>().prop_map(Move::Sleep),
        1 => Just(Move::Die),
        2 => Just(Move::Settle),
        1 => Just(Move::End),
        1 => Just(Move::Borrow),
        2 => (0..8usize).prop_map(Move::GiveBack),
        1 => Just(Move::Outdated),
        1 => Just(Move::OutOfPatience),
        1 => any::<bool>().prop_map(Move::Hush),
        1 => (0..8usize).prop_map(Move::Stale),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn one_guest_and_every_waiter_answered(moves in moves(), most in 1..6usize) {
        let mut world = World::new(most);
        for step in &moves {
            world.go(step);
            prop_assert!(world.waiting.len() <= most, "more wait than may");
        }
        world.run_out();
    }
}

#[test]
fn a_deploy_lets_what_is_in_flight_finish_and_new_messages_wait_for_the_new_code() {
    let mut world = World::new(8);
    for step in [Move::Want, Move::Start(true), Move::Outdated, Move::Want] {
        world.go(&step);
    }
    assert_eq!((world.held.len(), world.waiting.len()), (1, 1), "the new message waits, the old one goes on");
    world.go(&Move::Release(0));
    assert!(world.sleeping.is_some(), "at rest: it makes room");
    world.go(&Move::Sleep(true));
    assert!(world.starting.is_some_and(|guest| guest == 2), "the new code starts");
    world.go(&Move::Start(true));
    assert_eq!(world.held.len(), 1);
}

#[test]
fn old_code_that_does_not_come_to_rest_serves_on() {
    let mut world = World::new(8);
    for step in [Move::Want, Move::Start(true), Move::Outdated, Move::Want, Move::OutOfPatience, Move::Want] {
        world.go(&step);
    }
    assert_eq!((world.held.len(), world.waiting.len()), (3, 0));
    for _ in 0..3 {
        world.go(&Move::Release(0));
    }
    assert!(world.sleeping.is_some(), "the first moment of rest is taken");
}

#[test]
fn a_guest_that_does_not_start_is_tried_again_by_the_next_message_only() {
    let mut world = World::new(8);
    for step in [Move::Want, Move::Want, Move::Start(false)] {
        world.go(&step);
    }
    assert!(world.waiting.is_empty() && world.guests() == 0);
    world.go(&Move::Want);
    assert_eq!(world.starting, Some(2));
}

#[test]
fn files_are_lent_between_two_guests_and_messages_wait() {
    let mut world = World::new(8);
    for step in [Move::Want, Move::Start(true), Move::Borrow, Move::Want] {
        world.go(&step);
    }
    assert!(world.ending.is_some() && world.lent.is_none());
    world.go(&Move::Settle);
    assert!(world.lent.is_some() && world.waiting.len() == 1);
    world.go(&Move::GiveBack(0));
    assert_eq!(world.starting, Some(2));
}
