//! Files of a sandbox for its worker. Every path is the sandbox's own and is walked by its init as its ordinary user: what a path means outside does not matter.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_isolate::{Body, BodyError, Response};
use skep_sandbox::{Entry, EntryKind, FaultKind, RequestError, Sandbox};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Call, Refusal, SandboxBinding, USER, answered, iso, json as answer_json};

const HOME: &str = "/home/user";

/// How deep a listing goes.
const DEPTH_MAX: u32 = 64;

/// Most entries of one listing.
const ENTRIES_MAX: usize = 100_000;

/// Bytes of a file that are read at once.
const PIECE_BYTES: usize = 256 << 10;

/// A path as its init takes it: relative ones begin at the user's home.
pub(super) fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{HOME}/{path}") }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct At {
    path: String,
    #[serde(default)]
    recursive: bool,
    #[serde(default)]
    include_hidden: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FromTo {
    path: String,
    new_path: String,
}

fn done(path: &str, more: Value) -> Result<Response, Refusal> {
    let mut done = json!({ "success": true, "path": path, "timestamp": iso(crate::now_ms()) });
    if let (Some(done), Value::Object(more)) = (done.as_object_mut(), more) {
        done.extend(more);
    }
    answer_json(&done)
}

async fn found(sandbox: &Sandbox, path: &str) -> Result<Option<Entry>, Refusal> {
    match sandbox.stat(path, USER).await {
        Ok(entry) => Ok(Some(entry)),
        Err(RequestError::Fault(fault)) if matches!(fault.kind, FaultKind::NotFound | FaultKind::NotFolder) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl SandboxBinding {
    pub(super) async fn write_file(&self, mut call: Call) -> Result<Response, Refusal> {
        let (path, body) = (absolute(call.asked("path")?), std::mem::take(&mut call.request.body));
        let (_, sandbox) = self.sandbox(&call.room).await?;
        let (mut pipe, copied) = sandbox.write(&path, USER, 0o644).await?;
        let fed = match body {
            Body::None => Ok(()),
            Body::Bytes(bytes) => pipe.write_all(&bytes).await.map_err(|error| error.to_string()),
            Body::Stream(mut stream) => loop {
                match stream.next(usize::MAX).await {
                    Ok(None) => break Ok(()),
                    Ok(Some(bytes)) => {
                        if let Err(error) = pipe.write_all(&bytes).await {
                            break Err(error.to_string());
                        }
                    }
                    Err(error) => return Err(Refusal::invalid(format!("the content broke off: {error}; what was written is not whole"))),
                }
            },
        };
        drop(pipe);
        // Why init read no more is what counts.
        copied.await.map_err(|_| RequestError::Gone)??;
        fed.map_err(Refusal::internal)?;
        done(&path, json!({}))
    }

    pub(super) async fn read_file(&self, call: Call) -> Result<Response, Refusal> {
        let path = absolute(call.asked("path")?);
        let (_, sandbox) = self.sandbox(&call.room).await?;
        let (bytes, mut pipe, copied) = sandbox.read(&path, USER).await?;
        let (writer, stream) = Body::channel();
        tokio::spawn(async move {
            loop {
                let mut piece = Vec::with_capacity(PIECE_BYTES);
                match pipe.read_buf(&mut piece).await {
                    Ok(1..) => {}
                    _ => break,
                }
                if writer.write(Bytes::from(piece)).await.is_err() {
                    return;
                }
            }
            // A file that could not be read to its end must not look like a shorter one.
            let ended = copied.await;
            let broken = match ended {
                Ok(Ok(_)) => return,
                Ok(Err(fault)) => fault.message,
                Err(_) => "the sandbox is gone".to_owned(),
            };
            writer.abort(BodyError(broken)).await;
        });
        let mut response = answered("application/octet-stream", Body::Stream(stream));
        response.headers.push(("x-size".to_owned(), bytes.to_string()));
        Ok(response)
    }

    pub(super) async fn mkdir(&self, mut call: Call) -> Result<Response, Refusal> {
        let At { path, recursive, .. } = call.arguments().await?;
        let path = absolute(&path);
        let (_, sandbox) = self.sandbox(&call.room).await?;
        if !recursive {
            if found(&sandbox, &path).await?.is_some() {
                return Err(Refusal::new(409, "FILE_EXISTS", format!("{path:?} is there already")));
            }
            let parent =
                path.trim_end_matches('/').rsplit_once('/').map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent });
            sandbox.stat(parent, USER).await?;
        }
        sandbox.make_folder(&path, USER).await?;
        done(&path, json!({ "recursive": recursive }))
    }

    pub(super) async fn delete_file(&self, mut call: Call) -> Result<Response, Refusal> {
        let At { path, recursive, .. } = call.arguments().await?;
        let path = absolute(&path);
        let (_, sandbox) = self.sandbox(&call.room).await?;
        let entry = sandbox.stat(&path, USER).await?;
        if entry.kind == EntryKind::Folder && !recursive {
            return Err(Refusal::new(
                400,
                "IS_DIRECTORY",
                format!("{path:?} is a folder; {{ recursive: true }} removes it with all that is in it"),
            ));
        }
        sandbox.remove_file(&path, USER).await?;
        done(&path, json!({}))
    }

    pub(super) async fn rename_file(&self, mut call: Call) -> Result<Response, Refusal> {
        let FromTo { path, new_path } = call.arguments().await?;
        let (path, new_path) = (absolute(&path), absolute(&new_path));
        let (_, sandbox) = self.sandbox(&call.room).await?;
        sandbox.rename(&path, &new_path, USER).await?;
        done(&path, json!({ "newPath": new_path }))
    }

    pub(super) async fn exists(&self, mut call: Call) -> Result<Response, Refusal> {
        let At { path, .. } = call.arguments().await?;
        let path = absolute(&path);
        let (_, sandbox) = self.sandbox(&call.room).await?;
        let exists = found(&sandbox, &path).await?.is_some();
        done(&path, json!({ "exists": exists }))
    }

    pub(super) async fn list_files(&self, mut call: Call) -> Result<Response, Refusal> {
        let At { path, recursive, include_hidden } = call.arguments().await?;
        let path = absolute(&path);
        let (_, sandbox) = self.sandbox(&call.room).await?;
        let entries = sandbox.list(&path, USER, if recursive { DEPTH_MAX } else { 1 }).await?;
        if entries.len() > ENTRIES_MAX {
            return Err(Refusal::new(413, "TOO_MANY_FILES", format!("{path:?} has more than {ENTRIES_MAX} entries; list folders in it")));
        }
        let below = format!("{}/", path.trim_end_matches('/'));
        let shown = |entry: &Entry| shown(entry, &below);
        let files: Vec<Value> = entries.iter().map(shown).filter(|file| include_hidden || !is_hidden(file)).collect();
        let count = files.len();
        done(&path, json!({ "files": files, "count": count }))
    }
}

