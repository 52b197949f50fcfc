//! A server that speaks S3 as far as chunks need it, for tests: it checks every signature by itself, keeps objects in memory, lists in pages, and does on request
//! what real ones do on bad days.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use md5::Md5;
use sha2::{Digest, Sha256};
use url::Url;

pub(super) const REGION: &str = "test-region-1";
pub(super) const BUCKET: &str = "chunks";
pub(super) const ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// What happens to one request, before anything else.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Status(u16, &'static str),
    /// The connection ends without an answer.
    Cut,
    /// The request is done, and the connection ends without an answer.
    DoneAndCut,
    /// The connection ends in the middle of the body.
    Truncated,
    /// Half of the object, as if it were all.
    Short,
    /// One bit is another.
    Flipped,
    /// So many bytes more than there are.
    Longer(usize),
}

#[derive(Default)]
pub(super) struct State {
    pub objects: BTreeMap<String, Vec<u8>>,
    pub faults: VecDeque<Fault>,
    /// Of each request: its method, path and query.
    pub asked: Vec<String>,
    /// It does not know conditions.
    pub unconditional: bool,
    /// Its lists lead back to their beginning.
    pub circle: bool,
    /// Keys of one list.
    pub page: usize,
}

#[derive(Clone)]
pub(super) struct Server {
    pub address: String,
    state: Arc<Mutex<State>>,
}

struct Asked {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { address, state: Arc::new(Mutex::new(State { page: 1_000, ..State::default() })) };
        let serving = server.clone();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let server = serving.clone();
                thread::spawn(move || server.serve(stream));
            }
        });
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn fail(&self, faults: &[Fault]) {
        self.state().faults.extend(faults.iter().cloned());
    }

    fn serve(&self, mut stream: TcpStream) {
        let Some(asked) = read(&stream) else { return };
        let fault = {
            let mut state = self.state();
            state.asked.push(format!("{} {}", asked.method, asked.target));
            state.faults.pop_front()
        };
        let (status, mut body) = match &fault {
            Some(Fault::Cut) => return,
            Some(Fault::Status(status, code)) => (*status, error(code)),
            _ => self.answer(&asked),
        };
        let mut length = body.len();
        match fault {
            Some(Fault::DoneAndCut) => return,
            Some(Fault::Truncated) => body.truncate(length / 2),
            Some(Fault::Short) => {
                body.truncate(length / 2);
                length = body.len();
            }
            Some(Fault::Flipped) => body[length / 2] ^= 1,
            Some(Fault::Longer(by)) => {
                body.resize(length + by, b'x');
                length += by;
            }
            _ => {}
        }
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(head.as_bytes());
        if asked.method != "HEAD" {
            let _ = stream.write_all(&body);
        }
    }

    fn answer(&self, asked: &Asked) -> (u16, Vec<u8>) {
        let url = Url::parse(&format!("http://{}{}", asked.headers["host"], asked.target)).unwrap();
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        if query.get("X-Amz-Credential").is_none_or(|credential| !credential.starts_with(&format!("{ID}/"))) {
            return (403, error("InvalidAccessKeyId"));
        }
        if query["X-Amz-Credential"].split('/').nth(2) != Some(REGION) {
            return (400, error("AuthorizationHeaderMalformed"));
        }
        if query.get("X-Amz-Signature") != Some(&signature(&asked.method, &url, &asked.headers, SECRET)) {
            return (403, error("SignatureDoesNotMatch"));
        }
        let Some(key) = url.path().strip_prefix(&format!("/{BUCKET}")) else { return (404, error("NoSuchBucket")) };
        let key = key.trim_start_matches('/').to_owned();
        let mut state = self.state();
        match asked.method.as_str() {
            "GET" if query.contains_key("list-type") => (200, state.list(&query)),
            "GET" | "HEAD" => state.objects.get(&key).map_or_else(|| (404, error("NoSuchKey")), |object| (200, object.clone())),
            "DELETE" => {
                state.objects.remove(&key);
                (204, Vec::new())
            }
            "PUT" => state.put(key, asked),
            _ => (405, error("MethodNotAllowed")),
        }
    }
}

impl State {
    fn put(&mut self, key: String, asked: &Asked) -> (u16, Vec<u8>) {
        let only_new = asked.headers.contains_key("if-none-match");
        if only_new && self.unconditional {
            return (501, error("NotImplemented"));
        }
        if only_new && self.objects.contains_key(&key) {
            return (412, error("PreconditionFailed"));
        }
        if asked.headers.get("content-md5").is_some_and(|sum| *sum != STANDARD.encode(Md5::digest(&asked.body))) {
            return (400, error("BadDigest"));
        }
        self.objects.insert(key, asked.body.clone());
        (200, Vec::new())
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Vec<u8> {
        let most = query.get("max-keys").and_then(|most| most.parse().ok()).unwrap_or(1_000).min(self.page);
        // A token with signs that have to be escaped.
        let from = query.get("continuation-token").map(|token| token.trim_end_matches("+/= &").to_owned());
        let prefix = &query["prefix"];
        let wanted =
            self.objects.keys().filter(|key| key.starts_with(prefix) && from.as_ref().is_none_or(|from| *key > from || self.circle));
        let mut keys: Vec<&String> = wanted.take(most + 1).collect();
        let more = keys.len() > most;
        keys.truncate(most);
        let one = |key: &&String| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"x\"</ETag><Size>1</Size></Contents>"
            )
        };
        let contents: String = keys.iter().map(one).collect();
        let next = match keys.last().filter(|_| more) {
            Some(last) => format!("<NextContinuationToken>{last}+/= &amp;</NextContinuationToken>"),
            None => String::new(),
        };
        format!("<?xml version=\"1.0\"?><ListBucketResult><Name>{BUCKET}</Name><IsTruncated>{more}</IsTruncated>{next}{contents}</ListBucketResult>").into()
    }
}

fn error(code: &str) -> Vec<u8> {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>").into()
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, target, headers, body })
}

fn encoded(text: &str, slash_too: bool) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b) || (b == b'/' && !slash_too);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The signature that a request should have, after Amazon's own description of version 4 for query parameters.
pub(super) fn signature(method: &str, url: &Url, headers: &BTreeMap<String, String>, secret: &str) -> String {
    let mut query: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| name != "X-Amz-Signature")
        .map(|(name, value)| (encoded(&name, true), encoded(&value, true)))
        .collect();
    query.sort();
    let asked: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let query = query.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let signed = &asked["X-Amz-SignedHeaders"];
    let canonical: String = signed.split(';').map(|name| format!("{name}:{}\n", headers.get(name).map_or("", String::as_str))).collect();
    let request = format!("{method}\n{}\n{query}\n{canonical}\n{signed}\nUNSIGNED-PAYLOAD", url.path());
    let (_, scope) = asked["X-Amz-Credential"].split_once('/').unwrap();
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", asked["X-Amz-Date"], hex(&Sha256::digest(request)));
    let mut key = format!("AWS4{secret}").into_bytes();
    for step in scope.split('/') {
        key = keyed(&key, step);
    }
    hex(&keyed(&key, &text))
}
