/**
 * Intl.NumberFormat for en-US: decimal, percent, currency and unit styles; standard, scientific, engineering and compact notation.
 */
import { type Decimal, type RoundingMode, isZero, layOut, magnitude, roundTo, shift, toDecimal } from "./decimal";
import { type Options, callable, checkInteger, choice, chooseLocale, coerce, defineService, integer, missing } from "./locale";
import { compounds, currencyDigits, currencyNames, currencySymbols, narrowCurrencySymbols, perUnits, units } from "./tables";

export interface Part {
  type: string;
  value: string;
  source?: string;
}

const roundingModes = ["ceil", "floor", "expand", "trunc", "halfCeil", "halfFloor", "halfExpand", "halfTrunc", "halfEven"] as const;
const increments = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 2500, 5000];

/** The digit options that NumberFormat and PluralRules share. */
export interface Digits {
  minimumIntegerDigits: number;
  minimumFractionDigits?: number;
  maximumFractionDigits?: number;
  minimumSignificantDigits?: number;
  maximumSignificantDigits?: number;
  roundingMode: RoundingMode;
  roundingPriority: "auto" | "morePrecision" | "lessPrecision";
  trailingZeroDisplay: "auto" | "stripIfInteger";
  /** Compact notation's own rounding, used when no digits were asked for. */
  compact: boolean;
}

/** SetNumberFormatDigitOptions. */
export function digitOptions(o: Options, service: string, minDefault: number, maxDefault: number, compact: boolean): Digits {
  const minimumIntegerDigits = integer(o, "minimumIntegerDigits", 1, 21, 1);
  const minF = o.minimumFractionDigits;
  const maxF = o.maximumFractionDigits;
  const minS = o.minimumSignificantDigits;
  const maxS = o.maximumSignificantDigits;
  const increment = integer(o, "roundingIncrement", 1, 5000, 1);
  if (!increments.includes(increment)) throw new RangeError("roundingIncrement value is out of range.");
  if (increment !== 1) throw missing(`Intl.${service} roundingIncrement ${increment}`);
  const roundingMode = choice(o, "roundingMode", roundingModes, "halfExpand");
  const roundingPriority = choice(o, "roundingPriority", ["auto", "morePrecision", "lessPrecision"], "auto");
  const trailingZeroDisplay = choice(o, "trailingZeroDisplay", ["auto", "stripIfInteger"], "auto");
  const d: Digits = { minimumIntegerDigits, roundingMode, roundingPriority, trailingZeroDisplay, compact: false };
  const hasS = minS !== undefined || maxS !== undefined;
  const hasF = minF !== undefined || maxF !== undefined;
  const both = roundingPriority !== "auto";
  const needS = both || hasS;
  const needF = both || !(hasS || (!hasF && compact));
  if (needS) {
    d.minimumSignificantDigits = hasS ? checkInteger(minS, "minimumSignificantDigits", 1, 21, 1) : 1;
    d.maximumSignificantDigits = hasS ? checkInteger(maxS, "maximumSignificantDigits", d.minimumSignificantDigits, 21, 21) : 21;
  }
  if (needF) setFraction(d, minF, maxF, minDefault, maxDefault, hasF);
  if (!needS && !needF) {
    Object.assign(d, { minimumFractionDigits: 0, maximumFractionDigits: 0, minimumSignificantDigits: 1, maximumSignificantDigits: 2 });
    d.roundingPriority = "morePrecision";
    d.compact = true;
  }
  return d;
}

function setFraction(d: Digits, minF: unknown, maxF: unknown, minDefault: number, maxDefault: number, given: boolean): void {
  let min = given ? checkInteger(minF, "minimumFractionDigits", 0, 100, undefined) : undefined;
  let max = given ? checkInteger(maxF, "maximumFractionDigits", 0, 100, undefined) : undefined;
  if (min === undefined && max === undefined) {
    min = minDefault;
    max = maxDefault;
  } else if (min === undefined) {
    min = Math.min(minDefault, max!);
  } else if (max === undefined) {
    max = Math.max(maxDefault, min);
  } else if (min > max) {
    throw new RangeError("maximumFractionDigits value is out of range.");
  }
  d.minimumFractionDigits = min;
  d.maximumFractionDigits = max!;
}

