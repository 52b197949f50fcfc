//! Deployed workers: which version answers to a name, and the way of a request to one of its isolates.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Instant,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use skep_bundle::{Compiler, Kind, Language};
use skep_gateway::{Outbound, Placeholders, Vault};
use skep_id::{RequestId, WorkerName};
use skep_isolate::{
    Binding as Bound, CallError, Code as IsolateCode, Exception, Limits, Meter, Module, ModuleKind, Observer, Outcome, Report, Request,
    Response, RpcMessage, Target, Transform, Worker,
};

use crate::{
    Binding, Code, Config, DeployError, Entrypoint, Guest, NamespaceName, Runtime, Secrets, Served, VersionRow, actors,
    metrics::Metrics,
    pool::{Lease, Pick, Pool, Slots},
    store::{Store, StoreError},
    tail::{Event, Tail, TailObserver, Tails},
};

/// Why a request did not reach a worker's code, or did not come back from it.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// No worker of that name.
    #[error("there is no worker {0}")]
    NoWorker(WorkerName),
    /// Every isolate is in use and no more may be started.
    #[error("the node is at its limit of isolates or requests")]
    Full,
    /// The worker's code could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The worker failed.
    #[error("the worker failed: {}", .0.outcome)]
    Failed(Box<Report>),
}

impl DispatchError {
    fn report(&self) -> Report {
        let outcome = match self {
            Self::Failed(report) => return (**report).clone(),
            Self::Full => Outcome::Cancelled(self.to_string()),
            Self::NoWorker(_) | Self::Store(_) => Outcome::Internal(self.to_string()),
        };
        Report { outcome, meter: Meter::default() }
    }
}

/// The version that answers to a name.
struct Live {
    row: VersionRow,
    /// Read at the first request, not at the start of the node.
    worker: tokio::sync::OnceCell<Arc<Worker>>,
    slots: Arc<Slots>,
    tail: Arc<Tail>,
}

/// What [`Workers`] are made of.
pub(crate) struct Parts {
    pub config: Arc<Config>,
    pub store: Arc<Store>,
    pub runtime: Arc<dyn Runtime>,
    pub compiler: Compiler,
    pub metrics: Arc<Metrics>,
    /// Where `fetch()` goes; `None` refuses it.
    pub outbound: Option<Outbound>,
    pub secrets: Arc<Secrets>,
    /// The way to actors; set once those are open, before anything is bound.
    pub actors: Arc<OnceLock<Arc<actors::Inner>>>,
    /// Sandboxes that workers have by name.
    #[cfg(target_os = "linux")]
    pub rooms: Arc<crate::sandboxes::binding::Rooms>,
}

/// All deployed workers of a node.
pub(crate) struct Workers {
    parts: Parts,
    live: RwLock<HashMap<WorkerName, Arc<Live>>>,
    pool: Pool,
    pub tails: Tails,
    /// For service bindings, which outlive no node.
    own: Weak<Workers>,
}

impl Workers {
    pub fn open(parts: Parts) -> Result<Arc<Self>, StoreError> {
        let rows = parts.store.active()?;
        let workers = Arc::new_cyclic(|own| Self {
            parts,
            live: RwLock::default(),
            pool: Pool::default(),
            tails: Tails::default(),
            own: Weak::clone(own),
        });
        for row in rows {
            workers.switch(row, None);
        }
        Ok(workers)
    }

    /// Sandboxes that workers have by name.
    #[cfg(target_os = "linux")]
    pub fn rooms(&self) -> &crate::sandboxes::binding::Rooms {
        &self.parts.rooms
    }

    /// Isolates alive.
    pub fn alive(&self) -> usize {
        self.pool.alive()
    }

    pub fn has(&self, name: &WorkerName) -> bool {
        self.live.read().contains_key(name)
    }

    pub fn count(&self) -> usize {
        self.live.read().len()
    }

