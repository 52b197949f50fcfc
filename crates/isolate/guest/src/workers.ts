/**
 * The module `cloudflare:workers`: base classes of entrypoints, RPC classes, and the worker's `env` and `exports` outside a handler.
 * The dispatcher sets `env` and `exports` when a worker is loaded and says which call is running.
 */
import { host } from "./host";
import { Fetcher, RpcPromise, RpcProperty, RpcStub, RpcTarget } from "./rpc";
import { AsyncLocalStorage, enterFresh } from "./node/async_hooks";
import { tracing } from "./tracing";

type Fn = () => unknown;

const isObject = (v: unknown): boolean => (typeof v === "object" && v !== null) || typeof v === "function";

class Entrypoint {
  ctx: unknown;
  env: unknown;

  constructor(ctx: unknown, env: unknown) {
    if (!isObject(ctx) || !isObject(env)) {
      const which = isObject(ctx) ? 2 : 1;
      throw new TypeError(`Failed to construct '${new.target.name}': constructor parameter ${which} is not of type 'Object'.`);
    }
    this.ctx = ctx;
    this.env = env;
  }
}

export class WorkerEntrypoint extends Entrypoint {}
export class DurableObject extends Entrypoint {}
export class WorkflowEntrypoint extends Entrypoint {}

// --- env and exports -----------------------------------------------------------------------------------------------------

interface World {
  readonly env: object;
  readonly exports: object;
}

const nothing: World = { env: {}, exports: {} };
let loaded: World = nothing;

// What withEnv and its siblings put in place of the loaded values.
const override = new AsyncLocalStorage<World>();

function current(): World {
  return override.getStore() ?? loaded;
}

/** Called once, when the worker's bindings are known. */
export function setWorld(world: World): void {
  loaded = world;
}

function liveView(pick: (world: World) => object, writable: boolean): object {
  const refused = (): boolean => writable;
  return new Proxy(Object.create(null) as object, {
    get: (_, key) => Reflect.get(pick(current()), key) as unknown,
    has: (_, key) => Reflect.has(pick(current()), key),
    ownKeys: () => Reflect.ownKeys(pick(current())),
    // Reported as configurable: the view's own target has no such property.
    getOwnPropertyDescriptor(_, key) {
      const d = Reflect.getOwnPropertyDescriptor(pick(current()), key);
      return d && { ...d, configurable: true };
    },
    set: (_, key, value) => refused() && Reflect.set(pick(current()), key, value),
    deleteProperty: (_, key) => refused() && Reflect.deleteProperty(pick(current()), key),
    defineProperty: (_, key, d) => refused() && Reflect.defineProperty(pick(current()), key, d),
    getPrototypeOf: () => Object.prototype,
  });
}

export const env = liveView((world) => world.env, true);
export const exports = liveView((world) => world.exports, false);

export function withEnv(newEnv: object, f: Fn): unknown {
  return override.run({ ...current(), env: newEnv }, f);
}

export function withExports(newExports: object, f: Fn): unknown {
  return override.run({ ...current(), exports: newExports }, f);
}

export function withEnvAndExports(newEnv: object, newExports: object, f: Fn): unknown {
  return override.run({ env: newEnv, exports: newExports }, f);
}

// --- the running call ----------------------------------------------------------------------------------------------------

interface Context {
  waitUntil(promise: unknown): void;
}

const running = new AsyncLocalStorage<Context>();

/** Runs a handler so that the imported `waitUntil` reaches its context. The dispatcher wraps every call in it. */
export function runWith<T>(ctx: Context, f: () => T): T {
  return running.run(ctx, f);
}

/** As `runWith`, for the rest of this turn and what follows from it: the dispatcher's way, for each turn begins without a context. */
export function enterCall(ctx: Context): void {
  enterFresh(running, ctx);
}

/** The context of the call that runs now, in this part of it. */
export function currentCall(): Context | undefined {
  return running.getStore();
}

export function waitUntil(promise: unknown): void {
  const ctx = running.getStore();
  if (ctx === undefined) {
    throw new Error(
      "Disallowed operation called within global scope. Asynchronous I/O (ex: fetch() or connect()), setting a timeout, and generating random " +
        "values are not allowed within global scope. To fix this error, perform this operation within a handler.",
    );
  }
  ctx.waitUntil(promise);
}

export function abortIsolate(reason?: string): never {
  throw new Error(`abortIsolate is not available in skep isolates${reason === undefined ? "" : `: ${reason}`}`);
}

/** A place for `cache.purge` and its kind: nothing is cached here, so it is empty, as on workerd by itself. */
export const cache: object = Object.create(null) as object;

const module = {
  WorkerEntrypoint,
  DurableObject,
  WorkflowEntrypoint,
  RpcTarget,
  RpcStub,
  RpcPromise,
  RpcProperty,
  ServiceStub: Fetcher,
  env,
  exports,
  withEnv,
  withExports,
  withEnvAndExports,
  waitUntil,
  abortIsolate,
  tracing,
  cache,
};

/** Makes the module importable. */
export function install(): void {
  host.raw.registerModule("cloudflare:workers", module);
}
