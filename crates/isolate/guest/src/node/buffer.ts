/**
 * `node:buffer`: Buffer as a subclass of Uint8Array over the engine's native base64, hex and UTF-8. There is no pool: a buffer never
 * shares memory with another that it was not sliced from.
 */
import { host } from "../host";
import { checkInteger, checkNumber, checkString, invalidArgType, invalidArgValue, nodeError, outOfRange } from "./errors";

interface NativeBase64 {
  toBase64(options?: object): string;
  toHex(): string;
}

const native = Uint8Array.prototype as unknown as NativeBase64;
const { toBase64, toHex } = native;
const { fromBase64, fromHex } = Uint8Array as unknown as { fromBase64(s: string): Uint8Array; fromHex(s: string): Uint8Array };
const fromCharCode = String.fromCharCode;
const apply = Reflect.apply;
const bytePrototype = Uint8Array.prototype;
const typedArrayPrototype = Object.getPrototypeOf(bytePrototype) as Uint8Array;
const typedArrayTag = Object.getOwnPropertyDescriptor(typedArrayPrototype, Symbol.toStringTag)!.get!;
const byteSubarray = bytePrototype.subarray;
const byteFill = bytePrototype.fill;
const byteSet = bytePrototype.set;

export const kMaxLength = 2 ** 31 - 1;
export const kStringMaxLength = 2 ** 29 - 24;
export const constants = { MAX_LENGTH: kMaxLength, MAX_STRING_LENGTH: kStringMaxLength };
export const INSPECT_MAX_BYTES = 50;

export type Encoding = "utf8" | "utf16le" | "latin1" | "ascii" | "base64" | "base64url" | "hex";

type Bytes = Uint8Array;

function isBytes(v: unknown): v is Bytes {
  return apply(typedArrayTag, v, []) === "Uint8Array";
}

function isArrayBuffer(v: unknown): v is ArrayBuffer {
  return v instanceof ArrayBuffer || v instanceof SharedArrayBuffer || Object.prototype.toString.call(v) === "[object ArrayBuffer]";
}

// --- encodings ----------------------------------------------------------------------------------------------------------

/** The canonical name of an encoding, or undefined. */
export function encodingOf(name: unknown): Encoding | undefined {
  switch (name) {
    case "utf8":
    case "utf-8":
    case undefined:
    case null:
    case "":
      return "utf8";
    case "hex":
    case "base64":
    case "base64url":
    case "latin1":
    case "ascii":
    case "utf16le":
      return name;
    case "binary":
      return "latin1";
    case "ucs2":
    case "ucs-2":
    case "utf-16le":
      return "utf16le";
  }
  const lower = `${name as string}`.toLowerCase();
  return lower === name ? undefined : encodingOf(lower);
}

function knownEncoding(name: unknown): Encoding {
  const encoding = encodingOf(name);
  if (encoding === undefined) throw nodeError(TypeError, "ERR_UNKNOWN_ENCODING", `Unknown encoding: ${name as string}`);
  return encoding;
}

/** For reading, where the empty string is not an encoding. */
function readEncoding(name: unknown): Encoding {
  if (name !== "" && name !== null) return knownEncoding(name);
  throw nodeError(TypeError, "ERR_UNKNOWN_ENCODING", `Unknown encoding: ${name}`);
}

// Node skips what is not of the alphabet, takes both alphabets at once and stops at the first padding.
function lenientBase64(s: string): Bytes {
  const end = s.indexOf("=");
  let text = end < 0 ? s : s.slice(0, end);
  text = text.replace(/[^A-Za-z0-9+/_-]+/g, "").replaceAll("-", "+").replaceAll("_", "/");
  if (text.length % 4 === 1) text = text.slice(0, -1);
  return fromBase64.call(Uint8Array, text);
}

function decodeBase64(s: string): Bytes {
  if (/^[A-Za-z0-9+/]*$/.test(s) && s.length % 4 !== 1) return fromBase64.call(Uint8Array, s);
  return lenientBase64(s);
}

function decodeHex(s: string): Bytes {
  const bad = s.search(/[^0-9a-fA-F]/);
  const length = bad < 0 ? s.length : bad;
  return fromHex.call(Uint8Array, s.slice(0, length - (length % 2)));
}

