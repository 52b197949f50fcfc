//! Linux sandboxes: a computer for an agent, made of namespaces and not of a hypervisor.
//!
//! A [`Spec`] says what is wanted; [`plan()`] makes a list of operations of it without touching anything; a child of the [`Zygote`] carries
//! them out and becomes the sandbox's init, which runs commands and serves files over one socket. See `docs/design/sandboxes.md`.
//! It is not: a place that knows networks beyond the device in the sandbox, HTTP, or who a sandbox belongs to.
//!
//! A program that starts sandboxes must begin its `main` with [`child`].

#![cfg(target_os = "linux")]
#![warn(missing_docs)]

pub mod attack;
mod cgroup;
mod commit;
mod connection;
mod diff;
mod etc;
mod fence;
mod history;
mod image;
mod init;
mod kernel;
mod layer;
mod merge;
mod plan;
mod profile;
mod quota;
mod range;
mod record;
mod run;
mod sandbox;
mod sandboxes;
mod seccomp;
mod since;
mod snapshot;
mod spec;
mod stack;
mod state;
mod wire;
mod zygote;

pub use cgroup::{Cgroups, Group, Hierarchy, Usage};
pub use commit::Merged;
pub use connection::{Connection, Copied, RequestError};
pub use diff::{Change as FileChange, What};
pub use fence::{Fence, Host, Missing, Standing};
pub use history::{Note, Past};
pub use image::{
    Action, Allows, Base, Bounds, Credentials, HOST, Image, ImageConfig, ImageError, ImageRules, Images, Level, Line, Making, Platform,
    Reach, Recipe, RecipeStep, Source, UnpackError, Workshop, base, host_image,
};
pub use merge::{Conflict, Why};
pub use plan::{Namespace, Op, Owner, Plan, PlanError, plan};
pub use profile::Profile;
pub use range::{Range, Ranges};
pub use record::{Process, Record, StoreError};
pub use sandbox::{
    Changes, Command, Ending, Finished, Metrics, Part as FilePart, Running, SHORT, Sandbox, StartError, Stdio, Terminal, Written,
};
pub use sandboxes::{Boxed, Config, LifeError, OpenError, Opened, Sandboxes};
pub use snapshot::{
    NoSnapshotId, Origin, Snapshot, SnapshotId,
    bucket::{Bucket, BucketError, BucketKey, BucketPlace},
    chunks::{ChunkError, ChunkName, NoChunkName},
    manifest::Saved,
    store::{ChunkStore, Folder},
};
pub use spec::{Limits, Network, Pair, Part, Place, Rootfs, Spec, SpecError, Volume};
pub use state::{Effect, Input, OnTimeout, Policy, State, Stop, step};
pub use wire::{
    Account, Active, Change, ChangeKind, Entry, EntryKind, Fault, FaultKind, Leads, Noticed, PtySize, Status, Watching, Writing,
};
pub use zygote::{Failed, Zygote, ZygoteError, child};
