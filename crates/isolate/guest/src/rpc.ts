/**
 * Service stubs: fetch and RPC on channels, after Cloudflare's Workers RPC. Values are structured clones; functions, RpcTargets and streams
 * pass by reference as channels back into the isolate they came from. Driven by user code on one side and by the host's `rpc` and `release`
 * events on the other. The protocol is written down in docs/design/guest-abi.md, "Service stubs".
 *
 * Calls made in one go travel together: a call leaves at the end of the microtask it was made in, and what was called on its pending result
 * by then (`stub.a().b()`) goes in the same message.
 */
import { hibernationError, host } from "./host";
import { TooLarge, dataCloneError, deserialize, notCloneable, serialize, type ReadDelegate, type WriteDelegate } from "./clone";
import { AbortController, AbortSignal } from "./abort";
import { defineInterface, rename } from "./webidl";
import { state } from "./state";
import { ReadableStream, WritableStream } from "./streams";

type Fn = (...args: any[]) => any;

const maxDepth = 256;
const maxMessage = 32 * 1024 * 1024;
const getPrototypeOf = Object.getPrototypeOf;
const hasOwn = Object.hasOwn;
const objectPrototype = Object.prototype;
const apply = Reflect.apply;

// --- what the web files provide ------------------------------------------------------------------------------------------

interface WebClasses {
  Headers: new (init: [string, string][]) => Iterable<[string, string]>;
  Request: new (url: string, init: object) => object;
  Response: new (body: unknown, init: object) => object;
  /** A fetch on a channel. */
  fetchOn(channel: number, input: unknown, init: unknown, ended: (early: boolean) => void): Promise<unknown>;
}

let web: WebClasses;

/** Called once while the image is made: the fetch classes, which this file only passes through. */
export function bindWeb(classes: WebClasses): void {
  web = classes;
}

// --- channels ------------------------------------------------------------------------------------------------------------

/** A channel of the host, shared by stubs and by the calls in flight on it; given back when the last of them lets go. */
export class Channel {
  readonly number: number;
  /** Of which life of the isolate it is: the host's table is empty after waking. */
  readonly #life = state.wakes;
  #users = 1;
  #after = false;
  #broken: Fn[] | undefined;

  constructor(number: number) {
    this.number = number;
  }

  get lost(): boolean {
    return this.#life !== state.wakes;
  }

  retain(): this {
    this.#users++;
    return this;
  }

