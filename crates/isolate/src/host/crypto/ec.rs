//! Elliptic curves: P-256, P-384, P-521 (ECDSA, ECDH), Ed25519 and X25519.
//!
//! A private key is its scalar (or seed), a public key its uncompressed point (or 32 bytes), as bytes of fixed length.
//!
//! | op | arguments → result |
//! |---|---|
//! | `crypto.ec.generate` | curve → [private, public] |
//! | `crypto.ec.import` | curve, format (`raw`, `scalar`, `spki`, `pkcs8`), bytes → [private or null, public] |
//! | `crypto.ec.export` | curve, format (`spki`, `pkcs8`), private or null, public → bytes |
//! | `crypto.ec.sign` | curve, hash, private, data → signature |
//! | `crypto.ec.verify` | curve, hash, public, signature, data → boolean |
//! | `crypto.ec.derive` | curve, private, other's public → shared secret |

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use p256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::der::asn1::{BitStringRef, OctetStringRef};
use p256::pkcs8::der::{Decode, Encode};
use p256::pkcs8::spki::SubjectPublicKeyInfoRef;
use p256::pkcs8::{AlgorithmIdentifierRef, DecodePrivateKey, EncodePrivateKey, EncodePublicKey, ObjectIdentifier, PrivateKeyInfo};
use x25519_dalek::{PublicKey as XPublic, StaticSecret};

use super::super::{Args, HostError, Result};
use super::{hash, random_array};
use crate::wire::{Wire, WireOut};

const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const X25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.110");

/// Longest key in any format that is looked at.
const MAX_DER: usize = 4096;

/// A curve's operations on raw keys.
trait Curve {
    fn generate(&self) -> Result<Vec<u8>>;
    /// The public key of a private one, which is thereby checked.
    fn public(&self, private: &[u8]) -> Result<Vec<u8>>;
    fn check_public(&self, public: &[u8]) -> Result<Vec<u8>>;
    fn private_from_pkcs8(&self, der: &[u8]) -> Result<Vec<u8>>;
    fn public_from_spki(&self, der: &[u8]) -> Result<Vec<u8>>;
    fn pkcs8(&self, private: &[u8]) -> Result<Vec<u8>>;
    fn spki(&self, public: &[u8]) -> Result<Vec<u8>>;
    fn sign(&self, hash: &str, private: &[u8], data: &[u8]) -> Result<Vec<u8>>;
    fn verify(&self, hash: &str, public: &[u8], signature: &[u8], data: &[u8]) -> Result<bool>;
    fn derive(&self, private: &[u8], public: &[u8]) -> Result<Vec<u8>>;
}

fn curve(name: &str) -> Result<&'static dyn Curve> {
    Ok(match name {
        "P-256" => &P256,
        "P-384" => &P384,
        "P-521" => &P521,
        "Ed25519" => &Ed25519,
        "X25519" => &X,
        _ => {
            return Err(HostError::unsupported("Unrecognized or unimplemented EC curve requested"));
        }
    })
}

pub(super) fn call(name: &str, args: Args<'_, '_>) -> Option<Result<WireOut>> {
    Some(match name {
        "generate" => generate(args),
        "import" => import(args),
        "export" => export(args),
        "sign" => sign(args),
        "verify" => verify(args),
        "derive" => derive(args),
        _ => return None,
    })
}

fn invalid() -> HostError {
    HostError::data("Invalid key")
}

fn generate(args: Args<'_, '_>) -> Result<WireOut> {
    let curve = curve(&args.str(0)?)?;
    let private = curve.generate()?;
    let public = curve.public(&private)?;
    Ok(Wire::Array(vec![private.into(), public.into()]))
}

fn import(args: Args<'_, '_>) -> Result<WireOut> {
    let (curve, format, bytes) = (curve(&args.str(0)?)?, args.str(1)?, args.bytes(2)?);
    if bytes.len() > MAX_DER {
        return Err(invalid());
    }
    let (private, public) = match &*format {
        "raw" => (None, curve.check_public(bytes)?),
        "scalar" => (Some(bytes.to_vec()), curve.public(bytes)?),
        "spki" => (None, curve.public_from_spki(bytes)?),
        "pkcs8" => {
            let private = curve.private_from_pkcs8(bytes)?;
            let public = curve.public(&private)?;
            (Some(private), public)
        }
        _ => return Err(HostError::unsupported("unknown key format")),
    };
    Ok(Wire::Array(vec![private.into(), public.into()]))
}

fn export(args: Args<'_, '_>) -> Result<WireOut> {
    let curve = curve(&args.str(0)?)?;
    match &*args.str(1)? {
        "pkcs8" => curve.pkcs8(args.bytes(2)?).map(Wire::from),
        "spki" => curve.spki(args.bytes(3)?).map(Wire::from),
        _ => Err(HostError::unsupported("unknown key format")),
    }
}

fn sign(args: Args<'_, '_>) -> Result<WireOut> {
    curve(&args.str(0)?)?.sign(&args.str(1)?, args.bytes(2)?, args.bytes(3)?).map(Wire::from)
}

