//! One instance of the image: its memory, its entry points, and what it asked for during a turn.
//!
//! Driven by `isolate.rs`, one turn at a time. It does no I/O: a host call either is pure (answered here) or becomes an
//! [`Effect`] that the isolate's task carries out after the turn.

use std::sync::Arc;

use wasmtime::{Caller, Linker, Memory, ResourceLimiter, Store, TypedFunc, UpdateDeadline};

use crate::cpu::{Cpu, Tick, Timed};
use crate::durable::Durable;
use crate::held::Held;
use crate::host::Tables;
use crate::image::{Image, PAGE};
use crate::isolate::Exports;
use crate::loader::Coming;
use crate::ops;
use crate::random;
use crate::resources::Resources;
use crate::snapshot::Delta;
use crate::wasm::{self, ELEMENT_BYTES, ELEMENTS_MAX, Guest, Live};
use crate::wire::{self, Wire, WireOut};
use crate::worker::Worker;

/// Where host and guest meet in the guest's memory (`mailbox` in guest.c): offsets from its address, in bytes.
/// Everything there is the guest's to forge: what is read is a claim about itself and is checked before it is followed.
pub(crate) struct Mailbox;

impl Mailbox {
    /// A message of up to this size may be written at the start without asking for memory first.
    const INBOX_BYTES: usize = 2048;
    /// New randomness, taken when the next turn begins (`u64`).
    const SEED: usize = Self::INBOX_BYTES;
    /// Operations of the polling intervals that have ended (`u64`).
    const OPERATIONS: usize = Self::SEED + 8;
    /// Address of the countdown of the interval in progress (`u32`), which is an `i32`.
    const COUNTDOWN: usize = Self::OPERATIONS + 8;
    /// Where the countdown starts (`u32`).
    const INTERVAL: usize = Self::COUNTDOWN + 4;
    /// Not zero: a Wasm memory has grown, and buffers of it are out of date (`u32`).
    pub(crate) const GROWN: usize = Self::INTERVAL + 4;
}

/// Private pages above which an instance is dropped instead of cleaned: a tenant that used much would leave that much
/// resident in an idle slot.
const RECYCLED_PAGES_MAX: usize = 256;

/// Ticks a turn gets before it counts as long: the first tick may come at once.
const FIRST_SLICE_TICKS: u64 = 2;

/// Largest message that a guest may pass in one host call, in bytes. Larger bodies go through streams.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Effects that one turn may ask for. A flood is refused with an error inside the guest.
pub(crate) const EFFECTS_MAX: usize = 100_000;

/// Log lines of one turn, in bytes.
const LOG_BYTES_MAX: usize = 1 << 20;

const WASI: &str = "wasi_snapshot_preview1";
const WASI_NO_SUCH_CALL: i32 = 52;

/// What a guest asked its host to do, in order.
#[derive(Debug)]
pub(crate) enum Effect {
    /// An operation under the guest's own id.
    Start { id: u32, op: String, args: Vec<WireOut> },
    /// The guest no longer waits for that id.
    Abandon(u32),
    /// A synchronous operation that is not pure and whose result the guest does not need.
    Do { op: &'static str, args: Vec<WireOut> },
    /// The code of a worker that an actor loads.
    Arrive(Box<Coming>),
}

/// Why a turn did not end by itself. The isolate is gone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stop {
    Cpu,
    Memory,
    Trap(String),
    /// An actor asked for its end (`actor.abort`), with these arguments.
    Aborted(Vec<WireOut>),
}

/// A turn that was cut off, and what is left of it.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) stop: Stop,
    pub(crate) used: Used,
    /// What the guest had logged by then.
    pub(crate) logs: Vec<Effect>,
}

/// What an instance has used: the CPU time of its last turn in microseconds, the rest since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) cpu_us: u64,
    pub(crate) operations: u64,
    pub(crate) host_calls: u64,
    pub(crate) memory_peak: u64,
}

