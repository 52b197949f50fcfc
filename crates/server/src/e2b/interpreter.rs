//! The code-interpreter wire (port 49999 of a sandbox's host): cells of Python and JavaScript, each context a process of the sandbox.
//!
//! Requests and lines of JSON are those of the published `e2b-code-interpreter` packages: `POST /execute` streams what a cell says until it ends,
//! `/contexts` lists, makes, restarts and removes contexts, `/health` answers. A context's process runs a small bridge of ours (`bridge.py`, `bridge.js`) that
//! speaks to the interpreter itself; what it says comes from the sandbox and is passed on only as lines of known kinds. Driven by whoever answers for a
//! sandbox's host. It is not: where a sandbox comes from, nor where the traffic tokens of private ports are looked at.

mod context;
mod kernel;
mod language;

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use skep_id::SandboxId;
use skep_node::Owned;
use skep_sandbox::Sandbox;
use subtle::ConstantTimeEq;
use tower::ServiceExt;

use context::Context;
use kernel::KernelError;
use language::Language;

/// Longest request, in bytes: code, and the variables of a cell.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Contexts of one sandbox: each is an interpreter with tens of megabytes of the sandbox's memory.
const CONTEXTS_MAX: usize = 32;

/// Where E2B's packages look for it.
pub(crate) const PORT: u16 = 49_999;

/// The folder of contexts that name none.
const FOLDER: &str = "/home/user";

/// All interpreters of a node: those of each sandbox that has been asked for one.
#[derive(Clone, Default)]
pub struct Interpreters {
    of: Arc<Mutex<HashMap<SandboxId, Arc<Interpreter>>>>,
}

/// The contexts of one running sandbox. They end with its processes.
pub struct Interpreter {
    sandbox: Sandbox,
    env: BTreeMap<String, String>,
    contexts: Mutex<BTreeMap<String, Arc<Context>>>,
    /// One at a time is made, so that two first cells do not make two default contexts.
    making: tokio::sync::Mutex<()>,
}

impl Interpreters {
    /// The interpreter of a sandbox, as long as its processes are these. `env`: variables of every context.
    #[must_use]
    pub fn of(&self, id: &SandboxId, sandbox: &Sandbox, env: &BTreeMap<String, String>) -> Arc<Interpreter> {
        let mut all = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(id).filter(|known| known.sandbox.pid() == sandbox.pid()) {
            return Arc::clone(known);
        }
        let interpreter = Interpreter::new(sandbox.clone(), env.clone());
        all.insert(id.clone(), Arc::clone(&interpreter));
        let (of, id, sandbox) = (Arc::clone(&self.of), id.clone(), sandbox.clone());
        tokio::spawn(async move {
            let _ = sandbox.ended().await;
            let mut all = of.lock().unwrap_or_else(PoisonError::into_inner);
            if all.get(&id).is_some_and(|known| known.sandbox.pid() == sandbox.pid()) {
                all.remove(&id);
            }
        });
        interpreter
    }
}

impl Interpreter {
    /// One without contexts.
    #[must_use]
    pub fn new(sandbox: Sandbox, env: BTreeMap<String, String>) -> Arc<Self> {
        Arc::new(Self { sandbox, env, contexts: Mutex::default(), making: tokio::sync::Mutex::default() })
    }

    fn find(&self, id: &str) -> Result<Arc<Context>, Refused> {
        let contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        contexts.get(id).cloned().ok_or_else(|| Refused::NoContext(id.chars().take(80).collect()))
    }

    async fn make(&self, language: Language, folder: String, default: bool) -> Result<Arc<Context>, Refused> {
        let _one = self.making.lock().await;
        {
            let contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
            if default && let Some(found) = contexts.values().find(|context| context.default && context.language == language) {
                return Ok(Arc::clone(found));
            }
            if contexts.len() >= CONTEXTS_MAX {
                return Err(Refused::TooMany);
            }
        }
        let context = Context::start(self.sandbox.clone(), self.env.clone(), language, folder, default).await?;
        let context = Arc::new(context);
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner).insert(context.id.clone(), Arc::clone(&context));
        Ok(context)
    }
}

/// The routes of one sandbox's port 49999.
pub fn router(interpreter: Arc<Interpreter>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/execute", post(execute))
        .route("/contexts", get(list).post(make))
        .route("/contexts/{id}", axum::routing::delete(remove))
        .route("/contexts/{id}/restart", post(restart))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(interpreter)
}

/// The same for every sandbox of a node: a request brings its sandbox along.
pub(crate) fn served() -> Router {
    Router::new().fallback(of_its_sandbox).with_state(Interpreters::default())
}

