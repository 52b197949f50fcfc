/**
 * RSASSA-PKCS1-v1_5, RSA-PSS and RSA-OAEP. Private operations are started, not called: they take milliseconds to seconds.
 */
import { host } from "../host";
import { type Algorithm, type KeyData, type Params, bytesIn, hashName, register, required } from "./algorithms";
import { type CryptoKey, type CryptoKeyPair, type Format, type JsonWebKey, type KeyAlgorithm, type Usage, checkJwk, checkUsages, dataError, factsOf, fromBase64Url, invalidAccess, makeKey, makePair, materialOf, operationError, permissions, toBase64Url, unsupported } from "./key";

interface Kind {
  name: string;
  use: "sig" | "enc";
  forPrivate: Usage[];
  forPublic: Usage[];
  /** A JWK's `alg`, from the digits of the hash's name. */
  alg(hash: string): string;
}

function algorithmOf(kind: Kind, hash: string, modulusLength: number, publicExponent: Uint8Array): KeyAlgorithm {
  return { name: kind.name, modulusLength, publicExponent, hash: { name: hash } };
}

async function generate(kind: Kind, p: Params, extractable: boolean, usages: Usage[]): Promise<CryptoKeyPair> {
  const hash = hashName(p.hash);
  const bits = required(p, "modulusLength");
  const exponent = bytesIn(p, "publicExponent").slice();
  checkUsages(usages, [...kind.forPrivate, ...kind.forPublic]);
  if (!usages.some((u) => kind.forPrivate.includes(u))) throw new DOMException("A private key needs at least one usage.", "SyntaxError");
  const e = exponent.reduce((n, b) => Math.min(n * 256 + b, 0xffffffff), 0);
  const [priv, pub] = (await host.start("crypto.heavy.rsaGenerate", bits, e)) as [Uint8Array, Uint8Array];
  return makePair(algorithmOf(kind, hash, bits, exponent), extractable, usages, kind.forPrivate, kind.forPublic, { private: priv, public: pub });
}

function importAny(kind: Kind, format: Format, data: KeyData, p: Params, extractable: boolean, usages: Usage[]): CryptoKey {
  const hash = hashName(p.hash);
  if (format === "raw") throw unsupported('Unrecognized key import format "raw".');
  const isPrivate = format === "pkcs8" || (format === "jwk" && (data as JsonWebKey).d !== undefined);
  const allowed = isPrivate ? kind.forPrivate : kind.forPublic;
  checkUsages(usages, allowed);
  const given = format === "jwk" ? integersOf(kind, hash, data as JsonWebKey, extractable, usages) : (data as Uint8Array);
  const [priv, pub, bits, exponent] = host.call("crypto.rsa.import", format, given) as [Uint8Array | null, Uint8Array, number, Uint8Array];
  const m = priv === null ? { public: pub } : { private: priv, public: pub };
  return makeKey(isPrivate ? "private" : "public", algorithmOf(kind, hash, bits, exponent), extractable, usages, allowed, m);
}

function integersOf(kind: Kind, hash: string, jwk: JsonWebKey, extractable: boolean, usages: Usage[]): Uint8Array[] {
  checkJwk(jwk, "RSA", kind.use, extractable, usages);
  if (jwk.alg !== undefined && jwk.alg !== kind.alg(hash)) throw dataError('The JWK member "alg" does not match the algorithm.');
  if (jwk.oth !== undefined) throw unsupported("Multi-prime RSA keys are not supported.");
  const members = jwk.d === undefined ? (["n", "e"] as const) : (["n", "e", "d", "p", "q"] as const);
  if (jwk.d !== undefined) for (const m of ["dp", "dq", "qi"] as const) fromBase64Url(jwk[m], m);
  return members.map((m) => fromBase64Url(jwk[m], m));
}

