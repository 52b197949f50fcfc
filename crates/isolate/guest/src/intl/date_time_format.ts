/**
 * Intl.DateTimeFormat for en-US, in UTC and fixed offsets. Combinations of fields for which English has no customary form throw.
 */
import { host } from "../host";
import { type Options, callable, choice, chooseLocale, coerce, defineService, integer, missing } from "./locale";
import { type Part, checkNumberingSystem, text } from "./number_format";

const months = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const weekdays = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const eras = { narrow: ["B", "A"], short: ["BC", "AD"], long: ["Before Christ", "Anno Domini"] } as const;

type Width = "narrow" | "short" | "long";
type Numeric = "numeric" | "2-digit";
type ZoneName = "short" | "long" | "shortOffset" | "longOffset" | "shortGeneric" | "longGeneric";

interface Fields {
  weekday?: Width;
  era?: Width;
  year?: Numeric;
  month?: Numeric | Width;
  day?: Numeric;
  dayPeriod?: Width;
  hour?: Numeric;
  minute?: Numeric;
  second?: Numeric;
  fractionalSecondDigits?: number;
  timeZoneName?: ZoneName;
}

type StyleName = "full" | "long" | "medium" | "short";

const dateStyles: Record<StyleName, Fields> = {
  full: { weekday: "long", year: "numeric", month: "long", day: "numeric" },
  long: { year: "numeric", month: "long", day: "numeric" },
  medium: { year: "numeric", month: "short", day: "numeric" },
  short: { year: "2-digit", month: "numeric", day: "numeric" },
};

const timeStyles: Record<StyleName, Fields> = {
  full: { hour: "numeric", minute: "2-digit", second: "2-digit", timeZoneName: "long" },
  long: { hour: "numeric", minute: "2-digit", second: "2-digit", timeZoneName: "short" },
  medium: { hour: "numeric", minute: "2-digit", second: "2-digit" },
  short: { hour: "numeric", minute: "2-digit" },
};

const widths = ["narrow", "short", "long"] as const;
const numerics = ["2-digit", "numeric"] as const;
const zoneNames = ["short", "long", "shortOffset", "longOffset", "shortGeneric", "longGeneric"] as const;
const utcNames = /^(?:(?:etc\/)?(?:utc|gmt|uct|zulu|universal|greenwich|gmt[+-]?0))$/i;

interface Zone {
  name: string;
  minutes: number;
}

function parseZone(value: unknown): Zone {
  if (value === undefined) return { name: "UTC", minutes: 0 };
  const name = `${value as string}`;
  if (utcNames.test(name)) return { name: "UTC", minutes: 0 };
  const m = /^([+-])([01]\d|2[0-3])(?::?([0-5]\d))?$/.exec(name);
  if (m === null) {
    throw new RangeError(`Intl.DateTimeFormat: time zone ${name} is not available in skep (only UTC and fixed offsets such as +01:00 are)`);
  }
  const minutes = (Number(m[2]) * 60 + Number(m[3] ?? 0)) * (m[1] === "-" ? -1 : 1);
  return { name: `${minutes === 0 ? "+" : m[1]!}${m[2]!}:${m[3] ?? "00"}`, minutes };
}

/** Which fields a method wants when none was asked for, as the toLocale… methods differ in. */
export type Need = "date" | "time" | "any";

type Cycle = "h11" | "h12" | "h23" | "h24";

export class DateTimeFormat {
  #locale: string;
  #zone: Zone;
  #fields: Fields;
  #cycle: Cycle;
  #dateStyle: StyleName | undefined;
  #timeStyle: StyleName | undefined;
  #bound: ((date?: unknown) => string) | undefined;

