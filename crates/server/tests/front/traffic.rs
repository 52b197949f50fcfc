//! Requests to workers.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::house::House;

async fn raw(house: &House, request: &str) -> String {
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn a_worker_is_found_by_host_and_by_path() {
    let house = House::start().await;
    house.deploy("web", "url").await;
    let by_host = raw(&house, "GET /a?b=c HTTP/1.1\r\nHost: WEB.localhost:80\r\nConnection: close\r\n\r\n").await;
    assert!(by_host.ends_with("GET http://WEB.localhost:80/a?b=c"), "{by_host}");
    assert!(!by_host.to_lowercase().contains("content-security-policy"));
    for (path, seen) in
        [("/w/web/a?b=c", "/a?b=c"), ("/w/web", "/"), ("/w/web/", "/"), ("/w/web?x", "/?x"), ("/w/web//v1/keys", "//v1/keys")]
    {
        let answer = house.ask(Method::GET, path, None, "").await;
        assert_eq!(answer.text(), format!("GET {}", house.url(seen)), "{path}");
    }
    for path in ["/w/none/", "/w/UPPER/", "/w//", "/w/..%2fv1/"] {
        assert_eq!(house.ask(Method::GET, path, None, "").await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let nobody = raw(&house, "GET / HTTP/1.1\r\nHost: nobody.localhost\r\nConnection: close\r\n\r\n").await;
    assert!(nobody.starts_with("HTTP/1.1 404"), "{nobody}");
    // The control routes are not below a worker's host.
    let key = &house.token;
    let inside =
        raw(&house, &format!("GET /v1/keys HTTP/1.1\r\nHost: web.localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"))
            .await;
    assert!(inside.contains("GET http://web.localhost/v1/keys"), "{inside}");
}

#[tokio::test]
async fn a_page_by_path_gets_an_origin_of_its_own() {
    let house = House::start().await;
    house.deploy("page", "page").await;
    let answer = house.call("page").await;
    assert!(answer.headers["content-security-policy"].to_str().unwrap().starts_with("sandbox"));
    assert!(answer.headers.get("service-worker-allowed").is_none() && answer.headers.get("connection").is_none());
    assert_eq!(answer.headers["x-accent"].as_bytes(), "é".as_bytes());
    assert!(answer.headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn strangers_learn_that_a_worker_failed_but_not_why() {
    let house = House::start().await;
    house.deploy("bad", "throw").await;
    let answer = house.call("bad").await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "worker_failed"));
    assert!(!answer.text().contains("secret"));
}

#[tokio::test]
async fn an_isolate_that_hit_a_limit_is_replaced() {
    let house = House::start().await;
    house.deploy("spin", "spin").await;
    for _ in 0..3 {
        assert_eq!(house.call("spin").await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(house.counts.started.load(SeqCst), 3);
    assert_eq!(house.node.status().isolates, 0);
}

#[tokio::test]
async fn hop_by_hop_headers_stay_on_their_hop() {
    let house = House::start().await;
    house.deploy("h", "headers").await;
    let answer = raw(
        &house,
        "GET /w/h/ HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: close\r\nCF-Connecting-IP: 6.6.6.6\r\nX-A: 1\r\nX-A: 2\r\n\r\n",
    )
    .await;
    for gone in ["\"te\"", "\"connection\"", "6.6.6.6"] {
        assert!(!answer.contains(gone), "{answer}");
    }
    assert!(answer.contains(r#"("x-a", "1"), ("x-a", "2")"#) && answer.contains(r#"("cf-connecting-ip", "127.0.0.1")"#), "{answer}");
}

#[tokio::test]
async fn bodies_stream_both_ways_and_are_bounded() {
    let house = House::with(|_, front| front.body_bytes_max = 1 << 20).await;
    house.deploy("echo", "echo").await;
    house.deploy("length", "length").await;
    let body = "y".repeat(700_000);
    assert_eq!(house.ask(Method::POST, "/w/echo/", None, &body).await.text(), body);
    assert_eq!(house.ask(Method::POST, "/w/echo/", None, "small").await.text(), "small");
    assert_eq!(house.ask(Method::POST, "/w/length/", None, &"z".repeat((1 << 20) + 1)).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    // Without an announced length the bound is met on the way.
    let chunk = format!("10000\r\n{}\r\n", "c".repeat(0x10000)).repeat(17);
    let answer = raw(
        &house,
        &format!("POST /w/length/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"),
    )
    .await;
    assert!(answer.contains("broken: length limit exceeded"), "{answer}");
}

#[tokio::test]
async fn the_head_of_a_request_is_bounded() {
    let house = House::with(|_, front| {
        front.headers_max = 20;
        front.head_timeout_ms = 300;
    })
    .await;
    let many: String = (0..30).map(|n| format!("X-{n}: 1\r\n")).collect();
    let answer = raw(&house, &format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = raw(&house, &format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "l".repeat(100_000))).await;
    assert!(long.starts_with("HTTP/1.1 431"), "{long}");
    let started = Instant::now();
    let answer = raw(&house, "GET /healthz HTTP/1.1\r\nHos").await;
    assert!(started.elapsed() < Duration::from_secs(5) && !answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn http_2_without_tls() {
    let house = House::start().await;
    house.deploy("echo", "echo").await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let body = Full::new(Bytes::from("h".repeat(200_000)));
    let request = Request::post(house.url("/w/echo/")).body(body).unwrap();
    let answer = client.request(request).await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 200_000);
}

async fn eventually(what: &str, check: impl Fn() -> bool) {
    for _ in 0..200 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} did not happen");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let house = House::start().await;
    house.deploy("slow", "slow 60000").await;
    house.deploy("endless", "endless").await;
    let mut waiting = TcpStream::connect(house.address).await.unwrap();
    waiting.write_all(b"GET /w/slow/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    eventually("the request", || house.node.status().in_flight == 1).await;
    drop(waiting);
    eventually("the cancellation before the head", || house.counts.cancelled.load(SeqCst) == 1).await;
    let mut reading = TcpStream::connect(house.address).await.unwrap();
    reading.write_all(b"GET /w/endless/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut some = [0; 4096];
    reading.read_exact(&mut some).await.unwrap();
    drop(reading);
    eventually("the cancellation of the body", || house.counts.cancelled.load(SeqCst) == 2).await;
    eventually("the end of both", || house.node.status().in_flight == 0).await;
}

#[tokio::test]
async fn websockets_by_path() {
    let house = House::start().await;
    house.deploy("chat", "socket").await;
    let mut request = format!("ws://{}/w/chat/", house.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
    let (mut socket, answer) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    socket.send(Message::text("hi")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("you said hi"));
    socket.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::binary(vec![1, 2]));
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    eventually("the end of the socket", || house.node.status().in_flight == 0).await;
    assert_eq!(house.call("chat").await.status, StatusCode::BAD_REQUEST, "not asked for a WebSocket");
}

#[tokio::test]
async fn a_tail_hears_logs_and_outcomes() {
    let house = House::start().await;
    house.deploy("t", "say x").await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let request = format!("GET /v1/workers/t/tail HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", house.token);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let mut piece = [0; 4096];
    let n = stream.read(&mut piece).await.unwrap();
    seen.push_str(&String::from_utf8_lossy(&piece[..n]));
    assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
    house.call("t").await;
    while !seen.contains("\"outcome\":\"ok\"") {
        let n = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut piece)).await.unwrap().unwrap();
        seen.push_str(&String::from_utf8_lossy(&piece[..n]));
    }
    assert!(seen.contains("\"type\":\"log\"") && seen.contains("\"status\":200") && seen.contains("\"cpu_us\":7"), "{seen}");
    assert_eq!(house.control(Method::GET, "/v1/workers/none/tail", "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn warm_isolates_are_reused_and_the_idle_ones_go_first() {
    let house = House::with(|node, _| {
        node.pool.isolates_max = 2;
        node.pool.isolates_per_worker_max = 1;
    })
    .await;
    for name in ["a", "b", "c"] {
        house.deploy(name, "say x").await;
    }
    for _ in 0..5 {
        for name in ["a", "b", "c"] {
            assert_eq!(house.call(name).await.text(), "x");
            assert!(house.node.status().isolates <= 2);
        }
    }
    let before = house.counts.started.load(SeqCst);
    for _ in 0..10 {
        house.call("c").await;
    }
    assert_eq!(house.counts.started.load(SeqCst), before, "a warm isolate serves again");
}
