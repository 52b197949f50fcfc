/** performance (High Resolution Time, User Timing). */
export const cases = {
  "mark": [(t) => t.error(() => { const m = performance.mark("m1", { detail: { a: 1 } }); return [m.name, m.entryType, m.duration, m.detail, typeof m.startTime, m instanceof PerformanceMark]; })],
  "mark with startTime": [(t) => t.error(() => performance.mark("m2", { startTime: 12 }).startTime)],
  "measure between marks": [(t) => t.error(() => { performance.mark("a", { startTime: 10 }); performance.mark("b", { startTime: 25 }); const m = performance.measure("ab", "a", "b"); return [m.name, m.entryType, m.startTime, m.duration]; })],
  "measure options": [(t) => t.error(() => { const m = performance.measure("o", { start: 5, end: 9, detail: 1 }); const n = performance.measure("p", { start: 5, duration: 3 }); return [m.startTime, m.duration, m.detail, n.duration]; })],
  "measure of a missing mark": [(t) => t.error(() => { performance.measure("x", "missing"); })],
  "entries": [(t) => t.error(() => { performance.clearMarks(); performance.clearMeasures(); performance.mark("z", { startTime: 3 }); performance.mark("y", { startTime: 1 }); return [performance.getEntries().map((e) => e.name), performance.getEntriesByType("mark").length, performance.getEntriesByName("z").length, performance.getEntriesByName("z", "measure").length]; })],
  "clearMarks by name": [(t) => t.error(() => { performance.clearMarks(); performance.mark("k1"); performance.mark("k2"); performance.clearMarks("k1"); return performance.getEntriesByType("mark").map((e) => e.name); })],
  "toJSON of performance": [() => typeof performance.toJSON, "function"],
  "performance is an EventTarget": [() => performance instanceof EventTarget],
  "negative startTime": [(t) => t.error(() => { performance.mark("n", { startTime: -1 }); })],
  "timeOrigin plus now is about the clock": [() => Math.abs(performance.timeOrigin + performance.now() - Date.now()) < 5000, true],
};
