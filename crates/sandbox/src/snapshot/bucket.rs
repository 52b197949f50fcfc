//! Chunks in object storage that speaks S3: one object each, `<prefix>/<2 hex>/<64 hex>`.
//!
//! Requests are signed (SigV4, in the query) by `rusty_s3` and sent by `ureq`; what fails for a moment is tried again, what fails for good says what an operator
//! can do. No redirect is followed, no proxy and no variable of the environment is heard, and no text of an error has a signature in it. One bucket and prefix
//! is one node's: chunks that this node's snapshots do not name are removed, so a node that finds another's mark refuses. It is not: a judge of content;
//! whoever reads a chunk checks it (`chunks.rs`).

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{self, Read},
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use rusty_s3::{Credentials, S3Action, UrlStyle, actions::ListObjectsV2};
use ureq::{
    Agent, Body,
    http::{Response, StatusCode, header},
};
use url::Url;

use super::{
    chunks::{ChunkName, MOST_BYTES},
    store::ChunkStore,
};

/// How long a signed request may be used: longer than it is tried, so that clocks may differ.
const SIGNED: Duration = Duration::from_secs(900);

/// How often something is tried, and how long is waited after the first time; twice as long after each further one.
const TRIES: u32 = 7;
const WAIT: Duration = Duration::from_millis(100);
const WAIT_MOST: Duration = Duration::from_secs(10);

/// The longest that a store is obeyed when it says when to come back.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(30);

/// Bytes of a list, and of an error.
const LIST_BYTES: u64 = 8 << 20;
const ERROR_BYTES: u64 = 64 << 10;

/// Lists of 1,000 that one listing is made of: more would be more chunks than a node can name.
const LISTS_MOST: usize = 200_000;

/// The object that says whose the chunks are.
const MARK: &str = "skep-node";

/// Where a bucket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketPlace {
    /// `https://s3.eu-central-1.amazonaws.com`; without TLS only for this machine.
    pub endpoint: String,
    /// Its name.
    pub bucket: String,
    /// What keys of chunks begin with. Empty: nothing.
    pub prefix: String,
    /// What is signed for; stores that have none take `us-east-1`.
    pub region: String,
    /// `<endpoint>/<bucket>/…` instead of `<bucket>.<endpoint>/…`.
    pub path_style: bool,
}

/// Who asks.
#[derive(Clone)]
pub struct BucketKey {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// What goes with a key that lives for a while.
    pub token: Option<String>,
}

impl fmt::Debug for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BucketKey({})", self.id)
    }
}

/// Why a bucket cannot be used. Its text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The configuration cannot be meant.
    #[error("{0}")]
    Place(String),
    /// It said no: the status, S3's word for it, and what helps.
    #[error("{at} said {status} {code}: {helps}")]
    Refused {
        /// The bucket.
        at: String,
        /// Of the answer.
        status: u16,
        /// S3's word; may be empty.
        code: String,
        /// What an operator can do.
        helps: &'static str,
    },
    /// It answers not at all, not always, or with what is no answer.
    #[error("{at} cannot be reached or used now: {why}")]
    Unreachable {
        /// The bucket.
        at: String,
        /// What happened last.
        why: String,
    },
    /// Another node's chunks are there.
    #[error(
        "{at} holds the chunks of another node ({theirs:?}): each node needs a bucket or prefix of its own, or it would remove the other's chunks"
    )]
    Taken {
        /// The bucket.
        at: String,
        /// What that node calls itself.
        theirs: String,
    },
    /// There is no such object. No message for operators: who asks for a chunk says which.
    #[error("{at} has no such object")]
    Missing {
        /// The bucket.
        at: String,
    },
}