    /// Starts an isolate with new code, to see whether it comes to life and has the classes that its own bindings name. It is then used for the
    /// first request.
    pub async fn rehearse(&self, name: &WorkerName, code: &Code) -> Result<Rehearsed, DeployError> {
        let worker = Arc::new(self.worker(name, code));
        let guest = self.parts.runtime.start(Arc::clone(&worker));
        guest.loaded().await.map_err(DeployError::Startup)?;
        let mut wanted = code.own_classes(name).peekable();
        if wanted.peek().is_some() {
            let exports = guest.exports().await.map_err(DeployError::Startup)?;
            let missing = wanted.find(|(_, class)| !exports.iter().any(|export| export.class && export.name == *class));
            if let Some((binding, class)) = missing {
                return Err(DeployError::NoClass { binding: binding.to_owned(), class: class.to_owned(), exports });
            }
        }
        Ok(Rehearsed { worker, guest })
    }

    /// From now on, `row` answers. Requests that the former version has begun are served to their end by it.
    pub fn switch(&self, row: VersionRow, rehearsed: Option<Rehearsed>) {
        let slots = Arc::new(Slots::default());
        let worker = tokio::sync::OnceCell::new_with(rehearsed.as_ref().map(|rehearsed| Arc::clone(&rehearsed.worker)));
        if let Some(rehearsed) = rehearsed
            && self.pool.make_room(self.parts.config.pool.isolates_max)
        {
            drop(self.pool.admit(&slots, rehearsed.guest));
        }
        let tail = self.tails.of(&row.worker);
        let name = row.worker.clone();
        self.live.write().insert(name, Arc::new(Live { row, worker, slots, tail }));
    }

    pub fn remove(&self, name: &WorkerName) {
        self.live.write().remove(name);
        self.tails.forget(name);
    }

    /// Serves an HTTP request. The end of it is counted and told to the worker's tail.
    pub async fn fetch(
        &self,
        name: &WorkerName,
        id: RequestId,
        entrypoint: Entrypoint,
        mut request: Request,
    ) -> Result<Response, DispatchError> {
        let live = self.find(name)?;
        if live.tail.heard() {
            request.chain = request.chain.labelled(id.as_str());
        }
        let mut trigger = Trigger {
            tail: Arc::clone(&live.tail),
            metrics: Arc::clone(&self.parts.metrics),
            heard: live.tail.heard().then(|| (live.row.version, request.method.clone(), request.url.clone())),
            id,
            arrived: Instant::now(),
            ended: false,
        };
        let answer = self.fetch_on(&live, entrypoint, request).await;
        match answer {
            Ok((served, lease)) => Ok(trigger.follow(served, lease)),
            Err(error) => {
                trigger.end(None, error.report());
                Err(error)
            }
        }
    }

    async fn fetch_on(&self, live: &Arc<Live>, entrypoint: Entrypoint, request: Request) -> Result<(Served, Lease), DispatchError> {
        let lease = self.lease(live).await?;
        let served = lease.guest().fetch(entrypoint, request).await;
        served.map(|served| (served, lease)).map_err(|report| DispatchError::Failed(Box::new(report)))
    }

    async fn rpc(&self, name: &WorkerName, entrypoint: Entrypoint, message: RpcMessage) -> Result<RpcMessage, DispatchError> {
        let live = self.find(name)?;
        let lease = self.lease(&live).await?;
        lease.guest().rpc(entrypoint, message).await.map_err(|report| DispatchError::Failed(Box::new(report)))
    }

    fn find(&self, name: &WorkerName) -> Result<Arc<Live>, DispatchError> {
        self.live.read().get(name).cloned().ok_or_else(|| DispatchError::NoWorker(name.clone()))
    }

    /// An isolate for one request: a warm one, or a new one.
    async fn lease(&self, live: &Arc<Live>) -> Result<Lease, DispatchError> {
        let config = &self.parts.config.pool;
        match live.slots.pick(config) {
            Pick::Use(lease) => return Ok(lease),
            Pick::Full => return Err(DispatchError::Full),
            Pick::Start(Some(lease)) => {
                // The others are busy but not full: this request does not wait for the new one, the next ones profit.
                if let (true, Some(own)) = (live.slots.starting.try_lock().is_ok(), self.own.upgrade()) {
                    let live = Arc::clone(live);
                    tokio::spawn(async move {
                        if let Ok(_turn) = live.slots.starting.try_lock() {
                            // When there is no room, the busy ones go on alone.
                            let _ = own.start_one(&live).await;
                        }
                    });
                }
                return Ok(lease);
            }
            Pick::Start(None) => {}
        }
        let _turn = live.slots.starting.lock().await;
        match live.slots.pick(config) {
            Pick::Use(lease) | Pick::Start(Some(lease)) => Ok(lease),
            Pick::Start(None) => self.start_one(live).await,
            Pick::Full => Err(DispatchError::Full),
        }
    }

