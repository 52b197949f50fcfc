//! Wasm beside the guest: instances in the guest's own store, and calls both ways.
//!
//! Two imports of the image lead here: `wasm` runs one named operation, `wasm_call` calls a function with its arguments in
//! place. Both are asynchronous because Wasm runs on a native stack of its own under the same clock: it gives way at the end
//! of a time slice and stops at the limits of the turn that called it. Whatever the guest names is a number of a table here;
//! a forged one finds nothing, or something else of the same isolate.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::{
    AsContextMut, Caller, Extern, ExternRef, ExternType, Func, FuncType, Global, GlobalType, HeapType, Linker, Memory, MemoryType,
    Mutability, Ref, RefType, Table, TableType, Trap, TypedFunc, Val, ValType,
};

use super::shared::{Pages, Place};
use super::{Compiled, MEMORY_IMPORT, MODULE_BYTES_MAX, Modules, Places, sections};
use crate::instance::{Mailbox, State, arguments, memory_of, put_answer};
use crate::ops::{number, text};
use crate::wire::{Wire, WireOut};

/// Size of a page of Wasm, in bytes.
const WASM_PAGE: usize = 64 << 10;

/// Calls from the guest into Wasm that may be inside of one another; each level takes two native stacks.
const DEPTH_MAX: usize = 32;

/// Instances of one isolate, each of its tables counted as well.
const INSTANCES_MAX: usize = 64;

/// Memories of one isolate, tables made by its code, and memories whose pages its guest sees.
const MEMORIES_MAX: usize = 16;
const TABLES_MAX: usize = 256;

/// Functions and globals of one isolate that its guest may know.
const HANDLES_MAX: usize = 200_000;

/// What the host holds for each of them, roughly, in bytes; for an instance, a memory, an element of a table.
const HANDLE_BYTES: usize = 128;
const INSTANCE_BYTES: usize = 64 << 10;
pub(crate) const ELEMENT_BYTES: usize = 16;

/// Elements of one table.
pub(crate) const ELEMENTS_MAX: usize = 1_000_000;

/// Values that one function may take or give, when it is called from outside of Wasm.
const VALUES_MAX: usize = 128;

/// Where values lie in the guest's inbox when Wasm calls an import: behind the letters of their types.
const INBOX_VALUES: usize = 512;

/// Answer of `wasm_call`: the guest itself has thrown, and knows what.
const THROWN: u32 = u32::MAX;

/// What the host needs of the guest to call it back.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) memory: Memory,
    pub(crate) imported: TypedFunc<(u32, u32, u32), u32>,
    pub(crate) mailbox: u32,
    pub(crate) places: Arc<Places>,
}

struct SharedMemory {
    memory: Memory,
    pages: Option<Pages>,
    place: Option<Place>,
}

/// Wasm of one isolate.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) modules: Modules,
    pub(crate) guest: Option<Guest>,
    memories: Vec<SharedMemory>,
    /// Places of the guest's memory whose memory has moved on to a larger one.
    free: Vec<Place>,
    funcs: Vec<(Func, Arc<Signature>)>,
    func_numbers: HashMap<usize, u32>,
    tables: Vec<Table>,
    globals: Vec<Global>,
    instances: usize,
    depth: usize,
    /// Calls between the guest and Wasm, both ways: what the deterministic count knows of Wasm.
    pub(crate) crossings: u64,
    /// Whether Wasm of the worker runs, and not the guest: what grows now is not the guest's memory.
    pub(crate) inside: bool,
    /// Whether the guest's memory grows for a place.
    pub(crate) placing: bool,
    /// Whether a memory has grown that the guest has not heard of.
    pub(crate) grown: bool,
    /// Whether an error came out of the guest or its limits: nothing may catch it.
    fatal: bool,
    /// References that Wasm no longer holds.
    dropped: Arc<Mutex<Vec<u32>>>,
    references: Arc<AtomicUsize>,
    permits: Vec<OwnedSemaphorePermit>,
    has_heap: bool,
}

impl Live {
    /// Whether there is anything that lives in the store, which only ends with it.
    pub(crate) fn used(&self) -> bool {
        self.instances > 0 || !self.memories.is_empty() || !self.tables.is_empty() || !self.globals.is_empty() || !self.funcs.is_empty()
    }

    /// Takes back all that is mapped over the guest's memory, before that goes to another tenant.
    pub(crate) fn clear(&mut self) {
        self.free.clear();
        for shared in &mut self.memories {
            shared.place = None;
        }
    }
}

/// The types of a function, one letter each.
struct Signature {
    params: Vec<u8>,
    results: Vec<u8>,
}

impl Signature {
    fn of(ty: &FuncType) -> Self {
        Self { params: ty.params().map(|t| letter(&t)).collect(), results: ty.results().map(|t| letter(&t)).collect() }
    }

    fn wire(&self) -> [WireOut; 2] {
        [&self.params, &self.results].map(|list| Wire::from(String::from_utf8_lossy(list).into_owned()))
    }
}

fn letter(ty: &ValType) -> u8 {
    match ty {
        ValType::I32 => b'i',
        ValType::I64 => b'I',
        ValType::F32 => b'f',
        ValType::F64 => b'd',
        ValType::V128 => b'v',
        ValType::Ref(r) if matches!(r.heap_type().top(), HeapType::Func) => b'c',
        ValType::Ref(_) => b'e',
    }
}

