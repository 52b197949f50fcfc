//! The name under which a worker is deployed.

use std::{fmt, str::FromStr};

use crate::{ParseError, text_id};

/// A DNS label: 1 to 63 of `a–z 0–9 -`, no hyphen at either end — because a worker answers at `<name>.<domain>`. Lower case
/// only, so that one worker has one spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerName(String);

impl WorkerName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WorkerName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fits = (1..=63).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseError::new(text, "a worker name (1 to 63 of a-z, 0-9 and -, no hyphen at either end)"))
        }
    }
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for WorkerName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

text_id!(WorkerName);

#[cfg(test)]
mod tests {
    use super::WorkerName;

    #[test]
    fn is_a_dns_label() {
        let long = "a".repeat(63);
        for good in ["a", "hello", "a-b", "0", &long] {
            assert!(good.parse::<WorkerName>().is_ok(), "{good}");
        }
        let longer = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "é", "a b", "../x", &longer] {
            assert!(bad.parse::<WorkerName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn refuses_a_bad_name_inside_json() {
        assert!(serde_json::from_str::<WorkerName>("\"a/b\"").is_err());
        assert_eq!(serde_json::from_str::<WorkerName>("\"ab\"").unwrap().as_str(), "ab");
    }
}
