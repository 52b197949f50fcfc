/**
 * `ctx.storage`: the asynchronous interface over the same host calls as kv.ts and sql.ts. Its promises are settled when they are made; what a turn
 * wrote is one transaction by itself, committed when the turn ends.
 */
import { host } from "../host";
import { actorSnapshot, DurableObjectSnapshot } from "../rpc";
import { state } from "../state";
import { defineInterface } from "../webidl";
import { callback, defineLazily, illegalInvocation, options, string, text, time, wrongArgument } from "./arguments";
import { blocked } from "./gate";
import { Listing, restored, stored, syncKvStorage, type ListOptions, type SyncKvStorage } from "./kv";
import { sqlStorage, type SqlStorage } from "./sql";
import { setAlarm } from "./timers";

const STORAGE = "DurableObjectStorage";
const TRANSACTION = "DurableObjectTransaction";
const RAW = Symbol();
const isArray = Array.isArray;

/** Proof that everything up to a place is durable. */
export interface Receipt {
  epoch: number;
  sequence: number;
  tier: string;
}

/** Undefined: there is nothing to prove yet. */
export function receipt(answer: [number, number, string] | null): Receipt | undefined {
  if (answer === null) return undefined;
  const [epoch, sequence, tier] = answer;
  return { epoch, sequence, tier };
}

// --- what storage and transactions have in common --------------------------------------------------------------------------

/** By code points, as the keys are ordered in the database. */
function before(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i), y = b.charCodeAt(i);
    if (x === y) continue;
    const [high, low] = [x >= 0xd800 && x <= 0xdfff, y >= 0xd800 && y <= 0xdfff];
    return high === low ? x - y : high ? 1 : -1;
  }
  return a.length - b.length;
}

function keysOf(value: unknown[]): string[] {
  return [...new Set(value.map(string))].sort(before);
}

/** Keys, or keys and values, that go to the host at once. */
const AT_ONCE = 8192;

function pieces<T>(list: T[]): T[][] {
  const all: T[][] = [];
  for (let i = 0; i < list.length; i += AT_ONCE) all.push(list.slice(i, i + AT_ONCE));
  return all;
}

/** All of it or nothing, however many pieces it takes. */
function putAll(entries: (string | Uint8Array)[]): void {
  if (entries.length <= AT_ONCE) return void (entries.length > 0 && host.call("actor.kv.put", entries));
  const transaction = begin();
  try {
    for (const piece of pieces(entries)) host.call("actor.kv.put", piece);
  } catch (e) {
    end(transaction, "rollback");
    throw e;
  }
  end(transaction, "commit");
}

function getFrom(on: string, args: ArrayLike<unknown>): unknown {
  if (args.length === 0) throw wrongArgument("get", on, 1, "string or Array");
  options(args[1], 2, "get", on, "GetOptions");
  const wanted = args[0];
  if (!isArray(wanted)) return restored((host.call("actor.kv.get", [string(wanted)]) as (Uint8Array | null)[])[0]!);
  const keys = keysOf(wanted);
  const found = new Map<string, unknown>();
  for (const piece of pieces(keys)) {
    const values = host.call("actor.kv.get", piece) as (Uint8Array | null)[];
    piece.forEach((key, i) => {
      const bytes = values[i]!;
      if (bytes !== null) found.set(key, restored(bytes));
    });
  }
  return found;
}

function listFrom(on: string, given: unknown): Map<string, unknown> {
  const listing = new Listing(options<ListOptions>(given, 1, "list", on, "ListOptions"));
  const entries = new Map<string, unknown>();
  for (let entry = listing.next(); entry !== undefined; entry = listing.next()) entries.set(entry[0], entry[1]);
  return entries;
}

/** Whether it stands for entries; everything else, lists included, is a key. */
function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !isArray(value);
}

function putInto(on: string, args: ArrayLike<unknown>): void {
  if (args.length === 0) throw wrongArgument("put", on, 1, "string or object");
  const [first, second] = [args[0], args[1]];
  if (isRecord(first)) {
    if (second !== undefined && second !== null && typeof second !== "object") {
      throw new TypeError(
        "put() may only be called with a single key-value pair and optional options as put(key, value, options) or with multiple key-value pairs " +
          "and optional options as put(entries, options)",
      );
    }
    const entries: (string | Uint8Array)[] = [];
    for (const key of Object.keys(first)) {
      const value = first[key];
      if (value !== undefined) entries.push(key, stored(value));
    }
    return putAll(entries);
  }
  if (second === undefined) throw new TypeError("put() called with undefined value.");
  options(args[2], 3, "put", on, "PutOptions");
  host.call("actor.kv.put", [string(first), stored(second)]);
}

