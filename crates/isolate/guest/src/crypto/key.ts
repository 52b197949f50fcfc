/**
 * CryptoKey and what surrounds a key in the standard: usages, JSON Web Keys, exceptions. Key material is plain bytes in the isolate's
 * heap: it survives hibernation, and each host call gets it with the data.
 */
import { bytesOf } from "../streams";
import { defineInterface } from "../webidl";

export type Usage = "encrypt" | "decrypt" | "sign" | "verify" | "deriveKey" | "deriveBits" | "wrapKey" | "unwrapKey";
export type KeyType = "secret" | "private" | "public";
export type Format = "raw" | "pkcs8" | "spki" | "jwk";

/** `algorithm` of a key. */
export interface KeyAlgorithm {
  name: string;
  length?: number;
  hash?: { name: string };
  namedCurve?: string;
  modulusLength?: number;
  publicExponent?: Uint8Array;
}

/** The bytes of a key: `secret` for a symmetric one; else `public`, and `private` for a private key. */
export interface Material {
  secret?: Uint8Array;
  private?: Uint8Array;
  public?: Uint8Array;
}

export interface JsonWebKey {
  kty?: string;
  use?: string;
  key_ops?: string[];
  alg?: string;
  ext?: boolean;
  crv?: string;
  x?: string;
  y?: string;
  d?: string;
  n?: string;
  e?: string;
  p?: string;
  q?: string;
  dp?: string;
  dq?: string;
  qi?: string;
  k?: string;
  oth?: unknown;
}

export function failed(name: string, message: string): DOMException {
  return new DOMException(message, name);
}
export const dataError = (message: string): DOMException => failed("DataError", message);
export const operationError = (message: string): DOMException => failed("OperationError", message);
export const unsupported = (message: string): DOMException => failed("NotSupportedError", message);
export const invalidAccess = (message: string): DOMException => failed("InvalidAccessError", message);

const secretToken = {};

export class CryptoKey {
  #type: KeyType;
  #extractable: boolean;
  #algorithm: KeyAlgorithm;
  #usages: Usage[];
  #material: Material;

  constructor(token: unknown, type: KeyType, extractable: boolean, algorithm: KeyAlgorithm, usages: Usage[], material: Material) {
    if (token !== secretToken) throw new TypeError("Illegal constructor");
    this.#type = type;
    this.#extractable = extractable;
    this.#algorithm = algorithm;
    this.#usages = usages;
    this.#material = material;
  }

  get type(): KeyType {
    return this.#type;
  }
  get extractable(): boolean {
    return this.#extractable;
  }
  get algorithm(): KeyAlgorithm {
    return this.#algorithm;
  }
  get usages(): Usage[] {
    return this.#usages;
  }

