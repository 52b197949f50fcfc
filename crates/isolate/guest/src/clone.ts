/**
 * Structured cloning (HTML §2.7): `structuredClone`, the registry by which Web API classes say how they are cloned or transferred, and what the
 * two implementations — the direct copy here, the bytes of serial.ts — share. The copy is made in one walk: no code of the value runs after its
 * properties were read, so serialising first would not be observable.
 */
import { brandOf, type Brand } from "./brands";
import { host } from "./host";
import { attributesOf, requireArguments } from "./webidl";

export { TooLarge, deserialize, serialize, type ReadDelegate, type WriteDelegate } from "./serial";

/** How instances of a Web API class are cloned. */
export interface Cloneable<T extends object = any> {
  /** The copy for `structuredClone`. */
  clone(value: T): T;
  /** What stands for it in bytes: any cloneable value, and the way back. Left out: it cannot be serialised. */
  write?(value: T): unknown;
  read?(data: any): T;
}

/** How instances of a Web API class are transferred: into a shell made before the rest of the message is copied. */
export interface Transferable<T extends object = any> {
  shell(): T;
  /** Moves the state over and leaves `from` detached. Throws when it cannot be moved. */
  move(from: T, shell: T): void;
}

const cloneables = new Map<object, { name: string; how: Cloneable }>();
const cloneablesByName = new Map<string, Cloneable>();
const transferables = new Map<object, Transferable>();

/** Registers a class, while the image is made. `name` identifies it in serialised bytes. */
export function registerCloneable<T extends object>(C: { prototype: T }, name: string, how: Cloneable<T>): void {
  cloneables.set(C.prototype, { name, how });
  cloneablesByName.set(name, how);
}

/** Registers a transferable class, while the image is made. */
export function registerTransferable<T extends object>(C: { prototype: T }, how: Transferable<T>): void {
  transferables.set(C.prototype, how);
}

function nearest<V>(registry: Map<object, V>, value: object): V | undefined {
  for (let o = Object.getPrototypeOf(value) as object | null; o !== null; o = Object.getPrototypeOf(o) as object | null) {
    const found = registry.get(o);
    if (found !== undefined) return found;
    if (host.raw.getProxyDetails(o) !== undefined) return undefined;
  }
  return undefined;
}

export function cloneableOf(value: object): { name: string; how: Cloneable } | undefined {
  return nearest(cloneables, value);
}

export function cloneableNamed(name: string): Cloneable | undefined {
  return cloneablesByName.get(name);
}

export function dataCloneError(message: string): DOMException {
  return new DOMException(message, "DataCloneError");
}

/** The error for a value that cannot be cloned, worded as workerd words it. */
export function notCloneable(value: unknown): DOMException {
  return dataCloneError(`${textFor(value)} could not be cloned.`);
}

function textFor(value: unknown): string {
  if (typeof value === "symbol") return Symbol.prototype.toString.call(value);
  if (typeof value === "function") return Function.prototype.toString.call(value).slice(0, 200);
  const proxy = host.raw.getProxyDetails(value) !== undefined;
  return `#<${proxy ? "Object" : (brandOf(value as object) ?? nameOf(value as object))}>`;
}

function nameOf(value: object): string {
  const prototype = Object.getPrototypeOf(value) as object | null;
  const c = prototype === null ? undefined : (Object.getOwnPropertyDescriptor(prototype, "constructor")?.value as unknown);
  const name = typeof c === "function" ? (Object.getOwnPropertyDescriptor(c, "name")?.value as unknown) : undefined;
  return typeof name === "string" && name !== "" ? name : "Object";
}

// Objects with internal state that plain copying would lose, recognised by the prototypes that only they have.
const iteratorPrototypes = [
  [][Symbol.iterator](), new Map().entries(), new Set().values(), ""[Symbol.iterator](), "".matchAll(/x/g),
  (globalThis as unknown as { Iterator: { from(o: object): object } }).Iterator.from({ next() {} }), ([].values() as unknown as { drop(n: number): object }).drop(0),
].map((i) => Object.getPrototypeOf(i) as object);
const generatorPrototypes = [function* () {}, async function* () {}].map((f) => Object.getPrototypeOf(f.prototype) as object);
const opaque = new Set<object>([...iteratorPrototypes, ...generatorPrototypes, FinalizationRegistry.prototype]);

/** Whether an object without a brand is one whose copy would be a lie: a Web API instance, an iterator, a generator. */
export function isOpaque(value: object): boolean {
  for (let o = Object.getPrototypeOf(value) as object | null; o !== null; o = Object.getPrototypeOf(o) as object | null) {
    if (host.raw.getProxyDetails(o) !== undefined) return false;
    if (opaque.has(o) || attributesOf(o) !== undefined) return true;
  }
  return false;
}

