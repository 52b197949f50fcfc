//! What E2B's own program in a sandbox answers on port 49983, answered here: commands, files, watches, metrics.
//!
//! One [`Envd`] for one run of a sandbox; [`router`] serves it, wherever its requests were let in: behind `49983-<id>.<domain>`, or for tests and
//! E2B's debug mode on a port of its own ([`debug`]). Who has the access token may do everything that a user of the sandbox may. It is not: in the
//! sandbox, so that nobody in there can take it over; and not where sandboxes are started, paused or found.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use skep_sandbox::{Account, Command, FaultKind, Metrics, PtySize, RequestError, Sandbox};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use super::{
    connect::{self, Code, Envelopes, Form, Problem},
    files::{self, Compose, Refusal},
    filesystem::{self, Watchers, resolve},
    messages as m,
    process::{self, Processes},
    signature::{Claim, Operation},
};

/// A message, and the body of any call but a file's.
const MOST_MESSAGE: usize = 16 << 20;
/// How long a user that was looked up stays so.
const LOOKED_UP: Duration = Duration::from_secs(1);
/// Users that are remembered.
const MOST_USERS: usize = 64;

/// What a sandbox's wire is like.
#[derive(Clone, Debug, Default)]
pub struct EnvdSettings {
    /// Who says this may do everything; without one everybody may, who is let in at all.
    pub token: Option<String>,
    /// Variables of every command.
    pub envs: BTreeMap<String, String>,
    /// Who commands run as and files belong to where nothing else is said. Empty: `user`.
    pub user: String,
    /// What an empty path means. `None`: the user's home.
    pub workdir: Option<String>,
    /// Cores that the sandbox has, for its metrics.
    pub cpu_count: u32,
    /// Memory that it may have, in bytes, for its metrics.
    pub memory_bytes: u64,
    /// Whether `/init` is answered, which changes these settings. Nobody who comes over a network may ask for that.
    pub internal: bool,
}

/// The wire of one run of a sandbox.
#[derive(Clone)]
pub struct Envd {
    inner: Arc<Inner>,
}

struct Inner {
    sandbox: Sandbox,
    processes: Processes,
    watchers: Watchers,
    settings: Mutex<Arc<EnvdSettings>>,
    users: Mutex<HashMap<String, (Account, Instant)>>,
    measured: Mutex<Measured>,
}

