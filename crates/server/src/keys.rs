//! API keys.

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use skep_api::{ErrorCode, KeyList, NewKeyToken};
use skep_id::KeyId;

use crate::{
    control::{Control, Json},
    convert::{key_out, new_key_in},
    reply::{Failure, json},
};

pub(crate) async fn create(State(control): State<Control>, Json(body): Json<skep_api::NewKey>) -> Result<Response, Failure> {
    let (key, token) = control.node.keys().create(&new_key_in(body), skep_node::now_ms())?;
    Ok(json(StatusCode::CREATED, &NewKeyToken { key: key_out(key), token: token.reveal(), e2b: token.reveal_hexadecimal() }))
}

pub(crate) async fn list(State(control): State<Control>) -> Result<Response, Failure> {
    let keys = control.node.keys().list()?.into_iter().map(key_out).collect();
    Ok(json(StatusCode::OK, &KeyList { keys }))
}

pub(crate) async fn revoke(State(control): State<Control>, Path(id): Path<String>) -> Result<Response, Failure> {
    let id: KeyId = id.parse().map_err(|error: skep_id::ParseError| Failure::new(ErrorCode::Invalid, error.to_string(), ""))?;
    control.node.keys().revoke(&id, skep_node::now_ms())?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
