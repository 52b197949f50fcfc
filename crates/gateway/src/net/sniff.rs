//! The name that a connection shows in its first bytes: TLS's server name, HTTP/1's host. Pure; everything here was written by somebody hostile.

use super::name::Name;

/// As much as is looked at. A ClientHello with post-quantum keys has 2 KiB; who needs more shows nothing.
pub const MOST: usize = 16 << 10;

/// What the first bytes show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// They are not whole yet.
    More,
    /// This name, and no other.
    Name(Name),
    /// It is TLS or HTTP, and shows no name, or more than one, or is not what the standard says.
    Hidden,
    /// It is something else.
    Opaque,
}

/// What these first bytes of a connection show. `More` is never said of [`MOST`] bytes.
#[must_use]
pub fn sniff(bytes: &[u8]) -> Shown {
    let shown = match bytes {
        [] => Shown::More,
        [0x16, ..] => tls(bytes),
        // Of SSL 2, whose hello has no names.
        [high, _, 1, ..] if high & 0x80 != 0 => Shown::Hidden,
        _ => http(bytes),
    };
    if shown == Shown::More && bytes.len() >= MOST { Shown::Hidden } else { shown }
}

/// Reads from the front. `None`: it ends before.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of this many bytes.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// What is behind its length, which has this many bytes.
    fn sized(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let count = self.number(bytes)?;
        self.take(count)
    }
}

/// Puts the handshake together from its records, however small they are.
fn tls(bytes: &[u8]) -> Shown {
    let mut records = Reader(bytes);
    let mut handshake = Vec::new();
    while !records.0.is_empty() {
        let (Some(kind), Some(version)) = (records.number(1), records.number(2)) else { break };
        if kind != 0x16 || version >> 8 != 3 {
            return Shown::Hidden;
        }
        let Some(length) = records.number(2) else { break };
        if length == 0 || length > 16_384 + 256 {
            return Shown::Hidden;
        }
        let part = records.take(length.min(records.0.len())).unwrap_or_default();
        handshake.extend_from_slice(part);
        if let Some(shown) = hello(&handshake) {
            return shown;
        }
        if part.len() < length {
            break;
        }
    }
    Shown::More
}

/// `None`: it is not whole.
fn hello(handshake: &[u8]) -> Option<Shown> {
    let mut message = Reader(handshake);
    if message.number(1)? != 1 {
        return Some(Shown::Hidden);
    }
    let length = message.number(3)?;
    if length > MOST {
        return Some(Shown::Hidden);
    }
    Some(server_name(message.take(length)?).map_or(Shown::Hidden, Shown::Name))
}

/// The one name of a whole ClientHello. An outer hello's name counts: what an encrypted one inside says cannot be seen.
fn server_name(hello: &[u8]) -> Option<Name> {
    let mut hello = Reader(hello);
    hello.take(2 + 32)?;
    hello.sized(1)?;
    hello.sized(2)?;
    hello.sized(1)?;
    let mut extensions = Reader(hello.sized(2)?);
    let mut found = None;
    while !extensions.0.is_empty() {
        let (kind, content) = (extensions.number(2)?, extensions.sized(2)?);
        if kind != 0 {
            continue;
        }
        let mut list = Reader(content);
        let mut names = Reader(list.sized(2)?);
        let (kind, name) = (names.number(1)?, names.sized(2)?);
        if found.is_some() || kind != 0 || !names.0.is_empty() || !list.0.is_empty() {
            return None;
        }
        found = Some(std::str::from_utf8(name).ok()?.parse().ok()?);
    }
    // Bytes behind the extensions: a server and this reader may not agree on where they are.
    if hello.0.is_empty() { found } else { None }
}

const METHODS: [&str; 11] = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PROPFIND", "PRI"];

fn http(bytes: &[u8]) -> Shown {
    // Empty lines before a request are passed over by servers, so they are here.
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let Some(bytes) = start.and_then(|start| bytes.get(start..)) else { return Shown::More };
    let begins = |method: &&str| {
        let count = method.len().min(bytes.len());
        bytes[..count] == method.as_bytes()[..count] && matches!(bytes.get(method.len()), None | Some(b' '))
    };
    if !METHODS.iter().any(begins) && !custom_request(bytes) {
        return Shown::Opaque;
    }
    let Some(end) = end_of_head(bytes) else { return Shown::More };
    host(&bytes[..end]).map_or(Shown::Hidden, Shown::Name)
}

