/**
 * `ctx.storage.sql`: statements run in the host at once; a cursor holds the first piece of the rows and fetches further ones when it gets there.
 * What SQL may do, and how long, is the host's to say.
 */
import { hibernationError, host } from "../host";
import { state } from "../state";
import { bytesOf } from "../streams";
import { defineInterface } from "../webidl";
import { illegalInvocation, wrongArgument } from "./arguments";

type SqlValue = null | number | string | Uint8Array;
type Shown = null | number | string | ArrayBuffer;
type Row = Record<string, Shown>;
type Piece = [rows: SqlValue[][], more: boolean, rowsRead: number, rowsWritten: number];

const RAW = Symbol();
const defineProperty = Object.defineProperty;

/** The host's cursor for the rest of some rows (0: there are no more), and in which life of the isolate it was opened. */
interface Rest {
  cursor: number;
  readonly life: number;
}

const dropped = new FinalizationRegistry<Rest>(drop);

function drop(rest: Rest): void {
  if (rest.cursor !== 0 && rest.life === state.wakes) host.call("actor.sql.drop", rest.cursor);
  rest.cursor = 0;
}

function binding(value: unknown): SqlValue {
  switch (typeof value) {
    case "undefined": return null;
    case "number":
    case "string": return value;
    case "bigint": throw new TypeError("Cannot convert a BigInt value to a number");
    case "symbol": throw new TypeError("Cannot convert a Symbol value to a string");
    case "object": {
      if (value === null) return null;
      const bytes = bytesOf(value);
      return bytes === undefined ? `${value as unknown as string}` : bytes;
    }
    default: return `${value as string}`;
  }
}

function shown(value: SqlValue): Shown {
  if (typeof value !== "object" || value === null) return value;
  return (value.byteLength === value.buffer.byteLength ? value : value.slice()).buffer as ArrayBuffer;
}

/** What the iterators of a cursor call; undefined at the end. */
let nextRow: (cursor: Cursor) => SqlValue[] | undefined;
let rowOf: (cursor: Cursor, values: SqlValue[]) => Row;

export class Cursor {
  readonly #names: string[];
  #rows: SqlValue[][];
  #at = 0;
  readonly #rest: Rest;
  /** Rows that were read for those before the piece at hand, and with them for all of it. */
  #readBefore = 0;
  #read: number;
  #written: number;

