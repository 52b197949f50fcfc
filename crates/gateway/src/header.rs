//! Header values between HTTP, where they are bytes, and isolates, where they are text.

use http::HeaderValue;

/// A value as text: what is UTF-8 as that, for so isolates send it; anything else a character for each byte, as the fetch standard has it.
#[must_use]
pub fn header_text(value: &HeaderValue) -> String {
    match str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().map(|byte| char::from(*byte)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_lost() {
        for (bytes, text) in [(&b"plain"[..], "plain"), ("é€".as_bytes(), "é€"), (b"\xe9 \xff", "é ÿ"), (b"", "")] {
            assert_eq!(header_text(&HeaderValue::from_bytes(bytes).unwrap()), text);
        }
    }
}