/// What host functions see.
pub(crate) struct State {
    pub(crate) worker: Arc<Worker>,
    pub(crate) tables: Tables,
    pub(crate) resources: Resources,
    effects: Vec<Effect>,
    /// Host memory of `effects`, in bytes.
    effect_bytes: usize,
    /// Bytes of log lines among them, and lines beyond the bound.
    log_bytes: usize,
    lines_dropped: u32,
    /// What the host holds for the guest beyond this turn.
    pub(crate) held: Held,
    /// Makes targets of what the guest passes by reference; absent where nobody could call back.
    pub(crate) exports: Option<Exports>,
    pub(crate) host_calls: u64,
    /// Linear memory, in bytes.
    memory: usize,
    /// Most of linear memory and what the host held for the guest, together.
    memory_peak: usize,
    memory_max: usize,
    /// Whether a turn was cut off: the instance may then be in any state.
    cut: bool,
    memory_exceeded: bool,
    answer: Vec<u8>,
    cpu: Arc<Cpu>,
    /// The worker's own Wasm.
    pub(crate) wasm: Live,
    /// What is behind an actor.
    pub(crate) durable: Option<Box<dyn Durable>>,
    /// The arguments of `actor.abort`: the host call that had them does not return.
    pub(crate) aborted: Option<Vec<WireOut>>,
}

impl State {
    pub(crate) fn new(worker: Arc<Worker>) -> Self {
        Self {
            memory_max: (worker.limits.memory_mb as usize) << 20,
            tables: Tables::default(),
            resources: Resources::new(worker.limits.pending as usize),
            worker,
            effects: Vec::new(),
            effect_bytes: 0,
            log_bytes: 0,
            lines_dropped: 0,
            held: Held::default(),
            exports: None,
            host_calls: 0,
            memory: 0,
            memory_peak: 0,
            cut: false,
            memory_exceeded: false,
            answer: Vec::new(),
            cpu: Arc::default(),
            wasm: Live::default(),
            durable: None,
            aborted: None,
        }
    }

    /// Host memory in use for the guest, in bytes.
    fn besides(&self) -> usize {
        self.effect_bytes + self.held.now() + self.tables.bytes() + self.resources.bytes()
    }

    /// Whether the guest may have `n` more bytes of the host's memory; if so, they count for its peak.
    pub(crate) fn room(&mut self, n: usize) -> bool {
        let wanted = self.memory.saturating_add(self.besides()).saturating_add(n);
        if wanted > self.memory_max {
            return false;
        }
        self.memory_peak = self.memory_peak.max(wanted);
        true
    }

    /// How many more bytes of the host's memory the guest may have.
    pub(crate) fn room_left(&self) -> usize {
        self.memory_max.saturating_sub(self.memory).saturating_sub(self.besides())
    }

    /// Host memory of what the turn asked for so far, in bytes.
    pub(crate) fn effect_bytes(&self) -> usize {
        self.effect_bytes
    }

    /// Counts `n` bytes that live as long as the isolate; `false` when there is no room.
    pub(crate) fn charge(&mut self, n: usize) -> bool {
        let room = self.room(n);
        if room {
            self.memory += n;
        }
        room
    }

    /// The memory limit, in bytes.
    pub(crate) fn memory_limit(&self) -> usize {
        self.memory_max
    }

    /// Takes up an effect of `bytes`; `false` when there are too many of them, or no room for it.
    pub(crate) fn push(&mut self, effect: Effect, bytes: usize) -> bool {
        if self.effects.len() >= EFFECTS_MAX || !self.room(bytes) {
            return false;
        }
        self.effect_bytes += bytes;
        self.effects.push(effect);
        true
    }

    /// Takes up an effect that gives something back, for which there is always room.
    pub(crate) fn push_unbounded(&mut self, effect: Effect) {
        if self.effects.len() < EFFECTS_MAX {
            self.effects.push(effect);
        }
    }

    /// Takes up a log line; what is beyond the bound of one turn is dropped, for a log is not worth an error.
    pub(crate) fn push_line(&mut self, line: Effect, bytes: usize) {
        if self.log_bytes + bytes > LOG_BYTES_MAX || !self.push(line, bytes) {
            self.lines_dropped = self.lines_dropped.saturating_add(1);
            return;
        }
        self.log_bytes += bytes;
    }

