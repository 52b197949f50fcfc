/**
 * The suite `isolates`: starts, memory, churn, hibernation (ours in process, by the driver `skep-bench`; the peer by its Worker Loader),
 * requests over HTTP on both, and compute against node with and without its JIT. Both sides get the same single core; the load generator has
 * the other one. Rounds of the two sides alternate, so that a disturbance of the machine meets both.
 */
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Client, generatorName, load, median, percentile } from "../load.mjs";
import { binary, privateKib, source, startSkep, startWorkerd } from "../servers.mjs";

const serverCore = 0;
const loadCore = 1;
const compute = ["fib", "loop", "json", "map", "regex", "sort", "string", "parse"];
const driverMetrics = {
  cold_start_p50_us: "less", cold_start_p99_us: "less", live_private_kib: "less", live_instances: "more", churn_per_s: "more",
  churn_growth_kib_per_100k: "less", hibernate_p50_us: "less", hibernated_kib: "less", wake_p50_us: "less", fork_p50_us: "less",
};

const note = (text) => console.error(`· ${text}`);

const plainConfig = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = (modules = [(name = "json.js", esModule = embed "json.js")], compatibilityDate = "2026-11-01"))],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
`;

const loaderConfig = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = (
    modules = [(name = "host.js", esModule = embed "host.js")], compatibilityDate = "2026-11-01", compatibilityFlags = ["experimental"],
    bindings = [(name = "LOADER", workerLoader = ()), (name = "CODE", text = embed "json.js")],
  ))],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
`;

/** What the driver prints, by metric. Nothing when it was not built: then these figures are missing, not invented. */
async function ours({ quick }) {
  const driver = binary("skep-bench", "SKEP_BENCH");
  if (!existsSync(driver)) {
    note(`no ${driver}: the figures measured in process are left out (cargo build --release -p skep-bench)`);
    return {};
  }
  note("in process: skep-bench");
  const args = ["-c", String(serverCore), driver, "isolates", "--json", ...(quick ? ["--quick"] : [])];
  // A part that fails must be seen, but not cost the figures of the others.
  const { stdout } = await promisify(execFile)("taskset", args, { maxBuffer: 1 << 24 }).catch((failure) => {
    note(`skep-bench failed: ${String(failure.stderr).split("\n").slice(0, 4).join(" ")}`);
    process.exitCode = 1;
    return failure;
  });
  return Object.fromEntries(stdout.split("\n").filter((l) => l.startsWith("{")).map((l) => JSON.parse(l)).map((m) => [m.metric, m]));
}

/** Worker Loader: time from code string to answer, and private memory of each loaded worker. */
async function peerStarts({ quick }) {
  note("workerd: Worker Loader");
  const n = quick ? 100 : 400;
  const server = await startWorkerd(loaderConfig, { "host.js": source("workers/loader-host.js"), "json.js": source("workers/json.js") }, serverCore);
  try {
    const client = new Client(server.port, server.host());
    for (let i = 0; i < 20; i++) await client.get("/cold");
    const idle = [];
    const cold = [];
    for (let i = 0; i < n; i++) {
      idle.push((await client.get("/noop")).us);
      cold.push((await client.get("/cold")).us);
    }
    const inside = JSON.parse((await client.get(`/batch?n=${n / 4}`)).body).ms * 1000 / (n / 4);
    const base = median(idle);
    note(`workerd: cold p50 ${Math.round(median(cold) - base)} µs timed from outside, mean ${Math.round(inside)} µs from inside`);
    client.close();
    return { cold_start_p50_us: median(cold) - base, cold_start_p99_us: percentile(cold, 0.99) - base, inside };
  } finally {
    server.stop();
  }
}

/** A process of its own, in which nothing was collected or kept before. */
async function peerMemory({ quick }) {
  const n = quick ? 100 : 300;
  const server = await startWorkerd(loaderConfig, { "host.js": source("workers/loader-host.js"), "json.js": source("workers/json.js") }, serverCore);
  try {
    const client = new Client(server.port, server.host());
    await client.get("/hold?n=20");
    const before = privateKib(server.pid);
    for (let i = 0; i < n; i += 20) await client.get("/hold?n=20");
    const kib = (privateKib(server.pid) - before) / n;
    client.close();
    return kib;
  } finally {
    server.stop();
  }
}

