//! The Worker Loader: workers that other workers bring as code, started on first call and kept while they are used.
//!
//! A [`Loader`] is one cache of named workers under one policy; bindings that share it share its workers. Its memory is
//! bounded: the named worker that was used longest ago is let go first, and starts afresh when it is asked for again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::chain::Chain;
use crate::durable::ActorClass;
use crate::held::{Charge, Held};
use crate::image::Image;
use crate::isolate::{Entry, Isolate};
use crate::limits::Limits;
use crate::outcome::{Exception, Outcome};
use crate::target::{BoxFuture, CallError, Request, Response, RpcMessage, Target};
use crate::worker::{Module, Worker};

/// Turns TypeScript and JSX into JavaScript. Supplied by the node, which does it in a limited child process: a parser
/// that recurses is not fed with hostile code in the process that holds everything.
pub trait Transform: Send + Sync {
    /// The module as JavaScript with its source map; the error is for the author of the code.
    fn transform(&self, name: String, kind: &'static str, source: String) -> BoxFuture<Result<Module, String>>;
}

/// For a loader without a transformer: refuses everything but JavaScript.
#[derive(Debug)]
pub struct JavaScriptOnly;

impl Transform for JavaScriptOnly {
    fn transform(&self, name: String, kind: &'static str, _source: String) -> BoxFuture<Result<Module, String>> {
        Box::pin(async move { Err(format!("module \"{name}\" is of kind {kind}, and nothing here turns that into JavaScript")) })
    }
}

/// Code of all workers that one loader holds, in bytes: named ones beyond it are let go, further ones refused.
const CODE_BYTES_MAX: usize = 256 << 20;

/// A module that must be transformed before its worker can start.
pub(crate) struct Untransformed {
    pub(crate) name: String,
    /// `ts`, `tsx` or `jsx`.
    pub(crate) kind: &'static str,
    pub(crate) source: String,
    pub(crate) charge: Charge,
}

#[derive(Debug, Default)]
struct Cache {
    named: HashMap<String, (Arc<Loaded>, u64)>,
}

impl Cache {
    /// A linear search: it happens once per start beyond the bound, next to which it is nothing.
    fn forget_oldest(&mut self) -> bool {
        let oldest = self.named.iter().min_by_key(|(_, (_, used))| *used).map(|(name, _)| name.clone());
        oldest.and_then(|name| self.named.remove(&name)).is_some()
    }
}

/// One cache of loaded workers and the policy for them.
pub struct Loader {
    image: Image,
    policy: Limits,
    named_max: usize,
    transform: Arc<dyn Transform>,
    cache: Mutex<Cache>,
    clock: AtomicU64,
    /// Code, `env` and the like of the workers that are still referred to.
    held: Held,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("named", &self.cache.lock().named.len()).finish_non_exhaustive()
    }
}

impl Loader {
    /// A loader whose workers get at most `policy`, and which remembers at most `named_max` named ones.
    pub fn new(image: &Image, policy: Limits, named_max: usize, transform: Arc<dyn Transform>) -> Arc<Self> {
        let cache = Mutex::new(Cache::default());
        Arc::new(Self { image: image.clone(), policy, named_max, transform, cache, clock: AtomicU64::new(0), held: Held::default() })
    }

    pub(crate) fn policy(&self) -> Limits {
        self.policy
    }

    /// The account for code.
    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    /// Whether `n` more bytes of code may be held; named workers that were not used for long are let go for it.
    pub(crate) fn room(&self, n: usize) -> bool {
        let mut cache = self.cache.lock();
        while self.held.now().saturating_add(n) > CODE_BYTES_MAX {
            if !cache.forget_oldest() {
                return false;
            }
        }
        true
    }

    /// Named workers remembered now.
    pub fn named(&self) -> usize {
        self.cache.lock().named.len()
    }

    /// The worker of that name, and whether its code is still wanted.
    pub(crate) fn get(self: &Arc<Self>, name: Option<&str>) -> (Arc<Loaded>, bool) {
        let Some(name) = name else { return (Loaded::new(self), true) };
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut cache = self.cache.lock();
        if let Some((loaded, used)) = cache.named.get_mut(name)
            && !loaded.has_failed()
        {
            *used = now;
            return (loaded.clone(), false);
        }
        if cache.named.len() >= self.named_max {
            cache.forget_oldest();
        }
        let loaded = Loaded::new(self);
        cache.named.insert(name.to_owned(), (loaded.clone(), now));
        (loaded, true)
    }
}

#[derive(Clone)]
enum Code {
    /// The callback has not brought it yet.
    Wanted,
    Ready(Arc<Worker>),
    Failed(Outcome),
}

/// A loaded worker: usable at once, its calls wait for its code.
pub(crate) struct Loaded {
    loader: Arc<Loader>,
    code: watch::Sender<Code>,
    isolate: Mutex<Option<Isolate>>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("failed", &self.has_failed()).finish_non_exhaustive()
    }
}

impl Loaded {
    fn new(loader: &Arc<Loader>) -> Arc<Self> {
        Arc::new(Self { loader: loader.clone(), code: watch::Sender::new(Code::Wanted), isolate: Mutex::new(None) })
    }

    pub(crate) fn loader(&self) -> &Arc<Loader> {
        &self.loader
    }

    fn has_failed(&self) -> bool {
        matches!(*self.code.borrow(), Code::Failed(_))
    }

    /// There will be no code: the callback threw, or what it brought is none. Calls end like this.
    pub(crate) fn fail(&self, outcome: Outcome) {
        self.code.send_replace(Code::Failed(outcome));
    }

