/**
 * Digests, HMAC, the AES family, HKDF and PBKDF2: whatever has a secret key or none.
 */
import { host } from "../host";
import { type Algorithm, type KeyData, type Params, bytesIn, hashName, register, required, unsigned, wholeBytes } from "./algorithms";
import { type CryptoKey, type Format, type JsonWebKey, type KeyAlgorithm, type Usage, checkJwk, dataError, factsOf, fromBase64Url, makeKey, materialOf, operationError, permissions, toBase64Url, unsupported } from "./key";

/** Larger inputs are hashed in pieces: between host calls the isolate can be stopped. */
const PIECE = 1 << 20;

export function digest(hash: string, data: Uint8Array): Uint8Array {
  return data.length <= PIECE ? host.call("crypto.digest", hash, data) : piecewise(hash, null, data);
}

function hmac(hash: string, key: Uint8Array, data: Uint8Array): Uint8Array {
  return data.length <= PIECE ? host.call("crypto.hmac", hash, key, data) : piecewise(hash, key, data);
}

function piecewise(hash: string, key: Uint8Array | null, data: Uint8Array): Uint8Array {
  const id = host.call("hash.open", hash, key) as number;
  for (let at = 0; at < data.length; at += PIECE) host.call("hash.push", id, data.subarray(at, at + PIECE));
  return host.call("hash.finish", id);
}

for (const name of ["SHA-1", "SHA-256", "SHA-384", "SHA-512", "MD5"]) register({ name, digest: (data) => digest(name, data) });

function secretOf(key: CryptoKey): Uint8Array {
  return materialOf(key).secret!;
}

function random(bytes: number): Uint8Array {
  return host.call("random", bytes);
}

/** The bytes of a secret key in `raw` or `jwk`; `alg` gives the JWK's name for a key of so many bytes. */
function importSecret(format: Format, data: KeyData, use: "sig" | "enc", extractable: boolean, usages: Usage[], alg: (bytes: number) => string): Uint8Array {
  if (format === "raw") return (data as Uint8Array).slice();
  if (format !== "jwk") throw unsupported(`Unrecognized key import format "${format}".`);
  const jwk = data as JsonWebKey;
  checkJwk(jwk, "oct", use, extractable, usages);
  const bytes = fromBase64Url(jwk.k, "k");
  if (jwk.alg !== undefined && jwk.alg !== alg(bytes.length)) throw dataError('The JWK member "alg" does not match the algorithm.');
  return bytes;
}

function exportSecret(format: Format, key: CryptoKey, alg: (bytes: number) => string): KeyData {
  const secret = secretOf(key);
  if (format === "raw") return secret.slice();
  if (format !== "jwk") throw unsupported(`Unrecognized key export format "${format}".`);
  return { kty: "oct", k: toBase64Url(secret), alg: alg(secret.length), ...permissions(key) };
}

// HMAC

const hmacUsages: Usage[] = ["sign", "verify"];

function hmacAlg(hash: string): () => string {
  return () => `HS${hash.slice(4)}`;
}

function blockBits(hash: string): number {
  return hash === "SHA-384" || hash === "SHA-512" ? 1024 : 512;
}

function hmacKey(hash: string, bits: number, secret: Uint8Array, extractable: boolean, usages: Usage[]): CryptoKey {
  return makeKey("secret", { name: "HMAC", length: bits, hash: { name: hash } }, extractable, usages, hmacUsages, { secret });
}

function hashOf(key: CryptoKey): string {
  return factsOf(key).algorithm.hash!.name;
}

const HMAC: Algorithm = {
  name: "HMAC",
  generateKey(p, extractable, usages) {
    const hash = hashName(p.hash);
    const bits = this.keyLength!(p)!;
    return hmacKey(hash, bits, truncated(random(Math.ceil(bits / 8)), bits), extractable, usages);
  },
  importKey(format, data, p, extractable, usages) {
    const hash = hashName(p.hash);
    const secret = importSecret(format, data, "sig", extractable, usages, hmacAlg(hash));
    let bits = secret.length * 8;
    if (bits === 0) throw dataError("HMAC keys must not be empty.");
    if (p.length !== undefined) {
      const length = unsigned(p.length, "length");
      if (length > bits || length <= bits - 8) throw dataError("The HMAC key length does not match the key data.");
      bits = length;
    }
    return hmacKey(hash, bits, truncated(secret, bits), extractable, usages);
  },
  exportKey: (format, key) => exportSecret(format, key, hmacAlg(hashOf(key))),
  sign: (_, key, data) => hmac(hashOf(key), secretOf(key), data),
  verify: (_, key, signature, data) => host.call("crypto.equal", hmac(hashOf(key), secretOf(key), data), signature),
  keyLength(p) {
    const hash = hashName(p.hash);
    if (p.length === undefined) return blockBits(hash);
    const bits = unsigned(p.length, "length");
    if (bits === 0 || bits > PIECE) throw operationError("Invalid HMAC key length.");
    return bits;
  },
};

/** Bits beyond the key's length are zero. */
function truncated(bytes: Uint8Array, bits: number): Uint8Array {
  if (bits % 8 !== 0) bytes[bytes.length - 1]! &= 0xff << (8 - (bits % 8));
  return bytes;
}

