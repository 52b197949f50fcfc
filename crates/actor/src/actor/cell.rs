//! One actor in memory: its state machine, its guest, who waits for it. There is a cell only for an actor that is not asleep.
//!
//! [`Node::tell`] takes an event to the machine under the cell's lock and carries the commands out: what is quick at once, the rest in tasks that
//! come back with events of their own. Nothing is awaited and no foreign code is called under the lock.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use skep_id::ActorId;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use super::{
    Active, ActorError, Node, Place,
    machine::{Command, Event, Generation, Loan, Machine, Refusal, State, Waiter},
    metrics::count,
};
use crate::{Epoch, Guest, Seq, Storage};

/// One actor in memory.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) id: ActorId,
    pub(crate) life: Mutex<Life>,
}

/// What a cell's lock guards.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) machine: Machine,
    pub(crate) place: Place,
    pub(crate) live: Option<Live>,
    waiters: HashMap<Waiter, oneshot::Sender<Result<Active, ActorError>>>,
    loans: HashMap<Loan, oneshot::Sender<()>>,
    /// When a message was last done with it.
    pub(crate) since: Instant,
    /// It is out of the map: who still has it looks there again.
    retired: bool,
    /// Why the guest was told to end.
    pub(crate) ending: Option<Arc<str>>,
    /// Somebody watches over messages that wait for old code.
    pub(crate) patience: bool,
    count: u64,
}

/// A guest and what belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) generation: Generation,
    pub(crate) guest: Arc<dyn Guest>,
    pub(crate) storage: Arc<Mutex<Storage>>,
    /// Memory that its newest pages take, in bytes.
    pub(crate) overlay: Arc<AtomicUsize>,
    pub(crate) epoch: Epoch,
    pub(crate) code: Arc<str>,
    /// The place of its last checkpoint.
    pub(crate) checkpoint: Seq,
    /// It was told to end.
    pub(crate) told_to_end: Arc<AtomicBool>,
    /// Its place among the guests that may live at once.
    pub(crate) _room: Arc<OwnedSemaphorePermit>,
}

impl Cell {
    pub(crate) fn new(id: ActorId, place: Place, waiting_max: usize) -> Self {
        let life = Life {
            machine: Machine::new(waiting_max),
            place,
            live: None,
            waiters: HashMap::new(),
            loans: HashMap::new(),
            since: Instant::now(),
            retired: false,
            ending: None,
            patience: false,
            count: 0,
        };
        Self { id, life: Mutex::new(life) }
    }

    /// The guest, when one serves or ends.
    pub(crate) fn live(&self) -> Option<Live> {
        self.life.lock().live.clone()
    }

    /// Since when nobody has the guest, if one serves.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let life = self.life.lock();
        matches!(life.machine.state(), State::Awake { holds: 0, .. }).then_some(life.since)
    }
}

/// What is done after the lock is given back.
enum After {
    Grant(oneshot::Sender<Result<Active, ActorError>>, Active),
    Refuse(oneshot::Sender<Result<Active, ActorError>>, ActorError),
    Lend(oneshot::Sender<()>),
    Wake(Generation),
    Sleep(Live),
    End(Live, Arc<str>),
    Forget(Option<Live>),
}

/// Somebody who waits; dropping it is giving up.
#[derive(Debug)]
pub(crate) struct Wait {
    node: Arc<Node>,
    cell: Arc<Cell>,
    waiter: Waiter,
    answer: oneshot::Receiver<Result<Active, ActorError>>,
}

impl Wait {
    /// The guest, or why there is none.
    pub(crate) async fn answer(&mut self) -> Result<Active, ActorError> {
        (&mut self.answer).await.unwrap_or(Err(ActorError::Closed))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.cell.life.lock().waiters.remove(&self.waiter);
        self.node.tell(&self.cell, Event::GaveUp(self.waiter));
    }
}

/// The files of an actor, to oneself; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Borrowed {
    node: Arc<Node>,
    cell: Arc<Cell>,
    loan: Loan,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.cell.life.lock().loans.remove(&self.loan);
        self.node.tell(&self.cell, Event::GiveBack(self.loan));
    }
}

/// What asking for a guest comes to.
pub(crate) enum Asked {
    /// It serves.
    Now(Active),
    /// It has to be waited for.
    Later(Wait),
}

impl Node {
    /// Asks for the guest of an actor.
    pub(crate) fn want(self: &Arc<Self>, id: ActorId, place: &Place) -> Result<Asked, ActorError> {
        loop {
            let cell = self.cell(id, place);
            let (waiter, answer, dead) = {
                let mut life = cell.life.lock();
                if life.retired {
                    continue;
                }
                if life.place.name.is_none() && place.name.is_some() {
                    life.place.name.clone_from(&place.name);
                }
                life.count += 1;
                let waiter = life.count;
                let (tx, rx) = oneshot::channel();
                life.waiters.insert(waiter, tx);
                let dead = life.live.as_ref().filter(|live| !live.guest.alive()).map(|live| live.generation);
                (waiter, rx, dead)
            };
            if let Some(generation) = dead {
                self.tell(&cell, Event::Broke(generation, "it has ended".into()));
            }
            self.tell(&cell, Event::Wanted(waiter));
            let mut wait = Wait { node: self.clone(), cell, waiter, answer };
            return match wait.answer.try_recv() {
                Ok(answer) => answer.map(Asked::Now),
                Err(_) => {
                    self.watch_draining(&wait.cell);
                    Ok(Asked::Later(wait))
                }
            };
        }
    }

