//! WebSockets as message channels, without the wire: the server and the gateway speak RFC 6455, an isolate only sees
//! messages.

use bytes::Bytes;
use tokio::sync::mpsc;

/// Messages that may wait in one direction. A peer that does not read is cut off rather than buffered without bound.
const MESSAGES_AHEAD: usize = 256;

/// What travels on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketMessage {
    /// Text, as UTF-8.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
    /// The closing handshake; 1005 means that no code was given.
    Close(u16, String),
    /// The connection broke.
    Error(String),
}

/// One end of a socket.
#[derive(Debug)]
pub struct Socket {
    /// Towards the peer.
    pub tx: mpsc::Sender<SocketMessage>,
    /// From the peer; its end means the peer has gone.
    pub rx: mpsc::Receiver<SocketMessage>,
    /// Subprotocol agreed on, or empty.
    pub protocol: String,
}

/// Delivers a message from outside; `false` when the isolate no longer listens. Waits while many or large messages are ahead of it:
/// a message takes as many places as it has KiB, so that what a client sends ahead stays within some 16 MiB, or one message.
pub async fn deliver(to: &mpsc::Sender<SocketMessage>, message: SocketMessage) -> bool {
    let size = match &message {
        SocketMessage::Text(bytes) | SocketMessage::Binary(bytes) => bytes.len(),
        SocketMessage::Close(..) | SocketMessage::Error(_) => 0,
    };
    let places = (size >> 10).clamp(1, MESSAGES_AHEAD);
    match to.reserve_many(places).await {
        Ok(mut places) => places.next().map(|place| place.send(message)).is_some(),
        Err(_) => false,
    }
}

impl Socket {
    /// Two connected ends.
    pub fn pair(protocol: &str) -> (Self, Self) {
        let (a_tx, b_rx) = mpsc::channel(MESSAGES_AHEAD);
        let (b_tx, a_rx) = mpsc::channel(MESSAGES_AHEAD);
        (Self { tx: a_tx, rx: a_rx, protocol: protocol.into() }, Self { tx: b_tx, rx: b_rx, protocol: protocol.into() })
    }
}
