//! Guests as isolates: the engine, behind the seam.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use skep_bundle::Compiler;
use skep_isolate::{
    Actor, Compile, Engine, EngineConfig, Entry, Event, Exception, HibernateError, Image, Isolate, Limits, Loader, Meter, Outcome, Report,
    Request, RpcMessage, Snapshot, SnapshotError, SocketMessage, Transform, Worker,
};
use tokio::sync::oneshot;

use crate::{Awake, Entrypoint, Export, Guest, OpenError, Resident, Runtime, Served, Written};

/// Named workers that one loader remembers; the one used longest ago goes first.
const NAMED_MAX: usize = 256;

/// The engine and its image.
pub(crate) struct Isolates {
    image: Image,
}

impl Isolates {
    /// Starts the engine with the image of this build or another; compiled code is kept in `cache`, which must be the node's own.
    pub fn open(config: &EngineConfig, image: Option<&Path>, cache: &Path, compiler: Compiler) -> Result<Self, OpenError> {
        let engine = Engine::new(config.clone()).map_err(|error| OpenError::Engine(Box::new(error)))?;
        engine.set_compiler(Arc::new(InChild(compiler)));
        let image = match image {
            Some(file) => Image::load_file(&engine, file, Some(cache)),
            None => Image::load(&engine, Some(cache)),
        };
        Ok(Self { image: image.map_err(|error| OpenError::Engine(Box::new(error)))? })
    }
}

/// Wasm modules of workers, compiled in a child that no other module gets near.
struct InChild(Compiler);

impl Compile for InChild {
    fn compile(&self, module: Bytes) -> BoxFuture<'static, Result<Vec<u8>, String>> {
        let compiler = self.0.clone();
        Box::pin(async move { compiler.wasm("the module", &module).await.map_err(|error| error.to_string()) })
    }
}

impl Runtime for Isolates {
    fn image(&self) -> String {
        self.image.hash().to_owned()
    }

    fn start(&self, worker: Arc<Worker>) -> Arc<dyn Guest> {
        Arc::new(Isolate::start(&self.image, worker))
    }

    fn resident(&self, worker: Arc<Worker>, actor: Actor, heap: Option<&[u8]>) -> Result<Arc<dyn Resident>, String> {
        let isolate = match heap {
            None => Isolate::start_actor(&self.image, worker, actor),
            Some(heap) => {
                let snapshot = Snapshot::from_bytes(heap).map_err(|error| error.to_string())?;
                Isolate::wake_actor(&self.image, worker, snapshot, actor).map_err(|error| error.to_string())?
            }
        };
        Ok(Arc::new(isolate))
    }

    fn loader(&self, policy: Limits, transform: Arc<dyn Transform>) -> Option<Arc<Loader>> {
        Some(Loader::new(&self.image, policy, NAMED_MAX, transform))
    }

    fn free(&self) -> usize {
        self.image.engine().free_slots()
    }
}

impl Guest for Isolate {
    fn loaded(&self) -> BoxFuture<'_, Result<(), Outcome>> {
        Box::pin(self.ready())
    }

    fn fetch(&self, entrypoint: Entrypoint, request: Request) -> BoxFuture<'_, Result<Served, Report>> {
        Box::pin(async move {
            let (sender, report) = oneshot::channel();
            match self.fetch_reported(entry(entrypoint), request, Some(sender)).await {
                Ok(response) => Ok(Served { response, report: Box::pin(awaited(report, Outcome::Ok)) }),
                Err(outcome) => Err(failed(report, outcome).await),
            }
        })
    }

    fn rpc(&self, entrypoint: Entrypoint, message: RpcMessage) -> BoxFuture<'_, Result<RpcMessage, Report>> {
        Box::pin(async move {
            let answer = Self::rpc(self, entry(entrypoint), message).await;
            answer.map_err(|outcome| Report { outcome, meter: Meter::default() })
        })
    }

    fn run(&self, module: String, args: String) -> BoxFuture<'_, (Option<String>, Report)> {
        Box::pin(async move {
            let (sender, report) = oneshot::channel();
            let event = Event::Run { module, export: "default".to_owned(), args };
            match self.event(Entry::default(), event, Some(sender)).await {
                Ok(result) => (String::from_utf8(result.to_vec()).ok(), awaited(report, Outcome::Ok).await),
                Err(outcome) => (None, failed(report, outcome).await),
            }
        })
    }

    fn exports(&self) -> BoxFuture<'_, Result<Vec<Export>, Outcome>> {
        Box::pin(async move {
            let json = self.event(Entry::default(), Event::Exports, None).await?;
            // The list is made by our side of the guest, but in the same heap as the worker's code: it may be anything.
            let list: Vec<(String, bool)> =
                serde_json::from_slice(&json).map_err(|_| Outcome::Internal("what the worker exports cannot be read".to_owned()))?;
            Ok(list.into_iter().map(|(name, class)| Export { name, class }).collect())
        })
    }

    fn alive(&self) -> bool {
        !self.has_ended()
    }
}

