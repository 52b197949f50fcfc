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
}

/** What the server-sent events of `execStream` and `streamProcessLogs` carry. */
export interface ExecEvent {
  type: "start" | "stdout" | "stderr" | "complete" | "error";
  timestamp: string;
  data?: string;
  pid?: number;
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

export interface BackupHandle {
  id: string;
  dir: string;
}

export interface Sandbox {
  readonly name: string;
  /** Runs a line of bash, and waits for its end. A worker that ends meanwhile takes the command with it. */
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

  /** A folder as it is now, kept apart from the sandbox for `ttl` seconds (3 days): it is whole, and was read again, when this resolves. */
  createBackup(options: { dir: string; name?: string; ttl?: number }): Promise<BackupHandle>;
  /** The folder becomes what it was; a backup of any sandbox of this worker. */
  restoreBackup(backup: BackupHandle): Promise<{ success: true; id: string; dir: string }>;

  /** Removes it with all that it has. The name may be used again, and means a new one. */
  destroy(): Promise<void>;
}
