//! RFC 6455 on one side, an isolate's socket on the other.

use futures_util::{SinkExt, StreamExt};
use skep_isolate::{Socket, SocketMessage, deliver};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

/// No close code was given.
const NO_CODE: u16 = 1005;

/// This side stops.
const GOING_AWAY: u16 = 1001;

/// The connection behind this one broke.
const BROKEN: u16 = 1011;

/// Carries messages both ways until one side closes or breaks, or until `stop`: then both sides hear 1001, going away. Pings
/// are answered below.
pub async fn pump<S: AsyncRead + AsyncWrite + Unpin>(mut peer: WebSocketStream<S>, mut socket: Socket, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            message = peer.next() => {
                let inward = match message {
                    Some(Ok(Message::Text(text))) => SocketMessage::Text(text.into()),
                    Some(Ok(Message::Binary(bytes))) => SocketMessage::Binary(bytes),
                    Some(Ok(Message::Close(frame))) => closed(frame),
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => SocketMessage::Error(error.to_string()),
                    None => SocketMessage::Error("the connection ended without a closing handshake".to_owned()),
                };
                let last = matches!(inward, SocketMessage::Close(..) | SocketMessage::Error(_));
                if !deliver(&socket.tx, inward).await || last {
                    // Answers a closing handshake, and flushes.
                    let _ = peer.close(None).await;
                    return;
                }
            }
            message = socket.rx.recv() => {
                let (outward, last) = match message {
                    Some(SocketMessage::Text(text)) => match Utf8Bytes::try_from(text) {
                        Ok(text) => (Message::Text(text), false),
                        Err(_) => (Message::Close(frame(GOING_AWAY, String::new())), true),
                    },
                    Some(SocketMessage::Binary(bytes)) => (Message::Binary(bytes), false),
                    Some(SocketMessage::Close(code, reason)) => (Message::Close(frame(code, reason)), true),
                    Some(SocketMessage::Error(_)) => (Message::Close(frame(BROKEN, String::new())), true),
                    None => (Message::Close(frame(GOING_AWAY, String::new())), true),
                };
                if peer.send(outward).await.is_err() {
                    let _ = socket.tx.send(SocketMessage::Error("the connection broke".to_owned())).await;
                    return;
                }
                if last {
                    return finish(peer, socket).await;
                }
            }
            () = &mut stop => {
                let _ = peer.send(Message::Close(frame(GOING_AWAY, String::new()))).await;
                let _ = socket.tx.send(SocketMessage::Close(GOING_AWAY, String::new())).await;
                return;
            }
        }
    }
}

/// After our close: waits for the peer's, so that the isolate hears how it ended.
async fn finish<S: AsyncRead + AsyncWrite + Unpin>(mut peer: WebSocketStream<S>, socket: Socket) {
    let answer = async {
        while let Some(message) = peer.next().await {
            if let Ok(Message::Close(frame)) = message {
                return Some(frame);
            }
        }
        None
    };
    // A peer that never answers is not waited for.
    if let Ok(Some(frame)) = tokio::time::timeout(std::time::Duration::from_secs(10), answer).await {
        let _ = socket.tx.send(closed(frame)).await;
    }
}

fn closed(frame: Option<CloseFrame>) -> SocketMessage {
    frame.map_or(SocketMessage::Close(NO_CODE, String::new()), |frame| {
        SocketMessage::Close(frame.code.into(), frame.reason.as_str().to_owned())
    })
}

fn frame(code: u16, reason: String) -> Option<CloseFrame> {
    (code != NO_CODE).then(|| CloseFrame { code: CloseCode::from(code), reason: reason.into() })
}
