//! `text.*`: legacy and UTF-16 decoding, and encoding labels, for the guest's `TextDecoder` (which does UTF-8 by itself).
//!
//! Decoders that are in the middle of a stream live in `Tables`.

use encoding_rs::{DecoderResult, Encoding};

use super::{Args, HostError, Result, Slots, Tables};
use crate::wire::{Wire, WireOut};

pub(super) struct Decoder(encoding_rs::Decoder);

pub(super) fn call(open: &mut Slots<Decoder>, name: &str, args: Args<'_, '_>) -> Option<Result<WireOut>> {
    Some(match name {
        "label" => args.str(0).map(|label| find(&label).map(|e| e.name().to_ascii_lowercase()).into()),
        "decode" => decode(open, args),
        "drop" => args.u32(0).map(|id| {
            open.map.remove(&id);
            Wire::Undefined
        }),
        _ => return None,
    })
}

/// The "replacement" encoding exists to keep some labels from decoding at all.
fn find(label: &str) -> Option<&'static Encoding> {
    Encoding::for_label_no_replacement(label.as_bytes())
}

fn decode(open: &mut Slots<Decoder>, args: Args<'_, '_>) -> Result<WireOut> {
    let (id, bytes, fatal, ignore_bom, stream) = (args.u32(0)?, args.bytes(2)?, args.flag(3), args.flag(4), args.flag(5));
    let mut decoder = match id {
        0 => {
            let label = args.str(1)?;
            let encoding =
                find(&label).ok_or_else(|| HostError::new("RangeError", format!("\"{label}\" is not a known encoding label")))?;
            Decoder(match ignore_bom {
                true => encoding.new_decoder_without_bom_handling(),
                false => encoding.new_decoder_with_bom_removal(),
            })
        }
        id => open.take(id, "text decoder")?,
    };
    let text = decoder.run(bytes, fatal, !stream)?;
    let next = match (stream, id) {
        (false, _) => 0,
        (true, 0) => open.insert(decoder, Tables::MAX_DECODERS, "text decoder")?,
        (true, id) => {
            open.map.insert(id, decoder);
            id
        }
    };
    Ok(Wire::Array(vec![text.into(), next.into()]))
}

impl Decoder {
    fn run(&mut self, bytes: &[u8], fatal: bool, last: bool) -> Result<String> {
        let too_long = || HostError::new("RangeError", "the text is too long");
        let mut text = String::new();
        text.try_reserve(self.0.max_utf8_buffer_length(bytes.len()).ok_or_else(too_long)?).map_err(|_| too_long())?;
        if fatal {
            // The buffer is sized for the worst case without replacement, so the input either ends or is malformed.
            match self.0.decode_to_string_without_replacement(bytes, &mut text, last).0 {
                DecoderResult::InputEmpty => {}
                DecoderResult::Malformed(..) | DecoderResult::OutputFull => {
                    return Err(HostError::type_error("The encoded data was not valid for this encoding"));
                }
            }
        } else {
            let _ = self.0.decode_to_string(bytes, &mut text, last);
        }
        Ok(text)
    }
}
