//! How a call ended and what it cost. Data only: a guest's fault is a value here, never a panic.

use serde::Serialize;

/// An exception that left the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exception {
    /// The error's name, such as `TypeError`.
    pub name: String,
    /// Its message.
    pub message: String,
    /// Its stack, mapped back to the sources where a source map is known; may be empty.
    pub stack: String,
}

impl std::fmt::Display for Exception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum Outcome {
    /// The handler answered.
    #[error("ok")]
    Ok,
    /// The handler threw, or rejected.
    #[error("{0}")]
    Exception(Exception),
    /// The CPU limit was exceeded; the isolate is gone.
    #[error("the CPU limit was exceeded")]
    Cpu,
    /// The wall-time limit was exceeded.
    #[error("the wall-time limit was exceeded")]
    Wall,
    /// The memory limit was exceeded; the isolate is gone.
    #[error("the memory limit was exceeded")]
    Memory,
    /// The limit of outgoing requests was exceeded and the handler did not cope with the error.
    #[error("too many subrequests")]
    Subrequests,
    /// The worker's modules do not load.
    #[error("the worker does not start: {0}")]
    Startup(Exception),
    /// The actor was ended, or never began: its constructor threw, `ctx.abort()`, a commit that failed. The next call finds another.
    #[error("the actor was reset: {0}")]
    Reset(Exception),
    /// The caller left, or the isolate was ended for another call's sake.
    #[error("cancelled: {0}")]
    Cancelled(String),
    /// A fault of the runtime itself: a trap, or an exhausted pool.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Outcome {
    /// A short word for metrics and logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Exception(_) => "exception",
            Self::Cpu => "cpu",
            Self::Wall => "wall",
            Self::Memory => "memory",
            Self::Subrequests => "subrequests",
            Self::Startup(_) => "startup",
            Self::Reset(_) => "reset",
            Self::Cancelled(_) => "cancelled",
            Self::Internal(_) => "internal",
        }
    }
}

/// What a call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Meter {
    /// CPU time in microseconds, of the threads that ran the guest and its slow cryptography.
    pub cpu_us: u64,
    /// From arrival until everything the call started had ended, in microseconds.
    pub wall_us: u64,
    /// Most memory of the isolate so far, in bytes: its linear memory and what the host held for it.
    pub memory_peak_bytes: u64,
    /// Bytes that came in: request bodies, messages, and answers of outgoing requests.
    pub bytes_in: u64,
    /// Bytes that went out: response bodies, results, messages and outgoing requests. What was refused did not.
    pub bytes_out: u64,
    /// Host calls made.
    pub host_calls: u64,
    /// Outgoing requests.
    pub subrequests: u32,
    /// Deterministic count of engine operations: the same code on the same input gives the same count on any machine.
    pub operations: u64,
}

/// The end of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub meter: Meter,
}
