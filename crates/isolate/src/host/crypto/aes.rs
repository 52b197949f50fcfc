//! AES: CBC, CTR, GCM (any IV length, as WebCrypto allows) and key wrap.

use ::aes::cipher::{
    BlockCipher, BlockDecryptMut, BlockEncrypt, BlockEncryptMut, BlockSizeUser, InnerIvInit, KeyInit, StreamCipherCore,
    StreamCipherCoreWrapper, block_padding::Pkcs7, consts::U16,
};
use ::aes::{Aes128, Aes192, Aes256, Block};
use ghash::{GHash, universal_hash::UniversalHash};
use subtle::ConstantTimeEq;

use super::super::{Args, HostError, Result};
use crate::wire::WireOut;

/// Runs code with the cipher that the key's length asks for.
macro_rules! with_cipher {
    ($key:expr, $cipher:ident, $C:ident => $body:expr) => {{
        let key: &[u8] = $key;
        let bad = |_| HostError::data("Invalid AES key length");
        match key.len() {
            16 => {
                type $C = Aes128;
                let $cipher = $C::new_from_slice(key).map_err(bad)?;
                $body
            }
            24 => {
                type $C = Aes192;
                let $cipher = $C::new_from_slice(key).map_err(bad)?;
                $body
            }
            32 => {
                type $C = Aes256;
                let $cipher = $C::new_from_slice(key).map_err(bad)?;
                $body
            }
            _ => Err(HostError::data("Invalid AES key length")),
        }
    }};
}

pub(super) fn call(name: &str, args: Args<'_, '_>) -> Option<Result<WireOut>> {
    Some(match name {
        "encrypt" => run(true, args).map(Into::into),
        "decrypt" => run(false, args).map(Into::into),
        "wrap" => wrap(args).map(Into::into),
        "unwrap" => unwrap(args).map(Into::into),
        _ => return None,
    })
}

fn run(encrypt: bool, args: Args<'_, '_>) -> Result<Vec<u8>> {
    let (mode, key, iv, data) = (args.str(0)?, args.bytes(1)?, args.bytes(2)?, args.bytes(3)?);
    match &*mode {
        "cbc" => cbc(encrypt, key, iv, data),
        "ctr" => ctr(key, iv, data, args.u32(5)?),
        "gcm" => {
            let (aad, tag) = (args.some_bytes(4)?.unwrap_or_default(), args.u32(5)? as usize);
            if !matches!(tag, 4 | 8 | 12..=16) {
                return Err(HostError::operation("Invalid AES-GCM tag length"));
            }
            with_cipher!(key, c, C => {
                let gcm = Gcm::new(&c, iv);
                if encrypt { Ok(gcm.seal(data, aad, tag)) } else { gcm.open(data, aad, tag) }
            })
        }
        _ => Err(HostError::unsupported("unknown AES mode")),
    }
}

fn cbc(encrypt: bool, key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>> {
    let iv = Block::from(<[u8; 16]>::try_from(iv).map_err(|_| HostError::operation("AES-CBC IV must be 16 bytes long"))?);
    with_cipher!(key, c, C => if encrypt {
        Ok(cbc::Encryptor::<C>::inner_iv_init(c, &iv).encrypt_padded_vec_mut::<Pkcs7>(data))
    } else {
        cbc::Decryptor::<C>::inner_iv_init(c, &iv)
            .decrypt_padded_vec_mut::<Pkcs7>(data)
            .map_err(|_| HostError::operation("Decryption failed"))
    })
}

/// CTR over the counter's low `bits`, the rest staying as given. Below 128 bits the counter can wrap within the data: then
/// the stream is in two parts, each of which a 128-bit counter does not overflow.
fn ctr(key: &[u8], counter: &[u8], data: &[u8], bits: u32) -> Result<Vec<u8>> {
    let counter = <[u8; 16]>::try_from(counter).map_err(|_| HostError::operation("AES-CTR counter must be 16 bytes long"))?;
    let mask = match bits {
        1..=127 => (1u128 << bits) - 1,
        128 => u128::MAX,
        _ => {
            return Err(HostError::operation("AES-CTR counter length must be from 1 to 128"));
        }
    };
    let start = u128::from_be_bytes(counter);
    let blocks = data.len().div_ceil(16) as u128;
    if blocks > 0 && blocks - 1 > mask {
        return Err(HostError::operation("AES-CTR counter would repeat within the data"));
    }
    let before_wrap = (mask - (start & mask)).wrapping_add(1); // 0: of 128 bits, starting at 0, it never wraps
    let split = match usize::try_from(before_wrap) {
        Ok(n) if n > 0 => n.saturating_mul(16).min(data.len()),
        _ => data.len(),
    };
    let mut out = data.to_vec();
    let (head, tail) = out.split_at_mut(split);
    with_cipher!(key, c, C => {
        apply(&c, start, head);
        apply(&c, start & !mask, tail);
        Ok(())
    })?;
    Ok(out)
}

fn apply<C: BlockCipher + BlockEncrypt + BlockEncryptMut + BlockSizeUser<BlockSize = U16> + Clone>(
    cipher: &C,
    counter: u128,
    data: &mut [u8],
) {
    let core = ctr::CtrCore::<C, ctr::flavors::Ctr128BE>::inner_iv_init(cipher.clone(), &Block::from(counter.to_be_bytes()));
    stream(core, data);
}

fn stream<T: StreamCipherCore<BlockSize = U16>>(core: T, data: &mut [u8]) {
    use ::aes::cipher::StreamCipher;
    StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
}

/// GCM after NIST SP 800-38D, of the audited parts (AES, CTR, GHASH): the ready-made crate fixes the IV's length at compile time.
struct Gcm<'c, C> {
    cipher: &'c C,
    hash: GHash,
    first: Block,
}

