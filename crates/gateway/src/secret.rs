//! Secrets at the edge: a worker holds a placeholder, a random text; the way out puts the secret in its place — in the values of request
//! headers only, and only in requests to hosts that the secret is for. To every other host the placeholder goes as it is.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use http::{HeaderMap, HeaderValue, Uri};

/// What every placeholder begins with, so that a person recognises one.
const PREFIX: &str = "skep-secret-";

/// Shortest secret, in bytes: what is shorter could be guessed, and would be found by chance in any text.
const VALUE_BYTES_MIN: usize = 8;

/// Longest secret, in bytes: it goes into a header.
const VALUE_BYTES_MAX: usize = 16 << 10;

/// Most hosts of a secret.
const HOSTS_MAX: usize = 32;

/// Why a secret is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Not a text for headers.
    #[error("a secret is {VALUE_BYTES_MIN} to {VALUE_BYTES_MAX} visible ASCII characters, spaces not at its ends")]
    Value,
    /// Nowhere to go, or too many places.
    #[error("a secret is for 1 to {HOSTS_MAX} hosts")]
    Hosts,
}

/// Why a text names no hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a host: write api.example.com, *.example.com, api.example.com:8443, or http://… where TLS is not spoken")]
pub struct HostRuleError(String);

/// Hosts that a secret may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule {
    /// Lower case; with `*.` it is any host below.
    host: String,
    below: bool,
    port: u16,
    secure: bool,
}

impl FromStr for HostRule {
    type Err = HostRuleError;

    fn from_str(text: &str) -> Result<Self, HostRuleError> {
        let wrong = || HostRuleError(text.chars().take(80).collect());
        let (secure, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return Err(wrong()),
            None => (true, text),
        };
        let (below, rest) = rest.strip_prefix("*.").map_or((false, rest), |rest| (true, rest));
        // What is after the host is read as a program would read the URL of a request.
        let uri: Uri = format!("http://{rest}/").parse().map_err(|_| wrong())?;
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let plain = uri.authority().is_some_and(|authority| authority.as_str() == rest && !rest.contains('@'));
        let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let good = host.starts_with('[') || host.split('.').all(word);
        // The parser takes any text for a port and then says that there is none.
        let plain = plain && (uri.port_u16().is_some() || rest.len() == host.len());
        // Everything below a top-level domain is everybody.
        if !plain || !good || (below && !host.contains('.')) {
            return Err(wrong());
        }
        Ok(Self { host, below, port, secure })
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, below, port, secure } = self;
        let (scheme, usual) = if *secure { ("", 443) } else { ("http://", 80) };
        write!(f, "{scheme}{}{host}", if *below { "*." } else { "" })?;
        if *port == usual { Ok(()) } else { write!(f, ":{port}") }
    }
}

impl HostRule {
    fn allows(&self, uri: &Uri) -> bool {
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return false,
        };
        let host = uri.host().unwrap_or_default();
        let named = match self.below {
            false => host.eq_ignore_ascii_case(&self.host),
            true => host.to_ascii_lowercase().strip_suffix(&self.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        };
        named && secure == self.secure && uri.port_u16().unwrap_or(if secure { 443 } else { 80 }) == self.port
    }
}

/// A secret. Its value is never shown.
pub struct Secret {
    value: HeaderValue,
    hosts: Vec<HostRule>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Secret {
    /// A secret for these hosts.
    ///
    /// # Errors
    /// When the value cannot stand in a header or is too short to be one, or when it is for nobody.
    pub fn new(value: &str, hosts: Vec<HostRule>) -> Result<Self, SecretError> {
        let visible = value.bytes().all(|b| (0x20..0x7f).contains(&b)) && value.trim() == value;
        if !visible || !(VALUE_BYTES_MIN..=VALUE_BYTES_MAX).contains(&value.len()) {
            return Err(SecretError::Value);
        }
        if !(1..=HOSTS_MAX).contains(&hosts.len()) {
            return Err(SecretError::Hosts);
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| SecretError::Value)?;
        value.set_sensitive(true);
        Ok(Self { value, hosts })
    }

    /// Where it may go.
    #[must_use]
    pub fn hosts(&self) -> &[HostRule] {
        &self.hosts
    }

    fn text(&self) -> &str {
        self.value.to_str().unwrap_or_default()
    }
}

/// Where secrets are kept. Asked at each request, so that a new value holds at once.
pub trait Vault: Send + Sync {
    /// The secret of that name.
    fn secret(&self, name: &str) -> Option<Arc<Secret>>;
}

/// A header grew beyond what any server takes.
#[derive(Debug, thiserror::Error)]
#[error("a header with its secret is too long, or not a header any more")]
pub struct FillError;

/// The placeholders of one worker.
pub struct Placeholders {
    vault: Arc<dyn Vault>,
    /// Placeholder and name of the secret.
    texts: Vec<(String, String)>,
}

impl fmt::Debug for Placeholders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.texts.iter().map(|(_, name)| name)).finish()
    }
}

impl Placeholders {
    /// None yet, for secrets of this vault.
    #[must_use]
    pub fn of(vault: Arc<dyn Vault>) -> Self {
        Self { vault, texts: Vec::new() }
    }

