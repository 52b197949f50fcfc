/** The asynchronous key-value API of `ctx.storage`. */
import { inside } from "../../harness/actor.js";

const fill = (t, keys = ["a", "a1", "a2", "b", "b1", "é"]) => t.storage.put(Object.fromEntries(keys.map((k) => [k, k.toUpperCase()])));
const keys = async (t, options) => [...(await t.storage.list(options)).keys()];

export const cases = inside("storage", {
  "put, get, delete": [async (t) => [await t.storage.put("k", { a: 1 }), await t.storage.get("k"), await t.storage.delete("k"), await t.storage.delete("k"), await t.storage.get("k")], [undefined, { a: 1 }, true, false, undefined]],
  "what they return": [(t) => [t.storage.put("k", 1), t.storage.get("k"), t.storage.delete("k"), t.storage.list()].map((p) => p instanceof Promise), [true, true, true, true]],
  "many: put": [async (t) => { await t.storage.put({ a: 1, b: 2 }); return [await t.storage.get("a"), await t.storage.get("b")]; }, [1, 2]],
  "many: get": [async (t) => { await fill(t); return t.storage.get(["b", "nowhere", "a"]); }],
  "many: order and repeats": [async (t) => { await fill(t); return [[...(await t.storage.get(["b", "a", "b"])).keys()], await t.storage.get([])]; }],
  "many: delete": [async (t) => { await fill(t); return [await t.storage.delete(["a", "b", "nowhere"]), await t.storage.delete([]), await keys(t)]; }],
  "many: limits": [async (t) => { const many = (n) => Array.from({ length: n }, (_, i) => `k${i}`); return [await t.said(async () => (await t.storage.get(many(128))).size), await t.said(async () => (await t.storage.get(many(129))).size), await t.said(() => t.storage.delete(many(129))), await t.said(() => t.storage.put(Object.fromEntries(many(129).map((k) => [k, 1])))), await t.said(() => t.storage.put(Object.fromEntries(many(128).map((k) => [k, 1]))))]; }],
  "many: put of what is no record": [async (t) => { const out = []; for (const x of [[], ["a"], new Map([["a", 1]]), null, 5, "k", {}, undefined]) out.push(await t.said(async () => { await t.storage.put(x); return keys(t); })); return out; }],
  "many: one value cannot be kept": [async (t) => [await t.said(() => t.storage.put({ a: 1, b: Symbol("s"), c: 2 })), await keys(t)]],
  "many: undefined values": [async (t) => { await t.storage.put("a", 1); return [await t.said(() => t.storage.put({ a: undefined, b: 2 })), await t.said(async () => [...(await t.storage.list())])]; }],
  "put without a value": [async (t) => [await t.said(() => t.storage.put("k")), await t.said(() => t.storage.put("k", undefined)), await t.said(() => t.storage.put()), await keys(t)]],
  "null": [async (t) => { await t.storage.put("k", null); return [await t.storage.get("k"), await keys(t)]; }, [null, ["k"]]],
  "keys": [async (t) => { const out = []; for (const k of ["", "é", "\u{1f600}", "a\0b", "x".repeat(2048), "x".repeat(2049), "é".repeat(1025)]) out.push(await t.said(async () => { await t.storage.put(k, 1); return t.storage.get(k); })); return out; }],
  "keys that are no strings": [async (t) => { const out = []; for (const k of [1, null, undefined, true, {}, Symbol("s")]) out.push(await t.said(() => t.storage.get(k))); return out; }],
  "refused at once or by the promise": [(t) => { const out = []; for (const f of [() => t.storage.put("k", Symbol("s")), () => t.storage.get("x".repeat(3000)), () => t.storage.put("k"), () => t.storage.list({ limit: 0 }), () => t.storage.get(Array(200).fill("k"))]) { try { const p = f(); p.catch(() => {}); out.push("promise"); } catch (e) { out.push("thrown"); } } return out; }],
  "large values": [async (t) => [await t.said(async () => { await t.storage.put("k", "x".repeat(2_000_000)); return (await t.storage.get("k")).length; }), await t.said(() => t.storage.put("k", "x".repeat(4_000_000)))]],
  "values are copied at once": [async (t) => { const o = { x: 1 }; const p = t.storage.put("k", o); o.x = 2; await p; return (await t.storage.get("k")).x; }, 1],
  "every get is a copy": [async (t) => { await t.storage.put("k", { x: 1 }); (await t.storage.get("k")).x = 9; return (await t.storage.get("k")).x; }, 1],
  "reads see writes before them": [async (t) => { t.storage.put("k", 1); const a = t.storage.get("k"); t.storage.put("k", 2); const b = t.storage.get("k"); t.storage.delete("k"); const c = t.storage.get("k"); return Promise.all([a, b, c]); }, [1, 2, undefined]],
  "list": [async (t) => { await fill(t); const l = await t.storage.list(); return [l instanceof Map, [...l]]; }],
  "list: options": [async (t) => { await fill(t); const out = []; for (const o of [{}, undefined, { start: "a1" }, { startAfter: "a1" }, { end: "b" }, { start: "a1", end: "b1" }, { startAfter: "a", end: "b1" }, { prefix: "a" }, { prefix: "é" }, { prefix: "" }, { prefix: "z" }, { reverse: true }, { limit: 2 }, { reverse: true, limit: 2 }, { prefix: "a", start: "a1" }, { prefix: "a", start: "0" }, { prefix: "a", end: "a2" }, { prefix: "b", startAfter: "b" }, { prefix: "a", reverse: true, limit: 1 }, { start: "b", end: "a" }, { start: "a1", reverse: true }, { end: "b", reverse: true, limit: 2 }, { startAfter: "a1", reverse: true, limit: 1 }, { allowConcurrency: true, noCache: true }]) out.push([JSON.stringify(o), await t.said(() => keys(t, o))]); return out; }],
  "list: bad options": [async (t) => { await fill(t); const out = []; for (const o of [{ limit: 0 }, { limit: -1 }, { limit: 1.5 }, { limit: "2" }, { limit: NaN }, { start: "a", startAfter: "a" }, { start: 5 }, { prefix: null }, { reverse: "yes" }, { unknown: 1 }, 5, "x", null]) out.push([JSON.stringify(o), await t.said(() => keys(t, o))]); return out; }],
  "list is a picture": [async (t) => { await fill(t); const l = await t.storage.list(); await t.storage.delete("a"); return l.has("a"); }, true],
  "options of put, get and delete": [async (t) => [await t.said(() => t.storage.put("k", 1, { allowConcurrency: true, allowUnconfirmed: true, noCache: true })), await t.said(() => t.storage.get("k", { allowConcurrency: true, noCache: true })), await t.said(() => t.storage.delete("k", { allowUnconfirmed: true })), await t.said(() => t.storage.put("k", 1, 5)), await t.said(() => t.storage.get("k", null)), await t.said(() => t.storage.get("k", "x"))]],
  "sync": [async (t) => { t.storage.put("k", 1); return [await t.storage.sync(), t.storage.sync() instanceof Promise]; }],
  "deleteAll": [async (t) => { await fill(t); t.sql.exec("CREATE TABLE a (x); CREATE VIEW v AS SELECT 1; CREATE INDEX i ON a (x)"); const r = await t.storage.deleteAll(); return [r, await keys(t), t.sql.exec("SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_cf%' ESCAPE '\\'").toArray(), await t.said(() => t.sql.exec("SELECT * FROM a"))]; }],
  "deleteAll, then writing": [async (t) => { await fill(t); await t.storage.deleteAll(); t.sql.exec("CREATE TABLE a (x); INSERT INTO a VALUES (1)"); await t.storage.put("k", 1); return [await t.storage.get("k"), t.sql.exec("SELECT x FROM a").one(), await keys(t)]; }, [1, { x: 1 }, ["k"]]],
  "deleteAll without waiting": [async (t) => { t.storage.put("k", 1); const p = t.storage.deleteAll(); t.storage.put("l", 2); await p; return keys(t); }],
  "deleteAll with dependent tables": [async (t) => { t.sql.exec("CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE q (p INTEGER REFERENCES p (id)); INSERT INTO p VALUES (1); INSERT INTO q VALUES (1); CREATE TABLE auto (id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO auto DEFAULT VALUES"); return [await t.said(t.storage.deleteAll()), t.sql.exec("SELECT count(*) AS n FROM sqlite_master WHERE name IN ('p', 'q', 'auto')").one()]; }],
  "deleteAll and alarms": [async (t) => { await t.storage.setAlarm(Date.now() + 100_000); await t.storage.deleteAll(); return (await t.storage.getAlarm()) === null; }],
  "bookmarks": [async (t) => { const a = await t.said(() => t.storage.getCurrentBookmark()); return typeof a === "string" ? a : [typeof a.ok]; }],
  "bookmark of a time": [(t) => t.said(async () => { await t.storage.put("k", 1); await t.storage.sync(); return typeof await t.storage.getBookmarkForTime(Date.now()); })],
  "restore at a bookmark": [(t) => t.said(async () => typeof await t.storage.onNextSessionRestoreBookmark("nonsense"))],
  "transaction.get is storage's no more afterwards": [async (t) => { let kept; await t.storage.transaction(async (txn) => { kept = txn; }); return t.said(() => kept.get("k")); }],
});
