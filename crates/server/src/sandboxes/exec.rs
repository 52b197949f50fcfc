//! Commands in sandboxes, their output as lines of JSON as it happens.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Extension,
    body::Body as HttpBody,
    extract::{Path, State},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, header};
use skep_access::Principal;
use skep_api::{SandboxExec, SandboxOutput};
use skep_node::{ExitStatus, Level, Note, Owned, Running, Sandbox, SandboxCommand, Stdio};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use super::{find, invalid, user};
use crate::{
    control::{Control, Json},
    reply::Failure,
};

/// Bytes of output in one line.
const PIECE_BYTES: usize = 32 << 10;

/// Lines on the way to a client that does not read; then the command waits, as on a pipe.
const LINES_WAITING_MAX: usize = 16;

/// The signal that nothing withstands.
const KILL: i32 = 9;

pub(crate) async fn exec(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Json(body): Json<SandboxExec>,
) -> Result<Response, Failure> {
    let owned = find(&control, &principal, &id)?;
    let stdin = match &body.stdin {
        Some(text) => Some(STANDARD.decode(text).map_err(|error| invalid(format!("`stdin` is not base64: {error}")))?),
        None => None,
    };
    let timeout = body.timeout_ms.map(Duration::from_millis);
    let note = Note { author: principal.key.to_string(), snapshot_before: body.snapshot_before, changes: body.changes };
    let command = command(body, &owned, stdin.is_some())?;
    let sandbox = owned.for_traffic().await?;
    say(&owned, &principal, &command);
    let (number, running) = owned.exec(command, note).await?;
    let (lines, waiting) = mpsc::channel(LINES_WAITING_MAX);
    let stopping = control.stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = follow(sandbox, (number, running), stdin, timeout, lines) => {}
            () = stopping.cancelled_owned() => {}
        }
    });
    let stream = futures_util::stream::unfold(waiting, |mut waiting| async move {
        let line: Bytes = waiting.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(line), waiting))
    });
    let mut response = Response::new(HttpBody::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn command(body: SandboxExec, owned: &Owned, stdin: bool) -> Result<SandboxCommand, Failure> {
    let argv = match (body.argv.is_empty(), body.line) {
        (false, None) => body.argv,
        (true, Some(line)) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line],
        _ => return Err(invalid("a command is either `argv` or `line`".to_owned())),
    };
    let mut env: BTreeMap<String, String> = owned.facts().env;
    env.extend(body.env);
    let stdio = if stdin { Stdio::Open } else { Stdio::Closed };
    let mut command = SandboxCommand::new(&[]);
    (command.argv, command.env, command.cwd, command.user, command.stdio) = (argv, env, body.cwd, user(body.user.as_deref())?, stdio);
    Ok(command)
}

/// Who ran what, in the sandbox's log.
pub(super) fn say(owned: &Owned, principal: &Principal, command: &SandboxCommand) {
    let fields = BTreeMap::from([("author".to_owned(), principal.key.to_string()), ("user".to_owned(), command.user.to_string())]);
    owned.say(Level::Info, &format!("exec {}", command.argv.join(" ")), fields);
}

/// Sends what happens to a command to its client, and kills it when the client leaves or its time is up.
async fn follow(
    sandbox: Sandbox,
    (number, mut running): (u64, Running),
    stdin: Option<Vec<u8>>,
    timeout: Option<Duration>,
    lines: mpsc::Sender<Bytes>,
) {
    let pid = running.pid;
    if lines.send(line(&SandboxOutput::Started { pid, number })).await.is_err() {
        return kill(&sandbox, pid).await;
    }
    let (input, output, error) = (running.stdin.take(), running.stdout.take(), running.stderr.take());
    let feed = async {
        if let (Some(mut input), Some(bytes)) = (input, stdin) {
            // A command need not read all that it is given.
            let _ = input.write_all(&bytes).await;
        }
    };
    let all = async {
        tokio::join!(feed, pump(output, &lines, SandboxOutput::Stdout), pump(error, &lines, SandboxOutput::Stderr));
        running.exited().await
    };
    let in_time = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(all);
    let ended = tokio::select! {
        ended = &mut all => ended,
        () = lines.closed() => return kill(&sandbox, pid).await,
        () = in_time => {
            kill(&sandbox, pid).await;
            all.await
        }
    };
    let last = match ended {
        Ok(ExitStatus::Code(code)) => SandboxOutput::Exited { code, signal: None },
        Ok(ExitStatus::Signal(signal)) => SandboxOutput::Exited { code: 128 + signal, signal: Some(signal) },
        Err(error) => SandboxOutput::Lost(error.to_string()),
    };
    let _ = lines.send(line(&last)).await;
}

async fn kill(sandbox: &Sandbox, pid: u32) {
    // It may have ended by itself in this moment.
    let _ = sandbox.signal(pid, KILL, true).await;
}

async fn pump(pipe: Option<impl AsyncRead + Unpin>, lines: &mpsc::Sender<Bytes>, wrap: fn(String) -> SandboxOutput) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        if lines.send(line(&wrap(STANDARD.encode(&buffer[..read])))).await.is_err() {
            return;
        }
    }
}

fn line(output: &SandboxOutput) -> Bytes {
    let mut text = serde_json::to_vec(output).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
