/**
 * setTimeout, setInterval and scheduler.wait: a binary heap of deadlines over the one timer that the host keeps for an isolate. Each `timers`
 * event runs one callback, so that microtasks drain between two of them, as the standard asks. As on workerd there is no minimum delay.
 */
import { host } from "./host";
import { reportException } from "./events";
import { state } from "./state";
import { defineInterface, rename } from "./webidl";
import { AbortSignal, addAbortAlgorithm, removeAbortAlgorithm } from "./abort";

type Callback = (...args: unknown[]) => unknown;

// Later than any deadline that can be reached; a longer delay never fires instead of wrapping round.
const longest = 3_153_600_000_000;

let schedule: (callback: Callback, delay: unknown, args: unknown[] | undefined, repeat: boolean) => Timeout;
let cancel: (timer: Timeout) => void;
let cancelId: (id: number) => void;
let runNext: () => void;
let nextDeadline: () => number;
/** Timers set so far wait until `releaseTimers`: the input gate is held. Does not nest. */
export let holdTimers: () => void;
export let releaseTimers: () => void;

/** What `setTimeout` returns: Node's `Timeout`, which is also a number. */
export class Timeout {
  #id = ++state.lastTimer;
  #at = 0;
  #order = this.#id;
  #index = -1;
  #delay: number;
  #repeat: boolean;
  #callback: Callback;
  #args: unknown[] | undefined;
  #context: unknown = host.raw.asyncContext();
  #held = true;

  constructor(callback: Callback, delay: number, args: unknown[] | undefined, repeat: boolean) {
    this.#callback = callback;
    this.#delay = delay;
    this.#args = args;
    this.#repeat = repeat;
  }

  refresh(): this {
    if (this.#index >= 0) {
      Timeout.#remove(this);
      this.#arm();
    }
    return this;
  }

