/**
 * Modules that are not ECMAScript: text, data, JSON and CommonJS. The engine asks `onModule` for the exports object of each when it is first
 * imported; CommonJS modules run with a `require` that finds built-ins and the worker's other non-ECMAScript modules.
 */
import { host } from "./host";
import { builtinModule } from "./node/process";

type Content = string | Uint8Array;

interface CommonJs {
  exports: unknown;
  id: string;
  filename: string;
  loaded: boolean;
  require: (specifier: string) => unknown;
}

const FunctionConstructor = Function;

let wasmModule: ((name: string) => unknown) | undefined;

/** Called once while the image is made, by the WebAssembly file: turns the name of a wasm module into a `WebAssembly.Module`. */
export function bindWasm(f: typeof wasmModule): void {
  wasmModule = f;
}

// Made on first use; a worker without CommonJS modules never does.
let instances: Map<string, CommonJs> | undefined;

function resolve(from: string, specifier: string): string {
  if (!specifier.startsWith(".")) return specifier;
  const parts = from.split("/").slice(0, -1);
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "." && part !== "") parts.push(part);
  }
  return parts.join("/");
}

const extensions = ["", ".js", ".cjs", ".json", "/index.js"];

function find(name: string): [string, string, Content] | undefined {
  for (const extension of extensions) {
    const found = host.call("module.load", name + extension) as [string, Content] | null;
    if (found !== null) return [name + extension, ...found];
  }
  return undefined;
}

function text(content: Content): string {
  return typeof content === "string" ? content : host.utf8Decode(content, false, true);
}

function bytes(content: Content): ArrayBuffer {
  const view = typeof content === "string" ? host.utf8Encode(content) : content;
  return view.slice().buffer as ArrayBuffer;
}

/** `require` as seen from a module. */
export function requireFrom(from: string): (specifier: string) => unknown {
  const require = (specifier: string): unknown => {
    if (typeof specifier !== "string") throw new TypeError(`The "id" argument must be of type string. Received ${typeof specifier}`);
    const builtin = builtinModule(specifier);
    const prefixed = specifier.startsWith("node:");
    if (prefixed && builtin !== undefined) return builtin;
    const found = prefixed ? undefined : find(resolve(from, specifier));
    if (found !== undefined) return required(...found);
    if (builtin !== undefined) return builtin;
    throw Object.assign(new Error(`Cannot find module '${specifier}'\nRequired by: ${from}`), { code: "MODULE_NOT_FOUND" });
  };
  require.resolve = (specifier: string): string => resolve(from, specifier);
  require.cache = {};
  require.main = undefined;
  return require;
}

function required(name: string, kind: string, content: Content): unknown {
  if (kind === "js") throw Object.assign(new Error(`require() of ES module '${name}' is not supported; import it instead.`), { code: "ERR_REQUIRE_ESM" });
  if (kind === "cjs") return commonJs(name, text(content));
  return contentOf(name, kind, content);
}

function commonJs(name: string, source: string): unknown {
  const known = instances?.get(name);
  if (known !== undefined) return known.exports;
  const module: CommonJs = { exports: {}, id: name, filename: name, loaded: false, require: requireFrom(name) };
  (instances ??= new Map()).set(name, module);
  try {
    const body = new FunctionConstructor("exports", "require", "module", "__filename", "__dirname", `${source}\n`);
    Reflect.apply(body, module.exports, [module.exports, module.require, module, name, name.slice(0, Math.max(0, name.lastIndexOf("/")))]);
  } catch (e) {
    instances.delete(name);
    throw e;
  }
  module.loaded = true;
  return module.exports;
}

function contentOf(name: string, kind: string, content: Content): unknown {
  switch (kind) {
    case "text":
      return text(content);
    case "data":
      return bytes(content);
    case "json":
      return JSON.parse(text(content));
    case "wasm":
      if (wasmModule === undefined) throw new Error(`WebAssembly modules are not available in this image: "${name}".`);
      return wasmModule(name);
    case "py":
      throw new Error(`Python modules are not available in skep: "${name}".`);
    default:
      throw new Error(`Module "${name}" is of kind "${kind}", which cannot be loaded this way.`);
  }
}

/** Names that a CommonJS module exports besides `default`, where it set an object. */
function named(exports: unknown): Record<string, unknown> {
  const out: Record<string, unknown> = { default: exports };
  if ((typeof exports === "object" || typeof exports === "function") && exports !== null) {
    for (const key of Object.keys(exports)) if (key !== "default") out[key] = (exports as Record<string, unknown>)[key];
  }
  return out;
}

/** The engine's hook: the exports object of a module that is not JavaScript source with `import`. */
export function onModule(name: string, kind: string, content: Content): object {
  return kind === "cjs" ? named(commonJs(name, text(content))) : { default: contentOf(name, kind, content) };
}

host.raw.onModule(onModule);
