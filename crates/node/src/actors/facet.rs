//! Facets: actors within an actor, each with a database of its own, reached through their parent alone.
//!
//! What a facet is made of is said by its parent while that is awake: a class of its own worker, or one of code that it loaded. A facet of a
//! plain class of the same worker starts without its parent as well (for an alarm, after a restart); any other waits until the parent was
//! woken and has said it again.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use skep_actor::{GuestError, facet_id};
use skep_id::ActorId;
use skep_isolate::{ActorClass, CallError, Exception, Outcome, Target, Worker};
use tokio::sync::{Notify, watch};

use super::{
    Inner,
    stub::{Stub, Whom},
};

/// How long a facet waits for its parent to say what it is made of.
const PARENT_MAX: Duration = Duration::from_secs(10);

/// Divides a namespace from the facet's own class in it.
const MARK: char = '#';

/// What a facet is made of.
pub(super) struct Made {
    pub class: ActorClass,
    /// The worker that has the class, where that is a loaded one and the parent is of the same; else it is asked of `class`.
    pub worker: Option<Arc<Worker>>,
    /// What the facet has as its id.
    pub shown_id: Arc<str>,
    parent: ActorId,
    /// Why its stubs lead nowhere any more.
    parted: watch::Sender<Option<Exception>>,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Made({})", self.class.class)
    }
}

impl Made {
    /// Whose facet it is.
    pub fn parent(&self) -> ActorId {
        self.parent
    }

    /// Ready when the parent has parted with it: what calls of it fail with, those in flight and those to come.
    pub async fn parted(&self) -> CallError {
        let mut parted = self.parted.subscribe();
        let why = parted.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        // The sender is `self`, so there always is a reason.
        why.map_or_else(|| CallError::Refused("the facet has gone".to_owned()), |why| CallError::Ended(Outcome::Reset(why)))
    }
}

/// Which facets of an actor are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Which {
    One(ActorId),
    AllOf(ActorId),
    /// One that is being made a copy of another.
    Copy(ActorId),
}

/// Facets that their parent parted with and that are not gone yet: calls to their successors wait.
#[derive(Debug)]
struct Leaving {
    parent: ActorId,
    /// Partings of turns whose effects have not been let out; they never are if the parent ends.
    asked: u32,
    /// Partings that are being carried out.
    begun: u32,
}

/// What the facets of awake actors are made of.
#[derive(Default)]
pub(super) struct Facets {
    made: Mutex<HashMap<ActorId, Arc<Made>>>,
    leaving: Mutex<HashMap<Which, Leaving>>,
    /// Told when a facet was made, or one that was leaving has left.
    news: Notify,
}

/// Facets are on their way out as long as this lives.
pub(super) struct Parting(Arc<Facets>, Which);

impl Drop for Parting {
    fn drop(&mut self) {
        let mut leaving = self.0.leaving.lock();
        if let Some(entry) = leaving.get_mut(&self.1) {
            entry.begun = entry.begun.saturating_sub(1);
            if entry.asked + entry.begun == 0 {
                leaving.remove(&self.1);
            }
        }
        drop(leaving);
        self.0.news.notify_waiters();
    }
}

/// Whose facet is asked for.
pub(super) struct Parent<'a> {
    pub id: ActorId,
    pub namespace: &'a str,
    pub shown_id: &'a Arc<str>,
    /// Its worker, where that is a loaded one.
    pub loaded: Option<&'a Arc<Worker>>,
}

impl Facets {
    /// A stub of a facet; `None`: nobody has said yet what it is made of.
    pub fn open(
        &self,
        inner: &Weak<Inner>,
        parent: &Parent<'_>,
        name: &str,
        class: Option<ActorClass>,
        id: Option<&str>,
    ) -> Option<Arc<dyn Target>> {
        let facet = facet_id(parent.id, name);
        let mut made = self.made.lock();
        let made_of = match (made.get(&facet), class) {
            (Some(made_of), _) => Arc::clone(made_of),
            (None, None) => return None,
            (None, Some(class)) => {
                let worker = parent.loaded.filter(|_| class.is_own()).cloned();
                let shown_id = id.map_or_else(|| Arc::clone(parent.shown_id), Arc::from);
                let new = Arc::new(Made { class, worker, shown_id, parent: parent.id, parted: watch::Sender::new(None) });
                made.insert(facet, Arc::clone(&new));
                self.news.notify_waiters();
                new
            }
        };
        let whom =
            Whom { id: facet, namespace: namespace(parent.namespace, &made_of).into(), name: Some(name.into()), parent: Some(parent.id) };
        Some(Stub::of_facet(inner, whom, made_of))
    }

    /// What a facet is made of; waits while its parent may still say so.
    pub async fn made(&self, facet: ActorId) -> Option<Arc<Made>> {
        let said = async {
            loop {
                let news = self.news.notified();
                if let Some(made) = self.known(facet) {
                    return made;
                }
                news.await;
            }
        };
        tokio::time::timeout(PARENT_MAX, said).await.ok()
    }

