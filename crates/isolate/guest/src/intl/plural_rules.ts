/**
 * Intl.PluralRules for English.
 */
import { isZero, toDecimal } from "./decimal";
import { type Options, choice, chooseLocale, coerce, defineService } from "./locale";
import { type Digits, digitOptions, formatDigits, resolvedDigits, resolvedRounding } from "./number_format";

type Category = "one" | "two" | "few" | "other";

export class PluralRules {
  #locale: string;
  #type: "cardinal" | "ordinal";
  #digits: Digits;

  constructor(locales?: unknown, options?: unknown) {
    this.#locale = chooseLocale(locales, "PluralRules").locale;
    const o = coerce(options);
    choice(o, "localeMatcher", ["lookup", "best fit"], "best fit");
    this.#type = choice(o, "type", ["cardinal", "ordinal"], "cardinal");
    this.#digits = digitOptions(o, "PluralRules", 0, 3, false);
  }

  select(value: unknown): Category {
    const d = toDecimal(Number(value));
    if (typeof d === "number") return "other";
    const { integer, fraction, rounded } = formatDigits(d, this.#digits);
    if (this.#type === "cardinal") return integer === "1" && fraction === "" ? "one" : "other";
    if (!isZero(rounded) && /[^0]/.test(fraction)) return "other";
    return ordinal(integer);
  }

  selectRange(start: unknown, end: unknown): Category {
    if (start === undefined || end === undefined) throw new TypeError("start or end is undefined");
    if (Number.isNaN(Number(start)) || Number.isNaN(Number(end))) throw new RangeError("Invalid argument");
    return (this.#type, "other"); // in English any range is plural
  }

  resolvedOptions(): Options {
    const pluralCategories = this.#type === "cardinal" ? ["one", "other"] : ["one", "two", "few", "other"];
    return { locale: this.#locale, type: this.#type, notation: "standard", ...resolvedDigits(this.#digits), pluralCategories, ...resolvedRounding(this.#digits) };
  }
}

/** 1st, 2nd, 3rd; but 11th, 12th, 13th. */
function ordinal(integer: string): Category {
  if (/1[123]$/.test(integer)) return "other";
  const last = integer[integer.length - 1];
  return last === "1" ? "one" : last === "2" ? "two" : last === "3" ? "few" : "other";
}

defineService(PluralRules, "PluralRules");
