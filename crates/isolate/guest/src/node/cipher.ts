/**
 * Ciphers of `node:crypto`: AES in CBC, CTR, ECB and GCM, piece by piece, on the host's one-shot operations (those of WebCrypto). What a
 * piece needs of the one before it — the last block, the counter — is kept here, so a cipher survives hibernation.
 */
import { host } from "../host";
import { Buffer, decode, encode, encodingOf, viewOf, type Buffer as Bytes } from "./buffer";
import { checkString, invalidArgType, invalidArgValue, nodeError } from "./errors";
import { Transform } from "./stream";
import { StringDecoder } from "./string_decoder";

type Mode = "cbc" | "ctr" | "ecb" | "gcm";

interface Kind {
  mode: Mode;
  keyBytes: number;
}

const BLOCK = 16;
const PIECE = 1 << 20;
const modes: readonly Mode[] = ["cbc", "ctr", "ecb", "gcm"];
const aliases: Record<string, string> = { aes128: "aes-128-cbc", aes192: "aes-192-cbc", aes256: "aes-256-cbc", "id-aes128-gcm": "aes-128-gcm", "id-aes192-gcm": "aes-192-gcm", "id-aes256-gcm": "aes-256-gcm" };
const numbers: Record<string, number> = { "128ecb": 418, "128cbc": 419, "192ecb": 422, "192cbc": 423, "256ecb": 426, "256cbc": 427, "128gcm": 895, "192gcm": 898, "256gcm": 901, "128ctr": 904, "192ctr": 905, "256ctr": 906 };

function kindOf(name: string): Kind | undefined {
  const lower = name.toLowerCase();
  const m = /^aes-?(128|192|256)-(\w+)$/.exec(Object.hasOwn(aliases, lower) ? aliases[lower]! : lower);
  const mode = m?.[2] as Mode;
  return m === null || !modes.includes(mode) ? undefined : { mode, keyBytes: Number(m[1]) / 8 };
}

export function getCiphers(): string[] {
  const names = ["128", "192", "256"].flatMap((bits) => modes.map((mode) => `aes-${bits}-${mode}`));
  return [...names, ...Object.keys(aliases)].sort();
}

interface CipherInfo {
  mode: Mode;
  name: string;
  nid: number;
  blockSize: number;
  ivLength?: number;
  keyLength: number;
}

/** What is known of a cipher by its name or number; undefined if it is not known, or not with that length of key or IV. */
export function getCipherInfo(nameOrNumber: unknown, options: { keyLength?: number; ivLength?: number } = {}): CipherInfo | undefined {
  if (typeof nameOrNumber !== "string" && typeof nameOrNumber !== "number") throw invalidArgType("nameOrNid", ["string", "number"], nameOrNumber);
  const byNumber = Object.keys(numbers).find((key) => numbers[key] === nameOrNumber);
  const kind = kindOf(typeof nameOrNumber === "string" ? nameOrNumber : byNumber === undefined ? "" : `aes-${byNumber.slice(0, 3)}-${byNumber.slice(3)}`);
  if (kind === undefined) return undefined;
  const { mode, keyBytes } = kind;
  const ivLength = mode === "ecb" ? undefined : mode === "gcm" ? (options.ivLength ?? 12) : BLOCK;
  if (options.keyLength !== undefined && options.keyLength !== keyBytes) return undefined;
  if (options.ivLength !== undefined && (ivLength !== options.ivLength || options.ivLength === 0)) return undefined;
  const name = mode === "gcm" ? `id-aes${keyBytes * 8}-gcm` : `aes-${keyBytes * 8}-${mode}`;
  const blockSize = mode === "cbc" || mode === "ecb" ? BLOCK : 1;
  const info: CipherInfo = { mode, name, nid: numbers[`${keyBytes * 8}${mode}`]!, blockSize, keyLength: keyBytes };
  if (ivLength !== undefined) info.ivLength = ivLength;
  return info;
}

// --- one-shot operations of the host -------------------------------------------------------------------------------------

function hostCrypt(encrypt: boolean, mode: Mode, key: Uint8Array, iv: Uint8Array, data: Uint8Array, aad: Uint8Array | null, n: number): Uint8Array {
  return host.call(encrypt ? "crypto.aes.encrypt" : "crypto.aes.decrypt", mode, key, iv, data, aad, n) as Uint8Array;
}

/** One block by the bare cipher: the key stream whose counter it is. */
function encryptBlock(key: Uint8Array, block: Uint8Array): Uint8Array {
  return hostCrypt(true, "ctr", key, block, new Uint8Array(BLOCK), null, 128);
}

