//! JavaScript contexts.

use std::time::{Duration, Instant};

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::bench::{Bench, Cell, passed_over, text};

/// A sandbox whose host has node where sandboxes see it.
async fn with_node() -> Option<Bench> {
    if !std::path::Path::new("/usr/bin/node").exists() {
        passed_over("no /usr/bin/node on this host");
        return None;
    }
    Bench::set_up().await
}

#[tokio::test]
async fn cells_are_what_one_types_at_a_prompt() {
    let Some(bench) = with_node().await else { return };
    let cell = bench.js("console.log('out'); console.error('err'); 6 * 7").await;
    assert_eq!(
        (cell.out().as_str(), cell.stream("stderr").as_str(), cell.text(), cell.ended()),
        ("out\n", "err\n", Some("42"), "end_of_execution")
    );
    assert!(cell.said.iter().any(|said| *said == json!({ "type": "number_of_executions", "execution_count": 1 })), "{cell:?}");
    // Declarations stay, may be made again, and `await` is allowed anywhere.
    bench.js("const x = 1; let y = await Promise.resolve(2); function f() { return x + y }").await;
    assert_eq!(bench.js("const x = 40; f()").await.text(), Some("42"));
    assert_eq!(bench.js("'plain text'").await.text(), Some("plain text"));
    assert_eq!(bench.js("undefined").await.text(), None);
    let cell = bench.js("({ a: [1, 2n.toString()] })").await;
    let shown = cell.said.iter().find(|said| said["type"] == "result").unwrap();
    assert_eq!((&shown["json"], shown["text"].as_str()), (&json!({ "a": [1, "2"] }), Some("{ a: [ 1, '2' ] }")));
    let cell = bench.js("({ [Symbol.for('Jupyter.display')]: () => ({ 'text/html': '<b>x</b>', 'image/png': 'AAAA', 'x/y': 1 }) })").await;
    let shown = cell.said.iter().find(|said| said["type"] == "result").unwrap();
    assert_eq!((&shown["html"], &shown["png"], &shown["extra"]), (&json!("<b>x</b>"), &json!("AAAA"), &json!({ "x/y": 1 })));
    bench.end().await;
}

#[tokio::test]
async fn imports_are_found_and_texts_about_imports_left_alone() {
    let Some(bench) = with_node().await else { return };
    let code = "import { readFileSync as read, existsSync } from 'node:fs'\nimport path, * as all from 'path';\nimport 'os'\n\
                [typeof read, existsSync('/usr'), path.join('a', 'b'), typeof all.join].join(' ')";
    assert_eq!(bench.js(code).await.text(), Some("function true a/b function"));
    bench.sandbox.write_all("/home/user/own.mjs", 1_000, b"export default 5").await.unwrap();
    assert_eq!(bench.js("(await import('./own.mjs')).default").await.text(), Some("5"));
    let code = "const t = `\nimport a from 'b'\n${ `import('c')` }`; const r = /import 'x'/; // import e from 'f'\nt + \"import g from 'h'\" + r.source";
    assert_eq!(bench.js(code).await.text(), Some("\nimport a from 'b'\nimport('c')import g from 'h'import 'x'"));
    bench.end().await;
}

#[tokio::test]
async fn errors_say_what_and_where() {
    let Some(bench) = with_node().await else { return };
    let cell = bench.js("function f() { throw new RangeError('far') }; f()").await;
    let error = cell.error().unwrap();
    assert_eq!((&error["name"], &error["value"]), (&json!("RangeError"), &json!("far")));
    assert!(error["traceback"].as_str().unwrap().contains("at f"), "{error}");
    assert_eq!(bench.js("let let").await.error().unwrap()["name"], "SyntaxError");
    assert_eq!(bench.js("throw 'only text'").await.error().unwrap()["value"], "only text");
    // What is thrown outside of a cell ends no context.
    bench.js("var kept = 1; setTimeout(() => { throw new Error('late') }, 0); Promise.reject(new Error('never heard'))").await;
    assert_eq!(bench.js("await new Promise((done) => setTimeout(done, 50)); kept").await.text(), Some("1"));
    bench.end().await;
}

#[tokio::test]
async fn variables_are_a_cells_own() {
    let Some(bench) = with_node().await else { return };
    let code = "process.env.MINE ?? 'none'";
    let cell = bench.run(json!({ "code": code, "language": "js", "env_vars": { "MINE": "here" } })).await;
    assert_eq!(cell.text(), Some("here"));
    assert_eq!(bench.js(code).await.text(), Some("none"));
    bench.end().await;
}

#[tokio::test]
async fn contexts_are_apart_and_are_listed_restarted_and_removed() {
    let Some(bench) = with_node().await else { return };
    let (status, made) = bench.ask("POST", "/contexts", &json!({ "language": "javascript", "cwd": "/tmp" })).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let id = made["id"].as_str().unwrap();
    assert_eq!((&made["language"], &made["cwd"]), (&json!("javascript"), &json!("/tmp")));
    let within = async |code: &str| bench.run(json!({ "code": code, "context_id": id })).await;
    assert_eq!(within("var x = 1; process.cwd()").await.text(), Some("/tmp"));
    assert_eq!(bench.js("typeof x").await.text(), Some("undefined"));
    let (_, listed) = bench.ask("GET", "/contexts", &Value::Null).await;
    assert_eq!(serde_json::from_str::<Vec<Value>>(&listed).unwrap().len(), 2, "{listed}");
    assert_eq!(bench.ask("POST", &format!("/contexts/{id}/restart"), &json!({})).await.0, StatusCode::OK);
    assert_eq!(within("typeof x").await.text(), Some("undefined"));
    assert_eq!(bench.ask("DELETE", &format!("/contexts/{id}"), &Value::Null).await.0, StatusCode::NO_CONTENT);
    let (status, why) = bench.ask("POST", "/execute", &json!({ "code": "1", "context_id": id })).await;
    assert_eq!((status, why), (StatusCode::NOT_FOUND, format!("Context {id} not found")));
    assert_eq!(bench.ask("GET", "/health", &Value::Null).await, (StatusCode::OK, "OK".to_owned()));
    bench.end().await;
}