/** The error for an object of an interface that has no form of data. */
export function unsupported(value: object): DOMException {
  return dataCloneError(`Could not serialize object of type "${nameOf(value)}". This type does not support serialization.`);
}

// --- errors --------------------------------------------------------------------------------------------------------------

const errorPrototypes: Record<string, object> = Object.create(null) as Record<string, object>;
for (const C of [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError, AggregateError, SuppressedError]) {
  errorPrototypes[C.name] = C.prototype;
}

/** An error of that standard type — `Error` for all other names — with the given stack and no message yet. */
export function makeError(name: string, stack: unknown): Error {
  const error = new Error();
  const prototype = errorPrototypes[name];
  if (prototype !== undefined) Object.setPrototypeOf(error, prototype);
  if (typeof stack === "string") define(error, "stack", stack, false);
  return error;
}

export function define(object: object, key: PropertyKey, value: unknown, enumerable: boolean): void {
  Object.defineProperty(object, key, { value, enumerable, writable: true, configurable: true });
}

/** Own properties of an error that are part of it although not enumerable. */
export const hiddenErrorKeys = ["message", "name", "cause", "errors", "error", "suppressed"];

/** Own properties to carry over: the hidden ones that are there, then all enumerable ones, as on workerd. */
export function errorKeys(error: Error): string[] {
  const keys = hiddenErrorKeys.filter((k) => Object.hasOwn(error, k));
  for (const key of Object.keys(error)) if (!keys.includes(key) && key !== "stack") keys.push(key);
  return keys;
}

// --- views ---------------------------------------------------------------------------------------------------------------

type AnyView = Uint8Array | DataView;
type ViewConstructor = new (buffer: ArrayBuffer, offset?: number, length?: number) => AnyView;

const typedTag = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype) as object, Symbol.toStringTag)!.get!;

/** Every view class, in the order of their numbers in serialised bytes. */
export const viewTypes: ViewConstructor[] = [
  DataView, Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, Float32Array, Float64Array,
  BigInt64Array, BigUint64Array, (globalThis as unknown as { Float16Array: ViewConstructor }).Float16Array,
] as unknown as ViewConstructor[];

/** The number of a view's class by its brand, whatever its prototype says. */
export function viewTypeOf(view: AnyView): number {
  const tag = typedTag.call(view) as string | undefined;
  return tag === undefined ? 0 : viewTypes.findIndex((C) => C.name === tag);
}

/** A view's place in its buffer; `length` undefined when it tracks the length of a resizable buffer. Throws when out of bounds. */
export function viewPlace(view: AnyView, type: number): { offset: number; length: number | undefined } {
  const size = type === 0 ? 1 : (viewTypes[type] as unknown as typeof Uint8Array).BYTES_PER_ELEMENT;
  const buffer = view.buffer as ArrayBuffer;
  if ((buffer as { detached?: boolean }).detached) throw dataCloneError("An ArrayBuffer is detached and could not be cloned.");
  const length = type === 0 ? view.byteLength : (view as Uint8Array).length;
  return { offset: view.byteOffset, length: tracksLength(view, buffer, size) ? undefined : length };
}

/** Only by growing the buffer can one tell; it is put back at once. */
function tracksLength(view: AnyView, buffer: ArrayBuffer, size: number): boolean {
  const b = buffer as ArrayBuffer & { resizable?: boolean; maxByteLength: number; resize(n: number): void };
  if (!b.resizable) return false;
  const length = b.byteLength;
  if (view.byteOffset + Math.floor((length - view.byteOffset) / size) * size !== view.byteOffset + view.byteLength) return false;
  if (length + size > b.maxByteLength) {
    if (length < size) return false;
    const copy = new Uint8Array(b).slice(length - size);
    const before = view.byteLength;
    b.resize(length - size);
    let tracks: boolean;
    try {
      tracks = view.byteLength === before - size && before > 0;
    } catch {
      tracks = false; // a DataView out of bounds
    }
    b.resize(length);
    new Uint8Array(b).set(copy, length - size);
    return tracks;
  }
  const before = view.byteLength;
  b.resize(length + size);
  const tracks = view.byteLength !== before;
  b.resize(length);
  return tracks;
}

export function copyBuffer(buffer: ArrayBuffer): ArrayBuffer {
  const b = buffer as ArrayBuffer & { resizable?: boolean; maxByteLength: number; detached?: boolean };
  if (b.detached) throw dataCloneError("An ArrayBuffer is detached and could not be cloned.");
  if (!b.resizable) return ArrayBuffer.prototype.slice.call(buffer, 0);
  const copy = new (ArrayBuffer as new (n: number, o: object) => ArrayBuffer)(b.byteLength, { maxByteLength: b.maxByteLength });
  new Uint8Array(copy).set(new Uint8Array(buffer));
  return copy;
}

