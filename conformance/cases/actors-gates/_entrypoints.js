/** Counters that read, wait and write: right only where nothing comes between. */
import { DurableObject } from "cloudflare:workers";

export class Gate extends DurableObject {
  log = [];
  async addKv() { const n = (await this.ctx.storage.get("n")) ?? 0; await this.ctx.storage.put("n", n + 1); return n + 1; }
  async addKvWithoutWaiting() { const n = (await this.ctx.storage.get("n")) ?? 0; this.ctx.storage.put("n", n + 1); return n + 1; }
  async addSlow(ms) { const n = (await this.ctx.storage.get("n")) ?? 0; await scheduler.wait(ms); await this.ctx.storage.put("n", n + 1); return n + 1; }
  addSlowBlocked(ms) { return this.ctx.blockConcurrencyWhile(() => this.addSlow(ms)); }
  addTransaction() { return this.ctx.storage.transaction(async (txn) => { const n = (await txn.get("n")) ?? 0; await scheduler.wait(1); await txn.put("n", n + 1); return n + 1; }); }
  async addMany(times) { for (let i = 0; i < times; i++) { const n = (await this.ctx.storage.get("n")) ?? 0; await this.ctx.storage.put("n", n + 1); } }
  async addFetching(peer) { const n = (await this.ctx.storage.get("n")) ?? 0; await peer(); await this.ctx.storage.put("n", n + 1); }
  n() { return this.ctx.storage.get("n"); }
  async twoKeys(x) { this.ctx.storage.put("a", x); await null; this.ctx.storage.put("b", x); return x; }
  async pair() { return [...(await this.ctx.storage.get(["a", "b"])).values()]; }
  async steps(name) { this.log.push(`${name}1`); await this.ctx.storage.get("x"); this.log.push(`${name}2`); await this.ctx.storage.put("x", 1); this.log.push(`${name}3`); }
  async stepsOfTimers(name) { this.log.push(`${name}1`); await scheduler.wait(5); this.log.push(`${name}2`); }
  seen() { return this.log; }
  async tell(peer, what) { this.ctx.storage.put("told", what); return peer(what); }
  told() { return this.ctx.storage.get("told"); }
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/add") return new Response(String(await this.addKv()));
    if (pathname === "/stream") {
      const { readable, writable } = new TransformStream();
      const w = writable.getWriter();
      w.write(new TextEncoder().encode("a")).then(async () => { this.ctx.storage.put("s", 1); await w.write(new TextEncoder().encode("b")); await w.close(); });
      return new Response(readable);
    }
    return new Response("?");
  }
}
