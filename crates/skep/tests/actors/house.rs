//! A node started by `skep up` in a folder of the test, and commands against it.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

/// An actor that counts in rows; a POST adds one. Why one fails, the client is told.
pub const APP: &str = "
import { DurableObject } from 'cloudflare:workers';
export class Counter extends DurableObject {
    constructor(ctx, env) {
        super(ctx, env);
        ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS step (n INTEGER PRIMARY KEY, note TEXT)');
    }
    fetch(request) {
        const { sql } = this.ctx.storage;
        if (request.method === 'POST') sql.exec('INSERT INTO step (n, note) SELECT coalesce(max(n), 0) + 1, ? FROM step', 'x'.repeat(200));
        const { n, count } = sql.exec('SELECT coalesce(max(n), 0) AS n, count(*) AS count FROM step').one();
        return new Response(`${n} ${count}`);
    }
}
export default {
    async fetch(request, env) {
        try {
            return await env.COUNTERS.getByName(new URL(request.url).pathname.slice(1)).fetch(request);
        } catch (error) {
            return new Response(error.message, { status: 503 });
        }
    },
};
";

/// The same, with notes of so many bytes that do not compress.
pub fn app(note_bytes: usize) -> String {
    APP.replace("'x'.repeat(200)", &format!("crypto.getRandomValues(new Uint8Array({note_bytes}))"))
}

/// Runs a command against the node of a data folder.
pub fn skep(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.env_remove("SKEP_URL").env_remove("SKEP_KEY").arg("--data").arg(data).args(args).output().unwrap()
}

/// What a command prints that does what it should.
pub fn good(data: &Path, args: &[&str]) -> String {
    let done = skep(data, args);
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The same, as a value.
pub fn parsed(data: &Path, args: &[&str]) -> serde_json::Value {
    let text = good(data, &[&["--json"], args].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error} in {text}"))
}

/// A node. It is killed with SIGKILL when this is dropped.
pub struct Up {
    child: Child,
    pub url: String,
}

impl Up {
    /// A node that comes up.
    pub fn start(data: &Path, config: &Path) -> Self {
        Self::try_start(data, config).unwrap_or_else(|said| panic!("{said}"))
    }

    /// A node, or what it says instead of coming up.
    pub fn try_start(data: &Path, config: &Path) -> Result<Self, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        command.args(["--json", "up", "--listen", "127.0.0.1:0", "--data"]).arg(data).arg("--config").arg(config);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let stderr = child.stderr.take().unwrap();
        if line.is_empty() {
            child.wait().unwrap();
            return Err(io::read_to_string(stderr).unwrap());
        }
        // Who does not read it stops it.
        thread::spawn(move || io::copy(&mut BufReader::new(stderr), &mut io::sink()));
        let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Ok(Self { child, url: said["url"].as_str().unwrap().to_owned() })
    }

    /// Deploys code with a class `Counter` as `app`.
    pub fn deploy(data: &Path, folder: &Path, code: &str) {
        let file = folder.join("app.js");
        fs::write(&file, code).unwrap();
        good(data, &["deploy", file.to_str().unwrap(), "--actors", "COUNTERS=Counter"]);
    }

    /// What an actor answers to a method: status and text.
    pub fn call(&self, method: &str, actor: usize) -> (u16, String) {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}/w/app/a{actor}", self.url)).body(()).unwrap();
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.run(request).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    /// The highest step of an actor, and how many it has.
    pub fn read(&self, actor: usize) -> (u64, u64) {
        let (status, text) = self.call("GET", actor);
        assert_eq!(status, 200, "actor {actor}: {text}");
        let (n, count) = text.split_once(' ').unwrap();
        (n.parse().unwrap(), count.parse().unwrap())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration file: a log in small segments, in a folder that may be in memory, which nothing is promised about; and `more`.
pub fn config(folder: &Path, more: &str) -> PathBuf {
    let file = folder.join("skep.toml");
    fs::write(&file, format!("[node.log]\nsegment_bytes = 262144\ntrust_any_folder = true\n{more}")).unwrap();
    file
}
