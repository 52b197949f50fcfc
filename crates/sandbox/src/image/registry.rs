//! Images from a registry: the pulling half of the OCI distribution protocol.
//!
//! The registry is hostile, and so is whoever named it: where it may be is decided by the node ([`Reach`]), for each address that a name stands for
//! and for each redirect; documents have bounds; what has a digest is compared with it. Credentials go to the registry and to the place it names
//! for tokens, over TLS only, and to nowhere that either redirects to. It is not: what becomes of the layers (`oci.rs`).

use std::{
    fmt,
    io::Read,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::Engine as _;
use serde::Deserialize;
use ureq::{
    Agent, Body,
    config::Config,
    http::{Response, StatusCode, Uri, header},
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use super::{
    Credentials, ImageError, Reach,
    making::{Level, Log},
    oci::{Blob, Descriptor, Digest, Document, Found, MOST_CONFIG, MOST_MANIFEST, Next, Open, Opened, Platform},
};

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                        application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
const MOST_TOKEN: u64 = 256 << 10;
const MOST_REDIRECTS: usize = 5;
/// Indexes within indexes.
const MOST_STEPS: usize = 4;

/// Which image of which registry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reference {
    host: String,
    repository: String,
    /// A tag, or a digest as it is written.
    version: String,
    digest: Option<Digest>,
}

impl Reference {
    /// As it is written everywhere: `debian:12`, `ghcr.io/owner/name@sha256:…`.
    fn parse(text: &str) -> Result<Self, ImageError> {
        let refuse = || ImageError::Reference(text.chars().take(200).collect());
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::try_from(digest.to_owned()).map_err(|_| refuse())?)),
            None => (text, None),
        };
        let (host, path) = match rest.split_once('/') {
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path.to_owned()),
            Some(_) => ("docker.io", rest.to_owned()),
            None => ("docker.io", format!("library/{rest}")),
        };
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository.to_owned(), tag.to_owned()),
            None => (path, "latest".to_owned()),
        };
        let host_ok = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':')) && host.len() <= 255;
        let step_ok = |step: &str| {
            let plain = step.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'));
            plain && step.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        };
        let tag_ok =
            tag.len() <= 128 && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) && !tag.is_empty();
        if !host_ok || repository.len() > 255 || !repository.split('/').all(step_ok) || !tag_ok || tag.starts_with(['.', '-']) {
            return Err(refuse());
        }
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host }.to_owned();
        let version = digest.as_ref().map_or(tag, ToString::to_string);
        Ok(Self { host, repository, version, digest })
    }

    /// Only this very machine is spoken to without TLS, as everywhere.
    fn scheme(&self) -> &'static str {
        if is_here(&self.host) { "http" } else { "https" }
    }
}

fn is_here(authority: &str) -> bool {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host == "localhost" || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// Resolves a name, and lets no address through that the node does not.
struct Judged {
    reach: Reach,
    inner: DefaultResolver,
}

impl fmt::Debug for Judged {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Judged")
    }
}

impl Resolver for Judged {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let all = self.inner.resolve(uri, config, timeout)?;
        let mut allowed = self.empty();
        let host = uri.host().unwrap_or_default();
        for address in all.iter().filter(|address| self.reach.allows(host, address.ip())) {
            allowed.push(*address);
        }
        if allowed.is_empty() {
            let told = format!("{host} is at no address that may be reached from here");
            return Err(ureq::Error::Io(std::io::Error::new(std::io::ErrorKind::PermissionDenied, told)));
        }
        Ok(allowed)
    }
}

impl Reach {
    fn allows(&self, host: &str, address: IpAddr) -> bool {
        (self.0)(host, address)
    }
}

/// One registry, as one puller sees it.
pub(super) struct Registry {
    agent: Agent,
    reference: Reference,
    credentials: Option<Credentials>,
    /// What the `Authorization` header says, once the registry has asked for one.
    proof: Mutex<Option<String>>,
}

impl Registry {
    pub(super) fn new(reference: &str, credentials: Option<Credentials>, reach: &Reach) -> Result<Arc<Self>, ImageError> {
        let reference = Reference::parse(reference)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent("skep")
            .timeout_resolve(Some(Duration::from_secs(15)))
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build();
        let resolver = Judged { reach: reach.clone(), inner: DefaultResolver::default() };
        let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
        Ok(Arc::new(Self { agent, reference, credentials, proof: Mutex::default() }))
    }

