/**
 * URL and URLSearchParams of the URL standard. Parsing and serialising are the host's (`url.parse`, `url.set`); the two classes keep the list
 * of components that it answers, and URLSearchParams is plain string work done here.
 */
import { host } from "./host";
import { definePairIteration, pairSequence } from "./pair_iteration";
import { defineInterface, requireArguments } from "./webidl";

// Places in the host's list of components.
const HREF = 0, PROTOCOL = 1, USERNAME = 2, PASSWORD = 3, HOST = 4, HOSTNAME = 5, PORT = 6, PATHNAME = 7, SEARCH = 8, HASH = 9, ORIGIN = 10;

type Components = string[];

function usv(v: unknown): string {
  const s = typeof v === "string" ? v : `${v as string}`;
  return s.isWellFormed() ? s : s.toWellFormed();
}

/** The components of a URL, or null when it does not parse. */
export function parseUrl(input: string, base: string | null): Components | null {
  return host.call("url.parse", input, base) as Components | null;
}

/** The serialised form of an absolute URL, or undefined when it does not parse. */
export function hrefOf(input: string): string | undefined {
  return parseUrl(input, null)?.[HREF];
}

let linkedList: (params: URLSearchParams, query: string) => void;
let linkedTo: (url: URL, query: string) => URLSearchParams;
let queryChanged: (url: URL, query: string) => void;

export class URL {
  #c: Components;
  #params: URLSearchParams | undefined;

  constructor(url: string, base: string | undefined = undefined) {
    // A missing argument needs no check of its own: "undefined" does not parse without a base.
    const c = host.call("url.parse", usv(url), base === undefined ? null : usv(base)) as Components | null;
    if (c === null) throw invalidUrl(url, base);
    this.#c = c;
  }

