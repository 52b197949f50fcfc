/**
 * The Worker Loader binding: `env.LOADER.load(code)` and `.get(id, callback)`, as the open-source Worker Loader defines them, with its
 * validation and error texts. Everything here is synchronous: the host gives numbers at once and lets calls wait for the worker to start.
 */
import { host, type Wire } from "./host";
import { actorClass, channelOf, type DurableObjectClass, Fetcher, persistent, serviceStub } from "./rpc";
import { moduleName } from "./webassembly";

const maxCode = 64 * 1024 * 1024;
const maxEnv = 1024 * 1024;
const kinds = ["js", "cjs", "text", "data", "json", "py", "wasm"] as const;

type Kind = (typeof kinds)[number] | "ts" | "tsx" | "jsx";
type ModuleWire = [name: string, kind: Kind, content: string | Uint8Array];

interface Limits {
  cpuMs?: number;
  subRequests?: number;
  memoryMb?: number;
  wallMs?: number;
}

interface WorkerCode {
  compatibilityDate?: unknown;
  compatibilityFlags?: unknown;
  allowExperimental?: unknown;
  limits?: unknown;
  mainModule?: unknown;
  modules?: unknown;
  env?: unknown;
  globalOutbound?: unknown;
  tails?: unknown;
  streamingTails?: unknown;
}

const apply = Reflect.apply;
const isView = ArrayBuffer.isView;

// --- conversions ---------------------------------------------------------------------------------------------------------

/** A required string: like every string of Web IDL, anything is converted. */
function required(value: unknown): string {
  return `${value as string}`;
}

function objectOr<T extends object>(value: unknown, message: string): T | undefined {
  if (value === undefined) return undefined;
  if (value === null || (typeof value !== "object" && typeof value !== "function")) throw new TypeError(message);
  return value as T;
}

function wrongField(field: string, type: string, on = "WorkerCode"): string {
  return `Incorrect type for the '${field}' field on '${on}': the provided value is not of type '${type}'.`;
}

/** Limits as plain numbers; the host takes the lower of these and its own. */
function limitsOf(value: unknown): { [key: string]: number } | null {
  const given = objectOr<Limits>(value, wrongField("limits", "ResourceLimits"));
  if (given === undefined) return null;
  const out: { [key: string]: number } = {};
  for (const name of ["cpuMs", "subRequests", "memoryMb", "wallMs"] as const) {
    const n: unknown = given[name];
    if (n === undefined) continue;
    const number = Number(n);
    if (number < 0) throw new TypeError("The value cannot be converted because it is negative and this API expects a positive number.");
    if (!(number <= 0xffffffff)) throw new TypeError(`The value of limits.${name} cannot be converted because it is not an integer of 32 bits.`);
    out[name] = Math.trunc(number);
  }
  return out;
}

