//! E2B's control plane, versions 1 and 2: `/sandboxes`, `/v2/sandboxes`, `/snapshots`, `/templates`.
//!
//! A caller shows an API key of the scope `sandboxes` as `X-API-Key` and sees the sandboxes that this key made; an `admin` key sees all. Fields that
//! this build does not know are passed over, as E2B's own server does; fields that it knows and cannot do are refused.

mod create;
mod list;
mod past;
mod templates;
mod watch;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequestParts, Path, State},
    response::{IntoResponse, Response},
    routing::{get, patch, post, put},
};
use http::{HeaderMap, StatusCode, header, request::Parts};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use skep_access::{Principal, Scope};
use skep_node::{LifeError, OnTimeout, Owned, Reach, SandboxError, SandboxState, Sandboxes, Woken};

use super::{CLIENT_ID, ENVD_VERSION, error::Error, time};
use crate::{control::Control, reply::json as answer};

/// Longest body: it describes a sandbox.
const BODY_BYTES_MAX: usize = 1 << 20;

/// How long a sandbox runs when nobody says so, seconds: E2B's numbers.
const TIMEOUT_V1: i64 = 15;
const TIMEOUT_V2: i64 = 300;

/// The routes.
pub(crate) fn router() -> Router<Control> {
    Router::new()
        .route("/health", get(|| async { StatusCode::NO_CONTENT }))
        .route("/sandboxes", get(list::v1).post(create::v1))
        .route("/v2/sandboxes", get(list::v2).post(create::v2))
        .route("/sandboxes/metrics", get(watch::metrics_of_many))
        .route("/sandboxes/{id}", get(show).delete(kill))
        .route("/sandboxes/{id}/connect", post(connect_v1))
        .route("/v2/sandboxes/{id}/connect", post(connect_v2))
        .route("/sandboxes/{id}/resume", post(resume))
        .route("/sandboxes/{id}/pause", post(pause))
        .route("/sandboxes/{id}/timeout", post(timeout))
        .route("/sandboxes/{id}/refreshes", post(refresh))
        .route("/sandboxes/{id}/network", put(network))
        .route("/sandboxes/{id}/metrics", get(watch::metrics))
        .route("/sandboxes/{id}/logs", get(watch::logs_v1))
        .route("/v2/sandboxes/{id}/logs", get(watch::logs_v2))
        .route("/sandboxes/{id}/snapshots", post(past::snapshot))
        .route("/sandboxes/{id}/fork", post(past::fork))
        .route("/snapshots", get(past::list))
        .route("/v3/templates", post(templates::new))
        .route("/v2/templates", get(templates::list_v2).post(templates::outdated))
        .route("/templates", get(templates::list_v1).post(templates::outdated))
        .route("/templates/tags", post(templates::tag).delete(templates::untag))
        .route("/templates/aliases/{alias}", get(templates::alias))
        .route("/templates/files/{token}", put(templates::upload))
        .route("/templates/{id}", get(templates::show).delete(templates::remove).patch(templates::change).post(templates::outdated))
        .route("/v2/templates/{id}", patch(templates::change))
        .route("/templates/{id}/tags", get(templates::tags))
        .route("/templates/{id}/files/{hash}", get(templates::files))
        .route("/templates/{id}/builds/{build}", post(templates::outdated))
        .route("/v2/templates/{id}/builds/{build}", post(templates::start))
        .route("/templates/{id}/builds/{build}/status", get(templates::status))
        .route("/templates/{id}/builds/{build}/logs", get(templates::logs))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Who asks.
pub(super) struct Caller(Principal);

impl FromRequestParts<Control> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Error> {
        let key = key(&parts.headers).ok_or_else(|| Error::new(StatusCode::UNAUTHORIZED, "the header X-API-Key is missing"))?;
        let principal = control.node.keys().authenticate(key, skep_node::now_ms())?;
        if !principal.scopes.allow(Scope::Sandboxes) {
            return Err(Error::new(StatusCode::FORBIDDEN, "the API key has not the scope `sandboxes`"));
        }
        Ok(Self(principal))
    }
}

impl Caller {
    /// Whether a sandbox is this caller's to see.
    pub fn may(&self, owned: &Owned) -> bool {
        self.0.scopes.allow(Scope::Admin) || owned.facts().owner == self.0.key.as_str()
    }

