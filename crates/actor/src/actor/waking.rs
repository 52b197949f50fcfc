//! From asleep to awake and back: opening the files, starting a guest, writing it down, settling what it left.
//!
//! Each step is a task that ends in an event for the actor's machine.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use skep_id::ActorId;

use super::{
    ActorError, Node, Place,
    cell::{Cell, Live},
    files::{OnWake, Opened},
    machine::{Event, Generation, State},
    metrics::count,
};
use crate::{
    GuestError, Heap, NotStarted, Receipt, Start,
    directory::{Change, What},
    log::AppendError,
    pages::View,
    storage::StorageError,
};

/// How often a quiet moment is looked for before an actor counts as busy.
const QUIET_TRIES: u32 = 8;

/// How long new messages are held back for a quiet moment.
const HUSH: Duration = Duration::from_millis(500);

/// How often old code that is asked to make room is looked at.
const DRAIN_TICK: Duration = Duration::from_millis(20);

impl Node {
    /// Wakes an actor, to the event that says how it went.
    pub(crate) async fn wake(self: Arc<Self>, cell: Arc<Cell>, generation: Generation) {
        let place = cell.life.lock().place.clone();
        let mut trying = Trying { node: self.clone(), cell: cell.clone(), generation, over: false };
        let started = self.start(cell.id, &place, generation).await;
        trying.over = true;
        match started {
            Ok(live) => {
                self.counters.awake.fetch_add(1, Relaxed);
                {
                    let mut life = cell.life.lock();
                    life.since = tokio::time::Instant::now();
                    life.live = Some(live.clone());
                }
                let outdated = self.guests.code(&place.namespace).as_deref() != Some(&*live.code);
                self.spawn(self.clone().see_off(cell.clone(), live));
                if outdated {
                    self.tell(&cell, Event::Outdated);
                }
                self.tell(&cell, Event::Woke(generation));
            }
            Err(error) => {
                count(&self.counters.not_started);
                let why = match error {
                    ActorError::Start(why) => why,
                    other => NotStarted::Failed(other.to_string().into()),
                };
                self.told(cell.id, What::NotStarted, &why.to_string());
                self.tell(&cell, Event::NotWoken(generation, why));
            }
        }
    }

    async fn start(self: &Arc<Self>, id: ActorId, place: &Place, generation: Generation) -> Result<Live, ActorError> {
        let room = self.make_room().await?;
        let code = self.guests.code(&place.namespace).ok_or_else(|| ActorError::NoCode(place.namespace.to_string()))?;
        let (node, of, named) = (self.clone(), place.clone(), code.clone());
        let on_wake: OnWake = {
            let node = Arc::downgrade(self);
            Box::new(move |wake_ms| {
                if let Some(node) = node.upgrade() {
                    node.wake_changed(id, wake_ms);
                }
            })
        };
        let mut opened = self.blocking(move || node.files.take(id, &of, &named, on_wake)).await??;
        if opened.fresh {
            self.check_family(place).await?;
        }
        self.met(id, place, &opened, &code);
        self.wake_changed(id, opened.storage.wake()?);
        if let Some(restored) = &opened.restored {
            let why = restored.as_ref().map_or_else(ToString::to_string, |seq| format!("to place {seq}, as it had asked for"));
            self.told(id, What::Rewound, &why);
        }
        let Opened { storage, overlay, epoch, heap, fresh, checkpoint, .. } = opened;
        let storage = Arc::new(parking_lot::Mutex::new(storage));
        let live = |guest, storage| Live {
            generation,
            guest,
            storage,
            overlay,
            epoch,
            code: code.into(),
            checkpoint,
            told_to_end: Arc::default(),
            _room: Arc::new(room),
        };
        let mut why = match heap {
            Ok(heap) => match self.begin(id, place, &storage, Some(heap)).await {
                Ok(guest) => {
                    count(&self.counters.woken);
                    self.told(id, What::Woken, "with its heap");
                    return Ok(live(guest, storage));
                }
                Err(error) => error.to_string(),
            },
            Err(why) => why,
        };
        let guest = self.begin(id, place, &storage, None).await.map_err(|error| ActorError::Start(error.into()))?;
        count(&self.counters.constructed);
        if fresh {
            why = "it is new".into();
        }
        self.told(id, if fresh { What::Created } else { What::Constructed }, &why);
        Ok(live(guest, storage))
    }

