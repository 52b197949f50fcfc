/**
 * `node:crypto`: hashes, HMAC, ciphers, randomness, key derivation, and the Web's crypto. Key objects, signatures and certificates in
 * Node's shape are not here: their functions throw and name themselves; `webcrypto.subtle` does that work.
 */
import { host } from "../host";
import { Buffer, decode, encodingOf, viewOf, encode, type Buffer as Bytes } from "./buffer";
import { Cipheriv, Decipheriv, getCipherInfo, getCiphers, type CipherOptions } from "./cipher";
import { Transform } from "./stream";
import { checkFunction, checkInteger, checkNumber, checkString, invalidArgType, invalidArgValue, nodeError, outOfRange, unavailable } from "./errors";

const hashes = ["md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha512-224", "sha512-256"];
const piece = 1 << 20;

type Data = string | ArrayBufferView | ArrayBuffer;

function dataBytes(data: unknown, name: string, encoding?: unknown): Uint8Array {
  if (typeof data === "string") return encode(data, encodingOf(encoding) ?? "utf8");
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  throw invalidArgType(name, ["string", "ArrayBuffer", "Buffer", "TypedArray", "DataView"], data);
}

function hashName(algorithm: unknown): string {
  checkString(algorithm, "algorithm");
  const lower = algorithm.toLowerCase().replace(/^rsa-/, "").replace("/", "-");
  const plain = lower.replace(/^sha-(?=\d)/, "sha");
  if (!hashes.includes(plain)) throw nodeError(Error, "ERR_CRYPTO_INVALID_DIGEST", `Invalid digest: ${algorithm}`);
  return plain;
}

function unsupportedHash(algorithm: string): Error {
  return Object.assign(new Error("Digest method not supported"), { code: "ERR_OSSL_EVP_UNSUPPORTED", algorithm });
}

function output(bytes: Uint8Array, encoding: unknown): Bytes | string {
  const known = encoding === undefined || encoding === "buffer" ? undefined : encodingOf(encoding);
  return known === undefined ? viewOf(bytes) : decode(bytes, known);
}

// --- Hash and Hmac -------------------------------------------------------------------------------------------------------

const forgotten = new FinalizationRegistry<number>((id) => host.call("hash.drop", id));

/** What Hash and Hmac share: a digest at the host, fed in pieces, or piped into as a stream. */
class Digest extends Transform {
  #id: number | undefined;

  constructor(id: number, options?: object) {
    super(options);
    this.#id = id;
    forgotten.register(this, id, this);
  }

  protected get id(): number {
    if (this.#id === undefined) throw nodeError(Error, "ERR_CRYPTO_HASH_FINALIZED", "Digest already called");
    return this.#id;
  }

  update(data: Data, encoding?: string): this {
    const bytes = dataBytes(data, "data", encoding);
    const { id } = this;
    for (let at = 0; at < bytes.length; at += piece) host.call("hash.push", id, bytes.subarray(at, at + piece));
    return this;
  }

  digest(encoding?: string): Bytes | string {
    const { id } = this;
    this.#id = undefined;
    forgotten.unregister(this);
    return output(host.call("hash.finish", id) as Uint8Array, encoding);
  }

  _transform(chunk: Data, encoding: string, done: (e?: unknown) => void): void {
    this.update(chunk, encoding);
    done();
  }

  _flush(done: (e?: unknown) => void): void {
    this.push(this.digest());
    done();
  }
}

export class Hash extends Digest {
  copy(options?: object): Hash {
    return new Hash(host.call("hash.copy", this.id) as number, options);
  }
}

export class Hmac extends Digest {
  override digest(encoding?: string): Bytes | string {
    try {
      return super.digest(encoding);
    } catch (e) {
      // A second digest of an Hmac is empty, not an error.
      if ((e as { code?: string }).code === "ERR_CRYPTO_HASH_FINALIZED") return output(new Uint8Array(0), encoding);
      throw e;
    }
  }
}

export function createHash(algorithm: string, options?: object): Hash {
  checkString(algorithm, "algorithm");
  let name: string;
  try {
    name = hashName(algorithm);
  } catch {
    throw unsupportedHash(algorithm);
  }
  return new Hash(host.call("hash.open", name, null) as number, options);
}

function keyBytes(key: unknown, encoding?: unknown): Uint8Array {
  const secret = (key as { [secretKey]?: Uint8Array } | null)?.[secretKey];
  if (secret !== undefined) return secret;
  if (key === null || (typeof key !== "string" && typeof key !== "object")) {
    throw invalidArgType("key", ["string", "ArrayBuffer", "Buffer", "TypedArray", "DataView", "KeyObject", "CryptoKey"], key);
  }
  return dataBytes(key, "key", encoding);
}

export function createHmac(algorithm: string, key: unknown, options?: { encoding?: string }): Hmac {
  checkString(algorithm, "hmac");
  const bytes = keyBytes(key, options?.encoding);
  return new Hmac(host.call("hash.open", hashName(algorithm), bytes) as number, options);
}

/** One-shot digest; hexadecimal unless asked otherwise. */
export function hash(algorithm: string, data: Data, options: string | { outputEncoding?: string } = "hex"): Bytes | string {
  const encoding = typeof options === "string" ? options : (options.outputEncoding ?? "hex");
  return createHash(algorithm).update(data).digest(encoding);
}

export function getHashes(): string[] {
  return [...hashes.map((name) => `RSA-${name.toUpperCase()}`), ...hashes];
}

// --- secret keys ---------------------------------------------------------------------------------------------------------

const secretKey = Symbol("secret");

/** Secret keys only: what createHmac takes. */
export class KeyObject {
  readonly [secretKey]: Uint8Array;
  readonly type = "secret";

