/**
 * `node:events`: EventEmitter and its statics. An emitter keeps its listeners in `_events` as Node does (a function for one listener, an
 * array for more), because libraries look there.
 */
import { AsyncResource } from "./async_hooks";
import { inspect } from "../inspect";
import { abortError, checkAbortSignal, checkFunction, invalidArgType, nodeError, outOfRange } from "./errors";

type Name = string | symbol;
type Fn = ((...args: any[]) => any) & { listener?: Fn };
type Listeners = Record<Name, Fn | Fn[]>;

const captureRejectionSymbol = Symbol.for("nodejs.rejection");
const errorMonitor = Symbol("events.errorMonitor");
/** On emitters (or, by `EventEmitter.captureRejections`, on their prototype) that give rejections of their listeners to `error`. */
const captures = Symbol("kCapture");
const apply = Reflect.apply;

let defaultMaxListeners = 10;

function checkMax(n: unknown, name: string): asserts n is number {
  if (typeof n !== "number") throw invalidArgType(name, "number", n);
  if (!(n >= 0)) throw outOfRange(name, ">= 0", n);
}

// A constructor function, not a class: `EventEmitter.call(this)` and `util.inherits` are common in libraries.
export interface EventEmitter {
  _events: Listeners | undefined;
  _eventsCount: number;
  _maxListeners: number | undefined;
  [captures]?: boolean;
  on(name: Name, listener: Fn): this;
  addListener(name: Name, listener: Fn): this;
  prependListener(name: Name, listener: Fn): this;
  once(name: Name, listener: Fn): this;
  prependOnceListener(name: Name, listener: Fn): this;
  off(name: Name, listener: Fn): this;
  removeListener(name: Name, listener: Fn): this;
  removeAllListeners(name?: Name): this;
  emit(name: Name, ...args: any[]): boolean;
  eventNames(): Name[];
  listenerCount(name: Name, listener?: Fn): number;
  listeners(name: Name): Fn[];
  rawListeners(name: Name): Fn[];
  setMaxListeners(n: number): this;
  getMaxListeners(): number;
}

export function EventEmitter(this: EventEmitter, options?: { captureRejections?: boolean }): void {
  (EventEmitter as unknown as { init(this: EventEmitter, options?: object): void }).init.call(this, options);
}

function setCaptures(emitter: EventEmitter, value: unknown, name: string): void {
  if (typeof value !== "boolean") throw invalidArgType(name, "boolean", value);
  Object.defineProperty(emitter, captures, { value, writable: true, configurable: true, enumerable: false });
}

/** Follows what a listener returned, if it is a promise: its rejection goes to the emitter's own method for it, or becomes an `error`. */
function catchRejection(emitter: EventEmitter, result: unknown, name: Name, args: any[]): void {
  const failed = (e: unknown): void => {
    const own = (emitter as unknown as Record<symbol, unknown>)[captureRejectionSymbol];
    if (typeof own === "function") return void apply(own, emitter, [e, name, ...args]);
    // An error listener that rejects too must not call itself for ever.
    const before = emitter[captures];
    setCaptures(emitter, false, "captureRejections");
    try {
      emitter.emit("error", e);
    } finally {
      setCaptures(emitter, before, "captureRejections");
    }
  };
  try {
    const then = (result as PromiseLike<unknown>).then as unknown;
    if (typeof then === "function") apply(then, result, [undefined, (e: unknown) => queueMicrotask(() => failed(e))]);
  } catch (e) {
    emitter.emit("error", e);
  }
}

function init(this: EventEmitter, options?: { captureRejections?: unknown }): void {
  if (this._events === undefined || this._events === (Object.getPrototypeOf(this) as EventEmitter)._events) {
    this._events = Object.create(null) as Listeners;
    this._eventsCount = 0;
  }
  this._maxListeners ||= undefined;
  if (options?.captureRejections) setCaptures(this, options.captureRejections, "options.captureRejections");
}

function add(target: EventEmitter, name: Name, listener: Fn, first: boolean): EventEmitter {
  checkFunction(listener, "listener");
  let events = target._events;
  if (events === undefined) {
    events = target._events = Object.create(null) as Listeners;
    target._eventsCount = 0;
  } else if (events.newListener !== undefined) {
    target.emit("newListener", name, listener.listener ?? listener);
    events = target._events!; // a listener may have replaced it
  }
  const existing = events[name];
  if (existing === undefined) {
    events[name] = listener;
    target._eventsCount++;
  } else if (typeof existing === "function") {
    events[name] = first ? [listener, existing] : [existing, listener];
  } else if (first) existing.unshift(listener);
  else existing.push(listener);
  warnOfLeak(target, name, events[name]!);
  return target;
}

