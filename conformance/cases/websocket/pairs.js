/** Pairs of sockets within one worker: states, closing, errors, what may be sent (Workers' runtime API). */
const pair = () => Object.values(new WebSocketPair());
const joined = () => { const [a, b] = pair(); a.accept(); b.accept(); return [a, b]; };
const once = (ws, type) => new Promise((r) => ws.addEventListener(type, r, { once: true }));

export const cases = {
  "members": [() => { const p = new WebSocketPair(); return [Object.keys(p), p[0] === p[0], p[0] instanceof WebSocket, p[0] !== p[1], typeof p[Symbol.iterator]]; }],
  "attributes of a fresh socket": [() => { const [a] = pair(); return [a.readyState, a.url, a.protocol, a.binaryType, a.bufferedAmount]; }],
  "close codes": [async (t) => { const out = []; for (const args of [[], [1000], [1000, "r"], [3000, "x"], [4999, "é"]]) { const [a, b] = joined(); const e = once(b, "close"); a.close(...args); const { code, reason, wasClean } = await e; out.push([code, reason, wasClean]); } return out; }],
  "bad close codes": [(t) => t.each([[0], [999], [1004], [1005], [1006], [1015], [2999], [5000], [70000], ["abc"], [undefined, "x"]], (args) => { const [a] = joined(); a.close(...args); return "ok"; })],
  "the closer hears it too": [async () => { const [a, b] = joined(); const e = once(a, "close"); b.addEventListener("close", () => {}); a.close(4000, "mine"); const { code, reason } = await e; return [code, reason, a.readyState]; }],
  "states while closing": [async (t) => { const [a, b] = joined(); const e = once(b, "close"); a.close(); const s = [a.readyState, b.readyState]; await e; await t.sleep(2); return [...s, a.readyState, b.readyState]; }],
  "close twice": [(t) => { const [a] = joined(); a.close(); return t.error(() => a.close()); }, { ok: undefined }],
  "send after close": [(t) => { const [a] = joined(); a.close(); return t.error(() => a.send("x")); }],
  "send after the other side closed": [async (t) => { const [a, b] = joined(); const e = once(b, "close"); a.close(); await e; return t.error(() => b.send("x")); }],
  "messages before the close arrive": [async () => { const [a, b] = joined(); const got = []; b.addEventListener("message", (e) => got.push(e.data)); const e = once(b, "close"); a.send("1"); a.send("2"); a.close(); await e; return got; }, ["1", "2"]],
  "data kinds": [async () => { const [a, b] = joined(); b.binaryType = "arraybuffer"; const got = []; b.addEventListener("message", (e) => got.push(typeof e.data === "string" ? e.data : [...new Uint8Array(e.data)])); const e = once(b, "close"); a.send("s"); a.send(new Uint8Array([1, 2]).subarray(1)); a.send(new Uint8Array([3]).buffer); a.send(new DataView(new ArrayBuffer(1))); a.close(); await e; return got; }, ["s", [2], [3], [0]]],
  "bytes are copied": [async () => { const [a, b] = joined(); b.binaryType = "arraybuffer"; const m = once(b, "message"); const x = new Uint8Array([1]); a.send(x); x[0] = 9; return [...new Uint8Array((await m).data)]; }, [1]],
  "empty messages": [async () => { const [a, b] = joined(); b.binaryType = "arraybuffer"; const got = []; b.addEventListener("message", (e) => got.push(e.data.length ?? e.data.byteLength)); const e = once(b, "close"); a.send(""); a.send(new Uint8Array(0)); a.close(); await e; return got; }, [0, 0]],
  "send without arguments": [(t) => { const [a] = joined(); return t.error(() => a.send()); }, "TypeError"],
  "the message event": [async () => { const [a, b] = joined(); const m = once(b, "message"); a.send("x"); const e = await m; return [e.constructor.name, e.type, e.target === b, e.origin, e.lastEventId, e.ports]; }],
  "the close event": [async () => { const [a, b] = joined(); const c = once(b, "close"); a.close(1000); const e = await c; return [e.constructor.name, e.bubbles, e.cancelable, e.target === b]; }],
  "accept of both is needed to hear": [async (t) => { const [a, b] = pair(); b.accept(); b.send("early"); const got = []; a.addEventListener("message", (e) => got.push(e.data)); await t.sleep(2); const before = got.length; a.accept(); await t.sleep(2); return [before, got]; }, [0, ["early"]]],
  "on… attributes": [async () => { const [a, b] = joined(); const got = []; b.onmessage = (e) => got.push(e.data); const c = new Promise((r) => { b.onclose = () => r(); }); a.send("m"); a.close(); await c; return [got, typeof b.onmessage, b.onerror]; }],
  "an exception in a listener": [async () => { const [a, b] = joined(); const got = []; b.addEventListener("message", () => { throw new Error("l"); }); b.addEventListener("message", (e) => got.push(e.data)); const e = once(b, "close"); a.send("x"); a.close(); await e; return got; }],
  "a socket in a response": [(t) => { const [a, b] = pair(); b.accept(); const r = new Response(null, { status: 101, webSocket: a }); return [r.status, r.webSocket === a, t.error(() => r.clone())]; }, [101, true, "TypeError"]],
  "101 without a socket": [(t) => t.error(() => new Response(null, { status: 101 })), "RangeError"],
  "a socket with another status": [(t) => { const [a] = pair(); return t.error(() => new Response(null, { status: 200, webSocket: a })); }, "RangeError"],
  "attachments": [(t) => { const [a] = pair(); const none = a.deserializeAttachment(); a.serializeAttachment({ n: [1, new Date(0)] }); const x = a.deserializeAttachment(); return [none, x.n[0], x.n[1].getTime(), t.error(() => a.serializeAttachment(() => {})), t.error(() => a.serializeAttachment("x".repeat(20000)))]; }],
  "a socket cannot be cloned": [(t) => { const [a] = pair(); return t.error(() => structuredClone(a)); }, "DOMException:DataCloneError"],
};
