//! Files and ports of sandboxes.

use std::collections::BTreeSet;

use axum::{
    Extension,
    body::Body as HttpBody,
    extract::{Path, Query, Request, State},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use skep_access::Principal;
use skep_api as api;
use skep_node::{Entry, EntryKind, RequestError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::{find, invalid, user};
use crate::{
    control::Control,
    reply::{Failure, json},
};

/// Bytes of a file in one piece of the answer.
const PIECE_BYTES: usize = 256 << 10;

/// Permission bits of a new file.
const MODE: u32 = 0o644;

/// The tables of connections within, and what marks one that listens.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
const LISTENS: &str = "0A";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    path: String,
    user: Option<String>,
}

impl Which {
    /// The path, absolute, and the user.
    fn read(&self) -> Result<(String, u32), Failure> {
        let user = user(self.user.as_deref())?;
        let home = if user == 0 { "/root" } else { "/home/user" };
        match self.path.as_str() {
            path if path.contains('\0') || path.len() > 4_096 => Err(invalid("that is no path".to_owned())),
            "" | "~" => Ok((home.to_owned(), user)),
            path if path.starts_with('/') => Ok((path.to_owned(), user)),
            path => Ok((format!("{home}/{}", path.strip_prefix("~/").unwrap_or(path)), user)),
        }
    }
}

pub(crate) async fn read_file(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Response, Failure> {
    let (path, user) = which.read()?;
    let sandbox = find(&control, &principal, &id)?.for_traffic().await?;
    let (bytes, pipe, copied) = sandbox.read(&path, user).await?;
    let pieces = futures_util::stream::unfold(Some((pipe, copied)), |state| async move {
        let (mut pipe, copied) = state?;
        let mut piece = vec![0; PIECE_BYTES];
        match pipe.read(&mut piece).await {
            Ok(0) => match copied.await {
                Ok(Ok(_)) => None,
                // The connection breaks off: half a file is never taken for a whole one.
                other => Some((Err(std::io::Error::other(format!("{other:?}"))), None)),
            },
            Ok(read) => {
                piece.truncate(read);
                Some((Ok(piece), Some((pipe, copied))))
            }
            Err(error) => Some((Err(error), None)),
        }
    });
    let mut response = Response::new(HttpBody::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // What a sandbox wrote is never a page of this origin.
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if bytes > 0 && !path.starts_with("/proc/") {
        headers.insert("x-file-bytes", bytes.into());
    }
    Ok(response)
}

pub(crate) async fn write_file(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Query(which): Query<Which>,
    request: Request,
) -> Result<Response, Failure> {
    let (path, user) = which.read()?;
    let sandbox = find(&control, &principal, &id)?.for_traffic().await?;
    let (mut pipe, copied) = sandbox.write(&path, user, MODE).await?;
    let mut body = request.into_body().into_data_stream();
    while let Some(piece) = body.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(_) => {
                // The end of the pipe would make what came so far the file.
                abandon(pipe, copied);
                return Err(invalid("the body broke off".to_owned()));
            }
        };
        if pipe.write_all(&piece).await.is_err() {
            // Init has closed its end, and says why.
            break;
        }
    }
    drop(pipe);
    copied.await.map_err(|_| RequestError::Gone)?.map_err(RequestError::from)?;
    let entry = sandbox.stat(&path, user).await?;
    Ok(json(StatusCode::OK, &entry_out(entry)))
}

/// Leaves a copy unfinished for as long as the sandbox lets it: its pipe stays open, and so the file is not seen.
fn abandon(pipe: impl Send + 'static, copied: oneshot::Receiver<Result<u64, skep_node::Fault>>) {
    tokio::spawn(async move {
        let _pipe = pipe;
        let _ = copied.await;
    });
}

pub(crate) async fn remove_file(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Response, Failure> {
    let (path, user) = which.read()?;
    find(&control, &principal, &id)?.for_traffic().await?.remove_file(&path, user).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn folder(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Response, Failure> {
    let (path, user) = which.read()?;
    let entries = find(&control, &principal, &id)?.for_traffic().await?.list(&path, user, 1).await?;
    Ok(json(StatusCode::OK, &api::SandboxFolder { entries: entries.into_iter().map(entry_out).collect() }))
}

pub(crate) async fn ports(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let owned = find(&control, &principal, &id)?;
    let sandbox = owned.for_traffic().await?;
    let mut ports = BTreeSet::new();
    for table in TABLES {
        // Without IPv6 there is one table only.
        if let Ok(bytes) = sandbox.read_all(table, 0).await {
            ports.extend(listening(&String::from_utf8_lossy(&bytes)));
        }
    }
    let domain = &control.places.sandboxes;
    let shown = ports.into_iter().map(|port| api::SandboxPort { port, url: format!("https://{port}-{}.{domain}/", owned.id()) });
    Ok(json(StatusCode::OK, &api::SandboxPorts { ports: shown.collect() }))
}

/// Ports that are listened on, from a table of the kernel.
fn listening(table: &str) -> impl Iterator<Item = u16> {
    table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (own, state) = (words.next()?, words.nth(1)?);
        let port = u16::from_str_radix(own.rsplit_once(':')?.1, 16).ok()?;
        (state == LISTENS).then_some(port)
    })
}

fn entry_out(entry: Entry) -> api::SandboxFile {
    let kind = match entry.kind {
        EntryKind::File => "file",
        EntryKind::Folder => "folder",
        EntryKind::Link => "link",
        EntryKind::Other => "other",
    };
    api::SandboxFile {
        path: entry.path,
        kind: kind.to_owned(),
        bytes: entry.bytes,
        mode: entry.mode,
        user: entry.user,
        modified_at: entry.modified_ms,
        target: entry.target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_ports_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0\n   \
            1: 0100007F:0050 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 2 1 0 100 0 0 10 0\nx\n";
        assert_eq!(listening(table).collect::<Vec<_>>(), [8_080]);
    }

    #[test]
    fn paths_are_made_absolute() {
        let read = |path: &str, user: Option<&str>| Which { path: path.into(), user: user.map(str::to_owned) }.read();
        assert_eq!(read("a/b", None).unwrap_or_else(|_| panic!()), ("/home/user/a/b".to_owned(), 1_000));
        assert_eq!(read("~/a", Some("root")).unwrap_or_else(|_| panic!()), ("/root/a".to_owned(), 0));
        assert!(read("a\0", None).is_err() && read("/a", Some("70000")).is_err());
    }
}