/// Processor time so far, and when.
struct Measured {
    at: Instant,
    cpu_micros: u64,
    percent: f64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Envd {
    /// Of a sandbox that runs.
    #[must_use]
    pub fn new(sandbox: Sandbox, settings: EnvdSettings) -> Self {
        let measured = Measured { at: Instant::now(), cpu_micros: sandbox.group().usage().cpu_micros, percent: 0.0 };
        let inner = Inner {
            processes: Processes::of(sandbox.clone()),
            watchers: Watchers::default(),
            settings: Mutex::new(Arc::new(settings)),
            users: Mutex::default(),
            measured: measured.into(),
            sandbox,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The sandbox itself.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.inner.sandbox
    }

    fn settings(&self) -> Arc<EnvdSettings> {
        Arc::clone(&lock(&self.inner.settings))
    }

    /// What the sandbox uses, in the wire's own words: what `/metrics` answers.
    ///
    /// # Errors
    /// When the sandbox is gone.
    pub async fn metrics(&self) -> Result<EnvdMetrics, RequestError> {
        let Metrics { usage, disk_bytes, disk_free_bytes } = self.inner.sandbox.metrics().await?;
        let settings = self.settings();
        let percent = lock(&self.inner.measured).next(usage.cpu_micros, settings.cpu_count);
        let used = usage.memory_bytes.saturating_sub(usage.cache_bytes);
        Ok(EnvdMetrics {
            ts: now(),
            cpu_count: settings.cpu_count,
            cpu_used_pct: percent,
            mem_total: settings.memory_bytes,
            mem_used: used,
            mem_cache: usage.cache_bytes,
            mem_total_mib: settings.memory_bytes >> 20,
            mem_used_mib: used >> 20,
            disk_used: disk_bytes - disk_free_bytes,
            disk_total: disk_bytes,
        })
    }

    /// A user by name, as the sandbox's own files have it.
    async fn account(&self, name: &str) -> Result<Account, RequestError> {
        if let Some((account, at)) = lock(&self.inner.users).get(name)
            && at.elapsed() < LOOKED_UP
        {
            return Ok(account.clone());
        }
        let account = self.inner.sandbox.account(name).await?;
        let mut users = lock(&self.inner.users);
        if users.len() >= MOST_USERS {
            users.clear();
        }
        users.insert(name.to_owned(), (account.clone(), Instant::now()));
        Ok(account)
    }
}

impl Measured {
    /// Of all cores, since it was asked last; asked again at once, it is what it was.
    fn next(&mut self, cpu_micros: u64, cores: u32) -> f64 {
        let passed = self.at.elapsed();
        if passed >= Duration::from_millis(100) {
            let used = cpu_micros.saturating_sub(self.cpu_micros) as f64;
            let percent = used / passed.as_micros() as f64 * 100.0 / f64::from(cores.max(1));
            *self = Self { at: Instant::now(), cpu_micros, percent: (percent * 100.0).round() / 100.0 };
        }
        self.percent
    }
}

/// What `/metrics` answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EnvdMetrics {
    /// When, in seconds since 1970.
    pub ts: i64,
    /// Cores.
    pub cpu_count: u32,
    /// Of all of them, since it was asked last.
    pub cpu_used_pct: f64,
    /// What it may have, in bytes.
    pub mem_total: u64,
    /// Without copies of files.
    pub mem_used: u64,
    /// Copies of files.
    pub mem_cache: u64,
    /// As above, in MiB.
    pub mem_total_mib: u64,
    /// As above, in MiB.
    pub mem_used_mib: u64,
    /// In bytes.
    pub disk_used: u64,
    /// In bytes.
    pub disk_total: u64,
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// All that is answered.
pub fn router(envd: Envd) -> Router {
    Router::new().fallback(answer).with_state(envd)
}

/// Serves one sandbox on a port, as E2B's debug mode looks for one; until it is dropped.
///
/// # Errors
/// When the port can no longer be listened on.
pub async fn debug(listener: TcpListener, envd: Envd) -> io::Result<()> {
    // Events are small and many: none waits for the other side to say that it has the one before.
    let listener = axum::serve::ListenerExt::tap_io(listener, |socket: &mut tokio::net::TcpStream| {
        let _ = socket.set_nodelay(true);
    });
    axum::serve(listener, router(envd)).await
}

async fn answer(State(envd): State<Envd>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (method, path) = (&parts.method, parts.uri.path().to_owned());
    let call = Call { envd: &envd, settings: envd.settings(), headers: &parts.headers, uri: &parts.uri };
    let open =
        matches!((method, path.as_str()), (&Method::GET, "/health") | (&Method::GET | &Method::POST, "/files") | (&Method::HEAD, "/files"));
    if !open && let Err(refusal) = call.authorized() {
        return refusal.into_response();
    }
    let done = match (method, path.as_str()) {
        (&Method::GET, "/health") => Ok(StatusCode::NO_CONTENT.into_response()),
        (&Method::GET, "/metrics") => call.metrics().await,
        (&Method::GET, "/envs") => Ok(uncached(connect::json(StatusCode::OK, &call.settings.envs))),
        (&Method::POST, "/init") if call.settings.internal => call.init(body).await,
        (&Method::GET | &Method::HEAD, "/files") => call.download().await,
        (&Method::POST, "/files") => call.upload(body).await,
        (&Method::POST, "/files/compose") => call.compose(body).await,
        (&Method::POST, rpc) if rpc.starts_with("/process.Process/") || rpc.starts_with("/filesystem.Filesystem/") => {
            return call.rpc(rpc, body).await;
        }
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "not found")),
    };
    done.unwrap_or_else(IntoResponse::into_response)
}

fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

/// One request.
struct Call<'a> {
    envd: &'a Envd,
    settings: Arc<EnvdSettings>,
    headers: &'a HeaderMap,
    uri: &'a Uri,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Init {
    env_vars: Option<BTreeMap<String, String>>,
    access_token: Option<String>,
    default_user: Option<String>,
    default_workdir: Option<String>,
}

