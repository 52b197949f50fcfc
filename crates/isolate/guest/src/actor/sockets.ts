/**
 * Kept WebSockets: connections that the host holds for an actor, also while it is not in memory. Here is which object stands for which of them;
 * what arrives comes as `socket` events, that is as calls to the handlers of the actor's class.
 */
import { host } from "../host";
import { state } from "../state";
import { defineInterface } from "../webidl";
import { endKept, finishKept, isWebSocket, keepSocket, keptSocket, numberOf, tagsOf, type WebSocket } from "../websocket";
import { withNew, wrongArgument } from "./arguments";

const STATE = "DurableObjectState";
const mostTags = 10, longestTag = 256, longestResponse = 2048, longestTimeout = 604_800_000, mostSockets = 32_768;
const ABNORMAL = 1006;

type Described = [number: number, tags: string[], attachment: Uint8Array | null, answered: number | null];

let pairOf: (value: unknown) => [request: string, response: string] | undefined;

/** A text that is answered with another without the actor hearing of it. */
export class WebSocketRequestResponsePair {
  readonly #request: string;
  readonly #response: string;

  constructor(request: string, response: string) {
    for (const n of [1, 2]) {
      if (arguments.length < n) throw new TypeError(`Failed to construct 'WebSocketRequestResponsePair': constructor parameter ${n} is not of type 'string'.`);
    }
    this.#request = `${request}`;
    this.#response = `${response}`;
  }