// AES

const cipherUsages: Usage[] = ["encrypt", "decrypt", "wrapKey", "unwrapKey"];
const wrapUsages: Usage[] = ["wrapKey", "unwrapKey"];

function aesKeyLength(p: Params): number {
  const bits = required(p, "length");
  if (bits !== 128 && bits !== 192 && bits !== 256) throw operationError("The AES key length must be 128, 192 or 256.");
  return bits;
}

type Crypt = (encrypt: boolean, p: Params, key: Uint8Array, data: Uint8Array) => Uint8Array;

function aes(mode: string, allowed: Usage[], rest: Partial<Algorithm>): Algorithm {
  const name = `AES-${mode}`;
  const alg = (bytes: number): string => `A${bytes * 8}${mode}`;
  const make = (secret: Uint8Array, extractable: boolean, usages: Usage[]): CryptoKey =>
    makeKey("secret", { name, length: secret.length * 8 } as KeyAlgorithm, extractable, usages, allowed, { secret });
  return {
    name,
    generateKey: (p, extractable, usages) => make(random(aesKeyLength(p) / 8), extractable, usages),
    importKey(format, data, _, extractable, usages) {
      const secret = importSecret(format, data, "enc", extractable, usages, alg);
      if (secret.length !== 16 && secret.length !== 24 && secret.length !== 32) throw dataError("Imported AES key length must be 128, 192 or 256 bits.");
      return make(secret, extractable, usages);
    },
    exportKey: (format, key) => exportSecret(format, key, alg),
    keyLength: aesKeyLength,
    ...rest,
  };
}

function cipher(mode: string, crypt: Crypt): Algorithm {
  return aes(mode, cipherUsages, {
    encrypt: (p, key, data) => crypt(true, p, secretOf(key), data),
    decrypt: (p, key, data) => crypt(false, p, secretOf(key), data),
  });
}

function run(encrypt: boolean, mode: string, key: Uint8Array, iv: Uint8Array, data: Uint8Array, aad: Uint8Array | null, n: number): Uint8Array {
  return host.call(encrypt ? "crypto.aes.encrypt" : "crypto.aes.decrypt", mode, key, iv, data, aad, n);
}

const CBC = cipher("CBC", (encrypt, p, key, data) => {
  const iv = bytesIn(p, "iv");
  if (iv.length !== 16) throw operationError(`AES-CBC IV must be 16 bytes long (provided ${iv.length} bytes).`);
  return run(encrypt, "cbc", key, iv, data, null, 0);
});

const CTR = cipher("CTR", (encrypt, p, key, data) => {
  const counter = bytesIn(p, "counter");
  const bits = required(p, "length");
  if (counter.length !== 16) throw operationError(`Counter must have length of 16 bytes (provided ${counter.length} bytes).`);
  if (bits < 1 || bits > 128) throw operationError(`Invalid counter length of ${bits} bits (must be between 1 and 128).`);
  return run(encrypt, "ctr", key, counter, data, null, bits);
});

const GCM = cipher("GCM", (encrypt, p, key, data) => {
  const iv = bytesIn(p, "iv");
  const aad = p.additionalData === undefined ? null : bytesIn(p, "additionalData");
  const tag = p.tagLength === undefined ? 128 : unsigned(p.tagLength, "tagLength");
  if (![32, 64, 96, 104, 112, 120, 128].includes(tag)) throw operationError(`Invalid AES-GCM tag length ${tag}.`);
  if (iv.length === 0) throw operationError("AES-GCM IV must not be empty.");
  return run(encrypt, "gcm", key, iv, data, aad, tag / 8);
});

const KW = aes("KW", wrapUsages, {
  wrapKey: (_, key, data) => host.call("crypto.aes.wrap", secretOf(key), data),
  unwrapKey: (_, key, data) => host.call("crypto.aes.unwrap", secretOf(key), data),
});

// Key derivation

const deriveUsages: Usage[] = ["deriveKey", "deriveBits"];

function derivation(name: string, derive: (p: Params, secret: Uint8Array, bytes: number) => Uint8Array | Promise<Uint8Array>): Algorithm {
  return {
    name,
    importKey(format, data, _, extractable, usages) {
      if (format !== "raw") throw unsupported(`Unrecognized key import format "${format}".`);
      if (extractable) throw new DOMException(`${name} key cannot be extractable.`, "SyntaxError");
      return makeKey("secret", { name }, false, usages, deriveUsages, { secret: (data as Uint8Array).slice() });
    },
    deriveBits: (p, key, length) => derive(p, secretOf(key), wholeBytes(length)),
    keyLength: () => null,
  };
}

const HKDF = derivation("HKDF", (p, secret, bytes) => {
  const hash = hashName(p.hash);
  return host.call("crypto.hkdf", hash, secret, bytesIn(p, "salt"), bytesIn(p, "info"), bytes);
});

const PBKDF2 = derivation("PBKDF2", (p, secret, bytes) => {
  const hash = hashName(p.hash);
  return host.start("crypto.heavy.pbkdf2", hash, secret, bytesIn(p, "salt"), required(p, "iterations"), bytes);
});

register(HMAC, CBC, CTR, GCM, KW, HKDF, PBKDF2);
