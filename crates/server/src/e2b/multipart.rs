//! Forms of many files (`multipart/form-data`), as their bytes come. Pure.
//!
//! A file's bytes are handed on as soon as they cannot be the beginning of what ends it; so memory is bounded by a piece and a delimiter. It is
//! not: for fields of a form, whose values somebody would want whole.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem::Finder;

/// Of the headers of one part.
const MOST_HEAD: usize = 16 << 10;
/// Of a delimiter, by the standard.
const MOST_BOUNDARY: usize = 70;

/// What comes next in a form.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A part begins.
    Part(Head),
    /// Bytes of it.
    Bytes(Bytes),
    /// It has ended.
    PartEnd,
    /// The form has ended.
    End,
    /// More bytes are needed.
    More,
}

/// What a part says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The field's name.
    pub name: String,
    /// The file's, with the folders that the client wrote.
    pub file_name: Option<String>,
}

/// A form that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(&'static str);

enum At {
    /// Before the first part, where anything may stand.
    Preamble,
    /// After a delimiter.
    Delimiter,
    Head,
    Body,
    End,
}

/// A form.
pub struct Form {
    buffer: BytesMut,
    at: At,
    /// What ends a part: a line's end, two dashes and the boundary.
    delimiter: Finder<'static>,
}

/// The boundary that a content type names.
///
/// # Errors
/// None, or one that is none.
pub fn boundary(content_type: &str) -> Result<String, Broken> {
    let broken = Broken("the content type names no boundary");
    let Some(value) = parameters(content_type).find_map(|(name, value)| (name == "boundary").then_some(value)) else { return Err(broken) };
    let good = (1..=MOST_BOUNDARY).contains(&value.len()) && value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if good { Ok(value) } else { Err(broken) }
}

/// What stands after the first `;`: names in small letters, values without their quotes.
fn parameters(text: &str) -> impl Iterator<Item = (String, String)> {
    let mut rest = text.split_once(';').map_or("", |(_, rest)| rest);
    std::iter::from_fn(move || {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => match after.split_once(';') {
                Some((value, after)) => (value.trim().to_owned(), after),
                None => (after.trim().to_owned(), ""),
            },
        };
        rest = after;
        Some((name.trim_matches([' ', '\t', ';']).to_ascii_lowercase(), value))
    })
}

/// Up to the quote that ends it. Browsers write a quote in a name as `%22`, others as `\"`.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.clone().next() {
                Some((_, escaped @ ('"' | '\\'))) => {
                    value.push(escaped);
                    letters.next();
                }
                _ => value.push('\\'),
            },
            letter => value.push(letter),
        }
    }
    None
}

impl Form {
    /// One whose parts this boundary parts.
    #[must_use]
    pub fn new(boundary: &str) -> Self {
        // The first delimiter may stand at the very beginning.
        Self { buffer: BytesMut::from(&b"\r\n"[..]), at: At::Preamble, delimiter: Finder::new(&format!("\r\n--{boundary}")).into_owned() }
    }

    /// Bytes that came.
    pub fn push(&mut self, bytes: Bytes) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::from(bytes);
        } else {
            self.buffer.extend_from_slice(&bytes);
        }
    }

    /// What is in the bytes that have come.
    ///
    /// # Errors
    /// When they are no form.
    pub fn next(&mut self) -> Result<Next, Broken> {
        loop {
            match self.at {
                At::Preamble => match self.delimiter.find(&self.buffer) {
                    Some(found) => {
                        self.buffer.advance(found + self.delimiter.needle().len());
                        self.at = At::Delimiter;
                    }
                    None => {
                        let kept = self.delimiter.needle().len() - 1;
                        self.buffer.advance(self.buffer.len().saturating_sub(kept));
                        return Ok(Next::More);
                    }
                },
                At::Delimiter => match self.delimited()? {
                    Some(at) => self.at = at,
                    None => return Ok(Next::More),
                },
                At::Head => {
                    let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") else {
                        return if self.buffer.len() > MOST_HEAD {
                            Err(Broken("the headers of a part are too long"))
                        } else {
                            Ok(Next::More)
                        };
                    };
                    if end > MOST_HEAD {
                        return Err(Broken("the headers of a part are too long"));
                    }
                    let text = self.buffer.split_to(end + 2);
                    self.buffer.advance(2);
                    // A part without content ends where its headers do.
                    self.at = At::Body;
                    return head(&text).map(Next::Part);
                }
                At::Body => return Ok(self.body()),
                At::End => {
                    self.buffer.clear();
                    return Ok(Next::End);
                }
            }
        }
    }

    /// After a delimiter: two dashes end the form, a line's end begins a part.
    fn delimited(&mut self) -> Result<Option<At>, Broken> {
        // Spaces may stand here.
        let spaces = self.buffer.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if spaces > MOST_HEAD {
            return Err(Broken("a delimiter has no end"));
        }
        match self.buffer.get(spaces..spaces + 2) {
            None => Ok(None),
            Some(b"--") => Ok(Some(At::End)),
            Some(b"\r\n") => {
                // The line's end stays: where there are no headers, it is half of the empty line.
                self.buffer.advance(spaces);
                let empty = match self.buffer.get(2..4) {
                    None => return Ok(None),
                    Some(next) => next == b"\r\n",
                };
                if !empty {
                    self.buffer.advance(2);
                }
                Ok(Some(At::Head))
            }
            Some(_) => Err(Broken("a delimiter is followed by something else")),
        }
    }

    fn body(&mut self) -> Next {
        match self.delimiter.find(&self.buffer) {
            Some(0) => {
                self.buffer.advance(self.delimiter.needle().len());
                self.at = At::Delimiter;
                Next::PartEnd
            }
            Some(found) => Next::Bytes(self.buffer.split_to(found).freeze()),
            None => {
                // The end of what has come may be the beginning of a delimiter.
                let last = self.buffer.len().saturating_sub(self.delimiter.needle().len() - 1);
                let kept = memchr::memchr(b'\r', &self.buffer[last..]).map_or(self.buffer.len(), |at| last + at);
                if kept == 0 { Next::More } else { Next::Bytes(self.buffer.split_to(kept).freeze()) }
            }
        }
    }
}

