/**
 * `node:async_hooks`: AsyncLocalStorage and AsyncResource on the engine's async-context slot, which every await and promise reaction
 * carries; timers and streams capture and restore it themselves. Hooks by `createHook` are accepted and never run.
 *
 * The slot holds an immutable list of (storage, value) pairs, so that capturing a context is copying one reference.
 */
import { host } from "../host";
import { checkFunction, checkString, invalidArgType } from "./errors";

interface Frame {
  readonly storage: AsyncLocalStorage;
  readonly value: unknown;
  readonly next: Frame | undefined;
}

const current = host.raw.asyncContext as () => Frame | undefined;
const enter = host.raw.setAsyncContext as (frame: Frame | undefined) => void;
const apply = Reflect.apply;

function find(storage: AsyncLocalStorage, frame: Frame | undefined): Frame | undefined {
  while (frame !== undefined && frame.storage !== storage) frame = frame.next;
  return frame;
}

/** The list without `storage`; shares what follows it. */
function without(storage: AsyncLocalStorage, frame: Frame | undefined): Frame | undefined {
  if (find(storage, frame) === undefined) return frame;
  if (frame!.storage === storage) return frame!.next;
  return { storage: frame!.storage, value: frame!.value, next: without(storage, frame!.next) };
}

function withValue(storage: AsyncLocalStorage, value: unknown, frame: Frame | undefined): Frame {
  return { storage, value, next: without(storage, frame) };
}

function runIn(frame: Frame | undefined, f: (...args: any[]) => unknown, self: unknown, args: unknown[]): any {
  const before = current();
  enter(frame);
  try {
    return apply(f, self, args);
  } finally {
    enter(before);
  }
}

function bound(f: (...args: any[]) => unknown, self?: [unknown]): (...args: any[]) => any {
  const frame = current();
  return function (this: unknown, ...args: unknown[]) {
    return runIn(frame, f, self === undefined ? this : self[0], args);
  };
}

/** Sets a storage's value in a context that is known to be empty, as every turn's is when it begins. */
export function enterFresh(storage: AsyncLocalStorage, value: unknown): void {
  enter({ storage, value, next: undefined });
}

export class AsyncLocalStorage<T = any> {
  #defaultValue: T | undefined;
  #name: string;

  constructor(options: { defaultValue?: T; name?: string } = {}) {
    if (options === null || typeof options !== "object") throw invalidArgType("options", "Object", options);
    if (options.name !== undefined) checkString(options.name, "options.name");
    this.#defaultValue = options.defaultValue;
    this.#name = options.name ?? "";
  }

  static bind<F extends (...args: any[]) => any>(f: F): F {
    checkFunction(f, "fn");
    return bound(f) as F;
  }

  static snapshot(): (f: (...args: any[]) => any, ...args: any[]) => any {
    const frame = current();
    return function (this: unknown, f: (...args: any[]) => any, ...args: any[]) {
      return runIn(frame, f, this, args);
    };
  }

  get name(): string {
    return this.#name;
  }

  getStore(): T | undefined {
    const frame = find(this, current());
    return frame === undefined ? this.#defaultValue : (frame.value as T);
  }

  enterWith(store: T): void {
    enter(withValue(this, store, current()));
  }

  run<R>(store: T, f: (...args: any[]) => R, ...args: any[]): R {
    const before = current();
    enter(withValue(this, store, before));
    try {
      return apply(f, null, args);
    } finally {
      enter(before);
    }
  }

  exit<R>(f: (...args: any[]) => R, ...args: any[]): R {
    // Not `without`: the default value must not show through.
    return this.run(undefined as T, f, ...args);
  }

  disable(): void {
    enter(without(this, current()));
  }

  /** Sets the store until the returned scope is disposed (`using scope = storage.withScope(store)`). */
  withScope(store: T): Disposable {
    const before = current();
    this.enterWith(store);
    let open = true;
    return {
      [Symbol.dispose](): void {
        if (open) enter(before);
        open = false;
      },
    };
  }
}

interface Disposable {
  [Symbol.dispose](): void;
}

export class AsyncResource {
  #frame: Frame | undefined;

  constructor(type: string, _options?: number | object) {
    checkString(type, "type");
    this.#frame = current();
  }

  static bind<F extends (...args: any[]) => any>(f: F, _type?: string, self?: unknown): F {
    checkFunction(f, "fn");
    return bound(f, arguments.length > 2 ? [self] : undefined) as F;
  }

  asyncId(): number {
    return 0;
  }

  triggerAsyncId(): number {
    return 0;
  }

  emitDestroy(): this {
    return this;
  }

  bind<F extends (...args: any[]) => any>(f: F, self?: unknown): F {
    checkFunction(f, "fn");
    const frame = this.#frame;
    const fixed = arguments.length > 1;
    return function (this: unknown, ...args: unknown[]) {
      return runIn(frame, f, fixed ? self : this, args);
    } as F;
  }

  runInAsyncScope<R>(f: (...args: any[]) => R, self?: unknown, ...args: any[]): R {
    return runIn(this.#frame, f, self, args);
  }
}

export function createHook(callbacks: object): object {
  if (callbacks === null || typeof callbacks !== "object") throw invalidArgType("callbacks", "Object", callbacks);
  return {
    enable() {
      return this;
    },
    disable() {
      return this;
    },
  };
}

export function executionAsyncId(): number {
  return 0;
}

export function triggerAsyncId(): number {
  return 0;
}

export function executionAsyncResource(): object {
  return Object.create(null) as object;
}

export const asyncWrapProviders = Object.freeze(Object.create(null) as object);

export const exports = {
  AsyncLocalStorage,
  AsyncResource,
  createHook,
  executionAsyncId,
  triggerAsyncId,
  executionAsyncResource,
  asyncWrapProviders,
};
