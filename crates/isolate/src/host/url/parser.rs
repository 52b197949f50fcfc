//! The basic URL parser of the URL Standard, state by state, with its state override for setters; and the serialiser.
//!
//! The states and their order of tests are the standard's, so that one can be read beside the other.

use super::host;

/// A URL record.
#[derive(Clone, Default)]
pub(super) struct Record {
    pub scheme: String,
    pub username: String,
    pub password: String,
    /// Serialised; empty and absent differ.
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Vec<String>,
    /// The path of a URL like `mailto:`, instead of segments.
    pub opaque: Option<String>,
    pub query: Option<String>,
    pub fragment: Option<String>,
}

impl Record {
    fn is_special(&self) -> bool {
        is_special(&self.scheme)
    }

    fn has_credentials(&self) -> bool {
        !self.username.is_empty() || !self.password.is_empty()
    }

    /// Whether the URL can have a username, password and port.
    pub fn may_have_credentials(&self) -> bool {
        self.scheme != "file" && self.host.as_deref().is_some_and(|h| !h.is_empty())
    }

    /// Drops the last segment, but never a drive.
    fn shorten(&mut self) {
        if !(self.scheme == "file" && matches!(&self.path[..], [drive] if is_normalized_drive(drive))) {
            self.path.pop();
        }
    }

    fn take_authority(&mut self, from: &Record) {
        self.username.clone_from(&from.username);
        self.password.clone_from(&from.password);
        self.host.clone_from(&from.host);
        self.port = from.port;
    }

    pub fn pathname(&self) -> String {
        match &self.opaque {
            Some(path) => path.clone(),
            None => self.path.iter().flat_map(|s| ["/", s]).collect(),
        }
    }

    pub fn href(&self) -> String {
        let mut out = format!("{}:", self.scheme);
        if let Some(host) = &self.host {
            out.push_str("//");
            if self.has_credentials() {
                out.push_str(&self.username);
                if !self.password.is_empty() {
                    out.push(':');
                    out.push_str(&self.password);
                }
                out.push('@');
            }
            out.push_str(host);
            if let Some(port) = self.port {
                out.push_str(&format!(":{port}"));
            }
        } else if self.path.len() > 1 && self.path.first().is_some_and(String::is_empty) {
            out.push_str("/."); // else the empty first segment would read as an authority
        }
        out.push_str(&self.pathname());
        for (mark, part) in [('?', &self.query), ('#', &self.fragment)] {
            if let Some(part) = part {
                out.push(mark);
                out.push_str(part);
            }
        }
        out
    }

    pub fn origin(&self) -> String {
        match (&*self.scheme, &self.opaque) {
            ("http" | "https" | "ws" | "wss" | "ftp", _) => {
                let port = self.port.map(|p| format!(":{p}")).unwrap_or_default();
                format!("{}://{}{port}", self.scheme, self.host.as_deref().unwrap_or_default())
            }
            ("blob", Some(path)) => match parse(path, None) {
                Some(inner) if matches!(&*inner.scheme, "http" | "https") => inner.origin(),
                _ => "null".into(),
            },
            _ => "null".into(),
        }
    }
}

fn is_special(scheme: &str) -> bool {
    matches!(scheme, "http" | "https" | "ws" | "wss" | "ftp" | "file")
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        "ftp" => Some(21),
        _ => None,
    }
}

pub(super) fn is_c0(c: char) -> bool {
    !matches!(c, ' '..='~')
}

fn in_fragment(c: char) -> bool {
    is_c0(c) || matches!(c, ' ' | '"' | '<' | '>' | '`')
}

fn in_query(c: char) -> bool {
    is_c0(c) || matches!(c, ' ' | '"' | '#' | '<' | '>')
}

fn in_special_query(c: char) -> bool {
    in_query(c) || c == '\''
}

fn in_path(c: char) -> bool {
    in_query(c) || matches!(c, '?' | '^' | '`' | '{' | '}')
}

fn in_userinfo(c: char) -> bool {
    in_path(c) || matches!(c, '/' | ':' | ';' | '=' | '@' | '[' | '\\' | ']' | '|')
}

/// Bytes of a special URL's path and query that the parser takes over as they are.
pub(super) fn stays_in_path(b: u8) -> bool {
    b.is_ascii() && b != b'\\' && !in_path(char::from(b))
}

pub(super) fn stays_in_query(b: u8) -> bool {
    b.is_ascii() && !in_special_query(char::from(b))
}