    /// What the turn asked for.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        (self.effect_bytes, self.log_bytes) = (0, 0);
        let mut effects = std::mem::take(&mut self.effects);
        let dropped = std::mem::take(&mut self.lines_dropped);
        if dropped > 0 {
            let said = format!("{dropped} more lines were dropped: one turn may log {} KiB", LOG_BYTES_MAX >> 10);
            effects.push(Effect::Do { op: "log", args: vec!["warn".into(), said.into()] });
        }
        effects
    }

    /// For an instance that never runs.
    pub(crate) fn unused() -> Self {
        Self::new(Arc::new(Worker::new(crate::worker::Code::default())))
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if self.wasm.placing {
            // Address space for pages that are counted already.
            return Ok(true);
        }
        let more = desired.saturating_sub(current);
        if self.wasm.inside {
            // Wasm that asks for too much is told so, as the standard has it.
            self.wasm.grown = true;
            return Ok(self.charge(more));
        }
        if !self.room(more) {
            self.memory_exceeded = true;
            return Err(wasmtime::Error::msg("memory limit"));
        }
        self.memory += more;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if self.wasm.inside {
            return Ok(desired <= ELEMENTS_MAX && self.charge(desired.saturating_sub(current) * ELEMENT_BYTES));
        }
        Ok(desired <= 20_000)
    }
}

/// The guest's memory, when the guest calls.
pub(crate) fn memory_of(caller: &mut Caller<'_, State>) -> wasmtime::Result<Memory> {
    caller.get_export("memory").and_then(|e| e.into_memory()).ok_or_else(|| wasmtime::Error::msg("the image exports no memory"))
}

/// Defines the imports of the image.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap("skep", "call", host_call)?;
    linker.func_wrap("skep", "take", host_take)?;
    wasm::link(linker)?;
    // The C library refers to standard streams, which an isolate does not have.
    linker.func_wrap(WASI, "fd_close", |_: i32| WASI_NO_SUCH_CALL)?;
    linker.func_wrap(WASI, "fd_fdstat_get", |_: i32, _: i32| WASI_NO_SUCH_CALL)?;
    linker.func_wrap(WASI, "fd_seek", |_: i32, _: i64, _: i32, _: i32| WASI_NO_SUCH_CALL)?;
    linker.func_wrap(WASI, "fd_write", |_: i32, _: i32, _: i32, _: i32| WASI_NO_SUCH_CALL)?;
    Ok(())
}

fn host_call(mut caller: Caller<'_, State>, op: u32, op_len: u32, args: u32, args_len: u32, out: u32, cap: u32) -> wasmtime::Result<u32> {
    let memory = memory_of(&mut caller)?;
    let (data, state) = memory.data_and_store_mut(&mut caller);
    state.host_calls += 1;
    let slice = |at: u32, len: u32| {
        let end = (at as usize).checked_add(len as usize)?;
        data.get(at as usize..end)
    };
    // Pointers out of range mean that the guest's C code was subverted: it gets a trap, not an error to work with.
    let (Some(op), Some(args)) = (slice(op, op_len), slice(args, args_len)) else {
        return Err(wasmtime::Error::msg("host call with pointers outside of memory"));
    };
    let answer = if args.len() > MESSAGE_BYTES_MAX {
        Wire::error("RangeError", "message to the host too large")
    } else {
        ops::call(state, op, args)
    };
    if state.aborted.is_some() {
        return Err(wasmtime::Error::msg("the actor was aborted"));
    }
    put_answer(memory, &mut caller, &answer, out, cap)
}

/// Gives the guest an answer: at `out` when it fits, else it is kept until the guest takes it. Returns its length.
pub(crate) fn put_answer(memory: Memory, caller: &mut Caller<'_, State>, answer: &WireOut, out: u32, cap: u32) -> wasmtime::Result<u32> {
    let (data, state) = memory.data_and_store_mut(caller);
    state.answer.clear();
    answer.encode(&mut state.answer);
    let len = state.answer.len();
    if len <= cap as usize {
        let target = (out as usize).checked_add(len).and_then(|end| data.get_mut(out as usize..end));
        target.ok_or_else(|| wasmtime::Error::msg("host call with pointers outside of memory"))?.copy_from_slice(&state.answer);
    }
    Ok(len as u32)
}

