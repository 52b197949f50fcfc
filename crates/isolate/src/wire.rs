//! Wire values: the plain data that crosses between an isolate and its host (`docs/design/guest-abi.md`).
//!
//! Driven by the engine for host calls and events, and by `host` for arguments and results. Everything decoded here was
//! written by hostile code: depth, lengths and counts are checked before anything is allocated. Not a general serialiser.

use std::borrow::Cow;
use std::fmt;

/// Deepest nesting that is read or written.
pub const MAX_DEPTH: usize = 64;

/// Most values in one message. A one-byte value costs `size_of::<Wire>()` here, so this bounds what a message can make the host allocate.
pub const MAX_VALUES: usize = 1 << 18;

const UNDEFINED: u8 = 0;
const NULL: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const INT: u8 = 4;
const NUMBER: u8 = 5;
const STRING: u8 = 6;
const BYTES: u8 = 7;
const ARRAY: u8 = 8;
const OBJECT: u8 = 9;
const ERROR: u8 = 10;

/// A JavaScript string as UTF-8 in which lone surrogates are three-byte sequences (WTF-8); nothing is checked until it is read.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Text<'a>(Cow<'a, [u8]>);

impl<'a> Text<'a> {
    /// A text over bytes as they came from the guest.
    pub fn from_raw(raw: impl Into<Cow<'a, [u8]>>) -> Self {
        Self(raw.into())
    }

    /// The bytes as they crossed.
    pub fn raw(&self) -> &[u8] {
        &self.0
    }

    /// The text as a `USVString`: each lone surrogate, and whatever else is not UTF-8, becomes U+FFFD.
    pub fn to_str(&self) -> Cow<'_, str> {
        match std::str::from_utf8(&self.0) {
            Ok(s) => Cow::Borrowed(s),
            Err(_) => Cow::Owned(scalar(&self.0)),
        }
    }

    /// The same text, owning its bytes.
    pub fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }
}

/// `from_utf8_lossy`, but a surrogate's three bytes become one replacement character, as `USVString` conversion has it.
fn scalar(raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while !rest.is_empty() {
        match std::str::from_utf8(rest) {
            Ok(s) => {
                out.push_str(s);
                break;
            }
            Err(e) => {
                let (good, bad) = rest.split_at(e.valid_up_to());
                out.push_str(std::str::from_utf8(good).unwrap_or_default());
                out.push(char::REPLACEMENT_CHARACTER);
                let skip = match bad {
                    [0xED, 0xA0..=0xBF, 0x80..=0xBF, ..] => 3,
                    _ => e.error_len().unwrap_or(bad.len()).max(1),
                };
                rest = bad.get(skip..).unwrap_or_default();
            }
        }
    }
    out
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.to_str(), f)
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(s: &'a str) -> Self {
        Self(Cow::Borrowed(s.as_bytes()))
    }
}

impl From<String> for Text<'_> {
    fn from(s: String) -> Self {
        Self(Cow::Owned(s.into_bytes()))
    }
}

impl<'a> From<Cow<'a, str>> for Text<'a> {
    fn from(s: Cow<'a, str>) -> Self {
        match s {
            Cow::Borrowed(s) => s.into(),
            Cow::Owned(s) => s.into(),
        }
    }
}

