//! `/v1/sandboxes`: sandboxes in the node's own words, beside E2B's.
//!
//! A key sees the sandboxes that it made; an `admin` key all. One of somebody else is as if it were not there.

mod exec;
mod files;
pub(crate) mod images;
mod past;
mod terminal;

use axum::{
    Extension,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use skep_access::{Principal, Scope};
use skep_api::{self as api, ErrorCode};
use skep_node::{
    FaultKind, LifeError, NewSandbox, OnTimeout, Owned, Profile, Reach, RequestError, SandboxError, SandboxLimits, SandboxState, Sandboxes,
};

use crate::{
    control::{Control, Json},
    reply::{Failure, json},
};

pub(crate) use exec::exec;
pub(crate) use files::{folder, ports, read_file, remove_file, write_file};
pub(crate) use past::{commit, diff, fork, history, remove_snapshot, snapshot, snapshots};
pub(crate) use terminal::terminal;

/// The number of the ordinary user within.
const USER: u32 = 1_000;

fn all(control: &Control) -> Result<&Sandboxes, Failure> {
    control.node.sandboxes().ok_or_else(|| {
        Failure::new(
            ErrorCode::Unavailable,
            "this node has no sandboxes",
            "The node's log says why, and `skep doctor` names each fence with what helps.",
        )
    })
}

/// Whether a sandbox is the caller's to see.
fn may(principal: &Principal, owned: &Owned) -> bool {
    principal.scopes.allow(Scope::Admin) || owned.facts().owner == principal.key.as_str()
}

/// Whose things the caller sees; `None`: everybody's.
fn owner(principal: &Principal) -> Option<&str> {
    (!principal.scopes.allow(Scope::Admin)).then(|| principal.key.as_str())
}

/// A sandbox of the caller's.
fn find(control: &Control, principal: &Principal, id: &str) -> Result<Owned, Failure> {
    let all = all(control)?;
    let found = id.parse().ok().and_then(|id| all.get(&id)).filter(|owned| may(principal, owned));
    found.ok_or_else(|| {
        Failure::new(ErrorCode::NotFound, format!("there is no sandbox {id:.60?}"), "`skep sandbox ls` shows what there is.")
    })
}

pub(crate) async fn list(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Query(asked): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let sandboxes = all(&control)?;
    let mut wanted = Vec::new();
    let mut state = None;
    for (name, value) in &asked {
        match name.as_str() {
            "metadata" => wanted.extend(url::form_urlencoded::parse(value.as_bytes()).into_owned()),
            "state" => state = Some(value.clone()),
            _ => return Err(invalid(format!("{name:.60?} is no parameter of this route"))),
        }
    }
    let mut shown: Vec<api::Sandbox> = sandboxes
        .list()
        .iter()
        .filter(|owned| may(&principal, owned))
        .filter(|owned| wanted.iter().all(|(name, value)| owned.facts().metadata.get(name) == Some(value)))
        .map(|owned| out(&control, owned))
        .collect();
    if let Some(state) = state {
        shown.retain(|sandbox| serde_json::to_value(sandbox.state).is_ok_and(|word| word == state.as_str()));
    }
    let fences = sandboxes.host().standing.iter().map(|standing| api::SandboxFence {
        name: serde_json::to_value(standing.fence).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default(),
        stands: standing.missing.is_none(),
        said: standing.missing.as_ref().map(|missing| format!("{}; {}", missing.why, missing.fix)).unwrap_or_default(),
    });
    Ok(json(StatusCode::OK, &api::SandboxList { sandboxes: shown, fences: fences.collect() }))
}

pub(crate) async fn create(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Json(body): Json<api::NewSandbox>,
) -> Result<Response, Failure> {
    let sandboxes = all(&control)?;
    let mut new = new_in(body, sandboxes, principal.key.as_str());
    new.sees = owner(&principal).map(str::to_owned);
    let owned = sandboxes.create(new).await?;
    Ok(json(StatusCode::CREATED, &out(&control, &owned)))
}

pub(crate) async fn show(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &out(&control, &find(&control, &principal, &id)?)))
}