fn verify(args: Args<'_, '_>) -> Result<WireOut> {
    curve(&args.str(0)?)?.verify(&args.str(1)?, args.bytes(2)?, args.bytes(3)?, args.bytes(4)?).map(Wire::from)
}

fn derive(args: Args<'_, '_>) -> Result<WireOut> {
    curve(&args.str(0)?)?.derive(args.bytes(1)?, args.bytes(2)?).map(Wire::from)
}

/// The NIST curves: three crates with the same types under the same names. `$bytes` is the length of a field element.
macro_rules! nist {
    ($Curve:ident, $krate:ident, $bytes:literal) => {
        struct $Curve;

        impl $Curve {
            fn secret(private: &[u8]) -> Result<$krate::SecretKey> {
                if private.len() != $bytes {
                    return Err(invalid());
                }
                $krate::SecretKey::from_slice(private).map_err(|_| invalid())
            }

            fn point(public: &[u8]) -> Result<$krate::PublicKey> {
                $krate::PublicKey::from_sec1_bytes(public).map_err(|_| invalid())
            }

            /// The digest as an integer of the field's width, which the signer takes at any hash's length.
            fn prehash(name: &str, data: &[u8]) -> Result<[u8; $bytes]> {
                let digest = hash::once(name, data)?;
                let digest = digest.get(..$bytes).unwrap_or(&digest);
                let mut padded = [0; $bytes];
                padded[$bytes - digest.len()..].copy_from_slice(digest);
                Ok(padded)
            }
        }

        impl Curve for $Curve {
            fn generate(&self) -> Result<Vec<u8>> {
                Ok($krate::SecretKey::random(&mut rand_core::OsRng).to_bytes().to_vec())
            }

            fn public(&self, private: &[u8]) -> Result<Vec<u8>> {
                Ok(Self::secret(private)?.public_key().to_encoded_point(false).as_bytes().to_vec())
            }

            fn check_public(&self, public: &[u8]) -> Result<Vec<u8>> {
                Ok(Self::point(public)?.to_encoded_point(false).as_bytes().to_vec())
            }

            fn private_from_pkcs8(&self, der: &[u8]) -> Result<Vec<u8>> {
                Ok($krate::SecretKey::from_pkcs8_der(der).map_err(|_| invalid())?.to_bytes().to_vec())
            }

            fn public_from_spki(&self, der: &[u8]) -> Result<Vec<u8>> {
                use p256::pkcs8::DecodePublicKey;
                let key = $krate::PublicKey::from_public_key_der(der).map_err(|_| invalid())?;
                Ok(key.to_encoded_point(false).as_bytes().to_vec())
            }

            fn pkcs8(&self, private: &[u8]) -> Result<Vec<u8>> {
                Ok(Self::secret(private)?.to_pkcs8_der().map_err(|_| invalid())?.as_bytes().to_vec())
            }

            fn spki(&self, public: &[u8]) -> Result<Vec<u8>> {
                Ok(Self::point(public)?.to_public_key_der().map_err(|_| invalid())?.as_bytes().to_vec())
            }

            fn sign(&self, hash: &str, private: &[u8], data: &[u8]) -> Result<Vec<u8>> {
                let key = $krate::ecdsa::SigningKey::from_slice(Self::secret(private)?.to_bytes().as_slice()).map_err(|_| invalid())?;
                let signature: $krate::ecdsa::Signature =
                    key.sign_prehash(&Self::prehash(hash, data)?).map_err(|_| HostError::operation("Signing failed"))?;
                Ok(signature.to_bytes().to_vec())
            }

            fn verify(&self, hash: &str, public: &[u8], signature: &[u8], data: &[u8]) -> Result<bool> {
                let point = Self::point(public)?.to_encoded_point(false);
                let key = $krate::ecdsa::VerifyingKey::from_encoded_point(&point).map_err(|_| invalid())?;
                let Ok(signature) = $krate::ecdsa::Signature::from_slice(signature) else {
                    return Ok(false);
                };
                Ok(key.verify_prehash(&Self::prehash(hash, data)?, &signature).is_ok())
            }

            fn derive(&self, private: &[u8], public: &[u8]) -> Result<Vec<u8>> {
                let (private, public) = (Self::secret(private)?, Self::point(public)?);
                let shared = $krate::ecdh::diffie_hellman(private.to_nonzero_scalar(), public.as_affine());
                Ok(shared.raw_secret_bytes().to_vec())
            }
        }
    };
}

nist!(P256, p256, 32);
nist!(P384, p384, 48);
nist!(P521, p521, 66);

fn octets(key: &[u8]) -> Result<[u8; 32]> {
    key.try_into().map_err(|_| invalid())
}

/// RFC 8410: the seed is an octet string within the key's octet string; the public key plain bits; no parameters.
fn okp_from_pkcs8(oid: ObjectIdentifier, der: &[u8]) -> Result<Vec<u8>> {
    let info = PrivateKeyInfo::try_from(der).map_err(|_| invalid())?;
    if info.algorithm.oid != oid || info.algorithm.parameters.is_some() {
        return Err(invalid());
    }
    let seed = OctetStringRef::from_der(info.private_key).map_err(|_| invalid())?;
    Ok(octets(seed.as_bytes())?.to_vec())
}

