//! What one can set about the front.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The front's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen. Default `127.0.0.1:7117`: this machine only.
    pub listen: SocketAddr,
    /// Certificate and key for HTTPS. Without them the front speaks plain HTTP, both HTTP/1.1 and HTTP/2.
    pub tls: Option<TlsConfig>,
    /// Most connections at once; further ones wait in the kernel. Default 10,000.
    pub connections_max: usize,
    /// Requests in progress on one HTTP/2 connection. Default 256.
    pub streams_max: u32,
    /// Bytes of a request's head. Default 64 KiB.
    pub head_bytes_max: usize,
    /// Headers of a request. Default 128.
    pub headers_max: usize,
    /// Time to send a request's head, ms. Default 15,000.
    pub head_timeout_ms: u64,
    /// Bytes of a request's body to a worker. Default 100 MiB, as on Cloudflare.
    pub body_bytes_max: u64,
    /// Bytes of a request's body to the control routes: a deploy holds all code, a part of it in base64. Default 100 MiB.
    pub control_body_bytes_max: usize,
    /// Bytes of one WebSocket message. Default 32 MiB.
    pub message_bytes_max: usize,
    /// Time to finish what is in flight when the node stops, ms. Default 30,000.
    pub drain_ms: u64,
    /// The hosts of sandboxes.
    pub sandboxes: SandboxesConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7117)),
            tls: None,
            connections_max: 10_000,
            streams_max: 256,
            head_bytes_max: 64 << 10,
            headers_max: 128,
            head_timeout_ms: 15_000,
            body_bytes_max: 100 << 20,
            control_body_bytes_max: 100 << 20,
            message_bytes_max: 32 << 20,
            drain_ms: 30_000,
            sandboxes: SandboxesConfig::default(),
        }
    }
}

/// Where sandboxes answer: `https://<port>-<id>.<domain>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxesConfig {
    /// Their domain, which is no other's: no worker answers below it. Default `sbx.localhost`.
    pub domain: String,
    /// Where to listen for it, with TLS. Default: the address of the front with the port 7443, or any free one where it is taken.
    pub listen: Option<SocketAddr>,
    /// Certificate and key for `*.<domain>`. Without them a certificate authority of the node's own makes them, in the data folder.
    pub tls: Option<TlsConfig>,
}

impl Default for SandboxesConfig {
    fn default() -> Self {
        Self { domain: "sbx.localhost".to_owned(), listen: None, tls: None }
    }
}

/// Files for HTTPS, in PEM. Read once, at the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate, followed by those that vouch for it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}
