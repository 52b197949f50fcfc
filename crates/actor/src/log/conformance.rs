//! What every backend of [`DurableLog`](super::DurableLog) must do, as one suite that any of them runs.
//!
//! A backend's own tests call [`all`] with a way to open its log. It is not: a test of crashes of the machine; those are a backend's own,
//! since only it knows what it writes to.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use skep_id::ActorId;

use super::{AppendError, DurableLog, LogError};
use crate::record::{Epoch, Record, RecordKind, Seq};

/// One place where logs are kept: opened, dropped and opened again, it is the same log.
pub trait Place {
    /// Opens the log. The one opened before has been dropped.
    fn open(&self) -> Arc<dyn DurableLog>;

    /// Makes the next appends end without an answer, or with one that leaves it open whether the record is there: a connection that is cut
    /// at the commit, a device that fails. `false`: this place cannot.
    fn break_off(&self) -> bool {
        false
    }
}

/// An actor for tests.
#[must_use]
pub fn actor(n: u32) -> ActorId {
    let mut bytes = [0xA5; 32];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    ActorId::new(bytes)
}

/// A record for tests; its body tells epoch and place.
#[must_use]
pub fn record(actor: ActorId, epoch: u64, seq: u64, kind: RecordKind) -> Record {
    let body = if kind == RecordKind::Fence { Bytes::new() } else { Bytes::from(format!("{actor} {epoch} {seq}")) };
    Record { actor, epoch: Epoch(epoch), seq: Seq(seq), time_ms: 1_700_000_000_000 + seq, kind, body }
}

/// A fence.
#[must_use]
pub fn fence(actor: ActorId, epoch: u64, seq: u64) -> Record {
    record(actor, epoch, seq, RecordKind::Fence)
}

/// A commit.
#[must_use]
pub fn commit(actor: ActorId, epoch: u64, seq: u64) -> Record {
    record(actor, epoch, seq, RecordKind::Commit)
}

/// Runs everything, each test on a fresh place. Panics where the backend does not conform.
pub async fn all<P: Place>(mut fresh: impl FnMut() -> P) {
    an_actor_that_nobody_knows(fresh()).await;
    records_come_back_in_order(fresh()).await;
    gaps_and_places_taken_twice_are_refused(fresh()).await;
    an_owner_that_was_replaced_is_fenced(fresh()).await;
    nothing_belongs_to_epoch_zero(fresh()).await;
    queued_records_count(fresh()).await;
    a_race_for_one_place_has_one_winner(fresh()).await;
    heads_outlive_what_was_trimmed(fresh()).await;
    a_forgotten_actor_is_a_new_one(fresh()).await;
    many_actors_at_once(fresh()).await;
    a_restart_keeps_all(fresh()).await;
    what_was_in_flight_is_there_or_not(fresh()).await;
    an_ambiguous_end_is_settled_by_reading(fresh()).await;
}

async fn an_actor_that_nobody_knows(place: impl Place) {
    let log = place.open();
    assert_eq!(log.head(actor(1)), super::Head::default());
    assert!(log.read(actor(1), Seq(0), Seq(u64::MAX)).unwrap_or_default().is_empty());
    assert!(log.recent().is_empty());
    log.trim(actor(1), Seq(7));
    log.forget(actor(1));
    assert_eq!(log.head(actor(1)), super::Head::default());
}

async fn records_come_back_in_order(place: impl Place) {
    let log = place.open();
    let a = actor(1);
    let mut all = vec![fence(a, 1, 1)];
    all.extend((2..50).map(|seq| commit(a, 1, seq)));
    all[7].body = Bytes::new();
    all[8].body = Bytes::from(vec![0; 70_000]);
    let tickets: Vec<_> = all.iter().map(|record| log.append(record.clone())).collect();
    for (ticket, record) in tickets.into_iter().zip(&all) {
        let receipt = ticket.await.unwrap_or_else(|e| panic!("append: {e}"));
        assert_eq!((receipt.actor, receipt.epoch, receipt.seq, receipt.tier), (a, record.epoch, record.seq, log.tier()));
        assert!(log.head(a).seq >= record.seq, "acknowledged before the head moved");
    }
    assert_eq!(read(&log, a, 0, u64::MAX), all);
    assert_eq!(read(&log, a, 10, 12), all[10..12]);
    assert!(read(&log, a, 49, 60).is_empty());
    assert!(read(&log, a, 12, 10).is_empty());
}

async fn gaps_and_places_taken_twice_are_refused(place: impl Place) {
    let log = place.open();
    let a = actor(1);
    refused_place(&log, fence(a, 1, 2), 0).await;
    refused_place(&log, fence(a, 1, 0), 0).await;
    good(&log, fence(a, 1, 1)).await;
    refused_place(&log, commit(a, 1, 3), 1).await;
    refused_place(&log, commit(a, 1, 1), 1).await;
    refused_place(&log, commit(a, 1, u64::MAX), 1).await;
    good(&log, commit(a, 1, 2)).await;
    refused_place(&log, commit(a, 1, 2), 2).await;
    refused_place(&log, fence(a, 2, 2), 2).await;
    assert_eq!(read(&log, a, 0, 9), [fence(a, 1, 1), commit(a, 1, 2)]);
}

