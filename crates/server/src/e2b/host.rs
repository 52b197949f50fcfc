//! Which sandbox, and which of its ports, a request is for. Pure.
//!
//! By host: `<port>-<id>.<domain>`. By the headers `E2b-Sandbox-Id` and `E2b-Sandbox-Port`, which count only where the host cannot say it: an IP
//! address, `localhost`, or `sandbox.<…>`. Everything here was written by a stranger.

use std::net::IpAddr;

use skep_id::SandboxId;

/// A port of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub id: SandboxId,
    pub port: u16,
}

/// Who a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// A sandbox.
    Sandbox(Address),
    /// The control plane, at `api.<domain>`.
    Control,
    /// Its form says a sandbox, but it names none: why.
    Wrong(&'static str),
}

/// `None`: it has nothing to do with sandboxes.
pub(crate) fn claim(host: &str, id: Option<&str>, port: Option<&str>, domain: &str) -> Option<Claim> {
    let name = name(host)?;
    if let Some(label) = name.strip_suffix(domain).and_then(|label| label.strip_suffix('.')) {
        match label {
            "api" => return Some(Claim::Control),
            "sandbox" => {}
            _ => return labelled(label),
        }
    }
    let bare = name == "localhost" || name.starts_with("sandbox.") || is_address(&name);
    match (id, port) {
        _ if !bare => None,
        (None, None) => None,
        (Some(id), Some(port)) => Some(address(id, port).map_or(Claim::Wrong("Invalid sandbox id or port"), Claim::Sandbox)),
        _ => Some(Claim::Wrong("missing header: E2b-Sandbox-Id and E2b-Sandbox-Port belong together")),
    }
}

/// A label of the domain: only one that begins like a sandbox's is meant for one.
fn labelled(label: &str) -> Option<Claim> {
    let (port, id) = label.split_once('-')?;
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(address(id, port).map_or(Claim::Wrong("Invalid host"), Claim::Sandbox))
}

fn address(id: &str, port: &str) -> Option<Address> {
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    Some(Address { id: id.parse().ok()?, port: port.parse().ok().filter(|_| digits)? })
}

/// A host without its port and its last dot, in lower case. `None`: it is no host.
fn name(host: &str) -> Option<String> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    (!name.is_empty() && name.bytes().all(allowed)).then_some(name)
}

fn is_address(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    inner.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "i0123456789abcdefghjk";

    fn of(host: &str) -> Option<Claim> {
        claim(host, None, None, "sbx.localhost")
    }

    fn sandbox(port: u16) -> Option<Claim> {
        Some(Claim::Sandbox(Address { id: ID.parse().unwrap(), port }))
    }

    #[test]
    fn a_host_names_a_port_of_a_sandbox() {
        for host in ["8080-ID.sbx.localhost", "8080-ID.sbx.localhost:7443", "8080-ID.sbx.localhost.", "8080-ID.SBX.Localhost:1"] {
            assert_eq!(of(&host.replace("ID", ID)), sandbox(8_080), "{host}");
        }
        assert_eq!(of(&format!("8080-{}.sbx.localhost", ID.to_uppercase())), sandbox(8_080));
        assert_eq!(of("api.sbx.localhost:7443"), Some(Claim::Control));
    }

    #[test]
    fn host_tricks_name_nothing() {
        for host in [
            "8080-ID",
            "8080-ID.localhost",
            "8080-ID.sbx.localhost.evil.example",
            "8080-ID.evilsbx.localhost",
            "x.8080-ID.sbx.localhost",
            "sbx.localhost",
            "hello.sbx.localhost",
            "8080-ID.sbx.localhost@evil.example",
            "8080-ID.sbx.localhost/../x",
            "8080-ID.sbx.localhost\0",
            "",
            ":",
            "[::1",
            "-ID.sbx.localhost",
        ] {
            assert!(!matches!(of(&host.replace("ID", ID)), Some(Claim::Sandbox(_) | Claim::Control)), "{host}");
        }
        for host in ["0-ID", "65536-ID", "080-ID", "99999999999-ID", "8080-iabc", "8080-ID-x", "8080-../../etc", "8080-ID%00"] {
            let claimed = of(&format!("{}.sbx.localhost", host.replace("ID", ID)));
            assert!(!matches!(claimed, Some(Claim::Sandbox(_))), "{host}: {claimed:?}");
        }
    }

    #[test]
    fn headers_count_only_where_the_host_cannot_say_it() {
        let with = |host: &str, id, port| claim(host, id, port, "sbx.localhost");
        for host in ["localhost", "localhost:7117", "127.0.0.1:7117", "[::1]:7117", "[::1]", "sandbox.sbx.localhost", "sandbox.example.com"]
        {
            assert_eq!(with(host, Some(ID), Some("49983")), sandbox(49_983), "{host}");
            assert_eq!(with(host, None, None), None, "{host}");
            assert!(matches!(with(host, Some(ID), None), Some(Claim::Wrong(_))), "{host}");
            assert!(matches!(with(host, Some("x"), Some("1")), Some(Claim::Wrong(_))), "{host}");
        }
        for host in ["hello.localhost", "example.com", "hello.sbx.localhost", "127.0.0.1.example.com"] {
            assert_eq!(with(host, Some(ID), Some("49983")), None, "{host}");
        }
        let other = "i9999999999abcdefghjk";
        assert_eq!(with(&format!("80-{ID}.sbx.localhost"), Some(other), Some("1")), sandbox(80), "the host wins");
    }

    proptest! {
        #[test]
        fn no_host_breaks_it(host in ".{0,80}", id in proptest::option::of(".{0,30}"), port in proptest::option::of(".{0,8}")) {
            let _ = claim(&host, id.as_deref(), port.as_deref(), "sbx.localhost");
        }
    }
}