    /// Waits until no guest of an actor lives, and keeps it so.
    pub(crate) async fn borrow(self: &Arc<Self>, id: ActorId, place: &Place, why: &str) -> Result<Borrowed, ActorError> {
        let (borrowed, lent) = loop {
            let cell = self.cell(id, place);
            let mut life = cell.life.lock();
            if life.retired {
                continue;
            }
            life.count += 1;
            let loan = life.count;
            let (tx, rx) = oneshot::channel();
            life.loans.insert(loan, tx);
            drop(life);
            self.tell(&cell, Event::Borrow(loan, why.into()));
            break (Borrowed { node: self.clone(), cell, loan }, rx);
        };
        match tokio::time::timeout(self.wait(), lent).await {
            Ok(Ok(())) => Ok(borrowed),
            Ok(Err(_)) => Err(ActorError::Closed),
            Err(_) => Err(ActorError::Slow),
        }
    }

    /// The cell of an actor; made if there is none.
    fn cell(&self, id: ActorId, place: &Place) -> Arc<Cell> {
        let make = || Arc::new(Cell::new(id, place.clone(), self.config.waiting_max));
        self.cells.lock().entry(id).or_insert_with(make).clone()
    }

    /// Takes an event to an actor's machine and carries out what follows.
    pub(crate) fn tell(self: &Arc<Self>, cell: &Arc<Cell>, event: Event) {
        let after = {
            let mut life = cell.life.lock();
            let commands = life.machine.apply(event);
            commands.into_iter().filter_map(|command| self.prepare(cell, &mut life, command)).collect::<Vec<_>>()
        };
        for step in after {
            self.carry_out(cell, step);
        }
        self.retire(cell);
    }

    /// The part of a command that needs the lock.
    fn prepare(self: &Arc<Self>, cell: &Arc<Cell>, life: &mut Life, command: Command) -> Option<After> {
        Some(match command {
            Command::Wake(generation) => After::Wake(generation),
            Command::Grant(waiter, generation) => {
                let live = life.live.as_ref().filter(|live| live.generation == generation)?;
                let active = Active { node: self.clone(), cell: cell.clone(), generation, guest: live.guest.clone(), epoch: live.epoch };
                // Who gave up in this very moment never gets it: dropped after the lock is given back, it is released.
                let sender = life.waiters.remove(&waiter).unwrap_or_else(|| oneshot::channel().0);
                After::Grant(sender, active)
            }
            Command::Refuse(waiter, refusal) => {
                count(&self.counters.refused);
                let error = match refusal {
                    Refusal::Crowded => ActorError::Crowded,
                    Refusal::Start(why) => ActorError::Start(why),
                };
                After::Refuse(life.waiters.remove(&waiter)?, error)
            }
            Command::Sleep(_) => After::Sleep(life.live.clone()?),
            Command::End(_, why) => {
                life.ending = Some(why.clone());
                let live = life.live.clone()?;
                // One that has ended already was not ended by us: whose fault that was is asked later.
                if live.guest.alive() {
                    live.told_to_end.store(true, Relaxed);
                }
                After::End(live, why)
            }
            Command::Forget(_) => {
                life.ending = None;
                After::Forget(life.live.take())
            }
            Command::Lend(loan) => After::Lend(life.loans.remove(&loan)?),
        })
    }

    fn carry_out(self: &Arc<Self>, cell: &Arc<Cell>, step: After) {
        match step {
            After::Grant(sender, active) => drop(sender.send(Ok(active))),
            After::Refuse(sender, error) => drop(sender.send(Err(error))),
            After::Lend(sender) => drop(sender.send(())),
            After::Wake(generation) => self.spawn(Self::wake(self.clone(), cell.clone(), generation)),
            After::Sleep(live) => self.spawn(Self::put_to_sleep(self.clone(), cell.clone(), live)),
            After::End(live, why) => live.guest.end(&why),
            After::Forget(live) => {
                if live.is_some() {
                    self.counters.awake.fetch_sub(1, Relaxed);
                }
                drop(live);
                self.room.notify_waiters();
            }
        }
    }

    /// Lets go of the cell of an actor that is asleep and that nobody wants.
    fn retire(&self, cell: &Arc<Cell>) {
        if !cell.life.lock().machine.is_at_rest() {
            return;
        }
        let mut cells = self.cells.lock();
        let mut life = cell.life.lock();
        if life.machine.is_at_rest() && life.waiters.is_empty() && life.loans.is_empty() && !life.retired {
            life.retired = true;
            cells.remove(&cell.id);
        }
    }
}
