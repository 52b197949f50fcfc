/**
 * Blob and File of the File API. Everything is in memory: a blob is one run of bytes that nobody writes to, and a slice shares it. Also the
 * byte streams over bytes at hand that Blob and bodies offer, from which the bytes can be taken back as long as nobody has read.
 */
import { registerCloneable } from "./clone";
import { host } from "./host";
import { ReadableStream, bytesOf, isDisturbed, type ReadableByteStreamController } from "./streams";
import { defineInterface, requireArguments } from "./webidl";

// --- streams over bytes --------------------------------------------------------------------------------------------------

const PIECE = 64 * 1024;

class ByteSource {
  readonly type = "bytes";
  readonly bytes: Uint8Array;
  at = 0;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  // Pieces are copies: whoever reads owns its chunk and may transfer it.
  pull(controller: ReadableByteStreamController): void {
    const { at, bytes } = this;
    if (at >= bytes.length) {
      controller.close();
      controller.byobRequest?.respond(0);
      return;
    }
    const view = controller.byobRequest?.view as Uint8Array | null | undefined;
    const n = Math.min(bytes.length - at, view?.byteLength ?? PIECE);
    this.at += n;
    if (view) {
      new Uint8Array(view.buffer, view.byteOffset, n).set(bytes.subarray(at, at + n));
      controller.byobRequest!.respond(n);
    } else {
      controller.enqueue(bytes.slice(at, at + n));
    }
    if (this.at >= bytes.length) {
      controller.close();
      controller.byobRequest?.respond(0);
    }
  }
}

// Made on first use, so that requests that touch no stream dirty nothing.
let whole: WeakMap<ReadableStream, Uint8Array> | undefined;

/** A byte stream that gives `bytes`, which nobody else may change or keep: they can be had back from it. */
export function bytesReadable(bytes: Uint8Array): ReadableStream<Uint8Array> {
  const stream = new ReadableStream(new ByteSource(bytes)) as ReadableStream<Uint8Array>;
  (whole ??= new WeakMap()).set(stream, bytes);
  return stream;
}

/** If `stream` is one of `bytesReadable` that nobody touched: its bytes, and the stream is used up by this. */
export function takeBytes(stream: ReadableStream): Uint8Array | undefined {
  const bytes = whole?.get(stream);
  if (bytes === undefined || stream.locked || isDisturbed(stream)) return undefined;
  stream.getReader().cancel().catch(() => {});
  return bytes;
}

// --- Blob ----------------------------------------------------------------------------------------------------------------

const RAW = Symbol();
const printable = /^[\x20-\x7e]*$/;
const empty = new Uint8Array(0);

export let isBlob: (v: object) => v is Blob;
export let isFile: (v: object) => v is File;
/** The bytes themselves: never to be written to or handed out. */
export let blobBytes: (blob: Blob) => Uint8Array;

interface BlobPropertyBag {
  type?: string;
  endings?: string;
}

function blobType(v: unknown): string {
  const type = v === undefined ? "" : `${v as string}`;
  return printable.test(type) ? type.toLowerCase() : "";
}

function bag(v: unknown, where: string): BlobPropertyBag & { lastModified?: number } {
  if (v === undefined || v === null) return {};
  if (typeof v !== "object" && typeof v !== "function") throw new TypeError(`${where}: the options are not an object.`);
  return v;
}

function convertEndings(v: unknown): string {
  const endings = v === undefined ? "transparent" : `${v as string}`;
  if (endings !== "transparent" && endings !== "native") throw new TypeError(`The provided value '${endings}' is not a valid enum value of type EndingType.`);
  return endings;
}

function partBytes(part: unknown, native: boolean): Uint8Array {
  if (typeof part === "object" && part !== null) {
    const bytes = bytesOf(part);
    if (bytes !== undefined) return bytes;
    if (isBlob(part)) return blobBytes(part);
  }
  const text = `${part as string}`;
  return host.utf8Encode(native ? text.replace(/\r\n?|\n/g, "\n") : text);
}

function concatenated(parts: Uint8Array[]): Uint8Array {
  let length = 0;
  for (const p of parts) length += p.length;
  const all = new Uint8Array(length);
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}

function blobParts(parts: unknown, native: boolean, where: string): Uint8Array {
  if (parts === undefined) return empty;
  if ((typeof parts !== "object" && typeof parts !== "function") || parts === null || typeof (parts as Iterable<unknown>)[Symbol.iterator] !== "function") {
    throw new TypeError(`${where}: constructor parameter 1 is not of type 'Array'.`);
  }
  const pieces: Uint8Array[] = [];
  for (const part of parts as Iterable<unknown>) pieces.push(partBytes(part, native));
  return concatenated(pieces);
}

