//! Outbound HTTP for guests: `wasi:http/outgoing-handler`.
//!
//! A request goes to one of three places: this application itself (`self.alt`, or no host),
//! another component in this process (`<component>.spin.internal`), or the network. Each only
//! if `allowed_outbound_hosts` names it. Connections to the network are pooled for all guests.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types as wit;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks, WasiHttpView};

use crate::allowed_hosts::{SELF_HOST, SERVICE_CHAINING_SUFFIX};
use crate::guest::{Guest, Program};
use crate::http::App;
use crate::networks::BlockedNetworks;

/// How long connecting may take, whatever a guest says.
const CONNECT: Duration = Duration::from_secs(30);
/// How long the rest may take when a guest doesn't say.
const DEFAULT: Duration = Duration::from_secs(600);

/// Adds `wasi:http` to a linker, with one addition: a request with no host is for this application.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let options = wasmtime_wasi_http::p2::bindings::LinkOptions::default();
    wit::add_to_linker::<_, wasmtime_wasi_http::WasiHttp>(linker, &(&options).into(), Guest::http)?;
    linker
        .instance("wasi:http/outgoing-handler@0.2.12")?
        .func_wrap(
            "handle",
            |mut store: StoreContextMut<'_, Guest>,
             (request, options): (
                Resource<HostOutgoingRequest>,
                Option<Resource<RequestOptions>>,
            )| {
                let mut http = store.data_mut().http();
                if let Ok(request) = http.table.get_mut(&request)
                    && has_no_host(request.authority.as_deref())
                {
                    request.authority = Some(SELF_HOST.to_owned());
                    request.scheme = Some(wit::Scheme::Http);
                }
                let sent: Result<Resource<HostFutureIncomingResponse>, wit::ErrorCode> =
                    match http.handle(request, options) {
                        Ok(response) => Ok(response),
                        Err(error) => Err(error.downcast()?),
                    };
                Ok((sent,))
            },
        )
}

/// spin-sdk writes the authority of a relative URI as a port alone, such as `:80`.
fn has_no_host(authority: Option<&str>) -> bool {
    authority.is_none_or(|authority| authority.is_empty() || authority.starts_with(':'))
}

/// The client that all guests share.
pub type Network = Client<Connector, WasiBody>;

/// A client that reaches no address in `blocked`.
pub fn network(blocked: BlockedNetworks) -> Network {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(16)
        .build(Connector::new(blocked))
}

/// The hooks of one instance.
pub struct OutboundHttp {
    program: Arc<Program>,
}

impl OutboundHttp {
    /// Hooks for an instance of `program`.
    pub fn new(program: Arc<Program>) -> Self {
        Self { program }
    }
}