function deleteFrom(on: string, args: ArrayLike<unknown>): number | boolean {
  if (args.length === 0) throw wrongArgument("delete", on, 1, "string or Array");
  options(args[1], 2, "delete", on, "PutOptions");
  const wanted = args[0];
  if (!isArray(wanted)) return (host.call("actor.kv.delete", [string(wanted)]) as number) > 0;
  let deleted = 0;
  for (const piece of pieces(keysOf(wanted))) deleted += host.call("actor.kv.delete", piece) as number;
  return deleted;
}

function setAlarmAt(on: string, args: ArrayLike<unknown>): void {
  const at = time(args, 1, "setAlarm", on);
  options(args[1], 2, "setAlarm", on, "SetAlarmOptions");
  if (at <= 0) throw new TypeError("setAlarm() cannot be called with an alarm time <= 0");
  setAlarm("", at);
}

const getAlarm = (): number | null => host.call("actor.alarm.get", "") as number | null;
const deleteAlarm = (): void => void host.call("actor.alarm.delete", "");

// --- transactions ----------------------------------------------------------------------------------------------------------

type Ending = "commit" | "rollback";

/** Ends a transaction, once; whether it was still open. */
let end: (transaction: DurableObjectTransaction, how: Ending) => boolean;

export class DurableObjectTransaction {
  #ended: Ending | undefined;