/** Rounds as the options say and lays the digits out. */
export function formatDigits(given: Decimal, d: Digits): { rounded: Decimal; integer: string; fraction: string } {
  const { maximumFractionDigits: maxF, maximumSignificantDigits: maxS } = d;
  const powerF = maxF === undefined ? undefined : -maxF;
  const powerS = maxS === undefined ? undefined : magnitude(given) - maxS + 1;
  let useS = powerF === undefined;
  if (powerF !== undefined && powerS !== undefined) {
    const morePrecise = powerS <= powerF;
    useS = d.roundingPriority === "lessPrecision" ? !morePrecise : morePrecise;
  }
  const rounded = roundTo(given, (useS ? powerS : powerF)!, d.roundingMode);
  const minFraction = useS ? (d.compact ? 0 : Math.max(0, d.minimumSignificantDigits! - 1 - magnitude(rounded))) : d.minimumFractionDigits!;
  const { integer: digits, fraction } = layOut(rounded, d.minimumIntegerDigits, minFraction);
  const strip = d.trailingZeroDisplay === "stripIfInteger" && /^0*$/.test(fraction);
  return { rounded, integer: digits, fraction: strip ? "" : fraction };
}

type Style = "decimal" | "percent" | "currency" | "unit";
type Notation = "standard" | "scientific" | "engineering" | "compact";
type Grouping = "min2" | "auto" | "always" | false;

const compactNames: Record<"short" | "long", readonly string[]> = {
  short: ["", "K", "M", "B", "T"],
  long: ["", "thousand", "million", "billion", "trillion"],
};

export class NumberFormat {
  #locale: string;
  #style: Style;
  #currency: string | undefined;
  #currencyDisplay: "code" | "symbol" | "narrowSymbol" | "name";
  #currencySign: "standard" | "accounting";
  #unit: string | undefined;
  #unitDisplay: "short" | "narrow" | "long";
  #notation: Notation;
  #compactDisplay: "short" | "long";
  #signDisplay: "auto" | "never" | "always" | "exceptZero" | "negative";
  #grouping: Grouping;
  #digits: Digits;
  #bound: ((value: unknown) => string) | undefined;

