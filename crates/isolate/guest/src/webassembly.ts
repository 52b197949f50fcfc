/**
 * The WebAssembly JavaScript API for modules of the worker's own code. Instances live beside this guest, in the host; here are the objects that
 * stand for them, and what crosses: functions by number, values that JavaScript gave Wasm to hold, buffers over a memory's own pages. The host's
 * side is crates/isolate/src/wasm; calls and buffers go through glue/wasm.h. Compiling bytes at run time is refused, as in workerd.
 */
import { host, type Wire } from "./host";
import { bindWasm } from "./modules";
import { state } from "./state";

const raw = host.raw;

type ImportType = [module: string, name: string, kind: string, ...types: any[]];
type ExportType = [name: string, kind: string, index: number];
type Callable = (...args: unknown[]) => unknown;

/** What exists once Wasm is used. */
export interface WasmState {
  /** JavaScript's functions that are imported, by the number that the host calls them by, with the letters of their parameters. */
  imports: Callable[];
  /** Functions of Wasm as JavaScript sees them, by the host's number, and back. */
  functions: (Callable | undefined)[];
  numbers: WeakMap<object, number>;
  memories: (Memory | undefined)[];
  /** Values that Wasm holds, by slot from 1, and slots that are free; how many were given out since the last look for dropped ones. */
  references: unknown[];
  free: number[];
  given: number;
}

function live(): WasmState {
  return (state.wasm ??= { imports: [], functions: [], numbers: new WeakMap(), memories: [], references: [null], free: [], given: 0 });
}

function errorClass(name: string): new (message?: string, options?: ErrorOptions) => Error {
  const made = {
    [name]: class extends Error {
      constructor(message?: string, options?: ErrorOptions) {
        super(message, options);
        Error.captureStackTrace(this, new.target);
      }
    },
  }[name]!;
  Object.defineProperty(made.prototype, "name", { value: name, writable: true, enumerable: false, configurable: true });
  return made;
}

const CompileError = errorClass("CompileError");
const LinkError = errorClass("LinkError");
const RuntimeError = errorClass("RuntimeError");
const errors: Record<string, new (message: string) => Error> = { CompileError, LinkError, RuntimeError, RangeError, TypeError };

function failure([, name, message]: string[]): never {
  throw new (errors[name!] ?? Error)(message!);
}

/** An operation of the host; throws what it says went wrong, or what JavaScript itself threw further inside. */
function operation(name: string, ...args: Wire[]): any {
  const answer = raw.wasm(name, ...args);
  if (!Array.isArray(answer) || answer[0] !== "!") return answer;
  if (answer.length === 1) throw raw.wasmThrown();
  return failure(answer as string[]);
}

const letters: Record<string, string> = { i32: "i", i64: "I", f32: "f", f64: "d", externref: "e", anyfunc: "c" };

function hold(value: unknown): number {
  const s = live();
  if (++s.given > 256 && s.given > s.references.length - s.free.length) {
    s.given = 0;
    for (const slot of operation("collect") as number[]) {
      s.references[slot] = undefined;
      s.free.push(slot);
    }
  }
  const slot = s.free.pop() ?? s.references.length;
  s.references[slot] = value;
  return slot;
}

/** A value for Wasm where references are numbers; others are converted by the engine. */
function lower(letter: string, value: unknown, what: string): unknown {
  if (letter === "e") return value === null ? 0 : hold(value);
  if (letter !== "c") return value;
  if (value === null) return 0;
  const number = typeof value === "function" ? live().numbers.get(value) : undefined;
  if (number === undefined) throw new TypeError(`${what}: function-typed object expected`);
  return number + 1;
}

function raise(letter: string, value: unknown): unknown {
  if (letter === "e") return live().references[value as number];
  if (letter === "c") return value === 0 ? null : exported((value as number) - 1);
  return value;
}

const isReference = /[ec]/;

