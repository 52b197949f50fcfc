//! Sandboxes on the wire: Linux computers of agents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skep_id::SandboxId;
use utoipa::ToSchema;

/// A sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sandbox {
    /// `i` and 20 letters and digits.
    #[schema(value_type = String)]
    pub id: SandboxId,
    /// What it was made from.
    pub template: String,
    /// The key that made it.
    pub owner: String,
    /// How tight it is.
    pub profile: SandboxProfile,
    /// Where it is in its life.
    pub state: SandboxState,
    /// Why it is stopped, in a word; `disk_full` where it runs and was found to keep more on the disk than it may; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// ms since the epoch.
    pub created_at: i64,
    /// When it last started or woke, ms since the epoch.
    pub started_at: i64,
    /// When its time is up, ms since the epoch; absent where it never is, or where it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<i64>,
    /// What happens when its time is up.
    pub on_timeout: OnTimeout,
    /// Whether a request to one of its ports wakes it.
    pub auto_resume: bool,
    /// What it may use.
    pub limits: SandboxLimits,
    /// What its owner finds it by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Where its ports answer: `{port}` stands for the port.
    pub url: String,
    /// What requests to its ports must send as `E2b-Traffic-Access-Token`; absent where they are open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_token: Option<String>,
}

/// How tight a sandbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SandboxProfile {
    /// Commands are one ordinary user without any capability; the host's programs are read-only.
    Strict,
    /// Commands may be root within their own ids.
    Workstation,
}

/// Where a sandbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    /// It is being made.
    Starting,
    /// Its processes run.
    Running,
    /// Its processes stand still, with their memory.
    Paused,
    /// It has files and no processes.
    Stopped,
    /// It is going.
    Removing,
}

/// What happens when a sandbox's time is up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// It stands still, with its memory.
    Pause,
    /// Its processes end; its files are kept.
    Stop,
    /// It goes.
    #[default]
    Remove,
}

/// What a sandbox may use; the node decides what is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxLimits {
    /// Memory of all its processes, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// Computing time, in thousandths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// What it keeps on the disk of that which it changes, MiB. Refused where the node's file system does not keep to such bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<u64>,
    /// Files and folders that it makes or changes; the same holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes: Option<u64>,
}

/// `POST /v1/sandboxes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewSandbox {
    /// What it begins with: `base`, an image, or a snapshot. `base` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// How tight it is; the node decides when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<SandboxProfile>,
    /// How long it runs, ms; until it is told otherwise when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// What happens then.
    pub on_timeout: OnTimeout,
    /// Whether a request to one of its ports wakes it.
    pub auto_resume: bool,
    /// What it may use.
    pub limits: SandboxLimits,
    /// What its owner finds it by.
    pub metadata: BTreeMap<String, String>,
    /// Variables of every command.
    pub env: BTreeMap<String, String>,
    /// What it may reach and who may reach it.
    pub network: SandboxNetwork,
}

/// What a sandbox may reach, and who may reach it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxNetwork {
    /// Whether it reaches the internet where no rule says otherwise; it does when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internet: Option<bool>,
    /// Addresses, ranges and names that it reaches whatever `deny` says.
    pub allow: Vec<String>,
    /// Addresses, ranges and names that it does not reach.
    pub deny: Vec<String>,
    /// Whether its ports answer only those who show the traffic token.
    pub private_ports: bool,
}

/// Sandboxes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SandboxList {
    /// The one that started last first.
    pub sandboxes: Vec<Sandbox>,
    /// The fences of the host.
    pub fences: Vec<SandboxFence>,
}

/// One thing that keeps a sandbox in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxFence {
    /// Its name.
    pub name: String,
    /// Whether it stands.
    pub stands: bool,
    /// Why not, and what helps; empty where it stands.
    #[serde(default)]
    pub said: String,
}

