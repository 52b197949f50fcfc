/** hono before and within Durable Objects, unmodified. */
import { Hono } from "hono";

const app = new Hono().basePath("/serve/0");
app.get("/counter/:name/:what?", (c) => c.env.COUNTER.getByName(c.req.param("name")).fetch(new Request(`http://do/${c.req.param("what") ?? ""}`, c.req.raw)));
app.post("/counter/:name/add/:n", async (c) => c.json({ value: await c.env.COUNTER.getByName(c.req.param("name")).add(Number(c.req.param("n"))) }));
const counter = (t) => t.env.COUNTER.getByName(crypto.randomUUID());

export const cases = {
  "routed to actors": {
    send: [{ path: "/counter/fixed/fail" }, { path: "/counter/fixed/nowhere" }, { path: "/counter/one/events" }, { path: "/other" }],
    serve: (request, env, ctx) => app.fetch(request, env, ctx),
  },
  "counts": [async (t) => { const c = counter(t); const ask = async (path) => (await c.fetch(`http://do${path}`)).text(); return [await ask("/increment"), await ask("/increment"), await ask("/decrement"), JSON.parse(await ask("/")).value]; }, ["1", "2", "1", 1]],
  "counts at once": [async (t) => { const c = counter(t); await Promise.all(Array.from({ length: 20 }, () => c.fetch("http://do/increment"))); return (await (await c.fetch("http://do/")).json()).value; }, 20],
  "methods beside routes": [async (t) => { const c = counter(t); await c.add(5); return (await c.fetch("http://do/increment")).text(); }, "6"],
};
