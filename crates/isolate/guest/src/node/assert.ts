/**
 * `node:assert` and `node:assert/strict`. Messages follow Node's first lines; the coloured diff is a plain listing of both values.
 */
import { inspect } from "../inspect";
import { isDeepEqual, isDeepStrictEqual, isPartialDeepEqual } from "./deep_equal";
import { invalidArgType, invalidArgValue, nodeError } from "./errors";

interface AssertionOptions {
  message?: unknown;
  actual?: unknown;
  expected?: unknown;
  operator?: string;
  stackStartFn?: Function;
}

const verbs: Record<string, string> = {
  deepStrictEqual: "Expected values to be strictly deep-equal:",
  partialDeepStrictEqual: "Expected values to be partially and strictly deep-equal:",
  strictEqual: "Expected values to be strictly equal:",
  deepEqual: "Expected values to be loosely deep-equal:",
  notDeepStrictEqual: 'Expected "actual" not to be strictly deep-equal to:',
  notStrictEqual: 'Expected "actual" to be strictly unequal to:',
  notDeepEqual: 'Expected "actual" not to be loosely deep-equal to:',
};

function shown(value: unknown): string {
  return inspect(value, { depth: 1000, maxArrayLength: Infinity, customInspect: false, sorted: true, getters: true, breakLength: Infinity, compact: false });
}

