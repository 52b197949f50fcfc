//! Templates, in E2B's words: named, built by steps, tagged, listed, removed. A snapshot is a template too, where one is removed.
//!
//! Builds are of the wire's third version (`POST /v3/templates`, then `POST /v2/templates/{id}/builds/{id}`); what came before them pushed an image
//! to a registry of E2B's, which no node has. Files for a step are sent to a place that is a secret for an hour. It is not: how a build is made.

use axum::{
    body::{Body, Bytes},
    extract::{Path, Query, State},
    response::Response,
};
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use skep_node::{
    Action, Build, BuildFrom, BuildLevel, BuildLine, BuildState, BuildSteps, Credentials, FailedAt, NewBuild, RecipeStep, Sandboxes,
    Template,
};

use super::{Caller, body, page, sandboxes};
use crate::{
    control::Control,
    e2b::{ENVD_VERSION, error::Error, time},
    reply::json as answer,
};

/// Lines of one answer: E2B's number, on which its packages count.
const LINES_MAX: usize = 100;

/// Steps of one template.
const STEPS_MAX: usize = 200;

/// Templates of a page.
const PAGE_MAX: usize = 100;

/// Cores and memory that a template may ask for.
const CORES_MAX: u32 = 256;
const MEMORY_MB: std::ops::RangeInclusive<u64> = 128..=1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    name: Option<String>,
    alias: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    cpu_count: Option<u32>,
    #[serde(rename = "memoryMB")]
    memory_mb: Option<u64>,
}

/// A build that waits for its steps.
pub(super) async fn new(State(control): State<Control>, caller: Caller, bytes: Bytes) -> Result<Response, Error> {
    let asked: Wanted = body(&bytes)?;
    let name = asked.name.or(asked.alias).ok_or_else(|| Error::invalid("`name` is missing"))?;
    if asked.cpu_count.is_some_and(|cores| !(1..=CORES_MAX).contains(&cores)) {
        return Err(Error::invalid(format!("`cpuCount` is 1 to {CORES_MAX}")));
    }
    if asked.memory_mb.is_some_and(|mb| !MEMORY_MB.contains(&mb)) {
        return Err(Error::invalid(format!("`memoryMB` is {} to {}", MEMORY_MB.start(), MEMORY_MB.end())));
    }
    let (cpu_millis, memory_bytes) = (asked.cpu_count.map(|cores| cores * 1_000), asked.memory_mb.map(|mb| mb << 20));
    let new = NewBuild { owner: caller.name(), template: &name, tags: asked.tags, cpu_millis, memory_bytes };
    let (template, build) = sandboxes(&control)?.new_build(new)?;
    let tags = template.newest().map(|build| build.wanted.clone()).unwrap_or_default();
    let names = [&template.name];
    let out = json!({ "templateID": template.id, "buildID": build, "public": false, "names": names, "aliases": names, "tags": tags });
    Ok(answer(StatusCode::ACCEPTED, &out))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    from_image: Option<String>,
    from_template: Option<String>,
    from_image_registry: Option<Registry>,
    force: Option<bool>,
    #[serde(default)]
    steps: Vec<Step>,
    start_cmd: Option<String>,
    ready_cmd: Option<String>,
}

#[derive(Deserialize)]
struct Registry {
    #[serde(rename = "type")]
    kind: String,
    username: Option<String>,
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    #[serde(rename = "type")]
    kind: String,
    args: Option<Vec<String>>,
    files_hash: Option<String>,
    force: Option<bool>,
}

