/**
 * WebSocket (client by `new WebSocket`, or an end of a WebSocketPair as on Workers) and WebSocketPair. The protocol itself is spoken by the host: a
 * socket here sends and receives whole messages, to its peer in this isolate or under the number of a host socket.
 */
import { blobBytes, blobOver, isBlob } from "./blob";
import { deserialize, serialize } from "./clone";
import { CloseEvent, ErrorEvent, Event, EventTarget, MessageEvent, defineEventAttributes, fire } from "./events";
import { host } from "./host";
import { bytesOf } from "./streams";
import { parseUrl } from "./url";
import { defineInterface, requireArguments, usvString } from "./webidl";

const CONNECTING = 0, OPEN = 1, CLOSING = 2, CLOSED = 3;
const ACCEPTED = 1, CLOSE_SENT = 2, CLOSE_RECEIVED = 4, HALF_OPEN = 8, RELEASED = 16, FLUSHING = 32, BROKEN = 64;
const NO_CODE = 1005, ABNORMAL = 1006;
const PROTOCOL = 1, HASH = 9, HREF = 0;

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const RAW = Symbol();

type Data = string | Uint8Array;
type Incoming = { kind: "text" | "binary"; data: Data } | { kind: "close"; code: number; reason: string } | { kind: "error"; message: string };

// Host sockets that messages may arrive for. Made with the first one.
let sockets: Map<number, WebSocket> | undefined;

let receive: (socket: WebSocket, message: Incoming) => void;
let joinPair: (a: WebSocket, b: WebSocket) => void;
let breakDown: (socket: WebSocket, message: string) => void;

export let isWebSocket: (v: object) => v is WebSocket;
/** An open, not yet accepted socket over a host socket: what `fetch` got by an upgrade. */
export let socketOver: (socket: number, protocol: string) => WebSocket;
/** Makes a socket one that the host keeps for an actor, with its tags; returns its number. */
export let keepSocket: (socket: WebSocket, tags: string[]) => number;
/** A kept socket as the host describes it: of before this heap. */
export let keptSocket: (socket: number, tags: string[], attachment: Uint8Array | null) => WebSocket;
/** The tags of a kept socket; undefined for others. */
export let tagsOf: (socket: WebSocket) => string[] | undefined;
/** What a kept socket must know before its handler is called; for the end of it also what comes after. */
export let endKept: (socket: WebSocket, error: boolean) => void;
export let finishKept: (socket: WebSocket, code: number, reason: string) => void;
export let numberOf: (socket: WebSocket) => number;
/** Gives a socket away in a response: returns the host socket whose far end the caller gets. The script's end lives on. */
export let releaseSocket: (socket: WebSocket) => number;

function convertUrl(v: unknown): string {
  const c = parseUrl(usvString(v), null);
  if (c === null) throw new DOMException("WebSocket Constructor: The url is invalid.", "SyntaxError");
  const scheme = c[PROTOCOL]!;
  if (!["ws:", "wss:", "http:", "https:"].includes(scheme)) throw new DOMException("WebSocket Constructor: The url scheme must be ws or wss.", "SyntaxError");
  const href = c[HREF]!;
  if (c[HASH] !== "" || href.endsWith("#")) throw new DOMException("WebSocket Constructor: The url fragment must be empty.", "SyntaxError");
  return scheme.startsWith("http") ? `ws${href.slice(4)}` : href;
}

function convertProtocols(v: unknown): string[] {
  const given = v === undefined ? [] : typeof v === "object" && v !== null ? [...(v as Iterable<unknown>)] : [v];
  const protocols = given.map((p) => `${p as string}`);
  if (!protocols.every((p) => token.test(p))) throw new DOMException("WebSocket Constructor: The protocol header token is invalid.", "SyntaxError");
  if (new Set(protocols).size !== protocols.length) throw new DOMException("WebSocket Constructor: The protocols header cannot have repeating values.", "SyntaxError");
  return protocols;
}

function checkClose(code: unknown, reason: unknown): [code: number, reason: string] {
  const text = reason === undefined ? "" : usvString(reason);
  if (code === undefined) {
    if (reason !== undefined) throw new DOMException("If you specify a WebSocket close reason, you must also specify a code.", "InvalidAccessError");
    return [NO_CODE, ""];
  }
  const n = Math.trunc(Number(code)) || 0;
  if (n < 1000 || n > 4999 || n === 1004 || n === NO_CODE || n === ABNORMAL || n === 1015) {
    throw new DOMException(`Invalid WebSocket close code: ${n}.`, "InvalidAccessError");
  }
  if (host.utf8Encode(text).length > 123) {
    throw new DOMException("WebSocket close reason must not be longer than 123 bytes when UTF-8 encoded.", "SyntaxError");
  }
  return [n, text];
}

