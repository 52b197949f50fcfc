/**
 * Structured clones as bytes: what crosses between isolates in RPC messages and in the `env` of loaded workers. A delegate stands for what
 * is not data — functions, stubs, streams — by data of its own making. The reader takes its bytes as hostile: every length is checked against
 * what is left, depth is bounded, and anything malformed is a `DataCloneError`.
 */
import { brandOf, type Brand } from "./brands";
import {
  cloneableNamed, cloneableOf, dataCloneError, define, errorKeys, hiddenErrorKeys, isOpaque, makeError, notCloneable, put, regExpParts, viewPlace,
  viewTypeOf, viewTypes,
} from "./clone";
import { host } from "./host";

export interface WriteDelegate {
  /**
   * Asked for everything that is not plain data: functions, proxies, promises, instances of classes. Answers with data to write in its place
   * (which may hold further such values), or undefined: not mine. May throw.
   */
  write(value: object): unknown;
}

export interface ReadDelegate {
  /** The way back from what `write` answered. */
  read(data: unknown): unknown;
}

const VERSION = 1;
const maxDepth = 256;
const maxBytes = 256 * 1024 * 1024;

const enum Tag {
  Undefined, Null, True, False, Int, Number, BigInt, String, String16, Reference, Object, Array, SparseArray, Date, RegExp, Map, Set, Buffer,
  ResizableBuffer, View, BoxedBoolean, BoxedNumber, BoxedString, BoxedBigInt, Error, DomException, Cloneable, Delegated, Key,
}

const numberBytes = new DataView(new ArrayBuffer(8));

/** Thrown where the bytes would be more than the caller of `serialize` wants; `size` is how many there were by then. */
export class TooLarge {
  readonly size: number;
  constructor(size: number) {
    this.size = size;
  }
}

class Writer {
  #bytes = new Uint8Array(256);
  #length = 0;
  #delegate: WriteDelegate | undefined;
  #most: number;
  #memory: Map<object, number> | undefined;
  #keys: Map<string, number> | undefined;
  depth = 0;

