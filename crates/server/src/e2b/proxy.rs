//! From a stranger's request to a port of a sandbox and back.
//!
//! The stranger needs no key: the id is a hundred random bits, and where that is not enough ports ask for a token. A sandbox that stands still is
//! woken if its owner decided so; one that is gone stays gone, whoever asks. What comes back was written by hostile code: it is passed on under a
//! host of its own, with nothing of this connection.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body as HttpBody, response::IntoResponse};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use skep_node::{FaultKind, InFlight, Node, Owned, RequestError, Sandbox, SandboxError};
use subtle::ConstantTimeEq;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{ENVD_PORT, host::Address};
use crate::reply;

/// What requests to private ports must show.
const TRAFFIC_TOKEN: &str = "e2b-traffic-access-token";

/// Headers that say which sandbox, for us alone, beside the token.
const OURS: [&str; 3] = ["e2b-sandbox-id", "e2b-sandbox-port", TRAFFIC_TOKEN];

/// Headers about one connection, which end here in both directions.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A server within that does not take a connection for so long is taken for none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a head that a server within may send.
const HEAD_BYTES_MAX: usize = 256 << 10;

/// Headers that a server within may send.
const HEADERS_MAX: usize = 256;

/// When the node stops, what goes on for longer than this is cut off: streams of commands may never end by themselves.
const GRACE: Duration = Duration::from_secs(2);

/// What requests to sandboxes work with.
pub(crate) struct Proxy {
    pub node: Node,
    pub stopping: CancellationToken,
    /// Ports that the node itself answers, for every sandbox.
    pub served: Vec<(u16, Router)>,
}

/// Why there is no answer from within. `Display` is what E2B's proxy says.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("The sandbox was not found")]
    NotFound,
    #[error("The sandbox is running but port is not open")]
    Closed,
    #[error("Sandbox is secured with traffic access token. Token header '{TRAFFIC_TOKEN}' is missing")]
    NoToken,
    #[error("Sandbox is secured with traffic access token. Provided token is invalid")]
    WrongToken,
    #[error("too many requests wait for sandboxes to resume")]
    Busy,
    #[error("The sandbox could not be resumed")]
    NotResumed,
    #[error("the node is stopping")]
    Stopping,
    #[error("The server in the sandbox broke off")]
    Broken,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound | Self::Closed | Self::Broken => StatusCode::BAD_GATEWAY,
            Self::NoToken | Self::WrongToken => StatusCode::FORBIDDEN,
            Self::Busy | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotResumed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn answer(&self, address: &Address, html: bool) -> Response<HttpBody> {
        let status = self.status();
        if html {
            // Nothing in it is a stranger's: the id and the port were parsed.
            let page = format!(
                "<!doctype html><meta charset=\"utf-8\"><title>{status}</title><h1>{self}</h1><p>Sandbox {}, port {}.</p>",
                address.id, address.port
            );
            let mut response = Response::new(HttpBody::from(page));
            *response.status_mut() = status;
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            return response;
        }
        let mut body = serde_json::json!({ "sandboxId": address.id, "message": self.to_string(), "code": status.as_u16() });
        if matches!(self, Self::Closed) {
            body["port"] = address.port.into();
        }
        reply::json(status, &body)
    }
}

/// Where a request came from.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    pub peer: SocketAddr,
    pub scheme: &'static str,
}

impl Proxy {
    /// Answers a request that is for a sandbox.
    pub async fn serve(self: Arc<Self>, address: Address, request: Request<Incoming>, client: Client) -> Response<HttpBody> {
        let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let html = accepts.contains("text/html");
        match self.answer(&address, request, client).await {
            Ok(response) => response,
            Err(refusal) => refusal.answer(&address, html),
        }
    }

    async fn answer(&self, address: &Address, request: Request<Incoming>, client: Client) -> Result<Response<HttpBody>, Refusal> {
        let in_flight = self.node.enter().ok_or(Refusal::Stopping)?;
        let owned = self.node.sandboxes().and_then(|sandboxes| sandboxes.get(&address.id)).ok_or(Refusal::NotFound)?;
        if address.port != ENVD_PORT {
            allowed(owned.facts().traffic_token.as_deref(), request.headers())?;
        }
        let sandbox = owned.for_traffic().await.map_err(|error| asleep(&error))?;
        match self.served.iter().find(|(port, _)| *port == address.port) {
            Some((_, router)) => {
                let mut request = request.map(HttpBody::new);
                request.extensions_mut().insert(owned);
                request.extensions_mut().insert(sandbox);
                let response = match router.clone().oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                Ok(response.map(|body| self.bounded(body, in_flight)))
            }
            None => self.forward(&owned, &sandbox, address, request, client, in_flight).await,
        }
    }

