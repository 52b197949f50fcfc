//! Errors as E2B's clients read them: `{"code", "message"}`, the code being the status.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;
use skep_access::KeyError;
use skep_node::SandboxError;

use crate::reply;

/// An error on its way to a client.
#[derive(Debug)]
pub(crate) struct Error {
    pub status: StatusCode,
    pub message: String,
}

impl Error {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// A fault of ours. The client learns that it happened; the log, what.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request about a sandbox failed through a fault of the node");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the node failed; its log says more")
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        reply::json(self.status, &json!({ "code": self.status.as_u16(), "message": self.message }))
    }
}

impl From<SandboxError> for Error {
    fn from(error: SandboxError) -> Self {
        use skep_node::LifeError;
        let status = match &error {
            SandboxError::Gone(_) | SandboxError::NoTemplate(_) | SandboxError::Life(LifeError::NoSnapshot(_)) => StatusCode::NOT_FOUND,
            SandboxError::Invalid(_) | SandboxError::NotReady(_) => StatusCode::BAD_REQUEST,
            SandboxError::Asleep(_) | SandboxError::Life(LifeError::Refused(_) | LifeError::NoFork) => StatusCode::CONFLICT,
            SandboxError::Full(_) | SandboxError::Life(LifeError::Ranges) => StatusCode::TOO_MANY_REQUESTS,
            SandboxError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            _ => return Self::internal(&error),
        };
        Self::new(status, error.to_string())
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Denied => Self::new(StatusCode::UNAUTHORIZED, "Invalid API key"),
            other => Self::internal(&other),
        }
    }
}
