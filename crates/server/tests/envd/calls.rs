//! Calls that have one answer, as tables of what is asked and what is answered.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use skep_sandbox::Profile;
use skep_server::EnvdSettings;

use crate::house::{House, framed};

/// Whether all that is wanted is there.
fn has(found: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(fields) => fields.iter().all(|(name, wanted)| has(&found[name], wanted)),
        Value::Array(items) => {
            found.as_array().is_some_and(|found| found.len() == items.len() && found.iter().zip(items).all(|(f, w)| has(f, w)))
        }
        wanted => found == wanted,
    }
}

#[tokio::test]
async fn calls_are_answered() {
    let Some(house) = House::start().await else { return };
    house.sh("mkdir -p d/sub; echo -n four > d/f; ln -s d/f l; ln -s x x; ln -s gone g; touch plain").await;
    let error = |code: &str| json!({ "code": code });
    let fs = |name: &str| format!("/filesystem.Filesystem/{name}");
    let pr = |name: &str| format!("/process.Process/{name}");
    let file = json!({"entry": {"name": "f", "type": "FILE_TYPE_FILE", "path": "/home/user/d/f", "size": "4", "mode": 420, "permissions": "-rw-r--r--", "owner": "user", "group": "user"}});
    let cases = [
        (fs("Stat"), json!({"path": "d/f"}), 200, file.clone()),
        (fs("Stat"), json!({"path": "/home/user/d/f", "unknown": [1]}), 200, file),
        (fs("Stat"), json!({"path": "~/d/../d"}), 200, json!({"entry": {"type": "FILE_TYPE_DIRECTORY", "permissions": "drwxr-xr-x"}})),
        (
            fs("Stat"),
            json!({"path": "l"}),
            200,
            json!({"entry": {"type": "FILE_TYPE_FILE", "symlinkTarget": "/home/user/d/f", "permissions": "Lrwxrwxrwx"}}),
        ),
        (fs("Stat"), json!({"path": "g"}), 200, json!({"entry": {"type": null, "symlinkTarget": "/home/user/g"}})),
        (fs("Stat"), json!({}), 200, json!({"entry": {"path": "/home/user"}})),
        (fs("Stat"), json!({"path": "nowhere"}), 404, error("not_found")),
        (fs("Stat"), json!({"path": "~root"}), 400, error("invalid_argument")),
        (fs("Stat"), json!({"path": "a\u{0}b"}), 400, error("invalid_argument")),
        (fs("Stat"), json!({"path": "y/".repeat(4_000)}), 400, error("invalid_argument")),
        (fs("Stat"), json!({"path": 7}), 400, error("invalid_argument")),
        (fs("Stat"), json!([]), 400, error("invalid_argument")),
        (fs("ListDir"), json!({"path": "d"}), 200, json!({"entries": [{"name": "f"}, {"name": "sub"}]})),
        (fs("ListDir"), json!({"path": "d/sub"}), 200, json!({"entries": null})),
        (fs("ListDir"), json!({"path": "d/f"}), 400, error("invalid_argument")),
        (fs("ListDir"), json!({"path": "x"}), 400, error("failed_precondition")),
        (fs("ListDir"), json!({"path": "nowhere", "depth": 3}), 404, error("not_found")),
        (fs("ListDir"), json!({"path": "d", "depth": -1}), 400, error("invalid_argument")),
        (fs("MakeDir"), json!({"path": "m/a/d"}), 200, json!({"entry": {"path": "/home/user/m/a/d", "type": "FILE_TYPE_DIRECTORY"}})),
        (fs("MakeDir"), json!({"path": "m/a/d"}), 409, error("already_exists")),
        (fs("MakeDir"), json!({"path": "plain"}), 400, error("invalid_argument")),
        (fs("MakeDir"), json!({"path": "plain/below"}), 400, error("invalid_argument")),
        (
            fs("Move"),
            json!({"source": "plain", "destination": "deep/er/moved"}),
            200,
            json!({"entry": {"path": "/home/user/deep/er/moved"}}),
        ),
        (fs("Move"), json!({"source": "plain", "destination": "again"}), 404, error("not_found")),
        (fs("Remove"), json!({"path": "m"}), 200, json!({})),
        (fs("Remove"), json!({"path": "m"}), 200, json!({})),
        (fs("GetWatcherEvents"), json!({"watcherId": "w1"}), 404, error("not_found")),
        (fs("RemoveWatcher"), json!({"watcher_id": "w1"}), 404, error("not_found")),
        (fs("CreateWatcher"), json!({"path": "l"}), 400, error("invalid_argument")),
        (fs("Chmod"), json!({}), 501, error("unimplemented")),
        (pr("List"), json!({}), 200, json!({"processes": null})),
        (pr("Nothing"), json!({}), 501, error("unimplemented")),
        (pr("SendSignal"), json!({"process": {"pid": 999_999}, "signal": "SIGNAL_SIGKILL"}), 404, error("not_found")),
        (pr("SendSignal"), json!({"process": {"pid": 1}, "signal": 9}), 404, error("not_found")),
        (pr("SendSignal"), json!({"process": {"pid": 1}, "signal": "SIGNAL_SIGHUP"}), 501, error("unimplemented")),
        (pr("SendInput"), json!({"process": {"tag": "none"}, "input": {"stdin": "eA=="}}), 404, error("not_found")),
        (pr("SendInput"), json!({"process": {"tag": "none"}, "input": {"stdin": "?"}}), 400, error("invalid_argument")),
        (pr("CloseStdin"), json!({}), 400, error("invalid_argument")),
    ];
    for (path, message, status, wanted) in cases {
        let answer = house.call(&path, message.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {message}: {}", answer.text());
        assert!(has(&answer.json(), &wanted), "{path} {message}: {} and not {wanted}", answer.text());
    }
    house.end().await;
}

#[tokio::test]
async fn users_are_chosen_by_name_and_not_by_proof() {
    let Some(house) = House::start().await else { return };
    let stat = |user: &'static str| {
        let headers = [("content-type", "application/json"), ("authorization", user)];
        let house = &house;
        async move { house.send(Method::POST, "/filesystem.Filesystem/Stat", &headers, r#"{"path":""}"#).await }
    };
    // root:, user:, nobody-here:, and what is no name.
    assert_eq!(stat("Basic cm9vdDo=").await.json()["entry"]["path"], "/root");
    assert_eq!(stat("Basic dXNlcjo=").await.json()["entry"]["path"], "/home/user");
    for unknown in ["Basic bm9ib2R5LWhlcmU6", "Basic %%%", "Basic /w=="] {
        let answer = stat(unknown).await;
        assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str()), (401, Some("unauthenticated")), "{unknown}");
    }
    assert_eq!(stat("Bearer something").await.json()["entry"]["path"], "/home/user", "another way to say who one is, is none here");
    house.end().await;
    let Some(strict) = House::with(Profile::Strict, EnvdSettings::default()).await else { return };
    let headers = [("content-type", "application/json"), ("authorization", "Basic cm9vdDo=")];
    let answer = strict.send(Method::POST, "/filesystem.Filesystem/Stat", &headers, "{}").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "a strict sandbox has no root: {}", answer.text());
    strict.end().await;
}

