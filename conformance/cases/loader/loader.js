/** The Worker Loader binding. */
const date = "2026-01-01";
const load = (t, main, more = {}, modules = {}) => t.env.LOADER.load({ compatibilityDate: date, mainModule: "main.js", modules: { "main.js": main, ...modules }, ...more });
const text = async (worker, init, entry) => (await worker.getEntrypoint(entry?.name, entry?.options).fetch("http://w/path", init)).text();
const answer = (code) => `export default { async fetch(request, env, ctx) { ${code} } };`;
/** Waits until the tail of that key was told of so many calls. */
const arrived = async (key, n) => {
  for (let i = 0; i < 100 && (globalThis.told?.get(key)?.length ?? 0) < n; i++) await scheduler.wait(10);
  return globalThis.told?.get(key) ?? [];
};
/** Loads a worker with a tail, uses it, and shows what the tail was told. */
const told = async (t, main, more, use, n = 1) => {
  const key = id();
  await use(load(t, main, { tails: [t.ctx.exports.Tail({ props: { key } })], ...more }));
  const shown = (e) => ({ outcome: e.outcome, truncated: e.truncated, script: e.scriptName ?? null, model: e.executionModel,
    event: e.event && Object.keys(e.event).sort(), method: e.event?.request?.method, status: e.event?.response?.status,
    logs: e.logs.map((l) => [l.level, l.message, typeof l.timestamp]),
    exceptions: e.exceptions.map((x) => [x.name, x.message, typeof x.stack, typeof x.timestamp]),
    types: [typeof e.eventTimestamp, typeof e.cpuTime, typeof e.wallTime, Array.isArray(e.diagnosticsChannelEvents)] });
  return (await arrived(key, n)).map(shown);
};
let unique = 0;
const id = () => `case-${unique++}-${Math.random()}`;