    async fn start_one(&self, live: &Arc<Live>) -> Result<Lease, DispatchError> {
        let worker = live.worker.get_or_try_init(|| self.read(&live.row)).await?;
        if !self.pool.make_room(self.parts.config.pool.isolates_max) {
            return Err(DispatchError::Full);
        }
        Ok(self.pool.admit(&live.slots, self.parts.runtime.start(Arc::clone(worker))))
    }

    /// The code of a worker's active version, as its isolates take it.
    pub async fn code_of(&self, name: &WorkerName) -> Result<Arc<Worker>, DispatchError> {
        let live = self.find(name)?;
        live.worker.get_or_try_init(|| self.read(&live.row)).await.map(Arc::clone)
    }

    /// Hash over everything that the active version of a worker consists of.
    pub fn version_hash(&self, name: &WorkerName) -> Option<String> {
        self.live.read().get(name).map(|live| live.row.hash.clone())
    }

    async fn read(&self, row: &VersionRow) -> Result<Arc<Worker>, DispatchError> {
        let (store, of) = (Arc::clone(&self.parts.store), row.clone());
        let code = tokio::task::spawn_blocking(move || store.code(&of)).await;
        let code = code.map_err(|_| StoreError::Damaged(row.worker.to_string(), "reading its code failed"))??;
        Ok(Arc::new(self.worker(&row.worker, &code)))
    }

    /// Code and settings as an isolate takes them.
    fn worker(&self, name: &WorkerName, code: &Code) -> Worker {
        let observer = Arc::new(TailObserver { tail: self.tails.of(name) });
        self.isolate_worker(code, observer, Some(name))
    }

    /// The same for code that is perhaps not deployed: without a name, it has no classes of its own.
    pub fn isolate_worker(&self, code: &Code, observer: Arc<dyn Observer>, name: Option<&WorkerName>) -> Worker {
        let limits = self.parts.config.limits.lowered(&code.limits);
        let mut placeholders = Placeholders::of(Arc::clone(&self.parts.secrets) as Arc<dyn Vault>);
        let fingerprint = name.map(|_| code.fingerprint());
        let mut bound = |(key, binding): (&String, &Binding)| {
            let stand_in = || self.parts.secrets.stand_in(name.zip(fingerprint.as_ref()), key);
            Some((key.clone(), self.bind(binding, limits, name, &mut placeholders, stand_in)?))
        };
        let mut bindings: Vec<(String, Bound)> = code.bindings.iter().filter_map(&mut bound).collect();
        bindings.extend(name.and_then(|name| self.exports(name, code)).map(|exports| (String::new(), exports)));
        let placeholders = (!placeholders.is_empty()).then(|| Arc::new(placeholders));
        let observer = match &placeholders {
            Some(placeholders) => Arc::new(Hiding { next: observer, placeholders: Arc::clone(placeholders) }),
            None => observer,
        };
        let outbound = self.parts.outbound.as_ref().filter(|_| code.network).map(|outbound| match placeholders {
            Some(placeholders) => Arc::new(outbound.with(placeholders)) as Arc<dyn Target>,
            None => Arc::new(outbound.clone()),
        });
        Worker {
            code: Arc::new(isolate_code(code)),
            bindings,
            limits,
            outbound,
            observer,
            tails: skep_isolate::Tails::default(),
            evictable: true,
            options: options(code),
        }
    }