/// Appends a character, percent-encoded if it is in the set.
pub(super) fn encode(out: &mut String, c: char, set: fn(char) -> bool) {
    if !set(c) {
        out.push(c);
        return;
    }
    for b in c.encode_utf8(&mut [0; 4]).bytes() {
        out.push('%');
        for digit in [b >> 4, b & 15] {
            out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase());
        }
    }
}

pub(super) fn userinfo(value: &str) -> String {
    let mut out = String::new();
    value.chars().for_each(|c| encode(&mut out, c, in_userinfo));
    out
}

fn is_drive(s: &str) -> bool {
    matches!(s.as_bytes(), [letter, b':' | b'|'] if letter.is_ascii_alphabetic())
}

fn is_normalized_drive(s: &str) -> bool {
    is_drive(s) && s.ends_with(':')
}

fn is_single_dot(s: &str) -> bool {
    s == "." || s.eq_ignore_ascii_case("%2e")
}

fn is_double_dot(s: &str) -> bool {
    matches!(s.len(), 2 | 4 | 6)
        && [".", "%2e"].iter().any(|dot| {
            let (first, rest) = s.split_at_checked(dot.len()).unwrap_or_default();
            first.eq_ignore_ascii_case(dot) && is_single_dot(rest)
        })
}

/// Where the parser is; as state override, what a setter begins with.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum State {
    SchemeStart,
    Scheme,
    NoScheme,
    SpecialRelativeOrAuthority,
    PathOrAuthority,
    Relative,
    RelativeSlash,
    SpecialAuthoritySlashes,
    SpecialAuthorityIgnoreSlashes,
    Authority,
    Host,
    Hostname,
    Port,
    File,
    FileSlash,
    FileHost,
    PathStart,
    Path,
    OpaquePath,
    Query,
    Fragment,
}

/// How a state leaves: go on, stop with what there is, or fail.
enum Flow {
    On,
    Stop,
    Fail,
}

use Flow::{Fail, On, Stop};

struct Parser<'a> {
    input: Vec<char>,
    /// Index of the character looked at; -1 to begin again.
    at: isize,
    url: &'a mut Record,
    base: Option<&'a Record>,
    state: State,
    /// A setter is at work.
    given: Option<State>,
    buffer: String,
    at_sign_seen: bool,
    in_brackets: bool,
    password_seen: bool,
}

/// Parses a URL, relative to a base if there is one.
pub(super) fn parse(input: &str, base: Option<&Record>) -> Option<Record> {
    let mut url = Record::default();
    let trimmed = input.trim_matches(|c| c <= ' ');
    Parser::new(trimmed, &mut url, base, State::SchemeStart, None).run().then_some(url)
}

/// Parses a part of a URL, as a setter does; what fails keeps what was set so far.
pub(super) fn reparse(url: &mut Record, input: &str, state: State) {
    Parser::new(input, url, None, state, Some(state)).run();
}

/// The query or fragment that a setter's value makes; none for an empty value.
pub(super) fn reparse_tail(url: &mut Record, value: &str, mark: char, state: State) -> Option<String> {
    if value.is_empty() {
        return None;
    }
    let mut scratch = Record { scheme: url.scheme.clone(), query: Some(String::new()), fragment: Some(String::new()), ..Record::default() };
    reparse(&mut scratch, value.strip_prefix(mark).unwrap_or(value), state);
    if state == State::Query { scratch.query } else { scratch.fragment }
}

impl<'a> Parser<'a> {
    fn new(input: &str, url: &'a mut Record, base: Option<&'a Record>, state: State, given: Option<State>) -> Self {
        let input = input.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
        let buffer = String::new();
        Self { input, at: 0, url, base, state, given, buffer, at_sign_seen: false, in_brackets: false, password_seen: false }
    }

    fn run(mut self) -> bool {
        loop {
            let c = self.peek(0);
            match self.step(c) {
                On => {}
                Stop => return true,
                Fail => return false,
            }
            // The end itself is looked at once, by each state that comes to it.
            if self.at >= self.input.len() as isize {
                return true;
            }
            self.at += 1;
        }
    }

    fn peek(&self, ahead: isize) -> Option<char> {
        usize::try_from(self.at + ahead).ok().and_then(|i| self.input.get(i)).copied()
    }

    fn go(&mut self, state: State) -> Flow {
        self.state = state;
        On
    }

    /// To a state that looks at the same character.
    fn back(&mut self, state: State) -> Flow {
        self.at -= 1;
        self.go(state)
    }

