//! Isolates: JavaScript workers as WebAssembly instances.
//!
//! `Engine → Image → Isolate`. An [`Engine`] owns the pool and the clock, an [`Image`] is the frozen guest (QuickJS-ng
//! with its Web APIs), an [`Isolate`] is one live copy of it running one [`Worker`]. Started by the node, which supplies
//! what the isolate may reach as [`Target`]s; stopped by dropping its handles. It is not: a network (see `gateway`), a
//! database (see `actor`), or a process boundary.

mod body;
mod chain;
mod cpu;
mod durable;
mod engine;
mod held;
pub mod host;
mod image;
mod instance;
mod isolate;
mod limits;
mod loader;
mod ops;
mod outcome;
mod pagemap;
mod random;
mod resources;
mod snapshot;
mod socket;
mod stack;
mod target;
mod trace;
mod wasm;
pub mod wire;
mod worker;

pub use body::{Body, BodyError, BodyStream, BodyWriter};
pub use chain::{Chain, Receipts};
pub use durable::{Actor, ActorClass, ActorSnapshot, Durable, Namespace};
pub use engine::{Engine, EngineConfig, EngineError};
pub use image::{IMAGE_HASH, Image, ImageError};
pub use isolate::{Entry, Event, Isolate};
pub use limits::{Limits, LimitsAsked};
pub use loader::{JavaScriptOnly, Loader, Transform};
pub use outcome::{Exception, Meter, Outcome, Report};
pub use snapshot::{HibernateError, Snapshot, SnapshotError};
pub use socket::{Socket, SocketMessage, deliver};
pub use target::{BoxFuture, CallError, IsolateId, Request, Response, RpcMessage, Target};
pub use trace::Tails;
pub use wasm::{Compile, precompile};
pub use worker::{Binding, Code, Module, ModuleKind, Observer, Unobserved, Worker};
