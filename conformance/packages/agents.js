/** Cloudflare's `agents`, unmodified: what an agent keeps, does later and says, called from a worker. Its browser client is in `_agents_outside.mjs`. */
import { getAgentByName, routeAgentRequest } from "agents";

const chat = (t, name = crypto.randomUUID()) => getAgentByName(t.env.CHAT, name);
const until = async (t, f, ms = 5000) => { for (let i = 0; i < ms / 50; i++) { const x = await f(); if (x) return x; await t.sleep(50); } return "never"; };

export const cases = {
  "requests and sockets from outside": {
    send: [{ path: "/agents/chat/fixed/hello", method: "POST", body: "text" }, { path: "/agents/nobody/x" }, { path: "/elsewhere" }],
    async serve(request, env) {
      const url = new URL(request.url);
      url.pathname = url.pathname.replace(/^\/serve\/\d+/, "");
      return (await routeAgentRequest(new Request(url, request), env)) ?? new Response("not routed", { status: 404 });
    },
  },
  "state": [async (t) => { const c = await chat(t); return [await c.current(), await c.increment(), await c.increment(4), await c.current()]; }, [{ count: 0, lines: [] }, 1, 5, { count: 5, lines: [] }]],
  "state is told of": [async (t) => { const c = await chat(t); await c.increment(); await c.increment(); await t.sleep(20); return c.seen(); }],
  "sql": [async (t) => { const c = await chat(t); await c.note("one"); return c.note("it's"); }, [{ id: 1, text: "one" }, { id: 2, text: "it's" }]],
  "sql that fails": [async (t) => (await chat(t)).badSql()],
  "requests": [async (t) => { const c = await chat(t, "by-name"); return (await c.fetch("http://a/x/tail", { method: "POST", body: "b" })).json(); }],
  "a schedule of a date": [async (t) => { const c = await chat(t); const made = await c.later(1100); return [made, await until(t, async () => (await c.notes()).length && c.notes()), (await c.current()).rang]; }],
  "a schedule of seconds": [async (t) => { const c = await chat(t); const made = await c.inSeconds(1); return [made, await until(t, async () => (await c.notes()).length && c.notes())]; }],
  "a schedule by cron": [async (t) => (await chat(t)).cron("0 5 * * 1")],
  "a schedule of no method": [async (t) => (await chat(t)).badSchedule()],
  "a queue": [async (t) => { const c = await chat(t); const id = await c.queued(); return [id, await until(t, async () => (await c.notes()).length && c.notes())]; }],
  "the current agent": [async (t) => (await chat(t)).whoAmI()],
};
