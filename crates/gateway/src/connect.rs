//! Connections to the outside: name, address, judgement, TCP, TLS. Driven by the clients of `outbound.rs`.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::Egress;

/// From a name to a connection that can be used.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

fn tls(protocols: &[&[u8]]) -> Result<TlsConnector, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Opens connections, to addresses that the policy allows.
#[derive(Clone)]
pub(crate) struct Connector {
    pub policy: Egress,
    http: TlsConnector,
    pub websocket: TlsConnector,
}

impl Connector {
    pub fn new(policy: Egress) -> Result<Self, rustls::Error> {
        Ok(Self { policy, http: tls(&[b"h2", b"http/1.1"])?, websocket: tls(&[b"http/1.1"])? })
    }

    pub async fn open(&self, uri: &Uri, tls: &TlsConnector) -> io::Result<Wire> {
        tokio::time::timeout(CONNECT_TIMEOUT, self.connect(uri, tls))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long")))
    }

    async fn connect(&self, uri: &Uri, tls: &TlsConnector) -> io::Result<Wire> {
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        // Judged and connected to in one go: a name that changes its mind between question and connection gains nothing.
        let tcp = self.reach(&host, port).await?;
        tcp.set_nodelay(true)?;
        if !secure {
            return Ok(Wire::Plain(tcp));
        }
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        Ok(Wire::Tls(Box::new(tls.connect(name, tcp).await?)))
    }

    async fn reach(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut refused = false;
        let mut last = None;
        for address in tokio::net::lookup_host((host, port)).await? {
            if !self.policy.allows(address.ip()) {
                refused = true;
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        let message = if refused {
            format!("{host} is not a public address, and this node lets workers reach public addresses only")
        } else {
            format!("{host} has no address")
        };
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, message)))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Wire>>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.open(&uri, &connector.http).await.map(TokioIo::new) })
    }
}

/// A connection, with TLS or without.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => Connected::new().negotiated_h2(),
            _ => Connected::new(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