/// `POST /v1/sandboxes/{id}/resume`, `/start`: for how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeSandbox {
    /// ms from now; as its maker decided when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// `POST /v1/sandboxes/{id}/exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxExec {
    /// Program and arguments; or `line`.
    pub argv: Vec<String>,
    /// A line for the shell; or `argv`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// Variables, beside those of the sandbox.
    pub env: BTreeMap<String, String>,
    /// Where it begins; the user's home when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Who it runs as: `user`, `root`, or a number. `user` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its standard input, in base64; at its end from the beginning when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// A snapshot is taken first, to return to the files as they were before this command.
    pub snapshot_before: bool,
    /// Files that change while it runs are found out, for the history; it costs a walk through all that the sandbox has changed.
    pub changes: bool,
    /// It is killed after so many ms; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// One line of the answer to `exec`, as it happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SandboxOutput {
    /// It runs: its process number within, and its number in the history.
    Started {
        /// Its process number within.
        pid: u32,
        /// Its number in the history.
        #[serde(default)]
        number: u64,
    },
    /// It wrote to its standard output: base64.
    Stdout(String),
    /// It wrote to its standard error: base64.
    Stderr(String),
    /// It ended: its exit code, or 128 and the number of the signal.
    Exited {
        /// The code.
        code: i32,
        /// The signal, if it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    },
    /// It is not known how it ended: the sandbox ended first, or was paused.
    Lost(String),
}

/// A file, folder or link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxFile {
    /// Absolute.
    pub path: String,
    /// `file`, `folder`, `link` or `other`.
    pub kind: String,
    /// Of a file.
    pub bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// The owner's number within.
    pub user: u32,
    /// When its content changed, ms since the epoch.
    pub modified_at: i64,
    /// Of a link: where it leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// The entries of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxFolder {
    /// In the order of the folder.
    pub entries: Vec<SandboxFile>,
}

/// Ports that something in a sandbox listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxPorts {
    /// Lowest first.
    pub ports: Vec<SandboxPort>,
}

/// A port that something listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxPort {
    /// The number.
    pub port: u16,
    /// Where it answers.
    pub url: String,
}

/// `POST /v1/sandboxes/{id}/snapshots`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSandboxSnapshot {
    /// What to find it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The files of a sandbox at one moment; a sandbox begins with them where its template is this id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxSnapshot {
    /// `s` and 20 letters and digits.
    pub id: String,
    /// What its owner calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The sandbox it was taken of, which may be gone.
    #[schema(value_type = String)]
    pub sandbox: SandboxId,
    /// ms since the epoch.
    pub taken_at: i64,
    /// For how long the sandbox stood still, in microseconds.
    pub paused_us: u64,
    /// Whether it is in the chunk store and every chunk was read back.
    pub durable: bool,
}

/// Snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxSnapshotList {
    /// Newest first.
    pub snapshots: Vec<SandboxSnapshot>,
}

/// `POST /v1/sandboxes/{id}/forks`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkSandbox {
    /// How many, 1 to 100; one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// How long each runs, ms; until it is told otherwise when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What became of each fork: a sandbox or an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SandboxForks {
    /// Those that run.
    pub forks: Vec<Sandbox>,
    /// Why others do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<crate::ApiError>,
}

/// A file that a sandbox changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxChange {
    /// Absolute.
    pub path: String,
    /// `added`, `changed` or `removed`.
    pub what: String,
    /// `file`, `folder`, `link` or `other`.
    pub kind: String,
    /// Of a file.
    pub bytes: u64,
    /// Permission bits.
    pub mode: u32,
}

/// What a sandbox changed of what it began with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxDiff {
    /// In the order of paths; of what was removed only the topmost.
    pub changes: Vec<SandboxChange>,
}

/// What came of bringing a fork's changes into its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxMerged {
    /// What the parent now has.
    pub applied: Vec<SandboxChange>,
    /// What both had changed in the same way.
    pub same: Vec<String>,
    /// What was left as it is in the parent.
    pub conflicts: Vec<SandboxConflict>,
}

/// A path that both changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxConflict {
    /// Absolute.
    pub path: String,
    /// Why.
    pub why: String,
}

/// A command that was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxPast {
    /// From 1, in order.
    pub number: u64,
    /// The key that ran it.
    pub author: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Who it ran as, by number.
    pub user: u32,
    /// ms since the epoch.
    pub started_at: i64,
    /// ms since the epoch; absent while it runs, and where nobody saw its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
    /// Its exit code, or 128 and the number of the signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Files that changed while it ran.
    pub changed: Vec<String>,
    /// Whether more changed than are named.
    pub more: bool,
    /// The snapshot that was taken before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// Every command that was run in a sandbox through this API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxHistory {
    /// In order.
    pub commands: Vec<SandboxPast>,
}
