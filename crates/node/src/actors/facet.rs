//! Facets: actors within an actor, each with a database of its own, reached through their parent alone.
//!
//! What a facet is made of is said by its parent while that is awake: a class of its own worker, or one of code that it loaded. A facet of a
//! plain class of the same worker starts without its parent as well (for an alarm, after a restart); any other waits until the parent was
//! woken and has said it again.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use skep_actor::{GuestError, facet_id};
use skep_id::ActorId;
use skep_isolate::{ActorClass, CallError, Target, Worker};
use tokio::sync::Notify;

use super::{
    Inner,
    stub::{Stub, Whom},
};

/// How long a facet waits for its parent to say what it is made of.
const PARENT_MAX: Duration = Duration::from_secs(10);

/// Divides a namespace from the facet's own class in it.
const MARK: char = '#';

/// What a facet is made of.
#[derive(Clone)]
pub(super) struct Made {
    pub class: ActorClass,
    /// The worker that has the class, where that is a loaded one and the parent is of the same; else it is asked of `class`.
    pub worker: Option<Arc<Worker>>,
    /// What the facet has as its id.
    pub shown_id: Arc<str>,
    parent: ActorId,
}

impl Made {
    /// Whose facet it is.
    pub fn parent(&self) -> ActorId {
        self.parent
    }
}

/// What the facets of awake actors are made of.
#[derive(Default)]
pub(super) struct Facets {
    made: Mutex<HashMap<ActorId, Arc<Made>>>,
    news: Notify,
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
                let new = Arc::new(Made { class, worker, shown_id, parent: parent.id });
                made.insert(facet, Arc::clone(&new));
                self.news.notify_waiters();
                new
            }
        };
        let whom =
            Whom { id: facet, namespace: namespace(parent.namespace, &made_of).into(), name: Some(name.into()), parent: Some(parent.id) };
        Some(Stub::target(inner, whom))
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

    /// It is to be said anew what the facet is made of.
    pub fn forget(&self, facet: ActorId) {
        self.made.lock().remove(&facet);
    }

    /// The parent has gone.
    pub fn forget_of(&self, parent: ActorId) {
        self.made.lock().retain(|_, made| made.parent != parent);
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
}
