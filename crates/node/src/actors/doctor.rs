//! A look at the files of actors while no node runs on them: what is sound, what was repaired, what is lost. Asked by `skep doctor`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use skep_actor::{
    Directory, GuestError, Guests, Start,
    log::{Damage, DurableLog, LocalLog},
    pages::Library,
};
use skep_id::ActorId;

use crate::{Config, LogConfig, OpenError, node::claim};

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
    // To repair is to go on without what cannot be had again, and to say what that was.
    let accepting = Config { log: LogConfig { accept_losses: repair || config.log.accept_losses, ..config.log.clone() }, ..config.clone() };
    let log = Arc::new(open_log(&accepting, &dir)?);
    let (mut findings, amiss_in_log) = heal(&log, &dir, repair).await;
    if repair && let Some(said) = Directory::heal(&dir, config.actors.events_each).map_err(skep_actor::OpenError::from)? {
        findings.push(format!("the directory: {said}"));
    }
    let log: Arc<dyn DurableLog> = log;
    let kept = skep_actor::Actors::open(skep_actor::Config { dir, ..config.actors.clone() }, log, Arc::new(Nobody))?;
    let doctor = kept.doctor(None, repair).await;
    let closed = kept.close().await;
    let doctor = doctor.map_err(OpenError::Inspection)?;
    closed.map_err(OpenError::Inspection)?;
    findings.extend(doctor.recalled.iter().map(|actor| format!("the directory: actor {actor} had no row; made anew from its files")));
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
async fn heal(log: &Arc<LocalLog>, dir: &Path, repair: bool) -> (Vec<String>, bool) {
    let lost: BTreeSet<ActorId> = log.damage().iter().filter_map(|damage| damage.actor).collect();
    let mut healed = BTreeMap::new();
    if repair {
        let library = Library::open(dir, Arc::clone(log) as Arc<dyn DurableLog>).ok();
        for actor in lost {
            // What its base has been brought to was not lost with the log.
            if let Some(Ok(place)) = library.as_ref().map(|library| library.folded_to(actor)) {
                log.trim(actor, place);
            }
            let before = log.head(actor).seq;
            healed.insert(actor, log.repair(actor).await.map(|receipt| (receipt.seq, before)));
        }
    }
    let mut amiss = false;
    let say = |damage: &Damage| {
        let said = match damage.actor.map(|actor| healed.get(&actor)) {
            // Nobody's records are lost by it, or nobody knows whose: the log was opened without them.
            None => String::new(),
            Some(None) => {
                amiss = true;
                String::new()
            }
            Some(Some(Ok((seq, before)))) if seq == before => "; repaired: the actor's file has all of it".to_owned(),
            Some(Some(Ok((seq, _)))) => format!("; repaired: the actor goes on from record {seq}, and what it had after that is lost"),
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
