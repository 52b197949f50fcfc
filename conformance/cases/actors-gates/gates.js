/** Input gates (no call comes between a read and the code after it) and the effects of output gates that can be seen from outside. */
const fresh = (ns) => ns.get(ns.newUniqueId());
const gate = (t) => fresh(t.env.GATE);
const times = (n, f) => Promise.all(Array.from({ length: n }, (_, i) => f(i)));

export const cases = {
  "read, add, write: no update is lost": [async (t) => { const s = gate(t); await times(50, () => s.addKv()); return s.n(); }, 50],
  "each call has its own number": [async (t) => { const s = gate(t); return new Set(await times(50, () => s.addKv())).size; }, 50],
  "the same without waiting for the write": [async (t) => { const s = gate(t); await times(50, () => s.addKvWithoutWaiting()); return s.n(); }, 50],
  "the same over fetch": [async (t) => { const s = gate(t); const all = await times(30, async () => Number(await (await s.fetch("http://x/add")).text())); return [new Set(all).size, await s.n()]; }, [30, 30]],
  "from several stubs": [async (t) => { const id = t.env.GATE.newUniqueId(); await times(40, () => t.env.GATE.get(id).addKv()); return t.env.GATE.get(id).n(); }, 40],
  "a wait in between loses updates": [async (t) => { const s = gate(t); await times(10, () => s.addSlow(10)); return s.n(); }, 1],
  "unless it is blocked": [async (t) => { const s = gate(t); await times(5, () => s.addSlowBlocked(3)); return s.n(); }, 5],
  "unless it is a transaction": [async (t) => { const s = gate(t); await times(5, () => s.addTransaction()); return s.n(); }],
  "loops of reads and writes": [async (t) => { const s = gate(t); await times(5, () => s.addMany(20)); return s.n(); }],
  "a call out in between lets others in": [async (t) => { const s = gate(t); await times(5, () => s.addFetching(() => t.sleep(5))); return s.n(); }, 1],
  "steps of storage stay together": [async (t) => { const s = gate(t); await times(3, (i) => s.steps("abc"[i])); return s.seen(); }],
  "steps of timers do not": [async (t) => { const s = gate(t); await times(2, (i) => s.stepsOfTimers("ab"[i])); return s.seen(); }, ["a1", "b1", "a2", "b2"]],
  "two writes without a wait are one": [async (t) => { const s = gate(t); await times(10, (i) => s.twoKeys(i)); const [a, b] = await s.pair(); return a === b; }, true],
  "an answer comes after the write": [async (t) => { const s = gate(t); await s.addKvWithoutWaiting(); return s.n(); }, 1],
  "a call out sees the write done": [async (t) => { const s = gate(t); return s.tell(async (what) => [what, "heard"], "x"); }, ["x", "heard"]],
  "a call back into the actor that calls": [async (t) => { const s = gate(t); return t.settled(s.tell(async () => await s.told(), "x"), 1000); }, { ok: "x" }],
  "bytes of a body after a write": [async (t) => (await gate(t).fetch("http://x/stream")).text(), "ab"],
};
