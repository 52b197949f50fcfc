//! Port 49983 of every sandbox: which [`Envd`] a request is for.
//!
//! What it knows of a sandbox (commands, watches, users) is of one run of it: it goes when the sandbox's processes do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Extension, Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use skep_id::SandboxId;
use skep_node::{Owned, Sandbox};
use tower::ServiceExt;

use super::envd::{Envd, EnvdSettings, router};

/// The routers of all sandboxes that were asked for one.
#[derive(Clone, Default)]
struct Runs {
    of: Arc<Mutex<HashMap<SandboxId, Run>>>,
}

struct Run {
    /// The sandbox's init: another one is another run.
    pid: i32,
    router: Router,
}

/// Answers for every sandbox; whose a request is, is beside it.
pub(crate) fn served() -> Router {
    Router::new().fallback(answer).with_state(Runs::default())
}

async fn answer(
    State(runs): State<Runs>,
    Extension(owned): Extension<Owned>,
    Extension(sandbox): Extension<Sandbox>,
    request: Request,
) -> Response {
    runs.router(&owned, &sandbox).oneshot(request).await.into_response()
}

impl Runs {
    fn router(&self, owned: &Owned, sandbox: &Sandbox) -> Router {
        let mut all = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = all.get(owned.id()).filter(|run| run.pid == sandbox.pid()) {
            return run.router.clone();
        }
        let facts = owned.facts();
        let settings = EnvdSettings {
            token: facts.envd_token,
            envs: facts.env,
            user: facts.setup.user.unwrap_or_default(),
            workdir: facts.setup.workdir,
            cpu_count: facts.limits.cpu_millis.div_ceil(1_000).max(1),
            memory_bytes: facts.limits.memory_bytes,
            ..EnvdSettings::default()
        };
        let router = router(Envd::new(sandbox.clone(), settings));
        all.insert(owned.id().clone(), Run { pid: sandbox.pid(), router: router.clone() });
        drop(all);
        let (runs, id, sandbox) = (self.clone(), owned.id().clone(), sandbox.clone());
        tokio::spawn(async move {
            let _ = sandbox.ended().await;
            let mut all = runs.of.lock().unwrap_or_else(PoisonError::into_inner);
            if all.get(&id).is_some_and(|run| run.pid == sandbox.pid()) {
                all.remove(&id);
            }
        });
        router
    }
}
