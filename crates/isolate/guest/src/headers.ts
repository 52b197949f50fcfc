/**
 * Headers of the fetch standard, as one flat list of lower-case names and values. The list that a request arrived with is used as it
 * is until someone changes it. As on workerd, values may hold any character (they travel as UTF-8), and `getAll("set-cookie")` exists.
 */
import { host } from "./host";
import { definePairIteration, pairSequence } from "./pair_iteration";
import { defineInterface, requireArguments } from "./webidl";

/** Names (lower case) and values in turn. */
export type HeaderList = string[];

const { indexOfName } = host.raw;
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const edges = /^[\t\n\r ]+|[\t\n\r ]+$/g;

// Names that nearly every message has, as they are usually written: valid, and their lower case is known.
const common = Object.create(null) as Record<string, string>;
for (const name of (
  "Accept Accept-Encoding Accept-Language Access-Control-Allow-Headers Access-Control-Allow-Methods Access-Control-Allow-Origin Age Allow Authorization " +
  "Cache-Control CF-Connecting-IP Connection Content-Disposition Content-Encoding Content-Language Content-Length Content-Range Content-Type Cookie Date " +
  "ETag Expires Forwarded Host If-Match If-Modified-Since If-None-Match If-Unmodified-Since Last-Modified Link Location Origin Pragma Range Referer " +
  "Retry-After Server Set-Cookie Strict-Transport-Security Transfer-Encoding Upgrade User-Agent Vary Via WWW-Authenticate X-API-Key X-Forwarded-For " +
  "X-Forwarded-Host X-Forwarded-Proto X-Real-IP X-Request-ID X-Requested-With"
).split(" ")) {
  common[name] = common[name.toLowerCase()] = name.toLowerCase();
}

export function headerName(v: unknown): string {
  const known = typeof v === "string" ? common[v] : undefined;
  if (known !== undefined) return known;
  const name = typeof v === "string" ? v : `${v as string}`;
  if (!token.test(name)) throw new TypeError("Invalid header name.");
  return name.toLowerCase();
}

export function headerValue(v: unknown): string {
  let value = typeof v === "string" ? v : `${v as string}`;
  if (value === "") return value;
  if (value.charCodeAt(0) <= 32 || value.charCodeAt(value.length - 1) <= 32) value = value.replace(edges, "");
  if (value.includes("\n") || value.includes("\r") || value.includes("\0")) throw new TypeError("Invalid header value.");
  return value.isWellFormed() ? value : value.toWellFormed();
}

/** The combined value under a lower-case name, or null. */
export function listGet(list: HeaderList, name: string): string | null {
  let i = indexOfName(list, name, 0);
  if (i < 0) return null;
  let found = list[i + 1]!;
  while ((i = indexOfName(list, name, i + 2)) >= 0) found += `, ${list[i + 1]}`;
  return found;
}

export function listHas(list: HeaderList, name: string): boolean {
  return indexOfName(list, name, 0) >= 0;
}

function listSet(list: HeaderList, name: string, value: string): void {
  const i = indexOfName(list, name, 0);
  if (i < 0) {
    list.push(name, value);
    return;
  }
  list[i + 1] = value;
  listDelete(list, name, i + 2);
}

function listDelete(list: HeaderList, name: string, from: number): void {
  let kept = from;
  for (let i = from; i < list.length; i += 2) {
    if (list[i] === name) continue;
    list[kept++] = list[i]!;
    list[kept++] = list[i + 1]!;
  }
  list.length = kept;
}

/** Sorted by name, values of one name combined, `set-cookie` apart: what iteration shows. */
function sortedPairs(list: HeaderList): string[] {
  const order: number[] = [];
  for (let i = 0; i < list.length; i += 2) order.push(i);
  order.sort((a, b) => (list[a]! < list[b]! ? -1 : list[a]! > list[b]! ? 1 : 0)); // stable: values of one name keep their order
  const pairs: string[] = [];
  for (const i of order) {
    const name = list[i]!;
    const last = pairs.length - 2;
    if (last >= 0 && pairs[last] === name && name !== "set-cookie") pairs[last + 1] += `, ${list[i + 1]}`;
    else pairs.push(name, list[i + 1]!);
  }
  return pairs;
}

