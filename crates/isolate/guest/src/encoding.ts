/**
 * TextEncoder, TextDecoder and their stream forms. UTF-8 is the engine's and keeps no state outside the isolate; every other encoding is
 * decoded by the host (`text.*`). (`atob`, `btoa` and the base64 and hex methods of Uint8Array are the engine's own.)
 */
import { host } from "./host";
import { bytesOf, TransformStream, type ReadableStream, type WritableStream } from "./streams";
import { defineInterface, dictionary, requireArguments } from "./webidl";

const { utf8Encode, utf8Decode } = host;
const none = new Uint8Array(0);

class TextEncoder {
  // Only so that the methods refuse other receivers.
  readonly #brand = true;

  get encoding(): string {
    void this.#brand;
    return "utf-8";
  }

  encode(input: unknown = ""): Uint8Array {
    void this.#brand;
    return utf8Encode(typeof input === "string" ? input : `${input as string}`);
  }

  encodeInto(source: string, destination: Uint8Array): { read: number; written: number } {
    void this.#brand;
    requireArguments(arguments.length, 2, "TextEncoder.encodeInto");
    if (!(destination instanceof Uint8Array)) throw new TypeError("TextEncoder.encodeInto: destination is not a Uint8Array.");
    let text = `${source}`;
    const room = destination.length;
    // A code unit is at least a byte: more units than there is room for cannot fit. A pair cut here could not have fitted either.
    if (text.length > room) text = text.slice(0, isHigh(text.charCodeAt(room - 1)) ? room - 1 : room);
    let bytes = utf8Encode(text);
    let read = text.length;
    if (bytes.length > room) {
      let end = room;
      while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--;
      bytes = bytes.subarray(0, end);
      read = utf8Decode(bytes, false, true).length;
    }
    destination.set(bytes);
    return { read, written: bytes.length };
  }
}

function isHigh(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}

/** How many bytes at the end begin a character that the rest of the stream may complete. */
function unfinished(bytes: Uint8Array): number {
  const n = bytes.length;
  for (let back = 1; back <= 3 && back <= n; back++) {
    const b = bytes[n - back]!;
    if ((b & 0xc0) === 0x80) continue;
    const length = b >= 0xc2 && b <= 0xdf ? 2 : b >= 0xe0 && b <= 0xef ? 3 : b >= 0xf0 && b <= 0xf4 ? 4 : 0;
    return length > back && (back === 1 || secondFits(b, bytes[n - back + 1]!)) ? back : 0;
  }
  return 0;
}

/** The second byte excludes overlong forms, surrogates and what is above U+10FFFF. */
function secondFits(first: number, second: number): boolean {
  if (first === 0xe0) return second >= 0xa0;
  if (first === 0xed) return second <= 0x9f;
  if (first === 0xf0) return second >= 0x90;
  if (first === 0xf4) return second <= 0x8f;
  return true;
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const all = new Uint8Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}

/** A decoder that is in the middle of a stream holds state at the host: given back when the decoder is collected. */
let abandoned: FinalizationRegistry<{ decoder: number }> | undefined;

class TextDecoder {
  readonly #encoding: string;
  readonly #fatal: boolean;
  readonly #ignoreBOM: boolean;
  /** UTF-8: the start of a character whose end is to come. */
  #held = none;
  /** UTF-8: something has been decoded in this stream, so that a BOM is a character. */
  #begun = false;
  /** Other encodings: the decoder at the host, while in the middle of a stream. */
  #state: { decoder: number } | undefined;

  constructor(label: unknown = "utf-8", options?: unknown) {
    const { fatal, ignoreBOM } = dictionary<{ fatal: unknown; ignoreBOM: unknown }>(options, "TextDecoder: options");
    this.#encoding = label === "utf-8" || label === "utf8" ? "utf-8" : canonical(`${label as string}`);
    this.#fatal = !!fatal;
    this.#ignoreBOM = !!ignoreBOM;
  }

  get encoding(): string {
    return this.#encoding;
  }
  get fatal(): boolean {
    return this.#fatal;
  }
  get ignoreBOM(): boolean {
    return this.#ignoreBOM;
  }

