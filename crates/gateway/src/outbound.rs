//! `fetch()` and WebSockets of workers, one request at a time: redirects are followed by those who ask.
//!
//! Driven by isolates through [`Target`]. No cookies, no credentials beyond the placeholders of secrets, no cache.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use skep_isolate::{Body, BodyError, CallError, Request, Response, Socket, Target};

use crate::{Egress, Placeholders, connect::Connector, header_text};

type OutBody = UnsyncBoxBody<Bytes, BodyError>;

/// The global `fetch` of all workers.
#[derive(Clone)]
pub struct Outbound {
    client: Client<Connector, OutBody>,
    connector: Connector,
    /// What stands for secrets in the requests of one worker.
    placeholders: Option<Arc<Placeholders>>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbound({:?})", self.connector.policy)
    }
}

impl Outbound {
    /// A way out that reaches what the policy allows.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(policy: Egress) -> Result<Self, rustls::Error> {
        let connector = Connector::new(policy)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(8)
            .build(connector.clone());
        Ok(Self { client, connector, placeholders: None })
    }

    /// The same way out, connections included, for a worker that has placeholders of secrets.
    #[must_use]
    pub fn with(&self, placeholders: Arc<Placeholders>) -> Self {
        Self { placeholders: Some(placeholders), ..self.clone() }
    }

    /// Headers as they go to this address. Each hop of a redirect is a request of its own, from what the worker wrote: what went to one
    /// host is not in the hands of the next.
    fn told(&self, uri: &Uri, mut headers: HeaderMap) -> Result<HeaderMap, CallError> {
        if let Some(placeholders) = &self.placeholders {
            placeholders.fill(uri, &mut headers).map_err(|error| network(&error.to_string()))?;
        }
        Ok(headers)
    }

    /// Headers of an answer as the worker sees them: a server that sends a secret back sends back its placeholder.
    fn heard(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let hidden = |text: String| match &self.placeholders {
            Some(placeholders) => placeholders.hide(&text).into_owned(),
            None => text,
        };
        headers.iter().map(|(name, value)| (name.as_str().to_owned(), hidden(header_text(value)))).collect()
    }

    async fn send(self, request: Request) -> Result<Response, CallError> {
        let (uri, method) = addressed(&request)?;
        let headers = self.told(&uri, headers_out(&request.headers)?)?;
        if headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return self.websocket(uri, headers).await;
        }
        let outgoing = composed(method, uri.clone(), headers, request.body);
        let answer = self.client.request(outgoing).await.map_err(|error| network(&reason(&error)))?;
        Ok(self.response_in(answer, &uri))
    }

    fn response_in(&self, answer: hyper::Response<hyper::body::Incoming>, uri: &Uri) -> Response {
        let headers = self.heard(answer.headers());
        Response { url: uri.to_string(), ..answer_in(answer, headers) }
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
                    headers: self.heard(answer.headers()),
                    url: uri.to_string(),
                    socket: Some(theirs),
                    ..Response::default()
                })
            }
            Err(Error::Http(answer)) => {
                let (parts, body) = answer.into_parts();
                let body = body.map_or(Body::None, |body| Body::Bytes(body.into()));
                let headers = self.heard(&parts.headers);
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

/// Where a request goes, and its method, if it is one that may be sent.
fn addressed(request: &Request) -> Result<(Uri, Method), CallError> {
    let uri: Uri = request.url.parse().map_err(|_| network("the URL cannot be requested"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(network("only http and https URLs can be fetched"));
    }
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| network("the method is not valid"))?;
    if matches!(method.as_str(), "CONNECT" | "TRACE" | "TRACK") {
        return Err(network("the method is not allowed"));
    }
    Ok((uri, method))
}

fn composed(method: Method, uri: Uri, mut headers: HeaderMap, body: Body) -> hyper::Request<OutBody> {
    let (body, length) = body_out(body, &method);
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    let mut outgoing = hyper::Request::new(body);
    *outgoing.method_mut() = method;
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = headers;
    outgoing
}

/// A request as it is written on a connection to its server; no secret is put into it.
pub(crate) fn plain(request: Request) -> Result<hyper::Request<OutBody>, CallError> {
    let (uri, method) = addressed(&request)?;
    let mut headers = headers_out(&request.headers)?;
    let host = uri.authority().map_or("", |authority| authority.as_str());
    headers.insert(header::HOST, HeaderValue::from_str(host).map_err(|_| network("the URL cannot be requested"))?);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = path.parse().map_err(|_| network("the URL cannot be requested"))?;
    Ok(composed(method, path, headers, request.body))
}

/// An answer as an isolate takes it, with these headers.
pub(crate) fn answer_in(answer: hyper::Response<hyper::body::Incoming>, headers: Vec<(String, String)>) -> Response {
    let (parts, body) = answer.into_parts();
    let bare = matches!(parts.status.as_u16(), 204 | 205 | 304);
    Response {
        status: parts.status.as_u16(),
        status_text: match parts.extensions.get::<hyper::ext::ReasonPhrase>() {
            Some(reason) => String::from_utf8_lossy(reason.as_bytes()).into_owned(),
            None => parts.status.canonical_reason().unwrap_or_default().to_owned(),
        },
        headers,
        body: if bare { Body::None } else { crate::body::from_http(body) },
        ..Response::default()
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