/** The bytes of a string in an encoding; a plain Uint8Array that nobody else holds. */
export function encode(s: string, encoding: Encoding): Bytes {
  switch (encoding) {
    case "utf8":
      return host.utf8Encode(s);
    case "base64":
    case "base64url":
      return decodeBase64(s);
    case "hex":
      return decodeHex(s);
    case "utf16le": {
      const out = new Uint8Array(s.length * 2);
      for (let i = 0, o = 0; i < s.length; i++) {
        const c = s.charCodeAt(i);
        out[o++] = c;
        out[o++] = c >>> 8;
      }
      return out;
    }
    default: {
      const out = new Uint8Array(s.length);
      for (let i = 0; i < s.length; i++) out[i] = s.charCodeAt(i);
      return out;
    }
  }
}

const chunk = 4096;

function charCodes(bytes: Bytes, mask: number): string {
  let s = "";
  for (let i = 0; i < bytes.length; i += chunk) {
    let part = apply(byteSubarray, bytes, [i, i + chunk]) as ArrayLike<number>;
    if (mask !== 0xff) part = Array.from(part, (b) => b & mask);
    s += apply(fromCharCode, null, part);
  }
  return s;
}

function utf16(bytes: Bytes): string {
  let s = "";
  for (let i = 0; i + 1 < bytes.length; ) {
    const units: number[] = [];
    for (; units.length < chunk && i + 1 < bytes.length; i += 2) units.push(bytes[i]! | (bytes[i + 1]! << 8));
    s += apply(fromCharCode, null, units);
  }
  return s;
}

const urlSafe = { alphabet: "base64url", omitPadding: true };

/** The string that bytes stand for in an encoding. */
export function decode(bytes: Bytes, encoding: Encoding): string {
  if (bytes.length === 0) return "";
  switch (encoding) {
    case "utf8":
      return host.utf8Decode(bytes, false, true);
    case "base64":
      return apply(toBase64, bytes, []) as string;
    case "base64url":
      return apply(toBase64, bytes, [urlSafe]) as string;
    case "hex":
      return apply(toHex, bytes, []) as string;
    case "utf16le":
      return utf16(bytes);
    case "ascii":
      return charCodes(bytes, 0x7f);
    default:
      return charCodes(bytes, 0xff);
  }
}

function byteLengthOf(s: string, encoding: Encoding): number {
  switch (encoding) {
    case "utf8": {
      let n = s.length;
      for (let i = 0; i < s.length; i++) {
        const c = s.charCodeAt(i);
        if (c < 0x80) continue;
        if (c < 0x800) n += 1;
        else if (c >= 0xd800 && c < 0xdc00 && i + 1 < s.length && (s.charCodeAt(i + 1) & 0xfc00) === 0xdc00) {
          n += 2;
          i++;
        } else n += 2;
      }
      return n;
    }
    case "utf16le":
      return s.length * 2;
    case "hex":
      return s.length >>> 1;
    case "base64":
    case "base64url": {
      let n = s.length;
      if (n > 0 && s.charCodeAt(n - 1) === 61) n--;
      if (n > 1 && s.charCodeAt(n - 1) === 61) n--;
      return (n * 3) >>> 2;
    }
    default:
      return s.length;
  }
}

// --- the class ----------------------------------------------------------------------------------------------------------

class FastBuffer extends Uint8Array<ArrayBuffer> {
  constructor(a: any, b?: any, c?: any) {
    super(a, b, c);
  }
}

export type Buffer = FastBuffer & { [method: string]: any };

function allocate(size: number): Buffer {
  return new FastBuffer(size) as Buffer;
}

/** A Buffer over the memory of a Uint8Array. */
export function viewOf(bytes: Bytes): Buffer {
  return new FastBuffer(bytes.buffer, bytes.byteOffset, bytes.byteLength) as Buffer;
}

function checkSize(size: unknown): asserts size is number {
  checkNumber(size, "size");
  if (!(size >= 0 && size <= kMaxLength)) throw outOfRange("size", `>= 0 && <= ${kMaxLength}`, size);
}

function fromString(s: string, encoding: unknown): Buffer {
  const known = typeof encoding === "string" && encoding !== "" ? knownEncoding(encoding) : "utf8";
  return viewOf(encode(s, known));
}

