/**
 * AbortController and AbortSignal of the DOM standard. Other files follow a signal by `addAbortAlgorithm`, which needs no event.
 */
import { Event, EventTarget, defineEventAttributes, fire, hasListeners, setSignalFollower } from "./events";
import { setTimeout } from "./timers";
import { defineInterface, enforceRange, requireArguments } from "./webidl";

type Algorithm = () => void;

let secret: object | undefined;
let make: () => AbortSignal;
let abortSignal: (signal: AbortSignal, reason: unknown) => void;

/** Runs `f` when the signal aborts, before its `abort` event. */
export let addAbortAlgorithm: (signal: AbortSignal, f: Algorithm) => void;
export let removeAbortAlgorithm: (signal: AbortSignal, f: Algorithm) => void;
/** A new signal and the function that aborts it, for internal owners: no controller needed. */
export function makeSignal(): AbortSignal {
  return make();
}
/** Aborts a signal made by `makeSignal`. */
export function signalAbort(signal: AbortSignal, reason?: unknown): void {
  abortSignal(signal, reason);
}

function abortError(): DOMException {
  return new DOMException("The operation was aborted", "AbortError");
}

export class AbortSignal extends EventTarget {
  #aborted = false;
  #reason: unknown;
  #algorithms: Algorithm[] | undefined;
  /** Signals that abort with this one (`any`), and those it depends on. */
  #dependents: AbortSignal[] | undefined;
  #sources: AbortSignal[] | undefined;

  constructor() {
    super();
    if (secret === undefined) throw new TypeError("Illegal constructor");
  }

  get aborted(): boolean { return this.#aborted; }
  get reason(): unknown { return this.#reason; }

  throwIfAborted(): void {
    if (this.#aborted) throw this.#reason;
  }

  static abort(reason?: unknown): AbortSignal {
    const signal = make();
    signal.#aborted = true;
    signal.#reason = reason === undefined ? abortError() : reason;
    return signal;
  }

  static timeout(milliseconds: number): AbortSignal {
    requireArguments(arguments.length, 1, "Failed to execute 'timeout' on 'AbortSignal'");
    const delay = enforceRange(milliseconds, Number.MAX_SAFE_INTEGER, "Failed to execute 'timeout' on 'AbortSignal'");
    const signal = make();
    setTimeout(() => abortSignal(signal, new DOMException("The operation was aborted due to timeout", "TimeoutError")), delay);
    return signal;
  }

  static any(signals: Iterable<AbortSignal>): AbortSignal {
    requireArguments(arguments.length, 1, "Failed to execute 'any' on 'AbortSignal'");
    if (typeof signals !== "object" || signals === null) throw new TypeError("Failed to execute 'any' on 'AbortSignal': parameter 1 is not iterable.");
    const sources: AbortSignal[] = [];
    for (const signal of signals) {
      if (typeof signal !== "object" || signal === null || !(#aborted in signal)) {
        throw new TypeError(`Incorrect type for array element ${sources.length}: the provided value is not of type 'AbortSignal'.`);
      }
      sources.push(signal);
    }
    const result = make();
    for (const source of sources) {
      if (!source.#aborted) continue;
      result.#aborted = true;
      result.#reason = source.#reason;
      return result;
    }
    for (const source of sources) result.#follow(source);
    return result;
  }

  /** A dependent of a dependent signal follows the roots, so that chains of `any` stay flat. */
  #follow(source: AbortSignal): void {
    for (const root of source.#sources ?? [source]) {
      if ((this.#sources ??= []).includes(root)) continue;
      this.#sources.push(root);
      (root.#dependents ??= []).push(this);
    }
  }

  #run(): void {
    const algorithms = this.#algorithms;
    this.#algorithms = undefined;
    if (algorithms !== undefined) for (const f of algorithms) f();
    if (hasListeners(this, "abort")) fire(this, new Event("abort"));
  }

  static {
    make = () => {
      secret = make;
      try {
        return new AbortSignal();
      } finally {
        secret = undefined;
      }
    };
    abortSignal = (signal, reason) => {
      if (signal.#aborted) return;
      signal.#aborted = true;
      signal.#reason = reason === undefined ? abortError() : reason;
      const dependents = signal.#dependents?.filter((d) => !d.#aborted);
      signal.#dependents = undefined;
      // All are aborted before any of their code runs.
      if (dependents !== undefined) {
        for (const d of dependents) {
          d.#aborted = true;
          d.#reason = signal.#reason;
          for (const s of d.#sources!) if (s !== signal) s.#dependents = s.#dependents?.filter((x) => x !== d);
          d.#sources = undefined;
        }
      }
      signal.#run();
      if (dependents !== undefined) for (const d of dependents) d.#run();
    };
    addAbortAlgorithm = (signal, f) => {
      if (!signal.#aborted) (signal.#algorithms ??= []).push(f);
    };
    removeAbortAlgorithm = (signal, f) => {
      const i = signal.#algorithms?.indexOf(f) ?? -1;
      if (i >= 0) signal.#algorithms!.splice(i, 1);
    };
    setSignalFollower((signal, onAbort) => {
      if (typeof signal !== "object" || signal === null || !(#aborted in signal)) {
        throw new TypeError("Failed to execute 'addEventListener' on 'EventTarget': member signal is not of type AbortSignal.");
      }
      if (signal.#aborted) return false;
      addAbortAlgorithm(signal, onAbort);
      return true;
    });
  }
}

defineEventAttributes(AbortSignal, "abort");
defineInterface(AbortSignal, "AbortSignal");

export class AbortController {
  #signal: AbortSignal | undefined;

  get signal(): AbortSignal {
    return (this.#signal ??= make());
  }

  abort(reason?: unknown): void {
    abortSignal((this.#signal ??= make()), reason);
  }
}

defineInterface(AbortController, "AbortController");

export const globals = { AbortController, AbortSignal };
