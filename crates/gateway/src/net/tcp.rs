//! One connection of a sandbox, from its first packet to its end: judged, opened on the outside, answered, looked at, and then passed on in both directions.
//!
//! The sandbox hears that it is connected only when it is; what is refused is refused as a host refuses. A task of its own, which owns all of it.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustix::net::Shutdown;
use smoltcp::socket::tcp::State;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::{mpsc, watch},
    time::{Instant, Sleep},
};

use super::{
    device::Packet,
    endpoint::Endpoint,
    flow::{Decision, Protocol},
    packet::{self, Segment, Unreachable},
    rules::{Rules, Verdict},
    sniff::{self, Shown, sniff},
    stack::{Key, Live, Stack},
};

/// Packets that wait for the task: more than a window holds.
pub(super) const WAITING: usize = 64;

/// The other end of what a sandbox connects to.
pub(super) enum Upstream {
    /// Somebody outside.
    Outside(TcpStream),
    /// This node's resolver.
    Here(UnixStream),
}

impl Upstream {
    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Outside(stream) => stream.try_read(into),
            Self::Here(stream) => stream.try_read(into),
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Outside(stream) => stream.try_write(bytes),
            Self::Here(stream) => stream.try_write(bytes),
        }
    }

    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Outside(stream) => stream.readable().await,
            Self::Here(stream) => stream.readable().await,
        }
    }

    async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Outside(stream) => stream.writable().await,
            Self::Here(stream) => stream.writable().await,
        }
    }

    /// Nothing more comes from the sandbox.
    fn finish(&self) {
        // Who has gone already need not be told.
        let _ = match self {
            Self::Outside(stream) => rustix::net::shutdown(stream, Shutdown::Write),
            Self::Here(stream) => rustix::net::shutdown(stream, Shutdown::Write),
        };
    }

    /// Ends it as the sandbox did: without a good-bye.
    fn reset(self) {
        if let Self::Outside(stream) = self {
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// What began it.
pub(super) struct Opening {
    pub key: Key,
    pub syn: Packet,
    pub segment: Segment,
    pub packets: mpsc::Receiver<Packet>,
}

/// Sees a connection through.
pub(super) async fn run(stack: Arc<Stack>, opening: Opening) {
    let Opening { key: (from, to), syn, segment, mut packets } = opening;
    let live = stack.begin(Protocol::Tcp, from, to);
    let refuse = |answer: Option<Vec<u8>>| answer.iter().for_each(|answer| stack.device.send(answer));
    if stack.is_gateway(to.ip()) {
        match stack.resolver_connection(to.port(), from) {
            Some(here) => {
                stack.decide(&live, Decision::Allow);
                Connection::new(&stack, &live, (from, to), &syn, Upstream::Here(here)).pass(&mut packets, None).await;
            }
            None => refuse(packet::reset(from, to, &segment)),
        }
        return stack.end(&live, (from, to));
    }
    // Seen before it is judged: what changes from here on is heard of.
    let mut rules = stack.rules.clone();
    rules.mark_unchanged();
    let opened = match stack.judge(to.ip()) {
        Verdict::Deny(reason) => Err(reason),
        verdict => Ok((verdict, open(&stack, to).await)),
    };
    // Rules that came while it was being opened hold for it, too.
    let opened = match (opened, rules.has_changed()) {
        (Ok((_, outside)), Ok(true)) => {
            rules.mark_unchanged();
            match stack.judge(to.ip()) {
                Verdict::Deny(reason) => Err(reason),
                verdict => Ok((verdict, outside)),
            }
        }
        (opened, _) => opened,
    };
    match opened {
        Err(reason) => {
            stack.decide(&live, Decision::Deny(reason));
            refuse(packet::reset(from, to, &segment));
        }
        Ok((verdict, Ok(outside))) => {
            let connection = Connection::new(&stack, &live, (from, to), &syn, Upstream::Outside(outside));
            connection.pass(&mut packets, Some((verdict, rules))).await;
        }
        Ok((_, Err(error))) => {
            stack.decide(&live, Decision::Allow);
            live.failed(&error);
            // One that is reset before it was told of is as good as refused.
            refuse(if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset) {
                packet::reset(from, to, &segment)
            } else {
                packet::unreachable(syn.bytes(), Unreachable::Host)
            });
        }
    }
    syn.done(&stack.device);
    stack.end(&live, (from, to));
}

async fn open(stack: &Stack, to: SocketAddr) -> io::Result<TcpStream> {
    let _turn = stack.connecting.acquire().await.map_err(io::Error::other)?;
    stack.shared.dial.tcp((to.ip().to_canonical(), to.port()).into()).await
}

struct Connection<'a> {
    stack: &'a Stack,
    live: &'a Live,
    to: SocketAddr,
    end: Endpoint,
    upstream: Upstream,
    /// Nothing passes to the outside.
    shut: bool,
    sandbox_finished: bool,
    outside_finished: bool,
}

