//! Fires alarms: takes due actors off the schedule, wakes them, tells their guests, and decides what a failure means.
//!
//! At least once: an alarm is taken out when its handler has come back, in the database of its actor. Those of one actor are fired one after the
//! other, in the order of their times. How many actors are fired at once is bounded, so that a storm of alarms does not stand before requests;
//! one whose handler takes long goes on without counting. While all places for guests are taken, actors that are awake go before those that sleep.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use skep_id::ActorId;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{
    Active, ActorError, Node, Place,
    cell::Live,
    metrics::count,
    past::place_of_row,
    schedule::{Attempts, Failure, HORIZON_MS, WINDOW_MAX},
    sweep::still,
};
use crate::{
    Alarm, GuestError, Storage,
    database::SqlError,
    directory::{Change, What},
    storage::{AlarmEnd, StorageError},
};

/// The clock is looked at this often, in case it jumps.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Alarms of one actor that are fired before others get their turn.
const ALARMS_EACH: usize = 64;

/// Alarms that are remembered as failed; of further ones the count begins anew each time.
const FAILED_MAX: usize = 100_000;

/// What failed before and is tried again: by actor and alarm; `None` stands for the start of its guest.
pub(crate) type Attempted = HashMap<(ActorId, Option<String>), (Attempts, u64)>;

/// Of so many firings, one is that of the actor that has been due for longest, whether it sleeps or not: no alarm is put off for ever by actors that
/// are awake and set theirs again and again.
const OLDEST_EVERY: u32 = 8;

/// How often the actors that are awake and due are looked for, at most.
const LOOK_FOR_AWAKE: Duration = Duration::from_millis(100);

/// Actors that are due and awake. Firing one that sleeps puts another to sleep when all places are taken, and that one would soon be woken again for its
/// own alarm.
#[derive(Debug, Default)]
struct AwakeFirst {
    actors: VecDeque<ActorId>,
    looked: Option<Instant>,
    count: u32,
}

/// Starts the loop.
pub(crate) fn begin(node: &Arc<Node>) {
    node.spawn(ring(Arc::downgrade(node)));
}

async fn ring(weak: Weak<Node>) {
    let mut awake = AwakeFirst::default();
    loop {
        let Some(node) = still(&weak) else { return };
        let now_ms = node.clock.now_ms();
        if let Err(error) = node.extend_window(now_ms).await {
            tracing::warn!(%error, "the wake-ups of the directory cannot be read");
        }
        while let Ok(ringer) = node.ringers.clone().try_acquire_owned() {
            match node.take_due(now_ms, &mut awake) {
                Some(actor) => node.spawn(node.clone().fire(actor, ringer)),
                None => break,
            }
        }
        let next_ms = node.schedule.lock().next_ms();
        let all_ring = node.ringers.available_permits() == 0;
        drop(node);
        let wait = next_ms.filter(|_| !all_ring).map_or(LOOK_EVERY, |ms| Duration::from_millis(ms.saturating_sub(now_ms)).min(LOOK_EVERY));
        // The node is held weakly while nothing is done: who waits here is told by the loop's own next look.
        let Some(bell) = still(&weak) else { return };
        tokio::time::timeout(wait, bell.bell.notified()).await.ok();
    }
}

impl Node {
    /// Reads on in the directory's wake-ups when the window's end comes near.
    async fn extend_window(self: &Arc<Self>, now_ms: u64) -> Result<(), ActorError> {
        let from = {
            let schedule = self.schedule.lock();
            if !schedule.wants_window(now_ms) {
                return Ok(());
            }
            schedule.horizon()
        };
        let (directory, until_ms) = (self.directory.clone(), now_ms.saturating_add(HORIZON_MS));
        let rows = self.blocking(move || directory.wakes(from, until_ms, WINDOW_MAX / 2)).await??;
        let complete = rows.len() < WINDOW_MAX / 2;
        self.schedule.lock().extend(rows, until_ms, complete);
        Ok(())
    }

