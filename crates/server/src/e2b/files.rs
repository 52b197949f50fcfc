//! `/files` and `/files/compose`: contents of files over HTTP, in one piece or many, plain or gzip, whole or a part.
//!
//! Bytes go through pipes to init and back; at most a few pieces of them are in this process. Files are written where they are, as E2B does,
//! so that who watches sees what they expect; a reader may see a half. It is not: where who may do what is decided (`envd.rs`).

use std::{
    collections::{BTreeMap, HashSet},
    io,
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::{
    Stream, StreamExt,
    stream::{self, FuturesUnordered, unfold},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use skep_sandbox::{Account, Copied, Fault, FaultKind, FilePart, RequestError, SHORT, Sandbox, Writing, Written};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, time::timeout};

use super::{
    connect,
    encoding::{self, BITE, Encoding, Packer, Unpacker},
    filesystem::resolve,
    messages::name,
    multipart::{self, Form, Head, Next},
};

/// Of a file at once.
const PIECE: usize = 256 << 10;
/// How long a transfer may stand still.
const STALL: Duration = Duration::from_secs(300);
/// Small files of one request that are written at once.
const AT_ONCE: usize = 16;
/// Files of one request.
const MOST_FILES: usize = 100_000;
/// Of what people write about a file: each name, and all together with the kernel's own prefix.
const MOST_KEY: usize = 246;
const MOST_METADATA: usize = 4_096;
const PREFIX: &str = "user.e2b.";

/// A failure outside of Connect: a status, and the same in JSON.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

#[derive(Serialize)]
struct Said<'a> {
    code: u16,
    message: &'a str,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        connect::json(self.status, &Said { code: self.status.as_u16(), message: &self.message })
    }
}

/// What the address of a file says.
#[derive(Debug, Default, Deserialize)]
pub struct Query {
    pub path: Option<String>,
    pub username: Option<String>,
    pub signature: Option<String>,
    pub signature_expiration: Option<i64>,
}

/// Where files are, and whose they are to be.
pub struct Place<'a> {
    pub sandbox: &'a Sandbox,
    pub account: &'a Account,
    pub workdir: Option<&'a str>,
}