function convertData(v: unknown): Data {
  if (typeof v === "object" && v !== null) {
    const bytes = bytesOf(v);
    if (bytes !== undefined) return bytes.slice();
    if (isBlob(v)) return blobBytes(v);
  }
  return usvString(v);
}

/** Sends what arrived on one host socket on through another. */
function pass(from: number, to: number, m: Incoming): void {
  if ("data" in m) return void host.call("ws.send", to, m.data);
  // The other end's closing comes back the same way; a connection that broke breaks the other one, which is what 1006 says to the host.
  if (m.kind === "close") host.call("ws.close", to, m.code, m.reason);
  else host.call("ws.close", to, ABNORMAL, m.message);
  sockets?.delete(from);
}

export class WebSocket extends EventTarget {
  #url: string | null = null;
  #protocol = "";
  #state = OPEN;
  #flags = 0;
  #binaryType = "blob";
  /** The other end, when it is in this isolate. */
  #peer: WebSocket | undefined;
  /** The host's number, when it is not. */
  #socket = 0;
  /** The host socket that messages of this one go on to, unseen by scripts: it was obtained by `fetch` and given away in a response. */
  #relay = 0;
  /** The host socket that this one, once given away in a response, is the far end of: its peer is kept. */
  #far = 0;
  /** Of a kept socket. */
  #tags: string[] | undefined;
  /** The id of `ws.connect` while it is under way. */
  #connecting = 0;
  /** What has arrived and not been dispatched. */
  #queue: Incoming[] | undefined;
  #attachment: Uint8Array | undefined;

  constructor(url: string, protocols: unknown = undefined) {
    super();
    if ((url as unknown) === RAW) return;
    requireArguments(arguments.length, 1, "Failed to construct 'WebSocket'");
    this.#url = convertUrl(url);
    const wanted = convertProtocols(protocols);
    this.#state = CONNECTING;
    this.#connect(wanted);
  }

