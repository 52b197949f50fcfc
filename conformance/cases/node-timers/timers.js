/** node:timers, timers/promises. */
import timers, { setTimeout as st, setImmediate as si, clearTimeout as ct, setInterval as sv } from "node:timers";
import { setTimeout as wait, setImmediate as imm, setInterval as every, scheduler as sched } from "node:timers/promises";

export const cases = {
  "setTimeout returns a Timeout": [() => { const x = st(() => {}, 1); const r = [typeof x, typeof x.ref, typeof x.unref, typeof x.hasRef, typeof x.refresh, typeof x[Symbol.toPrimitive]]; ct(x); return r; }],
  "runs with arguments": [() => new Promise((r) => st((...a) => r(a), 1, "a", 2)), ["a", 2]],
  "clear": [async (t) => { let n = 0; ct(st(() => n++, 1)); await t.sleep(5); return n; }, 0],
  "interval": [() => new Promise((r) => { let n = 0; const id = sv(() => { if (++n === 2) { timers.clearInterval(id); r(n); } }, 1); }), 2],
  "immediate": [() => new Promise((r) => si((x) => r(x), "i")), "i"],
  "promises.setTimeout": [async (t) => [await wait(1, "v"), await t.error(wait(1000, null, { signal: AbortSignal.abort() }))]],
  "promises.setTimeout aborted later": [async (t) => { const c = new AbortController(); const p = wait(1000, 0, { signal: c.signal }); c.abort(); return t.error(p); }],
  "promises.setImmediate": [() => imm("x"), "x"],
  "promises.setInterval": [async () => { let n = 0; for await (const v of every(1, "tick")) { if (++n === 3) return [n, v]; } }, [3, "tick"]],
  "scheduler": [async (t) => [await sched.wait(1), await t.error(() => sched.yield())]],
  "bad callback": [(t) => [t.error(() => st("x")), t.error(() => si(null))]],
  "active and enroll are gone or there": [() => ["active", "unenroll", "promises"].map((k) => typeof timers[k])],
};
