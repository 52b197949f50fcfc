//! Started operations: what a guest asked for that takes time, as futures of its isolate's task.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::gate::Source;
use super::redirect::{self, Redirects, Step};
use super::task::{HEADERS_EXCEEDED, Task, headers_exceeded, pairs};
use crate::body::{Body, BodyError, CALL_ENDED, over};
use crate::chain::Chain;
use crate::host::{self, HostError};
use crate::instance;
use crate::ops::{self, number, text};
use crate::outcome::{Exception, Outcome};
use crate::socket::{Socket, SocketMessage};
use crate::target::{BoxFuture, CallError, Request, Response, RpcMessage, Target};
use crate::wire::{Text, Wire, WireOut};

/// Largest piece of a stream that is handed to a guest at once, in bytes.
const CHUNK_BYTES_MAX: usize = 256 << 10;

/// Where the arguments of `fetch` say which call asks, if the guest says it.
const CALL_OF_FETCH: usize = 7;

const TOO_MANY_SUBREQUESTS: &str = "Too many subrequests.";

/// An operation that is under way.
pub(super) struct Started {
    /// The call that started it, and pays.
    pub(super) payer: Option<u32>,
    /// The call whose answer is what it brings, unseen by the guest.
    pub(super) answers: Option<Answers>,
    /// Where it must not outlive the call that asked for it: which that is, and what is dropped when the guest gives it up.
    pub(super) bound: Option<(Option<u32>, watch::Sender<()>)>,
}

impl Started {
    pub(super) fn by(payer: Option<u32>) -> Self {
        Self { payer, answers: None, bound: None }
    }
}

/// Where what an operation brings goes on to.
#[derive(Clone, Copy)]
pub(super) struct Answers {
    pub(super) call: u32,
    /// The request was such that its answer has no body, whatever came.
    pub(super) bodyless: bool,
}

/// What a finished operation brought.
pub(super) enum Ended {
    Value(WireOut),
    /// The result of slow computing, and the CPU time that it took elsewhere.
    Heavy {
        value: WireOut,
        cpu_us: u64,
    },
    Chunk(Bytes),
    /// Complete.
    Response(Box<Response>),
    /// What a redirect may follow from.
    Answer(Box<Response>, Box<Redirects>),
    Socket(Socket),
    Rpc(RpcMessage),
    /// What an actor's state refused.
    Thrown {
        name: String,
        message: String,
    },
}

/// What the task's futures end with.
pub(super) enum Done {
    /// Something nobody waits for.
    Silent,
    /// An operation under the guest's id.
    Started { id: u32, result: Result<Ended, HostError> },
    /// A message on a socket, or its end (`None`).
    Socket { number: u32, message: Option<SocketMessage>, rx: mpsc::Receiver<SocketMessage> },
    /// A socket that an actor's state shall keep.
    Kept { number: u32, rx: mpsc::Receiver<SocketMessage> },
}

impl Done {
    /// What it takes of the host's memory while it waits, in bytes.
    pub(super) fn footprint(&self) -> usize {
        let message = |message: &SocketMessage| match message {
            SocketMessage::Text(bytes) | SocketMessage::Binary(bytes) => bytes.len(),
            SocketMessage::Close(_, why) | SocketMessage::Error(why) => why.len(),
        };
        match self {
            Self::Silent | Self::Kept { .. } | Self::Started { result: Err(_), .. } => 0,
            Self::Socket { message: came, .. } => came.as_ref().map_or(0, message),
            Self::Started { result: Ok(ended), .. } => match ended {
                Ended::Value(value) | Ended::Heavy { value, .. } => value.footprint(),
                Ended::Chunk(chunk) => chunk.len(),
                Ended::Response(response) | Ended::Answer(response, _) => {
                    let body = if let Body::Bytes(bytes) = &response.body { bytes.len() } else { 0 };
                    response.headers_bytes() + body
                }
                Ended::Rpc(message) => message.bytes.len(),
                Ended::Socket(_) => 0,
                Ended::Thrown { name, message } => name.len() + message.len(),
            },
        }
    }
}

/// A message of a socket, or its end, as events have it: kind, data, code, reason.
pub(super) fn socket_event(message: Option<SocketMessage>) -> [WireOut; 4] {
    let nothing = (Wire::Null, 0_u32, String::new());
    let (kind, (data, code, reason)): (&str, (WireOut, u32, String)) = match message {
        Some(SocketMessage::Text(t)) => ("text", (Wire::Str(Text::from_raw(t.to_vec())), nothing.1, nothing.2)),
        Some(SocketMessage::Binary(b)) => ("binary", (b.to_vec().into(), nothing.1, nothing.2)),
        Some(SocketMessage::Close(code, reason)) => ("close", (nothing.0, code.into(), reason)),
        Some(SocketMessage::Error(e)) => ("error", (nothing.0, 1006, e)),
        None => ("close", (nothing.0, 1006, nothing.2)),
    };
    [kind.into(), data, code.into(), reason.into()]
}

