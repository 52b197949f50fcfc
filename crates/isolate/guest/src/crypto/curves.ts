/**
 * ECDSA and ECDH over P-256, P-384 and P-521; Ed25519 and X25519.
 */
import { host } from "../host";
import { type Algorithm, type KeyData, type Params, hashName, register } from "./algorithms";
import { type CryptoKey, type Format, type JsonWebKey, type KeyAlgorithm, type Material, type Usage, checkJwk, checkUsages, dataError, factsOf, fromBase64Url, invalidAccess, isKey, makeKey, makePair, materialOf, operationError, permissions, toBase64Url, unsupported } from "./key";

const fieldBytes: Record<string, number> = { __proto__: null as never, "P-256": 32, "P-384": 48, "P-521": 66 };
const jwkAlg: Record<string, string> = { __proto__: null as never, "P-256": "ES256", "P-384": "ES384", "P-521": "ES512" };

/** What distinguishes the four: their usages, and how a curve is named. */
interface Kind {
  name: string;
  use: "sig" | "enc";
  forPrivate: Usage[];
  forPublic: Usage[];
  /** NIST curves are chosen by `namedCurve`; the others have but one. */
  nist: boolean;
}

function curveOf(kind: Kind, p: Params): string {
  if (!kind.nist) return kind.name;
  if (p.namedCurve === undefined) throw new TypeError('Missing field "namedCurve" in "algorithm".');
  const curve = `${p.namedCurve as string}`;
  if (fieldBytes[curve] === undefined) throw unsupported(`Unrecognized or unimplemented EC curve "${curve}" requested.`);
  return curve;
}

function algorithmOf(kind: Kind, curve: string): KeyAlgorithm {
  return kind.nist ? { name: kind.name, namedCurve: curve } : { name: kind.name };
}

function curveOfKey(key: CryptoKey): string {
  const { name, namedCurve } = factsOf(key).algorithm;
  return namedCurve ?? name;
}

function generate(kind: Kind, p: Params, extractable: boolean, usages: Usage[]): ReturnType<typeof makePair> {
  const curve = curveOf(kind, p);
  checkUsages(usages, [...kind.forPrivate, ...kind.forPublic]);
  const [priv, pub] = host.call("crypto.ec.generate", curve) as [Uint8Array, Uint8Array];
  return makePair(algorithmOf(kind, curve), extractable, usages, kind.forPrivate, kind.forPublic, { private: priv, public: pub });
}

function importAny(kind: Kind, format: Format, data: KeyData, p: Params, extractable: boolean, usages: Usage[]): CryptoKey {
  const curve = curveOf(kind, p);
  const isPrivate = format === "pkcs8" || (format === "jwk" && (data as JsonWebKey).d !== undefined);
  const allowed = isPrivate ? kind.forPrivate : kind.forPublic;
  checkUsages(usages, allowed);
  const m = format === "jwk" ? importJwk(kind, curve, data as JsonWebKey, extractable, usages) : importBytes(curve, format, data as Uint8Array);
  return makeKey(isPrivate ? "private" : "public", algorithmOf(kind, curve), extractable, usages, allowed, m);
}

function importBytes(curve: string, format: string, data: Uint8Array): Material {
  const [priv, pub] = host.call("crypto.ec.import", curve, format, data) as [Uint8Array | null, Uint8Array];
  return priv === null ? { public: pub } : { private: priv, public: pub };
}

function importJwk(kind: Kind, curve: string, jwk: JsonWebKey, extractable: boolean, usages: Usage[]): Material {
  checkJwk(jwk, kind.nist ? "EC" : "OKP", kind.use, extractable, usages);
  if (jwk.crv !== curve) throw dataError(`The JWK member "crv" must be "${curve}".`);
  if (kind.use === "sig" && jwk.alg !== undefined && jwk.alg !== (kind.nist ? jwkAlg[curve] : "EdDSA") && jwk.alg !== curve) {
    throw dataError('The JWK member "alg" does not match the curve.');
  }
  const pub = kind.nist ? point(curve, jwk) : fromBase64Url(jwk.x, "x");
  if (jwk.d === undefined) return importBytes(curve, "raw", pub);
  const m = importBytes(curve, "scalar", fromBase64Url(jwk.d, "d"));
  if (!(host.call("crypto.equal", m.public!, pub) as boolean)) throw dataError("The JWK's public and private parts do not belong together.");
  return m;
}