/// What a turn of passing on came to.
struct Turn {
    /// More would come from the outside if it were waited for.
    wants_read: bool,
    /// The outside takes no more at the moment.
    wants_write: bool,
    /// There is more at once, but others have their turn first.
    again: bool,
}

enum Over {
    /// Both sides have finished.
    Finished,
    /// One has gone without.
    Broken,
}

impl<'a> Connection<'a> {
    fn new(stack: &'a Stack, live: &'a Live, key: Key, syn: &Packet, upstream: Upstream) -> Self {
        let mut end = Endpoint::new(&stack.device, key.1, stack.mtu, stack.random());
        end.take(&stack.device, syn.bytes());
        end.tell(&stack.device);
        Self { stack, live, to: key.1, end, upstream, shut: false, sandbox_finished: false, outside_finished: false }
    }

    /// Passes on in both directions until the end. With a verdict it is looked at first, and judged again when the rules change.
    async fn pass(mut self, packets: &mut mpsc::Receiver<Packet>, judged: Option<(Verdict, watch::Receiver<Rules>)>) {
        let (mut verdict, mut rules) = match judged {
            Some((verdict, rules)) => (Some(verdict), rules),
            None => (None, self.stack.rules.clone()),
        };
        self.shut = verdict.is_some();
        let timer = tokio::time::sleep(Duration::from_secs(3_600));
        tokio::pin!(timer);
        loop {
            if self.shut
                && let Some(current) = &verdict
            {
                match self.look(current) {
                    Some(Decision::Allow) => self.shut = false,
                    Some(Decision::Deny(_)) => return self.abort(),
                    None => {}
                }
            }
            let turn = match self.turn() {
                Ok(turn) => turn,
                Err(Over::Finished) => return,
                Err(Over::Broken) => return self.upstream.reset(),
            };
            set(timer.as_mut(), self.end.next());
            tokio::select! {
                packet = packets.recv() => {
                    let Some(packet) = packet else { return self.abort() };
                    self.take(packet);
                    // What has come meanwhile is taken with it: one answer for all.
                    while let Ok(packet) = packets.try_recv() {
                        self.take(packet);
                    }
                }
                _ = self.upstream.readable(), if turn.wants_read => {}
                _ = self.upstream.writable(), if turn.wants_write => {}
                () = timer.as_mut() => timer.as_mut().reset(Instant::now() + Duration::from_secs(3_600)),
                () = tokio::task::yield_now(), if turn.again => {}
                Ok(()) = rules.changed(), if verdict.is_some() => {
                    match self.stack.judge(self.to.ip()) {
                        Verdict::Deny(reason) => {
                            self.stack.decide(self.live, Decision::Deny(reason));
                            return self.abort();
                        }
                        changed => {
                            if !self.shut && !self.holds(&changed) {
                                return self.abort();
                            }
                            verdict = Some(changed);
                        }
                    }
                }
            }
        }
    }

    fn take(&mut self, packet: Packet) {
        self.end.take(&self.stack.device, packet.bytes());
        packet.done(&self.stack.device);
    }

    /// What is decided of a connection by its first bytes. `None`: they are not enough.
    fn look(&mut self, verdict: &Verdict) -> Option<Decision> {
        let flow = self.live.flow();
        let wanted = self.stack.shared.inspect.wants(&flow);
        let mut shown = Shown::Opaque;
        if *verdict != Verdict::Allow || wanted {
            let finished = is_open(self.end.socket().state()) && !self.end.socket().may_recv();
            let first = self.end.socket().peek(sniff::MOST).unwrap_or_default();
            shown = match sniff(first) {
                Shown::More if finished && first.is_empty() => Shown::Opaque,
                Shown::More if finished => Shown::Hidden,
                Shown::More => return None,
                shown => shown,
            };
        }
        if let Shown::Name(name) = &shown {
            self.live.named(name);
        }
        let mut decision = self.stack.rules.borrow().shown(verdict, self.to.port(), &shown);
        if decision == Decision::Allow && wanted {
            let first = self.end.socket().peek(sniff::MOST).unwrap_or_default();
            decision = self.stack.shared.inspect.first(&self.live.flow(), first);
        }
        self.stack.decide(self.live, decision);
        Some(decision)
    }

