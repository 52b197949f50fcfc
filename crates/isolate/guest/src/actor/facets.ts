/**
 * `ctx.facets`: actors that belong to an actor, each with a database of its own inside of its parent's. What a facet is made of is asked for by a
 * callback when it is first called and does not run yet.
 */
import { host } from "../host";
import { describe } from "../report";
import { DurableObjectClass, facetStub } from "../rpc";
import { state } from "../state";
import { defineInterface } from "../webidl";
import { callback, illegalInvocation, text } from "./arguments";
import { encodeId } from "./id";
import { classOf } from "./namespace";

const FACETS = "DurableObjectFacets";
const RAW = Symbol();
const longestName = 256;

interface StartupOptions {
  class?: unknown;
  id?: unknown;
}

function facetName(args: ArrayLike<unknown>, position: number, method: string): string {
  const name = text(args, position, method, FACETS);
  if (host.utf8Encode(name).length > longestName) throw new TypeError(`Facet name is too long (max ${longestName} characters).`);
  return name;
}

function channelOfClass(value: unknown): number {
  const channel = DurableObjectClass.channelOf(classOf(value) ?? value);
  if (channel !== undefined) return channel;
  throw new TypeError(
    "Incorrect type for the 'class' field on 'StartupOptions': the provided value is not of type 'DurableObjectClass or " +
      "LoopbackDurableObjectNamespace or LoopbackColoLocalActorNamespace'.",
  );
}

async function start(name: string, startup: () => unknown): Promise<number> {
  const given = await startup();
  if (given === undefined || given === null) throw new TypeError("Cannot initialize StartupOptions with required members from an undefined or null value.");
  if (typeof given !== "object" || given === null) throw new TypeError("Callback returned incorrect type; expected 'Promise'");
  const { class: C, id } = given as StartupOptions;
  const channel = channelOfClass(C);
  return host.call("actor.facet", name, channel, encodeId(id === undefined ? state.actor!.id : id)) as number;
}

/** Throws for what is no object of the class that methods here belong to. */
let own: (self: unknown) => void;

export class DurableObjectFacets {
  readonly #raw = true;

  constructor(raw: unknown) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
  }

  get(_name: string, startup: () => unknown): object {
    const name = (own(this), facetName(arguments, 1, "get"));
    const f = callback<() => unknown>(startup, 2, "get", FACETS);
    return facetStub(() => (host.call("actor.facet", name, null, null) as number | null) ?? start(name, f));
  }

  abort(_name: string, reason: unknown): void {
    const name = (own(this), facetName(arguments, 1, "abort"));
    host.call("actor.facet.abort", name, describe(reason));
  }

  delete(_name: string): void {
    host.call("actor.facet.delete", (own(this), facetName(arguments, 1, "delete")));
  }

  /** The promise settles when the copy is durable; calls to it wait by themselves. */
  clone(_from: string, _to: string): Promise<void> {
    const from = (own(this), facetName(arguments, 1, "clone"));
    return host.start("actor.facet.clone", from, facetName(arguments, 2, "clone")) as Promise<void>;
  }

  static {
    own = (self) => {
      if (typeof self !== "object" || self === null || !(#raw in self)) throw illegalInvocation();
    };
  }
}

defineInterface(DurableObjectFacets, FACETS);

export function facets(): DurableObjectFacets {
  return new DurableObjectFacets(RAW);
}
