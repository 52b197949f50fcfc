//! Changes of files as a worker hears them, and workers that want to hear, or see, too much.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ask, end, house};
use crate::house::House;

const WORKER: &str = r#"
const code = async (f) => { try { await f(); return 'done' } catch (e) { return `${e.code} ${e.httpStatus}` } };
async function* events(stream) {
    let rest = '';
    for await (const piece of stream.pipeThrough(new TextDecoderStream())) {
        const parts = (rest + piece).split('\n\n');
        rest = parts.pop();
        for (const part of parts) yield JSON.parse(part.slice(6));
    }
}
const cases = {
    async changes(box) {
        await box.exec('mkdir -p w/.git; mkdir other');
        const heard = [];
        let watching;
        for await (const { type, eventType, path, isDirectory } of events(await box.watch('w'))) {
            if (type === 'watching') {
                watching = path;
                await box.startProcess('cd w; for step in "echo x > a.txt" "mkdir deep" "echo y > deep/b.txt" "echo z > .git/index" "mv a.txt c.txt" "chmod 600 c.txt" "rm deep/b.txt" "rmdir deep" "echo > last"; do sleep 0.1; eval "$step"; done');
            } else heard.push(`${eventType} ${path.slice(watching.length)}${isDirectory ? '/' : ''}`);
            if (path === '/home/user/w/last') break;
        }
        return { watching, heard };
    },
    async filtered(box) {
        await box.exec('mkdir w');
        const heard = [];
        for await (const { type, eventType, path } of events(await box.watch('w', { include: ['*.ts', 'only/**'], recursive: true }))) {
            if (type === 'watching') await box.startProcess('cd w; mkdir -p only/deep src; sleep 0.2; echo > a.js; echo > src/a.ts; echo > only/deep/x; echo > end.ts');
            else heard.push(`${eventType} ${path}`);
            if (path === '/home/user/w/end.ts') break;
        }
        return heard;
    },
    async refused(box) {
        return Promise.all([
            code(() => box.watch('nowhere')), code(() => box.watch('/root')), code(() => box.watch('.', { include: ['a'], exclude: ['b'] })),
            code(() => box.watch('.', { include: ['x'.repeat(128)] })), code(() => box.watch('.', { include: Array(33).fill('x') })), code(() => box.watch('a\0b')),
        ]);
    },
    async many(box) {
        const codes = {};
        const kept = [];
        for (let n = 0; n < 10_000; n += 50) {
            await Promise.all(Array.from({ length: 50 }, async () => {
                const said = await code(async () => kept.push(await box.watch('/tmp', { recursive: false })));
                codes[said] = (codes[said] ?? 0) + 1;
            }));
        }
        return codes;
    },
    async one(box) { return code(() => box.watch('/tmp')) },
    async crowd(box) {
        const { exitCode } = await box.exec('mkdir crowd && cd crowd && seq 1 100001 | xargs touch');
        return [exitCode, await code(() => box.listFiles('crowd')), await code(() => box.diff()), (await box.exec('echo fine')).stdout];
    },
};
export default {
    async fetch(request, env) {
        const [, name, box] = new URL(request.url).pathname.split('/');
        return Response.json(await cases[name](env.SANDBOX.get(box)));
    },
};
"#;

async fn with_worker() -> Option<House> {
    let house = house().await?;
    let body = json!({
        "main": "main.js", "modules": { "main.js": WORKER }, "bindings": { "SANDBOX": { "type": "sandboxes" } }, "limits": { "subrequests": 20_000 },
    });
    let (status, text) = house.control(Method::PUT, "/v1/workers/w", &body).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    Some(house)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_heard_as_they_happen() {
    let Some(house) = with_worker().await else { return };
    let said = ask(&house, "w/changes/main").await;
    assert_eq!(said["watching"], "/home/user/w");
    let heard: Vec<&str> = said["heard"].as_array().unwrap().iter().map(|event| event.as_str().unwrap()).collect();
    let mut rest = heard.iter();
    for wanted in [
        "create /a.txt",
        "modify /a.txt",
        "create /deep/",
        "create /deep/b.txt",
        "modify /deep/b.txt",
        "move_from /a.txt",
        "move_to /c.txt",
        "attrib /c.txt",
        "delete /deep/b.txt",
        "delete /deep/",
        "create /last",
    ] {
        assert!(rest.any(|event| *event == wanted), "no {wanted}, in this order, in {heard:?}");
    }
    assert!(!heard.iter().any(|event| event.contains(".git")), "{heard:?}");
    let heard = ask(&house, "w/filtered/other").await;
    let heard: Vec<&str> = heard.as_array().unwrap().iter().map(|event| event.as_str().unwrap()).collect();
    assert!(heard.contains(&"create /home/user/w/src/a.ts") && heard.contains(&"create /home/user/w/only/deep/x"), "{heard:?}");
    assert!(!heard.iter().any(|event| event.ends_with("a.js") || event.ends_with("/src")), "{heard:?}");
    let refused = ask(&house, "w/refused/main").await;
    let refused: Vec<&str> = refused.as_array().unwrap().iter().map(|code: &Value| code.as_str().unwrap()).collect();
    assert_eq!(refused[0], "FILE_NOT_FOUND 404");
    assert_eq!(refused[1], "PERMISSION_DENIED 403");
    assert!(refused[2..5].iter().all(|code| *code == "INVALID_ARGUMENT 400") && refused[5] != "done", "{refused:?}");
    end(house).await;
}

/// Ten thousand watches in one call: a call makes a thousand requests, a sandbox has 128 watches at once, and none of them outlives the call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watches_are_a_hundred_and_twenty_eight() {
    let Some(house) = with_worker().await else { return };
    let said = ask(&house, "w/many/main").await;
    assert_eq!(said, json!({ "done": 128, "TOO_MANY_WATCHES 429": 872, "undefined undefined": 9_000 }));
    let began = std::time::Instant::now();
    while ask(&house, "w/one/main").await != json!("done") {
        assert!(began.elapsed().as_secs() < 10, "the watches of a call that has ended are there still");
    }
    end(house).await;
}

/// A crowd of files is refused, not gathered; the sandbox goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_without_end_are_refused() {
    let Some(house) = with_worker().await else { return };
    assert_eq!(ask(&house, "w/crowd/main").await, json!([0, "TOO_MANY_FILES 413", "TOO_MANY_FILES 413", "fine\n"]));
    end(house).await;
}