    /// The actor that is fired next, if one is due.
    fn take_due(&self, now_ms: u64, awake: &mut AwakeFirst) -> Option<ActorId> {
        awake.count = awake.count.wrapping_add(1);
        if self.rooms.available_permits() > 0 || awake.count.is_multiple_of(OLDEST_EVERY) {
            return self.schedule.lock().take_due(now_ms);
        }
        if awake.actors.is_empty() && awake.looked.is_none_or(|looked| looked.elapsed() >= LOOK_FOR_AWAKE) {
            awake.looked = Some(Instant::now());
            let due: Vec<ActorId> = self.schedule.lock().overdue(now_ms).collect();
            let cells = self.cells.lock();
            awake.actors.extend(due.into_iter().filter(|actor| cells.contains_key(actor)));
        }
        let mut schedule = self.schedule.lock();
        while let Some(actor) = awake.actors.pop_front() {
            if schedule.take_one(actor, now_ms) {
                return Some(actor);
            }
        }
        schedule.take_due(now_ms)
    }

    /// Fires what is due of one actor.
    async fn fire(self: Arc<Self>, actor: ActorId, ringer: OwnedSemaphorePermit) {
        let mut ringer = Some(ringer);
        let next_ms = match self.ring_actor(actor, &mut ringer).await {
            Ok(next_ms) => next_ms,
            Err(ActorError::Unknown(_)) => None,
            Err(error) => {
                let failure = if matches!(error, ActorError::Start(_)) { Failure::Handler } else { Failure::Internal };
                self.failed(actor, None, failure, 0, &error.to_string())
            }
        };
        self.note(actor, Change { wake_ms: Some(next_ms), ..Change::default() });
        self.schedule.lock().done(actor, next_ms);
        drop(ringer);
        self.bell.notify_one();
    }

    /// Wakes an actor and tells it of its alarms and timers that are due; when it is to be looked at again.
    async fn ring_actor(self: &Arc<Self>, actor: ActorId, ringer: &mut Option<OwnedSemaphorePermit>) -> Result<Option<u64>, ActorError> {
        let row = self.directory.get(actor)?.ok_or(ActorError::Unknown(actor))?;
        let place = place_of_row(&row);
        let active = self.activate(actor, &place).await?;
        self.attempts.lock().remove(&(actor, None));
        active.guest().tick();
        for _ in 0..ALARMS_EACH {
            let Some(alarm) = self.next_alarm(&active).await?.filter(|alarm| alarm.due_ms <= self.clock.now_ms()) else { break };
            if !self.ring_alarm(&active, &place, alarm, ringer).await? {
                break;
            }
        }
        Ok(self.next_alarm(&active).await.ok().flatten().map(|alarm| alarm.due_ms))
    }

    /// The alarm of an awake actor that comes next; its time is that of the next attempt, if it failed before.
    async fn next_alarm(self: &Arc<Self>, active: &Active) -> Result<Option<Alarm>, ActorError> {
        let alarms = self.with_storage(active, |storage| storage.due(u64::MAX)).await??;
        let attempts = self.attempts.lock();
        let later = |alarm: Alarm| match attempts.get(&(active.id(), Some(alarm.name.clone()))) {
            Some((_, again_ms)) => Alarm { due_ms: alarm.due_ms.max(*again_ms), ..alarm },
            None => alarm,
        };
        Ok(alarms.into_iter().map(later).min_by(|a, b| (a.due_ms, &a.name).cmp(&(b.due_ms, &b.name))))
    }

