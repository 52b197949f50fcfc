/** A Durable Object whose requests are routed by hono, as hono's documentation has it. */
import { DurableObject } from "cloudflare:workers";
import { Hono } from "hono";
import { streamSSE } from "hono/streaming";

export class Counter extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    this.app = new Hono();
    ctx.blockConcurrencyWhile(async () => { this.value = (await ctx.storage.get("value")) ?? 0; });
    this.app.get("/increment", async (c) => { await ctx.storage.put("value", ++this.value); return c.text(String(this.value)); });
    this.app.get("/decrement", async (c) => { await ctx.storage.put("value", --this.value); return c.text(String(this.value)); });
    this.app.get("/", (c) => c.json({ value: this.value, name: ctx.id.name }));
    this.app.get("/events", (c) => streamSSE(c, async (stream) => { for (let i = 0; i < 3; i++) await stream.writeSSE({ data: `${this.value + i}`, id: String(i) }); }));
    this.app.onError((e, c) => c.text(`error ${e.message}`, 500));
    this.app.get("/fail", () => { throw new Error("within"); });
  }
  fetch(request) { return this.app.fetch(request); }
  add(n) { this.value += n; return this.ctx.storage.put("value", this.value).then(() => this.value); }
}
