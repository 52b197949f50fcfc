//! Whether what was durable reads back, whatever happens: random histories against a model, a cut of the power at every step, damage.

use std::{collections::BTreeMap, future::Future, path::Path, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;
use skep_id::ActorId;

use super::{
    CommitMeta, Fork, Library, PAGE, Page, Pages, PagesError, View, ZERO,
    sim::{Dice, SimDisk, next},
};
use crate::{
    log::{DurableLog, MemoryLog},
    record::{RecordKind, Seq},
};

/// The database of one actor at each place, as it should be.
type Model = Vec<Arc<Vec<Page>>>;

struct World {
    disk: SimDisk,
    log: MemoryLog,
    library: Arc<Library>,
    live: BTreeMap<ActorId, Pages>,
    model: BTreeMap<ActorId, Model>,
    /// Views that are held, with what they should show.
    views: Vec<(View, Arc<Vec<Page>>)>,
    /// Heaps in checkpoints: place and content.
    heaps: BTreeMap<ActorId, Vec<(Seq, Bytes)>>,
    clock: u64,
    /// The past before this time may be gone.
    expired_ms: u64,
    born: u8,
}

fn actor(n: u8) -> ActorId {
    ActorId::new([n; 32])
}

#[derive(Clone, Debug)]
enum Action {
    Create,
    Commit { who: u8, truncate: Option<u32>, edits: Vec<(u32, u16, u8)> },
    Checkpoint { who: u8 },
    Fold { many: u8 },
    Fill { who: u8 },
    Fork { who: u8, place: u8 },
    Rewind { who: u8, place: u8 },
    View { who: u8, place: u8 },
    DropViews,
    Expire { place: u8 },
    Delete { who: u8 },
    KeepHistory(bool),
    Sleep { who: u8 },
    Cut { seed: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    let edits = proptest::collection::vec((1u32..12, any::<u16>(), any::<u8>()), 0..6);
    let truncate = prop_oneof![6 => Just(None), 1 => (0u32..12).prop_map(Some)];
    prop_oneof![
        2 => Just(Action::Create),
        12 => (any::<u8>(), truncate, edits).prop_map(|(who, truncate, edits)| Action::Commit { who, truncate, edits }),
        2 => any::<u8>().prop_map(|who| Action::Checkpoint { who }),
        6 => any::<u8>().prop_map(|many| Action::Fold { many }),
        1 => any::<u8>().prop_map(|who| Action::Fill { who }),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(who, place)| Action::Fork { who, place }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(who, place)| Action::Rewind { who, place }),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(who, place)| Action::View { who, place }),
        1 => Just(Action::DropViews),
        2 => any::<u8>().prop_map(|place| Action::Expire { place }),
        1 => any::<u8>().prop_map(|who| Action::Delete { who }),
        1 => any::<bool>().prop_map(Action::KeepHistory),
        2 => any::<u8>().prop_map(|who| Action::Sleep { who }),
        2 => any::<u64>().prop_map(|seed| Action::Cut { seed }),
    ]
}

fn shown(view: &View) -> Result<Vec<Page>, PagesError> {
    (1..=view.count()).map(|page| read(|into| view.read(page, into))).collect()
}

fn read(read: impl FnOnce(&mut Page) -> Result<(), PagesError>) -> Result<Page, PagesError> {
    let mut page = ZERO;
    read(&mut page)?;
    Ok(page)
}

impl World {
    fn new() -> Self {
        let (disk, log) = (SimDisk::default(), MemoryLog::new());
        let library = Library::on(Arc::new(disk.clone()), Path::new("/library"), Arc::new(log.clone())).unwrap();
        Self {
            disk,
            log,
            library,
            live: BTreeMap::new(),
            model: BTreeMap::new(),
            views: Vec::new(),
            heaps: BTreeMap::new(),
            clock: 1000,
            expired_ms: 0,
            born: 0,
        }
    }

    fn pick(&self, n: u8) -> Option<ActorId> {
        let actors: Vec<_> = self.model.keys().collect();
        actors.get(usize::from(n) % actors.len().max(1)).map(|actor| **actor)
    }

