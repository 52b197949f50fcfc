/**
 * What a binding of kind `sandboxes` is to a worker or an actor: Linux computers by name. Names and shapes are those of Cloudflare's Sandbox SDK where that
 * has them. A worker's names are its own: another worker's sandbox of the same name is another sandbox.
 *
 *     interface Env { SANDBOX: SandboxNamespace }
 *     const box = env.SANDBOX.get("main");
 *     const { stdout, exitCode } = await box.exec("git status", { cwd: "/home/user/work" });
 *
 * Paths that do not begin with `/` are below the home of the sandbox's ordinary user, `/home/user`. Times are in milliseconds, timestamps ISO 8601.
 */

/** Sandboxes of one worker. */
export interface SandboxNamespace {
  /** The sandbox of that name: 1 to 128 bytes, no control characters. It is made when it is first used, and woken when it sleeps. */
  get(name: string): Sandbox;
}

/** Thrown by every method: what a sandbox, or the node, refused. */
export interface SandboxError extends Error {
  readonly name: "SandboxError";
  /** `FILE_NOT_FOUND`, `FILE_EXISTS`, `IS_DIRECTORY`, `NOT_DIRECTORY`, `PERMISSION_DENIED`, `NO_SPACE`, `COMMAND_NOT_FOUND`, `COMMAND_TIMEOUT`, `PROCESS_NOT_FOUND`, … */
  readonly code: string;
  readonly httpStatus: number;
}

export interface CommandOptions {
  cwd?: string;
  env?: Record<string, string>;
  /** After so long the command and all it started is killed. */
  timeout?: number;
  /** A snapshot is taken first: `restoreSnapshot({ beforeCommand })` with the command's number goes back to it. */
  snapshotBefore?: boolean;
  /** The history says which files changed while it ran; it costs a look at all changes before and after. */
  changes?: boolean;
}

export interface ExecOptions extends CommandOptions {
  /** With `onOutput`: what is written is told as it comes. */
  stream?: boolean;
  onOutput?: (stream: "stdout" | "stderr", data: string) => void;
  onComplete?: (result: ExecResult) => void;
  onError?: (error: Error) => void;
  signal?: AbortSignal;
}

export interface ExecResult {
  success: boolean;
  /** 128 and the signal's number for one that a signal ended. */
  exitCode: number;
  stdout: string;
  stderr: string;
  command: string;
  duration: number;
  timestamp: string;
  /** Whether more was written than is kept: 8 MiB of each stream. A streamed command has no such bound. */
  truncated: boolean;
  /** Its number in the sandbox's history; the first is 1. */
  number: number;
}

/** What the server-sent events of `execStream` and `streamProcessLogs` carry. */
export interface ExecEvent {
  type: "start" | "stdout" | "stderr" | "complete" | "error";
  timestamp: string;
  data?: string;
  pid?: number;
  /** Of `start`: its number in the history. */
  number?: number;
  exitCode?: number;
  error?: string;
}

export type ProcessStatus = "running" | "completed" | "failed" | "killed";

export interface ProcessOptions extends CommandOptions {
  /** What it is called: 1 to 64 of `A-Za-z0-9_-`. */
  processId?: string;
}

export interface Process {
  readonly id: string;
  /** In the sandbox's history. */
  readonly number: number;
  readonly pid: number;
  readonly command: string;
  readonly status: ProcessStatus;
  readonly startTime: string;
  readonly endTime?: string;
  readonly exitCode?: number;
  kill(signal?: string | number): Promise<void>;
  getStatus(): Promise<ProcessStatus>;
  getLogs(): Promise<{ stdout: string; stderr: string }>;
  /** Resolves with the line, and where it matched. */
  waitForLog(pattern: string | RegExp, timeout?: number): Promise<{ line: string; match?: RegExpMatchArray }>;
  waitForPort(port: number, options?: WaitForPortOptions): Promise<void>;
  waitForExit(timeout?: number): Promise<{ exitCode: number }>;
}

