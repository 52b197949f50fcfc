//! What a turn is: one transaction and one record, or nothing. Keys, savepoints, alarms, steps, bookmarks, `deleteAll`.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use skep_actor::{
    Heap, RecordKind, Seq,
    database::{SqlError, Value},
    storage::{AlarmEnd, Bookmark, Range, Step, StorageError, decode_checkpoint},
};

use super::memory::{World, all, end, int, refused, wait};

fn put(s: &mut skep_actor::Storage, pairs: &[(&str, &str)]) {
    s.kv_put(pairs.iter().map(|(k, v)| ((*k).to_owned(), Bytes::copy_from_slice(v.as_bytes()))).collect()).expect("works");
}

fn keys(s: &mut skep_actor::Storage, range: &Range) -> Vec<String> {
    s.kv_list(range, 1 << 20).expect("works").into_iter().map(|(key, _)| key).collect()
}

#[test]
fn a_turn_is_one_record_and_reading_is_none() {
    let world = World::new();
    let mut s = world.open();
    s.sql("CREATE TABLE t (a)", &[]).unwrap();
    put(&mut s, &[("a", "1"), ("b", "2")]);
    s.set_alarm("", 77).unwrap();
    let receipt = end(&mut s).unwrap();
    assert_eq!((receipt.seq, s.last()), (Seq(1), Seq(1)));
    assert_eq!(world.log.wake_of_last(), 77);
    s.sql("SELECT * FROM t", &[]).unwrap();
    s.kv_get(&["a"], 100).unwrap();
    s.sql("UPDATE t SET a = 1", &[]).unwrap();
    assert!(end(&mut s).is_none());
    assert_eq!(world.log.records.lock().len(), 1);
    s.sql("INSERT INTO t VALUES (1)", &[]).unwrap();
    end(&mut s).unwrap();
    let mut again = world.open();
    assert_eq!(int(&mut again, "SELECT count(*) FROM t"), 1);
    assert_eq!(again.kv_get(&["b", "c"], 100).unwrap(), [Some("2".into()), None]);
}

#[test]
fn a_small_change_writes_few_pages() {
    let world = World::new();
    let mut s = world.open();
    s.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, n); INSERT INTO t VALUES (1, 0)", &[]).unwrap();
    end(&mut s);
    for _ in 0..3 {
        s.sql("UPDATE t SET n = n + 1 WHERE id = 1", &[]).unwrap();
        end(&mut s);
        let pages = (world.log.records.lock().last().unwrap().body.len() - 12) / 4100;
        assert!(pages <= 2, "{pages} pages");
    }
    // Without the header: its change counter is written once for each opening.
    assert_eq!((world.log.records.lock().last().unwrap().body.len() - 12) / 4100, 1);
}

#[test]
fn a_turn_that_is_cut_off_has_not_been() {
    let world = World::new();
    let mut s = world.open();
    s.sql("CREATE TABLE t (a)", &[]).unwrap();
    end(&mut s);
    s.sql("INSERT INTO t VALUES (1); CREATE TABLE u (a)", &[]).unwrap();
    put(&mut s, &[("k", "v")]);
    s.set_alarm("x", 5).unwrap();
    s.begin().unwrap();
    s.cut_off();
    assert!(end(&mut s).is_none());
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 0);
    assert!(s.kv_get(&["k"], 10).unwrap()[0].is_none() && s.alarm("x").unwrap().is_none());
    put(&mut s, &[("k", "w")]);
    end(&mut s).unwrap();
    assert_eq!(world.open().kv_get(&["k"], 10).unwrap(), [Some("w".into())]);
}

#[test]
fn keys_are_listed_in_the_order_of_their_bytes() {
    let mut s = World::new().open();
    assert_eq!(s.kv_list(&Range::default(), 10).unwrap(), []);
    let all = ["", "a", "a\0", "aa", "ab", "b", "z", "é", "\u{ffff}", "😀"];
    let mut shuffled: Vec<(&str, &str)> = all.iter().map(|k| (*k, "v")).collect();
    shuffled.reverse();
    put(&mut s, &shuffled);
    let r = Range::default;
    assert_eq!(keys(&mut s, &r()), all);
    assert_eq!(keys(&mut s, &Range { reverse: true, limit: Some(3), ..r() }), ["😀", "\u{ffff}", "é"]);
    assert_eq!(keys(&mut s, &Range { prefix: Some("a".into()), ..r() }), ["a", "a\0", "aa", "ab"]);
    assert_eq!(keys(&mut s, &Range { prefix: Some("a".into()), start: Some("aa".into()), reverse: true, ..r() }), ["ab", "aa"]);
    assert_eq!(keys(&mut s, &Range { start_after: Some("a".into()), end: Some("b".into()), ..r() }), ["a\0", "aa", "ab"]);
    assert_eq!(keys(&mut s, &Range { start: Some("b".into()), end: Some("a".into()), ..r() }), [""; 0]);
    assert_eq!(keys(&mut s, &Range { prefix: Some("\u{10ffff}".into()), ..r() }), [""; 0]);
}

