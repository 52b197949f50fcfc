/**
 * Turns any JavaScript value into plain JSON that keeps what JSON drops: undefined, NaN, -0, BigInt, bytes, holes, errors, classes.
 * Runs inside the worker under test, so it uses the language only. It is not an inspector: no order is invented, no getter outside a
 * case's own result is called.
 */

const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

/** Errors in Node's manner: the code is the identity, the class behind it a private matter of the implementation. */
const coded = (e) => typeof e.code === "string" && e.code.startsWith("ERR_");

/** Name and constructor of a thrown value; messages differ between engines and are left out. */
export function thrown(e) {
  if (e === null || (typeof e !== "object" && typeof e !== "function")) return { threw: record(e) };
  if (coded(e)) return { threw: { name: String(e.name), code: e.code } };
  return { threw: { name: String(e.name), constructor: e.constructor?.name } };
}

/** One word for an error, as used by tables of inputs: `TypeError`, `DOMException:AbortError`, `TypeError[ERR_X]`. */
export function errorName(e) {
  if (e === null || (typeof e !== "object" && typeof e !== "function")) return `thrown ${typeof e} ${String(e)}`;
  if (coded(e)) return `${e.name}[${e.code}]`;
  const constructor = e.constructor?.name;
  return constructor === e.name ? e.name : `${constructor}:${e.name}`;
}

function number(v) {
  if (Object.is(v, -0)) return { $: "-0" };
  return Number.isFinite(v) ? v : { $: String(v) };
}

function object(v, seen) {
  if (seen.includes(v)) return { $: "cycle" };
  const inner = [...seen, v];
  const tag = Object.prototype.toString.call(v).slice(8, -1);
  if (Array.isArray(v)) return Array.from(v, (x, i) => (i in v ? record(x, inner) : { $: "hole" }));
  if (ArrayBuffer.isView(v)) {
    return { $: v.constructor.name, hex: hex(new Uint8Array(v.buffer, v.byteOffset, v.byteLength)) };
  }
  if (v instanceof ArrayBuffer) return { $: "ArrayBuffer", hex: hex(new Uint8Array(v)) };
  if (v instanceof Error) return { $: "error", is: errorName(v), ...("cause" in v ? { cause: record(v.cause, inner) } : {}) };
  if (v instanceof Date) return { $: "Date", at: number(v.getTime()) };
  if (v instanceof RegExp) return { $: "RegExp", source: String(v) };
  if (v instanceof Map) return { $: "Map", entries: Array.from(v, ([k, x]) => [record(k, inner), record(x, inner)]) };
  if (v instanceof Set) return { $: "Set", values: Array.from(v, (x) => record(x, inner)) };
  if (v instanceof Number || v instanceof String || v instanceof Boolean) return { $: `boxed ${tag}`, value: record(v.valueOf()) };
  const out = {};
  for (const key of Object.keys(v).sort()) out[key] = record(v[key], inner);
  const proto = Object.getPrototypeOf(v);
  if (proto === Object.prototype) return out;
  return { $: "object", class: proto === null ? null : v.constructor?.name, ...(Object.keys(out).length ? { own: out } : {}) };
}

/** The recorded form of `v`. */
export function record(v, seen = []) {
  switch (typeof v) {
    case "undefined": return { $: "undefined" };
    case "number": return number(v);
    case "bigint": return { $: "bigint", value: String(v) };
    case "symbol": return { $: "symbol", value: String(v) };
    case "function": return { $: "function", name: v.name };
    case "object": return v === null ? null : object(v, seen);
    default: return v;
  }
}