    /// Starts a guest and waits until it serves; one that does not is gone when this comes back.
    async fn begin(
        &self,
        id: ActorId,
        place: &Place,
        storage: &Arc<parking_lot::Mutex<crate::Storage>>,
        heap: Option<Heap>,
    ) -> Result<Arc<dyn crate::Guest>, GuestError> {
        let start = Start { actor: id, namespace: place.namespace.clone(), name: place.name.clone(), storage: storage.clone(), heap };
        let guest = self.guests.start(start).await?;
        let Err(error) = guest.ready().await else { return Ok(guest) };
        guest.end("it did not start");
        guest.gone().await;
        drop(guest);
        self.settled(storage).await.ok();
        Err(error)
    }

    /// Waits for the end of a guest, and for what it left to be durable or lost.
    async fn see_off(self: Arc<Self>, cell: Arc<Cell>, live: Live) {
        let generation = live.generation;
        live.guest.gone().await;
        let asleep = |state: &State| matches!(state, State::FallingAsleep { guest, .. } if *guest == generation);
        let (ours, falling) = {
            let life = cell.life.lock();
            (life.live.as_ref().is_some_and(|live| live.generation == generation), asleep(life.machine.state()))
        };
        // Who puts it to sleep settles it himself.
        if !ours || falling {
            return;
        }
        self.tell(&cell, Event::Broke(generation, "it has ended".into()));
        let settled = self.settled(&live.storage).await;
        count(&self.counters.ended);
        let why = match settled {
            Err(error) => {
                // Its wake-up was told before it was known whether it lasts: what does is found at the next look.
                self.wake_changed(cell.id, Some(self.clock.now_ms().saturating_add(self.config.alarms.backoff_ms)));
                format!("what it wrote was not kept: {error}")
            }
            Ok(_) => cell.life.lock().ending.take().unwrap_or_else(|| "it ended by itself".into()).to_string(),
        };
        self.told(cell.id, What::Ended, &why);
        drop(live);
        self.tell(&cell, Event::Gone(generation));
        self.end_facets(cell.id);
    }

    /// Waits until all that a storage appended is durable, or lost.
    pub(crate) async fn settled(&self, storage: &Arc<parking_lot::Mutex<crate::Storage>>) -> Result<Option<Receipt>, AppendError> {
        let ticket = storage.lock().sync();
        match ticket {
            Some(ticket) => ticket.await.map(Some),
            None => Ok(None),
        }
    }

    /// Puts a guest to sleep, to the event that says whether it does.
    pub(crate) async fn put_to_sleep(self: Arc<Self>, cell: Arc<Cell>, live: Live) {
        let generation = live.generation;
        match live.guest.hibernate().await {
            Ok(heap) => self.keep_heap(&cell, &live, heap).await,
            Err(GuestError::Busy(_)) => {
                cell.life.lock().since = tokio::time::Instant::now();
                self.tell(&cell, Event::Busy(generation));
                if !live.guest.alive() {
                    // It ended meanwhile, and who watched over that left it to this task.
                    self.spawn(self.clone().see_off(cell, live));
                }
                return;
            }
            Err(error) => {
                live.guest.end("it could not be written down");
                live.guest.gone().await;
                self.settled(&live.storage).await.ok();
                self.told(cell.id, What::NoCheckpoint, &error.to_string());
            }
        }
        self.note_size(&cell, &live);
        self.files.slept(cell.id);
        drop(live);
        self.tell(&cell, Event::Slept(generation));
        self.bell.notify_one();
    }

    /// Makes the heap of a guest that has gone to sleep durable.
    async fn keep_heap(&self, cell: &Cell, live: &Live, heap: Heap) {
        let appended = {
            let mut storage = live.storage.lock();
            storage.wake().map_err(StorageError::from).and_then(|alarm_ms| Ok((storage.append_checkpoint(&heap)?, alarm_ms)))
        };
        let why = match appended {
            Err(error) => error.to_string(),
            Ok((pending, alarm_ms)) => match pending.await {
                Err(error) => error.to_string(),
                Ok(receipt) => {
                    self.checkpointed(cell, receipt, &heap);
                    count(&self.counters.slept);
                    self.wake_changed(cell.id, [alarm_ms, heap.timer_ms].into_iter().flatten().min());
                    return self.told(cell.id, What::Slept, &format!("its heap is {} bytes", heap.bytes.len()));
                }
            },
        };
        self.told(cell.id, What::NoCheckpoint, &why);
    }

