//! Asks the servers that the node was given for the addresses of a name.
//!
//! Each question goes from a port of its own with a number of its own, and only an answer from that server to that question counts. What an answer may
//! be used for is not decided here.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::{
    dns::{self, Answer, Family, Heard},
    name::Name,
};

/// For one server's answer; then the next is asked.
const WAIT: Duration = Duration::from_millis(1_500);
const ROUNDS: usize = 2;

/// Finds out the addresses of a name.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of one family. An error is an answer to nobody: the one who asks is told that it failed.
    fn resolve(&self, name: &Name, family: Family) -> BoxFuture<'static, io::Result<Answer>>;
}

/// DNS servers, asked one after the other.
#[derive(Clone, Debug)]
pub struct Servers {
    addresses: Vec<SocketAddr>,
}

impl Servers {
    /// These servers.
    #[must_use]
    pub const fn new(addresses: Vec<SocketAddr>) -> Self {
        Self { addresses }
    }

    /// Those that a `resolv.conf` lists; without any, the one of this machine, as that file's standard says.
    #[must_use]
    pub fn listed(resolv_conf: &str) -> Self {
        let mut addresses: Vec<SocketAddr> = resolv_conf
            .lines()
            .filter_map(|line| line.trim().strip_prefix("nameserver"))
            .filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok())
            .map(|address| (address, 53).into())
            .take(3)
            .collect();
        if addresses.is_empty() {
            addresses.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        Self { addresses }
    }
}

impl Resolve for Servers {
    fn resolve(&self, name: &Name, family: Family) -> BoxFuture<'static, io::Result<Answer>> {
        let (servers, name) = (self.addresses.clone(), name.clone());
        Box::pin(async move {
            let mut last = Ok(Answer::Failed);
            for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
                last = match timeout(WAIT, ask(*server, &name, family)).await {
                    Ok(Ok(Answer::Failed)) => Ok(Answer::Failed),
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(error)) => Err(error),
                    Err(late) => Err(late.into()),
                };
            }
            last
        })
    }
}

async fn ask(server: SocketAddr, name: &Name, family: Family) -> io::Result<Answer> {
    let id = getrandom::u32().map_err(|error| io::Error::other(error.to_string()))? as u16;
    let message = dns::ask(id, name, family);
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&message).await?;
    let mut buffer = [0; 4_096];
    loop {
        let got = socket.recv(&mut buffer).await?;
        match dns::heard(&buffer[..got], id, name, family) {
            Some(Heard::Answer(answer)) => return Ok(answer),
            Some(Heard::Truncated) => return ask_whole(server, &message, id, name, family).await,
            None => {}
        }
    }
}

/// Over a connection, for what does not fit in a datagram.
async fn ask_whole(server: SocketAddr, message: &[u8], id: u16, name: &Name, family: Family) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    match dns::heard(&buffer, id, name, family) {
        Some(Heard::Answer(answer)) => Ok(answer),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the server answered another question")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_taken_from_the_file() {
        let text = "# nameserver 9.9.9.9\nsearch x\nnameserver 1.1.1.1\n nameserver\t2606:4700::1111 \nnameserver bad\n";
        assert_eq!(Servers::listed(text).addresses, ["1.1.1.1:53".parse().unwrap(), "[2606:4700::1111]:53".parse().unwrap()]);
        assert_eq!(Servers::listed("").addresses, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_asked_for_again_over_a_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(address).await.unwrap();
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (got, from) = socket.recv_from(&mut buffer).await.unwrap();
            let mut cut = dns::answer(&dns::question(&buffer[..got]).unwrap(), &Answer::Found(Vec::new(), Duration::ZERO));
            cut[2] |= 2;
            socket.send_to(&cut, from).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut message = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut message).await.unwrap();
            let found = Answer::Found(vec!["1.2.3.4".parse().unwrap()], Duration::from_secs(9));
            let whole = dns::answer(&dns::question(&message).unwrap(), &found);
            stream.write_u16(u16::try_from(whole.len()).unwrap()).await.unwrap();
            stream.write_all(&whole).await.unwrap();
        });
        let answer = Servers::new(vec![address]).resolve(&"good.org".parse().unwrap(), Family::V4).await.unwrap();
        assert!(matches!(answer, Answer::Found(found, _) if found.len() == 1));
        answering.await.unwrap();
    }

    #[tokio::test]
    async fn forged_answers_are_passed_over() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let servers = Servers::new(vec![server.local_addr().unwrap()]);
        let name: Name = "good.org".parse().unwrap();
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (got, from) = server.recv_from(&mut buffer).await.unwrap();
            let question = dns::question(&buffer[..got]).unwrap();
            let found = |address: &str| Answer::Found(vec![address.parse().unwrap()], Duration::from_secs(9));
            let mut forged = dns::answer(&question, &found("6.6.6.6"));
            forged[0] ^= 0x55;
            server.send_to(&forged, from).await.unwrap();
            server.send_to(b"", from).await.unwrap();
            server.send_to(&dns::answer(&question, &found("1.2.3.4")), from).await.unwrap();
        });
        let answer = servers.resolve(&name, Family::V4).await.unwrap();
        assert_eq!(answer, Answer::Found(vec!["1.2.3.4".parse().unwrap()], Duration::from_secs(9)));
        answering.await.unwrap();
    }
}