function fromArrayBuffer(buffer: ArrayBuffer, offset: unknown, length: unknown): Buffer {
  const start = offset === undefined ? 0 : Number(offset) || 0;
  const most = buffer.byteLength - start;
  if (most < 0) throw nodeError(RangeError, "ERR_BUFFER_OUT_OF_BOUNDS", '"offset" is outside of buffer bounds');
  let n = most;
  if (length !== undefined) {
    n = Number(length);
    n = n > 0 ? n : 0;
    if (n > most) throw nodeError(RangeError, "ERR_BUFFER_OUT_OF_BOUNDS", '"length" is outside of buffer bounds');
  }
  return new FastBuffer(buffer, start, n) as Buffer;
}

function fromArrayLike(list: ArrayLike<number>): Buffer {
  if (!(list.length > 0)) return allocate(0);
  const out = allocate(list.length);
  if (isBytes(list)) apply(byteSet, out, [list]);
  else for (let i = 0; i < out.length; i++) out[i] = list[i]!;
  return out;
}

interface Convertible {
  type?: unknown;
  data?: unknown;
  length?: unknown;
  [Symbol.toPrimitive]?: (hint: string) => unknown;
}

function fromObject(v: Convertible): Buffer | undefined {
  if (v.length !== undefined || isArrayBuffer((v as { buffer?: unknown }).buffer)) {
    return typeof v.length === "number" ? fromArrayLike(v as ArrayLike<number>) : allocate(0);
  }
  return v.type === "Buffer" && Array.isArray(v.data) ? fromArrayLike(v.data as number[]) : undefined;
}

function fromError(v: unknown): Error {
  const e = invalidArgType("first argument", [], v);
  e.message = `The first argument must be of type string or an instance of Buffer, ArrayBuffer, or Array or an Array-like Object.${e.message.slice(e.message.indexOf(" Received"))}`;
  return e;
}

function from(value: unknown, encodingOrOffset?: unknown, length?: unknown): Buffer {
  if (typeof value === "string") return fromString(value, encodingOrOffset);
  if (typeof value === "object" && value !== null) {
    if (isArrayBuffer(value)) return fromArrayBuffer(value, encodingOrOffset, length);
    const inner = (value as { valueOf?: () => unknown }).valueOf?.();
    if (inner != null && inner !== value && (typeof inner === "string" || typeof inner === "object")) return from(inner, encodingOrOffset, length);
    const made = fromObject(value);
    if (made) return made;
    const toPrimitive = (value as Convertible)[Symbol.toPrimitive];
    if (typeof toPrimitive === "function") {
      const primitive = apply(toPrimitive, value, ["string"]) as unknown;
      if (typeof primitive === "string") return fromString(primitive, encodingOrOffset);
    }
  }
  throw fromError(value);
}

function BufferConstructor(this: unknown, value: unknown, encodingOrOffset?: unknown, length?: unknown): Buffer {
  if (typeof value === "number") {
    if (typeof encodingOrOffset === "string") throw invalidArgType("string", "string", value);
    checkSize(value);
    return allocate(value);
  }
  return from(value, encodingOrOffset, length);
}
Object.defineProperty(BufferConstructor, "name", { value: "Buffer" });

function alloc(size: number, fill?: unknown, encoding?: unknown): Buffer {
  checkSize(size);
  const out = allocate(size);
  return fill !== undefined && fill !== 0 && size > 0 ? (out.fill as any)(fill, encoding) : out;
}

function allocUnsafe(size: number): Buffer {
  checkSize(size);
  return allocate(size);
}

function compareBytes(a: Bytes, b: Bytes): number {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) if (a[i] !== b[i]) return a[i]! < b[i]! ? -1 : 1;
  return a.length === b.length ? 0 : a.length < b.length ? -1 : 1;
}

function checkBytes(v: unknown, name: string): asserts v is Bytes {
  if (!isBytes(v)) throw invalidArgType(name, ["Buffer", "Uint8Array"], v);
}

function concat(list: Bytes[], total?: number): Buffer {
  if (!Array.isArray(list)) throw invalidArgType("list", "Array", list);
  for (let i = 0; i < list.length; i++) checkBytes(list[i], `list[${i}]`);
  if (total === undefined) total = list.reduce((n, b) => n + b.length, 0);
  else checkInteger(total, "length", 0);
  const out = allocate(total);
  let at = 0;
  for (const part of list) {
    const fitting = part.length > total - at ? (apply(byteSubarray, part, [0, total - at]) as Bytes) : part;
    apply(byteSet, out, [fitting, at]);
    at += fitting.length;
    if (at === total) break;
  }
  return out;
}

