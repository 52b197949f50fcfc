/**
 * A binding of kind `sandboxes`: Linux computers by name, with the names and shapes of Cloudflare's Sandbox SDK where that has them (types/sandbox.d.ts). The
 * host gives it as a channel; every method is one request on it, so that gates, limits, back-pressure and hibernation are those of `fetch`. What goes through
 * it is written down in docs/design/guest-abi.md, "Sandboxes".
 */
import type * as api from "../types/sandbox";
import { AbortSignal } from "./abort";
import { fetchVia } from "./fetch";
import { Request } from "./request";
import type { Response } from "./response";
import { ReadableStream } from "./streams";
import { callNow } from "./tail";
import { URL } from "./url";
import { defineInterface } from "./webidl";

const RAW = Symbol();
const HOME = "http://sandbox/";
/** Characters of a process's log that are looked through for a line. */
const LOOKED_AT = 64 * 1024;

type Args = Record<string, unknown>;

class SandboxError extends Error {
  readonly code: string;
  readonly httpStatus: number;

  constructor(code: string, message: string, httpStatus: number) {
    super(message);
    Object.defineProperty(this, "name", { value: "SandboxError", writable: true, enumerable: false, configurable: true });
    this.code = code;
    this.httpStatus = httpStatus;
  }
}

async function refusal(response: Response): Promise<SandboxError> {
  const text = await response.text();
  try {
    const { code, message } = JSON.parse(text) as { code: string; message: string };
    return new SandboxError(code, message, response.status);
  } catch {
    return new SandboxError("INTERNAL_ERROR", text.slice(0, 1000), response.status);
  }
}

function string(value: unknown, what: string): string {
  if (typeof value !== "string") throw new TypeError(`${what} must be a string.`);
  return value.toWellFormed();
}

let channelOf: (of: SandboxNamespace) => number;
/** Puts another channel behind a binding: the host's table is new after waking. */
export let renewSandboxes: (made: unknown, channel: number) => void;

class SandboxNamespace implements api.SandboxNamespace {
  #channel: number;

  constructor(raw: unknown, channel: number) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
    this.#channel = channel;
  }

  get(name: string): api.Sandbox {
    channelOf(this);
    return new Sandbox(RAW, this, string(name, "The name of a sandbox")) as unknown as api.Sandbox;
  }

  static {
    const isOne = (value: unknown): value is SandboxNamespace => typeof value === "object" && value !== null && #channel in value;
    channelOf = (of) => {
      if (!isOne(of)) throw new TypeError("Illegal invocation");
      return of.#channel;
    };
    renewSandboxes = (made, channel) => {
      if (isOne(made)) made.#channel = channel;
    };
  }
}

