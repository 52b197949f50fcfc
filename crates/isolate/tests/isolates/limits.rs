//! Every limit: what exceeds it ends with its own outcome, and the engine serves whoever comes next.

use std::sync::Arc;

use skep_isolate::{Code, Entry, Isolate, Limits, LimitsAsked, Module, ModuleKind, Outcome, Request, Worker};

use crate::worlds::{Outside, Ran, assert_serves, get, handler, image, run, tight, worker};

async fn ran_under(limits: Limits, body: &str) -> Ran {
    let mut worker = worker(&handler(body));
    worker.limits = limits;
    worker.outbound = Some(Arc::new(Outside::Answers));
    let ran = run(image(), worker).await;
    assert_serves(image()).await;
    ran
}

#[tokio::test]
async fn cpu() {
    let ran = ran_under(Limits { cpu_ms: 50, ..tight() }, "for (;;);").await;
    assert_eq!(ran.answer, Err(Outcome::Cpu));
    assert_eq!(ran.report.outcome, Outcome::Cpu);
    assert!((45_000..200_000).contains(&ran.report.meter.cpu_us), "{:?}", ran.report.meter);
}

#[tokio::test]
async fn cpu_is_counted_over_all_turns_of_a_call() {
    let body = "for (;;) { const until = performance.now(); for (let i = 0; i < 2e5; i++); await scheduler.wait(1); }";
    let ran = ran_under(Limits { cpu_ms: 60, ..tight() }, body).await;
    assert_eq!(ran.answer, Err(Outcome::Cpu));
}

#[tokio::test]
async fn wall_while_waiting() {
    let ran = ran_under(Limits { wall_ms: 100, ..tight() }, "await scheduler.wait(60_000)").await;
    assert_eq!(ran.answer, Err(Outcome::Wall));
    assert!((100_000..3_000_000).contains(&ran.report.meter.wall_us), "{:?}", ran.report.meter);
}

#[tokio::test]
async fn wall_while_computing() {
    let ran = ran_under(Limits { wall_ms: 60, cpu_ms: 20_000, ..tight() }, "for (;;);").await;
    assert_eq!(ran.answer, Err(Outcome::Wall));
}

#[tokio::test]
async fn a_wall_limit_ends_the_call_but_not_the_isolate() {
    let source =
        "let n = 0; export default { fetch() { return n++ ? new Response('second') : new Promise(() => setInterval(() => {}, 50)) } }";
    let mut worker = worker(source);
    worker.limits.wall_ms = 100;
    let isolate = Isolate::start(image(), Arc::new(worker));
    assert_eq!(get(&isolate).await.answer, Err(Outcome::Wall));
    assert_eq!(get(&isolate).await.answer.as_deref(), Ok("second"));
}

#[tokio::test]
async fn memory() {
    let ran = ran_under(tight(), "const all = []; for (;;) all.push(new Uint8Array(1 << 20));").await;
    assert_eq!(ran.answer, Err(Outcome::Memory));
    assert!(ran.report.meter.memory_peak_bytes <= 48 << 20, "{:?}", ran.report.meter);
}

#[tokio::test]
async fn subrequests() {
    let limits = Limits { subrequests: 3, ..tight() };
    let ran = ran_under(limits, "for (;;) await fetch('http://elsewhere/')").await;
    assert_eq!(ran.answer, Err(Outcome::Subrequests));
    assert_eq!(ran.report.meter.subrequests, 3);
    let copes = "let n = 0; try { for (;;) { await fetch('http://elsewhere/'); n++ } } catch (e) { return new Response(n + e.message) }";
    assert_eq!(ran_under(limits, copes).await.answer.as_deref(), Ok("3Too many subrequests."));
}

#[tokio::test]
async fn output_bytes_of_a_response() {
    let limits = Limits { output_bytes: 1_000, ..tight() };
    assert_eq!(ran_under(limits, "return new Response('x'.repeat(1_000))").await.word(), "ok");
    let ran = ran_under(limits, "return new Response('x'.repeat(1_001))").await;
    assert!(matches!(&ran.answer, Err(Outcome::Exception(e)) if e.message == "the output limit was exceeded"), "{ran:?}");
}

