/** `transactionSync`, `transaction`, and what is undone when. */
import { inside } from "../../harness/actor.js";

const table = (t) => { t.sql.exec("CREATE TABLE a (x)"); };
const insert = (t, x) => { t.sql.exec("INSERT INTO a VALUES (?)", x); };
const rows = (t) => t.sql.exec("SELECT x FROM a ORDER BY x").toArray().map((r) => r.x);

export const cases = inside("transactions", {
  "transactionSync": [(t) => { table(t); const r = t.storage.transactionSync(() => { insert(t, 1); insert(t, 2); return "result"; }); return [r, rows(t)]; }, ["result", [1, 2]]],
  "transactionSync that throws": [async (t) => { table(t); insert(t, 0); const said = await t.said(() => t.storage.transactionSync(() => { insert(t, 1); throw new RangeError("undo"); })); return [said, rows(t)]; }, ["RangeError: undo", [0]]],
  "transactionSync throws what was thrown": [(t) => { const e = { own: 1 }; try { t.storage.transactionSync(() => { throw e; }); } catch (x) { return x === e; } }, true],
  "transactionSync nested": [(t) => { table(t); t.storage.transactionSync(() => { insert(t, 1); t.error(() => t.storage.transactionSync(() => { insert(t, 2); throw new Error("inner"); })); insert(t, 3); }); return rows(t); }, [1, 3]],
  "transactionSync nested, the outer undone": [(t) => { table(t); t.error(() => t.storage.transactionSync(() => { t.storage.transactionSync(() => insert(t, 1)); throw new Error("outer"); })); return rows(t); }, []],
  "transactionSync ten deep": [(t) => { table(t); const deep = (n) => n && t.storage.transactionSync(() => { insert(t, n); deep(n - 1); }); deep(10); return rows(t).length; }, 10],
  "transactionSync with a promise": [async (t) => { table(t); const said = await t.said(() => typeof t.storage.transactionSync(async () => { insert(t, 1); })); return [said, rows(t)]; }],
  "transactionSync undoes key-value writes": [(t) => { t.storage.kv.put("k", 1); t.error(() => t.storage.transactionSync(() => { t.storage.kv.put("k", 2); t.storage.put("l", 3); throw new Error("x"); })); return [t.storage.kv.get("k"), t.storage.kv.get("l")]; }, [1, undefined]],
  "transactionSync undoes tables": [(t) => { t.error(() => t.storage.transactionSync(() => { table(t); throw new Error("x"); })); return t.sql.exec("SELECT count(*) AS n FROM sqlite_master WHERE name = 'a'").one(); }, { n: 0 }],
  "transactionSync undoes alarms": [async (t) => { t.error(() => t.storage.transactionSync(() => { t.storage.setAlarm(Date.now() + 100_000); throw new Error("x"); })); return (await t.storage.getAlarm()) === null; }],
  "transactionSync of what is no function": [async (t) => [await t.said(() => t.storage.transactionSync()), await t.said(() => t.storage.transactionSync(5))]],
  "transactionSync: this and arguments": [(t) => { let seen; t.storage.transactionSync(function (...args) { seen = [this === undefined, args.length]; }); return seen; }],
  "transactionSync: an error caught within": [async (t) => { t.sql.exec("CREATE TABLE u (x UNIQUE)"); return [await t.said(() => t.storage.transactionSync(() => { t.sql.exec("INSERT INTO u VALUES (1)"); t.error(() => t.sql.exec("INSERT INTO u VALUES (1)")); t.sql.exec("INSERT INTO u VALUES (2)"); })), t.sql.exec("SELECT count(*) AS n FROM u").one()]; }],
  "transactionSync: an open cursor": [async (t) => { table(t); insert(t, 1); insert(t, 2); let c; t.error(() => t.storage.transactionSync(() => { c = t.sql.exec("SELECT x FROM a"); c.next(); throw new Error("x"); })); return t.said(() => c.toArray()); }],
  "transactionSync: a cursor that outlives it": [async (t) => { table(t); insert(t, 1); insert(t, 2); const c = t.storage.transactionSync(() => { const o = t.sql.exec("SELECT x FROM a"); o.next(); return o; }); return t.said(() => c.toArray()); }],
  "OR ROLLBACK is refused": [async (t) => { t.sql.exec("CREATE TABLE u (x UNIQUE)"); return [await t.said(() => t.storage.transactionSync(() => { t.sql.exec("INSERT INTO u VALUES (1)"); t.sql.exec("INSERT OR ROLLBACK INTO u VALUES (1)"); })), await t.said(() => t.sql.exec("SELECT count(*) AS n FROM u").one()), await t.said(() => t.sql.exec("INSERT INTO u VALUES (3)").toArray())]; }],
  "RAISE(ROLLBACK) in a trigger": [async (t) => { table(t); return [await t.said(() => { t.sql.exec("CREATE TRIGGER tr BEFORE INSERT ON a BEGIN SELECT RAISE(ROLLBACK, 'no'); END"); }), await t.said(() => insert(t, 1)), await t.said(() => rows(t))]; }],
  "transaction": [async (t) => { const r = await t.storage.transaction(async (txn) => { await txn.put("a", 1); await txn.put({ b: 2 }); return [await txn.get("a"), await txn.delete("b"), [...(await txn.list())]]; }); return [r, [...(await t.storage.list())]]; }],
  "transaction that throws": [async (t) => { await t.storage.put("k", 1); const said = await t.said(t.storage.transaction(async (txn) => { await txn.put("k", 2); throw new RangeError("undo"); })); return [said, await t.storage.get("k")]; }, ["RangeError: undo", 1]],
  "transaction rolled back": [async (t) => { await t.storage.put("k", 1); const r = await t.storage.transaction(async (txn) => { await txn.put("k", 2); txn.rollback(); return "result"; }); return [r, await t.storage.get("k")]; }],
  "transaction: after rollback": [async (t) => t.storage.transaction(async (txn) => { txn.rollback(); return [await t.said(() => txn.put("k", 1)), await t.said(() => txn.get("k")), await t.said(() => txn.rollback())]; })],
  "transaction: what it is given": [async (t) => t.storage.transaction(async (txn) => [txn.constructor.name, txn === t.storage, Object.getOwnPropertyNames(Object.getPrototypeOf(txn)).sort()])],
  "transaction with SQL": [async (t) => { table(t); await t.said(t.storage.transaction(async () => { insert(t, 1); await null; insert(t, 2); throw new Error("x"); })); return rows(t); }, []],
  "transaction across a timer": [async (t) => { table(t); const said = await t.said(t.storage.transaction(async () => { insert(t, 1); await t.sleep(5); insert(t, 2); return "done"; })); return [said, rows(t)]; }],
  "transaction across a timer, then an error": [async (t) => { table(t); const said = await t.said(t.storage.transaction(async () => { insert(t, 1); await t.sleep(5); throw new Error("late"); })); return [said, rows(t)]; }],
  "transaction with a plain function": [async (t) => [await t.said(t.storage.transaction((txn) => { txn.put("k", 1); return 5; })), await t.storage.get("k")]],
  "transactions one after the other": [async (t) => { const order = []; await Promise.all([1, 2].map((n) => t.storage.transaction(async (txn) => { order.push(`in ${n}`); await txn.put("k", n); await t.sleep(3); order.push(`out ${n}`); }))); return [order, await t.storage.get("k")]; }],
  "transaction within a transaction": [(t) => t.settled(t.storage.transaction(async () => t.storage.transaction(async (inner) => { await inner.put("k", 1); return "inner"; })), 500)],
  "transactionSync within a transaction": [async (t) => { table(t); await t.storage.transaction(async () => { insert(t, 1); t.error(() => t.storage.transactionSync(() => { insert(t, 2); throw new Error("x"); })); }); return rows(t); }, [1]],
  "storage within a transaction": [async (t) => { await t.storage.transaction(async (txn) => { await t.storage.put("direct", 1); txn.rollback(); }); return t.storage.get("direct"); }],
  "alarms within a transaction": [async (t) => { await t.storage.transaction(async (txn) => { await txn.setAlarm(Date.now() + 100_000); txn.rollback(); }); return (await t.storage.getAlarm()) === null; }],
  "deleteAll within a transaction": [(t) => t.said(t.storage.transaction(async (txn) => { await (txn.deleteAll ?? (() => "not there")).call(txn); await t.storage.deleteAll(); return "done"; }))],
  "writes between awaits are together": [async (t) => { table(t); insert(t, 1); insert(t, 2); await t.storage.sync(); return rows(t); }, [1, 2]],
});
