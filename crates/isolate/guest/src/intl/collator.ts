/**
 * Intl.Collator: the order of the Unicode collation root for Latin text — punctuation, symbols, digits, letters; then accents; then case. Other
 * scripts follow in the order of their code points.
 */
import { type Options, callable, choice, chooseLocale, coerce, defineService } from "./locale";

const asciiOrder = "_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789";
const letterBase = 0x10000;

/** Letters that do not decompose, with the base letters they are sorted as. */
const expansions: Record<string, string> = Object.assign(Object.create(null), {
  "æ": "ae", "œ": "oe", "ß": "ss", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "ħ": "h", "ı": "i", "þ": "th",
});

function primaryOf(c: string): number {
  const code = c.codePointAt(0)!;
  if (code <= 0x20 || code === 0xa0) return code === 0x20 || code === 0xa0 ? 6 : 1 + (code % 5);
  const ascii = asciiOrder.indexOf(c);
  if (ascii >= 10 && /\d/.test(c)) return 0x4000 + Number(c);
  if (ascii >= 0) return 16 + ascii;
  if (/\p{L}/u.test(c)) return letterBase + code;
  if (/\p{N}/u.test(c)) return 0x5000 + code / 0x110000;
  return /\p{P}/u.test(c) ? 8 + code / 0x110000 : 1000 + code / 0x1000;
}

interface Key {
  primary: number[];
  accents: string[];
  upper: boolean[];
}

/** The three levels of a string; marks and controls have no primary weight of their own. */
function keyOf(s: string, numeric: boolean, ignorePunctuation: boolean): Key {
  const key: Key = { primary: [], accents: [], upper: [] };
  const chars = [...s.normalize("NFD")];
  for (let i = 0; i < chars.length; i++) {
    const c = chars[i]!;
    if (/\p{M}/u.test(c)) {
      if (key.accents.length > 0) key.accents[key.accents.length - 1] += c;
      continue;
    }
    if (/[\p{Cc}\p{Cf}]/u.test(c) && !/\s/.test(c)) continue;
    if (ignorePunctuation && /[\p{P}\s]/u.test(c)) continue;
    if (numeric && /\d/.test(c)) {
      let run = c;
      while (i + 1 < chars.length && /\d/.test(chars[i + 1]!)) run += chars[++i]!;
      addNumber(key, run.replace(/^0+(?=.)/, ""));
      continue;
    }
    addLetter(key, c);
  }
  return key;
}

function addLetter(key: Key, c: string): void {
  const lower = c.toLowerCase();
  const upper = lower !== c;
  const expansion = expansions[lower];
  for (const base of expansion ?? lower) {
    key.primary.push(primaryOf(base));
    key.accents.push(expansion === undefined ? "" : "\u0300");
    key.upper.push(upper);
  }
}

/** A number sorts by its length first, then by its digits. */
function addNumber(key: Key, digits: string): void {
  key.primary.push(0x4000 + 10 + digits.length);
  key.accents.push("");
  key.upper.push(false);
  for (const d of digits) {
    key.primary.push(0x4000 + Number(d));
    key.accents.push("");
    key.upper.push(false);
  }
}

function compareLists<T>(a: T[], b: T[]): number {
  for (let i = 0; i < a.length && i < b.length; i++) if (a[i] !== b[i]) return a[i]! < b[i]! ? -1 : 1;
  return Math.sign(a.length - b.length);
}

// Rank of each printable ASCII character, 0 for the rest: most strings that are compared need no more.
const ranks = new Uint8Array(128);
const printable = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i));
for (const c of printable) ranks[c.charCodeAt(0)] = 1 + printable.filter((d) => primaryOf(d.toLowerCase()) < primaryOf(c.toLowerCase())).length;

/** Order of two printable ASCII strings by all levels; NaN when one is not such a string. */
function compareAscii(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  let cases = 0;
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y && x < 128) continue;
    const rankX = ranks[x];
    const rankY = ranks[y];
    if (!rankX || !rankY) return NaN;
    if (rankX !== rankY) return rankX < rankY ? -1 : 1;
    if (cases === 0) cases = x > y ? -1 : 1; // lower case has the greater code
  }
  for (let i = length; i < a.length; i++) if (!ranks[a.charCodeAt(i)]) return NaN;
  for (let i = length; i < b.length; i++) if (!ranks[b.charCodeAt(i)]) return NaN;
  return a.length === b.length ? cases : a.length < b.length ? -1 : 1;
}

type Sensitivity = "base" | "accent" | "case" | "variant";

export class Collator {
  #locale: string;
  #usage: "sort" | "search";
  #sensitivity: Sensitivity;
  #ignorePunctuation: boolean;
  #numeric: boolean;
  #caseFirst: "upper" | "lower" | "false";
  #bound: ((a: unknown, b: unknown) => number) | undefined;

  constructor(locales?: unknown, options?: unknown) {
    const { locale, keywords } = chooseLocale(locales, "Collator");
    this.#locale = locale;
    const o = coerce(options);
    this.#usage = choice(o, "usage", ["sort", "search"], "sort");
    choice(o, "localeMatcher", ["lookup", "best fit"], "best fit");
    this.#numeric = o.numeric === undefined ? keywords.kn !== undefined && keywords.kn !== "false" : !!o.numeric;
    this.#caseFirst = choice(o, "caseFirst", ["upper", "lower", "false"], keywords.kf === "upper" || keywords.kf === "lower" ? keywords.kf : "false");
    this.#sensitivity = choice(o, "sensitivity", ["base", "accent", "case", "variant"], "variant");
    this.#ignorePunctuation = o.ignorePunctuation === undefined ? false : !!o.ignorePunctuation;
  }

  get compare(): (a: unknown, b: unknown) => number {
    return (this.#bound ??= Object.defineProperty(
      (a: unknown, b: unknown): number => this.#compare(`${a as string}`, `${b as string}`), "name", { value: "" },
    ));
  }

  #compare(a: string, b: string): number {
    if (a === b) return 0;
    if (!this.#numeric && !this.#ignorePunctuation && this.#sensitivity === "variant" && this.#caseFirst !== "upper") {
      const order = compareAscii(a, b);
      if (order === order) return order;
    }
    const x = keyOf(a, this.#numeric, this.#ignorePunctuation);
    const y = keyOf(b, this.#numeric, this.#ignorePunctuation);
    const primary = compareLists(x.primary, y.primary);
    if (primary !== 0 || this.#sensitivity === "base") return primary;
    if (this.#sensitivity !== "case") {
      const accents = compareLists(x.accents, y.accents);
      if (accents !== 0 || this.#sensitivity === "accent") return accents;
    }
    const cases = compareLists(x.upper, y.upper);
    return this.#caseFirst === "upper" ? 0 - cases || 0 : cases;
  }

  resolvedOptions(): Options {
    return {
      locale: this.#locale,
      usage: this.#usage,
      sensitivity: this.#sensitivity,
      ignorePunctuation: this.#ignorePunctuation,
      collation: "default",
      numeric: this.#numeric,
      caseFirst: this.#caseFirst,
    };
  }
}

defineService(Collator, "Collator");
const CallableCollator = callable(Collator);
defineService(CallableCollator, "Collator");
export { CallableCollator };
