//! Ids of actors: a name and its namespace make the same id on every node and for all time. Pure; asked by namespaces, facets, and
//! whoever looks for an actor by name.
//!
//! An id is no secret and grants nothing: who may call an actor is decided by who holds a binding. What an id does tell is its namespace, by
//! its last bytes, so that one of another namespace is refused without asking anyone.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use skep_id::{ActorId, WorkerName};

/// Bytes of an id that belong to the actor.
const OWN: usize = 32 - ActorId::TAG;

/// Actors of one class of one worker, shown as `<worker>/<class>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceName {
    /// The worker.
    pub worker: WorkerName,
    /// The class that it exports.
    pub class: String,
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.worker, self.class)
    }
}

impl NamespaceName {
    /// From its text; `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (worker, class) = text.split_once('/')?;
        is_class(class).then(|| Some(Self { worker: worker.parse().ok()?, class: class.to_owned() }))?
    }
}

/// Whether a worker may export a class of that name: a JavaScript identifier of reasonable length, and never the default export.
#[must_use]
pub fn is_class(name: &str) -> bool {
    let first = |c: char| c.is_alphabetic() || c == '_' || c == '$';
    name.len() <= 255 && name.starts_with(first) && name.chars().all(|c| first(c) || c.is_numeric()) && name != "default"
}

/// What ids of one namespace are made with.
#[derive(Clone)]
pub(crate) struct Identity {
    key: [u8; 32],
    /// Ends the ids of its actors, and of no facet: those are reached through their parents only.
    tag: [u8; ActorId::TAG],
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    pub fn of(namespace: &str) -> Self {
        let key: [u8; 32] = Sha256::new().chain_update(b"skep actors\0").chain_update(namespace).finalize().into();
        Self { tag: head(&mac(&key, &[b"tag"])), key }
    }

    /// The id of a name.
    pub fn named(&self, name: &str) -> ActorId {
        with_tag(head(&mac(&self.key, &[b"name\0", name.as_bytes()])), self.tag)
    }

    /// A new id that nobody can guess; `None` where the system has no randomness.
    pub fn unique(&self) -> Option<ActorId> {
        let mut own = [0; OWN];
        getrandom::fill(&mut own).ok()?;
        Some(with_tag(own, self.tag))
    }

    /// Whether an actor of this namespace has that id. Facets are not counted.
    pub fn owns(&self, id: ActorId) -> bool {
        id.tag() == self.tag
    }
}

fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn head<const N: usize>(bytes: &[u8; 32]) -> [u8; N] {
    std::array::from_fn(|i| bytes[i])
}

fn with_tag(own: [u8; OWN], tag: [u8; ActorId::TAG]) -> ActorId {
    ActorId::new(std::array::from_fn(|i| if i < OWN { own[i] } else { tag[i - OWN] }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_follows_from_namespace_and_name_alone() {
        let counters = Identity::of("app/Counter");
        assert_eq!(counters.named("a"), Identity::of("app/Counter").named("a"));
        assert_ne!(counters.named("a"), counters.named("b"));
        assert_ne!(counters.named("a"), Identity::of("app/Other").named("a"));
        // Ids are on disk: whoever changes how they are made loses every actor that is reached by name.
        assert_eq!(counters.named("a").to_string(), "5462144e698ec194e7642680ee9f7b8b07b4b82a2745c2dea831026192cb6451");
    }

    #[test]
    fn a_guest_cannot_reach_a_facet_or_another_namespace_by_id() {
        let (ours, theirs) = (Identity::of("a/X"), Identity::of("b/X"));
        let parent = ours.named("p");
        assert!(ours.owns(parent) && ours.owns(ours.unique().unwrap()));
        assert!(!theirs.owns(parent));
        let facet = skep_actor::facet_id(parent, "f");
        assert!(!ours.owns(facet), "a facet is reached through its parent");
        assert!(!ours.owns(skep_actor::facet_id(facet, "f")), "and so is a facet's");
    }

    #[test]
    fn namespaces_have_a_worker_and_a_class() {
        assert_eq!(NamespaceName::parse("app/Counter").unwrap().to_string(), "app/Counter");
        for wrong in ["", "app", "app/", "app/a b", "app/default", "/X", "APP/X", "app/X/Y", "app/1X", "app/X\n"] {
            assert_eq!(NamespaceName::parse(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_of_its_namespace_and_no_facet_is(name in ".{0,20}", other in ".{0,20}") {
            let namespace = Identity::of("w/C");
            prop_assert!(namespace.owns(namespace.named(&name)));
            prop_assert!(!Identity::of("w/D").owns(namespace.named(&name)));
            prop_assert!(!namespace.owns(skep_actor::facet_id(namespace.named(&name), &other)));
        }
    }
}
