//! The node about itself.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use skep_api::NodeStatus;

use crate::{control::Control, reply::json};

pub(crate) async fn health(State(control): State<Control>) -> Response {
    if control.node.status().draining { (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response() } else { "ok\n".into_response() }
}

pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], skep_api::openapi_json()).into_response()
}

pub(crate) async fn metrics(State(control): State<Control>) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], control.node.metrics()).into_response()
}

pub(crate) async fn node(State(control): State<Control>) -> Response {
    let status = control.node.status();
    let body = NodeStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        image: control.node.image(),
        uptime_ms: u64::try_from(status.uptime.as_millis()).unwrap_or(u64::MAX),
        domain: control.node.config().domain.clone(),
        workers: status.workers as u64,
        isolates: status.isolates as u64,
        in_flight: status.in_flight,
        draining: status.draining,
    };
    json(StatusCode::OK, &body)
}
