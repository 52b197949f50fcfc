/**
 * FormData of the XHR standard, and `multipart/form-data` both ways. Parsing takes hostile bodies: one pass over the bytes, no backtracking,
 * and nothing kept but the parts themselves.
 */
import { blobBytes, fileOver, isBlob, isFile, type Blob, type File } from "./blob";
import { host } from "./host";
import { definePairIteration } from "./pair_iteration";
import { defineInterface, requireArguments, usvString } from "./webidl";

type Entry = string | File;

/** The flat list of names and values behind a FormData. */
export let entriesOf: (form: FormData) => Entry[];
export let isFormData: (v: object) => v is FormData;

function entryValue(value: unknown, filename: unknown, where: string, given: number): Entry {
  if (typeof value === "object" && value !== null && isBlob(value)) {
    if (isFile(value) && filename === undefined) return value;
    const name = filename !== undefined ? usvString(filename) : isFile(value) ? value.name : "blob";
    return fileOver(blobBytes(value), name, value.type, isFile(value) ? value.lastModified : undefined);
  }
  if (given > 2) throw new TypeError(`Failed to execute '${where}' on 'FormData': parameter 2 is not of type 'Blob'.`);
  return usvString(value);
}

export class FormData {
  #list: Entry[] = [];

  constructor(form: undefined = undefined) {
    // There is no form element here that could be given.
    if (form !== undefined) throw new TypeError("Failed to construct 'FormData': parameter 1 is not of type 'HTMLFormElement'.");
  }

  append(name: string, value: string | Blob, filename?: string): void {
    const list = this.#list;
    requireArguments(arguments.length, 2, "Failed to execute 'append' on 'FormData'");
    list.push(usvString(name), entryValue(value, filename, "append", arguments.length));
  }

