//! What concerns an actor's past: checkpoints, forks, rewinding, SQL as of then, export; and its end.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use skep_id::ActorId;

use super::{Active, ActorError, Actors, Node, Place, facet_id, files::Origin};
use crate::{
    Entry, Receipt, Seq, Storage,
    database::{Rows, Value},
    directory::{Change, What},
    pages::{Kept, PAGE, View},
};

/// A moment of an actor's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum As {
    /// As of the latest durable record.
    Now,
    /// As of a record.
    Place(Seq),
    /// As of the last record not after a time, ms since the epoch of Unix.
    Time(u64),
}

/// What a fork takes along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForkOptions {
    /// The new actor's name, for people; its id is given by who forks.
    pub name: Option<String>,
    /// Its heap as well: of the live guest if it is forked as of now, else if a checkpoint lies at that very place.
    pub heap: bool,
    /// Its alarms and the timers of its heap as well.
    pub alarms: bool,
}

/// Pages read at once while a database is exported.
const EXPORT_PAGES: u32 = 64;

/// A database on its way out: a plain SQLite file, piece by piece.
#[derive(Debug)]
pub struct Export {
    node: Arc<Node>,
    view: Arc<View>,
    next: u32,
}

impl Export {
    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.view.count()) * PAGE as u64
    }

    /// The next piece; `None` when that was all.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ActorError> {
        let (from, to) = (self.next, self.view.count().min(self.next.saturating_add(EXPORT_PAGES - 1)));
        if from > to {
            return Ok(None);
        }
        self.next = to + 1;
        let view = self.view.clone();
        let read = move || {
            let mut piece = BytesMut::with_capacity((to - from + 1) as usize * PAGE);
            let mut page = [0; PAGE];
            for n in from..=to {
                view.read(n, &mut page)?;
                piece.extend_from_slice(&page);
            }
            Ok(piece.freeze())
        };
        self.node.blocking(read).await?.map(Some)
    }
}

impl Actors {
    /// Writes an actor down, heap and database at one place, and says where. One that is asleep is woken for it.
    ///
    /// # Errors
    /// When its guest cannot be written down, or never comes to rest.
    pub async fn checkpoint(&self, id: ActorId) -> Result<Receipt, ActorError> {
        let place = self.0.known(id).await?;
        Ok(self.0.write_down(id, &place).await?.0)
    }

    /// Makes `child` a copy of an actor, its facets as well: as they were then, those that were there; with their heaps, if asked for, where those are at hand. The parent goes on undisturbed. The copy has a life of its own: no alarms unless asked
    /// for. The receipt is the child's.
    ///
    /// # Errors
    /// When there is nothing at that place, or `child` is an actor already.
    pub async fn fork(&self, id: ActorId, at: As, child: ActorId, options: &ForkOptions) -> Result<Receipt, ActorError> {
        let node = &self.0;
        let place = node.known(id).await?;
        let family = node.family(id).await?;
        let origin = node.origin(id, &place, at, options.heap).await?;
        let name = options.name.as_deref().map(Into::into);
        let of = Place {
            namespace: place.namespace.clone(),
            name,
            parent: place.parent.filter(|parent| child_of(*parent, &options.name, child)),
        };
        let receipt = node.fork_one(origin, child, of, options).await?;
        // A facet has places of its own: what its parent was at a place, it was at that time.
        let at = match at {
            As::Place(seq) if !family.is_empty() => As::Time(node.time_of(id, seq).await?),
            at => at,
        };
        let mut ids = std::collections::HashMap::from([(id, child)]);
        for facet in family {
            let Some((parent, name)) = facet.parent.and_then(|parent| ids.get(&parent).copied()).zip(facet.name.as_deref()) else {
                continue;
            };
            let Some((origin, heap)) = node.facet_origin(&facet, at, options.heap).await? else { continue };
            let copy = facet_id(parent, name);
            ids.insert(facet.id, copy);
            let of = Place { parent: Some(parent), ..place_of_row(&facet) };
            node.fork_one(origin, copy, of, &ForkOptions { heap, ..options.clone() }).await?;
        }
        Ok(receipt)
    }

    /// Brings an actor's database back to what it was. Its guest is ended; the next one starts from its constructor or, if `heap` is asked for and a
    /// checkpoint lies at that very place, with that heap. The way back is written down as a change like any other, so it can be undone.
    ///
    /// # Errors
    /// When there is nothing at that place, or its files do not become free in time.
    pub async fn rewind(&self, id: ActorId, to: As, heap: bool) -> Result<Receipt, ActorError> {
        let node = &self.0;
        let place = node.known(id).await?;
        let seq = node.place_of(id, to).await?;
        let borrowed = node.borrow(id, &place, "it is brought back to an earlier place").await?;
        node.end_facets(id);
        let (files, of) = (node.files.clone(), place.clone());
        let rewound = node.blocking(move || files.rewind(id, &of, seq, heap)).await??;
        let receipt = rewound.ticket.await.map_err(ActorError::Log)?;
        node.wake_changed(id, rewound.wake_ms);
        node.told(id, What::Rewound, &format!("to place {seq}"));
        drop(borrowed);
        Ok(receipt)
    }

