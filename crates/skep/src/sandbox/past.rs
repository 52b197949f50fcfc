//! `skep sandbox fork`, `snapshot`, `diff`, `commit` and `history`.

use skep_api::{
    ForkSandbox, NewSandboxSnapshot, SandboxChange, SandboxDiff, SandboxForks, SandboxHistory, SandboxMerged, SandboxPast, SandboxSnapshot,
    SandboxSnapshotList,
};

use super::{path, plain, said};
use crate::{client::Client, failure::Failure, output};

pub fn fork(client: &Client, sandbox: &str, count: u32, timeout_ms: Option<u64>, json: bool) -> Result<(), Failure> {
    let made: SandboxForks = client.post(&format!("{}/forks", path(sandbox)?), &ForkSandbox { count: Some(count), timeout_ms })?;
    if json {
        output::json(&made);
    } else {
        made.forks.iter().for_each(|fork| output::line(fork.id.as_str()));
    }
    // Those that run are named all the same.
    made.errors.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
}

pub fn snapshot(client: &Client, sandbox: &str, name: Option<String>, json: bool) -> Result<(), Failure> {
    let taken: SandboxSnapshot = client.post(&format!("{}/snapshots", path(sandbox)?), &NewSandboxSnapshot { name })?;
    said(&taken, &taken.id, json)
}

pub fn snapshots(client: &Client, sandbox: &str, json: bool) -> Result<(), Failure> {
    let list: SandboxSnapshotList = client.get(&format!("{}/snapshots", path(sandbox)?))?;
    if json {
        output::json(&list);
        return Ok(());
    }
    let row = |one: &SandboxSnapshot| [one.id.clone(), output::ago(one.taken_at), plain(one.name.as_deref().unwrap_or_default())];
    output::table(["SNAPSHOT", "TAKEN", "NAME"], &list.snapshots.iter().map(row).collect::<Vec<_>>());
    Ok(())
}

pub fn diff(client: &Client, sandbox: &str, json: bool) -> Result<(), Failure> {
    let diff: SandboxDiff = client.get(&format!("{}/diff", path(sandbox)?))?;
    if json {
        output::json(&diff);
    } else {
        diff.changes.iter().for_each(change);
    }
    Ok(())
}

fn change(change: &SandboxChange) {
    let mark = match change.what.as_str() {
        "added" => 'A',
        "removed" => 'D',
        _ => 'M',
    };
    let slash = if change.kind == "folder" { "/" } else { "" };
    output::line(&format!("{mark} {}{slash}", plain(&change.path)));
}

pub fn commit(client: &Client, sandbox: &str, json: bool) -> Result<(), Failure> {
    let merged: SandboxMerged = client.post(&format!("{}/commit", path(sandbox)?), &serde_json::json!({}))?;
    if json {
        output::json(&merged);
        return Ok(());
    }
    merged.applied.iter().for_each(change);
    for conflict in &merged.conflicts {
        output::line(&format!("C {} ({}): left as it is in the parent", plain(&conflict.path), plain(&conflict.why)));
    }
    output::line(&format!(
        "{} applied, {} the same already, {} conflicts",
        merged.applied.len(),
        merged.same.len(),
        merged.conflicts.len()
    ));
    Ok(())
}

pub fn history(client: &Client, sandbox: &str, json: bool) -> Result<(), Failure> {
    let history: SandboxHistory = client.get(&format!("{}/history", path(sandbox)?))?;
    if json {
        output::json(&history);
        return Ok(());
    }
    let row = |past: &SandboxPast| {
        let code = past.code.map_or_else(|| "–".to_owned(), |code| code.to_string());
        let more = if past.more { "…" } else { "" };
        let changed = format!("{}{more}", past.changed.len());
        let before = past.before.clone().unwrap_or_default();
        [past.number.to_string(), output::ago(past.started_at), past.author.clone(), code, changed, before, plain(&past.argv.join(" "))]
    };
    output::table(
        ["NUMBER", "STARTED", "AUTHOR", "EXIT", "FILES", "SNAPSHOT", "COMMAND"],
        &history.commands.iter().map(row).collect::<Vec<_>>(),
    );
    Ok(())
}
