//! Every limit: what exceeds it ends with its own outcome, and the engine serves whoever comes next.

use std::sync::Arc;

use skep_isolate::{Binding, Code, Entry, Isolate, Limits, LimitsAsked, Module, ModuleKind, Outcome, Request, Worker};

use crate::worlds::{Outside, Ran, assert_serves, get, handler, image, image_of_own, run, tight, worker};

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
    assert_eq!(ran.report.meter.bytes_out, 0);
}

#[tokio::test]
async fn output_bytes_of_a_stream() {
    let body =
        "let left = 100; return new Response(new ReadableStream({ pull(c) { left-- ? c.enqueue(new Uint8Array(100)) : c.close() } }))";
    let ran = ran_under(Limits { output_bytes: 1_000, ..tight() }, body).await;
    assert!(ran.answer.is_err(), "{ran:?}");
    assert_eq!(ran.report.meter.bytes_out, 1_000, "refused bytes have not left");
}

#[tokio::test]
async fn output_bytes_of_requests() {
    let body = "try { for (;;) await fetch('http://elsewhere/', { method: 'POST', body: 'x'.repeat(600) }) } catch (e) { throw new Error('refused: ' + e.message) }";
    let ran = ran_under(Limits { output_bytes: 1_000, ..tight() }, body).await;
    let refused = "refused: the output limit was exceeded";
    assert!(matches!(&ran.answer, Err(Outcome::Exception(e)) if e.message == refused), "{ran:?}");
    assert_eq!((ran.report.meter.subrequests, ran.report.meter.bytes_out), (2, 600));
}

#[tokio::test]
async fn output_bytes_of_messages() {
    let other = Isolate::start(
        image(),
        Arc::new(worker(
            "import { WorkerEntrypoint } from 'cloudflare:workers'; export default class extends WorkerEntrypoint { take(s) { return s.length } }",
        )),
    );
    let mut worker = worker(&handler(
        "let n = 0; try { for (;;) { await env.OTHER.take('x'.repeat(400)); n++ } } catch (e) { return new Response(n + e.message) }",
    ));
    worker.limits.output_bytes = 1_500;
    worker.bindings.push(("OTHER".into(), Binding::Service(other.entrypoint(Entry::default()))));
    let ran = run(image(), worker).await;
    assert_eq!(ran.answer.as_deref(), Ok("3the output limit was exceeded"), "{ran:?}");
    assert!((1_200..=1_500).contains(&ran.report.meter.bytes_out), "{:?}", ran.report.meter);
}

/// What a worker's objects on the host take is its memory too.
#[tokio::test]
async fn memory_held_by_the_host() {
    let body = "const all = []; let refused; for (let i = 0; i < 60; i++) { const c = new CompressionStream('gzip'); all.push(c); c.readable.getReader().read().catch(() => {}); c.writable.getWriter().write(new Uint8Array(9)).catch(e => { refused = e.name }) }
         await scheduler.wait(1); return new Response(refused ?? 'all of them')";
    let limits = |memory_mb| Limits { memory_mb, ..tight() };
    assert_eq!(ran_under(limits(48), body).await.answer.as_deref(), Ok("all of them"));
    assert_eq!(ran_under(limits(20), body).await.answer.as_deref(), Ok("RangeError"));
}