#[test]
fn long_lists_come_whole_or_not_at_all() {
    let mut s = World::new().open();
    let pairs: Vec<(String, Bytes)> = (0..1000).map(|i| (format!("k{i:04}"), Bytes::from(vec![1; 100]))).collect();
    s.kv_put(pairs.clone()).unwrap();
    assert_eq!(s.kv_list(&Range::default(), 1 << 20).unwrap(), pairs);
    let mut reversed = s.kv_list(&Range { reverse: true, limit: Some(999), ..Range::default() }, 1 << 20).unwrap();
    reversed.reverse();
    assert_eq!(reversed, pairs[1..]);
    assert_eq!(s.kv_list(&Range::default(), 50_000), Err(SqlError::TooLarge(50_000)));
    let names: Vec<&str> = pairs.iter().map(|(k, _)| &**k).collect();
    assert_eq!(s.kv_get(&names, 50_000), Err(SqlError::TooLarge(50_000)));
    assert_eq!(s.kv_delete(&["k0001", "k0001", "nope", "k0002"]).unwrap(), 2);
}

#[test]
fn values_that_are_too_large_leave_the_others_out_too() {
    let mut s = World::new().open();
    put(&mut s, &[("a", "old")]);
    let e = s.kv_put(vec![("a".into(), "new".into()), ("b".into(), Bytes::from(vec![0; 2_300_000]))]).unwrap_err();
    assert!(e.to_string().contains("too big"), "{e}");
    assert_eq!(s.kv_get(&["a", "b"], 100).unwrap(), [Some("old".into()), None]);
    s.kv_put(vec![("b".into(), Bytes::from(vec![0; 2 << 20]))]).unwrap();
    end(&mut s);
}

#[test]
fn savepoints_nest_and_undo() {
    let mut s = World::new().open();
    put(&mut s, &[("a", "1")]);
    s.begin().unwrap();
    put(&mut s, &[("a", "2")]);
    s.set_alarm("", 5).unwrap();
    s.begin().unwrap();
    put(&mut s, &[("a", "3")]);
    s.rollback().unwrap();
    assert_eq!(s.kv_get(&["a"], 10).unwrap(), [Some("2".into())]);
    s.commit().unwrap();
    s.begin().unwrap();
    s.set_alarm("", 9).unwrap();
    s.rollback().unwrap();
    assert_eq!(s.alarm("").unwrap(), Some(5));
    assert!(s.commit().is_err() && s.rollback().is_err());
    for _ in 0..64 {
        s.begin().unwrap();
    }
    assert!(s.begin().is_err());
}

#[test]
fn a_savepoint_that_made_a_hidden_table_can_be_undone() {
    let mut s = World::new().open();
    s.begin().unwrap();
    put(&mut s, &[("a", "1")]);
    s.rollback().unwrap();
    assert_eq!(s.kv_get(&["a"], 10).unwrap(), [None]);
    put(&mut s, &[("a", "2")]);
    end(&mut s).unwrap();
}

#[test]
fn what_is_open_when_a_turn_ends_is_undone_unless_it_is_held() {
    let world = World::new();
    let mut s = world.open();
    put(&mut s, &[("a", "1")]);
    s.begin().unwrap();
    put(&mut s, &[("a", "2")]);
    end(&mut s).unwrap();
    assert_eq!(s.kv_get(&["a"], 10).unwrap(), [Some("1".into())]);
    s.hold_transaction(true);
    s.begin().unwrap();
    put(&mut s, &[("a", "3")]);
    assert!(end(&mut s).is_none());
    put(&mut s, &[("b", "3")]);
    s.commit().unwrap();
    end(&mut s).unwrap();
    assert_eq!(world.open().kv_get(&["a", "b"], 10).unwrap(), [Some("3".into()), Some("3".into())]);
    s.begin().unwrap();
    put(&mut s, &[("a", "4")]);
    assert!(end(&mut s).is_none());
    s.hold_transaction(false);
    end(&mut s);
    assert_eq!(s.kv_get(&["a"], 10).unwrap(), [Some("3".into())]);
}

