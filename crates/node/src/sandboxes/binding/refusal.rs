//! Why a method of a sandbox was not done, as its guest sees it: a status, a word for programs and a sentence for people.

use bytes::Bytes;
use skep_isolate::{Body, Response};
use skep_sandbox::{FaultKind, LifeError, RequestError};

use crate::sandboxes::SandboxError;

#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
}

impl Refusal {
    pub fn new(status: u16, code: &'static str, message: String) -> Self {
        Self { status, code, message }
    }

    pub fn invalid(message: String) -> Self {
        Self::new(400, "INVALID_ARGUMENT", message)
    }

    pub fn internal(message: String) -> Self {
        Self::new(500, "INTERNAL_ERROR", message)
    }

    /// The node has none.
    pub fn none() -> Self {
        Self::new(503, "NO_SANDBOXES", "this node has no sandboxes: `skep doctor` says what is missing".to_owned())
    }

    pub fn into_response(self) -> Response {
        let body = serde_json::json!({ "code": self.code, "message": self.message }).to_string();
        // The marker tells it from an answer of a server within.
        let headers = [("content-type", "application/json"), ("x-sandbox-error", self.code)];
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Response { status: self.status, headers, body: Body::Bytes(Bytes::from(body)), ..Response::default() }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        let RequestError::Fault(fault) = error else {
            return Self::new(502, "SANDBOX_GONE", message);
        };
        let (status, code) = match fault.kind {
            FaultKind::NotFound => (404, "FILE_NOT_FOUND"),
            FaultKind::Exists => (409, "FILE_EXISTS"),
            FaultKind::NotFolder => (400, "NOT_DIRECTORY"),
            FaultKind::IsFolder => (400, "IS_DIRECTORY"),
            FaultKind::Denied => (403, "PERMISSION_DENIED"),
            FaultKind::Full => (507, "NO_SPACE"),
            FaultKind::Loop => (400, "TOO_MANY_LINKS"),
            FaultKind::Invalid => (400, "INVALID_ARGUMENT"),
            FaultKind::Refused => (502, "PORT_NOT_READY"),
            FaultKind::Failed => (500, "FILESYSTEM_ERROR"),
        };
        Self::new(status, code, message)
    }
}

impl From<skep_sandbox::Fault> for Refusal {
    fn from(fault: skep_sandbox::Fault) -> Self {
        RequestError::Fault(fault).into()
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        let message = error.to_string();
        match error {
            SandboxError::Request(error) | SandboxError::Life(LifeError::Within(error)) => error.into(),
            SandboxError::Life(LifeError::NoFork) => Self::new(409, "NO_PARENT", message),
            SandboxError::Life(LifeError::NoSnapshot(_)) | SandboxError::NoTemplate(_) => Self::new(404, "SNAPSHOT_NOT_FOUND", message),
            SandboxError::Gone(_) => Self::new(404, "SANDBOX_GONE", message),
            SandboxError::Full(_) => Self::new(429, "TOO_MANY_SANDBOXES", message),
            SandboxError::Busy => Self::new(429, "BUSY", message),
            SandboxError::Invalid(_) => Self::invalid(message),
            _ => Self::new(503, "SANDBOX_NOT_READY", message),
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::internal(error.to_string())
    }
}
