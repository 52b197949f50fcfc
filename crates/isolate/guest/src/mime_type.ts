/**
 * MIME types as the MIME Sniffing standard parses and serialises them. Used by bodies (`blob().type`, which parser `formData()` takes). It does not sniff.
 */

export interface MimeType {
  /** `type/subtype`, lower case. */
  essence: string;
  /** Parameters in order, names in lower case. */
  parameters: [name: string, value: string][];
}

const head = /^[\t\n\r ]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\/([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[\t\n\r ]*(?:;|$)/;
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const quotable = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Collects a quoted string that begins after its opening quote; returns its value and where it ended. */
function quotedString(s: string, from: number): [value: string, end: number] {
  let value = "";
  let i = from;
  for (; i < s.length && s[i] !== '"'; i++) {
    if (s[i] === "\\" && i + 1 < s.length) i++;
    value += s[i];
  }
  return [value, i + 1];
}

// More than anyone sends; bounds what a hostile header costs.
const parametersMax = 64;

function parseParameters(s: string): [string, string][] {
  const parameters: [string, string][] = [];
  let i = 0;
  while (i < s.length && parameters.length < parametersMax) {
    const eq = s.indexOf("=", i);
    const semicolon = s.indexOf(";", i);
    if (eq < 0) break;
    if (semicolon >= 0 && semicolon < eq) {
      i = semicolon + 1;
      continue;
    }
    const name = s.slice(i, eq).trimStart().toLowerCase();
    let value: string;
    let end: number;
    if (s[eq + 1] === '"') {
      [value, end] = quotedString(s, eq + 2);
      const next = s.indexOf(";", end);
      end = next < 0 ? s.length : next;
    } else {
      end = semicolon < 0 ? s.length : semicolon;
      value = s.slice(eq + 1, end).trimEnd();
    }
    i = end + 1;
    const empty = value === "" && s[eq + 1] !== '"';
    if (!empty && token.test(name) && quotable.test(value) && !parameters.some((p) => p[0] === name)) parameters.push([name, value]);
  }
  return parameters;
}

/** The parsed type, or undefined when it is none. */
export function parseMimeType(s: string): MimeType | undefined {
  const m = head.exec(s);
  if (m === null) return undefined;
  return { essence: `${m[1]}/${m[2]}`.toLowerCase(), parameters: parseParameters(s.slice(m[0].length)) };
}

export function serializeMimeType(type: MimeType): string {
  let out = type.essence;
  for (const [name, value] of type.parameters) out += `;${name}=${token.test(value) ? value : `"${value.replace(/["\\]/g, "\\$&")}"`}`;
  return out;
}

export function mimeParameter(type: MimeType, name: string): string | undefined {
  return type.parameters.find((p) => p[0] === name)?.[1];
}
