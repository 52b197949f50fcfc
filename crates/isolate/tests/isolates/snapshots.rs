//! Snapshots: a live isolate is written down, wakes where it was, forks, and what does not belong to the image or is
//! damaged is refused.

use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use skep_isolate::{Binding, IMAGE_HASH, Image, Isolate, Snapshot, SnapshotError, Worker};

use crate::worlds::{Outside, call, image, image_of_own, worker};

const COUNTER: &str = "
    let n = 0, release, ticks = 0;
    const gate = new Promise(resolve => { release = resolve });
    const answered = gate.then(v => 'the gate gave ' + v);
    let later;
    let lost = 'pending';
    export const add = () => ++n;
    export const open = () => { release('way'); return answered };
    export const arm = () => { later = new Promise(r => setTimeout(() => r('the timer ran after ' + n), 120)) };
    export const wait = () => later;
    export const send = () => { fetch('http://silent/').catch(e => { lost = e.name }) };
    export const fate = () => lost;
    export const draw = () => [Math.random(), crypto.randomUUID()].join(' ');
    export default {}";

fn counter() -> Arc<Worker> {
    let mut worker = worker(COUNTER);
    worker.outbound = Some(Arc::new(Outside::Silent));
    Arc::new(worker)
}

async fn written(isolate: &Isolate) -> Snapshot {
    Snapshot::from_bytes(&isolate.snapshot().await.unwrap().to_bytes()).unwrap()
}

async fn result(isolate: &Isolate, export: &str) -> String {
    call(isolate, export).await.unwrap()
}

#[tokio::test]
async fn closures_promises_and_timers_survive() {
    let before = Isolate::start(image(), counter());
    assert_eq!(result(&before, "add").await, "1");
    result(&before, "arm").await;
    let snapshot = written(&before).await;
    before.gone().await;
    let after = Isolate::wake(image(), counter(), snapshot).unwrap();
    assert_eq!(result(&after, "add").await, "2");
    assert_eq!(result(&after, "open").await, r#""the gate gave way""#);
    assert_eq!(result(&after, "wait").await, r#""the timer ran after 2""#);
}

#[tokio::test]
async fn a_snapshot_wakes_in_another_engine() {
    let before = Isolate::start(image(), counter());
    result(&before, "add").await;
    let snapshot = written(&before).await;
    let other = image_of_own(2);
    let after = Isolate::wake(&other, counter(), snapshot).unwrap();
    assert_eq!(result(&after, "add").await, "2");
}

#[tokio::test]
async fn the_original_runs_on_and_a_snapshot_wakes_many_times() {
    let original = Isolate::start(image(), counter());
    result(&original, "add").await;
    let snapshot = written(&original).await;
    let forks = [1, 2, 3].map(|_| Isolate::wake(image(), counter(), snapshot.clone()).unwrap());
    assert_eq!(result(&original, "add").await, "2");
    for fork in &forks {
        assert_eq!(result(fork, "add").await, "2");
    }
    assert_eq!(result(&original, "add").await, "3");
}

#[tokio::test]
async fn forks_draw_different_numbers() {
    let original = Isolate::start(image(), counter());
    result(&original, "draw").await;
    let snapshot = written(&original).await;
    let mut drawn = vec![result(&original, "draw").await];
    for _ in 0..3 {
        drawn.push(result(&Isolate::wake(image(), counter(), snapshot.clone()).unwrap(), "draw").await);
    }
    let mut words: Vec<&str> = drawn.iter().flat_map(|d| d.trim_matches('"').split(' ')).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), 8, "{drawn:?}");
}

