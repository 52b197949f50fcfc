//! A model: the same operations on a plain SQLite database in memory. After every crash the state is that of a turn that had ended, and not of one
//! before the last that was acknowledged.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use skep_actor::{
    Seq, Storage,
    database::{DatabaseLimits, Value},
    storage::{AlarmEnd, Range},
};

use super::memory::World;

#[derive(Clone, Debug)]
enum Op {
    Insert(u8, u16),
    Update(u8, u16),
    Delete(u8),
    Put(u8, u16),
    Remove(u8),
    Alarm(u8, u16),
    Unset(u8),
    /// Its handler comes back, or is to be tried again then.
    Ring(u8, Option<u16>),
    Clear(bool),
    Begin,
    Commit,
    Rollback,
    Index(bool),
    EndTurn,
    CutOff,
    /// So many of the last records were not durable.
    Crash(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..20_u8, 0..9_000_u16).prop_map(|(k, n)| Op::Insert(k, n)),
        4 => (0..20_u8, any::<u16>()).prop_map(|(k, n)| Op::Update(k, n)),
        3 => (0..20_u8).prop_map(Op::Delete),
        5 => (0..12_u8, 0..20_000_u16).prop_map(|(k, n)| Op::Put(k, n)),
        2 => (0..12_u8).prop_map(Op::Remove),
        // More than are kept in memory, now and then.
        6 => (0..24_u8, any::<u16>()).prop_map(|(k, n)| Op::Alarm(k, n)),
        1 => (0..24_u8).prop_map(Op::Unset),
        2 => (0..24_u8, any::<Option<u16>>()).prop_map(|(k, again)| Op::Ring(k, again)),
        1 => any::<bool>().prop_map(Op::Clear),
        2 => Just(Op::Begin),
        2 => Just(Op::Commit),
        2 => Just(Op::Rollback),
        1 => any::<bool>().prop_map(Op::Index),
        6 => Just(Op::EndTurn),
        1 => Just(Op::CutOff),
        2 => (0..3_u8).prop_map(Op::Crash),
    ]
}

/// All that can be seen of a state.
#[derive(Clone, Debug, Default, PartialEq)]
struct View {
    rows: BTreeMap<i64, (i64, usize)>,
    table: bool,
    keys: BTreeMap<String, usize>,
    /// When they are due, and when they are tried next.
    alarms: BTreeMap<String, (u64, u64)>,
}

fn view(s: &mut Storage) -> View {
    let table = !super::memory::all(s, "SELECT 1 FROM sqlite_master WHERE name = 't'", &[]).is_empty();
    let mut rows = BTreeMap::new();
    if table {
        for row in super::memory::all(s, "SELECT k, n, length(filler) FROM t ORDER BY k", &[]) {
            let [Value::Integer(k), Value::Integer(n), Value::Integer(length)] = row[..] else { panic!("{row:?}") };
            rows.insert(k, (n, length as usize));
        }
        assert_eq!(super::memory::all(s, "PRAGMA quick_check", &[]), [[Value::Text("ok".into())]]);
    }
    let keys = s.kv_list(&Range::default(), 1 << 24).expect("works").into_iter().map(|(k, v)| (k, v.len())).collect();
    let next: BTreeMap<String, u64> = s.due(u64::MAX).expect("works").into_iter().map(|alarm| (alarm.name, alarm.due_ms)).collect();
    let due = s.alarms().expect("works");
    assert_eq!(due.len(), next.len());
    assert_eq!(s.wake().expect("works"), next.values().min().copied());
    let alarms = due.into_iter().map(|(name, due)| (name.clone(), (due, next[&name]))).collect();
    View { rows, table, keys, alarms }
}

/// The model: a stack of states, one for each savepoint.
struct Model {
    now: Vec<View>,
}

