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
// Places of an answer.
const CURSOR = 0, NAMES = 1, ROWS = 2, READ = 3, WRITTEN = 4;

/** The host's cursor for the rest of some rows (0: there are no more), and in which life of the isolate it was opened. */
interface Rest {
  cursor: number;
  readonly life: number;
  /** Rows that were read for those before the piece at hand. */
  readBefore: number;
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

/** What the host says of a statement: its cursor for the rest of the rows (0: these are all), names of columns, rows, and how many were read and written. */
type Answer = [cursor: number, names: string[], rows: SqlValue[][], read: number, written: number];

export class Cursor {
  readonly #answer: Answer;
  #at = 0;
  /** Where there is more than the first piece. */
  readonly #rest: Rest | undefined;

  constructor(raw: unknown, answer: Answer) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
    this.#answer = answer;
    const cursor = answer[CURSOR];
    this.#rest = cursor === 0 ? undefined : { cursor, life: state.wakes, readBefore: 0 };
    if (this.#rest !== undefined) dropped.register(this, this.#rest, this.#rest);
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
      this.#answer[ROWS] = [];
      this.#end();
      throw new Error("Expected exactly one result from SQL query, but got multiple results.");
    }
    return this.#row(values);
  }

  raw(): IterableIterator<Shown[]> { return new RawIterator(this) as unknown as IterableIterator<Shown[]>; }

  get columnNames(): string[] { return this.#answer[NAMES]; }
  /**
   * Rows read so far: the host reads a piece ahead, of which only those count that were read for the rows given, and for the next one, which is
   * looked for to know whether there is one. Within a piece they are taken to be spread evenly, which is exact for what has no filter.
   */
  get rowsRead(): number {
    const all = this.#answer[ROWS].length, read = this.#answer[READ], before = this.#rest?.readBefore ?? 0;
    if (this.#at + 1 >= all) return read;
    return before + Math.ceil((read - before) * (this.#at + 1) / all);
  }

  get rowsWritten(): number { return this.#answer[WRITTEN]; }

  [Symbol.iterator](): IterableIterator<Row> { return new RowIterator(this) as unknown as IterableIterator<Row>; }

  #next(): SqlValue[] | undefined {
    let rows = this.#answer[ROWS];
    const rest = this.#rest;
    if (rest !== undefined && this.#at === rows.length && rest.cursor !== 0) rows = this.#fetch(rest);
    const values = rows[this.#at];
    if (values === undefined) return undefined;
    rows[this.#at++] = []; // what was given is the reader's alone
    return values;
  }

  #fetch(rest: Rest): SqlValue[][] {
    if (rest.life !== state.wakes) throw hibernationError("The rest of what this SQL cursor reads");
    const [rows, more, read, written] = host.call("actor.sql.next", rest.cursor) as Piece;
    const answer = this.#answer;
    rest.readBefore = answer[READ];
    answer[ROWS] = rows;
    answer[READ] = read;
    answer[WRITTEN] = written;
    this.#at = 0;
    if (!more) {
      rest.cursor = 0; // the host has let go of it by itself
      dropped.unregister(rest);
    }
    return rows;
  }

  #end(): void {
    if (this.#rest === undefined) return;
    dropped.unregister(this.#rest);
    drop(this.#rest);
  }

  #row(values: SqlValue[]): Row {
    const names = this.#answer[NAMES];
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
    return new Cursor(RAW, host.call("actor.sql", `${query}`, bindings.length === 0 ? bindings as [] : bindings.map(binding)) as Answer);
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
