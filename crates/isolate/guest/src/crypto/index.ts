/**
 * The global `crypto`: random values, UUIDs, `subtle`, and workerd's DigestStream.
 */
import { host } from "../host";
import { bytesOf, WritableStream } from "../streams";
import { defineInterface, requireArguments } from "../webidl";
import { hashName } from "./algorithms";
import { CryptoKey } from "./key";
import { subtle, SubtleCrypto } from "./subtle";

const create = {};
const integers = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, BigInt64Array, BigUint64Array];

class Crypto {
  readonly #brand = true;

  constructor(token?: unknown) {
    if (token !== create) throw new TypeError("Illegal constructor");
  }

  get subtle(): SubtleCrypto {
    void this.#brand;
    return subtle;
  }

  getRandomValues<T>(array: T): T {
    void this.#brand;
    requireArguments(arguments.length, 1, "Crypto.getRandomValues");
    if (!integers.some((C) => array instanceof C)) {
      if (!ArrayBuffer.isView(array)) throw new TypeError("Crypto.getRandomValues: the argument is not a view of an ArrayBuffer.");
      throw new DOMException("The data argument is not an array of integers.", "TypeMismatchError");
    }
    const bytes = bytesOf(array)!;
    if (bytes.length > 65536) throw new DOMException(`getRandomValues() only accepts buffers of size <= 64K but provided ${bytes.length} bytes.`, "QuotaExceededError");
    if (bytes.length > 0) bytes.set(host.call("random", bytes.length) as Uint8Array);
    return array;
  }

  randomUUID(): string {
    void this.#brand;
    const b = host.call("random", 16) as Uint8Array & { toHex(): string };
    b[6] = (b[6]! & 0x0f) | 0x40;
    b[8] = (b[8]! & 0x3f) | 0x80;
    const h = b.toHex();
    return `${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20)}`;
  }

  declare DigestStream: typeof DigestStream;
}

/** The sink of a DigestStream: a hash at the host. */
class Digester {
  readonly name: string;
  id: number | undefined;
  written = 0n;
  resolve!: (digest: ArrayBuffer) => void;
  reject!: (reason: unknown) => void;
  readonly digest: Promise<ArrayBuffer>;

  constructor(algorithm: unknown) {
    this.name = hashName(algorithm);
    this.digest = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.digest.catch(() => {});
  }

  write(chunk: unknown): void {
    const bytes = typeof chunk === "string" ? host.utf8Encode(chunk) : bytesOf(chunk);
    if (bytes === undefined) {
      const e = new TypeError("DigestStream is a byte stream but received an object of non-ArrayBuffer/ArrayBufferView/string type on its writable side.");
      this.abort(e);
      throw e;
    }
    this.#open();
    for (let at = 0; at < bytes.length; at += 1 << 20) host.call("hash.push", this.id, bytes.subarray(at, at + (1 << 20)));
    this.written += BigInt(bytes.length);
  }

  close(): void {
    this.#open();
    const id = this.id!;
    this.id = undefined;
    this.resolve((host.call("hash.finish", id) as Uint8Array).buffer as ArrayBuffer);
  }

  abort(reason: unknown): void {
    if (this.id !== undefined) host.call("hash.drop", this.id);
    this.id = undefined;
    this.reject(reason);
  }

  #open(): void {
    this.id ??= host.call("hash.open", this.name, null) as number;
  }
}

class DigestStream extends WritableStream<unknown> {
  readonly #digester: Digester;

  constructor(algorithm: unknown) {
    requireArguments(arguments.length, 1, "DigestStream");
    const digester = new Digester(algorithm);
    super(digester);
    this.#digester = digester;
  }
  get digest(): Promise<ArrayBuffer> {
    return this.#digester.digest;
  }
  get bytesWritten(): bigint {
    return this.#digester.written;
  }
}

defineInterface(Crypto, "Crypto");
defineInterface(DigestStream, "DigestStream");
Object.defineProperty(Crypto.prototype, "DigestStream", { value: DigestStream, writable: true, configurable: true, enumerable: true });

export const crypto = new Crypto(create);
export { Crypto, CryptoKey, DigestStream, SubtleCrypto };

export const globals = { crypto, Crypto, CryptoKey, SubtleCrypto };