  constructor(delegate: WriteDelegate | undefined, most: number) {
    this.#delegate = delegate;
    this.#most = most;
  }

  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #reserve(n: number): void {
    const wanted = this.#length + n;
    if (wanted <= this.#bytes.length) return;
    if (wanted > this.#most) throw new TooLarge(wanted);
    if (wanted > maxBytes) throw dataCloneError("The value is too large to be serialised.");
    const grown = new Uint8Array(Math.max(wanted, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
  }

  byte(b: number): void {
    if (this.#length === this.#bytes.length) this.#reserve(1);
    this.#bytes[this.#length++] = b;
  }

  #varint(given: number): void {
    let n = given;
    while (n >= 0x80) {
      this.byte((n % 0x80) | 0x80);
      n = Math.floor(n / 0x80);
    }
    this.byte(n);
  }

  #raw(bytes: Uint8Array): void {
    this.#varint(bytes.length);
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #number(n: number): void {
    numberBytes.setFloat64(0, n, true);
    this.#reserve(8);
    for (let i = 0; i < 8; i++) this.#bytes[this.#length++] = numberBytes.getUint8(i);
  }

  /** The text with its tag; UTF-8 unless a lone surrogate would get lost. */
  #string(s: string): void {
    if (s.length > this.#most) throw new TooLarge(s.length); // before it is copied
    if (s.length <= 24 && this.#shortAscii(s)) return;
    if (s.isWellFormed()) {
      this.byte(Tag.String);
      this.#raw(host.utf8Encode(s));
      return;
    }
    this.byte(Tag.String16);
    const units = new Uint8Array(s.length * 2);
    for (let i = 0; i < s.length; i++) {
      const unit = s.charCodeAt(i);
      units[2 * i] = unit & 0xff;
      units[2 * i + 1] = unit >> 8;
    }
    this.#raw(units);
  }

  /** Most strings are short and plain: writing them here costs less than a call of the encoder. */
  #shortAscii(s: string): boolean {
    const length = s.length;
    this.#reserve(length + 2);
    const bytes = this.#bytes;
    let at = this.#length;
    bytes[at++] = Tag.String;
    bytes[at++] = length;
    for (let i = 0; i < length; i++) {
      const unit = s.charCodeAt(i);
      if (unit > 127) return false;
      bytes[at++] = unit;
    }
    this.#length = at;
    return true;
  }

  /** A property's key: in full once, then by number. */
  #key(key: string): void {
    const keys = (this.#keys ??= new Map());
    const known = keys.get(key);
    if (known === undefined) {
      keys.set(key, keys.size);
      return this.#string(key);
    }
    this.byte(Tag.Key);
    this.#varint(known);
  }

  value(value: unknown): void {
    switch (typeof value) {
      case "undefined": return this.byte(Tag.Undefined);
      case "boolean": return this.byte(value ? Tag.True : Tag.False);
      case "string": return this.#string(value);
      case "number":
        if ((value | 0) === value && !Object.is(value, -0)) {
          this.byte(Tag.Int);
          return this.#varint(value < 0 ? -value * 2 - 1 : value * 2);
        }
        this.byte(Tag.Number);
        return this.#number(value);
      case "bigint":
        this.byte(Tag.BigInt);
        return this.#string(value.toString(16));
      case "object":
        if (value === null) return this.byte(Tag.Null);
        return this.#object(value);
      case "function": return this.#object(value);
      default: throw notCloneable(value);
    }
  }

  #object(value: object): void {
    const known = this.#memory?.get(value);
    if (known !== undefined) {
      this.byte(Tag.Reference);
      return this.#varint(known);
    }
    if (++this.depth > maxDepth) throw tooDeep();
    this.#newObject(value);
    this.depth--;
  }

  #remember(value: object): void {
    const memory = (this.#memory ??= new Map());
    memory.set(value, memory.size);
  }

  #newObject(value: object): void {
    if (typeof value === "function" || host.raw.getProxyDetails(value) !== undefined) return this.#delegated(value);
    if (Array.isArray(value)) return this.#array(value);
    const brand = brandOf(value);
    if (brand !== undefined && this.#branded(value, brand)) return;
    const prototype: unknown = Object.getPrototypeOf(value);
    if (brand === undefined && (prototype === Object.prototype || prototype === null)) return this.#plain(value);
    const cloneable = brand === undefined ? cloneableOf(value) : undefined;
    if (cloneable?.how.write !== undefined) {
      this.#remember(value);
      this.byte(Tag.Cloneable);
      this.#string(cloneable.name);
      return this.value(cloneable.how.write(value));
    }
    if (this.#tryDelegate(value)) return;
    if (brand !== undefined || cloneable !== undefined || isOpaque(value)) throw notCloneable(value);
    this.#plain(value);
  }

  #delegated(value: object): void {
    if (!this.#tryDelegate(value)) throw notCloneable(value);
  }

  #tryDelegate(value: object): boolean {
    const data = this.#delegate?.write(value);
    if (data === undefined) return false;
    this.#remember(value);
    this.byte(Tag.Delegated);
    this.value(data);
    return true;
  }

  #plain(value: object): void {
    this.#remember(value);
    this.byte(Tag.Object);
    this.#properties(value, Object.keys(value));
  }