#[tokio::test]
async fn what_was_in_flight_is_lost_with_a_named_error() {
    let before = Isolate::start(image(), counter());
    result(&before, "send").await;
    let snapshot = written(&before).await;
    assert_eq!(result(&before, "fate").await, r#""pending""#);
    let after = Isolate::wake(image(), counter(), snapshot).unwrap();
    assert_eq!(result(&after, "fate").await, r#""HibernationError""#);
}

/// Bindings that scripts hold mean what the host says after waking, although its numbers are others; numbers of the former life that are let
/// go of do not hit what has them now.
#[tokio::test]
async fn stubs_mean_the_new_table_after_waking() {
    const HOLDER: &str = "
        import { env, exports } from 'cloudflare:workers';
        const held = env.A;
        let own;
        export const take = () => { own = exports.default; return env.A === held };
        export const letGo = () => { own[Symbol.dispose](); return env.A === held };
        export const ask = async () => (await held.fetch('http://a/')).status;
        export default {}";
    let holder = |bindings: &[(&str, Outside)]| {
        let mut worker = worker(HOLDER);
        worker.bindings = bindings.iter().map(|(name, outside)| ((*name).into(), Binding::Service(Arc::new(*outside)))).collect();
        Arc::new(worker)
    };
    let before = Isolate::start(image(), holder(&[("A", Outside::Answers)]));
    assert_eq!(result(&before, "take").await, "true");
    assert_eq!(result(&before, "ask").await, "204");
    let snapshot = written(&before).await;
    let after = Isolate::wake(image(), holder(&[("0", Outside::Silent), ("A", Outside::Answers)]), snapshot).unwrap();
    assert_eq!(result(&after, "ask").await, "204");
    assert_eq!(result(&after, "letGo").await, "true");
    assert_eq!(result(&after, "ask").await, "204");
}

#[tokio::test]
async fn an_ended_isolate_gives_none() {
    let isolate = Isolate::start(image(), Arc::new(worker("for (;;);")));
    assert!(isolate.ready().await.is_err());
    assert_eq!(isolate.snapshot().await, Err(SnapshotError::Ended));
}

#[tokio::test]
async fn another_image_is_refused() {
    let isolate = Isolate::start(image(), counter());
    let snapshot = written(&isolate).await;
    // `(module (memory (export "memory") 1))`: enough of a module to be loaded under a name.
    let wasm = b"\0asm\x01\0\0\0\x05\x03\x01\0\x01\x07\x0a\x01\x06memory\x02\0";
    let other = Image::from_wasm(image().engine(), wasm, "another build of it", None).unwrap();
    let refused = Isolate::wake(&other, counter(), snapshot).unwrap_err();
    let SnapshotError::OtherImage { found, expected } = &refused else { panic!("{refused}") };
    assert_eq!((found.as_str(), expected.as_str()), (&IMAGE_HASH[..16], "another build of"));
    assert!(refused.to_string().contains("start the worker afresh"), "{refused}");
}

/// Bytes of one snapshot, made once.
fn specimen() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let make = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let isolate = Isolate::start(image(), counter());
            result(&isolate, "send").await;
            isolate.snapshot().await.unwrap().to_bytes()
        })
    };
    // On a thread of its own: some callers are in a runtime already.
    BYTES.get_or_init(|| std::thread::spawn(make).join().unwrap())
}

/// With the checksum put right, as someone would who forges on purpose.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let body = bytes.len() - 4;
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[..body]);
    bytes[body..].copy_from_slice(&crc.sum().to_le_bytes());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_truncated_snapshot_is_refused(cut in any::<prop::sample::Index>()) {
        let bytes = specimen();
        prop_assert!(Snapshot::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut bytes = specimen().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Snapshot::from_bytes(&bytes).is_err());
    }

    #[test]
    fn garbage_behind_a_good_head_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), from in 8_usize..60) {
        let forged = resealed([&specimen()[..from], &bytes, &[0; 4]].concat());
        prop_assert!(Snapshot::from_bytes(&forged).is_err());
    }

    #[test]
    fn garbage_is_no_snapshot(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        prop_assert!(Snapshot::from_bytes(&bytes).is_err());
    }
}

/// Where the numbers of the header stand: memory, pages, timer, lost operations.
const HEADER: [usize; 4] = [24, 32, 40, 48];
const FRAME: usize = 56;

/// A specimen without lost operations, with one number of its header changed.
fn forged(field: usize, value: u64) -> Vec<u8> {
    let mut bytes = specimen().to_vec();
    bytes[HEADER[field]..HEADER[field] + 8].copy_from_slice(&value.to_le_bytes());
    resealed(bytes)
}

fn number(bytes: &[u8], field: usize) -> u64 {
    u64::from_le_bytes(bytes[HEADER[field]..][..8].try_into().unwrap())
}

#[tokio::test]
async fn a_forged_page_count_is_refused_before_anything_is_allocated() {
    let pages = number(specimen(), 1);
    for more in [1 << 20, (4 << 30) / 4096, u64::MAX / 4108, u64::MAX / 4108 + 1, u64::MAX] {
        let refused = Snapshot::from_bytes(&forged(1, more));
        assert!(matches!(refused, Err(SnapshotError::Damaged(_))), "{more}: {refused:?}");
    }
    for other in [0, 1, pages - 1, pages + 1, pages * 2] {
        let Ok(snapshot) = Snapshot::from_bytes(&forged(1, other)) else { continue };
        let refused = Isolate::wake(image(), counter(), snapshot).unwrap().ready().await.unwrap_err();
        assert!(refused.to_string().contains("the snapshot is damaged"), "{other}: {refused}");
    }
}