/// A method that no list has, in a line that servers take for a request.
fn custom_request(bytes: &[u8]) -> bool {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return false };
    let line = bytes[..end].trim_ascii_end();
    line.ends_with(b"HTTP/1.1") || line.ends_with(b"HTTP/1.0") || line.ends_with(b"HTTP/2.0")
}

/// Where the empty line is; servers take a line's end without its CR, too.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let crlf = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 2);
    let lf = bytes.windows(2).position(|two| two == b"\n\n").map(|at| at + 1);
    let mixed = bytes.windows(3).position(|three| three == b"\n\r\n").map(|at| at + 1);
    [crlf, lf, mixed].into_iter().flatten().min()
}

/// The one host that a request speaks to.
fn host(head: &[u8]) -> Option<Name> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let request = lines.next()?;
    let mut words = request.split(' ').filter(|word| !word.is_empty());
    let (method, target) = (words.next()?, words.next()?);
    // `CONNECT` names another host than the one asked, and HTTP/2 without TLS names all of its own later.
    if matches!(method, "CONNECT" | "PRI") || head.contains('\0') || head.contains('\r') && head.replace("\r\n", "").contains('\r') {
        return None;
    }
    let mut host = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        // A line that goes on, or a name with a space: readers differ.
        let (name, value) = line.split_once(':')?;
        if name.is_empty() || name.contains([' ', '\t']) {
            return None;
        }
        if name.eq_ignore_ascii_case("host") {
            if host.is_some() {
                return None;
            }
            host = Some(without_port(value.trim_matches([' ', '\t']))?);
        }
    }
    let host = host?;
    match target.split_once("://") {
        // Of a target with a host the host counts for some and the header for others: they must be the same.
        Some((_, rest)) if !target.starts_with('/') => {
            let authority = rest.split(['/', '?', '#']).next()?;
            (!authority.contains('@') && without_port(authority)? == host).then_some(host)
        }
        _ if target.starts_with('/') || target == "*" => Some(host),
        _ => None,
    }
}

