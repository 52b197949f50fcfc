//! The isolates suite, in process: starts, memory, churn, hibernation, wake and fork.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use skep_isolate::{Code, Engine, EngineConfig, Entry, Image, Isolate, Request, Worker};

use crate::memory::{allow_mappings, private_kib};

/// The handler of every start and memory figure; the peer runs the same file.
pub const HANDLER: &str = include_str!("../../workers/json.js");

/// The reference agent: a history of 200 messages, grown by each request.
const AGENT: &str = r#"
const history = [];
for (let i = 0; i < 200; i++)
  history.push({ role: i % 2 ? "user" : "assistant", content: "message number " + i + " " + "lorem ipsum dolor sit amet ".repeat(4), at: i });
export default {
  async fetch(request) {
    history.push({ role: "user", content: new URL(request.url).pathname, at: history.length });
    return Response.json({ n: history.length });
  },
};
"#;

/// Where a figure goes: metric, value, unit.
pub type Print<'a> = &'a dyn Fn(&str, f64, &str);

fn request(path: &str) -> Request {
    let headers = vec![("user-agent".to_owned(), "bench/1".to_owned()), ("accept".to_owned(), "*/*".to_owned())];
    Request { method: "GET".into(), url: format!("http://bench{path}"), headers, ..Request::default() }
}

/// One request, whose answer is checked.
pub async fn call(isolate: &Isolate, path: &str) -> Result<()> {
    let response = isolate.fetch(Entry::default(), request(path)).await?;
    let status = response.status;
    let body = response.body.collect(1 << 20).await?;
    anyhow::ensure!(status == 200 && body.starts_with(b"{"), "unexpected answer {status}: {body:?}");
    Ok(())
}

/// The given share of samples is not slower, in microseconds.
pub fn percentile(samples: &mut [Duration], p: f64) -> f64 {
    samples.sort_unstable();
    let i = ((samples.len() as f64 - 1.0) * p).round() as usize;
    samples[i].as_secs_f64() * 1e6
}

async fn start_once(image: &Image) -> Result<()> {
    // A fresh worker each time: the code is a string that nothing has seen before.
    let worker = Arc::new(Worker::new(Code::single(HANDLER)));
    let isolate = Isolate::start(image, worker);
    call(&isolate, "/path?name=n1").await?;
    isolate.gone().await;
    Ok(())
}

async fn starts(image: &Image, n: usize, print: Print<'_>) -> Result<()> {
    for _ in 0..n / 10 {
        start_once(image).await?;
    }
    let mut samples = Vec::with_capacity(n);
    for _ in 0..n {
        let from = Instant::now();
        start_once(image).await?;
        samples.push(from.elapsed());
    }
    print("cold_start_p50_us", percentile(&mut samples, 0.5), "us");
    print("cold_start_p99_us", percentile(&mut samples, 0.99), "us");
    Ok(())
}

/// A request to an isolate that has served before, without HTTP around it.
async fn warm(image: &Image, n: usize, print: Print<'_>) -> Result<()> {
    let isolate = Isolate::start(image, Arc::new(Worker::new(Code::single(HANDLER))));
    let mut samples = Vec::with_capacity(n);
    for _ in 0..n {
        let from = Instant::now();
        call(&isolate, "/path?name=n1").await?;
        samples.push(from.elapsed());
    }
    print("warm_call_p50_us", percentile(&mut samples, 0.5), "us");
    Ok(())
}

async fn live(image: &Image, n: usize) -> Result<Vec<Isolate>> {
    let worker = Arc::new(Worker::new(Code::single(HANDLER)));
    let mut isolates = Vec::with_capacity(n);
    for _ in 0..n {
        let isolate = Isolate::start(image, worker.clone());
        call(&isolate, "/path?name=n1").await?;
        isolates.push(isolate);
    }
    Ok(isolates)
}

