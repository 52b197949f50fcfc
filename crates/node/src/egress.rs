//! The way out: `fetch()` and WebSockets of workers, until the gateway takes its place.
//!
//! Driven by isolates through [`Target`]. It resolves names itself and connects to the very address that it judged, so that a name
//! which changes its mind between question and connection gains nothing. No cookies, no credentials, no cache.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use rustls::pki_types::ServerName;
use skep_isolate::{Body, BodyError, CallError, Request, Response, Socket, Target};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{Egress, header_text};

/// From a name to a connection that can be used.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

type OutBody = UnsyncBoxBody<Bytes, BodyError>;

/// The global `fetch` of all workers.
#[derive(Clone)]
pub(crate) struct Outbound {
    client: Client<Connector, OutBody>,
    connector: Connector,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbound({:?})", self.connector.policy)
    }
}

impl Outbound {
    pub fn new(policy: Egress) -> Result<Self, rustls::Error> {
        let connector = Connector { policy, http: tls(&[b"h2", b"http/1.1"])?, websocket: tls(&[b"http/1.1"])? };
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(8)
            .build(connector.clone());
        Ok(Self { client, connector })
    }

    async fn send(self, request: Request) -> Result<Response, CallError> {
        let uri: Uri = request.url.parse().map_err(|_| network("the URL cannot be requested"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(network("only http and https URLs can be fetched"));
        }
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| network("the method is not valid"))?;
        let mut headers = headers_out(&request.headers)?;
        if headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return self.websocket(uri, headers).await;
        }
        let (body, length) = body_out(request.body, &method);
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        let mut outgoing = hyper::Request::new(body);
        *outgoing.method_mut() = method;
        *outgoing.uri_mut() = uri.clone();
        *outgoing.headers_mut() = headers;
        let answer = self.client.request(outgoing).await.map_err(|error| network(&reason(&error)))?;
        Ok(response_in(answer, &uri))
    }

    async fn websocket(self, uri: Uri, headers: HeaderMap) -> Result<Response, CallError> {
        use tokio_tungstenite::tungstenite::{client::IntoClientRequest, error::Error};
        let scheme = if uri.scheme_str() == Some("https") { "wss" } else { "ws" };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("{scheme}://{}{path}", uri.authority().map_or("", |authority| authority.as_str()));
        let mut request = url.into_client_request().map_err(|error| network(&error.to_string()))?;
        for (name, value) in headers.iter().filter(|(name, _)| !is_handshake(name)) {
            request.headers_mut().append(name, value.clone());
        }
        let stream = self.connector.open(&uri, &self.connector.websocket).await.map_err(|error| network(&error.to_string()))?;
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((peer, answer)) => {
                let protocol = answer.headers().get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
                let (ours, theirs) = Socket::pair(protocol.unwrap_or_default());
                tokio::spawn(crate::websocket::pump(peer, ours, std::future::pending()));
                Ok(Response {
                    status: 101,
                    headers: headers_in(answer.headers()),
                    url: uri.to_string(),
                    socket: Some(theirs),
                    ..Response::default()
                })
            }
            Err(Error::Http(answer)) => {
                let (parts, body) = answer.into_parts();
                let body = body.map_or(Body::None, |body| Body::Bytes(body.into()));
                let headers = headers_in(&parts.headers);
                Ok(Response { status: parts.status.as_u16(), headers, body, url: uri.to_string(), ..Response::default() })
            }
            Err(error) => Err(network(&error.to_string())),
        }
    }
}

impl Target for Outbound {
    fn fetch(&self, request: Request) -> BoxFuture<'static, Result<Response, CallError>> {
        Box::pin(self.clone().send(request))
    }
}

fn network(why: &str) -> CallError {
    CallError::Network(why.to_owned())
}

/// An error and what lies below it, in one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The body to send, and its length where that must be said: the client does so by itself for bytes, if there are any.
fn body_out(body: Body, method: &Method) -> (OutBody, Option<u64>) {
    match body {
        Body::None => (empty(), (!matches!(*method, Method::GET | Method::HEAD)).then_some(0)),
        Body::Bytes(bytes) => {
            let length = bytes.is_empty().then_some(0);
            (full(bytes), length)
        }
        Body::Stream(stream) => {
            let length = stream.length;
            (streamed(stream), length)
        }
    }
}

