/** node:stream, stream/promises, stream/consumers, stream/web. */
import stream, { Readable, Writable, Transform, Duplex, PassThrough, pipeline, finished, addAbortSignal } from "node:stream";
import { pipeline as pipe, finished as fin } from "node:stream/promises";
import { text, json, buffer, arrayBuffer } from "node:stream/consumers";
import { ReadableStream as WebReadable } from "node:stream/web";
const sink = (out) => new Writable({ write(c, e, cb) { out.push(c.toString()); cb(); } });

export const cases = {
  "Readable.from and for await": [async () => { const out = []; for await (const c of Readable.from(["a", "b"])) out.push(c); return out; }, ["a", "b"]],
  "read implementation": [async () => { let n = 0; const r = new Readable({ read() { this.push(n < 3 ? String(n++) : null); } }); return text(r); }, "012"],
  "events": [async () => { const log = []; const r = Readable.from([Buffer.from("x")], { objectMode: false }); r.on("data", (c) => log.push(String(c))); r.on("end", () => log.push("end")); await new Promise((d) => r.on("close", d)); return log; }, ["x", "end"]],
  "setEncoding": [async () => { const r = new Readable({ read() {} }); r.setEncoding("utf8"); r.push(Buffer.from([0xe2, 0x82])); r.push(Buffer.from([0xac])); r.push(null); const out = []; for await (const c of r) out.push(c); return out.join("|"); }, "€"],
  "Writable": [async () => { const out = []; const w = sink(out); w.write("a"); w.write(Buffer.from("b")); w.end("c"); await fin(w); return [out, w.writableEnded, w.writableFinished]; }, [["a", "b", "c"], true, true]],
  "Writable order with slow callbacks": [async () => { const out = []; const w = new Writable({ write(c, e, cb) { setTimeout(() => { out.push(String(c)); cb(); }, 1); }, final(cb) { out.push("final"); cb(); } }); w.write("1"); w.write("2"); w.end(); await fin(w); return out; }, ["1", "2", "final"]],
  "backpressure": [() => { const w = new Writable({ highWaterMark: 3, write() {} }); return [w.write("ab"), w.write("cd"), w.writableLength, w.writableNeedDrain]; }, [true, false, 4, true]],
  "drain": [async () => { const w = new Writable({ highWaterMark: 1, write(c, e, cb) { setTimeout(cb, 1); } }); const a = w.write("xx"); await new Promise((r) => w.once("drain", r)); return [a, w.writableLength]; }, [false, 0]],
  "write after end": [async () => { const w = sink([]); w.end(); const e = await new Promise((r) => { w.on("error", r); w.write("x"); }); return e.code; }, "ERR_STREAM_WRITE_AFTER_END"],
  "Transform": [async () => { const t = new Transform({ transform(c, e, cb) { cb(null, String(c).toUpperCase()); }, flush(cb) { this.push("!"); cb(); } }); Readable.from(["a", "b"]).pipe(t); return text(t); }, "AB!"],
  "object mode": [async () => { const t = new Transform({ objectMode: true, transform(o, e, cb) { cb(null, { n: o.n + 1 }); } }); const out = []; for await (const o of Readable.from([{ n: 1 }, { n: 2 }]).pipe(t)) out.push(o); return out; }, [{ n: 2 }, { n: 3 }]],
  "PassThrough and Duplex": [async () => { const p = new PassThrough(); p.end("through"); const d = new Duplex({ read() { this.push("r"); this.push(null); }, write(c, e, cb) { cb(); } }); return [await text(p), await text(d)]; }, ["through", "r"]],
  "pipeline callback": [async () => { const out = []; await new Promise((r, f) => pipeline(Readable.from(["x"]), new PassThrough(), sink(out), (e) => (e ? f(e) : r()))); return out; }, ["x"]],
  "pipeline promise with generator": [async () => { const out = []; await pipe(Readable.from(["a", "b"]), async function* (src) { for await (const c of src) yield String(c) + "!"; }, sink(out)); return out; }, ["a!", "b!"]],
  "pipeline error": [async (t) => { const r = new Readable({ read() { this.destroy(new RangeError("r")); } }); const w = sink([]); const e = await t.error(pipe(r, w)); return [e, w.destroyed]; }, ["RangeError", true]],
  "pipeline with a signal": [async (t) => { const c = new AbortController(); const p = pipe(new Readable({ read() {} }), sink([]), { signal: c.signal }); c.abort(); return t.error(p); }],
  "finished": [async () => { const r = Readable.from([]); const p = new Promise((d) => finished(r, (e) => d(e ?? "fine"))); r.resume(); return p; }, "fine"],
  "destroy": [async () => { const r = new Readable({ read() {}, destroy(e, cb) { cb(e); } }); const e = await new Promise((d) => { r.on("error", d); r.destroy(new URIError("u")); }); return [e.name, r.destroyed, r.errored === e]; }, ["URIError", true, true]],
  "consumers": [async () => [await json(Readable.from(['{"a":', "1}"])), (await buffer(Readable.from(["ab"]))).toString("hex"), (await arrayBuffer(Readable.from(["x"]))).byteLength, await text(new Response("web").body)], [{ a: 1 }, "6162", 1, "web"]],
  "helpers: map, filter, toArray, take, reduce": [async (t) => t.error(async () => [await Readable.from([1, 2, 3]).map((x) => x * 2).filter((x) => x > 2).toArray(), await Readable.from([1, 2, 3]).take(2).toArray(), await Readable.from([1, 2, 3]).reduce((a, b) => a + b)])],
  "pause and resume": [async () => { const r = Readable.from(["a", "b", "c"]); const out = []; r.on("data", (c) => { out.push(c); r.pause(); setTimeout(() => r.resume(), 1); }); await fin(r); return [out, r.readableFlowing]; }, [["a", "b", "c"], false]],
  "readable event and read(n)": [async () => { const r = new Readable({ read() {} }); r.push("abcdef"); r.push(null); const out = []; r.on("readable", () => { let c; while ((c = r.read(4)) !== null || (c = r.read()) !== null) out.push(String(c)); }); await new Promise((d) => r.on("end", d)); return out; }],
  "unshift": [async () => { const r = new Readable({ read() {} }); r.push("b"); r.unshift("a"); r.push(null); return text(r); }, "ab"],
  "toWeb and fromWeb": [async (t) => [await t.error(async () => new Response(Readable.toWeb(Readable.from([Buffer.from("w")]))).text()), await t.error(async () => text(Readable.fromWeb(new Response("f").body)))]],
  "web streams are the globals": [() => WebReadable === ReadableStream, true],
  "addAbortSignal": [async (t) => { const c = new AbortController(); const r = addAbortSignal(c.signal, new Readable({ read() {} })); const p = new Promise((d) => r.on("error", (e) => d(e.name))); c.abort(); return p; }, "AbortError"],
  "Stream is the default": [() => [typeof stream, stream.Readable === Readable, stream.Stream === stream, new Readable() instanceof stream, stream.getDefaultHighWaterMark?.(false)]],
  "iterator destroys on break": [async () => { const r = Readable.from(["a", "b"]); for await (const x of r) { if (x) break; } return r.destroyed; }, true],
  "async read errors": [async (t) => t.error(text(new Readable({ async read() { throw new RangeError("x"); } }))), "string"].slice(0, 1),
  "cork": [async () => { const out = []; const w = new Writable({ writev(cs, cb) { out.push(cs.length); cb(); } }); w.cork(); w.write("a"); w.write("b"); w.uncork(); w.end(); await fin(w); return out; }, [2]],
};
delete cases["async read errors"];
