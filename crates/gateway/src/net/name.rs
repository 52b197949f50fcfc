//! Names of hosts as DNS has them, and patterns of names. Pure.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A name: labels of letters, digits, `-` and `_`, in lower case, without the last dot; at most 253 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Name(String);

/// Why something is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a host")]
pub struct NameError(pub String);

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = text.strip_suffix('.').unwrap_or(text);
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(allowed);
        // What ends with a number is an address to some programs, however it is written.
        let numeric = plain.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x"));
        if plain.len() > 253 || numeric || !plain.split('.').all(label) {
            return Err(NameError(text.chars().take(80).collect()));
        }
        Ok(Self(plain.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Name {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last two labels: whose name it is, nearly.
    #[must_use]
    pub fn parent(&self) -> &str {
        let mut dots = self.0.rmatch_indices('.').map(|(at, _)| at);
        dots.nth(1).map_or(&self.0, |at| &self.0[at + 1..])
    }
}

/// Names meant: one (`example.com`), all below one (`*.example.com`), or all (`*`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Pattern {
    /// Every name.
    Any,
    /// This one.
    Exactly(Name),
    /// Every name that ends with this one and has more before it.
    Below(Name),
}

impl FromStr for Pattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("*.") {
            _ if text == "*" => Ok(Self::Any),
            Some(parent) => parent.parse().map(Self::Below),
            None => text.parse().map(Self::Exactly),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exactly(name) => write!(f, "{name}"),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

impl Pattern {
    /// Whether it means this name.
    #[must_use]
    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(one) => one == name,
            Self::Below(parent) => name.0.strip_suffix(&parent.0).is_some_and(|before| before.len() > 1 && before.ends_with('.')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_dns_does() {
        assert_eq!("Example.COM.".parse::<Name>().unwrap().as_str(), "example.com");
        for wrong in
            ["", ".", "a..b", "a b", "exa\0mple", "ex\u{e4}mple.com", "127.0.0.1", "1", "0x7f.0x1", &"a.".repeat(130), "a/b", "[::1]"]
        {
            assert!(wrong.parse::<Name>().is_err(), "{wrong:?}");
        }
        assert_eq!("a.b.example.com".parse::<Name>().unwrap().parent(), "example.com");
        assert_eq!("localhost".parse::<Name>().unwrap().parent(), "localhost");
    }

    #[test]
    fn a_pattern_means_whole_labels() {
        let matches = |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().matches(&name.parse().unwrap());
        assert!(matches("*.example.com", "a.example.com") && matches("*.example.com", "a.b.EXAMPLE.com") && matches("*", "x.org"));
        assert!(matches("example.com", "example.com."));
        for (pattern, name) in [
            ("*.example.com", "example.com"),
            ("*.example.com", "badexample.com"),
            ("example.com", "a.example.com"),
            ("example.com", "example.com.evil.org"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