  /** Keys and values up to an `undefined` key: a getter may delete a property that was counted. */
  #properties(value: object, keys: string[]): void {
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]!;
      if (!Object.hasOwn(value, key)) continue;
      this.#key(key);
      this.value((value as Record<string, unknown>)[key]);
    }
    this.byte(Tag.Undefined);
  }

  #array(value: unknown[]): void {
    this.#remember(value);
    const keys = Object.keys(value);
    const length = value.length;
    if (keys.length === length && (length === 0 || keys[length - 1] === `${length - 1}`)) {
      this.byte(Tag.Array);
      this.#varint(length);
      for (let i = 0; i < length; i++) this.value(value[i]);
      return;
    }
    this.byte(Tag.SparseArray);
    this.#varint(length);
    this.#properties(value, keys);
  }

  /** False: a brand that only the delegate could know (a promise). */
  #branded(value: object, brand: Brand): boolean {
    switch (brand) {
      case "Date":
        this.byte(Tag.Date);
        this.#number(Date.prototype.getTime.call(value));
        break;
      case "RegExp":
        this.byte(Tag.RegExp);
        for (const part of regExpParts(value as RegExp)) this.#string(part);
        break;
      case "Boolean":
        this.byte(Tag.BoxedBoolean);
        this.byte(Boolean.prototype.valueOf.call(value) ? 1 : 0);
        break;
      case "Number":
        this.byte(Tag.BoxedNumber);
        this.#number(Number.prototype.valueOf.call(value));
        break;
      case "String":
        this.byte(Tag.BoxedString);
        this.#string(String.prototype.valueOf.call(value));
        break;
      case "BigInt":
        this.byte(Tag.BoxedBigInt);
        this.#string(BigInt.prototype.valueOf.call(value).toString(16));
        break;
      case "ArrayBuffer":
        this.#buffer(value as ArrayBuffer);
        break;
      case "DOMException": {
        const e = value as DOMException;
        this.byte(Tag.DomException);
        for (const part of [e.name, e.message, `${e.stack ?? ""}`]) this.#string(part);
        break;
      }
      case "Map":
        this.#remember(value);
        this.#map(value as Map<unknown, unknown>);
        return true;
      case "Set":
        this.#remember(value);
        this.#set(value as Set<unknown>);
        return true;
      case "Error":
        this.#remember(value);
        this.#error(value as Error);
        return true;
      case "TypedArray":
      case "DataView":
        this.#view(value as Uint8Array);
        return true;
      default: return false;
    }
    this.#remember(value);
    return true;
  }

  #buffer(buffer: ArrayBuffer): void {
    const b = buffer as ArrayBuffer & { resizable?: boolean; maxByteLength: number; detached?: boolean };
    if (b.detached) throw dataCloneError("An ArrayBuffer is detached and could not be cloned.");
    this.byte(b.resizable ? Tag.ResizableBuffer : Tag.Buffer);
    if (b.resizable) this.#varint(b.maxByteLength);
    this.#raw(new Uint8Array(buffer));
  }

  #view(view: Uint8Array): void {
    const type = viewTypeOf(view);
    const { offset, length } = viewPlace(view, type);
    this.byte(Tag.View);
    this.byte(type);
    this.value(view.buffer);
    this.#varint(offset);
    // 0 stands for "tracks the buffer's length".
    this.#varint(length === undefined ? 0 : length + 1);
    this.#remember(view);
  }

  #map(map: Map<unknown, unknown>): void {
    const entries = [...Map.prototype.entries.call(map)];
    this.byte(Tag.Map);
    this.#varint(entries.length);
    for (const [k, v] of entries) {
      this.value(k);
      this.value(v);
    }
  }

  #set(set: Set<unknown>): void {
    const items = [...Set.prototype.values.call(set)];
    this.byte(Tag.Set);
    this.#varint(items.length);
    for (const v of items) this.value(v);
  }

  #error(error: Error): void {
    this.byte(Tag.Error);
    this.#string(`${error.name}`);
    const stack: unknown = error.stack;
    this.value(typeof stack === "string" ? stack : undefined);
    this.#properties(error, errorKeys(error));
  }
}

class Reader {
  #bytes: Uint8Array;
  #at = 0;
  #delegate: ReadDelegate | undefined;
  #memory: unknown[] = [];
  #keys: string[] = [];
  #depth = 0;

  constructor(bytes: Uint8Array, delegate: ReadDelegate | undefined) {
    this.#bytes = bytes;
    this.#delegate = delegate;
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw malformed();
  }

  byte(): number {
    const b = this.#bytes[this.#at++];
    if (b === undefined) throw malformed();
    return b;
  }

