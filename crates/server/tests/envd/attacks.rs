//! Who has no token, or means harm with one.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};
use skep_sandbox::Profile;
use skep_server::EnvdSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::house::{House, PATIENCE, shell};

async fn secured() -> Option<House> {
    House::with(Profile::Workstation, EnvdSettings { token: Some("the-token".into()), ..EnvdSettings::default() }).await
}

fn signed(path: &str, operation: &str, user: &str, token: &str, expires: Option<i64>) -> String {
    use base64::Engine;
    let mut text = format!("{path}:{operation}:{user}:{token}");
    if let Some(expires) = expires {
        text.push_str(&format!(":{expires}"));
    }
    format!("v1_{}", base64::engine::general_purpose::STANDARD_NO_PAD.encode(Sha256::digest(text))).replace('+', "%2B").replace('/', "%2F")
}

#[tokio::test]
async fn without_the_token_nothing_is_answered() {
    let Some(house) = secured().await else { return };
    assert_eq!(house.get("/health").await.status, StatusCode::NO_CONTENT);
    for wrong in [None, Some(""), Some("the-toke"), Some("the-token2"), Some("THE-TOKEN")] {
        let headers: Vec<_> = wrong.iter().map(|token| ("x-access-token", *token)).chain([("content-type", "application/json")]).collect();
        for (method, path) in [
            (Method::GET, "/metrics"),
            (Method::GET, "/envs"),
            (Method::GET, "/files?path=/etc/passwd"),
            (Method::POST, "/files?path=x"),
            (Method::POST, "/files/compose"),
            (Method::POST, "/init"),
            (Method::POST, "/process.Process/List"),
            (Method::POST, "/process.Process/Start"),
            (Method::POST, "/filesystem.Filesystem/Stat"),
            (Method::GET, "//files"),
            (Method::GET, "/files/"),
            (Method::GET, "/health/../envs"),
            (Method::GET, "/nothing"),
        ] {
            let answer = house.send(method, path, &headers, "{}").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path} with {wrong:?}: {}", answer.text());
            assert_eq!(answer.json()["code"], 401);
        }
    }
    let token = ("x-access-token", "the-token");
    assert_eq!(house.send(Method::GET, "/envs", &[token], "").await.status, StatusCode::OK);
    house.end().await;
}

#[tokio::test]
async fn forged_signatures_open_nothing() {
    let Some(house) = secured().await else { return };
    let raw = ("content-type", "application/octet-stream");
    let future = 4_000_000_000;
    let write = signed("secret.txt", "write", "", "the-token", None);
    assert_eq!(house.send(Method::POST, &format!("/files?path=secret.txt&signature={write}"), &[raw], "s").await.status, StatusCode::OK);
    let read = signed("secret.txt", "read", "", "the-token", Some(future));
    let good = format!("/files?path=secret.txt&signature={read}&signature_expiration={future}");
    assert_eq!(house.get(&good).await.text(), "s");
    let past = signed("secret.txt", "read", "", "the-token", Some(1_000));
    let expired = house.get(&format!("/files?path=secret.txt&signature={past}&signature_expiration=1000")).await;
    assert_eq!((expired.status.as_u16(), expired.json()["message"].as_str()), (401, Some("signature is already expired")));
    for forged in [
        format!("/files?path=secret.txt&signature={write}"),
        format!("/files?path=secret.txt&signature={read}"),
        format!("/files?path=secret.txt&signature={read}&signature_expiration={}", future + 1),
        format!("/files?path=/home/user/secret.txt&signature={read}&signature_expiration={future}"),
        format!("/files?path=secret.txt&username=root&signature={read}&signature_expiration={future}"),
        format!("/files?path=secret.txt%00&signature={read}&signature_expiration={future}"),
        format!("/files?path=secret.txt&signature={}", signed("secret.txt", "read", "", "", None)),
        format!("/files?path=secret.txt&signature={}", signed("secret.txt", "read", "", "another", None)),
        "/files?path=secret.txt&signature=v1_".to_owned(),
        "/files?path=secret.txt".to_owned(),
    ] {
        assert_eq!(house.get(&forged).await.status, StatusCode::UNAUTHORIZED, "{forged}");
    }
    let with_wrong_token = house.send(Method::GET, &good, &[("x-access-token", "wrong")], "").await;
    assert_eq!(with_wrong_token.status, StatusCode::UNAUTHORIZED, "a good signature does not heal a wrong token");
    house.end().await;
}

