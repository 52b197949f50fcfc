//! Failures of the front, and how they look on the wire.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use skep_access::KeyError;
use skep_api::{ApiError, ErrorBody, ErrorCode};
use skep_node::{CodeError, DeleteError, DeployError, Outcome, StoreError};

/// An error on its way to the client.
pub(crate) struct Failure(pub ApiError);

impl Failure {
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(ApiError::new(code, message).hint(hint))
    }

    /// A fault of ours. The client learns that it happened; the log, what.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %error, "a request failed through a fault of the node");
        Self::new(ErrorCode::Internal, "the node failed", "The node's log says more.")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(status, &ErrorBody { error: self.0 });
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON answer. Nothing of the control contract is ever to be cached.
pub(crate) fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(value).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoWorker(_) => Self::new(ErrorCode::NotFound, error.to_string(), "`skep workers ls` shows what is deployed."),
            StoreError::NoVersion(ref name, _) => {
                Self::new(ErrorCode::NotFound, error.to_string(), format!("`skep workers versions {name}` shows what there is."))
            }
            other => Self::internal(&other),
        }
    }
}

impl From<DeleteError> for Failure {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::Store(error) => error.into(),
            DeleteError::Actors(error) => error.into(),
            DeleteError::HasActors { ref worker, .. } => Self::new(
                ErrorCode::Conflict,
                error.to_string(),
                format!(
                    "`skep workers rm {worker} --actors delete` deletes them too; `--actors keep` leaves them for a worker of that name to come."
                ),
            ),
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Denied => {
                Self::new(ErrorCode::Unauthorized, error.to_string(), "Send `Authorization: Bearer skep_…`; `skep key create` makes a key.")
            }
            KeyError::Unknown(_) => Self::new(ErrorCode::NotFound, error.to_string(), "`skep key ls` shows all keys."),
            KeyError::Invalid(_) => Self::new(ErrorCode::Invalid, error.to_string(), ""),
            other => Self::internal(&other),
        }
    }
}

impl From<CodeError> for Failure {
    fn from(error: CodeError) -> Self {
        let code = match &error {
            CodeError::TooLarge { .. } => ErrorCode::TooLarge,
            CodeError::Compile(_) => ErrorCode::BadCode,
            _ => ErrorCode::Invalid,
        };
        let hint = match &error {
            CodeError::NoSecret(name) => format!("`skep secret set {name} --host …` makes it; `skep secret ls` shows what there is."),
            _ => String::new(),
        };
        Self::new(code, error.to_string(), hint)
    }
}

impl From<DeployError> for Failure {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Code(error) => error.into(),
            DeployError::Store(error) => error.into(),
            DeployError::NoClass { .. } => Self::new(
                ErrorCode::BadCode,
                error.to_string(),
                "Export the class, or correct the binding's `class_name`. Nothing was deployed; the former version, if there is one, still answers.",
            ),
            DeployError::Startup(Outcome::Internal(why)) => {
                Self::new(ErrorCode::Unavailable, format!("the worker could not be started: {why}"), "Try again.")
            }
            DeployError::Startup(outcome) => {
                let stack = match &outcome {
                    Outcome::Startup(exception) | Outcome::Exception(exception) if !exception.stack.is_empty() => {
                        format!("\n{}", exception.stack)
                    }
                    _ => String::new(),
                };
                Self::new(
                    ErrorCode::BadCode,
                    format!("{outcome}{stack}"),
                    "Nothing was deployed; the former version, if there is one, still answers.",
                )
            }
        }
    }
}
