/** WebSocket client, WebSocketPair (WebSockets Standard; Workers' runtime API). */
const url = (t, path) => t.origin.replace("http", "ws") + path;
const closed = (ws) => new Promise((r) => ws.addEventListener("close", (e) => r([e.code, e.reason, e.wasClean])));
const message = (ws) => new Promise((r) => ws.addEventListener("message", (e) => r(e.data), { once: true }));
const open = (ws) => new Promise((r, f) => { ws.addEventListener("open", () => r(ws)); ws.addEventListener("error", () => f(new Error("ws error"))); });

export const cases = {
  "echo text": [async (t) => { const ws = await open(new WebSocket(url(t, "/ws/echo"))); const m = message(ws); ws.send("héllo"); const x = await m; const c = closed(ws); ws.close(1000, "bye"); return [x, await c]; }, ["héllo", [1000, "bye", true]]],
  "echo bytes": [async (t) => { const ws = await open(new WebSocket(url(t, "/ws/echo"))); ws.binaryType = "arraybuffer"; const m = message(ws); ws.send(new Uint8Array([1, 2, 255])); const x = await m; ws.close(); return x; }, new Uint8Array([1, 2, 255]).buffer],
  "binaryType": [async (t) => { const ws = await open(new WebSocket(url(t, "/ws/echo"))); const d = ws.binaryType; const m = message(ws); ws.send(new Uint8Array([7]).buffer); const x = await m; ws.close(); return [d, x.constructor.name]; }],
  "messages that came at once, then close": [async (t) => { const ws = new WebSocket(url(t, "/ws/greet")); ws.binaryType = "arraybuffer"; const got = []; ws.onmessage = (e) => got.push(typeof e.data === "string" ? e.data : e.data.byteLength); const c = await closed(ws); return [got, c]; }, [["hello", 3], [4001, "done here", true]]],
  "states": [async (t) => { const ws = new WebSocket(url(t, "/ws/echo")); const s = [ws.readyState]; await open(ws); s.push(ws.readyState); const c = closed(ws); ws.close(); s.push(ws.readyState); await c; s.push(ws.readyState); return s; }, [0, 1, 2, 3]],
  "constants": [() => [WebSocket.CONNECTING, WebSocket.OPEN, WebSocket.CLOSING, WebSocket.CLOSED, WebSocket.READY_STATE_OPEN]],
  "url and protocol": [async (t) => { const ws = await open(new WebSocket(url(t, "/ws/echo"), ["chat.v1", "chat.v2"])); const x = [ws.protocol, ws.extensions, ws.url === url(t, "/ws/echo")]; ws.close(); return x; }],
  "http URL": [async (t) => t.error(async () => { const ws = await open(new WebSocket(t.origin + "/ws/echo")); const x = ws.url.slice(0, 3); ws.close(); return x; })],
  "bad URLs": [(t) => t.each(["/relative", "foo://x", "ws://x/#frag", ""], (u) => { const w = new WebSocket(u); w.addEventListener("error", () => {}); return "made"; })],
  "bad protocols": [(t) => t.each([["a", "a"], ["a b"], [""], "é"], (p) => { const w = new WebSocket("ws://127.0.0.1:1/", p); w.addEventListener("error", () => {}); return "made"; })],
  "refused upgrade": [(t) => new Promise((r) => { const ws = new WebSocket(url(t, "/ws/none")); const seen = []; ws.onerror = (e) => seen.push(e.type); ws.onclose = (e) => seen.push(e.code); setTimeout(() => r([seen, ws.readyState]), 100); })],
  "peer drops": [async (t) => { const ws = new WebSocket(url(t, "/ws/drop")); ws.onerror = () => {}; return Promise.race([closed(ws).then(([code, , clean]) => [code, clean]), t.sleep(500).then(() => "no close")]); }],
  "close codes that may be sent": [async (t) => { const ws = await open(new WebSocket(url(t, "/ws/echo"))); const r = t.each([999, 1001, 1005, 1006, 2999, 5000, "x", NaN], (code) => { ws.close(code); return "taken"; }); ws.close(3000, "ok"); return r; }],
  "close reason too long": [async (t) => { const ws = await open(new WebSocket(url(t, "/ws/echo"))); const r = t.error(() => ws.close(1000, "é".repeat(62))); ws.close(); return r; }],
  "send before open": [(t) => { const ws = new WebSocket(url(t, "/ws/echo")); const e = t.error(() => ws.send("x")); ws.addEventListener("open", () => ws.close()); return e; }],
  "send after close": [async (t) => { const ws = await open(new WebSocket(url(t, "/ws/echo"))); const c = closed(ws); ws.close(); const e = t.error(() => ws.send("x")); await c; return [e, t.error(() => ws.send("y"))]; }],
  "send of other things": [async (t) => { const ws = await open(new WebSocket(url(t, "/ws/echo"))); const out = []; for (const x of [5, { a: 1 }, null]) { const m = message(ws); const e = t.error(() => ws.send(x)); out.push(typeof e === "string" ? e : await m); } ws.close(); return out; }],
  "large message": [async (t) => { const ws = await open(new WebSocket(url(t, "/ws/echo"))); const m = message(ws); ws.send("x".repeat(300000)); const n = (await m).length; ws.close(); return n; }, 300000],
  "fetch with Upgrade": [async (t) => t.error(async () => { const r = await fetch(t.origin + "/ws/echo", { headers: { upgrade: "websocket" } }); const ws = r.webSocket; ws.accept(); const m = message(ws); ws.send("via fetch"); const x = await m; ws.close(); return [r.status, x]; }), { ok: [101, "via fetch"] }],
  "fetch without upgrade has none": [async (t) => (await fetch(t.origin + "/echo")).webSocket, null],
  "WebSocketPair": [async () => { const [a, b] = Object.values(new WebSocketPair()); a.accept(); b.accept(); const m = message(b); a.send("ping"); const x = await m; const c = closed(b); a.close(4000, "r"); return [x, await c]; }, ["ping", [4000, "r", true]]],
  "pair keys": [() => { const p = new WebSocketPair(); return [Object.keys(p), p[0] instanceof WebSocket, p[0] === p[0]]; }, [["0", "1"], true, true]],
  "send without accept": [(t) => { const [a] = Object.values(new WebSocketPair()); return t.error(() => a.send("x")); }, "TypeError"],
  "accept twice": [(t) => { const [a] = Object.values(new WebSocketPair()); a.accept(); return t.error(() => a.accept()); }],
  "pair keeps order and types": [async (t) => { const [a, b] = Object.values(new WebSocketPair()); a.accept(); b.accept(); b.binaryType = "arraybuffer"; const got = []; b.addEventListener("message", (e) => got.push(typeof e.data === "string" ? e.data : [...new Uint8Array(e.data)])); a.send("1"); a.send(new Uint8Array([2])); a.send("3"); await t.sleep(5); return got; }, ["1", [2], "3"]],
  "messages before accept are kept": [async (t) => { const [a, b] = Object.values(new WebSocketPair()); a.accept(); a.send("early"); await t.sleep(2); const m = message(b); b.accept(); return m; }, "early"],
  "close both sides": [async () => { const [a, b] = Object.values(new WebSocketPair()); a.accept(); b.accept(); const ca = closed(a); const cb = closed(b); a.close(1000, "x"); const x = await cb; b.close(1000, "y"); return [x, await ca]; }],
  "readyState of a pair": [() => { const [a] = Object.values(new WebSocketPair()); const s = [a.readyState]; a.accept(); s.push(a.readyState); a.close(); s.push(a.readyState); return s; }],
  "serializeAttachment": [(t) => { const [a] = Object.values(new WebSocketPair()); return t.error(() => { a.serializeAttachment({ x: 1 }); return a.deserializeAttachment(); }); }],
  "a service answers with a WebSocket": { async serve() { return new Response("not used"); }, async run(t) { return "see http"; } },
};
delete cases["a service answers with a WebSocket"];
