//! Pages, a log and the past in memory: the least that a `Storage` can stand on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use skep_actor::{
    Epoch, Receipt, Record, RecordKind, Seq, Storage, Tier,
    database::{DatabaseLimits, PageError, PageFile, Value, Vfs},
    log::{AppendError, DurableLog, Head, LogError, Ticket},
    pages::PAGE,
    storage::{History, PageStore, Pending, Setup, StorageError},
};
use skep_id::ActorId;
use tokio::sync::oneshot;

pub const ACTOR: [u8; 32] = [9; 32];

/// A file in memory whose commits are lists of whole pages.
#[derive(Clone, Default)]
pub struct Pages {
    committed: BTreeMap<u32, Box<[u8; PAGE]>>,
    open: BTreeMap<u32, Box<[u8; PAGE]>>,
    committed_count: u32,
    count: u32,
    touched: bool,
    /// A page that cannot be read.
    pub damaged: Option<u32>,
}

impl Pages {
    pub fn replay(records: &[Record], to: Seq) -> Self {
        let mut pages = Self::default();
        for record in records.iter().filter(|r| r.kind == RecordKind::Commit && r.seq <= to) {
            let mut body = record.body.clone();
            let _wake = body.get_u64();
            pages.count = body.get_u32();
            let count = pages.count;
            pages.committed.retain(|page, _| *page <= count);
            while body.has_remaining() {
                let page = body.get_u32();
                let mut content = Box::new([0; PAGE]);
                body.copy_to_slice(&mut *content);
                pages.committed.insert(page, content);
            }
        }
        pages.committed_count = pages.count;
        pages
    }

    pub fn of(bytes: &[u8]) -> Self {
        let mut pages = Self::default();
        for chunk in bytes.chunks(PAGE) {
            pages.count += 1;
            let mut content = Box::new([0; PAGE]);
            content[..chunk.len()].copy_from_slice(chunk);
            pages.committed.insert(pages.count, content);
        }
        pages.committed_count = pages.count;
        pages
    }

    pub fn bytes(&self) -> Vec<u8> {
        (1..=self.count).flat_map(|page| self.committed.get(&page).map_or([0; PAGE], |p| **p)).collect()
    }
}

impl PageFile for Pages {
    fn count(&self) -> u32 {
        self.count
    }

    fn read(&self, page: u32, into: &mut [u8; PAGE]) -> Result<(), PageError> {
        if self.damaged == Some(page) {
            return Err(format!("some.base: damaged at byte {}: checksum", u64::from(page) * PAGE as u64).into());
        }
        let found = self.open.get(&page).or_else(|| self.committed.get(&page).filter(|_| page <= self.committed_count));
        *into = found.map_or([0; PAGE], |p| **p);
        Ok(())
    }

    fn write(&mut self, page: u32, content: &[u8; PAGE]) -> Result<(), PageError> {
        self.open.insert(page, Box::new(*content));
        self.count = self.count.max(page);
        self.touched = true;
        Ok(())
    }

    fn truncate(&mut self, count: u32) -> Result<(), PageError> {
        self.open.retain(|page, _| *page <= count);
        // What is cut off reads as zeros if the file grows again.
        for page in count + 1..=self.committed_count {
            self.open.insert(page, Box::new([0; PAGE]));
        }
        self.count = count;
        self.touched = true;
        Ok(())
    }

    fn changed(&self) -> bool {
        self.touched
    }

    fn discard(&mut self) {
        self.open.clear();
        self.count = self.committed_count;
        self.touched = false;
    }
}

impl PageStore for Pages {
    fn commit(&mut self, _: Seq, wake_ms: Option<u64>) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u64(wake_ms.unwrap_or(0));
        body.put_u32(self.count);
        for (page, content) in std::mem::take(&mut self.open) {
            if page <= self.count {
                body.put_u32(page);
                body.put_slice(&*content);
                self.committed.insert(page, content);
            }
        }
        self.committed_count = self.count;
        self.touched = false;
        body.freeze()
    }
}

/// A log in memory that answers at once, or when told.
#[derive(Debug, Default)]
pub struct Log {
    pub records: Mutex<Vec<Record>>,
    waiting: Mutex<Vec<oneshot::Sender<Result<Receipt, AppendError>>>>,
    pub slow: std::sync::atomic::AtomicBool,
}

impl Log {
    /// Makes records up to a place durable, and loses the later ones.
    pub fn crash(&self, durable: Seq) {
        self.records.lock().retain(|r| r.seq <= durable);
        self.waiting.lock().clear();
    }

    pub fn wake_of_last(&self) -> u64 {
        self.records.lock().last().map_or(0, |r| r.body.clone().get_u64())
    }
}

impl DurableLog for Log {
    fn append(&self, record: Record) -> Ticket {
        let (tx, ticket) = Ticket::new();
        let receipt = Receipt { actor: record.actor, epoch: record.epoch, seq: record.seq, tier: Tier::Memory };
        let mut records = self.records.lock();
        let head = records.last().map_or(Seq(0), |r| r.seq);
        if record.seq != head.next() {
            let _ = tx.send(Err(AppendError::NotNext { actor: record.actor, asked: record.seq, head }));
            return ticket;
        }
        records.push(record);
        if self.slow.load(Ordering::Relaxed) {
            self.waiting.lock().push(tx);
        } else {
            let _ = tx.send(Ok(receipt));
        }
        ticket
    }