function warnOfLeak(target: EventEmitter, name: Name, list: (Fn | Fn[]) & { warned?: boolean }): void {
  if (typeof list === "function") return;
  const most = target.getMaxListeners();
  if (most <= 0 || list.length <= most || list.warned) return;
  Object.defineProperty(list, "warned", { value: true, enumerable: false });
  const kind = inspect(target, { depth: -1 });
  console.warn(
    `MaxListenersExceededWarning: Possible EventEmitter memory leak detected. ${list.length} ${String(name)} listeners added to ${kind}. ` +
      `MaxListeners is ${most}. Use emitter.setMaxListeners() to increase limit`,
  );
}

declare const console: { warn(...args: unknown[]): void };

function onceWrapper(target: EventEmitter, name: Name, listener: Fn): Fn {
  let fired = false;
  const wrapper: Fn = function (...args: any[]) {
    if (fired) return;
    fired = true;
    target.removeListener(name, wrapper);
    return apply(listener, target, args);
  };
  wrapper.listener = listener;
  return wrapper;
}

function throwUnhandled(args: any[]): never {
  const e: unknown = args[0];
  if (Error.isError(e)) throw e;
  let shown: string;
  try {
    shown = inspect(e);
  } catch {
    shown = String(e);
  }
  const error = nodeError(Error, "ERR_UNHANDLED_ERROR", `Unhandled error. (${shown})`);
  (error as unknown as { context: unknown }).context = e;
  throw error;
}

function listOf(target: EventEmitter, name: Name, unwrap: boolean): Fn[] {
  const found = target._events?.[name];
  if (found === undefined) return [];
  const list = typeof found === "function" ? [found] : found;
  return unwrap ? list.map((f) => f.listener ?? f) : list.slice();
}

const methods: Omit<EventEmitter, "_events" | "_eventsCount" | "_maxListeners"> & ThisType<EventEmitter> = {
  setMaxListeners(n) {
    checkMax(n, "setMaxListeners");
    this._maxListeners = n;
    return this;
  },
  getMaxListeners() {
    return this._maxListeners ?? defaultMaxListeners;
  },
  emit(name, ...args) {
    const events = this._events;
    if (name === "error") {
      if (events?.[errorMonitor] !== undefined) this.emit(errorMonitor, ...args);
      if (events?.error === undefined) throwUnhandled(args);
    }
    const found = events?.[name];
    if (found === undefined) return false;
    if (typeof found === "function") {
      const result: unknown = apply(found, this, args);
      if (typeof result === "object" && result !== null && this[captures]) catchRejection(this, result, name, args);
      return true;
    }
    for (const f of found.slice()) {
      const result: unknown = apply(f, this, args);
      if (typeof result === "object" && result !== null && this[captures]) catchRejection(this, result, name, args);
    }
    return true;
  },
  on(name, listener) {
    return add(this, name, listener, false) as any;
  },
  addListener(name, listener) {
    return add(this, name, listener, false) as any;
  },
  prependListener(name, listener) {
    return add(this, name, listener, true) as any;
  },
  once(name, listener) {
    checkFunction(listener, "listener");
    return this.on(name, onceWrapper(this, name, listener)) as any;
  },
  prependOnceListener(name, listener) {
    checkFunction(listener, "listener");
    return this.prependListener(name, onceWrapper(this, name, listener)) as any;
  },
  off(name, listener) {
    return this.removeListener(name, listener) as any;
  },
  removeListener(name, listener) {
    checkFunction(listener, "listener");
    const events = this._events;
    const found = events?.[name];
    if (events === undefined || found === undefined) return this as any;
    if (typeof found === "function") {
      if (found !== listener && found.listener !== listener) return this as any;
      delete events[name];
      this._eventsCount--;
    } else {
      const i = found.findLastIndex((f) => f === listener || f.listener === listener);
      if (i < 0) return this as any;
      if (found.length === 2) events[name] = found[1 - i]!;
      else found.splice(i, 1);
    }
    if (events.removeListener !== undefined) this.emit("removeListener", name, listener);
    return this as any;
  },
  removeAllListeners(name) {
    const events = this._events;
    if (events === undefined) return this as any;
    if (events.removeListener === undefined) {
      if (arguments.length === 0) {
        this._events = Object.create(null) as Listeners;
        this._eventsCount = 0;
      } else if (events[name!] !== undefined) {
        delete events[name!];
        this._eventsCount--;
      }
      return this as any;
    }
    if (arguments.length === 0) {
      for (const key of Reflect.ownKeys(events)) if (key !== "removeListener") this.removeAllListeners(key);
      this.removeAllListeners("removeListener");
      return this as any;
    }
    for (const f of listOf(this, name!, false).reverse()) this.removeListener(name!, f);
    return this as any;
  },
  eventNames() {
    return this._events === undefined ? [] : Reflect.ownKeys(this._events);
  },
  listenerCount(name, listener) {
    const found = this._events?.[name];
    if (found === undefined) return 0;
    const list = typeof found === "function" ? [found] : found;
    return listener === undefined || listener === null ? list.length : list.filter((f) => f === listener || f.listener === listener).length;
  },
  listeners(name) {
    return listOf(this, name, true);
  },
  rawListeners(name) {
    return listOf(this, name, false);
  },
};

