/** console (Console Standard): what may be called, what is returned, what a hostile value does. Output itself is not compared. */
export const cases = {
  "methods": [() => ["log", "info", "warn", "error", "debug", "trace", "group", "groupCollapsed", "groupEnd", "table", "time", "timeEnd", "timeLog", "count", "countReset", "assert", "dir", "dirxml", "clear"].map((m) => [m, typeof console[m]])],
  "all return undefined": [() => [console.log("x"), console.info({ a: 1 }), console.warn(), console.error(new Error("e")), console.debug(1n), console.assert(true), console.count("c"), console.group("g"), console.groupEnd(), console.table([{ a: 1 }]), console.dir({}), console.time("t"), console.timeEnd("t")], Array(13).fill(undefined)],
  "detached methods work": [() => { const { log, error } = console; log("detached"); error("detached"); return "ok"; }, "ok"],
  "throwing getters do not throw out": [() => { console.log({ get x() { throw new Error("trap"); } }); return "ok"; }, "ok"],
  "proxies do not run traps into the caller": [(t) => t.error(() => { console.log(new Proxy({}, { get() { throw new Error("trap"); }, ownKeys() { throw new Error("trap"); } })); return "ok"; })],
  "cycles": [() => { const o = { a: [] }; o.a.push(o); console.log(o); return "ok"; }, "ok"],
  "symbols and null prototypes": [() => { console.log(Symbol("s"), Object.create(null), -0, [, 1], new (class A {})()); return "ok"; }, "ok"],
  "format specifiers": [() => { console.log("%s %d %i %f %o %O %j %c %%", "a", 1.5, 1.5, "2.5", {}, {}, {}, "css", "more"); return "ok"; }, "ok"],
  "symbol for %d": [() => { console.log("%d %s", Symbol("s"), Symbol("t")); return "ok"; }, "ok"],
  "huge strings": [() => { console.log("x".repeat(2_000_000)); return "ok"; }, "ok"],
  "deep objects": [() => { let o = {}; for (let i = 0; i < 5000; i++) o = { o }; console.log(o); return "ok"; }, "ok"],
  "tag and enumerability": [() => [Object.prototype.toString.call(console), Object.getOwnPropertyDescriptor(console, "log").enumerable]],
  "methods can be replaced": [() => { const l = console.log; let got; console.log = (x) => { got = x; }; console.log("mine"); console.log = l; return got; }, "mine"],
  "toString that throws": [(t) => t.error(() => { console.log("%s", { toString() { throw new Error("trap"); } }); return "ok"; })],
};
