//! `zip.*`: gzip, zlib and raw DEFLATE for the guest's `CompressionStream`, `DecompressionStream` and `node:zlib`; Brotli for bodies.
//!
//! A push takes a bounded piece of input and gives a bounded piece of output, whatever the data: a decompression bomb costs its
//! sender one call after the other, each of which can be metered and stopped. The guest loops.

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Args, HostError, Result, Slots, Tables};
use crate::wire::{Wire, WireOut};

mod brotli;

use brotli::Brotli;

/// Most bytes taken from the input, and most given as output, by one push.
const PIECE: usize = 64 * 1024;

/// Memory of the larger kind of DEFLATE codec, roughly.
const DEFLATE_BYTES: usize = 400 * 1024;

/// What `zip.open` of a format may add.
pub(super) fn cost(format: &str) -> usize {
    if format == "br" { brotli::BYTES_MAX } else { DEFLATE_BYTES }
}

/// What the guest does next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// Push the rest of the input, if any; all output so far was given.
    Feed = 0,
    /// Push again, with no new input if none is left: there is more output.
    Again = 1,
    /// The data has ended.
    Ended = 2,
    /// The compressed data has ended, and bytes follow: after this output the stream is in error.
    Trailing = 3,
}

pub(super) fn call(open: &mut Slots<Codec>, name: &str, args: Args<'_, '_>) -> Option<Result<WireOut>> {
    Some(match name {
        "open" => create(open, args),
        "push" => push(open, args),
        "drop" => args.u32(0).map(|id| {
            open.map.remove(&id);
            Wire::Undefined
        }),
        _ => return None,
    })
}

fn create(open: &mut Slots<Codec>, args: Args<'_, '_>) -> Result<WireOut> {
    let codec = match &*args.str(0)? {
        "gzip" => Codec::deflate(Format::Gzip, args)?,
        "deflate" => Codec::deflate(Format::Zlib, args)?,
        "deflate-raw" => Codec::deflate(Format::Raw, args)?,
        "br" if !args.flag(1) => Codec::Brotli(Brotli::new()),
        other => {
            return Err(HostError::type_error(format!("zip.open: unknown format {other}")));
        }
    };
    open.insert(codec, Tables::MAX_CODECS, "compression stream").map(Wire::from)
}

/// A codec that failed or ended is forgotten: its memory goes back at once.
fn push(open: &mut Slots<Codec>, args: Args<'_, '_>) -> Result<WireOut> {
    let (id, input, finish) = (args.u32(0)?, args.bytes(1)?, args.flag(2));
    let step = open.get(id, "compression stream")?.push(input, finish);
    if !matches!(step, Ok(Step { next: Next::Feed | Next::Again, .. })) {
        open.map.remove(&id);
    }
    let Step { output, consumed, next } = step?;
    Ok(Wire::Array(vec![output.into(), Wire::from(consumed as u32), Wire::Int(next as i32)]))
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Gzip,
    Zlib,
    Raw,
}

/// The result of one push.
#[derive(Debug)]
pub(super) struct Step {
    output: Vec<u8>,
    consumed: usize,
    next: Next,
}

/// One stream being compressed or decompressed.
pub(super) enum Codec {
    Deflate(Deflate),
    Inflate(Inflate),
    Brotli(Brotli),
}

impl Codec {
    /// As the arguments of `zip.open` say.
    fn deflate(format: Format, args: Args<'_, '_>) -> Result<Self> {
        let level = if args.at(2).is_some() { args.u32(2)?.min(9) } else { 6 };
        Ok(if args.flag(1) { Self::compressor(format, level) } else { Self::decompressor(format) })
    }

    fn compressor(format: Format, level: u32) -> Self {
        let compress = Compress::new(Compression::new(level), format == Format::Zlib);
        let gzip = (format == Format::Gzip).then(Gzip::default);
        Codec::Deflate(Deflate { compress, gzip })
    }

