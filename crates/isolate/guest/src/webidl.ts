/**
 * The part of Web IDL that classes cannot say in JavaScript: enumerable members, string tags, constants, and argument
 * conversions. Used by every Web API file while the image is made; it defines no API itself.
 */

type Class = abstract new (...args: never[]) => object;

// Prototype → names of its attributes: what `inspect` shows of an interface's instance. Filled only while the image is made.
const attributes = new WeakMap<object, string[]>();

/** Names of the attributes of the interface this prototype belongs to, or undefined for an ordinary class. */
export function attributesOf(prototype: object): string[] | undefined {
  return attributes.get(prototype);
}

/** Gives a class the property attributes of a Web IDL interface: enumerable members and a `Symbol.toStringTag`. */
export function defineInterface(C: Class, name: string, constants: Record<string, number> = {}): void {
  const prototype = C.prototype as object;
  const shown: string[] = [];
  for (const key of Object.getOwnPropertyNames(prototype)) {
    if (key === "constructor") continue;
    const d = Object.getOwnPropertyDescriptor(prototype, key)!;
    if (d.get) shown.push(key);
    Object.defineProperty(prototype, key, { ...d, enumerable: true });
  }
  for (const key of Object.getOwnPropertyNames(C)) {
    if (key === "prototype" || key === "length" || key === "name") continue;
    Object.defineProperty(C, key, { enumerable: true });
  }
  for (const key of Object.keys(constants)) {
    const d = { value: constants[key], enumerable: true, writable: false, configurable: false };
    Object.defineProperty(C, key, d);
    Object.defineProperty(prototype, key, d);
  }
  Object.defineProperty(prototype, Symbol.toStringTag, { value: name, configurable: true, enumerable: false, writable: false });
  attributes.set(prototype, shown);
  rename(C, name);
}

/** The bundler may have renamed a function to avoid a clash; its `name` is part of the API. */
export function rename(f: Function, name: string): void {
  if (f.name !== name) Object.defineProperty(f, "name", { value: name, configurable: true });
}

/** Throws as Web IDL does for a call with too few arguments. */
export function requireArguments(given: number, wanted: number, where: string): void {
  if (given < wanted) {
    throw new TypeError(`${where}: ${wanted} argument${wanted === 1 ? "" : "s"} required, but only ${given} present.`);
  }
}

/** USVString conversion. */
export function usvString(v: unknown): string {
  return `${v as string}`.toWellFormed();
}

/** Conversion to a dictionary: undefined and null give an empty one, other non-objects throw. */
export function dictionary<T extends object>(v: unknown, where: string): Partial<T> {
  if (v === undefined || v === null) return {};
  if (typeof v !== "object" && typeof v !== "function") throw new TypeError(`${where} is not an object.`);
  return v as Partial<T>;
}

/** `[EnforceRange] unsigned long long` and the like: an integer from 0 to `max`, or a TypeError. */
export function enforceRange(v: unknown, max: number, where: string): number {
  const n = Math.trunc(Number(v));
  if (!(n >= 0 && n <= max)) throw new TypeError(`${where}: value is outside the range of an unsigned integer.`);
  return n + 0;
}

/** `long` conversion (wraps modulo 2³²). */
export function long(v: unknown): number {
  return Number(v) | 0;
}
