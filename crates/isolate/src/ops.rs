//! Synchronous host calls: what a guest may ask within a turn. Pure operations are answered by `host`, resources by
//! their tables; everything that needs the outside becomes an [`Effect`]. Arguments come from hostile code.

mod actor;
mod loader;

use crate::host::{self, Tables};
use crate::instance::{Effect, State, arguments};
use crate::isolate::Entry;
use crate::wire::{Wire, WireOut};
pub(crate) use actor::NO_ACTOR;

/// Operations that are carried out after the turn and answer nothing now.
const DEFERRED: &[&str] = &[
    "loaded",
    "respond",
    "respond.with",
    "result",
    "fail",
    "done",
    "log",
    "exception",
    "rpc.method",
    "stream.close",
    "stream.abort",
    "ws.accept",
    "ws.send",
    "ws.close",
    "channel.watch",
];

/// Host memory of an effect without its arguments, and of the operation that it becomes, in bytes.
const EFFECT_BYTES: usize = 512;

/// Longest text of a log line or an exception, in bytes.
const LINE_BYTES_MAX: usize = 128 << 10;

/// Runs one operation. The answer is a value, or an error that is thrown inside the guest.
pub(crate) fn call(state: &mut State, op: &[u8], args: &[u8]) -> WireOut {
    let Ok(op) = std::str::from_utf8(op) else {
        return Wire::error("TypeError", "unknown host operation");
    };
    let args = match arguments(args) {
        Ok(args) => args,
        Err(e) => return Wire::error("TypeError", e.to_string()),
    };
    match op {
        "start" => start(state, args),
        "abandon" => {
            let id = number(&args, 0);
            state.push_unbounded(Effect::Abandon(id));
            Wire::Undefined
        }
        "module.load" => module(state, &args),
        "wasm.bytes" => wasm_bytes(state, &text(&args, 0)),
        // A length that is no whole number is none.
        "stream.open" => match state
            .resources
            .open_stream(args.first().and_then(Wire::as_f64).filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| n as u64))
        {
            Some(n) => n.into(),
            None => Wire::error("RangeError", "too many open streams"),
        },
        "ws.open" => match state.resources.open_socket() {
            Some(n) => n.into(),
            None => Wire::error("RangeError", "too many open sockets"),
        },
        // Others notice it, so an actor's waits for the log.
        "stream.cancel" if state.durable.is_some() => deferred(state, "stream.cancel", args),
        "channel.drop" if state.durable.is_some() => deferred(state, "channel.drop", args),
        "stream.cancel" => {
            state.resources.drop_reader(number(&args, 0));
            Wire::Undefined
        }
        "channel.drop.after" => deferred(state, "channel.drop", args),
        "channel.drop" => {
            state.resources.drop_channel(number(&args, 0));
            Wire::Undefined
        }
        "channel.export" => export(state, number(&args, 0)),
        "channel.entrypoint" => own_entrypoint(state, &args),
        "channel.dup" => duplicate(state, number(&args, 0)),
        _ if op.starts_with("loader.") => {
            loader::call(state, op, &args).unwrap_or_else(|| Wire::error("TypeError", "unknown host operation"))
        }
        _ if op.starts_with("actor.") => actor::call(state, op, args),
        _ if op.starts_with("namespace.") => {
            actor::namespace(state, op, &args).unwrap_or_else(|| Wire::error("TypeError", "unknown host operation"))
        }
        _ => match DEFERRED.iter().find(|d| **d == op) {
            Some(op) => deferred(state, op, args),
            None => pure(state, op, &args),
        },
    }
}

