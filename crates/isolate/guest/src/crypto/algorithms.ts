/**
 * The registry of WebCrypto algorithms and the reading of the dictionaries that name them. What each does is in the files beside this one.
 */
import { bytesOf } from "../streams";
import { type CryptoKey, type CryptoKeyPair, type Format, type JsonWebKey, type Usage, failed, unsupported } from "./key";

/** What a script passed to name an algorithm: an object, at least with a name. Its other members are read by the algorithm. */
export interface Params {
  name: string;
  [member: string]: unknown;
}

export type KeyData = Uint8Array | JsonWebKey;

/** One algorithm; an operation that it lacks is a NotSupportedError. Everything that reads arguments does so before the first await. */
export interface Algorithm {
  name: string;
  digest?(data: Uint8Array): Uint8Array;
  generateKey?(p: Params, extractable: boolean, usages: Usage[]): CryptoKey | CryptoKeyPair | Promise<CryptoKey | CryptoKeyPair>;
  importKey?(format: Format, data: KeyData, p: Params, extractable: boolean, usages: Usage[]): CryptoKey;
  exportKey?(format: Format, key: CryptoKey): KeyData;
  sign?(p: Params, key: CryptoKey, data: Uint8Array): Uint8Array | Promise<Uint8Array>;
  verify?(p: Params, key: CryptoKey, signature: Uint8Array, data: Uint8Array): boolean;
  encrypt?(p: Params, key: CryptoKey, data: Uint8Array): Uint8Array;
  decrypt?(p: Params, key: CryptoKey, data: Uint8Array): Uint8Array | Promise<Uint8Array>;
  wrapKey?(p: Params, key: CryptoKey, data: Uint8Array): Uint8Array;
  unwrapKey?(p: Params, key: CryptoKey, data: Uint8Array): Uint8Array;
  deriveBits?(p: Params, key: CryptoKey, length: number | null): Uint8Array | Promise<Uint8Array>;
  /** Length in bits of a key to be derived, null where the key material has any. */
  keyLength?(p: Params): number | null;
}

export type Operation = Exclude<keyof Algorithm, "name">;

const registry: Record<string, Algorithm> = Object.create(null);

export function register(...algorithms: Algorithm[]): void {
  for (const a of algorithms) registry[a.name.toUpperCase()] = a;
}

/** Normalises an algorithm identifier for an operation; undefined where the algorithm is unknown or has no such operation. */
export function find(operation: Operation, identifier: unknown): [Algorithm, Params] | undefined {
  const p = typeof identifier === "object" && identifier !== null ? (identifier as Params) : { name: identifier as string };
  if (p.name === undefined) throw new TypeError("Missing field \"name\" in \"algorithm\".");
  const algorithm = registry[`${p.name}`.toUpperCase()];
  return algorithm === undefined || algorithm[operation] === undefined ? undefined : [algorithm, p];
}

export function normalize(operation: Operation, identifier: unknown): [Algorithm, Params] {
  const found = find(operation, identifier);
  if (found === undefined) throw unrecognized(operation, identifier);
  return found;
}

export function unrecognized(operation: string, identifier: unknown): DOMException {
  const name = typeof identifier === "object" && identifier !== null ? (identifier as Params).name : identifier;
  return unsupported(`Unrecognized or unimplemented algorithm "${String(name)}" for operation "${operation}".`);
}

/** A `HashAlgorithmIdentifier`, as its canonical name. */
export function hashName(identifier: unknown): string {
  if (identifier === undefined) throw new TypeError("Missing field \"hash\" in \"algorithm\".");
  return normalize("digest", identifier)[0].name;
}

/** `[EnforceRange] unsigned long`, which must be there. */
export function required(p: Params, member: string): number {
  if (p[member] === undefined) throw new TypeError(`Missing field "${member}" in "algorithm".`);
  return unsigned(p[member], member);
}

export function unsigned(v: unknown, member: string): number {
  const n = Math.trunc(Number(v));
  if (!(n >= 0 && n <= 0xffffffff)) throw new TypeError(`"${member}" is not an unsigned integer of 32 bits.`);
  return n;
}

/** A `BufferSource` member of an algorithm. */
export function bytesIn(p: Params, member: string): Uint8Array {
  const v = p[member];
  const bytes = v === undefined ? undefined : bytesOf(v);
  if (bytes === undefined) throw new TypeError(`Missing or invalid field "${member}" in "algorithm".`);
  return bytes;
}

/** Bits to bytes where the standard wants whole bytes. */
export function wholeBytes(bits: number | null): number {
  if (bits === null || bits % 8 !== 0) throw failed("OperationError", "The length must be a multiple of 8.");
  return bits / 8;
}
