/**
 * The Body mixin of the fetch standard, as the class that Request and Response extend (workerd has it so, too): headers and body of a message. A
 * body stays what it was made of — text, bytes, the number of a host stream — and becomes a ReadableStream only when `.body` is touched.
 */
import { blobBytes, blobOver, bytesReadable, isBlob, takeBytes, type Blob } from "./blob";
import { codecSync, decoder } from "./compression";
import { encodeMultipart, formDataOf, isFormData, parseMultipart, type FormData } from "./form_data";
import { headersOver, listGet, listHas, listOf, type HeaderList, type Headers } from "./headers";
import { host } from "./host";
import { mimeParameter, parseMimeType, serializeMimeType } from "./mime_type";
import { ReadableStream, bytesOf, fixedLength, hostReadable, isDisturbed, takeHostStream, type ReadableStreamDefaultReader } from "./streams";
import { isURLSearchParams, parseUrlEncoded } from "./url";
import { defineInterface } from "./webidl";

/** What a body is made of: nothing, text, bytes that nobody else writes to, a host stream, one of these still compressed, or a stream. */
export type Source = null | string | Uint8Array | number | Encoded | ReadableStream;

/** What `fetch` decodes. */
export type Coding = "gzip" | "deflate" | "br";

export function isCoding(v: string): v is Coding {
  return v === "gzip" || v === "deflate" || v === "br";
}

/**
 * The body of an answer as it came, in the coding that its Content-Encoding names: decoded when it is read, passed on as it is when it is not.
 */
export class Encoded {
  readonly raw: Uint8Array | number;
  readonly coding: Coding;
  /** Given back by the stream that was made over it: that stream's end is not this body's. */
  taken = false;
  constructor(raw: Uint8Array | number, coding: Coding) {
    this.raw = raw;
    this.coding = coding;
  }
}

// Streams over encoded bodies that nobody has read. Made on first use.
let untouched: WeakMap<ReadableStream, Encoded> | undefined;

/** The decoded content as a stream, from which the encoded body can be had back until it is read. */
export function decodedStream(encoded: Encoded): ReadableStream {
  const { raw } = encoded;
  let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  const stream = new ReadableStream<Uint8Array>({
    type: "bytes",
    async pull(controller) {
      reader ??= streamOf(raw).pipeThrough(decoder(encoded.coding) as unknown as Transform).getReader();
      const { done, value } = await reader.read();
      if (!done) return controller.enqueue(value);
      controller.close();
      controller.byobRequest?.respond(0);
    },
    cancel(reason) {
      if (reader !== undefined) return reader.cancel(reason);
      if (typeof raw === "number" && !encoded.taken) host.call("stream.cancel", raw);
    },
  });
  (untouched ??= new WeakMap()).set(stream, encoded);
  return stream;
}

function takeEncoded(stream: ReadableStream): Encoded | undefined {
  const encoded = untouched?.get(stream);
  if (encoded === undefined || stream.locked || isDisturbed(stream)) return undefined;
  encoded.taken = true;
  stream.getReader().cancel().catch(() => {});
  return new Encoded(encoded.raw, encoded.coding);
}

type Transform = Parameters<ReadableStream["pipeThrough"]>[0] & { readable: ReadableStream<Uint8Array> };

const PIECE = 1 << 20;
const none = new Uint8Array(0);
const resolved = Promise.resolve.bind(Promise) as <T>(v: T) => Promise<Awaited<T>>;
const rejected = Promise.reject.bind(Promise) as (reason: unknown) => Promise<never>;
const parseJson = JSON.parse as (text: string) => unknown;
const { isView } = ArrayBuffer;

// --- making a source -----------------------------------------------------------------------------------------------------

function defaultType(list: HeaderList, type: string): void {
  if (type !== "" && !listHas(list, "content-type")) list.push("content-type", type);
}