async function http({ quick }) {
  note(`requests over HTTP by ${generatorName}`);
  const seconds = quick ? 2 : 8;
  const sides = {
    ours: await startSkep({ json: { main: "json.js", modules: { "json.js": source("workers/json.js") } } }, serverCore),
    peer: await startWorkerd(plainConfig, { "json.js": source("workers/json.js") }, serverCore),
  };
  const taken = { ours: [], peer: [] };
  try {
    for (let round = 0; round < (quick ? 2 : 6); round++) {
      for (const side of round % 2 ? ["peer", "ours"] : ["ours", "peer"]) {
        const at = { port: sides[side].port, host: sides[side].host("json"), path: "/hello/there?name=bee", connections: 32, cores: loadCore };
        await load({ ...at, seconds: 1 });
        taken[side].push(await load({ ...at, seconds }));
      }
    }
  } finally {
    sides.ours.stop();
    sides.peer.stop();
  }
  const of = (side, key) => median(taken[side].map((t) => t[key]));
  return {
    http_rps: { ours: of("ours", "rps"), peer: of("peer", "rps"), unit: "1/s", better: "more" },
    http_p99_ms: { ours: of("ours", "p99_ms"), peer: of("peer", "p99_ms"), unit: "ms", better: "less" },
  };
}

/** A node process that runs one compute module whenever it is told to, and answers with time and checksum. */
class Node {
  constructor(name, flags) {
    const module = fileURLToPath(new URL(`../compute/${name}.js`, import.meta.url));
    const code = `const { run } = await import(${JSON.stringify(module)}); process.on("message", () => { const t = process.hrtime.bigint(); const sum = run(); process.send({ ms: Number(process.hrtime.bigint() - t) / 1e6, sum }); });`;
    this.child = spawn("taskset", ["-c", String(serverCore), process.execPath, ...flags, "--input-type=module", "-e", code], { stdio: ["ignore", "ignore", "ignore", "ipc"] });
  }
  run() {
    return new Promise((done, failed) => {
      this.child.once("message", done);
      this.child.once("exit", (code) => failed(new Error(`node ended with ${code}`)));
      this.child.send(0);
    });
  }
  stop() { this.child.kill("SIGKILL"); }
}

/** The module behind a request to skep; the time is taken from outside, since a worker's clock stands still within a turn. */
class Worker {
  constructor(server, name) { this.client = new Client(server.port, server.host(name)); }
  async run() {
    const { status, body, us } = await this.client.get("/");
    if (status !== 200) throw new Error(`skep answered ${status}: ${body}`);
    return { ms: us / 1000, sum: JSON.parse(body) };
  }
  stop() { this.client.close(); }
}

async function computeOne(server, name, rounds) {
  const sides = { ours: new Worker(server, name), peer: new Node(name, ["--jitless"]), jit: new Node(name, []) };
  const taken = { ours: [], peer: [], jit: [] };
  try {
    let sum;
    for (let round = 0; round <= rounds; round++) {
      for (const side of Object.keys(sides)) {
        const one = await sides[side].run();
        sum ??= one.sum;
        if (one.sum !== sum) throw new Error(`${name}: ${side} computed ${one.sum}, not ${sum}`);
        if (round > 0) taken[side].push(one.ms);
      }
    }
  } finally {
    for (const side of Object.values(sides)) side.stop();
  }
  return { ours: median(taken.ours), peer: median(taken.peer), unit: "ms", better: "less", jit: median(taken.jit) };
}

async function computeAll({ quick }) {
  const worker = 'import { run } from "./compute.js";\nexport default { fetch: () => Response.json(run()) };\n';
  const server = await startSkep(Object.fromEntries(compute.map((name) => [name, { main: "worker.js", modules: { "worker.js": worker, "compute.js": source(`compute/${name}.js`) } }])), serverCore);
  const out = {};
  try {
    for (const name of compute) {
      note(`compute: ${name}`);
      out[`compute_${name}_ms`] = await computeOne(server, name, quick ? 3 : 9);
    }
  } finally {
    server.stop();
  }
  return out;
}

async function starts(options) {
  const driver = await ours(options);
  const peer = { ...(await peerStarts(options)), live_private_kib: await peerMemory(options) };
  return Object.fromEntries(Object.entries(driverMetrics).map(([name, better]) => [
    name, { ours: driver[name]?.value, peer: peer[name], unit: driver[name]?.unit ?? (name.endsWith("_us") ? "us" : "KiB"), better },
  ]).filter(([, m]) => m.ours !== undefined || m.peer !== undefined));
}

export const parts = { starts, http, compute: computeAll };
