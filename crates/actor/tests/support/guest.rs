//! A bank account as a guest: every call is a turn on its storage, and nothing leaves before what was written is durable.

use std::{
    any::Any,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use skep_actor::{Active, Alarm, BoxFuture, Guest, GuestError, Guests, Heap, Start, Storage, Thrown, storage::AlarmEnd};
use skep_id::ActorId;
use tokio::sync::watch;

/// What an account remembers for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    pub total: i64,
    /// Calls, in their order.
    pub entries: Vec<u64>,
    /// Alarms whose handler ran.
    pub rung: Vec<String>,
}

/// What the world sees of all accounts; it outlives them.
#[derive(Debug, Default)]
pub struct Bank {
    /// The code in force.
    pub code: Mutex<String>,
    /// Living guests of each actor in each life of the node: more than one would be the end of everything.
    living: Mutex<HashMap<(u32, ActorId), u32>>,
    /// Which life it is; a power cut begins the next, and guests of an earlier one are ghosts.
    pub life: AtomicU32,
    /// Entries committed by a guest, in order, whether or not they last.
    pub committed: Mutex<HashMap<ActorId, Vec<u64>>>,
    /// Entries that were let out.
    pub released: Mutex<HashMap<ActorId, Vec<u64>>>,
    /// How often an alarm's handler fails before it comes back.
    pub failing: Mutex<HashMap<String, u32>>,
    /// Bytes that a heap has besides.
    pub ballast: AtomicU32,
    /// Whether a handler that fails takes its guest along.
    pub deadly: AtomicBool,
    /// Alarms that were rung: whose, which, and how often it had failed.
    pub rung: Mutex<Vec<(ActorId, String, u32)>>,
    /// Times that a constructor refuses.
    pub refusals: AtomicU32,
    /// How long a constructor takes, in ms.
    pub starting_ms: AtomicU32,
    /// Whether heaps kill who wakes with them.
    pub poisoned: Mutex<bool>,
    /// Guests started from a heap.
    pub from_heap: AtomicU32,
}

impl Bank {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { code: Mutex::new("v1".into()), ..Self::default() })
    }
}

/// The bank as what makes guests, for one life of a node: what is left of it in this process after a power cut makes ghosts only, however late.
#[derive(Clone, Debug)]
pub struct Branch {
    bank: Arc<Bank>,
    life: u32,
}

impl Branch {
    pub fn of(bank: &Arc<Bank>) -> Arc<Self> {
        Arc::new(Self { bank: bank.clone(), life: bank.life.load(Ordering::SeqCst) })
    }
}

impl Guests for Branch {
    fn start(&self, start: Start) -> BoxFuture<Result<Arc<dyn Guest>, GuestError>> {
        let (bank, life) = (self.bank.clone(), self.life);
        Box::pin(async move {
            tokio::task::yield_now().await;
            let takes = bank.starting_ms.load(Ordering::SeqCst);
            if takes > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(takes.into())).await;
            }
            let account = Account::new(bank, life, start);
            Ok(Arc::new(account) as Arc<dyn Guest>)
        })
    }

    fn code(&self, namespace: &str) -> Option<String> {
        namespace.starts_with("bank/").then(|| self.bank.code.lock().clone())
    }
}

/// One account's guest.
#[derive(Debug)]
pub struct Account {
    id: ActorId,
    life: u32,
    bank: Arc<Bank>,
    storage: Arc<Mutex<Storage>>,
    code: String,
    /// Its heap: how many calls it has seen in its life, and those before that it was written down with.
    calls: Mutex<u64>,
    in_flight: AtomicU32,
    ended: watch::Sender<Option<String>>,
    ready: Result<(), GuestError>,
}