function xorInto(a: Uint8Array, b: Uint8Array): Uint8Array {
  for (let i = 0; i < a.length; i++) a[i]! ^= b[i]!;
  return a;
}

/** Whole blocks in CBC without padding. The host's CBC pads: what it adds is cut off, or made first, so that it has something to cut off. */
function cbcBlocks(encrypt: boolean, key: Uint8Array, iv: Uint8Array, data: Uint8Array): Uint8Array {
  if (encrypt) return hostCrypt(true, "cbc", key, iv, data, null, 0).subarray(0, data.length);
  const padding = hostCrypt(true, "cbc", key, data.subarray(data.length - BLOCK), empty, null, 0);
  return hostCrypt(false, "cbc", key, iv, Buffer.concat([data, padding]), null, 0);
}

function ecbBlocks(encrypt: boolean, key: Uint8Array, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(data.length);
  if (encrypt) {
    for (let at = 0; at < data.length; at += BLOCK) out.set(encryptBlock(key, data.subarray(at, at + BLOCK)), at);
    return out;
  }
  out.set(cbcBlocks(false, key, new Uint8Array(BLOCK), data));
  // CBC has mixed each block with the one before it.
  xorInto(out.subarray(BLOCK), data.subarray(0, data.length - BLOCK));
  return out;
}

function toNumber(bytes: Uint8Array): bigint {
  let n = 0n;
  for (const b of bytes) n = (n << 8n) | BigInt(b);
  return n;
}

function toBlock(n: bigint): Uint8Array {
  const out = new Uint8Array(BLOCK);
  for (let i = BLOCK - 1; i >= 0; i--, n >>= 8n) out[i] = Number(n & 255n);
  return out;
}

/** A product in the field of GCM (NIST SP 800-38D §6.3). Used for unusual IVs only, which are short. */
function multiply(x: bigint, y: bigint): bigint {
  let z = 0n;
  for (let i = 127n; i >= 0n; i--) {
    if ((x >> i) & 1n) z ^= y;
    y = y & 1n ? (y >> 1n) ^ (0xe1n << 120n) : y >> 1n;
  }
  return z;
}

/** The counter block from which GCM counts (§7.1, step 2). */
function firstCounter(key: Uint8Array, iv: Uint8Array): Uint8Array {
  if (iv.length === 12) return Buffer.concat([iv, new Uint8Array([0, 0, 0, 1])]);
  const h = toNumber(encryptBlock(key, new Uint8Array(BLOCK)));
  let y = 0n;
  for (let at = 0; at < iv.length; at += BLOCK) {
    const block = new Uint8Array(BLOCK);
    block.set(iv.subarray(at, at + BLOCK));
    y = multiply(y ^ toNumber(block), h);
  }
  return toBlock(multiply(y ^ BigInt(iv.length * 8), h));
}

const empty = new Uint8Array(0);
const counted = (1n << 32n) - 1n;

// --- the classes ---------------------------------------------------------------------------------------------------------

type Data = string | ArrayBufferView | ArrayBuffer;

export interface CipherOptions {
  authTagLength?: number;
}

function bytesOf(data: unknown, name: string, encoding?: unknown): Uint8Array {
  if (typeof data === "string") return encode(data, encodingOf(encoding) ?? "utf8");
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  throw invalidArgType(name, ["string", "Buffer", "TypedArray", "DataView"], data);
}

function failed(code: string, reason: string, library = "Provider routines"): Error {
  return Object.assign(new Error(`error:1C8000${code === "ERR_OSSL_BAD_DECRYPT" ? "64" : "6B"}:${library}::${reason}`), { library, reason, code });
}

/** What Cipheriv and Decipheriv share. */
class Cipher extends Transform {
  #encrypt: boolean;
  #mode: Mode;
  #key: Uint8Array;
  /** CBC: the last block of ciphertext. CTR and GCM: the counter block of the start. */
  #chain: Uint8Array;
  #iv: Uint8Array;
  /** CTR and GCM: bytes so far. */
  #done = 0n;
  /** CBC and ECB: input that is no whole block yet (or, decrypting, the last block, which may be padding). */
  #held: Uint8Array = empty;
  #padding = true;
  #finished = false;
  /** GCM: everything that the tag vouches for. */
  #input: Uint8Array[] = [];
  #aad: Uint8Array[] = [];
  #tag: Uint8Array | undefined;
  #tagBytes: number | undefined;
  #decoder: { write(b: Uint8Array): string; end(b?: Uint8Array): string } | undefined;