    /// A place of an actor that is still kept.
    fn place(&self, actor: ActorId, n: u8) -> Result<Seq, PagesError> {
        let shelf = self.library.shelf(actor)?;
        let (first, head) = (shelf.state.read().first().0, self.log.head(actor).seq.0);
        Ok(Seq(first + u64::from(n) % (head - first + 1)))
    }

    fn append(&mut self, actor: ActorId, kind: RecordKind, body: Bytes) -> Seq {
        self.clock += 10;
        let record = next(&self.log, actor, kind, self.clock, body);
        let seq = record.seq;
        let mut ticket = self.log.append(record);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(matches!(std::pin::Pin::new(&mut ticket).poll(&mut context), std::task::Poll::Ready(Ok(_))));
        seq
    }

    /// A record that changes no page.
    fn append_same(&mut self, actor: ActorId, kind: RecordKind, body: Bytes) -> Seq {
        let same = self.model[&actor].last().unwrap().clone();
        self.model.get_mut(&actor).unwrap().push(same);
        self.append(actor, kind, body)
    }

    fn pages(&mut self, actor: ActorId) -> Result<&mut Pages, PagesError> {
        if !self.live.contains_key(&actor) {
            let pages = self.library.pages(actor)?.ok_or(PagesError::Gone(actor))?;
            self.live.insert(actor, pages);
        }
        Ok(self.live.get_mut(&actor).unwrap())
    }

    fn create(&mut self) -> Result<ActorId, PagesError> {
        self.born += 1;
        let id = actor(self.born);
        let pages = self.library.create(id)?;
        self.live.insert(id, pages);
        self.model.insert(id, vec![Arc::default()]);
        self.append_same(id, RecordKind::Fence, Bytes::new());
        Ok(id)
    }

    /// Commits what is in the open transaction.
    fn commit(&mut self, id: ActorId, now: Vec<Page>) {
        let at = self.log.head(id).seq.next();
        let body = self.live.get_mut(&id).unwrap().commit(at, &CommitMeta::default());
        assert_eq!(self.append(id, RecordKind::Commit, body), at);
        self.model.get_mut(&id).unwrap().push(Arc::new(now));
    }

