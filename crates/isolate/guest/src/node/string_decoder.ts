/**
 * `node:string_decoder`: decodes a sequence of chunks without splitting characters. Also used by readable streams with an encoding.
 */
import { Buffer, decode, encodingOf, type Encoding } from "./buffer";
import { invalidArgType, nodeError } from "./errors";

/** How many bytes at the end of `b` begin a UTF-8 sequence that is not complete yet. */
function incompleteUtf8(b: Uint8Array): number {
  for (let back = 1; back <= 3 && back <= b.length; back++) {
    const byte = b[b.length - back]!;
    if ((byte & 0xc0) === 0x80) continue;
    const size = byte >= 0xf0 && byte <= 0xf4 ? 4 : byte >= 0xe0 && byte <= 0xef ? 3 : byte >= 0xc2 && byte <= 0xdf ? 2 : 1;
    if (size <= back) return 0;
    return back === 1 || continues(byte, b[b.length - back + 1]!) ? back : 0;
  }
  return 0;
}

/** Whether `second` may follow `first` in UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
function continues(first: number, second: number): boolean {
  if (first === 0xe0) return second >= 0xa0;
  if (first === 0xed) return second < 0xa0;
  if (first === 0xf0) return second >= 0x90;
  return first !== 0xf4 || second < 0x90;
}

/** As Node: half a unit, or a high surrogate that ends the chunk. One that only a later byte completed does not wait for its other half. */
function incompleteUtf16(b: Uint8Array): number {
  if (b.length % 2 === 1) return 1;
  return b.length > 0 && (b[b.length - 1]! & 0xfc) === 0xd8 ? 2 : 0;
}

/** UTF-16: what was held is completed and decoded by itself, then the rest. */
function writeUtf16(decoder: StringDecoder, chunk: Uint8Array): string {
  let bytes = chunk;
  let text = "";
  if (decoder.lastChar.length > 0) {
    const missing = decoder.lastChar.length === 2 ? 2 : 1;
    const whole = Buffer.concat([decoder.lastChar, bytes.subarray(0, missing)]);
    if (whole.length < decoder.lastChar.length + missing) {
      decoder.lastChar = whole;
      return "";
    }
    bytes = bytes.subarray(missing);
    decoder.lastChar = empty;
    text = decode(whole, "utf16le");
  }
  const rest = incompleteUtf16(bytes);
  if (rest > 0) decoder.lastChar = bytes.slice(bytes.length - rest);
  return text + decode(bytes.subarray(0, bytes.length - rest), "utf16le");
}

function held(b: Uint8Array, encoding: Encoding): number {
  switch (encoding) {
    case "utf8":
      return incompleteUtf8(b);
    case "base64":
    case "base64url":
      return b.length % 3;
    default:
      return 0;
  }
}

const empty = new Uint8Array(0);

export interface StringDecoder {
  encoding: Encoding;
  lastChar: Uint8Array;
  write(chunk: unknown): string;
  end(chunk?: unknown): string;
}

// A constructor function: old libraries call it without `new`.
export function StringDecoder(this: StringDecoder, name?: string): void {
  const encoding = encodingOf(name);
  if (encoding === undefined) throw nodeError(TypeError, "ERR_UNKNOWN_ENCODING", `Unknown encoding: ${name}`);
  this.encoding = encoding;
  this.lastChar = empty;
}

StringDecoder.prototype.write = function (this: StringDecoder, chunk: unknown): string {
  if (typeof chunk === "string") return chunk;
  if (!ArrayBuffer.isView(chunk)) throw invalidArgType("buf", ["Buffer", "TypedArray", "DataView"], chunk);
  let bytes = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  if (this.encoding === "utf16le") return writeUtf16(this, bytes);
  if (this.lastChar.length > 0) bytes = Buffer.concat([this.lastChar, bytes]);
  const rest = held(bytes, this.encoding);
  this.lastChar = rest === 0 ? empty : bytes.slice(bytes.length - rest);
  return decode(rest === 0 ? bytes : bytes.subarray(0, bytes.length - rest), this.encoding);
};

StringDecoder.prototype.end = function (this: StringDecoder, chunk?: unknown): string {
  let text = chunk === undefined ? "" : this.write(chunk);
  if (this.lastChar.length > 0) text += decode(this.lastChar, this.encoding);
  this.lastChar = empty;
  return text;
};

StringDecoder.prototype.text = function (this: StringDecoder, bytes: Uint8Array, offset: number): string {
  this.lastChar = empty;
  return this.write(bytes.subarray(offset));
};

for (const [name, of] of [["lastNeed", 0], ["lastTotal", 1]] as const) {
  Object.defineProperty(StringDecoder.prototype, name, {
    configurable: true,
    enumerable: true,
    get(this: StringDecoder): number {
      const have = this.lastChar.length;
      if (have === 0) return 0;
      const first = this.lastChar[0]!;
      const total = this.encoding === "utf8" ? (first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2) : this.encoding === "utf16le" ? (have > 1 ? 4 : 2) : 3;
      return of === 1 ? total : total - have;
    },
  });
}

export const exports = { StringDecoder };
