/**
 * `node:process` and the global `process`: an isolate's own small truth about itself. There is no process to end, no signal and no file
 * descriptor; `exit` throws.
 */
import { host } from "../host";
import { inspect } from "../inspect";
import { EventEmitter } from "./events";
import { checkFunction, invalidArgType, nodeError, unavailable } from "./errors";

export const version = "v22.19.0";

/** Environment variables: strings only, filled from the worker's bindings of text and of JSON when it is loaded. */
const env: Record<string, string> = {};

/** Whether a binding is plain data, as JSON gives it: other bindings are objects of classes. */
function isData(value: unknown): boolean {
  if (typeof value === "number" || typeof value === "boolean" || value === null) return true;
  return Array.isArray(value) || (typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype);
}

/** Called when a worker is loaded: those of its bindings that are text, and JSON as its text, are what `process.env` shows. */
export function setEnv(bindings: Record<string, unknown>): void {
  for (const key of Object.keys(bindings)) {
    const value = bindings[key];
    if (typeof value === "string") env[key] = value;
    else if (isData(value)) env[key] = JSON.stringify(value);
  }
}

const envProxy = new Proxy(env, {
  set(target, key, value: unknown) {
    if (typeof key === "symbol" || typeof value === "symbol") throw new TypeError("Cannot convert a Symbol value to a string");
    target[key] = `${value as string}`;
    return true;
  },
  defineProperty(target, key, d) {
    if (d.get || d.set) {
      throw nodeError(TypeError, "ERR_INVALID_OBJECT_DEFINE_PROPERTY", "'process.env' does not accept an accessor(getter/setter) descriptor");
    }
    return Reflect.defineProperty(target, key, { value: `${d.value as string}`, configurable: true, writable: true, enumerable: true });
  },
});

function hrtime(since?: [number, number]): [number, number] {
  if (since !== undefined && !Array.isArray(since)) throw invalidArgType("time", "Array", since);
  const ms = host.now();
  let s = Math.floor(ms / 1000);
  let ns = Math.floor((ms % 1000) * 1e6);
  if (since !== undefined) {
    s -= since[0];
    ns -= since[1];
    if (ns < 0) {
      s--;
      ns += 1e9;
    }
  }
  return [s, ns];
}
hrtime.bigint = (): bigint => BigInt(Math.floor(host.now() * 1e6));

function nextTick(f: unknown, ...args: unknown[]): void {
  checkFunction(f, "callback");
  queueMicrotask(args.length === 0 ? f as () => void : () => f(...args));
}

class Output {
  writable = true;
  isTTY = false;
  columns = 80;
  #level: string;
  fd: number;
  #line = "";

  constructor(level: string, fd: number) {
    this.#level = level;
    this.fd = fd;
  }