Object.assign(EventEmitter.prototype, methods, { _events: undefined, _eventsCount: 0, _maxListeners: undefined });

// --- statics ------------------------------------------------------------------------------------------------------------

interface Target {
  addEventListener(name: Name, f: Fn, options?: object): void;
  removeEventListener(name: Name, f: Fn, options?: object): void;
}

interface Signal extends Target {
  aborted: boolean;
  reason: unknown;
}

function listen(emitter: EventEmitter | Target, name: Name, f: Fn, once: boolean): () => void {
  if (typeof (emitter as EventEmitter)?.on === "function") {
    const e = emitter as EventEmitter;
    if (once) e.once(name, f);
    else e.on(name, f);
    return () => void e.removeListener(name, f);
  }
  if (typeof (emitter as Target)?.addEventListener === "function") {
    const e = emitter as Target;
    e.addEventListener(name, f, { once });
    return () => e.removeEventListener(name, f);
  }
  throw invalidArgType("emitter", "EventEmitter", emitter);
}

/** Resolves with the arguments of the next event; rejects with the next `error`. */
export async function once(emitter: EventEmitter | Target, name: Name, options: { signal?: Signal } = {}): Promise<any[]> {
  const signal = options.signal;
  checkAbortSignal(signal, "options.signal");
  if (signal?.aborted) throw abortError(signal.reason);
  return new Promise((resolve, reject) => {
    const stops: (() => void)[] = [];
    const settle = (end: () => void): void => {
      for (const stop of stops) stop();
      end();
    };
    stops.push(listen(emitter, name, (...args) => settle(() => resolve(args)), true));
    if (name !== "error" && typeof (emitter as EventEmitter).once === "function") {
      stops.push(listen(emitter, "error", (e) => settle(() => reject(e)), true));
    }
    if (signal) stops.push(listen(signal, "abort", () => settle(() => reject(abortError(signal.reason))), true));
  });
}

class EventIterator {
  #queue: unknown[][] = [];
  #waiting: PromiseWithResolvers<IteratorResult<unknown>>[] = [];
  #error: [unknown] | undefined;
  #finished = false;
  #stops: (() => void)[] = [];

  constructor(emitter: EventEmitter | Target, name: Name, signal: Signal | undefined, close: Name[]) {
    this.#stops.push(listen(emitter, name, (...args) => this.#push(args), false));
    if (name !== "error" && typeof (emitter as EventEmitter).on === "function") {
      this.#stops.push(listen(emitter, "error", (e) => this.#fail(e), false));
    }
    for (const end of close) this.#stops.push(listen(emitter, end, () => this.#finish(), false));
    if (signal) this.#stops.push(listen(signal, "abort", () => this.#fail(abortError(signal.reason)), true));
  }