    /// To a server of the sandbox's own.
    async fn forward(
        &self,
        owned: &Owned,
        sandbox: &Sandbox,
        address: &Address,
        mut request: Request<Incoming>,
        client: Client,
        in_flight: InFlight,
    ) -> Result<Response<HttpBody>, Refusal> {
        let stream = connect(sandbox, address.port).await?;
        let upgrade = wants_upgrade(&request).then(|| hyper::upgrade::on(&mut request));
        if is_grpc(&request) {
            let response = send_h2(stream, inward(request, owned, address.port, client, false)).await?;
            return Ok(outward(response).map(|body| self.bounded(body, in_flight)));
        }
        let request = inward(request, owned, address.port, client, upgrade.is_some());
        let mut response = send_h1(stream, request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let ours = upgrade.ok_or(Refusal::Broken)?;
            let theirs = hyper::upgrade::on(&mut response);
            tokio::spawn(join(ours, theirs, self.stopping.clone(), in_flight));
            return Ok(switched(&response));
        }
        Ok(outward(response).map(|body| self.bounded(body, in_flight)))
    }

    fn bounded<B>(&self, body: B, in_flight: InFlight) -> HttpBody
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stopping = self.stopping.clone();
        let stopped = Box::pin(async move {
            stopping.cancelled_owned().await;
            tokio::time::sleep(GRACE).await;
        });
        HttpBody::new(Bounded { body, stopped, _in_flight: in_flight })
    }
}

/// Whether a request may speak to a port.
fn allowed(token: Option<&str>, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(token) = token else { return Ok(()) };
    let shown = headers.get(TRAFFIC_TOKEN).ok_or(Refusal::NoToken)?;
    if bool::from(shown.as_bytes().ct_eq(token.as_bytes())) { Ok(()) } else { Err(Refusal::WrongToken) }
}

fn asleep(error: &SandboxError) -> Refusal {
    match error {
        // One that stands still and does not wake by itself answers as one that is not there.
        SandboxError::Asleep(_) | SandboxError::Gone(_) => Refusal::NotFound,
        SandboxError::Busy => Refusal::Busy,
        SandboxError::Life(skep_node::LifeError::Refused(_)) => Refusal::NotFound,
        other => {
            tracing::warn!(error = %other, "a sandbox could not be resumed for a request");
            Refusal::NotResumed
        }
    }
}

async fn connect(sandbox: &Sandbox, port: u16) -> Result<TcpStream, Refusal> {
    match tokio::time::timeout(CONNECT_TIMEOUT, sandbox.connect(port)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(RequestError::Fault(fault))) if fault.kind == FaultKind::Refused => Err(Refusal::Closed),
        Ok(Err(RequestError::Gone)) => Err(Refusal::NotFound),
        Ok(Err(_)) | Err(_) => Err(Refusal::Closed),
    }
}

async fn send_h1(stream: TcpStream, request: Request<Incoming>) -> Result<Response<Incoming>, Refusal> {
    let mut http = http1::Builder::new();
    // Some servers within look for `Host` and not for `host`.
    http.title_case_headers(true);
    http.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(|_| Refusal::Broken)?;
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(|_| Refusal::Broken)
}

async fn send_h2(stream: TcpStream, mut request: Request<Incoming>) -> Result<Response<Incoming>, Refusal> {
    let host = request.headers_mut().remove(header::HOST).ok_or(Refusal::Broken)?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme("http").authority(host.as_bytes()).path_and_query(path).build();
    *request.uri_mut() = uri.map_err(|_| Refusal::Broken)?;
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(|_| Refusal::Broken)?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|_| Refusal::Broken)
}

