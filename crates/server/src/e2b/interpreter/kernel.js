// A JavaScript context: cells run in this process's main thread, as a program types them at a prompt (declarations stay, `await` anywhere, the last
// expression is the result), by the engine's own inspector. A second thread takes the commands, so that a cell that never ends can still be ended. Started by
// bridge.js; commands come on descriptor 3, what is to be said goes to 4.
"use strict";
const fs = require("node:fs");
const { Session } = require("node:inspector");
const module_ = require("node:module");
const { resolve } = require("node:path");
const { pathToFileURL } = require("node:url");
const { inspect } = require("node:util");
const { Worker } = require("node:worker_threads");

const language = process.argv[1];
const LOAD = 'globalThis[Symbol.for("skep.load")]';
const DISPLAY = Symbol.for("Jupyter.display");
const MIMES = {
  "text/plain": "text", "text/html": "html", "text/markdown": "markdown", "image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpeg",
  "application/pdf": "pdf", "text/latex": "latex", "application/json": "json", "application/javascript": "javascript", "e2b/data": "data", "e2b/chart": "chart",
};
const JSON_MAX = 1 << 20;

// The cell's code shares this thread: what is needed after it ran is taken before.
const { parse, stringify } = JSON;
const write = { out: process.stdout.write.bind(process.stdout), error: process.stderr.write.bind(process.stderr) };
const beat = new Int32Array(new SharedArrayBuffer(4));
setInterval(() => Atomics.add(beat, 0, 1), 20);