function copyBytesFrom(view: ArrayBufferView, offset = 0, length?: number): Buffer {
  if (!ArrayBuffer.isView(view) || view instanceof DataView) throw invalidArgType("view", "TypedArray", view);
  const elements = view as unknown as Uint16Array;
  checkInteger(offset, "offset", 0);
  if (length !== undefined) checkInteger(length, "length", 0);
  const part = elements.slice(offset, length === undefined ? undefined : offset + length);
  return new FastBuffer(part.buffer, part.byteOffset, part.byteLength) as Buffer;
}

function byteLength(v: unknown, encoding?: unknown): number {
  if (typeof v === "string") return byteLengthOf(v, encodingOf(encoding) ?? "utf8");
  if (ArrayBuffer.isView(v) || isArrayBuffer(v)) return v.byteLength;
  throw invalidArgType("string", ["string", "Buffer", "ArrayBuffer"], v);
}

const statics = {
  // Nothing is pooled.
  poolSize: 0,
  from,
  alloc,
  allocUnsafe,
  allocUnsafeSlow: allocUnsafe,
  of: (...items: number[]) => fromArrayLike(items),
  isBuffer: (v: unknown) => v instanceof FastBuffer,
  isEncoding: (v: unknown) => typeof v === "string" && v.length !== 0 && encodingOf(v) !== undefined,
  byteLength,
  concat,
  copyBytesFrom,
  compare(a: unknown, b: unknown): number {
    checkBytes(a, "buf1");
    checkBytes(b, "buf2");
    return compareBytes(a, b);
  },
};

// --- slices, text, search -----------------------------------------------------------------------------------------------

function offsetOf(value: unknown, fallback: number, length: number): number {
  if (value === undefined) return fallback;
  let n = Math.trunc(Number(value)) || 0;
  if (n < 0) n += length;
  return n < 0 ? 0 : n > length ? length : n;
}

function slice(this: Bytes, start?: unknown, end?: unknown): Buffer {
  const from = offsetOf(start, 0, this.length);
  const to = offsetOf(end, this.length, this.length);
  return new FastBuffer(this.buffer, this.byteOffset + from, to > from ? to - from : 0) as Buffer;
}

function toText(this: Bytes, encoding?: unknown, start?: unknown, end?: unknown): string {
  if (arguments.length === 0) return decode(this, "utf8");
  const length = this.length;
  let from = start === undefined ? 0 : Math.trunc(Number(start)) || 0;
  let to = end === undefined ? length : Math.trunc(Number(end)) || 0;
  if (from < 0) from = 0;
  if (to > length) to = length;
  if (from >= to) return "";
  const known = encoding === undefined ? "utf8" : readEncoding(encoding);
  return decode(from === 0 && to === length ? this : apply(byteSubarray, this, [from, to]), known);
}

// Whole characters only: a UTF-8 sequence or a UTF-16 unit that does not fit is left out.
function fit(bytes: Bytes, room: number, encoding: Encoding): Bytes {
  let n = Math.min(bytes.length, room);
  if (n === bytes.length) return bytes;
  if (encoding === "utf8") while (n > 0 && (bytes[n]! & 0xc0) === 0x80) n--;
  else if (encoding === "utf16le") n &= ~1;
  return apply(byteSubarray, bytes, [0, n]);
}

function writeText(target: Bytes, s: string, offset: number, length: number, encoding: Encoding): number {
  const bytes = fit(encode(s, encoding), length, encoding);
  apply(byteSet, target, [bytes, offset]);
  return bytes.length;
}

function write(this: Bytes, s: string, offset?: unknown, length?: unknown, encoding?: unknown): number {
  checkString(s, "argument");
  if (typeof offset === "string") [offset, length, encoding] = [undefined, undefined, offset];
  else if (typeof length === "string") [length, encoding] = [undefined, length];
  const at = (offset ?? 0) as number;
  checkInteger(at, "offset", 0, this.length);
  const room = this.length - at;
  let n = room;
  if (length !== undefined) {
    checkInteger(length, "length", 0, this.length);
    n = Math.min(length, room);
  }
  return writeText(this, s, at, n, encoding === undefined ? "utf8" : knownEncoding(encoding));
}

