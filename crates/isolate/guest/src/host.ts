/**
 * The guest's end of the ABI in docs/design/guest-abi.md: typed calls to the host, started operations and their completions,
 * and the dispatch of events by kind. Driven by the host through one callback; used by every other file here. It knows no Web API.
 */
import { state } from "./state";

/** What may cross between guest and host: plain data only. */
export type Wire = undefined | null | boolean | number | string | Uint8Array | Error | Wire[] | { [key: string]: Wire };

/** The engine's raw object, found once while the image is made. */
export interface RawHost {
  call(op: string, ...args: Wire[]): Wire;
  /** Sets the object that has a listener for each kind of event. */
  onEvents(listeners: object): void;
  onReject(f: (promise: Promise<unknown>, reason: unknown, handled: boolean) => void): void;
  onModule(f: (name: string, kind: string, content: string | Uint8Array) => object): void;
  /** As `call`, for operations that may run WebAssembly. */
  wasm(op: string, ...args: Wire[]): Wire;
  /** Calls a function of WebAssembly with letters for its parameters and results. */
  wasmCall(number: number, params: string, results: string, args: unknown[]): unknown;
  onWasm(f: (kind: number, ...args: any[]) => unknown): void;
  wasmThrown(): unknown;
  wasmBuffer(at: number, length: number): ArrayBuffer;
  wasmDetach(buffer: ArrayBuffer): void;
  setTimer(at: number): void;
  now(): number;
  importModule(name: string): Promise<object>;
  /** Where `name` stands in a flat list of names and values, at `from` or after; -1 when it does not. */
  indexOfName(list: readonly string[], name: string, from: number): number;
  /** Splits `a=b&c` into a flat list of names and values, still escaped. */
  splitPairs(text: string): string[];
  /** What a promise was fulfilled with; `otherwise` while it is pending, when it was rejected, and for what is no promise. */
  fulfilled<T>(promise: unknown, otherwise: T): unknown;
  /** References to an object: as many as the caller knows of, or somebody else has one too. */
  references(v: object): number;
  /** Whether a promise is pending and nobody has asked for what it will bring. */
  unheard(promise: object): boolean;
  promiseState(p: Promise<unknown>): [0 | 1 | 2, unknown];
  asyncContext(): unknown;
  setAsyncContext(v: unknown): void;
  utf8Encode(s: string): Uint8Array;
  utf8Decode(b: Uint8Array, fatal: boolean, ignoreBOM: boolean): string;
  detach(b: ArrayBuffer): void;
  getProxyDetails(v: unknown): undefined | [object, object];
  /** What an iterator of a Map or Set will still give: up to `most` of it (pairs flattened), how many more there are, and whether it gives pairs. */
  previewIterator(v: object, most: number): undefined | [items: unknown[], left: number, pairs: boolean];
  registerModule(name: string, exports: object): void;
}

const raw = (globalThis as unknown as { __host: RawHost }).__host;
delete (globalThis as { __host?: RawHost }).__host;

export type Listener = (...args: any[]) => void;

/** The error of whatever the host held for this isolate when it was hibernated: it is gone after waking. */
export function hibernationError(what: string): DOMException {
  return new DOMException(`${what} was lost because the isolate was hibernated`, "HibernationError");
}

// A null prototype: event kinds come from the host, but a polluted Object.prototype must not add any.
const listeners: Record<string, Listener> = Object.create(null);
type Waker = (bindings: any, identity: any) => void;
const wakers: Waker[] = [];

// Of the native classes the engine cannot make these two from outside: they arrive as DOMExceptions of that name.
const rare: Record<string, object> = Object.assign(Object.create(null) as object, { URIError: URIError.prototype, EvalError: EvalError.prototype });

const natives: Record<string, ErrorConstructor> = Object.assign(Object.create(null) as object, {
  "": Error, Error, TypeError, RangeError, SyntaxError, ReferenceError, URIError, EvalError,
});
/** References to an answer from here: of its two functions, of the entry, of a variable, and of a call's argument. */
const OWN_REFERENCES = 5;
const RESET = "reset:";
// Names of DOMExceptions that have no code of old.
const modern = ["EncodingError", "NotReadableError", "UnknownError", "ConstraintError", "DataError", "OperationError", "NotAllowedError", "HibernationError"];

/** An error as a script would have thrown it: of a native class, a DOMException, or an Error that calls itself otherwise. */
function errorNamed(name: string, message: string): Error {
  const Native = natives[name];
  if (Native !== undefined) return new Native(message);
  const exception = new DOMException(message, name);
  if (exception.code !== 0 || modern.includes(name)) return exception;
  return Object.defineProperty(new Error(message), "name", { value: name, writable: true, enumerable: false, configurable: true });
}

