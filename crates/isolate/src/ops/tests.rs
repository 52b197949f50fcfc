//! The boundary under garbage: any operation with any arguments gives a value or an error, never a panic, and leaves no
//! more behind than was asked for.

use proptest::prelude::*;

use std::sync::Arc;

use super::*;
use crate::durable::{ActorClass, ActorSnapshot, Durable, Namespace};
use crate::instance::EFFECTS_MAX;
use crate::socket::Socket;
use crate::target::{BoxFuture, CallError, Request, Response, Target};
use crate::wire;
use crate::worker::{Code, Worker};

/// What the engine answers itself, and names that are none.
const OWN: &[&str] = &[
    "start",
    "abandon",
    "module.load",
    "stream.open",
    "stream.close",
    "stream.abort",
    "stream.cancel",
    "ws.open",
    "ws.accept",
    "ws.send",
    "ws.close",
    "channel.drop",
    "channel.drop.after",
    "channel.export",
    "channel.entrypoint",
    "channel.dup",
    "channel.watch",
    "loader.get",
    "loader.code",
    "loader.fail",
    "loader.entrypoint",
    "loader.class",
    "loader.drop",
    "loader.",
    "namespace.id",
    "namespace.unique",
    "namespace.owns",
    "namespace.get",
    "namespace.",
    "actor.gate",
    "actor.abort",
    "actor.sql",
    "actor.facet",
    "actor.facet.abort",
    "actor.ws.keep",
    "actor.ws.send",
    "actor.",
    "loaded",
    "respond",
    "respond.with",
    "result",
    "fail",
    "done",
    "log",
    "exception",
    "no.such",
];

fn operation() -> impl Strategy<Value = &'static str> {
    let own = prop::sample::select(OWN);
    prop_oneof![own, prop::sample::select(host::OPERATIONS)]
}