impl Call<'_> {
    fn sandbox(&self) -> &Sandbox {
        &self.envd.inner.sandbox
    }

    fn said_token(&self) -> Option<&[u8]> {
        self.headers.get("x-access-token").map(http::HeaderValue::as_bytes).filter(|token| !token.is_empty())
    }

    fn authorized(&self) -> Result<(), Refusal> {
        let Some(token) = &self.settings.token else { return Ok(()) };
        match self.said_token() {
            Some(said) if bool::from(said.ct_eq(token.as_bytes())) => Ok(()),
            _ => {
                let why = "unauthorized access, please provide a valid access token or method signing if supported";
                Err(Refusal::new(StatusCode::UNAUTHORIZED, why))
            }
        }
    }

    /// By the token, or by a signature for this very file.
    fn allowed(&self, query: &files::Query, operation: Operation) -> Result<(), Refusal> {
        let Some(token) = &self.settings.token else { return Ok(()) };
        if self.said_token().is_some() {
            let mismatch = |_| Refusal::new(StatusCode::UNAUTHORIZED, "access token present in header but does not match");
            return self.authorized().map_err(mismatch);
        }
        let (path, user) = (query.path.as_deref().unwrap_or_default(), query.username.as_deref().unwrap_or_default());
        let claim = Claim { path, user, operation, expires: query.signature_expiration };
        let checked = claim.check(query.signature.as_deref(), token, now());
        checked.map_err(|refused| Refusal::new(StatusCode::UNAUTHORIZED, refused.to_string()))
    }

    fn default_user(&self) -> &str {
        if self.settings.user.is_empty() { "user" } else { &self.settings.user }
    }

    async fn account(&self, name: Option<&str>) -> Result<Account, Refusal> {
        let name = name.unwrap_or(self.default_user());
        self.envd.account(name).await.map_err(|error| match error {
            RequestError::Fault(fault) => {
                Refusal::new(StatusCode::UNAUTHORIZED, format!("error looking up user '{name}': {}", fault.message))
            }
            error => Refusal::new(StatusCode::BAD_GATEWAY, error.to_string()),
        })
    }

    fn query(&self) -> Result<files::Query, Refusal> {
        let query = axum::extract::Query::<files::Query>::try_from_uri(self.uri);
        query.map(|query| query.0).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.body_text()))
    }

    async fn download(&self) -> Result<Response, Refusal> {
        let query = self.query()?;
        self.allowed(&query, Operation::Read)?;
        let account = self.account(query.username.as_deref()).await?;
        let place = files::Place { sandbox: self.sandbox(), account: &account, workdir: self.settings.workdir.as_deref() };
        place.download(query.path.as_deref().unwrap_or_default(), self.headers).await
    }

    async fn upload(&self, body: Body) -> Result<Response, Refusal> {
        let query = self.query()?;
        self.allowed(&query, Operation::Write)?;
        let account = self.account(query.username.as_deref()).await?;
        let place = files::Place { sandbox: self.sandbox(), account: &account, workdir: self.settings.workdir.as_deref() };
        place.upload(query.path.as_deref(), self.headers, body).await
    }

    async fn compose(&self, body: Body) -> Result<Response, Refusal> {
        let request: Compose = self.json(body).await?;
        let account = self.account(request.username.as_deref()).await?;
        let place = files::Place { sandbox: self.sandbox(), account: &account, workdir: self.settings.workdir.as_deref() };
        place.compose(request).await
    }

    async fn json<T: DeserializeOwned>(&self, body: Body) -> Result<T, Refusal> {
        let bytes = whole(body).await.map_err(|problem| Refusal::new(problem.code.status(), problem.message))?;
        serde_json::from_slice(&bytes).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("invalid request body: {error}")))
    }

    async fn metrics(&self) -> Result<Response, Refusal> {
        let metrics = self.envd.metrics().await.map_err(|error| Refusal::new(StatusCode::BAD_GATEWAY, error.to_string()))?;
        Ok(uncached(connect::json(StatusCode::OK, &metrics)))
    }

    /// What is said replaces what was; whoever has got so far has said the token, if there is one.
    async fn init(&self, body: Body) -> Result<Response, Refusal> {
        let Init { env_vars, access_token, default_user, default_workdir } = self.json(body).await?;
        let mut settings = EnvdSettings::clone(&self.settings);
        settings.envs = env_vars.unwrap_or(settings.envs);
        settings.token = access_token.filter(|token| !token.is_empty()).or(settings.token);
        settings.user = default_user.unwrap_or(settings.user);
        settings.workdir = default_workdir.or(settings.workdir);
        *lock(&self.envd.inner.settings) = Arc::new(settings);
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    async fn rpc(&self, path: &str, body: Body) -> Response {
        let Some(form) = Form::of(self.headers) else {
            let mut response = StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
            let taken = http::HeaderValue::from_static("application/json, application/connect+json");
            response.headers_mut().insert("accept-post", taken);
            return response;
        };
        let encoded = [header::CONTENT_ENCODING.as_str(), "connect-content-encoding"];
        if encoded.iter().any(|name| self.headers.get(*name).is_some_and(|value| value != "identity")) {
            return form.refuse(Problem::new(Code::Unimplemented, "compressed messages are not taken"));
        }
        let done = match form {
            Form::Unary => self.unary(path, body).await,
            Form::Stream => self.stream(path, body).await,
        };
        done.unwrap_or_else(|problem| form.refuse(problem))
    }

    /// One message, one answer, within the time that was given.
    async fn unary(&self, path: &str, body: Body) -> Result<Response, Problem> {
        let body = whole(body).await?;
        let answered = self.answer(path, &body);
        match connect::deadline(self.headers)? {
            Some(deadline) => tokio::time::timeout(deadline, answered)
                .await
                .map_err(|_| Problem::new(Code::DeadlineExceeded, "context deadline exceeded"))?,
            None => answered.await,
        }
    }

    async fn answer(&self, path: &str, body: &[u8]) -> Result<Response, Problem> {
        let processes = &self.envd.inner.processes;
        match path {
            "/process.Process/List" => {
                let _: m::Empty = read(body)?;
                ok(&m::ListResponse { processes: processes.list().await.map_err(filesystem::problem)? })
            }
            "/process.Process/Update" => {
                let request: m::UpdateRequest = read(body)?;
                let selector = selected(request.process)?;
                if let Some(size) = request.pty.and_then(|pty| pty.size) {
                    processes.resize(&selector, pty_size(size)).await?;
                }
                none()
            }
            "/process.Process/SendInput" => {
                let request: m::SendInputRequest = read(body)?;
                self.input(&selected(request.process)?, request.input).await?;
                none()
            }
            "/process.Process/SendSignal" => {
                let request: m::SendSignalRequest = read(body)?;
                processes.signal(&selected(request.process)?, signal(&request.signal)?).await?;
                none()
            }
            "/process.Process/CloseStdin" => {
                let request: m::Selected = read(body)?;
                processes.close_input(&selected(request.process)?).await?;
                none()
            }
            "/filesystem.Filesystem/GetWatcherEvents" => {
                let request: m::WatcherRequest = read(body)?;
                ok(&m::WatcherEvents { events: self.envd.inner.watchers.events(&request.watcher_id, self.sandbox()).await? })
            }
            "/filesystem.Filesystem/RemoveWatcher" => {
                let request: m::WatcherRequest = read(body)?;
                self.envd.inner.watchers.remove(&request.watcher_id)?;
                none()
            }
            path => self.on_files(path, body).await,
        }
    }

    async fn on_files(&self, path: &str, body: &[u8]) -> Result<Response, Problem> {
        let account = self.user().await?;
        let files = filesystem::Files { sandbox: self.sandbox(), user: account.id };
        let at = |path: &str| resolve(path, &account, self.settings.workdir.as_deref());
        match path {
            "/filesystem.Filesystem/Stat" => ok(&m::OneEntry { entry: files.stat(&at(&read::<m::OnPath>(body)?.path)?).await? }),
            "/filesystem.Filesystem/MakeDir" => ok(&m::OneEntry { entry: files.make_folder(&at(&read::<m::OnPath>(body)?.path)?).await? }),
            "/filesystem.Filesystem/Remove" => {
                files.remove(&at(&read::<m::OnPath>(body)?.path)?).await?;
                none()
            }
            "/filesystem.Filesystem/Move" => {
                let request: m::MoveRequest = read(body)?;
                ok(&m::OneEntry { entry: files.rename(&at(&request.source)?, &at(&request.destination)?).await? })
            }
            "/filesystem.Filesystem/ListDir" => {
                let request: m::ListDirRequest = read(body)?;
                ok(&m::ListDirResponse { entries: files.list(&at(&request.path)?, request.depth).await? })
            }
            "/filesystem.Filesystem/CreateWatcher" => {
                let request: m::WatchRequest = read(body)?;
                let changes = files.watch(&at(&request.path)?, &request).await?;
                let watcher_id = name_nobody_guesses()?;
                self.envd.inner.watchers.keep(watcher_id.clone(), changes)?;
                ok(&m::CreateWatcherResponse { watcher_id })
            }
            _ => Err(Problem::new(Code::Unimplemented, format!("{path} is no call"))),
        }
    }

    /// Answers that are streams; of one call, the request is.
    async fn stream(&self, path: &str, body: Body) -> Result<Response, Problem> {
        let (ping, deadline) = (connect::ping(self.headers), connect::deadline(self.headers)?);
        if path == "/process.Process/StreamInput" {
            return self.stream_input(body).await;
        }
        let mut envelopes = Envelopes::new(MOST_MESSAGE);
        envelopes.push(&whole(body).await?);
        let message = envelopes.next()?.filter(|_| envelopes.is_empty());
        let message = message.ok_or_else(|| Problem::new(Code::InvalidArgument, "a request is one message"))?;
        let body = match path {
            "/process.Process/Start" => Body::from_stream(self.start(read(&message)?, deadline).await?.stream(ping, deadline)),
            "/process.Process/Connect" => {
                let request: m::Selected = read(&message)?;
                Body::from_stream(self.envd.inner.processes.connect(&selected(request.process)?).await?.stream(ping, deadline))
            }
            "/filesystem.Filesystem/WatchDir" => {
                let request: m::WatchRequest = read(&message)?;
                let account = self.user().await?;
                let path = resolve(&request.path, &account, self.settings.workdir.as_deref())?;
                let files = filesystem::Files { sandbox: self.sandbox(), user: account.id };
                Body::from_stream(filesystem::stream(files.watch(&path, &request).await?, ping, deadline))
            }
            _ => return Err(Problem::new(Code::Unimplemented, format!("{path} is no stream"))),
        };
        Ok(connect::stream(body))
    }

    async fn start(&self, request: m::StartRequest, deadline: Option<Duration>) -> Result<process::Listener, Problem> {
        let config = request.process.unwrap_or_default();
        let account = self.user().await?;
        let cwd = resolve(config.cwd.as_deref().unwrap_or_default(), &account, self.settings.workdir.as_deref())?;
        let mut env = self.settings.envs.clone();
        env.extend(config.envs);
        let argv = std::iter::once(config.cmd).chain(config.args).collect();
        let terminal = request.pty.map(|pty| pty_size(pty.size.unwrap_or_default()));
        let (stdio, tag) = (process::stdio(request.stdin), request.tag);
        let command = Command { argv, env, cwd: Some(cwd.clone()), user: account.id, terminal, stdio, tag };
        match self.envd.inner.processes.start(process::Start { command, deadline }).await {
            Ok(listener) => Ok(listener),
            Err(RequestError::Fault(fault)) if fault.kind == FaultKind::NotFound && !self.exists(&cwd, account.id).await => {
                Err(Problem::new(Code::InvalidArgument, format!("cwd '{cwd}' does not exist")))
            }
            Err(RequestError::Fault(fault)) if fault.kind != FaultKind::Full => {
                Err(Problem::new(Code::InvalidArgument, format!("error starting process: {}", fault.message)))
            }
            Err(error) => Err(filesystem::problem(error)),
        }
    }

    async fn exists(&self, path: &str, user: u32) -> bool {
        self.sandbox().stat(path, user).await.is_ok()
    }

    async fn stream_input(&self, body: Body) -> Result<Response, Problem> {
        let mut envelopes = Envelopes::new(MOST_MESSAGE);
        let mut body = body.into_data_stream();
        let mut process = None;
        while let Some(bytes) = futures_util::StreamExt::next(&mut body).await {
            envelopes.push(&bytes.map_err(|error| Problem::new(Code::Unknown, format!("error streaming input: {error}")))?);
            while let Some(message) = envelopes.next()? {
                let request: m::StreamInputRequest = read(&message)?;
                if let Some(start) = request.start {
                    process = Some(selected(start.process)?);
                }
                if let Some(data) = request.data {
                    let first = || Problem::new(Code::InvalidArgument, "the first message says which process");
                    self.input(process.as_ref().ok_or_else(first)?, data.input).await?;
                }
            }
        }
        let answer = [connect::message(&serde_json::json!({})), connect::end(None)].concat();
        Ok(connect::stream(Body::from(answer)))
    }

    async fn input(&self, selector: &m::Selector, input: Option<m::ProcessInput>) -> Result<(), Problem> {
        let processes = &self.envd.inner.processes;
        match input.unwrap_or_default() {
            m::ProcessInput { stdin: Some(bytes), .. } => processes.input(selector, &bytes).await,
            m::ProcessInput { pty: Some(bytes), .. } => processes.typed(selector, &bytes).await,
            m::ProcessInput { stdin: None, pty: None } => Err(Problem::new(Code::InvalidArgument, "an input is stdin or pty")),
        }
    }

    /// Who asks: `Authorization: Basic` with a name and no password; the name is a choice and not a proof.
    async fn user(&self) -> Result<Account, Problem> {
        let said = self.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
        let invalid = |name: &str| Problem::new(Code::Unauthenticated, format!("invalid username: '{name}'"));
        let name = match said {
            None => self.default_user().to_owned(),
            Some(encoded) => {
                let text =
                    base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok().and_then(|text| String::from_utf8(text).ok());
                let text = text.ok_or_else(|| invalid("?"))?;
                text.split_once(':').map_or(text.clone(), |(name, _)| name.to_owned())
            }
        };
        self.envd.account(&name).await.map_err(|error| match error {
            RequestError::Fault(_) => invalid(&name),
            error => filesystem::problem(error),
        })
    }
}