fn refusal(path: &str, error: RequestError) -> Refusal {
    let fault = match error {
        RequestError::Fault(fault) => fault,
        RequestError::Gone => return Refusal::new(StatusCode::BAD_GATEWAY, "the sandbox is gone"),
        RequestError::Here(error) => return Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let Fault { kind, message } = fault;
    match kind {
        FaultKind::NotFound => Refusal::new(StatusCode::NOT_FOUND, format!("path '{path}' does not exist")),
        FaultKind::IsFolder => Refusal::bad(format!("path '{path}' is a directory")),
        FaultKind::NotFolder | FaultKind::Loop | FaultKind::Invalid | FaultKind::Exists => Refusal::bad(message),
        FaultKind::Denied => Refusal::new(StatusCode::FORBIDDEN, message),
        FaultKind::Full => Refusal::new(StatusCode::INSUFFICIENT_STORAGE, format!("not enough disk space available: {message}")),
        FaultKind::Refused | FaultKind::Failed => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl Place<'_> {
    fn resolve(&self, path: &str) -> Result<String, Refusal> {
        resolve(path, self.account, self.workdir).map_err(|problem| Refusal::bad(problem.message))
    }

    /// A file, or a part of it.
    pub async fn download(&self, path: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
        let path = self.resolve(path)?;
        let accept = text(headers, header::ACCEPT_ENCODING);
        let none = || Refusal::new(StatusCode::NOT_ACCEPTABLE, "no acceptable encoding found, supported: [identity, gzip]");
        let encoding = encoding::preferred(accept).ok_or_else(none)?;
        let asked = [header::RANGE, header::IF_RANGE, header::IF_MODIFIED_SINCE, header::IF_NONE_MATCH];
        let partly = asked.iter().any(|name| headers.contains_key(name));
        if partly && !encoding::takes_identity(accept) {
            return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, "identity encoding not acceptable for Range or conditional request"));
        }
        let open =
            async |from, most| self.sandbox.read_part(&path, self.account.id, from, most).await.map_err(|error| refusal(&path, error));
        let mut response = if partly {
            let FilePart { bytes, modified_ms, .. } = open(0, Some(0)).await?;
            if is_unchanged(headers, modified_ms) {
                return Ok(told(StatusCode::NOT_MODIFIED, &path, modified_ms, Body::empty()));
            }
            match wanted(headers, bytes, modified_ms) {
                Wanted::Whole => self.whole(&path, Encoding::Identity, open(0, None).await?),
                Wanted::Part { from, to } => {
                    let part = open(from, Some(to - from)).await?;
                    let mut response =
                        told(StatusCode::PARTIAL_CONTENT, &path, modified_ms, outgoing(part, Some(to - from), Encoding::Identity));
                    let range = format!("bytes {from}-{}/{bytes}", to - 1);
                    set(&mut response, header::CONTENT_RANGE, &range);
                    set(&mut response, header::CONTENT_LENGTH, &(to - from).to_string());
                    response
                }
                Wanted::Nothing => {
                    let mut response = told(StatusCode::RANGE_NOT_SATISFIABLE, &path, modified_ms, Body::empty());
                    set(&mut response, header::CONTENT_RANGE, &format!("bytes */{bytes}"));
                    response
                }
            }
        } else {
            let part = open(0, None).await?;
            self.whole(&path, encoding, part)
        };
        set(&mut response, header::VARY, "Accept-Encoding");
        Ok(response)
    }

    fn whole(&self, path: &str, encoding: Encoding, part: FilePart) -> Response {
        let (bytes, modified_ms) = (part.bytes, part.modified_ms);
        // Files of the kernel's have no size and yet content.
        let length = (bytes > 0 && encoding == Encoding::Identity).then_some(bytes);
        let mut response = told(StatusCode::OK, path, modified_ms, outgoing(part, length, encoding));
        match encoding {
            Encoding::Gzip => set(&mut response, header::CONTENT_ENCODING, "gzip"),
            Encoding::Identity => set(&mut response, header::ACCEPT_RANGES, "bytes"),
        }
        if let Some(length) = length {
            set(&mut response, header::CONTENT_LENGTH, &length.to_string());
        }
        response
    }

    /// One file as the whole body, or many as parts of a form.
    pub async fn upload(&self, path: Option<&str>, headers: &HeaderMap, body: Body) -> Result<Response, Refusal> {
        let metadata = metadata(headers)?;
        let packed = encoding::given(text(headers, header::CONTENT_ENCODING)).map_err(Refusal::bad)?;
        let kind = text(headers, header::CONTENT_TYPE).unwrap_or_default();
        let bytes = incoming(body.into_data_stream(), packed).boxed();
        let written = match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/octet-stream" => {
                let path = path.ok_or_else(|| Refusal::bad("path query parameter is required for raw body upload"))?;
                vec![self.store(self.resolve(path)?, &metadata, bytes).await?]
            }
            form if form.starts_with("multipart/") => self.upload_form(path, kind, &metadata, bytes).await?,
            _ => {
                let wanted = "expected multipart/form-data or application/octet-stream";
                return Err(Refusal::bad(format!("unsupported content type: {kind}, {wanted}")));
            }
        };
        Ok(connect::json(StatusCode::OK, &written))
    }

    async fn upload_form(
        &self,
        path: Option<&str>,
        kind: &str,
        metadata: &BTreeMap<String, String>,
        bytes: impl Stream<Item = io::Result<Bytes>> + Unpin,
    ) -> Result<Vec<Uploaded>, Refusal> {
        let broken = |error: multipart::Broken| Refusal::bad(format!("error parsing multipart form: {error}"));
        let mut parts = Parts { form: Form::new(&multipart::boundary(kind).map_err(broken)?), bytes };
        let mut paths = HashSet::new();
        let (mut on_the_way, mut written) = (FuturesUnordered::new(), BTreeMap::new());
        while let Some(head) = parts.next().await? {
            if head.name != "file" {
                continue;
            }
            let named = path.or(head.file_name.as_deref()).filter(|name| !name.is_empty());
            let path = self.resolve(named.ok_or_else(|| Refusal::bad("a file of a form has a name"))?)?;
            let place = paths.len();
            if place >= MOST_FILES {
                return Err(Refusal::bad(format!("more than {MOST_FILES} files in one request")));
            }
            if !paths.insert(path.clone()) {
                let why = "you cannot upload multiple files to the same path";
                return Err(Refusal::bad(format!("{why} '{path}' in one upload request, only the first specified file was uploaded")));
            }
            let mut content = Box::pin(parts.content());
            match short(&mut content).await? {
                Short::All(bytes) => {
                    on_the_way.push(async move { (place, self.store_short(path, metadata, &bytes).await) });
                    if on_the_way.len() >= AT_ONCE
                        && let Some((place, done)) = on_the_way.next().await
                    {
                        written.insert(place, done?);
                    }
                }
                Short::Begun(bytes) => {
                    let all = stream::iter([Ok(bytes)]).chain(content);
                    written.insert(place, self.store_long(path, metadata, all).await?);
                }
            }
        }
        while let Some((place, done)) = on_the_way.next().await {
            written.insert(place, done?);
        }
        Ok(written.into_values().collect())
    }

    async fn store(
        &self,
        path: String,
        metadata: &BTreeMap<String, String>,
        mut bytes: impl Stream<Item = io::Result<Bytes>> + Unpin,
    ) -> Result<Uploaded, Refusal> {
        match short(&mut bytes).await? {
            Short::All(all) => self.store_short(path, metadata, &all).await,
            Short::Begun(begun) => self.store_long(path, metadata, stream::iter([Ok(begun)]).chain(bytes)).await,
        }
    }

    fn written(&self, path: &str, metadata: &BTreeMap<String, String>) -> Written {
        let metadata = Some(metadata.clone());
        Written { how: Writing::InPlace, metadata, ..Written::to(path, self.account.id) }
    }

    async fn store_short(&self, path: String, metadata: &BTreeMap<String, String>, bytes: &[u8]) -> Result<Uploaded, Refusal> {
        let done = self.sandbox.write_short(&self.written(&path, metadata), bytes).await;
        done.map_err(|error| refusal(&path, error))?;
        self.uploaded(path, metadata).await
    }

    async fn store_long(
        &self,
        path: String,
        metadata: &BTreeMap<String, String>,
        bytes: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<Uploaded, Refusal> {
        let begun = self.sandbox.write_as(&self.written(&path, metadata)).await;
        let (mut pipe, copied) = begun.map_err(|error| refusal(&path, error))?;
        let mut bytes = std::pin::pin!(bytes);
        while let Some(piece) = next(&mut bytes).await? {
            match timeout(STALL, pipe.write_all(&piece)).await {
                Ok(Ok(())) => {}
                // Why it takes no more, it says below.
                Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => break,
                Ok(Err(error)) => return Err(refusal(&path, error.into())),
                Err(_) => return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the sandbox takes no more bytes")),
            }
        }
        drop(pipe);
        ended(copied).await.map_err(|error| refusal(&path, error))?;
        self.uploaded(path, metadata).await
    }

    /// What was written about it is what the file system kept of it.
    async fn uploaded(&self, path: String, metadata: &BTreeMap<String, String>) -> Result<Uploaded, Refusal> {
        let kept = match metadata.is_empty() {
            true => BTreeMap::new(),
            false => self.sandbox.stat(&path, self.account.id).await.map_err(|error| refusal(&path, error))?.metadata,
        };
        Ok(Uploaded { name: name(&path).to_owned(), kind: "file", metadata: kept, path })
    }

    /// Files one after the other into one.
    pub async fn compose(&self, request: Compose) -> Result<Response, Refusal> {
        if request.source_paths.is_empty() {
            return Err(Refusal::bad("source_paths must not be empty"));
        }
        if request.destination.is_empty() {
            return Err(Refusal::bad("destination is required"));
        }
        let sources = request.source_paths.iter().map(|path| self.resolve(path)).collect::<Result<Vec<_>, _>>()?;
        let path = self.resolve(&request.destination)?;
        let composed = self.sandbox.compose(sources, &path, self.account.id).await;
        composed.map_err(|error| match error {
            RequestError::Fault(fault) if fault.kind == FaultKind::NotFound => {
                Refusal::new(StatusCode::NOT_FOUND, format!("source file not found: {}", fault.message))
            }
            error => refusal(&path, error),
        })?;
        Ok(connect::json(StatusCode::OK, &Uploaded { name: name(&path).to_owned(), kind: "file", metadata: BTreeMap::new(), path }))
    }
}

