//! Errors as a client sees them: one code to act on, one sentence to read, one hint for what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, for programs. A code is never renamed; new ones may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is not well formed or asks for something that cannot be.
    Invalid,
    /// No key, or one that is unknown, revoked or expired.
    Unauthorized,
    /// The key is good but lacks the scope.
    Forbidden,
    /// No such worker, version, key or route.
    NotFound,
    /// The state of the thing does not allow it.
    Conflict,
    /// Larger than a limit of this node.
    TooLarge,
    /// The code does not compile, or its start failed.
    BadCode,
    /// The worker ran and failed: exception or a limit reached.
    WorkerFailed,
    /// The node is draining or at its limit; trying again later may succeed.
    Unavailable,
    /// A fault of the node. The log has more.
    Internal,
}

impl ErrorCode {
    /// The HTTP status that goes with the code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::BadCode => 422,
            Self::Unavailable => 503,
            Self::WorkerFailed | Self::Internal => 500,
        }
    }

    /// The CLI's exit code by class: 2 asked wrongly, 3 denied, 4 not found, 5 the code is at fault, 6 try later, 1 our fault.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Invalid | Self::TooLarge | Self::Conflict => 2,
            Self::Unauthorized | Self::Forbidden => 3,
            Self::NotFound => 4,
            Self::BadCode | Self::WorkerFailed => 5,
            Self::Unavailable => 6,
            Self::Internal => 1,
        }
    }

    /// The code as it is written on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::BadCode => "bad_code",
            Self::WorkerFailed => "worker_failed",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// An error with all that its reader needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// What happened and why, one or two sentences.
    pub message: String,
    /// What to do next; empty where nothing useful can be said.
    #[serde(default)]
    pub hint: String,
}

impl ApiError {
    /// An error without a hint.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: String::new() }
    }

    /// The same error with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}