  constructor(locales?: unknown, options?: unknown) {
    const { locale, keywords } = chooseLocale(locales, "NumberFormat");
    this.#locale = locale;
    const o = coerce(options);
    choice(o, "localeMatcher", ["lookup", "best fit"], "best fit");
    checkNumberingSystem(o.numberingSystem ?? keywords.nu, "NumberFormat");
    this.#style = choice(o, "style", ["decimal", "percent", "currency", "unit"], "decimal");
    this.#currency = currencyOption(o, this.#style);
    this.#currencyDisplay = choice(o, "currencyDisplay", ["code", "symbol", "narrowSymbol", "name"], "symbol");
    this.#currencySign = choice(o, "currencySign", ["standard", "accounting"], "standard");
    this.#unit = unitOption(o, this.#style);
    this.#unitDisplay = choice(o, "unitDisplay", ["short", "narrow", "long"], "short");
    this.#notation = choice(o, "notation", ["standard", "scientific", "engineering", "compact"], "standard");
    const digits = this.#style === "currency" && this.#notation === "standard" ? currencyDigits(this.#currency!) : 0;
    const max = this.#style === "currency" && this.#notation === "standard" ? digits : this.#style === "percent" ? 0 : 3;
    this.#digits = digitOptions(o, "NumberFormat", digits, max, this.#notation === "compact");
    this.#compactDisplay = choice(o, "compactDisplay", ["short", "long"], "short");
    this.#grouping = groupingOption(o, this.#notation);
    this.#signDisplay = choice(o, "signDisplay", ["auto", "never", "always", "exceptZero", "negative"], "auto");
    if (this.#currencyDisplay === "name" && this.#style === "currency") this.#currencyName();
  }

  get format(): (value: unknown) => string {
    return (this.#bound ??= Object.defineProperty((value: unknown): string => text(this.#parts(value)), "name", { value: "" }));
  }

  formatToParts(value: unknown): Part[] {
    return this.#parts(value);
  }

  formatRange(start: unknown, end: unknown): string {
    return text(this.formatRangeToParts(start, end));
  }

  formatRangeToParts(start: unknown, end: unknown): Part[] {
    if (start === undefined || end === undefined) throw new TypeError("start or end is undefined");
    const a = this.#parts(start);
    const b = this.#parts(end);
    if (a.some((p) => p.type === "nan") || b.some((p) => p.type === "nan")) throw new RangeError("Invalid argument");
    if (text(a) === text(b)) return [{ type: "approximatelySign", value: "~" }, ...a].map((p) => ({ ...p, source: "shared" }));
    return joinRange(a, b, this.#style === "unit" || (this.#style === "currency" && this.#currencyDisplay === "name"));
  }

  #parts(value: unknown): Part[] {
    const given = toDecimal(value);
    const x = typeof given === "number" ? given : this.#style === "percent" ? shift(given, 2) : given;
    const negative = typeof x === "number" ? x < 0 : x.negative;
    const { number, zero, one } = this.#number(x);
    const shown = this.#sign(negative, zero, Number.isNaN(x as number));
    return this.#affix(number, shown, one);
  }

  /** The sign to show: "-", "+" or none. */
  #sign(negative: boolean, zero: boolean, nan: boolean): string {
    switch (this.#signDisplay) {
      case "never": return "";
      case "always": return negative && !nan ? "-" : "+";
      case "exceptZero": return zero || nan ? "" : negative ? "-" : "+";
      case "negative": return negative && !zero && !nan ? "-" : "";
      default: return negative && !nan ? "-" : "";
    }
  }

  /** The number itself: digits, separators, exponent or compact suffix. */
  #number(x: Decimal | number): { number: Part[]; zero: boolean; one: boolean } {
    if (typeof x === "number") {
      return { number: [Number.isNaN(x) ? { type: "nan", value: "NaN" } : { type: "infinity", value: "∞" }], zero: false, one: false };
    }
    let exponent = this.#exponent(x);
    let d = formatDigits(shift(x, -exponent), this.#digits);
    // Rounding may carry into the next power: 999,999 is 1M.
    const again = this.#exponent(shift(d.rounded, exponent));
    if (again !== exponent && !isZero(d.rounded)) d = formatDigits(shift(x, -again), this.#digits);
    exponent = isZero(d.rounded) ? 0 : again;
    const number: Part[] = groupInteger(d.integer, this.#grouping);
    if (d.fraction !== "") number.push({ type: "decimal", value: "." }, { type: "fraction", value: d.fraction });
    this.#appendExponent(number, exponent);
    return { number, zero: isZero(d.rounded), one: exponent === 0 && /^0*1$/.test(d.integer) && d.fraction === "" };
  }

  #exponent(x: Decimal): number {
    const power = magnitude(x);
    switch (this.#notation) {
      case "standard": return 0;
      case "scientific": return power;
      case "engineering": return Math.floor(power / 3) * 3;
      case "compact": return power < 3 ? 0 : Math.min(Math.floor(power / 3) * 3, 12);
    }
  }

  #appendExponent(number: Part[], exponent: number): void {
    if (this.#notation === "compact") {
      // English has no long form for amounts with a currency symbol.
      const symbol = this.#style === "currency" && this.#currencyDisplay !== "name";
      const display = symbol ? "short" : this.#compactDisplay;
      const name = compactNames[display][exponent / 3]!;
      if (name === "") return;
      if (display === "long") number.push({ type: "literal", value: " " });
      number.push({ type: "compact", value: name });
    } else if (this.#notation !== "standard") {
      number.push({ type: "exponentSeparator", value: "E" });
      if (exponent < 0) number.push({ type: "exponentMinusSign", value: "-" });
      number.push({ type: "exponentInteger", value: `${Math.abs(exponent)}` });
    }
  }

  /** Sign, symbol and unit round the number. */
  #affix(number: Part[], sign: string, one: boolean): Part[] {
    const signPart: Part[] = sign === "" ? [] : [{ type: sign === "-" ? "minusSign" : "plusSign", value: sign }];
    switch (this.#style) {
      case "decimal": return [...signPart, ...number];
      case "percent": return [...signPart, ...number, { type: "percentSign", value: "%" }];
      case "currency": return this.#affixCurrency(number, sign, signPart, one);
      case "unit": return this.#affixUnit(number, signPart, one);
    }
  }

