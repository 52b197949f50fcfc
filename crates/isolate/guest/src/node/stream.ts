/**
 * `node:stream` and its parts: npm readable-stream, bundled over the files of this folder, plus what it lacks: bridges to the Web's streams
 * and the consumers.
 */
import readableStream from "readable-stream/lib/stream.js";
import { Buffer, viewOf, type Buffer as Bytes } from "./buffer";
import { invalidArgType } from "./errors";

/** The shape of readable-stream's classes that this folder relies on. */
interface NodeStream {
  on(name: string, f: (...args: any[]) => void): this;
  once(name: string, f: (...args: any[]) => void): this;
  off(name: string, f: (...args: any[]) => void): this;
  push(chunk: unknown): boolean;
  pause(): this;
  resume(): this;
  write(chunk: unknown, done?: (e?: unknown) => void): boolean;
  end(chunk?: unknown): this;
  destroy(error?: unknown): this;
  readonly destroyed: boolean;
  readonly readableObjectMode: boolean;
  [Symbol.asyncIterator](): AsyncIterableIterator<any>;
}

type StreamClass = new (options?: object) => NodeStream;

interface ReadableStreamPackage {
  Readable: StreamClass & Record<string, unknown>;
  Writable: StreamClass & Record<string, unknown>;
  Duplex: StreamClass & Record<string, unknown>;
  Transform: StreamClass;
  PassThrough: StreamClass;
  finished(stream: unknown, ...rest: unknown[]): () => void;
  pipeline(...streams: unknown[]): unknown;
  promises: object;
  [name: string]: unknown;
}

const library = readableStream as unknown as ReadableStreamPackage;
export const { Readable, Writable, Duplex, Transform, PassThrough, finished, pipeline } = library;
export const promises = library.promises;

// As Node since 22; the package still has 16 KiB.
(library.setDefaultHighWaterMark as (objectMode: boolean, n: number) => void)(false, 64 * 1024);

// --- the Web's streams ---------------------------------------------------------------------------------------------------

interface WebReadable {
  getReader(): { read(): Promise<{ done: boolean; value?: unknown }>; cancel(reason?: unknown): Promise<void> };
}

interface WebWritable {
  getWriter(): { ready: Promise<void>; write(chunk: unknown): Promise<void>; close(): Promise<void>; abort(reason?: unknown): Promise<void> };
}

type Web = Record<"ReadableStream" | "WritableStream", new (source: object, strategy?: object) => any>;
const web = globalThis as unknown as Web;

function fromWebReadable(stream: WebReadable, options: object = {}): NodeStream {
  if (typeof stream?.getReader !== "function") throw invalidArgType("readableStream", "ReadableStream", stream);
  const reader = stream.getReader();
  const readable = new Readable({
    ...options,
    read(this: NodeStream) {
      reader.read().then(
        ({ done, value }) => void this.push(done ? null : value),
        (e: unknown) => void this.destroy(e),
      );
    },
    destroy(error: unknown, done: (e?: unknown) => void) {
      reader.cancel(error ?? undefined).then(() => done(error), () => done(error));
    },
  });
  return readable;
}

function toWebReadable(stream: NodeStream): object {
  const chunkOf = (chunk: unknown): unknown => (Buffer.isBuffer(chunk) ? new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength) : chunk);
  stream.pause();
  return new web.ReadableStream(
    {
      start(controller: { enqueue(c: unknown): void; close(): void; error(e: unknown): void; desiredSize: number | null }) {
        stream.on("data", (chunk) => {
          controller.enqueue(chunkOf(chunk));
          if ((controller.desiredSize ?? 0) <= 0) stream.pause();
        });
        stream.pause();
        finished(stream, { writable: false }, (error: unknown) => (error ? controller.error(error) : controller.close()));
      },
      pull: () => void stream.resume(),
      cancel: (reason: unknown) => void stream.destroy(reason),
    },
    { highWaterMark: 1 },
  );
}

function writerOptions(writer: ReturnType<WebWritable["getWriter"]>): object {
  return {
    write(chunk: unknown, _encoding: string, done: (e?: unknown) => void) {
      writer.ready.then(() => writer.write(chunk)).then(() => done(), done);
    },
    final(done: (e?: unknown) => void) {
      writer.close().then(() => done(), done);
    },
    destroy(error: unknown, done: (e?: unknown) => void) {
      if (error) writer.abort(error).then(() => done(error), () => done(error));
      else done();
    },
  };
}

function fromWebWritable(stream: WebWritable, options: object = {}): NodeStream {
  if (typeof stream?.getWriter !== "function") throw invalidArgType("writableStream", "WritableStream", stream);
  return new Writable({ ...options, ...writerOptions(stream.getWriter()) });
}

function toWebWritable(stream: NodeStream): object {
  return new web.WritableStream({
    write: (chunk: unknown) =>
      new Promise<void>((resolve, reject) => {
        stream.write(chunk, (e) => (e ? reject(e) : resolve()));
      }),
    close: () =>
      new Promise<void>((resolve, reject) => {
        finished(stream, { readable: false }, (e: unknown) => (e ? reject(e) : resolve()));
        stream.end();
      }),
    abort: (reason: unknown) => void stream.destroy(reason),
  });
}

function fromWebDuplex(pair: { readable: WebReadable; writable: WebWritable }, options: object = {}): NodeStream {
  const reader = pair.readable.getReader();
  return new Duplex({
    ...options,
    ...writerOptions(pair.writable.getWriter()),
    read(this: NodeStream) {
      reader.read().then(({ done, value }) => void this.push(done ? null : value), (e: unknown) => void this.destroy(e));
    },
  });
}

Object.assign(Readable, { fromWeb: fromWebReadable, toWeb: toWebReadable });
Object.assign(Writable, { fromWeb: fromWebWritable, toWeb: toWebWritable });
Object.assign(Duplex, { fromWeb: fromWebDuplex, toWeb: (stream: NodeStream) => ({ readable: toWebReadable(stream), writable: toWebWritable(stream) }) });

// --- consumers -----------------------------------------------------------------------------------------------------------

async function bytesOf(stream: AsyncIterable<unknown>): Promise<Bytes> {
  const parts: Uint8Array[] = [];
  for await (const chunk of stream) {
    parts.push(typeof chunk === "string" ? Buffer.from(chunk) : ArrayBuffer.isView(chunk) ? new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength) : Buffer.from(chunk));
  }
  return Buffer.concat(parts);
}

async function text(stream: AsyncIterable<unknown>): Promise<string> {
  return (await bytesOf(stream)).toString();
}

export const consumers = {
  arrayBuffer: async (stream: AsyncIterable<unknown>) => (await bytesOf(stream)).slice().buffer.slice(0),
  blob: async (stream: AsyncIterable<unknown>) => new (globalThis as unknown as { Blob: new (parts: unknown[]) => object }).Blob([await bytesOf(stream)]),
  buffer: bytesOf,
  bytes: async (stream: AsyncIterable<unknown>) => new Uint8Array(viewOf(await bytesOf(stream))),
  json: async (stream: AsyncIterable<unknown>) => JSON.parse(await text(stream)) as unknown,
  text,
};

export const exports = library as Record<string, unknown>;
