//! `skep sandbox shell`: this terminal, joined with one in a sandbox.

use std::{
    io::{self, IsTerminal, Read, Write},
    sync::Arc,
};

use futures_util::{SinkExt, StreamExt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use skep_api::ErrorCode;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderValue},
};

use super::encoded;
use crate::{client::Client, failure::Failure};

/// A terminal that hands every key on, until it is dropped.
struct Raw(Termios);

impl Raw {
    fn begin() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// The size of this terminal, columns and rows.
fn size() -> (u16, u16) {
    tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0).map_or((80, 24), |size| (size.ws_col, size.ws_row))
}

pub fn run(client: &Client, sandbox: &str, line: Option<&str>, user: &str, cwd: Option<&str>) -> Result<(), Failure> {
    let (columns, rows) = size();
    let mut path = format!("{sandbox}/terminal?columns={columns}&rows={rows}&user={}", encoded(user));
    for (name, value) in [("line", line), ("cwd", cwd)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::of(ErrorCode::Internal, &error, ""))?;
    let code = runtime.block_on(attend(client, &path));
    // A thread may still wait for a key.
    runtime.shutdown_background();
    Failure::exit(code?)
}

async fn attend(client: &Client, path: &str) -> Result<i32, Failure> {
    let Some((host, secure)) =
        client.url().strip_prefix("http://").map(|host| (host, false)).or(client.url().strip_prefix("https://").map(|host| (host, true)))
    else {
        return Err(Failure::wrong(format!("{} is no URL of a node", client.url()), ""));
    };
    let authority = host.split('/').next().unwrap_or(host);
    let port = if secure { 443 } else { 80 };
    let address = if authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
        authority.to_owned()
    } else {
        format!("{authority}:{port}")
    };
    let stream = TcpStream::connect(&address).await.map_err(|error| unreachable(client, &error))?;
    let _ = stream.set_nodelay(true);
    if secure {
        let name = address.rsplit_once(':').map_or(address.as_str(), |(name, _)| name).to_owned();
        let stream = secured(stream, name).await.map_err(|error| unreachable(client, &error))?;
        join(opened(client, path, "wss", host, stream).await?).await
    } else {
        join(opened(client, path, "ws", host, stream).await?).await
    }
}

async fn secured(stream: TcpStream, name: String) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name).map_err(io::Error::other)?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn opened<S>(client: &Client, path: &str, scheme: &str, host: &str, stream: S) -> Result<WebSocketStream<S>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("{scheme}://{host}{path}").into_client_request().map_err(|error| unreachable(client, &error))?;
    let bearer = HeaderValue::from_str(&client.bearer()).map_err(|error| Failure::of(ErrorCode::Invalid, &error, "Look at the key."))?;
    request.headers_mut().insert("authorization", bearer);
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            Err(match serde_json::from_slice::<skep_api::ErrorBody>(body) {
                Ok(body) => body.error.into(),
                Err(_) => Failure::new(ErrorCode::Internal, format!("{} answered {}", client.url(), answer.status()), ""),
            })
        }
        Err(error) => Err(unreachable(client, &error)),
    }
}

/// Keys out, the screen in, until the shell ends; its exit code.
async fn join<S: AsyncRead + AsyncWrite + Unpin>(socket: WebSocketStream<S>) -> Result<i32, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::of(ErrorCode::Unavailable, error, "The node stopped, or the sandbox ended.");
    let raw = Raw::begin().map_err(|error| failed(&error))?;
    let mut resized = signal(SignalKind::window_change()).map_err(|error| failed(&error))?;
    let (mut out, mut screen) = socket.split();
    let mut keys = keys();
    let mut code = None;
    loop {
        tokio::select! {
            typed = keys.recv() => {
                // At the end of what is typed the shell sees the end of a file.
                let bytes = typed.unwrap_or_else(|| vec![4]);
                let ended = bytes == [4] && keys.is_closed();
                // A shell that has ended says so on the other way.
                let _ = out.send(Message::Binary(bytes.into())).await;
                if ended {
                    keys = never();
                }
            }
            Some(()) = resized.recv() => {
                let (columns, rows) = size();
                let text = serde_json::json!({ "columns": columns, "rows": rows }).to_string();
                let _ = out.send(Message::Text(text.into())).await;
            }
            message = screen.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    let mut to = io::stdout().lock();
                    let _ = to.write_all(&bytes).and_then(|()| to.flush());
                }
                Some(Ok(Message::Text(text))) => {
                    let said: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                    code = said["code"].as_i64().and_then(|code| i32::try_from(code).ok());
                }
                Some(Ok(Message::Close(_))) | None => break,
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    drop(raw);
                    return Err(failed(&error));
                }
            }
        }
    }
    drop(raw);
    code.ok_or_else(|| Failure::new(ErrorCode::Unavailable, "the connection broke off before the shell ended", ""))
}

/// What is typed, read by a thread of its own: reading a terminal blocks.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (typed, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(read @ 1..) = io::stdin().lock().read(&mut buffer) {
            if typed.blocking_send(buffer[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    keys
}

/// Nothing, for ever.
fn never() -> mpsc::Receiver<Vec<u8>> {
    let (typed, keys) = mpsc::channel(1);
    std::mem::forget(typed);
    keys
}

fn unreachable(client: &Client, error: &dyn std::error::Error) -> Failure {
    Failure::new(
        ErrorCode::Unavailable,
        format!("no terminal at {}: {error}", client.url()),
        "Start a node with `skep up`, or give --url or --data.",
    )
}
