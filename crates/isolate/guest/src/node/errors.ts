/**
 * Node's error codes: errors whose `code` libraries test for, with Node's texts. Used by the files of this folder only; errors of Web
 * APIs are made elsewhere.
 */
import { inspect } from "../inspect";
import { rename } from "../webidl";

export interface NodeError extends Error {
  code: string;
}

type ErrorClass = new (message: string) => Error;

/** An error of the given class with Node's `code`; its stack begins `Name [CODE]: message`, as Node's does. */
export function nodeError(Class: ErrorClass, code: string, message: string): NodeError {
  const e = new Class(message) as NodeError;
  e.code = code;
  Object.defineProperty(e, "toString", {
    value(this: Error) {
      return `${this.name} [${code}]: ${this.message}`;
    },
    enumerable: false,
    writable: true,
    configurable: true,
  });
  return e;
}

function received(value: unknown): string {
  if (value === undefined || value === null) return ` Received ${value}`;
  if (typeof value === "function") return ` Received function ${value.name}`;
  if (typeof value === "object") {
    const name = (value as { constructor?: { name?: string } }).constructor?.name;
    return name ? ` Received an instance of ${name}` : ` Received ${inspect(value, { depth: -1 })}`;
  }
  let text = inspect(value, { colors: false });
  if (text.length > 28) text = `${text.slice(0, 25)}...`;
  return ` Received type ${typeof value} (${text})`;
}

const classNames = /^[A-Z][a-zA-Z0-9]*$/;

function listed(names: string[], last: string): string {
  return names.length < 3 ? names.join(` ${last} `) : `${names.slice(0, -1).join(", ")}, ${last} ${names[names.length - 1]}`;
}

function expectation(expected: string | string[]): string {
  const all = typeof expected === "string" ? [expected] : expected;
  const types = all.filter((name) => !classNames.test(name) || name === "Function" || name === "Object");
  const instances = all.filter((name) => !types.includes(name));
  const parts: string[] = [];
  if (types.length > 0) parts.push(`${types.length > 1 ? "one of type" : "of type"} ${listed(types.map((t) => t.toLowerCase()), "or")}`);
  if (instances.length > 0) parts.push(`an instance of ${listed(instances, "or")}`);
  return parts.join(" or ");
}

/** `ERR_INVALID_ARG_TYPE`. `expected` lists type names in lower case and class names in upper case. */
export function invalidArgType(name: string, expected: string | string[], value: unknown): NodeError {
  const what = name.endsWith(" argument") ? `The ${name}` : `The "${name}" ${name.includes(".") ? "property" : "argument"}`;
  return nodeError(TypeError, "ERR_INVALID_ARG_TYPE", `${what} must be ${expectation(expected)}.${received(value)}`);
}

/** `ERR_INVALID_ARG_VALUE`. */
export function invalidArgValue(name: string, value: unknown, reason = "is invalid"): NodeError {
  let shown = inspect(value);
  if (shown.length > 128) shown = `${shown.slice(0, 128)}...`;
  return nodeError(TypeError, "ERR_INVALID_ARG_VALUE", `The ${name.includes(".") ? "property" : "argument"} '${name}' ${reason}. Received ${shown}`);
}

function grouped(n: number | bigint): string {
  const digits = String(n);
  if (!/^-?\d+$/.test(digits)) return digits;
  const sign = digits.startsWith("-") ? "-" : "";
  return sign + digits.slice(sign.length).replace(/\B(?=(\d{3})+$)/g, "_");
}

/** `ERR_OUT_OF_RANGE`. */
export function outOfRange(name: string, range: string, value: unknown): NodeError {
  const big = typeof value === "bigint";
  const shown = big || (Number.isInteger(value) && Math.abs(value as number) > 2 ** 32) ? grouped(value as number) + (big ? "n" : "") : inspect(value);
  return nodeError(RangeError, "ERR_OUT_OF_RANGE", `The value of "${name}" is out of range. It must be ${range}. Received ${shown}`);
}

/** What a function that cannot exist inside an isolate throws when it is called: the name of what is missing. */
export function unavailable(name: string): NodeError {
  return nodeError(Error, "ERR_METHOD_NOT_IMPLEMENTED", `${name} is not available in skep isolates`);
}

export function checkString(value: unknown, name: string): asserts value is string {
  if (typeof value !== "string") throw invalidArgType(name, "string", value);
}

export function checkFunction(value: unknown, name: string): asserts value is (...args: any[]) => any {
  if (typeof value !== "function") throw invalidArgType(name, "Function", value);
}

export function checkObject(value: unknown, name: string): asserts value is object {
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw invalidArgType(name, "Object", value);
}

export function checkNumber(value: unknown, name: string): asserts value is number {
  if (typeof value !== "number") throw invalidArgType(name, "number", value);
}

/** An integer from `min` to `max`, with Node's two errors. */
export function checkInteger(value: unknown, name: string, min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER): asserts value is number {
  checkNumber(value, name);
  if (!Number.isInteger(value)) throw outOfRange(name, "an integer", value);
  if (value < min || value > max) throw outOfRange(name, `>= ${min} && <= ${max}`, value);
}

export function checkAbortSignal(signal: unknown, name: string): void {
  if (signal !== undefined && (signal === null || typeof signal !== "object" || !("aborted" in signal))) {
    throw invalidArgType(name, "AbortSignal", signal);
  }
}

class NodeAbortError extends Error {
  code = "ABORT_ERR";
  override name = "AbortError";
}
// The bundler would number one of two classes of a name: npm readable-stream has its own.
rename(NodeAbortError, "AbortError");

/** The AbortError that Node's promise APIs reject with. */
export function abortError(cause?: unknown): NodeError {
  return new NodeAbortError("The operation was aborted", cause === undefined ? undefined : { cause });
}
