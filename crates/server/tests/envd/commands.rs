//! Commands: their streams, their ends, who listens, and what outlives whom.

use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};

use crate::house::{Ended, House, PATIENCE, shell};

const START: &str = "/process.Process/Start";
const CONNECT: &str = "/process.Process/Connect";

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test]
async fn commands_end_as_they_end() {
    let Some(house) = House::start().await else { return };
    let all = house.stream(START, &[], shell("echo out; echo err >&2; exit 7")).await;
    assert!(all[0]["event"]["start"]["pid"].as_u64().unwrap() > 1, "the first message says which process: {all:?}");
    let ended = Ended::of(&all);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str(), ended.last), ("out\n", "err\n", json!({"last": {}})));
    assert_eq!(ended.end, json!({"exitCode": 7, "exited": true, "status": "exit status 7", "error": "exit status 7"}));
    assert_eq!(house.sh("true").await.end, json!({"exited": true, "status": "exit status 0"}));
    assert_eq!(house.sh("kill -9 $$").await.end, json!({"exitCode": -1, "status": "signal: killed", "error": "signal: killed"}));
    let environment = json!({"process": {"cmd": "/usr/bin/env", "envs": {"FOO": "bar"}, "cwd": "/tmp"}, "stdin": false});
    let shown = Ended::of(&house.stream(START, &[], environment).await).stdout;
    for line in ["FOO=bar", "HOME=/home/user", "USER=user", "LOGNAME=user", "PATH="] {
        assert!(shown.lines().any(|found| found.starts_with(line)), "no {line} in {shown}");
    }
    let root = house.stream(START, &[("authorization", "Basic cm9vdDo=")], shell("id -un; pwd")).await;
    assert_eq!(Ended::of(&root).stdout, "root\n/root\n");
    for (message, why) in [
        (json!({"process": {"cmd": "/no/such/program"}}), "error starting process"),
        (json!({"process": {"cmd": "/bin/true", "cwd": "/nowhere"}}), "cwd '/nowhere' does not exist"),
        (json!({}), "error starting process"),
    ] {
        let refused = house.stream(START, &[], message.clone()).await;
        let error = &refused[0]["last"]["error"];
        assert!(error["code"] == "invalid_argument" && error["message"].as_str().unwrap().contains(why), "{message}: {refused:?}");
    }
    house.end().await;
}

#[tokio::test]
async fn input_is_sent_and_closed() {
    let Some(house) = House::start().await else { return };
    let mut cat = house.open(START, &[], json!({"process": {"cmd": "cat"}, "stdin": true, "tag": "cat"})).await;
    let pid = cat.pid().await;
    let of = |selector: Value, text: &str| json!({"process": selector, "input": {"stdin": base64(text)}});
    assert_eq!(house.call("/process.Process/SendInput", of(json!({"pid": pid}), "one")).await.status, 200);
    assert_eq!(cat.output("stdout").await, b"one");
    assert_eq!(house.call("/process.Process/SendInput", of(json!({"tag": "cat"}), "two")).await.status, 200);
    assert_eq!(cat.output("stdout").await, b"two");
    let wrong = json!({"process": {"pid": pid}, "input": {"pty": base64("x")}});
    assert_eq!(house.call("/process.Process/SendInput", wrong).await.json()["code"], "internal");
    let streamed = [
        json!({"start": {"process": {"pid": pid}}}),
        json!({"data": {"input": {"stdin": base64("three")}}}),
        json!({"keepalive": {}}),
        json!({"data": {"input": {"stdin": base64("four")}}}),
    ];
    let body = streamed.iter().map(|message| crate::house::framed(&message.to_string())).collect::<Vec<_>>().concat();
    let headers = [("content-type", "application/connect+json")];
    assert_eq!(
        house.send(http::Method::POST, "/process.Process/StreamInput", &headers, body).await.body,
        &b"\0\0\0\0\x02{}\x02\0\0\0\x02{}"[..]
    );
    let mut echoed = Vec::new();
    while echoed.len() < 9 {
        echoed.extend(cat.output("stdout").await);
    }
    assert_eq!(echoed, b"threefour");
    assert_eq!(house.call("/process.Process/CloseStdin", json!({"process": {"pid": pid}})).await.json(), json!({}));
    assert_eq!(cat.next().await.unwrap()["event"]["end"]["status"], "exit status 0");
    house.end().await;
}

