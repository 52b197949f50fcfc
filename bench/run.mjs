/**
 * Runs one suite and leaves its figures in results/<suite>.json and as a table on stdout: `node run.mjs isolates|actors [--quick] [--only <part>]`.
 * A suite returns `{ metric: { ours, peer?, unit, better: "less" | "more", … } }`; the ratio (above 1: ours is better) is worked out here. Parts that
 * are run alone at full size take their places among the figures that are there; each says when it was taken. Quick runs leave nothing.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const { values: options, positionals: [suite = "isolates"] } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: "boolean" }, only: { type: "string", multiple: true } },
});

const digits = (x) => (x === undefined ? undefined : Number(x.toPrecision(4)));

function finish({ better, ours, peer, ...rest }) {
  const ratio = ours > 0 && peer > 0 ? (better === "more" ? ours / peer : peer / ours) : undefined;
  const { unit, ...more } = rest;
  const out = { ours: digits(ours), peer: digits(peer), unit, ratio: digits(ratio), ...Object.fromEntries(Object.entries(more).map(([k, v]) => [k, typeof v === "number" ? digits(v) : v])) };
  return Object.fromEntries(Object.entries(out).filter(([, v]) => v !== undefined));
}

function table(results) {
  const rows = [["metric", "ours", "peer", "unit", "ratio", ""], ...Object.entries(results).map(([name, r]) => [name, r.ours ?? "–", r.peer ?? "–", r.unit, r.ratio ?? "–", r.jit === undefined ? "" : `jit ${r.jit}`])];
  const widths = rows[0].map((_, i) => Math.max(...rows.map((r) => String(r[i]).length)));
  for (const row of rows) console.log(row.map((x, i) => (i === 0 || i === 5 ? String(x).padEnd(widths[i]) : String(x).padStart(widths[i]))).join("  ").trimEnd());
}

const { measure } = await import(`./suites/${suite}.mjs`);
const measured = await measure({ quick: options.quick ?? false, only: options.only });
const results = Object.fromEntries(Object.entries(measured).map(([name, m]) => [name, finish(m)]));
mkdirSync(join(here, "results"), { recursive: true });
if (!options.quick) {
  const file = join(here, `results/${suite}.json`);
  const others = options.only && existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
  const taken = new Date().toISOString().slice(0, 16);
  const now = Object.fromEntries(Object.entries(results).map(([name, r]) => [name, { ...r, taken }]));
  writeFileSync(file, `${JSON.stringify({ ...others, ...now }, null, 2)}\n`);
}
console.log(`\n${suite}, ${cpus()[0].model}, ${cpus().length} cores\n`);
table(results);
