//! All flows of one device: takes packets, knows whose they are, and has each flow served by a task of its own.
//!
//! It holds what the flows of a sandbox share: rules, pins, bounds, records. Packets are read by `packet.rs`; connections are `tcp.rs`, datagrams and echoes
//! `udp.rs`, questions `answer.rs`.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};

use super::{
    GATEWAY, Shared, Traffic, answer,
    device::{Device, Packet},
    flow::{Decision, Flow, Owner, Protocol, Reason},
    name::Name,
    packet::{self, RST, SYN, Seen, Segment},
    pins::{Pins, Questions},
    rules::{Rules, Verdict},
    tcp::{self, Opening},
    udp,
};
use crate::address::inner;

/// Connections and datagram flows of one sandbox.
const MOST_FLOWS: usize = 2_048;
/// Of them, flows of datagrams, which nobody ends.
const MOST_DATAGRAM_FLOWS: usize = 256;
/// Connections that are being opened on the outside; further ones wait their turn.
const CONNECTING: usize = 256;
/// Echoes and questions under way; further ones are lost, and asked again.
const ECHOES: usize = 32;
const QUESTIONS: usize = 128;
/// Packets taken before others have their turn.
const TURN: usize = 32;

/// Who speaks to whom.
pub(super) type Key = (SocketAddr, SocketAddr);

pub(super) struct Stack {
    pub device: Device,
    /// The longest packet that is sent in.
    pub mtu: usize,
    pub shared: Arc<Shared>,
    pub owner: Owner,
    pub rules: watch::Receiver<Rules>,
    pub connecting: Semaphore,
    pub echoes: Arc<Semaphore>,
    pub questions: Arc<Semaphore>,
    names: Mutex<(Pins, Questions)>,
    connections: Mutex<HashMap<Key, mpsc::Sender<Packet>>>,
    datagrams: Mutex<HashMap<Key, mpsc::Sender<Packet>>>,
    live: Mutex<HashMap<u64, Arc<Live>>>,
    /// Of flows that have ended.
    ended: Mutex<Traffic>,
}

/// A flow that goes on.
pub(super) struct Live {
    flow: Mutex<Flow>,
    pub sent: AtomicU64,
    pub received: AtomicU64,
}

impl Live {
    pub fn flow(&self) -> Flow {
        let mut flow = lock(&self.flow).clone();
        flow.sent = self.sent.load(Ordering::Relaxed);
        flow.received = self.received.load(Ordering::Relaxed);
        flow
    }

    pub fn named(&self, name: &Name) {
        lock(&self.flow).name = Some(name.clone());
    }

