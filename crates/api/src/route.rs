//! The table of routes. The server builds its router by walking it and the OpenAPI document is made from it, so neither can
//! have a route that the other lacks.

use crate::Scope;

/// HTTP methods in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// PUT
    Put,
    /// POST
    Post,
    /// DELETE
    Delete,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Is the node up?
    Health,
    /// This contract.
    OpenApi,
    /// Prometheus metrics.
    Metrics,
    /// The node's status.
    Node,
    /// Deploy a worker.
    Deploy,
    /// All workers.
    Workers,
    /// One worker's versions.
    Versions,
    /// Return to an earlier version.
    Rollback,
    /// Delete a worker.
    Delete,
    /// A worker's events.
    Tail,
    /// Run a snippet.
    Execute,
    /// Make a key.
    CreateKey,
    /// All keys.
    Keys,
    /// Revoke a key.
    RevokeKey,
    /// All secrets.
    Secrets,
    /// Set a secret.
    PutSecret,
    /// Delete a secret.
    DeleteSecret,
    /// Actors.
    Actors,
    /// One actor.
    Actor,
    /// A question to an actor's database.
    ActorSql,
    /// Write an actor's heap and database down.
    CheckpointActor,
    /// A new actor from an old one.
    ForkActor,
    /// Bring an actor's database back to what it was.
    RewindActor,
    /// An actor's database as a file.
    ExportActor,
    /// Delete an actor.
    DeleteActor,
    /// Sandboxes.
    Sandboxes,
    /// Make a sandbox.
    CreateSandbox,
    /// One sandbox.
    Sandbox,
    /// Remove a sandbox.
    DeleteSandbox,
    /// Stand a sandbox still.
    PauseSandbox,
    /// Let a sandbox go on.
    ResumeSandbox,
    /// Start a stopped sandbox.
    StartSandbox,
    /// End a sandbox's processes.
    StopSandbox,
    /// Run a command in a sandbox.
    ExecInSandbox,
    /// A terminal in a sandbox.
    SandboxTerminal,
    /// Read a file of a sandbox.
    ReadSandboxFile,
    /// Write a file of a sandbox.
    WriteSandboxFile,
    /// Remove a file of a sandbox.
    DeleteSandboxFile,
    /// A folder of a sandbox.
    SandboxFolder,
    /// Ports of a sandbox.
    SandboxPorts,
    /// Snapshots of a sandbox.
    SandboxSnapshots,
    /// Take a snapshot of a sandbox.
    SnapshotSandbox,
    /// Remove a snapshot.
    DeleteSandboxSnapshot,
    /// Sandboxes from a sandbox.
    ForkSandbox,
    /// What a sandbox changed.
    SandboxDiff,
    /// Bring a fork's changes into its parent.
    CommitSandbox,
    /// What was run in a sandbox.
    SandboxHistory,
    /// All images.
    Images,
    /// Make an image.
    MakeImage,
    /// Make an image of a file.
    LoadImage,
    /// Remove an image.
    DeleteImage,
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path, parameters in braces.
    pub path: &'static str,
    /// What it does.
    pub operation: Operation,
    /// The id in the OpenAPI document; names a method of generated clients.
    pub id: &'static str,
    /// One line for readers.
    pub summary: &'static str,
    /// Names of parameters of the query, and what they say; all may be left out.
    pub query: &'static [(&'static str, &'static str)],
    /// The scope that a key must have; `None`: answers without a key.
    pub scope: Option<Scope>,
    /// Name of the schema of the request's body.
    pub request: Option<&'static str>,
    /// Status, media type and schema of the answer to a success.
    pub response: (u16, &'static str, Option<&'static str>),
}

const JSON: &str = "application/json";

#[expect(clippy::too_many_arguments, reason = "a row of the table below")]
const fn route(
    method: Method,
    path: &'static str,
    operation: Operation,
    id: &'static str,
    summary: &'static str,
    scope: Option<Scope>,
    request: Option<&'static str>,
    response: (u16, &'static str, Option<&'static str>),
) -> Route {
    Route { method, path, operation, id, summary, query: &[], scope, request, response }
}

impl Route {
    /// The same route with parameters of the query.
    const fn asked(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }
}

const ACTORS_QUERY: &[(&str, &str)] = &[
    ("worker", "Only actors of that worker's classes."),
    ("class", "Only actors of that class."),
    ("prefix", "Only actors whose name begins so."),
    ("cursor", "Where the page before ended."),
    ("limit", "Most actors of this page: 1 to 1,000, 100 when absent."),
];

const AS_OF_QUERY: &[(&str, &str)] =
    &[("as_of", "The past to export: a time, ms since the epoch, or a bookmark; the present when absent.")];