#[tokio::test]
async fn what_is_said_about_the_sandbox() {
    let Some(house) = House::start().await else { return };
    assert_eq!(house.get("/health").await.status, StatusCode::NO_CONTENT);
    let metrics = house.get("/metrics").await.json();
    assert!(
        metrics["mem_total"] == 1 << 30 && metrics["cpu_count"] == 2 && metrics["disk_total"].as_u64() > metrics["disk_used"].as_u64(),
        "{metrics}"
    );
    assert_eq!(house.get("/envs").await.json(), json!({}));
    for hidden in ["/init", "/freeze", "/fsfreeze", "/upgrade", "/collapse"] {
        assert_eq!(house.send(Method::POST, hidden, &[], "{}").await.status, StatusCode::NOT_FOUND, "{hidden}");
    }
    assert_eq!(house.get("/files/compose").await.status, StatusCode::NOT_FOUND);
    house.end().await;
    let settings = EnvdSettings { internal: true, ..EnvdSettings::default() };
    let Some(house) = House::with(Profile::Workstation, settings).await else { return };
    let init = json!({"envVars": {"FOO": "bar"}, "accessToken": "secret", "defaultUser": "root"}).to_string();
    assert_eq!(house.send(Method::POST, "/init", &[], init.clone()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        house.send(Method::POST, "/init", &[], init).await.status,
        StatusCode::UNAUTHORIZED,
        "once there is a token, it is asked for"
    );
    let token = ("x-access-token", "secret");
    assert_eq!(house.send(Method::GET, "/envs", &[token], "").await.json(), json!({"FOO": "bar"}));
    house.end().await;
}

#[tokio::test]
async fn watches_tell_what_was_done_before_they_were_asked() {
    let Some(house) = House::start().await else { return };
    house.sh("mkdir w").await;
    let id = house.call("/filesystem.Filesystem/CreateWatcher", json!({"path": "w", "recursive": true, "includeEntry": true})).await.json();
    let asked = json!({"watcherId": id["watcherId"]});
    for round in 0..20 {
        let name = format!("f{round}");
        let headers = [("content-type", "application/octet-stream")];
        house.send(Method::POST, &format!("/files?path=w/{name}"), &headers, "x").await;
        let events = house.call("/filesystem.Filesystem/GetWatcherEvents", asked.clone()).await.json();
        let kinds: Vec<_> =
            events["events"].as_array().unwrap().iter().map(|e| (e["name"].as_str().unwrap(), e["type"].as_str().unwrap())).collect();
        let name = name.as_str();
        assert_eq!(kinds, [(name, "EVENT_TYPE_CREATE"), (name, "EVENT_TYPE_CHMOD"), (name, "EVENT_TYPE_WRITE")]);
        assert_eq!(events["events"][2]["entry"]["path"], format!("/home/user/w/{name}"));
    }
    assert_eq!(house.call("/filesystem.Filesystem/GetWatcherEvents", asked.clone()).await.json(), json!({}));
    assert_eq!(house.call("/filesystem.Filesystem/RemoveWatcher", asked.clone()).await.json(), json!({}));
    assert_eq!(house.call("/filesystem.Filesystem/GetWatcherEvents", asked).await.status, StatusCode::NOT_FOUND);
    let mut stream = house.open("/filesystem.Filesystem/WatchDir", &[("keepalive-ping-interval", "1")], json!({"path": "w"})).await;
    assert_eq!(stream.next().await.unwrap(), json!({"start": {}}));
    house.sh("rm w/f0").await;
    assert_eq!(stream.next().await.unwrap(), json!({"filesystem": {"name": "f0", "type": "EVENT_TYPE_REMOVE"}}));
    assert_eq!(stream.next().await.unwrap(), json!({"keepalive": {}}));
    let refused = house.stream("/filesystem.Filesystem/WatchDir", &[], json!({"path": "nowhere"})).await;
    assert_eq!(refused[0]["last"]["error"]["code"], "not_found");
    house.end().await;
}

#[tokio::test]
async fn other_forms_are_refused_as_the_protocol_says() {
    let Some(house) = House::start().await else { return };
    let list = "/process.Process/List";
    for kind in ["application/proto", "text/plain", "application/grpc", "application/connect+proto", ""] {
        let answer = house.send(Method::POST, list, &[("content-type", kind)], "{}").await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
        assert!(answer.headers.contains_key("accept-post"));
    }
    let json = ("content-type", "application/json; charset=utf-8");
    assert_eq!(house.send(Method::POST, list, &[json], "").await.status, StatusCode::OK);
    let packed = house.send(Method::POST, list, &[json, ("content-encoding", "gzip")], "{}").await;
    assert_eq!((packed.status.as_u16(), packed.json()["code"].as_str()), (501, Some("unimplemented")));
    let late = house.send(Method::POST, list, &[json, ("connect-timeout-ms", "soon")], "{}").await;
    assert_eq!(late.status, StatusCode::BAD_REQUEST);
    let stream = ("content-type", "application/connect+json");
    for (body, code) in [
        (framed("{").to_vec(), "invalid_argument"),
        ([framed("{}"), framed("{}")].concat(), "invalid_argument"),
        (vec![], "invalid_argument"),
        (framed("{}")[..4].to_vec(), "invalid_argument"),
        ([&[1][..], &framed("{}")[1..]].concat(), "unimplemented"),
    ] {
        let answer = house.send(Method::POST, "/process.Process/Connect", &[stream], body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.body[0]), (200, 2), "{body:?}");
        let ended: Value = serde_json::from_slice(&answer.body[5..]).unwrap();
        assert_eq!(ended["error"]["code"], code, "{body:?}");
    }
    house.end().await;
}
