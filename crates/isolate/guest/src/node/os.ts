/** `node:os`: the answers of a machine with nothing on it. */
import { errnoNames } from "./errno";

const signals = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGILL: 4, SIGTRAP: 5, SIGABRT: 6, SIGBUS: 7, SIGFPE: 8, SIGKILL: 9, SIGUSR1: 10, SIGSEGV: 11, SIGUSR2: 12, SIGPIPE: 13, SIGALRM: 14, SIGTERM: 15 };
const errno = Object.fromEntries(Object.entries(errnoNames).map(([n, [name]]) => [name, Number(n)]));

export const constants = { UV_UDP_REUSEADDR: 4, dlopen: {}, errno, signals, priority: {} };

export const exports = {
  EOL: "\n",
  devNull: "/dev/null",
  constants,
  arch: () => "wasm32",
  availableParallelism: () => 1,
  cpus: () => [] as object[],
  endianness: () => "LE",
  freemem: () => 0,
  getPriority: () => 0,
  homedir: () => "/",
  hostname: () => "localhost",
  loadavg: () => [0, 0, 0],
  machine: () => "wasm32",
  networkInterfaces: () => ({}),
  platform: () => "linux",
  release: () => "",
  setPriority: () => undefined,
  tmpdir: () => "/tmp",
  totalmem: () => 0,
  type: () => "Linux",
  uptime: () => 0,
  userInfo: () => ({ uid: 0, gid: 0, username: "skep", homedir: "/", shell: null }),
  version: () => "",
};
