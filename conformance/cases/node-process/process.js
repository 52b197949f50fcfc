/** node:process and the rest of the built-ins that libraries import: os, module, diagnostics_channel, zlib, console, punycode, stubs. */
import process, { env, nextTick } from "node:process";
import os from "node:os";
import module, { createRequire } from "node:module";
import dc from "node:diagnostics_channel";
import zlib from "node:zlib";
import nodeConsole from "node:console";

export const cases = {
  "global process": [() => globalThis.process === process, true],
  "identity": [() => [process.platform, typeof process.version, process.version[0], typeof process.versions.node, typeof process.arch, process.title.length >= 0, typeof process.pid]],
  "env": [() => { process.env.SET_HERE = 5; const x = [process.env.SET_HERE, "SET_HERE" in env, process.env.NOT_THERE]; delete process.env.SET_HERE; return [...x, process.env.SET_HERE]; }, ["5", true, undefined, undefined]],
  "env has text bindings": [() => [process.env.TEXT, typeof process.env.JSON, typeof process.env.ORIGIN]],
  "cwd and chdir": [(t) => [process.cwd(), t.error(() => process.chdir("/x"))]],
  "argv and execArgv": [() => [Array.isArray(process.argv), Array.isArray(process.execArgv)]],
  "nextTick order": [async () => { const o = []; setTimeout(() => o.push("timer"), 0); Promise.resolve().then(() => o.push("micro")); process.nextTick((x) => o.push(x), "tick"); o.push("sync"); await new Promise((r) => setTimeout(r, 5)); return o; }],
  "nextTick export": [() => typeof nextTick, "function"],
  "hrtime": [() => { const a = process.hrtime(); const b = process.hrtime(a); return [a.length, b[0] < 5, typeof process.hrtime.bigint()]; }, [2, true, "bigint"]],
  "memoryUsage and uptime": [(t) => [t.error(() => typeof process.memoryUsage().heapUsed), t.error(() => typeof process.uptime())]],
  "emitWarning": [(t) => t.error(() => process.emitWarning("careful"))],
  "on and emit": [() => { let n = 0; const f = () => n++; process.on("custom", f); process.emit("custom"); process.off("custom", f); return n; }, 1],
  "stdout": [(t) => [typeof process.stdout?.write, t.error(() => process.stdout.write("") !== undefined)]],
  "features and release": [() => [typeof process.features, process.release?.name]],
  "getBuiltinModule": [() => [typeof process.getBuiltinModule, process.getBuiltinModule?.("node:path")?.sep, process.getBuiltinModule?.("nope")]],
  "umask, getuid": [() => [typeof process.umask, typeof process.getuid]],
  "os": [(t) => t.error(() => [os.EOL, os.platform(), typeof os.tmpdir(), typeof os.cpus().length, os.endianness(), typeof os.hostname()])],
  "createRequire": [(t) => t.error(() => { const require = createRequire("/x.js"); return [require("node:path").sep, require("path") === require("node:path"), typeof require("events")]; })],
  "createRequire of what is not there": [(t) => t.error(() => createRequire("/x.js")("nope")) !== undefined],
  "builtinModules": [() => [module.builtinModules?.includes("path"), module.isBuiltin?.("node:fs"), module.isBuiltin?.("nope")]],
  "diagnostics_channel": [() => { const c = dc.channel("test"); const got = []; const f = (m, n) => got.push([m, n]); const before = c.hasSubscribers; c.subscribe(f); c.publish({ a: 1 }); c.unsubscribe(f); c.publish(2); return [before, got, dc.channel("test") === c, dc.hasSubscribers("test")]; }, [false, [[{ a: 1 }, "test"]], true, false]],
  "zlib sync": [() => [zlib.gunzipSync(zlib.gzipSync("hello")).toString(), zlib.inflateSync(zlib.deflateSync(Buffer.from("x"))).toString(), zlib.inflateRawSync(zlib.deflateRawSync("raw")).toString()], ["hello", "x", "raw"]],
  "zlib callback": [() => new Promise((r) => zlib.gzip("cb", (e, b) => zlib.gunzip(b, (e2, x) => r(String(x))))), "cb"],
  "zlib error": [(t) => t.error(() => zlib.gunzipSync(Buffer.from("junk")))],
  "zlib crc32 and constants": [() => [zlib.crc32?.("hello"), zlib.constants.Z_BEST_COMPRESSION], [907060870, 9]],
  "node:console": [() => typeof nodeConsole.log, "function"],
  "importable modules": [async (t) => t.eachAsync(["fs", "fs/promises", "http", "https", "net", "tls", "dns", "child_process", "worker_threads", "vm", "v8", "perf_hooks", "readline", "cluster", "dgram", "http2", "inspector", "punycode", "constants", "tty", "trace_events", "test", "sqlite", "sys", "util/types", "path/posix", "dns/promises", "_stream_duplex", "nonsense"], async (m) => typeof (await import("node:" + m)).default)],
  "bare names of built-ins": [async (t) => t.eachAsync(["fs", "path", "events", "crypto", "nonsense"], async (m) => typeof (await import(m)).default)],
  "fs says no clearly": [async (t) => { const fs = await import("node:fs"); return [t.error(() => fs.readFileSync("/etc/passwd")) !== undefined, typeof fs.existsSync, t.error(() => fs.existsSync("/definitely/not/there"))]; }],
  "perf_hooks": [async () => { const { performance: p } = await import("node:perf_hooks"); return [p === performance, typeof p.now()]; }],
};
