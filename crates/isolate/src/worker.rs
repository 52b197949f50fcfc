//! What an isolate runs: a worker is code, bindings, limits and the targets it may reach. Values only; nothing here
//! runs. Made by the node for deployed workers and by the loader for workers that other workers load.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::durable::Namespace;
use crate::limits::Limits;
use crate::loader::Loader;
use crate::outcome::{Exception, Report};
use crate::target::Target;
use crate::trace::Tails;
use crate::wire::WireOut;

/// What a module holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModuleKind {
    /// An ECMAScript module.
    JavaScript,
    /// A CommonJS module; its `module.exports` becomes the default export.
    CommonJs,
    /// Default export: a string.
    Text,
    /// Default export: an `ArrayBuffer`.
    Data,
    /// Default export: the parsed value.
    Json,
    /// Default export: a `WebAssembly.Module`.
    Wasm,
}

impl ModuleKind {
    /// The word used in the guest ABI and by the Worker Loader.
    pub fn word(self) -> &'static str {
        match self {
            Self::JavaScript => "js",
            Self::CommonJs => "cjs",
            Self::Text => "text",
            Self::Data => "data",
            Self::Json => "json",
            Self::Wasm => "wasm",
        }
    }
}

/// One module of a worker.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its kind.
    pub kind: ModuleKind,
    /// Its text (UTF-8) or bytes.
    pub content: Bytes,
    /// A source map (JSON) for JavaScript, where there is one.
    pub source_map: Option<Bytes>,
}

/// A worker's modules by name, and which one is imported first.
#[derive(Clone, Debug, Default)]
pub struct Code {
    /// Name of the main module.
    pub main: String,
    /// All modules by name.
    pub modules: HashMap<String, Module>,
}

impl Code {
    /// A worker of one JavaScript module.
    pub fn single(source: impl Into<Bytes>) -> Self {
        let module = Module { kind: ModuleKind::JavaScript, content: source.into(), source_map: None };
        Self { main: "main.js".into(), modules: HashMap::from([("main.js".into(), module)]) }
    }

    /// Total size of all modules in bytes.
    pub fn size(&self) -> u64 {
        self.modules.values().map(|m| m.content.len() as u64).sum()
    }
}

/// A name in `env`.
#[derive(Clone, Debug)]
pub enum Binding {
    /// A string.
    Text(String),
    /// A value parsed from JSON text inside the guest.
    Json(String),
    /// The name of a secret; the guest sees a placeholder that only the way out replaces.
    Secret(String),
    /// Bytes (`ArrayBuffer`).
    Data(Bytes),
    /// Another worker or service.
    Service(Arc<dyn Target>),
    /// A Worker Loader.
    Loader(Arc<Loader>),
    /// A structured clone made by another isolate, with the targets it refers to. Under the empty name it is the whole
    /// `env` (the loader's).
    Cloned(Bytes, Vec<Arc<dyn Target>>),
    /// Actors of one class.
    Namespace(Arc<dyn Namespace>),
    /// Sandboxes by name: a target whose requests are those of "Sandboxes" in `docs/design/guest-abi.md`.
    Sandboxes(Arc<dyn Target>),
    /// Not of `env` but of `ctx.exports`, under the empty name: `Namespace` for own classes, and `Service` for entrypoints that are to be called
    /// in another isolate than this one. What is missing, the guest makes itself.
    Exports(Vec<(String, Binding)>),
}

/// Hears what happens in an isolate. Called on the isolate's own task: must not block. `call` is the label of the
/// chain of calls ([`crate::Chain::labelled`]); absent where it has none, and for what belongs to no call.
pub trait Observer: Send + Sync {
    /// `console.*`; `level` is `log`, `info`, `warn`, `error`, `debug` or `trace`.
    fn log(&self, call: Option<&str>, level: &str, text: &str) {
        let _ = (call, level, text);
    }
    /// An exception nobody caught.
    fn exception(&self, call: Option<&str>, exception: &Exception) {
        let _ = (call, exception);
    }
    /// A call and everything it started has ended. `event` names its kind (`fetch`, `rpc`, …).
    fn finished(&self, event: &str, report: &Report) {
        let _ = (event, report);
    }
}

/// Hears nothing.
pub struct Unobserved;
impl Observer for Unobserved {}

/// Everything an isolate needs to run. Immutable; shared by all isolates of a deployed version.
pub struct Worker {
    /// Its modules.
    pub code: Arc<Code>,
    /// `env`, in order.
    pub bindings: Vec<(String, Binding)>,
    /// What it may use.
    pub limits: Limits,
    /// Where `fetch()` and `connect()` go; `None` refuses them.
    pub outbound: Option<Arc<dyn Target>>,
    /// Who hears of it.
    pub observer: Arc<dyn Observer>,
    /// Who gets a trace of each call.
    pub tails: Tails,
    /// Whether its isolates may be ended while they are idle, when the engine has no place left. Whoever calls one of them next
    /// finds it gone, or starts another.
    pub evictable: bool,
    /// Further options the guest understands (`compatibilityDate`, …), as a wire object.
    pub options: WireOut,
}

impl Worker {
    /// A worker with no bindings, default limits and no way out.
    pub fn new(code: Code) -> Self {
        Self {
            code: Arc::new(code),
            bindings: Vec::new(),
            limits: Limits::default(),
            outbound: None,
            observer: Arc::new(Unobserved),
            tails: Tails::default(),
            evictable: false,
            options: WireOut::Object(Vec::new()),
        }
    }
}
