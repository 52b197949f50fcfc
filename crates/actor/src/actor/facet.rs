//! Facets: actors within an actor. Each is an actor like any other, with an id that follows from its parent's and its name, so that nobody has to
//! keep a list to find one, and no other actor can be given the same id.

use sha2::{Digest, Sha256};
use skep_id::ActorId;

/// Says what is hashed, so that no id of another kind is ever the same.
const DOMAIN: &[u8] = b"skep facet\0";

/// Makes the tag of a facet of that of its parent.
const TAG_DOMAIN: &[u8] = b"skep facet tag\0";

/// The id of a facet. Its tag follows from its parent's and is another: a facet's id is of no namespace that a guest could be bound to, so that it is
/// reached through its parent alone.
#[must_use]
pub fn facet_id(parent: ActorId, name: &str) -> ActorId {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(parent.bytes());
    hash.update(name.as_bytes());
    let mut bytes: [u8; 32] = hash.finalize().into();
    let tag = Sha256::new().chain_update(TAG_DOMAIN).chain_update(parent.tag()).finalize();
    bytes[32 - ActorId::TAG..].copy_from_slice(&tag[..ActorId::TAG]);
    ActorId::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_from_parent_and_name_and_is_of_no_namespace() {
        let parent = ActorId::new([7; 32]);
        let id = facet_id(parent, "inner");
        assert_eq!(id, facet_id(parent, "inner"));
        assert_ne!(id.tag(), parent.tag(), "it would be taken for an actor of its parent's namespace");
        assert_ne!(facet_id(id, "inner").tag(), parent.tag());
        assert_eq!(id.tag(), facet_id(parent, "other").tag());
        assert_ne!(id, facet_id(parent, "other"));
        assert_ne!(id, facet_id(id, "inner"), "a facet of a facet is another");
        assert_ne!(id, parent);
    }
}
