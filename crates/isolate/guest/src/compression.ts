/**
 * CompressionStream and DecompressionStream, and the same in one go for node:zlib. The codecs are the host's (`zip.*`): a push takes and
 * gives a bounded piece, and the loop is here, where it is metered as the isolate's own work.
 */
import { host } from "./host";
import { bytesOf, TransformStream, type ReadableStream, type WritableStream } from "./streams";
import { defineInterface, requireArguments } from "./webidl";

export type Format = "gzip" | "deflate" | "deflate-raw" | "br";

/** Most bytes of input per push; the host takes no more. */
const PIECE = 64 * 1024;

// What a push answers as to how to go on (`Next` in src/host/compression.rs).
const AGAIN = 1;
const ENDED = 2;
const TRAILING = 3;

const none = new Uint8Array(0);

/** One codec at the host. */
class Codec {
  id: number;
  constructor(format: Format, compress: boolean, level?: number) {
    this.id = host.call("zip.open", format, compress, level) as number;
  }

  /** Pushes all of the input and hands on what comes out; true once the data has ended. `onTrailing` is told what follows the data. */
  run(input: Uint8Array, finish: boolean, emit: (bytes: Uint8Array) => void, onTrailing: (rest: Uint8Array) => void): boolean {
    let at = 0;
    for (;;) {
      const end = Math.min(at + PIECE, input.length);
      const last = finish && end === input.length;
      const piece = at === 0 && end === input.length ? input : at === end ? none : input.subarray(at, end);
      const [output, consumed, next] = host.call("zip.push", this.id, piece, last) as [Uint8Array, number, number];
      at += consumed;
      if (output.length > 0) emit(output);
      if (next === TRAILING) {
        onTrailing(input.subarray(at));
        return true;
      }
      if (next === ENDED) return true;
      if (next !== AGAIN && at === input.length && (!finish || last)) return false;
    }
  }

  drop(): void {
    host.call("zip.drop", this.id);
  }
}

function junk(): never {
  throw new TypeError("Trailing bytes after end of compressed data");
}

/** Compresses or decompresses a whole. Stops with a RangeError where the output exceeds `most`; `onTrailing` gets what follows the data. */
export function codecSync(
  format: Format,
  compress: boolean,
  input: Uint8Array,
  options: { level?: number; most?: number; onTrailing?: (rest: Uint8Array) => void } = {},
): Uint8Array {
  const pieces: Uint8Array[] = [];
  const most = options.most ?? Infinity;
  let length = 0;
  const codec = new Codec(format, compress, options.level);
  try {
    codec.run(input, true, (bytes) => {
      length += bytes.length;
      if (length > most) throw new RangeError(`Cannot create a Buffer larger than ${most} bytes`);
      pieces.push(bytes);
    }, options.onTrailing ?? junk);
  } finally {
    codec.drop();
  }
  if (pieces.length === 1) return pieces[0]!;
  const all = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

interface Controller {
  enqueue(chunk: Uint8Array): void;
}

/** Returns the memory of codecs whose stream was dropped in the middle. */
let abandoned: FinalizationRegistry<Codec> | undefined;

/** The transformer of both classes. The codec is opened by the first chunk. */
class Recoder {
  readonly format: Format;
  readonly compress: boolean;
  codec: Codec | undefined;
  constructor(format: Format, compress: boolean) {
    this.format = format;
    this.compress = compress;
  }

  transform(chunk: unknown, controller: Controller): void {
    const bytes = bytesOf(chunk);
    if (bytes === undefined) throw this.#end(new TypeError("The chunk is not an ArrayBuffer or a view of one."));
    this.#run(bytes, false, controller);
  }

  flush(controller: Controller): void {
    this.#run(none, true, controller);
    this.#end();
  }

  cancel(): void {
    this.#end();
  }

  #run(bytes: Uint8Array, finish: boolean, controller: Controller): void {
    try {
      this.#open().run(bytes, finish, (output) => controller.enqueue(output), junk);
    } catch (e) {
      throw this.#end(e);
    }
  }

  #open(): Codec {
    if (this.codec === undefined) {
      this.codec = new Codec(this.format, this.compress);
      abandoned ??= new FinalizationRegistry((codec) => codec.drop());
      abandoned.register(this, this.codec, this);
    }
    return this.codec;
  }

  #end<E>(e?: E): E | undefined {
    if (this.codec !== undefined) {
      abandoned!.unregister(this);
      this.codec.drop();
    }
    return e;
  }
}

function formatOf(given: number, v: unknown, where: string): Format {
  requireArguments(given, 1, where);
  const format = `${v as string}`;
  if (format !== "gzip" && format !== "deflate" && format !== "deflate-raw") {
    throw new TypeError("The compression format must be either 'deflate', 'deflate-raw' or 'gzip'.");
  }
  return format;
}

class CompressionStream {
  readonly #pair: TransformStream;
  constructor(format: Format) {
    this.#pair = new TransformStream(new Recoder(formatOf(arguments.length, format, "CompressionStream"), true));
  }
  get readable(): ReadableStream {
    return this.#pair.readable;
  }
  get writable(): WritableStream {
    return this.#pair.writable;
  }
}

/** Decodes a body; unlike a DecompressionStream it takes every coding that bodies come in. */
export function decoder(format: Format): TransformStream {
  return new TransformStream(new Recoder(format, false));
}

class DecompressionStream {
  readonly #pair: TransformStream;
  constructor(format: Format) {
    this.#pair = decoder(formatOf(arguments.length, format, "DecompressionStream"));
  }
  get readable(): ReadableStream {
    return this.#pair.readable;
  }
  get writable(): WritableStream {
    return this.#pair.writable;
  }
}

defineInterface(CompressionStream, "CompressionStream");
defineInterface(DecompressionStream, "DecompressionStream");

export { CompressionStream, DecompressionStream };

export const globals = { CompressionStream, DecompressionStream };
