/**
 * Event and EventTarget of the DOM standard, for flat targets (there is no tree here), the event classes that other files fire, and the global
 * object's own event target. It knows nothing of what is dispatched.
 */
import { defineInterface, dictionary, requireArguments } from "./webidl";

let reporter: (thrown: unknown) => void;

/** Given by report.ts, which builds on this file. */
export function setReporter(f: (thrown: unknown) => void): void {
  reporter = f;
}

/** Reports an exception of a callback (listener, timer, microtask): an `error` event, then the log. */
export function reportException(thrown: unknown): void {
  reporter(thrown);
}

export interface EventInit {
  bubbles?: boolean;
  cancelable?: boolean;
  composed?: boolean;
}

// Bits of an event's state.
const BUBBLES = 1, CANCELABLE = 2, COMPOSED = 4, CANCELED = 8, STOPPED = 16, STOPPED_NOW = 32, PASSIVE = 64, DISPATCHING = 128, TRUSTED = 256;

let dispatchOn: (event: Event, target: object, listeners: Listener[], owner: EventTarget) => boolean;
let setTrusted: (event: Event) => void;
let isDispatching: (event: Event) => boolean;

export class Event {
  #type: string;
  #flags = 0;
  #phase = 0;
  #target: object | null = null;

  constructor(type: string, init?: EventInit) {
    if (arguments.length === 0) requireArguments(0, 1, "Failed to construct 'Event'");
    this.#type = `${type}`;
    if (init !== undefined) {
      const { bubbles, cancelable, composed } = dictionary<EventInit>(init, "Failed to construct 'Event': parameter 2");
      this.#flags = (bubbles ? BUBBLES : 0) | (cancelable ? CANCELABLE : 0) | (composed ? COMPOSED : 0);
    }
  }

