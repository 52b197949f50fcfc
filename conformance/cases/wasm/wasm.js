/** WebAssembly of the worker's own modules. `sample.wasm`: add, callLog(env.log), load, trap, next(global), sum, memory 1..3 pages, table 2, counter. */
import sample from "./sample.wasm";
const log = [];
const make = () => WebAssembly.instantiate(sample, { env: { log: (x) => { log.push(x); } } });

export const cases = {
  "module kind": [() => [sample instanceof WebAssembly.Module, Object.prototype.toString.call(sample)], [true, "[object WebAssembly.Module]"]],
  "instantiate a module": [async () => { const i = await make(); return [i instanceof WebAssembly.Instance, Object.keys(i.exports)]; }, [true, ["add", "callLog", "load", "trap", "next", "sum", "memory", "table", "counter"]]],
  "call": [async () => { const { exports: e } = await make(); return [e.add(2, 3), e.add(2 ** 31 - 1, 1), e.add("4", 1.9), e.add()]; }, [5, -2147483648, 5, 0]],
  "imports are called": [async () => { log.length = 0; const { exports: e } = await make(); e.callLog(-7); return log; }, [-7]],
  "exception of an import passes through": [async (t) => { const i = await WebAssembly.instantiate(sample, { env: { log() { throw new RangeError("from js"); } } }); return t.error(() => i.exports.callLog(1)); }, "RangeError"],
  "memory": [async () => { const { exports: e } = await make(); const v = new DataView(e.memory.buffer); const before = [e.load(16), v.getUint32(16, true)]; v.setUint32(100, 77, true); return [before, e.load(100), e.memory.buffer.byteLength]; }, [[0x01020304, 0x01020304], 77, 65536]],
  "memory grows and detaches": [async (t) => { const { exports: e } = await make(); const b = e.memory.buffer; const old = e.memory.grow(1); return [old, b.byteLength, e.memory.buffer.byteLength, t.error(() => e.memory.grow(5))]; }, [1, 0, 131072, "RangeError"]],
  "trap": [async (t) => { const { exports: e } = await make(); return [t.error(() => e.trap()), t.error(() => e.load(70000)), t.error(() => e.load(-1)), e.add(1, 1)]; }, ["RuntimeError", "RuntimeError", "RuntimeError", 2]],
  "globals": [async () => { const { exports: e } = await make(); const a = e.counter.value; const b = e.next(); e.counter.value = 40; return [a, b, e.next(), e.counter.valueOf()]; }, [5, 6, 41, 41]],
  "table": [async () => { const { exports: e } = await make(); return [e.table.length, e.table.get(0)(3, 4), e.table.get(1), e.table.get(0) === e.add]; }, [2, 7, null, true]],
  "a loop": [async () => (await make()).exports.sum(100000), 705082704],
  "instances are apart": [async () => { const a = await make(); const b = await make(); a.exports.next(); a.exports.next(); return [a.exports.counter.value, b.exports.counter.value]; }, [7, 5]],
  "exports object": [async (t) => { const { exports: e } = await make(); return [Object.isFrozen(e), Object.getPrototypeOf(e), t.error(() => { e.add = 1; })]; }, [true, null, "TypeError"]],
  "exported function": [async () => { const { add } = (await make()).exports; return [add.name, add.length, typeof add]; }, ["1", 2, "function"]],
  "missing import": [async (t) => [await t.error(WebAssembly.instantiate(sample)), await t.error(WebAssembly.instantiate(sample, {})), await t.error(WebAssembly.instantiate(sample, { env: {} })), await t.error(WebAssembly.instantiate(sample, { env: { log: 5 } }))], ["TypeError", "TypeError", "LinkError", "LinkError"]],
  "new Instance": [() => new WebAssembly.Instance(sample, { env: { log() {} } }).exports.add(20, 22), 42],
  "Module.exports and imports": [() => [WebAssembly.Module.exports(sample).slice(0, 2), WebAssembly.Module.imports(sample), WebAssembly.Module.exports(sample).at(-1)], [[{ name: "add", kind: "function" }, { name: "callLog", kind: "function" }], [{ module: "env", name: "log", kind: "function" }], { name: "counter", kind: "global" }]],
  "Module.customSections": [() => WebAssembly.Module.customSections(sample, "meta").map((b) => new TextDecoder().decode(b)), ["hello"]],
  "compiling bytes is refused": [async (t) => { const bytes = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]); return [await t.error(WebAssembly.compile(bytes)), await t.error(WebAssembly.instantiate(bytes)), t.error(() => new WebAssembly.Module(bytes))]; }],
  "validate": [(t) => t.error(() => [WebAssembly.validate(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])), WebAssembly.validate(new Uint8Array([1, 2]))])],
  "Memory made here": [(t) => t.error(() => { const m = new WebAssembly.Memory({ initial: 1, maximum: 2 }); return [m.buffer.byteLength, m.grow(1), m.buffer.byteLength]; })],
  "Global made here": [(t) => t.error(() => { const g = new WebAssembly.Global({ value: "i32", mutable: true }, 4); g.value = 9; return g.value; })],
  "Table made here": [(t) => t.error(() => { const x = new WebAssembly.Table({ element: "anyfunc", initial: 2 }); return [x.length, x.get(0), x.grow(1)]; })],
  "error classes": [() => [new WebAssembly.LinkError("x") instanceof Error, new WebAssembly.RuntimeError("m").message, WebAssembly.CompileError.name], [true, "m", "CompileError"]],
  "surface": [() => [Object.prototype.toString.call(WebAssembly), ["compile", "instantiate", "validate", "Module", "Instance", "Memory", "Table", "Global", "compileStreaming", "instantiateStreaming", "Tag", "Exception"].map((k) => typeof WebAssembly[k])]],
};