#[tokio::test]
async fn memory_of_bytes_that_nobody_takes() {
    let mut worker = worker(&handler(
        "const all = []; for (let i = 0; i < 100; i++) all.push(fetch('http://elsewhere/', { method: 'POST', body: new Uint8Array(1 << 20) }).then(() => 'answered', e => e.name));
         return new Response(await Promise.race(all))",
    ));
    worker.limits.subrequests = 1_000;
    // At the end of its memory each allocation collects garbage first.
    worker.limits.cpu_ms = 2_000;
    worker.outbound = Some(Arc::new(Outside::Silent));
    let ran = run(image(), worker).await;
    assert!(ran.answer.as_deref() == Ok("RangeError") || ran.answer == Err(Outcome::Memory), "{ran:?}");
    assert!(ran.report.meter.memory_peak_bytes <= 48 << 20, "{:?}", ran.report.meter);
    assert_serves(image()).await;
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

/// Its wall limit ends a start, and whoever waits for it hears why.
#[tokio::test]
async fn a_start_that_never_ends() {
    let cases = [
        ("await new Promise(() => {})", "Top-level await in module is unsettled."),
        ("setInterval(() => {}, 10); await new Promise(() => {})", "did not end within 200 ms"),
        ("await fetch('http://silent/')", "did not end within 200 ms"),
        ("await scheduler.wait(60_000)", "did not end within 200 ms"),
        ("for (;;);", "did not end within 200 ms"),
        ("for (;;) await null", "did not end within 200 ms"),
    ];
    for (top, why) in cases {
        let mut worker = worker(&format!("{top}; {}", handler("return new Response('served')")));
        worker.limits = Limits { wall_ms: 200, cpu_ms: 20_000, ..tight() };
        worker.outbound = Some(Arc::new(Outside::Silent));
        let isolate = Isolate::start(image(), Arc::new(worker));
        let (ready, first, second) = tokio::join!(isolate.ready(), get(&isolate), get(&isolate));
        for outcome in [ready.unwrap_err(), first.answer.unwrap_err(), second.answer.unwrap_err()] {
            assert!(matches!(&outcome, Outcome::Startup(e) if e.message.contains(why)), "{top}: {outcome:?}");
        }
        assert!(isolate.has_ended());
    }
    assert_serves(image()).await;
}

#[tokio::test]
async fn calls_wait_for_a_start_that_takes_its_time() {
    let source = format!("await scheduler.wait(100); {}", handler("return new Response('served')"));
    let isolate = Isolate::start(image(), Arc::new(worker(&source)));
    let (ready, ran) = tokio::join!(isolate.ready(), get(&isolate));
    assert_eq!((ready, ran.answer.as_deref()), (Ok(()), Ok("served")));
    assert!(ran.report.meter.wall_us >= 90_000, "the wait counts: {:?}", ran.report.meter);
}

#[tokio::test]
async fn cpu_is_counted_over_all_turns_of_a_start() {
    let source = "for (;;) { for (let i = 0; i < 2e5; i++); await scheduler.wait(1); }";
    let mut worker = worker(source);
    worker.limits.cpu_ms = 60;
    let ran = run(image(), worker).await;
    assert_eq!(ran.answer, Err(Outcome::Cpu), "{ran:?}");
    assert!((55_000..250_000).contains(&ran.report.meter.cpu_us), "{:?}", ran.report.meter);
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_is_given_up() {
    let image = image_of_own(1);
    let mut worker = worker("await scheduler.wait(3_600_000)");
    worker.limits.wall_ms = 3_600_000;
    Isolate::start(&image, Arc::new(worker)).gone().await;
    assert_serves(&image).await;
}

/// Turns that no call pays for have an account too.
#[tokio::test]
async fn cpu_after_every_call_has_ended() {
    let source = handler("setInterval(() => { for (let i = 0; i < 1e5; i++); }, 0); return new Response('first')");
    let mut worker = worker(&source);
    worker.limits = Limits { cpu_ms: 100, wall_ms: 60_000, ..tight() };
    let isolate = Isolate::start(image(), Arc::new(worker));
    assert_eq!(get(&isolate).await.answer.as_deref(), Ok("first"));
    let ended = async {
        while !isolate.has_ended() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), ended).await.expect("it spins for ever");
}

/// A slow derivation computes on another thread, and for the same account.
#[tokio::test]
async fn cpu_of_slow_cryptography() {
    let body = "const k = await crypto.subtle.importKey('raw', new Uint8Array(8), 'PBKDF2', false, ['deriveBits']);
        for (;;) await crypto.subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-512', salt: new Uint8Array(8), iterations: 100_000 }, k, 512)";
    let ran = ran_under(Limits { cpu_ms: 150, wall_ms: 30_000, ..tight() }, body).await;
    assert_eq!(ran.answer, Err(Outcome::Cpu), "{ran:?}");
    assert!(ran.report.meter.cpu_us >= 150_000, "{:?}", ran.report.meter);
}

/// A call that nothing can answer does not wait for its wall limit, however many others wait with it.
#[tokio::test]
async fn calls_that_nothing_can_answer() {
    let hung = "The script will never generate a response.";
    let is_hung = |ran: &Ran| matches!(&ran.answer, Err(Outcome::Exception(e)) if e.message == hung);
    let patient = |body: &str| {
        let mut worker = worker(&handler(body));
        worker.limits.wall_ms = 3_600_000;
        worker.outbound = Some(Arc::new(Outside::Answers));
        Isolate::start(image(), Arc::new(worker))
    };
    for body in [
        "await new Promise(() => {})",
        "await fetch('http://elsewhere/'); await new Promise(() => {})",
        "ctx.exports.default.fetch; await new Promise(() => {})",
    ] {
        let isolate = patient(body);
        let another = isolate.clone();
        let _stub = isolate.entrypoint(Entry::default());
        let (a, b, c) = tokio::join!(get(&isolate), get(&another), get(&isolate));
        assert!(is_hung(&a) && is_hung(&b) && is_hung(&c), "{body}: {a:?} {b:?} {c:?}");
    }
    // What another call in flight brings is waited for.
    let shared = patient(
        "globalThis.gate ??= Promise.withResolvers(); globalThis.n = (globalThis.n ?? 0) + 1; if (n === 1) return new Response(await gate.promise); await scheduler.wait(50); gate.resolve('opened'); return new Response('second')",
    );
    let (a, b) = tokio::join!(get(&shared), get(&shared));
    assert_eq!((a.answer.as_deref(), b.answer.as_deref()), (Ok("opened"), Ok("second")));
}

/// An object that somebody else holds may still be called, so its call is waited for.
#[tokio::test]
async fn a_call_that_a_passed_object_can_answer() {
    let holder = "import { WorkerEntrypoint } from 'cloudflare:workers';
        export default class extends WorkerEntrypoint { later(f) { const kept = f.dup(); setTimeout(async () => { await kept('from afar'); kept[Symbol.dispose]() }, 60) } }";
    let other = Isolate::start(image(), Arc::new(worker(holder)));
    let mut worker = worker(&handler(
        "const { promise, resolve } = Promise.withResolvers(); await env.OTHER.later(resolve); return new Response(await promise)",
    ));
    worker.bindings.push(("OTHER".into(), Binding::Service(other.entrypoint(Entry::default()))));
    assert_eq!(run(image(), worker).await.answer.as_deref(), Ok("from afar"));
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