    fn checkpointed(&self, cell: &Cell, receipt: Receipt, heap: &Heap) {
        count(&self.counters.checkpoints);
        self.counters.checkpoint_bytes.fetch_add(heap.bytes.len() as u64, Relaxed);
        self.note(cell.id, Change { checkpoint: Some(Some(receipt.seq)), ..Change::default() });
        if let Some(live) = cell.life.lock().live.as_mut() {
            live.checkpoint = receipt.seq;
        }
    }

    /// Writes a live guest down, at a moment when heap and database belong together: no commit between the heap's moment and the record's. If
    /// the guest never rests, new messages are held back for that moment. The second half is the database as of the record.
    pub(crate) async fn checkpoint_live(self: &Arc<Self>, cell: &Arc<Cell>, live: &Live) -> Result<(Receipt, Option<View>), ActorError> {
        let deadline = tokio::time::Instant::now() + HUSH;
        let mut hush = None;
        for n in 0..QUIET_TRIES {
            if n == 1 {
                hush = Some(Hushed::new(self, cell));
            }
            let before = live.storage.lock().last();
            let heap = live.guest.checkpoint().await.map_err(ActorError::Guest)?;
            let ticket = {
                let mut storage = live.storage.lock();
                let ticket = (storage.last() == before).then(|| storage.append_checkpoint(&heap)).transpose();
                // As long as the storage is held, nothing is committed after it.
                ticket.map(|ticket| ticket.map(|ticket| (ticket, self.files.still(cell.id, storage.last()))))
            };
            if let Ok(Some((ticket, view))) = ticket {
                drop(hush);
                let receipt = ticket.await.map_err(ActorError::Log)?;
                self.checkpointed(cell, receipt, &heap);
                self.files.written_down(cell.id, heap.bytes.len());
                return Ok((receipt, view?));
            }
            if tokio::time::Instant::now() >= deadline {
                break;
            }
            tokio::task::yield_now().await;
        }
        Err(ActorError::Guest(GuestError::Busy("it never rests between two commits".into())))
    }

    /// Keeps asking old code to make room for who waits, and lets it serve them when it does not.
    pub(crate) fn watch_draining(self: &Arc<Self>, cell: &Arc<Cell>) {
        {
            let mut life = cell.life.lock();
            if life.patience || !life.machine.is_draining() {
                return;
            }
            life.patience = true;
        }
        let (node, cell) = (self.clone(), cell.clone());
        self.spawn(async move {
            let deadline = tokio::time::Instant::now() + Duration::from_millis(node.config.deploy_wait_ms);
            loop {
                tokio::time::sleep(DRAIN_TICK).await;
                let (waits, falling) = {
                    let mut life = cell.life.lock();
                    let still = (life.machine.is_draining(), matches!(life.machine.state(), State::FallingAsleep { .. }));
                    life.patience = still.0 || still.1;
                    still
                };
                if !waits && !falling {
                    break;
                }
                let out_of_patience = tokio::time::Instant::now() >= deadline;
                node.tell(&cell, if out_of_patience { Event::OutOfPatience } else { Event::Rest });
            }
        });
    }
}

/// An attempt at waking that is not over: if whoever makes guests panics, who waits is told all the same.
struct Trying {
    node: Arc<Node>,
    cell: Arc<Cell>,
    generation: Generation,
    over: bool,
}

impl Drop for Trying {
    fn drop(&mut self) {
        if !self.over {
            self.node.tell(&self.cell, Event::NotWoken(self.generation, "its start was cut off".into()));
        }
    }
}

/// New messages of an actor wait as long as this lives.
struct Hushed {
    node: Arc<Node>,
    cell: Arc<Cell>,
}

impl Hushed {
    fn new(node: &Arc<Node>, cell: &Arc<Cell>) -> Self {
        node.tell(cell, Event::Hush(true));
        Self { node: node.clone(), cell: cell.clone() }
    }
}

impl Drop for Hushed {
    fn drop(&mut self) {
        self.node.tell(&self.cell, Event::Hush(false));
    }
}
