/**
 * Web Streams by web-streams-polyfill (its ponyfill build, which patches nothing), the two byte streams that Workers add, and streams
 * whose other end is the host's. Used by body.ts, compression.ts, encoding.ts and whoever offers a stream.
 */
import {
  ByteLengthQueuingStrategy,
  CountQueuingStrategy,
  ReadableByteStreamController,
  ReadableStream,
  ReadableStreamBYOBReader,
  type ReadableStreamBYOBReadResult,
  ReadableStreamBYOBRequest,
  ReadableStreamDefaultController,
  ReadableStreamDefaultReader,
  type StreamPipeOptions,
  TransformStream,
  TransformStreamDefaultController,
  WritableStream,
  WritableStreamDefaultController,
  WritableStreamDefaultWriter,
} from "web-streams-polyfill";
import { dataCloneError, registerTransferable, structuredClone } from "./clone";
import { host } from "./host";
import { defineInterface } from "./webidl";

export {
  ByteLengthQueuingStrategy,
  CountQueuingStrategy,
  ReadableByteStreamController,
  ReadableStream,
  ReadableStreamBYOBReader,
  ReadableStreamBYOBRequest,
  ReadableStreamDefaultController,
  ReadableStreamDefaultReader,
  TransformStream,
  TransformStreamDefaultController,
  WritableStream,
  WritableStreamDefaultController,
  WritableStreamDefaultWriter,
};

// The ponyfill rejects with a string when there is no destination.
const { pipeTo } = ReadableStream.prototype;
Object.defineProperty(ReadableStream.prototype, "pipeTo", {
  ...Object.getOwnPropertyDescriptor(ReadableStream.prototype, "pipeTo"),
  value: {
    pipeTo(this: ReadableStream, destination: WritableStream, options: StreamPipeOptions | undefined = undefined): Promise<void> {
      if (destination === undefined) return Promise.reject(new TypeError("Failed to execute 'pipeTo' on 'ReadableStream': parameter 1 is not of type 'WritableStream'."));
      return pipeTo.call(this, destination, options);
    },
  }.pipeTo,
});

/** Reads until there are so many elements, or the stream ends: then what there is. */
async function readAtLeast<T extends ArrayBufferView>(reader: ReadableStreamBYOBReader, least: number, view: T): Promise<ReadableStreamBYOBReadResult<T>> {
  const View = view.constructor as new (buffer: ArrayBufferLike, offset: number, length: number) => T;
  const { byteOffset } = view;
  const size = (view as { BYTES_PER_ELEMENT?: number }).BYTES_PER_ELEMENT ?? 1;
  const length = view.byteLength / size;
  if (!(least > 0 && least <= length)) throw new TypeError(`Requested invalid minimum number of elements to read (${least}).`);
  let filled = 0;
  let rest: T = view;
  for (;;) {
    const { done, value } = await reader.read(rest);
    if (value === undefined) return { done: true, value };
    filled += value.byteLength / size;
    if (done || filled >= least) return { done: done && filled === 0, value: new View(value.buffer, byteOffset, filled) } as ReadableStreamBYOBReadResult<T>;
    rest = new View(value.buffer, byteOffset + filled * size, length - filled);
  }
}

// As on Workers: from before the standard had `read(view, { min })`, and gentler at the end of the stream.
Object.defineProperty(ReadableStreamBYOBReader.prototype, "readAtLeast", {
  value: {
    readAtLeast<T extends ArrayBufferView>(this: ReadableStreamBYOBReader, minElements: number, view: T): Promise<ReadableStreamBYOBReadResult<T>> {
      if (!ArrayBuffer.isView(view)) return Promise.reject(new TypeError("Failed to execute 'readAtLeast' on 'ReadableStreamBYOBReader': parameter 2 is not of type 'ArrayBufferView'."));
      return readAtLeast(this, Math.trunc(Number(minElements)), view);
    },
  }.readAtLeast,
  writable: true, enumerable: true, configurable: true,
});

