//! The program as people use it: a node started by `skep up`, and the other commands against it.
#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

fn skep(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.env_remove("SKEP_URL").env_remove("SKEP_KEY").arg("--data").arg(data).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

struct Up {
    child: Child,
    url: String,
}

impl Up {
    fn start(data: &Path) -> Self {
        // Temporary folders may be in memory, which nothing is promised about.
        let config = data.with_extension("toml");
        fs::write(&config, "[node.log]\ntrust_any_folder = true\n").unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_skep"))
            .args(["--json", "up", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .arg("--config")
            .arg(config)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self { child, url: said["url"].as_str().unwrap().to_owned() }
    }

    fn call(&self, path: &str) -> String {
        ureq::get(format!("{}{path}", self.url)).call().unwrap().body_mut().read_to_string().unwrap()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const HELLO: &str = "export default { async fetch(request: Request): Promise<Response> { return new Response('hello from WHO') } };";

#[test]
fn deploy_call_roll_back_execute() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let up = Up::start(&data);
    let file = folder.path().join("hello.ts");
    for who in ["one", "two"] {
        fs::write(&file, HELLO.replace("WHO", who)).unwrap();
        let done = skep(&data, &["deploy", file.to_str().unwrap()]);
        assert!(done.status.success(), "{}", text(&done));
        assert_eq!(up.call("/w/hello/"), format!("hello from {who}"));
    }
    assert!(skep(&data, &["workers", "rollback", "hello"]).status.success());
    assert_eq!(up.call("/w/hello/"), "hello from one");
    assert!(text(&skep(&data, &["workers", "ls"])).contains("hello"));
    assert!(text(&skep(&data, &["workers", "versions", "hello"])).contains("v1*"));

    for (code, result) in
        [("6 * 7", "42"), ("const n: number = 2; return n + 1", "3"), ("export default async (input, env) => env.A + input", "\"x1\"")]
    {
        let done = skep(&data, &["execute", "-e", code, "--input", "1", "--binding", "A=x"]);
        assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), result, "{code}: {}", text(&done));
    }
    let thrown = skep(&data, &["execute", "-e", "throw new TypeError('no')"]);
    assert_eq!(thrown.status.code(), Some(5), "{}", text(&thrown));
    assert!(text(&thrown).contains("TypeError: no"), "{}", text(&thrown));
    assert_eq!(skep(&data, &["workers", "versions", "none"]).status.code(), Some(4));
}

#[test]
fn keys_work_beside_a_running_node() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let up = Up::start(&data);
    let made = skep(&data, &["key", "create", "--scope", "read", "--expires", "1d"]);
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let denied = Command::new(env!("CARGO_BIN_EXE_skep")).args(["--url", &up.url, "--key", &token, "key", "ls"]).output().unwrap();
    assert_eq!(denied.status.code(), Some(3), "{}", text(&denied));
    let list = Command::new(env!("CARGO_BIN_EXE_skep")).args(["--url", &up.url, "--key", &token, "workers", "ls"]).output().unwrap();
    assert!(list.status.success(), "{}", text(&list));
    let id = token.split('_').nth(1).unwrap();
    assert!(skep(&data, &["key", "revoke", id]).status.success());
    let list = Command::new(env!("CARGO_BIN_EXE_skep")).args(["--url", &up.url, "--key", &token, "workers", "ls"]).output().unwrap();
    assert_eq!(list.status.code(), Some(3));
    assert_eq!(skep(&data, &["key", "create", "--scope", "everything"]).status.code(), Some(2));
}

#[test]
fn errors_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = skep(&folder.path().join("none"), &["workers", "ls"]);
    assert_eq!(nowhere.status.code(), Some(3));
    assert!(text(&nowhere).contains("skep up"), "{}", text(&nowhere));
    let away =
        Command::new(env!("CARGO_BIN_EXE_skep")).args(["--url", "http://127.0.0.1:9", "--key", "x", "workers", "ls"]).output().unwrap();
    assert_eq!(away.status.code(), Some(6), "{}", text(&away));
    let broken = folder.path().join("broken.ts");
    fs::write(&broken, "export default {{").unwrap();
    let refused = skep(folder.path(), &["deploy", broken.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(5), "{}", text(&refused));
    assert!(skep(folder.path(), &["openapi"]).status.success() && skep(folder.path(), &["version"]).status.success());
}

/// Kills the node with SIGKILL while versions are being deployed, again and again. Afterwards either the last acknowledged version or a
/// later one answers, whole, and what answers is what the list says.
#[test]
fn a_kill_during_deploys_leaves_a_whole_version() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut acknowledged = 0;
    for round in 0..8 {
        let up = Up::start(&data);
        if acknowledged > 0 {
            let answer = up.call("/w/w/");
            let n: u32 = answer.split(' ').next().unwrap().parse().unwrap();
            assert!(n >= acknowledged, "round {round}: {n} answers, {acknowledged} was acknowledged");
            assert!(answer.ends_with(&format!("{} end", "x".repeat(50_000))), "round {round}: half a module");
            acknowledged = n;
        }
        let (url, key, first) = (up.url.clone(), fs::read_to_string(data.join("admin.key")).unwrap(), acknowledged + 1);
        let deploying = thread::spawn(move || {
            let mut done = first - 1;
            for n in first.. {
                let code = format!("export default {{ fetch: () => new Response(`{n} {} end`) }};", "x".repeat(50_000));
                let body = serde_json::json!({ "main": "main.js", "modules": { "main.js": code } });
                let sent =
                    ureq::put(format!("{url}/v1/workers/w")).header("authorization", format!("Bearer {}", key.trim())).send_json(&body);
                if sent.is_err() {
                    return done;
                }
                done = n;
            }
            done
        });
        thread::sleep(Duration::from_millis(150 + 37 * round));
        drop(up);
        acknowledged = deploying.join().unwrap();
    }
    assert!(acknowledged > 0, "nothing was ever deployed");
}

