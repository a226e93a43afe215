//! Connects to the network: resolves names, leaves out blocked addresses, connects, and starts TLS for https.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use wasmtime_wasi_http::Error;

use crate::outbound_networking::blocked_networks::BlockedNetworks;

/// The time that connecting may take, even if a guest sets more.
pub(crate) const CONNECT: Duration = Duration::from_secs(30);

/// The reason why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectFailure {
    /// The name does not resolve.
    #[error("the name does not resolve: {0}")]
    Name(std::io::Error),
    /// The addresses of the name are all in blocked networks.
    #[error("every address of the name is in a blocked network")]
    Blocked,
    /// The addresses did not answer in time.
    #[error("no answer in {CONNECT:?}")]
    Timeout,
    /// The addresses all refused the connection.
    #[error("refused: {0}")]
    Refused(std::io::Error),
    /// The two sides did not agree on TLS.
    #[error("TLS: {0}")]
    Tls(std::io::Error),
}

impl From<&ConnectFailure> for Error {
    fn from(failure: &ConnectFailure) -> Self {
        tracing::debug!("a component could not connect: {failure}");
        match failure {
            ConnectFailure::Name(error) => Error::DnsError {
                rcode: Some(error.to_string()),
                info_code: None,
            },
            ConnectFailure::Blocked => Error::DestinationIpProhibited,
            ConnectFailure::Timeout => Error::ConnectionTimeout,
            ConnectFailure::Refused(_) => Error::ConnectionRefused,
            ConnectFailure::Tls(_) => Error::TlsProtocolError,
        }
    }
}

/// Makes connections for the client of all guests.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    blocked: Arc<BlockedNetworks>,
    tls: Arc<ClientConfig>,
}

impl Connector {
    /// A connector that reaches no address in `blocked`.
    pub(crate) fn new(blocked: BlockedNetworks) -> Self {
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            blocked: Arc::new(blocked),
            tls: Arc::new(tls),
        }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<Stream>, ConnectFailure> {
        let https = uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri
            .host()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), port))
            .await
            .map_err(ConnectFailure::Name)?
            .filter(|address| !self.blocked.blocks(address.ip()))
            .collect();
        if addresses.is_empty() {
            return Err(ConnectFailure::Blocked);
        }
        let stream = TcpStream::connect(addresses.as_slice())
            .await
            .map_err(ConnectFailure::Refused)?;
        stream.set_nodelay(true).map_err(ConnectFailure::Refused)?;
        let stream: Box<dyn Io> = if https {
            let name = ServerName::try_from(host)
                .map_err(|e| ConnectFailure::Tls(std::io::Error::other(e)))?;
            let stream = TlsConnector::from(self.tls)
                .connect(name, stream)
                .await
                .map_err(ConnectFailure::Tls)?;
            Box::new(stream)
        } else {
            Box::new(stream)
        };
        Ok(TokioIo::new(Stream(stream)))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connect = self.clone().connect(uri);
        Box::pin(async move {
            tokio::time::timeout(CONNECT, connect)
                .await
                .unwrap_or(Err(ConnectFailure::Timeout))
        })
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, with or without TLS.
pub(crate) struct Stream(Box<dyn Io>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