    fn query(&mut self) -> Flow {
        self.url.query = Some(String::new());
        self.go(State::Query)
    }

    fn fragment(&mut self) -> Flow {
        self.url.fragment = Some(String::new());
        self.go(State::Fragment)
    }

    /// The end of an authority or of one of its parts.
    fn ends_authority(&self, c: Option<char>) -> bool {
        matches!(c, None | Some('/' | '?' | '#')) || (c == Some('\\') && self.url.is_special())
    }

    fn is_slash(&self, c: Option<char>) -> bool {
        c == Some('/') || (c == Some('\\') && self.url.is_special())
    }

    fn drive_ahead(&self) -> bool {
        let [Some(letter), Some(':' | '|')] = [self.peek(0), self.peek(1)] else {
            return false;
        };
        letter.is_ascii_alphabetic() && matches!(self.peek(2), None | Some('/' | '\\' | '?' | '#'))
    }

    fn step(&mut self, c: Option<char>) -> Flow {
        match self.state {
            State::SchemeStart => self.scheme_start(c),
            State::Scheme => self.scheme(c),
            State::NoScheme => self.no_scheme(c),
            State::SpecialRelativeOrAuthority if c == Some('/') && self.peek(1) == Some('/') => {
                self.at += 1;
                self.go(State::SpecialAuthorityIgnoreSlashes)
            }
            State::SpecialRelativeOrAuthority => self.back(State::Relative),
            State::PathOrAuthority if c == Some('/') => self.go(State::Authority),
            State::PathOrAuthority => self.back(State::Path),
            State::Relative => self.relative(c),
            State::RelativeSlash => self.relative_slash(c),
            State::SpecialAuthoritySlashes if c == Some('/') && self.peek(1) == Some('/') => {
                self.at += 1;
                self.go(State::SpecialAuthorityIgnoreSlashes)
            }
            State::SpecialAuthoritySlashes => self.back(State::SpecialAuthorityIgnoreSlashes),
            State::SpecialAuthorityIgnoreSlashes if matches!(c, Some('/' | '\\')) => On,
            State::SpecialAuthorityIgnoreSlashes => self.back(State::Authority),
            State::Authority => self.authority(c),
            State::Host | State::Hostname => self.host(c),
            State::Port => self.port(c),
            State::File => self.file(c),
            State::FileSlash => self.file_slash(c),
            State::FileHost => self.file_host(c),
            State::PathStart => self.path_start(c),
            State::Path => self.path(c),
            State::OpaquePath => self.opaque_path(c),
            State::Query => self.in_query(c),
            State::Fragment => self.in_fragment(c),
        }
    }

    fn scheme_start(&mut self, c: Option<char>) -> Flow {
        match c {
            Some(c) if c.is_ascii_alphabetic() => {
                self.buffer.push(c.to_ascii_lowercase());
                self.go(State::Scheme)
            }
            _ if self.given.is_none() => self.back(State::NoScheme),
            _ => Fail,
        }
    }

