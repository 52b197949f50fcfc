//! RSA: PKCS#1 v1.5 and PSS signatures, OAEP, key generation, and keys as DER or as the integers of a JWK.
//!
//! A private key is PKCS#8 DER, a public key SPKI DER. Private operations are blinded, which the `rsa` crate needs: its big
//! numbers are not constant-time. They take milliseconds and are therefore heavy.
//!
//! | op | arguments → result |
//! |---|---|
//! | `crypto.rsa.import` | format (`spki`, `pkcs8`), bytes; or `jwk`, [n, e] or [n, e, d, p, q] → [private or null, public, modulus bits, exponent] |
//! | `crypto.rsa.integers` | private or null, public → [n, e] or [n, e, d, p, q, dp, dq, qi] |
//! | `crypto.rsa.verify` | scheme (`pkcs1`, `pss`), hash, public, signature, data, salt bytes → boolean |
//! | `crypto.rsa.encrypt` | hash, public, data, label or null → bytes |
//! | `crypto.heavy.rsaSign` | scheme, hash, private, data, salt bytes → signature |
//! | `crypto.heavy.rsaDecrypt` | hash, private, data, label or null → bytes |
//! | `crypto.heavy.rsaGenerate` | modulus bits, exponent → [private, public] |

use ::rsa::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ::rsa::traits::{PrivateKeyParts, PublicKeyParts, SignatureScheme};
use ::rsa::{BigUint, Oaep, Pkcs1v15Sign, Pss, RsaPrivateKey, RsaPublicKey};
use rand_core::OsRng;

use super::super::{Args, HostError, Result};
use super::hash;
use crate::wire::{Wire, WireOut};

/// Longest modulus in bits.
const MAX_BITS: u32 = 4096;
/// Longest key in DER and longest integer of a JWK that are looked at.
const MAX_DER: usize = 8192;
const MAX_INTEGER: usize = 520;

/// Runs code for the hash of a name; MD5 and the truncated ones are not for RSA.
macro_rules! with_hash {
    ($name:expr, $D:ident => $body:expr) => {{
        match $name {
            "SHA-1" => {
                type $D = sha1::Sha1;
                Ok($body)
            }
            "SHA-256" => {
                type $D = sha2::Sha256;
                Ok($body)
            }
            "SHA-384" => {
                type $D = sha2::Sha384;
                Ok($body)
            }
            "SHA-512" => {
                type $D = sha2::Sha512;
                Ok($body)
            }
            _ => Err(HostError::unsupported("RSA works with SHA-1, SHA-256, SHA-384 and SHA-512")),
        }
    }};
}

pub(super) fn call(name: &str, args: Args<'_, '_>) -> Option<Result<WireOut>> {
    Some(match name {
        "import" => import(args),
        "integers" => integers(args),
        "verify" => verify(args),
        "encrypt" => encrypt(args),
        _ => return None,
    })
}

pub(super) fn heavy(name: &str, args: Args<'_, '_>) -> Option<Result<WireOut>> {
    Some(match name {
        "rsaGenerate" => generate(args),
        "rsaSign" => sign(args),
        "rsaDecrypt" => decrypt(args),
        _ => return None,
    })
}

fn invalid() -> HostError {
    HostError::data("Invalid RSA key")
}

fn private_key(der: &[u8]) -> Result<RsaPrivateKey> {
    if der.len() > MAX_DER {
        return Err(invalid());
    }
    bounded(RsaPrivateKey::from_pkcs8_der(der).map_err(|_| invalid())?)
}

fn public_key(der: &[u8]) -> Result<RsaPublicKey> {
    if der.len() > MAX_DER {
        return Err(invalid());
    }
    bounded(RsaPublicKey::from_public_key_der(der).map_err(|_| invalid())?)
}

fn bounded<K: PublicKeyParts>(key: K) -> Result<K> {
    match key.n().bits() {
        256..=4096 => Ok(key),
        bits => Err(HostError::operation(format!("RSA keys have from 256 to {MAX_BITS} bits here, not {bits}"))),
    }
}

fn import(args: Args<'_, '_>) -> Result<WireOut> {
    let format = args.str(0)?;
    let (private, public) = match &*format {
        "pkcs8" => {
            let key = private_key(args.bytes(1)?)?;
            (Some(pkcs8(&key)?), key.to_public_key())
        }
        "spki" => (None, public_key(args.bytes(1)?)?),
        "jwk" => from_integers(args.at(1).as_array().unwrap_or_default())?,
        _ => return Err(HostError::unsupported("unknown key format")),
    };
    let (bits, exponent) = (public.n().bits() as u32, public.e().to_bytes_be());
    Ok(Wire::Array(vec![private.into(), spki(&public)?.into(), bits.into(), exponent.into()]))
}

