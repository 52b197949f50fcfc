//! `env.SANDBOX`: workers and actors with computers of their own, on real sandboxes. As root only; what else a machine lacks is named.

mod ends;
mod past;
mod watches;

use std::{os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::house::House;

/// Each case is a path; the second step of it names the sandbox.
const WORKER: &str = r#"
const code = async (f) => { try { await f(); return 'done' } catch (e) { return `${e.name} ${e.code} ${e.httpStatus}` } };
const text = async (stream) => { let all = ''; for await (const piece of stream.pipeThrough(new TextDecoderStream())) all += piece; return all };
const cases = {
    async exec(box) {
        const fine = await box.exec('echo "$GREETING"; pwd; echo no >&2; exit 7', { env: { GREETING: 'hello' }, cwd: '/tmp' });
        const streamed = [];
        const told = await box.exec('echo one; sleep 0.1; echo two >&2', { stream: true, onOutput: (stream, data) => streamed.push([stream, data]) });
        const signal = await box.exec('kill -9 $$');
        return { fine, streamed, told: [told.success, told.stdout, told.stderr], signal: signal.exitCode };
    },
    async stream(box) {
        const events = (await text(await box.execStream('echo one; exit 3'))).split('\n\n').filter(Boolean).map((event) => JSON.parse(event.slice(6)));
        return events.map(({ type, data, exitCode }) => [type, data ?? exitCode ?? null]);
    },
    async files(box) {
        await box.mkdir('work/deep', { recursive: true });
        await box.writeFile('work/a.txt', 'text é');
        await box.writeFile('/home/user/work/b.bin', new Uint8Array([0, 255, 1]));
        await box.writeFile('work/c.bin', 'AP8B', { encoding: 'base64' });
        await box.writeFile('work/.hidden', new Response('streamed').body);
        const read = await box.readFile('work/a.txt');
        const bytes = await box.readFile('work/b.bin', { encoding: 'base64' });
        const stream = await text((await box.readFile('work/.hidden', { encoding: 'none' })).content);
        await box.renameFile('work/a.txt', 'work/deep/d.txt');
        const listed = await box.listFiles('work', { recursive: true });
        return {
            read: [read.content, read.size], bytes: bytes.content, same: (await box.readFile('work/c.bin', { encoding: 'base64' })).content, stream,
            names: listed.files.map((file) => `${file.relativePath} ${file.type} ${file.size}`).sort(),
            exists: [(await box.exists('work/deep')).exists, (await box.exists('work/a.txt')).exists],
            refused: [
                await code(() => box.readFile('nowhere')), await code(() => box.mkdir('work')), await code(() => box.mkdir('no/such/parent')),
                await code(() => box.deleteFile('work')), await code(() => box.writeFile('/etc/mine', 'x')), await code(() => box.readFile('/root/x')),
                await code(() => box.deleteFile('work', { recursive: true })), await code(() => box.exists('work\0')),
            ],
        };
    },
    async processes(box) {
        const server = await box.startProcess('echo ready; python3 -m http.server 8123 --bind 127.0.0.1', { processId: 'web' });
        const line = (await server.waitForLog(/rea(dy)/, 10_000)).match[1];
        await server.waitForPort(8123, { mode: 'http', path: '/', timeout: 20_000 });
        const answer = await box.containerFetch('http://any/', 8123);
        // Before the server is killed: what it has not sent by then does not come.
        const html = (await answer.text()).includes('Directory');
        const listed = (await box.listProcesses()).map((process) => `${process.id} ${process.status}`);
        const again = await code(() => box.startProcess('true', { processId: 'web' }));
        await box.killProcess('web');
        await server.waitForExit(10_000);
        const failed = await box.startProcess('echo out; echo err >&2; exit 3');
        const { exitCode } = await failed.waitForExit(10_000);
        const logs = await failed.getLogs();
        return {
            line, status: answer.status, html, listed, again, after: await server.getStatus(), exitCode, logs: [logs.stdout, logs.stderr],
            failed: await failed.getStatus(), none: await box.getProcess('none'), unknown: await code(() => box.killProcess('none')), port: await code(() => box.containerFetch('http://any/', 8124)),
            cleaned: await box.cleanupCompletedProcesses(), exposed: await box.exposePort(8123, { name: 'web' }), low: await code(() => box.exposePort(22)),
        };
    },
    async backups(box) {
        await box.exec('mkdir -p w && echo kept > w/kept && ln -s /etc/passwd w/link && chmod 700 w/kept');
        const backup = await box.createBackup({ dir: 'w', name: 'first' });
        await box.exec('rm -r w/kept; echo new > w/new');
        await box.restoreBackup(backup);
        const { stdout } = await box.exec('cat w/kept; ls -A w; stat -c %a w/kept; readlink w/link');
        return { stdout, dir: backup.dir, id: backup.id, forged: await code(async () => box.restoreBackup({ id: '../../../etc/x', dir: 'w' })), missing: await code(() => box.createBackup({ dir: 'nowhere' })) };
    },
    async flood(box) {
        const { stdout, truncated, exitCode } = await box.exec('head -c 30000000 /dev/zero | tr "\\0" x; echo end >&2');
        return { length: stdout.length, truncated, exitCode };
    },
    async timeout(box) {
        const begun = await code(() => box.exec('echo $$ > pid; sleep 1000', { timeout: 500 }));
        return { begun, alive: (await box.exec('sleep 0.3; kill -0 $(cat pid)')).exitCode };
    },
    async marked(box) { await box.writeFile('mark', 'mine'); return 'marked' },
    async mark(box) { return (await box.exec('cat mark')).stdout },
    async destroy(box) { await box.destroy(); return 'destroyed' },
    async names(box, env) { return Promise.all(['', 'x'.repeat(129), 'a\nb', 5].map((name) => code(() => env.SANDBOX.get(name).exec('true')))) },
};
export default {
    async fetch(request, env) {
        const [, name, ...box] = decodeURIComponent(new URL(request.url).pathname).split('/');
        return Response.json(await cases[name](env.SANDBOX.get(box.join('/')), env));
    },
};
"#;

/// An actor with a computer: what leaves does so after what was written.
const ACTOR: &str = r#"
import { DurableObject } from 'cloudflare:workers';
export class Agent extends DurableObject {
    async work(line) {
        this.ctx.storage.kv.put('turns', (this.ctx.storage.kv.get('turns') ?? 0) + 1);
        const { stdout } = await this.env.SANDBOX.get('hands').exec(line);
        return [this.ctx.storage.kv.get('turns'), stdout];
    }
    async undone() {
        this.ctx.storage.kv.put('turns', 100);
        this.env.SANDBOX.get('hands').writeFile('leaked', 'x').catch(() => {});
        this.ctx.abort('enough');
    }
}
export default {
    async fetch(request, env) {
        const [, verb, ...rest] = decodeURIComponent(new URL(request.url).pathname).split('/');
        try {
            return Response.json(await env.AGENTS.getByName('one')[verb](rest.join('/')));
        } catch (e) {
            return Response.json(e.message);
        }
    },
};
"#;

/// A house with sandboxes; `None`, and why, where there can be none.
async fn house() -> Option<House> {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("passed over: not root");
        return None;
    }
    let beside = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let Some(program) = ["skep-boxed", "skep"].into_iter().map(|name| beside.join(name)).find(|program: &PathBuf| program.exists()) else {
        eprintln!("passed over: skep-boxed is not beside the tests (cargo build --release --workspace)");
        return None;
    };
    // An overlay does not lie on every file system that /tmp may be.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let house = House::on(folder, |node, _| node.sandboxes.strict = true).await;
    if let Err(error) = house.node.open_sandboxes(program).await {
        eprintln!("passed over: {error}");
        return None;
    }
    Some(house)
}

