/**
 * SubtleCrypto: the checks that the standard prescribes around every operation, in its order; the algorithms do the rest. Arguments are
 * read, and data copied out, before a method first awaits; keys come first, as Web IDL converts arguments before anything is looked up.
 */
import { host } from "../host";
import { bytesOf } from "../streams";
import { defineInterface, requireArguments } from "../webidl";
import { type Algorithm, type KeyData, type Params, find, normalize, unrecognized, unsigned } from "./algorithms";
import { type CryptoKey, type CryptoKeyPair, type Format, type JsonWebKey, type Usage, buffer, dataError, factsOf, invalidAccess, isKey, unsupported, usagesOf } from "./key";
import "./symmetric";
import "./curves";
import "./rsa";

const formats = ["raw", "pkcs8", "spki", "jwk"];
const jsonParse = JSON.parse;
const jsonStringify = JSON.stringify;

function formatOf(v: unknown): Format {
  const format = `${v as string}`;
  if (!formats.includes(format)) throw unsupported(`Unrecognized key format "${format}".`);
  return format as Format;
}

function keyOf(v: unknown): CryptoKey {
  if (!isKey(v)) throw new TypeError("The argument is not a CryptoKey.");
  return v;
}

/** That the key is one of this algorithm and may be used so. */
function permit(algorithm: Algorithm, key: CryptoKey, usage: Usage): void {
  const { algorithm: own, usages } = factsOf(key);
  if (own.name !== algorithm.name) throw invalidAccess(`The requested algorithm "${algorithm.name}" does not match this CryptoKey's algorithm "${own.name}".`);
  if (!usages.includes(usage)) throw invalidAccess(`The requested operation "${usage}" is not valid for the provided key.`);
}

/** A result as an ArrayBuffer of its own. */
function owned(bytes: Uint8Array): ArrayBuffer {
  const whole = bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength;
  return (whole ? bytes.buffer : bytes.slice().buffer) as ArrayBuffer;
}

function lengthOf(v: unknown): number | null {
  return v === undefined || v === null ? null : unsigned(v, "length");
}

export class SubtleCrypto {
  readonly #brand = true;

  constructor(token?: unknown) {
    if (token !== create) throw new TypeError("Illegal constructor");
  }

  async encrypt(algorithm: unknown, key: CryptoKey, data: unknown): Promise<ArrayBuffer> {
    void this.#brand;
    requireArguments(arguments.length, 3, "SubtleCrypto.encrypt");
    keyOf(key);
    const [a, p] = normalize("encrypt", algorithm);
    permit(a, key, "encrypt");
    return owned(await a.encrypt!(p, key, buffer(data, "data")));
  }

  async decrypt(algorithm: unknown, key: CryptoKey, data: unknown): Promise<ArrayBuffer> {
    void this.#brand;
    requireArguments(arguments.length, 3, "SubtleCrypto.decrypt");
    keyOf(key);
    const [a, p] = normalize("decrypt", algorithm);
    permit(a, key, "decrypt");
    return owned(await a.decrypt!(p, key, buffer(data, "data")));
  }

  async sign(algorithm: unknown, key: CryptoKey, data: unknown): Promise<ArrayBuffer> {
    void this.#brand;
    requireArguments(arguments.length, 3, "SubtleCrypto.sign");
    keyOf(key);
    const [a, p] = normalize("sign", algorithm);
    permit(a, key, "sign");
    return owned(await a.sign!(p, key, buffer(data, "data")));
  }

  async verify(algorithm: unknown, key: CryptoKey, signature: unknown, data: unknown): Promise<boolean> {
    void this.#brand;
    requireArguments(arguments.length, 4, "SubtleCrypto.verify");
    keyOf(key);
    const [a, p] = normalize("verify", algorithm);
    permit(a, key, "verify");
    return a.verify!(p, key, buffer(signature, "signature"), buffer(data, "data"));
  }

  async digest(algorithm: unknown, data: unknown): Promise<ArrayBuffer> {
    void this.#brand;
    requireArguments(arguments.length, 2, "SubtleCrypto.digest");
    return owned(normalize("digest", algorithm)[0].digest!(buffer(data, "data")));
  }

  async generateKey(algorithm: unknown, extractable: boolean, keyUsages: Usage[]): Promise<CryptoKey | CryptoKeyPair> {
    void this.#brand;
    requireArguments(arguments.length, 3, "SubtleCrypto.generateKey");
    const [a, p] = normalize("generateKey", algorithm);
    return a.generateKey!(p, !!extractable, usagesOf(keyUsages));
  }

  async importKey(format: Format, keyData: KeyData, algorithm: unknown, extractable: boolean, keyUsages: Usage[]): Promise<CryptoKey> {
    void this.#brand;
    requireArguments(arguments.length, 5, "SubtleCrypto.importKey");
    const f = formatOf(format);
    const [a, p] = normalize("importKey", algorithm);
    return a.importKey!(f, f === "jwk" ? jwkOf(keyData) : buffer(keyData, "keyData"), p, !!extractable, usagesOf(keyUsages));
  }

