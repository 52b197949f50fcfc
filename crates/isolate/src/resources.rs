//! What an isolate holds beyond its memory: body streams, sockets and channels, by the numbers its guest knows them
//! under. A number means something only here; a forged one finds nothing. None of this survives hibernation.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use crate::body::{Body, BodyError, BodyStream, BodyWriter, Until};
use crate::durable::Namespace;
use crate::loader::{Loaded, Loader};
use crate::socket::{Socket, SocketMessage};
use crate::target::Target;

/// Channels an isolate may hold; each is a reference to something outside.
const CHANNELS_MAX: usize = 65_536;

/// What a stream that nobody reads holds of what the network has sent, in bytes.
const READER_BYTES: usize = 32 << 10;

/// A stream being read. Reads are operations in flight, hence the lock; its waiters are served in order.
pub(crate) type SharedReader = Arc<Mutex<Option<BodyStream>>>;
/// A stream being written; `None` once closed.
pub(crate) type SharedWriter = Arc<Mutex<Option<BodyWriter>>>;

/// All resources of one isolate.
#[derive(Debug)]
pub(crate) struct Resources {
    last: u32,
    max: usize,
    readers: HashMap<u32, SharedReader>,
    writers: HashMap<u32, SharedWriter>,
    sockets: HashMap<u32, mpsc::Sender<SocketMessage>>,
    /// Our receiving end, unless an actor's state keeps it, and theirs.
    unclaimed_sockets: HashMap<u32, (Option<mpsc::Receiver<SocketMessage>>, Socket)>,
    channels: HashMap<u32, Arc<dyn Target>>,
    loaders: HashMap<u32, Arc<Loader>>,
    loaded: HashMap<u32, Arc<Loaded>>,
    namespaces: HashMap<u32, Arc<dyn Namespace>>,
}

/// A socket as it leaves the table for an actor's state.
#[derive(Debug)]
pub(crate) enum Keepable {
    /// Nobody has its other end yet.
    Fresh(Socket),
    /// Its messages are being listened for.
    Connected(mpsc::Sender<SocketMessage>),
}

impl Resources {
    pub(crate) fn new(max: usize) -> Self {
        // Channel 0 is the global way out and never in the table.
        Self {
            last: 0,
            max,
            readers: HashMap::new(),
            writers: HashMap::new(),
            sockets: HashMap::new(),
            unclaimed_sockets: HashMap::new(),
            channels: HashMap::new(),
            loaders: HashMap::new(),
            loaded: HashMap::new(),
            namespaces: HashMap::new(),
        }
    }

    /// Host memory of streams that wait to be read, in bytes: how much each holds is up to its writer, so an estimate.
    pub(crate) fn bytes(&self) -> usize {
        self.readers.len() * READER_BYTES
    }

    fn number(&mut self) -> u32 {
        loop {
            self.last = self.last % (i32::MAX as u32) + 1;
            let n = self.last;
            let taken = self.readers.contains_key(&n)
                || self.writers.contains_key(&n)
                || self.sockets.contains_key(&n)
                || self.channels.contains_key(&n)
                || self.loaders.contains_key(&n)
                || self.loaded.contains_key(&n)
                || self.namespaces.contains_key(&n);
            if !taken {
                return n;
            }
        }
    }

    /// A stream that the guest will read. The bound is kept by whoever opens: a body is never refused half-way.
    pub(crate) fn add_reader(&mut self, stream: BodyStream) -> u32 {
        let n = self.number();
        self.readers.insert(n, Arc::new(Mutex::new(Some(stream))));
        n
    }

    /// A stream that the guest will write (so many bytes, where it says how many), and whose other end it can pass on; `None` when it
    /// has too many.
    pub(crate) fn open_stream(&mut self, length: Option<u64>) -> Option<u32> {
        if self.writers.len() >= self.max || self.readers.len() >= self.max {
            return None;
        }
        let n = self.number();
        let (writer, mut stream) = Body::channel();
        stream.length = length;
        self.writers.insert(n, Arc::new(Mutex::new(Some(writer))));
        self.readers.insert(n, Arc::new(Mutex::new(Some(stream))));
        Some(n)
    }

    pub(crate) fn reader(&self, n: u32) -> Option<SharedReader> {
        self.readers.get(&n).cloned()
    }

    pub(crate) fn writer(&self, n: u32) -> Option<SharedWriter> {
        self.writers.get(&n).cloned()
    }

    pub(crate) fn drop_writer(&mut self, n: u32) -> Option<SharedWriter> {
        self.writers.remove(&n)
    }

    /// Stops reading: the writer sees that its reader has gone.
    pub(crate) fn drop_reader(&mut self, n: u32) {
        self.readers.remove(&n);
    }

    /// A stream is read no longer than that, until it is handed on.
    pub(crate) fn bind_reader(&mut self, n: u32, until: Until) {
        if let Some(stream) = self.readers.get(&n).and_then(|shared| shared.try_lock().ok()).as_mut().and_then(|stream| stream.as_mut()) {
            stream.until = Some(until);
        }
    }