type Sent = (
    Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl WasiHttpHooks for OutboundHttp {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let program = Arc::clone(&self.program);
        Box::new(async move {
            let response = send(&program, request, options.unwrap_or_default()).await?;
            let done: Box<dyn Future<Output = Result<(), Error>> + Send> =
                Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }
}

async fn send(
    program: &Arc<Program>,
    mut request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Response<WasiBody>, Error> {
    let uri = request.uri().clone();
    let host = uri.host().unwrap_or_default().to_owned();
    let scheme = uri.scheme_str().unwrap_or("https").to_owned();
    let connect = options.connect_timeout.unwrap_or(CONNECT).min(CONNECT);
    let first = options.first_byte_timeout.unwrap_or(DEFAULT);
    let between = options.between_bytes_timeout.unwrap_or(DEFAULT);

    let denied = |what: &str| {
        tracing::warn!(
            component = program.id,
            "refused a request to {what}: not in allowed_outbound_hosts"
        );
        Error::HttpRequestDenied
    };
    let answer: Pin<Box<dyn Future<Output = Result<Response<WasiBody>, Error>> + Send>> =
        if host == SELF_HOST {
            if !program.hosts.allows_self() {
                return Err(denied("this application"));
            }
            let address = program.shared.address;
            address_to(&mut request, address)?;
            let app = this_app(program)?;
            Box::pin(async move { Ok(app.answer(request, address).await) })
        } else if let Some(component) = host.strip_suffix(SERVICE_CHAINING_SUFFIX) {
            if !program.hosts.allows_chaining(component) {
                return Err(denied(&host));
            }
            let component = component.to_owned();
            let app = this_app(program)?;
            request.headers_mut().remove(header::HOST);
            Box::pin(async move {
                app.chain(&component, request)
                    .await
                    .ok_or(Error::DestinationNotFound)
            })
        } else {
            let port = uri.port_u16();
            if !program.hosts.allows(&scheme, &host, port) {
                return Err(denied(&format!("{scheme}://{host}")));
            }
            let client = if program.hosts.names(&scheme, &host, port) {
                program.shared.network_of_named.clone()
            } else {
                program.shared.network.clone()
            };
            Box::pin(async move { through(&client, request).await })
        };
    let response = tokio::time::timeout(connect.saturating_add(first), answer)
        .await
        .map_err(|_| Error::ConnectionReadTimeout)??;
    Ok(response.map(|body| {
        Timed {
            body: Some(body),
            sleep: None,
            between,
        }
        .boxed_unsync()
    }))
}

/// The application as a server. A call to it stays in this process, and so is answered also while
/// the host stops and its instances finish their work.
fn this_app(program: &Program) -> Result<Arc<App>, Error> {
    program
        .shared
        .app
        .get()
        .and_then(Weak::upgrade)
        .ok_or(Error::DestinationUnavailable)
}

/// Gives a request the application's own address.
fn address_to(request: &mut Request<WasiBody>, address: SocketAddr) -> Result<(), Error> {
    let authority: Authority = address
        .to_string()
        .parse()
        .map_err(|_| Error::HttpRequestUriInvalid)?;
    let host =
        HeaderValue::from_str(authority.as_str()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Error::HttpRequestUriInvalid)?;
    request.headers_mut().insert(header::HOST, host);
    Ok(())
}

async fn through(
    client: &Network,
    request: Request<WasiBody>,
) -> Result<Response<WasiBody>, Error> {
    let response = client.request(request).await.map_err(|error| {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = source {
            if let Some(failure) = error.downcast_ref::<ConnectFailure>() {
                return failure.into();
            }
            source = error.source();
        }
        tracing::debug!("outbound request failed: {error}");
        if error.is_connect() {
            Error::ConnectionRefused
        } else {
            Error::HttpProtocolError
        }
    })?;
    Ok(response.map(|body| body.map_err(Error::from).boxed_unsync()))
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailure {
    /// The name doesn't resolve.
    #[error("the name doesn't resolve: {0}")]
    Name(std::io::Error),
    /// Every address of the name is in a blocked network.
    #[error("every address of the name is in a blocked network")]
    Blocked,
    /// No address answered in time.
    #[error("no answer in {CONNECT:?}")]
    Timeout,
    /// No address took the connection.
    #[error("refused: {0}")]
    Refused(std::io::Error),
    /// TLS could not be agreed on.
    #[error("TLS: {0}")]
    Tls(std::io::Error),
}

impl From<&ConnectFailure> for Error {
    fn from(failure: &ConnectFailure) -> Self {
        tracing::debug!("outbound connection failed: {failure}");
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

/// Makes connections: resolves, leaves out blocked addresses, connects, and starts TLS for https.
#[derive(Clone, Debug)]
pub struct Connector {
    blocked: Arc<BlockedNetworks>,
    tls: Arc<ClientConfig>,
}

impl Connector {
    fn new(blocked: BlockedNetworks) -> Self {
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
pub struct Stream(Box<dyn Io>);

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

/// A response's body that ends in an error when nothing comes for too long.
struct Timed {
    body: Option<WasiBody>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    between: Duration,
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            self.sleep = None;
            return Poll::Ready(frame);
        }
        let between = self.between;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(between)));
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.body = None;
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