/** Most bytes asked of the host by one read. */
const PIECE = 64 * 1024;

/** A view's or buffer's bytes, not copied; undefined for anything else. */
export function bytesOf(v: unknown): Uint8Array | undefined {
  if (v instanceof Uint8Array) return v;
  if (ArrayBuffer.isView(v)) return new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
  if (v instanceof ArrayBuffer || (typeof SharedArrayBuffer === "function" && v instanceof SharedArrayBuffer)) {
    return (v as ArrayBuffer & { detached?: boolean }).detached ? new Uint8Array(0) : new Uint8Array(v as ArrayBuffer);
  }
  return undefined;
}

// A private field stamped onto an object that another class made: unlike a property it can be neither seen nor forged.
const Itself = function (o: object) {
  return o;
} as unknown as new (o: object) => object;

class HostStamp extends Itself {
  #stream: number;
  constructor(rs: object, stream: number) {
    super(rs);
    this.#stream = stream;
  }
  static of(rs: object): number | undefined {
    return #stream in rs ? (rs as HostStamp).#stream : undefined;
  }
}

class LengthStamp extends Itself {
  #length: number;
  constructor(rs: object, length: number) {
    super(rs);
    this.#length = length;
  }
  static of(rs: object): number | undefined {
    return #length in rs ? (rs as LengthStamp).#length : undefined;
  }
}

/** Hands bytes to whoever pulls: into the reader's own buffer if it brought one. Returns how many were taken. */
function deliver(controller: ReadableByteStreamController, bytes: Uint8Array): number {
  const request = controller.byobRequest;
  if (request === null) {
    controller.enqueue(bytes);
    return bytes.length;
  }
  const view = request.view!;
  const n = Math.min(bytes.length, view.byteLength);
  new Uint8Array(view.buffer, view.byteOffset, n).set(n === bytes.length ? bytes : bytes.subarray(0, n));
  request.respond(n);
  return n;
}

function close(controller: ReadableByteStreamController): void {
  controller.close();
  controller.byobRequest?.respond(0);
}

class HostSource {
  readonly type = "bytes";
  readonly stream: number;
  constructor(stream: number) {
    this.stream = stream;
  }

  async pull(controller: ReadableByteStreamController): Promise<void> {
    const request = controller.byobRequest;
    const most = request === null ? PIECE : Math.min(request.view!.byteLength, PIECE);
    const bytes = (await host.start("stream.read", this.stream, most)) as Uint8Array | null;
    if (bytes === null) close(controller);
    else deliver(controller, bytes);
  }

  cancel(): void {
    host.call("stream.cancel", this.stream);
  }
}

/** A byte stream over one of the host's. Nothing is read before someone pulls. */
export function hostReadable(stream: number): ReadableStream<Uint8Array> {
  const rs = new ReadableStream(new HostSource(stream)) as ReadableStream<Uint8Array>;
  new HostStamp(rs, stream);
  return rs;
}

// The ponyfill's own field behind [[disturbed]]: the standard lets other specifications ask for it, scripts not.
interface Disturbable {
  _disturbed: boolean;
}

/** Whether the stream has been read from or cancelled. */
export function isDisturbed(rs: ReadableStream): boolean {
  return (rs as unknown as Disturbable)._disturbed;
}

/** If this is a host stream that nobody touched: its number, and the stream is used up (locked and disturbed) by this. */
export function takeHostStream(rs: ReadableStream): number | undefined {
  const stream = HostStamp.of(rs);
  if (stream === undefined || rs.locked || isDisturbed(rs)) return undefined;
  rs.getReader();
  (rs as unknown as Disturbable)._disturbed = true;
  return stream;
}

/** The number of bytes that a stream will give, if it is the readable end of a FixedLengthStream. */
export function fixedLength(rs: ReadableStream): number | undefined {
  return LengthStamp.of(rs);
}

