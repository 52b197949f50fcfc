/**
 * MessageChannel and MessagePort of the HTML standard, between two ports of one isolate. Each message is delivered as a task of its own.
 */
import { cloneWithTransfer, dataCloneError, registerTransferable } from "./clone";
import { Event, EventTarget, MessageEvent, defineEventAttributes, fire, hasListeners } from "./events";
import { setTimeout } from "./timers";
import { defineInterface, requireArguments } from "./webidl";

interface Message {
  data: unknown;
  ports: object[];
}

let secret: object | undefined;
let entangle: (a: MessagePort, b: MessagePort) => void;
let makePort: () => MessagePort;

export class MessagePort extends EventTarget {
  #other: MessagePort | undefined;
  #started = false;
  #closed = false;
  #queue: Message[] | undefined;

  constructor() {
    super();
    if (secret === undefined) throw new TypeError("Illegal constructor");
  }

  postMessage(message: unknown, options?: unknown): void {
    requireArguments(arguments.length, 1, "Failed to execute 'postMessage' on 'MessagePort'");
    const transfer = isIterable(options) ? options : (options as { transfer?: Iterable<object> } | undefined)?.transfer;
    const list = transfer === undefined ? undefined : [...transfer];
    if (list?.includes(this)) throw dataCloneError("A port cannot transfer itself.");
    const other = this.#other;
    const { value, moved } = cloneWithTransfer(message, list);
    if (other === undefined || list?.includes(other)) return;
    other.#deliver({ data: value, ports: moved.filter((o) => o instanceof MessagePort) });
  }

  start(): void {
    if (this.#started) return;
    this.#started = true;
    const waiting = this.#queue;
    this.#queue = undefined;
    if (waiting !== undefined) for (const message of waiting) this.#deliver(message);
  }

  close(): void {
    const other = this.#other;
    this.#closed = true;
    this.#other = undefined;
    if (other === undefined) return;
    other.#other = undefined;
    setTimeout(() => {
      other.#closed = true;
      if (hasListeners(other, "close")) fire(other, new Event("close"));
    }, 0);
  }

  #deliver(message: Message): void {
    if (!this.#started) {
      (this.#queue ??= []).push(message);
      return;
    }
    setTimeout(() => {
      if (this.#closed || !hasListeners(this, "message")) return;
      fire(this, new MessageEvent("message", { data: message.data, ports: message.ports }));
    }, 0);
  }

  static {
    makePort = () => {
      secret = makePort;
      try {
        return new MessagePort();
      } finally {
        secret = undefined;
      }
    };
    entangle = (a, b) => {
      a.#other = b;
      b.#other = a;
    };
    registerTransferable(MessagePort, {
      shell: makePort,
      move(from, shell) {
        if (from.#closed) throw dataCloneError("A detached MessagePort cannot be transferred.");
        if (from.#other !== undefined) entangle(shell, from.#other);
        shell.#queue = from.#queue;
        from.#queue = from.#other = undefined;
        from.#closed = true;
      },
    });
  }
}

function isIterable(v: unknown): v is Iterable<object> {
  return typeof v === "object" && v !== null && typeof (v as Partial<Iterable<object>>)[Symbol.iterator] === "function";
}

defineEventAttributes(MessagePort, "message", "messageerror", "close");

// Setting `onmessage` starts the port; adding a listener does not.
const onmessage = Object.getOwnPropertyDescriptor(MessagePort.prototype, "onmessage")!;
Object.defineProperty(MessagePort.prototype, "onmessage", {
  ...onmessage,
  set(this: MessagePort, value: unknown) {
    onmessage.set!.call(this, value);
    this.start();
  },
});
defineInterface(MessagePort, "MessagePort");

export class MessageChannel {
  #port1 = makePort();
  #port2 = makePort();

  constructor() {
    entangle(this.#port1, this.#port2);
  }

  get port1(): MessagePort { return this.#port1; }
  get port2(): MessagePort { return this.#port2; }
}

defineInterface(MessageChannel, "MessageChannel");

export const globals = { MessageChannel, MessagePort };
