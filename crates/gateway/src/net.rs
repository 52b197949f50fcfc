//! The network of sandboxes: everything that a sandbox sends goes through here, is judged, and only then opened on the outside.
//!
//! A [`Network`] is given the other end of a sandbox's network device and the rules for it, and is a host in userspace: it speaks TCP, UDP and ICMP with the sandbox
//! under every address, and sockets with the outside. No packet of a sandbox reaches a network of the host, and the host needs no packet filter. Driven by the
//! node. It is not: a place that knows what a sandbox is, or makes devices.

mod answer;
mod device;
mod dial;
mod dns;
mod endpoint;
mod flow;
mod kernel;
mod name;
mod packet;
mod pins;
mod resolve;
mod rules;
mod sniff;
mod stack;
mod tcp;
mod udp;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    sync::{Arc, atomic::AtomicU64},
};

use serde::Serialize;
use tokio::{sync::watch, task::JoinHandle};

pub use dial::{Dial, Direct};
pub use dns::{Answer, Family};
pub use flow::{Decision, Flow, Inspect, Owner, Protocol, Reason};
pub use name::{Name, NameError, Pattern};
pub use resolve::{Resolve, Servers};
pub use rules::{Rules, Selector, SelectorError, Verdict};
pub use sniff::Shown;

/// The gateway of every sandbox: where names are resolved, and nothing else is.
pub const GATEWAY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(10, 100, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x7368, 0, 0, 0, 0, 0, 1))];

/// The longest packet that is sent into a sandbox, in bytes: its device takes none that is longer.
pub const MTU: usize = 65_520;

/// What all sandboxes' networks share.
pub(crate) struct Shared {
    dial: Arc<dyn Dial>,
    resolve: Arc<dyn Resolve>,
    inspect: Arc<dyn Inspect>,
    /// The next flow's number.
    flows: AtomicU64,
}

/// The way out of a node's sandboxes.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl Network {
    /// A way out by `dial`, with names found out by `resolve`, looked at by `inspect`.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>, resolve: Arc<dyn Resolve>, inspect: Arc<dyn Inspect>) -> Self {
        Self { shared: Arc::new(Shared { dial, resolve, inspect, flows: AtomicU64::new(1) }) }
    }

    /// Serves a sandbox's device (a TUN device with `IFF_VNET_HDR`, whose sandbox has [`GATEWAY`] for its gateway) until what comes back is dropped. To be called
    /// within a runtime. Rules that are sent later hold for flows that are open, too: those that they refuse end.
    ///
    /// # Errors
    /// When the descriptor cannot be waited for.
    pub fn attach(&self, device: OwnedFd, owner: Owner, rules: watch::Receiver<Rules>) -> io::Result<Attached> {
        let device = device::Device::new(device)?;
        let stack = Arc::new(stack::Stack::new(device, MTU, Arc::clone(&self.shared), owner, rules));
        let task = tokio::spawn(Arc::clone(&stack).run());
        Ok(Attached { stack, task })
    }
}

/// A sandbox's network, as long as it is served.
pub struct Attached {
    stack: Arc<stack::Stack>,
    task: JoinHandle<io::Result<()>>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.task.abort();
        self.stack.end_all();
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attached({:?})", self.stack.owner)
    }
}

impl Attached {
    /// The flows that are open now, in no order.
    #[must_use]
    pub fn flows(&self) -> Vec<Flow> {
        self.stack.flows()
    }

    /// What has passed since it was attached.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.stack.traffic()
    }
}

/// What has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Bytes to the outside.
    pub sent: u64,
    /// Bytes from the outside.
    pub received: u64,
    /// Flows that were let through.
    pub opened: u64,
    /// Flows that were not.
    pub refused: u64,
}

impl Traffic {
    fn add(&mut self, flow: &Flow) {
        self.sent += flow.sent;
        self.received += flow.received;
        match flow.decision {
            Decision::Allow => self.opened += 1,
            Decision::Deny(_) => self.refused += 1,
        }
    }
}
