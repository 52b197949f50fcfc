//! Between the contract's types and the domain's. Values only.

use base64::{Engine, engine::general_purpose::STANDARD};
use skep_access::Scope;
use skep_api::{self as api, ErrorCode};
use skep_bundle::{Kind, Language, Module};
use skep_node::{self as node, Draft, DraftModule, Exception, Outcome, Report};

use crate::reply::Failure;

pub(crate) fn draft_in(mut deploy: api::Deploy) -> Result<Draft, Failure> {
    let mut modules = modules_in(deploy.modules)?;
    for (name, map) in std::mem::take(&mut deploy.source_maps) {
        match modules.get_mut(&name) {
            Some(DraftModule::Ready(module)) => module.source_map = Some(map),
            _ => return Err(invalid(format!("there is a source map for {name:?}, which is not a JavaScript module here"))),
        }
    }
    Ok(Draft {
        main: deploy.main,
        modules,
        bindings: bindings_in(deploy.bindings)?,
        limits: limits_in(&deploy.limits),
        compatibility_date: deploy.compatibility_date,
        compatibility_flags: deploy.compatibility_flags,
        network: true,
    })
}

pub(crate) fn snippet_in(execute: api::Execute) -> Result<node::Snippet, Failure> {
    let language = match execute.language.as_str() {
        "js" => None,
        "ts" => Some(Language::Ts),
        "tsx" => Some(Language::Tsx),
        "jsx" => Some(Language::Jsx),
        other => return Err(invalid(format!("{other:?} is not a language: js, ts, tsx or jsx"))),
    };
    Ok(node::Snippet {
        code: execute.code,
        language,
        input: execute.input,
        modules: modules_in(execute.modules)?,
        bindings: bindings_in(execute.bindings)?,
        limits: limits_in(&execute.limits),
        network: execute.network,
    })
}

type Named<T> = std::collections::BTreeMap<String, T>;

fn modules_in(modules: Named<api::ModuleSource>) -> Result<Named<DraftModule>, Failure> {
    modules.into_iter().map(|(name, source)| module_in(&name, source).map(|module| (name, module))).collect()
}

fn module_in(name: &str, source: api::ModuleSource) -> Result<DraftModule, Failure> {
    use api::TypedModule as Typed;
    let ready = |kind, bytes| Ok(DraftModule::Ready(Module { kind, bytes, source_map: None }));
    match source {
        api::ModuleSource::Plain(text) => plain_module(name, text),
        api::ModuleSource::Typed(typed) => match typed {
            Typed::Js(text) => ready(Kind::Esm, text.into_bytes()),
            Typed::Ts(text) => Ok(DraftModule::Typed(Language::Ts, text)),
            Typed::Tsx(text) => Ok(DraftModule::Typed(Language::Tsx, text)),
            Typed::Jsx(text) => Ok(DraftModule::Typed(Language::Jsx, text)),
            Typed::Cjs(text) => ready(Kind::Cjs, text.into_bytes()),
            Typed::Text(text) => ready(Kind::Text, text.into_bytes()),
            Typed::Json(value) => ready(Kind::Json, value.to_string().into_bytes()),
            Typed::Data(text) => ready(Kind::Data, bytes_in(name, &text)?),
            Typed::Wasm(text) => ready(Kind::Wasm, bytes_in(name, &text)?),
        },
    }
}

fn plain_module(name: &str, text: String) -> Result<DraftModule, Failure> {
    if let Some(language) = Language::of(name) {
        return Ok(DraftModule::Typed(language, text));
    }
    let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js" | "mjs") => Kind::Esm,
        Some("cjs") => Kind::Cjs,
        Some("json") => Kind::Json,
        Some("txt" | "html" | "sql" | "md") => Kind::Text,
        Some("py") => return Err(invalid(format!("{name:?} is a Python module, and Python workers are not supported"))),
        _ => {
            let message =
                format!("the kind of module {name:?} does not follow from its name; write {{\"js\": …}}, {{\"text\": …}} or the like");
            return Err(invalid(message));
        }
    };
    Ok(DraftModule::Ready(Module { kind, bytes: text.into_bytes(), source_map: None }))
}

fn bindings_in(bindings: Named<api::Binding>) -> Result<Named<node::Binding>, Failure> {
    bindings.into_iter().map(|(name, binding)| binding_in(&name, binding).map(|binding| (name, binding))).collect()
}