    pub fn known(&self, facet: ActorId) -> Option<Arc<Made>> {
        self.made.lock().get(&facet).cloned()
    }

    /// The parent parts with facets, in the middle of a turn: stubs that it has lead nowhere from now on, and it is to be said anew what the facets
    /// are made of. Calls to these wait until [`Facets::begin`] and what follows on it are over.
    pub fn part(&self, parent: ActorId, which: Which, why: &Exception) {
        self.forget(parent, which, why);
        let mut leaving = self.leaving.lock();
        leaving.entry(which).or_insert(Leaving { parent, asked: 0, begun: 0 }).asked += 1;
    }

    /// The turn's effects were let out: the facets go now, until what comes back is dropped.
    pub fn begin(self: &Arc<Self>, parent: ActorId, which: Which) -> Parting {
        let mut leaving = self.leaving.lock();
        let entry = leaving.entry(which).or_insert(Leaving { parent, asked: 0, begun: 0 });
        entry.asked = entry.asked.saturating_sub(1);
        entry.begun += 1;
        Parting(Arc::clone(self), which)
    }

    /// Waits until a facet is what calls of it expect: nothing of an earlier one in that place is left, and what is copied there has been.
    pub async fn settled(&self, facet: ActorId, parent: ActorId) {
        self.none_of(&[Which::One(facet), Which::AllOf(parent), Which::Copy(facet)]).await;
    }

    /// Waits until nothing of an earlier facet in that place is left.
    pub async fn left(&self, facet: ActorId, parent: ActorId) {
        self.none_of(&[Which::One(facet), Which::AllOf(parent)]).await;
    }

    async fn none_of(&self, kinds: &[Which]) {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            // From here on nothing is missed.
            news.as_mut().enable();
            {
                let leaving = self.leaving.lock();
                if !kinds.iter().any(|which| leaving.contains_key(which)) {
                    return;
                }
            }
            news.await;
        }
    }

    fn forget(&self, parent: ActorId, which: Which, why: &Exception) {
        self.made.lock().retain(|id, made| {
            let meant = made.parent == parent && (which == Which::One(*id) || which == Which::AllOf(parent));
            if meant {
                made.parted.send_replace(Some(why.clone()));
            }
            !meant
        });
    }

    /// The parent has gone.
    pub fn forget_of(&self, parent: ActorId) {
        self.made.lock().retain(|_, made| made.parent != parent);
        self.leaving.lock().retain(|_, leaving| {
            if leaving.parent == parent {
                leaving.asked = 0;
            }
            leaving.asked + leaving.begun > 0
        });
        self.news.notify_waiters();
    }
}

/// The namespace of a facet: its parent's, marked; with its class, where that is enough to start it.
fn namespace(parent: &str, made: &Made) -> String {
    let (root, _) = split(parent);
    let plain = made.class.is_own() && made.worker.is_none() && made.class.props.is_empty() && made.class.targets.is_empty();
    format!("{root}{MARK}{}", if plain { made.class.class.as_str() } else { "" })
}

/// The root's namespace, and for a facet its own class, empty where only its parent can say it.
pub(super) fn split(namespace: &str) -> (&str, Option<&str>) {
    namespace.split_once(MARK).map_or((namespace, None), |(root, class)| (root, Some(class)))
}

/// The worker of a class that a parent gave.
pub(super) async fn worker(made: &Made, own: &Arc<Worker>) -> Result<Arc<Worker>, GuestError> {
    if let Some(worker) = &made.worker {
        return Ok(Arc::clone(worker));
    }
    let loaded = made.class.worker().await.map_err(|error: CallError| GuestError::Start(error.to_string()))?;
    Ok(loaded.unwrap_or_else(|| Arc::clone(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_facets_namespace_is_its_roots() {
        assert_eq!(split("app/Room"), ("app/Room", None));
        assert_eq!(split("app/Room#Inner"), ("app/Room", Some("Inner")));
        assert_eq!(split("app/Room#"), ("app/Room", Some("")));
    }

    #[tokio::test]
    async fn calls_wait_until_what_was_there_is_gone() {
        let facets = Arc::new(Facets::default());
        let parent = ActorId::new([7; 32]);
        let facet = facet_id(parent, "inner");
        let why = Exception { name: "Error".to_owned(), message: "deleted".to_owned(), stack: String::new() };
        let waits = async || tokio::time::timeout(Duration::from_millis(5), facets.settled(facet, parent)).await.is_err();
        assert!(!waits().await);
        for which in [Which::One(facet), Which::AllOf(parent)] {
            facets.part(parent, which, &why);
            assert!(waits().await, "asked for in a turn that has not ended");
            let parting = facets.begin(parent, which);
            facets.forget_of(parent);
            assert!(waits().await, "under way, whether its parent lives or not");
            drop(parting);
            assert!(!waits().await);
            facets.part(parent, which, &why);
            facets.forget_of(parent);
            assert!(!waits().await, "the turn came to nothing");
        }
        let _copied = facets.begin(parent, Which::Copy(facet));
        assert!(waits().await);
        facets.left(facet, parent).await;
    }
}