  constructor(type: string, bytes: Uint8Array) {
    if (type !== "secret") throw invalidArgValue("type", type);
    Object.defineProperty(this, secretKey, { value: bytes, enumerable: false });
    this[secretKey] = bytes;
  }

  get symmetricKeySize(): number {
    return this[secretKey].length;
  }

  export(options?: { format?: string }): Bytes | object {
    if (options?.format === "jwk") return { kty: "oct", k: decode(this[secretKey], "base64url") };
    return Buffer.from(this[secretKey]);
  }

  equals(other: KeyObject): boolean {
    return timingSafeEqual(this[secretKey], other[secretKey]);
  }
}

export function createSecretKey(key: unknown, encoding?: string): KeyObject {
  return new KeyObject("secret", keyBytes(key, encoding).slice());
}

// --- randomness ----------------------------------------------------------------------------------------------------------

type Callback<T> = (error: Error | null, value?: T) => void;

function later<T>(callback: Callback<T>, f: () => T): void {
  checkFunction(callback, "callback");
  let value: T;
  try {
    value = f();
  } catch (e) {
    return queueMicrotask(() => callback(e as Error));
  }
  queueMicrotask(() => callback(null, value));
}

function random(size: number): Uint8Array {
  const most = 65536;
  if (size <= most) return host.call("random", size) as Uint8Array;
  const out = new Uint8Array(size);
  for (let at = 0; at < size; at += most) out.set(host.call("random", Math.min(most, size - at)) as Uint8Array, at);
  return out;
}

export function randomBytes(size: number, callback?: Callback<Bytes>): Bytes | undefined {
  checkNumber(size, "size");
  if (!(size >= 0 && size <= 2 ** 31 - 1)) throw outOfRange("size", `>= 0 && <= ${2 ** 31 - 1}`, size);
  if (callback === undefined) return viewOf(random(size));
  later(callback, () => viewOf(random(size)));
  return undefined;
}

export function randomFillSync<T extends ArrayBufferView | ArrayBuffer>(target: T, offset = 0, size?: number): T {
  if (!ArrayBuffer.isView(target) && !((target as unknown) instanceof ArrayBuffer)) throw invalidArgType("buf", ["ArrayBuffer", "ArrayBufferView"], target);
  const unit = ArrayBuffer.isView(target) ? ((target as unknown as { BYTES_PER_ELEMENT?: number }).BYTES_PER_ELEMENT ?? 1) : 1;
  const bytes = dataBytes(target, "buf");
  checkInteger(offset, "offset", 0, bytes.length / unit);
  if (size !== undefined) checkInteger(size, "size", 0, bytes.length / unit - offset);
  const from = offset * unit;
  const n = size === undefined ? bytes.length - from : size * unit;
  bytes.set(random(n), from);
  return target;
}

export function randomFill<T extends ArrayBufferView>(target: T, ...rest: unknown[]): void {
  const callback = rest.pop() as Callback<T>;
  later(callback, () => randomFillSync(target, ...(rest as [number?, number?])));
}

export function randomInt(...args: unknown[]): number | undefined {
  const callback = typeof args[args.length - 1] === "function" ? (args.pop() as Callback<number>) : undefined;
  const [min, max] = (args.length < 2 ? [0, args[0]] : args) as [number, number];
  if (!Number.isSafeInteger(min)) throw invalidArgType("min", "a safe integer", min);
  if (!Number.isSafeInteger(max)) throw invalidArgType("max", "a safe integer", max);
  if (max <= min) throw outOfRange("max", `greater than the value of "min" (${min})`, max);
  const range = max - min;
  if (range > 2 ** 48 - 1) throw outOfRange(args.length < 2 ? "max" : "max - min", `<= ${2 ** 48 - 1}`, range);
  const draw = (): number => {
    // Values of the last, incomplete round are drawn again, so that all are equally likely.
    const limit = 2 ** 48 - (2 ** 48 % range);
    for (;;) {
      const n = viewOf(random(6)).readUIntBE(0, 6) as number;
      if (n < limit) return min + (n % range);
    }
  };
  if (callback === undefined) return draw();
  later(callback, draw);
  return undefined;
}

export function randomUUID(): string {
  return webCrypto().randomUUID();
}

interface WebCrypto {
  randomUUID(): string;
  getRandomValues<T>(array: T): T;
  subtle: unknown;
}

const webCrypto = (): WebCrypto => (globalThis as unknown as { crypto: WebCrypto }).crypto;

// --- key derivation ------------------------------------------------------------------------------------------------------

export function timingSafeEqual(a: unknown, b: unknown): boolean {
  if (!ArrayBuffer.isView(a) && !(a instanceof ArrayBuffer)) throw invalidArgType("buf1", ["ArrayBuffer", "Buffer", "TypedArray", "DataView"], a);
  if (!ArrayBuffer.isView(b) && !(b instanceof ArrayBuffer)) throw invalidArgType("buf2", ["ArrayBuffer", "Buffer", "TypedArray", "DataView"], b);
  if (a.byteLength !== b.byteLength) {
    throw nodeError(RangeError, "ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH", "Input buffers must have the same byte length");
  }
  return host.call("crypto.equal", dataBytes(a, "buf1"), dataBytes(b, "buf2")) as boolean;
}

function settle(work: Promise<Uint8Array>, callback: Callback<Bytes>): void {
  work.then(
    (bytes) => callback(null, viewOf(bytes)),
    (e: unknown) => callback(e as Error),
  );
}

function pbkdf2Arguments(password: unknown, salt: unknown, iterations: unknown, length: unknown, digest: unknown): [string, Uint8Array, Uint8Array, number, number] {
  checkString(digest, "digest");
  const secret = dataBytes(password, "password");
  const salted = dataBytes(salt, "salt");
  checkInteger(iterations, "iterations", 1, 2 ** 31 - 1);
  checkInteger(length, "keylen", 0, 2 ** 31 - 1);
  return [hashName(digest), secret, salted, iterations, length];
}

export function pbkdf2Sync(password: unknown, salt: unknown, iterations: number, length: number, digest: string): Bytes {
  return viewOf(host.call("crypto.pbkdf2", ...pbkdf2Arguments(password, salt, iterations, length, digest)) as Uint8Array);
}

export function pbkdf2(password: unknown, salt: unknown, iterations: number, length: number, digest: string, callback: Callback<Bytes>): void {
  if (typeof digest === "function") throw invalidArgType("digest", "string", undefined);
  checkFunction(callback, "callback");
  settle(host.start("crypto.heavy.pbkdf2", ...pbkdf2Arguments(password, salt, iterations, length, digest)), callback);
}

function hkdfBytes(digest: string, key: unknown, salt: unknown, info: unknown, length: unknown): ArrayBuffer {
  const name = hashName(digest);
  const secret = keyBytes(key);
  const salted = dataBytes(salt, "salt");
  const context = dataBytes(info, "info");
  checkInteger(length, "length", 0, 2 ** 31 - 1);
  if (context.length > 1024) throw outOfRange("info", "must not contain more than 1024 bytes", context.length);
  const bytes = host.call("crypto.hkdf", name, secret, salted, context, length) as Uint8Array;
  return bytes.slice().buffer as ArrayBuffer;
}

export function hkdfSync(digest: string, key: unknown, salt: unknown, info: unknown, length: number): ArrayBuffer {
  return hkdfBytes(digest, key, salt, info, length);
}

export function hkdf(digest: string, key: unknown, salt: unknown, info: unknown, length: number, callback: Callback<ArrayBuffer>): void {
  later(callback, () => hkdfBytes(digest, key, salt, info, length));
}

interface ScryptOptions {
  N?: number;
  cost?: number;
  r?: number;
  blockSize?: number;
  p?: number;
  parallelization?: number;
  maxmem?: number;
}

function scryptArguments(password: unknown, salt: unknown, length: unknown, given: ScryptOptions): [Uint8Array, Uint8Array, number, number, number, number] {
  const secret = dataBytes(password, "password");
  const salted = dataBytes(salt, "salt");
  checkInteger(length, "keylen", 0, 2 ** 31 - 1);
  const n = given.N ?? given.cost ?? 16384;
  const r = given.r ?? given.blockSize ?? 8;
  const p = given.p ?? given.parallelization ?? 1;
  if (128 * n * r > (given.maxmem ?? 32 * 1024 * 1024)) throw nodeError(RangeError, "ERR_CRYPTO_INVALID_SCRYPT_PARAMS", "Invalid scrypt params: memory limit exceeded");
  return [secret, salted, n, r, p, length];
}

export function scryptSync(password: unknown, salt: unknown, length: number, options: ScryptOptions = {}): Bytes {
  return viewOf(host.call("crypto.scrypt", ...scryptArguments(password, salt, length, options)) as Uint8Array);
}

export function scrypt(password: unknown, salt: unknown, length: number, options: ScryptOptions | Callback<Bytes>, callback?: Callback<Bytes>): void {
  const done = typeof options === "function" ? options : callback;
  const given = typeof options === "function" ? {} : options;
  checkFunction(done, "callback");
  settle(host.start("crypto.heavy.scrypt", ...scryptArguments(password, salt, length, given)), done);
}

// --- ciphers -------------------------------------------------------------------------------------------------------------

function ivBytes(iv: unknown): Uint8Array | null {
  return iv === null ? null : dataBytes(iv, "iv");
}

export function createCipheriv(algorithm: string, key: unknown, iv: unknown, options?: CipherOptions): Cipheriv {
  checkString(algorithm, "cipher");
  return new Cipheriv(algorithm, keyBytes(key), ivBytes(iv), options);
}

export function createDecipheriv(algorithm: string, key: unknown, iv: unknown, options?: CipherOptions): Decipheriv {
  checkString(algorithm, "cipher");
  return new Decipheriv(algorithm, keyBytes(key), ivBytes(iv), options);
}

// --- the rest ------------------------------------------------------------------------------------------------------------

const missing = [
  "createSign", "createVerify", "createDiffieHellman", "createDiffieHellmanGroup", "createECDH", "createPrivateKey",
  "createPublicKey", "diffieHellman", "generateKey", "generateKeyPair", "generateKeyPairSync", "generateKeySync", "generatePrime", "generatePrimeSync",
  "checkPrime", "checkPrimeSync", "getDiffieHellman", "privateDecrypt", "privateEncrypt", "publicDecrypt", "publicEncrypt", "sign", "verify",
  "setEngine", "Certificate", "DiffieHellman", "DiffieHellmanGroup", "ECDH", "Sign", "Verify", "X509Certificate",
];

function named(name: string): Function {
  return { [name]: function () { throw unavailable(`node:crypto ${name}`); } }[name]!;
}

/** `webcrypto`, `subtle` and `getRandomValues` are added once the globals exist. */
export const exports: Record<string, unknown> = {
  ...Object.fromEntries(missing.map((name) => [name, named(name)])),
  Hash,
  Hmac,
  KeyObject,
  createHash,
  createHmac,
  createSecretKey,
  hash,
  getHashes,
  Cipheriv,
  Decipheriv,
  createCipheriv,
  createDecipheriv,
  getCiphers,
  getCurves: () => [],
  getCipherInfo,
  getFips: () => 0,
  setFips: named("setFips"),
  secureHeapUsed: () => ({ total: 0, used: 0, utilization: 0, min: 0 }),
  randomBytes,
  pseudoRandomBytes: randomBytes,
  rng: randomBytes,
  randomFill,
  randomFillSync,
  randomInt,
  randomUUID,
  timingSafeEqual,
  pbkdf2,
  pbkdf2Sync,
  hkdf,
  hkdfSync,
  scrypt,
  scryptSync,
  constants: {},
  fips: false,
};