export interface WaitForPortOptions {
  mode?: "tcp" | "http";
  path?: string;
  status?: number | { min: number; max: number };
  timeout?: number;
  interval?: number;
}

export interface FileInfo {
  name: string;
  absolutePath: string;
  relativePath: string;
  type: "file" | "directory" | "symlink" | "other";
  size: number;
  modifiedAt: string;
  mode: string;
  permissions: { readable: boolean; writable: boolean; executable: boolean };
}

interface Done {
  success: true;
  path: string;
  timestamp: string;
}

export interface ReadFileResult extends Done {
  content: string;
  encoding: "utf-8" | "base64";
  size: number;
}

export interface WatchOptions {
  /** Folders within, too, also those that come later. True when absent. */
  recursive?: boolean;
  /** Only what one of these means: `*.ts`, `src/**`; a pattern without `/` is about a name. Not together with `exclude`. */
  include?: string[];
  /** All but what one of these means, and what is below it. `.git`, `node_modules` and `.DS_Store` when absent. */
  exclude?: string[];
  /** Aborted, it ends the watch. */
  signal?: AbortSignal;
}

/** What the server-sent events of `watch` carry. */
export type WatchEvent =
  | { type: "watching"; timestamp: string; path: string; watchId: string }
  | { type: "event"; timestamp: string; eventType: "create" | "modify" | "delete" | "move_from" | "move_to" | "attrib"; path: string; isDirectory: boolean }
  /** So much changed at once that some of it is not told; look for yourself. */
  | { type: "error"; timestamp: string; error: string }
  | { type: "stopped"; timestamp: string; reason: string };

export interface Snapshot {
  readonly id: string;
  readonly name: string | null;
  readonly takenAt: string;
  /** How long the sandbox stood still for it, in microseconds. */
  readonly pausedUs: number;
  /** Whether it was also written to the node's store of chunks, and read back. */
  readonly durable: boolean;
}

export interface FileChange {
  path: string;
  what: "added" | "changed" | "removed";
  type: "file" | "directory" | "symlink" | "other";
  size: number;
  mode: number;
}

/** What came of bringing a fork's changes into its parent. Lists are cut after 100,000 entries; the counts are not. */
export interface Merged {
  /** What the parent has now as the fork has it. */
  applied: FileChange[];
  appliedCount: number;
  /** What it had so already. */
  same: string[];
  sameCount: number;
  /** What both changed, and what the parent refused: left alone. `why`: `changed`, `added`, `removed`, `ancestor`, `name`, `kind`, or `refused: …`. */
  conflicts: { path: string; why: string }[];
  conflictCount: number;
}

/** A command that was run. */
export interface PastCommand {
  number: number;
  /** Who wanted it: `worker:<name>`. */
  author: string;
  command: string;
  cwd: string | null;
  startTime: string;
  endTime: string | null;
  exitCode: number | null;
  /** With `changes`: files that changed while it ran, at most 1,000. */
  changed: string[] | null;
  /** Whether there were more. */
  more: boolean;
  /** With `snapshotBefore`: the id of what was taken. */
  snapshotBefore: string | null;
}

export interface BackupHandle {
  id: string;
  dir: string;
}

export interface Sandbox {
  readonly name: string;
  /**
   * Runs a line of bash, and waits for its end. The command ends with the call that it was run for: when that has ended, or its time is over, it is killed
   * with all it started. An actor's goes on after the call's answer, until it ends, the actor does, or that call's time is over.
   */
  exec(command: string, options?: ExecOptions): Promise<ExecResult>;
  /** The same as server-sent events of `ExecEvent`, as they come. Cancelled, it ends the command. */
  execStream(command: string, options?: CommandOptions & { signal?: AbortSignal }): Promise<ReadableStream<Uint8Array>>;
  /** Starts a line of bash that goes on without the worker. */
  startProcess(command: string, options?: ProcessOptions): Promise<Process>;
  listProcesses(): Promise<Process[]>;
  getProcess(id: string): Promise<Process | null>;
  killProcess(id: string, signal?: string | number): Promise<void>;
  killAllProcesses(): Promise<number>;
  /** Forgets processes that have ended; how many. */
  cleanupCompletedProcesses(): Promise<number>;
  getProcessLogs(id: string): Promise<{ stdout: string; stderr: string; processId: string }>;
  streamProcessLogs(id: string, options?: { signal?: AbortSignal }): Promise<ReadableStream<Uint8Array>>;

