//! An outside of the test's own: servers of this process stand for addresses of the Internet, and a table for the world's names.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use skep_gateway::net::{Answer, Dial, Family, Name, Resolve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

type Opening<T> = std::pin::Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Which addresses there are, who stands for them, and which of them were dialled.
#[derive(Default)]
pub struct Outside {
    stand_ins: Mutex<HashMap<SocketAddr, SocketAddr>>,
    dialled: Mutex<Vec<SocketAddr>>,
    /// How long it takes until a connection is open, in milliseconds.
    pub delay: AtomicU64,
}

impl Outside {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// All that was dialled, in order.
    pub fn dialled(&self) -> Vec<SocketAddr> {
        self.dialled.lock().unwrap().clone()
    }

    fn find(&self, to: SocketAddr) -> io::Result<SocketAddr> {
        self.dialled.lock().unwrap().push(to);
        self.stand_ins.lock().unwrap().get(&to).copied().ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }

    /// `serve` is every connection to `address`.
    pub async fn serve<F: Future<Output = ()> + Send + 'static>(&self, address: &str, serve: impl Fn(TcpStream) -> F + Send + 'static) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.stand_ins.lock().unwrap().insert(address.parse().unwrap(), listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    }

    /// A page, for whoever sends the end of a request; and how much was sent by all who ever came.
    pub async fn page(&self, address: &str, text: &str) -> Arc<AtomicUsize> {
        let heard = Arc::new(AtomicUsize::new(0));
        let (counted, text) = (Arc::clone(&heard), text.to_owned());
        self.serve(address, move |mut stream| {
            let (counted, text) = (Arc::clone(&counted), text.clone());
            async move {
                let (mut request, mut buffer) = (Vec::new(), [0; 4_096]);
                while let Ok(got @ 1..) = stream.read(&mut buffer).await {
                    counted.fetch_add(got, Ordering::Relaxed);
                    request.extend_from_slice(&buffer[..got]);
                    if request.ends_with(b"\r\n\r\n") || request.first() == Some(&0x16) {
                        let _ = stream.write_all(text.as_bytes()).await;
                        return;
                    }
                }
            }
        })
        .await;
        heard
    }

    /// Sends back what comes, to its end.
    pub async fn echo(&self, address: &str) {
        self.serve(address, |mut stream| async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        })
        .await;
    }

    pub async fn echo_datagrams(&self, address: &str) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        self.stand_ins.lock().unwrap().insert(address.parse().unwrap(), socket.local_addr().unwrap());
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            while let Ok((got, from)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&buffer[..got], from).await;
            }
        });
    }
}

impl Dial for Outside {
    fn is_own(&self, to: IpAddr) -> bool {
        to.is_loopback() || to == IpAddr::from([203, 0, 114, 7])
    }

    fn tcp(&self, to: SocketAddr) -> Opening<TcpStream> {
        let found = self.find(to);
        let delay = Duration::from_millis(self.delay.load(Ordering::Relaxed));
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            TcpStream::connect(found?).await
        })
    }

    fn udp(&self, to: SocketAddr) -> Opening<UdpSocket> {
        let found = self.find(to);
        Box::pin(async move {
            let socket = UdpSocket::bind("127.0.0.1:0").await?;
            socket.connect(found?).await?;
            Ok(socket)
        })
    }

    fn echo(&self, to: IpAddr, payload: Vec<u8>) -> Opening<Vec<u8>> {
        self.dialled.lock().unwrap().push((to, 0).into());
        Box::pin(async move { Ok(payload) })
    }
}

/// The world's names; they may change at any time, and say anything.
#[derive(Default)]
pub struct Names {
    table: Mutex<HashMap<String, Vec<IpAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    pub fn new(names: &[(&str, &str)]) -> Arc<Self> {
        let all = Self::default();
        names.iter().for_each(|(name, address)| all.say(name, &[address]));
        Arc::new(all)
    }

    pub fn say(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.table.lock().unwrap().insert(name.to_owned(), addresses);
    }

    /// All that was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Resolve for Names {
    fn resolve(&self, name: &Name, family: Family) -> Opening<Answer> {
        self.asked.lock().unwrap().push(name.to_string());
        let found = self.table.lock().unwrap().get(name.as_str()).cloned();
        let answer = match found {
            Some(addresses) => {
                let fitting = addresses.into_iter().filter(|address| address.is_ipv4() == (family == Family::V4)).collect();
                Answer::Found(fitting, Duration::from_secs(60))
            }
            None => Answer::NoName,
        };
        Box::pin(async move { Ok(answer) })
    }
}
