//! Arbitrary bytes as host calls: a line names the operation, the rest is its message; calls follow one another on the
//! same tables, so that ids made by one are found by the next. Driven by libFuzzer (`make fuzz`); the property test of the
//! same boundary, which needs no nightly compiler, is `src/ops/tests.rs`.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the crate uses more of these modules than this target does")]

use libfuzzer_sys::fuzz_target;

#[path = "../../src"]
mod isolate {
    pub mod host;
    pub mod wire;
}

// Under these names the files know each other.
use isolate::{host, wire};

use host::{Tables, pure_call};

/// Calls of one input.
const CALLS_MAX: usize = 16;

fuzz_target!(|data: &[u8]| {
    let mut tables = Tables::default();
    for piece in data.split(|b| *b == 0xff).take(CALLS_MAX) {
        let Some(end) = piece.iter().position(|b| *b == b'\n') else { continue };
        let (Ok(op), Ok(args)) = (std::str::from_utf8(&piece[..end]), wire::decode_all(&piece[end + 1..])) else { continue };
        if let Some(Ok(answer)) = pure_call(&mut tables, op, &args) {
            let mut bytes = Vec::new();
            answer.encode(&mut bytes);
            assert!(wire::decode(&bytes).is_ok());
        }
    }
});
