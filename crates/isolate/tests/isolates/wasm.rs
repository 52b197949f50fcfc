//! WebAssembly of workers: attacks by name, and that it works at all. Modules are put together here byte by byte.

use std::collections::HashMap;
use std::sync::Arc;

use skep_isolate::{Code, Isolate, Module, ModuleKind, SnapshotError, Worker};

use crate::worlds::{assert_serves, get, image, run, tight};

fn number(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [number(bytes.len()), bytes.to_vec()].concat()
}

fn section(id: u8, items: &[Vec<u8>]) -> Vec<u8> {
    let contents = [number(items.len()), items.concat()].concat();
    [vec![id], sized(&contents)].concat()
}

/// `env.f` is function 0; then `loop`, `grow`, `recurse`, `callf`, `tgrow`, `load` and `trap`; one page of memory and a table. With a start
/// function, if one is given.
fn module(start: Option<u8>) -> Vec<u8> {
    let names = ["loop", "grow", "recurse", "callf", "tgrow", "load", "trap"];
    let types = [0u8, 1, 0, 0, 1, 1, 0];
    let bodies: [&[u8]; 7] = [
        &[0x03, 0x40, 0x0C, 0, 0x0B],
        &[0x20, 0, 0x40, 0],
        &[0x10, 3],
        &[0x10, 0],
        &[0xD0, 0x70, 0x20, 0, 0xFC, 15, 0],
        &[0x20, 0, 0x28, 2, 0],
        &[0x00],
    ];
    let mut exports: Vec<Vec<u8>> = names.iter().enumerate().map(|(i, n)| [sized(n.as_bytes()), vec![0, i as u8 + 1]].concat()).collect();
    exports.push([sized(b"memory"), vec![2, 0]].concat());
    exports.push([sized(b"table"), vec![1, 0]].concat());
    let code: Vec<Vec<u8>> = bodies.iter().map(|b| sized(&[&[0], *b, &[0x0B]].concat())).collect();
    let mut out = vec![0, 97, 115, 109, 1, 0, 0, 0];
    out.extend(section(1, &[vec![0x60, 0, 0], vec![0x60, 1, 0x7F, 1, 0x7F]]));
    out.extend(section(2, &[[sized(b"env"), sized(b"f"), vec![0, 0]].concat()]));
    out.extend(section(3, &types.map(|t| vec![t])));
    out.extend(section(4, &[vec![0x70, 0, 1]]));
    out.extend(section(5, &[vec![0, 1]]));
    out.extend(section(7, &exports));
    if let Some(start) = start {
        out.extend([8, 1, start]);
    }
    out.extend(section(10, &code));
    out
}

fn worker(body: &str, wasm: Vec<u8>) -> Worker {
    let source = format!(
        "import mod from './m.wasm';\nconst make = (f = () => {{}}) => new WebAssembly.Instance(mod, {{ env: {{ f }} }}).exports;\n\
         const error = (f) => {{ try {{ f(); return 'none' }} catch (e) {{ return e.constructor.name + ': ' + e.message }} }};\n\
         export default {{ async fetch() {{ {body} }} }}"
    );
    let module = |kind, content: Vec<u8>| Module { kind, content: content.into(), source_map: None };
    let modules = HashMap::from([
        ("main.js".to_owned(), module(ModuleKind::JavaScript, source.into_bytes())),
        ("m.wasm".to_owned(), module(ModuleKind::Wasm, wasm)),
    ]);
    let mut worker = Worker::new(Code { main: "main.js".into(), modules });
    worker.limits = tight();
    worker.limits.cpu_ms = 10_000;
    worker
}

async fn answers(body: &str, expected: &str) {
    let ran = run(image(), worker(body, module(None))).await;
    assert_eq!(ran.answer.as_deref(), Ok(expected), "{ran:?}");
    assert_serves(image()).await;
}

#[tokio::test]
async fn an_endless_loop_ends_by_the_cpu_limit() {
    let mut worker = worker("make().loop()", module(None));
    worker.limits.cpu_ms = 100;
    let ran = run(image(), worker).await;
    assert_eq!(ran.word(), "cpu", "{ran:?}");
    assert_serves(image()).await;
}

#[tokio::test]
async fn an_endless_start_function_ends_by_the_cpu_limit() {
    let mut worker = worker("make()", module(Some(1)));
    worker.limits.cpu_ms = 100;
    assert_eq!(run(image(), worker).await.word(), "cpu");
    assert_serves(image()).await;
}

#[tokio::test]
async fn an_endless_import_ends_by_the_cpu_limit() {
    let mut worker = worker("make(() => { for (;;) try { for (;;); } catch {} }).callf()", module(None));
    worker.limits.cpu_ms = 100;
    assert_eq!(run(image(), worker).await.word(), "cpu");
    assert_serves(image()).await;
}

#[tokio::test]
async fn a_start_function_that_traps_is_an_error() {
    let ran = run(image(), worker("return new Response(error(() => make()))", module(Some(7)))).await;
    assert_eq!(ran.answer.as_deref(), Ok("RuntimeError: unreachable"));
}

#[tokio::test]
async fn a_bomb_of_memory_is_held() {
    let body = "const e = make(); let n = 0; while (e.grow(16) !== -1) n++; e.memory.buffer; return new Response(n > 0 ? 'held' : 'none')";
    let ran = run(image(), worker(body, module(None))).await;
    assert_eq!(ran.answer.as_deref(), Ok("held"), "{ran:?}");
    assert!(ran.report.meter.memory_peak_bytes <= u64::from(tight().memory_mb) << 20);
    assert_serves(image()).await;
}