fn value_type(letter: &str) -> Option<ValType> {
    Some(match letter {
        "i" => ValType::I32,
        "I" => ValType::I64,
        "f" => ValType::F32,
        "d" => ValType::F64,
        "c" => ValType::FUNCREF,
        "e" => ValType::EXTERNREF,
        _ => return None,
    })
}

/// A reference to a value of the guest, by its number there. The guest hears when it is dropped.
struct Reference {
    number: u32,
    dropped: Arc<Mutex<Vec<u32>>>,
    references: Arc<AtomicUsize>,
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.references.fetch_sub(1, Ordering::Relaxed);
        self.dropped.lock().push(self.number);
    }
}

/// Why an operation has no answer.
enum Failure {
    /// An error of that class for the guest.
    Error(&'static str, String),
    /// The guest threw, further inside.
    Thrown,
    /// The turn is over.
    Fatal(wasmtime::Error),
}

type Done<T> = Result<T, Failure>;

fn failed<T>(class: &'static str, message: impl Into<String>) -> Done<T> {
    Err(Failure::Error(class, message.into()))
}

/// Marks an exception of the guest on its way through Wasm.
#[derive(Debug, thiserror::Error)]
#[error("the guest has thrown")]
struct GuestThrew;

/// An error of the host's own on its way through Wasm to the guest.
#[derive(Debug, thiserror::Error)]
#[error("{1}")]
struct HostThrew(&'static str, String);

/// Defines what the image imports for Wasm.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap_async("skep", "wasm", |caller, (op, op_len, args, args_len, out, cap): (u32, u32, u32, u32, u32, u32)| {
        Box::new(operate(caller, [op, op_len, args, args_len, out, cap]))
    })?;
    linker.func_wrap_async("skep", "wasm_call", |caller, (func, values, n): (u32, u32, u32)| Box::new(call(caller, func, values, n)))?;
    Ok(())
}

/// The message to the guest about a failure; the turn's end where there is none.
fn told(failure: Failure) -> wasmtime::Result<WireOut> {
    match failure {
        Failure::Error(class, message) => Ok(Wire::Array(vec!["!".into(), class.into(), message.into()])),
        Failure::Thrown => Ok(Wire::Array(vec!["!".into()])),
        Failure::Fatal(error) => Err(error),
    }
}

async fn operate(mut caller: Caller<'_, State>, [op, op_len, args, args_len, out, cap]: [u32; 6]) -> wasmtime::Result<u32> {
    let memory = memory_of(&mut caller)?;
    caller.data_mut().host_calls += 1;
    let data = memory.data(&caller);
    let slice = |at: u32, len: u32| data.get(at as usize..(at as usize).checked_add(len as usize)?).map(<[u8]>::to_vec);
    let (Some(op), Some(args)) = (slice(op, op_len), slice(args, args_len)) else {
        return Err(wasmtime::Error::msg("host call with pointers outside of memory"));
    };
    let answer = match arguments(&args) {
        Ok(args) => {
            let (op, args) = (String::from_utf8_lossy(&op), args.into_iter().map(Wire::into_owned).collect::<Vec<WireOut>>());
            match run(&mut caller, &op, &args).await {
                Ok(answer) => answer,
                Err(failure) => told(failure)?,
            }
        }
        Err(e) => Wire::error("TypeError", e.to_string()),
    };
    tell_grown(&mut caller)?;
    put_answer(memory, &mut caller, &answer, out, cap)
}

async fn run(caller: &mut Caller<'_, State>, op: &str, args: &[WireOut]) -> Done<WireOut> {
    let n = number(args, 0);
    match op {
        "module" => module(caller, &text(args, 0)),
        "custom" => custom(caller, &text(args, 0), &text(args, 1)),
        "instantiate" => instantiate(caller, args).await,
        "memory.new" => memory_new(caller, args).await,
        "memory.map" => map(caller, n).await,
        "memory.size" => Ok(((memory(caller, n)?.data_size(&*caller) / WASM_PAGE) as u32).into()),
        "memory.grow" => memory_grow(caller, n, number(args, 1)).await,
        "table.new" => table_new(caller, args),
        "table.size" => Ok((table(caller, n)?.size(&*caller) as u32).into()),
        "table.type" => Ok(String::from(char::from(reference_letter(&table(caller, n)?.ty(&*caller)))).into()),
        "table.get" => table_get(caller, n, number(args, 1)),
        "table.set" => table_set(caller, args).await,
        "table.grow" => table_grow(caller, args).await,
        "global.new" => global_new(caller, args).await,
        "global.get" => global_get(caller, n),
        "global.set" => global_set(caller, args).await,
        "func" => Ok(Wire::Array(func(caller, n)?.1.wire().to_vec())),
        "collect" => collect(caller).await,
        "validate" => Ok(validate(caller, args).into()),
        _ => failed("TypeError", "unknown operation"),
    }
}

fn reference_letter(ty: &TableType) -> u8 {
    letter(&ValType::Ref(ty.element().clone()))
}

fn gone<T>(what: &str) -> Done<T> {
    failed("TypeError", format!("this {what} does not exist here"))
}

fn compiled(caller: &Caller<'_, State>, name: &str) -> Done<Arc<Compiled>> {
    match caller.data().wasm.modules.get(name) {
        Some(Ok(compiled)) => Ok(compiled.clone()),
        Some(Err(why)) => failed("CompileError", why.clone()),
        None => failed("CompileError", "no such module"),
    }
}

