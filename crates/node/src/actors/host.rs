//! Isolates as guests of actors: finding the code behind a namespace, starting and waking, and the heap as it is kept.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skep_actor::{Alarm, GuestError, Guests, Heap, Start, Thrown};
use skep_isolate::{Actor, Outcome, Worker};

use super::{
    Inner,
    durable::Behind,
    facet::{self, Made},
    identity::NamespaceName,
    sockets::Group,
    stub::Whom,
};
use crate::{Awake, Resident, Written};

type BoxFuture<T> = skep_actor::BoxFuture<T>;

/// Makes guests for the actors of a node.
pub(super) struct Hosts(pub Weak<Inner>);

impl Guests for Hosts {
    fn start(&self, start: Start) -> BoxFuture<Result<Arc<dyn skep_actor::Guest>, GuestError>> {
        let inner = self.0.upgrade();
        Box::pin(async move {
            let inner = inner.ok_or_else(|| GuestError::Start("the node is stopping".to_owned()))?;
            Ok(inner.house(start).await? as Arc<dyn skep_actor::Guest>)
        })
    }

    fn code(&self, namespace: &str) -> Option<String> {
        self.0.upgrade()?.code(namespace)
    }
}

/// What goes along with a heap.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Luggage {
    /// What is answered for the actor on its sockets.
    auto: Option<(String, String)>,
    /// How long it may work on one event of a socket.
    timeout_ms: Option<u64>,
    /// Hash of the code of a facet that its parent loaded: no version of a worker names it.
    loaded: Option<String>,
}

impl Luggage {
    fn of(sockets: &Group, loaded: Option<String>) -> Self {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let auto = sockets.auto().map(|auto| (text(&auto.0), text(&auto.1)));
        Self { auto, timeout_ms: sockets.timeout().map(|timeout| timeout.as_millis() as u64), loaded }
    }

    fn unpack(self, sockets: &Group) {
        // It was checked when it was set.
        let _ = sockets.set_auto(self.auto.map(|(request, answer)| (request.into(), answer.into())));
        sockets.set_timeout(self.timeout_ms.map(Duration::from_millis));
    }

    /// The heap with the luggage behind it: JSON and its length, little-endian.
    fn pack(&self, heap: Bytes) -> Bytes {
        let luggage = serde_json::to_vec(self).unwrap_or_default();
        let mut all = Vec::from(heap);
        all.extend_from_slice(&luggage);
        all.extend_from_slice(&u32::try_from(luggage.len()).unwrap_or_default().to_le_bytes());
        all.into()
    }

    fn split(all: &Bytes) -> Option<(Bytes, Self)> {
        let (rest, length) = all.split_last_chunk::<4>()?;
        let at = rest.len().checked_sub(u32::from_le_bytes(*length) as usize)?;
        Some((all.slice(..at), serde_json::from_slice(&rest[at..]).ok()?))
    }
}

/// An isolate that is an actor, as `skep_actor` knows it.
#[derive(Debug)]
pub(super) struct Inhabitant {
    resident: Arc<dyn Resident>,
    code: String,
    loaded: Option<String>,
    sockets: Arc<Group>,
    /// Its code has said that the running alarm is not to be tried again.
    alarm_done: Arc<AtomicBool>,
}

impl Inhabitant {
    pub fn resident(&self) -> &Arc<dyn Resident> {
        &self.resident
    }

    fn heap(&self) -> impl FnOnce(Result<Written, Awake>) -> Result<Heap, GuestError> + use<> {
        let (code, luggage) = (self.code.clone(), Luggage::of(&self.sockets, self.loaded.clone()));
        move |written| match written {
            Ok(Written { heap, timer_ms }) => Ok(Heap { code, timer_ms, bytes: luggage.pack(heap) }),
            Err(Awake::Busy(why)) => Err(GuestError::Busy(why)),
            Err(Awake::Heapless(why)) => Err(GuestError::Heapless(why)),
            Err(Awake::Ended) => Err(GuestError::Ended("it had ended before".to_owned())),
        }
    }
}

impl skep_actor::Guest for Inhabitant {
    fn ready(&self) -> BoxFuture<Result<(), GuestError>> {
        let resident = Arc::clone(&self.resident);
        Box::pin(async move { resident.loaded().await.map_err(|outcome| failure(&outcome)) })
    }