struct Flight<'a>(&'a AtomicU32);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Account {
    fn new(bank: Arc<Bank>, life: u32, start: Start) -> Self {
        let mut living = bank.living.lock();
        let here = living.entry((life, start.actor)).or_default();
        *here += 1;
        assert_eq!(*here, 1, "two guests of {} at once", start.actor);
        drop(living);
        let mut ready = Ok(());
        if start.heap.is_some() {
            bank.from_heap.fetch_add(1, Ordering::SeqCst);
            if *bank.poisoned.lock() {
                ready = Err(GuestError::Heapless("the heap is poisoned".into()));
            }
        } else if bank.refusals.load(Ordering::SeqCst) > 0 {
            bank.refusals.fetch_sub(1, Ordering::SeqCst);
            ready = Err(GuestError::Threw(Thrown { name: "RangeError".into(), message: "not today".into() }));
        }
        let calls = start.heap.and_then(|heap| serde_json::from_slice(&heap.bytes).ok()).unwrap_or(0);
        let code = bank.code.lock().clone();
        let ended = watch::Sender::new(None);
        Self {
            id: start.actor,
            life,
            bank,
            storage: start.storage,
            code,
            calls: Mutex::new(calls),
            in_flight: AtomicU32::new(0),
            ended,
            ready,
        }
    }

    fn finish(&self, why: &str) {
        let first = self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert_with(|| why.to_owned());
            first
        });
        if first {
            self.storage.lock().cut_off();
            *self.bank.living.lock().get_mut(&(self.life, self.id)).expect("works in a test") -= 1;
        }
    }

    fn dead(&self) -> Option<GuestError> {
        self.ended.borrow().clone().map(GuestError::Ended)
    }

    fn book(storage: &mut Storage) -> Book {
        let found = storage.kv_get(&["book"], 1 << 24).expect("works in a test").remove(0);
        found.map_or_else(Book::default, |bytes| serde_json::from_slice(&bytes).expect("works in a test"))
    }

    /// One turn; what it gives is let out when everything so far is durable.
    async fn turn<T>(&self, work: impl FnOnce(&mut Storage, &mut Book) -> T) -> Result<T, GuestError> {
        let (given, pending) = {
            let mut storage = self.storage.lock();
            if let Some(dead) = self.dead() {
                return Err(dead);
            }
            *self.calls.lock() += 1;
            let before = Self::book(&mut storage);
            let mut book = before.clone();
            let given = work(&mut storage, &mut book);
            if book != before {
                storage
                    .kv_put(vec![("book".into(), Bytes::from(serde_json::to_vec(&book).expect("works in a test")))])
                    .expect("works in a test");
            }
            if let Err(error) = storage.end_turn() {
                drop(storage);
                self.finish(&error.to_string());
                return Err(GuestError::Ended(error.to_string()));
            }
            if book.entries.len() > before.entries.len() {
                self.bank.committed.lock().entry(self.id).or_default().extend(book.entries.last());
            }
            (given, storage.sync())
        };
        let kept = match pending {
            Some(pending) => pending.await,
            None => return Ok(given),
        };
        if let Err(error) = kept {
            self.finish(&error.to_string());
        }
        self.dead().map_or(Ok(given), Err)
    }

    /// Adds to the total and says what it is then.
    pub async fn add(&self, entry: u64, amount: i64) -> Result<i64, GuestError> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let _flight = Flight(&self.in_flight);
        let total = self
            .turn(|_, book| {
                book.total += amount;
                book.entries.push(entry);
                book.total
            })
            .await?;
        self.bank.released.lock().entry(self.id).or_default().push(entry);
        Ok(total)
    }

    pub async fn look(&self) -> Result<Book, GuestError> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let _flight = Flight(&self.in_flight);
        self.turn(|_, book| book.clone()).await
    }

    pub async fn set_alarm(&self, name: &str, due_ms: u64) -> Result<(), GuestError> {
        self.turn(|storage, _| storage.set_alarm(name, due_ms).expect("works in a test")).await
    }

    /// A call that takes its time; the code that serves it.
    pub async fn linger(&self, time: Duration) -> Result<String, GuestError> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let _flight = Flight(&self.in_flight);
        tokio::time::sleep(time).await;
        self.dead().map_or(Ok(self.code.clone()), Err)
    }

    pub fn code(&self) -> &str {
        &self.code
    }

    /// How many calls its heap has seen.
    pub fn calls(&self) -> u64 {
        *self.calls.lock()
    }

    fn heap(&self) -> Heap {
        let mut bytes = serde_json::to_vec(&*self.calls.lock()).expect("works in a test");
        bytes.resize(bytes.len() + self.bank.ballast.load(Ordering::SeqCst) as usize, b' ');
        Heap { code: self.code.clone(), timer_ms: None, bytes: bytes.into() }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.finish("dropped");
    }
}