fn memory(caller: &Caller<'_, State>, n: u32) -> Done<Memory> {
    caller.data().wasm.memories.get(n as usize).map_or_else(|| gone("memory"), |m| Ok(m.memory))
}

fn table(caller: &Caller<'_, State>, n: u32) -> Done<Table> {
    caller.data().wasm.tables.get(n as usize).map_or_else(|| gone("table"), |t| Ok(*t))
}

fn global(caller: &Caller<'_, State>, n: u32) -> Done<Global> {
    caller.data().wasm.globals.get(n as usize).map_or_else(|| gone("global"), |g| Ok(*g))
}

fn func(caller: &Caller<'_, State>, n: u32) -> Done<(Func, Arc<Signature>)> {
    caller.data().wasm.funcs.get(n as usize).cloned().map_or_else(|| gone("function"), Ok)
}

/// Charges the isolate for what lives in its store from now on.
fn charge(caller: &mut Caller<'_, State>, bytes: usize) -> Done<()> {
    match caller.data_mut().charge(bytes) {
        true => Ok(()),
        false => failed("RangeError", "WebAssembly: Out of memory"),
    }
}

fn permit(caller: &mut Caller<'_, State>, of: impl FnOnce(&Places) -> &Arc<tokio::sync::Semaphore>, n: usize) -> Done<()> {
    let live = &mut caller.data_mut().wasm;
    let permit = live.guest.as_ref().and_then(|g| of(&g.places).clone().try_acquire_many_owned(n as u32).ok());
    match permit {
        Some(permit) => {
            live.permits.push(permit);
            Ok(())
        }
        None => failed("RangeError", "WebAssembly: Out of memory: too much of it lives on this machine"),
    }
}

/// The number of a function; the same one for the same function.
fn func_number(caller: &mut Caller<'_, State>, func: Func) -> Done<u32> {
    let raw = func.to_raw(&mut *caller) as usize;
    if let Some(n) = caller.data().wasm.func_numbers.get(&raw) {
        return Ok(*n);
    }
    if caller.data().wasm.funcs.len() >= HANDLES_MAX {
        return failed("RangeError", "too many functions of WebAssembly are known to JavaScript");
    }
    charge(caller, HANDLE_BYTES)?;
    let signature = Arc::new(Signature::of(&func.ty(&*caller)));
    let live = &mut caller.data_mut().wasm;
    let n = live.funcs.len() as u32;
    live.funcs.push((func, signature));
    live.func_numbers.insert(raw, n);
    Ok(n)
}

fn memory_number(caller: &mut Caller<'_, State>, memory: Memory) -> Done<u32> {
    let at = memory.data_ptr(&*caller);
    let known = caller.data().wasm.memories.iter().position(|m| m.memory.data_ptr(&*caller) == at);
    if let Some(n) = known {
        return Ok(n as u32);
    }
    let memories = &mut caller.data_mut().wasm.memories;
    memories.push(SharedMemory { memory, pages: None, place: None });
    Ok(memories.len() as u32 - 1)
}

fn kind(ty: &ExternType) -> &'static str {
    match ty {
        ExternType::Func(_) => "function",
        ExternType::Global(_) => "global",
        ExternType::Table(_) => "table",
        ExternType::Memory(_) => "memory",
        ExternType::Tag(_) => "tag",
    }
}

/// Whether a module is valid, without compiling it. Reading is linear in its size and safe; its time is the turn's.
fn validate(caller: &Caller<'_, State>, args: &[WireOut]) -> bool {
    let module = args.first().and_then(Wire::as_bytes).unwrap_or_default();
    module.len() <= MODULE_BYTES_MAX && wasmtime::Module::validate(caller.engine(), module).is_ok()
}

/// `[imports, exports]`: `[module, name, kind, …types]` and `[name, kind, index]`.
fn module(caller: &mut Caller<'_, State>, name: &str) -> Done<WireOut> {
    let compiled = compiled(caller, name)?;
    let import = |i: wasmtime::ImportType<'_>| {
        let mut entry: Vec<WireOut> = vec![i.module().to_owned().into(), i.name().to_owned().into(), kind(&i.ty()).into()];
        match i.ty() {
            ExternType::Func(ty) => entry.extend(Signature::of(&ty).wire()),
            ExternType::Global(ty) => {
                entry.push(String::from(char::from(letter(ty.content()))).into());
                entry.push((ty.mutability() == Mutability::Var).into());
            }
            _ => {}
        }
        Wire::Array(entry)
    };
    let imports = compiled.module.imports().filter(|i| (i.module(), i.name()) != MEMORY_IMPORT).map(import).collect();
    let indexes: HashMap<&[u8], u32> = sections::function_exports(&compiled.source).unwrap_or_default().into_iter().collect();
    let export = |e: wasmtime::ExportType<'_>| {
        let index = indexes.get(e.name().as_bytes()).copied().unwrap_or(0);
        Wire::Array(vec![e.name().to_owned().into(), kind(&e.ty()).into(), index.into()])
    };
    let exports = compiled.module.exports().map(export).collect();
    Ok(Wire::Array(vec![Wire::Array(imports), Wire::Array(exports)]))
}

