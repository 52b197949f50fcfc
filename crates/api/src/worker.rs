//! Workers: what is deployed, what is listed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skep_id::{VersionId, WorkerName};
use utoipa::ToSchema;

use crate::SandboxProfile;

/// `PUT /v1/workers/{name}`: new code for a name, live from the answer on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// Name of the module whose exports are the worker.
    pub main: String,
    /// All modules by name. Imports are resolved among these names.
    pub modules: BTreeMap<String, ModuleSource>,
    /// Source maps (JSON text) by module name, for readable stacks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub source_maps: BTreeMap<String, String>,
    /// What the code finds in `env`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bindings: BTreeMap<String, Binding>,
    /// Limits of each isolate; the lower of these and the node's own holds.
    #[serde(default)]
    pub limits: Limits,
    /// The date whose behaviour the code expects (`YYYY-MM-DD`); kept and shown, no behaviour depends on it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compatibility_date: Option<String>,
    /// Names of behaviours that the code expects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compatibility_flags: Vec<String>,
    /// A remark for the list of versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A module: plain text, whose kind follows from the name's ending, or text or bytes of a named kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ModuleSource {
    /// Kind by name: `.js .mjs .ts .mts .tsx .jsx .cjs .json .txt .html .sql`.
    Plain(String),
    /// Kind by word.
    Typed(TypedModule),
}

/// A module of a named kind, the words being those of the Worker Loader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TypedModule {
    /// An ES module.
    Js(String),
    /// An ES module in TypeScript; types are stripped, not checked.
    Ts(String),
    /// TypeScript with JSX.
    Tsx(String),
    /// JavaScript with JSX.
    Jsx(String),
    /// A CommonJS module.
    Cjs(String),
    /// Default export: the text.
    Text(String),
    /// Default export: the bytes as `ArrayBuffer`; base64 here.
    Data(String),
    /// Default export: the value.
    Json(serde_json::Value),
    /// Default export: a `WebAssembly.Module`; base64 here.
    Wasm(String),
}

/// One entry of `env`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Binding {
    /// A string.
    Text {
        /// The string.
        value: String,
    },
    /// Any JSON value.
    Json {
        /// The value.
        value: serde_json::Value,
    },
    /// A secret's placeholder: the worker sees a stand-in text, never the secret. In the headers of requests to the secret's hosts, the
    /// node puts the secret in its place.
    Secret {
        /// Name of a secret of the node (`PUT /v1/secrets/{name}`).
        name: String,
    },
    /// Bytes, seen as `ArrayBuffer`.
    Data {
        /// The bytes in base64.
        base64: String,
    },
    /// Another worker of this node: `env.NAME.fetch()` and its methods.
    Service {
        /// Name of the worker.
        #[schema(value_type = String)]
        worker: WorkerName,
        /// A named `WorkerEntrypoint`; the default export when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entrypoint: Option<String>,
        /// What the callee finds in `ctx.props`: a JSON object of at most 16 KiB.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<Object>)]
        props: Option<serde_json::Value>,
    },
    /// Actors of one class: `env.NAME.getByName(…)` and the like. An actor lives as long as it has data; each is there once on the node.
    Actors {
        /// The exported class.
        class_name: String,
        /// The worker that exports it; this one when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        worker: Option<WorkerName>,
    },
    /// The Worker Loader.
    Loader {},
    /// Linux computers by name: `env.NAME.get("main").exec("ls")`. Their names are the worker's own.
    Sandboxes {
        /// `strict` or `workstation`; the node's own setting when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile: Option<SandboxProfile>,
        /// Seconds without use after which one stands still, to go on with its next use; 600 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sleep_after_s: Option<u32>,
    },
}

/// Limits; what is absent is the node's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// CPU time of one request, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u32>,
    /// Time on the clock of one request, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u32>,
    /// Memory of an isolate, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// Outgoing requests (fetch, service calls) of one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subrequests: Option<u32>,
    /// Bytes that one request may send out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
}

/// The answer to a deploy or a rollback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Deployed {
    /// The worker.
    #[schema(value_type = String)]
    pub worker: WorkerName,
    /// The version that answers from now on.
    #[schema(value_type = String)]
    pub version: VersionId,
    /// Where it answers, by host first.
    pub urls: Vec<String>,
    /// Hash over everything the version consists of: the same code and settings, the same hash.
    pub hash: String,
    /// Whether this deploy made no new version because the live one is the same to the byte.
    pub unchanged: bool,
}

/// One worker in the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// Its name.
    #[schema(value_type = String)]
    pub name: WorkerName,
    /// The version that answers.
    #[schema(value_type = String)]
    pub version: VersionId,
    /// When that version was deployed or rolled back to, ms since the epoch.
    pub active_since: i64,
    /// Where it answers.
    pub urls: Vec<String>,
}

/// All workers of the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerList {
    /// By name.
    pub workers: Vec<Worker>,
}

/// One version of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Its number.
    #[schema(value_type = String)]
    pub version: VersionId,
    /// Whether it answers now.
    pub active: bool,
    /// When it was deployed, ms since the epoch.
    pub created_at: i64,
    /// The key that deployed it.
    pub created_by: String,
    /// Hash of everything in it.
    pub hash: String,
    /// Bytes of all modules.
    pub size: u64,
    /// The remark given at deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// All versions of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VersionList {
    /// Newest first.
    pub versions: Vec<Version>,
}

/// `POST /v1/workers/{name}/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The version to return to; the one that was active before when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub version: Option<VersionId>,
}