  #affixCurrency(number: Part[], sign: string, signPart: Part[], one: boolean): Part[] {
    if (this.#currencyDisplay === "name") {
      const value = this.#currencyName()[one ? 0 : 1];
      return [...signPart, ...number, { type: "literal", value: " " }, { type: "currency", value }];
    }
    const code = this.#currency!;
    const symbol = currencySymbols[code] ?? code;
    const value = this.#currencyDisplay === "code" ? code : this.#currencyDisplay === "symbol" ? symbol : (narrowCurrencySymbols[code] ?? symbol);
    const body: Part[] = [{ type: "currency", value }];
    if (!/\p{S}$/u.test(value) && number[0]!.type === "integer") body.push({ type: "literal", value: "\u00a0" });
    body.push(...number);
    if (sign === "-" && this.#currencySign === "accounting") return [{ type: "literal", value: "(" }, ...body, { type: "literal", value: ")" }];
    return [...signPart, ...body];
  }

  #currencyName(): readonly [string, string] {
    const names = currencyNames[this.#currency!];
    if (names === undefined) throw missing(`The name of currency ${this.#currency!}`);
    return names;
  }

  #affixUnit(number: Part[], signPart: Part[], one: boolean): Part[] {
    const suffix = unitSuffix(this.#unit!, this.#unitDisplay, one);
    const space = /^\s+/.exec(suffix)?.[0] ?? "";
    const parts = [...signPart, ...number];
    if (space !== "") parts.push({ type: "literal", value: space });
    parts.push({ type: "unit", value: suffix.slice(space.length) });
    return parts;
  }