/** The import of a cell: relative to the context's folder. */
const load = (name) => import(/^\.{0,2}\//.test(name) ? pathToFileURL(resolve(process.cwd(), name)).href : name);
Object.defineProperty(globalThis, Symbol.for("skep.load"), { value: load });
Object.defineProperty(globalThis, "require", { value: module_.createRequire(resolve(process.cwd(), "cell.js")), writable: true, configurable: true });
// What a forgotten promise or timer throws belongs to no cell any more, and does not end the context.
process.on("uncaughtException", (error) => console.error(error));
process.on("unhandledRejection", (error) => console.error(error));
// It would wait for the second thread's inspector to let go of it.
process.on("exit", () => process.kill(process.pid, "SIGKILL"));

function say(message) {
  let left = Buffer.from(`${stringify(message)}\n`);
  while (left.length > 0) {
    try {
      left = left.subarray(fs.writeSync(4, left));
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

// --- what a cell's value is to a client --------------------------------------------------------------------------------------

/** A value as a bundle of media types. */
async function shown(value) {
  const given = value !== null && (typeof value === "object" || typeof value === "function") ? value[DISPLAY] : undefined;
  if (typeof given === "function") return await given.call(value);
  const bundle = { "text/plain": typeof value === "string" ? value : inspect(value, { depth: 4, maxArrayLength: 200, maxStringLength: 100_000 }) };
  if (typeof value === "object" && value !== null && !(value instanceof Promise)) {
    try {
      const json = stringify(value);
      if (json !== undefined && json.length < JSON_MAX) bundle["application/json"] = parse(json);
    } catch {
      // It is shown as text only.
    }
  }
  return bundle;
}

function told(id, bundle) {
  const known = {}, extra = {};
  for (const [mime, value] of Object.entries(bundle ?? {})) (mime in MIMES ? known : extra)[MIMES[mime] ?? mime] = value;
  say({ id, type: "result", is_main_result: true, ...known, ...(Object.keys(extra).length > 0 ? { extra } : {}) });
}

function fault(id, error) {
  const text = (read) => {
    try {
      return String(read());
    } catch {
      return "";
    }
  };
  const is = error !== null && typeof error === "object";
  const name = is ? text(() => error.name ?? "Error") : "Error";
  const value = text(() => (is ? (error.message ?? "") : error));
  // What lies below the cell is ours.
  const traceback = is && typeof error.stack === "string" ? error.stack.split("\n    at Session.post ")[0] : `${name}: ${value}`;
  say({ id, type: "error", name, value, traceback });
}

// --- imports -----------------------------------------------------------------------------------------------------------------

/** Where the text, string, comment or pattern that begins at `at` ends. */
function pastToken(code, at, previous) {
  const c = code[at];
  if (c === '"' || c === "'") {
    let i = at + 1;
    while (i < code.length && code[i] !== c) i += code[i] === "\\" ? 2 : 1;
    return i + 1;
  }
  const after = (mark, from) => (code.indexOf(mark, from) < 0 ? code.length : code.indexOf(mark, from) + mark.length);
  if (c === "/" && code[at + 1] === "/") return after("\n", at);
  if (c === "/" && code[at + 1] === "*") return after("*/", at + 2);
  if (c === "/" && /^$|[(,=:[!&|?{};+\-*%~^<>]$|\b(return|typeof|case|in|of|await|yield)$/.test(previous)) {
    let i = at + 1;
    for (let set = false; i < code.length && code[i] !== "\n" && (set || code[i] !== "/"); i++) {
      if (code[i] === "\\") i++;
      else if (code[i] === "[") set = true;
      else if (code[i] === "]") set = false;
    }
    return i + 1;
  }
  return at;
}

const STATIC = /import\s+(?:([\w$*{}\s,]+?)\s*from\s*)?(["'])([^"'\n]+)\2(?:\s+with\s*\{[^}]*\})?[ \t]*;?/y;

/** `import a, { b as c } from "m"` as a declaration with `await`: what is typed at a prompt is no module. */
function declaration(names, name) {
  const loaded = `await ${LOAD}(${JSON.stringify(name)})`;
  if (names === undefined) return `${loaded};`;
  const star = /\*\s*as\s+([\w$]+)/.exec(names);
  const braces = /\{([^}]*)\}/.exec(names);
  const first = /^[\w$]+/.exec(names.trim());
  const parts = (braces?.[1] ?? "").split(",").map((part) => part.trim()).filter(Boolean).map((part) => part.replace(/\s+as\s+/, ": "));
  if (first) parts.unshift(`default: ${first[0]}`);
  const space = star ? `var ${star[1]} = ${loaded};` : "";
  return parts.length === 0 ? space : `${space} var { ${parts.join(", ")} } = ${star ? star[1] : loaded};`;
}

/** A cell with its imports as calls. Nothing within strings, templates, comments and patterns is touched. */
function withImports(code) {
  let out = "", at = 0, last = 0;
  const depths = [];
  while (at < code.length) {
    const c = code[at];
    const past = pastToken(code, at, code.slice(Math.max(0, at - 12), at).trimEnd());
    if (past > at) at = past;
    else if (c === "`" || (c === "}" && depths.at(-1) === 0)) {
      // A template, or the rest of one behind an expression in it.
      if (c === "}") depths.pop();
      at++;
      while (at < code.length && code[at] !== "`" && !(code[at] === "$" && code[at + 1] === "{")) at += code[at] === "\\" ? 2 : 1;
      if (code[at] === "$") depths.push(0), (at += 2);
      else at++;
    } else if (c === "{" || c === "}") {
      if (depths.length > 0) depths[depths.length - 1] += c === "{" ? 1 : -1;
      at++;
    } else if (/[\w$]/.test(c)) {
      const word = /[\w$]+/y;
      word.lastIndex = at;
      const end = at + word.exec(code)[0].length;
      if (code.slice(at, end) === "import" && !/[.#]\s*$/.test(code.slice(Math.max(0, at - 8), at))) {
        STATIC.lastIndex = at;
        const found = STATIC.exec(code);
        if (/^\s*\(/.test(code.slice(end, end + 64))) out += code.slice(last, at) + LOAD, (last = at = end);
        else if (found) out += code.slice(last, at) + declaration(found[1], found[3]), (last = at = STATIC.lastIndex);
        else at = end;
      } else at = end;
    } else at++;
  }
  return out + code.slice(last);
}

// --- cells -------------------------------------------------------------------------------------------------------------------

const session = new Session();
session.connect();
const post = (method, parameters) => new Promise((done, failed) => session.post(method, parameters, (error, answer) => (error ? failed(error) : done(answer))));
/** Where a value of the engine's is handed over as it is. */
const hand = {};
Object.defineProperty(globalThis, Symbol.for("skep.hand"), { value: hand });

async function valueOf(remote) {
  const given = remote.objectId !== undefined ? { objectId: remote.objectId } : remote.unserializableValue !== undefined ? { unserializableValue: remote.unserializableValue } : { value: remote.value };
  const { result } = await post("Runtime.evaluate", { expression: 'globalThis[Symbol.for("skep.hand")]' });
  await post("Runtime.callFunctionOn", { objectId: result.objectId, functionDeclaration: "function (value) { this.value = value; }", arguments: [given] });
  const { value } = hand;
  hand.value = undefined;
  return value;
}

function prepared(code) {
  return withImports(language === "typescript" ? module_.stripTypeScriptTypes(code, { mode: "transform" }) : code);
}

let current, count = 0;
const interrupted = () => Object.assign(new Error("the cell was interrupted"), { name: "Interrupted", stack: "Interrupted: the cell was interrupted" });

async function evaluate(cell) {
  const { id, code } = cell;
  try {
    const { result, exceptionDetails } = await post("Runtime.evaluate", { expression: prepared(code), replMode: true, awaitPromise: true, objectGroup: `cell ${id}` });
    if (current !== cell) return;
    if (exceptionDetails !== undefined) {
      const { exception, text } = exceptionDetails;
      fault(id, exception === undefined ? new Error(text) : await valueOf(exception));
    } else if (result.type !== "undefined") {
      const bundle = await shown(await valueOf(result));
      if (current === cell) told(id, bundle);
    }
  } catch (error) {
    // What is no program at all, what a value's own code throws when it is shown, and a cell that was cut off.
    const cut = error?.code === "ERR_INSPECTOR_COMMAND";
    if (current === cell) fault(id, cut ? interrupted() : error);
  }
  end(cell);
}

function end(cell) {
  if (current !== cell) return;
  current = undefined;
  for (const [name, value] of cell.before) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  session.post("Runtime.releaseObjectGroup", { objectGroup: `cell ${cell.id}` });
  // Behind all that the cell wrote, in its own order.
  write.out(cell.mark);
  write.error(cell.mark);
  say({ id: cell.id, done: true });
}

function take(command) {
  if (command.op === "interrupted") {
    if (current?.id !== command.id) return;
    fault(current.id, interrupted());
    return end(current);
  }
  const { id, env } = command;
  current = { ...command, before: new Map() };
  say({ id, type: "number_of_executions", execution_count: ++count });
  for (const [name, value] of Object.entries(env ?? {})) {
    current.before.set(name, process.env[name]);
    process.env[name] = value;
  }
  evaluate(current);
}

const thread = new Worker(`(${listener})()`, { eval: true, workerData: { beat } });
thread.on("message", take);
thread.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
post("Runtime.enable").then(() => say({ op: "ready" }));

/** The second thread. */
function listener() {
  const { createReadStream } = require("node:fs");
  const { Session } = require("node:inspector");
  const { createInterface } = require("node:readline");
  const { parentPort, workerData: { beat } } = require("node:worker_threads");
  const LOOKS = 4;
  const session = new Session();
  session.connectToMainThread();

  /** A loop that goes round and round is cut off; one that waits for something is left alone, and what it brings is heard no more. */
  function interrupt(id, looks = 0, seen = Atomics.load(beat, 0)) {
    setTimeout(() => {
      const turns = Atomics.load(beat, 0) !== seen;
      if (!turns && looks < LOOKS) return interrupt(id, looks + 1, seen);
      if (!turns) session.post("Runtime.terminateExecution");
      setTimeout(() => parentPort.postMessage({ op: "interrupted", id }), 50);
    }, 50);
  }

  createInterface({ input: createReadStream("", { fd: 3 }), crlfDelay: Infinity })
    .on("line", (line) => {
      const command = JSON.parse(line);
      if (command.op === "interrupt") interrupt(command.id);
      else parentPort.postMessage(command);
    })
    .on("close", () => process.kill(process.pid, "SIGKILL"));
}
