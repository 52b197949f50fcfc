//! Tails of loaded workers: what they are told, and what neither side can do to the other. Also how long isolates live that hold
//! something of one another.

use std::sync::Arc;
use std::time::Duration;

use skep_isolate::{Binding, Entry, Image, Isolate, JavaScriptOnly, Limits, Loader, Worker};

use crate::worlds::{Late, assert_serves, call, get, image, image_of_own, tight, worker};

/// The head of a worker that loads others: `load(code, more)` loads one module, `told` is what its own entrypoint `Tail` was told.
const PARENT: &str = "
    import { WorkerEntrypoint } from 'cloudflare:workers';
    let told = [];
    export class Tail extends WorkerEntrypoint { async tail(events) { told.push(...events); } }
    export class Slow extends WorkerEntrypoint { async tail(events) { await new Promise(() => {}); } }
    export class Bad extends WorkerEntrypoint { async tail(events) { while (true) told.push(new Uint8Array(1 << 20)); } }
    const load = (env, main, more) => env.LOADER.load({ compatibilityDate: '2026-01-01', mainModule: 'm.js', modules: { 'm.js': main }, ...more });
    const until = async (ready) => { for (let i = 0; i < 300 && !ready(); i++) await scheduler.wait(10); };
    const handler = (body) => `export default { async fetch(request, env, ctx) { ${body} } }`;
    const text = async (w) => (await w.getEntrypoint().fetch('http://w/')).text();
";

/// A parent whose `fetch` has this body and answers with JSON; its children get at most `policy`.
fn parent(image: &Image, body: &str, policy: Limits) -> Worker {
    let source = format!("{PARENT} export default {{ async fetch(request, env, ctx) {{ {body} }} }}");
    let mut parent = worker(&source);
    parent.limits = Limits { wall_ms: 20_000, subrequests: 10_000, cpu_ms: 5_000, memory_mb: 128, ..tight() };
    parent.bindings = vec![("LOADER".into(), Binding::Loader(Loader::new(image, policy, 8, Arc::new(JavaScriptOnly))))];
    parent
}