  constructor(raw: unknown, answer: [number, string[], SqlValue[][], number, number]) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
    let cursor: number;
    [cursor, this.#names, this.#rows, this.#read, this.#written] = answer;
    this.#rest = { cursor, life: state.wakes };
    if (cursor !== 0) dropped.register(this, this.#rest, this.#rest);
  }

  next(): { done: boolean; value: Row | undefined } {
    const values = this.#next();
    return values === undefined ? { done: true, value: undefined } : { done: false, value: this.#row(values) };
  }

  toArray(): Row[] {
    const rows: Row[] = [];
    for (let values = this.#next(); values !== undefined; values = this.#next()) rows.push(this.#row(values));
    return rows;
  }

  one(): Row {
    const values = this.#next();
    if (values === undefined) throw new Error("Expected exactly one result from SQL query, but got no results.");
    if (this.#next() !== undefined) {
      this.#rows = [];
      this.#end();
      throw new Error("Expected exactly one result from SQL query, but got multiple results.");
    }
    return this.#row(values);
  }

  raw(): IterableIterator<Shown[]> { return new RawIterator(this) as unknown as IterableIterator<Shown[]>; }

  get columnNames(): string[] { return this.#names; }
  /**
   * Rows read so far: the host reads a piece ahead, of which only those count that were read for the rows given, and for the next one, which is
   * looked for to know whether there is one. Within a piece they are taken to be spread evenly, which is exact for what has no filter.
   */
  get rowsRead(): number {
    const all = this.#rows.length;
    if (this.#at + 1 >= all) return this.#read;
    return this.#readBefore + Math.ceil((this.#read - this.#readBefore) * (this.#at + 1) / all);
  }

  get rowsWritten(): number { return this.#written; }

  [Symbol.iterator](): IterableIterator<Row> { return new RowIterator(this) as unknown as IterableIterator<Row>; }

  #next(): SqlValue[] | undefined {
    if (this.#at === this.#rows.length && this.#rest.cursor !== 0) this.#fetch();
    const values = this.#rows[this.#at];
    if (values === undefined) return undefined;
    this.#rows[this.#at++] = []; // what was given is the reader's alone
    return values;
  }

  #fetch(): void {
    if (this.#rest.life !== state.wakes) throw hibernationError("The rest of what this SQL cursor reads");
    const [rows, more, read, written] = host.call("actor.sql.next", this.#rest.cursor) as Piece;
    this.#rows = rows;
    this.#at = 0;
    this.#readBefore = this.#read;
    this.#read = read;
    this.#written = written;
    if (!more) {
      this.#rest.cursor = 0; // the host has let go of it by itself
      dropped.unregister(this.#rest);
    }
  }

  #end(): void {
    dropped.unregister(this.#rest);
    drop(this.#rest);
  }

  #row(values: SqlValue[]): Row {
    const names = this.#names;
    const row: Row = {};
    for (let i = 0; i < names.length; i++) {
      const name = names[i]!;
      if (name !== "__proto__") row[name] = shown(values[i]!);
    }
    return row;
  }

  static {
    nextRow = (cursor) => cursor.#next();
    rowOf = (cursor, values) => cursor.#row(values);
  }
}

const IteratorBase = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]())) as object;

class RowIterator {
  readonly #cursor: Cursor;
  constructor(cursor: Cursor) { this.#cursor = cursor; }
  next(): { done: boolean; value: Row | undefined } {
    const values = nextRow(this.#cursor);
    return values === undefined ? { done: true, value: undefined } : { done: false, value: rowOf(this.#cursor, values) };
  }
}

class RawIterator {
  readonly #cursor: Cursor;
  constructor(cursor: Cursor) { this.#cursor = cursor; }
  next(): { done: boolean; value: Shown[] | undefined } {
    const values = nextRow(this.#cursor);
    return values === undefined ? { done: true, value: undefined } : { done: false, value: values.map(shown) };
  }
}

/** A statement to be run again; the host keeps compiled statements by their text. */
class Statement {
  constructor() { throw new TypeError("Illegal constructor"); }
}

/** Throws for what is no object of the class that methods here belong to. */
let own: (self: unknown) => void;

export class SqlStorage {
  readonly #raw = true;

  constructor(raw: unknown) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
  }

  exec(query: string, ...bindings: unknown[]): Cursor {
    own(this);
    if (arguments.length === 0) throw wrongArgument("exec", "SqlStorage", 1, "String");
    return new Cursor(RAW, host.call("actor.sql", `${query}`, bindings.map(binding)) as [number, string[], SqlValue[][], number, number]);
  }

  get databaseSize(): number { return own(this), host.call("actor.sql.size") as number; }

  static {
    own = (self) => {
      if (typeof self !== "object" || self === null || !(#raw in self)) throw illegalInvocation();
    };
  }
}

for (const [C, name] of [[RowIterator, "RowIterator"], [RawIterator, "RawIterator"]] as const) {
  defineInterface(C, name);
  Object.setPrototypeOf(C.prototype, IteratorBase);
}
defineInterface(Cursor, "Cursor");
defineInterface(Statement, "Statement");
defineInterface(SqlStorage, "SqlStorage");
for (const [name, value] of [["Cursor", Cursor], ["Statement", Statement]] as const) {
  defineProperty(SqlStorage.prototype, name, { value, writable: true, enumerable: false, configurable: true });
}

export function sqlStorage(): SqlStorage {
  return new SqlStorage(RAW);
}