  constructor(locales?: unknown, options?: unknown, need: Need = "any", defaults: "date" | "time" | "all" = "date") {
    const { locale, keywords } = chooseLocale(locales, "DateTimeFormat");
    this.#locale = locale;
    const o = coerce(options);
    choice(o, "localeMatcher", ["lookup", "best fit"], "best fit");
    checkCalendar(o.calendar ?? keywords.ca);
    checkNumberingSystem(o.numberingSystem ?? keywords.nu, "DateTimeFormat");
    this.#cycle = cycleOption(o, keywords.hc);
    this.#zone = parseZone(o.timeZone);
    const asked = readFields(o);
    choice(o, "formatMatcher", ["basic", "best fit"], "best fit");
    this.#dateStyle = choice(o, "dateStyle", ["full", "long", "medium", "short"], undefined);
    this.#timeStyle = choice(o, "timeStyle", ["full", "long", "medium", "short"], undefined);
    this.#fields = this.#dateStyle !== undefined || this.#timeStyle !== undefined ? this.#styled(asked, need, defaults) : withDefaults(asked, need, defaults);
    checkFields(this.#fields, this.#cycle);
  }

  #styled(asked: Fields, need: Need, defaults: string): Fields {
    if (Object.keys(asked).length > 0) throw new TypeError(`Can't set option ${Object.keys(asked)[0]!} when ${this.#dateStyle === undefined ? "timeStyle" : "dateStyle"} is used`);
    if (need === "date" && defaults === "date" && this.#timeStyle !== undefined) throw new TypeError("Invalid option : timeStyle");
    if (need === "time" && this.#dateStyle !== undefined) throw new TypeError("Invalid option : dateStyle");
    return {
      ...(this.#dateStyle === undefined ? undefined : dateStyles[this.#dateStyle]),
      ...(this.#timeStyle === undefined ? undefined : timeStyles[this.#timeStyle]),
    };
  }

  get format(): (date?: unknown) => string {
    return (this.#bound ??= Object.defineProperty((date?: unknown): string => text(this.#parts(timeOf(date))), "name", { value: "" }));
  }

  formatToParts(date?: unknown): Part[] {
    return this.#parts(timeOf(date));
  }

  formatRange(start: unknown, end: unknown): string {
    return text(this.formatRangeToParts(start, end));
  }

  formatRangeToParts(start: unknown, end: unknown): Part[] {
    if (start === undefined || end === undefined) throw new TypeError("startDate or endDate cannot be undefined");
    return formatRange(this.#fields, this.#cycle, this.#zone, timeOf(start), timeOf(end));
  }

  #parts(time: number): Part[] {
    return formatFields(this.#fields, this.#cycle, this.#zone, time);
  }

  resolvedOptions(): Options {
    const r: Options = { locale: this.#locale, calendar: "gregory", numberingSystem: "latn", timeZone: this.#zone.name };
    const f = this.#fields;
    if (f.hour !== undefined) Object.assign(r, { hourCycle: this.#cycle, hour12: this.#cycle === "h11" || this.#cycle === "h12" });
    if (this.#dateStyle === undefined && this.#timeStyle === undefined) {
      const { weekday, era, year, month, day, dayPeriod, hour, minute, second, fractionalSecondDigits, timeZoneName } = f;
      const shown: Options = {
        weekday, era, year, month, day, dayPeriod,
        hour: hour !== undefined && !(r.hour12 as boolean) ? "2-digit" : hour,
        minute: minute !== undefined && (hour !== undefined || second !== undefined) ? "2-digit" : minute && "numeric",
        second: second !== undefined && minute !== undefined ? "2-digit" : second && "numeric",
        fractionalSecondDigits, timeZoneName,
      };
      for (const key of Object.keys(shown)) if (shown[key] !== undefined) r[key] = shown[key];
    }
    if (this.#dateStyle !== undefined) r.dateStyle = this.#dateStyle;
    if (this.#timeStyle !== undefined) r.timeStyle = this.#timeStyle;
    return r;
  }
}

// --- options -------------------------------------------------------------------------------------------------------------

function checkCalendar(value: unknown): void {
  if (value === undefined) return;
  const name = `${value as string}`;
  if (!/^[a-z\d]{3,8}(-[a-z\d]{3,8})*$/i.test(name)) throw new RangeError(`Invalid calendar : ${name}`);
  if (!["gregory", "gregorian"].includes(name.toLowerCase())) throw missing(`Intl.DateTimeFormat calendar ${name}`);
}

function cycleOption(o: Options, keyword: string | undefined): Cycle {
  const hour12 = o.hour12 === undefined ? undefined : !!o.hour12;
  const cycle = choice(o, "hourCycle", ["h11", "h12", "h23", "h24"], undefined);
  if (hour12 !== undefined) return hour12 ? "h12" : "h23";
  if (cycle !== undefined) return cycle;
  return keyword === "h11" || keyword === "h12" || keyword === "h23" || keyword === "h24" ? keyword : "h12";
}

function readFields(o: Options): Fields {
  const f: Fields = {
    weekday: choice(o, "weekday", widths, undefined),
    era: choice(o, "era", widths, undefined),
    year: choice(o, "year", numerics, undefined),
    month: choice(o, "month", [...numerics, ...widths], undefined),
    day: choice(o, "day", numerics, undefined),
    dayPeriod: choice(o, "dayPeriod", widths, undefined),
    hour: choice(o, "hour", numerics, undefined),
    minute: choice(o, "minute", numerics, undefined),
    second: choice(o, "second", numerics, undefined),
    fractionalSecondDigits: integer(o, "fractionalSecondDigits", 1, 3, undefined),
    timeZoneName: choice(o, "timeZoneName", zoneNames, undefined),
  } as Fields;
  for (const key of Object.keys(f) as (keyof Fields)[]) if (f[key] === undefined) delete f[key];
  return f;
}

function withDefaults(f: Fields, need: Need, defaults: "date" | "time" | "all"): Fields {
  const hasDate = f.weekday !== undefined || f.year !== undefined || f.month !== undefined || f.day !== undefined;
  const hasTime = f.dayPeriod !== undefined || f.hour !== undefined || f.minute !== undefined || f.second !== undefined || f.fractionalSecondDigits !== undefined;
  if ((need !== "time" && hasDate) || (need !== "date" && hasTime)) return f;
  const date: Fields = defaults === "time" ? {} : { year: "numeric", month: "numeric", day: "numeric" };
  const time: Fields = defaults === "date" ? {} : { hour: "numeric", minute: "numeric", second: "numeric" };
  return { ...f, ...date, ...time };
}

function isText(month: Fields["month"]): boolean {
  return month !== undefined && month !== "numeric" && month !== "2-digit";
}

/** Refuses what English has no form for. */
function checkFields(f: Fields, cycle: Cycle): void {
  const { weekday, era, year, month, day, hour, minute, second, fractionalSecondDigits, dayPeriod } = f;
  const has = (v: unknown): boolean => v !== undefined;
  const odd =
    (has(year) && has(day) && !has(month) && (!has(weekday) || has(era)))
    || (has(era) && !has(year) && has(month) !== has(day) && !(has(weekday) && has(day)))
    || (has(weekday) && has(month) && !has(day) && !has(year) && weekday !== "long" && month === "long")
    || (has(hour) && !has(minute) && (has(second) || has(fractionalSecondDigits)))
    || (has(dayPeriod) && !has(hour) && (has(minute) || has(second) || has(fractionalSecondDigits)));
  if (odd) throw missing(`Intl.DateTimeFormat for the fields ${Object.keys(f).join(", ")} (${cycle}) together`);
}

function timeOf(date: unknown): number {
  const time = date === undefined ? Math.floor(host.now()) : Number(date);
  if (!(Math.abs(time) <= 8.64e15)) throw new RangeError("Invalid time value");
  return Math.trunc(time);
}

// --- formatting ----------------------------------------------------------------------------------------------------------

function pad(n: number, width: number): string {
  return `${n}`.padStart(width, "0");
}

function named(names: readonly string[], index: number, width: Width): string {
  const name = names[index]!;
  return width === "long" ? name : name.slice(0, width === "short" ? 3 : 1);
}

class Builder {
  parts: Part[] = [];

  add(type: string, value: string): this {
    this.parts.push({ type, value });
    return this;
  }

  /** Literal text; adjacent literals become one. */
  literal(value: string): this {
    const last = this.parts[this.parts.length - 1];
    if (last?.type === "literal") last.value += value;
    else if (value !== "") this.parts.push({ type: "literal", value });
    return this;
  }
}

function formatFields(f: Fields, cycle: Cycle, zone: Zone, time: number): Part[] {
  const date = new Date(time + zone.minutes * 60_000);
  const b = new Builder();
  const hasDate = addDate(b, f, date);
  const timed = new Builder();
  addTime(timed, f, cycle, date);
  if (f.timeZoneName !== undefined) {
    if (timed.parts.length > 0) timed.literal(" ");
    timed.add("timeZoneName", zoneName(zone, f.timeZoneName));
  }
  if (hasDate && timed.parts.length > 0) b.literal(glue(f));
  return [...b.parts, ...timed.parts];
}

function glue(f: Fields): string {
  if (f.month === "long") return " at ";
  const weekdayOnly = f.weekday !== undefined && f.day === undefined && f.month === undefined && f.year === undefined && f.era === undefined;
  return weekdayOnly && f.hour !== undefined && f.timeZoneName === undefined ? " " : ", ";
}

function addDate(b: Builder, f: Fields, date: Date): boolean {
  const { weekday, era, year, month, day } = f;
  const weekdayName = weekday && named(weekdays, date.getUTCDay(), weekday);
  const leading = weekdayName !== undefined && month !== undefined && day !== undefined;
  if (leading) b.add("weekday", weekdayName).literal(", ");
  if (weekdayName !== undefined && !leading && day !== undefined) {
    b.add("day", dayText(f, date)).literal(" ").add("weekday", weekdayName);
    if (year !== undefined) b.literal(" ").add("year", yearText(f, date));
  } else {
    addCore(b, f, date);
  }
  if (era !== undefined) {
    if (b.parts.length > 0) b.literal(" ");
    b.add("era", eras[era][date.getUTCFullYear() > 0 ? 1 : 0]);
  }
  if (weekdayName !== undefined && !leading && day === undefined) {
    if (b.parts.length > 0) b.literal(" ");
    b.add("weekday", weekdayName);
  }
  return b.parts.length > 0;
}

/** Month, day and year. */
function addCore(b: Builder, f: Fields, date: Date): void {
  const { year, month, day } = f;
  const textual = isText(month);
  let separator = "";
  if (month !== undefined) {
    const number = date.getUTCMonth();
    b.add("month", textual ? named(months, number, month as Width) : month === "2-digit" ? pad(number + 1, 2) : `${number + 1}`);
    separator = textual ? " " : "/";
  }
  if (day !== undefined) {
    b.literal(separator).add("day", dayText(f, date));
    separator = textual ? ", " : "/";
  }
  if (year !== undefined) b.literal(separator).add("year", yearText(f, date));
}

function dayText(f: Fields, date: Date): string {
  return pad(date.getUTCDate(), f.day === "2-digit" ? 2 : 1);
}

function yearText(f: Fields, date: Date): string {
  const full = date.getUTCFullYear();
  const year = full > 0 ? full : 1 - full;
  return f.year === "2-digit" ? pad(year % 100, 2) : `${year}`;
}

function addTime(b: Builder, f: Fields, cycle: Cycle, date: Date): void {
  const { hour, minute, second, fractionalSecondDigits: fraction } = f;
  const halfDays = cycle === "h11" || cycle === "h12";
  if (hour !== undefined) b.add("hour", hourText(date.getUTCHours(), cycle, hour));
  if (minute !== undefined) {
    const alone = hour === undefined && second === undefined && fraction === undefined;
    if (hour !== undefined) b.literal(":");
    b.add("minute", pad(date.getUTCMinutes(), alone ? 1 : 2));
  }
  if (second !== undefined || (fraction !== undefined && minute !== undefined)) {
    if (minute !== undefined) b.literal(":");
    b.add("second", pad(date.getUTCSeconds(), minute === undefined ? 1 : 2));
  }
  if (fraction !== undefined) {
    if (b.parts.length > 0) b.literal(".");
    b.add("fractionalSecond", pad(date.getUTCMilliseconds(), 3).slice(0, fraction));
  }
  if (hour !== undefined ? halfDays : f.dayPeriod !== undefined) {
    if (b.parts.length > 0) b.literal(" ");
    b.add("dayPeriod", f.dayPeriod === undefined ? (date.getUTCHours() < 12 ? "AM" : "PM") : dayPeriod(f, date));
  }
}

function hourText(hours: number, cycle: Cycle, width: Numeric): string {
  switch (cycle) {
    case "h11": return pad(hours % 12, width === "2-digit" ? 2 : 1);
    case "h12": return pad(hours % 12 || 12, width === "2-digit" ? 2 : 1);
    case "h23": return pad(hours, 2);
    case "h24": return pad(hours || 24, 2);
  }
}

function dayPeriod(f: Fields, date: Date): string {
  const hours = date.getUTCHours();
  const exact = (f.minute === undefined || date.getUTCMinutes() === 0) && (f.second === undefined || date.getUTCSeconds() === 0);
  if (hours === 12 && exact) return f.dayPeriod === "narrow" ? "n" : "noon";
  if (hours < 12) return "in the morning";
  if (hours < 18) return "in the afternoon";
  return hours < 21 ? "in the evening" : "at night";
}

function zoneName(zone: Zone, style: ZoneName): string {
  const isLong = style.startsWith("long");
  if (zone.name === "UTC" && (style === "short" || style === "long")) return isLong ? "Coordinated Universal Time" : "UTC";
  if (zone.minutes === 0 && zone.name !== "UTC" && !style.endsWith("Offset")) return isLong ? "Greenwich Mean Time" : "GMT";
  const minutes = Math.abs(zone.minutes);
  const sign = zone.minutes < 0 ? "-" : "+";
  const hours = Math.floor(minutes / 60);
  const rest = minutes % 60;
  if (isLong) return `GMT${sign}${pad(hours, 2)}:${pad(rest, 2)}`;
  return `GMT${sign}${hours}${rest === 0 ? "" : `:${pad(rest, 2)}`}`;
}

// --- ranges --------------------------------------------------------------------------------------------------------------

function without(f: Fields, ...keys: (keyof Fields)[]): Fields {
  const rest = { ...f };
  for (const key of keys) delete rest[key];
  return rest;
}

/** Both ends in one phrase; what they share is said once where English does so. */
function formatRange(fields: Fields, cycle: Cycle, zone: Zone, start: number, end: number): Part[] {
  const a = new Date(start + zone.minutes * 60_000);
  const b = new Date(end + zone.minutes * 60_000);
  const sameYear = a.getUTCFullYear() === b.getUTCFullYear();
  const sameMonth = sameYear && a.getUTCMonth() === b.getUTCMonth();
  const sameDay = sameMonth && a.getUTCDate() === b.getUTCDate();
  const timed = fields.hour !== undefined || fields.minute !== undefined || fields.second !== undefined || fields.dayPeriod !== undefined;
  const dated = fields.year !== undefined || fields.month !== undefined || fields.day !== undefined || fields.weekday !== undefined;
  const f: Fields = timed && !dated && !sameDay ? { ...fields, year: "numeric", month: "numeric", day: "numeric" } : fields;
  const format = (which: Fields, time: number): Part[] => formatFields(which, cycle, zone, time);
  if (text(format(f, start)) === text(format(f, end))) return format(f, start).map((p) => ({ ...p, source: "shared" }));
  if (f.era !== undefined || (timed && f.timeZoneName !== undefined)) throw missing("Intl.DateTimeFormat formatRange with an era or a time zone name");
  let first = f;
  let second = f;
  if (timed && sameDay) {
    second = without(f, "year", "month", "day", "weekday");
    if (f.dayPeriod === undefined && a.getUTCHours() < 12 === b.getUTCHours() < 12) return joinRange(dropHalf(format(first, start)), format(second, end));
  } else if (!timed && isText(f.month)) {
    if (sameYear && f.year !== undefined) first = without(f, "year");
    if (sameMonth && f.weekday === undefined && f.day !== undefined) {
      // "January 2 – 3, 2024": the day alone needs the comma before the year.
      return joinRange(format(first, start), format(f, end).slice(2));
    }
  }
  return joinRange(format(first, start), format(second, end));
}

function dropHalf(parts: Part[]): Part[] {
  const i = parts.findIndex((p) => p.type === "dayPeriod");
  return i < 0 ? parts : parts.slice(0, i - 1);
}

function joinRange(a: Part[], b: Part[]): Part[] {
  return [
    ...a.map((p) => ({ ...p, source: "startRange" })),
    { type: "literal", value: " – ", source: "shared" },
    ...b.map((p) => ({ ...p, source: "endRange" })),
  ];
}

defineService(DateTimeFormat, "DateTimeFormat");
const CallableDateTimeFormat = callable(DateTimeFormat);
defineService(CallableDateTimeFormat, "DateTimeFormat");
export { CallableDateTimeFormat };

/** `toLocaleString`, `toLocaleDateString` and `toLocaleTimeString` of a date. */
export function localeDate(date: Date, locales: unknown, options: unknown, need: Need, defaults: "date" | "time" | "all"): string {
  const time = Date.prototype.getTime.call(date);
  if (Number.isNaN(time)) return "Invalid Date";
  return new DateTimeFormat(locales, options, need, defaults).format(time);
}
