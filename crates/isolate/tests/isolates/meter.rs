//! Meters: the operation count is the same everywhere, the other figures are plausible.

use std::sync::Arc;

use skep_isolate::{Entry, Isolate, Limits, Meter, Request};

use crate::worlds::{Ledger, Outside, handler, image, image_of_own, run, tight, worker};

const WORK: &str = "
    const words = new Map();
    for (let i = 0; i < 2_000; i++) words.set('w' + (i * 7919) % 1_000, [i, String(i)]);
    const sorted = [...words].sort((a, b) => (a[0] < b[0] ? -1 : 1)).filter(([k]) => /[02468]$/.test(k));
    await null;
    const url = new URL('/p?q=' + sorted.length, request.url);
    return Response.json(JSON.parse(JSON.stringify({ n: sorted.length, url: url.href })))";

async fn meter_in(image: &skep_isolate::Image, body: &str) -> Meter {
    let mut worker = worker(&handler(body));
    worker.limits = Limits { cpu_ms: 10_000, ..tight() };
    worker.outbound = Some(Arc::new(Outside::Answers));
    let ran = run(image, worker).await;
    assert_eq!(ran.word(), "ok", "{ran:?}");
    ran.report.meter
}

#[tokio::test]
async fn operations_are_the_same_in_every_engine() {
    let other = image_of_own(2);
    let expected = meter_in(image(), WORK).await.operations;
    assert!(expected > 10_000, "{expected}");
    for image in [&other, image(), &other, image()] {
        assert_eq!(meter_in(image, WORK).await.operations, expected);
    }
}

#[tokio::test]
async fn operations_grow_with_the_work() {
    let loops = |n: u32| format!("for (let i = 0; i < {n}; i++); return new Response()");
    let (few, many) = (meter_in(image(), &loops(100_000)).await.operations, meter_in(image(), &loops(200_000)).await.operations);
    assert!(many > few, "{few} {many}");
}

#[tokio::test]
async fn figures_are_plausible() {
    let idle = meter_in(image(), "return new Response()").await;
    assert!(idle.cpu_us < 100_000 && idle.bytes_out == 0 && idle.subrequests == 0 && idle.host_calls > 0, "{idle:?}");
    let busy = meter_in(image(), "for (let i = 0; i < 3e6; i++); await scheduler.wait(30); return new Response('12345')").await;
    assert!(busy.cpu_us > 3_000 && busy.wall_us > 30_000 && busy.wall_us >= busy.cpu_us, "{busy:?}");
    assert_eq!(busy.bytes_out, 5);
    let large = meter_in(image(), "const b = new Uint8Array(20 << 20).fill(1); return new Response(String(b.length))").await;
    assert!(large.memory_peak_bytes >= idle.memory_peak_bytes + (15 << 20), "{large:?} {idle:?}");
    let calls = meter_in(
        image(),
        "for (let i = 0; i < 3; i++) await fetch('http://elsewhere/', { method: 'POST', body: 'abc' }); return new Response()",
    )
    .await;
    assert!(calls.subrequests == 3 && calls.bytes_out == 9 && calls.host_calls >= idle.host_calls + 3, "{calls:?}");
}

/// The account of a call holds its last turn, however that ended.
#[tokio::test]
async fn a_turn_that_was_cut_off_is_on_the_account() {
    let spends = "for (let i = 0; i < 50; i++) crypto.randomUUID(); new URL('http://a/b?c'); const kept = new Uint8Array(8 << 20).fill(1); for (let i = 0; i < 3e5; i++);";
    let cases = [
        ("for (;;);", "cpu", 250_000),
        ("const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1))", "memory", 1_000),
        ("let i = [1].values(); for (let n = 0; n < 1e4; n++) i = i.map(x => x); i.next()", "internal exception", 1_000),
    ];
    for (end, words, cpu_us) in cases {
        let mut worker = worker(&handler(&format!("await null; await scheduler.wait(1); {spends} {end}")));
        worker.observer = Arc::new(Ledger::default());
        let ran = run(image(), worker).await;
        let meter = ran.report.meter;
        assert!(words.contains(ran.word()), "{ran:?}");
        assert!(meter.cpu_us >= cpu_us, "{end}: {meter:?}");
        assert!(meter.operations > 10_000 && meter.host_calls >= 2 && meter.memory_peak_bytes > 10 << 20, "{end}: {meter:?}");
    }
}

#[tokio::test]
async fn what_was_logged_before_the_end_is_heard() {
    let ledger = Arc::new(Ledger::default());
    let mut worker = worker(&handler("console.log('before'); for (;;);"));
    worker.observer = ledger.clone();
    assert_eq!(run(image(), worker).await.word(), "cpu");
    assert_eq!(*ledger.lines.lock().unwrap(), ["before"]);
}

/// So does the start that failed: it is on the account of the call it was made for.
#[tokio::test]
async fn a_start_that_failed_is_on_the_account() {
    let spends = "for (let i = 0; i < 3e5; i++);";
    for (end, words) in [
        ("throw new Error('no')", "startup"),
        ("await null; await Promise.reject(new Error('late'))", "startup"),
        ("for (;;);", "cpu"),
        ("const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1))", "memory"),
        ("await new Promise(() => {})", "startup"),
    ] {
        let ran = run(image(), worker(&format!("{spends} {end}; export default {{}}"))).await;
        let meter = ran.report.meter;
        assert_eq!(ran.word(), words, "{end}: {ran:?}");
        assert!(meter.cpu_us > 500 && meter.operations > 1_000 && meter.memory_peak_bytes > 1 << 20, "{end}: {meter:?}");
    }
}

#[tokio::test]
async fn a_cancelled_call_is_on_the_account() {
    let isolate = Isolate::start(
        image(),
        Arc::new(worker(&handler(
            "request.signal.addEventListener('abort', () => { for (let i = 0; i < 2e6; i++); }); for (let i = 0; i < 1e5; i++); await scheduler.wait(60_000); return new Response()",
        ))),
    );
    let (tx, rx) = tokio::sync::oneshot::channel();
    let request = Request { method: "GET".into(), url: "http://worker/".into(), ..Request::default() };
    isolate.ready().await.unwrap();
    let left =
        tokio::time::timeout(std::time::Duration::from_millis(300), isolate.fetch_reported(Entry::default(), request, Some(tx))).await;
    assert!(left.is_err());
    drop(isolate);
    let report = rx.await.unwrap();
    assert_eq!(report.outcome.word(), "cancelled");
    assert!(report.meter.cpu_us > 300 && report.meter.operations > 1_000, "{report:?}");
}
