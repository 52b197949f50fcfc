//! What pages cost on this disk: opening a 10 MB database, a commit, a view, a fork, a fold. Prints medians.
//!
//! `cargo run --release -p skep-actor --example pages_bench [folder]`

use std::{
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use skep_actor::{
    Epoch, Record, RecordKind, Seq,
    log::{DurableLog, MemoryLog},
    pages::{CommitMeta, Fork, Library, PAGE, Pages, PagesError},
};
use skep_id::ActorId;

/// Pages of 10 MB.
const COUNT: u32 = 2560;
const ROUNDS: usize = 200;

fn actor(n: u64) -> ActorId {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    bytes.rotate_left(7);
    ActorId::new(bytes)
}

/// Half of a page is text that compresses, as in a database of rows.
fn content(seed: u64) -> [u8; PAGE] {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::array::from_fn(|i| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        if i % 64 < 32 { b"the agent said that it had done "[i % 32] } else { x as u8 }
    })
}

fn append(log: &MemoryLog, actor: ActorId, kind: RecordKind, body: Bytes) -> Seq {
    let head = log.head(actor);
    let epoch = Epoch(head.epoch.0 + u64::from(kind == RecordKind::Fence));
    let seq = head.seq.next();
    let mut ticket = log.append(Record { actor, epoch, seq, time_ms: seq.0, kind, body });
    let _ready = Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop()));
    seq
}

fn commit(log: &MemoryLog, pages: &mut Pages) -> Seq {
    let at = log.head(pages.actor()).seq.next();
    let body = pages.commit(at, &CommitMeta::default());
    append(log, pages.actor(), RecordKind::Commit, body)
}

/// Changes a few bytes of two pages.
fn touch(pages: &mut Pages, n: u64) -> Result<(), PagesError> {
    let mut page = [0; PAGE];
    for number in [1, 2 + (n * 37 % u64::from(COUNT - 2)) as u32] {
        pages.read(number, &mut page)?;
        page[(n * 8 % 4000) as usize..][..8].copy_from_slice(&n.to_le_bytes());
        pages.write(number, &page);
    }
    Ok(())
}

fn measure(name: &str, rounds: usize, mut round: impl FnMut(usize) -> Result<Duration, PagesError>) -> Result<(), PagesError> {
    let mut times = (0..rounds).map(&mut round).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    println!("{name:<52} p50 {:>10.1?}   p99 {:>10.1?}", times[rounds / 2], times[rounds * 99 / 100]);
    Ok(())
}

fn main() -> Result<(), PagesError> {
    let dir =
        std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join(format!("pages-bench-{}", std::process::id())), PathBuf::from);
    let log = MemoryLog::new();
    let library = Library::open(&dir, Arc::new(log.clone()))?;
    let parent = actor(0);
    let mut pages = library.create(parent)?;
    append(&log, parent, RecordKind::Fence, Bytes::new());
    (1..=COUNT).for_each(|page| pages.write(page, &content(u64::from(page))));
    let started = Instant::now();
    commit(&log, &mut pages);
    println!("{:<52}     {:>10.1?}", "first commit of 10 MB", started.elapsed());
    let started = Instant::now();
    library.fold(&[parent]).into_iter().try_for_each(|(_, result)| result)?;
    println!("{:<52}     {:>10.1?}", "first fold of 10 MB", started.elapsed());

    measure("commit of two pages, its record's body", 5000, |n| {
        touch(&mut pages, n as u64)?;
        let started = Instant::now();
        let at = log.head(parent).seq.next();
        let body = pages.commit(at, &CommitMeta::default());
        let took = started.elapsed();
        append(&log, parent, RecordKind::Commit, body);
        Ok(took)
    })?;
    println!("{:<52}     {:>10} bytes, tail {} bytes", "overlay after 5,000 commits", pages.overlay_bytes(), pages.tail_bytes());
    measure("view of the last commit, open and read a page", ROUNDS, |_| {
        let started = Instant::now();
        pages.view(pages.at())?.read(9, &mut [0; PAGE])?;
        Ok(started.elapsed())
    })?;
    measure("view 100 commits ago, by the log", ROUNDS, |_| {
        let started = Instant::now();
        library.view(parent, Seq(pages.at().0 - 100))?.read(9, &mut [0; PAGE])?;
        Ok(started.elapsed())
    })?;
    drop(pages);
    library.fold(&[parent]).into_iter().try_for_each(|(_, result)| result)?;
    measure("open a cold 10 MB actor and read a page", ROUNDS, |_| {
        let started = Instant::now();
        let pages = library.pages(parent)?.ok_or(PagesError::Gone(parent))?;
        pages.read(9, &mut [0; PAGE])?;
        Ok(started.elapsed())
    })?;
    let mut pages = library.pages(parent)?.ok_or(PagesError::Gone(parent))?;
    for n in 0..100 {
        touch(&mut pages, n)?;
        commit(&log, &mut pages);
    }
    drop(pages);
    measure("the same with 100 commits in its tail", ROUNDS, |_| {
        let started = Instant::now();
        let pages = library.pages(parent)?.ok_or(PagesError::Gone(parent))?;
        pages.read(9, &mut [0; PAGE])?;
        Ok(started.elapsed())
    })?;
    let mut pages = library.pages(parent)?.ok_or(PagesError::Gone(parent))?;
    measure("fork of it, mark of the child durable, and its record", ROUNDS, |n| {
        let started = Instant::now();
        let view = pages.view(log.head(parent).seq)?;
        let child = actor(1 + n as u64);
        let forked = library.fork(&view, child)?;
        append(&log, child, RecordKind::Fence, Bytes::new());
        append(&log, child, RecordKind::Fork, Fork::of(&view, 0).encode());
        forked.read(9, &mut [0; PAGE])?;
        Ok(started.elapsed())
    })?;
    measure("open a child that was forked, and read a page", ROUNDS, |n| {
        let started = Instant::now();
        let child = library.pages(actor(1 + n as u64))?.ok_or(PagesError::Gone(parent))?;
        child.read(9, &mut [0; PAGE])?;
        Ok(started.elapsed())
    })?;
    measure("fold of two pages", ROUNDS, |n| {
        touch(&mut pages, n as u64)?;
        commit(&log, &mut pages);
        let started = Instant::now();
        library.fold(&[parent]).into_iter().try_for_each(|(_, result)| result)?;
        Ok(started.elapsed())
    })?;
    measure("rewind by 100 commits across 100 folds", 20, |_| {
        let started = Instant::now();
        let view = pages.view(Seq(pages.at().0 - 100))?;
        pages.bring_to(&view)?;
        commit(&log, &mut pages);
        Ok(started.elapsed())
    })?;
    let many: Vec<_> = (1..=ROUNDS as u64).map(|n| actor(100_000 + n)).collect();
    for id in &many {
        let mut pages = library.create(*id)?;
        append(&log, *id, RecordKind::Fence, Bytes::new());
        (1..=3).for_each(|page| pages.write(page, &content(u64::from(page))));
        commit(&log, &mut pages);
    }
    let started = Instant::now();
    library.fold(&many).into_iter().try_for_each(|(_, result)| result)?;
    println!("{:<52}     {:>10.1?} each", "first fold of 200 small actors, at once", started.elapsed() / ROUNDS as u32);
    std::fs::remove_dir_all(&dir).map_err(|e| PagesError::File(dir, e))
}