function fill(this: Bytes, value: unknown, start?: unknown, end?: unknown, encoding?: unknown): Bytes {
  if (typeof start === "string") [start, encoding] = [undefined, start];
  else if (typeof end === "string") [end, encoding] = [undefined, end];
  const from = (start ?? 0) as number;
  const to = (end ?? this.length) as number;
  checkInteger(from, "offset", 0);
  checkInteger(to, "end", 0, this.length);
  if (from >= to) return this;
  let pattern: Bytes;
  if (typeof value === "string") {
    if (encoding !== undefined && typeof encoding !== "string") throw invalidArgType("encoding", "string", encoding);
    const known = encoding === undefined ? "utf8" : knownEncoding(encoding);
    pattern = value === "" ? new Uint8Array(1) : encode(value, known);
    if (pattern.length === 0) throw invalidArgValue("value", value);
  } else if (isBytes(value)) {
    pattern = value;
    if (pattern.length === 0) throw invalidArgValue("value", value);
  } else return apply(byteFill, this, [Number(value) & 255, from, to]);
  if (pattern.length === 1) return apply(byteFill, this, [pattern[0]!, from, to]);
  for (let i = from, p = 0; i < to; i++) {
    this[i] = pattern[p]!;
    if (++p === pattern.length) p = 0;
  }
  return this;
}

function matchesAt(haystack: Bytes, needle: Bytes, at: number): boolean {
  for (let i = 1; i < needle.length; i++) if (haystack[at + i] !== needle[i]) return false;
  return true;
}

function search(haystack: Bytes, value: unknown, offset: unknown, encoding: unknown, backwards: boolean): number {
  if (typeof offset === "string") [offset, encoding] = [undefined, offset];
  const length = haystack.length;
  let at = Number(offset);
  if (offset === undefined || Number.isNaN(at)) at = backwards ? length : 0;
  at = Math.trunc(at);
  if (at < 0) at += length;
  let needle: Bytes;
  let step = 1;
  if (typeof value === "number") needle = Uint8Array.of(value);
  else if (typeof value === "string") {
    const known = readEncoding(encoding);
    needle = encode(value, known);
    if (known === "utf16le") step = 2;
  } else {
    if (!isBytes(value)) throw invalidArgType("value", ["number", "string", "Buffer", "Uint8Array"], value);
    needle = value;
    if (encodingOf(encoding) === "utf16le") step = 2;
  }
  const last = length - needle.length;
  if (backwards) at = Math.min(at, last);
  else if (at < 0) at = 0;
  if (needle.length === 0) return Math.min(at, length);
  const first = needle[0];
  for (; at >= 0 && at <= last; at += backwards ? -1 : 1) {
    if (haystack[at] === first && at % step === 0 && matchesAt(haystack, needle, at)) return at;
  }
  return -1;
}

function swap(bytes: Bytes, size: number): Bytes {
  if (bytes.length % size !== 0) throw nodeError(RangeError, "ERR_INVALID_BUFFER_SIZE", `Buffer size must be a multiple of ${size * 8}-bits`);
  for (let i = 0; i < bytes.length; i += size) apply(byteSubarray, bytes, [i, i + size]).reverse();
  return bytes;
}

const customInspect = Symbol.for("nodejs.util.inspect.custom");