fn head(text: &[u8]) -> Result<Head, Broken> {
    let text = std::str::from_utf8(text).map_err(|_| Broken("the headers of a part are no text"))?;
    for line in text.split("\r\n") {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.trim().eq_ignore_ascii_case("content-disposition") {
            let mut head = Head::default();
            for (name, value) in parameters(value) {
                match name.as_str() {
                    "name" => head.name = value,
                    "filename" => head.file_name = head.file_name.or(Some(value)),
                    "filename*" => head.file_name = decoded(&value).or(head.file_name),
                    _ => {}
                }
            }
            return Ok(head);
        }
    }
    Err(Broken("a part does not say what it is"))
}

/// `utf-8''` and letters of which some are written as `%` and two digits.
fn decoded(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_, text) = rest.split_once('\'')?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    let mut bytes = Vec::new();
    let mut letters = text.bytes();
    while let Some(letter) = letters.next() {
        match letter {
            b'%' => {
                let digit = |digit: Option<u8>| char::from(digit?).to_digit(16);
                let (high, low) = (digit(letters.next())?, digit(letters.next())?);
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            letter => bytes.push(letter),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and contents, from bytes that come in pieces of one length.
    fn parts(text: &[u8], boundary: &str, piece: usize) -> Result<Vec<(Head, Vec<u8>)>, Broken> {
        let mut form = Form::new(boundary);
        let mut parts: Vec<(Head, Vec<u8>)> = Vec::new();
        let mut pieces = text.chunks(piece);
        loop {
            match form.next()? {
                Next::Part(head) => parts.push((head, vec![])),
                Next::Bytes(bytes) => parts.last_mut().unwrap().1.extend_from_slice(&bytes),
                Next::PartEnd => {}
                Next::End => return Ok(parts),
                Next::More => form.push(Bytes::copy_from_slice(pieces.next().ok_or(Broken("cut off"))?)),
            }
        }
    }

    fn named(name: &str, file_name: Option<&str>) -> Head {
        Head { name: name.into(), file_name: file_name.map(str::to_owned) }
    }

    #[test]
    fn files_are_whole_however_their_bytes_come() {
        let tricky = b"\r\n--\r\n--bounds\r\n-bound\r\r\n\r\n--boun".to_vec();
        let mut text =
            b"preamble\r\n--bound\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a/b c.txt\"\r\nContent-Type: x/y\r\n\r\n"
                .to_vec();
        text.extend(&tricky[..6]);
        text.extend(b"\r\n--bound \t\r\ncontent-disposition: form-data; filename=plain; name=file\r\n\r\n\r\n--bound\r\n");
        text.extend("Content-Disposition: form-data; name=\"x\"; filename*=utf-8''%C3%BC%20x; filename=\"u\\\"\"\r\n\r\nlast\r\n--bound--\r\nepilogue".bytes());
        let wanted = vec![
            (named("file", Some("a/b c.txt")), tricky[..6].to_vec()),
            (named("file", Some("plain")), vec![]),
            (named("x", Some("ü x")), b"last".to_vec()),
        ];
        for piece in 1..text.len() {
            assert_eq!(parts(&text, "bound", piece).unwrap(), wanted, "pieces of {piece}");
        }
    }

    #[test]
    fn a_boundary_is_named() {
        assert_eq!(boundary("multipart/form-data; boundary=abc").unwrap(), "abc");
        assert_eq!(boundary("multipart/form-data; charset=x; Boundary=\"a b;c\"").unwrap(), "a b;c");
        for hostile in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"",
            &format!("x; boundary={}", "b".repeat(71)),
        ] {
            assert!(boundary(hostile).is_err(), "{hostile}");
        }
    }

    #[test]
    fn what_is_no_form_is_an_error_and_never_kept() {
        let long = format!("--b\r\nX: {}", "y".repeat(MOST_HEAD + 100));
        for hostile in
            ["--bxx\r\n\r\n", "--b\r\n\r\nno disposition\r\n--b--", "--b\r\nContent-Disposition: form-data; name=\"f", "--b", "", &long]
        {
            assert!(parts(hostile.as_bytes(), "b", 7).is_err(), "{hostile:.40}");
        }
        let mut form = Form::new("b");
        for _ in 0..1_000 {
            form.push(Bytes::from(vec![b'\r'; 1_000]));
            assert_eq!(form.next(), Ok(Next::More));
            assert!(form.buffer.len() < 2_000, "a preamble is not kept");
        }
    }
}
