//! What goes on by itself: actors that are idle fall asleep, busy ones are written down now and then, and what is older than retention goes;
//! `folding` brings records to their files.
//!
//! Every loop holds the node weakly and ends with it. All disk work of one loop is one piece at a time, so that it never stands in the way of requests.

use std::{
    cmp::Reverse,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use skep_id::ActorId;
use tokio::time::Instant;

use super::{Node, cell::Cell, folding, machine::Event};
use crate::{
    RecordKind, Seq,
    directory::Change,
    log::{Head, LogError},
};

/// How often idle actors are looked for, at most.
const SWEEP_MAX: Duration = Duration::from_secs(1);

/// Actors that are asked to fall asleep in one sweep: their heaps all go to the log.
const SLEEPS_EACH: usize = 256;

/// Bytes that may wait to be written to the log before nobody more is asked to fall asleep.
const QUEUED_MAX: usize = 64 << 20;

/// Actors written down in one sweep because they have had many records.
const CHECKPOINTS_EACH: usize = 4;

/// How often the end of a log is read again because it grew meanwhile.
const CATCH_UP_TRIES: usize = 8;

/// Records read at once while the end of an actor's log is looked for.
const TAIL: u64 = 64;

/// Starts all loops.
pub(crate) fn begin(node: &Arc<Node>) {
    node.spawn(reconcile(Arc::downgrade(node)));
    node.spawn(sweep(Arc::downgrade(node)));
    node.spawn(press(Arc::downgrade(node)));
    node.spawn(folding::write(Arc::downgrade(node)));
    node.spawn(expire(Arc::downgrade(node)));
}

/// The node, unless it is closed or gone.
pub(crate) fn still(node: &Weak<Node>) -> Option<Arc<Node>> {
    node.upgrade().filter(|node| !*node.closed.borrow())
}

async fn sweep(weak: Weak<Node>) {
    loop {
        let Some(node) = still(&weak) else { return };
        let idle = Duration::from_millis(node.config.idle_ms);
        let (now, cells) = (Instant::now(), node.every_cell());
        let mut rested = 0;
        for cell in &cells {
            if cell.idle_since().is_some_and(|since| now.saturating_duration_since(since) >= idle) && at_rest(cell) {
                if rested >= SLEEPS_EACH || node.log.queued_bytes() > QUEUED_MAX {
                    break;
                }
                rested += 1;
                node.tell(cell, Event::Rest);
            }
        }
        node.write_down_busy(&cells);
        drop((cells, node));
        tokio::time::sleep((idle / 4).clamp(Duration::from_millis(5), SWEEP_MAX)).await;
    }
}

/// Whether a guest has nothing in flight.
fn at_rest(cell: &Cell) -> bool {
    cell.live().is_some_and(|live| live.guest.in_flight() == 0)
}

/// Makes room when somebody waits for it.
async fn press(weak: Weak<Node>) {
    loop {
        let Some(node) = still(&weak) else { return };
        let waited = tokio::time::timeout(SWEEP_MAX, node.pressed.notified()).await.is_ok();
        if waited {
            let many = (node.config.awake_max / 32).max(1);
            node.counters.pressed_out.fetch_add(node.relieve(many) as u64, Relaxed);
            drop(node);
            // Who still waits says so again, and one that is busy now may be idle then.
            tokio::time::sleep(Duration::from_millis(5)).await;
            let Some(node) = still(&weak) else { return };
            if node.rooms.available_permits() == 0 {
                node.pressed.notify_one();
            }
        }
    }
}

async fn expire(weak: Weak<Node>) {
    loop {
        let Some(every) = weak.upgrade().map(|node| node.config.expire_every_ms.max(1)) else { return };
        tokio::time::sleep(Duration::from_millis(every)).await;
        let Some(node) = still(&weak) else { return };
        let before_ms = node.clock.now_ms().saturating_sub(node.config.retention_ms);
        let files = node.files.clone();
        match node.blocking(move || files.expire(before_ms)).await {
            Ok(Ok(bytes)) => drop(node.counters.expired_bytes.fetch_add(bytes, Relaxed)),
            Ok(Err(error)) => tracing::warn!(%error, "what is older than retention cannot be removed"),
            Err(_) => return,
        }
    }
}

/// Brings the directory up to date with the records that were in flight when the node went down.
async fn reconcile(weak: Weak<Node>) {
    let Some(node) = still(&weak) else { return };
    let recent = node.log.recent();
    let worker = node.clone();
    if node.directory.is_new() && node.blocking(move || worker.fill_directory()).await.is_err() {
        return;
    }
    drop(node);
    for piece in recent.chunks(256) {
        let Some(node) = still(&weak) else { return };
        let piece = piece.to_vec();
        let worker = node.clone();
        let worked = node.blocking(move || piece.into_iter().for_each(|(actor, _)| worker.catch_up(actor))).await;
        if worked.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

impl Node {
    /// Puts up to `most` idle actors to sleep, those that have been idle for longest first, and says how many were asked.
    pub(crate) fn relieve(self: &Arc<Self>, most: usize) -> usize {
        let mut idle: Vec<_> = self.every_cell().into_iter().filter_map(|cell| Some((cell.idle_since()?, cell))).collect();
        let order = |(since, cell): &(Instant, Arc<Cell>)| (*since, Reverse(cell.id));
        // In a storm it is asked again and again for a few of thousands.
        let enough = most.saturating_mul(4);
        if idle.len() > enough && enough > 0 {
            idle.select_nth_unstable_by_key(enough - 1, order);
            idle[..enough].sort_unstable_by_key(order);
        } else {
            idle.sort_unstable_by_key(order);
        }
        let chosen: Vec<_> = idle.into_iter().filter(|(_, cell)| at_rest(cell)).take(most).collect();
        for (_, cell) in &chosen {
            self.tell(cell, Event::Rest);
        }
        chosen.len()
    }

    /// Writes down actors that have had many records since they were written down.
    fn write_down_busy(self: &Arc<Self>, cells: &[Arc<Cell>]) {
        let every = self.config.checkpoint_every;
        if every == 0 {
            return;
        }
        let behind = |live: &super::cell::Live| {
            // One that is in the middle of a statement is looked at the next time.
            live.storage.try_lock().is_some_and(|storage| storage.last().0.saturating_sub(live.checkpoint.0) >= every)
        };
        let due = cells.iter().filter_map(|cell| Some((cell, cell.live().filter(behind)?))).take(CHECKPOINTS_EACH);
        for (cell, live) in due {
            let (node, cell) = (self.clone(), cell.clone());
            self.spawn(async move {
                if let Err(error) = node.checkpoint_live(&cell, &live).await {
                    tracing::debug!(actor = %cell.id, %error, "not written down this time");
                }
            });
        }
    }

    /// Brings an actor's row up to date with the end of its log; finishes a deletion that was cut off.
    fn catch_up(&self, actor: ActorId) {
        for _ in 0..CATCH_UP_TRIES {
            let head = self.log.head(actor);
            let Some((change, wake_ms, deleted)) = self.end_of_log(actor, head) else { return };
            // What a guest that is awake by now does is newer.
            if self.cells.lock().contains_key(&actor) {
                return;
            }
            if self.log.head(actor).seq != head.seq {
                continue;
            }
            if deleted {
                return self.finish_deletion(actor);
            }
            if change.met.is_none() && matches!(self.directory.get(actor), Ok(None)) {
                return self.recall_or_say(actor);
            }
            self.note(actor, change);
            if let Some(wake_ms) = wake_ms {
                self.wake_changed(actor, wake_ms);
            }
            return;
        }
    }

    /// What the end of an actor's log says: of its row, of its next wake-up, and whether it is gone. `None`: nothing that is not in the directory.
    fn end_of_log(&self, actor: ActorId, head: Head) -> Option<(Change, Option<Option<u64>>, bool)> {
        let (mut change, mut alarm_ms, mut timer_ms, mut to) = (Change::default(), None, None, head.seq);
        // From the end backwards, until both its place and its wake-up are known or the log begins.
        while to >= head.first && to.0 > 0 && (change.met.is_none() || alarm_ms.is_none()) {
            let after = Seq(to.0.saturating_sub(TAIL).max(head.first.0.saturating_sub(1)));
            let records = match self.log.read(actor, after, to) {
                Ok(records) => records,
                // Folded meanwhile: then it is in the directory.
                Err(LogError::Trimmed { .. }) => break,
                Err(error) => {
                    tracing::error!(%actor, %error, "the end of its log cannot be read");
                    return None;
                }
            };
            for record in records.iter().rev() {
                if record.kind == RecordKind::Delete {
                    return Some((change, None, record.seq == head.seq));
                }
                if record.kind == RecordKind::Checkpoint && change.checkpoint.is_none() {
                    change.checkpoint = Some(Some(record.seq));
                    timer_ms = self.files.timer_of(record).filter(|_| alarm_ms.is_none());
                }
                alarm_ms = alarm_ms.or_else(|| self.files.wake_of(record));
                change.met = change.met.take().or_else(|| self.files.place_of(record));
            }
            to = after;
        }
        let wake_ms = match (alarm_ms, timer_ms) {
            (Some(alarm_ms), timer_ms) => Some([alarm_ms, timer_ms].into_iter().flatten().min()),
            (None, Some(timer_ms)) => Some(Some(timer_ms)),
            (None, None) => None,
        };
        Some((change, wake_ms, false))
    }

    /// Makes rows of actors that only their files know: the directory is new, or was lost.
    fn fill_directory(&self) {
        match self.files.actors() {
            Err(error) => tracing::error!(%error, "actors cannot be looked for in their files"),
            Ok(actors) => actors.into_iter().for_each(|actor| self.recall_or_say(actor)),
        }
    }

    fn recall_or_say(&self, actor: ActorId) {
        if let Err(why) = self.recall(actor) {
            tracing::warn!(%actor, %why, "the directory gets no row of it");
        }
    }

    /// Whether the end of an actor's log says where it belongs, or that it is gone: its row will be there, if it is not yet.
    pub(crate) fn log_tells(&self, actor: ActorId) -> bool {
        self.end_of_log(actor, self.log.head(actor)).is_some_and(|(change, _, deleted)| deleted || change.met.is_some())
    }

    /// Makes the row of an actor that the directory does not know; why it cannot.
    pub(crate) fn recall(&self, actor: ActorId) -> Result<(), String> {
        match self.files.recall(actor) {
            // What a guest that is awake by now does is newer.
            Ok(_) if self.cells.lock().contains_key(&actor) => Ok(()),
            Ok(Some(change)) => {
                let wake_ms = change.wake_ms;
                self.note(actor, change);
                if let Some(wake_ms) = wake_ms {
                    self.wake_changed(actor, wake_ms);
                }
                Ok(())
            }
            Ok(None) => Err("its files do not say where it belongs, and its alarms ring only after its next message".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn finish_deletion(&self, actor: ActorId) {
        match self.files.remove(actor) {
            Ok(()) => self.note(actor, Change { gone: true, ..Change::default() }),
            Err(error) => tracing::error!(%actor, %error, "it was deleted, and its files cannot be removed"),
        }
    }
}
