//! Contents of files over HTTP.

use std::io::{Read, Write};

use http::{Method, StatusCode};
use serde_json::json;

use crate::house::House;

const RAW: (&str, &str) = ("content-type", "application/octet-stream");

fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, content) in parts {
        write!(body, "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n").unwrap();
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--XX--\r\n");
    body
}

#[tokio::test]
async fn what_goes_up_comes_down() {
    let Some(house) = House::start().await else { return };
    let big: Vec<u8> = (0..5_000_000u32).map(|n| (n % 253) as u8).collect();
    for (name, content) in [
        ("small.txt", &b"hello"[..]),
        ("empty", b""),
        ("deep/er/big", &big[..]),
        ("edge", &big[..60 << 10]),
        ("over", &big[..(60 << 10) + 1]),
    ] {
        let put = house.send(Method::POST, &format!("/files?path={name}"), &[RAW], content.to_vec()).await;
        let last = name.rsplit('/').next().unwrap();
        assert_eq!(put.json(), json!([{"path": format!("/home/user/{name}"), "name": last, "type": "file"}]));
        let got = house.get(&format!("/files?path={name}")).await;
        assert!(got.status == StatusCode::OK && got.body == content, "{name}: {} bytes", got.body.len());
    }
    let got = house.get("/files?path=small.txt").await;
    assert_eq!(got.headers["content-disposition"], "inline; filename=\"small.txt\"");
    assert!(got.headers.contains_key("last-modified") && got.headers["content-length"] == "5");
    assert_eq!(house.sh("stat -c '%U %G %a' small.txt deep").await.stdout, "user user 644\nuser user 755\n");
    assert!(!house.get("/files?path=/proc/cpuinfo").await.body.is_empty(), "a file without a size has content");
    let form_type = ("content-type", "multipart/form-data; boundary=XX");
    let put = house.send(Method::POST, "/files", &[form_type], form(&[("a/one", b"1"), ("a/two", &big), ("/tmp/three", b"")])).await;
    let paths: Vec<_> = put.json().as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(paths, ["/home/user/a/one", "/home/user/a/two", "/tmp/three"]);
    assert!(house.get("/files?path=a/two").await.body == big);
    let one = house.send(Method::POST, "/files?path=named", &[form_type], form(&[("other", b"x")])).await;
    assert_eq!(one.json()[0]["path"], "/home/user/named");
    house.end().await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_said_to_be() {
    let Some(house) = House::start().await else { return };
    house.sh("mkdir d; touch f; ln -s x x").await;
    let error = |answer: crate::house::Answer| (answer.status.as_u16(), answer.json()["code"].as_u64().unwrap());
    for (path, status) in [("nowhere", 404), ("d", 400), ("x", 400), ("~root/x", 400), ("f/below", 400), ("/etc/shadow", 403), ("%00", 400)]
    {
        assert_eq!(error(house.get(&format!("/files?path={path}")).await), (status, u64::from(status)), "{path}");
    }
    assert_eq!(error(house.get("/files?path=f&username=nobody-here").await).0, 401);
    assert_eq!(error(house.get("/files?path=f&path=g").await).0, 400);
    let put = async |query: &str, kind: &str, body: Vec<u8>| {
        error(house.send(Method::POST, &format!("/files{query}"), &[("content-type", kind)], body).await).0
    };
    assert_eq!(put("", RAW.1, vec![]).await, 400);
    assert_eq!(put("?path=f", "text/plain", vec![]).await, 400);
    assert_eq!(put("?path=d", RAW.1, vec![]).await, 400);
    assert_eq!(put("?path=/etc/passwd", RAW.1, vec![]).await, 403);
    assert_eq!(put("?path=/dev/null", RAW.1, vec![]).await, 400);
    assert_eq!(put("", "multipart/form-data", vec![]).await, 400);
    assert_eq!(put("", "multipart/form-data; boundary=XX", b"--XX\r\nnonsense".to_vec()).await, 400);
    assert_eq!(put("", "multipart/form-data; boundary=XX", form(&[("same", b"1"), ("same", b"2")])).await, 400);
    assert_eq!(
        house.send(Method::GET, "/files?path=f", &[("accept-encoding", "identity;q=0")], "").await.status,
        StatusCode::NOT_ACCEPTABLE
    );
    house.end().await;
}

#[tokio::test]
async fn gzip_goes_both_ways() {
    let Some(house) = House::start().await else { return };
    let text = b"again and again ".repeat(50_000);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(&text).unwrap();
    let packed = packer.finish().unwrap();
    let gzip = ("content-encoding", "gzip");
    assert_eq!(house.send(Method::POST, "/files?path=t", &[RAW, gzip], packed.clone()).await.status, StatusCode::OK);
    assert!(house.get("/files?path=t").await.body == text);
    let got = house.send(Method::GET, "/files?path=t", &[("accept-encoding", "gzip")], "").await;
    assert!(got.headers["content-encoding"] == "gzip" && got.headers["vary"] == "Accept-Encoding" && got.body.len() < text.len() / 10);
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&got.body[..]).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == text);
    assert_eq!(house.send(Method::POST, "/files?path=t", &[RAW, gzip], packed[..50].to_vec()).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(house.send(Method::POST, "/files?path=t", &[RAW, ("content-encoding", "br")], "x").await.status, StatusCode::BAD_REQUEST);
    house.end().await;
}