  resolvedOptions(): Options {
    const d = this.#digits;
    const r: Options = { locale: this.#locale, numberingSystem: "latn", style: this.#style };
    if (this.#style === "currency") {
      Object.assign(r, { currency: this.#currency, currencyDisplay: this.#currencyDisplay, currencySign: this.#currencySign });
    }
    if (this.#style === "unit") Object.assign(r, { unit: this.#unit, unitDisplay: this.#unitDisplay });
    Object.assign(r, resolvedDigits(d), { useGrouping: this.#grouping, notation: this.#notation });
    if (this.#notation === "compact") r.compactDisplay = this.#compactDisplay;
    return Object.assign(r, { signDisplay: this.#signDisplay }, resolvedRounding(d));
  }
}

export function resolvedDigits(d: Digits): Options {
  const r: Options = { minimumIntegerDigits: d.minimumIntegerDigits };
  for (const key of ["minimumFractionDigits", "maximumFractionDigits", "minimumSignificantDigits", "maximumSignificantDigits"] as const) {
    if (d[key] !== undefined) r[key] = d[key];
  }
  return r;
}

export function resolvedRounding(d: Digits): Options {
  return {
    roundingIncrement: 1,
    roundingMode: d.roundingMode,
    roundingPriority: d.roundingPriority,
    trailingZeroDisplay: d.trailingZeroDisplay,
  };
}

export function checkNumberingSystem(value: unknown, service: string): void {
  if (value === undefined) return;
  const text = `${value as string}`;
  if (!/^[a-z\d]{3,8}(-[a-z\d]{3,8})*$/i.test(text)) throw new RangeError(`Invalid numberingSystem : ${text}`);
  if (text.toLowerCase() !== "latn") throw missing(`Intl.${service} numberingSystem ${text}`);
}

function currencyOption(o: Options, style: Style): string | undefined {
  const value = o.currency;
  if (value === undefined) {
    if (style === "currency") throw new TypeError("Currency code is required with currency style.");
    return undefined;
  }
  const code = `${value as string}`;
  if (!/^[a-z]{3}$/i.test(code)) throw new RangeError(`Invalid currency code : ${code}`);
  return code.toUpperCase();
}

function unitOption(o: Options, style: Style): string | undefined {
  const value = o.unit;
  if (value === undefined) {
    if (style === "unit") throw new TypeError("Unit is required with unit style.");
    return undefined;
  }
  const unit = `${value as string}`;
  const halves = unit.split("-per-");
  if (halves.length > 2 || halves.some((h) => units[h] === undefined)) throw new RangeError(`Invalid unit argument for NumberFormat() : ${unit}`);
  return unit;
}

function groupingOption(o: Options, notation: Notation): Grouping {
  const fallback = notation === "compact" ? "min2" : "auto";
  const value = o.useGrouping;
  if (value === undefined) return fallback;
  if (value === true) return "always";
  if (value === false || value === null || value === 0 || value === "") return false;
  const name = `${value as string}`;
  if (name === "true" || name === "false") return fallback;
  return choice({ useGrouping: name }, "useGrouping", ["min2", "auto", "always"], fallback);
}

function groupInteger(digits: string, grouping: Grouping): Part[] {
  const least = grouping === "min2" ? 5 : 4;
  if (grouping === false || digits.length < least) return [{ type: "integer", value: digits }];
  const parts: Part[] = [];
  for (let i = 0, end = digits.length % 3 || 3; i < digits.length; i = end, end += 3) {
    if (i > 0) parts.push({ type: "group", value: "," });
    parts.push({ type: "integer", value: digits.slice(i, end) });
  }
  return parts;
}

function unitSuffix(unit: string, display: "short" | "narrow" | "long", one: boolean): string {
  const [first, per] = unit.split("-per-") as [string, string | undefined];
  const names = units[first]!;
  const own = display === "long" ? ` ${names[one ? 0 : 1]}` : display === "short" ? names[one ? 2 : 3]! : names[4];
  if (per === undefined) return own;
  const compound = compounds[unit];
  if (display === "long") return `${own} per ${units[per]![0]}`;
  if (compound !== undefined) return display === "short" ? ` ${compound}` : compound;
  const perName = (display === "narrow" && per === "gallon" ? undefined : perUnits[per]) ?? units[per]![display === "short" ? 2 : 4].trim();
  return `${own}/${perName}`;
}

export function text(parts: Part[]): string {
  let s = "";
  for (const p of parts) s += p.value;
  return s;
}

const bare = ["integer", "group", "decimal", "fraction", "infinity"];

function isBare(p: Part | undefined): boolean {
  return p !== undefined && bare.includes(p.type);
}

/** "3–5", "$3 – $5", "3–5 km": what surrounds both numbers is said once if it is longer than one character. */
function joinRange(a: Part[], b: Part[], sharesUnit: boolean): Part[] {
  const mark = (parts: Part[], source: string): Part[] => parts.map((p) => ({ ...p, source }));
  const [fromA, fromB] = [a.findIndex(isBare), b.findIndex(isBare)];
  const [toA, toB] = [a.findLastIndex(isBare) + 1, b.findLastIndex(isBare) + 1];
  const same = (x: Part[], y: Part[]): boolean => text(x).length > 1 && text(x) === text(y) && !x.some((p) => /Sign$/.test(p.type));
  const head = same(a.slice(0, fromA), b.slice(0, fromB));
  const tail = (sharesUnit && text(b.slice(toB)).length > 1) || same(a.slice(toA), b.slice(toB));
  const left = a.slice(head ? fromA : 0, tail ? toA : a.length);
  const right = b.slice(head ? fromB : 0, tail ? toB : b.length);
  const tight = left[0]?.type !== "minusSign" && isBare(left[left.length - 1]) && isBare(right[0]);
  return [
    ...mark(head ? a.slice(0, fromA) : [], "shared"),
    ...mark(left, "startRange"),
    { type: "literal", value: tight ? "–" : " – ", source: "shared" },
    ...mark(right, "endRange"),
    ...mark(tail ? b.slice(toB) : [], "shared"),
  ];
}

defineService(NumberFormat, "NumberFormat");
const CallableNumberFormat = callable(NumberFormat);
defineService(CallableNumberFormat, "NumberFormat");
export { CallableNumberFormat };