  async exportKey(format: Format, key: CryptoKey): Promise<ArrayBuffer | JsonWebKey> {
    void this.#brand;
    requireArguments(arguments.length, 2, "SubtleCrypto.exportKey");
    const data = exported(formatOf(format), keyOf(key));
    return data instanceof Uint8Array ? owned(data) : data;
  }

  async wrapKey(format: Format, key: CryptoKey, wrappingKey: CryptoKey, wrapAlgorithm: unknown): Promise<ArrayBuffer> {
    void this.#brand;
    requireArguments(arguments.length, 4, "SubtleCrypto.wrapKey");
    keyOf(key);
    keyOf(wrappingKey);
    const f = formatOf(format);
    const wrap = find("wrapKey", wrapAlgorithm);
    const [a, p] = wrap ?? normalize("encrypt", wrapAlgorithm);
    permit(a, wrappingKey, "wrapKey");
    const data = exported(f, key);
    const bytes = data instanceof Uint8Array ? data : host.utf8Encode(jsonStringify(data));
    return owned(await (wrap !== undefined ? a.wrapKey!(p, wrappingKey, bytes) : a.encrypt!(p, wrappingKey, bytes)));
  }

  async unwrapKey(format: Format, wrappedKey: unknown, unwrappingKey: CryptoKey, unwrapAlgorithm: unknown, keyAlgorithm: unknown, extractable: boolean, keyUsages: Usage[]): Promise<CryptoKey> {
    void this.#brand;
    requireArguments(arguments.length, 7, "SubtleCrypto.unwrapKey");
    keyOf(unwrappingKey);
    const f = formatOf(format);
    const unwrap = find("unwrapKey", unwrapAlgorithm);
    const [a, p] = unwrap ?? normalize("decrypt", unwrapAlgorithm);
    const [target, params] = normalize("importKey", keyAlgorithm);
    const usages = usagesOf(keyUsages);
    permit(a, unwrappingKey, "unwrapKey");
    const wrapped = buffer(wrappedKey, "wrappedKey");
    const bytes = await (unwrap !== undefined ? a.unwrapKey!(p, unwrappingKey, wrapped) : a.decrypt!(p, unwrappingKey, wrapped));
    return target.importKey!(f, f === "jwk" ? parsedJwk(bytes) : bytes, params, !!extractable, usages);
  }

  async deriveBits(algorithm: unknown, baseKey: CryptoKey, length: number | null = null): Promise<ArrayBuffer> {
    void this.#brand;
    requireArguments(arguments.length, 2, "SubtleCrypto.deriveBits");
    keyOf(baseKey);
    const [a, p] = normalize("deriveBits", algorithm);
    permit(a, baseKey, "deriveBits");
    return owned(await a.deriveBits!(p, baseKey, lengthOf(length)));
  }

  async deriveKey(algorithm: unknown, baseKey: CryptoKey, derivedKeyType: unknown, extractable: boolean, keyUsages: Usage[]): Promise<CryptoKey> {
    void this.#brand;
    requireArguments(arguments.length, 5, "SubtleCrypto.deriveKey");
    keyOf(baseKey);
    const [a, p] = normalize("deriveBits", algorithm);
    const [target, params] = normalize("importKey", derivedKeyType);
    if (target.keyLength === undefined) throw unrecognized("get key length", derivedKeyType);
    const usages = usagesOf(keyUsages);
    permit(a, baseKey, "deriveKey");
    const secret = await a.deriveBits!(p, baseKey, target.keyLength(params));
    return target.importKey!("raw", secret, params, !!extractable, usages);
  }

  timingSafeEqual(a: unknown, b: unknown): boolean {
    void this.#brand;
    requireArguments(arguments.length, 2, "SubtleCrypto.timingSafeEqual");
    const [left, right] = [buffer(a, "a"), buffer(b, "b")];
    if (left.length !== right.length) throw new TypeError("Input buffers must have the same byte length.");
    return host.call("crypto.equal", left, right);
  }
}

/** Exports a key that allows it. */
function exported(format: Format, key: CryptoKey): KeyData {
  const { algorithm, extractable } = factsOf(key);
  const found = find("exportKey", algorithm.name);
  if (found === undefined) throw unrecognized("exportKey", algorithm);
  if (!extractable) throw invalidAccess("Attempt to export non-extractable key material.");
  return found[0].exportKey!(format, key);
}

/** Its members are copied, so that a getter answers once. */
function jwkOf(v: unknown): JsonWebKey {
  if (typeof v !== "object" || v === null || bytesOf(v) !== undefined) throw new TypeError("The key data is not a JsonWebKey.");
  return { ...(v as JsonWebKey) };
}

function parsedJwk(bytes: Uint8Array): JsonWebKey {
  try {
    return jwkOf(jsonParse(host.utf8Decode(bytes, true, false)));
  } catch {
    throw dataError("The unwrapped data is not a JSON Web Key.");
  }
}

const create = {};
defineInterface(SubtleCrypto, "SubtleCrypto");

export const subtle = new SubtleCrypto(create);
