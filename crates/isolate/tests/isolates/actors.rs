//! Actors from the host's side: what goes out waits for the log, what comes in waits for the gate, and neither a guest that attacks nor a log that
//! fails or hangs makes anybody see what is not durable. What is behind them here is a map with a log that does as it is told.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use skep_isolate::wire::{Wire, WireOut};
use skep_isolate::{
    Actor, ActorClass, ActorSnapshot, Binding, BoxFuture, CallError, Code, Durable, Entry, Exception, HibernateError, Isolate,
    JavaScriptOnly, Limits, Loader, Module, ModuleKind, Namespace, Outcome, Request, Response, RpcMessage, Snapshot, Socket, SocketMessage,
    Tails, Target, Worker,
};
use tokio::sync::oneshot;

use crate::worlds::{Late, Outside, assert_serves, image, tight, worker};

const ID: &str = "00000000000000000000000000000000000000000000000000000000000000aa";

/// How the log answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Log {
    #[default]
    Durable,
    /// Not before the test says so.
    Waits,
    Fails,
}

#[derive(Debug, Default)]
struct Book {
    log: Log,
    /// What is kept, and what the turn in progress wrote.
    rows: BTreeMap<String, Vec<u8>>,
    written: BTreeMap<String, Vec<u8>>,
    turns: usize,
    commits: Vec<oneshot::Sender<Result<(), String>>>,
    undone: usize,
    /// Effects and started operations, in order.
    did: Vec<String>,
    kept: HashMap<u32, Socket>,
    facets: HashMap<String, ActorClass>,
}

/// What is behind a test's actor.
#[derive(Clone, Debug, Default)]
struct State(Arc<Mutex<Book>>);

impl State {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.0.lock().unwrap()
    }

    fn log(&self, log: Log) {
        self.book().log = log;
    }

    /// Everything that was committed so far has arrived, or has not.
    fn commit(&self, result: &Result<(), String>) {
        let commits = std::mem::take(&mut self.book().commits);
        commits.into_iter().for_each(|tx| drop(tx.send(result.clone())));
    }

    /// How many rows are kept, and how many turns were undone.
    fn kept_and_undone(&self) -> (usize, usize) {
        let book = self.book();
        (book.rows.len(), book.undone)
    }

    fn did(&self) -> Vec<String> {
        self.book().did.clone()
    }
}

fn words(list: &Wire<'_>) -> Vec<String> {
    list.as_array().unwrap_or_default().iter().filter_map(|key| key.as_str().map(|s| s.into_owned())).collect()
}

impl Durable for State {
    fn call(&mut self, op: &str, args: &[Wire<'_>], _room: usize) -> WireOut {
        let mut book = self.book();
        match op {
            "actor.kv.get" => {
                let get = |key: &String| book.written.get(key).or_else(|| book.rows.get(key)).map_or(Wire::Null, |v| v.clone().into());
                Wire::Array(words(&args[0]).iter().map(get).collect())
            }
            "actor.kv.put" => {
                let Some(list) = args[0].as_array() else { return Wire::Undefined };
                for pair in list.chunks_exact(2) {
                    book.written.insert(pair[0].as_str().unwrap().into_owned(), pair[1].as_bytes().unwrap().to_vec());
                }
                Wire::Undefined
            }
            "actor.ws.list" => Wire::Array(vec![]),
            "actor.ws.auto.get" | "actor.alarm.get" => Wire::Null,
            _ => Wire::Undefined,
        }
    }

    fn alarm_done(&mut self, name: &str) {
        self.book().written.insert(format!("done {name}"), Vec::new());
    }

    fn end_turn(&mut self) -> Option<BoxFuture<Result<(), String>>> {
        let mut book = self.book();
        book.turns += 1;
        if book.written.is_empty() {
            return None;
        }
        let written = std::mem::take(&mut book.written);
        book.rows.extend(written);
        match book.log {
            Log::Durable => Some(Box::pin(async { Ok(()) })),
            Log::Fails => Some(Box::pin(async { Err("the disk is on fire".into()) })),
            Log::Waits => {
                let (tx, rx) = oneshot::channel();
                book.commits.push(tx);
                Some(Box::pin(async { rx.await.unwrap_or_else(|_| Err("the log is gone".into())) }))
            }
        }
    }

    fn cut_off(&mut self) {
        let mut book = self.book();
        book.written.clear();
        book.undone += 1;
    }

    fn start(&mut self, op: &str, _args: Vec<WireOut>) -> BoxFuture<Result<WireOut, (String, String)>> {
        self.book().did.push(op.to_owned());
        match op {
            "actor.sync" => Box::pin(async { Ok(Wire::Array(vec![1.into(), 2.into(), "disk".into()])) }),
            _ => Box::pin(async { Err(("RangeError".into(), "not here".into())) }),
        }
    }

    fn carry_out(&mut self, op: &str, args: Vec<WireOut>) {
        let said = args.get(1).and_then(Wire::as_str).map(|s| format!(" {s}")).unwrap_or_default();
        self.book().did.push(format!("{op}{said}"));
    }

    fn keep_socket(&mut self, number: u32, socket: Socket, _args: &[WireOut]) {
        self.book().kept.insert(number, socket);
    }

    fn last_socket(&self) -> u32 {
        self.book().kept.keys().copied().max().unwrap_or(0)
    }

    fn facet(&mut self, name: &str, class: Option<ActorClass>, _id: Option<&str>) -> Result<Option<Arc<dyn Target>>, (String, String)> {
        match class {
            None => Ok(None),
            Some(class) => {
                self.book().facets.insert(name.to_owned(), class);
                Ok(Some(Arc::new(Outside::Answers)))
            }
        }
    }

    fn snapshot(&mut self, bookmark: Option<&str>) -> Result<ActorSnapshot, (String, String)> {
        Ok(ActorSnapshot { actor: ID.into(), bookmark: bookmark.unwrap_or("now").to_owned() })
    }

    fn adopt(&mut self, snapshot: &ActorSnapshot) -> Result<String, (String, String)> {
        let (actor, bookmark) = (&snapshot.actor[..4], &snapshot.bookmark);
        self.book().did.push(format!("adopt {actor} {bookmark}"));
        Ok(format!("before {bookmark}"))
    }
}

/// A class `A` with these members; `fetch` calls the method that the path names, and answers with what it returns.
fn class(members: &str) -> String {
    format!(
        "import {{ DurableObject, WorkerEntrypoint }} from 'cloudflare:workers';
         const sleep = (ms) => new Promise((f) => setTimeout(f, ms));
         export class A extends DurableObject {{
           n = 0;
           async fetch(request) {{
             const path = new URL(request.url).pathname.slice(1);
             const value = await this[path](request);
             return value instanceof Response ? value : new Response(String(value));
           }}
           async write() {{ await this.ctx.storage.put('n', ++this.n); return this.n; }}
           async read() {{ return (await this.ctx.storage.get('n')) ?? 0; }}
           {members}
         }}
         export default {{}};"
    )
}

fn of(source: &str) -> Worker {
    let mut worker = worker(&class(source));
    worker.limits = Limits { cpu_ms: 5_000, memory_mb: 64, ..tight() };
    worker
}

fn actor(state: &State) -> Actor {
    Actor {
        class: "A".into(),
        id: ID.into(),
        name: Some("a name".into()),
        props: bytes::Bytes::new(),
        targets: Vec::new(),
        durable: Box::new(state.clone()),
    }
}

fn start(worker: Worker) -> (Isolate, State) {
    let state = State::default();
    (Isolate::start_actor(image(), Arc::new(worker), actor(&state)), state)
}

async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it hangs")
}

