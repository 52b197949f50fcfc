//! Servers within a sandbox, for its worker: where they answer from outside, whether they do, and requests to them from here.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use skep_isolate::{Request, Response};

use super::{Call, Refusal, SandboxBinding, json as answer_json};

/// How long a server has to come, where nothing is said.
const WAITS: Duration = Duration::from_secs(90);

/// Between two looks, at least.
const INTERVAL_MIN: Duration = Duration::from_millis(20);

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Expose {
    port: Value,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Wait {
    id: String,
    port: Value,
    #[serde(default)]
    mode: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    status: Option<Wanted>,
    #[serde(default)]
    timeout: Option<f64>,
    #[serde(default)]
    interval: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Wanted {
    One(u16),
    Between { min: u16, max: u16 },
}

impl Wanted {
    fn is(&self, status: u16) -> bool {
        match self {
            Self::One(wanted) => status == *wanted,
            Self::Between { min, max } => (*min..=*max).contains(&status),
        }
    }
}

/// A port that a server of an ordinary user can have.
fn port_of(given: &Value, least: u16) -> Result<u16, Refusal> {
    let port = given.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port >= least);
    port.ok_or_else(|| Refusal::new(400, "INVALID_PORT", format!("a port is a number from {least} to 65535")))
}

impl SandboxBinding {
    pub(super) async fn expose_port(&self, mut call: Call) -> Result<Response, Refusal> {
        let Expose { port, name } = call.arguments().await?;
        let port = port_of(&port, 1_024)?;
        let (owned, _) = self.sandbox(&call.room).await?;
        let none = || Refusal::new(503, "PORT_NOT_EXPOSED", "this node has no front that ports of sandboxes answer at".to_owned());
        let url = format!("https://{port}-{}.{}", owned.id(), self.rooms.domain.get().ok_or_else(none)?);
        let mut shown = json!({ "url": url, "port": port });
        if let (Some(name), Some(shown)) = (name, shown.as_object_mut()) {
            shown.insert("name".to_owned(), name.into());
        }
        answer_json(&shown)
    }

    pub(super) async fn wait_for_port(&self, mut call: Call) -> Result<Response, Refusal> {
        let wait: Wait = call.arguments().await?;
        let port = port_of(&wait.port, 1)?;
        let http = wait.mode.as_deref() == Some("http") || wait.path.is_some() || wait.status.is_some();
        let path = wait.path.clone().unwrap_or_else(|| "/".to_owned());
        let wanted = wait.status.unwrap_or(Wanted::Between { min: 200, max: 399 });
        let time = |ms: Option<f64>, otherwise: Duration| {
            ms.filter(|ms| ms.is_finite() && *ms >= 0.0).map_or(otherwise, |ms| Duration::from_secs_f64((ms / 1e3).min(1e6)))
        };
        let (limit, interval) = (time(wait.timeout, WAITS), time(wait.interval, Duration::from_millis(100)).max(INTERVAL_MIN));
        let (_, sandbox) = self.sandbox(&call.room).await?;
        let comes = async {
            loop {
                let here = async {
                    let stream = sandbox.connect(port).await.ok()?;
                    if !http {
                        return Some(());
                    }
                    let request = Request { method: "GET".to_owned(), url: format!("http://localhost:{port}{path}"), ..Request::default() };
                    let answer = skep_gateway::inward(stream, request).await.ok()?;
                    wanted.is(answer.status).then_some(())
                };
                if let Ok(Some(())) = tokio::time::timeout(LOOK, here).await {
                    return Ok(());
                }
                if !self.process_runs(&call, &wait.id)? {
                    return Err(Refusal::new(500, "PROCESS_EXITED", format!("process {} ended before port {port} answered", wait.id)));
                }
                tokio::time::sleep(interval).await;
            }
        };
        match tokio::time::timeout(limit, comes).await {
            Ok(came) => came?,
            Err(_) => {
                return Err(Refusal::new(
                    408,
                    "PROCESS_READY_TIMEOUT",
                    format!("port {port} did not answer within {} ms", limit.as_millis()),
                ));
            }
        }
        answer_json(&json!({ "success": true }))
    }

    /// A request to a server within, as the guest has it.
    pub(super) async fn container_fetch(&self, mut call: Call) -> Result<Response, Refusal> {
        let port = port_of(&call.asked("port")?.parse::<u64>().unwrap_or(0).into(), 1)?;
        let path = call.asked("path")?;
        if !path.starts_with('/') {
            return Err(Refusal::invalid("a path begins with /".to_owned()));
        }
        let url = format!("http://localhost:{port}{path}");
        let (owned, sandbox) = self.sandbox(&call.room).await?;
        let _awake = self.keep_awake(&owned);
        let stream = sandbox.connect(port).await?;
        let request = Request { url, ..std::mem::take(&mut call.request) };
        skep_gateway::inward(stream, request).await.map_err(|error| Refusal::new(502, "PORT_NOT_READY", error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_that_a_user_can_have() {
        assert_eq!(port_of(&json!(8_080), 1_024).unwrap(), 8_080);
        for hostile in [json!(80), json!(0), json!(-1), json!(65_536), json!(8_080.5), json!("8080"), json!(null), json!([8_080])] {
            assert!(port_of(&hostile, 1_024).is_err(), "{hostile}");
        }
    }
}
