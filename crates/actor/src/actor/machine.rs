//! The life of one actor as a pure state machine: events in, commands out, no clock and no I/O.
//!
//! `cell.rs` drives it: it turns messages, time and the guest's fate into events and carries the commands out. Nothing here knows what
//! a guest is; one is a number, counted up, so that news of an earlier one is told from news of the present one.
//!
//! What it promises (kept by the property tests below): never two guests at once; a message is given to a guest that serves, never to one
//! that is starting or ending; every waiter is answered once; a guest is not put to sleep with a message in hand; files are lent only
//! while there is no guest.

use std::{collections::VecDeque, sync::Arc};

use crate::NotStarted;

/// Counts the guests of one actor in this process.
pub(crate) type Generation = u64;

/// Somebody who waits for the guest.
pub(crate) type Waiter = u64;

/// Somebody who needs the actor's files to himself.
pub(crate) type Loan = u64;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A message has come and wants the guest.
    Wanted(Waiter),
    /// Who waited is gone.
    GaveUp(Waiter),
    /// A message is done with the guest.
    Released(Generation),
    /// The guest serves.
    Woke(Generation),
    /// It does not start.
    NotWoken(Generation, NotStarted),
    /// It has been idle for long enough, or memory is short.
    Rest,
    /// It is written down and gone, or gone without a heap.
    Slept(Generation),
    /// It could not be put to sleep: it is at work on its own account. It goes on.
    Busy(Generation),
    /// It was found dead, but what it left is not settled yet.
    Broke(Generation, Arc<str>),
    /// It is gone and what it had appended is settled.
    Gone(Generation),
    /// It is to be ended.
    End(Arc<str>),
    /// Somebody needs the files to himself; the guest is ended for it.
    Borrow(Loan, Arc<str>),
    /// The files are given back, or are not needed any more.
    GiveBack(Loan),
    /// Other code is in force now.
    Outdated,
    /// Messages have waited long enough for old code to come to rest.
    OutOfPatience,
    /// New messages wait, or do so no longer, while the guest is to be caught between two of them.
    Hush(bool),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Open the files, start a guest.
    Wake(Generation),
    /// Give the guest to who waits for it.
    Grant(Waiter, Generation),
    /// Tell who waits that there will be none, and why.
    Refuse(Waiter, Refusal),
    /// Ask the guest to write itself down and end.
    Sleep(Generation),
    /// End the guest.
    End(Generation, Arc<str>),
    /// Nothing of the guest is needed any more.
    Forget(Generation),
    /// The files are the borrower's until he gives them back.
    Lend(Loan),
}

/// Why a waiter gets no guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many wait already.
    Crowded,
    /// It does not start.
    Start(NotStarted),
}

/// Where an actor stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing of it is in memory.
    Asleep,
    /// A guest is starting. `doomed`: it is ended as soon as it has started. `outdated`: its code is replaced already.
    Waking { guest: Generation, doomed: Option<Arc<str>>, outdated: bool },
    /// A guest serves; `holds` messages have it.
    Awake { guest: Generation, holds: u32, code: Code },
    /// The guest is writing itself down.
    FallingAsleep { guest: Generation, doomed: Option<Arc<str>>, code: Code },
    /// The guest is ending, or has ended and what it appended is not settled.
    Broken { guest: Generation },
    /// Its files are somebody else's.
    Lent(Loan),
}

/// Which code a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The one in force.
    Current,
    /// One that was replaced: what is in flight is finished, new messages wait for that.
    Draining,
    /// One that was replaced and does not come to rest: new messages are given to it for now.
    Lingering,
}

/// One actor.
#[derive(Debug)]
pub(crate) struct Machine {
    state: State,
    waiting: VecDeque<Waiter>,
    loans: VecDeque<(Loan, Arc<str>)>,
    /// How many may wait.
    waiting_max: usize,
    /// Whether new messages wait although a guest serves.
    hushed: bool,
    next: Generation,
}

