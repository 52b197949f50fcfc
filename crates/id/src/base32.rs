//! Crockford's base 32 in lower case: ids that can be read aloud, double-clicked and put in a host name.

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The text of `bytes`, five bits a character, the last one padded with zero bits.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0u32, 0u32);
    for &byte in bytes {
        held = held << 8 | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(held >> bits & 31) as usize]));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(held << (5 - bits) & 31) as usize]));
    }
    text
}

/// Whether `text` has exactly `len` characters of the alphabet.
pub(crate) fn is_text(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| ALPHABET.contains(&b))
}

#[cfg(test)]
mod tests {
    #[test]
    fn encodes_every_length() {
        let cases: [(&[u8], &str); 4] = [(&[], ""), (&[0xff], "zw"), (&[0; 5], "00000000"), (b"hello", "d1jprv3f")];
        for (bytes, text) in cases {
            assert_eq!(super::encode(bytes), text);
        }
        assert_eq!(super::encode(&[7; 32]).len(), 52);
    }
}