  get request(): string { return this.#request; }
  get response(): string { return this.#response; }

  static {
    pairOf = (value) => (typeof value === "object" && value !== null && #request in value ? [value.#request, value.#response] : undefined);
  }
}

defineInterface(WebSocketRequestResponsePair, "WebSocketRequestResponsePair");

/** What code has of it. */
export const globals = { WebSocketRequestResponsePair: withNew(WebSocketRequestResponsePair, "WebSocketRequestResponsePair") };

// --- which object stands for which connection ------------------------------------------------------------------------------

/** All kept sockets by number, oldest first. The host is asked once in a heap. */
function all(): Map<number, WebSocket> {
  const actor = state.actor!;
  if (actor.sockets !== undefined) return actor.sockets;
  const sockets = (actor.sockets = new Map<number, WebSocket>());
  for (const [n, tags, attachment] of host.call("actor.ws.list", null) as Described[]) sockets.set(n, keptSocket(n, tags, attachment));
  return sockets;
}

/** After waking: connections may have ended meanwhile. Those that live on keep their objects. */
host.onWake(() => {
  const known = state.actor?.sockets;
  if (known === undefined) return;
  const live = new Map((host.call("actor.ws.list", null) as Described[]).map(([n, tags, attachment]) => [n, known.get(n) ?? keptSocket(n, tags, attachment)]));
  for (const [n, socket] of known) if (!live.has(n)) finishKept(socket, ABNORMAL, "");
  state.actor!.sockets = live;
});

function socketArgument(args: ArrayLike<unknown>, method: string): WebSocket {
  const value = args[0];
  if (typeof value !== "object" || value === null || !isWebSocket(value)) throw wrongArgument(method, STATE, 1, "WebSocket");
  return value;
}

function tagsArgument(value: unknown): string[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw wrongArgument("acceptWebSocket", STATE, 2, "Array");
  const tags = new Set<string>();
  for (const item of value.map((v) => `${v as string}`)) {
    if (tags.size >= mostTags) throw new Error(`a Hibernatable WebSocket cannot have more than ${mostTags} tags`);
    if (host.utf8Encode(item).length > longestTag) throw new Error(`"${item}" is longer than the max tag length (${longestTag} characters).`);
    tags.add(item);
  }
  return [...tags];
}

// --- what `ctx` has of it --------------------------------------------------------------------------------------------------

export function acceptWebSocket(args: ArrayLike<unknown>): void {
  const socket = socketArgument(args, "acceptWebSocket");
  const sockets = all();
  const tags = tagsArgument(args[1]);
  if (sockets.size >= mostSockets) throw new Error(`only ${mostSockets} websockets can be accepted on a single Durable Object instance`);
  sockets.set(keepSocket(socket, tags), socket);
}

/** All of them, the newest first; those of a tag, the oldest first. */
export function getWebSockets(tag: unknown): WebSocket[] {
  const sockets = [...all().values()];
  if (tag === undefined) return sockets.reverse();
  const wanted = `${tag as string}`;
  return sockets.filter((socket) => tagsOf(socket)!.includes(wanted));
}

export function getTags(args: ArrayLike<unknown>): string[] {
  const tags = tagsOf(socketArgument(args, "getTags"));
  if (tags === undefined) throw new Error("you must call 'acceptWebSocket()' before attempting to access the tags of a WebSocket.");
  return [...tags];
}

export function setAutoResponse(value: unknown): void {
  if (value === undefined || value === null) return void host.call("actor.ws.auto", null, null);
  const pair = pairOf(value);
  if (pair === undefined) throw wrongArgument("setWebSocketAutoResponse", STATE, 1, "WebSocketRequestResponsePair");
  for (const [i, what, article] of [[0, "Request", "request"], [1, "Response", "response"]] as const) {
    const { length } = host.utf8Encode(pair[i]);
    if (length > longestResponse) throw new RangeError(`${what} cannot be larger than ${longestResponse} bytes. A ${article} of size ${length} was provided.`);
  }
  host.call("actor.ws.auto", ...pair);
}

export function getAutoResponse(): WebSocketRequestResponsePair | null {
  const pair = host.call("actor.ws.auto.get") as [string, string] | null;
  return pair === null ? null : new WebSocketRequestResponsePair(...pair);
}

export function getAutoResponseTimestamp(args: ArrayLike<unknown>): Date | null {
  const socket = socketArgument(args, "getWebSocketAutoResponseTimestamp");
  if (tagsOf(socket) === undefined) return null;
  const number = numberOf(socket);
  const answered = (host.call("actor.ws.list", null) as Described[]).find(([n]) => n === number)?.[3];
  return typeof answered === "number" ? new Date(answered) : null;
}

/** How long one event of a socket may take, in ms; null: no limit of its own. */
export function setEventTimeout(value: unknown): void {
  const ms = value === undefined ? 0 : Math.trunc(Number(value)) || 0;
  if (ms < 0) throw new TypeError("The value cannot be converted because it is negative and this API expects a positive number.");
  if (ms > longestTimeout) throw new Error(`Event timeout should not exceed ${longestTimeout} ms.`);
  state.actor!.eventTimeout = ms === 0 ? null : ms;
  host.call("actor.ws.timeout", ms === 0 ? null : ms);
}

// --- what arrives ------------------------------------------------------------------------------------------------------------

type Handlers = Record<string, unknown>;

function call(instance: Handlers, name: string, ...args: unknown[]): unknown {
  const f = instance[name];
  return typeof f === "function" ? (Reflect.apply(f, instance, args) as unknown) : undefined;
}

async function close(instance: Handlers, n: number, socket: WebSocket, code: number, given: string): Promise<void> {
  const reason = code === ABNORMAL && given === "" ? "WebSocket disconnected without sending Close frame." : given;
  endKept(socket, false);
  try {
    await call(instance, "webSocketClose", socket, code, reason, code !== ABNORMAL);
  } finally {
    // A handler need not answer the other end's closing itself.
    finishKept(socket, code, given);
    all().delete(n);
  }
}

async function fail(instance: Handlers, n: number, socket: WebSocket, message: string): Promise<void> {
  endKept(socket, true);
  try {
    await call(instance, "webSocketError", socket, new Error(message));
  } finally {
    all().delete(n);
  }
}

/** Calls the handler for what arrived on a kept socket. */
export function receive(n: number, kind: "text" | "binary" | "close" | "error", data: string | Uint8Array | null, code: number, reason: string): unknown {
  const instance = state.actor!.instance!;
  const socket = all().get(n) ?? keptSocket(n, [], null);
  if (kind === "close") return close(instance, n, socket, code, reason);
  if (kind === "error") return fail(instance, n, socket, reason);
  return call(instance, "webSocketMessage", socket, typeof data === "string" ? data : (data as Uint8Array).buffer);
}
