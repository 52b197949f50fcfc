/** Alarms that ring: when, how often, with what, and again after a failure. */
const fresh = (ns) => ns.get(ns.newUniqueId());
const until = async (t, s, n, ms = 3000) => { for (let i = 0; i < ms / 20; i++) { const seen = await s.seen(); if (seen.length >= n) return seen; await t.sleep(20); } return s.seen(); };
const shown = (seen) => seen.map(({ late, ...rest }) => ({ ...rest, onTime: late >= 0 && late < 2000 }));

export const cases = {
  "rings": [async (t) => { const s = fresh(t.env.CLOCK); const set = await s.start(20); return [set, shown(await until(t, s, 1)), await s.pending()]; }],
  "in the past": [async (t) => { const s = fresh(t.env.CLOCK); await s.start(-100_000); const seen = await until(t, s, 1); return [seen.length, seen[0]?.retryCount]; }, [1, 0]],
  "rings once": [async (t) => { const s = fresh(t.env.CLOCK); await s.start(5); await until(t, s, 1); await t.sleep(100); return (await s.seen()).length; }, 1],
  "the later one replaces": [async (t) => { const s = fresh(t.env.CLOCK); await s.setTwice(10, 100_000); await t.sleep(100); return [(await s.seen()).length, await s.pending()]; }, [0, "number"]],
  "the earlier one replaces": [async (t) => { const s = fresh(t.env.CLOCK); await s.setTwice(100_000, 10); return (await until(t, s, 1)).length; }, 1],
  "deleted": [async (t) => { const s = fresh(t.env.CLOCK); await s.start(60); const left = await s.cancel(); await t.sleep(150); return [left, (await s.seen()).length]; }, [null, 0]],
  "set anew by the handler": [async (t) => { const s = fresh(t.env.CLOCK); await s.start(5, "again"); const seen = await until(t, s, 3); return [seen.length, seen.map((x) => x.pending), await s.pending()]; }, [3, [null, null, null], null]],
  "deleted by its handler": [async (t) => { const s = fresh(t.env.CLOCK); await s.start(5, "delete"); await until(t, s, 1); await t.sleep(30); return [(await s.seen()).length, await s.pending()]; }, [1, null]],
  "a failure is tried again": [async (t) => { const s = fresh(t.env.CLOCK); await s.start(5, "fail"); return shown(await until(t, s, 2, 6000)).map(({ onTime, ...rest }) => rest); }],
  "a failure after it was set anew": [async (t) => { const s = fresh(t.env.CLOCK); await s.start(5, "move and fail"); await until(t, s, 1); await t.sleep(200); return [(await s.seen()).length]; }],
  "pending while the handler runs": [async (t) => { const s = fresh(t.env.CLOCK); await s.start(5, "slow"); await until(t, s, 1); return s.pending(); }],
  "without a handler": [(t) => t.said(fresh(t.env.NOHANDLER).set())],
  "of many actors": [async (t) => { const all = Array.from({ length: 30 }, () => fresh(t.env.CLOCK)); await Promise.all(all.map((s) => s.start(10))); return (await Promise.all(all.map((s) => until(t, s, 1)))).every((seen) => seen.length === 1); }, true],
};
