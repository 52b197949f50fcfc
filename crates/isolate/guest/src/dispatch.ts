/**
 * The worker's side of what the host delivers: `load`, `fetch`, `scheduled`, `test`, `run` and `cancel`. Finds the handler, calls it, sends the
 * answer. A handler that answers at once is answered at once: no promise, table entry or stream is made for it. RPC calls are rpc.ts's,
 * which opens and ends its calls here.
 */
import { Encoded, decodedStream, listIn, pumpOf, streamOf, takeBody, type Pump, type Source } from "./body";
import { CompressionStream } from "./compression";
import { renewSandboxes, sandboxes } from "./sandbox";
import { defineBinding, env, makeEnv, renewEnv, type BindingDescriptor } from "./env";
import { setEnv } from "./node/process";
import { Event, fire, globalTarget, hasListeners } from "./events";
import { Headers, listGet, listHas, type HeaderList } from "./headers";
import { fetchVia } from "./fetch";
import { host, type Wire } from "./host";
import { becomeActor, construct, renewIdentity, type Identity } from "./actor/instance";
import { loopbackClass, namespace, renewNamespace } from "./actor/namespace";
import { globals as socketGlobals, receive } from "./actor/sockets";
import { alarmInfo } from "./actor/timers";
import { renewLoader, workerLoader } from "./loader";
import { describe } from "./report";
import { Request, abandonRequest, requestOver } from "./request";
import { MORE, Response, STATUS, stateIfResponse, type ResponseState } from "./response";
import { ReadableStream } from "./streams";
import { bindCalls, callNow, setTailed, traceItems } from "./tail";
import { defineInterface, requireArguments } from "./webidl";
import { bindEntrypoints, bindWeb, isStub, loopbackStub, received, renewService, serviceStub } from "./rpc";
import { state as internals } from "./state";
import { DurableObject, WorkerEntrypoint, WorkflowEntrypoint, currentCall, enterCall, setWorld } from "./workers";
import { releaseSocket } from "./websocket";

const then = Promise.prototype.then;
const resolve = Promise.resolve.bind(Promise) as (v: unknown) => Promise<unknown>;
const none = new Uint8Array(0);
const RAW = Symbol(), UNSETTLED = Symbol();

/** `ctx.props` as the host hands it over: a serialised value and the channels it refers to, or a JSON text that came from no isolate. */
type Props = [bytes: Uint8Array | null, channels: number[]] | string | null;

// --- calls ---------------------------------------------------------------------------------------------------------------

// A call's state: flags, and above them how many things it waits for.
const CANCELLED = 1, ENDED = 2, ANSWERED = 4, PUMPED = 8, ONE = 16;

/** Calls that outlive the turn they began in. */
let active: Map<number, ExecutionContext> | undefined;
/** Bodies being sent, by call. */
let pumps: Map<number, Pump> | undefined;

let callPumped: (ctx: ExecutionContext, pump: Pump) => void;
/** One more thing that the call waits for, until `release`. */
export let hold: (ctx: ExecutionContext) => void;
export let release: (ctx: ExecutionContext) => void;
export let callId: (ctx: ExecutionContext) => number;
let has: (ctx: ExecutionContext, flag: number) => boolean;
/** Says that the answer goes out now; returns the call's id, or -1 when nobody waits for it any more. */
let beginAnswer: (ctx: ExecutionContext) => number;
/** Whether the call ends with the answer that goes out now: the host then hears both in one message. */
let isLastHold: (ctx: ExecutionContext) => boolean;
let mark: (ctx: ExecutionContext, flag: number) => void;
let cancelCall: (ctx: ExecutionContext) => void;
/** Whether nothing refers to the call but what is answering it. */
let isForgotten: (ctx: ExecutionContext) => boolean;

// References that there are then, counted from within the functions that ask: of variables, arguments and fields on the way from the listener.
const TO_CONTEXT = 6, TO_REQUEST = 3, TO_SCOPE = 2, TO_ANSWER = 3;

