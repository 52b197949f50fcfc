//! `crypto.*`, `hash.*` and `random`: the primitives behind the guest's WebCrypto and `node:crypto`.
//!
//! Stateless but for incremental hashes: keys live in the guest's heap and come with each call, so that they survive
//! hibernation. Algorithm names, key usages and formats of the standard are the guest's business; here are bytes. Operations that
//! take long are under [`heavy`]; each has a bound on its cost.
//!
//! | op | arguments → result |
//! |---|---|
//! | `random` | n → bytes |
//! | `hash.open` | hash, HMAC key or null → id |
//! | `hash.push` | id, bytes |
//! | `hash.finish` | id → bytes |
//! | `hash.copy` | id → id |
//! | `hash.drop` | id |
//! | `crypto.digest` | hash, bytes → bytes |
//! | `crypto.hmac` | hash, key, bytes → bytes |
//! | `crypto.equal` | bytes, bytes → boolean, in constant time |
//! | `crypto.hkdf` | hash, key, salt, info, bytes wanted → bytes |
//! | `crypto.pbkdf2`, `crypto.scrypt` | as their `crypto.heavy.…`, for the synchronous functions of `node:crypto` |
//! | `crypto.aes.encrypt`, `….decrypt` | mode (`cbc`, `ctr`, `gcm`), key, iv, data, additional data or null, counter bits or tag bytes → bytes |
//! | `crypto.aes.wrap`, `….unwrap` | key, data → bytes |
//! | `crypto.ec.*` | see [`ec`] |
//! | `crypto.rsa.*` | see [`rsa`] |
//! | `crypto.heavy.pbkdf2` | hash, password, salt, iterations, bytes wanted → bytes |
//! | `crypto.heavy.scrypt` | password, salt, N, r, p, bytes wanted → bytes |
//! | `crypto.heavy.rsaGenerate`, `….rsaSign`, `….rsaDecrypt` | see [`rsa`] |

use subtle::ConstantTimeEq;

use super::{Args, HostError, Result, Slots, Tables};
use crate::wire::{Wire, WireOut};

mod aes;
mod ec;
mod hash;
mod rsa;

pub(super) use hash::Hash;

/// Most bytes of one `random`; the guest asks again for more.
const MAX_RANDOM: u32 = 64 * 1024;
/// Most iterations of one PBKDF2; the figure is workerd's.
const MAX_ITERATIONS: u32 = 100_000;
/// Most iterations times output blocks of one PBKDF2: under a second.
const MAX_PBKDF2_WORK: u64 = 800_000;
/// Most bytes of any derived key.
const MAX_DERIVED: u32 = 1 << 20;
/// Most memory of one scrypt, as Node's default `maxmem`.
const MAX_SCRYPT: u64 = 32 << 20;

pub(super) fn random_array<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|e| HostError::operation(format!("no randomness from the operating system: {e}")))
}

pub(super) fn random(args: Args<'_, '_>) -> Result<WireOut> {
    let n = args.u32(0)?;
    if n > MAX_RANDOM {
        return Err(HostError::new("QuotaExceededError", format!("random: at most {MAX_RANDOM} bytes at once")));
    }
    let mut bytes = vec![0; n as usize];
    fill(&mut bytes)?;
    Ok(bytes.into())
}

pub(super) fn incremental(open: &mut Slots<Hash>, name: &str, args: Args<'_, '_>) -> Option<Result<WireOut>> {
    Some(match name {
        "open" => hash_open(open, args),
        "push" => hash_push(open, args),
        "finish" => args.u32(0).and_then(|id| Ok(open.take(id, "hash")?.finish().into())),
        "copy" => hash_copy(open, args),
        "drop" => args.u32(0).map(|id| {
            open.map.remove(&id);
            Wire::Undefined
        }),
        _ => return None,
    })
}

fn hash_open(open: &mut Slots<Hash>, args: Args<'_, '_>) -> Result<WireOut> {
    let hash = Hash::new(&args.str(0)?, args.some_bytes(1)?)?;
    open.insert(hash, Tables::MAX_HASHES, "hash").map(Wire::from)
}

fn hash_push(open: &mut Slots<Hash>, args: Args<'_, '_>) -> Result<WireOut> {
    open.get(args.u32(0)?, "hash")?.push(args.bytes(1)?);
    Ok(Wire::Undefined)
}

fn hash_copy(open: &mut Slots<Hash>, args: Args<'_, '_>) -> Result<WireOut> {
    let copy = open.get(args.u32(0)?, "hash")?.clone();
    open.insert(copy, Tables::MAX_HASHES, "hash").map(Wire::from)
}

