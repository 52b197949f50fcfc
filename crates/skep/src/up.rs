//! `skep up`: a node and its front, until a signal.

use std::{fs, io::IsTerminal, net::SocketAddr, path::PathBuf, time::Instant};

use clap::Args;
use serde::Deserialize;
use skep_api::ErrorCode;
use skep_node::{LogError, Node, OpenError};
use skep_server::Server;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{Global, client::URL_FILE, doctor::may_be_repaired, failure::Failure, output};

#[derive(Args)]
#[command(after_help = "Examples:
  skep up
  skep up --listen 0.0.0.0:443 --domain workers.example.com --config skep.toml

The configuration file is TOML with two tables, [node] and [server]; unknown fields are refused. Actors are set in [node.actors]
(idle_ms, awake_max, retention_ms, …), their log in [node.log], sandboxes in [node.sandboxes], their hosts in [server.sandboxes].
SKEP_LOG sets what is logged, for example SKEP_LOG=debug.")]
pub struct Up {
    /// A configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:7117].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The domain below which workers answer [default: localhost].
    #[arg(long)]
    domain: Option<String>,
    /// A guest image other than the one of this build, for work on the guest.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    pub node: skep_node::Config,
    pub server: skep_server::Config,
}

impl File {
    /// What the file says; without one, the defaults.
    pub fn read(path: Option<&std::path::Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::default()) };
        let unreadable = |error: &dyn std::error::Error| Failure::of(ErrorCode::Invalid, error, format!("Look at {}.", path.display()));
        let text = fs::read_to_string(path).map_err(|error| unreadable(&error))?;
        toml::from_str(&text).map_err(|error| unreadable(&error))
    }
}

impl Up {
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let started = Instant::now();
        let file = self.settings(global)?;
        log_to_stderr();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::of(ErrorCode::Internal, &error, ""))?;
        runtime.block_on(serve(file, started, global.json))
    }

    fn settings(&self, global: &Global) -> Result<File, Failure> {
        let mut file = File::read(self.config.as_deref())?;
        if let Some(data) = &global.data {
            file.node.data.clone_from(data);
        }
        // What is said and written down of it holds wherever one stands.
        file.node.data = std::path::absolute(&file.node.data)
            .map_err(|error| Failure::of(ErrorCode::Invalid, &error, "Give --data with another folder."))?;
        if let Some(listen) = self.listen {
            file.server.listen = listen;
        }
        if let Some(image) = &self.image {
            file.node.image = Some(image.clone());
        }
        if let Some(domain) = &self.domain {
            file.node.domain.clone_from(domain);
        }
        file.node.domain = file.node.domain.trim_matches('.').to_ascii_lowercase();
        Ok(file)
    }
}

async fn serve(file: File, started: Instant, json: bool) -> Result<(), Failure> {
    let shutdown = stop_signal()?;
    let data = file.node.data.clone();
    let program = std::env::current_exe().map_err(|error| Failure::of(ErrorCode::Internal, &error, ""))?;
    let node = Node::open(file.node, (program, vec!["compile-child".to_owned()])).map_err(|error| unopened(&error))?;
    open_sandboxes(&node).await;
    let made_key = node.ensure_admin_key().map_err(|error| unopened(&error))?;
    let server = Server::bind(&file.server, node.clone())
        .await
        .map_err(|error| Failure::of(ErrorCode::Unavailable, &error, "Is another node running? Give --listen with another port."))?;
    let url_file = data.join(URL_FILE);
    fs::write(&url_file, format!("{}\n", server.url())).map_err(|error| Failure::of(ErrorCode::Unavailable, &error, ""))?;
    announce(&server, &node, made_key.as_deref(), started, json);
    let in_time = server.run(shutdown).await;
    let _ = fs::remove_file(url_file);
    if in_time {
        Ok(())
    } else {
        Err(Failure::new(
            ErrorCode::Unavailable,
            "not all requests were finished in time; they were cut off",
            "[server] drain_ms sets the time.",
        ))
    }
}

/// A host without the fences still serves all else; its log says what is missing.
#[cfg(target_os = "linux")]
async fn open_sandboxes(node: &Node) {
    match node.open_sandboxes("/proc/self/exe".into()).await {
        Ok(opened) => {
            let skep_node::Opened { adopted, stopped, leaks } = opened;
            tracing::info!(adopted, stopped, leaks, "sandboxes are open");
        }
        Err(skep_node::SandboxesError::Off) => {}
        Err(error) => tracing::warn!(%error, "this node has no sandboxes; `skep doctor` names each fence with what helps"),
    }
}

#[cfg(not(target_os = "linux"))]
async fn open_sandboxes(_: &Node) {
    tracing::warn!("this node has no sandboxes: they need Linux");
}

/// Where sandboxes answer, and the certificate to trust for it.
#[cfg(target_os = "linux")]
fn sandboxes(server: &Server) -> Option<(String, Option<PathBuf>)> {
    server.sandboxes()
}

#[cfg(not(target_os = "linux"))]
fn sandboxes(_: &Server) -> Option<(String, Option<PathBuf>)> {
    None
}

fn announce(server: &Server, node: &Node, made_key: Option<&std::path::Path>, started: Instant, json: bool) {
    let (url, domain, port) = (server.url(), &node.config().domain, server.address().port());
    let ready_ms = started.elapsed().as_millis();
    if json {
        let mut said = serde_json::json!({ "url": url, "domain": domain, "ready_ms": ready_ms, "pid": std::process::id() });
        if let Some((domain, authority)) = sandboxes(server) {
            said["sandboxes"] = serde_json::json!({ "domain": domain, "authority": authority });
        }
        output::line(&said.to_string());
        return;
    }
    output::line(&format!("skep {} is ready at {url} ({ready_ms} ms)", env!("CARGO_PKG_VERSION")));
    output::line(&format!("  workers answer at http://<name>.{domain}:{port}/ and {url}/w/<name>/"));
    if let Some((domain, authority)) = sandboxes(server) {
        output::line(&format!("  sandboxes answer at https://<port>-<id>.{domain}/ (E2B_DOMAIN={domain})"));
        if let Some(authority) = authority {
            output::line(&format!("  their certificate authority, to be trusted by clients: {}", authority.display()));
        }
    }
    if let Some(path) = made_key {
        output::line(&format!("  made an admin key: {} (the CLI on this machine uses it by itself)", path.display()));
    }
}

fn unopened(error: &OpenError) -> Failure {
    let hint = match error {
        OpenError::InUse(_) => "Stop the other node, or give --data with another folder.",
        OpenError::Data(..) => "Give --data with a folder that this user may write to.",
        OpenError::Engine(_) => "`skep doctor` looks for the reasons.",
        OpenError::Log(LogError::Unsafe(..)) => {
            "Give --data with a folder on a local disk; where what is acknowledged may be lost with the power, set trust_any_folder in [node.log]."
        }
        damaged if may_be_repaired(damaged) => {
            "`skep doctor` looks at all files; `skep doctor --repair` goes on without what is lost, and says what that is."
        }
        _ => "",
    };
    Failure::of(ErrorCode::Unavailable, error, hint)
}

/// Ready at the first SIGTERM or SIGINT; the second one ends the process at once.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let failed = |error: std::io::Error| Failure::of(ErrorCode::Internal, &error, "");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: finishing what is in flight; a second signal ends the node at once");
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(130);
        });
    })
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("SKEP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Set once, at the start of the process; a second time cannot happen.
    let _ = if std::io::stderr().is_terminal() { subscriber.compact().try_init() } else { subscriber.json().try_init() };
}
