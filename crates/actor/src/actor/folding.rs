//! When records are brought to their files: the log is crowded, an actor's newest pages or all actors' take too much memory, or an actor has left
//! more records behind than its next start should read. The directory is written along with it.
//!
//! Driven by `sweep`; how it is done is `pages`. No actor stops for it, and none waits.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    mem,
    sync::{Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use skep_id::ActorId;
use tokio::sync::Notify;

use super::{Config, Node, sweep::still};

/// How often the directory is written, and the log is asked whether it is crowded.
const WRITE_EVERY: Duration = Duration::from_millis(500);

/// How soon an actor is looked at again whose records were not durable yet.
const AGAIN: Duration = Duration::from_millis(20);

/// Actors whose records are to be brought to their files, and the bell for who does it.
#[derive(Debug)]
pub(crate) struct Due {
    actors: Mutex<BTreeSet<ActorId>>,
    bell: Notify,
    overlay_bytes: usize,
    overlays_bytes: usize,
    tail_bytes: u64,
    left_bytes: u64,
}

impl Due {
    pub(crate) fn new(config: &Config) -> Self {
        let Config { overlay_bytes, overlays_bytes, tail_bytes, left_bytes, .. } = *config;
        Self { actors: Mutex::default(), bell: Notify::new(), overlay_bytes, overlays_bytes, tail_bytes, left_bytes }
    }

    /// An actor has committed: what its newest pages take in memory, what those of all do, and what reading its records would cost, in bytes.
    pub(crate) fn committed(&self, actor: ActorId, overlay: usize, overlays: usize, tail: u64) {
        if self.too_much(overlay, tail) {
            self.add(actor);
        } else if overlays > self.overlays_bytes {
            self.bell.notify_one();
        }
    }

    /// An actor has fallen asleep; its next start would read so many bytes.
    pub(crate) fn slept(&self, actor: ActorId, tail: u64) {
        if tail > self.left_bytes {
            self.add(actor);
        }
    }

    fn too_much(&self, overlay: usize, tail: u64) -> bool {
        overlay > self.overlay_bytes || tail > self.tail_bytes
    }

    fn add(&self, actor: ActorId) {
        // Who is in has rung already.
        if self.actors.lock().insert(actor) {
            self.bell.notify_one();
        }
    }
}

/// When to look again.
enum Next {
    /// When somebody rings.
    Bell,
    /// Soon: somebody's records were not durable yet.
    Soon,
    /// Not before a while, whoever rings: something failed, and would fail again.
    Later,
}

/// Writes the directory and folds, again and again, until the node is closed.
pub(crate) async fn write(weak: Weak<Node>) {
    let mut next = Next::Bell;
    loop {
        let Some(due) = still(&weak).map(|node| node.files.due().clone()) else { return };
        match next {
            Next::Bell => drop(tokio::time::timeout(WRITE_EVERY, due.bell.notified()).await),
            Next::Soon => tokio::time::sleep(AGAIN).await,
            Next::Later => tokio::time::sleep(WRITE_EVERY).await,
        }
        let Some(node) = still(&weak) else { return };
        let worker = node.clone();
        next = match node.blocking(move || worker.write_and_fold()).await {
            Ok(next) => next,
            Err(_) => return,
        };
    }
}

impl Node {
    /// Writes the directory; then brings records to their files, as long as there is reason to and nobody closes the node. The directory goes first:
    /// what it has not got is found again only in records that are not yet trimmed.
    fn write_and_fold(&self) -> Next {
        let (mut unready, mut failed) = (BTreeSet::new(), BTreeSet::new());
        loop {
            if let Err(error) = self.directory.flush() {
                tracing::warn!(%error, "the directory of actors cannot be written");
                return Next::Later;
            }
            let tried = |actor: &ActorId| unready.contains(actor) || failed.contains(actor);
            let chosen: Vec<_> = self.choose().into_iter().filter(|actor| !tried(actor)).collect();
            if chosen.is_empty() || *self.closed.borrow() {
                break;
            }
            for (actor, folded) in self.files.fold(&chosen) {
                if let Err(error) = folded {
                    tracing::error!(%actor, %error, "its records cannot be brought to its file");
                    failed.insert(actor);
                } else if self.is_heavy(actor) {
                    unready.insert(actor);
                }
            }
            self.counters.folded.fetch_add(chosen.len() as u64, Relaxed);
        }
        unready.retain(|actor| self.is_heavy(*actor));
        let next = match (failed.is_empty(), unready.is_empty()) {
            (false, _) => Next::Later,
            (true, false) => Next::Soon,
            (true, true) => Next::Bell,
        };
        self.files.due().actors.lock().extend(unready);
        next
    }

    /// Whom to fold now, at most `fold_at_once`: those who stand in the log's way, those that are due, and while all newest pages together take too
    /// much memory, those who have most.
    fn choose(&self) -> Vec<ActorId> {
        let (due, most) = (self.files.due(), self.config.fold_at_once.max(1));
        let crowd = self.log.crowding(most);
        if !crowd.is_empty() {
            return crowd;
        }
        let chosen: Vec<_> = {
            let mut actors = due.actors.lock();
            let rest = actors.iter().nth(most).copied().map_or_else(BTreeSet::new, |first| actors.split_off(&first));
            mem::replace(&mut *actors, rest).into_iter().collect()
        };
        if !chosen.is_empty() || self.files.overlay_bytes() <= due.overlays_bytes {
            return chosen;
        }
        let awake = self.every_cell();
        let mut by_size: Vec<_> = awake.iter().filter_map(|cell| Some((Reverse(cell.live()?.overlay.load(Relaxed)), cell.id))).collect();
        by_size.sort_unstable();
        by_size.into_iter().take_while(|(Reverse(bytes), _)| *bytes > 0).take(most).map(|(_, id)| id).collect()
    }

    fn is_heavy(&self, actor: ActorId) -> bool {
        let (overlay, tail) = self.files.weight(actor);
        self.files.due().too_much(overlay, tail)
    }
}