pub(crate) async fn remove(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    find(&control, &principal, &id)?.remove().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn pause(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let owned = find(&control, &principal, &id)?;
    owned.pause(true).await?;
    Ok(json(StatusCode::OK, &out(&control, &owned)))
}

pub(crate) async fn resume(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Json(body): Json<api::ResumeSandbox>,
) -> Result<Response, Failure> {
    let owned = find(&control, &principal, &id)?;
    owned.resume(body.timeout_ms).await?;
    Ok(json(StatusCode::OK, &out(&control, &owned)))
}

pub(crate) async fn stop(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let owned = find(&control, &principal, &id)?;
    owned.stop().await?;
    Ok(json(StatusCode::OK, &out(&control, &owned)))
}

fn new_in(new: api::NewSandbox, sandboxes: &Sandboxes, owner: &str) -> NewSandbox {
    let template = new.template.unwrap_or_else(|| "base".to_owned());
    let usual = sandboxes.usual_limits();
    let limits = SandboxLimits {
        memory_bytes: new.limits.memory_mb.map_or(usual.memory_bytes, |mb| mb.saturating_mul(1 << 20)),
        cpu_millis: new.limits.cpu_millis.unwrap_or(usual.cpu_millis),
        pids: new.limits.pids.unwrap_or(usual.pids),
        disk_bytes: new.limits.disk_mb.map(|mb| mb.saturating_mul(1 << 20)).or(usual.disk_bytes),
        inodes: new.limits.inodes.or(usual.inodes),
        ..usual
    };
    NewSandbox {
        profile: new.profile.map(|profile| match profile {
            api::SandboxProfile::Strict => Profile::Strict,
            api::SandboxProfile::Workstation => Profile::Workstation,
        }),
        limits: Some(limits),
        on_timeout: match new.on_timeout {
            api::OnTimeout::Pause => OnTimeout::Pause,
            api::OnTimeout::Stop => OnTimeout::Stop,
            api::OnTimeout::Remove => OnTimeout::Remove,
        },
        auto_resume: new.auto_resume,
        metadata: new.metadata,
        env: new.env,
        reach: Reach {
            internet: new.network.internet,
            allow: new.network.allow,
            deny: new.network.deny,
            private_ports: new.network.private_ports,
            mask_host: None,
        },
        ..NewSandbox::of(owner, &template, new.timeout_ms)
    }
}

fn out(control: &Control, owned: &Owned) -> api::Sandbox {
    let facts = owned.facts();
    let (state, why) = match owned.state() {
        SandboxState::Starting => (api::SandboxState::Starting, None),
        SandboxState::Running { .. } => (api::SandboxState::Running, owned.boxed().is_full().then(|| "disk_full".into())),
        SandboxState::Paused => (api::SandboxState::Paused, None),
        SandboxState::Stopped { why } => (api::SandboxState::Stopped, serde_json::to_value(why).ok()),
        SandboxState::Removing => (api::SandboxState::Removing, None),
    };
    api::Sandbox {
        id: owned.id().clone(),
        template: facts.template,
        owner: facts.owner,
        profile: match facts.profile {
            Profile::Strict => api::SandboxProfile::Strict,
            Profile::Workstation => api::SandboxProfile::Workstation,
        },
        state,
        why: why.and_then(|word| word.as_str().map(str::to_owned)),
        created_at: facts.created_ms,
        started_at: facts.started_ms,
        ends_at: owned.ends_ms(),
        on_timeout: match facts.on_timeout {
            OnTimeout::Pause => api::OnTimeout::Pause,
            OnTimeout::Stop => api::OnTimeout::Stop,
            OnTimeout::Remove => api::OnTimeout::Remove,
        },
        auto_resume: facts.auto_resume,
        limits: api::SandboxLimits {
            memory_mb: Some(facts.limits.memory_bytes >> 20),
            cpu_millis: Some(facts.limits.cpu_millis),
            pids: Some(facts.limits.pids),
            disk_mb: facts.limits.disk_bytes.map(|bytes| bytes >> 20),
            inodes: facts.limits.inodes,
        },
        metadata: facts.metadata,
        url: format!("https://{{port}}-{}.{}/", owned.id(), control.places.sandboxes),
        traffic_token: facts.traffic_token,
    }
}

/// A user within, by name or number.
fn user(text: Option<&str>) -> Result<u32, Failure> {
    match text {
        None | Some("" | "user") => Ok(USER),
        Some("root") => Ok(0),
        Some(number) => number
            .parse()
            .ok()
            .filter(|number| *number < 65_536)
            .ok_or_else(|| invalid(format!("{number:.60?} is no user: `user`, `root`, or a number below 65536"))),
    }
}

fn invalid(message: String) -> Failure {
    Failure::new(ErrorCode::Invalid, message, "")
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        let (code, hint) = match &error {
            SandboxError::Gone(_) => (ErrorCode::NotFound, "`skep sandbox ls` shows what there is."),
            SandboxError::NoTemplate(_) => (ErrorCode::NotFound, "`base` is always there."),
            SandboxError::Invalid(_) => (ErrorCode::Invalid, ""),
            SandboxError::Asleep(_) | SandboxError::Life(LifeError::Refused(_)) => {
                (ErrorCode::Conflict, "`skep sandbox resume` lets it go on.")
            }
            SandboxError::Full(_) | SandboxError::Busy | SandboxError::Life(LifeError::Ranges) => {
                (ErrorCode::Unavailable, "Remove sandboxes, or try again in a moment.")
            }
            SandboxError::Life(LifeError::NoFork) => (ErrorCode::Conflict, "Only a fork has a parent to bring its changes to."),
            SandboxError::Life(LifeError::NoSnapshot(_)) => (ErrorCode::NotFound, "`skep sandbox snapshot SANDBOX --list` shows them."),
            SandboxError::Life(LifeError::Start(_)) => {
                (ErrorCode::Unavailable, "`skep doctor` names each fence of this host with what helps.")
            }
            SandboxError::Request(_) => {
                if let SandboxError::Request(error) = error {
                    return error.into();
                }
                return Self::internal(&error);
            }
            SandboxError::Image(error) => return images::failed(error),
            _ => return Self::internal(&error),
        };
        Self::new(code, error.to_string(), hint)
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Fault(fault) => {
                let code = match fault.kind {
                    FaultKind::NotFound => ErrorCode::NotFound,
                    FaultKind::Full => ErrorCode::TooLarge,
                    FaultKind::Exists => ErrorCode::Conflict,
                    FaultKind::Denied => ErrorCode::Forbidden,
                    _ => ErrorCode::Invalid,
                };
                Self::new(code, fault.message, "")
            }
            RequestError::Gone => Self::new(ErrorCode::Conflict, "the sandbox ended", "`skep sandbox resume` starts it again."),
            other @ RequestError::Here(_) => Self::internal(&other),
        }
    }
}
