//! Receipts of actors as headers: who sends `x-skep-receipt: 1` with a request gets, with the answer, one `x-skep-receipt` for each actor that the request
//! came through, which says where in that actor's log everything is that the answer rests on.
//!
//! Driven by `dispatch` and by the control routes that change actors. Without the request header an answer has none, and what a worker itself puts under
//! that name is its own affair; with it, only the node's word counts.

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use skep_node::Receipt;

/// In the request and in the answer.
pub(crate) const RECEIPT: HeaderName = HeaderName::from_static("x-skep-receipt");

/// Whether a request asks for receipts.
pub(crate) fn asked(headers: &HeaderMap) -> bool {
    headers.get(RECEIPT).is_some_and(|value| value.as_bytes() == b"1")
}

/// Puts receipts among the headers of an answer, in place of what is there by that name.
pub(crate) fn put(headers: &mut HeaderMap, receipts: &[String]) {
    headers.remove(RECEIPT);
    for receipt in receipts {
        if let Ok(value) = HeaderValue::from_str(receipt) {
            headers.append(RECEIPT, value);
        }
    }
}

/// An answer with the receipt of what was done, if the request asked for that.
pub(crate) fn shown(mut answer: Response, request: &HeaderMap, receipt: &Receipt) -> Response {
    if asked(request) {
        put(answer.headers_mut(), &[receipt.to_string()]);
    }
    answer
}