fn host_take(mut caller: Caller<'_, State>, out: u32) -> wasmtime::Result<()> {
    let memory = memory_of(&mut caller)?;
    let (data, state) = memory.data_and_store_mut(&mut caller);
    let answer = std::mem::take(&mut state.answer);
    let target = (out as usize).checked_add(answer.len()).and_then(|end| data.get_mut(out as usize..end));
    target.ok_or_else(|| wasmtime::Error::msg("host call with pointers outside of memory"))?.copy_from_slice(&answer);
    Ok(())
}

/// A live instance between turns.
pub(crate) struct Instance {
    pub(crate) store: Store<State>,
    memory: Memory,
    alloc: TypedFunc<u32, u32>,
    deliver: TypedFunc<(u32, u32, f64), f64>,
    /// Address of the [`Mailbox`].
    mailbox: u32,
    /// How the worker's own Wasm calls the guest.
    guest: Guest,
    cpu: Arc<Cpu>,
    /// Pages that differ from the image, if they were looked for and no turn has run since.
    private: Option<Vec<u32>>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Before the store gives its slot back to the pool.
        self.store.data_mut().wasm.clear();
    }
}

impl Instance {
    /// A fresh instance of the image, with its own randomness.
    pub(crate) async fn new(image: &Image, worker: Arc<Worker>) -> wasmtime::Result<Self> {
        let state = State::new(worker);
        let cpu = state.cpu.clone();
        let mut store = Store::new(image.engine().wasmtime(), state);
        store.limiter(|state| state);
        store.epoch_deadline_callback(|store| {
            Ok(match store.data().cpu.tick() {
                Tick::Exceeded => UpdateDeadline::Interrupt,
                Tick::Waited => UpdateDeadline::Continue(1),
                Tick::Used => UpdateDeadline::Yield(1),
            })
        });
        store.set_epoch_deadline(FIRST_SLICE_TICKS);
        let guest = image.pre().instantiate_async(&mut store).await?;
        let missing = || wasmtime::Error::msg("the image exports no memory");
        let memory = guest.get_memory(&mut store, "memory").ok_or_else(missing)?;
        let mailbox = guest.get_typed_func::<(), u32>(&mut store, "mailbox")?.call_async(&mut store, ()).await?;
        let alloc = guest.get_typed_func(&mut store, "alloc")?;
        let deliver = guest.get_typed_func(&mut store, "deliver")?;
        let imported = guest.get_typed_func(&mut store, "imported")?;
        let guest = Guest { memory, imported, mailbox, places: image.engine().wasm().places.clone() };
        store.data_mut().wasm.guest = Some(guest.clone());
        let mut instance = Self { alloc, deliver, store, memory, mailbox, guest, cpu, private: None };
        instance.reseed(random::seed())?;
        Ok(instance)
    }

    /// Gives the guest new randomness: at the start, and for every fork.
    pub(crate) fn reseed(&mut self, seed: u64) -> wasmtime::Result<()> {
        let at = self.mailbox as usize + Mailbox::SEED;
        self.private = None;
        Ok(self.memory.write(&mut self.store, at, &seed.max(1).to_le_bytes())?)
    }