    fn alarm(&self, alarm: Alarm) -> BoxFuture<Result<(), GuestError>> {
        let (call, done) = (self.resident.alarm(alarm.name, alarm.due_ms, alarm.retries), Arc::clone(&self.alarm_done));
        Box::pin(async move {
            match call.await {
                Err(_) if done.load(Relaxed) => Ok(()),
                answer => answer.map_err(|outcome| failure(&outcome)),
            }
        })
    }

    fn tick(&self) {
        // An isolate looks after its timers itself, those of a woken heap included.
    }

    fn checkpoint(&self) -> BoxFuture<Result<Heap, GuestError>> {
        let (written, heap) = (self.resident.write_down(), self.heap());
        Box::pin(async move { heap(written.await) })
    }

    fn hibernate(&self) -> BoxFuture<Result<Heap, GuestError>> {
        let (written, heap) = (self.resident.hibernate(), self.heap());
        Box::pin(async move { heap(written.await) })
    }

    fn end(&self, reason: &str) {
        self.resident.end(reason);
    }

    fn in_flight(&self) -> u32 {
        self.resident.in_flight()
    }

    fn alive(&self) -> bool {
        self.resident.alive()
    }

    fn gone(&self) -> BoxFuture<()> {
        self.resident.gone()
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync> {
        self
    }
}

/// What its own code or limits did counts as thrown; what happened to it from outside, as its end.
fn failure(outcome: &Outcome) -> GuestError {
    match outcome {
        Outcome::Startup(e) | Outcome::Exception(e) | Outcome::Reset(e) => threw(e.name.clone(), e.message.clone()),
        Outcome::Cancelled(why) | Outcome::Internal(why) => GuestError::Ended(why.clone()),
        limit => threw("Error".to_owned(), limit.to_string()),
    }
}

fn threw(name: String, message: String) -> GuestError {
    GuestError::Threw(Thrown { name, message })
}

/// Everything that a guest is made from.
struct Cast {
    worker: Arc<Worker>,
    class: String,
    shown_id: Arc<str>,
    made: Option<Arc<Made>>,
    /// Hash of the code, where a loader brought it.
    loaded: Option<String>,
}

impl Inner {
    /// Names code and image in force for a namespace.
    fn code(&self, namespace: &str) -> Option<String> {
        let name = NamespaceName::parse(facet::split(namespace).0)?;
        let version = self.workers()?.version_hash(&name.worker)?;
        Some(format!("{version}/{}", self.runtime.image()))
    }

    /// Starts the guest of an actor.
    async fn house(self: &Arc<Self>, start: Start) -> Result<Arc<Inhabitant>, GuestError> {
        let Start { actor, namespace, name, storage, heap } = start;
        let code = self.code(&namespace).ok_or_else(|| GuestError::Start(format!("there is no worker behind {namespace}")))?;
        let cast = self.cast(&namespace, actor).await?;
        let (heap, luggage) = match heap {
            None => (None, Luggage::default()),
            Some(heap) => {
                let (bytes, luggage) =
                    Luggage::split(&heap.bytes).ok_or_else(|| GuestError::Heapless("it is not as it was written".to_owned()))?;
                if luggage.loaded != cast.loaded {
                    return Err(GuestError::Heapless("its parent loads other code for it now".to_owned()));
                }
                (Some(bytes), luggage)
            }
        };
        let parent = cast.made.as_ref().map(|made| made.parent());
        let sockets = self.sockets.of(Whom { id: actor, namespace: Arc::clone(&namespace), name: name.clone(), parent });
        luggage.unpack(&sockets);
        let alarm_done = Arc::new(AtomicBool::new(false));
        let durable = Box::new(Behind {
            actor,
            namespace,
            storage,
            sockets: Arc::clone(&sockets),
            inner: Arc::clone(self),
            shown_id: Arc::clone(&cast.shown_id),
            loaded: cast.loaded.is_some().then(|| Arc::clone(&cast.worker)),
            alarm_done: Arc::clone(&alarm_done),
        });
        let (props, targets) = cast.made.map_or_else(Default::default, |made| (made.class.props.clone(), made.class.targets.clone()));
        let shown =
            Actor { class: cast.class, id: cast.shown_id.to_string(), name: name.map(|name| name.to_string()), props, targets, durable };
        let resident = self.runtime.resident(cast.worker, shown, heap.as_deref()).map_err(GuestError::Heapless)?;
        let inhabitant = Arc::new(Inhabitant { resident, code, loaded: cast.loaded, sockets, alarm_done });
        self.living.lock().insert(actor, Arc::downgrade(&inhabitant));
        Ok(inhabitant)
    }