    /// Whether a connection that was let through still is under other rules: by the name that it showed then.
    fn holds(&self, verdict: &Verdict) -> bool {
        let shown = self.live.flow().name.map_or(Shown::Opaque, Shown::Name);
        let decision = self.stack.rules.borrow().shown(verdict, self.to.port(), &shown);
        if decision != Decision::Allow {
            self.stack.decide(self.live, decision);
        }
        decision == Decision::Allow
    }

    fn turn(&mut self) -> Result<Turn, Over> {
        let mut turn = Turn { wants_read: false, wants_write: false, again: false };
        if !self.shut {
            self.outward(&mut turn)?;
        }
        self.inward(&mut turn)?;
        self.end.tell(&self.stack.device);
        match self.end.socket().state() {
            State::TimeWait => Err(Over::Finished),
            State::Closed if self.sandbox_finished && self.outside_finished => Err(Over::Finished),
            State::Closed | State::Listen => Err(Over::Broken),
            _ => Ok(turn),
        }
    }

    fn outward(&mut self, turn: &mut Turn) -> Result<(), Over> {
        let (upstream, sent) = (&self.upstream, &self.live.sent);
        let socket = self.end.socket();
        for _ in 0..ROUNDS {
            if !socket.can_recv() {
                break;
            }
            let written = socket.recv(|bytes| match upstream.try_write(bytes) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match written {
                Ok(Ok(count)) => drop(sent.fetch_add(count as u64, Ordering::Relaxed)),
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    turn.wants_write = true;
                    break;
                }
                Ok(Err(_)) | Err(_) => return Err(self.broken()),
            }
        }
        let socket = self.end.socket();
        turn.again |= socket.can_recv() && !turn.wants_write;
        if !self.sandbox_finished && is_open(socket.state()) && !socket.may_recv() {
            self.sandbox_finished = true;
            self.upstream.finish();
        }
        Ok(())
    }

    fn inward(&mut self, turn: &mut Turn) -> Result<(), Over> {
        if self.outside_finished {
            return Ok(());
        }
        let (upstream, received) = (&self.upstream, &self.live.received);
        let socket = self.end.socket();
        for _ in 0..ROUNDS {
            if !socket.can_send() {
                break;
            }
            let read = socket.send(|space| match upstream.try_read(space) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match read {
                Ok(Ok(0)) => {
                    self.outside_finished = true;
                    socket.close();
                    return Ok(());
                }
                Ok(Ok(count)) => drop(received.fetch_add(count as u64, Ordering::Relaxed)),
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    turn.wants_read = true;
                    return Ok(());
                }
                Ok(Err(_)) | Err(_) => return Err(self.broken()),
            }
        }
        turn.again |= self.end.socket().can_send();
        Ok(())
    }

    /// The outside has gone without a good-bye: so does this side.
    fn broken(&mut self) -> Over {
        self.end.socket().abort();
        self.end.tell(&self.stack.device);
        Over::Broken
    }

    fn abort(mut self) {
        self.end.socket().abort();
        self.end.tell(&self.stack.device);
        self.upstream.reset();
    }
}

/// Buffers of one direction before the other has its turn.
const ROUNDS: usize = 4;

/// Whether a connection stands: before, that nothing can be received says nothing.
fn is_open(state: State) -> bool {
    !matches!(state, State::Closed | State::Listen | State::SynSent | State::SynReceived)
}

/// A timer that rings too early does no harm; one that is set again for each packet costs.
fn set(mut timer: std::pin::Pin<&mut Sleep>, wanted: Option<Duration>) {
    let Some(wanted) = wanted else { return };
    let wanted = Instant::now() + wanted;
    if timer.is_elapsed() || wanted < timer.deadline() {
        timer.as_mut().reset(wanted);
    }
}