/// One value. Borrowed from the message when decoded; `Wire<'static>` ([`WireOut`]) when made by the host.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Wire<'a> {
    /// `undefined`
    #[default]
    Undefined,
    /// `null`
    Null,
    /// A boolean.
    Bool(bool),
    /// A number that the guest held as a 32-bit integer.
    Int(i32),
    /// Any other number.
    Number(f64),
    /// A string.
    Str(Text<'a>),
    /// A `Uint8Array`.
    Bytes(Cow<'a, [u8]>),
    /// An array.
    Array(Vec<Wire<'a>>),
    /// An object with string keys, in order; keys may repeat, the first counts.
    Object(Vec<(Text<'a>, Wire<'a>)>),
    /// An error; as the result of a host call it is thrown.
    Error {
        /// `TypeError`, `RangeError`, `SyntaxError`, `Error`, or the name of a `DOMException`.
        name: Text<'a>,
        /// For people.
        message: Text<'a>,
    },
}

/// A value that owns all it has.
pub type WireOut = Wire<'static>;

impl<'a> Wire<'a> {
    /// Neither `undefined` nor `null`.
    pub fn is_some(&self) -> bool {
        !matches!(self, Wire::Undefined | Wire::Null)
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Wire::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Wire::Int(i) => Some(f64::from(*i)),
            Wire::Number(n) => Some(*n),
            _ => None,
        }
    }

    /// A whole number in `0..=u32::MAX`: ids, counts, sizes.
    pub fn as_u32(&self) -> Option<u32> {
        match self {
            Wire::Int(i) => u32::try_from(*i).ok(),
            // The round trip through the cast is the check: fractions, NaN and what is out of range do not survive it.
            Wire::Number(n) if f64::from(*n as u32) == *n => Some(*n as u32),
            _ => None,
        }
    }

    /// The text, if it is a string.
    pub fn as_text(&self) -> Option<&Text<'a>> {
        match self {
            Wire::Str(t) => Some(t),
            _ => None,
        }
    }

    /// The string with lone surrogates replaced, if it is one.
    pub fn as_str(&self) -> Option<Cow<'_, str>> {
        self.as_text().map(Text::to_str)
    }

    /// The bytes, if it is a `Uint8Array`.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Wire::Bytes(b) => Some(b),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&[Wire<'a>]> {
        match self {
            Wire::Array(a) => Some(a),
            _ => None,
        }
    }

    /// The entries, if it is an object.
    pub fn as_object(&self) -> Option<&[(Text<'a>, Wire<'a>)]> {
        match self {
            Wire::Object(o) => Some(o),
            _ => None,
        }
    }

    /// The value at a key, if it is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Wire<'a>> {
        let found = self.as_object()?.iter().find(|(k, _)| k.raw() == key.as_bytes());
        found.map(|(_, v)| v)
    }

    /// An error value.
    pub fn error(name: impl Into<Text<'a>>, message: impl Into<Text<'a>>) -> Self {
        Wire::Error { name: name.into(), message: message.into() }
    }

    /// An object of the given entries.
    pub fn object<K: Into<Text<'a>>>(entries: impl IntoIterator<Item = (K, Wire<'a>)>) -> Self {
        Wire::Object(entries.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }

    /// What the value takes of the host's memory when it is kept, in bytes.
    pub fn footprint(&self) -> usize {
        size_of::<Self>()
            + match self {
                Wire::Str(t) => t.raw().len(),
                Wire::Bytes(b) => b.len(),
                Wire::Array(a) => a.iter().map(Wire::footprint).sum(),
                Wire::Object(o) => o.iter().map(|(k, v)| size_of::<Text<'_>>() + k.raw().len() + v.footprint()).sum(),
                Wire::Error { name, message } => name.raw().len() + message.raw().len(),
                Wire::Undefined | Wire::Null | Wire::Bool(_) | Wire::Int(_) | Wire::Number(_) => 0,
            }
    }

    /// The same value, owning all it has.
    pub fn into_owned(self) -> WireOut {
        match self {
            Wire::Undefined => Wire::Undefined,
            Wire::Null => Wire::Null,
            Wire::Bool(b) => Wire::Bool(b),
            Wire::Int(i) => Wire::Int(i),
            Wire::Number(n) => Wire::Number(n),
            Wire::Str(t) => Wire::Str(t.into_owned()),
            Wire::Bytes(b) => Wire::Bytes(Cow::Owned(b.into_owned())),
            Wire::Array(a) => Wire::Array(a.into_iter().map(Wire::into_owned).collect()),
            Wire::Object(o) => Wire::Object(o.into_iter().map(|(k, v)| (k.into_owned(), v.into_owned())).collect()),
            Wire::Error { name, message } => Wire::Error { name: name.into_owned(), message: message.into_owned() },
        }
    }

    /// Appends the value's encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Encoder::new(out).value(self);
    }

    /// The value's encoding.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

impl From<bool> for Wire<'_> {
    fn from(b: bool) -> Self {
        Wire::Bool(b)
    }
}

impl From<i32> for Wire<'_> {
    fn from(i: i32) -> Self {
        Wire::Int(i)
    }
}

