//! A web server in a sandbox as a browser sees it: Chromium, with its own ideas of names, certificates and WebSockets, trusting nothing but the node's authority.
//! In `make soak`; a machine without Chromium and `certutil` passes it over.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::house::House;

/// A page that says over a WebSocket what it was asked for, and is loaded when it has heard the answer.
const SERVER: &str = r#"
import base64, hashlib, http.server, threading
heard = threading.Event()
PAGE = b"""<!doctype html><title>within</title><p id=said></p><script>
const socket = new WebSocket(`wss://${location.host}/socket`);
socket.onopen = () => socket.send(`hello from ${location.protocol}`);
socket.onmessage = ({ data }) => { said.textContent = `${data}; secure: ${isSecureContext}`; socket.close(); };
socket.onclose = ({ code }) => { said.textContent += `; closed ${code}`; fetch('/heard'); };
</script><img src=/wait>"""
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/socket": return self.socket()
        if self.path == "/heard": heard.set()
        if self.path == "/wait": heard.wait(20)
        body = PAGE if self.path == "/" else b""
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if body else "image/png")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def socket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        while True:
            head = self.rfile.read(2)
            if len(head) < 2: return
            length = head[1] & 127
            if length > 125: return
            mask = self.rfile.read(4)
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(length)))
            kind = head[0] & 15
            if kind == 1: data = data.decode().upper().encode()
            self.wfile.write(bytes([0x80 | kind, len(data)]) + data)
            if kind == 8:
                self.close_connection = True
                return
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), H).serve_forever()
"#;

fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    names.iter().find_map(|name| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file()))
}

/// A home whose certificates are the node's authority alone.
fn home(certutil: &Path, authority: &Path) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join(".pki/nssdb");
    fs::create_dir_all(&store).unwrap();
    let database = format!("sql:{}", store.display());
    for arguments in [vec!["-N", "--empty-password"], vec!["-A", "-t", "C,,", "-n", "skep", "-i", authority.to_str().unwrap()]] {
        let made = Command::new(certutil).arg("-d").arg(&database).args(&arguments).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    home
}

/// What a page is when it has loaded.
fn opened(chromium: &Path, home: &Path, url: &str) -> String {
    let mut command = Command::new(chromium);
    command
        .env("HOME", home)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", home.join("profile").display()))
        .arg(url)
        .stdin(Stdio::null())
        .stdout(fs::File::create(home.join("page")).unwrap())
        .stderr(fs::File::create(home.join("said")).unwrap())
        // A browser is many processes: they end together.
        .process_group(0);
    let mut child = command.spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(90) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let group = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    child.wait().unwrap();
    let read = |name: &str| fs::read_to_string(home.join(name)).unwrap();
    format!("{}\n{}", read("page"), read("said"))
}

#[test]
#[ignore = "needs Chromium, and takes seconds: make soak"]
fn chromium_reaches_a_server_in_a_sandbox_by_its_host() {
    let Some(house) = House::start() else { return };
    let names = ["chromium", "chromium-headless-shell", "chrome-headless-shell", "google-chrome"];
    let (Some(chromium), Some(certutil)) = (program(&names), program(&["certutil"])) else {
        println!("passed over: no Chromium (apt install chromium-headless-shell), or no certutil (apt install libnss3-tools)");
        return;
    };
    let id = house.create(r#"{"templateID":"base"}"#);
    if !house.serve_by(&id, SERVER, &[8_080]) {
        return;
    }
    let url = format!("https://8080-{id}.{}/", house.domain);
    let trusting = home(&certutil, &house.authority);
    let page = opened(&chromium, trusting.path(), &url);
    assert!(page.contains("<title>within</title>"), "{page}");
    assert!(page.contains("HELLO FROM HTTPS:; secure: true; closed 1005"), "{page}");
    // Who does not trust the authority does not get there.
    let stranger = tempfile::tempdir().unwrap();
    let page = opened(&chromium, stranger.path(), &url);
    assert!(!page.contains("<title>within</title>"), "{page}");
}
