/**
 * Differential conformance: runs every case on npm workerd and on skep and compares what was recorded.
 *
 *   node run.mjs [--api <folder>] [--case <text>] [--json] [--rows] [--verbose] [--workerd-only]
 *
 * Exits non-zero when a difference is not listed in docs/differences.md, when a listed one is gone or has changed, or when a runtime did not
 * start. `--rows` prints the rows that would list the differences found. `--workerd-only` runs workerd
 * against itself: a case that differs is not deterministic; it also shows where workerd leaves the standard's expectation (informative). The last line reads `N passed, N failed`.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { bundle, units } from "./harness/bundle.mjs";
import { call } from "./harness/call.mjs";
import { cell, readDifferences } from "./harness/differences.mjs";
import { startOrigin } from "./harness/origin.mjs";
import { record as plain, thrown } from "./harness/record.js";
import * as skep from "./runtimes/skep.mjs";
import * as workerd from "./runtimes/workerd.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const { values: options } = parseArgs({
  options: {
    api: { type: "string", multiple: true }, case: { type: "string" }, json: { type: "boolean" }, rows: { type: "boolean" },
    verbose: { type: "boolean" }, "workerd-only": { type: "boolean" },
  },
});

const apisAtOnce = 4;

async function driven(at, drive) {
  try {
    return { value: plain(await drive(at)) };
  } catch (e) {
    return thrown(e);
  }
}

async function record(at, one, index) {
  if (one.drive) return driven(at, one.drive);
  if (!one.serve) {
    const answer = await call(at, `/run/${index}`);
    if (answer.lost) return { lost: answer.lost };
    try {
      return answer.status === 200 ? JSON.parse(answer.body) : { failed: answer.status };
    } catch {
      return { failed: "not JSON" };
    }
  }
  const answers = [];
  for (const send of [one.send ?? {}].flat()) answers.push(await call(at, `/serve/${index}${send.path ?? "/"}`, send));
  return { answers: answers.length === 1 ? answers[0] : answers };
}

/** Records of one API on one runtime, in the order of the manifest. Cases of one API never overlap: some touch globals. */
async function recordAll(runtime, api, manifest) {
  const at = runtime.at(api);
  const out = [];
  for (const [index, one] of manifest.entries()) {
    out.push(options.case && !idOf(api, one).includes(options.case) ? undefined : await record(at, one, index));
  }
  return out;
}

const idOf = (api, one) => `${api}/${one.topic}/${one.name}`;

/** Equality of records that does not look at the order of object keys. */
function canonical(v) {
  if (Array.isArray(v)) return `[${v.map(canonical).join()}]`;
  if (v && typeof v === "object") return `{${Object.keys(v).sort().map((k) => `${JSON.stringify(k)}:${canonical(v[k])}`).join()}}`;
  return JSON.stringify(v);
}
const same = (a, b) => canonical(a) === canonical(b);

/** Cases that are clients of their own, in this process: they are told where the unit answers, and what they return is recorded. */
async function outsideCases(file) {
  if (!file) return [];
  const { cases } = await import(file);
  return Object.entries(cases).map(([name, body]) => {
    const [drive, ...expect] = [body].flat();
    return { topic: "outside", name, drive, ...(expect.length ? { expect: plain(expect[0]) } : {}) };
  });
}

async function compare(runtimes, { api, outside }) {
  const { peer, ours } = runtimes;
  const answer = await call(peer.at(api), "/manifest");
  if (answer.status !== 200) throw new Error(`workerd gave no manifest for ${api}: ${JSON.stringify(answer)}`);
  const manifest = JSON.parse(answer.body);
  manifest.push(...(await outsideCases(outside)));
  const theirs = await recordAll(peer, api, manifest);
  const mine = await recordAll(ours, api, manifest);
  return manifest.map((one, i) => ({ id: idOf(api, one), api, one, index: i, expect: one.expect, ours: mine[i], workerd: theirs[i] })).filter((r) => r.workerd);
}

function judge(result, listed) {
  const row = listed.get(result.id);
  const equal = same(result.ours, result.workerd);
  const expected = result.expect === undefined ? undefined : { value: result.expect };
  const standard = expected && { ours: same(result.ours, expected), workerd: same(result.workerd, expected) };
  if (options["workerd-only"]) {
    return { ...result, standard, ok: equal && (!standard || standard.workerd), why: equal ? "workerd is not as expected" : "not deterministic" };
  }
  if (equal) return { ...result, standard, ok: !row, why: row && "listed as a difference, but there is none" };
  const current = row && row.ours === cell(result.ours) && row.workerd === cell(result.workerd);
  return { ...result, standard, ok: !!current, why: row ? "listed, but the values have changed" : "differs" };
}