    fn peek<const N: usize>(&self, at: usize) -> [u8; N] {
        self.memory.data(&self.store).get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    /// Engine operations executed so far, also within a turn that was cut off.
    pub(crate) fn operations(&self) -> u64 {
        let word = |offset| u32::from_le_bytes(self.peek(self.mailbox as usize + offset));
        let ended = u64::from_le_bytes(self.peek(self.mailbox as usize + Mailbox::OPERATIONS));
        let left = u32::from_le_bytes(self.peek(word(Mailbox::COUNTDOWN) as usize));
        ended.saturating_add(word(Mailbox::INTERVAL).saturating_sub(left).into())
    }

    /// What it has used until now, also when its turn was cut off.
    pub(crate) fn used(&self) -> Used {
        let state = self.store.data();
        let (host_calls, memory_peak) = (state.host_calls, state.memory_peak as u64);
        let operations = self.operations().saturating_add(state.wasm.crossings);
        Used { cpu_us: self.cpu.used_us(), operations, host_calls, memory_peak }
    }

    /// The clock of its turns.
    pub(crate) fn cpu(&self) -> Arc<Cpu> {
        self.cpu.clone()
    }

    /// What host functions see.
    pub(crate) fn state(&mut self) -> &mut State {
        self.store.data_mut()
    }

    async fn run_turn(&mut self, event: &[u8], now_ms: f64) -> wasmtime::Result<f64> {
        self.private = None;
        let at = match event.len() {
            n if n <= Mailbox::INBOX_BYTES => self.mailbox,
            n => self.alloc.call_async(&mut self.store, n as u32).await?,
        };
        if at == 0 {
            self.store.data_mut().memory_exceeded = true;
            return Err(wasmtime::Error::msg("no memory for an event"));
        }
        self.memory.write(&mut self.store, at as usize, event)?;
        self.deliver.call_async(&mut self.store, (at, event.len() as u32, now_ms)).await
    }

    /// Delivers one event (an encoded wire array) and runs the guest until its stack is empty. Returns when it next
    /// wants to be woken, in ms since the epoch. A turn longer than a time slice moves to the engine's other threads.
    pub(crate) async fn turn(
        mut self: Box<Self>,
        image: &Image,
        event: Vec<u8>,
        allowance_us: u64,
        now_ms: f64,
    ) -> Result<(Box<Self>, f64), Stopped> {
        let cpu = self.cpu.clone();
        cpu.begin(allowance_us);
        self.store.set_epoch_deadline(FIRST_SLICE_TICKS);
        let turn = async move {
            let result = self.run_turn(&event, now_ms).await;
            (self, result)
        };
        let mut turn = Timed { turn: Box::pin(turn), cpu: cpu.clone() };
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut turn).poll(cx))).await;
        let ended = match first {
            std::task::Poll::Ready(ended) => Some(ended),
            std::task::Poll::Pending => image.engine().run_long(turn).await,
        };
        match ended {
            Some((instance, Ok(timer))) => Ok((instance, timer)),
            Some((mut instance, Err(e))) => {
                let stop = instance.stop(&e);
                if let Some(durable) = &mut instance.state().durable {
                    durable.cut_off();
                    if let Stop::Aborted(args) = &stop {
                        durable.carry_out("actor.abort", args.clone());
                    }
                }
                let mut logs = instance.state().take_effects();
                logs.retain(|effect| matches!(effect, Effect::Do { op: "log" | "exception", .. }));
                Err(Stopped { stop, used: instance.used(), logs })
            }
            None => {
                let used = Used { cpu_us: cpu.used_us(), ..Used::default() };
                Err(Stopped { stop: Stop::Trap("the engine has shut down".into()), used, logs: Vec::new() })
            }
        }
    }

    fn stop(&mut self, error: &wasmtime::Error) -> Stop {
        self.store.data_mut().cut = true;
        if let Some(args) = self.store.data_mut().aborted.take() {
            return Stop::Aborted(args);
        }
        if self.store.data().memory_exceeded {
            return Stop::Memory;
        }
        match error.downcast_ref::<wasmtime::Trap>() {
            Some(wasmtime::Trap::Interrupt) => Stop::Cpu,
            Some(wasmtime::Trap::StackOverflow) => Stop::Trap("the native stack overflowed".into()),
            _ => Stop::Trap(format!("{error:#}")),
        }
    }

    /// Indexes of the pages that may differ from the image, by the kernel's account. An actor that goes to sleep is written down and then
    /// cleaned: the kernel, which walks over the whole memory for its answer, is asked once.
    fn private(&mut self, image: &Image) -> Option<Vec<u32>> {
        let known = self.private.take();
        let address = self.memory.data_ptr(&self.store) as usize;
        known.or_else(|| image.pagemap().private_pages(address, self.memory.data_size(&self.store)))
    }

    /// What differs from the image, and the size of the memory in bytes. What turns have left on the stack is nothing: no turn reads it again.
    pub(crate) fn delta(&mut self, image: &Image) -> (Delta, usize) {
        let private = self.private(image);
        let all = || (0..(self.memory.data_size(&self.store) / PAGE) as u32).collect();
        let candidates = private.clone().unwrap_or_else(all);
        self.private = private;
        let pristine = image.pristine().as_chunks::<PAGE>().0;
        let memory = self.memory.data(&self.store).as_chunks::<PAGE>().0;
        let mut delta = Delta::default();
        for i in candidates.into_iter().filter(|i| *i >= image.stack()) {
            if let Some(page) = memory.get(i as usize) {
                delta.add(i, page, pristine.get(i as usize));
            }
        }
        (delta, memory.len() * PAGE)
    }

    /// Makes the instance what it was before its first turn, for the next tenant: every page that differs from the
    /// image is written back in place, which spares unmapping it and faulting it in again (two thirds of a start).
    /// `false` if it cannot be: it was cut off, its memory has grown, Wasm lives in its store, or the kernel does not say which pages differ.
    pub(crate) fn clean(&mut self, image: &Image) -> bool {
        let len = self.memory.data_size(&self.store);
        let pristine = image.pristine();
        if self.store.data().cut || len != pristine.len() || self.store.data().wasm.used() {
            return false;
        }
        let Some(private) = self.private(image) else { return false };
        if private.len() > RECYCLED_PAGES_MAX {
            return false;
        }
        let memory = self.memory.data_mut(&mut self.store);
        for i in private {
            let range = i as usize * PAGE..(i as usize + 1) * PAGE;
            let (page, before) = (&mut memory[range.clone()], &pristine[range]);
            if page != before {
                page.copy_from_slice(before);
            }
        }
        *self.store.data_mut() = State::unused();
        true
    }

    /// Gives a cleaned instance to its next tenant.
    pub(crate) fn adopt(&mut self, worker: Arc<Worker>) -> wasmtime::Result<()> {
        let mut state = State::new(worker);
        let size = self.memory.data_size(&self.store);
        state.memory = size;
        state.wasm.guest = Some(self.guest.clone());
        if !state.room(0) {
            return Err(wasmtime::Error::msg("the memory limit is below the size of the image"));
        }
        self.cpu = state.cpu.clone();
        *self.store.data_mut() = state;
        self.store.set_epoch_deadline(FIRST_SLICE_TICKS);
        self.reseed(random::seed())
    }

    /// Whether every byte is as in the image (for tests of `clean`).
    #[cfg(test)]
    pub(crate) fn is_pristine(&mut self, image: &Image) -> bool {
        self.memory.data(&self.store) == image.pristine()
    }

    /// Makes a fresh instance what `delta` was taken from. `false` if that does not fit.
    pub(crate) async fn restore(&mut self, image: &Image, delta: &Delta, size: usize) -> bool {
        self.private = None;
        let have = self.memory.data_size(&self.store);
        if size > have {
            let more = (size - have).div_ceil(1 << 16) as u64;
            if self.memory.grow_async(&mut self.store, more).await.is_err() {
                return false;
            }
        }
        delta.apply(self.memory.data_mut(&mut self.store), image.pristine())
    }
}

