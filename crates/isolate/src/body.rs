//! Bodies: whole bytes, or a stream with back-pressure. The same type carries request and response bodies in both
//! directions; it knows nothing of HTTP.

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

/// Chunks a writer may be ahead of its reader. Small: a chunk can be as large as the writer likes, and the point of the
/// bound is that a slow reader slows the writer down.
const CHUNKS_AHEAD: usize = 4;

/// Why what a call asked for broke off.
pub(crate) const CALL_ENDED: &str = "The call that asked for this has ended.";

/// Why a stream ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(pub String);

/// A body of a request or response.
#[derive(Debug, Default)]
pub enum Body {
    /// No body at all (`null`), which is not the same as an empty one.
    #[default]
    None,
    /// All of it.
    Bytes(Bytes),
    /// In pieces.
    Stream(BodyStream),
}

impl Body {
    /// A stream and the end that feeds it.
    pub fn channel() -> (BodyWriter, BodyStream) {
        let (tx, rx) = mpsc::channel(CHUNKS_AHEAD);
        (BodyWriter { tx }, BodyStream { rx, rest: Bytes::new(), length: None, until: None })
    }

    /// Everything, or the error that ended it; `limit` bounds what is held.
    pub async fn collect(self, limit: usize) -> Result<Bytes, BodyError> {
        match self {
            Self::None => Ok(Bytes::new()),
            Self::Bytes(b) if b.len() > limit => Err(BodyError(format!("body larger than {limit} bytes"))),
            Self::Bytes(b) => Ok(b),
            Self::Stream(mut s) => {
                let mut all = Vec::new();
                while let Some(chunk) = s.next(usize::MAX).await? {
                    if all.len() + chunk.len() > limit {
                        return Err(BodyError(format!("body larger than {limit} bytes")));
                    }
                    all.extend_from_slice(&chunk);
                }
                Ok(all.into())
            }
        }
    }
}

/// The reading end.
#[derive(Debug)]
pub struct BodyStream {
    rx: mpsc::Receiver<Result<Bytes, BodyError>>,
    rest: Bytes,
    /// Total length in bytes where the sender declared one.
    pub length: Option<u64>,
    /// What it was asked for by: it breaks off when that ends. Whoever hands it on takes that away.
    pub(crate) until: Option<Until>,
}

/// Something that a stream is read no longer than.
pub(crate) type Until = watch::Receiver<()>;

/// Ready when what it belongs to has ended.
pub(crate) async fn over(until: &mut Until) {
    // Nothing is ever sent: the sender is dropped.
    while until.changed().await.is_ok() {}
}

impl BodyStream {
    /// The next piece of at most `most` bytes; `None` at the end.
    pub async fn next(&mut self, most: usize) -> Result<Option<Bytes>, BodyError> {
        while self.rest.is_empty() {
            let chunk = match &mut self.until {
                None => self.rx.recv().await,
                Some(until) => tokio::select! {
                    biased;
                    () = over(until) => {
                        // Its writer learns of it now, whoever holds this.
                        self.rx.close();
                        return Err(BodyError(CALL_ENDED.into()));
                    }
                    chunk = self.rx.recv() => chunk,
                },
            };
            match chunk {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(None),
            }
        }
        let n = most.clamp(1, self.rest.len());
        Ok(Some(self.rest.split_to(n)))
    }
}

/// The writing end; dropping it ends the stream.
#[derive(Clone, Debug)]
pub struct BodyWriter {
    tx: mpsc::Sender<Result<Bytes, BodyError>>,
}

impl BodyWriter {
    /// Sends a piece; waits while the reader is behind. An error means that the reader has gone.
    pub async fn write(&self, chunk: Bytes) -> Result<(), BodyError> {
        self.tx.send(Ok(chunk)).await.map_err(|_| BodyError("the reader of the stream has gone".into()))
    }

    /// Ends the stream with an error. Waits for room like a write.
    pub async fn abort(self, error: BodyError) {
        // A reader that has gone needs no error.
        let _ = self.tx.send(Err(error)).await;
    }

    /// Ends the stream with an error without waiting: where there is no room, another task waits for it as long as the reader lives.
    pub(crate) fn break_off(self, error: BodyError) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.tx.try_send(Err(error.clone())) {
            tokio::spawn(self.abort(error));
        }
    }

    /// Resolves when the reader has gone.
    pub async fn closed(&self) {
        self.tx.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_split_and_joined() {
        let (w, mut s) = Body::channel();
        w.write(Bytes::from_static(b"hello")).await.unwrap();
        w.write(Bytes::from_static(b"!")).await.unwrap();
        assert_eq!(s.next(2).await.unwrap().unwrap(), "he");
        drop(w);
        assert_eq!(Body::Stream(s).collect(100).await.unwrap(), "llo!");
    }

    #[tokio::test]
    async fn an_abort_reaches_the_reader_after_what_was_written() {
        let (w, s) = Body::channel();
        w.write(Bytes::from_static(b"a")).await.unwrap();
        w.abort(BodyError("cut".into())).await;
        assert_eq!(Body::Stream(s).collect(100).await, Err(BodyError("cut".into())));
    }
}
