//! Which encoding a file goes in, and gzip a piece at a time. Pure.

use std::io::{self, Write};

use flate2::{Compression, write::GzDecoder, write::GzEncoder};

/// How bytes go over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Identity,
    /// Compressed.
    Gzip,
}

/// What a request prefers of what there is; `None`: it takes neither. Without a header it takes all as it is.
#[must_use]
pub fn preferred(accept: Option<&str>) -> Option<Encoding> {
    let wishes = Wishes::of(accept);
    let (identity, named) = (wishes.take_identity(), wishes.weight("gzip"));
    // Of what is only not excluded, plain bytes come first.
    let gzip = named.unwrap_or(if identity { 0.0 } else { wishes.weight("*").unwrap_or(0.0) });
    let plain = wishes.weight("identity").or_else(|| wishes.weight("*")).unwrap_or(0.0);
    match (gzip > 0.0, identity) {
        (true, true) if plain > gzip => Some(Encoding::Identity),
        (true, _) => Some(Encoding::Gzip),
        (false, true) => Some(Encoding::Identity),
        (false, false) => None,
    }
}

/// Whether the bytes as they are would be taken.
#[must_use]
pub fn takes_identity(accept: Option<&str>) -> bool {
    Wishes::of(accept).take_identity()
}

struct Wishes(Vec<(String, f32)>);

impl Wishes {
    fn of(accept: Option<&str>) -> Self {
        Self(accept.unwrap_or_default().split(',').map(wish).filter(|(name, _)| !name.is_empty()).collect())
    }

    fn weight(&self, name: &str) -> Option<f32> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, weight)| *weight)
    }

    /// It is taken unless it is excluded.
    fn take_identity(&self) -> bool {
        self.weight("identity").or_else(|| self.weight("*")).is_none_or(|weight| weight > 0.0)
    }
}

fn wish(text: &str) -> (String, f32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="))?.trim().parse().ok());
    (name, weight.filter(|weight: &f32| weight.is_finite()).unwrap_or(1.0))
}

/// What a request's own bytes are in.
///
/// # Errors
/// One that is not known, by its name.
pub fn given(content: Option<&str>) -> Result<Encoding, String> {
    match content.map(|content| wish(content).0).as_deref() {
        None | Some("" | "identity") => Ok(Encoding::Identity),
        Some("gzip") => Ok(Encoding::Gzip),
        Some(_) => Err(format!("unsupported Content-Encoding: {}, supported: [gzip]", content.unwrap_or_default())),
    }
}

/// Compresses pieces.
pub struct Packer(GzEncoder<Vec<u8>>);

impl Packer {
    /// For a machine that has better to do than to look for the shortest form.
    #[must_use]
    pub fn new() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::fast()))
    }

    /// What can be sent after this piece, which may be nothing.
    pub fn pack(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(piece)?;
        Ok(std::mem::take(self.0.get_mut()))
    }

    /// The rest.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        self.0.finish()
    }
}

/// Uncompresses pieces. What comes out at once has a bound, for a piece may stand for a thousand times its length.
pub struct Unpacker(GzDecoder<Vec<u8>>);

/// Of compressed bytes at once.
pub const BITE: usize = 4 << 10;

impl Unpacker {
    #[must_use]
    pub fn new() -> Self {
        Self(GzDecoder::new(Vec::new()))
    }

    /// What at most [`BITE`] bytes stand for.
    pub fn unpack(&mut self, bite: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(bite)?;
        Ok(std::mem::take(self.0.get_mut()))
    }

    /// The rest; an error where it was cut off.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wishes_of_clients_are_met() {
        let cases = [
            (None, Some(Encoding::Identity)),
            (Some(""), Some(Encoding::Identity)),
            (Some("identity"), Some(Encoding::Identity)),
            (Some("gzip"), Some(Encoding::Gzip)),
            (Some("GZIP;q=0.5, deflate"), Some(Encoding::Gzip)),
            (Some("gzip, deflate, br"), Some(Encoding::Gzip)),
            (Some("br"), Some(Encoding::Identity)),
            (Some("*"), Some(Encoding::Identity)),
            (Some("gzip;q=0"), Some(Encoding::Identity)),
            (Some("identity;q=1, gzip;q=0.2"), Some(Encoding::Identity)),
            (Some("identity;q=0"), None),
            (Some("identity;q=0, *"), Some(Encoding::Gzip)),
            (Some("*;q=0"), None),
            (Some("*;q=0, gzip"), Some(Encoding::Gzip)),
            (Some("gzip;q=nan"), Some(Encoding::Gzip)),
        ];
        for (accept, wanted) in cases {
            assert_eq!(preferred(accept), wanted, "{accept:?}");
        }
        assert!(takes_identity(None) && takes_identity(Some("gzip")) && takes_identity(Some("gzip, br")));
        assert!(!takes_identity(Some("gzip, identity;q=0")) && !takes_identity(Some("*;q=0")));
        assert_eq!((given(None), given(Some("gzip"))), (Ok(Encoding::Identity), Ok(Encoding::Gzip)));
        assert!(given(Some("br")).is_err());
    }

    #[test]
    fn what_is_packed_in_pieces_is_unpacked_in_bites() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let mut packer = Packer::new();
        let mut packed: Vec<u8> = text.chunks(10_000).flat_map(|piece| packer.pack(piece).unwrap()).collect();
        packed.extend(packer.finish().unwrap());
        let mut unpacker = Unpacker::new();
        let mut unpacked: Vec<u8> = packed.chunks(BITE).flat_map(|bite| unpacker.unpack(bite).unwrap()).collect();
        unpacked.extend(unpacker.finish().unwrap());
        assert!(unpacked == text);
        let mut cut = Unpacker::new();
        cut.unpack(&packed[..packed.len() / 2]).unwrap();
        assert!(cut.finish().is_err());
        assert!(Unpacker::new().unpack(b"no gzip at all, surely").is_err());
    }
}
