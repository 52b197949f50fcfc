/**
 * Node compatibility as a whole: makes every `node:` module importable and gives the globals that Node programs expect. `install` runs once,
 * while the image is made, after the Web's globals exist.
 */
import punycode from "punycode/punycode.js";
import { console } from "../console";
import { exports as assert, strict } from "./assert";
import { exports as asyncHooks } from "./async_hooks";
import { Buffer, exports as buffer } from "./buffer";
import { exports as crypto } from "./crypto";
import { exports as diagnosticsChannel } from "./diagnostics_channel";
import { unavailable } from "./errors";
import { exports as events } from "./events";
import { constants as osConstants, exports as os } from "./os";
import { posix, win32 } from "./path";
import { builtinModule, builtinNames, process, registerBuiltin } from "./process";
import { exports as querystring } from "./querystring";
import { consumers, exports as stream, promises as streamPromises } from "./stream";
import { exports as stringDecoder } from "./string_decoder";
import { clearImmediate, exports as timers, promises as timersPromises, setImmediate } from "./timers";
import { modules as unavailableModules } from "./unavailable";
import { exports as url } from "./url";
import { exports as util, types } from "./util";
import { exports as zlib } from "./zlib";
import { requireFrom } from "../modules";

export const globals = { Buffer, process, global: globalThis, setImmediate, clearImmediate };

const streamClasses = [
  "ReadableStream", "ReadableStreamDefaultReader", "ReadableStreamBYOBReader", "ReadableStreamBYOBRequest", "ReadableByteStreamController",
  "ReadableStreamDefaultController", "WritableStream", "WritableStreamDefaultWriter", "WritableStreamDefaultController", "TransformStream",
  "TransformStreamDefaultController", "ByteLengthQueuingStrategy", "CountQueuingStrategy", "TextEncoderStream", "TextDecoderStream", "CompressionStream",
  "DecompressionStream",
];

/** The named globals that exist, as an object. */
function fromGlobals(...names: string[]): Record<string, unknown> {
  const all = globalThis as unknown as Record<string, unknown>;
  return Object.fromEntries(names.filter((name) => all[name] !== undefined).map((name) => [name, all[name]]));
}

function webCrypto(): Record<string, unknown> {
  const web = (globalThis as unknown as { crypto?: { subtle: unknown; getRandomValues(a: unknown): unknown } }).crypto;
  return web === undefined ? {} : { webcrypto: web, subtle: web.subtle, getRandomValues: (array: unknown) => web.getRandomValues(array) };
}

function nodeModule(): object {
  function Module(): never {
    throw unavailable("node:module Module");
  }
  return Object.assign(Module, {
    Module,
    builtinModules: builtinNames(),
    isBuiltin: (name: string) => builtinModule(name) !== undefined,
    createRequire: (from: unknown) => requireFrom(`${from as string}`.replace(/^file:\/\/\/?/, "")),
    findSourceMap: () => undefined,
    register: () => undefined,
    syncBuiltinESMExports: () => undefined,
    wrap: (source: string) => `(function (exports, require, module, __filename, __dirname) { ${source}\n});`,
  });
}

function perfHooks(): Record<string, unknown> {
  const constants = { NODE_PERFORMANCE_GC_MAJOR: 4, NODE_PERFORMANCE_GC_MINOR: 1, NODE_PERFORMANCE_GC_INCREMENTAL: 8, NODE_PERFORMANCE_GC_WEAKCB: 16 };
  return { ...fromGlobals("performance", "Performance", "PerformanceEntry", "PerformanceMark", "PerformanceMeasure", "PerformanceObserver"), constants };
}

/** Adds what comes from the Web's globals, then registers everything. */
export function install(): void {
  Object.assign(buffer, fromGlobals("Blob", "File", "atob", "btoa"));
  Object.assign(url, fromGlobals("URL", "URLSearchParams", "URLPattern"));
  Object.assign(util, fromGlobals("TextEncoder", "TextDecoder"));
  Object.assign(crypto, webCrypto());
  const workerThreads = unavailableModules.worker_threads!;
  Object.assign(workerThreads, fromGlobals("MessageChannel", "MessagePort", "BroadcastChannel"));
  const constants = { ...osConstants.errno, ...osConstants.signals };
  const all: Record<string, object> = {
    ...unavailableModules,
    assert, "assert/strict": strict, async_hooks: asyncHooks, buffer, console: { ...console, console }, constants, crypto,
    diagnostics_channel: diagnosticsChannel, events, os, path: posix, "path/posix": posix, "path/win32": win32, perf_hooks: perfHooks(), process, punycode,
    querystring, stream, "stream/consumers": consumers, "stream/promises": streamPromises, "stream/web": fromGlobals(...streamClasses),
    _stream_duplex: stream.Duplex as object, _stream_passthrough: stream.PassThrough as object, _stream_readable: stream.Readable as object,
    _stream_transform: stream.Transform as object, _stream_wrap: stream, _stream_writable: stream.Writable as object,
    string_decoder: stringDecoder, sys: util, timers, "timers/promises": timersPromises, url, util, "util/types": types, zlib,
  };
  for (const name of Object.keys(all)) registerBuiltin(name, all[name]!);
  registerBuiltin("module", nodeModule());
}