const methods: Record<PropertyKey, unknown> & ThisType<Buffer> = {
  slice,
  subarray: slice,
  toString: toText,
  toLocaleString: toText,
  write,
  fill,
  equals(other: unknown): boolean {
    checkBytes(other, "otherBuffer");
    return this === other || (this.length === other.length && compareBytes(this, other) === 0);
  },
  compare(target: unknown, targetStart?: unknown, targetEnd?: unknown, sourceStart?: unknown, sourceEnd?: unknown): number {
    checkBytes(target, "target");
    const range = (value: unknown, fallback: number, name: string, most: number): number => {
      if (value === undefined) return fallback;
      checkInteger(value, name, 0, most);
      return value;
    };
    const ts = range(targetStart, 0, "targetStart", Number.MAX_SAFE_INTEGER);
    const te = range(targetEnd, target.length, "targetEnd", target.length);
    const ss = range(sourceStart, 0, "sourceStart", Number.MAX_SAFE_INTEGER);
    const se = range(sourceEnd, this.length, "sourceEnd", this.length);
    if (ss >= se) return ts >= te ? 0 : -1;
    if (ts >= te) return 1;
    return compareBytes(apply(byteSubarray, this, [ss, se]), apply(byteSubarray, target, [ts, te]));
  },
  copy(target: unknown, targetStart?: unknown, sourceStart?: unknown, sourceEnd?: unknown): number {
    if (!ArrayBuffer.isView(target)) throw invalidArgType("target", ["Buffer", "Uint8Array"], target);
    const into = isBytes(target) ? target : new Uint8Array(target.buffer, target.byteOffset, target.byteLength);
    const at = Math.trunc(Number(targetStart ?? 0)) || 0;
    if (at < 0) throw outOfRange("targetStart", ">= 0", at);
    const from = Math.trunc(Number(sourceStart ?? 0)) || 0;
    if (from < 0 || from > this.length) throw outOfRange("sourceStart", `>= 0 && <= ${this.length}`, from);
    const to = sourceEnd === undefined ? this.length : Math.trunc(Number(sourceEnd)) || 0;
    if (to < 0) throw outOfRange("sourceEnd", ">= 0", to);
    if (at >= into.length || from >= to) return 0;
    const n = Math.min(to - from, into.length - at, this.length - from);
    apply(byteSet, into, [apply(byteSubarray, this, [from, from + n]), at]);
    return n;
  },
  indexOf(value: unknown, offset?: unknown, encoding?: unknown): number {
    return search(this, value, offset, encoding, false);
  },
  lastIndexOf(value: unknown, offset?: unknown, encoding?: unknown): number {
    return search(this, value, offset, encoding, true);
  },
  includes(value: unknown, offset?: unknown, encoding?: unknown): boolean {
    return search(this, value, offset, encoding, false) !== -1;
  },
  toJSON(): object {
    return { type: "Buffer", data: this.length > 0 ? Array.from(this) : [] };
  },
  swap16(): Bytes {
    return swap(this, 2);
  },
  swap32(): Bytes {
    return swap(this, 4);
  },
  swap64(): Bytes {
    return swap(this, 8);
  },
  [customInspect](this: Buffer): string {
    const shown = apply(toHex, apply(byteSubarray, this, [0, INSPECT_MAX_BYTES]), []).replace(/(..)(?=.)/g, "$1 ");
    const more = this.length - INSPECT_MAX_BYTES;
    const rest = more > 0 ? ` ... ${more} more byte${more > 1 ? "s" : ""}` : "";
    return `<${this.constructor.name}${shown === "" ? "" : ` ${shown}`}${rest}>`;
  },
};
methods.inspect = methods[customInspect];

for (const [name, encoding] of [
  ["utf8", "utf8"], ["ucs2", "utf16le"], ["utf16le", "utf16le"], ["latin1", "latin1"], ["binary", "latin1"], ["ascii", "ascii"],
  ["base64", "base64"], ["base64url", "base64url"], ["hex", "hex"],
] as const) {
  methods[`${name}Slice`] = function (this: Bytes, start = 0, end = this.length): string {
    return decode(apply(byteSubarray, this, [start, end]), encoding);
  };
  methods[`${name}Write`] = function (this: Bytes, s: string, offset = 0, length = this.length - offset): number {
    return writeText(this, s, offset, Math.min(length, this.length - offset), encoding);
  };
}

// --- numbers ------------------------------------------------------------------------------------------------------------

function badOffset(value: unknown, most: number): Error {
  if (typeof value !== "number") return invalidArgType("offset", "number", value);
  if (!Number.isInteger(value)) return outOfRange("offset", "an integer", value);
  if (most < 0) return nodeError(RangeError, "ERR_BUFFER_OUT_OF_BOUNDS", "Attempt to access memory outside buffer bounds");
  return outOfRange("offset", `>= 0 and <= ${most}`, value);
}

function checkOffset(bytes: Bytes, offset: unknown, size: number): asserts offset is number {
  if (!(Number.isInteger(offset) && (offset as number) >= 0 && (offset as number) + size <= bytes.length)) {
    throw badOffset(offset, bytes.length - size);
  }
}

function checkByteLength(size: unknown): asserts size is number {
  checkNumber(size, "byteLength");
  if (!Number.isInteger(size)) throw outOfRange("byteLength", "an integer", size);
  if (size < 1 || size > 6) throw outOfRange("byteLength", ">= 1 and <= 6", size);
}

// Node words the range of wide integers by powers of two.
function checkValue(value: number | bigint, min: number | bigint, max: number | bigint, bits: number): void {
  // NaN passes, and is written as zero.
  if (!(value < min || value > max)) return;
  const n = typeof min === "bigint" ? "n" : "";
  let range = `>= ${min}${n} and <= ${max}${n}`;
  if (bits > 32) {
    range = min == 0 ? `>= 0${n} and < 2${n} ** ${bits}${n}` : `>= -(2${n} ** ${bits - 1}${n}) and < 2${n} ** ${bits - 1}${n}`;
  }
  throw outOfRange("value", range, value);
}

