/**
 * `node:path`, `node:path/posix` and `node:path/win32`: pure text. The current directory is `/`, as `process.cwd()` says.
 */
import { checkObject, checkString } from "./errors";

interface Parsed {
  root: string;
  dir: string;
  base: string;
  name: string;
  ext: string;
}

/** What differs between the two: separators, and how a root is recognised. */
interface Flavour {
  sep: string;
  isSeparator(c: string | undefined): boolean;
}

/** Resolves `.` and `..` in a path without its root. */
function collapse(path: string, allowAbove: boolean, flavour: Flavour): string {
  const out: string[] = [];
  let start = 0;
  for (let i = 0; i <= path.length; i++) {
    if (i < path.length && !flavour.isSeparator(path[i])) continue;
    const part = path.slice(start, i);
    start = i + 1;
    if (part === "" || part === ".") continue;
    if (part !== "..") out.push(part);
    else if (out.length > 0 && out[out.length - 1] !== "..") out.pop();
    else if (allowAbove) out.push("..");
  }
  return out.join(flavour.sep);
}

function lastSeparator(path: string, end: number, flavour: Flavour): number {
  for (let i = end - 1; i >= 0; i--) if (flavour.isSeparator(path[i])) return i;
  return -1;
}

/** Where the path ends when trailing separators (after the root) are left out. */
function trimmedEnd(path: string, rootEnd: number, flavour: Flavour): number {
  let end = path.length;
  while (end > rootEnd && flavour.isSeparator(path[end - 1])) end--;
  return end;
}

function extensionOf(base: string): string {
  const dot = base.lastIndexOf(".");
  if (dot <= 0 || base === "..") return "";
  return base.slice(dot);
}

function baseOf(path: string, rootEnd: number, suffix: string | undefined, flavour: Flavour): string {
  const end = trimmedEnd(path, rootEnd, flavour);
  const start = Math.max(lastSeparator(path, end, flavour) + 1, rootEnd);
  const base = path.slice(start, Math.max(start, end));
  if (suffix === path) return "";
  if (suffix !== undefined && suffix !== base && base.endsWith(suffix)) return base.slice(0, base.length - suffix.length);
  return base;
}

function formatWith(sep: string, parts: Partial<Parsed>): string {
  checkObject(parts, "pathObject");
  const dir = parts.dir || parts.root;
  const ext = parts.ext ? (parts.ext.startsWith(".") ? parts.ext : `.${parts.ext}`) : "";
  const base = parts.base || `${parts.name || ""}${ext}`;
  if (!dir) return base;
  return dir === parts.root ? `${dir}${base}` : `${dir}${sep}${base}`;
}

/** A glob as `path.matchesGlob` understands it: `*`, `**`, `?`, `[…]`, `{a,b}`. */
function globPattern(glob: string, flavour: Flavour): RegExp {
  const sep = flavour.sep === "/" ? "/" : "[\\\\/]";
  const other = flavour.sep === "/" ? "[^/]" : "[^\\\\/]";
  let out = "";
  let depth = 0;
  for (let i = 0; i < glob.length; i++) {
    const c = glob[i]!;
    if (c === "*") {
      if (glob[i + 1] !== "*") out += `${other}*`;
      else {
        i++;
        if (flavour.isSeparator(glob[i + 1])) {
          i++;
          out += `(?:${other}+${sep})*`;
        } else out += ".*";
      }
    } else if (c === "?") out += other;
    else if (c === "{") {
      depth++;
      out += "(?:";
    } else if (c === "}" && depth > 0) {
      depth--;
      out += ")";
    } else if (c === "," && depth > 0) out += "|";
    else if (c === "[" && glob.indexOf("]", i + 2) > 0) {
      const end = glob.indexOf("]", i + 2);
      out += `[${glob.slice(i + 1, end).replace(/^!/, "^").replace(/[\\\]]/g, "\\$&")}]`;
      i = end;
    } else out += flavour.isSeparator(c) ? sep : c.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  }
  return new RegExp(`^${out}${")".repeat(depth)}$`, "s");
}

function matchesGlobWith(path: unknown, glob: unknown, flavour: Flavour): boolean {
  checkString(path, "path");
  checkString(glob, "pattern");
  return globPattern(glob, flavour).test(path);
}

// --- posix --------------------------------------------------------------------------------------------------------------

const slash: Flavour = { sep: "/", isSeparator: (c) => c === "/" };

function commonLength(a: string[], b: string[], same: (x: string, y: string) => boolean): number {
  let n = 0;
  while (n < a.length && n < b.length && same(a[n]!, b[n]!)) n++;
  return n;
}

function stepsBetween(from: string, to: string, sep: string, same: (x: string, y: string) => boolean): string {
  const a = from.split(sep).filter(Boolean);
  const b = to.split(sep).filter(Boolean);
  const n = commonLength(a, b, same);
  return [...Array<string>(a.length - n).fill(".."), ...b.slice(n)].join(sep);
}

