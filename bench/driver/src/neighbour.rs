//! What a tenant that spins on every core costs its neighbour: the time of a small request, alone and beside it.
//! Driven by `main.rs`; on a runtime with a thread for each core, as a node has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use skep_isolate::{Code, Engine, EngineConfig, Entry, Image, Isolate, Limits, Request, Worker};

use crate::isolates::{HANDLER, Print, call, percentile};

/// Time between two requests: the neighbour is not busy itself.
const GAP: Duration = Duration::from_millis(1);

async fn p99(isolate: &Isolate, n: usize) -> Result<f64> {
    let mut samples = Vec::with_capacity(n);
    for _ in 0..n {
        tokio::time::sleep(GAP).await;
        let from = Instant::now();
        call(isolate, "/path?name=n1").await?;
        samples.push(from.elapsed());
    }
    Ok(percentile(&mut samples, 0.99))
}

/// Prints the p99 of the neighbour idle and beside spinners, and their ratio.
pub async fn run(image: Option<&std::path::Path>, quick: bool, print: Print<'_>) -> Result<()> {
    let engine = Engine::new(EngineConfig { isolates_max: 64, ..EngineConfig::default() })?;
    let cache = std::env::temp_dir().join("skep-bench-cache");
    let image = match image {
        Some(file) => Image::load_file(&engine, file, Some(&cache))?,
        None => Image::load(&engine, Some(&cache))?,
    };
    let n = if quick { 500 } else { 4_000 };
    let neighbour = Isolate::start(&image, Arc::new(Worker::new(Code::single(HANDLER))));
    p99(&neighbour, n / 10).await?;
    let idle = p99(&neighbour, n).await?;
    let mut worker = Worker::new(Code::single("export default { fetch() { for (;;); } };"));
    worker.limits = Limits { cpu_ms: 600_000, wall_ms: 600_000, ..worker.limits };
    let worker = Arc::new(worker);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let spinners: Vec<_> = (0..cores)
        .map(|_| {
            let isolate = Isolate::start(&image, worker.clone());
            tokio::spawn(async move {
                isolate
                    .fetch(Entry::default(), Request { method: "GET".into(), url: "http://spin/".into(), ..Request::default() })
                    .await
                    .map(drop)
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let beside = p99(&neighbour, n).await?;
    for spinner in spinners {
        anyhow::ensure!(!spinner.is_finished(), "a spinner stopped before its time");
        spinner.abort();
    }
    print("neighbour_idle_p99_us", idle, "us");
    print("neighbour_p99_us", beside, "us");
    print("neighbour_p99_ratio", beside / idle, "x");
    Ok(())
}