/// What is to be one file.
#[derive(Debug, Deserialize)]
pub struct Compose {
    #[serde(default)]
    pub source_paths: Vec<String>,
    #[serde(default)]
    pub destination: String,
    pub username: Option<String>,
}

#[derive(Debug, Serialize)]
struct Uploaded {
    path: String,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

async fn ended(copied: Copied) -> Result<u64, RequestError> {
    Ok(copied.await.map_err(|_| RequestError::Gone)??)
}

/// What people write about a file: in headers of this name.
fn metadata(headers: &HeaderMap) -> Result<BTreeMap<String, String>, Refusal> {
    let mut metadata = BTreeMap::new();
    let mut bytes = 0;
    for name in headers.keys() {
        let Some(key) = name.as_str().strip_prefix("x-metadata-").filter(|key| !key.is_empty()) else { continue };
        let value = headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        let text = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        let text = text.ok_or_else(|| Refusal::bad(format!("invalid metadata: the value of {key:?} is not printable US-ASCII")))?;
        if key.len() > MOST_KEY {
            return Err(Refusal::bad(format!("invalid metadata: a key exceeds {MOST_KEY} bytes")));
        }
        bytes += PREFIX.len() + key.len() + text.len();
        metadata.insert(key.to_owned(), text.to_owned());
    }
    if bytes > MOST_METADATA {
        return Err(Refusal::bad(format!("invalid metadata: total metadata size {bytes} exceeds {MOST_METADATA} bytes")));
    }
    Ok(metadata)
}

/// The parts of a form, one after the other.
struct Parts<S> {
    form: Form,
    bytes: S,
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Parts<S> {
    async fn step(&mut self) -> io::Result<Next> {
        loop {
            match self.form.next().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
                Next::More => match self.bytes.next().await {
                    Some(bytes) => self.form.push(bytes?),
                    None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the form has no end")),
                },
                next => return Ok(next),
            }
        }
    }