async fn answer(body: &str) -> serde_json::Value {
    let isolate = Isolate::start(image(), Arc::new(parent(image(), body, tight())));
    let ran = get(&isolate).await;
    let text = ran.answer.unwrap_or_else(|outcome| panic!("{outcome}"));
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_is_told_of_a_limit() {
    let told = answer(
        "const tails = [ctx.exports.Tail];
         const ends = [['console.log(1); while (true);', 50], ['console.log(2); const all = []; while (true) all.push(new Uint8Array(1 << 20));', 5000], ['await new Promise(() => {})', 50]];
         for (const [body, cpuMs] of ends) await text(load(env, handler(body), { tails, limits: { cpuMs } })).catch(() => {});
         await until(() => told.length >= 3);
         return Response.json(told.map((e) => [e.outcome, e.logs.length, e.exceptions.length, e.event.request.method]).sort());",
    )
    .await;
    assert_eq!(told, serde_json::json!([["exceededCpu", 1, 1, "GET"], ["exceededMemory", 1, 1, "GET"], ["exception", 0, 1, "GET"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_hangs_or_dies_does_not_hold_up_the_worker() {
    let told = answer(
        "const w = load(env, handler('console.log(\"x\".repeat(60000)); return new Response(\"fine\")'), { tails: [ctx.exports.Slow] });
         const started = Date.now();
         let fine = 0;
         for (let i = 0; i < 500; i++) if ((await text(w)) === 'fine') fine++;
         const bad = load(env, 'export default { tail() { while (true); } }', { limits: { cpuMs: 20 } });
         const v = load(env, handler('return new Response(\"fine\")'), { tails: [bad.getEntrypoint(), ctx.exports.Tail] });
         for (let i = 0; i < 5; i++) if ((await text(v)) === 'fine') fine++;
         await until(() => told.length === 5);
         return Response.json([fine, told.length, Date.now() - started < 15000]);",
    )
    .await;
    assert_eq!(told, serde_json::json!([505, 5, true]));
    assert_serves(image()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_logs_is_truncated_for_the_tail() {
    let told = answer(
        "const w = load(env, handler('for (let i = 0; i < 1000; i++) console.log(i, { i }); return new Response(\"\")'), { tails: [ctx.exports.Tail] });
         await text(w);
         await until(() => told.length === 1);
         return Response.json([told[0].logs.length, told[0].truncated, told[0].logs[255].message]);",
    )
    .await;
    assert_eq!(told, serde_json::json!([256, true, [255, { "i": 255 }]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_of_a_tail_and_a_tail_that_calls_back_come_to_rest() {
    // Each trace of `w` makes its tail call `w` again.
    let calls = answer(
        "let calls = 0;
         globalThis.hit = () => ++calls;
         const w = load(env, handler('await env.BACK.hit(); return new Response(\"\")'), { env: { BACK: ctx.exports.Back }, tails: [ctx.exports.Again] });
         globalThis.again = () => text(w);
         await text(w);
         await scheduler.wait(300);
         const first = calls;
         await scheduler.wait(300);
         return Response.json([first === calls, calls > 1, calls < 10]);
         } }
         export class Back extends WorkerEntrypoint { hit() { return globalThis.hit(); } }
         export class Again extends WorkerEntrypoint { async tail() { await globalThis.again();",
    )
    .await;
    assert_eq!(calls, serde_json::json!([true, true, true]));
    // A tail with a tail of its own: that one is told as well.
    let told = answer(
        "const inner = load(env, 'export default { tail(events) { console.log(\"got\", events.length, events[0].logs[0].message[0]); } }', { tails: [ctx.exports.Tail] });
         await text(load(env, handler('console.log(\"first\"); return new Response(\"\")'), { tails: [inner.getEntrypoint()] }));
         await until(() => told.length === 1);
         return Response.json([told.length, told[0].logs[0].message, Object.keys(told[0].event)]);",
    )
    .await;
    assert_eq!(told, serde_json::json!([1, ["got", 1, "first"], ["consumedEvents"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_web_socket_keeps_the_isolate_behind_it() {
    let told = answer(
        "let w = load(env, handler('const [a, b] = Object.values(new WebSocketPair()); b.accept(); b.addEventListener(\"message\", (e) => b.send(\"child \" + e.data)); return new Response(null, { status: 101, webSocket: a })'));
         let { webSocket } = await w.getEntrypoint().fetch('http://w/', { headers: { upgrade: 'websocket' } });
         w = undefined;
         webSocket.accept();
         const said = [];
         webSocket.addEventListener('message', (e) => said.push(e.data));
         await scheduler.wait(100);
         webSocket.send('one');
         await until(() => said.length === 1);
         await scheduler.wait(100);
         webSocket.send('two');
         await until(() => said.length === 2);
         return Response.json(said);",
    )
    .await;
    assert_eq!(told, serde_json::json!(["child one", "child two"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolate_ends_with_its_last_socket() {
    let image = image_of_own(4);
    let body = "let w = load(env, handler('const [a, b] = Object.values(new WebSocketPair()); b.accept(); return new Response(null, { status: 101, webSocket: a })'));
         let { webSocket } = await w.getEntrypoint().fetch('http://w/', { headers: { upgrade: 'websocket' } });
         w = undefined;
         webSocket.accept();
         if (request.method === 'GET') webSocket.close(1000);
         return new Response('ok');";
    for _ in 0..8 {
        let isolate = Isolate::start(&image, Arc::new(parent(&image, body, tight())));
        assert_eq!(get(&isolate).await.answer.as_deref(), Ok("ok"));
        isolate.gone().await;
    }
    for _ in 0..100 {
        if image.engine().free_slots() == 4 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} of 4 places are free", image.engine().free_slots());
}

/// Two workers that hold an object of one another, and nobody holds them.
#[tokio::test(flavor = "multi_thread")]
async fn mutual_stubs_do_not_keep_their_places_for_ever() {
    let image = image_of_own(4);
    let source = "
        import { WorkerEntrypoint, RpcTarget } from 'cloudflare:workers';
        let held;
        class Thing extends RpcTarget { hello() { return 'hello'; } }
        export class Holder extends WorkerEntrypoint { swap(thing) { held = thing.dup(); return new Thing(); } }
        export async function bind(env) { held = await env.OTHER.swap(new Thing()); return held.hello(); }
        export default { fetch() { return new Response('alive'); } };";
    for _ in 0..6 {
        let other = Late::default();
        let mut a = worker(source);
        a.evictable = true;
        a.bindings = vec![("OTHER".into(), other.binding())];
        let mut b = worker(source);
        b.evictable = true;
        let (a, b) = (Isolate::start(&image, Arc::new(a)), Isolate::start(&image, Arc::new(b)));
        other.set(b.entrypoint(Entry { name: Some("Holder".into()), ..Entry::default() }));
        // The third pair only gets its places when the first one is let go.
        assert_eq!(call(&a, "bind").await.as_deref(), Ok("\"hello\""));
    }
    let kept = Isolate::start(&image, Arc::new(worker("export default { fetch() { return new Response('kept'); } }")));
    assert_eq!(get(&kept).await.answer.as_deref(), Ok("kept"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_isolate_is_not_evicted_and_one_that_may_not_be_neither() {
    let image = image_of_own(2);
    let kept = Isolate::start(&image, Arc::new(worker("let n = 0; export default { fetch() { return new Response(String(++n)); } }")));
    assert_eq!(get(&kept).await.answer.as_deref(), Ok("1"));
    let mut slow = worker("export default { async fetch() { await scheduler.wait(800); return new Response('slow'); } }");
    slow.evictable = true;
    let slow = Isolate::start(&image, Arc::new(slow));
    let next = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Waits for a place until the slow one is through, then takes it.
        get(&Isolate::start(&image, Arc::new(worker("export default { fetch() { return new Response('next'); } }")))).await
    };
    let (slow_ran, next_ran) = tokio::join!(get(&slow), next);
    assert_eq!((slow_ran.answer.as_deref(), next_ran.answer.as_deref()), (Ok("slow"), Ok("next")));
    assert!(slow.has_ended());
    assert_eq!(get(&kept).await.answer.as_deref(), Ok("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_stub_breaks_when_its_isolate_ends() {
    let broken = answer(
        "const w = load(env, `import { WorkerEntrypoint, RpcTarget } from 'cloudflare:workers';
             class Thing extends RpcTarget { spin() { while (true); } }
             export default class extends WorkerEntrypoint { thing() { return new Thing(); } }`, { limits: { cpuMs: 50 } });
         const thing = await w.getEntrypoint().thing();
         let broke;
         thing.onRpcBroken((error) => { broke = `${error}`; });
         const failed = await thing.spin().catch((e) => `${e}`);
         await until(() => broke !== undefined);
         return Response.json([typeof failed, broke]);",
    )
    .await;
    assert_eq!(broken, serde_json::json!(["string", "Error: The isolate behind this stub has ended."]));
}
