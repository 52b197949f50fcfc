//! The control contract: what crosses the HTTP border of a node, and nothing else.
//!
//! Wire types, the table of routes, error codes, and the OpenAPI document made of them. The server answers by these types,
//! the CLI asks by them, and other languages get a client generated from [`openapi`].
//!
//! It is not: the domain. Types here are converted at the border (`server`); the engines behind never see them.

#![warn(missing_docs)]

mod actor;
mod error;
mod execute;
mod image;
mod key;
mod node;
mod openapi;
mod route;
mod sandbox;
mod secret;
mod tail;
mod worker;

pub use actor::{
    Actor, ActorDetails, ActorLine, ActorList, ActorRows, ActorSql, ActorState, ForkActor, Point, Receipt, RewindActor, Rewound,
};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use execute::{Execute, Executed, Fault, LogLine, Meter, Outcome};
pub use image::{DebianImage, Image, ImageCredentials, ImageList, ImageProgress, NewImage};
pub use key::{Key, KeyList, NewKey, NewKeyToken, Scope};
pub use node::NodeStatus;
pub use openapi::{openapi, openapi_json};
pub use route::{Method, Operation, ROUTES, Route};
pub use sandbox::{
    ForkSandbox, NewSandbox, NewSandboxSnapshot, OnTimeout, ResumeSandbox, Sandbox, SandboxChange, SandboxConflict, SandboxDiff,
    SandboxExec, SandboxFence, SandboxFile, SandboxFolder, SandboxForks, SandboxHistory, SandboxLimits, SandboxList, SandboxMerged,
    SandboxNetwork, SandboxOutput, SandboxPast, SandboxPort, SandboxPorts, SandboxProfile, SandboxSnapshot, SandboxSnapshotList,
    SandboxState,
};
pub use secret::{PutSecret, Secret, SecretList};
pub use tail::{TailEvent, Trigger};
pub use worker::{Binding, Deploy, Deployed, Limits, ModuleSource, Rollback, TypedModule, Version, VersionList, Worker, WorkerList};
