//! A sandbox with its wire on port 0, and a client for it.

use std::{net::SocketAddr, os::unix::fs::MetadataExt, path::Path, time::Duration};

use base64::Engine;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, client::legacy::connect::HttpConnector, rt::TokioExecutor};
use serde_json::{Value, json};
use skep_sandbox::{Cgroups, Limits, Network, Place, Profile, Range, Sandbox, Spec, Zygote, host_image};
use skep_server::{Envd, EnvdSettings, envd_debug};

/// How long anything may take, on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct House {
    pub address: SocketAddr,
    pub sandbox: Sandbox,
    pub client: Client<HttpConnector, Full<Bytes>>,
    _zygote: Zygote,
    _folder: tempfile::TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl House {
    /// `None`: this is not root, or the machine has not what the profile demands.
    pub async fn with(profile: Profile, settings: EnvdSettings) -> Option<Self> {
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            println!("passed over: sandboxes with all fences need root");
            return None;
        }
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let zygote = Zygote::start(Path::new(env!("CARGO_BIN_EXE_skep-envd"))).unwrap();
        let cgroups = Cgroups::probe().unwrap();
        let host = zygote.probe(folder.path(), &cgroups).await.unwrap();
        if let Some((fence, missing)) = profile.demands().iter().find_map(|&fence| host.missing(fence).map(|missing| (fence, missing))) {
            println!("passed over: this machine has no {fence:?}: {} ({})", missing.why, missing.fix);
            return None;
        }
        let mut random = [0; 13];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut random).unwrap();
        let id = skep_id::SandboxId::from_random(random);
        let range = Range { first: 0x7000_0000 + u32::from(u16::from_le_bytes([random[0], random[1]])) % 4_000 * Range::LENGTH };
        let rootfs = host_image(&folder.path().join("image")).unwrap();
        let place = Place { rootfs, folder: folder.path().join(id.as_str()), group: format!("skep-test-{id}"), range };
        let (hostname, boot) = ("box".to_owned(), "00000000-0000-4000-8000-0000000000aa".to_owned());
        let spec = Spec { id, profile, hostname, limits: Limits::default(), network: Network::Loopback, volumes: vec![], boot };
        let sandbox = Sandbox::start(&zygote, &host, &cgroups, &spec, &place).await.unwrap();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(envd_debug(listener, Envd::new(sandbox.clone(), settings)));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Some(Self { address, sandbox, client, _zygote: zygote, _folder: folder })
    }

    pub async fn start() -> Option<Self> {
        Self::with(Profile::Workstation, EnvdSettings { cpu_count: 2, memory_bytes: 1 << 30, ..EnvdSettings::default() }).await
    }

    pub async fn end(self) {
        self.sandbox.remove().await.unwrap();
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let response = tokio::time::timeout(PATIENCE, self.client.request(request)).await.unwrap().unwrap();
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    /// A call that is no stream.
    pub async fn call(&self, path: &str, message: Value) -> Answer {
        self.send(Method::POST, path, &[("content-type", "application/json")], message.to_string()).await
    }

    /// All of a stream.
    pub async fn stream(&self, path: &str, headers: &[(&str, &str)], message: Value) -> Vec<Value> {
        let mut all = Vec::new();
        let mut stream = self.open(path, headers, message).await;
        while let Some(next) = stream.next().await {
            all.push(next);
        }
        all
    }

    pub async fn open(&self, path: &str, headers: &[(&str, &str)], message: Value) -> Stream {
        let mut request = Request::post(format!("http://{}{path}", self.address)).header("content-type", "application/connect+json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(framed(&message.to_string()))).unwrap();
        let response = tokio::time::timeout(PATIENCE, self.client.request(request)).await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/connect+json");
        Stream { body: Box::pin(response.into_body().into_data_stream()), buffer: Vec::new() }
    }

    /// A line for the shell: what it wrote, and how it ended.
    pub async fn sh(&self, line: &str) -> Ended {
        Ended::of(&self.stream("/process.Process/Start", &[], shell(line)).await)
    }
}

pub fn shell(line: &str) -> Value {
    json!({"process": {"cmd": "/bin/bash", "args": ["-c", line]}, "stdin": false})
}

pub fn framed(message: &str) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message.as_bytes()].concat().into()
}

pub struct Stream {
    body: std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<Bytes, hyper::Error>> + Send>>,
    buffer: Vec<u8>,
}

impl Stream {
    /// The next message; the last has only `last`.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<5>() {
                let length = 5 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                let last = head[0] == 2;
                if self.buffer.len() >= length {
                    let message: Vec<u8> = self.buffer.drain(..length).skip(5).collect();
                    let message: Value = serde_json::from_slice(&message).unwrap();
                    return Some(if last { json!({ "last": message }) } else { message });
                }
            }
            match tokio::time::timeout(PATIENCE, self.body.next()).await.unwrap() {
                Some(bytes) => self.buffer.extend_from_slice(&bytes.unwrap()),
                None => return None,
            }
        }
    }

    /// The process that the first message tells of.
    pub async fn pid(&mut self) -> u64 {
        self.next().await.unwrap()["event"]["start"]["pid"].as_u64().unwrap()
    }

    /// The next piece of this kind of output.
    pub async fn output(&mut self, kind: &str) -> Vec<u8> {
        let message = self.next().await.unwrap();
        let text = message["event"]["data"][kind].as_str().unwrap_or_else(|| panic!("no {kind} in {message}"));
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    }
}

/// What a stream of a command was.
#[derive(Debug)]
pub struct Ended {
    pub stdout: String,
    pub stderr: String,
    pub end: Value,
    pub last: Value,
}

impl Ended {
    pub fn of(messages: &[Value]) -> Self {
        let gather = |kind: &str| {
            let pieces = messages.iter().filter_map(|message| message["event"]["data"][kind].as_str());
            let bytes: Vec<u8> = pieces.flat_map(|piece| base64::engine::general_purpose::STANDARD.decode(piece).unwrap()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let end = messages.iter().map(|message| &message["event"]["end"]).find(|end| !end.is_null()).cloned().unwrap_or_default();
        Self { stdout: gather("stdout"), stderr: gather("stderr"), end, last: messages.last().cloned().unwrap_or_default() }
    }
}
