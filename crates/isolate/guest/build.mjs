/**
 * Bundles src/main.ts into target/guest/preload.js: one script, evaluated once while the image is made. Deterministic: the same sources
 * give the same bytes. Names are kept (they are visible in stack traces and as `f.name`); size matters little, for the engine
 * compiles the text to bytecode while freezing. Usage: node build.mjs [outfile]
 */
import { build } from "esbuild";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const outfile = resolve(process.argv[2] ?? resolve(here, "../../../target/guest/preload.js"));

// npm readable-stream stands on our own modules, not on the packages it names.
const readableStreamParts = {
  buffer: "src/node/buffer.ts",
  events: "src/node/events.ts",
  "string_decoder/": "src/node/string_decoder.ts",
  "process/": "src/node/stream_process.ts",
  "abort-controller": "src/abort.ts",
};
const ownParts = {
  name: "own parts of readable-stream",
  setup({ onResolve }) {
    onResolve({ filter: /^(buffer|events|string_decoder\/|process\/|abort-controller)$/ }, ({ path }) => ({ path: resolve(here, readableStreamParts[path]) }));
  },
};

await build({
  plugins: [ownParts],
  absWorkingDir: here,
  entryPoints: ["src/main.ts"],
  outfile,
  bundle: true,
  format: "iife",
  platform: "neutral",
  mainFields: ["module", "main"],
  conditions: ["import", "default"],
  target: "es2024",
  charset: "utf8",
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: "none",
  logLevel: "warning",
});
