/** An actor with all kinds of methods and properties, and one that calls others. */
import { DurableObject, RpcTarget } from "cloudflare:workers";

class Target extends RpcTarget {
  #actor;
  constructor(actor) { super(); this.#actor = actor; }
  bump(by = 1) { return this.#actor.bump(by); }
  get value() { return this.#actor.n; }
  again() { return new Target(this.#actor); }
}

export class Api extends DurableObject {
  n = 0;
  field = "own field";
  arrow = () => "own arrow";
  #hidden() { return "hidden"; }
  get getter() { return `getter ${this.n}`; }
  get nested() { return { deep: { value: 42, method: (x) => x * 2 } }; }
  bump(by = 1) { this.n += by; return this.n; }
  async later(ms, x) { await scheduler.wait(ms); return x; }
  echo(x) { return x; }
  count(...args) { return args.length; }
  target() { return new Target(this); }
  fn() { let n = 0; return (by) => { n += by; return n; }; }
  async callback(f, ...args) { return f(...args); }
  async useTarget(t) { return [await t.bump(5), await t.value]; }
  fail(kind) {
    if (kind === "custom") { const e = new Error("m"); e.name = "Custom"; e.extra = 1; throw e; }
    if (kind === "string") throw "just a string";
    if (kind === "dom") throw new DOMException("d", "DataError");
    if (kind === "null") throw null;
    if (kind === "object") throw { a: 1 };
    if (kind === "cause") throw new Error("outer", { cause: new RangeError("inner") });
    throw new RangeError("too far");
  }
  async failLater() { await null; throw new TypeError("async"); }
  async order(log, n) { if (n % 2) await scheduler.wait(3); log.push?.(n); return this.bump(1); }
  push(x) { (this.list ??= []).push(x); }
  all() { return this.list; }
  viaPeer(id, by) { return this.env.API.get(this.env.API.idFromString(id)).bump(by); }
  stub(id) { return this.env.API.get(this.env.API.idFromString(id)); }
  useStub(stub, by) { return stub.bump(by); }
  async callBack(id) { return this.env.API.get(this.env.API.idFromString(id)).callback((x) => `${x} via ${this.n}`, "hello"); }
  self() { return this; }
  selfId() { return String(this.ctx.id); }
  stream(text) { return new Response(text).body; }
  async readStream(s) { return new Response(s).text(); }
  response() { return new Response("from rpc", { status: 201, headers: { x: "1" } }); }
  async slowStream() { const { readable, writable } = new TransformStream(); (async () => { const w = writable.getWriter(); for (let i = 0; i < 3; i++) { await w.write(new TextEncoder().encode(`${i};`)); await scheduler.wait(3); } await w.close(); })(); return readable; }
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/throw") throw new RangeError("in fetch");
    if (pathname === "/none") return undefined;
    if (pathname === "/stream") return new Response(await this.slowStream());
    if (pathname === "/hang") return new Promise(() => {});
    if (pathname === "/redirect") return new Response(null, { status: 302, headers: { location: "/to" } });
    return Response.json({ n: this.bump(1), method: request.method, url: request.url, x: request.headers.get("x"), body: await request.text(), redirect: request.redirect });
  }
  alarm() { return "alarm"; }
  webSocketMessage() { return "message"; }
  webSocketClose() { return "close"; }
  webSocketError() { return "error"; }
  static stat() { return "static"; }
  visible() { return this.#hidden(); }
  undefinedResult() {}
}