  writeFile(path: string, content: string | Uint8Array | ArrayBuffer | ReadableStream<Uint8Array>, options?: { encoding?: "utf-8" | "base64" }): Promise<Done>;
  readFile(path: string, options?: { encoding?: "utf-8" | "utf8" | "base64" }): Promise<ReadFileResult>;
  readFile(path: string, options: { encoding: "none" }): Promise<Done & { content: ReadableStream<Uint8Array>; size: number }>;
  readFileStream(path: string): Promise<ReadableStream<Uint8Array>>;
  mkdir(path: string, options?: { recursive?: boolean }): Promise<Done>;
  deleteFile(path: string, options?: { recursive?: boolean }): Promise<Done>;
  renameFile(path: string, newPath: string): Promise<Done & { newPath: string }>;
  moveFile(path: string, newPath: string): Promise<Done & { newPath: string }>;
  listFiles(path: string, options?: { recursive?: boolean; includeHidden?: boolean }): Promise<Done & { files: FileInfo[]; count: number }>;
  exists(path: string): Promise<Done & { exists: boolean }>;

  /** Where a port of the sandbox answers from outside: 1024 to 65535. */
  exposePort(port: number, options?: { name?: string }): Promise<{ url: string; port: number; name?: string }>;
  /** A request to a server within, by HTTP/1.1. */
  containerFetch(request: Request | string, port: number): Promise<Response>;

  gitCheckout(url: string, options?: { branch?: string; targetDir?: string; depth?: number }): Promise<{ success: true; repoUrl: string; branch?: string; targetDir: string; timestamp: string }>;

  /** Changes below a folder as they happen, as server-sent events of `WatchEvent`. Cancelled, it ends the watch; at most 128 of one sandbox. */
  watch(path: string, options?: WatchOptions): Promise<ReadableStream<Uint8Array>>;

  /** All files as they are at one moment; what runs goes on. Snapshots are the worker's: they outlive the sandbox. */
  createSnapshot(options?: { name?: string }): Promise<Snapshot>;
  /** Those of all sandboxes of this worker, newest first. */
  listSnapshots(): Promise<Snapshot[]>;
  deleteSnapshot(id: string): Promise<void>;
  /** The name stands for a new sandbox from then on, with the files of the snapshot, and no processes and no history; the one before is removed. */
  restoreSnapshot(from: string | { id: string } | { beforeCommand: number }): Promise<Snapshot>;
  /** Sandboxes under these names that begin with the files of this one, processes anew: all of them, or none. The names must be free. */
  fork(name: string): Promise<Sandbox>;
  fork(names: string[]): Promise<Sandbox[]>;
  /** What it has changed of what it began with. */
  diff(): Promise<{ changes: FileChange[]; count: number }>;
  /** Brings what it changed into the sandbox that it is a fork of. What both changed is reported and left. */
  commitBack(): Promise<Merged>;
  /** Its newest commands (1,000, or `limit`), in order. */
  history(options?: { limit?: number }): Promise<PastCommand[]>;

  /** A folder as it is now, kept apart from the sandbox for `ttl` seconds (3 days): it is whole, and was read again, when this resolves. */
  createBackup(options: { dir: string; name?: string; ttl?: number }): Promise<BackupHandle>;
  /** The folder becomes what it was; a backup of any sandbox of this worker. */
  restoreBackup(backup: BackupHandle): Promise<{ success: true; id: string; dir: string }>;

  /** Removes it with all that it has. The name may be used again, and means a new one. */
  destroy(): Promise<void>;
}
