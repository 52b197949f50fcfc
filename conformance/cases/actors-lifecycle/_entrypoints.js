/** Classes whose constructors wait, fail or note what happened. */
import { DurableObject } from "cloudflare:workers";

export class Life extends DurableObject {
  notes = ["fields"];
  constructor(ctx, env) {
    super(ctx, env);
    this.notes.push("constructor");
    this.made = Math.random();
    ctx.blockConcurrencyWhile(async () => {
      this.notes.push("block begins");
      await scheduler.wait(20);
      this.notes.push("block ends");
    });
    this.notes.push("constructor ends");
  }
  look() { return this.notes; }
  which() { return this.made; }
  fetch(request) { return Response.json({ notes: this.notes, path: new URL(request.url).pathname }); }
  state() { return [typeof this.ctx, typeof this.env, this.env.LIFE === undefined, this.ctx.constructor.name, this.ctx.storage.constructor.name, this.ctx.id.constructor.name, this instanceof DurableObject]; }
  surface() {
    const names = (o) => Object.getOwnPropertyNames(Object.getPrototypeOf(o)).sort();
    return { ctx: names(this.ctx), storage: names(this.ctx.storage), sql: names(this.ctx.storage.sql), kv: names(this.ctx.storage.kv) };
  }
  async block(ms) {
    const order = [];
    const first = this.ctx.blockConcurrencyWhile(async () => { order.push("a"); await scheduler.wait(ms); order.push("b"); return "value"; });
    order.push("after");
    order.push(await first);
    return order;
  }
  async twoBlocks() {
    const order = [];
    await Promise.all([1, 2].map((n) => this.ctx.blockConcurrencyWhile(async () => { order.push(`in ${n}`); await scheduler.wait(10); order.push(`out ${n}`); })));
    return order;
  }
  async nestedBlocks() {
    return this.ctx.blockConcurrencyWhile(async () => 1 + await this.ctx.blockConcurrencyWhile(async () => { await scheduler.wait(1); return 2; }));
  }
  blockThrows() { return this.ctx.blockConcurrencyWhile(async () => { await scheduler.wait(1); throw new RangeError("in a block"); }); }
  async blockSync() { return this.ctx.blockConcurrencyWhile(() => 5); }
  async slow(mark, ms) {
    this.notes.push(`${mark} begins`);
    await this.ctx.blockConcurrencyWhile(() => scheduler.wait(ms));
    this.notes.push(`${mark} ends`);
  }
  mark(m) { this.notes.push(m); }
  abort(reason) { this.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS lost (x)"); this.ctx.abort(reason); this.notes.push("not reached"); }
  async abortLater() { this.ctx.storage.kv.put("kept", 1); await this.ctx.storage.sync(); this.ctx.storage.kv.put("lost", 1); this.ctx.abort(new Error("aborted later")); }
  kept() { return [this.ctx.storage.kv.get("kept"), this.ctx.storage.kv.get("lost")]; }
  waitUntil() { this.ctx.waitUntil(scheduler.wait(30).then(() => { this.ctx.storage.kv.put("late", "yes"); })); return "at once"; }
  waitUntilFails() { this.ctx.waitUntil(Promise.reject(new Error("nobody hears"))); return "fine"; }
  late() { return this.ctx.storage.kv.get("late"); }
  unhandled() { Promise.reject(new Error("unhandled")); return "fine"; }
  throwLater() { setTimeout(() => { throw new Error("in a timer"); }, 1); return "fine"; }
  props() { return this.ctx.props; }
  hang() { return new Promise(() => {}); }
  timers() { return new Promise((done) => { const order = []; setTimeout(() => order.push(2), 20); setTimeout(() => { order.push(1); }, 5); setTimeout(() => done(order), 40); }); }
}

export class FailsAlways extends DurableObject {
  constructor(ctx, env) { super(ctx, env); throw new TypeError("no constructor today"); }
  hello() { return "hello"; }
  fetch() { return new Response("hello"); }
}

export class FailsOnce extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    const n = ctx.storage.kv.get("n") ?? 0;
    ctx.blockConcurrencyWhile(async () => {
      ctx.storage.kv.put("n", n + 1);
      await ctx.storage.sync();
      if (n === 0) throw new Error("the first block fails");
    });
  }
  hello() { return this.ctx.storage.kv.get("n"); }
}

export class NoSuper extends Object {
  constructor(ctx, env) { super(); this.state = ctx; this.env = env; }
  fetch(request) { return new Response(`old style ${this.state.id.name} ${typeof this.env.LIFE.get} ${new URL(request.url).pathname}`); }
  method() { return "rpc"; }
}

export class Bare extends DurableObject {}