  #push(args: unknown[]): void {
    const waiting = this.#waiting.shift();
    if (waiting) waiting.resolve({ value: args, done: false });
    else this.#queue.push(args);
  }

  #fail(e: unknown): void {
    const waiting = this.#waiting.shift();
    if (waiting) waiting.reject(e);
    else this.#error = [e];
    this.#finish();
  }

  #finish(): void {
    this.#finished = true;
    for (const stop of this.#stops) stop();
    for (const waiting of this.#waiting.splice(0)) waiting.resolve({ value: undefined, done: true });
  }

  next(): Promise<IteratorResult<unknown>> {
    const value = this.#queue.shift();
    if (value !== undefined) return Promise.resolve({ value, done: false });
    if (this.#error !== undefined) {
      const [e] = this.#error;
      this.#error = undefined;
      return Promise.reject(e);
    }
    if (this.#finished) return Promise.resolve({ value: undefined, done: true });
    const waiting = Promise.withResolvers<IteratorResult<unknown>>();
    this.#waiting.push(waiting);
    return waiting.promise;
  }

  return(): Promise<IteratorResult<unknown>> {
    this.#finish();
    return Promise.resolve({ value: undefined, done: true });
  }

  throw(e: unknown): void {
    if (!Error.isError(e)) throw invalidArgType("EventEmitter.AsyncIterator", "Error", e);
    this.#error = [e];
    this.#finish();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

export function on(emitter: EventEmitter | Target, name: Name, options: { signal?: Signal; close?: Name[] } = {}): EventIterator {
  checkAbortSignal(options.signal, "options.signal");
  if (options.signal?.aborted) throw abortError(options.signal.reason);
  return new EventIterator(emitter, name, options.signal, options.close ?? []);
}

export function getEventListeners(emitter: EventEmitter, name: Name): Fn[] {
  if (typeof emitter?.listeners === "function") return emitter.listeners(name);
  if (typeof (emitter as unknown as Target)?.addEventListener === "function") return [];
  throw invalidArgType("emitter", ["EventEmitter", "EventTarget"], emitter);
}

export function setMaxListeners(n = defaultMaxListeners, ...targets: EventEmitter[]): void {
  checkMax(n, "setMaxListeners");
  if (targets.length === 0) defaultMaxListeners = n;
  for (const target of targets) if (typeof target?.setMaxListeners === "function") target.setMaxListeners(n);
}

export function getMaxListeners(emitter: EventEmitter): number {
  return typeof emitter?.getMaxListeners === "function" ? emitter.getMaxListeners() : defaultMaxListeners;
}

export function listenerCount(emitter: EventEmitter, name: Name): number {
  return emitter.listenerCount(name);
}

export function addAbortListener(signal: Signal, listener: Fn): { [Symbol.dispose](): void } {
  if (signal === undefined) throw invalidArgType("signal", "AbortSignal", signal);
  checkAbortSignal(signal, "signal");
  checkFunction(listener, "listener");
  if (signal.aborted) queueMicrotask(() => listener());
  else signal.addEventListener("abort", listener, { once: true });
  return { [Symbol.dispose]: () => signal.removeEventListener("abort", listener) };
}

const Emitter = EventEmitter as unknown as new () => EventEmitter;

/** An EventEmitter whose listeners run in the async context of its construction. */
export class EventEmitterAsyncResource extends Emitter {
  #resource: AsyncResource;

  constructor(options: { name?: string } | string = {}) {
    super();
    this.#resource = new AsyncResource((typeof options === "string" ? options : options.name) ?? new.target.name);
  }

  override emit(name: Name, ...args: any[]): boolean {
    return this.#resource.runInAsyncScope(super.emit, this, name, ...args);
  }

  emitDestroy(): void {}

  get asyncResource(): AsyncResource {
    return this.#resource;
  }

  get asyncId(): number {
    return this.#resource.asyncId();
  }

  get triggerAsyncId(): number {
    return this.#resource.triggerAsyncId();
  }
}

Object.assign(EventEmitter, {
  init,
  EventEmitter,
  EventEmitterAsyncResource,
  errorMonitor,
  captureRejectionSymbol,
  usingDomains: false,
  once,
  on,
  getEventListeners,
  getMaxListeners,
  setMaxListeners,
  listenerCount,
  addAbortListener,
});
Object.defineProperty(EventEmitter, "captureRejections", {
  enumerable: true,
  get: () => (EventEmitter.prototype as EventEmitter)[captures] === true,
  set: (value: unknown) => setCaptures(EventEmitter.prototype as EventEmitter, value, "EventEmitter.captureRejections"),
});
Object.defineProperty(EventEmitter, "defaultMaxListeners", {
  enumerable: true,
  get: () => defaultMaxListeners,
  set(n: unknown) {
    checkMax(n, "defaultMaxListeners");
    defaultMaxListeners = n;
  },
});

export const exports = EventEmitter;
