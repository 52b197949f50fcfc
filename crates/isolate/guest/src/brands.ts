/**
 * Tells which built-in kind an object is by its internal slots, not by what it claims: nothing of the object's own code runs. Used
 * by `inspect` and structured cloning.
 */

import { host } from "./host";

export type Brand =
  | "Error" | "DOMException" | "Map" | "Set" | "Date" | "RegExp" | "Promise" | "WeakMap" | "WeakSet" | "WeakRef" | "ArrayBuffer" | "SharedArrayBuffer"
  | "DataView" | "TypedArray" | "Number" | "Boolean" | "String" | "BigInt" | "Symbol" | "Arguments" | "Module" | "Generator";

type Test = (value: object) => unknown;

function getter(prototype: object, name: PropertyKey): Test {
  const get = Object.getOwnPropertyDescriptor(prototype, name)!.get!;
  return (value) => get.call(value);
}

function method(prototype: object, name: string, ...args: unknown[]): Test {
  const f = (prototype as Record<string, Function>)[name]!;
  return (value) => f.apply(value, args);
}

// Each throws unless the value has the slot in question. The probe key of the weak collections is never inserted.
const probe = {};
const tests: [object, Brand, Test][] = [
  [Map.prototype, "Map", getter(Map.prototype, "size")],
  [Set.prototype, "Set", getter(Set.prototype, "size")],
  [Date.prototype, "Date", method(Date.prototype, "getTime")],
  [RegExp.prototype, "RegExp", getter(RegExp.prototype, "source")],
  [ArrayBuffer.prototype, "ArrayBuffer", getter(ArrayBuffer.prototype, "byteLength")],
  [SharedArrayBuffer.prototype, "SharedArrayBuffer", getter(SharedArrayBuffer.prototype, "byteLength")],
  [Number.prototype, "Number", method(Number.prototype, "valueOf")],
  [Boolean.prototype, "Boolean", method(Boolean.prototype, "valueOf")],
  [String.prototype, "String", method(String.prototype, "valueOf")],
  [BigInt.prototype, "BigInt", method(BigInt.prototype, "valueOf")],
  [Symbol.prototype, "Symbol", method(Symbol.prototype, "valueOf")],
  [WeakMap.prototype, "WeakMap", method(WeakMap.prototype, "has", probe)],
  [WeakSet.prototype, "WeakSet", method(WeakSet.prototype, "has", probe)],
  [WeakRef.prototype, "WeakRef", method(WeakRef.prototype, "deref")],
  [DOMException.prototype, "DOMException", getter(DOMException.prototype, "code")],
];

const dataViewBuffer = Object.getOwnPropertyDescriptor(DataView.prototype, "buffer")!.get!;
const promisePrototype = Promise.prototype;
const objectPrototype = Object.prototype;
const getPrototypeOf = Object.getPrototypeOf;
const isView = ArrayBuffer.isView;
const hasOwn = Object.hasOwn;
const iterator: symbol = Symbol.iterator;
const toString = Object.prototype.toString;
const isError = (Error as unknown as { isError(v: unknown): boolean }).isError;

function passes(test: Test, value: object): boolean {
  try {
    test(value);
    return true;
  } catch {
    return false;
  }
}

function isDataView(value: object): boolean {
  try {
    dataViewBuffer.call(value);
    return true;
  } catch {
    return false;
  }
}

function isPromise(value: object): boolean {
  try {
    return host.raw.promiseState(value as Promise<unknown>)[0] >= 0;
  } catch {
    return false;
  }
}

/** The built-in kind of an object that is neither an array, a function nor a proxy; undefined for ordinary objects. */
export function brandOf(value: object): Brand | undefined {
  const prototype = getPrototypeOf(value) as object | null;
  if (prototype === objectPrototype) return plainBrand(value);
  if (isError(value)) return "Error";
  if (isView(value)) return isDataView(value) ? "DataView" : "TypedArray";
  for (let o = prototype; o !== null; o = getPrototypeOf(o) as object | null) {
    for (let i = 0; i < tests.length; i++) {
      if (o === tests[i]![0]) return passes(tests[i]![2], value) ? tests[i]![1] : undefined;
    }
    if (o === promisePrototype) return isPromise(value) ? "Promise" : undefined;
    // A proxy among the prototypes would run its traps; nothing beyond it can vouch for the object.
    if (o === objectPrototype || host.raw.getProxyDetails(o) !== undefined) return undefined;
  }
  return rootless(value);
}

/** Directly under Object.prototype only `arguments` differs from a plain object: it is born with an own iterator, and has no tag. */
function plainBrand(value: object): Brand | undefined {
  if (!hasOwn(value, iterator) || Symbol.toStringTag in value) return undefined;
  return toString.call(value) === "[object Arguments]" ? "Arguments" : undefined;
}

/** No Object.prototype above: a null-prototype object, a module namespace, or a built-in whose prototype was taken away. */
function rootless(value: object): Brand | undefined {
  const d = Object.getOwnPropertyDescriptor(value, Symbol.toStringTag);
  if (d !== undefined && d.value === "Module" && !d.writable && !d.configurable && !Object.isExtensible(value)) return "Module";
  for (let i = 0; i < tests.length; i++) if (passes(tests[i]![2], value)) return tests[i]![1];
  return undefined;
}
