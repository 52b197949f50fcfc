/**
 * DurableObjectState: the `ctx` of an actor. It only brings together what the other files here do; its own are forking, checkpoints and abort.
 */
import { host } from "../host";
import { state } from "../state";
import { defineInterface } from "../webidl";
import { currentCall } from "../workers";
import { callback, defineLazily, illegalInvocation, options, wrongArgument } from "./arguments";
import { facets, type DurableObjectFacets } from "./facets";
import { blockConcurrencyWhile, reset } from "./gate";
import { actorId, type DurableObjectId } from "./id";
import {
  acceptWebSocket, getAutoResponse, getAutoResponseTimestamp, getTags, getWebSockets, setAutoResponse, setEventTimeout, type WebSocketRequestResponsePair,
} from "./sockets";
import { steps, type Steps } from "./steps";
import { durableObjectStorage, receipt, type DurableObjectStorage, type Receipt } from "./storage";
import { timers, type DurableObjectTimers } from "./timers";
import type { WebSocket } from "../websocket";

const STATE = "DurableObjectState";
const RAW = Symbol();

interface ForkOptions {
  /** The new actor is the one that this name leads to; without it, it gets an id that nobody can guess. */
  name: unknown;
  /** Whether alarms go along. */
  alarms: unknown;
  /** Whether the heap goes along; without it the new actor begins with its constructor. */
  heap: unknown;
}

/** What the dispatcher knows of the actor. */
export interface Origin {
  id: DurableObjectId | string;
  props: () => unknown;
  exports: () => unknown;
}

/** Throws for what is no object of the class that methods here belong to. */
let own: (self: unknown) => void;

export class DurableObjectState {
  declare readonly facets: DurableObjectFacets;
  declare readonly container: undefined;
  declare readonly storage: DurableObjectStorage;
  declare readonly id: DurableObjectId | string;
  declare readonly props: unknown;
  declare readonly exports: unknown;
  declare readonly timers: DurableObjectTimers;
  declare readonly step: Steps;
  readonly #raw = true;

  constructor(raw: unknown, origin: Origin) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
    const { id, props, exports } = origin;
    defineLazily(this, { facets, container: () => undefined, storage: durableObjectStorage, id: () => id, props, exports });
    // What only skep has is not listed, so that code that copies a context copies what it knows.
    defineLazily(this, { timers, step: steps });
    for (const name of ["timers", "step"]) Object.defineProperty(this, name, { enumerable: false });
  }

  waitUntil(promise: unknown): void {
    if ((own(this), arguments.length) === 0) throw wrongArgument("waitUntil", STATE, 1, "Promise");
    // Outside of any call (in the constructor) nothing has to be kept alive: the actor's first call waits anyway.
    currentCall()?.waitUntil(promise);
  }

  async blockConcurrencyWhile<T>(f: () => T | Promise<T>): Promise<T> {
    return blockConcurrencyWhile(callback<() => T | Promise<T>>((own(this), f), 1, "blockConcurrencyWhile", STATE));
  }

  acceptWebSocket(_socket: WebSocket, _tags: string[] | undefined = undefined): void { own(this), acceptWebSocket(arguments); }
  getWebSockets(tag: string | undefined = undefined): WebSocket[] { return own(this), getWebSockets(tag); }
  setWebSocketAutoResponse(pair: WebSocketRequestResponsePair | undefined = undefined): void { own(this), setAutoResponse(pair); }
  getWebSocketAutoResponse(): WebSocketRequestResponsePair | null { return own(this), getAutoResponse(); }
  getWebSocketAutoResponseTimestamp(_socket: WebSocket): Date | null { return own(this), getAutoResponseTimestamp(arguments); }
  setHibernatableWebSocketEventTimeout(ms: number | undefined = undefined): void { own(this), setEventTimeout(ms); }
  getHibernatableWebSocketEventTimeout(): number | null { return own(this), state.actor!.eventTimeout; }
  getTags(_socket: WebSocket): string[] { return own(this), getTags(arguments); }

  abort(reason: string | undefined = undefined, given: unknown = undefined): never {
    const { retryAlarm } = options<{ retryAlarm: unknown }>((own(this), given), 2, "abort", STATE, "AbortOptions");
    const text = reason === undefined ? "Application called abort() to reset Durable Object." : `${reason}`;
    return reset(["Error", text, ""], retryAlarm === undefined || Boolean(retryAlarm));
  }

  /** Writes heap and database down together; settles with the proof of it. */
  async checkpoint(): Promise<Receipt | undefined> {
    return own(this), receipt((await host.start("actor.checkpoint")) as [number, number, string]);
  }

  /** A new actor of the same class, with this one's database and heap as they are now. Settles with its id. */
  async fork(given: unknown = undefined): Promise<DurableObjectId> {
    const { name, alarms, heap } = options<ForkOptions>((own(this), given), 1, "fork", STATE, "ForkOptions");
    const wanted: Record<string, unknown> = {};
    if (name !== undefined) wanted.name = `${name as string}`;
    if (alarms !== undefined) wanted.alarms = Boolean(alarms);
    if (heap !== undefined) wanted.heap = Boolean(heap);
    const id = (await host.start("actor.fork", JSON.stringify(wanted))) as string;
    return actorId(id, wanted.name as string | undefined);
  }

  static {
    own = (self) => {
      if (typeof self !== "object" || self === null || !(#raw in self)) throw illegalInvocation();
    };
  }
}

defineInterface(DurableObjectState, STATE);
for (const name of ["checkpoint", "fork"]) Object.defineProperty(DurableObjectState.prototype, name, { enumerable: false });

export function durableObjectState(origin: Origin): DurableObjectState {
  return new DurableObjectState(RAW, origin);
}
