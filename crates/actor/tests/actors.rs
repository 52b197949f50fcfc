//! The actors of a node, on real files and a log in memory: activation, sleep, alarms, deploys, forks, rewinds, deletion.

mod support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use skep_actor::{
    ActorError, Actors, As, Clock, Config, Filter, ForkOptions, GuestError, NotStarted, Place, Seq, Standing, Thrown, What,
    database::Value,
    facet_id,
    log::{AppendError, DurableLog, LocalLog, MemoryLog, Settings, Trust},
};
use skep_id::ActorId;
use support::{
    Hand, config,
    disk::UnsafeDisk,
    guest::{Bank, Branch, account},
    id, place,
};

/// A node's actors, in a folder that goes with them.
struct House {
    dir: tempfile::TempDir,
    log: MemoryLog,
    bank: Arc<Bank>,
    hand: Hand,
    actors: Actors,
}

impl House {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let (dir, log, bank, hand) = (tempfile::tempdir().expect("works in a test"), MemoryLog::new(), Bank::new(), Hand::at(1_000_000));
        let mut config = config(dir.path());
        change(&mut config);
        let actors = open(config, &log, &bank, &hand);
        Self { dir, log, bank, hand, actors }
    }

    /// The node goes down without a word and comes up again. What is left of it in this process lives in a world of its own, where time stands still.
    fn crash(&mut self) {
        (self.bank, self.hand) = (Bank::new(), Hand::at(self.hand.now_ms()));
        let log = self.log.clone();
        self.actors = open(config(self.dir.path()), &log, &self.bank, &self.hand);
    }

    async fn add(&self, n: u64, amount: i64) -> i64 {
        let active = self.actors.activate(id(n), &place()).await.expect("works in a test");
        account(&active).add(amount as u64, amount).await.expect("works in a test")
    }

    async fn total(&self, actor: ActorId) -> i64 {
        let active = self.actors.activate(actor, &place()).await.expect("works in a test");
        account(&active).look().await.expect("works in a test").total
    }

    async fn asleep(&self, actor: ActorId) {
        until("it is asleep", || async { self.standing(actor).await == Standing::Asleep }).await;
    }

    async fn standing(&self, actor: ActorId) -> Standing {
        self.actors.show(actor).await.expect("works in a test").standing
    }

    async fn told(&self, actor: ActorId) -> Vec<What> {
        self.actors.show(actor).await.expect("works in a test").told.into_iter().map(|told| told.what).collect()
    }
}

fn open(config: Config, log: &MemoryLog, bank: &Arc<Bank>, hand: &Hand) -> Actors {
    Actors::open_at(config, Arc::new(log.clone()), Branch::of(bank), Arc::new(hand.clone())).expect("works in a test")
}