#[test]
fn a_deferred_foreign_key_that_fails_undoes_the_turn() {
    let world = World::new();
    let mut s = world.open();
    s.sql("CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED)", &[]).unwrap();
    end(&mut s);
    s.sql("INSERT INTO c VALUES (7)", &[]).unwrap();
    put(&mut s, &[("k", "v")]);
    let e = s.end_turn().unwrap_err();
    assert!(e.to_string().starts_with("FOREIGN KEY constraint failed"), "{e}");
    assert_eq!(int(&mut s, "SELECT count(*) FROM c"), 0);
    assert_eq!(world.log.records.lock().len(), 1);
}

#[test]
fn alarms_have_names_and_the_earliest_is_in_the_record() {
    let world = World::new();
    let mut s = world.open();
    s.set_alarm("b", 300).unwrap();
    s.set_alarm("", 200).unwrap();
    s.set_alarm("a", 100).unwrap();
    end(&mut s);
    assert_eq!((world.log.wake_of_last(), s.wake().unwrap()), (100, Some(100)));
    assert_eq!(s.alarms().unwrap(), [("a".into(), 100), ("b".into(), 300)]);
    assert_eq!((s.alarm("").unwrap(), s.alarm("c").unwrap()), (Some(200), None));
    s.delete_alarm("a").unwrap();
    s.set_alarm("b", 50).unwrap();
    end(&mut s);
    assert_eq!(world.log.wake_of_last(), 50);
    let mut s = world.open();
    assert_eq!(s.wake().unwrap(), Some(50));
    assert_eq!(s.due(200).unwrap().iter().map(|a| &*a.name).collect::<Vec<_>>(), ["b", ""]);
    assert_eq!(s.due(49).unwrap(), []);
    assert!(s.set_alarm(&"n".repeat(1025), 1).is_err());
    s.delete_alarm("").unwrap();
    s.delete_alarm("b").unwrap();
    end(&mut s);
    assert_eq!(world.log.wake_of_last(), 0);
}

#[test]
fn an_alarm_ends_in_the_record_of_what_its_handler_wrote() {
    let world = World::new();
    let mut s = world.open();
    s.set_alarm("", 10).unwrap();
    end(&mut s);
    s.alarm_begin("").unwrap().unwrap();
    put(&mut s, &[("rung", "1")]);
    s.alarm_end("", AlarmEnd::Done).unwrap();
    end(&mut s);
    assert_eq!(world.log.records.lock().len(), 2);
    // Who rang it asks again what to do, and there is nothing to do.
    s.alarm_end("", AlarmEnd::Retry { at_ms: 50, counts: true }).unwrap();
    assert!(end(&mut s).is_none());
    assert_eq!((s.wake().unwrap(), world.log.wake_of_last()), (None, 0));
    // The record is lost: the handler never ran, and the alarm is there.
    drop(s);
    world.log.crash(Seq(1));
    let mut s = world.open();
    assert_eq!((s.due(99).unwrap().len(), s.kv_get(&["rung"], 100).unwrap()), (1, vec![None]));
}

#[test]
fn an_alarm_whose_end_is_undone_rings_again() {
    let world = World::new();
    let mut s = world.open();
    s.set_alarm("", 10).unwrap();
    end(&mut s);
    s.alarm_begin("").unwrap().unwrap();
    s.begin().unwrap();
    s.alarm_end("", AlarmEnd::Done).unwrap();
    s.rollback().unwrap();
    assert_eq!(s.due(99).unwrap().len(), 1);
    s.alarm_begin("").unwrap().unwrap();
    s.alarm_end("", AlarmEnd::Done).unwrap();
    s.cut_off();
    assert_eq!((s.due(99).unwrap().len(), s.wake().unwrap()), (1, Some(10)));
}

