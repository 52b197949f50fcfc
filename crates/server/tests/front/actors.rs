//! What operators may do with actors, over HTTP: real state, scripted code.

use http::{Method, StatusCode};
use serde_json::json;

use crate::house::{Answer, House};

impl House {
    /// Sends a request on to an actor: `<worker>/<name>/<verb>`.
    async fn actor(&self, path: &str) -> Answer {
        self.ask(Method::GET, &format!("/w/{path}"), None, "").await
    }

    async fn key(&self, scope: &str) -> String {
        let made = self.control(Method::POST, "/v1/keys", &json!({ "scopes": [scope] }).to_string()).await;
        made.json()["token"].as_str().unwrap().to_owned()
    }
}

fn at(name: &str, rest: &str) -> String {
    format!("/v1/actors/app%2FCounter%2F{name}{rest}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_from_its_first_call_to_its_end() {
    let house = House::start().await;
    house.deploy_actors("app", "one").await;
    for n in 1..=3 {
        assert_eq!(house.actor("app/alice/count").await.text(), format!("{n} {n}"));
    }
    house.actor("app/bob/count").await;
    let id = house.actor("app/alice/id").await.text();

    let list = house.control(Method::GET, "/v1/actors?worker=app&class=Counter", "").await.json();
    assert_eq!(list["actors"].as_array().unwrap().len(), 2, "{list}");
    let named = house.control(Method::GET, "/v1/actors?prefix=al", "").await.json();
    assert_eq!((named["actors"][0]["name"].as_str(), named["actors"][0]["id"].as_str()), (Some("alice"), Some(&*id)), "{named}");
    assert_eq!(house.control(Method::GET, "/v1/actors?worker=other", "").await.json()["actors"], json!([]));
    let page = house.control(Method::GET, "/v1/actors?limit=1", "").await.json();
    let next = house.control(Method::GET, &format!("/v1/actors?limit=1&cursor={}", page["cursor"].as_str().unwrap()), "").await.json();
    assert_ne!(page["actors"][0]["id"], next["actors"][0]["id"]);
    assert!(next.get("cursor").is_none(), "{next}");

    let shown = house.control(Method::GET, &at("alice", ""), "").await.json();
    assert_eq!((shown["id"].as_str(), shown["worker"].as_str(), shown["class"].as_str()), (Some(&*id), Some("app"), Some("Counter")));
    assert_eq!(shown["state"], "awake");
    let again = house.control(Method::GET, &format!("/v1/actors/{id}"), "").await.json();
    assert_eq!(again["bookmark"].as_str().unwrap()[..16], shown["bookmark"].as_str().unwrap()[..16], "by id and by name the same");
    let then = shown["bookmark"].as_str().unwrap();

    house.actor("app/alice/count").await;
    let ask = |query: &str, as_of: Option<&str>| json!({ "query": query, "as_of": as_of }).to_string();
    let now = house.control(Method::POST, &at("alice", "/sql"), &ask("SELECT max(n) AS most FROM counter", None)).await.json();
    assert_eq!(now, json!({ "columns": ["most"], "rows": [[4]] }));
    let past = house.control(Method::POST, &at("alice", "/sql"), &ask("SELECT max(n) FROM counter", Some(then))).await.json();
    assert_eq!(past["rows"], json!([[3]]), "{past}");

    let receipt = house.control(Method::POST, &at("alice", "/checkpoint"), "").await.json();
    assert_eq!((receipt["actor"].as_str(), receipt["tier"].as_str()), (Some(&*id), Some("local-fsync")), "{receipt}");

    let fork = house.control(Method::POST, &at("alice", "/fork"), &json!({ "name": "copy" }).to_string()).await;
    assert_eq!(fork.status, StatusCode::CREATED, "{}", fork.text());
    assert_eq!(house.actor("app/copy/count").await.text(), "5 6", "database and heap of the parent");
    assert_eq!(house.actor("app/alice/count").await.text(), "5 6", "the parent goes on undisturbed");

    let rewound = house.control(Method::POST, &at("alice", "/rewind"), &json!({ "to": then }).to_string()).await;
    assert_eq!(rewound.status, StatusCode::OK, "{}", rewound.text());
    assert!(house.actor("app/alice/count").await.text().starts_with("4 "));
    let undo = rewound.json()["undo"].clone();
    house.control(Method::POST, &at("alice", "/rewind"), &json!({ "to": undo }).to_string()).await;
    assert!(house.actor("app/alice/count").await.text().starts_with("6 "));

    let file = house.control(Method::GET, &at("alice", "/export"), "").await;
    assert!(file.body.starts_with(b"SQLite format 3\0"), "{:?}", &file.body[..16.min(file.body.len())]);
    assert_eq!(file.headers["content-length"], file.body.len().to_string().as_str());
    let path = house.folder.path().join("export.sqlite");
    std::fs::write(&path, &file.body).unwrap();
    let most: i64 = rusqlite::Connection::open(&path).unwrap().query_row("SELECT max(n) FROM counter", [], |row| row.get(0)).unwrap();
    assert_eq!(most, 6);

    assert_eq!(house.control(Method::DELETE, &at("alice", ""), "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.control(Method::GET, &at("alice", ""), "").await.code(), "not_found");
    assert_eq!(house.actor("app/alice/count").await.text(), "1 1", "a message begins a new one");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_question_is_told_what_to_do() {
    let house = House::start().await;
    house.deploy_actors("app", "one").await;
    house.actor("app/alice/count").await;
    let sql = |query: &str| json!({ "query": query }).to_string();
    let wrong = [
        (Method::GET, "/v1/actors?limit=0".to_owned(), String::new(), "invalid"),
        (Method::GET, "/v1/actors?limit=1001".to_owned(), String::new(), "invalid"),
        (Method::GET, "/v1/actors?limit=x".to_owned(), String::new(), "invalid"),
        (Method::GET, "/v1/actors?cursor=x".to_owned(), String::new(), "invalid"),
        (Method::GET, "/v1/actors?worker=A%20B".to_owned(), String::new(), "invalid"),
        (Method::GET, "/v1/actors?nothing=1".to_owned(), String::new(), "invalid"),
        (Method::GET, "/v1/actors/alice".to_owned(), String::new(), "invalid"),
        (Method::GET, "/v1/actors/app%2FCounter".to_owned(), String::new(), "invalid"),
        (Method::GET, "/v1/actors/app%2F..%2Fx".to_owned(), String::new(), "invalid"),
        (Method::GET, at("nobody", ""), String::new(), "not_found"),
        (Method::GET, format!("/v1/actors/{}", "00".repeat(32)), String::new(), "not_found"),
        (Method::POST, at("nobody", "/sql"), sql("SELECT 1"), "not_found"),
        (Method::POST, at("nobody", "/checkpoint"), String::new(), "not_found"),
        (Method::POST, at("nobody", "/fork"), String::new(), "not_found"),
        (Method::POST, at("nobody", "/rewind"), json!({ "to": 1 }).to_string(), "not_found"),
        (Method::GET, at("nobody", "/export"), String::new(), "not_found"),
        (Method::DELETE, at("nobody", ""), String::new(), "not_found"),
        (Method::POST, at("alice", "/sql"), sql("SELECT nothing FROM nowhere"), "invalid"),
        (Method::POST, at("alice", "/sql"), sql("DELETE FROM counter"), "invalid"),
        (Method::POST, at("alice", "/sql"), sql("ATTACH '/etc/passwd' AS x"), "invalid"),
        (Method::POST, at("alice", "/sql"), json!({ "query": "SELECT 1", "as_of": "not a bookmark" }).to_string(), "invalid"),
        (Method::POST, at("alice", "/sql"), json!({ "query": "SELECT 1", "as_of": 1 }).to_string(), "invalid"),
        (Method::POST, at("alice", "/sql"), "{}".to_owned(), "invalid"),
        (Method::POST, at("alice", "/fork"), json!({ "name": "alice" }).to_string(), "conflict"),
        (Method::POST, at("alice", "/rewind"), "{}".to_owned(), "invalid"),
        (Method::GET, at("alice", "/export?as_of=yesterday"), String::new(), "invalid"),
    ];
    for (method, path, body, code) in wrong {
        let answer = house.control(method.clone(), &path, &body).await;
        assert_eq!(answer.code(), code, "{method} {path}: {}", answer.text());
        assert!(!answer.json()["error"]["hint"].as_str().unwrap().is_empty(), "no hint for {method} {path}: {}", answer.text());
    }
    assert!(house.actor("app/alice/count").await.text().starts_with("2 "), "none of it did any harm");
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_into_actors_takes_its_own_scope() {
    let house = House::start().await;
    house.deploy_actors("app", "one").await;
    house.actor("app/alice/count").await;
    let (read, deploy, actors) = (house.key("read").await, house.key("deploy").await, house.key("actors").await);
    let sql = json!({ "query": "SELECT 1" }).to_string();
    for key in [&read, &deploy] {
        assert_eq!(house.ask(Method::POST, &at("alice", "/sql"), Some(key), &sql).await.status, StatusCode::FORBIDDEN);
        assert_eq!(house.ask(Method::GET, &at("alice", "/export"), Some(key), "").await.status, StatusCode::FORBIDDEN);
        assert_eq!(house.ask(Method::DELETE, &at("alice", ""), Some(key), "").await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(house.ask(Method::GET, "/v1/actors", Some(&read), "").await.status, StatusCode::OK);
    assert_eq!(house.ask(Method::GET, "/v1/actors", Some(&actors), "").await.status, StatusCode::FORBIDDEN);
    assert_eq!(house.ask(Method::POST, &at("alice", "/sql"), Some(&actors), &sql).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_actors_is_not_deleted_by_accident() {
    let house = House::start().await;
    house.deploy_actors("app", "one").await;
    for name in ["a", "b"] {
        house.actor(&format!("app/{name}/count")).await;
    }
    let refused = house.control(Method::DELETE, "/v1/workers/app", "").await;
    assert_eq!(refused.code(), "conflict");
    assert!(refused.text().contains("2 actors") && refused.text().contains("--actors"), "{}", refused.text());
    assert_eq!(house.control(Method::DELETE, "/v1/workers/app?actors=perhaps", "").await.code(), "invalid");

    assert_eq!(house.control(Method::DELETE, "/v1/workers/app?actors=keep", "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.control(Method::GET, "/v1/actors", "").await.json()["actors"].as_array().unwrap().len(), 2);
    house.deploy_actors("app", "two").await;
    assert!(house.actor("app/a/count").await.text().starts_with("2 "), "its data was kept");

    assert_eq!(house.control(Method::DELETE, "/v1/workers/app?actors=delete", "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.control(Method::GET, "/v1/actors", "").await.json()["actors"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_database_and_heap_and_new_code_only_the_database() {
    let house = House::start().await;
    house.deploy_actors("app", "one").await;
    for _ in 0..3 {
        house.actor("app/alice/count").await;
    }
    house.actor("app/alice/alarm").await;
    let (in_time, folder) = house.stop().await;
    assert!(in_time);
    let house = House::on(folder, |_, _| {}).await;
    let shown = house.control(Method::GET, &at("alice", ""), "").await.json();
    assert_eq!((&shown["state"], shown["alarms"].as_object().map(serde_json::Map::len)), (&json!("asleep"), Some(1)), "{shown}");
    assert_eq!(house.actor("app/alice/count").await.text(), "4 5", "its heap counted on");
    house.deploy_actors("app", "two").await;
    let answer = house.actor("app/alice/count").await.text();
    assert_eq!(answer, "5 1", "other code begins with its constructor");
    let log = house.control(Method::GET, &at("alice", ""), "").await.json()["log"].to_string();
    assert!(log.contains("constructed"), "and says so: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_start_says_why_and_harms_no_other() {
    let house = House::start().await;
    house.deploy_actors("app", "one").await;
    house.deploy_actors("bad", "broken").await;
    assert_eq!(house.actor("bad/x/count").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(house.actor("app/x/count").await.text(), "1 1");
    let shown = house.control(Method::GET, "/v1/actors/bad%2FCounter%2Fx", "").await;
    assert!(shown.text().contains("its constructor threw"), "{}", shown.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_that_name_no_class_are_refused() {
    let house = House::start().await;
    for class in ["", "default", "a b", "../X", "1X"] {
        let body =
            json!({ "main": "m.js", "modules": { "m.js": "say x" }, "bindings": { "C": { "type": "actors", "class_name": class } } });
        assert_eq!(house.control(Method::PUT, "/v1/workers/app", &body.to_string()).await.code(), "invalid", "{class:?}");
    }
    let snippet = json!({ "code": "1", "bindings": { "C": { "type": "actors", "class_name": "X" } } }).to_string();
    assert_eq!(house.control(Method::POST, "/v1/execute", &snippet).await.code(), "invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_actors() {
    let house = House::start().await;
    house.deploy_actors("app", "one").await;
    house.actor("app/alice/count").await;
    let metrics = house.control(Method::GET, "/metrics", "").await.text();
    for line in [
        "skep_actors_awake 1",
        "skep_actor_constructions_total 1",
        "skep_actor_sockets 0",
        "skep_actor_alarms_due 0",
        "skep_actor_alarms_firing 0",
        "skep_actor_alarm_late_seconds 0",
        "# TYPE skep_actor_log_sync_seconds histogram",
    ] {
        assert!(metrics.lines().any(|have| have == line), "{line} not in\n{metrics}");
    }
    let number = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} not in\n{metrics}")).parse().unwrap()
    };
    let (syncs, records) = (number("skep_actor_log_sync_seconds_count"), number("skep_actor_log_records_total"));
    assert!(syncs >= 1.0 && records >= syncs && number("skep_actor_log_sync_seconds_sum") > 0.0, "{metrics}");
    assert_eq!(number("skep_actor_log_sync_seconds_bucket{le=\"+Inf\"}"), syncs);
}