    fn act(&mut self, action: &Action) -> Result<(), PagesError> {
        match action {
            Action::Create => drop(self.create()?),
            Action::Commit { who, truncate, edits } => {
                let Some(id) = self.pick(*who) else { return Ok(()) };
                let mut now = (**self.model[&id].last().unwrap()).clone();
                let pages = self.pages(id)?;
                if let Some(count) = truncate {
                    pages.truncate(*count);
                    now.resize(*count as usize, ZERO);
                }
                for (page, at, byte) in edits {
                    now.resize(now.len().max(*page as usize), ZERO);
                    let content = &mut now[*page as usize - 1];
                    // Now and then a whole page.
                    if *at % 5 == 0 {
                        *content = [*byte; PAGE]
                    } else {
                        content[usize::from(*at) % PAGE] = *byte
                    }
                    pages.write(*page, content);
                }
                assert_eq!(pages.count() as usize, now.len());
                self.commit(id, now);
            }
            Action::Checkpoint { who } => {
                let Some(id) = self.pick(*who) else { return Ok(()) };
                let heap = Bytes::from(format!("heap {}", self.clock));
                let seq = self.append_same(id, RecordKind::Checkpoint, heap.clone());
                self.heaps.entry(id).or_default().push((seq, heap));
            }
            Action::Fold { many } => {
                let actors: Vec<_> = self.model.keys().copied().collect();
                let n = 1 + usize::from(*many) % actors.len().max(1);
                // One after the other, so that a seed says it all.
                for id in &actors[..n.min(actors.len())] {
                    self.library.fold(&[*id]).into_iter().try_for_each(|(_, result)| result)?;
                }
            }
            Action::Fill { who } => {
                let Some(id) = self.pick(*who) else { return Ok(()) };
                self.library.fill(id)?;
            }
            Action::Fork { who, place } => {
                let Some(parent) = self.pick(*who) else { return Ok(()) };
                let at = self.place(parent, *place)?;
                let view = self.library.view(parent, at)?;
                self.born += 1;
                let child = actor(self.born);
                let pages = self.library.fork(&view, child)?;
                self.live.insert(child, pages);
                self.model.insert(child, vec![self.model[&parent][at.0 as usize].clone()]);
                self.append_same(child, RecordKind::Fence, Bytes::new());
                self.append_same(child, RecordKind::Fork, Fork::of(&view, 0).encode());
            }
            Action::Rewind { who, place } => {
                let Some(id) = self.pick(*who) else { return Ok(()) };
                let at = self.place(id, *place)?;
                let view = self.pages(id)?.view(at)?;
                self.pages(id)?.bring_to(&view)?;
                self.commit(id, (*self.model[&id][at.0 as usize]).clone());
            }
            Action::View { who, place } => {
                let Some(id) = self.pick(*who) else { return Ok(()) };
                let at = self.place(id, *place)?;
                let view = if *place % 2 == 0 { self.pages(id)?.view(at)? } else { self.library.view(id, at)? };
                self.views.push((view, self.model[&id][at.0 as usize].clone()));
            }
            Action::DropViews => self.views.clear(),
            Action::Expire { place } => {
                let before = 1000 + (self.clock - 1000) * u64::from(*place) / 255;
                self.expired_ms = self.expired_ms.max(before);
                let expired = self.library.expire(before)?;
                if let Some((_, e)) = expired.failed.into_iter().next() {
                    return Err(e);
                }
                for id in self.model.keys() {
                    match self.library.place_at(*id, before) {
                        Err(PagesError::Expired { .. }) if before < self.expired_ms => {}
                        other => drop(other?),
                    }
                }
            }
            Action::Delete { who } => {
                let Some(id) = self.pick(*who) else { return Ok(()) };
                self.live.remove(&id);
                self.views.retain(|(view, _)| view.actor() != id);
                self.append(id, RecordKind::Delete, Bytes::new());
                self.model.remove(&id);
                self.heaps.remove(&id);
                let result = self.library.delete(id);
                if result.is_err() {
                    if self.disk.was_cut() {
                        self.restart(7);
                    }
                    assert!(self.library.pages(id)?.is_none());
                    self.library.delete(id)?;
                }
            }
            Action::KeepHistory(yes) => {
                self.library.keep_history(*yes);
                self.expired_ms = self.expired_ms.max(if *yes { 0 } else { u64::MAX });
            }
            Action::Sleep { who } => drop(self.pick(*who).and_then(|id| self.live.remove(&id))),
            Action::Cut { seed } => self.restart(*seed),
        }
        Ok(())
    }

    fn restart(&mut self, seed: u64) {
        self.disk.restart(seed);
        self.kill();
    }

    /// The process ends and another begins; the machine goes on.
    fn kill(&mut self) {
        self.live.clear();
        self.views.clear();
        self.disk.revive();
        self.library = Library::on(Arc::new(self.disk.clone()), Path::new("/library"), Arc::new(self.log.clone())).unwrap();
    }

    /// All that is held shows what it should.
    fn check_held(&self) {
        for (view, should) in &self.views {
            assert!(shown(view).unwrap() == **should, "a view of {} at {}", view.actor(), view.at());
        }
        for (id, pages) in &self.live {
            let should = self.model[id].last().unwrap();
            assert_eq!(pages.count() as usize, should.len());
            for (page, should) in (1..).zip(should.iter()) {
                assert!(read(|into| pages.read(page, into)).unwrap() == *should, "page {page} of {id}");
            }
        }
    }

