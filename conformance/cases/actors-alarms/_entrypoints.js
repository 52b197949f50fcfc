/** Actors that are woken: one that notes it, one that fails a few times, one that has no handler. */
import { DurableObject } from "cloudflare:workers";
import { Stage } from "../../harness/actor.js";

export class Clock extends DurableObject {
  async alarm(info) {
    const now = Date.now();
    const seen = (await this.ctx.storage.get("seen")) ?? [];
    seen.push({ retryCount: info?.retryCount, isRetry: info?.isRetry, keys: info && Object.keys(info).sort(), pending: await this.ctx.storage.getAlarm(), late: now - ((await this.ctx.storage.get("due")) ?? now) });
    await this.ctx.storage.put("seen", seen);
    const plan = await this.ctx.storage.get("plan");
    if (plan === "again" && seen.length < 3) await this.ctx.storage.setAlarm(Date.now() + 5);
    if (plan === "fail" && seen.length < 2) throw new Error("not this time");
    if (plan === "move and fail" && seen.length < 2) { await this.ctx.storage.setAlarm(Date.now() + 100_000); throw new Error("no"); }
    if (plan === "delete" ) await this.ctx.storage.deleteAlarm();
    if (plan === "slow") await scheduler.wait(60);
  }
  async start(ms, plan) { await this.ctx.storage.put({ plan, due: Date.now() + ms }); await this.ctx.storage.setAlarm(Date.now() + ms); return this.ctx.storage.getAlarm().then((a) => typeof a); }
  async seen() { return (await this.ctx.storage.get("seen")) ?? []; }
  pending() { return this.ctx.storage.getAlarm().then((a) => a === null ? null : typeof a); }
  async cancel() { await this.ctx.storage.deleteAlarm(); return this.ctx.storage.getAlarm(); }
  async setTwice(a, b) { await this.ctx.storage.setAlarm(Date.now() + a); await this.ctx.storage.setAlarm(Date.now() + b); }
}

export class NoHandler extends DurableObject {
  async set() { await this.ctx.storage.setAlarm(Date.now() + 10); }
}

export class Inside extends Stage {}