  delete(name: string): void {
    requireArguments((this.#list, arguments.length), 1, "Failed to execute 'delete' on 'FormData'");
    this.#replace(usvString(name), undefined);
  }

  get(name: string): Entry | null {
    const list = this.#list;
    requireArguments(arguments.length, 1, "Failed to execute 'get' on 'FormData'");
    const n = usvString(name);
    for (let i = 0; i < list.length; i += 2) if (list[i] === n) return list[i + 1]!;
    return null;
  }

  getAll(name: string): Entry[] {
    const list = this.#list;
    requireArguments(arguments.length, 1, "Failed to execute 'getAll' on 'FormData'");
    const n = usvString(name);
    const all: Entry[] = [];
    for (let i = 0; i < list.length; i += 2) if (list[i] === n) all.push(list[i + 1]!);
    return all;
  }

  has(name: string): boolean {
    const list = this.#list;
    requireArguments(arguments.length, 1, "Failed to execute 'has' on 'FormData'");
    const n = usvString(name);
    for (let i = 0; i < list.length; i += 2) if (list[i] === n) return true;
    return false;
  }

  set(name: string, value: string | Blob, filename?: string): void {
    requireArguments((this.#list, arguments.length), 2, "Failed to execute 'set' on 'FormData'");
    this.#replace(usvString(name), entryValue(value, filename, "set", arguments.length));
  }

  /** Puts `value` in the place of the first entry of that name (or at the end) and drops the others. */
  #replace(name: string, value: Entry | undefined): void {
    const list = this.#list;
    let kept = 0, placed = value === undefined;
    for (let i = 0; i < list.length; i += 2) {
      if (list[i] === name && placed) continue;
      const hit = list[i] === name;
      const v = hit ? value! : list[i + 1]!;
      placed ||= hit;
      list[kept++] = list[i]!;
      list[kept++] = v;
    }
    list.length = kept;
    if (!placed) list.push(name, value!);
  }

  static {
    entriesOf = (form) => form.#list;
    isFormData = (v): v is FormData => #list in v;
  }
}

definePairIteration(FormData, "FormData", (form) => entriesOf(form));
defineInterface(FormData, "FormData");

/** A FormData of these names and values. */
export function formDataOf(list: readonly Entry[]): FormData {
  const form = new FormData();
  const own = entriesOf(form);
  for (let i = 0; i < list.length; i++) own.push(list[i]!);
  return form;
}

// --- encoding ------------------------------------------------------------------------------------------------------------

function escaped(s: string): string {
  return s.replace(/[\r\n"]/g, (c) => (c === '"' ? "%22" : c === "\r" ? "%0D" : "%0A"));
}

function withCrlf(s: string): string {
  return s.includes("\n") || s.includes("\r") ? s.replace(/\r\n?|\n/g, "\r\n") : s;
}

/** Bytes and content type of a FormData as a body. */
export function encodeMultipart(form: FormData): [bytes: Uint8Array, type: string] {
  const random = host.call("random", 16) as Uint8Array;
  let boundary = "----formdata-";
  for (const byte of random) boundary += byte.toString(16).padStart(2, "0");
  const list = entriesOf(form);
  const pieces: Uint8Array[] = [];
  let text = "";
  let length = 0;
  const flush = (): void => {
    const bytes = host.utf8Encode(text);
    text = "";
    length += bytes.length;
    pieces.push(bytes);
  };
  for (let i = 0; i < list.length; i += 2) {
    const value = list[i + 1]!;
    text += `--${boundary}\r\nContent-Disposition: form-data; name="${escaped(withCrlf(list[i] as string))}"`;
    if (typeof value === "string") {
      text += `\r\n\r\n${withCrlf(value)}\r\n`;
      continue;
    }
    text += `; filename="${escaped(value.name)}"\r\nContent-Type: ${value.type || "application/octet-stream"}\r\n\r\n`;
    flush();
    const bytes = blobBytes(value);
    length += bytes.length;
    pieces.push(bytes);
    text = "\r\n";
  }
  text += `--${boundary}--\r\n`;
  flush();
  const all = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return [all, `multipart/form-data; boundary=${boundary}`];
}

// --- parsing -------------------------------------------------------------------------------------------------------------

const LF = 10, CR = 13, DASH = 45;

function startsWith(bytes: Uint8Array, at: number, pattern: Uint8Array): boolean {
  if (at + pattern.length > bytes.length) return false;
  for (let i = 0; i < pattern.length; i++) if (bytes[at + i] !== pattern[i]) return false;
  return true;
}

/**
 * Where the next delimiter's dashes begin, at `from` itself or after a line feed; -1 when there is none. Linear even for bodies full of near
 * misses: the delimiter holds no line feed, so no byte is compared for two candidates.
 */
function findDelimiter(bytes: Uint8Array, from: number, delimiter: Uint8Array): number {
  for (let at = from; ; ) {
    if (startsWith(bytes, at, delimiter)) return at;
    const lf = bytes.indexOf(LF, at);
    if (lf < 0) return -1;
    at = lf + 1;
  }
}

interface PartHeaders {
  name: string | undefined;
  filename: string | undefined;
  type: string | undefined;
}

// One parameter after another, so that nothing inside a quoted value is taken for a parameter.
const parameter = /[\t ]*;[\t ]*(?:([^\t ;="]+)=(?:"((?:[^"\\]|\\[^])*)"|([^\t ;"]*)))?/y;

function unescaped(value: string): string {
  const plain = value.includes("\\") ? value.replace(/\\(["\\])/g, "$1") : value;
  return plain.replace(/%(22|0D|0A)/gi, (_, code: string) => (code === "22" ? '"' : code.toUpperCase() === "0A" ? "\n" : "\r"));
}

function disposition(value: string, part: PartHeaders): void {
  const semicolon = value.indexOf(";");
  const kind = (semicolon < 0 ? value : value.slice(0, semicolon)).trim();
  if (kind.toLowerCase() !== "form-data") {
    throw new TypeError(`Content-Disposition header for FormData part must have the value "form-data", possibly followed by parameters. Got: "${kind.slice(0, 100)}"`);
  }
  if (semicolon < 0) return;
  parameter.lastIndex = semicolon;
  for (let m = parameter.exec(value); m !== null; m = parameter.exec(value)) {
    const name = m[1]?.toLowerCase();
    if (name === "name") part.name ??= unescaped(m[2] ?? m[3]!);
    else if (name === "filename") part.filename ??= unescaped(m[2] ?? m[3]!);
  }
}

const headerLimit = 16 * 1024;

/** Reads the header lines of a part from `at`; returns where its content begins. */
function partHeaders(bytes: Uint8Array, at: number, part: PartHeaders): number {
  const limit = at + headerLimit;
  for (;;) {
    const lf = bytes.indexOf(LF, at);
    if (lf < 0 || lf > limit) throw new TypeError("No multipart message header termination found.");
    const end = lf > at && bytes[lf - 1] === CR ? lf - 1 : lf;
    if (end === at) return lf + 1;
    const line = host.utf8Decode(bytes.subarray(at, end), false, true);
    const colon = line.indexOf(":");
    if (colon < 0) throw new TypeError("Malformed header in multipart message.");
    const name = line.slice(0, colon).trim().toLowerCase();
    if (name === "content-disposition") disposition(line.slice(colon + 1).trim(), part);
    else if (name === "content-type") part.type = line.slice(colon + 1).trim();
    at = lf + 1;
  }
}

/** Parses a `multipart/form-data` body. Throws a TypeError for a malformed one. */
export function parseMultipart(bytes: Uint8Array, boundary: string): FormData {
  const delimiter = host.utf8Encode(`--${boundary}`);
  const list: Entry[] = [];
  let at = findDelimiter(bytes, 0, delimiter);
  if (at < 0) throw new TypeError("No initial boundary string (or you have a truncated message).");
  for (;;) {
    at += delimiter.length;
    if (bytes[at] === DASH && bytes[at + 1] === DASH) return formDataOf(list);
    while (bytes[at] === 32 || bytes[at] === 9) at++;
    if (bytes[at] === CR && bytes[at + 1] === LF) at += 2;
    else if (bytes[at] === LF) at += 1;
    else throw new TypeError("Boundary string was not succeeded by CRLF, LF, or '--'.");
    const part: PartHeaders = { name: undefined, filename: undefined, type: undefined };
    const start = partHeaders(bytes, at, part);
    if (part.name === undefined) throw new TypeError("Content-Disposition header in FormData part is missing a name.");
    at = findDelimiter(bytes, start, delimiter);
    if (at < 0) throw new TypeError("No subsequent boundary string after multipart message.");
    // The line break before a delimiter belongs to the delimiter.
    const end = at - start >= 2 && bytes[at - 2] === CR ? at - 2 : Math.max(start, at - 1);
    list.push(part.name, partValue(bytes.subarray(start, end), part));
  }
}

function partValue(content: Uint8Array, part: PartHeaders): Entry {
  if (part.filename === undefined) return host.utf8Decode(content, false, true);
  return fileOver(content.slice(), part.filename, part.type ?? "text/plain");
}

export const globals = { FormData };
