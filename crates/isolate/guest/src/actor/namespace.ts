/**
 * DurableObjectNamespace: where the actors of one class are reached, as a binding in `env` or as `ctx.exports.Class`; and that class apart from its
 * actors. The host keeps the namespace under a number and answers ids at once; a stub opens its channel when it is first used.
 */
import { host } from "../host";
import { actorClass, actorStub, entrypointChannel, type DurableObjectClass } from "../rpc";
import { defineInterface } from "../webidl";
import { illegalInvocation, options, text, wrongArgument } from "./arguments";
import { actorId, digitsOf, type DurableObjectId } from "./id";

const NAMESPACE = "DurableObjectNamespace";
const RAW = Symbol();
/** Characters of a name that is certainly not too long for the host. */
const SHORT = 256;
const jurisdictions = ["eu", "fedramp", "fedramp-high", "us"];

interface GetOptions {
  locationHint: unknown;
  routingMode: unknown;
}

/** Lets a constructor's fields be those of an object that is there already: of a function, so that it can be called. */
class Onto {
  constructor(object: object | undefined) {
    if (object !== undefined) return object;
  }
}

/** Known words are taken, and change nothing: on one's own machines an actor is where its node is. */
function checkJurisdiction(value: unknown): void {
  if (value === undefined || value === null) return;
  const name = `${value as string}`;
  if (!jurisdictions.includes(name)) throw new TypeError(`Invalid jurisdiction: "${name}". It must be one of ${jurisdictions.map((j) => `"${j}"`).join(", ")}.`);
}

/** The host's number of a namespace; throws for what is none. */
let numberOf: (self: unknown) => number;

/** Puts another number behind a namespace: the host's table is new after waking. */
export let renewNamespace: (namespace: unknown, number: number) => void;

export class DurableObjectNamespace extends Onto {
  #number: number;

  constructor(raw: unknown, number: number, onto?: object) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
    super(onto);
    this.#number = number;
  }

  newUniqueId(given: unknown = undefined): DurableObjectId {
    const number = numberOf(this);
    checkJurisdiction(options<{ jurisdiction: unknown }>(given, 1, "newUniqueId", NAMESPACE, "NewUniqueIdOptions").jurisdiction);
    return actorId(host.call("namespace.unique", number) as string, undefined);
  }

  idFromName(_name: string): DurableObjectId {
    numberOf(this);
    return this.#named(text(arguments, 1, "idFromName", NAMESPACE).toWellFormed());
  }

  idFromString(_id: string): DurableObjectId {
    const id = (numberOf(this), text(arguments, 1, "idFromString", NAMESPACE)).toLowerCase();
    if (!/^[0-9a-f]{64}$/.test(id)) throw new TypeError("Invalid Durable Object ID: must be 64 hex digits");
    if (host.call("namespace.owns", this.#number, id) !== true) throw new TypeError("Durable Object ID is not valid for this namespace.");
    return actorId(id, undefined);
  }

  get(id: DurableObjectId, given: unknown = undefined): object {
    const digits = digitsOf((numberOf(this), id));
    if (digits === undefined) throw wrongArgument("get", NAMESPACE, 1, "DurableObjectId");
    return this.#stub("get", () => id, digits, id.name, given);
  }

  getByName(_name: string, given: unknown = undefined): object {
    numberOf(this);
    const name = text(arguments, 1, "getByName", NAMESPACE).toWellFormed();
    // The host can go by the name alone, and few ask for the id; but one that may be too long is told at once.
    const id = name.length > SHORT ? this.#named(name) : undefined;
    return this.#stub("getByName", () => id ?? this.#named(name), null, name, given);
  }

  jurisdiction(name: unknown = undefined): DurableObjectNamespace {
    checkJurisdiction((numberOf(this), name));
    return this;
  }

  #named(name: string): DurableObjectId {
    return actorId(host.call("namespace.id", this.#number, name) as string, name);
  }

  #stub(method: string, id: () => DurableObjectId, digits: string | null, name: string | undefined, given: unknown): object {
    const { routingMode } = options<GetOptions>(given, 2, method, NAMESPACE, "GetDurableObjectOptions");
    if (routingMode !== undefined && routingMode !== "primary-only") throw new RangeError(`unknown routingMode: ${routingMode as string}`);
    return actorStub(id, name, () => host.call("namespace.get", this.#number, digits, name ?? null) as number);
  }

  static {
    const isOne = (value: unknown): value is DurableObjectNamespace =>
      ((typeof value === "object" && value !== null) || typeof value === "function") && #number in value;
    numberOf = (self) => {
      if (!isOne(self)) throw illegalInvocation();
      return self.#number;
    };
    renewNamespace = (namespace, number) => {
      if (isOne(namespace)) namespace.#number = number;
    };
  }
}

/** `ctx.exports.Class` of a class that has actors: their namespace, and as a function the class itself, with props. */
class LoopbackDurableObjectNamespace extends DurableObjectNamespace {}
/** The same of a class that has none: only facets can be made of it. */
class LoopbackDurableObjectClass {}

defineInterface(DurableObjectNamespace, NAMESPACE);
defineInterface(LoopbackDurableObjectNamespace, "LoopbackDurableObjectNamespace");
defineInterface(LoopbackDurableObjectClass, "LoopbackDurableObjectClass");

/** The binding that the host describes by this number. */
export function namespace(number: number): DurableObjectNamespace {
  return new DurableObjectNamespace(RAW, number);
}

// What stands for a class of this worker: the function of `ctx.exports`, and which class it means.
let loopbacks: WeakMap<object, string> | undefined;

/** `ctx.exports.Class`. */
export function loopbackClass(name: string, number: number | undefined): object {
  const make = (given?: unknown): object => {
    const { props } = options<{ props: unknown }>(given, 1, name, "exports", "Options");
    return actorClass(() => entrypointChannel(name, props));
  };
  const C = number === undefined ? LoopbackDurableObjectClass : LoopbackDurableObjectNamespace;
  Object.setPrototypeOf(make, C.prototype);
  (loopbacks ??= new WeakMap()).set(make, name);
  return number === undefined ? make : new LoopbackDurableObjectNamespace(RAW, number, make);
}

/** The class that the `class` of a facet's options means; undefined: none. */
export function classOf(value: unknown): DurableObjectClass | undefined {
  const loopback = typeof value === "function" ? loopbacks?.get(value) : undefined;
  return loopback === undefined ? undefined : actorClass(() => entrypointChannel(loopback, undefined));
}
