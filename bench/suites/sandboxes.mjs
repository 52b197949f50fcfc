/**
 * The suite `sandboxes`: a computer and its first command, a hundred at once, a command on a warm one, output, files, pause, fork, network, and what an idle one
 * costs. The peers are bubblewrap and crun from Debian, doing as much of the same isolation as they can: the floor, for neither has an API, files or a network. As
 * root, on the machine that the node runs on; all files are on the disk of the repository's target folder and are removed afterwards.
 */
import { execFile, execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { median, percentile } from "../load.mjs";
import { binary, privateKib, startSkep } from "../servers.mjs";

const target = join(dirname(fileURLToPath(import.meta.url)), "../../target");
const note = (text) => console.error(`· ${text}`);
const run = promisify(execFile);
const MiB = 1 << 20;

const settings = "[node.sandboxes]\nsandboxes_max = 3000\n";

/** A node's sandboxes by its own API. Connections are kept. */
class Computers {
  #agent = new Agent({ keepAlive: true, maxSockets: 256 });

  constructor(server) {
    this.server = server;
  }

  /** Sends bytes, a number of zero bytes, or JSON; resolves to `{ status, body }`, or with `each` when all of the answer was passed to it. */
  ask(method, path, { body, zeros, each, host, headers = {} } = {}) {
    return new Promise((done, failed) => {
      const json = body !== undefined && !Buffer.isBuffer(body);
      const bytes = json ? Buffer.from(JSON.stringify(body)) : body;
      const length = zeros ?? bytes?.length ?? 0;
      const sent = request({
        agent: this.#agent, host: "127.0.0.1", port: this.server.port, method, path,
        headers: { authorization: `Bearer ${this.server.key}`, ...(host && { host }), ...(json && { "content-type": "application/json" }), "content-length": length, ...headers },
      }, (answer) => {
        const pieces = [];
        answer.on("data", each ?? ((piece) => pieces.push(piece)));
        answer.on("end", () => done({ status: answer.statusCode, body: Buffer.concat(pieces) }));
        answer.on("error", failed);
      });
      sent.on("error", failed);
      if (zeros === undefined) return sent.end(bytes);
      const piece = Buffer.alloc(MiB);
      let left = zeros;
      const more = () => {
        while (left > 0) {
          const n = Math.min(left, piece.length);
          left -= n;
          if (!sent.write(n === piece.length ? piece : piece.subarray(0, n))) return sent.once("drain", more);
        }
        sent.end();
      };
      more();
    });
  }

  async good(method, path, options) {
    const answer = await this.ask(method, path, options);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.body.toString().slice(0, 500)}`);
    return answer.body;
  }

  async create(more = {}) {
    return JSON.parse(await this.good("POST", "/v1/sandboxes", { body: { ...more } })).id;
  }

  /** The exit code of a command. */
  async exec(id, argv, each) {
    const body = await this.good("POST", `/v1/sandboxes/${id}/exec`, { body: { argv }, each });
    if (each !== undefined) return undefined;
    const { exited, lost } = JSON.parse(body.toString().trim().split("\n").at(-1));
    if (exited === undefined) throw new Error(`${argv[0]} was lost: ${lost}`);
    return exited.code;
  }

  remove(id) {
    return this.good("DELETE", `/v1/sandboxes/${id}`);
  }

  close() {
    this.#agent.destroy();
  }
}

/** A node for one part. What its sandboxes are goes with it. */
async function withNode(part, folder, more = settings) {
  const server = await startSkep({}, undefined, more, folder);
  const computers = new Computers(server);
  const made = [];
  try {
    return await part(computers, (id) => (made.push(id), id), server);
  } finally {
    // Sandboxes outlive their node: they are removed by it.
    for (const id of made) await computers.remove(id).catch((e) => note(`${id} was not removed: ${e.message}`));
    computers.close();
    server.stop();
  }
}

async function timed(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

// --- peers -------------------------------------------------------------------------------------------------------------------

const has = (program) => spawnSync(program, ["--version"], { stdio: "ignore" }).error === undefined;
const linked = ["bin", "sbin", "lib", "lib64"].filter((name) => existsSync(`/usr/${name}`));

const bwrapArguments = [
  "--unshare-all", "--uid", "1000", "--gid", "1000", "--ro-bind", "/usr", "/usr", ...linked.flatMap((name) => ["--symlink", `usr/${name}`, `/${name}`]),
  "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/home", "--die-with-parent", "--cap-drop", "ALL", "true",
];

async function bwrap(times) {
  if (!has("bwrap")) return note("no bwrap: its figures are left out (apt-get install bubblewrap)");
  const taken = [];
  for (let i = 0; i < times; i++) taken.push(await timed(() => run("bwrap", bwrapArguments)));
  return { p50: median(taken), p99: percentile(taken, 0.99) };
}

/** A bundle whose root shows the host's /usr read-only. */
function bundle(folder) {
  const root = join(folder, "rootfs");
  for (const name of ["usr", "proc", "dev", "tmp", "home"]) mkdirSync(join(root, name), { recursive: true });
  for (const name of linked) symlinkSync(`usr/${name}`, join(root, name));
  execFileSync("crun", ["spec"], { cwd: folder });
  const file = join(folder, "config.json");
  const config = JSON.parse(readFileSync(file, "utf8"));
  Object.assign(config.process, { terminal: false, args: ["true"], user: { uid: 1000, gid: 1000 } });
  config.mounts.push({ destination: "/usr", source: "/usr", type: "bind", options: ["bind", "ro"] });
  writeFileSync(file, JSON.stringify(config));
}

async function crun(times) {
  if (!has("crun")) return note("no crun: its figures are left out (apt-get install crun)");
  const folder = mkdtempSync(join(target, "skep-bench-crun-"));
  try {
    bundle(folder);
    const taken = [];
    for (let i = 0; i < times; i++) taken.push(await timed(() => run("crun", ["run", "--bundle", folder, `skep-bench-${process.pid}-${i}`])));
    return { p50: median(taken), p99: percentile(taken, 0.99) };
  } catch (e) {
    return note(`crun does not run here: ${String(e.stderr ?? e.message).trim().split("\n")[0]}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

// --- parts -------------------------------------------------------------------------------------------------------------------

/** From the request for a sandbox to the end of its first command, one after the other. */
async function create({ quick }) {
  const times = quick ? 10 : 100;
  note(`create and first command, ${times} times`);
  const taken = await withNode(async (computers, keep) => {
    const taken = [];
    for (let i = 0; i < times + 3; i++) {
      let id;
      taken.push(await timed(async () => {
        id = keep(await computers.create());
        await computers.exec(id, ["true"]);
      }));
    }
    return taken.slice(3);
  });
  const [floor, oci] = [await bwrap(times), await crun(times)];
  const more = { unit: "ms", better: "less", crun: oci && oci.p50 };
  return {
    create_exec_p50_ms: { ours: median(taken), peer: floor?.p50, ...more },
    create_exec_p99_ms: { ours: percentile(taken, 0.99), peer: floor?.p99, ...more, crun: oci && oci.p99 },
  };
}

/** A hundred at once, each with its first command. */
async function burst({ quick }) {
  const times = quick ? 20 : 100;
  note(`${times} at once`);
  return withNode(async (computers, keep) => {
    keep(await computers.create());
    let last = 0, ok = 0;
    const start = performance.now();
    await Promise.all(Array.from({ length: times }, async () => {
      try {
        const id = keep(await computers.create());
        await computers.exec(id, ["true"]);
        ok++;
        last = Math.max(last, performance.now() - start);
      } catch (e) {
        note(e.message);
      }
    }));
    return { burst100_ok: { ours: ok, unit: `of ${times}`, better: "more" }, burst100_last_ms: { ours: last, unit: "ms", better: "less" } };
  });
}

/** A command that does nothing, and what a program that writes as fast as it can brings through the JSON wire. */
async function exec({ quick }) {
  note("commands on a warm sandbox");
  return withNode(async (computers, keep) => {
    const id = keep(await computers.create());
    const taken = [];
    for (let i = 0; i < (quick ? 50 : 1000); i++) taken.push(await timed(() => computers.exec(id, ["/bin/true"])));
    const bytes = (quick ? 64 : 512) * MiB;
    let came = 0;
    const took = await timed(() => computers.exec(id, ["head", "-c", String(bytes), "/dev/zero"], (piece) => { came += piece.length; }));
    if (came < bytes) throw new Error(`${came} bytes of an answer cannot hold ${bytes}`);
    return {
      exec_rtt_p50_ms: { ours: median(taken), unit: "ms", better: "less", p99_ms: percentile(taken, 0.99) },
      stream_mb_s: { ours: bytes / 1e3 / took, unit: "MB/s", better: "more" },
    };
  });
}

const fileOf = (id, path) => `/v1/sandboxes/${id}/files?path=${encodeURIComponent(path)}`;

/** A multipart body of many files for E2B's wire. */
function multipart(files, boundary) {
  const parts = files.flatMap(([path, bytes]) => [Buffer.from(`--${boundary}\r\ncontent-disposition: form-data; name="file"; filename="${path}"\r\n\r\n`), bytes, Buffer.from("\r\n")]);
  return Buffer.concat([...parts, Buffer.from(`--${boundary}--\r\n`)]);
}

/** One large file up and down, and many small ones, several to a request, as E2B's packages send them. */
async function files({ quick }) {
  note("files");
  return withNode(async (computers, keep, server) => {
    const id = keep(await computers.create({ limits: { memory_mb: 2048 } }));
    const bytes = (quick ? 64 : 512) * MiB;
    const up = [], down = [];
    for (let i = 0; i < (quick ? 1 : 3); i++) {
      up.push(bytes / 1e3 / (await timed(() => computers.good("PUT", fileOf(id, "/home/user/large"), { zeros: bytes }))));
      let came = 0;
      down.push(bytes / 1e3 / (await timed(() => computers.good("GET", fileOf(id, "/home/user/large"), { each: (piece) => { came += piece.length; } }))));
      if (came !== bytes) throw new Error(`${came} bytes came of ${bytes}`);
    }
    const figures = { upload_mb_s: { ours: median(up), unit: "MB/s", better: "more" }, download_mb_s: { ours: median(down), unit: "MB/s", better: "more" } };
    const count = quick ? 1000 : 10_000, content = Buffer.alloc(1024, 120);
    const host = `49983-${id}.${server.host("x").split(".").slice(1).join(".")}`;
    const envd = (await computers.ask("GET", "/health", { host })).status === 204;
    const batches = Array.from({ length: 16 }, (_, n) => Array.from({ length: Math.ceil(count / 16) }, (_, i) => [`/home/user/small/${n}/${i}`, content]));
    const token = envd ? (await tokenOf(computers, id)) : undefined;
    const took = await timed(() => Promise.all(batches.map(async (batch) => {
      if (!envd) {
        for (const [path, bytes] of batch) await computers.good("PUT", fileOf(id, path), { body: bytes });
        return;
      }
      for (let at = 0; at < batch.length; at += 100) {
        const body = multipart(batch.slice(at, at + 100), "skep-bench");
        await computers.good("POST", "/files?username=user", { host, body, headers: { "content-type": "multipart/form-data; boundary=skep-bench", ...(token && { "x-access-token": token }) } });
      }
    })));
    return { ...figures, small_files_per_s: { ours: (batches.length * batches[0].length) / (took / 1e3), unit: "1/s", better: "more", by: envd ? "multipart" : "one by one" } };
  });
}

/** What E2B's packages show to the sandbox's file API, where it is asked for. */
async function tokenOf(computers, id) {
  const answer = await computers.ask("POST", `/v2/sandboxes/${id}/connect`, { body: {}, headers: { "x-api-key": computers.server.key } });
  return answer.status < 300 ? JSON.parse(answer.body).envdAccessToken : undefined;
}

async function pause({ quick }) {
  note("pause and resume");
  return withNode(async (computers, keep) => {
    const id = keep(await computers.create());
    await computers.exec(id, ["sh", "-c", "for i in 1 2 3 4 5; do sleep 1000 > /dev/null 2>&1 & done"]);
    const stood = [], went = [];
    for (let i = 0; i < (quick ? 10 : 100); i++) {
      stood.push(await timed(() => computers.good("POST", `/v1/sandboxes/${id}/pause`)));
      went.push(await timed(() => computers.good("POST", `/v1/sandboxes/${id}/resume`, { body: {} })));
    }
    return {
      pause_p50_ms: { ours: median(stood), unit: "ms", better: "less", p99_ms: percentile(stood, 0.99) },
      resume_p50_ms: { ours: median(went), unit: "ms", better: "less", p99_ms: percentile(went, 0.99) },
    };
  });
}

/** Gives the part a folder on a reflinking file system of its own; nothing where there is none. */
async function onXfs(part) {
  if (!has("mkfs.xfs") && spawnSync("mkfs.xfs", ["-V"], { stdio: "ignore" }).error) return note("no mkfs.xfs: forks on a reflinking file system are left out (apt-get install xfsprogs)");
  const place = mkdtempSync(join(target, "skep-bench-xfs-"));
  const [image, mounted] = [join(place, "image"), join(place, "mounted")];
  mkdirSync(mounted);
  execFileSync("truncate", ["-s", "6G", image]);
  execFileSync("mkfs.xfs", ["-q", "-m", "reflink=1", image]);
  execFileSync("mount", ["-o", "loop", image, mounted]);
  try {
    const folder = join(mounted, "node");
    mkdirSync(folder);
    return await part(folder);
  } finally {
    execFileSync("umount", ["-l", mounted]);
    rmSync(place, { recursive: true, force: true });
  }
}

/** A workspace of 20,000 files and 1 GB, forked. */
async function forked({ quick }, folder) {
  const [count, bytes] = quick ? [2000, 100_000_000] : [20_000, 1_000_000_000];
  return withNode(async (computers, keep) => {
    const id = keep(await computers.create({ limits: { memory_mb: 1024 } }));
    const each = Math.floor(bytes / count);
    const made = await computers.exec(id, ["sh", "-c", `mkdir -p w && cd w && for d in $(seq 0 99); do mkdir $d; done; i=0; while [ $i -lt ${count} ]; do head -c ${each} /dev/urandom > $((i % 100))/$i; i=$((i + 1)); done`]);
    if (made !== 0) throw new Error(`the workspace was not made: ${JSON.stringify(made)}`);
    const taken = [];
    for (let i = 0; i < (quick ? 2 : 5); i++) {
      // Something changed since the last one, as in work.
      await computers.exec(id, ["sh", "-c", `echo ${i} > w/changed`]);
      let answer;
      taken.push(await timed(async () => { answer = await computers.ask("POST", `/sandboxes/${id}/fork`, { body: { count: 1 }, headers: { "x-api-key": computers.server.key } }); }));
      if (answer.status !== 201) return note(`no forks here: ${answer.status} ${answer.body.toString().slice(0, 200)}`);
      const child = JSON.parse(answer.body)[0].sandbox.sandboxID;
      keep(child);
      const seen = await computers.exec(child, ["sh", "-c", `test $(cat w/changed) = ${i} && test $(find w -type f | wc -l) = ${count + 1}`]);
      if (seen !== 0) throw new Error(`the fork is not its parent: ${JSON.stringify(seen)}`);
    }
    // The first one copies what there is; those after it cost what has changed.
    return { ours: median(taken), unit: "ms", better: "less", first_ms: taken[0] };
  }, folder);
}

async function fork(options) {
  note("forks of a workspace");
  const [reflink, plain] = [await onXfs((folder) => forked(options, folder)), await forked(options)];
  return { ...(reflink && { fork_1gb_reflink_ms: reflink }), ...(plain && { fork_1gb_plain_ms: plain }) };
}

/** The userspace network alone, next to a veth pair: measured in process by the driver. */
async function net({ quick }) {
  const program = binary("skep-bench", "SKEP_BENCH");
  if (!existsSync(program)) {
    note(`no ${program}: the network's figures are left out (make build)`);
    return {};
  }
  note("network: skep-bench");
  const { stdout } = await run(program, ["network", "--json", ...(quick ? ["--quick"] : [])]).catch((failure) => {
    note(`skep-bench network failed: ${String(failure.stderr ?? failure).split("\n").slice(0, 3).join(" ")}`);
    process.exitCode = 1;
    return { stdout: String(failure.stdout ?? "") };
  });
  const of = Object.fromEntries(stdout.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line)).map((m) => [m.metric, m.value]));
  const veth = of.veth_out_gbit_s && Math.min(of.veth_out_gbit_s, of.veth_in_gbit_s);
  return {
    ...(of.net_gbit_s && { net_gbit_s: { ours: of.net_gbit_s, peer: veth, unit: "Gbit/s", better: "more", per_core: of.net_gbit_s_core, out: of.net_out_gbit_s, in: of.net_in_gbit_s } }),
    ...(of.net_connect_p50_ms && { net_connect_p50_ms: { ours: of.net_connect_p50_ms, peer: of.veth_connect_p50_ms, unit: "ms", better: "less", flows: of.net_flows } }),
  };
}