fn apply(s: &mut Storage, model: &mut Model, op: &Op) {
    let depth = model.now.len();
    let now = model.now.last_mut().expect("a state");
    match op {
        Op::Insert(k, n) => {
            s.sql("CREATE TABLE IF NOT EXISTS t (k INTEGER PRIMARY KEY, n, filler)", &[]).expect("works");
            now.table = true;
            let bound = [Value::Integer((*k).into()), Value::Integer((*n).into())];
            s.sql("INSERT OR REPLACE INTO t VALUES (?1, ?2, zeroblob(?2))", &bound).expect("works");
            now.rows.insert((*k).into(), ((*n).into(), (*n).into()));
        }
        Op::Update(k, n) if now.table => {
            s.sql("UPDATE t SET n = ? WHERE k = ?", &[Value::Integer((*n).into()), Value::Integer((*k).into())]).expect("works");
            if let Some(row) = now.rows.get_mut(&i64::from(*k)) {
                row.0 = (*n).into();
            }
        }
        Op::Delete(k) if now.table => {
            s.sql("DELETE FROM t WHERE k >= ?", &[Value::Integer((*k).into())]).expect("works");
            now.rows.retain(|key, _| *key < i64::from(*k));
        }
        Op::Put(k, n) => {
            s.kv_put(vec![(format!("k{k}"), Bytes::from(vec![7; (*n).into()]))]).expect("works");
            now.keys.insert(format!("k{k}"), (*n).into());
        }
        Op::Remove(k) => {
            let there = s.kv_delete(&[&format!("k{k}")]).expect("works");
            assert_eq!(there == 1, now.keys.remove(&format!("k{k}")).is_some());
        }
        Op::Alarm(k, due) => {
            s.set_alarm(&format!("a{k}"), u64::from(*due)).expect("works");
            now.alarms.insert(format!("a{k}"), (u64::from(*due), u64::from(*due)));
        }
        Op::Unset(k) => {
            s.delete_alarm(&format!("a{k}")).expect("works");
            now.alarms.remove(&format!("a{k}"));
        }
        Op::Ring(k, again) => {
            let name = format!("a{k}");
            let begun = s.alarm_begin(&name).expect("works");
            assert_eq!(begun.map(|alarm| alarm.due_ms), now.alarms.get(&name).map(|(due, _)| *due));
            assert_eq!(s.alarm(&name).expect("works"), None, "its handler runs");
            let retry = |at: u16| AlarmEnd::Retry { at_ms: at.into(), counts: true };
            s.alarm_end(&name, again.map_or(AlarmEnd::Done, retry)).expect("works");
            match again {
                Some(at) => drop(now.alarms.get_mut(&name).map(|(due, next)| *next = (*due).max((*at).into()))),
                None => drop(now.alarms.remove(&name)),
            }
        }
        Op::Clear(alarms) => {
            assert_eq!(s.clear(*alarms).is_ok(), depth == 1);
            if depth == 1 {
                *now = View { alarms: if *alarms { BTreeMap::new() } else { now.alarms.clone() }, ..View::default() };
            }
        }
        Op::Begin if depth < 10 => {
            s.begin().expect("works");
            let copy = now.clone();
            model.now.push(copy);
        }
        Op::Commit => {
            assert_eq!(s.commit().is_ok(), depth > 1);
            if depth > 1 {
                let top = model.now.pop().expect("a state");
                *model.now.last_mut().expect("a state") = top;
            }
        }
        Op::Rollback => {
            assert_eq!(s.rollback().is_ok(), depth > 1);
            if depth > 1 {
                model.now.pop();
            }
        }
        Op::Index(make) if now.table => {
            s.sql(if *make { "CREATE INDEX IF NOT EXISTS i ON t (n)" } else { "DROP INDEX IF EXISTS i" }, &[]).expect("works");
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_leaves_a_turn_that_ended(ops in proptest::collection::vec(op(), 1..80), small_cache in any::<bool>()) {
        // With a cache of a few pages SQLite writes pages before the commit, and takes them back at a rollback.
        let cache_bytes = if small_cache { 16 << 10 } else { 1 << 20 };
        let world = World::with(DatabaseLimits { cache_bytes, ..DatabaseLimits::default() });
        let mut s = world.open();
        let mut model = Model { now: vec![View::default()] };
        // The state as of each place.
        let mut ended = vec![View::default()];
        for op in &ops {
            match op {
                Op::EndTurn => {
                    model.now.truncate(1);
                    s.end_turn().expect("works");
                    let state = model.now[0].clone();
                    if s.last().0 as usize == ended.len() {
                        ended.push(state);
                    } else {
                        // An index, say, or nothing: what can be seen is the same.
                        prop_assert_eq!(ended.last().expect("a state"), &state);
                    }
                }
                Op::CutOff => {
                    s.cut_off();
                    model.now = vec![ended.last().expect("a state").clone()];
                }
                Op::Crash(lost) => {
                    drop(s);
                    let durable = (ended.len() - 1).saturating_sub((*lost).into());
                    world.log.crash(Seq(durable as u64));
                    ended.truncate(durable + 1);
                    s = world.open();
                    model.now = vec![ended.last().expect("a state").clone()];
                }
                op => apply(&mut s, &mut model, op),
            }
            if matches!(op, Op::EndTurn | Op::CutOff | Op::Crash(_) | Op::Rollback) {
                prop_assert_eq!(&view(&mut s), model.now.last().expect("a state"));
            }
        }
    }
}