#[tokio::test]
async fn output_bytes_of_a_stream() {
    let body =
        "let left = 100; return new Response(new ReadableStream({ pull(c) { left-- ? c.enqueue(new Uint8Array(100)) : c.close() } }))";
    let ran = ran_under(Limits { output_bytes: 1_000, ..tight() }, body).await;
    assert!(ran.answer.is_err(), "{ran:?}");
    assert!(ran.report.meter.bytes_out <= 1_100, "{:?}", ran.report.meter);
}

#[tokio::test]
async fn output_bytes_of_requests() {
    let body = "try { for (;;) await fetch('http://elsewhere/', { method: 'POST', body: 'x'.repeat(600) }) } catch (e) { throw new Error('refused: ' + e.message) }";
    let ran = ran_under(Limits { output_bytes: 1_000, ..tight() }, body).await;
    let refused = "refused: the output limit was exceeded";
    assert!(matches!(&ran.answer, Err(Outcome::Exception(e)) if e.message == refused), "{ran:?}");
    assert_eq!(ran.report.meter.subrequests, 2);
}

fn modules(n: usize, each: usize) -> Code {
    let mut code = Code::single(handler("return new Response('ok')"));
    for i in 0..n {
        let module = Module { kind: ModuleKind::Text, content: vec![b'x'; each].into(), source_map: None };
        code.modules.insert(format!("m{i}.txt"), module);
    }
    code
}

#[tokio::test]
async fn code_size() {
    let mut worker = Worker::new(modules(4, 300_000));
    worker.limits = Limits { code_bytes: 1_000_000, ..tight() };
    let ran = run(image(), worker).await;
    let Err(Outcome::Startup(e)) = &ran.answer else { panic!("{ran:?}") };
    assert!(e.message.contains("1000000"), "{e}");
    assert_serves(image()).await;
}

#[tokio::test]
async fn code_size_is_a_total_that_fits() {
    let mut worker = Worker::new(modules(3, 300_000));
    worker.limits = Limits { code_bytes: 1_000_000, ..tight() };
    assert_eq!(run(image(), worker).await.answer.as_deref(), Ok("ok"));
}

#[tokio::test]
async fn pending_operations() {
    let mut worker = worker(&handler(
        "const all = Array.from({ length: 20 }, () => fetch('http://elsewhere/').then(() => 'never', e => e.name + e.message));
         return new Response(await Promise.race(all))",
    ));
    worker.limits = Limits { pending: 10, subrequests: 1_000, ..tight() };
    worker.outbound = Some(Arc::new(Outside::Silent));
    let ran = run(image(), worker).await;
    assert_eq!(ran.answer.as_deref(), Ok("RangeErrortoo many operations in flight"));
    assert_serves(image()).await;
}

#[tokio::test]
async fn an_entrypoint_can_lower_a_limit_but_not_raise_it() {
    for (asked, ends) in [(1_u32, 150_000), (1_000_000, 2_000_000)] {
        let isolate = Isolate::start(image(), Arc::new(worker(&handler("for (;;);"))));
        let entry = Entry { limits: LimitsAsked { cpu_ms: Some(asked), ..LimitsAsked::default() }, ..Entry::default() };
        let (tx, rx) = tokio::sync::oneshot::channel();
        let request = Request { method: "GET".into(), url: "http://worker/".into(), ..Request::default() };
        assert_eq!(isolate.fetch_reported(entry, request, Some(tx)).await.err(), Some(Outcome::Cpu));
        assert!(rx.await.unwrap().meter.cpu_us < ends);
    }
}

#[tokio::test]
async fn a_worker_that_does_not_load_fails_its_calls_with_the_reason() {
    let sources = ["export default {", "throw new TypeError('no')", "import 'absent'", "await Promise.reject(new Error('late'))"];
    for source in sources {
        let ran = run(image(), worker(source)).await;
        assert!(matches!(&ran.answer, Err(Outcome::Startup(_))), "{source}: {ran:?}");
    }
    assert_serves(image()).await;
}