    async fn cast(self: &Arc<Self>, namespace: &str, actor: skep_id::ActorId) -> Result<Cast, GuestError> {
        let (root, facet_class) = facet::split(namespace);
        let no = |why: String| GuestError::Start(why);
        let name = NamespaceName::parse(root).ok_or_else(|| no(format!("{root} is no namespace")))?;
        let workers = self.workers().ok_or_else(|| no("the node is stopping".to_owned()))?;
        let own = workers.code_of(&name.worker).await.map_err(|error| no(error.to_string()))?;
        let Some(facet_class) = facet_class else {
            return Ok(Cast { worker: own, class: name.class, shown_id: actor.to_string().into(), made: None, loaded: None });
        };
        let made = match self.facets.known(actor) {
            Some(made) => Some(made),
            None if !facet_class.is_empty() => None,
            None => Some(self.ask_parent(actor).await?),
        };
        let Some(made) = made else {
            let root = self.root_of(actor).await.map_err(|error| no(error.to_string()))?;
            // As the guest writes an id down, so that the facet's name is not taken for that of its id.
            let shown_id = root.name.as_ref().map_or_else(|| format!("-{}", root.id), |name| format!("{} {name}", root.id)).into();
            return Ok(Cast { worker: own, class: facet_class.to_owned(), shown_id, made: None, loaded: None });
        };
        let worker = facet::worker(&made, &own).await?;
        let loaded = (!Arc::ptr_eq(&worker, &own)).then(|| fingerprint(&worker));
        Ok(Cast { worker, class: made.class.class.clone(), shown_id: Arc::clone(&made.shown_id), made: Some(made), loaded })
    }

    /// Wakes the parent of a facet, and waits until that has said what the facet is made of.
    async fn ask_parent(self: &Arc<Self>, facet: skep_id::ActorId) -> Result<Arc<Made>, GuestError> {
        let silent = || GuestError::Start("its parent has not said what it is made of".to_owned());
        let parent = self.parent_of(facet).await.map_err(|error| GuestError::Start(error.to_string()))?.ok_or_else(silent)?;
        // Held while we wait, so that it does not go to sleep again.
        let _awake = self.awaken(&parent).await.map_err(|error| GuestError::Start(format!("its parent does not start: {error}")))?;
        self.facets.made(facet).await.ok_or_else(silent)
    }
}

/// A hash over the code of a worker that a loader brought.
fn fingerprint(worker: &Worker) -> String {
    let mut names: Vec<&String> = worker.code.modules.keys().collect();
    names.sort();
    let mut hash = Sha256::new().chain_update(&worker.code.main);
    for name in names {
        let module = &worker.code.modules[name];
        let length = (module.content.len() as u64).to_le_bytes();
        hash.update(b"\0");
        hash.update(name);
        hash.update(b"\0");
        hash.update(module.kind.word());
        hash.update(length);
        hash.update(&module.content);
    }
    format!("{:x}", hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heap_keeps_its_luggage() {
        let luggage = Luggage { auto: Some(("ping".to_owned(), "pong".to_owned())), timeout_ms: Some(5), loaded: None };
        let packed = luggage.pack(Bytes::from_static(b"heap"));
        assert_eq!(Luggage::split(&packed), Some((Bytes::from_static(b"heap"), luggage)));
    }

    #[test]
    fn a_forged_heap_is_refused() {
        for bytes in [&b""[..], b"abc", b"\xff\xff\xff\xff", b"xx\x02\0\0\0", b"{}{\x02\0\0\0"] {
            assert_eq!(Luggage::split(&Bytes::copy_from_slice(bytes)), None, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_thrown_keeps_its_name() {
        let thrown = |name: &str| {
            Outcome::Exception(skep_isolate::Exception { name: name.to_owned(), message: "no".to_owned(), stack: String::new() })
        };
        assert_eq!(failure(&thrown("Error")).to_string(), "no");
        assert_eq!(failure(&thrown("TypeError")), threw("TypeError".to_owned(), "no".to_owned()));
        assert_eq!(failure(&thrown("TypeError")).to_string(), "TypeError: no");
        assert_eq!(failure(&Outcome::Cancelled("gone".to_owned())), GuestError::Ended("gone".to_owned()));
        assert!(matches!(failure(&Outcome::Cpu), GuestError::Threw(_)));
    }
}
