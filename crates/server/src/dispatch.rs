//! From an HTTP request to a worker and back.
//!
//! A worker is found by host, `<name>.<domain>`, or by path, `/w/<name>/…`. By path it shares its origin with the control routes, so
//! its pages are put into an origin of their own (`Content-Security-Policy: sandbox`): a page can neither read what the console
//! keeps in the browser nor take over paths that are not its own with a service worker.

use std::{net::SocketAddr, sync::Arc};

use axum::{body::Body as HttpBody, response::IntoResponse};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use skep_api::ErrorCode;
use skep_id::{RequestId, WorkerName};
use skep_node::{Body, BodyStream, DispatchError, Node, Outcome};
use tokio_util::sync::CancellationToken;

use crate::{receipt, reply::Failure, upgrade};

/// Bodies up to this size are read before the worker is called: it then needs no stream for them.
const WHOLE_BODY_BYTES: u64 = 64 << 10;

/// Headers about one connection, which end here in both directions.
const HOP_BY_HOP: [&str; 8] =
    ["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade"];

/// What worker requests work with.
pub(crate) struct Dispatch {
    pub node: Node,
    pub scheme: &'static str,
    /// `.localhost`
    pub domain: String,
    pub body_bytes_max: u64,
    pub message_bytes_max: usize,
    pub stopping: CancellationToken,
}

/// A request that is for a worker.
pub(crate) struct Address {
    name: WorkerName,
    /// The path and query that the worker sees.
    path: String,
    by_path: bool,
}

impl Dispatch {
    /// Whether a request is for a worker, and for which. `Err`: its form says so, but the name can be no worker's.
    pub fn address<B>(&self, request: &Request<B>) -> Option<Result<Address, Failure>> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        if let Some(label) = host(request).and_then(|host| self.label(host)) {
            return Some(parse(&label, path.to_owned(), false));
        }
        let rest = path.strip_prefix("/w/")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
        Some(parse(name, path, true))
    }

    /// The part of a host before the domain.
    fn label(&self, host: &str) -> Option<String> {
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        host.trim_end_matches('.').to_ascii_lowercase().strip_suffix(self.domain.as_str()).map(str::to_owned)
    }

    /// Serves a request that has an address.
    pub async fn serve(self: Arc<Self>, address: Address, mut request: Request<Incoming>, peer: SocketAddr) -> Response<HttpBody> {
        let Some(in_flight) = self.node.enter() else {
            let failure = Failure::new(ErrorCode::Unavailable, "the node is stopping", "Try again in a moment.");
            return closing(failure.into_response());
        };
        let id = self.node.next_id();
        let upgrade = upgrade::asked(&mut request);
        let wanted = receipt::asked(request.headers());
        let mut asked = match self.request_in(&address, request, peer, upgrade.is_some()).await {
            Ok(asked) => asked,
            Err(failure) => return failure.into_response(),
        };
        let receipts = wanted.then(|| {
            let (chain, receipts) = std::mem::take(&mut asked.chain).with_receipts();
            asked.chain = chain;
            receipts
        });
        let answer = self.node.fetch(&address.name, id, asked).await;
        let mut response = match answer {
            Err(error) => failed(&address.name, error).into_response(),
            Ok(mut answer) => match (answer.socket.take(), upgrade) {
                (Some(socket), Some(upgrade)) => {
                    let headers = headers_out(&answer.headers);
                    upgrade.accept(socket, headers, self.message_bytes_max, self.stopping.clone(), in_flight)
                }
                (Some(_), None) => not_upgradable().into_response(),
                (None, _) => response_out(answer, in_flight),
            },
        };
        if let Some(receipts) = receipts {
            receipt::put(response.headers_mut(), &receipts.gathered());
        }
        self.finish(response.headers_mut(), id, &address);
        response
    }

    async fn request_in(
        &self,
        address: &Address,
        request: Request<Incoming>,
        peer: SocketAddr,
        upgrade: bool,
    ) -> Result<skep_node::Request, Failure> {
        let authority = host(&request).unwrap_or_default().to_owned();
        let (parts, body) = request.into_parts();
        let mut headers = headers_in(&parts.headers, upgrade);
        headers.push(("cf-connecting-ip".to_owned(), peer.ip().to_canonical().to_string()));
        Ok(skep_node::Request {
            url: format!("{}://{authority}{}", self.scheme, address.path),
            headers,
            body: self.body_in(body, has_body(&parts.headers, &parts.method)).await?,
            method: parts.method.as_str().to_owned(),
            ..skep_node::Request::default()
        })
    }

    async fn body_in(&self, body: Incoming, announced: bool) -> Result<Body, Failure> {
        if body.is_end_stream() {
            return Ok(if announced { Body::Bytes(Bytes::new()) } else { Body::None });
        }
        let most = self.body_bytes_max;
        let size = body.size_hint();
        if size.lower() > most {
            return Err(Failure::new(ErrorCode::TooLarge, format!("the body is larger than this node's {most} bytes"), ""));
        }
        if size.upper().is_some_and(|upper| upper <= WHOLE_BODY_BYTES) {
            let bytes = body.collect().await.map_err(|_| Failure::new(ErrorCode::Invalid, "the body broke off", ""))?;
            return Ok(Body::Bytes(bytes.to_bytes()));
        }
        let limited = Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX));
        Ok(skep_node::body::from_http(limited.map_err(Broken)))
    }

    /// What the front adds to a worker's answer.
    fn finish(&self, headers: &mut HeaderMap, id: RequestId, address: &Address) {
        if let Ok(value) = HeaderValue::from_str(id.as_str()) {
            headers.entry(HeaderName::from_static("x-request-id")).or_insert(value);
        }
        if address.by_path {
            headers.remove("service-worker-allowed");
            headers.remove("clear-site-data");
            let sandbox = HeaderValue::from_static("sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads");
            headers.append(header::CONTENT_SECURITY_POLICY, sandbox);
        }
    }
}

