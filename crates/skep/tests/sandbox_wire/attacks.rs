//! Attacks on the wire, by name. Each asserts that a door is shut.

use crate::house::House;

#[test]
fn guessed_and_missing_keys_open_nothing() {
    let Some(house) = House::start() else { return };
    let id = house.create(r#"{"templateID":"base"}"#);
    let routes = [
        ("GET", "/v2/sandboxes".to_owned()),
        ("POST", "/v2/sandboxes".to_owned()),
        ("GET", format!("/sandboxes/{id}")),
        ("DELETE", format!("/sandboxes/{id}")),
        ("POST", format!("/sandboxes/{id}/pause")),
        ("GET", format!("/sandboxes/{id}/logs")),
        ("GET", format!("/v1/sandboxes/{id}")),
        ("POST", format!("/v1/sandboxes/{id}/exec")),
        ("GET", format!("/v1/sandboxes/{id}/files?path=/etc/passwd")),
        ("GET", format!("/v1/sandboxes/{id}/terminal")),
    ];
    let almost = format!("{}x", &house.key[..house.key.len() - 1]);
    let zeros = format!("e2b_{}", "0".repeat(84));
    for (method, path) in &routes {
        house.ask(method, path, &[], "{}").expect(401);
        for guess in ["", "e2b_", "e2b_00", &zeros, &almost, "null", "undefined"] {
            let bearer = format!("Bearer {guess}");
            let answer = house.ask(method, path, &[("x-api-key", guess), ("authorization", &bearer)], "{}");
            assert!(answer.status == 401, "{method} {path} with {guess:?}: {}", answer.status);
        }
    }
    // A good key without the scope.
    for scope in ["read", "deploy", "actors"] {
        let key = house.other_key(scope);
        house.ask("GET", "/v2/sandboxes", &[("x-api-key", &key)], "").expect(403);
    }
    // Two keys at once: who reads which would be a matter of luck.
    house.ask("GET", "/v2/sandboxes", &[("x-api-key", &zeros), ("x-api-key", &house.key)], "").expect(401);
}

#[test]
fn a_foreign_sandbox_is_as_if_it_were_not_there() {
    let Some(house) = House::start() else { return };
    let (alice, mallory) = (house.other_key("sandboxes"), house.other_key("sandboxes"));
    let made = house.ask("POST", "/v2/sandboxes", &[("x-api-key", &alice)], r#"{"templateID":"base"}"#).expect(201).json();
    let id = made["sandboxID"].as_str().unwrap();
    let bearer = format!("Bearer {mallory}");
    let with = |method: &str, path: &str, body: &str| house.ask(method, path, &[("x-api-key", &mallory), ("authorization", &bearer)], body);
    for (method, step, body) in [
        ("GET", "", ""),
        ("DELETE", "", ""),
        ("POST", "/connect", r#"{"timeout":5}"#),
        ("POST", "/resume", r#"{"timeout":5}"#),
        ("POST", "/pause", "{}"),
        ("POST", "/timeout", r#"{"timeout":0}"#),
        ("POST", "/refreshes", "{}"),
        ("PUT", "/network", "{}"),
        ("GET", "/metrics", ""),
        ("GET", "/logs", ""),
    ] {
        with(method, &format!("/sandboxes/{id}{step}"), body).expect(404);
    }
    for (method, step, body) in [
        ("GET", "", ""),
        ("DELETE", "", ""),
        ("POST", "/exec", r#"{"line":"id"}"#),
        ("GET", "/files?path=/etc/passwd", ""),
        ("PUT", "/files?path=/tmp/x", "x"),
        ("POST", "/stop", "{}"),
    ] {
        with(method, &format!("/v1/sandboxes/{id}{step}"), body).expect(404);
    }
    assert!(with("GET", "/v2/sandboxes", "").expect(200).json().as_array().unwrap().is_empty());
    let used = with("GET", &format!("/sandboxes/metrics?sandbox_ids={id}"), "").expect(200).json();
    assert!(used["sandboxes"].as_object().unwrap().is_empty());
    // It is Alice's, and runs.
    let shown = house.ask("GET", &format!("/sandboxes/{id}"), &[("x-api-key", &alice)], "").expect(200).json();
    assert_eq!(shown["state"], "running");
}

#[test]
fn host_header_tricks_reach_no_sandbox_and_no_control_route() {
    let Some(house) = House::start() else { return };
    let id = house.create(r#"{"templateID":"base"}"#);
    if !house.serve(&id, 8_080) {
        return;
    }
    let (address, domain) = (&house.address, &house.domain);
    for host in [
        format!("8080-{id}.evil.example"),
        format!("8080-{id}.sbx.localhost.evil.example"),
        format!("8080-{id}.evilsbx.localhost"),
        format!("a.8080-{id}.{domain}"),
        format!("8080-{id}"),
    ] {
        let answer = house.ask("GET", "/", &[("host", &host)], "");
        assert!(answer.status == 401 || answer.status == 404, "{host}: {} {}", answer.status, answer.text());
    }
    for host in
        [format!("0-{id}.{domain}"), format!("99999-{id}.{domain}"), format!("08080-{id}.{domain}"), format!("8080-../../x.{domain}")]
    {
        let answer = house.ask("GET", "/", &[("host", &host)], "");
        assert!((400..500).contains(&answer.status), "{host}: {}", answer.status);
    }
    // A sandbox's host with the path of a control route stays in the sandbox.
    let seen = house.port(&id, 8_080, "/v1/sandboxes", &[("x-api-key", "x")]).expect(200).json();
    assert_eq!(seen["path"], "/v1/sandboxes");
    // Two hosts.
    let twice = format!("GET / HTTP/1.0\r\nhost: {address}\r\nhost: 8080-{id}.{domain}\r\n\r\n");
    house.raw(&twice, b"").expect(400);
    // Headers of a stranger's do not turn a worker's or a sandbox's host elsewhere.
    let other = house.create(r#"{"templateID":"base"}"#);
    let seen = house.port(&id, 8_080, "/mine", &[("e2b-sandbox-id", &other), ("e2b-sandbox-port", "1")]).expect(200).json();
    assert_eq!(seen["path"], "/mine");
    // One request does not smuggle another: what follows the head is the body.
    let smuggled = format!(
        "POST / HTTP/1.1\r\nhost: 8080-{id}.{domain}\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\nGET /v1/keys HTTP/1.1\r\n\r\n"
    );
    let answer = house.raw(&smuggled, b"");
    assert!(!answer.text().contains("\"keys\""), "{}", answer.text());
}

#[test]
fn the_preview_of_a_killed_sandbox_never_comes_back() {
    let Some(house) = House::start() else { return };
    let id = house.create(r#"{"templateID":"base","timeout":600,"autoPause":true,"autoResume":{"enabled":true}}"#);
    if !house.serve(&id, 8_080) {
        return;
    }
    house.port(&id, 8_080, "/", &[]).expect(200);
    // Open browser tabs ask on while it is killed.
    std::thread::scope(|scope| {
        let tabs: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..20).map(|_| house.port(&id, 8_080, "/", &[]).status).collect::<Vec<_>>())).collect();
        house.e2b("DELETE", &format!("/sandboxes/{id}"), "").expect(204);
        for tab in tabs {
            let seen = tab.join().unwrap();
            assert!(seen.iter().all(|status| [200, 502].contains(status)), "{seen:?}");
        }
    });
    let gone = house.port(&id, 8_080, "/", &[]).expect(502).json();
    assert_eq!((gone["message"].as_str(), gone["sandboxId"].as_str()), (Some("The sandbox was not found"), Some(&*id)));
    for port in [8_080, 49_983, 49_999] {
        house.port(&id, port, "/health", &[]).expect(502);
    }
    let house = house.killed_and_started_again();
    house.port(&id, 8_080, "/", &[]).expect(502);
    assert!(house.e2b("GET", "/v2/sandboxes", "").json().as_array().unwrap().is_empty());
}

#[test]
fn a_sandbox_does_not_reach_another_ones_ports() {
    let Some(house) = House::start() else { return };
    let (one, other) = (house.create(r#"{"templateID":"base"}"#), house.create(r#"{"templateID":"base"}"#));
    if !house.serve(&one, 8_080) {
        return;
    }
    let node = house.address.rsplit_once(':').unwrap().1;
    for target in ["127.0.0.1/8080".to_owned(), format!("127.0.0.1/{node}")] {
        let (code, said) = house.sh(&other, &format!("bash -c 'exec 3<>/dev/tcp/{target}'"));
        assert_ne!(code, 0, "{target}: {said}");
    }
}

#[test]
fn hostile_answers_of_a_server_within_harm_nobody() {
    const HOSTILE: &str = r#"
import socket
def serve(port, answer):
    import threading
    s = socket.create_server(("127.0.0.1", port))
    def run():
        while True:
            c, _ = s.accept()
            try:
                c.recv(65536)
                c.sendall(answer)
            except OSError: pass
            c.close()
    threading.Thread(target=run).start()
serve(9001, b"HTTP/1.1 200 OK\r\n" + b"x: " + b"a" * 4000000 + b"\r\n\r\n")
serve(9002, b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
serve(9003, b"not http at all")
serve(9004, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")
serve(9005, b"")
serve(9006, b"HTTP/1.1 200 OK\r\nconnection: set-cookie\r\nset-cookie: a=b\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
"#;
    let Some(house) = House::start() else { return };
    let id = house.create(r#"{"templateID":"base"}"#);
    if !house.serve_by(&id, HOSTILE, &[9_001, 9_002, 9_003, 9_004, 9_005, 9_006]) {
        return;
    }
    for port in [9_001, 9_002, 9_003, 9_005] {
        house.port(&id, port, "/", &[]).expect(502);
    }
    // Half a body is not taken for a whole one: the length stands in the head.
    let short = house.port(&id, 9_004, "/", &[]);
    assert!(short.status == 200 && short.body.len() < 100);
    assert!(house.port(&id, 9_006, "/", &[]).expect(200).header("set-cookie").is_none());
    house.e2b("GET", &format!("/sandboxes/{id}"), "").expect(200);
}