#[test]
fn a_forged_count_of_lost_operations_is_refused() {
    for lost in [u64::MAX, u64::MAX / 4 + 1, 1 << 44, 1 << 30, specimen().len() as u64] {
        assert!(matches!(Snapshot::from_bytes(&forged(3, lost)), Err(SnapshotError::Damaged(_))), "{lost}");
    }
}

#[tokio::test]
async fn a_snapshot_beyond_the_memory_limit_is_refused() {
    let memory = number(specimen(), 0);
    for size in [(48 << 20) + (64 << 10), 1 << 40] {
        let snapshot = Snapshot::from_bytes(&forged(0, size)).unwrap();
        let refused = Isolate::wake(image(), counter(), snapshot).unwrap_err();
        assert_eq!(refused, SnapshotError::TooLarge { needed: size, most: 48 << 20 });
        assert!(refused.to_string().contains("raise its memory limit"), "{refused}");
    }
    for size in [0, 4096, memory - (64 << 10), memory + 1] {
        let woken = Snapshot::from_bytes(&forged(0, size)).and_then(|snapshot| Isolate::wake(image(), counter(), snapshot));
        assert!(matches!(woken, Err(SnapshotError::Damaged(_))), "{size}");
    }
    let honest = Isolate::start(
        image(),
        Arc::new(worker("const all = new Uint8Array(20 << 20).fill(1); export const f = () => all.length; export default {}")),
    );
    let snapshot = written(&honest).await;
    let mut small = worker("");
    small.limits.memory_mb = 16;
    assert!(matches!(Isolate::wake(image(), Arc::new(small), snapshot), Err(SnapshotError::TooLarge { .. })));
}

/// A snapshot whose frame holds these pages, all zeros.
fn packed(memory: u64, indexes: &[u32]) -> Vec<u8> {
    let mut plain: Vec<u8> = indexes.iter().flat_map(|i| [&i.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat()).collect();
    plain.resize(indexes.len() * (12 + 4096), 0);
    let mut bytes = specimen()[..FRAME].to_vec();
    for (field, value) in [(0, memory), (1, indexes.len() as u64), (3, 0)] {
        bytes[HEADER[field]..HEADER[field] + 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes.extend(zstd::bulk::compress(&plain, 1).unwrap());
    bytes.extend([0; 4]);
    resealed(bytes)
}

#[tokio::test]
async fn pages_twice_or_out_of_order_or_outside_are_refused() {
    let memory = number(specimen(), 0);
    let beyond = (memory / 4096) as u32;
    for indexes in [&[5, 5][..], &[6, 5], &[beyond], &[u32::MAX], &[0, u32::MAX]] {
        let snapshot = Snapshot::from_bytes(&packed(memory, indexes)).unwrap();
        let isolate = Isolate::wake(image(), counter(), snapshot).unwrap();
        let refused = isolate.ready().await.unwrap_err();
        assert!(refused.to_string().contains("the snapshot is damaged"), "{indexes:?}: {refused}");
    }
}

/// 40 MiB of zeros in a few KiB: within the limit, so it is unpacked; one that announces more than its memory holds is not.
#[tokio::test]
async fn a_bomb_is_bounded_by_the_memory_limit() {
    let pages: Vec<u32> = (0..(40 << 20) / 4096).collect();
    let bomb = packed(48 << 20, &pages);
    assert!(bomb.len() < 64 << 10, "{}", bomb.len());
    let isolate = Isolate::wake(image(), counter(), Snapshot::from_bytes(&bomb).unwrap()).unwrap();
    assert!(call(&isolate, "add").await.is_err());
    assert!(Snapshot::from_bytes(&packed(16 << 20, &pages)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    /// Behind a correct checksum, sizes, indexes and the packed pages may say anything: an error or an isolate that
    /// fails, never a panic, and never more memory than the limit.
    #[test]
    fn a_forged_snapshot_harms_nobody(head in any::<bool>(), at in any::<prop::sample::Index>(), value in any::<[u8; 4]>(), cut in 0_usize..100) {
        let mut bytes = specimen().to_vec();
        let at = if head { 24 + at.index(400) } else { 24 + at.index(bytes.len() - 32) };
        bytes[at..at + 4].copy_from_slice(&value);
        // Now and then truncated as well.
        bytes.truncate(bytes.len() - cut.saturating_sub(80));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let Ok(snapshot) = Snapshot::from_bytes(&resealed(bytes)) else { return };
            if let Ok(isolate) = Isolate::wake(image(), counter(), snapshot) {
                let _ = call(&isolate, "add").await;
                assert!(isolate.memory_bytes() <= 48 << 20);
            }
        });
    }
}
