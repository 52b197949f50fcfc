//! Files that somebody changed, cut or removed: never a silent loss, and nobody suffers but who lost something.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;

use super::super::{
    AppendError, DurableLog, LocalLog, LogError, Settings,
    conformance::{actor, commit, fence},
    local::{HEADS, segment_name, segment_number},
    simulated::{Dice, SimulatedDisk},
    writer::Writer,
};
use crate::record::{Epoch, Record, RecordKind, Seq};

const ACTORS: u32 = 12;

fn settings() -> Settings {
    Settings { segment_bytes: 32 << 10, fill: false, ..Settings::default() }
}

fn open(disk: &SimulatedDisk, settings: Settings) -> Result<(LocalLog, Writer), LogError> {
    LocalLog::assemble(Arc::new(disk.clone()), settings, Some(7))
}

fn write(log: &LocalLog, writer: &mut Writer, record: Record) {
    let ticket = log.append(record);
    writer.turn();
    ticket.now_or_never().unwrap().unwrap();
}

/// Some segments of some actors, every record acknowledged, some trimmed.
fn filled(seed: u64) -> (SimulatedDisk, BTreeMap<u32, Vec<Record>>) {
    let disk = SimulatedDisk::new(seed);
    let (log, mut writer) = open(&disk, settings()).unwrap();
    let mut dice = Dice::new(seed);
    let mut written: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
    for _ in 0..160 {
        for _ in 0..=dice.below(3) {
            let n = dice.below(ACTORS.into()) as u32;
            let records = written.entry(n).or_default();
            let seq = records.len() as u64 + 1;
            let body: Vec<u8> = (0..dice.below(1200)).map(|_| dice.roll() as u8 | 1).collect();
            let kind = if seq == 1 { RecordKind::Fence } else { RecordKind::Commit };
            records.push(Record { actor: actor(n), epoch: Epoch(1), seq: Seq(seq), time_ms: 5, kind, body: Bytes::from(body) });
            drop(log.append(records[records.len() - 1].clone()));
        }
        while writer.turn() {}
    }
    log.trim(actor(0), Seq(3));
    (disk, written)
}

/// Whether an actor is as it was; if not, whether it says so to who reads and to who appends, and still gives what it has.
fn whole_or_hurt(log: &LocalLog, n: u32, records: &[Record]) -> bool {
    let head = log.head(actor(n));
    let read = log.read(actor(n), Seq(head.first.0.saturating_sub(1)), Seq(u64::MAX));
    if let Ok(read) = &read {
        assert_eq!(head.seq.0 as usize, records.len(), "actor {n} lost its end in silence");
        assert_eq!(*read, records[head.first.0 as usize - 1..]);
        return true;
    }
    assert!(matches!(&read, Err(LogError::Damaged { file, .. }) if file.starts_with("simulated")), "{read:?}");
    // Found when it was opened, or only when it was read.
    if log.damage().iter().any(|damage| damage.actor == Some(actor(n))) {
        let refused = log.append(fence(actor(n), 9, head.seq.0 + 1)).now_or_never();
        assert!(matches!(refused, Some(Err(AppendError::Damaged { .. }))), "{refused:?}");
    }
    false
}

