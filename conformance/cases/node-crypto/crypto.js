/** node:crypto. */
import crypto, { createHash, createHmac, randomBytes, randomUUID, randomInt, timingSafeEqual, pbkdf2Sync, pbkdf2, hkdfSync, scryptSync, webcrypto, getHashes, randomFillSync, hash, getRandomValues } from "node:crypto";

export const cases = {
  "createHash": [() => ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"].map((a) => createHash(a).update("abc").digest("hex")), ["900150983cd24fb0d6963f7d28e17f72", "a9993e364706816aba3e25717850c26c9cd0d89d", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7", "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"]],
  "hash names": [(t) => t.each(["SHA256", "sha-256", "RSA-SHA256", "sha512-256", "nope"], (a) => createHash(a).update("").digest("hex").length)],
  "update inputs and encodings": [() => [createHash("sha1").update("a").update(Buffer.from("b")).update(new Uint8Array([99])).digest("base64"), createHash("md5").update("c3a9", "hex").digest("hex") === createHash("md5").update("é").digest("hex"), createHash("sha1").update("x").digest("base64url"), createHash("sha1").update("x").digest() instanceof Buffer, createHash("sha1").update("x").digest("latin1").length]],
  "digest twice": [(t) => { const h = createHash("md5"); h.digest(); return [t.error(() => h.digest()), t.error(() => h.update("x"))]; }, ["Error[ERR_CRYPTO_HASH_FINALIZED]", "Error[ERR_CRYPTO_HASH_FINALIZED]"]],
  "copy": [() => { const h = createHash("sha256").update("a"); const c = h.copy(); h.update("b"); c.update("b"); return h.digest("hex") === c.digest("hex"); }, true],
  "bad update": [(t) => [t.error(() => createHash("md5").update(5)), t.error(() => createHash("md5").update(null)), t.error(() => createHash())]],
  "hash as a stream": [async (t) => t.error(async () => { const h = createHash("sha1"); h.write("ab"); h.end("c"); await new Promise((r) => h.on("readable", r)); return h.read().toString("hex"); })],
  "one-shot hash": [(t) => [t.error(() => hash("sha1", "abc")), t.error(() => hash("sha1", "abc", "base64"))]],
  "createHmac": [() => [createHmac("sha256", "key").update("The quick brown fox jumps over the lazy dog").digest("hex"), createHmac("md5", Buffer.alloc(100, 1)).update("x").digest("hex"), createHmac("sha512", "").update("").digest("base64").length]],
  "randomBytes": [async () => [randomBytes(16).length, randomBytes(16) instanceof Buffer, !randomBytes(16).equals(randomBytes(16)), await new Promise((r) => randomBytes(4, (e, b) => r([e, b.length])))], [16, true, true, [null, 4]]],
  "randomBytes bad": [(t) => [t.error(() => randomBytes(-1)), t.error(() => randomBytes("5"))], ["RangeError[ERR_OUT_OF_RANGE]", "TypeError[ERR_INVALID_ARG_TYPE]"]],
  "randomInt": [(t) => { const xs = Array.from({ length: 50 }, () => randomInt(3, 6)); return [xs.every((x) => x >= 3 && x < 6 && Number.isInteger(x)), randomInt(1), t.error(() => randomInt(5, 5)), t.error(() => randomInt(1.5))]; }],
  "randomUUID and randomFill": [() => { const b = Buffer.alloc(8); return [randomUUID().length, randomFillSync(b) === b, b.some((x) => x), getRandomValues(new Uint8Array(1)).length]; }, [36, true, true, 1]],
  "timingSafeEqual": [(t) => [timingSafeEqual(Buffer.from("a"), Buffer.from("a")), timingSafeEqual(Buffer.from("a"), Buffer.from("b")), t.error(() => timingSafeEqual(Buffer.from("a"), Buffer.from("ab"))), t.error(() => timingSafeEqual("a", "a"))], [true, false, "RangeError[ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH]", "TypeError[ERR_INVALID_ARG_TYPE]"]],
  "pbkdf2": [async () => [pbkdf2Sync("password", "salt", 1000, 32, "sha256").toString("hex"), await new Promise((r) => pbkdf2("p", "s", 1, 8, "sha1", (e, k) => r(k.toString("hex"))))]],
  "pbkdf2 errors": [(t) => [t.error(() => pbkdf2Sync("p", "s", 0, 8, "sha1")), t.error(() => pbkdf2Sync("p", "s", 1, 8, "nope")), t.error(() => pbkdf2Sync("p", "s", 1, -1, "sha1"))]],
  "hkdfSync": [(t) => t.error(() => Buffer.from(hkdfSync("sha256", "key", "salt", "info", 16)).toString("hex"))],
  "scryptSync": [(t) => t.error(() => scryptSync("pw", "salt", 16, { N: 16, r: 1, p: 1 }).toString("hex"))],
  "webcrypto": [() => [webcrypto === globalThis.crypto || webcrypto.subtle !== undefined, crypto.subtle === globalThis.crypto.subtle, typeof crypto.webcrypto.getRandomValues], [true, true, "function"]],
  "getHashes": [() => getHashes().includes("sha256") || getHashes().includes("SHA256"), true],
  "createCipheriv": [(t) => t.error(() => { const c = crypto.createCipheriv("aes-256-gcm", Buffer.alloc(32, 1), Buffer.alloc(12, 2)); return c.update("abc", "utf8", "hex") + c.final("hex") + c.getAuthTag().toString("hex"); })],
  "createSign is there": [() => ["createSign", "createVerify", "generateKeyPairSync", "createSecretKey", "createPublicKey", "sign", "verify", "createDiffieHellman", "X509Certificate", "constants"].map((k) => typeof crypto[k])],
  "createSecretKey with hmac": [(t) => t.error(() => createHmac("sha1", crypto.createSecretKey(Buffer.from("k"))).update("x").digest("hex"))],
};