/// The request as the server within sees it.
fn inward(mut request: Request<Incoming>, owned: &Owned, port: u16, client: Client, upgrade: bool) -> Request<Incoming> {
    let host = match request.uri().authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers().get(header::HOST).cloned(),
    };
    let host = host.unwrap_or_else(|| HeaderValue::from_static("localhost"));
    let seen = masked(owned.facts().reach.mask_host.as_deref(), port).unwrap_or_else(|| host.clone());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    *request.uri_mut() = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    *request.version_mut() = Version::HTTP_11;
    let protocol = request.headers().get(header::UPGRADE).filter(|_| upgrade).cloned();
    let headers = request.headers_mut();
    end_here(headers);
    OURS.iter().for_each(|name| drop(headers.remove(*name)));
    if let Some(protocol) = protocol {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    headers.insert(header::HOST, seen);
    // What a client says of itself is not believed.
    headers.remove("forwarded");
    headers.insert("x-forwarded-host", host);
    headers.insert("x-forwarded-proto", HeaderValue::from_static(client.scheme));
    if let Ok(peer) = HeaderValue::from_str(&client.peer.ip().to_string()) {
        headers.insert("x-forwarded-for", peer);
    }
    request
}

/// `custom:${PORT}` with the port in its place.
fn masked(mask: Option<&str>, port: u16) -> Option<HeaderValue> {
    HeaderValue::from_str(&mask?.replace("${PORT}", &port.to_string())).ok()
}

fn outward(mut response: Response<Incoming>) -> Response<Incoming> {
    end_here(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    response
}

/// The answer to an upgrade: its head, without a body.
fn switched(response: &Response<Incoming>) -> Response<HttpBody> {
    let mut headers = response.headers().clone();
    let protocol = headers.get(header::UPGRADE).cloned();
    end_here(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
    }
    let mut switched = Response::new(HttpBody::empty());
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switched.headers_mut() = headers;
    switched
}

/// Takes away what is about one connection, also what `Connection` names.
fn end_here(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').filter_map(|name| name.trim().parse().ok()))
        .collect();
    named.into_iter().for_each(|name| drop(headers.remove(name)));
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(*name)));
}

fn wants_upgrade(request: &Request<Incoming>) -> bool {
    let says =
        |value: &HeaderValue| value.to_str().is_ok_and(|text| text.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")));
    request.version() == Version::HTTP_11
        && request.headers().contains_key(header::UPGRADE)
        && request.headers().get_all(header::CONNECTION).iter().any(says)
}

/// gRPC needs HTTP/2 all the way.
fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    request.version() == Version::HTTP_2 && kind.starts_with("application/grpc")
}

/// Bytes both ways until either side ends, or the node does.
async fn join(ours: OnUpgrade, theirs: OnUpgrade, stopping: CancellationToken, in_flight: InFlight) {
    let _in_flight = in_flight;
    let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else { return };
    let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs) => {}
        () = stopping.cancelled_owned() => {}
    }
}

/// A body that counts as in flight until its end, and that the node's stop ends.
struct Bounded<B, S> {
    body: B,
    stopped: Pin<Box<S>>,
    _in_flight: InFlight,
}

impl<B, S> Body for Bounded<B, S>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S: Future<Output = ()>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err("the node is stopping".into())));
        }
        Pin::new(&mut self.body).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a request that names no sandbox is told.
pub(crate) fn wrong(why: &str) -> Response<HttpBody> {
    super::error::Error::invalid(why).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn tokens_are_asked_for_and_compared_whole() {
        assert!(allowed(None, &headers(&[])).is_ok());
        assert!(allowed(Some("abc"), &headers(&[(TRAFFIC_TOKEN, "abc")])).is_ok());
        assert!(matches!(allowed(Some("abc"), &headers(&[])), Err(Refusal::NoToken)));
        for wrong in ["", "a", "ab", "abcd", "ABC", "abc "] {
            assert!(matches!(allowed(Some("abc"), &headers(&[(TRAFFIC_TOKEN, wrong)])), Err(Refusal::WrongToken)), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_about_a_connection_ends_here() {
        let mut list = headers(&[("connection", "keep-alive, X-Secret"), ("x-secret", "1"), ("te", "trailers"), ("accept", "*/*")]);
        end_here(&mut list);
        assert_eq!(list, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn a_masked_host_has_the_port() {
        assert_eq!(masked(Some("custom.example:${PORT}"), 80).unwrap(), "custom.example:80");
        assert_eq!(masked(None, 80), None);
        assert_eq!(masked(Some("a\r\nx: y"), 80), None);
    }
}
