//! How a heap is written into the body of a checkpoint record.
//!
//! Pure. The body: a version byte, the length of the code's name (4 bytes, little-endian) and the name, a byte that says whether a time follows and the
//! time (8 bytes), then the heap.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::guest::Heap;

const VERSION: u8 = 1;

/// The body of a checkpoint.
pub(super) fn encode(heap: &Heap) -> Bytes {
    let mut body = BytesMut::with_capacity(heap.bytes.len() + heap.code.len() + 16);
    body.put_u8(VERSION);
    body.put_u32_le(u32::try_from(heap.code.len()).unwrap_or(u32::MAX));
    body.put_slice(heap.code.as_bytes());
    body.put_u8(heap.timer_ms.is_some().into());
    if let Some(time) = heap.timer_ms {
        body.put_u64_le(time);
    }
    body.put_slice(&heap.bytes);
    body.freeze()
}

/// The heap in the body of a checkpoint; `None` if there is none, or of a version that is not known.
#[must_use]
pub fn decode_checkpoint(body: &Bytes) -> Option<Heap> {
    let mut body = body.clone();
    if body.try_get_u8().ok()? != VERSION {
        return None;
    }
    let length = body.try_get_u32_le().ok()? as usize;
    if length > body.len() {
        return None;
    }
    let code = String::from_utf8(body.split_to(length).into()).ok()?;
    let timer_ms = match body.try_get_u8().ok()? {
        0 => None,
        _ => Some(body.try_get_u64_le().ok()?),
    };
    Some(Heap { code, timer_ms, bytes: body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heap_comes_back_and_a_torn_one_does_not() {
        for timer_ms in [None, Some(7)] {
            let heap = Heap { code: "c@i".into(), timer_ms, bytes: Bytes::from_static(b"heap") };
            let body = encode(&heap);
            assert_eq!(decode_checkpoint(&body), Some(heap));
            for cut in 0..body.len() - 4 {
                assert_eq!(decode_checkpoint(&body.slice(..cut)), None);
            }
        }
        assert_eq!(decode_checkpoint(&Bytes::from_static(b"\x02")), None);
    }
}