    fn decompressor(format: Format) -> Self {
        let inflate = Decompress::new(format == Format::Zlib);
        let gzip = (format == Format::Gzip).then(Gzip::default);
        Codec::Inflate(Inflate { inflate, gzip, header: Header::Fixed(0), trailer: Vec::new(), ended: false })
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Codec::Deflate(_) => DEFLATE_BYTES,
            Codec::Inflate(_) => 48 * 1024,
            Codec::Brotli(b) => b.bytes(),
        }
    }

    fn push(&mut self, input: &[u8], finish: bool) -> Result<Step> {
        let piece = input.get(..PIECE).unwrap_or(input);
        let finish = finish && piece.len() == input.len();
        match self {
            Codec::Deflate(d) => d.push(piece, finish),
            Codec::Inflate(i) => i.push(piece, input.len() > piece.len(), finish),
            Codec::Brotli(b) => b.push(piece, input.len() > piece.len(), finish),
        }
    }
}

/// What gzip adds around a raw stream.
#[derive(Default)]
struct Gzip {
    crc: Crc,
    begun: bool,
}

impl Gzip {
    fn trailer(&self) -> [u8; 8] {
        let mut t = [0; 8];
        t[..4].copy_from_slice(&self.crc.sum().to_le_bytes());
        t[4..].copy_from_slice(&self.crc.amount().to_le_bytes());
        t
    }
}

pub(super) struct Deflate {
    compress: Compress,
    gzip: Option<Gzip>,
}

impl Deflate {
    fn push(&mut self, input: &[u8], finish: bool) -> Result<Step> {
        let mut output = Vec::with_capacity(PIECE);
        if let Some(gzip) = self.gzip.as_mut().filter(|g| !g.begun) {
            gzip.begun = true;
            output.extend_from_slice(&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255]); // no flags, no time, unknown system
        }
        let mut consumed = 0;
        let next = loop {
            let before = self.compress.total_in();
            let flush = if finish { FlushCompress::Finish } else { FlushCompress::None };
            let rest = input.get(consumed..).unwrap_or_default();
            let status = self.compress.compress_vec(rest, &mut output, flush).map_err(|e| HostError::type_error(e.to_string()))?;
            consumed += (self.compress.total_in() - before) as usize;
            if status == Status::StreamEnd {
                break Next::Ended;
            }
            if output.len() == output.capacity() {
                break Next::Again;
            }
            if consumed == input.len() && !finish || status == Status::BufError {
                break Next::Feed;
            }
        };
        if let Some(gzip) = &mut self.gzip {
            gzip.crc.update(input.get(..consumed).unwrap_or_default());
            if next == Next::Ended {
                output.extend_from_slice(&gzip.trailer());
            }
        }
        Ok(Step { output, consumed, next })
    }
}

pub(super) struct Inflate {
    inflate: Decompress,
    gzip: Option<Gzip>,
    header: Header,
    trailer: Vec<u8>,
    ended: bool,
}

/// Where in the gzip header the input stands.
#[derive(Clone, Copy)]
enum Header {
    /// The ten bytes that are always there.
    Fixed(u8),
    /// The extra field's length, low byte and high byte.
    ExtraLow,
    ExtraHigh(u8),
    Extra(u16),
    Name,
    Comment,
    CrcLow,
    CrcHigh(u8),
    Done,
}

const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;

impl Inflate {
    fn push(&mut self, input: &[u8], more_input: bool, finish: bool) -> Result<Step> {
        let mut rest = input;
        let mut output = Vec::new();
        self.read_header(&mut rest)?;
        let mut full = false;
        if self.body_begun() && !self.ended {
            output.reserve_exact(PIECE);
            full = self.inflate_some(&mut rest, &mut output)?;
        }
        if self.ended {
            self.read_trailer(&mut rest)?;
        }
        let complete = self.ended && (self.gzip.is_none() || self.trailer.len() == 8);
        if finish && !complete && !full {
            return Err(HostError::type_error("Called close() on a decompression stream with incomplete data"));
        }
        // A complete stream stays open until it is finished: bytes that follow must still be refused.
        let next = match () {
            () if complete && (more_input || !rest.is_empty()) => Next::Trailing,
            () if complete && finish => Next::Ended,
            () if full => Next::Again,
            () => Next::Feed,
        };
        Ok(Step { output, consumed: input.len() - rest.len(), next })
    }

    fn body_begun(&self) -> bool {
        self.gzip.is_none() || matches!(self.header, Header::Done)
    }