impl BucketError {
    /// Whether it may be otherwise in a while, with nothing done.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl From<BucketError> for io::Error {
    fn from(error: BucketError) -> Self {
        let kind = match &error {
            BucketError::Missing { .. } => io::ErrorKind::NotFound,
            BucketError::Refused { status: 401 | 403, .. } => io::ErrorKind::PermissionDenied,
            BucketError::Unreachable { .. } => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// A bucket that holds chunks.
pub struct Bucket {
    agent: Agent,
    bucket: rusty_s3::Bucket,
    credentials: Credentials,
    /// Empty, or ends with `/`.
    prefix: String,
    /// As errors name it.
    at: String,
    /// The store does not know conditions: it is not asked for them again.
    unconditional: AtomicBool,
    wait: Duration,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.at)
    }
}

enum Method<'a> {
    Get,
    Head,
    Put(&'a [u8]),
    Delete,
}

/// An answer, and its body as far as it was read.
struct Answer {
    status: StatusCode,
    body: Vec<u8>,
    retry_after: Option<Duration>,
}

impl Bucket {
    /// Nothing is asked of the store yet.
    ///
    /// # Errors
    /// [`BucketError::Place`].
    pub fn new(place: &BucketPlace, key: BucketKey) -> Result<Self, BucketError> {
        let refused = |why: String| BucketError::Place(why);
        let endpoint =
            Url::parse(&place.endpoint).map_err(|error| refused(format!("the endpoint {:?} is no URL: {error}", place.endpoint)))?;
        if endpoint.scheme() != "https" && !(endpoint.scheme() == "http" && is_here(&endpoint)) {
            return Err(refused(format!(
                "the endpoint {:?} must begin with https:// (without TLS only this machine is spoken to)",
                place.endpoint
            )));
        }
        if !endpoint.username().is_empty() || endpoint.password().is_some() || endpoint.query().is_some() || endpoint.fragment().is_some() {
            return Err(refused("the endpoint is a scheme, a host, a port and perhaps a path".to_owned()));
        }
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !(3..=63).contains(&place.bucket.len()) || !plain(&place.bucket) {
            return Err(refused(format!("{:?} is no bucket's name", place.bucket)));
        }
        let prefix = place.prefix.trim_matches('/');
        let steps_fine =
            prefix.is_empty() || prefix.split('/').all(|step| plain(step) && !step.is_empty() && !step.bytes().all(|b| b == b'.'));
        if !steps_fine || prefix.len() > 512 {
            return Err(refused(format!("{:?} is no prefix: steps of letters, digits, `-`, `_` and `.`, joined by `/`", place.prefix)));
        }
        if place.region.is_empty() || !plain(&place.region) {
            return Err(refused(format!("{:?} is no region", place.region)));
        }
        let style = if place.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = rusty_s3::Bucket::new(endpoint, style, place.bucket.clone(), place.region.clone())
            .map_err(|error| refused(format!("the endpoint {:?} cannot be used: {error}", place.endpoint)))?;
        let credentials = match key.token {
            Some(token) => Credentials::new_with_token(key.id, key.secret, token),
            None => Credentials::new(key.id, key.secret),
        };
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let at = format!("the bucket {}{prefix}", bucket.base_url());
        Ok(Self { agent: agent(), bucket, credentials, prefix, at, unconditional: AtomicBool::new(false), wait: WAIT })
    }

    /// Whether it is there and can be listed. Nothing is written.
    ///
    /// # Errors
    /// What an operator has to know.
    pub fn look(&self) -> Result<(), BucketError> {
        self.page(None, 1).map(drop)
    }

