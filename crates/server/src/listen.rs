//! Connections: accepting them, speaking HTTP on them, and letting go of them at the end.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{body::Body as HttpBody, response::IntoResponse};
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use skep_node::Node;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    Config, TlsConfig,
    control::{Control, Places, router},
    dispatch::Dispatch,
};

/// A client that opened a connection and does not finish the TLS handshake is not waited for.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the front does not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The domain of sandboxes has no certificate authority.
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Authority(#[from] crate::authority::AuthorityError),
    /// The certificate or its key cannot be used.
    #[error("cannot use the certificate {} with the key {}: {}", .0.cert.display(), .0.key.display(), .1)]
    Tls(TlsConfig, String),
}

/// A front that is bound and not yet serving.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    node: Node,
    front: Arc<Front>,
    tls: Option<TlsAcceptor>,
    #[cfg(target_os = "linux")]
    door: Option<crate::door::Door>,
    connections: Arc<Semaphore>,
    tasks: TaskTracker,
    drain: Duration,
}

/// What every connection shares.
struct Front {
    control: axum::Router,
    dispatch: Arc<Dispatch>,
    #[cfg(target_os = "linux")]
    sandboxes: Arc<crate::door::Hosts>,
    http: Builder<TokioExecutor>,
    /// The node stops: end what would never end, finish what will.
    stopping: CancellationToken,
}

impl Server {
    /// Listens. Nothing is answered before [`Server::run`].
    ///
    /// # Errors
    /// When the address is taken, or the certificate cannot be used.
    pub async fn bind(config: &Config, node: Node) -> Result<Self, BindError> {
        let tls = config.tls.as_ref().map(acceptor).transpose()?;
        let listener = TcpListener::bind(config.listen).await.map_err(|error| BindError::Listen(config.listen, error))?;
        let address = listener.local_addr().map_err(|error| BindError::Listen(config.listen, error))?;
        let stopping = CancellationToken::new();
        let scheme = if tls.is_some() { "https" } else { "http" };
        #[cfg(target_os = "linux")]
        let door = crate::door::Door::open(config, address, &node).await?;
        #[cfg(target_os = "linux")]
        let hosts = crate::door::Hosts::new(config, &node, &stopping);
        #[cfg(target_os = "linux")]
        let sandboxes = hosts.shown(door.as_ref().map_or(address.port(), crate::door::Door::port));
        #[cfg(target_os = "linux")]
        node.sandboxes_answer_below(&sandboxes);
        #[cfg(not(target_os = "linux"))]
        let sandboxes = String::new();
        let places = Places { scheme, domain: node.config().domain.clone(), port: address.port(), host: shown_host(address), sandboxes };
        let control = Control { node: node.clone(), places, stopping: stopping.clone(), body_bytes_max: config.control_body_bytes_max };
        let dispatch = Dispatch {
            node: node.clone(),
            scheme,
            domain: format!(".{}", node.config().domain),
            body_bytes_max: config.body_bytes_max,
            message_bytes_max: config.message_bytes_max,
            stopping: stopping.clone(),
        };
        let front = Front {
            control: router(&control),
            dispatch: Arc::new(dispatch),
            #[cfg(target_os = "linux")]
            sandboxes: Arc::new(hosts),
            http: http(config),
            stopping,
        };
        Ok(Self {
            listener,
            address,
            node,
            front: Arc::new(front),
            tls,
            #[cfg(target_os = "linux")]
            door,
            connections: Arc::new(Semaphore::new(config.connections_max)),
            tasks: TaskTracker::new(),
            drain: Duration::from_millis(config.drain_ms),
        })
    }