/// Encodes an event: its kind and arguments as one wire array.
pub(crate) fn event(kind: &str, args: Vec<Wire<'_>>) -> Vec<u8> {
    let mut all = Vec::with_capacity(args.len() + 1);
    all.push(Wire::from(kind));
    all.extend(args);
    let mut out = Vec::with_capacity(128);
    Wire::Array(all).encode(&mut out);
    out
}

/// Decodes the arguments of a host call.
pub(crate) fn arguments(message: &[u8]) -> Result<Vec<Wire<'_>>, wire::DecodeError> {
    match wire::decode(message)? {
        Wire::Array(args) => Ok(args),
        other => Ok(vec![other]),
    }
}

#[cfg(test)]
mod forged;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, EngineConfig};
    use crate::worker::Code;

    /// Compiles Wasm here.
    struct InProcess;

    impl crate::wasm::Compile for InProcess {
        fn compile(&self, module: bytes::Bytes) -> crate::target::BoxFuture<Result<Vec<u8>, String>> {
            Box::pin(async move { crate::wasm::precompile(&module) })
        }
    }

    /// A worker with a live Wasm memory in use; its engine compiles here.
    pub(super) fn wasm_worker(engine: &Engine) -> Arc<Worker> {
        // (module (memory (export "m") 2))
        let wasm: &[u8] = &[0, 97, 115, 109, 1, 0, 0, 0, 5, 3, 1, 0, 2, 7, 5, 1, 1, b'm', 2, 0];
        engine.set_compiler(Arc::new(InProcess));
        let source = "import m from './m.wasm'; const i = new WebAssembly.Instance(m); new Uint8Array(i.exports.m.buffer).fill(0x5A); export default {};";
        let mut code = Code::single(source);
        let module = crate::worker::Module { kind: crate::worker::ModuleKind::Wasm, content: wasm.into(), source_map: None };
        code.modules.insert("m.wasm".into(), module);
        Arc::new(Worker::new(code))
    }

    /// What the next tenant of a slot sees where the one before had the pages of a Wasm memory: zeros.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_slot_that_shared_pages_reads_zero() {
        let engine = Engine::new(EngineConfig { isolates_max: 1, ..EngineConfig::default() }).unwrap();
        let image = Image::load(&engine, None).unwrap();
        let worker = wasm_worker(&engine);
        let mut instance = image.instance(worker.clone()).await.unwrap();
        instance.state().wasm.modules = engine.wasm().modules(&engine, &worker.code).await;
        let load = event("load", vec!["main.js".into(), Wire::Array(vec![]), Wire::Null]);
        let (mut instance, _) = instance.turn(&image, load, 10_000_000, 0.0).await.map_err(|stopped| stopped.stop).unwrap();
        let address = instance.memory.data_ptr(&instance.store) as usize;
        let data = instance.memory.data(&instance.store);
        assert!(data.len() > image.pristine().len() && data.contains(&0x5A) && data.windows(4096).any(|w| w == [0x5A; 4096]));
        assert!(!instance.clean(&image), "an instance with Wasm in its store is not recycled");
        let grown = instance.memory.data_size(&instance.store);
        drop(instance);
        let mut next = image.instance(worker).await.unwrap();
        assert_eq!(next.memory.data_ptr(&next.store) as usize, address, "the same slot");
        // Its randomness is all that it has of its own.
        let seed = next.mailbox as usize + Mailbox::SEED;
        next.memory.write(&mut next.store, seed, &image.pristine()[seed..seed + 8]).unwrap();
        assert!(next.is_pristine(&image));
        let more = (grown - next.memory.data_size(&next.store)).div_ceil(1 << 16) as u64;
        next.memory.grow_async(&mut next.store, more).await.unwrap();
        assert!(next.memory.data(&next.store)[image.pristine().len()..].iter().all(|b| *b == 0));
    }

    /// What the next tenant of a recycled instance sees: every byte as in the image, whatever the tenant before did.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_cleaned_instance_is_the_image() {
        let engine = Engine::new(EngineConfig { isolates_max: 4, ..EngineConfig::default() }).unwrap();
        let image = Image::load(&engine, None).unwrap();
        let code = Code::single("globalThis.secret = 'tenant one '.repeat(2000); Array.prototype.polluted = 1; export default {};");
        let worker = Arc::new(Worker::new(code));
        let instance = image.instance(worker.clone()).await.unwrap();
        let load = event("load", vec!["main.js".into(), Wire::Array(vec![]), Wire::Null]);
        let (mut instance, _) = instance.turn(&image, load, 1_000_000, 0.0).await.map_err(|stopped| stopped.stop).unwrap();
        let (address, len) = (instance.memory.data_ptr(&instance.store) as usize, instance.memory.data_size(&instance.store));
        if let Some([scanned, listed]) = image.pagemap().both(address, len) {
            assert!(listed.len() > 10);
            assert_eq!(scanned, listed);
        }
        // Not by reading all of it: pages of zeros that nobody touched would then count as private, and be too many to clean.
        assert_ne!(instance.delta(&image).0, Delta::default());
        assert!(image.stack() > 0, "the image has its stack elsewhere: what is on it would be written down");
        assert!(instance.clean(&image));
        assert!(instance.is_pristine(&image));
        instance.adopt(worker).unwrap();
        assert!(instance.state().take_effects().is_empty());
    }
}