fn custom(caller: &mut Caller<'_, State>, name: &str, wanted: &str) -> Done<WireOut> {
    let compiled = compiled(caller, name)?;
    Ok(Wire::Array(sections::custom(&compiled.source, wanted.as_bytes()).into_iter().map(|b| b.to_vec().into()).collect()))
}

/// Runs what may run Wasm: the limits are those of Wasm, and errors are sorted.
macro_rules! inside {
    ($caller:expr, $run:expr) => {{
        let before = std::mem::replace(&mut $caller.data_mut().wasm.inside, true);
        let result = $run;
        $caller.data_mut().wasm.inside = before;
        result.map_err(|error| sort($caller, error))
    }};
}

/// What an error that came out of Wasm means.
fn sort(caller: &mut Caller<'_, State>, error: wasmtime::Error) -> Failure {
    if caller.data().wasm.fatal {
        return Failure::Fatal(error);
    }
    if error.downcast_ref::<GuestThrew>().is_some() {
        return Failure::Thrown;
    }
    if let Some(HostThrew(class, message)) = error.downcast_ref() {
        return Failure::Error(class, message.clone());
    }
    let text = match error.downcast_ref::<Trap>() {
        None => return Failure::Error("RangeError", format!("WebAssembly: {error:#}")),
        Some(Trap::Interrupt) => {
            caller.data_mut().wasm.fatal = true;
            return Failure::Fatal(error);
        }
        Some(Trap::StackOverflow) => return Failure::Error("RangeError", "Maximum call stack size exceeded".into()),
        Some(Trap::UnreachableCodeReached) => "unreachable",
        Some(Trap::MemoryOutOfBounds) => "memory access out of bounds",
        Some(Trap::HeapMisaligned) => "operation does not support unaligned accesses",
        Some(Trap::TableOutOfBounds) => "table index is out of bounds",
        Some(Trap::IndirectCallToNull | Trap::BadSignature) => "null function or function signature mismatch",
        Some(Trap::IntegerOverflow) => "divide result unrepresentable",
        Some(Trap::IntegerDivisionByZero) => "divide by zero",
        Some(Trap::BadConversionToInteger) => "float unrepresentable in integer range",
        Some(Trap::NullReference) => "dereferencing a null pointer",
        Some(other) => return Failure::Error("RuntimeError", other.to_string()),
    };
    Failure::Error("RuntimeError", text.into())
}

/// Takes a level of calls, and a native stack for it.
fn enter(caller: &mut Caller<'_, State>) -> Done<OwnedSemaphorePermit> {
    let live = &mut caller.data_mut().wasm;
    let stack = live.guest.as_ref().and_then(|g| g.places.stacks.clone().try_acquire_owned().ok());
    match stack {
        Some(stack) if live.depth < 2 * DEPTH_MAX => {
            live.depth += 1;
            live.crossings += 1;
            Ok(stack)
        }
        _ => failed("RangeError", "Maximum call stack size exceeded"),
    }
}

fn leave(caller: &mut Caller<'_, State>, stack: OwnedSemaphorePermit) {
    caller.data_mut().wasm.depth -= 1;
    drop(stack);
}

/// Lets the guest know, before its code runs, that buffers it has are out of date.
fn tell_grown(caller: &mut Caller<'_, State>) -> wasmtime::Result<()> {
    if std::mem::take(&mut caller.data_mut().wasm.grown)
        && let Some(guest) = caller.data().wasm.guest.clone()
    {
        guest.memory.write(&mut *caller, guest.mailbox as usize + Mailbox::GROWN, &1u32.to_le_bytes())?;
    }
    Ok(())
}

async fn call(mut caller: Caller<'_, State>, n: u32, values: u32, count: u32) -> wasmtime::Result<u32> {
    caller.data_mut().host_calls += 1;
    let done = call_with(&mut caller, n, values, count).await;
    tell_grown(&mut caller)?;
    match done {
        Ok(()) => Ok(0),
        Err(Failure::Thrown) => Ok(THROWN),
        Err(failure) => {
            let answer = told(failure)?;
            let memory = memory_of(&mut caller)?;
            put_answer(memory, &mut caller, &answer, 0, 0)
        }
    }
}

async fn call_with(caller: &mut Caller<'_, State>, n: u32, values: u32, count: u32) -> Done<()> {
    let (func, signature) = func(caller, n)?;
    let wanted = signature.params.len().max(signature.results.len());
    if wanted > VALUES_MAX || signature.params.contains(&b'v') || signature.results.contains(&b'v') {
        return failed("TypeError", "type incompatibility when transforming from/to JS");
    }
    let outside = || Failure::Fatal(wasmtime::Error::msg("Wasm call with values outside of memory"));
    let Some(guest) = caller.data().wasm.guest.clone() else { return gone("function") };
    if (count as usize) < wanted {
        return Err(outside());
    }
    let mut raw = [0u64; VALUES_MAX];
    let at = values as usize;
    {
        let data = guest.memory.data(&*caller);
        let bytes = data.get(at..).and_then(|d| d.get(..wanted * 8)).ok_or_else(outside)?;
        for (value, bytes) in raw.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *value = u64::from_le_bytes(*bytes);
        }
    }
    let mut params = Vec::with_capacity(signature.params.len());
    for (letter, raw) in signature.params.iter().zip(raw) {
        params.push(value_in(caller, *letter, raw).await?);
    }
    let mut results = vec![Val::I32(0); signature.results.len()];
    let stack = enter(caller)?;
    let ran = inside!(caller, func.call_async(&mut *caller, &params, &mut results).await);
    leave(caller, stack);
    ran?;
    for (i, value) in results.iter().enumerate() {
        raw[i] = value_out(caller, value)?;
    }
    let data = guest.memory.data_mut(&mut *caller);
    let bytes = data.get_mut(at..).and_then(|d| d.get_mut(..results.len() * 8)).ok_or_else(outside)?;
    for (bytes, value) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(raw) {
        *bytes = value.to_le_bytes();
    }
    Ok(())
}