  unref(): this { this.#held = false; return this; }
  ref(): this { this.#held = true; return this; }
  hasRef(): boolean { return this.#held; }
  close(): this { Timeout.#remove(this); return this; }
  [Symbol.toPrimitive](): number { return this.#id; }
  [Symbol.dispose](): void { Timeout.#remove(this); }

  #arm(timers: Timeout[] = (state.heap ??= [])): void {
    this.#at = host.now() + this.#delay;
    this.#order = ++state.lastTimer;
    timers.push(this);
    Timeout.#up(timers, timers.length - 1);
    arm();
  }

  #before(other: Timeout): boolean {
    return this.#at < other.#at || (this.#at === other.#at && this.#order < other.#order);
  }

  static #up(timers: Timeout[], from: number): void {
    const timer = timers[from]!;
    let i = from;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const above = timers[parent]!;
      if (!timer.#before(above)) break;
      timers[i] = above;
      above.#index = i;
      i = parent;
    }
    timers[i] = timer;
    timer.#index = i;
  }

  static #down(timers: Timeout[], from: number): void {
    const timer = timers[from]!;
    const length = timers.length;
    let i = from;
    for (let child = 2 * i + 1; child < length; child = 2 * i + 1) {
      if (child + 1 < length && timers[child + 1]!.#before(timers[child]!)) child++;
      const below = timers[child]!;
      if (!below.#before(timer)) break;
      timers[i] = below;
      below.#index = i;
      i = child;
    }
    timers[i] = timer;
    timer.#index = i;
  }

  static #remove(timer: Timeout): void {
    const i = timer.#index;
    timer.#repeat = false;
    if (i < 0) return;
    timer.#index = -1;
    const timers = state.heap?.[i] === timer ? state.heap : state.heldTimers!;
    const last = timers.pop()!;
    if (last !== timer) {
      timers[i] = last;
      last.#index = i;
      Timeout.#down(timers, i);
      if (last.#index === i) Timeout.#up(timers, i);
    }
    arm();
  }

  #run(): void {
    const context = host.raw.asyncContext();
    host.raw.setAsyncContext(this.#context);
    try {
      const callback = this.#callback;
      if (this.#args === undefined) callback.call(globalThis);
      else callback.apply(globalThis, this.#args);
    } catch (e) {
      reportException(e);
    } finally {
      host.raw.setAsyncContext(context);
    }
  }

  static {
    schedule = (callback, delay, args, repeat) => {
      const ms = Math.trunc(Number(delay));
      const timer = new Timeout(callback, ms > 0 ? Math.min(ms, longest) : 0, args, repeat);
      timer.#arm();
      return timer;
    };
    cancel = (timer) => {
      if (#id in timer) Timeout.#remove(timer);
    };
    cancelId = (id) => {
      const isIt = (t: Timeout | undefined): boolean => t !== undefined && t.#id === id;
      const timer = isIt(state.running) ? state.running : (state.heap?.find(isIt) ?? state.heldTimers?.find(isIt));
      if (timer !== undefined) Timeout.#remove(timer);
    };
    holdTimers = () => {
      state.heldTimers = state.heap;
      state.heap = undefined;
      arm();
    };
    releaseTimers = () => {
      const held = state.heldTimers;
      state.heldTimers = undefined;
      if (held === undefined) return;
      const timers = (state.heap ??= []);
      for (const timer of held) {
        timers.push(timer);
        Timeout.#up(timers, timers.length - 1);
      }
      arm();
    };
    nextDeadline = () => {
      const next = state.heap?.[0];
      return next === undefined ? Infinity : next.#at;
    };
    runNext = () => {
      const timer = state.heap?.[0];
      if (timer === undefined || timer.#at > host.now()) return;
      const repeat = timer.#repeat;
      const blocks = state.actor?.blocks;
      Timeout.#remove(timer);
      timer.#repeat = repeat;
      state.running = timer;
      timer.#run();
      state.running = undefined;
      // Its own callback may have cleared it, or refreshed it back into the heap.
      if (!timer.#repeat || timer.#index >= 0) return;
      // One whose callback shut the gate was set before that.
      timer.#arm(blocks === 0 && state.actor!.blocks > 0 ? (state.heldTimers ??= []) : undefined);
    };
  }
}

rename(Timeout, "Timeout");

/** Tells the host the next deadline, when it changed. */
function arm(): void {
  const at = state.turnEnds !== undefined ? 0 : nextDeadline();
  if (at === state.armed) return;
  state.armed = at;
  host.raw.setTimer(at);
}

/** Runs `f` before the next timer, in a turn of its own: all microtasks of this turn are done by then. */
export function afterTurn(f: () => void): void {
  (state.turnEnds ??= []).push(f);
  arm();
}

host.on("timers", () => {
  state.armed = NaN; // used up: whatever is next must be told
  if (state.turnEnds !== undefined) {
    const ended = state.turnEnds;
    state.turnEnds = undefined;
    for (const f of ended) f();
  } else {
    runNext();
  }
  arm();
});

// A waker need not rely on the host's memory of the deadline.
host.onWake(() => {
  state.armed = NaN;
  arm();
});

function checkCallback(callback: unknown): asserts callback is Callback {
  if (typeof callback === "function") return;
  const received = callback === undefined || callback === null ? `${callback}` : `type ${typeof callback}`;
  // As in Node's timers, which these are on workerd too.
  const error = new TypeError(`The "callback" argument must be of type function. Received ${received}`);
  throw Object.assign(error, { code: "ERR_INVALID_ARG_TYPE" });
}

export function setTimeout(callback: Callback, delay?: number, ...args: unknown[]): Timeout {
  checkCallback(callback);
  return schedule(callback, delay, args.length === 0 ? undefined : args, false);
}

export function setInterval(callback: Callback, delay?: number, ...args: unknown[]): Timeout {
  checkCallback(callback);
  return schedule(callback, delay, args.length === 0 ? undefined : args, true);
}

export function clearTimeout(timer?: unknown): void {
  if (typeof timer === "number" || typeof timer === "string") cancelId(Number(timer));
  else if (typeof timer === "object" && timer !== null) cancel(timer as Timeout);
}

export function clearInterval(timer?: unknown): void {
  clearTimeout(timer);
}

// --- scheduler -----------------------------------------------------------------------------------------------------------

let secret: object | undefined = {};

class Scheduler {
  constructor(key: object) {
    if (key === undefined || key !== secret) throw new TypeError("Illegal constructor");
  }

  wait(delay: number, options?: { signal?: AbortSignal }): Promise<void> {
    const signal = options?.signal;
    return new Promise((resolve, reject) => {
      if (signal === undefined || signal === null) return void schedule(resolve as Callback, delay, undefined, false);
      if (!(signal instanceof AbortSignal)) throw new TypeError("Failed to execute 'wait' on 'Scheduler': signal is not an AbortSignal.");
      if (signal.aborted) return reject(signal.reason);
      const onAbort = (): void => {
        cancel(timer);
        reject(signal.reason);
      };
      const timer = schedule(() => {
        removeAbortAlgorithm(signal, onAbort);
        resolve();
      }, delay, undefined, false);
      addAbortAlgorithm(signal, onAbort);
    });
  }
}

defineInterface(Scheduler, "Scheduler");

const scheduler = new Scheduler(secret);
secret = undefined;

export const globals = { setTimeout, setInterval, clearTimeout, clearInterval, scheduler };
