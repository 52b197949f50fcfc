//! An actor without an engine: the last part of a request's path says what it does with the state behind it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use skep_isolate::{
    Actor, Body, Durable, Exception, Meter, Outcome, Report, Request, Response, RpcMessage, SocketMessage, Worker,
    wire::{Wire, WireOut},
};
use skep_node::{Awake, Entrypoint, Export, Guest, Resident, Served, Written};
use tokio::sync::{Mutex, Notify};

/// Room for every answer.
const ROOM: usize = 64 << 20;

#[derive(Debug)]
struct Inside {
    id: String,
    durable: Mutex<Option<Box<dyn Durable>>>,
    /// What its heap holds: how often it was called since its constructor ran.
    calls: AtomicU64,
    in_flight: AtomicU32,
    ended: AtomicBool,
    gone: Notify,
    starts: bool,
}

#[derive(Debug)]
pub struct Inhabitant(Arc<Inside>);

fn outcome(message: String) -> Outcome {
    Outcome::Exception(Exception { name: "Error".to_owned(), message, stack: String::new() })
}

fn report(outcome: Outcome) -> Report {
    Report { outcome, meter: Meter::default() }
}

impl Inhabitant {
    pub fn new(worker: Arc<Worker>, actor: Actor, heap: Option<&[u8]>) -> Self {
        let script = String::from_utf8_lossy(&worker.code.modules[&worker.code.main].content).into_owned();
        let calls = heap.and_then(|heap| std::str::from_utf8(heap).ok()?.parse().ok()).unwrap_or_default();
        Self(Arc::new(Inside {
            id: actor.id,
            durable: Mutex::new(Some(actor.durable)),
            calls: AtomicU64::new(calls),
            in_flight: AtomicU32::new(0),
            ended: AtomicBool::new(false),
            gone: Notify::new(),
            starts: !script.contains("broken"),
        }))
    }
}

impl Inside {
    async fn end(&self) {
        self.ended.store(true, SeqCst);
        drop(self.durable.lock().await.take());
        self.gone.notify_waiters();
    }

    /// A turn: some operations, then its end, and all that it wrote is durable when this comes back.
    async fn turn(&self, calls: &[(&str, &[Wire<'_>])]) -> Result<Vec<WireOut>, Outcome> {
        let mut held = self.durable.lock().await;
        let durable = held.as_mut().ok_or_else(|| Outcome::Cancelled("it has ended".to_owned()))?;
        let mut answers = Vec::new();
        for (op, args) in calls {
            let answer = durable.call(op, args, ROOM);
            if let Wire::Error { name, message } = &answer {
                let said = format!("{}: {}", name.to_str(), message.to_str());
                durable.cut_off();
                return Err(outcome(said));
            }
            answers.push(answer);
        }
        if let Some(durably) = durable.end_turn() {
            durably.await.map_err(Outcome::Internal)?;
        }
        Ok(answers)
    }

    async fn serve(&self, request: Request) -> Result<String, Outcome> {
        let calls = self.calls.fetch_add(1, SeqCst) + 1;
        let verb = request.url.rsplit('/').next().unwrap_or_default().to_owned();
        match verb.as_str() {
            "count" => {
                let make = "CREATE TABLE IF NOT EXISTS counter (n INTEGER)";
                let add = "INSERT INTO counter SELECT coalesce(max(n), 0) + 1 FROM counter";
                let read = "SELECT max(n) FROM counter";
                let none = Wire::Array(Vec::new());
                let args = |query: &'static str| [Wire::from(query), none.clone()];
                let answers = self.turn(&[("actor.sql", &args(make)), ("actor.sql", &args(add)), ("actor.sql", &args(read))]).await?;
                Ok(format!("{} {calls}", first(&answers[2])))
            }
            "id" => Ok(self.id.clone()),
            "alarm" => {
                let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as f64;
                self.turn(&[("actor.alarm.set", &[Wire::from(""), Wire::Number(at + 3_600_000.0)])]).await?;
                Ok("set".to_owned())
            }
            "throw" => Err(outcome("no".to_owned())),
            _ => Ok(verb),
        }
    }
}

/// The only value of a result.
fn first(answer: &WireOut) -> String {
    let Wire::Array(parts) = answer else { panic!("{answer:?}") };
    let Wire::Array(rows) = &parts[2] else { panic!("{answer:?}") };
    let Wire::Array(row) = &rows[0] else { panic!("{answer:?}") };
    match row[0] {
        Wire::Int(n) => n.to_string(),
        ref other => panic!("{other:?}"),
    }
}

/// Counts a call as in flight.
struct Calling(Arc<Inside>);

impl Drop for Calling {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
    }
}

impl Guest for Inhabitant {
    fn loaded(&self) -> BoxFuture<'_, Result<(), Outcome>> {
        let starts = self.0.starts;
        Box::pin(async move {
            let thrown = Exception { name: "Error".to_owned(), message: "its constructor threw".to_owned(), stack: String::new() };
            if starts { Ok(()) } else { Err(Outcome::Startup(thrown)) }
        })
    }

    fn fetch(&self, _entrypoint: Entrypoint, request: Request) -> BoxFuture<'_, Result<Served, Report>> {
        self.0.in_flight.fetch_add(1, SeqCst);
        let calling = Calling(Arc::clone(&self.0));
        Box::pin(async move {
            let answer = calling.0.serve(request).await.map_err(report)?;
            let response = Response { status: 200, body: Body::Bytes(answer.into()), ..Response::default() };
            Ok(Served { response, report: Box::pin(async { report(Outcome::Ok) }) })
        })
    }

