//! A look at the files of actors while no node runs on them: what is sound, what was repaired, what is lost. Asked by `skep doctor`.

use std::{path::Path, sync::Arc};

use skep_actor::{
    GuestError, Guests, Start,
    log::{DurableLog, LocalLog},
};

use crate::{Config, OpenError, node::claim};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Actors looked at.
    pub actors: u64,
    /// What is or was amiss, one sentence each, with its file; empty when all is sound.
    pub findings: Vec<String>,
    /// Whether something is amiss still.
    pub amiss: bool,
}

/// Nobody is woken by a look.
struct Nobody;

impl Guests for Nobody {
    fn start(&self, _start: Start) -> skep_actor::BoxFuture<Result<Arc<dyn skep_actor::Guest>, GuestError>> {
        Box::pin(async { Err(GuestError::Busy("the files are being looked at".to_owned())) })
    }

    fn code(&self, _namespace: &str) -> Option<String> {
        None
    }
}

/// Looks at all actors of a data folder on which no node runs; repairs what the log can repair, if asked to.
///
/// # Errors
/// When a node runs on the folder, or the log itself cannot be opened; the error names file and place.
pub async fn inspect(config: &Config, repair: bool) -> Result<Inspection, OpenError> {
    let dir = config.data.join(&config.actors.dir);
    if !dir.exists() {
        return Ok(Inspection { actors: 0, findings: Vec::new(), amiss: false });
    }
    let _lock = claim(&config.data)?;
    let log: Arc<dyn DurableLog> = Arc::new(open_log(config, &dir)?);
    let kept = skep_actor::Actors::open(skep_actor::Config { dir, ..config.actors.clone() }, log, Arc::new(Nobody))?;
    let doctor = kept.doctor(None, repair).await;
    let closed = kept.close().await;
    let doctor = doctor.map_err(OpenError::Inspection)?;
    closed.map_err(OpenError::Inspection)?;
    let mut findings = doctor.directory.iter().map(|said| format!("the directory: {said}")).collect::<Vec<_>>();
    let mut amiss = !findings.is_empty();
    for (actor, found) in &doctor.findings {
        for finding in found {
            amiss |= !finding.repaired || finding.lost.is_some();
            let lost = finding.lost.as_ref().map(|lost| format!("; lost: {lost}")).unwrap_or_default();
            let repaired = if finding.repaired { "; repaired" } else { "" };
            findings.push(format!("actor {actor}: {}{repaired}{lost}", finding.what));
        }
    }
    Ok(Inspection { actors: doctor.actors, findings, amiss })
}

/// Opens the log of a node's actors, which proves that this disk keeps its promise.
pub(crate) fn open_log(config: &Config, dir: &Path) -> Result<LocalLog, OpenError> {
    Ok(LocalLog::open(&dir.join("log"), config.log.settings())?)
}