function logFailure(e: unknown): void {
  host.call("exception", ...describe(e), callNow());
}

export class ExecutionContext {
  #call: number;
  #state: number;
  #props: Props;
  #request: Request | undefined;

  constructor(raw: unknown, call: number, props: Props, request: Request | undefined) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
    this.#call = call;
    this.#state = ONE;
    this.#props = props;
    this.#request = request;
  }

  waitUntil(promise: unknown): void {
    requireArguments((this.#state, arguments.length), 1, "Failed to execute 'waitUntil' on 'ExecutionContext'");
    const ended = (this.#state & ENDED) !== 0;
    if (!ended) this.#state += ONE;
    void then.call(
      resolve(promise),
      () => { if (!ended) release(this); },
      (e: unknown) => {
        logFailure(e);
        if (!ended) release(this);
      },
    );
  }

  /** There is no origin behind a worker here that could answer instead, as for a worker that is called by another. */
  passThroughOnException(): void { this.#state; }

  get props(): unknown {
    const given = this.#props;
    const props = (typeof given === "string" ? (JSON.parse(given) as unknown) : (received(given) as unknown)) ?? {};
    Object.defineProperty(this, "props", { value: props, writable: true, enumerable: true, configurable: true });
    return props;
  }

  get exports(): unknown { return this.#state, world.exports; }

  abort(reason?: unknown): never {
    this.#state;
    throw reason;
  }

  static {
    callId = (ctx) => ctx.#call;
    has = (ctx, flag) => (ctx.#state & flag) !== 0;
    mark = (ctx, flag) => { ctx.#state |= flag; };
    beginAnswer = (ctx) => {
      if (ctx.#state & CANCELLED) return -1;
      ctx.#state |= ANSWERED;
      return ctx.#call;
    };
    hold = (ctx) => { ctx.#state += ONE; };
    release = (ctx) => {
      if ((ctx.#state -= ONE) >= ONE) return;
      active?.delete(ctx.#call);
      if ((ctx.#state & ENDED) === 0) host.call("done", ctx.#call);
      ctx.#state |= ENDED;
    };
    isForgotten = (ctx) => {
      return host.raw.references(ctx) === TO_CONTEXT && host.raw.references(host.raw.asyncContext() as object) === TO_SCOPE && host.raw.references(ctx.#request!) === TO_REQUEST;
    };
    isLastHold = (ctx) => ctx.#state < 2 * ONE;
    callPumped = (ctx, pump) => {
      ctx.#state = (ctx.#state | PUMPED) + ONE;
      park(ctx);
      (pumps ??= new Map()).set(ctx.#call, pump);
      const sent = (): void => {
        pumps!.delete(ctx.#call);
        release(ctx);
      };
      void then.call(pump.done, sent, (e: unknown) => {
        logFailure(e);
        sent();
      });
    };
    cancelCall = (ctx) => {
      ctx.#state |= CANCELLED;
      if (ctx.#state & PUMPED) pumps!.get(ctx.#call)?.cancel(new DOMException("The client has disconnected", "AbortError"));
      if (ctx.#request !== undefined) abandonRequest(ctx.#request);
    };
  }
}

defineInterface(ExecutionContext, "ExecutionContext");

/** Opens a call: it is done when it was released as often as held, the first hold being its own. */
export function openCall(call: number, props: Props, request?: Request): ExecutionContext {
  const ctx = new ExecutionContext(RAW, call, props, request);
  enterCall(ctx);
  return ctx;
}

bindCalls(() => {
  const ctx = currentCall();
  return ctx instanceof ExecutionContext ? callId(ctx) : 0;
});

/** Keeps a call that does not end in this turn where `cancel` finds it. */
export function park(ctx: ExecutionContext): void {
  (active ??= new Map()).set(callId(ctx), ctx);
}

/** Answers the call with an exception. */
export function failCall(ctx: ExecutionContext, e: unknown): void {
  if (has(ctx, ANSWERED)) return;
  mark(ctx, ANSWERED);
  host.call("fail", callId(ctx), ...describe(e));
}

host.on("cancel", (call: number) => {
  const ctx = active?.get(call);
  if (ctx !== undefined) cancelCall(ctx);
});

// --- the worker ----------------------------------------------------------------------------------------------------------

type Handlers = Record<string, unknown>;
type EntrypointClass = new (ctx: ExecutionContext, env: object) => Handlers;

/** The main module's namespace, once loaded. */
let worker: Record<string, unknown> | undefined;
let hasDefault = true;
/** `ctx.exports`: a stub for each of the worker's own entrypoints. Made when first asked for, by few. */
let workerExports: object | undefined;

const world = {
  env,
  get exports(): object { return (workerExports ??= worker === undefined ? undefined : loopbackExports(worker)) ?? {}; },
};

const isPrototypeOf = Object.prototype.isPrototypeOf;
const entrypointBases = [WorkerEntrypoint.prototype, DurableObject.prototype, WorkflowEntrypoint.prototype];

function isEntrypointClass(f: Function): f is EntrypointClass & Function {
  return entrypointBases.some((base) => isPrototypeOf.call(base, f.prototype as object));
}

function isEntrypoint(entry: unknown): boolean {
  return (typeof entry === "object" && entry !== null) || (typeof entry === "function" && isEntrypointClass(entry));
}

/** What the host says of the worker's exports: the namespaces of its classes, and what is to be called outside of this isolate. */
type OwnExport = [name: string, kind: "namespace" | "service", value: number];
let ownExports: Map<string, OwnExport> | undefined;

/** One property of `ctx.exports`. */
function loopback(name: string, entry: unknown): object {
  const own = ownExports?.get(name);
  if (own?.[1] === "namespace") return loopbackClass(name, own[2]);
  if (typeof entry === "function" && isPrototypeOf.call(DurableObject.prototype, entry.prototype as object)) return loopbackClass(name, undefined);
  return loopbackStub(name === "default" ? null : name, own?.[2]);
}

function takeExports(list: OwnExport[]): void {
  ownExports = new Map(list.map((own) => [own[0], own]));
  for (const [name, kind, value] of list) {
    const made: unknown = workerExports === undefined ? undefined : Object.getOwnPropertyDescriptor(workerExports, name)?.value;
    if (made === undefined) continue;
    if (kind === "namespace") renewNamespace(made as object, value);
    else renewService(made as object, value);
  }
}

function loopbackExports(namespace: Record<string, unknown>): object {
  const names = Object.keys(namespace).filter((name) => isEntrypoint(namespace[name]) || ownExports?.has(name));
  if (!hasDefault && (hasListeners(globalTarget, "fetch") || hasListeners(globalTarget, "scheduled"))) names.push("default");
  const exports = {};
  for (const name of names) {
    Object.defineProperty(exports, name, {
      get: () => {
        const value = loopback(name, namespace[name]);
        Object.defineProperty(exports, name, { value, enumerable: true, configurable: true });
        return value;
      },
      enumerable: true,
      configurable: true,
    });
  }
  return exports;
}

/** What answers an entrypoint's calls: an exported object of handlers, or a fresh instance of an exported class (`made`). */
export function entrypointOf(name: string, ctx: ExecutionContext): { target: Handlers; made: boolean } | undefined {
  const { actor } = internals;
  if (actor !== undefined) return { target: actor.instance!, made: true };
  const entry = worker?.[name === "" ? "default" : name];
  if (typeof entry === "object" && entry !== null) return { target: entry as Handlers, made: false };
  if (typeof entry === "function" && isEntrypointClass(entry)) return { target: new entry(ctx, env), made: true };
  return undefined;
}

/** Calls a handler: of an object with `(event, env, ctx)`, of an instance with the event only. */
function callHandler(entrypoint: string, name: string, ctx: ExecutionContext, event: unknown): unknown {
  const entry = internals.actor === undefined ? worker?.[entrypoint === "" ? "default" : entrypoint] : undefined;
  // The usual case first, without the wrapping that `entrypointOf` does.
  if (typeof entry === "object" && entry !== null) {
    if (typeof (entry as Handlers)[name] === "function") return (entry as Record<string, Function>)[name]!(event, env, ctx) as unknown;
  } else {
    const target = entrypointOf(entrypoint, ctx)?.target;
    const f = target?.[name];
    if (typeof f === "function") return f.call(target, event) as unknown;
    if (entry === undefined && entrypoint !== "") throw new Error(`The worker has no entrypoint named "${entrypoint}".`);
  }
  throw new Error(`Handler does not export a ${name}() function.`);
}

defineBinding("service", (channel: number) => serviceStub(channel), (made, channel: number) => isStub(made) && renewService(made as object, channel));
defineBinding("loader", (channel: number) => workerLoader(channel), renewLoader);
defineBinding("namespace", (number: number) => namespace(number), renewNamespace);
defineBinding("sandboxes", (channel: number) => sandboxes(channel), renewSandboxes);
defineBinding("exports", (list: OwnExport[]) => (takeExports(list), {}));
defineBinding("cloned", (bytes: Uint8Array, channels) => received([bytes, channels]) as unknown);

host.onWake((bindings: BindingDescriptor[] | undefined, identity: Identity | null | undefined) => {
  if (bindings !== undefined) renewEnv(bindings, env);
  if (identity) renewIdentity(identity);
});

/** Makes the actor's instance, once its worker's modules are there. */
function constructActor(namespace: Record<string, unknown>, identity: Identity): Promise<void> {
  const [name] = identity;
  return construct(namespace[name === "" ? "default" : name], identity, DurableObject.prototype, env, () => world.exports);
}

host.on("load", (main: string, bindings: BindingDescriptor[], _options: Wire, tailed: boolean, identity?: Identity | null) => {
  const failed = (e: unknown): void => void host.call("loaded", describe(e));
  try {
    if (tailed) setTailed(true);
    if (identity) becomeActor(identity);
    if (bindings.length > 0) setEnv(makeEnv(bindings, env));
    setWorld(world); // top-level code may import it
    void then.call(host.raw.importModule(main), (namespace: unknown) => {
      worker = namespace as Record<string, unknown>;
      hasDefault = worker.default !== undefined;
      if (!identity) return host.call("loaded", null);
      return then.call(constructActor(worker, identity), () => host.call("loaded", null), failed);
    }, failed);
  } catch (e) {
    failed(e);
  }
});

// --- answers -------------------------------------------------------------------------------------------------------------

/** Continues with what a handler returned: at once if it is there already, otherwise when it settles. Ends the call's own hold. */
function settle(ctx: ExecutionContext, result: unknown, use: (ctx: ExecutionContext, value: unknown) => void): void {
  let value = result;
  if (typeof result === "object" && result !== null) {
    value = host.raw.fulfilled(result, UNSETTLED);
    if (value === UNSETTLED) {
      if (use === answerFetch && passOn(ctx, result)) return;
      return void settleLater(ctx, result, use);
    }
  }
  finish(ctx, value, use);
}

/**
 * `return stub.fetch(request)`: what comes goes to the caller as it is, without another turn of this isolate. Only where nobody could tell: the
 * answer, the request and the context have no other references than those of whoever answers, and nothing else of the call is under way.
 */
function passOn(ctx: ExecutionContext, answer: object): boolean {
  if (internals.actor !== undefined || !isLastHold(ctx) || !isForgotten(ctx)) return false;
  const given = host.letGo(answer, TO_ANSWER);
  if (given === undefined) return false;
  host.call("respond.with", callId(ctx), given[0], given[1]);
  mark(ctx, ANSWERED | ENDED);
  return true;
}

async function settleLater(ctx: ExecutionContext, result: unknown, use: (ctx: ExecutionContext, value: unknown) => void): Promise<void> {
  park(ctx);
  let value: unknown;
  try {
    value = await result;
  } catch (e) {
    failCall(ctx, e);
    return release(ctx);
  }
  finish(ctx, value, use);
}

function finish(ctx: ExecutionContext, value: unknown, use: (ctx: ExecutionContext, value: unknown) => void): void {
  try {
    use(ctx, value);
  } catch (e) {
    failCall(ctx, e);
  }
  release(ctx);
}

/**
 * What `Content-Encoding` asks for is done here, unless the script says that it did it (`encodeBody: "manual"`), or the body is passed on as it
 * came in just that coding. Nothing here writes Brotli: what should be in it goes as it is, and `respond` does not say otherwise.
 */
function encoded(source: Source, list: HeaderList, manual: boolean): Exclude<Source, Encoded> {
  const coding = listHas(list, "content-encoding") ? listGet(list, "content-encoding")!.toLowerCase() : "";
  if (source instanceof Encoded) {
    if (source.coding === coding) return source.raw;
    source = decodedStream(source);
  }
  if (manual || (coding !== "gzip" && coding !== "deflate") || source === null || typeof source === "number") return source;
  const stream = source instanceof ReadableStream ? source : streamOf(source);
  return stream.pipeThrough(new CompressionStream(coding) as unknown as Parameters<ReadableStream["pipeThrough"]>[0]);
}

/** Whether the body says that it is in Brotli, and is not. */
function isPlain(given: Source, source: Source, list: HeaderList, manual: boolean): boolean {
  if (manual || source === null || typeof given === "number" || listGet(list, "content-encoding")!.toLowerCase() !== "br") return false;
  return !(given instanceof Encoded && given.raw === source);
}

function without(list: HeaderList, name: string): HeaderList {
  const rest: HeaderList = [];
  for (let i = 0; i < list.length; i += 2) if (list[i] !== name) rest.push(list[i]!, list[i + 1]!);
  return rest;
}

function respond(ctx: ExecutionContext, state: ResponseState): void {
  const status = state[STATUS];
  if (status === 0) throw new TypeError("Return value from serve handler must not be an error response (like Response.error())");
  const more = state[MORE];
  const socket = more?.webSocket ? releaseSocket(more.webSocket) : null;
  let list = listIn(state);
  const given = takeBody(state);
  let source = encoded(given, list, more?.manual === true);
  if (listHas(list, "content-encoding") && isPlain(given, source, list, more?.manual === true)) list = without(list, "content-encoding");
  const call = beginAnswer(ctx);
  if (call < 0) {
    if (source instanceof ReadableStream) source.cancel().catch(() => {});
    return;
  }
  let pump: Pump | undefined;
  if (source !== null && typeof source === "object" && source instanceof ReadableStream) {
    pump = pumpOf(source, list);
    source = pump.to;
  }
  const last = pump === undefined && isLastHold(ctx);
  host.call("respond", call, status, more?.statusText ?? "", list, source, socket, last);
  if (last) mark(ctx, ENDED);
  else if (pump !== undefined) callPumped(ctx, pump);
}

function answerFetch(ctx: ExecutionContext, value: unknown): void {
  const state = stateIfResponse(value);
  if (state === undefined) throw new TypeError("Incorrect type for Promise: the Promise did not resolve to 'Response'.");
  respond(ctx, state);
}

function answerNothing(ctx: ExecutionContext): void {
  mark(ctx, ANSWERED);
  host.call("result", callId(ctx), none);
}

// --- events --------------------------------------------------------------------------------------------------------------

/** Events of workers in the older style: `addEventListener("fetch", …)`. */
export class ExtendableEvent extends Event {
  #ctx: ExecutionContext;
  constructor(type: string, ctx: ExecutionContext) {
    super(type);
    if (!(ctx instanceof ExecutionContext)) throw new TypeError("Illegal constructor");
    this.#ctx = ctx;
  }
  waitUntil(promise: unknown): void { this.#ctx.waitUntil(promise); }
}

let takeAnswer: (event: FetchEvent) => unknown;

export class FetchEvent extends ExtendableEvent {
  #request: Request;
  #answer: unknown;
  constructor(ctx: ExecutionContext, request: Request) {
    super("fetch", ctx);
    this.#request = request;
  }
  get request(): Request { return this.#request; }
  respondWith(response: Response | Promise<Response>): void {
    if (this.#answer !== undefined) throw new DOMException("FetchEvent.respondWith() has already been called; it can only be called once.", "InvalidStateError");
    this.#answer = resolve(response);
    this.stopImmediatePropagation();
  }
  passThroughOnException(): void { this.#request; }
  static {
    takeAnswer = (event) => event.#answer;
  }
}

export class ScheduledEvent extends ExtendableEvent {
  #time: number;
  #cron: string;
  constructor(ctx: ExecutionContext, time: number, cron: string) {
    super("scheduled", ctx);
    this.#time = time;
    this.#cron = cron;
  }
  get scheduledTime(): number { return this.#time; }
  get cron(): string { return this.#cron; }
  noRetry(): void { this.#time; }
}

export class ScheduledController {
  readonly scheduledTime: number;
  readonly cron: string;
  readonly type = "scheduled";
  constructor(time: number, cron: string) {
    this.scheduledTime = time;
    this.cron = cron;
  }
  noRetry(): void {}
}

defineInterface(ExtendableEvent, "ExtendableEvent");
defineInterface(FetchEvent, "FetchEvent");
defineInterface(ScheduledEvent, "ScheduledEvent");
defineInterface(ScheduledController, "ScheduledController");

/** Whether listeners take the place of handlers: there is no default export. */
function listens(entrypoint: string, type: string): boolean {
  return !hasDefault && (entrypoint === "" || entrypoint === "default") && hasListeners(globalTarget, type);
}

function fireFetch(ctx: ExecutionContext, request: Request): unknown {
  const event = new FetchEvent(ctx, request);
  fire(globalTarget, event);
  const answer = takeAnswer(event);
  if (answer === undefined) throw new Error("No event listener called respondWith(), and there is no origin that could answer instead.");
  return answer;
}

host.on("fetch", (call: number, entrypoint: string | null, props: Props, method: string, url: string, headers: HeaderList, body: Source, cf: string | null) => {
  const request = requestOver(url, method, headers, body, cf ?? "");
  const ctx = openCall(call, props, request);
  const name = entrypoint ?? "";
  let result: unknown;
  try {
    result = listens(name, "fetch") ? fireFetch(ctx, request) : callHandler(name, "fetch", ctx, request);
  } catch (e) {
    failCall(ctx, e);
    return release(ctx);
  }
  const state = stateIfResponse(result);
  if (state === undefined) return settle(ctx, result, answerFetch);
  try {
    respond(ctx, state);
  } catch (e) {
    failCall(ctx, e);
  }
  release(ctx);
});

function deliver(ctx: ExecutionContext, run: () => unknown): void {
  let result: unknown;
  try {
    result = run();
  } catch (e) {
    failCall(ctx, e);
    return release(ctx);
  }
  settle(ctx, result, answerNothing);
}

host.on("scheduled", (call: number, entrypoint: string | null, props: Props, cron: string, time: number) => {
  const ctx = openCall(call, props);
  const name = entrypoint ?? "";
  deliver(ctx, () =>
    listens(name, "scheduled") ? void fire(globalTarget, new ScheduledEvent(ctx, time, cron)) : callHandler(name, "scheduled", ctx, new ScheduledController(time, cron)),
  );
});

host.on("alarm", (call: number, name: string, at: number, retries: number) => {
  const ctx = openCall(call, null);
  const instance = internals.actor!.instance!;
  deliver(ctx, () => {
    if (typeof instance.alarm === "function") return Reflect.apply(instance.alarm, instance, [alarmInfo(name, at, retries)]) as unknown;
    host.call("log", "warn", "Attempted to run a scheduled alarm without a handler, did you remember to export an alarm() function?", null, call);
    return undefined;
  });
});

host.on("socket", (call: number, ...message: Parameters<typeof receive>) => {
  deliver(openCall(call, null), () => receive(...message));
});

host.on("test", (call: number, entrypoint: string | null, props: Props) => {
  const ctx = openCall(call, props);
  deliver(ctx, () => callHandler(entrypoint ?? "", "test", ctx, {}));
});

host.on("tail", (call: number, entrypoint: string | null, props: Props, trace: string) => {
  const ctx = openCall(call, props);
  deliver(ctx, () => callHandler(entrypoint ?? "", "tail", ctx, traceItems(trace)));
});

// --- RPC -----------------------------------------------------------------------------------------------------------------

bindWeb({ Headers, Request, Response, fetchOn: fetchVia } as unknown as Parameters<typeof bindWeb>[0]);

bindEntrypoints((name, props, call) => {
  const ctx = openCall(call, props);
  const found = entrypointOf(name ?? "", ctx);
  if (found === undefined) throw new Error(`The worker has no entrypoint named "${name ?? "default"}".`);
  if (internals.actor?.callable === false) {
    throw new TypeError(
      "The receiving Durable Object does not support RPC, because its class was not declared with `extends DurableObject`. In order to enable RPC, " +
        'make sure your class extends the special class `DurableObject`, which can be imported from the module "cloudflare:workers".',
    );
  }
  park(ctx);
  return {
    object: found.target,
    handlers: found.made ? undefined : { env, ctx },
    finish: () => release(ctx),
    waitUntil: (promise) => ctx.waitUntil(promise),
  };
});

// --- run -----------------------------------------------------------------------------------------------------------------

/** Keeps in JSON what it would lose: maps, sets, errors, bytes, big integers. */
function jsonable(this: Record<string, unknown>, key: string, value: unknown): unknown {
  if (typeof value === "bigint") return `${value}`;
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Error) return { name: value.name, message: value.message, stack: value.stack };
  if (value instanceof Map || value instanceof Set) return [...value];
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return Array.from(value as Uint8Array);
  if (value instanceof ArrayBuffer) return Array.from(new Uint8Array(value));
  return value;
}

function answerJson(ctx: ExecutionContext, value: unknown): void {
  const text = JSON.stringify(value, jsonable) ?? "null";
  mark(ctx, ANSWERED);
  host.call("result", callId(ctx), host.utf8Encode(text));
}

async function runExport(ctx: ExecutionContext, module: string, name: string, args: Wire[]): Promise<unknown> {
  const namespace = (await host.raw.importModule(module)) as Record<string, unknown>;
  const f = namespace[name];
  if (typeof f !== "function") throw new TypeError(`Module "${module}" exports no function named "${name}".`);
  return f.call(undefined, ...args, env, ctx) as unknown;
}

host.on("run", (call: number, module: string, name: string, args: Wire[] | null) => {
  const ctx = openCall(call, null);
  settle(ctx, runExport(ctx, module, name, args ?? []), answerJson);
});

// --- exports -------------------------------------------------------------------------------------------------------------

/** Whether `new` takes it, without running it. Classes that were wrapped are; methods, arrows and asynchronous functions are not. */
function isClass(entry: unknown): boolean {
  if (typeof entry !== "function") return false;
  try {
    Reflect.construct(Object, [], entry);
    return true;
  } catch {
    return false;
  }
}

host.on("exports", (call: number) => {
  const exports = worker ?? {};
  finish(openCall(call, null), Object.keys(exports).map((name) => [name, isClass(exports[name])]), answerJson);
});

export const globals = { ExecutionContext, ExtendableEvent, FetchEvent, ScheduledEvent, ScheduledController, ...socketGlobals };
