//! The boundary under garbage: any operation with any arguments gives a value or an error, never a panic, and leaves no
//! more behind than was asked for.

use proptest::prelude::*;

use super::*;
use crate::wire;

/// Every family of operations, and a name that is none.
const OPS: &[&str] = &[
    "start",
    "abandon",
    "module.load",
    "stream.open",
    "stream.close",
    "stream.abort",
    "stream.cancel",
    "ws.open",
    "ws.accept",
    "ws.send",
    "ws.close",
    "channel.drop",
    "channel.export",
    "channel.entrypoint",
    "channel.dup",
    "channel.watch",
    "loader.get",
    "loader.code",
    "loader.fail",
    "loader.entrypoint",
    "loader.drop",
    "loader.",
    "loaded",
    "respond",
    "result",
    "fail",
    "done",
    "log",
    "exception",
    "url.parse",
    "url.set",
    "url.domainToASCII",
    "url.domainToUnicode",
    "text.decode",
    "text.label",
    "text.drop",
    "zip.open",
    "zip.push",
    "zip.drop",
    "random",
    "hash.open",
    "hash.push",
    "hash.finish",
    "hash.copy",
    "hash.drop",
    "crypto.digest",
    "crypto.hmac",
    "crypto.heavy.pbkdf2",
    "no.such",
];

fn value() -> impl Strategy<Value = WireOut> {
    let words = prop::sample::select(vec!["gzip", "SHA-256", "utf-8", "http://a/b", "fetch", "stream.write", "host", "default", "main.js"]);
    let leaf = prop_oneof![
        Just(Wire::Undefined),
        Just(Wire::Null),
        any::<bool>().prop_map(WireOut::from),
        any::<u32>().prop_map(WireOut::from),
        (0..4_u32).prop_map(WireOut::from),
        any::<f64>().prop_map(WireOut::from),
        ".{0,20}".prop_map(WireOut::from),
        words.prop_map(|w| WireOut::from(w.to_owned())),
        prop::collection::vec(any::<u8>(), 0..64).prop_map(WireOut::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Wire::Array),
            prop::collection::vec(("[a-zA-Z]{0,9}", inner), 0..4).prop_map(Wire::object),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_values(calls in prop::collection::vec((prop::sample::select(OPS), prop::collection::vec(value(), 0..6)), 1..8)) {
        let mut state = State::unused();
        let n = calls.len();
        for (op, args) in calls {
            let mut message = Vec::new();
            Wire::Array(args).encode(&mut message);
            let mut answer = Vec::new();
            call(&mut state, op.as_bytes(), &message).encode(&mut answer);
            prop_assert!(wire::decode(&answer).is_ok());
        }
        prop_assert!(state.effects.len() <= n);
    }

    #[test]
    fn any_bytes(op in prop::sample::select(OPS), name in prop::collection::vec(any::<u8>(), 0..12), message in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut state = State::unused();
        call(&mut state, op.as_bytes(), &message);
        call(&mut state, &name, &message);
        prop_assert!(state.effects.len() <= 2);
    }
}

#[test]
fn a_flood_of_effects_is_refused() {
    let mut state = State::unused();
    let mut message = Vec::new();
    Wire::Array(vec![WireOut::from(1_u32)]).encode(&mut message);
    for _ in 0..EFFECTS_MAX {
        assert_eq!(call(&mut state, b"abandon", &message), Wire::Undefined);
    }
    assert!(matches!(call(&mut state, b"abandon", &message), Wire::Error { .. }));
    assert_eq!(state.effects.len(), EFFECTS_MAX);
}

#[test]
fn numbers_that_were_never_given_find_nothing() {
    for op in ["channel.dup", "loader.get", "loader.code", "loader.entrypoint", "hash.finish", "zip.push"] {
        let mut state = State::unused();
        let mut message = Vec::new();
        Wire::Array(vec![WireOut::from(7_u32)]).encode(&mut message);
        assert!(matches!(call(&mut state, op.as_bytes(), &message), Wire::Error { .. }), "{op}");
    }
}
