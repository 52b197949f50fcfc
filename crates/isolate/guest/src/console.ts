/**
 * The `console` namespace: formats its arguments as Node and workerd do and hands each message to the host as one `log` call. Driven by
 * user code; the host adds time and isolate. It keeps its few pieces of state (groups, counters, timers) only once they are used.
 */
import { host } from "./host";
import { errorText, format, formatWithOptions, inspect, type InspectOptions } from "./inspect";
import { state } from "./state";
import { callNow, traced } from "./tail";

export { errorText, format, formatWithOptions, inspect, type InspectOptions };

type Level = "log" | "info" | "warn" | "error" | "debug";

const textLimit = 128 * 1024;

/** `args` are those of the five plain methods: tails get them as data. */
function print(level: Level, message: string, args?: unknown[]): void {
  let text = message;
  const { indentation } = state;
  if (indentation !== "") text = indentation + text.replaceAll("\n", `\n${indentation}`);
  if (text.length > textLimit) text = `${text.slice(0, textLimit)}... ${text.length - textLimit} more characters`;
  host.call("log", level, text, state.tailed && args !== undefined ? traced(args) : null, callNow());
}

function label(given: unknown): string {
  return given === undefined ? "default" : `${given as string}`;
}

function elapsed(since: number): string {
  const ms = host.now() - since;
  if (ms >= 3_600_000) {
    const minutes = Math.floor((ms % 3_600_000) / 60_000);
    const seconds = Math.floor((ms % 60_000) / 1000);
    return `${Math.floor(ms / 3_600_000)}:${`${minutes}`.padStart(2, "0")}:${`${seconds}`.padStart(2, "0")} (h:mm:ss)`;
  }
  if (ms >= 60_000) {
    const seconds = ((ms % 60_000) / 1000).toFixed(3);
    return `${Math.floor(ms / 60_000)}:${seconds.padStart(6, "0")} (m:ss.mmm)`;
  }
  if (ms >= 1000) return `${(ms / 1000).toFixed(3)}s`;
  return ms === 0 ? "0ms" : `${Number(ms.toFixed(3))}ms`;
}

function timeMessage(name: string, where: string, rest: unknown[]): boolean {
  const since = state.timers?.get(name);
  if (since === undefined) {
    print("warn", `Warning: No such label '${name}' for console.${where}()`);
    return false;
  }
  print("log", rest.length === 0 ? `${name}: ${elapsed(since)}` : `${name}: ${elapsed(since)} ${format(...rest)}`);
  return true;
}

function callerStack(): string {
  const stack = (new Error().stack ?? "").split("\n").filter((line) => /^\s*at /.test(line));
  return stack.slice(2).join("\n").trimEnd();
}

