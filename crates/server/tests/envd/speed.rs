//! How fast it is, on the machine at hand. `cargo test --release --test envd -- --ignored --nocapture speed`.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::json;

use crate::house::{House, framed};

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed() {
    let Some(house) = House::start().await else { return };
    let mut out = std::io::stdout();
    for (name, start) in [
        ("true", json!({"process": {"cmd": "/bin/true"}, "stdin": false})),
        ("bash -l -c true", json!({"process": {"cmd": "/bin/bash", "args": ["-l", "-c", "true"]}, "stdin": false})),
    ] {
        let mut took = Vec::new();
        for _ in 0..300 {
            let began = Instant::now();
            house.stream("/process.Process/Start", &[], start.clone()).await;
            took.push(began.elapsed());
        }
        writeln!(out, "exec round trip, {name}: p50 {:?}", median(took)).unwrap();
    }
    let size = 400u64 << 20;
    let line = format!("head -c {size} /dev/zero");
    let body = framed(&json!({"process": {"cmd": "/bin/sh", "args": ["-c", line]}, "stdin": false}).to_string());
    let request =
        http::Request::post(format!("http://{}/process.Process/Start", house.address)).header("content-type", "application/connect+json");
    let began = Instant::now();
    let mut streamed = house.client.request(request.body(Full::new(body)).unwrap()).await.unwrap().into_body();
    let mut bytes = 0;
    while let Some(frame) = streamed.frame().await {
        bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    assert!(bytes as u64 > size * 4 / 3);
    writeln!(out, "streamed output: {:.0} MB/s", size as f64 / 1e6 / began.elapsed().as_secs_f64()).unwrap();
    let content = Bytes::from(vec![7u8; 400 << 20]);
    for round in 0..2 {
        let began = Instant::now();
        let put = house.send(Method::POST, "/files?path=big", &[("content-type", "application/octet-stream")], content.clone()).await;
        assert_eq!(put.status, StatusCode::OK);
        let up = size as f64 / 1e6 / began.elapsed().as_secs_f64();
        let began = Instant::now();
        let request = http::Request::get(format!("http://{}/files?path=big", house.address)).body(Full::default()).unwrap();
        let mut down = house.client.request(request).await.unwrap().into_body();
        let mut bytes = 0;
        while let Some(frame) = down.frame().await {
            bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
        }
        assert_eq!(bytes as u64, size);
        writeln!(out, "round {round}: upload {up:.0} MB/s, download {:.0} MB/s", size as f64 / 1e6 / began.elapsed().as_secs_f64())
            .unwrap();
    }
    let mut form = Vec::new();
    let count = 10_000;
    for n in 0..count {
        write!(form, "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"many/{}/{n}\"\r\n\r\nsmall file {n}\r\n", n % 100)
            .unwrap();
    }
    form.extend(b"--XX--\r\n");
    let began = Instant::now();
    let put = house.send(Method::POST, "/files", &[("content-type", "multipart/form-data; boundary=XX")], form).await;
    assert_eq!(put.json().as_array().unwrap().len(), count);
    writeln!(out, "small files: {:.0}/s", f64::from(u32::try_from(count).unwrap()) / began.elapsed().as_secs_f64()).unwrap();
    house.end().await;
}