fn empty() -> OutBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn full(bytes: Bytes) -> OutBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn streamed(body: skep_isolate::BodyStream) -> OutBody {
    let pieces = stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        match body.next(usize::MAX).await {
            Ok(Some(bytes)) => Some((Ok(Frame::data(bytes)), Some(body))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    StreamBody::new(pieces.boxed()).boxed_unsync()
}

/// Headers that belong to one connection are not the worker's to set.
fn headers_out(headers: &[(String, String)]) -> Result<HeaderMap, CallError> {
    let mut out = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| network("a header's name is not valid"))?;
        if [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::TE].contains(&name) {
            continue;
        }
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| network("a header's value is not valid"))?;
        out.append(name, value);
    }
    Ok(out)
}

fn is_handshake(name: &HeaderName) -> bool {
    [
        header::UPGRADE,
        header::SEC_WEBSOCKET_KEY,
        header::SEC_WEBSOCKET_VERSION,
        header::SEC_WEBSOCKET_EXTENSIONS,
        header::SEC_WEBSOCKET_ACCEPT,
    ]
    .contains(name)
}

fn headers_in(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), header_text(value))).collect()
}

fn response_in(answer: hyper::Response<hyper::body::Incoming>, uri: &Uri) -> Response {
    let (parts, body) = answer.into_parts();
    let bare = matches!(parts.status.as_u16(), 204 | 205 | 304);
    Response {
        status: parts.status.as_u16(),
        status_text: match parts.extensions.get::<hyper::ext::ReasonPhrase>() {
            Some(reason) => String::from_utf8_lossy(reason.as_bytes()).into_owned(),
            None => parts.status.canonical_reason().unwrap_or_default().to_owned(),
        },
        headers: headers_in(&parts.headers),
        body: if bare { Body::None } else { crate::body::from_http(body) },
        url: uri.to_string(),
        redirected: false,
        socket: None,
    }
}

fn tls(protocols: &[&[u8]]) -> Result<TlsConnector, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Opens connections, to addresses that the policy allows.
#[derive(Clone)]
struct Connector {
    policy: Egress,
    http: TlsConnector,
    websocket: TlsConnector,
}

impl Connector {
    async fn open(&self, uri: &Uri, tls: &TlsConnector) -> io::Result<Wire> {
        tokio::time::timeout(CONNECT_TIMEOUT, self.connect(uri, tls))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long")))
    }

    async fn connect(&self, uri: &Uri, tls: &TlsConnector) -> io::Result<Wire> {
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = self.reach(&host, port).await?;
        tcp.set_nodelay(true)?;
        if !secure {
            return Ok(Wire::Plain(tcp));
        }
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        Ok(Wire::Tls(Box::new(tls.connect(name, tcp).await?)))
    }

    async fn reach(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut refused = false;
        let mut last = None;
        for address in tokio::net::lookup_host((host, port)).await? {
            if !self.allows(address) {
                refused = true;
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        let message = if refused {
            format!("{host} is not a public address, and this node lets workers reach public addresses only")
        } else {
            format!("{host} has no address")
        };
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, message)))
    }

    fn allows(&self, address: SocketAddr) -> bool {
        match self.policy {
            Egress::Any => true,
            Egress::Public => is_public(address.ip()),
            Egress::None => false,
        }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Wire>>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.open(&uri, &connector.http).await.map(TokioIo::new) })
    }
}

/// Whether an address is somebody on the Internet, and not this machine, its network, or its provider.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private() || address.is_loopback() || address.is_link_local() || address.is_documentation();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    let protocol = (a, b, c) == (192, 0, 0) || (a, b, c) == (192, 88, 99);
    !(special || shared || benchmark || protocol || a == 0 || a >= 224)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let last_four = || {
        let [.., c, d] = address.segments();
        let ([w, x], [y, z]) = (c.to_be_bytes(), d.to_be_bytes());
        Ipv4Addr::new(w, x, y, z)
    };
    match (a, b) {
        // Translated: the IPv4 address inside is what is reached.
        (0x64, 0xff9b) => is_public_v4(last_four()),
        (0x2002, high) => {
            let ([w, x], [y, z]) = (high.to_be_bytes(), address.segments()[2].to_be_bytes());
            is_public_v4(Ipv4Addr::new(w, x, y, z))
        }
        (0x2001, 0..=0x1ff | 0xdb8) => false,
        // Mapped IPv4 lies in 0::/8; only 2000::/3 is given out to the public.
        (0, 0) => address.to_ipv4_mapped().is_some_and(is_public_v4),
        _ => a & 0xe000 == 0x2000,
    }
}

/// A connection, with TLS or without.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => Connected::new().negotiated_h2(),
            _ => Connected::new(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_public_addresses_are_public() {
        for public in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"] {
            assert!(super::is_public(public.parse().unwrap()), "{public}");
        }
        let inside = [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::7f00:1",
            "2001:db8::1",
        ];
        for inside in inside {
            assert!(!super::is_public(inside.parse().unwrap()), "{inside}");
        }
    }
}
