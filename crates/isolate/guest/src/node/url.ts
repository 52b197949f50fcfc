/**
 * `node:url`: the Web's URL classes, conversions between file URLs and paths, and the legacy `parse`, `format` and `resolve`.
 */
import { host } from "../host";
import { checkObject, checkString, invalidArgType, nodeError } from "./errors";
import { parse as parseQuery, stringify } from "./querystring";
import { posix, win32 } from "./path";

interface UrlLike {
  protocol: string;
  hostname: string;
  pathname: string;
  href: string;
  username: string;
  password: string;
  search: string;
  hash: string;
  host: string;
}

type UrlClass = new (input: string, base?: string) => UrlLike;

const webUrl = (): UrlClass => (globalThis as unknown as { URL: UrlClass }).URL;

function isUrl(v: unknown): v is UrlLike {
  return typeof v === "object" && v !== null && typeof (v as UrlLike).href === "string" && typeof (v as UrlLike).protocol === "string" && (v as { auth?: unknown }).auth === undefined && (v as { path?: unknown }).path === undefined;
}

// --- file URLs -----------------------------------------------------------------------------------------------------------

interface PathOptions {
  windows?: boolean;
}

export function fileURLToPath(given: unknown, options?: PathOptions): string {
  const url = typeof given === "string" ? new (webUrl())(given) : given;
  if (!isUrl(url)) throw invalidArgType("path", ["string", "URL"], given);
  if (url.protocol !== "file:") throw nodeError(TypeError, "ERR_INVALID_URL_SCHEME", "The URL must be of scheme file");
  const path = url.pathname;
  const separators = options?.windows ? /%2f|%5c/i : /%2f/i;
  if (separators.test(path)) {
    throw nodeError(TypeError, "ERR_INVALID_FILE_URL_PATH", `File URL path must not include encoded ${options?.windows ? "\\ or " : ""}/ characters`);
  }
  if (!options?.windows) {
    if (url.hostname !== "") throw nodeError(TypeError, "ERR_INVALID_FILE_URL_HOST", 'File URL host must be "localhost" or empty on linux');
    return decodeURIComponent(path);
  }
  const decoded = decodeURIComponent(path).replaceAll("/", "\\");
  if (url.hostname !== "") return `\\\\${domainToUnicode(url.hostname)}${decoded}`;
  if (!/^\\[a-z]:/i.test(decoded)) throw nodeError(TypeError, "ERR_INVALID_FILE_URL_PATH", "File URL path must be absolute");
  return decoded.slice(1);
}