/** Extracts a body (fetch §2.2.6): what it is made of; adds a Content-Type where the kind of value has one and `list` has none. */
export function extractBody(v: unknown, list: HeaderList): Source {
  if (typeof v === "string") {
    if (list.length === 0) list.push("content-type", "text/plain;charset=UTF-8");
    else defaultType(list, "text/plain;charset=UTF-8");
    return v.isWellFormed() ? v : v.toWellFormed();
  }
  if (v === undefined || v === null) return null;
  if (typeof v === "object") {
    if (isView(v) || v instanceof ArrayBuffer) return bytesOf(v)!.slice();
    if (v instanceof ReadableStream) return usable(v);
    if (isURLSearchParams(v)) {
      defaultType(list, "application/x-www-form-urlencoded;charset=UTF-8");
      return v.toString();
    }
    if (isBlob(v)) {
      defaultType(list, v.type);
      return blobBytes(v).slice();
    }
    if (isFormData(v)) {
      const [bytes, type] = encodeMultipart(v);
      defaultType(list, type);
      return bytes;
    }
    if (typeof (v as AsyncIterable<unknown>)[Symbol.asyncIterator] === "function") {
      return (ReadableStream as unknown as { from(v: unknown): ReadableStream }).from(v);
    }
  }
  defaultType(list, "text/plain;charset=UTF-8");
  return `${v as string}`.toWellFormed();
}

function usable(stream: ReadableStream): ReadableStream {
  if (isDisturbed(stream)) throw new TypeError("This ReadableStream is disturbed (has already been read from), and cannot be used as a body.");
  if (stream.locked) throw new TypeError("This ReadableStream is locked to a reader, and cannot be used as a body.");
  return stream;
}

// --- using it up ---------------------------------------------------------------------------------------------------------

function joined(pieces: Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0]!;
  let length = 0;
  for (const p of pieces) length += p.length;
  const all = new Uint8Array(length);
  let at = 0;
  for (const p of pieces) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}

/** All bytes of a source that is not in memory, or not decoded. */
async function drain(source: number | Encoded | ReadableStream): Promise<Uint8Array> {
  if (typeof source === "number") return drainHost(source);
  if (source instanceof ReadableStream) return drainStream(source);
  const raw = typeof source.raw === "number" ? await drainHost(source.raw) : source.raw;
  return codecSync(source.coding, false, raw);
}

async function drainHost(stream: number): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for (;;) {
    const piece = (await host.start("stream.read", stream, PIECE)) as Uint8Array | null;
    if (piece === null) return joined(pieces);
    pieces.push(piece);
  }
}

function chunkBytes(chunk: unknown): Uint8Array {
  const bytes = bytesOf(chunk);
  if (bytes === undefined) throw new TypeError("This ReadableStream did not return bytes.");
  return bytes;
}

async function drainStream(stream: ReadableStream): Promise<Uint8Array> {
  const reader = stream.getReader();
  const pieces: Uint8Array[] = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    try {
      pieces.push(chunkBytes(value));
    } catch (e) {
      reader.cancel(e).catch(() => {});
      throw e;
    }
  }
  return pieces.length === 1 ? pieces[0]!.slice() : joined(pieces);
}

/** A stream on its way to a host stream, no faster than that takes it. */
export class Pump {
  readonly to: number;
  /** Settles when all was sent, or the receiver went away; rejects when the stream failed, which the receiver then knows. */
  readonly done: Promise<void>;
  readonly #reader: ReadableStreamDefaultReader<unknown>;

  /** `length` is how many bytes the stream will give, where that is known. */
  constructor(stream: ReadableStream, length: number | undefined) {
    this.#reader = stream.getReader();
    this.to = host.call("stream.open", length) as number;
    this.done = this.#run();
  }

  /** The receiver has gone: nothing more is read. */
  cancel(reason: unknown): void {
    this.#reader.cancel(reason).catch(() => {});
  }

  async #run(): Promise<void> {
    for (;;) {
      let bytes: Uint8Array;
      try {
        const { done, value } = await this.#reader.read();
        if (done) return host.call("stream.close", this.to) as void;
        bytes = chunkBytes(value);
      } catch (e) {
        host.call("stream.abort", this.to, e instanceof Error ? e.message : "The stream was aborted");
        this.cancel(e);
        throw e;
      }
      if (bytes.length === 0) continue;
      try {
        await host.start("stream.write", this.to, bytes);
      } catch (e) {
        return this.cancel(e);
      }
    }
  }
}