/** The function of that number: always the same object. */
function exported(number: number, name?: string, params?: string, results?: string): Callable {
  const s = live();
  const known = s.functions[number];
  if (known !== undefined) return known;
  if (params === undefined || results === undefined) [params, results] = operation("func", number) as [string, string];
  const [taken, given] = [params, results];
  const direct: Callable = (...args) => raw.wasmCall(number, taken, given, args);
  const referring: Callable = (...args) => {
    const lowered = Array.from(taken, (letter, i) => lower(letter, args[i], "type incompatibility when transforming from/to JS"));
    const result = raw.wasmCall(number, taken, given, lowered);
    return given.length > 1 ? (result as unknown[]).map((value, i) => raise(given[i]!, value)) : raise(given, result);
  };
  const f = isReference.test(taken + given) ? referring : direct;
  Object.defineProperties(f, {
    name: { value: name ?? `${number}`, configurable: true },
    length: { value: taken.length, configurable: true },
  });
  s.numbers.set(f, number);
  return (s.functions[number] = f);
}

/** Wasm calls an import. */
function imported(id: number, args: unknown[], types: string): unknown {
  const n = args.length;
  for (let i = 0; i < n; i++) args[i] = raise(types[i]!, args[i]);
  const result = Reflect.apply(live().imports[id]!, undefined, args);
  const wanted = types.length - n;
  if (wanted === 0) return undefined;
  const what = "type incompatibility when transforming from/to JS";
  if (wanted === 1) return lower(types[n]!, result, what);
  if (result === null || (typeof result !== "object" && typeof result !== "function")) throw new TypeError("multi-return value must be iterable");
  const several = Array.from(result as Iterable<unknown>);
  if (several.length !== wanted) throw new TypeError("multi-return length mismatch");
  return several.map((value, i) => lower(types[n + i]!, value, what));
}

function grown(): void {
  for (const memory of live().memories) memory?.[refresh]();
}

raw.onWasm((kind: number, ...args: any[]) => {
  if (kind === 1) return imported(args[0], args[1], args[2]);
  if (kind === 2) return grown();
  return failure(args[0]);
});

/** An argument as the Web IDL type `unsigned long` with [EnforceRange]. */
function enforced(value: unknown, what: string): number {
  const n = Number(value);
  if (!Number.isFinite(n)) throw new TypeError(`${what} must be convertible to a valid number`);
  const whole = Math.trunc(n);
  if (whole < 0) throw new TypeError(`${what} must be non-negative`);
  if (whole > 0xffff_ffff) throw new TypeError(`${what} must be in the unsigned long range`);
  return whole;
}

function descriptorOf(value: unknown, what: string): Record<string, unknown> {
  if (value === null || (typeof value !== "object" && typeof value !== "function")) throw new TypeError(`${what}: Argument 0 must be a descriptor`);
  return value as Record<string, unknown>;
}

function limitsOf(descriptor: Record<string, unknown>, what: string, most: number): [number, number | null] {
  const given = descriptor["initial"] ?? descriptor["minimum"];
  if (given === undefined) throw new TypeError(`${what}: Property 'initial' is required`);
  const initial = enforced(given, `${what}: Property 'initial': value ${String(given)} is`);
  if (initial > most) throw new TypeError(`${what}: Property 'initial': value ${initial} is above the upper bound ${most}`);
  const maximum = descriptor["maximum"];
  if (maximum === undefined) return [initial, null];
  const last = enforced(maximum, `${what}: Property 'maximum': value ${String(maximum)} is`);
  if (last < initial) throw new TypeError(`${what}: Property 'maximum': value ${last} is below the lower bound ${initial}`);
  return [initial, last];
}

/** Marks the internal use of a constructor. */
const made = Symbol("made");
const refresh = Symbol("refresh");

function tag(prototype: object, name: string): void {
  Object.defineProperty(prototype, Symbol.toStringTag, { value: `WebAssembly.${name}`, configurable: true });
  for (const key of Object.getOwnPropertyNames(prototype)) if (key !== "constructor") Object.defineProperty(prototype, key, { enumerable: true });
}

function refused(what: string): never {
  throw new CompileError(`${what}: Wasm code generation disallowed by embedder`);
}

function isBytes(value: unknown): boolean {
  return ArrayBuffer.isView(value) || value instanceof ArrayBuffer || (typeof SharedArrayBuffer === "function" && value instanceof SharedArrayBuffer);
}

