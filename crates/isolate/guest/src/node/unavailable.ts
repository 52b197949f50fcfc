/**
 * Modules that need an operating system: importable, because libraries import them without calling them, and every function throws an
 * error that names itself.
 */
import { EventEmitter } from "./events";
import { unavailable } from "./errors";

interface Shape {
  functions: string;
  classes?: string;
  /** Members that answer. */
  also?: Record<string, unknown>;
}

/** A function, usable as a class to extend, that throws when it is called or constructed. */
function refusing(module: string, name: string): Function {
  const f = {
    [name]: function () {
      throw unavailable(`node:${module} ${name}`);
    },
  }[name]!;
  return f;
}

function build(module: string, { functions, classes = "", also = {} }: Shape): Record<string, unknown> {
  const names = [...functions.split(" "), ...classes.split(" ")].filter(Boolean);
  return { ...Object.fromEntries(names.map((name) => [name, refusing(module, name)])), ...also };
}

const fsAsync =
  "access appendFile chmod chown copyFile cp glob lchmod lchown link lstat lutimes mkdir mkdtemp open opendir readdir readFile readlink realpath rename rm " +
  "rmdir stat statfs symlink truncate unlink utimes watch writeFile";
const fsDescriptors = "close fchmod fchown fdatasync fstat fsync ftruncate futimes read readv write writev";
const fsSync = [...fsAsync.replace(" watch", "").split(" "), ...fsDescriptors.split(" ")].map((name) => `${name}Sync`).join(" ");
const fsPromises = build("fs/promises", { functions: fsAsync, also: { constants: {} } });

const methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
const statusCodes: Record<number, string> = {
  100: "Continue", 101: "Switching Protocols", 102: "Processing", 103: "Early Hints", 200: "OK", 201: "Created", 202: "Accepted",
  203: "Non-Authoritative Information", 204: "No Content", 205: "Reset Content", 206: "Partial Content", 207: "Multi-Status", 208: "Already Reported",
  226: "IM Used", 300: "Multiple Choices", 301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified", 305: "Use Proxy",
  307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
  405: "Method Not Allowed", 406: "Not Acceptable", 407: "Proxy Authentication Required", 408: "Request Timeout", 409: "Conflict", 410: "Gone",
  411: "Length Required", 412: "Precondition Failed", 413: "Payload Too Large", 414: "URI Too Long", 415: "Unsupported Media Type",
  416: "Range Not Satisfiable", 417: "Expectation Failed", 418: "I'm a Teapot", 421: "Misdirected Request", 422: "Unprocessable Entity", 423: "Locked",
  424: "Failed Dependency", 425: "Too Early", 426: "Upgrade Required", 428: "Precondition Required", 429: "Too Many Requests",
  431: "Request Header Fields Too Large", 451: "Unavailable For Legal Reasons", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
  503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported", 506: "Variant Also Negotiates", 507: "Insufficient Storage",
  508: "Loop Detected", 509: "Bandwidth Limit Exceeded", 510: "Not Extended", 511: "Network Authentication Required",
};

/** A class that can be constructed (libraries make agents while they load) but does nothing. */
class Agent extends (EventEmitter as unknown as new () => object) {
  options: object;

  constructor(options: object = {}) {
    super();
    this.options = options;
  }

  destroy(): void {}
}

const httpFunctions = "request get createServer";
const httpClasses = "ClientRequest IncomingMessage OutgoingMessage Server ServerResponse";
const isIPv4 = (s: unknown): boolean => /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/.test(`${s as string}`);

function isIPv6(given: unknown): boolean {
  let s = `${given as string}`.replace(/%[0-9a-zA-Z-.:]+$/, "");
  const tail = /(^|:)((?:\d+\.){3}\d+)$/.exec(s);
  if (tail) {
    if (!isIPv4(tail[2])) return false;
    s = s.slice(0, s.length - tail[2]!.length) + "0:0";
  }
  const halves = s.split("::");
  if (halves.length > 2) return false;
  const groups = halves.flatMap((half) => (half === "" ? [] : half.split(":")));
  return groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group)) && (halves.length === 2 ? groups.length < 8 : groups.length === 8);
}

const dnsFunctions =
  "lookup lookupService resolve resolve4 resolve6 resolveAny resolveCaa resolveCname resolveMx resolveNaptr resolveNs resolvePtr resolveSoa resolveSrv " +
  "resolveTxt reverse setServers";
const dnsPromises = build("dns/promises", { functions: dnsFunctions, classes: "Resolver", also: { getServers: () => [] } });
const readlinePromises = build("readline/promises", { functions: "createInterface", classes: "Interface Readline" });

