//! Ports of sandboxes as hosts, with and without TLS.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};

use crate::house::{House, read};

#[test]
fn a_server_within_answers_under_a_host_of_its_own() {
    let Some(house) = House::start() else { return };
    let id = house.create(r#"{"templateID":"base","network":{"maskRequestHost":"seen.example:${PORT}"}}"#);
    if !house.serve(&id, 8_080) {
        return;
    }
    let seen = house.port(&id, 8_080, "/a?b=c", &[("x-forwarded-for", "1.2.3.4"), ("connection", "x-drop"), ("x-drop", "1")]);
    let seen = seen.expect(200).json();
    assert_eq!(seen["path"], "/a?b=c");
    let headers = &seen["headers"];
    assert_eq!(headers["host"], "seen.example:8080");
    assert_eq!(headers["x-forwarded-host"], format!("8080-{id}.{}", house.domain));
    assert_eq!((headers["x-forwarded-for"].as_str(), headers["x-drop"].as_str()), (Some("127.0.0.1"), None));

    let closed = house.port(&id, 8_081, "/", &[]).expect(502).json();
    assert_eq!((closed["code"].as_u64(), closed["port"].as_u64(), closed["sandboxId"].as_str()), (Some(502), Some(8_081), Some(&*id)));
    let page = house.port(&id, 8_081, "/", &[("accept", "text/html,*/*")]).expect(502);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));

    // By headers, where the host cannot say it.
    let by_headers = [("e2b-sandbox-id", id.as_str()), ("e2b-sandbox-port", "8080")];
    assert_eq!(house.ask("GET", "/x", &by_headers, "").expect(200).json()["path"], "/x");
    house.ask("GET", "/x", &by_headers[..1], "").expect(400);
    let ports = house.v1("GET", &format!("/v1/sandboxes/{id}/ports"), "").expect(200).json();
    assert!(ports["ports"].as_array().unwrap().iter().any(|port| port["port"] == 8_080), "{ports}");
}

#[test]
fn traffic_wakes_a_sandbox_whose_owner_said_so_and_no_other() {
    let Some(house) = House::start() else { return };
    let wakes = house.create(r#"{"templateID":"base","timeout":600,"autoPause":true,"autoResume":{"enabled":true}}"#);
    let sleeps = house.create(r#"{"templateID":"base","timeout":600,"autoPause":true}"#);
    for id in [&wakes, &sleeps] {
        if !house.serve(id, 8_080) {
            return;
        }
        house.e2b("POST", &format!("/sandboxes/{id}/pause"), "").expect(204);
    }
    house.port(&sleeps, 8_080, "/", &[]).expect(502);
    assert_eq!(house.e2b("GET", &format!("/sandboxes/{sleeps}"), "").json()["state"], "paused");
    // Many at once: one wake, all are answered.
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..20).map(|_| scope.spawn(|| house.port(&wakes, 8_080, "/", &[]).status)).collect();
        assert!(asked.into_iter().all(|answer| answer.join().unwrap() == 200));
    });
    assert_eq!(house.e2b("GET", &format!("/sandboxes/{wakes}"), "").json()["state"], "running");
}

#[test]
fn private_ports_ask_for_the_traffic_token() {
    let Some(house) = House::start() else { return };
    let made = house.e2b("POST", "/v2/sandboxes", r#"{"templateID":"base","network":{"allowPublicTraffic":false}}"#).expect(201).json();
    let (id, token) = (made["sandboxID"].as_str().unwrap(), made["trafficAccessToken"].as_str().unwrap());
    if !house.serve(id, 8_080) {
        return;
    }
    house.port(id, 8_080, "/", &[]).expect(403);
    let wrong = format!("{}0", &token[..63]);
    for guess in ["", "x", &wrong, &token.to_uppercase(), &format!("{token}0")] {
        if guess != token {
            house.port(id, 8_080, "/", &[("e2b-traffic-access-token", guess)]).expect(403);
        }
    }
    let seen = house.port(id, 8_080, "/", &[("e2b-traffic-access-token", token)]).expect(200).json();
    assert!(seen["headers"]["e2b-traffic-access-token"].is_null(), "the token is not the server's to see");
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways() {
    const ECHO: &str = r#"
import socket
s = socket.create_server(("127.0.0.1", 9000))
while True:
    c, _ = s.accept()
    head = b""
    while b"\r\n\r\n" not in head: head += c.recv(4096)
    c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    while True:
        d = c.recv(4096)
        if not d: break
        c.sendall(d.upper())
    c.close()
"#;
    let Some(house) = House::start() else { return };
    let id = house.create(r#"{"templateID":"base"}"#);
    if !house.serve_by(&id, ECHO, &[9_000]) {
        return;
    }
    let mut stream = TcpStream::connect(&house.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: 9000-{id}.{}\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n", house.domain);
    stream.write_all(head.as_bytes()).unwrap();
    let mut got = Vec::new();
    let mut byte = [0];
    while !got.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        got.push(byte[0]);
    }
    assert!(got.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&got));
    for word in ["hello", "again"] {
        stream.write_all(word.as_bytes()).unwrap();
        let mut back = vec![0; word.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, word.to_uppercase().as_bytes());
    }
}

#[test]
fn the_nodes_authority_vouches_for_the_domain_alone() {
    let Some(house) = House::start() else { return };
    let id = house.create(r#"{"templateID":"base"}"#);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&house.authority).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let connect = |name: &str| {
        let stream = TcpStream::connect(&house.secure).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let session = rustls::ClientConnection::new(Arc::clone(&config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
        rustls::StreamOwned::new(session, stream)
    };
    let name = format!("8080-{id}.sbx.localhost");
    let mut stream = connect(&name);
    stream.write_all(format!("GET / HTTP/1.0\r\nhost: {name}\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(read(&mut stream).expect(502).json()["sandboxId"], id.as_str());
    for foreign in ["localhost", "a.b.sbx.localhost", "example.com"] {
        assert!(connect(foreign).write_all(b"GET / HTTP/1.0\r\n\r\n").is_err(), "{foreign}");
    }
    // The control plane, too, at the name that the packages make.
    let mut stream = connect("api.sbx.localhost");
    let head = format!("GET /v2/sandboxes HTTP/1.0\r\nhost: api.{}\r\nx-api-key: {}\r\n\r\n", house.domain, house.key);
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read(&mut stream).expect(200).json()[0]["sandboxID"], id.as_str());
}
