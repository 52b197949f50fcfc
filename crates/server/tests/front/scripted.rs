//! A runtime without an engine: the main module's text says what the worker does. It keeps the seam of `node::guest` honest.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use skep_isolate::{
    Actor, Binding, Body, Exception, Limits, Loader, Meter, Outcome, Report, Request, Response, RpcMessage, Socket, SocketMessage,
    Transform, Worker,
};
use skep_node::{Entrypoint, Export, Guest, Resident, Runtime, Served};
use tokio::sync::oneshot;

use crate::inhabitant::Inhabitant;

/// Counts what the tests ask about.
#[derive(Default)]
pub struct Counts {
    pub started: AtomicU64,
    pub cancelled: AtomicU64,
    pub served: AtomicU64,
}

pub struct Scripted {
    pub counts: Arc<Counts>,
}

struct Script {
    worker: Arc<Worker>,
    text: String,
    dead: AtomicBool,
    counts: Arc<Counts>,
}

impl Runtime for Scripted {
    fn image(&self) -> String {
        "scripted".to_owned()
    }

    fn start(&self, worker: Arc<Worker>) -> Arc<dyn Guest> {
        self.counts.started.fetch_add(1, SeqCst);
        let text = String::from_utf8_lossy(&worker.code.modules[&worker.code.main].content).into_owned();
        let counts = Arc::clone(&self.counts);
        Arc::new(Script { worker, text, dead: AtomicBool::new(false), counts })
    }

    fn resident(&self, worker: Arc<Worker>, actor: Actor, heap: Option<&[u8]>) -> Result<Arc<dyn Resident>, String> {
        Ok(Arc::new(Inhabitant::new(worker, actor, heap)))
    }

    fn loader(&self, _policy: Limits, _transform: Arc<dyn Transform>) -> Option<Arc<Loader>> {
        None
    }

    fn free(&self) -> usize {
        1_000
    }
}

fn exception(message: &str) -> Exception {
    Exception { name: "Error".to_owned(), message: message.to_owned(), stack: "at secret.js:1".to_owned() }
}

fn report(outcome: Outcome) -> Report {
    Report { outcome, meter: Meter { cpu_us: 7, ..Meter::default() } }
}

/// Tells that its request was dropped before its end.
struct Cancelled(Arc<Counts>, bool);

impl Drop for Cancelled {
    fn drop(&mut self) {
        if !self.1 {
            self.0.cancelled.fetch_add(1, SeqCst);
        }
    }
}

impl Guest for Script {
    fn loaded(&self) -> BoxFuture<'_, Result<(), Outcome>> {
        let starts = !self.text.starts_with("startup");
        Box::pin(async move { if starts { Ok(()) } else { Err(Outcome::Startup(exception("startup"))) } })
    }

    fn fetch(&self, _entrypoint: Entrypoint, request: Request) -> BoxFuture<'_, Result<Served, Report>> {
        Box::pin(async move {
            self.worker.observer.log(None, "log", &format!("{} {}", request.method, request.url));
            let mut guard = Cancelled(Arc::clone(&self.counts), false);
            let answer = self.answer(request).await;
            guard.1 = true;
            self.counts.served.fetch_add(1, SeqCst);
            let (sender, receiver) = oneshot::channel();
            let response = answer?;
            sender.send(report(Outcome::Ok)).ok();
            Ok(Served { response, report: Box::pin(async { receiver.await.unwrap() }) })
        })
    }

    fn rpc(&self, _entrypoint: Entrypoint, _message: RpcMessage) -> BoxFuture<'_, Result<RpcMessage, Report>> {
        Box::pin(async { Err(report(Outcome::Exception(exception("no rpc")))) })
    }

    fn run(&self, _module: String, args: String) -> BoxFuture<'_, (Option<String>, Report)> {
        Box::pin(async move {
            self.worker.observer.log(None, "log", "running");
            (Some(args), report(Outcome::Ok))
        })
    }

    fn exports(&self) -> BoxFuture<'_, Result<Vec<Export>, Outcome>> {
        let acts = self.text.starts_with("actor");
        Box::pin(async move { Ok(vec![Export { name: "Counter".to_owned(), class: acts }]) })
    }

    fn alive(&self) -> bool {
        !self.dead.load(SeqCst)
    }
}

impl Script {
    async fn answer(&self, request: Request) -> Result<Response, Report> {
        let (verb, rest) = self.text.split_once(' ').unwrap_or((&self.text, ""));
        let text = |text: String| Response { status: 200, body: Body::Bytes(text.into()), ..Response::default() };
        match verb {
            "say" => Ok(text(rest.to_owned())),
            "url" => Ok(text(format!("{} {}", request.method, request.url))),
            "headers" => Ok(text(format!("{:?}", request.headers))),
            "throw" => Err(report(Outcome::Exception(exception("secret detail")))),
            "spin" => {
                self.dead.store(true, SeqCst);
                Err(report(Outcome::Cpu))
            }
            "slow" => {
                tokio::time::sleep(Duration::from_millis(rest.parse().unwrap())).await;
                Ok(text("slept".to_owned()))
            }
            "length" => {
                let body = request.body.collect(usize::MAX).await;
                Ok(text(body.map_or_else(|error| format!("broken: {error}"), |body| body.len().to_string())))
            }
            "echo" => Ok(Response { status: 200, body: request.body, ..Response::default() }),
            "endless" => Ok(self.endless()),
            "actor" => self.to_actor(request).await,
            "socket" => Ok(socket()),
            "page" => Ok(Response {
                headers: vec![
                    ("content-type".to_owned(), "text/html".to_owned()),
                    ("service-worker-allowed".to_owned(), "/".to_owned()),
                    ("connection".to_owned(), "upgrade".to_owned()),
                    ("x-accent".to_owned(), "\u{e9}".to_owned()),
                ],
                ..text("<p>".to_owned())
            }),
            _ => Err(report(Outcome::Internal(format!("no verb {verb}")))),
        }
    }

    /// Passes a request on to the actor that the first part of its path names.
    async fn to_actor(&self, request: Request) -> Result<Response, Report> {
        let path = request.url.splitn(4, '/').nth(3).unwrap_or_default();
        let name = path.split(['/', '?']).next().unwrap_or_default().to_owned();
        let namespace = self.worker.bindings.iter().find_map(|(_, binding)| match binding {
            Binding::Namespace(namespace) => Some(namespace),
            _ => None,
        });
        let namespace = namespace.ok_or_else(|| report(Outcome::Exception(exception("no namespace"))))?;
        let stub = namespace.target(&namespace.id_of(&name), Some(&name));
        stub.fetch(request).await.map_err(|error| report(Outcome::Exception(exception(&error.to_string()))))
    }

    fn endless(&self) -> Response {
        let (writer, stream) = Body::channel();
        let counts = Arc::clone(&self.counts);
        tokio::spawn(async move {
            while writer.write(Bytes::from_static(&[b'x'; 1024])).await.is_ok() {}
            counts.cancelled.fetch_add(1, SeqCst);
        });
        Response { status: 200, body: Body::Stream(stream), ..Response::default() }
    }
}

fn socket() -> Response {
    let (ours, mut theirs) = Socket::pair("chat");
    tokio::spawn(async move {
        while let Some(message) = theirs.rx.recv().await {
            let answer = match message {
                SocketMessage::Text(text) => SocketMessage::Text(format!("you said {}", String::from_utf8_lossy(&text)).into()),
                other => other,
            };
            if theirs.tx.send(answer).await.is_err() {
                return;
            }
        }
    });
    Response { status: 101, socket: Some(ours), ..Response::default() }
}
