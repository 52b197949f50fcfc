/** node:events. */
import EventEmitter, { EventEmitter as Named, once, on, errorMonitor, getEventListeners, captureRejectionSymbol, setMaxListeners, addAbortListener } from "node:events";
const E = () => new EventEmitter();

export const cases = {
  "emit order and arguments": [() => { const e = E(); const o = []; e.on("x", (...a) => o.push(a)); e.prependListener("x", () => o.push("first")); return [e.emit("x", 1, 2, 3, 4), e.emit("y"), o]; }, [true, false, ["first", [1, 2, 3, 4]]]],
  "this is the emitter": [() => { const e = E(); let r; e.on("x", function () { r = this === e; }); e.emit("x"); return r; }, true],
  "once and off": [() => { const e = E(); let n = 0; const f = () => n++; e.once("x", f); e.emit("x"); e.emit("x"); e.on("x", f); e.off("x", f); e.emit("x"); e.once("y", f); e.removeListener("y", f); e.emit("y"); return n; }, 1],
  "off removes the last added": [() => { const e = E(); const f = () => {}; e.on("x", f); e.on("x", f); e.off("x", f); return e.listenerCount("x"); }, 1],
  "removal during emit": [() => { const e = E(); const o = []; const b = () => o.push("b"); e.on("x", () => { o.push("a"); e.off("x", b); }); e.on("x", b); e.emit("x"); e.emit("x"); return o; }, ["a", "b", "a"]],
  "error without listeners throws it": [(t) => [t.error(() => E().emit("error", new RangeError("r"))), t.error(() => E().emit("error", "str")), t.error(() => E().emit("error"))], ["RangeError", "Error[ERR_UNHANDLED_ERROR]", "Error[ERR_UNHANDLED_ERROR]"]],
  "errorMonitor": [(t) => { const e = E(); let seen; e.on(errorMonitor, (x) => { seen = x.message; }); return [t.error(() => e.emit("error", new Error("m"))), seen]; }, ["Error", "m"]],
  "newListener and removeListener": [() => { const e = E(); const o = []; e.on("newListener", (n) => o.push("+" + String(n))); e.on("removeListener", (n) => o.push("-" + String(n))); const f = () => {}; e.on("x", f); e.off("x", f); return o; }, ["+removeListener", "+x", "-x"]],
  "names and counts": [() => { const s = Symbol("s"); const e = E(); e.on("a", () => {}); e.on(s, () => {}); const f = () => {}; e.on("a", f); return [e.eventNames().map(String), e.listenerCount("a"), e.listenerCount("a", f), e.listenerCount("z"), e.listeners("a").length, e.rawListeners("a").length]; }, [["a", "Symbol(s)"], 2, 1, 0, 2, 2]],
  "rawListeners of once": [() => { const e = E(); const f = () => 5; e.once("x", f); return [e.listeners("x")[0] === f, e.rawListeners("x")[0] === f, e.rawListeners("x")[0].listener === f]; }, [true, false, true]],
  "removeAllListeners": [() => { const e = E(); e.on("a", () => {}); e.on("b", () => {}); e.removeAllListeners("a"); const x = e.eventNames(); e.removeAllListeners(); return [x, e.eventNames()]; }, [["b"], []]],
  "bad listener": [(t) => [t.error(() => E().on("x", 5)), t.error(() => E().off("x", null))], ["TypeError[ERR_INVALID_ARG_TYPE]", "TypeError[ERR_INVALID_ARG_TYPE]"]],
  "max listeners": [(t) => { const e = E(); const d = e.getMaxListeners(); e.setMaxListeners(3); return [d, e.getMaxListeners(), EventEmitter.defaultMaxListeners, t.error(() => e.setMaxListeners(-1)), typeof setMaxListeners]; }, [10, 3, 10, "RangeError[ERR_OUT_OF_RANGE]", "function"]],
  "once promise": [async (t) => { const e = E(); const p = once(e, "x"); e.emit("x", 1, 2); const q = once(e, "y"); e.emit("error", new RangeError("r")); return [await p, await t.error(q)]; }, [[1, 2], "RangeError"]],
  "once with a signal": [async (t) => { const c = new AbortController(); const p = once(E(), "x", { signal: c.signal }); c.abort(); return t.error(p); }],
  "once on an EventTarget": [async () => { const et = new EventTarget(); const p = once(et, "x"); et.dispatchEvent(new Event("x")); const [ev] = await p; return ev.type; }, "x"],
  "on iterator": [async () => { const e = E(); const it = on(e, "x"); e.emit("x", 1); e.emit("x", 2); const out = []; for await (const [v] of it) { out.push(v); if (v === 2) break; } return [out, e.listenerCount("x")]; }, [[1, 2], 0]],
  "on iterator error": [async (t) => { const e = E(); const it = on(e, "x"); e.emit("error", new RangeError()); return t.error(it.next()); }, "RangeError"],
  "getEventListeners": [() => { const e = E(); const f = () => {}; e.on("x", f); return getEventListeners(e, "x")[0] === f; }, true],
  "exports": [() => [EventEmitter === Named, EventEmitter.EventEmitter === EventEmitter, typeof EventEmitter.once, String(captureRejectionSymbol), typeof addAbortListener]],
  "inherits the old way": [() => { function T() { EventEmitter.call(this); } Object.setPrototypeOf(T.prototype, EventEmitter.prototype); const t = new T(); let n = 0; t.on("x", () => n++); t.emit("x"); return n; }, 1],
  "subclass": [() => { class T extends EventEmitter { go() { return this.emit("go", this.v); } v = 3; } const t = new T(); let r; t.on("go", (v) => { r = v; }); return [t.go(), r, t instanceof EventEmitter]; }, [true, 3, true]],
  "chaining": [() => { const e = E(); return e.on("a", () => {}).once("b", () => {}).off("a", () => {}).setMaxListeners(5) === e; }, true],
  "symbol keys and __proto__": [() => { const e = E(); let n = 0; e.on("__proto__", () => n++); e.on("toString", () => n++); e.emit("__proto__"); e.emit("toString"); return [n, e.emit("hasOwnProperty")]; }, [2, false]],
  "captureRejections": [async (t) => { const e = new EventEmitter({ captureRejections: true }); let seen; e.on("error", (x) => { seen = x.message; }); e.on("x", async () => { throw new Error("async"); }); e.emit("x"); await t.sleep(3); return seen; }],
};
