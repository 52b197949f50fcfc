//! Host calls of the Worker Loader binding: code as a guest describes it becomes a worker. Arguments are hostile.

use std::collections::HashMap;
use std::sync::Arc;

use super::{effect_bytes, no_room, number, text};
use crate::held::Held;
use crate::instance::{Effect, State};
use crate::isolate::Entry;
use crate::limits::LimitsAsked;
use crate::loader::{Loaded, Untransformed};
use crate::outcome::{Exception, Outcome};
use crate::target::Target;
use crate::trace::Tails;
use crate::wire::{Wire, WireOut};
use crate::worker::{Binding, Code, Module, ModuleKind, Worker};

/// Longest name of a loaded worker, in bytes: names are kept in the loader's cache.
const NAME_BYTES_MAX: usize = 4 << 10;

/// Tails of one loaded worker: each gets a copy of every trace.
const TAILS_MAX: usize = 32;

fn thrown(message: impl Into<String>) -> WireOut {
    let message: String = message.into();
    Wire::error("Error", message)
}

/// Runs `loader.*`; `None` if there is no such operation.
pub(super) fn call(state: &mut State, op: &str, args: &[Wire<'_>]) -> Option<WireOut> {
    Some(match op {
        "loader.get" => get(state, args),
        "loader.code" => code(state, args),
        "loader.fail" => {
            if let Some(loaded) = state.resources.loaded(number(args, 0)) {
                let (mut name, mut message) = (text(args, 1), text(args, 2));
                name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
                message.truncate(message.floor_char_boundary(super::LINE_BYTES_MAX));
                let bytes = name.len() + message.len();
                return Some(arrives(state, &loaded, Err(Outcome::Exception(Exception { name, message, stack: String::new() })), bytes));
            }
            Wire::Undefined
        }
        "loader.entrypoint" => entrypoint(state, args),
        "loader.class" => class(state, args),
        "loader.drop" => {
            state.resources.drop_loaded(number(args, 0));
            Wire::Undefined
        }
        _ => return None,
    })
}

fn get(state: &mut State, args: &[Wire<'_>]) -> WireOut {
    let Some(loader) = state.resources.loader(number(args, 0)) else { return thrown("no such loader") };
    let name = args.get(1).and_then(Wire::as_str);
    if name.as_deref().is_some_and(|name| name.len() > NAME_BYTES_MAX) {
        return Wire::error("RangeError", "the name of a worker is too long");
    }
    let (loaded, wanted) = loader.get(name.as_deref());
    match state.resources.add_loaded(loaded) {
        Some(handle) => Wire::Array(vec![handle.into(), wanted.into()]),
        None => Wire::error("RangeError", "too many loaded workers are held at once"),
    }
}

/// Limits as the loader names them: `{cpuMs, subRequests, memoryMb, wallMs}`.
fn limits(asked: Option<&Wire<'_>>) -> LimitsAsked {
    let get = |key| asked.and_then(|a| a.get(key)).and_then(Wire::as_f64).map(|n| n.clamp(0.0, f64::from(u32::MAX)) as u32);
    LimitsAsked {
        cpu_ms: get("cpuMs"),
        wall_ms: get("wallMs"),
        memory_mb: get("memoryMb"),
        subrequests: get("subRequests"),
        output_bytes: None,
    }
}

/// Channels given away with code: the guest keeps no number for them.
fn taken(state: &mut State, channels: Option<&Wire<'_>>) -> Vec<Arc<dyn Target>> {
    let numbers = channels.and_then(Wire::as_array).unwrap_or_default();
    numbers.iter().filter_map(|n| state.resources.take_channel(n.as_u32()?)).collect()
}

fn content(value: &Wire<'_>) -> Vec<u8> {
    match value {
        Wire::Bytes(b) => b.to_vec(),
        other => other.as_str().map(|s| s.into_owned().into_bytes()).unwrap_or_default(),
    }
}

/// `[name, kind, content]` each; their contents are on the loader's account.
fn modules(list: &[Wire<'_>], held: &Held) -> (HashMap<String, Module>, Vec<Untransformed>) {
    let mut modules = HashMap::new();
    let mut untransformed = Vec::new();
    for entry in list.iter().filter_map(Wire::as_array) {
        let (name, kind) = (text(entry, 0), text(entry, 1));
        let bytes = entry.get(2).map(content).unwrap_or_default();
        let kind = match kind.as_str() {
            "cjs" => ModuleKind::CommonJs,
            "text" => ModuleKind::Text,
            "data" => ModuleKind::Data,
            "json" => ModuleKind::Json,
            "wasm" => ModuleKind::Wasm,
            "ts" | "tsx" | "jsx" => {
                let kind = ["ts", "tsx", "jsx"].into_iter().find(|k| *k == kind).unwrap_or("ts");
                let charge = held.charge(bytes.len());
                untransformed.push(Untransformed { name, kind, source: String::from_utf8_lossy(&bytes).into_owned(), charge });
                continue;
            }
            _ => ModuleKind::JavaScript,
        };
        modules.insert(name, Module { kind, content: held.bytes(bytes), source_map: None });
    }
    (modules, untransformed)
}

fn code(state: &mut State, args: &[Wire<'_>]) -> WireOut {
    let Some(loaded) = state.resources.loaded(number(args, 0)) else { return thrown("no such worker") };
    // Checked before anything is copied: names, options and contents all stay on the host.
    let list = args.get(2).and_then(Wire::as_array).unwrap_or_default();
    let (policy, size) = (loaded.loader().policy(), effect_bytes(args));
    let code_size: usize = list.iter().filter_map(Wire::as_array).filter_map(|m| m.get(2)).map(Wire::footprint).sum();
    if code_size as u64 > policy.code_bytes {
        return thrown(format!("the worker's modules are {code_size} bytes; at most {} are allowed", policy.code_bytes));
    }
    if !loaded.loader().room(size) {
        return Wire::error("RangeError", "the code of all loaded workers would be more than their loader may hold");
    }
    if args.get(8).and_then(Wire::as_array).is_some_and(|tails| tails.len() > TAILS_MAX) {
        return Wire::error("RangeError", format!("a worker has at most {TAILS_MAX} tails"));
    }
    let held = loaded.loader().held().clone();
    let (modules, untransformed) = modules(list, &held);
    let code = Code { main: text(args, 1), modules };
    let env = taken(state, args.get(6));
    let bindings = match args.get(5) {
        Some(Wire::Bytes(b)) => vec![(String::new(), Binding::Cloned(held.bytes(b.to_vec()), env))],
        _ => Vec::new(),
    };
    let outbound = match args.get(7) {
        None | Some(Wire::Undefined) => state.worker.outbound.clone(),
        Some(Wire::Null) => None,
        Some(n) => taken(state, Some(&Wire::Array(vec![n.clone()]))).pop(),
    };
    let tails = taken(state, args.get(8));
    let options = Wire::object([
        ("compatibilityDate", args.get(3).cloned().unwrap_or_default()),
        ("compatibilityFlags", args.get(4).cloned().unwrap_or_default()),
    ]);
    let worker = Worker {
        code: Arc::new(code),
        bindings,
        limits: policy.lowered(&limits(args.get(9))),
        outbound,
        observer: state.worker.observer.clone(),
        tails: Tails::new(tails),
        evictable: true,
        options: options.into_owned(),
    };
    arrives(state, &loaded, Ok((worker, untransformed)), 0)
}

/// Others may wait for the code, so that of an actor waits for the log. Code itself is on the loader's account, `bytes` is what else it takes.
fn arrives(state: &mut State, loaded: &Arc<Loaded>, what: Result<(Worker, Vec<Untransformed>), Outcome>, bytes: usize) -> WireOut {
    let coming = loaded.coming(what);
    if state.durable.is_none() {
        coming.arrive();
        return Wire::Undefined;
    }
    let bytes = effect_bytes(&[]) + bytes;
    if !state.room(bytes) {
        return no_room();
    }
    super::effect(state, Effect::Arrive(Box::new(coming)), bytes)
}

fn entrypoint(state: &mut State, args: &[Wire<'_>]) -> WireOut {
    let Some(loaded) = state.resources.loaded(number(args, 0)) else { return thrown("no such worker") };
    if !state.room(effect_bytes(args)) {
        return no_room();
    }
    let props = state.held.bytes(args.get(2).and_then(Wire::as_bytes).unwrap_or_default().to_vec());
    let targets = taken(state, args.get(3));
    let name = args.get(1).and_then(Wire::as_str).map(|s| s.into_owned());
    let entry = Entry { name, props, targets, limits: limits(args.get(4)), ..Entry::default() };
    match state.resources.add_channel(loaded.entrypoint(entry)) {
        Some(n) => n.into(),
        None => Wire::error("RangeError", "too many channels"),
    }
}

fn class(state: &mut State, args: &[Wire<'_>]) -> WireOut {
    let Some(loaded) = state.resources.loaded(number(args, 0)) else { return thrown("no such worker") };
    if !state.room(effect_bytes(args)) {
        return no_room();
    }
    let props = state.held.bytes(args.get(2).and_then(Wire::as_bytes).unwrap_or_default().to_vec());
    let targets = taken(state, args.get(3));
    let mut name = args.get(1).and_then(Wire::as_str).map_or_else(|| "default".to_owned(), |s| s.into_owned());
    name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
    match state.resources.add_channel(loaded.class(name, props, targets)) {
        Some(n) => n.into(),
        None => Wire::error("RangeError", "too many channels"),
    }
}
