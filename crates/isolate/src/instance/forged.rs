//! What a guest whose C code was subverted may ask of its host's Wasm: any operation, any handle, any pointer. A probe beside
//! the guest, with the guest's memory and imports, asks in its place. It gets an error or a trap; the host stays as it is.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use wasmtime::{Linker, Module};

use super::tests::wasm_worker;
use super::*;
use crate::engine::{Engine, EngineConfig};
use crate::wire::WireOut;

/// ```wat
/// (import "g" "memory" (memory 1))
/// (import "skep" "wasm" (func (param i32 i32 i32 i32 i32 i32) (result i32)))
/// (import "skep" "wasm_call" (func (param i32 i32 i32) (result i32)))
/// (export "memory" (memory 0))
/// (func (export "go") …)   ;; calls the first with its parameters
/// (func (export "call") …) ;; the second
/// ```
const PROBE: &[u8] = b"\0asm\x01\0\0\0\
    \x01\x12\x02\x60\x06\x7f\x7f\x7f\x7f\x7f\x7f\x01\x7f\x60\x03\x7f\x7f\x7f\x01\x7f\
    \x02\x2a\x03\x01g\x06memory\x02\0\x01\x04skep\x04wasm\0\0\x04skep\x09wasm_call\0\x01\
    \x03\x03\x02\0\x01\
    \x07\x16\x03\x06memory\x02\0\x02go\0\x02\x04call\0\x03\
    \x0a\x1d\x02\x10\0\x20\0\x20\x01\x20\x02\x20\x03\x20\x04\x20\x05\x10\0\x0b\x0a\0\x20\0\x20\x01\x20\x02\x10\x01\x0b";

const OPERATIONS: &[&str] = &[
    "module",
    "custom",
    "instantiate",
    "memory.new",
    "memory.map",
    "memory.size",
    "memory.grow",
    "table.new",
    "table.size",
    "table.type",
    "table.get",
    "table.set",
    "table.grow",
    "global.new",
    "global.get",
    "global.set",
    "func",
    "collect",
    "validate",
    "no.such",
];

#[derive(Clone, Debug)]
enum Ask {
    Operation { op: &'static str, args: Vec<WireOut> },
    Call { func: u32, values: Option<u32>, count: u32 },
    Pointers([u32; 6]),
}

fn value() -> impl Strategy<Value = WireOut> {
    let leaf = prop_oneof![
        Just(Wire::Undefined),
        Just(Wire::Null),
        any::<bool>().prop_map(WireOut::from),
        any::<u32>().prop_map(WireOut::from),
        (0..4_u32).prop_map(WireOut::from),
        (0..4_u32).prop_map(WireOut::from),
        any::<f64>().prop_map(WireOut::from),
        prop::sample::select(vec!["m.wasm", "i", "I", "f", "d", "c", "e", "v", "func", "memory", "table", "global", ""])
            .prop_map(WireOut::from),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(WireOut::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Wire::Array))
}

fn ask() -> impl Strategy<Value = Ask> {
    let number = || prop_oneof![0..4_u32, any::<u32>()];
    prop_oneof![
        6 => (prop::sample::select(OPERATIONS), prop::collection::vec(value(), 0..6)).prop_map(|(op, args)| Ask::Operation { op, args }),
        2 => (number(), prop::option::of(any::<u32>()), number()).prop_map(|(func, values, count)| Ask::Call { func, values, count }),
        1 => any::<[u32; 6]>().prop_map(Ask::Pointers),
    ]
}

/// Asks until something traps. Traps are the end of an instance, and a fair answer to nonsense.
async fn probe(image: &Image, worker: &Arc<Worker>, asks: &[Ask]) {
    let engine = image.engine();
    let mut instance = image.instance(worker.clone()).await.unwrap();
    instance.state().wasm.modules = engine.wasm().modules(engine, &worker.code).await;
    let load = event("load", vec!["main.js".into(), Wire::Array(vec![]), Wire::Null]);
    let (mut instance, _) = instance.turn(image, load, 10_000_000, 0.0).await.map_err(|stopped| stopped.stop).unwrap();
    let mut linker = Linker::new(engine.wasmtime());
    crate::wasm::link(&mut linker).unwrap();
    let (memory, inbox) = (instance.memory, instance.mailbox);
    linker.define(&mut instance.store, "g", "memory", memory).unwrap();
    let module = Module::new(engine.wasmtime(), PROBE).unwrap();
    let store = &mut instance.store;
    store.set_epoch_deadline(u64::from(u32::MAX));
    let probe = linker.instantiate_async(&mut *store, &module).await.unwrap();
    let go = probe.get_typed_func::<(u32, u32, u32, u32, u32, u32), u32>(&mut *store, "go").unwrap();
    let call = probe.get_typed_func::<(u32, u32, u32), u32>(&mut *store, "call").unwrap();
    for ask in asks {
        let answered = match ask {
            Ask::Operation { op, args } => {
                let mut bytes = op.as_bytes().to_vec();
                Wire::Array(args.clone()).encode(&mut bytes);
                if bytes.len() > Mailbox::INBOX_BYTES {
                    continue;
                }
                memory.write(&mut *store, inbox as usize, &bytes).unwrap();
                let (op, all) = (op.len() as u32, bytes.len() as u32);
                go.call_async(&mut *store, (inbox, op, inbox + op, all - op, inbox, Mailbox::INBOX_BYTES as u32)).await
            }
            Ask::Call { func, values, count } => call.call_async(&mut *store, (*func, values.unwrap_or(inbox), *count)).await,
            Ask::Pointers([a, b, c, d, e, f]) => go.call_async(&mut *store, (*a, *b, *c, *d, *e, *f)).await,
        };
        if answered.is_err() {
            return;
        }
    }
    let size = instance.memory.data_size(&instance.store);
    assert!(size <= (worker.limits.memory_mb as usize) << 20, "{size} bytes");
}

#[test]
fn forged_handles_and_pointers() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (image, worker) = runtime.block_on(async {
        let engine = Engine::new(EngineConfig { isolates_max: 4, ..EngineConfig::default() }).unwrap();
        (Image::load(&engine, None).unwrap(), wasm_worker(&engine))
    });
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() });
    runner
        .run(&prop::collection::vec(ask(), 1..12), |asks| {
            runtime.block_on(probe(&image, &worker, &asks));
            Ok(())
        })
        .unwrap();
    // The next tenant of the slots is served.
    runtime.block_on(probe(&image, &worker, &[]));
}