#[tokio::test]
async fn parts_of_files_are_sent() {
    let Some(house) = House::start().await else { return };
    house.send(Method::POST, "/files?path=digits", &[RAW], "0123456789").await;
    let part = async |range: &str| {
        let got = house.send(Method::GET, "/files?path=digits", &[("range", range)], "").await;
        (got.status.as_u16(), got.text(), got.headers.get("content-range").map(|range| range.to_str().unwrap().to_owned()))
    };
    assert_eq!(part("bytes=2-4").await, (206, "234".into(), Some("bytes 2-4/10".into())));
    assert_eq!(part("bytes=-3").await, (206, "789".into(), Some("bytes 7-9/10".into())));
    assert_eq!(part("bytes=8-").await, (206, "89".into(), Some("bytes 8-9/10".into())));
    assert_eq!(part("bytes=10-").await, (416, String::new(), Some("bytes */10".into())));
    assert_eq!(part("bytes=0-1,3-4").await, (200, "0123456789".into(), None));
    let got = house.get("/files?path=digits").await;
    let unchanged = [("if-modified-since", got.headers["last-modified"].to_str().unwrap())];
    assert_eq!(house.send(Method::GET, "/files?path=digits", &unchanged, "").await.status, StatusCode::NOT_MODIFIED);
    house.end().await;
}

#[tokio::test]
async fn metadata_and_composition() {
    let Some(house) = House::start().await else { return };
    let about = [RAW, ("x-metadata-Author", "mish"), ("x-metadata-part", "1")];
    let put = house.send(Method::POST, "/files?path=p1", &about, "one ").await;
    assert_eq!(put.json()[0]["metadata"], json!({"author": "mish", "part": "1"}));
    let stat = house.call("/filesystem.Filesystem/Stat", json!({"path": "p1"})).await.json();
    assert_eq!(stat["entry"]["metadata"], json!({"author": "mish", "part": "1"}));
    house.send(Method::POST, "/files?path=p2", &[RAW], "two").await;
    let request = json!({"source_paths": ["p1", "p2"], "destination": "out/whole"});
    let composed = house.call("/files/compose", request.clone()).await;
    assert_eq!(composed.json(), json!({"path": "/home/user/out/whole", "name": "whole", "type": "file"}));
    assert_eq!(house.get("/files?path=out/whole").await.text(), "one two");
    assert_eq!(house.call("/files/compose", request).await.status, StatusCode::NOT_FOUND, "the parts are gone");
    assert_eq!(house.call("/files/compose", json!({"source_paths": [], "destination": "x"})).await.status, StatusCode::BAD_REQUEST);
    house.end().await;
}
