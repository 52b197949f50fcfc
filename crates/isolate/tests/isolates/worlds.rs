//! Worlds to attack: an engine with its image, and one way to run code in it and see how that ended. Shared by all tests
//! of this binary; it asserts nothing about isolates itself.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use skep_isolate::{
    Binding, Body, BoxFuture, CallError, Code, Compile, Engine, EngineConfig, Entry, Event, Image, Isolate, Limits, Observer, Outcome,
    Report, Request, Response, RpcMessage, Target, Worker,
};
use tokio::sync::oneshot;

/// No test waits longer than this for anything: what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Limits small enough that an attack ends soon.
pub fn tight() -> Limits {
    Limits { cpu_ms: 250, wall_ms: 4_000, memory_mb: 48, subrequests: 8, ..Limits::default() }
}

/// Compiles Wasm here: what a child would do, without the child.
struct InProcess;

impl Compile for InProcess {
    fn compile(&self, module: Bytes) -> BoxFuture<Result<Vec<u8>, String>> {
        Box::pin(async move { skep_isolate::precompile(&module) })
    }
}

/// An image in an engine of its own with room for `isolates_max`.
pub fn image_of_own(isolates_max: u32) -> Image {
    // Loading writes to the cache under a name by process, so one at a time.
    static LOADING: Mutex<()> = Mutex::new(());
    let _one = LOADING.lock();
    let engine = Engine::new(EngineConfig { isolates_max, long_turn_threads: 2, ..EngineConfig::default() }).unwrap();
    engine.set_compiler(Arc::new(InProcess));
    Image::load(&engine, Some(Path::new(env!("CARGO_TARGET_TMPDIR")))).unwrap()
}

/// The image that most tests share.
pub fn image() -> &'static Image {
    static SHARED: OnceLock<Image> = OnceLock::new();
    SHARED.get_or_init(|| image_of_own(64))
}

/// A worker of one module under [`tight`] limits.
pub fn worker(source: &str) -> Worker {
    let mut worker = Worker::new(Code::single(source.to_owned()));
    worker.limits = tight();
    worker
}

/// A module whose `fetch` has this body; `request`, `env` and `ctx` are in scope.
pub fn handler(body: &str) -> String {
    format!("export default {{ async fetch(request, env, ctx) {{ {body} }} }}")
}

/// How a request ended: the text of the response, and the report that came when everything it started was over.
#[derive(Debug)]
pub struct Ran {
    pub answer: Result<String, Outcome>,
    pub report: Report,
}

impl Ran {
    /// The outcome, in a word.
    pub fn word(&self) -> &'static str {
        self.report.outcome.word()
    }
}

async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it hangs")
}

async fn body_text(response: Response) -> Result<String, Outcome> {
    let body = patiently(response.body.collect(64 << 20)).await;
    body.map(|b| String::from_utf8_lossy(&b).into_owned()).map_err(|e| Outcome::Cancelled(e.0))
}

/// Sends one GET request.
pub async fn get(isolate: &Isolate) -> Ran {
    let (tx, rx) = oneshot::channel();
    let request = Request { method: "GET".into(), url: "http://worker/".into(), ..Request::default() };
    let answer = patiently(isolate.fetch_reported(Entry::default(), request, Some(tx))).await;
    let answer = match answer {
        Ok(response) => body_text(response).await,
        Err(outcome) => Err(outcome),
    };
    Ran { answer, report: patiently(rx).await.expect("no report") }
}

/// Calls an export of the main module and returns its result as JSON text.
pub async fn call(isolate: &Isolate, export: &str) -> Result<String, Outcome> {
    let event = Event::Run { module: String::new(), export: export.into(), args: "[]".into() };
    let result = patiently(isolate.event(Entry::default(), event, None)).await;
    result.map(|b| String::from_utf8_lossy(&b).into_owned())
}

/// Runs a worker once from start to end.
pub async fn run(image: &Image, worker: Worker) -> Ran {
    let isolate = Isolate::start(image, Arc::new(worker));
    let ran = get(&isolate).await;
    patiently(isolate.gone()).await;
    ran
}

/// The next tenant is served as if nothing had happened.
pub async fn assert_serves(image: &Image) {
    let next =
        run(image, worker(&handler("return new Response(JSON.stringify({ polluted: typeof polluted, sum: [1, 2].map(n => n * 2) }))")))
            .await;
    assert_eq!(next.answer.as_deref(), Ok(r#"{"polluted":"undefined","sum":[2,4]}"#));
}

/// A way out that answers every request with `204` at once, or never.
#[derive(Clone, Copy, Debug)]
pub enum Outside {
    Answers,
    Silent,
}

impl Target for Outside {
    fn fetch(&self, _request: Request) -> BoxFuture<Result<Response, CallError>> {
        match self {
            Self::Answers => Box::pin(async { Ok(Response { status: 204, ..Response::default() }) }),
            Self::Silent => Box::pin(std::future::pending()),
        }
    }
}

/// A way out that redirects: the `n`th request to what `to` says, `None` of which never answers. It remembers what it was asked.
#[derive(Debug)]
pub struct Redirecting {
    pub to: fn(usize) -> Option<String>,
    pub asked: Mutex<Vec<Request>>,
}

impl Redirecting {
    pub fn new(to: fn(usize) -> Option<String>) -> Arc<Self> {
        Arc::new(Self { to, asked: Mutex::default() })
    }
}

impl Target for Redirecting {
    fn fetch(&self, request: Request) -> BoxFuture<Result<Response, CallError>> {
        let mut asked = self.asked.lock().unwrap();
        asked.push(request);
        match (self.to)(asked.len()) {
            Some(to) => Box::pin(async { Ok(Response { status: 302, headers: vec![("location".into(), to)], ..Response::default() }) }),
            None => Box::pin(std::future::pending()),
        }
    }
}

/// A way out that answers with a body in Brotli.
#[derive(Debug)]
pub struct InBrotli(pub &'static [u8]);

impl Target for InBrotli {
    fn fetch(&self, _request: Request) -> BoxFuture<Result<Response, CallError>> {
        let headers = vec![("content-encoding".to_owned(), "br".to_owned())];
        let body = Body::Bytes(Bytes::from_static(self.0));
        Box::pin(async { Ok(Response { status: 200, headers, body, ..Response::default() }) })
    }
}

/// A service binding whose worker is started after the one that has it: rings are made of it.
#[derive(Clone, Debug, Default)]
pub struct Late(Arc<OnceLock<Arc<dyn Target>>>);

impl Late {
    /// From now on its calls go there.
    pub fn set(&self, target: Arc<dyn Target>) {
        self.0.set(target).unwrap();
    }

    /// As a binding.
    pub fn binding(&self) -> Binding {
        Binding::Service(Arc::new(self.clone()))
    }
}

impl Target for Late {
    fn fetch(&self, request: Request) -> BoxFuture<Result<Response, CallError>> {
        self.0.get().unwrap().fetch(request)
    }

    fn rpc(&self, message: RpcMessage) -> BoxFuture<Result<RpcMessage, CallError>> {
        self.0.get().unwrap().rpc(message)
    }
}

/// Counts what an isolate logs.
#[derive(Default)]
pub struct Ledger {
    pub lines: Mutex<Vec<String>>,
}

impl Observer for Ledger {
    fn log(&self, _call: Option<&str>, _level: &str, text: &str) {
        self.lines.lock().unwrap().push(text.to_owned());
    }
}
