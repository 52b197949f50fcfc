//! A whole node with the real engine and its front on port 0, and clients for it. Every node has a data folder of its own; compiled code of
//! the image is made once and copied.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use skep_node::{Egress, Node};
use skep_server::Server;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

pub struct House {
    pub node: Node,
    pub address: SocketAddr,
    pub token: String,
    _folder: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    running: JoinHandle<bool>,
}

/// Copies what an earlier node of this run compiled, or keeps what this one did. A file that is there stays: a node that has not quite ended may have
/// it mapped.
fn share(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).into_iter().flatten().flatten() {
        let (here, new) = (to.join(file.file_name()), to.join(format!(".new-{}", std::process::id())));
        if !here.exists() && fs::copy(file.path(), &new).is_ok() {
            fs::rename(&new, &here).unwrap();
        }
    }
}

fn open(config: skep_node::Config) -> Node {
    static OPENING: Mutex<()> = Mutex::new(());
    let _one = OPENING.lock();
    let (shared, own) = (PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("engine-cache"), config.data.join("cache"));
    share(&shared, &own);
    let node = loop {
        match Node::open(config.clone(), ("/nowhere".into(), vec![])) {
            Ok(node) => break node,
            // What goes on by itself in an earlier node of this process ends within a second of it.
            Err(skep_node::OpenError::Log(error)) if error.to_string().contains("another process") => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("{error:?}"),
        }
    };
    share(&own, &shared);
    node
}

impl House {
    pub async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    /// A house whose workers may reach this machine.
    pub async fn open_to_all() -> Self {
        Self::with(|node, _| node.egress = Egress::Any).await
    }

    pub async fn with(change: impl FnOnce(&mut skep_node::Config, &mut skep_server::Config)) -> Self {
        Self::on(tempfile::tempdir().unwrap(), change).await
    }

    /// A house on a folder that an earlier one left.
    pub async fn on(folder: tempfile::TempDir, change: impl FnOnce(&mut skep_node::Config, &mut skep_server::Config)) -> Self {
        let mut config = skep_node::Config { data: folder.path().join("data"), ..skep_node::Config::default() };
        config.engine.isolates_max = 64;
        // Small files: each test has a log of its own, perhaps in memory.
        config.log =
            skep_node::LogConfig { segment_bytes: 1 << 20, fill: false, trust_any_folder: true, ..skep_node::LogConfig::default() };
        let mut front = skep_server::Config { listen: ([127, 0, 0, 1], 0).into(), drain_ms: 5_000, ..skep_server::Config::default() };
        change(&mut config, &mut front);
        fs::create_dir_all(&config.data).unwrap();
        let node = tokio::task::spawn_blocking(move || open(config)).await.unwrap();
        node.ensure_admin_key().unwrap();
        let token = fs::read_to_string(folder.path().join("data/admin.key")).unwrap().trim().to_owned();
        let server = Server::bind(&front, node.clone()).await.unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(async { stopped.await.unwrap_or_default() }));
        Self { node, address, token, _folder: folder, stop, running }
    }

    pub fn data(&self) -> PathBuf {
        self._folder.path().join("data")
    }

    /// Asks it to stop, and hands out the end: whether all was finished in time.
    pub fn stopping(self) -> (JoinHandle<bool>, tempfile::TempDir) {
        self.stop.send(()).ok();
        (self.running, self._folder)
    }

    pub async fn control(&self, method: Method, path: &str, body: &Value) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        send(request).await
    }

    /// Deploys one module with bindings; it must be taken.
    pub async fn deploy(&self, name: &str, source: &str, bindings: Value) {
        let (status, text) = self.try_deploy(name, source, bindings).await;
        assert_eq!(status, StatusCode::OK, "{text}");
    }

    pub async fn try_deploy(&self, name: &str, source: &str, bindings: Value) -> (StatusCode, String) {
        let body = json!({ "main": "main.js", "modules": { "main.js": source }, "bindings": bindings });
        self.control(Method::PUT, &format!("/v1/workers/{name}"), &body).await
    }

    /// Calls a worker by path.
    pub async fn call(&self, path: &str) -> (StatusCode, String) {
        send(Request::get(format!("http://{}/w/{path}", self.address)).body(Full::default()).unwrap()).await
    }

    /// A worker's tail, open.
    pub async fn tail(&self, name: &str) -> Tail {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET /v1/workers/{name}/tail HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", self.token);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut tail = Tail { stream, seen: String::new() };
        tail.until("\r\n\r\n").await;
        assert!(tail.seen.starts_with("HTTP/1.1 200"), "{}", tail.seen);
        tail
    }
}

pub struct Tail {
    stream: TcpStream,
    pub seen: String,
}

impl Tail {
    /// Reads until that was seen.
    pub async fn until(&mut self, text: &str) {
        let mut piece = [0; 16 << 10];
        while !self.seen.contains(text) {
            let read = tokio::time::timeout(Duration::from_secs(20), self.stream.read(&mut piece)).await;
            let n = read.unwrap_or_else(|_| panic!("no {text:?} in {}", self.seen)).unwrap();
            assert!(n > 0, "the tail ended: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&piece[..n]));
        }
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Value> {
        self.seen.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?.trim()).ok()).collect()
    }
}

pub async fn send(request: Request<Full<Bytes>>) -> (StatusCode, String) {
    let (parts, text) = answer(request).await;
    (parts.status, text)
}

/// The head of an answer, and its body.
pub async fn answer(request: Request<Full<Bytes>>) -> (http::response::Parts, String) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = tokio::time::timeout(Duration::from_secs(30), client.request(request)).await.unwrap().unwrap();
    let (parts, body) = answer.into_parts();
    (parts, String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned())
}

/// A server somewhere: answers with what it was sent, head and body, or redirects to what follows `/to/`. What it heard is kept.
pub struct Peer {
    pub address: SocketAddr,
    pub heard: std::sync::Arc<Mutex<Vec<String>>>,
}

impl Peer {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = std::sync::Arc::new(Mutex::new(Vec::new()));
        let kept = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(reply(stream, kept.clone()));
            }
        });
        Self { address, heard }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn heard(&self) -> String {
        self.heard.lock().unwrap().join("\n")
    }
}

async fn reply(mut stream: TcpStream, heard: std::sync::Arc<Mutex<Vec<String>>>) {
    let (mut text, mut piece) = (String::new(), [0; 16 << 10]);
    let complete = |text: &str| {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        (body.len() >= length.unwrap_or(0_usize)).then_some(())
    };
    while complete(&text).is_none() {
        match stream.read(&mut piece).await {
            Ok(n) if n > 0 => text.push_str(&String::from_utf8_lossy(&piece[..n])),
            _ => return,
        }
    }
    heard.lock().unwrap().push(text.clone());
    let to = text.split_once("/to/").and_then(|(_, rest)| rest.split(' ').next());
    let key = text.lines().find_map(|line| line.strip_prefix("x-key: ")).unwrap_or_default();
    let reply = match to {
        Some(to) => format!("HTTP/1.1 302 Found\r\nlocation: http://{to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        None => format!("HTTP/1.1 200 OK\r\nx-echo: {key}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len()),
    };
    let _ = stream.write_all(reply.as_bytes()).await;
}
