// Between a node and one JavaScript context: lines of JSON on the standard streams here, a child that runs the code there. Started by the node within a
// sandbox as `node -e <this> <kernel.js> <language>`. Everything is the sandbox's own: what this program says is believed no more than what any
// program in there says.
"use strict";
const { spawn } = require("node:child_process");
const { randomUUID } = require("node:crypto");
const readline = require("node:readline");
const { StringDecoder } = require("node:string_decoder");

const [kernelSource, language] = process.argv.slice(1);
let child, current;
if (language === "typescript" && typeof require("node:module").stripTypeScriptTypes !== "function") {
  say({ op: "missing", what: "node 22.13 or later" });
  process.exit(0);
}
child = spawn(process.execPath, ["-e", kernelSource, language], { stdio: ["ignore", "pipe", "pipe", "pipe", "pipe"] });
const [, stdout, stderr, commands, events] = child.stdio;

function say({ id = 0, ...message }) {
  // Clients take these for ends of lines, too.
  const text = JSON.stringify(message).replace(/[\u0085\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  // Who does not read shall not make this process keep what is written: the child is not read either.
  if (process.stdout.write(`${id} ${text}\n`) || child === undefined) return;
  stdout.pause();
  stderr.pause();
  process.stdout.once("drain", () => (stdout.resume(), stderr.resume()));
}

/** Passes a stream on, up to the mark that ends a cell; the mark's head may come before its tail. */
function forward(stream, type) {
  const decoder = new StringDecoder("utf8");
  let held = "";
  const tell = (text) => text !== "" && current !== undefined && say({ id: current.id, type, text, timestamp: Date.now() * 1e6 });
  stream.on("data", (chunk) => {
    let text = held + decoder.write(chunk);
    held = "";
    const mark = current?.mark;
    const at = mark === undefined ? -1 : text.indexOf(mark);
    if (at >= 0) {
      tell(text.slice(0, at));
      text = text.slice(at + mark.length);
      current.open--;
      finish();
    } else if (mark !== undefined) {
      for (let n = Math.min(mark.length - 1, text.length); n > 0; n--) {
        if (!mark.startsWith(text.slice(-n))) continue;
        held = text.slice(-n);
        text = text.slice(0, -n);
        break;
      }
    }
    tell(text);
  });
}
forward(stdout, "stdout");
forward(stderr, "stderr");

function finish() {
  if (current === undefined || current.open > 0 || !current.done) return;
  const { id } = current;
  current = undefined;
  say({ id, type: "end_of_execution" });
  next();
}

const cells = [];
function next() {
  if (current !== undefined || cells.length === 0) return;
  const { id, code, env } = cells.shift();
  current = { id, mark: `\u0000${randomUUID()}\u0000`, open: 2, done: false };
  commands.write(`${JSON.stringify({ op: "execute", id, code, env, mark: current.mark })}\n`);
}

readline.createInterface({ input: events, crlfDelay: Infinity }).on("line", (line) => {
  const message = JSON.parse(line);
  if (message.op === "ready") return say(message);
  if (message.id !== current?.id) return;
  if (!message.done) return say(message);
  current.done = true;
  finish();
});

readline.createInterface({ input: process.stdin, crlfDelay: Infinity }).on("line", (line) => {
  const command = JSON.parse(line);
  if (command.op === "execute") {
    cells.push(command);
    next();
  } else if (command.op === "interrupt" && command.id === current?.id) commands.write(`${line}\n`);
}).on("close", () => {
  // The node has gone, or wants this context no more.
  child.kill("SIGKILL");
  process.exit(0);
});

child.on("exit", () => {
  if (current !== undefined) say({ id: current.id, type: "unexpected_end_of_execution" });
  process.stdin.destroy();
  process.exitCode = 0;
});
commands.on("error", () => {});