function readUInt(bytes: Bytes, offset: number, size: number, little: boolean): number {
  let n = 0;
  if (little) for (let i = size - 1; i >= 0; i--) n = n * 256 + bytes[offset + i]!;
  else for (let i = 0; i < size; i++) n = n * 256 + bytes[offset + i]!;
  return n;
}

function readInt(bytes: Bytes, offset: number, size: number, little: boolean): number {
  const n = readUInt(bytes, offset, size, little);
  return n >= 2 ** (size * 8 - 1) ? n - 2 ** (size * 8) : n;
}

function writeInt(bytes: Bytes, value: number, offset: number, size: number, little: boolean): number {
  let n = value < 0 ? value + 2 ** (size * 8) : value;
  for (let i = 0; i < size; i++) {
    bytes[little ? offset + i : offset + size - 1 - i] = n;
    n = Math.floor(n / 256);
  }
  return offset + size;
}

function integerMethods(name: string, bits: number, little: boolean, signed: boolean): void {
  const size = bits / 8;
  const min = signed ? -(2 ** (bits - 1)) : 0;
  const max = signed ? 2 ** (bits - 1) - 1 : 2 ** bits - 1;
  const read = signed ? readInt : readUInt;
  methods[`read${name}`] = function (this: Bytes, offset: unknown = 0): number {
    checkOffset(this, offset, size);
    return read(this, offset, size, little);
  };
  methods[`write${name}`] = function (this: Bytes, value: unknown, offset: unknown = 0): number {
    const n = Number(value);
    if (size === 1) checkNumber(offset, "offset");
    checkValue(n, min, max, bits);
    checkOffset(this, offset, size);
    return writeInt(this, Math.trunc(n) || 0, offset, size, little);
  };
}

function sizedMethods(name: string, little: boolean, signed: boolean): void {
  const read = signed ? readInt : readUInt;
  methods[`read${name}`] = function (this: Bytes, offset: unknown, size: unknown): number {
    if (offset === undefined) throw invalidArgType("offset", "number", offset);
    checkByteLength(size);
    checkOffset(this, offset, size);
    return read(this, offset, size, little);
  };
  methods[`write${name}`] = function (this: Bytes, value: unknown, offset: unknown, size: unknown): number {
    checkByteLength(size);
    const bits = size * 8;
    const n = Number(value);
    if (offset !== undefined) checkNumber(offset, "offset");
    checkValue(n, signed ? -(2 ** (bits - 1)) : 0, signed ? 2 ** (bits - 1) - 1 : 2 ** bits - 1, bits);
    if (offset === undefined) throw invalidArgType("offset", "number", offset);
    checkOffset(this, offset, size);
    return writeInt(this, Math.trunc(n) || 0, offset, size, little);
  };
}

function dataView(bytes: Bytes): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function bigMethods(name: string, signed: boolean, little: boolean): void {
  const min = signed ? -(2n ** 63n) : 0n;
  const max = signed ? 2n ** 63n - 1n : 2n ** 64n - 1n;
  methods[`read${name}`] = function (this: Bytes, offset: unknown = 0): bigint {
    checkOffset(this, offset, 8);
    return signed ? dataView(this).getBigInt64(offset, little) : dataView(this).getBigUint64(offset, little);
  };
  methods[`write${name}`] = function (this: Bytes, value: bigint, offset: unknown = 0): number {
    if (typeof value !== "bigint") throw invalidArgType("value", "bigint", value);
    checkValue(value, min, max, 64);
    checkOffset(this, offset, 8);
    dataView(this).setBigInt64(offset, BigInt.asIntN(64, value), little);
    return offset + 8;
  };
}

function floatMethods(name: string, size: 4 | 8, little: boolean): void {
  methods[`read${name}`] = function (this: Bytes, offset: unknown = 0): number {
    checkOffset(this, offset, size);
    return size === 4 ? dataView(this).getFloat32(offset, little) : dataView(this).getFloat64(offset, little);
  };
  methods[`write${name}`] = function (this: Bytes, value: unknown, offset: unknown = 0): number {
    checkOffset(this, offset, size);
    if (size === 4) dataView(this).setFloat32(offset, Number(value), little);
    else dataView(this).setFloat64(offset, Number(value), little);
    return offset + size;
  };
}