pub(super) fn call(name: &str, args: Args<'_, '_>) -> Option<Result<WireOut>> {
    if let Some(name) = name.strip_prefix("aes.") {
        return aes::call(name, args);
    }
    if let Some(name) = name.strip_prefix("ec.") {
        return ec::call(name, args);
    }
    if let Some(name) = name.strip_prefix("rsa.") {
        return rsa::call(name, args);
    }
    Some(match name {
        "digest" => digest(args),
        "hmac" => hmac(args),
        "equal" => equal(args),
        "hkdf" => hkdf(args),
        "pbkdf2" => pbkdf2(args),
        "scrypt" => scrypt(args),
        _ => return None,
    })
}

pub(super) fn heavy(name: &str, args: Args<'_, '_>) -> Option<Result<WireOut>> {
    match name {
        "pbkdf2" => Some(pbkdf2(args)),
        "scrypt" => Some(scrypt(args)),
        _ => rsa::heavy(name, args),
    }
}

fn digest(args: Args<'_, '_>) -> Result<WireOut> {
    let mut hash = Hash::new(&args.str(0)?, None)?;
    hash.push(args.bytes(1)?);
    Ok(hash.finish().into())
}

fn hmac(args: Args<'_, '_>) -> Result<WireOut> {
    let mut mac = Hash::new(&args.str(0)?, Some(args.bytes(1)?))?;
    mac.push(args.bytes(2)?);
    Ok(mac.finish().into())
}

fn equal(args: Args<'_, '_>) -> Result<WireOut> {
    Ok(bool::from(args.bytes(0)?.ct_eq(args.bytes(1)?)).into())
}

fn derived(args: Args<'_, '_>, i: usize) -> Result<Vec<u8>> {
    match args.u32(i)? {
        n if n > MAX_DERIVED => Err(HostError::operation(format!("at most {MAX_DERIVED} bytes can be derived at once"))),
        n => Ok(vec![0; n as usize]),
    }
}

fn hkdf(args: Args<'_, '_>) -> Result<WireOut> {
    let mut out = derived(args, 4)?;
    hash::hkdf(&args.str(0)?, args.bytes(1)?, args.bytes(2)?, args.bytes(3)?, &mut out)?;
    Ok(out.into())
}

fn pbkdf2(args: Args<'_, '_>) -> Result<WireOut> {
    let (name, iterations, mut out) = (args.str(0)?, args.u32(3)?, derived(args, 4)?);
    if iterations == 0 {
        return Err(HostError::operation("PBKDF2 requires at least one iteration"));
    }
    if iterations > MAX_ITERATIONS {
        return Err(HostError::unsupported(format!(
            "Pbkdf2 failed: iteration counts above {MAX_ITERATIONS} are not supported (requested {iterations})."
        )));
    }
    let blocks = out.len().div_ceil(hash::output_len(&name)?) as u64;
    if u64::from(iterations) * blocks > MAX_PBKDF2_WORK {
        return Err(HostError::unsupported(format!(
            "Pbkdf2 failed: {iterations} iterations for {} bytes are more work than one call may do",
            out.len()
        )));
    }
    hash::pbkdf2(&name, args.bytes(1)?, args.bytes(2)?, iterations, &mut out)?;
    Ok(out.into())
}

fn scrypt(args: Args<'_, '_>) -> Result<WireOut> {
    let (n, r, p, mut out) = (args.u32(2)?, args.u32(3)?, args.u32(4)?, derived(args, 5)?);
    let invalid = || HostError::new("RangeError", "Invalid scrypt params");
    if !n.is_power_of_two() || n < 2 || r == 0 || p == 0 {
        return Err(invalid());
    }
    let memory = 128 * u64::from(r) * (u64::from(n) + u64::from(p));
    if memory > MAX_SCRYPT + (1 << 20) || u64::from(n) * u64::from(r) * u64::from(p) > MAX_SCRYPT / 32 {
        return Err(HostError::new("RangeError", "Invalid scrypt params: memory limit exceeded"));
    }
    let params = ::scrypt::Params::new(n.trailing_zeros() as u8, r, p, ::scrypt::Params::RECOMMENDED_LEN).map_err(|_| invalid())?;
    ::scrypt::scrypt(args.bytes(0)?, args.bytes(1)?, &params, &mut out).map_err(|_| invalid())?;
    Ok(out.into())
}
