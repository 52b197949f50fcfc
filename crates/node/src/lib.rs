//! One host: composes the engines below and is the only crate that knows them all.
//!
//! [`Node::open`] takes a data folder and gives a handle; what is deployed, who may deploy, and which isolates are warm is behind
//! it. Drop the last handle to stop; [`Node::close`] writes down what is only in memory.
//!
//! It is not: a server. It knows no routes, and a whole node runs in a test without a socket.

#![warn(missing_docs)]

mod actors;
mod code;
mod config;
mod execute;
mod guest;
mod isolates;
mod metrics;
mod node;
mod pool;
#[cfg(target_os = "linux")]
mod sandboxes;
mod secrets;
mod snippet;
mod store;
mod tail;
mod workers;

pub use actors::{
    ActorDetails, ActorFilter, ActorRow, ActorRows, ActorState, Actors, ActorsError, Exported, Fork, Inspection, NamespaceName, Point,
    inspect as inspect_actors,
};
pub use code::{Binding, Code, CodeError, Draft, DraftModule};
pub use config::{ChunksConfig, CodeConfig, Config, LogConfig, PoolConfig, SandboxesConfig};
pub use execute::{Executed, Line, Snippet};
pub use guest::{Awake, Entrypoint, Export, Guest, Resident, Runtime, Served, Written};
pub use node::{CloseError, DeleteError, DeployError, InFlight, Node, OpenError, Orphans, Status};
#[cfg(target_os = "linux")]
pub use sandboxes::{
    Action, Build, BuildFrom, BuildLevel, BuildLine, BuildState, BuildSteps, ChangeWhat, ChunksError, Credentials, DEFAULT_TAG, Entry,
    EntryKind, ExitStatus, Facts, FailedAt, Fault, FaultKind, FileChange, Image, ImageError, ImageMaking, ImagePlatform, ImageSource,
    Incoming, Level, LogEntry, Merged, NewBuild, NewSandbox, Note, OnTimeout, Opened, Owned, Past, Profile, PtySize, Reach, RecipeStep,
    Running, Sample, Sandbox, SandboxCommand, SandboxError, SandboxLimits, SandboxState, Sandboxes, SandboxesError, Setup, Snapshot,
    SnapshotId, Standing, Stdio, Stop, Tagged, Template, Terminal, Uploaded, Uploading, Woken, look_at_chunks,
};
pub use secrets::{SecretRow, Secrets, SecretsError};
pub use skep_actor::{Receipt, database::Value as SqlValue, log::LogError};
pub use skep_gateway::{Egress, body, header_text, websocket};
pub use skep_isolate::{
    Body, BodyError, BodyStream, Exception, LimitsAsked, Meter, Outcome, Report, Request, Response, Socket, Worker, precompile,
};
#[cfg(target_os = "linux")]
pub use skep_sandbox::{Host as SandboxHost, LifeError, RequestError};
pub use store::{Deployment, Store, StoreError, VersionRow};
pub use tail::{Event, Tail};
pub use workers::DispatchError;

/// The hash of the isolate image of this build.
pub const IMAGE_HASH: &str = skep_isolate::IMAGE_HASH;

/// Milliseconds since the epoch.
#[must_use]
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