integerMethods("UInt8", 8, true, false);
integerMethods("Int8", 8, true, true);
for (const end of ["LE", "BE"] as const) {
  const little = end === "LE";
  for (const bits of [16, 32]) {
    integerMethods(`UInt${bits}${end}`, bits, little, false);
    integerMethods(`Int${bits}${end}`, bits, little, true);
  }
  sizedMethods(`UInt${end}`, little, false);
  sizedMethods(`Int${end}`, little, true);
  bigMethods(`BigInt64${end}`, true, little);
  bigMethods(`BigUInt64${end}`, false, little);
  floatMethods(`Float${end}`, 4, little);
  floatMethods(`Double${end}`, 8, little);
}

// --- assembly -----------------------------------------------------------------------------------------------------------

function define(target: object, members: Record<PropertyKey, unknown>, enumerable: boolean): void {
  for (const key of Reflect.ownKeys(members)) {
    const value = members[key];
    if (typeof value === "function" && typeof key === "string" && value.name !== key) Object.defineProperty(value, "name", { value: key });
    Object.defineProperty(target, key, { value, enumerable, writable: true, configurable: true });
  }
}

for (const key of Object.keys(methods)) {
  if (key.includes("UInt")) methods[key.replace("UInt", "Uint")] = methods[key];
}
Object.defineProperty(FastBuffer.prototype, "constructor", { value: BufferConstructor, enumerable: false, writable: true, configurable: true });
define(FastBuffer.prototype, methods, true);
for (const [name, key] of [["parent", "buffer"], ["offset", "byteOffset"]] as const) {
  Object.defineProperty(FastBuffer.prototype, name, {
    enumerable: true,
    configurable: true,
    get(this: unknown) {
      return this instanceof FastBuffer ? this[key] : undefined;
    },
  });
}
Object.setPrototypeOf(BufferConstructor, Uint8Array);
Object.defineProperty(BufferConstructor, "prototype", { value: FastBuffer.prototype, writable: false, enumerable: false });
Object.defineProperty(BufferConstructor, Symbol.species, { configurable: true, enumerable: false, get: () => FastBuffer });
define(BufferConstructor, statics, true);

export interface BufferStatics {
  new (v: unknown, a?: unknown, b?: unknown): Buffer;
  (v: unknown, a?: unknown, b?: unknown): Buffer;
  readonly prototype: Buffer;
  from: typeof from;
  alloc: typeof alloc;
  allocUnsafe: typeof allocUnsafe;
  concat: typeof concat;
  isBuffer(v: unknown): v is Buffer;
  isEncoding(v: unknown): boolean;
  byteLength: typeof byteLength;
  compare(a: unknown, b: unknown): number;
}

export const Buffer = BufferConstructor as unknown as BufferStatics;

/** Deprecated name for `Buffer.allocUnsafeSlow`. */
export function SlowBuffer(size: number): Buffer {
  return allocUnsafe(size);
}

function bytesOf(v: unknown): Bytes {
  if (ArrayBuffer.isView(v)) return new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
  if (isArrayBuffer(v)) return new Uint8Array(v);
  throw invalidArgType("input", ["ArrayBuffer", "Buffer", "TypedArray"], v);
}

export function isUtf8(v: unknown): boolean {
  try {
    host.utf8Decode(bytesOf(v), true, true);
    return true;
  } catch (e) {
    if ((e as Partial<{ code: unknown }>).code === "ERR_INVALID_ARG_TYPE") throw e;
    return false;
  }
}

export function isAscii(v: unknown): boolean {
  return bytesOf(v).every((b) => b < 0x80);
}

export function transcode(source: Bytes, fromEncoding: string, toEncoding: string): Buffer {
  checkBytes(source, "source");
  const text = decode(source, knownEncoding(fromEncoding));
  const target = knownEncoding(toEncoding);
  const narrow = target === "ascii" ? 0x7f : target === "latin1" ? 0xff : undefined;
  return viewOf(encode(narrow === undefined ? text : Array.from(text, (c) => (c.codePointAt(0)! > narrow ? "?" : c)).join(""), target));
}

export const exports: Record<string, unknown> = {
  Buffer,
  SlowBuffer,
  transcode,
  isUtf8,
  isAscii,
  kMaxLength,
  kStringMaxLength,
  constants,
  INSPECT_MAX_BYTES,
  resolveObjectURL: () => undefined,
};
