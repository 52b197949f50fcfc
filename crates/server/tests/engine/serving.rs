//! Serving with the real engine: TLS, HTTP/2, WebSockets, draining, two nodes at once.

use std::{fs, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::json;
use skep_server::TlsConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;

use crate::house::House;

const HELLO: &str = "export default { async fetch(request) { return new Response(request.url + ' ' + (await request.text()).length); } };";

/// A TLS client that trusts `roots` and speaks this protocol.
fn connector(roots: RootCertStore, protocol: &[u8]) -> TlsConnector {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config))
}

#[tokio::test(flavor = "multi_thread")]
async fn https_with_http_1_and_http_2() {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["w.localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let files = tempfile::tempdir().unwrap();
    let tls = TlsConfig { cert: files.path().join("cert.pem"), key: files.path().join("key.pem") };
    fs::write(&tls.cert, certificate.pem()).unwrap();
    fs::write(&tls.key, key.serialize_pem()).unwrap();

    // Deployed first over plain HTTP is not possible on this front: the node is asked directly.
    let house = House::with(|_, front| front.tls = Some(tls)).await;
    let module = skep_bundle::Module { kind: skep_bundle::Kind::Esm, bytes: HELLO.into(), source_map: None };
    let draft = skep_node::Draft {
        main: "main.js".to_owned(),
        modules: [("main.js".to_owned(), skep_node::DraftModule::Ready(module))].into(),
        ..skep_node::Draft::default()
    };
    house.node.deploy(&"w".parse().unwrap(), draft, "test".to_owned(), None).await.unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let name = ServerName::try_from("w.localhost").unwrap();
    for (protocol, version) in [(&b"http/1.1"[..], http::Version::HTTP_11), (b"h2", http::Version::HTTP_2)] {
        let tcp = TcpStream::connect(house.address).await.unwrap();
        let stream = connector(roots.clone(), protocol).connect(name.clone(), tcp).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
        let url = format!("https://w.localhost:{}/path", house.address.port());
        let request = Request::get(if protocol == b"h2" { url.as_str() } else { "/path" });
        let request = match protocol {
            b"h2" => request,
            _ => request.header("host", format!("w.localhost:{}", house.address.port())),
        };
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = if protocol == b"h2" {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        assert_eq!(answer.version(), version);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), format!("{url} 0"));
    }
    let tcp = TcpStream::connect(house.address).await.unwrap();
    let strangers = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    assert!(connector(strangers, b"h2").connect(name, tcp).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_outlives_its_call() {
    let house = House::start().await;
    let source = "let calls = 0; export default { fetch(request) {
        const [mine, yours] = Object.values(new WebSocketPair());
        mine.accept();
        const n = ++calls;
        mine.addEventListener('message', (e) => mine.send(`${n}: ${typeof e.data === 'string' ? e.data : e.data.byteLength ?? e.data.size}`));
        return new Response(null, { status: 101, webSocket: yours });
    } };";
    house.deploy("chat", source, json!({})).await;
    let url = format!("ws://{}/w/chat/", house.address);
    let (mut one, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    let (mut two, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    // A new version takes new calls; what is connected stays where it is.
    house.deploy("chat", HELLO, json!({})).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..2 {
        one.send(Message::text("hello")).await.unwrap();
        two.send(Message::binary(vec![0; 70_000])).await.unwrap();
        assert_eq!(one.next().await.unwrap().unwrap(), Message::text("1: hello"));
        assert_eq!(two.next().await.unwrap().unwrap(), Message::text("2: 70000"));
    }
    one.close(None).await.unwrap();
    drop(two);
    for _ in 0..200 {
        if house.node.status().in_flight == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?}", house.node.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_finishes_what_it_began() {
    let house = House::start().await;
    house.deploy("slow", "export default { async fetch() { await scheduler.wait(700); return new Response('done'); } };", json!({})).await;
    let url = format!("http://{}/w/slow/", house.address);
    let call = tokio::spawn(crate::house::send(Request::get(url).body(Default::default()).unwrap()));
    while house.node.status().in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let address = house.address;
    let (ended, _folder) = house.stopping();
    assert_eq!(call.await.unwrap().1, "done");
    assert!(ended.await.unwrap(), "not in time");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_in_one_process_know_nothing_of_one_another() {
    let (a, b) = tokio::join!(House::start(), House::start());
    for (house, who) in [(&a, "a"), (&b, "b")] {
        let source = format!("let n = 0; export default {{ fetch() {{ return new Response('{who} ' + ++n); }} }};");
        house.deploy("w", &source, json!({})).await;
    }
    for n in 1..4 {
        let (from_a, from_b) = tokio::join!(a.call("w/"), b.call("w/"));
        assert_eq!((from_a.1, from_b.1), (format!("a {n}"), format!("b {n}")));
    }
    let foreign = b.token.clone();
    let stranger = Request::get(format!("http://{}/v1/workers", a.address)).header("authorization", format!("Bearer {foreign}"));
    assert_eq!(crate::house::send(stranger.body(Default::default()).unwrap()).await.0, http::StatusCode::UNAUTHORIZED);
    let (ended, _folder) = a.stopping();
    assert!(ended.await.unwrap());
    assert_eq!(b.call("w/").await.1, "b 4");
}