const posixMethods = {
  resolve(...paths: string[]): string {
    let path = "";
    for (let i = paths.length - 1; i >= 0 && !path.startsWith("/"); i--) {
      checkString(paths[i], `paths[${i}]`);
      if (paths[i] !== "") path = path === "" ? paths[i]! : `${paths[i]}/${path}`;
    }
    return `/${collapse(path, false, slash)}`;
  },
  normalize(path: string): string {
    checkString(path, "path");
    if (path === "") return ".";
    const absolute = path.startsWith("/");
    let out = collapse(path, !absolute, slash);
    if (out === "" && !absolute) out = ".";
    if (out !== "" && path.endsWith("/")) out += "/";
    return absolute ? `/${out}` : out;
  },
  isAbsolute(path: string): boolean {
    checkString(path, "path");
    return path.startsWith("/");
  },
  join(...parts: string[]): string {
    for (const part of parts) checkString(part, "path");
    const joined = parts.filter(Boolean).join("/");
    return joined === "" ? "." : posixMethods.normalize(joined);
  },
  relative(from: string, to: string): string {
    checkString(from, "from");
    checkString(to, "to");
    return stepsBetween(posixMethods.resolve(from), posixMethods.resolve(to), "/", (a, b) => a === b);
  },
  toNamespacedPath: (path: string): string => path,
  dirname(path: string): string {
    checkString(path, "path");
    if (path === "") return ".";
    const end = trimmedEnd(path, 1, slash);
    const at = lastSeparator(path, end, slash);
    if (at < 0) return ".";
    if (at === 0) return "/";
    // A run of slashes is not collapsed: of exactly two leading ones both stay.
    return at === 1 && path.startsWith("/") ? "//" : path.slice(0, at);
  },
  basename(path: string, suffix?: string): string {
    if (suffix !== undefined) checkString(suffix, "suffix");
    checkString(path, "path");
    return baseOf(path, 0, suffix, slash);
  },
  extname(path: string): string {
    checkString(path, "path");
    return extensionOf(baseOf(path, 0, undefined, slash));
  },
  format: (parts: Partial<Parsed>): string => formatWith("/", parts),
  parse(path: string): Parsed {
    checkString(path, "path");
    const root = path.startsWith("/") ? "/" : "";
    const base = baseOf(path, root.length, undefined, slash);
    const ext = extensionOf(base);
    const end = trimmedEnd(path, root.length, slash);
    const at = lastSeparator(path, end, slash);
    return { root, dir: at > 0 ? path.slice(0, at) : root, base, ext, name: base.slice(0, base.length - ext.length) };
  },
  matchesGlob: (path: string, glob: string): boolean => matchesGlobWith(path, glob, slash),
};

// --- win32 --------------------------------------------------------------------------------------------------------------

const backslash: Flavour = { sep: "\\", isSeparator: (c) => c === "\\" || c === "/" };

interface Root {
  /** `C:`, `\\server\share`, or nothing. */
  device: string;
  /** Length of the root in the text, its separator included. */
  length: number;
  absolute: boolean;
}

function skip(path: string, from: number, separators: boolean): number {
  let i = from;
  while (i < path.length && backslash.isSeparator(path[i]) === separators) i++;
  return i;
}

/** `\\\\?\\` and `\\\\.\\` are roots of their own only where paths are normalised; elsewhere they read like a host and a share. */
function uncRoot(path: string, devices: boolean): Root {
  const plain = { device: "", length: 1, absolute: true };
  if (!backslash.isSeparator(path[1])) return plain;
  const hostEnd = skip(path, 2, false);
  if (hostEnd === 2 || hostEnd === path.length) return plain;
  const shareStart = skip(path, hostEnd, true);
  const shareEnd = skip(path, shareStart, false);
  if (shareEnd === shareStart) return plain;
  const host = path.slice(2, hostEnd);
  if (devices && (host === "." || host === "?")) return { device: `\\\\${host}`, length: 4, absolute: true };
  return { device: `\\\\${host}\\${path.slice(shareStart, shareEnd)}`, length: shareEnd, absolute: true };
}

function rootOf(path: string, devices = true): Root {
  if (path !== "" && backslash.isSeparator(path[0])) return uncRoot(path, devices);
  if (/^[a-zA-Z]:/.test(path)) {
    const absolute = backslash.isSeparator(path[2]);
    return { device: path.slice(0, 2), length: absolute ? 3 : 2, absolute };
  }
  return { device: "", length: 0, absolute: false };
}

/** Whether what was a relative path reads like a drive or a device once its dots are resolved. */
function becameDevice(path: string, tail: string): boolean {
  return path.includes(":") && (/^[a-zA-Z]:/.test(tail) || /:(?:[\\/]|$)/.test(path));
}

const sameFolded = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();

