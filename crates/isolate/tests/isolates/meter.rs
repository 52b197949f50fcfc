//! Meters: the operation count is the same everywhere, the other figures are plausible.

use std::sync::Arc;

use skep_isolate::{Limits, Meter};

use crate::worlds::{Outside, handler, image, image_of_own, run, tight, worker};

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