/// A value of the guest for Wasm. References are numbers, from 1; 0 is null.
async fn value_in(caller: &mut Caller<'_, State>, letter: u8, raw: u64) -> Done<Val> {
    Ok(match letter {
        b'i' => Val::I32(raw as u32 as i32),
        b'I' => Val::I64(raw as i64),
        b'f' => Val::F32(raw as u32),
        b'd' => Val::F64(raw),
        b'c' => Val::FuncRef(match raw as u32 {
            0 => None,
            n => Some(func(caller, n - 1)?.0),
        }),
        b'e' => Val::ExternRef(match raw as u32 {
            0 => None,
            n => Some(reference(caller, n).await?),
        }),
        _ => return failed("TypeError", "type incompatibility when transforming from/to JS"),
    })
}

async fn reference(caller: &mut Caller<'_, State>, number: u32) -> Done<wasmtime::Rooted<ExternRef>> {
    if !caller.data().wasm.has_heap {
        permit(caller, |places| &places.heaps, 1)?;
        caller.data_mut().wasm.has_heap = true;
    }
    if caller.data().wasm.references.load(Ordering::Relaxed) >= HANDLES_MAX {
        return failed("RangeError", "WebAssembly holds too many references");
    }
    let (dropped, references) = (caller.data().wasm.dropped.clone(), caller.data().wasm.references.clone());
    references.fetch_add(1, Ordering::Relaxed);
    let made = inside!(caller, ExternRef::new_async(&mut *caller, Reference { number, dropped, references }).await);
    match made {
        Err(Failure::Error(..)) => failed("RangeError", "WebAssembly: Out of memory"),
        made => made,
    }
}

/// A value of Wasm for the guest.
fn value_out(caller: &mut Caller<'_, State>, value: &Val) -> Done<u64> {
    Ok(match value {
        Val::I32(v) => u64::from(*v as u32),
        Val::I64(v) => *v as u64,
        Val::F32(bits) => u64::from(*bits),
        Val::F64(bits) => *bits,
        Val::FuncRef(None) | Val::ExternRef(None) => 0,
        Val::FuncRef(Some(func)) => u64::from(func_number(caller, *func)? + 1),
        Val::ExternRef(Some(reference)) => {
            let data = reference.data(&*caller).map_err(Failure::Fatal)?;
            data.and_then(|d| d.downcast_ref::<Reference>()).map_or(0, |r| u64::from(r.number))
        }
        _ => return failed("TypeError", "type incompatibility when transforming from/to JS"),
    })
}

/// An import that the guest implements, under its own number for it.
fn import(caller: &mut Caller<'_, State>, id: u32, ty: &FuncType) -> Done<Func> {
    charge(caller, HANDLE_BYTES)?;
    let signature = Arc::new(Signature::of(ty));
    if signature.params.len().max(signature.results.len()) > VALUES_MAX {
        return failed("RangeError", "an imported function has too many parameters");
    }
    Ok(Func::new_async(&mut *caller, ty.clone(), move |caller, params, results| {
        let signature = signature.clone();
        Box::new(async move { imported(caller, id, &signature, params, results).await })
    }))
}

async fn imported(
    mut caller: Caller<'_, State>,
    id: u32,
    signature: &Signature,
    params: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let done = imported_with(&mut caller, id, signature, params, results).await;
    done.map_err(|failure| match failure {
        Failure::Error(class, message) => wasmtime::Error::new(HostThrew(class, message)),
        Failure::Thrown => wasmtime::Error::new(GuestThrew),
        Failure::Fatal(error) => error,
    })
}

async fn imported_with(caller: &mut Caller<'_, State>, id: u32, signature: &Signature, params: &[Val], results: &mut [Val]) -> Done<()> {
    let Some(guest) = caller.data().wasm.guest.clone() else { return gone("function") };
    let inbox = guest.mailbox as usize;
    let mut message = vec![0; INBOX_VALUES];
    for (at, letter) in message.iter_mut().zip(signature.params.iter().chain(&signature.results)) {
        *at = *letter;
    }
    for value in params {
        message.extend(value_out(caller, value)?.to_le_bytes());
    }
    let broken = |e: wasmtime::MemoryAccessError| Failure::Fatal(e.into());
    guest.memory.write(&mut *caller, inbox, &message).map_err(broken)?;
    tell_grown(caller).map_err(Failure::Fatal)?;
    let stack = enter(caller)?;
    caller.data_mut().wasm.inside = false;
    let counts = (id, signature.params.len() as u32, signature.results.len() as u32);
    let called = guest.imported.call_async(&mut *caller, counts).await;
    caller.data_mut().wasm.inside = true;
    leave(caller, stack);
    let status = match called {
        Ok(status) => status,
        // The guest itself does not trap: this is a limit, or its end.
        Err(error) => {
            caller.data_mut().wasm.fatal = true;
            return Err(Failure::Fatal(error));
        }
    };
    if status != 0 {
        return Err(Failure::Thrown);
    }
    for (i, (letter, result)) in signature.results.iter().zip(results).enumerate() {
        let mut bytes = [0; 8];
        guest.memory.read(&*caller, inbox + INBOX_VALUES + i * 8, &mut bytes).map_err(broken)?;
        *result = value_in(caller, *letter, u64::from_le_bytes(bytes)).await?;
    }
    Ok(())
}