  constructor(raw: unknown) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
  }

  async get(_key: string | string[], _options: unknown = undefined): Promise<unknown> { return this.#check("get()"), getFrom(TRANSACTION, arguments); }
  async list(given: unknown = undefined): Promise<Map<string, unknown>> { return this.#check("list()"), listFrom(TRANSACTION, given); }
  async put(_key: unknown, _value: unknown, _options: unknown = undefined): Promise<void> { this.#check("put()"), putInto(TRANSACTION, arguments); }
  async delete(_key: string | string[], _options: unknown = undefined): Promise<number | boolean> { return this.#check("delete()"), deleteFrom(TRANSACTION, arguments); }
  deleteAll(): never { throw (this.#ended, new Error("Cannot call deleteAll() within a transaction")); }

  rollback(): void {
    if (this.#ended === "rollback") return;
    this.#check("rollback()");
    end(this, "rollback");
  }

  async getAlarm(_options: unknown = undefined): Promise<number | null> { return this.#check("getAlarm()"), getAlarm(); }
  async setAlarm(_at: number | Date, _options: unknown = undefined): Promise<void> { this.#check("setAlarm()"), setAlarmAt(TRANSACTION, arguments); }
  async deleteAlarm(_options: unknown = undefined): Promise<void> { this.#check("deleteAlarm()"), deleteAlarm(); }

  #check(op: string): void {
    if (this.#ended === "rollback") throw new Error(`Cannot ${op} on rolled back transaction`);
    if (this.#ended === undefined) return;
    throw new Error(`Cannot call ${op} on transaction that has already committed: did you move \`txn\` outside of the closure?`);
  }

  static {
    end = (transaction, how) => {
      if (transaction.#ended !== undefined) return false;
      transaction.#ended = how;
      state.actor!.transactions--;
      host.call("actor.tx", how);
      return true;
    };
  }
}

function begin(): DurableObjectTransaction {
  host.call("actor.tx", "begin");
  state.actor!.transactions++;
  return new DurableObjectTransaction(RAW);
}

async function inTransaction<T>(f: (transaction: DurableObjectTransaction) => T | Promise<T>): Promise<T> {
  const transaction = begin();
  try {
    const value = await f(transaction);
    end(transaction, "commit");
    return value;
  } catch (e) {
    end(transaction, "rollback");
    throw e;
  }
}

// --- storage -----------------------------------------------------------------------------------------------------------------

interface SnapshotOptions {
  /** As of when; the end of this turn without it. */
  bookmark: unknown;
  /** By which its place is kept. */
  name: unknown;
}

/** Throws for what is no object of the class that methods here belong to. */
let own: (self: unknown) => void;

export class DurableObjectStorage {
  declare readonly sql: SqlStorage;
  declare readonly kv: SyncKvStorage;
  readonly #raw = true;

  constructor(raw: unknown) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
    defineLazily(this, { kv: syncKvStorage, sql: sqlStorage });
  }

  async get(_key: string | string[], _options: unknown = undefined): Promise<unknown> { return own(this), getFrom(STORAGE, arguments); }
  async list(given: unknown = undefined): Promise<Map<string, unknown>> { return own(this), listFrom(STORAGE, given); }
  async put(_key: unknown, _value: unknown, _options: unknown = undefined): Promise<void> { own(this), putInto(STORAGE, arguments); }
  async delete(_key: string | string[], _options: unknown = undefined): Promise<number | boolean> { return own(this), deleteFrom(STORAGE, arguments); }

  async deleteAll(given: unknown = undefined): Promise<void> {
    options((own(this), given), 1, "deleteAll", STORAGE, "PutOptions");
    if (state.actor!.transactions > 0) throw new Error("Cannot call deleteAll() within a transaction");
    host.call("actor.kv.clear", true);
    // Without a name: all facets.
    host.call("actor.facet.delete", null);
  }

  async transaction<T>(f: (transaction: DurableObjectTransaction) => T | Promise<T>, _options: unknown = undefined): Promise<T> {
    const closure = callback<typeof f>((own(this), f), 1, "transaction", STORAGE);
    return blocked(() => inTransaction(closure));
  }

  async getAlarm(_options: unknown = undefined): Promise<number | null> { return own(this), getAlarm(); }
  async setAlarm(_at: number | Date, _options: unknown = undefined): Promise<void> { own(this), setAlarmAt(STORAGE, arguments); }
  async deleteAlarm(_options: unknown = undefined): Promise<void> { own(this), deleteAlarm(); }

  /** Settles when everything so far is durable, with the proof of it. */
  async sync(): Promise<Receipt | undefined> {
    return own(this), receipt((await host.start("actor.sync")) as [number, number, string] | null);
  }

  transactionSync<T>(f: () => T): T {
    const closure = callback<() => T>((own(this), f), 1, "transactionSync", STORAGE);
    const transaction = begin();
    let value: T;
    try {
      value = Reflect.apply(closure, globalThis, []);
    } catch (e) {
      end(transaction, "rollback");
      throw e;
    }
    end(transaction, "commit");
    return value;
  }

  async getCurrentBookmark(): Promise<string> {
    return own(this), host.call("actor.bookmark") as string;
  }

  async getBookmarkForTime(_at: number | Date): Promise<string> {
    const at = (own(this), time(arguments, 1, "getBookmarkForTime", STORAGE));
    return host.call("actor.bookmark.at", at) as string;
  }

  /** What it answers leads back here. It is kept when the promise settles, so that `ctx.abort()` may follow. */
  async onNextSessionRestoreBookmark(_bookmark: string): Promise<string> {
    const bookmark = (own(this), text(arguments, 1, "onNextSessionRestoreBookmark", STORAGE));
    const undo = host.call("actor.restore", bookmark) as string;
    await host.start("actor.sync");
    return undo;
  }

  /**
   * The database as of the end of this turn, or of a bookmark: something to bring this actor's or, sent there, another actor's database to. With a
   * name its place is kept beyond retention, until it is let go or another is kept by that name.
   */
  async snapshot(given: unknown = undefined): Promise<DurableObjectSnapshot> {
    const { bookmark, name } = options<SnapshotOptions>((own(this), given), 1, "snapshot", STORAGE, "SnapshotOptions");
    if (state.actor!.transactions > 0) throw new Error("Cannot call snapshot() within a transaction");
    const of = bookmark === undefined ? null : string(bookmark);
    const [channel, place] = host.call("actor.snapshot", of) as [number, string];
    const snapshot = actorSnapshot(channel, place, () => (host.call("actor.snapshot", place) as [number, string])[0]);
    if (name === undefined) await host.start("actor.sync");
    else await host.start("actor.keep", string(name), place);
    return snapshot;
  }

  /** What it answers leads back here. It is kept when the promise settles, so that `ctx.abort()` may follow. */
  async onNextSessionRestore(_to: DurableObjectSnapshot | string, given: unknown = undefined): Promise<string> {
    const to: unknown = (own(this), arguments[0]);
    const channel = DurableObjectSnapshot.channelOf(to);
    if (channel === undefined && typeof to !== "string") throw wrongArgument("onNextSessionRestore", STORAGE, 1, "DurableObjectSnapshot or string");
    options(given, 2, "onNextSessionRestore", STORAGE, "RestoreOptions");
    const undo = (channel === undefined ? host.call("actor.restore", to as string) : host.call("actor.adopt", channel)) as string;
    await host.start("actor.sync");
    return undo;
  }

  /** Snapshots that are kept: their bookmarks by name. */
  async snapshots(): Promise<Map<string, string>> {
    const list = (own(this), (await host.start("actor.kept")) as string[]);
    const kept = new Map<string, string>();
    for (let i = 0; i < list.length; i += 2) kept.set(list[i]!, list[i + 1]!);
    return kept;
  }

  /** Leaves a kept snapshot to retention; whether there was one of that name. */
  async deleteSnapshot(_name: string): Promise<boolean> {
    const name = (own(this), text(arguments, 1, "deleteSnapshot", STORAGE));
    return (await host.start("actor.let_go", name)) as boolean;
  }

  static {
    own = (self) => {
      if (typeof self !== "object" || self === null || !(#raw in self)) throw illegalInvocation();
    };
  }
}

defineInterface(DurableObjectTransaction, TRANSACTION);
defineInterface(DurableObjectStorage, STORAGE);
for (const name of ["snapshots", "deleteSnapshot"]) Object.defineProperty(DurableObjectStorage.prototype, name, { enumerable: false });

export function durableObjectStorage(): DurableObjectStorage {
  return new DurableObjectStorage(RAW);
}