export const cases = {
  "loads and answers": [async (t) => text(load(t, answer("return new Response('hi ' + new URL(request.url).pathname);"))), "hi /path"],
  "request passes through": [async (t) => text(load(t, answer("return Response.json([request.method, request.headers.get('x'), await request.text()]);")), { method: "POST", body: "b", headers: { x: "1" } }), '["POST","1","b"]'],
  "each load is fresh": [async (t) => { const code = "let n = 0; " + answer("return new Response(String(++n));"); const a = load(t, code); const b = load(t, code); return [await text(a), await text(a), await text(b)]; }, ["1", "2", "1"]],
  "get is memoised": [async (t) => { let calls = 0; const key = id(); const get = () => t.env.LOADER.get(key, () => { calls++; return { compatibilityDate: date, mainModule: "m.js", modules: { "m.js": "let n = 0; " + answer("return new Response(String(++n));") } }; }); return [await text(get()), await text(get()), calls]; }, ["1", "2", 1]],
  "get with an asynchronous callback": [async (t) => text(t.env.LOADER.get(id(), async () => { await scheduler.wait(1); return { compatibilityDate: date, mainModule: "m.js", modules: { "m.js": answer("return new Response('async');") } }; })), "async"],
  "get with null is fresh": [async (t) => { let calls = 0; const get = () => t.env.LOADER.get(null, () => { calls++; return { compatibilityDate: date, mainModule: "m.js", modules: { "m.js": answer("return new Response('n');") } }; }); await text(get()); await text(get()); return calls; }, 2],
  "callback throws": [async (t) => t.error(text(t.env.LOADER.get(id(), () => { throw new RangeError("cb"); })))],
  "callback rejects": [async (t) => t.error(text(t.env.LOADER.get(id(), async () => { throw new URIError("cb"); })))],
  "callback returns nonsense": [async (t) => t.eachAsync([undefined, 5, {}, { mainModule: "m.js", modules: {} }], async (x) => text(t.env.LOADER.get(id(), () => x)))],
  "stub is usable before the code is there": [async (t) => { let go; const w = t.env.LOADER.get(id(), () => new Promise((r) => { go = r; })); const p = text(w); await t.sleep(2); go({ compatibilityDate: date, mainModule: "m.js", modules: { "m.js": answer("return new Response('late');") } }); return p; }, "late"],
  "imports between modules": [async (t) => text(load(t, "import { a } from './lib/a.js'; import b from './b.js'; " + answer("return new Response(a + b);"), {}, { "lib/a.js": "import b from '../b.js'; export const a = 'a' + b;", "b.js": "export default 'b';" })), "abb"],
  "dynamic import": [async (t) => text(load(t, answer("const m = await import('./d.js'); return new Response(m.x);"), {}, { "d.js": "export const x = 'dynamic';" })), "dynamic"],
  "missing import": [async (t) => t.error(text(load(t, "import './none.js'; " + answer("return new Response('x');"))))],
  "syntax error": [async (t) => t.error(text(load(t, "export default {{{")))],
  "throws at the top": [async (t) => t.error(text(load(t, "throw new RangeError('top');")))],
  "no main module": [async (t) => t.error(async () => text(t.env.LOADER.load({ compatibilityDate: date, mainModule: "x.js", modules: { "y.js": "" } })))],
  "text, data, json modules": [async (t) => text(load(t, "import t from './t.txt'; import d from './d.bin'; import j from './j.json'; " + answer("return Response.json([t, d instanceof ArrayBuffer, new Uint8Array(d)[1], j.k]);"), {}, { "t.txt": { text: "T" }, "d.bin": { data: new Uint8Array([1, 2]).buffer }, "j.json": { json: { k: [1] } } })), '["T",true,2,[1]]'],
  "js and cjs kinds": [async (t) => text(load(t, "import c from './c.cjs'; import x from './any.name'; " + answer("return new Response(c.v + x);"), {}, { "c.cjs": { cjs: "module.exports = { v: 'cjs ' };" }, "any.name": { js: "export default 'js';" } })), "cjs js"],
  "cjs requires": [async (t) => text(load(t, "import c from './c.cjs'; " + answer("return new Response(c);"), {}, { "c.cjs": { cjs: "const d = require('./d.cjs'); exports.x = 1; module.exports = d.name + typeof exports + typeof module;" }, "d.cjs": { cjs: "exports.name = 'd';" } }))],
  "string module of an unknown ending": [async (t) => t.error(async () => text(load(t, answer("return new Response('x');"), {}, { "a.txt": "text" })))],
  "module of two kinds": [async (t) => t.error(async () => text(load(t, answer("return new Response('x');"), {}, { a: { js: "", text: "" } })))],
  "module of no kind": [async (t) => t.error(async () => text(load(t, answer("return new Response('x');"), {}, { a: {} })))],
  "python": [async (t) => t.error(async () => text(t.env.LOADER.load({ compatibilityDate: date, mainModule: "a.py", modules: { "a.py": "x" } })))],
  "missing compatibility date": [async (t) => t.error(async () => text(t.env.LOADER.load({ mainModule: "m.js", modules: { "m.js": answer("return new Response('x');") } })))],
  "bad compatibility date": [async (t) => t.error(async () => text(load(t, answer("return new Response('x');"), { compatibilityDate: "yesterday" })))],
  "env": [async (t) => text(load(t, answer("return Response.json([env.A, env.o.x, Object.keys(env)]);"), { env: { A: "a", o: { x: [1, null] } } })), '["a",[1,null],["A","o"]]'],
  "env defaults to nothing": [async (t) => text(load(t, answer("return Response.json(Object.keys(env));"))), "[]"],
  "env values are copied": [async (t) => { const e = { x: { n: 1 } }; const w = load(t, answer("env.x.n++; return new Response(String(env.x.n));"), { env: e }); return [await text(w), e.x.n]; }],
  "env cannot hold just anything": [async (t) => t.error(async () => text(load(t, answer("return new Response('x');"), { env: { f: () => 1 } })))],
  "env with a service stub": [async (t) => text(load(t, answer("return env.SELF.fetch('http://x/manifest').then((r) => new Response(String(r.status)));"), { env: { SELF: t.env.SELF } })), "200"],
  "env with an entrypoint and RPC": [async (t) => text(load(t, answer("return new Response(await env.HOST.hello('child'));"), { env: { HOST: t.ctx.exports.Host({ props: { who: "parent" } }) } })), "hello child from parent"],
  "module env": [async (t) => text(load(t, "import { env } from 'cloudflare:workers'; " + answer("return new Response(env.A);"), { env: { A: "via module" } })), "via module"],
  "RPC into the child": [async (t) => { const w = load(t, "import { WorkerEntrypoint } from 'cloudflare:workers'; export class E extends WorkerEntrypoint { add(a, b) { return a + b; } call(f) { return f('x'); } } export default {};"); const e = w.getEntrypoint("E"); return [await e.add(2, 3), await e.call((s) => s + "!")]; }, [5, "x!"]],
  "default class entrypoint": [async (t) => { const w = load(t, "import { WorkerEntrypoint } from 'cloudflare:workers'; export default class extends WorkerEntrypoint { fetch() { return new Response('class'); } twice(x) { return x * 2; } }"); return [await text(w), await w.getEntrypoint().twice(4)]; }, ["class", 8]],
  "props": [async (t) => text(load(t, answer("return Response.json(ctx.props);")), {}, { name: undefined, options: { props: { p: [1] } } }), '{"p":[1]}'],
  "missing entrypoint": [async (t) => t.error(text(load(t, answer("return new Response('x');")), {}, { name: "Nope" }))],
  "no handler": [async (t) => t.error(text(load(t, "export default {};")))],
  "child throws": [async (t) => { try { await text(load(t, answer("throw new RangeError('child');"))); } catch (e) { return [e.name, e.message]; } }],
  "child answers nonsense": [async (t) => t.error(text(load(t, answer("return 5;"))))],
  "globalOutbound null": [async (t) => text(load(t, answer("try { await fetch('http://127.0.0.1:1/'); } catch (e) { return new Response(e.name + ': ' + e.message); }"), { globalOutbound: null }))],
  "globalOutbound inherited": [async (t) => text(load(t, answer(`const r = await fetch('${t.origin}/echo'); return new Response(String(r.status));`))), "200"],
  "globalOutbound to a Fetcher": [async (t) => text(load(t, answer("const r = await fetch('https://anything.example/p', { method: 'POST', body: 'q' }); return new Response(await r.text());"), { globalOutbound: t.ctx.exports.Outbound({ props: { secret: "s3" } }) })), "outbound POST https://anything.example/p q s3"],
  "globals are not shared": [async (t) => { globalThis.__leak = "parent"; const r = await text(load(t, answer("globalThis.__leak2 = 'child'; return new Response(String(globalThis.__leak));"))); const s = [r, globalThis.__leak2]; delete globalThis.__leak; return s; }, ["undefined", undefined]],
  "prototype pollution stays inside": [async (t) => { await text(load(t, "Object.prototype.polluted = 1; Array.prototype.map = () => 'bad'; " + answer("return new Response('x');"))); return [({}).polluted, [1].map((x) => x + 1)]; }, [undefined, [2]]],
  "streams from the child": [async (t) => text(load(t, answer("const { readable, writable } = new TransformStream(); const w = writable.getWriter(); (async () => { for (const x of ['a', 'b']) { await w.write(new TextEncoder().encode(x)); await scheduler.wait(1); } await w.close(); })(); return new Response(readable);"))), "ab"],
  "WebSocket from the child": [async (t) => { const w = load(t, answer("const [a, b] = Object.values(new WebSocketPair()); b.accept(); b.addEventListener('message', (e) => b.send('child ' + e.data)); return new Response(null, { status: 101, webSocket: a });")); const r = await w.getEntrypoint().fetch("http://w/", { headers: { upgrade: "websocket" } }); r.webSocket.accept(); const m = new Promise((d) => r.webSocket.addEventListener("message", (e) => d(e.data))); r.webSocket.send("x"); return m; }, "child x"],
  "timers in the child": [async (t) => text(load(t, answer("await new Promise((r) => setTimeout(r, 2)); return new Response('t');"))), "t"],
  "children in children": [async (t) => t.error(async () => text(load(t, answer("return env.L.load({ compatibilityDate: '2026-01-01', mainModule: 'm.js', modules: { 'm.js': \"export default { fetch() { return new Response('grandchild'); } };\" } }).getEntrypoint().fetch('http://g/');"), { env: { L: t.env.LOADER } })))],
  "loader is not in the child's env": [async (t) => text(load(t, answer("return new Response(typeof env.LOADER);"))), "undefined"],
  "compatibility flags": [async (t) => [await t.error(text(load(t, "import { Buffer } from 'node:buffer'; " + answer("return new Response(Buffer.from('x').toString('hex'));"), { compatibilityFlags: ["nodejs_compat"] }))), await t.error(async () => text(load(t, answer("return new Response('x');"), { compatibilityFlags: ["no_such_flag"] })))]],
  "limits are accepted": [async (t) => text(load(t, answer("return new Response('limited');"), { limits: { cpuMs: 50, subRequests: 5 } })), "limited"],
  "getDurableObjectClass": [(t) => t.error(() => typeof load(t, "export class D {} export default {};").getDurableObjectClass("D"))],
  "stub shape": [(t) => { const w = load(t, answer("return new Response('x');")); return [typeof w.getEntrypoint, typeof w.getDurableObjectClass, typeof w.fetch, Object.prototype.toString.call(w)]; }],
  "loader shape": [(t) => [typeof t.env.LOADER.get, typeof t.env.LOADER.load, Object.prototype.toString.call(t.env.LOADER), t.error(() => t.env.LOADER.get()), t.error(() => t.env.LOADER.load())]],
  "many children": [async (t) => { const r = await Promise.all(Array.from({ length: 20 }, (_, i) => text(load(t, answer(`return new Response('${i}');`))))); return r.join(); }, Array.from({ length: 20 }, (_, i) => i).join()],
  "waitUntil in the child": [async (t) => { const w = load(t, "let done = false; " + answer("if (request.method === 'POST') return new Response(String(done)); ctx.waitUntil((async () => { await scheduler.wait(5); done = true; })()); return new Response('x');")); await text(w); await t.sleep(40); return text(w, { method: "POST" }); }, "true"],
  "tails: fetch, logs and outcome": [async (t) => told(t, answer("console.log('one', { a: [1] }, 2, null, undefined, true); console.error('two'); return new Response('x', { status: 201 });"), {}, async (w) => text(w, { method: "POST", headers: { "x-a": "1", authorization: "hush" } }))],
  "tails: exception": [async (t) => told(t, answer("console.warn('before'); throw new RangeError('no');"), {}, (w) => t.error(text(w)))],
  "tails: kinds of arguments": [async (t) => told(t, answer("console.log(1n, Symbol('s'), () => 1, new Map([[1, 2]]), new Date(0), new Error('e').message, [undefined, NaN], Object.create(null), 'a%s', -0, Infinity); console.log(); return new Response('x');"), {}, text)],
  "tails: levels": [async (t) => told(t, answer("for (const k of ['log', 'info', 'warn', 'error', 'debug']) console[k](k); return new Response('x');"), {}, text)],
  "tails: two calls, two traces": [async (t) => told(t, answer("const n = new URL(request.url).searchParams.get('n'); console.log('in', n); await scheduler.wait(n === '1' ? 20 : 2); console.log('out', n); return new Response(n);"), {}, async (w) => { const e = w.getEntrypoint(); await Promise.all([1, 2].map(async (n) => (await e.fetch(`http://w/?n=${n}`)).text())); }, 2)],
  "tails: waitUntil belongs to its call": [async (t) => told(t, answer("ctx.waitUntil((async () => { await scheduler.wait(5); console.log('late'); })()); return new Response('x');"), {}, text)],
  "tails: two tails": [async (t) => { const a = id(), b = id(); const w = load(t, answer("console.log('x'); return new Response('x');"), { tails: [t.ctx.exports.Tail({ props: { key: a } }), t.ctx.exports.Tail({ props: { key: b } })] }); await text(w); return [await arrived(a, 1), await arrived(b, 1)].map((list) => list.map((e) => e.logs.map((l) => l.message))); }, [[[["x"]]], [[["x"]]]]],
  "tails: one that throws harms nobody": [async (t) => { const key = id(); const w = load(t, answer("return new Response('fine');"), { tails: [t.ctx.exports.BadTail({ props: {} }), t.ctx.exports.Tail({ props: { key } })] }); return [await text(w), (await arrived(key, 1)).length]; }, ["fine", 1]],
  "tails: a loaded worker as tail": [async (t) => { const key = id(); const inner = load(t, "export default { async tail(events, env) { await env.SINK.fetch('http://s/', { method: 'POST', body: JSON.stringify(events.map((e) => e.logs.map((l) => l.message))) }); } };", { env: { SINK: t.ctx.exports.Sink({ props: { key } }) } }); const w = load(t, answer("console.log('to a loaded tail'); return new Response('x');"), { tails: [inner.getEntrypoint()] }); await text(w); return (await arrived(key, 1)).map(String); }, ['[[["to a loaded tail"]]]']],
  "tails: not an array, not a Fetcher": [(t) => t.each([5, [5], [null], "x"], (tails) => typeof load(t, answer("return new Response('x');"), { tails }))],
  "tails: request": [async (t) => { const key = id(); const w = load(t, answer("return new Response('x');"), { tails: [t.ctx.exports.Tail({ props: { key } })] }); await w.getEntrypoint().fetch("http://w/a?b=0123456789abcdef0123456789abcdef", { headers: { "x-a": "1", authorization: "hush", "x-api-key": "k", cookie: "c" } }).then((r) => r.text()); const [{ event: { request, response } }] = await arrived(key, 1); const pick = ({ headers, url }) => [headers["x-a"], headers.authorization, headers["x-api-key"], headers.cookie, url]; return [request.method, pick(request), pick(request.getUnredacted()), response.status]; }],
  "tails: RPC": [async (t) => told(t, "import { WorkerEntrypoint } from 'cloudflare:workers'; export default class extends WorkerEntrypoint { add(a, b) { console.log('adding'); return a + b; } }", {}, (w) => w.getEntrypoint().add(1, 2))],
};