async fn of_its_sandbox(
    State(all): State<Interpreters>,
    Extension(owned): Extension<Owned>,
    Extension(sandbox): Extension<Sandbox>,
    request: Request,
) -> Response {
    let facts = owned.facts();
    if !may_run(facts.envd_token.as_deref(), request.uri().path(), request.headers()) {
        return (StatusCode::UNAUTHORIZED, "the sandbox is secured: its access token must be shown").into_response();
    }
    let interpreter = all.of(owned.id(), &sandbox, &facts.env);
    match router(interpreter).oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Whoever was shown a page of a sandbox knows its host, and may not run code there for that: the packages show the token of its envd with every cell, though
/// not with what they ask about contexts.
fn may_run(token: Option<&str>, path: &str, headers: &HeaderMap) -> bool {
    let Some(token) = token.filter(|_| path == "/execute") else { return true };
    headers.get("x-access-token").is_some_and(|shown| bool::from(shown.as_bytes().ct_eq(token.as_bytes())))
}

/// Why a request is answered with words. The packages show them to people, with the status.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("Context {0} not found")]
    NoContext(String),
    #[error("Only one of context_id or language can be provided")]
    Both,
    #[error("no interpreter for {0:?}: the languages are python, javascript and typescript")]
    NoLanguage(String),
    #[error("a sandbox has at most {CONTEXTS_MAX} contexts; remove one first")]
    TooMany,
    #[error("the request cannot be read: {0}")]
    Unreadable(String),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NoContext(_) => StatusCode::NOT_FOUND,
            Self::Both | Self::NoLanguage(_) | Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::TooMany | Self::Kernel(KernelError::Crowded) => StatusCode::TOO_MANY_REQUESTS,
            Self::Kernel(KernelError::Folder(_)) => StatusCode::BAD_REQUEST,
            // What is missing is missing in the caller's own sandbox.
            Self::Kernel(KernelError::Missing(..)) => StatusCode::FAILED_DEPENDENCY,
            Self::Kernel(KernelError::Removed) => StatusCode::NOT_FOUND,
            Self::Kernel(KernelError::Failed(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, self.to_string()).into_response()
    }
}

#[derive(Deserialize)]
struct Execute {
    code: String,
    context_id: Option<String>,
    language: Option<String>,
    env_vars: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
struct Make {
    language: Option<String>,
    cwd: Option<String>,
}

#[derive(Serialize)]
struct Shown {
    id: String,
    language: &'static str,
    cwd: String,
}

impl Shown {
    fn of(context: &Context) -> Self {
        Self { id: context.id.clone(), language: context.language.word(), cwd: context.folder.clone() }
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused::Unreadable(error.to_string()))
}

fn language(word: Option<&str>) -> Result<Language, Refused> {
    let word = word.unwrap_or("python");
    Language::named(word).ok_or_else(|| Refused::NoLanguage(word.chars().take(80).collect()))
}

async fn health() -> &'static str {
    "OK"
}

async fn execute(State(interpreter): State<Arc<Interpreter>>, body: axum::body::Bytes) -> Result<Response, Refused> {
    let Execute { code, context_id, language: word, env_vars } = read(&body)?;
    let context = match (context_id, word) {
        (Some(_), Some(_)) => return Err(Refused::Both),
        (Some(id), None) => interpreter.find(&id)?,
        (None, word) => interpreter.make(language(word.as_deref())?, FOLDER.to_owned(), true).await?,
    };
    let lines = context.execute(code, env_vars.unwrap_or_default()).await?;
    let lines = stream::unfold(lines, |mut lines| async move { Some((Ok::<_, Infallible>(lines.recv().await?), lines)) });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

async fn list(State(interpreter): State<Arc<Interpreter>>) -> Json<Vec<Shown>> {
    let contexts = interpreter.contexts.lock().unwrap_or_else(PoisonError::into_inner);
    Json(contexts.values().map(|context| Shown::of(context)).collect())
}

async fn make(State(interpreter): State<Arc<Interpreter>>, body: axum::body::Bytes) -> Result<Json<Shown>, Refused> {
    let Make { language: word, cwd } = if body.is_empty() { Make::default() } else { read(&body)? };
    let context = interpreter.make(language(word.as_deref())?, cwd.unwrap_or_else(|| FOLDER.to_owned()), false).await?;
    Ok(Json(Shown::of(&context)))
}

async fn remove(State(interpreter): State<Arc<Interpreter>>, Path(id): Path<String>) -> Result<StatusCode, Refused> {
    interpreter.find(&id)?.remove().await;
    interpreter.contexts.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    Ok(StatusCode::NO_CONTENT)
}

async fn restart(State(interpreter): State<Arc<Interpreter>>, Path(id): Path<String>) -> Result<Json<Shown>, Refused> {
    let context = interpreter.find(&id)?;
    context.restart().await?;
    Ok(Json(Shown::of(&context)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_run_for_who_shows_the_token() {
        let shown = |token: &str| HeaderMap::from_iter([("x-access-token".parse().unwrap(), token.parse().unwrap())]);
        assert!(may_run(None, "/execute", &HeaderMap::new()));
        assert!(may_run(Some("secret"), "/execute", &shown("secret")));
        assert!(may_run(Some("secret"), "/contexts", &HeaderMap::new()));
        for headers in [HeaderMap::new(), shown(""), shown("secre"), shown("secret2")] {
            assert!(!may_run(Some("secret"), "/execute", &headers), "{headers:?}");
        }
    }
}