    fn head(&self, _: ActorId) -> Head {
        Head::default()
    }

    fn read(&self, _: ActorId, after: Seq, to: Seq) -> Result<Vec<Record>, LogError> {
        Ok(self.records.lock().iter().filter(|r| r.seq > after && r.seq <= to).cloned().collect())
    }

    fn trim(&self, _: ActorId, _: Seq) {}

    fn forget(&self, _: ActorId) {}

    fn crowding(&self, _: usize) -> Vec<ActorId> {
        Vec::new()
    }

    fn recent(&self) -> Vec<(ActorId, Head)> {
        Vec::new()
    }

    fn queued_bytes(&self) -> usize {
        0
    }

    fn tier(&self) -> Tier {
        Tier::Memory
    }
}

/// The past, out of the log.
pub struct Past(pub Arc<Log>);

impl History for Past {
    fn place_at(&self, _: ActorId, time_ms: u64) -> Result<Seq, StorageError> {
        let records = self.0.records.lock();
        let last = records.iter().rfind(|r| r.time_ms <= time_ms);
        last.map(|r| r.seq).ok_or_else(|| StorageError::Past("the past does not reach that far back".into()))
    }

    fn view(&self, _: ActorId, at: Seq) -> Result<Box<dyn PageFile>, StorageError> {
        let records = self.0.records.lock();
        if records.last().is_none_or(|r| r.seq < at) || at.0 == 0 {
            return Err(StorageError::Past(format!("place {at} is not kept")));
        }
        Ok(Box::new(Pages::replay(&records, at)))
    }
}

/// One actor's state, its log, and a clock that tests turn.
pub struct World {
    pub vfs: Arc<Vfs>,
    pub log: Arc<Log>,
    pub clock: Arc<AtomicU64>,
    pub limits: DatabaseLimits,
}

impl World {
    pub fn new() -> Self {
        Self {
            vfs: Vfs::register().expect("a file system"),
            log: Arc::default(),
            clock: Arc::new(AtomicU64::new(1_000)),
            limits: DatabaseLimits { statement_time: std::time::Duration::from_secs(2), ..DatabaseLimits::default() },
        }
    }

    pub fn with(limits: DatabaseLimits) -> Self {
        Self { limits, ..Self::new() }
    }

    pub fn open(&self) -> Storage {
        self.try_open().expect("an actor").0
    }

    pub fn try_open(&self) -> Result<(Storage, Option<Result<Seq, StorageError>>), StorageError> {
        let records = self.log.records.lock();
        let last = records.last().map_or(Seq(0), |r| r.seq);
        let pages = Pages::replay(&records, last);
        drop(records);
        self.open_on(pages, last)
    }

    pub fn open_on<P: PageStore>(&self, pages: P, last: Seq) -> Result<(Storage, Option<Result<Seq, StorageError>>), StorageError> {
        let clock = Arc::clone(&self.clock);
        let setup = Setup {
            actor: ActorId::new(ACTOR),
            epoch: Epoch(1),
            last,
            log: Arc::clone(&self.log) as Arc<dyn DurableLog>,
            history: Arc::new(Past(Arc::clone(&self.log))),
            vfs: Arc::clone(&self.vfs),
            limits: self.limits.clone(),
            clock: Arc::new(move || clock.load(Ordering::Relaxed)),
        };
        Storage::open(setup, pages)
    }
}

/// Ends a turn and waits until it is durable.
pub fn end(storage: &mut Storage) -> Option<Receipt> {
    storage.end_turn().expect("committed").map(|pending| wait(pending).expect("durable"))
}

pub fn wait(pending: Pending) -> Result<Receipt, AppendError> {
    futures_util::FutureExt::now_or_never(pending).expect("the log answers at once")
}

/// All rows of a statement.
pub fn all(storage: &mut Storage, sql: &str, bindings: &[Value]) -> Vec<Vec<Value>> {
    let first = storage.sql(sql, bindings).unwrap_or_else(|e| panic!("{sql:.300}: {e}"));
    let (mut rows, mut more) = (first.rows, first.cursor != 0);
    while more {
        let piece = storage.sql_next(first.cursor).expect("more rows");
        rows.extend(piece.rows);
        more = piece.more;
    }
    rows
}

pub fn int(storage: &mut Storage, sql: &str) -> i64 {
    match all(storage, sql, &[]).as_slice() {
        [row] => match row.as_slice() {
            [Value::Integer(n)] => *n,
            other => panic!("{sql}: {other:?}"),
        },
        other => panic!("{sql}: {} rows", other.len()),
    }
}

/// What a statement is told that must fail.
pub fn refused(storage: &mut Storage, sql: &str) -> String {
    match storage.sql(sql, &[]) {
        Err(e) => e.to_string(),
        Ok(rows) => panic!("{:.300} was not refused: {} rows", sql, rows.rows.len()),
    }
}