#[tokio::test]
async fn requests_that_are_none_are_refused() {
    let Some(bench) = with_node().await else { return };
    let status = async |path: &str, body: Value| bench.ask("POST", path, &body).await.0;
    assert_eq!(status("/execute", json!({ "code": "1", "language": "js", "context_id": "x" })).await, StatusCode::BAD_REQUEST);
    assert_eq!(status("/execute", json!({ "code": "1", "language": "../../python" })).await, StatusCode::BAD_REQUEST);
    assert_eq!(status("/execute", json!([])).await, StatusCode::BAD_REQUEST);
    assert_eq!(status("/contexts", json!({ "language": "js", "cwd": "/nowhere" })).await, StatusCode::BAD_REQUEST);
    assert_eq!(status("/contexts", json!({ "language": "js", "cwd": "/proc/self/fd" })).await, StatusCode::BAD_REQUEST);
    assert_eq!(status("/contexts/..%2f..%2fetc/restart", json!({})).await, StatusCode::NOT_FOUND);
    bench.end().await;
}

/// A client that leaves takes its cell with it, and nothing else: what stood in the context before is there.
#[tokio::test]
async fn a_client_that_leaves_interrupts_its_cell() {
    let Some(bench) = with_node().await else { return };
    bench.js("var kept = 'kept'").await;
    for endless in ["console.log('on'); for (;;) {}", "console.log('on'); await new Promise(() => {})"] {
        let (status, mut body) = bench.send("POST", "/execute", &json!({ "code": endless, "language": "js" })).await;
        assert_eq!(status, StatusCode::OK);
        let mut seen = String::new();
        while !seen.contains("on\\n") {
            let frame = tokio::time::timeout(Duration::from_secs(30), body.frame()).await.unwrap().unwrap().unwrap();
            seen.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
        }
        drop(body);
        let began = Instant::now();
        assert_eq!(bench.js("kept").await.text(), Some("kept"), "{endless}");
        assert!(began.elapsed() < Duration::from_secs(9), "{endless}: the interpreter was ended, not the cell");
    }
    bench.end().await;
}

#[tokio::test]
async fn a_cell_that_ends_its_interpreter_ends_no_more_than_that() {
    let Some(bench) = with_node().await else { return };
    bench.js("var lost = 1").await;
    let cell = bench.js("console.log('last words'); process.exit(3)").await;
    assert_eq!(cell.ended(), "unexpected_end_of_execution");
    assert_eq!(bench.js("typeof lost").await.text(), Some("undefined"));
    // Nor does one that ends the process between it and the node.
    assert_eq!(bench.js("process.kill(process.ppid, 'SIGKILL'); for (;;) {}").await.ended(), "unexpected_end_of_execution");
    assert_eq!(bench.js("1 + 1").await.text(), Some("2"));
    bench.end().await;
}

/// A flood is slowed down by who reads it, and all of it comes.
#[tokio::test]
async fn a_flood_of_output_waits_for_its_reader() {
    let Some(bench) = with_node().await else { return };
    let code = "for (let i = 0; i < 400; i++) process.stdout.write('x'.repeat(65_536)); 'done'";
    let (status, body) = bench.send("POST", "/execute", &json!({ "code": code, "language": "js" })).await;
    assert_eq!(status, StatusCode::OK);
    let cell = Cell::of(&text(body).await);
    assert_eq!((cell.out().len(), cell.text(), cell.ended()), (400 << 16, Some("done"), "end_of_execution"));
    bench.end().await;
}

/// The streams between a bridge and the node belong to the same user as the cell: what it forges there reaches its own client, as what it is allowed to
/// say, or nobody.
#[tokio::test]
async fn forged_lines_are_no_more_than_a_cells_own_words() {
    let Some(bench) = with_node().await else { return };
    let forged = "const w = (t) => { try { require('fs').appendFileSync(`/proc/${process.ppid}/fd/1`, t) } catch {} }; \
                  w('nonsense\\n'); w('0 {\"op\":\"ready\"}\\n'); w('999 {\"type\":\"result\",\"text\":\"foreign\"}\\n'); \
                  w('2 {\"type\":\"redirect\",\"location\":\"http://x\"}\\n'); w('2 {\\n'); 'mine'";
    bench.js("1").await;
    let cell = bench.js(forged).await;
    assert_eq!((cell.text(), cell.ended()), (Some("mine"), "end_of_execution"), "{cell:?}");
    assert!(!cell.said.iter().any(|said| said["type"] == "redirect" || said["text"] == "foreign"), "{cell:?}");
    assert_eq!(bench.js("2").await.text(), Some("2"));
    bench.end().await;
}