const pathEscapes: [RegExp, string][] = [[/%/g, "%25"], [/\\/g, "%5C"], [/\n/g, "%0A"], [/\r/g, "%0D"], [/\t/g, "%09"], [/\?/g, "%3F"], [/#/g, "%23"]];

export function pathToFileURL(path: string, options?: PathOptions): UrlLike {
  checkString(path, "path");
  const windows = options?.windows === true;
  let resolved = windows ? win32.resolve(path) : posix.resolve(path);
  if (/[/\\]$/.test(path) && (windows || path.endsWith("/")) && !resolved.endsWith(windows ? "\\" : "/")) resolved += windows ? "\\" : "/";
  let hostname = "";
  if (windows) {
    const unc = /^\\\\([^\\]+)(\\.*)$/s.exec(resolved);
    if (unc) [, hostname, resolved] = unc as unknown as [string, string, string];
    resolved = resolved.replaceAll("\\", "/");
  }
  for (const [character, escape] of pathEscapes) resolved = resolved.replace(character, escape);
  return new (webUrl())(`file://${hostname}${resolved.startsWith("/") ? "" : "/"}${resolved}`);
}

export function domainToASCII(domain: string): string {
  return host.call("url.domainToASCII", `${domain}`) as string;
}

export function domainToUnicode(domain: string): string {
  return host.call("url.domainToUnicode", `${domain}`) as string;
}

export function urlToHttpOptions(url: UrlLike): object {
  checkObject(url, "url");
  const { hostname, hash, search, pathname, href, username, password, protocol } = url;
  const port = (url as unknown as { port: string }).port;
  return {
    __proto__: null,
    ...url,
    protocol,
    hostname: hostname.startsWith("[") ? hostname.slice(1, -1) : hostname,
    hash,
    search,
    pathname,
    path: `${pathname || ""}${search || ""}`,
    href,
    ...(port === "" ? {} : { port: Number(port) }),
    ...(username || password ? { auth: `${decodeURIComponent(username)}:${decodeURIComponent(password)}` } : {}),
  };
}

// --- legacy --------------------------------------------------------------------------------------------------------------

const slashed = new Set(["http", "https", "ftp", "gopher", "file", "ws", "wss"]);

/** The legacy URL object: every part a string or null. */
export class Url {
  protocol: string | null = null;
  slashes: boolean | null = null;
  auth: string | null = null;
  host: string | null = null;
  port: string | null = null;
  hostname: string | null = null;
  hash: string | null = null;
  search: string | null = null;
  query: unknown = null;
  pathname: string | null = null;
  path: string | null = null;
  href = "";

  parse(text: string, parseQueryString?: boolean, slashesDenoteHost?: boolean): this {
    return Object.assign(this, parse(text, parseQueryString, slashesDenoteHost));
  }

  format(): string {
    return formatLegacy(this);
  }

  resolve(relative: string): string {
    return this.resolveObject(parse(relative, false, true)).format();
  }

  resolveObject(relative: string | Url): Url {
    return resolveParts(this, typeof relative === "string" ? parse(relative, false, true) : relative);
  }
}

const unsafe = /[\t\n\r "'<>\\^`{|}]/g;

function escapeUnsafe(rest: string): string {
  return rest.replace(unsafe, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`);
}

/** Takes `user@host:port` off the front; returns what follows. */
function takeAuthority(out: Url, rest: string): string {
  const hard = rest.search(/[/?#]/);
  const at = rest.lastIndexOf("@", hard < 0 ? rest.length : hard);
  let start = 0;
  if (at >= 0 && (hard < 0 || at < hard)) {
    out.auth = decodeURIComponent(rest.slice(0, at));
    start = at + 1;
  }
  const from = rest.slice(start).search(/[/?#\t\n\r "<>\\^`{|};]/);
  const hostEnd = from < 0 ? rest.length : start + from;
  let name = rest.slice(start, hostEnd);
  const port = /:(\d*)$/.exec(name);
  if (port) {
    if (port[1] !== "") out.port = port[1]!;
    name = name.slice(0, port.index);
  }
  const ipv6 = name.startsWith("[") && name.endsWith("]");
  // What cannot be in a host begins the path.
  const bad = ipv6 ? -1 : name.search(/[^a-zA-Z0-9.\-+_\u0080-\uffff]/);
  const cut = bad < 0 ? "" : `/${name.slice(bad)}`;
  if (bad >= 0) name = name.slice(0, bad);
  out.hostname = ipv6 ? name.slice(1, -1).toLowerCase() : name === "" ? "" : domainToASCII(name.toLowerCase());
  if (!ipv6 && name !== "" && out.hostname === "") throw nodeError(TypeError, "ERR_INVALID_URL", "Invalid URL");
  out.host = `${ipv6 ? `[${out.hostname}]` : out.hostname}${out.port === null ? "" : `:${out.port}`}`;
  return cut + rest.slice(hostEnd);
}

export function parse(text: string, parseQueryString?: boolean, slashesDenoteHost?: boolean): Url {
  if ((text as unknown) instanceof Url) return text as unknown as Url;
  checkString(text, "url");
  const out = new Url();
  let rest = text.trim();
  const split = rest.search(/[?#]/);
  const head = split < 0 ? rest : rest.slice(0, split);
  rest = head.replaceAll("\\", "/") + (split < 0 ? "" : rest.slice(split));
  const scheme = /^[a-z0-9.+-]+:/i.exec(rest)?.[0];
  if (scheme !== undefined) {
    out.protocol = scheme.toLowerCase();
    rest = rest.slice(scheme.length);
  }
  const name = out.protocol?.slice(0, -1);
  const script = name === "javascript";
  if (slashesDenoteHost || scheme !== undefined || /^\/\/[^@/]+@[^@/]+/.test(rest)) {
    if (rest.startsWith("//") && !script) {
      rest = rest.slice(2);
      out.slashes = true;
    }
  }
  if (!script && (out.slashes || (name !== undefined && !slashed.has(name)))) rest = takeAuthority(out, rest);
  if (!script) rest = escapeUnsafe(rest);
  takePath(out, rest, parseQueryString === true);
  if (name !== undefined && slashed.has(name) && out.hostname && !out.pathname) out.pathname = "/";
  if (out.pathname || out.search) out.path = (out.pathname ?? "") + (out.search ?? "");
  out.href = formatLegacy(out);
  return out;
}

function takePath(out: Url, given: string, parseQueryString: boolean): void {
  let rest = given;
  const hash = rest.indexOf("#");
  if (hash >= 0) {
    out.hash = rest.slice(hash);
    rest = rest.slice(0, hash);
  }
  const question = rest.indexOf("?");
  if (question >= 0) {
    out.search = rest.slice(question);
    out.query = parseQueryString ? parseQuery(out.search.slice(1)) : out.search.slice(1);
    rest = rest.slice(0, question);
  } else if (parseQueryString) {
    out.search = null;
    out.query = Object.create(null);
  }
  if (rest !== "") out.pathname = rest;
}

function formatLegacy(url: Partial<Url>): string {
  let auth = url.auth ?? "";
  if (auth !== "") auth = `${encodeURIComponent(auth).replace(/%3A/i, ":")}@`;
  let protocol = url.protocol ?? "";
  let pathname = url.pathname ?? "";
  let hash = url.hash ?? "";
  let host: string | null = null;
  if (url.host) host = auth + url.host;
  else if (url.hostname) {
    host = auth + (url.hostname.includes(":") && !url.hostname.startsWith("[") ? `[${url.hostname}]` : url.hostname);
    if (url.port) host += `:${url.port}`;
  }
  const query = url.query !== null && typeof url.query === "object" ? stringify(url.query) : "";
  let search = url.search ?? (query === "" ? "" : `?${query}`);
  if (protocol !== "" && !protocol.endsWith(":")) protocol += ":";
  pathname = pathname.replace(/[?#]/g, encodeURIComponent);
  if (url.slashes || slashed.has(protocol.slice(0, -1))) {
    if (url.slashes || host) {
      if (pathname !== "" && !pathname.startsWith("/")) pathname = `/${pathname}`;
      host = `//${host ?? ""}`;
    } else if (protocol === "file:" && host === null) host = "//";
  }
  if (hash !== "" && !hash.startsWith("#")) hash = `#${hash}`;
  if (search !== "" && !search.startsWith("?")) search = `?${search}`;
  return `${protocol}${host ?? ""}${pathname}${search.replaceAll("#", "%23")}${hash}`;
}

interface FormatOptions {
  fragment?: boolean;
  search?: boolean;
  auth?: boolean;
  unicode?: boolean;
}

export function format(url: unknown, options?: FormatOptions): string {
  if (typeof url === "string") return formatLegacy(parse(url));
  if (url === null || typeof url !== "object") throw invalidArgType("urlObject", ["Object", "string"], url);
  if (!isUrl(url) || url instanceof Url) return formatLegacy(url as Url);
  const { protocol, username, password, host, pathname, search, hash } = url;
  const auth = options?.auth === false || (username === "" && password === "") ? "" : `${username}${password === "" ? "" : `:${password}`}@`;
  const slashes = url.href.startsWith(`${protocol}//`) ? "//" : "";
  const name = options?.unicode ? domainToUnicode(host) : host;
  return `${protocol}${slashes}${auth}${name}${pathname}${options?.search === false ? "" : search}${options?.fragment === false ? "" : hash}`;
}

function mergePaths(base: string, relative: string, rooted: boolean): string {
  const absolute = relative.startsWith("/");
  const segments = absolute ? relative.split("/") : [...base.split("/").slice(0, -1), ...relative.split("/")];
  const last = segments[segments.length - 1];
  const directory = last === "" || last === "." || last === "..";
  const out: string[] = [];
  for (const segment of segments) {
    if (segment === "." || segment === "") continue;
    if (segment !== "..") out.push(segment);
    else if (out.length > 0 && out[out.length - 1] !== "..") out.pop();
    else if (!absolute && !rooted && !base.startsWith("/")) out.push("..");
  }
  const start = absolute || rooted || base.startsWith("/") ? "/" : "";
  return `${start}${out.join("/")}${directory && out.length > 0 ? "/" : ""}`;
}

function resolveParts(base: Url, relative: Url): Url {
  const out = Object.assign(new Url(), base, { hash: relative.hash });
  if (relative.href === "") {
    out.href = formatLegacy(out);
    return out;
  }
  const sameProtocol = relative.protocol === null || relative.protocol === base.protocol;
  if (!sameProtocol || relative.slashes) {
    Object.assign(out, relative, { protocol: relative.protocol ?? base.protocol, slashes: relative.slashes ?? base.slashes });
    if (relative.pathname !== null && (out.host ?? "") !== "") out.pathname = mergePaths("/", relative.pathname, true);
  } else if (relative.pathname !== null) {
    out.pathname = mergePaths(base.pathname ?? "", relative.pathname, Boolean(base.host));
    out.search = relative.search;
    out.query = relative.query;
  } else if (relative.search !== null) {
    out.search = relative.search;
    out.query = relative.query;
  }
  out.path = out.pathname !== null || out.search !== null ? (out.pathname ?? "") + (out.search ?? "") : null;
  out.href = formatLegacy(out);
  return out;
}

export function resolve(from: string, to: string): string {
  return parse(from, false, true).resolve(to);
}

export function resolveObject(from: string | Url, to: string): Url | string {
  return from ? parse(from as string, false, true).resolveObject(to) : to;
}

/** `URL`, `URLSearchParams` and `URLPattern` are added once the globals exist. */
export const exports: Record<string, unknown> = {
  Url,
  parse,
  format,
  resolve,
  resolveObject,
  domainToASCII,
  domainToUnicode,
  fileURLToPath,
  fileURLToPathBuffer: (url: unknown, options?: PathOptions) => host.utf8Encode(fileURLToPath(url, options)),
  pathToFileURL,
  urlToHttpOptions,
};
