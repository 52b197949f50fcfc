//! Datagrams and echoes of a sandbox: each pair of addresses is a flow, and ends when nothing has passed for a while.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{
    device::Packet,
    flow::{Decision, Protocol, Reason},
    packet::{self, Seen, Unreachable},
    rules::Verdict,
    stack::{Key, Stack},
};

/// Datagrams that wait for the task; more are lost, as on any network.
pub(super) const WAITING: usize = 64;
/// A flow that is silent for so long has ended.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest datagram that comes in.
const MOST: usize = 65_507;
/// The longest echo that is sent on.
const MOST_ECHO: usize = 1_472;

/// Sees a flow of datagrams through.
pub(super) async fn run(stack: Arc<Stack>, key: Key, mut packets: mpsc::Receiver<Packet>) {
    let (from, to) = key;
    let live = stack.begin(Protocol::Udp, from, to);
    stack.decide(&live, Decision::Allow);
    // Seen before the first datagram passes; what changed since it was judged counts, too.
    let mut rules = stack.rules.clone();
    rules.mark_unchanged();
    if !matches!(stack.judge(to.ip()), Verdict::Allow | Verdict::Watch) {
        stack.decide(&live, Decision::Deny(Reason::Denied));
        return stack.end(&live, key);
    }
    let socket = match stack.shared.dial.udp((to.ip().to_canonical(), to.port()).into()).await {
        Ok(socket) => socket,
        Err(error) => {
            live.failed(&error);
            if let Some(first) = packets.recv().await {
                packet::unreachable(first.bytes(), Unreachable::Host).iter().for_each(|answer| stack.device.send(answer));
            }
            return stack.end(&live, key);
        }
    };
    let mut buffer = vec![0; MOST];
    loop {
        tokio::select! {
            packet = packets.recv() => {
                let Some(packet) = packet else { break };
                if let Some(Seen::Udp { payload, .. }) = packet::read(packet.bytes())
                    && let Ok(sent) = socket.send(payload).await
                {
                    live.sent.fetch_add(sent as u64, Ordering::Relaxed);
                }
                packet.done(&stack.device);
            }
            got = socket.recv(&mut buffer) => {
                // That nobody listens there: the sandbox asks again, or does not.
                let Ok(got) = got else { continue };
                live.received.fetch_add(got as u64, Ordering::Relaxed);
                packet::udp(to, from, &buffer[..got]).iter().for_each(|packet| stack.device.send(packet));
            }
            Ok(()) = rules.changed() => {
                if !matches!(stack.judge(to.ip()), Verdict::Allow | Verdict::Watch) {
                    stack.decide(&live, Decision::Deny(Reason::Denied));
                    break;
                }
            }
            () = tokio::time::sleep(SILENCE) => break,
        }
    }
    stack.end(&live, key);
}

/// Answers an echo, or has it answered.
pub(super) fn echo(stack: &Arc<Stack>, (from, to): (IpAddr, IpAddr), packet: Packet, tasks: &mut JoinSet<()>) {
    let Some(Seen::Echo { number, payload, .. }) = packet::read(packet.bytes()) else { return };
    if stack.is_gateway(to) {
        packet::echoed(to, from, number, payload).iter().for_each(|answer| stack.device.send(answer));
        return packet.done(&stack.device);
    }
    let key = (SocketAddr::from((from, 0)), SocketAddr::from((to, 0)));
    let reason = match stack.judge(to) {
        Verdict::Allow | Verdict::Watch => None,
        Verdict::Prove(_) => Some(Reason::NoName),
        Verdict::Deny(reason) => Some(reason),
    };
    if let Some(reason) = reason {
        stack.refused(Protocol::Echo, key, reason);
        packet::unreachable(packet.bytes(), Unreachable::Prohibited).iter().for_each(|answer| stack.device.send(answer));
        return packet.done(&stack.device);
    }
    let turn = Arc::clone(&stack.echoes).try_acquire_owned();
    let (Ok(turn), true) = (turn, payload.len() <= MOST_ECHO) else { return packet.done(&stack.device) };
    let (payload, stack) = (payload.to_vec(), Arc::clone(stack));
    tasks.spawn(async move {
        let live = stack.begin(Protocol::Echo, key.0, key.1);
        stack.decide(&live, Decision::Allow);
        live.sent.fetch_add(payload.len() as u64, Ordering::Relaxed);
        match timeout(SILENCE, stack.shared.dial.echo(to.to_canonical(), payload)).await {
            Ok(Ok(back)) => {
                live.received.fetch_add(back.len() as u64, Ordering::Relaxed);
                packet::echoed(to, from, number, &back).iter().for_each(|answer| stack.device.send(answer));
            }
            Ok(Err(error)) => {
                live.failed(&error);
                packet::unreachable(packet.bytes(), Unreachable::Host).iter().for_each(|answer| stack.device.send(answer));
            }
            Err(_) => {}
        }
        packet.done(&stack.device);
        stack.end(&live, key);
        drop(turn);
    });
}
