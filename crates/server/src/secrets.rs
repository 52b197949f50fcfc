//! Secrets: set, listed without their values, deleted.

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use skep_api::{ErrorCode, PutSecret, Secret, SecretList};
use skep_node::{SecretRow, SecretsError};

use crate::{
    control::{Control, Json},
    reply::{Failure, json},
};

pub(crate) async fn list(State(control): State<Control>) -> Response {
    let secrets = control.node.secrets().list().into_iter().map(shown).collect();
    json(StatusCode::OK, &SecretList { secrets })
}

pub(crate) async fn put(
    State(control): State<Control>,
    Path(name): Path<String>,
    Json(body): Json<PutSecret>,
) -> Result<Response, Failure> {
    let row = control.node.secrets().put(&name, &body.value, &body.hosts, skep_node::now_ms())?;
    Ok(json(StatusCode::OK, &shown(row)))
}

pub(crate) async fn delete(State(control): State<Control>, Path(name): Path<String>) -> Result<Response, Failure> {
    control.node.secrets().delete(&name)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn shown(SecretRow { name, hosts, updated_at }: SecretRow) -> Secret {
    Secret { name, hosts, updated_at }
}

impl From<SecretsError> for Failure {
    fn from(error: SecretsError) -> Self {
        match error {
            SecretsError::Unknown(_) => Self::new(ErrorCode::NotFound, error.to_string(), "`skep secret ls` shows all secrets."),
            SecretsError::File(_) | SecretsError::Database(_) => Self::internal(&error),
            other => Self::new(ErrorCode::Invalid, other.to_string(), ""),
        }
    }
}
