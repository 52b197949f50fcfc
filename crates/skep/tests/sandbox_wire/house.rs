//! A node of a test's own, started by `skep up`, and the plainest of HTTP clients: what it sends is what the test wrote.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use skep_sandbox::{Profile, attack};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_skep");

pub struct House {
    child: Child,
    /// `127.0.0.1:1234`
    pub address: String,
    /// The address of the listener with TLS, and the domain with its port.
    pub secure: String,
    pub domain: String,
    pub authority: PathBuf,
    pub key: String,
    folder: tempfile::TempDir,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {} {}", self.status, self.text()))
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.head.lines().find_map(|line| line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.trim().to_owned())
    }

    /// The answer, which must have this status.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.text());
        self
    }
}

impl House {
    /// `None`: this machine lacks what sandboxes need, and the test has said so.
    pub fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("passed over: sandboxes with all fences need root");
            return None;
        }
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let host = runtime.block_on(attack::fences(Path::new(PROGRAM), folder.path())).unwrap();
        let lacking = Profile::Workstation.demands().iter().find_map(|fence| Some((fence, host.missing(*fence)?)));
        if let Some((fence, missing)) = lacking {
            println!("passed over: this machine has no {fence:?}: {} ({})", missing.why, missing.fix);
            return None;
        }
        Some(Self::on(folder))
    }

    fn on(folder: tempfile::TempDir) -> Self {
        let data = folder.path().join("data");
        let config = folder.path().join("skep.toml");
        fs::write(&config, "[node.log]\ntrust_any_folder = true\n[server.sandboxes]\nlisten = \"127.0.0.1:0\"\n").unwrap();
        // As a person starts it: the data folder is said from where one stands.
        let mut child = Command::new(PROGRAM)
            .current_dir(folder.path())
            .args(["--json", "up", "--listen", "127.0.0.1:0", "--data", "data"])
            .arg("--config")
            .arg(config)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let domain = said["sandboxes"]["domain"].as_str().expect("a host with all fences has sandboxes").to_owned();
        Self {
            child,
            address: said["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned(),
            secure: format!("127.0.0.1:{}", domain.rsplit_once(':').unwrap().1),
            authority: said["sandboxes"]["authority"].as_str().unwrap().into(),
            domain,
            key: fs::read_to_string(data.join("admin.key")).unwrap().trim().to_owned(),
            folder,
        }
    }

    /// Ends the node as a power failure would, and starts another on the same data.
    pub fn killed_and_started_again(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        Self::on(folder)
    }

    /// One request, byte by byte as given, over a connection of its own.
    pub fn raw(&self, head: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        read(stream)
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.0\r\ncontent-length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.raw(&format!("{head}\r\n"), body.as_bytes())
    }

    /// E2B's control plane, with the key of this house.
    pub fn e2b(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask(method, path, &[("x-api-key", &self.key)], body)
    }

    /// The node's own routes.
    pub fn v1(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask(method, path, &[("authorization", &format!("Bearer {}", self.key))], body)
    }

    /// A request to a port of a sandbox, by its host.
    pub fn port(&self, id: &str, port: u16, path: &str, headers: &[(&str, &str)]) -> Answer {
        let host = format!("{port}-{id}.{}", self.domain);
        let all: Vec<(&str, &str)> = [("host", host.as_str())].into_iter().chain(headers.iter().copied()).collect();
        self.ask("GET", path, &all, "")
    }

    /// A new sandbox's id.
    pub fn create(&self, body: &str) -> String {
        let made = self.e2b("POST", "/v2/sandboxes", body).expect(201).json();
        made["sandboxID"].as_str().unwrap().to_owned()
    }

    /// A line for the shell in a sandbox: its exit code and what it wrote.
    pub fn sh(&self, id: &str, line: &str) -> (i64, String) {
        let body = serde_json::json!({ "line": line }).to_string();
        let answer = self.v1("POST", &format!("/v1/sandboxes/{id}/exec"), &body).expect(200);
        outcome(&answer.text())
    }

    /// A server in a sandbox that says which path and host it was asked for. `false`: there is no Python to write one in.
    pub fn serve(&self, id: &str, port: u16) -> bool {
        self.serve_by(id, &SERVER.replace("PORT", &port.to_string()), &[port])
    }

    /// A server in a sandbox, by a script for its Python; it listens on these ports when this returns. `false`: there is no Python.
    pub fn serve_by(&self, id: &str, script: &str, ports: &[u16]) -> bool {
        if self.sh(id, "command -v python3").0 != 0 {
            println!("passed over: there is no python3 in the sandbox");
            return false;
        }
        let file = format!("server-{}.py", ports[0]);
        let (_, said) = self.sh(id, &format!("cat > {file} <<'X'\n{script}\nX\nnohup python3 {file} >/dev/null 2>&1 &"));
        assert_eq!(said, "", "the server in the sandbox was not started");
        until("the server in the sandbox listens", || {
            let found = self.v1("GET", &format!("/v1/sandboxes/{id}/ports"), "").json();
            let listens = |port: &u16| found["ports"].as_array().unwrap().iter().any(|found| found["port"] == *port);
            ports.iter().all(listens)
        });
        true
    }

    pub fn skep(&self, arguments: &[&str]) -> Output {
        self.skep_with(arguments, b"")
    }

    pub fn skep_with(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.env_remove("SKEP_URL").env_remove("SKEP_KEY").arg("--data").arg(self.data()).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        child.wait_with_output().unwrap()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A key that may make sandboxes and no more, spelt as E2B's packages want it.
    pub fn other_key(&self, scope: &str) -> String {
        let made = self.skep(&["key", "create", "--scope", scope, "--e2b"]);
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // Sandboxes outlive their node, on purpose; those of a test must not.
        if let Ok(stream) = TcpStream::connect(&self.address) {
            drop(stream);
            let listed = self.v1("GET", "/v1/sandboxes", "");
            let listed: Value = serde_json::from_slice(&listed.body).unwrap_or_default();
            for sandbox in listed["sandboxes"].as_array().into_iter().flatten() {
                self.v1("DELETE", &format!("/v1/sandboxes/{}", sandbox["id"].as_str().unwrap_or_default()), "");
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers with the path, the host and what it was told of the client; `/slow` takes its time.
const SERVER: &str = r#"
import http.server, json, time
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow": time.sleep(1)
        body = json.dumps({"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", PORT), H).serve_forever()
"#;

pub fn read(mut stream: impl Read) -> Answer {
    let mut bytes = Vec::new();
    // A side that breaks off has said what it said.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

/// The exit code and the text of all lines of an answer to `exec`.
pub fn outcome(lines: &str) -> (i64, String) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let (mut code, mut text) = (-1, String::new());
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for stream in ["stdout", "stderr"] {
            if let Some(piece) = line[stream].as_str() {
                text.push_str(&String::from_utf8_lossy(&STANDARD.decode(piece).unwrap()));
            }
        }
        if let Some(ended) = line["exited"]["code"].as_i64() {
            code = ended;
        }
    }
    (code, text)
}

/// Asks again until it is so.
pub fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}