function bytesOf(value: unknown): Uint8Array | undefined {
  if (isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice();
  return value instanceof ArrayBuffer ? new Uint8Array(value).slice() : undefined;
}

// --- modules -------------------------------------------------------------------------------------------------------------

function moduleFromString(name: string, text: string, mainModule: string): ModuleWire {
  const extension = /\.(py|js|tsx?|jsx)$/.exec(name)?.[1];
  if (extension !== undefined) return [name, extension as Kind, text];
  if (mainModule.endsWith(".py") && name.startsWith("python_modules/")) return [name, "text", text];
  throw new TypeError(`Module name must end with '.js' or '.py' (or the content must be an object indicating the type explicitly). Got: ${name}`);
}

function moduleFromObject(name: string, module: Record<string, unknown>): ModuleWire {
  const given = kinds.filter((kind) => module[kind] !== undefined);
  if (given.length !== 1) {
    throw new TypeError(
      `Each module must contain exactly one of 'js', 'cjs', 'text', 'data', 'json', 'py', or 'wasm'. Module '${name}' contained ${given.length} properties.`,
    );
  }
  const kind = given[0]!;
  const content = module[kind];
  if (kind === "json") {
    const text = JSON.stringify(content) as string | undefined;
    if (text === undefined) throw new TypeError(wrongField("json", "JSON value", "Module"));
    return [name, kind, text];
  }
  if (kind !== "data" && kind !== "wasm") return [name, kind, `${content as string}`];
  const bytes = bytesOf(content) ?? (kind === "wasm" ? compiledBytes(content) : undefined);
  if (bytes === undefined) throw new TypeError(wrongField(kind, "ArrayBuffer or ArrayBufferView", "Module"));
  return [name, kind, bytes];
}

/** The bytes behind a `WebAssembly.Module` of this worker. */
function compiledBytes(value: unknown): Uint8Array | undefined {
  const name = moduleName(value);
  return name === undefined ? undefined : ((host.call("wasm.bytes", name) as Uint8Array | null) ?? undefined);
}

function moduleOf(name: string, value: unknown, mainModule: string): ModuleWire {
  if (value !== null && typeof value === "object") {
    const compiled = compiledBytes(value);
    return compiled === undefined ? moduleFromObject(name, value as Record<string, unknown>) : [name, "wasm", compiled];
  }
  return moduleFromString(name, `${value as string}`, mainModule);
}

function sizeOf([, , content]: ModuleWire): number {
  if (typeof content !== "string") return content.length;
  // Only texts that may be too long are measured exactly.
  return content.length * 3 <= maxCode / 16 ? content.length : host.utf8Encode(content).length;
}

function modulesOf(code: WorkerCode, mainModule: string): ModuleWire[] {
  const given = objectOr<Record<string, unknown>>(code.modules, wrongField("modules", "Object"));
  if (given === undefined) throw new TypeError(wrongField("modules", "Object"));
  const names = Object.keys(given);
  if (names.length === 0) throw new TypeError("Dynamic Worker code must contain at least one module.");
  const modules = names.map((name) => moduleOf(name, given[name], mainModule));
  const python = modules.find(([, kind]) => kind === "py");
  if (python !== undefined && !mainModule.endsWith(".py")) {
    throw new TypeError(`Module "${python[0]}" is a Python module, but the main module isn't a Python module.`);
  }
  const size = modules.reduce((sum, module) => sum + sizeOf(module), 0);
  if (size > maxCode) throw new Error(`Dynamic Worker code size (${size} bytes) exceeds the maximum allowed size of ${maxCode} bytes.`);
  return modules;
}

// --- worker code ---------------------------------------------------------------------------------------------------------

function checkDate(date: string): string {
  if (!/^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$/.test(date)) throw new Error(`Invalid compatibility date: ${date}`);
  return date;
}

function strings(value: unknown, field: string): string[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new TypeError(wrongField(field, "Array"));
  return value.map((v) => `${v as string}`);
}

/** What leaves with the code: channels by role, given away. */
interface Capabilities {
  env: [Uint8Array | null, number[]];
  /** Undefined: inherited. Null: none. */
  outbound: number | null | undefined;
  tails: number[];
}

function fetcherChannel(value: unknown, field: string): number {
  const channel = channelOf(value);
  if (channel === undefined) throw new TypeError(wrongField(field, "Fetcher"));
  return channel;
}

function envOf(value: unknown): [Uint8Array | null, number[]] {
  const env = objectOr<object>(value, wrongField("env", "Object"));
  const [bytes, channels] = persistent(env);
  if (bytes !== null && bytes.length > maxEnv) {
    for (const channel of channels) host.call("channel.drop", channel);
    throw new Error(`Dynamic Worker env size (${bytes.length} bytes) exceeds the maximum allowed size of ${maxEnv} bytes.`);
  }
  return [bytes, channels];
}

function tailsOf(value: unknown): number[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new TypeError(wrongField("tails", "Array"));
  return value.map((tail) => fetcherChannel(tail, "tails"));
}

function capabilitiesOf(code: WorkerCode): Capabilities {
  if (code.streamingTails !== undefined) throw new Error("Streaming tail workers are not available in skep; use 'tails'.");
  const { globalOutbound } = code;
  const env = envOf(code.env);
  const outbound = globalOutbound === undefined || globalOutbound === null ? globalOutbound : fetcherChannel(globalOutbound, "globalOutbound");
  return { env, outbound, tails: tailsOf(code.tails) };
}

/** Checks a WorkerCode and turns it into what the host takes. Throws what the open-source loader throws. */
function wireOf(value: unknown): Wire[] {
  if (value === null || typeof value !== "object") {
    throw new TypeError("Failed to execute 'load' on 'WorkerLoader': parameter 1 is not of type 'WorkerCode'.");
  }
  const code = value as WorkerCode;
  const date = required(code.compatibilityDate);
  const flags = strings(code.compatibilityFlags, "compatibilityFlags");
  const limits = limitsOf(code.limits);
  const mainModule = required(code.mainModule);
  const modules = modulesOf(code, mainModule);
  if (code.allowExperimental) throw new Error("'allowExperimental' is only allowed when the calling worker has the 'experimental' compat flag set.");
  checkDate(date);
  if (mainModule.endsWith(".py")) throw new Error(`Python Workers are not available in skep: the main module is "${mainModule}".`);
  const { env, outbound, tails } = capabilitiesOf(code);
  return [mainModule, modules, date, flags, env[0], env[1], outbound, tails, limits];
}

// --- the classes ---------------------------------------------------------------------------------------------------------

interface EntrypointOptions {
  props?: unknown;
  limits?: unknown;
}

const create = {};
const dropped = new FinalizationRegistry<number>((handle) => host.call("loader.drop", handle));

/** A loaded worker as a whole. */
export class WorkerStub {
  readonly #handle: number;

  constructor(key: object, handle: number) {
    if (key !== create) throw new TypeError("Illegal constructor");
    this.#handle = handle;
    dropped.register(this, handle);
  }

  getEntrypoint(name?: string | null, options?: EntrypointOptions): Fetcher {
    const chosen = name === undefined || name === null || `${name}` === "default" ? null : `${name}`;
    const given = objectOr<EntrypointOptions>(options, "Failed to execute 'getEntrypoint' on 'WorkerStub': parameter 2 is not of type 'EntrypointOptions'.");
    const limits = limitsOf(given?.limits);
    const [props, channels] = persistent(objectOr(given?.props, wrongField("props", "Object", "EntrypointOptions")));
    return serviceStub(host.call("loader.entrypoint", this.#handle, chosen, props, channels, limits) as number) as Fetcher;
  }

  /** A class of the worker, for a facet. */
  getDurableObjectClass(name?: string | null, options?: EntrypointOptions): DurableObjectClass {
    const chosen = name === undefined || name === null || `${name}` === "default" ? null : `${name}`;
    const given = objectOr<EntrypointOptions>(options, "Failed to execute 'getDurableObjectClass' on 'WorkerStub': parameter 2 is not of type 'EntrypointOptions'.");
    const props = objectOr(given?.props, wrongField("props", "Object", "EntrypointOptions"));
    return actorClass(() => host.call("loader.class", this.#handle, chosen, ...persistent(props)) as number);
  }
}

/** Runs the callback of `get` for a worker that the host does not have. */
async function provide(handle: number, callback: () => unknown): Promise<void> {
  try {
    host.call("loader.code", handle, ...wireOf(await apply(callback, undefined, [])));
  } catch (e) {
    const error = Error.isError(e) ? e : new Error(String(e));
    host.call("loader.fail", handle, `${error.name}`, `${error.message}`);
  }
}

/** Puts another channel behind a loader: the host's table is new after waking. */
export let renewLoader: (loader: unknown, channel: number) => void;

export class WorkerLoader {
  #channel: number;

  constructor(key: object, channel: number) {
    if (key !== create) throw new TypeError("Illegal constructor");
    this.#channel = channel;
  }

  load(code: unknown): WorkerStub {
    if (arguments.length < 1) throw new TypeError("Failed to execute 'load' on 'WorkerLoader': parameter 1 is not of type 'WorkerCode'.");
    const wire = wireOf(code);
    const [handle] = host.call("loader.get", this.#channel, null) as [number, boolean];
    host.call("loader.code", handle, ...wire);
    return new WorkerStub(create, handle);
  }

  get(id: string | null, callback: () => unknown): WorkerStub {
    if (typeof callback !== "function") throw new TypeError("Failed to execute 'get' on 'WorkerLoader': parameter 2 is not of type 'function'.");
    const name = id === null || id === undefined ? null : `${id}`;
    const [handle, wanted] = host.call("loader.get", this.#channel, name) as [number, boolean];
    if (wanted) void provide(handle, callback);
    return new WorkerStub(create, handle);
  }

  static {
    renewLoader = (loader, channel) => {
      if (typeof loader === "object" && loader !== null && #channel in loader) loader.#channel = channel;
    };
  }
}

for (const C of [WorkerStub, WorkerLoader]) Object.defineProperty(C.prototype, Symbol.toStringTag, { value: C.name, configurable: true });

/** The binding that the host describes by this channel. */
export function workerLoader(channel: number): WorkerLoader {
  return new WorkerLoader(create, channel);
}
