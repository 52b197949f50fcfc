//! How connections to the outside are opened, behind a trait, so that what decides about them is tried without any.
//!
//! It judges nothing but one thing: what is this machine's own, which only it can know.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use futures_util::future::BoxFuture;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};

/// From the first packet to a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// What an echo waits for.
const ECHO: Duration = Duration::from_secs(5);

/// Opens what a flow needs on the outside.
pub trait Dial: Send + Sync + 'static {
    /// Whether an address is this machine's own: whoever connects there speaks to the host's own services.
    fn is_own(&self, to: IpAddr) -> bool;

    /// A connection.
    fn tcp(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>>;

    /// A socket for datagrams that is connected to the address.
    fn udp(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<UdpSocket>>;

    /// Sends an ICMP echo and returns what came back.
    fn echo(&self, to: IpAddr, payload: Vec<u8>) -> BoxFuture<'static, io::Result<Vec<u8>>>;
}

/// The network as it is.
#[derive(Debug, Default)]
pub struct Direct {
    echoes: AtomicU16,
}

impl Dial for Direct {
    /// Asks the kernel which address it would speak from: to itself it speaks from the very address. Sends nothing.
    fn is_own(&self, to: IpAddr) -> bool {
        if to.is_loopback() || to.is_unspecified() {
            return true;
        }
        let asked = || -> io::Result<IpAddr> {
            let socket = std::net::UdpSocket::bind(unbound(to))?;
            socket.connect((to, 9))?;
            Ok(socket.local_addr()?.ip())
        };
        asked().is_ok_and(|from| from == to)
    }

    fn tcp(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        Box::pin(async move {
            let stream = tokio::time::timeout(CONNECT, TcpStream::connect(to)).await??;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }

    fn udp(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<UdpSocket>> {
        Box::pin(async move {
            let socket = UdpSocket::bind(unbound(to.ip())).await?;
            socket.connect(to).await?;
            Ok(socket)
        })
    }

    fn echo(&self, to: IpAddr, payload: Vec<u8>) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let sequence = self.echoes.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { tokio::time::timeout(ECHO, echo(to, &payload, sequence)).await? })
    }
}

fn unbound(like: IpAddr) -> SocketAddr {
    match like {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// By a socket for echoes alone, which needs no privilege where `net.ipv4.ping_group_range` holds the node's group. The kernel sets its number.
async fn echo(to: IpAddr, payload: &[u8], sequence: u16) -> io::Result<Vec<u8>> {
    let (domain, protocol, kind, reply) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.connect(&SocketAddr::from((to, 0)).into())?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket.into())?;
    let [high, low] = sequence.to_be_bytes();
    let mut message = vec![kind, 0, 0, 0, 0, 0, high, low];
    message.extend_from_slice(payload);
    let sum = if kind == 8 { super::packet::checksum(0, &message) } else { 0 };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    socket.send(&message).await?;
    let mut buffer = vec![0; message.len() + 64];
    loop {
        let got = socket.recv(&mut buffer).await?;
        if got >= 8 && buffer[0] == reply && buffer[6..8] == [high, low] {
            return Ok(buffer[8..got].to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_knows_itself() {
        let direct = Direct::default();
        for own in ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::1", "::"] {
            assert!(direct.is_own(own.parse().unwrap()), "{own}");
        }
        for other in ["192.0.2.1", "2001:db8::1"] {
            assert!(!direct.is_own(other.parse().unwrap()), "{other}");
        }
    }
}
