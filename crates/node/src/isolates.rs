//! Guests as isolates: the engine, behind the seam.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use skep_bundle::Compiler;
use skep_isolate::{
    Compile, Engine, EngineConfig, Entry, Event, Image, Isolate, Limits, Loader, Meter, Outcome, Report, Request, RpcMessage, Transform,
    Worker,
};
use tokio::sync::oneshot;

use crate::{Entrypoint, Guest, OpenError, Runtime, Served};

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

    fn alive(&self) -> bool {
        !self.has_ended()
    }
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
