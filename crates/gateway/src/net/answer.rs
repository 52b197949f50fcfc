//! The resolver that a sandbox asks, at its gateway: who may ask for what, and what an answer may say.
//!
//! Only addresses are answered, under the very name that was asked for. A name whose addresses are all inside has none. What is answered is pinned.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinSet,
    time::timeout,
};

use super::{
    device::Packet,
    dns::{self, Answer, Question},
    flow::{Decision, Protocol, Reason},
    packet::{self, Seen},
    pins,
    stack::{Key, Stack},
};

/// Where it listens.
pub(super) const PORT: u16 = 53;
/// The longest question.
const MOST: u16 = 1_024;
/// For all servers together.
const WAIT: Duration = Duration::from_secs(10);
/// A connection that asks nothing for so long is closed.
const SILENCE: Duration = Duration::from_secs(30);

/// A question by datagram.
pub(super) fn datagram(stack: &Arc<Stack>, (from, to): Key, packet: Packet, tasks: &mut JoinSet<()>) {
    let question = match packet::read(packet.bytes()) {
        Some(Seen::Udp { payload, .. }) => dns::question(payload),
        _ => None,
    };
    packet.done(&stack.device);
    let turn = Arc::clone(&stack.questions).try_acquire_owned();
    let (Some(question), Ok(turn)) = (question, turn) else { return };
    let stack = Arc::clone(stack);
    tasks.spawn(async move {
        let message = answered(&stack, &question, (from, to)).await;
        packet::udp(to, from, &message).iter().for_each(|packet| stack.device.send(packet));
        drop(turn);
    });
}

impl Stack {
    /// The other end of a connection to the resolver. `None`: nobody listens at that port.
    pub(super) fn resolver_connection(self: &Arc<Self>, port: u16, from: SocketAddr) -> Option<UnixStream> {
        if port != PORT {
            return None;
        }
        let (here, there) = UnixStream::pair().ok()?;
        let stack = Arc::clone(self);
        // It ends with the other end, which the connection's task has.
        tokio::spawn(async move { stack.questions(there, from).await });
        Some(here)
    }

    /// Questions of one connection, each behind its length; one after the other.
    async fn questions(self: Arc<Self>, mut stream: UnixStream, from: SocketAddr) -> io::Result<()> {
        let to = SocketAddr::from((super::GATEWAY[usize::from(from.is_ipv6())], PORT));
        loop {
            let length = timeout(SILENCE, stream.read_u16()).await??;
            let mut message = vec![0; length.min(MOST).into()];
            timeout(SILENCE, stream.read_exact(&mut message)).await??;
            let Some(question) = dns::question(&message).filter(|_| length <= MOST) else { return Ok(()) };
            let message = answered(&self, &question, (from, to)).await;
            let length = u16::try_from(message.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes(), &message[..]].concat()).await?;
        }
    }
}

/// The answer to a question: a flow of its own.
async fn answered(stack: &Stack, question: &Question, key: Key) -> Vec<u8> {
    let live = stack.begin(Protocol::Dns, key.0, key.1);
    live.named(&question.name);
    let decision = stack.may_ask(&question.name);
    stack.decide(&live, decision);
    let answer = match (decision, question.family) {
        (Decision::Deny(_), _) => Answer::Refused,
        // Services, keys, texts: nothing that a connection needs, and the best way for data to leave or come in.
        (Decision::Allow, None) => Answer::Found(Vec::new(), Duration::ZERO),
        (Decision::Allow, Some(family)) => {
            live.sent.fetch_add(question.name.as_str().len() as u64, Ordering::Relaxed);
            match timeout(WAIT, stack.shared.resolve.resolve(&question.name, family)).await {
                Ok(Ok(Answer::Found(found, time_to_live))) => {
                    let any = !found.is_empty();
                    let reachable = stack.pin(&question.name, found, time_to_live);
                    if any && reachable.is_empty() {
                        stack.decide(&live, Decision::Deny(Reason::NotPublic));
                    }
                    live.received.fetch_add(reachable.len() as u64 * 4, Ordering::Relaxed);
                    Answer::Found(reachable, time_to_live.min(pins::holds(time_to_live)))
                }
                Ok(Ok(other)) => other,
                Ok(Err(error)) => {
                    live.failed(&error);
                    Answer::Failed
                }
                Err(_) => Answer::Failed,
            }
        }
    };
    stack.end(&live, key);
    dns::answer(question, &answer)
}
