/**
 * Deep equality as `node:assert` and `util.isDeepStrictEqual` define it: strict (types, prototypes and symbols count) or loose (`==` on
 * primitives). Cycles are equal when they close at the same place.
 */
import { brandOf, type Brand } from "../brands";

type Seen = Map<object, object>;

const getPrototypeOf = Object.getPrototypeOf;
const propertyIsEnumerable = Object.prototype.propertyIsEnumerable;
const typedTag = Object.getOwnPropertyDescriptor(getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)!.get!;

function keysOf(value: object): PropertyKey[] {
  return Object.keys(value);
}

function symbolsOf(value: object): symbol[] {
  return Object.getOwnPropertySymbols(value).filter((s) => propertyIsEnumerable.call(value, s));
}

function sameBytes(a: ArrayBufferView | ArrayBuffer, b: ArrayBufferView | ArrayBuffer): boolean {
  if (a.byteLength !== b.byteLength) return false;
  const bytes = (v: ArrayBufferView | ArrayBuffer): Uint8Array =>
    ArrayBuffer.isView(v) ? new Uint8Array(v.buffer, v.byteOffset, v.byteLength) : new Uint8Array(v);
  const x = bytes(a);
  const y = bytes(b);
  return x.every((byte, i) => byte === y[i]);
}

function sameTyped(a: any, b: any, strict: boolean): boolean {
  if (typedTag.call(a) !== typedTag.call(b)) return false;
  const kind = typedTag.call(a) as string;
  // Floats compare by value: NaN equals NaN, and loosely 0 equals -0.
  if (!kind.startsWith("Float")) return sameBytes(a, b);
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (!Object.is(a[i], b[i]) && (strict || a[i] !== b[i])) return false;
  return true;
}

function sameError(a: any, b: any, strict: boolean, seen: Seen): boolean {
  if (a.message !== b.message || a.name !== b.name) return false;
  for (const key of ["cause", "errors"]) {
    if (Object.hasOwn(a, key) !== Object.hasOwn(b, key)) return false;
    if (Object.hasOwn(a, key) && !equal(a[key], b[key], strict, seen)) return false;
  }
  return true;
}

function samePrimitiveBox(a: any, b: any): boolean {
  return Object.is(a.valueOf(), b.valueOf());
}

function sameSet(a: Set<unknown>, b: Set<unknown>, strict: boolean, seen: Seen): boolean {
  if (a.size !== b.size) return false;
  let rest: Set<unknown> | undefined;
  for (const value of a) {
    if (b.has(value)) continue;
    if (strict && (typeof value !== "object" || value === null)) return false;
    (rest ??= new Set()).add(value);
  }
  if (rest === undefined) return true;
  const candidates = [...b].filter((v) => !a.has(v));
  for (const value of rest) {
    const i = candidates.findIndex((other) => equal(value, other, strict, new Map(seen)));
    if (i < 0) return false;
    candidates.splice(i, 1);
  }
  return true;
}

function sameMap(a: Map<unknown, unknown>, b: Map<unknown, unknown>, strict: boolean, seen: Seen): boolean {
  if (a.size !== b.size) return false;
  const rest: [unknown, unknown][] = [];
  for (const [key, value] of a) {
    const simple = typeof key !== "object" || key === null;
    if (b.has(key)) {
      if (equal(value, b.get(key), strict, seen)) continue;
      if (simple) return false;
    } else if (simple && strict) return false;
    rest.push([key, value]);
  }
  const candidates = [...b].filter(([key]) => !a.has(key) || rest.some(([k]) => k === key));
  for (const [key, value] of rest) {
    const i = candidates.findIndex(([k, v]) => equal(key, k, strict, new Map(seen)) && equal(value, v, strict, new Map(seen)));
    if (i < 0) return false;
    candidates.splice(i, 1);
  }
  return true;
}

function sameProperties(a: any, b: any, strict: boolean, seen: Seen): boolean {
  const keys: PropertyKey[] = keysOf(a);
  if (keys.length !== keysOf(b).length) return false;
  for (const key of keys) if (!propertyIsEnumerable.call(b, key)) return false;
  if (strict) {
    const symbols = symbolsOf(a);
    if (symbols.length !== symbolsOf(b).length) return false;
    for (const s of symbols) if (!propertyIsEnumerable.call(b, s)) return false;
    keys.push(...symbols);
  }
  for (const key of keys) if (!equal(a[key], b[key], strict, seen)) return false;
  return true;
}

