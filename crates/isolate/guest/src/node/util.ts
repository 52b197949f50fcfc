/**
 * `node:util` and `node:util/types`. Formatting is the console's (`../inspect`); everything else is small and here, except
 * `parseArgs` (its own file).
 */
import { format, formatWithOptions, inspect } from "../inspect";
import { brandOf, type Brand } from "../brands";
import { host } from "../host";
import { isDeepStrictEqual } from "./deep_equal";
import { checkAbortSignal, checkFunction, checkNumber, checkString, invalidArgType, invalidArgValue, nodeError } from "./errors";
import { parseArgs } from "./parse_args";
import { errnoNames } from "./errno";

type Fn = (...args: any[]) => any;

// --- callbacks and promises ----------------------------------------------------------------------------------------------

const customPromisify = Symbol.for("nodejs.util.promisify.custom");

export function promisify(original: Fn): Fn {
  checkFunction(original, "original");
  const custom = (original as any)[customPromisify] as unknown;
  if (custom !== undefined && custom !== null) {
    checkFunction(custom, "util.promisify.custom");
    return Object.defineProperty(custom, customPromisify, { value: custom, enumerable: false, writable: false, configurable: true });
  }
  function promised(this: unknown, ...args: unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      Reflect.apply(original, this, [...args, (error: unknown, value: unknown) => (error ? reject(error) : resolve(value))]);
    });
  }
  Object.setPrototypeOf(promised, Object.getPrototypeOf(original) as object | null);
  Object.defineProperty(promised, customPromisify, { value: promised, enumerable: false, writable: false, configurable: true });
  const descriptors = Object.getOwnPropertyDescriptors(original) as PropertyDescriptorMap;
  for (const key of Reflect.ownKeys(descriptors)) if (descriptors[key as string]!.configurable === false) delete descriptors[key as string];
  return Object.defineProperties(promised, descriptors);
}
promisify.custom = customPromisify;

export function callbackify(original: Fn): Fn {
  checkFunction(original, "original");
  function callbackified(this: unknown, ...args: unknown[]): void {
    const callback = args.pop();
    checkFunction(callback, "last argument");
    const done = (...result: unknown[]): void => queueMicrotask(() => Reflect.apply(callback, this, result));
    Reflect.apply(original, this, args).then(
      (value: unknown) => done(null, value),
      (reason: unknown) => {
        if (reason) return done(reason);
        const e = nodeError(Error, "ERR_FALSY_VALUE_REJECTION", "Promise was rejected with falsy value");
        (e as unknown as { reason: unknown }).reason = reason;
        done(e);
      },
    );
  }
  const { name, length } = original;
  Object.defineProperty(callbackified, "name", { value: `${name}Callbackified`, configurable: true });
  return Object.defineProperty(callbackified, "length", { value: length + 1, configurable: true });
}

interface Signal {
  aborted: boolean;
  reason: unknown;
  addEventListener(name: string, f: () => void, options?: object): void;
}

