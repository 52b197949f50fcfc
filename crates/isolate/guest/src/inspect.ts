/**
 * Formats any value as text in the manner of Node's `util.inspect` and `util.format`. Used by the console and by `node:util`. It
 * never runs a getter or a proxy trap of the value, and its output is bounded. (Custom inspectors are called: users ask for that.)
 */
import { host } from "./host";
import { attributesOf } from "./webidl";
import { brandOf } from "./brands";
import { nativeStack } from "./error_stack";

export interface InspectOptions {
  showHidden?: boolean;
  depth?: number | null;
  colors?: boolean;
  customInspect?: boolean;
  showProxy?: boolean;
  maxArrayLength?: number | null;
  maxStringLength?: number | null;
  breakLength?: number;
  compact?: boolean | number;
  sorted?: boolean | ((a: string, b: string) => number);
  getters?: boolean | "get" | "set";
  numericSeparator?: boolean;
}

type Stylize = (text: string, style: string) => string;

interface Context extends Required<InspectOptions> {
  depth: number;
  maxArrayLength: number;
  maxStringLength: number;
  stylize: Stylize;
  seen: object[];
  circular: Map<object, number> | undefined;
  indentation: number;
  currentDepth: number;
  /** Characters that may still be produced; when spent, lists end early. */
  budget: number;
}

const custom = Symbol.for("nodejs.util.inspect.custom");
const outputLimit = 256 * 1024;
const identifier = /^[a-zA-Z_][a-zA-Z_0-9]*$/;
const typedArray = Object.getPrototypeOf(Uint8Array) as Function;
const typedArrayTag = Object.getOwnPropertyDescriptor(typedArray.prototype, Symbol.toStringTag)!.get!;
const getOwn = Object.getOwnPropertyDescriptor;
const getPrototype = Object.getPrototypeOf;
const propertyIsEnumerable = Object.prototype.propertyIsEnumerable;

const defaultOptions: Required<InspectOptions> = {
  showHidden: false,
  depth: 2,
  colors: false,
  customInspect: true,
  showProxy: false,
  maxArrayLength: 100,
  maxStringLength: 10000,
  breakLength: 80,
  compact: 3,
  sorted: false,
  getters: false,
  numericSeparator: false,
};

// --- colours -------------------------------------------------------------------------------------------------------------

const colors: Record<string, [number, number]> = Object.assign(Object.create(null), {
  reset: [0, 0], bold: [1, 22], dim: [2, 22], italic: [3, 23], underline: [4, 24], blink: [5, 25], inverse: [7, 27], hidden: [8, 28],
  strikethrough: [9, 29], doubleunderline: [21, 24], black: [30, 39], red: [31, 39], green: [32, 39], yellow: [33, 39], blue: [34, 39],
  magenta: [35, 39], cyan: [36, 39], white: [37, 39], bgBlack: [40, 49], bgRed: [41, 49], bgGreen: [42, 49], bgYellow: [43, 49],
  bgBlue: [44, 49], bgMagenta: [45, 49], bgCyan: [46, 49], bgWhite: [47, 49], framed: [51, 54], overlined: [53, 55], gray: [90, 39],
  grey: [90, 39], redBright: [91, 39], greenBright: [92, 39], yellowBright: [93, 39], blueBright: [94, 39], magentaBright: [95, 39],
  cyanBright: [96, 39], whiteBright: [97, 39],
});

const styles: Record<string, string> = Object.assign(Object.create(null), {
  special: "cyan", number: "yellow", bigint: "yellow", boolean: "yellow", undefined: "grey", null: "bold", string: "green",
  symbol: "green", date: "magenta", regexp: "red", module: "underline",
});

function withColor(text: string, style: string): string {
  const color = colors[styles[style] ?? ""];
  return color === undefined ? text : `\u001b[${color[0]}m${text}\u001b[${color[1]}m`;
}

const plain: Stylize = (text) => text;

