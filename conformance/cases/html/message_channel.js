/** MessageChannel and MessagePort (HTML §9.4). */
const next = (port) => new Promise((r) => { port.onmessage = (e) => r(e.data); });

export const cases = {
  "post and receive": [async () => { const { port1, port2 } = new MessageChannel(); const p = next(port2); port1.postMessage({ a: [1] }); const x = await p; port1.close(); return x; }, { a: [1] }],
  "both ways": [async () => { const { port1, port2 } = new MessageChannel(); port2.onmessage = (e) => port2.postMessage(e.data + 1); const p = next(port1); port1.postMessage(1); const x = await p; port1.close(); return x; }, 2],
  "order and asynchrony": [async (t) => { const { port1, port2 } = new MessageChannel(); const o = []; port2.onmessage = (e) => o.push(e.data); port1.postMessage(1); port1.postMessage(2); o.push("sync"); await t.sleep(5); port1.close(); return o; }, ["sync", 1, 2]],
  "messages are clones": [async () => { const { port1, port2 } = new MessageChannel(); const o = { x: 1 }; const p = next(port2); port1.postMessage(o); o.x = 2; const r = await p; port1.close(); return r.x; }, 1],
  "addEventListener needs start": [async (t) => { const { port1, port2 } = new MessageChannel(); const o = []; port2.addEventListener("message", (e) => o.push(e.data)); port1.postMessage(1); await t.sleep(5); const before = [...o]; port2.start(); await t.sleep(5); port1.close(); return [before, o]; }, [[], [1]]],
  "queued until onmessage": [async (t) => { const { port1, port2 } = new MessageChannel(); port1.postMessage("early"); await t.sleep(2); const x = await next(port2); port1.close(); return x; }, "early"],
  "uncloneable": [(t) => t.error(() => new MessageChannel().port1.postMessage(() => 1)), "DOMException:DataCloneError"],
  "transfer a buffer": [async (t) => t.error(async () => { const { port1, port2 } = new MessageChannel(); const b = new ArrayBuffer(3); const p = next(port2); port1.postMessage(b, [b]); const r = await p; port1.close(); return [b.byteLength, r.byteLength]; })],
  "transfer a port": [async (t) => t.error(async () => { const a = new MessageChannel(); const b = new MessageChannel(); const p = new Promise((r) => { a.port2.onmessage = (e) => r([e.ports.length, e.data]); }); a.port1.postMessage("take", [b.port2]); const r = await Promise.race([p, t.sleep(50).then(() => "none")]); a.port1.close(); return r; })],
  "close stops delivery": [async (t) => { const { port1, port2 } = new MessageChannel(); let n = 0; port2.onmessage = () => n++; port2.close(); port1.postMessage(1); await t.sleep(5); return n; }, 0],
  "event shape": [async () => { const { port1, port2 } = new MessageChannel(); const p = new Promise((r) => { port2.onmessage = r; }); port1.postMessage("d"); const e = await p; port1.close(); return [e.type, e instanceof MessageEvent, e.data, e.target === port2, e.ports?.length]; }],
  "tags and constructors": [(t) => [Object.prototype.toString.call(new MessageChannel()), Object.prototype.toString.call(new MessageChannel().port1), t.error(() => new MessagePort()), t.error(() => MessageChannel())], ["[object MessageChannel]", "[object MessagePort]", "TypeError", "TypeError"]],
  "argument count": [(t) => t.error(() => new MessageChannel().port1.postMessage())],
};
