/**
 * Starts the two sides as a user would: `skep up` with workers deployed through its API, and npm workerd with a configuration. Each is bound
 * to given cores by taskset. Judges nothing.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);

/** Where cargo puts a binary, unless the environment says otherwise. */
export const binary = (name, variable) => process.env[variable] ?? join(here, "../target/release", name);

/** A new folder on the repository's disk: the system's folder for such may be in memory, where a sync costs nothing. */
function newFolder() {
  const target = join(here, "../target");
  mkdirSync(target, { recursive: true });
  return mkdtempSync(join(target, "skep-bench-"));
}

export const source = (file) => readFileSync(join(here, file), "utf8");

function pinned(cores, command, args, options) {
  return cores === undefined ? spawn(command, args, options) : spawn("taskset", ["-c", String(cores), command, ...args], options);
}

function firstLine(child, stream, name) {
  return new Promise((done, failed) => {
    let text = "";
    stream.on("data", (d) => {
      text += d;
      if (text.includes("\n")) done(text.slice(0, text.indexOf("\n")));
    });
    child.on("error", failed);
    child.on("exit", (code) => failed(new Error(`${name} ended with ${code}`)));
  });
}

// The folder is for this run alone, and may be in memory.
const skepSettings = `[node.limits]\ncpu_ms = 120000\nwall_ms = 120000\n[node.log]\ntrust_any_folder = true\n`;

/**
 * `workers`: name → { main, modules: { name: text }, bindings? }; `more`: further settings as TOML. Returns
 * `{ port, pid, url, key, folder, host(name), kill(), stop() }`; `kill` leaves the folder, for a start with `folder` of what was killed.
 */
export async function startSkep(workers, cores, more = "", folder = newFolder()) {
  writeFileSync(join(folder, "skep.toml"), `${skepSettings}${more}`);
  const args = ["up", "--json", "--listen", "127.0.0.1:0", "--data", join(folder, "data"), "--config", join(folder, "skep.toml")];
  const child = pinned(cores, binary("skep", "SKEP"), args, { stdio: ["ignore", "pipe", "ignore"] });
  const { url } = JSON.parse(await firstLine(child, child.stdout, "skep"));
  const key = readFileSync(join(folder, "data/admin.key"), "utf8").trim();
  for (const [name, { main, modules, bindings }] of Object.entries(workers)) {
    const body = JSON.stringify({ main, bindings, modules: Object.fromEntries(Object.entries(modules).map(([k, js]) => [k, { js }])) });
    const answer = await fetch(`${url}/v1/workers/${name}`, { method: "PUT", headers: { authorization: `Bearer ${key}`, "content-type": "application/json" }, body });
    if (!answer.ok) throw new Error(`skep did not take ${name}: ${await answer.text()}`);
  }
  const port = Number(new URL(url).port);
  return {
    port, pid: child.pid, url, key, folder,
    host: (name) => `${name}.localhost:${port}`,
    kill: () => new Promise((gone) => { child.once("exit", gone); child.kill("SIGKILL"); }),
    stop: () => { child.kill("SIGKILL"); rmSync(folder, { recursive: true, force: true }); },
  };
}

/** `files`: name → text, beside the configuration `config`, which has one socket; `folders` are made empty. Returns `{ port, pid, stop() }`. */
export async function startWorkerd(config, files, cores, folders = []) {
  const folder = newFolder();
  for (const name of folders) mkdirSync(join(folder, name));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  writeFileSync(join(folder, "config.capnp"), config);
  const child = pinned(cores, require("workerd").default, ["serve", "--experimental", "--control-fd=3", join(folder, "config.capnp")], {
    cwd: folder, stdio: ["ignore", "ignore", "ignore", "pipe"],
  });
  const { port } = JSON.parse(await firstLine(child, child.stdio[3], "workerd"));
  return { port, pid: child.pid, host: () => `127.0.0.1:${port}`, stop: () => { child.kill("SIGKILL"); rmSync(folder, { recursive: true, force: true }); } };
}

/** Private memory of a process in KiB: what would be free again if it ended. */
export function privateKib(pid) {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return ["Private_Clean", "Private_Dirty"].reduce((sum, name) => sum + Number(new RegExp(`${name}:\\s+(\\d+)`).exec(rollup)[1]), 0);
}
