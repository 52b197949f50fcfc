/** The service that the cases of this folder call by RPC. */
import { RpcTarget, WorkerEntrypoint } from "cloudflare:workers";

class Counter extends RpcTarget {
  #n = 0;
  own = "instance property";
  constructor(n = 0) { super(); this.#n = n; }
  increment(by = 1) { this.#n += by; return this.#n; }
  get value() { return this.#n; }
  child(n) { return new Counter(n); }
  [Symbol.dispose]() { disposed++; }
}
let disposed = 0;

export class Api extends WorkerEntrypoint {
  instanceField = 1;
  echo(x) { return x; }
  add(a, b) { return a + b; }
  count(...args) { return args.length; }
  async later(x) { await scheduler.wait(1); return x; }
  types(x) { return [Object.prototype.toString.call(x), x?.constructor?.name]; }
  get property() { return "getter value"; }
  get nested() { return { deep: { value: 42, method: (x) => x * 2 } }; }
  fail(kind) {
    if (kind === "custom") { const e = new Error("m"); e.name = "Custom"; e.extra = 1; throw e; }
    if (kind === "string") throw "just a string";
    if (kind === "dom") throw new DOMException("d", "DataError");
    if (kind === "null") throw null;
    throw new RangeError("too far");
  }
  throwKind(kind) {
    if (kind === "object") throw { a: 1 };
    if (kind === "number") throw 5;
    if (kind === "undefined") throw undefined;
    if (kind === "symbol") throw Symbol("s");
    if (kind === "function") throw () => 1;
    if (kind === "aggregate") throw new AggregateError([new Error("one"), new TypeError("two")], "all");
    throw new Error("outer", { cause: new RangeError("inner") });
  }
  async failLater() { await null; throw new TypeError("async"); }
  counter(n) { return new Counter(n); }
  counters() { return [new Counter(1), { c: new Counter(2) }]; }
  callback(f, ...args) { return f(...args); }
  async callbackTwice(f) { return [await f(1), await f(2)]; }
  keep(f) { kept = f.dup ? f.dup() : f; }
  async useKept() { return kept("kept"); }
  fn() { return (a) => a + 1; }
  async useTarget(t) { return [await t.increment(5), await t.value]; }
  stream(text) { return new Response(text).body; }
  async readStream(s) { return new Response(s).text(); }
  writable() { const chunks = []; return new WritableStream({ write(c) { chunks.push(c); }, close() { lastWritten = chunks.map((c) => new TextDecoder().decode(c)).join(""); } }); }
  written() { return lastWritten; }
  response() { return new Response("from rpc", { status: 201, headers: { x: "1" } }); }
  async request(r) { return [r.method, r.url, r.headers.get("x"), await r.text()]; }
  headers(h) { h.append("seen", "yes"); return h; }
  disposed() { return disposed; }
  notCloneable() { return new WeakMap(); }
  symbol() { return Symbol("s"); }
  classInstance() { return new (class Thing { x = 1; })(); }
  big(n) { return "x".repeat(n); }
  self() { return this; }
  promise() { return { p: Promise.resolve(1) }; }
  undefinedResult() {}
}
let kept;
let lastWritten;

export class Privates extends WorkerEntrypoint {
  constructor(ctx, env) { super(ctx, env); this.own = () => "own"; }
  #hidden() { return "hidden"; }
  _underscore() { return "under"; }
  static stat() { return "static"; }
  fetch() { return new Response("fetched"); }
  visible() { return this.#hidden(); }
}
