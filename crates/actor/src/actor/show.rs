//! What operators see: lists, one actor in full, and what `doctor` finds.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use skep_id::ActorId;

use super::{ActorError, Actors, machine::State};
use crate::{
    Entry, Epoch, Filter, Receipt, Seq, Tier, Told,
    pages::{Finding, Kept},
};

/// Whether an actor is awake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Nothing of it is in memory.
    Asleep,
    /// Its guest is starting.
    Waking,
    /// Its guest serves.
    Awake,
    /// Its guest is writing itself down.
    FallingAsleep,
    /// Its guest is ending.
    Broken,
    /// Its files are being worked on: a rewind, a fork.
    Lent,
}

/// One actor in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its row.
    pub entry: Entry,
    /// Whether it is awake.
    pub standing: Standing,
    /// Messages that have its guest.
    pub holds: u32,
    /// The epoch in force.
    pub epoch: Epoch,
    /// Its last durable record.
    pub head: Seq,
    /// The first record that is still in the log.
    pub first: Seq,
    /// How safe an acknowledged record is.
    pub tier: Tier,
    /// Its alarms as of the last durable record, the earliest first, at most 1,000: names and times in ms since the epoch of Unix.
    pub alarms: Vec<(String, u64)>,
    /// Places of its past that are kept.
    pub kept: Vec<Kept>,
    /// Its facets.
    pub facets: Vec<Entry>,
    /// What happened to it, the latest first.
    pub told: Vec<Told>,
}

/// What an inspection found. Empty lists: all is sound.
#[derive(Debug)]
pub struct Doctor {
    /// Actors looked at.
    pub actors: u64,
    /// What is wrong with the directory, and is so still.
    pub directory: Vec<String>,
    /// Rows that it had not, and has again from the files of their actors.
    pub recalled: Vec<ActorId>,
    /// Findings by actor.
    pub findings: Vec<(ActorId, Vec<Finding>)>,
}

impl Actors {
    /// A page of what is known of actors, in the order of their ids; none is woken.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn list(&self, filter: Filter) -> Result<Vec<Entry>, ActorError> {
        let directory = self.0.directory.clone();
        Ok(self.0.blocking(move || directory.list(&filter)).await??)
    }

    /// What the directory says of one actor. Nothing is read or written but that.
    ///
    /// # Errors
    /// When there is no such actor, or the directory cannot be read.
    pub async fn entry(&self, id: ActorId) -> Result<Entry, ActorError> {
        let directory = self.0.directory.clone();
        self.0.blocking(move || directory.get(id)).await??.ok_or(ActorError::Unknown(id))
    }

    /// One actor in full, without waking it.
    ///
    /// # Errors
    /// When there is no such actor, or its files cannot be read.
    pub async fn show(&self, id: ActorId) -> Result<Shown, ActorError> {
        let node = self.0.clone();
        let (standing, holds) = self.standing(id);
        let read = move || {
            let entry = node.directory.get(id)?.ok_or(ActorError::Unknown(id))?;
            let head = node.log.head(id);
            Ok(Shown {
                entry,
                standing,
                holds,
                epoch: head.epoch,
                head: head.seq,
                first: head.first,
                tier: node.log.tier(),
                alarms: node.files.alarms(id, head.seq)?.into_iter().map(|alarm| (alarm.name, alarm.due_ms)).collect(),
                kept: node.files.kept(id)?,
                facets: node.directory.family(id, 1_000)?,
                told: node.directory.told(id)?,
            })
        };
        self.0.blocking(read).await?
    }

    /// Where the last durable record of an actor is: whatever it has answered, everything that it wrote before is up to there.
    #[must_use]
    pub fn receipt(&self, id: ActorId) -> Receipt {
        let head = self.0.log.head(id);
        Receipt { actor: id, epoch: head.epoch, seq: head.seq, tier: self.0.log.tier() }
    }

    /// Looks at the files of one actor, or of all, and repairs what the log can repair if asked to. Nothing is woken.
    ///
    /// # Errors
    /// When the directory cannot be read at all.
    pub async fn doctor(&self, only: Option<ActorId>, repair: bool) -> Result<Doctor, ActorError> {
        let node = self.0.clone();
        let look = move || {
            let (actors, directory) = node.directory.check()?;
            let mut doctor = Doctor { actors, directory, recalled: Vec::new(), findings: Vec::new() };
            if let Some(id) = only {
                doctor.actors = 1;
                doctor.findings.extend(Some((id, node.files.inspect(id, repair))).filter(|(_, found)| !found.is_empty()));
                return Ok(doctor);
            }
            // Those of the directory and those that only the log knows, or their files do: a directory that was lost is filled from there.
            let mut ids: BTreeSet<ActorId> = node.directory.ids()?.into_iter().collect();
            ids.extend(node.log.recent().into_iter().map(|(id, _)| id));
            for id in node.files.actors()? {
                ids.insert(id);
                if node.directory.get(id)?.is_some() || node.log_tells(id) {
                    continue;
                }
                let recalled = if repair { node.recall(id) } else { Err("it can be had again from its files".to_owned()) };
                match recalled {
                    Ok(()) => doctor.recalled.push(id),
                    Err(why) => doctor.directory.push(format!("actor {id} has no row: {why}")),
                }
            }
            doctor.actors = ids.len() as u64;
            for id in ids {
                let found = node.files.inspect(id, repair);
                if !found.is_empty() {
                    doctor.findings.push((id, found));
                }
            }
            Ok(doctor)
        };
        self.0.blocking(look).await?
    }

    /// Whether an actor is awake, and how many messages have its guest.
    #[must_use]
    pub fn standing(&self, id: ActorId) -> (Standing, u32) {
        let cell = self.0.cells.lock().get(&id).cloned();
        cell.map_or((Standing::Asleep, 0), |cell| match cell.life.lock().machine.state() {
            State::Asleep => (Standing::Asleep, 0),
            State::Waking { .. } => (Standing::Waking, 0),
            State::Awake { holds, .. } => (Standing::Awake, *holds),
            State::FallingAsleep { .. } => (Standing::FallingAsleep, 0),
            State::Broken { .. } => (Standing::Broken, 0),
            State::Lent(_) => (Standing::Lent, 0),
        })
    }
}
