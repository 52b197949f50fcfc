/**
 * Runs one suite and leaves its figures in results/<suite>.json and as a table on stdout: `node run.mjs isolates|actors|sandboxes [--quick] [--only <part>]`.
 * A suite has `parts`, each of which returns `{ metric: { ours, peer?, unit, better: "less" | "more", … } }`; the ratio (above 1: ours is better) is
 * worked out here. What is measured at full size takes its place among the figures that are there; each says when it was taken. Quick runs leave nothing.
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

const { parts } = await import(`./suites/${suite}.mjs`);
const chosen = options.only ?? Object.keys(parts);
const unknown = chosen.filter((name) => !(name in parts));
if (unknown.length) throw new Error(`no such part: ${unknown}; there are ${Object.keys(parts).join(", ")}`);

const file = join(here, `results/${suite}.json`);
/** The figures of a part take their places in the file as soon as they are there: a whole run is long, and what comes later may fail. */
function keep(results) {
  if (options.quick) return;
  mkdirSync(dirname(file), { recursive: true });
  const others = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
  const taken = new Date().toISOString().slice(0, 16);
  const now = Object.fromEntries(Object.entries(results).map(([name, r]) => [name, { ...r, taken }]));
  writeFileSync(file, `${JSON.stringify({ ...others, ...now }, null, 2)}\n`);
}

const all = {};
for (const name of chosen) {
  try {
    const measured = await parts[name]({ quick: options.quick ?? false });
    const results = Object.fromEntries(Object.entries(measured).map(([metric, m]) => [metric, finish(m)]));
    keep(results);
    Object.assign(all, results);
  } catch (failure) {
    // It is seen, but does not cost the figures of the others.
    console.error(`· ${name} failed: ${failure.message}`);
    process.exitCode = 1;
  }
}
console.log(`\n${suite}, ${cpus()[0].model}, ${cpus().length} cores\n`);
table(all);