  #varint(): number {
    let n = 0;
    let scale = 1;
    for (let i = 0; i < 7; i++) {
      const b = this.byte();
      n += (b & 0x7f) * scale;
      if (b < 0x80) return n;
      scale *= 0x80;
    }
    throw malformed();
  }

  /** A count of things that take at least `size` bytes each. */
  #count(size = 1): number {
    const n = this.#varint();
    if (n * size > this.#bytes.length - this.#at) throw malformed();
    return n;
  }

  #raw(): Uint8Array {
    const n = this.#count();
    this.#at += n;
    return this.#bytes.subarray(this.#at - n, this.#at);
  }

  #number(): number {
    for (let i = 0; i < 8; i++) numberBytes.setUint8(i, this.byte());
    return numberBytes.getFloat64(0, true);
  }

  #text(tag: number): string {
    const bytes = this.#raw();
    if (tag === Tag.String) return host.utf8Decode(bytes, true, true);
    if (tag !== Tag.String16 || bytes.length % 2 !== 0) throw malformed();
    let s = "";
    for (let i = 0; i < bytes.length; i += 2) s += String.fromCharCode(bytes[i]! | (bytes[i + 1]! << 8));
    return s;
  }

  #string(): string {
    return this.#text(this.byte());
  }

  #key(tag: number): string {
    if (tag !== Tag.Key) {
      const key = this.#text(tag);
      this.#keys.push(key);
      return key;
    }
    const key = this.#keys[this.#varint()];
    if (key === undefined) throw malformed();
    return key;
  }

  #bigint(): bigint {
    const text = this.#string();
    if (!/^-?[0-9a-f]+$/.test(text)) throw malformed();
    return text.startsWith("-") ? -BigInt(`0x${text.slice(1)}`) : BigInt(`0x${text}`);
  }

  value(): unknown {
    const tag = this.byte();
    switch (tag) {
      case Tag.Undefined: return undefined;
      case Tag.Null: return null;
      case Tag.True: return true;
      case Tag.False: return false;
      case Tag.Int: {
        const n = this.#varint();
        return n % 2 === 1 ? -(n + 1) / 2 : n / 2;
      }
      case Tag.Number: return this.#number();
      case Tag.BigInt: return this.#bigint();
      case Tag.String:
      case Tag.String16: return this.#text(tag);
      case Tag.Reference: {
        const i = this.#varint();
        if (i >= this.#memory.length) throw malformed();
        return this.#memory[i];
      }
    }
    if (++this.#depth > maxDepth) throw malformed();
    const result = this.#object(tag);
    this.#depth--;
    return result;
  }

  #remember<T>(value: T): T {
    this.#memory.push(value);
    return value;
  }

  #object(tag: number): unknown {
    switch (tag) {
      case Tag.Object: return this.#properties(this.#remember({}));
      case Tag.Array: return this.#array();
      case Tag.SparseArray: return this.#sparse();
      case Tag.Map: return this.#map();
      case Tag.Set: return this.#set();
      case Tag.Error: return this.#error();
      case Tag.View: return this.#view();
      case Tag.Cloneable: return this.#cloneable();
      case Tag.Delegated: return this.#delegated();
      default: return this.#remember(this.#leaf(tag));
    }
  }

  #leaf(tag: number): object {
    switch (tag) {
      case Tag.Date: return new Date(this.#number());
      case Tag.RegExp: return new RegExp(this.#string(), this.#string());
      case Tag.BoxedBoolean: return Object(this.byte() !== 0) as object;
      case Tag.BoxedNumber: return Object(this.#number()) as object;
      case Tag.BoxedString: return Object(this.#string()) as object;
      case Tag.BoxedBigInt: return Object(this.#bigint()) as object;
      case Tag.Buffer: return this.#raw().slice().buffer;
      case Tag.ResizableBuffer: return this.#resizable();
      case Tag.DomException: return this.#domException();
      default: throw malformed();
    }
  }

  #properties<T extends object>(object: T): T {
    for (let tag = this.byte(); tag !== Tag.Undefined; tag = this.byte()) {
      const key = this.#key(tag);
      put(object, key, this.value());
    }
    return object;
  }

  #array(): unknown[] {
    const array: unknown[] = this.#remember([]);
    for (let n = this.#count(); n > 0; n--) array.push(this.value());
    return array;
  }

  #sparse(): unknown[] {
    const array: unknown[] = this.#remember([]);
    const length = this.#varint();
    if (length > 0xffffffff) throw malformed();
    this.#properties(array);
    if (array.length > length) throw malformed();
    array.length = length;
    return array;
  }

  #map(): Map<unknown, unknown> {
    const map = this.#remember(new Map<unknown, unknown>());
    for (let n = this.#count(2); n > 0; n--) {
      const key = this.value();
      map.set(key, this.value());
    }
    return map;
  }

  #set(): Set<unknown> {
    const set = this.#remember(new Set<unknown>());
    for (let n = this.#count(); n > 0; n--) set.add(this.value());
    return set;
  }

  #error(): Error {
    const slot = this.#memory.length;
    this.#memory.push(undefined);
    const name = this.#string();
    const error = makeError(name, this.value());
    this.#memory[slot] = error;
    for (let tag = this.byte(); tag !== Tag.Undefined; tag = this.byte()) {
      const key = this.#key(tag);
      define(error, key, this.value(), !hiddenErrorKeys.includes(key));
    }
    return error;
  }

  #domException(): DOMException {
    const name = this.#string();
    const error = new DOMException(this.#string(), name);
    define(error, "stack", this.#string(), false);
    return error;
  }

  #resizable(): ArrayBuffer {
    const max = this.#varint();
    const bytes = this.#raw();
    if (max < bytes.length || max > maxBytes) throw malformed();
    const buffer = new (ArrayBuffer as new (n: number, o: object) => ArrayBuffer)(bytes.length, { maxByteLength: max });
    new Uint8Array(buffer).set(bytes);
    return buffer;
  }

  #view(): object {
    const View = viewTypes[this.byte()];
    const buffer = this.value();
    const offset = this.#varint();
    const length = this.#varint();
    if (View === undefined || typeof buffer !== "object" || buffer === null || brandOf(buffer) !== "ArrayBuffer") throw malformed();
    return this.#remember(new View(buffer as ArrayBuffer, offset, length === 0 ? undefined : length - 1));
  }

  #cloneable(): unknown {
    const slot = this.#memory.length;
    this.#memory.push(undefined);
    const how = cloneableNamed(this.#string());
    if (how?.read === undefined) throw malformed();
    return (this.#memory[slot] = how.read(this.value()));
  }

  #delegated(): unknown {
    if (this.#delegate === undefined) throw malformed();
    const slot = this.#memory.length;
    this.#memory.push(undefined);
    return (this.#memory[slot] = this.#delegate.read(this.value()));
  }
}

function tooDeep(): DOMException {
  return dataCloneError("The value is nested too deeply to be serialised.");
}

function malformed(): DOMException {
  return dataCloneError("Unable to deserialize cloned data.");
}

/** Serialises a value; throws `DataCloneError` for what neither the algorithm nor the delegate can carry. */
export function serialize(value: unknown, delegate?: WriteDelegate, most = Infinity): Uint8Array {
  const writer = new Writer(delegate, most);
  writer.byte(VERSION);
  try {
    writer.value(value);
  } catch (e) {
    // The engine's stack may be at its end before the bound is.
    if (e instanceof RangeError && writer.depth > 32 && /stack/.test(e.message)) throw tooDeep();
    throw e;
  }
  return writer.finish();
}

/** The way back. What the delegate throws passes through; every other failure is a `DataCloneError`. */
export function deserialize(bytes: Uint8Array, delegate?: ReadDelegate): unknown {
  let thrown: { error: unknown } | undefined;
  const guarded = delegate && {
    read(data: unknown): unknown {
      try {
        return delegate.read(data);
      } catch (error) {
        throw (thrown = { error }).error;
      }
    },
  };
  const reader = new Reader(bytes, guarded);
  try {
    if (reader.byte() !== VERSION) throw malformed();
    const value = reader.value();
    reader.end();
    return value;
  } catch (e) {
    if (thrown !== undefined) throw thrown.error;
    throw e instanceof DOMException ? e : malformed();
  }
}