    /// Reads what the image is made of; layers are asked for when they are needed.
    pub(super) fn find(self: &Arc<Self>, platform: &Platform, log: &Log) -> Result<Found, ImageError> {
        let mut version = self.reference.version.clone();
        let mut digest = self.reference.digest.clone();
        for _ in 0..MOST_STEPS {
            let bytes = self.document(&format!("manifests/{version}"), MOST_MANIFEST)?;
            check(&bytes, digest.as_ref())?;
            log.say(Level::Info, format!("{}/{}: {}", self.reference.host, self.reference.repository, Digest::of(&bytes)));
            match Document::read(&bytes)?.next(platform)? {
                Next::Manifest(next) => (version, digest) = (next.digest.to_string(), Some(next.digest)),
                Next::Image { config, layers } => {
                    let bytes = self.document(&format!("blobs/{}", config.digest), MOST_CONFIG)?;
                    check(&bytes, Some(&config.digest))?;
                    return Ok(Found { config: bytes, layers: layers.into_iter().map(|layer| self.blob(layer)).collect() });
                }
            }
        }
        Err(ImageError::Document("manifest", "indexes that lead to indexes".into()))
    }

    fn blob(self: &Arc<Self>, layer: Descriptor) -> Blob {
        let (registry, digest) = (Arc::clone(self), layer.digest.clone());
        let open: Open = Box::new(move || {
            let mut response = registry.get(&format!("blobs/{}", layer.digest))?;
            let body = std::mem::replace(response.body_mut(), Body::builder().data(""));
            // One more than there is to read: at its limit the reader fails before it looks whether there is an end.
            Ok(Box::new(body.into_with_config().limit(layer.size.saturating_add(1)).reader()) as Opened)
        });
        Blob { digest: Some(digest), open }
    }

    fn document(&self, what: &str, most: u64) -> Result<Vec<u8>, ImageError> {
        let mut response = self.get(what)?;
        whole(response.body_mut(), most)
    }