    /// Fires one alarm; false when the guest cannot be told of another.
    async fn ring_alarm(
        self: &Arc<Self>,
        active: &Active,
        place: &Place,
        alarm: Alarm,
        ringer: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<bool, ActorError> {
        // What is known of the guest is asked for before it can end.
        let Some(live) = active.live() else { return Ok(false) };
        let name = alarm.name.clone();
        // What its storage says is when it was due, and how often it failed while its guest lived on.
        let Some(mut alarm) = self.with_storage(active, move |storage| storage.alarm_begin(&name)).await?? else { return Ok(true) };
        let key = (active.id(), Some(alarm.name.clone()));
        let tried = self.attempts.lock().get(&key).map_or(0, |(tried, _)| tried.counted);
        alarm.retries = alarm.retries.max(tried);
        let mut told = active.guest().alarm(alarm.clone());
        let slow = Duration::from_millis(self.config.alarms.slow_ms);
        let answer = match tokio::time::timeout(slow, &mut told).await {
            Ok(answer) => answer,
            Err(_) => {
                drop(ringer.take());
                self.bell.notify_one();
                told.await
            }
        };
        let mut own_fault = false;
        let end = match answer {
            Ok(()) => {
                count(&self.counters.alarms_fired);
                self.attempts.lock().remove(&key);
                AlarmEnd::Done
            }
            Err(error) => {
                count(&self.counters.alarms_failed);
                let failure = self.whose_fault(&live, &error).await;
                own_fault = failure == Failure::Handler;
                match self.failed(key.0, key.1, failure, alarm.retries, &error.to_string()) {
                    None => AlarmEnd::Done,
                    Some(at_ms) => AlarmEnd::Retry { at_ms, counts: own_fault },
                }
            }
        };
        // Its place among those that may be awake is the next guest's.
        drop(live);
        if active.guest().alive() {
            self.write_end(active, move |storage| storage.alarm_end(&alarm.name, end)).await?;
            return Ok(true);
        }
        // What a guest that has ended leaves is not written to any more: somebody else may own the actor by now. Its next guest writes down what became
        // of the attempt, and at once: otherwise a node that goes down now would count from nothing again.
        if own_fault {
            let next = self.activate(active.id(), place).await?;
            self.write_end(&next, move |storage| storage.alarm_ended_before(&alarm, end)).await?;
        }
        Ok(false)
    }

    /// Writes down how an attempt ended, durably if that is a turn of its own.
    async fn write_end(
        self: &Arc<Self>,
        active: &Active,
        write: impl FnOnce(&mut Storage) -> Result<(), SqlError> + Send + 'static,
    ) -> Result<(), ActorError> {
        let ended = self.with_storage(active, move |storage| -> Result<_, StorageError> {
            let within = storage.in_turn();
            write(storage)?;
            // Within a turn it is committed with what the guest writes.
            if within { Ok(None) } else { storage.end_turn() }
        });
        if let Some(pending) = ended.await?? {
            // Until it is durable the actor counts as being fired: a wake-up that is behind does not fire again what is done.
            pending.await.map_err(ActorError::Log)?;
        }
        Ok(())
    }

    /// That the guest was ended by us, or by a disk that did not keep what it wrote, is not the handler's fault.
    async fn whose_fault(&self, live: &Live, error: &GuestError) -> Failure {
        let of_its_code = matches!(error, GuestError::Threw(_) | GuestError::Start(_) | GuestError::Ended(_));
        let by_itself = live.guest.alive() || (!live.told_to_end.load(Relaxed) && self.settled(&live.storage).await.is_ok());
        if of_its_code && by_itself { Failure::Handler } else { Failure::Internal }
    }

    /// Notes a failure: when it is tried again, or `None` when it is given up.
    fn failed(&self, actor: ActorId, name: Option<String>, failure: Failure, counted: u32, why: &str) -> Option<u64> {
        let config = &self.config.alarms;
        let mut attempts = self.attempts.lock();
        let key = (actor, name);
        let mut tried = attempts.get(&key).map_or(Attempts::default(), |(tried, _)| *tried);
        // What was counted before this node started is waited for as well.
        tried.counted = tried.counted.max(counted);
        tried.all = tried.all.max(counted);
        let again_ms = tried.after(failure, self.clock.now_ms(), config.backoff_ms, config.retries);
        match again_ms {
            Some(again_ms) if attempts.len() < FAILED_MAX || attempts.contains_key(&key) => {
                attempts.insert(key, (tried, again_ms));
            }
            Some(_) => {}
            None => {
                attempts.remove(&key);
                drop(attempts);
                count(&self.counters.alarms_given_up);
                let which = key.1.filter(|name| !name.is_empty()).map_or_else(String::new, |name| format!("{name}: "));
                self.told(actor, What::AlarmGivenUp, &format!("{which}{why}"));
            }
        }
        again_ms
    }
}
