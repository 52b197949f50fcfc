//! Hosts of URLs: domains, IPv4 and IPv6 addresses, opaque hosts; from text to their serialised form.

use std::net::{Ipv4Addr, Ipv6Addr};

use idna::uts46::{AsciiDenyList, Hyphens, Uts46};

use super::parser::{encode, is_c0};

/// The host parser. A host is kept as its serialisation.
pub(super) fn parse(input: &str, special: bool) -> Option<String> {
    if let Some(rest) = input.strip_prefix('[') {
        return Some(format!("[{}]", ipv6(rest.strip_suffix(']')?.parse().ok()?)));
    }
    if !special {
        return opaque(input);
    }
    let domain = percent_decoded(input);
    let ascii = idna::domain_to_ascii_cow(&domain, AsciiDenyList::URL).ok()?;
    if ascii.is_empty() || ascii.bytes().any(is_forbidden_in_domain) {
        return None;
    }
    if ends_in_a_number(&ascii) { ipv4(&ascii) } else { Some(ascii.into_owned()) }
}

/// A domain or IPv4 address that already is as the host parser would write it. (It may say no to others that are.)
pub(super) fn is_plain(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let domain = last.bytes().next().is_some_and(|b| b.is_ascii_lowercase()) && !host.contains("--");
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    (domain && host.bytes().all(plain)) || host.parse::<Ipv4Addr>().is_ok()
}

/// `url.domainToASCII` of `node:url`: the host parser's view of a domain, nothing where it is none.
pub(super) fn domain_to_ascii(domain: &str) -> Option<String> {
    parse(domain, true)
}

pub(super) fn domain_to_unicode(domain: &str) -> String {
    let Some(ascii) = parse(domain, true) else {
        return String::new();
    };
    Uts46::new().to_unicode(ascii.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow).0.into_owned()
}

fn opaque(input: &str) -> Option<String> {
    if input.bytes().any(is_forbidden) {
        return None;
    }
    let mut out = String::with_capacity(input.len());
    input.chars().for_each(|c| encode(&mut out, c, is_c0));
    Some(out)
}

fn is_forbidden(b: u8) -> bool {
    matches!(b, 0 | b'\t' | b'\n' | b'\r' | b' ' | b'#' | b'/' | b':' | b'<' | b'>' | b'?' | b'@' | b'[' | b'\\' | b']' | b'^' | b'|')
}

fn is_forbidden_in_domain(b: u8) -> bool {
    is_forbidden(b) || b < 0x20 || b == b'%' || b == 0x7F
}

fn percent_decoded(input: &str) -> Vec<u8> {
    let bytes = input.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        let digit = |at: usize| bytes.get(at).and_then(|d| char::from(*d).to_digit(16));
        match (b, digit(i + 1), digit(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
            }
            _ => {
                out.push(b);
                i += 1;
            }
        }
    }
    out
}

fn ends_in_a_number(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    !last.is_empty() && (last.bytes().all(|b| b.is_ascii_digit()) || ipv4_number(last).is_some())
}

/// Decimal, octal after `0`, hexadecimal after `0x`; too large a number is merely too large.
fn ipv4_number(part: &str) -> Option<u64> {
    let hex = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
    let (digits, radix) = match (hex, part.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ if part.is_empty() => return None,
        _ => (part, 10),
    };
    let mut n = 0u64;
    for c in digits.chars() {
        n = n.saturating_mul(u64::from(radix)).saturating_add(u64::from(c.to_digit(radix)?));
    }
    Some(n)
}

fn ipv4(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let parts: Vec<u64> = host.split('.').take(5).map(ipv4_number).collect::<Option<_>>()?;
    let (last, rest) = parts.split_last()?;
    if rest.len() > 3 || rest.iter().any(|n| *n > 255) || *last >= 1 << (8 * (4 - rest.len())) {
        return None;
    }
    let high = rest.iter().enumerate().map(|(i, n)| n << (8 * (3 - i))).sum::<u64>();
    let [a, b, c, d] = ((high + last) as u32).to_be_bytes();
    Some(format!("{a}.{b}.{c}.{d}"))
}

/// The first longest run of two or more zero pieces is left out; no piece is written as IPv4.
fn ipv6(address: Ipv6Addr) -> String {
    let pieces = address.segments();
    let mut longest = 0..0;
    let mut i = 0;
    while i < 8 {
        let run = pieces.iter().skip(i).take_while(|p| **p == 0).count();
        if run > longest.len() {
            longest = i..i + run;
        }
        i += run.max(1);
    }
    let hex = |pieces: &[u16]| pieces.iter().map(|p| format!("{p:x}")).collect::<Vec<_>>().join(":");
    match longest.len() {
        0 | 1 => hex(&pieces),
        _ => format!("{}::{}", hex(&pieces[..longest.start]), hex(&pieces[longest.end..])),
    }
}