impl Machine {
    pub(crate) fn new(waiting_max: usize) -> Self {
        Self { state: State::Asleep, waiting: VecDeque::new(), loans: VecDeque::new(), waiting_max, hushed: false, next: 1 }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Whether there is nothing to remember: an actor that is asleep and that nobody wants.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.state == State::Asleep && self.waiting.is_empty() && self.loans.is_empty()
    }

    /// Whether messages wait for old code to come to rest.
    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.state, State::Awake { code: Code::Draining, .. }) && !self.waiting.is_empty()
    }

    /// Takes an event; the commands are to be carried out in order.
    pub(crate) fn apply(&mut self, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        match event {
            Event::Wanted(waiter) => self.wanted(waiter, &mut out),
            Event::GaveUp(waiter) => self.waiting.retain(|w| *w != waiter),
            Event::Released(of) => self.released(of, &mut out),
            Event::Woke(of) => self.woke(of, &mut out),
            Event::NotWoken(of, why) => self.not_woken(of, &why, &mut out),
            Event::Rest => self.rest(&mut out),
            Event::Slept(of) => {
                if matches!(self.state, State::FallingAsleep { guest, .. } if guest == of) {
                    self.forget(of, &mut out);
                }
            }
            Event::Busy(of) => self.busy(of, &mut out),
            Event::Broke(of, why) => {
                if matches!(self.state, State::Awake { guest, .. } if guest == of) {
                    self.break_off(of, why, &mut out);
                }
            }
            Event::Gone(of) => {
                if matches!(self.state, State::Awake { guest, .. } | State::Broken { guest } if guest == of) {
                    self.forget(of, &mut out);
                }
            }
            Event::End(why) => self.end(&why, &mut out),
            Event::Borrow(loan, why) => {
                self.loans.push_back((loan, why.clone()));
                self.end(&why, &mut out);
                self.settle(&mut out);
            }
            Event::GiveBack(loan) => self.give_back(loan, &mut out),
            Event::Outdated => match &mut self.state {
                State::Waking { outdated, .. } => *outdated = true,
                State::Awake { code, .. } | State::FallingAsleep { code, .. } => *code = Code::Draining,
                State::Asleep | State::Broken { .. } | State::Lent(_) => {}
            },
            Event::OutOfPatience => {
                if let State::Awake { code, .. } = &mut self.state
                    && *code == Code::Draining
                {
                    *code = Code::Lingering;
                    self.grant_all(&mut out);
                }
            }
            Event::Hush(yes) => {
                self.hushed = yes;
                if !matches!(self.state, State::Awake { code: Code::Draining, .. }) {
                    self.grant_all(&mut out);
                }
            }
        }
        out
    }

    fn wanted(&mut self, waiter: Waiter, out: &mut Vec<Command>) {
        match &mut self.state {
            State::Awake { guest, holds, code: Code::Current | Code::Lingering } if !self.hushed => {
                *holds += 1;
                out.push(Command::Grant(waiter, *guest));
                return;
            }
            _ if self.waiting.len() >= self.waiting_max => {
                out.push(Command::Refuse(waiter, Refusal::Crowded));
                return;
            }
            _ => self.waiting.push_back(waiter),
        }
        match self.state {
            State::Asleep => self.settle(out),
            State::Awake { holds: 0, code: Code::Draining, .. } => self.rest(out),
            _ => {}
        }
    }

    fn released(&mut self, of: Generation, out: &mut Vec<Command>) {
        let State::Awake { guest, holds, code } = &mut self.state else { return };
        if *guest != of || *holds == 0 {
            return;
        }
        *holds -= 1;
        if *holds == 0 && (*code == Code::Lingering || *code == Code::Draining && !self.waiting.is_empty()) {
            self.rest(out);
        }
    }

    /// Ends a guest, whose end is then waited for.
    fn break_off(&mut self, of: Generation, why: Arc<str>, out: &mut Vec<Command>) {
        self.state = State::Broken { guest: of };
        out.push(Command::End(of, why));
    }

    fn woke(&mut self, of: Generation, out: &mut Vec<Command>) {
        let State::Waking { guest, doomed, outdated } = &self.state else { return };
        if *guest != of {
            return;
        }
        if let Some(why) = doomed.clone() {
            return self.break_off(of, why, out);
        }
        // Who waited while old code started is served by it: it has nothing in flight that could be waited for, and a row of deploys must not
        // keep an actor from ever answering.
        let code = if *outdated { Code::Lingering } else { Code::Current };
        self.state = State::Awake { guest: of, holds: 0, code };
        self.grant_all(out);
    }

    fn not_woken(&mut self, of: Generation, why: &NotStarted, out: &mut Vec<Command>) {
        let State::Waking { guest, doomed, .. } = &self.state else { return };
        if *guest != of {
            return;
        }
        // One that was to be ended anyway says nothing about the next.
        if doomed.is_none() {
            out.extend(self.waiting.drain(..).map(|waiter| Command::Refuse(waiter, Refusal::Start(why.clone()))));
        }
        self.forget(of, out);
    }

    fn rest(&mut self, out: &mut Vec<Command>) {
        if let State::Awake { guest, holds: 0, code } = self.state {
            self.state = State::FallingAsleep { guest, doomed: None, code };
            out.push(Command::Sleep(guest));
        }
    }

    fn busy(&mut self, of: Generation, out: &mut Vec<Command>) {
        let State::FallingAsleep { guest, doomed, code } = &self.state else { return };
        if *guest != of {
            return;
        }
        if let Some(why) = doomed.clone() {
            return self.break_off(of, why, out);
        }
        let code = *code;
        self.state = State::Awake { guest: of, holds: 0, code };
        if code != Code::Draining {
            self.grant_all(out);
        }
    }

    fn end(&mut self, why: &Arc<str>, out: &mut Vec<Command>) {
        match &mut self.state {
            State::Waking { doomed, .. } | State::FallingAsleep { doomed, .. } => {
                doomed.get_or_insert_with(|| why.clone());
            }
            State::Awake { guest, .. } => {
                let guest = *guest;
                self.state = State::Broken { guest };
                out.push(Command::End(guest, why.clone()));
            }
            State::Asleep | State::Broken { .. } | State::Lent(_) => {}
        }
    }

    fn give_back(&mut self, loan: Loan, out: &mut Vec<Command>) {
        if self.state == State::Lent(loan) {
            self.state = State::Asleep;
        }
        self.loans.retain(|(l, _)| *l != loan);
        self.settle(out);
    }

    fn forget(&mut self, guest: Generation, out: &mut Vec<Command>) {
        self.state = State::Asleep;
        out.push(Command::Forget(guest));
        self.settle(out);
    }

    /// What comes after sleep: who needs the files first, then who wants a guest.
    fn settle(&mut self, out: &mut Vec<Command>) {
        if self.state != State::Asleep {
            return;
        }
        if let Some((loan, _)) = self.loans.pop_front() {
            self.state = State::Lent(loan);
            out.push(Command::Lend(loan));
        } else if !self.waiting.is_empty() {
            let guest = self.next;
            self.next += 1;
            self.state = State::Waking { guest, doomed: None, outdated: false };
            out.push(Command::Wake(guest));
        }
    }

    fn grant_all(&mut self, out: &mut Vec<Command>) {
        if self.hushed {
            return;
        }
        if let State::Awake { guest, holds, .. } = &mut self.state {
            for waiter in self.waiting.drain(..) {
                *holds += 1;
                out.push(Command::Grant(waiter, *guest));
            }
        }
    }
}

#[cfg(test)]
#[path = "machine/tests.rs"]
mod tests;
