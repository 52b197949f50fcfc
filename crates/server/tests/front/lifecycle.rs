//! Starting again, two at once, stopping.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::house::House;

#[tokio::test]
async fn what_was_deployed_is_there_after_a_restart() {
    let house = House::start().await;
    house.deploy("a", "say one").await;
    house.deploy("a", "say two").await;
    let token = house.token.clone();
    let (in_time, folder) = house.stop().await;
    assert!(in_time);
    let house = House::on(folder, |_, _| {}).await;
    assert_eq!(house.token, token, "the first key is made once");
    assert_eq!(house.call("a").await.text(), "two");
    assert_eq!(house.control(Method::POST, "/v1/workers/a/rollback", "").await.json()["version"], "v1");
}

#[tokio::test]
async fn two_nodes_in_one_process_know_nothing_of_each_other() {
    let (one, two) = (House::start().await, House::start().await);
    one.deploy("a", "say one").await;
    two.deploy("a", "say two").await;
    assert_eq!((one.call("a").await.text(), two.call("a").await.text()), ("one".to_owned(), "two".to_owned()));
    assert_eq!(one.ask(Method::GET, "/v1/node", Some(&two.token), "").await.status, StatusCode::UNAUTHORIZED);
    assert!(one.stop().await.0);
    assert_eq!(two.call("a").await.text(), "two");
}

#[tokio::test]
async fn one_data_folder_has_one_node() {
    let house = House::start().await;
    let config = skep_node::Config { data: house.folder.path().join("data"), ..skep_node::Config::default() };
    let runtime = std::sync::Arc::new(crate::scripted::Scripted { counts: std::sync::Arc::default() });
    let second = skep_node::Node::open_with(config, ("/nowhere".into(), vec![]), runtime);
    assert!(matches!(second, Err(skep_node::OpenError::InUse(_))));
}

#[tokio::test]
async fn files_in_the_data_folder_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::start().await;
    let data = house.folder.path().join("data");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join("admin.key"))), (0o700, 0o600));
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_flight_and_takes_nothing_new() {
    let house = House::start().await;
    house.deploy("slow", "slow 500").await;
    let address = house.address;
    let mut waiting = TcpStream::connect(address).await.unwrap();
    waiting.write_all(b"GET /w/slow/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    while house.node.status().in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let running = house.stopping();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(TcpStream::connect(address).await.is_err(), "nothing new is taken");
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("slept"), "{answer}");
    assert!(running.await.unwrap());
}

#[tokio::test]
async fn a_stop_gives_up_at_its_deadline() {
    let house = House::with(|_, front| front.drain_ms = 300).await;
    house.deploy("slow", "slow 60000").await;
    let mut waiting = TcpStream::connect(house.address).await.unwrap();
    waiting.write_all(b"GET /w/slow/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    while house.node.status().in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let started = Instant::now();
    assert!(!house.stop().await.0);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_damaged_module_is_told_and_not_run() {
    let house = House::start().await;
    house.deploy("a", "say one").await;
    let (_, folder) = house.stop().await;
    let modules = folder.path().join("data/modules");
    for inner in std::fs::read_dir(&modules).unwrap() {
        for file in std::fs::read_dir(inner.unwrap().path()).unwrap() {
            std::fs::write(file.unwrap().path(), "say something else").unwrap();
        }
    }
    let house = House::on(folder, |_, _| {}).await;
    let answer = house.call("a").await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "internal"));
}