#[test]
fn secrets_and_props_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let up = Up::start(&data);
    let value = folder.path().join("value");
    fs::write(&value, "hunter2-hunter2\n").unwrap();
    let set = skep(&data, &["secret", "set", "KEY", "--host", "api.example.com", "--file", value.to_str().unwrap()]);
    assert!(set.status.success() && text(&set).contains("api.example.com"), "{}", text(&set));
    let list = skep(&data, &["--json", "secret", "ls"]);
    assert!(text(&list).contains("KEY") && !text(&list).contains("hunter2"), "{}", text(&list));
    let callee = folder.path().join("callee.js");
    fs::write(&callee, "import { WorkerEntrypoint } from 'cloudflare:workers'; export class Who extends WorkerEntrypoint { who() { return this.ctx.props.who; } } export default {};").unwrap();
    let caller = folder.path().join("caller.ts");
    fs::write(
        &caller,
        "export default { async fetch(request, env) { return new Response(`${await env.S.who()} ${env.K.slice(0, 12)}`); } };",
    )
    .unwrap();
    assert!(skep(&data, &["deploy", callee.to_str().unwrap()]).status.success());
    let settings = ["--service", "S=callee#Who", "--service-props", "S={\"who\":\"me\"}", "--secret", "K=KEY"];
    let done = skep(&data, &[&["deploy", caller.to_str().unwrap()][..], &settings].concat());
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(up.call("/w/caller/"), "me skep-secret-");
    let wrong = skep(&data, &["deploy", caller.to_str().unwrap(), "--service-props", "S={}"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
    let missing = skep(&data, &["deploy", caller.to_str().unwrap(), "--secret", "K=NONE"]);
    assert!(!missing.status.success() && text(&missing).contains("skep secret set"), "{}", text(&missing));
    assert!(skep(&data, &["secret", "rm", "KEY"]).status.success());
    assert_eq!(skep(&data, &["secret", "rm", "KEY"]).status.code(), Some(4));
}