fn request(path: &str) -> Request {
    Request { method: "GET".into(), url: format!("http://actor/{path}"), ..Request::default() }
}

async fn respond(isolate: &Isolate, path: &str) -> Result<Response, Outcome> {
    patiently(isolate.fetch(Entry::default(), request(path))).await
}

async fn ask(isolate: &Isolate, path: &str) -> Result<String, Outcome> {
    let response = respond(isolate, path).await?;
    let body = patiently(response.body.collect(1 << 20)).await;
    body.map(|b| String::from_utf8_lossy(&b).into_owned()).map_err(|e| Outcome::Cancelled(e.0))
}

/// A call under way.
fn asking(isolate: &Isolate, path: &'static str) -> tokio::task::JoinHandle<Result<String, Outcome>> {
    let isolate = isolate.clone();
    tokio::spawn(async move { ask(&isolate, path).await })
}

fn message(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Reset(exception) | Outcome::Exception(exception) | Outcome::Startup(exception) => &exception.message,
        _ => "",
    }
}

async fn until(what: impl Fn() -> bool) {
    patiently(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

async fn a_while() {
    tokio::time::sleep(Duration::from_millis(60)).await;
}

/// A way out that remembers who came, and answers 204.
#[derive(Debug, Default)]
struct Visited(Mutex<Vec<String>>);

impl Visited {
    fn paths(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Target for Visited {
    fn fetch(&self, request: Request) -> BoxFuture<Result<Response, CallError>> {
        self.0.lock().unwrap().push(request.url.rsplit('/').next().unwrap_or_default().to_owned());
        Box::pin(async { Ok(Response { status: 204, ..Response::default() }) })
    }
}

mod life {
    use super::*;

    #[tokio::test]
    async fn one_instance_serves_and_writes_are_there_when_the_answer_is() {
        let (isolate, state) = start(of("who() { return [this.ctx.id.name, String(this.ctx.id)].join() }"));
        for n in ["1", "2"] {
            assert_eq!(ask(&isolate, "write").await.unwrap(), n);
        }
        assert_eq!((ask(&isolate, "read").await.unwrap().as_str(), state.book().rows.len()), ("2", 1));
        assert_eq!(ask(&isolate, "who").await.unwrap(), format!("a name,{ID}"));
    }

    #[tokio::test]
    async fn calls_wait_for_the_constructor() {
        let constructor =
            "constructor(ctx, env) { super(ctx, env); ctx.blockConcurrencyWhile(async () => { await sleep(50); this.n = 40; }) }";
        let (isolate, _) = start(of(constructor));
        assert_eq!(ask(&isolate, "write").await.unwrap(), "41");
    }

    #[tokio::test]
    async fn what_the_constructor_throws_is_what_callers_see() {
        for members in [
            "constructor(ctx, env) { super(ctx, env); throw new RangeError('no such luck') }",
            "constructor(ctx, env) { super(ctx, env); ctx.blockConcurrencyWhile(async () => { throw new RangeError('no such luck') }) }",
        ] {
            let (isolate, _) = start(of(members));
            let refused = ask(&isolate, "write").await.unwrap_err();
            assert!(matches!(&refused, Outcome::Reset(e) if e.name == "RangeError" && e.message == "no such luck"), "{refused:?}");
            let (isolate, _) = start(of(members));
            let ready = patiently(isolate.ready()).await.unwrap_err();
            assert!(matches!(&ready, Outcome::Startup(e) if e.message == "no such luck"), "{ready:?}");
        }
    }

    #[tokio::test]
    async fn an_abort_undoes_its_turn_and_fails_the_calls() {
        let (isolate, state) = start(of(
            "hang() { return new Promise(() => {}) } async die() { await this.ctx.storage.put('n', 7); this.ctx.abort(new TypeError('enough')) }",
        ));
        let hanging = asking(&isolate, "hang");
        until(|| isolate.in_flight() == 1).await;
        for failed in [ask(&isolate, "die").await, hanging.await.unwrap()] {
            assert!(matches!(&failed, Err(Outcome::Reset(e)) if e.message.contains("enough")), "{failed:?}");
        }
        patiently(isolate.when_gone()).await;
        assert_eq!(state.kept_and_undone(), (0, 1));
        assert_eq!(state.did(), ["actor.abort"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_end_in_the_middle_of_a_turn_undoes_it() {
        let (isolate, state) = start(of("async spin() { await this.ctx.storage.put('n', 7); for (;;); }"));
        let spinning = asking(&isolate, "spin");
        until(|| !state.book().written.is_empty()).await;
        isolate.end(Exception { name: "Error".into(), message: "the node says so".into(), stack: String::new() });
        assert_eq!(message(&spinning.await.unwrap().unwrap_err()), "the node says so");
        patiently(isolate.gone()).await;
        assert_eq!(state.kept_and_undone(), (0, 1));
        assert_serves(image()).await;
    }

    #[tokio::test]
    async fn alarms_and_messages_are_calls() {
        let members =
            "async alarm(info) { await this.ctx.storage.put('info', info.retryCount); if (info.retryCount > 1) throw new Error('not again') }
            async webSocketMessage(ws, message) {} ";
        let (isolate, state) = start(of(members));
        assert_eq!(patiently(isolate.alarm("", 1_000.0, 0)).await, Ok(()));
        assert_eq!(state.book().rows.keys().collect::<Vec<_>>(), ["done ", "info"]);
        let failed = patiently(isolate.alarm("", 1_000.0, 2)).await.unwrap_err();
        assert!(message(&failed).contains("not again"), "{failed:?}");
        state.log(Log::Fails);
        let failed = patiently(isolate.alarm("", 1_000.0, 0)).await.unwrap_err();
        assert!(matches!(failed, Outcome::Reset(_)), "an alarm whose writes are lost is not done: {failed:?}");
    }

    /// One commit for what the handler wrote last and for the end of its alarm; none for one that failed, or does not come back.
    #[tokio::test]
    async fn an_alarm_is_done_by_the_last_commit_of_its_handler() {
        let members = "async alarm({ name }) {
            await this.ctx.storage.put('first', name);
            if (name === 'a') await new Promise((go) => { this.go = go; });
            await this.ctx.storage.put('last', name);
            if (name === 'fails') throw new Error('not this one');
            if (name === 'waits') this.ctx.waitUntil(sleep(1).then(() => this.ctx.storage.put('later', name)));
        }
        resume() { this.go(); }";
        let (isolate, state) = start(of(members));
        state.log(Log::Waits);
        let ring = |name: &'static str| {
            let isolate = isolate.clone();
            tokio::spawn(async move { patiently(isolate.alarm(name, 0.0, 0)).await })
        };
        let ringing = ring("a");
        until(|| state.book().rows.contains_key("first")).await;
        assert!(!state.book().rows.contains_key("done a"), "its handler goes on");
        let resumed = asking(&isolate, "resume");
        until(|| state.book().rows.contains_key("last")).await;
        assert!(state.book().rows.contains_key("done a"), "in the same commit");
        assert!(!ringing.is_finished(), "nobody hears of it before it is durable");
        state.log(Log::Durable);
        state.commit(&Ok(()));
        assert_eq!(ringing.await.unwrap(), Ok(()));
        resumed.await.unwrap().unwrap();
        assert!(message(&ring("fails").await.unwrap().unwrap_err()).contains("not this one"));
        assert!(!state.book().rows.contains_key("done fails"));
        assert_eq!(ring("waits").await.unwrap(), Ok(()));
        assert!(state.book().rows.contains_key("done waits"), "it need not wait for what goes on behind it");
        until(|| state.book().rows.contains_key("later")).await;
    }

    /// What a tail hears.
    #[derive(Debug, Default)]
    struct Told(Mutex<Vec<serde_json::Value>>);

    impl Target for Told {
        fn fetch(&self, _request: Request) -> BoxFuture<Result<Response, CallError>> {
            Box::pin(async { Err(CallError::Refused("a tail".into())) })
        }

        fn tail(&self, trace: String, _chain: skep_isolate::Chain) -> BoxFuture<Result<(), CallError>> {
            let events: Vec<serde_json::Value> = serde_json::from_str(&trace).unwrap();
            self.0.lock().unwrap().extend(events);
            Box::pin(async { Ok(()) })
        }
    }

    #[tokio::test]
    async fn a_tail_hears_of_alarms_and_messages_in_the_words_of_the_open_source_runtime() {
        let told = Arc::new(Told::default());
        let mut worker = of("alarm() {} webSocketClose() {}");
        worker.tails = Tails::new(vec![told.clone()]);
        let (isolate, _) = start(worker);
        patiently(isolate.alarm("", 1_000.0, 0)).await.unwrap();
        let _ = patiently(isolate.socket(1, SocketMessage::Close(1006, String::new()), None)).await;
        until(|| told.0.lock().unwrap().len() == 2).await;
        let told = told.0.lock().unwrap();
        assert_eq!(told[0]["event"], serde_json::json!({ "scheduledTime": 1000.0 }));
        assert_eq!(
            told[1]["event"]["getWebSocketEvent"],
            serde_json::json!({ "webSocketEventType": "close", "code": 1006, "wasClean": false })
        );
        for event in told.iter() {
            assert_eq!(
                (&event["executionModel"], &event["entrypoint"], &event["durableObjectId"]),
                (&"durableObject".into(), &"A".into(), &ID.into())
            );
        }
    }

    #[tokio::test]
    async fn what_the_state_refuses_is_thrown() {
        let (isolate, _) = start(of("async check() { try { await this.ctx.checkpoint() } catch (e) { return e.name + ': ' + e.message } }
            async sync() { await this.ctx.storage.sync(); return 'synced' }"));
        assert_eq!(ask(&isolate, "check").await.unwrap(), "RangeError: not here");
        assert_eq!(ask(&isolate, "sync").await.unwrap(), "synced");
    }

    /// Calls of one stub arrive in the order in which they were made, those of the constructor's time too.
    #[tokio::test(flavor = "multi_thread")]
    async fn calls_of_one_stub_arrive_in_order() {
        let (isolate, _) =
            start(of("constructor(ctx, env) { super(ctx, env); this.seen = []; ctx.blockConcurrencyWhile(() => sleep(30)) }
            see(request) { this.seen.push(+new URL(request.url).search.slice(1)) }
            async meddle() { await this.ctx.blockConcurrencyWhile(() => sleep(5)); await this.write() }
            all() { return this.seen.join() }"));
        let stub = isolate.entrypoint(Entry::default());
        let mut calls = tokio::task::JoinSet::new();
        let mut meddlers = Vec::new();
        for n in 0..200 {
            let mut call = stub.fetch(Request { url: format!("http://actor/see?{n}"), ..request("") });
            assert!(futures_util::poll!(&mut call).is_pending());
            calls.spawn(call);
            if n % 20 == 0 {
                meddlers.push(asking(&isolate, "meddle"));
                tokio::task::yield_now().await;
            }
        }
        while let Some(done) = patiently(calls.join_next()).await {
            assert_eq!(done.unwrap().unwrap().status, 200);
        }
        let expected: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        assert_eq!(ask(&isolate, "all").await.unwrap(), expected.join(","));
    }
}

mod output_gate {
    use super::*;

    /// An actor that writes, calls out, sends and answers in one turn, while the log does not come back.
    #[tokio::test]
    async fn nothing_leaves_before_the_log_has_it() {
        let visited = Arc::new(Visited::default());
        let mut worker = of(
            "async all() { this.write(); fetch('http://x/first'); return 'done' } async later() { await fetch('http://x/second'); return 'read' }",
        );
        worker.outbound = Some(visited.clone());
        let (isolate, state) = start(worker);
        state.log(Log::Waits);
        let answer = asking(&isolate, "all");
        until(|| state.book().commits.len() == 1).await;
        // A turn that wrote nothing, but saw what is not durable yet.
        let later = asking(&isolate, "later");
        a_while().await;
        assert!(visited.paths().is_empty() && !answer.is_finished() && !later.is_finished() && isolate.in_flight() == 2);
        state.commit(&Ok(()));
        assert_eq!((answer.await.unwrap().unwrap().as_str(), later.await.unwrap().unwrap().as_str()), ("done", "read"));
        assert_eq!(visited.paths(), ["first", "second"]);
    }

    #[tokio::test]
    async fn a_failing_commit_fails_everybody_and_nothing_leaves() {
        let visited = Arc::new(Visited::default());
        let mut worker = of("async all() { this.write(); fetch('http://x/first'); return 'done' }");
        worker.outbound = Some(visited.clone());
        let (isolate, state) = start(worker);
        assert_eq!(ask(&isolate, "read").await.unwrap(), "0");
        state.log(Log::Waits);
        let answers = [asking(&isolate, "all"), asking(&isolate, "all"), asking(&isolate, "read")];
        until(|| state.book().commits.len() == 2 && isolate.in_flight() == 3).await;
        a_while().await;
        state.commit(&Err("the disk is on fire".into()));
        for answer in answers {
            let failed = answer.await.unwrap().unwrap_err();
            assert!(
                matches!(&failed, Outcome::Reset(e) if e.message.starts_with("Internal error in Durable Object storage")),
                "{failed:?}"
            );
            assert!(!message(&failed).contains("fire"), "how this node stores things is not the caller's affair");
        }
        patiently(isolate.clone().gone()).await;
        assert!(visited.paths().is_empty() && isolate.has_ended() && isolate.in_flight() == 0);
    }

    /// A body that has begun does not end as if it were whole.
    #[tokio::test]
    async fn a_failing_commit_breaks_a_body_off() {
        let members = "stream() {
            const { readable, writable } = new TransformStream();
            const writer = writable.getWriter();
            (async () => { writer.write(new Uint8Array(3)); await sleep(100); await this.write(); await writer.write(new Uint8Array(3)); await writer.close() })();
            return new Response(readable) }";
        let (isolate, state) = start(of(members));
        let response = respond(&isolate, "stream").await.unwrap();
        state.log(Log::Fails);
        let broken = patiently(response.body.collect(1 << 20)).await.unwrap_err();
        assert!(broken.0.contains("reset"), "{broken}");
    }

    #[tokio::test]
    async fn an_end_drops_what_is_held() {
        let visited = Arc::new(Visited::default());
        let mut worker = of("async all() { this.write(); fetch('http://x/first'); return 'done' }");
        worker.outbound = Some(visited.clone());
        let (isolate, state) = start(worker);
        state.log(Log::Waits);
        let answer = asking(&isolate, "all");
        until(|| state.book().commits.len() == 1).await;
        isolate.end(Exception { name: "Error".into(), message: "moved".into(), stack: String::new() });
        assert_eq!(message(&answer.await.unwrap().unwrap_err()), "moved");
        patiently(isolate.gone()).await;
        state.commit(&Ok(()));
        a_while().await;
        assert!(visited.paths().is_empty());
    }

    /// Against a log that never comes back, what waits is bounded, and every caller hears by its wall limit.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_flood_of_held_effects_is_bounded() {
        let mut worker = of(
            "flood() { this.write(); for (let i = 0; i < 100; i++) fetch('http://x/' + 'y'.repeat(1000)).catch(() => {}); return 'x'.repeat(100_000) }",
        );
        worker.outbound = Some(Arc::new(Outside::Answers));
        worker.limits.wall_ms = 1_500;
        worker.limits.subrequests = 1_000;
        let (isolate, state) = start(worker);
        assert_eq!(ask(&isolate, "read").await.unwrap(), "0");
        state.log(Log::Waits);
        let calls: Vec<_> = (0..500).map(|_| asking(&isolate, "flood")).collect();
        tokio::time::sleep(Duration::from_millis(700)).await;
        let (turns, held) = (state.book().turns, isolate.memory_bytes());
        assert!(turns < 60, "{turns} turns of a hundred effects each");
        assert!(held < 64 << 20, "{held}");
        for call in calls {
            assert!(call.await.unwrap().is_err());
        }
        assert_serves(image()).await;
    }

    #[tokio::test]
    async fn who_leaves_does_not_take_what_is_held_along() {
        let visited = Arc::new(Visited::default());
        let mut worker = of("async all() { this.write(); setTimeout(() => {}, 1); return fetch('http://x/first') }");
        worker.outbound = Some(visited.clone());
        let (isolate, state) = start(worker);
        state.log(Log::Waits);
        let answer = asking(&isolate, "all");
        until(|| state.book().commits.len() == 1).await;
        answer.abort();
        drop(isolate);
        a_while().await;
        state.commit(&Ok(()));
        until(|| visited.paths().len() == 1).await;
    }
}

mod input_gate {
    use super::*;

    #[tokio::test]
    async fn calls_alarms_and_older_completions_wait_for_a_block() {
        let visited = Arc::new(Visited::default());
        let members = "order = [];
            async block() {
                const before = fetch('http://x/before').then(() => this.order.push('before'));
                const timer = sleep(1).then(() => this.order.push('old timer'));
                await this.ctx.blockConcurrencyWhile(async () => {
                    await fetch('http://x/within').then(() => this.order.push('within'));
                    await sleep(60).then(() => this.order.push('new timer'));
                });
                await before; await timer;
                return this.order.join();
            }
            see() { this.order.push('call') } alarm() { this.order.push('alarm') } all() { return this.order.join() }";
        let mut worker = of(members);
        worker.outbound = Some(visited.clone());
        let (isolate, _) = start(worker);
        let block = asking(&isolate, "block");
        until(|| visited.paths().len() == 2).await;
        let call = asking(&isolate, "see");
        let ring = isolate.clone();
        let alarm = tokio::spawn(async move { patiently(ring.alarm("", 0.0, 0)).await });
        block.await.unwrap().unwrap();
        call.await.unwrap().unwrap();
        alarm.await.unwrap().unwrap();
        let order = ask(&isolate, "all").await.unwrap();
        let order: Vec<&str> = order.split(',').collect();
        assert_eq!(order[..2], ["within", "new timer"], "{order:?}");
        let mut rest = order[2..].to_vec();
        rest.sort_unstable();
        assert_eq!(rest, ["alarm", "before", "call", "old timer"]);
    }

    /// A gate that is taken and never given back ends the actor, and everybody who waits hears of it.
    #[tokio::test]
    async fn a_gate_that_is_never_given_back_ends_the_actor() {
        let mut worker = of("block() { return this.ctx.blockConcurrencyWhile(() => new Promise(() => {})) }");
        worker.limits.wall_ms = 400;
        let (isolate, _) = start(worker);
        let (block, waiting) = (asking(&isolate, "block"), asking(&isolate, "read"));
        let failed = [block.await.unwrap().unwrap_err(), waiting.await.unwrap().unwrap_err()];
        assert!(message(&failed[1]).contains("blockConcurrencyWhile() in a Durable Object waited for too long"), "{failed:?}");
        assert!(isolate.has_ended());
    }

    /// The same in the constructor: it never loads.
    #[tokio::test]
    async fn a_constructor_that_blocks_for_ever_ends() {
        let mut worker = of("constructor(ctx, env) { super(ctx, env); ctx.blockConcurrencyWhile(() => sleep(1e9)) }");
        worker.limits.wall_ms = 400;
        let (isolate, _) = start(worker);
        let began = Instant::now();
        assert!(ask(&isolate, "read").await.is_err() && began.elapsed() < Duration::from_secs(10));
    }

    /// An actor that is called back by whom it calls: beside its own call without a block, and not at all within one.
    #[tokio::test]
    async fn reentrancy_goes_by_the_gate() {
        let members = "outer() { return this.env.ME.fetch('http://actor/inner').then((r) => r.text()) }
            inner() { return 'inner' }
            blocked() { return this.ctx.blockConcurrencyWhile(() => this.outer()) }";
        let late = Late::default();
        let mut worker = of(members);
        worker.bindings = vec![("ME".into(), late.binding())];
        worker.limits.wall_ms = 800;
        let (isolate, _) = start(worker);
        late.set(isolate.entrypoint(Entry::default()));
        assert_eq!(ask(&isolate, "outer").await.unwrap(), "inner");
        let failed = ask(&isolate, "blocked").await.unwrap_err();
        assert!(message(&failed).contains("waited for too long") || failed == Outcome::Wall, "{failed:?}");
        assert!(isolate.has_ended());
    }

    /// Answers that come for what is not let in are on the actor's account.
    #[tokio::test]
    async fn what_waits_at_the_gate_is_bounded_by_memory() {
        #[derive(Debug)]
        struct Large;
        impl Target for Large {
            fn fetch(&self, _request: Request) -> BoxFuture<Result<Response, CallError>> {
                let body = skep_isolate::Body::Bytes(vec![0; 4 << 20].into());
                Box::pin(async { Ok(Response { status: 200, body, ..Response::default() }) })
            }
        }
        let mut worker =
            of("flood() { for (let i = 0; i < 50; i++) fetch('http://x/'); return this.ctx.blockConcurrencyWhile(() => sleep(500)) }");
        worker.outbound = Some(Arc::new(Large));
        worker.limits.subrequests = 100;
        let (isolate, _) = start(worker);
        let failed = ask(&isolate, "flood").await.unwrap_err();
        assert_eq!(message(&failed), "Durable Object's isolate exceeded its memory limit and was reset.");
        assert!(matches!(failed, Outcome::Reset(_)));
        assert_serves(image()).await;
    }
}

mod sleep {
    use super::*;

    async fn hibernated(isolate: &Isolate) -> Snapshot {
        let mut last = None;
        for _ in 0..200 {
            match patiently(isolate.hibernate()).await {
                Ok(snapshot) => return Snapshot::from_bytes(&snapshot.to_bytes()).unwrap(),
                Err(HibernateError::Busy(why)) => last = Some(why),
                Err(other) => panic!("{other}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("always busy: {last:?}")
    }

    #[tokio::test]
    async fn a_heap_and_its_timers_survive() {
        let members = "arm() { setTimeout(() => this.fired = this.n, 250) } late() { return [this.n, this.fired].join() }";
        let state = State::default();
        let worker = Arc::new(of(members));
        let isolate = Isolate::start_actor(image(), worker.clone(), actor(&state));
        ask(&isolate, "write").await.unwrap();
        ask(&isolate, "arm").await.unwrap();
        let snapshot = hibernated(&isolate).await;
        assert!(snapshot.next_timer_ms().is_some());
        patiently(isolate.when_gone()).await;
        assert!(matches!(ask(&isolate, "late").await, Err(Outcome::Cancelled(_))));
        let woken = Isolate::wake_actor(image(), worker, snapshot, actor(&state)).unwrap();
        assert_eq!(ask(&woken, "late").await.unwrap(), "1,");
        assert_eq!(ask(&woken, "write").await.unwrap(), "2");
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(ask(&woken, "late").await.unwrap(), "2,2");
    }

    #[tokio::test]
    async fn a_busy_actor_does_not_sleep_and_says_why() {
        let mut worker = of("send() { fetch('http://silent/').catch(() => {}) } hang() { return sleep(1e6) }");
        worker.outbound = Some(Arc::new(Outside::Silent));
        let worker = Arc::new(worker);
        let state = State::default();
        let fresh = || Isolate::start_actor(image(), worker.clone(), actor(&state));
        let isolate = fresh();
        ask(&isolate, "send").await.unwrap();
        assert_eq!(patiently(isolate.hibernate()).await, Err(HibernateError::Busy("operations are in flight")));
        let isolate = fresh();
        let _hanging = asking(&isolate, "hang");
        until(|| isolate.in_flight() == 1).await;
        assert_eq!(patiently(isolate.hibernate()).await, Err(HibernateError::Busy("calls are in flight")));
        let isolate = fresh();
        ask(&isolate, "read").await.unwrap();
        state.log(Log::Waits);
        let writing = asking(&isolate, "write");
        until(|| state.book().commits.len() == 1).await;
        assert!(matches!(patiently(isolate.hibernate()).await, Err(HibernateError::Busy(_))));
        state.commit(&Ok(()));
        assert_eq!(writing.await.unwrap().unwrap(), "1", "it goes on");
        assert_eq!(patiently(Isolate::start(image(), worker.clone()).hibernate()).await, Err(HibernateError::Busy("it is no actor")));
    }

    /// Calls that race with falling asleep are served, or refused before they were begun.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_is_served_or_was_not_begun() {
        let worker = Arc::new(of("bump() { return ++this.n }"));
        for round in 0..30 {
            let state = State::default();
            let isolate = Isolate::start_actor(image(), worker.clone(), actor(&state));
            ask(&isolate, "bump").await.unwrap();
            let racing = asking(&isolate, "bump");
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            let slept = patiently(isolate.hibernate()).await;
            match (racing.await.unwrap(), slept) {
                (Ok(n), Err(HibernateError::Busy(_))) => assert_eq!(n, "2"),
                (served, Ok(snapshot)) => {
                    let woken = Isolate::wake_actor(image(), worker.clone(), snapshot, actor(&state)).unwrap();
                    let expected = if served.is_ok() { "3" } else { "2" };
                    assert_eq!(ask(&woken, "bump").await.unwrap(), expected, "{served:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// A checkpoint is of heap and database at one place: nothing is held, and no turn runs until it is taken.
    #[tokio::test]
    async fn a_snapshot_waits_for_the_log_and_turns_wait_for_it() {
        let state = State::default();
        let worker = Arc::new(of(""));
        let isolate = Isolate::start_actor(image(), worker.clone(), actor(&state));
        ask(&isolate, "read").await.unwrap();
        state.log(Log::Waits);
        let writing = asking(&isolate, "write");
        until(|| state.book().commits.len() == 1).await;
        let taking = tokio::spawn({
            let isolate = isolate.clone();
            async move { patiently(isolate.snapshot()).await }
        });
        a_while().await;
        let after = asking(&isolate, "write");
        a_while().await;
        assert!(!taking.is_finished() && state.book().commits.len() == 1, "the second write waits for the snapshot");
        state.commit(&Ok(()));
        let snapshot = taking.await.unwrap().unwrap();
        assert_eq!(writing.await.unwrap().unwrap(), "1");
        until(|| state.book().commits.len() == 1).await;
        state.commit(&Ok(()));
        assert_eq!(after.await.unwrap().unwrap(), "2");
        state.log(Log::Durable);
        let fork = Isolate::wake_actor(image(), worker, snapshot, actor(&state)).unwrap();
        assert_eq!(ask(&fork, "write").await.unwrap(), "2");
    }

    /// What lives in WebAssembly cannot be written down: the actor ends, says so, and its database is what lasts.
    #[tokio::test]
    async fn an_actor_with_webassembly_ends_without_its_heap() {
        // (module (memory (export "m") 2))
        let wasm: &[u8] = &[0, 97, 115, 109, 1, 0, 0, 0, 5, 3, 1, 0, 2, 7, 5, 1, 1, b'm', 2, 0];
        let mut code = Code::single(format!("import m from './m.wasm'; new WebAssembly.Instance(m); {}", class("")));
        code.modules.insert("m.wasm".into(), Module { kind: ModuleKind::Wasm, content: wasm.into(), source_map: None });
        let (isolate, state) = start(Worker { code: Arc::new(code), ..of("") });
        assert_eq!(ask(&isolate, "write").await.unwrap(), "1");
        let slept = patiently(isolate.hibernate()).await;
        assert!(matches!(&slept, Err(HibernateError::Heapless(why)) if why.contains("WebAssembly")), "{slept:?}");
        patiently(isolate.when_gone()).await;
        assert_eq!((isolate.has_ended(), state.kept_and_undone()), (true, (1, 0)));
        assert_serves(image()).await;
    }

    /// A heap that was written down in a block wakes in that block.
    #[tokio::test]
    async fn a_gate_outlasts_sleep() {
        let state = State::default();
        let mut worker =
            of("block() { this.ctx.blockConcurrencyWhile(async () => { await sleep(300); this.n = 10 }) } see() { return this.n }");
        worker.limits.wall_ms = 20_000;
        let worker = Arc::new(worker);
        let isolate = Isolate::start_actor(image(), worker.clone(), actor(&state));
        ask(&isolate, "block").await.unwrap();
        let snapshot = Snapshot::from_bytes(&patiently(isolate.snapshot()).await.unwrap().to_bytes()).unwrap();
        let woken = Isolate::wake_actor(image(), worker, snapshot, actor(&state)).unwrap();
        assert_eq!(ask(&woken, "see").await.unwrap(), "10");
    }
}

mod sockets {
    use super::*;

    const KEEPER: &str = "
        connect(request) {
            const [client, server] = Object.values(new WebSocketPair());
            if (request.url.endsWith('?kept')) this.ctx.acceptWebSocket(server, ['tag']); else server.accept();
            this.ctx.storage.put('n', 1);
            return new Response(null, { status: 101, webSocket: client });
        }
        async webSocketMessage(ws, message) { this.n++; ws.send('echo ' + message); await this.ctx.storage.put('n', this.n) }";

    async fn connect(isolate: &Isolate, how: &str) -> Socket {
        respond(isolate, &format!("connect{how}")).await.unwrap().socket.unwrap()
    }

    #[tokio::test]
    async fn a_kept_socket_is_the_states_and_its_messages_are_calls() {
        let (isolate, state) = start(of(KEEPER));
        let mut client = connect(&isolate, "?kept").await;
        let (number, theirs) = {
            let mut book = state.book();
            let number = *book.kept.keys().next().unwrap();
            (number, book.kept.remove(&number).unwrap())
        };
        theirs.tx.send(SocketMessage::Text("hello".into())).await.unwrap();
        assert_eq!(patiently(client.rx.recv()).await, Some(SocketMessage::Text("hello".into())));
        client.tx.send(SocketMessage::Text("back".into())).await.unwrap();
        let mut theirs = theirs;
        assert_eq!(patiently(theirs.rx.recv()).await, Some(SocketMessage::Text("back".into())));
        state.log(Log::Waits);
        let telling = tokio::spawn({
            let isolate = isolate.clone();
            async move { patiently(isolate.socket(number, SocketMessage::Text("hi".into()), Some(5_000))).await }
        });
        until(|| state.book().commits.len() == 1).await;
        a_while().await;
        assert!(state.did().is_empty() && !telling.is_finished(), "what it sends waits for what it wrote");
        state.commit(&Ok(()));
        telling.await.unwrap().unwrap();
        assert_eq!(state.did(), ["actor.ws.send echo hi"]);
        patiently(isolate.hibernate()).await.unwrap();
    }

    #[tokio::test]
    async fn an_actor_with_a_socket_that_is_not_kept_stays_awake() {
        let (isolate, _) = start(of(KEEPER));
        let client = connect(&isolate, "").await;
        assert_eq!(patiently(isolate.hibernate()).await, Err(HibernateError::Busy("a WebSocket is open that is not kept")));
        drop(client);
        until(|| isolate.in_flight() == 0).await;
        a_while().await;
        patiently(isolate.hibernate()).await.unwrap();
    }

    /// The client's end does not leave before the write in front of it is durable.
    #[tokio::test]
    async fn a_handshake_waits_for_the_log() {
        let (isolate, state) = start(of(KEEPER));
        ask(&isolate, "read").await.unwrap();
        state.log(Log::Waits);
        let connecting = tokio::spawn({
            let isolate = isolate.clone();
            async move { connect(&isolate, "?kept").await }
        });
        until(|| state.book().commits.len() == 1).await;
        a_while().await;
        assert!(!connecting.is_finished() && state.book().kept.is_empty());
        state.commit(&Ok(()));
        connecting.await.unwrap();
        assert_eq!(state.book().kept.len(), 1);
    }
}

mod reach {
    use super::*;

    /// Actors that are one stub each, which says who it is.
    #[derive(Debug)]
    struct Many;

    #[derive(Debug)]
    struct One(String);

    impl Namespace for Many {
        fn id_of(&self, name: &str) -> String {
            format!("{:0>64}", name.len())
        }

        fn unique(&self) -> String {
            "f".repeat(64)
        }

        fn owns(&self, id: &str) -> bool {
            id.len() == 64 && !id.starts_with('e')
        }

        fn target(&self, id: &str, name: Option<&str>) -> Arc<dyn Target> {
            Arc::new(One(format!("{} {name:?}", &id[60..])))
        }
    }

    impl Target for One {
        fn fetch(&self, _request: Request) -> BoxFuture<Result<Response, CallError>> {
            let body = skep_isolate::Body::Bytes(self.0.clone().into());
            Box::pin(async { Ok(Response { status: 200, body, ..Response::default() }) })
        }

        fn rpc(&self, _message: RpcMessage) -> BoxFuture<Result<RpcMessage, CallError>> {
            let thrown = Exception { name: "RangeError".into(), message: "it ended".into(), stack: String::new() };
            Box::pin(async { Err(CallError::Ended(Outcome::Reset(thrown))) })
        }
    }

    #[tokio::test]
    async fn namespaces_are_bindings_and_exports() {
        let members = "async bound() { return (await this.env.MANY.getByName('four').fetch('http://a/')).text() }
            async own() { return (await this.ctx.exports.A.getByName('seven').fetch('http://a/')).text() }
            async thrown() { try { await this.env.MANY.getByName('x').any() } catch (e) { return [e.name, e.message, e.durableObjectReset].join() } }
            async foreign() { try { this.env.MANY.idFromString('e'.repeat(64)) } catch (e) { return e.name } }";
        let mut worker = of(members);
        worker.bindings = vec![
            ("MANY".into(), Binding::Namespace(Arc::new(Many))),
            (String::new(), Binding::Exports(vec![("A".into(), Binding::Namespace(Arc::new(Many)))])),
        ];
        let (isolate, _) = start(worker);
        assert_eq!(ask(&isolate, "bound").await.unwrap(), r#"0004 Some("four")"#);
        assert_eq!(ask(&isolate, "own").await.unwrap(), r#"0005 Some("seven")"#);
        assert_eq!(ask(&isolate, "thrown").await.unwrap(), "RangeError,it ended,true");
        assert_eq!(ask(&isolate, "foreign").await.unwrap(), "TypeError");
    }

    #[tokio::test]
    async fn a_facet_is_of_an_own_class_or_of_a_loaded_one() {
        let members = "async facets() {
                const loaded = this.env.LOADER.get('w', () => ({ compatibilityDate: '2026-01-01', mainModule: 'm.js', modules: { 'm.js':
                    'import { DurableObject } from \"cloudflare:workers\"; export class B extends DurableObject {}' } }));
                const one = this.ctx.facets.get('loaded', () => ({ class: loaded.getDurableObjectClass('B') }));
                const two = this.ctx.facets.get('own', () => ({ class: this.ctx.exports.A }));
                return [(await one.fetch('http://f/')).status, (await two.fetch('http://f/')).status].join();
            }
            gone() { this.ctx.facets.delete('own') }";
        let mut worker = of(members);
        let policy = Limits { cpu_ms: 33, ..tight() };
        worker.bindings = vec![("LOADER".into(), Binding::Loader(Loader::new(image(), policy, 8, Arc::new(JavaScriptOnly))))];
        let (isolate, state) = start(worker);
        assert_eq!(ask(&isolate, "facets").await.unwrap(), "204,204");
        ask(&isolate, "gone").await.unwrap();
        assert_eq!(state.did(), ["actor.facet.delete"]);
        let facets = std::mem::take(&mut state.book().facets);
        assert!(facets["own"].is_own() && facets["own"].class == "A" && facets["own"].worker().await.unwrap().is_none());
        let class = &facets["loaded"];
        let code = patiently(class.worker()).await.unwrap().unwrap();
        assert_eq!((class.class.as_str(), code.limits.cpu_ms), ("B", 33));
        // What the node does with it.
        let facet = Actor { class: class.class.clone(), ..actor(&State::default()) };
        let facet = Isolate::start_actor(image(), code, facet);
        assert_eq!(patiently(facet.ready()).await, Ok(()));
    }
}

#[tokio::test]
async fn a_snapshot_goes_by_rpc_only_and_is_what_a_database_is_brought_to() {
    let source = "echo(x) { return x; }
          async take() {
            const snapshot = await this.ctx.storage.snapshot();
            const back = await this.ctx.exports.default.echo(snapshot);
            const undo = [await this.ctx.storage.onNextSessionRestore(back), await this.ctx.storage.onNextSessionRestore(snapshot)];
            return [Object.prototype.toString.call(back), back.bookmark, back === snapshot, undo.join()].join('|');
          }
          async old() { return (await this.ctx.storage.snapshot({ bookmark: 'then' })).bookmark; }
          async copied() {
            const snapshot = await this.ctx.storage.snapshot();
            const name = async (f) => { try { await f(); return 'taken'; } catch (e) { return e.name; } };
            return [await name(() => structuredClone(snapshot)), await name(() => this.ctx.storage.put('k', snapshot)),
              await name(() => new snapshot.constructor()), await name(() => this.ctx.storage.snapshot('x')),
              await name(() => this.ctx.storage.onNextSessionRestore({})), await name(() => this.ctx.storage.onNextSessionRestore(this.ctx.exports.default)),
              await name(() => this.ctx.storage.transaction(() => this.ctx.storage.snapshot()))].join();
          }";
    let (isolate, state) = start(of(source));
    assert_eq!(ask(&isolate, "take").await.unwrap(), "[object DurableObjectSnapshot]|now|false|before now,before now");
    assert_eq!(state.did().iter().filter(|did| *did == &format!("adopt {} now", &ID[..4])).count(), 2);
    assert_eq!(ask(&isolate, "old").await.unwrap(), "then");
    let refused = "DataCloneError,DataCloneError,TypeError,TypeError,TypeError,TypeError,Error";
    assert_eq!(ask(&isolate, "copied").await.unwrap(), refused);
}

/// Callers learn that the actor was reset, those of other calls too; its own reports say which limit it was.
#[tokio::test]
async fn a_limit_resets_an_actor() {
    let members = "spin() { for (;;); } wait() { return sleep(60_000) }
        grow() { const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1)); }";
    for (path, told, limit) in [
        ("spin", "Durable Object exceeded its CPU time limit and was reset.", Outcome::Cpu),
        ("grow", "Durable Object's isolate exceeded its memory limit and was reset.", Outcome::Memory),
    ] {
        let mut worker = of(members);
        worker.limits.cpu_ms = 1_000;
        let (isolate, _) = start(worker);
        ask(&isolate, "read").await.unwrap();
        let waiting = asking(&isolate, "wait");
        until(|| isolate.in_flight() > 0).await;
        let (tx, report) = oneshot::channel();
        let failed = patiently(isolate.fetch_reported(Entry::default(), request(path), Some(tx))).await.unwrap_err();
        let reset = Outcome::Reset(Exception { name: "Error".into(), message: told.into(), stack: String::new() });
        assert_eq!((failed, waiting.await.unwrap().unwrap_err()), (reset.clone(), reset), "{path}");
        assert_eq!(patiently(report).await.unwrap().outcome, limit);
        assert!(isolate.has_ended());
    }
}

/// Who has a loaded worker by its name notices its code: an effect like any other.
#[tokio::test]
async fn code_that_an_actor_loads_waits_for_the_log() {
    let bring = "async bring() {
            await this.ctx.storage.put('k', 1);
            const code = 'export default { fetch() { return new Response(\"brought\") } }';
            this.env.LOADER.get('w', () => ({ compatibilityDate: '2026-01-01', mainModule: 'm.js', modules: { 'm.js': code } }));
            return 'brought it';
        }
        async fails() { await this.ctx.storage.put('k', 1); this.env.LOADER.get('w', () => { throw new RangeError('no code') }); return 'failed it'; }";
    let visit = "export default { async fetch(request, env) {
            const stub = env.LOADER.get('w', () => { throw new Error('asked anew') }).getEntrypoint();
            try { return await stub.fetch('http://w/'); } catch (e) { return new Response(e.message); }
        } }";
    for (path, commit, seen) in [
        ("bring", Ok(()), "brought"),
        ("fails", Ok(()), "no code"),
        ("bring", Err("the disk is on fire".to_owned()), "cancelled: the actor that loads it was reset"),
    ] {
        let loader = Loader::new(image(), tight(), 8, Arc::new(JavaScriptOnly));
        let binding = || vec![("LOADER".into(), Binding::Loader(loader.clone()))];
        let (mut own, mut others) = (of(bring), worker(visit));
        (own.bindings, others.bindings) = (binding(), binding());
        let (isolate, state) = start(own);
        let visitor = Isolate::start(image(), Arc::new(others));
        ask(&isolate, "read").await.unwrap();
        state.log(Log::Waits);
        let bringing = asking(&isolate, path);
        until(|| loader.named() == 1).await;
        let visiting = asking(&visitor, "");
        a_while().await;
        assert!(!visiting.is_finished() && !bringing.is_finished(), "{path} let it out early");
        state.commit(&commit);
        assert_eq!(patiently(visiting).await.unwrap().unwrap(), seen);
        assert_eq!(patiently(bringing).await.unwrap().is_ok(), commit.is_ok());
        if commit.is_err() {
            assert_eq!(ask(&visitor, "").await.unwrap(), "asked anew");
        }
    }
}