    /// Keeps a durable place of an actor's past, by a name, however long ago it gets.
    ///
    /// # Errors
    /// When it is not there, or not to be kept.
    pub async fn keep(&self, id: ActorId, kept: Kept) -> Result<(), ActorError> {
        let files = self.0.files.clone();
        self.0.blocking(move || files.keep(id, kept)).await?
    }

    /// Leaves a kept place to retention again. Whether there was one of that name.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub async fn let_go(&self, id: ActorId, name: &str) -> Result<bool, ActorError> {
        let (files, name) = (self.0.files.clone(), name.to_owned());
        self.0.blocking(move || files.let_go(id, &name)).await?
    }

    /// The places of an actor that are kept, by name.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub async fn kept(&self, id: ActorId) -> Result<Vec<Kept>, ActorError> {
        let files = self.0.files.clone();
        self.0.blocking(move || files.kept(id)).await?
    }

    /// Answers a query on an actor's database without waking or stopping it, as of a moment; it cannot write.
    ///
    /// # Errors
    /// When there is nothing at that moment, or SQLite says no.
    pub async fn sql(&self, id: ActorId, query: &str, bindings: Vec<Value>, at: As) -> Result<Rows, ActorError> {
        let node = &self.0;
        let seq = node.place_of(id, at).await?;
        let (files, query) = (node.files.clone(), query.to_owned());
        node.blocking(move || files.query(id, seq, &query, &bindings)).await?
    }

    /// The database of an actor as a plain SQLite file, as of a moment, without stopping it.
    ///
    /// # Errors
    /// When there is nothing at that moment.
    pub async fn export(&self, id: ActorId, at: As) -> Result<Export, ActorError> {
        let node = &self.0;
        let seq = node.place_of(id, at).await?;
        let files = node.files.clone();
        let view = node.blocking(move || files.view(id, seq)).await??;
        Ok(Export { node: node.clone(), view: Arc::new(view), next: 1 })
    }

    /// Deletes an actor, its facets first, with all they had: database, heap, alarms, history. A message to it begins a new one. The receipt is that of
    /// its last record, which says that it is gone.
    ///
    /// # Errors
    /// When its files do not become free in time or cannot be removed.
    pub async fn delete(&self, id: ActorId) -> Result<Receipt, ActorError> {
        let node = &self.0;
        let place = node.known(id).await?;
        let mut family = node.family(id).await?;
        family.reverse();
        for facet in family {
            let of = place_of_row(&facet);
            node.delete_one(facet.id, &of).await?;
        }
        node.delete_one(id, &place).await
    }
}

/// Whether an id is the facet of that name.
fn child_of(parent: ActorId, name: &Option<String>, child: ActorId) -> bool {
    name.as_deref().is_some_and(|name| facet_id(parent, name) == child)
}

/// Where a row says that its actor belongs.
pub(crate) fn place_of_row(row: &Entry) -> Place {
    Place { namespace: row.namespace.as_str().into(), name: row.name.as_deref().map(Into::into), parent: row.parent }
}

impl Node {
    /// The place of an actor that was met before.
    pub(crate) async fn known(self: &Arc<Self>, id: ActorId) -> Result<Place, ActorError> {
        let directory = self.directory.clone();
        let row = self.blocking(move || directory.get(id)).await??;
        row.as_ref().map(place_of_row).ok_or(ActorError::Unknown(id))
    }

    async fn family(self: &Arc<Self>, id: ActorId) -> Result<Vec<Entry>, ActorError> {
        let directory = self.directory.clone();
        Ok(self.blocking(move || directory.family(id, usize::MAX)).await??)
    }

    /// Which record a moment is.
    async fn place_of(self: &Arc<Self>, id: ActorId, at: As) -> Result<Seq, ActorError> {
        match at {
            As::Now => match self.log.head(id).seq {
                Seq(0) => Err(ActorError::Unknown(id)),
                seq => Ok(seq),
            },
            As::Place(seq) => Ok(seq),
            As::Time(time_ms) => {
                let files = self.files.clone();
                match self.blocking(move || files.place_at(id, time_ms)).await?? {
                    // An empty database would be an answer as well, and hide a time that was given in seconds.
                    Seq(0) => Err(ActorError::Nowhere("the actor did not exist yet at that time".to_owned())),
                    seq => Ok(seq),
                }
            }
        }
    }

