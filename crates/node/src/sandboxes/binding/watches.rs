//! Changes of a sandbox's folders for its worker, as they happen: server-sent events, one watch for each stream. Who stops reading ends the watch; who reads too
//! slowly loses changes and is told so. A watch does not keep its sandbox awake: while that sleeps, nothing changes.

use serde::Deserialize;
use serde_json::json;
use skep_isolate::{Body, BodyWriter, Response};
use skep_sandbox::{Change, ChangeKind, Changes, Fault, FaultKind, Noticed, RequestError, Watching};

use super::{
    Call, Refusal, SandboxBinding, USER, answered,
    commands::event,
    files::absolute,
    pattern::{Patterns, Wanted},
};

/// What nobody wants to hear of where nothing is said.
const UNWANTED: [&str; 3] = [".git", "node_modules", ".DS_Store"];

#[derive(Deserialize)]
struct Watch {
    path: String,
    #[serde(default)]
    recursive: Option<bool>,
    #[serde(default)]
    include: Option<Vec<String>>,
    #[serde(default)]
    exclude: Option<Vec<String>>,
}

impl Watch {
    fn wanted(&self) -> Result<Wanted, Refusal> {
        match (&self.include, &self.exclude) {
            (Some(_), Some(_)) => Err(Refusal::invalid("a watch has patterns to include, or patterns to exclude".to_owned())),
            (Some(include), None) => Ok(Wanted::Only(Patterns::of(include)?)),
            (None, Some(exclude)) => Ok(Wanted::AllBut(Patterns::of(exclude)?)),
            (None, None) => Ok(Wanted::AllBut(Patterns::of(&UNWANTED.map(str::to_owned))?)),
        }
    }
}

impl SandboxBinding {
    pub(super) async fn watch(&self, mut call: Call) -> Result<Response, Refusal> {
        let watch: Watch = call.arguments().await?;
        let (path, wanted) = (absolute(&watch.path), watch.wanted()?);
        let (_, sandbox) = self.sandbox(&call.room).await?;
        let watching = Watching { recursive: watch.recursive.unwrap_or(true), ..Watching::default() };
        let changes = sandbox.watch(&path, USER, watching).await.map_err(refused)?;
        let id = call.room.watches.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let (writer, stream) = Body::channel();
        tokio::spawn(async move {
            let id = format!("watch_{id}");
            tokio::select! {
                () = tell(changes, &path, &wanted, &id, &writer) => {}
                () = writer.closed() => {}
            }
        });
        Ok(answered("text/event-stream", Body::Stream(stream)))
    }
}

fn refused(error: RequestError) -> Refusal {
    match error {
        RequestError::Fault(Fault { kind: FaultKind::Full, message }) => Refusal::new(429, "TOO_MANY_WATCHES", message),
        error => error.into(),
    }
}

/// Tells of changes until the sandbox ends, or nobody listens.
async fn tell(mut changes: Changes, path: &str, wanted: &Wanted, id: &str, writer: &BodyWriter) {
    let mut next = event("watching", &json!({ "path": path, "watchId": id }));
    while writer.write(next).await.is_ok() {
        next = loop {
            match changes.next().await {
                Some(Noticed::Change(change)) if wanted.has(&change.path) => break changed(&change, path),
                Some(Noticed::Change(_)) => {}
                Some(Noticed::Lost) => break event("error", &json!({ "error": "more changed at once than could be told" })),
                None => {
                    let _ = writer.write(event("stopped", &json!({ "reason": "the sandbox has ended" }))).await;
                    return;
                }
            }
        };
    }
}

fn changed(change: &Change, root: &str) -> bytes::Bytes {
    let kind = match change.kind {
        ChangeKind::Created if change.moved => "move_to",
        ChangeKind::Created => "create",
        ChangeKind::Written => "modify",
        ChangeKind::Removed => "delete",
        ChangeKind::Renamed => "move_from",
        ChangeKind::Attributes => "attrib",
    };
    let path = match change.path.as_str() {
        "." => root.to_owned(),
        below => format!("{}/{below}", root.trim_end_matches('/')),
    };
    event("event", &json!({ "eventType": kind, "path": path, "isDirectory": change.folder }))
}