    fn rpc(&self, _entrypoint: Entrypoint, _message: RpcMessage) -> BoxFuture<'_, Result<RpcMessage, Report>> {
        Box::pin(async { Err(report(outcome("no rpc".to_owned()))) })
    }

    fn run(&self, _module: String, _args: String) -> BoxFuture<'_, (Option<String>, Report)> {
        Box::pin(async { (None, report(outcome("no run".to_owned()))) })
    }

    fn exports(&self) -> BoxFuture<'_, Result<Vec<Export>, Outcome>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn alive(&self) -> bool {
        !self.0.ended.load(SeqCst)
    }
}

impl Resident for Inhabitant {
    fn alarm(&self, _name: String, _due_ms: u64, _retries: u32) -> BoxFuture<'static, Result<(), Outcome>> {
        Box::pin(async { Ok(()) })
    }

    fn message(&self, _socket: u32, _message: SocketMessage, _wall_ms: Option<u32>) -> BoxFuture<'static, Result<(), Outcome>> {
        Box::pin(async { Ok(()) })
    }

    fn write_down(&self) -> BoxFuture<'static, Result<Written, Awake>> {
        let heap = Bytes::from(self.0.calls.load(SeqCst).to_string());
        Box::pin(async move { Ok(Written { heap, timer_ms: None }) })
    }

    fn hibernate(&self) -> BoxFuture<'static, Result<Written, Awake>> {
        let inside = Arc::clone(&self.0);
        Box::pin(async move {
            if inside.in_flight.load(SeqCst) > 0 {
                return Err(Awake::Busy("a call is in flight".to_owned()));
            }
            let heap = Bytes::from(inside.calls.load(SeqCst).to_string());
            inside.end().await;
            Ok(Written { heap, timer_ms: None })
        })
    }

    fn end(&self, _reason: &str) {
        let inside = Arc::clone(&self.0);
        inside.ended.store(true, SeqCst);
        tokio::spawn(async move { inside.end().await });
    }

    fn in_flight(&self) -> u32 {
        self.0.in_flight.load(SeqCst)
    }

    fn gone(&self) -> BoxFuture<'static, ()> {
        let inside = Arc::clone(&self.0);
        Box::pin(async move {
            loop {
                let told = inside.gone.notified();
                if inside.ended.load(SeqCst) && inside.durable.lock().await.is_none() {
                    return;
                }
                told.await;
            }
        })
    }
}