/** `[Clamp] long long` relative to the end when negative. */
function edge(v: unknown, otherwise: number, size: number): number {
  if (v === undefined) return otherwise;
  let n = Number(v);
  n = Number.isNaN(n) ? 0 : Math.round(Math.min(Math.max(n, Number.MIN_SAFE_INTEGER), Number.MAX_SAFE_INTEGER));
  return n < 0 ? Math.max(size + n, 0) : Math.min(n, size);
}

/** A blob over bytes that nobody else will change. */
export function blobOver(bytes: Uint8Array, type: string): Blob {
  return new Blob(undefined, undefined, RAW, bytes, type);
}

export class Blob {
  #bytes: Uint8Array;
  #type: string;

  constructor(parts: unknown = undefined, options: BlobPropertyBag | undefined = undefined, raw: unknown = undefined, bytes: Uint8Array = empty, type = "") {
    if (raw === RAW) {
      this.#bytes = bytes;
      this.#type = type;
      return;
    }
    const where = "Failed to construct 'Blob'";
    const given = bag(options, where);
    const endings = convertEndings(given.endings);
    this.#type = blobType(given.type);
    this.#bytes = blobParts(parts, endings === "native", where);
  }

  get size(): number { return this.#bytes.length; }
  get type(): string { return this.#type; }

  slice(start?: number, end?: number, contentType?: string): Blob {
    const bytes = this.#bytes;
    const from = edge(start, 0, bytes.length);
    const to = edge(end, bytes.length, bytes.length);
    return blobOver(bytes.subarray(from, Math.max(from, to)), blobType(contentType));
  }

  async arrayBuffer(): Promise<ArrayBuffer> { return this.#bytes.slice().buffer as ArrayBuffer; }
  async bytes(): Promise<Uint8Array> { return this.#bytes.slice(); }
  async text(): Promise<string> { return host.utf8Decode(this.#bytes, false, false); }
  stream(): ReadableStream<Uint8Array> { return new ReadableStream(new ByteSource(this.#bytes)) as ReadableStream<Uint8Array>; }

  static {
    isBlob = (v): v is Blob => #type in v;
    blobBytes = (blob) => blob.#bytes;
  }
}

export class File extends Blob {
  #name: string;
  #lastModified: number;

  constructor(parts: unknown, name: string, options: (BlobPropertyBag & { lastModified?: number }) | undefined = undefined, raw: unknown = undefined, bytes: Uint8Array = empty, type = "") {
    if (raw !== RAW) requireArguments(arguments.length, 2, "Failed to construct 'File'");
    super(parts === undefined && raw !== RAW ? null : parts, options, raw, bytes, type);
    this.#name = `${name}`.toWellFormed();
    const modified = bag(options, "Failed to construct 'File'").lastModified;
    this.#lastModified = modified === undefined ? Math.floor(host.now()) : Math.trunc(Number(modified)) || 0;
  }

  get name(): string { return this.#name; }
  get lastModified(): number { return this.#lastModified; }

  static {
    isFile = (v): v is File => #name in v;
  }
}

defineInterface(Blob, "Blob");
defineInterface(File, "File");

/** A file over bytes that nobody else will change. */
export function fileOver(bytes: Uint8Array, name: string, type: string, lastModified?: number): File {
  return new File(undefined, name, { lastModified }, RAW, bytes, type);
}

// Bytes that come out of a serialised clone are hostile: a malformed one must not become a blob.
function readParts(data: unknown): [bytes: Uint8Array, type: string, name: unknown, lastModified: unknown] {
  const [bytes, type, name, lastModified] = Array.isArray(data) ? (data as unknown[]) : [];
  if (!(bytes instanceof Uint8Array)) throw new DOMException("The data is not a serialized blob", "DataCloneError");
  return [bytes.slice(), blobType(type), name, lastModified];
}

registerCloneable(Blob, "Blob", {
  clone: (blob: Blob) => blobOver(blobBytes(blob), blob.type),
  write: (blob: Blob) => [blobBytes(blob).slice(), blob.type],
  read: (data: unknown) => {
    const [bytes, type] = readParts(data);
    return blobOver(bytes, type);
  },
});
registerCloneable(File, "File", {
  clone: (file: File) => fileOver(blobBytes(file), file.name, file.type, file.lastModified),
  write: (file: File) => [blobBytes(file).slice(), file.type, file.name, file.lastModified],
  read: (data: unknown) => {
    const [bytes, type, name, lastModified] = readParts(data);
    return fileOver(bytes, `${name as string}`, type, Number(lastModified));
  },
});

export const globals = { Blob, File };