/** What joins the two ends of an identity stream: at most one write waits for reads, at most one read for a write. */
class Pipe {
  chunk: Uint8Array | undefined;
  closed = false;
  written: (() => void) | undefined;
  refused: ((reason: unknown) => void) | undefined;
  wake: (() => void) | undefined;
  reading: ReadableByteStreamController | undefined;
  left: number | undefined;

  constructor(length: number | undefined) {
    this.left = length;
  }

  poke(): void {
    const wake = this.wake;
    this.wake = undefined;
    wake?.();
  }
}

class PipeSource {
  readonly type = "bytes";
  readonly pipe: Pipe;
  writer!: WritableStreamDefaultController;
  constructor(pipe: Pipe) {
    this.pipe = pipe;
  }

  start(controller: ReadableByteStreamController): void {
    this.pipe.reading = controller;
  }

  async pull(controller: ReadableByteStreamController): Promise<void> {
    const pipe = this.pipe;
    if (pipe.chunk === undefined && !pipe.closed) await new Promise<void>((wake) => (pipe.wake = wake));
    const chunk = pipe.chunk;
    if (chunk === undefined) return;
    const n = deliver(controller, chunk);
    if (n < chunk.length) {
      pipe.chunk = chunk.subarray(n);
      return;
    }
    pipe.chunk = undefined;
    pipe.written!();
  }

  cancel(reason: unknown): void {
    const pipe = this.pipe;
    pipe.closed = true;
    pipe.chunk = undefined;
    this.writer.error(reason);
    pipe.refused?.(reason);
    pipe.poke();
  }
}

class PipeSink {
  readonly pipe: Pipe;
  readonly source: PipeSource;
  constructor(pipe: Pipe, source: PipeSource) {
    this.pipe = pipe;
    this.source = source;
  }

  start(controller: WritableStreamDefaultController): void {
    this.source.writer = controller;
  }

  write(chunk: unknown): Promise<void> | void {
    const pipe = this.pipe;
    const given = typeof chunk === "string" ? host.utf8Encode(chunk) : bytesOf(chunk);
    if (given === undefined) {
      const e = new TypeError("This TransformStream is being used as a byte stream, but received an object of non-ArrayBuffer/ArrayBufferView/string type on its writable side.");
      this.abort(e);
      throw e;
    }
    if (given.length === 0) return;
    if (pipe.left !== undefined) {
      if (given.length > pipe.left) {
        const e = new TypeError("Attempt to write too many bytes through a FixedLengthStream.");
        this.abort(e);
        throw e;
      }
      pipe.left -= given.length;
    }
    return new Promise((written, refused) => {
      pipe.chunk = given.slice();
      pipe.written = written;
      pipe.refused = refused;
      pipe.poke();
    });
  }

  close(): void {
    const pipe = this.pipe;
    if (pipe.left !== undefined && pipe.left > 0) {
      const e = new TypeError("FixedLengthStream did not see all expected bytes before close().");
      this.abort(e);
      throw e;
    }
    pipe.closed = true;
    close(pipe.reading!);
    pipe.poke();
  }

  abort(reason: unknown): void {
    const pipe = this.pipe;
    pipe.closed = true;
    pipe.chunk = undefined;
    pipe.reading!.error(reason);
    pipe.poke();
  }
}

/** Bytes (or text, as UTF-8) in, the same bytes out; a write is done once it was read. */
class IdentityTransformStream {
  readonly #readable: ReadableStream<Uint8Array>;
  readonly #writable: WritableStream<unknown>;

  constructor(queuingStrategy?: { highWaterMark?: number }) {
    const [readable, writable] = joined(undefined, queuingStrategy);
    this.#readable = readable;
    this.#writable = writable;
  }
  get readable(): ReadableStream<Uint8Array> {
    return this.#readable;
  }
  get writable(): WritableStream<unknown> {
    return this.#writable;
  }
}

/** An identity stream that must see exactly so many bytes; as a body it has a Content-Length. */
class FixedLengthStream {
  readonly #readable: ReadableStream<Uint8Array>;
  readonly #writable: WritableStream<unknown>;