#[tokio::test]
async fn huge_messages_are_not_kept() {
    let Some(house) = House::start().await else { return };
    let stream = ("content-type", "application/connect+json");
    let huge = [&[0, 0xff, 0xff, 0xff, 0xff][..], b"{}"].concat();
    let answer = house.send(Method::POST, "/process.Process/Start", &[stream], huge).await;
    assert!(answer.body[0] == 2 && answer.text().contains("resource_exhausted"), "{}", answer.text());
    let long = json!({"path": "x".repeat(17 << 20)}).to_string();
    let refused = house.send(Method::POST, "/filesystem.Filesystem/Stat", &[("content-type", "application/json")], long).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{}", refused.text());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let answer = house.send(Method::POST, "/filesystem.Filesystem/Stat", &[("content-type", "application/json")], deep).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let long = house.stream("/process.Process/Start", &[], shell(&"x".repeat(5 << 20))).await;
    assert_eq!(long[0]["last"]["error"]["code"], "invalid_argument", "no kernel takes so much");
    assert_eq!(house.sh("echo still here").await.stdout, "still here\n");
    house.end().await;
}

/// A command that writes for ever, and a client that never reads: one waits for the other, and nobody else for either.
#[tokio::test]
async fn endless_output_waits_for_its_reader() {
    let Some(house) = House::start().await else { return };
    let mut socket = tokio::net::TcpStream::connect(house.address).await.unwrap();
    let body = crate::house::framed(&json!({"process": {"cmd": "yes"}, "tag": "endless"}).to_string());
    let head = format!(
        "POST /process.Process/Start HTTP/1.1\r\nhost: x\r\ncontent-type: application/connect+json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    let mut some = [0; 1_000];
    tokio::time::timeout(PATIENCE, socket.read_exact(&mut some)).await.unwrap().unwrap();
    let before = resident();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(resident() < before + (64 << 20), "what nobody reads is kept");
    assert_eq!(house.sh("echo up").await.stdout, "up\n");
    drop(socket);
    let killed = json!({"process": {"tag": "endless"}, "signal": "SIGNAL_SIGKILL"});
    assert_eq!(house.call("/process.Process/SendSignal", killed).await.status, StatusCode::OK);
    let ended = async {
        while !house.sh("pgrep -x yes").await.stdout.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    house.end().await;
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// A small upload that stands for a large file is written a piece at a time, and stops where the client goes away.
#[tokio::test]
async fn bombs_and_half_uploads() {
    let Some(house) = House::start().await else { return };
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        std::io::Write::write_all(&mut packer, &vec![0; 1 << 20]).unwrap();
    }
    let bomb = packer.finish().unwrap();
    let before = resident();
    let headers = [("content-type", "application/octet-stream"), ("content-encoding", "gzip")];
    assert_eq!(house.send(Method::POST, "/files?path=bomb", &headers, bomb).await.status, StatusCode::OK);
    assert!(resident() < before + (48 << 20), "it was kept whole");
    assert_eq!(house.sh("stat -c %s bomb").await.stdout, format!("{}\n", 64 << 20));
    let mut socket = tokio::net::TcpStream::connect(house.address).await.unwrap();
    let head = "POST /files?path=half HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ncontent-length: 1000000\r\n\r\nhalf";
    socket.write_all(head.as_bytes()).await.unwrap();
    drop(socket);
    assert_eq!(house.sh("echo up").await.stdout, "up\n");
    house.end().await;
}

/// Links and names that a program within made to have its owner read or write something else: all ends within the sandbox, with the user's rights.
#[tokio::test]
async fn paths_lead_nowhere_but_within() {
    let Some(house) = House::start().await else { return };
    house.sh("ln -s /etc/shadow s; ln -s /proc/self/mem m; ln -s / root; ln -s /proc/1/root r; mkfifo p").await;
    for path in [
        "s",
        "m",
        "root/etc/shadow",
        "r/etc/shadow",
        "p",
        "../../../../../../etc/shadow",
        "/proc/self/environ",
        "/proc/1/environ",
        "/proc/kcore",
    ] {
        let status = house.get(&format!("/files?path={path}")).await.status;
        assert!([400, 403, 404].contains(&status.as_u16()), "{path} was read: {status}");
        let raw = [("content-type", "application/octet-stream")];
        let status = house.send(Method::POST, &format!("/files?path={path}"), &raw, "x").await.status;
        assert!([400, 403, 404].contains(&status.as_u16()), "{path} was written: {status}");
    }
    // A name that would be another header.
    house.sh("touch $'a\\r\\nset-cookie: x' 'q\"; filename=\"b'").await;
    let named = house.get("/files?path=a%0D%0Aset-cookie:%20x").await;
    assert!(named.status == StatusCode::OK && !named.headers.contains_key("set-cookie"));
    house.end().await;
}