fn okp_from_spki(oid: ObjectIdentifier, der: &[u8]) -> Result<Vec<u8>> {
    let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| invalid())?;
    if info.algorithm.oid != oid || info.algorithm.parameters.is_some() {
        return Err(invalid());
    }
    Ok(octets(info.subject_public_key.as_bytes().ok_or_else(invalid)?)?.to_vec())
}

fn okp_pkcs8(oid: ObjectIdentifier, private: &[u8]) -> Result<Vec<u8>> {
    let seed = OctetStringRef::new(private).and_then(|s| s.to_der()).map_err(|_| invalid())?;
    let info = PrivateKeyInfo::new(AlgorithmIdentifierRef { oid, parameters: None }, &seed);
    info.to_der().map_err(|_| invalid())
}

fn okp_spki(oid: ObjectIdentifier, public: &[u8]) -> Result<Vec<u8>> {
    let subject_public_key = BitStringRef::from_bytes(public).map_err(|_| invalid())?;
    let info = SubjectPublicKeyInfoRef { algorithm: AlgorithmIdentifierRef { oid, parameters: None }, subject_public_key };
    info.to_der().map_err(|_| invalid())
}

fn not_this_curve<T>() -> Result<T> {
    Err(HostError::unsupported("this curve does not support the operation"))
}

struct Ed25519;

impl Curve for Ed25519 {
    fn generate(&self) -> Result<Vec<u8>> {
        Ok(random_array::<32>()?.to_vec())
    }

    fn public(&self, private: &[u8]) -> Result<Vec<u8>> {
        Ok(SigningKey::from_bytes(&octets(private)?).verifying_key().to_bytes().to_vec())
    }

    /// Whether the bytes are a point shows when they verify something, as in other implementations.
    fn check_public(&self, public: &[u8]) -> Result<Vec<u8>> {
        Ok(octets(public)?.to_vec())
    }

    fn private_from_pkcs8(&self, der: &[u8]) -> Result<Vec<u8>> {
        okp_from_pkcs8(ED25519, der)
    }

    fn public_from_spki(&self, der: &[u8]) -> Result<Vec<u8>> {
        okp_from_spki(ED25519, der)
    }

    fn pkcs8(&self, private: &[u8]) -> Result<Vec<u8>> {
        okp_pkcs8(ED25519, private)
    }

    fn spki(&self, public: &[u8]) -> Result<Vec<u8>> {
        okp_spki(ED25519, public)
    }

    fn sign(&self, _: &str, private: &[u8], data: &[u8]) -> Result<Vec<u8>> {
        Ok(SigningKey::from_bytes(&octets(private)?).sign(data).to_bytes().to_vec())
    }

    fn verify(&self, _: &str, public: &[u8], signature: &[u8], data: &[u8]) -> Result<bool> {
        use ed25519_dalek::Verifier;
        let (Ok(key), Ok(signature)) = (VerifyingKey::from_bytes(&octets(public)?), ed25519_dalek::Signature::from_slice(signature)) else {
            return Ok(false);
        };
        Ok(key.verify(data, &signature).is_ok())
    }

    fn derive(&self, _: &[u8], _: &[u8]) -> Result<Vec<u8>> {
        not_this_curve()
    }
}

struct X;

impl Curve for X {
    fn generate(&self) -> Result<Vec<u8>> {
        Ok(random_array::<32>()?.to_vec())
    }

    fn public(&self, private: &[u8]) -> Result<Vec<u8>> {
        Ok(XPublic::from(&StaticSecret::from(octets(private)?)).to_bytes().to_vec())
    }

    fn check_public(&self, public: &[u8]) -> Result<Vec<u8>> {
        Ok(octets(public)?.to_vec())
    }

    fn private_from_pkcs8(&self, der: &[u8]) -> Result<Vec<u8>> {
        okp_from_pkcs8(X25519, der)
    }

    fn public_from_spki(&self, der: &[u8]) -> Result<Vec<u8>> {
        okp_from_spki(X25519, der)
    }

    fn pkcs8(&self, private: &[u8]) -> Result<Vec<u8>> {
        okp_pkcs8(X25519, private)
    }

    fn spki(&self, public: &[u8]) -> Result<Vec<u8>> {
        okp_spki(X25519, public)
    }

    fn sign(&self, _: &str, _: &[u8], _: &[u8]) -> Result<Vec<u8>> {
        not_this_curve()
    }

    fn verify(&self, _: &str, _: &[u8], _: &[u8], _: &[u8]) -> Result<bool> {
        not_this_curve()
    }

    /// An all-zero secret comes of a point of small order and would be known to everyone.
    fn derive(&self, private: &[u8], public: &[u8]) -> Result<Vec<u8>> {
        let shared = StaticSecret::from(octets(private)?).diffie_hellman(&XPublic::from(octets(public)?));
        if !shared.was_contributory() {
            return Err(HostError::operation("The derived secret is all zero"));
        }
        Ok(shared.to_bytes().to_vec())
    }
}