async fn an_owner_that_was_replaced_is_fenced(place: impl Place) {
    let log = place.open();
    let a = actor(1);
    good(&log, fence(a, 1, 1)).await;
    good(&log, commit(a, 1, 2)).await;
    good(&log, fence(a, 5, 3)).await;
    for (record, current) in [(commit(a, 1, 3), 5), (commit(a, 1, 4), 5), (fence(a, 5, 4), 5), (fence(a, 4, 4), 5), (commit(a, 6, 4), 5)] {
        let asked = record.epoch;
        let answer = log.append(record).await;
        assert_eq!(answer, Err(AppendError::Fenced { actor: a, asked, current: Epoch(current) }));
    }
    good(&log, commit(a, 5, 4)).await;
    assert_eq!(log.head(a), super::Head { epoch: Epoch(5), seq: Seq(4), first: Seq(1) });
}

async fn nothing_belongs_to_epoch_zero(place: impl Place) {
    let log = place.open();
    let a = actor(1);
    for record in [commit(a, 0, 1), commit(a, 1, 1), fence(a, 0, 1)] {
        assert!(matches!(log.append(record).await, Err(AppendError::Fenced { .. })));
    }
    assert_eq!(log.head(a), super::Head::default());
}

async fn queued_records_count(place: impl Place) {
    let log = place.open();
    let a = actor(1);
    let tickets = [
        log.append(fence(a, 1, 1)),
        log.append(commit(a, 1, 2)),
        log.append(commit(a, 1, 2)),
        log.append(fence(a, 2, 3)),
        log.append(commit(a, 1, 3)),
        log.append(commit(a, 2, 4)),
    ];
    let answers: Vec<bool> = join_all(tickets).await.into_iter().map(|answer| answer.is_ok()).collect();
    assert_eq!(answers, [true, true, false, true, false, true]);
    assert_eq!(read(&log, a, 0, 9), [fence(a, 1, 1), commit(a, 1, 2), fence(a, 2, 3), commit(a, 2, 4)]);
}

async fn a_race_for_one_place_has_one_winner(place: impl Place) {
    let log = place.open();
    let a = actor(1);
    good(&log, fence(a, 1, 1)).await;
    for round in 0..20 {
        let racers: Vec<_> = (0..4)
            .map(|_| {
                let log = log.clone();
                std::thread::spawn(move || log.append(fence(a, 2 + round, 2 + round)))
            })
            .collect();
        let tickets: Vec<_> = racers.into_iter().filter_map(|racer| racer.join().ok()).collect();
        let won = join_all(tickets).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(won, 1, "round {round}");
    }
    assert_eq!(log.head(a).seq, Seq(21));
}

async fn heads_outlive_what_was_trimmed(place: impl Place) {
    let (a, b) = (actor(1), actor(2));
    {
        let log = place.open();
        good(&log, fence(a, 3, 1)).await;
        good(&log, fence(b, 1, 1)).await;
        for seq in 2..=10 {
            good(&log, commit(a, 3, seq)).await;
        }
        log.trim(a, Seq(4));
        assert_eq!(log.head(a), super::Head { epoch: Epoch(3), seq: Seq(10), first: Seq(5) });
        assert!(matches!(log.read(a, Seq(3), Seq(10)), Err(LogError::Trimmed { first: Seq(5), .. })));
        assert_eq!(read(&log, a, 4, 10).len(), 6);
        log.trim(a, Seq(2));
        assert_eq!(log.head(a).first, Seq(5), "a trim never goes back");
        log.trim(a, Seq(1_000));
        assert_eq!(log.head(a), super::Head { epoch: Epoch(3), seq: Seq(10), first: Seq(11) }, "what is not there yet is not trimmed");
        assert!(read(&log, a, 10, 20).is_empty());
        assert!(log.recent().iter().all(|(actor, _)| *actor == b));
    }
    let log = place.open();
    assert_eq!((log.head(a).epoch, log.head(a).seq), (Epoch(3), Seq(10)));
    refused_place(&log, commit(a, 3, 10), 10).await;
    good(&log, commit(a, 3, 11)).await;
    assert_eq!(read(&log, a, 10, 20), [commit(a, 3, 11)]);
}

async fn a_forgotten_actor_is_a_new_one(place: impl Place) {
    let (a, b) = (actor(1), actor(2));
    {
        let log = place.open();
        for x in [a, b] {
            good(&log, fence(x, 4, 1)).await;
            good(&log, commit(x, 4, 2)).await;
        }
        log.forget(a);
        assert_eq!(log.head(a), super::Head::default());
        assert!(matches!(log.append(commit(a, 4, 3)).await, Err(AppendError::Fenced { .. })), "a late write of one that is gone");
        good(&log, fence(a, 1, 1)).await;
        good(&log, commit(a, 1, 2)).await;
        assert_eq!(read(&log, a, 0, 9), [fence(a, 1, 1), commit(a, 1, 2)]);
    }
    let log = place.open();
    assert_eq!(read(&log, a, 0, 9), [fence(a, 1, 1), commit(a, 1, 2)]);
    assert_eq!(read(&log, b, 0, 9), [fence(b, 4, 1), commit(b, 4, 2)]);
}