export const console = {
  debug(...args: unknown[]): void {
    print("debug", format(...args), args);
  },
  error(...args: unknown[]): void {
    print("error", format(...args), args);
  },
  info(...args: unknown[]): void {
    print("info", format(...args), args);
  },
  log(...args: unknown[]): void {
    print("log", format(...args), args);
  },
  warn(...args: unknown[]): void {
    print("warn", format(...args), args);
  },
  dir(value?: unknown, options?: InspectOptions): void {
    print("log", inspect(value, { customInspect: false, ...options }));
  },
  dirxml(...args: unknown[]): void {
    print("log", format(...args));
  },
  table(data?: unknown, columns?: unknown): void {
    if (columns !== undefined && !Array.isArray(columns)) throw new TypeError('The "properties" argument must be an instance of Array.');
    print("log", table(data, columns as unknown[] | undefined));
  },
  trace(...args: unknown[]): void {
    const message = args.length === 0 ? "Trace" : `Trace: ${format(...args)}`;
    const stack = callerStack();
    print("error", stack === "" ? message : `${message}\n${stack}`);
  },
  group(...args: unknown[]): void {
    if (args.length > 0) print("log", format(...args));
    if (state.indentation.length < 1000) state.indentation += "  ";
  },
  groupCollapsed(...args: unknown[]): void {
    console.group(...args);
  },
  groupEnd(): void {
    state.indentation = state.indentation.slice(2);
  },
  clear(): void {
    state.indentation = "";
  },
  count(name?: unknown): void {
    const key = label(name);
    const n = (state.counts?.get(key) ?? 0) + 1;
    (state.counts ??= new Map()).set(key, n);
    print("log", `${key}: ${n}`);
  },
  countReset(name?: unknown): void {
    const key = label(name);
    if (!state.counts?.delete(key)) print("warn", `Warning: Count for '${key}' does not exist`);
  },
  assert(condition?: unknown, ...args: unknown[]): void {
    if (condition) return;
    if (typeof args[0] === "string") args[0] = `Assertion failed: ${args[0]}`;
    else args.unshift("Assertion failed");
    print("warn", format(...args));
  },
  profile(): void {},
  profileEnd(): void {},
  time(name?: unknown): void {
    const key = label(name);
    if (state.timers?.has(key)) return print("warn", `Warning: Label '${key}' already exists for console.time()`);
    (state.timers ??= new Map()).set(key, host.now());
  },
  timeLog(name?: unknown, ...rest: unknown[]): void {
    timeMessage(label(name), "timeLog", rest);
  },
  timeEnd(name?: unknown): void {
    const key = label(name);
    if (timeMessage(key, "timeEnd", [])) state.timers!.delete(key);
  },
  timeStamp(): void {},
};

Object.defineProperty(console, Symbol.toStringTag, { value: "console", configurable: true });

// --- console.table -------------------------------------------------------------------------------------------------------

function cellText(value: unknown): string {
  const deep = typeof value === "object" && value !== null && Object.keys(value).length > 2;
  return inspect(value, { maxArrayLength: 3, depth: deep ? -1 : 0, breakLength: Infinity });
}

function entriesOf(data: object): [string, unknown[], unknown[]] {
  if (data instanceof Map) return ["(iteration index)", [...data.keys()].map((_, i) => i), [...data].map(([k, v]) => ({ Key: k, Values: v }))];
  if (data instanceof Set) return ["(iteration index)", [...data].map((_, i) => i), [...data]];
  return ["(index)", Object.keys(data), Object.values(data)];
}

function table(data: unknown, columns: unknown[] | undefined): string {
  if (typeof data !== "object" || data === null) return format(data);
  const [corner, indexes, rows] = entriesOf(data);
  const names: string[] = columns === undefined ? [] : columns.map((c) => `${c as string}`);
  let hasValues = false;
  for (const row of rows) {
    if (typeof row !== "object" && typeof row !== "function" || row === null) hasValues = true;
    else if (columns === undefined) for (const key of Object.keys(row)) if (!names.includes(key) && names.length < 100) names.push(key);
  }
  const header = [corner, ...names, ...(hasValues ? ["Values"] : [])];
  const body = rows.map((row, i) => {
    const primitive = (typeof row !== "object" && typeof row !== "function") || row === null;
    const cells = names.map((name) => (!primitive && Object.hasOwn(row as object, name) ? cellText((row as Record<string, unknown>)[name]) : ""));
    return [`${indexes[i] as string}`, ...cells, ...(hasValues ? [primitive ? cellText(row) : ""] : [])];
  });
  return drawTable(header, body);
}

function drawTable(header: string[], body: string[][]): string {
  const widths = header.map((h, c) => body.reduce((w, row) => Math.max(w, row[c]!.length), h.length) + 2);
  const line = (cells: string[]): string => `│${cells.map((cell, c) => ` ${cell}${" ".repeat(widths[c]! - cell.length - 1)}`).join("│")}│`;
  const rule = (left: string, middle: string, right: string): string => left + widths.map((w) => "─".repeat(w)).join(middle) + right;
  return [rule("┌", "┬", "┐"), line(header), rule("├", "┼", "┤"), ...body.map(line), rule("└", "┴", "┘")].join("\n");
}

export const globals = { console };
