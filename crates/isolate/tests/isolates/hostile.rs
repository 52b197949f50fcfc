//! Attacks by name. Each runs as a tenant with small limits, ends as its line says, and leaves an engine that serves the
//! next tenant from a clean slate. `ok` means that the attack was refused inside the guest, which answers `held`.

use std::sync::Arc;

use skep_isolate::{Binding, Code, Entry, Isolate, JavaScriptOnly, Limits, Loader, Module, ModuleKind, Outcome, Worker};

use crate::worlds::{Late, Ledger, Outside, assert_serves, call, get, handler, image, image_of_own, run, tight, worker};

/// Runs `source` and checks that it ended in one of the ways of `expected` (words of outcomes, separated by spaces).
async fn attack(source: String, expected: &str) {
    let mut worker = worker(&source);
    worker.outbound = Some(Arc::new(Outside::Answers));
    if !expected.contains("cpu") {
        // What is about something else must not end by the CPU limit because the machine is slow or busy.
        worker.limits.cpu_ms = 20_000;
    }
    let ran = run(image(), worker).await;
    assert!(expected.split(' ').any(|word| word == ran.word()), "expected {expected}: {ran:?}");
    if let Ok(answer) = &ran.answer {
        assert_eq!(answer, "held");
    }
    assert_serves(image()).await;
}

/// A test for each attack: the body of a `fetch` handler.
macro_rules! attacks {
    ($($name:ident $expected:literal $body:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            attack(handler($body), $expected).await;
        }
    )*};
}

/// A test for each attack that is a whole module.
macro_rules! module_attacks {
    ($($name:ident $expected:literal $source:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            attack($source.to_string(), $expected).await;
        }
    )*};
}

mod endless {
    use super::*;

    attacks! {
        synchronous "cpu" "for (;;);";
        that_catches_everything "cpu" "for (;;) try { for (;;); } catch {} finally { continue }";
        in_a_generator "cpu" "function* g() { for (;;) yield } for (const _ of g());";
        in_a_getter "cpu" "return new Response('', { get status() { for (;;); } })";
        in_a_proxy_trap "cpu" "return new Response(new Proxy({}, { get() { for (;;); } }))";
        in_to_string "cpu" "return new URL({ toString() { for (;;); } })";
        in_a_sort "cpu" "[3, 1, 2].sort(() => { for (;;); })";
        in_a_replacer "cpu" "JSON.stringify({ a: 1 }, () => { for (;;); })";
        over_a_sparse_array "cpu memory exception" "const a = []; a.length = 2 ** 32 - 1; a.reverse(); a.sort(); for (;;) a.indexOf(7)";
        over_an_array_like "cpu" "Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1)";
        of_microtasks "cpu memory" "const f = () => Promise.resolve().then(f); f(); return new Promise(() => {})";
        of_queued_microtasks "cpu memory" "const f = () => queueMicrotask(f); f(); return new Promise(() => {})";
        of_awaits "cpu memory" "for (;;) await null";
        of_thenables "cpu memory" "const t = { then(f) { f(t) } }; await t";
        of_async_generators "cpu" "async function* g() { for (;;) yield } for await (const _ of g());";
        after_the_response "cpu" "ctx.waitUntil((async () => { for (;;) await null })()); return new Response('held')";
        big_number_power "cpu exception memory" "let n = 3n; for (;;) n **= 3n";
        big_number_text "cpu exception memory" "return new Response(String((1n << 20_000_000n).toString().length))";
    }

    module_attacks! {
        at_the_top_level "cpu" "for (;;);";
        at_the_top_level_awaiting "cpu" "for (;;) await null";
    }

    #[tokio::test]
    async fn of_timers() {
        for flood in ["const f = () => setTimeout(f); f()", "setInterval(() => {}, 0)"] {
            let mut worker = worker(&handler(&format!("{flood}; return new Promise(() => {{}})")));
            worker.limits.wall_ms = 150;
            let ran = run(image(), worker).await;
            assert!(matches!(ran.answer, Err(Outcome::Wall | Outcome::Cpu)), "{ran:?}");
        }
        assert_serves(image()).await;
    }
}

mod regex {
    use super::*;

    attacks! {
        nested_quantifiers "cpu memory exception" "/^(a+)+$/.test('a'.repeat(40) + 'b')";
        alternation "cpu memory exception" "/^(a|a)*$/.test('a'.repeat(40) + 'b')";
        polynomial "cpu memory exception" "/a*a*a*a*a*a*a*a*b/.test('a'.repeat(2_000))";
        backreference "cpu memory exception" r"/^(.*)(.*)(.*)(.*)(.*)(.*)\1\2\3\4\5\6x$/.test('a'.repeat(200))";
        lookbehind "cpu memory exception" "/(?<=c(a+)+)b$/.test('a'.repeat(40) + 'b')";
        lookahead "cpu memory exception" "/^(?=(a+)+c)a/.test('a'.repeat(40) + 'b')";
        counted "cpu memory exception" "/^(?:(?:a?){20}){20}c/.test('a'.repeat(400))";
        alternatives "ok cpu memory" "new RegExp(Array.from({ length: 2e4 }, (_, i) => 'w' + i).join('|')).test('w'.repeat(1e4)); return new Response('held')";
        captures_without_a_choice "ok cpu memory exception" "/(?:(a)b){2000000}/.test('ab'.repeat(1e6)); return new Response('held')";
        deep_lookaheads "ok exception" "try { new RegExp('(?='.repeat(500) + ')'.repeat(500)).test('') } catch {} return new Response('held')";
        long_subject "ok cpu memory exception" "/(?:x|y)*z/.test('x'.repeat(5e6)); return new Response('held')";
        nested_groups "ok exception" "try { new RegExp('('.repeat(1e5) + ')'.repeat(1e5)) } catch { return new Response('held') }";
        nested_classes "ok exception" "try { new RegExp('['.repeat(1e5) + ']'.repeat(1e5), 'v') } catch { return new Response('held') }";
        nested_lookaheads "ok exception" "try { new RegExp('(?='.repeat(1e5) + ')'.repeat(1e5)) } catch { return new Response('held') }";
        many_captures "ok exception" "try { new RegExp('()'.repeat(1e5)).exec('') } catch { return new Response('held') }";
        huge_repeat "ok cpu memory exception" "try { /((a{1,2000}){1,2000}){1,2000}$/.test('a'.repeat(5e4) + 'b') } catch {} return new Response('held')";
    }
}

mod deep {
    //! Every recursion ends in an error that the guest can catch, never in the end of the isolate by a trap (`internal`).
    use super::*;

