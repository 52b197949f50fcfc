//! The opening handshake of RFC 6455, and the connection after it.

use axum::body::Body as HttpBody;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use skep_node::{InFlight, Socket};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::sync::CancellationToken;

/// A request's wish to become a WebSocket.
pub(crate) struct Upgrade {
    key: HeaderValue,
    connection: OnUpgrade,
}

/// The wish, if the request has it in due form. Without due form it is an ordinary request.
pub(crate) fn asked(request: &mut Request<Incoming>) -> Option<Upgrade> {
    let headers = request.headers();
    let says = |name: HeaderName, word: &str| {
        let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    let due = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && says(header::CONNECTION, "upgrade")
        && says(header::UPGRADE, "websocket")
        && says(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| due)?.clone();
    Some(Upgrade { key, connection: hyper::upgrade::on(request) })
}

impl Upgrade {
    /// Answers 101 and joins the connection with the worker's socket until either ends or the node stops.
    pub fn accept(
        self,
        socket: Socket,
        mut headers: HeaderMap,
        message_bytes_max: usize,
        stopping: CancellationToken,
        in_flight: InFlight,
    ) -> Response<HttpBody> {
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(self.key.as_bytes())) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Ok(protocol) = HeaderValue::from_str(&socket.protocol)
            && !socket.protocol.is_empty()
        {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        // Clients take an empty one for a protocol that they did not ask for.
        if headers.get(header::SEC_WEBSOCKET_PROTOCOL).is_some_and(HeaderValue::is_empty) {
            headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        }
        tokio::spawn(async move {
            let _in_flight = in_flight;
            let Ok(connection) = self.connection.await else { return };
            let config = WebSocketConfig::default().max_message_size(Some(message_bytes_max)).max_frame_size(Some(message_bytes_max));
            let peer = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, Some(config)).await;
            skep_node::websocket::pump(peer, socket, stopping.cancelled_owned()).await;
        });
        let mut response = Response::new(HttpBody::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = headers;
        response
    }
}