  constructor(encrypt: boolean, name: unknown, key: Uint8Array, iv: Uint8Array | null, options: (CipherOptions & object) | undefined) {
    super(options);
    checkString(name, "cipher");
    const kind = kindOf(name);
    if (kind === undefined) throw nodeError(Error, "ERR_CRYPTO_UNKNOWN_CIPHER", "Unknown cipher");
    if (key.length !== kind.keyBytes) throw nodeError(RangeError, "ERR_CRYPTO_INVALID_KEYLEN", "Invalid key length");
    const ivBytes = iv?.length ?? 0;
    if (kind.mode === "gcm" ? ivBytes === 0 : ivBytes !== (kind.mode === "ecb" ? 0 : BLOCK)) {
      throw nodeError(TypeError, "ERR_CRYPTO_INVALID_IV", "Invalid initialization vector");
    }
    this.#encrypt = encrypt;
    this.#mode = kind.mode;
    this.#key = key.slice();
    this.#iv = (iv ?? empty).slice();
    this.#chain = kind.mode === "gcm" ? firstCounter(this.#key, this.#iv) : this.#iv;
    if (options?.authTagLength !== undefined) this.#tagBytes = this.#checkTagLength(options.authTagLength);
  }

  #checkTagLength(n: unknown): number {
    if (typeof n !== "number" || !Number.isInteger(n) || n < 0) throw invalidArgValue("options.authTagLength", n);
    if (this.#mode === "gcm" && ![4, 8, 12, 13, 14, 15, 16].includes(n)) {
      throw nodeError(TypeError, "ERR_CRYPTO_INVALID_AUTH_TAG", `Invalid authentication tag length: ${n}`);
    }
    return n;
  }

  #stateError(operation: string): Error {
    return nodeError(Error, "ERR_CRYPTO_INVALID_STATE", `Invalid state for operation ${operation}`);
  }

  /** The key stream's next bytes, over the data. */
  #stream(data: Uint8Array): Uint8Array {
    const skip = Number(this.#done % BigInt(BLOCK));
    const start = toNumber(this.#chain);
    const blocks = this.#done / BigInt(BLOCK);
    const gcm = this.#mode === "gcm";
    // GCM counts in 32 bits, from the block after the first.
    const counter = gcm ? (start & ~counted) | ((start + 1n + blocks) & counted) : BigInt.asUintN(128, start + blocks);
    this.#done += BigInt(data.length);
    const padded = skip === 0 ? data : Buffer.concat([new Uint8Array(skip), data]);
    return hostCrypt(true, "ctr", this.#key, toBlock(counter), padded, null, gcm ? 32 : 128).subarray(skip);
  }

  #blocks(data: Uint8Array): Uint8Array {
    if (data.length === 0) return empty;
    if (this.#mode === "ecb") return ecbBlocks(this.#encrypt, this.#key, data);
    const out = cbcBlocks(this.#encrypt, this.#key, this.#chain, data);
    this.#chain = (this.#encrypt ? out : data).slice(-BLOCK);
    return out;
  }

  #push(data: Uint8Array): Uint8Array {
    if (this.#mode === "ctr") return this.#stream(data);
    if (this.#mode === "gcm") {
      this.#input.push(data.slice());
      return this.#stream(data);
    }
    const all = this.#held.length === 0 ? data : Buffer.concat([this.#held, data]);
    let whole = all.length - (all.length % BLOCK);
    // The last block may be the padding: it waits for `final`.
    if (!this.#encrypt && this.#padding && whole === all.length && whole > 0) whole -= BLOCK;
    this.#held = all.slice(whole);
    return this.#blocks(all.subarray(0, whole));
  }

  #last(): Uint8Array {
    if (this.#mode === "ctr") return empty;
    if (this.#mode === "gcm") return this.#seal();
    const held = this.#held;
    this.#held = empty;
    if (!this.#padding) {
      if (held.length > 0) throw failed("ERR_OSSL_WRONG_FINAL_BLOCK_LENGTH", "wrong final block length");
      return empty;
    }
    if (this.#encrypt) {
      const n = BLOCK - held.length;
      return this.#blocks(Buffer.concat([held, new Uint8Array(n).fill(n)]));
    }
    if (held.length !== BLOCK) throw failed("ERR_OSSL_WRONG_FINAL_BLOCK_LENGTH", "wrong final block length");
    const plain = this.#blocks(held);
    const n = plain[BLOCK - 1]!;
    if (n < 1 || n > BLOCK || plain.subarray(BLOCK - n).some((b) => b !== n)) throw failed("ERR_OSSL_BAD_DECRYPT", "bad decrypt");
    return plain.subarray(0, BLOCK - n);
  }

  #seal(): Uint8Array {
    const data = Buffer.concat(this.#input);
    const aad = Buffer.concat(this.#aad);
    this.#input = [];
    if (this.#encrypt) {
      const n = this.#tagBytes ?? BLOCK;
      this.#tag = hostCrypt(true, "gcm", this.#key, this.#iv, data, aad, n).slice(data.length);
      return empty;
    }
    const tag = this.#tag;
    if (tag === undefined) throw new Error("Unsupported state or unable to authenticate data");
    try {
      hostCrypt(false, "gcm", this.#key, this.#iv, Buffer.concat([data, tag]), aad, tag.length);
    } catch {
      throw new Error("Unsupported state or unable to authenticate data");
    }
    return empty;
  }

  #output(bytes: Uint8Array, encoding: unknown, end: boolean): Bytes | string {
    if (encoding === undefined || encoding === null || encoding === "buffer") return viewOf(bytes);
    const known = encodingOf(encoding);
    if (known === undefined) throw nodeError(TypeError, "ERR_UNKNOWN_ENCODING", `Unknown encoding: ${encoding as string}`);
    if (known === "latin1" || known === "hex") return decode(bytes, known);
    this.#decoder ??= new (StringDecoder as unknown as new (encoding: string) => { write(b: Uint8Array): string; end(b?: Uint8Array): string })(known);
    return end ? this.#decoder.end(bytes) : this.#decoder.write(bytes);
  }

  update(data: Data, inputEncoding?: string, outputEncoding?: string): Bytes | string {
    const bytes = bytesOf(data, "data", inputEncoding);
    if (this.#finished) throw this.#stateError("update");
    if (bytes.length <= PIECE) return this.#output(this.#push(bytes), outputEncoding, false);
    const parts: Uint8Array[] = [];
    // Between host calls the isolate can be stopped.
    for (let at = 0; at < bytes.length; at += PIECE) parts.push(this.#push(bytes.subarray(at, at + PIECE)));
    return this.#output(Buffer.concat(parts), outputEncoding, false);
  }

  final(outputEncoding?: string): Bytes | string {
    if (this.#finished) throw this.#stateError("final");
    this.#finished = true;
    return this.#output(this.#last(), outputEncoding, true);
  }

  setAutoPadding(padding = true): this {
    if (this.#finished) throw this.#stateError("setAutoPadding");
    this.#padding = !!padding;
    return this;
  }

  setAAD(data: Data, options?: { encoding?: string }): this {
    const bytes = bytesOf(data, "buffer", options?.encoding);
    if (this.#finished || this.#mode !== "gcm" || this.#done > 0n) throw this.#stateError("setAAD");
    this.#aad.push(bytes.slice());
    return this;
  }

  protected authTag(): Bytes {
    if (!this.#finished || this.#mode !== "gcm") throw this.#stateError("getAuthTag");
    return Buffer.from(this.#tag!);
  }

  protected takeAuthTag(tag: unknown, encoding: unknown): void {
    const bytes = bytesOf(tag, "buffer", encoding);
    if (this.#finished || this.#mode !== "gcm" || this.#tag !== undefined) throw this.#stateError("setAuthTag");
    const expected = this.#tagBytes ?? bytes.length;
    if (bytes.length !== expected || ![4, 8, 12, 13, 14, 15, 16].includes(bytes.length)) {
      throw nodeError(TypeError, "ERR_CRYPTO_INVALID_AUTH_TAG", `Invalid authentication tag length: ${bytes.length}`);
    }
    this.#tag = bytes.slice();
  }

  _transform(chunk: Data, encoding: string, done: (e?: unknown) => void): void {
    try {
      this.push(this.update(chunk, encoding));
      done();
    } catch (e) {
      done(e);
    }
  }

  _flush(done: (e?: unknown) => void): void {
    try {
      this.push(this.final());
      done();
    } catch (e) {
      done(e);
    }
  }
}

export class Cipheriv extends Cipher {
  constructor(name: string, key: Uint8Array, iv: Uint8Array | null, options?: CipherOptions) {
    super(true, name, key, iv, options);
  }

  getAuthTag(): Bytes {
    return this.authTag();
  }
}

export class Decipheriv extends Cipher {
  constructor(name: string, key: Uint8Array, iv: Uint8Array | null, options?: CipherOptions) {
    super(false, name, key, iv, options);
  }

  setAuthTag(tag: Data, encoding?: string): this {
    this.takeAuthTag(tag, encoding);
    return this;
  }
}