fn binding_in(name: &str, binding: api::Binding) -> Result<node::Binding, Failure> {
    Ok(match binding {
        api::Binding::Text { value } => node::Binding::Text { value },
        api::Binding::Json { value } => node::Binding::Json { value },
        api::Binding::Secret { name } => node::Binding::Secret { name },
        api::Binding::Data { base64 } => node::Binding::Data { bytes: bytes_in(name, &base64)? },
        api::Binding::Service { worker, entrypoint, props } => node::Binding::Service { worker, entrypoint, props },
        api::Binding::Actors { class_name, worker } => node::Binding::Actors { class_name, worker },
        api::Binding::Loader {} => node::Binding::Loader,
        api::Binding::Sandboxes { profile, sleep_after_s } => {
            let strict = profile.map(|profile| profile == api::SandboxProfile::Strict);
            node::Binding::Sandboxes { strict, sleep_after_s }
        }
    })
}

fn bytes_in(name: &str, base64: &str) -> Result<Vec<u8>, Failure> {
    STANDARD.decode(base64).map_err(|error| invalid(format!("{name:?} is not base64: {error}")))
}

fn limits_in(limits: &api::Limits) -> node::LimitsAsked {
    node::LimitsAsked {
        cpu_ms: limits.cpu_ms,
        wall_ms: limits.wall_ms,
        memory_mb: limits.memory_mb,
        subrequests: limits.subrequests,
        output_bytes: limits.output_bytes,
    }
}

fn invalid(message: String) -> Failure {
    Failure::new(ErrorCode::Invalid, message, "")
}

pub(crate) fn scope_in(scope: api::Scope) -> Scope {
    match scope {
        api::Scope::Admin => Scope::Admin,
        api::Scope::Deploy => Scope::Deploy,
        api::Scope::Execute => Scope::Execute,
        api::Scope::Read => Scope::Read,
        api::Scope::Actors => Scope::Actors,
        api::Scope::Sandboxes => Scope::Sandboxes,
    }
}

fn scope_out(scope: Scope) -> api::Scope {
    match scope {
        Scope::Admin => api::Scope::Admin,
        Scope::Deploy => api::Scope::Deploy,
        Scope::Execute => api::Scope::Execute,
        Scope::Read => api::Scope::Read,
        Scope::Actors => api::Scope::Actors,
        Scope::Sandboxes => api::Scope::Sandboxes,
    }
}

pub(crate) fn new_key_in(new: api::NewKey) -> skep_access::NewKey {
    let scopes = new.scopes.into_iter().map(scope_in).collect();
    skep_access::NewKey { label: new.label, scopes, expires_at: new.expires_at }
}

pub(crate) fn key_out(key: skep_access::Key) -> api::Key {
    api::Key {
        id: key.id,
        label: key.label,
        scopes: key.scopes.iter().map(scope_out).collect(),
        created_at: key.created_at,
        expires_at: key.expires_at,
        last_used_at: key.last_used_at,
        revoked_at: key.revoked_at,
    }
}

pub(crate) fn version_out(row: node::VersionRow) -> api::Version {
    api::Version {
        version: row.version,
        active: row.active,
        created_at: row.created_at,
        created_by: row.created_by,
        hash: row.hash,
        size: row.size,
        message: row.message,
    }
}

pub(crate) fn point_in(point: api::Point) -> node::Point {
    match point {
        api::Point::Time(time) => node::Point::Time(u64::try_from(time).unwrap_or_default()),
        api::Point::Bookmark(bookmark) => node::Point::Bookmark(bookmark),
    }
}

pub(crate) fn actor_out(row: node::ActorRow) -> api::Actor {
    api::Actor {
        id: row.id,
        worker: row.namespace.worker,
        class: row.namespace.class,
        name: row.name,
        parent: row.parent,
        state: match row.state {
            node::ActorState::Asleep => api::ActorState::Asleep,
            node::ActorState::Waking => api::ActorState::Waking,
            node::ActorState::Awake => api::ActorState::Awake,
            node::ActorState::FallingAsleep => api::ActorState::FallingAsleep,
        },
        created_at: time_out(row.created_ms),
        active_at: time_out(row.active_ms),
        database_bytes: row.database_bytes,
        wakes_at: row.wakes_ms.map(time_out),
    }
}

pub(crate) fn actor_details_out(shown: node::ActorDetails) -> api::ActorDetails {
    let line = |(at, text)| api::ActorLine { at: time_out(at), text };
    api::ActorDetails {
        actor: actor_out(shown.row),
        epoch: shown.epoch,
        seq: shown.seq,
        bookmark: shown.bookmark,
        alarms: shown.alarms.into_iter().map(|(name, at)| (name, time_out(at))).collect(),
        snapshots: shown.snapshots,
        log: shown.log.into_iter().map(line).collect(),
    }
}