fn value() -> impl Strategy<Value = WireOut> {
    let words = prop::sample::select(vec!["gzip", "SHA-256", "utf-8", "http://a/b", "fetch", "stream.write", "host", "default", "main.js"]);
    let leaf = prop_oneof![
        Just(Wire::Undefined),
        Just(Wire::Null),
        any::<bool>().prop_map(WireOut::from),
        any::<u32>().prop_map(WireOut::from),
        (0..4_u32).prop_map(WireOut::from),
        any::<f64>().prop_map(WireOut::from),
        ".{0,20}".prop_map(WireOut::from),
        words.prop_map(|w| WireOut::from(w.to_owned())),
        prop::collection::vec(any::<u8>(), 0..64).prop_map(WireOut::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Wire::Array),
            prop::collection::vec(("[a-zA-Z]{0,9}", inner), 0..4).prop_map(Wire::object),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_values(actor in any::<bool>(), calls in prop::collection::vec((operation(), prop::collection::vec(value(), 0..6)), 1..8)) {
        let mut state = State::unused();
        if actor {
            state.durable = Some(Box::new(Forgetful));
        }
        let n = calls.len();
        for (op, args) in calls {
            let mut message = Vec::new();
            Wire::Array(args).encode(&mut message);
            let mut answer = Vec::new();
            call(&mut state, op.as_bytes(), &message).encode(&mut answer);
            prop_assert!(wire::decode(&answer).is_ok());
        }
        prop_assert!(state.take_effects().len() <= n);
    }

    #[test]
    fn any_bytes(op in operation(), name in prop::collection::vec(any::<u8>(), 0..12), message in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut state = State::unused();
        call(&mut state, op.as_bytes(), &message);
        call(&mut state, &name, &message);
        prop_assert!(state.take_effects().len() <= 2);
    }
}

/// What is behind an actor that keeps nothing: it answers with what it is asked, ten times.
#[derive(Debug)]
struct Forgetful;

impl Durable for Forgetful {
    fn call(&mut self, _op: &str, args: &[Wire<'_>], _room: usize) -> WireOut {
        Wire::Array((0..10).flat_map(|_| args.iter().cloned().map(Wire::into_owned)).collect())
    }

    fn alarm_done(&mut self, _name: &str) {}

    fn end_turn(&mut self) -> Option<BoxFuture<Result<(), String>>> {
        None
    }

    fn cut_off(&mut self) {}

    fn start(&mut self, _op: &str, _args: Vec<WireOut>) -> BoxFuture<Result<WireOut, (String, String)>> {
        Box::pin(async { Ok(Wire::Undefined) })
    }

    fn carry_out(&mut self, _op: &str, _args: Vec<WireOut>) {}

    fn keep_socket(&mut self, _number: u32, _socket: Socket, _args: &[WireOut]) {}

    fn last_socket(&self) -> u32 {
        0
    }

    fn facet(&mut self, _name: &str, class: Option<ActorClass>, _id: Option<&str>) -> Result<Option<Arc<dyn Target>>, (String, String)> {
        match class {
            Some(_) => Err(("TypeError".into(), "none are started here".into())),
            None => Ok(None),
        }
    }

    fn snapshot(&mut self, bookmark: Option<&str>) -> Result<ActorSnapshot, (String, String)> {
        Ok(ActorSnapshot { actor: "a".into(), bookmark: bookmark.unwrap_or("now").to_owned() })
    }

    fn adopt(&mut self, snapshot: &ActorSnapshot) -> Result<String, (String, String)> {
        Ok(snapshot.bookmark.clone())
    }
}

/// One namespace of two ids.
#[derive(Debug)]
struct Pair;

impl Namespace for Pair {
    fn id_of(&self, name: &str) -> String {
        name.to_owned()
    }

    fn unique(&self) -> String {
        "b".into()
    }

    fn owns(&self, id: &str) -> bool {
        matches!(id, "a" | "b")
    }

    fn target(&self, _id: &str, _name: Option<&str>) -> Arc<dyn Target> {
        Arc::new(Nowhere)
    }
}

#[derive(Debug)]
struct Nowhere;

impl Target for Nowhere {
    fn fetch(&self, _request: Request) -> BoxFuture<Result<Response, CallError>> {
        Box::pin(async { Err(CallError::Refused("nowhere".into())) })
    }
}

fn is_error(answer: &WireOut, of: &str) -> bool {
    matches!(answer, Wire::Error { name, .. } if name.raw() == of.as_bytes())
}

#[test]
fn an_isolate_that_is_no_actor_has_nothing_behind_it() {
    for op in ["actor.sql", "actor.kv.get", "actor.gate", "actor.abort", "actor.ws.keep", "actor.ws.send", "actor.facet", "actor.nonsense"]
    {
        let mut state = State::unused();
        let answer = call(&mut state, op.as_bytes(), &message(vec![true.into(), "x".into()]));
        assert!(is_error(&answer, "TypeError"), "{op}: {answer:?}");
        assert!(state.take_effects().is_empty() && state.aborted.is_none(), "{op}");
    }
}

#[test]
fn forged_numbers_of_namespaces_and_classes_find_nothing() {
    let mut state = State::unused();
    state.durable = Some(Box::new(Forgetful));
    let namespace = state.resources.add_namespace(Arc::new(Pair));
    let service = state.resources.add_channel(Arc::new(Nowhere)).unwrap();
    let mut ask = |op: &str, args: Vec<WireOut>| call(&mut state, op.as_bytes(), &message(args));
    for forged in [0, service, namespace + 7, u32::MAX] {
        for op in ["namespace.id", "namespace.unique", "namespace.owns", "namespace.get"] {
            assert!(is_error(&ask(op, vec![forged.into(), "a".into()]), "TypeError"), "{op} {forged}");
        }
        assert!(is_error(&ask("actor.facet", vec!["f".into(), forged.into(), Wire::Null]), "TypeError"), "{forged}");
        assert!(is_error(&ask("actor.adopt", vec![forged.into()]), "TypeError"), "{forged}");
    }
    assert!(is_error(&ask("namespace.get", vec![namespace.into(), "c".into()]), "TypeError"), "an id of somebody else");
    assert!(is_error(&ask("namespace.get", vec![namespace.into(), "a".into(), 7_u32.into()]), "TypeError"), "a name that is none");
    assert!(is_error(&ask("namespace.id", vec![namespace.into(), "x".repeat(70_000).into()]), "TypeError"));
    assert!(is_error(&ask("actor.facet", vec!["x".repeat(70_000).into()]), "TypeError"));
    assert_eq!(ask("namespace.owns", vec![namespace.into(), "a".into()]), Wire::Bool(true));
    assert!(ask("namespace.get", vec![namespace.into(), "a".into()]).as_u32().is_some());
    assert_eq!(ask("actor.facet", vec!["f".into()]), Wire::Null);
    assert!(is_error(&ask("actor.adopt", vec!["a".into(), "now".into()]), "TypeError"), "who has no channel to a snapshot cannot name one");
    let Wire::Array(snapshot) = ask("actor.snapshot", vec![Wire::Null]) else { panic!("no snapshot") };
    assert_eq!(ask("actor.adopt", vec![snapshot[0].clone()]), "now".into());
}

#[test]
fn an_answer_beyond_the_room_is_refused() {
    let mut state = state_of(8);
    state.durable = Some(Box::new(Forgetful));
    let ask = message(vec![vec![0_u8; 1 << 20].into()]);
    assert!(is_range_error(&call(&mut state, b"actor.sql", &ask)), "ten times as much is more than half of the limit");
    assert!(!is_range_error(&call(&mut state, b"actor.sql", &message(vec![vec![0_u8; 1 << 10].into()]))));
}

/// What others notice waits for the log like everything else.
#[test]
fn an_actor_drops_channels_and_streams_behind_the_gate() {
    let mut state = State::unused();
    state.durable = Some(Box::new(Forgetful));
    let channel = state.resources.add_channel(Arc::new(Nowhere)).unwrap();
    for op in ["channel.drop", "stream.cancel"] {
        assert_eq!(call(&mut state, op.as_bytes(), &message(vec![channel.into()])), Wire::Undefined);
    }
    assert!(state.resources.channel(channel).is_some());
    assert_eq!(state.take_effects().len(), 2);
}

fn message(args: Vec<WireOut>) -> Vec<u8> {
    Wire::Array(args).to_vec()
}

fn state_of(memory_mb: u32) -> State {
    let mut worker = Worker::new(Code::default());
    worker.limits.memory_mb = memory_mb;
    State::new(Arc::new(worker))
}

#[test]
fn a_flood_of_effects_is_refused() {
    let mut state = state_of(1_024);
    let close = message(vec![1_u32.into()]);
    for _ in 0..EFFECTS_MAX {
        assert_eq!(call(&mut state, b"stream.close", &close), Wire::Undefined);
    }
    assert!(matches!(call(&mut state, b"stream.close", &close), Wire::Error { .. }));
    assert_eq!(call(&mut state, b"abandon", &close), Wire::Undefined);
    assert_eq!(state.take_effects().len(), EFFECTS_MAX);
    assert_eq!(call(&mut state, b"stream.close", &close), Wire::Undefined);
}

fn is_range_error(answer: &WireOut) -> bool {
    matches!(answer, Wire::Error { name, .. } if name.raw() == b"RangeError")
}

/// Whatever holds bytes on the host is refused where the memory limit is reached, and has room again once they are gone.
#[test]
fn a_flood_of_effect_bytes_is_refused() {
    let mebibyte = || WireOut::from(vec![0_u8; 1 << 20]);
    for (op, args) in [
        ("start", vec!["rpc".into(), 1_u32.into(), 2_u32.into(), mebibyte()]),
        ("start", vec!["stream.write".into(), 1_u32.into(), 2_u32.into(), mebibyte()]),
        ("ws.send", vec![1_u32.into(), mebibyte()]),
        ("result", vec![1_u32.into(), mebibyte()]),
        ("start", vec!["fetch".into(), 1_u32.into(), Wire::Array(vec![Wire::Null; 40_000])]),
    ] {
        let mut state = state_of(8);
        let message = message(args);
        let taken = (0..100).take_while(|_| !is_range_error(&call(&mut state, op.as_bytes(), &message))).count();
        assert!((3..8).contains(&taken), "{op}: {taken}");
        state.take_effects();
        assert!(!is_range_error(&call(&mut state, op.as_bytes(), &message)), "{op}");
    }
}

#[test]
fn codecs_and_the_like_count_as_memory() {
    let mut state = state_of(4);
    let open = message(vec!["gzip".into(), true.into()]);
    let opened = (0..100).take_while(|_| !is_range_error(&call(&mut state, b"zip.open", &open))).count();
    assert!((5..=10).contains(&opened), "{opened}");
    // A Brotli decoder counts with the largest window until it has seen its stream's.
    let mut big = state_of(128);
    let open = message(vec!["br".into(), false.into()]);
    let opened = (0..100).take_while(|_| !is_range_error(&call(&mut big, b"zip.open", &open))).count();
    assert_eq!(opened, 6);
    assert!(is_range_error(&call(&mut state, b"ws.send", &message(vec![1_u32.into(), vec![0_u8; 1 << 20].into()]))));
}

#[test]
fn a_refused_write_cuts_its_stream_off() {
    let mut state = state_of(1);
    let write = message(vec!["stream.write".into(), 1_u32.into(), 7_u32.into(), vec![0_u8; 2 << 20].into()]);
    assert!(is_range_error(&call(&mut state, b"start", &write)));
    let effects = state.take_effects();
    assert!(matches!(&effects[..], [Effect::Do { op: "stream.abort", args }] if number(args, 0) == 7), "{effects:?}");
}

#[test]
fn a_console_flood_is_cut_and_said() {
    let mut state = state_of(64);
    let line = message(vec!["log".into(), "é".repeat(100_000).into()]);
    for _ in 0..1_000 {
        assert_eq!(call(&mut state, b"log", &line), Wire::Undefined);
    }
    let lines: Vec<String> = state
        .take_effects()
        .iter()
        .map(|effect| match effect {
            Effect::Do { op: "log", args } => text(args, 1),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(lines.iter().map(String::len).sum::<usize>() <= 1 << 20);
    assert!(lines[0].ends_with("é…"), "cut within a character");
    assert!(lines.last().unwrap().contains("993 more lines"), "{:?}", lines.last());
}

#[test]
fn numbers_that_were_never_given_find_nothing() {
    for op in ["channel.dup", "loader.get", "loader.code", "loader.entrypoint", "hash.finish", "zip.push"] {
        let mut state = State::unused();
        let message = message(vec![7_u32.into()]);
        assert!(matches!(call(&mut state, op.as_bytes(), &message), Wire::Error { .. }), "{op}");
    }
}