/** Length as displayed: without escape sequences. */
function shownLength(text: string, colored: boolean): number {
  return colored ? text.replace(/\u001b\[\d\d?m/g, "").length : text.length;
}

// --- strings and other primitives ----------------------------------------------------------------------------------------

const escapes: Record<string, string> = { "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", "\\": "\\\\" };
const needsEscape = /[\x00-\x1f'\\\x7f-\x9f]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;
const needsEscapeAll = /[\x00-\x1f'\\\x7f-\x9f]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

function quote(text: string): string {
  if (!needsEscape.test(text)) return `'${text}'`;
  let mark = "'";
  if (text.includes("'")) {
    if (!text.includes('"')) mark = '"';
    else if (!text.includes("`") && !text.includes("${")) mark = "`";
  }
  const body = text.replace(needsEscapeAll, (c) => {
    if (c === "'") return mark === "'" ? "\\'" : c;
    const short = escapes[c];
    if (short !== undefined) return short;
    const code = c.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).toUpperCase().padStart(2, "0")}` : `\\u${code.toString(16)}`;
  });
  return mark + body + mark;
}

function grouped(digits: string): string {
  return digits.replace(/\B(?=(\d{3})+$)/g, "_");
}

function formatNumber(n: number, separate: boolean): string {
  if (Object.is(n, -0)) return "-0";
  const text = `${n}`;
  if (!separate || !Number.isFinite(n) || text.includes("e")) return text;
  const [integer = "", fraction] = text.split(".");
  const head = integer.startsWith("-") ? `-${grouped(integer.slice(1))}` : grouped(integer);
  return fraction === undefined ? head : `${head}.${fraction.replace(/(\d{3})(?=\d)/g, "$1_")}`;
}

function formatBigInt(n: bigint, separate: boolean): string {
  const text = `${n}`;
  if (!separate) return `${text}n`;
  return `${text.startsWith("-") ? `-${grouped(text.slice(1))}` : grouped(text)}n`;
}

function symbolText(s: symbol): string {
  return Symbol.prototype.toString.call(s);
}

function formatString(ctx: Context, value: string): string {
  let text = value;
  let trailer = "";
  if (text.length > ctx.maxStringLength) {
    const rest = text.length - ctx.maxStringLength;
    text = text.slice(0, ctx.maxStringLength);
    trailer = `... ${rest} more character${rest > 1 ? "s" : ""}`;
  }
  if (ctx.compact !== true && text.length > 16 && text.length > ctx.breakLength - ctx.indentation - 4 && text.includes("\n")) {
    const lines = text.split(/(?<=\n)/).map((line) => ctx.stylize(quote(line), "string"));
    return lines.join(` +\n${" ".repeat(ctx.indentation + 2)}`) + trailer;
  }
  return ctx.stylize(quote(text), "string") + trailer;
}

function formatPrimitive(ctx: Context, value: unknown): string {
  switch (typeof value) {
    case "string": return formatString(ctx, value);
    case "number": return ctx.stylize(formatNumber(value, ctx.numericSeparator), "number");
    case "bigint": return ctx.stylize(formatBigInt(value, ctx.numericSeparator), "bigint");
    case "boolean": return ctx.stylize(`${value}`, "boolean");
    case "undefined": return ctx.stylize("undefined", "undefined");
    case "symbol": return ctx.stylize(symbolText(value), "symbol");
    default: return ctx.stylize("null", "null");
  }
}

// --- reading without running the value's code ----------------------------------------------------------------------------

/** A property by data descriptors along the prototype chain; getters and proxies count as absent. */
function peek(value: object, key: PropertyKey): unknown {
  for (let o: object | null = value; o !== null; o = getPrototype(o)) {
    if (host.raw.getProxyDetails(o) !== undefined) return undefined;
    const d = getOwn(o, key);
    if (d !== undefined) return d.value;
  }
  return undefined;
}

/** The tag of `Object.prototype.toString`. Where it is a getter (a class's own, as a rule) it is asked, as Node does. */
function tagOf(value: object): unknown {
  for (let o: object | null = value; o !== null; o = getPrototype(o)) {
    if (host.raw.getProxyDetails(o) !== undefined) return undefined;
    const d = getOwn(o, Symbol.toStringTag);
    if (d === undefined) continue;
    try {
      return d.get === undefined ? d.value : (d.get.call(value) as unknown);
    } catch {
      return undefined;
    }
  }
  return undefined;
}

function chainIncludes(value: object, prototype: unknown): boolean {
  for (let o: object | null = value; o !== null; o = getPrototype(o)) {
    if (host.raw.getProxyDetails(o) !== undefined) return false;
    if (o === prototype) return true;
  }
  return false;
}

/** Name of the nearest constructor the value is an instance of; null when there is none. */
function constructorName(value: object): string | null {
  for (let o: object | null = value; o !== null; o = getPrototype(o)) {
    if (host.raw.getProxyDetails(o) !== undefined) return null;
    const c = getOwn(o, "constructor")?.value as unknown;
    if (typeof c !== "function" || host.raw.getProxyDetails(c) !== undefined) continue;
    const name = getOwn(c, "name")?.value as unknown;
    if (typeof name !== "string" || name === "") continue;
    const prototype = getOwn(c, "prototype")?.value as unknown;
    if (chainIncludes(value, prototype)) return name;
  }
  return null;
}

/** `Constructor <tag> (fallback)`, with the blank that separates it from the brace. */
function prefix(constructor: string | null, tag: string, fallback: string, size = ""): string {
  if (constructor === null) {
    const shown = tag !== "" && fallback !== tag ? ` [${tag}]` : "";
    return `[${fallback}${size}: null prototype]${shown} `;
  }
  return tag !== "" && constructor !== tag ? `${constructor}${size} [${tag}] ` : `${constructor}${size} `;
}

function ownKeys(value: object, showHidden: boolean): PropertyKey[] {
  if (showHidden) return Reflect.ownKeys(value);
  const keys: PropertyKey[] = Object.keys(value);
  for (const s of Object.getOwnPropertySymbols(value)) if (propertyIsEnumerable.call(value, s)) keys.push(s);
  return keys;
}

function isIndex(key: PropertyKey): boolean {
  return typeof key === "string" && /^(0|[1-9]\d{0,9})$/.test(key) && Number(key) < 4294967295;
}

// --- values --------------------------------------------------------------------------------------------------------------

function formatValue(ctx: Context, given: unknown, depth: number, fromCustom = false): string {
  if ((typeof given !== "object" && typeof given !== "function") || given === null) {
    const text = formatPrimitive(ctx, given);
    ctx.budget -= text.length;
    return text;
  }
  let value: object = given;
  for (let details = host.raw.getProxyDetails(value); details !== undefined; details = host.raw.getProxyDetails(value)) {
    if (details[0] === null) return ctx.stylize("<Revoked Proxy>", "special");
    if (ctx.showProxy) return formatProxy(ctx, details, depth);
    value = details[0];
  }
  if (ctx.customInspect && !fromCustom) {
    const inspector = peek(value, custom);
    if (typeof inspector === "function" && inspector !== inspect) {
      const text = formatCustom(ctx, given, inspector, depth);
      if (text !== undefined) return text;
    }
  }
  if (ctx.seen.includes(value)) {
    const circular = (ctx.circular ??= new Map());
    let index = circular.get(value);
    if (index === undefined) circular.set(value, (index = circular.size + 1));
    return ctx.stylize(`[Circular *${index}]`, "special");
  }
  return formatObject(ctx, value, depth);
}

function formatProxy(ctx: Context, details: [object, object], depth: number): string {
  if (depth > ctx.depth) return ctx.stylize("Proxy [Array]", "special");
  ctx.indentation += 2;
  const output = [formatValue(ctx, details[0], depth + 1), formatValue(ctx, details[1], depth + 1)];
  ctx.indentation -= 2;
  return reduceToLine(ctx, output, "", ["Proxy [", "]"], true, depth);
}

function formatCustom(ctx: Context, value: object, inspector: Function, depth: number): string | undefined {
  const options: InspectOptions & { stylize: Stylize } = { ...publicOptions(ctx), stylize: ctx.stylize };
  const result: unknown = inspector.call(value, ctx.depth - depth, options, inspect);
  if (result === value) return undefined;
  if (typeof result !== "object" && typeof result !== "function") {
    const text = `${String(result)}`.slice(0, Math.max(0, ctx.budget));
    ctx.budget -= text.length;
    return text.replaceAll("\n", `\n${" ".repeat(ctx.indentation)}`);
  }
  return formatValue(ctx, result, depth);
}

function publicOptions(ctx: Context): InspectOptions {
  const { stylize, seen, circular, indentation, currentDepth, budget, ...options } = ctx;
  return options;
}

/** What a kind of object is shown as: text before the braces, the braces, and its special entries. */
interface Shape {
  base: string;
  open: string;
  close: string;
  list: boolean;
  keys: PropertyKey[];
  entries?: (ctx: Context, depth: number) => string[];
  /** No braces when there is nothing to show but `base`. */
  bare?: boolean;
}

function formatObject(ctx: Context, value: object, depth: number): string {
  const constructor = constructorName(value);
  let tag = tagOf(value);
  // An own enumerable tag is listed among the properties.
  if (typeof tag !== "string" || tag === constructor || propertyIsEnumerable.call(value, Symbol.toStringTag)) tag = "";
  const shape = shapeOf(ctx, value, constructor, tag as string, depth);
  if (shape.bare && shape.keys.length === 0 && shape.entries === undefined) {
    ctx.budget -= shape.base.length;
    return shape.base;
  }
  if (depth > ctx.depth) {
    const name = prefix(constructor, tag as string, Array.isArray(value) ? "Array" : "Object").slice(0, -1);
    return ctx.stylize(constructor === null ? `[${name}]` : `[${name}]`, "special");
  }
  return formatEntries(ctx, value, shape, depth);
}

function formatEntries(ctx: Context, value: object, shape: Shape, depth: number): string {
  ctx.seen.push(value);
  ctx.currentDepth = depth;
  let output: string[];
  const indentation = ctx.indentation;
  try {
    output = shape.entries === undefined ? [] : shape.entries(ctx, depth + 1);
    for (let i = 0; i < shape.keys.length; i++) {
      if (ctx.budget <= 0) {
        output.push(`... ${shape.keys.length - i} more items`);
        break;
      }
      output.push(formatProperty(ctx, value, depth + 1, shape.keys[i]!, shape.list));
    }
  } catch (e) {
    if (!(e instanceof RangeError || (e as Error)?.name === "InternalError")) throw e;
    // The engine's stack is used up by a very deep value: show that, as Node does.
    ctx.indentation = indentation;
    output = [ctx.stylize("[Object: Inspection interrupted prematurely. Maximum call stack size exceeded.]", "special")];
  }
  ctx.seen.pop();
  let { base, open } = shape;
  const reference = ctx.circular?.get(value);
  if (reference !== undefined) {
    const text = ctx.stylize(`<ref *${reference}>`, "special");
    if (ctx.compact !== true) base = base === "" ? text : `${text} ${base}`;
    else open = `${text} ${open}`;
  }
  if (ctx.sorted) sortOutput(ctx, output, shape);
  const text = reduceToLine(ctx, output, base, [open, shape.close], shape.list, depth);
  ctx.budget -= open.length + 4;
  return text;
}

function sortOutput(ctx: Context, output: string[], shape: Shape): void {
  const compare = ctx.sorted === true ? undefined : (ctx.sorted as (a: string, b: string) => number);
  if (!shape.list) output.sort(compare);
  else if (shape.keys.length > 1) {
    const from = output.length - shape.keys.length;
    output.splice(from, shape.keys.length, ...output.slice(from).sort(compare));
  }
}

function shapeOf(ctx: Context, value: object, constructor: string | null, tag: string, depth: number): Shape {
  const braces = (head: string): Shape => ({ base: "", open: `${head}{`, close: "}", list: false, keys: ownKeys(value, ctx.showHidden) });
  if (Array.isArray(value)) return arrayShape(ctx, value, constructor, tag);
  if (typeof value === "function") return functionShape(ctx, value, constructor, tag);
  const brand = brandOf(value);
  switch (brand) {
    case undefined: break;
    case "Error":
    case "DOMException": return errorShape(ctx, value as Error, constructor, tag);
    case "Set": {
      const set = value as Set<unknown>;
      const shape = braces(prefix(constructor, tag, "Set", `(${setSize.call(set)})`));
      return { ...shape, entries: (c, d) => setEntries(c, set, d), bare: false };
    }
    case "Map": {
      const map = value as Map<unknown, unknown>;
      return { ...braces(prefix(constructor, tag, "Map", `(${mapSize.call(map)})`)), entries: (c, d) => mapEntries(c, map, d) };
    }
    case "Date": {
      const time = Date.prototype.getTime.call(value);
      let base = Number.isNaN(time) ? "Invalid Date" : Date.prototype.toISOString.call(value);
      const head = prefix(constructor, tag, "Date");
      if (head !== "Date ") base = `${head}${base}`;
      return { ...braces(""), base: ctx.stylize(base, "date"), bare: true };
    }
    case "RegExp": {
      let base = RegExp.prototype.toString.call(value);
      const head = prefix(constructor, tag, "RegExp");
      if (head !== "RegExp ") base = `${head}${base}`;
      return { ...braces(""), base: ctx.stylize(base, "regexp"), bare: true };
    }
    case "Promise": return { ...braces(prefix(constructor, tag, "Promise")), entries: (c, d) => promiseEntries(c, value as Promise<unknown>, d) };
    case "WeakSet":
    case "WeakMap": return { ...braces(prefix(constructor, tag, brand)), entries: (c) => [c.stylize("<items unknown>", "special")] };
    case "WeakRef": return { ...braces(prefix(constructor, tag, brand)), entries: (c, d) => [formatValue(c, WeakRef.prototype.deref.call(value), d)] };
    case "ArrayBuffer":
    case "SharedArrayBuffer":
      return { ...braces(prefix(constructor, tag, brand)), entries: (c) => bufferEntries(c, value as ArrayBuffer) };
    case "DataView": {
      const view = value as DataView;
      const shown = ["byteLength", "byteOffset", "buffer"] as const;
      return { ...braces(prefix(constructor, tag, brand)), entries: (c, d) => shown.map((k) => `${k}: ${nested(c, view[k], d)}`) };
    }
    case "TypedArray": return typedArrayShape(ctx, value as Uint8Array, constructor, tag);
    case "Number":
    case "Boolean":
    case "String":
    case "BigInt":
    case "Symbol": return boxedShape(ctx, value, brand, constructor, tag);
    case "Arguments": return braces("[Arguments] ");
    case "Module": return { ...braces(`[${tag || "Module"}: null prototype] `), keys: ownKeys(value, false) };
    case "Generator": return braces(prefix(constructor === "" ? "Object" : constructor ?? "Object", "Generator", "Generator"));
  }
  const shown = iteratorShape(ctx, value, tag) ?? interfaceShape(ctx, value, constructor);
  if (shown !== undefined) return shown;
  const shape = braces("");
  if (constructor !== "Object" || tag !== "") shape.open = `${prefix(constructor, tag, "Object")}{`;
  if (shape.keys.length === 0) return { ...shape, base: `${shape.open}}`, bare: true };
  return shape;
}

const setSize = getOwn(Set.prototype, "size")!.get!;
const mapSize = getOwn(Map.prototype, "size")!.get!;

/** An iterator of a Map or Set: what it will still give, without taking it. */
function iteratorShape(ctx: Context, value: object, tag: string): Shape | undefined {
  if (tag !== "Map Iterator" && tag !== "Set Iterator") return undefined;
  const preview = host.raw.previewIterator(value, ctx.maxArrayLength);
  if (preview === undefined) return undefined;
  const [items, left, pairs] = preview;
  const entries = (c: Context, depth: number): string[] => {
    const output: string[] = [];
    for (let i = 0; i < items.length; i++) {
      output.push(pairs ? `[ ${nested(c, items[i], depth)}, ${nested(c, items[++i], depth)} ]` : nested(c, items[i], depth));
    }
    if (left > 0) output.push(more(left));
    return output;
  };
  const open = pairs ? `[${tag.slice(0, 3)} Entries] {` : `[${tag}] {`;
  return { base: "", open, close: "}", list: false, keys: ownKeys(value, ctx.showHidden), entries };
}

/** An instance of a Web interface of ours: its attributes are on the prototype and say what it is. */
function interfaceShape(ctx: Context, value: object, constructor: string | null): Shape | undefined {
  const getters: [string, () => unknown][] = [];
  let found = false;
  for (let o: object | null = value; o !== null; o = getPrototype(o)) {
    if (host.raw.getProxyDetails(o) !== undefined) break;
    const names = attributesOf(o);
    if (names === undefined) continue;
    found = true;
    for (const name of names) {
      const get = getOwn(o, name)?.get;
      if (get !== undefined) getters.push([name, get]);
    }
  }
  if (!found) return undefined;
  const list = entriesOf(value);
  if (list !== undefined) return mapLike(ctx, value, constructor, list);
  const entries = (c: Context, d: number): string[] => {
    const output: string[] = [];
    for (const [name, get] of getters) {
      try {
        output.push(`${name}: ${nested(c, get.call(value), d)}`);
      } catch {
        // The prototype itself, or an attribute that throws in this state: nothing to show.
      }
    }
    return output;
  };
  const shape: Shape = { base: "", open: `${constructor ?? "Object"} {`, close: "}", list: false, keys: ownKeys(value, ctx.showHidden) };
  return getters.length === 0 ? shape.keys.length === 0 ? { ...shape, base: `${shape.open}}`, bare: true } : shape : { ...shape, entries };
}

/** The pairs of an interface that is a list of them: Headers, URLSearchParams, FormData. */
function entriesOf(value: object): [unknown, unknown][] | undefined {
  for (let o = getPrototype(value) as object | null; o !== null; o = getPrototype(o) as object | null) {
    if (host.raw.getProxyDetails(o) !== undefined) return undefined;
    const entries = getOwn(o, "entries")?.value as unknown;
    if (typeof entries !== "function" || attributesOf(o) === undefined) continue;
    try {
      return [...(entries.call(value) as Iterable<[unknown, unknown]>)];
    } catch {
      return undefined;
    }
  }
  return undefined;
}

function mapLike(ctx: Context, value: object, constructor: string | null, list: [unknown, unknown][]): Shape {
  const open = `${prefix(constructor, "", "Object", `(${list.length})`)}{`;
  const entries = (c: Context, depth: number): string[] => {
    const output = list.slice(0, c.maxArrayLength).map(([k, v]) => `${nested(c, k, depth)} => ${nested(c, v, depth)}`);
    if (list.length > output.length) output.push(more(list.length - output.length));
    return output;
  };
  return { base: "", open, close: "}", list: false, keys: ownKeys(value, ctx.showHidden), entries };
}

function nested(ctx: Context, value: unknown, depth: number): string {
  ctx.indentation += 2;
  const text = formatValue(ctx, value, depth);
  ctx.indentation -= 2;
  return text;
}

function arrayShape(ctx: Context, value: unknown[], constructor: string | null, tag: string): Shape {
  const head = constructor !== "Array" || tag !== "" ? prefix(constructor, tag, "Array", `(${value.length})`) : "";
  const keys = ownKeys(value, ctx.showHidden).filter((k) => !isIndex(k));
  const shape: Shape = { base: "", open: `${head}[`, close: "]", list: true, keys };
  if (value.length === 0 && keys.length === 0) return { ...shape, base: `${shape.open}]`, bare: true };
  return { ...shape, entries: (c, d) => arrayEntries(c, value, d) };
}

function more(rest: number): string {
  return `... ${rest} more item${rest > 1 ? "s" : ""}`;
}

function arrayEntries(ctx: Context, value: unknown[], depth: number): string[] {
  const output: string[] = [];
  const length = value.length;
  let i = 0;
  while (i < length && output.length < ctx.maxArrayLength && ctx.budget > 0) {
    if (getOwn(value, i) !== undefined) {
      output.push(formatProperty(ctx, value, depth, `${i}`, true, true));
      i++;
      continue;
    }
    const holes = holesAt(value, i);
    output.push(ctx.stylize(`<${holes} empty item${holes > 1 ? "s" : ""}>`, "undefined"));
    i += holes;
  }
  if (i < length) output.push(more(length - i));
  return output;
}

/** How many elements are missing from `from` on; a huge sparse array is searched by its keys, not index by index. */
function holesAt(value: unknown[], from: number): number {
  for (let i = from; i < value.length && i < from + 1000; i++) if (getOwn(value, i) !== undefined) return i - from;
  for (const key of Object.keys(value)) if (isIndex(key) && Number(key) >= from) return Number(key) - from;
  return value.length - from;
}

function typedArrayShape(ctx: Context, value: Uint8Array, constructor: string | null, tag: string): Shape {
  const name = typedArrayTag.call(value) as string;
  const keys = ownKeys(value, ctx.showHidden).filter((k) => !isIndex(k));
  const shape: Shape = { base: "", open: `${prefix(constructor, tag, name, `(${value.length})`)}[`, close: "]", list: true, keys };
  if (value.length === 0 && keys.length === 0) return { ...shape, base: `${shape.open}]`, bare: true };
  const entries = (c: Context): string[] => {
    const output: string[] = [];
    const shown = Math.min(value.length, c.maxArrayLength);
    let i = 0;
    for (; i < shown && c.budget > 0; i++) {
      const text = formatPrimitive(c, value[i]);
      c.budget -= text.length;
      output.push(text);
    }
    if (i < value.length) output.push(more(value.length - i));
    return output;
  };
  return { ...shape, entries };
}

function setEntries(ctx: Context, value: Set<unknown>, depth: number): string[] {
  const output: string[] = [];
  let i = 0;
  for (const v of Set.prototype.values.call(value)) {
    if (i >= ctx.maxArrayLength || ctx.budget <= 0) {
      output.push(more(setSize.call(value) - i));
      break;
    }
    output.push(nested(ctx, v, depth));
    i++;
  }
  return output;
}

function mapEntries(ctx: Context, value: Map<unknown, unknown>, depth: number): string[] {
  const output: string[] = [];
  let i = 0;
  for (const [k, v] of Map.prototype.entries.call(value)) {
    if (i >= ctx.maxArrayLength || ctx.budget <= 0) {
      output.push(more(mapSize.call(value) - i));
      break;
    }
    output.push(`${nested(ctx, k, depth)} => ${nested(ctx, v, depth)}`);
    i++;
  }
  return output;
}

function promiseEntries(ctx: Context, value: Promise<unknown>, depth: number): string[] {
  const [state, result] = host.raw.promiseState(value);
  if (state === 0) return [ctx.stylize("<pending>", "special")];
  const text = nested(ctx, result, depth);
  return [state === 2 ? `${ctx.stylize("<rejected>", "special")} ${text}` : text];
}

function bufferEntries(ctx: Context, value: ArrayBuffer): string[] {
  if ((value as { detached?: boolean }).detached) return [ctx.stylize("(detached)", "special"), "byteLength: 0"];
  const length = value.byteLength;
  const shown = Math.min(length, Math.max(0, ctx.maxArrayLength));
  const bytes: string[] = [];
  for (const b of new Uint8Array(value, 0, shown)) bytes.push(b.toString(16).padStart(2, "0"));
  if (length > shown) bytes.push(`... ${length - shown} more byte${length - shown > 1 ? "s" : ""}`);
  return [
    `${ctx.stylize("[Uint8Contents]", "special")}: <${bytes.join(" ")}>`,
    `byteLength: ${ctx.stylize(`${length}`, "number")}`,
  ];
}

function boxedShape(ctx: Context, value: object, brand: string, constructor: string | null, tag: string): Shape {
  const primitive: unknown =
    brand === "Number" ? Number.prototype.valueOf.call(value)
    : brand === "Boolean" ? Boolean.prototype.valueOf.call(value)
    : brand === "String" ? String.prototype.valueOf.call(value)
    : brand === "BigInt" ? BigInt.prototype.valueOf.call(value)
    : Symbol.prototype.valueOf.call(value);
  let type = brand;
  if (brand !== constructor) type += constructor === null ? " (null prototype)" : ` (${constructor})`;
  const text = formatPrimitive({ ...ctx, stylize: plain, breakLength: Infinity }, primitive);
  const base = `[${type}: ${text}]${tag !== "" && tag !== constructor ? ` [${tag}]` : ""}`;
  const keys = ownKeys(value, ctx.showHidden).filter((k) => brand !== "String" || !isIndex(k));
  return { base: ctx.stylize(base, brand.toLowerCase()), open: "{", close: "}", list: false, keys, bare: true };
}

function functionShape(ctx: Context, value: Function, constructor: string | null, tag: string): Shape {
  const keys = ownKeys(value, ctx.showHidden);
  return { base: ctx.stylize(functionBase(value, constructor, tag), "special"), open: "{", close: "}", list: false, keys, bare: true };
}

function functionBase(value: Function, constructor: string | null, tag: string): string {
  const name = getOwn(value, "name")?.value as unknown;
  const shown = typeof name === "string" && name !== "" ? name : "";
  const source = Function.prototype.toString.call(value);
  if (source.startsWith("class") && source.endsWith("}")) {
    const parent = getPrototype(value) as unknown;
    const parentName = typeof parent === "function" ? (getOwn(parent, "name")?.value as unknown) : undefined;
    let base = `class ${shown === "" ? "(anonymous)" : shown}`;
    if (constructor !== "Function" && constructor !== null) base += ` [${constructor}]`;
    if (tag !== "" && constructor !== tag) base += ` [${tag}]`;
    if (constructor === null) base += " extends [null prototype]";
    else if (typeof parentName === "string" && parentName !== "") base += ` extends ${parentName}`;
    return `[${base}]`;
  }
  const kind = kindOfFunction(value);
  let base = `[${kind}${constructor === null ? " (null prototype)" : ""}${shown === "" ? " (anonymous)" : `: ${shown}`}]`;
  if (constructor !== kind && constructor !== null && constructor !== "Function") base += ` ${constructor}`;
  if (tag !== "" && constructor !== tag) base += ` [${tag}]`;
  return base;
}

const generatorPrototype = getPrototype(function* () {});
const asyncPrototype = getPrototype(async function () {});
const asyncGeneratorPrototype = getPrototype(async function* () {});

function kindOfFunction(value: Function): string {
  if (chainIncludes(value, asyncPrototype)) return "AsyncFunction";
  if (chainIncludes(value, generatorPrototype)) return "GeneratorFunction";
  if (chainIncludes(value, asyncGeneratorPrototype)) return "AsyncGeneratorFunction";
  return "Function";
}

// --- errors --------------------------------------------------------------------------------------------------------------

/** `name: message` and the frames, whatever form the engine's `stack` has. */
export function errorText(value: Error): string {
  const dom = brandOf(value) === "DOMException";
  const name = dom ? `DOMException [${domName.call(value) as string}]` : textOf(peek(value, "name"), "Error");
  const message = dom ? (domMessage.call(value) as string) : textOf(peek(value, "message"), "");
  const head = message === "" ? name : `${name}: ${message}`;
  const own = getOwn(value, "stack");
  const stack = textOf(own === undefined ? nativeStack(value) : own.value, "").trimEnd();
  if (stack === "") return head;
  if (/^\s*at /.test(stack)) return `${head}\n${stack}`;
  // The stack tells the name and message of the moment of creation.
  return dom ? head + stack.slice((stack + "\n").indexOf("\n")) : stack;
}

const domName = getOwn(DOMException.prototype, "name")!.get!;
const domMessage = getOwn(DOMException.prototype, "message")!.get!;

function textOf(v: unknown, fallback: string): string {
  return typeof v === "string" ? v : typeof v === "object" || typeof v === "function" || v === undefined ? fallback : String(v);
}

function errorShape(ctx: Context, value: Error, constructor: string | null, tag: string): Shape {
  const keys = ownKeys(value, ctx.showHidden).filter((k) => ctx.showHidden || !isShownInStack(value, k));
  for (const extra of ["cause", "errors", "error", "suppressed"]) {
    const d = getOwn(value, extra);
    if (d !== undefined && !d.enumerable && !keys.includes(extra)) keys.push(extra);
  }
  let base = errorText(value);
  const name = textOf(peek(value, "name"), "Error");
  const line = base.slice(0, `${base}\n`.indexOf("\n"));
  if (brandOf(value) === "DOMException") tag = "";
  else if (base.startsWith(name) && (constructor === null || !line.includes(constructor))) {
    base = `${constructor === null ? `[${name}: null prototype]` : `${constructor} [${name}]`}${base.slice(name.length)}`;
  }
  if (tag !== "" && tag !== constructor) base = base.replace(/^[^\n:]*/, (m) => `${m} [${tag}]`);
  if (!/\n\s*at /.test(base)) base = `[${base}]`;
  if (ctx.indentation !== 0) base = base.replaceAll("\n", `\n${" ".repeat(ctx.indentation)}`);
  return { base, open: "{", close: "}", list: false, keys, bare: true };
}

function isShownInStack(value: Error, key: PropertyKey): boolean {
  if (key !== "name" && key !== "message" && key !== "stack") return false;
  const v = getOwn(value, key)?.value as unknown;
  return typeof v === "string" && (key === "stack" || errorText(value).includes(v));
}

// --- properties ----------------------------------------------------------------------------------------------------------

function formatProperty(ctx: Context, value: object, depth: number, key: PropertyKey, list: boolean, element = false): string {
  const d = getOwn(value, key) ?? { value: undefined, enumerable: true };
  let text: string;
  if ("value" in d) text = nested(ctx, d.value, depth);
  else text = formatAccessor(ctx, value, d, depth);
  if (element) return text;
  const name = propertyName(ctx, key, d.enumerable === true);
  ctx.budget -= name.length + 2;
  return `${name}: ${text}`;
}

function formatAccessor(ctx: Context, value: object, d: PropertyDescriptor, depth: number): string {
  const label = d.get === undefined ? (d.set === undefined ? "undefined" : "Setter") : d.set === undefined ? "Getter" : "Getter/Setter";
  if (label === "undefined") return ctx.stylize(label, "undefined");
  const run = d.get !== undefined && (ctx.getters === true || ctx.getters === (d.set === undefined ? "get" : "set"));
  if (!run) return ctx.stylize(`[${label}]`, "special");
  try {
    const result: unknown = d.get!.call(value);
    const text = nested(ctx, result, depth);
    if (result === null || typeof result !== "object") return `${ctx.stylize(`[${label}:`, "special")} ${text}${ctx.stylize("]", "special")}`;
    return `${ctx.stylize(`[${label}]`, "special")} ${text}`;
  } catch (e) {
    return ctx.stylize(`[${label}: <Inspection threw (${textOf(peek(Object(e), "message"), "")})>]`, "special");
  }
}

function propertyName(ctx: Context, key: PropertyKey, enumerable: boolean): string {
  if (typeof key === "symbol") {
    const text = ctx.stylize(symbolText(key), "symbol");
    return enumerable ? `[${text}]` : `[${text}]`;
  }
  const name = String(key);
  if (name === "__proto__") return "['__proto__']";
  if (!enumerable) return `[${name}]`;
  return identifier.test(name) ? ctx.stylize(name, "name") : ctx.stylize(quote(name), "string");
}

// --- layout --------------------------------------------------------------------------------------------------------------

function reduceToLine(ctx: Context, given: string[], base: string, [open, close]: [string, string], list: boolean, depth: number): string {
  let output = given;
  const lead = base === "" ? "" : `${base} `;
  if (output.length === 0) return lead + open + close;
  if (ctx.compact === true) {
    if (fitsLine(ctx, output, 0, base)) return `${lead}${open} ${output.join(", ")} ${close}`;
    const newline = `\n${" ".repeat(ctx.indentation)}  `;
    const first = base === "" && open.length === 1 ? " " : `${base === "" ? "" : ` ${base}`}${newline}`;
    return `${open}${first}${output.join(`,${newline}`)} ${close}`;
  }
  if (typeof ctx.compact === "number" && ctx.compact >= 1) {
    const entries = output.length;
    if (list && entries > 6) output = inColumns(ctx, output);
    if (ctx.currentDepth - depth < ctx.compact && entries === output.length) {
      const start = output.length + ctx.indentation + open.length + base.length + 10;
      if (fitsLine(ctx, output, start, base)) {
        const joined = output.join(", ");
        if (!joined.includes("\n")) return `${lead}${open} ${joined} ${close}`;
      }
    }
  }
  const newline = `\n${" ".repeat(ctx.indentation)}`;
  return `${lead}${open}${newline}  ${output.join(`,${newline}  `)}${newline}${close}`;
}

function fitsLine(ctx: Context, output: string[], start: number, base: string): boolean {
  let total = output.length + start;
  if (total + output.length > ctx.breakLength) return false;
  for (const entry of output) {
    total += shownLength(entry, ctx.colors);
    if (total > ctx.breakLength) return false;
  }
  return base === "" || !base.includes("\n");
}

/** Puts many short entries into aligned columns, about 2.5 times as wide as high; numbers are aligned to the right. */
function inColumns(ctx: Context, output: string[]): string[] {
  const trailer = /^\.\.\. \d+ more item/.test(output[output.length - 1]!) ? 1 : 0;
  const count = output.length - trailer;
  const gap = 2;
  const lengths: number[] = [];
  let total = 0;
  let widest = 0;
  for (let i = 0; i < count; i++) {
    const length = shownLength(output[i]!, ctx.colors);
    lengths.push(length);
    total += length + gap;
    widest = Math.max(widest, length);
  }
  const cell = widest + gap;
  if (cell * 3 + ctx.indentation >= ctx.breakLength || (total / cell <= 5 && widest > 6)) return output;
  const bias = Math.sqrt(cell - total / output.length);
  const biased = Math.max(cell - 3 - bias, 1);
  const columns = Math.min(
    Math.round(Math.sqrt(2.5 * biased * count) / biased),
    Math.floor((ctx.breakLength - ctx.indentation) / cell),
    (ctx.compact as number) * 4,
    15,
  );
  if (columns <= 1) return output;
  const widths: number[] = [];
  for (let c = 0; c < columns; c++) {
    let width = 0;
    for (let i = c; i < count; i += columns) width = Math.max(width, lengths[i]!);
    widths.push(width + gap);
  }
  const numeric = output.slice(0, count).every((entry) => /^(\u001b\[\d\d?m)?-?[\d_.]+(e[+-]?\d+)?n?(\u001b\[\d\d?m)?$/.test(entry));
  const rows: string[] = [];
  for (let i = 0; i < count; i += columns) rows.push(row(output, lengths, widths, i, Math.min(i + columns, count), numeric));
  if (trailer === 1) rows.push(output[count]!);
  return rows;
}

function row(output: string[], lengths: number[], widths: number[], from: number, to: number, numeric: boolean): string {
  let text = "";
  for (let i = from; i < to; i++) {
    const last = i === to - 1;
    const cell = last ? output[i]! : `${output[i]!}, `;
    const width = widths[i - from]! - (last ? 2 : 0);
    const padding = " ".repeat(Math.max(0, width - lengths[i]! - (last ? 0 : 2)));
    text += numeric ? padding + cell : last ? cell : cell + padding;
  }
  return text;
}

// --- the API -------------------------------------------------------------------------------------------------------------

function contextFor(options: InspectOptions | undefined): Context {
  const o = { ...defaultOptions, ...options };
  return {
    ...o,
    depth: o.depth ?? Infinity,
    maxArrayLength: o.maxArrayLength ?? Infinity,
    maxStringLength: o.maxStringLength ?? Infinity,
    stylize: o.colors ? withColor : plain,
    seen: [],
    circular: undefined,
    indentation: 0,
    currentDepth: 0,
    budget: outputLimit,
  };
}

interface Inspect {
  (value: unknown, options?: InspectOptions | boolean, depth?: number | null, colors?: boolean): string;
  custom: symbol;
  defaultOptions: Required<InspectOptions>;
  colors: typeof colors;
  styles: typeof styles;
}

/** `util.inspect`. */
export const inspect = function inspect(value: unknown, options?: InspectOptions | boolean, depth?: number | null, color?: boolean): string {
  let chosen: InspectOptions | undefined;
  if (typeof options === "boolean") {
    chosen = { showHidden: options };
    if (depth !== undefined) chosen.depth = depth;
    if (color !== undefined) chosen.colors = color;
  } else if (options !== null && options !== undefined) {
    chosen = { ...options };
  }
  return bounded(formatValue(contextFor(chosen), value, 0));
} as Inspect;

inspect.custom = custom;
inspect.colors = colors;
inspect.styles = styles;
Object.defineProperty(inspect, "defaultOptions", {
  get: () => defaultOptions,
  set: (options: Partial<Required<InspectOptions>>) => {
    Object.assign(defaultOptions, options);
  },
  configurable: true,
  enumerable: true,
});

function bounded(text: string): string {
  return text.length > outputLimit * 2 ? `${text.slice(0, outputLimit * 2)}... ${text.length - outputLimit * 2} more characters` : text;
}

function formatS(arg: unknown, options: InspectOptions): string {
  if (typeof arg === "number") return formatNumber(arg, false);
  if (typeof arg === "bigint") return `${arg}n`;
  if (typeof arg !== "object" || arg === null) return typeof arg === "symbol" ? symbolText(arg) : String(arg);
  return ownToString(arg) ?? inspect(arg, { ...options, depth: 0, colors: false, compact: 3 });
}

/** `String(v)` when the user gave `v` or its class a `toString` (or is an Error or Date whose text is the better one). */
function ownToString(v: object): string | undefined {
  if (host.raw.getProxyDetails(v) !== undefined) return undefined;
  const to = peek(v, "toString");
  if (typeof to !== "function" || builtinToStrings.includes(to)) return undefined;
  return String(v);
}

const builtinToStrings: unknown[] = [Object, Function, Array, RegExp, Date, Error, Boolean, Number, String, Symbol, BigInt]
  .map((c) => getOwn(c.prototype, "toString")!.value as unknown);

/** `util.formatWithOptions`. */
export function formatWithOptions(options: InspectOptions, ...args: unknown[]): string {
  const first = args[0];
  let text = "";
  let next = 0;
  if (typeof first === "string") {
    if (args.length === 1) return first;
    [text, next] = substitute(first, args, options);
  }
  for (; next < args.length; next++) {
    if (next > 0) text += " ";
    const arg = args[next];
    text += typeof arg === "string" ? arg : inspect(arg, { compact: 3, depth: 2, ...options });
    if (text.length > outputLimit * 2) return bounded(text);
  }
  return text;
}

function substitute(pattern: string, args: unknown[], options: InspectOptions): [string, number] {
  let text = "";
  let last = 0;
  let next = 1;
  for (let i = pattern.indexOf("%"); i >= 0 && i < pattern.length - 1; i = pattern.indexOf("%", i)) {
    const directive = pattern[i + 1]!;
    if (directive === "%") {
      text += pattern.slice(last, i + 1);
      last = i += 2;
      continue;
    }
    if (next >= args.length || !"sdifjoOc".includes(directive)) {
      i += 1;
      continue;
    }
    text += pattern.slice(last, i) + formatDirective(directive, args[next++], options);
    last = i += 2;
  }
  return [text + pattern.slice(last), next];
}

function formatDirective(directive: string, arg: unknown, options: InspectOptions): string {
  switch (directive) {
    case "s": return formatS(arg, options);
    case "d":
      if (typeof arg === "bigint") return `${arg}n`;
      return typeof arg === "symbol" || typeof arg === "object" && arg !== null && !(brandOf(arg) !== undefined) ? "NaN" : formatNumber(Number(arg), false);
    case "i":
      if (typeof arg === "bigint") return `${arg}n`;
      return typeof arg === "symbol" || (typeof arg === "object" && arg !== null) ? "NaN" : formatNumber(parseInt(String(arg), 10), false);
    case "f": return typeof arg === "symbol" ? "NaN" : formatNumber(parseFloat(String(arg)), false);
    case "j":
      try {
        return JSON.stringify(arg) ?? "undefined";
      } catch (e) {
        if (e instanceof TypeError && /circular/i.test(e.message)) return "[Circular]";
        throw e;
      }
    case "o": return inspect(arg, { ...options, showHidden: true, showProxy: true, depth: 4 });
    case "O": return inspect(arg, options);
    default: return ""; // %c: styles of a browser's console
  }
}

/** `util.format`. */
export function format(...args: unknown[]): string {
  return formatWithOptions({}, ...args);
}