  decode(input?: unknown, options?: unknown): string {
    const bytes = input === undefined ? none : bytesOf(input);
    if (bytes === undefined) throw new TypeError("TextDecoder.decode: input is not an ArrayBuffer or a view of one.");
    const stream = options !== undefined && !!dictionary<{ stream: unknown }>(options, "TextDecoder.decode: options").stream;
    if (this.#encoding !== "utf-8") return this.#decodeElsewhere(bytes, stream);
    if (!stream && !this.#begun && this.#held.length === 0) return utf8Decode(bytes, this.#fatal, this.#ignoreBOM);
    return this.#decodePart(bytes, stream);
  }

  #decodePart(bytes: Uint8Array, stream: boolean): string {
    let all = this.#held.length === 0 ? bytes : joined(this.#held, bytes);
    const begun = this.#begun;
    this.#held = none;
    this.#begun = false;
    if (stream) {
      const cut = all.length - unfinished(all);
      if (cut < all.length) {
        this.#held = all.slice(cut);
        all = all.subarray(0, cut);
      }
      this.#begun = begun || all.length > 0;
    }
    return utf8Decode(all, this.#fatal, begun || this.#ignoreBOM);
  }

  #decodeElsewhere(bytes: Uint8Array, stream: boolean): string {
    const state = this.#state;
    this.#state = undefined;
    if (state !== undefined) abandoned!.unregister(state);
    const from = state === undefined ? 0 : state.decoder;
    const [text, decoder] = host.call("text.decode", from, this.#encoding, bytes, this.#fatal, this.#ignoreBOM, stream) as [string, number];
    if (decoder !== 0) {
      this.#state = { decoder };
      abandoned ??= new FinalizationRegistry(({ decoder }) => host.call("text.drop", decoder));
      abandoned.register(this, this.#state, this.#state);
    }
    return text;
  }
}

function canonical(label: string): string {
  const name = host.call("text.label", label) as string | null;
  if (name === null) throw new RangeError(`"${label}" is not a valid encoding.`);
  return name;
}

type Pair = TransformStream<any, any>;

class TextEncoderStream {
  readonly #pair: Pair = new TransformStream(new StreamEncoder());

  get encoding(): string {
    void this.#pair;
    return "utf-8";
  }
  get readable(): ReadableStream {
    return this.#pair.readable;
  }
  get writable(): WritableStream {
    return this.#pair.writable;
  }
}

interface Controller {
  enqueue(chunk: unknown): void;
}

/** Holds back a high surrogate at a chunk's end: its other half may come. */
class StreamEncoder {
  held = "";

  transform(chunk: unknown, controller: Controller): void {
    let text = this.held + `${chunk as string}`;
    this.held = "";
    if (text !== "" && isHigh(text.charCodeAt(text.length - 1))) {
      this.held = text.slice(-1);
      text = text.slice(0, -1);
    }
    if (text !== "") controller.enqueue(utf8Encode(text));
  }

  flush(controller: Controller): void {
    if (this.held !== "") controller.enqueue(new Uint8Array([0xef, 0xbf, 0xbd]));
  }
}

class TextDecoderStream {
  readonly #decoder: TextDecoder;
  readonly #pair: Pair;

  constructor(label: unknown = "utf-8", options?: unknown) {
    this.#decoder = new TextDecoder(label, options);
    this.#pair = new TransformStream(new StreamDecoder(this.#decoder));
  }

  get encoding(): string {
    return this.#decoder.encoding;
  }
  get fatal(): boolean {
    return this.#decoder.fatal;
  }
  get ignoreBOM(): boolean {
    return this.#decoder.ignoreBOM;
  }
  get readable(): ReadableStream {
    return this.#pair.readable;
  }
  get writable(): WritableStream {
    return this.#pair.writable;
  }
}

class StreamDecoder {
  readonly decoder: TextDecoder;
  constructor(decoder: TextDecoder) {
    this.decoder = decoder;
  }

  transform(chunk: unknown, controller: Controller): void {
    if (chunk === undefined) throw new TypeError("TextDecoderStream: chunk is not an ArrayBuffer or a view of one.");
    const text = decode.call(this.decoder, chunk, { stream: true });
    if (text !== "") controller.enqueue(text);
  }

  flush(controller: Controller): void {
    const text = decode.call(this.decoder);
    if (text !== "") controller.enqueue(text);
  }
}

const decode = TextDecoder.prototype.decode;

defineInterface(TextEncoder, "TextEncoder");
defineInterface(TextDecoder, "TextDecoder");
defineInterface(TextEncoderStream, "TextEncoderStream");
defineInterface(TextDecoderStream, "TextDecoderStream");

export { TextDecoder, TextDecoderStream, TextEncoder, TextEncoderStream };

export const globals = { TextDecoder, TextDecoderStream, TextEncoder, TextEncoderStream };