function sameInternals(brand: Brand | undefined, a: any, b: any, strict: boolean, seen: Seen): boolean {
  switch (brand) {
    case "Date":
      return Object.is(Date.prototype.getTime.call(a), Date.prototype.getTime.call(b));
    case "RegExp":
      return a.source === b.source && a.flags === b.flags && a.lastIndex === b.lastIndex;
    case "Error":
      return sameError(a, b, strict, seen);
    case "TypedArray":
      return sameTyped(a, b, strict);
    case "ArrayBuffer":
    case "SharedArrayBuffer":
    case "DataView":
      return sameBytes(a, b);
    case "Set":
      return sameSet(a, b, strict, seen);
    case "Map":
      return sameMap(a, b, strict, seen);
    case "Number":
    case "String":
    case "Boolean":
    case "BigInt":
    case "Symbol":
      return samePrimitiveBox(a, b);
    case "WeakMap":
    case "WeakSet":
    case "Promise":
      return false;
    default:
      return true;
  }
}

function sameObjects(a: object, b: object, strict: boolean, seen: Seen): boolean {
  if (strict && getPrototypeOf(a) !== getPrototypeOf(b)) return false;
  if (typeof a === "function" || typeof b === "function") return false;
  const array = Array.isArray(a);
  if (array !== Array.isArray(b)) return false;
  if (array && (a as unknown as unknown[]).length !== (b as unknown as unknown[]).length) return false;
  if (Object.prototype.toString.call(a) !== Object.prototype.toString.call(b)) return false;
  const brand = array ? undefined : brandOf(a);
  if (!array && brand !== brandOf(b)) return false;
  if (seen.get(a) === b) return true;
  seen.set(a, b);
  const same = sameInternals(brand, a, b, strict, seen) && (brand === "TypedArray" ? sameExtras(a, b, strict, seen) : sameProperties(a, b, strict, seen));
  seen.delete(a);
  return same;
}

/** A typed array's elements are compared already; here only what was added to it. */
function sameExtras(a: any, b: any, strict: boolean, seen: Seen): boolean {
  const names = (v: any): string[] => Object.keys(v).slice(v.length);
  const keys = names(a);
  if (keys.length !== names(b).length) return false;
  return keys.every((key) => Object.hasOwn(b, key) && equal(a[key], b[key], strict, seen));
}

function equal(a: unknown, b: unknown, strict: boolean, seen: Seen): boolean {
  if (Object.is(a, b)) return true;
  const objects = typeof a === "object" && a !== null && typeof b === "object" && b !== null;
  if (objects) return sameObjects(a, b, strict, seen);
  if (strict) return false;
  if ((typeof a === "object" && a !== null) || (typeof b === "object" && b !== null)) return false;
  return a == b || (Number.isNaN(a) && Number.isNaN(b));
}

export function isDeepEqual(a: unknown, b: unknown): boolean {
  return equal(a, b, false, new Map());
}

export function isDeepStrictEqual(a: unknown, b: unknown): boolean {
  return equal(a, b, true, new Map());
}

/** Whether `actual` has everything `expected` has (`assert.partialDeepStrictEqual`). */
export function isPartialDeepEqual(actual: unknown, expected: unknown): boolean {
  if (typeof expected !== "object" || expected === null || typeof actual !== "object" || actual === null) return Object.is(actual, expected);
  if (actual === expected) return true;
  if (Array.isArray(expected)) {
    if (!Array.isArray(actual)) return false;
    let at = 0;
    return expected.every((wanted) => {
      while (at < actual.length && !isPartialDeepEqual(actual[at], wanted)) at++;
      return at++ < actual.length;
    });
  }
  if (expected instanceof Map) {
    return actual instanceof Map && [...expected].every(([k, v]) => [...actual].some(([k2, v2]) => isDeepStrictEqual(k, k2) && isPartialDeepEqual(v2, v)));
  }
  if (expected instanceof Set) return actual instanceof Set && [...expected].every((v) => [...actual].some((w) => isPartialDeepEqual(w, v)));
  const brand = brandOf(expected);
  if (brand !== undefined && brand !== "Error") return isDeepStrictEqual(actual, expected);
  if (brand !== brandOf(actual)) return false;
  const from = actual as Record<PropertyKey, unknown>;
  const wanted = expected as Record<PropertyKey, unknown>;
  if (brand === "Error" && (from.message !== wanted.message || from.name !== wanted.name)) return false;
  return [...Object.keys(expected), ...symbolsOf(expected)].every((key) => Object.hasOwn(actual, key) && isPartialDeepEqual(from[key], wanted[key]));
}
