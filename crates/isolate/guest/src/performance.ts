/**
 * The Performance interface with user timing. As on workerd the time origin is the epoch, and the clock stands still within a turn, so that
 * no code can time what runs beside it. Entries are kept only once there are any; observers hear of them in a task of its own.
 */
import { EventTarget } from "./events";
import { host } from "./host";
import { structuredClone } from "./clone";
import { setTimeout } from "./timers";
import { defineInterface, requireArguments } from "./webidl";

let secret: object | undefined = {};
const key = secret;

export class PerformanceEntry {
  #name: string;
  #entryType: string;
  #startTime: number;
  #duration: number;

  constructor(given: object, name: string, entryType: string, startTime: number, duration: number) {
    if (given !== key) throw new TypeError("Illegal constructor");
    this.#name = name;
    this.#entryType = entryType;
    this.#startTime = startTime;
    this.#duration = duration;
  }

  get name(): string { return this.#name; }
  get entryType(): string { return this.#entryType; }
  get startTime(): number { return this.#startTime; }
  get duration(): number { return this.#duration; }

  toJSON(): object {
    return { name: this.#name, entryType: this.#entryType, startTime: this.#startTime, duration: this.#duration };
  }
}

interface MarkOptions {
  detail?: unknown;
  startTime?: number;
}

export class PerformanceMark extends PerformanceEntry {
  #detail: unknown;

  constructor(name: string, options?: MarkOptions) {
    requireArguments(arguments.length, 1, "Failed to construct 'PerformanceMark'");
    const { detail, startTime } = options ?? {};
    const at = startTime === undefined ? host.now() : Number(startTime);
    if (!Number.isFinite(at)) throw new TypeError("Failed to construct 'PerformanceMark': startTime is not a finite number.");
    if (at < 0) throw new TypeError(`Failed to construct 'PerformanceMark': '${at}' is a negative start time.`);
    super(key, `${name}`, "mark", at, 0);
    this.#detail = detail === undefined ? null : structuredClone(detail);
  }

  get detail(): unknown { return this.#detail; }
  override toJSON(): object { return { ...super.toJSON(), detail: this.#detail }; }
}

export class PerformanceMeasure extends PerformanceEntry {
  #detail: unknown;

  constructor(given: object, name: string, startTime: number, duration: number, detail: unknown) {
    super(given, name, "measure", startTime, duration);
    this.#detail = detail;
  }

  get detail(): unknown { return this.#detail; }
  override toJSON(): object { return { ...super.toJSON(), detail: this.#detail }; }
}

interface MeasureOptions {
  detail?: unknown;
  start?: string | number;
  end?: string | number;
  duration?: number;
}

// Beyond the bound the oldest go: a worker that marks each request must not grow for ever.
const entryLimit = 10_000;

export class Performance extends EventTarget {
  #entries: PerformanceEntry[] | undefined;

  constructor() {
    if (secret === undefined) throw new TypeError("Illegal constructor");
    super();
  }

  get timeOrigin(): number { return (this.#entries, 0); }
  now(): number { return (this.#entries, host.now()); }

  mark(name: string, options?: MarkOptions): PerformanceMark {
    requireArguments(arguments.length, 1, "Failed to execute 'mark' on 'Performance'");
    return this.#add(new PerformanceMark(name, options));
  }

  measure(name: string, start?: string | MeasureOptions, end?: string): PerformanceMeasure {
    requireArguments(arguments.length, 1, "Failed to execute 'measure' on 'Performance'");
    const label = `${name}`;
    if (typeof start !== "object" || start === null) {
      const from = start === undefined || start === null ? 0 : this.#time(`${start}`);
      const to = end === undefined ? host.now() : this.#time(`${end}`);
      return this.#add(new PerformanceMeasure(key, label, from, to - from, null));
    }
    const { detail, duration, end: last, start: first } = start;
    if (detail === undefined && duration === undefined && last === undefined && first === undefined) return this.measure(label);
    if (end !== undefined) throw new TypeError("Failed to execute 'measure' on 'Performance': end mark given twice.");
    if (first === undefined && last === undefined) throw new TypeError("Failed to execute 'measure' on 'Performance': start or end is required.");
    if (first !== undefined && last !== undefined && duration !== undefined) {
      throw new TypeError("Failed to execute 'measure' on 'Performance': start, end and duration exclude each other.");
    }
    const to = last !== undefined ? this.#time(last) : duration !== undefined && first !== undefined ? this.#time(first) + Number(duration) : host.now();
    const from = first !== undefined ? this.#time(first) : duration !== undefined ? to - Number(duration) : 0;
    return this.#add(new PerformanceMeasure(key, label, from, to - from, detail === undefined ? null : structuredClone(detail)));
  }

  #time(mark: string | number): number {
    if (typeof mark === "number") {
      if (!(mark >= 0 && mark < Infinity)) throw new TypeError(`'${mark}' is not a valid time.`);
      return mark;
    }
    const name = `${mark}`;
    const entry = this.#entries?.findLast((e) => e.name === name && e.entryType === "mark");
    if (entry === undefined) throw new DOMException(`The mark '${name}' does not exist.`, "SyntaxError");
    return entry.startTime;
  }

  #add<T extends PerformanceEntry>(entry: T): T {
    const entries = (this.#entries ??= []);
    if (entries.length >= entryLimit) entries.shift();
    entries.push(entry);
    if (observers !== undefined) for (const observer of observers) notify(observer, entry);
    return entry;
  }

  #select(test: (e: PerformanceEntry) => boolean): PerformanceEntry[] {
    return (this.#entries?.filter(test) ?? []).sort((a, b) => a.startTime - b.startTime);
  }

  getEntries(): PerformanceEntry[] {
    return this.#select(() => true);
  }

  getEntriesByName(name: string, type?: string): PerformanceEntry[] {
    requireArguments(arguments.length, 1, "Failed to execute 'getEntriesByName' on 'Performance'");
    return this.#select((e) => e.name === `${name}` && (type === undefined || e.entryType === `${type}`));
  }

  getEntriesByType(type: string): PerformanceEntry[] {
    requireArguments(arguments.length, 1, "Failed to execute 'getEntriesByType' on 'Performance'");
    return this.#select((e) => e.entryType === `${type}`);
  }

  #clear(type: string, name: string | undefined): void {
    this.#entries = this.#entries?.filter((e) => e.entryType !== type || (name !== undefined && e.name !== `${name}`));
  }

  clearMarks(name?: string): void { this.#clear("mark", name); }
  clearMeasures(name?: string): void { this.#clear("measure", name); }
  clearResourceTimings(): void { this.#clear("resource", undefined); }
  setResourceTimingBufferSize(_size: number): void {}

  toJSON(): object {
    return { timeOrigin: this.timeOrigin };
  }
}

// --- observers -----------------------------------------------------------------------------------------------------------

const entryTypes: readonly string[] = Object.freeze(["mark", "measure"]);

/** Observers that observe something. */
let observers: Set<PerformanceObserver> | undefined;
let notify: (observer: PerformanceObserver, entry: PerformanceEntry) => void;

export class PerformanceObserverEntryList {
  #entries: PerformanceEntry[];

  constructor(given: object, entries: PerformanceEntry[]) {
    if (given !== key) throw new TypeError("Illegal constructor");
    this.#entries = [...entries].sort((a, b) => a.startTime - b.startTime);
  }

  getEntries(): PerformanceEntry[] {
    return [...this.#entries];
  }

  getEntriesByName(name: string, type?: string): PerformanceEntry[] {
    requireArguments((this.#entries, arguments.length), 1, "Failed to execute 'getEntriesByName' on 'PerformanceObserverEntryList'");
    return this.#entries.filter((e) => e.name === `${name}` && (type === undefined || e.entryType === `${type}`));
  }

  getEntriesByType(type: string): PerformanceEntry[] {
    requireArguments((this.#entries, arguments.length), 1, "Failed to execute 'getEntriesByType' on 'PerformanceObserverEntryList'");
    return this.#entries.filter((e) => e.entryType === `${type}`);
  }
}

interface ObserveOptions {
  type?: string;
  entryTypes?: Iterable<string>;
  buffered?: boolean;
}

export class PerformanceObserver {
  #callback: (list: PerformanceObserverEntryList, observer: PerformanceObserver) => unknown;
  #types: string[] = [];
  #kind: "one" | "several" | undefined;
  #queue: PerformanceEntry[] = [];
  #queued = false;

  constructor(callback: (list: PerformanceObserverEntryList, observer: PerformanceObserver) => unknown) {
    if (typeof callback !== "function") throw new TypeError("Failed to construct 'PerformanceObserver': constructor parameter 1 is not of type 'Function'.");
    this.#callback = callback;
  }

  static get supportedEntryTypes(): readonly string[] {
    return entryTypes;
  }

  /** Several types at once, instead of what was observed; or one more by `type`. Unknown types are passed over. */
  observe(options: ObserveOptions = {}): void {
    const { buffered, entryTypes: several, type } = (this.#types, options);
    if ((several === undefined) === (type === undefined)) throw new TypeError("Failed to execute 'observe' on 'PerformanceObserver': either 'entryTypes' or 'type' is required.");
    if (several !== undefined && buffered !== undefined) throw new TypeError("Failed to execute 'observe' on 'PerformanceObserver': 'buffered' goes with 'type' only.");
    const kind = several === undefined ? "one" : "several";
    if (this.#kind !== undefined && this.#kind !== kind) {
      throw new DOMException("This PerformanceObserver has observed by the other of 'entryTypes' and 'type'.", "InvalidModificationError");
    }
    this.#kind = kind;
    const known = [...(several ?? [type!])].map((t) => `${t}`).filter((t) => entryTypes.includes(t));
    if (known.length === 0) return;
    this.#types = kind === "several" ? known : [...new Set([...this.#types, ...known])];
    (observers ??= new Set()).add(this);
    if (buffered && type !== undefined) for (const entry of performance.getEntriesByType(type)) notify(this, entry);
  }

  disconnect(): void {
    this.#types = [];
    this.#queue = [];
    this.#kind = undefined;
    observers?.delete(this);
  }

  takeRecords(): PerformanceEntry[] {
    const taken = this.#queue;
    this.#queue = [];
    return taken;
  }

  static {
    notify = (observer, entry) => {
      if (!observer.#types.includes(entry.entryType)) return;
      if (observer.#queue.length >= entryLimit) observer.#queue.shift();
      observer.#queue.push(entry);
      if (observer.#queued) return;
      observer.#queued = true;
      setTimeout(() => {
        observer.#queued = false;
        const entries = observer.takeRecords();
        if (entries.length > 0) Reflect.apply(observer.#callback, observer, [new PerformanceObserverEntryList(key, entries), observer]);
      }, 0);
    };
  }
}

defineInterface(PerformanceObserver, "PerformanceObserver");
defineInterface(PerformanceObserverEntryList, "PerformanceObserverEntryList");
defineInterface(PerformanceEntry, "PerformanceEntry");
defineInterface(PerformanceMark, "PerformanceMark");
defineInterface(PerformanceMeasure, "PerformanceMeasure");
defineInterface(Performance, "Performance");

const performance = new Performance();
secret = undefined;

export const globals = {
  Performance, PerformanceEntry, PerformanceMark, PerformanceMeasure, PerformanceObserver, PerformanceObserverEntryList, performance,
};