fn without_port(authority: &str) -> Option<Name> {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) => return None,
        None => authority,
    };
    name.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A ClientHello as clients send it, with this server name, in records of at most `record` bytes.
    pub(crate) fn client_hello(name: Option<&str>, record: usize) -> Vec<u8> {
        let mut extensions = vec![0xaa, 0xaa, 0, 0];
        if let Some(name) = name {
            let length = u16::try_from(name.len()).unwrap();
            extensions.extend([0, 0]);
            extensions.extend((length + 5).to_be_bytes());
            extensions.extend((length + 3).to_be_bytes());
            extensions.push(0);
            extensions.extend(length.to_be_bytes());
            extensions.extend(name.as_bytes());
        }
        extensions.extend([0, 43, 0, 3, 2, 3, 4]);
        let mut hello = vec![3, 3];
        hello.extend([7; 32]);
        hello.push(32);
        hello.extend([9; 32]);
        hello.extend([0, 2, 0x13, 1, 1, 0]);
        hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        hello.extend(extensions);
        let mut message = vec![1, 0];
        message.extend(u16::try_from(hello.len()).unwrap().to_be_bytes());
        message.extend(hello);
        let mut records = Vec::new();
        for part in message.chunks(record) {
            records.extend([0x16, 3, 1]);
            records.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
            records.extend(part);
        }
        records
    }

    fn name(text: &str) -> Shown {
        Shown::Name(text.parse().unwrap())
    }

    #[test]
    fn the_server_name_is_found_however_it_is_cut() {
        for record in [16_384, 40, 1] {
            let hello = client_hello(Some("Example.com"), record);
            assert_eq!(sniff(&hello), name("example.com"), "records of {record}");
            for cut in 0..hello.len() {
                assert_eq!(sniff(&hello[..cut]), Shown::More, "{cut} of {}", hello.len());
            }
        }
        assert_eq!(sniff(&client_hello(None, 512)), Shown::Hidden);
        for hidden in ["1.2.3.4", "a\0.com", "", "[::1]"] {
            assert_eq!(sniff(&client_hello(Some(hidden), 512)), Shown::Hidden, "{hidden:?}");
        }
    }

    #[test]
    fn two_names_are_none() {
        let mut hello = client_hello(Some("good.org"), 16_384);
        // The first extension, which says nothing, becomes a second server name.
        let at = hello.windows(4).position(|four| four == [0xaa, 0xaa, 0, 0]).unwrap();
        hello[at..at + 2].copy_from_slice(&[0, 0]);
        assert_eq!(sniff(&hello), Shown::Hidden);
    }

    #[test]
    fn what_is_behind_the_extensions_hides_all() {
        let mut hello = client_hello(Some("good.org"), 16_384);
        hello.push(0);
        let grow = |bytes: &mut [u8]| {
            let value = u16::from_be_bytes([bytes[0], bytes[1]]) + 1;
            bytes.copy_from_slice(&value.to_be_bytes());
        };
        grow(&mut hello[3..5]);
        grow(&mut hello[7..9]);
        assert_eq!(sniff(&hello), Shown::Hidden);
    }

    #[test]
    fn the_host_of_a_request_is_found() {
        for (request, shown) in [
            ("GET / HTTP/1.1\r\nHost: a.org\r\n\r\n", name("a.org")),
            ("\r\nPOST /x HTTP/1.1\nhost:A.org:8080\n\n", name("a.org")),
            ("GET http://a.org/x HTTP/1.1\r\nHost: a.org\r\n\r\n", name("a.org")),
            ("GET http://evil.org/x HTTP/1.1\r\nHost: a.org\r\n\r\n", Shown::Hidden),
            ("GET http://a.org@evil.org/ HTTP/1.1\r\nHost: a.org\r\n\r\n", Shown::Hidden),
            ("GET / HTTP/1.1\r\nHost: a.org\r\nHost: evil.org\r\n\r\n", Shown::Hidden),
            ("GET / HTTP/1.1\r\nHost: a.org\r\n evil.org\r\n\r\n", Shown::Hidden),
            ("GET / HTTP/1.1\r\nHost : a.org\r\n\r\n", Shown::Hidden),
            ("GET / HTTP/1.1\r\nX: y\rHost: evil.org\r\nHost: a.org\r\n\r\n", Shown::Hidden),
            ("CONNECT evil.org:443 HTTP/1.1\r\nHost: a.org\r\n\r\n", Shown::Hidden),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Shown::Hidden),
            ("GET / HTTP/1.0\r\n\r\n", Shown::Hidden),
            ("GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", Shown::Hidden),
            ("BREW / HTTP/1.1\r\nHost: a.org\r\n\r\n", name("a.org")),
            ("GE", Shown::More),
            ("GET / HTTP/1.1\r\nHost: a.org\r\n", Shown::More),
            ("SSH-2.0-x\r\n", Shown::Opaque),
            ("\0\0\0\u{8}\u{4}\u{d2}\u{16}/", Shown::Opaque),
        ] {
            assert_eq!(sniff(request.as_bytes()), shown, "{request:?}");
        }
    }

    #[test]
    fn who_goes_on_for_ever_shows_nothing() {
        let mut long = b"GET / HTTP/1.1\r\n".to_vec();
        long.resize(MOST, b'x');
        assert_eq!(sniff(&long), Shown::Hidden);
        assert_eq!(sniff(&[0x16, 3, 1, 0xff, 0xff, 1]), Shown::Hidden);
        assert_eq!(sniff(&[0x16, 3, 1, 0, 0, 1]), Shown::Hidden);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fall_over(bytes in prop::collection::vec(any::<u8>(), 0..600), tls: bool) {
            let bytes = if tls { [&[0x16, 3, 1, 1, 0, 1, 0][..], &bytes].concat() } else { bytes };
            let _ = sniff(&bytes);
        }

        #[test]
        fn a_name_found_in_a_part_is_the_name_of_the_whole(cut in 0usize..400, flip in 0usize..200, to: u8) {
            let mut hello = client_hello(Some("good.org"), 64);
            let at = flip % hello.len();
            hello[at] = to;
            let cut = cut.min(hello.len());
            if let Shown::Name(found) = sniff(&hello[..cut]) {
                prop_assert_eq!(sniff(&hello), Shown::Name(found));
            }
        }
    }
}