    /// What `ctx.exports` leads out of the isolate: the classes of this worker that bindings name, and, for its actors, the worker itself.
    fn exports(&self, name: &WorkerName, code: &Code) -> Option<Bound> {
        let actors = self.parts.actors.get()?;
        let classes: BTreeSet<NamespaceName> = code.namespaces(name).into_iter().filter(|namespace| namespace.worker == *name).collect();
        if classes.is_empty() {
            return None;
        }
        let own =
            Bound::Service(Arc::new(Service { workers: Weak::clone(&self.own), worker: name.clone(), entrypoint: Entrypoint::default() }));
        let classes = classes.into_iter().map(|namespace| (namespace.class.clone(), Bound::Namespace(actors.class(&namespace))));
        Some(Bound::Exports(classes.chain([("default".to_owned(), own)]).collect()))
    }

    fn bind(
        &self,
        binding: &Binding,
        limits: Limits,
        name: Option<&WorkerName>,
        placeholders: &mut Placeholders,
        stand_in: impl FnOnce() -> Option<[u8; 20]>,
    ) -> Option<Bound> {
        Some(match binding {
            Binding::Text { value } => Bound::Text(value.clone()),
            Binding::Json { value } => Bound::Json(value.to_string()),
            // Without randomness there is no placeholder that nobody can guess, so there is none.
            Binding::Secret { name } => Bound::Secret(placeholders.add(name, stand_in()?)),
            Binding::Data { bytes } => Bound::Data(Bytes::copy_from_slice(bytes)),
            Binding::Service { worker, entrypoint, props } => Bound::Service(Arc::new(Service {
                workers: Weak::clone(&self.own),
                worker: worker.clone(),
                entrypoint: Entrypoint { name: entrypoint.clone(), props: props.as_ref().map(|props| props.to_string().into()) },
            })),
            Binding::Actors { class_name, worker } => {
                let worker = worker.as_ref().or(name)?.clone();
                Bound::Namespace(self.parts.actors.get()?.class(&NamespaceName { worker, class: class_name.clone() }))
            }
            #[cfg(target_os = "linux")]
            Binding::Sandboxes { strict, sleep_after_s } => {
                let wishes = crate::sandboxes::binding::SandboxWishes { strict: *strict, sleep_after_s: *sleep_after_s };
                Bound::Sandboxes(self.parts.rooms.binding(name?, wishes))
            }
            #[cfg(not(target_os = "linux"))]
            Binding::Sandboxes { .. } => return None,
            // One for all isolates of a version, and a new one for the next: what was loaded on behalf of old code is not
            // found by new code.
            Binding::Loader => {
                let transform = Arc::new(Strip(self.parts.compiler.clone()));
                Bound::Loader(self.parts.runtime.loader(limits, transform)?)
            }
        })
    }
}

/// Code that came to life, with the isolate in which it did.
pub(crate) struct Rehearsed {
    worker: Arc<Worker>,
    guest: Arc<dyn Guest>,
}

/// Passes on what an isolate says, with placeholders in place of secrets that came back to it.
struct Hiding {
    next: Arc<dyn Observer>,
    placeholders: Arc<Placeholders>,
}

impl Observer for Hiding {
    fn log(&self, call: Option<&str>, level: &str, text: &str) {
        self.next.log(call, level, &self.placeholders.hide(text));
    }

    fn exception(&self, call: Option<&str>, exception: &Exception) {
        let hide = |text: &String| self.placeholders.hide(text).into_owned();
        let Exception { name, message, stack } = exception;
        self.next.exception(call, &Exception { name: hide(name), message: hide(message), stack: hide(stack) });
    }

    fn finished(&self, event: &str, report: &Report) {
        self.next.finished(event, report);
    }
}

/// What a request was, for its last event. Dropped before its end, it was cancelled by its client.
struct Trigger {
    tail: Arc<Tail>,
    metrics: Arc<Metrics>,
    /// Kept only when somebody listened as the request came.
    heard: Option<(skep_id::VersionId, String, String)>,
    id: RequestId,
    arrived: Instant,
    ended: bool,
}

impl Trigger {
    /// Hands the response on; the isolate stays in use until everything of the request has ended.
    fn follow(mut self, served: Served, lease: Lease) -> Response {
        let Served { response, report } = served;
        let status = response.status;
        tokio::spawn(async move {
            let report = report.await;
            drop(lease);
            self.end(Some(status), report);
        });
        response
    }

