//! Running a snippet once, in an isolate of its own that nothing else ever sees.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use parking_lot::Mutex;
use skep_bundle::{Kind, Language, Module};
use skep_id::RequestId;
use skep_isolate::{Exception, Meter, Observer, Outcome, Report};

use crate::{
    Binding, CodeError, Draft, DraftModule, LimitsAsked, Node,
    snippet::{ENTRY, module_of},
    tail::cut,
};

/// Name of the module that is run.
const MAIN: &str = "execute.js";

/// Lines of log kept of a snippet; an agent's tool call has no use for more.
const LINES_MAX: usize = 1_000;

/// Bytes of log kept of a snippet.
const LOG_BYTES_MAX: usize = 256 << 10;

/// A snippet.
#[derive(Debug, Clone, Default)]
pub struct Snippet {
    /// Its code.
    pub code: String,
    /// What it is written in; JavaScript when absent.
    pub language: Option<Language>,
    /// The function's first argument, JSON.
    pub input: serde_json::Value,
    /// More modules that it may import.
    pub modules: BTreeMap<String, DraftModule>,
    /// What `env` holds.
    pub bindings: BTreeMap<String, Binding>,
    /// Limits asked for.
    pub limits: LimitsAsked,
    /// Whether `fetch()` may leave.
    pub network: bool,
}

/// What became of a snippet.
#[derive(Debug, Clone)]
pub struct Executed {
    /// The id of this run.
    pub request: RequestId,
    /// The value it returned.
    pub result: Option<serde_json::Value>,
    /// How it ended.
    pub report: Report,
    /// What it logged.
    pub logs: Vec<Line>,
    /// Lines beyond the bound.
    pub logs_lost: u64,
}

/// A line of a snippet's log.
#[derive(Debug, Clone)]
pub struct Line {
    /// `log`, `warn`, …
    pub level: String,
    /// The text.
    pub text: String,
    /// ms since the epoch.
    pub at: i64,
}

impl Node {
    /// Runs a snippet. What the snippet does wrong is in the answer.
    ///
    /// # Errors
    /// When the snippet breaks a rule of this node before anything ran.
    pub async fn execute(&self, snippet: Snippet) -> Result<Executed, CodeError> {
        let _turn = self.inner.executing.acquire().await;
        let request = self.inner.metrics.ids.next();
        self.inner.metrics.executes.fetch_add(1, Relaxed);
        let arrived = Instant::now();
        let args = serde_json::Value::Array(vec![snippet.input.clone()]).to_string();
        let log = Arc::new(Log::default());
        let draft = draft(snippet);
        draft.check_secrets(&self.inner.secrets)?;
        let own = |binding: &Binding| matches!(binding, Binding::Actors { worker: None, .. });
        if let Some((name, _)) = draft.bindings.iter().find(|(_, binding)| own(binding)) {
            return Err(CodeError::NoOwnClass(name.chars().take(80).collect()));
        }
        if let Some((name, _)) = draft.bindings.iter().find(|(_, binding)| matches!(binding, Binding::Sandboxes { .. })) {
            return Err(CodeError::NoOwnSandboxes(name.chars().take(80).collect()));
        }
        let (result, report) = match draft.compile(&self.inner.compiler, &self.inner.config.code, &self.inner.config.limits).await {
            Ok(code) => self.run(&code, args, Arc::clone(&log)).await,
            Err(CodeError::Compile(error)) => {
                let exception = Exception { name: "SyntaxError".to_owned(), message: error.to_string(), stack: String::new() };
                (None, Report { outcome: Outcome::Startup(exception), meter: Meter::default() })
            }
            Err(error) => return Err(error),
        };
        self.inner.metrics.ended(&report, arrived.elapsed());
        let mut kept = log.kept.lock();
        let (logs, logs_lost) = (std::mem::take(&mut kept.lines), kept.lost);
        Ok(Executed { request, result, report, logs, logs_lost })
    }

    async fn run(&self, code: &crate::Code, args: String, log: Arc<Log>) -> (Option<serde_json::Value>, Report) {
        let worker = self.inner.workers.isolate_worker(code, log, None);
        let (result, report) = self.inner.runtime.start(Arc::new(worker)).run(MAIN.to_owned(), args).await;
        (result.map(|json| serde_json::from_str(&json).unwrap_or_default()), report)
    }
}

fn draft(snippet: Snippet) -> Draft {
    let source = module_of(&snippet.code);
    let plain = |text: String| DraftModule::Ready(Module { kind: Kind::Esm, bytes: text.into_bytes(), source_map: None });
    let mut modules = snippet.modules;
    let module = match snippet.language {
        Some(language) => DraftModule::Typed(language, source),
        None => plain(source),
    };
    modules.insert("snippet.js".to_owned(), module);
    modules.insert(MAIN.to_owned(), plain(ENTRY.to_owned()));
    Draft {
        main: MAIN.to_owned(),
        modules,
        bindings: snippet.bindings,
        limits: snippet.limits,
        network: snippet.network,
        ..Draft::default()
    }
}

/// Collects a snippet's log, up to a bound.
#[derive(Default)]
struct Log {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    lines: Vec<Line>,
    bytes: usize,
    lost: u64,
}

impl Observer for Log {
    fn log(&self, call: Option<&str>, level: &str, text: &str) {
        let _ = call;
        let mut kept = self.kept.lock();
        let room = LOG_BYTES_MAX.saturating_sub(kept.bytes);
        if kept.lines.len() >= LINES_MAX || room == 0 {
            kept.lost += 1;
            return;
        }
        let text = cut(text, room).to_owned();
        kept.bytes += text.len();
        kept.lines.push(Line { level: level.to_owned(), text, at: crate::now_ms() });
    }

    fn exception(&self, call: Option<&str>, exception: &Exception) {
        self.log(call, "error", &format!("Uncaught {exception}"));
    }
}