#[test]
fn an_alarm_rings_until_its_handler_is_done() {
    let world = World::new();
    let mut s = world.open();
    s.set_alarm("", 10).unwrap();
    end(&mut s);
    let alarm = s.alarm_begin("").unwrap().unwrap();
    assert_eq!((alarm.due_ms, alarm.retries), (10, 0));
    assert_eq!((s.alarm("").unwrap(), s.due(99).unwrap().len(), s.next_due().unwrap()), (None, 0, None));
    // A crash now: it is still there.
    assert_eq!(world.open().due(99).unwrap().len(), 1);
    s.alarm_end("", AlarmEnd::Retry { at_ms: 50, counts: true }).unwrap();
    end(&mut s);
    assert_eq!(world.log.wake_of_last(), 50);
    // Neither how often it failed nor how long it waits is lost with the node.
    let mut s = world.open();
    assert_eq!((s.wake().unwrap(), s.due(49).unwrap().len(), s.due(50).unwrap().len()), (Some(50), 0, 1));
    let again = s.alarm_begin("").unwrap().unwrap();
    assert_eq!((again.due_ms, again.retries), (10, 1), "it is the same alarm");
    // The handler sets it anew: that one stays.
    s.set_alarm("", 500).unwrap();
    assert_eq!(s.alarm("").unwrap(), Some(500));
    s.alarm_end("", AlarmEnd::Done).unwrap();
    assert_eq!(s.alarm("").unwrap(), Some(500));
    s.alarm_begin("").unwrap().unwrap();
    s.alarm_end("", AlarmEnd::Done).unwrap();
    assert_eq!(s.alarm("").unwrap(), None);
    assert!(s.alarm_begin("").unwrap().is_none());
    end(&mut s);
    assert_eq!(world.open().wake().unwrap(), None);
}

#[test]
fn an_attempt_that_took_its_guest_along_counts_unless_the_alarm_is_another_by_now() {
    let world = World::new();
    let mut s = world.open();
    s.set_alarm("a", 10).unwrap();
    end(&mut s);
    let tried = s.alarm_begin("a").unwrap().unwrap();
    let mut s = world.open();
    s.alarm_ended_before(&tried, AlarmEnd::Retry { at_ms: 70, counts: true }).unwrap();
    end(&mut s);
    let mut s = world.open();
    assert_eq!((s.wake().unwrap(), s.alarm("a").unwrap()), (Some(70), Some(10)));
    s.set_alarm("a", 11).unwrap();
    s.alarm_ended_before(&tried, AlarmEnd::Done).unwrap();
    end(&mut s);
    let mut s = world.open();
    assert_eq!((s.wake().unwrap(), s.alarm_begin("a").unwrap().unwrap().retries), (Some(11), 0), "set anew, it is a new one");
    s.delete_alarm("a").unwrap();
    s.alarm_ended_before(&tried, AlarmEnd::Retry { at_ms: 90, counts: true }).unwrap();
    assert_eq!(s.wake().unwrap(), None);
}

#[test]
fn a_step_is_new_once() {
    let world = World::new();
    let mut s = world.open();
    assert_eq!(s.step_begin("pay").unwrap(), Step::New);
    end(&mut s).unwrap();
    // The effect goes out; the node goes down before the result is written.
    let mut s = world.open();
    assert_eq!(s.step_begin("pay").unwrap(), Step::Unfinished(1_000));
    s.step_end("pay", true, "receipt".into()).unwrap();
    assert_eq!(s.step_begin("mail").unwrap(), Step::New);
    s.step_end("mail", false, "no such address".into()).unwrap();
    end(&mut s).unwrap();
    let mut s = world.open();
    assert_eq!(s.step_begin("pay").unwrap(), Step::Done("receipt".into()));
    assert_eq!(s.step_begin("mail").unwrap(), Step::Failed("no such address".into()));
    s.step_forget("mail").unwrap();
    assert_eq!(s.step_begin("mail").unwrap(), Step::New);
    assert!(s.step_end("never", true, Bytes::new()).is_err());
    assert!(s.step_end("mail", true, Bytes::from(vec![0; (1 << 20) + 1])).is_err());
    assert!(s.step_begin(&"n".repeat(1025)).is_err());
}