async fn whole(body: Body) -> Result<Bytes, Problem> {
    let collected = Limited::new(body, MOST_MESSAGE).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => Problem::new(Code::ResourceExhausted, format!("at most {MOST_MESSAGE} bytes are taken")),
        None => Problem::new(Code::Canceled, format!("the request was cut off: {error}")),
    })
}

/// No bytes are a message of zeros.
fn read<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    // A list would be taken for the fields of a message in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::new(Code::InvalidArgument, "unmarshal message: a message is an object"));
    }
    serde_json::from_slice(body).map_err(|error| Problem::new(Code::InvalidArgument, format!("unmarshal message: {error}")))
}

fn ok<T: Serialize>(value: &T) -> Result<Response, Problem> {
    Ok(connect::json(StatusCode::OK, value))
}

fn none() -> Result<Response, Problem> {
    ok(&serde_json::json!({}))
}

fn name_nobody_guesses() -> Result<String, Problem> {
    let mut bytes = [0; 15];
    getrandom::fill(&mut bytes).map_err(|_| Problem::new(Code::Internal, "the system gives no random bytes"))?;
    Ok(format!("w{}", skep_id::base32(&bytes)))
}

fn selected(selector: Option<m::Selector>) -> Result<m::Selector, Problem> {
    selector.ok_or_else(|| Problem::new(Code::InvalidArgument, "a process is selected by pid or tag"))
}

fn pty_size(size: m::Size) -> PtySize {
    let bounded = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    PtySize { columns: bounded(size.cols), rows: bounded(size.rows) }
}

fn signal(signal: &m::Enumeration) -> Result<i32, Problem> {
    match signal {
        m::Enumeration::Name(name) if name == "SIGNAL_SIGKILL" => Ok(9),
        m::Enumeration::Name(name) if name == "SIGNAL_SIGTERM" => Ok(15),
        m::Enumeration::Number(number @ (9 | 15)) => Ok(if *number == 9 { 9 } else { 15 }),
        other => Err(Problem::new(Code::Unimplemented, format!("invalid signal: {other:?}"))),
    }
}