/// Says of what a build is made, and begins it.
pub(super) async fn start(
    State(control): State<Control>,
    caller: Caller,
    Path((template, build)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<StatusCode, Error> {
    let asked: Start = body(&bytes)?;
    let template = find(&control, &caller, &template)?;
    let registry = asked.from_image_registry.map(credentials).transpose()?;
    let from = match (asked.from_image, asked.from_template) {
        (Some(image), None) => BuildFrom::Image(image, registry),
        (None, Some(template)) if registry.is_none() => BuildFrom::Template(template),
        _ => return Err(Error::invalid("a template begins with either `fromImage` or `fromTemplate`")),
    };
    if asked.steps.len() > STEPS_MAX {
        return Err(Error::invalid(format!("a template has at most {STEPS_MAX} steps")));
    }
    let mut steps = Vec::new();
    for step in asked.steps {
        steps.push(step_in(step, sandboxes(&control)?, &template.owner)?);
    }
    let given = |line: Option<String>| line.filter(|line| !line.trim().is_empty());
    let (start, ready) = (given(asked.start_cmd), given(asked.ready_cmd));
    let steps = BuildSteps { from, steps, start, ready, force: asked.force.unwrap_or(false) };
    sandboxes(&control)?.make_build(&template, &build, steps).await?;
    Ok(StatusCode::ACCEPTED)
}

fn credentials(registry: Registry) -> Result<Credentials, Error> {
    match registry {
        Registry { kind, username: Some(user), password: Some(password) } if kind == "registry" => Ok(Credentials { user, password }),
        Registry { kind, .. } if kind == "registry" => Err(Error::invalid("`fromImageRegistry` has a `username` and a `password`")),
        Registry { kind, .. } => {
            let why = "make a token of it, and give that as the password of the type `registry`";
            Err(Error::invalid(format!("`fromImageRegistry` of the type {kind:.20?} is not supported by this server: {why}")))
        }
    }
}

/// Each of E2B's steps is one of the core's, so that the number of one that failed is the same in both.
fn step_in(step: Step, sandboxes: &Sandboxes, owner: &str) -> Result<RecipeStep, Error> {
    let args = step.args.unwrap_or_default();
    let arg = |at: usize| args.get(at).filter(|arg| !arg.is_empty()).cloned();
    let wrong = |what: &str| Error::invalid(format!("a step of the type {:.40?} {what}", step.kind));
    let first = || arg(0).ok_or_else(|| wrong("has no argument"));
    let action = match step.kind.as_str() {
        "RUN" => Action::Run { line: first()?, user: arg(1) },
        "COPY" => {
            let hash = step.files_hash.as_deref().ok_or_else(|| wrong("has no `filesHash`"))?;
            let uploaded = sandboxes.uploaded(owner, hash)?.ok_or_else(|| wrong("has files that were not sent"))?;
            let mode =
                arg(3).map(|mode| u32::from_str_radix(&mode, 8).map_err(|_| wrong("has a mode that is no octal number"))).transpose()?;
            let target = arg(1).ok_or_else(|| wrong("does not say where to"))?;
            Action::Copy { files: uploaded.path, digest: uploaded.digest, source: first()?, target, user: arg(2), mode }
        }
        "ENV" if !args.is_empty() && args.len().is_multiple_of(2) => {
            Action::Env(args.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
        }
        "ENV" => return Err(wrong("has names without values")),
        "WORKDIR" => Action::Workdir(first()?),
        "USER" => Action::User(first()?),
        _ => return Err(wrong("is unknown: there are RUN, COPY, ENV, WORKDIR and USER")),
    };
    Ok(RecipeStep { action, force: step.force.unwrap_or(false) })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked {
    logs_offset: Option<usize>,
    limit: Option<usize>,
    level: Option<BuildLevel>,
}

/// How a build goes, and the next lines of its log.
pub(super) async fn status(
    State(control): State<Control>,
    caller: Caller,
    Path((template, build)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Response, Error> {
    let template = find(&control, &caller, &template)?;
    let build = build_of(&template, &build)?;
    let lines = lines(sandboxes(&control)?, build, &asked);
    let mut out = json!({
        "templateID": template.id,
        "buildID": build.id,
        "status": state(build),
        "logs": lines.iter().map(|line| line.text.clone()).collect::<Vec<_>>(),
        "logEntries": lines.iter().map(line_out).collect::<Vec<_>>(),
    });
    if let BuildState::Failed { why, at } = &build.state {
        let step = match at {
            FailedAt::Base => "base".to_owned(),
            FailedAt::Step(number) => number.to_string(),
            FailedAt::Start => "finalize".to_owned(),
        };
        out["reason"] = json!({ "message": why, "step": step, "logEntries": [] });
    }
    Ok(answer(StatusCode::OK, &out))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogsAsked {
    cursor: Option<u64>,
    limit: Option<usize>,
    direction: Option<String>,
    level: Option<BuildLevel>,
}

/// A build's log, by time.
pub(super) async fn logs(
    State(control): State<Control>,
    caller: Caller,
    Path((template, build)): Path<(String, String)>,
    Query(asked): Query<LogsAsked>,
) -> Result<Response, Error> {
    let template = find(&control, &caller, &template)?;
    let mut lines = sandboxes(&control)?.build_log(&build_of(&template, &build)?.id, 0);
    let is_backward = match asked.direction.as_deref() {
        None | Some("forward") => false,
        Some("backward") => true,
        Some(_) => return Err(Error::invalid("`direction` is forward or backward")),
    };
    if is_backward {
        lines.reverse();
    }
    let is_due = |line: &BuildLine| asked.cursor.is_none_or(|cursor| if is_backward { line.at_ms <= cursor } else { line.at_ms >= cursor });
    let is_wanted = |line: &BuildLine| is_due(line) && asked.level.is_none_or(|level| line.level >= level);
    let out: Vec<Value> = lines.iter().filter(|line| is_wanted(line)).take(limit(asked.limit)).map(line_out).collect();
    Ok(answer(StatusCode::OK, &json!({ "logs": out })))
}

fn limit(asked: Option<usize>) -> usize {
    asked.unwrap_or(LINES_MAX).min(LINES_MAX)
}

fn lines(sandboxes: &Sandboxes, build: &Build, asked: &Asked) -> Vec<BuildLine> {
    let mut lines = sandboxes.build_log(&build.id, asked.logs_offset.unwrap_or(0));
    lines.retain(|line| asked.level.is_none_or(|level| line.level >= level));
    lines.truncate(limit(asked.limit));
    lines
}

fn line_out(line: &BuildLine) -> Value {
    let at = i64::try_from(line.at_ms).unwrap_or(i64::MAX);
    let mut out = json!({ "timestamp": time::shown(at), "message": line.text, "level": line.level });
    if let Some(step) = line.step {
        out["step"] = step.to_string().into();
    }
    out
}

fn state(build: &Build) -> &'static str {
    match build.state {
        BuildState::Waiting => "waiting",
        BuildState::Building => "building",
        BuildState::Ready => "ready",
        BuildState::Failed { .. } => "error",
    }
}

/// Whether the files of a step are here, and where they may be sent.
pub(super) async fn files(
    State(control): State<Control>,
    caller: Caller,
    Path((template, hash)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let owner = find(&control, &caller, &template)?.owner;
    let all = sandboxes(&control)?;
    let is_present = all.uploaded(&owner, &hash)?.is_some();
    let token = all.grant_upload(&owner, &hash)?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let host = host.unwrap_or_else(|| format!("api.{}", control.places.sandboxes));
    // Below the domain of sandboxes there is TLS; who came another way came by the front.
    let scheme = if host.ends_with(&control.places.sandboxes) { "https" } else { control.places.scheme };
    let url = format!("{scheme}://{host}/templates/files/{token}");
    Ok(answer(StatusCode::CREATED, &json!({ "present": is_present, "url": url })))
}

/// Takes the files of a step. Who has the secret may.
pub(super) async fn upload(State(control): State<Control>, Path(token): Path<String>, sent: Body) -> Result<StatusCode, Error> {
    let denied = || Error::new(StatusCode::FORBIDDEN, "this is no place to send files to, or not any more");
    let mut uploading = sandboxes(&control)?.upload(&token).await?.ok_or_else(denied)?;
    let mut pieces = sent.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Error::invalid("the files broke off"))?;
        uploading.push(&piece).await?;
    }
    uploading.finish().await?;
    Ok(StatusCode::OK)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    limit: Option<usize>,
    next_token: Option<String>,
}

pub(super) async fn list_v1(State(control): State<Control>, caller: Caller) -> Result<Response, Error> {
    let found = sandboxes(&control)?.templates(caller.owner());
    Ok(answer(StatusCode::OK, &found.iter().filter_map(template_out).collect::<Vec<_>>()))
}

pub(super) async fn list_v2(State(control): State<Control>, caller: Caller, Query(asked): Query<Listed>) -> Result<Response, Error> {
    let limit = asked.limit.unwrap_or(PAGE_MAX);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Error::invalid(format!("`limit` is 1 to {PAGE_MAX}")));
    }
    let mut found = sandboxes(&control)?.templates(caller.owner());
    found.sort_by(|one, other| one.id.cmp(&other.id));
    if let Some(after) = asked.next_token.filter(|token| !token.is_empty()) {
        found.retain(|template| template.id > after);
    }
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| has_more).map(|template| template.id.clone());
    Ok(page(found.iter().filter_map(template_out).collect(), next, None))
}

/// `None`: nobody has built it yet.
fn template_out(template: &Template) -> Option<Value> {
    let build = template.builds.iter().rev().find(|build| build.state == BuildState::Ready).or_else(|| template.newest())?;
    let mut out = head_out(template);
    let more = json!({
        "buildID": build.id,
        "buildStatus": state(build),
        "cpuCount": build.cpu_millis.div_ceil(1_000).max(1),
        "memoryMB": build.memory_bytes >> 20,
        "diskSizeMB": 0,
        "buildCount": template.builds.len(),
        "createdBy": null,
        "envdVersion": ENVD_VERSION,
    });
    if let (Value::Object(out), Value::Object(more)) = (&mut out, more) {
        out.extend(more);
    }
    Some(out)
}

fn head_out(template: &Template) -> Value {
    let names = [&template.name];
    json!({
        "templateID": template.id,
        "public": false,
        "names": names,
        "aliases": names,
        "createdAt": time::shown(template.created_ms),
        "updatedAt": time::shown(template.updated_ms),
        "lastSpawnedAt": template.spawned_ms.map(time::shown),
        "spawnCount": template.spawned,
    })
}

pub(super) async fn show(State(control): State<Control>, caller: Caller, Path(template): Path<String>) -> Result<Response, Error> {
    let template = find(&control, &caller, &template)?;
    let mut out = head_out(&template);
    out["builds"] = template.builds.iter().rev().map(build_out).collect();
    Ok(answer(StatusCode::OK, &out))
}

fn build_out(build: &Build) -> Value {
    let mut out = json!({
        "buildID": build.id,
        "status": state(build),
        "createdAt": time::shown(build.created_ms),
        "updatedAt": time::shown(build.finished_ms.unwrap_or(build.created_ms)),
        "cpuCount": build.cpu_millis.div_ceil(1_000).max(1),
        "memoryMB": build.memory_bytes >> 20,
        "envdVersion": ENVD_VERSION,
    });
    if let Some(finished) = build.finished_ms {
        out["finishedAt"] = time::shown(finished).into();
    }
    out
}

#[derive(Deserialize)]
struct Change {
    public: Option<bool>,
}

/// Who may begin with it does not change: a template is its key's.
pub(super) async fn change(
    State(control): State<Control>,
    caller: Caller,
    Path(template): Path<String>,
    bytes: Bytes,
) -> Result<Response, Error> {
    let asked: Change = body(&bytes)?;
    let template = find(&control, &caller, &template)?;
    if asked.public == Some(true) {
        return Err(Error::invalid("`public` templates are not supported by this server: a template is for the key that made it"));
    }
    Ok(answer(StatusCode::OK, &json!({ "names": [template.name] })))
}

/// Removes a template, or forgets a snapshot, which in E2B's words is one.
pub(super) async fn remove(State(control): State<Control>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Error> {
    let all = sandboxes(&control)?;
    if all.remove_template(caller.owner(), &id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    let snapshot = all.find_snapshot(caller.owner(), &id)?.ok_or_else(|| missing(&id))?;
    if all.remove_snapshot(&snapshot.id).await? { Ok(StatusCode::NO_CONTENT) } else { Err(missing(&id)) }
}

pub(super) async fn alias(State(control): State<Control>, caller: Caller, Path(alias): Path<String>) -> Result<Response, Error> {
    let all = sandboxes(&control)?;
    let id = match all.template(caller.owner(), &alias) {
        Some(template) => template.id,
        None if Sandboxes::is_usual_template(&alias) => alias,
        None => return Err(missing(&alias)),
    };
    let is_public = Sandboxes::is_usual_template(&id);
    Ok(answer(StatusCode::OK, &json!({ "templateID": id, "public": is_public })))
}

#[derive(Deserialize)]
struct Assign {
    target: String,
    tags: Vec<String>,
}

pub(super) async fn tag(State(control): State<Control>, caller: Caller, bytes: Bytes) -> Result<Response, Error> {
    let asked: Assign = body(&bytes)?;
    let build = sandboxes(&control)?.tag(caller.owner(), &asked.target, &asked.tags)?;
    Ok(answer(StatusCode::CREATED, &json!({ "buildID": build, "tags": asked.tags })))
}

#[derive(Deserialize)]
struct Unassign {
    name: String,
    tags: Vec<String>,
}

pub(super) async fn untag(State(control): State<Control>, caller: Caller, bytes: Bytes) -> Result<StatusCode, Error> {
    let asked: Unassign = body(&bytes)?;
    sandboxes(&control)?.untag(caller.owner(), &asked.name, &asked.tags)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn tags(State(control): State<Control>, caller: Caller, Path(template): Path<String>) -> Result<Response, Error> {
    let template = find(&control, &caller, &template)?;
    let tags = template.tags.iter();
    let out: Vec<Value> =
        tags.map(|(tag, named)| json!({ "tag": tag, "buildID": named.build, "createdAt": time::shown(named.since_ms) })).collect();
    Ok(answer(StatusCode::OK, &out))
}

/// The wire's first two versions of builds.
pub(super) async fn outdated(_: Caller) -> Error {
    Error::invalid(
        "builds of this kind push an image to a registry of E2B's; use POST /v3/templates, as E2B's packages and its CLI do since version 2",
    )
}

/// A template of the caller's. One of somebody else is as if it were not there.
fn find(control: &Control, caller: &Caller, id: &str) -> Result<Template, Error> {
    sandboxes(control)?.template(caller.owner(), id).ok_or_else(|| missing(id))
}

fn build_of<'a>(template: &'a Template, id: &str) -> Result<&'a Build, Error> {
    template
        .builds
        .iter()
        .find(|build| build.id == id)
        .ok_or_else(|| Error::missing(format!("there is no build {id:.80?} of this template")))
}

fn missing(id: &str) -> Error {
    Error::missing(format!("there is no template {id:.80?}"))
}
