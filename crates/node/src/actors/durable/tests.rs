//! What hostile code may send in place of arguments.

use proptest::prelude::*;

use super::*;

fn thrown<T: std::fmt::Debug>(result: Result<T, Thrown>) -> &'static str {
    result.unwrap_err().0
}

#[test]
fn arguments_of_another_kind_are_refused() {
    let args =
        [Wire::Null, Wire::Bool(true), Wire::Int(-1), Wire::Number(f64::NAN), Wire::from("text"), Wire::Array(vec![Wire::Bool(true)])];
    let args = Args(&args);
    for at in [0, 1, 2, 3, 5, 6] {
        assert_eq!(thrown(args.text(at)), "TypeError");
        assert_eq!(thrown(args.bytes(at)), "TypeError");
        assert_eq!(thrown(args.number(at)), "TypeError");
    }
    assert_eq!(thrown(args.time(2)), "RangeError");
    assert_eq!(thrown(args.time(3)), "RangeError");
    assert_eq!(thrown(args.time(4)), "TypeError");
    assert_eq!(thrown(args.texts(5)), "TypeError");
    assert_eq!(thrown(args.bindings(5)), "TypeError");
    assert_eq!(thrown(args.message(0)), "TypeError");
    assert_eq!(args.maybe_text(6), Ok(None));
}

#[test]
fn names_and_lists_are_bounded() {
    let long = Wire::from("x".repeat(NAME_BYTES_MAX + 1));
    let many = Wire::Array(vec![Wire::from(""); 2 * KEYS_MAX + 1]);
    let args = [long, many];
    assert_eq!(thrown(Args(&args).name(0)), "RangeError");
    assert_eq!(thrown(Args(&args).texts(1)), "RangeError");
}

#[test]
fn a_lone_surrogate_becomes_a_character_that_sqlite_can_hold() {
    let lone = Wire::Str(Text::from_raw(&b"a\xED\xA0\x80"[..]));
    assert_eq!(Args(&[lone]).text(0).unwrap(), "a\u{FFFD}");
}

#[test]
fn a_close_frame_holds_no_more_than_it_may() {
    let close = |code, reason: &str| Args(&[code, Wire::from(reason.to_owned())]).close(0);
    assert_eq!(close(Wire::Null, ""), Ok(SocketMessage::Close(1005, String::new())));
    assert_eq!(thrown(close(Wire::Int(70_000), "")), "TypeError");
    let Ok(SocketMessage::Close(4000, reason)) = close(Wire::Int(4000), &"é".repeat(100)) else { panic!("no close") };
    assert_eq!(reason.len(), 122);
}

#[test]
fn reasons_come_as_texts_and_as_errors() {
    let error = Wire::Array(vec![Wire::from("Error"), Wire::from("why"), Wire::from("stack")]);
    let args = [Wire::from("plain"), error, Wire::Null];
    let reasons = [0, 1, 2].map(|at| Args(&args).exception(at)).map(|e| (e.name, e.message));
    let said = [("Error", "plain"), ("Error", "why"), ("Error", "")].map(|(name, message)| (name.to_owned(), message.to_owned()));
    assert_eq!(reasons, said);
}

proptest! {
    #[test]
    fn numbers_cross_as_the_hosted_service_has_them(n in any::<i64>()) {
        let crossed = match value(SqlValue::Integer(n)) {
            Wire::Int(n) => f64::from(n),
            Wire::Number(n) => n,
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(crossed, n as f64);
    }

    #[test]
    fn a_time_is_a_whole_number_or_refused(x in any::<f64>()) {
        if let Ok(time) = Args(&[Wire::Number(x)]).time(0) {
            prop_assert!(x >= 0.0 && time as f64 <= x && x - (time as f64) < 1.0);
        }
    }
}