// --- the copy ------------------------------------------------------------------------------------------------------------

/** A container whose copy is being filled: calls `copy` for what is left of it; returns false when nothing is. */
type Filling = () => boolean;

/** Sets a property of a fresh object; a plain assignment could meet a setter or `__proto__`. */
export function put(object: object, key: string, value: unknown): void {
  if (key in object) define(object, key, value, true);
  else (object as Record<string, unknown>)[key] = value;
}

/**
 * One copying of a graph. Containers are copied empty and filled from a stack of our own, depth first: deep values are common (syntax trees,
 * linked lists), the engine's stack is small.
 */
class Copier {
  memory = new Map<object, unknown>();
  #filling: Filling[] = [];

  run(value: unknown): unknown {
    const result = this.#copy(value);
    const filling = this.#filling;
    while (filling.length > 0) {
      const depth = filling.length;
      const fill = filling[depth - 1]!;
      let more = true;
      // On with this container until it meets one to be filled first.
      while (more && filling.length === depth) more = fill();
      if (!more) filling.splice(depth - 1, 1);
    }
    return result;
  }

  #copy(value: unknown): unknown {
    if (typeof value === "object") return value === null ? null : (this.memory.get(value) ?? this.#object(value));
    if (typeof value === "function" || typeof value === "symbol") throw notCloneable(value);
    return value;
  }

  #object(value: object): unknown {
    if (host.raw.getProxyDetails(value) !== undefined) throw notCloneable(value);
    if (Array.isArray(value)) return this.#array(value);
    const brand = brandOf(value);
    if (brand !== undefined) return this.#branded(value, brand);
    return Object.getPrototypeOf(value) === Object.prototype ? this.#plain(value) : this.#instance(value);
  }

  #plain(value: object): object {
    const result = this.#remember(value, {});
    this.#properties(value, Object.keys(value), result);
    return result;
  }

  #instance(value: object): object {
    const cloneable = cloneableOf(value);
    if (cloneable !== undefined) return this.#remember(value, cloneable.how.clone(value) as object);
    if (isOpaque(value)) {
      throw unsupported(value);
    }
    return this.#plain(value);
  }

  #remember<T extends object>(value: object, result: T): T {
    this.memory.set(value, result);
    return result;
  }

  #fill(count: number, step: (i: number) => void): void {
    let i = 0;
    if (count === 0) return;
    this.#filling.push(() => {
      step(i++);
      return i < count;
    });
  }

  #properties(from: object, keys: string[], to: object): void {
    this.#fill(keys.length, (i) => {
      const key = keys[i]!;
      if (Object.hasOwn(from, key)) put(to, key, this.#copy((from as Record<string, unknown>)[key]));
    });
  }

  #array(value: unknown[]): unknown[] {
    const result: unknown[] = this.#remember(value, []);
    const length = value.length;
    const keys = Object.keys(value);
    if (keys.length === length && (length === 0 || keys[length - 1] === `${length - 1}`)) {
      this.#fill(length, (i) => {
        if (Object.hasOwn(value, i)) result[i] = this.#copy(value[i]);
        if (i === length - 1) result.length = length; // a getter may have taken elements away
      });
    } else {
      result.length = length;
      this.#properties(value, keys, result);
    }
    return result;
  }

  #branded(value: object, brand: Brand): unknown {
    const leaf = copyLeaf(value, brand);
    if (leaf !== undefined) return this.#remember(value, leaf);
    switch (brand) {
      case "Map": {
        const map = this.#remember(value, new Map<unknown, unknown>());
        const entries = [...Map.prototype.entries.call(value)];
        this.#fill(entries.length, (i) => {
          const key = this.#copy(entries[i]![0]);
          map.set(key, this.#copy(entries[i]![1]));
        });
        return map;
      }
      case "Set": {
        const set = this.#remember(value, new Set<unknown>());
        const items = [...Set.prototype.values.call(value)];
        this.#fill(items.length, (i) => set.add(this.#copy(items[i])));
        return set;
      }
      case "TypedArray":
      case "DataView": return this.#view(value as AnyView);
      case "Error": return this.#error(value as Error);
      default: throw notCloneable(value);
    }
  }

  #error(value: Error): Error {
    const result = this.#remember(value, makeError(`${value.name}`, value.stack));
    const keys = errorKeys(value);
    this.#fill(keys.length, (i) => {
      const key = keys[i]!;
      if (!Object.hasOwn(value, key)) return;
      define(result, key, this.#copy((value as unknown as Record<string, unknown>)[key]), !hiddenErrorKeys.includes(key));
    });
    return result;
  }

  #view(value: AnyView): AnyView {
    const type = viewTypeOf(value);
    const { offset, length } = viewPlace(value, type);
    const buffer = this.#copy(value.buffer) as ArrayBuffer;
    return this.#remember(value, new viewTypes[type]!(buffer, offset, length));
  }
}

