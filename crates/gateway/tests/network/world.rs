//! Sandboxes with a network whose outside is the test's own.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use skep_gateway::net::{Attached, Dial, Flow, Inspect, Network, Owner, Rules};
use skep_id::SandboxId;
use skep_sandbox::{Cgroups, Command, Fence, Host, Limits, Place, Profile, Range, Sandbox, Spec, Status, Zygote, host_image};
use tokio::sync::watch;

use crate::outside::{Names, Outside};

/// What sandboxes are started with.
pub struct Sandboxes {
    zygote: Zygote,
    cgroups: Cgroups,
    host: Host,
    folder: Mutex<Option<tempfile::TempDir>>,
    started: Mutex<Vec<Sandbox>>,
}

impl Sandboxes {
    /// `None`: this machine has not what the tests need, and they say what.
    pub async fn set_up() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("passed over: sandboxes with all fences need root");
            return None;
        }
        if !Path::new("/usr/bin/python3").exists() {
            println!("passed over: the programs within are written in Python, and there is no /usr/bin/python3");
            return None;
        }
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (zygote, cgroups) = (Zygote::start(Path::new("/proc/self/exe")).unwrap(), Cgroups::probe().unwrap());
        let host = zygote.probe(folder.path(), &cgroups).await.unwrap();
        for &fence in Profile::Strict.demands().iter().chain(&[Fence::Tun]) {
            if let Some(missing) = host.missing(fence) {
                println!("passed over: this machine has no {fence:?}: {} ({})", missing.why, missing.fix);
                return None;
            }
        }
        Some(Self { zygote, cgroups, host, folder: Mutex::new(Some(folder)), started: Mutex::default() })
    }

    pub async fn sandbox(&self) -> Sandbox {
        let mut random = [0; 15];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
        let (id, low, high) = (SandboxId::from_random(random[..13].try_into().unwrap()), random[13], random[14]);
        let folder = self.folder.lock().unwrap().as_ref().unwrap().path().to_owned();
        let range = Range { first: 0x7000_0000 + u32::from(u16::from_le_bytes([low, high])) % 4_000 * Range::LENGTH };
        let rootfs = host_image(&folder.join("image")).unwrap();
        let place = Place { rootfs, folder: folder.join(id.as_str()), group: format!("skep-net-test-{id}"), range };
        let boot = "00000000-0000-4000-8000-0000000000aa".to_owned();
        let (network, limits) = (skep_sandbox::Network::tun(), Limits { memory_bytes: 1 << 30, ..Limits::default() });
        let spec = Spec { id, profile: Profile::Strict, hostname: "box".into(), limits, network, volumes: vec![], boot };
        let sandbox = Sandbox::start(&self.zygote, &self.host, &self.cgroups, &spec, &place).await.unwrap();
        self.started.lock().unwrap().push(sandbox.clone());
        sandbox
    }

    /// A sandbox whose outside is `outside` and whose names are `names`.
    pub async fn connected(&self, outside: &Arc<Outside>, names: &Arc<Names>, rules: Rules) -> Connected {
        let dial: Arc<dyn Dial> = Arc::clone(outside) as _;
        self.connected_by(dial, names, rules).await
    }

    pub async fn connected_by(&self, dial: Arc<dyn Dial>, names: &Arc<Names>, rules: Rules) -> Connected {
        let sandbox = self.sandbox().await;
        let log = Arc::new(Log::default());
        let network = Network::new(dial, Arc::clone(names) as _, Arc::clone(&log) as _);
        let (rules, receiver) = watch::channel(rules);
        let attached = network.attach(sandbox.device().await.unwrap(), Owner("test".into()), receiver).unwrap();
        Connected { sandbox, attached: Some(attached), network, rules, log }
    }

    pub async fn remove(&self) {
        let started = std::mem::take(&mut *self.started.lock().unwrap());
        for sandbox in started {
            let _ = sandbox.remove().await;
        }
        drop(self.folder.lock().unwrap().take());
    }
}

/// A sandbox with a network.
pub struct Connected {
    pub sandbox: Sandbox,
    pub attached: Option<Attached>,
    pub network: Network,
    pub rules: watch::Sender<Rules>,
    pub log: Arc<Log>,
}

impl Connected {
    /// What a program in Python prints; it must end well.
    pub async fn python(&self, program: &str) -> String {
        let text = format!("{PRELUDE}\n{program}");
        let running = self.sandbox.exec(Command::new(&["/usr/bin/python3", "-S", "-c", &text])).await.unwrap();
        let finished = running.output(1 << 20).await.unwrap();
        let said = String::from_utf8_lossy(&finished.stdout).into_owned();
        assert_eq!(finished.status, Status::Code(0), "{program}\n{said}{}", String::from_utf8_lossy(&finished.stderr));
        said
    }

    /// What became of a connection from within: `open`, or the error's name.
    pub async fn connect(&self, to: &str) -> String {
        self.python(&format!("print(attempt({:?}), end='')", to)).await
    }
}

/// What every program within begins with.
pub const PRELUDE: &str = r"
import socket, sys, time, os
def split(to):
    host, port = to.rsplit(':', 1)
    return host.strip('[]'), int(port)
def dial(to, timeout=15):
    return socket.create_connection(split(to), timeout)
def attempt(to):
    try:
        dial(to, 5).close()
        return 'open'
    except OSError as e:
        return type(e).__name__ if type(e) is not OSError else os.strerror(e.errno)
def everything(s):
    parts = []
    while True:
        part = s.recv(1 << 20)
        if not part:
            return b''.join(parts)
        parts.append(part)
";

/// All flows that were decided or have ended.
#[derive(Default)]
pub struct Log {
    pub decided: Mutex<Vec<Flow>>,
    pub ended: Mutex<Vec<Flow>>,
}

impl Inspect for Log {
    fn decided(&self, flow: &Flow) {
        self.decided.lock().unwrap().push(flow.clone());
    }

    fn ended(&self, flow: &Flow) {
        self.ended.lock().unwrap().push(flow.clone());
    }
}

impl Log {
    /// What was decided last of flows to an address.
    pub fn of(&self, to: &str) -> Option<Flow> {
        let to: SocketAddr = to.parse().unwrap();
        self.decided.lock().unwrap().iter().rev().find(|flow| flow.to == to).cloned()
    }
}
