//! The published packages, unmodified, against our port 49999.

use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};

use tokio::{net::TcpListener, process::Command};

use crate::bench::{Bench, PACKAGES, passed_over, python_packages};

/// In debug mode a package asks no control plane; `E2B_SANDBOX_URL` says where the sandbox's ports are.
const PYTHON: &str = r#"
from e2b_code_interpreter import Sandbox
box = Sandbox.create()
heard = []
run = box.run_code("import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7", on_stdout=lambda m: heard.append(m.line))
assert run.text == "42", run
assert "".join(run.logs.stdout) == "out\n" and "".join(run.logs.stderr) == "err\n", run.logs
assert "".join(heard) == "out\n", heard
assert run.execution_count == 1, run.execution_count
failed = box.run_code("1 / 0")
assert failed.error.name == "ZeroDivisionError" and "division" in failed.error.traceback, failed.error
html = box.run_code("from IPython.display import HTML\nHTML('<b>x</b>')").results[0]
assert html.html == "<b>x</b>" and html.is_main_result, html
context = box.create_code_context(cwd="/tmp")
assert context.cwd == "/tmp" and context.language == "python", context
assert box.run_code("import os; os.getcwd()", context=context).text == "/tmp"
box.run_code("x = 5", context=context)
assert box.run_code("'x' in globals()").text == "False"
assert box.run_code("import os; os.environ['MINE']", envs={"MINE": "here"}).text == "here"
assert box.run_code("console.log('js'); 1 + 1", language="javascript").text == "2"
if hasattr(box, "list_code_contexts"):
    assert context.id in [c.id for c in box.list_code_contexts()]
    box.restart_code_context(context)
    assert box.run_code("'x' in globals()", context=context).text == "False"
    box.remove_code_context(context)
print("passed")
"#;

const JAVASCRIPT: &str = r#"
import { Sandbox } from "@e2b/code-interpreter";
import { deepStrictEqual as same, ok } from "node:assert";
const box = await Sandbox.create();
const heard = [];
const run = await box.runCode("console.log('out'); console.error('err'); 6 * 7", { language: "javascript", onStdout: (m) => heard.push(m.line) });
same([run.text, run.logs.stdout.join(""), run.logs.stderr.join(""), heard.join(""), run.executionCount], ["42", "out\n", "err\n", "out\n", 1]);
const failed = await box.runCode("throw new RangeError('far')", { language: "js" });
same([failed.error.name, failed.error.value], ["RangeError", "far"]);
ok(failed.error.traceback.includes("RangeError"));
const context = await box.createCodeContext({ language: "javascript", cwd: "/tmp" });
same([context.cwd, context.language], ["/tmp", "javascript"]);
await box.runCode("var x = 5", { context });
same((await box.runCode("x", { context })).text, "5");
same((await box.runCode("process.env.MINE", { language: "js", envs: { MINE: "here" } })).text, "here");
if (typeof box.listCodeContexts === "function") {
  ok((await box.listCodeContexts()).some((c) => c.id === context.id));
  await box.restartCodeContext(context);
  same((await box.runCode("typeof x", { context })).text, "undefined");
  await box.removeCodeContext(context);
}
console.log("passed");
"#;

/// Where our port is.
async fn serve(bench: &Bench) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = bench.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn passes(command: &mut Command, url: &str) {
    let ran = command.env("E2B_DEBUG", "true").env("E2B_SANDBOX_URL", url).stdin(Stdio::null()).kill_on_drop(true).output();
    let ran = tokio::time::timeout(Duration::from_secs(120), ran).await.unwrap().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && out.contains("passed"), "{out}\n{err}");
}

#[tokio::test]
async fn the_published_python_package_runs_code() {
    if !Path::new("/usr/bin/node").exists() {
        return passed_over("no /usr/bin/node on this host");
    }
    let Some(kernel) = python_packages("kernel-packages", &["ipykernel"]).await else { return };
    let Some(sdk) = python_packages("sdk-packages", &["e2b-code-interpreter==2.11.5"]).await else { return };
    let env = BTreeMap::from([("PYTHONPATH".to_owned(), PACKAGES.to_owned())]);
    let Some(bench) = Bench::with(Some(&kernel), env).await else { return };
    let url = serve(&bench).await;
    passes(Command::new("/usr/bin/python3").args(["-c", PYTHON]).env("PYTHONPATH", sdk.as_os_str()), &url).await;
    bench.end().await;
}

#[tokio::test]
async fn the_published_javascript_package_runs_code() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdk-node");
    if !folder.join("node_modules/@e2b/code-interpreter").exists() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("package.json"), "{\"private\":true,\"type\":\"module\"}").unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--silent", "@e2b/code-interpreter@2.8.0"]).current_dir(&folder);
        match npm.output().await {
            Ok(ran) if ran.status.success() => {}
            Ok(ran) => return passed_over(&format!("@e2b/code-interpreter cannot be installed: {}", String::from_utf8_lossy(&ran.stderr))),
            Err(error) => return passed_over(&format!("no npm: {error}")),
        }
    }
    let Some(bench) = Bench::set_up().await else { return };
    let url = serve(&bench).await;
    std::fs::write(folder.join("try.mjs"), JAVASCRIPT).unwrap();
    passes(Command::new("node").arg("try.mjs").current_dir(&folder), &url).await;
    bench.end().await;
}
