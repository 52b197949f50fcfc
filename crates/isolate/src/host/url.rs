//! `url.*`: the URL Standard for the guest's `URL` class and `node:url`. Stateless.
//!
//! Its parser is our own ([`parser`]): the `url` crate loses empty segments of `file:` paths, lets a relative reference with
//! backslashes change the host of non-special URLs, and predates the standard's newer rules for `^` and for spaces at the end of
//! opaque paths, so that guests would see other URLs than in browsers and on workerd.

use super::{Args, HostError, Result};
use crate::wire::{Wire, WireOut};

mod host;
mod parser;

use parser::{Record, State};

/// Longest input: parsing takes some eight times its memory for a moment, outside the isolate's own.
const MAX_URL: usize = 8 << 20;

pub(super) fn call(name: &str, args: Args<'_, '_>) -> Option<Result<WireOut>> {
    if args.values.iter().any(|v| v.as_text().is_some_and(|t| t.raw().len() > MAX_URL)) {
        return Some(Ok(Wire::Null));
    }
    Some(match name {
        "parse" => parse(args),
        "set" => set(args),
        "domainToASCII" => args.str(0).map(|d| host::domain_to_ascii(&d).unwrap_or_default().into()),
        "domainToUnicode" => args.str(0).map(|d| host::domain_to_unicode(&d).into()),
        _ => return None,
    })
}

fn parse(args: Args<'_, '_>) -> Result<WireOut> {
    let input = args.str(0)?;
    if let (Some(parts), Wire::Null | Wire::Undefined) = (plain(&input), args.at(1)) {
        return Ok(parts);
    }
    let base = match args.at(1).is_some() {
        true => match parser::parse(&args.str(1)?, None) {
            Some(base) => Some(base),
            None => return Ok(Wire::Null),
        },
        false => None,
    };
    Ok(parser::parse(&input, base.as_ref()).map_or(Wire::Null, |u| components(&u)))
}

/// A URL as far as redirects look at it.
pub(crate) struct Located {
    /// Without its fragment.
    pub(crate) href: String,
    pub(crate) origin: String,
    /// Whether it is an `http:` or `https:` URL.
    pub(crate) is_http: bool,
}

/// Parses a URL, possibly relative to another.
pub(crate) fn locate(input: &str, base: Option<&str>) -> Option<Located> {
    let base = match base {
        Some(base) => Some(parser::parse(base, None)?),
        None => None,
    };
    let mut url = parser::parse(input, base.as_ref())?;
    url.fragment = None;
    Some(Located { href: url.href(), origin: url.origin(), is_http: matches!(url.scheme.as_str(), "http" | "https") })
}

/// What nearly every request's URL looks like: `http(s)://host[:port]/path[?query]` in which the parser would change nothing. It is
/// cut where it is instead; `None` sends anything else to the parser.
fn plain(input: &str) -> Option<WireOut> {
    let (scheme, default_port) = if input.starts_with("http://") { (4, "80") } else { (5, "443") };
    let rest = input.strip_prefix(if scheme == 4 { "http://" } else { "https://" })?;
    let (authority, tail) = rest.split_at(rest.find('/')?);
    let (hostname, port) = authority.split_once(':').unwrap_or((authority, ""));
    let (path, search) = tail.split_at(tail.find('?').unwrap_or(tail.len()));
    let port_stays = port.is_empty() != authority.contains(':') && !port.starts_with('0') && port != default_port;
    if !port_stays || !(port.is_empty() || port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()) {
        return None;
    }
    if !host::is_plain(hostname) || !path.bytes().all(parser::stays_in_path) || path.contains("/.") || path.contains("/%2") {
        return None;
    }
    if !search.bytes().all(parser::stays_in_query) {
        return None;
    }
    let origin = &input[..scheme + 3 + authority.len()];
    let search = if search == "?" { "" } else { search };
    let parts = [input, &input[..=scheme], "", "", authority, hostname, port, path, search, "", origin];
    Some(Wire::Array(parts.map(|p| Wire::from(p.to_owned())).to_vec()))
}

