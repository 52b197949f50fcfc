/**
 * `ctx.storage.kv`, and what it shares with the asynchronous interface (storage.ts): keys with serialised values, read and written within the turn.
 */
import { unsupported, isOpaque, dataCloneError } from "../clone";
import { Headers } from "../headers";
import { host } from "../host";
import { isStub } from "../rpc";
import { deserialize, serialize, type ReadDelegate, type WriteDelegate } from "../serial";
import { state } from "../state";
import { defineInterface } from "../webidl";
import { illegalInvocation, options, string, text, wrongArgument } from "./arguments";

const KV = "SyncKvStorage";
const RAW = Symbol();

// --- values --------------------------------------------------------------------------------------------------------------

/** What is kept outlives every stub, so there are none in it; besides data there are headers. */
const delegate: WriteDelegate & ReadDelegate = {
  write(value) {
    if (value instanceof Headers) return [...(value as unknown as Iterable<[string, string]>)];
    if (isStub(value)) throw dataCloneError("ServiceStub cannot be serialized in this context.");
    if (isOpaque(value)) throw unsupported(value);
    return undefined;
  },
  read: (data) => new Headers(data as [string, string][]),
};

export function stored(value: unknown): Uint8Array {
  return serialize(value, delegate);
}

/** The way back; `undefined` for a key that is not there. */
export function restored(bytes: Uint8Array | null): unknown {
  return bytes === null ? undefined : deserialize(bytes, delegate);
}

// --- listing -------------------------------------------------------------------------------------------------------------

export interface ListOptions {
  start: unknown;
  startAfter: unknown;
  end: unknown;
  prefix: unknown;
  reverse: unknown;
  limit: unknown;
}

const optional = (value: unknown): string | null => (value === undefined ? null : string(value));

/** Entries a page begins with; fewer where their values are large. */
const PAGE = 256;

/** The entries that options ask for, page by page: a list may be longer than what fits into memory at once. */
export class Listing {
  #start: string | null;
  #startAfter: string | null;
  #end: string | null;
  readonly #prefix: string | null;
  readonly #reverse: boolean;
  #left = Infinity;
  #page: (string | Uint8Array)[] = [];
  #at = 0;
  #size = PAGE;
  #ended = false;

  constructor(given: Partial<ListOptions>) {
    this.#start = optional(given.start);
    this.#startAfter = optional(given.startAfter);
    this.#end = optional(given.end);
    this.#prefix = optional(given.prefix);
    this.#reverse = Boolean(given.reverse);
    if (this.#start !== null && this.#startAfter !== null) throw new TypeError("list() cannot be called with both start and startAfter values.");
    if (given.limit === undefined) return;
    const limit = Math.trunc(Number(given.limit));
    this.#left = Number.isFinite(limit) ? limit : 0;
    if (this.#left <= 0) throw new TypeError("List limit must be positive.");
  }

  next(): [key: string, value: unknown] | undefined {
    if (this.#at === this.#page.length && !this.#ended) this.#fetch();
    if (this.#at === this.#page.length) return undefined;
    const key = this.#page[this.#at++] as string;
    return [key, restored(this.#page[this.#at++] as Uint8Array)];
  }

  #fetch(): void {
    const wanted = Math.min(this.#size, this.#left);
    try {
      this.#page = host.call("actor.kv.list", this.#start, this.#startAfter, this.#end, this.#prefix, this.#reverse, wanted) as (string | Uint8Array)[];
    } catch (e) {
      // More than the host may answer with at once: a smaller page, down to a single entry.
      if (!(e instanceof RangeError) || wanted === 1) throw e;
      this.#size = Math.max(1, wanted >> 2);
      return this.#fetch();
    }
    this.#at = 0;
    const count = this.#page.length / 2;
    this.#left -= count;
    this.#ended = count < wanted || this.#left <= 0;
    if (this.#ended) return;
    const last = this.#page[this.#page.length - 2] as string;
    if (this.#reverse) this.#end = last;
    else {
      this.#start = null;
      this.#startAfter = last;
    }
  }
}

// --- the interface -------------------------------------------------------------------------------------------------------

const IteratorBase = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]())) as object;

class ListIterator {
  readonly #listing: Listing;

  constructor(listing: Listing) {
    this.#listing = state.actor!.listing = listing;
  }

  next(): { done: boolean; value: [string, unknown] | undefined } {
    if (this.#listing !== state.actor!.listing) {
      throw new Error("kv.list() iterator was invalidated because a new call to kv.list() was started. Only one kv.list() iterator can exist at a time.");
    }
    const value = this.#listing.next();
    return { done: value === undefined, value };
  }
}

/** Throws for what is no object of the class that methods here belong to. */
let own: (self: unknown) => void;

export class SyncKvStorage {
  readonly #raw = true;

  constructor(raw: unknown) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
  }

  get(_key: string): unknown {
    const key = (own(this), text(arguments, 1, "get", KV));
    return restored((host.call("actor.kv.get", [key]) as (Uint8Array | null)[])[0]!);
  }

  list(given: unknown = undefined): IterableIterator<[string, unknown]> {
    own(this);
    return new ListIterator(new Listing(options<ListOptions>(given, 1, "list", KV, "ListOptions"))) as unknown as IterableIterator<[string, unknown]>;
  }

  put(_key: string, value: unknown): void {
    const key = (own(this), text(arguments, 1, "put", KV));
    if (arguments.length < 2) throw wrongArgument("put", KV, 2, "Value");
    host.call("actor.kv.put", [key, stored(value)]);
  }

  delete(_key: string): boolean {
    const key = (own(this), text(arguments, 1, "delete", KV));
    return (host.call("actor.kv.delete", [key]) as number) > 0;
  }

  static {
    own = (self) => {
      if (typeof self !== "object" || self === null || !(#raw in self)) throw illegalInvocation();
    };
  }
}

defineInterface(ListIterator, "ListIterator");
Object.setPrototypeOf(ListIterator.prototype, IteratorBase);
defineInterface(SyncKvStorage, KV);

export function syncKvStorage(): SyncKvStorage {
  return new SyncKvStorage(RAW);
}
