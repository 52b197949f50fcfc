//! A look at the files of actors while no node runs on them: what is sound, what was repaired, what is lost. Asked by `skep doctor`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use skep_actor::{
    GuestError, Guests, Start,
    log::{Damage, DurableLog, LocalLog},
};
use skep_id::ActorId;

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
    let log = Arc::new(open_log(config, &dir)?);
    let (mut findings, amiss_in_log) = heal(&log, repair).await;
    let log: Arc<dyn DurableLog> = log;
    let kept = skep_actor::Actors::open(skep_actor::Config { dir, ..config.actors.clone() }, log, Arc::new(Nobody))?;
    let doctor = kept.doctor(None, repair).await;
    let closed = kept.close().await;
    let doctor = doctor.map_err(OpenError::Inspection)?;
    closed.map_err(OpenError::Inspection)?;
    findings.extend(doctor.directory.iter().map(|said| format!("the directory: {said}")));
    let mut amiss = amiss_in_log || !doctor.directory.is_empty();
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

/// What the log has lost, and whether that is so still: an actor that lost records can be written to again once what it lost is given up.
async fn heal(log: &LocalLog, repair: bool) -> (Vec<String>, bool) {
    let lost: BTreeSet<ActorId> = log.damage().iter().filter_map(|damage| damage.actor).collect();
    let mut healed = BTreeMap::new();
    for actor in lost.into_iter().filter(|_| repair) {
        healed.insert(actor, log.repair(actor).await);
    }
    let mut amiss = false;
    let say = |damage: &Damage| {
        let said = match damage.actor.map(|actor| healed.get(&actor)) {
            // Nobody's records are lost by it, or nobody knows whose: there is nothing to be given up.
            None => String::new(),
            Some(None) => {
                amiss = true;
                String::new()
            }
            Some(Some(Ok(receipt))) => format!("; repaired, the actor goes on from record {}", receipt.seq),
            Some(Some(Err(error))) => {
                amiss = true;
                format!("; not repaired: {error}")
            }
        };
        let whose = damage.actor.map(|actor| format!(" (actor {actor})")).unwrap_or_default();
        format!("the log: {} at byte {}: {}{whose}{said}", damage.file.display(), damage.offset, damage.why)
    };
    let findings = log.damage().iter().map(say).collect();
    (findings, amiss)
}

/// Opens the log of a node's actors, which proves that this disk keeps its promise.
pub(crate) fn open_log(config: &Config, dir: &Path) -> Result<LocalLog, OpenError> {
    Ok(LocalLog::open(&dir.join("log"), config.log.settings())?)
}
