/**
 * The suite `actors`: writes per second, the time to a durable acknowledgement, activation, checkpoints and forks of an actor with 10 MB, many idle
 * actors, and a storm of alarms. The peer is npm workerd with Durable Objects on the local disk, and plain rusqlite and one fsync as limits (by the
 * driver `skep-bench`). Both sides get the same single core; the load generator has the other one. All files are on the disk of the repository's
 * target folder and are removed afterwards.
 */
import { execFile, execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { Client, generatorName, load, median, percentile } from "../load.mjs";
import { binary, source, startSkep, startWorkerd } from "../servers.mjs";

const serverCore = 0;
const loadCore = 1;
const note = (text) => console.error(`· ${text}`);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** A worker with one class of actors on skep. */
const ours = (name, file, binding, className) => ({ [name]: { main: file, modules: { [file]: source(`workers/${file}`) }, bindings: { [binding]: { type: "actors", class_name: className } } } });

/** The same on workerd, with its databases below the configuration's folder. */
const peerConfig = (file, binding, className) => `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "storage", disk = (path = "storage", writable = true)),
    (name = "main", worker = (
      modules = [(name = "${file}", esModule = embed "${file}")], compatibilityDate = "2026-11-01",
      durableObjectNamespaces = [(className = "${className}", uniqueKey = "${className}", enableSql = true)], durableObjectStorage = (localDisk = "storage"),
      bindings = [(name = "${binding}", durableObjectNamespace = "${className}")],
    )),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
`;
const peer = (file, binding, className) => startWorkerd(peerConfig(file, binding, className), { [file]: source(`workers/${file}`) }, serverCore, ["storage"]);

/** What the driver prints, by metric. Nothing when it was not built: then these figures are missing, not invented. */
async function driver({ quick }, only) {
  const program = binary("skep-bench", "SKEP_BENCH");
  if (!existsSync(program)) {
    note(`no ${program}: the figures measured in process are left out (make build)`);
    return {};
  }
  const { stdout } = await promisify(execFile)(program, ["actors", "--json", "--only", only, ...(quick ? ["--quick"] : [])]).catch((failure) => {
    note(`skep-bench failed: ${String(failure.stderr).split("\n").slice(0, 4).join(" ")}`);
    process.exitCode = 1;
    return failure;
  });
  return Object.fromEntries(stdout.split("\n").filter((l) => l.startsWith("{")).map((l) => JSON.parse(l)).map((m) => [m.metric, m.value]));
}

async function rounds(sides, paths, { quick }) {
  const taken = { ours: [], peer: [] };
  for (let round = 0; round < (quick ? 2 : 6); round++) {
    for (const side of round % 2 ? ["peer", "ours"] : ["ours", "peer"]) {
      const at = { port: sides[side].port, host: sides[side].host("counter"), ...paths, connections: 32, cores: loadCore };
      await load({ ...at, seconds: 1 });
      taken[side].push(await load({ ...at, seconds: quick ? 2 : 8 }));
    }
  }
  const of = (side, key) => median(taken[side].map((t) => t[key]));
  return { ours: of("ours", "rps"), peer: of("peer", "rps"), unit: "1/s", better: "more", p99_ms: of("ours", "p99_ms"), peer_p99_ms: of("peer", "p99_ms") };
}

/** Read, change and write for each request over HTTP: one actor, then a thousand of them. */
async function rmw(options) {
  note(`read-modify-write over HTTP by ${generatorName}`);
  const { rusqlite_rps } = await driver(options, "rusqlite");
  const sides = { ours: await startSkep(ours("counter", "counter.js", "COUNTERS", "Counter"), serverCore), peer: await peer("counter.js", "COUNTERS", "Counter") };
  try {
    const one = await rounds(sides, { path: "/one" }, options);
    // Every actor has been made before the clock runs.
    for (const side of Object.values(sides)) {
      const client = new Client(side.port, side.host("counter"));
      for (let i = 0; i < 1000; i++) await client.get(`/${i}`);
      client.close();
    }
    return { rmw_one_actor_rps: { ...one, rusqlite_rps }, rmw_1000_actors_rps: await rounds(sides, { spread: 1000 }, options) };
  } finally {
    sides.ours.stop();
    sides.peer.stop();
  }
}

/** The log in process: one writer against one fsync, and 256 writers against a sync for each. */
async function ack(options) {
  note("acknowledgement: skep-bench");
  const { ack_p50_us, fsync_p50_us, commits_256_per_s } = await driver(options, "log");
  if (!ack_p50_us) return {};
  return {
    ack_p50_us: { ours: ack_p50_us, peer: fsync_p50_us, unit: "us", better: "less" },
    group_commit_gain: { ours: commits_256_per_s / (1e6 / fsync_p50_us), unit: "×", better: "more", commits_per_s: commits_256_per_s },
  };
}

/** `/v1/actors/…` of a server; the answer's body as JSON. */
async function control(server, method, name, what = "", body) {
  const id = encodeURIComponent(`ledger/Ledger/${name}`);
  const answer = await fetch(`${server.url}/v1/actors/${id}${what}`, { method, headers: { authorization: `Bearer ${server.key}`, "content-type": "application/json" }, body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${method} ${what} of ${name}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

/** One request whose answer must be good, as JSON; with the time that it took. */
async function ask(client, path) {
  const { status, body, us } = await client.get(path);
  if (status !== 200) throw new Error(`${path}: ${status} ${body}`);
  return { value: JSON.parse(body), us };
}

async function until(condition, what, ms = 60_000) {
  const end = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`${what} did not come within ${ms} ms`);
    await pause(20);
  }
}

const ledger = (settings, folder) => startSkep(folder ? {} : ours("ledger", "ledger.js", "LEDGERS", "Ledger"), serverCore, settings, folder);

/** The first answer of an actor that was put to sleep, as a client sees it. */
async function activate({ quick }) {
  note("activation: 10 MB, hibernated heap");
  const server = await ledger("[node.actors]\nidle_ms = 100\n");
  try {
    const client = new Client(server.port, server.host("ledger"));
    await ask(client, "/cold/fill?mb=10");
    const cold = [];
    const warm = [];
    for (let i = 0; i < (quick ? 5 : 30); i++) {
      await until(async () => (await control(server, "GET", "cold")).state === "asleep", "sleep");
      const first = await ask(client, "/cold/touch");
      // 1 and the 200 messages of the heap: the heap woke, and no constructor ran.
      if (first.value !== 201) throw new Error(`the heap was lost: ${first.value}`);
      cold.push(first.us / 1000);
      warm.push((await ask(client, "/cold/touch")).us / 1000);
    }
    client.close();
    return { activate_p50_ms: { ours: median(cold), unit: "ms", better: "less", p99_ms: percentile(cold, 0.99), warm_request_ms: median(warm) } };
  } finally {
    server.stop();
  }
}

/** The longest that a client of the actor waits while it is written down, beyond what a request takes anyway. */
async function checkpoint({ quick }) {
  note("checkpoints: 10 MB, 16 pages changed each time");
  const server = await ledger("");
  try {
    const client = new Client(server.port, server.host("ledger"));
    await ask(client, "/hot/fill?mb=10");
    const pauses = [];
    for (let i = 0; i < (quick ? 5 : 50); i++) {
      await ask(client, "/hot/change?pages=16");
      const usual = [];
      for (let k = 0; k < 10; k++) usual.push((await ask(client, "/hot/touch")).us / 1000);
      let written = false;
      const done = control(server, "POST", "hot", "/checkpoint").then(() => { written = true; });
      let longest = 0;
      while (!written) longest = Math.max(longest, (await ask(client, "/hot/touch")).us / 1000);
      await done;
      pauses.push(Math.max(0, longest - median(usual)));
    }
    client.close();
    return { checkpoint_pause_p50_ms: { ours: median(pauses), unit: "ms", better: "less", p99_ms: percentile(pauses, 0.99) } };
  } finally {
    server.stop();
  }
}

/** A fork through the API, from the request to the new actor's id; and the child's first answer. */
async function fork({ quick }) {
  note("forks: 10 MB");
  const server = await ledger("");
  try {
    const client = new Client(server.port, server.host("ledger"));
    await ask(client, "/parent/fill?mb=10");
    await control(server, "POST", "parent", "/fork", {});
    const taken = [];
    const first = [];
    for (let i = 0; i < (quick ? 5 : 30); i++) {
      await ask(client, "/parent/change?pages=16");
      const start = performance.now();
      await control(server, "POST", "parent", "/fork", { name: `child${i}` });
      taken.push(performance.now() - start);
      const child = await ask(client, `/child${i}/touch`);
      if (child.value !== 201) throw new Error(`the child has not its parent's heap: ${child.value}`);
      first.push(child.us / 1000);
    }
    client.close();
    return { fork_p50_ms: { ours: median(taken), unit: "ms", better: "less", p99_ms: percentile(taken, 0.99), first_answer_ms: median(first) } };
  } finally {
    server.stop();
  }
}

const diskKib = (folder) => Number(execFileSync("du", ["-sk", folder], { encoding: "utf8" }).split("\t")[0]);

async function inBatches(client, what, n, batch = 100) {
  const out = [];
  for (let from = 0; from < n; from += batch) out.push(...((await ask(client, `/-/${what}&from=${from}&n=${Math.min(batch, n - from)}`)).value));
  return out;
}

/** Many actors that do nothing: their disk beyond their rows, and how soon a node with them answers again after it was killed. */
async function herd({ quick }) {
  const n = quick ? 2_000 : 100_000;
  note(`${n} idle actors`);
  const settings = "[node.actors]\nidle_ms = 200\nawake_max = 512\n";
  const first = await ledger(settings);
  let second;
  try {
    const client = new Client(first.port, first.host("ledger"));
    await ask(client, "/-/spawn?from=0&n=1");
    const before = diskKib(first.folder);
    await inBatches(client, "spawn?", n);
    await until(async () => (await control(first, "GET", `a${n - 1}`)).state === "asleep", "sleep");
    client.close();
    await pause(500);
    const each = (diskKib(first.folder) - before) / n;
    await first.kill();
    const start = performance.now();
    second = await ledger(settings, first.folder);
    const again = new Client(second.port, second.host("ledger"));
    const answer = await ask(again, `/a${n >> 1}/touch`);
    const seconds = (performance.now() - start) / 1000;
    again.close();
    if (answer.value !== 1) throw new Error(`the actor's row is gone: ${answer.value}`);
    return { idle_disk_kib: { ours: each, unit: "KiB", better: "less", actors: n }, restart_100k_s: { ours: seconds, unit: "s", better: "less", actors: n } };
  } finally {
    second?.stop();
    first.stop();
  }
}

/**
 * Sets alarms for one moment in `n` actors, and looks when the last rang, while a client asks another actor all the time (`p99_ms`). Then each is
 * asked when that was, most of ours being asleep (`asked_s`, a hundred at once). A side that cannot make its actors within five minutes is left out: on
 * a disk with slow syncs the peer is one.
 */
async function storm(server, n) {
  let client = new Client(server.port, server.host("ledger"));
  const start = performance.now();
  const sample = Math.min(100, n);
  await inBatches(client, "spawn?", sample);
  const expected = ((performance.now() - start) / 1000) * (n / sample);
  if (expected > 300) throw new Error(`would take ${Math.round(expected)} s to make ${n} actors`);
  await inBatches(client, "spawn?", n);
  const at = Date.now() + Math.max(3000, (performance.now() - start) * 2);
  await inBatches(client, `alarms?at=${at}`, n);
  if (Date.now() > at) throw new Error("the alarms were not set in time");
  client.close();
  await pause(at - Date.now());
  client = new Client(server.port, server.host("ledger"));
  const meanwhile = [];
  while (Date.now() < at + 2000) {
    meanwhile.push((await ask(client, "/other/touch")).us / 1000);
    await pause(5);
  }
  const asking = performance.now();
  let fired = await inBatches(client, "fired?", n);
  const asked = (performance.now() - asking) / 1000;
  for (let i = 0; i < 30 && fired.includes(0); i++) {
    await pause(1000);
    fired = await inBatches(client, "fired?", n);
  }
  client.close();
  if (fired.includes(0)) throw new Error(`${fired.filter((x) => x === 0).length} of ${n} alarms have not rung`);
  return { last: (Math.max(...fired) - at) / 1000, early: fired.filter((x) => x < at).length, p99: percentile(meanwhile, 0.99), asked };
}

async function alarms({ quick }) {
  const n = quick ? 1_000 : 10_000;
  note(`${n} alarms due at once`);
  const run = async (server) => { try { return await storm(server, n); } finally { server.stop(); } };
  const mine = await run(await ledger("[node.actors]\nawake_max = 2048\n"));
  const theirs = await run(await peer("ledger.js", "LEDGERS", "Ledger")).catch((failure) => { note(`workerd: ${failure.message}`); return {}; });
  if (mine.early) throw new Error(`${mine.early} alarms rang before their time`);
  return { alarms_10k_s: { ours: mine.last, peer: theirs.last, unit: "s", better: "less", alarms: n, p99_ms: mine.p99, peer_p99_ms: theirs.p99, asked_s: mine.asked, peer_asked_s: theirs.asked } };
}

export const parts = { rmw, ack, activate, checkpoint, fork, herd, alarms };