    /// Takes a stream out, to hand it on. `None` if it is unknown, or being read right now.
    pub(crate) fn take_stream(&mut self, n: u32) -> Option<BodyStream> {
        let shared = self.readers.remove(&n)?;
        let mut stream = shared.try_lock().ok()?.take()?;
        // From here on it is its new reader's affair.
        stream.until = None;
        Some(stream)
    }

    pub(crate) fn add_socket(&mut self, tx: mpsc::Sender<SocketMessage>) -> u32 {
        let n = self.number();
        self.sockets.insert(n, tx);
        n
    }

    /// A socket that a response will hand to the client; what is sent before that waits in it.
    pub(crate) fn open_socket(&mut self) -> Option<u32> {
        if self.sockets.len() >= self.max || self.unclaimed_sockets.len() >= self.max {
            return None;
        }
        let (ours, theirs) = Socket::pair("");
        let n = self.add_socket(ours.tx);
        self.unclaimed_sockets.insert(n, (Some(ours.rx), theirs));
        Some(n)
    }

    /// The client's end of a socket from `open_socket`, and where its messages arrive, unless somebody keeps that.
    pub(crate) fn claim_socket(&mut self, n: u32) -> Option<(Option<mpsc::Receiver<SocketMessage>>, Socket)> {
        self.unclaimed_sockets.remove(&n)
    }

    /// Takes a socket out, for an actor's state to keep. The client's end of a fresh one stays until a response claims it.
    pub(crate) fn keep_socket(&mut self, n: u32) -> Option<Keepable> {
        let tx = self.sockets.remove(&n)?;
        let Some((ours, _)) = self.unclaimed_sockets.get_mut(&n) else { return Some(Keepable::Connected(tx)) };
        ours.take().map(|rx| Keepable::Fresh(Socket { tx, rx, protocol: String::new() }))
    }

    /// Whether somebody is connected to the guest by a socket that is in this table.
    pub(crate) fn any_connected(&self) -> bool {
        self.sockets.iter().any(|(n, tx)| !tx.is_closed() && !self.unclaimed_sockets.contains_key(n))
    }

    /// From now on numbers are larger than `n`: it names a socket that was kept before the isolate woke.
    pub(crate) fn number_from(&mut self, n: u32) {
        self.last = self.last.max(n.min(i32::MAX as u32));
    }

    /// Ends all streams that are being written with an error, so that no reader takes what it has for all of it.
    pub(crate) fn abort_streams(&mut self, why: &str) {
        for (_, writer) in self.writers.drain() {
            // One that is being written to ends with the operation that does so.
            if let Some(writer) = writer.try_lock().ok().and_then(|mut writer| writer.take()) {
                writer.break_off(BodyError(why.to_owned()));
            }
        }
    }

    pub(crate) fn socket(&self, n: u32) -> Option<&mpsc::Sender<SocketMessage>> {
        self.sockets.get(&n)
    }

    pub(crate) fn drop_socket(&mut self, n: u32) {
        self.sockets.remove(&n);
        self.unclaimed_sockets.remove(&n);
    }

    /// A target that the guest may call; `None` when it holds too many.
    pub(crate) fn add_channel(&mut self, target: Arc<dyn Target>) -> Option<u32> {
        if self.channels.len() >= CHANNELS_MAX {
            return None;
        }
        let n = self.number();
        self.channels.insert(n, target);
        Some(n)
    }

    pub(crate) fn channel(&self, n: u32) -> Option<&Arc<dyn Target>> {
        self.channels.get(&n)
    }

    pub(crate) fn add_loader(&mut self, loader: Arc<Loader>) -> Option<u32> {
        let n = self.number();
        self.loaders.insert(n, loader);
        Some(n)
    }

    pub(crate) fn loader(&self, n: u32) -> Option<Arc<Loader>> {
        self.loaders.get(&n).cloned()
    }

    pub(crate) fn add_namespace(&mut self, namespace: Arc<dyn Namespace>) -> u32 {
        let n = self.number();
        self.namespaces.insert(n, namespace);
        n
    }

    pub(crate) fn namespace(&self, n: u32) -> Option<Arc<dyn Namespace>> {
        self.namespaces.get(&n).cloned()
    }

    pub(crate) fn add_loaded(&mut self, loaded: Arc<Loaded>) -> Option<u32> {
        if self.loaded.len() >= CHANNELS_MAX {
            return None;
        }
        let n = self.number();
        self.loaded.insert(n, loaded);
        Some(n)
    }

    pub(crate) fn loaded(&self, n: u32) -> Option<Arc<Loaded>> {
        self.loaded.get(&n).cloned()
    }

    pub(crate) fn drop_loaded(&mut self, n: u32) {
        self.loaded.remove(&n);
    }

    /// A target that the guest gives away.
    pub(crate) fn take_channel(&mut self, n: u32) -> Option<Arc<dyn Target>> {
        let target = self.channels.remove(&n)?;
        Some(target.lent().unwrap_or(target))
    }

    pub(crate) fn drop_channel(&mut self, n: u32) {
        self.channels.remove(&n);
    }
}
