/**
 * Bundles each folder of cases (and each package exercise) into one worker with esbuild, the same bytes for every runtime. Files that are
 * not JavaScript travel beside the bundle as modules of their own kind.
 */
import { build } from "esbuild";
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { builtinModules } from "node:module";
import { basename, dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const kinds = { ".wasm": "wasm", ".txt": "text", ".bin": "data", ".json": "json" };

/** The units to run: `{ api, folder, files }`, sorted by name. */
export function units() {
  const folders = readdirSync(join(root, "cases")).sort().map((api) => {
    const folder = join(root, "cases", api);
    return { api, folder, files: readdirSync(folder).filter((f) => f.endsWith(".js") && !f.startsWith("_")).sort().map((f) => join(folder, f)) };
  });
  const packages = readdirSync(join(root, "packages")).filter((f) => f.endsWith(".js") && !f.startsWith("_")).sort().map((f) => ({
    api: `package-${basename(f, ".js")}`, folder: join(root, "packages"), files: [join(root, "packages", f)], own: `_${basename(f, ".js")}`,
  }));
  return [...folders, ...packages].map((unit) => ({ ...unit, exported: fileOf(unit, "entrypoints", "js"), outside: fileOf(unit, "outside", "mjs") }));
}

/** A file that a unit may have beside its cases: `_entrypoints.js` in a folder of cases, `_hono_entrypoints.js` for the package hono. */
function fileOf({ folder, own = "" }, kind, extension) {
  const file = join(folder, `${own}_${kind}.${extension}`);
  return existsSync(file) ? file : undefined;
}

/** Names of the exported classes: entrypoints say `extends WorkerEntrypoint`, each other subclass is an actor's. */
function classesOf(exported) {
  const all = exported ? Array.from(readFileSync(exported, "utf8").matchAll(/^export class (\w+) extends (\w+)/gm), ([, name, base]) => ({ name, base })) : [];
  const named = (yes) => all.filter(({ base }) => (base === "WorkerEntrypoint") === yes).map(({ name }) => name);
  return { entrypoints: named(true), actors: named(false) };
}

function virtualModules(unit) {
  const list = unit.files.map((file, i) => `import { cases as c${i} } from ${JSON.stringify(file)};`).join("\n")
    + `\nexport const topics = [${unit.files.map((file, i) => `{ topic: ${JSON.stringify(basename(file, ".js"))}, cases: c${i} }`).join(", ")}];`;
  const exported = unit.exported ? `export * from ${JSON.stringify(unit.exported)};` : "export {};";
  return { "cases:list": list, "cases:entrypoints": exported };
}

/** Bundles one unit into `{ api, main, entrypoints, actors, outside, modules: [{ name, kind, bytes }] }`. */
export async function bundle(unit) {
  const virtual = virtualModules(unit);
  const extra = statSync(unit.folder).isDirectory() && !unit.api.startsWith("package-")
    ? readdirSync(unit.folder).filter((f) => kinds[extname(f)]) : [];
  const result = await build({
    entryPoints: [join(root, "harness/worker.js")],
    bundle: true, write: false, format: "esm", target: "es2024", platform: "neutral", charset: "utf8",
    mainFields: ["module", "main"], conditions: ["workerd", "worker", "browser", "import", "default"],
    external: ["node:*", "cloudflare:*", ...extra.map((f) => `./${f}`), ...builtinModules],
    logLevel: "error",
    plugins: [{
      name: "cases",
      setup(b) {
        b.onResolve({ filter: /^cases:/ }, ({ path }) => ({ path, namespace: "cases" }));
        b.onLoad({ filter: /.*/, namespace: "cases" }, ({ path }) => ({ contents: virtual[path], resolveDir: root }));
      },
    }],
  });
  return {
    api: unit.api,
    main: "worker.js",
    ...classesOf(unit.exported),
    outside: unit.outside,
    modules: [
      { name: "worker.js", kind: "esm", bytes: result.outputFiles[0].contents },
      ...extra.map((f) => ({ name: f, kind: kinds[extname(f)], bytes: readFileSync(join(unit.folder, f)) })),
    ],
  };
}
