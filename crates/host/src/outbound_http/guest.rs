//! The calls that a guest makes: `wasi:http/outgoing-handler`.
//!
//! A request goes to this application itself (`self.alt`, or no host) or to the network, and to either only if
//! `allowed_outbound_hosts` allows it.

use std::error::Error as StdError;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::BodyExt;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types as wit;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks, WasiHttpView};

use super::body::Timed;
use super::connector::{CONNECT, ConnectFailure};
use super::shared::{Destinations, NetworkClient};
use crate::outbound_networking::allowed_hosts::{AllowedHosts, SELF_HOST, is_chaining};

/// The time until the first byte, and between two pieces, if a guest sets no limit.
const DEFAULT: Duration = Duration::from_secs(600);

/// The hosts that one component may call.
pub(crate) struct Grant {
    /// The component's id.
    pub(crate) component: String,
    /// The component's `allowed_outbound_hosts`.
    pub(crate) hosts: Arc<AllowedHosts>,
    /// The places that requests go to.
    pub(crate) destinations: Arc<Destinations>,
}

/// The calls of one instance.
pub(crate) struct Calls {
    grant: Arc<Grant>,
}

impl Calls {
    /// The calls of a new instance.
    pub(crate) fn new(grant: &Arc<Grant>) -> Self {
        Self {
            grant: Arc::clone(grant),
        }
    }
}

/// Adds `wasi:http` to a linker, with one addition: a request without a host goes to this application.
pub(crate) fn add_to_linker<T: WasiHttpView + 'static>(
    linker: &mut Linker<T>,
) -> wasmtime::Result<()> {
    let options = wasmtime_wasi_http::p2::bindings::LinkOptions::default();
    wit::add_to_linker::<_, wasmtime_wasi_http::WasiHttp>(linker, &(&options).into(), T::http)?;
    linker
        .instance("wasi:http/outgoing-handler@0.2.12")?
        .func_wrap(
            "handle",
            |mut store: StoreContextMut<'_, T>,
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

/// Returns whether a request has no host. spin-sdk writes the authority of a relative URI as a port alone, such as `:80`.
fn has_no_host(authority: Option<&str>) -> bool {
    authority.is_none_or(|authority| authority.is_empty() || authority.starts_with(':'))
}

type Sent = (
    Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl WasiHttpHooks for Calls {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let grant = Arc::clone(&self.grant);
        Box::new(async move {
            let response = send(&grant, request, options.unwrap_or_default()).await?;
            let done: Box<dyn Future<Output = Result<(), Error>> + Send> =
                Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }
}

async fn send(
    grant: &Grant,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Response<WasiBody>, Error> {
    let connect = options.connect_timeout.unwrap_or(CONNECT).min(CONNECT);
    let first = options.first_byte_timeout.unwrap_or(DEFAULT);
    let between = options.between_bytes_timeout.unwrap_or(DEFAULT);
    let response = tokio::time::timeout(connect.saturating_add(first), answer(grant, request)?)
        .await
        .map_err(|_| Error::ConnectionReadTimeout)??;
    Ok(response.map(|body| Timed::new(body, between).boxed_unsync()))
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<WasiBody>, Error>> + Send>>;

/// Sends a request to this application or to the network, or refuses it.
fn answer(grant: &Grant, mut request: Request<WasiBody>) -> Result<Answer, Error> {
    let denied = |what: &str| {
        tracing::warn!(
            component = grant.component,
            "refused a request to {what}: not in allowed_outbound_hosts"
        );
        Error::HttpRequestDenied
    };
    let uri = request.uri();
    let host = uri.host().unwrap_or_default();
    let (scheme, port) = (uri.scheme_str().unwrap_or("https"), uri.port_u16());
    let destinations = &grant.destinations;
    if host == SELF_HOST {
        if !grant.hosts.allows_self() {
            return Err(denied("this application"));
        }
        let address = destinations.address;
        address_to(&mut request, address)?;
        let application = destinations.application();
        let application = application.ok_or(Error::DestinationUnavailable)?;
        return Ok(Box::pin(async move {
            Ok(application.answer_own(request, address).await)
        }));
    }
    // A wildcard allows the hosts of the network, and the name of a component is not one of them.
    if is_chaining(host) || !grant.hosts.allows(scheme, host, port) {
        return Err(denied(&format!("{scheme}://{host}")));
    }
    if let Some(hourly) = &destinations.count {
        hourly.count(std::time::Instant::now());
    }
    let client = if grant.hosts.names(scheme, host, port) {
        destinations.named.clone()
    } else {
        destinations.any.clone()
    };
    Ok(Box::pin(async move { through(&client, request).await }))
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
    client: &NetworkClient,
    request: Request<WasiBody>,
) -> Result<Response<WasiBody>, Error> {
    let response = client.request(request).await.map_err(|error| {
        let mut source: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(error) = source {
            if let Some(failure) = error.downcast_ref::<ConnectFailure>() {
                return failure.into();
            }
            source = error.source();
        }
        tracing::debug!("a component's request failed: {error}");
        if error.is_connect() {
            Error::ConnectionRefused
        } else {
            Error::HttpProtocolError
        }
    })?;
    Ok(response.map(|body| body.map_err(Error::from).boxed_unsync()))
}