/// The attribute setters of the `URL` class. What a setter ignores leaves the URL as it was; `href` alone can fail.
fn set(args: Args<'_, '_>) -> Result<WireOut> {
    let (href, field, value) = (args.str(0)?, args.str(1)?, args.str(2)?);
    let Some(mut url) = parser::parse(&href, None) else {
        return Ok(Wire::Null);
    };
    let opaque = url.opaque.is_some();
    match &*field {
        "href" => return Ok(parser::parse(&value, None).map_or(Wire::Null, |u| components(&u))),
        "protocol" => parser::reparse(&mut url, &format!("{value}:"), State::SchemeStart),
        "username" if url.may_have_credentials() => url.username = parser::userinfo(&value),
        "password" if url.may_have_credentials() => url.password = parser::userinfo(&value),
        "host" if !opaque => parser::reparse(&mut url, &value, State::Host),
        "hostname" if !opaque => parser::reparse(&mut url, &value, State::Hostname),
        "port" if url.may_have_credentials() => match &*value {
            "" => url.port = None,
            value => parser::reparse(&mut url, value, State::Port),
        },
        "pathname" if !opaque => {
            url.path.clear();
            parser::reparse(&mut url, &value, State::PathStart);
        }
        "search" => url.query = parser::reparse_tail(&mut url, &value, '?', State::Query),
        "hash" => url.fragment = parser::reparse_tail(&mut url, &value, '#', State::Fragment),
        "username" | "password" | "host" | "hostname" | "port" | "pathname" => {}
        other => return Err(HostError::type_error(format!("url.set: no field {other}"))),
    }
    Ok(components(&url))
}

/// `[href, protocol, username, password, host, hostname, port, pathname, search, hash, origin]`
fn components(u: &Record) -> WireOut {
    let port = u.port.map(|p| p.to_string()).unwrap_or_default();
    let hostname = u.host.clone().unwrap_or_default();
    let host = if u.port.is_some() { format!("{hostname}:{port}") } else { hostname.clone() };
    let tail = |mark: char, part: &Option<String>| match part.as_deref() {
        None | Some("") => String::new(),
        Some(s) => format!("{mark}{s}"),
    };
    Wire::Array(
        [
            u.href(),
            format!("{}:", u.scheme),
            u.username.clone(),
            u.password.clone(),
            host,
            hostname,
            port,
            u.pathname(),
            tail('?', &u.query),
            tail('#', &u.fragment),
            u.origin(),
        ]
        .map(Wire::from)
        .to_vec(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_is_plain_is_what_the_parser_makes_of_it(
            url in "https?://[a-z0-9.-]{0,6}(a|x|1|xn--a|0x1|127\\.0\\.0\\.1|1\\.2)?(:|:80|:443|:8080|:0[0-9]|:[0-9]{1,6})?/[a-zA-Z0-9./%2e:@~^ {}|'\\\\-]{0,12}(\\?[a-z0-9=&%'\"^ #/?-]{0,8})?"
        ) {
            if let Some(parts) = plain(&url) {
                prop_assert_eq!(Some(parts), parser::parse(&url, None).map(|u| components(&u)));
            }
        }
    }

    #[test]
    fn usual_urls_are_plain() {
        for url in ["http://localhost:7117/", "https://api.example.com/v1/items?id=1&q=a%20b", "http://127.0.0.1:8080/a/b.txt"] {
            assert!(plain(url).is_some(), "{url}");
        }
    }

    #[test]
    fn the_standard_is_followed_where_the_url_crate_is_not() {
        let href = |input: &str, base: Option<&str>| {
            let base = base.map(|b| parser::parse(b, None).expect("base"));
            parser::parse(input, base.as_ref()).map(|u| u.href())
        };
        assert_eq!(href("foo:/^", None).as_deref(), Some("foo:/%5E"));
        assert_eq!(href("file:////x", None).as_deref(), Some("file:////x"));
        assert_eq!(href("foo:a  ?q", None).as_deref(), Some("foo:a %20?q"));
        assert_eq!(href("/\\u@h", Some("foo://b/c")).as_deref(), Some("foo://b/\\u@h"));
        assert_eq!(href("///~", Some("http://[::1]/")).as_deref(), Some("http://~/"));
        assert_eq!(href("http://xn--a/", None), None);
        assert_eq!(href("http://[1:0:0:2::ffff:1.2.3.4]/", None).as_deref(), Some("http://[1::2:0:ffff:102:304]/"));
    }
}
