/** WebSockets that outlive their actor's memory: `acceptWebSocket`, tags, attachments, automatic responses, events. */
const fresh = (ns) => ns.get(ns.newUniqueId());
const room = (t) => fresh(t.env.ROOM);
const join = async (s, query = "") => { const { webSocket } = await s.fetch(`http://x/${query}`, { headers: { upgrade: "websocket" } }); webSocket.accept(); return webSocket; };
const message = (ws) => new Promise((r) => ws.addEventListener("message", (e) => r(e.data), { once: true }));
const ask = (ws, text) => { const m = message(ws); ws.send(text); return m; };
const closed = (ws) => new Promise((r) => ws.addEventListener("close", (e) => r([e.code, e.reason, e.wasClean])));

export const cases = {
  "echo": [async (t) => ask(await join(room(t)), "echo hello"), "hello"],
  "bytes": [async (t) => { const ws = await join(room(t)); ws.binaryType = "arraybuffer"; return ask(ws, new Uint8Array([1, 2, 3])); }],
  "what the handler is given": [async (t) => { const s = room(t); const ws = await join(s); ws.binaryType = "arraybuffer"; await ask(ws, "echo x"); await ask(ws, new Uint8Array([1])); return s.seen(); }],
  "the socket within": [async (t) => JSON.parse(await ask(await join(room(t)), "what"))],
  "sent before the answer": [async (t) => { const { webSocket } = await room(t).fetch("http://x/?greet=1", { headers: { upgrade: "websocket" } }); const m = message(webSocket); webSocket.accept(); return m; }, "greeting"],
  "many messages keep their order": [async (t) => { const ws = await join(room(t)); const got = []; const all = new Promise((r) => ws.addEventListener("message", (e) => { got.push(e.data); if (got.length === 50) r(); })); for (let i = 0; i < 50; i++) ws.send(`echo ${i}`); await all; return got.every((x, i) => x === String(i)); }, true],
  "handlers interleave": [async (t) => { const ws = await join(room(t)); const got = []; const all = new Promise((r) => ws.addEventListener("message", (e) => { got.push(e.data); if (got.length === 2) r(); })); ws.send("slow 1"); ws.send("echo 2"); await all; return got; }],
  "tags": [async (t) => { const s = room(t); const ws = await join(s, "?tag=b&tag=a"); return [JSON.parse(await ask(ws, "tags")), await s.count("a"), await s.count("c"), await s.count()]; }, [["b", "a"], 1, 0, 1]],
  "no tags": [async (t) => JSON.parse(await ask(await join(room(t)), "tags")), []],
  "bad tags": [(t) => room(t).tagErrors()],
  "getWebSockets: order and all": [async (t) => { const s = room(t); const a = await join(s, "?tag=1"); const b = await join(s, "?tag=2"); const both = Promise.all([message(a), message(b)]); a.send("all"); return both; }, ["to 1", "to 2"]],
  "getWebSockets by a tag": [async (t) => { const s = room(t); const a = await join(s, "?tag=x&tag=1"); const b = await join(s, "?tag=y"); let other = 0; b.addEventListener("message", () => other++); const r = await ask(a, "all x"); await t.sleep(10); return [r, other]; }, ["to x+1", 0]],
  "bad sockets": [(t) => room(t).acceptErrors()],
  "accepted again, listened to": [async (t) => { const ws = await join(room(t)); return [await ask(ws, "again"), await ask(ws, "accept"), await ask(ws, "listen")]; }],
  "attachments": [async (t) => { const ws = await join(room(t), "?attach=5"); return [await ask(ws, "attachment"), await ask(ws, 'attach {"a":[1]}'), await ask(ws, "attachment")]; }, ['{"n":5}', "attached", '{"a":[1]}']],
  "bad attachments": [(t) => room(t).attachmentErrors()],
  "automatic responses": [async (t) => { const s = room(t); await s.autoResponse("ping", "pong"); const ws = await join(s); const out = [await ask(ws, "timestamp"), await ask(ws, "ping"), await ask(ws, "timestamp")]; return [...out, (await s.seen()).filter(([, m]) => m === "ping").length]; }, ["undefined", "pong", "number", 0]],
  "automatic responses, for sockets that are there": [async (t) => { const s = room(t); const ws = await join(s); await s.autoResponse("ping", "pong"); const a = await ask(ws, "ping"); await s.autoResponse(); return [a, await ask(ws, "ping")]; }, ["pong", "? ping"]],
  "automatic responses: what they take": [(t) => room(t).autoResponseErrors()],
  "time limits of events": [(t) => room(t).timeouts()],
  "the client closes": [async (t) => { const s = room(t); const ws = await join(s); const c = closed(ws); ws.close(4001, "bye"); const r = await Promise.race([c, t.sleep(500)]); await t.sleep(20); return [r, await s.seen(), await s.count()]; }],
  "the client closes without a code": [async (t) => { const s = room(t); const ws = await join(s); ws.close(); await t.sleep(30); return s.seen(); }],
  "the actor closes": [async (t) => { const s = room(t); const ws = await join(s); const c = closed(ws); ws.send('close [4002,"enough"]'); const r = await c; await t.sleep(20); return [r, (await s.seen()).filter(([k]) => k !== "message"), await s.count()]; }],
  "the actor closes without a code": [async (t) => { const s = room(t); const ws = await join(s); const c = closed(ws); ws.send("close"); return c; }],
  "bad codes": [async (t) => { const s = room(t); await join(s); return t.eachAsync([999, 1005, 5000, "x", undefined], async (code) => t.said(() => s.closeAll(code, "r"))); }],
  "sending after closing": [async (t) => { const s = room(t); await join(s); return s.sendAfterClose(); }],
  "a handler that throws": [async (t) => { const s = room(t); const ws = await join(s); const c = closed(ws); const before = await s.which(); ws.send("throw"); await t.sleep(30); return [await t.settled(c, 50), ws.readyState, before === await t.env.ROOM.get(s.id).which(), await t.settled(ask(ws, "echo after"), 200)]; }],
  "no handlers": [async (t) => { const s = fresh(t.env.SILENT); const ws = await join(s); ws.send("x"); await t.sleep(20); const open = ws.readyState; ws.close(); await t.sleep(20); return [open, await t.said(s.hello())]; }],
  "sockets kept the old way": [async (t) => { const s = room(t); const { webSocket } = await s.fetch("http://x/accepted", { headers: { upgrade: "websocket" } }); webSocket.accept(); return [await ask(webSocket, "hello"), await s.count()]; }, ["own hello", 0]],
  "both kinds in one actor": [async (t) => { const s = room(t); const { webSocket } = await s.fetch("http://x/accepted", { headers: { upgrade: "websocket" } }); webSocket.accept(); const ws = await join(s); return [await ask(webSocket, "a"), await ask(ws, "echo b"), await s.count()]; }, ["own a", "b", 1]],
  "a hundred sockets": [async (t) => { const s = room(t); const all = await Promise.all(Array.from({ length: 100 }, () => join(s))); const n = await s.count(); const got = Promise.all(all.map(message)); all[0].send("all"); return [n, (await got).length]; }, [100, 100]],
};