/// `[module, imports]`, one entry for each import, in order: the guest's number of a function as `["j", id]`, else `[kind, number]`.
/// Answers `[name, kind, number, …types]` for each export.
async fn instantiate(caller: &mut Caller<'_, State>, args: &[WireOut]) -> Done<WireOut> {
    let compiled = compiled(caller, &text(args, 0))?;
    let given = args.get(1).and_then(Wire::as_array).unwrap_or_default();
    let tables = compiled.module.resources_required().num_tables as usize;
    if caller.data().wasm.instances + 1 + tables > INSTANCES_MAX {
        return failed("RangeError", "WebAssembly.Instance(): Out of memory: too many instances");
    }
    permit(caller, |places| &places.instances, 1 + tables)?;
    charge(caller, INSTANCE_BYTES)?;
    let mut externs = Vec::new();
    let mut given = given.iter();
    for wanted in compiled.module.imports() {
        if (wanted.module(), wanted.name()) == MEMORY_IMPORT {
            continue;
        }
        let given = given.next().and_then(Wire::as_array).unwrap_or_default();
        externs.push(imported_extern(caller, &wanted, &text(given, 0), number(given, 1))?);
    }
    if let Some(ty) = &compiled.memory {
        let memory = new_memory(caller, ty.clone()).await?;
        memory_number(caller, memory)?;
        externs.push(memory.into());
    }
    caller.data_mut().wasm.instances += 1 + tables;
    let stack = enter(caller)?;
    let made = inside!(caller, wasmtime::Instance::new_async(&mut *caller, &compiled.module, &externs).await);
    leave(caller, stack);
    let instance = made?;
    let mut exports = Vec::new();
    for export in compiled.module.exports() {
        let Some(value) = instance.get_export(&mut *caller, export.name()) else { continue };
        let mut entry: Vec<WireOut> = vec![export.name().to_owned().into(), kind(&export.ty()).into()];
        match value {
            Extern::Func(f) => {
                let n = func_number(caller, f)?;
                entry.push(n.into());
                entry.extend(func(caller, n)?.1.wire());
            }
            Extern::Memory(m) => entry.push(memory_number(caller, m)?.into()),
            Extern::Table(t) => entry.push(table_number(caller, t)?.into()),
            Extern::Global(g) => {
                let ty = g.ty(&*caller);
                entry.push(global_number(caller, g)?.into());
                entry.push(String::from(char::from(letter(ty.content()))).into());
                entry.push((ty.mutability() == Mutability::Var).into());
            }
            _ => continue,
        }
        exports.push(Wire::Array(entry));
    }
    Ok(Wire::Array(exports))
}

fn imported_extern(caller: &mut Caller<'_, State>, wanted: &wasmtime::ImportType<'_>, kind: &str, n: u32) -> Done<Extern> {
    let mismatch =
        |what: &str| failed("LinkError", format!("WebAssembly.Instance(): Import \"{}\" \"{}\": {what}", wanted.module(), wanted.name()));
    Ok(match (wanted.ty(), kind) {
        (ExternType::Func(ty), "j") => import(caller, n, &ty)?.into(),
        (ExternType::Func(ty), "function") => {
            let (func, _) = func(caller, n)?;
            if !FuncType::matches(&func.ty(&*caller), &ty) {
                return mismatch("imported function does not match the expected type");
            }
            func.into()
        }
        (ExternType::Memory(ty), "memory") => {
            let memory = memory(caller, n)?;
            let (has, pages) = (memory.ty(&*caller), memory.size(&*caller));
            if pages < ty.minimum() {
                return mismatch(&format!(
                    "memory import has {pages} pages which is smaller than the declared initial of {}",
                    ty.minimum()
                ));
            }
            match (ty.maximum(), has.maximum()) {
                (Some(_), None) => return mismatch("memory import has no maximum limit"),
                (Some(most), Some(has)) if has > most => {
                    return mismatch(&format!("memory import has a larger maximum size {has} than the module's declared maximum {most}"));
                }
                _ => memory.into(),
            }
        }
        (ExternType::Table(ty), "table") => {
            let table = table(caller, n)?;
            let (has, size) = (table.ty(&*caller), table.size(&*caller));
            let fits = RefType::eq(has.element(), ty.element()) && size >= ty.minimum();
            match (fits, ty.maximum(), has.maximum()) {
                (true, Some(most), Some(has)) if has <= most => table.into(),
                (true, None, _) => table.into(),
                _ => return mismatch("imported table does not match the expected type"),
            }
        }
        (ExternType::Global(ty), "global") => {
            let global = global(caller, n)?;
            let has = global.ty(&*caller);
            let same = ValType::eq(has.content(), ty.content()) && has.mutability() == ty.mutability();
            if !same {
                return mismatch("imported global does not match the expected type");
            }
            global.into()
        }
        _ => return mismatch("import is of another kind"),
    })
}