/// The error of a limited body, in a type of our own.
#[derive(Debug)]
struct Broken(Box<dyn std::error::Error + Send + Sync>);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Broken {}

/// HTTP/2 carries the host in the URI, HTTP/1.1 in a header.
fn host<B>(request: &Request<B>) -> Option<&str> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(header::HOST)?.to_str().ok(),
    }
}

fn parse(name: &str, path: String, by_path: bool) -> Result<Address, Failure> {
    match name.parse() {
        Ok(name) => Ok(Address { name, path, by_path }),
        Err(error) => {
            let error: skep_id::ParseError = error;
            Err(Failure::new(ErrorCode::NotFound, format!("there is no such worker: {error}"), ""))
        }
    }
}

fn has_body(headers: &HeaderMap, method: &http::Method) -> bool {
    let may = !matches!(*method, http::Method::GET | http::Method::HEAD);
    may && (headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING))
}

fn headers_in(headers: &HeaderMap, upgrade: bool) -> Vec<(String, String)> {
    let passes = |name: &HeaderName| {
        let name = name.as_str();
        name == "upgrade" && upgrade || !HOP_BY_HOP.contains(&name) && name != "cf-connecting-ip"
    };
    headers.iter().filter(|(name, _)| passes(name)).map(|(name, value)| (name.as_str().to_owned(), skep_node::header_text(value))).collect()
}

/// A header that HTTP cannot carry is left out: the worker's own classes have refused it before, as a rule.
fn headers_out(headers: &[(String, String)]) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(headers.len() + 2);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
            && !HOP_BY_HOP.contains(&name.as_str())
        {
            out.append(name, value);
        }
    }
    out
}

fn response_out(answer: skep_node::Response, in_flight: skep_node::InFlight) -> Response<HttpBody> {
    let status = StatusCode::from_u16(answer.status).ok().filter(|status| status.as_u16() >= 200);
    let Some(status) = status else {
        return Failure::new(ErrorCode::WorkerFailed, format!("the worker answered with the impossible status {}", answer.status), "")
            .into_response();
    };
    let mut headers = headers_out(&answer.headers);
    let reason = hyper::ext::ReasonPhrase::try_from(answer.status_text.into_bytes()).ok().filter(|r| !r.as_bytes().is_empty());
    let body = match answer.body {
        Body::None => HttpBody::empty(),
        Body::Bytes(bytes) => {
            // The true length is known better here than to a worker that copied a header.
            headers.remove(header::CONTENT_LENGTH);
            HttpBody::from(bytes)
        }
        Body::Stream(body) => {
            match body.length {
                Some(length) => drop(headers.insert(header::CONTENT_LENGTH, length.into())),
                None => drop(headers.remove(header::CONTENT_LENGTH)),
            }
            HttpBody::from_stream(pieces(body, in_flight))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
    }
    response
}

/// A body's pieces; the request counts as in flight until the last one or until the client has left.
fn pieces(body: BodyStream, in_flight: skep_node::InFlight) -> impl futures_util::Stream<Item = Result<Bytes, skep_node::BodyError>> {
    stream::unfold(Some((body, in_flight)), |state| async move {
        let (mut body, in_flight) = state?;
        match body.next(usize::MAX).await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some((body, in_flight)))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

fn not_upgradable() -> Failure {
    Failure::new(
        ErrorCode::Invalid,
        "the worker answered with a WebSocket, and the request did not ask for one",
        "Connect with a WebSocket client, over HTTP/1.1.",
    )
}

fn closing(mut response: Response<HttpBody>) -> Response<HttpBody> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A worker's failure as strangers see it: that it failed and how to learn more, but nothing of its inside.
fn failed(name: &WorkerName, error: DispatchError) -> axum::response::Response {
    let tail = format!("`skep tail {name}` shows exceptions and outcomes.");
    let (code, status, message, hint) = match error {
        DispatchError::NoWorker(_) => (ErrorCode::NotFound, 404, error.to_string(), String::new()),
        DispatchError::Full => (ErrorCode::Unavailable, 503, error.to_string(), "Try again in a moment.".to_owned()),
        DispatchError::Store(error) => return Failure::internal(&error).into_response(),
        DispatchError::Failed(report) => {
            let (status, what) = match report.outcome {
                Outcome::Cpu => (503, "the worker used up its CPU time"),
                Outcome::Memory => (503, "the worker used up its memory"),
                Outcome::Wall => (504, "the worker took too long"),
                Outcome::Startup(_) => (500, "the worker does not start"),
                Outcome::Internal(_) => (500, "the worker was stopped by a fault of the node"),
                Outcome::Cancelled(_) => (503, "the request was cancelled"),
                _ => (500, "the worker threw an exception"),
            };
            (ErrorCode::WorkerFailed, status, what.to_owned(), tail)
        }
    };
    let mut response = Failure::new(code, message, hint).into_response();
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