async fn ask(house: &House, path: &str) -> Value {
    let (status, text) = house.call(path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Removes what outlives a node.
async fn end(house: House) {
    for owned in house.node.sandboxes().unwrap().list() {
        owned.remove().await.unwrap();
    }
}

async fn with_worker() -> Option<House> {
    let house = house().await?;
    house.deploy("w", WORKER, json!({ "SANDBOX": { "type": "sandboxes" } })).await;
    Some(house)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_runs_commands_and_hears_them_as_they_write() {
    let Some(house) = with_worker().await else { return };
    let said = ask(&house, "w/exec/main").await;
    assert_eq!(
        (&said["fine"]["stdout"], &said["fine"]["stderr"], &said["fine"]["exitCode"]),
        (&json!("hello\n/tmp\n"), &json!("no\n"), &json!(7))
    );
    assert_eq!((&said["fine"]["success"], &said["fine"]["truncated"], &said["signal"]), (&json!(false), &json!(false), &json!(137)));
    assert_eq!(said["streamed"], json!([["stdout", "one\n"], ["stderr", "two\n"]]));
    assert_eq!(said["told"], json!([true, "one\n", "two\n"]));
    assert_eq!(ask(&house, "w/stream/main").await, json!([["start", null], ["stdout", "one\n"], ["complete", 3]]));
    end(house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workers_files_are_the_sandboxs_and_no_others() {
    let Some(house) = with_worker().await else { return };
    let said = ask(&house, "w/files/main").await;
    assert_eq!(said["read"], json!(["text é", 7]));
    assert_eq!((&said["bytes"], &said["same"], &said["stream"]), (&json!("AP8B"), &json!("AP8B"), &json!("streamed")));
    assert_eq!(
        said["names"],
        json!(["b.bin file 3", "c.bin file 3", "deep directory 0", "deep/d.txt file 7"]).as_array().map_or(json!(null), |names| {
            // A folder's size is the file system's own.
            Value::Array(
                names.iter().map(|name| if name == "deep directory 0" { said["names"][2].clone() } else { name.clone() }).collect(),
            )
        })
    );
    assert_eq!(said["exists"], json!([true, false]));
    let refused: Vec<&str> = said["refused"].as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
    assert_eq!(
        refused[..4],
        [
            "SandboxError FILE_NOT_FOUND 404",
            "SandboxError FILE_EXISTS 409",
            "SandboxError FILE_NOT_FOUND 404",
            "SandboxError IS_DIRECTORY 400"
        ]
    );
    assert!(refused[4..6].iter().all(|code| code.contains("PERMISSION_DENIED") || code.contains("FILESYSTEM_ERROR")), "{refused:?}");
    assert_eq!((refused[6], refused[7].starts_with("SandboxError")), ("done", true), "{refused:?}");
    end(house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_go_on_and_their_servers_answer() {
    let Some(house) = with_worker().await else { return };
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return eprintln!("passed over: no /usr/bin/python3 for a server within");
    }
    let said = ask(&house, "w/processes/main").await;
    assert_eq!((&said["line"], &said["status"], &said["html"]), (&json!("dy"), &json!(200), &json!(true)), "{said}");
    assert_eq!((&said["listed"], &said["again"]), (&json!(["web running"]), &json!("SandboxError PROCESS_EXISTS 409")));
    assert_eq!(
        (&said["after"], &said["exitCode"], &said["logs"], &said["failed"]),
        (&json!("killed"), &json!(3), &json!(["out\n", "err\n"]), &json!("failed"))
    );
    assert_eq!(
        (&said["none"], &said["unknown"], &said["port"]),
        (&json!(null), &json!("SandboxError PROCESS_NOT_FOUND 404"), &json!("SandboxError PORT_NOT_READY 502"))
    );
    assert_eq!((&said["cleaned"], &said["low"]), (&json!(2), &json!("SandboxError INVALID_PORT 400")));
    assert!(said["exposed"]["url"].as_str().unwrap().contains("://8123-i"), "{said}");
    end(house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_are_whole_and_a_workers_own() {
    let Some(house) = with_worker().await else { return };
    house
        .deploy(
            "other",
            WORKER.replace("id: '../../../etc/x'", "id: (await box.readFile('id')).content").as_str(),
            json!({ "SANDBOX": { "type": "sandboxes" } }),
        )
        .await;
    let said = ask(&house, "w/backups/main").await;
    assert_eq!((&said["stdout"], &said["dir"]), (&json!("kept\nkept\nlink\n700\n/etc/passwd\n"), &json!("/home/user/w")), "{said}");
    assert_eq!(
        (&said["forged"], said["missing"].as_str().unwrap().starts_with("SandboxError")),
        (&json!("SandboxError BACKUP_NOT_FOUND 404"), true)
    );
    // Another worker that has learned the id has not the backup.
    ask(&house, "other/marked/main").await;
    let theirs = house.node.sandboxes().unwrap().list().into_iter().find(|owned| owned.facts().owner == "worker:other").unwrap();
    theirs.running().await.unwrap().write_all("/home/user/id", 1_000, said["id"].as_str().unwrap().as_bytes()).await.unwrap();
    assert_eq!(ask(&house, "other/backups/main").await["forged"], "SandboxError BACKUP_NOT_FOUND 404");
    end(house).await;
}

/// A flood of output is bounded on this side, and does not end the command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_output_is_cut_and_said_to_be() {
    let Some(house) = with_worker().await else { return };
    assert_eq!(ask(&house, "w/flood/main").await, json!({ "length": 8 << 20, "truncated": true, "exitCode": 0 }));
    let said = ask(&house, "w/timeout/main").await;
    assert_eq!((&said["begun"], &said["alive"]), (&json!("SandboxError COMMAND_TIMEOUT 408"), &json!(1)), "{said}");
    end(house).await;
}

/// A name is its worker's: the same name of another worker is another sandbox, and no name leads to somebody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_names_lead_nowhere() {
    let Some(house) = with_worker().await else { return };
    house.deploy("other", WORKER, json!({ "SANDBOX": { "type": "sandboxes" } })).await;
    ask(&house, "w/marked/main").await;
    assert_eq!(ask(&house, "w/mark/main").await, json!("mine"));
    for foreign in ["main", "..%2Fw%2Fmain", "w%2Fmain", "main%3Fsandbox=main"] {
        assert_eq!(ask(&house, &format!("other/mark/{foreign}")).await, json!(""), "{foreign}");
    }
    let refused = ask(&house, "w/names/main").await;
    assert_eq!(
        refused,
        json!([
            "SandboxError INVALID_ARGUMENT 400",
            "SandboxError INVALID_ARGUMENT 400",
            "SandboxError INVALID_ARGUMENT 400",
            "TypeError undefined undefined"
        ])
    );
    // Destroyed, the name means a new one.
    ask(&house, "w/destroy/main").await;
    assert_eq!(ask(&house, "w/mark/main").await, json!(""));
    end(house).await;
}

/// In an actor a command is an effect like any other: it leaves after what was written is durable, and never when that was undone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actors_commands_wait_for_its_writes() {
    let Some(house) = house().await else { return };
    let bindings = json!({ "AGENTS": { "type": "actors", "class_name": "Agent" }, "SANDBOX": { "type": "sandboxes", "profile": "strict", "sleep_after_s": 60 } });
    house.deploy("a", ACTOR, bindings).await;
    assert_eq!(ask(&house, "a/work/echo%20one").await, json!([1, "one\n"]));
    assert_eq!(ask(&house, "a/undone").await, json!("enough"));
    assert_eq!(ask(&house, "a/work/ls%20-A%20leaked%202%3E%261%20%7C%20tail%20-c%2026").await, json!([2, "No such file or directory\n"]));
    end(house).await;
}

/// A sandbox that sleeps goes on where it was when it is used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeping_sandbox_wakes_when_it_is_used() {
    let Some(house) = house().await else { return };
    house.deploy("w", WORKER, json!({ "SANDBOX": { "type": "sandboxes", "sleep_after_s": 1 } })).await;
    ask(&house, "w/marked/main").await;
    let owned = house.node.sandboxes().unwrap().list().remove(0);
    let mut state = owned.state_changes();
    tokio::time::timeout(Duration::from_secs(20), state.wait_for(|state| *state == skep_node::SandboxState::Paused))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ask(&house, "w/mark/main").await, json!("mine"));
    end(house).await;
}

/// A snippet has no name that sandboxes could belong to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snippets_have_no_sandboxes() {
    let house = House::start().await;
    let body = json!({ "code": "export default () => 1", "bindings": { "SANDBOX": { "type": "sandboxes" } } });
    let (status, text) = house.control(Method::POST, "/v1/execute", &body).await;
    assert!(status.is_client_error() && text.contains("sandboxes"), "{status} {text}");
    // And where a node has none, every use says so.
    house.deploy("w", WORKER, json!({ "SANDBOX": { "type": "sandboxes" } })).await;
    let (status, _) = house.call("w/mark/main").await;
    assert!(status.is_server_error(), "{status}");
}