    /// A new placeholder; `random` makes it one that nobody can guess.
    pub fn add(&mut self, name: &str, random: [u8; 20]) -> String {
        use fmt::Write as _;
        let text = random.iter().fold(PREFIX.to_owned(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        self.texts.push((text.clone(), name.to_owned()));
        text
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Puts secrets in place of their placeholders, in the values of headers to a host that they are for.
    ///
    /// # Errors
    /// When a header becomes none.
    pub fn fill(&self, uri: &Uri, headers: &mut HeaderMap) -> Result<(), FillError> {
        for value in headers.values_mut() {
            let Ok(text) = value.to_str() else { continue };
            if !text.contains(PREFIX) {
                continue;
            }
            let mut filled = Cow::Borrowed(text);
            for (placeholder, name) in self.texts.iter().filter(|(placeholder, _)| text.contains(placeholder.as_str())) {
                let Some(secret) = self.vault.secret(name).filter(|secret| secret.hosts.iter().any(|rule| rule.allows(uri))) else {
                    continue;
                };
                let more = filled.matches(placeholder.as_str()).count() * secret.text().len();
                if filled.len() + more > 2 * VALUE_BYTES_MAX {
                    return Err(FillError);
                }
                filled = Cow::Owned(filled.replace(placeholder.as_str(), secret.text()));
            }
            if let Cow::Owned(filled) = filled {
                *value = HeaderValue::from_str(&filled).map_err(|_| FillError)?;
                value.set_sensitive(true);
            }
        }
        Ok(())
    }

    /// A text with placeholders in place of secrets. A matter of tidiness, not a wall: a host that a secret is for can send it back in
    /// any disguise.
    #[must_use]
    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut hidden = Cow::Borrowed(text);
        for (placeholder, name) in &self.texts {
            if let Some(secret) = self.vault.secret(name)
                && hidden.contains(secret.text())
            {
                hidden = Cow::Owned(hidden.replace(secret.text(), placeholder));
            }
        }
        hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(Arc<Secret>);

    impl Vault for One {
        fn secret(&self, name: &str) -> Option<Arc<Secret>> {
            (name == "KEY").then(|| Arc::clone(&self.0))
        }
    }

    const VALUE: &str = "hunter2-hunter2";

    fn placeholders(hosts: &[&str]) -> (Placeholders, String) {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let mut placeholders = Placeholders::of(Arc::new(One(Arc::new(Secret::new(VALUE, hosts).unwrap()))));
        let text = placeholders.add("KEY", [7; 20]);
        (placeholders, text)
    }

    fn sent(hosts: &[&str], url: &str) -> String {
        let (placeholders, text) = placeholders(hosts);
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {text}").parse().unwrap());
        placeholders.fill(&url.parse().unwrap(), &mut headers).unwrap();
        headers["authorization"].to_str().unwrap().replace(&text, "PLACEHOLDER")
    }

    #[test]
    fn only_the_named_hosts_get_the_secret() {
        for (rule, url) in [
            ("api.example.com", "https://api.example.com/x"),
            ("api.example.com", "https://API.example.com:443/"),
            ("*.example.com", "https://a.b.example.com/"),
            ("api.example.com:8443", "https://api.example.com:8443/"),
            ("http://127.0.0.1:81", "http://127.0.0.1:81/"),
            ("[2606:4700::1111]", "https://[2606:4700::1111]/"),
        ] {
            assert_eq!(sent(&[rule], url), format!("Bearer {VALUE}"), "{rule} {url}");
        }
        for (rule, url) in [
            ("api.example.com", "https://evil.com/"),
            ("api.example.com", "http://api.example.com/"),
            ("api.example.com", "http://api.example.com:443/"),
            ("api.example.com", "https://api.example.com:444/"),
            ("api.example.com", "https://api.example.com.evil.com/"),
            ("api.example.com", "https://api.example.com@evil.com/"),
            ("api.example.com", "https://api.example.com./"),
            ("api.example.com", "https://evil.com/?api.example.com"),
            ("*.example.com", "https://example.com/"),
            ("*.example.com", "https://evilexample.com/"),
            ("*.example.com", "https://.example.com/"),
            ("http://127.0.0.1:81", "https://127.0.0.1:81/"),
        ] {
            assert_eq!(sent(&[rule], url), "Bearer PLACEHOLDER", "{rule} {url}");
        }
    }

    #[test]
    fn nonsense_is_no_host() {
        for text in
            ["", "*", "*.com", "*.*.example.com", "a b", "a/b", "user@host", "ftp://x", "https://", "a:port", "x.com?y", "ex*mple.com"]
        {
            assert!(text.parse::<HostRule>().is_err(), "{text}");
        }
        for text in ["api.example.com", "*.example.com", "http://localhost:8080", "api.example.com:8443"] {
            assert_eq!(text.parse::<HostRule>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_no_secret() {
        let hosts = || vec!["a.example.com".parse().unwrap()];
        for value in ["", "short", "with\r\nx-injected: 1", " padded-at-its-ends ", "nul\0nul\0nul", &"x".repeat(20_000)] {
            assert_eq!(Secret::new(value, hosts()).unwrap_err(), SecretError::Value, "{value:?}");
        }
        assert_eq!(Secret::new(VALUE, Vec::new()).unwrap_err(), SecretError::Hosts);
        assert!(!format!("{:?}", Secret::new(VALUE, hosts()).unwrap()).contains(VALUE));
    }

    #[test]
    fn a_header_of_many_placeholders_is_refused_rather_than_blown_up() {
        let (placeholders, text) = placeholders(&["a.example.com"]);
        let mut headers = HeaderMap::new();
        headers.insert("x", text.repeat(5_000).parse().unwrap());
        assert!(placeholders.fill(&"https://a.example.com/".parse().unwrap(), &mut headers).is_err());
    }

    #[test]
    fn what_comes_back_is_hidden() {
        let (placeholders, text) = placeholders(&["a.example.com"]);
        assert_eq!(placeholders.hide(&format!("you sent {VALUE}!")), format!("you sent {text}!"));
        assert!(matches!(placeholders.hide("nothing"), Cow::Borrowed(_)));
    }
}
