/** Byte streams and BYOB readers (Streams §4.5–4.8). */
const bytes = (...xs) => new Uint8Array(xs);
const source = (...chunks) => new ReadableStream({ type: "bytes", start(c) { for (const x of chunks) c.enqueue(x); c.close(); } });

export const cases = {
  "default reader on a byte stream": [async (t) => (await t.chunks(source(bytes(1, 2), bytes(3)))), [bytes(1, 2), bytes(3)]],
  "BYOB read fills the view": [async () => { const r = source(bytes(1, 2, 3)).getReader({ mode: "byob" }); const { value, done } = await r.read(new Uint8Array(2)); const n = await r.read(new Uint8Array(5)); return [value, done, n.value, n.done]; }, [bytes(1, 2), false, bytes(3), false]],
  "BYOB detaches the buffer": [async () => { const r = source(bytes(1)).getReader({ mode: "byob" }); const v = new Uint8Array(4); const { value } = await r.read(v); return [v.byteLength, value.byteLength, value.buffer.byteLength]; }, [0, 1, 4]],
  "BYOB at the end": [async () => { const r = source().getReader({ mode: "byob" }); const { value, done } = await r.read(new Uint8Array(4)); return [done, value?.byteLength, value?.constructor.name]; }, [true, 0, "Uint8Array"]],
  "BYOB keeps offset and type": [async () => { const r = source(bytes(1, 0, 2, 0)).getReader({ mode: "byob" }); const { value } = await r.read(new Uint16Array(new ArrayBuffer(8), 2, 2)); return [value.constructor.name, value.byteOffset, [...value]]; }, ["Uint16Array", 2, [1, 2]]],
  "BYOB with DataView": [async () => { const r = source(bytes(9)).getReader({ mode: "byob" }); const { value } = await r.read(new DataView(new ArrayBuffer(2))); return [value.constructor.name, value.byteLength]; }, ["DataView", 1]],
  "BYOB with an empty view": [(t) => t.error(source(bytes(1)).getReader({ mode: "byob" }).read(new Uint8Array(0))), "TypeError"],
  "BYOB without a view": [(t) => t.error(source(bytes(1)).getReader({ mode: "byob" }).read()), "TypeError"],
  "read min": [async (t) => t.error(async () => { let n = 0; const s = new ReadableStream({ type: "bytes", pull(c) { c.enqueue(bytes(++n)); if (n === 5) c.close(); } }); const r = s.getReader({ mode: "byob" }); const { value } = await r.read(new Uint8Array(4), { min: 3 }); return [...value]; }), { ok: [1, 2, 3] }],
  "readAtLeast": [async (t) => t.error(async () => { let n = 0; const s = new ReadableStream({ type: "bytes", pull(c) { c.enqueue(bytes(++n)); if (n === 5) c.close(); } }); const r = s.getReader({ mode: "byob" }); const { value } = await r.readAtLeast(3, new Uint8Array(4)); return [...value]; })],
  "byobRequest respond": [async () => { const s = new ReadableStream({ type: "bytes", pull(c) { const q = c.byobRequest; q.view[0] = 7; q.respond(1); } }); const r = s.getReader({ mode: "byob" }); return [...(await r.read(new Uint8Array(3))).value]; }, [7]],
  "byobRequest is null for a default reader": [async () => { let seen; const s = new ReadableStream({ type: "bytes", pull(c) { seen = c.byobRequest; c.enqueue(bytes(1)); } }); await s.getReader().read(); return seen; }, null],
  "autoAllocateChunkSize": [async () => { const s = new ReadableStream({ type: "bytes", autoAllocateChunkSize: 16, pull(c) { const v = c.byobRequest.view; v[0] = 5; c.byobRequest.respond(1); } }); const { value } = await s.getReader().read(); return [value.byteLength, value[0]]; }, [1, 5]],
  "respondWithNewView": [async () => { const s = new ReadableStream({ type: "bytes", pull(c) { const v = c.byobRequest.view; v[0] = 3; v[1] = 4; c.byobRequest.respondWithNewView(new Uint8Array(v.buffer, v.byteOffset, 2)); } }); const r = s.getReader({ mode: "byob" }); return [...(await r.read(new Uint8Array(8))).value]; }, [3, 4]],
  "respond 0 while open": [async () => { let e; const s = new ReadableStream({ type: "bytes", pull(c) { try { c.byobRequest.respond(0); } catch (x) { e = x.name; c.enqueue(bytes(1)); } } }); await s.getReader({ mode: "byob" }).read(new Uint8Array(1)); return e; }, "TypeError"],
  "respond too much": [async () => { let e; const s = new ReadableStream({ type: "bytes", pull(c) { try { c.byobRequest.respond(9); } catch (x) { e = x.name; c.enqueue(bytes(1)); } } }); await s.getReader({ mode: "byob" }).read(new Uint8Array(1)); return e; }, "RangeError"],
  "enqueue of a non-view": [(t) => t.error(() => source("str")), "TypeError"],
  "enqueue of an empty view": [(t) => t.error(() => source(bytes())), "TypeError"],
  "enqueue transfers": [() => { const b = bytes(1, 2); source(b); return b.byteLength; }, 0],
  "tee of a byte stream": [async () => { const [a, b] = source(bytes(1, 2, 3)).tee(); const r = a.getReader({ mode: "byob" }); const x = (await r.read(new Uint8Array(2))).value; return [[...x], [...(await b.getReader().read()).value]]; }, [[1, 2], [1, 2]]],
  "high water mark default is 0": [async (t) => { let pulls = 0; new ReadableStream({ type: "bytes", pull() { pulls++; } }); await t.sleep(1); return pulls; }, 0],
  "size with bytes is refused": [(t) => t.error(() => new ReadableStream({ type: "bytes" }, { size() { return 1; } })), "RangeError"],
  "autoAllocateChunkSize 0": [(t) => t.error(() => typeof new ReadableStream({ type: "bytes", autoAllocateChunkSize: 0 })), "TypeError"],
  "cancel a BYOB reader": [async () => { let why; const s = new ReadableStream({ type: "bytes", cancel(r) { why = r; } }); await s.getReader({ mode: "byob" }).cancel("w"); return why; }, "w"],
  "mixed readers one after the other": [async () => { const s = source(bytes(1, 2, 3, 4)); let r = s.getReader({ mode: "byob" }); const a = (await r.read(new Uint8Array(1))).value; r.releaseLock(); r = s.getReader(); const b = (await r.read()).value; return [[...a], [...b]]; }, [[1], [2, 3, 4]]],
  "desiredSize counts bytes": [() => { const out = []; new ReadableStream({ type: "bytes", start(c) { c.enqueue(bytes(1, 2, 3)); out.push(c.desiredSize); } }, { highWaterMark: 10 }); return out; }, [7]],
};
