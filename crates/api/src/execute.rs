//! Running a snippet once: the request, the result, and the words for how code ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skep_id::RequestId;
use utoipa::ToSchema;

use crate::{Binding, Limits, ModuleSource};

/// `POST /v1/execute`: run code in a fresh isolate, get its result, and nothing remains.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Execute {
    /// The code. A module with `export default` (a function is called with `(input, env)`, any other value is the
    /// result); or one function expression; or a body in which `return` gives the result and `await` is allowed; or one
    /// expression. Which of these is told from the text: `export`/`import` at the start of a line makes a module.
    pub code: String,
    /// `ts` (types are stripped), `tsx`, `jsx` or `js`.
    #[serde(default = "js")]
    pub language: String,
    /// The first argument of the function.
    #[serde(default)]
    pub input: serde_json::Value,
    /// More modules that the code may import, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, ModuleSource>,
    /// What the code finds in `env`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bindings: BTreeMap<String, Binding>,
    /// Limits; the lower of these and the node's own holds.
    #[serde(default)]
    pub limits: Limits,
    /// Whether `fetch()` may leave the isolate. Off unless asked for.
    #[serde(default)]
    pub network: bool,
}

fn js() -> String {
    "js".to_owned()
}

/// What became of it. The HTTP status is 200 also when the code failed: the request itself was served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Executed {
    /// The request's id.
    #[schema(value_type = String)]
    pub request: RequestId,
    /// How it ended.
    pub outcome: Outcome,
    /// The value returned, as JSON; null unless the outcome is `ok`.
    pub result: serde_json::Value,
    /// What went wrong, unless the outcome is `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
    /// Lines written with `console`.
    pub logs: Vec<LogLine>,
    /// Lines beyond the bound, not kept.
    pub logs_lost: u64,
    /// What it took.
    pub meter: Meter,
}

/// How a piece of guest work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It finished.
    Ok,
    /// It threw.
    Exception,
    /// CPU time was used up.
    Cpu,
    /// Time on the clock was used up.
    Wall,
    /// Memory was used up.
    Memory,
    /// More outgoing requests than allowed.
    Subrequests,
    /// It did not come to life: syntax, a missing import, an exception at the top level.
    Startup,
    /// The client left or the node drained.
    Cancelled,
    /// A fault of ours.
    Internal,
}

/// An error of the guest, as data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// `TypeError`, …
    pub name: String,
    /// The message.
    pub message: String,
    /// The stack, source-mapped; empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stack: String,
}

/// One line of the guest's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// `debug`, `info`, `log`, `warn`, `error`.
    pub level: String,
    /// The formatted text.
    pub text: String,
    /// ms since the epoch.
    pub at: i64,
}

/// What a piece of guest work took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Meter {
    /// CPU time, µs.
    pub cpu_us: u64,
    /// Time on the clock, µs.
    pub wall_us: u64,
    /// Largest memory of the isolate so far, bytes.
    pub memory_peak_bytes: u64,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes that went out.
    pub bytes_out: u64,
    /// Host calls made.
    pub host_calls: u64,
    /// Outgoing requests.
    pub subrequests: u32,
    /// Deterministic count of operations: the same code and input give the same number on any machine.
    pub operations: u64,
}
