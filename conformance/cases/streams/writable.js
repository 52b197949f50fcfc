/** WritableStream (Streams §5). */
const sink = (log, more = {}) => ({ start() { log.push("start"); }, write(x) { log.push(x); }, close() { log.push("close"); }, abort(r) { log.push(["abort", r]); }, ...more });

export const cases = {
  "writes in order": [async () => { const log = []; const w = new WritableStream(sink(log)).getWriter(); w.write(1); w.write(2); await w.close(); return log; }, ["start", 1, 2, "close"]],
  "one write at a time": [async (t) => { let busy = 0; let most = 0; const w = new WritableStream({ async write() { most = Math.max(most, ++busy); await t.sleep(1); busy--; } }).getWriter(); w.write(); w.write(); await w.write(); return most; }, 1],
  "desiredSize and ready": [async () => { const w = new WritableStream({ write() {} }, { highWaterMark: 2 }).getWriter(); const a = w.desiredSize; w.write(1); const b = w.desiredSize; w.write(1); const c = w.desiredSize; await w.ready; return [a, b, c, w.desiredSize]; }, [2, 1, 0, 1]],
  "ready waits": [async (t) => { const o = []; let go; const w = new WritableStream({ write() { return new Promise((r) => { go = r; }); } }).getWriter(); w.write(1); w.ready.then(() => o.push("ready")); await t.sleep(1); o.push("before"); go(); await w.ready; return o; }, ["before", "ready"]],
  "write error": [async (t) => { const w = new WritableStream({ write() { throw new RangeError("w"); } }).getWriter(); w.closed.catch(() => {}); const p = w.write(1); return [await t.error(p), await t.error(w.write(2)), await t.error(w.closed), w.desiredSize]; }, ["RangeError", "RangeError", "RangeError", null]],
  "start error": [async (t) => { const w = new WritableStream({ async start() { throw new URIError("s"); } }).getWriter(); w.closed.catch(() => {}); return t.error(w.write(1)); }, "URIError"],
  "close error": [async (t) => { const w = new WritableStream({ close() { throw new URIError("s"); } }).getWriter(); w.closed.catch(() => {}); return t.error(w.close()); }, "URIError"],
  "controller.error": [async (t) => { let c; const w = new WritableStream({ start(x) { c = x; } }).getWriter(); w.closed.catch(() => {}); c.error(new RangeError("e")); return [await t.error(w.write(1)), await t.error(w.ready)]; }, ["RangeError", "RangeError"]],
  "abort": [async (t) => { const log = []; const w = new WritableStream(sink(log)).getWriter(); w.closed.catch(() => {}); await w.abort("why"); return [log, await t.error(w.write(1)), await w.closed.catch((e) => e)]; }],
  "abort signal of the controller": [async () => { let c; const w = new WritableStream({ start(x) { c = x; } }).getWriter(); w.closed.catch(() => {}); const before = c.signal.aborted; w.abort("r").catch(() => {}); return [before, c.signal.aborted, c.signal.reason]; }, [false, true, "r"]],
  "abort drops queued writes": [async (t) => { const log = []; let go; const w = new WritableStream({ write(x) { log.push(x); return new Promise((r) => { go = r; }); } }).getWriter(); await t.sleep(1); w.closed.catch(() => {}); w.write("a").catch(() => {}); const b = w.write("b"); b.catch(() => {}); await t.sleep(1); const p = w.abort(new RangeError("x")); go(); await p; return [log, await t.error(b)]; }, [["a"], "RangeError"]],
  "locked": [(t) => { const s = new WritableStream(); const w = s.getWriter(); const e = t.error(() => s.getWriter()); w.releaseLock(); return [e, s.locked]; }, ["TypeError", false]],
  "released writer": [async (t) => { const w = new WritableStream().getWriter(); w.releaseLock(); return [await t.error(w.write(1)), await t.error(w.closed), await t.error(w.close()), t.error(() => w.desiredSize)]; }, Array(4).fill("TypeError")],
  "close twice": [async (t) => { const w = new WritableStream().getWriter(); const p = w.close(); return [await t.error(w.close()), await p]; }, ["TypeError", undefined]],
  "write after close": [async (t) => { const w = new WritableStream().getWriter(); w.close(); return t.error(w.write(1)); }, "TypeError"],
  "stream close and abort need no lock": [async (t) => { const s = new WritableStream(); await s.close(); const l = new WritableStream(); l.getWriter(); return [await t.error(l.close()), await t.error(l.abort())]; }, ["TypeError", "TypeError"]],
  "size function": [async () => { const w = new WritableStream({}, { highWaterMark: 10, size: (x) => x }).getWriter(); w.write(4); return w.desiredSize; }, 6],
  "type is refused": [(t) => t.error(() => new WritableStream({ type: "bytes" })), "RangeError"],
  "tag": [() => [Object.prototype.toString.call(new WritableStream()), Object.prototype.toString.call(new WritableStream().getWriter())], ["[object WritableStream]", "[object WritableStreamDefaultWriter]"]],
};
