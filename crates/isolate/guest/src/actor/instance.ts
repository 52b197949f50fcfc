/**
 * The one instance of an actor's class: made when the worker's module is there, and what an actor keeps besides it. Driven by the dispatcher, which
 * brings the calls.
 */
import { received } from "../rpc";
import { state } from "../state";
import type { WebSocket } from "../websocket";
import { outermost, type Block } from "./gate";
import { ownId, renewOwnId, type DurableObjectId } from "./id";
import type { Listing } from "./kv";
import { defineLazily } from "./arguments";
import { durableObjectState, type DurableObjectState } from "./state";

export type Instance = Record<string, unknown>;
type ActorConstructor = new (ctx: object, env: object) => Instance;

/** Everything that an actor has and other isolates have not. */
export interface ActorHeap {
  /** `ctx.id`. */
  readonly id: DurableObjectId | string;
  /** The export that the instance is of. */
  readonly name: string;
  instance: Instance | undefined;
  ctx: DurableObjectState | undefined;
  /** Whether the class extends `DurableObject`, so that its methods can be called. */
  callable: boolean;
  /** The constructor and all that it began to wait for are through. */
  made: boolean;
  readonly making: Promise<unknown>[];
  /** gate.ts: blocks that run or wait to, and where those that were asked for beside each other queue. */
  blocks: number;
  readonly outermost: Block;
  /** storage.ts: transactions open. */
  transactions: number;
  /** kv.ts: the one listing whose iterator is valid. */
  listing: Listing | undefined;
  /** sockets.ts. */
  sockets: Map<number, WebSocket> | undefined;
  eventTimeout: number | null;
  /** steps.ts: steps under way. */
  steps: Map<string, Promise<unknown>> | undefined;
}

/** What `load` says of an actor. */
export type Identity = [exported: string, id: string, name: string | null, props: Props];
export type Props = [bytes: Uint8Array | null, channels: number[]] | null;

/** Says that this isolate is an actor: before any code of the worker runs. */
export function becomeActor([name, id, given]: Identity): void {
  state.actor = {
    id: ownId(id, given ?? undefined), name, ctx: undefined, instance: undefined, callable: false, made: false, making: [], blocks: 0, outermost: outermost(), transactions: 0, listing: undefined,
    sockets: undefined, eventTimeout: null, steps: undefined,
  };
}

const propsOf = (props: Props | undefined) => (): unknown => (received(props) as unknown) ?? {};

/** After waking: a forked heap is another actor's from then on, and what `ctx.props` refers to has other numbers. */
export function renewIdentity([, id, given, props]: Identity): void {
  const actor = state.actor!;
  if (props) defineLazily(actor.ctx!, { props: propsOf(props) });
  renewOwnId(actor.id, id, given ?? undefined);
}

/** Constructs the instance; settles when nothing that its constructor began blocks it any more, and rejects with the first of their errors. */
export async function construct(C: unknown, [name, , , props]: Identity, base: object, env: object, exports: () => object): Promise<void> {
  const actor = state.actor!;
  if (typeof C !== "function") throw new Error(name === "" || name === "default" ? "Worker has no default actor class." : `Worker has no such actor class: ${name}`);
  const ctx = (actor.ctx = durableObjectState({ id: actor.id, props: propsOf(props), exports }));
  actor.callable = Object.prototype.isPrototypeOf.call(base, (C.prototype ?? {}) as object);
  actor.instance = new (C as ActorConstructor)(ctx, env);
  // A block may ask for another one.
  for (let i = 0; i < actor.making.length; i++) await actor.making[i];
  actor.made = true;
  actor.making.length = 0;
}
