//! The contract and the server agree.

use http::{Method, StatusCode};

use crate::house::House;

#[tokio::test]
async fn every_route_of_the_server_is_in_the_document() {
    let house = House::start().await;
    let document = house.control(Method::GET, "/openapi.json", "").await.json();
    for route in skep_api::ROUTES {
        let method = format!("{:?}", route.method).to_lowercase();
        let entry = &document["paths"][route.path][&method];
        assert_eq!(entry["operationId"], route.id, "{} {}", method, route.path);
        assert_eq!(entry["security"].is_array(), route.scope.is_some(), "{}", route.path);
    }
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.keys().all(|path| skep_api::ROUTES.iter().any(|route| route.path == path)));
}

#[tokio::test]
async fn status_and_metrics() {
    let house = House::start().await;
    house.deploy("a", "say x").await;
    house.call("a").await;
    let status = house.control(Method::GET, "/v1/node", "").await.json();
    assert_eq!((status["image"].as_str(), status["workers"].as_u64()), (Some("scripted"), Some(1)));
    let metrics = house.control(Method::GET, "/metrics", "").await;
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    for line in ["skep_requests_total{outcome=\"ok\"} 1", "skep_workers 1", "skep_deploys_total 1", "skep_request_seconds_count 1"] {
        assert!(metrics.text().lines().any(|have| have == line), "{line} not in\n{}", metrics.text());
    }
    assert_eq!(house.ask(Method::GET, "/healthz", None, "").await.status, StatusCode::OK);
    assert!(metrics.headers.get("access-control-allow-origin").is_none(), "the control routes are closed to other origins");
}