    /// Whose things the caller sees; `None`: everybody's.
    pub fn owner(&self) -> Option<&str> {
        (!self.0.scopes.allow(Scope::Admin)).then(|| self.name())
    }

    /// The key's id: what is written of who made a sandbox.
    pub fn name(&self) -> &str {
        self.0.key.as_str()
    }
}

/// The one key. Two of them are refused: who reads which would be a matter of luck.
fn key(headers: &HeaderMap) -> Option<&str> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    };
    one("x-api-key").or_else(|| one(header::AUTHORIZATION.as_str())?.strip_prefix("Bearer "))
}

/// The sandboxes of this node, if it has any.
pub(super) fn sandboxes(control: &Control) -> Result<&Sandboxes, Error> {
    control.node.sandboxes().ok_or_else(|| {
        Error::new(StatusCode::SERVICE_UNAVAILABLE, "this node has no sandboxes; its log says why, and so does `skep doctor`")
    })
}

/// A sandbox of the caller's. One of somebody else is as if it were not there.
pub(super) fn find(control: &Control, caller: &Caller, id: &str) -> Result<Owned, Error> {
    let found = id.parse().ok().and_then(|id| sandboxes(control).map(|all| all.get(&id)).transpose());
    let missing = || Error::missing(format!("Sandbox {id:.60?} not found"));
    found.transpose()?.filter(|owned| caller.may(owned)).ok_or_else(missing)
}

/// A body as JSON; an empty one as `{}`.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Error> {
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(text).map_err(|error| Error::invalid(format!("the body is not what this route takes: {error}")))
}

/// Seconds of a caller as milliseconds.
pub(super) fn millis(seconds: i64) -> Result<u64, Error> {
    let seconds = u64::try_from(seconds).map_err(|_| Error::invalid("a timeout is not negative"))?;
    seconds.checked_mul(1_000).ok_or_else(|| Error::invalid("the timeout is too long"))
}

/// `Sandbox` of E2B.
pub(super) fn sandbox_out(control: &Control, owned: &Owned) -> Value {
    let facts = owned.facts();
    let mut out = json!({
        "templateID": facts.template,
        "sandboxID": owned.id(),
        "clientID": CLIENT_ID,
        "envdVersion": ENVD_VERSION,
        "domain": control.places.sandboxes,
    });
    let optional = [("envdAccessToken", facts.envd_token), ("trafficAccessToken", facts.traffic_token)];
    for (name, token) in optional {
        if let Some(token) = token {
            out[name] = token.into();
        }
    }
    out
}

/// `ListedSandbox` of E2B.
pub(super) fn listed_out(owned: &Owned) -> Value {
    let facts = owned.facts();
    json!({
        "templateID": facts.template,
        "sandboxID": owned.id(),
        "clientID": CLIENT_ID,
        "envdVersion": ENVD_VERSION,
        "startedAt": time::shown(facts.started_ms),
        "endAt": time::shown(ends(owned)),
        "cpuCount": facts.limits.cpu_millis.div_ceil(1_000).max(1),
        "memoryMB": facts.limits.memory_bytes >> 20,
        "diskSizeMB": facts.limits.disk_bytes.or(owned.newest_sample().map(|sample| sample.disk_total_bytes)).unwrap_or(0) >> 20,
        "metadata": facts.metadata,
        "state": if runs(owned) { "running" } else { "paused" },
    })
}

fn detail_out(control: &Control, owned: &Owned) -> Value {
    let facts = owned.facts();
    let mut out = listed_out(owned);
    out["domain"] = control.places.sandboxes.clone().into();
    if let Some(token) = facts.envd_token {
        out["envdAccessToken"] = token.into();
    }
    if let Some(internet) = facts.reach.internet {
        out["allowInternetAccess"] = internet.into();
    }
    let mut network =
        json!({ "allowPublicTraffic": !facts.reach.private_ports, "allowOut": facts.reach.allow, "denyOut": facts.reach.deny });
    if let Some(mask) = facts.reach.mask_host {
        network["maskRequestHost"] = mask.into();
    }
    out["network"] = network;
    out["lifecycle"] = json!({
        "autoResume": facts.auto_resume,
        "onTimeout": if facts.on_timeout == OnTimeout::Remove { "kill" } else { "pause" },
    });
    out
}