/// Whether a step of its path, below the folder that is listed, begins with a dot.
fn is_hidden(file: &Value) -> bool {
    file["relativePath"].as_str().is_some_and(|path| path.split('/').any(|step| step.starts_with('.')))
}

fn shown(entry: &Entry, below: &str) -> Value {
    let kind = match entry.kind {
        EntryKind::File => "file",
        EntryKind::Folder => "directory",
        EntryKind::Link => "symlink",
        EntryKind::Other => "other",
    };
    let bits = |shift: u32| {
        let set = |bit: u32, sign| if entry.mode >> shift & bit != 0 { sign } else { '-' };
        [set(4, 'r'), set(2, 'w'), set(1, 'x')].iter().collect::<String>()
    };
    // As the ordinary user has it.
    let shift = if entry.user == USER { 6 } else { 0 };
    let may = |bit: u32| entry.mode >> shift & bit != 0;
    json!({
        "name": entry.path.rsplit('/').next().unwrap_or_default(),
        "absolutePath": entry.path,
        "relativePath": entry.path.strip_prefix(below).unwrap_or(&entry.path),
        "type": kind,
        "size": entry.bytes,
        "modifiedAt": iso(entry.modified_ms),
        "mode": format!("{}{}{}", bits(6), bits(3), bits(0)),
        "permissions": { "readable": may(4), "writable": may(2), "executable": may(1) },
    })
}
