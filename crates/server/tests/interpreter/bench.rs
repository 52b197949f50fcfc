//! A sandbox, its interpreter, and a client for it.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use skep_id::SandboxId;
use skep_sandbox::{Boxed, Config, Input, Limits, Network, OnTimeout, Policy, Profile, Sandbox, Sandboxes, Spec, Volume};
use skep_server::{Interpreter, interpreter};
use tower::ServiceExt;

/// Where Python's packages for a kernel are seen within.
pub const PACKAGES: &str = "/opt/packages";

pub struct Bench {
    pub sandbox: Sandbox,
    pub router: Router,
    boxed: Boxed,
    _all: Sandboxes,
    _folder: tempfile::TempDir,
}

/// The program that becomes a zygote: it lies beside the tests when the workspace was built.
fn program() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.parent()?.parent()?.to_owned();
    ["skep-boxed", "skep"].into_iter().map(|name| beside.join(name)).find(|program| program.exists())
}

pub fn passed_over(why: &str) {
    eprintln!("passed over: {why}");
}

impl Bench {
    pub async fn set_up() -> Option<Self> {
        Self::with(None, BTreeMap::new()).await
    }

    /// With a folder of Python packages, and variables for every context.
    pub async fn with(packages: Option<&Path>, env: BTreeMap<String, String>) -> Option<Self> {
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            passed_over("not root: sandboxes of ordinary users are not built yet");
            return None;
        }
        let Some(program) = program() else {
            passed_over("skep-boxed is not beside the tests (cargo build --release --workspace)");
            return None;
        };
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (all, _) = Sandboxes::open(Config { folder: folder.path().join("sandboxes"), program }).await.unwrap();
        let lacking = Profile::Strict.demands().iter().find_map(|&fence| all.host().missing(fence).map(|missing| (fence, missing)));
        if let Some((fence, missing)) = lacking {
            passed_over(&format!("this machine has no {fence:?}: {}", missing.why));
            return None;
        }
        let volumes = packages.map(|source| Volume { source: source.to_owned(), target: PACKAGES.to_owned(), read_only: true });
        let mut random = [7; 13];
        getrandom::fill(&mut random).unwrap();
        let spec = Spec {
            id: SandboxId::from_random(random),
            profile: Profile::Strict,
            hostname: "box".to_owned(),
            limits: Limits { memory_bytes: 1 << 30, ..Limits::default() },
            network: Network::Loopback,
            volumes: volumes.into_iter().collect(),
            boot: "00000000-0000-4000-8000-0000000000aa".to_owned(),
        };
        let policy = Policy { timeout_ms: None, on_timeout: OnTimeout::Stop, auto_resume: false };
        let boxed = all.create(spec, all.host_image().unwrap(), policy).await.unwrap();
        let sandbox = boxed.sandbox().await.unwrap();
        let router = interpreter(Interpreter::new(sandbox.clone(), env));
        Some(Self { sandbox, router, boxed, _all: all, _folder: folder })
    }

    pub async fn end(self) {
        self.boxed.happen(Input::Remove).await.unwrap();
    }

    pub async fn send(&self, method: &str, path: &str, body: &Value) -> (StatusCode, Body) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json").body(body).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(90), self.router.clone().oneshot(request)).await.unwrap().unwrap();
        (answer.status(), answer.into_body())
    }

    pub async fn ask(&self, method: &str, path: &str, body: &Value) -> (StatusCode, String) {
        let (status, body) = self.send(method, path, body).await;
        (status, text(body).await)
    }

    /// A cell that must be taken.
    pub async fn run(&self, body: Value) -> Cell {
        let (status, text) = self.ask("POST", "/execute", &body).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        Cell::of(&text)
    }

    /// A cell of JavaScript in the default context.
    pub async fn js(&self, code: &str) -> Cell {
        self.run(json!({ "code": code, "language": "javascript" })).await
    }
}

pub async fn text(body: Body) -> String {
    let bytes = tokio::time::timeout(Duration::from_secs(90), body.collect()).await.unwrap().unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a cell said.
#[derive(Debug)]
pub struct Cell {
    pub said: Vec<Value>,
}

impl Cell {
    pub fn of(text: &str) -> Self {
        Self { said: text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() }
    }

    /// All of a stream.
    pub fn stream(&self, kind: &str) -> String {
        self.said.iter().filter(|said| said["type"] == kind).map(|said| said["text"].as_str().unwrap()).collect()
    }

    pub fn out(&self) -> String {
        self.stream("stdout")
    }

    /// The result of the last expression, as text.
    pub fn text(&self) -> Option<&str> {
        self.said.iter().find(|said| said["is_main_result"] == true).and_then(|said| said["text"].as_str())
    }

    pub fn error(&self) -> Option<&Value> {
        self.said.iter().find(|said| said["type"] == "error")
    }

    pub fn ended(&self) -> &str {
        self.said.last().unwrap()["type"].as_str().unwrap()
    }
}

/// A folder with Python packages for the interpreter within sandboxes, made once and kept; `None`, and why, where it cannot be had.
pub async fn python_packages(name: &'static str, wanted: &'static [&'static str]) -> Option<Arc<PathBuf>> {
    static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one = MAKING.lock().await;
    let made = tokio::task::spawn_blocking(move || install(name, wanted)).await.unwrap();
    made.map(Arc::new).map_err(|why| passed_over(&format!("{} cannot be installed: {why}", wanted.join(", ")))).ok()
}

fn install(name: &str, wanted: &[&str]) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.join("complete").exists() {
        return Ok(folder);
    }
    let run = |program: &str, arguments: &[&str]| {
        let ran = std::process::Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if ran.status.success() { Ok(said(&ran.stdout)) } else { Err(said(&ran.stderr)) }
    };
    // The interpreter that sandboxes see is the host's own; the pip that is at hand may be another's.
    let version = run("/usr/bin/python3", &["-c", "import sys; print('%d.%d' % sys.version_info[:2])"])?;
    let place = folder.to_string_lossy().into_owned();
    let mut arguments = vec!["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"];
    arguments.extend(["--timeout", "20", "--retries", "1", "--python-version", &version, "--target", &place]);
    arguments.extend(wanted);
    run("python3", &arguments)?;
    std::fs::write(folder.join("complete"), "").map_err(|error| error.to_string())?;
    Ok(folder)
}
