//! One context: a language, a folder, and an interpreter that keeps what cells leave in it. Cells run one after the other.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use skep_sandbox::Sandbox;
use tokio::sync::{Mutex, mpsc, watch};

use super::{
    kernel::{Kernel, KernelError, Said},
    language::Language,
};

/// Lines that may be ahead of a client; behind them the interpreter waits.
const LINES_AHEAD: usize = 16;

/// Cells that may wait for those before them, in one context.
const CELLS_MAX: usize = 64;

/// How long an interrupted cell has to end before its interpreter is ended.
const GRACE: Duration = Duration::from_secs(10);

/// What stands at the end of a stream when the interpreter has gone in the middle of a cell.
const UNEXPECTED_END: &[u8] = b"{\"type\":\"unexpected_end_of_execution\"}\n";

pub(super) struct Context {
    pub id: String,
    pub language: Language,
    pub folder: String,
    /// Whether it serves cells that name no context.
    pub default: bool,
    sandbox: Sandbox,
    env: BTreeMap<String, String>,
    inside: Arc<Mutex<Inside>>,
    /// Counts restarts: a cell that began before one ends by it.
    restarts: watch::Sender<u64>,
    waiting: Arc<AtomicUsize>,
}

/// The interpreter, as long as there is one.
enum Inside {
    Alive(Box<Kernel>),
    /// It ended: the next cell begins with a new one.
    Ended,
    /// Somebody removed the context.
    Removed,
}

/// A cell that waits or runs.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(waiting: &Arc<AtomicUsize>) -> Result<Self, KernelError> {
        let before = waiting.fetch_add(1, Relaxed);
        let place = Self(Arc::clone(waiting));
        if before >= CELLS_MAX { Err(KernelError::Crowded) } else { Ok(place) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Context {
    pub async fn start(
        sandbox: Sandbox,
        env: BTreeMap<String, String>,
        language: Language,
        folder: String,
        default: bool,
    ) -> Result<Self, KernelError> {
        let kernel = Kernel::start(&sandbox, language, &folder, &env).await?;
        let id = new_id()?;
        let inside = Arc::new(Mutex::new(Inside::Alive(Box::new(kernel))));
        let (restarts, _) = watch::channel(0);
        Ok(Self { id, language, folder, default, sandbox, env, inside, restarts, waiting: Arc::default() })
    }

    /// Runs a cell after those before it. Its lines come as they are said; when nobody wants them any more, the cell is interrupted.
    pub async fn execute(&self, code: String, env: BTreeMap<String, String>) -> Result<mpsc::Receiver<Bytes>, KernelError> {
        let place = Place::take(&self.waiting)?;
        let mut restarted = self.restarts.subscribe();
        let mut inside = Arc::clone(&self.inside).lock_owned().await;
        self.revive(&mut inside).await?;
        let (lines, reader) = mpsc::channel(LINES_AHEAD);
        tokio::spawn(async move {
            let _place = place;
            let Inside::Alive(kernel) = &mut *inside else { return };
            let ended = tokio::select! {
                ended = run(kernel, &code, &env, &lines) => ended,
                _ = restarted.changed() => false,
            };
            if !ended {
                *inside = Inside::Ended;
                // Nobody may be listening.
                let _ = lines.send(Bytes::from_static(UNEXPECTED_END)).await;
            }
        });
        Ok(reader)
    }

    /// A new interpreter in place of this one; cells that run or wait end by it.
    pub async fn restart(&self) -> Result<(), KernelError> {
        self.restarts.send_modify(|restarts| *restarts += 1);
        let mut inside = self.inside.lock().await;
        if !matches!(*inside, Inside::Removed) {
            *inside = Inside::Ended;
        }
        self.revive(&mut inside).await
    }

    pub async fn remove(&self) {
        self.restarts.send_modify(|restarts| *restarts += 1);
        *self.inside.lock().await = Inside::Removed;
    }

    async fn revive(&self, inside: &mut Inside) -> Result<(), KernelError> {
        let alive = match inside {
            Inside::Alive(kernel) => kernel.alive(),
            Inside::Ended => false,
            Inside::Removed => return Err(KernelError::Removed),
        };
        if !alive {
            *inside = Inside::Ended;
            *inside = Inside::Alive(Box::new(Kernel::start(&self.sandbox, self.language, &self.folder, &self.env).await?));
        }
        Ok(())
    }
}

/// Runs a cell to its end; `false` when the interpreter went first.
async fn run(kernel: &mut Kernel, code: &str, env: &BTreeMap<String, String>, lines: &mpsc::Sender<Bytes>) -> bool {
    let Ok(cell) = kernel.begin(code, env).await else { return false };
    loop {
        let said = tokio::select! {
            said = kernel.said(cell) => said,
            () = lines.closed() => return interrupted(kernel, cell).await,
        };
        match said {
            Said::Line(line) => {
                if lines.send(line).await.is_err() {
                    return interrupted(kernel, cell).await;
                }
            }
            Said::End(line) => {
                let _ = lines.send(line).await;
                return true;
            }
            Said::Gone => return false,
        }
    }
}

/// Nobody listens any more: what a cell has left in the context stays, what it still does ends.
async fn interrupted(kernel: &mut Kernel, cell: u64) -> bool {
    let ended = async {
        kernel.interrupt(cell).await;
        loop {
            match kernel.said(cell).await {
                Said::Line(_) => {}
                Said::End(_) => return true,
                Said::Gone => return false,
            }
        }
    };
    tokio::time::timeout(GRACE, ended).await.unwrap_or(false)
}

/// A name that nobody can guess, in the form of a UUID.
fn new_id() -> Result<String, KernelError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| KernelError::Failed(error.to_string()))?;
    let hex = format!("{:032x}", u128::from_le_bytes(random));
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}
