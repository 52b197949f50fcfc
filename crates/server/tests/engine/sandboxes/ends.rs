//! What a call asked of a sandbox ends with the call: when it has answered, when its time is over, when it gives up, when its isolate is killed. What was
//! handed on to somebody else, and what an actor began, does not.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{ask, end, house};
use crate::house::House;

/// Each command writes down its number, and then says nothing for a long time.
const WORKER: &str = r#"
const SLEEPS = 'echo $$ > pid; echo begun; exec sleep 1000';
const begun = async (box) => { while (!(await box.exists('pid')).exists) await new Promise((done) => setTimeout(done, 20)) };
const cases = {
    async left(box) { box.exec(SLEEPS).catch(() => {}); await begun(box); return 'left' },
    async unread(box) { (await box.execStream(SLEEPS)).getReader().read(); await begun(box); return 'unread' },
    async streamed(box) { box.exec(SLEEPS, { stream: true, onOutput() {} }).catch(() => {}); await begun(box); return 'streamed' },
    async overdue(box) { return box.exec(SLEEPS) },
    async aborted(box) {
        const gone = box.exec(SLEEPS, { signal: AbortSignal.timeout(500) }).catch((e) => e.name);
        const name = await gone;
        for (let n = 0; n < 200; n++) {
            if ((await box.exec('kill -0 $(cat pid)')).exitCode !== 0) return name;
            await new Promise((done) => setTimeout(done, 50));
        }
        return 'it goes on';
    },
    async cancelled(box) {
        const reader = (await box.execStream(SLEEPS)).getReader();
        await begun(box);
        const pending = reader.read().then(() => reader.read()).catch(() => {});
        await reader.cancel();
        await pending;
        for (let n = 0; n < 200; n++) {
            if ((await box.exec('kill -0 $(cat pid)')).exitCode !== 0) return 'ended';
            await new Promise((done) => setTimeout(done, 50));
        }
        return 'it goes on';
    },
    async kept(box) { await box.startProcess(SLEEPS); await begun(box); return 'kept' },
    async killed(box) { (await box.execStream(SLEEPS)).getReader().read(); await begun(box); for (;;); },
    async waited(box, ctx) { ctx.waitUntil(box.exec('sleep 1; echo $$ > pid; echo late > late')); return 'waited' },
    async late(box) { return (await box.exec('cat late')).stdout },
    async alive(box) { return (await box.exec('kill -0 $(cat pid)')).exitCode === 0 },
};
export default {
    async fetch(request, env, ctx) {
        const [, name, box] = new URL(request.url).pathname.split('/');
        const sandbox = env.SANDBOX.get(box);
        if (name === 'through') return new Response(await sandbox.execStream('echo $$ > pid; echo one; sleep 1; echo two; exec sleep 2'));
        if (name === 'endless') return new Response(await sandbox.execStream('echo $$ > pid; while sleep 0.05; do echo x; done'));
        return Response.json(await cases[name](sandbox, ctx));
    },
};
"#;

const ACTOR: &str = r#"
import { DurableObject } from 'cloudflare:workers';
export class Agent extends DurableObject {
    async begin() {
        const box = this.env.SANDBOX.get('hands');
        this.kept = box.exec('echo $$ > pid; sleep 1.5; echo done > done');
        this.kept.catch(() => {});
        while (!(await box.exists('pid')).exists) await scheduler.wait(20);
        return 'begun';
    }
    async ended() { return (await this.kept).exitCode }
}
export default {
    async fetch(request, env) { return Response.json(await env.AGENTS.getByName('one')[new URL(request.url).pathname.slice(1)]()) },
};
"#;

async fn with_limits(limits: Value) -> Option<House> {
    let house = house().await?;
    let body = json!({ "main": "main.js", "modules": { "main.js": WORKER }, "bindings": { "SANDBOX": { "type": "sandboxes" } }, "limits": limits });
    let (status, text) = house.control(Method::PUT, "/v1/workers/w", &body).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    Some(house)
}

/// Within a while, and not before it was alive: `pid` is there.
async fn dies(house: &House, name: &str) {
    let began = Instant::now();
    while ask(house, &format!("w/alive/{name}")).await != json!(false) {
        assert!(began.elapsed() < Duration::from_secs(10), "the command of {name} goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_ends_with_the_call_that_it_was_run_for() {
    let Some(house) = with_limits(json!({})).await else { return };
    for case in ["left", "unread", "streamed"] {
        assert_eq!(ask(&house, &format!("w/{case}/{case}")).await, json!(case));
        dies(&house, case).await;
    }
    // What is waited for is part of the call, and what was started to go on goes on.
    assert_eq!(ask(&house, "w/waited/waited").await, json!("waited"));
    let began = Instant::now();
    while ask(&house, "w/late/waited").await != json!("late\n") {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ask(&house, "w/kept/kept").await, json!("kept"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(ask(&house, "w/alive/kept").await, json!(true));
    end(house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_ends_when_it_is_given_up() {
    let Some(house) = with_limits(json!({})).await else { return };
    assert_eq!(ask(&house, "w/aborted/one").await, json!("TimeoutError"));
    assert_eq!(ask(&house, "w/cancelled/two").await, json!("ended"));
    end(house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_ends_when_its_calls_time_is_over() {
    let Some(house) = with_limits(json!({ "wall_ms": 3_000 })).await else { return };
    // The sandbox is there before the clock counts.
    ask(&house, "w/alive/one").await;
    let (status, text) = house.call("w/overdue/one").await;
    assert!(status.is_server_error(), "{status} {text}");
    dies(&house, "one").await;
    end(house).await;
}

/// The isolate is killed in the middle of a stream: its worker computes without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_isolate_takes_its_commands_with_it() {
    let Some(house) = with_limits(json!({ "cpu_ms": 300 })).await else { return };
    ask(&house, "w/alive/one").await;
    let (status, text) = house.call("w/killed/one").await;
    assert!(status.is_server_error(), "{status} {text}");
    dies(&house, "one").await;
    end(house).await;
}

/// A stream that is the answer is its reader's: it outlives the call, and ends when the reader leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_handed_on_lives_as_long_as_its_reader() {
    let Some(house) = with_limits(json!({})).await else { return };
    let (_, text) = house.call("w/through/one").await;
    assert!(text.contains("one\\n") && text.contains("two\\n") && text.contains("complete"), "{text}");

    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(b"GET /w/w/endless/two HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut some = vec![0; 64 << 10];
    let mut seen = String::new();
    while !seen.contains("stdout") {
        let read = stream.read(&mut some).await.unwrap();
        seen.push_str(&String::from_utf8_lossy(&some[..read]));
        assert!(read > 0, "{seen}");
    }
    assert_eq!(ask(&house, "w/alive/two").await, json!(true));
    drop(stream);
    dies(&house, "two").await;
    end(house).await;
}

/// An actor lives on after its answers, and what it began with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actors_command_outlives_the_call_that_began_it() {
    let Some(house) = house().await else { return };
    let bindings = json!({ "AGENTS": { "type": "actors", "class_name": "Agent" }, "SANDBOX": { "type": "sandboxes" } });
    house.deploy("a", ACTOR, bindings).await;
    assert_eq!(ask(&house, "a/begin").await, json!("begun"));
    assert_eq!(ask(&house, "a/ended").await, json!(0));
    end(house).await;
}