    /// Takes the code, or hears that there will be none, when [`Coming::arrive`] says so: before that nobody who has the worker notices.
    pub(crate) fn coming(self: &Arc<Self>, what: Result<(Worker, Vec<Untransformed>), Outcome>) -> Coming {
        Coming { loaded: self.clone(), what: Some(what) }
    }

    /// Takes the code; calls go ahead once its modules are transformed.
    pub(crate) fn provide(self: &Arc<Self>, mut worker: Worker, untransformed: Vec<Untransformed>) {
        if untransformed.is_empty() {
            self.code.send_replace(Code::Ready(Arc::new(worker)));
            return;
        }
        let loaded = self.clone();
        tokio::spawn(async move {
            let mut code = (*worker.code).clone();
            for Untransformed { name, kind, source, charge } in untransformed {
                match loaded.loader.transform.transform(name.clone(), kind, source).await {
                    Ok(module) => {
                        let (content, source_map) = (loaded.loader.held.bytes(module.content), module.source_map);
                        let source_map = source_map.map(|map| loaded.loader.held.bytes(map));
                        code.modules.insert(name, Module { content, source_map, ..module });
                    }
                    Err(message) => {
                        let exception = Exception { name: "Error".into(), message, stack: String::new() };
                        return loaded.fail(Outcome::Startup(exception));
                    }
                }
                drop(charge);
            }
            worker.code = Arc::new(code);
            loaded.code.send_replace(Code::Ready(Arc::new(worker)));
        });
    }

    /// Its worker, once its code is there and transformed.
    pub(crate) async fn worker(&self) -> Result<Arc<Worker>, CallError> {
        let mut code = self.code.subscribe();
        let gone = |_| CallError::Refused("the worker's code was never provided".into());
        let code = code.wait_for(|c| !matches!(c, Code::Wanted)).await.map_err(gone)?.clone();
        match code {
            Code::Ready(worker) => Ok(worker),
            Code::Failed(outcome) => Err(CallError::Ended(outcome)),
            Code::Wanted => Err(CallError::Refused("the worker's code was never provided".into())),
        }
    }

    async fn isolate(&self) -> Result<Isolate, CallError> {
        let worker = self.worker().await?;
        let mut isolate = self.isolate.lock();
        match isolate.as_ref().filter(|i| !i.has_ended()) {
            Some(isolate) => Ok(isolate.clone()),
            None => Ok(isolate.insert(Isolate::start(&self.loader.image, worker)).clone()),
        }
    }

    /// A class of it, for `actor.facet`: a target that is not called.
    pub(crate) fn class(self: &Arc<Self>, class: String, props: Bytes, targets: Vec<Arc<dyn Target>>) -> Arc<dyn Target> {
        Arc::new(LoadedClass(ActorClass { class, props, targets, loaded: Some(self.clone()) }))
    }

    /// A target for one of its entrypoints.
    pub(crate) fn entrypoint(self: &Arc<Self>, entry: Entry) -> Arc<dyn Target> {
        Arc::new(LoadedEntrypoint { loaded: self.clone(), entry })
    }
}

/// Code of a loaded worker that waits until what its actor wrote before is durable. Given up, the worker never comes, and is asked for anew.
pub(crate) struct Coming {
    loaded: Arc<Loaded>,
    what: Option<Result<(Worker, Vec<Untransformed>), Outcome>>,
}

impl Coming {
    pub(crate) fn arrive(mut self) {
        match self.what.take() {
            Some(Ok((worker, untransformed))) => self.loaded.provide(worker, untransformed),
            Some(Err(outcome)) => self.loaded.fail(outcome),
            None => {}
        }
    }
}

impl std::fmt::Debug for Coming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Coming({:?})", self.loaded)
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if self.what.is_some() {
            self.loaded.fail(Outcome::Cancelled("the actor that loads it was reset".into()));
        }
    }
}

#[derive(Debug)]
struct LoadedEntrypoint {
    loaded: Arc<Loaded>,
    entry: Entry,
}

impl Target for LoadedEntrypoint {
    fn fetch(&self, request: Request) -> BoxFuture<Result<Response, CallError>> {
        let (loaded, entry) = (self.loaded.clone(), self.entry.clone());
        Box::pin(async move { loaded.isolate().await?.fetch(entry, request).await.map_err(CallError::Ended) })
    }

    fn gone(&self) -> Option<BoxFuture<()>> {
        self.loaded.isolate.lock().as_ref().map(Isolate::when_gone)
    }

    fn rpc(&self, message: RpcMessage) -> BoxFuture<Result<RpcMessage, CallError>> {
        let (loaded, entry) = (self.loaded.clone(), self.entry.clone());
        Box::pin(async move { loaded.isolate().await?.rpc(entry, message).await.map_err(CallError::Ended) })
    }

    fn tail(&self, trace: String, chain: Chain) -> BoxFuture<Result<(), CallError>> {
        let (loaded, entry) = (self.loaded.clone(), self.entry.clone());
        Box::pin(async move {
            let event = crate::isolate::Event::Tail { trace, chain };
            loaded.isolate().await?.event(entry, event, None).await.map(drop).map_err(CallError::Ended)
        })
    }
}

/// A class of a loaded worker, in the hands of a guest.
#[derive(Debug)]
struct LoadedClass(ActorClass);

impl Target for LoadedClass {
    fn fetch(&self, _request: Request) -> BoxFuture<Result<Response, CallError>> {
        Box::pin(async { Err(CallError::Refused("a Durable Object class is not called; get a facet of it".into())) })
    }

    fn actor_class(&self) -> Option<ActorClass> {
        Some(self.0.clone())
    }
}