const DELETE_QUERY: &[(&str, &str)] = &[(
    "actors",
    "What becomes of actors of the worker's classes: `delete`, or `keep` for a worker of the same name to come. Without it, a worker that has actors is not deleted.",
)];

const TERMINAL_QUERY: &[(&str, &str)] = &[
    ("user", "Who the shell runs as: `user`, `root` or a number; `user` when absent."),
    ("columns", "Characters in a line; 80 when absent."),
    ("rows", "Lines; 24 when absent."),
    ("line", "What the shell runs instead of asking."),
    ("cwd", "Where it begins; the user's home when absent."),
];

const FILE_QUERY: &[(&str, &str)] = &[
    ("path", "Which one; not absolute, it is below the user's home."),
    ("user", "With whose rights: `user`, `root` or a number; `user` when absent."),
];

const SANDBOXES_QUERY: &[(&str, &str)] =
    &[("metadata", "Only those with this metadata: `name=value&…`, each part percent-encoded."), ("state", "Only those in this state.")];

/// Every route of the node, except the workers' own.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    route(Method::Get, "/healthz", Operation::Health, "health", "Answers `ok` while the node takes requests, 503 while it drains.", None, None, (200, "text/plain", None)),
    route(Method::Get, "/openapi.json", Operation::OpenApi, "openapi", "This document.", Some(Scope::Read), None, (200, JSON, None)),
    route(Method::Get, "/metrics", Operation::Metrics, "metrics", "Counters and gauges in the Prometheus text format.", Some(Scope::Read), None, (200, "text/plain", None)),
    route(Method::Get, "/v1/node", Operation::Node, "getNode", "The node about itself.", Some(Scope::Read), None, (200, JSON, Some("NodeStatus"))),
    route(Method::Get, "/v1/workers", Operation::Workers, "listWorkers", "All workers and where they answer.", Some(Scope::Read), None, (200, JSON, Some("WorkerList"))),
    route(Method::Put, "/v1/workers/{name}", Operation::Deploy, "deployWorker", "Deploys code under a name. It is live when the answer arrives; until then, and if anything fails, the former version answers.", Some(Scope::Deploy), Some("Deploy"), (200, JSON, Some("Deployed"))),
    route(Method::Delete, "/v1/workers/{name}", Operation::Delete, "deleteWorker", "Deletes a worker with all versions.", Some(Scope::Deploy), None, (204, "", None)).asked(DELETE_QUERY),
    route(Method::Get, "/v1/workers/{name}/versions", Operation::Versions, "listVersions", "A worker's versions, newest first.", Some(Scope::Read), None, (200, JSON, Some("VersionList"))),
    route(Method::Post, "/v1/workers/{name}/rollback", Operation::Rollback, "rollbackWorker", "Returns to an earlier version, atomically.", Some(Scope::Deploy), Some("Rollback"), (200, JSON, Some("Deployed"))),
    route(Method::Get, "/v1/workers/{name}/tail", Operation::Tail, "tailWorker", "Server-sent events, each one a `TailEvent` as JSON, until the client leaves.", Some(Scope::Read), None, (200, "text/event-stream", Some("TailEvent"))),
    route(Method::Post, "/v1/execute", Operation::Execute, "execute", "Runs a snippet in a fresh isolate and returns result, logs, outcome and meter.", Some(Scope::Execute), Some("Execute"), (200, JSON, Some("Executed"))),
    route(Method::Get, "/v1/keys", Operation::Keys, "listKeys", "All API keys, without their secrets.", Some(Scope::Admin), None, (200, JSON, Some("KeyList"))),
    route(Method::Post, "/v1/keys", Operation::CreateKey, "createKey", "Makes an API key. The answer is the only place where its token ever appears.", Some(Scope::Admin), Some("NewKey"), (201, JSON, Some("NewKeyToken"))),
    route(Method::Delete, "/v1/keys/{id}", Operation::RevokeKey, "revokeKey", "Revokes a key, effective at once.", Some(Scope::Admin), None, (204, "", None)),
    route(Method::Get, "/v1/secrets", Operation::Secrets, "listSecrets", "All secrets and the hosts that they are for, without their values.", Some(Scope::Read), None, (200, JSON, Some("SecretList"))),
    route(Method::Put, "/v1/secrets/{name}", Operation::PutSecret, "putSecret", "Sets a secret. Workers hold placeholders of it; requests from now on carry the new value.", Some(Scope::Admin), Some("PutSecret"), (200, JSON, Some("Secret"))),
    route(Method::Delete, "/v1/secrets/{name}", Operation::DeleteSecret, "deleteSecret", "Deletes a secret, effective at once.", Some(Scope::Admin), None, (204, "", None)),
    route(Method::Get, "/v1/actors", Operation::Actors, "listActors", "Actors, page by page.", Some(Scope::Read), None, (200, JSON, Some("ActorList"))).asked(ACTORS_QUERY),
    route(Method::Get, "/v1/actors/{actor}", Operation::Actor, "getActor", "One actor: by its id, or as `<worker>/<class>/<name>` with the slashes percent-encoded.", Some(Scope::Read), None, (200, JSON, Some("ActorDetails"))),
    route(Method::Post, "/v1/actors/{actor}/sql", Operation::ActorSql, "queryActor", "Asks an actor's database, now or as of a point in its past, without waking or stopping it. Nothing can be changed by it.", Some(Scope::Actors), Some("ActorSql"), (200, JSON, Some("ActorRows"))),
    route(Method::Post, "/v1/actors/{actor}/checkpoint", Operation::CheckpointActor, "checkpointActor", "Writes heap and database down together. The receipt says where.", Some(Scope::Actors), None, (200, JSON, Some("Receipt"))),
    route(Method::Post, "/v1/actors/{actor}/fork", Operation::ForkActor, "forkActor", "Makes a new actor from one as it is or was.", Some(Scope::Actors), Some("ForkActor"), (201, JSON, Some("Actor"))),
    route(Method::Post, "/v1/actors/{actor}/rewind", Operation::RewindActor, "rewindActor", "Brings an actor's database back to a point in its past. It can be undone.", Some(Scope::Actors), Some("RewindActor"), (200, JSON, Some("Rewound"))),
    route(Method::Get, "/v1/actors/{actor}/export", Operation::ExportActor, "exportActor", "An actor's database as a SQLite file.", Some(Scope::Actors), None, (200, "application/vnd.sqlite3", None)).asked(AS_OF_QUERY),
    route(Method::Get, "/v1/sandboxes", Operation::Sandboxes, "listSandboxes", "The caller's sandboxes, and the fences of the host.", Some(Scope::Sandboxes), None, (200, JSON, Some("SandboxList"))).asked(SANDBOXES_QUERY),
    route(Method::Post, "/v1/sandboxes", Operation::CreateSandbox, "createSandbox", "Makes a sandbox, which runs when the answer arrives.", Some(Scope::Sandboxes), Some("NewSandbox"), (201, JSON, Some("Sandbox"))),
    route(Method::Get, "/v1/sandboxes/{id}", Operation::Sandbox, "getSandbox", "One sandbox.", Some(Scope::Sandboxes), None, (200, JSON, Some("Sandbox"))),
    route(Method::Delete, "/v1/sandboxes/{id}", Operation::DeleteSandbox, "deleteSandbox", "Removes a sandbox with all it has. Its id never comes back.", Some(Scope::Sandboxes), None, (204, "", None)),
    route(Method::Post, "/v1/sandboxes/{id}/pause", Operation::PauseSandbox, "pauseSandbox", "Stands all processes still; memory is kept.", Some(Scope::Sandboxes), None, (200, JSON, Some("Sandbox"))),
    route(Method::Post, "/v1/sandboxes/{id}/resume", Operation::ResumeSandbox, "resumeSandbox", "Lets a paused sandbox go on, and starts a stopped one.", Some(Scope::Sandboxes), Some("ResumeSandbox"), (200, JSON, Some("Sandbox"))),
    route(Method::Post, "/v1/sandboxes/{id}/start", Operation::StartSandbox, "startSandbox", "Starts a stopped sandbox with the files it had; the same as `resume`.", Some(Scope::Sandboxes), Some("ResumeSandbox"), (200, JSON, Some("Sandbox"))),
    route(Method::Post, "/v1/sandboxes/{id}/stop", Operation::StopSandbox, "stopSandbox", "Ends all processes; files are kept.", Some(Scope::Sandboxes), None, (200, JSON, Some("Sandbox"))),
    route(Method::Post, "/v1/sandboxes/{id}/exec", Operation::ExecInSandbox, "execInSandbox", "Runs a command. The answer is lines of JSON, each a `SandboxOutput`, as they happen; a client that leaves ends the command.", Some(Scope::Sandboxes), Some("SandboxExec"), (200, "application/x-ndjson", Some("SandboxOutput"))),
    route(Method::Get, "/v1/sandboxes/{id}/terminal", Operation::SandboxTerminal, "sandboxTerminal", "A shell on a terminal, as a WebSocket: binary messages are what is typed and shown; a text message `{\"columns\",\"rows\"}` changes the size; at the end comes a text message `{\"code\"}`.", Some(Scope::Sandboxes), None, (101, "", None)).asked(TERMINAL_QUERY),
    route(Method::Get, "/v1/sandboxes/{id}/files", Operation::ReadSandboxFile, "readSandboxFile", "A file's bytes.", Some(Scope::Sandboxes), None, (200, "application/octet-stream", None)).asked(FILE_QUERY),
    route(Method::Put, "/v1/sandboxes/{id}/files", Operation::WriteSandboxFile, "writeSandboxFile", "Writes a file and the folders it is in; readers see the old one or the whole new one.", Some(Scope::Sandboxes), None, (200, JSON, Some("SandboxFile"))).asked(FILE_QUERY),
    route(Method::Delete, "/v1/sandboxes/{id}/files", Operation::DeleteSandboxFile, "deleteSandboxFile", "Removes a file, or a folder with all that is in it.", Some(Scope::Sandboxes), None, (204, "", None)).asked(FILE_QUERY),
    route(Method::Get, "/v1/sandboxes/{id}/folder", Operation::SandboxFolder, "listSandboxFolder", "The entries of a folder.", Some(Scope::Sandboxes), None, (200, JSON, Some("SandboxFolder"))).asked(FILE_QUERY),
    route(Method::Get, "/v1/sandboxes/{id}/ports", Operation::SandboxPorts, "listSandboxPorts", "Ports that something within listens on, and where they answer.", Some(Scope::Sandboxes), None, (200, JSON, Some("SandboxPorts"))),
    route(Method::Get, "/v1/sandboxes/{id}/snapshots", Operation::SandboxSnapshots, "listSandboxSnapshots", "Snapshots that were taken of a sandbox.", Some(Scope::Sandboxes), None, (200, JSON, Some("SandboxSnapshotList"))),
    route(Method::Post, "/v1/sandboxes/{id}/snapshots", Operation::SnapshotSandbox, "snapshotSandbox", "Takes the files as they are at one moment; a running sandbox goes on.", Some(Scope::Sandboxes), Some("NewSandboxSnapshot"), (201, JSON, Some("SandboxSnapshot"))),
    route(Method::Delete, "/v1/sandboxes/{id}/snapshots/{snapshot}", Operation::DeleteSandboxSnapshot, "deleteSandboxSnapshot", "Removes a snapshot; sandboxes that began with it go on.", Some(Scope::Sandboxes), None, (204, "", None)),
    route(Method::Post, "/v1/sandboxes/{id}/forks", Operation::ForkSandbox, "forkSandbox", "Makes sandboxes that begin with the files of this one, with processes and tokens of their own.", Some(Scope::Sandboxes), Some("ForkSandbox"), (201, JSON, Some("SandboxForks"))),
    route(Method::Get, "/v1/sandboxes/{id}/diff", Operation::SandboxDiff, "diffSandbox", "What a sandbox changed of what it began with.", Some(Scope::Sandboxes), None, (200, JSON, Some("SandboxDiff"))),
    route(Method::Post, "/v1/sandboxes/{id}/commit", Operation::CommitSandbox, "commitSandbox", "Brings what a fork changed into the sandbox that it is a fork of; what both changed is reported and left.", Some(Scope::Sandboxes), None, (200, JSON, Some("SandboxMerged"))),
    route(Method::Get, "/v1/sandboxes/{id}/history", Operation::SandboxHistory, "sandboxHistory", "Every command that was run through this API: who, what, how it ended, which files changed.", Some(Scope::Sandboxes), None, (200, JSON, Some("SandboxHistory"))),
    route(Method::Get, "/v1/images", Operation::Images, "listImages", "What sandboxes can begin with, beside templates of keys.", Some(Scope::Sandboxes), None, (200, JSON, Some("ImageList"))),
    route(Method::Post, "/v1/images/{name}", Operation::MakeImage, "makeImage", "Makes an image of a registry's or of Debian's packages, in place of one of this name once it is whole. The answer is lines of JSON, each an `ImageProgress`; the work goes on when the client leaves.", Some(Scope::Admin), Some("NewImage"), (200, "application/x-ndjson", Some("ImageProgress"))),
    route(Method::Put, "/v1/images/{name}/archive", Operation::LoadImage, "loadImage", "The same of the body: a file that `docker save` wrote, or an OCI layout as a tar, packed or not.", Some(Scope::Admin), None, (200, "application/x-ndjson", Some("ImageProgress"))),
    route(Method::Delete, "/v1/images/{name}", Operation::DeleteImage, "deleteImage", "Removes an image; sandboxes that began with it go on.", Some(Scope::Admin), None, (204, "", None)),
    route(Method::Delete, "/v1/actors/{actor}", Operation::DeleteActor, "deleteActor", "Deletes an actor with all it has, its past included.", Some(Scope::Actors), None, (204, "", None)),
];