    attacks! {
        calls "ok" "const f = () => 1 + f(); try { f() } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        calls_caught_at_the_bottom "ok cpu" "const f = () => { try { f() } catch { try { f() } catch {} } }; f(); return new Response('held')";
        calls_with_many_arguments "ok exception memory cpu" "const f = (...a) => f(...a, 1); try { f(...Array(5_000)) } catch { return new Response('held') }";
        apply_of_a_long_array "ok" "try { Math.max.apply(null, Array(5e6)) } catch {} return new Response('held')";
        getter "ok" "const o = { get a() { return this.a } }; try { o.a } catch { return new Response('held') }";
        setter "ok" "const o = { set a(v) { this.a = v } }; try { o.a = 1 } catch { return new Response('held') }";
        to_string "ok" "const o = { toString() { return '' + o } }; try { '' + o } catch { return new Response('held') }";
        to_primitive "ok" "const o = { [Symbol.toPrimitive]() { return +o } }; try { +o } catch { return new Response('held') }";
        proxy_of_itself "ok" "const h = {}; const p = new Proxy({}, h); h.get = () => p.x; try { p.x } catch { return new Response('held') }";
        proxy_as_its_prototype "ok" "const p = new Proxy({}, {}); try { Object.setPrototypeOf(p, Object.create(p)); p.x } catch {} return new Response('held')";
        chain_of_proxies "ok memory cpu" "let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); try { p.x; p.x = 1; delete p.x; 'x' in p; Object.keys(p) } catch {} return new Response('held')";
        chain_of_callable_proxies "ok memory cpu" "let p = () => 1; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); try { p(); new p() } catch {} return new Response('held')";
        chain_of_bound_functions "ok cpu memory" "let f = () => 1; for (let i = 0; i < 1e5; i++) f = f.bind(null); try { f(); ({}) instanceof f } catch {} return new Response('held')";
        chain_of_prototypes "ok cpu memory" "let o = {}; for (let i = 0; i < 2e5; i++) o = Object.create(o); o.x; 'x' in o; try { for (const k in o); } catch {} return new Response('held')";
        json_parse "ok" "try { JSON.parse('['.repeat(1e6)) } catch { return new Response('held') }";
        json_parse_objects "ok" "try { JSON.parse('{\"a\":'.repeat(3e5)) } catch { return new Response('held') }";
        json_parse_kept "ok cpu memory" "let v = JSON.parse('['.repeat(9e4) + ']'.repeat(9e4)); try { JSON.stringify(v) } catch (e) { if (!(e instanceof RangeError)) throw e } v = null; return new Response('held')";
        json_stringify "ok cpu memory" "let o = {}; for (let i = 0; i < 1e5; i++) o = { o }; try { JSON.stringify(o) } catch { return new Response('held') }";
        json_revived "ok" "let s = '[]'; try { JSON.parse('['.repeat(2e3) + ']'.repeat(2e3), function (k, v) { return JSON.parse('[1]', () => JSON.parse(s)) }) } catch {} return new Response('held')";
        array_to_string "ok cpu memory" "const a = []; a[0] = a; let b = []; for (let i = 0; i < 1e5; i++) b = [b]; try { String(a); String(b) } catch { return new Response('held') }";
        array_flat "ok cpu memory" "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; try { a.flat(Infinity) } catch {} return new Response('held')";
        structured_clone "ok cpu memory" "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; try { structuredClone(a) } catch {} return new Response('held')";
        logged "ok cpu memory" "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; try { console.log(a) } catch {} return new Response('held')";
        error_causes "ok cpu memory" "let e; for (let i = 0; i < 1e5; i++) e = new Error('x', { cause: e }); try { console.error(e); reportError(e) } catch {} return new Response('held')";
        freed_list "ok cpu memory" "let l; for (let i = 0; i < 2e5; i++) l = { l }; l = null; return new Response('held')";
        freed_closures "ok cpu memory" "let f = () => 1; for (let i = 0; i < 1e5; i++) { const g = f; f = () => g } f = null; return new Response('held')";
        promise_chain "ok cpu memory" "let p = Promise.resolve(); for (let i = 0; i < 3e4; i++) { const q = p; p = new Promise(r => r(q)) } await p; return new Response('held')";
        source_of_a_function "ok" "try { new Function('return ' + '('.repeat(1e5) + ')'.repeat(1e5)) } catch { return new Response('held') }";
        instanceof_chain "ok" "const C = { [Symbol.hasInstance](v) { return v instanceof C } }; try { ({}) instanceof C } catch { return new Response('held') }";
        class_construction "ok" "class A { x = new A() } try { new A() } catch { return new Response('held') }";
        tagged_iterators "ok" "let i = [1].values(); for (let n = 0; n < 1e4; n++) i = i.map(x => x); try { i.next() } catch {} return new Response('held')";
        five_thousand_frames "ok" "const f = n => n ? f(n - 1) + 1 : 0; if (f(5_000) === 5_000) return new Response('held')";
        iterator_helpers "ok" "let i = [1].values(); for (let n = 0; n < 3e4; n++) i = i.map(x => x).filter(() => true).take(5).drop(0); try { i.toArray() } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        iterator_helpers_flat "ok" "let i = [1].values(); for (let n = 0; n < 3e4; n++) i = i.flatMap(x => [x]); try { i.next() } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        iterator_concat "ok" "let i = [1].values(); for (let n = 0; n < 3e4; n++) i = Iterator.concat(i); try { i.next() } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        iterator_helpers_return "ok" "let i = [1].values(); for (let n = 0; n < 1e5; n++) i = i.map(x => x); try { i.return() } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        generators_delegating "ok" "function* g() { yield* g() } try { g().next() } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        chain_of_generators "ok" "let i = [1].values(); const w = function* (x) { yield* x }; for (let n = 0; n < 3e4; n++) i = w(i); try { i.next() } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        async_functions "ok" "const f = async n => n ? 1 + await f(n - 1) : 0; try { await f(1e5) } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        class_extends_chain "ok" "let C = class {}; for (let i = 0; i < 3e4; i++) C = class extends C {}; try { new C() } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        spread_of_itself "ok" "const o = { [Symbol.iterator]() { return [...o] } }; try { [...o] } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        comparator "ok" "const f = () => [2, 1].sort(f); try { f() } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        destructuring_of_itself "ok" "const o = { get a() { const { a } = o; return a } }; try { o.a } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        proxy_chain_prototype "ok memory cpu" "let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); try { Object.getPrototypeOf(p) } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        proxy_chain_keys "ok memory cpu" "let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); try { Object.keys(p) } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        proxy_chain_define "ok memory cpu" "let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); try { Object.defineProperty(p, 'x', { value: 1 }) } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        prototypes_of_proxies "ok memory cpu" "let o = {}; for (let i = 0; i < 1e5; i++) o = Object.create(new Proxy(o, {})); try { 'x' in o } catch (e) { if (e instanceof RangeError) return new Response('held') }";
        expression_of_groups "ok" "try { new RegExp('(?:'.repeat(1e5) + ')'.repeat(1e5)) } catch (e) { if (e instanceof SyntaxError) return new Response('held') }";
        concatenation "ok cpu memory" "let s = 'a'; for (let i = 0; i < 2e5; i++) s = i + s; if (s.charCodeAt(3) && JSON.stringify(s)) return new Response('held')";
        source_in_any_nesting "ok cpu" "
            const nestings = [['(', ')'], ['[', ']'], ['({a:', '})'], ['`${', '}`'], ['-~', ''], ['!', ''], ['typeof ', ''], ['new ', ''], ['1?1:', ''], ['1?', ':1'], ['a[', ']'],
                ['f(', ')'], ['2**', ''], ['a=', ''], ['[...', ']'], ['f(...', ')'], ['()=>', ''], ['function(){return ', '}'], ['class{a=', '}'], ['class extends ', '{}'],
                ['class{m(){return ', '}}'], ['class{[', '](){}}'], ['{get a(){return ', '}}'], ['import(', ')'], ['(a=', ')=>1'], ['[a=', ']=1']];
            for (const [open, close] of nestings) {
                try { new Function('return ' + open.repeat(2e4) + 'a' + close.repeat(2e4)) } catch (e) { if (!(e instanceof RangeError || e instanceof SyntaxError)) throw e }
            }
            return new Response('held')";
        source_in_any_statement "ok cpu" "
            for (const [open, close] of [['{', '}'], ['if(1)', ''], ['if(1);else ', ''], ['for(;;)', ''], ['for(a of b)', ''], ['while(1)', ''], ['do ', ''], ['try{', '}finally{}'],
                ['try{}catch{', '}'], ['switch(1){case 1:', '}'], ['function f(){', '}'], ['function*f(){', '}'], ['const [', ']=1'], ['const {a:', '}=1']]) {
                try { new Function(open.repeat(2e4) + ';' + close.repeat(2e4)) } catch (e) { if (!(e instanceof RangeError || e instanceof SyntaxError)) throw e }
            }
            return new Response('held')";
        events "ok" "const t = new EventTarget(); t.addEventListener('a', () => t.dispatchEvent(new Event('a'))); try { t.dispatchEvent(new Event('a')) } catch {} return new Response('held')";
    }

    module_attacks! {
        source_of_arrays "startup cpu" format!("export default {}{}", "[".repeat(100_000), "]".repeat(100_000));
        source_of_blocks "startup cpu" format!("{}{}", "{".repeat(100_000), "}".repeat(100_000));
        source_of_functions "startup cpu" format!("export default {}1", "()=>".repeat(100_000));
        source_of_templates "startup cpu" format!("export default {}", "`${".repeat(100_000));
        source_of_operators "startup ok exception cpu" format!("export default {}1", "-~".repeat(100_000));
        source_of_patterns "startup cpu" format!("const {}a{} = 1", "[".repeat(100_000), "]".repeat(100_000));
        source_of_optional_chains "startup ok exception cpu" format!("export default {{}}{}", "?.a".repeat(100_000));
        source_of_conditionals "startup ok exception cpu" format!("export default {}1", "1?1:".repeat(100_000));
    }
}