// What a body's text or bytes become; functions here, so that a call makes no closure.
const asItself = <T>(v: T): T => v;
const asBuffer = (bytes: Uint8Array): ArrayBuffer => (bytes.length === bytes.buffer.byteLength ? bytes : bytes.slice()).buffer as ArrayBuffer;
const decodeText = (bytes: Uint8Array): string => host.utf8Decode(bytes, false, false);

function formDataFrom(bytes: Uint8Array, contentType: string | null): FormData {
  const type = contentType === null ? undefined : parseMimeType(contentType);
  if (type?.essence === "multipart/form-data") {
    const boundary = mimeParameter(type, "boundary");
    if (boundary === undefined) throw new TypeError("No boundary string in Content-Type header. The multipart/form-data MIME type requires a boundary parameter, e.g. 'Content-Type: multipart/form-data; boundary=\"abcd\"'. See RFC 7578, section 4.");
    return parseMultipart(bytes, boundary);
  }
  if (type?.essence === "application/x-www-form-urlencoded") {
    return formDataOf(parseUrlEncoded(host.utf8Decode(bytes, false, true)));
  }
  throw new TypeError("Unrecognized Content-Type header value. FormData can only parse the following MIME types: multipart/form-data, application/x-www-form-urlencoded");
}

// --- the class -----------------------------------------------------------------------------------------------------------

const USED = 1, IMMUTABLE = 2;

/**
 * The state of a message, as an array: making and reading one costs a fraction of as many private fields. Places 0 to 2 are Body's, the rest
 * its subclass's: a response has a number in place 3, a request a string.
 */
export type State = [source: Source, headers: HeaderList | Headers, flags: number, ...rest: unknown[]];
const SOURCE = 0, HEADERS = 1, FLAGS = 2;

/** The state behind a message; throws when it is none. */
export let stateOf: (message: object) => State;
/** The same, or undefined when `v` is no message. */
export let stateIfMessage: (v: object) => State | undefined;

export function newState(source: Source, headers: HeaderList, immutable: boolean, a: unknown, b: unknown, c: unknown): State {
  return [source, headers, immutable ? IMMUTABLE : 0, a, b, c];
}

export class Body {
  #s: State;

  constructor(state: State) {
    if (new.target === Body) throw new TypeError("Illegal constructor");
    this.#s = state;
  }

  get body(): ReadableStream | null {
    const state = this.#s;
    const source = state[SOURCE];
    if (source === null || source instanceof ReadableStream) return source;
    const stream = streamOf(source);
    if (state[FLAGS] & USED) stream.getReader().cancel().catch(() => {});
    return (state[SOURCE] = stream);
  }

