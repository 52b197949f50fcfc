//! New sandboxes, as versions 1 and 2 of the wire ask for them.

use std::collections::BTreeMap;

use axum::{body::Bytes, extract::State, response::Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use skep_node::{NewSandbox, OnTimeout};

use super::{Caller, NetworkAsked, TIMEOUT_V1, TIMEOUT_V2, body, millis, sandbox_out, sandboxes};
use crate::{control::Control, e2b::error::Error, reply::json as answer};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(rename = "templateID")]
    template_id: Option<String>,
    timeout: Option<i64>,
    auto_pause: Option<bool>,
    auto_pause_memory: Option<bool>,
    auto_resume: Option<AutoResume>,
    secure: Option<bool>,
    #[serde(rename = "allow_internet_access")]
    allow_internet_access: Option<bool>,
    network: Option<NetworkAsked>,
    metadata: Option<BTreeMap<String, String>>,
    env_vars: Option<BTreeMap<String, String>>,
    iam: Option<Value>,
    volume_mounts: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct AutoResume {
    enabled: bool,
}

pub(super) async fn v1(State(control): State<Control>, caller: Caller, bytes: Bytes) -> Result<Response, Error> {
    let asked: Asked = body(&bytes)?;
    let secured = asked.secure.unwrap_or(true);
    made(&control, &caller, asked, TIMEOUT_V1, secured).await
}

pub(super) async fn v2(State(control): State<Control>, caller: Caller, bytes: Bytes) -> Result<Response, Error> {
    let asked: Asked = body(&bytes)?;
    if asked.timeout.is_some_and(|timeout| timeout < 1) {
        return Err(Error::invalid("`timeout` is at least a second"));
    }
    made(&control, &caller, asked, TIMEOUT_V2, true).await
}

async fn made(control: &Control, caller: &Caller, asked: Asked, timeout: i64, secured: bool) -> Result<Response, Error> {
    let mut new = new(asked, caller.name(), timeout, secured)?;
    new.sees = caller.owner().map(str::to_owned);
    let owned = sandboxes(control)?.create(new).await?;
    Ok(answer(StatusCode::CREATED, &sandbox_out(control, &owned)))
}

fn new(asked: Asked, owner: &str, timeout: i64, secured: bool) -> Result<NewSandbox, Error> {
    let template = asked.template_id.filter(|id| !id.is_empty()).ok_or_else(|| Error::invalid("`templateID` is missing"))?;
    let given = |value: &Option<Value>| value.as_ref().is_some_and(|value| !value.is_null() && *value != serde_json::json!({}));
    // `mcp` is passed over: the packages start its gateway themselves, a program of the template.
    if given(&asked.iam) || asked.volume_mounts.is_some_and(|mounts| !mounts.is_empty()) {
        return Err(Error::invalid("`iam` and `volumeMounts` are not supported by this server"));
    }
    let on_timeout = match (asked.auto_pause.unwrap_or(false), asked.auto_pause_memory.unwrap_or(true)) {
        (false, _) => OnTimeout::Remove,
        (true, true) => OnTimeout::Pause,
        (true, false) => OnTimeout::Stop,
    };
    Ok(NewSandbox {
        on_timeout,
        auto_resume: asked.auto_resume.is_some_and(|resume| resume.enabled),
        metadata: asked.metadata.unwrap_or_default(),
        env: asked.env_vars.unwrap_or_default(),
        secured,
        reach: asked.network.unwrap_or_default().anew(asked.allow_internet_access)?,
        ..NewSandbox::of(owner, &template, Some(millis(asked.timeout.unwrap_or(timeout))?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NewSandbox, Error> {
        new(serde_json::from_str(text).unwrap(), "key", TIMEOUT_V1, true)
    }

    #[test]
    fn what_a_client_asks_for_is_what_is_made() {
        let made = read(
            r#"{"templateID":"base","timeout":60,"autoPause":true,"autoPauseMemory":false,"autoResume":{"enabled":true},"later":1,
                "metadata":{"a":"b"},"envVars":{"X":"1"},"allow_internet_access":false,"network":{"allowPublicTraffic":false}}"#,
        )
        .unwrap();
        assert_eq!((made.timeout_ms, made.on_timeout, made.auto_resume), (Some(60_000), OnTimeout::Stop, true));
        assert!(made.reach.private_ports && made.reach.internet == Some(false));
        let plain = read(r#"{"templateID":"base"}"#).unwrap();
        assert_eq!((plain.timeout_ms, plain.on_timeout, plain.auto_resume), (Some(15_000), OnTimeout::Remove, false));
    }

    #[test]
    fn what_cannot_be_done_is_refused_and_not_forgotten() {
        for text in [
            "{}",
            r#"{"templateID":""}"#,
            r#"{"templateID":"base","timeout":-1}"#,
            r#"{"templateID":"base","iam":{"tokens":{"x":{}}}}"#,
            r#"{"templateID":"base","network":{"rules":{"a.example":[{"transform":{"headers":{"x":"y"}}}]}}}"#,
            r#"{"templateID":"base","network":{"egressProxy":{"address":"proxy.example:1080"}}}"#,
            r#"{"templateID":"base","volumeMounts":[{"name":"a","path":"/a"}]}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
