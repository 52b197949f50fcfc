//! The engine: one Wasmtime engine, its pool of slots, the clock of time slices, and the threads for long turns.
//! A node has one; nothing in it is global, so two can live in one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::cpu;
use crate::isolate::Evictable;
use crate::wasm::{Compile, Places, Wasm};

/// Length of a time slice. A turn that is still running after its first slices moves to the threads for long turns.
const TICK: Duration = Duration::from_millis(1);

/// How long a start waits for the isolate that was asked to end before it asks another.
const EVICT_AGAIN: Duration = Duration::from_millis(50);

/// Niceness of the threads for long turns: the kernel then prefers the threads that answer requests.
const LONG_TURN_NICENESS: i32 = 10;

/// Address space of one slot. 4 GiB lets compiled code skip bounds checks (they cost about 25 %); address space is not
/// memory; the largest hole of a process (below its own code, at 85 TiB) holds about 21,000 such slots.
const SLOT_BYTES: u64 = 4 << 30;

/// Native stack of one running turn. The guest's own stack check (1.75 MiB of its shadow stack) must hit first: with 3 MiB of it the
/// deepest native use seen was 10.6 MiB, see the padding in xtask/src/quickjs/stack.rs. Pages are touched as they are used.
const TURN_STACK_BYTES: usize = 16 << 20;

/// Settings of an engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Most isolates alive (not hibernated) at once. Each takes 4 GiB of address space and five memory mappings
    /// (`vm.max_map_count`, 65,530 unless the administrator raised it), but memory only for what it touches. Default 8192.
    pub isolates_max: u32,
    /// Largest linear memory of any isolate, in MiB; the limit of a worker may be lower. Default 512.
    pub memory_mb_max: u32,
    /// Threads for turns longer than a time slice; 0 means one per core. Default 0.
    pub long_turn_threads: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { isolates_max: 8192, memory_mb_max: 512, long_turn_threads: 0 }
    }
}

/// Why an engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Wasmtime refused the configuration, most often for lack of address space.
    #[error("the Wasm engine does not start: {0:#} (is the address space limited, or isolates_max too high?)")]
    Wasmtime(wasmtime::Error),
    /// Threads could not be started.
    #[error("cannot start the engine's threads")]
    Threads(#[source] std::io::Error),
}

struct Inner {
    wasmtime: wasmtime::Engine,
    config: EngineConfig,
    live: Arc<Semaphore>,
    /// Isolates that may be ended while they are idle.
    evictable: Mutex<Vec<Evictable>>,
    long_turns: Option<tokio::runtime::Runtime>,
    /// Places for blocking work.
    blocking: Arc<Semaphore>,
    wasm: Wasm,
    stop_clock: Arc<AtomicBool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop_clock.store(true, Ordering::Relaxed);
        if let Some(runtime) = self.long_turns.take() {
            // An engine may be dropped inside another runtime, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

/// The engine; a cheap clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

/// How much of the engine is for Wasm of workers, beyond the isolates themselves.
struct WasmShares {
    instances: u32,
    memories: u32,
    stacks: u32,
    heaps: u32,
}

impl WasmShares {
    fn of(config: &EngineConfig) -> Self {
        let isolates = config.isolates_max;
        Self { instances: isolates / 4 + 128, memories: isolates / 8 + 32, stacks: isolates / 8 + 128, heaps: isolates / 64 + 16 }
    }
}

fn wasmtime_config(config: &EngineConfig) -> Config {
    let memory_bytes = (config.memory_mb_max as usize) << 20;
    let mut pool = PoolingAllocationConfig::default();
    let (isolates, shares) = (config.isolates_max, WasmShares::of(config));
    pool.total_core_instances(isolates + shares.instances + 1)
        // Heaps of references are memories to the pool; memories of the workers' own modules are not in it.
        .total_memories(isolates + shares.heaps + 1)
        .total_gc_heaps(shares.heaps)
        .total_tables(isolates + shares.instances + 1)
        // A store keeps its native stack between turns, so there is one for each, and one for each call into Wasm and back.
        .total_stacks(isolates + shares.stacks + 1)
        .max_memory_size(memory_bytes)
        .max_memories_per_module(1)
        .max_tables_per_module(4)
        .table_elements(100_000)
        .max_core_instance_size(4 << 20)
        // The shared pages of warm slots would have to be compared and reset one by one; unmapping is what makes a
        // freed slot read as zero for the next tenant.
        .linear_memory_keep_resident(0)
        .table_keep_resident(0)
        .async_stack_keep_resident(64 << 10)
        .max_unused_warm_slots(64);
    let mut wasmtime = compile_config();
    wasmtime.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    wasmtime
}

/// What compiled code depends on: the same for this engine and for the process that compiles workers' modules.
pub(crate) fn compile_config() -> Config {
    let mut wasmtime = Config::new();
    wasmtime
        .memory_init_cow(true)
        .memory_reservation(SLOT_BYTES)
        .memory_guard_size(64 << 10)
        .epoch_interruption(true)
        .async_stack_size(TURN_STACK_BYTES)
        // What a deep recursion touched goes back to the system with its slot, and nothing stays in it for the next tenant.
        .async_stack_zeroing(true)
        .max_wasm_stack(TURN_STACK_BYTES - (256 << 10))
        .wasm_backtrace_max_frames(None)
        // What workers' modules cannot have: their memories are shared with the guest one by one, and each has 4 GiB.
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_function_references(false)
        .wasm_gc(false)
        .wasm_exceptions(false);
    wasmtime
}

impl Engine {
    /// Starts an engine: reserves the pool's address space, starts its clock and its threads.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let wasmtime = wasmtime::Engine::new(&wasmtime_config(&config)).map_err(EngineError::Wasmtime)?;
        let threads = match config.long_turn_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let long_turns = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("skep-long-turn")
            .on_thread_start(|| {
                // Without permission the threads are merely not nicer; nothing else depends on it.
                let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), LONG_TURN_NICENESS);
            })
            .build()
            .map_err(EngineError::Threads)?;
        let stop_clock = Arc::new(AtomicBool::new(false));
        start_clock(wasmtime.weak(), stop_clock.clone()).map_err(EngineError::Threads)?;
        let live = Arc::new(Semaphore::new(config.isolates_max as usize));
        let blocking = Arc::new(Semaphore::new(threads));
        let shares = WasmShares::of(&config);
        let places = |n: u32| Arc::new(Semaphore::new(n as usize));
        let wasm = Wasm::new(Places {
            stacks: places(shares.stacks),
            instances: places(shares.instances),
            memories: places(shares.memories),
            heaps: places(shares.heaps),
        });
        let inner = Inner { wasmtime, config, live, evictable: Mutex::default(), long_turns: Some(long_turns), blocking, wasm, stop_clock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The Wasmtime engine.
    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.wasmtime
    }