  get origin(): string { return this.#c[ORIGIN]!; }
  get href(): string { return this.#c[HREF]!; }
  set href(v: string) {
    const c = parseUrl((this.#c, usv(v)), null);
    if (c === null) throw new TypeError("Failed to set the 'href' property on 'URL': the provided value is not of type 'valid URL string'.");
    this.#c = c;
    if (this.#params !== undefined) linkedList(this.#params, c[SEARCH]!);
  }
  get protocol(): string { return this.#c[PROTOCOL]!; }
  set protocol(v: string) { this.#set("protocol", v); }
  get username(): string { return this.#c[USERNAME]!; }
  set username(v: string) { this.#set("username", v); }
  get password(): string { return this.#c[PASSWORD]!; }
  set password(v: string) { this.#set("password", v); }
  get host(): string { return this.#c[HOST]!; }
  set host(v: string) { this.#set("host", v); }
  get hostname(): string { return this.#c[HOSTNAME]!; }
  set hostname(v: string) { this.#set("hostname", v); }
  get port(): string { return this.#c[PORT]!; }
  set port(v: string) { this.#set("port", v); }
  get pathname(): string { return this.#c[PATHNAME]!; }
  set pathname(v: string) { this.#set("pathname", v); }
  get search(): string { return this.#c[SEARCH]!; }
  set search(v: string) {
    this.#set("search", v);
    if (this.#params !== undefined) linkedList(this.#params, this.#c[SEARCH]!);
  }
  get hash(): string { return this.#c[HASH]!; }
  set hash(v: string) { this.#set("hash", v); }
  get searchParams(): URLSearchParams {
    return (this.#params ??= linkedTo(this, this.#c[SEARCH]!));
  }

  toJSON(): string { return this.#c[HREF]!; }
  toString(): string { return this.#c[HREF]!; }

  static canParse(url: string, base: string | undefined = undefined): boolean {
    if (url === undefined) requireArguments(arguments.length, 1, "Failed to execute 'canParse' on 'URL'");
    return parseUrl(usv(url), base === undefined ? null : usv(base)) !== null;
  }

  static parse(url: string, base: string | undefined = undefined): URL | null {
    if (url === undefined) requireArguments(arguments.length, 1, "Failed to execute 'parse' on 'URL'");
    const c = parseUrl(usv(url), base === undefined ? null : usv(base));
    return c === null ? null : new URL(c[HREF]!);
  }

  static createObjectURL(): never { throw new Error("URL.createObjectURL() is not implemented"); }
  static revokeObjectURL(): never { throw new Error("URL.revokeObjectURL() is not implemented"); }

  #set(field: string, v: unknown): void {
    const c = host.call("url.set", this.#c[HREF]!, field, usv(v)) as Components | null;
    if (c !== null) this.#c = c;
  }

  static {
    queryChanged = (url, query) => url.#set("search", query);
  }
}

defineInterface(URL, "URL");

function invalidUrl(input: unknown, base: unknown): TypeError {
  const e = new TypeError("Invalid URL string.");
  if (input === undefined) return e;
  // Read by libraries written for Node.
  const set = (key: string, value: unknown) => Object.defineProperty(e, key, { value, writable: true, enumerable: false, configurable: true });
  set("code", "ERR_INVALID_URL");
  set("input", usv(input));
  if (base !== undefined) set("base", usv(base));
  return e;
}

// --- application/x-www-form-urlencoded -----------------------------------------------------------------------------------

const decode = decodeURIComponent;
const encode = encodeURIComponent;

function hexDigit(c: number): number {
  if (c >= 48 && c <= 57) return c - 48;
  const lower = c | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

/** Percent-decoding to bytes: malformed escapes stay. */
export function percentDecode(s: string): Uint8Array {
  const bytes = host.utf8Encode(s);
  let n = 0;
  for (let i = 0; i < bytes.length; i++) {
    const c = bytes[i]!;
    const high = c === 37 && i + 2 < bytes.length ? hexDigit(bytes[i + 1]!) : -1;
    const low = high >= 0 ? hexDigit(bytes[i + 2]!) : -1;
    if (low < 0) {
      bytes[n++] = c;
      continue;
    }
    bytes[n++] = high * 16 + low;
    i += 2;
  }
  return bytes.slice(0, n);
}

function decodePart(s: string): string {
  if (s.includes("+")) s = s.replaceAll("+", " ");
  if (!s.includes("%")) return s;
  try {
    return decode(s);
  } catch {
    return host.utf8Decode(percentDecode(s), false, true); // malformed UTF-8 becomes U+FFFD
  }
}

/** Parses `application/x-www-form-urlencoded` text into a flat list of names and values. */
export function parseUrlEncoded(text: string): string[] {
  const list = host.raw.splitPairs(text);
  if (text.includes("%") || text.includes("+")) for (let i = 0; i < list.length; i++) list[i] = decodePart(list[i]!);
  return list;
}

const plain = /^[A-Za-z0-9*\-._]*$/;
const differing: Record<string, string> = { "%20": "+", "!": "%21", "~": "%7E", "'": "%27", "(": "%28", ")": "%29" };

function encodePart(s: string): string {
  return plain.test(s) ? s : encode(s).replace(/%20|[!~'()]/g, (c) => differing[c]!);
}

export function serializeUrlEncoded(list: readonly string[]): string {
  let out = "";
  for (let i = 0; i < list.length; i += 2) out += `${i === 0 ? "" : "&"}${encodePart(list[i]!)}=${encodePart(list[i + 1]!)}`;
  return out;
}

// --- URLSearchParams -----------------------------------------------------------------------------------------------------

let pairsOf: (params: URLSearchParams) => readonly string[];

/** Whether this is a URLSearchParams, by its brand. */
export let isURLSearchParams: (v: object) => v is URLSearchParams;

function initialList(init: unknown): string[] {
  if ((typeof init === "object" && init !== null) || typeof init === "function") {
    const flat = pairSequence(init, "Failed to construct 'URLSearchParams'");
    if (flat !== undefined) return flat.map(usv);
    const list: string[] = [];
    for (const key of Reflect.ownKeys(init)) {
      if (!Object.getOwnPropertyDescriptor(init, key)?.enumerable) continue;
      // A symbol as a key throws here, as Web IDL's record conversion does.
      list.push(usv(key as string), usv((init as Record<PropertyKey, unknown>)[key]));
    }
    return list;
  }
  const text = usv(init);
  return parseUrlEncoded(text.startsWith("?") ? text.slice(1) : text);
}

export class URLSearchParams {
  #list: string[];
  #url: URL | undefined;

  constructor(init: unknown = undefined) {
    this.#list = init === undefined || init === "" ? [] : initialList(init);
  }

  get size(): number { return this.#list.length / 2; }

  append(name: string, value: string): void {
    const list = this.#list;
    requireArguments(arguments.length, 2, "Failed to execute 'append' on 'URLSearchParams'");
    list.push(usv(name), usv(value));
    this.#changed();
  }

  delete(name: string, value?: string): void {
    const list = this.#list;
    requireArguments(arguments.length, 1, "Failed to execute 'delete' on 'URLSearchParams'");
    const n = usv(name);
    const v = value === undefined ? undefined : usv(value);
    let kept = 0;
    for (let i = 0; i < list.length; i += 2) {
      if (list[i] === n && (v === undefined || list[i + 1] === v)) continue;
      list[kept++] = list[i]!;
      list[kept++] = list[i + 1]!;
    }
    list.length = kept;
    this.#changed();
  }

  get(name: string): string | null {
    const list = this.#list;
    if (name === undefined) requireArguments(arguments.length, 1, "Failed to execute 'get' on 'URLSearchParams'");
    const n = usv(name);
    for (let i = 0; i < list.length; i += 2) if (list[i] === n) return list[i + 1]!;
    return null;
  }

  getAll(name: string): string[] {
    const list = this.#list;
    requireArguments(arguments.length, 1, "Failed to execute 'getAll' on 'URLSearchParams'");
    const n = usv(name);
    const all: string[] = [];
    for (let i = 0; i < list.length; i += 2) if (list[i] === n) all.push(list[i + 1]!);
    return all;
  }

  has(name: string, value?: string): boolean {
    const list = this.#list;
    requireArguments(arguments.length, 1, "Failed to execute 'has' on 'URLSearchParams'");
    const n = usv(name);
    const v = value === undefined ? undefined : usv(value);
    for (let i = 0; i < list.length; i += 2) if (list[i] === n && (v === undefined || list[i + 1] === v)) return true;
    return false;
  }

  set(name: string, value: string): void {
    const list = this.#list;
    requireArguments(arguments.length, 2, "Failed to execute 'set' on 'URLSearchParams'");
    const n = usv(name);
    const v = usv(value);
    let kept = 0, found = false;
    for (let i = 0; i < list.length; i += 2) {
      if (list[i] === n && found) continue;
      const hit = list[i] === n;
      found ||= hit;
      list[kept++] = list[i]!;
      list[kept++] = hit ? v : list[i + 1]!;
    }
    list.length = kept;
    if (!found) list.push(n, v);
    this.#changed();
  }

  sort(): void {
    const list = this.#list;
    const order = Array.from({ length: list.length / 2 }, (_, i) => i * 2);
    // `<` on strings compares UTF-16 code units; Array.prototype.sort is stable.
    order.sort((a, b) => (list[a]! < list[b]! ? -1 : list[a]! > list[b]! ? 1 : 0));
    this.#list = order.flatMap((i) => [list[i]!, list[i + 1]!]);
    this.#changed();
  }

  toString(): string { return serializeUrlEncoded(this.#list); }

  #changed(): void {
    if (this.#url !== undefined) queryChanged(this.#url, serializeUrlEncoded(this.#list));
  }

  static {
    pairsOf = (params) => params.#list;
    isURLSearchParams = (v): v is URLSearchParams => #list in v;
    linkedList = (params, query) => {
      params.#list = parseUrlEncoded(query.slice(1));
    };
    linkedTo = (url, query) => {
      const params = new URLSearchParams();
      params.#list = parseUrlEncoded(query.slice(1));
      params.#url = url;
      return params;
    };
  }
}

definePairIteration(URLSearchParams, "URLSearchParams", (params) => pairsOf(params));
defineInterface(URLSearchParams, "URLSearchParams");

export const globals = { URL, URLSearchParams };