impl Guest for Account {
    fn ready(&self) -> BoxFuture<Result<(), GuestError>> {
        let ready = self.ready.clone();
        Box::pin(async move { ready })
    }

    fn alarm(&self, alarm: Alarm) -> BoxFuture<Result<(), GuestError>> {
        let (bank, id, storage, dead) = (self.bank.clone(), self.id, self.storage.clone(), self.dead());
        bank.rung.lock().push((id, alarm.name.clone(), alarm.retries));
        let fails = bank.failing.lock().get_mut(&alarm.name).is_some_and(|left| {
            let fails = *left > 0;
            *left = left.saturating_sub(1);
            fails
        });
        let killed = fails && bank.deadly.load(Ordering::SeqCst);
        if killed {
            self.finish("its alarm killed it");
        }
        Box::pin(async move {
            if killed {
                return Err(GuestError::Ended("its alarm killed it".into()));
            }
            if let Some(dead) = dead {
                return Err(dead);
            }
            if fails {
                return Err(GuestError::Threw(Thrown { name: "Error".into(), message: "the handler failed".into() }));
            }
            let pending = {
                let mut storage = storage.lock();
                let mut book = Self::book(&mut storage);
                let name = alarm.name.clone();
                book.rung.push(alarm.name);
                storage
                    .kv_put(vec![("book".into(), Bytes::from(serde_json::to_vec(&book).expect("works in a test")))])
                    .expect("works in a test");
                // A guest may end its alarm by the commit of its handler, as isolates do; one that does not leaves it to who rang.
                if alarm.retries == 0 {
                    storage.alarm_end(&name, AlarmEnd::Done).expect("works in a test");
                }
                storage.end_turn().map_err(|error| GuestError::Ended(error.to_string()))?;
                storage.sync()
            };
            match pending {
                Some(pending) => pending.await.map(drop).map_err(|error| GuestError::Ended(error.to_string())),
                None => Ok(()),
            }
        })
    }

    fn tick(&self) {}

    fn checkpoint(&self) -> BoxFuture<Result<Heap, GuestError>> {
        let (pending, heap) = (self.storage.lock().sync(), self.heap());
        Box::pin(async move {
            if let Some(pending) = pending {
                pending.await.map_err(|error| GuestError::Ended(error.to_string()))?;
            }
            Ok(heap)
        })
    }

    fn hibernate(&self) -> BoxFuture<Result<Heap, GuestError>> {
        let pending = self.storage.lock().sync();
        if self.in_flight() > 0 {
            return Box::pin(async { Err(GuestError::Busy("calls in flight".into())) });
        }
        let heap = self.heap();
        self.finish("asleep");
        Box::pin(async move {
            if let Some(pending) = pending {
                pending.await.map_err(|error| GuestError::Ended(error.to_string()))?;
            }
            Ok(heap)
        })
    }

    fn end(&self, reason: &str) {
        self.finish(reason);
    }

    fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    fn alive(&self) -> bool {
        self.ended.borrow().is_none()
    }

    fn gone(&self) -> BoxFuture<()> {
        let mut ended = self.ended.subscribe();
        Box::pin(async move {
            ended.wait_for(Option::is_some).await.ok();
        })
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// The account behind a hold.
pub fn account(active: &Active) -> Arc<Account> {
    active.guest().clone().as_any().downcast().expect("works in a test")
}