    pub fn failed(&self, error: &io::Error) {
        lock(&self.flow).failed = Some(error.to_string());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stack {
    pub fn new(device: Device, mtu: usize, shared: Arc<Shared>, owner: Owner, rules: watch::Receiver<Rules>) -> Self {
        Self {
            device,
            mtu,
            shared,
            owner,
            rules,
            connecting: Semaphore::new(CONNECTING),
            echoes: Arc::new(Semaphore::new(ECHOES)),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            names: Mutex::default(),
            connections: Mutex::default(),
            datagrams: Mutex::default(),
            live: Mutex::default(),
            ended: Mutex::default(),
        }
    }

    /// Takes packets until the device is gone. Dropped: every flow ends.
    pub async fn run(self: Arc<Self>) -> io::Result<()> {
        let mut tasks = JoinSet::new();
        loop {
            for _ in 0..TURN {
                let packet = self.device.read().await?;
                self.take(packet, &mut tasks);
            }
            while tasks.try_join_next().is_some() {}
            tokio::task::yield_now().await;
        }
    }

    fn take(self: &Arc<Self>, packet: Packet, tasks: &mut JoinSet<()>) {
        match packet::read(packet.bytes()) {
            Some(Seen::Tcp { from, to, segment }) => self.segment((from, to), segment, packet, tasks),
            Some(Seen::Udp { from, to, .. }) => self.datagram((from, to), packet, tasks),
            Some(Seen::Echo { from, to, .. }) => udp::echo(self, (from, to), packet, tasks),
            Some(Seen::Other) | None => packet.done(&self.device),
        }
    }

    fn segment(self: &Arc<Self>, key: Key, segment: Segment, packet: Packet, tasks: &mut JoinSet<()>) {
        let mut connections = lock(&self.connections);
        if let Some(connection) = connections.get(&key) {
            // One that is behind loses it, and gets it again.
            if let Err(error) = connection.try_send(packet) {
                error.into_inner().done(&self.device);
            }
            return;
        }
        if segment.flags & SYN == 0 || segment.flags & !(packet::FLAGS_OF_OPENING) != 0 {
            if segment.flags & RST == 0 {
                packet::reset(key.0, key.1, &segment).iter().for_each(|answer| self.device.send(answer));
            }
            return packet.done(&self.device);
        }
        if connections.len() >= MOST_FLOWS {
            drop(connections);
            self.refused(Protocol::Tcp, key, Reason::TooMany);
            packet::reset(key.0, key.1, &segment).iter().for_each(|answer| self.device.send(answer));
            return packet.done(&self.device);
        }
        let (sender, packets) = mpsc::channel(tcp::WAITING);
        connections.insert(key, sender);
        drop(connections);
        tasks.spawn(tcp::run(Arc::clone(self), Opening { key, syn: packet, segment, packets }));
    }

    fn datagram(self: &Arc<Self>, key: Key, packet: Packet, tasks: &mut JoinSet<()>) {
        if self.is_gateway(key.1.ip()) {
            if key.1.port() == answer::PORT {
                return answer::datagram(self, key, packet, tasks);
            }
            packet::unreachable(packet.bytes(), packet::Unreachable::Port).iter().for_each(|answer| self.device.send(answer));
            return packet.done(&self.device);
        }
        let mut datagrams = lock(&self.datagrams);
        if let Some(flow) = datagrams.get(&key) {
            if let Err(error) = flow.try_send(packet) {
                error.into_inner().done(&self.device);
            }
            return;
        }
        let reason = match self.judge_datagram(key.1) {
            Verdict::Allow if datagrams.len() >= MOST_DATAGRAM_FLOWS => Reason::TooMany,
            Verdict::Allow => {
                let (sender, packets) = mpsc::channel(udp::WAITING);
                // The channel is new and has room.
                let _ = sender.try_send(packet);
                datagrams.insert(key, sender);
                drop(datagrams);
                tasks.spawn(udp::run(Arc::clone(self), key, packets));
                return;
            }
            Verdict::Deny(reason) => reason,
            Verdict::Prove(_) | Verdict::Watch => Reason::NoName,
        };
        drop(datagrams);
        self.refused(Protocol::Udp, key, reason);
        let why = if reason == Reason::Quic { packet::Unreachable::Port } else { packet::Unreachable::Prohibited };
        packet::unreachable(packet.bytes(), why).iter().for_each(|answer| self.device.send(answer));
        packet.done(&self.device);
    }

    /// Datagrams show no name: where names are watched they pass as they do without, where names must be shown they do not.
    fn judge_datagram(&self, to: SocketAddr) -> Verdict {
        match self.judge(to.ip()) {
            // What an address rule allows is allowed; QUIC is the Web, and the Web is to be looked at.
            Verdict::Allow | Verdict::Watch if matches!(to.port(), 80 | 443) => Verdict::Deny(Reason::Quic),
            Verdict::Prove(_) if matches!(to.port(), 80 | 443) => Verdict::Deny(Reason::Quic),
            Verdict::Watch => Verdict::Allow,
            other => other,
        }
    }

    pub fn is_gateway(&self, address: IpAddr) -> bool {
        GATEWAY.contains(&address)
    }

    /// What the rules, and this machine, say of an address.
    pub fn judge(&self, to: IpAddr) -> Verdict {
        let pinned = lock(&self.names).0.names(to, Instant::now());
        let verdict = self.rules.borrow().decide(to.to_canonical(), &pinned);
        match verdict {
            Verdict::Deny(_) => verdict,
            _ if to.is_multicast() || self.is_own(to) => Verdict::Deny(Reason::ThisMachine),
            _ => verdict,
        }
    }

    /// This machine, also behind an address that is translated to one of its own.
    fn is_own(&self, to: IpAddr) -> bool {
        let dial = &self.shared.dial;
        dial.is_own(to.to_canonical()) || inner(to).is_some_and(|inner| dial.is_own(inner.into()))
    }

    /// Whether a name may be asked for now.
    pub fn may_ask(&self, name: &Name) -> Decision {
        if !self.rules.borrow().resolves(name) {
            return Decision::Deny(Reason::Denied);
        }
        if lock(&self.names).1.ask(name, Instant::now()) { Decision::Allow } else { Decision::Deny(Reason::Tunnel) }
    }

    /// Of the addresses that a name was resolved to, those that could be reached; they are the name's from now on.
    pub fn pin(&self, name: &Name, found: Vec<IpAddr>, time_to_live: std::time::Duration) -> Vec<IpAddr> {
        let mut names = lock(&self.names);
        let rules = self.rules.borrow();
        let own = [name.clone()];
        let inside = |address: &IpAddr| rules.decide(address.to_canonical(), &own) == Verdict::Deny(Reason::NotPublic);
        let reachable: Vec<IpAddr> = found.into_iter().filter(|address| !inside(address)).collect();
        let now = Instant::now();
        reachable.iter().for_each(|address| names.0.pin(name, address.to_canonical(), time_to_live, now));
        reachable
    }

    pub fn begin(&self, protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Arc<Live> {
        let id = self.shared.flows.fetch_add(1, Ordering::Relaxed);
        let flow = Flow {
            id,
            owner: self.owner.clone(),
            protocol,
            from,
            to,
            name: None,
            decision: Decision::Allow,
            failed: None,
            sent: 0,
            received: 0,
            began: SystemTime::now(),
        };
        let live = Arc::new(Live { flow: Mutex::new(flow), sent: AtomicU64::new(0), received: AtomicU64::new(0) });
        lock(&self.live).insert(id, Arc::clone(&live));
        live
    }

    pub fn decide(&self, live: &Live, decision: Decision) {
        lock(&live.flow).decision = decision;
        self.shared.inspect.decided(&live.flow());
    }

    /// A flow is over: who looks is told, and what it took is free again.
    pub fn end(&self, live: &Live, key: Key) {
        let flow = live.flow();
        match flow.protocol {
            Protocol::Tcp => drop(lock(&self.connections).remove(&key)),
            Protocol::Udp => drop(lock(&self.datagrams).remove(&key)),
            Protocol::Echo | Protocol::Dns => {}
        }
        self.over(&flow);
    }

    /// Once for each flow.
    fn over(&self, flow: &Flow) {
        if lock(&self.live).remove(&flow.id).is_some() {
            lock(&self.ended).add(flow);
            self.shared.inspect.ended(flow);
        }
    }

    /// Nobody serves the flows any more.
    pub fn end_all(&self) {
        self.flows().iter().for_each(|flow| self.over(flow));
    }

    /// A flow that is refused at once.
    pub fn refused(&self, protocol: Protocol, key: Key, reason: Reason) {
        let live = self.begin(protocol, key.0, key.1);
        self.decide(&live, Decision::Deny(reason));
        self.over(&live.flow());
    }

    pub fn flows(&self) -> Vec<Flow> {
        lock(&self.live).values().map(|live| live.flow()).collect()
    }

    pub fn traffic(&self) -> Traffic {
        let mut traffic = *lock(&self.ended);
        self.flows().iter().for_each(|flow| traffic.add(flow));
        traffic
    }

    /// For sequence numbers. Where the system has no randomness to give it is the time, which nobody within knows as exactly.
    pub fn random(&self) -> u64 {
        getrandom::u64().unwrap_or_else(|_| SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64))
    }
}