    /// Wasm of workers.
    pub(crate) fn wasm(&self) -> &Wasm {
        &self.inner.wasm
    }

    /// Says who compiles the Wasm modules of workers; until then they are refused.
    pub fn set_compiler(&self, compile: Arc<dyn Compile>) {
        self.inner.wasm.set_compiler(compile);
    }

    /// The settings in force.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// Isolates that could still be started.
    pub fn free_slots(&self) -> usize {
        self.inner.live.available_permits()
    }

    /// A place for one live isolate; waits up to `most` while all are taken. Idle isolates that may be ended then are, whoever
    /// refers to them: isolates that hold stubs of one another would otherwise keep their places for ever.
    pub(crate) async fn slot(&self, most: Duration) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = self.inner.live.clone().try_acquire_owned() {
            return Some(slot);
        }
        let mut freed = std::pin::pin!(self.inner.live.clone().acquire_owned());
        let until = tokio::time::Instant::now() + most;
        loop {
            self.evict_one();
            let again = (tokio::time::Instant::now() + EVICT_AGAIN).min(until);
            if let Ok(slot) = tokio::time::timeout_at(again, &mut freed).await {
                return slot.ok();
            }
            if again == until {
                return None;
            }
        }
    }

    /// Takes note of an isolate that may be ended while it is idle.
    pub(crate) fn may_evict(&self, isolate: Evictable) {
        let mut evictable = self.inner.evictable.lock();
        let live = self.inner.config.isolates_max as usize - self.inner.live.available_permits();
        if evictable.len() > 2 * live + 64 {
            evictable.retain(Evictable::is_alive);
        }
        evictable.push(isolate);
    }

    /// Asks the isolate that has been idle longest to end. A linear search: it happens when all places are taken.
    fn evict_one(&self) {
        let evictable = self.inner.evictable.lock();
        let idle = evictable.iter().filter_map(|isolate| Some((isolate.idle()?, isolate)));
        if let Some((_, isolate)) = idle.min_by_key(|(rank, _)| *rank) {
            isolate.evict();
        }
    }

    /// Continues a long turn on the threads made for it. Dropping the result drops the turn.
    pub(crate) async fn run_long<F>(&self, turn: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let runtime = self.inner.long_turns.as_ref()?;
        let task = AbortOnDrop(runtime.spawn(turn));
        let mut task = task;
        (&mut task.0).await.ok()
    }

    /// Runs blocking work (a slow key derivation) off the threads that answer requests, on as many threads as there are for
    /// long turns. Returns the CPU time it took as well, in microseconds.
    pub(crate) async fn run_blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<(T, u64)> {
        let place = self.inner.blocking.clone().acquire_owned().await.ok()?;
        let timed = move || {
            let from = cpu::thread_us();
            let done = work();
            drop(place);
            (done, cpu::thread_us().saturating_sub(from))
        };
        self.inner.long_turns.as_ref()?.spawn_blocking(timed).await.ok()
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One clock per engine: a thread that advances the epoch every tick for as long as the engine lives.
fn start_clock(engine: wasmtime::EngineWeak, stop: Arc<AtomicBool>) -> std::io::Result<()> {
    let tick = move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(TICK);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    };
    std::thread::Builder::new().name("skep-epoch".into()).spawn(tick).map(drop)
}
