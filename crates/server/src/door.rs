//! The listener for the hosts of sandboxes, and what is for them of whatever comes in anywhere.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use axum::body::Body as HttpBody;
use http::{Request, Response, header};
use hyper::body::Incoming;
use skep_node::Node;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    BindError, Config,
    authority::Authority,
    e2b::{Claim, Client, Proxy, claim, wrong},
    listen::acceptor,
};

/// Where it listens when nobody says so.
const PORT: u16 = 7_443;

/// The folder of the certificate authority, in the data folder.
const AUTHORITY: &str = "authority";

/// The listener.
pub(crate) struct Door {
    listener: TcpListener,
    port: u16,
    tls: TlsAcceptor,
    authority: Option<PathBuf>,
}

impl Door {
    /// Opens it where the node has sandboxes.
    pub async fn open(config: &Config, front: SocketAddr, node: &Node) -> Result<Option<Self>, BindError> {
        if node.sandboxes().is_none() {
            return Ok(None);
        }
        let (tls, authority) = match &config.sandboxes.tls {
            Some(files) => (acceptor(files)?, None),
            None => made(&node.config().data.join(AUTHORITY), &config.sandboxes.domain)?,
        };
        let listener = match config.sandboxes.listen {
            Some(address) => TcpListener::bind(address).await.map_err(|error| BindError::Listen(address, error))?,
            None => anywhere(front, config.listen.port()).await?,
        };
        let port = listener.local_addr().map_err(|error| BindError::Listen(front, error))?.port();
        Ok(Some(Self { listener, port, tls, authority }))
    }

    pub fn listener(&self) -> &TcpListener {
        &self.listener
    }

    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.tls
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn authority(&self) -> Option<PathBuf> {
        self.authority.clone()
    }
}

/// The usual port, or any: a second node on a machine is no reason to fail where nobody asked for a port.
async fn anywhere(front: SocketAddr, asked: u16) -> Result<TcpListener, BindError> {
    let usual = SocketAddr::new(front.ip(), PORT);
    if asked != 0
        && let Ok(listener) = TcpListener::bind(usual).await
    {
        return Ok(listener);
    }
    let any = SocketAddr::new(front.ip(), 0);
    TcpListener::bind(any).await.map_err(|error| BindError::Listen(any, error))
}

fn made(folder: &std::path::Path, domain: &str) -> Result<(TlsAcceptor, Option<PathBuf>), BindError> {
    let authority = Authority::open(folder, domain)?;
    let file = authority.file().to_owned();
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(crate::authority::AuthorityError::from)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(authority));
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(tls)), Some(file)))
}

/// The hosts of sandboxes.
pub(crate) struct Hosts {
    domain: String,
    proxy: Arc<Proxy>,
}

/// What became of a request.
pub(crate) enum Taken {
    /// It was for a sandbox.
    Answered(Response<HttpBody>),
    /// It is for the control routes, by the name of its host.
    ForControl(Request<Incoming>),
    /// It is for no sandbox.
    NotOurs(Request<Incoming>),
}

impl Hosts {
    pub fn new(config: &Config, node: &Node, stopping: &CancellationToken) -> Self {
        let domain = config.sandboxes.domain.trim_matches('.').to_ascii_lowercase();
        let proxy = Proxy { node: node.clone(), stopping: stopping.clone(), served: crate::e2b::served() };
        Self { domain, proxy: Arc::new(proxy) }
    }

    /// The domain as clients write it.
    pub fn shown(&self, port: u16) -> String {
        if port == 443 { self.domain.clone() } else { format!("{}:{port}", self.domain) }
    }

    /// Answers a request that is for a sandbox.
    pub async fn take(&self, request: Request<Incoming>, peer: SocketAddr, scheme: &'static str) -> Taken {
        let claimed = {
            let headers = request.headers();
            let mut hosts = headers.get_all(header::HOST).iter();
            let host = match request.uri().authority() {
                Some(authority) => Some(authority.as_str()),
                None => hosts.next().and_then(|host| host.to_str().ok()),
            };
            // Two hosts, or two ids: who reads which would be a matter of luck.
            let twice = |name: &str| headers.get_all(name).iter().nth(1).is_some();
            if twice("host") || twice("e2b-sandbox-id") || twice("e2b-sandbox-port") {
                return Taken::Answered(wrong("a header that says where the request goes is there twice"));
            }
            let one = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
            host.and_then(|host| claim(host, one("e2b-sandbox-id"), one("e2b-sandbox-port"), &self.domain))
        };
        match claimed {
            None => Taken::NotOurs(request),
            Some(Claim::Control) => Taken::ForControl(request),
            Some(Claim::Wrong(why)) => Taken::Answered(wrong(why)),
            Some(Claim::Sandbox(address)) => {
                Taken::Answered(Arc::clone(&self.proxy).serve(address, request, Client { peer, scheme }).await)
            }
        }
    }
}