async fn many_actors_at_once(place: impl Place) {
    const THREADS: u32 = 4;
    const ACTORS: u32 = 50;
    let log = place.open();
    let writers: Vec<_> = (0..THREADS)
        .map(|thread| {
            let log = log.clone();
            std::thread::spawn(move || {
                let mut tickets = Vec::new();
                for seq in 1..=20 {
                    for n in 0..ACTORS {
                        let a = actor(thread * ACTORS + n);
                        tickets.push(log.append(if seq == 1 { fence(a, 1, 1) } else { commit(a, 1, seq) }));
                    }
                }
                tickets
            })
        })
        .collect();
    for writer in writers {
        let tickets = writer.join().unwrap_or_else(|_| panic!("a writer failed"));
        assert!(join_all(tickets).await.into_iter().all(|answer| answer.is_ok()));
    }
    let heads: HashMap<_, _> = log.recent().into_iter().collect();
    assert_eq!(heads.len(), (THREADS * ACTORS) as usize);
    for n in 0..THREADS * ACTORS {
        let mut expected = vec![fence(actor(n), 1, 1)];
        expected.extend((2..=20).map(|seq| commit(actor(n), 1, seq)));
        assert_eq!(read(&log, actor(n), 0, 99), expected);
        assert_eq!(heads[&actor(n)].seq, Seq(20));
    }
    assert_eq!(log.queued_bytes(), 0);
}

async fn a_restart_keeps_all(place: impl Place) {
    let a = actor(1);
    for epoch in 1..=10 {
        let log = place.open();
        let head = log.head(a);
        assert_eq!((head.epoch.0, head.seq.0), (epoch - 1, (epoch - 1) * 3));
        good(&log, fence(a, epoch, head.seq.0 + 1)).await;
        good(&log, commit(a, epoch, head.seq.0 + 2)).await;
        good(&log, commit(a, epoch, head.seq.0 + 3)).await;
    }
    let log = place.open();
    let records = read(&log, a, 0, u64::MAX);
    assert_eq!(records.len(), 30);
    for (at, record) in records.iter().enumerate() {
        assert_eq!((record.seq.0, record.epoch.0), (at as u64 + 1, at as u64 / 3 + 1));
    }
}

async fn what_was_in_flight_is_there_or_not(place: impl Place) {
    let a = actor(1);
    let mut tickets = Vec::new();
    {
        let log = place.open();
        tickets.push(log.append(fence(a, 1, 1)));
        tickets.extend((2..200).map(|seq| log.append(commit(a, 1, seq))));
    }
    let answers = join_all(tickets).await;
    let acknowledged = answers.iter().take_while(|answer| answer.is_ok()).count() as u64;
    assert!(answers.iter().skip(acknowledged as usize).all(Result::is_err), "after one that failed none succeeds");
    let log = place.open();
    let head = log.head(a);
    assert!(head.seq.0 >= acknowledged, "{acknowledged} were acknowledged, {} are there", head.seq);
    assert_eq!(read(&log, a, 0, u64::MAX).len() as u64, head.seq.0);
    if head.seq.0 > 0 {
        refused_place(&log, fence(a, 2, head.seq.0), head.seq.0).await;
    }
    good(&log, fence(a, 2, head.seq.0 + 1)).await;
}

async fn an_ambiguous_end_is_settled_by_reading(place: impl Place) {
    let a = actor(1);
    {
        let log = place.open();
        good(&log, fence(a, 1, 1)).await;
        if !place.break_off() {
            return;
        }
        let answers = join_all([log.append(commit(a, 1, 2)), log.append(commit(a, 1, 3))]).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(AppendError::Failed(_) | AppendError::Closed))), "{answers:?}");
    }
    let log = place.open();
    let records = read(&log, a, 0, u64::MAX);
    let expected = [fence(a, 1, 1), commit(a, 1, 2), commit(a, 1, 3)];
    assert!(!records.is_empty() && expected.starts_with(&records), "{records:?}");
    let next = records.len() as u64 + 1;
    refused_place(&log, fence(a, 2, next - 1), next - 1).await;
    good(&log, fence(a, 2, next)).await;
    assert!(matches!(log.append(commit(a, 1, next)).await, Err(AppendError::Fenced { .. })));
}

async fn good(log: &Arc<dyn DurableLog>, record: Record) {
    let text = format!("{record:?}");
    if let Err(e) = log.append(record).await {
        panic!("{e}: {text}");
    }
}

async fn refused_place(log: &Arc<dyn DurableLog>, record: Record, head: u64) {
    let (actor, asked) = (record.actor, record.seq);
    assert_eq!(log.append(record).await, Err(AppendError::NotNext { actor, asked, head: Seq(head) }));
}

fn read(log: &Arc<dyn DurableLog>, actor: ActorId, after: u64, to: u64) -> Vec<Record> {
    log.read(actor, Seq(after), Seq(to)).unwrap_or_else(|e| panic!("read: {e}"))
}
