/** An actor that runs others within itself: of classes of this worker, and of code that it loads. */
import { DurableObject, WorkerEntrypoint } from "cloudflare:workers";

const loaded = `import { DurableObject } from "cloudflare:workers";
class Loaded extends DurableObject {
  add(n) { const v = (this.ctx.storage.kv.get("v") ?? 0) + n; this.ctx.storage.kv.put("v", v); return v; }
  who() { return [typeof this.ctx.id, this.env.NOTE, this.ctx.props ?? null]; }
  table() { this.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS t (x); INSERT INTO t VALUES (1)"); return this.ctx.storage.sql.exec("SELECT count(*) AS n FROM t").one().n; }
  fetch(request) { return new Response("loaded " + new URL(request.url).pathname); }
  fail() { throw new RangeError("within"); }
}
export { Loaded };
export default { fetch() { return new Response("plain"); } };`;

// Not bound: only such classes are for facets in workerd.
class Inner extends DurableObject {
  constructor(ctx, env) { super(ctx, env); this.made = Math.random(); }
  add(n) { const v = (this.ctx.storage.kv.get("v") ?? 0) + n; this.ctx.storage.kv.put("v", v); return v; }
  value() { return this.ctx.storage.kv.get("v"); }
  which() { return this.made; }
  own() { return { id: String(this.ctx.id), name: this.ctx.id.name ?? null, props: this.ctx.props ?? null }; }
  tables() { return this.ctx.storage.sql.exec("SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_cf%' ESCAPE '\\' ORDER BY name").toArray(); }
  table(name) { this.ctx.storage.sql.exec(`CREATE TABLE ${name} (x)`); }
  fetch(request) { return new Response(`inner ${request.method} ${new URL(request.url).pathname}`); }
  fail() { throw new RangeError("within"); }
  hang() { return new Promise(() => {}); }
  callback(f) { return f("from a facet"); }
  abortSelf(reason) { this.ctx.abort(reason); }
  alarmSet() { return this.ctx.storage.setAlarm(Date.now() + 10); }
  rang() { return this.ctx.storage.kv.get("rang") ?? false; }
  alarm() { this.ctx.storage.kv.put("rang", true); }
  deeper(n) { return this.ctx.facets.get("deep", () => ({ class: this.ctx.exports.Inner })).add(n); }
}
export { Inner };