/** What processes have for themselves of memory, with their part of what they share. */
function pssKib(pid) {
  try {
    return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))[1]);
  } catch {
    return 0;
  }
}

/** Processes in the cgroups of these sandboxes, under any hierarchy. */
function processesOf(ids) {
  const pids = new Set();
  const look = (folder, depth) => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (!entry.isDirectory()) continue;
      const path = join(folder, entry.name);
      if (ids.some((id) => entry.name.endsWith(id))) {
        for (const pid of readFileSync(join(path, "cgroup.procs"), "utf8").split("\n").filter(Boolean)) pids.add(Number(pid));
      } else if (depth > 0) look(path, depth - 1);
    }
  };
  look("/sys/fs/cgroup", 3);
  return [...pids];
}

/** What an idle sandbox has of ours: its init, and what the node keeps for it. And as many as can be parked. */
async function idle({ quick }) {
  const count = quick ? 20 : 100, parked = quick ? 50 : 1000;
  note(`${count} idle, ${parked} parked`);
  return withNode(async (computers, keep, server) => {
    await computers.exec(keep(await computers.create()), ["true"]);
    const before = privateKib(server.pid);
    const ids = [];
    const more = async (n) => {
      for (let at = 0; at < n; at += 10) await Promise.all(Array.from({ length: Math.min(10, n - at) }, async () => { ids.push(keep(await computers.create())); }));
    };
    await more(count);
    await new Promise((done) => setTimeout(done, 3000));
    const ours = processesOf(ids).reduce((sum, pid) => sum + pssKib(pid), 0) + Math.max(0, privateKib(server.pid) - before);
    const rss = ours / ids.length;
    let stood = 0;
    try {
      for (const id of ids) {
        await computers.good("POST", `/v1/sandboxes/${id}/pause`);
        stood++;
      }
      while (stood < parked) {
        const from = ids.length;
        await more(Math.min(50, parked - stood));
        for (const id of ids.slice(from)) {
          await computers.good("POST", `/v1/sandboxes/${id}/pause`);
          stood++;
        }
      }
      // Any of them goes on at once.
      await computers.good("POST", `/v1/sandboxes/${ids[0]}/resume`, { body: {} });
      if ((await computers.exec(ids[0], ["true"])) !== 0) throw new Error("a parked sandbox does not go on");
    } catch (e) {
      note(`${stood} parked, then: ${e.message}`);
    }
    return { idle_rss_kib: { ours: rss, unit: "KiB", better: "less" }, parked_count: { ours: stood, unit: `of ${parked}`, better: "more" } };
  });
}

if (process.getuid() !== 0) throw new Error("sandboxes need root here; run the suite as root");

export const parts = { create, burst, exec, files, pause, fork, net, idle };