/** The error of a call to an actor that was ended or never began. */
function resetError(name: string, message: string): Error {
  return Object.assign(errorNamed(name, message), { durableObjectReset: true });
}

function thrown(value: Wire): unknown {
  if (value instanceof DOMException && value.name.startsWith(RESET)) return resetError(value.name.slice(RESET.length), value.message);
  const prototype = value instanceof DOMException ? rare[value.name] : undefined;
  return prototype === undefined ? value : Object.setPrototypeOf(new Error((value as Error).message), prototype);
}

export type Ended = (early: boolean) => void;

/** A start that waits for its completion. */
export interface Pending {
  resolve(value: unknown): void;
  reject(reason: unknown): void;
  /** What its promise is fulfilled with, made of the completion: as a promise derived from it would have it, without being one. */
  readonly made: ((value: any) => unknown) | undefined;
  /** Runs once, however it ends; `early`: when it has only been started in this turn, and goes on without this side. */
  readonly ended: Ended | undefined;
  /** The promise, where it brings the answer to a request that could be passed on unseen, and whether that has no body whatever it says. */
  answer: object | undefined;
  bodyless: boolean;
}

function settle(id: number, ok: boolean, value: Wire): void {
  const entry = state.pending?.get(id);
  if (entry === undefined) return; // abandoned
  state.pending!.delete(id);
  entry.ended?.(false);
  if (!ok) return entry.reject(thrown(value));
  if (entry.made === undefined) return entry.resolve(value);
  try {
    entry.resolve(entry.made(value));
  } catch (e) {
    entry.reject(e);
  }
}

function wake(lost: number[], bindings: Wire, identity: Wire): void {
  state.wakes++;
  for (const id of lost) settle(id, false, hibernationError("An operation in flight") as unknown as Wire);
  for (const f of wakers) f(bindings, identity);
}

/** Allocates the id of a `start`; `host.startAs` issues it. Only needed by code that may abandon it. */
function nextId(): number {
  return (state.lastStart = state.lastStart >= 0x7fffffff ? 1 : state.lastStart + 1);
}

function startAs(id: number, op: string, args: Wire[], made?: Pending["made"], ended?: Ended): Promise<any> {
  return new Promise((resolve, reject) => {
    (state.pending ??= new Map()).set(id, { resolve, reject, made, ended, answer: undefined, bodyless: false });
    try {
      raw.call("start", op, id, ...args);
    } catch (e) {
      state.pending.delete(id);
      ended?.(false);
      reject(e);
    }
  });
}

export const host = {
  raw,
  /** Synchronous host call; throws what the host answers as an error. */
  call: raw.call as (op: string, ...args: Wire[]) => any,
  now: raw.now,
  utf8Encode: raw.utf8Encode,
  utf8Decode: raw.utf8Decode,

  /** Starts an operation; settles when the host delivers its completion. */
  start(op: string, ...args: Wire[]): Promise<any> {
    return startAs(nextId(), op, args);
  },

  /** Says that an operation brings the answer to a request, as `Pending` has it. */
  answers(id: number, answer: object, bodyless: boolean): void {
    const entry = state.pending?.get(id);
    if (entry !== undefined) Object.assign(entry, { answer, bodyless });
  },

  /**
   * If `answer` is brought by the operation that was started last, and nobody else refers to it, that is from now on the host's alone: returns its id,
   * and whether the answer has no body. `known`: the references that the caller has.
   */
  letGo(answer: object, known: number): [id: number, bodyless: boolean] | undefined {
    const id = state.lastStart, entry = state.pending?.get(id);
    if (entry?.answer !== answer || !raw.unheard(answer) || raw.references(answer) !== known + OWN_REFERENCES) return undefined;
    state.pending!.delete(id);
    entry.ended?.(true);
    return [id, entry.bodyless];
  },

  nextId,
  /** As `start`, under an id from `nextId` by which it can be abandoned. */
  startAs,
  /** Gives up on a start: its promise stays pending unless `reason` is given, then it rejects with it. */
  abandon(id: number, reason?: unknown): void {
    const entry = state.pending?.get(id);
    if (entry === undefined) return;
    state.pending!.delete(id);
    raw.call("abandon", id);
    entry.ended?.(false);
    if (reason !== undefined) entry.reject(reason);
  },

  /** Registers the one listener of an event kind. */
  on(kind: string, listener: Listener): void {
    listeners[kind] = listener;
  },

  /** Runs after a snapshot was woken, once lost starts have been rejected, with the descriptors of the bindings as they are now and, of an actor, who it is. */
  onWake(f: Waker): void {
    wakers.push(f);
  },
};

host.on("complete", settle);
host.on("wake", wake);

raw.onEvents(listeners);