impl From<u32> for Wire<'_> {
    fn from(n: u32) -> Self {
        i32::try_from(n).map_or(Wire::Number(f64::from(n)), Wire::Int)
    }
}

impl From<f64> for Wire<'_> {
    fn from(n: f64) -> Self {
        Wire::Number(n)
    }
}

impl<'a> From<&'a str> for Wire<'a> {
    fn from(s: &'a str) -> Self {
        Wire::Str(s.into())
    }
}

impl From<String> for Wire<'_> {
    fn from(s: String) -> Self {
        Wire::Str(s.into())
    }
}

impl<'a> From<Text<'a>> for Wire<'a> {
    fn from(t: Text<'a>) -> Self {
        Wire::Str(t)
    }
}

impl<'a> From<&'a [u8]> for Wire<'a> {
    fn from(b: &'a [u8]) -> Self {
        Wire::Bytes(Cow::Borrowed(b))
    }
}

impl From<Vec<u8>> for Wire<'_> {
    fn from(b: Vec<u8>) -> Self {
        Wire::Bytes(Cow::Owned(b))
    }
}

impl<'a> From<Vec<Wire<'a>>> for Wire<'a> {
    fn from(a: Vec<Wire<'a>>) -> Self {
        Wire::Array(a)
    }
}

/// `None` is `null`.
impl<'a, T: Into<Wire<'a>>> From<Option<T>> for Wire<'a> {
    fn from(v: Option<T>) -> Self {
        v.map_or(Wire::Null, Into::into)
    }
}

/// Why a message could not be read. The guest's glue writes well-formed messages, so this means a forged or damaged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends within a value, or a length or count is larger than what is left.
    #[error("wire value is truncated")]
    Truncated,
    /// No value has this tag.
    #[error("wire value has the unknown tag {0}")]
    UnknownTag(u8),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("wire value is nested too deeply")]
    TooDeep,
    /// More than [`MAX_VALUES`] values.
    #[error("wire message has too many values")]
    TooMany,
    /// Bytes are left after the value.
    #[error("wire value is followed by {0} stray bytes")]
    Trailing(usize),
}

/// Reads exactly one value.
pub fn decode(message: &[u8]) -> Result<Wire<'_>, DecodeError> {
    let mut d = Decoder::new(message);
    let value = d.value()?;
    match d.rest() {
        [] => Ok(value),
        rest => Err(DecodeError::Trailing(rest.len())),
    }
}

/// Reads values to the end of the message: the arguments of a call.
pub fn decode_all(message: &[u8]) -> Result<Vec<Wire<'_>>, DecodeError> {
    let mut d = Decoder::new(message);
    let mut values = Vec::new();
    while !d.rest().is_empty() {
        values.push(d.value()?);
    }
    Ok(values)
}

/// Reads values one after another from a message.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Decoder<'a> {
    /// At the start of a message.
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message, values: 0 }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads the next value.
    pub fn value(&mut self) -> Result<Wire<'a>, DecodeError> {
        self.charge(1)?;
        self.nested(0)
    }

    fn nested(&mut self, depth: usize) -> Result<Wire<'a>, DecodeError> {
        Ok(match self.fixed::<1>()?[0] {
            UNDEFINED => Wire::Undefined,
            NULL => Wire::Null,
            FALSE => Wire::Bool(false),
            TRUE => Wire::Bool(true),
            INT => Wire::Int(i32::from_le_bytes(self.fixed()?)),
            NUMBER => Wire::Number(f64::from_le_bytes(self.fixed()?)),
            STRING => Wire::Str(self.text()?),
            BYTES => Wire::Bytes(Cow::Borrowed(self.block()?)),
            ARRAY => {
                let n = self.count(depth, 1)?;
                let mut a = Vec::with_capacity(n);
                for _ in 0..n {
                    a.push(self.nested(depth + 1)?);
                }
                Wire::Array(a)
            }
            OBJECT => {
                let n = self.count(depth, 5)?;
                let mut o = Vec::with_capacity(n);
                for _ in 0..n {
                    o.push((self.text()?, self.nested(depth + 1)?));
                }
                Wire::Object(o)
            }
            ERROR => Wire::Error { name: self.text()?, message: self.text()? },
            tag => return Err(DecodeError::UnknownTag(tag)),
        })
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    fn block(&mut self) -> Result<&'a [u8], DecodeError> {
        let n = u32::from_le_bytes(self.fixed()?) as usize;
        let (head, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn text(&mut self) -> Result<Text<'a>, DecodeError> {
        Ok(Text(Cow::Borrowed(self.block()?)))
    }

    /// The count of an array or object whose entries take at least `least` bytes each. Its values are charged when they
    /// are announced, so that a nest of them cannot reserve more than a flat message could.
    fn count(&mut self, depth: usize, least: usize) -> Result<usize, DecodeError> {
        let n = u32::from_le_bytes(self.fixed()?) as usize;
        if depth >= MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        if n > self.rest.len() / least {
            return Err(DecodeError::Truncated);
        }
        self.charge(n)?;
        Ok(n)
    }

    fn charge(&mut self, n: usize) -> Result<(), DecodeError> {
        if n > MAX_VALUES - self.values {
            return Err(DecodeError::TooMany);
        }
        self.values += n;
        Ok(())
    }
}