    /// Asks, says who it is if it is asked to, and follows redirects; those without saying who it is.
    fn get(&self, what: &str) -> Result<Response<Body>, ImageError> {
        let Reference { host, repository, .. } = &self.reference;
        let url = format!("{}://{host}/v2/{repository}/{what}", self.reference.scheme());
        let proof = self.proof.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut response = self.send(&url, proof.as_deref())?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = header_of(&response, header::WWW_AUTHENTICATE.as_str()).unwrap_or_default();
            let proof = self.prove(&challenge)?;
            response = self.send(&url, Some(&proof))?;
            *self.proof.lock().unwrap_or_else(PoisonError::into_inner) = Some(proof);
        }
        for _ in 0..MOST_REDIRECTS {
            if !response.status().is_redirection() {
                break;
            }
            let to = header_of(&response, header::LOCATION.as_str()).unwrap_or_default();
            response = self.send(&self.absolute(&to)?, None)?;
        }
        match response.status() {
            StatusCode::OK => Ok(response),
            status => Err(ImageError::Registry { status: status.as_u16(), what: url }),
        }
    }

    fn send(&self, url: &str, proof: Option<&str>) -> Result<Response<Body>, ImageError> {
        let request = self.agent.get(url).header(header::ACCEPT, ACCEPTED);
        let request = match proof {
            Some(proof) => request.header(header::AUTHORIZATION, proof),
            None => request,
        };
        request.call().map_err(|error| ImageError::Unreachable(url.to_owned(), error.to_string()))
    }

    /// Where a redirect leads: never from TLS to none.
    fn absolute(&self, to: &str) -> Result<String, ImageError> {
        let base = format!("{}://{}", self.reference.scheme(), self.reference.host);
        let url = if to.starts_with('/') { format!("{base}{to}") } else { to.to_owned() };
        self.safe(url)
    }

    fn safe(&self, url: String) -> Result<String, ImageError> {
        let plain = url.strip_prefix("http://").is_some_and(|rest| is_here(rest.split('/').next().unwrap_or_default()));
        if url.starts_with("https://") || (plain && self.reference.scheme() == "http") {
            Ok(url)
        } else {
            Err(ImageError::Document("redirect or token's place", url.chars().take(200).collect()))
        }
    }

    /// What the registry wants to be told: a password, or a token that another place gives for it.
    fn prove(&self, challenge: &str) -> Result<String, ImageError> {
        let basic = self
            .credentials
            .as_ref()
            .map(|it| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", it.user, it.password))));
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        let refused = || ImageError::Registry { status: 401, what: format!("{}/{}", self.reference.host, self.reference.repository) };
        if scheme.eq_ignore_ascii_case("basic") {
            return basic.ok_or_else(refused);
        }
        let parameter = |name: &str| quoted(parameters, name);
        let realm = parameter("realm").ok_or_else(refused)?;
        let scope = format!("repository:{}:pull", self.reference.repository);
        let join = if realm.contains('?') { '&' } else { '?' };
        let service = parameter("service").map(|service| format!("service={}&", encoded(&service))).unwrap_or_default();
        let url = self.safe(format!("{realm}{join}{service}scope={}", encoded(&scope)))?;
        let mut response = self.send(&url, basic.as_deref())?;
        if response.status() != StatusCode::OK {
            return Err(ImageError::Registry { status: response.status().as_u16(), what: url });
        }
        let token: Token = serde_json::from_slice(&whole(response.body_mut(), MOST_TOKEN)?)
            .map_err(|error| ImageError::Document("token", error.to_string()))?;
        let token = token.token.or(token.access_token).filter(|token| token.bytes().all(|b| b.is_ascii_graphic())).ok_or_else(refused)?;
        Ok(format!("Bearer {token}"))
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

fn header_of(response: &Response<Body>, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

fn whole(body: &mut Body, most: u64) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    body.as_reader().take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(ImageError::Document("document", format!("more than {most} bytes")));
    }
    Ok(bytes)
}

fn check(bytes: &[u8], wanted: Option<&Digest>) -> Result<(), ImageError> {
    let found = Digest::of(bytes);
    match wanted {
        Some(wanted) if *wanted != found => Err(ImageError::Digest { wanted: wanted.to_string(), found: found.to_string() }),
        _ => Ok(()),
    }
}

/// `name="value"` among parameters of a challenge; a comma may be in the quotes.
fn quoted(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    while let Some((key, after)) = rest.split_once("=\"") {
        let (value, next) = after.split_once('"')?;
        if key.trim_start_matches([',', ' ']).eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
    None
}

fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_everywhere() {
        let read = |text: &str| Reference::parse(text).map(|it| (it.host, it.repository, it.version)).unwrap();
        let is = |host: &str, repository: &str, version: &str| (host.to_owned(), repository.to_owned(), version.to_owned());
        assert_eq!(read("debian"), is("registry-1.docker.io", "library/debian", "latest"));
        assert_eq!(read("debian:12"), is("registry-1.docker.io", "library/debian", "12"));
        assert_eq!(read("owner/name:v1"), is("registry-1.docker.io", "owner/name", "v1"));
        assert_eq!(read("localhost:5000/a/b"), is("localhost:5000", "a/b", "latest"));
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(read(&format!("ghcr.io/a/b:x@{digest}")), is("ghcr.io", "a/b", &digest));
    }

    #[test]
    fn hostile_references_are_refused() {
        for hostile in [
            "",
            "/",
            "a//b",
            "../../etc",
            "a/../b",
            "A/b",
            "a:",
            "a:..",
            "a@sha256:x",
            "ex ample.com/a",
            "h.io/a?x=y",
            "h.io/a#b",
            "u:p@h.io/a",
            "a\r\nb",
        ] {
            assert!(Reference::parse(hostile).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn challenges_are_read_whatever_their_order() {
        let text = r#"scope="a,b",realm="https://auth.example/token", service="x""#;
        let read = |name| quoted(text, name);
        assert_eq!((read("realm").as_deref(), read("service").as_deref()), (Some("https://auth.example/token"), Some("x")));
        assert_eq!((read("scope").as_deref(), read("none")), (Some("a,b"), None));
        assert_eq!(encoded("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }
}
