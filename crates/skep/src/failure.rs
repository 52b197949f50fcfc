//! What a command that fails says: what happened, why, and what to do; and its exit code.

use std::{error::Error, process::ExitCode};

use skep_api::{ApiError, ErrorBody, ErrorCode};

/// A command's failure.
#[derive(Debug)]
pub struct Failure {
    error: ApiError,
    /// Nothing more is to be said: the output has it.
    silent: bool,
    /// The exit code of a command that ran elsewhere.
    exit: Option<u8>,
}

impl Failure {
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: ApiError::new(code, message).hint(hint), silent: false, exit: None }
    }

    /// An exit code without a message.
    pub fn silent(code: ErrorCode) -> Self {
        Self { error: ApiError::new(code, ""), silent: true, exit: None }
    }

    /// This program ends as a command elsewhere did, without a word of its own.
    pub fn exit(code: i32) -> Result<(), Self> {
        let exit = u8::try_from(code & 0xff).unwrap_or(1);
        if code == 0 { Ok(()) } else { Err(Self { exit: Some(exit), ..Self::silent(ErrorCode::Internal) }) }
    }

    /// The user asked for something that cannot be.
    pub fn wrong(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message, hint)
    }

    /// An error and its causes in one message.
    pub fn of(code: ErrorCode, error: &dyn Error, hint: impl Into<String>) -> Self {
        Self::new(code, with_causes(error), hint)
    }

    pub fn message(&self) -> &str {
        &self.error.message
    }

    pub fn report(self, json: bool) -> ExitCode {
        let code = self.exit.unwrap_or_else(|| self.error.code.exit_code());
        if self.silent {
            return ExitCode::from(code);
        }
        if json {
            eprintln!("{}", serde_json::to_string(&ErrorBody { error: self.error }).unwrap_or_default());
        } else {
            eprintln!("error: {}", self.error.message);
            if !self.error.hint.is_empty() {
                eprintln!("  → {}", self.error.hint);
            }
        }
        ExitCode::from(code)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { error, silent: false, exit: None }
    }
}

/// An error and its causes in one line, each cause once: some errors end with what caused them.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
