//! The device of a running sandbox, joined with the gateway.

use std::{fs, sync::Arc};

use parking_lot::Mutex;
use skep_gateway::net::{self, Attached, Direct, Owner, Rules, Servers};
use skep_id::SandboxId;
use skep_sandbox::{Fence, Host, Sandbox};
use tokio::sync::watch;

use super::{Reach, SandboxError};

/// Where the addresses of name servers are, read once: the resolver is the node's own.
const RESOLVER: &str = "/etc/resolv.conf";

/// The way out of all sandboxes of a node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Network {
    network: net::Network,
    /// Whether this host gives sandboxes a device at all.
    devices: bool,
}

impl Network {
    pub fn of(host: &Host) -> Self {
        let servers = Servers::listed(&fs::read_to_string(RESOLVER).unwrap_or_default());
        let network = net::Network::new(Arc::new(Direct::default()), Arc::new(servers), Arc::new(()));
        Self { network, devices: host.has(Fence::Tun) }
    }

    /// What a new sandbox is connected to.
    pub fn spec(&self) -> skep_sandbox::Network {
        if self.devices { skep_sandbox::Network::tun() } else { skep_sandbox::Network::Loopback }
    }
}

/// One sandbox's.
pub(super) struct Joined {
    network: Network,
    rules: watch::Sender<Rules>,
    /// The run that it was attached for, by its init.
    attached: Mutex<Option<(i32, Attached)>>,
}

impl Joined {
    pub fn new(network: Network, reach: &Reach) -> Self {
        // What was checked when it was written is sound; what somebody changed by hand reaches nothing.
        let rules = rules(reach).unwrap_or_else(|_| Rules::closed());
        Self { network, rules: watch::channel(rules).0, attached: Mutex::default() }
    }

    /// Attaches the device of this run, once.
    pub async fn attach(&self, id: &SandboxId, sandbox: &Sandbox) -> Result<(), SandboxError> {
        let has = |attached: &Option<(i32, Attached)>| attached.as_ref().is_some_and(|(pid, _)| *pid == sandbox.pid());
        if !self.network.devices || has(&self.attached.lock()) {
            return Ok(());
        }
        let device = sandbox.device().await?;
        let mut attached = self.attached.lock();
        if !has(&attached) {
            *attached = Some((sandbox.pid(), self.network.network.attach(device, Owner(id.to_string()), self.rules.subscribe())?));
        }
        Ok(())
    }

    /// All its flows end, if its run is over: asked while nobody attaches, for it may have begun another run meanwhile.
    pub fn detach_if(&self, over: impl FnOnce() -> bool) {
        let mut attached = self.attached.lock();
        if over() {
            *attached = None;
        }
    }

    /// New rules, for what is open too.
    pub fn change(&self, rules: Rules) {
        self.rules.send_replace(rules);
    }
}

/// E2B's fields as the gateway's rules.
pub(super) fn rules(reach: &Reach) -> Result<Rules, SandboxError> {
    Rules::parse(reach.internet.unwrap_or(true), &reach.allow, &reach.deny).map_err(|error| SandboxError::Invalid(error.to_string()))
}