    /// The next part; what was not read of the one before is passed over.
    async fn next(&mut self) -> Result<Option<Head>, Refusal> {
        loop {
            let step = timeout(STALL, self.step()).await.map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "no more bytes came"))?;
            match step.map_err(|error| Refusal::bad(format!("error reading form: {error}")))? {
                Next::Part(head) => return Ok(Some(head)),
                Next::End => return Ok(None),
                Next::Bytes(_) | Next::PartEnd | Next::More => {}
            }
        }
    }

    /// What is in the part that has begun.
    fn content(&mut self) -> impl Stream<Item = io::Result<Bytes>> {
        unfold(Some(self), |parts| async move {
            let parts = parts?;
            match parts.step().await {
                Ok(Next::Bytes(bytes)) => Some((Ok(bytes), Some(parts))),
                Ok(_) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

enum Short {
    All(Bytes),
    /// The first of it.
    Begun(Bytes),
}

/// A small file is one exchange with init; whether it is small is known when it has come.
async fn short(bytes: &mut (impl Stream<Item = io::Result<Bytes>> + Unpin)) -> Result<Short, Refusal> {
    let Some(first) = next(bytes).await? else { return Ok(Short::All(Bytes::new())) };
    if first.len() > SHORT {
        return Ok(Short::Begun(first));
    }
    let Some(second) = next(bytes).await? else { return Ok(Short::All(first)) };
    let mut all = BytesMut::from(first);
    all.extend_from_slice(&second);
    while all.len() <= SHORT {
        let Some(more) = next(bytes).await? else { return Ok(Short::All(all.freeze())) };
        all.extend_from_slice(&more);
    }
    Ok(Short::Begun(all.freeze()))
}

async fn next(bytes: &mut (impl Stream<Item = io::Result<Bytes>> + Unpin)) -> Result<Option<Bytes>, Refusal> {
    match timeout(STALL, bytes.next()).await {
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(Some(Err(error))) => Err(Refusal::bad(format!("error reading the request: {error}"))),
        Ok(None) => Ok(None),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "no more bytes came")),
    }
}

/// A request's bytes, as they are meant.
fn incoming(body: BodyDataStream, packed: Encoding) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let unpacker = (packed == Encoding::Gzip).then(Unpacker::new);
    let state = Incoming { body, packed: unpacker.is_some(), unpacker, piece: Bytes::new() };
    unfold(state, |mut state| async move {
        let piece = state.next().await?;
        Some((piece, state))
    })
}

struct Incoming {
    body: BodyDataStream,
    packed: bool,
    unpacker: Option<Unpacker>,
    piece: Bytes,
}

impl Incoming {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if !self.packed {
                return Some(self.body.next().await?.map_err(io::Error::other));
            }
            let unpacker = self.unpacker.as_mut()?;
            if self.piece.is_empty() {
                match self.body.next().await {
                    Some(Ok(piece)) => self.piece = piece,
                    Some(Err(error)) => return Some(Err(io::Error::other(error))),
                    None => {
                        let last = self.unpacker.take()?.finish();
                        return Some(last.map(Bytes::from));
                    }
                }
            }
            let bite = self.piece.split_to(self.piece.len().min(BITE));
            match unpacker.unpack(&bite) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Some(Ok(bytes.into())),
                Err(error) => {
                    self.unpacker = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// A file's bytes as a body: exactly `length` where that is said, for more would be another answer, and less is an error.
fn outgoing(part: FilePart, length: Option<u64>, encoding: Encoding) -> Body {
    let packer = (encoding == Encoding::Gzip).then(Packer::new);
    let state = Outgoing { part: Some(part), buffer: BytesMut::new(), left: length, packer };
    Body::from_stream(unfold(state, |mut state| async move {
        let piece = state.next().await?;
        if piece.is_err() {
            state.part = None;
            state.packer = None;
        }
        Some((piece, state))
    }))
}

struct Outgoing {
    part: Option<FilePart>,
    buffer: BytesMut,
    left: Option<u64>,
    packer: Option<Packer>,
}

impl Outgoing {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let Some(part) = &mut self.part else {
                return Some(self.packer.take()?.finish().map(Bytes::from));
            };
            if self.left == Some(0) {
                return None;
            }
            self.buffer.reserve(PIECE);
            match part.pipe.read_buf(&mut self.buffer).await {
                Ok(0) => {
                    if let Some(error) = self.end().await {
                        return Some(Err(error));
                    }
                }
                Ok(_) => {
                    let mut piece = self.buffer.split().freeze();
                    if let Some(left) = &mut self.left {
                        piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                        *left -= piece.len() as u64;
                    }
                    match &mut self.packer {
                        None => return Some(Ok(piece)),
                        Some(packer) => match packer.pack(&piece) {
                            Ok(packed) if packed.is_empty() => {}
                            packed => return Some(packed.map(Bytes::from)),
                        },
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Whether all came that was to come.
    async fn end(&mut self) -> Option<io::Error> {
        let part = self.part.take()?;
        match (ended(part.copied).await, self.left) {
            (Err(error), _) => Some(io::Error::other(error)),
            (Ok(_), Some(left)) if left > 0 => Some(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")),
            (Ok(_), _) => None,
        }
    }
}

enum Wanted {
    Whole,
    /// Up to, without, `to`.
    Part {
        from: u64,
        to: u64,
    },
    /// A part that there is not.
    Nothing,
}

/// Of several parts none is made: then all of it is a good answer, too.
fn wanted(headers: &HeaderMap, bytes: u64, modified_ms: i64) -> Wanted {
    let Some(range) = text(headers, header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else { return Wanted::Whole };
    let still = text(headers, header::IF_RANGE).is_none_or(|date| seconds(date) == Some(modified_ms.div_euclid(1_000)));
    let Some((from, to)) = range.split_once('-').filter(|_| still && !range.contains(',')) else { return Wanted::Whole };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (from, to) = match (from.trim(), to.trim()) {
        ("", last) => match number(last) {
            Some(last) => (bytes.saturating_sub(last), bytes),
            None => return Wanted::Whole,
        },
        (from, "") => match number(from) {
            Some(from) => (from, bytes),
            None => return Wanted::Whole,
        },
        (from, to) => match (number(from), number(to)) {
            (Some(from), Some(to)) if from <= to => (from, bytes.min(to.saturating_add(1))),
            _ => return Wanted::Whole,
        },
    };
    if from < to { Wanted::Part { from, to } } else { Wanted::Nothing }
}

fn is_unchanged(headers: &HeaderMap, modified_ms: i64) -> bool {
    let since = text(headers, header::IF_MODIFIED_SINCE).filter(|_| !headers.contains_key(header::IF_NONE_MATCH));
    since.and_then(seconds).is_some_and(|since| modified_ms.div_euclid(1_000) <= since)
}

fn seconds(date: &str) -> Option<i64> {
    let date = httpdate::parse_http_date(date).ok()?;
    i64::try_from(date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()).ok()
}

fn told(status: StatusCode, path: &str, modified_ms: i64, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, content_type(path));
    set(&mut response, header::CONTENT_DISPOSITION, &disposition(name(path)));
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // The last second that such a date can be of is in the year 9999.
    if let Some(ms) = u64::try_from(modified_ms).ok().filter(|ms| *ms < 253_402_300_800_000) {
        set(&mut response, header::LAST_MODIFIED, &httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_millis(ms)));
    }
    response
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// What a browser shows rather than saves.
fn content_type(path: &str) -> &'static str {
    let extension = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref().unwrap_or_default() {
        "txt" | "log" | "md" | "py" | "rs" | "c" | "h" | "ts" | "sh" | "toml" | "yaml" | "yml" => "text/plain; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "xml" => "text/xml; charset=utf-8",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "webp" => "image/webp",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

/// A name that is anybody's, as a header can have it.
fn disposition(name: &str) -> String {
    let plain = name.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\');
    if plain {
        return format!("inline; filename=\"{name}\"");
    }
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    format!("inline; filename*=utf-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn parts_are_those_that_were_asked_for() {
        let of = |range: &str| match wanted(&headers(&[("range", range)]), 100, 0) {
            Wanted::Whole => None,
            Wanted::Part { from, to } => Some((from, to)),
            Wanted::Nothing => Some((0, 0)),
        };
        assert_eq!(
            (of("bytes=0-9"), of("bytes=90-"), of("bytes=-10"), of("bytes=-1000")),
            (Some((0, 10)), Some((90, 100)), Some((90, 100)), Some((0, 100)))
        );
        assert_eq!((of("bytes=99-5000"), of("bytes=100-"), of("bytes=-0")), (Some((99, 100)), Some((0, 0)), Some((0, 0))));
        for not in
            ["bytes=", "bytes=a-b", "bytes=5-1", "bytes=0-1,3-4", "lines=0-1", "bytes=-", "bytes=99999999999999999999-", "bytes=+1-2"]
        {
            assert_eq!(of(not), None, "{not}");
        }
        assert_eq!(of("bytes=0-18446744073709551615"), Some((0, 100)));
    }

    #[test]
    fn what_people_write_about_a_file_has_bounds() {
        let good = metadata(&headers(&[("x-metadata-author", "mish"), ("x-metadata-", "x"), ("other", "y")])).unwrap();
        assert_eq!(good, BTreeMap::from([("author".to_owned(), "mish".to_owned())]));
        let long = "v".repeat(4_090);
        assert!(metadata(&headers(&[("x-metadata-a", &long)])).is_err());
        assert!(metadata(&headers(&[("x-metadata-a", "a\tb")])).is_err());
        let mut foreign = HeaderMap::new();
        foreign.insert("x-metadata-a", HeaderValue::from_bytes(&[0xff]).unwrap());
        assert!(metadata(&foreign).is_err());
        let name = format!("x-metadata-{}", "k".repeat(247));
        let long = HeaderMap::from_iter([(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("v"))]);
        assert!(metadata(&long).is_err());
    }

    #[test]
    fn names_break_no_header() {
        assert_eq!(disposition("a b.txt"), "inline; filename=\"a b.txt\"");
        for hostile in ["a\"; filename=\"b", "a\r\nSet-Cookie: x", "ü", "a\\"] {
            let made = disposition(hostile);
            assert!(made.starts_with("inline; filename*=utf-8''") && HeaderValue::from_str(&made).is_ok(), "{made}");
        }
    }
}
