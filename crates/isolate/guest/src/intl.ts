/**
 * A small Intl for en-US, the engine having none, and the `toLocale…` methods wired to it. What is missing throws an error that names it.
 */
import { CallableCollator, Collator } from "./intl/collator";
import { CallableDateTimeFormat, localeDate } from "./intl/date_time_format";
import { ListFormat } from "./intl/list_format";
import { type Options, baseName, canonicalLocales, coerce, missing, parseTag, tagText } from "./intl/locale";
import { CallableNumberFormat, NumberFormat } from "./intl/number_format";
import { PluralRules } from "./intl/plural_rules";
import { RelativeTimeFormat } from "./intl/relative_time_format";
import { Segmenter } from "./intl/segmenter";
import { currencyCodes, units } from "./intl/tables";

class Locale {
  #tag: ReturnType<typeof parseTag>;

  constructor(given: unknown, options?: unknown) {
    if (typeof given !== "string" && (typeof given !== "object" || given === null)) throw new TypeError("First argument to Intl.Locale constructor can't be empty or missing");
    const tag = parseTag(`${given as string}`);
    const o = coerce(options);
    const set = (name: string, pattern: RegExp, apply: (value: string) => void): void => {
      if (o[name] === undefined) return;
      const value = `${o[name] as string}`;
      if (!pattern.test(value)) throw new RangeError(`Incorrect locale information provided`);
      apply(value);
    };
    set("language", /^(?:[a-z]{2,3}|[a-z]{5,8})$/i, (v) => (tag.language = v.toLowerCase()));
    set("script", /^[a-z]{4}$/i, (v) => (tag.script = v[0]!.toUpperCase() + v.slice(1).toLowerCase()));
    set("region", /^(?:[a-z]{2}|\d{3})$/i, (v) => (tag.region = v.toUpperCase()));
    for (const [name, key] of Object.entries(localeKeywords)) {
      set(name, /^[a-z\d]{3,8}(?:-[a-z\d]{3,8})*$/i, (v) => (tag.keywords[key] = v.toLowerCase()));
    }
    if (o.numeric !== undefined) tag.keywords.kn = o.numeric ? "true" : "false";
    this.#tag = tag;
  }