fn from_integers(parts: &[Wire<'_>]) -> Result<(Option<Vec<u8>>, RsaPublicKey)> {
    let mut numbers = Vec::with_capacity(5);
    for part in parts.iter().take(5) {
        let bytes = part.as_bytes().filter(|b| b.len() <= MAX_INTEGER).ok_or_else(invalid)?;
        numbers.push(BigUint::from_bytes_be(bytes));
    }
    match <[BigUint; 5]>::try_from(numbers) {
        Ok([n, e, d, p, q]) => {
            let key = RsaPrivateKey::from_components(n, e, d, vec![p, q]).map_err(|_| invalid())?;
            key.validate().map_err(|_| invalid())?;
            let key = bounded(key)?;
            Ok((Some(pkcs8(&key)?), key.to_public_key()))
        }
        Err(numbers) => match <[BigUint; 2]>::try_from(numbers) {
            Ok([n, e]) => Ok((None, bounded(RsaPublicKey::new(n, e).map_err(|_| invalid())?)?)),
            Err(_) => Err(invalid()),
        },
    }
}

fn pkcs8(key: &RsaPrivateKey) -> Result<Vec<u8>> {
    Ok(key.to_pkcs8_der().map_err(|_| invalid())?.as_bytes().to_vec())
}

fn spki(key: &RsaPublicKey) -> Result<Vec<u8>> {
    Ok(key.to_public_key_der().map_err(|_| invalid())?.into_vec())
}

fn integers(args: Args<'_, '_>) -> Result<WireOut> {
    let number = |n: &BigUint| Wire::from(n.to_bytes_be());
    let Some(der) = args.some_bytes(0)? else {
        let key = public_key(args.bytes(1)?)?;
        return Ok(Wire::Array(vec![number(key.n()), number(key.e())]));
    };
    let key = private_key(der)?;
    let [p, q] = key.primes() else {
        return Err(invalid());
    };
    let (Some(dp), Some(dq), Some(qi)) = (key.dp(), key.dq(), key.crt_coefficient()) else {
        return Err(invalid());
    };
    Ok(Wire::Array([key.n(), key.e(), key.d(), p, q, dp, dq, &qi].map(number).to_vec()))
}

/// The padding of a signature, and the digest that goes into it.
enum Padding {
    Pkcs1(Pkcs1v15Sign),
    Pss(Pss),
}

fn padding(scheme: &str, hash: &str, salt: usize) -> Result<Padding> {
    match scheme {
        "pkcs1" => Ok(Padding::Pkcs1(with_hash!(hash, D => Pkcs1v15Sign::new::<D>())?)),
        // A salt longer than any modulus cannot fit; the check keeps it from being allocated.
        "pss" if salt > MAX_INTEGER => Err(HostError::operation("the salt is too long for the key")),
        "pss" => Ok(Padding::Pss(with_hash!(hash, D => Pss::new_blinded_with_salt::<D>(salt))?)),
        _ => Err(HostError::unsupported("unknown RSA scheme")),
    }
}

fn sign(args: Args<'_, '_>) -> Result<WireOut> {
    let (hash, key) = (args.str(1)?, private_key(args.bytes(2)?)?);
    let digest = hash::once(&hash, args.bytes(3)?)?;
    let signature = match padding(&args.str(0)?, &hash, args.u32(4)? as usize)? {
        Padding::Pkcs1(p) => p.sign(Some(&mut OsRng), &key, &digest),
        Padding::Pss(p) => p.sign(Some(&mut OsRng), &key, &digest),
    };
    signature.map(Wire::from).map_err(|e| HostError::operation(format!("Signing failed: {e}")))
}

fn verify(args: Args<'_, '_>) -> Result<WireOut> {
    let (hash, key, signature) = (args.str(1)?, public_key(args.bytes(2)?)?, args.bytes(3)?);
    let digest = hash::once(&hash, args.bytes(4)?)?;
    let verified = match padding(&args.str(0)?, &hash, args.u32(5)? as usize)? {
        Padding::Pkcs1(p) => p.verify(&key, &digest, signature),
        Padding::Pss(p) => p.verify(&key, &digest, signature),
    };
    Ok(verified.is_ok().into())
}

fn oaep(hash: &str, label: Option<&[u8]>) -> Result<Oaep> {
    let mut padding = with_hash!(hash, D => Oaep::new::<D>())?;
    padding.label = match label {
        None | Some([]) => None,
        Some(label) => Some(String::from_utf8(label.to_vec()).map_err(|_| HostError::unsupported("RSA-OAEP labels must be UTF-8 here"))?),
    };
    Ok(padding)
}

fn encrypt(args: Args<'_, '_>) -> Result<WireOut> {
    let (key, padding) = (public_key(args.bytes(1)?)?, oaep(&args.str(0)?, args.some_bytes(3)?)?);
    let sealed = key.encrypt(&mut OsRng, padding, args.bytes(2)?);
    sealed.map(Wire::from).map_err(|e| HostError::operation(format!("Encryption failed: {e}")))
}

fn decrypt(args: Args<'_, '_>) -> Result<WireOut> {
    let (key, padding) = (private_key(args.bytes(1)?)?, oaep(&args.str(0)?, args.some_bytes(3)?)?);
    let opened = key.decrypt_blinded(&mut OsRng, padding, args.bytes(2)?);
    opened.map(Wire::from).map_err(|_| HostError::operation("Decryption failed"))
}

/// Exponents other than the two that are in use make the search for primes long, or the key weak.
fn generate(args: Args<'_, '_>) -> Result<WireOut> {
    let (bits, exponent) = (args.u32(0)?, args.u32(1)?);
    if !(512..=MAX_BITS).contains(&bits) || bits % 8 != 0 {
        return Err(HostError::operation(format!("The modulus length must be a multiple of 8 from 512 to {MAX_BITS}")));
    }
    if !matches!(exponent, 3 | 65537) {
        return Err(HostError::operation("The public exponent must be 3 or 65537"));
    }
    let key = RsaPrivateKey::new_with_exp(&mut OsRng, bits as usize, &BigUint::from(exponent))
        .map_err(|_| HostError::operation("Key generation failed"))?;
    Ok(Wire::Array(vec![pkcs8(&key)?.into(), spki(&key.to_public_key())?.into()]))
}
