/** `ctx.storage.kv`, the synchronous key-value API. */
import { inside } from "../../harness/actor.js";

const fill = (t, keys = ["a", "a1", "a2", "b", "b1", "é"]) => { for (const k of keys) t.storage.kv.put(k, k.toUpperCase()); };
const keys = (t, options) => [...t.storage.kv.list(options)].map(([k]) => k);

export const cases = inside("kv", {
  "put, get, delete": [(t) => { const kv = t.storage.kv; const out = [kv.put("k", { a: 1 }), kv.get("k"), kv.delete("k"), kv.delete("k"), kv.get("k")]; return out; }, [undefined, { a: 1 }, true, false, undefined]],
  "values": [(t) => { const kv = t.storage.kv; const v = { d: new Date(5), m: new Map([[1, new Set(["x"])]]), r: /a/g, u: undefined, n: -0, big: 10n, bytes: new Uint8Array([1, 2]), buf: new ArrayBuffer(2), nan: NaN, arr: [, 1], nul: null, s: "é\0" }; kv.put("k", v); return kv.get("k"); }],
  "values of all primitive types": [async (t) => { const out = []; for (const v of [undefined, null, true, 0, -0, 1.5, NaN, "", "x", 5n]) out.push(await t.said(() => { t.storage.kv.put("k", v); return [t.storage.kv.get("k"), [...t.storage.kv.list()].length]; })); return out; }],
  "values that cannot be kept": [async (t) => { const out = []; for (const v of [Symbol("s"), () => 1, new WeakMap(), Promise.resolve(1)]) out.push(await t.said(() => t.storage.kv.put("k", v))); out.push(t.storage.kv.get("k")); return out; }],
  "class instances": [async (t) => { class A { x = 1; get y() { return 2; } } return t.said(() => { t.storage.kv.put("k", new A()); return t.storage.kv.get("k"); }); }],
  "platform objects": [async (t) => { const out = []; for (const v of [new URL("http://a/"), new Headers({ a: "1" }), new Response("x"), new Error("e", { cause: 1 }), new DOMException("m", "DataError")]) out.push(await t.said(() => { t.storage.kv.put("k", v); const r = t.storage.kv.get("k"); return [r.constructor.name, r.message]; })); return out; }],
  "cycles and shared parts": [(t) => { const shared = { s: 1 }; const o = { a: shared, b: shared }; o.self = o; t.storage.kv.put("k", o); const r = t.storage.kv.get("k"); return [r.self === r, r.a === r.b]; }, [true, true]],
  "values are copies": [(t) => { const o = { x: 1 }; t.storage.kv.put("k", o); o.x = 2; const r = t.storage.kv.get("k"); r.x = 3; return t.storage.kv.get("k").x; }, 1],
  "keys": [async (t) => { const out = []; for (const k of ["", "a", "é", "\u{1f600}", "a\0b", "x".repeat(2048), "x".repeat(2049), "é".repeat(1024), "é".repeat(1025), "\ud800"]) out.push(await t.said(() => { t.storage.kv.put(k, 1); return t.storage.kv.get(k); })); return out; }],
  "keys that are no strings": [async (t) => { const out = []; for (const k of [1, null, undefined, true, {}, ["a"], Symbol("s")]) out.push(await t.said(() => { t.storage.kv.put(k, 1); return keys(t); })); return out; }],
  "keys in a list of keys": [async (t) => { fill(t); return [await t.said(() => t.storage.kv.get(["a", "b"])), await t.said(() => t.storage.kv.delete(["a", "b"])), await t.said(() => t.storage.kv.put({ x: 1, y: 2 })), keys(t)]; }],
  "large values": [async (t) => [await t.said(() => { t.storage.kv.put("k", "x".repeat(2_000_000)); return t.storage.kv.get("k").length; }), await t.said(() => { t.storage.kv.put("k", "x".repeat(4_000_000)); return t.storage.kv.get("k").length; }), await t.said(() => { t.storage.kv.put("k", new Uint8Array(4_000_000)); return t.storage.kv.get("k").length; })]],
  "list": [(t) => { fill(t); return [...t.storage.kv.list()]; }],
  "list: its shape": [(t) => { fill(t, ["a"]); const l = t.storage.kv.list(); return [typeof l.next, l[Symbol.iterator]() === l, Array.isArray(l), l instanceof Map, Object.prototype.toString.call(l), l.next(), l.next()]; }],
  "list: order is by bytes": [(t) => { fill(t, ["b", "B", "é", "a", "10", "9", "\uffee", "\u{1f600}", ""].filter(Boolean)); return keys(t); }],
  "list: options": [async (t) => { fill(t); const out = []; for (const o of [{}, undefined, null, { start: "a1" }, { startAfter: "a1" }, { end: "b" }, { start: "a1", end: "b1" }, { startAfter: "a", end: "b1" }, { prefix: "a" }, { prefix: "é" }, { prefix: "" }, { prefix: "z" }, { reverse: true }, { limit: 2 }, { limit: 100 }, { reverse: true, limit: 2 }, { prefix: "a", start: "a1" }, { prefix: "a", start: "0" }, { prefix: "a", end: "a2" }, { prefix: "a", end: "z" }, { prefix: "b", startAfter: "b" }, { prefix: "a", reverse: true, limit: 1 }, { start: "b", end: "a" }, { start: "a", end: "a" }, { start: "a1", reverse: true }, { end: "b", reverse: true, limit: 2 }, { startAfter: "a1", reverse: true, limit: 1 }, { startAfter: "zzz" }]) out.push([JSON.stringify(o), await t.said(() => keys(t, o))]); return out; }],
  "list: bad options": [async (t) => { fill(t); const out = []; for (const o of [{ limit: 0 }, { limit: -1 }, { limit: 1.5 }, { limit: "2" }, { limit: NaN }, { limit: Infinity }, { start: "a", startAfter: "a" }, { start: 5 }, { start: null }, { prefix: null }, { reverse: "yes" }, { unknown: 1 }, 5, "x"]) out.push([JSON.stringify(o), await t.said(() => keys(t, o))]); return out; }],
  "list while changing": [async (t) => { fill(t); return t.said(() => { const out = []; for (const [k] of t.storage.kv.list()) { out.push(k); t.storage.kv.delete("b"); t.storage.kv.put("zz", 1); } return out; }); }],
  "two lists at once": [async (t) => { fill(t, ["a", "b"]); return t.said(() => { const l = t.storage.kv.list(); const m = t.storage.kv.list(); return [l.next().value, m.next().value, l.next().value, m.next().value]; }); }],
  "a prefix with wild characters": [(t) => { fill(t, ["a%b", "a_b", "axb", "a*b", "a\\b"]); return t.each(["a%", "a_", "a*", "a\\", "ax"], (prefix) => keys(t, { prefix })); }],
  "sees what the asynchronous API wrote": [async (t) => { t.storage.put("k", 1); return [t.storage.kv.get("k"), await t.storage.get("k")]; }, [1, 1]],
  "many keys": [(t) => { for (let i = 0; i < 2000; i++) t.storage.kv.put(`k${i}`, i); return [keys(t).length, t.storage.kv.get("k1999")]; }, [2000, 1999]],
});
