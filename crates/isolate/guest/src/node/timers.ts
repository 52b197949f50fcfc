/**
 * `node:timers` and `node:timers/promises`, and the globals `setImmediate` and `clearImmediate`. The timers themselves are `../timers`.
 */
import { clearTimeout, setInterval, setTimeout, type Timeout } from "../timers";
import { abortError, checkAbortSignal, checkFunction, checkNumber, outOfRange } from "./errors";

type Fn = (...args: any[]) => unknown;

export function setImmediate(f: Fn, ...args: any[]): Timeout {
  checkFunction(f, "callback");
  return setTimeout(f, 0, ...args);
}

export function clearImmediate(timer?: unknown): void {
  clearTimeout(timer);
}

interface Signal {
  aborted: boolean;
  reason: unknown;
  addEventListener(name: string, f: () => void, options?: object): void;
  removeEventListener(name: string, f: () => void): void;
}

interface Options {
  signal?: Signal;
}

function delayed<T>(ms: number | undefined, value: T, { signal }: Options = {}): Promise<T> {
  return new Promise((resolve, reject) => {
    checkAbortSignal(signal, "options.signal");
    if (signal?.aborted) return reject(abortError(signal.reason));
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(abortError(signal!.reason));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve(value);
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

async function* interval<T>(ms: number | undefined, value: T, { signal }: Options = {}): AsyncGenerator<T> {
  checkAbortSignal(signal, "options.signal");
  if (signal?.aborted) throw abortError(signal.reason);
  let due = 0;
  let wake: (() => void) | undefined;
  const timer = setInterval(() => {
    due++;
    wake?.();
  }, ms);
  const onAbort = (): void => wake?.();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    for (;;) {
      if (due === 0) await new Promise<void>((resolve) => (wake = resolve));
      for (; due > 0; due--) yield value;
      if (signal?.aborted) throw abortError(signal.reason);
    }
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

export const promises = {
  setTimeout<T>(ms?: number, value?: T, options?: Options): Promise<T | undefined> {
    if (ms !== undefined) checkNumber(ms, "delay");
    return delayed(ms, value, options);
  },
  setImmediate: <T>(value?: T, options?: Options) => delayed(0, value, options),
  setInterval: <T>(ms?: number, value?: T, options?: Options) => interval(ms, value, options),
  scheduler: {
    wait: (ms: number, options?: Options) => delayed(ms, undefined, options),
    yield: () => delayed(0, undefined),
  },
};

// --- the timers of old ---------------------------------------------------------------------------------------------------

/** Any object with `_onTimeout` can be a timer by these deprecated functions: `enroll` gives it its delay, `active` starts it anew. */
interface Item {
  _idleTimeout?: number;
  _onTimeout?: () => void;
}

const started = new WeakMap<Item, Timeout>();

function unenroll(item: Item): void {
  clearTimeout(started.get(item));
  started.delete(item);
  item._idleTimeout = -1;
}

function enroll(item: Item, ms: number): void {
  checkNumber(ms, "msecs");
  if (!(ms >= 0 && Number.isFinite(ms))) throw outOfRange("msecs", "a non-negative finite number", ms);
  if (started.has(item)) unenroll(item);
  item._idleTimeout = ms;
}

function active(item: Item): void {
  clearTimeout(started.get(item));
  if (!(item._idleTimeout! >= 0)) return;
  started.set(item, setTimeout(() => item._onTimeout?.(), item._idleTimeout));
}

const custom = Symbol.for("nodejs.util.promisify.custom");
Object.defineProperty(setTimeout, custom, { enumerable: true, configurable: true, get: () => promises.setTimeout });
Object.defineProperty(setImmediate, custom, { enumerable: true, configurable: true, get: () => promises.setImmediate });

export const exports = { setTimeout, clearTimeout, setInterval, clearInterval: clearTimeout, setImmediate, clearImmediate, promises, active, _unrefActive: active, enroll, unenroll };
