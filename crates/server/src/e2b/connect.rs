//! The Connect protocol with JSON, as far as E2B's packages speak it: envelopes, error codes, deadlines, times between signs of life. Pure.
//!
//! It is not: a client, and not the binary form, which none of those packages uses.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

/// The envelope that ends a stream.
const LAST: u8 = 0b10;
/// An envelope whose content is compressed; nobody was told that it may be.
const COMPRESSED: u8 = 0b01;
/// Flags and length before each message.
const HEAD: usize = 5;

/// How often a stream says that it lives, where the client does not say.
const PING: Duration = Duration::from_secs(90);

/// Why a call failed, in the protocol's own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The client went away.
    Canceled,
    /// Nobody knows.
    Unknown,
    /// Asked wrongly.
    InvalidArgument,
    /// It took longer than was allowed.
    DeadlineExceeded,
    /// There is no such thing.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// This user may not.
    PermissionDenied,
    /// A bound was reached.
    ResourceExhausted,
    /// Not in the state that things are in.
    FailedPrecondition,
    /// No such call.
    Unimplemented,
    /// A fault of this side.
    Internal,
    /// Not now.
    Unavailable,
    /// Something is gone that cannot be had again.
    DataLoss,
    /// Whoever asks did not say who they are, or nobody believes it.
    Unauthenticated,
}

impl Code {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::Unknown => "unknown",
            Self::InvalidArgument => "invalid_argument",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::PermissionDenied => "permission_denied",
            Self::ResourceExhausted => "resource_exhausted",
            Self::FailedPrecondition => "failed_precondition",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::DataLoss => "data_loss",
            Self::Unauthenticated => "unauthenticated",
        }
    }

    /// The status of an answer that is no stream.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Unknown | Self::Internal | Self::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
            Self::InvalidArgument | Self::FailedPrecondition => StatusCode::BAD_REQUEST,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists => StatusCode::CONFLICT,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
        }
    }
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// For programs.
    pub code: Code,
    /// For people; the packages show it.
    pub message: String,
}

#[derive(Serialize)]
struct Written<'a> {
    code: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct Ended<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Written<'a>>,
}

impl Problem {
    /// One of this kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn written(&self) -> Written<'_> {
        Written { code: self.code.as_str(), message: &self.message }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        json(self.code.status(), &self.written())
    }
}

/// An answer that is no stream.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(value).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A message of a stream.
pub fn message<T: Serialize>(value: &T) -> Bytes {
    envelope(0, &serde_json::to_vec(value).unwrap_or_default())
}

/// The end of a stream.
pub fn end(problem: Option<&Problem>) -> Bytes {
    envelope(LAST, &serde_json::to_vec(&Ended { error: problem.map(Problem::written) }).unwrap_or_default())
}

fn envelope(flags: u8, content: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD + content.len());
    bytes.put_u8(flags);
    bytes.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
    bytes.put_slice(content);
    bytes.freeze()
}

/// A message whose JSON is `before`, the bytes as base64, and `after`; made in one piece, for there are many of these.
pub fn message_of_bytes(before: &str, content: &[u8], after: &str) -> Bytes {
    use base64::Engine;
    let engine = &base64::engine::general_purpose::STANDARD;
    let encoded = content.len().div_ceil(3) * 4;
    let length = before.len() + encoded + after.len();
    let mut bytes = Vec::with_capacity(HEAD + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.put_slice(before.as_bytes());
    let start = bytes.len();
    bytes.resize(start + encoded, 0);
    // The room is exactly what it needs.
    let written = engine.encode_slice(content, &mut bytes[start..]).unwrap_or(0);
    debug_assert_eq!(written, encoded);
    bytes.put_slice(after.as_bytes());
    bytes.into()
}

/// Envelopes of a request, as their bytes come.
pub struct Envelopes {
    buffer: BytesMut,
    most: usize,
}

impl Envelopes {
    /// Messages of at most so many bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { buffer: BytesMut::new(), most }
    }

    /// Bytes that came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message. `None`: not all of it has come.
    ///
    /// # Errors
    /// One that is too long, compressed, or no message.
    pub fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else { return Ok(None) };
        let [flags, a, b, c, d] = *head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if flags & COMPRESSED != 0 {
            return Err(Problem::new(Code::Unimplemented, "compressed messages are not taken"));
        }
        if flags & LAST != 0 {
            return Err(Problem::new(Code::InvalidArgument, "a request has no end of its own"));
        }
        if length > self.most {
            return Err(Problem::new(Code::ResourceExhausted, format!("a message of {length} bytes: at most {} are taken", self.most)));
        }
        if self.buffer.len() < HEAD + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether nothing is left half.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// How a call is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One message, one answer.
    Unary,
    /// Envelopes.
    Stream,
}