    /// Where it listens; with port 0 in the settings, the port that the system chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The front's own URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}:{}", self.front.dispatch.scheme, shown_host(self.address), self.address.port())
    }

    /// Where sandboxes answer, and the certificate to trust for it, if the node made it: `None` where it has none.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn sandboxes(&self) -> Option<(String, Option<std::path::PathBuf>)> {
        let door = self.door.as_ref()?;
        Some((self.front.sandboxes.shown(door.port()), door.authority()))
    }

    /// Serves until `shutdown` is ready, then drains. Returns whether everything in flight was finished in time.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> bool {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = self.accept(&self.listener, self.tls.as_ref()) => {}
                () = self.accept_for_sandboxes() => {}
                () = &mut shutdown => break,
            }
        }
        let Self { listener, node, front, tasks, drain, .. } = self;
        drop(listener);
        node.drain();
        front.stopping.cancel();
        tasks.close();
        let finished = tokio::time::timeout(drain, async {
            tasks.wait().await;
            // Upgraded connections live in tasks of their own.
            while node.status().in_flight > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let in_time = finished.await.is_ok();
        if let Err(error) = node.close().await {
            tracing::error!(%error, "not everything could be written down");
        }
        in_time
    }

    #[cfg(target_os = "linux")]
    async fn accept_for_sandboxes(&self) {
        match &self.door {
            Some(door) => self.accept(door.listener(), Some(door.acceptor())).await,
            None => std::future::pending().await,
        }
    }

    #[cfg(not(target_os = "linux"))]
    async fn accept_for_sandboxes(&self) {
        std::future::pending().await
    }

    async fn accept(&self, listener: &TcpListener, tls: Option<&TlsAcceptor>) {
        let Ok(place) = Arc::clone(&self.connections).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Mostly a lack of file descriptors, which passes; without a pause this would spin.
                tracing::warn!(%error, "a connection could not be accepted");
                return tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let (front, tls) = (Arc::clone(&self.front), tls.cloned());
        self.tasks.spawn(async move {
            let _place = place;
            front.connection(stream, peer, tls).await;
        });
    }
}

impl Front {
    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        match tls {
            None => self.speak(stream, peer, "http").await,
            Some(tls) => {
                let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await;
                if let Ok(Ok(stream)) = shaken {
                    self.speak(stream, peer, "https").await;
                }
            }
        }
    }

    async fn speak<S>(self: Arc<Self>, stream: S, peer: SocketAddr, scheme: &'static str)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let front = Arc::clone(&self);
        let service = service_fn(move |request| Arc::clone(&front).answer(request, peer, scheme));
        let connection = self.http.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection ended with an error");
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        scheme: &'static str,
    ) -> Result<Response<HttpBody>, Infallible> {
        #[cfg(target_os = "linux")]
        let request = match self.sandboxes.take(request, peer, scheme).await {
            crate::door::Taken::Answered(response) => return Ok(response),
            crate::door::Taken::ForControl(request) => return self.control.clone().oneshot(request.map(HttpBody::new)).await,
            crate::door::Taken::NotOurs(request) => request,
        };
        #[cfg(not(target_os = "linux"))]
        let _ = scheme;
        match self.dispatch.address(&request) {
            Some(Ok(address)) => Ok(Arc::clone(&self.dispatch).serve(address, request, peer).await),
            Some(Err(failure)) => Ok(failure.into_response()),
            None => self.control.clone().oneshot(request.map(HttpBody::new)).await,
        }
    }
}

fn http(config: &Config) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.head_timeout_ms))
        .max_headers(config.headers_max)
        .max_buf_size(config.head_bytes_max.max(8 << 10));
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.streams_max)
        .max_header_list_size(u32::try_from(config.head_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30));
    http
}

pub(crate) fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, BindError> {
    let failed = |error: &dyn std::fmt::Display| BindError::Tls(config.clone(), error.to_string());
    let certs: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(&config.cert).and_then(Iterator::collect).map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|error| failed(&error))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certs, key))
        .map_err(|error| failed(&error))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

/// An address that people can click: listening everywhere is reached here.
fn shown_host(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        ip => ip.to_string(),
    }
}