/** Branded values that hold no other values. */
function copyLeaf(value: object, brand: Brand): object | undefined {
  switch (brand) {
    case "Date": return new Date(Date.prototype.getTime.call(value));
    case "RegExp": return new RegExp(...regExpParts(value as RegExp));
    case "ArrayBuffer": return copyBuffer(value as ArrayBuffer);
    case "SharedArrayBuffer": return value;
    case "Boolean": return Object(Boolean.prototype.valueOf.call(value)) as object;
    case "Number": return Object(Number.prototype.valueOf.call(value)) as object;
    case "String": return Object(String.prototype.valueOf.call(value)) as object;
    case "BigInt": return Object(BigInt.prototype.valueOf.call(value)) as object;
    case "DOMException": return copyDomException(value as DOMException);
    default: return undefined;
  }
}

const regExpSource = Object.getOwnPropertyDescriptor(RegExp.prototype, "source")!.get!;
const regExpFlags: [string, () => unknown][] = (
  [["d", "hasIndices"], ["g", "global"], ["i", "ignoreCase"], ["m", "multiline"], ["s", "dotAll"], ["u", "unicode"], ["v", "unicodeSets"], ["y", "sticky"]] as const
).map(([flag, name]) => [flag, Object.getOwnPropertyDescriptor(RegExp.prototype, name)!.get!]);

/** Source and flags from the internal slots. */
export function regExpParts(value: RegExp): [source: string, flags: string] {
  let flags = "";
  for (const [flag, get] of regExpFlags) if (get.call(value)) flags += flag;
  return [regExpSource.call(value) as string, flags];
}

function copyDomException(value: DOMException): DOMException {
  const result = new DOMException(value.message, value.name);
  const stack = Object.getOwnPropertyDescriptor(value, "stack")?.value as unknown;
  if (typeof stack === "string") define(result, "stack", stack, false);
  return result;
}

// --- transfer ------------------------------------------------------------------------------------------------------------

function transferList(given: unknown): object[] {
  if (given === undefined) return [];
  if (typeof given !== "object" || given === null) throw new TypeError("Incorrect type for the 'transfer' field on 'StructuredSerializeOptions': not a sequence.");
  const list: object[] = [];
  for (const item of given as Iterable<object>) {
    if (typeof item !== "object" || item === null) throw new TypeError("Object is not transferable");
    if (list.includes(item)) throw dataCloneError("An object appears twice in the transfer list.");
    list.push(item);
  }
  return list;
}

/** Copies `value` and moves what `transfer` lists; also returns the moved objects, for `MessageEvent.ports`. */
export function cloneWithTransfer(value: unknown, transfer: unknown): { value: unknown; moved: object[] } {
  const list = transferList(transfer);
  const copier = new Copier();
  const moves: (() => void)[] = [];
  const moved: object[] = [];
  for (const item of list) {
    const isBuffer = host.raw.getProxyDetails(item) === undefined && brandOf(item) === "ArrayBuffer";
    const how = isBuffer ? undefined : nearest(transferables, item);
    if (!isBuffer && how === undefined) throw dataCloneError("Object is not transferable");
    // A buffer is copied now and detached at the end: its views must still be readable meanwhile.
    const target = how === undefined ? copyBuffer(item as ArrayBuffer) : (how.shell() as object);
    moves.push(how === undefined ? () => host.raw.detach(item as ArrayBuffer) : () => how.move(item, target));
    copier.memory.set(item, target);
    moved.push(target);
  }
  const result = copier.run(value);
  for (const move of moves) move();
  return { value: result, moved };
}

export function structuredClone(value: unknown, options?: { transfer?: unknown }): unknown {
  requireArguments(arguments.length, 1, "Failed to execute 'structuredClone' on 'ServiceWorkerGlobalScope'");
  if (options === undefined || options === null) {
    return (typeof value === "object" && value !== null) || typeof value === "function" || typeof value === "symbol" ? new Copier().run(value) : value;
  }
  if (typeof options !== "object" && typeof options !== "function") {
    throw new TypeError("Failed to execute 'structuredClone' on 'ServiceWorkerGlobalScope': parameter 2 is not of type 'StructuredCloneOptions'.");
  }
  return cloneWithTransfer(value, options.transfer).value;
}

Object.defineProperty(structuredClone, "length", { value: 1, configurable: true });

export const globals = { structuredClone };