function exportAny(kind: Kind, format: Format, key: CryptoKey): KeyData {
  const { type } = factsOf(key);
  const m = materialOf(key);
  if (format === "jwk") return exportJwk(kind, key);
  if (format === "raw") throw unsupported('Unrecognized key export format "raw".');
  if (type !== (format === "pkcs8" ? "private" : "public")) throw invalidAccess(`A ${type} key cannot be exported as "${format}".`);
  return (format === "pkcs8" ? m.private! : m.public!).slice();
}

function exportJwk(kind: Kind, key: CryptoKey): JsonWebKey {
  const m = materialOf(key);
  const integers = host.call("crypto.rsa.integers", m.private ?? null, m.public!) as Uint8Array[];
  const jwk: JsonWebKey = { ...permissions(key), kty: "RSA", alg: kind.alg(hashOf(key)) };
  (["n", "e", "d", "p", "q", "dp", "dq", "qi"] as const).forEach((name, i) => {
    if (integers[i] !== undefined) jwk[name] = toBase64Url(integers[i]!);
  });
  return jwk;
}

function hashOf(key: CryptoKey): string {
  return factsOf(key).algorithm.hash!.name;
}

function half(key: CryptoKey, type: "private" | "public"): Uint8Array {
  if (factsOf(key).type !== type) throw invalidAccess(`The operation needs a ${type} key.`);
  return materialOf(key)[type]!;
}

/** The longest salt that fits between the digest and the padding. */
function saltOf(p: Params, key: CryptoKey): number {
  const { modulusLength } = factsOf(key).algorithm;
  const salt = required(p, "saltLength");
  const digestBytes = { "SHA-1": 20, "SHA-256": 32, "SHA-384": 48 }[hashOf(key)] ?? 64;
  if (salt > Math.ceil((modulusLength! - 1) / 8) - digestBytes - 2) throw operationError("The salt is too long for the key.");
  return salt;
}

function labelOf(p: Params): Uint8Array | null {
  return p.label === undefined ? null : bytesIn(p, "label");
}

function signing(name: string, scheme: string, prefix: string, salt: (p: Params, key: CryptoKey) => number): Algorithm {
  const kind: Kind = { name, use: "sig", forPrivate: ["sign"], forPublic: ["verify"], alg: (hash) => prefix + (hash === "SHA-1" ? "1" : hash.slice(4)) };
  return algorithm(kind, {
    sign: (p, key, data) => host.start("crypto.heavy.rsaSign", scheme, hashOf(key), half(key, "private"), data, salt(p, key)),
    verify: (p, key, signature, data) => host.call("crypto.rsa.verify", scheme, hashOf(key), half(key, "public"), signature, data, salt(p, key)),
  });
}

function algorithm(kind: Kind, rest: Partial<Algorithm>): Algorithm {
  return {
    name: kind.name,
    generateKey: (p, extractable, usages) => generate(kind, p, extractable, usages),
    importKey: (format, data, p, extractable, usages) => importAny(kind, format, data, p, extractable, usages),
    exportKey: (format, key) => exportAny(kind, format, key),
    ...rest,
  };
}

const oaep: Kind = {
  name: "RSA-OAEP",
  use: "enc",
  forPrivate: ["decrypt", "unwrapKey"],
  forPublic: ["encrypt", "wrapKey"],
  alg: (hash) => (hash === "SHA-1" ? "RSA-OAEP" : `RSA-OAEP-${hash.slice(4)}`),
};

register(
  signing("RSASSA-PKCS1-v1_5", "pkcs1", "RS", () => 0),
  signing("RSA-PSS", "pss", "PS", saltOf),
  algorithm(oaep, {
    encrypt: (p, key, data) => host.call("crypto.rsa.encrypt", hashOf(key), half(key, "public"), data, labelOf(p)),
    decrypt: (p, key, data) => host.start("crypto.heavy.rsaDecrypt", hashOf(key), half(key, "private"), data, labelOf(p)),
  }),
);