/// Classes of errors that every isolate has.
const ERROR_NAMES: [&str; 7] = ["TypeError", "RangeError", "SyntaxError", "ReferenceError", "URIError", "EvalError", "Error"];

/// Before the name of what an actor ended with: its guest's stub says that it was reset.
pub(super) const RESET: &str = "reset:";

/// The same, so marked.
const RESET_NAMES: [&str; 7] = [
    "reset:TypeError",
    "reset:RangeError",
    "reset:SyntaxError",
    "reset:ReferenceError",
    "reset:URIError",
    "reset:EvalError",
    "reset:Error",
];

/// What was thrown, under the names of `names` (the last is `Error`).
fn thrown(exception: Exception, names: [&'static str; 7]) -> HostError {
    let Exception { name, message, .. } = exception;
    match ERROR_NAMES.iter().position(|known| *known == name) {
        Some(known) => HostError::new(names[known], message),
        // What was thrown is no error.
        None if name.is_empty() => HostError::new(names[6], message),
        None => HostError::new(names[6], format!("{name}: {message}")),
    }
}

type Operation = BoxFuture<Result<Ended, HostError>>;

fn failed(error: HostError) -> Operation {
    Box::pin(std::future::ready(Err(error)))
}

impl From<CallError> for HostError {
    fn from(e: CallError) -> Self {
        match e {
            CallError::Network(m) => HostError::new("TypeError", m),
            CallError::Refused(m) => HostError::new("Error", m),
            CallError::Ended(Outcome::Exception(e)) => thrown(e, ERROR_NAMES),
            CallError::Ended(Outcome::Reset(e)) => thrown(e, RESET_NAMES),
            CallError::Ended(outcome) => HostError::new("Error", outcome.to_string()),
        }
    }
}

/// Sends a request whose redirects matter.
fn sent(request: Request, redirects: Box<Redirects>) -> Operation {
    let target = redirects.target().clone();
    Box::pin(async move { Ok(Ended::Answer(Box::new(target.fetch(request).await?), redirects)) })
}

/// A WebSocket handshake is an HTTP request: `ws:` is `http:`, `wss:` is `https:`.
fn http_url(url: &str) -> String {
    match url.strip_prefix("ws") {
        Some(rest) if rest.starts_with(':') || rest.starts_with("s:") => format!("http{rest}"),
        _ => url.to_owned(),
    }
}

impl Task {
    /// Starts an operation on the account of the current call.
    pub(super) fn start(&mut self, id: u32, op: &str, args: Vec<WireOut>) {
        let held = self.state().map(|state| state.held.clone());
        // Bodies and messages are on the account by themselves, for they may live on when the operation has ended.
        let kept = args.iter().filter(|arg| !matches!(arg, Wire::Bytes(_)) || op.starts_with("crypto.") || op.starts_with("actor."));
        let charge = held.map(|held| held.charge(ops::effect_bytes(&[]) + kept.map(Wire::footprint).sum::<usize>()));
        let at_gate = self.actor.as_ref().map_or(0, |acting| acting.input.waiting());
        let full = self.in_flight.len() + at_gate >= self.worker.limits.pending as usize;
        let binds = op == "fetch" && self.ends_with_call(number(&args, 0));
        let asker = self.paying(args.get(CALL_OF_FETCH)).filter(|_| binds);
        let operation = match full {
            true if op == "stream.write" => self.cut_off(number(&args, 0), "too many operations in flight"),
            true => failed(HostError::new("RangeError", "too many operations in flight")),
            false => self.operation(op, args),
        };
        let (operation, kept) = if binds { self.bind(asker, operation) } else { (operation, None) };
        self.started.insert(id, Started { bound: kept.map(|kept| (asker, kept)), ..Started::by(self.current) });
        self.in_flight.push(Box::pin(async move {
            let result = operation.await;
            drop(charge);
            Done::Started { id, result }
        }));
    }

    fn ends_with_call(&mut self, channel: u32) -> bool {
        self.state().and_then(|state| state.resources.channel(channel)).is_some_and(|target| target.ends_with_call())
    }

    /// An operation that ends with the call that asked for it, where one did, and when what comes with it is dropped.
    fn bind(&mut self, asker: Option<u32>, operation: Operation) -> (Operation, Option<watch::Sender<()>>) {
        let mut until = asker.and_then(|call| self.call(call)).map(|call| call.bounds.until());
        let (kept, mut given_up) = watch::channel(());
        let bound = Box::pin(async move {
            let ended = async {
                match &mut until {
                    Some(until) => over(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = ended => Err(HostError::new("Error", CALL_ENDED)),
                () = over(&mut given_up) => Err(HostError::new("Error", CALL_ENDED)),
                brought = operation => brought,
            }
        });
        (bound, Some(kept))
    }

    fn operation(&mut self, op: &str, args: Vec<WireOut>) -> Operation {
        match op {
            "fetch" => self.fetch(&args),
            "ws.connect" => self.connect(&args),
            "rpc" => self.rpc(&args),
            "stream.read" => self.read(&args),
            "stream.write" => self.write(args),
            _ if op.starts_with("actor.") => self.ask_state(op, args),
            _ if op.starts_with("crypto.heavy.") => self.heavy(op.to_owned(), args),
            _ => failed(HostError::new("TypeError", format!("unknown host operation {op}"))),
        }
    }

    /// An operation of the state behind an actor.
    fn ask_state(&mut self, op: &str, args: Vec<WireOut>) -> Operation {
        let Some(durable) = self.state().and_then(|state| state.durable.as_mut()) else {
            return failed(HostError::new("TypeError", ops::NO_ACTOR));
        };
        let asked = durable.start(op, args);
        Box::pin(async move {
            Ok(match asked.await {
                Ok(value) => Ended::Value(value),
                Err((name, message)) => Ended::Thrown { name, message },
            })
        })
    }

    fn heavy(&self, op: String, args: Vec<WireOut>) -> Operation {
        let engine = self.image.engine().clone();
        Box::pin(async move {
            let work = move || host::heavy_call(&op, &args);
            match engine.run_blocking(work).await {
                Some((Some(result), cpu_us)) => result.map(|value| Ended::Heavy { value, cpu_us }),
                _ => Err(HostError::new("TypeError", "unknown host operation")),
            }
        })
    }

    /// The target of a channel number; 0 is the global way out. Counts a subrequest.
    fn target(&mut self, channel: u32) -> Result<Arc<dyn Target>, HostError> {
        if let Some(call) = self.current.and_then(|c| self.call(c))
            && !call.subrequest()
        {
            return Err(HostError::new("Error", TOO_MANY_SUBREQUESTS));
        }
        if channel == 0 {
            let refused = "This worker is not permitted to access the internet via global functions like fetch(). It must use capabilities (such as bindings in 'env') to talk to the outside world.";
            return self.worker.outbound.clone().ok_or_else(|| HostError::new("Error", refused));
        }
        let target = self.state().and_then(|s| s.resources.channel(channel).cloned());
        target.ok_or_else(|| HostError::new("Error", "The stub has been disposed."))
    }

    fn fetch(&mut self, args: &[WireOut]) -> Operation {
        let target = match self.target(number(args, 0)) {
            Ok(target) => target,
            Err(e) => return failed(e),
        };
        if headers_exceeded(args.get(3)) {
            return failed(HostError::new("RangeError", HEADERS_EXCEEDED));
        }
        let body = self.body_out(args.get(4));
        if let Body::Bytes(b) = &body
            && let Some(call) = self.current.and_then(|c| self.call(c))
            && !call.output(b.len())
        {
            return failed(HostError::new("RangeError", "the output limit was exceeded"));
        }
        let mut headers = pairs(args.get(3));
        if let Body::Bytes(bytes) = &body
            && !headers.iter().any(|(name, _)| name == "content-length")
        {
            headers.push(("content-length".into(), bytes.len().to_string()));
        }
        let request = Request { method: text(args, 1), url: text(args, 2), headers, body, cf: String::new(), chain: self.chain() };
        match Redirects::of(&target, &request, &text(args, 5)) {
            Some(mut redirects) => {
                redirects.charge = self.state().map(|state| state.held.charge(redirects.footprint()));
                sent(request, redirects)
            }
            None => Box::pin(async move {
                let url = request.url.clone();
                let response = target.fetch(request).await?;
                Ok(Ended::Response(Box::new(redirect::placed(response, &url))))
            }),
        }
    }

    /// What an answer to `fetch` amounts to; `None` when it was a redirect, and the next request is on its way. That counts like the
    /// first: as a subrequest, and what is sent again as output.
    pub(super) fn answered(
        &mut self,
        id: u32,
        started: &Started,
        response: Response,
        mut redirects: Box<Redirects>,
    ) -> Option<Result<Ended, HostError>> {
        let payer = started.payer;
        let request = match redirects.next(response) {
            Ok(Step::Arrived(response)) => return Some(Ok(Ended::Response(response))),
            Ok(Step::Onward(request)) => request,
            Err(error) => return Some(Err(error)),
        };
        let sent_again = match &request.body {
            Body::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        if let Some(call) = payer.and_then(|c| self.call(c)) {
            if !call.subrequest() {
                return Some(Err(HostError::new("Error", TOO_MANY_SUBREQUESTS)));
            }
            if !call.output(sent_again) {
                return Some(Err(HostError::new("RangeError", "the output limit was exceeded")));
            }
        }
        // Twice: what is sent, and what is kept for another redirect.
        let bytes = redirects.footprint().saturating_mul(2);
        redirects.charge = self.state().and_then(|state| state.room(bytes).then(|| state.held.charge(bytes)));
        if redirects.charge.is_none() {
            return Some(Err(HostError::new("RangeError", "the worker's memory limit was exceeded")));
        }
        self.started.insert(id, Started { answers: started.answers, ..Started::by(payer) });
        self.in_flight.push(Box::pin(async move {
            let result = sent(request, redirects).await;
            Done::Started { id, result }
        }));
        None
    }

    fn connect(&mut self, args: &[WireOut]) -> Operation {
        let target = match self.target(number(args, 0)) {
            Ok(target) => target,
            Err(e) => return failed(e),
        };
        let protocols: Vec<String> =
            args.get(2).and_then(Wire::as_array).unwrap_or_default().iter().filter_map(|p| p.as_str().map(|s| s.into_owned())).collect();
        let mut headers = vec![("upgrade".to_owned(), "websocket".to_owned())];
        if !protocols.is_empty() {
            headers.push(("sec-websocket-protocol".into(), protocols.join(", ")));
        }
        let (url, chain) = (http_url(&text(args, 1)), self.chain());
        let request = Request { method: "GET".into(), url, headers, chain, ..Request::default() };
        Box::pin(async move {
            let response = target.fetch(request).await?;
            let status = response.status;
            response
                .socket
                .map(Ended::Socket)
                .ok_or_else(|| HostError::new("TypeError", format!("the server did not accept the WebSocket (status {status})")))
        })
    }

    fn rpc(&mut self, args: &[WireOut]) -> Operation {
        let target = match self.target(number(args, 0)) {
            Ok(target) => target,
            Err(e) => return failed(e),
        };
        let (bytes, targets, chain) = (self.bytes_out(args.get(1)), self.targets(args.get(2)), self.chain());
        if self.current.and_then(|c| self.call(c)).is_some_and(|call| !call.output(bytes.len())) {
            return failed(HostError::new("RangeError", "the output limit was exceeded"));
        }
        Box::pin(async move { Ok(Ended::Rpc(target.rpc(RpcMessage { bytes, targets, chain }).await?)) })
    }

    fn read(&mut self, args: &[WireOut]) -> Operation {
        let most = (number(args, 1) as usize).clamp(1, CHUNK_BYTES_MAX);
        let most = if number(args, 1) == 0 { CHUNK_BYTES_MAX } else { most };
        let Some(reader) = self.state().and_then(|s| s.resources.reader(number(args, 0))) else {
            return failed(HostError::new("TypeError", "the stream is closed"));
        };
        Box::pin(async move {
            match reader.lock().await.as_mut() {
                None => Err(HostError::new("TypeError", "the stream was passed on")),
                Some(stream) => match stream.next(most).await {
                    Ok(Some(chunk)) => Ok(Ended::Chunk(chunk)),
                    Ok(None) => Ok(Ended::Value(Wire::Null)),
                    Err(e) => Err(HostError::new("TypeError", e.0)),
                },
            }
        })
    }

    fn write(&mut self, args: Vec<WireOut>) -> Operation {
        let Some(writer) = self.state().and_then(|s| s.resources.writer(number(&args, 0))) else {
            return failed(HostError::new("TypeError", "the stream is closed"));
        };
        let chunk = self.bytes_out(args.get(1));
        if self.current.and_then(|c| self.call(c)).is_some_and(|call| !call.output(chunk.len())) {
            return self.cut_off(number(&args, 0), "the output limit was exceeded");
        }
        Box::pin(async move {
            let writer = writer.lock().await;
            match writer.as_ref() {
                None => Err(HostError::new("TypeError", "the stream is closed")),
                Some(w) => w.write(chunk).await.map(|()| Ended::Value(Wire::Undefined)).map_err(|e| HostError::new("TypeError", e.0)),
            }
        })
    }

    /// Refuses a write. The reader must learn that nothing more comes: the guest does not close what failed.
    fn cut_off(&mut self, stream: u32, why: &'static str) -> Operation {
        self.do_with_resource("stream.abort", &[stream.into(), why.into()]);
        failed(HostError::new("RangeError", why))
    }

    /// Deferred operations on streams and sockets.
    pub(super) fn do_with_resource(&mut self, op: &'static str, args: &[WireOut]) {
        let n = number(args, 0);
        match op {
            "stream.close" | "stream.abort" => {
                let Some(writer) = self.state().and_then(|s| s.resources.drop_writer(n)) else { return };
                let error = (op == "stream.abort").then(|| BodyError(text(args, 1)));
                // Behind the writes that wait for the same lock.
                self.in_flight.push(Box::pin(async move {
                    let writer = writer.lock().await.take();
                    if let (Some(writer), Some(error)) = (writer, error) {
                        writer.abort(error).await;
                    }
                    Done::Silent
                }));
            }
            "ws.send" => {
                let bytes = self.bytes_out(args.get(1));
                if self.current.and_then(|c| self.call(c)).is_some_and(|call| !call.output(bytes.len())) {
                    // As for a peer that is too slow: a socket that lost a message is of no use.
                    return self.state().into_iter().for_each(|state| state.resources.drop_socket(n));
                }
                let message = match args.get(1) {
                    Some(Wire::Bytes(_)) => SocketMessage::Binary(bytes),
                    _ => SocketMessage::Text(bytes),
                };
                self.send_on_socket(n, message);
            }
            // No end may say 1006: it means that the connection broke.
            "ws.close" if number(args, 1) == 1006 => self.send_on_socket(n, SocketMessage::Error(text(args, 2))),
            "ws.close" => self.send_on_socket(n, SocketMessage::Close(number(args, 1) as u16, text(args, 2))),
            _ => {}
        }
    }

    fn send_on_socket(&mut self, n: u32, message: SocketMessage) {
        let Some(state) = self.state() else { return };
        // A peer that reads too slowly is cut off: its socket ends instead of growing without bound.
        if state.resources.socket(n).is_some_and(|tx| tx.try_send(message).is_err()) {
            state.resources.drop_socket(n);
        }
    }

    /// Gives the guest a socket: a number, and its messages as events from now on.
    pub(super) fn add_socket(&mut self, socket: Socket) -> u32 {
        let number = self.state().map_or(0, |s| s.resources.add_socket(socket.tx));
        self.listen(number, socket.rx);
        self.actor.iter_mut().for_each(|acting| acting.input.begins(Source::Socket(number)));
        number
    }

    fn listen(&mut self, number: u32, mut rx: mpsc::Receiver<SocketMessage>) {
        let Some(wanted) = self.actor.as_mut().map(|acting| acting.listener(number)) else {
            return self.in_flight.push(Box::pin(async move {
                let message = rx.recv().await;
                Done::Socket { number, message, rx }
            }));
        };
        self.in_flight.push(Box::pin(async move {
            let message = tokio::select! {
                message = rx.recv() => message,
                () = wanted.notified() => return Done::Kept { number, rx },
            };
            Done::Socket { number, message, rx }
        }));
    }

    /// The client's end of a socket that the guest opened, to go out with a response.
    pub(super) fn take_socket(&mut self, number: u32) -> Option<Socket> {
        let (rx, theirs) = self.state()?.resources.claim_socket(number)?;
        // Without it, an actor's state keeps the socket, and the actor awake when there is need.
        if let Some(rx) = rx {
            self.listen(number, rx);
            self.serves(number, true);
        }
        Some(theirs)
    }

    pub(super) async fn socket_message(
        &mut self,
        number: u32,
        message: Option<SocketMessage>,
        rx: mpsc::Receiver<SocketMessage>,
    ) -> Result<(), Outcome> {
        let Some((message, rx)) = self.given_back(number, message, rx) else { return Ok(()) };
        if self.state().is_none_or(|s| s.resources.socket(number).is_none()) {
            self.serves(number, false);
            self.unlistened(number);
            return Ok(());
        }
        match message {
            Some(SocketMessage::Text(_) | SocketMessage::Binary(_)) => self.listen(number, rx),
            _ => {
                // The guest may still answer a close; the table entry goes with the peer.
                drop(rx);
                self.serves(number, false);
                self.unlistened(number);
            }
        }
        self.event_from_outside(Chain::default());
        let mut event: Vec<WireOut> = vec![number.into()];
        event.extend(socket_event(message));
        self.turn(None, instance::event("ws", event)).await
    }
}
