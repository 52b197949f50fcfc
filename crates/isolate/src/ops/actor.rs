//! Host calls of actors: what is behind an actor, and the namespaces through which others reach one. Arguments are hostile; what `actor.*` itself
//! means is for the actor's `Durable` to say.

use super::{cut, deferred, no_room, number};
use crate::instance::State;
use crate::wire::{Wire, WireOut};

/// Effects of actors: carried out after the turn, behind the output gate (`actor.gate` at once).
const DEFERRED: &[&str] = &["actor.gate", "actor.ws.keep", "actor.ws.send", "actor.ws.close", "actor.facet.abort", "actor.facet.delete"];

/// Longest name or id that a namespace or a facet is asked for, in bytes. Every record of an actor's directory holds one.
const NAME_BYTES_MAX: usize = 64 << 10;

/// What an isolate that is no actor is told.
pub(crate) const NO_ACTOR: &str = "this isolate is no actor";

/// Runs `actor.*`.
pub(super) fn call(state: &mut State, op: &str, args: Vec<Wire<'_>>) -> WireOut {
    // Out of the way of the rest of the state while it is called.
    let Some(mut durable) = state.durable.take() else { return Wire::error("TypeError", NO_ACTOR) };
    let answer = match DEFERRED.iter().find(|d| **d == op) {
        Some(op) => {
            if matches!(*op, "actor.gate" | "actor.facet.abort" | "actor.facet.delete") {
                // Now as well: whether a transaction may stay open matters when the turn ends, and a facet that is asked for again in this turn is another.
                durable.call(op, &args, 0);
            }
            deferred(state, op, args)
        }
        None if op == "actor.abort" => {
            let mut args = args;
            args.iter_mut().for_each(|arg| match arg {
                Wire::Array(reason) => reason.iter_mut().for_each(cut),
                arg => cut(arg),
            });
            state.aborted = Some(args.into_iter().map(Wire::into_owned).collect());
            Wire::Undefined
        }
        None if op == "actor.facet" => facet(state, durable.as_mut(), &args),
        None if op == "actor.snapshot" => snapshot(state, durable.as_mut(), &args),
        None if op == "actor.adopt" => adopt(state, durable.as_mut(), &args),
        None => {
            // Half of what is left: the answer is encoded while it is there.
            let room = state.room_left() / 2;
            let answer = durable.call(op, &args, room);
            let fits = answer.footprint() <= room && state.room(answer.footprint());
            if fits { answer } else { no_room() }
        }
    };
    state.durable = Some(durable);
    answer
}

/// An argument as a name; `None` when it is too long or no text.
fn name<'a>(args: &'a [Wire<'_>], i: usize) -> Option<std::borrow::Cow<'a, str>> {
    args.get(i).and_then(Wire::as_str).filter(|name| name.len() <= NAME_BYTES_MAX)
}

fn bad_name() -> WireOut {
    Wire::error("TypeError", format!("a name or id must be a text of at most {NAME_BYTES_MAX} bytes"))
}

fn channel(state: &mut State, target: std::sync::Arc<dyn crate::target::Target>) -> WireOut {
    state.resources.add_channel(target).map_or_else(|| Wire::error("RangeError", "too many channels"), Wire::from)
}

fn snapshot(state: &mut State, durable: &mut dyn crate::durable::Durable, args: &[Wire<'_>]) -> WireOut {
    let of = match args.first().filter(|bookmark| bookmark.is_some()) {
        None => None,
        Some(_) => match name(args, 0) {
            Some(bookmark) => Some(bookmark),
            None => return Wire::error("TypeError", "a bookmark is a text"),
        },
    };
    match durable.snapshot(of.as_deref()) {
        Ok(snapshot) => {
            let bookmark = snapshot.bookmark.clone().into();
            match channel(state, std::sync::Arc::new(snapshot)) {
                failed @ Wire::Error { .. } => failed,
                channel => Wire::Array(vec![channel, bookmark]),
            }
        }
        Err((name, message)) => Wire::error(name, message),
    }
}

fn adopt(state: &mut State, durable: &mut dyn crate::durable::Durable, args: &[Wire<'_>]) -> WireOut {
    let target = args.first().and_then(Wire::as_u32).and_then(|n| state.resources.channel(n));
    let Some(snapshot) = target.and_then(|target| target.actor_snapshot()) else {
        return Wire::error("TypeError", "that is no snapshot of a Durable Object");
    };
    match durable.adopt(snapshot) {
        Ok(undo) => undo.into(),
        Err((name, message)) => Wire::error(name, message),
    }
}

fn facet(state: &mut State, durable: &mut dyn crate::durable::Durable, args: &[Wire<'_>]) -> WireOut {
    let Some(facet) = name(args, 0) else { return bad_name() };
    let class = match args.get(1).filter(|class| class.is_some()) {
        None => None,
        Some(n) => match n.as_u32().and_then(|n| state.resources.channel(n)).map(|target| target.actor_class()) {
            Some(Some(class)) => Some(class),
            _ => return Wire::error("TypeError", "the class of a facet must be a Durable Object class"),
        },
    };
    let id = match args.get(2).filter(|id| id.is_some()) {
        None => None,
        Some(_) => match name(args, 2) {
            Some(id) => Some(id),
            None => return bad_name(),
        },
    };
    match durable.facet(&facet, class, id.as_deref()) {
        Ok(Some(target)) => channel(state, target),
        Ok(None) => Wire::Null,
        Err((name, message)) => Wire::error(name, message),
    }
}

/// Runs `namespace.*`; `None` if there is no such operation.
pub(super) fn namespace(state: &mut State, op: &str, args: &[Wire<'_>]) -> Option<WireOut> {
    let Some(namespace) = state.resources.namespace(number(args, 0)) else { return Some(Wire::error("TypeError", "no such namespace")) };
    Some(match op {
        "namespace.unique" => namespace.unique().into(),
        "namespace.id" => name(args, 1).map_or_else(bad_name, |name| namespace.id_of(&name).into()),
        "namespace.owns" => name(args, 1).is_some_and(|id| namespace.owns(&id)).into(),
        "namespace.get" => {
            let given = |at: usize| args.get(at).is_some_and(Wire::is_some);
            let (id, of_name) = (name(args, 1), name(args, 2));
            if given(1) != id.is_some() || given(2) != of_name.is_some() {
                return Some(bad_name());
            }
            match (id, of_name) {
                (Some(id), _) if !namespace.owns(&id) => Wire::error("TypeError", "the id is not one of this namespace"),
                (Some(id), of_name) => channel(state, namespace.target(&id, of_name.as_deref())),
                (None, Some(name)) => channel(state, namespace.target(&namespace.id_of(&name), Some(&name))),
                (None, None) => bad_name(),
            }
        }
        _ => return None,
    })
}