  get baseName(): string { return baseName(this.#tag); }
  get language(): string { return this.#tag.language; }
  get script(): string | undefined { return this.#tag.script; }
  get region(): string | undefined { return this.#tag.region; }
  get calendar(): string | undefined { return this.#tag.keywords.ca; }
  get collation(): string | undefined { return this.#tag.keywords.co; }
  get hourCycle(): string | undefined { return this.#tag.keywords.hc; }
  get caseFirst(): string | undefined { return this.#tag.keywords.kf; }
  get numeric(): boolean { return this.#tag.keywords.kn === "" || this.#tag.keywords.kn === "true"; }
  get numberingSystem(): string | undefined { return this.#tag.keywords.nu; }
  maximize(): Locale { throw missing("Intl.Locale.prototype.maximize"); }
  minimize(): Locale { throw missing("Intl.Locale.prototype.minimize"); }
  toString(): string { return tagText(this.#tag); }
}

const localeKeywords = { calendar: "ca", collation: "co", hourCycle: "hc", caseFirst: "kf", numberingSystem: "nu" };
Object.defineProperty(Locale.prototype, Symbol.toStringTag, { value: "Intl.Locale", configurable: true });

/** A constructor that is known but not here. */
function absent(name: string): Function {
  const f = function (): never {
    throw missing(`Intl.${name}`);
  };
  Object.defineProperty(f, "name", { value: name, configurable: true });
  Object.defineProperty(f, "supportedLocalesOf", { value: (locales?: unknown) => canonicalLocales(locales).slice(0, 0), writable: true, configurable: true });
  return f;
}

function getCanonicalLocales(locales?: unknown): string[] {
  return canonicalLocales(locales);
}

function supportedValuesOf(key: unknown): string[] {
  const name = `${key as string}`;
  switch (name) {
    case "calendar": return ["gregory"];
    case "collation": return [];
    case "currency": return currencyCodes.trim().split(/\s+/);
    case "numberingSystem": return ["latn"];
    case "timeZone": return ["UTC"];
    case "unit": return Object.keys(units);
    default: throw new RangeError(`Invalid key : ${name}`);
  }
}

function hidden(object: object, values: Options): void {
  for (const key of Object.keys(values)) Object.defineProperty(object, key, { value: values[key], writable: true, configurable: true, enumerable: false });
}

const Intl = {};
Object.defineProperty(Intl, Symbol.toStringTag, { value: "Intl", configurable: true });
hidden(Intl, {
  Collator: CallableCollator, DateTimeFormat: CallableDateTimeFormat, ListFormat, Locale, NumberFormat: CallableNumberFormat, PluralRules,
  RelativeTimeFormat, Segmenter, DisplayNames: absent("DisplayNames"), DurationFormat: absent("DurationFormat"), getCanonicalLocales, supportedValuesOf,
});

// --- the methods of built-in objects -------------------------------------------------------------------------------------

const numberValue = Number.prototype.valueOf;
const bigintValue = BigInt.prototype.valueOf;

// The commonest calls, without options, share these; both are made with the image and not changed by use.
const plainNumber = new NumberFormat();
const plainCollator = new Collator();
plainNumber.format;
plainCollator.compare;

/** Built-in methods are not constructors and have no `prototype`; shorthand methods are the same. */
const methods = {
  number: {
    toLocaleString(this: number, locales?: unknown, options?: unknown): string {
      const n = numberValue.call(this);
      return locales === undefined && options === undefined ? plainNumber.format(n) : new NumberFormat(locales, options).format(n);
    },
  },
  bigint: {
    toLocaleString(this: bigint, locales?: unknown, options?: unknown): string {
      return new NumberFormat(locales, options).format(bigintValue.call(this));
    },
  },
  date: {
    toLocaleString(this: Date, locales?: unknown, options?: unknown): string {
      return localeDate(this, locales, options, "any", "all");
    },
    toLocaleDateString(this: Date, locales?: unknown, options?: unknown): string {
      return localeDate(this, locales, options, "date", "date");
    },
    toLocaleTimeString(this: Date, locales?: unknown, options?: unknown): string {
      return localeDate(this, locales, options, "time", "time");
    },
  },
  array: {
    toLocaleString(this: unknown[], locales?: unknown, options?: unknown): string {
      return joinLocale(Object(this) as unknown[], locales, options);
    },
  },
  string: {
    localeCompare(this: string, that: unknown, locales?: unknown, options?: unknown): number {
      const a = thisText(this, "localeCompare");
      const b = `${that as string}`;
      if (locales === undefined && options === undefined) return plainCollator.compare(a, b);
      return new Collator(locales, options).compare(a, b);
    },
    toLocaleLowerCase(this: string, locales?: unknown): string {
      caseLocale(locales);
      return thisText(this, "toLocaleLowerCase").toLowerCase();
    },
    toLocaleUpperCase(this: string, locales?: unknown): string {
      caseLocale(locales);
      return thisText(this, "toLocaleUpperCase").toUpperCase();
    },
  },
};

function thisText(value: unknown, name: string): string {
  if (value === undefined || value === null) throw new TypeError(`String.prototype.${name} called on null or undefined`);
  return `${value as string}`;
}

/** Only these languages have letter cases of their own. */
function caseLocale(locales: unknown): void {
  const first = canonicalLocales(locales)[0];
  if (first !== undefined && ["tr", "az", "lt", "el"].includes(parseTag(first).language)) throw missing(`Letter case for locale ${first}`);
}

const joining: object[] = [];

function joinLocale(list: ArrayLike<unknown>, locales: unknown, options: unknown): string {
  if (joining.includes(list)) return "";
  joining.push(list);
  try {
    const texts: string[] = [];
    for (let i = 0; i < list.length; i++) {
      const item = list[i] as { toLocaleString(l?: unknown, o?: unknown): string } | undefined | null;
      texts.push(item === undefined || item === null ? "" : `${item.toLocaleString(locales, options)}`);
    }
    return texts.join(",");
  } finally {
    joining.pop();
  }
}

function wire(prototype: object, functions: Record<string, Function>): void {
  hidden(prototype, functions);
  for (const name of Object.keys(functions)) {
    const length = name === "localeCompare" ? 1 : 0;
    Object.defineProperty(functions[name]!, "length", { value: length, configurable: true });
  }
}

wire(Number.prototype, methods.number);
wire(BigInt.prototype, methods.bigint);
wire(Date.prototype, methods.date);
wire(Array.prototype, methods.array);
wire(Object.getPrototypeOf(Uint8Array.prototype) as object, methods.array);
wire(String.prototype, methods.string);
Object.defineProperty(Locale, "name", { value: "Locale", configurable: true });

export const globals = { Intl };