    fn scheme(&mut self, c: Option<char>) -> Flow {
        match c {
            Some(c) if c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.') => {
                self.buffer.push(c.to_ascii_lowercase());
                On
            }
            Some(':') if self.given.is_some() => self.change_scheme(),
            Some(':') => self.after_scheme(),
            _ if self.given.is_none() => {
                self.buffer.clear();
                self.at = -1;
                self.go(State::NoScheme)
            }
            _ => Fail,
        }
    }

    fn change_scheme(&mut self) -> Flow {
        let new = std::mem::take(&mut self.buffer);
        let url = &mut *self.url;
        let refused = url.is_special() != is_special(&new)
            || (new == "file" && (url.has_credentials() || url.port.is_some()))
            || (url.scheme == "file" && url.host.as_deref().unwrap_or_default().is_empty());
        if !refused {
            url.scheme = new;
            url.port = url.port.filter(|p| default_port(&url.scheme) != Some(*p));
        }
        Stop
    }

    fn after_scheme(&mut self) -> Flow {
        self.url.scheme = std::mem::take(&mut self.buffer);
        let same = self.base.is_some_and(|b| b.scheme == self.url.scheme);
        match () {
            () if self.url.scheme == "file" => self.go(State::File),
            () if self.url.is_special() && same => self.go(State::SpecialRelativeOrAuthority),
            () if self.url.is_special() => self.go(State::SpecialAuthoritySlashes),
            () if self.peek(1) == Some('/') => {
                self.at += 1;
                self.go(State::PathOrAuthority)
            }
            () => {
                self.url.opaque = Some(String::new());
                self.go(State::OpaquePath)
            }
        }
    }

    fn no_scheme(&mut self, c: Option<char>) -> Flow {
        let Some(base) = self.base else { return Fail };
        match (&base.opaque, c) {
            (Some(_), Some('#')) => {
                self.url.scheme.clone_from(&base.scheme);
                self.url.opaque.clone_from(&base.opaque);
                self.url.query.clone_from(&base.query);
                self.fragment()
            }
            (Some(_), _) => Fail,
            _ if base.scheme == "file" => self.back(State::File),
            _ => self.back(State::Relative),
        }
    }

    fn relative(&mut self, c: Option<char>) -> Flow {
        let Some(base) = self.base else { return Fail };
        self.url.scheme.clone_from(&base.scheme);
        if self.is_slash(c) {
            return self.go(State::RelativeSlash);
        }
        self.url.take_authority(base);
        self.relative_path(base, c)
    }

    /// Continues from the base's path and query.
    fn relative_path(&mut self, base: &Record, c: Option<char>) -> Flow {
        self.url.path.clone_from(&base.path);
        self.url.query.clone_from(&base.query);
        match c {
            Some('?') => self.query(),
            Some('#') => self.fragment(),
            None => On,
            Some(_) => {
                self.url.query = None;
                if self.url.scheme == "file" && self.drive_ahead() {
                    self.url.path.clear();
                } else {
                    self.url.shorten();
                }
                self.back(State::Path)
            }
        }
    }

    fn relative_slash(&mut self, c: Option<char>) -> Flow {
        if self.url.is_special() && self.is_slash(c) {
            return self.go(State::SpecialAuthorityIgnoreSlashes);
        }
        if c == Some('/') {
            return self.go(State::Authority);
        }
        if let Some(base) = self.base {
            self.url.take_authority(base);
        }
        self.back(State::Path)
    }

    fn authority(&mut self, c: Option<char>) -> Flow {
        if c == Some('@') {
            let seen = std::mem::replace(&mut self.at_sign_seen, true);
            let buffer = std::mem::take(&mut self.buffer);
            for c in if seen { "@" } else { "" }.chars().chain(buffer.chars()) {
                match c {
                    ':' if !self.password_seen => self.password_seen = true,
                    c if self.password_seen => encode(&mut self.url.password, c, in_userinfo),
                    c => encode(&mut self.url.username, c, in_userinfo),
                }
            }
            return On;
        }
        if self.ends_authority(c) {
            if self.at_sign_seen && self.buffer.is_empty() {
                return Fail;
            }
            self.at -= self.buffer.chars().count() as isize + 1;
            self.buffer.clear();
            return self.go(State::Host);
        }
        self.buffer.extend(c);
        On
    }

    fn host(&mut self, c: Option<char>) -> Flow {
        if self.given.is_some() && self.url.scheme == "file" {
            return self.back(State::FileHost);
        }
        if c == Some(':') && !self.in_brackets {
            if self.buffer.is_empty() || self.given == Some(State::Hostname) {
                return Fail;
            }
            return if self.set_host() { self.go(State::Port) } else { Fail };
        }
        if self.ends_authority(c) {
            let empty = self.buffer.is_empty();
            let needed = self.url.is_special() || (self.given.is_some() && (self.url.has_credentials() || self.url.port.is_some()));
            if (empty && needed) || !self.set_host() {
                return Fail;
            }
            return if self.given.is_some() { Stop } else { self.back(State::PathStart) };
        }
        match c {
            Some('[') => self.in_brackets = true,
            Some(']') => self.in_brackets = false,
            _ => {}
        }
        self.buffer.extend(c);
        On
    }

    fn set_host(&mut self) -> bool {
        let Some(host) = host::parse(&self.buffer, self.url.is_special()) else {
            return false;
        };
        self.url.host = Some(host);
        self.buffer.clear();
        true
    }

    fn port(&mut self, c: Option<char>) -> Flow {
        match c {
            Some(c) if c.is_ascii_digit() => {
                self.buffer.push(c);
                return On;
            }
            c if self.ends_authority(c) || self.given.is_some() => {}
            _ => return Fail,
        }
        if !self.buffer.is_empty() {
            let digits = self.buffer.trim_start_matches('0');
            let Ok(port) = (if digits.is_empty() { Ok(0) } else { digits.parse::<u16>() }) else {
                return Fail;
            };
            self.url.port = Some(port).filter(|p| default_port(&self.url.scheme) != Some(*p));
            self.buffer.clear();
            if self.given.is_some() {
                return Stop;
            }
        }
        if self.given.is_some() { Fail } else { self.back(State::PathStart) }
    }

    fn file(&mut self, c: Option<char>) -> Flow {
        self.url.scheme = "file".into();
        self.url.host = Some(String::new());
        if matches!(c, Some('/' | '\\')) {
            return self.go(State::FileSlash);
        }
        match self.base.filter(|b| b.scheme == "file") {
            Some(base) => {
                self.url.host.clone_from(&base.host);
                self.relative_path(base, c)
            }
            None => self.back(State::Path),
        }
    }

    fn file_slash(&mut self, c: Option<char>) -> Flow {
        if matches!(c, Some('/' | '\\')) {
            return self.go(State::FileHost);
        }
        if let Some(base) = self.base.filter(|b| b.scheme == "file") {
            self.url.host.clone_from(&base.host);
            if let Some(drive) = base.path.first().filter(|s| is_normalized_drive(s))
                && !self.drive_ahead()
            {
                self.url.path.push(drive.clone());
            }
        }
        self.back(State::Path)
    }

    fn file_host(&mut self, c: Option<char>) -> Flow {
        if !matches!(c, None | Some('/' | '\\' | '?' | '#')) {
            self.buffer.extend(c);
            return On;
        }
        if self.given.is_none() && is_drive(&self.buffer) {
            return self.back(State::Path); // the buffer is the path's first segment
        }
        if self.buffer.is_empty() {
            self.url.host = Some(String::new());
        } else {
            if !self.set_host() {
                return Fail;
            }
            self.url.host = self.url.host.take().map(|h| if h == "localhost" { String::new() } else { h });
        }
        if self.given.is_some() { Stop } else { self.back(State::PathStart) }
    }

    fn path_start(&mut self, c: Option<char>) -> Flow {
        match c {
            _ if self.url.is_special() => {
                if self.is_slash(c) {
                    self.go(State::Path)
                } else {
                    self.back(State::Path)
                }
            }
            Some('?') if self.given.is_none() => self.query(),
            Some('#') if self.given.is_none() => self.fragment(),
            Some('/') => self.go(State::Path),
            Some(_) => self.back(State::Path),
            None => {
                if self.given.is_some() && self.url.host.is_none() {
                    self.url.path.push(String::new());
                }
                On
            }
        }
    }

    fn path(&mut self, c: Option<char>) -> Flow {
        let slash = self.is_slash(c);
        let ends = c.is_none() || slash || (self.given.is_none() && matches!(c, Some('?' | '#')));
        if !ends {
            if let Some(c) = c {
                encode(&mut self.buffer, c, in_path);
            }
            return On;
        }
        self.end_segment(slash);
        match c {
            Some('?') => self.query(),
            Some('#') => self.fragment(),
            _ => On,
        }
    }

    fn end_segment(&mut self, slash: bool) {
        let mut segment = std::mem::take(&mut self.buffer);
        let double = is_double_dot(&segment);
        if double {
            self.url.shorten();
        }
        if double || is_single_dot(&segment) {
            if !slash {
                self.url.path.push(String::new());
            }
            return;
        }
        if self.url.scheme == "file" && self.url.path.is_empty() && is_drive(&segment) {
            segment.replace_range(1..2, ":");
        }
        self.url.path.push(segment);
    }

    fn opaque_path(&mut self, c: Option<char>) -> Flow {
        let next = self.peek(1);
        let Some(path) = &mut self.url.opaque else {
            return Fail;
        };
        match c {
            Some('?') => return self.query(),
            Some('#') => return self.fragment(),
            // A space before the end of the path would be lost when the query or fragment goes.
            Some(' ') if matches!(next, Some('?' | '#')) => path.push_str("%20"),
            Some(c) => encode(path, c, is_c0),
            None => {}
        }
        On
    }

    fn in_query(&mut self, c: Option<char>) -> Flow {
        if c == Some('#') && self.given.is_none() {
            return self.fragment();
        }
        let set = if self.url.is_special() { in_special_query } else { in_query };
        if let (Some(c), Some(query)) = (c, &mut self.url.query) {
            encode(query, c, set);
        }
        On
    }

    fn in_fragment(&mut self, c: Option<char>) -> Flow {
        if let (Some(c), Some(fragment)) = (c, &mut self.url.fragment) {
            encode(fragment, c, in_fragment);
        }
        On
    }
}