/// An argument as a number; 0 (which names nothing) for anything else.
pub(crate) fn number(args: &[Wire<'_>], i: usize) -> u32 {
    args.get(i).and_then(Wire::as_u32).unwrap_or(0)
}

/// An argument as a string; empty for anything else.
pub(crate) fn text(args: &[Wire<'_>], i: usize) -> String {
    args.get(i).and_then(Wire::as_str).map(|s| s.into_owned()).unwrap_or_default()
}

fn pure(state: &mut State, op: &str, args: &[Wire<'_>]) -> WireOut {
    let cost = Tables::cost(op, args);
    if cost > 0 && !state.room(cost) {
        return no_room();
    }
    match host::pure_call(&mut state.tables, op, args) {
        Some(answer) => answer.unwrap_or_else(WireOut::from),
        None => Wire::error("TypeError", format!("unknown host operation {op}")),
    }
}

/// What a guest is told that would exceed its memory limit on the host's side.
fn no_room() -> WireOut {
    Wire::error("RangeError", "what the host holds for this worker would exceed its memory limit")
}

/// Host memory of an effect with these arguments, in bytes: what waits behind it counts as well.
pub(crate) fn effect_bytes(args: &[Wire<'_>]) -> usize {
    EFFECT_BYTES + args.iter().map(Wire::footprint).sum::<usize>()
}

fn effect(state: &mut State, effect: Effect, bytes: usize) -> WireOut {
    match state.push(effect, bytes) {
        true => Wire::Undefined,
        false => Wire::error("RangeError", "too many or too large host operations in one turn"),
    }
}

fn deferred(state: &mut State, op: &'static str, mut args: Vec<Wire<'_>>) -> WireOut {
    if matches!(op, "log" | "exception" | "rpc.method" | "fail") {
        args.iter_mut().for_each(cut);
    }
    let bytes = effect_bytes(&args);
    let effect_of = |args: Vec<Wire<'_>>| Effect::Do { op, args: args.into_iter().map(Wire::into_owned).collect() };
    if op == "log" {
        state.push_line(effect_of(args), bytes);
        return Wire::Undefined;
    }
    // Refused before it is copied.
    if !state.room(bytes) {
        return no_room();
    }
    effect(state, effect_of(args), bytes)
}

/// Texts for people: beyond some length they serve nobody, and whoever listens would have to keep them.
fn cut(value: &mut Wire<'_>) {
    if let Wire::Str(text) = value
        && text.raw().len() > LINE_BYTES_MAX
    {
        let whole = text.to_str();
        *value = format!("{}…", &whole[..whole.floor_char_boundary(LINE_BYTES_MAX)]).into();
    }
}

fn start(state: &mut State, args: Vec<Wire<'_>>) -> WireOut {
    let bytes = effect_bytes(&args);
    if !state.room(bytes) {
        return refused_start(state, &args);
    }
    let mut args = args.into_iter().map(Wire::into_owned);
    let (Some(op), Some(id)) = (args.next().and_then(|a| a.as_str().map(|s| s.into_owned())), args.next().and_then(|a| a.as_u32())) else {
        return Wire::error("TypeError", "start needs an operation and an id");
    };
    effect(state, Effect::Start { id, op, args: args.collect() }, bytes)
}

/// The reader of a stream must learn that nothing more comes: the guest does not close what failed.
fn refused_start(state: &mut State, args: &[Wire<'_>]) -> WireOut {
    if args.first().and_then(Wire::as_text).is_some_and(|op| op.raw() == b"stream.write") {
        let why = "the worker's memory limit was exceeded";
        state.push_unbounded(Effect::Do { op: "stream.abort", args: vec![number(args, 2).into(), why.into()] });
    }
    no_room()
}

fn module(state: &State, args: &[Wire<'_>]) -> WireOut {
    let name = text(args, 0);
    let Some(module) = state.worker.code.modules.get(&name) else { return Wire::Null };
    let bytes = module.content.to_vec();
    let content = match module.kind {
        // The guest only ever names it.
        crate::worker::ModuleKind::Wasm => Wire::Null,
        crate::worker::ModuleKind::Data => Wire::from(bytes),
        _ => Wire::from(String::from_utf8_lossy(&bytes).into_owned()),
    };
    Wire::Array(vec![module.kind.word().into(), content])
}

/// The source of a Wasm module, for another worker that this one loads.
fn wasm_bytes(state: &mut State, name: &str) -> WireOut {
    match state.worker.code.modules.get(name).filter(|m| m.kind == crate::worker::ModuleKind::Wasm) {
        Some(module) => module.content.to_vec().into(),
        None => Wire::Null,
    }
}

fn duplicate(state: &mut State, n: u32) -> WireOut {
    let Some(target) = state.resources.channel(n).cloned() else {
        return Wire::error("Error", "The stub has been disposed.");
    };
    state.resources.add_channel(target).map_or_else(|| Wire::error("RangeError", "too many channels"), Wire::from)
}

/// A channel to an entrypoint of the isolate itself (`ctx.exports`).
fn own_entrypoint(state: &mut State, args: &[Wire<'_>]) -> WireOut {
    let channels = args.get(2).and_then(Wire::as_array).unwrap_or_default();
    let props = args.get(1).and_then(Wire::as_bytes).unwrap_or_default();
    if !state.room(effect_bytes(args)) {
        return no_room();
    }
    let entry = Entry {
        name: args.first().and_then(Wire::as_str).map(|s| s.into_owned()),
        props: state.held.bytes(props.to_vec()),
        targets: channels.iter().filter_map(|n| state.resources.channel(n.as_u32()?).cloned()).collect(),
        ..Entry::default()
    };
    let Some(target) = state.exports.as_ref().map(|e| e.entrypoint(entry)) else {
        return Wire::error("Error", "nothing can be exported from here");
    };
    state.resources.add_channel(target).map_or_else(|| Wire::error("RangeError", "too many channels"), Wire::from)
}

fn export(state: &mut State, id: u32) -> WireOut {
    let Some(target) = state.exports.as_ref().map(|e| e.target(id)) else {
        return Wire::error("Error", "nothing can be exported from here");
    };
    match state.resources.add_channel(target) {
        Some(n) => n.into(),
        None => Wire::error("RangeError", "too many channels"),
    }
}

#[cfg(test)]
mod tests;