    /// Whether chunks can be kept here: lists, reads and writes, and finds, or leaves, the mark of this node (`node`, a name for all time).
    ///
    /// # Errors
    /// What an operator has to know.
    pub fn claim(&self, node: &str) -> Result<(), BucketError> {
        self.look()?;
        let key = format!("{}{MARK}", self.prefix);
        for _ in 0..2 {
            match self.object(&key, Method::Get, ERROR_BYTES) {
                Ok(answer) if answer.body == node.as_bytes() => return Ok(()),
                Ok(answer) => {
                    let theirs = String::from_utf8_lossy(&answer.body).chars().take(80).collect();
                    return Err(BucketError::Taken { at: self.at.clone(), theirs });
                }
                Err(BucketError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
            // Another node may have been faster: what is there is read again.
            self.write(&key, node.as_bytes())?;
        }
        Err(self.unreachable("what was written cannot be read"))
    }

    fn key(&self, name: &ChunkName) -> String {
        let text = name.to_string();
        format!("{}{}/{text}", self.prefix, &text[..2])
    }

    fn unreachable(&self, why: impl fmt::Display) -> BucketError {
        // A URL of a request is a key for a quarter of an hour.
        let why = why.to_string();
        let why = if why.contains("X-Amz-") { "a request failed".to_owned() } else { why };
        BucketError::Unreachable { at: self.at.clone(), why }
    }

    /// Writes an object that is not there. One that is there stays.
    fn write(&self, key: &str, bytes: &[u8]) -> Result<(), BucketError> {
        match self.object(key, Method::Put(bytes), ERROR_BYTES) {
            Ok(_) => Ok(()),
            // Somebody else has put it there.
            Err(BucketError::Refused { status: 412, .. }) => Ok(()),
            Err(BucketError::Refused { status: 400 | 405 | 501, code, .. })
                if !self.unconditional.swap(true, Relaxed)
                    && ["NotImplemented", "InvalidArgument", "MethodNotAllowed"].contains(&&*code) =>
            {
                self.object(key, Method::Put(bytes), ERROR_BYTES).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    fn object(&self, key: &str, method: Method<'_>, most: u64) -> Result<Answer, BucketError> {
        let answer = self.tried(most, || {
            let (bucket, by) = (&self.bucket, Some(&self.credentials));
            match &method {
                Method::Get => self.agent.get(bucket.get_object(by, key).sign(SIGNED).as_str()).call(),
                Method::Head => self.agent.head(bucket.head_object(by, key).sign(SIGNED).as_str()).call(),
                Method::Delete => self.agent.delete(bucket.delete_object(by, key).sign(SIGNED).as_str()).call(),
                Method::Put(bytes) => {
                    // Signed with the rest, so that other bytes than these are refused there.
                    let sum = STANDARD.encode(Md5::digest(bytes));
                    let mut action = bucket.put_object(by, key);
                    action.headers_mut().insert("content-md5", sum.clone());
                    if !self.unconditional.load(Relaxed) {
                        action.headers_mut().insert("if-none-match", "*");
                    }
                    let request = self.agent.put(action.sign(SIGNED).as_str()).header("content-md5", sum);
                    match self.unconditional.load(Relaxed) {
                        true => request.send(*bytes),
                        false => request.header("if-none-match", "*").send(*bytes),
                    }
                }
            }
        })?;
        self.judged(answer)
    }

    /// One list of at most `most` keys, and where the next begins.
    fn page(&self, from: Option<&str>, most: usize) -> Result<(Vec<String>, Option<String>), BucketError> {
        let answer = self.tried(LIST_BYTES, || {
            let mut action = self.bucket.list_objects_v2(Some(&self.credentials));
            action.with_prefix(self.prefix.as_str());
            action.with_max_keys(most);
            if let Some(from) = from {
                action.with_continuation_token(from);
            }
            self.agent.get(action.sign(SIGNED).as_str()).call()
        })?;
        let answer = self.judged(answer)?;
        let list = ListObjectsV2::parse_response(&answer.body).map_err(|error| self.unreachable(format!("its list is none: {error}")))?;
        Ok((list.contents.into_iter().map(|object| object.key).collect(), list.next_continuation_token))
    }

    /// Asks until there is an answer that will not be another in a moment.
    fn tried(&self, most: u64, ask: impl Fn() -> Result<Response<Body>, ureq::Error>) -> Result<Answer, BucketError> {
        let (mut wait, mut last) = (self.wait, String::new());
        for attempt in 0..TRIES {
            if attempt > 0 {
                thread::sleep(wait.min(WAIT_MOST));
                wait *= 2;
            }
            match ask().map_err(|error| error.to_string()).and_then(|response| read(response, most)) {
                Ok(answer) if passes(answer.status, &code(&answer.body)) => {
                    last = format!("{} {}", answer.status.as_u16(), code(&answer.body));
                    wait = wait.max(answer.retry_after.unwrap_or_default().min(RETRY_AFTER_MOST));
                }
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(self.unreachable(last))
    }

    fn judged(&self, answer: Answer) -> Result<Answer, BucketError> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let (at, status, code) = (self.at.clone(), answer.status.as_u16(), code(&answer.body));
        if status == 404 && code != "NoSuchBucket" {
            return Err(BucketError::Missing { at });
        }
        let helps = match (status, code.as_str()) {
            (404, _) => "there is no such bucket; make it, or correct its name, the endpoint or `path_style`",
            (301 | 307, _) => "the bucket is elsewhere; correct the endpoint and the region",
            (400, "AuthorizationHeaderMalformed") => "the region is another; correct it",
            (403, "SignatureDoesNotMatch") => "the secret does not belong to the key's id",
            (403, "InvalidAccessKeyId") => "there is no key of that id",
            (403, "RequestTimeTooSkewed") => "the clock of this machine is wrong",
            (400 | 403, "ExpiredToken" | "InvalidToken") => "the key has expired",
            (401 | 403, _) => "the key may not do that; it needs to list the bucket, and to get, put and delete its objects",
            _ => "see the store's own log",
        };
        Err(BucketError::Refused { at, status, code, helps })
    }
}

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent("skep")
        .timeout_resolve(Some(Duration::from_secs(15)))
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .timeout_global(Some(Duration::from_secs(1_800)))
        .build()
        .into()
}

fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether an answer like this may be another in a moment.
fn passes(status: StatusCode, code: &str) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
        || (status.as_u16() == 409 && code == "ConditionalRequestConflict")
        || (status.as_u16() == 400 && matches!(code, "RequestTimeout" | "BadDigest" | "IncompleteBody"))
}

fn read(mut response: Response<Body>, most: u64) -> Result<Answer, String> {
    let number = |name: header::HeaderName| response.headers().get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let (length, retry_after) = (number(header::CONTENT_LENGTH), number(header::RETRY_AFTER).map(Duration::from_secs));
    let status = response.status();
    let mut body = Vec::new();
    response.body_mut().as_reader().take(most + 1).read_to_end(&mut body).map_err(|error| error.to_string())?;
    if body.len() as u64 > most {
        return Err(format!("its answer has more than {most} bytes"));
    }
    // An answer to HEAD says how long the body would be.
    if status.is_success() && !body.is_empty() && length.is_some_and(|length| length != body.len() as u64) {
        return Err("its answer broke off".to_owned());
    }
    Ok(Answer { status, body, retry_after })
}

/// S3's word for an error.
fn code(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let found = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    found.filter(|code| code.len() < 64 && code.bytes().all(|b| b.is_ascii_alphanumeric())).unwrap_or_default().to_owned()
}

impl ChunkStore for Bucket {
    fn put(&self, name: &ChunkName, stored: &[u8]) -> io::Result<()> {
        Ok(self.write(&self.key(name), stored)?)
    }

    fn get(&self, name: &ChunkName) -> io::Result<Vec<u8>> {
        Ok(self.object(&self.key(name), Method::Get, MOST_BYTES as u64)?.body)
    }

    fn has(&self, name: &ChunkName) -> io::Result<bool> {
        match self.object(&self.key(name), Method::Head, 0) {
            Ok(_) => Ok(true),
            Err(BucketError::Missing { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn list(&self) -> io::Result<Vec<ChunkName>> {
        let (mut names, mut from) = (Vec::new(), None::<String>);
        for _ in 0..LISTS_MOST {
            let (keys, next) = self.page(from.as_deref(), 1_000)?;
            // Only what lies where a chunk of this name does is one.
            let named = keys.iter().filter_map(|key| key.get(key.len().checked_sub(64)?..)?.parse::<ChunkName>().ok());
            names.extend(named);
            match next {
                None => return Ok(names),
                Some(next) if from.as_ref() == Some(&next) => break,
                next => from = next,
            }
        }
        Err(self.unreachable("its list has no end").into())
    }

    fn remove(&self, name: &ChunkName) -> io::Result<()> {
        match self.object(&self.key(name), Method::Delete, ERROR_BYTES) {
            Ok(_) | Err(BucketError::Missing { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
