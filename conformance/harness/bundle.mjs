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
  const packages = readdirSync(join(root, "packages")).filter((f) => f.endsWith(".js")).sort().map((f) => ({
    api: `package-${basename(f, ".js")}`, folder: join(root, "packages"), files: [join(root, "packages", f)],
  }));
  return [...folders, ...packages];
}

function virtualModules(unit) {
  const list = unit.files.map((file, i) => `import { cases as c${i} } from ${JSON.stringify(file)};`).join("\n")
    + `\nexport const topics = [${unit.files.map((file, i) => `{ topic: ${JSON.stringify(basename(file, ".js"))}, cases: c${i} }`).join(", ")}];`;
  const entrypoints = join(unit.folder, "_entrypoints.js");
  const exported = unit.api.startsWith("package-") || !existsSync(entrypoints) ? "export {};" : `export * from ${JSON.stringify(entrypoints)};`;
  return { "cases:list": list, "cases:entrypoints": exported };
}

/** Bundles one unit into `{ api, main, modules: [{ name, kind, bytes }] }`. */
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
  const exported = join(unit.folder, "_entrypoints.js");
  return {
    api: unit.api,
    main: "worker.js",
    entrypoints: virtual["cases:entrypoints"] === "export {};" ? []
      : Array.from(readFileSync(exported, "utf8").matchAll(/^export class (\w+)/gm), (m) => m[1]),
    modules: [
      { name: "worker.js", kind: "esm", bytes: result.outputFiles[0].contents },
      ...extra.map((f) => ({ name: f, kind: kinds[extname(f)], bytes: readFileSync(join(unit.folder, f)) })),
    ],
  };
}
