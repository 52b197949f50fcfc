/**
 * `node:querystring`: Node's older form encoding, which is laxer than URLSearchParams about malformed escapes.
 */
import { Buffer, type Buffer as Bytes } from "./buffer";
import { nodeError } from "./errors";

type Query = Record<string, string | string[]>;

const unreserved = /^[A-Za-z0-9\-_.!~*'()]*$/;

export function escape(v: unknown): string {
  const s = typeof v === "string" ? v : typeof v === "object" ? String(v) : `${v as string}`;
  if (unreserved.test(s)) return s;
  if (!s.isWellFormed()) throw nodeError(URIError, "ERR_INVALID_URI", "URI malformed");
  return encodeURIComponent(s);
}

export function unescapeBuffer(s: string, decodeSpaces = false): Bytes {
  const out: number[] = [];
  for (const b of Buffer.from(s)) out.push(b);
  const bytes: number[] = [];
  for (let i = 0; i < out.length; i++) {
    const c = out[i]!;
    const code = c === 37 ? hexPair(out[i + 1], out[i + 2]) : -1;
    if (code >= 0) {
      bytes.push(code);
      i += 2;
    } else bytes.push(c === 43 && decodeSpaces ? 32 : c);
  }
  return Buffer.from(bytes);
}

function hexDigit(c: number | undefined): number {
  if (c === undefined) return -1;
  if (c >= 48 && c <= 57) return c - 48;
  const lower = c | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

function hexPair(a: number | undefined, b: number | undefined): number {
  const high = hexDigit(a);
  const low = hexDigit(b);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

export function unescape(s: string, decodeSpaces?: boolean): string {
  try {
    return decodeURIComponent(s);
  } catch {
    return unescapeBuffer(s, decodeSpaces).toString();
  }
}

function primitiveText(v: unknown): string {
  if (typeof v === "string") return v;
  if (typeof v === "number" && Number.isFinite(v)) return `${v}`;
  if (typeof v === "bigint" || typeof v === "boolean") return `${v}`;
  return "";
}

export function stringify(query: unknown, separator?: string, equals?: string, options?: { encodeURIComponent?: (s: string) => string }): string {
  const sep = separator || "&";
  const eq = equals || "=";
  const encode = options?.encodeURIComponent ?? exports.escape;
  if (query === null || typeof query !== "object") return "";
  const pairs: string[] = [];
  for (const [key, value] of Object.entries(query)) {
    const start = encode(primitiveText(key)) + eq;
    if (Array.isArray(value)) for (const item of value) pairs.push(start + encode(primitiveText(item)));
    else pairs.push(start + encode(primitiveText(value)));
  }
  return pairs.join(sep);
}

interface ParseOptions {
  maxKeys?: number;
  decodeURIComponent?: (s: string) => string;
}

export function parse(text: unknown, separator?: string, equals?: string, options?: ParseOptions): Query {
  const out = Object.create(null) as Query;
  if (typeof text !== "string" || text === "") return out;
  const sep = separator || "&";
  const eq = equals || "=";
  const decode = options?.decodeURIComponent ?? exports.unescape;
  const safely = (s: string): string => {
    const spaced = s.replaceAll("+", " ");
    if (!spaced.includes("%") && decode === unescape) return spaced;
    try {
      return decode(spaced);
    } catch {
      return unescape(spaced, true);
    }
  };
  const most = typeof options?.maxKeys === "number" ? options.maxKeys : 1000;
  const parts = text.split(sep);
  const end = most > 0 ? Math.min(parts.length, most) : parts.length;
  let taken = 0;
  for (let i = 0; i < parts.length && (most <= 0 || taken < end); i++) {
    const part = parts[i]!;
    if (part === "") continue;
    taken++;
    const at = part.indexOf(eq);
    const key = safely(at < 0 ? part : part.slice(0, at));
    const value = at < 0 ? "" : safely(part.slice(at + eq.length));
    const before = out[key];
    if (before === undefined) out[key] = value;
    else if (typeof before === "string") out[key] = [before, value];
    else before.push(value);
  }
  return out;
}

// Node looks `escape` and `unescape` up on the module, where users may replace them.
export const exports = { parse, stringify, escape, unescape, unescapeBuffer, encode: stringify, decode: parse };