fn time_out(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

pub(crate) fn receipt_out(receipt: node::Receipt) -> api::Receipt {
    api::Receipt { actor: receipt.actor, epoch: receipt.epoch.0, seq: receipt.seq.0, tier: receipt.tier.to_string() }
}

pub(crate) fn rows_out(rows: node::ActorRows) -> api::ActorRows {
    let row = |row: Vec<node::SqlValue>| row.into_iter().map(sql_value_out).collect();
    api::ActorRows { columns: rows.columns, rows: rows.rows.into_iter().map(row).collect() }
}

/// JSON has fewer kinds of values than SQLite: bytes, integers beyond 2^53, and reals that are no numbers are marked.
fn sql_value_out(value: node::SqlValue) -> serde_json::Value {
    use node::SqlValue as Sql;
    match value {
        Sql::Null => serde_json::Value::Null,
        Sql::Integer(n) if n.unsigned_abs() > 1 << 53 => serde_json::json!({ "integer": n.to_string() }),
        Sql::Integer(n) => n.into(),
        Sql::Real(x) => serde_json::Number::from_f64(x).map_or_else(|| serde_json::json!({ "real": x.to_string() }), Into::into),
        Sql::Text(text) => text.into(),
        Sql::Blob(bytes) => serde_json::json!({ "base64": STANDARD.encode(bytes) }),
    }
}

pub(crate) fn executed_out(executed: node::Executed) -> api::Executed {
    let (outcome, error) = outcome_out(&executed.report.outcome);
    let line = |line: node::Line| api::LogLine { level: line.level, text: line.text, at: line.at };
    api::Executed {
        request: executed.request,
        outcome,
        result: executed.result.unwrap_or_default(),
        error,
        logs: executed.logs.into_iter().map(line).collect(),
        logs_lost: executed.logs_lost,
        meter: meter_out(&executed.report),
    }
}

pub(crate) fn event_out(event: &node::Event) -> api::TailEvent {
    match event {
        node::Event::Log { request, level, text, at } => {
            api::TailEvent::Log { request: *request, line: api::LogLine { level: level.clone(), text: text.clone(), at: *at } }
        }
        node::Event::Exception { request, exception, at } => {
            api::TailEvent::Exception { request: *request, error: fault_out(exception), at: *at }
        }
        node::Event::Ended { request, version, method, url, status, report, at } => {
            let (outcome, error) = outcome_out(&report.outcome);
            let trigger = api::Trigger::Fetch { method: method.clone(), url: url.clone(), status: *status };
            api::TailEvent::Outcome { request: *request, version: *version, trigger, outcome, error, meter: meter_out(report), at: *at }
        }
    }
}

fn outcome_out(outcome: &Outcome) -> (api::Outcome, Option<api::Fault>) {
    let (word, name) = match outcome {
        Outcome::Ok => return (api::Outcome::Ok, None),
        Outcome::Exception(exception) | Outcome::Reset(exception) => return (api::Outcome::Exception, Some(fault_out(exception))),
        Outcome::Startup(exception) => return (api::Outcome::Startup, Some(fault_out(exception))),
        Outcome::Cpu => (api::Outcome::Cpu, "LimitError"),
        Outcome::Wall => (api::Outcome::Wall, "LimitError"),
        Outcome::Memory => (api::Outcome::Memory, "LimitError"),
        Outcome::Subrequests => (api::Outcome::Subrequests, "LimitError"),
        Outcome::Cancelled(_) => (api::Outcome::Cancelled, "CancelledError"),
        Outcome::Internal(_) => (api::Outcome::Internal, "InternalError"),
    };
    let fault = api::Fault { name: name.to_owned(), message: outcome.to_string(), stack: String::new() };
    (word, Some(fault))
}

fn fault_out(exception: &Exception) -> api::Fault {
    api::Fault { name: exception.name.clone(), message: exception.message.clone(), stack: exception.stack.clone() }
}

fn meter_out(report: &Report) -> api::Meter {
    let meter = &report.meter;
    api::Meter {
        cpu_us: meter.cpu_us,
        wall_us: meter.wall_us,
        memory_peak_bytes: meter.memory_peak_bytes,
        bytes_in: meter.bytes_in,
        bytes_out: meter.bytes_out,
        host_calls: meter.host_calls,
        subrequests: meter.subrequests,
        operations: meter.operations,
    }
}