#[test]
fn delete_all_leaves_nothing_but_alarms_if_asked() {
    let world = World::new();
    let mut s = world.open();
    s.sql("CREATE TABLE t (a); CREATE VIRTUAL TABLE f USING fts5(a); INSERT INTO t VALUES (zeroblob(100000))", &[]).unwrap();
    put(&mut s, &[("k", "v")]);
    s.set_alarm("", 5).unwrap();
    s.set_alarm("x", 6).unwrap();
    end(&mut s);
    let cursor = s.sql("WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c", &[]).unwrap().cursor;
    s.begin().unwrap();
    assert!(s.clear(false).is_err());
    s.commit().unwrap();
    s.clear(false).unwrap();
    assert!(s.sql_next(cursor).is_err());
    assert_eq!(all(&mut s, "SELECT name FROM sqlite_master WHERE name <> '_cf_ALARM'", &[]), Vec::<Vec<Value>>::new());
    s.cut_off();
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 1);
    s.clear(false).unwrap();
    put(&mut s, &[("n", "w")]);
    end(&mut s).unwrap();
    assert_eq!((s.alarm("").unwrap(), s.alarm("x").unwrap()), (Some(5), Some(6)));
    let mut again = world.open();
    assert_eq!(again.kv_get(&["k", "n"], 10).unwrap(), [None, Some("w".into())]);
    assert!(again.database_bytes().unwrap() <= 4 * 4096);
    assert_eq!(world.log.wake_of_last(), 5);
    again.clear(true).unwrap();
    again.clear(true).unwrap();
    end(&mut again).unwrap();
    assert_eq!(world.log.wake_of_last(), 0);
    let mut empty = world.open();
    assert_eq!(empty.database_bytes().unwrap(), 0);
    assert!(refused(&mut empty, "SELECT * FROM t").contains("no such table"));
}

#[test]
fn bookmarks_lead_back_and_forth() {
    let world = World::new();
    let mut s = world.open();
    for (time, value) in [(2_000, "one"), (3_000, "two"), (4_000, "three")] {
        world.clock.store(time, Ordering::Relaxed);
        s.sql("CREATE TABLE IF NOT EXISTS big (a)", &[]).unwrap();
        s.sql("INSERT INTO big VALUES (zeroblob(30000))", &[]).unwrap();
        put(&mut s, &[("k", value)]);
        end(&mut s).unwrap();
    }
    assert_eq!(s.bookmark().seq, Seq(3));
    let then = s.bookmark_at(3_500).unwrap();
    assert_eq!(then.seq, Seq(2));
    assert!(then.to_string() < s.bookmark().to_string());
    assert!(s.bookmark_at(10).is_err());
    put(&mut s, &[("k", "four")]);
    let undo = s.restore_at_start(then.to_string().parse().unwrap()).unwrap();
    assert_eq!(s.kv_get(&["k"], 10).unwrap(), [Some("four".into())]);
    end(&mut s).unwrap();
    let (mut s, restored) = world.try_open().unwrap();
    assert_eq!(restored, Some(Ok(Seq(2))));
    assert_eq!((s.kv_get(&["k"], 10).unwrap(), int(&mut s, "SELECT count(*) FROM big")), (vec![Some("two".into())], 2));
    assert_eq!(s.last(), Seq(5));
    // Once, not at every start; and it can be undone.
    let (mut s, restored) = {
        drop(s);
        world.try_open().unwrap()
    };
    assert_eq!(restored, None);
    s.restore_at_start(undo).unwrap();
    end(&mut s).unwrap();
    let (mut s, restored) = world.try_open().unwrap();
    assert_eq!(restored, Some(Ok(undo.seq)));
    assert_eq!(s.kv_get(&["k"], 10).unwrap(), [Some("four".into())]);
    assert_eq!(world.try_open().unwrap().1, None);
}

#[test]
fn what_another_actor_was_is_adopted_and_ones_own_alarms_stay() {
    let world = World::new();
    let mut s = world.open();
    put(&mut s, &[("k", "theirs")]);
    s.set_alarm("theirs", 50_000).unwrap();
    end(&mut s).unwrap();
    put(&mut s, &[("k", "mine")]);
    s.delete_alarm("theirs").unwrap();
    s.set_alarm("mine", 60_000).unwrap();
    end(&mut s).unwrap();
    // All actors of this world have one past.
    let undo = s.adopt_at_start(skep_id::ActorId::new([1; 32]), Seq(1)).unwrap();
    end(&mut s).unwrap();
    let (mut s, restored) = world.try_open().unwrap();
    assert_eq!(restored, Some(Ok(Seq(1))));
    assert_eq!(s.kv_get(&["k"], 10).unwrap(), [Some("theirs".into())]);
    assert_eq!(s.alarms().unwrap(), [("mine".to_owned(), 60_000)]);
    assert_eq!(world.log.wake_of_last(), 60_000);
    // Once; it can be undone; and what is not there any more is said and forgotten.
    assert_eq!(world.try_open().unwrap().1, None);
    s.restore_at_start(undo).unwrap();
    end(&mut s).unwrap();
    let (mut s, _) = world.try_open().unwrap();
    assert_eq!(s.kv_get(&["k"], 10).unwrap(), [Some("mine".into())]);
    s.adopt_at_start(skep_id::ActorId::new([1; 32]), Seq(0)).unwrap();
    end(&mut s).unwrap();
    assert!(matches!(world.try_open().unwrap().1, Some(Err(StorageError::Past(_)))));
    assert_eq!(world.try_open().unwrap().1, None);
}