async fn new_memory(caller: &mut Caller<'_, State>, ty: MemoryType) -> Done<Memory> {
    if caller.data().wasm.memories.len() >= MEMORIES_MAX {
        return failed("RangeError", "WebAssembly.Memory(): could not allocate memory: too many memories");
    }
    permit(caller, |places| &places.memories, 1)?;
    match inside!(caller, Memory::new_async(&mut *caller, ty).await) {
        Err(Failure::Error(..)) => failed("RangeError", "WebAssembly.Memory(): could not allocate memory"),
        made => made,
    }
}

async fn memory_new(caller: &mut Caller<'_, State>, args: &[WireOut]) -> Done<WireOut> {
    let (least, most) = (number(args, 0), args.get(1).and_then(Wire::as_u32));
    let ty = MemoryType::builder().min(least.into()).max(most.map(u64::from)).build();
    let Ok(ty) = ty else { return failed("TypeError", "WebAssembly.Memory(): the limits are not valid") };
    let memory = new_memory(caller, ty).await?;
    Ok(memory_number(caller, memory)?.into())
}

async fn memory_grow(caller: &mut Caller<'_, State>, n: u32, pages: u32) -> Done<WireOut> {
    let memory = memory(caller, n)?;
    match inside!(caller, memory.grow_async(&mut *caller, pages.into()).await) {
        Ok(before) => {
            caller.data_mut().wasm.grown = true;
            Ok((before as u32).into())
        }
        Err(Failure::Error(..)) => failed("RangeError", "WebAssembly.Memory.grow(): Maximum memory size exceeded"),
        Err(other) => Err(other),
    }
}

/// Makes the pages of a memory visible in the guest's; answers `[address, bytes]`.
async fn map(caller: &mut Caller<'_, State>, n: u32) -> Done<WireOut> {
    let memory = memory(caller, n)?;
    let (len, ty) = (memory.data_size(&*caller), memory.ty(&*caller));
    if len == 0 {
        return Ok(Wire::Array(vec![0u32.into(), 0u32.into()]));
    }
    let none = |_| Failure::Error("RangeError", "WebAssembly.Memory: the machine has no room for its buffer".into());
    let base = memory.data_ptr(&*caller);
    let limit = caller.data().memory_limit();
    let shared = &mut caller.data_mut().wasm.memories[n as usize];
    if shared.pages.is_none() {
        let declared = ty.maximum().map_or(usize::MAX, |pages| (pages as usize).saturating_mul(WASM_PAGE));
        // Never more than its limit: beyond that it does not grow.
        let most = declared.min(limit / WASM_PAGE * WASM_PAGE).max(len);
        shared.pages = Some(Pages::replace(base, len, most).map_err(none)?);
    }
    if shared.place.as_ref().is_none_or(|place| place.len < len) {
        if let Some(mut old) = shared.place.take() {
            old.clear();
            caller.data_mut().wasm.free.push(old);
        }
        let place = place(caller, len).await?;
        caller.data_mut().wasm.memories[n as usize].place = Some(place);
    }
    let live = &mut caller.data_mut().wasm;
    let SharedMemory { pages: Some(pages), place: Some(place), .. } = &mut live.memories[n as usize] else { return gone("memory") };
    place.map(pages, len).map_err(none)?;
    Ok(Wire::Array(vec![place.offset.into(), (len as f64).into()]))
}

/// A place of at least `len` bytes: one that is free, or a new one at the end of the guest's memory, with room to grow.
async fn place(caller: &mut Caller<'_, State>, len: usize) -> Done<Place> {
    let free = &mut caller.data_mut().wasm.free;
    let fitting = free.iter().enumerate().filter(|(_, p)| p.len >= len).min_by_key(|(_, p)| p.len).map(|(i, _)| i);
    if let Some(i) = fitting {
        return Ok(free.swap_remove(i));
    }
    let Some(guest) = caller.data().wasm.guest.clone() else { return gone("memory") };
    for wanted in [len.next_power_of_two().max(1 << 20), len] {
        let pages = wanted.div_ceil(WASM_PAGE);
        caller.data_mut().wasm.placing = true;
        let grown = guest.memory.grow_async(&mut *caller, pages as u64).await;
        caller.data_mut().wasm.placing = false;
        if let Ok(before) = grown {
            let offset = before as usize * WASM_PAGE;
            let address = guest.memory.data_ptr(&*caller) as usize + offset;
            return Ok(Place::new(address, offset as u32, pages * WASM_PAGE));
        }
    }
    failed("RangeError", "WebAssembly.Memory: there is no room for its buffer")
}

fn table_number(caller: &mut Caller<'_, State>, table: Table) -> Done<u32> {
    let tables = &mut caller.data_mut().wasm.tables;
    if tables.len() >= TABLES_MAX {
        return failed("RangeError", "WebAssembly.Table(): too many tables");
    }
    tables.push(table);
    Ok(tables.len() as u32 - 1)
}

