/**
 * Load over HTTP/1.1 keep-alive: `wrk` where it is installed, else a generator of our own that keeps one request in flight on each connection.
 * Also single timed requests on one connection, for latencies that must not contain a connection's set-up.
 */
import { execFile, execFileSync } from "node:child_process";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const bytesOf = (host, path) => Buffer.from(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: skep-bench\r\n\r\n`);

/** Consumes answers with a content-length or in chunks; calls `answered(status, body)` for each. */
class Answers {
  #rest = Buffer.alloc(0);
  constructor(answered) { this.answered = answered; }
  push(data) {
    this.#rest = this.#rest.length ? Buffer.concat([this.#rest, data]) : data;
    for (let end = this.#end(); end > 0; end = this.#end()) this.#rest = this.#rest.subarray(end);
  }
  #end() {
    const head = this.#rest.indexOf("\r\n\r\n");
    if (head < 0) return 0;
    const text = this.#rest.toString("latin1", 0, head);
    const length = /\r\ncontent-length: *(\d+)/i.exec(text);
    let end = head + 4 + Number(length?.[1] ?? 0);
    if (!length && /\r\ntransfer-encoding: *chunked/i.test(text)) {
      const last = this.#rest.indexOf("0\r\n\r\n", head + 2);
      if (last < 0) return 0;
      end = last + 5;
    }
    if (this.#rest.length < end) return 0;
    this.answered(Number(text.slice(9, 12)), this.#rest.toString("utf8", head + 4, end));
    return end;
  }
}

/** One connection for one request after the other; `get(path)` resolves to `{ status, body, us }`. */
export class Client {
  #socket;
  #waiting;
  #answers = new Answers((status, body) => {
    const { done, start } = this.#waiting;
    done({ status, body, us: Number(process.hrtime.bigint() - start) / 1000 });
  });
  constructor(port, host) {
    this.host = host;
    this.#socket = connect(port, "127.0.0.1").setNoDelay();
    this.#socket.on("data", (d) => this.#answers.push(d));
    this.#socket.on("error", (e) => this.#waiting?.failed(e));
    this.#socket.on("close", () => this.#waiting?.failed(new Error("connection closed")));
  }
  get(path) {
    return new Promise((done, failed) => {
      if (this.#socket.destroyed) return failed(new Error("connection closed"));
      this.#waiting = { done, failed, start: process.hrtime.bigint() };
      this.#socket.write(bytesOf(this.host, path));
    });
  }
  close() {
    this.#waiting = undefined;
    this.#socket.destroy();
  }
}

export const percentile = (values, p) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * p))];
export const median = (values) => percentile(values, 0.5);

function hasWrk() {
  try {
    execFileSync("wrk", ["-v"], { stdio: "ignore" });
    return true;
  } catch (e) {
    return e.status !== undefined && e.code !== "ENOENT";
  }
}

const unit = { us: 0.001, ms: 1, s: 1000, m: 60_000 };

async function byWrk({ port, host, path, spread, seconds, connections, cores }) {
  const over = spread ? ["-s", fileURLToPath(new URL("spread.lua", import.meta.url))] : [];
  const args = ["-t1", `-c${connections}`, `-d${seconds}s`, "--latency", "-H", `Host: ${host}`, "-H", "User-Agent: skep-bench", ...over, `http://127.0.0.1:${port}${path ?? "/"}`];
  if (spread) args.push("--", String(spread));
  const { stdout } = await promisify(execFile)(...(cores === undefined ? ["wrk", args] : ["taskset", ["-c", String(cores), "wrk", ...args]]));
  const [, p99, scale] = /99%\s+([\d.]+)(us|ms|s|m)/.exec(stdout);
  const bad = /Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)/.exec(stdout);
  if (bad) throw new Error(`load on ${host}: ${bad[0]}`);
  return { rps: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)[1]), p99_ms: Number(p99) * unit[scale] };
}

async function byNode({ port, host, path, spread, seconds, connections }) {
  const latencies = [];
  const end = performance.now() + seconds * 1000;
  const one = async () => {
    const client = new Client(port, host);
    while (performance.now() < end) {
      const { status, us } = await client.get(spread ? `/${Math.floor(Math.random() * spread)}` : path);
      if (status !== 200) throw new Error(`load on ${host}: status ${status}`);
      latencies.push(us);
    }
    client.close();
  };
  await Promise.all(Array.from({ length: connections }, one));
  return { rps: latencies.length / seconds, p99_ms: percentile(latencies, 0.99) / 1000 };
}

const generator = hasWrk() ? byWrk : byNode;

/** Requests per second and the 99th percentile of latency, over `seconds` with `connections`: all for `path`, or for one of `spread` paths each. */
export const load = (options) => generator(options);
export const generatorName = generator === byWrk ? "wrk" : "node";