  static is(v: unknown): v is CryptoKey {
    return typeof v === "object" && v !== null && #material in v;
  }
  static material(key: CryptoKey): Material {
    return key.#material;
  }
  static facts(key: CryptoKey): { type: KeyType; extractable: boolean; algorithm: KeyAlgorithm; usages: Usage[] } {
    return { type: key.#type, extractable: key.#extractable, algorithm: key.#algorithm, usages: key.#usages };
  }
}

const { is, material, facts } = CryptoKey;
export { is as isKey, material as materialOf, facts as factsOf };
for (const hidden of ["is", "material", "facts"]) delete (CryptoKey as unknown as Record<string, unknown>)[hidden];
defineInterface(CryptoKey, "CryptoKey");
Object.defineProperty(CryptoKey, "length", { value: 0, configurable: true });

export interface CryptoKeyPair {
  publicKey: CryptoKey;
  privateKey: CryptoKey;
}

const order: Usage[] = ["encrypt", "decrypt", "sign", "verify", "deriveKey", "deriveBits", "wrapKey", "unwrapKey"];

/** `sequence<KeyUsage>`, without duplicates, in the standard's order. */
export function usagesOf(v: unknown): Usage[] {
  if (typeof v !== "object" || v === null) throw new TypeError("keyUsages is not a sequence.");
  const given = new Set<string>();
  for (const u of v as Iterable<unknown>) {
    const usage = `${u as string}`;
    if (!order.includes(usage as Usage)) throw new TypeError(`"${usage}" is not a valid KeyUsage.`);
    given.add(usage);
  }
  return order.filter((u) => given.has(u));
}

/** Makes a key; `allowed` are the usages that its kind has. */
export function makeKey(type: KeyType, algorithm: KeyAlgorithm, extractable: boolean, usages: Usage[], allowed: Usage[], m: Material): CryptoKey {
  checkUsages(usages, allowed);
  if (usages.length === 0 && type !== "public") throw new DOMException(`A ${type} key needs at least one usage.`, "SyntaxError");
  return new CryptoKey(secretToken, type, extractable, algorithm, usages, m);
}

export function checkUsages(usages: Usage[], allowed: Usage[]): void {
  const bad = usages.find((u) => !allowed.includes(u));
  if (bad !== undefined) throw new DOMException(`Attempt to use a key with the invalid usage "${bad}" for this algorithm.`, "SyntaxError");
}

/** A pair of which each half takes the usages that are its own. */
export function makePair(algorithm: KeyAlgorithm, extractable: boolean, usages: Usage[], forPrivate: Usage[], forPublic: Usage[], m: Required<Pick<Material, "private" | "public">>): CryptoKeyPair {
  checkUsages(usages, [...forPrivate, ...forPublic]);
  const own = (allowed: Usage[]): Usage[] => usages.filter((u) => allowed.includes(u));
  const publicKey = makeKey("public", algorithm, true, own(forPublic), forPublic, { public: m.public });
  const privateKey = makeKey("private", algorithm, extractable, own(forPrivate), forPrivate, m);
  return { publicKey, privateKey };
}

/** A `BufferSource` that must be there. */
export function buffer(v: unknown, what: string): Uint8Array {
  const bytes = bytesOf(v);
  if (bytes === undefined) throw new TypeError(`${what} is not an ArrayBuffer or a view of one.`);
  return bytes;
}

export function toBase64Url(bytes: Uint8Array): string {
  return (bytes as Uint8Array & { toBase64(o: object): string }).toBase64({ alphabet: "base64url", omitPadding: true });
}

/** A member of a JWK that holds bytes. */
export function fromBase64Url(v: unknown, member: string): Uint8Array {
  if (typeof v !== "string") throw dataError(`The JWK member "${member}" is missing.`);
  if (!/^[A-Za-z0-9_-]*$/.test(v)) throw dataError(`The JWK member "${member}" is not base64url.`);
  try {
    return (Uint8Array as unknown as { fromBase64(s: string, o: object): Uint8Array }).fromBase64(v, { alphabet: "base64url" });
  } catch {
    throw dataError(`The JWK member "${member}" is not base64url.`);
  }
}

/** Checks of a JWK that are the same for every algorithm. */
export function checkJwk(jwk: JsonWebKey, kty: string, use: "sig" | "enc", extractable: boolean, usages: Usage[]): void {
  if (jwk.kty !== kty) throw dataError(`The JWK member "kty" must be "${kty}".`);
  if (usages.length > 0 && jwk.use !== undefined && jwk.use !== use) throw dataError(`The JWK member "use" must be "${use}".`);
  if (jwk.key_ops !== undefined) {
    const ops = jwk.key_ops;
    if (!Array.isArray(ops) || new Set(ops).size !== ops.length) throw dataError('The JWK member "key_ops" is not a list without duplicates.');
    if (!usages.every((u) => ops.includes(u))) throw dataError('The JWK member "key_ops" does not allow the usages asked for.');
  }
  if (jwk.ext === false && extractable) throw dataError('The JWK member "ext" does not allow the key to be extractable.');
}

/** The members of an exported JWK that say what the key may do. */
export function permissions(key: CryptoKey): Pick<JsonWebKey, "key_ops" | "ext"> {
  const { usages, extractable } = facts(key);
  return { key_ops: [...usages], ext: extractable };
}