/** Both values line by line: `+` only in actual, `-` only in expected. */
function difference(actual: string, expected: string): string {
  const a = actual.split("\n");
  const e = expected.split("\n");
  let head = 0;
  while (head < a.length && head < e.length && a[head] === e[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < e.length - head && a[a.length - 1 - tail] === e[e.length - 1 - tail]) tail++;
  const context = (lines: string[]): string[] => lines.map((line) => `  ${line}`);
  const lines = [
    ...context(a.slice(Math.max(0, head - 2), head)),
    ...a.slice(head, a.length - tail).map((line) => `+ ${line}`),
    ...e.slice(head, e.length - tail).map((line) => `- ${line}`),
    ...context(a.slice(a.length - tail, a.length - tail + 2)),
  ];
  return lines.length > 200 ? [...lines.slice(0, 200), "..."].join("\n") : lines.join("\n");
}

function generated({ actual, expected, operator = "" }: AssertionOptions): string {
  const verb = verbs[operator];
  if (verb === undefined) return operator === "==" || operator === "!=" ? `${inspect(actual)} ${operator} ${inspect(expected)}` : "Failed";
  const a = shown(actual);
  const e = shown(expected);
  if (operator.startsWith("not")) return a.includes("\n") ? `${verb}\n\n${a}\n` : `${verb} ${a}`;
  if (operator === "deepEqual") return `${verb}\n\n${a}\n\nshould loosely deep-equal\n\n${e}`;
  const primitive = (v: unknown): boolean => v === null || (typeof v !== "object" && typeof v !== "function");
  if (primitive(actual) && primitive(expected) && a.length + e.length < 60 && a !== e) return `${verb}\n\n${a} !== ${e}\n`;
  if (a === e) return `Values have same structure but are not reference-equal:\n\n${a}\n`;
  return `${verb}\n+ actual - expected\n\n${difference(a, e)}\n`;
}

export class AssertionError extends Error {
  code = "ERR_ASSERTION";
  generatedMessage: boolean;
  actual: unknown;
  expected: unknown;
  operator: string | undefined;

  constructor(options: AssertionOptions) {
    if (options === null || typeof options !== "object") throw invalidArgType("options", "Object", options);
    super(options.message !== undefined && options.message !== null ? `${options.message as string}` : generated(options));
    this.generatedMessage = options.message === undefined || options.message === null;
    Object.defineProperty(this, "name", { value: "AssertionError", enumerable: false, writable: true, configurable: true });
    this.actual = options.actual;
    this.expected = options.expected;
    this.operator = options.operator;
    if (options.stackStartFn !== undefined) Error.captureStackTrace(this, options.stackStartFn);
  }

  override toString(): string {
    return `${this.name} [${this.code}]: ${this.message}`;
  }
}

function fails(options: AssertionOptions): never {
  if (Error.isError(options.message)) throw options.message;
  throw new AssertionError(options);
}

function check(passes: boolean, actual: unknown, expected: unknown, message: unknown, operator: string, stackStartFn: Function): void {
  if (!passes) fails({ actual, expected, message, operator, stackStartFn });
}

function requireTwo(count: number): void {
  if (count < 2) throw nodeError(TypeError, "ERR_MISSING_ARGS", 'The "actual" and "expected" arguments must be specified');
}

function okAs(start: Function, args: unknown[]): void {
  if (args[0]) return;
  let message = args[1];
  let generatedMessage = false;
  if (args.length === 0) {
    message = "No value argument passed to `assert.ok()`";
    generatedMessage = true;
  } else if (message === undefined) {
    message = `The expression evaluated to a falsy value:\n\n  assert${start.name === "ok" ? ".ok" : ""}(${inspect(args[0])})\n`;
    generatedMessage = true;
  } else if (Error.isError(message)) throw message;
  const e = new AssertionError({ actual: args[0], expected: true, message, operator: "==", stackStartFn: start });
  e.generatedMessage = generatedMessage;
  throw e;
}

function ok(...args: unknown[]): void {
  okAs(ok, args);
}

function equal(actual: unknown, expected: unknown, message?: unknown): void {
  requireTwo(arguments.length);
  check(actual == expected || (Number.isNaN(actual) && Number.isNaN(expected)), actual, expected, message, "==", equal);
}

function notEqual(actual: unknown, expected: unknown, message?: unknown): void {
  requireTwo(arguments.length);
  check(!(actual == expected || (Number.isNaN(actual) && Number.isNaN(expected))), actual, expected, message, "!=", notEqual);
}

function strictEqual(actual: unknown, expected: unknown, message?: unknown): void {
  requireTwo(arguments.length);
  check(Object.is(actual, expected), actual, expected, message, "strictEqual", strictEqual);
}

function notStrictEqual(actual: unknown, expected: unknown, message?: unknown): void {
  requireTwo(arguments.length);
  check(!Object.is(actual, expected), actual, expected, message, "notStrictEqual", notStrictEqual);
}

function deepEqual(actual: unknown, expected: unknown, message?: unknown): void {
  requireTwo(arguments.length);
  check(isDeepEqual(actual, expected), actual, expected, message, "deepEqual", deepEqual);
}

function notDeepEqual(actual: unknown, expected: unknown, message?: unknown): void {
  requireTwo(arguments.length);
  check(!isDeepEqual(actual, expected), actual, expected, message, "notDeepEqual", notDeepEqual);
}

function deepStrictEqual(actual: unknown, expected: unknown, message?: unknown): void {
  requireTwo(arguments.length);
  check(isDeepStrictEqual(actual, expected), actual, expected, message, "deepStrictEqual", deepStrictEqual);
}

function notDeepStrictEqual(actual: unknown, expected: unknown, message?: unknown): void {
  requireTwo(arguments.length);
  check(!isDeepStrictEqual(actual, expected), actual, expected, message, "notDeepStrictEqual", notDeepStrictEqual);
}

function partialDeepStrictEqual(actual: unknown, expected: unknown, message?: unknown): void {
  requireTwo(arguments.length);
  check(isPartialDeepEqual(actual, expected), actual, expected, message, "partialDeepStrictEqual", partialDeepStrictEqual);
}

function fail(message: unknown = "Failed"): never {
  if (Error.isError(message)) throw message;
  const e = new AssertionError({ message, operator: "fail", stackStartFn: fail });
  e.generatedMessage = arguments.length === 0;
  throw e;
}

function ifError(value: unknown): void {
  if (value === null || value === undefined) return;
  const given = (value as { message?: unknown }).message;
  let text = "ifError got unwanted exception: ";
  if (typeof value === "object" && typeof given === "string") text += given.length === 0 ? (value.constructor?.name ?? "") : given;
  else text += inspect(value);
  const e = new AssertionError({ actual: value, expected: null, operator: "ifError", message: text, stackStartFn: ifError });
  e.generatedMessage = true;
  throw e;
}

function matchWith(text: unknown, regexp: unknown, message: unknown, wanted: boolean, start: Function): void {
  if (!(regexp instanceof RegExp)) throw invalidArgType("regexp", "RegExp", regexp);
  if (typeof text === "string" && regexp.test(text) === wanted) return;
  if (Error.isError(message)) throw message;
  const generatedMessage = message === undefined;
  if (generatedMessage) {
    if (typeof text !== "string") message = `The "string" argument must be of type string. Received type ${typeof text} (${inspect(text)})`;
    else if (wanted) message = `The input did not match the regular expression ${inspect(regexp)}. Input:\n\n${inspect(text)}\n`;
    else message = `The input was expected to not match the regular expression ${inspect(regexp)}. Input:\n\n${inspect(text)}\n`;
  }
  const e = new AssertionError({ actual: text, expected: regexp, message, operator: start.name, stackStartFn: start });
  e.generatedMessage = generatedMessage;
  throw e;
}

function match(text: unknown, regexp: unknown, message?: unknown): void {
  matchWith(text, regexp, message, true, match);
}

function doesNotMatch(text: unknown, regexp: unknown, message?: unknown): void {
  matchWith(text, regexp, message, false, doesNotMatch);
}

// --- throws and rejects --------------------------------------------------------------------------------------------------

const nothing = Symbol("no exception");

function thrownBy(f: unknown): unknown {
  if (typeof f !== "function") throw invalidArgType("fn", "Function", f);
  try {
    f();
  } catch (e) {
    return e;
  }
  return nothing;
}

async function rejectionOf(given: unknown): Promise<unknown> {
  let promise = given;
  if (typeof given === "function") {
    promise = (given as () => unknown)();
    if (typeof (promise as PromiseLike<unknown>)?.then !== "function") {
      throw nodeError(TypeError, "ERR_INVALID_RETURN_VALUE", 'Expected instance of Promise to be returned from the "promiseFn" function');
    }
  } else if (typeof (given as PromiseLike<unknown>)?.then !== "function") {
    throw invalidArgType("promiseFn", ["Function", "Promise"], given);
  }
  try {
    await promise;
  } catch (e) {
    return e;
  }
  return nothing;
}

function compareProperties(actual: any, expected: any, message: unknown, start: Function): void {
  const keys = Object.keys(expected);
  if (Error.isError(expected)) keys.push("name", "message");
  if (keys.length === 0) throw invalidArgValue("error", expected, "may not be an empty object");
  for (const key of keys) {
    const wanted: unknown = expected[key];
    const found: unknown = actual?.[key];
    if (wanted instanceof RegExp && typeof found === "string" && wanted.test(found)) continue;
    if (actual != null && key in Object(actual) && isDeepStrictEqual(found, wanted)) continue;
    const pick = (from: any): object => Object.fromEntries(keys.filter((k) => from != null && k in Object(from)).map((k) => [k, from[k]]));
    const e = new AssertionError({ actual: pick(actual), expected: pick(expected), message, operator: "deepStrictEqual", stackStartFn: start });
    e.actual = actual;
    e.expected = expected;
    e.operator = start.name;
    if (Error.isError(message)) throw message;
    throw e;
  }
}

function validates(expected: Function, actual: unknown): string | undefined {
  if (expected.prototype !== undefined && actual instanceof (expected as any)) return undefined;
  if (Object.prototype.isPrototypeOf.call(Error, expected)) {
    return `The error is expected to be an instance of "${expected.name}". Received "${(actual as Error)?.constructor?.name ?? inspect(actual)}"\n\nError message:\n\n${(actual as Error)?.message}`;
  }
  const isClass = /^class\b/.test(Function.prototype.toString.call(expected));
  const answer: unknown = isClass ? false : expected.call({}, actual);
  if (answer === true) return undefined;
  const name = expected.name === "" ? "validation function" : `"${expected.name}" validation function`;
  return `The ${name} is expected to return "true". Received ${inspect(answer)}\n\nCaught error:\n\n${inspect(actual)}`;
}

function compareException(actual: unknown, expected: unknown, message: unknown, start: Function): void {
  let problem: string | undefined;
  if (expected instanceof RegExp) {
    const text = String(actual);
    if (!expected.test(text)) problem = `The input did not match the regular expression ${inspect(expected)}. Input:\n\n${inspect(text)}\n`;
  } else if (typeof expected === "function") {
    problem = validates(expected, actual);
  } else {
    if (typeof actual !== "object" || actual === null) {
      fails({ actual, expected, message, operator: "deepStrictEqual", stackStartFn: start });
    }
    return compareProperties(actual, expected, message, start);
  }
  if (problem === undefined) return;
  if (Error.isError(message)) throw message;
  const e = new AssertionError({ actual, expected, message: message ?? problem, operator: start.name, stackStartFn: start });
  e.generatedMessage = message === undefined;
  throw e;
}

function expectsError(start: Function, actual: unknown, expected: unknown, message: unknown): void {
  if (typeof expected === "string") {
    if (message !== undefined) throw invalidArgType("error", ["Object", "Error", "Function", "RegExp"], expected);
    message = expected;
    expected = undefined;
  } else if (expected !== undefined && (expected === null || (typeof expected !== "object" && typeof expected !== "function"))) {
    throw invalidArgType("error", ["Object", "Error", "Function", "RegExp"], expected);
  }
  if (actual === nothing) {
    let text = `Missing expected ${start === rejects ? "rejection" : "exception"}`;
    const name = (expected as Function | undefined)?.name;
    if (name) text += ` (${name})`;
    text += message === undefined ? "." : `: ${message as string}`;
    if (Error.isError(message)) throw message;
    const e = new AssertionError({ actual: undefined, expected, operator: start.name, message: text, stackStartFn: start });
    e.generatedMessage = message === undefined;
    throw e;
  }
  if (expected !== undefined) compareException(actual, expected, message, start);
}

function matchesError(actual: unknown, expected: unknown): boolean {
  if (expected === undefined) return true;
  if (expected instanceof RegExp) return expected.test(String(actual));
  return typeof expected === "function" && validates(expected, actual) === undefined;
}

function expectsNoError(start: Function, actual: unknown, expected: unknown, message: unknown): void {
  if (actual === nothing) return;
  if (typeof expected === "string") [message, expected] = [expected, undefined];
  if (!matchesError(actual, expected)) throw actual;
  const details = message === undefined ? "." : `: ${message as string}`;
  const what = start === doesNotReject ? "rejection" : "exception";
  throw new AssertionError({
    actual,
    expected,
    operator: start.name,
    message: `Got unwanted ${what}${details}\nActual message: "${(actual as Error | undefined)?.message}"`,
    stackStartFn: start,
  });
}

function throws(f: unknown, expected?: unknown, message?: unknown): void {
  expectsError(throws, thrownBy(f), expected, message);
}

async function rejects(promise: unknown, expected?: unknown, message?: unknown): Promise<void> {
  expectsError(rejects, await rejectionOf(promise), expected, message);
}

function doesNotThrow(f: unknown, expected?: unknown, message?: unknown): void {
  expectsNoError(doesNotThrow, thrownBy(f), expected, message);
}

async function doesNotReject(promise: unknown, expected?: unknown, message?: unknown): Promise<void> {
  expectsNoError(doesNotReject, await rejectionOf(promise), expected, message);
}

const members = {
  AssertionError,
  ok,
  fail,
  ifError,
  match,
  doesNotMatch,
  throws,
  rejects,
  doesNotThrow,
  doesNotReject,
  partialDeepStrictEqual,
  strictEqual,
  notStrictEqual,
  deepStrictEqual,
  notDeepStrictEqual,
};

type Assert = ((...args: unknown[]) => void) & typeof members & Record<string, unknown>;

function assert(...args: unknown[]): void {
  okAs(assert, args);
}

function strictAssert(...args: unknown[]): void {
  okAs(strictAssert, args);
}
Object.defineProperty(strictAssert, "name", { value: "strict" });

export const exports = Object.assign(assert, members, { equal, notEqual, deepEqual, notDeepEqual }) as unknown as Assert;
export const strict = Object.assign(strictAssert, members, {
  equal: strictEqual,
  notEqual: notStrictEqual,
  deepEqual: deepStrictEqual,
  notDeepEqual: notDeepStrictEqual,
}) as unknown as Assert;
exports.strict = strict.strict = strict;