mod bombs {
    use super::*;

    attacks! {
        arrays "memory cpu" "const a = []; for (;;) a.push([a])";
        buffers "memory cpu" "const a = []; for (;;) a.push(new ArrayBuffer(1 << 20))";
        growing_buffer "memory cpu exception" "const b = new ArrayBuffer(8, { maxByteLength: 2 ** 31 - 1 }); b.resize(2 ** 31 - 1)";
        one_buffer "memory cpu exception" "new ArrayBuffer(2 ** 32)";
        maps "memory cpu" "const m = new Map(); for (let i = 0; ; i++) m.set(i, {})";
        map_of_colliding_keys "memory cpu" "const b = new DataView(new ArrayBuffer(8)); const m = new Map(); for (let i = 1; ; i++) { b.setUint32(0, i); b.setUint32(4, Math.imul(i, 0x85EBCA6B)); m.set(b.getFloat64(0), i) }";
        property_names "memory cpu" "const o = {}; for (let i = 0; ; i++) o['p' + i] = i";
        symbols "memory cpu" "const a = []; for (;;) a.push(Symbol.for('s' + a.length))";
        closures "memory cpu" "const a = []; for (;;) { const x = a.length; a.push(() => x) }";
        strings "memory cpu exception" "let s = 'x'; for (;;) s += s";
        strings_kept "memory cpu" "const a = []; for (;;) a.push('x'.repeat(1e5) + a.length)";
        repeat "ok memory" "try { 'x'.repeat(2 ** 29); } catch { return new Response('held') }";
        pad "ok memory" "try { 'x'.padStart(2 ** 30) } catch { return new Response('held') }";
        join "ok memory" "try { Array(2 ** 28).join('xxxxxxxx') } catch { return new Response('held') }";
        concat_spread "memory cpu exception" "let a = [1]; for (;;) a = [...a, ...a]";
        replace_all "memory cpu exception" "let s = 'x'.repeat(1e4); s.replaceAll('x', s).replaceAll('x', s)";
        json_text "memory cpu exception" "const o = Array(1e6).fill('\\u0000'.repeat(100)); JSON.stringify(o)";
        json_indent "memory cpu exception" "let o = {}; for (let i = 0; i < 500; i++) o = { o, a: Array(2_000).fill(0) }; JSON.stringify(o, null, '          ')";
        json_giant "memory cpu" "JSON.parse('[' + '[],'.repeat(1e7) + '[]]')";
        typed_array_fill "memory cpu" "const a = []; for (;;) a.push(new Float64Array(1e6).fill(1))";
        split "memory cpu" "'x'.repeat(1e7).split('')";
        match_all "memory cpu" "[...'x'.repeat(5e6).matchAll(/x/g)]";
        errors_with_stacks "memory cpu" "const a = []; for (;;) a.push(new Error('x'.repeat(100)))";
        generators "memory cpu" "const a = []; for (;;) { const g = (function* () { yield a })(); g.next(); a.push(g) }";
        weak_references "memory cpu" "const a = []; const r = new FinalizationRegistry(() => {}); for (;;) { const o = {}; a.push(new WeakRef(o), o); r.register(o, 1) }";
        promises_pending "memory cpu" "const a = []; for (;;) a.push(new Promise(() => {}).then(() => {}))";
        promises_rejected "memory cpu" "for (;;) Promise.reject(new Error())";
        microtasks_queued "memory cpu" "for (;;) queueMicrotask(() => {})";
        timers "memory cpu" "for (;;) setTimeout(() => {}, 1e6)";
        listeners "memory cpu" "const t = new EventTarget(); for (;;) t.addEventListener('a', () => {})";
        headers "memory cpu exception" "const h = new Headers(); for (let i = 0; ; i++) h.append('n' + i, 'x'.repeat(1_000))";
        search_params "memory cpu" "const p = new URLSearchParams(); for (let i = 0; ; i++) p.append('n', 'x'.repeat(1_000))";
        blobs "memory cpu" "const a = []; for (;;) a.push(new Blob(['x'.repeat(1e5)]))";
        stream_queue "memory cpu" "new ReadableStream({ start(c) { for (;;) c.enqueue(new Uint8Array(1e5)) } })";
        tee "memory cpu" "const s = new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(1e5)) } }); const [a] = s.tee(); for await (const _ of a);";
        message_channel "memory cpu" "const { port1 } = new MessageChannel(); for (;;) port1.postMessage('x'.repeat(1e5))";
        structured_clones "memory cpu" "let a = [new Uint8Array(1e5)]; for (;;) a = structuredClone([a, a])";
        encoded_text "memory cpu exception" "const a = []; const s = 'é'.repeat(4e6); for (;;) a.push(new TextEncoder().encode(s))";
        form_data "memory cpu" "const f = new FormData(); for (;;) f.append('n', 'x'.repeat(1e5))";
        url_pattern "ok exception" "try { new URLPattern({ pathname: '{('.repeat(1e4) }) } catch { return new Response('held') }";
    }

    #[tokio::test]
    async fn decompression() {
        // 64 MiB of zeros, compressed by the guest itself piece by piece.
        let body = "
            const pack = new CompressionStream('gzip');
            const write = (async () => { const w = pack.writable.getWriter(); for (let i = 0; i < 64; i++) await w.write(new Uint8Array(1 << 20)); await w.close() })();
            const packed = await new Response(pack.readable).arrayBuffer(); await write;
            const all = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
            return new Response(String(all.byteLength))";
        let mut worker = worker(&handler(body));
        worker.limits = Limits { cpu_ms: 5_000, wall_ms: 20_000, ..tight() };
        assert_eq!(run(image(), worker).await.answer, Err(Outcome::Memory));
        assert_serves(image()).await;
    }

    /// 64 MiB of zeros in Brotli with the largest window.
    const BROTLI: &[u8] = &[
        0xcf, 0xff, 0xff, 0x7f, 0x00, 0x24, 0x00, 0xe2, 0xb1, 0x40, 0x72, 0xef, 0xff, 0xf9, 0xff, 0xff, 0x0f, 0x80, 0x04, 0x40, 0x1c, 0x16,
        0x80, 0xee, 0xfd, 0x3f, 0xff, 0xff, 0xff, 0x01, 0x90, 0x00, 0x88, 0xc3, 0x02, 0xd0, 0xbd, 0xff, 0xcf, 0xff, 0xff, 0x7f, 0x00, 0x12,
        0x00, 0x71, 0x58, 0x00, 0xba, 0xf7, 0xff,
    ];