export function aborted(signal: Signal, resource: object): Promise<void> {
  if (signal === undefined) throw invalidArgType("signal", "AbortSignal", signal);
  checkAbortSignal(signal, "signal");
  if (resource === null || typeof resource !== "object") throw invalidArgType("resource", "Object", resource);
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

/** A controller whose signal may be transferred: any of ours may. */
export function transferableAbortController(): object {
  return new (globalThis as unknown as { AbortController: new () => object }).AbortController();
}

export function transferableAbortSignal(signal: unknown): unknown {
  if (signal === undefined) throw invalidArgType("signal", "AbortSignal", signal);
  checkAbortSignal(signal, "signal");
  return signal;
}

// --- classes and deprecation ---------------------------------------------------------------------------------------------

export function inherits(constructor: Function, parent: Function): void {
  if (constructor === undefined || constructor === null) throw invalidArgType("ctor", "Function", constructor);
  if (parent === undefined || parent === null) throw invalidArgType("superCtor", "Function", parent);
  if (parent.prototype === undefined) throw invalidArgType("superCtor.prototype", "Object", parent.prototype);
  Object.defineProperty(constructor, "super_", { value: parent, writable: true, configurable: true });
  Object.setPrototypeOf(constructor.prototype, parent.prototype as object);
}

export function deprecate(f: Function, message: string, code?: string): Function {
  if (code !== undefined) checkString(code, "code");
  let warned = false;
  function deprecated(this: unknown, ...args: unknown[]): unknown {
    if (!warned) {
      warned = true;
      host.call("log", "warn", `${code === undefined ? "" : `[${code}] `}DeprecationWarning: ${message}`);
    }
    return new.target ? Reflect.construct(f, args, new.target) : Reflect.apply(f, this, args);
  }
  Object.setPrototypeOf(deprecated, f);
  if (f.prototype) deprecated.prototype = f.prototype as object;
  return deprecated;
}

/** No section is ever enabled: there is no NODE_DEBUG. */
export function debuglog(_section: string, callback?: (log: Fn) => void): Fn {
  const log = Object.assign(() => {}, { enabled: false });
  callback?.(log);
  return log;
}

// --- text ----------------------------------------------------------------------------------------------------------------

const escapes = /[\u001B\u009B][[\]()#;?]*(?:(?:(?:(?:;[-a-zA-Z\d/#&.:=?%@~_]+)*|[a-zA-Z\d]+(?:;[-a-zA-Z\d/#&.:=?%@~_]*)*)?(?:\u0007|\u001B\u005C|\u009C))|(?:(?:\d{1,4}(?:;\d{0,4})*)?[\dA-PR-TZcf-nq-uy=><~]))/g;

export function stripVTControlCharacters(text: string): string {
  checkString(text, "str");
  return text.replace(escapes, "");
}

interface StyleOptions {
  validateStream?: boolean;
  stream?: unknown;
}

/** Text as a terminal would show it in that style. No stream of an isolate is a terminal: unless `validateStream` is false, the text stays plain. */
export function styleText(style: string | string[], text: string, { validateStream = true, stream }: StyleOptions = {}): string {
  checkString(text, "text");
  if (typeof validateStream !== "boolean") throw invalidArgType("options.validateStream", "boolean", validateStream);
  let before = "";
  let after = "";
  for (const name of Array.isArray(style) ? style : [style]) {
    if (name === "none") continue;
    const codes = (inspect.colors as Record<string, [number, number] | undefined>)[name];
    if (codes === undefined || !Object.hasOwn(inspect.colors, name)) {
      throw invalidArgValue("format", name, `must be one of: ${Object.keys(inspect.colors).map((key) => `'${key}'`).join(", ")}`);
    }
    before += `\u001b[${codes[0]}m`;
    after = `\u001b[${codes[1]}m${after}`;
  }
  const plain = validateStream && (stream as { isTTY?: unknown } | null | undefined)?.isTTY !== true;
  return plain ? text : `${before}${text}${after}`;
}

export function toUSVString(v: unknown): string {
  return `${v as string}`.toWellFormed();
}

/** Parses a `.env` file. */
export function parseEnv(content: string): Record<string, string> {
  checkString(content, "content");
  const out: Record<string, string> = {};
  const line = /^\s*(?:export\s+)?([\w.-]+)\s*=[^\S\n]*("(?:[^"])*"|'[^']*'|`[^`]*`|[^\n#]*)?.*$/gm;
  for (const [, key, raw = ""] of content.replaceAll("\r\n", "\n").matchAll(line)) {
    let value = raw.trim();
    const quote = value[0];
    if ((quote === '"' || quote === "'" || quote === "`") && value.length > 1 && value.endsWith(quote)) {
      value = value.slice(1, -1);
      if (quote === '"') value = value.replaceAll("\\n", "\n");
    }
    out[key!] = value;
  }
  return out;
}

export function getSystemErrorName(n: number): string | undefined {
  checkNumber(n, "err");
  return errnoNames[-n]?.[0];
}

export function getSystemErrorMessage(n: number): string | undefined {
  checkNumber(n, "err");
  return errnoNames[-n]?.[1];
}

export function getSystemErrorMap(): Map<number, [string, string]> {
  return new Map(Object.entries(errnoNames).map(([n, entry]) => [-n, entry]));
}

export function getCallSites(frames = 10): object[] {
  const lines = (new Error().stack ?? "").split("\n").filter((line) => /^\s*at /.test(line)).slice(1, frames + 1);
  return lines.map((line) => {
    const m = /at (?:(.*?) \()?(.*?):(\d+):(\d+)\)?$/.exec(line);
    return { functionName: m?.[1] ?? "", scriptId: "0", scriptName: m?.[2] ?? "", lineNumber: Number(m?.[3] ?? 0), columnNumber: Number(m?.[4] ?? 0), column: Number(m?.[4] ?? 0) };
  });
}

// --- MIME types ----------------------------------------------------------------------------------------------------------

const token = /^[!#$%&'*+\-.^_`|~A-Za-z0-9]+$/;

export class MIMEParams {
  #entries = new Map<string, string>();

  delete(name: string): void {
    this.#entries.delete(name);
  }

  get(name: string): string | null {
    return this.#entries.get(name) ?? null;
  }

  has(name: string): boolean {
    return this.#entries.has(name);
  }

  set(name: string, value: string): void {
    if (!token.test(name)) throw nodeError(TypeError, "ERR_INVALID_MIME_SYNTAX", `The MIME syntax for a parameter name in "${name}" is invalid`);
    if (!/^[\t\u0020-\u007E\u0080-\u00FF]*$/.test(value)) {
      throw nodeError(TypeError, "ERR_INVALID_MIME_SYNTAX", `The MIME syntax for a parameter value in "${value}" is invalid`);
    }
    this.#entries.set(`${name}`, `${value}`);
  }

  entries(): IterableIterator<[string, string]> {
    return this.#entries.entries();
  }

  keys(): IterableIterator<string> {
    return this.#entries.keys();
  }

  values(): IterableIterator<string> {
    return this.#entries.values();
  }

  [Symbol.iterator](): IterableIterator<[string, string]> {
    return this.#entries.entries();
  }

  toString(): string {
    return [...this.#entries]
      .map(([name, value]) => `${name}=${token.test(value) ? value : `"${value.replace(/["\\]/g, "\\$&")}"`}`)
      .join(";");
  }

  toJSON(): string {
    return this.toString();
  }
}

export class MIMEType {
  #type: string;
  #subtype: string;
  #params = new MIMEParams();

  constructor(input: string) {
    const text = `${input}`;
    const m = /^[\t\n\f\r ]*([^/;]*)\/([^;]*?)[\t\n\f\r ]*(?:;([^]*))?$/.exec(text);
    if (m === null || !token.test(m[1]!) || !token.test(m[2]!)) {
      throw nodeError(TypeError, "ERR_INVALID_MIME_SYNTAX", `The MIME syntax for a type in "${text}" is invalid`);
    }
    this.#type = m[1]!.toLowerCase();
    this.#subtype = m[2]!.toLowerCase();
    for (const [, name, quoted, plain] of (m[3] ?? "").matchAll(/[\t\n\f\r ]*([^;=]*)(?:=(?:"((?:[^"\\]|\\[^])*)"[^;]*|([^;]*)))?;?/g)) {
      const key = name!.trim().toLowerCase();
      const value = quoted === undefined ? (plain ?? "").trim() : quoted.replace(/\\([^])/g, "$1");
      if (token.test(key) && (quoted !== undefined || value !== "") && !this.#params.has(key)) this.#params.set(key, value);
    }
  }

  get type(): string {
    return this.#type;
  }

  set type(v: string) {
    if (!token.test(v)) throw nodeError(TypeError, "ERR_INVALID_MIME_SYNTAX", `The MIME syntax for a type in "${v}" is invalid`);
    this.#type = v.toLowerCase();
  }

  get subtype(): string {
    return this.#subtype;
  }

  set subtype(v: string) {
    if (!token.test(v)) throw nodeError(TypeError, "ERR_INVALID_MIME_SYNTAX", `The MIME syntax for a subtype in "${v}" is invalid`);
    this.#subtype = v.toLowerCase();
  }

  get essence(): string {
    return `${this.#type}/${this.#subtype}`;
  }

  get params(): MIMEParams {
    return this.#params;
  }

  toString(): string {
    const params = this.#params.toString();
    return params === "" ? this.essence : `${this.essence};${params}`;
  }

  toJSON(): string {
    return this.toString();
  }
}

// --- util.types ----------------------------------------------------------------------------------------------------------

function brandTest(...brands: Brand[]): (v: unknown) => boolean {
  return (v) => typeof v === "object" && v !== null && brands.includes(brandOf(v) as Brand);
}

const typedTag = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)!.get!;

function tagTest(tag: string): (v: unknown) => boolean {
  return (v) => typedTag.call(v) === tag;
}

const asyncFunction = Object.getPrototypeOf(async function () {}) as object;
const generatorFunction = Object.getPrototypeOf(function* () {}) as object;
const asyncGeneratorFunction = Object.getPrototypeOf(async function* () {}) as object;
const generator = (generatorFunction as { prototype: object }).prototype;
const asyncGenerator = (asyncGeneratorFunction as { prototype: object }).prototype;

function inherited(v: unknown, ...prototypes: object[]): boolean {
  return ((typeof v === "object" && v !== null) || typeof v === "function") && prototypes.some((p) => Object.prototype.isPrototypeOf.call(p, v as object));
}

const tag = (v: unknown): string => Object.prototype.toString.call(v).slice(8, -1);

export const types = {
  isExternal: (_: unknown) => false,
  isDate: brandTest("Date"),
  isArgumentsObject: brandTest("Arguments"),
  isBigIntObject: brandTest("BigInt"),
  isBooleanObject: brandTest("Boolean"),
  isNumberObject: brandTest("Number"),
  isStringObject: brandTest("String"),
  isSymbolObject: brandTest("Symbol"),
  isBoxedPrimitive: brandTest("BigInt", "Boolean", "Number", "String", "Symbol"),
  isNativeError: (v: unknown) => Error.isError(v),
  isRegExp: brandTest("RegExp"),
  isAsyncFunction: (v: unknown) => typeof v === "function" && inherited(v, asyncFunction, asyncGeneratorFunction),
  isGeneratorFunction: (v: unknown) => typeof v === "function" && inherited(v, generatorFunction, asyncGeneratorFunction),
  isGeneratorObject: (v: unknown) => inherited(v, generator, asyncGenerator),
  isPromise: brandTest("Promise"),
  isMap: brandTest("Map"),
  isSet: brandTest("Set"),
  isMapIterator: (v: unknown) => typeof v === "object" && tag(v) === "Map Iterator",
  isSetIterator: (v: unknown) => typeof v === "object" && tag(v) === "Set Iterator",
  isWeakMap: brandTest("WeakMap"),
  isWeakSet: brandTest("WeakSet"),
  isArrayBuffer: brandTest("ArrayBuffer"),
  isDataView: brandTest("DataView"),
  isSharedArrayBuffer: brandTest("SharedArrayBuffer"),
  isProxy: (v: unknown) => host.raw.getProxyDetails(v) !== undefined,
  isModuleNamespaceObject: brandTest("Module"),
  isAnyArrayBuffer: brandTest("ArrayBuffer", "SharedArrayBuffer"),
  isArrayBufferView: (v: unknown) => ArrayBuffer.isView(v),
  isTypedArray: (v: unknown) => typedTag.call(v) !== undefined,
  isUint8Array: tagTest("Uint8Array"),
  isUint8ClampedArray: tagTest("Uint8ClampedArray"),
  isUint16Array: tagTest("Uint16Array"),
  isUint32Array: tagTest("Uint32Array"),
  isInt8Array: tagTest("Int8Array"),
  isInt16Array: tagTest("Int16Array"),
  isInt32Array: tagTest("Int32Array"),
  isFloat16Array: tagTest("Float16Array"),
  isFloat32Array: tagTest("Float32Array"),
  isFloat64Array: tagTest("Float64Array"),
  isBigInt64Array: tagTest("BigInt64Array"),
  isBigUint64Array: tagTest("BigUint64Array"),
  isKeyObject: (_: unknown) => false,
  isCryptoKey: (v: unknown) => {
    const CryptoKey = (globalThis as { CryptoKey?: new () => object }).CryptoKey;
    return CryptoKey !== undefined && v instanceof CryptoKey;
  },
};

/** `TextEncoder` and `TextDecoder` are added once the globals exist. */
export const exports: Record<string, unknown> = {
  promisify,
  callbackify,
  aborted,
  transferableAbortController,
  transferableAbortSignal,
  inherits,
  deprecate,
  debuglog,
  debug: debuglog,
  format,
  formatWithOptions,
  inspect,
  isDeepStrictEqual,
  isArray: Array.isArray,
  isError: (v: unknown) => Error.isError(v) || v instanceof Error,
  types,
  stripVTControlCharacters,
  styleText,
  toUSVString,
  parseArgs,
  parseEnv,
  getSystemErrorName,
  getSystemErrorMessage,
  getSystemErrorMap,
  getCallSites,
  MIMEType,
  MIMEParams,
};