const win32Methods = {
  resolve(...paths: string[]): string {
    let device = "";
    let tail = "";
    let absolute = false;
    for (let i = paths.length - 1; i >= -1; i--) {
      const path = i >= 0 ? paths[i]! : "\\";
      checkString(path, `paths[${i}]`);
      if (path === "") continue;
      const root = rootOf(path);
      if (root.device !== "") {
        if (device !== "" && !sameFolded(root.device, device)) continue;
        device = device || root.device;
      }
      if (!absolute) {
        tail = `${path.slice(root.length)}\\${tail}`;
        absolute = root.absolute;
      }
      if (absolute && device !== "") break;
    }
    const rest = collapse(tail, !absolute, backslash);
    return absolute ? `${device}\\${rest}` : `${device}${rest}` || ".";
  },
  normalize(path: string): string {
    checkString(path, "path");
    if (path === "") return ".";
    const root = rootOf(path);
    let tail = collapse(path.slice(root.length), !root.absolute, backslash);
    if (tail === "" && !root.absolute) tail = ".";
    if (tail !== "" && backslash.isSeparator(path[path.length - 1]) && path.length > root.length) tail += "\\";
    if (root.device.startsWith("\\\\") && root.length === path.length) return `${root.device}\\`;
    if (!root.absolute && root.device === "" && becameDevice(path, tail)) return `.\\${tail}`;
    return root.absolute ? `${root.device}\\${tail}` : `${root.device}${tail}`;
  },
  isAbsolute(path: string): boolean {
    checkString(path, "path");
    return rootOf(path).absolute;
  },
  join(...parts: string[]): string {
    for (const part of parts) checkString(part, "path");
    const given = parts.filter(Boolean);
    if (given.length === 0) return ".";
    let joined = given.join("\\");
    // Joining must not turn a plain root into a network share: only a first part that is one may begin with two separators.
    const unc = /^[\\/]{2}[^\\/]/.test(given[0]!);
    if (!unc) joined = joined.replace(/^[\\/]{2,}/, "\\");
    return win32Methods.normalize(joined);
  },
  relative(from: string, to: string): string {
    checkString(from, "from");
    checkString(to, "to");
    if (from === to) return "";
    const a = win32Methods.resolve(from);
    const b = win32Methods.resolve(to);
    const ra = rootOf(a);
    const rb = rootOf(b);
    if (!sameFolded(ra.device, rb.device)) return b;
    return stepsBetween(a.slice(ra.length), b.slice(rb.length), "\\", sameFolded);
  },
  toNamespacedPath(path: string): string {
    if (typeof path !== "string" || path === "") return path;
    const full = win32Methods.resolve(path);
    if (/^\\\\[^?.]/.test(full)) return `\\\\?\\UNC\\${full.slice(2)}`;
    return /^[a-zA-Z]:\\/.test(full) ? `\\\\?\\${full}` : path;
  },
  dirname(path: string): string {
    checkString(path, "path");
    if (path === "") return ".";
    const root = rootOf(path, false);
    let rootEnd = root.length;
    if (root.device.startsWith("\\\\") && backslash.isSeparator(path[rootEnd])) rootEnd++;
    const end = trimmedEnd(path, rootEnd, backslash);
    const at = lastSeparator(path, end, backslash);
    if (at < rootEnd) return rootEnd === 0 ? "." : path.slice(0, rootEnd);
    return path.slice(0, at);
  },
  basename(path: string, suffix?: string): string {
    if (suffix !== undefined) checkString(suffix, "suffix");
    checkString(path, "path");
    return baseOf(path, /^[a-zA-Z]:/.test(path) ? 2 : 0, suffix, backslash);
  },
  extname(path: string): string {
    checkString(path, "path");
    return extensionOf(baseOf(path, /^[a-zA-Z]:/.test(path) ? 2 : 0, undefined, backslash));
  },
  format: (parts: Partial<Parsed>): string => formatWith("\\", parts),
  parse(path: string): Parsed {
    checkString(path, "path");
    const found = rootOf(path, false);
    let rootEnd = found.length;
    if (found.device.startsWith("\\\\") && backslash.isSeparator(path[rootEnd])) rootEnd++;
    const root = path.slice(0, rootEnd);
    const base = baseOf(path, rootEnd, undefined, backslash);
    const ext = extensionOf(base);
    const end = trimmedEnd(path, rootEnd, backslash);
    const at = lastSeparator(path, end, backslash);
    return { root, dir: at >= rootEnd && at > 0 ? path.slice(0, at) : root, base, ext, name: base.slice(0, base.length - ext.length) };
  },
  matchesGlob: (path: string, glob: string): boolean => matchesGlobWith(path, glob, backslash),
};

type Path = typeof posixMethods & { sep: string; delimiter: string; posix: Path; win32: Path };

export const win32 = { ...win32Methods, sep: "\\", delimiter: ";" } as unknown as Path;
export const posix = { ...posixMethods, sep: "/", delimiter: ":" } as Path;
posix.posix = win32.posix = posix;
posix.win32 = win32.win32 = win32;

export const exports = posix;
