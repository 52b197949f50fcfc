//! The parent's side of the compile child: a few warm children, one question at a time each.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Semaphore,
};

use crate::{
    child::{QUESTION_BYTES_MAX, fences_answer, fences_question, strip_answer, strip_question, wasm_question},
    fence::Fence,
    strip::{Language, Stripped},
};

/// Longest answer that is read. Compiled Wasm is a few times its source.
const ANSWER_BYTES_MAX: u32 = 1 << 30;

/// A child is replaced after so many questions, so that what leaks in one does not grow for ever.
const QUESTIONS_MAX: u32 = 1_000;

/// How children are started and bounded.
#[derive(Debug, Clone)]
pub struct CompilerConfig {
    /// The program that becomes a child; as a rule the running one.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Most children at once. Each may use a core and some hundred MiB; further questions wait.
    pub children_max: usize,
    /// Longest time for one question.
    pub timeout: Duration,
    /// Whether a child that could not raise all of its fences is used at all.
    pub fences_required: bool,
}

/// Why there is no compiled code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The code is at fault; the compiler's words.
    #[error("{0}")]
    Code(String),
    /// Compiling it ended the child: nested too deeply, or too large for the child's memory or CPU time.
    #[error("{0} could not be compiled: it is nested too deeply or needs more memory or time than the compiler may take")]
    Died(String),
    /// It took too long.
    #[error("{0} could not be compiled within {1:?}")]
    TimedOut(String, Duration),
    /// It is larger than is ever compiled.
    #[error("{0} is too large to be compiled")]
    TooLarge(String),
    /// No child could be started.
    #[error("the compiler process could not be started: {0}")]
    NoChild(String),
}

/// Compiles in children. Cheap to clone; children are started when first needed and end with the last clone.
#[derive(Clone)]
pub struct Compiler {
    inner: Arc<Inner>,
}

struct Inner {
    config: CompilerConfig,
    turns: Semaphore,
    idle: Mutex<Vec<Warm>>,
}

struct Warm {
    // Killed when it is dropped.
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
    asked: u32,
}

impl Compiler {
    /// A compiler that has not started any child yet.
    #[must_use]
    pub fn new(config: CompilerConfig) -> Self {
        let turns = Semaphore::new(config.children_max.max(1));
        Self { inner: Arc::new(Inner { config, turns, idle: Mutex::default() }) }
    }

    /// [`crate::strip()`] in a child.
    ///
    /// # Errors
    /// When the text does not parse, or the child did not survive it.
    pub async fn strip(&self, name: &str, source: &str, language: Language) -> Result<Stripped, CompileError> {
        let payload = self.ask(name, strip_question(name, source, language), true).await?;
        strip_answer(&payload).ok_or_else(|| CompileError::Died(name.to_owned()))
    }

    /// Compiles a Wasm module in a child, by the handler that the child was given. The child ends with it: what is compiled for
    /// one worker becomes code, and nothing that another's module did to the compiler may be in it.
    ///
    /// # Errors
    /// When the module is not valid, or the child did not survive it.
    pub async fn wasm(&self, name: &str, module: &[u8]) -> Result<Vec<u8>, CompileError> {
        self.ask(name, wasm_question(module), false).await
    }

    /// The fences around a child, as a fresh one reports them.
    ///
    /// # Errors
    /// When no child can be started.
    pub async fn fences(&self) -> Result<Vec<Fence>, CompileError> {
        self.start()?.fences(self.inner.config.timeout).await
    }

    async fn ask(&self, name: &str, question: Vec<u8>, shared: bool) -> Result<Vec<u8>, CompileError> {
        if question.len() > QUESTION_BYTES_MAX as usize {
            return Err(CompileError::TooLarge(name.to_owned()));
        }
        let _turn = self.inner.turns.acquire().await.map_err(|error| CompileError::NoChild(error.to_string()))?;
        let idle = if shared { self.idle() } else { None };
        let mut child = match idle {
            Some(child) => child,
            None => self.fenced().await?,
        };
        let timeout = self.inner.config.timeout;
        let (status, payload) = tokio::time::timeout(timeout, child.exchange(&question))
            .await
            .map_err(|_| CompileError::TimedOut(name.to_owned(), timeout))?
            .map_err(|_| CompileError::Died(name.to_owned()))?;
        if shared && child.asked < QUESTIONS_MAX {
            self.inner.idle.lock().push(child);
        }
        if status == 0 { Ok(payload) } else { Err(CompileError::Code(String::from_utf8_lossy(&payload).into_owned())) }
    }

    /// A child that waits for a question; one that has ended meanwhile is none.
    fn idle(&self) -> Option<Warm> {
        let mut idle = self.inner.idle.lock();
        while let Some(mut child) = idle.pop() {
            if matches!(child.process.try_wait(), Ok(None)) {
                return Some(child);
            }
        }
        None
    }

    async fn fenced(&self) -> Result<Warm, CompileError> {
        let mut child = self.start()?;
        if self.inner.config.fences_required {
            let fences = child.fences(self.inner.config.timeout).await?;
            let missing: Vec<String> = fences.iter().filter(|f| !f.standing).map(|f| format!("{}: {}", f.name, f.said)).collect();
            if !missing.is_empty() {
                return Err(CompileError::NoChild(format!("not all of its fences stand, and they are required ({})", missing.join("; "))));
            }
        }
        Ok(child)
    }

    fn start(&self) -> Result<Warm, CompileError> {
        let failed = |why: &str| CompileError::NoChild(format!("{}: {why}", self.inner.config.program.display()));
        let mut process = Command::new(&self.inner.config.program)
            .args(&self.inner.config.args)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error.to_string()))?;
        let input = process.stdin.take().ok_or_else(|| failed("no standard input"))?;
        let output = process.stdout.take().ok_or_else(|| failed("no standard output"))?;
        Ok(Warm { process, input, output, asked: 0 })
    }
}

impl Warm {
    /// Asked of a child that has not seen any code yet, and is believed therefore.
    async fn fences(&mut self, timeout: Duration) -> Result<Vec<Fence>, CompileError> {
        let asked = tokio::time::timeout(timeout, self.exchange(&fences_question())).await;
        let answer = asked.ok().and_then(Result::ok).and_then(|(_, payload)| fences_answer(&payload));
        answer.ok_or_else(|| CompileError::NoChild("it ended before it answered".to_owned()))
    }

    async fn exchange(&mut self, question: &[u8]) -> std::io::Result<(u8, Vec<u8>)> {
        self.asked += 1;
        let length = u32::try_from(question.len()).map_err(std::io::Error::other)?;
        self.input.write_all(&length.to_le_bytes()).await?;
        self.input.write_all(question).await?;
        self.input.flush().await?;
        let length = self.output.read_u32_le().await?;
        if length == 0 || length > ANSWER_BYTES_MAX {
            return Err(std::io::Error::other("an answer of impossible length"));
        }
        let status = self.output.read_u8().await?;
        let mut payload = Vec::new();
        (&mut self.output).take(u64::from(length) - 1).read_to_end(&mut payload).await?;
        if payload.len() as u64 != u64::from(length) - 1 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok((status, payload))
    }
}
