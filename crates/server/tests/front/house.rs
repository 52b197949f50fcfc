//! A whole node with its front on port 0, and a client for it.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use skep_node::Node;
use skep_server::Server;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::scripted::{Counts, Scripted};

pub struct House {
    pub node: Node,
    pub address: std::net::SocketAddr,
    pub token: String,
    pub counts: Arc<Counts>,
    pub folder: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    running: JoinHandle<bool>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("{} is no error: {}", self.status, self.text())).to_owned()
    }
}

impl House {
    pub async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut skep_node::Config, &mut skep_server::Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::on(folder, change).await
    }

    pub async fn on(folder: tempfile::TempDir, change: impl FnOnce(&mut skep_node::Config, &mut skep_server::Config)) -> Self {
        let mut config = skep_node::Config { data: folder.path().join("data"), ..skep_node::Config::default() };
        // Small files: each test has a log of its own, perhaps in memory.
        config.log =
            skep_node::LogConfig { segment_bytes: 1 << 20, fill: false, trust_any_folder: true, ..skep_node::LogConfig::default() };
        let mut front = skep_server::Config { listen: ([127, 0, 0, 1], 0).into(), drain_ms: 2_000, ..skep_server::Config::default() };
        change(&mut config, &mut front);
        let counts = Arc::new(Counts::default());
        let node = loop {
            let runtime = Arc::new(Scripted { counts: Arc::clone(&counts) });
            match Node::open_with(config.clone(), ("/nowhere".into(), vec![]), runtime) {
                Ok(node) => break node,
                // What goes on by itself in an earlier node of this process ends within a second of it.
                Err(skep_node::OpenError::Log(error)) if error.to_string().contains("another process") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error:?}"),
            }
        };
        node.ensure_admin_key().unwrap();
        let token = read(&folder.path().join("data/admin.key"));
        let server = Server::bind(&front, node.clone()).await.unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(async { stopped.await.unwrap_or_default() }));
        Self { node, address, token, counts, folder, stop, running }
    }

    /// Stops it; the answer is whether all was finished in time.
    pub async fn stop(self) -> (bool, tempfile::TempDir) {
        self.stop.send(()).ok();
        (self.running.await.unwrap(), self.folder)
    }

    /// Asks it to stop, and hands out the end.
    pub fn stopping(self) -> JoinHandle<bool> {
        self.stop.send(()).ok();
        self.running
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = tokio::time::timeout(Duration::from_secs(20), client.request(request)).await.unwrap().unwrap();
        let (parts, body) = answer.into_parts();
        Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    pub async fn ask(&self, method: Method, path: &str, token: Option<&str>, body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(self.url(path));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.send(request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()).await
    }

    pub async fn control(&self, method: Method, path: &str, body: &str) -> Answer {
        self.ask(method, path, Some(&self.token), body).await
    }

    /// Deploys a worker that passes requests on to actors of its class `Counter`.
    pub async fn deploy_actors(&self, name: &str, version: &str) -> Answer {
        let script = format!("actor {version}");
        let body = serde_json::json!({
            "main": "main.js", "modules": { "main.js": script }, "bindings": { "C": { "type": "actors", "class_name": "Counter" } },
        });
        self.control(Method::PUT, &format!("/v1/workers/{name}"), &body.to_string()).await
    }

    pub async fn deploy(&self, name: &str, script: &str) -> Answer {
        let body = serde_json::json!({ "main": "main.js", "modules": { "main.js": script } });
        self.control(Method::PUT, &format!("/v1/workers/{name}"), &body.to_string()).await
    }

    /// Calls a worker by path.
    pub async fn call(&self, name: &str) -> Answer {
        self.ask(Method::GET, &format!("/w/{name}/"), None, "").await
    }
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}
