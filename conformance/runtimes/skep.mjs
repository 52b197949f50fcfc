/**
 * skep as a runtime under test: `skep up` on a free port with a data folder of its own, one deployed worker for each bundle, reached by host
 * name. The binary is `$SKEP` or target/release/skep; `$SKEP_IMAGE` names another guest image than the one in it.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const binary = process.env.SKEP ?? join(dirname(fileURLToPath(import.meta.url)), "../../target/release/skep");

const image = process.env.SKEP_IMAGE;

// The origin of the cases is this machine, and state between requests is looked at, so: any address, one isolate for each worker. The folder is
// for this run alone, and may be in memory.
const settings = `[node]\negress = "any"\n[node.log]\ntrust_any_folder = true\n[node.pool]\nisolates_per_worker_max = 1\n[server]\ndrain_ms = 100\n`;

const base64 = (bytes) => Buffer.from(bytes).toString("base64");
const module = {
  esm: (bytes) => ({ js: Buffer.from(bytes).toString("utf8") }),
  text: (bytes) => ({ text: Buffer.from(bytes).toString("utf8") }),
  json: (bytes) => ({ json: JSON.parse(Buffer.from(bytes).toString("utf8")) }),
  data: (bytes) => ({ data: base64(bytes) }),
  wasm: (bytes) => ({ wasm: base64(bytes) }),
};

function deployment(bundle, origin) {
  const entrypoints = bundle.entrypoints.map((e) => [e.toUpperCase(), { type: "service", worker: bundle.api, entrypoint: e }]);
  const actors = bundle.actors.map((c) => [c.toUpperCase(), { type: "actors", class_name: c }]);
  return {
    main: bundle.main,
    modules: Object.fromEntries(bundle.modules.map((m) => [m.name, module[m.kind](m.bytes)])),
    bindings: {
      ORIGIN: { type: "text", value: origin },
      TEXT: { type: "text", value: "text binding" },
      JSON: { type: "json", value: { a: [1, null, { b: "c" }] } },
      DATA: { type: "data", base64: base64([0, 1, 0xfe, 0xff]) },
      SELF: { type: "service", worker: bundle.api },
      ...Object.fromEntries(entrypoints),
      ...Object.fromEntries(actors),
      LOADER: { type: "loader" },
    },
    compatibility_date: "2026-11-01",
    compatibility_flags: ["nodejs_compat"],
  };
}

function ready(child) {
  return new Promise((done, failed) => {
    let text = "";
    child.stdout.on("data", (d) => {
      text += d;
      if (text.includes("\n")) done(JSON.parse(text.slice(0, text.indexOf("\n"))));
    });
    child.on("error", failed);
    child.on("exit", (code) => failed(new Error(`skep ended with ${code}`)));
  });
}

async function deploy(url, key, bundle, origin) {
  const answer = await fetch(`${url}/v1/workers/${bundle.api}`, {
    method: "PUT",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify(deployment(bundle, origin)),
  });
  if (!answer.ok) console.error(`skep did not take ${bundle.api}: ${answer.status} ${await answer.text()}`);
}

/** Starts it; `at(api)` says where a bundle answers, `stop()` ends it. */
export async function start({ bundles, origin, folder, verbose }) {
  if (!existsSync(binary)) throw new Error(`there is no ${binary}; build it, or set SKEP`);
  const data = join(folder, "skep");
  mkdirSync(data, { recursive: true });
  writeFileSync(join(folder, "skep.toml"), settings);
  const arguments_ = ["up", "--json", "--listen", "127.0.0.1:0", "--data", data, "--config", join(folder, "skep.toml"), ...(image ? ["--image", image] : [])];
  const child = spawn(binary, arguments_, { stdio: ["ignore", "pipe", verbose ? "inherit" : "ignore"] });
  const { url } = await ready(child);
  const key = readFileSync(join(data, "admin.key"), "utf8").trim();
  for (const bundle of bundles) await deploy(url, key, bundle, origin);
  const { port } = new URL(url);
  return {
    name: "skep",
    at: (api) => ({ host: "127.0.0.1", port, path: "", headers: { host: `${api}.localhost:${port}` } }),
    stop: () => child.kill("SIGKILL"),
  };
}