    /// Writes an actor down; the database as of that record is at hand then.
    async fn write_down(self: &Arc<Self>, id: ActorId, place: &Place) -> Result<(Receipt, Option<View>), ActorError> {
        let active = self.activate(id, place).await?;
        let live = active.live().ok_or(ActorError::Slow)?;
        self.checkpoint_live(&active.cell, &live).await
    }

    /// What a fork begins as. One with the heap of now writes the parent down, unless it sleeps and has been.
    async fn origin(self: &Arc<Self>, id: ActorId, place: &Place, at: As, heap: bool) -> Result<Origin, ActorError> {
        if !heap || at != As::Now {
            return Ok(Origin { actor: id, at: self.place_of(id, at).await?, view: None });
        }
        if !self.cells.lock().contains_key(&id) {
            let files = self.files.clone();
            if let Some(at) = self.blocking(move || files.ends_written_down(id)).await?? {
                return Ok(Origin { actor: id, at, view: None });
            }
        }
        let (receipt, view) = self.write_down(id, place).await?;
        Ok(Origin { actor: id, at: receipt.seq, view })
    }

    /// What the copy of a facet begins as, and whether its heap comes along; `None`: there was no such facet then. One that sleeps is not woken for it:
    /// its parent alone may know its code.
    async fn facet_origin(self: &Arc<Self>, facet: &Entry, at: As, heap: bool) -> Result<Option<(Origin, bool)>, ActorError> {
        let id = facet.id;
        if heap && at == As::Now && self.cells.lock().contains_key(&id) {
            match self.write_down(id, &place_of_row(facet)).await {
                Ok((receipt, view)) => return Ok(Some((Origin { actor: id, at: receipt.seq, view }, true))),
                Err(error) => self.told(id, What::NoCheckpoint, &error.to_string()),
            }
        }
        let at = match self.place_of(id, at).await {
            Err(ActorError::Nowhere(_)) => return Ok(None),
            at => at?,
        };
        let files = self.files.clone();
        let heap = heap && self.blocking(move || files.is_written_down(id, at)).await??;
        Ok(Some((Origin { actor: id, at, view: None }, heap)))
    }

    /// When the record at a place of an actor was written.
    async fn time_of(self: &Arc<Self>, id: ActorId, at: Seq) -> Result<u64, ActorError> {
        let files = self.files.clone();
        self.blocking(move || files.time_of(id, at)).await?
    }

    async fn fork_one(self: &Arc<Self>, origin: Origin, child: ActorId, of: Place, options: &ForkOptions) -> Result<Receipt, ActorError> {
        let code = self.guests.code(&of.namespace);
        let borrowed = self.borrow(child, &of, "it is made").await?;
        let (files, place, taking) = (self.files.clone(), of.clone(), options.clone());
        let (parent, at) = (origin.actor, origin.at);
        let forked = self.blocking(move || files.fork(&origin, child, &place, &taking)).await??;
        let receipt = forked.ticket.await.map_err(ActorError::Log)?;
        let met = Some((of.namespace.to_string(), of.name.as_deref().map(str::to_owned), of.parent, self.clock.now_ms()));
        self.note(child, Change { met, code, checkpoint: Some(forked.heap.then_some(receipt.seq)), ..Change::default() });
        self.wake_changed(child, forked.wake_ms);
        self.told(child, What::Forked, &format!("from {parent} as of place {at}{}", if forked.heap { ", with its heap" } else { "" }));
        drop(borrowed);
        Ok(receipt)
    }

    async fn delete_one(self: &Arc<Self>, id: ActorId, place: &Place) -> Result<Receipt, ActorError> {
        let borrowed = self.borrow(id, place, "it is deleted").await?;
        let (files, of) = (self.files.clone(), place.clone());
        let ticket = self.blocking(move || files.delete(id, &of)).await??;
        let receipt = ticket.await.map_err(ActorError::Log)?;
        let files = self.files.clone();
        self.blocking(move || files.remove(id)).await??;
        self.schedule.lock().remove(id);
        self.attempts.lock().retain(|(of, _), _| *of != id);
        self.note(id, Change { gone: true, ..Change::default() });
        drop(borrowed);
        Ok(receipt)
    }

    /// Works on the storage of an awake actor where waiting for a statement of its guest holds up nobody.
    pub(crate) async fn with_storage<T: Send + 'static>(
        self: &Arc<Self>,
        active: &Active,
        work: impl FnOnce(&mut Storage) -> T + Send + 'static,
    ) -> Result<T, ActorError> {
        let storage = active.live().ok_or_else(|| ActorError::Guest(crate::GuestError::Ended("it has ended".into())))?.storage;
        if let Some(mut storage) = storage.try_lock() {
            return Ok(work(&mut storage));
        }
        self.blocking(move || work(&mut storage.lock())).await
    }
}