/** A list from what `new Headers(init)` and `{ headers: init }` accept. */
export function headerList(init: unknown): HeaderList {
  if ((typeof init !== "object" && typeof init !== "function") || init === null) {
    throw new TypeError("Failed to construct 'Headers': constructor parameter 1 is not of type 'Headers or Sequence or object'.");
  }
  if (isHeaders(init)) return listOf(init).slice();
  const list: HeaderList = [];
  const flat = pairSequence(init, "Failed to construct 'Headers'");
  if (flat !== undefined) {
    for (let i = 0; i < flat.length; i += 2) list.push(headerName(flat[i]), headerValue(flat[i + 1]));
    return list;
  }
  const symbols = Object.getOwnPropertySymbols(init);
  if (symbols.length > 0 && symbols.some((s) => Object.prototype.propertyIsEnumerable.call(init, s))) throw new TypeError("Invalid header name.");
  const keys = Object.keys(init);
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]!;
    list.push(headerName(key), headerValue((init as Record<string, unknown>)[key]));
  }
  return list;
}

const RAW = Symbol();

export let isHeaders: (v: object) => v is Headers;
/** The live list behind a Headers object. */
export let listOf: (headers: Headers) => HeaderList;
/** The list as iteration shows it. */
let pairsOf: (headers: Headers) => string[];

/** A Headers object over `list` itself. */
export function headersOver(list: HeaderList, immutable: boolean): Headers {
  return new Headers(undefined, RAW, list, immutable);
}

export class Headers {
  #list: HeaderList;
  #immutable: boolean;
  #sorted: string[] | undefined;

  constructor(init?: unknown, raw?: unknown, list?: HeaderList, immutable?: boolean) {
    if (raw === RAW) {
      this.#list = list!;
      this.#immutable = immutable!;
      return;
    }
    this.#list = init === undefined ? [] : headerList(init);
    this.#immutable = false;
  }

  get(name: string): string | null {
    const list = this.#list;
    // Names are nearly always given in lower case and present: found by one pass, and valid because they are there.
    const found = listGet(list, name);
    if (found !== null) return found;
    if (name === undefined) requireArguments(arguments.length, 1, "Failed to execute 'get' on 'Headers'");
    const lower = headerName(name);
    return lower === name ? null : listGet(list, lower);
  }

  getAll(name: string): string[] {
    requireArguments((this.#list, arguments.length), 1, "Failed to execute 'getAll' on 'Headers'");
    if (headerName(name) !== "set-cookie") throw new TypeError('getAll() can only be used with the header name "Set-Cookie".');
    return this.getSetCookie();
  }

  getSetCookie(): string[] {
    const list = this.#list;
    const all: string[] = [];
    for (let i = 0; i < list.length; i += 2) if (list[i] === "set-cookie") all.push(list[i + 1]!);
    return all;
  }

  has(name: string): boolean {
    const list = this.#list;
    requireArguments(arguments.length, 1, "Failed to execute 'has' on 'Headers'");
    return listHas(list, headerName(name));
  }

  set(name: string, value: string): void {
    requireArguments((this.#list, arguments.length), 2, "Failed to execute 'set' on 'Headers'");
    const n = headerName(name);
    const v = headerValue(value);
    listSet(this.#writable(), n, v);
  }

  append(name: string, value: string): void {
    requireArguments((this.#list, arguments.length), 2, "Failed to execute 'append' on 'Headers'");
    const n = headerName(name);
    const v = headerValue(value);
    this.#writable().push(n, v);
  }

  delete(name: string): void {
    requireArguments((this.#list, arguments.length), 1, "Failed to execute 'delete' on 'Headers'");
    const n = headerName(name);
    listDelete(this.#writable(), n, 0);
  }

  #writable(): HeaderList {
    if (this.#immutable) throw new TypeError("Can't modify immutable headers.");
    this.#sorted = undefined;
    return this.#list;
  }

  static {
    isHeaders = (v): v is Headers => #immutable in v;
    listOf = (headers) => headers.#list;
    pairsOf = (headers) => (headers.#sorted ??= sortedPairs(headers.#list));
  }
}

definePairIteration(Headers, "Headers", (headers) => pairsOf(headers));
defineInterface(Headers, "Headers");
Object.defineProperty(Headers, "length", { value: 0, configurable: true });

export const globals = { Headers };