  /** Whole lines become log entries; what has no newline yet waits for one. */
  write(chunk: unknown, encoding?: unknown, callback?: unknown): boolean {
    const text = typeof chunk === "string" ? chunk : host.utf8Decode(chunk as Uint8Array, false, true);
    const lines = (this.#line + text).split("\n");
    this.#line = lines.pop()!;
    for (const line of lines) host.call("log", this.#level, line);
    const done = typeof encoding === "function" ? encoding : callback;
    if (typeof done === "function") queueMicrotask(() => (done as () => void)());
    return true;
  }

  end(chunk?: unknown): this {
    if (chunk !== undefined) this.write(chunk);
    if (this.#line !== "") this.write("\n");
    return this;
  }

  on(): this {
    return this;
  }

  once(): this {
    return this;
  }

  off(): this {
    return this;
  }

  emit(): boolean {
    return false;
  }

  removeListener(): this {
    return this;
  }

  getColorDepth(): number {
    return 1;
  }

  hasColors(): boolean {
    return false;
  }
}

function emitWarning(warning: unknown, typeOrOptions?: unknown, code?: unknown): void {
  const options = typeof typeOrOptions === "object" && typeOrOptions !== null ? (typeOrOptions as { type?: string; code?: string; detail?: string }) : undefined;
  const type = options?.type ?? (typeof typeOrOptions === "string" ? typeOrOptions : "Warning");
  const given = options?.code ?? (typeof code === "string" ? code : undefined);
  if (typeof warning !== "string" && !Error.isError(warning)) throw invalidArgType("warning", ["string", "Error"], warning);
  const e = typeof warning === "string" ? Object.assign(new Error(warning), { name: type }) : warning;
  if (given !== undefined) (e as { code?: string }).code = given;
  host.call("log", "warn", `(skep) ${given === undefined ? "" : `[${given}] `}${e.name}: ${e.message}${options?.detail === undefined ? "" : `\n${options.detail}`}`);
  process.emit("warning", e);
}

function memoryUsage(): object {
  return { rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 };
}
memoryUsage.rss = (): number => 0;

const builtins = new Map<string, unknown>();

/** The exports object of a built-in module, by its name without `node:`; also for `createRequire` and CommonJS. */
export function builtinModule(name: string): unknown {
  return builtins.get(name.startsWith("node:") ? name.slice(5) : name);
}

export function builtinNames(): string[] {
  return [...builtins.keys()];
}

/** Makes a built-in importable under `node:name` and `name`. */
export function registerBuiltin(name: string, exports: object): void {
  builtins.set(name, exports);
  host.raw.registerModule(`node:${name}`, exports);
  host.raw.registerModule(name, exports);
}

const members = {
  title: "skep",
  version,
  versions: { node: version.slice(1), skep: "1", quickjs: "0.16" },
  arch: "wasm32",
  platform: "linux",
  release: { name: "node", lts: "Jod", sourceUrl: "", headersUrl: "" },
  argv: ["node"],
  argv0: "node",
  execArgv: [] as string[],
  execPath: "",
  pid: 1,
  ppid: 0,
  exitCode: undefined as number | undefined,
  exiting: false,
  features: { inspector: false, debug: false, uv: false, ipv6: true, tls: true, require_module: false, typescript: "strip" },
  config: { target_defaults: {}, variables: {} },
  env: envProxy,
  stdin: undefined,
  stdout: new Output("log", 1),
  stderr: new Output("error", 2),
  cwd: () => "/",
  umask: () => 0o22,
  uptime: () => 0,
  getuid: () => 0,
  geteuid: () => 0,
  getgid: () => 0,
  getegid: () => 0,
  hrtime,
  nextTick,
  emitWarning,
  memoryUsage,
  constrainedMemory: () => 0,
  availableMemory: () => 0,
  cpuUsage: () => ({ user: 0, system: 0 }),
  resourceUsage: () => ({ userCPUTime: 0, systemCPUTime: 0, maxRSS: 0 }),
  getActiveResourcesInfo: () => [] as string[],
  hasUncaughtExceptionCaptureCallback: () => false,
  setUncaughtExceptionCaptureCallback(): void {},
  setSourceMapsEnabled(): void {},
  getBuiltinModule: (id: string) => builtinModule(id),
  binding(name: string): never {
    throw nodeError(Error, "ERR_INVALID_MODULE", `No such binding: ${name}`);
  },
  exit(code?: number): never {
    throw nodeError(Error, "ERR_PROCESS_EXIT", `process.exit(${code ?? ""}) was called; an isolate cannot end itself`);
  },
  abort(): never {
    throw unavailable("process.abort");
  },
  kill(): never {
    throw unavailable("process.kill");
  },
  chdir(): never {
    throw unavailable("process.chdir");
  },
  dlopen(): never {
    throw unavailable("process.dlopen");
  },
};

const Emitter = EventEmitter as unknown as new () => EventEmitter;

export const process = Object.assign(Object.create(Emitter.prototype) as EventEmitter, members);
Object.defineProperty(process, Symbol.toStringTag, { value: "process", configurable: true });
Object.defineProperty(process, Symbol.for("nodejs.util.inspect.custom"), { value: () => `process ${inspect({ version, platform: "linux", arch: "wasm32" })}`, configurable: true });

export const exports: object = process;
