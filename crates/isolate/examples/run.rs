//! Runs a worker from a file: `run FILE [URL] [--image WASM] [--repeat N]`. Sends it one GET request and prints logs,
//! the response, its outcome and its meter. An example of the library, and the quickest way to try the guest.

use std::sync::Arc;

use skep_isolate::{Code, Engine, EngineConfig, Entry, Exception, Image, Isolate, Observer, Outcome, Request, Worker};

struct Printer;

impl Observer for Printer {
    fn log(&self, _call: Option<&str>, level: &str, text: &str) {
        println!("[{level}] {text}");
    }
    fn exception(&self, _call: Option<&str>, exception: &Exception) {
        println!("[uncaught] {exception}\n{}", exception.stack);
    }
}

fn load_image(engine: &Engine, path: Option<&String>) -> Result<Image, Box<dyn std::error::Error>> {
    let cache = std::env::temp_dir().join("skep-example-cache");
    Ok(match path {
        None => Image::load(engine, Some(&cache))?,
        Some(path) => Image::from_wasm(engine, &std::fs::read(path)?, path, None)?,
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
    let plain: Vec<&String> = args
        .iter()
        .enumerate()
        .filter(|(i, a)| !a.starts_with("--") && (*i == 0 || !args[i - 1].starts_with("--")))
        .map(|(_, a)| a)
        .collect();
    let file = plain.first().ok_or("usage: run FILE [URL] [--image WASM] [--repeat N]")?;
    let url = plain.get(1).map_or("http://worker/", |s| s.as_str());
    let engine = Engine::new(EngineConfig { isolates_max: 64, ..EngineConfig::default() })?;
    let image = load_image(&engine, option("--image"))?;
    let mut worker = Worker::new(Code::single(std::fs::read(file)?));
    worker.observer = Arc::new(Printer);
    let isolate = Isolate::start(&image, Arc::new(worker));
    for _ in 0..option("--repeat").map_or(Ok(1), |n| n.parse::<u32>())? {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let request = Request { method: "GET".into(), url: url.into(), ..Request::default() };
        match isolate.fetch_reported(Entry::default(), request, Some(tx)).await {
            Ok(response) => {
                println!("{} {:?}", response.status, response.headers);
                println!("{}", String::from_utf8_lossy(&response.body.collect(64 << 20).await?));
            }
            Err(Outcome::Exception(e) | Outcome::Startup(e)) => println!("{e}\n{}", e.stack),
            Err(outcome) => println!("{outcome}"),
        }
        if let Ok(report) = rx.await {
            println!("{:?}", report.meter);
        }
    }
    Ok(())
}