export class Outer extends DurableObject {
  facet(name, more = {}) { return this.ctx.facets.get(name, () => ({ class: this.ctx.exports.Inner, ...more })); }
  async said(f) { try { return { ok: await f() }; } catch (e) { return `${e.name}: ${e.message}`; } }
  surface() { return [Object.getOwnPropertyNames(Object.getPrototypeOf(this.ctx.facets)).sort(), this.ctx.facets.constructor.name, typeof this.ctx.exports.Inner, this.ctx.exports.Inner?.constructor?.name]; }
  async basics() { const f = this.facet("a"); return [await f.add(1), await f.add(2), await this.facet("a").value(), f.constructor.name]; }
  async apart() { await this.facet("a").add(1); await this.facet("b").add(10); this.ctx.storage.kv.put("v", 100); return [await this.facet("a").value(), await this.facet("b").value(), this.ctx.storage.kv.get("v")]; }
  async tablesApart() { this.ctx.storage.sql.exec("CREATE TABLE outer_table (x)"); await this.facet("a").table("a_table"); await this.facet("b").table("b_table"); return [await this.facet("a").tables(), await this.facet("b").tables(), this.ctx.storage.sql.exec("SELECT name FROM sqlite_master WHERE name LIKE '%table' ORDER BY name").toArray()]; }
  async started() { let n = 0; const get = () => this.ctx.facets.get("a", () => { n++; return { class: this.ctx.exports.Inner }; }); const unused = get(); const before = n; await get().which(); await get().which(); return [before, n, typeof unused]; }
  async startedLater() { return this.ctx.facets.get("a", async () => { await scheduler.wait(5); return { class: this.ctx.exports.Inner }; }).add(3); }
  async badStarts() {
    const out = [];
    for (const start of [() => undefined, () => ({}), () => ({ class: 5 }), () => ({ class: Inner }), () => { throw new RangeError("no start"); }, async () => { throw new RangeError("no start"); }, () => null]) out.push(await this.said(() => this.ctx.facets.get(`bad${out.length}`, start).which().then(() => "started")));
    return out;
  }
  async badNames() { const out = []; for (const name of ["a/b", "..", "é", "x".repeat(300), 5]) out.push(await this.said(() => this.ctx.facets.get(name, () => ({ class: this.ctx.exports.Inner })).add(1))); out.push(await this.said(() => this.ctx.facets.get()), await this.said(() => this.ctx.facets.get("only a name"))); return out; }
  async ids() { const own = String(this.ctx.id); const [plain, given, text] = [await this.facet("a").own(), await this.facet("b", { id: this.env.OUTER.idFromName("other") }).own(), await this.said(() => this.facet("c", { id: "a-name" }).own())]; return [plain.id === own, plain.name, given.id === String(this.env.OUTER.idFromName("other")), given.name, text.ok ? [text.ok.id === own, text.ok.id.length, text.ok.name] : text]; }
  async fetching() { return (await this.facet("a").fetch("http://x/path", { method: "POST" })).text(); }
  async errors() { const f = this.facet("a"); await f.add(1); return [await this.said(() => f.fail()), await this.said(() => f.missing()), await this.said(() => f.value())]; }
  async abort() { const f = this.facet("a"); const first = await f.which(); await f.add(5); const hanging = this.said(() => f.hang()); await scheduler.wait(5); this.ctx.facets.abort("a", new Error("by the outer one")); return [await hanging, await this.said(() => f.which()), first === await this.facet("a").which(), await this.facet("a").value()]; }
  async abortSelf() { const f = this.facet("a"); await f.add(5); return [await this.said(() => f.abortSelf("own wish")), await this.said(() => this.facet("a").value())]; }
  async abortNone() { return [await this.said(() => this.ctx.facets.abort("nobody", "x")), await this.said(() => this.ctx.facets.delete("nobody"))]; }
  async remove() { const f = this.facet("a"); await f.add(5); const r = this.ctx.facets.delete("a"); return [r, await this.said(() => f.value()), await this.facet("a").value()]; }
  async clone() { await this.facet("a").add(5); await this.facet("b").add(1); const r = await this.said(() => this.ctx.facets.clone("a", "b")); const before = await this.said(() => this.facet("b").value()); await this.facet("b").add(10); return [r, before, await this.facet("a").value(), await this.facet("b").value()]; }
  async cloneOdd() { await this.facet("a").add(5); return [await this.said(() => this.ctx.facets.clone("nobody", "c")), await this.said(() => this.facet("c").value()), await this.said(() => this.ctx.facets.clone("a", "a")), await this.said(() => this.facet("a").value())]; }
  async nested() { return [await this.facet("a").deeper(4), await this.facet("b").deeper(5), await this.facet("a").deeper(1)]; }
  async callbacks() { return this.facet("a").callback((x) => `heard ${x}`); }
  async handOut() { return this.facet("a"); }
  async after() { this.facet("a"); return [await this.facet("a").add(2)]; }
  value(name) { return this.facet(name).value(); }
  add(name, n) { return this.facet(name).add(n); }
  async alarms() { return this.said(() => this.facet("a").alarmSet()); }
  abortAll() { this.ctx.abort("the outer one ends"); }
  async deleteAll() { await this.facet("a").add(1); this.ctx.storage.kv.put("v", 1); await this.ctx.storage.deleteAll(); return [await this.said(() => this.facet("a").value()), this.ctx.storage.kv.get("v")]; }
  worker(more = {}) { return this.env.LOADER.load({ compatibilityDate: "2026-01-01", mainModule: "main.js", modules: { "main.js": loaded }, env: { NOTE: "a note" }, ...more }); }
  async loaded() { const f = this.ctx.facets.get("l", () => ({ class: this.worker().getDurableObjectClass("Loaded") })); return [await f.add(2), await f.add(3), await f.table(), await f.who(), await (await f.fetch("http://x/p")).text(), await this.said(() => f.fail())]; }
  async loadedProps() { return this.said(() => this.ctx.facets.get("l", () => ({ class: this.worker().getDurableObjectClass("Loaded", { props: { p: 1 } }) })).who()); }
  async loadedMissing() { return [await this.said(() => this.ctx.facets.get("l", () => ({ class: this.worker().getDurableObjectClass("Nowhere") })).add(1)), await this.said(() => this.ctx.facets.get("m", () => ({ class: this.worker().getDurableObjectClass() })).add(1))]; }
  async loadedAgain() { const get = () => this.ctx.facets.get("l", () => ({ class: this.worker().getDurableObjectClass("Loaded") })); await get().add(7); this.ctx.facets.abort("l", "new code"); return get().add(1); }
}

export class Plain extends WorkerEntrypoint {}