impl Form {
    /// What the request says it is. `None`: nothing that is understood here.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        match kind.split(';').next()?.trim() {
            "application/json" => Some(Self::Unary),
            "application/connect+json" => Some(Self::Stream),
            _ => None,
        }
    }

    /// A failure, as this form has it.
    #[must_use]
    pub fn refuse(self, problem: Problem) -> Response {
        match self {
            Self::Unary => problem.into_response(),
            Self::Stream => stream(Body::from(end(Some(&problem)))),
        }
    }
}

/// An answer that is a stream, whatever comes in it.
#[must_use]
pub fn stream(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/connect+json"));
    response
}

/// How long the call may take. 0, as E2B has it, is as long as it likes.
///
/// # Errors
/// What is no number of at most ten digits.
pub fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(value) = headers.get("connect-timeout-ms") else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()));
    let millis = digits.and_then(|text| text.parse::<u64>().ok());
    let millis = millis.ok_or_else(|| Problem::new(Code::InvalidArgument, "connect-timeout-ms is a number of milliseconds"))?;
    Ok((millis > 0).then(|| Duration::from_millis(millis)))
}

/// How long a stream may be silent before it says that it lives.
#[must_use]
pub fn ping(headers: &HeaderMap) -> Duration {
    let wanted = headers.get("keepalive-ping-interval").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    wanted.map_or(PING, |seconds| Duration::from_secs(seconds.clamp(1, 3_600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_framed_is_found_again_however_it_is_cut() {
        let sent = [message(&"one"), message(&serde_json::json!({"a": [1, 2]})), message(&"")].concat();
        for cut in 0..=sent.len() {
            let mut envelopes = Envelopes::new(1 << 10);
            let mut found = Vec::new();
            for part in [&sent[..cut], &sent[cut..]] {
                envelopes.push(part);
                while let Some(message) = envelopes.next().unwrap() {
                    found.push(String::from_utf8(message.to_vec()).unwrap());
                }
            }
            assert_eq!(found, ["\"one\"", "{\"a\":[1,2]}", "\"\""]);
            assert!(envelopes.is_empty());
        }
    }

    #[test]
    fn hostile_envelopes_are_refused_before_they_are_kept() {
        let code = |bytes: &[u8]| {
            let mut envelopes = Envelopes::new(16);
            envelopes.push(bytes);
            envelopes.next().unwrap_err().code
        };
        assert_eq!(code(&[0, 0xff, 0xff, 0xff, 0xff]), Code::ResourceExhausted);
        assert_eq!(code(&[0, 0, 0, 0, 17]), Code::ResourceExhausted);
        assert_eq!(code(&[1, 0, 0, 0, 0]), Code::Unimplemented);
        assert_eq!(code(&[2, 0, 0, 0, 0]), Code::InvalidArgument);
    }

    #[test]
    fn bytes_are_put_in_as_base64() {
        for length in 0..40u8 {
            let content: Vec<u8> = (0..length).collect();
            let framed = message_of_bytes("{\"a\":\"", &content, "\"}");
            assert_eq!(u32::from_be_bytes(framed[1..5].try_into().unwrap()) as usize, framed.len() - 5);
            let value: serde_json::Value = serde_json::from_slice(&framed[5..]).unwrap();
            use base64::Engine;
            assert_eq!(base64::engine::general_purpose::STANDARD.decode(value["a"].as_str().unwrap()).unwrap(), content);
        }
    }

    #[test]
    fn headers_say_how_long() {
        let with = |name: &'static str, value: &str| HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())]);
        let of = |value: &str| deadline(&with("connect-timeout-ms", value));
        assert_eq!(of("1500"), Ok(Some(Duration::from_millis(1_500))));
        assert_eq!((of("0"), deadline(&HeaderMap::new())), (Ok(None), Ok(None)));
        for hostile in ["", "-1", "1e3", "99999999999", "1 ", "+5"] {
            assert!(of(hostile).is_err(), "{hostile:?}");
        }
        let every = |value: &str| ping(&with("keepalive-ping-interval", value)).as_secs();
        assert_eq!((every("50"), every("0"), every("x"), every("99999999")), (50, 1, 90, 3_600));
    }

    #[test]
    fn ends_say_why() {
        assert_eq!(&end(None)[..], b"\x02\0\0\0\x02{}");
        let ended = end(Some(&Problem::new(Code::NotFound, "no \"x\"")));
        assert_eq!(&ended[5..], br#"{"error":{"code":"not_found","message":"no \"x\""}}"#);
    }
}
