//! Snapshots: a live isolate is written down, wakes where it was, forks, and what does not belong to the image or is
//! damaged is refused.

use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use skep_isolate::{IMAGE_HASH, Image, Isolate, Snapshot, SnapshotError, Worker};

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
    BYTES.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let isolate = Isolate::start(image(), counter());
            result(&isolate, "send").await;
            isolate.snapshot().await.unwrap().to_bytes()
        })
    })
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
    fn garbage_is_no_snapshot(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        prop_assert!(Snapshot::from_bytes(&bytes).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Behind a correct checksum, sizes, indexes and the packed pages may say anything: an error or an isolate that
    /// fails, never a panic, and never more memory than the limit.
    #[test]
    fn a_forged_snapshot_harms_nobody(at in 8_usize..400, value in any::<[u8; 4]>()) {
        let mut bytes = specimen().to_vec();
        let at = at.min(bytes.len() - 8);
        bytes[at..at + 4].copy_from_slice(&value);
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
