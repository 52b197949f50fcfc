/**
 * Decimal numbers as digit strings: what number formatting rounds and groups. Pure.
 */

/** 0.digits × 10^point; no digits: zero. */
export interface Decimal {
  negative: boolean;
  digits: string;
  point: number;
}

export type RoundingMode = "ceil" | "floor" | "expand" | "trunc" | "halfCeil" | "halfFloor" | "halfExpand" | "halfTrunc" | "halfEven";

const literal = /^([+-]?)(\d*)(?:\.(\d*))?(?:e([+-]?\d+))?$/i;

function normal(negative: boolean, digits: string, point: number): Decimal {
  const lead = /^0*/.exec(digits)![0].length;
  const kept = digits.slice(lead).replace(/0+$/, "");
  return kept === "" ? { negative, digits: "", point: 0 } : { negative, digits: kept, point: point - lead };
}

/** The exact decimal a literal stands for; undefined when it is none (or out of all proportion). */
export function parseDecimal(text: string): Decimal | undefined {
  const m = literal.exec(text);
  if (m === null || (m[2] === "" && (m[3] ?? "") === "")) return undefined;
  const exponent = Number(m[4] ?? 0);
  if (Math.abs(exponent) > 10_000) return undefined;
  return normal(m[1] === "-", m[2]! + (m[3] ?? ""), m[2]!.length + exponent);
}

/** What a format method was given as a decimal; or NaN or an infinity as a number. */
export function toDecimal(value: unknown): Decimal | number {
  let v = value;
  if (typeof v === "object" || typeof v === "function") v = toPrimitive(v);
  if (typeof v === "bigint") return parseDecimal(`${v}`)!;
  if (typeof v === "string") {
    const exact = parseDecimal(v.trim());
    if (exact !== undefined && Number.isFinite(Number(v))) return exact;
  }
  const n = Number(v);
  if (!Number.isFinite(n)) return n;
  return Object.is(n, -0) ? { negative: true, digits: "", point: 0 } : parseDecimal(`${n}`)!;
}

function toPrimitive(v: object | Function | null): unknown {
  if (v === null) return v;
  const n = (v as { valueOf(): unknown }).valueOf();
  return typeof n === "bigint" || typeof n === "string" ? n : Number(v);
}

export function isZero(d: Decimal): boolean {
  return d.digits === "";
}

/** Multiplies by a power of ten. */
export function shift(d: Decimal, by: number): Decimal {
  return isZero(d) ? d : { ...d, point: d.point + by };
}

/** The power of ten of the leading digit. */
export function magnitude(d: Decimal): number {
  return isZero(d) ? 0 : d.point - 1;
}

function increment(digits: string): string {
  const nines = /9*$/.exec(digits)![0].length;
  const head = digits.slice(0, digits.length - nines);
  if (head === "") return `1${"0".repeat(nines)}`;
  return head.slice(0, -1) + String.fromCharCode(head.charCodeAt(head.length - 1) + 1) + "0".repeat(nines);
}

function roundsUp(mode: RoundingMode, negative: boolean, kept: string, rest: string): boolean {
  const half = rest[0]! > "5" || (rest[0] === "5" && rest.length > 1) ? 1 : rest[0] === "5" ? 0 : -1;
  switch (mode) {
    case "ceil": return !negative;
    case "floor": return negative;
    case "expand": return true;
    case "trunc": return false;
    case "halfCeil": return half > 0 || (half === 0 && !negative);
    case "halfFloor": return half > 0 || (half === 0 && negative);
    case "halfExpand": return half >= 0;
    case "halfTrunc": return half > 0;
    case "halfEven": return half > 0 || (half === 0 && (kept.charCodeAt(kept.length - 1) & 1) === 1);
  }
}

/** Rounds to a multiple of 10^power. */
export function roundTo(d: Decimal, power: number, mode: RoundingMode): Decimal {
  const keep = d.point - power;
  if (isZero(d) || keep >= d.digits.length) return d;
  const padded = keep < 0 ? "0".repeat(-keep) + d.digits : d.digits;
  const count = Math.max(keep, 0);
  const kept = padded.slice(0, count);
  const up = roundsUp(mode, d.negative, kept, padded.slice(count).replace(/(?<=.)0+$/, ""));
  if (!up) return normal(d.negative, kept, Math.max(d.point, power));
  const raised = increment(kept);
  return normal(d.negative, raised, power + raised.length);
}

/** Integer and fraction digits, padded to the wanted least number of each. */
export function layOut(d: Decimal, minInteger: number, minFraction: number): { integer: string; fraction: string } {
  const integer = d.point <= 0 ? "" : d.digits.slice(0, d.point).padEnd(d.point, "0");
  const fraction = d.point <= 0 ? (isZero(d) ? "" : "0".repeat(-d.point) + d.digits) : d.digits.slice(d.point);
  return { integer: integer.padStart(Math.max(minInteger, 1), "0"), fraction: fraction.padEnd(minFraction, "0") };
}