    fn end(&mut self, status: Option<u16>, report: Report) {
        self.ended = true;
        self.metrics.ended(&report, self.arrived.elapsed());
        if let Some((version, method, url)) = self.heard.take() {
            let at = crate::now_ms();
            self.tail.send(Event::Ended { request: self.id, version, method, url, status, report, at });
        }
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        if !self.ended {
            let outcome = Outcome::Cancelled("the client left before the response began".to_owned());
            self.end(None, Report { outcome, meter: Meter::default() });
        }
    }
}

/// A service binding: another worker, looked up at each call, so that a deploy is seen at once. A ring of workers that call one
/// another is ended by the chain that every call carries.
struct Service {
    workers: Weak<Workers>,
    worker: WorkerName,
    entrypoint: Entrypoint,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({})", self.worker)
    }
}

impl Target for Service {
    fn fetch(&self, request: Request) -> BoxFuture<'static, Result<Response, CallError>> {
        let (workers, worker, entrypoint) = (self.workers.upgrade(), self.worker.clone(), self.entrypoint.clone());
        Box::pin(async move {
            let workers = workers.ok_or_else(stopping)?;
            let id = workers.parts.metrics.ids.next();
            workers.fetch(&worker, id, entrypoint, request).await.map_err(call_error)
        })
    }

    fn rpc(&self, message: RpcMessage) -> BoxFuture<'static, Result<RpcMessage, CallError>> {
        let (workers, worker, entrypoint) = (self.workers.upgrade(), self.worker.clone(), self.entrypoint.clone());
        Box::pin(async move {
            let workers = workers.ok_or_else(stopping)?;
            workers.rpc(&worker, entrypoint, message).await.map_err(call_error)
        })
    }
}

/// TypeScript in modules that a worker hands to its loader.
struct Strip(Compiler);

impl Transform for Strip {
    fn transform(&self, name: String, kind: &'static str, source: String) -> BoxFuture<'static, Result<Module, String>> {
        let compiler = self.0.clone();
        Box::pin(async move {
            let language = match kind {
                "tsx" => Language::Tsx,
                "jsx" => Language::Jsx,
                _ => Language::Ts,
            };
            let stripped = compiler.strip(&name, &source, language).await.map_err(|error| error.to_string())?;
            Ok(Module { kind: ModuleKind::JavaScript, content: stripped.code.into(), source_map: Some(stripped.source_map.into()) })
        })
    }
}

fn stopping() -> CallError {
    CallError::Refused("the node is stopping".to_owned())
}

fn call_error(error: DispatchError) -> CallError {
    match error {
        DispatchError::Failed(report) => CallError::Ended(report.outcome),
        other => CallError::Refused(other.to_string()),
    }
}

fn isolate_code(code: &Code) -> IsolateCode {
    let modules = code.modules.modules.iter().map(|(name, module)| {
        let kind = match module.kind {
            Kind::Esm => ModuleKind::JavaScript,
            Kind::Cjs => ModuleKind::CommonJs,
            Kind::Text => ModuleKind::Text,
            Kind::Data => ModuleKind::Data,
            Kind::Json => ModuleKind::Json,
            Kind::Wasm => ModuleKind::Wasm,
        };
        let source_map = module.source_map.as_ref().map(|map| Bytes::copy_from_slice(map.as_bytes()));
        (name.clone(), Module { kind, content: Bytes::copy_from_slice(&module.bytes), source_map })
    });
    IsolateCode { main: code.modules.main.clone(), modules: modules.collect() }
}

fn options(code: &Code) -> skep_isolate::wire::WireOut {
    use skep_isolate::wire::Wire;
    let mut options = Vec::new();
    if let Some(date) = &code.compatibility_date {
        options.push(("compatibilityDate".into(), Wire::Str(date.clone().into())));
    }
    if !code.compatibility_flags.is_empty() {
        let flags = code.compatibility_flags.iter().map(|flag| Wire::Str(flag.clone().into())).collect();
        options.push(("compatibilityFlags".into(), Wire::Array(flags)));
    }
    Wire::Object(options)
}