  get bodyUsed(): boolean { return isUsed(this.#s); }

  arrayBuffer(): Promise<ArrayBuffer> {
    try { return bytesThen(this.#s, asBuffer); } catch (e) { return rejected(e); }
  }

  bytes(): Promise<Uint8Array> {
    try { return bytesThen(this.#s, asItself); } catch (e) { return rejected(e); }
  }

  text(): Promise<string> {
    try { return textThen(this.#s, asItself); } catch (e) { return rejected(e); }
  }

  json(): Promise<unknown> {
    try { return textThen(this.#s, parseJson); } catch (e) { return rejected(e); }
  }

  formData(): Promise<FormData> {
    try {
      const type = listGet(listIn(this.#s), "content-type");
      return bytesThen(this.#s, (bytes) => formDataFrom(bytes, type));
    } catch (e) {
      return rejected(e);
    }
  }

  blob(): Promise<Blob> {
    try {
      const type = parseMimeType(listGet(listIn(this.#s), "content-type") ?? "");
      return bytesThen(this.#s, (bytes) => blobOver(bytes, type === undefined ? "" : serializeMimeType(type)));
    } catch (e) {
      return rejected(e);
    }
  }

  static {
    stateOf = (message) => (message as Body).#s;
    stateIfMessage = (v) => (#s in v ? v.#s : undefined);
  }
}

/** A stream over a source that is none yet. */
export function streamOf(source: string | Uint8Array | number | Encoded): ReadableStream {
  if (typeof source === "number") return hostReadable(source);
  if (source instanceof Encoded) return decodedStream(source);
  return bytesReadable(typeof source === "string" ? host.utf8Encode(source) : source);
}

/** The headers of a message as a list, for sending. */
export function listIn(state: State): HeaderList {
  const headers = state[HEADERS];
  return Array.isArray(headers) ? headers : listOf(headers);
}

/** The headers of a message as the object that scripts see; made when first asked for. */
export function headersIn(state: State): Headers {
  const headers = state[HEADERS];
  return Array.isArray(headers) ? (state[HEADERS] = headersOver(headers, (state[FLAGS] & IMMUTABLE) !== 0)) : headers;
}

export function isImmutable(state: State): boolean {
  return (state[FLAGS] & IMMUTABLE) !== 0;
}

/** Whether the body was used, or is being used. */
export function isUsed(state: State): boolean {
  const source = state[SOURCE];
  return source instanceof ReadableStream ? isDisturbed(source) : (state[FLAGS] & USED) !== 0;
}

/** Takes the body out: it is used after this. A stream that nobody touched gives back what it was made of. Throws when it is used or locked. */
export function takeBody(state: State): Source {
  const source = state[SOURCE];
  if (source === null) return null;
  if (typeof source === "object" && source instanceof ReadableStream) {
    if (isDisturbed(source)) throw used();
    if (source.locked) throw new TypeError("This ReadableStream is currently locked to a reader.");
    return takeHostStream(source) ?? takeBytes(source) ?? takeEncoded(source) ?? source;
  }
  if (state[FLAGS] & USED) throw used();
  state[FLAGS] |= USED;
  state[SOURCE] = none;
  return source;
}

function textThen<T>(state: State, then: (text: string) => T): Promise<Awaited<T>> {
  const source = takeBody(state);
  if (typeof source === "string") return resolved(then(source.charCodeAt(0) === 0xfeff ? source.slice(1) : source));
  if (source === null) return resolved(then(""));
  if (source instanceof Uint8Array) return resolved(then(decodeText(source)));
  return drain(source).then(decodeText).then(then) as Promise<Awaited<T>>;
}

function bytesThen<T>(state: State, then: (bytes: Uint8Array) => T): Promise<Awaited<T>> {
  const source = takeBody(state);
  if (source === null) return resolved(then(none.slice()));
  if (typeof source === "string") return resolved(then(host.utf8Encode(source)));
  if (source instanceof Uint8Array) return resolved(then(source));
  return drain(source).then(then) as Promise<Awaited<T>>;
}

/** A second source with the same content, for `clone()`. */
export function cloneBody(state: State): Source {
  let source = state[SOURCE];
  if (source === null) return null;
  if (state[FLAGS] & USED) throw used();
  if (source instanceof ReadableStream) {
    if (isDisturbed(source) || source.locked) throw new TypeError("This ReadableStream is currently locked to a reader.");
    const bytes = takeBytes(source);
    if (bytes !== undefined) state[SOURCE] = source = bytes;
  }
  if (typeof source === "string") return source;
  if (source instanceof Uint8Array) return source.slice();
  const branches = (source instanceof ReadableStream ? source : streamOf(source)).tee();
  state[SOURCE] = branches[0];
  return branches[1];
}

function used(): TypeError {
  return new TypeError("Body has already been used. It can only be used once. Use tee() first if you need to read it twice.");
}

defineInterface(Body, "Body");

/** What a stream of ours needs to be sent: its pump, and a Content-Length where it is known and `list` lacks it. */
export function pumpOf(stream: ReadableStream, list: HeaderList): Pump {
  const length = fixedLength(stream);
  if (length !== undefined && !listHas(list, "content-length")) list.push("content-length", `${length}`);
  return new Pump(stream, length);
}

export const globals = { Body };
