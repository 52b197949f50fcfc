/**
 * `node:zlib` for gzip, deflate and raw deflate: whole buffers, with callbacks and as streams, by the host's codecs. Brotli and zstd
 * throw and name themselves.
 */
import { codecSync, type Format } from "../compression";
import { CompressionStream, DecompressionStream } from "../compression";
import { encode, viewOf, type Buffer as Bytes } from "./buffer";
import { Transform } from "./stream";
import { checkFunction, invalidArgType, nodeError, unavailable } from "./errors";

interface Options {
  level?: number;
  maxOutputLength?: number;
}

type Callback = (error: Error | null, result?: Bytes) => void;

export const constants = {
  Z_NO_FLUSH: 0, Z_PARTIAL_FLUSH: 1, Z_SYNC_FLUSH: 2, Z_FULL_FLUSH: 3, Z_FINISH: 4, Z_BLOCK: 5,
  Z_OK: 0, Z_STREAM_END: 1, Z_NEED_DICT: 2, Z_ERRNO: -1, Z_STREAM_ERROR: -2, Z_DATA_ERROR: -3, Z_MEM_ERROR: -4, Z_BUF_ERROR: -5, Z_VERSION_ERROR: -6,
  Z_NO_COMPRESSION: 0, Z_BEST_SPEED: 1, Z_BEST_COMPRESSION: 9, Z_DEFAULT_COMPRESSION: -1,
  Z_FILTERED: 1, Z_HUFFMAN_ONLY: 2, Z_RLE: 3, Z_FIXED: 4, Z_DEFAULT_STRATEGY: 0,
  DEFLATE: 1, INFLATE: 2, GZIP: 3, GUNZIP: 4, DEFLATERAW: 5, INFLATERAW: 6, UNZIP: 7,
  Z_MIN_WINDOWBITS: 8, Z_MAX_WINDOWBITS: 15, Z_DEFAULT_WINDOWBITS: 15, Z_MIN_CHUNK: 64, Z_MAX_CHUNK: Infinity, Z_DEFAULT_CHUNK: 16384,
  Z_MIN_MEMLEVEL: 1, Z_MAX_MEMLEVEL: 9, Z_DEFAULT_MEMLEVEL: 8, Z_MIN_LEVEL: -1, Z_MAX_LEVEL: 9, Z_DEFAULT_LEVEL: -1,
};

const codes: Record<string, string> = Object.fromEntries(Object.entries(constants).filter(([k]) => /^Z_[A-Z]+(_[A-Z]+)?$/.test(k)).map(([k, v]) => [`${v}`, k]));

function bytesOf(data: unknown): Uint8Array {
  if (typeof data === "string") return encode(data, "utf8");
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  throw invalidArgType("buffer", ["string", "Buffer", "TypedArray", "DataView", "ArrayBuffer"], data);
}

function dataError(e: unknown): Error {
  if (e instanceof RangeError) return nodeError(RangeError, "ERR_BUFFER_TOO_LARGE", e.message);
  const text = Error.isError(e) ? e.message : String(e);
  const short = /end|truncated|incomplete/i.test(text);
  return Object.assign(new Error(short ? "unexpected end of file" : text), short ? { errno: -5, code: "Z_BUF_ERROR" } : { errno: -3, code: "Z_DATA_ERROR" });
}

function run(format: Format, compress: boolean, data: unknown, options: Options = {}): Bytes {
  const input = bytesOf(data);
  const most = options.maxOutputLength;
  try {
    return viewOf(codecSync(format, compress, input, { level: options.level, ...(most === undefined ? {} : { most }), onTrailing: () => {} }));
  } catch (e) {
    throw dataError(e);
  }
}

/** Gzip or zlib, by what the data begins with. */
function unzipFormat(data: unknown): Format {
  const b = bytesOf(data);
  return b[0] === 0x1f && b[1] === 0x8b ? "gzip" : "deflate";
}

type Sync = (data: unknown, options?: Options) => Bytes;

const sync: Record<string, Sync> = {
  gzip: (data, options) => run("gzip", true, data, options),
  gunzip: (data, options) => run("gzip", false, data, options),
  deflate: (data, options) => run("deflate", true, data, options),
  inflate: (data, options) => run("deflate", false, data, options),
  deflateRaw: (data, options) => run("deflate-raw", true, data, options),
  inflateRaw: (data, options) => run("deflate-raw", false, data, options),
  unzip: (data, options) => run(unzipFormat(data), false, data, options),
};