#[tokio::test]
async fn terminals_are_typed_at_and_change_their_size() {
    let Some(house) = House::start().await else { return };
    let start = json!({"process": {"cmd": "/bin/bash", "args": ["-i"], "envs": {"TERM": "xterm", "PS1": ""}}, "pty": {"size": {"cols": 80, "rows": 24}}});
    let mut screen = house.open(START, &[], start).await;
    let pid = screen.pid().await;
    let typed = |text: &str| json!({"process": {"pid": pid}, "input": {"pty": base64(text)}});
    house.call("/process.Process/SendInput", typed("stty size\n")).await;
    let mut shown = String::new();
    while !shown.contains("24 80") {
        shown.push_str(&String::from_utf8_lossy(&screen.output("pty").await));
    }
    house.call("/process.Process/Update", json!({"process": {"pid": pid}, "pty": {"size": {"cols": 100, "rows": 30}}})).await;
    house.call("/process.Process/SendInput", typed("stty size; exit 3\n")).await;
    let mut last = Value::Null;
    while let Some(message) = screen.next().await {
        if let Some(text) = message["event"]["data"]["pty"].as_str() {
            shown.push_str(&String::from_utf8_lossy(&base64::engine::general_purpose::STANDARD.decode(text).unwrap()));
        } else if last.is_null() {
            last = message;
        }
    }
    assert!(shown.contains("30 100"), "{shown}");
    assert_eq!(last["event"]["end"]["exitCode"], 3);
    house.end().await;
}

#[tokio::test]
async fn a_command_outlives_its_connection_and_its_output_waits() {
    let Some(house) = House::start().await else { return };
    let mut first = house
        .open(
            START,
            &[],
            json!({"process": {"cmd": "/bin/bash", "args": ["-c", "echo one; read x; echo two; read x; exit 5"]}, "tag": "job"}),
        )
        .await;
    let pid = first.pid().await;
    assert_eq!(first.output("stdout").await, b"one\n");
    drop(first);
    let next = json!({"process": {"pid": pid}, "input": {"stdin": base64("\n")}});
    house.call("/process.Process/SendInput", next.clone()).await;
    let listed = house.call("/process.Process/List", json!({})).await.json();
    assert_eq!((&listed["processes"][0]["pid"], &listed["processes"][0]["tag"]), (&json!(pid), &json!("job")));
    assert_eq!(listed["processes"][0]["config"]["cmd"], "/bin/bash");
    // Two who listen hear the same.
    let (mut second, mut third) = (
        house.open(CONNECT, &[], json!({"process": {"tag": "job"}})).await,
        house.open(CONNECT, &[], json!({"process": {"pid": pid}})).await,
    );
    assert_eq!((second.pid().await, third.pid().await), (pid, pid));
    assert_eq!(second.output("stdout").await, b"two\n");
    house.call("/process.Process/SendInput", next).await;
    for listener in [&mut second, &mut third] {
        loop {
            let message = listener.next().await.unwrap();
            if message["event"]["end"]["exitCode"] == 5 {
                break;
            }
            assert!(message["event"]["data"].is_object(), "{message}");
        }
    }
    let late = Ended::of(&house.stream(CONNECT, &[], json!({"process": {"pid": pid}})).await);
    assert_eq!(late.end["exitCode"], 5, "who comes late hears how it ended");
    assert_eq!(house.call("/process.Process/SendSignal", json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"})).await.status, 404);
    let unknown = house.stream(CONNECT, &[], json!({"process": {"pid": 999_999}})).await;
    assert_eq!(unknown[0]["last"]["error"]["code"], "not_found");
    house.end().await;
}

#[tokio::test]
async fn deadlines_and_signals_end_commands_with_all_they_hold_open() {
    let Some(house) = House::start().await else { return };
    let began = Instant::now();
    let timed = house.stream(START, &[("connect-timeout-ms", "700")], shell("sleep 100 & sleep 100")).await;
    assert_eq!(timed.last().unwrap()["last"]["error"]["code"], "deadline_exceeded");
    let gone = async {
        while house.sh("pgrep -x sleep").await.stdout.lines().count() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    let mut killed = house.open(START, &[], shell("sleep 100 & echo up; exec sleep 100")).await;
    let pid = killed.pid().await;
    assert_eq!(killed.output("stdout").await, b"up\n");
    house.call("/process.Process/SendSignal", json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGTERM"})).await;
    assert_eq!(
        killed.next().await.unwrap()["event"]["end"]["status"],
        "signal: terminated",
        "another who holds the pipe is not waited for"
    );
    let mut silent = house.open(START, &[("keepalive-ping-interval", "1")], shell("sleep 100")).await;
    silent.pid().await;
    assert_eq!(silent.next().await.unwrap(), json!({"event": {"keepalive": {}}}));
    assert!(began.elapsed() < PATIENCE);
    house.end().await;
}
