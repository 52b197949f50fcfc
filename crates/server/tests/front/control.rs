//! Who may ask what, and what deploys do.

use http::{Method, StatusCode};

use crate::house::House;

#[tokio::test]
async fn nothing_answers_without_a_key_but_health_and_workers() {
    let house = House::start().await;
    for route in skep_api::ROUTES {
        let method = method(route.method);
        let path = route.path.replace("{name}", "a").replace("{id}", "0000000000000000").replace("{actor}", "a%2FC%2Fx");
        let answer = house.ask(method, &path, None, "").await;
        if route.scope.is_some() {
            assert_eq!((answer.status, answer.code().as_str()), (StatusCode::UNAUTHORIZED, "unauthorized"), "{path}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        } else {
            assert_eq!(answer.status, StatusCode::OK, "{path}");
        }
    }
    for path in ["/", "/v1", "/v1/nothing", "/console", "/v1/workers/../keys"] {
        assert_eq!(house.ask(Method::GET, path, None, "").await.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(house.control(Method::GET, path, "").await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(house.ask(Method::PATCH, "/v1/keys", None, "").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(house.control(Method::PATCH, "/v1/keys", "").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

fn method(method: skep_api::Method) -> Method {
    match method {
        skep_api::Method::Get => Method::GET,
        skep_api::Method::Put => Method::PUT,
        skep_api::Method::Post => Method::POST,
        skep_api::Method::Delete => Method::DELETE,
    }
}

#[tokio::test]
async fn bad_keys_are_refused_in_every_form() {
    let house = House::start().await;
    let good = house.token.clone();
    let wrong_secret = format!("{}{}", &good[..good.len() - 4], "0000");
    for token in ["", "skep_", "x", &wrong_secret, &good[1..], &format!("{good}a"), "skep_0000000000000000_' OR 1=1"] {
        assert_eq!(house.ask(Method::GET, "/v1/node", Some(token), "").await.status, StatusCode::UNAUTHORIZED, "{token}");
    }
    let request = |values: &[&str]| {
        let mut request = http::Request::get(house.url("/v1/node"));
        for value in values {
            request = request.header("authorization", *value);
        }
        request.body(Default::default()).unwrap()
    };
    let bearer = format!("Bearer {good}");
    for values in [vec![good.as_str()], vec!["Basic eDp5"], vec![&bearer, &bearer], vec![&bearer, "Bearer x"]] {
        assert_eq!(house.send(request(&values)).await.status, StatusCode::UNAUTHORIZED, "{values:?}");
    }
    assert_eq!(house.send(request(&[&format!("bearer {good}")])).await.status, StatusCode::OK);
}

#[tokio::test]
async fn scopes_bound_what_a_key_may_do() {
    let house = House::start().await;
    let scopes = ["admin", "deploy", "execute", "read"];
    for scope in scopes {
        let made = house.control(Method::POST, "/v1/keys", &serde_json::json!({ "scopes": [scope] }).to_string()).await;
        assert_eq!(made.status, StatusCode::CREATED);
        let token = made.json()["token"].as_str().unwrap().to_owned();
        for route in skep_api::ROUTES.iter().filter(|route| route.scope.is_some() && !route.path.ends_with("/tail")) {
            let path = route.path.replace("{name}", "none").replace("{id}", "0000000000000000");
            let answer = house.ask(method(route.method), &path, Some(&token), "").await;
            let needed = serde_json::to_value(route.scope).unwrap();
            let allowed = scope == "admin" || needed == scope;
            assert_eq!(answer.status != StatusCode::FORBIDDEN, allowed, "{scope} at {} {path}: {}", route.id, answer.text());
        }
    }
}

#[tokio::test]
async fn a_revoked_key_stops_at_once_and_an_expired_one_too() {
    let house = House::start().await;
    let made = house.control(Method::POST, "/v1/keys", r#"{"scopes":["read"],"label":"x"}"#).await.json();
    let (id, token) = (made["key"]["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert_eq!(house.ask(Method::GET, "/v1/node", Some(token), "").await.status, StatusCode::OK);
    assert_eq!(house.control(Method::DELETE, &format!("/v1/keys/{id}"), "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.ask(Method::GET, "/v1/node", Some(token), "").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(house.control(Method::DELETE, "/v1/keys/0000000000000000", "").await.status, StatusCode::NOT_FOUND);
    let soon = skep_node::now_ms() + 150;
    let made = house.control(Method::POST, "/v1/keys", &format!(r#"{{"scopes":["read"],"expires_at":{soon}}}"#)).await.json();
    let token = made["token"].as_str().unwrap();
    assert_eq!(house.ask(Method::GET, "/v1/node", Some(token), "").await.status, StatusCode::OK);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(house.ask(Method::GET, "/v1/node", Some(token), "").await.status, StatusCode::UNAUTHORIZED);
    let list = house.control(Method::GET, "/v1/keys", "").await;
    assert!(!list.text().contains(token) && list.json()["keys"].as_array().unwrap().len() == 3);
}

#[tokio::test]
async fn deploy_list_roll_back_delete() {
    let house = House::start().await;
    let first = house.deploy("hello", "say one").await;
    assert_eq!((first.status, first.json()["version"].as_str()), (StatusCode::OK, Some("v1")), "{}", first.text());
    assert_eq!(house.call("hello").await.text(), "one");
    assert_eq!(house.deploy("hello", "say one").await.json()["unchanged"], true);
    assert_eq!(house.deploy("hello", "say two").await.json()["version"], "v2");
    assert_eq!(house.call("hello").await.text(), "two");

    let back = house.control(Method::POST, "/v1/workers/hello/rollback", "").await;
    assert_eq!(back.json()["version"], "v1");
    assert_eq!(house.call("hello").await.text(), "one");
    let to = house.control(Method::POST, "/v1/workers/hello/rollback", r#"{"version":"v2"}"#).await;
    assert_eq!(to.json()["version"], "v2");
    assert_eq!(house.control(Method::POST, "/v1/workers/hello/rollback", r#"{"version":"v9"}"#).await.status, StatusCode::NOT_FOUND);

    let versions = house.control(Method::GET, "/v1/workers/hello/versions", "").await.json();
    let active: Vec<_> =
        versions["versions"].as_array().unwrap().iter().map(|v| (v["version"].as_str().unwrap(), v["active"] == true)).collect();
    assert_eq!(active, [("v2", true), ("v1", false)]);
    assert_eq!(house.control(Method::GET, "/v1/workers", "").await.json()["workers"][0]["name"], "hello");

    assert_eq!(house.control(Method::DELETE, "/v1/workers/hello", "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.call("hello").await.status, StatusCode::NOT_FOUND);
    assert_eq!(house.control(Method::DELETE, "/v1/workers/hello", "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(house.deploy("hello", "say three").await.json()["version"], "v3", "numbers are not used twice");
}

#[tokio::test]
async fn what_cannot_be_deployed_changes_nothing() {
    let house = House::start().await;
    house.deploy("w", "say one").await;
    let cases = [
        (r#"{"main":"a.js","modules":{}}"#, 400),
        (r#"{"main":"a.py","modules":{"a.py":"x"}}"#, 400),
        (r#"{"main":"a","modules":{"a":"x"}}"#, 400),
        (r#"{"main":"a.js","modules":{"a.js":"x","../b.js":"y"}}"#, 400),
        (r#"{"main":"a.js","modules":{"a.js":{"data":"%%"}}}"#, 400),
        (r#"{"main":"a.js","modules":{"a.js":{"text":"x"}}}"#, 400),
        (r#"{"main":"a.js","modules":{"a.js":"say x"},"surprise":1}"#, 400),
        (r#"{"main":"a.js","modules":{"a.js":"say x"},"limits":{"cpu_ms":0}}"#, 400),
        (r#"{"main":"a.js","modules":{"a.js":"startup"}}"#, 422),
        ("not json", 400),
        ("", 400),
    ];
    for (body, status) in cases {
        let answer = house.control(Method::PUT, "/v1/workers/w", body).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text());
        assert_eq!(house.call("w").await.text(), "one");
    }
    assert_eq!(house.control(Method::PUT, "/v1/workers/UPPER", "{}").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(house.control(Method::GET, "/v1/workers/w/versions", "").await.json()["versions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn limits_on_code_and_bodies() {
    let house = House::with(|node, front| {
        node.limits.code_bytes = 1_000;
        node.code.modules_max = 2;
        node.code.bindings_bytes_max = 200;
        front.control_body_bytes_max = 10_000;
    })
    .await;
    let big = format!(r#"{{"main":"a.js","modules":{{"a.js":"say {}"}}}}"#, "x".repeat(1_000));
    assert_eq!(house.control(Method::PUT, "/v1/workers/w", &big).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let many = r#"{"main":"a.js","modules":{"a.js":"say x","b.js":"","c.js":""}}"#;
    assert_eq!(house.control(Method::PUT, "/v1/workers/w", many).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let bound =
        format!(r#"{{"main":"a.js","modules":{{"a.js":"say x"}},"bindings":{{"A":{{"type":"text","value":"{}"}}}}}}"#, "x".repeat(200));
    assert_eq!(house.control(Method::PUT, "/v1/workers/w", &bound).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let huge = "x".repeat(10_001);
    let answer = house.control(Method::PUT, "/v1/workers/w", &huge).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
}

#[tokio::test]
async fn a_snippet_runs_and_its_log_comes_back() {
    let house = House::start().await;
    let answer = house.control(Method::POST, "/v1/execute", r#"{"code":"say x","input":[1,2]}"#).await;
    let body = answer.json();
    assert_eq!(body["outcome"], "ok", "{}", answer.text());
    assert_eq!(body["result"], serde_json::json!([[1, 2]]));
    assert_eq!(body["logs"][0]["text"], "running");
    assert_eq!(house.control(Method::POST, "/v1/execute", r#"{"code":"1","language":"cobol"}"#).await.status, StatusCode::BAD_REQUEST);
}