function withCallback(name: string): Function {
  const f = sync[name]!;
  return {
    [name](data: unknown, options: Options | Callback, callback?: Callback): void {
      const done = typeof options === "function" ? options : callback;
      checkFunction(done, "callback");
      const input = bytesOf(data);
      queueMicrotask(() => {
        let result: Bytes;
        try {
          result = f(input, typeof options === "function" ? undefined : options);
        } catch (e) {
          return done(e as Error);
        }
        done(null, result);
      });
    },
  }[name]!;
}

// --- streams -------------------------------------------------------------------------------------------------------------

interface Pair {
  writable: { getWriter(): Writer };
  readable: { getReader(): Reader };
}

interface Writer {
  write(chunk: Uint8Array): Promise<void>;
  close(): Promise<void>;
  abort(reason?: unknown): Promise<void>;
}

interface Reader {
  read(): Promise<{ done: boolean; value?: Uint8Array }>;
}

/** A Node stream over the Web's compression streams. */
class Zlib extends Transform {
  #writer: Writer | undefined;
  #reading: Promise<void> | undefined;
  #format: Format | undefined;
  #compress: boolean;
  bytesWritten = 0;

  constructor(format: Format | undefined, compress: boolean, options?: object) {
    super(options);
    this.#format = format;
    this.#compress = compress;
  }

  #open(first: Uint8Array): Writer {
    if (this.#writer) return this.#writer;
    const C = (this.#compress ? CompressionStream : DecompressionStream) as unknown as new (format: string) => Pair;
    const { readable, writable } = new C(this.#format ?? unzipFormat(first));
    this.#writer = writable.getWriter();
    this.#reading = this.#read(readable.getReader());
    this.#reading.catch(() => {});
    return this.#writer;
  }

  async #read(reader: Reader): Promise<void> {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.push(viewOf(value!));
    }
  }

  _transform(chunk: Uint8Array, _encoding: string, done: (e?: unknown) => void): void {
    const bytes = bytesOf(chunk);
    this.bytesWritten += bytes.length;
    this.#open(bytes).write(bytes).then(() => done(), (e: unknown) => done(dataError(e)));
  }

  _flush(done: (e?: unknown) => void): void {
    const writer = this.#open(new Uint8Array(0));
    Promise.all([writer.close(), this.#reading]).then(() => done(), (e: unknown) => done(dataError(e)));
  }

  flush(...args: unknown[]): void {
    const callback = args.pop();
    if (typeof callback === "function") queueMicrotask(callback as () => void);
  }

  close(callback?: () => void): void {
    if (callback) queueMicrotask(callback);
    this.destroy();
  }
}

const streams: [string, Format | undefined, boolean][] = [
  ["Gzip", "gzip", true], ["Gunzip", "gzip", false], ["Deflate", "deflate", true], ["Inflate", "deflate", false],
  ["DeflateRaw", "deflate-raw", true], ["InflateRaw", "deflate-raw", false], ["Unzip", undefined, false],
];

/** Called with or without `new`, as Node's are. */
function streamClass(name: string, format: Format | undefined, compress: boolean): Function {
  const C = class extends Zlib {
    constructor(options?: object) {
      super(format, compress, options);
    }
  };
  Object.defineProperty(C, "name", { value: name });
  return new Proxy(C, { apply: (target, _self, args: [object?]) => new target(...args) });
}

const classes = Object.fromEntries(streams.map(([name, format, compress]) => [name, streamClass(name, format, compress)]));
const table = new Uint32Array(256).map((_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

export function crc32(data: unknown, value = 0): number {
  let c = ~value;
  for (const b of bytesOf(data)) c = table[(c ^ b) & 0xff]! ^ (c >>> 8);
  return ~c >>> 0;
}

const missing = [
  "brotliCompress", "brotliCompressSync", "brotliDecompress", "brotliDecompressSync", "createBrotliCompress", "createBrotliDecompress",
  "zstdCompress", "zstdCompressSync", "zstdDecompress", "zstdDecompressSync", "createZstdCompress", "createZstdDecompress",
];

export const exports: Record<string, unknown> = {
  constants,
  codes,
  crc32,
  ...classes,
  ...Object.fromEntries(Object.entries(classes).map(([name, C]) => [`create${name}`, (options?: object) => Reflect.construct(C, [options]) as object])),
  ...Object.fromEntries(Object.keys(sync).map((name) => [name, withCallback(name)])),
  ...Object.fromEntries(Object.entries(sync).map(([name, f]) => [`${name}Sync`, f])),
  ...Object.fromEntries(missing.map((name) => [name, () => { throw unavailable(`node:zlib ${name}`); }])),
};