/** A second look at a case that failed: a timeout on a busy machine is no difference, one that is seen twice is. */
async function judgeAgain(runtimes, result, listed) {
  if (result.ok || !result.one) return result;
  const { api, one, index } = result;
  const again = { ...result, why: undefined, workerd: await record(runtimes.peer.at(api), one, index), ours: await record(runtimes.ours.at(api), one, index) };
  return judge(again, listed);
}

/** Rows of the list whose case is no more. */
function orphans(api, results, listed) {
  const ids = new Set(results.map((r) => r.id));
  const gone = [...listed.keys()].filter((id) => id.startsWith(`${api}/`) && !ids.has(id));
  return gone.map((id) => ({ id, api, ours: "no such case", workerd: "no such case" }));
}

function table(judged) {
  const apis = [...new Set(judged.map((r) => r.api))];
  const width = Math.max(...apis.map((a) => a.length), 5);
  console.log(`${"API".padEnd(width)}   cases    same  listed  failed`);
  for (const api of apis) {
    const of = judged.filter((r) => r.api === api);
    const failed = of.filter((r) => !r.ok).length;
    const alike = of.filter((r) => same(r.ours, r.workerd)).length;
    const listed = of.filter((r) => r.ok && !same(r.ours, r.workerd)).length;
    console.log(`${api.padEnd(width)}  ${[of.length, alike, listed, failed].map((n) => String(n).padStart(6)).join("  ")}`);
  }
}

function explain(r) {
  const verdict = r.standard ? ` (standard: ours ${r.standard.ours ? "right" : "wrong"}, workerd ${r.standard.workerd ? "right" : "wrong"})` : "";
  console.log(`\nFAIL ${r.id}: ${r.why}${verdict}`);
  if (r.expect !== undefined) console.log(`  expected ${JSON.stringify(r.expect)}`);
  console.log(`  ours     ${JSON.stringify(r.ours)}`);
  console.log(`  workerd  ${JSON.stringify(r.workerd)}`);
}

function report(judged) {
  const failed = judged.filter((r) => !r.ok);
  if (options.json) {
    console.log(JSON.stringify({ passed: judged.length - failed.length, failed: failed.length, cases: judged.map(({ id, ok, why, ours, workerd: peer, expect }) => ({ id, ok, ...(ok ? {} : { why }), ours, workerd: peer, expect })) }));
  } else {
    for (const r of failed) explain(r);
    if (failed.length) console.log();
    table(judged);
  }
  if (options.rows) for (const r of judged.filter((x) => !same(x.ours, x.workerd))) console.log(`| ${r.id} | ${cell(r.ours)} | ${cell(r.workerd)} |  |`);
  console.log(`${judged.length - failed.length} passed, ${failed.length} failed`);
  return failed.length;
}

async function main() {
  const chosen = units().filter((u) => !options.api || options.api.some((a) => u.api === a || (a.endsWith("*") && u.api.startsWith(a.slice(0, -1)))));
  if (chosen.length === 0) throw new Error(`no such API: ${options.api}`);
  const bundles = await Promise.all(chosen.map(bundle));
  const folder = mkdtempSync(join(tmpdir(), "skep-conformance-"));
  const origin = await startOrigin();
  const started = [];
  try {
    const using = { bundles, origin: origin.url, folder, verbose: options.verbose };
    started.push(await workerd.start(using));
    started.push(await (options["workerd-only"] ? workerd : skep).start(using));
    const runtimes = { peer: started[0], ours: started[1] };
    const listed = readDifferences(join(here, "../docs/differences.md"));
    const results = [];
    const queue = [...bundles];
    const worker = async () => {
      for (let unit = queue.shift(); unit; unit = queue.shift()) results.push(...(await compare(runtimes, unit)));
    };
    await Promise.all(Array.from({ length: apisAtOnce }, worker));
    if (!options.case) for (const api of bundles.map((b) => b.api)) results.push(...orphans(api, results, listed));
    results.sort((a, b) => (a.api < b.api ? -1 : a.api > b.api ? 1 : 0));
    const judged = [];
    for (const r of results) judged.push(await judgeAgain(runtimes, judge(r, listed), listed));
    return report(judged);
  } finally {
    for (const runtime of started) runtime.stop();
    origin.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

process.exitCode = (await main()) === 0 ? 0 : 1;