/** Module name → exports. */
export const modules: Record<string, Record<string, unknown>> = {
  child_process: build("child_process", { functions: "exec execFile execFileSync execSync fork spawn spawnSync", classes: "ChildProcess" }),
  cluster: build("cluster", { functions: "fork disconnect setupPrimary", also: { isMaster: true, isPrimary: true, isWorker: false, workers: {} } }),
  dgram: build("dgram", { functions: "createSocket", classes: "Socket" }),
  dns: build("dns", { functions: dnsFunctions, classes: "Resolver", also: { getServers: () => [], promises: dnsPromises, setDefaultResultOrder: () => {}, getDefaultResultOrder: () => "verbatim" } }),
  "dns/promises": dnsPromises,
  domain: build("domain", { functions: "create createDomain", classes: "Domain" }),
  fs: build("fs", {
    functions: `${fsAsync} ${fsDescriptors} ${fsSync} createReadStream createWriteStream openAsBlob unwatchFile watchFile`,
    classes: "Dir Dirent FSWatcher ReadStream Stats WriteStream",
    also: { existsSync: () => false, exists: (_: unknown, done: (found: boolean) => void) => queueMicrotask(() => done(false)), promises: fsPromises, constants: { F_OK: 0, R_OK: 4, W_OK: 2, X_OK: 1 } },
  }),
  "fs/promises": fsPromises,
  http: build("http", { functions: httpFunctions, classes: httpClasses, also: { Agent, globalAgent: new Agent(), METHODS: methods, STATUS_CODES: statusCodes, maxHeaderSize: 16384, validateHeaderName: () => {}, validateHeaderValue: () => {} } }),
  http2: build("http2", { functions: "connect createServer createSecureServer getDefaultSettings getPackedSettings getUnpackedSettings", classes: "Http2ServerRequest Http2ServerResponse", also: { constants: {} } }),
  https: build("https", { functions: httpFunctions, classes: "Server", also: { Agent, globalAgent: new Agent() } }),
  inspector: build("inspector", { functions: "open waitForDebugger", classes: "Session", also: { url: () => undefined, close: () => {}, console: {} } }),
  net: build("net", {
    functions: "connect createConnection createServer",
    classes: "BlockList Server Socket SocketAddress Stream",
    also: { isIP: (s: unknown) => (isIPv4(s) ? 4 : isIPv6(s) ? 6 : 0), isIPv4, isIPv6, getDefaultAutoSelectFamily: () => true, setDefaultAutoSelectFamily: () => {} },
  }),
  readline: build("readline", { functions: "clearLine clearScreenDown createInterface cursorTo emitKeypressEvents moveCursor", classes: "Interface", also: { promises: readlinePromises } }),
  "readline/promises": readlinePromises,
  repl: build("repl", { functions: "start", classes: "REPLServer Recoverable" }),
  sqlite: build("sqlite", { functions: "backup", classes: "DatabaseSync StatementSync" }),
  test: build("test", { functions: "after afterEach before beforeEach describe it run suite test", also: { mock: {}, snapshot: {} } }),
  tls: build("tls", { functions: "checkServerIdentity connect createSecureContext createServer getCiphers", classes: "SecureContext Server TLSSocket", also: { DEFAULT_MIN_VERSION: "TLSv1.2", DEFAULT_MAX_VERSION: "TLSv1.3", rootCertificates: [] } }),
  trace_events: build("trace_events", { functions: "createTracing", also: { getEnabledCategories: () => undefined } }),
  tty: build("tty", { functions: "", classes: "ReadStream WriteStream", also: { isatty: () => false } }),
  v8: build("v8", { functions: "deserialize getHeapSnapshot serialize setFlagsFromString startupSnapshot writeHeapSnapshot", classes: "Deserializer Serializer", also: { cachedDataVersionTag: () => 0, getHeapStatistics: () => ({}), getHeapSpaceStatistics: () => [] } }),
  vm: build("vm", { functions: "compileFunction createContext measureMemory runInContext runInNewContext runInThisContext", classes: "Module Script SourceTextModule SyntheticModule", also: { isContext: () => false, constants: {} } }),
  wasi: build("wasi", { functions: "", classes: "WASI" }),
  worker_threads: build("worker_threads", {
    functions: "moveMessagePortToContext postMessageToThread receiveMessageOnPort",
    classes: "Worker",
    also: { isMainThread: true, isInternalThread: false, parentPort: null, resourceLimits: {}, threadId: 0, workerData: null, SHARE_ENV: Symbol.for("nodejs.worker_threads.SHARE_ENV"), getEnvironmentData: () => undefined, setEnvironmentData: () => {}, markAsUncloneable: () => {}, markAsUntransferable: () => {}, isMarkedAsUntransferable: () => false },
  }),
};