async fn memory(image: &Image, quick: bool, print: Print<'_>) -> Result<()> {
    drop(live(image, 50).await?);
    let before = private_kib();
    let n = 500;
    let isolates = live(image, n).await?;
    print("live_private_kib", (private_kib() - before) / n as f64, "KiB");
    drop(isolates);
    let n = if quick { 2_000 } else { 20_000 };
    let isolates = live(image, n).await.context("keeping isolates alive (is vm.max_map_count high enough?)")?;
    // All of them still answer.
    for isolate in isolates.iter().step_by(97) {
        call(isolate, "/again?name=n2").await?;
    }
    print("live_instances", isolates.len() as f64, "isolates");
    Ok(())
}

async fn churn(image: &Image, time: Duration, print: Print<'_>) -> Result<()> {
    for _ in 0..2_000 {
        start_once(image).await?;
    }
    let before = private_kib();
    let from = Instant::now();
    let mut n = 0u32;
    while from.elapsed() < time {
        for _ in 0..100 {
            start_once(image).await?;
        }
        n += 100;
    }
    print("churn_per_s", f64::from(n) / from.elapsed().as_secs_f64(), "1/s");
    print("churn_growth_kib_per_100k", (private_kib() - before).max(0.0) * 100_000.0 / f64::from(n), "KiB");
    Ok(())
}

async fn snapshots(image: &Image, n: usize, print: Print<'_>) -> Result<()> {
    let worker = Arc::new(Worker::new(Code::single(AGENT)));
    let agent = Isolate::start(image, worker.clone());
    for _ in 0..50 {
        call(&agent, "/turn").await?;
    }
    let (mut hibernate, mut wake, mut fork) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    for i in 0..n {
        let from = Instant::now();
        let written = agent.snapshot().await?.to_bytes();
        hibernate.push(from.elapsed());
        bytes = written.len();

        let from = Instant::now();
        let snapshot = skep_isolate::Snapshot::from_bytes(&written)?;
        let woken = Isolate::wake(image, worker.clone(), snapshot)?;
        call(&woken, "/turn").await?;
        wake.push(from.elapsed());
        woken.gone().await;

        // A fork: from the live one to a second live one that has run its first turn.
        let from = Instant::now();
        let child = Isolate::wake(image, worker.clone(), agent.snapshot().await?)?;
        child.ready().await.map_err(|o| anyhow!("fork {i}: {o}"))?;
        fork.push(from.elapsed());
        child.gone().await;
    }
    print("hibernate_p50_us", percentile(&mut hibernate, 0.5), "us");
    print("hibernated_kib", bytes as f64 / 1024.0, "KiB");
    print("wake_p50_us", percentile(&mut wake, 0.5), "us");
    print("fork_p50_us", percentile(&mut fork, 0.5), "us");
    Ok(())
}

/// Runs the suite, or the part named by `only`.
pub async fn run(quick: bool, only: Option<&str>, image: Option<&Path>, print: Print<'_>) -> Result<()> {
    allow_mappings(262_144);
    let engine = Engine::new(EngineConfig { isolates_max: 20_200, long_turn_threads: 1, ..EngineConfig::default() })?;
    let cache = std::env::temp_dir().join("skep-bench-cache");
    let image = match image {
        Some(file) => Image::load_file(&engine, file, Some(&cache))?,
        None => Image::load(&engine, Some(&cache))?,
    };
    let part = |name: &str| only.is_none_or(|o| o == name);
    if part("start") {
        starts(&image, if quick { 300 } else { 3_000 }, print).await?;
    }
    if part("warm") {
        warm(&image, if quick { 3_000 } else { 30_000 }, print).await?;
    }
    if part("snapshot") {
        snapshots(&image, if quick { 50 } else { 300 }, print).await?;
    }
    if part("churn") {
        churn(&image, Duration::from_secs(if quick { 3 } else { 60 }), print).await?;
    }
    if part("memory") {
        memory(&image, quick, print).await?;
    }
    Ok(())
}