  get readyState(): number { return this.#state; }
  get bufferedAmount(): number { return this.#state, 0; }
  get url(): string | null { return this.#url; }
  get protocol(): string { return this.#protocol; }
  get extensions(): string { return this.#state, ""; }
  get binaryType(): string { return this.#binaryType; }
  set binaryType(v: string) {
    const type = `${v}`;
    if (type === "blob" || type === "arraybuffer") this.#binaryType = type;
  }

  accept(options: { allowHalfOpen?: boolean } | undefined = undefined): void {
    if (this.#flags & RELEASED) throw new TypeError("Can't accept() WebSocket when it was already used in a response.");
    if (this.#url !== null) throw new TypeError("Websockets obtained from the 'new WebSocket()' constructor cannot call accept");
    if (options !== undefined && (typeof options !== "object" || options === null)) {
      throw new TypeError("Failed to execute 'accept' on 'WebSocket': parameter 1 is not of type 'AcceptOptions'.");
    }
    if (this.#tags !== undefined) throw new TypeError("Can't accept() WebSocket after enabling hibernation.");
    if (this.#far !== 0) throw new TypeError("Can't accept() WebSocket whose pair is kept by an actor: it can only be returned in a Response.");
    if (this.#flags & ACCEPTED) return;
    this.#flags |= ACCEPTED | (options?.allowHalfOpen ? HALF_OPEN : 0);
    if (this.#socket !== 0) host.call("ws.accept", this.#socket);
    if (this.#queue !== undefined) this.#flush();
  }

  send(message: unknown): void {
    const flags = this.#flags;
    requireArguments(arguments.length, 1, "Failed to execute 'send' on 'WebSocket'");
    if (this.#state === CONNECTING) throw new DOMException("The WebSocket is still connecting.", "InvalidStateError");
    this.#checkAccepted();
    const data = convertData(message);
    if (flags & CLOSE_SENT) throw new TypeError("Can't call WebSocket send() after close().");
    if (flags & BROKEN) return;
    if (this.#peer === undefined) host.call(this.#tags === undefined ? "ws.send" : "actor.ws.send", this.#socket, data);
    else receive(this.#peer, { kind: typeof data === "string" ? "text" : "binary", data });
  }

  close(code: number | undefined = undefined, reason: string | undefined = undefined): void {
    const [n, text] = checkClose((this.#state, code), reason);
    if (this.#state === CONNECTING) {
      // The attempt is given up; what listeners hear of it comes later, as if it had failed.
      this.#state = CLOSING;
      host.abandon(this.#connecting);
      void Promise.resolve().then(() => breakDown(this, "The WebSocket was closed before the connection was established."));
      return;
    }
    this.#checkAccepted();
    if (this.#flags & (CLOSE_SENT | BROKEN)) return;
    this.#sendClose(n, text);
  }

  serializeAttachment(attachment: unknown): void {
    if ((this.#state, arguments.length) === 0) {
      throw new TypeError("Failed to execute 'serializeAttachment' on 'WebSocket': parameter 1 is not of type 'Value'.");
    }
    const bytes = serialize(attachment);
    if (bytes.length > 16384) throw new Error(`A WebSocket 'attachment' cannot be larger than 16384 bytes.'attachment' was ${bytes.length} bytes.`);
    this.#attachment = bytes;
    if (this.#tags !== undefined) host.call("actor.ws.attach", this.#socket, bytes);
  }

  deserializeAttachment(): unknown {
    return this.#attachment === undefined ? null : deserialize(this.#attachment);
  }

  #checkAccepted(): void {
    if (!(this.#flags & ACCEPTED)) throw new TypeError("You must call one of accept() or state.acceptWebSocket() on this WebSocket before sending messages.");
  }

  async #connect(protocols: string[]): Promise<void> {
    try {
      this.#connecting = host.nextId();
      const [socket, protocol] = (await host.startAs(this.#connecting, "ws.connect", [0, this.#url, protocols])) as [number, string];
      this.#socket = socket;
      this.#protocol = protocol;
      this.#state = OPEN;
      this.#flags |= ACCEPTED;
      (sockets ??= new Map()).set(socket, this);
      host.call("ws.accept", socket);
    } catch (e) {
      breakDown(this, e instanceof Error ? e.message : "Failed to establish websocket connection");
      return;
    }
    fire(this, new Event("open"));
  }

  #sendClose(code: number, reason: string): void {
    this.#flags |= CLOSE_SENT;
    this.#state = this.#flags & CLOSE_RECEIVED ? CLOSED : CLOSING;
    if (this.#peer === undefined) host.call(this.#tags === undefined ? "ws.close" : "actor.ws.close", this.#socket, code, reason);
    else receive(this.#peer, { kind: "close", code, reason });
    if (this.#state === CLOSED) sockets?.delete(this.#socket);
  }

  /** Dispatches what has arrived, later in this turn, so that nothing is dispatched inside of `send` or `accept`. */
  #flush(): void {
    if (this.#flags & FLUSHING || !(this.#flags & ACCEPTED)) return;
    this.#flags |= FLUSHING;
    void Promise.resolve().then(() => {
      this.#flags &= ~FLUSHING;
      const queue = this.#queue;
      this.#queue = undefined;
      if (queue !== undefined) for (const message of queue) this.#dispatch(message);
    });
  }

  #dispatch(message: Incoming): void {
    if (message.kind === "close") return this.#closed(message.code, message.reason);
    if (message.kind === "error") return breakDown(this, message.message);
    if (this.#state !== OPEN) return;
    const { data } = message;
    const shown = typeof data === "string" ? data : this.#binaryType === "blob" ? blobOver(data, "") : data.buffer;
    fire(this, new MessageEvent("message", { data: shown }));
  }

  #closed(code: number, reason: string): void {
    if (this.#flags & (CLOSE_RECEIVED | BROKEN)) return;
    this.#flags |= CLOSE_RECEIVED;
    if (this.#flags & CLOSE_SENT) this.#state = CLOSED;
    else if (this.#flags & HALF_OPEN) this.#state = CLOSING;
    else this.#sendClose(code, reason);
    if (this.#state === CLOSED) sockets?.delete(this.#socket);
    fire(this, new CloseEvent("close", { code, reason, wasClean: code !== ABNORMAL }));
  }

  static {
    isWebSocket = (v): v is WebSocket => #state in v;
    socketOver = (n, protocol) => {
      const socket = new WebSocket(RAW as unknown as string);
      socket.#socket = n;
      socket.#protocol = protocol;
      (sockets ??= new Map()).set(n, socket);
      return socket;
    };
    releaseSocket = (socket) => {
      if (socket.#flags & RELEASED) throw new TypeError("Can't return WebSocket that was already used in a response.");
      if (socket.#flags & ACCEPTED) throw new TypeError("Can't return WebSocket in a Response after calling accept().");
      socket.#flags |= RELEASED;
      if (socket.#far !== 0) return socket.#far;
      const peer = socket.#peer;
      const n = host.call("ws.open") as number;
      if (peer === undefined) {
        const back = new WebSocket(RAW as unknown as string);
        back.#socket = socket.#relay = n;
        back.#relay = socket.#socket;
        sockets!.set(n, back);
        const waiting = socket.#queue ?? [];
        socket.#queue = undefined;
        for (const m of waiting) receive(socket, m);
        return n;
      }
      socket.#peer = peer.#peer = undefined;
      peer.#socket = n;
      (sockets ??= new Map()).set(n, peer);
      // What the script's end has said so far was waiting at this one.
      for (const m of socket.#queue ?? []) {
        if (m.kind === "close") host.call("ws.close", n, m.code, m.reason);
        else if (m.kind !== "error") host.call("ws.send", n, m.data);
      }
      socket.#queue = undefined;
      if (peer.#flags & ACCEPTED) host.call("ws.accept", n);
      return n;
    };
    keepSocket = (socket, tags) => {
      const peer = socket.#peer;
      if (socket.#flags & ACCEPTED) throw new Error("Cannot call `acceptWebSocket()` if the WebSocket was already accepted via `accept()`");
      if (peer === undefined || peer.#flags & (ACCEPTED | RELEASED) || socket.#far !== 0) {
        throw new Error("Cannot call `acceptWebSocket()` on this WebSocket because its pair has already been accepted or used in a Response.");
      }
      const n = host.call("ws.open") as number;
      socket.#peer = peer.#peer = undefined;
      socket.#socket = peer.#far = n;
      socket.#flags |= ACCEPTED;
      socket.#tags = tags;
      host.call("actor.ws.keep", n, tags);
      if (socket.#attachment !== undefined) host.call("actor.ws.attach", n, socket.#attachment);
      return n;
    };
    keptSocket = (n, tags, attachment) => {
      const socket = new WebSocket(RAW as unknown as string);
      socket.#socket = n;
      socket.#flags = ACCEPTED;
      socket.#tags = tags;
      socket.#attachment = attachment ?? undefined;
      return socket;
    };
    tagsOf = (socket) => socket.#tags;
    numberOf = (socket) => socket.#socket;
    endKept = (socket, error) => {
      socket.#flags |= error ? BROKEN : CLOSE_RECEIVED;
      socket.#state = error || socket.#flags & CLOSE_SENT ? CLOSED : CLOSING;
    };
    finishKept = (socket, code, reason) => {
      if (code !== ABNORMAL && !(socket.#flags & (CLOSE_SENT | BROKEN))) socket.#sendClose(code, reason);
      socket.#flags |= BROKEN;
      socket.#state = CLOSED;
    };
    joinPair = (a, b) => {
      a.#peer = b;
      b.#peer = a;
    };
    receive = (socket, message) => {
      if (socket.#relay !== 0) return pass(socket.#socket, socket.#relay, message);
      (socket.#queue ??= []).push(message);
      socket.#flush();
    };
    breakDown = (socket, message) => {
      if (socket.#state === CLOSED) return;
      socket.#state = CLOSED;
      socket.#flags |= BROKEN;
      sockets?.delete(socket.#socket);
      fire(socket, new ErrorEvent("error", { message, error: new Error(message) }));
      fire(socket, new CloseEvent("close", { code: ABNORMAL, reason: "", wasClean: false }));
    };
  }
}

defineEventAttributes(WebSocket, "open", "message", "close", "error");
defineInterface(WebSocket, "WebSocket", {
  READY_STATE_CONNECTING: CONNECTING, CONNECTING, READY_STATE_OPEN: OPEN, OPEN, READY_STATE_CLOSING: CLOSING, CLOSING, READY_STATE_CLOSED: CLOSED, CLOSED,
});

/** Two connected sockets, as properties 0 and 1. */
export class WebSocketPair {
  declare 0: WebSocket;
  declare 1: WebSocket;

  constructor() {
    const a = new WebSocket(RAW as unknown as string);
    const b = new WebSocket(RAW as unknown as string);
    joinPair(a, b);
    this[0] = a;
    this[1] = b;
  }

  *[Symbol.iterator](): IterableIterator<WebSocket> {
    yield this[0];
    yield this[1];
  }
}

defineInterface(WebSocketPair, "WebSocketPair");

host.on("ws", (n: number, kind: "text" | "binary" | "close" | "error", data: Data | null, code: number, reason: string) => {
  const socket = sockets?.get(n);
  if (socket === undefined) return;
  if (kind === "close") receive(socket, { kind, code, reason });
  else if (kind === "error") receive(socket, { kind, message: reason });
  else receive(socket, { kind, data: data! });
});

// The host kept the connections, and they are gone.
host.onWake(() => {
  for (const socket of [...(sockets?.values() ?? [])]) breakDown(socket, "The WebSocket was lost because the isolate was hibernated");
});

export const globals = { WebSocket, WebSocketPair };