  constructor(expectedLength: number | bigint, queuingStrategy?: { highWaterMark?: number }) {
    const length = Math.trunc(Number(expectedLength));
    if (!(length >= 0 && length <= Number.MAX_SAFE_INTEGER)) {
      throw new TypeError("FixedLengthStream requires an integer expected length less than 2^53.");
    }
    const [readable, writable] = joined(length, queuingStrategy);
    new LengthStamp(readable, length);
    this.#readable = readable;
    this.#writable = writable;
  }
  get readable(): ReadableStream<Uint8Array> {
    return this.#readable;
  }
  get writable(): WritableStream<unknown> {
    return this.#writable;
  }
}

function joined(length: number | undefined, strategy?: { highWaterMark?: number }): [ReadableStream<Uint8Array>, WritableStream<unknown>] {
  const pipe = new Pipe(length);
  const source = new PipeSource(pipe);
  const readable = new ReadableStream(source) as ReadableStream<Uint8Array>;
  const writable = new WritableStream(new PipeSink(pipe, source), strategy);
  return [readable, writable];
}

// Subclasses by prototype only: what TransformStream's constructor would build is not needed.
function inherit(child: Function, parent: Function): void {
  Object.setPrototypeOf(child, parent);
  Object.setPrototypeOf(child.prototype, parent.prototype as object);
}
inherit(IdentityTransformStream, TransformStream);
inherit(FixedLengthStream, IdentityTransformStream);
defineInterface(IdentityTransformStream, "IdentityTransformStream");
defineInterface(FixedLengthStream, "FixedLengthStream");

export { FixedLengthStream, IdentityTransformStream };

// --- transfer ------------------------------------------------------------------------------------------------------------

// A transferred stream is another that reads or writes the first one, each chunk a structured clone. It is made before there is a first one.
const origins = new WeakMap<object, { reader?: ReadableStreamDefaultReader; writer?: WritableStreamDefaultWriter }>();

registerTransferable(ReadableStream, {
  shell() {
    const origin: { reader?: ReadableStreamDefaultReader } = {};
    const shell = new ReadableStream({
      async pull(controller) {
        const { done, value } = await origin.reader!.read();
        if (done) return controller.close();
        try {
          controller.enqueue(structuredClone(value));
        } catch (e) {
          origin.reader!.cancel(e).catch(() => {});
          throw e;
        }
      },
      cancel: (reason) => origin.reader!.cancel(reason),
    }, { highWaterMark: 0 });
    origins.set(shell, origin);
    return shell;
  },
  move(from, shell) {
    if (from.locked) throw dataCloneError("A locked ReadableStream cannot be transferred.");
    origins.get(shell)!.reader = from.getReader();
  },
});

registerTransferable(WritableStream, {
  shell() {
    const origin: { writer?: WritableStreamDefaultWriter } = {};
    const shell = new WritableStream({
      async write(chunk) {
        await origin.writer!.ready;
        await origin.writer!.write(structuredClone(chunk));
      },
      close: () => origin.writer!.close(),
      abort: (reason) => origin.writer!.abort(reason),
    });
    origins.set(shell, origin);
    return shell;
  },
  move(from, shell) {
    if (from.locked) throw dataCloneError("A locked WritableStream cannot be transferred.");
    const writer = (origins.get(shell)!.writer = from.getWriter());
    writer.closed.catch(() => {});
    writer.ready.catch(() => {});
  },
});

export const globals = {
  ByteLengthQueuingStrategy,
  CountQueuingStrategy,
  FixedLengthStream,
  IdentityTransformStream,
  ReadableByteStreamController,
  ReadableStream,
  ReadableStreamBYOBReader,
  ReadableStreamBYOBRequest,
  ReadableStreamDefaultController,
  ReadableStreamDefaultReader,
  TransformStream,
  TransformStreamDefaultController,
  WritableStream,
  WritableStreamDefaultController,
  WritableStreamDefaultWriter,
};
