//! The life of a sandbox as E2B's control plane tells it.

use crate::house::{House, until};

#[test]
fn a_sandbox_is_made_found_paused_resumed_and_killed() {
    let Some(house) = House::start() else { return };
    let made = house.e2b("POST", "/v2/sandboxes", r#"{"templateID":"base","timeout":60,"metadata":{"user":"a b"},"envVars":{"X":"1"}}"#);
    let made = made.expect(201).json();
    let id = made["sandboxID"].as_str().unwrap().to_owned();
    assert!(made["envdAccessToken"].as_str().unwrap().len() == 64 && made["domain"] == house.domain.as_str(), "{made}");
    let shown = house.e2b("GET", &format!("/sandboxes/{id}"), "").expect(200).json();
    assert_eq!((shown["state"].as_str(), shown["metadata"]["user"].as_str()), (Some("running"), Some("a b")));
    assert_eq!(house.sh(&id, "echo $X $USER"), (0, "1 user\n".to_owned()));

    let at = |step: &str| format!("/sandboxes/{id}/{step}");
    house.e2b("POST", &at("timeout"), r#"{"timeout":600}"#).expect(204);
    let later = house.e2b("GET", &format!("/sandboxes/{id}"), "").json();
    assert!(later["endAt"].as_str() > shown["endAt"].as_str());
    // Connecting gives time and never takes it.
    house.e2b("POST", &at("connect"), r#"{"timeout":1}"#).expect(200);
    assert_eq!(house.e2b("GET", &format!("/sandboxes/{id}"), "").json()["endAt"], later["endAt"]);

    house.sh(&id, "nohup sleep 300 >/dev/null 2>&1 & echo kept > /tmp/x");
    house.e2b("POST", &at("pause"), "").expect(204);
    house.e2b("POST", &at("pause"), r#"{"memory":true}"#).expect(409);
    house.e2b("POST", &at("timeout"), r#"{"timeout":5}"#).expect(404);
    assert_eq!(house.e2b("GET", "/v2/sandboxes?state=paused", "").expect(200).json()[0]["sandboxID"], id.as_str());
    assert!(house.e2b("GET", "/v2/sandboxes?state=running", "").json().as_array().unwrap().is_empty());
    house.e2b("POST", &format!("/v2{}", at("connect")), "").expect(201);
    assert_eq!(house.sh(&id, "cat /tmp/x; pgrep -c sleep || ls /proc/*/comm | xargs grep -l sleep | wc -l").1.lines().next(), Some("kept"));
    house.e2b("POST", &at("resume"), r#"{"timeout":60}"#).expect(409);

    // Without its memory: files stay.
    house.e2b("POST", &at("pause"), r#"{"memory":false}"#).expect(204);
    house.e2b("POST", &at("resume"), r#"{"timeout":60}"#).expect(201);
    assert_eq!(house.sh(&id, "cat /tmp/x").1, "kept\n");

    house.e2b("DELETE", &format!("/sandboxes/{id}"), "").expect(204);
    house.e2b("DELETE", &format!("/sandboxes/{id}"), "").expect(404);
    house.e2b("GET", &format!("/sandboxes/{id}"), "").expect(404);
    house.e2b("POST", &format!("/v2{}", at("connect")), "").expect(404);
}

#[test]
fn a_timeout_removes_or_pauses_as_its_maker_decided() {
    let Some(house) = House::start() else { return };
    let gone = house.create(r#"{"templateID":"base","timeout":60}"#);
    let kept = house.create(r#"{"templateID":"base","timeout":60,"autoPause":true}"#);
    for id in [&gone, &kept] {
        house.e2b("POST", &format!("/sandboxes/{id}/timeout"), r#"{"timeout":0}"#).expect(204);
    }
    until("the first is gone", || house.e2b("GET", &format!("/sandboxes/{gone}"), "").status == 404);
    until("the second is paused", || house.e2b("GET", &format!("/sandboxes/{kept}"), "").json()["state"] == "paused");
    let listed = house.e2b("GET", "/sandboxes", "").expect(200).json();
    assert!(listed.as_array().unwrap().is_empty(), "version 1 lists what runs: {listed}");
}

#[test]
fn lists_come_in_pages_and_can_be_filtered() {
    let Some(house) = House::start() else { return };
    let ids: Vec<String> =
        (0..3).map(|n| house.create(&format!(r#"{{"templateID":"base","metadata":{{"n":"{n}","all":"x&y"}}}}"#))).collect();
    let first = house.e2b("GET", "/v2/sandboxes?limit=2&order=asc&metadata=all%3Dx%2526y", "").expect(200);
    assert_eq!(first.header("x-total-running").as_deref(), Some("3"));
    let token = first.header("x-next-token").unwrap();
    let second = house.e2b("GET", &format!("/v2/sandboxes?limit=2&order=asc&nextToken={token}"), "").expect(200);
    assert!(second.header("x-next-token").is_none());
    let shown: Vec<String> = [first.json(), second.json()]
        .iter()
        .flat_map(|page| page.as_array().unwrap().iter().map(|one| one["sandboxID"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
        .collect();
    assert_eq!(shown, ids);
    let one = house.e2b("GET", "/v2/sandboxes?metadata=n%3D1", "").json();
    assert_eq!((one.as_array().unwrap().len(), one[0]["sandboxID"].as_str()), (1, Some(ids[1].as_str())));
    for wrong in ["limit=0", "limit=1000", "state=gone", "nextToken=x", "startedAfter=x"] {
        house.e2b("GET", &format!("/v2/sandboxes?{wrong}"), "").expect(400);
    }
    until("what they use was looked at", || {
        let used = house.e2b("GET", &format!("/sandboxes/metrics?sandbox_ids={}", ids.join(",")), "").expect(200).json();
        used["sandboxes"].as_object().unwrap().len() == 3
    });
    let used = house.e2b("GET", &format!("/sandboxes/{}/metrics", ids[0]), "").expect(200).json();
    assert!(used[0]["memUsed"].as_u64() > Some(0) && used[0]["memTotal"] == 512 << 20, "{used}");
    let log = house.e2b("GET", &format!("/v2/sandboxes/{}/logs", ids[0]), "").expect(200).json();
    assert!(log["logs"].is_array(), "{log}");
}

#[test]
fn what_is_wrong_is_said_in_e2bs_words() {
    let Some(house) = House::start() else { return };
    for (body, status) in [
        ("{", 400),
        ("{}", 400),
        (r#"{"templateID":"no-such-template"}"#, 404),
        (r#"{"templateID":"base","timeout":0}"#, 400),
        (r#"{"templateID":"base","timeout":-5}"#, 400),
        (r#"{"templateID":"base","envVars":{"A=B":"x"}}"#, 400),
        (r#"{"templateID":"base","volumeMounts":[{"name":"a","path":"/a"}]}"#, 400),
    ] {
        let answer = house.e2b("POST", "/v2/sandboxes", body).expect(status).json();
        assert!(answer["code"] == status && answer["message"].is_string(), "{answer}");
    }
    assert!(house.e2b("GET", "/v2/sandboxes", "").json().as_array().unwrap().is_empty(), "a refused wish leaves nothing");
}

#[test]
fn a_killed_node_finds_its_sandboxes_again() {
    let Some(house) = House::start() else { return };
    let (runs, stands) = (
        house.create(r#"{"templateID":"base","timeout":600,"metadata":{"a":"b"}}"#),
        house.create(r#"{"templateID":"base","timeout":600}"#),
    );
    let (code, _) = house.sh(&runs, "echo before > /tmp/x");
    assert_eq!(code, 0);
    house.e2b("POST", &format!("/sandboxes/{stands}/pause"), "").expect(204);
    let before = house.e2b("GET", &format!("/sandboxes/{runs}"), "").json();
    let house = house.killed_and_started_again();
    let after = house.e2b("GET", &format!("/sandboxes/{runs}"), "").expect(200).json();
    for same in ["envdAccessToken", "metadata", "startedAt", "state"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_eq!(house.sh(&runs, "cat /tmp/x").1, "before\n");
    assert_eq!(house.e2b("GET", &format!("/sandboxes/{stands}"), "").json()["state"], "paused");
    house.e2b("POST", &format!("/v2/sandboxes/{stands}/connect"), "").expect(201);
}
