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
    Route { method, path, operation, id, summary, scope, request, response }
}

/// Every route of the node, except the workers' own.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    route(Method::Get, "/healthz", Operation::Health, "health", "Answers `ok` while the node takes requests, 503 while it drains.", None, None, (200, "text/plain", None)),
    route(Method::Get, "/openapi.json", Operation::OpenApi, "openapi", "This document.", Some(Scope::Read), None, (200, JSON, None)),
    route(Method::Get, "/metrics", Operation::Metrics, "metrics", "Counters and gauges in the Prometheus text format.", Some(Scope::Read), None, (200, "text/plain", None)),
    route(Method::Get, "/v1/node", Operation::Node, "getNode", "The node about itself.", Some(Scope::Read), None, (200, JSON, Some("NodeStatus"))),
    route(Method::Get, "/v1/workers", Operation::Workers, "listWorkers", "All workers and where they answer.", Some(Scope::Read), None, (200, JSON, Some("WorkerList"))),
    route(Method::Put, "/v1/workers/{name}", Operation::Deploy, "deployWorker", "Deploys code under a name. It is live when the answer arrives; until then, and if anything fails, the former version answers.", Some(Scope::Deploy), Some("Deploy"), (200, JSON, Some("Deployed"))),
    route(Method::Delete, "/v1/workers/{name}", Operation::Delete, "deleteWorker", "Deletes a worker with all versions.", Some(Scope::Deploy), None, (204, "", None)),
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
];