impl<'c, C: BlockCipher + BlockEncrypt + BlockEncryptMut + BlockSizeUser<BlockSize = U16> + Clone> Gcm<'c, C> {
    fn new(cipher: &'c C, iv: &[u8]) -> Self {
        let mut h = Block::default();
        cipher.encrypt_block(&mut h);
        let hash = <GHash as ghash::universal_hash::KeyInit>::new(&h);
        let mut first = Block::default();
        if iv.len() == 12 {
            first[..12].copy_from_slice(iv);
            first[15] = 1;
        } else {
            let mut g = hash.clone();
            g.update_padded(iv);
            g.update(&[lengths(0, iv.len())]);
            first = g.finalize();
        }
        Self { cipher, hash, first }
    }

    fn crypt(&self, data: &mut [u8]) {
        let mut next = self.first;
        let count = u32::from_be_bytes([next[12], next[13], next[14], next[15]]).wrapping_add(1);
        next[12..].copy_from_slice(&count.to_be_bytes());
        let core = ctr::CtrCore::<C, ctr::flavors::Ctr32BE>::inner_iv_init(self.cipher.clone(), &next);
        stream(core, data);
    }

    fn tag(&self, ciphertext: &[u8], aad: &[u8]) -> Block {
        let mut g = self.hash.clone();
        g.update_padded(aad);
        g.update_padded(ciphertext);
        g.update(&[lengths(aad.len(), ciphertext.len())]);
        let mut tag = g.finalize();
        let mut mask = self.first;
        self.cipher.encrypt_block(&mut mask);
        tag.iter_mut().zip(mask).for_each(|(t, m)| *t ^= m);
        tag
    }

    fn seal(&self, data: &[u8], aad: &[u8], tag_len: usize) -> Vec<u8> {
        let mut out = data.to_vec();
        self.crypt(&mut out);
        let tag = self.tag(&out, aad);
        out.extend_from_slice(tag.get(..tag_len).unwrap_or(&tag));
        out
    }

    fn open(&self, data: &[u8], aad: &[u8], tag_len: usize) -> Result<Vec<u8>> {
        let failed = || HostError::operation("Decryption failed");
        let (ciphertext, given) = data.split_at_checked(data.len().wrapping_sub(tag_len)).ok_or_else(failed)?;
        let tag = self.tag(ciphertext, aad);
        if !bool::from(tag.get(..tag_len).unwrap_or_default().ct_eq(given)) {
            return Err(failed());
        }
        let mut out = ciphertext.to_vec();
        self.crypt(&mut out);
        Ok(out)
    }
}

fn lengths(aad: usize, text: usize) -> Block {
    Block::from((((aad as u128 * 8) << 64) | (text as u128 * 8)).to_be_bytes())
}

/// Runs code with the key-encryption key of a wrap.
macro_rules! with_kek {
    ($key:expr, $kek:ident => $body:expr) => {{
        let key: &[u8] = $key;
        let bad = |_| HostError::data("Invalid AES key length");
        match key.len() {
            16 => {
                let $kek = aes_kw::KekAes128::from(<[u8; 16]>::try_from(key).map_err(bad)?);
                $body
            }
            24 => {
                let $kek = aes_kw::KekAes192::from(<[u8; 24]>::try_from(key).map_err(bad)?);
                $body
            }
            32 => {
                let $kek = aes_kw::KekAes256::from(<[u8; 32]>::try_from(key).map_err(bad)?);
                $body
            }
            _ => Err(HostError::data("Invalid AES key length")),
        }
    }};
}

fn wrap(args: Args<'_, '_>) -> Result<Vec<u8>> {
    let data = args.bytes(1)?;
    if data.len() < 16 || !data.len().is_multiple_of(8) {
        return Err(HostError::operation("AES-KW wraps a multiple of 8 bytes, at least 16"));
    }
    with_kek!(args.bytes(0)?, kek => kek.wrap_vec(data).map_err(|_| HostError::operation("Key wrapping failed")))
}

fn unwrap(args: Args<'_, '_>) -> Result<Vec<u8>> {
    let data = args.bytes(1)?;
    if data.len() < 24 || !data.len().is_multiple_of(8) {
        return Err(HostError::operation("AES-KW unwraps a multiple of 8 bytes, at least 24"));
    }
    with_kek!(args.bytes(0)?, kek => kek.unwrap_vec(data).map_err(|_| HostError::operation("Key unwrapping failed")))
}