/** What came as server-sent events, one object after the other. */
async function* events(stream: ReadableStream): AsyncGenerator<api.ExecEvent> {
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = (await reader.read()) as { done: boolean; value: Uint8Array };
      if (done) return;
      const parts = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = parts.pop()!;
      for (const part of parts) if (part.startsWith("data: ")) yield JSON.parse(part.slice(6)) as api.ExecEvent;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

declare const TextDecoder: new () => { decode(bytes: Uint8Array, options: { stream: boolean }): string };
declare const atob: (text: string) => string;

const bytesOf = (base64: string): Uint8Array => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

/** As a word of the shell, whatever is in it. */
const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

class Sandbox {
  readonly #of: SandboxNamespace;
  readonly #name: string;

  constructor(raw: unknown, of: SandboxNamespace, name: string) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
    this.#of = of;
    this.#name = name;
  }

  get name(): string { return this.#name; }

  async #request(op: string, query: Args, body: unknown, signal?: unknown): Promise<Response> {
    let url = `${HOME}${op}?sandbox=${encodeURIComponent(this.#name)}`;
    for (const key of Object.keys(query)) if (query[key] !== undefined) url += `&${key}=${encodeURIComponent(String(query[key]))}`;
    const init: Args = { method: "POST", body, redirect: "manual" };
    if (signal !== undefined && signal !== null) init.signal = signal;
    const response = await fetchVia(channelOf(this.#of), url, init, undefined, callNow());
    if (response.status >= 400) throw await refusal(response);
    return response;
  }

  /** Arguments and answer as JSON. */
  async #ask<T>(op: string, args: Args, signal?: unknown): Promise<T> {
    const response = await this.#request(op, {}, JSON.stringify(args), signal);
    return (await response.json()) as T;
  }

  async exec(command: string, options: api.ExecOptions = {}): Promise<api.ExecResult> {
    const { onOutput, onComplete, onError, signal } = options;
    try {
      const args = commandArgs(command, options);
      const streamed = options.stream === true && typeof onOutput === "function";
      const result = streamed ? await this.#streamed(args, onOutput, signal) : await this.#ask<api.ExecResult>("exec", args, signal);
      onComplete?.(result);
      return result;
    } catch (e) {
      onError?.(e as Error);
      throw e;
    }
  }

  async #streamed(args: Args, onOutput: NonNullable<api.ExecOptions["onOutput"]>, signal: unknown): Promise<api.ExecResult> {
    const began = Date.now();
    const written = { stdout: "", stderr: "" };
    let number = 0;
    for await (const { type, data, exitCode, error, timestamp, number: given } of events(await this.#stream("execStream", args, signal))) {
      if (type === "start") number = given!;
      else if (type === "stdout" || type === "stderr") {
        written[type] += data!;
        onOutput(type, data!);
      } else if (type === "complete") {
        const took = Date.now() - began;
        return { success: exitCode === 0, exitCode: exitCode!, ...written, command: args.command as string, duration: took, timestamp, truncated: false, number };
      } else if (type === "error") throw new SandboxError(error === "timeout" ? "COMMAND_TIMEOUT" : "COMMAND_EXECUTION_ERROR", `the command did not end by itself: ${error}`, 500);
    }
    throw new SandboxError("COMMAND_EXECUTION_ERROR", "the stream of the command ended before it did", 500);
  }

  async #stream(op: string, args: Args, signal?: unknown): Promise<ReadableStream> {
    return (await this.#request(op, {}, JSON.stringify(args), signal)).body as unknown as ReadableStream;
  }

  async execStream(command: string, options: api.CommandOptions & { signal?: AbortSignal } = {}): Promise<ReadableStream> {
    return this.#stream("execStream", commandArgs(command, options), options.signal);
  }

  async startProcess(command: string, options: api.ProcessOptions = {}): Promise<Process> {
    const args = { ...commandArgs(command, options), processId: options.processId };
    return new Process(this, await this.#ask<ProcessInfo>("startProcess", args));
  }

  async listProcesses(): Promise<Process[]> {
    return (await this.#ask<ProcessInfo[]>("listProcesses", {})).map((info) => new Process(this, info));
  }

  async getProcess(id: string): Promise<Process | null> {
    const info = await this.#ask<ProcessInfo | null>("getProcess", { id: string(id, "The id of a process") });
    return info === null ? null : new Process(this, info);
  }

  async killProcess(id: string, signal: string | number = "SIGTERM"): Promise<void> {
    await this.#ask("killProcess", { id: string(id, "The id of a process"), signal });
  }

  async killAllProcesses(): Promise<number> { return this.#ask("killAllProcesses", {}); }
  async cleanupCompletedProcesses(): Promise<number> { return this.#ask("cleanupCompletedProcesses", {}); }

  async getProcessLogs(id: string): Promise<{ stdout: string; stderr: string; processId: string }> {
    return this.#ask("getProcessLogs", { id: string(id, "The id of a process") });
  }

  async streamProcessLogs(id: string, options: { signal?: unknown } = {}): Promise<ReadableStream> {
    return this.#stream("streamProcessLogs", { id: string(id, "The id of a process") }, options.signal);
  }

  /** Of `Process`: how it ended. */
  async waitForExit(id: string, timeout: number | undefined): Promise<{ exitCode: number }> { return this.#ask("waitForExit", { id, timeout }); }
  /** Of `Process`: until a port of the sandbox answers, or the process has ended. */
  async waitForPort(id: string, port: number, options: api.WaitForPortOptions): Promise<void> { await this.#ask("waitForPort", { id, port, ...options }); }

  async writeFile(path: string, content: unknown, options: { encoding?: string } = {}): Promise<unknown> {
    const bytes = typeof content === "string" && options.encoding === "base64" ? bytesOf(content) : content;
    const response = await this.#request("writeFile", { path: string(path, "A path") }, bytes);
    return response.json() as Promise<unknown>;
  }

  async readFile(path: string, options: { encoding?: string } = {}): Promise<unknown> {
    const encoding = options.encoding ?? "utf-8";
    const response = await this.#request("readFile", { path: string(path, "A path") }, undefined);
    const about = { success: true, path, timestamp: response.headers.get("x-timestamp"), size: Number(response.headers.get("x-size")) };
    if (encoding === "none") return { ...about, content: response.body };
    if (encoding === "base64") return { ...about, encoding: "base64", content: (new Uint8Array(await response.arrayBuffer()) as Uint8Array & { toBase64(): string }).toBase64() };
    return { ...about, encoding: "utf-8", content: await response.text() };
  }

  async readFileStream(path: string): Promise<ReadableStream> {
    return (await this.#request("readFile", { path: string(path, "A path") }, undefined)).body as unknown as ReadableStream;
  }

  async mkdir(path: string, options: { recursive?: boolean } = {}): Promise<unknown> { return this.#ask("mkdir", { path, recursive: options.recursive === true }); }
  async deleteFile(path: string, options: { recursive?: boolean } = {}): Promise<unknown> { return this.#ask("deleteFile", { path, recursive: options.recursive === true }); }
  async renameFile(path: string, newPath: string): Promise<unknown> { return this.#ask("renameFile", { path, newPath }); }
  async moveFile(path: string, newPath: string): Promise<unknown> { return this.#ask("renameFile", { path, newPath }); }
  async exists(path: string): Promise<unknown> { return this.#ask("exists", { path }); }

  async listFiles(path: string, options: { recursive?: boolean; includeHidden?: boolean } = {}): Promise<unknown> {
    return this.#ask("listFiles", { path, recursive: options.recursive === true, includeHidden: options.includeHidden === true });
  }

  async exposePort(port: number, options: { name?: string } = {}): Promise<unknown> { return this.#ask("exposePort", { port, name: options.name }); }

  async containerFetch(input: unknown, port: number): Promise<Response> {
    const request = new Request(input, undefined);
    const { pathname, search } = new URL(request.url);
    const headers = [...(request.headers as unknown as Iterable<[string, string]>)];
    const url = `${HOME}containerFetch?sandbox=${encodeURIComponent(this.#name)}&port=${Number(port)}&path=${encodeURIComponent(pathname + search)}`;
    const response = await fetchVia(channelOf(this.#of), url, { method: request.method, headers, body: request.body, redirect: "manual" }, undefined, callNow());
    if (response.headers.get("x-sandbox-error") !== null) throw await refusal(response);
    return response;
  }

  async gitCheckout(url: string, options: { branch?: string; targetDir?: string; depth?: number } = {}): Promise<unknown> {
    const repoUrl = string(url, "The URL of a repository");
    const { branch, depth } = options;
    const targetDir = options.targetDir ?? (/([^/]+?)(?:\.git)?\/*$/.exec(repoUrl)?.[1] ?? "repository");
    let command = "git clone";
    if (branch !== undefined) command += ` --branch ${quoted(string(branch, "A branch"))}`;
    if (depth !== undefined) command += ` --depth ${Math.max(1, Math.trunc(Number(depth)) || 1)}`;
    const { exitCode, stderr } = await this.exec(`${command} -- ${quoted(repoUrl)} ${quoted(targetDir)}`, { env: { GIT_TERMINAL_PROMPT: "0" } });
    if (exitCode !== 0) throw new SandboxError("GIT_CLONE_FAILED", stderr.slice(-2000), 500);
    return { success: true, repoUrl, branch, targetDir, timestamp: new Date().toISOString() };
  }

  async watch(path: string, options: api.WatchOptions = {}): Promise<ReadableStream> {
    const { recursive, include, exclude, signal } = options;
    return this.#stream("watch", { path: string(path, "A path"), recursive, include, exclude }, signal);
  }

  async createSnapshot(options: { name?: string } = {}): Promise<api.Snapshot> { return this.#ask("createSnapshot", { name: options.name }); }
  async listSnapshots(): Promise<api.Snapshot[]> { return this.#ask("listSnapshots", {}); }
  async deleteSnapshot(id: string): Promise<void> { await this.#ask("deleteSnapshot", { id: string(id, "The id of a snapshot") }); }

  async restoreSnapshot(from: string | { id: string } | { beforeCommand: number }): Promise<api.Snapshot> {
    if (typeof from === "string") return this.#ask("restoreSnapshot", { id: from });
    if ("beforeCommand" in from) return this.#ask("restoreSnapshot", { beforeCommand: from.beforeCommand });
    return this.#ask("restoreSnapshot", { id: string(from.id, "The id of a snapshot") });
  }

  async fork(names: string | string[]): Promise<unknown> {
    const all = (Array.isArray(names) ? names : [names]).map((name) => string(name, "The name of a sandbox"));
    await this.#ask("fork", { names: all });
    const made = all.map((name) => new Sandbox(RAW, this.#of, name));
    return Array.isArray(names) ? made : made[0];
  }

  async diff(): Promise<{ changes: api.FileChange[]; count: number }> { return this.#ask("diff", {}); }
  async commitBack(): Promise<api.Merged> { return this.#ask("commitBack", {}); }
  async history(options: { limit?: number } = {}): Promise<api.PastCommand[]> { return this.#ask("history", { limit: options.limit }); }

  async createBackup(options: { dir: string; name?: string; ttl?: number }): Promise<api.BackupHandle> {
    const { dir, name, ttl } = options;
    return this.#ask("createBackup", { dir: string(dir, "The folder of a backup"), name, ttl });
  }

  async restoreBackup(backup: api.BackupHandle): Promise<{ success: true; id: string; dir: string }> {
    return this.#ask("restoreBackup", { id: string(backup.id, "The id of a backup"), dir: string(backup.dir, "The folder of a backup") });
  }

  async destroy(): Promise<void> { await this.#ask("destroy", {}); }
}


function commandArgs(command: unknown, { cwd, env, timeout, snapshotBefore, changes }: api.CommandOptions): Args {
  return { command: string(command, "A command"), cwd, env, timeout, snapshotBefore, changes };
}

interface ProcessInfo {
  id: string;
  number: number;
  pid: number;
  command: string;
  status: api.ProcessStatus;
  startTime: string;
  endTime?: string;
  exitCode?: number;
}

/** A process as it was when it was asked for. */
class Process {
  readonly #of: Sandbox;
  readonly id!: string;
  readonly number!: number;
  readonly pid!: number;
  readonly command!: string;
  readonly status!: api.ProcessStatus;
  readonly startTime!: string;
  readonly endTime?: string;
  readonly exitCode?: number;

  constructor(of: Sandbox, info: ProcessInfo) {
    this.#of = of;
    Object.assign(this, info);
  }

  kill(signal?: string | number): Promise<void> { return this.#of.killProcess(this.id, signal); }
  getLogs(): Promise<{ stdout: string; stderr: string }> { return this.#of.getProcessLogs(this.id); }
  waitForExit(timeout?: number): Promise<{ exitCode: number }> { return this.#of.waitForExit(this.id, timeout); }
  waitForPort(port: number, options: api.WaitForPortOptions = {}): Promise<void> { return this.#of.waitForPort(this.id, port, options); }

  async getStatus(): Promise<api.ProcessStatus> {
    const now = await this.#of.getProcess(this.id);
    if (now === null) throw new SandboxError("PROCESS_NOT_FOUND", `there is no process ${this.id}`, 404);
    return now.status;
  }

  async waitForLog(pattern: string | RegExp, timeout?: number): Promise<{ line: string; match?: RegExpMatchArray }> {
    const given = timeout === undefined ? undefined : (AbortSignal as unknown as { timeout(ms: number): unknown }).timeout(timeout);
    const found = (line: string): { line: string; match?: RegExpMatchArray } | undefined => {
      if (typeof pattern === "string") return line.includes(pattern) ? { line } : undefined;
      const match = line.match(pattern);
      return match === null ? undefined : { line, match };
    };
    const rest: Record<string, string> = { stdout: "", stderr: "" };
    for await (const { type, data } of events(await this.#of.streamProcessLogs(this.id, { signal: given }))) {
      if (type !== "stdout" && type !== "stderr") continue;
      const lines = (rest[type] + data!).slice(-LOOKED_AT).split("\n");
      // The last line may go on, and may be what is waited for all the same: a prompt has no end.
      for (const line of lines) {
        const here = found(line);
        if (here !== undefined) return here;
      }
      rest[type] = lines.at(-1)!;
    }
    throw new SandboxError("PROCESS_EXITED", `process ${this.id} ended before it wrote ${String(pattern)}`, 500);
  }
}


defineInterface(SandboxNamespace, "SandboxNamespace");
defineInterface(Sandbox, "Sandbox");

/** The binding that the host describes by this channel. */
export function sandboxes(channel: number): SandboxNamespace {
  return new SandboxNamespace(RAW, channel);
}