/// Writes values straight into a buffer, for those who need no [`Wire`] in between.
///
/// After [`array`](Self::array) write as many values as announced; after [`object`](Self::object) as many pairs of
/// [`key`](Self::key) and value.
#[derive(Debug)]
pub struct Encoder<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Encoder<'o> {
    /// Appends to `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    /// `undefined`
    pub fn undefined(&mut self) {
        self.out.push(UNDEFINED);
    }

    /// `null`
    pub fn null(&mut self) {
        self.out.push(NULL);
    }

    /// A boolean.
    pub fn bool(&mut self, b: bool) {
        self.out.push(if b { TRUE } else { FALSE });
    }

    /// An integer.
    pub fn int(&mut self, i: i32) {
        self.out.push(INT);
        self.out.extend_from_slice(&i.to_le_bytes());
    }

    /// A number.
    pub fn number(&mut self, n: f64) {
        self.out.push(NUMBER);
        self.out.extend_from_slice(&n.to_le_bytes());
    }

    /// A string.
    pub fn str(&mut self, s: &str) {
        self.out.push(STRING);
        self.block(s.as_bytes());
    }

    /// A `Uint8Array`.
    pub fn bytes(&mut self, b: &[u8]) {
        self.out.push(BYTES);
        self.block(b);
    }

    /// The head of an array of `n` values.
    pub fn array(&mut self, n: usize) {
        self.out.push(ARRAY);
        self.length(n);
    }

    /// The head of an object of `n` entries.
    pub fn object(&mut self, n: usize) {
        self.out.push(OBJECT);
        self.length(n);
    }

    /// The key of the next entry of an object.
    pub fn key(&mut self, key: &str) {
        self.block(key.as_bytes());
    }

    /// An error.
    pub fn error(&mut self, name: &str, message: &str) {
        self.out.push(ERROR);
        self.block(name.as_bytes());
        self.block(message.as_bytes());
    }

    /// A value and all that is in it.
    pub fn value(&mut self, value: &Wire<'_>) {
        match value {
            Wire::Undefined => self.undefined(),
            Wire::Null => self.null(),
            Wire::Bool(b) => self.bool(*b),
            Wire::Int(i) => self.int(*i),
            Wire::Number(n) => self.number(*n),
            Wire::Str(t) => {
                self.out.push(STRING);
                self.block(t.raw());
            }
            Wire::Bytes(b) => self.bytes(b),
            Wire::Array(a) => {
                self.array(a.len());
                a.iter().for_each(|v| self.value(v));
            }
            Wire::Object(o) => {
                self.object(o.len());
                for (k, v) in o {
                    self.block(k.raw());
                    self.value(v);
                }
            }
            Wire::Error { name, message } => {
                self.out.push(ERROR);
                self.block(name.raw());
                self.block(message.raw());
            }
        }
    }

    /// Guests have 32-bit memories: no block of theirs, and nothing meant for them, reaches the limit at which this cuts.
    fn block(&mut self, b: &[u8]) {
        let b = b.get(..u32::MAX as usize).unwrap_or(b);
        self.length(b.len());
        self.out.extend_from_slice(b);
    }

    fn length(&mut self, n: usize) {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        self.out.extend_from_slice(&n.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = WireOut> {
        let raw = || proptest::collection::vec(any::<u8>(), 0..20);
        let text = move || prop_oneof![".{0,12}".prop_map(Text::from), raw().prop_map(Text::from_raw)];
        let leaf = prop_oneof![
            Just(Wire::Undefined),
            Just(Wire::Null),
            any::<bool>().prop_map(Wire::Bool),
            any::<i32>().prop_map(Wire::Int),
            (any::<f64>().prop_filter("NaN is not equal to itself", |n| !n.is_nan())).prop_map(Wire::Number),
            text().prop_map(Wire::Str),
            raw().prop_map(Wire::from),
            (text(), text()).prop_map(|(name, message)| Wire::Error { name, message }),
        ];
        leaf.prop_recursive(8, 128, 8, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Wire::Array),
                proptest::collection::vec((text(), inner), 0..8).prop_map(Wire::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(v in value()) {
            let bytes = v.to_vec();
            prop_assert_eq!(decode(&bytes).map(Wire::into_owned), Ok(v));
        }

        #[test]
        fn a_cut_message_is_truncated(v in value(), at in any::<proptest::sample::Index>()) {
            let bytes = v.to_vec();
            prop_assert!(decode(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn garbage_is_refused_or_read_but_never_panics(bytes in proptest::collection::vec(prop_oneof![3 => 0u8..12, 1 => any::<u8>()], 0..200)) {
            if let Ok(v) = decode(&bytes) {
                prop_assert_eq!(v.to_vec(), bytes.clone());
            }
            let _ = decode_all(&bytes);
        }

        #[test]
        fn a_damaged_message_never_panics(v in value(), at in any::<proptest::sample::Index>(), with in any::<u8>()) {
            let mut bytes = v.to_vec();
            let at = at.index(bytes.len());
            bytes[at] = with;
            let _ = decode(&bytes);
        }

        #[test]
        fn any_text_can_be_read(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Text::from_raw(raw).to_str();
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nest = |n: usize| (0..n).fold(Wire::Null, |v, _| Wire::Array(vec![v])).to_vec();
        assert!(decode(&nest(MAX_DEPTH)).is_ok());
        assert_eq!(decode(&nest(MAX_DEPTH + 1)), Err(DecodeError::TooDeep));
        assert_eq!(decode(&[ARRAY, 1, 0, 0, 0].repeat(100_000)), Err(DecodeError::TooDeep));
    }

    #[test]
    fn counts_are_bounded_by_what_is_left() {
        assert_eq!(decode(&[ARRAY, 255, 255, 255, 255]), Err(DecodeError::Truncated));
        assert_eq!(decode(&[OBJECT, 2, 0, 0, 0, 0, 0, 0, 0, 0]), Err(DecodeError::Truncated));
        assert_eq!(decode(&[BYTES, 4, 0, 0, 0, 1, 2, 3]), Err(DecodeError::Truncated));
        let many = Wire::Array(vec![Wire::Null; MAX_VALUES + 1]).to_vec();
        assert_eq!(decode(&many), Err(DecodeError::TooMany));
        assert_eq!(decode_all(&vec![NULL; MAX_VALUES + 1]), Err(DecodeError::TooMany));
        assert_eq!(decode(&[NULL, NULL]), Err(DecodeError::Trailing(1)));
    }

    #[test]
    fn a_lone_surrogate_is_one_replacement_character() {
        let t = Text::from_raw(&b"a\xED\xA0\x80b\xF0\x9F\x98\x80\xFF"[..]);
        assert_eq!(t.to_str(), "a\u{FFFD}b😀\u{FFFD}");
        assert_eq!(t.raw().len(), 10);
    }

    #[test]
    fn whole_numbers_only() {
        assert_eq!(Wire::Int(-1).as_u32(), None);
        assert_eq!(Wire::Number(4294967295.0).as_u32(), Some(u32::MAX));
        for n in [0.5, -1.0, 4294967296.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Wire::Number(n).as_u32(), None);
        }
    }
}