fn check(disk: &SimulatedDisk, written: &BTreeMap<u32, Vec<Record>>, what: &str) -> Option<usize> {
    match open(disk, settings()) {
        Ok((log, _)) => {
            let hurt = written.iter().filter(|(n, records)| !whole_or_hurt(&log, **n, records)).count();
            assert!(hurt == 0 || !log.damage().is_empty());
            Some(hurt)
        }
        Err(LogError::Damaged { file, .. }) => {
            assert!(file.starts_with("simulated"), "{what}");
            None
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn a_flipped_bit_is_mended_or_named_and_hurts_one_actor_at_most() {
    let (disk, written) = filled(1);
    let mut dice = Dice::new(2);
    for round in 0..400 {
        let copy = disk.copy(round);
        let name = segment_name(1 + dice.below(4) as u32);
        let bit = dice.below(copy.content(&name).len() as u64 * 8) as usize;
        copy.damage(&name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let hurt = check(&copy, &written, &format!("bit {bit} of {name}"));
        // Behind the end of the last segment nothing was written: a bit there is not told from a record of which only that is left.
        assert!(hurt.is_some_and(|hurt| hurt <= 1) || bit / 8 >= end_of(&disk, &name), "bit {bit} of {name}: {hurt:?}");
    }
}

fn end_of(disk: &SimulatedDisk, name: &str) -> usize {
    super::super::scan::written_end(&disk.content(name), 0)
}

#[test]
fn destroyed_pages_and_sectors_are_never_a_silent_loss() {
    let (disk, written) = filled(3);
    let mut dice = Dice::new(4);
    let mut opened = 0;
    for round in 0..300 {
        let copy = disk.copy(round);
        let name = segment_name(1 + dice.below(3) as u32);
        let size = [64, 512, 4096][dice.below(3) as usize];
        let at = dice.below(end_of(&disk, &name) as u64 / size) as usize * size as usize;
        let garbage = dice.roll();
        let zeros = dice.below(2) == 0;
        copy.damage(&name, |bytes| {
            let mut garbage = Dice::new(garbage);
            let end = (at + size as usize).min(bytes.len());
            bytes[at..end].iter_mut().for_each(|byte| *byte = if zeros { 0 } else { garbage.roll() as u8 });
        });
        opened += u32::from(check(&copy, &written, &format!("{size} bytes at {at} of {name}")).is_some());
    }
    assert!(opened > 200, "a leaf names what was lost: {opened} of 300 opened");
}

#[test]
fn a_segment_that_was_cut_or_removed_is_an_error_that_names_it() {
    let (disk, written) = filled(5);
    for cut in [0, 10, 64, 1000, 20_000] {
        let copy = disk.copy(1);
        copy.damage(&segment_name(2), |bytes| bytes.truncate(cut));
        assert_ne!(check(&copy, &written, "cut"), Some(0));
    }
    let copy = disk.copy(1);
    super::super::disk::Disk::remove(&copy, &segment_name(2)).unwrap();
    let error = open(&copy, settings()).unwrap_err();
    assert!(matches!(&error, LogError::Damaged { file, .. } if file.ends_with(segment_name(2))), "{error}");
    let (log, _) = open(&copy, Settings { accept_losses: true, ..settings() }).unwrap();
    assert!(log.damage().iter().any(|damage| damage.file.ends_with(segment_name(2))));
    let hurt = written.iter().filter(|(n, records)| !whole_or_hurt_accepted(&log, **n, records)).count();
    assert!(hurt > 0);
}

/// With losses accepted, an actor that had its last records in what is gone is shorter.
fn whole_or_hurt_accepted(log: &LocalLog, n: u32, records: &[Record]) -> bool {
    let head = log.head(actor(n));
    let read = log.read(actor(n), Seq(head.first.0.saturating_sub(1)), Seq(u64::MAX));
    read.is_ok_and(|read| head.seq.0 as usize == records.len() && read == records[head.first.0 as usize - 1..])
}

#[test]
fn heads_that_are_not_whole_are_an_error_and_not_an_empty_log() {
    let (disk, _) = filled(6);
    {
        let (log, mut writer) = open(&disk, settings()).unwrap();
        for n in 0..ACTORS {
            log.trim(actor(n), Seq(u64::MAX));
        }
        write(&log, &mut writer, fence(actor(77), 1, 1));
        log.shared().remove_unneeded().unwrap();
    }
    assert!(!super::super::disk::Disk::list(&disk).unwrap().contains(&segment_name(1)));
    let copy = disk.copy(1);
    copy.damage(HEADS, |bytes| bytes[40] ^= 1);
    assert!(matches!(open(&copy, settings()).unwrap_err(), LogError::Damaged { file, .. } if file.ends_with(HEADS)));
    let copy = disk.copy(1);
    super::super::disk::Disk::remove(&copy, HEADS).unwrap();
    assert!(matches!(open(&copy, settings()).unwrap_err(), LogError::Damaged { .. }), "the first segments are missing");
}

#[test]
fn a_lost_identity_is_found_again_in_the_segments() {
    let (disk, written) = filled(7);
    super::super::disk::Disk::remove(&disk, "identity").unwrap();
    assert_eq!(check(&disk, &written, "no identity"), Some(0));
}

#[test]
fn a_hurt_actor_is_repaired_by_giving_up_what_follows_its_loss() {
    let disk = SimulatedDisk::new(8);
    let (a, b) = (actor(1), actor(2));
    {
        let (log, mut writer) = open(&disk, settings()).unwrap();
        write(&log, &mut writer, fence(a, 1, 1));
        write(&log, &mut writer, fence(b, 1, 1));
        for seq in 2..=6 {
            write(&log, &mut writer, commit(a, 1, seq));
            write(&log, &mut writer, commit(b, 1, seq));
        }
    }
    let needle = format!("{a} 1 4");
    disk.damage(&segment_name(1), |bytes| {
        let at = bytes.windows(needle.len()).position(|window| window == needle.as_bytes()).unwrap();
        bytes[at] ^= 0x20;
    });
    {
        let (log, mut writer) = open(&disk, settings()).unwrap();
        assert_eq!(log.damage().len(), 1);
        assert_eq!(log.damage()[0].actor, Some(a));
        assert_eq!(log.read(a, Seq(0), Seq(3)).unwrap().len(), 3, "what is before the loss can be read");
        assert!(matches!(log.read(a, Seq(0), Seq(4)), Err(LogError::Damaged { .. })));
        write(&log, &mut writer, commit(b, 1, 7));
        let repaired = log.repair(a);
        assert!(matches!(log.append(fence(a, 2, 7)).now_or_never(), Some(Err(AppendError::Damaged { .. }))), "not before it is durable");
        writer.turn();
        assert_eq!(repaired.now_or_never().unwrap().unwrap().seq, Seq(3));
        assert!(matches!(log.append(commit(a, 1, 5)).now_or_never(), Some(Err(AppendError::NotNext { .. }))));
        write(&log, &mut writer, fence(a, 2, 4));
    }
    let (log, _) = open(&disk, settings()).unwrap();
    assert_eq!(log.damage().iter().filter(|damage| damage.actor.is_some()).count(), 0);
    let mut expected = vec![fence(a, 1, 1), commit(a, 1, 2), commit(a, 1, 3)];
    expected.push(fence(a, 2, 4));
    assert_eq!(log.read(a, Seq(0), Seq(9)).unwrap(), expected);
    assert_eq!(log.head(b).seq, Seq(7));
}

#[test]
fn a_hurt_actor_that_is_trimmed_past_its_loss_or_forgotten_is_well() {
    let (disk, written) = filled(9);
    let victim = written.iter().max_by_key(|(_, records)| records.len()).map(|(n, _)| *n).unwrap();
    let body = written[&victim].iter().find(|record| record.body.len() > 64).unwrap().body.clone();
    for name in super::super::disk::Disk::list(&disk).unwrap().into_iter().filter(|name| segment_number(name).is_some()) {
        disk.damage(&name, |bytes| {
            if let Some(at) = bytes.windows(body.len()).position(|window| *window == body[..]) {
                bytes[at + 5] ^= 1;
            }
        });
    }
    let (log, mut writer) = open(&disk, settings()).unwrap();
    let head = log.head(actor(victim));
    assert!(matches!(log.append(commit(actor(victim), 1, head.seq.0 + 1)).now_or_never(), Some(Err(AppendError::Damaged { .. }))));
    log.trim(actor(victim), head.seq);
    write(&log, &mut writer, commit(actor(victim), 1, head.seq.0 + 1));
}

#[test]
fn a_full_disk_refuses_and_loses_nothing_and_works_again_when_there_is_space() {
    let disk = SimulatedDisk::new(10);
    let (log, mut writer) = open(&disk, settings()).unwrap();
    let big = |seq: u64| Record { body: Bytes::from(vec![9; 6000]), ..commit(actor(1), 1, seq) };
    write(&log, &mut writer, fence(actor(1), 1, 1));
    disk.set_room(0);
    let mut seq = 2;
    let full = loop {
        let ticket = log.append(big(seq));
        let behind = log.append(big(seq + 1));
        writer.turn();
        writer.turn();
        match (ticket.now_or_never().unwrap(), behind.now_or_never().unwrap()) {
            (Ok(_), Ok(_)) => seq += 2,
            (Ok(_), Err(AppendError::Full(_))) => break seq + 1,
            (Err(AppendError::Full(_)), Err(AppendError::Full(_))) => break seq,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(log.head(actor(1)).seq, Seq(full - 1));
    assert_eq!(log.queued_bytes(), 0);
    let ticket = log.append(fence(actor(2), 1, 1));
    writer.turn();
    assert!(ticket.now_or_never().unwrap().is_ok(), "what still fits is written");
    disk.set_room(u64::MAX);
    write(&log, &mut writer, big(full));
    drop(log);
    let (log, _) = open(&disk, settings()).unwrap();
    assert_eq!(log.read(actor(1), Seq(0), Seq(u64::MAX)).unwrap().len() as u64, full);
}

#[test]
fn after_a_failed_sync_nothing_is_taken_until_the_log_is_opened_anew() {
    let disk = SimulatedDisk::new(11);
    {
        let (log, mut writer) = open(&disk, settings()).unwrap();
        write(&log, &mut writer, fence(actor(1), 1, 1));
        disk.fail_sync_in(0);
        let ticket = log.append(commit(actor(1), 1, 2));
        writer.turn();
        assert!(matches!(ticket.now_or_never(), Some(Err(AppendError::Failed(_)))));
        assert!(matches!(log.append(commit(actor(1), 1, 2)).now_or_never(), Some(Err(AppendError::Failed(_)))));
        assert!(matches!(log.append(fence(actor(2), 1, 1)).now_or_never(), Some(Err(AppendError::Failed(_)))));
        assert_eq!(log.head(actor(1)).seq, Seq(1));
        assert_eq!(log.read(actor(1), Seq(0), Seq(9)).unwrap().len(), 1, "it can still be read");
    }
    disk.process_restart();
    // The cache holds what the disk does not: opening writes it again, so that the power may go.
    let found = open(&disk, settings()).unwrap().0.head(actor(1)).seq;
    disk.power_cycle();
    assert!(open(&disk, settings()).unwrap().0.head(actor(1)).seq >= found);
}

#[test]
fn a_slow_sync_makes_one_batch_of_everything_that_waits() {
    let disk = SimulatedDisk::new(12);
    disk.set_slow(Duration::from_millis(20));
    let (log, mut writer) = open(&disk, Settings { segment_bytes: 1 << 20, ..settings() }).unwrap();
    let tickets: Vec<_> = (0..1000).map(|n| log.append(fence(actor(n), 1, 1))).collect();
    let start = std::time::Instant::now();
    assert!(writer.turn() && !writer.turn());
    assert!(start.elapsed() < Duration::from_millis(500));
    assert!(tickets.into_iter().all(|ticket| matches!(ticket.now_or_never(), Some(Ok(_)))));
}

#[test]
fn a_record_larger_than_a_segment_gets_its_own_and_one_over_the_limit_is_refused() {
    let disk = SimulatedDisk::new(13);
    let limits = Settings { record_bytes: 200_000, ..settings() };
    let large = |seq| Record { body: Bytes::from(vec![3; 150_000]), ..commit(actor(1), 1, seq) };
    {
        let (log, mut writer) = open(&disk, limits.clone()).unwrap();
        write(&log, &mut writer, fence(actor(1), 1, 1));
        write(&log, &mut writer, large(2));
        write(&log, &mut writer, commit(actor(1), 1, 3));
        write(&log, &mut writer, large(4));
        let refused = log.append(Record { body: Bytes::from(vec![3; 200_001]), ..commit(actor(1), 1, 5) }).now_or_never();
        assert_eq!(refused, Some(Err(AppendError::TooLarge { size: 200_001, most: 200_000 })));
    }
    disk.power_cycle();
    let (log, _) = open(&disk, limits).unwrap();
    assert_eq!(log.read(actor(1), Seq(0), Seq(9)).unwrap(), [fence(actor(1), 1, 1), large(2), commit(actor(1), 1, 3), large(4)]);
}

#[test]
fn a_queue_that_is_too_long_refuses() {
    let disk = SimulatedDisk::new(14);
    let (log, mut writer) = open(&disk, Settings { queue_bytes: 2000, ..settings() }).unwrap();
    let body = Bytes::from(vec![1; 900]);
    let tickets: Vec<_> = (0..4).map(|n| log.append(Record { body: body.clone(), ..fence(actor(n), 1, 1) })).collect();
    while writer.turn() {}
    let answers: Vec<_> = tickets.into_iter().map(|ticket| ticket.now_or_never().unwrap().is_ok()).collect();
    assert_eq!(answers, [true, true, false, false]);
    write(&log, &mut writer, fence(actor(2), 1, 1));
}

#[test]
fn space_comes_back_when_those_who_crowd_have_trimmed() {
    let disk = SimulatedDisk::new(15);
    let (log, mut writer) = open(&disk, Settings { log_bytes: 100_000, ..settings() }).unwrap();
    for n in 0..20 {
        write(&log, &mut writer, fence(actor(n), 1, 1));
    }
    assert!(log.crowding(10).is_empty());
    for seq in 2..=200 {
        write(&log, &mut writer, Record { body: Bytes::from(vec![1; 1000]), ..commit(actor(5), 1, seq) });
    }
    let crowd = log.crowding(10);
    assert_eq!(crowd, (0..10).map(actor).collect::<Vec<_>>(), "the oldest first");
    for _ in 0..5 {
        for a in log.crowding(10) {
            log.trim(a, log.head(a).seq);
        }
    }
    log.shared().remove_unneeded().unwrap();
    assert!(log.bytes().0 < 100_000, "{:?}", log.bytes());
    drop((log, writer));
    let (log, _) = open(&disk, settings()).unwrap();
    for n in 0..20 {
        assert_eq!(log.head(actor(n)).seq.0, if n == 5 { 200 } else { 1 });
    }
}