  /** `early`: what this turn has asked for on it must reach it still. */
  release(early = false): void {
    this.#after ||= early;
    if (--this.#users > 0 || this.lost) return;
    watched?.delete(this.number);
    host.call(this.#after ? "channel.drop.after" : "channel.drop", this.number);
  }

  onBroken(f: Fn): void {
    if (this.#broken === undefined) {
      this.#broken = [];
      (watched ??= new Map()).set(this.number, this);
      host.call("channel.watch", this.number);
    }
    this.#broken.push(f);
  }

  broke(error: unknown): void {
    for (const f of this.#broken?.splice(0) ?? []) f(error);
  }
}

let watched: Map<number, Channel> | undefined;

host.on("broken", (number: number, error: unknown) => {
  const channel = watched?.get(number);
  watched?.delete(number);
  channel?.broke(error);
});

// A stub nobody refers to any more is as good as disposed. (Reference counting makes this prompt.)
const abandoned = new FinalizationRegistry<Stub>((stub) => stub.dispose());

// --- remote objects as users see them ------------------------------------------------------------------------------------

const STATE = Symbol("state");

class Stub {
  channel: Channel | undefined;
  readonly service: boolean;
  /** Of a loopback binding: makes the same one with props. */
  specialise: ((props: unknown) => object) | undefined;
  /** Makes the channel, or its number, when it is first needed, and again after waking. Of a facet, whose start may have to be waited for. */
  reopen: (() => Channel | number | Promise<Channel>) | undefined;
  /** Why it cannot be sent, where it cannot. */
  immovable: string | undefined;

  constructor(channel: Channel | undefined, service: boolean) {
    this.channel = channel;
    this.service = service;
  }

  dispose(): void {
    const { channel } = this;
    this.channel = this.reopen = undefined;
    channel?.release();
  }
}

/** `stub.name`, or `promise.name`: nothing has been sent for it yet. */
class Property {
  /** The proxy it was read from, so that a stub lives as long as its properties. */
  readonly parent: object;
  readonly name: string;
  readonly depth: number;

  constructor(parent: object, name: string, depth: number) {
    this.parent = parent;
    this.name = name;
    this.depth = depth;
  }
}

type State = Stub | Property | Operation;

const handler: ProxyHandler<object> = {
  get(target, key, receiver: object): unknown {
    const own = getPrototypeOf(target) as object;
    if (typeof key === "symbol" || key in own) return Reflect.get(own, key, receiver);
    const state = (target as { [STATE]: State })[STATE];
    // Nor does `toJSON` name a method: else every attempt to print what holds a stub would call out.
    if ((state instanceof Stub && key === "then") || key === "toJSON") return undefined;
    const depth = state instanceof Property ? state.depth + 1 : 1;
    if (depth > maxDepth) throw new TypeError(`RPC pipelined property path is too deep (max ${maxDepth}).`);
    return proxyFor(new Property(receiver, key, depth));
  },
  apply(target, _self, args: unknown[]): unknown {
    const state = (target as { [STATE]: State })[STATE];
    if (state instanceof Stub && state.specialise) return state.specialise((args[0] as { props?: unknown } | undefined)?.props);
    return send(state, args).proxy();
  },
  has: (target, key) => typeof key === "string" || key in target,
  ownKeys: () => [],
  getOwnPropertyDescriptor: () => undefined,
  defineProperty: () => false,
  deleteProperty: () => false,
  set: () => false,
  setPrototypeOf: () => false,
  preventExtensions: () => false,
};

/**
 * As `handler`, for the stub of an actor, which has two properties: `name`, and `id`, which is worked out when it is first asked for. Most stubs are
 * made for one call, so as little as can be is made for them.
 */
const actorHandler: ProxyHandler<object> = {
  ...handler,
  get: (target, key, receiver) => (key === "id" || key === "name" ? withId(target)[key] : handler.get!(target, key, receiver)) as unknown,
  ownKeys: () => ["name", "id"],
  getOwnPropertyDescriptor: (target, key) => (key === "id" || key === "name" ? Reflect.getOwnPropertyDescriptor(withId(target), key) : undefined),
};

/** What a remote object is inside; undefined for everything else. Runs no code of the value. */
function stateOf(value: unknown): State | undefined {
  const details = host.raw.getProxyDetails(value);
  return details !== undefined && (details[1] === handler || details[1] === actorHandler) ? (details[0] as { [STATE]: State })[STATE] : undefined;
}

function proxyFor(state: State): object {
  const service = state instanceof Stub && state.service;
  const C = service ? Fetcher : state instanceof Stub ? RpcStub : state instanceof Property ? RpcProperty : RpcPromise;
  const target = service && !state.specialise ? {} : () => {};
  Object.setPrototypeOf(target, C.prototype as object);
  Object.defineProperty(target, STATE, { value: state, configurable: true });
  const proxy = new Proxy(target, handler);
  if (state instanceof Stub) abandoned.register(proxy, state, state);
  return proxy;
}

function stubFor(channel: Channel, service: boolean): object {
  return proxyFor(new Stub(channel, service));
}

/** The stub's channel, as it is now; a promise while a facet is being started. */
function opening(stub: Stub): Channel | Promise<Channel> {
  const { channel, reopen } = stub;
  if (channel !== undefined && !channel.lost) return channel;
  if (reopen === undefined) throw channel === undefined ? new Error("RPC stub used after being disposed.") : hibernationError("What this stub stood for");
  const given = reopen();
  const opened = typeof given === "number" ? new Channel(given) : given;
  if (!(opened instanceof Channel)) return opened;
  if (opened.lost) throw hibernationError("What this stub stood for");
  return (stub.channel = opened);
}

function open(stub: Stub): Channel {
  const channel = opening(stub);
  if (channel instanceof Channel) return channel;
  channel.catch(() => {});
  throw new TypeError(stub.immovable ?? "This stub cannot be used yet.");
}

function stubState(value: unknown): Stub {
  const state = stateOf(value);
  if (!(state instanceof Stub)) throw new TypeError("Illegal invocation");
  return state;
}

/** A marker: instances of subclasses pass by reference, and their prototype's methods can be called. */
export class RpcTarget {}

export class RpcStub {
  constructor(value: unknown) {
    const own = stubType(value);
    if (own === undefined) throw new TypeError("RpcStubs can only wrap plain objects, functions, and RpcTarget derivatives.");
    return stubFor(new Channel(exportObject(value as object, own)), false) as RpcStub;
  }

  dup(): RpcStub {
    return stubFor(open(stubState(this)).retain(), false) as RpcStub;
  }

  onRpcBroken(callback: Fn): void {
    if (typeof callback !== "function") throw new TypeError("onRpcBroken: the callback is not a function.");
    open(stubState(this)).onBroken(callback);
  }

  [Symbol.dispose](): void {
    const state = stubState(this);
    abandoned.unregister(state);
    state.dispose();
  }
}

function fetchOn(channel: Channel, input: unknown, init: unknown): Promise<unknown> {
  return web.fetchOn(channel.retain().number, input, init, (early) => channel.release(early));
}

/** A binding to another worker's entrypoint. */
export class Fetcher {
  constructor() {
    throw new TypeError("Illegal constructor");
  }

  fetch(input: unknown, init?: unknown): Promise<unknown> {
    const channel = opening(stubState(this));
    return channel instanceof Channel ? fetchOn(channel, input, init) : channel.then((c) => fetchOn(c, input, init));
  }

  connect(): never {
    throw new Error("connect() on a service binding is not available in skep isolates");
  }

  [Symbol.dispose](): void {
    RpcStub.prototype[Symbol.dispose].call(this as unknown as RpcStub);
  }
}

/** The stub of an actor: a service stub that knows whose it is. */
class DurableObjectStub extends Fetcher {}

/** What stands behind the proxy of such a stub; `id` is what makes it until it is asked for. */
interface ActorTarget {
  [STATE]: Stub;
  name: string | undefined;
  id: object | (() => object);
}

// A function, whose prototype can be that of another class.
function ActorTarget(this: ActorTarget, stub: Stub, name: string | undefined, id: () => object): void {
  this[STATE] = stub;
  this.name = name;
  this.id = id;
}
ActorTarget.prototype = DurableObjectStub.prototype;
const newActorTarget = ActorTarget as unknown as new (stub: Stub, name: string | undefined, id: () => object) => ActorTarget;

function withId(target: object): ActorTarget {
  const actor = target as ActorTarget;
  if (typeof actor.id === "function") actor.id = (actor.id as () => object)();
  return actor;
}

export class RpcProperty {
  constructor() {
    throw new TypeError("Illegal constructor");
  }

  then(onFulfilled?: Fn, onRejected?: Fn): Promise<unknown> {
    return send(stateOf(this)!, undefined).promise.then(onFulfilled, onRejected);
  }

  catch(onRejected?: Fn): Promise<unknown> {
    return send(stateOf(this)!, undefined).promise.catch(onRejected);
  }

  finally(onFinally?: Fn): Promise<unknown> {
    return send(stateOf(this)!, undefined).promise.finally(onFinally);
  }
}

export class RpcPromise {
  constructor() {
    throw new TypeError("Illegal constructor");
  }

  then(onFulfilled?: Fn, onRejected?: Fn): Promise<unknown> {
    return (stateOf(this) as Operation).promise.then(onFulfilled, onRejected);
  }

  catch(onRejected?: Fn): Promise<unknown> {
    return (stateOf(this) as Operation).promise.catch(onRejected);
  }

  finally(onFinally?: Fn): Promise<unknown> {
    return (stateOf(this) as Operation).promise.finally(onFinally);
  }

  [Symbol.dispose](): void {
    (stateOf(this) as Operation).dispose();
  }
}

rename(DurableObjectStub, "DurableObject");
for (const C of [RpcStub, RpcPromise, RpcProperty, Fetcher, RpcTarget, DurableObjectStub]) {
  Object.defineProperty(C.prototype, Symbol.toStringTag, { value: C.name, configurable: true });
}

/** The stub of a service binding. */
export function serviceStub(channel: number): object {
  return stubFor(new Channel(channel), true);
}

/** Puts another channel behind the stub of a service binding: the one it had was lost. */
export function renewService(stub: object, channel: number): void {
  (stateOf(stub) as Stub).channel = new Channel(channel);
}

/** The stub of an actor, which opens its channel when it is first used and whenever that was lost. */
export function actorStub(id: () => object, name: string | undefined, openChannel: () => number): object {
  const stub = new Stub(undefined, true);
  stub.reopen = openChannel;
  const proxy = new Proxy(new newActorTarget(stub, name, id), actorHandler);
  abandoned.register(proxy, stub, stub);
  return proxy;
}

/** The stub of a facet, whose channel may be there only when its start has been worked out. It cannot be sent. */
export function facetStub(openChannel: () => number | Promise<number>): object {
  const stub = new Stub(undefined, true);
  stub.immovable = "Stubs pointing to Durable Object facets are not serializable.";
  let starting: Promise<Channel> | undefined;
  stub.reopen = () => {
    const opened = starting ?? openChannel();
    if (typeof opened === "number") return new Channel(opened);
    const settled = (): void => { starting = undefined; };
    starting ??= (opened as Promise<number>).then((n) => (stub.channel = new Channel(n)));
    starting.then(settled, settled);
    return starting;
  };
  return proxyFor(stub);
}

/** Whether a value is any kind of stub. */
export function isStub(value: unknown): boolean {
  return stateOf(value) !== undefined;
}

/** A channel of its own for whoever the service stub is given to; undefined: not a service stub. */
export function channelOf(value: unknown): number | undefined {
  const state = stateOf(value);
  if (!(state instanceof Stub) || !state.service) return undefined;
  if (state.immovable !== undefined) throw dataCloneError(state.immovable);
  return host.call("channel.dup", open(state).number) as number;
}

/** A channel to an exported class or object of this worker, with props. */
export function entrypointChannel(name: string | null, props: unknown): number {
  const [bytes, channels] = persistent(props);
  return host.call("channel.entrypoint", name, bytes, channels) as number;
}

/** The stub of an entrypoint of this worker (on a channel that the host gave for it, if it did) (`ctx.exports.Name`); calling it gives one with props. */
export function loopbackStub(name: string | null, channel?: number): object {
  const make = (props: unknown): Stub => new Stub(new Channel(entrypointChannel(name, props)), true);
  const stub = channel === undefined ? make(undefined) : new Stub(new Channel(channel), true);
  if (channel === undefined) stub.reopen = () => make(undefined).channel!;
  stub.specialise = (props) => proxyFor(make(props));
  return proxyFor(stub);
}

// --- writing values ------------------------------------------------------------------------------------------------------

const enum Kind {
  Stub, Service, Readable, Writable, Headers, Request, Response, AbortSignal, ActorClass, Snapshot,
}

/** A class apart from its instances, by a channel on which nothing can be called. */
export class DurableObjectClass {
  readonly #stub = new Stub(undefined, true);

  /** `make` opens the channel, when it is first needed and whenever it was lost. */
  constructor(key: unknown, make: () => Channel) {
    if (key !== STATE) throw new TypeError("Illegal constructor");
    this.#stub.reopen = make;
    abandoned.register(this, this.#stub);
  }

  /** The class's channel; undefined: not a class. */
  static channelOf(value: unknown): number | undefined {
    return typeof value === "object" && value !== null && #stub in value ? open(value.#stub).number : undefined;
  }
}

Object.defineProperty(DurableObjectClass.prototype, Symbol.toStringTag, { value: "DurableObjectClass", configurable: true });

/** A class, of this worker or of a loaded one. */
export function actorClass(openChannel: () => number): DurableObjectClass {
  return new DurableObjectClass(STATE, () => new Channel(openChannel()));
}

/** A database as it was, by a channel on which nothing can be called: `storage.onNextSessionRestore` takes it, here or where it was sent. */
export class DurableObjectSnapshot {
  readonly #stub = new Stub(undefined, true);
  readonly #bookmark: string;

  constructor(key: unknown, bookmark: string, make: () => Channel) {
    if (key !== STATE) throw new TypeError("Illegal constructor");
    this.#bookmark = bookmark;
    this.#stub.reopen = make;
    abandoned.register(this, this.#stub);
  }

  /** The place, for whoever goes back to it in the actor that it is of. */
  get bookmark(): string {
    return this.#bookmark;
  }

  /** The snapshot's channel; undefined: not a snapshot. */
  static channelOf(value: unknown): number | undefined {
    return typeof value === "object" && value !== null && #stub in value ? open(value.#stub).number : undefined;
  }
}

defineInterface(DurableObjectSnapshot, "DurableObjectSnapshot");

/** What the host opened a channel to; opened again by its bookmark where the channel was lost. */
export function actorSnapshot(channel: number, bookmark: string, again: () => number): DurableObjectSnapshot {
  let first: Channel | undefined = new Channel(channel);
  const snapshot = new DurableObjectSnapshot(STATE, bookmark, () => first ?? new Channel(again()));
  // At once, so that the channel goes with the snapshot.
  DurableObjectSnapshot.channelOf(snapshot);
  first = undefined;
  return snapshot;
}

function isTarget(value: object): boolean {
  for (let o = getPrototypeOf(value) as object | null; o !== null; o = getPrototypeOf(o) as object | null) if (o === RpcTarget.prototype) return true;
  return false;
}

/** Whether a value may be the other end of a stub: with its own properties (true), its class's only (false), or not at all. */
function stubType(value: unknown): boolean | undefined {
  if ((typeof value !== "object" || value === null) && typeof value !== "function") return undefined;
  if (stateOf(value) !== undefined) return undefined;
  if (getPrototypeOf(value) === objectPrototype) return true;
  if (isTarget(value)) return false;
  return typeof value === "function" ? true : undefined;
}

function typeName(value: object): string {
  const state = stateOf(value);
  if (state !== undefined) return state instanceof Property ? "RpcProperty" : "RpcPromise";
  const name: unknown = (value as { constructor?: { name?: unknown } }).constructor?.name;
  return typeof name === "string" && name !== "" ? name : "Object";
}

function unsupported(value: object): DOMException {
  return dataCloneError(`Could not serialize object of type "${typeName(value)}". This type does not support serialization.`);
}

/** Turns what is not data into channels, by their index in the list that goes with the message. */
class Sender implements WriteDelegate {
  readonly channels: number[] = [];
  /** Stubs that were given away, to be disposed here once the message is done with. */
  readonly given: Stub[] = [];
  readonly #persistent: boolean;

  constructor(isPersistent = false) {
    this.#persistent = isPersistent;
  }

  write(value: object): unknown {
    const state = stateOf(value);
    if (state !== undefined) return this.#stub(state, value);
    const actorClass = DurableObjectClass.channelOf(value);
    if (actorClass !== undefined) return [Kind.ActorClass, this.#add(host.call("channel.dup", actorClass) as number)];
    const snapshot = DurableObjectSnapshot.channelOf(value);
    if (snapshot !== undefined) return this.#snapshot(snapshot, (value as DurableObjectSnapshot).bookmark);
    if (this.#persistent) {
      if (typeof value === "function") throw notCloneable(value);
      if (isTarget(value)) throw dataCloneError("Remote RPC references can only be serialized for RPC.");
      throw unsupported(value);
    }
    if (value instanceof ReadableStream) return [Kind.Readable, this.#add(exportStream(value)), isByteStream(value)];
    if (value instanceof WritableStream) return [Kind.Writable, this.#add(exportSink(value))];
    if (value instanceof web.Headers) return [Kind.Headers, [...value]];
    if (value instanceof web.Request) return this.#request(value);
    if (value instanceof web.Response) return this.#response(value);
    if (value instanceof AbortSignal) return this.#signal(value);
    const own = stubType(value);
    if (own === undefined || (own && typeof value !== "function" && host.raw.getProxyDetails(value) === undefined)) throw unsupported(value);
    return [Kind.Stub, this.#add(exportObject(duplicated(value, own), own))];
  }

  #add(channel: number): number {
    return this.channels.push(channel) - 1;
  }

  #stub(state: State, value: object): unknown {
    if (!(state instanceof Stub)) throw unsupported(value);
    if (state.immovable !== undefined) throw dataCloneError(state.immovable);
    if (this.#persistent && !state.service) {
      throw dataCloneError("RpcStub cannot be serialized in this context because it is not a persistent stub.");
    }
    const channel = host.call("channel.dup", open(state).number) as number;
    if (!state.service) this.given.push(state);
    return [state.service ? Kind.Service : Kind.Stub, this.#add(channel)];
  }

  #snapshot(channel: number, bookmark: string): unknown {
    if (this.#persistent) throw dataCloneError("DurableObjectSnapshots cannot be cloned or stored. They can only be transferred over RPC.");
    return [Kind.Snapshot, this.#add(host.call("channel.dup", channel) as number), bookmark];
  }

  #request(value: any): unknown {
    return [Kind.Request, value.url, value.method, [...value.headers], value.redirect, value.cf, value.body];
  }

  #response(value: any): unknown {
    if (value.webSocket) throw dataCloneError("Can't serialize a Response which has a WebSocket.");
    return [Kind.Response, value.status, value.statusText, [...value.headers], value.cf, value.body];
  }

  #signal(signal: AbortSignal): unknown {
    if (signal.aborted) return [Kind.AbortSignal, -1, signal.reason];
    const waiting = (): Promise<unknown> =>
      new Promise((resolve) => (signal.aborted ? resolve(signal.reason) : signal.addEventListener("abort", () => resolve(signal.reason), { once: true })));
    return [Kind.AbortSignal, this.#add(exportObject(waiting, true)), undefined];
  }

  /** Gives up on a message that will not be sent. */
  cancel(): void {
    for (const channel of this.channels) host.call("channel.drop", channel);
  }
}

/** An object with a `dup` method knows better than we what its second reference is. */
function duplicated(value: object, own: boolean): object {
  const dup: unknown = (value as { dup?: unknown }).dup;
  if (typeof dup !== "function") return value;
  const copy: unknown = apply(dup as Fn, value, []);
  if (stubType(copy) === own) return copy as object;
  const [what, wanted] = typeof value === "function" ? ["function", "function"] : ["RcpTarget", "RpcTarget"];
  throw dataCloneError(
    `Couldn't create a stub for the ${what} because it has a dup() method which did not return another ${wanted}. ` +
      `Either remove the dup() method or make sure it returns ${what === "function" ? "a function" : "an RpcTarget"}.`,
  );
}

function written(value: unknown, sender: Sender): Uint8Array {
  try {
    return serialize(value, sender, maxMessage);
  } catch (e) {
    sender.cancel();
    if (!(e instanceof TooLarge)) throw e;
    throw new Error(`Serialized RPC arguments or return values are limited to 32MiB, but the size of this value was: ${e.size} bytes.`);
  }
}

/** A value for a place that outlives this call (`env` and `props` of other workers): data and service stubs only. */
export function persistent(value: unknown): [Uint8Array | null, number[]] {
  if (value === undefined) return [null, []];
  const sender = new Sender(true);
  return [written(value, sender), sender.channels];
}

/** The way back from `persistent`, in the worker that the host handed it to. */
export function received(data: [Uint8Array | null, number[]] | null | undefined): any {
  if (!data || data[0] === null) return undefined;
  const receiver = new Receiver(data[1]);
  const value = deserialize(data[0], receiver);
  receiver.releaseUnused();
  return value;
}

// --- reading values ------------------------------------------------------------------------------------------------------

class Receiver implements ReadDelegate {
  readonly #channels: (Channel | undefined)[];
  readonly #used: boolean[] = [];
  /** Stubs made from the message, disposed of together. */
  readonly stubs: Stub[] = [];
  /** Where the part being read has its channels. */
  base = 0;

  constructor(numbers: number[]) {
    this.#channels = numbers.map((n) => new Channel(n));
  }

  /** A reference to the message's nth channel. */
  take(index: unknown): Channel {
    const at = this.base + (index as number);
    const channel = this.#channels[at];
    if (channel === undefined) throw dataCloneError("Unable to deserialize cloned data.");
    if (this.#used[at]) return channel.retain();
    this.#used[at] = true;
    return channel;
  }

  stub(index: unknown, service = false): any {
    const state = new Stub(this.take(index), service);
    if (!service) this.stubs.push(state);
    return proxyFor(state);
  }

  read(data: unknown): unknown {
    const [kind, ...rest] = data as [Kind, ...any[]];
    switch (kind) {
      case Kind.Stub:
        return this.stub(rest[0]);
      case Kind.Service:
        return this.stub(rest[0], true);
      case Kind.ActorClass: {
        const channel = this.take(rest[0]);
        return new DurableObjectClass(STATE, () => channel);
      }
      case Kind.Snapshot: {
        const channel = this.take(rest[0]);
        return new DurableObjectSnapshot(STATE, `${rest[1] as string}`, () => channel);
      }
      case Kind.Readable:
        return importStream(proxyFor(new Stub(this.take(rest[0]), false)), rest[1] === true);
      case Kind.Writable:
        return importSink(proxyFor(new Stub(this.take(rest[0]), false)));
      case Kind.Headers:
        return new web.Headers(rest[0]);
      case Kind.Request: {
        const [url, method, headers, redirect, cf, body] = rest;
        return new web.Request(url, { method, headers, redirect, ...(cf === undefined ? {} : { cf }), ...(body === null ? {} : { body, duplex: "half" }) });
      }
      case Kind.Response: {
        const [status, statusText, headers, cf, body] = rest;
        return new web.Response(body, { status, statusText, headers, ...(cf === undefined ? {} : { cf }) });
      }
      case Kind.AbortSignal: {
        const controller = new AbortController();
        if (rest[0] === -1) controller.abort(rest[1]);
        else {
          const wait = proxyFor(new Stub(this.take(rest[0]), false)) as () => Promise<unknown>;
          wait().then((reason) => controller.abort(reason), () => {});
        }
        return controller.signal;
      }
      default:
        throw dataCloneError("Unable to deserialize cloned data.");
    }
  }

  dispose(): void {
    for (const stub of this.stubs) stub.dispose();
  }

  releaseUnused(): void {
    this.#channels.forEach((channel, i) => this.#used[i] || channel!.release());
  }
}

// --- streams by reference ------------------------------------------------------------------------------------------------

function isByteStream(stream: ReadableStream): boolean {
  return byteStreams.has(stream);
}

// Filled by exportStream, which must take the reader before anything else can.
const byteStreams = new WeakSet<object>();

function exportStream(stream: ReadableStream): number {
  if (stream.locked) throw new TypeError("The ReadableStream has been locked to a reader.");
  try {
    stream.getReader({ mode: "byob" }).releaseLock();
    byteStreams.add(stream);
  } catch {
    // An ordinary stream.
  }
  const reader = stream.getReader();
  let ended = false;
  const source = {
    async read(): Promise<unknown> {
      const { done, value } = await reader.read();
      ended ||= done;
      return done ? [] : [value];
    },
    cancel(reason: unknown): Promise<void> {
      ended = true;
      return reader.cancel(reason);
    },
  };
  return exportObject(source, true, () => {
    if (!ended) reader.cancel(new Error("ReadableStream received over RPC was disconnected because the remote execution context has ended.")).catch(() => {});
  });
}

function importStream(source: any, bytes: boolean): ReadableStream {
  const pull = async (controller: any): Promise<void> => {
    const chunk = (await source.read()) as unknown[];
    if (chunk.length > 0) return controller.enqueue(chunk[0]);
    source[Symbol.dispose]();
    controller.close();
    controller.byobRequest?.respond(0);
  };
  const cancel = async (reason: unknown): Promise<void> => {
    await source.cancel(reason);
    source[Symbol.dispose]();
  };
  return new ReadableStream({ ...(bytes ? { type: "bytes" } : {}), pull, cancel } as any, { highWaterMark: 0 });
}

function exportSink(stream: WritableStream): number {
  if (stream.locked) throw new TypeError("The WritableStream has been locked to a writer.");
  const writer = stream.getWriter();
  let ended = false;
  writer.closed.catch(() => {});
  const sink = {
    async write(chunk: unknown): Promise<void> {
      await writer.ready;
      await writer.write(chunk);
    },
    close(): Promise<void> {
      ended = true;
      return writer.close();
    },
    abort(reason: unknown): Promise<void> {
      ended = true;
      return writer.abort(reason);
    },
  };
  return exportObject(sink, true, () => {
    if (!ended) writer.abort(new Error("WritableStream received over RPC was disconnected because the remote execution context has ended.")).catch(() => {});
  });
}

function importSink(sink: any): WritableStream {
  const ending = async (last: Promise<unknown>): Promise<void> => {
    try {
      await last;
    } finally {
      sink[Symbol.dispose]();
    }
  };
  return new WritableStream({
    write: (chunk: unknown) => sink.write(chunk) as Promise<void>,
    close: () => ending(sink.close() as Promise<unknown>),
    abort: (reason: unknown) => ending(sink.abort(reason) as Promise<unknown>),
  });
}

// --- calling -------------------------------------------------------------------------------------------------------------

/** One call or property access on its way: first in an open batch, then in flight, then settled. */
class Operation {
  readonly promise: Promise<unknown>;
  /** The batch it waits in; undefined once that was sent. */
  batch: Batch | undefined;
  #resolve!: (value: unknown) => void;
  #reject!: (reason: unknown) => void;
  #disposed = false;
  #settled: { value: unknown } | undefined;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  static failed(error: unknown): Operation {
    const operation = new Operation();
    operation.#reject(error);
    return operation;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  proxy(): object {
    return proxyFor(this);
  }

  dispose(): void {
    this.#disposed = true;
    if (this.#settled) disposeValue(this.#settled.value);
  }

  reject(reason: unknown): void {
    this.#reject(reason);
  }

  /** With a value that is here already. */
  resolve(value: unknown): void {
    this.#resolve(value);
  }

  /** Takes the answer `[true, value, disposer]` or `[false, error]`. */
  settle(bytes: Uint8Array, channels: number[]): void {
    const receiver = new Receiver(channels);
    try {
      const [ok, value, disposer] = deserialize(bytes, receiver) as [boolean, unknown, (number | string)?];
      if (!ok) return this.#reject(failedWith(value, disposer));
      if (typeof disposer === "number") receiver.stub(disposer);
      addDisposer(value, receiver);
      this.#settled = { value };
      if (this.#disposed) disposeValue(value);
      this.#resolve(value);
    } catch (e) {
      this.#reject(e);
    } finally {
      receiver.releaseUnused();
    }
  }
}

function disposeValue(value: unknown): void {
  const dispose: unknown = (value as { [Symbol.dispose]?: unknown } | null | undefined)?.[Symbol.dispose];
  if (typeof dispose === "function") apply(dispose as Fn, value, []);
}

/** The result of a call can be disposed of as a whole. */
function addDisposer(value: unknown, receiver: Receiver): void {
  if (value === null || typeof value !== "object" || stateOf(value) !== undefined || Symbol.dispose in value) return;
  Object.defineProperty(value, Symbol.dispose, { value: () => receiver.dispose(), enumerable: false, configurable: true, writable: true });
}

/** What a call failed with, as the caller sees it. */
function failedWith(error: unknown, actor: unknown): unknown {
  if (error === null || typeof error !== "object") return error;
  if (typeof actor === "string") Object.assign(error, { durableObjectId: actor });
  return Object.assign(error, { remote: true });
}

interface Step {
  operation: Operation;
  /** Index of the step on whose result it works; -1 for the target. */
  from: number;
  path: string[];
  /** Serialised arguments, or null for a property access. */
  args: Uint8Array | null;
  sender: Sender;
}

/** The calls that leave together: one on the target, the rest on results of earlier ones. */
class Batch {
  readonly steps: Step[] = [];

  constructor(channel: Channel | Promise<Channel>) {
    if (channel instanceof Channel) {
      channel.retain();
      queueMicrotask(() => this.#send(channel));
    } else {
      channel.then((opened) => this.#send(opened.retain()), (e: unknown) => this.#fail(e));
    }
  }

  #fail(reason: unknown): void {
    for (const { operation, sender } of this.steps) {
      operation.batch = undefined;
      sender.cancel();
      operation.reject(reason);
    }
  }

  add(from: number, path: string[], args: Uint8Array | null, sender: Sender): Operation {
    const operation = new Operation();
    operation.batch = this;
    // Whoever called on the result hears of its failure; the result itself need not be awaited.
    if (from >= 0) this.steps[from]!.operation.promise.catch(() => {});
    this.steps.push({ operation, from, path, args, sender });
    return operation;
  }

  #send(channel: Channel): void {
    const { steps } = this;
    const channels: number[] = [];
    const message: unknown[] = steps.map(({ operation, from, path, args, sender }) => {
      operation.batch = undefined;
      const base = channels.length;
      channels.push(...sender.channels);
      return [from, path, args, base];
    });
    const answers = steps.length > 1 ? channels.push(this.#answers()) - 1 : -1;
    const release = (): void => channel.release();
    host.start("rpc", channel.number, serialize([answers, ...message]), channels).then(
      ([bytes, received]: [Uint8Array, number[]]) => {
        release();
        steps[0]!.operation.settle(bytes, received);
      },
      (error: unknown) => {
        release();
        steps[0]!.operation.reject(error);
      },
    );
  }

  /** Where the callee reports the results of all steps but the first. Dropped before it reported: those it left out failed. */
  #answers(): number {
    const { steps } = this;
    const lost = (): void => steps.slice(1).forEach((s) => s.operation.reject(new Error("RPC call was lost: the callee ended before it answered.")));
    const id = addExport({ object: steps, own: true, dispose: lost, answer: (index, bytes, channels) => steps[index]?.operation.settle(bytes, channels) });
    return host.call("channel.export", id) as number;
  }
}

function pathTo(state: State): [base: Stub | Operation, path: string[]] {
  const path: string[] = [];
  let at = state;
  while (at instanceof Property) {
    path.unshift(at.name);
    at = stateOf(at.parent)!;
  }
  return [at, path];
}

/** A call (or, without `args`, a property access) on a remote object. Never throws. */
function send(state: State, args: unknown[] | undefined): Operation {
  try {
    const [base, path] = pathTo(state);
    if (base instanceof Stub) {
      const channel = opening(base);
      const sender = new Sender();
      const bytes = args === undefined ? null : written(args, sender);
      return new Batch(channel).add(-1, path, bytes, sender);
    }
    if (base.disposed) throw new Error("RPC promise used after being disposed.");
    const sender = new Sender();
    const bytes = args === undefined ? null : written(args, sender);
    const { batch } = base;
    if (batch !== undefined) return batch.add(batch.steps.findIndex((s) => s.operation === base), path, bytes, sender);
    return continued(base, path, bytes, sender);
  } catch (e) {
    return Operation.failed(e);
  }
}

/** On a result that is already on its way: waits for it, then goes on from there. */
function continued(base: Operation, path: string[], args: Uint8Array | null, sender: Sender): Operation {
  const operation = new Operation();
  base.promise.then(
    (value) => {
      const next = onResult(value, path, args, sender);
      next.promise.then((v) => operation.resolve(v), (e: unknown) => operation.reject(e));
    },
    (e: unknown) => {
      sender.cancel();
      operation.reject(e);
    },
  );
  return operation;
}

function onResult(value: unknown, path: string[], args: Uint8Array | null, sender: Sender): Operation {
  let at = value;
  for (let i = 0; ; i++) {
    const state = stateOf(at);
    if (state instanceof Stub) {
      try {
        return new Batch(opening(state)).add(-1, path.slice(i), args, sender);
      } catch (e) {
        return Operation.failed(e);
      }
    }
    if (i === path.length) break;
    if (at === null || typeof at !== "object" || getPrototypeOf(at) !== objectPrototype || !hasOwn(at, path[i]!)) {
      sender.cancel();
      return Operation.failed(noMethod(path[i]!));
    }
    at = (at as Record<string, unknown>)[path[i]!];
  }
  sender.cancel();
  if (args !== null) return Operation.failed(new TypeError(`"${path.join(".")}" is not a function.`));
  const operation = new Operation();
  operation.resolve(at);
  return operation;
}

function noMethod(name: string): TypeError {
  return new TypeError(`The RPC receiver does not implement the method "${name}".`);
}

// --- being called --------------------------------------------------------------------------------------------------------

interface Exported {
  object: object;
  /** Own properties can be reached (plain objects and functions), or only the class's (RpcTargets). */
  own: boolean;
  /** When the last holder outside has let go. */
  dispose?: () => void;
  /** Of a batch's answers: takes messages itself. */
  answer?: (index: number, bytes: Uint8Array, channels: number[]) => void;
}

let exported: Map<number, Exported> | undefined;
let lastExport = 0;

function addExport(entry: Exported): number {
  (exported ??= new Map()).set(++lastExport, entry);
  return lastExport;
}

/** A new channel into this isolate whose calls arrive at `object`. */
function exportObject(object: object, own: boolean, dispose?: () => void): number {
  const id = addExport({ object, own, dispose: dispose ?? (() => disposeValue(object)) });
  try {
    return host.call("channel.export", id) as number;
  } catch (e) {
    exported!.delete(id);
    throw e;
  }
}

host.on("release", (id: number) => {
  const entry = exported?.get(id);
  exported?.delete(id);
  entry?.dispose?.();
});

/** What a call to an entrypoint works on; made by the dispatcher, which knows the worker's exports. */
export interface Entrypoint {
  object: object;
  /** For a plain object of handlers instead of a class: what goes between the arguments. */
  handlers?: { env: unknown; ctx: unknown };
  /** The call has been answered. The dispatcher reports `done` when `waitUntil` is through too. */
  finish(): void;
  /** Keeps the call's context alive. */
  waitUntil(promise: Promise<unknown>): void;
}

type Props = [Uint8Array | null, number[]] | string | null;

let entrypoint: (name: string | null, props: Props, call: number) => Entrypoint;

/** Called once while the image is made, by the dispatcher. */
export function bindEntrypoints(f: typeof entrypoint): void {
  entrypoint = f;
}

interface Place {
  object: object;
  own: boolean;
  reserved: (name: string) => boolean;
  handlers?: Entrypoint["handlers"];
}

const reservedOnEntrypoints = ["fetch", "connect", "alarm", "webSocketMessage", "webSocketClose", "webSocketError", "dup", "constructor"];
const isReserved = (name: string): boolean => name === "dup" || name === "constructor";
const isReservedOnEntrypoint = (name: string): boolean => reservedOnEntrypoints.includes(name);

function property(object: object, name: string, own: boolean, reserved: Place["reserved"]): unknown {
  if (reserved(name)) throw new TypeError(`'${name}' is a reserved method and cannot be called over RPC.`);
  if (own) {
    if (!hasOwn(object, name)) throw noMethod(name);
    return (object as Record<string, unknown>)[name];
  }
  if (hasOwn(object, name)) throw noMethod(name);
  const value: unknown = (object as Record<string, unknown>)[name];
  if (value === (objectPrototype as unknown as Record<string, unknown>)[name]) throw noMethod(name);
  return value;
}

/** The value at a path, and the object it was found on. */
function lookUp(place: Place, path: string[]): [value: unknown, self: object] {
  let { object, own } = place;
  let inStub = false;
  for (let i = 0; i < path.length; i++) {
    const name = path[i]!;
    const value = property(object, name, own, place.reserved);
    if (i === path.length - 1) return [value, object];
    const state = stateOf(value);
    if (state instanceof Stub || (inStub && state instanceof Property)) {
      inStub = true;
      own = false;
    } else {
      const type = stubType(value);
      if (type === undefined) throw noMethod(name);
      own = type;
    }
    object = value as object;
  }
  return [object, object];
}

/** Handlers take one argument, then `env` and `ctx`. */
function handlerArguments(name: string, f: Fn, args: unknown[], { env, ctx }: { env: unknown; ctx: unknown }): unknown[] {
  const arity = Number(f.length);
  if (!(arity >= 0 && arity < 256)) throw new TypeError(`RPC function has unreasonable length attribute: ${arity}`);
  if (Math.max(arity, 3) !== 3) {
    throw new TypeError(
      `Cannot call handler function "${name}" over RPC because it has the wrong number of arguments. A simple function handler can only be ` +
        "called over RPC if it has exactly the arguments (arg, env, ctx), where only the first argument comes from the client. To support " +
        "multi-argument RPC functions, use class-based syntax (extending WorkerEntrypoint) instead.",
    );
  }
  if (args.length !== 1) {
    throw new TypeError(
      `Attempted to call RPC function "${name}" with the wrong number of arguments. When calling a top-level handler function that is not ` +
        "declared as part of a class, you must always send exactly one argument. In order to support variable numbers of arguments, the server " +
        "must use class-based syntax (extending WorkerEntrypoint) instead.",
    );
  }
  return [args[0], env, ctx];
}

function perform(place: Place, path: string[], args: unknown[] | undefined): unknown {
  const [value, self] = lookUp(place, path);
  if (args === undefined) return value;
  const name = path.length === 0 ? "(this)" : path.join(".");
  if (typeof value !== "function") throw new TypeError(`"${name}" is not a function.`);
  return apply(value as Fn, path.length === 0 ? undefined : self, place.handlers ? handlerArguments(name, value as Fn, args, place.handlers) : args);
}

/** Where to go on from the result of an earlier step of the same message. */
function placeOf(value: unknown): Place {
  const own = stateOf(value) === undefined ? stubType(value) : false;
  // What cannot be reached into answers like an empty object.
  return own === undefined ? { object: {}, own: true, reserved: isReserved } : { object: value as object, own, reserved: isReserved };
}

interface Answer {
  bytes: Uint8Array;
  sender: Sender;
  failed: boolean;
  /** What it failed with. */
  error?: unknown;
}

/** Which actor this isolate is; undefined for others. */
function actorNow(): string | undefined {
  return state.actor === undefined ? undefined : `${state.actor.id}`;
}

/** Something thrown, as it goes to the caller. What is no object goes as an Error that says it. An actor says which it is. */
function failure(thrown: unknown): Answer {
  const error = typeof thrown === "object" && thrown !== null ? thrown : new Error(String(thrown));
  const sender = new Sender();
  try {
    return { bytes: written([false, error, actorNow()], sender), sender, failed: true, error };
  } catch {
    const plain = Error.isError(error) ? Object.assign(new Error(`${error.message}`), { name: `${error.name}`, stack: `${error.stack}` }) : new Error(String(error));
    return { bytes: serialize([false, plain]), sender: new Sender(), failed: true, error: plain };
  }
}

function success(value: unknown): Answer {
  const sender = new Sender();
  try {
    let disposer: number | undefined;
    const plain = value !== null && typeof value === "object" && stateOf(value) === undefined && getPrototypeOf(value) === objectPrototype;
    const dispose: unknown = plain ? (value as { [Symbol.dispose]?: unknown })[Symbol.dispose] : undefined;
    if (typeof dispose === "function") disposer = sender.channels.push(exportObject({}, true, () => void apply(dispose as Fn, value, []))) - 1;
    return { bytes: written([true, value, disposer], sender), sender, failed: false };
  } catch (e) {
    return failure(e);
  }
}

type WireStep = [from: number, path: string[], args: Uint8Array | null, base: number];

/** Starts all steps of a message; the answers in order. A step on a result that cannot be sent fails like that. */
function run(place: Place, steps: WireStep[], receiver: Receiver): Promise<Answer>[] {
  const results: Promise<unknown>[] = [];
  const sent: Promise<Answer>[] = [];
  for (const [from, path, bytes, base] of steps) {
    const step = (on: Place): unknown => {
      receiver.base = base;
      const args = bytes === null ? undefined : (deserialize(bytes, receiver) as unknown[]);
      receiver.base = 0;
      return perform(on, path, args);
    };
    const earlier = results[from];
    const result = earlier === undefined ? startNow(step, place) : sent[from]!.then((answer) => {
      if (answer.failed) throw answer.error;
      return earlier.then((value) => step(placeOf(value)));
    });
    results.push(result);
    sent.push(result.then(success, failure));
  }
  return sent;
}

function startNow(step: (on: Place) => unknown, place: Place): Promise<unknown> {
  try {
    return Promise.resolve(step(place));
  } catch (e) {
    return Promise.reject(e);
  }
}

async function serve(call: number, place: Place, message: Uint8Array, numbers: number[], hold: (promise: Promise<unknown>) => void): Promise<void> {
  const receiver = new Receiver(numbers);
  const [answers, ...steps] = deserialize(message) as [number, ...WireStep[]];
  if (state.tailed) host.call("rpc.method", call, steps[0]?.[1].join(".") ?? "");
  const later = answers >= 0 ? new Stub(receiver.take(answers), false) : undefined;
  const answered = run(place, steps, receiver);
  const reported = answered.slice(1).map(async (answer, i) => report(later!, i + 1, await answer));
  const all = Promise.allSettled([...answered, ...reported]).then(() => {
    later?.dispose();
    receiver.dispose();
    receiver.releaseUnused();
  });
  const { bytes, sender, failed } = await answered[0]!;
  host.call("result", call, bytes, sender.channels, failed);
  const given = all.then(() => sender.given.forEach((stub) => stub.dispose()));
  if (answered.length > 1) hold(given);
}

async function report(later: Stub, index: number, { bytes, sender }: Answer): Promise<void> {
  const { channels } = sender;
  await host.start("rpc", open(later).number, serialize([index, bytes]), channels);
  for (const stub of sender.given) stub.dispose();
}

function failCall(call: number, error: unknown): void {
  host.call("result", call, failure(error).bytes, [], true);
}

/** A call on something this isolate passed out. */
function serveExport(call: number, id: number, message: Uint8Array, channels: number[]): void {
  const entry = exported?.get(id);
  const done = (): void => void host.call("done", call);
  if (entry === undefined) {
    failCall(call, new Error("RPC stub used after being disposed."));
    return done();
  }
  if (entry.answer !== undefined) {
    const [index, bytes] = deserialize(message) as [number, Uint8Array];
    entry.answer(index, bytes, channels);
    host.call("result", call, serialize([true]), [], false);
    return done();
  }
  const held: Promise<unknown>[] = [];
  serve(call, { object: entry.object, own: entry.own, reserved: isReserved }, message, channels, (promise) => held.push(promise))
    .catch((e: unknown) => failCall(call, e))
    .then(() => Promise.allSettled(held))
    .then(done);
}

function serveEntrypoint(call: number, name: string | null, props: Props, message: Uint8Array, channels: number[]): void {
  let found: Entrypoint;
  try {
    found = entrypoint(name, props, call);
  } catch (e) {
    failCall(call, e);
    return void host.call("done", call);
  }
  const { object, handlers } = found;
  const place: Place = { object, own: handlers !== undefined, reserved: isReservedOnEntrypoint, handlers };
  serve(call, place, message, channels, (promise) => found.waitUntil(promise))
    .catch((e: unknown) => failCall(call, e))
    .then(() => found.finish());
}

host.on("rpc", (call: number, target: string | number | null, props: Props, message: Uint8Array, channels: number[]) => {
  if (typeof target === "number") serveExport(call, target, message, channels);
  else serveEntrypoint(call, target, props, message, channels);
});
