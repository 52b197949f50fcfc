//! A shell on a terminal of a sandbox, as a WebSocket.

use axum::{
    Extension,
    extract::{
        Path, Query, State, WebSocketUpgrade,
        ws::{Message, Utf8Bytes, WebSocket},
    },
    response::Response,
};
use bytes::Bytes;
use serde::Deserialize;
use skep_access::Principal;
use skep_node::{ExitStatus, PtySize, Running, Sandbox, SandboxCommand, Terminal};
use tokio_util::sync::CancellationToken;

use super::{exec::say, find, invalid, user};
use crate::{control::Control, reply::Failure};

/// Bytes of the screen in one message.
const PIECE_BYTES: usize = 16 << 10;

/// Bytes of one message of what is typed.
const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// What a shell hears when nobody is at its terminal any more.
const HANG_UP: i32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    user: Option<String>,
    columns: Option<u16>,
    rows: Option<u16>,
    line: Option<String>,
    cwd: Option<String>,
}

#[derive(Deserialize)]
struct Resize {
    columns: u16,
    rows: u16,
}

pub(crate) async fn terminal(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let upgrade = upgrade.map_err(|error| invalid(format!("this route is a WebSocket: {error}")))?;
    let owned = find(&control, &principal, &id)?;
    let command = command(asked, owned.facts().env)?;
    let sandbox = owned.for_traffic().await?;
    say(&owned, &principal, &command);
    let running = sandbox.exec(command).await?;
    let stopping = control.stopping.clone();
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| attend(socket, sandbox, running, stopping)))
}

fn command(asked: Asked, env: std::collections::BTreeMap<String, String>) -> Result<SandboxCommand, Failure> {
    let size = PtySize { columns: asked.columns.unwrap_or(80), rows: asked.rows.unwrap_or(24) };
    let mut command = match &asked.line {
        None => SandboxCommand::new(&["/bin/bash", "-i", "-l"]),
        Some(line) => SandboxCommand::new(&["/bin/bash", "-i", "-l", "-c", line]),
    };
    command.env = env;
    for (name, value) in [("TERM", "xterm-256color"), ("LANG", "C.UTF-8")] {
        command.env.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    (command.cwd, command.user, command.terminal) = (asked.cwd, user(asked.user.as_deref())?, Some(size));
    Ok(command)
}

/// Joins socket and terminal until the shell ends, the client leaves, or the node stops.
async fn attend(mut socket: WebSocket, sandbox: Sandbox, mut running: Running, stopping: CancellationToken) {
    let Some(terminal) = running.terminal.take() else { return };
    let mut piece = vec![0; PIECE_BYTES];
    // What is typed and not taken yet; until it is, no more is read, but the screen goes on: the shell may wait for that.
    let mut typed = Bytes::new();
    loop {
        tokio::select! {
            read = terminal.read(&mut piece) => match read {
                Ok(read @ 1..) => {
                    if socket.send(Message::Binary(Bytes::copy_from_slice(&piece[..read]))).await.is_err() {
                        break;
                    }
                }
                _ => return part(socket, running).await,
            },
            taken = terminal.write(&typed), if !typed.is_empty() => match taken {
                Ok(taken @ 1..) => drop(typed.split_to(taken)),
                _ => break,
            },
            message = socket.recv(), if typed.is_empty() => match message.and_then(Result::ok).and_then(|message| heard(&terminal, message)) {
                Some(bytes) => typed = bytes,
                None => break,
            },
            () = stopping.cancelled() => break,
        }
    }
    // It may have ended by itself in this moment.
    let _ = sandbox.signal(running.pid, HANG_UP, true).await;
}

/// What was typed, if anything. `None`: the client leaves, or says what no client says.
fn heard(terminal: &Terminal, message: Message) -> Option<Bytes> {
    match message {
        Message::Binary(bytes) => Some(bytes),
        Message::Text(text) => {
            let Resize { columns, rows } = serde_json::from_str(&text).ok()?;
            terminal.resize(PtySize { columns, rows }).ok()?;
            Some(Bytes::new())
        }
        Message::Ping(_) | Message::Pong(_) => Some(Bytes::new()),
        Message::Close(_) => None,
    }
}

/// Says how it ended.
async fn part(mut socket: WebSocket, mut running: Running) {
    let code = match running.exited().await {
        Ok(ExitStatus::Code(code)) => code,
        Ok(ExitStatus::Signal(signal)) => 128 + signal,
        Err(_) => -1,
    };
    let text = serde_json::json!({ "code": code }).to_string();
    let _ = socket.send(Message::Text(Utf8Bytes::from(text))).await;
    let _ = socket.send(Message::Close(None)).await;
}
