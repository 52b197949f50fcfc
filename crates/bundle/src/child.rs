//! The compile child: a process that parses and compiles what nobody vouches for.
//!
//! It is the same program, started again with a hidden subcommand. It has standard input and output and nothing else of its
//! parent's, an empty environment, and the fences of `fence.rs` around it, so that code which takes it over can compute and
//! write to its pipe. It answers one question after the other; what it answers is data that the parent checks the length of
//! and no more. When a text makes the parser overflow its stack, this process dies, and only it.
//!
//! The wire, both ways: length as `u32`, little-endian, then that many bytes. A question is a kind byte and its payload, an answer
//! is a status byte (0 good, 1 the code is at fault) and its payload.

use std::io::{self, Read, Write};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    fence::{self, Fence},
    strip::{Language, Stripped, strip},
};

/// CPU seconds for one question; the kernel ends the process at the next full second.
const CPU_SECONDS_MAX: u64 = 30;

/// Stack on which questions are answered. Deep but honest code passes; the rest ends the child.
const STACK_BYTES: usize = 256 << 20;

/// Longest question. Above the largest code that a node takes.
pub(crate) const QUESTION_BYTES_MAX: u32 = 128 << 20;

const STRIP: u8 = 0;
const WASM: u8 = 1;
const FENCES: u8 = 2;

/// What the child can do besides stripping types; given by the binary, which knows the Wasm engine.
pub trait Handlers: Send {
    /// Compiles a Wasm module into what the engine loads. Behind the fences: without files, and without executable memory.
    ///
    /// # Errors
    /// With the compiler's words when the module is not valid.
    fn wasm(&self, module: &[u8]) -> Result<Vec<u8>, String>;
}

/// The child's whole life: fences, then questions from standard input until it is closed. The calling thread must be the
/// only one of its process.
///
/// # Errors
/// When no thread can be started or the parent is gone.
pub fn serve(handlers: Box<dyn Handlers>) -> io::Result<()> {
    let mut fences = fence::first();
    let answering = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        fences.push(fence::last());
        answer_all(&*handlers, &fences)
    })?;
    answering.join().unwrap_or_else(|_| Err(io::Error::other("the compiler panicked")))
}

/// CPU time counts over the process's life, so the soft limit moves on with each question.
fn allow_cpu() -> io::Result<()> {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
    let maximum = getrlimit(Resource::Cpu).maximum;
    Ok(setrlimit(Resource::Cpu, Rlimit { current: Some(spent + CPU_SECONDS_MAX), maximum })?)
}

fn answer_all(handlers: &dyn Handlers, fences: &[Fence]) -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    loop {
        let mut length = [0; 4];
        match input.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let length = u32::from_le_bytes(length);
        if length > QUESTION_BYTES_MAX {
            return Err(io::Error::other("the question is too long"));
        }
        let mut question = vec![0; length as usize];
        input.read_exact(&mut question)?;
        allow_cpu()?;
        let (status, payload) = match answer(handlers, fences, &question) {
            Ok(payload) => (0, payload),
            Err(message) => (1, message.into_bytes()),
        };
        let length = u32::try_from(payload.len() + 1).map_err(io::Error::other)?;
        output.write_all(&length.to_le_bytes())?;
        output.write_all(&[status])?;
        output.write_all(&payload)?;
        output.flush()?;
    }
}

fn answer(handlers: &dyn Handlers, fences: &[Fence], question: &[u8]) -> Result<Vec<u8>, String> {
    let (&kind, payload) = question.split_first().ok_or("an empty question")?;
    match kind {
        STRIP => {
            let (&language, rest) = payload.split_first().ok_or("no language")?;
            let language = Language::from_code(language).ok_or("an unknown language")?;
            let (name, source) = split_text(rest).ok_or("no name")?;
            let source = str::from_utf8(source).map_err(|_| format!("{name} is not UTF-8"))?;
            let stripped = strip(name, source, language).map_err(|error| error.0)?;
            Ok(join_text(&stripped.code, stripped.source_map.as_bytes()))
        }
        WASM => handlers.wasm(payload),
        FENCES => Ok(fences.iter().map(fence_line).collect::<String>().into_bytes()),
        _ => Err("an unknown kind of question".to_owned()),
    }
}

pub(crate) fn strip_question(name: &str, source: &str, language: Language) -> Vec<u8> {
    let mut question = vec![STRIP, language.code()];
    question.extend(join_text(name, source.as_bytes()));
    question
}

pub(crate) fn strip_answer(payload: &[u8]) -> Option<Stripped> {
    let (code, source_map) = split_text(payload)?;
    Some(Stripped { code: code.to_owned(), source_map: str::from_utf8(source_map).ok()?.to_owned() })
}

pub(crate) fn wasm_question(module: &[u8]) -> Vec<u8> {
    let mut question = Vec::with_capacity(module.len() + 1);
    question.push(WASM);
    question.extend_from_slice(module);
    question
}

pub(crate) fn fences_question() -> Vec<u8> {
    vec![FENCES]
}

fn fence_line(fence: &Fence) -> String {
    let Fence { name, standing, said } = fence;
    format!("{name}\t{standing}\t{}\n", said.replace(['\t', '\n'], " "))
}

pub(crate) fn fences_answer(payload: &[u8]) -> Option<Vec<Fence>> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, '\t');
        let (name, standing, said) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Fence { name: name.to_owned(), standing: standing == "true", said: said.to_owned() })
    };
    str::from_utf8(payload).ok()?.lines().map(line).collect()
}

/// A text with its length before it, then the rest.
fn join_text(text: &str, rest: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(4 + text.len() + rest.len());
    joined.extend((u32::try_from(text.len()).unwrap_or(u32::MAX)).to_le_bytes());
    joined.extend_from_slice(text.as_bytes());
    joined.extend_from_slice(rest);
    joined
}

fn split_text(joined: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = joined.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((str::from_utf8(text).ok()?, rest))
}