    async fn brotli(body: &str) -> crate::worlds::Ran {
        let mut worker = worker(&handler(body));
        worker.limits = Limits { cpu_ms: 10_000, wall_ms: 20_000, subrequests: 1_000, ..tight() };
        worker.outbound = Some(Arc::new(crate::worlds::InBrotli(BROTLI)));
        let ran = run(image(), worker).await;
        assert!(ran.report.meter.memory_peak_bytes <= 48 << 20, "{:?}", ran.report.meter);
        assert_serves(image()).await;
        ran
    }

    #[tokio::test]
    async fn brotli_in_one_go() {
        let ran = brotli("return new Response(await (await fetch('http://a/')).bytes())").await;
        assert_eq!(ran.answer, Err(Outcome::Memory));
    }

    /// A decoder gives all of a piece of input before it is asked for the next.
    #[tokio::test]
    async fn brotli_as_a_stream() {
        let ran = brotli("for await (const _ of (await fetch('http://a/')).body);").await;
        assert_eq!(ran.answer, Err(Outcome::Memory));
    }
}

mod boundary {
    //! What goes to the host comes from getters, proxies and overwritten prototypes.
    use super::*;

    attacks! {
        url_that_throws "ok" "try { new URL({ toString() { throw 1 } }) } catch (e) { if (e === 1) return new Response('held') }";
        url_that_changes "ok" "let n = 0; try { new URL({ toString() { return n++ ? 'javascript:1' : 'http://a/' } }).href } catch {} return new Response(n === 1 ? 'held' : 'read ' + n)";
        url_giant "ok memory" "try { new URL('http://a/' + 'é'.repeat(2e6)) } catch {} return new Response('held')";
        url_lone_surrogates "ok" r"const u = new URL('http://a/\ud800?\udc00#\udfff\0'); return new Response(u.href.includes('%EF%BF%BD') ? 'held' : u.href)";
        url_host_of_marks "ok" r"for (const c of ['\0', '%00', '\u202e', 'xn--', 'xn--\uffff', '[::', '1.2.3.4.5.6', '0x' + 'f'.repeat(1e4), 'ß'.repeat(1e4)]) try { new URL('http://' + c + '/') } catch {} return new Response('held')";
        fetch_init_with_getters "ok" "
            const bad = n => ({ get [n]() { throw new Error(n) } });
            for (const n of ['method', 'headers', 'body', 'redirect', 'signal', 'cf', 'integrity']) try { await fetch('http://a/', bad(n)) } catch (e) { if (!e.message.includes(n)) throw e }
            return new Response('held')";
        fetch_init_proxy "ok" "try { await fetch('http://a/', new Proxy({}, { get(t, k) { return new Proxy(() => {}, {}) } })) } catch {} return new Response('held')";
        fetch_url_with_nul_and_newline "ok" r"for (const u of ['http://a/\r\nX: y', 'http://a\0b/', 'file:///etc/passwd', 'data:,x', 'unix:/x', '//']) try { await fetch(u) } catch {} return new Response('held')";
        fetch_method_injection "ok" r"try { await fetch('http://a/', { method: 'GET / HTTP/1.1\r\nX: y' }) } catch { return new Response('held') }";
        header_injection "ok" r"let n = 0; for (const v of ['a\r\nb: c', 'a\0', 'a\nb']) try { new Headers({ x: v }) } catch { n++ } return new Response(n === 3 ? 'held' : String(n))";
        headers_from_a_proxy "ok" "try { new Headers(new Proxy([['a', 'b']], { get(t, k, r) { if (k === Symbol.iterator) return function* () { yield ['a', { toString() { throw 7 } }] }; return Reflect.get(t, k, r) } })) } catch (e) { if (e === 7) return new Response('held') }";
        headers_from_an_endless_iterator "cpu memory" "new Headers({ *[Symbol.iterator]() { for (let i = 0; ; i++) yield ['n' + i, 'v'] } })";
        body_that_is_a_proxy "ok" "try { await new Response(new Proxy(new Uint8Array(4), {})).text() } catch {} return new Response('held')";
        body_detached_while_read "ok" "const b = new Uint8Array(1e5); const r = new Response(b); structuredClone(b, { transfer: [b.buffer] }); await r.text(); return new Response('held')";
        digest_of_a_resized_buffer "ok" "const b = new ArrayBuffer(1e5, { maxByteLength: 1e6 }); const v = new Uint8Array(b); const p = crypto.subtle.digest('SHA-256', v); b.resize(0); try { await p } catch {} return new Response('held')";
        algorithm_getters "ok" "
            let n = 0; const shrink = new ArrayBuffer(64, { maxByteLength: 64 });
            const alg = { name: 'HMAC', get hash() { n++; shrink.resize(0); return 'SHA-256' } };
            try { await crypto.subtle.importKey('raw', new Uint8Array(shrink), alg, true, ['sign']) } catch {} return new Response('held')";
        random_too_much "ok" "try { crypto.getRandomValues(new Uint8Array(65_537)) } catch { return new Response('held') }";
        kdf_without_end "ok" "
            const k = await crypto.subtle.importKey('raw', new Uint8Array(8), 'PBKDF2', false, ['deriveBits']);
            try { await crypto.subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-512', salt: new Uint8Array(8), iterations: 4294967295 }, k, 512) } catch { return new Response('held') }";
        keys_of_garbage "ok" "
            const garbage = [new Uint8Array(0), new Uint8Array(300).fill(255), crypto.getRandomValues(new Uint8Array(200)), new Uint8Array([48, 130, 255, 255, 2, 1, 0])];
            for (const format of ['raw', 'pkcs8', 'spki', 'jwk']) for (const name of ['ECDSA', 'ECDH', 'Ed25519', 'X25519', 'RSA-PSS', 'RSA-OAEP', 'AES-GCM', 'AES-KW'])
                for (const data of garbage) try { await crypto.subtle.importKey(format, format === 'jwk' ? { kty: 'RSA', n: 'AA', e: 'AQ', crv: 'P-256', x: 'zz', y: '' } : data, { name, namedCurve: 'P-256', hash: 'SHA-256' }, true, []) } catch {}
            return new Response('held')";
        inflate_of_garbage "ok" "
            for (const format of ['gzip', 'deflate', 'deflate-raw']) for (let i = 0; i < 20; i++)
                try { await new Response(new Blob([crypto.getRandomValues(new Uint8Array(500))]).stream().pipeThrough(new DecompressionStream(format))).arrayBuffer() } catch {}
            return new Response('held')";
        decoders_of_garbage "ok" "
            for (const label of ['utf-8', 'utf-16le', 'utf-16be', 'shift_jis', 'gb18030', 'big5', 'euc-kr', 'iso-2022-jp', 'x-user-defined', 'replacement', '\\0', 'x'.repeat(1e5)])
                try { const d = new TextDecoder(label); for (let i = 0; i < 20; i++) d.decode(crypto.getRandomValues(new Uint8Array(99)), { stream: true }) } catch {}
            return new Response('held')";
        clone_of_traps "ok" "
            const traps = new Proxy({}, { ownKeys() { return ['a', 'a'] } });
            for (const v of [traps, { get a() { throw 1 } }, () => {}, Symbol(), new WeakMap(), new Proxy([], {})]) try { structuredClone(v) } catch {}
            return new Response('held')";
        clone_that_changes_while_cloned "ok" "const a = Array(100).fill(0); Object.defineProperty(a, 3, { get() { a.length = 0; return 1 } }); structuredClone(a); return new Response('held')";
        species "ok" "class A extends Array { static get [Symbol.species]() { return function (n) { return new Proxy([], {}) } } } try { A.from([1, 2, 3]).map(x => x).concat([4]) } catch {} return new Response('held')";
        sort_that_shrinks "ok" "const a = Array.from({ length: 1_000 }, (_, i) => i); a.sort((x, y) => { a.length = 0; return x - y }); return new Response('held')";
        resized_under_an_algorithm "ok" "
            const b = new ArrayBuffer(1024, { maxByteLength: 4096 }); const t = new Uint8Array(b);
            t.sort((x, y) => { b.resize(0); return x - y }); b.resize(4096);
            try { t.set({ length: 4, get 0() { b.resize(0); return 1 } }); t.fill({ valueOf() { b.resize(1); return 1 } }) } catch {}
            try { new DataView(b).setFloat64({ valueOf() { b.resize(0); return 0 } }, 1) } catch {}
            return new Response('held')";
        numbers_out_of_range "ok" "
            for (const n of [NaN, Infinity, -Infinity, -0, 2 ** 53, -1, 1e308, 2 ** 31, 2 ** 32]) for (const f of [
                () => clearTimeout(n), () => clearTimeout(setTimeout(() => {}, n)), () => new Response('', { status: n }), () => new Date(n).toISOString(), () => 'x'.at(n),
                () => crypto.getRandomValues(new Uint8Array(n)), () => new ReadableStream({}, { highWaterMark: n }), () => AbortSignal.timeout(n), () => new Blob(['x']).slice(n, n),
            ]) try { f() } catch {}
            return new Response('held')";
        overwritten_globals "ok exception" "
            Object.prototype.then = undefined; Promise.prototype.then = () => { throw 1 }; Array.prototype.push = Array.prototype.map = () => { throw 2 };
            Object.defineProperty(Object.prototype, 'get', { value() {}, configurable: true }); Array.prototype[Symbol.iterator] = function* () {};
            Uint8Array.prototype.set = () => { throw 3 }; JSON.stringify = Map = Promise = undefined;
            return new Response('held')";
        setters_on_prototypes "ok" "
            const seen = []; for (const k of ['0', '1', 'status', 'headers', 'body', 'value', 'done', 'url', 'method'])
                Object.defineProperty(Object.prototype, k, { __proto__: null, set(v) { seen.push(v) }, get() { return undefined }, configurable: true });
            let r; try { r = new Response('held') } catch { r = new Response('held') } return r";
        the_raw_host_is_out_of_reach "ok" "
            const names = Object.getOwnPropertyNames(globalThis).filter(n => /__host|^std$|^os$|bjson|scriptArgs|^print$/.test(n));
            const stack = new Error().stack; const callers = (() => { try { return arguments.callee.caller } catch {} })();
            return new Response(names.length || callers ? names.join() : 'held')";
        streams_used_twice "ok" "
            const { readable, writable } = new TransformStream(); const r = new Response(readable); let n = 0;
            for (const f of [() => new Response(readable), () => readable.getReader(), () => readable.tee(), () => r.clone()]) try { f() } catch { n++ }
            const w = writable.getWriter(); w.close().catch(() => {}); try { await w.write('x') } catch { n++ } try { await r.text(); await r.text() } catch { n++ }
            return new Response('held')";
        socket_after_close "ok" "
            const [a, b] = Object.values(new WebSocketPair()); a.accept(); b.accept(); a.close(1000, 'x'); let n = 0;
            for (const f of [() => a.send('x'), () => a.close(5), () => a.accept(), () => b.send(new Uint8Array(1e5)), () => b.close(1000, 'y'.repeat(200)), () => new Response(null, { status: 101, webSocket: a })]) try { f() } catch { n++ }
            return new Response('held')";
        stream_that_is_released_while_read "ok" "
            const s = new ReadableStream({ type: 'bytes', pull(c) { c.byobRequest?.respond(0) } }); const r = s.getReader({ mode: 'byob' });
            const p = r.read(new Uint8Array(8)).catch(() => {}); r.releaseLock(); await p; return new Response('held')";
    }

    #[tokio::test]
    async fn a_body_passed_on_twice_is_not_delivered_twice() {
        let source = handler(
            "const r = await fetch('http://a/', { method: 'POST', body: 'x' }); const s = request.body; return new Response(s ?? 'held')",
        );
        attack(source, "ok").await;
    }

    #[tokio::test]
    async fn floods_of_operations_are_refused_inside() {
        let flood = "const all = []; for (let i = 0; i < 2e5; i++) all.push(fetch('http://a/').then(r => r.status, e => e.name)); const kinds = new Set(await Promise.all(all)); return new Response(kinds.size > 1 ? 'held' : [...kinds].join())";
        attack(handler(flood), "ok cpu memory exception subrequests").await;
    }

    #[tokio::test]
    async fn a_flood_of_long_log_lines_does_not_fill_the_host() {
        let ledger = Arc::new(Ledger::default());
        let mut worker = worker(&handler(
            "const line = 'x'.repeat(1 << 20); for (let i = 0; i < 400; i++) console.log(line); return new Response('held')",
        ));
        worker.observer = ledger.clone();
        worker.limits.cpu_ms = 5_000;
        let ran = run(image(), worker).await;
        assert_eq!(ran.answer.as_deref(), Ok("held"));
        let lines = std::mem::take(&mut *ledger.lines.lock().unwrap());
        let kept: usize = lines.iter().map(String::len).sum();
        assert!(kept <= 1 << 20, "{kept} bytes of logs");
        assert!(lines.last().unwrap().contains("more lines were dropped"), "{:?}", lines.last());
        assert_serves(image()).await;
    }

    /// Much in one turn that nobody has taken yet: refused where the memory limit is reached, and the guest can go on.
    #[tokio::test]
    async fn a_flood_of_effect_bytes_is_refused_inside() {
        let floods = [
            "fetch('http://a/', { method: 'POST', body: bytes }).catch(e => { names.push(e.name) })",
            "socket.send(bytes)",
            "writer.write(bytes).catch(e => { names.push(e.name) })",
        ];
        for flood in floods {
            let mut worker = worker(&handler(&format!(
                "const names = [], bytes = new Uint8Array(4 << 20); const [client, socket] = Object.values(new WebSocketPair()); socket.accept();
                 const {{ readable, writable }} = new TransformStream(undefined, {{ highWaterMark: 1e9 }}); const writer = writable.getWriter();
                 fetch('http://a/', {{ method: 'POST', body: readable, duplex: 'half' }}).catch(() => {{}});
                 try {{ for (let i = 0; i < 60; i++) {{ {flood}; if (names.length) break; await null }} }} catch (e) {{ names.push(e.name) }}
                 return new Response('held')"
            )));
            worker.limits = Limits { cpu_ms: 5_000, subrequests: 1_000, ..tight() };
            worker.outbound = Some(Arc::new(Outside::Silent));
            let ran = run(image(), worker).await;
            assert!(matches!(ran.word(), "ok" | "memory"), "{flood}: {ran:?}");
            assert!(ran.report.meter.memory_peak_bytes <= 48 << 20, "{flood}: {:?}", ran.report.meter);
        }
        assert_serves(image()).await;
    }

    /// Each turn of the flood is refused what the turns before still hold.
    #[tokio::test]
    async fn a_flood_of_operations_over_many_turns_is_bounded() {
        let flood = "let kept = true; const again = () => { for (let i = 0; i < 2e3; i++) fetch('http://a/' + 'x'.repeat(5e3)).catch(() => kept && again()) }; again();
            await scheduler.wait(100); kept = false; return new Response('held')";
        let mut worker = worker(&handler(flood));
        worker.limits = Limits { subrequests: u32::MAX, pending: 8, ..tight() };
        worker.outbound = Some(Arc::new(Outside::Silent));
        let ran = run(image(), worker).await;
        assert!(matches!(ran.word(), "ok" | "memory" | "cpu" | "wall"), "{ran:?}");
        assert!(ran.report.meter.memory_peak_bytes <= 48 << 20, "{:?}", ran.report.meter);
        assert_serves(image()).await;
    }

    /// A stack may be any text: mapping it to the sources is bounded.
    #[tokio::test]
    async fn a_stack_of_a_million_lines_is_not_mapped_line_by_line() {
        let body = "const e = new Error('x'); e.stack = '    at f (main.js:1:1)\\n'.repeat(4e4); for (let i = 0; i < 20; i++) reportError(e); throw e";
        let mut worker = worker("");
        let map = format!(r#"{{"version":3,"sources":["a.ts"],"names":[],"mappings":"{}"}}"#, "AAAA,".repeat(200_000));
        let module = Module { kind: ModuleKind::JavaScript, content: handler(body).into(), source_map: Some(map.into()) };
        worker.code = Arc::new(Code { main: "main.js".into(), modules: [("main.js".to_owned(), module)].into() });
        worker.limits.cpu_ms = 5_000;
        let ran = run(image(), worker).await;
        assert_eq!(ran.word(), "exception", "{:.200}", format!("{ran:?}"));
    }
}

mod redirects {
    //! Servers, and workers behind service bindings, that lead a `fetch` astray.
    use super::*;
    use crate::worlds::Redirecting;

    const FETCH: &str = "try { await fetch('http://a.example/', { headers: { authorization: 's', cookie: 'c' } }) } catch (e) { return new Response(e.name + ': ' + e.message) }";

    async fn led(to: fn(usize) -> Option<String>, limits: Limits) -> (Arc<Redirecting>, crate::worlds::Ran) {
        let outside = Redirecting::new(to);
        let mut worker = worker(&handler(FETCH));
        worker.limits = limits;
        worker.outbound = Some(outside.clone());
        let ran = run(image(), worker).await;
        assert_serves(image()).await;
        (outside, ran)
    }

    #[tokio::test]
    async fn in_a_loop() {
        let (outside, ran) = led(|_| Some("/again".into()), Limits { subrequests: 100, ..tight() }).await;
        assert_eq!(ran.answer.as_deref(), Ok("TypeError: too many redirects"));
        assert_eq!((outside.asked.lock().unwrap().len(), ran.report.meter.subrequests), (21, 21));
    }

    #[tokio::test]
    async fn in_a_loop_beyond_the_limit_of_subrequests() {
        let (outside, ran) = led(|n| Some(format!("http://{n}.example/")), tight()).await;
        assert_eq!(ran.answer.as_deref(), Ok("Error: Too many subrequests."));
        assert_eq!((outside.asked.lock().unwrap().len(), ran.report.meter.subrequests), (8, 8));
    }

    #[tokio::test]
    async fn to_other_schemes() {
        let places: [fn(usize) -> Option<String>; 6] = [
            |_| Some("file:///etc/passwd".into()),
            |_| Some("data:text/plain,x".into()),
            |_| Some("javascript:1".into()),
            |_| Some("ftp://a.example/".into()),
            |_| Some("http://".into()),
            |_| Some(format!("/{}", "x".repeat(1 << 20))),
        ];
        for to in places {
            let (outside, ran) = led(to, tight()).await;
            assert!(ran.answer.as_ref().is_ok_and(|text| text.starts_with("TypeError: ")), "{ran:?}");
            assert_eq!(outside.asked.lock().unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn to_whoever_collects_credentials() {
        let (outside, _) = led(|n| (n < 3).then(|| ["/here", "//b.example/"][n - 1].into()), Limits { wall_ms: 100, ..tight() }).await;
        let asked = outside.asked.lock().unwrap();
        let of = |n: usize| asked[n].headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!((of(1), asked[1].url.as_str()), (vec!["authorization", "cookie"], "http://a.example/here"));
        assert_eq!((of(2), asked[2].url.as_str()), (vec![], "http://b.example/"));
    }

    /// What waits behind a redirect is on the isolate's account like what was sent first.
    #[tokio::test]
    async fn to_long_urls_that_never_answer() {
        let outside = Redirecting::new(|n| (n <= 3_000).then(|| format!("/{}", "x".repeat(16_000))));
        let mut worker = worker(&handler(
            "for (let i = 0; i < 3_000; i++) fetch('http://a.example/').catch(() => {}); await scheduler.wait(300); return new Response('held')",
        ));
        worker.limits = Limits { subrequests: 10_000, cpu_ms: 5_000, ..tight() };
        worker.outbound = Some(outside.clone());
        let ran = run(image(), worker).await;
        assert!(matches!(ran.word(), "ok" | "memory" | "wall"), "{ran:?}");
        assert!(ran.report.meter.memory_peak_bytes <= 48 << 20, "{:?}", ran.report.meter);
        let onward = outside.asked.lock().unwrap().len() - 3_000;
        assert!((1..1_500).contains(&onward), "{onward} went on");
        assert_serves(image()).await;
    }

    #[tokio::test]
    async fn by_a_worker_to_itself() {
        let mut other = worker(&handler("return Response.redirect('http://self/again')"));
        other.limits.subrequests = 100;
        let other = Isolate::start(image(), Arc::new(other));
        let mut worker = worker(&handler(
            "try { await env.OTHER.fetch('http://self/', { method: 'POST', body: 'x' }) } catch (e) { return new Response(e.name) }",
        ));
        worker.limits = Limits { subrequests: 100, ..tight() };
        worker.bindings.push(("OTHER".into(), Binding::Service(other.entrypoint(Entry::default()))));
        let ran = run(image(), worker).await;
        assert_eq!((ran.answer.as_deref(), ran.report.meter.subrequests), (Ok("TypeError"), 21));
        assert_serves(image()).await;
    }
}

mod rings {
    //! Workers that call one another, or themselves, without end.
    use super::*;

    const DEPTH: &str = "Subrequest depth limit exceeded";

    fn limits() -> Limits {
        Limits { subrequests: 100, cpu_ms: 10_000, wall_ms: 20_000, ..tight() }
    }

    /// Two workers, each with a service binding to the other, of which the first is called.
    async fn ring(source: &str) -> String {
        let late = Late::default();
        let start = |binding| {
            let mut worker = worker(source);
            worker.limits = limits();
            worker.bindings.push(("OTHER".into(), binding));
            Isolate::start(image(), Arc::new(worker))
        };
        let a = start(late.binding());
        let b = start(Binding::Service(a.entrypoint(Entry::default())));
        late.set(b.entrypoint(Entry::default()));
        let ran = get(&a).await;
        assert_serves(image()).await;
        ran.answer.unwrap()
    }

    fn assert_ended(answer: &str) {
        assert!(answer.starts_with("32 ") && answer.contains(DEPTH), "{answer}");
    }

    #[tokio::test]
    async fn of_service_calls_by_fetch() {
        let source = handler(
            "const n = Number(new URL(request.url).searchParams.get('n') ?? 0);
             try { return await env.OTHER.fetch('http://other/?n=' + (n + 1)) } catch (e) { return new Response(n + ' ' + e.message) }",
        );
        assert_ended(&ring(&source).await);
    }

    #[tokio::test]
    async fn of_service_calls_by_rpc() {
        let source = "import { WorkerEntrypoint } from 'cloudflare:workers';
            export default class extends WorkerEntrypoint {
                async again(n) { try { return await this.env.OTHER.again(n + 1) } catch (e) { return n + ' ' + e.message } }
                async fetch() { return new Response(await this.again(0)) }
            }";
        assert_ended(&ring(source).await);
    }

    /// Back and forth through functions passed by reference.
    #[tokio::test]
    async fn of_passed_functions() {
        let source = "import { WorkerEntrypoint } from 'cloudflare:workers';
            const back = f => async (n, g) => { try { return await g(n + 1, back(f)) } catch (e) { return n + ' ' + e.message } };
            export default class extends WorkerEntrypoint {
                start(f) { return f(1, back(f)) }
                async fetch() { return new Response(await this.env.OTHER.start(back())) }
            }";
        let answer = ring(source).await;
        assert!(answer.contains(DEPTH), "{answer}");
    }

    async fn alone(source: &str) -> String {
        let mut worker = worker(source);
        worker.limits = limits();
        let ran = run(image(), worker).await;
        assert_serves(image()).await;
        ran.answer.unwrap()
    }

    #[tokio::test]
    async fn of_one_worker_through_its_own_exports() {
        let fetching = "const n = Number(new URL(request.url).searchParams.get('n') ?? 0);
             try { return await ctx.exports.default.fetch('http://self/?n=' + (n + 1)) } catch (e) { return new Response(n + ' ' + e.message) }";
        assert_ended(&alone(&handler(fetching)).await);
        let calling = "import { WorkerEntrypoint } from 'cloudflare:workers';
            export class Self extends WorkerEntrypoint { async again(n) { try { return await this.ctx.exports.Self.again(n + 1) } catch (e) { return n + ' ' + e.message } } }
            export default { async fetch(request, env, ctx) { return new Response(await ctx.exports.Self.again(1)) } }";
        assert_ended(&alone(calling).await);
    }

    /// A loaded worker that is given a stub of its parent, which loads it again and again.
    #[tokio::test]
    async fn of_loaded_workers() {
        let source = "import { WorkerEntrypoint } from 'cloudflare:workers';
            const child = `export default { fetch(request, env) { return env.PARENT.fetch(request) } }`;
            export default { async fetch(request, env, ctx) {
                const n = Number(new URL(request.url).searchParams.get('n') ?? 0);
                const code = { compatibilityDate: '2026-01-01', mainModule: 'm.js', modules: { 'm.js': child }, env: { PARENT: ctx.exports.default } };
                try { return await env.LOADER.get('child', () => code).getEntrypoint().fetch('http://child/?n=' + (n + 2)) } catch (e) { return new Response(n + ' ' + e.message) }
            } }";
        let mut worker = worker(source);
        worker.limits = limits();
        worker.bindings.push(("LOADER".into(), Binding::Loader(Loader::new(image(), limits(), 8, Arc::new(JavaScriptOnly)))));
        let isolate = Isolate::start(image(), Arc::new(worker));
        assert_ended(&get(&isolate).await.answer.unwrap());
        assert_serves(image()).await;
    }

    /// Depth alone would allow 2³² of these.
    #[tokio::test]
    async fn of_a_tree() {
        let fetching = "const again = () => ctx.exports.default.fetch(request.url).then(() => {}, () => {});
             await Promise.all([again(), again()]); return new Response('held')";
        let mut worker = worker(&handler(fetching));
        worker.limits = Limits { wall_ms: 3_000, cpu_ms: 60_000, memory_mb: 128, ..tight() };
        let isolate = Isolate::start(image(), Arc::new(worker));
        let _ = get(&isolate).await;
        assert_serves(image()).await;
    }
}

mod channels {
    //! Stubs used in ways that their protocol does not foresee, between real workers.
    use super::*;

    const KEEPER: &str = "import { WorkerEntrypoint, RpcTarget } from 'cloudflare:workers';
        class Counter extends RpcTarget { n = 0; add() { return ++this.n } }
        let kept;
        export default class extends WorkerEntrypoint {
            counter() { return new Counter() }
            async both(a, b) { return [await a(), await b(), await a()] }
            keep(f) { kept = f.dup() }
            async kept() { try { return await kept() } catch (e) { return e.message } }
            twice(f) { return [f.dup(), f.dup()] }
        }";

    async fn answered(body: &str) -> String {
        let keeper = Isolate::start(image(), Arc::new(worker(KEEPER)));
        let mut worker = worker(&handler(body));
        worker.limits = Limits { subrequests: 100, ..tight() };
        worker.bindings.push(("KEEPER".into(), Binding::Service(keeper.entrypoint(Entry::default()))));
        let ran = run(image(), worker).await;
        assert_serves(image()).await;
        ran.answer.unwrap_or_else(|outcome| panic!("{outcome}"))
    }

    #[tokio::test]
    async fn one_stub_twice_in_one_message() {
        let body = "let n = 0; const f = () => ++n; return new Response(String(await env.KEEPER.both(f, f)))";
        assert_eq!(answered(body).await, "1,2,3");
    }

    #[tokio::test]
    async fn a_stub_sent_on_and_used_after() {
        let body = "using c = await env.KEEPER.counter(); const f = () => c.add(); const [a, b] = await env.KEEPER.twice(f);
            const got = [await a(), await b()]; a[Symbol.dispose](); let gone; try { await a() } catch (e) { gone = e.name }
            return new Response([...got, await b(), gone].join())";
        assert_eq!(answered(body).await, "1,2,3,Error");
    }

    #[tokio::test]
    async fn an_object_whose_worker_has_ended() {
        let keeper = Isolate::start(image(), Arc::new(worker(KEEPER)));
        let bound = |body: &str| {
            let mut worker = worker(&handler(body));
            worker.bindings.push(("KEEPER".into(), Binding::Service(keeper.entrypoint(Entry::default()))));
            worker
        };
        // The keeper holds the first one's function, and the first one is cut off.
        assert_eq!(run(image(), bound("await env.KEEPER.keep(() => 'alive'); for (;;);")).await.word(), "cpu");
        let ran = run(image(), bound("return new Response(await env.KEEPER.kept())")).await;
        assert!(ran.answer.as_deref().is_ok_and(|said| said.contains("ended")), "{ran:?}");
    }
}

mod modules {
    use super::*;

    fn several(modules: &[(&str, String)]) -> Worker {
        let mut code = Code { main: modules[0].0.into(), ..Code::default() };
        for (name, source) in modules {
            let module = Module { kind: ModuleKind::JavaScript, content: source.clone().into(), source_map: None };
            code.modules.insert((*name).into(), module);
        }
        let mut worker = worker("");
        worker.code = Arc::new(code);
        worker
    }

    #[tokio::test]
    async fn cycle() {
        let main = "import { b } from './b.js'; export const a = 'held'; export default { fetch() { return new Response(b()) } }";
        let other = "import { a } from './main.js'; export const b = () => a;";
        let ran = run(image(), several(&[("main.js", main.into()), ("b.js", other.into())])).await;
        assert_eq!(ran.answer.as_deref(), Ok("held"));
    }

    #[tokio::test]
    async fn cycle_that_reads_too_early() {
        let main = "import { b } from './b.js'; export const a = b; export default {}";
        let ran =
            run(image(), several(&[("main.js", main.into()), ("b.js", "import { a } from './main.js'; export const b = a;".into())])).await;
        assert!(matches!(&ran.answer, Err(Outcome::Startup(e)) if e.name == "ReferenceError"), "{ran:?}");
    }

    #[tokio::test]
    async fn cycle_of_awaits_ends() {
        let main = "await import('./b.js'); export default { fetch() { return new Response('held') } }";
        let ran = run(image(), {
            let mut w = several(&[("main.js", main.into()), ("b.js", "await import('./main.js')".into())]);
            w.limits.wall_ms = 300;
            w
        })
        .await;
        assert!(matches!(&ran.answer, Err(Outcome::Startup(e)) if e.message.contains("unsettled")), "{ran:?}");
        assert_serves(image()).await;
    }

    #[tokio::test]
    async fn export_of_itself() {
        let ran =
            run(image(), several(&[("main.js", "export * from './main.js'; export { x } from './main.js'; export default {}".into())]))
                .await;
        assert!(matches!(&ran.answer, Err(Outcome::Startup(_))), "{ran:?}");
    }

    #[tokio::test]
    async fn long_chain() {
        let names: Vec<String> = (0..3_000).map(|i| if i == 0 { "main.js".into() } else { format!("m{i}.js") }).collect();
        let sources: Vec<(&str, String)> = names
            .iter()
            .enumerate()
            .map(|(i, n)| {
                let next = names.get(i + 1).map_or(String::new(), |n| format!("import './{n}';"));
                (n.as_str(), format!("{next} export default {{ fetch() {{ return new Response('held') }} }}"))
            })
            .collect();
        let ran = run(image(), several(&sources)).await;
        assert!(matches!(ran.word(), "ok" | "startup"), "{:?}", ran.word());
        assert_serves(image()).await;
    }

    #[tokio::test]
    async fn code_of_64_mib() {
        let mut worker = worker(&format!("/*{}*/ export default {{}}", "x".repeat(64 << 20)));
        worker.limits.cpu_ms = 5_000;
        let ran = run(image(), worker).await;
        assert!(matches!(&ran.answer, Err(Outcome::Startup(e)) if e.message.contains("bytes")), "{:?}", ran.word());
        let mut worker = self::worker(&format!("/*{}*/ export default {{}}", "x".repeat(63 << 20)));
        worker.limits.cpu_ms = 5_000;
        assert_eq!(run(image(), worker).await.answer, Err(Outcome::Memory));
        assert_serves(image()).await;
    }
}

mod neighbours {
    use super::*;

    /// Everything a tenant can reach of the realm, changed.
    const POLLUTION: &str = "
        globalThis.polluted = 'here'; Object.prototype.polluted = 'here'; Array.prototype.map = () => ['polluted']; JSON.stringify = () => 'polluted';
        Response = Headers = URL = undefined; Object.freeze = Promise.prototype.then = null; crypto.randomUUID = Math.random = () => 4; Date.now = () => 0;
        for (const k of Reflect.ownKeys(String.prototype)) try { delete String.prototype[k] } catch {}
        Symbol.for('registered').polluted; Object.getPrototypeOf(async function* () {}).constructor.prototype = null;";

    #[tokio::test]
    async fn pollution_is_not_seen_by_the_next_tenant_of_the_slot() {
        let image = image_of_own(1);
        for ending in ["throw 1", "return 1", "for (;;);", "const a = []; for (;;) a.push(new ArrayBuffer(1e6))"] {
            let polluted = run(&image, worker(&handler(&format!("{POLLUTION} {ending}")))).await;
            assert_ne!(polluted.word(), "ok");
            assert_serves(&image).await;
        }
    }

    #[tokio::test]
    async fn pollution_is_not_seen_by_a_neighbour() {
        let mut polluting = worker(&format!("{POLLUTION} export default {{}}"));
        polluting.limits.wall_ms = 300;
        let polluter = Isolate::start(image(), Arc::new(polluting));
        // Whether it loads is its own affair; the call ends by its wall limit at the latest.
        get(&polluter).await;
        assert_serves(image()).await;
        drop(polluter);
    }

    /// Looks at all memory that a tenant can get: fresh buffers of many sizes, and large ones that grow the memory.
    const SEARCH: &str = "
        const dirty = [];
        for (const size of [1, 16, 64, 100, 500, 1000, 4000, 5000, 20_000, 70_000, 300_000, 1 << 20, 4 << 20]) for (let n = 0; n < 5; n++) {
            const a = new Uint8Array(size);
            if (a.some(b => b !== 0)) dirty.push(size);
        }
        const grown = new Uint8Array(8).buffer.transfer(3 << 20);
        if (new Uint8Array(grown).some(b => b !== 0)) dirty.push('grown');
        return new Response(dirty.join() || 'zero')";

    #[tokio::test]
    async fn a_freed_slot_reads_as_zero() {
        let image = image_of_own(1);
        // Little enough to be cleaned in place, much, all there is, and one that was cut off.
        let fills = [
            "10 * 4_096; i > 0; i -= 4_096) keep(4_096",
            "20 << 20; i > 0; i -= 1 << 16) keep(1 << 16",
            "1 << 30; i > 0; i -= 1 << 16) keep(1 << 16",
        ];
        for fill in fills {
            for ending in ["return new Response('filled')", "for (;;);"] {
                let body = format!(
                    "const kept = []; const keep = n => kept.push(new Uint8Array(n).fill(0xA5), 'SECRET'.repeat(100) + kept.length); for (let i = {fill}); {ending}"
                );
                let mut filler = worker(&handler(&body));
                filler.limits.cpu_ms = 1_000;
                run(&image, filler).await;
                let mut seeker = worker(&handler(SEARCH));
                (seeker.limits.cpu_ms, seeker.limits.wall_ms) = (5_000, 30_000);
                assert_eq!(run(&image, seeker).await.answer.as_deref(), Ok("zero"), "after {fill} {ending}");
            }
        }
    }

    #[tokio::test]
    async fn secrets_of_a_tenant_do_not_reach_the_next_snapshot() {
        let image = image_of_own(1);
        let secret = "SECRET-7f3a9c51-SECRET";
        let mut first = worker(&handler("globalThis.kept = env.KEY.repeat(50); return new Response('held')"));
        first.bindings.push(("KEY".into(), Binding::Text(secret.into())));
        assert_eq!(run(&image, first).await.answer.as_deref(), Ok("held"));
        let next = Isolate::start(&image, Arc::new(worker("export const f = () => 1; export default {}")));
        call(&next, "f").await.unwrap();
        let bytes = next.snapshot().await.unwrap().to_bytes();
        // Behind the header and the list of lost operations (none) lie the pages.
        let frame = bytes.windows(4).position(|w| w == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
        let pages = zstd::bulk::decompress(&bytes[frame..bytes.len() - 4], 64 << 20).unwrap();
        assert!(!pages.windows(secret.len()).any(|w| w == secret.as_bytes()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_tenant_that_spins_on_every_core_does_not_stop_the_others() {
        let image = image_of_own(16);
        let spinners: Vec<_> = (0..8)
            .map(|_| {
                let mut spinner = worker(&handler("for (;;);"));
                spinner.limits.cpu_ms = 1_500;
                let image = image.clone();
                tokio::spawn(async move { run(&image, spinner).await })
            })
            .collect();
        let other = Isolate::start(&image, Arc::new(worker(&handler("return new Response('held')"))));
        for _ in 0..50 {
            assert_eq!(get(&other).await.answer.as_deref(), Ok("held"));
        }
        assert!(spinners.iter().any(|s| !s.is_finished()), "fifty small requests took longer than twelve seconds of spinning");
        for spinner in spinners {
            assert_eq!(spinner.await.unwrap().answer, Err(Outcome::Cpu));
        }
    }

    #[tokio::test]
    async fn a_full_engine_makes_the_next_wait_and_then_serves_it() {
        let image = image_of_own(2);
        let held: Vec<Isolate> =
            (0..2).map(|_| Isolate::start(&image, Arc::new(worker(&handler("return new Response('held')"))))).collect();
        for isolate in &held {
            isolate.ready().await.unwrap();
        }
        assert_eq!(image.engine().free_slots(), 0);
        let third = Isolate::start(&image, Arc::new(worker(&handler("return new Response('held')"))));
        let waiting = get(&third);
        drop(held);
        assert_eq!(waiting.await.answer.as_deref(), Ok("held"));
    }

    #[tokio::test]
    async fn a_caller_that_leaves_ends_the_call() {
        let isolate = Isolate::start(
            image(),
            Arc::new(worker(&handler(
                "if (request.url.endsWith('hang')) await new Promise(r => setTimeout(r, 60_000)); return new Response('held')",
            ))),
        );
        let hang = skep_isolate::Request { method: "GET".into(), url: "http://worker/hang".into(), ..Default::default() };
        let left = tokio::time::timeout(std::time::Duration::from_millis(50), isolate.fetch(skep_isolate::Entry::default(), hang)).await;
        assert!(left.is_err());
        assert_eq!(get(&isolate).await.answer.as_deref(), Ok("held"));
    }
}
