/**
 * Locales: canonical tags, and the choice among those requested. Only English of the United States is here; asking for nothing but other languages is
 * an error that says so, for text in the wrong language would be a silent wrong answer.
 */

export const defaultLocale = "en-US";

const language = /^(?:[a-z]{2,3}|[a-z]{5,8})$/i;
const script = /^[a-z]{4}$/i;
const region = /^(?:[a-z]{2}|\d{3})$/i;
const variant = /^(?:[a-z\d]{5,8}|\d[a-z\d]{3})$/i;
const extensionPart = /^[a-z\d]{2,8}$/i;

export interface Tag {
  language: string;
  script: string | undefined;
  region: string | undefined;
  variants: string[];
  /** Unicode extension keywords: key → value. */
  keywords: Record<string, string>;
  rest: string;
}

function invalid(tag: string): RangeError {
  return new RangeError(`Incorrect locale information provided: ${tag}`);
}

/** Takes a language tag apart; RangeError when it is malformed. */
export function parseTag(tag: string): Tag {
  const parts = tag.split("-");
  let i = 0;
  const next = (pattern: RegExp): string | undefined => (i < parts.length && pattern.test(parts[i]!) ? parts[i++] : undefined);
  const lang = next(language);
  if (lang === undefined) throw invalid(tag);
  const result: Tag = {
    language: lang.toLowerCase(),
    script: undefined,
    region: undefined,
    variants: [],
    keywords: Object.create(null) as Record<string, string>,
    rest: "",
  };
  const s = next(script);
  if (s !== undefined) result.script = s[0]!.toUpperCase() + s.slice(1).toLowerCase();
  result.region = next(region)?.toUpperCase();
  for (let v = next(variant); v !== undefined; v = next(variant)) {
    if (result.variants.includes(v.toLowerCase())) throw invalid(tag);
    result.variants.push(v.toLowerCase());
  }
  parseExtensions(parts.slice(i), result, tag);
  return result;
}

function parseExtensions(parts: string[], result: Tag, tag: string): void {
  const seen: string[] = [];
  for (let i = 0; i < parts.length; ) {
    const singleton = parts[i++]!.toLowerCase();
    if (!/^[a-z\d]$/.test(singleton) || seen.includes(singleton)) throw invalid(tag);
    seen.push(singleton);
    const from = i;
    const pattern = singleton === "x" ? /^[a-z\d]{1,8}$/i : extensionPart;
    while (i < parts.length && pattern.test(parts[i]!)) i++;
    if (i === from || (singleton === "x" && i < parts.length)) throw invalid(tag);
    const body = parts.slice(from, i).map((p) => p.toLowerCase());
    if (singleton === "u") parseKeywords(body, result.keywords);
    else result.rest += `-${singleton}-${body.join("-")}`;
  }
}

function parseKeywords(body: string[], keywords: Record<string, string>): void {
  let key: string | undefined;
  for (const part of body) {
    if (part.length === 2) {
      key = part in keywords ? undefined : part;
      if (key !== undefined) keywords[key] = "";
    } else if (key !== undefined) {
      keywords[key] = keywords[key] === "" ? part : `${keywords[key]!}-${part}`;
    }
  }
}

export function baseName(tag: Tag): string {
  return [tag.language, tag.script, tag.region, ...tag.variants].filter((p) => p !== undefined).join("-");
}

export function tagText(tag: Tag): string {
  const keys = Object.keys(tag.keywords).sort();
  const u = keys.map((k) => (tag.keywords[k] === "" || tag.keywords[k] === "true" ? k : `${k}-${tag.keywords[k]!}`)).join("-");
  return baseName(tag) + (keys.length > 0 ? `-u-${u}` : "") + tag.rest;
}

/** CanonicalizeLocaleList. */
export function canonicalLocales(locales: unknown): string[] {
  if (locales === undefined) return [];
  const result: string[] = [];
  const list = typeof locales === "string" || isLocale(locales) ? [locales] : Object(locales) as ArrayLike<unknown>;
  if (locales === null) throw new TypeError("Cannot convert null to object");
  for (let i = 0; i < list.length; i++) {
    if (!(i in list)) continue;
    const item: unknown = list[i];
    if (typeof item !== "string" && (typeof item !== "object" || item === null)) throw new TypeError("Language ID should be string or object.");
    const tag = tagText(parseTag(`${item as string}`));
    if (!result.includes(tag)) result.push(tag);
  }
  return result;
}

