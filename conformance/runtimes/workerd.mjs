/**
 * npm workerd as a runtime under test: one process, one service and one socket for each bundle, all bindings that the cases use.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

export const compatibilityDate = "2026-11-01";
const require = createRequire(import.meta.url);
const kinds = { esm: "esModule", wasm: "wasm", text: "text", data: "data", json: "json" };

const quote = (text) => JSON.stringify(text);

// workerd's `cloudflare:email` is a door to a module that whoever runs it has to bring.
const email = "export default { EmailMessage: class EmailMessage { constructor(from, to, raw) { Object.assign(this, { from, to, raw }); } } };";

/** Namespaces, their databases in a folder of the run: only such have alarms that last. */
const actors = (bundle) => `
    durableObjectNamespaces = [${bundle.actors.map((c) => `(className = ${quote(c)}, uniqueKey = ${quote(`${bundle.api}-${c}`)}, enableSql = true)`).join(", ")}],
    durableObjectStorage = (localDisk = "storage"),`;

function service(bundle, origin) {
  const modules = bundle.modules.map((m) => `(name = ${quote(m.name)}, ${kinds[m.kind]} = embed ${quote(`${bundle.api}/${m.name}`)})`).join(", ");
  return `  (name = ${quote(bundle.api)}, worker = (
    modules = [${modules}],
    compatibilityDate = "${compatibilityDate}",
    compatibilityFlags = ["nodejs_compat", "experimental", "enable_nodejs_process_v2"],
    globalOutbound = "internet",
    bindings = [
      (name = "ORIGIN", text = ${quote(origin)}),
      (name = "TEXT", text = "text binding"),
      (name = "JSON", json = "{\\"a\\":[1,null,{\\"b\\":\\"c\\"}]}"),
      (name = "DATA", data = "\\x00\\x01\\xfe\\xff"),
      (name = "SELF", service = ${quote(bundle.api)}),
      ${bundle.entrypoints.map((e) => `(name = ${quote(e.toUpperCase())}, service = (name = ${quote(bundle.api)}, entrypoint = ${quote(e)})),`).join("\n      ")}
      ${bundle.actors.map((c) => `(name = ${quote(c.toUpperCase())}, durableObjectNamespace = ${quote(c)}),`).join("\n      ")}
      (name = "LOADER", workerLoader = (id = ${quote(bundle.api)})),
    ],${bundle.actors.length ? actors(bundle) : ""}
  )),`;
}

function config(bundles, origin, storage) {
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (services = [
  (name = "internet", network = (allow = ["public", "private"])),
  (name = "storage", disk = (path = ${quote(storage)}, writable = true)),
${bundles.map((b) => service(b, origin)).join("\n")}
], extensions = [(modules = [(name = "cloudflare-internal:email", internal = true, esModule = ${quote(email)})])], sockets = [
${bundles.map((b) => `  (name = ${quote(b.api)}, address = "127.0.0.1:0", http = (), service = ${quote(b.api)}),`).join("\n")}
]);
`;
}

/** Starts it; `at(api)` says where a bundle answers, `stop()` ends it. */
export async function start({ bundles, origin, folder, verbose }) {
  for (const b of bundles) {
    mkdirSync(join(folder, b.api), { recursive: true });
    for (const m of b.modules) writeFileSync(join(folder, b.api, m.name), m.bytes);
  }
  // A folder for each start: `--workerd-only` starts two, and their actors must not meet.
  const storage = mkdtempSync(join(folder, "storage-"));
  const file = join(folder, "config.capnp");
  writeFileSync(file, config(bundles, origin, storage));
  const binary = require("workerd").default;
  const child = spawn(binary, ["serve", "--experimental", "--control-fd=3", file], {
    stdio: ["ignore", verbose ? "inherit" : "ignore", verbose ? "inherit" : "pipe", "pipe"],
  });
  let errors = "";
  child.stderr?.on("data", (d) => { errors = (errors + d).slice(-4000); });
  const ports = new Map();
  await new Promise((ready, failed) => {
    let rest = "";
    child.stdio[3].on("data", (d) => {
      const lines = (rest + d).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const event = JSON.parse(line);
        if (event.event === "listen") ports.set(event.socket, event.port);
      }
      if (ports.size === bundles.length) ready();
    });
    child.on("exit", (code) => failed(new Error(`workerd ended with ${code}: ${errors}`)));
  });
  return {
    name: "workerd",
    at: (api) => ({ host: "127.0.0.1", port: ports.get(api), path: "" }),
    stop: () => child.kill("SIGKILL"),
  };
}