async fn until<F: Future<Output = bool>>(what: &str, mut is: impl FnMut() -> F) {
    let began = Instant::now();
    while !is().await {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_actor_falls_asleep_and_wakes_with_its_heap() {
    let house = House::new();
    for n in 1..=3 {
        house.add(7, n).await;
    }
    house.asleep(id(7)).await;
    assert_eq!(house.actors.metrics().awake, 0);
    let active = house.actors.activate(id(7), &place()).await.expect("works in a test");
    assert_eq!(account(&active).calls(), 3, "the heap");
    assert_eq!(account(&active).look().await.expect("works in a test").total, 6, "the database");
    assert_eq!(house.told(id(7)).await[..3], [What::Woken, What::Slept, What::Created]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_actor_is_never_put_to_sleep() {
    let house = House::with(|config| config.idle_ms = 10);
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    tokio::time::sleep(Duration::from_millis(200)).await;
    house.actors.relieve(10);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(active.guest().alive());
    drop(active);
    house.asleep(id(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_keeps_every_acknowledged_write_and_the_heap_is_not_older_than_the_database() {
    let mut house = House::new();
    house.add(1, 5).await;
    house.asleep(id(1)).await;
    house.add(1, 6).await;
    house.crash();
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    assert_eq!(account(&active).look().await.expect("works in a test").total, 11);
    assert_eq!(account(&active).calls(), 1, "it wrote after it was written down: its constructor ran");
    let shown = house.actors.show(id(1)).await.expect("works in a test");
    assert_eq!(shown.told[0].what, What::Constructed);
    assert!(shown.told[0].why.contains("wrote after"), "{}", shown.told[0].why);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heap_over_the_limit_of_the_log_is_an_error_and_its_database_lasts() {
    let dir = tempfile::tempdir().expect("works in a test");
    let settings = Settings { segment_bytes: 64 << 10, record_bytes: 300_000, fill: false, trust: Trust::Anything, ..Settings::default() };
    let log = LocalLog::open(&dir.path().join("log"), settings).expect("works in a test");
    let bank = Bank::new();
    let actors = Actors::open_at(config(dir.path()), Arc::new(log), Branch::of(&bank), Arc::new(Hand::at(1))).expect("works in a test");
    let add = async |n: u64| {
        let active = actors.activate(id(1), &place()).await.expect("works in a test");
        account(&active).add(n, 1).await.expect("works in a test")
    };
    let asleep = || until("it is asleep", || async { actors.show(id(1)).await.expect("works in a test").standing == Standing::Asleep });
    assert_eq!(add(1).await, 1);
    // Larger than a segment, and within the limit.
    bank.ballast.store(290_000, Ordering::SeqCst);
    actors.checkpoint(id(1)).await.expect("works in a test");
    asleep().await;
    assert_eq!((add(2).await, bank.from_heap.load(Ordering::SeqCst)), (2, 1));
    bank.ballast.store(300_000, Ordering::SeqCst);
    let refused = actors.checkpoint(id(1)).await.expect_err("it is too large").to_string();
    assert!(refused.contains("is over the log's limit of 300000"), "{refused}");
    assert_eq!(add(3).await, 3, "it goes on");
    asleep().await;
    let told = actors.show(id(1)).await.expect("works in a test").told;
    assert!(told.iter().any(|told| told.what == What::NoCheckpoint && told.why.contains("is over the log's limit")), "{told:?}");
    assert_eq!((add(4).await, bank.from_heap.load(Ordering::SeqCst)), (4, 1), "it begins from its database");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heap_that_kills_its_guest_is_given_up() {
    let house = House::new();
    house.add(1, 5).await;
    house.asleep(id(1)).await;
    *house.bank.poisoned.lock() = true;
    assert_eq!(house.total(id(1)).await, 5, "by its constructor");
    assert_eq!(house.told(id(1)).await[0], What::Constructed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constructor_that_throws_fails_who_waits_and_the_next_message_tries_anew() {
    let house = House::new();
    house.bank.refusals.store(1, Ordering::SeqCst);
    let error = house.actors.activate(id(1), &place()).await.expect_err("fails in a test");
    let thrown = Thrown { name: "RangeError".into(), message: "not today".into() };
    assert!(matches!(&error, ActorError::Start(NotStarted::Threw(why)) if *why == thrown), "{error}");
    assert_eq!(error.to_string(), "the actor does not start: RangeError: not today");
    house.add(1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_not_kept_ends_the_guest_and_nothing_of_it_is_seen() {
    let house = House::new();
    house.add(1, 1).await;
    house.log.fail(Some(AppendError::Full("no space left".into())));
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    let error = account(&active).add(2, 2).await.expect_err("fails in a test");
    assert!(matches!(error, GuestError::Ended(_)));
    drop(active);
    house.log.fail(None);
    assert_eq!(house.total(id(1)).await, 1);
    assert!(house.told(id(1)).await.contains(&What::Ended));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_replaced_drops_everything_and_reads_anew() {
    let house = House::new();
    house.add(1, 1).await;
    let other = Actors::open_at(
        config(tempfile::tempdir().expect("works in a test").path()),
        Arc::new(house.log.clone()),
        Branch::of(&Bank::new()),
        Arc::new(house.hand.clone()),
    )
    .expect("works in a test");
    let active = other.activate(id(1), &place()).await.expect("works in a test");
    account(&active).add(10, 10).await.expect("works in a test");
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    let stale = account(&active).add(100, 100).await;
    assert!(matches!(stale, Err(GuestError::Ended(_))), "{stale:?}");
    drop(active);
    assert_eq!(house.total(id(1)).await, 11, "the other one's write is there, the stale one's is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_there_is_no_room_the_longest_idle_makes_it() {
    let house = House::with(|config| (config.awake_max, config.idle_ms) = (4, 60_000));
    for n in 0..20 {
        house.add(n, 1).await;
        assert!(house.actors.metrics().awake <= 4);
    }
    assert_eq!(house.standing(id(0)).await, Standing::Asleep);
    assert!(house.actors.metrics().pressed_out >= 16);
    assert_eq!(house.total(id(0)).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_who_wait_are_refused() {
    let house = House::with(|config| config.waiting_max = 3);
    house.bank.starting_ms.store(500, Ordering::SeqCst);
    let all = (0..10).map(|_| house.actors.activate(id(1), &PLACE)).collect::<Vec<_>>();
    let answers = futures_util::future::join_all(all).await;
    let refused = answers.iter().filter(|answer| matches!(answer, Err(ActorError::Crowded))).count();
    assert!((1..=7).contains(&refused), "{refused}");
    assert_eq!(house.total(id(1)).await, 0);
}

static PLACE: std::sync::LazyLock<Place> = std::sync::LazyLock::new(place);

#[tokio::test(flavor = "multi_thread")]
async fn alarms_fire_once_in_order_and_are_taken_out() {
    let house = House::new();
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    for (name, due) in [("late", 1_000_300), ("early", 1_000_100), ("", 1_000_200), ("far", 9_000_000)] {
        account(&active).set_alarm(name, due).await.expect("works in a test");
    }
    drop(active);
    house.asleep(id(1)).await;
    house.hand.set(1_000_400);
    until("three have rung", || async { house.bank.rung.lock().len() == 3 }).await;
    until("they are taken out", || async {
        house.actors.show(id(1)).await.expect("works in a test").alarms == [("far".to_owned(), 9_000_000)]
    })
    .await;
    let rung: Vec<_> = house.bank.rung.lock().iter().map(|(_, name, _)| name.clone()).collect();
    assert_eq!(rung, ["early", "", "late"]);
    house.asleep(id(1)).await;
    assert_eq!(house.bank.rung.lock().len(), 3, "not again");
    assert_eq!(house.actors.show(id(1)).await.expect("works in a test").entry.wake_ms, Some(9_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_that_fails_is_tried_again_later_each_time_and_given_up_after_six() {
    let house = House::with(|config| config.idle_ms = 30);
    house.bank.failing.lock().insert("bad".into(), u32::MAX);
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    account(&active).set_alarm("bad", 1_000_000).await.expect("works in a test");
    drop(active);
    for n in 1..=7_u32 {
        until("it has rung", || async { house.bank.rung.lock().len() == n as usize }).await;
        let before = house.hand.now_ms();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(house.bank.rung.lock().len(), n as usize, "not before its time");
        house.hand.set(before + (2_000 << (n - 1)));
    }
    let tries: Vec<_> = house.bank.rung.lock().iter().map(|(_, _, retries)| *retries).collect();
    assert_eq!(tries, [0, 1, 2, 3, 4, 5, 6]);
    until("it is given up", || async { house.actors.show(id(1)).await.expect("works in a test").alarms.is_empty() }).await;
    assert!(house.told(id(1)).await.contains(&What::AlarmGivenUp));
    assert_eq!(house.actors.metrics().alarms_given_up, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_takes_long_holds_back_who_wrote_and_nobody_else() {
    let (dir, lasting, bank) = (tempfile::tempdir().expect("works in a test"), MemoryLog::new(), Bank::new());
    let disk = UnsafeDisk::on(&lasting);
    let actors =
        Actors::open_at(config(dir.path()), Arc::new(disk.clone()), Branch::of(&bank), Arc::new(Hand::at(1))).expect("works in a test");
    let held = (
        actors.activate(id(1), &place()).await.expect("works in a test"),
        actors.activate(id(2), &place()).await.expect("works in a test"),
    );
    let (writes, reads) = (account(&held.0), account(&held.1));
    disk.sync(10);
    let waiting = |entry| {
        let writes = writes.clone();
        tokio::spawn(async move { writes.add(entry, 1).await })
    };
    let (first, second) = (waiting(1), waiting(2));
    until("both are on their way", || async { disk.queued() == 2 }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!first.is_finished() && !second.is_finished() && bank.released.lock().is_empty(), "nothing is let out before it is durable");
    let read = tokio::time::timeout(Duration::from_secs(1), reads.look()).await.expect("others answer meanwhile");
    assert_eq!(read.expect("works in a test").total, 0);
    disk.sync(10);
    assert_eq!(
        first
            .await
            .expect("works in a test")
            .expect("works in a test")
            .max(second.await.expect("works in a test").expect("works in a test")),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_whose_guest_ended_with_it_rings_again() {
    let house = House::with(|config| config.idle_ms = 30);
    house.bank.failing.lock().insert("bad".into(), 1);
    house.bank.deadly.store(true, Ordering::SeqCst);
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    account(&active).set_alarm("bad", 1_000_000).await.expect("works in a test");
    drop(active);
    until("it has rung", || async { house.bank.rung.lock().len() == 1 }).await;
    until("it rings for another guest", || async {
        house.hand.set(house.hand.now_ms() + 2_000);
        house.bank.rung.lock().len() == 2
    })
    .await;
    until("it is done with", || async { house.actors.show(id(1)).await.expect("works in a test").alarms.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_often_an_alarm_failed_and_how_long_it_waits_survive_kills_of_guest_and_node() {
    for deadly in [false, true] {
        let mut house = House::with(|config| config.idle_ms = 30);
        let fails = |bank: &Bank| {
            bank.failing.lock().insert("bad".into(), u32::MAX);
            bank.deadly.store(deadly, Ordering::SeqCst);
        };
        fails(&house.bank);
        let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
        account(&active).set_alarm("bad", 1_000_000).await.expect("works in a test");
        drop(active);
        for n in 0..=6_u32 {
            until("it has rung", || async { house.bank.rung.lock().len() == 1 }).await;
            assert_eq!(house.bank.rung.lock()[0].2, n, "as often as it failed before, deadly: {deadly}");
            let again_ms = (n < 6).then(|| house.hand.now_ms() + (2_000 << n));
            until("that is written down", || async {
                let shown = house.actors.show(id(1)).await.expect("works in a test");
                // The alarm that is given up is gone.
                shown.entry.wake_ms == again_ms && shown.alarms.is_empty() == again_ms.is_none()
            })
            .await;
            house.crash();
            fails(&house.bank);
            tokio::time::sleep(Duration::from_millis(60)).await;
            assert_eq!(house.bank.rung.lock().len(), 0, "not before its time, after {} failures, deadly: {deadly}", n + 1);
            house.hand.set(house.hand.now_ms() + (2_000 << n));
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(house.bank.rung.lock().len(), 0, "it stays given up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_an_hour_either_way_loses_no_alarm_and_rings_none_twice() {
    const HOUR: u64 = 3_600_000;
    let house = House::new();
    house.hand.set(10 * HOUR);
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    account(&active).set_alarm("half an hour", 10 * HOUR + HOUR / 2).await.expect("works in a test");
    account(&active).set_alarm("two hours", 12 * HOUR).await.expect("works in a test");
    drop(active);
    house.hand.set(11 * HOUR);
    until("the first rang", || async { house.bank.rung.lock().len() == 1 }).await;
    house.hand.set(10 * HOUR);
    house.asleep(id(1)).await;
    assert_eq!(house.bank.rung.lock().len(), 1);
    house.hand.set(12 * HOUR + 1);
    until("the second rang", || async { house.bank.rung.lock().len() == 2 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_outlives_a_crash_and_a_lost_directory() {
    let mut house = House::new();
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    account(&active).set_alarm("", 2_000_000).await.expect("works in a test");
    drop(active);
    let lost = tempfile::tempdir().expect("works in a test");
    house.dir = lost;
    house.crash();
    until("the log tells of it", || async {
        house.actors.list(Filter { most: 9, ..Filter::default() }).await.expect("works in a test").len() == 1
    })
    .await;
    house.hand.set(2_000_001);
    until("it rang", || async { house.bank.rung.lock().len() == 1 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_alarms_fires_in_time_and_messages_are_served_meanwhile() {
    const MANY: u64 = 2_000;
    let house = House::with(|config| config.idle_ms = 50);
    for n in 0..MANY {
        let active = house.actors.activate(id(n), &place()).await.expect("works in a test");
        account(&active).set_alarm("", 2_000_000).await.expect("works in a test");
    }
    until("all sleep", || async { house.actors.metrics().awake == 0 }).await;
    house.hand.set(2_000_000);
    let (began, mut worst) = (Instant::now(), Duration::ZERO);
    while house.actors.metrics().alarms_fired < MANY {
        let asked = Instant::now();
        house.add(MANY + 1, 1).await;
        worst = worst.max(asked.elapsed());
        assert!(began.elapsed() < Duration::from_secs(30), "{} fired", house.actors.metrics().alarms_fired);
    }
    println!("{MANY} alarms in {:?}, a message waited {worst:?} at most", began.elapsed());
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    assert_eq!(house.bank.rung.lock().len(), MANY as usize, "none twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_kills_nothing_in_flight_and_new_messages_meet_the_new_code() {
    let house = House::new();
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    let old = account(&active);
    let long = tokio::spawn(async move {
        let code = old.linger(Duration::from_millis(300)).await;
        drop((old, active));
        code
    });
    tokio::task::yield_now().await;
    *house.bank.code.lock() = "v2".into();
    house.actors.deployed("bank/");
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    assert_eq!(account(&active).code(), "v2");
    assert_eq!(long.await.expect("works in a test").expect("works in a test"), "v1", "it finished on the code it began with");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_code_that_never_rests_serves_on_after_a_while() {
    let house = House::with(|config| config.deploy_wait_ms = 100);
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    *house.bank.code.lock() = "v2".into();
    house.actors.deployed("bank/Account");
    let second = house.actors.activate(id(1), &place()).await.expect("works in a test");
    assert_eq!(account(&second).code(), "v1");
    drop((active, second));
    until("the new code is met", || async {
        account(&house.actors.activate(id(1), &place()).await.expect("works in a test")).code() == "v2"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_has_heap_and_database_of_its_own_and_no_alarms() {
    let house = House::new();
    house.add(1, 5).await;
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    account(&active).set_alarm("", 2_000_000).await.expect("works in a test");
    let options = ForkOptions { heap: true, name: Some("copy".into()), ..ForkOptions::default() };
    let receipt = house.actors.fork(id(1), As::Now, id(2), &options).await.expect("works in a test");
    assert_eq!((receipt.actor, receipt.epoch.0), (id(2), 1), "a lineage of its own");
    assert!(active.guest().alive(), "the parent goes on");
    house.add(2, 1).await;
    assert_eq!((house.total(id(1)).await, house.total(id(2)).await), (5, 6));
    assert_eq!(house.bank.from_heap.load(Ordering::SeqCst), 1);
    let shown = house.actors.show(id(2)).await.expect("works in a test");
    assert!(shown.alarms.is_empty());
    assert_eq!(shown.entry.name.as_deref(), Some("copy"));
    let again = house.actors.fork(id(1), As::Now, id(2), &options).await;
    assert!(again.is_err(), "{again:?}");
    assert_eq!(house.total(id(2)).await, 6, "and the one that was there is untouched");
    let with = ForkOptions { alarms: true, ..ForkOptions::default() };
    house.actors.fork(id(1), As::Now, id(3), &with).await.expect("works in a test");
    assert_eq!(house.actors.show(id(3)).await.expect("works in a test").alarms, [(String::new(), 2_000_000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_brings_the_database_back_and_can_be_undone() {
    let house = House::new();
    house.add(1, 1).await;
    let then = house.actors.checkpoint(id(1)).await.expect("works in a test");
    house.add(1, 10).await;
    let now = house.actors.show(id(1)).await.expect("works in a test").head;
    let held = house.actors.activate(id(1), &place()).await.expect("works in a test");
    house.actors.rewind(id(1), As::Place(then.seq), true).await.expect("works in a test");
    assert!(!held.guest().alive(), "the live guest was ended");
    drop(held);
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    assert_eq!(
        (account(&active).calls(), account(&active).look().await.expect("works in a test").total),
        (1, 1),
        "heap and database of then"
    );
    drop(active);
    house.actors.rewind(id(1), As::Place(now), false).await.expect("works in a test");
    assert_eq!(house.total(id(1)).await, 11);
    assert!(house.actors.rewind(id(1), As::Place(Seq(1_000)), false).await.is_err(), "the future");
    assert_eq!(house.total(id(1)).await, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_and_export_read_the_past_without_stopping_anyone() {
    let house = House::new();
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    account(&active).add(1, 1).await.expect("works in a test");
    let then = house.actors.show(id(1)).await.expect("works in a test").head;
    account(&active).add(2, 1).await.expect("works in a test");
    let count = house.actors.sql(id(1), "SELECT 6 * ?1 AS n", vec![Value::Integer(7)], As::Place(then)).await.expect("works in a test");
    assert_eq!(count.rows, [[Value::Integer(42)]]);
    for hostile in ["CREATE TABLE t (a)", "ATTACH '/tmp/x' AS x", "PRAGMA writable_schema = 1", "SELECT * FROM _cf_KV"] {
        assert!(house.actors.sql(id(1), hostile, Vec::new(), As::Now).await.is_err(), "{hostile}");
    }
    let mut export = house.actors.export(id(1), As::Place(then)).await.expect("works in a test");
    let mut file = Vec::new();
    while let Some(piece) = export.piece().await.expect("works in a test") {
        file.extend_from_slice(&piece);
    }
    assert_eq!(file.len() as u64, export.bytes());
    let path = house.dir.path().join("export.sqlite");
    std::fs::write(&path, file).expect("works in a test");
    let plain = rusqlite::Connection::open(path).expect("works in a test");
    let sound: String = plain.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("works in a test");
    let keys: i64 = plain.query_row("SELECT count(*) FROM _cf_KV", [], |row| row.get(0)).expect("works in a test");
    assert_eq!((sound.as_str(), keys), ("ok", 1));
    assert!(active.guest().alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn facets_end_fork_and_go_with_their_parent() {
    let house = House::new();
    house.add(1, 1).await;
    let facet = facet_id(id(1), "inner");
    let within = Place { name: Some("inner".into()), parent: Some(id(1)), ..place() };
    let active = house.actors.activate(facet, &within).await.expect("works in a test");
    account(&active).add(7, 7).await.expect("works in a test");
    house.actors.fork(id(1), As::Now, id(2), &ForkOptions::default()).await.expect("works in a test");
    assert_eq!(house.total(facet_id(id(2), "inner")).await, 7, "forked with its parent");
    house.actors.end(id(1), "aborted");
    until("the facet ends with it", || async { !active.guest().alive() }).await;
    drop(active);
    house.actors.delete(id(1)).await.expect("works in a test");
    for gone in [id(1), facet] {
        assert!(matches!(house.actors.show(gone).await, Err(ActorError::Unknown(_))));
    }
    assert_eq!(house.total(facet_id(id(2), "inner")).await, 7, "a fork outlives its parent");
    assert_eq!(house.total(id(1)).await, 0, "the same id begins anew");
    house.add(1, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_takes_the_heaps_of_facets_along_whether_they_are_awake_or_asleep() {
    let house = House::new();
    house.add(1, 1).await;
    let facet = facet_id(id(1), "inner");
    let within = |parent| Place { name: Some("inner".into()), parent: Some(id(parent)), ..place() };
    let mut active = house.actors.activate(facet, &within(1)).await.ok();
    account(active.as_ref().expect("works in a test")).add(7, 7).await.expect("works in a test");
    let with_heap = ForkOptions { heap: true, ..ForkOptions::default() };
    for (child, awake) in [(2, true), (3, false)] {
        if !awake {
            active = None;
            house.actors.relieve(9);
            house.asleep(facet).await;
        }
        assert_eq!(house.standing(facet).await == Standing::Asleep, !awake);
        house.actors.fork(id(1), As::Now, id(child), &with_heap).await.expect("works in a test");
        let copy = house.actors.activate(facet_id(id(child), "inner"), &within(child)).await.expect("works in a test");
        let own = (account(&copy).calls(), account(&copy).look().await.expect("works in a test").total);
        assert_eq!(own, (1, 7), "what it knew by heart and what it wrote, awake: {awake}");
    }
    drop(active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_as_of_a_place_has_the_facets_of_that_time() {
    let house = House::new();
    house.add(1, 1).await;
    let within = |parent, name: &str| Place { name: Some(name.into()), parent: Some(id(parent)), ..place() };
    let put = async |name: &str, amount| {
        house.hand.set(house.hand.now_ms() + 1_000);
        let active = house.actors.activate(facet_id(id(1), name), &within(1, name)).await.expect("works in a test");
        account(&active).add(amount, amount as i64).await.expect("works in a test");
    };
    put("old", 5).await;
    house.hand.set(house.hand.now_ms() + 1_000);
    house.add(1, 2).await;
    let then = house.log.head(id(1)).seq;
    put("old", 6).await;
    put("young", 7).await;
    house.actors.fork(id(1), As::Place(then), id(2), &ForkOptions::default()).await.expect("works in a test");
    let total = async |name: &str| {
        let active = house.actors.activate(facet_id(id(2), name), &within(2, name)).await.expect("works in a test");
        account(&active).look().await.expect("works in a test").total
    };
    assert_eq!(total("old").await, 5, "as it was then");
    assert_eq!(total("young").await, 0, "it was not there then");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_has_only_so_many_facets() {
    let house = House::with(|config| config.facets_max = 3);
    house.add(1, 1).await;
    let mut refused = 0;
    for n in 0..5 {
        let name = format!("f{n}");
        let within = Place { name: Some(name.as_str().into()), parent: Some(id(1)), ..place() };
        refused += u32::from(house.actors.activate(facet_id(id(1), &name), &within).await.is_err());
    }
    assert_eq!(refused, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_actor_is_written_down_now_and_then() {
    let house = House::with(|config| (config.checkpoint_every, config.idle_ms) = (20, 100));
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    for n in 0..50 {
        account(&active).add(n, 1).await.expect("works in a test");
    }
    until("a checkpoint", || async { house.actors.metrics().checkpoints > 0 }).await;
    assert!(active.guest().alive());
}

/// How many folds there were once nothing is left of an actor's records in the log.
async fn folds(house: &House, of: &[u64]) -> u64 {
    let kept = |n: &u64| house.log.head(id(*n)).first <= house.log.head(id(*n)).seq;
    until("records are in their files", || async { !of.iter().any(kept) }).await;
    house.actors.metrics().folded
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_pages_that_take_much_memory_are_brought_to_the_file_and_that_is_that() {
    let house = House::with(|config| (config.overlay_bytes, config.idle_ms) = (1, 60_000));
    house.add(1, 7).await;
    let folded = folds(&house, &[1]).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(house.actors.metrics().folded <= folded + 1, "an actor with nothing to fold is folded again and again");
    assert_eq!(house.standing(id(1)).await, Standing::Awake);
    assert_eq!(house.total(id(1)).await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_starts_again_when_what_it_wrote_since_it_was_written_down_is_in_its_file() {
    let mut house = House::with(|config| config.overlay_bytes = 1);
    house.add(1, 7).await;
    house.asleep(id(1)).await;
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    account(&active).add(8, 8).await.expect("works in a test");
    folds(&house, &[1]).await;
    house.crash();
    assert_eq!(house.total(id(1)).await, 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_pages_of_many_that_take_much_memory_together_are_brought_to_their_files() {
    let house = House::with(|config| (config.overlays_bytes, config.idle_ms) = (1, 60_000));
    for n in 1..=5 {
        house.add(n, 7).await;
    }
    folds(&house, &[1, 2, 3, 4, 5]).await;
    assert_eq!(house.total(id(3)).await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_actor_leaves_for_its_next_start_is_bounded() {
    let house = House::with(|config| config.left_bytes = 1);
    house.add(1, 7).await;
    house.asleep(id(1)).await;
    folds(&house, &[1]).await;
    let active = house.actors.activate(id(1), &place()).await.expect("works in a test");
    assert_eq!((account(&active).calls(), house.total(id(1)).await), (1, 7), "with its heap, which is in the history now");
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_of_an_actor_that_writes_nothing_do_not_pile_up_in_the_log() {
    let house = House::with(|config| (config.tail_bytes, config.idle_ms) = (20 << 10, 60_000));
    house.add(1, 7).await;
    let began = house.log.head(id(1)).first;
    for _ in 0..40 {
        house.actors.checkpoint(id(1)).await.expect("works in a test");
    }
    until("a fold", || async { house.log.head(id(1)).first > began }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_of_one_that_sleeps_wakes_nobody() {
    let house = House::new();
    house.add(1, 7).await;
    house.asleep(id(1)).await;
    let options = ForkOptions { heap: true, ..ForkOptions::default() };
    house.actors.fork(id(1), As::Now, id(2), &options).await.expect("works in a test");
    assert_eq!(house.actors.metrics().woken, 0);
    let active = house.actors.activate(id(2), &place()).await.expect("works in a test");
    assert_eq!((account(&active).calls(), house.total(id(2)).await), (1, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn forks_of_an_actor_that_never_rests_are_whole() {
    let house = House::with(|config| (config.overlay_bytes, config.idle_ms) = (64 << 10, 60_000));
    house.add(1, 1).await;
    let options = ForkOptions { heap: true, ..ForkOptions::default() };
    let writing = async {
        for n in 0..300 {
            house.add(1, 1 + n % 2).await;
        }
    };
    let forking = async {
        for n in 0..20 {
            house.actors.fork(id(1), As::Now, id(100 + n), &options).await.expect("works in a test");
        }
    };
    tokio::join!(writing, forking);
    for n in 0..20 {
        let active = house.actors.activate(id(100 + n), &place()).await.expect("works in a test");
        let calls = account(&active).calls();
        let book = account(&active).look().await.expect("works in a test");
        assert_eq!(calls, book.entries.len() as u64, "heap and database are not of one moment");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_writes_everyone_down() {
    let mut house = House::with(|config| config.idle_ms = 60_000);
    for n in 0..50 {
        house.add(n, 1).await;
    }
    house.actors.clone().close().await.expect("works in a test");
    assert_eq!(house.actors.metrics().slept, 50);
    assert!(matches!(house.actors.activate(id(1), &place()).await, Err(ActorError::Closed)));
    house.crash();
    let active = house.actors.activate(id(3), &place()).await.expect("works in a test");
    assert_eq!(account(&active).calls(), 1, "with its heap");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_the_damaged_file_and_others_are_unaffected() {
    let house = House::new();
    house.add(1, 1).await;
    house.add(2, 2).await;
    house.asleep(id(1)).await;
    house.asleep(id(2)).await;
    assert!(house.actors.doctor(None, false).await.expect("works in a test").findings.is_empty());
    let head = house.log.head(id(1)).seq;
    house.log.trim(id(1), head);
    let doctor = house.actors.doctor(None, false).await.expect("works in a test");
    assert_eq!(doctor.actors, 2);
    assert_eq!(doctor.findings.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id(1)], "its log was cut off without its pages being kept");
    assert!(house.actors.activate(id(1), &place()).await.is_err());
    assert_eq!(house.total(id(2)).await, 2);
}