/// When its time is up: of one that does not run, when it would have been.
fn ends(owned: &Owned) -> i64 {
    let facts = owned.facts();
    let planned = facts.timeout_ms.and_then(|timeout| facts.started_ms.checked_add_unsigned(timeout));
    owned.ends_ms().or(planned).unwrap_or(i64::MAX)
}

/// Whether it runs, as E2B counts: what is stopped is paused without its memory.
pub(super) fn runs(owned: &Owned) -> bool {
    matches!(owned.state(), SandboxState::Running { .. } | SandboxState::Starting)
}

async fn show(State(control): State<Control>, caller: Caller, Path(id): Path<String>) -> Result<Response, Error> {
    let owned = find(&control, &caller, &id)?;
    Ok(answer(StatusCode::OK, &detail_out(&control, &owned)))
}

async fn kill(State(control): State<Control>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Error> {
    find(&control, &caller, &id)?.remove().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Connect {
    timeout: Option<i64>,
}

async fn connect_v1(State(control): State<Control>, caller: Caller, Path(id): Path<String>, bytes: Bytes) -> Result<Response, Error> {
    let asked: Connect = body(&bytes)?;
    let timeout = asked.timeout.ok_or_else(|| Error::invalid("`timeout` is missing"))?;
    connected(&control, &caller, &id, timeout).await
}

async fn connect_v2(State(control): State<Control>, caller: Caller, Path(id): Path<String>, bytes: Bytes) -> Result<Response, Error> {
    let asked: Connect = body(&bytes)?;
    connected(&control, &caller, &id, asked.timeout.unwrap_or(TIMEOUT_V2)).await
}

async fn connected(control: &Control, caller: &Caller, id: &str, timeout: i64) -> Result<Response, Error> {
    let owned = find(control, caller, id)?;
    let woken = owned.connect(Some(millis(timeout)?)).await?;
    let status = if woken == Woken::Now { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer(status, &sandbox_out(control, &owned)))
}

async fn resume(State(control): State<Control>, caller: Caller, Path(id): Path<String>, bytes: Bytes) -> Result<Response, Error> {
    let asked: Connect = body(&bytes)?;
    let owned = find(&control, &caller, &id)?;
    if runs(&owned) {
        return Err(Error::conflict(format!("Sandbox {id} is already running")));
    }
    owned.resume(Some(millis(asked.timeout.unwrap_or(TIMEOUT_V1))?)).await?;
    Ok(answer(StatusCode::CREATED, &sandbox_out(&control, &owned)))
}

#[derive(Deserialize)]
struct Pause {
    memory: Option<bool>,
}

async fn pause(State(control): State<Control>, caller: Caller, Path(id): Path<String>, bytes: Bytes) -> Result<StatusCode, Error> {
    let asked: Pause = body(&bytes)?;
    find(&control, &caller, &id)?.pause(asked.memory.unwrap_or(true)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Timeout {
    timeout: i64,
}

async fn timeout(State(control): State<Control>, caller: Caller, Path(id): Path<String>, bytes: Bytes) -> Result<StatusCode, Error> {
    let asked: Timeout = body(&bytes)?;
    let owned = find(&control, &caller, &id)?;
    owned.set_timeout(Some(millis(asked.timeout)?)).await.map_err(|error| asleep_is_missing(error, &id))?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Refresh {
    duration: Option<i64>,
}

async fn refresh(State(control): State<Control>, caller: Caller, Path(id): Path<String>, bytes: Bytes) -> Result<StatusCode, Error> {
    let asked: Refresh = body(&bytes)?;
    let duration = asked.duration.unwrap_or(TIMEOUT_V1);
    if !(0..=3_600).contains(&duration) {
        return Err(Error::invalid("`duration` is 0 to 3600 seconds"));
    }
    let owned = find(&control, &caller, &id)?;
    if !runs(&owned) {
        return Err(Error::missing(format!("Sandbox {id} is not running")));
    }
    owned.connect(Some(millis(duration)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A deadline is something that only a running sandbox has.
fn asleep_is_missing(error: SandboxError, id: &str) -> Error {
    match error {
        SandboxError::Asleep(_) | SandboxError::Life(LifeError::Refused(_)) => Error::missing(format!("Sandbox {id} is not running")),
        other => other.into(),
    }
}

/// E2B's fields about what a sandbox may reach. Absent ones say nothing.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NetworkAsked {
    allow_public_traffic: Option<bool>,
    allow_out: Option<Vec<String>>,
    deny_out: Option<Vec<String>>,
    mask_request_host: Option<String>,
    egress_proxy: Option<Value>,
    rules: Option<Value>,
    #[serde(rename = "allow_internet_access")]
    allow_internet_access: Option<bool>,
}

impl NetworkAsked {
    /// Replaces everything about what is reached; who may reach it stays.
    fn onto(self, before: &Reach) -> Result<Reach, Error> {
        let given = |value: &Option<Value>| value.as_ref().is_some_and(|value| !value.is_null() && *value != json!({}));
        if given(&self.egress_proxy) || given(&self.rules) {
            return Err(Error::invalid("`egressProxy` and `rules` are not supported by this server"));
        }
        let reach = Reach {
            internet: self.allow_internet_access,
            allow: self.allow_out.unwrap_or_default(),
            deny: self.deny_out.unwrap_or_default(),
            private_ports: before.private_ports,
            mask_host: before.mask_host.clone(),
        };
        checked(reach)
    }

    /// Of a new sandbox.
    pub(super) fn anew(self, internet: Option<bool>) -> Result<Reach, Error> {
        let private_ports = self.allow_public_traffic == Some(false);
        let before = Reach { private_ports, mask_host: self.mask_request_host.clone(), ..Reach::default() };
        let asked = Self { allow_internet_access: internet.or(self.allow_internet_access), ..self };
        asked.onto(&before)
    }
}

/// A host that no header can carry would be found out only when somebody asks.
fn checked(reach: Reach) -> Result<Reach, Error> {
    match &reach.mask_host {
        Some(mask) if http::HeaderValue::from_str(mask).is_err() || mask.is_empty() || mask.len() > 300 => {
            Err(Error::invalid("`maskRequestHost` is no host"))
        }
        _ => Ok(reach),
    }
}

async fn network(State(control): State<Control>, caller: Caller, Path(id): Path<String>, bytes: Bytes) -> Result<impl IntoResponse, Error> {
    let asked: NetworkAsked = body(&bytes)?;
    let owned = find(&control, &caller, &id)?;
    if !runs(&owned) {
        return Err(Error::conflict(format!("Sandbox {id} is not running")));
    }
    let reach = asked.onto(&owned.facts().reach)?;
    owned.set_reach(reach).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An answer of several, with E2B's headers for paging.
pub(super) fn page(values: Vec<Value>, next: Option<String>, running: Option<usize>) -> Response {
    let mut response = (StatusCode::OK, Json(values)).into_response();
    let mut put = |name: &'static str, value: String| {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    };
    if let Some(next) = next {
        put("x-next-token", next);
    }
    if let Some(running) = running {
        put("x-total-running", running.to_string());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_fields_replace_all_but_who_may_come_in() {
        let read = |text: &str| serde_json::from_str::<NetworkAsked>(text).unwrap();
        let new = read(r#"{"allowPublicTraffic":false,"maskRequestHost":"h:${PORT}","denyOut":["0.0.0.0/0"]}"#).anew(Some(true)).unwrap();
        assert!(new.private_ports && new.internet == Some(true) && new.deny == ["0.0.0.0/0"]);
        let later = read(r#"{"allowOut":["1.1.1.1"],"allow_internet_access":false}"#).onto(&new).unwrap();
        assert_eq!(
            later,
            Reach {
                internet: Some(false),
                allow: vec!["1.1.1.1".into()],
                deny: vec![],
                private_ports: true,
                mask_host: Some("h:${PORT}".into())
            }
        );
        assert!(read(r#"{"rules":{"a.example":[{"transform":{"headers":{"x":"y"}}}]}}"#).anew(None).is_err());
        assert!(read(r#"{"maskRequestHost":"a\nb"}"#).anew(None).is_err());
        assert!(read(r#"{"rules":{},"egressProxy":null,"news":1}"#).anew(None).is_ok());
    }

    #[test]
    fn a_timeout_of_a_stranger_is_no_number_to_trust() {
        assert_eq!(millis(15).unwrap(), 15_000);
        assert!(millis(-1).is_err() && millis(i64::MAX).is_err());
    }

    #[test]
    fn one_key_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(key(&headers), None);
        headers.append("x-api-key", "a".parse().unwrap());
        assert_eq!(key(&headers), Some("a"));
        headers.append("x-api-key", "b".parse().unwrap());
        assert_eq!(key(&headers), None);
    }
}