impl Resident for Isolate {
    fn alarm(&self, name: String, due_ms: u64, retries: u32) -> BoxFuture<'static, Result<(), Outcome>> {
        let isolate = self.clone();
        Box::pin(async move { Self::alarm(&isolate, &name, due_ms as f64, retries).await })
    }

    fn message(&self, socket: u32, message: SocketMessage, wall_ms: Option<u32>) -> BoxFuture<'static, Result<(), Outcome>> {
        let isolate = self.clone();
        Box::pin(async move { isolate.socket(socket, message, wall_ms).await })
    }

    fn write_down(&self) -> BoxFuture<'static, Result<Written, Awake>> {
        let isolate = self.clone();
        Box::pin(async move {
            let snapshot = isolate.snapshot().await.map_err(|error| match error {
                SnapshotError::Ended => Awake::Ended,
                other => Awake::Heapless(other.to_string()),
            })?;
            written(snapshot).await
        })
    }

    fn hibernate(&self) -> BoxFuture<'static, Result<Written, Awake>> {
        let isolate = self.clone();
        Box::pin(async move {
            let snapshot = Self::hibernate(&isolate).await.map_err(|error| match error {
                HibernateError::Busy(why) => Awake::Busy(why.to_owned()),
                HibernateError::Heapless(why) => Awake::Heapless(why),
                HibernateError::Ended => Awake::Ended,
            })?;
            written(snapshot).await
        })
    }

    fn end(&self, reason: &str) {
        Self::end(self, Exception { name: "Error".to_owned(), message: reason.to_owned(), stack: String::new() });
    }

    fn in_flight(&self) -> u32 {
        Self::in_flight(self)
    }

    fn gone(&self) -> BoxFuture<'static, ()> {
        self.when_gone()
    }
}

/// Heaps of up to so many bytes are compressed where they are: in a third of a millisecond, about, which is nothing next to a turn of their guest, and
/// when many actors fall asleep at once the way to another thread and back is a good part of the work.
const SMALL_HEAP: usize = 128 << 10;

/// Compressing a large heap takes milliseconds: off the threads that answer requests.
async fn written(snapshot: Snapshot) -> Result<Written, Awake> {
    let timer_ms = snapshot.next_timer_ms();
    if snapshot.plain_bytes() <= SMALL_HEAP {
        return Ok(Written { heap: snapshot.to_bytes().into(), timer_ms });
    }
    let packed = tokio::task::spawn_blocking(move || snapshot.to_bytes()).await;
    let heap = packed.map_err(|_| Awake::Heapless("it could not be compressed".to_owned()))?.into();
    Ok(Written { heap, timer_ms })
}

/// The report of a call, or one without a meter when the isolate went before it could make one.
async fn awaited(report: oneshot::Receiver<Report>, outcome: Outcome) -> Report {
    report.await.unwrap_or(Report { outcome, meter: Meter::default() })
}

/// The caller's outcome is the one to show: the report's may already be that of the isolate's end.
async fn failed(report: oneshot::Receiver<Report>, outcome: Outcome) -> Report {
    Report { outcome: outcome.clone(), ..awaited(report, outcome).await }
}

fn entry(Entrypoint { name, props }: Entrypoint) -> Entry {
    Entry { name, props_json: props, ..Entry::default() }
}