function isLocale(v: unknown): boolean {
  return typeof v === "object" && v !== null && Object.prototype.toString.call(v) === "[object Intl.Locale]";
}

function supported(tag: Tag): boolean {
  return tag.language === "en" && (tag.region === undefined || tag.region === "US") && (tag.script === undefined || tag.script === "Latn");
}

export interface Choice {
  locale: string;
  keywords: Record<string, string>;
}

/** The first requested locale that is available, with its extension keywords. */
export function chooseLocale(locales: unknown, service: string): Choice {
  const requested = canonicalLocales(locales);
  if (requested.length === 0) return { locale: defaultLocale, keywords: {} };
  for (const text of requested) {
    const tag = parseTag(text);
    if (supported(tag)) return { locale: baseName(tag), keywords: tag.keywords };
  }
  throw new RangeError(`Intl.${service}: locale ${requested.join(", ")} is not available in skep (only en-US is)`);
}

export function supportedLocalesOf(locales?: unknown, options?: unknown): string[] {
  if (options !== undefined) choice(coerce(options), "localeMatcher", ["lookup", "best fit"], "best fit");
  return canonicalLocales(locales).filter((text) => supported(parseTag(text)));
}

// --- options -------------------------------------------------------------------------------------------------------------

export type Options = Record<string, unknown>;

/** CoerceOptionsToObject: undefined gives none, primitives are wrapped, null throws. */
export function coerce(options: unknown): Options {
  if (options === undefined) return Object.create(null) as Options;
  if (options === null) throw new TypeError("Cannot convert null to object");
  return Object(options) as Options;
}

/** GetOptionsObject: no primitives. */
export function strictOptions(options: unknown): Options {
  if (options === undefined) return Object.create(null) as Options;
  if ((typeof options !== "object" && typeof options !== "function") || options === null) throw new TypeError("Incorrect options: not an object");
  return options as Options;
}

/** A string option out of `values`; RangeError for any other. */
export function choice<const V extends readonly string[], F extends V[number] | undefined>(options: Options, name: string, values: V, fallback: F): V[number] | F {
  const value = options[name];
  if (value === undefined) return fallback;
  const text = `${value as string}`;
  if (!values.includes(text)) throw new RangeError(`Value ${text} out of range for options property ${name}`);
  return text;
}

/** An integer option between `min` and `max`. */
export function integer<F>(options: Options, name: string, min: number, max: number, fallback: F): number | F {
  return checkInteger(options[name], name, min, max, fallback);
}

export function checkInteger<F>(value: unknown, name: string, min: number, max: number, fallback: F): number | F {
  if (value === undefined) return fallback;
  const n = Number(value);
  if (!(n >= min && n <= max)) throw new RangeError(`${name} value is out of range.`);
  return Math.floor(n);
}

/** The error for a part of Intl that is not here; it names the part. */
export function missing(what: string): Error {
  return new Error(`${what} is not available in skep's Intl`);
}

/** Gives an Intl constructor its name, tag and `supportedLocalesOf`. */
export function defineService(C: abstract new (...args: never[]) => object, name: string): void {
  Object.defineProperty(C.prototype, Symbol.toStringTag, { value: `Intl.${name}`, configurable: true });
  Object.defineProperty(C, "supportedLocalesOf", { value: supportedLocalesOf, writable: true, configurable: true });
  Object.defineProperty(C, "name", { value: name, configurable: true });
  Object.defineProperty(C, "length", { value: 0, configurable: true });
}

/** Lets a class be called without `new`, as the older Intl constructors may, and hides its internal arguments. */
export function callable<C extends new (...args: any[]) => object>(C: C): C {
  const f = function (this: unknown, locales?: unknown, options?: unknown): object {
    return Reflect.construct(C, [locales, options], new.target ?? C);
  };
  Object.defineProperty(f, "prototype", { value: C.prototype, writable: false });
  Object.defineProperty(C.prototype, "constructor", { value: f, writable: true, configurable: true });
  return f as unknown as C;
}