function bytesOf(value: unknown, what: string): Uint8Array {
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer as ArrayBuffer, value.byteOffset, value.byteLength);
  if (isBytes(value)) return new Uint8Array(value as ArrayBuffer);
  throw new TypeError(`${what}: Argument 0 must be a buffer source`);
}

class Module {
  #name: string;
  #imports: ImportType[];
  #exports: ExportType[];

  constructor(bytes: unknown, name?: unknown) {
    if (bytes !== made) {
      bytesOf(bytes, "WebAssembly.Module()");
      refused("WebAssembly.Module()");
    }
    this.#name = name as string;
    [this.#imports, this.#exports] = operation("module", this.#name) as [ImportType[], ExportType[]];
  }

  static is(value: unknown): value is Module {
    return value !== null && typeof value === "object" && #name in value;
  }

  static parts(module: Module): [string, ImportType[], ExportType[]] {
    return [module.#name, module.#imports, module.#exports];
  }
}

const { is: isModule, parts } = Module;
for (const name of ["is", "parts"]) delete (Module as unknown as Record<string, unknown>)[name];

/** The name, in the worker's code, of what a `WebAssembly.Module` was made from. */
export function moduleName(value: unknown): string | undefined {
  return isModule(value) ? parts(value)[0] : undefined;
}

function moduleArgument(value: unknown, what: string): Module {
  if (!isModule(value)) throw new TypeError(`${what}: Argument 0 must be a WebAssembly.Module`);
  return value;
}

Object.assign(Module, {
  exports(module: unknown) {
    return parts(moduleArgument(module, "WebAssembly.Module.exports()"))[2].map(([name, kind]) => ({ name, kind }));
  },
  imports(module: unknown) {
    return parts(moduleArgument(module, "WebAssembly.Module.imports()"))[1].map(([from, name, kind]) => ({ module: from, name, kind }));
  },
  customSections(module: unknown, name: unknown) {
    const [key] = parts(moduleArgument(module, "WebAssembly.Module.customSections()"));
    if (name === undefined) throw new TypeError("WebAssembly.Module.customSections(): Argument 1 is required");
    return (operation("custom", key, `${name as string}`) as Uint8Array[]).map((bytes) => bytes.slice().buffer);
  },
});

class Memory {
  #number: number;
  #buffer: ArrayBuffer | undefined;

  constructor(descriptor: unknown, number?: number) {
    if (descriptor === made) {
      this.#number = number!;
    } else {
      const given = descriptorOf(descriptor, "WebAssembly.Memory()");
      const limits = limitsOf(given, "WebAssembly.Memory()", 65536);
      if (given["shared"]) throw new TypeError("WebAssembly.Memory(): shared memories are not supported");
      this.#number = operation("memory.new", ...limits) as number;
    }
    live().memories[this.#number] = this;
  }

  get buffer(): ArrayBuffer {
    const number = this.#number;
    if (this.#buffer === undefined) {
      const [at, n] = operation("memory.map", number) as [number, number];
      this.#buffer = raw.wasmBuffer(at, n);
    }
    return this.#buffer;
  }

  grow(delta: unknown): number {
    const number = this.#number;
    const before = operation("memory.grow", number, enforced(delta, "WebAssembly.Memory.grow(): Argument 0")) as number;
    this.#drop();
    return before;
  }

  #drop(): void {
    const buffer = this.#buffer;
    this.#buffer = undefined;
    if (buffer !== undefined) raw.wasmDetach(buffer);
  }

  /** The buffer is detached when it no longer is the whole memory. */
  [refresh](): void {
    if (this.#buffer !== undefined && (operation("memory.size", this.#number) as number) * 65536 !== this.#buffer.byteLength) this.#drop();
  }

  static numberOf(value: unknown): number | undefined {
    return value !== null && typeof value === "object" && #number in value ? value.#number : undefined;
  }
}

const memoryNumber = Memory.numberOf;
delete (Memory as unknown as Record<string, unknown>)["numberOf"];

class Table {
  #number: number;
  #letter: string;

  constructor(descriptor: unknown, second?: unknown) {
    if (descriptor === made) {
      this.#number = second as number;
      this.#letter = operation("table.type", this.#number) as string;
      return;
    }
    const what = "WebAssembly.Table()";
    const given = descriptorOf(descriptor, what);
    const element = `${given["element"] as string}`;
    if (element !== "anyfunc" && element !== "externref") throw new TypeError(`${what}: Descriptor property 'element' must be a WebAssembly reference type`);
    const limits = limitsOf(given, what, 10_000_000);
    this.#letter = letters[element]!;
    this.#number = operation("table.new", this.#letter, ...limits) as number;
    const start = arguments.length > 1 && second !== undefined ? second : this.#letter === "e" ? undefined : null;
    if (start !== null) for (let i = 0; i < limits[0]; i++) this.set(i, start);
  }

  get length(): number {
    return operation("table.size", this.#number) as number;
  }

  get(index: unknown): unknown {
    const value = operation("table.get", this.#number, enforced(index, "WebAssembly.Table.get(): Argument 0"));
    return raise(this.#letter, value);
  }

  set(index: unknown, value?: unknown): void {
    const what = "WebAssembly.Table.set()";
    operation("table.set", this.#number, enforced(index, `${what}: Argument 0`), this.#lowered(value, arguments.length < 2, `${what}: Argument 1 is invalid for table`));
  }

  grow(delta: unknown, value?: unknown): number {
    const what = "WebAssembly.Table.grow()";
    const more = enforced(delta, `${what}: Argument 0`);
    return operation("table.grow", this.#number, more, this.#lowered(value, arguments.length < 2, `${what}: Argument 1 is invalid`)) as number;
  }

  #lowered(value: unknown, absent: boolean, what: string): number {
    const given = absent && this.#letter === "c" ? null : value;
    return lower(this.#letter, given, what) as number;
  }

  static numberOf(value: unknown): number | undefined {
    return value !== null && typeof value === "object" && #number in value ? value.#number : undefined;
  }
}

const tableNumber = Table.numberOf;
delete (Table as unknown as Record<string, unknown>)["numberOf"];

/** The eight bytes of a value. */
function bytesOfValue(letter: string, value: unknown, what: string): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  const lowered = lower(letter, value, what);
  if (letter === "I") view.setBigInt64(0, BigInt.asIntN(64, lowered as bigint), true);
  else if (letter === "f") view.setFloat32(0, Number(lowered), true);
  else if (letter === "d") view.setFloat64(0, Number(lowered), true);
  else view.setInt32(0, Number(lowered), true);
  return bytes;
}

function valueOfBytes(letter: string, bytes: Uint8Array): unknown {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 8);
  if (letter === "I") return view.getBigInt64(0, true);
  if (letter === "f") return view.getFloat32(0, true);
  if (letter === "d") return view.getFloat64(0, true);
  return raise(letter, view.getInt32(0, true));
}

function zero(letter: string): unknown {
  if (letter === "I") return 0n;
  return letter === "c" ? null : letter === "e" ? undefined : 0;
}

class Global {
  #number: number;
  #letter: string;
  #mutable: boolean;

  constructor(descriptor: unknown, value?: unknown, letter?: string, mutable?: boolean) {
    if (descriptor === made) {
      this.#number = value as number;
      this.#letter = letter!;
      this.#mutable = mutable!;
      return;
    }
    const what = "WebAssembly.Global()";
    const given = descriptorOf(descriptor, what);
    this.#mutable = Boolean(given["mutable"]);
    const type = letters[`${given["value"] as string}`];
    if (type === undefined) throw new TypeError(`${what}: Descriptor property 'value' must be a WebAssembly type`);
    this.#letter = type;
    const start = value === undefined ? zero(type) : value;
    this.#number = operation("global.new", type, this.#mutable, bytesOfValue(type, start, `${what}: Argument 1 is invalid`)) as number;
  }

  get value(): unknown {
    return this.#read("get WebAssembly.Global.value");
  }

  set value(value: unknown) {
    const what = "set WebAssembly.Global.value";
    if (this.#letter === "v") throw new TypeError(`${what}: Can't set the value of s128 WebAssembly.Global`);
    if (!this.#mutable) throw new TypeError(`${what}: Can't set the value of an immutable global.`);
    operation("global.set", this.#number, bytesOfValue(this.#letter, value, what));
  }

  valueOf(): unknown {
    return this.#read("WebAssembly.Global.valueOf()");
  }

  #read(what: string): unknown {
    if (this.#letter === "v") throw new TypeError(`${what}: Can't get the value of s128 WebAssembly.Global`);
    return valueOfBytes(this.#letter, operation("global.get", this.#number) as Uint8Array);
  }

  static parts(value: unknown): { number: number } | undefined {
    return value !== null && typeof value === "object" && #number in value ? { number: value.#number } : undefined;
  }
}

const globalParts = Global.parts;
delete (Global as unknown as Record<string, unknown>)["parts"];

/** Kinds of exceptions. JavaScript can make and throw them; modules that use exceptions are not compiled, so none ever meets one. */
class Tag {
  #types: string[];

  constructor(descriptor: unknown) {
    const given = descriptorOf(descriptor, "WebAssembly.Tag()")["parameters"];
    if (given === null || (typeof given !== "object" && typeof given !== "function")) {
      throw new TypeError("WebAssembly.Tag(): Argument 0 must be a tag type with 'parameters'");
    }
    this.#types = Array.from(given as Iterable<unknown>, (type) => {
      const letter = letters[`${type as string}`];
      if (letter === undefined) throw new TypeError("WebAssembly.Tag(): Argument 0 parameter type is not a value type");
      return letter;
    });
  }

  static typesOf(value: unknown): string[] | undefined {
    return value !== null && typeof value === "object" && #types in value ? value.#types : undefined;
  }
}

const tagTypes = Tag.typesOf;
delete (Tag as unknown as Record<string, unknown>)["typesOf"];

class Exception {
  #tag: object;
  #values: unknown[];

  constructor(of: unknown, payload: unknown) {
    const what = "WebAssembly.Exception()";
    const types = tagTypes(of);
    if (types === undefined) throw new TypeError(`${what}: Argument 0 must be a WebAssembly tag`);
    if (!isObject(payload)) throw new TypeError(`${what}: Argument 1 must be iterable`);
    const values = Array.from(payload as unknown as Iterable<unknown>);
    if (values.length !== types.length) throw new TypeError(`${what}: Number of exception values does not match signature length`);
    this.#tag = of as object;
    this.#values = values.map((value, i) => (types[i] === "e" || types[i] === "c" ? value : valueOfBytes(types[i]!, bytesOfValue(types[i]!, value, what))));
  }

  is(of: unknown): boolean {
    if (tagTypes(of) === undefined) throw new TypeError("WebAssembly.Exception.is(): Argument 0 must be a WebAssembly tag");
    return this.#tag === of;
  }

  getArg(of: unknown, index: unknown): unknown {
    const what = "WebAssembly.Exception.getArg()";
    if (tagTypes(of) === undefined) throw new TypeError(`${what}: Argument 0 must be a WebAssembly tag`);
    const i = enforced(index, `${what}: Index`);
    if (this.#tag !== of) throw new TypeError(`${what}: First argument does not match the exception tag`);
    if (i >= this.#values.length) throw new TypeError(`${what}: Index must be convertible to a valid number`);
    return this.#values[i];
  }
}

/** What is given for one import, as the host takes it. */
function linked([, , kind, ...types]: ImportType, value: unknown, what: string): Wire {
  switch (kind) {
    case "function": {
      if (typeof value !== "function") throw new LinkError(`${what}: function import requires a callable`);
      const s = live();
      const number = s.numbers.get(value);
      return number === undefined ? ["j", s.imports.push(value as Callable) - 1] : [kind, number];
    }
    case "memory": {
      const number = memoryNumber(value);
      if (number === undefined) throw new LinkError(`${what}: memory import must be a WebAssembly.Memory object`);
      return [kind, number];
    }
    case "table": {
      const number = tableNumber(value);
      if (number === undefined) throw new LinkError(`${what}: table import requires a WebAssembly.Table`);
      return [kind, number];
    }
    case "global":
      return [kind, linkedGlobal(types as [string, boolean], value, what)];
    default:
      throw new LinkError(`${what}: imports of this kind are not supported`);
  }
}

function linkedGlobal([letter, mutable]: [string, boolean], value: unknown, what: string): number {
  const found = globalParts(value);
  if (found !== undefined) return found.number;
  if (mutable) throw new LinkError(`${what}: imported mutable global must be a WebAssembly.Global object`);
  const fits = letter === "e" || (letter === "I" ? typeof value === "bigint" : letter === "c" ? value === null || typeof value === "function" : typeof value === "number");
  if (!fits) {
    throw new LinkError(letter === "I" ? `${what}: global import must be a BigInt` : `${what}: global import must be a number, valid Wasm reference, or WebAssembly.Global object`);
  }
  try {
    return operation("global.new", letter, false, bytesOfValue(letter, value, what)) as number;
  } catch (e) {
    throw e instanceof TypeError ? new LinkError(e.message) : e;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return value !== null && (typeof value === "object" || typeof value === "function");
}

function exportsOf(module: Module, imports: unknown, what: string): object {
  const [name, wanted, descriptions] = parts(module);
  if (imports !== undefined && !isObject(imports)) throw new TypeError(`${what}: Argument 1 must be an object`);
  if (wanted.length > 0 && imports === undefined) throw new TypeError(`${what}: Imports argument must be present and must be an object`);
  const given = wanted.map((type, i) => {
    const [from, field] = type;
    const space = (imports as Record<string, unknown>)[from];
    if (!isObject(space)) throw new TypeError(`${what}: Import #${i} "${from}": module is not an object or function`);
    return linked(type, space[field], `${what}: Import #${i} "${from}" "${field}"`);
  });
  const answer = operation("instantiate", name, given) as [string, string, number, ...any[]][];
  const s = live();
  const exports: Record<string, unknown> = Object.create(null);
  answer.forEach(([key, kind, number, ...types], i) => {
    exports[key] = exportOf(s, kind, number, types, descriptions[i]?.[2]);
  });
  return Object.freeze(exports);
}

function exportOf(s: WasmState, kind: string, number: number, types: any[], index: number | undefined): unknown {
  switch (kind) {
    case "function":
      return exported(number, `${index ?? number}`, types[0], types[1]);
    case "memory":
      return s.memories[number] ?? new Memory(made, number);
    case "table":
      return new Table(made, number);
    default:
      return new Global(made, number, types[0], types[1]);
  }
}

class Instance {
  #exports: object;

  constructor(module: unknown, imports?: unknown, what?: unknown) {
    const named = what === made ? "WebAssembly.instantiate()" : "WebAssembly.Instance()";
    this.#exports = exportsOf(moduleArgument(module, named), imports, named);
  }

  get exports(): object {
    return this.#exports;
  }
}

for (const [prototype, name] of [
  [Module.prototype, "Module"],
  [Instance.prototype, "Instance"],
  [Memory.prototype, "Memory"],
  [Table.prototype, "Table"],
  [Global.prototype, "Global"],
  [Tag.prototype, "Tag"],
  [Exception.prototype, "Exception"],
] as const) {
  tag(prototype, name);
}

bindWasm((name) => new Module(made, name));

const namespace = {
  async compile(bytes: unknown): Promise<Module> {
    bytesOf(bytes, "WebAssembly.compile()");
    return refused("WebAssembly.compile()");
  },
  async instantiate(source: unknown, imports?: unknown): Promise<unknown> {
    if (isModule(source)) return new (Instance as any)(source, imports, made);
    if (!isBytes(source)) throw new TypeError("WebAssembly.instantiate(): Argument 0 must be a buffer source or a WebAssembly.Module");
    return refused("WebAssembly.instantiate()");
  },
  validate(bytes: unknown): boolean {
    return operation("validate", bytesOf(bytes, "WebAssembly.validate()")) as boolean;
  },
};

const WebAssembly = Object.create(Object.prototype, { [Symbol.toStringTag]: { value: "WebAssembly", configurable: true } });
for (const [name, value] of Object.entries({ ...namespace, Module, Instance, Memory, Table, Global, Tag, Exception, CompileError, LinkError, RuntimeError })) {
  Object.defineProperty(WebAssembly, name, { value, writable: true, enumerable: false, configurable: true });
}
for (const constructor of [Module, Instance, Memory, Table, Global, Tag, Exception]) Object.defineProperty(constructor, "length", { value: 1, configurable: true });

export const globals = { WebAssembly };