function point(curve: string, jwk: JsonWebKey): Uint8Array {
  const n = fieldBytes[curve]!;
  const x = fromBase64Url(jwk.x, "x");
  const y = fromBase64Url(jwk.y, "y");
  if (x.length !== n || y.length !== n) throw dataError("The JWK's coordinates have the wrong length for the curve.");
  const bytes = new Uint8Array(1 + 2 * n);
  bytes[0] = 4;
  bytes.set(x, 1);
  bytes.set(y, 1 + n);
  return bytes;
}

function exportAny(kind: Kind, format: Format, key: CryptoKey): KeyData {
  const { type } = factsOf(key);
  const m = materialOf(key);
  if (format === "jwk") return exportJwk(kind, key, m);
  const wanted = format === "pkcs8" ? "private" : "public";
  if (type !== wanted) throw invalidAccess(`A ${type} key cannot be exported as "${format}".`);
  if (format === "raw") return m.public!.slice();
  return host.call("crypto.ec.export", curveOfKey(key), format, m.private ?? null, m.public!);
}

function exportJwk(kind: Kind, key: CryptoKey, m: Material): JsonWebKey {
  const curve = curveOfKey(key);
  const pub = m.public!;
  const jwk: JsonWebKey = { ...permissions(key), kty: kind.nist ? "EC" : "OKP", crv: curve };
  if (kind.nist) {
    const n = fieldBytes[curve]!;
    jwk.x = toBase64Url(pub.subarray(1, 1 + n));
    jwk.y = toBase64Url(pub.subarray(1 + n));
  } else {
    jwk.x = toBase64Url(pub);
    if (kind.use === "sig") jwk.alg = "EdDSA";
  }
  if (factsOf(key).type === "private") jwk.d = toBase64Url(m.private!);
  return jwk;
}

function sign(key: CryptoKey, hash: string, data: Uint8Array): Uint8Array {
  return host.call("crypto.ec.sign", curveOfKey(key), hash, privateOf(key), data);
}

function verify(key: CryptoKey, hash: string, signature: Uint8Array, data: Uint8Array): boolean {
  if (factsOf(key).type !== "public") throw invalidAccess("Verifying needs a public key.");
  return host.call("crypto.ec.verify", curveOfKey(key), hash, materialOf(key).public!, signature, data);
}

function privateOf(key: CryptoKey): Uint8Array {
  if (factsOf(key).type !== "private") throw invalidAccess("The operation needs a private key.");
  return materialOf(key).private!;
}

/** The shared secret, cut to so many bits; bits beyond the length are zero. */
function derive(p: Params, key: CryptoKey, length: number | null): Uint8Array {
  const other = (p as { public?: unknown }).public;
  if (!isKey(other)) throw new TypeError('Missing or invalid field "public" in "algorithm".');
  const own = privateOf(key);
  const theirs = factsOf(other);
  if (theirs.type !== "public") throw invalidAccess("The provided key is not a public key.");
  if (theirs.algorithm.name !== factsOf(key).algorithm.name) throw invalidAccess("The keys are of different algorithms.");
  if (curveOfKey(other) !== curveOfKey(key)) throw invalidAccess("The keys are on different curves.");
  const shared = host.call("crypto.ec.derive", curveOfKey(key), own, materialOf(other).public!) as Uint8Array;
  if (length === null) return shared;
  if (length > shared.length * 8) throw operationError("The secret is shorter than the length asked for.");
  const bits = shared.slice(0, Math.ceil(length / 8));
  if (length % 8 !== 0) bits[bits.length - 1]! &= 0xff << (8 - (length % 8));
  return bits;
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

const signing = { use: "sig" as const, forPrivate: ["sign"] as Usage[], forPublic: ["verify"] as Usage[] };
const agreeing = { use: "enc" as const, forPrivate: ["deriveKey", "deriveBits"] as Usage[], forPublic: [] };

register(
  algorithm({ name: "ECDSA", nist: true, ...signing }, {
    sign: (p, key, data) => sign(key, hashName(p.hash), data),
    verify: (p, key, signature, data) => verify(key, hashName(p.hash), signature, data),
  }),
  algorithm({ name: "Ed25519", nist: false, ...signing }, {
    sign: (_, key, data) => sign(key, "", data),
    verify: (_, key, signature, data) => verify(key, "", signature, data),
  }),
  algorithm({ name: "ECDH", nist: true, ...agreeing }, { deriveBits: derive }),
  algorithm({ name: "X25519", nist: false, ...agreeing }, { deriveBits: derive }),
);