#[tokio::test]
async fn a_bomb_of_memories_is_held() {
    answers("for (let i = 0; i < 1000; i++) { const e = error(() => new WebAssembly.Memory({ initial: 1 })); if (e !== 'none') return new Response(e.slice(0, 10)) }", "RangeError").await;
}

#[tokio::test]
async fn a_bomb_of_instances_is_held() {
    answers(
        "for (let i = 0; i < 1000; i++) { const e = error(() => make()); if (e !== 'none') return new Response(e.slice(0, 10)) }",
        "RangeError",
    )
    .await;
}

#[tokio::test]
async fn a_bomb_of_tables_is_held() {
    answers("const e = make(); let n = 0; while (e.tgrow(1000) !== -1) n++; return new Response(n < 2000 ? 'held' : 'none')", "held").await;
    answers("const t = new WebAssembly.Table({ element: 'anyfunc', initial: 1 }); return new Response(error(() => { for (;;) t.grow(100000) }).slice(0, 10))", "RangeError").await;
}

#[tokio::test]
async fn recursion_through_both_ends() {
    answers("const e = make(() => e.callf()); return new Response(error(() => e.callf()))", "RangeError: Maximum call stack size exceeded")
        .await;
}

#[tokio::test]
async fn recursion_within_wasm_ends() {
    answers("const e = make(); return new Response(error(() => e.recurse()) + e.load(0))", "RangeError: Maximum call stack size exceeded0")
        .await;
}

#[tokio::test]
async fn what_an_import_throws_comes_out_unchanged() {
    answers("const x = new TypeError('mine'); const e = make(() => { throw x }); try { e.callf() } catch (y) { return new Response(`${x === y}`) }", "true").await;
    let body = "const x = { a: 1 }; try { make(() => { throw x }) } catch (y) { return new Response(`${x === y}`) }";
    let ran = run(image(), worker(body, module(Some(4)))).await;
    assert_eq!(ran.answer.as_deref(), Ok("true"));
}

#[tokio::test]
async fn growing_in_the_middle_of_a_call_detaches() {
    let body = "let e; const seen = []; e = make(() => { const b = e.memory.buffer; seen.push(b.byteLength); e.grow(1); seen.push(b.byteLength, e.memory.buffer.byteLength) }); \
        const outer = new Uint8Array(e.memory.buffer); outer[5] = 9; e.callf(); seen.push(outer.length, outer[5], new Uint8Array(e.memory.buffer)[5], e.load(4)); return new Response(seen.join())";
    answers(body, "65536,0,131072,0,,9,2304").await;
}

#[tokio::test]
async fn a_buffer_is_the_memory_however_often_it_moves() {
    let body = "const e = make(); let v = new Uint32Array(e.memory.buffer); v[0] = 7; \
        for (let i = 0; i < 60; i++) { e.grow(1 + i % 5); v = new Uint32Array(e.memory.buffer); if (e.load(0) !== 7 + i || v[0] !== 7 + i || v[v.length - 1] !== 0) return new Response(`lost at ${i}`); v[0]++; v[v.length - 2] = i } \
        return new Response(`${error(() => e.load(v.byteLength))} ${error(() => e.memory.buffer.transfer()).slice(0, 9)} ${error(() => structuredClone(0, { transfer: [e.memory.buffer] })) !== 'none'} ${e.memory.buffer.byteLength === v.byteLength}`)";
    let ran = run(image(), worker(body, module(None))).await;
    assert_eq!(ran.answer.as_deref(), Ok("RuntimeError: memory access out of bounds TypeError true true"), "{ran:?}");
}

#[tokio::test]
async fn a_module_that_is_not_valid_does_not_load() {
    let mut broken = module(None);
    let n = broken.len();
    broken[n - 2] = 0xFF;
    let ran = run(image(), worker("return new Response('loaded')", broken)).await;
    assert_eq!(ran.word(), "startup", "{ran:?}");
    assert!(format!("{ran:?}").contains("CompileError"), "{ran:?}");
    let ran = run(image(), worker("return new Response('loaded')", vec![0; 17 << 20])).await;
    assert_eq!(ran.word(), "startup", "{ran:?}");
}

#[tokio::test]
async fn calls_count_and_the_count_is_the_same_again() {
    let body = "const e = make(); for (let i = 0; i < 1000; i++) e.load(0); return new Response('done')";
    let (a, b) = (run(image(), worker(body, module(None))).await, run(image(), worker(body, module(None))).await);
    assert_eq!(a.report.meter.operations, b.report.meter.operations);
    assert!(a.report.meter.operations > 2_000);
}

#[tokio::test]
async fn an_isolate_with_wasm_is_not_written_down() {
    let source = "globalThis.e ??= make(); return new Response('x')";
    let isolate = Isolate::start(image(), Arc::new(worker(source, module(None))));
    assert!(isolate.snapshot().await.is_ok());
    get(&isolate).await;
    assert!(matches!(isolate.snapshot().await, Err(SnapshotError::Unsupported(_))));
}

#[tokio::test]
async fn one_that_spins_in_wasm_does_not_delay_others() {
    let mut spinning = worker("make().loop()", module(None));
    spinning.limits.cpu_ms = 1_500;
    let spinner = Isolate::start(image(), Arc::new(spinning));
    let (spun, ()) = tokio::join!(get(&spinner), async {
        for _ in 0..10 {
            let began = std::time::Instant::now();
            assert_serves(image()).await;
            assert!(began.elapsed().as_millis() < 1_000);
        }
    });
    assert_eq!(spun.word(), "cpu");
}
