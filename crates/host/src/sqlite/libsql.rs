//! A database on a libSQL server. Statements are sent over HTTP by `platform::hrana`, as in the components that are
//! built for such a server.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use platform::clock::SystemClock;
use platform::hrana::{Found, HranaDatabase};
use platform::http_client::Limits;
use platform::{DatabaseError, HttpClient, HttpError, Value};
use tokio::runtime::Handle;

use crate::outbound_http::connector::Connector;
use crate::outbound_networking::blocked_networks::BlockedNetworks;
use crate::runtime_config::Libsql;

/// A libSQL server.
pub(crate) struct Server {
    database: HranaDatabase<Network, SystemClock>,
    runtime: Handle,
}

impl Server {
    /// Makes the adapter, within a tokio runtime. Nothing is sent before the first statement.
    pub(crate) fn new(at: &Libsql) -> Result<Self, DatabaseError> {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // The operator named the server, so no network is blocked for it.
            .build(Connector::new(BlockedNetworks::default()));
        let token = Some(at.token.as_str());
        Ok(Self {
            database: HranaDatabase::new(Network(client), SystemClock, &at.url, token)?,
            runtime: Handle::current(),
        })
    }

    /// Runs a statement, on a thread that may block, because the adapter's pauses block.
    pub(crate) async fn query(
        self: Arc<Self>,
        sql: String,
        parameters: Vec<Value>,
    ) -> Result<Found, DatabaseError> {
        let runtime = self.runtime.clone();
        let work = self
            .runtime
            .clone()
            .spawn_blocking(move || runtime.block_on(self.database.query(&sql, parameters)));
        let lost = |error: tokio::task::JoinError| DatabaseError::NoAnswer(error.to_string());
        work.await.map_err(lost)?
    }
}

/// The client of the network, for the server alone.
struct Network(Client<Connector, Full<Bytes>>);

#[async_trait(?Send)]
impl HttpClient for Network {
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        limits: Limits,
    ) -> Result<http::Response<Vec<u8>>, HttpError> {
        let exchange = self.exchange(request, limits.max_bytes);
        let late = |_| HttpError::NoAnswer(format!("no answer within {:?}", limits.timeout));
        let answer = tokio::time::timeout(limits.timeout, exchange).await;
        answer.map_err(late)?
    }
}

impl Network {
    async fn exchange(
        &self,
        request: http::Request<Vec<u8>>,
        max_bytes: usize,
    ) -> Result<http::Response<Vec<u8>>, HttpError> {
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let sent = self.0.request(request).await;
        let (head, body) = sent
            .map_err(|error| {
                let words = error.to_string();
                if error.is_connect() {
                    HttpError::NotSent(words)
                } else {
                    HttpError::NoAnswer(words)
                }
            })?
            .into_parts();
        let body = Limited::new(body, max_bytes).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => HttpError::TooLarge,
            None => HttpError::NoAnswer(error.to_string()),
        })?;
        Ok(http::Response::from_parts(head, body.to_bytes().into()))
    }
}