    /// Fills the output as far as the input goes; tells whether it is full and may have more to come.
    fn inflate_some(&mut self, rest: &mut &[u8], output: &mut Vec<u8>) -> Result<bool> {
        loop {
            let before = self.inflate.total_in();
            let from = output.len();
            let status = self.inflate.decompress_vec(rest, output, FlushDecompress::None);
            let consumed = (self.inflate.total_in() - before) as usize;
            *rest = rest.get(consumed..).unwrap_or_default();
            if let Some(gzip) = &mut self.gzip {
                gzip.crc.update(output.get(from..).unwrap_or_default());
            }
            match status.map_err(|_| HostError::type_error("Decompression failed."))? {
                Status::StreamEnd => {
                    self.ended = true;
                    return Ok(false);
                }
                _ if output.len() == output.capacity() => return Ok(true),
                Status::BufError => return Ok(false),
                Status::Ok if consumed == 0 && output.len() == from => return Ok(false),
                Status::Ok => {}
            }
        }
    }

    fn read_trailer(&mut self, rest: &mut &[u8]) -> Result<()> {
        let Some(gzip) = &self.gzip else {
            return Ok(());
        };
        let missing = 8 - self.trailer.len();
        let (taken, left) = rest.split_at(missing.min(rest.len()));
        self.trailer.extend_from_slice(taken);
        *rest = left;
        if self.trailer.len() == 8 && self.trailer != gzip.trailer() {
            return Err(HostError::type_error("Decompression failed."));
        }
        Ok(())
    }

    fn read_header(&mut self, rest: &mut &[u8]) -> Result<()> {
        let Some(gzip) = self.gzip.as_mut().filter(|g| !g.begun) else {
            return Ok(());
        };
        while let Some((&byte, left)) = rest.split_first() {
            if matches!(self.header, Header::Done) {
                break;
            }
            *rest = left;
            self.header = self.header.read(byte, &mut self.trailer, &mut gzip.crc)?;
        }
        if matches!(self.header, Header::Done) {
            gzip.begun = true;
            gzip.crc.reset();
            self.trailer.clear();
        }
        Ok(())
    }
}

impl Header {
    /// Takes one byte. `flags` is scratch that holds the flags byte once it was read; `crc` runs over the header's bytes.
    fn read(self, byte: u8, flags: &mut Vec<u8>, crc: &mut Crc) -> Result<Self> {
        let bad = || Err(HostError::type_error("Decompression failed."));
        let sum = crc.sum() as u16;
        crc.update(&[byte]);
        let set = |flags: &[u8], flag: u8| flags.first().is_some_and(|f| f & flag != 0);
        // What follows a field that has just ended, the fields being in the order of `after`.
        let following = |flags: &[u8], after: u8| match () {
            () if after < FEXTRA && set(flags, FEXTRA) => Header::ExtraLow,
            () if after < FNAME && set(flags, FNAME) => Header::Name,
            () if after < FCOMMENT && set(flags, FCOMMENT) => Header::Comment,
            () if set(flags, FHCRC) => Header::CrcLow,
            () => Header::Done,
        };
        Ok(match self {
            Header::Fixed(0) if byte != 0x1F => return bad(),
            Header::Fixed(1) if byte != 0x8B => return bad(),
            Header::Fixed(2) if byte != 8 => return bad(),
            Header::Fixed(3) if byte & 0xE0 != 0 => return bad(),
            Header::Fixed(9) => following(flags, 0),
            Header::Fixed(n) => {
                if n == 3 {
                    flags.push(byte);
                }
                Header::Fixed(n + 1)
            }
            Header::ExtraLow => Header::ExtraHigh(byte),
            Header::ExtraHigh(low) => match u16::from_le_bytes([low, byte]) {
                0 => following(flags, FEXTRA),
                n => Header::Extra(n),
            },
            Header::Extra(1) => following(flags, FEXTRA),
            Header::Extra(n) => Header::Extra(n - 1),
            Header::Name if byte == 0 => following(flags, FNAME),
            Header::Comment if byte == 0 => following(flags, FCOMMENT),
            Header::CrcLow if byte != sum as u8 => return bad(),
            Header::CrcLow => Header::CrcHigh((sum >> 8) as u8),
            Header::CrcHigh(high) if byte != high => return bad(),
            Header::CrcHigh(_) => Header::Done,
            same => same,
        })
    }
}