    /// Every place that is kept reads back, and so does the latest heap.
    fn check_all(&self) {
        self.check_held();
        for (id, model) in &self.model {
            // The copy of the header that is not synced may be torn; nothing hangs on it.
            let findings = self.library.inspect(*id, false);
            assert!(findings.iter().all(|finding| finding.lost.is_none() && finding.offset <= 4096), "{findings:?}");
            let first = self.library.shelf(*id).unwrap().state.read().first();
            let expired = self.library.place_at(*id, self.expired_ms).unwrap_or(first);
            for (at, should) in model.iter().enumerate().skip(first.0 as usize) {
                let view = self.library.view(*id, Seq(at as u64)).unwrap();
                assert!(shown(&view).unwrap() == **should, "{id} at {at}");
                // A past that was to expire may still be there, but without its heaps.
                if (at as u64) < expired.0 {
                    continue;
                }
                let heap = self.library.checkpoint(*id, Seq(at as u64)).unwrap();
                let heaps = self.heaps.get(id).map_or(&[][..], |heaps| heaps);
                let should = heaps.iter().rev().find(|(seq, _)| seq.0 <= at as u64);
                assert_eq!(heap.map(|record| (record.seq, record.body)).as_ref(), should, "the heap of {id} at {at}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_durable_place_within_retention_reads_back(actions in history()) {
        run(actions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// The same, longer.
    #[test]
    #[ignore = "takes a minute"]
    fn soak_every_durable_place_within_retention_reads_back(actions in history()) {
        run(actions);
    }
}

/// What goes wrong in an action, after so many operations of the disk.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut { after: u64, seed: u64 },
    Kill { after: u64 },
    Fail { after: u64 },
}

fn history() -> impl Strategy<Value = Vec<(Action, Option<Fault>)>> {
    let fault = prop_oneof![
        (0u64..40, any::<u64>()).prop_map(|(after, seed)| Fault::Cut { after, seed }),
        (0u64..40).prop_map(|after| Fault::Kill { after }),
        (0u64..20).prop_map(|after| Fault::Fail { after }),
    ];
    proptest::collection::vec((action(), proptest::option::weighted(0.2, fault)), 1..60)
}

fn run(actions: Vec<(Action, Option<Fault>)>) {
    let mut world = World::new();
    for (action, fault) in actions {
        match fault {
            Some(Fault::Cut { after, .. } | Fault::Kill { after }) => world.disk.cut_after(after),
            Some(Fault::Fail { after }) => world.disk.fail_after(after),
            None => {}
        }
        let result = world.act(&action);
        let failed = world.disk.has_failed();
        match fault {
            Some(Fault::Cut { seed, .. }) if world.disk.was_cut() => {
                world.restart(seed);
                world.check_all();
            }
            Some(Fault::Kill { .. }) if world.disk.was_cut() => world.kill(),
            Some(Fault::Fail { .. }) if failed => world.check_held(),
            _ => {
                result.unwrap();
                world.check_held();
            }
        }
    }
    world.check_all();
    world.restart(1);
    world.check_all();
}

fn commit(who: u8, edits: &[(u32, u16, u8)]) -> Action {
    Action::Commit { who, truncate: None, edits: edits.to_vec() }
}

/// Found by the soak: a header whose sync had failed was read by the next process, which only synced it again, and went on from it.
#[test]
fn a_header_that_only_the_cache_has_is_written_again() {
    for after in 0..40 {
        for seed in 0..20 {
            let steps = [
                (Action::Create, None),
                (commit(0, &[(1, 0, 1)]), None),
                (Action::Fold { many: 0 }, None),
                (commit(0, &[(2, 0, 0)]), None),
                (Action::Fold { many: 0 }, Some(Fault::Kill { after })),
                (commit(0, &[(4, 0, 0)]), None),
                (Action::Fold { many: 0 }, Some(Fault::Cut { after: seed / 2, seed })),
            ];
            run(steps.to_vec());
        }
    }
}

/// An actor with a base and a tail that overwrites, shortens and lengthens; a child of it with its own tail.
fn eventful() -> World {
    let mut world = World::new();
    let shrink = Action::Commit { who: 0, truncate: Some(3), edits: vec![(2, 7, 7)] };
    let actions = [
        Action::Create,
        commit(0, &[(1, 0, 1), (2, 0, 2), (3, 1, 3), (8, 2, 9)]),
        Action::Fold { many: 0 },
        commit(0, &[(1, 9, 9), (5, 5, 5)]),
        Action::Checkpoint { who: 0 },
        Action::Fork { who: 0, place: 2 },
        commit(1, &[(2, 11, 4), (10, 3, 3)]),
        shrink,
        commit(0, &[(6, 1, 1)]),
    ];
    actions.iter().for_each(|action| world.act(action).unwrap());
    world
}

/// Cuts the power after each operation of an action in turn, and lets each one fail.
fn cut_everywhere(prepare: impl Fn() -> World, action: &Action) {
    for operations in 0.. {
        for seed in 0..6 {
            let mut world = prepare();
            world.disk.cut_after(operations);
            let result = world.act(action);
            if !world.disk.was_cut() {
                result.unwrap();
                assert!(operations > 1, "the action does nothing");
                return fail_everywhere(operations - 1, prepare, action);
            }
            world.restart(Dice(operations * 31 + seed).below(u64::MAX));
            world.check_all();
            go_on(&mut world);
        }
    }
}

/// A disk that fails once, and loses what that operation was to make durable, costs nothing.
fn fail_everywhere(operations: u64, prepare: impl Fn() -> World, action: &Action) {
    for operation in 0..operations {
        for seed in 0..6 {
            let mut world = prepare();
            world.disk.fail_after(operation);
            let result = world.act(action);
            assert!(world.disk.has_failed());
            if seed % 2 == 0 {
                world.check_all();
            }
            if seed < 2 && result.is_err() {
                world.act(action).unwrap();
            }
            if seed < 4 {
                go_on(&mut world);
            }
            world.restart(Dice(operation * 37 + seed).below(u64::MAX));
            world.check_all();
            go_on(&mut world);
        }
    }
}

fn go_on(world: &mut World) {
    world.act(&commit(0, &[(4, 4, 4), (9, 5, 9)])).unwrap();
    world.act(&Action::Fold { many: 1 }).unwrap();
    world.check_all();
}

#[test]
fn a_fold_that_is_cut_off_anywhere_loses_nothing() {
    cut_everywhere(eventful, &Action::Fold { many: 1 });
}

/// An actor whose next fold leaves enough chapters to be joined, and a child that reads from one of them.
fn long_history() -> World {
    let mut world = World::new();
    let shrink = Action::Commit { who: 0, truncate: Some(2), edits: vec![(2, 7, 7)] };
    let actions = [
        Action::Create,
        commit(0, &[(1, 0, 1), (2, 0, 2), (3, 1, 3), (8, 2, 9)]),
        Action::Fold { many: 0 },
        commit(0, &[(1, 9, 9), (5, 5, 5)]),
        Action::Checkpoint { who: 0 },
        Action::Fold { many: 0 },
        shrink,
        Action::Fork { who: 0, place: 3 },
        commit(0, &[(6, 1, 1)]),
    ];
    actions.iter().for_each(|action| world.act(action).unwrap());
    world
}

#[test]
fn a_join_that_is_cut_off_anywhere_loses_nothing() {
    let mut world = long_history();
    world.act(&Action::Fold { many: 0 }).unwrap();
    assert_eq!(chapters(&world, actor(1)), 1, "they were not joined");
    world.check_all();
    cut_everywhere(long_history, &Action::Fold { many: 0 });
}

fn chapters(world: &World, who: ActorId) -> usize {
    world.library.shelf(who).unwrap().state.read().chapters.len()
}

#[test]
fn an_expiry_of_joined_chapters_that_is_cut_off_anywhere_loses_nothing() {
    let joined = || {
        let mut world = long_history();
        world.act(&Action::Fold { many: 0 }).unwrap();
        // What was joined had been removed, but not durably.
        world.restart(4);
        world.act(&commit(0, &[(1, 1, 1)])).unwrap();
        world
    };
    cut_everywhere(joined, &Action::Expire { place: 255 });
}

#[test]
fn a_view_that_is_held_does_not_see_that_chapters_are_joined() {
    let mut world = long_history();
    for place in 0..6 {
        world.act(&Action::View { who: 0, place }).unwrap();
    }
    for n in 0..20 {
        world.act(&commit(0, &[(1 + n % 7, n as u16, n as u8)])).unwrap();
        world.act(&Action::Fold { many: 0 }).unwrap();
        world.act(&Action::View { who: 0, place: n as u8 * 3 }).unwrap();
        world.check_held();
    }
    world.check_all();
}

#[test]
fn many_folds_leave_few_chapters_and_each_can_still_expire() {
    let mut world = World::new();
    world.act(&Action::Create).unwrap();
    for n in 0..100 {
        world.act(&commit(0, &[(1 + n % 7, n as u16, n as u8)])).unwrap();
        world.act(&Action::Fold { many: 0 }).unwrap();
    }
    assert!(chapters(&world, actor(1)) <= 14, "{}", chapters(&world, actor(1)));
    world.check_all();
    // The past of a second is kept: a chapter has a sixteenth of that at most, some six of these records.
    let mut world = World::new();
    world.library.keep_for(1000);
    world.act(&Action::Create).unwrap();
    for n in 0..100 {
        world.act(&commit(0, &[(1 + n % 7, n as u16, n as u8)])).unwrap();
        world.act(&Action::Fold { many: 0 }).unwrap();
    }
    let before = chapters(&world, actor(1));
    assert!((12..50).contains(&before), "{before}");
    world.act(&Action::Expire { place: 128 }).unwrap();
    let after = chapters(&world, actor(1));
    assert!(after < before * 6 / 10 && after > before * 4 / 10, "{before} then {after}");
    world.check_all();
}

#[test]
fn a_fold_without_history_that_failed_leaves_no_base_beyond_a_child() {
    for after in 0..8 {
        let mut world = World::new();
        let actions = [Action::KeepHistory(false), Action::Create, Action::Fold { many: 0 }, commit(0, &[])];
        actions.iter().for_each(|action| world.act(action).unwrap());
        world.disk.fail_after(after);
        let failed = world.act(&Action::Fold { many: 0 }).is_err();
        if !world.disk.has_failed() {
            assert!(after > 2);
            return;
        }
        if failed {
            world.act(&Action::Fork { who: 0, place: 0 }).unwrap();
        }
        world.check_all();
        world.restart(after);
        world.check_all();
    }
}

#[test]
fn what_was_not_kept_is_in_no_view() {
    let mut world = World::new();
    world.act(&Action::Create).unwrap();
    world.act(&commit(0, &[(1, 0, 1)])).unwrap();
    let who = actor(1);
    let pages = world.live.get_mut(&who).unwrap();
    pages.write(1, &[9; PAGE]);
    pages.commit(Seq(3), &CommitMeta::default());
    let kept = [Arc::new(world.model[&who].last().unwrap().to_vec())];
    assert_eq!(shown(&world.library.view(who, Seq(2)).unwrap()).unwrap(), *kept[0], "it is not durable");
    // The record is lost with its owner, and the next owner takes its place before it has opened anything.
    world.append_same(who, RecordKind::Fence, Bytes::new());
    assert_eq!(shown(&world.library.view(who, Seq(3)).unwrap()).unwrap(), *kept[0], "another owner's fence is there instead");
}

#[test]
fn what_a_fold_has_brought_to_the_base_takes_no_memory() {
    let mut world = World::new();
    world.act(&Action::Create).unwrap();
    world.act(&commit(0, &[(1, 0, 1), (2, 0, 2), (3, 1, 3)])).unwrap();
    let (who, library) = (actor(1), world.library.clone());
    let before = library.overlay_bytes();
    assert!(before >= 3 * PAGE && world.live[&who].overlay_bytes() == before && library.weight(who).0 == before);
    // Who looks for damage opens the pages, and is not their owner.
    assert_eq!(library.inspect(who, false), []);
    let still = library.still(who, Seq(3)).unwrap().unwrap();
    world.act(&Action::Fold { many: 0 }).unwrap();
    assert_eq!((library.overlay_bytes(), world.live[&who].overlay_bytes(), library.weight(who)), (0, 0, (0, 0)));
    assert_eq!(shown(&still).unwrap(), **world.model[&who].last().unwrap());
    world.act(&commit(0, &[(2, 0, 2)])).unwrap();
    world.check_all();
    world.live.clear();
    assert_eq!(library.overlay_bytes(), 0);
}

#[test]
fn a_fill_that_is_cut_off_anywhere_loses_nothing() {
    cut_everywhere(eventful, &Action::Fill { who: 1 });
}

#[test]
fn a_fork_that_is_cut_off_anywhere_loses_nothing() {
    cut_everywhere(eventful, &Action::Fork { who: 0, place: 3 });
}

#[test]
fn an_expiry_that_is_cut_off_anywhere_loses_nothing() {
    let folded = || {
        let mut world = eventful();
        world.act(&Action::Fold { many: 0 }).unwrap();
        world
    };
    cut_everywhere(folded, &Action::Expire { place: 255 });
}

#[test]
fn a_deletion_that_is_cut_off_anywhere_leaves_the_child_whole() {
    for operations in 0..80 {
        let mut world = eventful();
        world.disk.cut_after(operations);
        world.act(&Action::Delete { who: 0 }).unwrap();
        if world.disk.was_cut() {
            world.restart(operations);
        }
        world.check_all();
        world.restart(operations);
        world.check_all();
    }
}
