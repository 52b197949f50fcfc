//! What a turn costs in CPU: a `SELECT` and an `UPDATE` of a counter, the commit and the body of its record, on an actor's pages and a log in memory.
//!
//! `cargo run --release -p skep-actor --example storage_bench`. It measures the layers above the log; what a sync costs is the log's to measure.

#[path = "../tests/state/memory.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod memory;

use std::time::Instant;

use bytes::Bytes;
use skep_actor::{
    Seq, Storage,
    database::{PageError, PageFile, Value},
    pages::{CommitMeta, Library, PAGE, Pages},
    storage::PageStore,
};
use skep_id::ActorId;

use memory::World;

const TURNS: u32 = 20_000;

/// An actor's real pages.
struct Real(Pages);

impl PageFile for Real {
    fn count(&self) -> u32 {
        self.0.count()
    }

    fn read(&self, page: u32, into: &mut [u8; PAGE]) -> Result<(), PageError> {
        Ok(self.0.read(page, into)?)
    }

    fn write(&mut self, page: u32, content: &[u8; PAGE]) -> Result<(), PageError> {
        self.0.write(page, content);
        Ok(())
    }

    fn truncate(&mut self, count: u32) -> Result<(), PageError> {
        self.0.truncate(count);
        Ok(())
    }

    fn changed(&self) -> bool {
        self.0.changed()
    }

    fn discard(&mut self) {
        self.0.discard();
    }
}

impl PageStore for Real {
    fn commit(&mut self, at: Seq, wake_ms: Option<u64>) -> Bytes {
        self.0.commit(at, &CommitMeta { wake_ms })
    }
}

fn measure(name: &str, mut turn: impl FnMut(&mut Storage, u32)) {
    let world = World::new();
    let dir = tempfile::tempdir().expect("a folder");
    let library = Library::open(dir.path(), world.log.clone()).expect("a library");
    let pages = library.create(ActorId::new(memory::ACTOR)).expect("an actor");
    let (mut s, _) = world.open_on(Real(pages), Seq(0)).expect("a state");
    s.sql("CREATE TABLE counter (id INTEGER PRIMARY KEY, n); INSERT INTO counter VALUES (1, 0)", &[]).expect("made");
    s.sql("CREATE TABLE log (id INTEGER PRIMARY KEY, at, text); CREATE INDEX log_at ON log (at)", &[]).expect("made");
    s.kv_put(vec![("n".into(), "0".into())]).expect("put");
    s.end_turn().expect("committed");
    let mut best = f64::INFINITY;
    for round in 0..5 {
        let began = Instant::now();
        for i in 0..TURNS {
            turn(&mut s, round * TURNS + i);
        }
        best = best.min(began.elapsed().as_secs_f64() * 1e6 / f64::from(TURNS));
        let mut records = world.log.records.lock();
        let all_but_one = records.len() - 1;
        records.drain(..all_but_one);
    }
    let body = world.log.records.lock().last().map_or(0, |r| r.body.len());
    println!("{name:<44} {best:>8.2} µs a turn, {body:>5} bytes of record");
}

fn main() {
    measure("nothing", |s, _| {
        s.end_turn().expect("committed");
    });
    measure("SELECT by key, no commit", |s, _| {
        s.sql("SELECT n FROM counter WHERE id = 1", &[]).expect("read");
        s.end_turn().expect("committed");
    });
    measure("SELECT and UPDATE of a counter, commit", |s, _| {
        let rows = s.sql("SELECT n FROM counter WHERE id = ?", &[Value::Integer(1)]).expect("read").rows;
        let [Value::Integer(n)] = rows[0][..] else { unreachable!("the counter is a number") };
        s.sql("UPDATE counter SET n = ? WHERE id = ?", &[Value::Integer(n + 1), Value::Integer(1)]).expect("written");
        s.end_turn().expect("committed");
    });
    measure("get and put of a key, commit", |s, i| {
        s.kv_get(&["n"], 1 << 20).expect("read");
        s.kv_put(vec![("n".into(), i.to_string().into())]).expect("written");
        s.end_turn().expect("committed");
    });
    measure("INSERT of a row with an index, commit", |s, i| {
        s.sql("INSERT INTO log (at, text) VALUES (?, 'something happened')", &[Value::Integer(i.into())]).expect("written");
        s.end_turn().expect("committed");
    });
}