  get type(): string { return this.#type; }
  get eventPhase(): number { return this.#phase; }
  get composed(): boolean { return (this.#flags & COMPOSED) !== 0; }
  get bubbles(): boolean { return (this.#flags & BUBBLES) !== 0; }
  get cancelable(): boolean { return (this.#flags & CANCELABLE) !== 0; }
  get defaultPrevented(): boolean { return (this.#flags & CANCELED) !== 0; }
  get returnValue(): boolean { return (this.#flags & CANCELED) === 0; }
  set returnValue(value: boolean) { if (!value) this.preventDefault(); }
  get currentTarget(): object | null { return this.#flags & DISPATCHING ? this.#target : null; }
  get target(): object | null { return this.#target; }
  get srcElement(): object | null { return this.#target; }
  // Time stands still within a turn, so a stamp would tell nothing; workerd gives 0 as well.
  get timeStamp(): number { return (this.#flags, 0); }
  get isTrusted(): boolean { return (this.#flags & TRUSTED) !== 0; }
  get cancelBubble(): boolean { return (this.#flags & STOPPED) !== 0; }
  set cancelBubble(value: boolean) { if (value) this.#flags |= STOPPED; }

  stopImmediatePropagation(): void { this.#flags |= STOPPED | STOPPED_NOW; }
  preventDefault(): void { if ((this.#flags & (CANCELABLE | PASSIVE)) === CANCELABLE) this.#flags |= CANCELED; }
  stopPropagation(): void { this.#flags |= STOPPED; }
  composedPath(): object[] { return this.#flags & DISPATCHING ? [this.#target!] : []; }

  initEvent(type: string, bubbles = false, cancelable = false): void {
    requireArguments(arguments.length, 1, "Failed to execute 'initEvent' on 'Event'");
    if (this.#flags & DISPATCHING) return;
    this.#type = `${type}`;
    this.#flags = (bubbles ? BUBBLES : 0) | (cancelable ? CANCELABLE : 0);
    this.#target = null;
  }

  static {
    setTrusted = (event) => { event.#flags |= TRUSTED; };
    isDispatching = (event) => (event.#flags & DISPATCHING) !== 0;

    dispatchOn = (event, target, listeners, owner) => {
      event.#target = target;
      event.#flags |= DISPATCHING;
      event.#phase = 2;
      const type = event.#type;
      // At the target, capturing listeners come first. The copy keeps listeners added meanwhile out of this dispatch.
      const snapshot = listeners.filter((l) => l.type === type);
      const capturing = snapshot.some((l) => l.capture);
      for (let pass = capturing ? 0 : 1; pass < 2; pass++) {
        for (const listener of snapshot) {
          if (event.#flags & STOPPED_NOW) break;
          if (listener.removed || (capturing && listener.capture === (pass === 1))) continue;
          if (listener.once) removeListener(owner, listener);
          if (listener.passive) event.#flags |= PASSIVE;
          invoke(listener, event, target);
          event.#flags &= ~PASSIVE;
        }
        if (event.#flags & STOPPED) break;
      }
      event.#phase = 0;
      event.#flags &= ~(DISPATCHING | STOPPED | STOPPED_NOW);
      return (event.#flags & CANCELED) === 0;
    };
  }
}

defineInterface(Event, "Event", { NONE: 0, CAPTURING_PHASE: 1, AT_TARGET: 2, BUBBLING_PHASE: 3 });

type EventListener = ((event: Event) => unknown) | { handleEvent(event: Event): unknown };

interface Listener {
  type: string;
  callback: EventListener;
  capture: boolean;
  once: boolean;
  passive: boolean;
  removed: boolean;
  /** Set through an `on…` attribute: its return value false cancels the event. */
  attribute: boolean;
}

function invoke(listener: Listener, event: Event, target: object): void {
  const callback = listener.callback;
  try {
    if (typeof callback === "function") {
      const result = callback.call(target, event);
      if (listener.attribute && result === false) event.preventDefault();
      return;
    }
    const f: unknown = callback.handleEvent;
    if (typeof f !== "function") throw new TypeError("EventListener has no handleEvent method");
    f.call(callback, event);
  } catch (e) {
    reportException(e);
  }
}

export interface AddEventListenerOptions {
  capture?: boolean;
  once?: boolean;
  passive?: boolean;
  signal?: EventTarget;
}

let listenersOf: (target: EventTarget) => Listener[] | undefined;
let addListener: (target: EventTarget, listener: Listener) => void;
let removeListener: (target: EventTarget, listener: Listener) => void;

// abort.ts builds on this file; it says here how to follow a signal.
let followSignal: (signal: unknown, onAbort: () => void) => boolean;

/** Given by abort.ts: runs `onAbort` when `signal` aborts; false when it already has; throws when it is no AbortSignal. */
export function setSignalFollower(f: typeof followSignal): void {
  followSignal = f;
}

function convertListener(callback: unknown, where: string): EventListener | null {
  if (callback === null || callback === undefined) return null;
  if (typeof callback !== "function" && typeof callback !== "object") {
    throw new TypeError(`Failed to execute '${where}' on 'EventTarget': parameter 2 is not of type 'function or HandlerObject'.`);
  }
  return callback as EventListener;
}

function captureOf(options: unknown): boolean {
  return typeof options === "object" && options !== null ? !!(options as AddEventListenerOptions).capture : !!options;
}

function add(target: EventTarget, type: unknown, given: unknown, options: unknown): void {
  const name = `${type as string}`;
  const callback = convertListener(given, "addEventListener");
  const capture = captureOf(options);
  const isObject = typeof options === "object" && options !== null;
  const { once, passive, signal } = (isObject ? options : {}) as AddEventListenerOptions;
  const listener: Listener = { type: name, callback: callback!, capture, once: !!once, passive: !!passive, removed: false, attribute: false };
  const follow = signal !== undefined ? followSignal(signal, () => removeListener(target, listener)) : true;
  if (callback === null || !follow) return;
  if (find(target, name, callback, capture) === undefined) addListener(target, listener);
}

function find(target: EventTarget, type: string, callback: EventListener, capture: boolean): Listener | undefined {
  return listenersOf(target)?.find((l) => l.type === type && l.callback === callback && l.capture === capture && !l.attribute);
}

function remove(target: EventTarget, type: unknown, given: unknown, options: unknown): void {
  const name = `${type as string}`;
  const callback = convertListener(given, "removeEventListener");
  const capture = captureOf(options);
  if (callback === null) return;
  const listener = find(target, name, callback, capture);
  if (listener !== undefined) removeListener(target, listener);
}

function checkDispatch(event: unknown): asserts event is Event {
  if (typeof event !== "object" || event === null || !(event instanceof Event)) {
    throw new TypeError("Failed to execute 'dispatchEvent' on 'EventTarget': parameter 1 is not of type 'Event'.");
  }
  if (isDispatching(event)) throw new DOMException("The event is already being dispatched.", "InvalidStateError");
}

export class EventTarget {
  #listeners: Listener[] | undefined;

  addEventListener(type: string, callback: unknown, options?: AddEventListenerOptions | boolean): void {
    requireArguments(arguments.length, 2, "Failed to execute 'addEventListener' on 'EventTarget'");
    this.#listeners; // the brand, before any conversion
    add(this, type, callback, options);
  }

  removeEventListener(type: string, callback: unknown, options?: { capture?: boolean } | boolean): void {
    requireArguments(arguments.length, 2, "Failed to execute 'removeEventListener' on 'EventTarget'");
    this.#listeners;
    remove(this, type, callback, options);
  }

  dispatchEvent(event: Event): boolean {
    const listeners = this.#listeners;
    checkDispatch(event);
    return dispatchOn(event, this, listeners ?? [], this);
  }

  static {
    listenersOf = (target) => target.#listeners;
    addListener = (target, listener) => {
      (target.#listeners ??= []).push(listener);
    };
    removeListener = (target, listener) => {
      listener.removed = true;
      const i = target.#listeners?.indexOf(listener) ?? -1;
      if (i >= 0) target.#listeners!.splice(i, 1);
    };
  }
}

defineInterface(EventTarget, "EventTarget");

/** Fires an event as the runtime itself does (trusted). Free when nobody listens. Returns false when it was cancelled. */
export function fire(target: EventTarget, event: Event): boolean {
  setTrusted(event);
  const listeners = listenersOf(target);
  return dispatchOn(event, target === globalTarget ? globalThis : target, listeners ?? [], target);
}

/** Whether anyone listens, so that events need not be made in vain. */
export function hasListeners(target: EventTarget, type: string): boolean {
  return listenersOf(target)?.some((l) => l.type === type) ?? false;
}

/** Defines the event handler attribute `on<type>` on each given class's prototype. Call before `defineInterface`. */
export function defineEventAttributes(C: { prototype: EventTarget }, ...types: string[]): void {
  for (const type of types) defineHandler(C.prototype, type, (self) => self as EventTarget);
}

function defineHandler(holder: object, type: string, targetOf: (self: unknown) => EventTarget): void {
  const accessors = {
    get [`on${type}`](): unknown {
      return attributeListener(targetOf(this), type)?.callback ?? null;
    },
    set [`on${type}`](value: unknown) {
      const target = targetOf(this);
      const present = attributeListener(target, type);
      const callback = typeof value === "function" || (typeof value === "object" && value !== null) ? (value as EventListener) : null;
      if (callback === null) {
        if (present !== undefined) removeListener(target, present);
      } else if (present !== undefined) {
        present.callback = callback;
      } else {
        addListener(target, { type, callback, capture: false, once: false, passive: false, removed: false, attribute: true });
      }
    },
  };
  Object.defineProperty(holder, `on${type}`, { ...Object.getOwnPropertyDescriptor(accessors, `on${type}`)!, enumerable: true, configurable: true });
}

function attributeListener(target: EventTarget, type: string): Listener | undefined {
  return listenersOf(target)?.find((l) => l.attribute && l.type === type);
}

// --- event classes -------------------------------------------------------------------------------------------------------

function interfaceArguments(name: string, given: number): void {
  if (given === 0) requireArguments(0, 1, `Failed to construct '${name}'`);
}

export class CustomEvent extends Event {
  #detail: unknown;

  constructor(type: string, init?: EventInit & { detail?: unknown }) {
    interfaceArguments("CustomEvent", arguments.length);
    super(type, init);
    this.#detail = init?.detail === undefined ? null : init.detail;
  }

  get detail(): unknown { return this.#detail; }
}

interface MessageEventInit extends EventInit {
  data?: unknown;
  origin?: string;
  lastEventId?: string;
  source?: object | null;
  ports?: Iterable<object>;
}

export class MessageEvent extends Event {
  #data: unknown;
  #origin: string;
  #lastEventId: string;
  #source: object | null;
  #ports: readonly object[];

  constructor(type: string, init?: MessageEventInit) {
    interfaceArguments("MessageEvent", arguments.length);
    super(type, init);
    const { data, lastEventId, origin, ports, source } = init ?? {};
    this.#data = data === undefined ? null : data;
    this.#origin = origin === undefined ? "" : `${origin}`;
    this.#lastEventId = lastEventId === undefined ? "" : `${lastEventId}`;
    this.#source = source ?? null;
    this.#ports = ports === undefined ? noPorts : Object.freeze([...ports]);
  }

  get data(): unknown { return this.#data; }
  get origin(): string { return this.#origin; }
  get lastEventId(): string { return this.#lastEventId; }
  get source(): object | null { return this.#source; }
  get ports(): readonly object[] { return this.#ports; }
}

const noPorts: readonly object[] = Object.freeze([]);

interface ErrorEventInit extends EventInit {
  message?: string;
  filename?: string;
  lineno?: number;
  colno?: number;
  error?: unknown;
}

export class ErrorEvent extends Event {
  #init: ErrorEventInit;

  constructor(type: string, init?: ErrorEventInit) {
    interfaceArguments("ErrorEvent", arguments.length);
    super(type, init);
    const { colno, error, filename, lineno, message } = init ?? {};
    this.#init = {
      message: message === undefined ? "" : `${message}`,
      filename: filename === undefined ? "" : `${filename}`,
      lineno: Number(lineno ?? 0) >>> 0,
      colno: Number(colno ?? 0) >>> 0,
      error,
    };
  }

  get filename(): string { return this.#init.filename!; }
  get message(): string { return this.#init.message!; }
  get lineno(): number { return this.#init.lineno!; }
  get colno(): number { return this.#init.colno!; }
  get error(): unknown { return this.#init.error; }
}

interface CloseEventInit extends EventInit {
  wasClean?: boolean;
  code?: number;
  reason?: string;
}

export class CloseEvent extends Event {
  #wasClean: boolean;
  #code: number;
  #reason: string;

  constructor(type: string, init?: CloseEventInit) {
    interfaceArguments("CloseEvent", arguments.length);
    super(type, init);
    const { code, reason, wasClean } = init ?? {};
    this.#wasClean = !!wasClean;
    this.#code = Number(code ?? 0) & 0xffff;
    this.#reason = reason === undefined ? "" : `${reason}`.toWellFormed();
  }

  get wasClean(): boolean { return this.#wasClean; }
  get code(): number { return this.#code; }
  get reason(): string { return this.#reason; }
}

export class PromiseRejectionEvent extends Event {
  #promise: Promise<unknown>;
  #reason: unknown;

  constructor(type: string, init: EventInit & { promise: Promise<unknown>; reason?: unknown }) {
    requireArguments(arguments.length, 2, "Failed to construct 'PromiseRejectionEvent'");
    super(type, init);
    if (init?.promise === undefined) throw new TypeError("Failed to construct 'PromiseRejectionEvent': required member promise is undefined.");
    this.#promise = init.promise;
    this.#reason = init.reason;
  }

  get promise(): Promise<unknown> { return this.#promise; }
  get reason(): unknown { return this.#reason; }
}

defineInterface(CustomEvent, "CustomEvent");
defineInterface(MessageEvent, "MessageEvent");
defineInterface(ErrorEvent, "ErrorEvent");
defineInterface(CloseEvent, "CloseEvent");
defineInterface(PromiseRejectionEvent, "PromiseRejectionEvent");

// --- the global object as an event target --------------------------------------------------------------------------------

/** Holds the listeners of `addEventListener("fetch", …)` and its kind; events fired on it show `globalThis` as their target. */
export const globalTarget = new EventTarget();

function addEventListener(type: string, callback: unknown, options?: AddEventListenerOptions | boolean): void {
  requireArguments(arguments.length, 2, "Failed to execute 'addEventListener' on 'EventTarget'");
  add(globalTarget, type, callback, options);
}

function removeEventListener(type: string, callback: unknown, options?: { capture?: boolean } | boolean): void {
  requireArguments(arguments.length, 2, "Failed to execute 'removeEventListener' on 'EventTarget'");
  remove(globalTarget, type, callback, options);
}

function dispatchEvent(event: Event): boolean {
  checkDispatch(event);
  return dispatchOn(event, globalThis, listenersOf(globalTarget) ?? [], globalTarget);
}

export const globals = {
  Event, EventTarget, CustomEvent, MessageEvent, ErrorEvent, CloseEvent, PromiseRejectionEvent,
  addEventListener, removeEventListener, dispatchEvent,
};
