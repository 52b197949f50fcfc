/**
 * Intl.RelativeTimeFormat for English.
 */
import { type Options, choice, chooseLocale, coerce, defineService } from "./locale";
import { NumberFormat, type Part, checkNumberingSystem, text } from "./number_format";

type Unit = "second" | "minute" | "hour" | "day" | "week" | "month" | "quarter" | "year";

/** Unit → short singular and plural, narrow, and what "last …" calls it when short. */
const names: Record<Unit, readonly [string, string, string, string]> = {
  second: [" sec.", " sec.", "s", ""],
  minute: [" min.", " min.", "m", ""],
  hour: [" hr.", " hr.", "h", ""],
  day: [" day", " days", "d", ""],
  week: [" wk.", " wk.", "w", "wk."],
  month: [" mo.", " mo.", "mo", "mo."],
  quarter: [" qtr.", " qtrs.", "q", "qtr."],
  year: [" yr.", " yr.", "y", "yr."],
};

function unitOf(given: unknown): Unit {
  const unit = `${given as string}`.replace(/s$/, "");
  if (!Object.hasOwn(names, unit)) throw new RangeError(`Invalid unit argument for format() '${given as string}'`);
  return unit as Unit;
}

export class RelativeTimeFormat {
  #locale: string;
  #style: "long" | "short" | "narrow";
  #numeric: "always" | "auto";
  #number: NumberFormat;

  constructor(locales?: unknown, options?: unknown) {
    const { locale, keywords } = chooseLocale(locales, "RelativeTimeFormat");
    this.#locale = locale;
    const o = coerce(options);
    choice(o, "localeMatcher", ["lookup", "best fit"], "best fit");
    checkNumberingSystem(o.numberingSystem ?? keywords.nu, "RelativeTimeFormat");
    this.#style = choice(o, "style", ["long", "short", "narrow"], "long");
    this.#numeric = choice(o, "numeric", ["always", "auto"], "always");
    this.#number = new NumberFormat();
  }

  format(value: unknown, unit: unknown): string {
    return text(this.formatToParts(value, unit));
  }

  formatToParts(value: unknown, given: unknown): Part[] {
    const n = Number(value);
    const unit = unitOf(given);
    if (!Number.isFinite(n)) throw new RangeError(`Invalid time value`);
    if (this.#numeric === "auto") {
      const word = this.#word(n, unit);
      if (word !== undefined) return [{ type: "literal", value: word }];
    }
    const past = n < 0 || Object.is(n, -0);
    const parts = this.#number.formatToParts(Math.abs(n)).map((p) => ({ ...p, unit }) as Part);
    const name = this.#name(unit, text(parts) === "1");
    return past ? [...parts, { type: "literal", value: `${name} ago` }] : [{ type: "literal", value: "in " }, ...parts, { type: "literal", value: name }];
  }

  #name(unit: Unit, one: boolean): string {
    if (this.#style === "long") return ` ${unit}${one ? "" : "s"}`;
    return names[unit][this.#style === "narrow" ? 2 : one ? 0 : 1];
  }

  #word(n: number, unit: Unit): string | undefined {
    if (n !== -1 && n !== 0 && n !== 1) return undefined;
    if (unit === "second") return n === 0 ? "now" : undefined;
    if (unit === "minute" || unit === "hour") return n === 0 ? `this ${unit}` : undefined;
    if (unit === "day") return n < 0 ? "yesterday" : n > 0 ? "tomorrow" : "today";
    return `${n < 0 ? "last" : n > 0 ? "next" : "this"} ${this.#style === "long" ? unit : names[unit][3]}`;
  }

  resolvedOptions(): Options {
    return { locale: this.#locale, style: this.#style, numeric: this.#numeric, numberingSystem: "latn" };
  }
}

defineService(RelativeTimeFormat, "RelativeTimeFormat");