#[test]
fn the_place_of_a_turn_is_known_before_its_end() {
    let world = World::new();
    let mut s = world.open();
    assert_eq!(s.bookmark_here().seq, Seq(0));
    put(&mut s, &[("k", "v")]);
    let here = s.bookmark_here();
    assert_eq!((here.seq, s.own_bookmark(here).is_err()), (Seq(1), true));
    end(&mut s).unwrap();
    assert_eq!((s.bookmark_here().seq, s.own_bookmark(here).unwrap()), (Seq(1), here));
}

#[test]
fn bookmarks_of_others_of_the_future_and_of_what_is_gone_are_refused() {
    let world = World::new();
    let mut s = world.open();
    put(&mut s, &[("k", "v")]);
    end(&mut s).unwrap();
    let other = Bookmark::of(skep_id::ActorId::new([1; 32]), Seq(1), 0);
    let future = Bookmark::of(s.actor(), Seq(9), 0);
    assert!(matches!(s.restore_at_start(other), Err(StorageError::Refused(_))));
    assert!(matches!(s.restore_at_start(future), Err(StorageError::Refused(_))));
    // Not kept any more when the actor starts: it says so, and lives on.
    s.restore_at_start(Bookmark::of(s.actor(), Seq(0), 0)).unwrap();
    end(&mut s).unwrap();
    let (mut s, restored) = world.try_open().unwrap();
    assert!(matches!(restored, Some(Err(StorageError::Past(_)))));
    assert_eq!(s.kv_get(&["k"], 10).unwrap(), [Some("v".into())]);
    assert_eq!(world.try_open().unwrap().1, None);
}

#[test]
fn a_checkpoint_stands_at_the_place_of_the_database() {
    let world = World::new();
    let mut s = world.open();
    put(&mut s, &[("k", "v")]);
    let heap = Heap { code: "main@1".into(), timer_ms: Some(9), bytes: "heap".into() };
    assert!(s.append_checkpoint(&heap).is_err());
    end(&mut s).unwrap();
    assert_eq!(wait(s.append_checkpoint(&heap).unwrap()).unwrap().seq, Seq(2));
    let last = world.log.records.lock().last().cloned().unwrap();
    assert_eq!((last.kind, decode_checkpoint(&last.body)), (RecordKind::Checkpoint, Some(heap)));
    put(&mut s, &[("k", "w")]);
    assert_eq!(end(&mut s).unwrap().seq, Seq(3));
}

#[test]
fn sync_waits_for_the_last_record_whoever_wrote_it() {
    let world = World::new();
    let mut s = world.open();
    assert!(s.sync().is_none());
    world.log.slow.store(true, Ordering::Relaxed);
    put(&mut s, &[("k", "v")]);
    let ended = s.end_turn().unwrap().unwrap();
    let (a, b) = (s.sync().unwrap(), s.sync().unwrap());
    assert!(futures_util::FutureExt::now_or_never(a).is_none());
    world.log.crash(Seq(0));
    assert!(wait(b).is_err() && wait(ended).is_err());
}

#[test]
fn tables_are_altered_and_dropped() {
    let mut s = World::new().open();
    for sql in [
        "CREATE TABLE a (x)",
        "INSERT INTO a VALUES (1)",
        "ALTER TABLE a ADD COLUMN y DEFAULT 5",
        "ALTER TABLE a RENAME COLUMN x TO z",
        "ALTER TABLE a RENAME TO b",
        "SELECT * FROM b",
        "ALTER TABLE b DROP COLUMN y; DROP TABLE b",
        "CREATE TABLE c (x); DROP TABLE c",
    ] {
        s.sql(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    end(&mut s).unwrap();
}
