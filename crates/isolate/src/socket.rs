//! WebSockets as message channels, without the wire: the server and the gateway speak RFC 6455, an isolate only sees
//! messages.

use bytes::Bytes;
use tokio::sync::mpsc;

/// Messages that may wait in one direction. A peer that does not read is cut off rather than buffered without bound.
const MESSAGES_AHEAD: usize = 256;

/// What travels on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketMessage {
    /// Text.
    Text(String),
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

impl Socket {
    /// Two connected ends.
    pub fn pair(protocol: &str) -> (Self, Self) {
        let (a_tx, b_rx) = mpsc::channel(MESSAGES_AHEAD);
        let (b_tx, a_rx) = mpsc::channel(MESSAGES_AHEAD);
        (Self { tx: a_tx, rx: a_rx, protocol: protocol.into() }, Self { tx: b_tx, rx: b_rx, protocol: protocol.into() })
    }
}