fn table_new(caller: &mut Caller<'_, State>, args: &[WireOut]) -> Done<WireOut> {
    let Some(ValType::Ref(element)) = value_type(&text(args, 0)) else {
        return failed("TypeError", "WebAssembly.Table(): not a reference type");
    };
    let (least, most) = (number(args, 1), args.get(2).and_then(Wire::as_u32));
    if least as usize > ELEMENTS_MAX {
        return failed("RangeError", "WebAssembly.Table(): could not allocate the table");
    }
    let init = Ref::null(element.heap_type());
    let table: Done<Table> = inside!(caller, Table::new(&mut *caller, TableType::new(element, least, most), init));
    let Ok(table) = table else { return failed("RangeError", "WebAssembly.Table(): could not allocate the table") };
    Ok(table_number(caller, table)?.into())
}

fn as_ref(value: Val) -> Done<Ref> {
    match value {
        Val::FuncRef(f) => Ok(Ref::Func(f)),
        Val::ExternRef(e) => Ok(Ref::Extern(e)),
        _ => failed("TypeError", "not a reference"),
    }
}

fn table_get(caller: &mut Caller<'_, State>, n: u32, i: u32) -> Done<WireOut> {
    let table = table(caller, n)?;
    let value = match table.get(&mut *caller, i.into()) {
        Some(Ref::Func(f)) => Val::FuncRef(f),
        Some(Ref::Extern(e)) => Val::ExternRef(e),
        _ => {
            return failed("RangeError", format!("WebAssembly.Table.get(): invalid address {i} in table of size {}", table.size(&*caller)));
        }
    };
    Ok((value_out(caller, &value)? as u32).into())
}

async fn table_value(caller: &mut Caller<'_, State>, table: Table, reference: u32) -> Done<Ref> {
    let letter = reference_letter(&table.ty(&*caller));
    as_ref(value_in(caller, letter, reference.into()).await?)
}

async fn table_set(caller: &mut Caller<'_, State>, args: &[WireOut]) -> Done<WireOut> {
    let (table, i) = (table(caller, number(args, 0))?, number(args, 1));
    let value = table_value(caller, table, number(args, 2)).await?;
    match table.set(&mut *caller, i.into(), value) {
        Ok(()) => Ok(Wire::Undefined),
        Err(_) => failed("RangeError", format!("WebAssembly.Table.set(): invalid address {i} in table of size {}", table.size(&*caller))),
    }
}

async fn table_grow(caller: &mut Caller<'_, State>, args: &[WireOut]) -> Done<WireOut> {
    let table = table(caller, number(args, 0))?;
    let value = table_value(caller, table, number(args, 2)).await?;
    match inside!(caller, table.grow_async(&mut *caller, number(args, 1).into(), value).await) {
        Ok(before) => Ok((before as u32).into()),
        Err(Failure::Error(..)) => failed("RangeError", "WebAssembly.Table.grow(): failed to grow table"),
        Err(other) => Err(other),
    }
}

fn global_number(caller: &mut Caller<'_, State>, global: Global) -> Done<u32> {
    charge(caller, HANDLE_BYTES)?;
    let globals = &mut caller.data_mut().wasm.globals;
    if globals.len() >= HANDLES_MAX {
        return failed("RangeError", "WebAssembly.Global(): too many globals");
    }
    globals.push(global);
    Ok(globals.len() as u32 - 1)
}

/// The eight bytes of a value, as the guest writes them.
fn raw(args: &[WireOut], i: usize) -> u64 {
    let bytes = args.get(i).and_then(Wire::as_bytes).and_then(|b| b.first_chunk::<8>().copied());
    u64::from_le_bytes(bytes.unwrap_or_default())
}

async fn global_new(caller: &mut Caller<'_, State>, args: &[WireOut]) -> Done<WireOut> {
    let name = text(args, 0);
    let Some(ty) = value_type(&name) else { return failed("TypeError", "WebAssembly.Global(): the value type is not supported") };
    let mutability = if args.get(1).and_then(Wire::as_bool) == Some(true) { Mutability::Var } else { Mutability::Const };
    let value = value_in(caller, name.as_bytes()[0], raw(args, 2)).await?;
    let global = Global::new(&mut *caller, GlobalType::new(ty, mutability), value);
    let Ok(global) = global else { return failed("RangeError", "WebAssembly.Global(): could not allocate the global") };
    Ok(global_number(caller, global)?.into())
}

fn global_get(caller: &mut Caller<'_, State>, n: u32) -> Done<WireOut> {
    let value = global(caller, n)?.get(&mut *caller);
    Ok(value_out(caller, &value)?.to_le_bytes().to_vec().into())
}

async fn global_set(caller: &mut Caller<'_, State>, args: &[WireOut]) -> Done<WireOut> {
    let global = global(caller, number(args, 0))?;
    let letter = letter(global.ty(&*caller).content());
    let value = value_in(caller, letter, raw(args, 1)).await?;
    match global.set(&mut *caller, value) {
        Ok(()) => Ok(Wire::Undefined),
        Err(_) => failed("TypeError", "set WebAssembly.Global.value: Can't set the value of an immutable global."),
    }
}

/// Looks for references that Wasm no longer holds; answers their numbers.
async fn collect(caller: &mut Caller<'_, State>) -> Done<WireOut> {
    inside!(caller, caller.as_context_mut().gc_async(None).await)?;
    let dropped = std::mem::take(&mut *caller.data().wasm.dropped.lock());
    Ok(Wire::Array(dropped.into_iter().map(Wire::from).collect()))
}
