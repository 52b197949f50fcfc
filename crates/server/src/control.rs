//! The control routes: the table of `api`, walked into a router.

use axum::{
    Router,
    extract::{FromRequest, Request, State},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use skep_api::{ErrorCode, Operation, ROUTES};
use skep_node::Node;
use tokio_util::sync::CancellationToken;

use crate::{
    actors,
    auth::{Guard, check},
    execute, keys,
    reply::Failure,
    sandboxes, secrets, status, tail, workers,
};

/// What control routes work with.
#[derive(Clone)]
pub(crate) struct Control {
    pub node: Node,
    /// Where workers answer by host and by path: scheme and authority parts for URLs shown to people.
    pub places: Places,
    /// Ends streams that would otherwise never end.
    pub stopping: CancellationToken,
    pub body_bytes_max: usize,
}

/// For URLs shown to people.
#[derive(Clone)]
pub(crate) struct Places {
    pub scheme: &'static str,
    pub domain: String,
    pub port: u16,
    pub host: String,
    /// Where sandboxes answer: `<domain>`, with `:<port>` where it is not 443.
    pub sandboxes: String,
}

impl Places {
    /// Where a worker answers, by host first.
    pub fn of(&self, name: &skep_id::WorkerName) -> Vec<String> {
        let port = match (self.scheme, self.port) {
            ("http", 80) | ("https", 443) => String::new(),
            (_, port) => format!(":{port}"),
        };
        let Self { scheme, domain, host, .. } = self;
        vec![format!("{scheme}://{name}.{domain}{port}/"), format!("{scheme}://{host}{port}/w/{name}/")]
    }
}

/// The router of everything but the workers' own routes.
pub(crate) fn router(control: &Control) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let guard = Guard { control: control.clone(), scope: route.scope };
        let mut answering = operation(route.operation, filter(route.method));
        if route.scope.is_some() {
            answering = answering.layer(from_fn_with_state(guard, check));
        }
        router = router.route(route.path, answering);
    }
    #[cfg(target_os = "linux")]
    {
        router = router.merge(crate::e2b::router());
    }
    router.method_not_allowed_fallback(unsuitable).fallback(nowhere).with_state(control.clone())
}

fn filter(method: skep_api::Method) -> MethodFilter {
    match method {
        skep_api::Method::Get => MethodFilter::GET,
        skep_api::Method::Put => MethodFilter::PUT,
        skep_api::Method::Post => MethodFilter::POST,
        skep_api::Method::Delete => MethodFilter::DELETE,
    }
}

fn operation(operation: Operation, filter: MethodFilter) -> MethodRouter<Control> {
    match operation {
        Operation::Health => on(filter, status::health),
        Operation::OpenApi => on(filter, status::openapi),
        Operation::Metrics => on(filter, status::metrics),
        Operation::Node => on(filter, status::node),
        Operation::Deploy => on(filter, workers::deploy),
        Operation::Workers => on(filter, workers::list),
        Operation::Versions => on(filter, workers::versions),
        Operation::Rollback => on(filter, workers::rollback),
        Operation::Delete => on(filter, workers::delete),
        Operation::Tail => on(filter, tail::tail),
        Operation::Execute => on(filter, execute::execute),
        Operation::CreateKey => on(filter, keys::create),
        Operation::Keys => on(filter, keys::list),
        Operation::RevokeKey => on(filter, keys::revoke),
        Operation::Secrets => on(filter, secrets::list),
        Operation::PutSecret => on(filter, secrets::put),
        Operation::DeleteSecret => on(filter, secrets::delete),
        Operation::Actors => on(filter, actors::list),
        Operation::Actor => on(filter, actors::show),
        Operation::ActorSql => on(filter, actors::sql),
        Operation::CheckpointActor => on(filter, actors::checkpoint),
        Operation::ForkActor => on(filter, actors::fork),
        Operation::RewindActor => on(filter, actors::rewind),
        Operation::ExportActor => on(filter, actors::export),
        Operation::DeleteActor => on(filter, actors::delete),
        Operation::Sandboxes => on(filter, sandboxes::list),
        Operation::CreateSandbox => on(filter, sandboxes::create),
        Operation::Sandbox => on(filter, sandboxes::show),
        Operation::DeleteSandbox => on(filter, sandboxes::remove),
        Operation::PauseSandbox => on(filter, sandboxes::pause),
        Operation::ResumeSandbox => on(filter, sandboxes::resume),
        Operation::StartSandbox => on(filter, sandboxes::resume),
        Operation::StopSandbox => on(filter, sandboxes::stop),
        Operation::ExecInSandbox => on(filter, sandboxes::exec),
        Operation::SandboxTerminal => on(filter, sandboxes::terminal),
        Operation::ReadSandboxFile => on(filter, sandboxes::read_file),
        Operation::WriteSandboxFile => on(filter, sandboxes::write_file),
        Operation::DeleteSandboxFile => on(filter, sandboxes::remove_file),
        Operation::SandboxFolder => on(filter, sandboxes::folder),
        Operation::SandboxPorts => on(filter, sandboxes::ports),
        Operation::SandboxSnapshots => on(filter, sandboxes::snapshots),
        Operation::SnapshotSandbox => on(filter, sandboxes::snapshot),
        Operation::DeleteSandboxSnapshot => on(filter, sandboxes::remove_snapshot),
        Operation::ForkSandbox => on(filter, sandboxes::fork),
        Operation::SandboxDiff => on(filter, sandboxes::diff),
        Operation::CommitSandbox => on(filter, sandboxes::commit),
        Operation::SandboxHistory => on(filter, sandboxes::history),
        Operation::Images => on(filter, sandboxes::images::list),
        Operation::MakeImage => on(filter, sandboxes::images::make),
        Operation::LoadImage => on(filter, sandboxes::images::load),
        Operation::DeleteImage => on(filter, sandboxes::images::remove),
    }
}

/// What does not exist is told only to those who hold a key.
async fn nowhere(State(control): State<Control>, request: Request) -> Result<Response, Failure> {
    Guard { control, scope: None }.principal(request.headers())?;
    let message = format!("there is no route {} {}", request.method(), request.uri().path());
    Err(Failure::new(ErrorCode::NotFound, message, "GET /openapi.json lists all routes."))
}

async fn unsuitable(State(control): State<Control>, request: Request) -> Result<Response, Failure> {
    Guard { control, scope: None }.principal(request.headers())?;
    let message = format!("{} does not take {}", request.uri().path(), request.method());
    let mut response = Failure::new(ErrorCode::Invalid, message, "GET /openapi.json lists all routes.").into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    Ok(response)
}

/// A request's body as JSON. An empty body is taken as `{}` where everything is optional.
pub(crate) struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Control> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, control: &Control) -> Result<Self, Failure> {
        let most = control.body_bytes_max;
        let body = Limited::new(request.into_body(), most).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Failure::new(ErrorCode::TooLarge, format!("the body is larger than {most} bytes"), "")
            } else {
                Failure::new(ErrorCode::Invalid, "the body broke off", "")
            }
        })?;
        let bytes = body.to_bytes();
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(|error| {
            Failure::new(ErrorCode::Invalid, format!("the body is not what this route takes: {error}"), "GET /openapi.json describes it.")
        })
    }
}
